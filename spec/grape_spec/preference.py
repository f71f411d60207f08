"""Preference losses are functions Φ of a margin; here are the margins, without and with a reference.

Y. Tang et al., Generalized Preference Optimization, arXiv:2402.05749, have one frame for DPO, IPO and the hinge: a
convex Φ that falls at 0. The functions are in `preference_functions` and `dpo`. What is cited was not compared with its
text.
"""

from sympy import Lambda, Min, Rational, exp, log

from grape_spec.dpo import (
    beta,
    chosen_length,
    chosen_logp,
    log_ratio_margin,
    loss,
    m,
    o,
    optimal_policy,
    ref,
    ref_chosen_logp,
    ref_rejected_logp,
    rejected_length,
    rejected_logp,
    reward,
    sigmoid,
    w,
)
from grape_spec.dpo import margin as dpo_margin
from grape_spec.kl import n, y
from grape_spec.language import (
    At,
    Diff,
    Positive,
    Real,
    Smooth,
    Source,
    claim,
    define,
    equals,
    family,
    function,
    greater,
    holds,
    less,
    symbol,
    wrong,
)
from grape_spec.proof.rules import algebra, fact, finite_sum, smt

TANG = Source("tang2024generalized")
MENG = Source("meng2024reference")
XU = Source("xu2024contrastive")
PARK = Source("park2024disentangling")
LIU = Source("liu2024length")

target_margin = symbol("target_margin", Real, "what is subtracted from a margin: the target of SimPO", tex=r"\gamma")
length_penalty = symbol("length_penalty", Real, "price of a token, in units of the reward", tex=r"\alpha")
common = symbol("common_logp", Real, "what is added to both log-probabilities of a pair", tex="c")
per_token = symbol("token_log_ratio", Real, "log-ratio of each token to the reference", tex="x")
phi = function("phi", Smooth, "a smooth loss of the margin", tex=r"\Phi")

# Margins.

margin = define(
    "preference.margin",
    "Margin of a pair: β times the difference of the log-ratios to the reference, each divided by a length, minus a "
    "target. The lengths are 1 for sums over tokens and the numbers of tokens for means.",
    (
        chosen_logp,
        rejected_logp,
        ref_chosen_logp,
        ref_rejected_logp,
        chosen_length,
        rejected_length,
        beta,
        target_margin,
    ),
    beta * log_ratio_margin() - target_margin,
    tex=r"m_{{\gamma}}",
)

simpo_margin = define(
    "preference.simpo_margin",
    "Margin of SimPO: mean log-probabilities of the tokens, no reference, and a target γ in units of the margin.",
    (chosen_logp, rejected_logp, chosen_length, rejected_length, beta, target_margin),
    beta * (chosen_logp / chosen_length - rejected_logp / rejected_length) - target_margin,
    tex=r"m_{{\mathrm{{SimPO}}}}",
    source=MENG,
)

cpo_margin = define(
    "preference.cpo_margin",
    "Margin of CPO: that of DPO without the reference.",
    (chosen_logp, rejected_logp, beta),
    beta * (chosen_logp - rejected_logp),
    tex=r"m_{{\mathrm{{CPO}}}}",
    source=XU,
)

r_dpo_margin = define(
    "preference.r_dpo_margin",
    "Margin of R-DPO: that of DPO plus α times the difference of the numbers of tokens.",
    (
        chosen_logp,
        rejected_logp,
        ref_chosen_logp,
        ref_rejected_logp,
        chosen_length,
        rejected_length,
        beta,
        length_penalty,
    ),
    dpo_margin() + length_penalty * (chosen_length - rejected_length),
    tex=r"m_{{\mathrm{{R}}}}",
    source=PARK,
)

by_sum = margin(chosen_length=1, rejected_length=1)

claim(
    "preference.margins",
    "The margins of DPO, CPO, SimPO and R-DPO are one margin: with lengths of 1 or the numbers of tokens, with or "
    "without a reference, and for R-DPO with a reference that loses α/β nats per token.",
    holds(equals(by_sum, dpo_margin() - target_margin), name="DPO, with a target", by=algebra()),
    holds(
        equals(
            margin(ref_chosen_logp=0, ref_rejected_logp=0, chosen_length=1, rejected_length=1, target_margin=0),
            cpo_margin(),
        ),
        name="CPO",
        by=algebra(),
    ),
    holds(equals(margin(ref_chosen_logp=0, ref_rejected_logp=0), simpo_margin()), name="SimPO", by=algebra()),
    holds(
        equals(
            dpo_margin(
                ref_chosen_logp=ref_chosen_logp - length_penalty / beta * chosen_length,
                ref_rejected_logp=ref_rejected_logp - length_penalty / beta * rejected_length,
            ),
            r_dpo_margin(),
        ),
        name="R-DPO",
        by=algebra(),
    ),
    wrong=[
        wrong("SimPO with the reference left in", equals(margin(), simpo_margin())),
        wrong("the target inside β", equals(beta * (log_ratio_margin() - target_margin), margin())),
        wrong(
            "R-DPO with a reference that gains α/β nats per token",
            equals(
                dpo_margin(
                    ref_chosen_logp=ref_chosen_logp + length_penalty / beta * chosen_length,
                    ref_rejected_logp=ref_rejected_logp + length_penalty / beta * rejected_length,
                ),
                r_dpo_margin(),
            ),
        ),
    ],
)

claim(
    "preference.margin.chosen",
    "The margin rises with the log-probability of the preferred response, by β over its length; neither the reference "
    "nor the target changes that.",
    holds(equals(Diff(margin(), chosen_logp), beta / chosen_length), by=algebra()),
    wrong=[
        wrong("without β", equals(Diff(margin(), chosen_logp), 1 / chosen_length)),
        wrong("the length of the other response", equals(Diff(margin(), chosen_logp), beta / rejected_length)),
    ],
)

claim(
    "preference.margin.rejected",
    "The margin falls with the log-probability of the rejected response, by β over its length.",
    holds(equals(Diff(margin(), rejected_logp), -beta / rejected_length), by=algebra()),
    wrong=[
        wrong("it rises, too", equals(Diff(margin(), rejected_logp), beta / rejected_length)),
        wrong("the length of the other response", equals(Diff(margin(), rejected_logp), -beta / chosen_length)),
    ],
)

phi_slope = At(Diff(phi(m), m), m, margin())
moved = {"chosen_logp": chosen_logp + common, "rejected_logp": rejected_logp + common}

claim(
    "preference.gradient",
    "Whatever Φ is, both log-probabilities get the slope of Φ at the margin, times β over the length of the response "
    "and with opposite signs. For sums over tokens the two slopes cancel.",
    holds(equals(Diff(phi(margin()), chosen_logp), beta / chosen_length * phi_slope), name="chosen", by=algebra()),
    holds(
        equals(Diff(phi(margin()), rejected_logp), -beta / rejected_length * phi_slope), name="rejected", by=algebra()
    ),
    holds(
        equals(Diff(phi(by_sum), chosen_logp) + Diff(phi(by_sum), rejected_logp), 0),
        name="sums: opposite slopes",
        by=algebra(),
    ),
    source=TANG,
    wrong=[
        wrong(
            "means: opposite slopes, too",
            equals(Diff(phi(margin()), chosen_logp) + Diff(phi(margin()), rejected_logp), 0),
        ),
        wrong("without β", equals(Diff(phi(margin()), chosen_logp), phi_slope / chosen_length)),
    ],
)

claim(
    "preference.common_shift",
    "For sums over tokens, and for means over equally many tokens, a factor on the probabilities of both responses "
    "changes nothing, for any Φ: both may fall while the loss falls. Nor does a factor on both of the reference's.",
    holds(equals(margin(chosen_length=1, rejected_length=1, **moved), by_sum), name="sums", by=algebra()),
    holds(
        equals(margin(rejected_length=chosen_length, **moved), margin(rejected_length=chosen_length)),
        name="means over equally many tokens",
        by=algebra(),
    ),
    holds(
        equals(
            margin(
                ref_chosen_logp=ref_chosen_logp + common,
                ref_rejected_logp=ref_rejected_logp + common,
                rejected_length=chosen_length,
            ),
            margin(rejected_length=chosen_length),
        ),
        name="reference",
        by=algebra(),
    ),
    holds(
        equals(margin(**moved), margin() + beta * common * (1 / chosen_length - 1 / rejected_length)),
        name="means over different numbers of tokens",
        by=algebra(),
    ),
    source=TANG,
    wrong=[
        wrong("means over different numbers of tokens, too", equals(margin(**moved), margin())),
        wrong("a factor on one of them", equals(margin(chosen_logp=chosen_logp + common), margin())),
    ],
)

flat = {
    "chosen_logp": ref_chosen_logp + per_token * chosen_length,
    "rejected_logp": ref_rejected_logp + per_token * rejected_length,
}

claim(
    "preference.average",
    "For responses of n tokens each, means with the strength βn are sums with the strength β. Where every token has "
    "the same log-ratio, the margin by sums is proportional to the difference of the lengths, and that by means is no "
    "margin at all.",
    holds(
        equals(margin(rejected_length=chosen_length, beta=beta * chosen_length), by_sum),
        name="equal lengths",
        by=algebra(),
    ),
    holds(
        equals(dpo_margin(**flat), beta * per_token * (chosen_length - rejected_length)),
        name="equal log-ratios of tokens, by sums",
        by=algebra(),
    ),
    holds(equals(margin(**flat), -target_margin), name="equal log-ratios of tokens, by means", by=algebra()),
    wrong=[
        wrong("with one strength", equals(margin(rejected_length=chosen_length), by_sum)),
        wrong(
            "with βn for different lengths, too",
            equals(margin(beta=beta * chosen_length), dpo_margin() - target_margin),
        ),
        wrong("sums do not see the lengths either", equals(dpo_margin(**flat), 0)),
    ],
)

tokens = family("tokens", Positive, n, text="number of tokens of each response", tex="|y|")
priced = Lambda(y, reward[y] - length_penalty * tokens[y])


def log_ratio_of(response):
    """Log-ratio of the optimum for the reward less α per token to the reference."""
    return log(optimal_policy(response, reward=priced) / ref[response])


claim(
    "preference.r_dpo.sign",
    "If every token costs α of the reward, the difference of the rewards is the margin of the optimal policy plus α "
    "times the difference of the lengths: the penalty enters the margin of R-DPO with a plus.",
    holds(
        equals(
            reward[w] - reward[o],
            beta * (log_ratio_of(w) - log_ratio_of(o)) + length_penalty * (tokens[w] - tokens[o]),
        ),
        by=finite_sum(),
    ),
    source=PARK,
    wrong=[
        wrong(
            "with a minus",
            equals(
                reward[w] - reward[o],
                beta * (log_ratio_of(w) - log_ratio_of(o)) - length_penalty * (tokens[w] - tokens[o]),
            ),
        ),
        wrong(
            "the optimal policy hides the penalty",
            equals(reward[w] - reward[o], beta * (log_ratio_of(w) - log_ratio_of(o))),
        ),
    ],
)

# SimPO.

simpo_loss = define(
    "preference.simpo_loss",
    "Negative log-likelihood that the preferred response wins by the target margin.",
    (chosen_logp, rejected_logp, chosen_length, rejected_length, beta, target_margin),
    loss(simpo_margin()),
    tex=r"L_{{\mathrm{{SimPO}}}}",
    source=MENG,
)

claim(
    "preference.simpo.gradient",
    "A token has the weight β/n times the probability that the pair is ranked wrongly, given the target: it falls with "
    "the length of the response. The two responses as wholes have opposite weights.",
    holds(
        equals(Diff(simpo_loss(), chosen_logp), -beta / chosen_length * sigmoid(-simpo_margin())),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(Diff(simpo_loss(), rejected_logp), beta / rejected_length * sigmoid(-simpo_margin())),
        name="rejected",
        by=algebra(),
    ),
    holds(
        equals(
            chosen_length * Diff(simpo_loss(), chosen_logp) + rejected_length * Diff(simpo_loss(), rejected_logp), 0
        ),
        name="of the means",
        by=algebra(),
    ),
    source=MENG,
    wrong=[
        wrong(
            "sums, as in DPO",
            equals(Diff(simpo_loss(), chosen_logp), -beta * sigmoid(-simpo_margin())),
        ),
        wrong(
            "γ outside the sigmoid",
            equals(Diff(simpo_loss(), chosen_logp), -beta / chosen_length * sigmoid(-simpo_margin(target_margin=0))),
        ),
        wrong(
            "γ in units of a log-probability",
            equals(
                Diff(simpo_loss(), chosen_logp),
                -beta / chosen_length * sigmoid(-simpo_margin(target_margin=beta * target_margin)),
            ),
        ),
    ],
)

with_target = 1 / (1 + exp(m - target_margin))

claim(
    "preference.simpo.target",
    "The target γ is the margin, before γ is subtracted, at which a pair has half of the full weight: it has more "
    "below and less above. No margin has weight 0, so the target is not where training stops.",
    holds(equals(Diff(loss(m - target_margin), m), -with_target), name="weight", by=algebra()),
    holds(equals(sigmoid(target_margin - target_margin), Rational(1, 2)), name="at the target", by=algebra()),
    holds(
        greater(with_target, Rational(1, 2)),
        name="below",
        assuming=[less(m, target_margin)],
        by=smt(given=[fact("kl.log_bound", part="bound", x=1 / exp(m - target_margin))]),
    ),
    holds(
        less(with_target, Rational(1, 2)),
        name="above",
        assuming=[greater(m, target_margin)],
        by=smt(given=[fact("kl.log_bound", part="bound", x=exp(m - target_margin))]),
    ),
    holds(greater(with_target, 0), name="everywhere", by=smt()),
    source=MENG,
    wrong=[
        wrong("the weight is a half at a margin of 0", equals(sigmoid(target_margin), Rational(1, 2))),
        wrong(
            "a pair that is ranked correctly has less than half",
            less(with_target, Rational(1, 2)),
            assuming=[greater(m, 0)],
        ),
        wrong(
            "the loss stops at the target, as IPO does", equals(with_target, 0), assuming=[greater(m, target_margin)]
        ),
    ],
)

# LD-DPO: the tokens beyond the length of the shorter response count less.

tail_weight = symbol(
    "tail_weight", Real, "weight of the tokens beyond the length of the shorter response", tex=r"\alpha_{\mathrm{LD}}"
)
chosen_head = symbol("chosen_head", Real, "log-ratio of the preferred response up to the shorter length", tex="x_w")
chosen_tail = symbol("chosen_tail", Real, "log-ratio of the rest of the preferred response", tex="x'_w")
rejected_head = symbol("rejected_head", Real, "log-ratio of the rejected response up to the shorter length", tex="x_l")
rejected_tail = symbol("rejected_tail", Real, "log-ratio of the rest of the rejected response", tex="x'_l")

ld_margin = define(
    "preference.ld_dpo_margin",
    "Margin of LD-DPO: each response has the log-ratio of its first tokens, as many as the shorter response has, plus "
    "α times that of the rest.",
    (chosen_head, chosen_tail, rejected_head, rejected_tail, beta, tail_weight),
    beta * ((chosen_head + tail_weight * chosen_tail) - (rejected_head + tail_weight * rejected_tail)),
    tex=r"m_{{\mathrm{{LD}}}}",
    source=LIU,
)

whole = dpo_margin(ref_chosen_logp + chosen_head + chosen_tail, ref_rejected_logp + rejected_head + rejected_tail)
common_part = dpo_margin(ref_chosen_logp + chosen_head, ref_rejected_logp + rejected_head)
shorter = Min(chosen_length, rejected_length)
even = ld_margin(
    per_token * shorter,
    per_token * (chosen_length - shorter),
    per_token * shorter,
    per_token * (rejected_length - shorter),
)

claim(
    "preference.ld_dpo",
    "With α = 1 LD-DPO is DPO, with α = 0 it is DPO of responses that are cut off at the length of the shorter one; "
    "its margin is the mixture of the two. A token beyond that length has α times the weight of one before it. Where "
    "all tokens have one log-ratio, the margin is α times that of DPO.",
    holds(equals(ld_margin(tail_weight=1), whole), name="α = 1", by=algebra()),
    holds(equals(ld_margin(tail_weight=0), common_part), name="α = 0", by=algebra()),
    holds(equals(ld_margin(), tail_weight * whole + (1 - tail_weight) * common_part), name="mixture", by=algebra()),
    holds(
        equals(Diff(loss(ld_margin()), chosen_head), -beta * sigmoid(-ld_margin())), name="a first token", by=algebra()
    ),
    holds(
        equals(Diff(loss(ld_margin()), chosen_tail), tail_weight * Diff(loss(ld_margin()), chosen_head)),
        name="a later token",
        by=algebra(),
    ),
    holds(
        equals(even, tail_weight * beta * per_token * (chosen_length - rejected_length)),
        name="equal log-ratios of tokens",
        by=algebra(),
    ),
    source=LIU,
    wrong=[
        wrong("α = 0 is DPO", equals(ld_margin(tail_weight=0), whole)),
        wrong(
            "the tail has the weight of the rest",
            equals(Diff(ld_margin(), chosen_tail), Diff(ld_margin(), chosen_head)),
        ),
        wrong(
            "α on the first tokens",
            equals(ld_margin(), tail_weight * common_part + (1 - tail_weight) * whole),
        ),
        wrong("α = 0 takes means", equals(ld_margin(tail_weight=0), margin(target_margin=0))),
    ],
)

# CPO: the likelihood of the preferred response is part of the loss.

nll_weight = symbol("nll_weight", Positive, "weight of the likelihood of the preferred response", tex=r"\lambda")

cpo_loss = define(
    "preference.cpo_loss",
    "Loss of CPO's margin, plus λ times the negative log-probability of the preferred response over a length: 1 for "
    "the sum over its tokens, the number of tokens for the mean.",
    (chosen_logp, rejected_logp, chosen_length, beta, nll_weight),
    loss(cpo_margin()) - nll_weight * chosen_logp / chosen_length,
    tex=r"L_{{\mathrm{{CPO}}}}",
    source=XU,
)

claim(
    "preference.cpo.gradient",
    "CPO's likelihood adds its own slope to that of the preferred response and nothing to that of the rejected one. So "
    "the two are not opposite: the loss rises where both responses fall together.",
    holds(
        equals(Diff(cpo_loss(), chosen_logp), -beta * sigmoid(-cpo_margin()) - nll_weight / chosen_length),
        name="chosen",
        by=algebra(),
    ),
    holds(equals(Diff(cpo_loss(), rejected_logp), beta * sigmoid(-cpo_margin())), name="rejected", by=algebra()),
    holds(
        equals(Diff(cpo_loss(), chosen_logp) + Diff(cpo_loss(), rejected_logp), -nll_weight / chosen_length),
        name="of both together",
        by=algebra(),
    ),
    source=XU,
    wrong=[
        wrong(
            "the likelihood inside the sigmoid",
            equals(
                Diff(cpo_loss(), chosen_logp),
                -(beta + nll_weight / chosen_length) * sigmoid(-cpo_margin()),
            ),
        ),
        wrong("no likelihood", equals(Diff(cpo_loss(), chosen_logp), -beta * sigmoid(-cpo_margin()))),
        wrong(
            "the likelihood of both responses",
            equals(Diff(cpo_loss(), rejected_logp), beta * sigmoid(-cpo_margin()) - nll_weight / chosen_length),
        ),
        wrong(
            "only the margin matters, as in DPO",
            equals(Diff(cpo_loss(), chosen_logp) + Diff(cpo_loss(), rejected_logp), 0),
        ),
    ],
)

"""Direct preference optimisation: the policy implied by a reward, and the loss that follows from it.

R. Rafailov et al., Direct Preference Optimization, arXiv:2305.18290. The responses to one prompt form a finite set, and
every policy gives each of them a positive probability.
"""

from fractions import Fraction

from sympy import Lambda, Rational, exp, log

from grape_spec.kl import divergence, n, squared_distance, y
from grape_spec.language import (
    At,
    Diff,
    Open,
    Positive,
    Real,
    Simplex,
    Smooth,
    Source,
    at_least,
    at_most,
    claim,
    define,
    delta,
    differs,
    equals,
    family,
    function,
    greater,
    holds,
    index,
    less,
    substitute,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.domains import Interval
from grape_spec.policy import theta
from grape_spec.proof.rules import algebra, fact, finite_sum, smt

RAFAILOV = Source("rafailov2023direct")
MITCHELL = Source("mitchell2023note")
CHOWDHURY = Source("chowdhury2024provably")
AZAR = Source("azar2024general")

pi = family("pi", Simplex, n, text="a policy over the responses to one prompt", tex=r"\pi")
ref = family("ref", Simplex, n, text="the reference policy", tex=r"\pi_{\mathrm{ref}}")
reward = family("reward", Real, n, text="reward of each response", tex="r")
beta = symbol("beta", Positive, "strength of the KL regularisation", tex=r"\beta")
w = index("w", n, "the preferred response")
o = index("o", n, "the rejected response", tex="l")

# The optimum of the KL-regularised reward.

objective = define(
    "dpo.objective",
    "Expected reward minus β times the divergence from the reference.",
    (pi, ref, reward, beta),
    sum_over(pi[y] * reward[y], y) - beta * divergence(pi, ref),
    tex=r"J({pi})",
    source=RAFAILOV.eq(3),
)

partition = define(
    "dpo.partition",
    "The constant that normalises the optimal policy.",
    (ref, reward, beta),
    sum_over(ref[y] * exp(reward[y] / beta), y),
    tex="Z",
    domain=Positive,
    source=RAFAILOV.eq(4),
)

optimal_policy = define(
    "dpo.optimal_policy",
    "The reference, reweighted by the exponentiated reward.",
    (y, ref, reward, beta),
    ref[y] * exp(reward[y] / beta) / partition(),
    tex=r"\pi^*_{{{y}}}",
    domain=Positive,
    source=RAFAILOV.eq(4),
)

optimum = Lambda(y, optimal_policy(y))

claim(
    "dpo.gibbs",
    "For every policy, the objective is its maximum minus β times the divergence from the optimal policy.",
    holds(equals(objective(), beta * log(partition()) - beta * divergence(pi, optimum)), by=finite_sum()),
    wrong=[
        wrong(
            "the divergence the other way round",
            equals(
                objective(),
                beta * log(partition()) - beta * sum_over(optimal_policy(y) * log(optimal_policy(y) / pi[y]), y),
            ),
        ),
        wrong("without the partition", equals(objective(), -beta * divergence(pi, optimum))),
    ],
)

#: Mutants of the bound by the maximum that hold, too.
WEAKER = {
    "right: log(partition) → partition": "true and weaker, as log Z < Z",
    "right: partition → partition + 1": "true and weaker, as the logarithm increases",
    "right: partition → 2*partition": "true and weaker, as the logarithm increases",
}

claim(
    "dpo.kl_optimum",
    "The policy that maximises the expected reward minus β times the divergence from the reference is the reference "
    "reweighted by exp(r/β), and no other policy reaches the maximum.",
    holds(equals(sum_over(optimal_policy(y), y), 1), name="feasible", by=finite_sum()),
    holds(
        equals(At(Diff(objective(), pi[w]), pi, optimum), beta * (log(partition()) - 1)),
        name="stationary: the slope is the same in every direction",
        by=finite_sum(),
    ),
    holds(
        equals(Diff(objective(), pi[w], pi[o]), -beta * delta(w, o) / pi[w]),
        name="curvature",
        by=finite_sum(),
    ),
    holds(less(-beta / pi[w], 0), name="concave", by=smt()),
    holds(
        at_most(objective(), beta * log(partition())),
        name="no policy does better",
        by=smt(given=[fact("dpo.gibbs"), fact("kl.nonnegative", part="bound", p=pi, q=optimum)]),
        equivalent=WEAKER,
    ),
    holds(equals(objective(optimum), beta * log(partition())), name="the maximum is reached", by=finite_sum()),
    holds(
        less(objective(), beta * log(partition())),
        name="by no other policy",
        assuming=[greater(squared_distance(pi, optimum), 0)],
        by=smt(given=[fact("dpo.gibbs"), fact("kl.nonnegative", part="positive if they differ", p=pi, q=optimum)]),
        equivalent=WEAKER,
    ),
    source=RAFAILOV.eq(4),
    wrong=[
        wrong("without the reference", equals(sum_over(exp(reward[y] / beta) / partition(), y), 1)),
        wrong(
            "reweighted by exp(βr)",
            equals(
                At(Diff(objective(), pi[w]), pi, Lambda(y, ref[y] * exp(reward[y] * beta))),
                At(Diff(objective(), pi[o]), pi, Lambda(y, ref[y] * exp(reward[y] * beta))),
            ),
        ),
    ],
)

claim(
    "dpo.reparametrisation",
    "The reward is β times the log-ratio of its optimal policy to the reference, up to a constant that depends on "
    "the prompt alone.",
    holds(
        equals(reward[w], beta * log(optimal_policy(w) / ref[w]) + beta * log(partition())),
        by=finite_sum(),
    ),
    source=RAFAILOV.eq(5),
    wrong=[wrong("without the constant", equals(reward[w], beta * log(optimal_policy(w) / ref[w])))],
)

z = symbol("z", Real, "a real number")

sigmoid = define(
    "dpo.sigmoid",
    "Logistic function.",
    (z,),
    1 / (1 + exp(-z)),
    tex=r"\sigma({z})",
    domain=Positive,
)

implied_reward = define(
    "dpo.implied_reward",
    "The reward for which a policy is optimal.",
    (y, pi, ref, reward, beta),
    beta * log(pi[y] / ref[y]) + beta * log(partition()),
    tex=r"\hat r_{{{y}}}",
    source=RAFAILOV.eq(5),
)

claim(
    "dpo.partition_cancels",
    "When two responses to one prompt are compared, as in the Bradley-Terry model, the constant cancels.",
    holds(
        equals(
            sigmoid(implied_reward(w) - implied_reward(o)),
            sigmoid(beta * log(pi[w] / ref[w]) - beta * log(pi[o] / ref[o])),
        ),
        by=finite_sum(),
    ),
    source=RAFAILOV.eq(6),
    wrong=[
        wrong(
            "it cancels from a single reward, too",
            equals(sigmoid(implied_reward(w)), sigmoid(beta * log(pi[w] / ref[w]))),
        )
    ],
)

offset = symbol("offset", Real, "a function of the prompt alone", tex="f")
shifted_reward = Lambda(y, reward[y] + offset)

claim(
    "dpo.reward_shift",
    "Rewards that differ by a function of the prompt alone have the same optimal policy.",
    holds(equals(optimal_policy(w, reward=shifted_reward), optimal_policy(w)), by=finite_sum()),
    source=RAFAILOV.section(5),
    wrong=[
        wrong(
            "rewards that differ by a factor, too",
            equals(optimal_policy(w, reward=Lambda(y, reward[y] * offset)), optimal_policy(w)),
        )
    ],
)

# The loss of one pair of responses.

chosen_logp = symbol("chosen_logp", Real, "log-probability of the preferred response", tex=r"\ell_w")
chosen = function(
    "chosen", Smooth, "log-probability of the preferred response, as a function of the parameter", tex=r"\ell_w"
)
ref_chosen_logp = symbol(
    "ref_chosen_logp",
    Real,
    "log-probability of the preferred response under the reference",
    tex=r"\ell_w^{\mathrm{ref}}",
)
rejected_logp = symbol("rejected_logp", Real, "log-probability of the rejected response", tex=r"\ell_l")
rejected = function(
    "rejected", Smooth, "log-probability of the rejected response, as a function of the parameter", tex=r"\ell_l"
)
ref_rejected_logp = symbol(
    "ref_rejected_logp",
    Real,
    "log-probability of the rejected response under the reference",
    tex=r"\ell_l^{\mathrm{ref}}",
)
m = symbol("margin", Real, "difference of the implied rewards of the two responses", tex="m")
label_smoothing = symbol(
    "label_smoothing", Open(0, 1), "assumed probability that a label is flipped", tex=r"\varepsilon"
)

margin = define(
    "dpo.margin",
    "Implied reward of the preferred response minus that of the rejected one.",
    (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta),
    beta * ((chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp)),
    tex="m",
    source=RAFAILOV.eq(7),
)

loss = define(
    "dpo.loss",
    "Negative log-likelihood of the preference.",
    (m,),
    -log(sigmoid(m)),
    tex=r"L({margin})",
    source=RAFAILOV.eq(7),
)

smoothed_loss = define(
    "dpo.smoothed_loss",
    "Expected loss when a label is flipped with the assumed probability: conservative DPO.",
    (m, label_smoothing),
    (1 - label_smoothing) * loss(m) + label_smoothing * loss(-m),
    tex=r"L_{{{label_smoothing}}}({margin})",
    source=MITCHELL,
)

pair_margin = margin(chosen(theta), rejected(theta))

claim(
    "dpo.gradient",
    "The loss pushes both log-probabilities with the same weight, the probability that the implied reward ranks the "
    "pair wrongly.",
    holds(
        equals(
            Diff(loss(pair_margin), theta),
            -beta * sigmoid(-pair_margin) * (Diff(chosen(theta), theta) - Diff(rejected(theta), theta)),
        ),
        name="in a parameter",
        by=algebra(),
    ),
    holds(equals(Diff(loss(margin()), chosen_logp), -beta * sigmoid(-margin())), name="chosen", by=algebra()),
    holds(equals(Diff(loss(margin()), rejected_logp), beta * sigmoid(-margin())), name="rejected", by=algebra()),
    source=RAFAILOV.section(4),
    wrong=[
        wrong(
            "weighted by the probability of the correct ranking",
            equals(Diff(loss(margin()), chosen_logp), -beta * sigmoid(margin())),
        ),
        wrong("without β", equals(Diff(loss(margin()), chosen_logp), -sigmoid(-margin()))),
        wrong(
            "β outside the sigmoid",
            equals(Diff(loss(margin()), chosen_logp), -beta * sigmoid(-margin(beta=1))),
        ),
    ],
)

claim(
    "dpo.convex_in_margin",
    "The loss is strictly convex in the margin.",
    holds(equals(Diff(loss(m), m, m), sigmoid(m) * sigmoid(-m)), name="curvature", by=algebra()),
    holds(greater(sigmoid(m) * sigmoid(-m), 0), name="positive", by=smt()),
    wrong=[wrong("the curvature of the squared sigmoid", equals(Diff(loss(m), m, m), sigmoid(m) ** 2))],
)

at_reference = margin(ref_chosen_logp, ref_rejected_logp)

claim(
    "dpo.at_reference",
    "At the reference the loss is log 2, and every pair has half the full weight.",
    holds(equals(loss(at_reference), log(2)), name="value", by=algebra()),
    holds(
        equals(
            At(At(Diff(loss(margin()), chosen_logp), chosen_logp, ref_chosen_logp), rejected_logp, ref_rejected_logp),
            -beta / 2,
        ),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(
            At(At(Diff(loss(margin()), rejected_logp), chosen_logp, ref_chosen_logp), rejected_logp, ref_rejected_logp),
            beta / 2,
        ),
        name="rejected",
        by=algebra(),
    ),
    wrong=[wrong("a loss of one half", equals(loss(at_reference), Rational(1, 2)))],
)

smoothed = smoothed_loss(margin())
best_margin = log((1 - label_smoothing) / label_smoothing)

kept_odds, flipped_odds = sigmoid(m) / (1 - label_smoothing), sigmoid(-m) / label_smoothing
EXCESS = [fact("dpo.label_smoothing", part=part) for part in ("excess", "one of the two rankings")]

claim(
    "dpo.label_smoothing",
    "With label smoothing the loss pulls the margin to log((1 − ε)/ε) and no further: there the loss is smallest, and "
    "the probability of the ranking is 1 − ε.",
    holds(
        equals(Diff(smoothed_loss(m), m), sigmoid(m) - (1 - label_smoothing)),
        name="in the margin",
        by=algebra(),
    ),
    holds(
        equals(Diff(smoothed, chosen_logp), beta * (sigmoid(margin()) - (1 - label_smoothing))),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(Diff(smoothed, rejected_logp), -beta * (sigmoid(margin()) - (1 - label_smoothing))),
        name="rejected",
        by=algebra(),
    ),
    holds(equals(At(Diff(smoothed_loss(m), m), m, best_margin), 0), name="optimal margin", by=algebra()),
    holds(equals(Diff(smoothed_loss(m), m, m), sigmoid(m) * sigmoid(-m)), name="curvature", by=algebra()),
    holds(equals(sigmoid(best_margin), 1 - label_smoothing), name="the ranking there", by=algebra()),
    holds(equals(sigmoid(m) + sigmoid(-m), 1), name="one of the two rankings", by=algebra()),
    holds(
        equals(
            smoothed_loss(m) - smoothed_loss(best_margin),
            -(1 - label_smoothing) * log(kept_odds) - label_smoothing * log(flipped_odds),
        ),
        name="excess",
        by=finite_sum(),
    ),
    holds(
        at_least(smoothed_loss(m) - smoothed_loss(best_margin), 0),
        name="no margin does better",
        by=smt(given=[*EXCESS, *(fact("kl.log_bound", part="bound", x=odds) for odds in (kept_odds, flipped_odds))]),
    ),
    holds(
        greater(smoothed_loss(m) - smoothed_loss(best_margin), 0),
        name="every other margin does worse",
        assuming=[differs(sigmoid(m), 1 - label_smoothing)],
        by=smt(
            given=[
                *EXCESS,
                fact("kl.log_bound", part="strict", x=kept_odds),
                fact("kl.log_bound", part="bound", x=flipped_odds),
            ]
        ),
    ),
    source=MITCHELL,
    wrong=[
        wrong("no optimum, as without smoothing", less(Diff(smoothed_loss(m), m), 0)),
        wrong("the reciprocal", equals(At(Diff(smoothed_loss(m), m), m, -best_margin), 0)),
    ],
)

# Correcting for a known share of flipped labels.

flip_probability = symbol(
    "flip_probability",
    Interval("in [0, 1/2)", Fraction(0), Fraction(1, 2), low_closed=True),
    "known probability that a label is flipped",
    tex=r"\eta",
)

robust_loss = define(
    "dpo.robust_loss",
    "The loss corrected for labels flipped with a known probability: robust DPO.",
    (m, flip_probability),
    ((1 - flip_probability) * loss(m) - flip_probability * loss(-m)) / (1 - 2 * flip_probability),
    tex=r"L_{{\mathrm{{robust}}}}({margin})",
    source=CHOWDHURY,
)

robust = robust_loss(margin())
robust_slope = -sigmoid(-m) - flip_probability / (1 - 2 * flip_probability)
robust_pull = sigmoid(-margin()) + flip_probability / (1 - 2 * flip_probability)

claim(
    "dpo.robust",
    "In expectation over flipped labels, the corrected loss is the DPO loss of the true labels; it pushes the margin "
    "up, however large the margin is.",
    holds(
        equals((1 - flip_probability) * robust_loss(m) + flip_probability * robust_loss(-m), loss(m)),
        name="unbiased",
        by=algebra(),
    ),
    holds(
        equals(robust_loss(m), loss(m) - flip_probability / (1 - 2 * flip_probability) * m),
        name="closed form",
        by=algebra(),
    ),
    holds(equals(Diff(robust_loss(m), m), robust_slope), name="in the margin", by=algebra()),
    holds(equals(Diff(robust, chosen_logp), -beta * robust_pull), name="chosen", by=algebra()),
    holds(equals(Diff(robust, rejected_logp), beta * robust_pull), name="rejected", by=algebra()),
    holds(less(robust_slope, 0), name="falling everywhere", by=smt()),
    holds(equals(Diff(robust_loss(m), m, m), sigmoid(m) * sigmoid(-m)), name="curvature", by=algebra()),
    source=CHOWDHURY,
    wrong=[
        wrong(
            "without the division by 1 − 2ε",
            equals(
                (1 - flip_probability) * ((1 - flip_probability) * loss(m) - flip_probability * loss(-m))
                + flip_probability * ((1 - flip_probability) * loss(-m) - flip_probability * loss(m)),
                loss(m),
            ),
        ),
        wrong(
            "label smoothing is unbiased, too",
            equals((1 - label_smoothing) * smoothed_loss(m) + label_smoothing * smoothed_loss(-m), loss(m)),
        ),
        wrong("the loss is bounded below, as in DPO", at_least(robust_loss(m), 0)),
    ],
)

# The squared loss.

h = symbol("log_ratio_difference", Real, "difference of the log-ratios to the reference of two responses", tex="h")
chosen_length = symbol("chosen_length", Positive, "number of tokens of the preferred response", tex="n_w")
rejected_length = symbol("rejected_length", Positive, "number of tokens of the rejected response", tex="n_l")
preference = symbol("preference", Open(0, 1), "probability that the first response is preferred", tex=r"p")

log_ratio_margin = define(
    "dpo.log_ratio_margin",
    "Log-ratio to the reference of the preferred response minus that of the rejected one, each divided by a length: 1 "
    "for sums over tokens, the number of tokens for means.",
    (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, chosen_length, rejected_length),
    (chosen_logp - ref_chosen_logp) / chosen_length - (rejected_logp - ref_rejected_logp) / rejected_length,
    tex="h",
    source=AZAR.eq(17),
)

ipo_loss = define(
    "dpo.ipo_loss",
    "Squared distance of the log-ratio margin from its target.",
    (h, beta),
    (h - 1 / (2 * beta)) ** 2,
    tex=r"L_{{\mathrm{{IPO}}}}({log_ratio_difference})",
    source=AZAR.eq(17),
)

ipo = ipo_loss(log_ratio_margin())
ipo_gap = log_ratio_margin() - 1 / (2 * beta)
by_sum = log_ratio_margin(chosen_length=1, rejected_length=1)
expected_ipo = preference * ipo_loss(h) + (1 - preference) * ipo_loss(-h)

flipped_target = (preference - Rational(1, 2)) / beta

claim(
    "dpo.ipo",
    "IPO pulls the log-ratio margin to 1/(2β) and no further; for labels that are sometimes flipped, to (p − ½)/β.",
    holds(equals(Diff(ipo_loss(), h), 2 * (h - 1 / (2 * beta))), name="in the difference", by=algebra()),
    holds(equals(Diff(ipo, chosen_logp), 2 * ipo_gap / chosen_length), name="chosen", by=algebra()),
    holds(equals(Diff(ipo, rejected_logp), -2 * ipo_gap / rejected_length), name="rejected", by=algebra()),
    holds(equals(ipo_loss(1 / (2 * beta)), 0), name="optimum", by=algebra()),
    holds(greater(ipo_loss(), 0), name="no other optimum", assuming=[differs(h, 1 / (2 * beta))], by=smt()),
    holds(
        equals(At(Diff(expected_ipo, h), h, flipped_target), 0),
        name="optimum under flipped labels",
        by=algebra(),
    ),
    holds(equals(Diff(expected_ipo, h, h), 2), name="curvature under flipped labels", by=algebra()),
    holds(
        equals(expected_ipo, substitute(expected_ipo, {h: flipped_target}) + (h - flipped_target) ** 2),
        name="no other optimum under flipped labels",
        by=algebra(),
    ),
    holds(equals(beta * by_sum, margin()), name="by sums it is DPO's margin over β", by=algebra()),
    holds(
        equals(
            ipo_loss(log_ratio_margin(rejected_length=chosen_length)),
            ipo_loss(by_sum, beta / chosen_length) / chosen_length**2,
        ),
        name="by means it is another strength, even for equal lengths",
        by=algebra(),
    ),
    source=AZAR.eq(17),
    wrong=[
        wrong("optimum at 1/β", equals(ipo_loss(1 / beta), 0)),
        wrong("half the slope", equals(Diff(ipo_loss(), h), h - 1 / (2 * beta))),
        wrong("sums and means are the same", equals(ipo, ipo_loss(by_sum))),
        wrong("the larger the margin the better, as in DPO", less(Diff(ipo_loss(), h), 0)),
    ],
)

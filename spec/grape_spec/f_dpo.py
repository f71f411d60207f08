"""f-DPO: the reward that a policy implies if another divergence than the reverse KL keeps it near the reference.

C. Wang et al., Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints,
arXiv:2309.16240; A. Gupta et al., AlphaPO, arXiv:2501.03884. Their texts were not compared. D(π‖ref) = Σ ref·f(π/ref).
"""

from sympy import Integer, Lambda, exp, log

from grape_spec.dpo import (
    beta,
    chosen_logp,
    loss,
    o,
    pi,
    ref,
    ref_chosen_logp,
    ref_rejected_logp,
    rejected_logp,
    reward,
    sigmoid,
    w,
)
from grape_spec.dpo import margin as dpo_margin
from grape_spec.kl import p, y
from grape_spec.language import (
    At,
    Diff,
    Positive,
    Real,
    Smooth,
    Source,
    at_least,
    at_most,
    claim,
    define,
    differs,
    equals,
    function,
    greater,
    holds,
    less,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.preference import common, moved
from grape_spec.proof.rules import algebra, fact, finite_sum, smt, termwise

WANG = Source("wang2023beyond")
GUPTA = Source("gupta2025alphapo")

log_ratio = symbol("log_ratio", Real, "log-ratio of a response to the reference", tex=r"\Delta")
order = symbol("order", Real, "order of the α-divergence", tex=r"\alpha")
u = symbol("policy_ratio", Positive, "ratio of the probabilities under the policy and the reference", tex="u")
f = function("f", Smooth, "generator of a divergence", tex="f")
price = symbol("price", Real, "a function of the prompt alone", tex=r"\nu")

# Generators: f, with f(1) = 0.

reverse = define(
    "f_dpo.reverse_kl", "Generator of KL(π‖ref).", (u,), u * log(u), tex=r"f_{{\mathrm{{R}}}}", source=WANG
)

forward = define("f_dpo.forward_kl", "Generator of KL(ref‖π).", (u,), -log(u), tex=r"f_{{\mathrm{{F}}}}", source=WANG)

jensen_shannon = define(
    "f_dpo.jensen_shannon",
    "Generator of twice the Jensen-Shannon divergence with equal weights.",
    (u,),
    u * log(u) - (1 + u) * log((1 + u) / 2),
    tex=r"f_{{\mathrm{{JS}}}}",
    source=WANG,
)

alpha = define(
    "f_dpo.alpha",
    "Generator of the α-divergence.",
    (u, order),
    (exp(order * log(u)) - order * u - (1 - order)) / (order * (order - 1)),
    tex=r"\varphi_{{{order}}}",
    source=WANG,
)

# Scores: f′ at the ratio, up to a constant that cancels.

reverse_score = log_ratio

forward_score = define(
    "f_dpo.forward_kl_score",
    "What forward KL compares: one minus the inverse ratio.",
    (log_ratio,),
    1 - exp(-log_ratio),
    tex=r"\psi_{{\mathrm{{F}}}}({log_ratio})",
    source=WANG,
)

jensen_shannon_score = define(
    "f_dpo.jensen_shannon_score",
    "What the Jensen-Shannon divergence compares.",
    (log_ratio,),
    log(2 * sigmoid(log_ratio)),
    tex=r"\psi_{{\mathrm{{JS}}}}({log_ratio})",
    source=WANG,
)

alpha_score = define(
    "f_dpo.alpha_score",
    "What the α-divergence compares.",
    (log_ratio, order),
    (exp((order - 1) * log_ratio) - 1) / (order - 1),
    tex=r"\psi_{{{order}}}({log_ratio})",
    source=WANG,
)


def slope_of(generator):
    """f′ at the ratio whose logarithm is Δ."""
    return At(Diff(generator, u), u, exp(log_ratio))


regular = [differs(order, 0), differs(order, 1)]

claim(
    "f_dpo.scores",
    "f′ at the ratio e^Δ: Δ for the reverse KL, 1 − e^(−Δ) for the forward KL, log 2σ(Δ) for the Jensen-Shannon "
    "divergence, and (e^((α − 1)Δ) − 1)/(α − 1) for the α-divergence, up to constants, which cancel in a margin. Order "
    "0 is the forward KL.",
    holds(equals(slope_of(reverse()), log_ratio + 1), name="reverse KL", by=algebra()),
    holds(equals(slope_of(forward()), forward_score() - 1), name="forward KL", by=algebra()),
    holds(equals(slope_of(jensen_shannon()), jensen_shannon_score()), name="Jensen-Shannon", by=algebra()),
    holds(equals(slope_of(alpha()), alpha_score()), name="order α", assuming=regular, by=algebra()),
    holds(equals(alpha_score(order=0), forward_score()), name="order 0", by=algebra()),
    source=WANG,
    wrong=[
        wrong("the inverse ratio with a plus", equals(slope_of(forward()), 1 / exp(log_ratio))),
        wrong("the log-odds for Jensen-Shannon", equals(slope_of(jensen_shannon()), log_ratio)),
        wrong(
            "e^(αΔ)/α for the α-divergence",
            equals(slope_of(alpha()), (exp(order * log_ratio) - 1) / order),
            assuming=regular,
        ),
    ],
)

claim(
    "f_dpo.score.slope",
    "The weight of a response is e^Δ·f″(e^Δ): 1 for the reverse KL, e^(−Δ) for the forward KL, σ(−Δ) for the "
    "Jensen-Shannon divergence and e^((α − 1)Δ) for order α. That of the forward KL grows without bound as a response "
    "becomes rarer than under the reference.",
    holds(equals(Diff(forward_score(), log_ratio), exp(-log_ratio)), name="forward KL", by=algebra()),
    holds(equals(Diff(jensen_shannon_score(), log_ratio), sigmoid(-log_ratio)), name="Jensen-Shannon", by=algebra()),
    holds(
        equals(Diff(alpha_score(), log_ratio), exp((order - 1) * log_ratio)),
        name="order α",
        assuming=[differs(order, 1)],
        by=algebra(),
    ),
    holds(
        greater(exp(-log_ratio), -log_ratio),
        name="no bound",
        by=smt(given=[fact("kl.log_bound", part="bound", x=exp(-log_ratio))]),
        equivalent={"right: -log_ratio → -2*log_ratio": "true: an exponential lies above twice its exponent"},
    ),
    holds(
        less(sigmoid(-log_ratio), 1),
        name="a bound for Jensen-Shannon",
        by=smt(given=[fact("dpo.label_smoothing", part="one of the two rankings", margin=log_ratio)]),
    ),
    source=WANG,
    wrong=[
        wrong("1, as for DPO", equals(Diff(forward_score(), log_ratio), 1)),
        wrong("the ratio itself", equals(Diff(forward_score(), log_ratio), exp(log_ratio))),
        wrong("a bound for the forward KL", at_most(exp(-log_ratio), 1)),
    ],
)

# Margins.

PAIR = (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta)
chosen_ratio, rejected_ratio = chosen_logp - ref_chosen_logp, rejected_logp - ref_rejected_logp

forward_margin = define(
    "f_dpo.forward_kl_margin",
    "Margin for the forward KL.",
    PAIR,
    beta * (forward_score(chosen_ratio) - forward_score(rejected_ratio)),
    tex=r"m_{{\mathrm{{F}}}}",
    source=WANG,
)

jensen_shannon_margin = define(
    "f_dpo.jensen_shannon_margin",
    "Margin for the Jensen-Shannon divergence.",
    PAIR,
    beta * (jensen_shannon_score(chosen_ratio) - jensen_shannon_score(rejected_ratio)),
    tex=r"m_{{\mathrm{{JS}}}}",
    source=WANG,
)

alpha_margin = define(
    "f_dpo.alpha_margin",
    "Margin for the α-divergence.",
    (*PAIR, order),
    beta * (alpha_score(chosen_ratio) - alpha_score(rejected_ratio)),
    tex=r"\mu_{{{order}}}",
    source=WANG,
)


def weight(margin):
    """The slope of the loss in its margin, without its sign."""
    return beta * sigmoid(-margin)


claim(
    "f_dpo.gradient",
    "Each log-probability has the weight of its own score: the two are no longer opposite.",
    holds(
        equals(Diff(loss(forward_margin()), chosen_logp), -exp(-chosen_ratio) * weight(forward_margin())),
        name="forward KL, chosen",
        by=algebra(),
    ),
    holds(
        equals(Diff(loss(forward_margin()), rejected_logp), exp(-rejected_ratio) * weight(forward_margin())),
        name="forward KL, rejected",
        by=algebra(),
    ),
    holds(
        equals(
            Diff(loss(jensen_shannon_margin()), chosen_logp), -sigmoid(-chosen_ratio) * weight(jensen_shannon_margin())
        ),
        name="Jensen-Shannon, chosen",
        by=algebra(),
    ),
    holds(
        equals(
            Diff(loss(jensen_shannon_margin()), rejected_logp),
            sigmoid(-rejected_ratio) * weight(jensen_shannon_margin()),
        ),
        name="Jensen-Shannon, rejected",
        by=algebra(),
    ),
    holds(
        equals(Diff(loss(alpha_margin()), chosen_logp), -exp((order - 1) * chosen_ratio) * weight(alpha_margin())),
        name="order α, chosen",
        assuming=[differs(order, 1)],
        by=algebra(),
    ),
    holds(
        equals(Diff(loss(alpha_margin()), rejected_logp), exp((order - 1) * rejected_ratio) * weight(alpha_margin())),
        name="order α, rejected",
        assuming=[differs(order, 1)],
        by=algebra(),
    ),
    source=WANG,
    wrong=[
        wrong(
            "opposite slopes, as in DPO",
            equals(Diff(loss(forward_margin()), chosen_logp), -Diff(loss(forward_margin()), rejected_logp)),
        ),
        wrong(
            "the weight of the other response",
            equals(Diff(loss(forward_margin()), chosen_logp), -exp(-rejected_ratio) * weight(forward_margin())),
        ),
        wrong(
            "the weight of the ratio, not of its inverse",
            equals(
                Diff(loss(jensen_shannon_margin()), chosen_logp),
                -sigmoid(chosen_ratio) * weight(jensen_shannon_margin()),
            ),
        ),
    ],
)

claim(
    "f_dpo.margins",
    "With the reverse KL the margin is that of DPO, and with order 0 that of the forward KL. A factor e^c on the "
    "probabilities of both responses multiplies the margin of order α by e^((α − 1)c). Only for DPO it changes "
    "nothing; for the forward KL, a common fall raises a margin that is positive.",
    holds(
        equals(
            beta
            * (At(slope_of(reverse()), log_ratio, chosen_ratio) - At(slope_of(reverse()), log_ratio, rejected_ratio)),
            dpo_margin(),
        ),
        name="reverse KL",
        by=algebra(),
    ),
    holds(equals(alpha_margin(order=0), forward_margin()), name="order 0", by=algebra()),
    holds(
        equals(forward_margin(**moved), exp(-common) * forward_margin()),
        name="a common factor, forward KL",
        by=algebra(),
    ),
    holds(
        equals(alpha_margin(**moved), exp((order - 1) * common) * alpha_margin()),
        name="a common factor, order α",
        assuming=[differs(order, 1)],
        by=algebra(),
    ),
    source=WANG,
    wrong=[
        wrong("only differences of log-ratios matter, as in DPO", equals(forward_margin(**moved), forward_margin())),
        wrong("a factor on both raises the margin", equals(forward_margin(**moved), exp(common) * forward_margin())),
        wrong("forward KL is the reverse with exchanged responses", equals(forward_margin(), -dpo_margin())),
    ],
)

# The policy that is optimal for a reward.

derivative = At(Diff(f(u), u), u, pi[w] / ref[w])
implied = Lambda(y, beta * At(Diff(f(u), u), u, pi[y] / ref[y]) + price)


def objective(policy, of, reward_of):
    """Expected reward minus β times the divergence with a generator."""
    return sum_over(policy[y] * reward_of, y) - beta * sum_over(ref[y] * of(policy[y] / ref[y]), y)


def lead(of, score):
    """The objective at π minus that at another policy, for the reward that is β·score(π/ref) plus a constant."""
    rest = ref[y] * (of(pi[y] / ref[y]) - of(p[y] / ref[y]))
    return sum_over((pi[y] - p[y]) * (beta * score(pi[y] / ref[y]) + price) - beta * rest, y)


def difference(of, score):
    """The same, as a difference."""
    reward_of = beta * score(pi[y] / ref[y]) + price
    return objective(pi, of, reward_of) - objective(p, of, reward_of)


claim(
    "f_dpo.stationary",
    "A policy is stationary, under the constraint that its probabilities sum to one, exactly if every reward is "
    "β·f′(π/ref) plus one constant of the prompt. The constant cancels from the difference of two responses to one "
    "prompt, and from no single one: a loss on single responses would need it.",
    holds(
        equals(Diff(objective(pi, f, reward[y]), pi[w]), reward[w] - beta * derivative),
        name="slope",
        by=finite_sum(),
    ),
    holds(
        equals(At(Diff(objective(pi, f, reward[y]), pi[w]), reward, implied), price),
        name="the same in every direction",
        by=finite_sum(),
    ),
    holds(
        equals(
            At(reward[w] - reward[o], reward, implied),
            beta * (derivative - At(Diff(f(u), u), u, pi[o] / ref[o])),
        ),
        name="two responses",
        by=finite_sum(),
    ),
    source=WANG,
    wrong=[
        wrong(
            "the constant cancels from a single reward, too", equals(At(reward[w], reward, implied), beta * derivative)
        ),
        wrong(
            "the generator in place of its slope",
            equals(Diff(objective(pi, f, reward[y]), pi[w]), reward[w] - beta * f(pi[w] / ref[w])),
        ),
        wrong("stationary for every reward", equals(Diff(objective(pi, f, reward[y]), pi[w]), price)),
    ],
)


def inverse(ratio):
    """f′ of the forward KL."""
    return -1 / ratio


def mixed(ratio):
    """f′ of the Jensen-Shannon divergence."""
    return log(2 * ratio / (1 + ratio))


def ratio_of(policy):
    """The ratio of a policy to the reference."""
    return policy[y] / ref[y]


claim(
    "f_dpo.optimum",
    "For the forward KL and the Jensen-Shannon divergence, no policy does better than one for which every reward is "
    "β·f′(π/ref) plus a constant. For the reverse KL that is dpo.gibbs.",
    holds(equals(difference(forward, inverse), lead(forward, inverse)), name="forward KL, lead", by=finite_sum()),
    holds(
        at_least(lead(forward, inverse), 0),
        name="forward KL",
        by=termwise(price * (pi[y] - p[y]), given=[fact("kl.log_bound", part="bound", x=p[y] / pi[y])]),
    ),
    holds(
        equals(difference(jensen_shannon, mixed), lead(jensen_shannon, mixed)),
        name="Jensen-Shannon, lead",
        by=finite_sum(),
    ),
    holds(
        at_least(lead(jensen_shannon, mixed), 0),
        name="Jensen-Shannon",
        by=termwise(
            price * (pi[y] - p[y]),
            given=[
                fact(
                    "kl.log_bound",
                    part="bound",
                    x=ratio_of(pi) * (1 + ratio_of(p)) / (ratio_of(p) * (1 + ratio_of(pi))),
                ),
                fact("kl.log_bound", part="bound", x=(1 + ratio_of(p)) / (1 + ratio_of(pi))),
            ],
        ),
    ),
    source=WANG,
    wrong=[
        wrong("with the slope of the reverse KL", at_least(lead(forward, log), 0)),
        wrong("with the ratio, not its inverse", at_least(lead(forward, lambda ratio: ratio), 0)),
    ],
)

# AlphaPO.

shape = symbol("shape", Real, "parameter of AlphaPO's reward", tex=r"\alpha_{\mathrm{P}}")
mean_logp = symbol("mean_logp", Real, "mean log-probability of the tokens of a response", tex=r"\bar\ell")

alphapo_reward = define(
    "f_dpo.alphapo_reward",
    "Reward of AlphaPO over β, (1 − p^(−α))/α of the geometric mean p of the probabilities of the tokens.",
    (mean_logp, shape),
    (1 - exp(-shape * mean_logp)) / shape,
    tex=r"R_{{{shape}}}({mean_logp})",
    source=GUPTA,
)

curved = (1 - exp(-shape * mean_logp)) / shape
grows = fact("kl.log_bound", part="bound", x=exp(-shape * mean_logp))
shrinks = fact("kl.log_bound", part="bound", x=exp(shape * mean_logp))

mirrored = {"shape": -shape, "mean_logp": -mean_logp}
ALPHAPO = "f_dpo.alphapo"

claim(
    ALPHAPO,
    "AlphaPO's reward is the score of the α-divergence of order 1 − α, without a reference. Its slope in log p is "
    "p^(−α). It lies between log p and p^(−α)·log p, which meet as α goes to 0: the limit is log p, SimPO's reward.",
    holds(
        equals(alphapo_reward(), alpha_score(mean_logp, 1 - shape)),
        name="order 1 − α",
        assuming=[differs(shape, 0)],
        by=algebra(),
    ),
    holds(
        equals(Diff(alphapo_reward(), mean_logp), exp(-shape * mean_logp)),
        name="slope",
        assuming=[differs(shape, 0)],
        by=algebra(),
    ),
    holds(at_most(curved, mean_logp), name="α > 0, above", assuming=[greater(shape, 0)], by=smt(given=[grows])),
    holds(
        at_least(curved, exp(-shape * mean_logp) * mean_logp),
        name="α > 0, below",
        assuming=[greater(shape, 0)],
        by=smt(given=[shrinks]),
        equivalent={"right: shape → shape + 1": "true and weaker: p^(−1)·log p is at most log p"},
    ),
    holds(
        at_least(curved, mean_logp),
        name="α < 0, below",
        assuming=[less(shape, 0)],
        by=smt(given=[fact(ALPHAPO, part="α > 0, above", **mirrored)]),
    ),
    holds(
        at_most(curved, exp(-shape * mean_logp) * mean_logp),
        name="α < 0, above",
        assuming=[less(shape, 0)],
        by=smt(given=[fact(ALPHAPO, part="α > 0, below", **mirrored)]),
    ),
    holds(
        equals(At(Diff(1 - exp(-shape * mean_logp), shape), shape, Integer(0)), mean_logp),
        name="slope of the numerator at α = 0",
        by=algebra(),
    ),
    source=GUPTA,
    wrong=[
        wrong("the slope of log p", equals(Diff(alphapo_reward(), mean_logp), 1), assuming=[differs(shape, 0)]),
        wrong("order 1 + α", equals(alphapo_reward(), alpha_score(mean_logp, 1 + shape)), assuming=[differs(shape, 0)]),
        wrong("at most log p for every α", at_most(alphapo_reward(), mean_logp), assuming=[differs(shape, 0)]),
    ],
)

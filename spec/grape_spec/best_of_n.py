"""Best of n: the distribution of the best of n samples, its divergence from the policy, and the value of more samples.

A. Beirami et al., Theoretical Guarantees on the Best-of-n Alignment Policy, arXiv:2401.01879.
"""

from sympy import Expr, Integer, Max, exp, log

from grape_spec.kl import n, x, y
from grape_spec.language import (
    Positive,
    Real,
    Size,
    Smooth,
    SmoothPositive,
    Source,
    at_least,
    at_most,
    claim,
    define,
    delta,
    equals,
    family,
    function,
    greater,
    holds,
    index,
    product_over,
    recursive,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import left, theta
from grape_spec.proof.rules import (
    chain,
    fact,
    finite_sum,
    from_minimum,
    induction,
    over_depth,
    rewrite,
    smt,
    step,
    termwise,
)

BEIRAMI = Source("beirami2024theoretical")

# The distribution of the reward of the best of n.

samples = symbol("samples", Size, "number of samples drawn", tex="N")
draw = index("draw", samples, "one of the samples", tex="d")
own = symbol("own", Positive, "probability that a sample has the reward in question", tex="f")
below = symbol("below", Positive, "probability that a sample has a smaller reward", tex="G")
up_to_it = below + own


def all_of(number: Expr, probability: Expr) -> Expr:
    """The probability that all of a number of samples have a property."""
    return exp(number * log(probability))


lift = define(
    "rejection.best_of_n.lift",
    "Ratio of the probability that the best of n samples has a reward to the probability that one sample has it: the "
    "sum, over the first draw d that has it, of the probability that the draws before are worse and those after are "
    "not better.",
    (below, own, samples),
    sum_over(all_of(draw - 1, below) * all_of(samples - draw, up_to_it), draw),
    tex=r"\lambda({below}, {own})",
    domain=Positive,
)

sample_reward = family("sample_reward", Real, samples, text="reward of each sample of a group", tex="r")
sample = index("sample", samples, "a sample of the group", tex="i")
rival = index("rival", samples, "a sample that another one is compared with", tex="j")

is_best = define(
    "rejection.best_of_n.is_best",
    "1 for a sample whose reward no other of its group exceeds, else 0.",
    (sample, sample_reward),
    product_over(delta(Max(sample_reward[sample], sample_reward[rival]), sample_reward[sample]), rival),
)

best_weight = define(
    "rejection.best_of_n.weight",
    "Weight of a sample: 1 for the best of its group; by convention, samples that tie for best share the 1 equally.",
    (sample, sample_reward),
    is_best() / sum_over(is_best(draw), draw),
    convention=True,
)

# The rewards in increasing order, outcome 0 the least and outcome n the best.

ladder = function(
    "ladder",
    SmoothPositive,
    "unnormalised probability of a reward at most that of outcome y, as a function of the parameter",
    tex="F",
)
prize = function("prize", Smooth, "reward of outcome y, as a function of the parameter", tex="r")
whole = symbol("whole", Positive, "normaliser of the probabilities", tex="Z")
every = ladder(n, theta)


def up_to(outcome: Expr, total: Expr = every) -> Expr:
    """Probability of a reward at most that of an outcome."""
    return ladder(outcome, theta) / total


# Responses that tie for best share the weight equally: each has the share of the samples that tie which are it.

mine = symbol("mine", Positive, "probability of a response that has the reward in question", tex="p")
share = symbol("share", Real, "share of the response in the samples so far that tie for best", tex="h")
ties = symbol("ties", Positive, "number of samples so far that tie for best", tex=r"\nu")

share_once_seen = recursive(
    "rejection.best_of_n.share_once_seen",
    "Expected weight of a response once a sample has its reward, with some samples left: none of them may be better, "
    "and each that ties changes the share.",
    (left, share, ties, below, own, mine),
    left,
    share,
    lambda after: (
        below * after()
        + mine * after(share=(ties * share + 1) / (ties + 1), ties=ties + 1)
        + (own - mine) * after(share=ties * share / (ties + 1), ties=ties + 1)
    ),
    tex=r"H_{{{left}}}({share}, {ties})",
)

expected_share = recursive(
    "rejection.best_of_n.expected_share",
    "Expected weight of a response in best of n if responses that tie for best share it equally, from the first sample "
    "on: worse ones change nothing, and a better one leaves no weight.",
    (left, below, own, mine),
    left,
    Integer(0),
    lambda after: (
        below * after()
        + mine * share_once_seen(left, 1, 1, below, own, mine)
        + (own - mine) * share_once_seen(left, 0, 1, below, own, mine)
    ),
    tex=r"W_{{{left}}}",
)

forgetting = recursive(
    "rejection.best_of_n.forgetting",
    "Expected part of the share so far that is kept if no further sample is better: each sample that ties keeps ν/(ν + "
    "1) of it.",
    (left, ties, below, own),
    left,
    Integer(1),
    lambda after: below * after() + own * ties / (ties + 1) * after(ties=ties + 1),
    tex=r"Q_{{{left}}}({ties})",
)

none_better = sum_over(all_of(draw - 1, below / up_to_it) * own / up_to_it, draw)
LAW = "rejection.best_of_n.law"

claim(
    LAW,
    "The best of n samples has a given reward with probability Fⁿ − Gⁿ, where F is the probability of at most that "
    "reward and G that of a smaller one. Over all rewards this sums to one. If responses that tie share the weight "
    "equally within each group, each gets, in expectation, a part in proportion to its probability.",
    holds(equals(none_better, 1 - all_of(samples, below / up_to_it)), name="if none is better", by=induction(samples)),
    holds(
        equals(own * lift(), all_of(samples, up_to_it) - all_of(samples, below)),
        name="any number of samples",
        by=chain(
            step(all_of(samples, up_to_it) * none_better, by=finite_sum()),
            step(
                all_of(samples, up_to_it) * (1 - all_of(samples, below / up_to_it)),
                by=rewrite(LAW, part="if none is better"),
            ),
            step(all_of(samples, up_to_it) - all_of(samples, below), by=finite_sum()),
        ),
    ),
    holds(
        equals(
            sum_over(all_of(samples, up_to(y, whole)) - all_of(samples, up_to(y - 1, whole)), y),
            all_of(samples, up_to(n, whole)) - all_of(samples, up_to(0, whole)),
        ),
        name="telescoping",
        by=induction(n),
    ),
    holds(
        equals(
            all_of(samples, up_to(0)) + sum_over(all_of(samples, up_to(y)) - all_of(samples, up_to(y - 1)), y),
            1,
        ),
        name="sums to one",
        by=chain(
            step(
                all_of(samples, up_to(0)) + (all_of(samples, up_to(n)) - all_of(samples, up_to(0))),
                by=rewrite(LAW, part="telescoping", whole=every),
            ),
            step(1, by=finite_sum()),
        ),
    ),
    holds(
        equals(share_once_seen(), mine / own * all_of(left, up_to_it) + (share - mine / own) * forgetting()),
        name="once a sample has the reward",
        by=over_depth(left),
    ),
    holds(
        equals(expected_share(), mine / own * (all_of(left, up_to_it) - all_of(left, below))),
        name="responses that tie",
        by=over_depth(left, given=[fact(LAW, part="once a sample has the reward")]),
    ),
    source=BEIRAMI,
    wrong=[
        wrong(
            "n times the probability of the reward, as for rare events",
            equals(own * lift(), samples * own),
        ),
        wrong(
            "one draw has it and all others are worse",
            equals(own * lift(), samples * own * all_of(samples - 1, below)),
        ),
        wrong(
            "two responses that tie have one half each, whatever their probabilities",
            equals(expected_share(), (all_of(left, up_to_it) - all_of(left, below)) / 2),
        ),
    ],
)

# How far best of n is from the policy. With t = n uⁿ⁻¹, the density of the best of n uniform numbers:


def uniform_gain(u: Expr) -> Expr:
    """∫ t log t over the numbers up to u."""
    return all_of(samples, u) * log(samples) + (samples - 1) * all_of(samples, u) * (log(u) - 1 / samples)


level = symbol("level", Positive, "a value of the density", tex="s")
density = samples * all_of(samples, x) / x

over_tangent = define(
    "rejection.best_of_n.over_tangent",
    "Excess of t log t over its tangent at s, with t = n uⁿ⁻¹, integrated over u from 1 to x.",
    (x, level, samples),
    uniform_gain(x) - uniform_gain(Integer(1)) - (1 + log(level)) * (all_of(samples, x) - 1) + level * (x - 1),
    tex=r"\Delta({x}, {level})",
)

lift_of_density = lift() * below / all_of(samples, below)
reward_excess = uniform_gain(up_to_it) - uniform_gain(below) - own * lift() * log(lift())
scaled = all_of(samples, below) * over_tangent(up_to_it / below, lift_of_density)
off_the_law = own * lift() + all_of(samples, below) - all_of(samples, up_to_it)
own_mass = up_to(y) - up_to(y - 1)
own_lift = lift(up_to(y - 1), own_mass)
own_gain = own_mass * own_lift * log(own_lift)
own_bound = uniform_gain(up_to(y)) - uniform_gain(up_to(y - 1))
least_gain = all_of(samples, up_to(0)) * log(all_of(samples, up_to(0)) / up_to(0))
divergence_of_best = least_gain + sum_over(own_gain, y)
increasing = greater(ladder(y, theta), ladder(y - 1, theta))
BOUND = "rejection.best_of_n.kl_bound"

claim(
    BOUND,
    "The KL divergence of best of n from the policy is at most log n − (n − 1)/n: each reward contributes at most what "
    "uniform numbers would contribute there, because t log t lies above its tangents.",
    holds(
        at_least(over_tangent(), 0),
        name="above the tangent",
        assuming=[at_least(x, 1)],
        by=from_minimum(of=over_tangent(), over=x, at=1, given=[fact("kl.log_bound", part="bound", x=level / density)]),
    ),
    holds(
        equals(reward_excess, scaled),
        name="one reward against the tangent",
        by=chain(
            step(scaled - (1 + log(lift())) * off_the_law, by=finite_sum()),
            step(scaled, by=rewrite(LAW, part="any number of samples")),
        ),
    ),
    holds(
        at_least(reward_excess, 0),
        name="one reward",
        by=smt(
            given=[
                fact(BOUND, part="one reward against the tangent"),
                fact(BOUND, part="above the tangent", x=up_to_it / below, level=lift_of_density),
            ]
        ),
    ),
    holds(
        at_least(uniform_gain(own) - all_of(samples, own) * log(all_of(samples, own) / own), 0),
        name="the least reward",
        by=smt(given=[fact("kl.log_bound", part="bound", x=1 / samples)]),
    ),
    holds(equals(lift(), lift().unfold()), name="the lift, written out", by=finite_sum()),
    holds(
        at_least(sum_over(own_bound - own_gain, y), 0),
        name="all rewards but the least",
        assuming=[increasing],
        by=termwise(
            Integer(0),
            given=[
                fact(BOUND, part="one reward", below=up_to(y - 1), own=own_mass),
                fact(BOUND, part="the lift, written out", below=up_to(y - 1), own=own_mass),
            ],
        ),
    ),
    holds(
        equals(
            sum_over(uniform_gain(up_to(y, whole)) - uniform_gain(up_to(y - 1, whole)), y),
            uniform_gain(up_to(n, whole)) - uniform_gain(up_to(0, whole)),
        ),
        name="telescoping",
        by=induction(n),
    ),
    holds(
        at_most(divergence_of_best, log(samples) - (samples - 1) / samples),
        name="bound",
        assuming=[increasing],
        by=smt(
            given=[
                fact(BOUND, part="the least reward", own=up_to(0)),
                fact(BOUND, part="all rewards but the least"),
                fact(BOUND, part="telescoping", whole=every),
            ]
        ),
        equivalent={
            "right: log(samples) → samples": "true and weaker, as log n < n",
            "right: samples → samples + 1 (2)": "true and weaker, as the logarithm increases",
            "right: samples → 2*samples (3)": "true and weaker, as the logarithm increases",
        },
    ),
    source=BEIRAMI,
    wrong=[
        wrong(
            "the bound is attained, as it would be for a continuum of responses without ties",
            equals(divergence_of_best, log(samples) - (samples - 1) / samples),
            assuming=[increasing],
        ),
    ],
)

gap = prize(y, theta) - prize(y - 1, theta)
exponent = symbol("exponent", Positive, "number of samples; any positive number is allowed", tex="k")


def expected_best(number: Expr, total: Expr = every) -> Expr:
    """Expected reward of the best of a number of samples, by the law of best of n."""
    rest = prize(y, theta) * (all_of(number, up_to(y, total)) - all_of(number, up_to(y - 1, total)))
    return prize(0, theta) * all_of(number, up_to(0, total)) + sum_over(rest, y)


def layers(number: Expr, total: Expr = every) -> Expr:
    """The largest reward, minus each gap times the probability that no sample lies above it."""
    best = prize(n, theta) * all_of(number, up_to(n, total))
    return best - sum_over(gap * all_of(number, up_to(y - 1, total)), y)


MONOTONE = "rejection.best_of_n.monotone"
sorted_rewards = [at_least(gap, 0), at_most(ladder(y - 1, theta), every)]

claim(
    MONOTONE,
    "One more sample never lowers the expected reward of the best.",
    holds(equals(expected_best(exponent, whole), layers(exponent, whole)), name="layers", by=induction(n)),
    holds(
        at_least(sum_over(gap * all_of(exponent, up_to(y - 1)) * (1 - up_to(y - 1)), y), 0),
        name="what the layers lose",
        assuming=sorted_rewards,
        by=termwise(Integer(0)),
    ),
    holds(
        at_least(expected_best(exponent + 1) - expected_best(exponent), 0),
        name="monotone",
        assuming=sorted_rewards,
        by=smt(
            given=[
                fact(MONOTONE, part="layers", whole=every),
                fact(MONOTONE, part="layers", exponent=exponent + 1, whole=every),
                fact(MONOTONE, part="what the layers lose"),
            ]
        ),
    ),
    wrong=[
        wrong(
            "in proportion to the number of samples",
            equals(expected_best(2 * exponent), 2 * expected_best(exponent)),
            assuming=sorted_rewards,
        ),
        wrong("whatever the order of the rewards", at_least(expected_best(exponent + 1), expected_best(exponent))),
    ],
)

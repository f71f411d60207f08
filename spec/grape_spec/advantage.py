"""Advantages: generalised advantage estimation along a sequence, and whitening over the tokens of a batch.

J. Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation, arXiv:1506.02438.
"""

from collections.abc import Callable
from fractions import Fraction

from sympy import Expr, IndexedBase, Integer, Lambda, Max, exp, log, sqrt

from grape_spec.language import (
    Mask,
    NonNegative,
    PositionOn,
    Positive,
    Real,
    Size,
    Smooth,
    Source,
    claim,
    define,
    equals,
    family,
    function,
    greater,
    holds,
    index,
    recursive,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.domains import Interval, Naturals
from grape_spec.policy import left
from grape_spec.proof.rules import algebra, fact, finite_sum, induction, over_depth, smt

SCHULMAN = Source("schulman2016gae")
HUANG = Source("huang2022details", "detail 7")

UNIT_INTERVAL = Interval("in [0, 1]", Fraction(0), Fraction(1), low_closed=True, high_closed=True)
DECAY = Interval("in (0, 1]", Fraction(0), Fraction(1), high_closed=True)

# One token, given what follows it.

token_return = symbol("received", Real, "reward of the token", tex="r")
value = symbol("value", Real, "value of the prefix before the token", tex="V")
next_value = symbol("next_value", Real, "value of the next token that counts, 0 after the last", tex="V'")
next_advantage = symbol("next_advantage", Real, "advantage of the next token that counts, 0 after the last", tex="A'")
discount = symbol("discount", UNIT_INTERVAL, "factor on a reward for each token that it lies ahead", tex=r"\gamma")
lam = symbol("lam", UNIT_INTERVAL, "further factor on a residual for each token that it lies ahead", tex=r"\lambda")
counts = symbol("counts", Mask(), "1 where the token counts", tex="m")

residual = define(
    "advantage.residual",
    "Temporal-difference residual: the reward plus the discounted next value, minus the value itself.",
    (token_return, value, next_value, discount),
    token_return + discount * next_value - value,
    tex=r"\delta",
    source=SCHULMAN.section(3),
)

gae = define(
    "advantage.gae",
    "Generalised advantage estimate of a token, from that of the next token that counts.",
    (token_return, value, next_value, next_advantage, discount, lam),
    residual() + discount * lam * next_advantage,
    tex="A",
    source=SCHULMAN.eq(16),
)

estimated_return = define(
    "advantage.estimated_return",
    "Return estimate of a token, the target of its value: the value plus the advantage.",
    (token_return, value, next_value, next_advantage, discount, lam),
    gae() + value,
    tex="R",
    source=SCHULMAN.section(5),
)

claim(
    "advantage.gae.returns",
    "The returns obey the TD(λ) recursion: the reward, plus the discounted mixture of the next value with weight 1 − "
    "λ and the next return with weight λ. The token's own value cancels.",
    holds(
        equals(
            estimated_return(),
            token_return + discount * ((1 - lam) * next_value + lam * (next_value + next_advantage)),
        ),
        by=algebra(),
    ),
    wrong=[
        wrong(
            "bootstrapping from the value alone",
            equals(estimated_return(), token_return + discount * next_value),
        ),
        wrong(
            "the next advantage in place of the next return",
            equals(estimated_return(), token_return + discount * ((1 - lam) * next_value + lam * next_advantage)),
        ),
    ],
)

value_handed_on = define(
    "advantage.value_handed_on",
    "The value that the previous token bootstraps from: a masked token passes on the next one.",
    (counts, value, next_value),
    counts * value + (1 - counts) * next_value,
    tex=r"V^{{\mathrm{{on}}}}",
    convention=True,
)

advantage_handed_on = define(
    "advantage.advantage_handed_on",
    "The advantage that the previous token accumulates: a masked token passes on the next one.",
    (counts, token_return, value, next_value, next_advantage, discount, lam),
    counts * gae() + (1 - counts) * next_advantage,
    tex=r"A^{{\mathrm{{on}}}}",
    convention=True,
)

# A whole sequence, from its last token to its first. After the last token, value and advantage are 0.

places = symbol("places", Size, "number of tokens of the sequence", tex="L")
place = index("place", places, "a token of the sequence", tex="t")
other_place = index("other_place", places, "any token of the sequence", tex="t'")
following = family("following", PositionOn(places), places, text="the token after each", tex=r"\mathrm{next}")
rewards = family("token_rewards", Real, places, text="reward of each token", tex="r")
values = family("token_values", Real, places, text="value of the prefix before each token", tex="V")
counting = family("counting", Mask(), places, text="1 where the token counts", tex="m")
weight = symbol("carried_weight", Real, "weight of what comes next", tex=r"\omega")
of_token = (counting[place], rewards[place], values[place])
here, sequence = (left, place), (following, counting, rewards, values)

value_from = recursive(
    "advantage.value_from",
    "The value handed on from a token, with some tokens left: its own value if the token counts, otherwise that of the "
    "next token that counts; 0 if none is left.",
    (*here, following, counting, values),
    left,
    Integer(0),
    lambda next_one: value_handed_on(counting[place], values[place], next_one(place=following[place])),
    tex=r"V^{{\mathrm{{on}}}}_{{{left}}}({place})",
)

value_after = value_from(place=following[place])

advantage_from = recursive(
    "advantage.advantage_from",
    "The advantage handed on from a token, with some tokens left: its own advantage if the token counts, otherwise "
    "that of the next token that counts; 0 if none is left.",
    (*here, *sequence, discount, lam),
    left,
    Integer(0),
    lambda next_one: advantage_handed_on(*of_token, value_after, next_one(place=following[place])),
    tex=r"A^{{\mathrm{{on}}}}_{{{left}}}({place})",
)

#: The residual of a token, and what its weight becomes for the next token that counts.
own_residual = residual(rewards[place], values[place], value_after)


def passed_on(x: Expr) -> Expr:
    """A factor for a token that counts, and 1 for one that does not."""
    return counting[place] * x + 1 - counting[place]


reward_noise = family(
    "reward_noise", Real, places, text="what the rewards of masked tokens may be", tex=r"r^{\mathrm{any}}"
)
value_noise = family(
    "value_noise", Real, places, text="what the values of masked tokens may be", tex=r"V^{\mathrm{any}}"
)


def overwritten(numbers: IndexedBase, noise: IndexedBase) -> Lambda:
    """The numbers of a sequence, those of masked tokens replaced."""
    masked = 1 - counting[other_place]
    return Lambda(other_place, counting[other_place] * numbers[other_place] + masked * noise[other_place])


MASKED = "advantage.gae.masked"

claim(
    MASKED,
    "A masked token has no effect: it passes on what it receives, and whatever is written into the rewards and values "
    "of masked tokens, no advantage of the sequence changes.",
    holds(equals(value_handed_on(0), next_value), name="value", by=algebra()),
    holds(equals(advantage_handed_on(0), next_advantage), name="advantage", by=algebra()),
    holds(equals(value_handed_on(1), value), name="value of one that counts", by=algebra()),
    holds(equals(advantage_handed_on(1), gae()), name="advantage of one that counts", by=algebra()),
    holds(
        equals(value_from(token_values=overwritten(values, value_noise)), value_from()),
        name="values of a whole sequence",
        by=over_depth(left),
    ),
    holds(
        equals(
            advantage_from(
                token_rewards=overwritten(rewards, reward_noise), token_values=overwritten(values, value_noise)
            ),
            advantage_from(),
        ),
        name="advantages of a whole sequence",
        by=over_depth(left, given=[fact(MASKED, part="values of a whole sequence")]),
    ),
    wrong=[
        wrong("bootstrapping from the value of a masked token", equals(value_handed_on(0), value)),
        wrong(
            "a masked token ends the sum, as when the recursion is multiplied by the mask",
            equals(advantage_handed_on(), counts * gae()),
        ),
        wrong(
            "a masked token counts as one step of decay",
            equals(advantage_handed_on(0), discount * lam * next_advantage),
        ),
    ],
)

# The sum that the recursion computes. Positions are counted from the token whose advantage is estimated.

K = symbol("K", Size, "number of tokens that count, from this one to the last")
k = index("step", K, "how far a token is from this one, this one being the first", tex="k")
decay = symbol(
    "decay",
    DECAY,
    "nonzero factor from one step to the next: γλ for residuals, γ for rewards, λ in a mixture of returns",
    tex=r"\xi",
)
residual_at = function("residual_at", Smooth, "error of the value at each position", tex=r"\delta")
reward_at = function("reward_at", Smooth, "reward at each position", tex="r")
value_at = function("value_at", Smooth, "value at each position", tex="V")
n_step_at = function("n_step_at", Smooth, "return of n steps, bootstrapped from the value after them", tex="R")


def power(base: Expr, exponent: Expr) -> Expr:
    """base to the exponent, for a positive base."""
    return exp(exponent * log(base))


def discounted(x: Expr, term: Callable[[Expr], Expr]) -> Expr:
    """Σ_k x^(k−1) term(k) over the K tokens from this one to the last."""
    return sum_over(power(x, k - 1) * term(k), k)


one_more = discounted(decay, residual_at) + power(decay, K) * residual_at(K + 1)

weighted_residuals = recursive(
    "advantage.weighted_residuals",
    "Sum of the residuals of the tokens that count, each times a weight that falls by the factor γλ from one to the "
    "next.",
    (*here, weight, *sequence, discount, lam),
    left,
    Integer(0),
    lambda rest: (
        counting[place] * weight * own_residual
        + rest(place=following[place], carried_weight=weight * passed_on(discount * lam))
    ),
    tex=r"S_{{{left}}}({place}, {carried_weight})",
)

RECURSION = "advantage.gae.recursion"

claim(
    RECURSION,
    "The recursion A_t = δ_t + γλ A_{t+1} computes Σ_k (γλ)^k δ_{t+k} over the tokens that count, for sequences of any "
    "length: the sum over one more token is its residual plus the decayed sum over the tokens after it.",
    holds(
        equals(one_more, residual_at(1) + decay * discounted(decay, lambda j: residual_at(j + 1))),
        name="one token more",
        by=induction(K),
    ),
    holds(
        equals(gae(next_advantage=0), residual()),
        name="the last token",
        by=algebra(),
    ),
    holds(
        equals(weighted_residuals(), weight * advantage_from()),
        name="a whole sequence, at any weight",
        by=over_depth(left),
    ),
    holds(
        equals(weighted_residuals(carried_weight=1), advantage_from()),
        name="a whole sequence",
        by=smt(given=[fact(RECURSION, part="a whole sequence, at any weight", carried_weight=Integer(1))]),
    ),
    source=SCHULMAN.eq(16),
    wrong=[
        wrong(
            "without decay",
            equals(one_more, residual_at(1) + discounted(decay, lambda j: residual_at(j + 1))),
        ),
        wrong(
            "discounted by γ alone, without λ",
            equals(weighted_residuals(carried_weight=1, lam=1), advantage_from()),
        ),
        wrong(
            "the same decay for every token",
            equals(one_more, residual_at(1) + decay * sum_over(residual_at(k + 1), k)),
        ),
    ],
)


def error_at(j: Expr) -> Expr:
    """The residual of the token at a position."""
    return residual(reward_at(j), value_at(j), value_at(j + 1), decay)


collected = symbol("collected", Real, "discounted rewards of the first tokens", tex="G")
elapsed = symbol(
    "elapsed", Naturals("whole number", low=0), "number of first tokens whose rewards are collected", tex="n"
)

n_step_return = define(
    "advantage.n_step_return",
    "n-step return: the discounted rewards of n steps, plus the discounted value of what follows.",
    (collected, value, decay, elapsed),
    collected + power(decay, elapsed) * value,
    tex="R_{{{elapsed}}}",
    source=SCHULMAN.section(3),
)

one_step_further = n_step_return(collected + power(decay, elapsed) * token_return, next_value, elapsed=elapsed + 1)

discounted_rewards = recursive(
    "advantage.discounted_rewards",
    "Sum of the rewards of the tokens that count, each times a weight that falls by the factor γ from one to the next.",
    (*here, weight, following, counting, rewards, discount),
    left,
    Integer(0),
    lambda rest: (
        counting[place] * weight * rewards[place]
        + rest(place=following[place], carried_weight=weight * passed_on(discount))
    ),
    tex=r"G_{{{left}}}({place}, {carried_weight})",
)

so_far = symbol("so_far", Real, "estimate from the steps so far: the sum of their discounted residuals", tex="a")
discounted_by = symbol("discounted_by", Real, "discount of the next residual", tex="g")
one_longer = so_far + counting[place] * discounted_by * own_residual

mixture = recursive(
    "advantage.mixture",
    "Mixture of the n-step estimates of a token: each longer one has λ times the weight of the one before, and the "
    "longest has all the weight that is left. An n-step estimate is the sum of n discounted residuals.",
    (*here, weight, discounted_by, so_far, *sequence, discount, lam),
    left,
    weight * so_far,
    lambda rest: (
        counting[place] * (1 - lam) * weight * one_longer
        + rest(
            place=following[place],
            carried_weight=weight * passed_on(lam),
            discounted_by=discounted_by * passed_on(discount),
            so_far=one_longer,
        )
    ),
    tex=r"M_{{{left}}}({place}, {carried_weight}, {discounted_by}, {so_far})",
)

LIMITS = "advantage.gae.limits"

claim(
    LIMITS,
    "At λ = 0 the estimate is the residual of the token, at λ = 1 the discounted return minus the value; in between it "
    "is the mixture of the n-step estimates with weights (1 − λ)λ^(n−1).",
    holds(equals(gae(lam=0), residual()), name="λ = 0", by=algebra()),
    holds(
        equals(
            discounted(decay, error_at),
            discounted(decay, reward_at) + power(decay, K) * value_at(K + 1) - value_at(1),
        ),
        name="λ = 1",
        by=induction(K),
    ),
    holds(
        equals(one_step_further - n_step_return(), power(decay, elapsed) * residual(discount=decay)),
        name="from one n-step return to the next is a discounted residual",
        by=algebra(),
    ),
    holds(
        equals(
            (1 - decay) * discounted(decay, lambda n: n_step_at(n) - n_step_at(0))
            + power(decay, K) * (n_step_at(K) - n_step_at(0)),
            discounted(decay, lambda n: n_step_at(n) - n_step_at(n - 1)),
        ),
        name="mixture",
        by=induction(K),
    ),
    holds(
        equals(discounted_rewards(), weight * (advantage_from(lam=1) + value_from())),
        name="λ = 1, at any weight",
        by=over_depth(left),
    ),
    holds(
        equals(advantage_from(lam=1), discounted_rewards(carried_weight=1) - value_from()),
        name="λ = 1, a whole sequence",
        by=smt(given=[fact(LIMITS, part="λ = 1, at any weight", carried_weight=Integer(1))]),
    ),
    holds(
        equals(mixture(), weight * (so_far + discounted_by * advantage_from())),
        name="mixture, at any weights",
        by=over_depth(left),
    ),
    holds(
        equals(advantage_from(), mixture(carried_weight=1, discounted_by=1, so_far=0)),
        name="mixture, a whole sequence",
        by=smt(
            given=[
                fact(
                    LIMITS,
                    part="mixture, at any weights",
                    carried_weight=Integer(1),
                    discounted_by=Integer(1),
                    so_far=Integer(0),
                )
            ]
        ),
    ),
    source=SCHULMAN.eq(16),
    wrong=[
        wrong("λ = 0 is the reward minus the value", equals(gae(lam=0), token_return - value)),
        wrong(
            "λ = 1 does not subtract the value",
            equals(discounted(decay, error_at), discounted(decay, reward_at) + power(decay, K) * value_at(K + 1)),
        ),
        wrong(
            "λ = 1 is the discounted return, masked tokens counting as steps",
            equals(
                advantage_from(lam=1),
                discounted_rewards(carried_weight=1, counting=Lambda(other_place, 1)) - value_from(),
            ),
        ),
        wrong(
            "the mixture without the remaining weight of the longest estimate",
            equals(
                (1 - decay) * discounted(decay, lambda n: n_step_at(n) - n_step_at(0)),
                discounted(decay, lambda n: n_step_at(n) - n_step_at(n - 1)),
            ),
        ),
    ],
)

# Whitening. The tokens of a batch form one list, masked tokens included.

N = symbol("N", Size, "number of tokens in the batch, masked tokens included")
token = index("token", N, "a token of the batch", tex="j")
estimate = family("estimate", Real, N, text="a number for each token, such as its advantage", tex="x")
kept = family("kept", Mask(), N, text="1 where the token counts", tex="m")
centre = symbol("centre", Real, "mean of the tokens that count", tex="c")
spread = symbol("spread", NonNegative, "variance of the tokens that count", tex="v")
ddof = symbol("ddof", Mask(), "correction that a variance subtracts from its number of terms", tex=r"\mathrm{ddof}")
eps = symbol("eps", NonNegative, "constant added to the divisor of the advantages", tex=r"\epsilon")
number = symbol("number", Real, "the number to whiten", tex="x")
count = symbol("count", Size, "number of tokens that count", tex="n_m")
stretch = symbol("stretch", Positive, "a positive factor on every number", tex=r"\alpha")
raised = symbol("raised", Real, "a constant added to every number", tex=r"\beta")

token_count = define(
    "advantage.token_count",
    "Number of tokens that count; 1 by convention if there are none.",
    (kept,),
    Max(1, sum_over(kept[token], token)),
    tex="n_m",
    domain=Positive,
    convention=True,
)

freedom = define(
    "advantage.freedom",
    "Divisor of the sum of squares; 1 by convention where it would be 0, so that the variance is 0.",
    (count, ddof),
    Max(1, count - ddof),
    tex="f",
    domain=Positive,
    convention=True,
)

mean = define(
    "advantage.mean",
    "Mean of the tokens that count.",
    (estimate, kept, count),
    sum_over(kept[token] * estimate[token], token) / count,
    tex=r"\bar x",
)

variance = define(
    "advantage.variance",
    "Variance of the tokens that count.",
    (estimate, kept, centre, count, ddof),
    sum_over(kept[token] * (estimate[token] - centre) ** 2, token) / freedom(),
    tex="s^2",
)

whitened = define(
    "advantage.whitened",
    "A number minus the mean, in units of the standard deviation.",
    (number, centre, spread, eps),
    (number - centre) / sqrt(spread + eps),
    tex="w",
    source=HUANG,
)

whitened_in_place = define(
    "advantage.whitened_in_place",
    "A whitened number with the mean added back.",
    (number, centre, spread, eps),
    whitened() + centre,
    source=HUANG,
)

moments = (mean(), variance(centre=mean()))
white = whitened(estimate[token], *moments)
plainly_white = whitened(estimate[token], *moments, 0)


def whitened_after(change: Callable[[Expr], Expr]) -> Expr:
    """A token whitened after all tokens were changed."""
    changed = Lambda(token, change(estimate[token]))
    return whitened(change(estimate[token]), mean(changed), variance(changed, centre=mean(changed)))


counted = equals(sum_over(kept[token], token), count)
varied = greater(variance(centre=mean()), 0)
defined = greater(variance(centre=mean()) + eps, 0)

claim(
    "advantage.whiten",
    "Whitened tokens have mean 0 and, without an ε, variance 1 under the chosen ddof. A shift of the input has no "
    "effect; a positive factor has none without an ε.",
    holds(
        equals(sum_over(kept[token] * whitened(estimate[token], mean()), token), 0),
        name="mean, whatever the variance",
        assuming=[counted, greater(spread + eps, 0)],
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(kept[token] * plainly_white**2, token), freedom()),
        name="variance",
        assuming=[counted, varied],
        by=finite_sum(),
    ),
    holds(
        equals(whitened_after(lambda x: stretch * x + raised).subs(eps, 0), plainly_white),
        name="affine",
        assuming=[counted, varied],
        by=finite_sum(),
    ),
    holds(
        equals(whitened_after(lambda x: x + raised), white),
        name="shift",
        assuming=[counted, defined, greater(eps, 0)],
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(kept[token] * whitened_in_place(estimate[token], *moments), token) / count, mean()),
        name="the mean is kept where it is added back",
        assuming=[counted, defined],
        by=finite_sum(),
    ),
    source=HUANG,
    wrong=[
        wrong(
            "the mean over all positions, masked ones too",
            equals(
                sum_over(
                    kept[token] * whitened(estimate[token], sum_over(estimate[token], token) / N, moments[1]), token
                ),
                0,
            ),
            assuming=[counted, varied],
        ),
        wrong(
            "variance 1 whatever the ddof",
            equals(sum_over(kept[token] * plainly_white**2, token), count),
            assuming=[counted, varied],
        ),
        wrong(
            "a factor has no effect with an ε, either",
            equals(whitened_after(lambda x: stretch * x), white),
            assuming=[counted, varied],
        ),
    ],
)

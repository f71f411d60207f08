"""Derivations: advantages along a sequence and over a batch."""

from sympy import sqrt

from grape_spec.advantage import (
    advantage_from,
    count,
    counting,
    decay,
    discount,
    elapsed,
    eps,
    estimate,
    following,
    freedom,
    kept,
    lam,
    left,
    mean,
    next_advantage,
    next_value,
    own_residual,
    place,
    power,
    residual,
    spread,
    token,
    token_return,
    value,
    variance,
    weighted_residuals,
)
from grape_spec.advantage import weight as carried_weight
from grape_spec.derivations.policy import KNOWN
from grape_spec.language import derive, derive_by_induction, line, sum_over

derive(
    "advantage.gae.returns",
    line(residual() + discount * lam * next_advantage + value, "write out the advantage"),
    line(
        token_return + discount * next_value + discount * lam * next_advantage,
        "the residual subtracts the value, which cancels",
    ),
    line(
        token_return + discount * ((1 - lam) * next_value + lam * (next_value + next_advantage)),
        "V' is (1 − λ)V' + λV'",
    ),
)

derive(
    "advantage.gae.limits",
    line(
        power(decay, elapsed) * token_return + power(decay, elapsed + 1) * next_value - power(decay, elapsed) * value,
        "write out both returns: the rewards of the first n steps cancel",
    ),
    line(power(decay, elapsed) * (token_return + decay * next_value - value), "take out xⁿ"),
    line(power(decay, elapsed) * residual(discount=decay), "the bracket is the residual"),
    part="from one n-step return to the next is a discounted residual",
)

# Whitening.

counted_sum = sum_over(kept[token] * estimate[token], token)

derive(
    "advantage.whiten",
    line(
        sum_over(kept[token] * (estimate[token] - mean()), token) / sqrt(spread + eps),
        "the divisor is the same for all tokens: take it out of the sum",
    ),
    line((counted_sum - count * mean()) / sqrt(spread + eps), "so does the mean, which is subtracted n times"),
    line(0, "the mean is the sum divided by n"),
    part="mean, whatever the variance",
)

deviations = sum_over(kept[token] * (estimate[token] - mean()) ** 2, token)

derive(
    "advantage.whiten",
    line(deviations / variance(centre=mean()), "the divisor is the same for all tokens: take its square out"),
    line(freedom(), "the variance is the same sum, divided by its degrees of freedom"),
    part="variance",
)

# A whole sequence, by induction over the number of tokens that are left.

here, passed = counting[place], counting[place] * discount * lam + 1 - counting[place]
rest = advantage_from(place=following[place])

derive_by_induction(
    "advantage.gae.recursion",
    left,
    first=[
        line(0, "no token is left"),
        line(carried_weight * advantage_from(left=0), "the advantage is then 0"),
    ],
    then=[
        line(
            here * carried_weight * own_residual
            + weighted_residuals(place=following[place], carried_weight=carried_weight * passed),
            "the residual of one token if it counts, and those that follow at γλ times the weight",
        ),
        line(here * carried_weight * own_residual + carried_weight * passed * rest, KNOWN),
        line(
            carried_weight * (here * (own_residual + discount * lam * rest) + (1 - here) * rest),
            "collect the weight; a token that does not count passes on what follows",
        ),
        line(carried_weight * advantage_from(left + 1), "this is the recursion of the advantage"),
    ],
    part="a whole sequence, at any weight",
)

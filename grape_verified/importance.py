"""Importance weights: how much a token of another sampler counts. All results are constants.

The sampler is the policy that drew the tokens, as its own program computes it; the old policy is the same or a later
one, as the trainer computes it.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.arguments import (
    NON_NEGATIVE,
    POSITIVE,
    check_alike,
    check_choice,
    check_number,
    counted_tokens,
)
from grape_verified.numerics import compute_dtype, only

__all__ = ["importance_weights"]

Level = Literal["token", "sequence"]
Outside = Literal["truncate", "mask"]


@torch.no_grad()
def importance_weights(
    old_logps: Float[Tensor, "batch time"],
    sampler_logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    level: Level = "token",
    low: float = 0.0,
    high: float = 2.0,
    outside: Outside = "truncate",
) -> Float[Tensor, "batch time"]:
    """Weight of each token: the importance ratio ω within [low, high], and what `outside` says elsewhere.

        level      token      ω_t = exp(old_logp_t − sampler_logp_t)
                   sequence   ω = exp(Σ_t (old_logp_t − sampler_logp_t)) for all tokens of a sequence: the product
        outside    truncate   the nearer end of the range
                   mask       0; an ω at an end is kept

    Multiply the loss of each token by its weight before it is reduced. A token of weight 0 still counts in the
    denominator, so that the parts of a batch add up.

    The sum is exponentiated, and no product is formed, so nothing overflows: an ω beyond the range of the dtype is
    above `high`. Log-probabilities may be −inf. Under the sampler, which cannot have drawn such a token: ω = +inf, so
    the weight is `high`, or 0. Under the old policy: ω = 0. Under both, at one token or at two of a sequence whose ω is
    their product: NaN, as for a log-probability that is NaN.

    Arguments:
        old_logps: (batch, time), as the trainer computes them, before the update.
        sampler_logps: (batch, time), as the sampler computed them.
        mask: (batch, time).
        level, outside: as above.
        low: a number ≥ 0, at most `high`.
        high: a number > 0.

    Returns: (batch, time), 0 where masked.

    Error: |error| ≤ 4·u·(n·S + 1)·w for a weight w, with S the sum of |old_logp − sampler_logp| over the n tokens
    whose ratios are multiplied, where neither ω nor w is subnormal; an ω this close to an end may be masked or kept.

    Claims: importance.unbiased, importance.truncation.bias, importance.truncation.second_moment,
    importance.truncation.monotone, importance.masked.mean, importance.masked.denominator, importance.baseline,
    importance.sequence.product.

    Sources: E. L. Ionides, Truncated Importance Sampling, 2008; Ling Team, arXiv:2510.18855 (neither was compared).

    Examples:
        >>> import torch
        >>> from grape_verified import importance_weights
        >>> old_logps = torch.tensor([[0.5, 1.5, 4.0]]).log()
        >>> importance_weights(old_logps, torch.zeros(1, 3), torch.tensor([[1, 1, 1]]))
        tensor([[0.5000, 1.5000, 2.0000]])
        >>> importance_weights(old_logps, torch.zeros(1, 3), torch.tensor([[1, 1, 0]]), level="sequence")
        tensor([[0.7500, 0.7500, 0.0000]])
    """
    check_choice("level", level, get_args(Level))
    check_choice("outside", outside, get_args(Outside))
    low, high = check_range(low, high)
    check_alike("(batch, time)", old_logps=old_logps, sampler_logps=sampler_logps)
    counted = counted_tokens(mask, "old_logps", old_logps)
    ratios = log_ratios(old_logps, sampler_logps, counted, level).exp()
    if outside == "truncate":
        weights = ratios.clamp(low, high)
    else:
        weights = ratios.masked_fill((ratios < low) | (ratios > high), 0)
    return only(weights.expand(old_logps.shape).contiguous(), counted)


def check_range(low: float, high: float) -> tuple[float, float]:
    """Check the ends of a range of weights."""
    low, high = check_number("low", low, NON_NEGATIVE), check_number("high", high, POSITIVE)
    if low > high:
        raise ValueError(f"low: got {low}, expected a number that is at most high, {high}")
    return low, high


def log_ratios(
    old_logps: Tensor, sampler_logps: Tensor, counted: Tensor, level: Level
) -> Float[Tensor, "batch columns"]:
    """log ω of each token, 0 where it does not count, or of each sequence in a single column."""
    dtype = compute_dtype(old_logps, sampler_logps)
    of_tokens = only(old_logps.to(dtype) - sampler_logps.to(dtype), counted)
    return of_tokens if level == "token" else of_tokens.sum(1, keepdim=True)

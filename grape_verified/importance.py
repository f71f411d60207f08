"""Importance weights: how much a token of another sampler counts. All results are constants.

The sampler is the policy that drew the tokens, as its own program computes it; the old policy is the same or a later
one, as the trainer computes it.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.arguments import (
    NON_NEGATIVE,
    POSITIVE,
    Range,
    check_alike,
    check_choice,
    check_number,
    counted_tokens,
)
from grape_verified.numerics import compute_dtype, exp_limit, only, value_limit

__all__ = ["importance_metrics", "importance_weights", "sequence_filter"]

Statistic = Literal["geometric", "product", "max", "k3"]
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

    Multiply the advantage of each token by its weight: that is a weight on its policy loss, and on no KL penalty. A
    token of weight 0 still counts in the denominator, so that the parts of a batch add up.

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
    importance.sequence.product, importance.weighted_loss.

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


@torch.no_grad()
def sequence_filter(
    old_logps: Float[Tensor, "batch time"],
    sampler_logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    statistic: Statistic,
    low: float = 0.0,
    high: float,
) -> Float[Tensor, " batch"]:
    """1 for each sequence to keep: a statistic of the importance ratios ω_t of its n tokens is in [low, high]; else 0.

        geometric    exp(Σ_t log ω_t / n)
        product      Π_t ω_t, the ratio of the sequence
        max          max_t ω_t
        k3           Σ_t (ω_t − 1 − log ω_t) / n, never negative; estimates KL(sampler‖old)

    A statistic at an end is kept. The four have different units: a range for one is no range for another. Multiply the
    advantages by the result, `keep[:, None] * advantages`; a dropped sequence still counts in the denominator. For
    DeepSeek's mask of sequences that are far off policy, keep every sequence whose advantage is not negative, too.

    Log-probabilities may be −inf. Under the sampler: ω = +inf, above every `high` but inf. Under the old policy: ω = 0,
    and k3 is +inf. Where a sum has both, or a log-probability is NaN, the result is NaN, not silently dropped.

    Arguments:
        old_logps: (batch, time), as the trainer computes them, before the update.
        sampler_logps: (batch, time), as the sampler computed them.
        mask: (batch, time).
        statistic: as above.
        low: a number ≥ 0, at most `high`.
        high: a number > 0, or inf for no upper end.

    Returns: (batch,), 1 or 0; 0 for a sequence without tokens.

    Error: none, but for a statistic within 4·u·(S + 1)·(ω + 1) of an end, with S the sum of |old_logp − sampler_logp|
    over the tokens and ω the largest ratio; for the product within 4·u·(n·S + 1)·ω, with ω the product.

    Claims: importance.filter.means, importance.filter.statistics, importance.filter.inverse,
    importance.filter.off_policy, importance.sequence.product, importance.masked.mean.

    Sources: the off-policy mask of DeepSeek-AI, arXiv:2512.02556 (not compared).

    Examples:
        >>> import torch
        >>> from grape_verified import sequence_filter
        >>> old_logps = torch.tensor([[0.5, 2.0], [4.0, 4.0]]).log()
        >>> sequence_filter(old_logps, torch.zeros(2, 2), torch.ones(2, 2), statistic="geometric", low=0.9, high=1.1)
        tensor([1., 0.])
    """
    check_choice("statistic", statistic, get_args(Statistic))
    low, high = check_range(low, high, UPPER_END)
    check_alike("(batch, time)", old_logps=old_logps, sampler_logps=sampler_logps)
    counted = counted_tokens(mask, "old_logps", old_logps)
    found = _statistic(log_ratios(old_logps, sampler_logps, counted, "token"), counted, statistic)
    kept = ((found >= low) & (found <= high) & counted.any(1)).to(found.dtype)
    return torch.where(found.isnan(), found, kept)


def _statistic(logs: Tensor, counted: Tensor, statistic: Statistic) -> Float[Tensor, " batch"]:
    """The statistic of each row of log-ratios, which are 0 where a token does not count."""
    number = counted.sum(1).clamp(min=1).to(logs.dtype)
    if statistic == "product":
        return logs.sum(1).exp()
    if statistic == "geometric":
        return (logs.sum(1) / number).exp()
    if statistic == "k3":
        limit = value_limit(logs.dtype)
        return (logs.clamp(-limit, limit).expm1() - logs.clamp(-limit, limit)).sum(1) / number
    if not logs.shape[1]:
        return logs.new_zeros(len(logs))
    return logs.masked_fill(~counted, -math.inf).amax(1).exp()


@torch.no_grad()
def importance_metrics(
    old_logps: Float[Tensor, "batch time"],
    sampler_logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    level: Level = "token",
    low: float = 0.0,
    high: float = 2.0,
) -> dict[str, Float[Tensor, ""]]:
    """How far the old policy is from its sampler, from the importance ratios ω of the samples.

        ratio_mean        the mean of ω; its expectation is 1, if the sampler can draw what the old policy can
        chi_squared       the mean of (ω − 1)²; its expectation is the variance of ω, χ²(old‖sampler)
        mismatch_kl       the mean of ω − 1 − log ω, never negative; its expectation is KL(sampler‖old)
        effective_share   (Σω)² / (n Σω²), the effective sample size over n; from 1/n to 1
        outside           the share of ω outside [low, high], which `importance_weights` truncates or masks

    The means are over the counted tokens of this call, or over its sequences that have any; all are 0 if there are
    none. In a mean, a log-ratio above 36 counts as 36 (346 in fp64), so that no square overflows.

    Arguments:
        old_logps, sampler_logps, mask, level, low, high: as in `importance_weights`.

    Returns: 0-d tensors by name, as above.

    Error: |error| ≤ 8·u·(E + log₂ n + 4)·s over n samples, with E the largest n·S of `importance_weights` and the scale
    s: the value of ratio_mean and of effective_share, the mean of (ω + 1)² for chi_squared, and that of ω + 1 + |log ω|
    for mismatch_kl; where no log-ratio is above 36.

    Claims: importance.chi_squared, importance.effective_sample_size, importance.effective_sample_size.bound,
    kl.k3.unbiased, kl.k3.nonnegative.

    Examples:
        >>> import torch
        >>> from grape_verified import importance_metrics
        >>> old_logps = torch.tensor([[0.5, 1.5, 4.0]]).log()
        >>> found = importance_metrics(old_logps, torch.zeros(1, 3), torch.tensor([[1, 1, 1]]))
        >>> {name: round(x.item(), 4) for name, x in found.items()}
        {'ratio_mean': 2.0, 'chi_squared': 3.1667, 'mismatch_kl': 0.6338, 'effective_share': 0.6486, 'outside': 0.3333}
    """
    check_choice("level", level, get_args(Level))
    low, high = check_range(low, high)
    check_alike("(batch, time)", old_logps=old_logps, sampler_logps=sampler_logps)
    counted = counted_tokens(mask, "old_logps", old_logps)
    logs = log_ratios(old_logps, sampler_logps, counted, level)
    samples = counted if level == "token" else counted.any(1, keepdim=True)
    number = samples.sum().to(logs.dtype)
    ratios, limit = logs.exp(), value_limit(logs.dtype)
    logs = logs.clamp(-limit, limit)
    capped = logs.clamp(max=exp_limit(logs.dtype) / 2)
    change = capped.expm1()

    def mean(x: Tensor) -> Tensor:
        return only(x, samples).sum() / number.clamp(min=1)

    return {
        "ratio_mean": mean(change + 1),
        "chi_squared": mean(change.square()),
        "mismatch_kl": mean(change - capped),
        "effective_share": _effective_size(logs, samples) / number.clamp(min=1),
        "outside": mean(((ratios < low) | (ratios > high)).to(logs.dtype)),
    }


def _effective_size(logs: Tensor, samples: Tensor) -> Tensor:
    """(Σω)² / Σω², 0 without samples; relative to the largest ω, so that they neither overflow nor all vanish."""
    if not logs.numel():
        return logs.new_zeros(())
    ratios = only((logs - logs.masked_fill(~samples, -math.inf).amax()).exp(), samples)
    return ratios.sum().square() / ratios.square().sum().clamp(min=1)


#: The upper end of a range that need not have one.
UPPER_END = Range("a number > 0", low=0.0, ends="(]")


def check_range(low: float, high: float, above: Range = POSITIVE) -> tuple[float, float]:
    """Check the ends of a range of weights, or of statistics."""
    low = check_number("low", low, NON_NEGATIVE)
    high = math.inf if high == math.inf and math.inf in above else check_number("high", high, above)
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

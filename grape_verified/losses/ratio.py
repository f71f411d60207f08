"""What every loss of the importance ratio reads of its tokens, and the metrics that these losses share."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grape_verified.aggregation import Reduction, reduced
from grape_verified.arguments import check_alike, counted_tokens, token_advantages
from grape_verified.losses.output import LossOutput
from grape_verified.numerics import difference, only

__all__: list[str] = []


class RatioTokens(NamedTuple):
    """Tokens in the compute dtype. Where a token does not count, the ratio is 1 and the advantage 0.

    log_ratio: d = logp − old_logp, at most the largest number whose exponential is finite; ratio: ρ = exp(d), with
    slope ρ in logp where d saturates, too. Only these two carry a gradient, that of logps.
    """

    log_ratio: Float[Tensor, "batch time"]
    ratio: Float[Tensor, "batch time"]
    advantages: Float[Tensor, "batch time"]
    counted: Bool[Tensor, "batch time"] | None


def ratio_tokens(logps: Tensor, old_logps: Tensor, advantages: Tensor) -> RatioTokens:
    """Check what a loss of the ratio reads of every token."""
    check_alike("(batch, time)", logps=logps, old_logps=old_logps)
    advantages = token_advantages(advantages, logps)
    log_ratio = difference(logps, old_logps, exponent=1)
    return RatioTokens(log_ratio, log_ratio.exp(), advantages.to(log_ratio.dtype), None)


def counted_ratio_tokens(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> RatioTokens:
    """Check what a loss of the ratio reads, and leave in it only the tokens that count."""
    check_alike("(batch, time)", logps=logps, old_logps=old_logps)
    advantages = token_advantages(advantages, logps)
    counted = counted_tokens(mask, "logps", logps)
    log_ratio = difference(logps, old_logps, counted, exponent=1)
    return RatioTokens(log_ratio, log_ratio.exp(), only(advantages.to(log_ratio.dtype), counted), counted)


def ratio_output(per_token: Tensor, tokens: RatioTokens, reduction: Reduction, **values: Tensor) -> LossOutput:
    """The aggregate of per-token values, with the metrics of the ratio and the means of what else is given."""
    assert tokens.counted is not None
    metrics = ratio_metrics(tokens, tokens.counted, reduction.mode == "sequence_mean", **values)
    return LossOutput(reduced(per_token, tokens.counted, reduction), per_token, metrics)


@torch.no_grad()
def ratio_metrics(tokens: RatioTokens, counted: Tensor, by_rows: bool = False, **values: Tensor) -> dict[str, Tensor]:
    """Means over what counts, 0 if nothing does: ratio_mean of ρ, approx_kl of expm1(d) − d, and of these values."""
    number = counted.sum().to(tokens.ratio.dtype)
    divisor = number.clamp(min=1)
    change = tokens.log_ratio.expm1()  # of ρ from 1, with all its digits, and 0 where no token counts

    def mean(x: Tensor) -> Tensor:
        """Over what counts; a compiler joins sums of rows only with sums of rows."""
        return (x.sum(-1) if by_rows and torch.compiler.is_compiling() else x).sum() / divisor

    means = {name: mean(value) for name, value in values.items()}
    return {**means, "ratio_mean": mean(change) + number / divisor, "approx_kl": mean(change - tokens.log_ratio)}

"""The importance ratio of each token, and the metrics that losses of the ratio share."""

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
    """Tokens in the compute dtype. Where masked, the ratio is 1 and the advantage 0.

    log_ratio: d = logp − old_logp, at most the largest number whose exponential is finite. ratio: ρ = exp(d), with
    slope ρ in logp even where d saturates. Only these two carry a gradient, in logps.
    """

    log_ratio: Float[Tensor, "batch time"]
    ratio: Float[Tensor, "batch time"]
    advantages: Float[Tensor, "batch time"]
    counted: Bool[Tensor, "batch time"] | None


def ratio_tokens(logps: Tensor, old_logps: Tensor, advantages: Tensor) -> RatioTokens:
    """Check the inputs of a loss before reduction; return its tokens."""
    check_alike("(batch, time)", logps=logps, old_logps=old_logps)
    advantages = token_advantages(advantages, logps)
    log_ratio = difference(logps, old_logps, exponent=1)
    return RatioTokens(log_ratio, log_ratio.exp(), advantages.to(log_ratio.dtype), None)


def counted_ratio_tokens(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> RatioTokens:
    """Check the inputs of a loss; return its tokens, neutral where masked."""
    check_alike("(batch, time)", logps=logps, old_logps=old_logps)
    advantages = token_advantages(advantages, logps)
    counted = counted_tokens(mask, "logps", logps)
    log_ratio = difference(logps, old_logps, counted, exponent=1)
    return RatioTokens(log_ratio, log_ratio.exp(), only(advantages.to(log_ratio.dtype), counted), counted)


def ratio_output(per_token: Tensor, tokens: RatioTokens, reduction: Reduction, **values: Tensor) -> LossOutput:
    """The output of a loss: the aggregate, the metrics of the ratio, and the means of further values."""
    assert tokens.counted is not None
    metrics = ratio_metrics(tokens, tokens.counted, reduction.mode == "sequence_mean", **values)
    return LossOutput(reduced(per_token, tokens.counted, reduction), per_token, metrics)


@torch.no_grad()
def ratio_metrics(tokens: RatioTokens, counted: Tensor, by_rows: bool = False, **values: Tensor) -> dict[str, Tensor]:
    """Means over the counted tokens, 0 if there are none: of ρ, of expm1(d) − d, and of further values."""
    number = counted.sum().to(tokens.ratio.dtype)
    divisor = number.clamp(min=1)
    change = tokens.log_ratio.expm1()  # ρ − 1 without cancellation, 0 where masked

    def mean(x: Tensor) -> Tensor:
        """The mean over the counted tokens. A compiler fuses sums over rows only with each other."""
        return (x.sum(-1) if by_rows and torch.compiler.is_compiling() else x).sum() / divisor

    means = {name: mean(value) for name, value in values.items()}
    return {**means, "ratio_mean": mean(change) + number / divisor, "approx_kl": mean(change - tokens.log_ratio)}

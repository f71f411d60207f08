"""Supervised fine-tuning: the negative log-likelihood of one token."""

from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import check_reduction, reduced
from grape_verified.arguments import Aggregation, check_floating, counted_tokens
from grape_verified.losses.output import LossOutput, means_over
from grape_verified.numerics import compute_dtype, only, saturate_

__all__ = ["sft_loss", "sft_per_token"]


def sft_per_token(logps: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Negative log-likelihood of each token, −logp.

    The log-probability at position t must be that of the token after position t, as `token_logps` gives it for
    targets shifted by one.

    Arguments:
        logps: (batch, time).

    Returns: (batch, time).

    Error: none, where the value does not saturate.

    Claims: sft.gradient, sft.shift.

    Examples:
        >>> import torch
        >>> from grape_verified import sft_per_token
        >>> sft_per_token(torch.tensor([[-1.0, -2.5]]))
        tensor([[1.0000, 2.5000]])
    """
    check_floating("logps", logps, "(batch, time)")
    return saturate_(-logps.to(compute_dtype(logps)))


def sft_loss(
    logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """Loss of supervised fine-tuning: `sft_per_token`, aggregated over the tokens that count.

    Arguments:
        logps: (batch, time).
        mask: (batch, time).
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics, each a mean over the counted tokens of this call:
        nll: −logp, whatever the aggregation and its denominator.

    Error: that of `aggregate`.

    Claims: sft.gradient, sft.accumulation, and those of `aggregate`.

    Examples:
        >>> import torch
        >>> from grape_verified import sft_loss
        >>> sft_loss(torch.tensor([[-1.0, -2.0, -9.0]]), torch.tensor([[1, 1, 0]])).loss.item()
        1.5
    """
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    check_floating("logps", logps, "(batch, time)")
    counted = counted_tokens(mask, "logps", logps)
    per_token = saturate_(-only(logps.to(compute_dtype(logps)), counted))
    return LossOutput(reduced(per_token, counted, reduction), per_token, means_over(counted, nll=per_token))

"""Supervised fine-tuning: the negative log-likelihood of one token."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import aggregate
from grape_verified.arguments import Aggregation, check_aggregation, check_floating, counted_tokens
from grape_verified.losses.output import LossOutput
from grape_verified.numerics import bounded, compute_dtype

__all__ = ["sft_loss", "sft_per_token"]


def sft_per_token(logps: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Negative log-likelihood of each token, −logp.

    The log-probability at position t must be that of the token that follows position t, as `token_logps` gives it for
    targets shifted by one. A value beyond ± finfo.max · 2⁻²⁴, −∞ included, saturates there and its slope is kept.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype or shape.

    Error: none, where the value does not saturate.

    Claims: sft.token_loss, sft.gradient, sft.shift.
    """
    check_floating("logps", logps, "(batch, time)")
    return bounded(-logps.to(compute_dtype(logps)))


def sft_loss(
    logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """The loss of supervised fine-tuning: the aggregate of `sft_per_token` over the tokens that count.

    Micro-batches add up to the full batch if each is given the denominator of the full batch; their means do not.
    Masked entries may hold anything, NaN and inf included. If no token counts, the loss is 0 with zero gradients.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none:
        nll: of −logp, whatever the aggregation and its denominator.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option.

    Error: that of `aggregate`.

    Claims: sft.objective, sft.gradient, sft.accumulation, and those of `aggregate`.
    """
    check_aggregation("aggregation", aggregation, denominator, max_length)
    values = sft_per_token(logps)
    counted = counted_tokens(mask, "logps", logps)
    per_token = values.masked_fill(~counted, 0)
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    return LossOutput(loss, per_token, {"nll": _mean(per_token, counted)})


@torch.no_grad()
def _mean(per_token: Tensor, counted: Tensor) -> Tensor:
    """The mean over the counted tokens, as a metric."""
    return aggregate(per_token, counted, "token_mean")

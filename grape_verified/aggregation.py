"""From per-token values to one number."""

from typing import get_args

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch import distributed as dist
from torch.distributed import ProcessGroup

from grape_verified.arguments import (
    Aggregation,
    check_aggregation,
    check_choice,
    check_floating,
    check_group,
    check_tensor,
    counted_tokens,
)
from grape_verified.numerics import compute_dtype

__all__ = ["aggregate", "aggregation_denominator"]


def aggregate(
    per_token: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    mode: Aggregation,
    *,
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> Float[Tensor, ""]:
    """Reduce per-token values x to one number, counting the tokens where the mask m is 1.

        token_mean      Σ_it m_it x_it / D                      D: number of counted tokens
        sequence_mean   Σ_i (Σ_t m_it x_it / Σ_t m_it) / D      D: number of rows
        sequence_sum    Σ_i Σ_t m_it x_it / D                   D: number of rows
        token_sum       Σ_it m_it x_it
        fixed_length    Σ_it m_it x_it / (D · max_length)       D: number of rows

    D is `denominator`, or what stands on the right when it is None. When a batch is split into micro-batches, each
    called with the denominator of the whole batch, the results add up to that of the whole batch, in every mode; the
    mean of micro-batch means would not. `aggregation_denominator` gives that of all ranks of a data-parallel group.

    A row without a counted token contributes 0 and still counts as a row. If nothing counts, the result is 0 with
    zero gradients. Masked entries may hold anything, NaN and inf included: value and gradient are unaffected.

    Arguments:
        per_token: (batch, time), any floating-point dtype, reduced in fp32 (fp64 stays fp64).
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        mode: one of the five above.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one, not differentiated; not with "token_sum".
        max_length: a length > 0 that every row is divided by, required by "fixed_length" and only allowed there.
            Rows with more counted tokens are not refused.

    Returns: 0-d tensor, fp32 (fp64 for fp64).

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mode, mask value or option.

    Error: |error| ≤ 8·u·S, u the unit roundoff of the compute dtype and S the same reduction of |x|, measured for up
    to 2²⁰ tokens.

    Claims: aggregation.token_mean, aggregation.sequence_mean, aggregation.sequence_sum, aggregation.token_sum,
    aggregation.fixed_length, aggregation.gradient, aggregation.partition.
    """
    check_aggregation("mode", mode, denominator, max_length)
    check_floating("per_token", per_token, "(batch, time)")
    counted = counted_tokens(mask, "per_token", per_token)
    values = per_token.to(compute_dtype(per_token)).masked_fill(~counted, 0)
    if mode == "token_sum":
        return values.sum()
    if mode == "sequence_mean":
        total = (values.sum(1) / counted.sum(1).clamp(min=1)).sum()
    elif max_length is not None:  # "fixed_length", and no other mode
        total = values.sum() / max_length
    else:
        total = values.sum()
    return divide(total, denominator, _count(counted, mode).clamp(min=1))


def aggregation_denominator(
    mask: Shaped[Tensor, "batch time"], mode: Aggregation, *, group: ProcessGroup | None = None
) -> Int[Tensor, ""]:
    """The denominator D that `aggregate` has by default, of the batches of all ranks together.

        token_mean                                  Σ_r Σ_it m_it
        sequence_mean, sequence_sum, fixed_length   Σ_r (number of rows of rank r)

    Given to `aggregate` or to a loss as its `denominator` on every rank, the results of all ranks add up to that of the
    whole batch, and so do gradients. Where gradients are averaged over ranks, as data-parallel wrappers do, multiply
    the loss by the number of ranks.

    Arguments:
        mask: (batch, time), this rank's, 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        mode: as in `aggregate`, but "token_sum", which has no denominator.
        group: the ranks, each of which calls this; None for this process alone.

    Returns: 0-d tensor, int64, at least 1.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, mode or mask value.

    Error: none.

    Claims: aggregation.token_count, aggregation.partition.
    """
    check_choice("mode", mode, tuple(name for name in get_args(Aggregation) if name != "token_sum"))
    check_group(group)
    check_tensor("mask", mask)
    if mask.ndim != 2:
        raise ValueError(f"mask: got shape {tuple(mask.shape)}, expected shape (batch, time)")
    count = _count(counted_tokens(mask, "mask", mask), mode)
    if group is not None:
        dist.all_reduce(count, group=group)
    return count.clamp(min=1)


def _count(counted: Tensor, mode: str) -> Tensor:
    """The number of tokens that count, or of all rows."""
    return counted.sum() if mode == "token_mean" else torch.full((), len(counted), device=counted.device)


def divide(total: Tensor, denominator: float | Tensor | None, default: int | Tensor) -> Tensor:
    """total / denominator, or total / default without one. A divisor is a constant and never changes the dtype."""
    divisor = default if denominator is None else denominator
    return total / (divisor.detach().to(total) if isinstance(divisor, Tensor) else divisor)

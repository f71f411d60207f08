"""The reduction of per-token values to one number."""

from numbers import Integral
from typing import NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch import distributed as dist
from torch.distributed import ProcessGroup

from grape_verified.arguments import (
    LARGEST,
    Aggregation,
    check_choice,
    check_denominator,
    check_floating,
    check_group,
    check_tensor,
    counted_tokens,
)
from grape_verified.numerics import compute_dtype, only, savable

__all__ = ["aggregate", "aggregation_denominator"]


def aggregate(
    per_token: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    mode: Aggregation,
    *,
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> Float[Tensor, ""]:
    """Reduce per-token values x to one number, over the tokens where the mask m is 1.

        token_mean      Σ_it m_it x_it / D                      D: number of counted tokens
        sequence_mean   Σ_i (Σ_t m_it x_it / Σ_t m_it) / D      D: number of rows
        sequence_sum    Σ_i Σ_t m_it x_it / D                   D: number of rows
        token_sum       Σ_it m_it x_it
        fixed_length    Σ_it m_it x_it / (D · max_length)       D: number of rows

    D is `denominator`, or the number on the right when it is None. `aggregation_denominator` counts over all ranks of
    a data-parallel group. A row without a counted token contributes 0 and still counts as a row.

    Arguments:
        per_token: (batch, time).
        mask: (batch, time).
        mode: one of the above.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one; a constant; not with "token_sum".
        max_length: a length > 0 that every row is divided by; with "fixed_length" only, and required there. Rows with
            more counted tokens are accepted.

    Returns: 0-d tensor.

    Error: |error| ≤ 8·u·S, S the same reduction of |x|, measured for up to 2²⁰ tokens. In any order of summation
    |error| ≤ 1.01·(h + 6)·u·S, h the most additions between a value and the result, where (h + 6)·u ≤ 1/200 and
    nothing underflows (theorem aggregate_error).

    Claims: aggregation.gradient, aggregation.partition.

    Examples:
        >>> import torch
        >>> from grape_verified import aggregate
        >>> values, mask = torch.tensor([[1.0, 2.0], [6.0, 0.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> aggregate(values, mask, "token_mean").item()
        3.0
        >>> aggregate(values, mask, "sequence_mean").item()
        3.75
    """
    reduction = check_reduction("mode", mode, denominator, max_length)
    check_floating("per_token", per_token, "(batch, time)")
    counted = counted_tokens(mask, "per_token", per_token)
    return reduced(only(per_token.to(compute_dtype(per_token)), counted), counted, reduction)


class Reduction(NamedTuple):
    """A mode of `aggregate` with its options, checked."""

    mode: str
    denominator: float | Tensor | None
    max_length: float | None


def check_reduction(name: str, mode: str, denominator: float | Tensor | None, max_length: int | None) -> Reduction:
    """Check an aggregation mode, the argument `name` of the caller, and its options."""
    check_choice(name, mode, get_args(Aggregation))
    if mode == "token_sum" and denominator is not None:
        raise ValueError(f"denominator: got {denominator}, expected None with {name} 'token_sum', which divides by 1")
    if mode != "fixed_length" and max_length is not None:
        raise ValueError(f"max_length: got {max_length}, expected None with {name} {mode!r}, which does not use it")
    length = _check_max_length(max_length) if mode == "fixed_length" else None
    return Reduction(mode, check_denominator(denominator), length)


def _check_max_length(max_length: int | None) -> float:
    """Check the length that every row is divided by; return it as a float."""
    expected = "an integer > 0, which 'fixed_length' divides by"
    if isinstance(max_length, bool) or not isinstance(max_length, Integral):
        raise TypeError(f"max_length: got {max_length!r}, expected {expected}")
    if not 0 < max_length <= LARGEST:
        raise ValueError(f"max_length: got {max_length}, expected {expected}")
    return float(max_length)


def reduced(
    values: Float[Tensor, "batch time"], counted: Bool[Tensor, "batch time"], reduction: Reduction
) -> Float[Tensor, ""]:
    """`aggregate` without checks, of values that are 0 where masked."""
    mode, denominator, length = reduction
    if mode == "token_sum":
        return values.sum()
    if mode == "token_mean":
        return divide(values.sum(), counted.sum().clamp(min=1) if denominator is None else denominator)
    if mode == "sequence_mean":
        whole = (values.sum(1) / counted.sum(1).clamp(min=1)).sum()
    else:
        whole = values.sum() if length is None else values.sum() / length
    return divide(whole, max(1, len(values)) if denominator is None else denominator)


def aggregation_denominator(
    mask: Shaped[Tensor, "batch time"], mode: Aggregation, *, group: ProcessGroup | None = None
) -> Int[Tensor, ""]:
    """The default denominator D of `aggregate` for the batches of all ranks together.

        token_mean                                  Σ_r Σ_it m_it
        sequence_mean, sequence_sum, fixed_length   Σ_r (number of rows of rank r)

    Pass it as `denominator` to `aggregate` or to a loss on every rank: the results of all ranks then add up to that of
    the whole batch, and so do the gradients. Data-parallel wrappers average gradients over ranks: with them, multiply
    the loss by the number of ranks.

    Arguments:
        mask: (batch, time), this rank's.
        mode: as in `aggregate`, except "token_sum", which has no denominator.
        group: the ranks, all of which call this function; None for this process alone.

    Returns: 0-d tensor, int64, at least 1.

    Error: none.

    Claims: aggregation.partition.

    Examples:
        >>> import torch
        >>> from grape_verified import aggregation_denominator
        >>> aggregation_denominator(torch.tensor([[1, 1, 0], [1, 0, 0]]), "token_mean").item()
        3
    """
    check_choice("mode", mode, tuple(name for name in get_args(Aggregation) if name != "token_sum"))
    check_group(group)
    check_tensor("mask", mask)
    if mask.ndim != 2:
        raise ValueError(f"mask: got shape {tuple(mask.shape)}, expected shape (batch, time)")
    counted = counted_tokens(mask, "mask", mask)
    count = counted.sum() if mode == "token_mean" else torch.full((), len(counted), device=counted.device)
    if group is not None:
        dist.all_reduce(count, group=group)
    return count.clamp(min=1)


def divide(whole: Tensor, denominator: float | int | Tensor) -> Tensor:
    """whole / denominator in the dtype of whole; the denominator is a constant."""
    return whole / (savable(denominator.detach()).to(whole) if isinstance(denominator, Tensor) else denominator)

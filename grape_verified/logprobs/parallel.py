"""Communication between ranks that each hold a part of the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import ProcessGroup
from torch.distributed.distributed_c10d import _resolve_process_group


def ranks(group: ProcessGroup | None) -> int:
    """The number of parts of the vocabulary: one without a group."""
    return 1 if group is None else dist.get_world_size(group)


def group_named(name: str | None) -> ProcessGroup | None:
    """The group with a name: operators take names of groups."""
    return None if name is None else _resolve_process_group(name)  # type: ignore[arg-type, no-any-return, unused-ignore]


def first_token(weight: Tensor, group: ProcessGroup | None) -> int:
    """The token of the vocabulary that the first row of this rank's weight belongs to."""
    return 0 if group is None else dist.get_rank(group) * len(weight)


def largest_shift(shift: Tensor, size: int, group: ProcessGroup) -> Tensor:
    """The largest shift of each row over all ranks. The same call checks that all parts have the same size."""
    packed = torch.cat([shift, shift.new_tensor([size, -size])])
    dist.all_reduce(packed, dist.ReduceOp.MAX, group=group)
    largest, smallest = packed[-2:].abs().int().tolist()
    if largest != smallest:
        raise ValueError(
            f"weight: got {size} rows on this rank and {smallest} to {largest} on all, expected equally many; pad the "
            "vocabulary with rows whose bias is -inf"
        )
    return packed[:-2]


def summed(x: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum x over all ranks, in place; without a group, return x unchanged."""
    if group is not None:
        dist.all_reduce(x, dist.ReduceOp.SUM, group=group)
    return x

"""Packed rows, which hold several sequences one after the other, as rows of one sequence each."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from grape_verified.arguments import check_has_values, check_same_shape, check_tensor

__all__ = ["unpack_sequences"]


def unpack_sequences(
    packed: Shaped[Tensor, "*rows tokens"], sequence_ids: Int[Tensor, "*rows tokens"]
) -> Shaped[Tensor, "batch time"]:
    """Rows of one sequence each, from rows that hold several sequences one after the other.

    Every loss, advantage and reduction takes rows of one sequence each. Unpack their inputs: log-probabilities, the
    mask, and what else there is a number of for each token. Logits and hidden states stay packed. The entries are
    moved, not computed with, so losses and gradients are those of padded rows to the last bit.

    The mask is 0 after the end of a sequence because the result is. Where a model reads packed rows, the first token of
    a sequence must not be predicted from the last state of the one before: shift within each sequence, or mask it.

    Arguments:
        packed: (tokens,) or (rows, tokens), of any dtype; differentiated.
        sequence_ids: like packed, integers: one number >= 0 for all tokens of a sequence, which stand side by side,
            and −1 for padding. Rows are numbered independently: the same id in another row is another sequence. From
            `cu_seqlens`, the ends of the sequences with a 0 before them:
            `torch.repeat_interleave(torch.arange(len(cu_seqlens) - 1), cu_seqlens.diff())`.

    Returns: (batch, time): a row for each sequence, in the order in which they stand, as long as the longest; 0 after
    the end of a sequence.

    Raises: ValueError also if the tokens of a sequence do not stand side by side.

    `torch.compile` breaks the graph at the call, because the shape of the result depends on the ids; on a GPU, the call
    synchronises with the device.

    Error: none; entries are moved.

    Claims: aggregation.packed.

    Examples:
        >>> import torch
        >>> from grape_verified import unpack_sequences
        >>> unpack_sequences(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0, 0, 0, 1]))
        tensor([[0.1000, 0.2000, 0.3000],
                [0.4000, 0.0000, 0.0000]])
    """
    _check(packed, sequence_ids)
    return torch.compiler.disable(_unpacked)(packed, sequence_ids)


def _check(packed: Tensor, sequence_ids: Tensor) -> None:
    check_tensor("packed", packed)
    check_tensor("sequence_ids", sequence_ids)
    if packed.ndim not in (1, 2):
        raise ValueError(f"packed: got shape {tuple(packed.shape)}, expected (tokens,) or (rows, tokens)")
    if sequence_ids.is_floating_point() or sequence_ids.is_complex() or sequence_ids.dtype == torch.bool:
        raise TypeError(f"sequence_ids: got dtype {sequence_ids.dtype}, expected an integer dtype")
    check_same_shape("sequence_ids", sequence_ids, "packed", packed)


def _unpacked(packed: Tensor, sequence_ids: Tensor) -> Tensor:
    check_has_values("sequence_ids", sequence_ids)
    ids = torch.atleast_2d(sequence_ids.long())
    there = ids >= 0
    first = there.clone()
    first[:, 1:] &= ids[:, 1:] != ids[:, :-1]
    starts = first.nonzero(as_tuple=True)
    _check_contiguous(ids, *starts)
    places = there.nonzero(as_tuple=True)
    sequence = (first.flatten().cumsum(0) - 1).view_as(ids)[places]
    position = places[1] - starts[1][sequence]
    time = int(position.max()) + 1 if len(position) else 0
    return packed.new_zeros(len(starts[1]), time).index_put((sequence, position), torch.atleast_2d(packed)[places])


def _check_contiguous(ids: Tensor, rows: Tensor, starts: Tensor) -> None:
    """Refuse an id that starts twice in a row: its tokens would be taken for two sequences."""
    found = torch.stack([rows, ids[rows, starts]])
    different, count = found.unique(dim=1, return_counts=True)
    if different.shape[1] < found.shape[1]:
        twice = int(different[1, count > 1][0])
        raise ValueError(
            f"sequence_ids: got {twice} at separate places of a row, expected the tokens of a sequence side by side"
        )

"""What losses return: the loss, its terms and metrics."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from grape_verified.aggregation import divide

__all__ = ["LossOutput", "PairLossOutput", "SequenceLossOutput"]


class LossOutput(NamedTuple):
    """A loss over tokens.

    loss: the number to differentiate. per_token: its terms before aggregation, 0 where masked.
    metrics: detached 0-d tensors, each defined in the docstring of the loss.
    """

    loss: Float[Tensor, ""]
    per_token: Float[Tensor, "batch time"]
    metrics: dict[str, Tensor]


class PairLossOutput(NamedTuple):
    """A loss over pairs of a chosen and a rejected response.

    loss: the number to differentiate. per_pair: its terms before the sum.
    metrics: detached 0-d tensors, each defined in the docstring of the loss.
    """

    loss: Float[Tensor, ""]
    per_pair: Float[Tensor, " batch"]
    metrics: dict[str, Tensor]


class SequenceLossOutput(NamedTuple):
    """A loss over sequences.

    loss: the number to differentiate. per_sequence: its terms before the sum, 0 for a sequence without tokens.
    metrics: detached 0-d tensors, each defined in the docstring of the loss.
    """

    loss: Float[Tensor, ""]
    per_sequence: Float[Tensor, " batch"]
    metrics: dict[str, Tensor]


def means_over(counted: Bool[Tensor, "..."], **values: Tensor) -> dict[str, Tensor]:
    """The mean of each value over the counted tokens, 0 if there are none. Values must be 0 or False where masked."""
    dtype = next((x.dtype for x in values.values() if x.is_floating_point()), torch.float32)
    count = counted.sum().clamp(min=1).to(dtype)
    return {name: x.detach().sum() / count for name, x in values.items()}


def mean_of_rows(values: Float[Tensor, " batch"], denominator: float | Tensor | None) -> Float[Tensor, ""]:
    """The sum over pairs or sequences divided by the denominator, by default their number; 0 for an empty batch."""
    return divide(values.sum(), max(1, len(values)) if denominator is None else denominator)


def means_over_rows(**values: Float[Tensor, " batch"]) -> dict[str, Tensor]:
    """The mean of each value over pairs, 0 for an empty batch."""
    return {name: mean_of_rows(x.detach(), None) for name, x in values.items()}

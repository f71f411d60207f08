"""What a loss returns."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

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

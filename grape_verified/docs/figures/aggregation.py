"""Aggregation: the weight of a token."""

from typing import get_args

import torch
from torch import Tensor

from grape_verified import aggregate
from grape_verified.arguments import Aggregation
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure

#: Tokens of the short and of the long response, and the length that `fixed_length` divides by.
SHORT, LONG, FIXED = 2, 8, 10


def aggregation_weights() -> list[Panel]:
    """The derivative of the aggregate with respect to one token of a short and of a long response, in every mode."""
    mask = torch.arange(LONG) < torch.tensor([[SHORT], [LONG]])
    modes = get_args(Aggregation)
    places = torch.arange(len(modes)).flip(0)
    weights = torch.stack([_token_weights(mask, mode) for mode in modes])
    lines = [
        Line(f"token of {length}", weights[:, row], places + 0.12 * (1 - 2 * row), row + 1, "points")
        for row, length in enumerate((SHORT, LONG))
    ]
    ticks = dict(zip(places.tolist(), modes, strict=True))
    return [Panel("weight of the token", "", lines, y_ticks=ticks, logarithmic="x", y_limits=(-0.5, len(modes) - 0.5))]


def _token_weights(mask: Tensor, mode: Aggregation) -> Tensor:
    """The derivative of the aggregate with respect to the first token of each response."""
    length = FIXED if mode == "fixed_length" else None
    per_token = torch.zeros(mask.shape, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(aggregate(per_token, mask, mode, max_length=length), per_token)
    return slopes[:, 0]


FIGURES = (
    Figure(
        "aggregation_weights",
        aggregation_weights,
        "The weight of a token in the loss",
        f"A batch of two responses, one of {SHORT} and one of {LONG} tokens; fixed_length divides by {FIXED}. Only "
        "under sequence_mean does the weight of a token depend on the length of its response. The other modes weight "
        "all tokens equally and differ from each other by one factor per batch, which acts like a learning rate.",
        ("aggregate",),
        ("aggregation.gradient", "grpo.length_weight"),
    ),
)

"""Functions of a margin: their values and their slopes."""

import torch

from grape_verified import preference_per_pair
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, grid, value_and_slope

KINDS = {"sigmoid": {}, "hinge": {}, "exponential": {}, "exo": {"label_smoothing": 0.1}}


def preference_slope() -> list[Panel]:
    """Each function by the margin, with β = 1, and its slope."""
    margins = grid(-4, 6)
    zeros = torch.zeros_like(margins)
    values, slopes = [], []
    for number, (kind, options) in enumerate(KINDS.items(), 1):

        def loss(x: torch.Tensor, kind: str = kind, options: dict[str, float] = options) -> torch.Tensor:
            return preference_per_pair(x, zeros, zeros, zeros, kind=kind, beta=1.0, **options)  # type: ignore[arg-type]

        value, slope = value_and_slope(loss, margins)
        values.append(Line(kind, margins, value, number))
        slopes.append(Line(kind, margins, slope, number))
    return [
        Panel("margin", "", values, title="loss", y_limits=(-0.2, 5)),
        Panel("margin", "", slopes, title="slope", y_limits=(-3, 1)),
    ]


FIGURES = (
    Figure(
        "preference_slope",
        preference_slope,
        "Functions of the margin and their slopes",
        "Loss of a pair by its margin, for β = 1 and, in EXO, ε = 0.1. The slope of the sigmoid lies between −1 and 0, "
        "that of the hinge is −1 up to its kink and 0 beyond, and that of the exponential has no bound on the left. "
        "EXO pulls to log 9, and hardly pulls pairs that are far on either side.",
        ("preference_per_pair",),
        (
            "preference.hinge.slope",
            "preference.exponential.slope",
            "preference.exo.slope",
            "preference.at_zero",
        ),
    ),
)

"""Figures, and functions that the figures of several chapters share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from grape_verified.docs.drawing import Panel, draw


class Figure(NamedTuple):
    """A figure: the function that computes its panels, its title and caption, and the public functions it calls."""

    name: str
    panels: Callable[[], Sequence[Panel]]
    title: str
    caption: str
    computed_with: tuple[str, ...]

    def draw(self) -> str:
        """The SVG, ready to be embedded in a page."""
        return draw(self.panels(), name=self.name, title=self.title, description=self.caption)


def value_and_slope(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """An elementwise function of the points, and its slope there by autograd."""
    points = at.detach().clone().requires_grad_()
    values = function(points)
    (slopes,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), slopes


def grid(start: float, end: float, points: int = 301) -> Tensor:
    """Evenly spaced points, both ends included."""
    return torch.linspace(start, end, points, dtype=torch.float64)

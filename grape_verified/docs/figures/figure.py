"""Figures, their sliders, and functions that the figures of several chapters share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from grape_verified.docs.drawing import Panel, draw


class Slider(NamedTuple):
    """A number that a reader may change: the keyword of the function behind the figure, and its range."""

    name: str
    symbol: str
    meaning: str
    low: float
    high: float
    step: float
    start: float


class Figure(NamedTuple):
    """A figure: the function that computes its panels, its title and caption, the functions it calls, and the claims
    that say what it shows.

    A figure with sliders is drawn again on the page by the function of its name in `docs/assets/figure_formulas.js`.
    """

    name: str
    computed: Callable[..., Sequence[Panel]]
    title: str
    caption: str
    computed_with: tuple[str, ...]
    claims: tuple[str, ...]
    sliders: tuple[Slider, ...] = ()

    def panels(self, **values: float) -> Sequence[Panel]:
        """The panels with these values of the sliders; those not named are where they start."""
        return self.computed(**{slider.name: slider.start for slider in self.sliders} | values)

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


def groups_by_share(group: int) -> Tensor:
    """The rewards of every kind of group of this size: row k has k correct responses, with reward 1, first."""
    return torch.tril(torch.ones(group + 1, group, dtype=torch.float64), -1)

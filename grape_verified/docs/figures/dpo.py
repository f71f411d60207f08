"""DPO: losses of a pair and their slopes."""

from collections.abc import Callable

import torch
from torch import Tensor

from grape_verified import dpo_per_pair, ipo_per_pair, robust_dpo_per_pair
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, Slider, grid, value_and_slope


def dpo_slope(beta: float, flipped: float) -> list[Panel]:
    """The losses of a pair by the difference of the log-ratios, and their slopes."""
    differences = grid(-5, 7)
    zeros = torch.zeros_like(differences)
    named: dict[str, Callable[[Tensor], Tensor]] = {
        "DPO": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=beta),
        "DPO, smoothed": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=beta, label_smoothing=flipped),
        "robust DPO": lambda x: robust_dpo_per_pair(x, zeros, zeros, zeros, beta=beta, flip_probability=flipped),
        "IPO": lambda x: ipo_per_pair(x, zeros, zeros, zeros, beta=beta),
    }
    values, slopes = [], []
    for number, (label, loss) in enumerate(named.items(), 1):
        value, slope = value_and_slope(loss, differences)
        values.append(Line(label, differences, value, number))
        slopes.append(Line(label, differences, slope, number))
    label = "log-ratio: chosen − rejected"
    return [
        Panel(label, "", values, title="loss", y_limits=(-1.5, 5)),
        Panel(label, "", slopes, title="slope", y_limits=(-1.6, 0.8)),
    ]


FIGURES = (
    Figure(
        "dpo_slope",
        dpo_slope,
        "The losses of DPO and its variants and their slopes",
        "Loss of a pair by how much further the policy has moved towards the chosen response than towards the "
        "rejected one. The slope of DPO lies between −β and 0 and vanishes as the pair becomes correctly ranked; with "
        "label smoothing ε it changes sign, so the loss has a minimum. Robust DPO, for labels that are flipped with "
        "a known probability, pulls harder than DPO everywhere and has none. IPO is a parabola with its minimum at "
        "1/(2β), and its slope is an unbounded straight line; both leave the plotted range.",
        ("dpo_per_pair", "robust_dpo_per_pair", "ipo_per_pair"),
        ("dpo.gradient", "dpo.label_smoothing", "dpo.robust", "dpo.ipo"),
        (
            Slider("beta", "β", "the strength", 0.1, 1.5, 0.05, 0.5),
            Slider("flipped", "ε, η", "the share of flipped labels", 0, 0.4, 0.05, 0.2),
        ),
    ),
)

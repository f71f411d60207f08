"""DPO: losses of a pair and their slopes."""

from collections.abc import Callable

import torch
from torch import Tensor

from grape_verified import dpo_per_pair, ipo_per_pair
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, grid, value_and_slope


def dpo_slope() -> list[Panel]:
    """The losses of DPO and IPO by the difference of the log-ratios, and their slopes."""
    differences = grid(-5, 7)
    zeros = torch.zeros_like(differences)
    named: dict[str, Callable[[Tensor], Tensor]] = {
        "DPO, β = 1": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=1.0),
        "DPO, β = 0.5": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=0.5),
        "DPO, β = 1, smoothing 0.2": lambda x: dpo_per_pair(x, zeros, zeros, zeros, beta=1.0, label_smoothing=0.2),
        "IPO, β = 0.25": lambda x: ipo_per_pair(x, zeros, zeros, zeros, beta=0.25),
    }
    values, slopes = [], []
    for number, (label, loss) in enumerate(named.items(), 1):
        value, slope = value_and_slope(loss, differences)
        values.append(Line(label, differences, value, number))
        slopes.append(Line(label, differences, slope, number))
    label = "log-ratio: chosen − rejected"
    return [
        Panel(label, "", values, title="loss", y_limits=(-0.1, 5)),
        Panel(label, "", slopes, title="slope", y_limits=(-1.6, 0.8)),
    ]


FIGURES = (
    Figure(
        "dpo_slope",
        dpo_slope,
        "The losses of DPO and IPO and their slopes",
        "Loss of a pair by how much further the policy has moved towards the chosen response than towards the "
        "rejected one. The slope of DPO lies between −β and 0 and vanishes as the pair is ranked correctly; with "
        "label smoothing it changes sign, so the loss has a minimum. IPO is a parabola with its minimum at "
        "1/(2β), here 2, and its slope is an unbounded straight line; both leave the plotted range.",
        ("dpo_per_pair", "ipo_per_pair"),
    ),
)

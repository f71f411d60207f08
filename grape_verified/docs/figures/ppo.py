"""PPO: the clipped surrogate, and a dual clip."""

import torch
from torch import Tensor

from grape_verified import ppo_per_token
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, grid, value_and_slope


def ppo_clip() -> list[Panel]:
    """The clipped surrogate by the ratio, and its slope in the log-probability."""
    ratios = grid(0.01, 2, 399)
    panels = []
    for sign, title in ((1.0, "advantage +1"), (-1.0, "advantage −1")):
        values, slopes = _surrogate(ratios, sign, None)
        lines = [Line("surrogate", ratios, values, 1), Line("its slope in log π", ratios, slopes, 2)]
        ticks = {0.0: "0", 0.8: "0.8", 1.2: "1.2", 2.0: "2"}
        panels.append(Panel("ratio ρ", "", lines, title=title, x_ticks=ticks))
    return panels


def dual_clip() -> list[Panel]:
    """The surrogate of a token with advantage −1, without and with a second clip."""
    ratios = grid(0.01, 5, 501)
    pairs = {"clip": _surrogate(ratios, -1.0, None), "dual clip at 3": _surrogate(ratios, -1.0, 3.0)}
    return [
        Panel("ratio ρ", "", [Line(k, ratios, v[place], n) for n, (k, v) in enumerate(pairs.items(), 1)], title=title)
        for place, title in enumerate(("surrogate, advantage −1", "slope in log π"))
    ]


def _surrogate(ratios: Tensor, advantage: float, dual: float | None) -> tuple[Tensor, Tensor]:
    """The clipped surrogate at each ratio and its slope in the log-probability."""
    old = torch.zeros_like(ratios)[None]
    advantages = torch.full_like(old, advantage)
    return value_and_slope(lambda logps: -ppo_per_token(logps[None], old, advantages, dual_clip=dual)[0], ratios.log())


FIGURES = (
    Figure(
        "ppo_clip",
        ppo_clip,
        "The clipped surrogate of PPO",
        "The surrogate of one token by its ratio ρ, with clip edges at 0.8 and 1.2. For a positive advantage it "
        "rises up to 1.2 and is flat beyond; for a negative one it is flat below 0.8 and falls beyond. The slope "
        "in log π is the advantage times ρ where the surrogate is not flat, and 0 where it is. The other side is "
        "not clipped: a token that has moved the wrong way keeps its full slope.",
        ("ppo_per_token",),
    ),
    Figure(
        "dual_clip",
        dual_clip,
        "Dual clip for a negative advantage",
        "A token with advantage −1 whose ratio has grown. With the clip alone, the surrogate and its slope "
        "decrease without bound; with a dual clip at 3 both stop: beyond ρ = 3 the surrogate is flat and the "
        "slope is 0.",
        ("ppo_per_token",),
    ),
)

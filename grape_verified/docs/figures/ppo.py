"""PPO: the clipped surrogate, a dual clip, and the weight of a token under either."""

from typing import Any

import torch
from torch import Tensor

from grape_verified import dapo_loss, ppo_per_token
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, Slider, grid, value_and_slope

#: Ratios between the values that an edge can have, where a slope has one value.
UP_TO_2, UP_TO_5 = grid(0.0025, 1.9975, 400), grid(0.005, 4.995, 500)

_LOW = Slider("low", "ε", "the lower edge is 1 − ε", 0.05, 0.95, 0.05, 0.2)
_DUAL = Slider("dual", "c", "the second clip", 1.5, 4.5, 0.1, 3.0)


def ppo_clip(low: float, high: float) -> list[Panel]:
    """The clipped surrogate by the ratio, and its slope in the log-probability."""
    panels = []
    for sign, title in ((1.0, "advantage +1"), (-1.0, "advantage −1")):
        values, slopes = surrogate(UP_TO_2, sign, clip_low=low, clip_high=high)
        lines = [Line("surrogate", UP_TO_2, values, 1), Line("its slope in log π", UP_TO_2, slopes, 2)]
        limits = (-0.15, 2.15) if sign > 0 else (-2.15, 0.15)
        panels.append(Panel("ratio ρ", "", lines, title=title, y_limits=limits))
    return panels


def dual_clip(dual: float) -> list[Panel]:
    """The surrogate of a token with advantage −1, without and with a second clip."""
    pairs = {"clip": surrogate(UP_TO_5, -1.0), "dual clip": surrogate(UP_TO_5, -1.0, dual_clip=dual)}
    panels = []
    for place, title in enumerate(("surrogate, advantage −1", "slope in log π")):
        lines = [Line(label, UP_TO_5, pair[place], number) for number, (label, pair) in enumerate(pairs.items(), 1)]
        panels.append(Panel("ratio ρ", "", lines, title=title, y_limits=(-5.3, 0.3)))
    return panels


def clip_weights(low: float, high: float, dual: float) -> list[Panel]:
    """The slope of a token in its log-probability under PPO, with a dual clip, and under DAPO."""
    panels = []
    for sign, title, ratios in ((1.0, "advantage +1", UP_TO_2), (-1.0, "advantage −1", UP_TO_5)):
        slopes = {
            "PPO": surrogate(ratios, sign, clip_low=low, clip_high=low)[1],
            "dual clip": surrogate(ratios, sign, clip_low=low, clip_high=low, dual_clip=dual)[1],
            "DAPO": _dapo_slopes(ratios, sign, low, high),
        }
        lines = [Line(label, ratios, y, number) for number, (label, y) in enumerate(slopes.items(), 1)]
        limits = (-0.15, 2.15) if sign > 0 else (-5.3, 0.3)
        panels.append(Panel("ratio ρ", "", lines, title=title, y_limits=limits))
    return panels


def surrogate(ratios: Tensor, advantage: float, **clip: Any) -> tuple[Tensor, Tensor]:
    """The clipped surrogate at each ratio and its slope in the log-probability."""
    old = torch.zeros_like(ratios)[None]
    advantages = torch.full_like(old, advantage)
    return value_and_slope(lambda logps: -ppo_per_token(logps[None], old, advantages, **clip)[0], ratios.log())


def _dapo_slopes(ratios: Tensor, advantage: float, low: float, high: float) -> Tensor:
    old = torch.zeros_like(ratios)[None]
    advantages, mask = torch.full_like(old, advantage), torch.ones_like(old)

    def summed(logps: Tensor) -> Tensor:
        return -dapo_loss(
            logps[None], old, advantages, mask, clip_low=low, clip_high=high, denominator=1.0
        ).loss  # fmt: skip

    return value_and_slope(summed, ratios.log())[1]


FIGURES = (
    Figure(
        "ppo_clip",
        ppo_clip,
        "The clipped surrogate of PPO",
        "The surrogate of one token by its ratio ρ, with clip edges at 1 − ε and 1 + ε′. For a positive advantage it "
        "rises up to the upper edge and is flat beyond; for a negative one it is flat below the lower edge and falls "
        "beyond. The slope in log π is the advantage times ρ where the surrogate is not flat, and 0 where it is. The "
        "other side is not clipped: a token that has moved the wrong way keeps its full slope.",
        ("ppo_per_token",),
        ("ppo.clip.sign_form", "ppo.clip.gradient"),
        (_LOW, Slider("high", "ε′", "the upper edge is 1 + ε′", 0.05, 0.95, 0.05, 0.2)),
    ),
    Figure(
        "dual_clip",
        dual_clip,
        "Dual clip for a negative advantage",
        "A token with advantage −1 whose ratio has grown, with ε = 0.2. With the clip alone, the surrogate and its "
        "slope decrease without bound; with a dual clip at c both stop: beyond ρ = c the surrogate is flat and the "
        "slope is 0.",
        ("ppo_per_token",),
        ("ppo.dual_clip.bound", "ppo.dual_clip.gradient"),
        (_DUAL,),
    ),
    Figure(
        "clip_weights",
        clip_weights,
        "The weight on ∇log π under three clips",
        "What multiplies ∇log π of a token, by its ratio. PPO clips at 1 − ε and 1 + ε; DAPO has an upper edge of its "
        "own, 1 + ε′, and the two differ only between the upper edges and only for a positive advantage; the dual "
        "clip is PPO except for a negative advantage beyond ρ = c, where it drops the token. Where lines coincide, the "
        "dashes of one lie on the other.",
        ("ppo_per_token", "dapo_loss"),
        ("ppo.clip.gradient", "ppo.dual_clip.gradient", "grpo.dapo"),
        (
            Slider("low", "ε", "of PPO, and below 1 of DAPO", 0.05, 0.95, 0.05, 0.2),
            Slider("high", "ε′", "of DAPO above 1", 0.05, 0.95, 0.01, 0.28),
            _DUAL,
        ),
    ),
)

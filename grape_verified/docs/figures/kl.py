"""The KL divergence: its estimators, and its two directions."""

from functools import partial
from typing import get_args

import torch
from torch import Tensor

from grape_verified import categorical_kl, kl_estimate
from grape_verified.arguments import Estimator
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, grid, value_and_slope


def kl_estimators() -> list[Panel]:
    """k1, k2 and k3 by the log-ratio, and their slopes."""
    log_ratios = grid(-2, 3)
    values, slopes = [], []
    for number, name in enumerate(get_args(Estimator), 1):
        value, slope = value_and_slope(partial(_estimate, name), log_ratios)
        values.append(Line(name, log_ratios, value, number))
        slopes.append(Line(name, log_ratios, slope, number))
    label = "log π − log ref"
    return [Panel(label, "", values, title="estimate"), Panel(label, "", slopes, title="its slope in log π")]


def _estimate(name: Estimator, log_ratios: Tensor) -> Tensor:
    return kl_estimate(log_ratios[None], torch.zeros_like(log_ratios)[None], name)[0]


def kl_directions() -> list[Panel]:
    """A target with two modes, and the nearest single mode in either direction of the KL divergence."""
    tokens = grid(0, 40, 41)

    def hump(centre: Tensor | float, width: Tensor | float) -> Tensor:
        return -((tokens - centre) / width).square() / 2

    target = (0.6 * hump(11, 3).exp() + 0.4 * hump(29, 3).exp()).log()
    shapes = torch.cartesian_prod(grid(0, 40, 81), grid(2, 14, 49))
    candidates = hump(shapes[:, :1], shapes[:, 1:])
    targets = target.expand_as(candidates)
    reverse = candidates[categorical_kl(candidates, targets).argmin()]
    forward = candidates[categorical_kl(targets, candidates).argmin()]
    named = {"target": target, "nearest in KL(π‖target)": reverse, "nearest in KL(target‖π)": forward}
    lines = [Line(label, tokens, logits.softmax(0), number) for number, (label, logits) in enumerate(named.items(), 1)]
    return [Panel("token", "probability", lines)]


FIGURES = (
    Figure(
        "kl_estimators",
        kl_estimators,
        "Three estimators of the KL divergence and their slopes",
        "The estimate from one token, by how much more likely it is under the policy than under the reference. k1 "
        "has either sign; k2 and k3 are never negative and agree near 0. The slopes differ more: that of k1 is 1 "
        "everywhere, that of k2 is proportional to the log-ratio, and that of k3 stays below 1 on the right and "
        "is steep on the left.",
        ("kl_estimate",),
        ("kl.estimate.gradient", "kl.k3.nonnegative"),
    ),
    Figure(
        "kl_directions",
        kl_directions,
        "The two directions of the KL divergence",
        "A target with two modes, and the single mode nearest to it. Measured by KL(π‖target), it sits "
        "on the larger mode and ignores the other; measured by KL(target‖π), it spreads over both and over the "
        "gap between them.",
        ("categorical_kl",),
        ("kl.nonnegative",),
    ),
)

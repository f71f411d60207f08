"""GRAPE: the weight of an item."""

import torch

from grape_verified import grape_rewards
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, Slider, grid

#: Importance of three items, and the critic's confidence in the first; that in the second varies along the axis.
IMPORTANCE, SURE = (1.0, 1.0, 2.0), 1.0


def grape_weights(doubtful: float) -> list[Panel]:
    """The weight of each of three items in a reward, by the confidence in the second."""
    varied = grid(0, 1, 101)
    scores = torch.eye(3, dtype=torch.float64).expand(len(varied), 3, 3)  # response i meets item i and no other
    trust = torch.stack([torch.full_like(varied, SURE), varied, torch.full_like(varied, doubtful)], dim=1)
    labels = ("w = 1, c = 1", "w = 1, c varies", "w = 2, c as set")
    panels = []
    for title, normalisation, top in (("normalised", "mean", 1.05), ("sum", "sum", 2.1)):
        importance = torch.tensor(IMPORTANCE, dtype=torch.float64)
        confidences = trust[:, None, :].expand_as(scores)
        rewards = grape_rewards(scores, confidences, importance, normalisation=normalisation)  # type: ignore[arg-type]
        lines = [Line(label, varied, rewards[:, item], item + 1) for item, label in enumerate(labels)]
        panels.append(Panel("confidence c in one item", "", lines, title=f"weight, {title}", y_limits=(-0.05, top)))
    return panels


FIGURES = (
    Figure(
        "grape_weights",
        grape_weights,
        "The weight of an item in a GRAPE reward",
        "Three items with importance w and average confidence c: one that the critic is sure of, one whose "
        "confidence varies along the axis, and one with twice the importance and a confidence of its own. "
        "Normalised, the weights sum to 1: what one item gains, the others lose. In a sum, the weight of each "
        "item is its importance times its confidence, independent of the others. An item with confidence 0 has no "
        "weight.",
        ("grape_rewards",),
        ("grape.reward.gradient", "grape.reward.untrusted_item"),
        (Slider("doubtful", "c", "of the item with w = 2", 0, 1, 0.05, 0.25),),
    ),
)

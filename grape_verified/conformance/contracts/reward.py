"""Contracts of the reward model's loss."""

from __future__ import annotations

from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.families import pair_loss
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.strategies import Blueprint

PAIR = ("chosen_rewards", "rejected_rewards")

#: Scale: 1 for value and slope, as −log σ(x) is small for large x.
BRADLEY_TERRY = Formula(
    "reward.bradley_terry",
    slope={f"{side}_rewards": ("reward.bradley_terry.gradient", side) for side in ("chosen", "rejected")},
    scale=1,
    slope_scale=1,
)


def scored_pairs(plan: Blueprint) -> dict[str, Tensor]:
    """Rewards of the two responses of each pair."""
    rejected = plan.numbers("rejected_rewards", strategies.VALUES)
    difference = plan.numbers("chosen_rewards", strategies.PAIR_RATIOS[plan.regime.numbers])
    return {"chosen_rewards": rejected + difference, "rejected_rewards": rejected}


CONTRACTS = pair_loss("bradley_terry", term=BRADLEY_TERRY, tensors=PAIR, wrt=PAIR, build=scored_pairs)

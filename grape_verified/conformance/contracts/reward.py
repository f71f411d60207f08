"""Contracts of the reward model's loss."""

from __future__ import annotations

from flint import arb
from grape_spec.evaluate import evaluate
from grape_spec.language.registry import definition
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import ALL_DIFFERENTIATED, EVERY, Contract, Option, like_first, number
from grape_verified.conformance.oracle import (
    Answer,
    Arithmetic,
    Term,
    mean_of_rows,
    precisely,
    right_hand_side,
    unreduced,
)
from grape_verified.conformance.strategies import Blueprint, Case

PAIR = ("chosen_rewards", "rejected_rewards")
CLAIMS = ("reward.bradley_terry", "reward.bradley_terry.gradient")


@precisely
def bradley_terry(case: Case, arithmetic: Arithmetic) -> Answer:
    """The Bradley-Terry loss: reward.bradley_terry, the mean over the pairs."""
    return mean_of_rows(case, _terms(case, arithmetic), PAIR, arithmetic)


@precisely
def bradley_terry_per_pair(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before the mean."""
    return unreduced(_terms(case, arithmetic), PAIR, arithmetic)


def _terms(case: Case, arithmetic: Arithmetic) -> list[Term]:
    """The loss of each pair. Scale: 1 for value and slope, as −log σ(x) is small for large x."""
    pairs = zip(*(case.tensors[name].tolist() for name in PAIR), strict=True)
    return [_term(arithmetic, *pair) for pair in pairs]


def _term(arithmetic: Arithmetic, chosen: float, rejected: float) -> Term:
    given = {"chosen_reward": arithmetic.near(chosen), "rejected_reward": arithmetic.near(rejected)}

    def slope(name: str) -> arb:
        part = name.removesuffix("_rewards")
        return arithmetic.rounded(evaluate(right_hand_side("reward.bradley_terry.gradient", part), given), 1)

    return Term(arithmetic.rounded(evaluate(definition("reward.bradley_terry"), given), 1), slope)


def scored_pairs(plan: Blueprint) -> dict[str, Tensor]:
    """Rewards of the two responses of each pair."""
    rejected = plan.numbers("rejected_rewards", strategies.VALUES)
    difference = plan.numbers("chosen_rewards", strategies.PAIR_RATIOS[plan.regime.numbers])
    return {"chosen_rewards": rejected + difference, "rejected_rewards": rejected}


CONTRACTS = (
    Contract(
        name="bradley_terry",
        kernel="bradley_terry_loss",
        text="The Bradley-Terry loss of a reward model, the mean over pairs.",
        tensors=PAIR,
        wrt=PAIR,
        options={"denominator": Option(None, (7, 2.5, 1))},
        build=scored_pairs,
        blocks=PAIR,
        oracle=bradley_terry,
        result=number,
        rests_on=(*CLAIMS, "aggregation.token_mean", "aggregation.gradient", "aggregation.partition"),
        properties=(*EVERY, "options", "partition", "extremes", *ALL_DIFFERENTIATED),
    ),
    Contract(
        name="bradley_terry_per_pair",
        kernel="bradley_terry_per_pair",
        text="The Bradley-Terry loss of each pair.",
        tensors=PAIR,
        wrt=PAIR,
        options={},
        build=scored_pairs,
        blocks=PAIR,
        oracle=bradley_terry_per_pair,
        result=like_first,
        rests_on=CLAIMS,
        properties=(*EVERY, "cotangents", "extremes", *ALL_DIFFERENTIATED),
    ),
)

"""Contracts of ORPO's losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contracts.dpo import LENGTHS, POSSIBLE_LENGTHS, WRT
from grape_verified.conformance.families import pair_loss
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.strategies import Blueprint

SIDES = ("chosen", "rejected")

#: Sums of log-probabilities: below 0, and where extreme also nearly 0 and far below.
SUMS = {
    "ordinary": [x if x < 0 else -0.25 for x in strategies.SUMS],
    "extreme": [-(10.0 ** (2 - i % 30)) * (1 + i % 7) for i in range(256)],
}


def _log_odds(numbers: Mapping[str, Any]) -> dict[str, float]:
    """o of both responses."""
    means = {side: numbers[f"{side}_logp"] / numbers[f"{side}_length"] for side in SIDES}
    return {side: mean - math.log(-math.expm1(mean)) for side, mean in means.items()}


def _spread(numbers: Mapping[str, Any]) -> float:
    """|o_w| + |o_l| + 1, to which the error of a log-odds ratio is relative."""
    return sum(map(abs, _log_odds(numbers).values())) + 1


def _scale(numbers: Mapping[str, Any]) -> float:
    """λ(|o_w| + |o_l| + 1)."""
    return float(numbers["odds_weight"] * _spread(numbers))


def _slope_scale(side: str) -> Callable[[Mapping[str, Any]], float]:
    """(1 + λσ/(1 − P))(|o_w| + |o_l| + 1)/n: σ and 1 − P are exponentials of what has the error of the log-odds."""

    def scale(numbers: Mapping[str, Any]) -> float:
        odds, length = _log_odds(numbers), numbers[f"{side}_length"]
        wrongly = 1 / (1 + math.exp(min(700, odds["chosen"] - odds["rejected"])))
        slope = 1 + numbers["odds_weight"] * wrongly / -math.expm1(numbers[f"{side}_logp"] / length)
        return float(slope * _spread(numbers) / length)

    return scale


ODDS = Formula(
    "orpo.loss",
    inner={"chosen_chance": "orpo.chosen_mean", "rejected_chance": "orpo.rejected_mean"},
    exact=("chosen_length", "rejected_length"),
    scale=_scale,
    slope_scale={f"{side}_logps": _slope_scale(side) for side in SIDES},
)


def responses(plan: Blueprint) -> dict[str, Tensor]:
    """Sequence log-probabilities of pairs, and the numbers of tokens."""
    sums = {name: plan.numbers(name, SUMS[plan.regime.numbers]) for name in WRT}
    return sums | {name: plan.numbers(name, POSSIBLE_LENGTHS) for name in LENGTHS}


CONTRACTS = pair_loss(
    "orpo",
    term=ODDS,
    tensors=(*WRT, *LENGTHS),
    wrt=WRT,
    build=responses,
    options={"odds_weight": (0.5, 1.0, 0.02)},
)

"""Contracts of preference losses as functions of a margin, of SimPO's loss, and of CPO's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import Options
from grape_verified.conformance.contracts.dpo import (
    BETA,
    LENGTHS,
    PAIR,
    POSSIBLE_LENGTHS,
    WRT,
    pairs_with_lengths,
    stated,
)
from grape_verified.conformance.families import pair_loss
from grape_verified.conformance.formula import Formula, LogRatio
from grape_verified.conformance.strategies import Blueprint

#: The functions of the margin that have no contract of their own, by the value of `kind`.
KINDS = ("hinge", "exponential", "exo")
TARGETS = {"target_margin": (0.5, -0.25, 1.5)}


@dataclass(frozen=True)
class NegativeMargin(LogRatio):
    """The exponent −m, limited by a higher log-probability of the preferred response."""

    def limited(self, numbers: Mapping[str, Any], reach: float) -> dict[str, Any]:
        """The numbers with an exponent of at most `reach`."""
        scores = [
            (numbers[f"{side}_logp"] - numbers[f"ref_{side}_logp"]) / numbers[f"{side}_length"]
            for side in ("chosen", "rejected")
        ]
        beyond = numbers["target_margin"] - numbers["beta"] * (scores[0] - scores[1]) - reach
        step = max(0.0, beyond) / numbers["beta"] * numbers["chosen_length"]
        return {**numbers, "chosen_logp": numbers["chosen_logp"] + step} if step else dict(numbers)


def of_margin(options: Options) -> Formula:
    """A function of the margin. Scale: 1 for the hinge, and for EXO the largest of its logarithms."""
    kind, beta = options["kind"], options["beta"]
    lengths = {f"{side}_length": 1 for side in ("chosen", "rejected")}
    shared: dict[str, Any] = {
        "slope": stated(f"preference.{kind}.slope"),
        "inner": {"margin": "preference.margin"},
        "reads": lengths if options["log_ratio"] == "sum" else {},
        "exact": tuple(lengths),
    }
    if kind == "hinge":
        return Formula("preference.hinge_loss", scale=1, slope_scale=beta, **shared)
    if kind == "exponential":
        exponent = NegativeMargin("rejected_logp", "chosen_logp", cut="chosen_logp")
        return Formula("preference.exponential_loss", log_ratios=(exponent,), **shared)
    size = math.log(2 / options["label_smoothing"])
    return Formula("preference.exo_loss", absolute=("label_smoothing",), scale=size, slope_scale=beta * size, **shared)


def simpo(options: Options) -> Formula:
    """SimPO's loss. Scale: that of DPO."""
    return Formula(
        "preference.simpo_loss",
        slope=stated("preference.simpo.gradient"),
        exact=("chosen_length", "rejected_length"),
        scale=1,
        slope_scale=options["beta"],
    )


def contrastive(options: Options) -> Formula:
    """CPO's loss. Scale: 1 for −log σ; the likelihood cancels nothing."""
    slopes = {"chosen_logps": options["beta"] + options["nll_weight"], "rejected_logps": options["beta"]}
    return Formula(
        "preference.cpo_loss",
        slope=stated("preference.cpo.gradient"),
        exact=("chosen_length",),
        scale=1,
        slope_scale=slopes,
    )


def smoothed_where_used(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """The options made consistent: EXO needs label smoothing, the others take none."""
    used = options["label_smoothing"] or 0.1
    return {**options, "label_smoothing": used if options["kind"] == "exo" else 0.0}


def responses(plan: Blueprint) -> dict[str, Tensor]:
    """Sequence log-probabilities of pairs, and the numbers of tokens."""
    return preferred_with_length(plan) | {"rejected_lengths": plan.numbers("rejected_lengths", POSSIBLE_LENGTHS)}


def preferred_with_length(plan: Blueprint) -> dict[str, Tensor]:
    """The same, with the number of tokens of the preferred response alone."""
    rejected = plan.numbers("rejected_logps", strategies.SUMS)
    further = plan.numbers("chosen_logps", strategies.PAIR_RATIOS[plan.regime.numbers])
    lengths = plan.numbers("chosen_lengths", POSSIBLE_LENGTHS)
    return {"chosen_logps": plan.sum(rejected, further), "rejected_logps": rejected, "chosen_lengths": lengths}


CONTRACTS = (
    *pair_loss(
        "preference",
        term=of_margin,
        tensors=(*PAIR, *LENGTHS),
        wrt=WRT,
        build=pairs_with_lengths,
        options=BETA | TARGETS | {"kind": KINDS, "label_smoothing": (0.1, 0.25), "log_ratio": ("mean",)},
        by_keyword=dict.fromkeys(LENGTHS, "log_ratio"),
        fit=smoothed_where_used,
    ),
    *pair_loss(
        "simpo",
        term=simpo,
        tensors=(*WRT, *LENGTHS),
        wrt=WRT,
        build=responses,
        options={"beta": (0.5, 1.0, 2.5, 10.0), "target_margin": (0.0, 1.0, 1.5, -0.25)},
    ),
    *pair_loss(
        "cpo",
        term=contrastive,
        tensors=(*WRT, "chosen_lengths"),
        wrt=WRT,
        build=preferred_with_length,
        options={**BETA, "nll_weight": (0.5, 1.0, 0.02, 5.0)},
    ),
)

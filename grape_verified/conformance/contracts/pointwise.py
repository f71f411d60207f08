"""Contracts of pointwise preference losses: KTO's, and those of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import Options
from grape_verified.conformance.contracts.dpo import BETA, PAIR, WRT, stated
from grape_verified.conformance.families import pair_loss
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.strategies import Blueprint

KINDS = ("bco", "nca", "apo_zero", "apo_down", "sppo")
REWARDS = {f"{side}_reward": f"pointwise.reward_of_{side}" for side in ("chosen", "rejected")}


def _weight(factor: float) -> Callable[[Mapping[str, Any]], float]:
    """λ of the response, times a factor."""
    return lambda numbers: float(factor * numbers["desirable_weight" if numbers["label"] else "undesirable_weight"])


def labelled(options: Options) -> Formula:
    """KTO's loss. Scale: λ for the value and λβ for the slope, as a sigmoid is small far from the anchor."""
    return Formula(
        "pointwise.kto_loss",
        slope=("pointwise.kto.slope", "by the label"),
        inner={"labelled_log_ratio": "pointwise.log_ratio"},
        reads={"labelled_logp": "logps", "ref_labelled_logp": "ref_logps"},
        exact=("label",),
        scale=_weight(1),
        slope_scale=_weight(options["beta"]),
    )


def of_rewards(options: Options) -> Formula:
    """A loss of the two rewards. Scale: 1 for the value and β for the slopes, but for squares."""
    kind, squares = options["kind"], options["kind"] == "sppo"
    return Formula(
        f"pointwise.{kind}_loss",
        slope=stated(f"pointwise.{kind}.slope"),
        inner=REWARDS,
        scale=None if squares else 1,
        slope_scale=None if squares else options["beta"],
    )


def responses(plan: Blueprint) -> dict[str, Tensor]:
    """Sequence log-probabilities of responses, under the policy and under the reference, and their labels."""
    ref = plan.numbers("ref_logps", strategies.SUMS)
    ratios = plan.numbers("logps", strategies.PAIR_RATIOS[plan.regime.numbers])
    labels = plan.numbers("labels", (1.0, 0.0))
    return {"logps": plan.sum(ref, ratios), "ref_logps": ref, "labels": labels.bool()}


def shifted_where_used(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """The options made consistent: only BCO has a shift."""
    return options if options["kind"] == "bco" else {**options, "reward_shift": 0.0}


CONTRACTS = (
    *pair_loss(
        "kto",
        term=labelled,
        tensors=("logps", "ref_logps", "labels"),
        wrt=("logps",),
        build=responses,
        options=BETA
        | {
            "anchor": (0.5, 0.0, 2.0, 20.0),
            "desirable_weight": (1.33, 0.5),
            "undesirable_weight": (1.33, 2.0),
        },
        per_pair="kto_per_sequence",
    ),
    *pair_loss(
        "pointwise",
        term=of_rewards,
        tensors=PAIR,
        wrt=WRT,
        build=strategies.pair_tensors,
        options=BETA | {"kind": KINDS, "reward_shift": (0.5, -0.25, 3.0)},
        fit=shifted_where_used,
    ),
)

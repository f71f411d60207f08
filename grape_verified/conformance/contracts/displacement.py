"""Contracts of DPO-Positive's losses."""

from __future__ import annotations

import torch
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import Options
from grape_verified.conformance.contracts.dpo import BETA, PAIR, WRT
from grape_verified.conformance.families import pair_loss
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.strategies import Blueprint


def positive(options: Options) -> Formula:
    """DPO-Positive's loss. Scale: 1 for the value, and for the slopes β, times 1 + λ in the preferred response."""
    beta, weight = options["beta"], 1 + options["penalty_weight"]
    return Formula(
        "displacement.dpop_loss",
        slope={f"{side}_logps": f"displacement.dpop_{side}_slope" for side in ("chosen", "rejected")},
        scale=1,
        slope_scale={"chosen_logps": beta * weight, "rejected_logps": beta},
    )


def pairs_at_the_kink(plan: Blueprint) -> dict[str, Tensor]:
    """Pairs; at kinks, preferred responses as likely as under the reference, or a few roundings away."""
    if plan.regime.numbers != "kinks":
        return strategies.pair_tensors(plan)
    tensors = {name: plan.numbers(name, strategies.SUMS) for name in PAIR}
    steps = tensors["chosen_logps"].round() % 3 - 1
    tensors["chosen_logps"] = tensors["ref_chosen_logps"] * (1 + steps * torch.finfo(plan.dtype).eps)
    return tensors


CONTRACTS = pair_loss(
    "dpop",
    term=positive,
    tensors=PAIR,
    wrt=WRT,
    build=pairs_at_the_kink,
    options=BETA | {"penalty_weight": (5.0, 0.5, 500.0)},
    kinks=True,
)

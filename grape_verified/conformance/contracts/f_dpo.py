"""Contracts of f-DPO's losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import Options
from grape_verified.conformance.contracts.dpo import BETA, PAIR, WRT, stated
from grape_verified.conformance.families import pair_loss
from grape_verified.conformance.formula import Formula, LogRatio

SIDES = ("chosen", "rejected")

#: The divergences that have a definition of their own, with their names in the claims; the reverse KL is DPO.
DIVERGENCES = {"alpha": "order α", "forward_kl": "forward KL", "jensen_shannon": "Jensen-Shannon"}


@dataclass(frozen=True)
class Exponents(LogRatio):
    """The exponents a·Δ of both responses, limited by their log-probabilities, and in the same order as before."""

    def limited(self, numbers: Mapping[str, Any], reach: float) -> dict[str, Any]:
        """The numbers with exponents of at most `reach`."""
        a = float(numbers.get("order", 0) - 1)  # the forward KL has the order 0
        x = {side: a * (numbers[f"{side}_logp"] - numbers[f"ref_{side}_logp"]) for side in SIDES}
        ends = {side: reach - min(1.0, max(x.values()) - x[side]) for side in SIDES}
        return {**numbers} | {
            f"{side}_logp": numbers[f"{side}_logp"] - (x[side] - ends[side]) / a
            for side in SIDES
            if x[side] > ends[side]
        }


EXPONENTS = (Exponents("chosen_logp", "ref_chosen_logp", cut="chosen_logp"),)


def of_divergence(options: Options) -> Formula:
    """f-DPO's loss. Scale: 1, as −log σ(m) is small for large m."""
    divergence = options["divergence"]
    if divergence == "reverse_kl":
        shared: dict[str, Any] = {"slope": stated("dpo.gradient"), "inner": {"margin": "dpo.margin"}}
        return Formula("dpo.loss", **shared, scale=1, slope_scale=options["beta"])
    return Formula(
        "dpo.loss",
        slope={f"{side}_logps": ("f_dpo.gradient", f"{DIVERGENCES[divergence]}, {side}") for side in SIDES},
        reads={"order": "alpha"} if divergence == "alpha" else {},
        inner={"margin": f"f_dpo.{divergence}_margin"},
        absolute=tuple(name.removesuffix("s") for name in PAIR),
        log_ratios=() if divergence == "jensen_shannon" else EXPONENTS,
        scale=1,
    )


CONTRACTS = pair_loss(
    "f_dpo",
    term=of_divergence,
    tensors=PAIR,
    wrt=WRT,
    build=strategies.pair_tensors,
    options=BETA | {"divergence": (*DIVERGENCES, "reverse_kl"), "alpha": (2.0, -1.0, 0.0, 0.9)},
)

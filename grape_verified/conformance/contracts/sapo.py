"""Contracts of SAPO's losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from grape_verified.conformance import strategies
from grape_verified.conformance.contracts.ppo import TOKEN
from grape_verified.conformance.families import token_loss
from grape_verified.conformance.formula import Formula, LogRatio


def _slope_scale(numbers: Mapping[str, Any]) -> float:
    """4ρ|A|, as 1 − σ is a difference; where σ rounds to 1, at τ(ρ − 1) of about 40, the slope is 0 whatever ρ is."""
    tau = numbers["temperature_pos"] if numbers["advantage"] > 0 else numbers["temperature_neg"]
    furthest = 1 + 40 / tau
    ratio = math.exp(min(numbers["logp"] - numbers["old_logp"], math.log(furthest)))
    return float(4 * ratio * abs(numbers["advantage"]))


SOFT = Formula(
    "sapo.objective",
    slope=("sapo.gradient", "in the log-probability"),
    inner={"rho": "ppo.ratio", "gate_temperature": "sapo.temperature"},
    absolute=("logp", "old_logp"),
    log_ratios=(LogRatio("logp", "old_logp", cut="logp"),),
    objective=True,
    slope_scale=_slope_scale,
)

CONTRACTS = token_loss(
    "sapo",
    term=SOFT,
    tensors=TOKEN,
    build=strategies.token_tensors,
    options={"temperature_pos": (2.0, 0.5), "temperature_neg": (1.0, 3.0)},
)

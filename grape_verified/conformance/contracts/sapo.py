"""Contracts of SAPO's losses."""

from __future__ import annotations

from grape_verified.conformance import strategies
from grape_verified.conformance.contracts.ppo import TOKEN
from grape_verified.conformance.families import token_loss
from grape_verified.conformance.formula import Formula, LogRatio

SOFT = Formula(
    "sapo.objective",
    slope=("sapo.gradient", "in the log-probability"),
    inner={"rho": "ppo.ratio", "gate_temperature": "sapo.temperature"},
    absolute=("logp", "old_logp"),
    log_ratios=(LogRatio("logp", "old_logp", cut="logp"),),
    objective=True,
)

CONTRACTS = token_loss(
    "sapo",
    term=SOFT,
    tensors=TOKEN,
    build=strategies.token_tensors,
    options={"temperature_pos": (2.0, 0.5), "temperature_neg": (1.0, 3.0)},
)

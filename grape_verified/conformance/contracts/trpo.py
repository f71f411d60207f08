"""Contracts of TRPO's losses."""

from __future__ import annotations

from grape_verified.conformance import strategies
from grape_verified.conformance.families import token_loss
from grape_verified.conformance.formula import Formula, LogRatio

SURROGATE = Formula(
    "trpo.surrogate",
    slope=("trpo.surrogate.gradient", "of a token"),
    absolute=("logp", "old_logp"),
    log_ratios=(LogRatio("logp", "old_logp", cut="logp"),),
    objective=True,
)

CONTRACTS = token_loss(
    "trpo", term=SURROGATE, tensors=("logps", "old_logps", "advantages"), build=strategies.token_tensors
)

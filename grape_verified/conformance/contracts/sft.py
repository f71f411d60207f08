"""Contracts of the loss of supervised fine-tuning."""

from __future__ import annotations

from torch import Tensor

from grape_verified.conformance.families import token_loss
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.strategies import LOGPS, Blueprint

#: Log-probabilities by regime; the extreme ones include positive ones, which only a broken model has.
POOLS = {"ordinary": LOGPS, "extreme": [-1.0, -100.0, -200.0, -1e4, -1e20, 0.0, 200.0, 1e20] * 32}


def log_probabilities(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities of tokens."""
    return {"logps": plan.numbers("logps", POOLS[plan.regime.numbers], plan.columns)}


CONTRACTS = token_loss("sft", term=Formula("sft.token_loss"), tensors=("logps",), build=log_probabilities)

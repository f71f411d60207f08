"""Contracts of REINFORCE's losses."""

from __future__ import annotations

from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import Expectation
from grape_verified.conformance.families import token_loss
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.oracle import right_hand_side
from grape_verified.conformance.strategies import LOGPS, Blueprint, Variant, Vocabulary

IMPROBABLE = [-100.0, -1000.0, -1e4, -1e6, *LOGPS[:4], *(-1.5 * 10**i for i in range(8))] * 16


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities and advantages."""
    across = plan.columns if plan.variant.advantages == "per token" else None
    pool = IMPROBABLE if plan.regime.numbers == "extreme" else LOGPS
    return {
        "logps": plan.numbers("logps", pool, plan.columns),
        "advantages": plan.numbers("advantages", strategies.ADVANTAGES, across),
    }


def samples(words: Vocabulary, logps: Tensor, variant: Variant) -> dict[str, Tensor]:
    """Every token as a sample, its advantage the reward."""
    advantages = words.rewards if variant.advantages == "per sequence" else words.rewards[:, None]
    return {"logps": logps[:, None], "advantages": advantages}


CONTRACTS = token_loss(
    "reinforce",
    term=Formula("reinforce.token_loss", slope=("reinforce.surrogate", "in the log-probability")),
    tensors=("logps", "advantages"),
    build=token_tensors,
    samples=Expectation(samples, lambda options: right_hand_side("reinforce.surrogate", "in expectation")),
)

"""Contracts of log-probabilities and entropies from logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flint import arb

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import without_vocabulary
from grape_verified.conformance.families import estimator
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, definition, precisely, right_hand_side
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import Case

SHARED: dict[str, Any] = {
    "wrt": ("logits",),
    "drawn": ("logits", "forbidden", "targets"),
    "options": {"temperature": (0.5, 2.0, 0.7, 10.0)},
    "result": without_vocabulary,
    "extras": ("forbidden tokens", "extremes"),
}


@dataclass(frozen=True)
class _Position:
    """The logits of one position. An entry of −inf has probability 0: it is left out of the vocabulary."""

    given: dict[str, Any]
    allowed: list[int]
    size: int

    @classmethod
    def of(cls, logits: Sequence[float], temperature: float, arithmetic: Arithmetic) -> _Position:
        """Read one position."""
        allowed = [v for v, z in enumerate(logits) if z != -math.inf]
        balls = [arithmetic.near(logits[v], 1) for v in allowed]
        return cls({"logits": balls, "temperature": arithmetic.near(temperature)}, allowed, len(logits))

    def gradient(self, rhs: Any, cotangent: float, scale: float, arithmetic: Arithmetic) -> list[Target]:
        """Cotangent × the derivative in each logit, of that scale; 0 for those that are left out."""
        targets = [Target(arb(0))] * self.size
        for k, v in enumerate(self.allowed, start=1):
            slope = arithmetic.rounded(evaluate(rhs, {**self.given, "k": k}), scale)
            targets[v] = Target(arithmetic.returned(arithmetic.rounded(slope * cotangent)))
        return targets


def _positions(case: Case, arithmetic: Arithmetic) -> list[_Position]:
    logits = case.tensors["logits"]
    rows = logits.reshape(-1, logits.shape[-1]).tolist()
    return [_Position.of(row, case.options["temperature"], arithmetic) for row in rows]


def _logit_gradient(
    positions: Sequence[_Position], weights: Sequence[float], rhs: Any, scale: float, arithmetic: Arithmetic
) -> dict[str, list[Target]]:
    """The gradients of all positions, one after the other."""
    pairs = zip(positions, weights, strict=True)
    return {"logits": [target for at, weight in pairs for target in at.gradient(rhs, weight, scale, arithmetic)]}


@precisely
def token_logps(case: Case, arithmetic: Arithmetic) -> Answer:
    """Log-probabilities of targets, policy.log_softmax. Scale of the gradient: 1/τ, as it is δ minus a probability."""
    positions = _positions(case, arithmetic)
    for at, target in zip(positions, case.tensors["targets"].flatten().tolist(), strict=True):
        at.given["a"] = at.allowed.index(target) + 1
    values = [evaluate(definition("policy.log_softmax"), at.given) for at in positions]
    rhs, scale = right_hand_side("policy.temperature.gradient"), 1 / case.options["temperature"]
    return Answer(
        [Target(arithmetic.rounded(value)) for value in values],
        lambda weights: _logit_gradient(positions, weights, rhs, scale, arithmetic),
    )


@precisely
def token_entropies(case: Case, arithmetic: Arithmetic) -> Answer:
    """Entropies, policy.entropy. Scale: 1 + log V, which no term exceeds, and that over τ for the gradient."""
    positions = _positions(case, arithmetic)
    scale = 1 + math.log(case.tensors["logits"].shape[-1])
    values = [evaluate(definition("policy.entropy"), at.given) for at in positions]
    rhs, steep = right_hand_side("policy.entropy.gradient", "temperature"), scale / case.options["temperature"]
    return Answer(
        [Target(arithmetic.rounded(value, scale)) for value in values],
        lambda weights: _logit_gradient(positions, weights, rhs, steep, arithmetic),
    )


CONTRACTS = (
    *estimator(
        "token_logps",
        oracle=token_logps,
        tensors=("logits", "targets"),
        build=strategies.logit_and_target_tensors,
        **SHARED,
    ),
    *estimator(
        "token_entropies", oracle=token_entropies, tensors=("logits",), build=strategies.logit_tensors, **SHARED
    ),
)

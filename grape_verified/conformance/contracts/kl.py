"""Contracts of the KL divergence of two policies and of its estimates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from flint import arb
from torch import Tensor

from grape_verified.conformance.contract import Expectation, Options, without_vocabulary
from grape_verified.conformance.families import estimator
from grape_verified.conformance.formula import Formula, LogRatio
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, definition, precisely, right_hand_side
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import (
    LOG_RATIOS,
    LOGPS,
    Blueprint,
    Case,
    Variant,
    Vocabulary,
    row_of_logits,
)

# -- estimates from sampled tokens ------------------------------------------------------------------------------------


def estimate(options: Options) -> Formula:
    """The estimate of one token. Scale: that of the terms beside the result, |log-ratio| and 1 for k3, else 0."""
    name = options["estimator"]
    return Formula(
        f"kl.{name}",
        slope=("kl.estimate.gradient", name),
        absolute=("logp", "ref_logp"),
        log_ratios=(LogRatio("ref_logp", "logp", cut="logp"),),
        scale=(lambda read: 1 + 2 * abs(read["logp"] - read["ref_logp"])) if name == "k3" else 0,
        slope_scale=float(name == "k3"),
    )


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities under the policy and under the reference."""
    ref_logps = plan.numbers("ref_logps", LOGPS, plan.columns)
    ratios = plan.numbers("logps", LOG_RATIOS[plan.regime.numbers], plan.columns)
    return {"logps": plan.sum(ref_logps, ratios), "ref_logps": ref_logps}


def samples(words: Vocabulary, logps: Tensor, variant: Variant) -> dict[str, Tensor]:
    """Every token as a sample."""
    return {"logps": logps[:, None], "ref_logps": words.ref_logits.log_softmax(-1)[:, None]}


# -- the divergence over the vocabulary -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Position:
    """The logits of one position, π's and q's. An entry of −inf has probability 0: it is left out of the vocabulary."""

    logits: dict[int, arb]
    other: dict[int, arb]
    size: int
    scale: float

    @classmethod
    def of(cls, rows: tuple[Sequence[float], Sequence[float]], arithmetic: Arithmetic) -> Position:
        """Read one position. Scale: the largest log-probability, and 1."""
        allowed = [{v: z for v, z in enumerate(row) if z != -math.inf} for row in rows]
        scale = 1 + sum(max(row.values()) - min(row.values()) + math.log(len(row)) for row in allowed)
        logits, other = ({v: arithmetic.near(z, 1) for v, z in row.items()} for row in allowed)
        return cls(logits, other, len(rows[0]), scale)

    def divergence(self) -> Any:
        """The arguments of the divergence and of its gradient in π's logits."""
        others = probabilities(self.other)
        return {"logits": list(self.logits.values()), "reference": [others[v] for v in self.logits]}

    def turned(self) -> Any:
        """The arguments of its gradient in q's logits, which is that of the forward divergence of π from q."""
        own = probabilities(self.logits)
        return {"logits": list(self.other.values()), "reference": [own.get(v, arb(0)) for v in self.other]}


def probabilities(logits: Mapping[int, arb]) -> dict[int, arb]:
    given = {"logits": list(logits.values())}
    softmax = definition("policy.softmax")
    return {v: evaluate(softmax, {**given, "a": a}) for a, v in enumerate(logits, start=1)}


@precisely
def categorical_kl(case: Case, arithmetic: Arithmetic) -> Answer:
    """Divergences, kl.reverse, with the gradients of both directions."""
    pairs = zip(*(case.tensors[name].flatten(0, -2).tolist() for name in ("logits", "other_logits")), strict=True)
    positions = [Position.of(pair, arithmetic) for pair in pairs]
    reverse, forward = right_hand_side("kl.reverse.gradient"), right_hand_side("kl.forward.gradient")

    def gradients(cotangents: Sequence[float]) -> dict[str, list[Target]]:
        weighted = list(zip(positions, cotangents, strict=True))
        return {
            "logits": [
                x for at, c in weighted for x in slopes_of(at, at.logits, reverse, at.divergence(), c, arithmetic)
            ],
            "other_logits": [
                x for at, c in weighted for x in slopes_of(at, at.other, forward, at.turned(), c, arithmetic)
            ],
        }

    values = [arithmetic.rounded(evaluate(definition("kl.reverse"), at.divergence()), at.scale) for at in positions]
    return Answer([Target(value) for value in values], gradients)


def slopes_of(
    at: Any, allowed: Mapping[int, arb], rhs: Any, given: Any, cotangent: float, arithmetic: Arithmetic
) -> list[Target]:
    """Cotangent × the derivative in each logit, 0 for those that are left out."""
    targets = [Target(arb(0))] * at.size
    for k, v in enumerate(allowed, start=1):
        slope = arithmetic.rounded(evaluate(rhs, {**given, "k": k}), at.scale)
        targets[v] = Target(arithmetic.returned(arithmetic.rounded(slope * cotangent)))
    return targets


def logit_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Logits of one or two positions, q's often near π's. π forbids what q forbids, so that no divergence is +inf."""
    pairs = [_two_rows(plan, row) for row in plan.rows[:2]]
    logits, other = (torch.tensor(rows, dtype=plan.dtype).unsqueeze(1) for rows in zip(*pairs, strict=True))
    return {"logits": logits, "other_logits": other}


def _two_rows(plan: Blueprint, row: Mapping[str, bytes]) -> tuple[list[float], list[float]]:
    logits = row_of_logits(plan, row)
    if plan.regime.numbers == "extreme":
        return logits, row_of_logits(plan, {**row, "logits": row["other_logits"]})
    steps = [LOG_RATIOS["ordinary"][byte] for byte in row["other_logits"][-len(logits) :]]
    other = [z + step for z, step in zip(logits, steps, strict=True)]
    kept = [byte % 2 == 0 for byte in row["forbidden"][-len(logits) :]]
    return logits, [step if z == -math.inf and keep else z for z, step, keep in zip(other, steps, kept, strict=True)]


CONTRACTS = (
    *estimator(
        "kl_estimate",
        term=estimate,
        tensors=("logps", "ref_logps"),
        wrt=("logps",),
        build=token_tensors,
        options={"estimator": ("k1", "k2")},
        samples=Expectation(samples, lambda options: right_hand_side(f"kl.{options['estimator']}.loss_gradient")),
        extras=("extremes",),
    ),
    *estimator(
        "categorical_kl",
        oracle=categorical_kl,
        tensors=("logits", "other_logits"),
        wrt=("logits", "other_logits"),
        build=logit_tensors,
        drawn=("logits", "other_logits", "forbidden", "targets"),
        result=without_vocabulary,
        extras=("forbidden tokens", "extremes"),
    ),
)

"""The contracts of divergences of a student from a teacher: Jensen-Shannon, and over the tokens that the teacher sends.

What a teacher leaves for the tokens that it does not send is 1 − Σ exp(log-probability), which cancels. So these
log-probabilities are read as they are, and the tolerance has the two logarithms of that rest in its scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from flint import arb
from torch import Tensor

from grape_verified.conformance.contract import without_vocabulary
from grape_verified.conformance.contracts.kl import Position, logit_tensors, probabilities, slopes_of
from grape_verified.conformance.families import estimator
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, definition, precisely, right_hand_side
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import LOG_RATIOS, LOGPS, Blueprint, Case, mask_tensor


@precisely
def jensen_shannon(case: Case, arithmetic: Arithmetic) -> Answer:
    """Divergences, divergence.jensen_shannon, with the gradient of the student.

    A token that only one side allows has the limit of its term, minus the logarithm of that side's weight.
    """
    pairs = zip(*(case.tensors[name].flatten(0, -2).tolist() for name in ("logits", "teacher_logits")), strict=True)
    positions = [Position.of(pair, arithmetic) for pair in pairs]
    mixing = arithmetic.near(case.options["mixing"])
    slope = right_hand_side("divergence.jensen_shannon.gradient", "the divergence")

    def gradients(cotangents: Sequence[float]) -> dict[str, list[Target]]:
        weighted = list(zip(positions, cotangents, strict=True))
        return {
            "logits": [
                x for at, c in weighted for x in slopes_of(at, at.logits, slope, _student(at, mixing), c, arithmetic)
            ]
        }

    return Answer([Target(arithmetic.rounded(_value(at, mixing), at.scale)) for at in positions], gradients)


def _student(at: Position, mixing: arb) -> dict[str, Any]:
    """The arguments of the gradient: the logits that the student allows, and the teacher there."""
    teacher = probabilities(at.other)
    return {
        "logits": list(at.logits.values()),
        "teacher": [teacher.get(v, arb(0)) for v in at.logits],
        "mixing": mixing,
    }


def _value(at: Position, mixing: arb) -> Any:
    """The divergence over the tokens that both allow, and what the others add."""
    student, teacher = probabilities(at.logits), probabilities(at.other)
    both = [v for v in student if v in teacher]
    value = arb(0)
    if both:
        given = {"p": [teacher[v] for v in both], "q": [student[v] for v in both], "mixing": mixing}
        value = evaluate(definition("divergence.jensen_shannon"), given)
    for probability, weight, other in ((teacher, mixing, student), (student, 1 - mixing, teacher)):
        alone = sum((x for v, x in probability.items() if v not in other), arb(0))
        value = value - weight * alone * weight.log()
    return value


def pairs_of_logits(plan: Blueprint) -> dict[str, Tensor]:
    """Logits of the student and of the teacher, often close; either may forbid tokens."""
    tensors = logit_tensors(plan)
    return {"logits": tensors["logits"], "teacher_logits": tensors["other_logits"]}


# -- the tokens that a teacher sends ----------------------------------------------------------------------------------

#: The definition and the gradient of each tail.
OF_TAIL = {
    "bucket": ("divergence.bucketed", "divergence.bucketed.gradient"),
    "none": ("divergence.truncated", "divergence.truncated.gradient"),
    "renormalised": ("divergence.renormalised", "divergence.renormalised.gradient"),
}


@dataclass(frozen=True)
class Sent:
    """One position: the logits that the student allows, and the arguments of the definitions."""

    logits: dict[int, arb]
    given: dict[str, Any]
    of_tail: tuple[str, str]
    size: int
    scale: float

    @classmethod
    def of(
        cls, logits: Sequence[float], logps: Sequence[float], tokens: Sequence[int], tail: str, arithmetic: Arithmetic
    ) -> Sent:
        """Read one position. A teacher that leaves nothing for the bucket, but for roundings, has none."""
        allowed = {v: arithmetic.near(z, 1) for v, z in enumerate(logits) if z != -math.inf}
        sent = {v: arb(logp).exp() for v, logp in zip(tokens, logps, strict=True)}
        rest = 1 - sum(sent.values(), arb(0))
        bucket = tail == "bucket" and len(sent) < len(logits) and rest > 0
        finite = [z for z in logits if z != -math.inf]
        scale = 1 + max(finite) - min(finite) + math.log(len(logits)) - min(logps)
        given = {
            "logits": list(allowed.values()),
            "teacher": [sent.get(v, arb(1)) for v in allowed],
            "kept_tokens": [int(v in sent) for v in allowed],
        }
        name = "none" if tail == "bucket" and not bucket else tail
        scale -= float(rest.log().mid()) if bucket else 0
        return cls(allowed, given, OF_TAIL[name], len(logits), scale)

    def value(self, arithmetic: Arithmetic) -> Target:
        """The divergence."""
        return Target(arithmetic.rounded(evaluate(definition(self.of_tail[0]), self.given), self.scale))


@precisely
def top_k_divergence(case: Case, arithmetic: Arithmetic) -> Answer:
    """Divergences over the tokens that a teacher sends, with the gradient of the student."""
    names = ("logits", "teacher_logps", "teacher_tokens")
    rows = zip(*(case.tensors[name].flatten(0, -2).tolist() for name in names), strict=True)
    positions = [Sent.of(z, logps, tokens, case.options["tail"], arithmetic) for z, logps, tokens in rows]

    def gradients(cotangents: Sequence[float]) -> dict[str, list[Target]]:
        weighted = zip(positions, cotangents, strict=True)
        return {
            "logits": [
                x for at, c in weighted
                for x in slopes_of(at, at.logits, right_hand_side(at.of_tail[1]), at.given, c, arithmetic)
            ]
        }  # fmt: skip

    return Answer([at.value(arithmetic) for at in positions], gradients)


def sent_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Logits of a student, and the likeliest tokens of a teacher, often close.

    The student allows all of them and one other, so that no divergence is +inf.
    """
    drawn = logit_tensors(plan)
    teacher = drawn["other_logits"].double()
    logps = torch.where(teacher == -math.inf, 0, teacher).log_softmax(-1)
    vocab = logps.shape[-1]
    k = 1 + plan.rows[0]["targets"][3] % vocab
    needed = torch.zeros_like(logps, dtype=torch.bool).scatter(-1, logps.topk(min(k + 1, vocab)).indices, True)
    logits = drawn["logits"]
    sent, tokens = logps.topk(k)
    return {
        "logits": torch.where(needed & (logits == -math.inf), 0, logits),
        "teacher_logps": sent.to(plan.dtype),
        "teacher_tokens": tokens,
    }


# -- advantages of sampled tokens --------------------------------------------------------------------------------------


@precisely
def distillation_advantages(case: Case, arithmetic: Arithmetic) -> Answer:
    """divergence.token_advantage, from the last token of each row to the first.

    Scale: the log-ratio, and the advantage that is handed on.
    """
    rows = range(len(case.tensors["mask"]))
    return Answer([Target(ball) for row in rows for ball in _walked(case, arithmetic, row)], lambda cotangents: {})


def _walked(case: Case, arithmetic: Arithmetic, row: int) -> list[arb]:
    """The advantage of each token of a row, 0 where masked."""
    given = {"discount": arithmetic.near(case.options["discount"]), "next_advantage": arb(0)}
    results: list[arb] = []
    size = arb(0)
    for t in reversed(range(case.tensors["mask"].shape[1])):
        counts = int(case.tensors["mask"][row, t])
        for symbol, name in (("logp", "logps"), ("teacher_logp", "teacher_logps")):
            given[symbol] = arithmetic.near(float(case.tensors[name][row, t]) if counts else 0.0)
        given["counts"] = arb(counts)
        size = abs(given["teacher_logp"] - given["logp"]) + size if counts else size
        own = arithmetic.rounded(evaluate(definition("divergence.token_advantage"), given), size)
        results = [own if counts else arb(0), *results]
        given["next_advantage"] = arithmetic.rounded(
            evaluate(definition("divergence.advantage_handed_on"), given), counts * size
        )
    return results


def sampled_tokens(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities of sampled tokens under student and teacher, and a mask."""
    student = plan.numbers("logps", LOGPS, plan.columns)
    ratios = plan.numbers("teacher_logps", LOG_RATIOS[plan.regime.numbers], plan.columns)
    return {"logps": student, "teacher_logps": plan.sum(student, ratios), "mask": mask_tensor(plan)}


CONTRACTS = (
    *estimator(
        "distillation_advantages",
        oracle=distillation_advantages,
        tensors=("logps", "teacher_logps", "mask"),
        build=sampled_tokens,
        options={"discount": (1.0, 0.0, 0.9, 0.5)},
    ),
    *estimator(
        "jensen_shannon",
        oracle=jensen_shannon,
        tensors=("logits", "teacher_logits"),
        wrt=("logits",),
        build=pairs_of_logits,
        drawn=("logits", "other_logits", "forbidden", "targets"),
        options={"mixing": (0.5, 0.1, 0.9, 0.3)},
        result=without_vocabulary,
        extras=("forbidden tokens", "extremes"),
    ),
    *estimator(
        "top_k_divergence",
        oracle=top_k_divergence,
        tensors=("logits", "teacher_logps", "teacher_tokens"),
        wrt=("logits",),
        build=sent_tensors,
        drawn=("logits", "other_logits", "forbidden", "targets"),
        options={"tail": ("none", "renormalised")},
        result=without_vocabulary,
        extras=("forbidden tokens", "extremes"),
    ),
)

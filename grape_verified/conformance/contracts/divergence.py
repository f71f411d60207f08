"""The contract of the Jensen-Shannon divergence of a student from a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flint import arb
from torch import Tensor

from grape_verified.conformance.contract import without_vocabulary
from grape_verified.conformance.contracts.kl import Position, logit_tensors, probabilities, slopes_of
from grape_verified.conformance.families import estimator
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, definition, precisely, right_hand_side
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import Blueprint, Case


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


CONTRACTS = (
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
)

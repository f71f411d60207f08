"""Contracts of DPO's losses."""

from __future__ import annotations

from flint import arb
from grape_spec.evaluate import evaluate
from grape_spec.language.registry import definition

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import EVERY, LAST, Contract, Option, like_first, number
from grape_verified.conformance.oracle import (
    Answer,
    Arithmetic,
    Term,
    mean_of_rows,
    precisely,
    right_hand_side,
    unreduced,
)
from grape_verified.conformance.strategies import Case

PAIR = ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
WRT = PAIR[:2]
OPTIONS = {"beta": Option(0.1, (0.5, 1.0, 0.01, 5.0)), "label_smoothing": Option(0.0, (0.1, 0.25, 0.45))}
CLAIMS = ("dpo.margin", "dpo.loss", "dpo.smoothed_loss", "dpo.gradient", "dpo.label_smoothing")


@precisely
def dpo(case: Case, arithmetic: Arithmetic) -> Answer:
    """DPO's loss: dpo.smoothed_loss at dpo.margin, the mean over the pairs."""
    return mean_of_rows(case, [_term(case, arithmetic, i) for i in _pairs(case)], WRT, arithmetic)


@precisely
def dpo_per_pair(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before the mean."""
    return unreduced([_term(case, arithmetic, i) for i in _pairs(case)], WRT, arithmetic)


def _pairs(case: Case) -> range:
    return range(len(case.tensors["chosen_logps"]))


def _term(case: Case, arithmetic: Arithmetic, i: int) -> Term:
    """The smoothed loss of one pair. Scale: 1 for the value and β for the slopes, as −log σ(m) is small for large m."""
    near, options = arithmetic.near, case.options
    smoothing = options["label_smoothing"]
    pair = {name.removesuffix("s"): near(tensor[i].item()) for name, tensor in case.tensors.items()}
    given = pair | {"beta": near(options["beta"]), "label_smoothing": near(smoothing, 1 if smoothing else 0)}
    given["margin"] = evaluate(definition("dpo.margin"), given)

    def slope(name: str) -> arb:
        rhs = right_hand_side("dpo.label_smoothing", name.removesuffix("_logps"))
        return arithmetic.rounded(evaluate(rhs, given), options["beta"])

    return Term(arithmetic.rounded(evaluate(definition("dpo.smoothed_loss"), given), 1), slope)


CONTRACTS = (
    Contract(
        name="dpo",
        kernel="dpo_loss",
        text="DPO's loss with label smoothing, the mean over pairs.",
        tensors=PAIR,
        wrt=WRT,
        options=OPTIONS | {"denominator": Option(None, (7, 2.5, 1))},
        build=strategies.pair_tensors,
        blocks=PAIR,
        oracle=dpo,
        result=number,
        rests_on=(*CLAIMS, "aggregation.token_mean", "aggregation.gradient", "aggregation.partition"),
        properties=(*EVERY, "options", "partition", "extremes", *LAST),
    ),
    Contract(
        name="dpo_per_pair",
        kernel="dpo_per_pair",
        text="DPO's loss of each pair.",
        tensors=PAIR,
        wrt=WRT,
        options=OPTIONS,
        build=strategies.pair_tensors,
        blocks=PAIR,
        oracle=dpo_per_pair,
        result=like_first,
        rests_on=CLAIMS,
        properties=(*EVERY, "cotangents", "options", "extremes", *LAST),
    ),
)

"""Contracts of DPO's losses, of robust DPO and of IPO."""

from __future__ import annotations

from typing import Any

from flint import arb
from grape_spec.evaluate import evaluate
from grape_spec.language.registry import definition
from torch import Tensor

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
from grape_verified.conformance.strategies import Blueprint, Case

PAIR = ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
WRT = PAIR[:2]
BETA = {"beta": Option(0.1, (0.5, 1.0, 0.01, 5.0))}
SMOOTHING = {"label_smoothing": Option(0.0, (0.1, 0.25, 0.45))}
FLIPS = {"flip_probability": Option(0.1, (0.25, 0.0, 0.45))}
LOG_RATIO = {"log_ratio": Option("sum", ("mean",))}
DENOMINATOR = {"denominator": Option(None, (7, 2.5, 1))}
CLAIMS = ("dpo.margin", "dpo.loss", "dpo.smoothed_loss", "dpo.gradient", "dpo.label_smoothing")
ROBUST_CLAIMS = ("dpo.margin", "dpo.loss", "dpo.robust_loss", "dpo.robust")
IPO_CLAIMS = ("dpo.log_ratio_margin", "dpo.ipo_loss", "dpo.ipo")
MEAN_CLAIMS = ("aggregation.token_mean", "aggregation.gradient", "aggregation.partition")


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


def _read(case: Case, arithmetic: Arithmetic, i: int) -> dict[str, Any]:
    """The log-probabilities of one pair, and β."""
    pair = {name.removesuffix("s"): arithmetic.near(case.tensors[name][i].item()) for name in PAIR}
    return pair | {"beta": arithmetic.near(case.options["beta"])}


def _term(case: Case, arithmetic: Arithmetic, i: int) -> Term:
    """The smoothed loss of one pair. Scale: 1 for the value and β for the slopes, as −log σ(m) is small for large m."""
    near, options = arithmetic.near, case.options
    smoothing = options["label_smoothing"]
    given = _read(case, arithmetic, i) | {"label_smoothing": near(smoothing, 1 if smoothing else 0)}
    given["margin"] = evaluate(definition("dpo.margin"), given)

    def slope(name: str) -> arb:
        rhs = right_hand_side("dpo.label_smoothing", name.removesuffix("_logps"))
        return arithmetic.rounded(evaluate(rhs, given), options["beta"])

    return Term(arithmetic.rounded(evaluate(definition("dpo.smoothed_loss"), given), 1), slope)


# -- robust DPO -------------------------------------------------------------------------------------------------------


@precisely
def robust_dpo(case: Case, arithmetic: Arithmetic) -> Answer:
    """Robust DPO's loss: dpo.robust_loss at dpo.margin, the mean over the pairs."""
    return mean_of_rows(case, [_robust_term(case, arithmetic, i) for i in _pairs(case)], WRT, arithmetic)


@precisely
def robust_dpo_per_pair(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before the mean."""
    return unreduced([_robust_term(case, arithmetic, i) for i in _pairs(case)], WRT, arithmetic)


def _robust_term(case: Case, arithmetic: Arithmetic, i: int) -> Term:
    """The corrected loss of one pair. Scale: that of DPO over 1 − 2ε, as it is a difference of two such losses."""
    near, options = arithmetic.near, case.options
    flipped = options["flip_probability"]
    given = _read(case, arithmetic, i) | {"flip_probability": near(flipped, 1 if flipped else 0)}
    given["margin"] = evaluate(definition("dpo.margin"), given)
    scale = 1 / (1 - 2 * flipped)

    def slope(name: str) -> arb:
        rhs = right_hand_side("dpo.robust", name.removesuffix("_logps"))
        return arithmetic.rounded(evaluate(rhs, given), options["beta"] * scale)

    return Term(arithmetic.rounded(evaluate(definition("dpo.robust_loss"), given), scale), slope)


# -- IPO --------------------------------------------------------------------------------------------------------------

LENGTHS = ("chosen_lengths", "rejected_lengths")
POSSIBLE_LENGTHS = [float((1, 2, 3, 5, 8, 40, 1000)[i % 7]) for i in range(256)]


def pairs_with_lengths(plan: Blueprint) -> dict[str, Tensor]:
    """Pairs, and the numbers of tokens of their responses."""
    return {**strategies.pair_tensors(plan), **{name: plan.numbers(name, POSSIBLE_LENGTHS) for name in LENGTHS}}


@precisely
def ipo(case: Case, arithmetic: Arithmetic) -> Answer:
    """IPO's loss: dpo.ipo_loss at dpo.log_ratio_margin, the mean over the pairs."""
    return mean_of_rows(case, [_ipo_term(case, arithmetic, i) for i in _pairs(case)], WRT, arithmetic)


@precisely
def ipo_per_pair(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before the mean."""
    return unreduced([_ipo_term(case, arithmetic, i) for i in _pairs(case)], WRT, arithmetic)


def _ipo_term(case: Case, arithmetic: Arithmetic, i: int) -> Term:
    """The squared loss of one pair. Scale: 0, as the target is read with the roundings of β."""
    by_mean = case.options["log_ratio"] == "mean"
    given = _read(case, arithmetic, i)
    given |= {name.removesuffix("s"): int(case.tensors[name][i].item()) if by_mean else 1 for name in LENGTHS}
    given["log_ratio_difference"] = evaluate(definition("dpo.log_ratio_margin"), given)

    def slope(name: str) -> arb:
        return evaluate(right_hand_side("dpo.ipo", name.removesuffix("_logps")), given)

    return Term(evaluate(definition("dpo.ipo_loss"), given), slope)


CONTRACTS = (
    Contract(
        name="dpo",
        kernel="dpo_loss",
        text="DPO's loss with label smoothing, the mean over pairs.",
        tensors=PAIR,
        wrt=WRT,
        options=BETA | SMOOTHING | DENOMINATOR,
        build=strategies.pair_tensors,
        blocks=PAIR,
        oracle=dpo,
        result=number,
        rests_on=(*CLAIMS, *MEAN_CLAIMS),
        properties=(*EVERY, "options", "partition", "extremes", *LAST),
    ),
    Contract(
        name="dpo_per_pair",
        kernel="dpo_per_pair",
        text="DPO's loss of each pair.",
        tensors=PAIR,
        wrt=WRT,
        options=BETA | SMOOTHING,
        build=strategies.pair_tensors,
        blocks=PAIR,
        oracle=dpo_per_pair,
        result=like_first,
        rests_on=CLAIMS,
        properties=(*EVERY, "cotangents", "options", "extremes", *LAST),
    ),
    Contract(
        name="robust_dpo",
        kernel="robust_dpo_loss",
        text="Robust DPO's loss, corrected for a known share of flipped labels, the mean over pairs.",
        tensors=PAIR,
        wrt=WRT,
        options=BETA | FLIPS | DENOMINATOR,
        build=strategies.pair_tensors,
        blocks=PAIR,
        oracle=robust_dpo,
        result=number,
        rests_on=(*ROBUST_CLAIMS, *MEAN_CLAIMS),
        properties=(*EVERY, "options", "partition", "extremes", *LAST),
    ),
    Contract(
        name="robust_dpo_per_pair",
        kernel="robust_dpo_per_pair",
        text="Robust DPO's loss of each pair.",
        tensors=PAIR,
        wrt=WRT,
        options=BETA | FLIPS,
        build=strategies.pair_tensors,
        blocks=PAIR,
        oracle=robust_dpo_per_pair,
        result=like_first,
        rests_on=ROBUST_CLAIMS,
        properties=(*EVERY, "cotangents", "options", "extremes", *LAST),
    ),
    Contract(
        name="ipo",
        kernel="ipo_loss",
        text="IPO's squared loss, by sums or means over tokens, the mean over pairs.",
        tensors=(*PAIR, *LENGTHS),
        wrt=WRT,
        options=BETA | LOG_RATIO | DENOMINATOR,
        build=pairs_with_lengths,
        blocks=(*PAIR, *LENGTHS),
        oracle=ipo,
        result=number,
        rests_on=(*IPO_CLAIMS, *MEAN_CLAIMS),
        properties=(*EVERY, "options", "partition", "extremes", *LAST),
        by_keyword=dict.fromkeys(LENGTHS, "log_ratio"),
    ),
    Contract(
        name="ipo_per_pair",
        kernel="ipo_per_pair",
        text="IPO's loss of each pair.",
        tensors=(*PAIR, *LENGTHS),
        wrt=WRT,
        options=BETA | LOG_RATIO,
        build=pairs_with_lengths,
        blocks=(*PAIR, *LENGTHS),
        oracle=ipo_per_pair,
        result=like_first,
        rests_on=IPO_CLAIMS,
        properties=(*EVERY, "cotangents", "options", "extremes", *LAST),
        by_keyword=dict.fromkeys(LENGTHS, "log_ratio"),
    ),
)

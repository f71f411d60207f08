"""Contracts of importance weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

from flint import arb
from torch import Tensor

from grape_verified.conformance.contract import Options, one_for_each_row
from grape_verified.conformance.families import estimator
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, definition, precisely
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import LOG_RATIOS, LOGPS, Blueprint, Case, mask_tensor

WEIGHTS = {"truncate": "importance.truncated", "mask": "importance.masked"}
RATIOS = {"token": "importance.ratio", "sequence": "importance.sequence_ratio"}


def weight(options: Options) -> Formula:
    """The weight of one token, given its ratio or that of its sequence."""
    logps = {"trainer_logp": "old_logps", "sampler_logp": "sampler_logps"}
    tables = {"trainer_logps": "old_logps", "sampler_logps": "sampler_logps"}
    return Formula(
        WEIGHTS[options["outside"]],
        inner={"omega": RATIOS[options["level"]]},
        reads={"weight_low": "low", "weight_high": "high", **logps, **tables},
        absolute=("trainer_logp", "sampler_logp", "trainer_logps", "sampler_logps"),
    )


@precisely
def importance_weights(case: Case, arithmetic: Arithmetic) -> Answer:
    """Weights, 0 where masked."""
    formula = weight(case.options)

    def target(i: int, t: int) -> Target:
        return Target(arithmetic.rounded(formula.term(case, arithmetic, i, t).value))

    counted = case.tensors["mask"].tolist()
    places = [(i, t) for i, row in enumerate(counted) for t in range(len(row))]
    return Answer([target(i, t) if counted[i][t] else Target(arb(0)) for i, t in places], lambda cotangents: {})


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities under the old policy and under the sampler, and a mask; some ratios are near an end."""
    ends = [math.log(end) + step for end in (plan.options["high"], plan.options["low"]) if end for step in (0.1, -0.1)]
    return _tensors(plan, [*LOG_RATIOS[plan.regime.numbers][: 256 - len(ends)], *ends])


def row_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same for filters, with most ratios up to twice as far from 1 as an end, so that lengths matter."""
    pool = LOG_RATIOS[plan.regime.numbers]
    if plan.regime.numbers == "ordinary":
        pool = [
            *(math.log(plan.options["high"]) * i / 32 for i in range(64)),
            *(-i / 32 for i in range(64)),
            *pool[:64],
        ]
    return _tensors(plan, pool)


def ordered(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """Ends that do not cross."""
    return {**options, "low": 0.0} if options["low"] > options["high"] else options


def _tensors(plan: Blueprint, pool: list[float]) -> dict[str, Tensor]:
    sampler = plan.numbers("sampler_logps", LOGPS, plan.columns)
    return {
        "old_logps": plan.sum(sampler, plan.numbers("old_logps", pool, plan.columns)),
        "sampler_logps": sampler,
        "mask": mask_tensor(plan),
    }


STATISTICS = {
    "geometric": "importance.geometric_mean",
    "product": "importance.sequence_ratio",
    "k3": "importance.mean_k3",
}
TABLES = {"trainer_logps": "old_logps", "sampler_logps": "sampler_logps"}
TOKENS = {"trainer_logp": "old_logps", "sampler_logp": "sampler_logps"}


def statistic(case: Case, arithmetic: Arithmetic, i: int) -> arb:
    """The statistic of one sequence that has tokens."""
    name = case.options["statistic"]
    if name != "max":
        formula = Formula(STATISTICS[name], reads=TABLES, absolute=tuple(TABLES))
        return arithmetic.rounded(formula.term(case, arithmetic, i).value)
    formula = Formula(RATIOS["token"], reads=TOKENS, absolute=tuple(TOKENS))
    places = [t for t, counts in enumerate(case.tensors["mask"][i].tolist()) if counts]
    ratios = [arithmetic.rounded(formula.term(case, arithmetic, i, t).value) for t in places]
    return reduce(arb.max, ratios)


@precisely
def sequence_filter(case: Case, arithmetic: Arithmetic) -> Answer:
    """importance.kept_sequence at the statistic of each sequence; 0 without tokens."""
    ends = {"weight_low": arithmetic.near(case.options["low"]), "weight_high": arithmetic.near(case.options["high"])}

    def target(i: int) -> Target:
        given = {"ratio_statistic": statistic(case, arithmetic, i), **ends}
        return Target(evaluate(definition("importance.kept_sequence"), given, hull=True))

    has_tokens = case.tensors["mask"].bool().any(1).tolist()
    targets = [target(i) if some else Target(arb(0)) for i, some in enumerate(has_tokens)]
    return Answer(targets, lambda cotangents: {})


WEIGHT_CONTRACTS = estimator(
    "importance_weights",
    oracle=importance_weights,
    tensors=("old_logps", "sampler_logps", "mask"),
    build=token_tensors,
    options={
        "level": ("token", "sequence"),
        "low": (0.0, 0.5),
        "high": (2.0, 5.0, 1.5),
        "outside": ("truncate", "mask"),
    },
    extras=("extremes",),
)

FILTER_CONTRACTS = estimator(
    "sequence_filter",
    oracle=sequence_filter,
    tensors=("old_logps", "sampler_logps", "mask"),
    build=row_tensors,
    options={
        "statistic": ("geometric", "max", "k3", "product"),
        "low": (0.0, 0.5),
        "high": (1.25, 1.5, 0.125),
    },
    result=one_for_each_row,
    extras=("extremes",),
    fit=ordered,
)

CONTRACTS = (*WEIGHT_CONTRACTS, *FILTER_CONTRACTS)

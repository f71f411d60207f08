"""Contracts of importance weights."""

from __future__ import annotations

import math

from flint import arb
from torch import Tensor

from grape_verified.conformance.contract import Options
from grape_verified.conformance.families import estimator
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, precisely
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
    sampler = plan.numbers("sampler_logps", LOGPS, plan.columns)
    ends = [math.log(end) + step for end in (plan.options["high"], plan.options["low"]) if end for step in (0.1, -0.1)]
    pool = [*LOG_RATIOS[plan.regime.numbers][: 256 - len(ends)], *ends]
    return {
        "old_logps": plan.sum(sampler, plan.numbers("old_logps", pool, plan.columns)),
        "sampler_logps": sampler,
        "mask": mask_tensor(plan),
    }


CONTRACTS = estimator(
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

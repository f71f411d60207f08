"""Contracts of rejection sampling: the weights of samples, and the loss on the kept ones.

Rewards are compared, so they are read exactly, without roundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flint import arb
from torch import Tensor

from grape_verified.conformance.contract import EVERY, LAST, MASKED, MASKS, Contract, Option, fit_reduction, number
from grape_verified.conformance.contracts.sft import POOLS
from grape_verified.conformance.defaults import options_of
from grape_verified.conformance.families import estimator
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.oracle import Aggregation, Answer, Arithmetic, constants, definition, precisely, reduced
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import Blueprint, Case, mask_tensor

GROUP_SIZES, THRESHOLDS, MAX_REWARDS = (2, 3, 1), (0.5, 0.0, -1.0), (2.0, 2.5, 10.0)
LARGEST_GROUP = max(GROUP_SIZES)

#: Rewards that tie often, meet the thresholds and the largest reward, and lie close together.
REWARDS = {
    "ordinary": [1.0, 0.0, 0.5, 2.0, -1.0, -2.0, 0.5078125, 1.5] * 32,
    "extreme": [1.0, 1e30, -1e30, 0.0, 1e-30, -1e-30, -1e4, 2.0] * 32,
}
#: The same below the largest reward that is allowed, and uniform numbers below 1.
BOUNDED_REWARDS = {"ordinary": REWARDS["ordinary"], "extreme": [1.0, -1e30, -200.0, 0.0, 2.0, 1.5, -50.0, -1e4] * 32}
UNIFORMS = [0.5, 0.0, 0.25, 0.75, 0.125, 0.99609375, 0.0078125, 0.375] * 32


# -- weights ------------------------------------------------------------------------------------------------------


@precisely
def best_of_n_weights(case: Case, arithmetic: Arithmetic) -> Answer:
    """rejection.best_of_n.weight of each sample in its group. Scale: 0."""
    rewards, n = case.tensors["rewards"].tolist(), case.options["group_size"]
    groups = [rewards[start : start + n] for start in range(0, len(rewards), n)]
    return constants([arithmetic.rounded(weight) for group in groups for weight in _best_of(group)])


@precisely
def threshold_weights(case: Case, arithmetic: Arithmetic) -> Answer:
    """rejection.threshold_weight of each sample. Scale: 0."""
    return constants([_above(reward, case.options["threshold"]) for reward in case.tensors["rewards"].tolist()])


@precisely
def acceptance_probabilities(case: Case, arithmetic: Arithmetic) -> Answer:
    """rejection.acceptance of each sample. Scale: 0, as nothing is subtracted after the exponential."""
    law = definition("rejection.acceptance")
    rewards = case.tensors["rewards"].tolist()
    return constants([arithmetic.rounded(evaluate(law, _given(case, arithmetic, reward))) for reward in rewards])


@precisely
def acceptance_weights(case: Case, arithmetic: Arithmetic) -> Answer:
    """rejection.acceptance_weight of each sample; 0 and 1 are both right if rounding decides the comparison."""
    law, rewards = definition("rejection.acceptance_weight"), case.tensors["rewards"].tolist()
    odds = [
        arithmetic.rounded(evaluate(definition("rejection.acceptance"), _given(case, arithmetic, r))) for r in rewards
    ]
    tosses = zip(case.tensors["uniforms"].tolist(), odds, strict=True)
    return constants([evaluate(law, {"uniform": u, "probability": p}, hull=True) for u, p in tosses])


def _given(case: Case, arithmetic: Arithmetic, reward: float) -> dict[str, Any]:
    options = {name: arithmetic.near(case.options[name]) for name in ("beta", "max_reward")}
    return {"outcome_reward": arithmetic.near(reward), **options}


def _best_of(group: Sequence[float]) -> list[arb]:
    law = definition("rejection.best_of_n.weight")
    return [evaluate(law, {"sample_reward": list(group), "sample": i}) for i in range(1, len(group) + 1)]


def _above(reward: float, threshold: float) -> arb:
    return evaluate(definition("rejection.threshold_weight"), {"outcome_reward": reward, "threshold": threshold})


# -- the loss -----------------------------------------------------------------------------------------------------


KEPT = Formula("rejection.token_loss")


@precisely
def rejection_sampling(case: Case, arithmetic: Arithmetic) -> Answer:
    """rejection.token_loss with the weights of kept sequences, aggregated with their total. Scale: 0."""
    weights = _kept(case)
    if case.options["denominator"] is None and case.options["aggregation"] != "token_sum":
        case = case.with_options(denominator=_size_of_kept(case, weights))
    how = Aggregation.of(case, arithmetic)
    kept = [(i, t) for i, t in how.counted() if weights[i] > 0]
    terms = {(i, t): KEPT.term(case, arithmetic, i, t, kept_weight=arithmetic.rounded(weights[i])) for i, t in kept}
    return reduced(terms, how, ["logps"], arithmetic)


def _kept(case: Case) -> list[arb]:
    """The weight of every sequence, 0 for one without a counted token."""
    rewards, present = case.tensors["rewards"].tolist(), case.tensors["mask"].bool().any(1).tolist()
    weights = [arb(0)] * len(rewards)
    if case.options["keep"] == "threshold":
        return [
            _above(r, case.options["threshold"]) if there else arb(0) for r, there in zip(rewards, present, strict=True)
        ]
    for start in range(0, len(rewards), case.options["group_size"]):
        members = [i for i in range(start, start + case.options["group_size"]) if present[i]]
        for i, weight in zip(members, _best_of([rewards[i] for i in members]), strict=True):
            weights[i] = weight
    return weights


def _size_of_kept(case: Case, weights: Sequence[arb]) -> float:
    """The default denominator."""
    given: dict[str, Any] = {"sequence_weight": list(weights)}
    if case.options["aggregation"] != "token_mean":
        return float(evaluate(definition("rejection.kept_sequences"), given).mid())
    given["mask"] = [[int(m) for m in row] for row in case.tensors["mask"].tolist()]
    return float(evaluate(definition("rejection.kept_tokens"), given).mid())


# -- inputs -------------------------------------------------------------------------------------------------------


def _members(plan: Blueprint) -> Blueprint:
    """The plan with a row for each member of each group: every drawn row holds the bytes of a whole group."""
    members = range(plan.options["group_size"] or 1)
    rows = [
        {name.removesuffix(f" {member}"): drawn for name, drawn in row.items()}
        for row in plan.rows
        for member in members
    ]
    return replace(plan, rows=rows)


def reward_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Rewards of samples, none above what `max_reward` may be."""
    return {"rewards": plan.numbers("rewards", BOUNDED_REWARDS[plan.regime.numbers])}


def tossed_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with uniform numbers."""
    return {**reward_tensors(plan), "uniforms": plan.numbers("uniforms", UNIFORMS)}


def grouped_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Rewards of whole groups."""
    return {"rewards": _members(plan).numbers("rewards", REWARDS[plan.regime.numbers])}


def sampled_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities, rewards and a mask of whole groups."""
    members = _members(plan)
    return {
        "logps": members.numbers("logps", POOLS[plan.regime.numbers], plan.columns),
        "rewards": members.numbers("rewards", REWARDS[plan.regime.numbers]),
        "mask": mask_tensor(members),
    }


def drawn_by_member(*names: str) -> tuple[str, ...]:
    """The bytes of every member of a group."""
    return tuple(f"{name} {member}" for name in names for member in range(LARGEST_GROUP))


def groups(case: Case) -> int:
    """The number of groups, or of samples without groups."""
    return len(case.tensors["rewards"]) // (case.options.get("group_size") or 1)


def fit(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """The options made consistent: best of a group needs its size, and a threshold a number."""
    if options["keep"] == "best":
        options["group_size"], options["threshold"] = options["group_size"] or GROUP_SIZES[0], None
    else:
        options["group_size"] = None
        options["threshold"] = THRESHOLDS[0] if options["threshold"] is None else options["threshold"]
    return fit_reduction(options, varied)


# -- contracts ----------------------------------------------------------------------------------------------------

GROUP_SIZE = Option(GROUP_SIZES[0], GROUP_SIZES[1:])
ACCEPTANCE = {"beta": (1.0, 0.5, 0.1, 5.0), "max_reward": MAX_REWARDS}

CONTRACTS = (
    *estimator(
        "best_of_n_weights",
        oracle=best_of_n_weights,
        tensors=("rewards",),
        build=grouped_tensors,
        drawn=drawn_by_member("rewards"),
        options={"group_size": GROUP_SIZE},
        extras=("extremes",),
        parts=groups,
    ),
    *estimator(
        "threshold_weights",
        oracle=threshold_weights,
        tensors=("rewards",),
        build=reward_tensors,
        options={"threshold": THRESHOLDS},
        extras=("extremes",),
    ),
    *estimator(
        "acceptance_probabilities",
        oracle=acceptance_probabilities,
        tensors=("rewards",),
        build=reward_tensors,
        options=ACCEPTANCE,
        extras=("extremes",),
    ),
    *estimator(
        "acceptance_weights",
        oracle=acceptance_weights,
        tensors=("rewards", "uniforms"),
        build=tossed_tensors,
        options=ACCEPTANCE,
        extras=("extremes",),
    ),
    Contract(
        name="rejection_sampling",
        kernel="rejection_sampling_loss",
        tensors=("logps", "rewards", "mask"),
        wrt=("logps",),
        options=options_of(
            "rejection_sampling_loss",
            {"group_size": GROUP_SIZE, "keep": ("threshold",), "threshold": THRESHOLDS},
            ("aggregation", "denominator", "max_length"),
        ),
        build=sampled_tensors,
        drawn=drawn_by_member("logps", "rewards", "mask"),
        oracle=rejection_sampling,
        result=number,
        properties=(*EVERY, *MASKED, "extremes", *LAST),
        variants=MASKS,
        parts=groups,
        fit=fit,
    ),
)

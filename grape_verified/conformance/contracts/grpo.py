"""Contracts of the advantages of a group, of GRPO's loss and of its variants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from flint import arb
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import CLIPPING, Options, fit_reduction
from grape_verified.conformance.contracts.ppo import CLIPPED, TOKEN
from grape_verified.conformance.defaults import options_of
from grape_verified.conformance.families import estimator, sequence_loss, token_loss
from grape_verified.conformance.formula import Formula, LogRatio
from grape_verified.conformance.oracle import Answer, Arithmetic, constants, definition, precisely, right_hand_side
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import LOG_RATIOS, Blueprint, Case

# -- advantages of a group --------------------------------------------------------------------------------------------

#: Rewards that are exact in every dtype come first and often, so that some groups have equal ones.
REWARDS = [1.0, 0.0, 0.5, -1.0] * 32 + [round(i / 32 - 2, 2) for i in range(128)]

SCALING: dict[str, Any] = {
    "baseline": ("mean", "leave_one_out", "none"),
    "scale": ("std", "none"),
    "ddof": (1, 0),
    "eps": (0.0, 1e-4, 0.5),
}


def group_rewards(plan: Blueprint) -> dict[str, Tensor]:
    """One group of rewards for each row."""
    return {"rewards": plan.numbers("rewards", REWARDS, plan.options["group_size"]).flatten()}


def groups(case: Case) -> int:
    """The number of groups."""
    return len(case.tensors["rewards"]) // int(case.options["group_size"])


def without_scale(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """Without a scale, ddof and ε have their defaults."""
    if options["scale"] == "none":
        usual = options_of("group_advantages", SCALING)
        options |= {name: usual[name].default for name in ("ddof", "eps")}
    return fit_reduction(options, varied)


@precisely
def group_advantages(case: Case, arithmetic: Arithmetic) -> Answer:
    """Deviations from a baseline, grpo.centred or grpo.left_out, scaled by grpo.scaled_deviation.

    Whether a group varies is not a matter of rounding: for equal rewards the spec claims the sum of squares. Scale: the
    largest reward for a deviation, 0 for a ratio of two.
    """
    by_group = case.tensors["rewards"].reshape(-1, case.options["group_size"]).tolist()
    return constants([value for group in by_group for value in _of_group(group, case, arithmetic)])


def _of_group(rewards: list[float], case: Case, arithmetic: Arithmetic) -> list[arb]:
    given: dict[str, Any] = {"response_reward": [arithmetic.near(r) for r in rewards]}
    given |= {"divisor": len(rewards) - case.options["ddof"], "eps": arithmetic.near(case.options["eps"])}
    if len(set(rewards)) > 1:
        given["squares"] = evaluate(definition("grpo.group_spread"), given)
    else:
        given["squares"] = evaluate(right_hand_side("grpo.advantage.degenerate", "equal rewards do not vary"), given)
    largest = max(map(abs, rewards))
    return [_advantage(given | {"g": i + 1}, largest, case.options, arithmetic) for i in range(len(rewards))]


def _advantage(given: dict[str, Any], largest: float, options: Options, arithmetic: Arithmetic) -> arb:
    deviation = given["response_reward"][given["g"] - 1]
    if options["baseline"] != "none":
        about = definition({"mean": "grpo.centred", "leave_one_out": "grpo.left_out"}[options["baseline"]])
        deviation = arithmetic.rounded(evaluate(about, given), largest, terms=len(given["response_reward"]))
    if options["scale"] == "none":
        return deviation
    scaled = evaluate(definition("grpo.scaled_deviation"), given | {"deviation": deviation})
    return arithmetic.rounded(scaled, terms=len(given["response_reward"]))


# -- GRPO -------------------------------------------------------------------------------------------------------------


def penalised(options: Options) -> Formula:
    """The objective of one token: the clipped surrogate minus the KL penalty."""
    if options["kl_coef"] == 0:
        return CLIPPED
    estimator, ratio = options["kl_estimator"], options["kl_ratio"]
    term, constants, part = _penalty(estimator, ratio)
    return replace(
        CLIPPED,
        value="grpo.token_objective",
        slope=("grpo.gradient" if ratio == "absent" and not constants else "grpo.kl_ratio.gradient", part),
        inner={"kl_term": term},
        constants=constants,
        absolute=("logp", "old_logp", "ref_logp", "clip_low", "clip_high"),
        log_ratios=(LogRatio("logp", "old_logp", cut="old_logp"), LogRatio("ref_logp", "logp", cut="ref_logp")),
        slope_scale=_cancelling if term == "kl.k3.attached" else None,
    )


def _cancelling(numbers: Mapping[str, Any]) -> float:
    """The size of the slopes of the ratio and of k3, most of which cancels; autograd computes them one by one."""
    x = numbers["logp"] - numbers["ref_logp"]
    ratio, exponential = (math.exp(min(power, 700.0)) for power in (numbers["logp"] - numbers["old_logp"], -x))
    size: float = numbers["kl_coef"] * ratio * (exponential + abs(x) + 1)
    return size


def _penalty(estimator: str, ratio: str) -> tuple[str, dict[str, str], str]:
    """The definition of the penalty, what is constant in it, and the part that states the slope of the objective."""
    weight = {"kl_weight": "ppo.ratio"} if ratio == "detached" else {}
    suffix = "" if ratio == "absent" else f".{ratio}"
    if estimator.endswith("+"):
        excess = {"kl_excess": f"kl.{estimator[:2]}.excess"}
        return f"kl.straight_through{suffix}", excess | weight, f"one token, straight through{suffix.replace('.', ' ')}"
    if ratio == "absent":
        return f"kl.{estimator}", {}, f"one token, {estimator}"
    return f"kl.{estimator}{suffix}", weight, f"one token, {estimator} {ratio}"


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """logps, old_logps, advantages and ref_logps.

    If both exponentials leave the range, the sign of their difference is undefined; so the reference is drawn below the
    policy there.
    """
    tensors = strategies.token_tensors(plan)
    pool = LOG_RATIOS["extreme" if plan.regime.numbers == "extreme" else "ordinary"]
    above, logps = plan.numbers("ref_logps", pool, plan.columns), tensors["logps"]
    far = logps - tensors["old_logps"] > 20
    return {**tensors, "ref_logps": plan.sum(logps, torch.where(far, -above.abs(), above))}


def fit_kl_penalty(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """Without a coefficient the other options have no effect; an attached ratio takes no straight-through estimate."""
    if options["kl_coef"] == 0:
        options |= {"kl_estimator": "k3", "kl_ratio": "absent"}
    if options["kl_ratio"] == "attached":
        options["kl_estimator"] = options["kl_estimator"].removesuffix("+")
    return fit_reduction(options, varied)


# -- variants ---------------------------------------------------------------------------------------------------------

CISPO = Formula(
    "grpo.cispo.objective",
    slope=("grpo.cispo.gradient", "in the log-probability"),
    constants={"rho": "ppo.ratio", "constant_weight": "grpo.cispo.weight"},
    absolute=("logp", "old_logp", "clip_low", "clip_high"),
    objective=True,
)

GSPO = Formula(
    "grpo.gspo.objective",
    slope=("grpo.gspo.gradient", "of the objective"),
    absolute=("logps", "old_logps", "clip_low", "clip_high"),
    log_ratios=(LogRatio("logps", "old_logps", cut="logps"),),
    objective=True,
)

KL: dict[str, Any] = {
    "kl_coef": (0.1, 1.0, 0.04),
    "kl_estimator": ("k1", "k2", "k3", "k1+", "k3+"),
    "kl_ratio": ("absent", "detached", "attached"),
}

CONTRACTS = (
    *estimator(
        "group_advantages",
        oracle=group_advantages,
        tensors=("rewards",),
        build=group_rewards,
        options={"group_size": (4, 2, 3, 1, 6)} | SCALING,
        parts=groups,
        fit=without_scale,
        large={"group_size": 64},
        close=("rewards",),
    ),
    *token_loss(
        "grpo",
        term=penalised,
        tensors=(*TOKEN, "ref_logps"),
        build=token_tensors,
        options=CLIPPING | KL,
        kinks=True,
        by_keyword={"ref_logps": "kl_coef"},
        fit=fit_kl_penalty,
    ),
    *token_loss(
        "dapo",
        term=CLIPPED,
        tensors=TOKEN,
        build=strategies.token_tensors,
        options=CLIPPING,
        kinks=True,
        aggregation="token_mean",
    ),
    *token_loss(
        "dr_grpo",
        term=CLIPPED,
        tensors=TOKEN,
        build=strategies.token_tensors,
        options=CLIPPING | {"max_length": (6, 100, 1, 3)},
        kinks=True,
        aggregation="fixed_length",
    ),
    *sequence_loss(
        "gspo",
        term=GSPO,
        tensors=TOKEN,
        build=strategies.token_tensors,
        options={"clip_low": (0.2, 0.1, 0.0, 1.0), "clip_high": (0.2, 0.5, 0.0, 4.0)},
        kinks=True,
        longest=34,  # each slope takes a sum over its row
    ),
    *token_loss(
        "cispo",
        term=CISPO,
        tensors=TOKEN,
        build=strategies.token_tensors,
        options={"clip_low": (0.2, 0.5, 0.0), "clip_high": (0.2, 1.0, 0.0, 9.0)},
    ),
)

"""Contracts of the advantages of a group, of GRPO's loss and of its variants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grape_spec.grpo
import grape_spec.policy
import torch
from flint import arb
from grape_spec.evaluate import evaluate
from grape_spec.language import Diff
from grape_spec.language.registry import definition
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import (
    ADVANTAGES,
    AGGREGATION_CLAIMS,
    CLIPPING,
    EVERY,
    LAST,
    MASKED,
    MASKS_AND_ADVANTAGES,
    REDUCTION,
    Contract,
    Option,
    Options,
    fit_reduction,
    like_first,
    number,
    rows,
)
from grape_verified.conformance.contracts.ppo import TOKEN, clipped_term, ppo
from grape_verified.conformance.oracle import (
    Aggregation,
    Answer,
    Arithmetic,
    Target,
    Term,
    constants,
    entry,
    mean_of_rows,
    precisely,
    reduced,
    right_hand_side,
    slope_target,
    target,
    unreduced,
)
from grape_verified.conformance.strategies import LOG_RATIOS, Blueprint, Case, Variant

# -- advantages of a group --------------------------------------------------------------------------------------------

#: Rewards that are exact in every dtype come first and often, so that some groups have equal ones.
REWARDS = [1.0, 0.0, 0.5, -1.0] * 32 + [round(i / 32 - 2, 2) for i in range(128)]

ADVANTAGE_CLAIMS = (
    "grpo.centred", "grpo.left_out", "grpo.group_spread", "grpo.scaled_deviation", "grpo.advantage.degenerate",
    "grpo.advantage.leave_one_out",
)  # fmt: skip

SCALING = {
    "baseline": Option("mean", ("leave_one_out", "none")),
    "scale": Option("std", ("none",)),
    "ddof": Option(1, (0,)),
    "eps": Option(1e-6, (0.0, 1e-4, 0.5)),
}


def group_rewards(plan: Blueprint) -> dict[str, Tensor]:
    """One group of rewards for each row."""
    return {"rewards": plan.numbers("rewards", REWARDS, plan.options["group_size"]).flatten()}


def groups(case: Case) -> int:
    """The number of groups."""
    return len(case.tensors["rewards"]) // int(case.options["group_size"])


def fit_scale(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """Without a scale there is neither a ddof nor an ε."""
    if options["scale"] == "none":
        options |= {name: SCALING[name].default for name in ("ddof", "eps")}
    return options


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

DIVERGENCE = {"kl_coef": Option(0.0, (0.1, 1.0, 0.04)), "kl_estimator": Option("k3", ("k1", "k2"))}
WEIGHTS = {"clip_low": Option(1.0, (0.2, 0.5, 0.0)), "clip_high": Option(4.0, (0.2, 1.0, 0.0, 9.0))}
SEQUENCES = {"clip_low": Option(3e-4, (0.2, 0.1, 0.0, 1.0)), "clip_high": Option(4e-4, (0.2, 0.5, 0.0, 4.0))}
BY_SEQUENCE = {"aggregation": Option("sequence_mean", ("token_mean", "sequence_sum", "token_sum", "fixed_length"))}
BY_TOKEN = {"aggregation": Option("token_mean", ("sequence_mean", "sequence_sum", "token_sum", "fixed_length"))}
DAPO_CLIPPING = CLIPPING | {"clip_high": Option(0.28, (0.2, 0.5, 0.0, 4.0))}
LENGTH = {"max_length": Option(6, (100, 1, 3))}
DENOMINATOR = {"denominator": REDUCTION["denominator"]}

CLAIMS = (
    "ppo.ratio", "ppo.clipped_surrogate", "ppo.clip.slope", "ppo.clip.gradient", "ppo.clip.kink", "kl.k1", "kl.k2",
    "kl.k3", "grpo.token_objective", "grpo.gradient",
)  # fmt: skip
GSPO_CLAIMS = ("grpo.gspo.ratio", "grpo.gspo.objective", "grpo.gspo.gradient", "grpo.gspo.empty", "ppo.clip.gradient")
CISPO_CLAIMS = ("grpo.cispo.weight", "grpo.cispo.objective", "grpo.cispo.gradient")


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """logps, old_logps, advantages and ref_logps.

    Where both exponentials leave the range, the sign of their difference is nobody's to say: there the reference is
    drawn below the policy.
    """
    tensors = strategies.token_tensors(plan)
    pool = LOG_RATIOS["extreme" if plan.regime.numbers == "extreme" else "ordinary"]
    above, logps = plan.numbers("ref_logps", pool, plan.columns), tensors["logps"]
    far = logps - tensors["old_logps"] > 20
    return {**tensors, "ref_logps": logps + torch.where(far, -above.abs(), above)}


def masked_token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a mask."""
    return {**token_tensors(plan), "mask": strategies.mask_tensor(plan)}


def fit_divergence(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """Without a coefficient there is no estimator to choose."""
    if options["kl_coef"] == 0:
        options["kl_estimator"] = "k3"
    return fit_reduction(options, varied)


@precisely
def grpo(case: Case, arithmetic: Arithmetic) -> Answer:
    """GRPO's loss: grpo.token_objective, negative, aggregated. Scale: 0, as what is read covers both of its terms."""
    how = Aggregation.of(case, arithmetic)
    return reduced({(i, t): _grpo_term(case, arithmetic, i, t) for i, t in how.counted()}, how, ["logps"], arithmetic)


@precisely
def grpo_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    return unreduced([_grpo_term(case, arithmetic, i, t) for i, t in _places(case)], ["logps"], arithmetic)


def _places(case: Case) -> list[tuple[int, int]]:
    count, columns = case.tensors["logps"].shape
    return [(i, t) for i in range(count) for t in range(columns)]


def _reach(arithmetic: Arithmetic) -> float:
    """The largest log-ratio whose exponential is in the range."""
    return math.log(arithmetic.range_end) if arithmetic.unit else math.inf


def _grpo_term(case: Case, arithmetic: Arithmetic, i: int, t: int) -> Term:
    """The objective of one token, negative as in a loss."""
    if case.options["kl_coef"] == 0:
        return clipped_term(case, arithmetic, i, t)
    logp, old, ref = (case.tensors[name][i, t].item() for name in ("logps", "old_logps", "ref_logps"))
    advantage, reach = entry(case.tensors["advantages"], i, t), _reach(arithmetic)
    term = _grpo_at(case, arithmetic, (logp, old, ref), advantage)
    if max(logp - old, ref - logp) <= reach:
        return term
    limited = (logp, max(old, logp - reach), min(ref, logp + reach))
    return replace(term, limited=_grpo_at(case, arithmetic, limited, advantage))


def _grpo_at(case: Case, arithmetic: Arithmetic, logps: tuple[float, float, float], advantage: float) -> Term:
    near, options = arithmetic.near, case.options
    given = {name: near(x, 1) for name, x in zip(("logp", "old_logp", "ref_logp"), logps, strict=True)}
    given |= {"advantage": near(advantage), "kl_coef": near(options["kl_coef"])}
    given |= {name: near(options[name], 1) for name in CLIPPING}
    estimate = definition(f"kl.{options['kl_estimator']}")
    given["kl_term"] = evaluate(estimate, given)
    objective = definition("grpo.token_objective")

    def slope(name: str) -> arb:
        rhs = right_hand_side("grpo.gradient", f"one token, {options['kl_estimator']}")
        stated = evaluate(rhs, given, hull=True)
        if arithmetic.any_branch:
            branches = Diff(objective(kl_term=estimate()), grape_spec.policy.logp)
            stated = stated.union(evaluate(branches, given, hull=True))
        return -stated

    return Term(-evaluate(objective, given, hull=True), slope)


@precisely
def dapo(case: Case, arithmetic: Arithmetic) -> Answer:
    """DAPO's loss: that of PPO at the options that grpo.dapo names. Scale: 0, as nothing cancels."""
    return ppo(case.with_options(aggregation="token_mean"), arithmetic)


@precisely
def dr_grpo(case: Case, arithmetic: Arithmetic) -> Answer:
    """Dr. GRPO's loss: that of PPO at the options that grpo.dr_grpo names. Scale: 0, as nothing cancels."""
    return ppo(case.with_options(aggregation="fixed_length"), arithmetic)


# -- CISPO ------------------------------------------------------------------------------------------------------------


@precisely
def cispo(case: Case, arithmetic: Arithmetic) -> Answer:
    """CISPO's loss: grpo.cispo.objective at grpo.cispo.weight, negative, aggregated. Scale: 0, as nothing cancels."""
    how = Aggregation.of(case, arithmetic)
    return reduced({(i, t): _cispo_term(case, arithmetic, i, t) for i, t in how.counted()}, how, ["logps"], arithmetic)


@precisely
def cispo_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    return unreduced([_cispo_term(case, arithmetic, i, t) for i, t in _places(case)], ["logps"], arithmetic)


def _cispo_term(case: Case, arithmetic: Arithmetic, i: int, t: int) -> Term:
    near, options = arithmetic.near, case.options
    given = {name.removesuffix("s"): near(case.tensors[name][i, t].item(), 1) for name in ("logps", "old_logps")}
    given |= {"advantage": near(entry(case.tensors["advantages"], i, t))}
    given |= {name: near(options[name], 1) for name in CLIPPING}
    given["rho"] = evaluate(definition("ppo.ratio"), given)
    given["constant_weight"] = evaluate(definition("grpo.cispo.weight"), given, hull=True)
    value = evaluate(definition("grpo.cispo.objective"), given)
    rhs = right_hand_side("grpo.cispo.gradient", "in the log-probability")
    return Term(-value, lambda name: -evaluate(rhs, given, hull=True))


# -- GSPO -------------------------------------------------------------------------------------------------------------


@precisely
def gspo(case: Case, arithmetic: Arithmetic) -> Answer:
    """GSPO's loss: grpo.gspo.objective, negative, the mean over sequences. Scale: 0, as nothing cancels."""
    count = rows(case)
    answer = mean_of_rows(case, [_gspo_term(case, arithmetic, i, 0) for i in range(count)], [], arithmetic)
    how = Aggregation.of(
        case.with_tensors(mask=torch.ones(count, 1)).with_options(aggregation="token_mean"), arithmetic
    )

    def gradients(cotangents: Sequence[float]) -> dict[str, list[Target]]:
        return _gspo_gradients(case, [how.weight(i, 0) * cotangents[0] for i in range(count)], arithmetic)

    return replace(answer, of_gradients=gradients)


@precisely
def gspo_per_sequence(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before the mean."""
    terms = [_gspo_term(case, arithmetic, i, 0) for i in range(len(case.tensors["logps"]))]
    values = [target(arithmetic.rounded(term.value), term.within().value, arithmetic) for term in terms]
    return Answer(values, lambda cotangents: _gspo_gradients(case, [arb(c) for c in cotangents], arithmetic))


def _gspo_gradients(case: Case, factors: Sequence[arb], arithmetic: Arithmetic) -> dict[str, list[Target]]:
    counted = case.tensors["mask"].tolist()
    return {
        "logps": [
            slope_target(_gspo_term(case, arithmetic, i, t), "logps", factors[i], arithmetic)
            if counted[i][t]
            else Target(arb(0))
            for i, t in _places(case)
        ]
    }


def _gspo_term(case: Case, arithmetic: Arithmetic, i: int, t: int) -> Term:
    """The objective of one sequence, negative as in a loss, and its slope in the log-probability of one token."""
    rows_of = {name: case.tensors[name].masked_fill(case.tensors["mask"] == 0, 0) for name in ("logps", "old_logps")}
    logps, old_logps = (rows_of[name].double() for name in ("logps", "old_logps"))
    reach = _reach(arithmetic)
    term = _gspo_at(case, arithmetic, logps, old_logps, i, t)
    if (logps - old_logps)[i].max() <= reach:
        return term
    limited = torch.minimum(logps, old_logps + reach)
    return replace(term, limited=_gspo_at(case, arithmetic, limited, old_logps, i, t))


def _gspo_at(case: Case, arithmetic: Arithmetic, logps: Tensor, old_logps: Tensor, i: int, t: int) -> Term:
    near, options = arithmetic.near, case.options
    tokens = {"logps": logps, "old_logps": old_logps}
    given: dict[str, Any] = {n: [[near(x, 1) for x in row] for row in tensor.tolist()] for n, tensor in tokens.items()}
    given |= {"mask": [[int(m) for m in row] for row in case.tensors["mask"].tolist()]}
    given |= {"row": i + 1, "position": t + 1, "advantage": near(case.tensors["advantages"][i].item())}
    given |= {name: near(options[name], 1) for name in SEQUENCES}
    objective = definition("grpo.gspo.objective")

    def slope(name: str) -> arb:
        stated = evaluate(right_hand_side("grpo.gspo.gradient", "of the objective"), given, hull=True)
        if arithmetic.any_branch:
            row, position = grape_spec.grpo.row, grape_spec.grpo.position
            branches = Diff(objective(), grape_spec.grpo.logps[row, position])
            stated = stated.union(evaluate(branches, given, hull=True))
        return -stated

    return Term(-evaluate(objective, given, hull=True), slope)


def one_for_each_row(case: Case) -> tuple[int, ...]:
    """The shape of one number for each sequence."""
    return (rows(case),)


OF_SEQUENCES = tuple(Variant(mask, "per sequence") for mask in ("bool", "float"))

CONTRACTS = (
    Contract(
        name="group_advantages",
        kernel="group_advantages",
        text="Advantages of the responses to a prompt, relative to their group.",
        tensors=("rewards",),
        wrt=(),
        options={"group_size": Option(4, (2, 3, 1, 6))} | SCALING,
        build=group_rewards,
        blocks=("rewards",),
        oracle=group_advantages,
        result=like_first,
        rests_on=ADVANTAGE_CLAIMS,
        properties=("signature", "repeatable", "value", "options", *LAST),
        parts=groups,
        fit=fit_scale,
    ),
    Contract(
        name="grpo",
        kernel="grpo_loss",
        text="GRPO's loss with clipping and a KL penalty, aggregated over the tokens that count.",
        tensors=(*TOKEN, "mask", "ref_logps"),
        wrt=("logps",),
        options=DIVERGENCE | CLIPPING | BY_SEQUENCE | REDUCTION,
        build=masked_token_tensors,
        blocks=(*TOKEN, "mask", "ref_logps"),
        oracle=grpo,
        result=number,
        rests_on=CLAIMS + AGGREGATION_CLAIMS,
        properties=(*EVERY, *MASKED, "kinks", "extremes", *LAST),
        variants=MASKS_AND_ADVANTAGES,
        by_keyword={"ref_logps": "kl_coef"},
        fit=fit_divergence,
    ),
    Contract(
        name="grpo_per_token",
        kernel="grpo_per_token",
        text="GRPO's loss of each token.",
        tensors=(*TOKEN, "ref_logps"),
        wrt=("logps",),
        options=DIVERGENCE | CLIPPING,
        build=token_tensors,
        blocks=(*TOKEN, "ref_logps"),
        oracle=grpo_per_token,
        result=like_first,
        rests_on=CLAIMS,
        properties=(*EVERY, "cotangents", "options", "kinks", "extremes", *LAST),
        variants=ADVANTAGES,
        by_keyword={"ref_logps": "kl_coef"},
        fit=fit_divergence,
    ),
    Contract(
        name="dapo",
        kernel="dapo_loss",
        text="DAPO's loss, clipped higher above than below, the mean over the tokens that count.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options=DAPO_CLIPPING | DENOMINATOR,
        build=strategies.masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=dapo,
        result=number,
        rests_on=(*CLAIMS, "grpo.dapo", "aggregation.token_mean", "aggregation.gradient", "aggregation.partition"),
        properties=(*EVERY, *MASKED, "kinks", "extremes", *LAST),
        variants=MASKS_AND_ADVANTAGES,
    ),
    Contract(
        name="dr_grpo",
        kernel="dr_grpo_loss",
        text="Dr. GRPO's loss, every sequence divided by one fixed length.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options=LENGTH | CLIPPING | DENOMINATOR,
        build=strategies.masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=dr_grpo,
        result=number,
        rests_on=(*CLAIMS, "grpo.dr_grpo", "aggregation.fixed_length", "aggregation.gradient", "aggregation.partition"),
        properties=(*EVERY, *MASKED, "kinks", "extremes", *LAST),
        variants=MASKS_AND_ADVANTAGES,
    ),
    Contract(
        name="gspo",
        kernel="gspo_loss",
        text="GSPO's loss, one clipped ratio for each sequence, the mean over sequences.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options=SEQUENCES | DENOMINATOR,
        build=strategies.masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=gspo,
        result=number,
        rests_on=(*GSPO_CLAIMS, "aggregation.token_mean", "aggregation.gradient", "aggregation.partition"),
        properties=(*EVERY, *MASKED, "kinks", "extremes", *LAST),
        variants=OF_SEQUENCES,
    ),
    Contract(
        name="gspo_per_sequence",
        kernel="gspo_per_sequence",
        text="GSPO's loss of each sequence.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options=SEQUENCES,
        build=strategies.masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=gspo_per_sequence,
        result=one_for_each_row,
        rests_on=GSPO_CLAIMS,
        properties=(*EVERY, "cotangents", "options", "kinks", "extremes", *LAST),
        variants=OF_SEQUENCES,
    ),
    Contract(
        name="cispo",
        kernel="cispo_loss",
        text="CISPO's loss, a clipped weight that is not differentiated, aggregated over the tokens that count.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options=WEIGHTS | BY_TOKEN | REDUCTION,
        build=strategies.masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=cispo,
        result=number,
        rests_on=CISPO_CLAIMS + AGGREGATION_CLAIMS,
        properties=(*EVERY, *MASKED, "extremes", *LAST),
        variants=MASKS_AND_ADVANTAGES,
    ),
    Contract(
        name="cispo_per_token",
        kernel="cispo_per_token",
        text="CISPO's loss of each token.",
        tensors=TOKEN,
        wrt=("logps",),
        options=WEIGHTS,
        build=strategies.token_tensors,
        blocks=TOKEN,
        oracle=cispo_per_token,
        result=like_first,
        rests_on=CISPO_CLAIMS,
        properties=(*EVERY, "cotangents", "options", "extremes", *LAST),
        variants=ADVANTAGES,
    ),
)

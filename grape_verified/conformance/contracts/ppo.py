"""Contracts of PPO's losses."""

from __future__ import annotations

import math
from dataclasses import replace

import grape_spec.ppo
import torch
from flint import arb
from grape_spec.evaluate import evaluate
from grape_spec.language import Diff
from grape_spec.language.registry import definition
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import (
    ADVANTAGES,
    AGGREGATION,
    AGGREGATION_CLAIMS,
    CLIPPING,
    CONSTANT,
    EVERY,
    LAST,
    MASKED,
    MASKS,
    MASKS_AND_ADVANTAGES,
    Contract,
    Option,
    like_first,
    number,
)
from grape_verified.conformance.oracle import (
    Aggregation,
    Answer,
    Arithmetic,
    Term,
    constants,
    entry,
    precisely,
    reduced,
    right_hand_side,
    unreduced,
)
from grape_verified.conformance.strategies import Blueprint, Case, _decimals, _pool

TOKEN = ("logps", "old_logps", "advantages")
OPTIONS = CLIPPING | {"dual_clip": Option(None, (3.0, 1.5))}
CLAIMS = (
    "ppo.ratio", "ppo.clipped_surrogate", "ppo.clip.slope", "ppo.dual_clipped_surrogate", "ppo.dual_clip.slope",
    "ppo.clip.gradient", "ppo.clip.kink", "ppo.dual_clip.gradient",
)  # fmt: skip


@precisely
def ppo(case: Case, arithmetic: Arithmetic) -> Answer:
    """PPO's loss: ppo.clipped_surrogate or its dual-clipped form, aggregated. Scale: 0, as nothing cancels."""
    how = Aggregation.of(case, arithmetic)
    terms = {(i, t): clipped_term(case, arithmetic, i, t) for i, t in how.counted()}
    return reduced(terms, how, ["logps"], arithmetic)


@precisely
def ppo_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    rows, columns = case.tensors["logps"].shape
    terms = [clipped_term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
    return unreduced(terms, ["logps"], arithmetic)


def clipped_term(case: Case, arithmetic: Arithmetic, i: int, t: int, advantage: arb | None = None) -> Term:
    """The clipped surrogate of one token, negative as in a loss, at an advantage of the case, or at a given one."""
    logp, old = (case.tensors[name][i, t].item() for name in ("logps", "old_logps"))
    if advantage is None:
        advantage = arithmetic.near(entry(case.tensors["advantages"], i, t))
    reach = math.log(arithmetic.range_end) if arithmetic.unit else math.inf
    if logp - old <= reach:
        return _clipped_at(case, arithmetic, logp, old, advantage)
    limited = _clipped_at(case, arithmetic, old + reach, old, advantage)
    return replace(_clipped_at(case, arithmetic, logp, old, advantage), limited=limited)


def _clipped_at(case: Case, arithmetic: Arithmetic, logp: float, old_logp: float, advantage: arb) -> Term:
    near, options = arithmetic.near, case.options
    given = {"logp": near(logp, 1), "old_logp": near(old_logp, 1), "advantage": advantage}
    given |= {"clip_low": near(options["clip_low"], 1), "clip_high": near(options["clip_high"], 1)}
    objective, slope_of = definition("ppo.clipped_surrogate"), definition("ppo.clip.slope")
    if options.get("dual_clip") is not None:
        objective, slope_of = definition("ppo.dual_clipped_surrogate"), definition("ppo.dual_clip.slope")
        given["dual_clip"] = near(options["dual_clip"])
    given["rho"] = evaluate(definition("ppo.ratio"), given)

    def slope(name: str) -> arb:
        stated = evaluate(slope_of, given, hull=True)
        if arithmetic.any_branch:
            branches = Diff(objective(definition("ppo.ratio")()), grape_spec.ppo.logp)
            stated = stated.union(evaluate(branches, given, hull=True))
        return -stated

    return Term(-evaluate(objective, given, hull=True), slope)


VALUE = ("values", "returns", "old_values")
VALUE_CLAIMS = (
    "ppo.value_loss", "ppo.clipped_value_loss", "ppo.value_clip.slope", "ppo.value_clip.bound",
    "ppo.value_clip.gradient",
)  # fmt: skip
VALUE_CLIP = {"clip": Option(None, (0.2, 0.5, 1.0))}


@precisely
def value(case: Case, arithmetic: Arithmetic) -> Answer:
    """The value loss: ppo.value_loss or its clipped form, aggregated. Scale: 0, as squares do not cancel."""
    how = Aggregation.of(case, arithmetic)
    return reduced({(i, t): value_term(case, arithmetic, i, t) for i, t in how.counted()}, how, ["values"], arithmetic)


@precisely
def value_loss_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    rows, columns = case.tensors["values"].shape
    terms = [value_term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
    return unreduced(terms, ["values"], arithmetic)


def value_term(case: Case, arithmetic: Arithmetic, i: int, t: int) -> Term:
    """The loss of one value."""
    names = dict(zip(("value", "returns", "old_value"), VALUE, strict=True))
    given = {symbol: arithmetic.near(case.tensors[name][i, t].item()) for symbol, name in names.items()}
    loss, slope_of = definition("ppo.value_loss"), right_hand_side("ppo.value_clip.gradient", "within the clip")
    if case.options["clip"] is not None:
        given["clip"] = arithmetic.near(case.options["clip"])
        loss, slope_of = definition("ppo.clipped_value_loss"), definition("ppo.value_clip.slope")

    def slope(name: str) -> arb:
        stated = evaluate(slope_of, given, hull=True)
        if arithmetic.any_branch:
            stated = stated.union(evaluate(Diff(loss(), grape_spec.ppo.value), given, hull=True))
        return stated

    return Term(evaluate(loss, given, hull=True), slope)


@precisely
def kl_shaped_rewards(case: Case, arithmetic: Arithmetic) -> Answer:
    """ppo.token_reward of each token, its penalty kl.k1, kl.k2 or kl.k3. A row without a counted token is all 0.

    Scale of a penalty: the log-ratio, as k3 is a difference of terms of that size.
    """
    mask = [[int(m) for m in row] for row in case.tensors["mask"].tolist()]
    rewards = [_token_rewards(case, arithmetic, row, counted) for row, counted in enumerate(mask)]
    return constants([arithmetic.rounded(x) for row in rewards for x in row])


def _token_rewards(case: Case, arithmetic: Arithmetic, row: int, counted: list[int]) -> list[arb]:
    positions = [t for t, m in enumerate(counted) if m]
    penalties = [_penalty(case, arithmetic, row, t) if m else arb(0) for t, m in enumerate(counted)]
    given = {"counted": counted, "penalty": penalties, "kl_coef": arithmetic.near(case.options["kl_coef"])}
    given["last"] = [int(t in positions[-1:]) for t in range(len(counted))]
    given["rewards"] = arithmetic.near(case.tensors["rewards"][row].item() if positions else 0.0)
    return [evaluate(definition("ppo.token_reward"), {**given, "t": t + 1}) for t in range(len(counted))]


def _penalty(case: Case, arithmetic: Arithmetic, row: int, t: int) -> arb:
    logp, ref_logp = (case.tensors[name][row, t].item() for name in ("logps", "ref_logps"))
    given = {"logp": arithmetic.near(logp, 1), "ref_logp": arithmetic.near(ref_logp, 1)}
    return arithmetic.rounded(evaluate(definition(f"kl.{case.options['estimator']}"), given), logp - ref_logp)


def predicted_values(plan: Blueprint) -> dict[str, Tensor]:
    """Values of the critic and of the one that sampled, and returns; at kinks, values at edges of the clip and ties."""
    old = plan.numbers("old_values", strategies.ADVANTAGES, plan.columns)
    returns = plan.numbers("returns", _pool((1.0, 0.0, -1.0, 3.0), _decimals(-3, 3)), plan.columns)
    moves = plan.numbers("values", MOVES[plan.regime.numbers], plan.columns)
    if plan.regime.numbers == "kinks":
        clip = plan.options["clip"] or 1.0
        edge = old + moves.sign() * clip
        tie = torch.where(moves.abs() > 1, 2 * returns - edge, edge)
        values = tie * (1 + (moves.abs() % 1) * torch.finfo(plan.dtype).eps * 8)
    else:
        values = old + moves
    return {"values": values, "returns": returns, "old_values": old}


def masked_predicted_values(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a mask."""
    return {**predicted_values(plan), "mask": strategies.mask_tensor(plan)}


#: What a value moved by since the critic that sampled; at kinks, codes for where it is put.
MOVES = {
    "ordinary": _pool((0.5, -0.5, 0.0, 0.1, -0.1, 2.0, -2.0), _decimals(-1, 1), _decimals(-4, 4)),
    "extreme": _pool((100.0, -100.0, 1e4, -1e4), _decimals(-200, 200, 1), _decimals(-1, 1)),
    "kinks": _pool((1.0, -1.0, 2.0, -2.0), lambda random: random.choice((1.0, -1.0, 2.0, -2.0, 1.25, -1.25, 2.5))),
}


def penalised(plan: Blueprint) -> dict[str, Tensor]:
    """Rewards of sequences, log-probabilities under policy and reference, and a mask."""
    reference = plan.numbers("ref_logps", strategies.LOGPS, plan.columns)
    return {
        "rewards": plan.numbers("rewards", strategies.ADVANTAGES),
        "logps": reference + plan.numbers("logps", RATIOS, plan.columns),
        "ref_logps": reference,
        "mask": strategies.mask_tensor(plan),
    }


#: Log-ratios of policy to reference.
RATIOS = _pool((0.5, -0.5, 0.0, 0.25, -0.25, 1.0, -1.0), _decimals(-1, 1), _decimals(-4, 4))


def like_logps(case: Case) -> tuple[int, ...]:
    """One number for each token."""
    return tuple(case.tensors["logps"].shape)


CONTRACTS = (
    Contract(
        name="ppo",
        kernel="ppo_loss",
        text="PPO's policy loss with asymmetric and dual clipping, aggregated over the tokens that count.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options=OPTIONS | AGGREGATION,
        build=strategies.masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=ppo,
        result=number,
        rests_on=CLAIMS + AGGREGATION_CLAIMS,
        properties=(*EVERY, *MASKED, "kinks", "extremes", *LAST),
        variants=MASKS_AND_ADVANTAGES,
    ),
    Contract(
        name="ppo_per_token",
        kernel="ppo_per_token",
        text="PPO's clipped loss of each token.",
        tensors=TOKEN,
        wrt=("logps",),
        options=OPTIONS,
        build=strategies.token_tensors,
        blocks=TOKEN,
        oracle=ppo_per_token,
        result=like_first,
        rests_on=CLAIMS,
        properties=(*EVERY, "cotangents", "options", "kinks", "extremes", *LAST),
        variants=ADVANTAGES,
    ),
    Contract(
        name="value",
        kernel="value_loss",
        text="PPO's value loss with clipping, aggregated over the tokens that count.",
        tensors=(*VALUE, "mask"),
        wrt=("values",),
        options=VALUE_CLIP | AGGREGATION,
        build=masked_predicted_values,
        blocks=(*VALUE, "mask"),
        oracle=value,
        result=number,
        rests_on=VALUE_CLAIMS + AGGREGATION_CLAIMS,
        properties=(*EVERY, *MASKED, "kinks", "extremes", *LAST),
        variants=MASKS,
        by_keyword={"old_values": "clip"},
    ),
    Contract(
        name="value_loss_per_token",
        kernel="value_loss_per_token",
        text="PPO's loss of each value.",
        tensors=VALUE,
        wrt=("values",),
        options=VALUE_CLIP,
        build=predicted_values,
        blocks=VALUE,
        oracle=value_loss_per_token,
        result=like_first,
        rests_on=VALUE_CLAIMS,
        properties=(*EVERY, "cotangents", "options", "kinks", "extremes", *LAST),
        by_keyword={"old_values": "clip"},
    ),
    Contract(
        name="kl_shaped_rewards",
        kernel="kl_shaped_rewards",
        text="The KL penalty at each token, and the reward of the sequence at its last one.",
        tensors=("rewards", "logps", "ref_logps", "mask"),
        wrt=(),
        options={"kl_coef": Option(0.1, (0.5, 0.02, 1.0, 0.0)), "estimator": Option("k1", ("k2", "k3"))},
        build=penalised,
        blocks=("rewards", "logps", "ref_logps", "mask"),
        oracle=kl_shaped_rewards,
        result=like_logps,
        rests_on=("ppo.token_reward", "ppo.kl_in_reward", "kl.k1", "kl.k2", "kl.k3"),
        properties=(*CONSTANT, *LAST),
        variants=MASKS,
    ),
)

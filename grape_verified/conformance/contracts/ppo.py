"""Contracts of PPO's losses."""

from __future__ import annotations

from dataclasses import replace

import torch
from flint import arb
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import CLIPPING, Options, like
from grape_verified.conformance.families import estimator, token_loss
from grape_verified.conformance.formula import Formula, LogRatio
from grape_verified.conformance.oracle import Answer, Arithmetic, constants, definition, precisely
from grape_verified.conformance.reading import evaluate, is_changed
from grape_verified.conformance.strategies import Blueprint, Case, _decimals, _pool

TOKEN = ("logps", "old_logps", "advantages")

CLIPPED = Formula(
    "ppo.clipped_surrogate",
    slope=("ppo.clip.gradient", "in the log-probability"),
    inner={"rho": "ppo.ratio"},
    absolute=("logp", "old_logp", "clip_low", "clip_high"),
    log_ratios=(LogRatio("logp", "old_logp", cut="logp"),),
    objective=True,
)
DUAL_CLIPPED = replace(
    CLIPPED, value="ppo.dual_clipped_surrogate", slope=("ppo.dual_clip.gradient", "in the log-probability")
)

VALUE = Formula("ppo.value_loss", slope=("ppo.value_clip.gradient", "within the clip"))
CLIPPED_VALUE = replace(VALUE, value="ppo.clipped_value_loss", slope="ppo.value_clip.slope")


def surrogate(options: Options) -> Formula:
    """The clipped surrogate, with or without the dual clip."""
    return CLIPPED if options["dual_clip"] is None else DUAL_CLIPPED


def value(options: Options) -> Formula:
    """The loss of a value, with or without clipping."""
    return VALUE if options["clip"] is None else CLIPPED_VALUE


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
    everywhere = is_changed(definition("ppo.token_reward"))  # under a habit, masked tokens have a penalty, too
    penalties = [_penalty(case, arithmetic, row, t) if m or everywhere else arb(0) for t, m in enumerate(counted)]
    given = {"counted": counted, "penalty": penalties, "kl_coef": arithmetic.near(case.options["kl_coef"])}
    given["last"] = [int(t in positions[-1:]) for t in range(len(counted))]
    given["rewards"] = arithmetic.near(case.tensors["rewards"][row].item() if positions else 0.0)
    return [evaluate(definition("ppo.token_reward"), {**given, "t": t + 1}) for t in range(len(counted))]


def _penalty(case: Case, arithmetic: Arithmetic, row: int, t: int) -> arb:
    logp, ref_logp = (case.tensors[name][row, t].item() for name in ("logps", "ref_logps"))
    given = {"logp": arithmetic.near(logp, 1), "ref_logp": arithmetic.near(ref_logp, 1)}
    return arithmetic.rounded(evaluate(definition(f"kl.{case.options['estimator']}"), given), logp - ref_logp)


def predicted_values(plan: Blueprint) -> dict[str, Tensor]:
    """Values of the critic, before and after, and returns; at kinks, values at edges of the clip and ties."""
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


#: The change of a value since the critic that sampled; at kinks, codes for its place.
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


CONTRACTS = (
    *token_loss(
        "ppo",
        term=surrogate,
        tensors=TOKEN,
        build=strategies.token_tensors,
        options=CLIPPING | {"dual_clip": (3.0, 1.5)},
        kinks=True,
    ),
    *token_loss(
        "value",
        term=value,
        tensors=("values", "returns", "old_values"),
        wrt=("values",),
        build=predicted_values,
        options={"clip": (0.2, 0.5, 1.0)},
        kinks=True,
        per_token="value_loss_per_token",
        by_keyword={"old_values": "clip"},
    ),
    *estimator(
        "kl_shaped_rewards",
        oracle=kl_shaped_rewards,
        tensors=("rewards", "logps", "ref_logps", "mask"),
        build=penalised,
        options={"kl_coef": (0.1, 0.5, 0.02, 1.0, 0.0), "estimator": ("k1", "k2", "k3")},
        result=like("logps"),
    ),
)

"""Contracts of PPO's losses."""

from __future__ import annotations

import math
from dataclasses import replace

import grape_spec.ppo
from flint import arb
from grape_spec.evaluate import evaluate
from grape_spec.language import Diff
from grape_spec.language.registry import definition

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import (
    ADVANTAGES,
    AGGREGATION,
    AGGREGATION_CLAIMS,
    CLIPPING,
    EVERY,
    LAST,
    MASKED,
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
    entry,
    precisely,
    reduced,
    unreduced,
)
from grape_verified.conformance.strategies import Case

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
)

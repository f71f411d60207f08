"""Contracts of TRPO's losses."""

from __future__ import annotations

import math
from dataclasses import replace

from flint import arb
from grape_spec.evaluate import evaluate
from grape_spec.language.registry import definition

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import (
    ADVANTAGES,
    AGGREGATION,
    AGGREGATION_CLAIMS,
    EVERY,
    LAST,
    MASKED,
    MASKS_AND_ADVANTAGES,
    Contract,
    like_first,
    number,
)
from grape_verified.conformance.oracle import (
    Aggregation,
    Answer,
    Arithmetic,
    Target,
    Term,
    entry,
    precisely,
    reduced,
    right_hand_side,
    unreduced,
)
from grape_verified.conformance.strategies import Case

TOKEN = ("logps", "old_logps", "advantages")
ANY_NUMBER = arb(0, math.inf)
CLAIMS = ("ppo.ratio", "trpo.surrogate", "trpo.surrogate.gradient")


@precisely
def trpo(case: Case, arithmetic: Arithmetic) -> Answer:
    """TRPO's loss: trpo.surrogate, aggregated. Scale: 0, as each term is widened by its own size before the sum.

    Terms beyond the range of both signs cancel by what they were cut to: any finite number is right.
    """
    how = Aggregation.of(case, arithmetic)
    terms = {(i, t): surrogate_term(case, arithmetic, i, t) for i, t in how.counted()}
    answer = reduced(terms, how, ["logps"], arithmetic)
    signs = {bool(term.value > 0) for term in terms.values() if term.limited and not term.value.contains(0)}
    return replace(answer, values=[Target(ANY_NUMBER)]) if len(signs) == 2 else answer


@precisely
def trpo_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    rows, columns = case.tensors["logps"].shape
    terms = [surrogate_term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
    return unreduced(terms, ["logps"], arithmetic)


def surrogate_term(case: Case, arithmetic: Arithmetic, i: int, t: int) -> Term:
    """The surrogate of one token, negative as in a loss."""
    logp, old = (case.tensors[name][i, t].item() for name in ("logps", "old_logps"))
    advantage = entry(case.tensors["advantages"], i, t)
    reach = math.log(arithmetic.range_end) if arithmetic.unit else math.inf
    term = _surrogate_at(arithmetic, logp, old, advantage)
    if logp - old <= reach:
        return term
    return replace(term, limited=_surrogate_at(arithmetic, old + reach, old, advantage))


def _surrogate_at(arithmetic: Arithmetic, logp: float, old_logp: float, advantage: float) -> Term:
    near = arithmetic.near
    given = {"logp": near(logp, 1), "old_logp": near(old_logp, 1), "advantage": near(advantage)}

    def slope(name: str) -> arb:
        return -evaluate(right_hand_side("trpo.surrogate.gradient", "of a token"), given)

    return Term(-evaluate(definition("trpo.surrogate"), given), slope)


CONTRACTS = (
    Contract(
        name="trpo",
        kernel="trpo_loss",
        text="TRPO's surrogate loss, aggregated over the tokens that count.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options=AGGREGATION,
        build=strategies.masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=trpo,
        result=number,
        rests_on=CLAIMS + AGGREGATION_CLAIMS,
        properties=(*EVERY, *MASKED, "extremes", *LAST),
        variants=MASKS_AND_ADVANTAGES,
    ),
    Contract(
        name="trpo_per_token",
        kernel="trpo_per_token",
        text="TRPO's surrogate of each token, negative.",
        tensors=TOKEN,
        wrt=("logps",),
        options={},
        build=strategies.token_tensors,
        blocks=TOKEN,
        oracle=trpo_per_token,
        result=like_first,
        rests_on=CLAIMS,
        properties=(*EVERY, "cotangents", "extremes", *LAST),
        variants=ADVANTAGES,
    ),
)

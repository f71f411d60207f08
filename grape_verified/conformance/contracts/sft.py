"""Contracts of the loss of supervised fine-tuning."""

from __future__ import annotations

import grape_spec.ppo
from grape_spec.evaluate import evaluate
from grape_spec.language import Diff
from grape_spec.language.registry import definition
from torch import Tensor

from grape_verified.conformance.contract import (
    AGGREGATION,
    AGGREGATION_CLAIMS,
    ALL_DIFFERENTIATED,
    EVERY,
    MASKED,
    MASKS,
    Contract,
    like_first,
    number,
)
from grape_verified.conformance.oracle import Aggregation, Answer, Arithmetic, Term, precisely, reduced, unreduced
from grape_verified.conformance.strategies import LOGPS, Blueprint, Case, mask_tensor

CLAIMS = ("sft.token_loss", "sft.objective", "sft.gradient", "sft.accumulation")

#: Log-probabilities by regime: far down, and positive ones, which only a broken model has.
POOLS = {"ordinary": LOGPS, "extreme": [-1.0, -100.0, -200.0, -1e4, -1e20, 0.0, 200.0, 1e20] * 32}


@precisely
def sft(case: Case, arithmetic: Arithmetic) -> Answer:
    """The loss of supervised fine-tuning: sft.token_loss, aggregated. Scale: 0, as nothing cancels."""
    how = Aggregation.of(case, arithmetic)
    logps = case.tensors["logps"].tolist()
    return reduced({(i, t): _term(arithmetic, logps[i][t]) for i, t in how.counted()}, how, ["logps"], arithmetic)


@precisely
def sft_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    terms = [_term(arithmetic, logp) for logp in case.tensors["logps"].flatten().tolist()]
    return unreduced(terms, ["logps"], arithmetic)


def _term(arithmetic: Arithmetic, logp: float) -> Term:
    given, loss = {"logp": arithmetic.near(logp)}, definition("sft.token_loss")
    return Term(evaluate(loss, given), lambda name: evaluate(Diff(loss(), grape_spec.ppo.logp), given))


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities of tokens."""
    return {"logps": plan.numbers("logps", POOLS[plan.regime.numbers], plan.columns)}


def masked_token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a mask."""
    return {**token_tensors(plan), "mask": mask_tensor(plan)}


CONTRACTS = (
    Contract(
        name="sft",
        kernel="sft_loss",
        text="The loss of supervised fine-tuning, aggregated over the tokens that count.",
        tensors=("logps", "mask"),
        wrt=("logps",),
        options=AGGREGATION,
        build=masked_token_tensors,
        blocks=("logps", "mask"),
        oracle=sft,
        result=number,
        rests_on=CLAIMS + AGGREGATION_CLAIMS,
        properties=(*EVERY, *MASKED, "extremes", *ALL_DIFFERENTIATED),
        variants=MASKS,
    ),
    Contract(
        name="sft_per_token",
        kernel="sft_per_token",
        text="The negative log-likelihood of each token.",
        tensors=("logps",),
        wrt=("logps",),
        options={},
        build=token_tensors,
        blocks=("logps",),
        oracle=sft_per_token,
        result=like_first,
        rests_on=("sft.token_loss", "sft.gradient"),
        properties=(*EVERY, "cotangents", "extremes", *ALL_DIFFERENTIATED),
    ),
)

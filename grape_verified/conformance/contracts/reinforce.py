"""Contracts of REINFORCE's losses."""

from __future__ import annotations

import torch
from grape_spec.evaluate import evaluate
from grape_spec.language.registry import definition
from torch import Tensor

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
    Expectation,
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
    right_hand_side,
    unreduced,
)
from grape_verified.conformance.strategies import LOGPS, Blueprint, Case, Variant, Vocabulary

TOKEN = ("logps", "advantages")
CLAIMS = ("reinforce.token_loss", "reinforce.surrogate", "reinforce.policy_gradient")
MODES = Option("sequence_sum", ("token_mean", "sequence_mean", "token_sum", "fixed_length"))
IMPROBABLE = [-100.0, -1000.0, -1e4, -1e6, *LOGPS[:4], *(-1.5 * 10**i for i in range(8))] * 16


@precisely
def reinforce(case: Case, arithmetic: Arithmetic) -> Answer:
    """REINFORCE's loss: reinforce.token_loss, aggregated. Scale: 0, as nothing cancels."""
    how = Aggregation.of(case, arithmetic)
    terms = {(i, t): _token(case, arithmetic, i, t) for i, t in how.counted()}
    return reduced(terms, how, ["logps"], arithmetic)


@precisely
def reinforce_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    rows, columns = case.tensors["logps"].shape
    terms = [_token(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
    return unreduced(terms, ["logps"], arithmetic)


def _token(case: Case, arithmetic: Arithmetic, i: int, t: int) -> Term:
    given = {name: arithmetic.near(entry(case.tensors[f"{name}s"], i, t)) for name in ("logp", "advantage")}
    slope = evaluate(right_hand_side("reinforce.surrogate", "in the log-probability"), given)
    return Term(evaluate(definition("reinforce.token_loss"), given), lambda wrt: slope)


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Log-probabilities and advantages."""
    across = plan.columns if plan.variant.advantages == "per token" else None
    pool = IMPROBABLE if plan.regime.numbers == "extreme" else LOGPS
    return {
        "logps": plan.numbers("logps", pool, plan.columns),
        "advantages": plan.numbers("advantages", strategies.ADVANTAGES, across),
    }


def masked_token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a mask."""
    return {**token_tensors(plan), "mask": strategies.mask_tensor(plan)}


def samples(words: Vocabulary, logps: Tensor, variant: Variant) -> dict[str, Tensor]:
    """Every token as a sample, its advantage the reward."""
    advantages = words.rewards if variant.advantages == "per sequence" else words.rewards[:, None]
    return {"logps": logps[:, None], "advantages": advantages}


def masked_samples(words: Vocabulary, logps: Tensor, variant: Variant) -> dict[str, Tensor]:
    """The same with a mask that hides nothing."""
    tensors = samples(words, logps, variant)
    mask = torch.ones_like(tensors["logps"], dtype=torch.bool if variant.mask == "bool" else None)
    return {**tensors, "mask": mask.detach()}


def expected_gradient(options: object) -> object:
    """Minus the policy gradient."""
    return right_hand_side("reinforce.surrogate", "in expectation")


CONTRACTS = (
    Contract(
        name="reinforce",
        kernel="reinforce_loss",
        text="REINFORCE's loss: advantage-weighted log-probabilities, aggregated over the tokens that count.",
        tensors=(*TOKEN, "mask"),
        wrt=("logps",),
        options={**AGGREGATION, "aggregation": MODES},
        build=masked_token_tensors,
        blocks=(*TOKEN, "mask"),
        oracle=reinforce,
        result=number,
        rests_on=CLAIMS + AGGREGATION_CLAIMS,
        properties=(*EVERY, *MASKED, "expectation", "extremes", *LAST),
        variants=MASKS_AND_ADVANTAGES,
        expectation=Expectation(masked_samples, expected_gradient),
    ),
    Contract(
        name="reinforce_per_token",
        kernel="reinforce_per_token",
        text="The advantage-weighted log-probability of each token.",
        tensors=TOKEN,
        wrt=("logps",),
        options={},
        build=token_tensors,
        blocks=TOKEN,
        oracle=reinforce_per_token,
        result=like_first,
        rests_on=CLAIMS,
        properties=(*EVERY, "cotangents", "expectation", "extremes", *LAST),
        variants=ADVANTAGES,
        expectation=Expectation(samples, expected_gradient),
    ),
)

"""Contracts of GRAPE: rewards from the items of a rubric, advantages within the group, and the loss."""

from __future__ import annotations

from typing import Any

import torch
from flint import arb
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import (
    CLIPPING,
    EVERY,
    LAST,
    MASKED,
    MASKS,
    Contract,
    Options,
    number,
    without_vocabulary,
)
from grape_verified.conformance.contracts.grpo import without_scale
from grape_verified.conformance.contracts.ppo import CLIPPED
from grape_verified.conformance.defaults import options_of
from grape_verified.conformance.families import estimator
from grape_verified.conformance.oracle import (
    Aggregation,
    Answer,
    Arithmetic,
    constants,
    definition,
    precisely,
    reduced,
    right_hand_side,
)
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import Blueprint, Case

JUDGED = ("scores", "confidences", "weights", "item_mask", "categories")

#: Verdicts that are exact in every dtype come first and often, so that some rewards are equal and some items untrusted.
SCORES = [1.0, 0.0, 0.5, 0.25] * 24 + [round(i / 160, 3) for i in range(160)]
CONFIDENCES = [1.0, 0.5, 0.0, 0.25] * 24 + [round(1 - i / 160, 3) for i in range(160)]
WEIGHTS = [1.0, 2.0, 0.0, 0.5] * 24 + [round(i / 16, 2) for i in range(160)]

#: Sizes of groups by the number of rows. Most groups have several members, and four rows are mostly two prompts. In
#: groups of one, with confidences averaged over prompts, each row is a prompt.
GROUPS = {1: (1,), 2: (2, 2, 2, 1), 3: (3, 3, 3, 1), 4: (2, 2, 4, 1)}

REWARD_OPTIONS: dict[str, Any] = {"confidence": ("group", "batch"), "normalisation": ("mean", "sum")}
ADVANTAGE_OPTIONS = REWARD_OPTIONS | {
    "baseline": ("leave_one_out", "mean"),
    "scale": ("none", "std"),
    "ddof": (1, 0),
    "eps": (0.0, 1e-4, 0.5),
}


# -- inputs -----------------------------------------------------------------------------------------------------------


def verdict_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Verdicts on the responses to some prompts, one response for each row; some groups have equal scores."""
    first, count = plan.rows[0], len(plan.rows)
    alone = plan.options["confidence"] == "batch" and "baseline" not in plan.options
    sizes = (1,) if alone else GROUPS.get(count, (count,))
    group, items = sizes[first["scores"][0] % len(sizes)], (2, 3, 1)[first["weights"][0] % 3]
    scores, confidences = (
        plan.numbers(name, pool, items).reshape(-1, group, items)
        for name, pool in (("scores", SCORES), ("confidences", CONFIDENCES))
    )
    if first["scores"][1] % 8 == 7:
        scores = scores[:, :1].expand_as(scores).clone()
    firsts = plan.rows[::group]
    counted = torch.tensor([strategies._counted(row["item_mask"], items) for row in firsts])
    return {
        "scores": scores,
        "confidences": confidences,
        "weights": plan.numbers("weights", WEIGHTS, items)[0],
        "item_mask": counted if plan.variant.mask == "bool" else counted.to(plan.dtype),
        "categories": torch.tensor([row["categories"][0] % 2 for row in firsts]),
    }


def judged_token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same, with the log-probabilities of the responses and a mask over their tokens."""
    drawn = strategies.masked_token_tensors(plan)
    return {name: drawn[name] for name in ("logps", "old_logps")} | verdict_tensors(plan) | {"mask": drawn["mask"]}


def prompts(case: Case) -> int:
    """The number of prompts."""
    return len(case.tensors["scores"])


# -- what they should give --------------------------------------------------------------------------------------------


@precisely
def grape_rewards(case: Case, arithmetic: Arithmetic) -> Answer:
    """grape.trusted_reward or grape.reward_sum, at grape.trust or grape.batch_trust. Scale: 0, as nothing cancels."""
    return constants([arithmetic.rounded(reward) for group in _rewards(case, arithmetic) for reward in group])


@precisely
def grape_advantages(case: Case, arithmetic: Arithmetic) -> Answer:
    """Deviations of the rewards from a baseline, scaled. Scale: the largest reward, in units of the scale."""
    return constants([advantage for group in _advantages(case, arithmetic) for advantage in group])


@precisely
def grape(case: Case, arithmetic: Arithmetic) -> Answer:
    """GRAPE's loss: PPO's with these advantages. Scale: 0, as the balls of the advantages cover their rounding."""
    how = Aggregation.of(case, arithmetic)
    advantages = [advantage for group in _advantages(case, arithmetic) for advantage in group]
    terms = {(i, t): CLIPPED.term(case, arithmetic, i, t, advantage=advantages[i]) for i, t in how.counted()}
    return reduced(terms, how, ["logps"], arithmetic)


def _rewards(case: Case, arithmetic: Arithmetic) -> list[list[arb]]:
    """The reward of each response to each prompt."""
    read = _read(case, arithmetic)
    reward = definition("grape.reward_sum" if case.options["normalisation"] == "sum" else "grape.trusted_reward")
    result = []
    for prompt, scores in enumerate(read["scores"]):
        given = {"scores": scores, "trust": _trust(read, prompt, case.options["confidence"])}
        result.append([evaluate(reward, given | {"g": i + 1}) for i in range(len(scores))])
    return result


def _read(case: Case, arithmetic: Arithmetic) -> dict[str, Any]:
    """The verdicts as balls, with 0 for an item that a prompt does not have."""
    tensors, near = case.tensors, arithmetic.near
    counted = tensors["item_mask"] != 0
    scores, confidences = (
        torch.where(counted.unsqueeze(1), tensors[name], 0).tolist() for name in ("scores", "confidences")
    )
    weights = torch.where(counted, tensors["weights"], 0).tolist()
    return {
        "scores": [[[near(x) for x in response] for response in group] for group in scores],
        "batch_confidences": [[[near(x) for x in response] for response in group] for group in confidences],
        "weights": [[near(x) for x in row] for row in weights],
        "item_mask": counted.int().tolist(),
        "category": tensors["categories"].tolist(),
    }


def _trust(read: dict[str, Any], prompt: int, confidence: str) -> list[arb]:
    """The trust in each item of a prompt."""
    given = {"confidences": read["batch_confidences"][prompt]}
    trust = definition("grape.trust")
    if confidence == "batch":
        given = {name: read[name] for name in ("batch_confidences", "item_mask", "category")} | {"prompt": prompt + 1}
        trust = definition("grape.batch_trust")
    weights = read["weights"][prompt]
    return [evaluate(trust, given | {"weights": weights, "item": q + 1}) for q in range(len(weights))]


def _advantages(case: Case, arithmetic: Arithmetic) -> list[list[arb]]:
    """The advantage of each response to each prompt.

    Whether a group varies is not a matter of rounding: for equal scores the spec claims the sum of squares.
    """
    options = case.options
    result = []
    for prompt, rewards in enumerate(_rewards(case, arithmetic)):
        given: dict[str, Any] = {"response_reward": rewards, "eps": arithmetic.near(options["eps"])}
        given |= {"divisor": len(rewards) - options["ddof"], "squares": evaluate(_squares(case, prompt), given)}
        result.append([_advantage(given | {"g": i + 1}, options, arithmetic) for i in range(len(rewards))])
    return result


def _squares(case: Case, prompt: int) -> Any:
    scores = case.tensors["scores"][prompt][:, case.tensors["item_mask"][prompt] != 0]
    if (scores != scores[:1]).any():
        return definition("grpo.group_spread")
    return right_hand_side("grpo.advantage.degenerate", "equal rewards do not vary")


def _advantage(given: dict[str, Any], options: Options, arithmetic: Arithmetic) -> arb:
    rewards = given["response_reward"]
    baseline = definition("grpo.left_out" if options["baseline"] == "leave_one_out" else "grpo.centred")
    largest = max(abs(reward).upper() for reward in rewards)
    deviation = arithmetic.rounded(evaluate(baseline, given), largest, terms=len(rewards))
    if options["scale"] == "none":
        return deviation
    scaled = evaluate(definition("grpo.scaled_deviation"), given | {"deviation": deviation}, hull=True)
    return arithmetic.rounded(scaled, terms=len(rewards))


#: The mask over items is always passed, the categories where confidences are averaged over the batch.
BY_KEYWORD = {"item_mask": "", "categories": "confidence"}
SHARED: dict[str, Any] = {
    "tensors": JUDGED,
    "build": verdict_tensors,
    "result": without_vocabulary,
    "extras": ("masked items",),
    "variants": MASKS,
    "by_keyword": BY_KEYWORD,
    "shared": ("weights",),
}

CONTRACTS = (
    *estimator("grape_rewards", oracle=grape_rewards, options=REWARD_OPTIONS, **SHARED),
    *estimator("grape_advantages", oracle=grape_advantages, options=ADVANTAGE_OPTIONS, fit=without_scale, **SHARED),
    Contract(
        name="grape",
        kernel="grape_loss",
        tensors=("logps", "old_logps", "scores", "confidences", "weights", "mask", "item_mask", "categories"),
        wrt=("logps",),
        options=options_of("grape_loss", ADVANTAGE_OPTIONS | CLIPPING, ("aggregation", "denominator", "max_length")),
        build=judged_token_tensors,
        drawn=("logps", "old_logps", "advantages", *JUDGED, "mask"),
        oracle=grape,
        result=number,
        properties=(*EVERY, *MASKED, "masked items", "kinks", "extremes", *LAST),
        variants=MASKS,
        by_keyword=BY_KEYWORD,
        unmasked=("scores", "confidences", "item_mask"),
        shared=("weights",),
        parts=prompts,
        divided_at={"confidence": "group"},
        fit=without_scale,
    ),
)

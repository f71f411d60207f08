"""GRAPE: a reward from the items of a rubric, relative to the other responses, in the clipped surrogate.

R. Patel, Understanding Reinforcement Learning for Model Training, and future directions with GRAPE, arXiv:2509.04501.
Built on its abstract and on a published technical summary of it; not checked against the full text. Where these leave a
choice, it is a named option.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from grape_verified.advantage import Scale, advantages_of_groups, check_scale
from grape_verified.aggregation import check_reduction
from grape_verified.arguments import (
    Aggregation,
    as_bool,
    check_choice,
    check_floating,
    check_same_device,
    check_same_shape,
    check_tensor,
    check_values,
)
from grape_verified.losses.output import LossOutput
from grape_verified.losses.ppo import check_clip, clipped_surrogate
from grape_verified.losses.ratio import counted_ratio_tokens, ratio_output
from grape_verified.numerics import bounded, compute_dtype

__all__ = ["grape_advantages", "grape_loss", "grape_rewards"]

Confidence = Literal["group", "batch"]
Normalisation = Literal["mean", "sum"]
Baseline = Literal["leave_one_out", "mean"]


@dataclass(frozen=True)
class _Items:
    """The judgement of each rubric item, as constants in the compute dtype, 0 where masked."""

    scores: Float[Tensor, "prompts group items"]
    confidences: Float[Tensor, "prompts group items"]
    weights: Float[Tensor, "prompts items"]
    counted: Bool[Tensor, "prompts items"]


def grape_rewards(
    scores: Float[Tensor, "prompts group items"],
    confidences: Float[Tensor, "prompts group items"],
    weights: Float[Tensor, " items"] | Float[Tensor, "prompts items"],
    *,
    item_mask: Shaped[Tensor, "prompts items"] | None = None,
    confidence: Confidence = "group",
    categories: Int[Tensor, " prompts"] | None = None,
    normalisation: Normalisation = "mean",
) -> Float[Tensor, "prompts group"]:
    """Reward of each response, r_i = Σ_q w_q c̄_q s_iq / Σ_q w_q c̄_q, with c̄_q the average confidence in item q.

    With normalisation "sum", r_i = Σ_q w_q c̄_q s_iq. An item without any confidence (c̄_q = 0) has no effect; give a
    verifiable item confidence 1. If no item of a prompt is trusted (Σ_q w_q c̄_q = 0), its rewards are 0. The result is
    a constant.

    Arguments:
        scores: s, (prompts, group, items), in [0, 1].
        confidences: c, (prompts, group, items), in [0, 1]; read in the compute dtype of scores.
        weights: w, (items,) or (prompts, items), finite and ≥ 0; read in the compute dtype of scores.
        item_mask: (prompts, items), 1 or True where a prompt has the item, like every mask; None if every prompt has
            every item.
        confidence: "group" for c̄_q over the responses to one prompt, c̄_q = (1/G) Σ_i c_iq; "batch" for c̄_q over all
            responses in this call to prompts of the same category that have item q.
        categories: (prompts,), integers, required by confidence "batch" and only allowed with it. All prompts of a
            category must have the same item q.
        normalisation: "mean" or "sum".

    Returns: (prompts, group); in [0, 1] with normalisation "mean".

    Error: |error| ≤ 16·u·r, measured for up to 2¹⁰ responses and items, where weights that are not 0 differ by factors
    of at most 2³⁰ and confidences are 0 or at least 2⁻³⁰.

    Claims: grape.reward.range, grape.reward.scale, grape.reward.permutation, grape.reward.untrusted_item,
    grape.reward.uniform_confidence, grape.reward.convention.

    Sources: Patel, arXiv:2509.04501 (not checked against the full text).

    Examples:
        >>> import torch
        >>> from grape_verified import grape_rewards
        >>> scores = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> grape_rewards(scores, torch.ones(1, 2, 2), torch.tensor([3.0, 1.0]))
        tensor([[0.7500, 1.0000]])
    """
    items = _items(scores, confidences, weights, item_mask, confidence, categories, normalisation)
    return _rewards(items, _trust(items, categories, normalisation), normalisation)


def grape_advantages(
    scores: Float[Tensor, "prompts group items"],
    confidences: Float[Tensor, "prompts group items"],
    weights: Float[Tensor, " items"] | Float[Tensor, "prompts items"],
    *,
    item_mask: Shaped[Tensor, "prompts items"] | None = None,
    confidence: Confidence = "group",
    categories: Int[Tensor, " prompts"] | None = None,
    normalisation: Normalisation = "mean",
    baseline: Baseline = "leave_one_out",
    scale: Scale = "none",
    ddof: int = 1,
    eps: float = 1e-6,
) -> Float[Tensor, "prompts group"]:
    """Advantage of each response, A_i = r_i − b_i, with r of `grape_rewards` and b_i the average reward of the others.

    With baseline "mean", b is the average reward of the whole group, response i included. With scale "std", A_i is
    divided by std(r) + ε. In a group of one, with equal rewards or without a trusted item, every advantage is exactly
    0. The result is a constant.

    Arguments:
        scores, confidences, weights, item_mask, confidence, categories, normalisation: as in `grape_rewards`.
        baseline: "leave_one_out" or "mean".
        scale: "none" or "std".
        ddof: std divides by G − ddof, 0 or 1; only with scale "std".
        eps: ε ≥ 0; only with scale "std".

    Returns: (prompts, group).

    Error: |error| ≤ 64·u·max r with scale "none", |error| ≤ 64·u·(1 + |A_i|)·max r / (std + ε) with scale "std", max
    over the group, under the conditions of `grape_rewards`.

    Claims: those of `grape_rewards` and `group_advantages`, grape.advantage.zero_sum, grape.advantage.bound,
    grape.advantage.item_shift, grape.advantage.decomposition, grape.baseline, grape.normalisation,
    grape.grpo_special_case.

    Sources: those of `grape_rewards`.

    Examples:
        >>> import torch
        >>> from grape_verified import grape_advantages
        >>> scores = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> grape_advantages(scores, torch.ones(1, 2, 2), torch.tensor([3.0, 1.0]))
        tensor([[-0.2500,  0.2500]])
    """
    check_choice("baseline", baseline, get_args(Baseline))
    eps = check_scale(scale, ddof, eps)
    items = _items(scores, confidences, weights, item_mask, confidence, categories, normalisation)
    rewards = _rewards(items, _trust(items, categories, normalisation), normalisation)
    return advantages_of_groups(rewards, baseline, scale, ddof, eps)


def grape_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    scores: Float[Tensor, "prompts group items"],
    confidences: Float[Tensor, "prompts group items"],
    weights: Float[Tensor, " items"] | Float[Tensor, "prompts items"],
    mask: Shaped[Tensor, "batch time"],
    *,
    item_mask: Shaped[Tensor, "prompts items"] | None = None,
    confidence: Confidence = "group",
    categories: Int[Tensor, " prompts"] | None = None,
    normalisation: Normalisation = "mean",
    baseline: Baseline = "leave_one_out",
    scale: Scale = "none",
    ddof: int = 1,
    eps: float = 1e-6,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregation: Aggregation = "sequence_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """GRAPE's loss: that of `ppo_loss`, with the advantage of a response from `grape_advantages` for all its tokens.

    Row p·G + i of `logps` is response i to prompt p, both counted from 0. A response without a counted token adds 0 to
    the loss, but its scores count in its group.

    Arguments:
        logps: (batch, time), batch = prompts · group.
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        scores, confidences, weights: as in `grape_rewards`; constants.
        mask: (batch, time).
        item_mask, confidence, categories, normalisation: as in `grape_rewards`.
        baseline, scale, ddof, eps: as in `grape_advantages`.
        clip_low, clip_high: as in `ppo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics: those of `ppo_loss` and, over the prompts of this call,
        reward_mean: mean of r over the responses.
        untrusted_groups: number of prompts without a trusted item (Σ_q w_q c̄_q = 0), whose advantages are 0.

    Error: that of `ppo_loss` for the advantages of `grape_advantages`, and |ρ| times the error of these.

    Claims: those of `grape_advantages`, `ppo_per_token` and `aggregate`, grape.gradient.

    Sources: those of `grape_rewards`; the clipped surrogate: Schulman et al., arXiv:1707.06347, equation 7.

    Examples:
        >>> import torch
        >>> from grape_verified import grape_loss
        >>> scores, logps = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]), torch.zeros(2, 1, requires_grad=True)
        >>> mask = torch.tensor([[1], [0]])
        >>> grape_loss(logps, logps.detach(), scores, torch.ones(1, 2, 2), torch.tensor([3.0, 1.0]), mask).loss.item()
        0.125
    """
    clip = check_clip(clip_low, clip_high)
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    check_choice("baseline", baseline, get_args(Baseline))
    eps = check_scale(scale, ddof, eps)
    items = _items(scores, confidences, weights, item_mask, confidence, categories, normalisation)
    _check_rows(logps, items.scores)
    trust = _trust(items, categories, normalisation)
    rewards = _rewards(items, trust, normalisation)
    advantages = advantages_of_groups(rewards, baseline, scale, ddof, eps)
    tokens = counted_ratio_tokens(logps, old_logps, advantages.flatten(), mask)
    surrogates, clipped = clipped_surrogate(tokens, clip)
    loss, per_token, metrics = ratio_output(surrogates, tokens, reduction, clip_fraction=clipped)
    metrics["reward_mean"] = (rewards.sum() / max(1, rewards.numel())).to(loss.dtype)
    metrics["untrusted_groups"] = (trust == 0).all(1).sum().to(loss.dtype)
    return LossOutput(loss, per_token, metrics)


def _items(
    scores: Tensor,
    confidences: Tensor,
    weights: Tensor,
    item_mask: Tensor | None,
    confidence: str,
    categories: Tensor | None,
    normalisation: str,
) -> _Items:
    """Check the inputs of rewards."""
    check_choice("confidence", confidence, get_args(Confidence))
    check_choice("normalisation", normalisation, get_args(Normalisation))
    items = _item_inputs(scores, confidences, weights, item_mask)
    _check_categories(categories, scores, confidence)
    return items


def _item_inputs(scores: Tensor, confidences: Tensor, weights: Tensor, item_mask: Tensor | None) -> _Items:
    """Check scores, confidences and weights; return them in the compute dtype."""
    check_floating("scores", scores, "(prompts, group, items)")
    if 0 in scores.shape[1:]:
        raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected a group and items of size > 0")
    check_floating("confidences", confidences)
    check_same_shape("confidences", confidences, "scores", scores)
    check_floating("weights", weights)
    check_same_device("weights", weights, "scores", scores)
    prompts, _, items = scores.shape
    if weights.shape not in ((items,), (prompts, items)):
        raise ValueError(
            f"weights: got shape {tuple(weights.shape)}, expected {(items,)}, one for each item of scores, "
            f"or {(prompts, items)}, one for each item of each prompt"
        )
    counted = _counted_items(item_mask, scores)
    uncounted, dtype = ~counted, compute_dtype(scores)
    inputs = _Items(
        scores.detach().to(dtype).masked_fill(uncounted.unsqueeze(1), 0),
        confidences.detach().to(dtype).masked_fill(uncounted.unsqueeze(1), 0),
        weights.detach().to(dtype).expand(prompts, items).masked_fill(uncounted, 0),
        counted,
    )
    _check_range("scores", inputs.scores, "values in [0, 1]", 1.0)
    _check_range("confidences", inputs.confidences, "values in [0, 1]", 1.0)
    _check_range("weights", inputs.weights, "finite values >= 0", torch.finfo(dtype).max)
    return inputs


def _counted_items(item_mask: Tensor | None, scores: Tensor) -> Bool[Tensor, "prompts items"]:
    """Check a mask over the items of each prompt; return it as bool. Without one, every item counts."""
    prompts, _, items = scores.shape
    if item_mask is None:
        return torch.ones(prompts, items, dtype=torch.bool, device=scores.device)
    check_tensor("item_mask", item_mask)
    check_same_device("item_mask", item_mask, "scores", scores)
    if item_mask.shape != (prompts, items):
        raise ValueError(
            f"item_mask: got shape {tuple(item_mask.shape)}, expected {(prompts, items)}, "
            "one for each item of each prompt"
        )
    return as_bool("item_mask", item_mask)


def _check_range(name: str, value: Tensor, expected: str, largest: float) -> None:
    """Check that counted items hold numbers from 0 to the largest allowed one."""
    check_values(name, value, (value >= 0) & (value <= largest), f"{expected} where an item counts")


def _check_categories(categories: Tensor | None, scores: Tensor, confidence: str) -> None:
    """Check the category of each prompt, required by confidence "batch" and not allowed otherwise."""
    expected = "a tensor of integers, one for each prompt"
    if confidence != "batch":
        if categories is not None:
            raise ValueError(
                f"categories: got {type(categories).__name__}, expected None with confidence {confidence!r}, "
                "which does not use it"
            )
        return
    if categories is None:
        raise TypeError(f"categories: got None, expected {expected}, which confidence 'batch' needs")
    check_tensor("categories", categories)
    if categories.is_floating_point() or categories.is_complex() or categories.dtype == torch.bool:
        raise TypeError(f"categories: got dtype {categories.dtype}, expected {expected}")
    check_same_device("categories", categories, "scores", scores)
    if categories.shape != scores.shape[:1]:
        raise ValueError(
            f"categories: got shape {tuple(categories.shape)}, expected {tuple(scores.shape[:1])}, "
            "one for each prompt of scores"
        )


def _check_rows(logps: Tensor, scores: Tensor) -> None:
    """Check that logps has one row for each scored response."""
    check_floating("logps", logps, "(batch, time)")
    prompts, group, _ = scores.shape
    if logps.shape[0] != prompts * group:
        raise ValueError(
            f"logps: got {logps.shape[0]} rows, expected {prompts * group}, one for each response of scores, "
            f"{group} for each of {prompts} prompts"
        )


def _trust(items: _Items, categories: Tensor | None, normalisation: str) -> Float[Tensor, "prompts items"]:
    """w_q c̄_q of each item; for normalisation "mean" up to a factor for each prompt, so that no sum overflows."""
    confidences = _mean_confidences(items, categories)
    if normalisation == "sum":
        return items.weights * confidences
    return _to_largest(items.weights) * confidences


def _rewards(items: _Items, trust: Tensor, normalisation: str) -> Float[Tensor, "prompts group"]:
    """Σ_q k_q s_iq, over Σ_q k_q for a mean, with k_q the trust in item q."""
    total = (trust.unsqueeze(1) * items.scores).sum(2)
    if normalisation == "sum":
        return bounded(total)
    whole = trust.sum(1, keepdim=True)
    return (total / whole.masked_fill(whole == 0, 1)).clamp(max=1)  # rounding may take the mean of ones above 1


def _mean_confidences(items: _Items, categories: Tensor | None) -> Float[Tensor, "prompts items"]:
    """c̄_q of each item: over the group or, with categories, over the prompts of one category that have the item."""
    means = items.confidences.mean(1)
    if categories is None or not len(categories):
        return means
    # The first prompt of each category collects the sums for all of them.
    same = categories.unsqueeze(1) == categories
    first = same.to(torch.uint8).argmax(1)
    totals = torch.zeros_like(means).index_add(0, first, means)
    prompts = torch.zeros_like(means).index_add(0, first, items.counted.to(means))
    return (totals / prompts.clamp(min=1))[first]


def _to_largest(x: Tensor) -> Tensor:
    """Each row divided by its largest entry; a row of zeros is unchanged."""
    largest = x.amax(1, keepdim=True)
    return x / largest.masked_fill(largest == 0, 1)

"""GRAPE functions to check: correct ones in another style than the kernels, and wrong ones, each with one mistake."""

import statistics

import torch

from grape_verified import aggregate, ppo_per_token

from .table import KINKED, correct, wrong

# -- correct, in another style ----------------------------------------------------------------------------------------


@correct("grape_rewards")
def looped_rewards(
    scores, confidences, weights, *, item_mask, confidence="group", categories=None, normalisation="mean"
):
    """One number at a time, with a list of the items that a prompt has."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    prompts, group, _ = scores.shape
    rewards = torch.zeros(prompts, group, dtype=dtype)
    for p in range(prompts):
        items = [q for q in range(len(weights)) if item_mask[p, q]]
        trust = {}
        for q in items:
            alike = range(prompts) if confidence == "batch" else [p]
            seen = [
                confidences[o, i, q].to(dtype)
                for o in alike
                for i in range(group)
                if o == p or (item_mask[o, q] and categories[o] == categories[p])
            ]
            trust[q] = weights[q].to(dtype) * (sum(seen) / len(seen))
        whole = sum(trust.values()) if normalisation == "mean" else 1
        for i in range(group):
            total = sum(trust[q] * scores[p, i, q].to(dtype) for q in items)
            rewards[p, i] = total / whole if whole else 0
    return rewards


@correct("grape_advantages")
def looped_advantages(
    scores, confidences, weights, *, item_mask, baseline="leave_one_out", scale="none", ddof=1, eps=1e-6, **options
):
    """The others are listed for every response; spreads come from the standard library."""
    rewards = looped_rewards(scores, confidences, weights, item_mask=item_mask, **options)
    advantages = torch.zeros_like(rewards)
    for p, row in enumerate(rewards.tolist()):
        spread = statistics.stdev if ddof else statistics.pstdev
        divisor = spread(row) + eps if scale == "std" and len(row) > 1 else 1
        for i, reward in enumerate(row):
            others = row if baseline == "mean" else row[:i] + row[i + 1 :]
            if len(set(row)) > 1:
                advantages[p, i] = (reward - statistics.fmean(others)) / divisor
    return advantages


@correct("grape")
def looped_grape(logps, old_logps, scores, confidences, weights, mask, *, aggregation="sequence_mean", denominator=None,
                 max_length=None, clip_low=0.2, clip_high=0.2, **options):  # fmt: skip
    """The advantages above, repeated for every token, in the clipped surrogate."""
    per_response = looped_advantages(scores, confidences, weights, **options).flatten()
    repeated = per_response.repeat_interleave(logps.shape[1]).reshape(logps.shape)
    keep = mask.bool()
    new, old = (torch.where(keep, x, 0) for x in (logps, old_logps))
    per_token = ppo_per_token(new, old, repeated, clip_low=clip_low, clip_high=clip_high)
    return aggregate(per_token, keep, aggregation, denominator=denominator, max_length=max_length)


# -- rewards: one mistake each ----------------------------------------------------------------------------------------


def _present(scores, confidences, weights, item_mask):
    """Verdicts in the compute dtype, 0 for items that a prompt lacks; the starting point of every wrong function."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    keep = item_mask.bool()
    verdicts = (torch.where(keep.unsqueeze(1), x.to(dtype), 0) for x in (scores, confidences))
    return *verdicts, torch.where(keep, weights.to(dtype), 0), keep


def _weighted_mean(trust, scores):
    """Over the last dimension, 0 where nothing is trusted."""
    whole = trust.sum(-1)
    return (trust * scores).sum(-1) / torch.where(whole > 0, whole, 1)


@correct("grape_rewards")
def correct_rewards(scores, confidences, weights, *, item_mask):
    """The parts of the wrong functions."""
    scores, confidences, weights, _ = _present(scores, confidences, weights, item_mask)
    return _weighted_mean((weights * confidences.mean(1)).unsqueeze(1).expand_as(scores), scores)


@wrong("grape_rewards", must=("value",), may=("options",))
def own_confidence(scores, confidences, weights, *, item_mask):
    """Weights each score by its own confidence instead of the average over the responses."""
    scores, confidences, weights, _ = _present(scores, confidences, weights, item_mask)
    return _weighted_mean(weights.unsqueeze(1) * confidences, scores)


@wrong("grape_rewards", must=("value",), may=("options",))
def not_normalised(scores, confidences, weights, *, item_mask):
    """Sums instead of averaging."""
    scores, confidences, weights, _ = _present(scores, confidences, weights, item_mask)
    return ((weights * confidences.mean(1)).unsqueeze(1) * scores).sum(-1)


@wrong("grape_rewards", must=("value", "masked items"), may=("options",))
def padded_items(scores, confidences, weights, *, item_mask):
    """Counts the items that a prompt does not have."""
    return correct_rewards(scores, confidences, weights, item_mask=torch.ones_like(item_mask))


@wrong("grape_rewards", must=("value",), may=("options",))
def averaged_over_items(scores, confidences, weights, *, item_mask):
    """Averages confidences over the items of a response instead of the responses of an item."""
    scores, confidences, weights, keep = _present(scores, confidences, weights, item_mask)
    average = confidences.sum(-1, keepdim=True) / keep.sum(-1).clamp(min=1).reshape(-1, 1, 1)
    return _weighted_mean(weights.unsqueeze(1) * average, scores)


@wrong("grape_rewards", must=("value",), may=("options",))
def confidence_ignored(scores, confidences, weights, *, item_mask):
    """Weights items by their importance only."""
    return correct_rewards(scores, torch.ones_like(confidences), weights, item_mask=item_mask)


@wrong("grape_rewards", must=("masked items",))
def items_times_nan(scores, confidences, weights, *, item_mask):
    """Multiplies by the mask over items; right as long as masked entries are finite."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    trust = item_mask.to(dtype) * weights.to(dtype) * confidences.to(dtype).mean(1)
    return _weighted_mean(trust.unsqueeze(1).expand_as(scores), scores.to(dtype))


@wrong("grape_rewards", must=("value",), may=("options",), verdict="robustness")
def nothing_trusted(scores, confidences, weights, *, item_mask):
    """Divides by zero where no item is trusted."""
    scores, confidences, weights, _ = _present(scores, confidences, weights, item_mask)
    trust = (weights * confidences.mean(1)).unsqueeze(1)
    return (trust * scores).sum(-1) / trust.sum(-1)


@wrong("grape_rewards", must=("options",))
def categories_ignored(
    scores, confidences, weights, *, item_mask, confidence="group", categories=None, normalisation="mean"
):
    """Averages confidences over the whole batch, whatever the category."""
    same = None if categories is None else torch.zeros_like(categories)
    return looped_rewards(
        scores, confidences, weights,
        item_mask=item_mask, confidence=confidence, categories=same, normalisation=normalisation,
    )  # fmt: skip


# -- advantages: one mistake each -------------------------------------------------------------------------------------


@correct("grape_advantages")
def correct_advantages(scores, confidences, weights, *, item_mask, baseline="leave_one_out"):
    """The parts of the wrong functions."""
    rewards = correct_rewards(scores, confidences, weights, item_mask=item_mask)
    centred = rewards - rewards.mean(1, keepdim=True)
    group = rewards.shape[1]
    return centred * group / max(group - 1, 1) if baseline == "leave_one_out" else centred


@wrong("grape_advantages", must=("value",), may=("options",))
def mean_for_others(scores, confidences, weights, *, item_mask, baseline="leave_one_out"):
    """Uses the mean of the whole group instead of that of the others."""
    return correct_advantages(scores, confidences, weights, item_mask=item_mask, baseline="mean")


@wrong("grape_advantages", must=("value",), may=("options",))
def baseline_of_the_batch(scores, confidences, weights, *, item_mask):
    """Compares with the responses to all prompts."""
    rewards = correct_rewards(scores, confidences, weights, item_mask=item_mask).flatten()
    others = (rewards.sum() - rewards) / max(len(rewards) - 1, 1)
    return (rewards - others if len(rewards) > 1 else 0 * rewards).reshape(scores.shape[:2])


@wrong("grape_advantages", must=("value",), may=("options",))
def sum_over_others(scores, confidences, weights, *, item_mask):
    """Divides the sum over the whole group by the number of the others."""
    rewards = correct_rewards(scores, confidences, weights, item_mask=item_mask)
    return rewards - rewards.sum(1, keepdim=True) / max(rewards.shape[1] - 1, 1)


@wrong("grape_advantages", must=("options",))
def own_spread(scores, confidences, weights, *, item_mask, scale="none", ddof=1, eps=1e-6):
    """Divides by the standard deviation of the advantages instead of the rewards."""
    plain = looped_advantages(scores, confidences, weights, item_mask=item_mask)
    if scale == "none" or plain.shape[1] == 1:
        return plain
    return plain / (plain.std(1, keepdim=True, correction=ddof) + eps + (plain == 0).all(1, keepdim=True))


# -- the loss: one mistake each ---------------------------------------------------------------------------------------


def _grape(advantages_of, aggregation="sequence_mean"):
    """A loss from advantages, given those of the responses of each prompt."""

    def grape(logps, old_logps, scores, confidences, weights, mask, *, item_mask):
        advantages = correct_advantages(scores, confidences, weights, item_mask=item_mask)
        keep = mask.bool()
        new, old = (torch.where(keep, x, 0) for x in (logps, old_logps))
        return aggregate(ppo_per_token(new, old, advantages_of(advantages)), keep, aggregation)

    return grape


correct_grape = correct("grape")(_grape(lambda advantages: advantages.flatten()))
one_for_all = wrong("grape", must=("value", "gradient"), may=KINKED)(
    _grape(lambda advantages: advantages.mean().expand(advantages.numel()))
)
best_of_each_prompt = wrong("grape", must=("value", "gradient"), may=KINKED)(
    _grape(lambda advantages: advantages.amax(1, keepdim=True).expand_as(advantages).flatten())
)
rows_interleaved = wrong("grape", must=("value", "gradient"), may=(*KINKED, "permutation"))(
    _grape(lambda advantages: advantages.T.flatten())
)
wrong_sign = wrong("grape", must=("value", "gradient"), may=KINKED)(_grape(lambda advantages: -advantages.flatten()))
mean_over_tokens = wrong("grape", must=("value", "gradient"), may=KINKED)(
    _grape(lambda advantages: advantages.flatten(), "token_mean")
)


@wrong("grape", must=("options", "partition"), may=("extremes",))
def denominator_ignored(
    logps, old_logps, scores, confidences, weights, mask, *, item_mask, aggregation="sequence_mean", denominator=None
):
    """Micro-batches each divide by their own number of rows."""
    tensors = (logps, old_logps, scores, confidences, weights, mask)
    return looped_grape(*tensors, item_mask=item_mask, aggregation=aggregation)

"""Rejection sampling to check: correct functions in another style than the kernels, and wrong ones with one mistake."""

import math

import torch

from .table import SPEC, WEIGHTS, correct, wrong


def _wide(tensor):
    return torch.promote_types(tensor.dtype, torch.float32)


# -- correct, in another style ----------------------------------------------------------------------------------------


@correct("best_of_n_weights")
def sorting_best_of_n(rewards, *, group_size):
    """Sorts each group, and counts how often the last reward occurs."""
    weights = []
    for group in rewards.split(group_size):
        best = sorted(group.tolist())[-1]
        weights += [(reward == best) / group.tolist().count(best) for reward in group.tolist()]
    return torch.tensor(weights, dtype=_wide(rewards))


@correct("threshold_weights")
def subtracting_threshold(rewards, *, threshold):
    """The sign of the reward minus the threshold."""
    return torch.heaviside(rewards.to(_wide(rewards)) - threshold, torch.ones((), dtype=_wide(rewards)))


@correct("acceptance_probabilities")
def power_acceptance(rewards, *, beta, max_reward):
    """A power of e, one reward after the other, in double precision."""
    odds = [math.e ** ((reward - max_reward) / beta) for reward in rewards.tolist()]
    return torch.tensor(odds, dtype=_wide(rewards))


@correct("acceptance_weights")
def logarithmic_acceptance(rewards, uniforms, *, beta, max_reward):
    """Compares logarithms."""
    excess = (rewards.to(_wide(rewards)) - max_reward) / beta
    return (uniforms.to(_wide(rewards)).log() < excess).to(_wide(rewards))


@correct("rejection_sampling")
def filtering_sampler(
    logps, rewards, mask, *, group_size=None, keep="best", threshold=None, denominator=None
):  # fmt: skip
    """Loops over the groups, and sums what it keeps."""
    wide = logps.to(_wide(logps))
    loss, size = 0 * wide.nan_to_num(0, 0, 0).sum(), 0.0
    width = group_size if keep == "best" else 1
    for start in range(0, len(rewards), width):
        members = [i for i in range(start, start + width) if mask[i].any()]
        least = max((rewards[i].item() for i in members), default=0) if keep == "best" else threshold
        kept = [i for i in members if rewards[i].item() >= least]
        for i in kept:
            weight = 1 / len(kept)
            loss = loss - weight * wide[i][mask[i].bool()].sum()
            size += weight * mask[i].sum().item()
    return loss / (denominator or max(1, size))


# -- weights: one mistake each ----------------------------------------------------------------------------------------


@wrong("best_of_n_weights", must=("value",), may=WEIGHTS)
def first_of_the_best(rewards, *, group_size):
    """argmax: the first of tied samples gets the whole weight."""
    best = rewards.reshape(-1, group_size).argmax(1)
    return torch.nn.functional.one_hot(best, group_size).flatten().to(_wide(rewards))


@wrong("best_of_n_weights", must=("value",), may=WEIGHTS)
def every_best_whole(rewards, *, group_size):
    """Each tied sample has weight 1."""
    grouped = rewards.reshape(-1, group_size)
    return (grouped == grouped.amax(1, keepdim=True)).flatten().to(_wide(rewards))


@wrong("best_of_n_weights", must=("value",), may=WEIGHTS)
def worst_of_n(rewards, *, group_size):
    """The smallest reward, as if it were a loss."""
    return sorting_best_of_n(-rewards, group_size=group_size)


@wrong("best_of_n_weights", must=("value",), may=(*WEIGHTS, "permutation"))
def strided_groups(rewards, *, group_size):
    """Reads the groups across the batch instead of one after the other."""
    weights = sorting_best_of_n(rewards.reshape(group_size, -1).T.flatten(), group_size=group_size)
    return weights.reshape(-1, group_size).T.flatten()


@wrong("best_of_n_weights", must=("value",), may=WEIGHTS)
def best_of_the_batch(rewards, *, group_size):
    """The best of all groups together."""
    return sorting_best_of_n(rewards, group_size=len(rewards))


@wrong("threshold_weights", must=("value",), may=WEIGHTS)
def above_threshold(rewards, *, threshold):
    """Drops a reward at the threshold."""
    return (rewards > threshold).to(_wide(rewards))


@wrong("threshold_weights", must=("value",), may=WEIGHTS)
def below_threshold(rewards, *, threshold):
    """Keeps the wrong side."""
    return (rewards <= threshold).to(_wide(rewards))


@wrong("threshold_weights", must=("value",), may=(*WEIGHTS, "dtype"))
def soft_threshold(rewards, *, threshold):
    """A sigmoid for a step."""
    return torch.sigmoid(rewards.to(_wide(rewards)) - threshold)


@wrong("threshold_weights", must=("options",), may=WEIGHTS)
def threshold_ignored(rewards, *, threshold):
    """Always the same threshold."""
    return (rewards >= 0.5).to(_wide(rewards))


@wrong("acceptance_probabilities", must=("options",), may=WEIGHTS)
def times_beta(rewards, *, beta, max_reward):
    """Multiplies by β instead of dividing."""
    return ((rewards.to(_wide(rewards)) - max_reward) * beta).exp()


@wrong("acceptance_probabilities", must=("value",), may=WEIGHTS)
def batch_maximum(rewards, *, beta, max_reward):
    """Uses the largest drawn reward instead of the largest possible one."""
    wide = rewards.to(_wide(rewards))
    return ((wide - wide.max()) / beta).exp()


@wrong("acceptance_probabilities", must=("value",), may=WEIGHTS)
def without_maximum(rewards, *, beta, max_reward):
    """exp(r/β), cut off at 1."""
    return (rewards.to(_wide(rewards)) / beta).exp().clamp(max=1)


@wrong("acceptance_probabilities", must=("value",), may=WEIGHTS)
def normalised(rewards, *, beta, max_reward):
    """A softmax over the batch, as importance weights have it."""
    return (rewards.to(_wide(rewards)) / beta).softmax(0)


def _tossed(odds):
    def weights(rewards, uniforms, *, beta, max_reward):
        return (uniforms < odds(rewards, beta=beta, max_reward=max_reward)).to(_wide(rewards))

    return weights


tossed_times_beta = wrong("acceptance_weights", must=("options",), may=WEIGHTS)(_tossed(times_beta))
tossed_without_maximum = wrong("acceptance_weights", must=("value",), may=WEIGHTS)(_tossed(without_maximum))


@wrong("acceptance_weights", must=("value",), may=WEIGHTS)
def refused(rewards, uniforms, *, beta, max_reward):
    """Keeps what should be rejected."""
    return 1 - logarithmic_acceptance(rewards, uniforms, beta=beta, max_reward=max_reward)


# -- the loss: one mistake each ---------------------------------------------------------------------------------------


def _sampler(weigh=sorting_best_of_n, size=lambda weights, mask: (weights[:, None] * mask).sum(), sign=-1):
    """Best of n from the weights of the rewards and a size; as it stands, wrong only for sequences without tokens."""

    def loss(logps, rewards, mask, *, group_size=None, denominator=None):
        weights, keep = weigh(rewards, group_size=group_size).to(_wide(logps)), mask.bool()
        wide = torch.where(keep & (weights > 0)[:, None], logps.to(_wide(logps)), 0)
        return sign * (weights[:, None] * wide).sum() / (denominator or size(weights, keep).clamp(min=1))

    return loss


wrong_sign = wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "empty batch"))(_sampler(sign=1))
keeps_the_worst = wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "empty batch"))(
    _sampler(worst_of_n)
)
ties_whole = wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "empty batch"))(
    _sampler(every_best_whole)
)
first_wins = wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "empty batch"))(
    _sampler(first_of_the_best)
)
over_all_tokens = wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "padding", "empty batch"))(
    _sampler(size=lambda weights, mask: mask.sum())
)
over_all_sequences = wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "empty batch"))(
    _sampler(size=lambda weights, mask: torch.tensor(len(mask)))
)
no_filter = wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "empty batch"))(
    _sampler(lambda rewards, group_size: torch.ones(len(rewards)))
)


@wrong("rejection_sampling", must=("value", "gradient"), may=(*SPEC, "empty batch"))
def reward_weighted(logps, rewards, mask, *, group_size=None, denominator=None):
    """Also weights the kept sequences by their rewards."""
    weights = sorting_best_of_n(rewards, group_size=group_size).to(_wide(logps)) * rewards
    wide = torch.where(mask.bool() & (weights != 0)[:, None], logps.to(_wide(logps)), 0)
    return -(weights[:, None] * wide).sum() / (denominator or (weights[:, None] * mask).sum().clamp(min=1))


@wrong("rejection_sampling", must=("options",), may=("extremes",))
def threshold_ignored_by_the_loss(logps, rewards, mask, *, group_size=None, keep="best", threshold=None):
    """Keeps everything with keep "threshold"."""
    least = None if threshold is None else -math.inf
    return filtering_sampler(logps, rewards, mask, group_size=group_size, keep=keep, threshold=least)


@wrong("rejection_sampling", must=("masked values",), may=("padding",))
def zero_times_nan(logps, rewards, mask, *, group_size=None, denominator=None):
    """Multiplies values that may be NaN by the mask."""
    present = mask.bool().any(1)
    lowest = torch.where(present, rewards, -math.inf)
    weights = sorting_best_of_n(lowest, group_size=group_size).to(_wide(logps)) * present
    total = (weights[:, None] * mask * logps.to(_wide(logps))).sum()
    return -total / (denominator or (weights[:, None] * mask).sum().clamp(min=1))

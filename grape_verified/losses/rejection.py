"""Rejection sampling: the selection of samples, and fine-tuning on those that are kept.

Best of n keeps the best of each group; a threshold keeps every reward that reaches it; acceptance keeps a sample with a
probability that turns samples of π into samples of the optimum of the KL-regularised reward, π·exp(r/β)/Z.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from grape_verified.advantage import check_group_size, check_groups
from grape_verified.aggregation import check_reduction, reduced
from grape_verified.arguments import (
    FINITE,
    POSITIVE,
    Aggregation,
    check_choice,
    check_finite,
    check_floating,
    check_number,
    check_one_per_sequence,
    check_same_shape,
    check_values,
    counted_tokens,
)
from grape_verified.losses.output import LossOutput
from grape_verified.losses.sft import sft_per_token
from grape_verified.numerics import bounded, compute_dtype

__all__ = [
    "acceptance_probabilities",
    "acceptance_weights",
    "best_of_n_weights",
    "rejection_sampling_loss",
    "threshold_weights",
]

Keep = Literal["best", "threshold"]


def best_of_n_weights(rewards: Float[Tensor, " batch"], group_size: int) -> Float[Tensor, " batch"]:
    """Weight of each sample in best of n: 1 for the best of its group, 0 for the others.

    Where m samples of a group share the best reward, each of them gets 1/m, so that a group always weighs 1.

    Arguments:
        rewards: (batch,), finite; compared in their own dtype.
        group_size: n > 0; samples 1 to n are the first group, the next n the second, and so on.

    Returns: (batch,), constants.

    Error: 1/m is rounded to the nearest, all else is exact.

    Claims: rejection.best_of_n.law.

    Examples:
        >>> import torch
        >>> from grape_verified import best_of_n_weights
        >>> best_of_n_weights(torch.tensor([1.0, 3.0, 2.0, 2.0]), 2)
        tensor([0.0000, 1.0000, 0.5000, 0.5000])
    """
    check_group_size(group_size)
    _check_rewards(rewards)
    group_size = check_groups(group_size, rewards.shape[0])
    return _best(rewards, torch.ones_like(rewards, dtype=torch.bool), group_size, compute_dtype(rewards))


def acceptance_probabilities(
    rewards: Float[Tensor, " batch"], *, beta: float, max_reward: float
) -> Float[Tensor, " batch"]:
    """Probability with which a sample of π is accepted, exp((r − r_max)/β).

    Accepted samples follow π·exp(r/β)/Z, the policy that maximises the reward minus β times the KL divergence from π.

    Arguments:
        rewards: (batch,), finite, at most max_reward.
        beta: β, a finite number > 0.
        max_reward: r_max, a finite upper bound of every possible reward, not only of those drawn. A reward that exceeds
            it only by the rounding of r_max to the dtype of rewards has probability 1.

    Returns: (batch,), in [0, 1], constants.

    Error: |error| ≤ 4·u·((|r| + |r_max|)/β + 1)·value, where the value does not underflow.

    Claims: rejection.acceptance.target, rejection.acceptance.rate.

    Examples:
        >>> import torch
        >>> from grape_verified import acceptance_probabilities
        >>> acceptance_probabilities(torch.tensor([1.0, 0.0]), beta=1.0, max_reward=1.0)
        tensor([1.0000, 0.3679])
    """
    beta = check_number("beta", beta, POSITIVE)
    max_reward = check_number("max_reward", max_reward, FINITE)
    _check_rewards(rewards)
    _check_maximum(rewards, max_reward)
    excess = rewards.detach().to(compute_dtype(rewards)) - max_reward
    return (excess.clamp(max=0) / beta).exp()


def acceptance_weights(
    rewards: Float[Tensor, " batch"], uniforms: Float[Tensor, " batch"], *, beta: float, max_reward: float
) -> Float[Tensor, " batch"]:
    """Weight of each sample in acceptance sampling: 1 where its uniform number is below exp((r − r_max)/β), else 0.

    Arguments:
        rewards: (batch,), as in `acceptance_probabilities`.
        uniforms: (batch,), independent and uniform in [0, 1), as `torch.rand` draws them.
        beta, max_reward: as in `acceptance_probabilities`.

    Returns: (batch,), constants.

    Error: none beyond that of `acceptance_probabilities`.

    Claims: those of `acceptance_probabilities`.

    Examples:
        >>> import torch
        >>> from grape_verified import acceptance_weights
        >>> acceptance_weights(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]), beta=1.0, max_reward=1.0)
        tensor([1., 0.])
    """
    probabilities = acceptance_probabilities(rewards, beta=beta, max_reward=max_reward)
    check_floating("uniforms", uniforms)
    check_same_shape("uniforms", uniforms, "rewards", rewards)
    _check_uniforms(uniforms)
    return (uniforms < probabilities).to(probabilities.dtype)


def threshold_weights(rewards: Float[Tensor, " batch"], threshold: float) -> Float[Tensor, " batch"]:
    """Weight of each sample under a threshold: 1 where its reward is at least the threshold, else 0.

    Arguments:
        rewards: (batch,), finite.
        threshold: a finite number, rounded to the dtype of rewards, so that a reward of the same number is kept.

    Returns: (batch,), constants.

    Error: none.

    Claims: rejection.filter.gradient.

    Examples:
        >>> import torch
        >>> from grape_verified import threshold_weights
        >>> threshold_weights(torch.tensor([0.2, 0.8]), 0.5)
        tensor([0., 1.])
    """
    threshold = check_number("threshold", threshold, FINITE)
    _check_rewards(rewards)
    return _above(rewards, threshold)


def rejection_sampling_loss(
    logps: Float[Tensor, "batch time"],
    rewards: Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    group_size: int | None = None,
    keep: Keep = "best",
    threshold: float | None = None,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """Fine-tuning on the samples that are kept: the aggregate of w·(−logp), w the weight of the token's sequence.

    The weights are those of `best_of_n_weights` or `threshold_weights`. The default denominator is the weight of what
    is kept, by convention 1 if nothing is: Σ_i w_i n_i for "token_mean", with n_i the counted tokens of sequence i, and
    Σ_i w_i for the other modes. Without ties, the loss is that of `sft_loss` on the kept sequences alone. Micro-batches
    must not split a group.

    A sequence without a counted token is never kept. Its reward is ignored, and so are the log-probabilities of a
    sequence that is not kept. If nothing is kept, the loss and its gradients are 0.

    Arguments:
        logps: (batch, time).
        rewards: (batch,), finite; a constant, compared in its own dtype.
        mask: (batch, time).
        group_size: n, for "best" only, and required there; as in `best_of_n_weights`.
        keep: "best" for the best of each group, "threshold" for every reward of at least `threshold`.
        threshold: for "threshold" only, and required there; as in `threshold_weights`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`), but for the default
            denominator.

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) holding w·(−logp), and 0 where masked or not
    kept. The metrics are means over the sequences of this call that have a counted token, 0 if there are none:
        kept_fraction: 1 where the sequence is kept, ties included, else 0.
        reward: the reward.
        kept_reward: the reward, averaged over the kept sequences by their weight.

    Error: |error| ≤ 12·u·S, S the same reduction of w·|logp|.

    Claims: rejection.loss.gradient, rejection.loss.kept, those of the weights and of `aggregate`.

    Examples:
        >>> import torch
        >>> from grape_verified import rejection_sampling_loss
        >>> logps, rewards = torch.tensor([[-1.0], [-3.0]]), torch.tensor([0.0, 1.0])
        >>> rejection_sampling_loss(logps, rewards, torch.ones(2, 1), group_size=2).loss.item()
        3.0
    """
    threshold = _check_keep(keep, group_size, threshold)
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    values = sft_per_token(logps)
    counted = counted_tokens(mask, "logps", logps)
    present = counted.any(1)
    weights = _kept_weights(rewards, logps, present, group_size, threshold).to(values.dtype)
    kept = counted & (weights > 0).unsqueeze(1)
    per_token = weights.unsqueeze(1) * values.masked_fill(~kept, 0)
    if reduction.denominator is None and aggregation != "token_sum":
        size = weights * kept.sum(1) if aggregation == "token_mean" else weights
        reduction = reduction._replace(denominator=size.sum().clamp(min=1))
    loss = reduced(per_token, kept, reduction)
    return LossOutput(loss, per_token, _metrics(rewards, weights, present))


def _kept_weights(
    rewards: Tensor, logps: Tensor, present: Bool[Tensor, " batch"], group_size: int | None, threshold: float | None
) -> Float[Tensor, " batch"]:
    """Check the rewards; return the weight of each sequence, 0 for one without a counted token."""
    check_one_per_sequence("rewards", rewards, logps)
    if group_size is not None:
        group_size = check_groups(group_size, rewards.shape[0])
    seen = rewards.masked_fill(~present, 0)
    check_finite("rewards", seen)
    if threshold is not None:
        return _above(seen, threshold) * present
    assert group_size is not None  # by `_check_keep`
    return _best(seen, present, group_size, compute_dtype(logps))


def _above(rewards: Tensor, threshold: float) -> Float[Tensor, " batch"]:
    """Weight of each sample under a threshold."""
    return (rewards >= _like(rewards, threshold)).to(compute_dtype(rewards))


def _best(
    rewards: Tensor, present: Bool[Tensor, " batch"], group_size: int, dtype: torch.dtype
) -> Float[Tensor, " batch"]:
    """Weight of each sample in best of n, among the present samples of its group."""
    candidates = rewards.masked_fill(~present, -math.inf).reshape(-1, group_size)
    best = (candidates == candidates.amax(1, keepdim=True)) & present.reshape(-1, group_size)
    weights = best.to(dtype) / best.sum(1, keepdim=True).clamp(min=1)
    return weights.flatten()


@torch.no_grad()
def _metrics(rewards: Tensor, weights: Tensor, present: Bool[Tensor, " batch"]) -> dict[str, Tensor]:
    """The metrics that `rejection_sampling_loss` defines."""
    values = bounded(rewards.to(weights.dtype)).masked_fill(~present, 0)
    number = present.sum().clamp(min=1)
    return {
        "kept_fraction": (weights > 0).to(weights.dtype).sum() / number,
        "reward": values.sum() / number,
        "kept_reward": (weights * values).sum() / weights.sum().clamp(min=1),
    }


def _check_keep(keep: Keep, group_size: int | None, threshold: float | None) -> float | None:
    """Check `keep`, and that exactly the option that it uses is given; return the threshold."""
    check_choice("keep", keep, get_args(Keep))
    unused, value = ("threshold", threshold) if keep == "best" else ("group_size", group_size)
    if value is not None:
        raise ValueError(f"{unused}: got {value}, expected None with keep {keep!r}, which does not use it")
    needed, value = ("group_size", group_size) if keep == "best" else ("threshold", threshold)
    if value is None:
        raise TypeError(f"{needed}: got None, expected a number, which keep {keep!r} needs")
    if keep == "best":
        check_group_size(group_size)
        return None
    return check_number("threshold", threshold, FINITE)  # type: ignore[arg-type]  # it is not None


def _check_rewards(rewards: Tensor) -> None:
    check_floating("rewards", rewards, "(batch,)")
    check_finite("rewards", rewards)


def _check_maximum(rewards: Tensor, max_reward: float) -> None:
    """Check that no reward exceeds the maximum, rounded to their dtype."""
    check_values("rewards", rewards, rewards <= _like(rewards, max_reward), f"none above max_reward, {max_reward}")


def _check_uniforms(uniforms: Tensor) -> None:
    check_values("uniforms", uniforms, (uniforms >= 0) & (uniforms < 1), "numbers in [0, 1)")


def _like(rewards: Tensor, number: float) -> Tensor:
    """A number rounded to the dtype of the rewards that it is compared with."""
    return rewards.new_tensor(number)

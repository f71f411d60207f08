"""Advantages from rewards: relative to a group of responses, by generalised advantage estimation, and whitened.

All results are constants.
"""

import math
from numbers import Integral
from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from grape_verified.arguments import (
    NON_NEGATIVE,
    UNIT_INTERVAL,
    check_choice,
    check_finite,
    check_flag,
    check_floating,
    check_integer,
    check_number,
    check_same_shape,
    counted_tokens,
)
from grape_verified.numerics import bounded, compute_dtype

__all__ = ["gae", "group_advantages", "whiten"]

Baseline = Literal["mean", "leave_one_out", "none"]
Scale = Literal["std", "none"]


@torch.no_grad()
def group_advantages(
    rewards: Float[Tensor, " batch"],
    group_size: int,
    *,
    baseline: Baseline = "mean",
    scale: Scale = "std",
    ddof: int = 1,
    eps: float = 1e-6,
) -> Float[Tensor, " batch"]:
    """Advantage of each response over its group, A_i = (r_i − b_i) / (s + ε).

        baseline   mean            b_i = r̄, the mean of the group
                   leave_one_out   b_i = Σ_{j≠i} r_j / (G − 1)
                   none            b_i = 0
        scale      std             s = √(Σ_j (r_j − r̄)² / (G − ddof))
                   none            no division

    Groups are consecutive rows: the first G respond to the first prompt, the next G to the second. By convention every
    member of a group of one, or of a group of equal rewards, gets 0; with baseline "none" and scale "none" the rewards
    are returned unchanged. The result is a constant.

    Arguments:
        rewards: (batch,), finite.
        group_size: G > 0, a divisor of the batch.
        baseline, scale: as above.
        ddof: 0 or 1; only with scale "std".
        eps: ε ≥ 0; only with scale "std".

    Returns: (batch,).

    Error: with scale "std" |error| ≤ (8 + log₂ G)·u·(|A_i| + 1), with scale "none" |error| ≤ (8 + log₂ G)·u·(|A_i| + s)
    with s at ddof 1, where no reward or difference of two is subnormal.

    Claims: grpo.advantage.zero_sum, grpo.advantage.unit_variance, grpo.advantage.affine, grpo.advantage.degenerate,
    reinforce.leave_one_out.identity.

    Sources: Z. Shao et al., DeepSeekMath, arXiv:2402.03300, section 4.1; leave-one-out: A. Ahmadian et al., Back to
    Basics, arXiv:2402.14740; without scale: Z. Liu et al., Understanding R1-Zero-Like Training, arXiv:2503.20783.

    Examples:
        >>> import torch
        >>> from grape_verified import group_advantages
        >>> group_advantages(torch.tensor([1.0, 3.0, 2.0, 2.0]), 2, scale="none")
        tensor([-1.,  1.,  0.,  0.])
    """
    check_choice("baseline", baseline, get_args(Baseline))
    eps = check_scale(scale, ddof, eps)
    check_group_size(group_size)
    check_floating("rewards", rewards, "(batch,)")
    group_size = check_groups(group_size, rewards.shape[0])
    check_finite("rewards", rewards)
    groups = rewards.to(compute_dtype(rewards), copy=True).reshape(-1, group_size)
    return advantages_of_groups(groups, baseline, scale, ddof, eps).flatten()


def advantages_of_groups(
    groups: Float[Tensor, "prompts group"], baseline: str, scale: str, ddof: int, eps: float
) -> Float[Tensor, "prompts group"]:
    """`group_advantages` without checks, of rewards in the compute dtype, one row for each group."""
    _, deviations, std = _moments(groups, torch.ones_like(groups, dtype=torch.bool), ddof)
    if baseline == "none":
        deviations = groups
    elif baseline == "leave_one_out":
        deviations = deviations * (groups.shape[1] / max(groups.shape[1] - 1, 1))
    if scale == "std":
        deviations = (deviations / (std + eps)).masked_fill(std == 0, 0)
    return deviations


@torch.no_grad()
def gae(
    rewards: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    discount: float = 1.0,
    lam: float = 0.95,
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """Generalised advantage estimates A_t = Σ_k (γλ)ᵏ δ_{t+k} with δ_t = r_t + γV_{t+1} − V_t, and returns A_t + V_t.

    t+1 is the next counted token of the row: gaps in the mask are skipped, so inserting masked tokens does not change
    the others, and no value is bootstrapped from a masked token. After the last counted token V = 0 and A = 0. The
    results are constants.

    Arguments:
        rewards: (batch, time), r_t, the reward of each token.
        values: (batch, time), V_t, the value before token t is chosen.
        mask: (batch, time).
        discount: γ in [0, 1].
        lam: λ in [0, 1].

    Returns: advantages and returns, each (batch, time), 0 where masked.

    Error: |error| ≤ u·(⌈log₂ time⌉ + 4)·S_t, S_t the same sum as A_t over |r_t| + γ|V_{t+1}| + |V_t|; that of the
    returns likewise, with S_t + |V_t|.

    Claims: advantage.gae.recursion, advantage.gae.limits, advantage.gae.returns, advantage.gae.masked.

    Sources: J. Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation,
    arXiv:1506.02438, equation 16.

    Examples:
        >>> import torch
        >>> from grape_verified import gae
        >>> advantages, returns = gae(torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 3), torch.ones(1, 3), lam=0.5)
        >>> advantages
        tensor([[0.2500, 0.5000, 1.0000]])
    """
    discount = check_number("discount", discount, UNIT_INTERVAL)
    lam = check_number("lam", lam, UNIT_INTERVAL)
    check_floating("rewards", rewards, "(batch, time)")
    check_floating("values", values)
    check_same_shape("values", values, "rewards", rewards)
    counted = counted_tokens(mask, "rewards", rewards)
    dtype = compute_dtype(rewards, values)
    rewards, values = (x.to(dtype).masked_fill(~counted, 0) for x in (rewards, values))

    # Counted tokens move to the front of their row; the rest of it is 0. One more column receives what is masked.
    time = rewards.shape[1]
    slots = torch.where(counted, counted.cumsum(1) - 1, time)
    front = rewards.new_zeros(rewards.shape[0], time + 1)
    reward, value = front.scatter(1, slots, rewards), front.scatter(1, slots, values)
    residuals = reward + discount * pad(value[:, 1:], (0, 1)) - value
    advantages = _discounted_sums(residuals, discount, lam).gather(1, slots)
    return advantages, advantages + values


@torch.no_grad()
def whiten(
    values: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    shift_mean: bool = True,
    ddof: int = 1,
    eps: float = 1e-8,
) -> Float[Tensor, "batch time"]:
    """Whiten the values of the counted tokens, (x − x̄) / √(s² + ε), and add x̄ back if the mean is to be kept.

    x̄ = Σ mx / n and s² = Σ m(x − x̄)² / (n − ddof), over all n counted tokens of the batch. By convention s² = 0 where
    n ≤ ddof, and 0/0 is 0. The result is a constant.

    Arguments:
        values: (batch, time).
        mask: (batch, time).
        shift_mean: False keeps the mean: x̄ is added back.
        ddof: 0 or 1.
        eps: ε ≥ 0.

    Returns: (batch, time), 0 where masked.

    Error: |error| ≤ 8·u·(|y| + 1) for a result y, and 8·u·(|x̄| + s) more where the mean is added back.

    Claims: advantage.whiten.

    Sources: the implementation detail "advantage normalisation" of PPO, S. Huang et al., The 37 Implementation Details
    of Proximal Policy Optimization, ICLR Blog Track 2022, detail 7.

    Examples:
        >>> import torch
        >>> from grape_verified import whiten
        >>> whiten(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[1, 1, 0]]), ddof=0, eps=0.0)
        tensor([[-1.,  1.,  0.]])
    """
    check_flag("shift_mean", shift_mean)
    check_ddof(ddof)
    eps = check_number("eps", eps, NON_NEGATIVE)
    check_floating("values", values, "(batch, time)")
    counted = counted_tokens(mask, "values", values)
    values = values.to(compute_dtype(values)).masked_fill(~counted, 0)
    if not values.numel():
        return values
    mean, deviations, std = _moments(values.reshape(1, -1), counted.reshape(1, -1), ddof)
    scale = torch.hypot(std, torch.full_like(std, math.sqrt(eps)))
    whitened = (deviations / scale.masked_fill(scale == 0, 1)).view_as(values)
    return whitened if shift_mean else (whitened + mean).masked_fill(~counted, 0)


def check_scale(scale: str, ddof: int, eps: float) -> float:
    """Check the scale of advantages, and that options of the standard deviation are given with it only; return ε."""
    check_choice("scale", scale, get_args(Scale))
    check_ddof(ddof)
    number = check_number("eps", eps, NON_NEGATIVE)
    if scale != "std":
        for name, value, default in (("ddof", ddof, 1), ("eps", eps, 1e-6)):
            if value != default:
                raise ValueError(f"{name}: got {value}, expected {default} with scale {scale!r}, which does not use it")
    return number


def check_ddof(ddof: int) -> None:
    """Check the delta degrees of freedom of a variance."""
    if isinstance(ddof, bool) or not isinstance(ddof, Integral):
        raise TypeError(f"ddof: got {type(ddof).__name__}, expected 0 or 1")
    if ddof not in (0, 1):
        raise ValueError(f"ddof: got {ddof}, expected 0 or 1")


def check_group_size(group_size: int | None) -> None:
    """Check the size of a group."""
    check_integer("group_size", group_size, at_least=1)


def check_groups(group_size: int, batch: int) -> int:
    """Check that a batch consists of whole groups; return their size, 1 for an empty batch."""
    if batch % group_size:
        raise ValueError(f"group_size: got {group_size}, expected a divisor of {batch}, the number of sequences")
    return int(group_size) if batch else 1


def _discounted_sums(residuals: Tensor, discount: float, lam: float) -> Tensor:
    """A_t = Σ_k (γλ)ᵏ δ_{t+k} along time, in ⌈log₂ time⌉ steps, each of which doubles the reach of the sum.

    γ and λ are raised to powers separately, without repeated multiplication, so that each power is rounded once.
    """
    sums, time, reach = residuals, residuals.shape[1], 1
    while reach < time and (weight := discount**reach * lam**reach) > 0:
        sums = sums + weight * pad(sums[:, reach:], (0, reach))
        reach *= 2
    return sums


def _moments(values: Tensor, counted: Tensor, ddof: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the counted entries of each row, deviations from it (0 where masked), and their standard deviation.

    The mean is computed from differences to one member, whose sum does not overflow; it is NaN for an empty row. The
    deviations are exact for nearly equal values, and 0 for equal ones or a single one; their own mean corrects for the
    rounding of the mean. Squares are taken in units of the largest deviation, so that none overflows.
    """
    count = counted.sum(1, keepdim=True)

    def average(x: Tensor) -> Tensor:
        return x.masked_fill(~counted, 0).sum(1, keepdim=True) / count

    member = values.gather(1, counted.to(torch.uint8).argmax(1, keepdim=True))
    mean = member + average(bounded(values - member))
    deviations = bounded(values - mean)
    correction = average(deviations)
    deviations = (deviations - correction).masked_fill(~counted, 0)
    unit = deviations.abs().amax(1, keepdim=True)
    squares = (deviations / unit.masked_fill(unit == 0, 1)).square().sum(1, keepdim=True)
    return mean + correction, deviations, unit * (squares / (count - ddof).clamp(min=1)).sqrt()

"""Proximal policy optimisation: the clipped surrogate of one token, the value loss, and the KL penalty in the reward.

J. Schulman et al., Proximal Policy Optimization Algorithms, arXiv:1707.06347, section 3.
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from grape_verified.aggregation import aggregate
from grape_verified.arguments import (
    FINITE,
    NON_NEGATIVE,
    POSITIVE,
    Aggregation,
    Estimator,
    TokenInputs,
    check_aggregation,
    check_clip_range,
    check_estimator,
    check_number,
    check_value_clip,
    counted_tokens,
    sequence_rewards,
    token_inputs,
    value_inputs,
)
from grape_verified.kl import kl_estimate
from grape_verified.losses.output import LossOutput
from grape_verified.numerics import bounded, bounded_exp

__all__ = ["adaptive_kl_coef", "kl_shaped_rewards", "ppo_loss", "ppo_per_token", "value_loss", "value_loss_per_token"]


def ppo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> Float[Tensor, "batch time"]:
    """Negative clipped surrogate of each token, −min(ρA, clip(ρ, 1−ε, 1+ε′)A) with ρ = exp(logp − old_logp).

    With `dual_clip` c, tokens with A < 0 get −max(min(ρA, clip(ρ, 1−ε, 1+ε′)A), cA).

    Only `logps` is differentiated: `old_logps` and `advantages` are constants. Exactly at a kink, where ρ equals
    1+ε′, 1−ε or c, the slope kept is the unclipped one, −ρA. Where ρ would leave the range of the dtype it saturates
    at finfo.max · 2⁻²⁴ and the slope in logp keeps that size and sign.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; read in the compute dtype of logps.
        advantages: (batch, time), or (batch,) for one per sequence; read in the compute dtype of logps.
        clip_low: ε in [0, 1].
        clip_high: ε′ ≥ 0.
        dual_clip: c > 1, or None for no dual clip.

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: |error| ≤ 4·u·(|logp − old_logp| + 1)·|value|, u the unit roundoff of the compute dtype, where ρ neither
    saturates nor underflows.

    Claims: ppo.ratio, ppo.clipped_surrogate, ppo.clip.sign_form, ppo.clip.gradient, ppo.clip.kink,
    ppo.dual_clip.bound, ppo.dual_clip.gradient.

    Sources: Schulman et al., arXiv:1707.06347, equation 7; dual clip: Ye et al., arXiv:1912.09729.
    """
    check_clip_range(clip_low, clip_high, dual_clip)
    tokens = token_inputs(logps, old_logps, advantages)
    ratio = bounded_exp(tokens.logps - tokens.old_logps)
    rising = ratio.clamp(max=1 + clip_high)
    falling = ratio.clamp(min=1 - clip_low, max=dual_clip)
    return -torch.where(tokens.advantages >= 0, rising, falling) * tokens.advantages


def ppo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """PPO's policy loss: the aggregate of `ppo_per_token` over the tokens that count.

    There is no dual clip unless `dual_clip` is given, and the log-ratio is not clamped. Masked entries may hold
    anything, NaN and inf included. If no token counts, the loss is 0 with zero gradients.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; a constant.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        clip_low, clip_high, dual_clip: as in `ppo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none:
        clip_fraction: of 1 where clipping took the slope away (A > 0 and ρ > 1+ε′; A < 0 and ρ < 1−ε or ρ > c).
        ratio_mean: of ρ.
        approx_kl: of expm1(d) − d with d = logp − old_logp, an estimate of KL(old‖new) from samples of old.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option.

    Error: the aggregate of the bounds of `ppo_per_token`, and that of `aggregate`.

    Claims: those of `ppo_per_token` and `aggregate`.

    Sources: Schulman et al., arXiv:1707.06347, equation 7; dual clip: Ye et al., arXiv:1912.09729.
    """
    check_clip_range(clip_low, clip_high, dual_clip)
    check_aggregation("aggregation", aggregation, denominator, max_length)
    tokens = token_inputs(logps, old_logps, advantages)
    counted = counted_tokens(mask, "logps", logps)
    tokens = tokens.only(counted)
    per_token = ppo_per_token(
        tokens.logps, tokens.old_logps, tokens.advantages, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip
    )
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    clipped = clipped_tokens(tokens, clip_low, clip_high, dual_clip)
    return LossOutput(loss, per_token, ratio_metrics(tokens, clipped, counted))


@torch.no_grad()
def clipped_tokens(
    tokens: TokenInputs, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> Bool[Tensor, "batch time"]:
    """True where clipping took the slope away."""
    ratio = bounded_exp(tokens.logps - tokens.old_logps)
    too_high = (tokens.advantages > 0) & (ratio > 1 + clip_high)
    too_low = (tokens.advantages < 0) & (ratio < 1 - clip_low)
    if dual_clip is not None:
        too_low |= (tokens.advantages < 0) & (ratio > dual_clip)
    return too_high | too_low


@torch.no_grad()
def ratio_metrics(tokens: TokenInputs, clipped: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """The metrics that `ppo_loss` defines."""
    ratio = bounded_exp(tokens.logps - tokens.old_logps)
    return {
        "clip_fraction": aggregate(clipped.to(ratio.dtype), counted, "token_mean"),
        "ratio_mean": aggregate(ratio, counted, "token_mean"),
        "approx_kl": aggregate(kl_estimate(tokens.old_logps, tokens.logps), counted, "token_mean"),
    }


def value_loss_per_token(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    *,
    old_values: Float[Tensor, "batch time"] | None = None,
    clip: float | None = None,
) -> Float[Tensor, "batch time"]:
    """Loss of each value, ½(V − R)²; with `clip` c, ½·max((V − R)², (clip(V, V_old − c, V_old + c) − R)²).

    Only `values` is differentiated: `returns` and `old_values` are constants. The slope is V − R where the unclipped
    square counts, and by convention also where the two squares are equal; else it is 0. Where the loss would leave the
    range of the dtype it saturates at finfo.max · 2⁻²⁴ and its slope is kept.

    Arguments:
        values: (batch, time), V, any floating-point dtype, read in fp32 (fp64 stays fp64).
        returns: (batch, time), R; read in the compute dtype of values.
        old_values: (batch, time), V_old, under the critic that sampled; read in that dtype. Required by `clip`, and
            only allowed with it.
        clip: c > 0, or None for no clipping.

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 values). The gradient has the dtype of values.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: |error| ≤ 4·u·(value + √(2·value)·(|V_old| + c)), u the unit roundoff of the compute dtype, where the loss
    neither saturates nor underflows; without `clip`, |error| ≤ 4·u·value.

    Claims: ppo.value_loss, ppo.clipped_value_loss, ppo.value_clip.slope, ppo.value_clip.bound, ppo.value_clip.gradient.

    Sources: Schulman et al., arXiv:1707.06347, equation 9 (there without the ½); the clipped form: L. Engstrom et al.,
    Implementation Matters in Deep Policy Gradients, arXiv:2005.12729.
    """
    check_value_clip(clip, old_values)
    value, target, old_value = value_inputs(values, returns, old_values)
    error = _value_error(value, target, old_value, clip)
    return bounded(0.5 * error * error)


def value_loss(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    old_values: Float[Tensor, "batch time"] | None = None,
    clip: float | None = None,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """PPO's value loss: the aggregate of `value_loss_per_token` over the tokens that count.

    There is no clipping unless `clip` is given, and the factor ½ is part of the loss. Masked entries may hold anything,
    NaN and inf included. If no token counts, the loss is 0 with zero gradients.

    Arguments:
        values: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        returns: (batch, time), what the values should have been, such as those of `gae`; a constant.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        old_values, clip: as in `value_loss_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none:
        clip_fraction: of 1 where clipping took the slope away; 0 without `clip`.
        value_error: of V − R.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option.

    Error: the aggregate of the bounds of `value_loss_per_token`, and that of `aggregate`.

    Claims: those of `value_loss_per_token` and `aggregate`.

    Sources: those of `value_loss_per_token`.
    """
    check_value_clip(clip, old_values)
    check_aggregation("aggregation", aggregation, denominator, max_length)
    value, target, old_value = value_inputs(values, returns, old_values)
    counted = counted_tokens(mask, "values", values)
    value, target = value.masked_fill(~counted, 0), target.masked_fill(~counted, 0)
    if old_value is not None:
        old_value = old_value.masked_fill(~counted, 0)
    per_token = value_loss_per_token(value, target, old_values=old_value, clip=clip)
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    return LossOutput(loss, per_token, _value_metrics(value, target, old_value, clip, counted))


def kl_shaped_rewards(
    rewards: Float[Tensor, " batch"],
    logps: Float[Tensor, "batch time"],
    ref_logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    kl_coef: float,
    estimator: Estimator = "k1",
) -> Float[Tensor, "batch time"]:
    """Reward of each token, −β·k_t, and at the last counted token of a sequence its reward more: r − β·k_t.

    k_t is an estimate of KL(policy‖reference) from the token, for "k1" logp − ref_logp. Summed over a sequence that is
    its reward less β times its log-ratio. A row without a counted token has no place for its reward: it is all 0.
    Nothing is differentiated. Masked entries may hold anything, NaN and inf included.

    Arguments:
        rewards: (batch,), one for each sequence, any floating-point dtype, read in the compute dtype of logps.
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        ref_logps: (batch, time), under the frozen reference; read in that dtype.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        kl_coef: β ≥ 0.
        estimator: as in `kl_estimate`.

    Returns: (batch, time), 0 where masked, fp32 (fp64 for fp64 logps).

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value or option.

    Error: β times that of `kl_estimate`, and 2·u·(|r| + β|k_t|), u the unit roundoff of the compute dtype.

    Claims: ppo.token_reward, ppo.kl_in_reward.

    Sources: D. M. Ziegler et al., Fine-Tuning Language Models from Human Preferences, arXiv:1909.08593, section 2.
    """
    kl_coef = check_number("kl_coef", kl_coef, NON_NEGATIVE)
    check_estimator("estimator", estimator)
    rewards = sequence_rewards(rewards, logps, ref_logps)
    counted = counted_tokens(mask, "logps", logps)
    with torch.no_grad():
        penalties = kl_coef * kl_estimate(logps, ref_logps, estimator).masked_fill(~counted, 0)
        last = counted & (counted.flip(1).cumsum(1).flip(1) == 1)
        return torch.where(last, rewards.unsqueeze(1), 0) - penalties


def adaptive_kl_coef(
    kl_coef: float, kl: float, *, target: float, horizon: float, steps: float, clip: float = 0.2
) -> float:
    """The next coefficient of the KL penalty, β·(1 + clip(KL/target − 1, −c, c)·n/h).

    Above the target it rises, below it falls, and at the target it stays; one update changes it by the factor c·n/h at
    most, so that it stays positive.

    Arguments:
        kl_coef: β > 0, the coefficient so far.
        kl: the divergence that was measured; an estimate of it may be negative.
        target: what it should be, > 0.
        horizon: h > 0, on which scale of samples the coefficient adapts.
        steps: n > 0, the samples since the last update; n·c < h.
        clip: c > 0.

    Returns: float.

    Raises: TypeError or ValueError for a wrong type or number, and where n·c ≥ h, which could end the penalty.

    Error: |error| ≤ 8·u·value / (1 − c·n/h), u = 2⁻⁵³.

    Claims: ppo.adapted_kl_coef, ppo.adaptive_kl.

    Sources: Ziegler et al., arXiv:1909.08593, section 2.2, where n/h is one constant.
    """
    for name, value in {"kl_coef": kl_coef, "target": target, "horizon": horizon, "steps": steps, "clip": clip}.items():
        check_number(name, value, POSITIVE)
    check_number("kl", kl, FINITE)
    if steps * clip >= horizon:
        raise ValueError(f"steps: got {steps}, expected less than horizon / clip, here {horizon / clip}")
    error = min(max(kl / target - 1, -clip), clip)
    return float(kl_coef * (1 + error * steps / horizon))


def _value_error(value: Tensor, target: Tensor, old_value: Tensor | None, clip: float | None) -> Tensor:
    """V − R, or clip(V, V_old − c, V_old + c) − R where that is further from 0."""
    error = bounded(value - target)
    if clip is None or old_value is None:
        return error
    clipped_error = bounded(value.clamp(old_value - clip, old_value + clip) - target)
    return torch.where(clipped_error.abs() > error.abs(), clipped_error, error)


@torch.no_grad()
def _value_metrics(
    value: Tensor, target: Tensor, old_value: Tensor | None, clip: float | None, counted: Tensor
) -> dict[str, Tensor]:
    """The metrics that `value_loss` defines."""
    error = bounded(value - target)
    clipped = _value_error(value, target, old_value, clip) != error
    return {
        "clip_fraction": aggregate(clipped.to(error.dtype), counted, "token_mean"),
        "value_error": aggregate(error, counted, "token_mean"),
    }

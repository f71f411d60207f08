"""Proximal policy optimisation: the clipped surrogate of one token, the value loss, and the KL penalty in the reward.

J. Schulman et al., Proximal Policy Optimization Algorithms, arXiv:1707.06347, section 3.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import check_reduction, reduced
from grape_verified.arguments import (
    FINITE,
    NON_NEGATIVE,
    POSITIVE,
    UNIT_INTERVAL,
    Aggregation,
    Estimator,
    Range,
    check_alike,
    check_number,
    check_one_per_sequence,
    counted_tokens,
)
from grape_verified.kl import check_estimator, estimate
from grape_verified.losses.kl_term import KLRatio, LossEstimator, check_kl_term, with_penalty
from grape_verified.losses.output import LossOutput, means_over
from grape_verified.losses.ratio import RatioTokens, counted_ratio_tokens, ratio_output, ratio_tokens
from grape_verified.numerics import difference, is_traced, only, saturate_, select, with_values_

__all__ = [
    "adaptive_kl_coef",
    "kl_shaped_rewards",
    "ppo_loss",
    "ppo_per_token",
    "value_loss",
    "value_loss_per_token",
]


def ppo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    ref_logps: Float[Tensor, "batch time"] | None = None,
    kl_coef: float = 0.0,
    kl_estimator: LossEstimator = "k3",
    kl_ratio: KLRatio = "absent",
) -> Float[Tensor, "batch time"]:
    """PPO's clipped loss of each token, with an optional KL penalty.

        −min(ρA, clip(ρ, 1−ε, 1+ε′)·A)                      ρ = exp(logp − old_logp)
        −max(min(ρA, clip(ρ, 1−ε, 1+ε′)·A), cA) where A < 0, with `dual_clip` c
        + β·k                                               with `kl_coef` β

    Exactly at a kink, where ρ equals 1+ε′, 1−ε or c, the slope in logp is the unclipped one, −ρA.

    k estimates KL(policy‖reference), as in `kl_estimate`. By `kl_ratio`, the ratio does not weight it ("absent"), is a
    constant weight ("detached"), or is differentiated, too ("attached"). The expected gradient of the penalty:

                 attached         detached         absent, on policy    absent, off policy
        k1       ∇KL(π‖ref)       0                0                    −∇KL(old‖π)
        k2       ∇E[k2]           ∇KL(π‖ref)       ∇KL(π‖ref)           of no divergence
        k3       ∇KL(π‖ref)       ∇KL(ref‖π)       ∇KL(ref‖π)           of no divergence
        k1+, k3+ refused          ∇KL(π‖ref)       ∇KL(π‖ref)           of no divergence

    k1+ and k3+ have the value of k1 and k3 and the slope of k2. The clip does not apply to the penalty. With β = 0,
    ref_logps only adds a metric to the loss.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        clip_low: ε in [0, 1].
        clip_high: ε′ ≥ 0.
        dual_clip: c > 1, or None for no dual clip.
        ref_logps: (batch, time), under the frozen reference; a constant; required where β > 0.
        kl_coef: β ≥ 0.
        kl_estimator: "k1", "k2", "k3", "k1+" or "k3+".
        kl_ratio: "absent", "detached" or "attached".

    Returns: (batch, time).

    Error: |error| ≤ 4·u·(|logp − old_logp| + 1)·|value|, where nothing saturates or underflows (theorem
    ppo_per_token_error, for an exponential within 1 ulp); with a penalty, that of `grpo_per_token`.

    Claims: ppo.clip.sign_form, ppo.clip.gradient, ppo.clip.kink, ppo.dual_clip.bound, ppo.dual_clip.gradient,
    kl.attached.slope, kl.attached.gradient, kl.detached.gradient, kl.unweighted.gradient,
    kl.straight_through.gradient, kl.attached.sequence.

    Sources: Schulman et al., arXiv:1707.06347, equation 7; dual clip: Ye et al., arXiv:1912.09729; the ratio on the
    penalty: DeepSeek-AI, arXiv:2512.02556 (not checked against the source).

    Examples:
        >>> import torch
        >>> from grape_verified import ppo_per_token
        >>> logps, old_logps = torch.tensor([[0.5, -1.0]]).log1p(), torch.zeros(1, 2)
        >>> ppo_per_token(logps, old_logps, torch.tensor([1.0]))  # ρ = 1.5 is clipped to 1.2
        tensor([[-1.2000, -0.0000]])
    """
    clip = check_clip(clip_low, clip_high, dual_clip)
    penalty = check_kl_term(ref_logps, kl_coef, kl_estimator, kl_ratio)
    tokens = ratio_tokens(logps, old_logps, advantages)
    return with_penalty(clipped_surrogate(tokens, clip)[0], logps, tokens, penalty)[0]


def ppo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    ref_logps: Float[Tensor, "batch time"] | None = None,
    kl_coef: float = 0.0,
    kl_estimator: LossEstimator = "k3",
    kl_ratio: KLRatio = "absent",
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """PPO's policy loss: `ppo_per_token`, aggregated over the tokens that count.

    There is no dual clip and no KL penalty by default, and the log-ratio is never clamped. The penalty is inside the
    aggregate, under the same mask and denominator.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        mask: (batch, time).
        clip_low, clip_high, dual_clip, ref_logps, kl_coef, kl_estimator, kl_ratio: as in `ppo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics, each a mean over the counted tokens of this call:
        clip_fraction: 1 where clipping sets the slope to 0 (A > 0 and ρ > 1+ε′; A < 0 and ρ < 1−ε or ρ > c), else 0.
        ratio_mean: ρ.
        approx_kl: expm1(d) − d with d = logp − old_logp, an estimate of KL(old‖new) from samples of old.
        kl: k, not weighted by the ratio; only with ref_logps.

    Error: the aggregate of the bounds of `ppo_per_token`, and that of `aggregate`.

    Claims: those of `ppo_per_token` and `aggregate`.

    Sources: those of `ppo_per_token`.

    Examples:
        >>> import torch
        >>> from grape_verified import ppo_loss
        >>> logps = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
        >>> output = ppo_loss(logps, logps.detach(), torch.tensor([0.5]), torch.tensor([[1, 1, 0]]))
        >>> output.loss.backward()
        >>> output.loss.item(), logps.grad.tolist()
        (-0.5, [[-0.25, -0.25, 0.0]])
    """
    clip = check_clip(clip_low, clip_high, dual_clip)
    penalty = check_kl_term(ref_logps, kl_coef, kl_estimator, kl_ratio)
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    tokens = counted_ratio_tokens(logps, old_logps, advantages, mask)
    per_token, clipped = clipped_surrogate(tokens, clip)
    per_token, divergence = with_penalty(per_token, logps, tokens, penalty)
    return ratio_output(per_token, tokens, reduction, clip_fraction=clipped, **divergence)


class Clip(NamedTuple):
    """The clip range of the ratio: ε, ε′, and c of the dual clip."""

    low: float
    high: float
    dual: float | None


def check_clip(clip_low: float, clip_high: float, dual_clip: float | None = None) -> Clip:
    """Check the options of ratio clipping."""
    low = check_number("clip_low", clip_low, UNIT_INTERVAL)
    high = check_number("clip_high", clip_high, NON_NEGATIVE)
    if dual_clip is not None:
        dual_clip = check_number("dual_clip", dual_clip, Range("None or a finite number > 1", low=1.0))
    return Clip(low, high, dual_clip)


def clipped_surrogate(tokens: RatioTokens, clip: Clip) -> tuple[Tensor, Tensor]:
    """The negative surrogate of each token, and where clipping sets its slope to 0: −A times the clipped ratio."""
    clipped = clipped_ratio(tokens.ratio, tokens.advantages, clip)
    return clipped * -tokens.advantages, (clipped != tokens.ratio) & (tokens.advantages != 0)


def clipped_ratio(ratio: Tensor, advantages: Tensor, clip: Clip) -> Tensor:
    """The ratio, clipped on the side that the advantage selects, with slope 1 where it is not, kinks included."""
    if is_traced():
        return _clipped(ratio, advantages, clip)
    with torch.no_grad():
        clipped = _clipped(ratio, advantages, clip)
    return with_values_(only(ratio, clipped == ratio), lambda _: clipped)  # one product in the backward pass


def _clipped(ratio: Tensor, advantages: Tensor, clip: Clip) -> Tensor:
    rising = ratio.clamp(max=1 + clip.high)  # A ≥ 0: no gain above 1 + ε′
    falling = ratio.clamp(min=1 - clip.low, max=clip.dual)  # A < 0: no gain below 1 − ε, no loss above c
    return select(advantages >= 0, rising, falling)


def value_loss_per_token(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    *,
    old_values: Float[Tensor, "batch time"] | None = None,
    clip: float | None = None,
) -> Float[Tensor, "batch time"]:
    """Squared error of each value.

        ½(V − R)²
        ½·max((V − R)², (clip(V, V_old − c, V_old + c) − R)²), with `clip` c

    The slope is V − R where the unclipped square is the larger one, and by convention also where the two are equal;
    elsewhere it is 0.

    Arguments:
        values: (batch, time), V.
        returns: (batch, time), R; a constant.
        old_values: (batch, time), V_old, from the critic at the time of sampling; a constant; required by `clip`,
            and only allowed with it.
        clip: c > 0, or None for no clipping.

    Returns: (batch, time).

    Error: |error| ≤ 4·u·(value + √(2·value)·s + u·s²) with s = |V_old| + c, and without `clip` |error| ≤ 4·u·value,
    where nothing saturates or underflows (theorems value_loss_per_token_clipped_error and value_loss_per_token_error).

    Claims: ppo.value_clip.bound, ppo.value_clip.gradient.

    Sources: Schulman et al., arXiv:1707.06347, equation 9 (there without the ½); the clipped form: L. Engstrom et al.,
    Implementation Matters in Deep Policy Gradients, arXiv:2005.12729.

    Examples:
        >>> import torch
        >>> from grape_verified import value_loss_per_token
        >>> value_loss_per_token(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]]))
        tensor([[0.5000, 4.5000]])
    """
    width = check_value_clip(clip, old_values)
    check_values_alike(values, returns, old_values)
    _, counted_error = _errors(values, returns, old_values, width)
    return saturate_(0.5 * counted_error * counted_error)


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
    """PPO's value loss: `value_loss_per_token`, aggregated over the tokens that count.

    The factor ½ is part of the loss, and there is no clipping by default.

    Arguments:
        values: (batch, time).
        returns: (batch, time), the targets, such as the returns of `gae`; a constant.
        mask: (batch, time).
        old_values, clip: as in `value_loss_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics, each a mean over the counted tokens of this call:
        clip_fraction: 1 where clipping sets the slope to 0, else 0; 0 without `clip`.
        value_error: V − R.

    Error: the aggregate of the bounds of `value_loss_per_token`, and that of `aggregate`.

    Claims: those of `value_loss_per_token` and `aggregate`.

    Sources: those of `value_loss_per_token`.

    Examples:
        >>> import torch
        >>> from grape_verified import value_loss
        >>> values, returns = torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[2.0, 0.0, 0.0]])
        >>> value_loss(values, returns, torch.tensor([[1, 1, 0]])).loss.item()
        2.5
    """
    width = check_value_clip(clip, old_values)
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    check_values_alike(values, returns, old_values)
    counted = counted_tokens(mask, "values", values)
    error, counted_error = _errors(values, returns, old_values, width, counted)
    per_token = saturate_(0.5 * counted_error * counted_error)
    metrics = means_over(counted, clip_fraction=counted_error != error, value_error=error)
    return LossOutput(reduced(per_token, counted, reduction), per_token, metrics)


def check_value_clip(clip: float | None, old_values: Tensor | None) -> float | None:
    """Check that the width and the centre of value clipping are given together; return the width."""
    if clip is None:
        if old_values is not None:
            raise ValueError("old_values: got a tensor, expected None without clip, which alone uses it")
        return None
    if old_values is None:
        raise TypeError("old_values: got NoneType, expected a tensor, which clip needs")
    return check_number("clip", clip, Range("None or a finite number > 0", low=0.0))


def check_values_alike(values: Tensor, returns: Tensor, old_values: Tensor | None) -> None:
    """Check the tensors of a value loss."""
    given = {} if old_values is None else {"old_values": old_values}
    check_alike("(batch, time)", values=values, returns=returns, **given)


def _errors(
    values: Tensor, returns: Tensor, old_values: Tensor | None, width: float | None, counted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """V − R, and the larger in magnitude of V − R and clipped V − R; both 0 where masked."""
    error = difference(values, returns, counted)
    if width is None or old_values is None:
        return error, error
    value, old_value = values.to(error.dtype), old_values.detach().to(error.dtype)
    clipped_error = difference(value.clamp(old_value - width, old_value + width), returns, counted)
    return error, torch.where(clipped_error.abs() > error.abs(), clipped_error, error)


@torch.no_grad()
def kl_shaped_rewards(
    rewards: Float[Tensor, " batch"],
    logps: Float[Tensor, "batch time"],
    ref_logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    kl_coef: float,
    estimator: Estimator = "k1",
) -> Float[Tensor, "batch time"]:
    """Reward of each token: −β·k_t, and r − β·k_t at the last counted token of a sequence with reward r.

    k_t estimates KL(policy‖reference) from the token; for "k1" it is logp − ref_logp, and the rewards of a sequence
    add up to its reward minus β times its log-ratio. A row without a counted token is 0: its reward is dropped. The
    result is a constant.

    Arguments:
        rewards: (batch,), one for each sequence.
        logps: (batch, time).
        ref_logps: (batch, time), under the frozen reference.
        mask: (batch, time).
        kl_coef: β ≥ 0.
        estimator: as in `kl_estimate`.

    Returns: (batch, time), 0 where masked.

    Error: β times that of `kl_estimate`, and 2·u·(|r| + β|k_t|).

    Claims: ppo.kl_in_reward.

    Sources: D. M. Ziegler et al., Fine-Tuning Language Models from Human Preferences, arXiv:1909.08593, section 2.

    Examples:
        >>> import torch
        >>> from grape_verified import kl_shaped_rewards
        >>> logps, ref_logps = torch.tensor([[-1.0, -2.0, -1.0]]), torch.tensor([[-2.0, -2.0, -1.0]])
        >>> kl_shaped_rewards(torch.tensor([1.0]), logps, ref_logps, torch.tensor([[1, 1, 0]]), kl_coef=0.5)
        tensor([[-0.5000,  1.0000,  0.0000]])
    """
    kl_coef = check_number("kl_coef", kl_coef, NON_NEGATIVE)
    check_estimator("estimator", estimator)
    check_alike("(batch, time)", logps=logps, ref_logps=ref_logps)
    check_one_per_sequence("rewards", rewards, logps)
    counted = counted_tokens(mask, "logps", logps)
    penalties = kl_coef * estimate(logps, ref_logps, estimator, counted)
    last = counted & (counted.flip(1).cumsum(1).flip(1) == 1)
    return torch.where(last, rewards.to(penalties.dtype).unsqueeze(1), 0) - penalties


def adaptive_kl_coef(
    kl_coef: float, kl: float, *, target: float, horizon: float, steps: float, clip: float = 0.2
) -> float:
    """Next coefficient of the KL penalty, β·(1 + clip(KL/target − 1, −c, c)·n/h).

    It rises when the measured KL is above the target and falls when it is below. One update changes it by a factor
    within 1 ± c·n/h, so it stays positive.

    Arguments:
        kl_coef: β > 0, the coefficient so far.
        kl: the measured KL; an estimate of it may be negative.
        target: the desired KL, > 0.
        horizon: h > 0, the number of samples over which the coefficient adapts.
        steps: n > 0, the samples since the last update; n·c < h.
        clip: c > 0.

    Returns: float.

    Raises: ValueError also where n·c ≥ h, which could make the coefficient 0 or negative.

    Error: |error| ≤ 8·u·value / (1 − c·n/h), u = 2⁻⁵³.

    Claims: ppo.adaptive_kl.

    Sources: Ziegler et al., arXiv:1909.08593, section 2.2, where n/h is one constant.

    Examples:
        >>> from grape_verified import adaptive_kl_coef
        >>> adaptive_kl_coef(0.1, kl=12.0, target=6.0, horizon=10.0, steps=1.0)
        0.10200000000000001
    """
    coef, of = check_number("kl_coef", kl_coef, POSITIVE), check_number("target", target, POSITIVE)
    span, since = check_number("horizon", horizon, POSITIVE), check_number("steps", steps, POSITIVE)
    edge, measured = check_number("clip", clip, POSITIVE), check_number("kl", kl, FINITE)
    if since * edge >= span:
        raise ValueError(f"steps: got {steps}, expected less than horizon / clip, here {span / edge}")
    error = min(max(measured / of - 1, -edge), edge)
    return coef * (1 + error * since / span)

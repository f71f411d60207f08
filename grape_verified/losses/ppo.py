"""Proximal policy optimisation: the clipped surrogate of one token.

J. Schulman et al., Proximal Policy Optimization Algorithms, arXiv:1707.06347, section 3.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import aggregate
from grape_verified.arguments import (
    Aggregation,
    TokenInputs,
    check_aggregation,
    check_clip_range,
    counted_tokens,
    token_inputs,
)
from grape_verified.losses.output import LossOutput
from grape_verified.numerics import bounded, bounded_exp, exp_limit


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
    return LossOutput(loss, per_token, _metrics(tokens, counted, clip_low, clip_high, dual_clip))


@torch.no_grad()
def _metrics(
    tokens: TokenInputs, counted: Tensor, clip_low: float, clip_high: float, dual_clip: float | None
) -> dict[str, Tensor]:
    """The metrics that `ppo_loss` defines."""
    log_ratio = bounded(tokens.logps - tokens.old_logps)
    ratio = bounded_exp(log_ratio)
    too_high = (tokens.advantages > 0) & (ratio > 1 + clip_high)
    too_low = (tokens.advantages < 0) & (ratio < 1 - clip_low)
    if dual_clip is not None:
        too_low |= (tokens.advantages < 0) & (ratio > dual_clip)
    surprise = log_ratio.clamp(max=exp_limit(log_ratio.dtype)).expm1() - log_ratio
    return {
        "clip_fraction": aggregate((too_high | too_low).to(ratio.dtype), counted, "token_mean"),
        "ratio_mean": aggregate(ratio, counted, "token_mean"),
        "approx_kl": aggregate(surprise, counted, "token_mean"),
    }

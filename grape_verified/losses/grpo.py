"""Group relative policy optimisation: clipped surrogates with advantages relative to a group of responses.

Z. Shao et al., DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models, arXiv:2402.03300,
section 4. The advantages come from `group_advantages`. Variants: DAPO (Q. Yu et al., arXiv:2503.14476), Dr. GRPO
(Z. Liu et al., arXiv:2503.20783), GSPO (C. Zheng et al., arXiv:2507.18071), CISPO (A. Chen et al., MiniMax-M1,
arXiv:2506.13585).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import aggregate, divide
from grape_verified.arguments import (
    Aggregation,
    Estimator,
    TokenInputs,
    check_aggregation,
    check_clip_range,
    check_denominator,
    check_kl_penalty,
    check_reference,
    check_sequence_advantages,
    counted_tokens,
    token_inputs,
)
from grape_verified.kl import kl_estimate
from grape_verified.losses.output import LossOutput, SequenceLossOutput
from grape_verified.losses.ppo import clipped_tokens, ppo_per_token, ratio_metrics
from grape_verified.numerics import bounded, bounded_exp

__all__ = [
    "cispo_loss",
    "cispo_per_token",
    "dapo_loss",
    "dr_grpo_loss",
    "grpo_loss",
    "grpo_per_token",
    "gspo_loss",
    "gspo_per_sequence",
]


def grpo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    *,
    ref_logps: Float[Tensor, "batch time"] | None = None,
    kl_coef: float = 0.0,
    kl_estimator: Estimator = "k3",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Float[Tensor, "batch time"]:
    """Loss of each token, −min(ρA, clip(ρ, 1−ε, 1+ε′)A) + β·k with ρ = exp(logp − old_logp).

    k estimates the divergence of the policy from the reference, as in `kl_estimate`; by default it is
    k3 = expm1(d) − d, d = ref_logp − logp, with slope 1 − exp(d) in logp. The ratio does not weight it.

    Only `logps` is differentiated. Kinks and saturation of the first term are those of `ppo_per_token`; β·k saturates
    at ± finfo.max · 2⁻²⁴ and keeps its slope.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; read in the compute dtype of logps.
        advantages: (batch, time), or (batch,) for one per sequence; read in the compute dtype of logps.
        ref_logps: (batch, time), under the frozen reference, a constant; or None for no KL penalty.
        kl_coef: β, a finite number > 0 with ref_logps, and 0 without.
        kl_estimator: "k1", "k2" or "k3"; nothing but the default without ref_logps.
        clip_low: ε in [0, 1].
        clip_high: ε′ ≥ 0.

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option, or one without effect.

    Error: |error| ≤ 4·u·((|logp − old_logp| + 1)·|first term| + β·(|d| + 2)·(exp(d) + |d| + 1)) for k3, u the unit
    roundoff of the compute dtype, where neither exponential saturates or underflows.

    Claims: ppo.clipped_surrogate, kl.k3, grpo.objective, grpo.gradient.

    Sources: Shao et al., arXiv:2402.03300, equations 3 and 4.
    """
    check_clip_range(clip_low, clip_high, None)
    check_kl_penalty(ref_logps, kl_coef, kl_estimator)
    if ref_logps is not None:
        check_reference(ref_logps, logps)
    surrogate = ppo_per_token(logps, old_logps, advantages, clip_low=clip_low, clip_high=clip_high)
    if ref_logps is None:
        return surrogate
    return surrogate + bounded(kl_coef * kl_estimate(logps, ref_logps, kl_estimator))


def grpo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    ref_logps: Float[Tensor, "batch time"] | None = None,
    kl_coef: float = 0.0,
    kl_estimator: Estimator = "k3",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregation: Aggregation = "sequence_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """GRPO's loss: the aggregate of `grpo_per_token` over the tokens that count.

    The KL penalty is inside the aggregate, under the same mask and denominator. Masked entries may hold anything,
    NaN and inf included. If no token counts, the loss is 0 with zero gradients.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; a constant. See `group_advantages`.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        ref_logps, kl_coef, kl_estimator, clip_low, clip_high: as in `grpo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none: those of `ppo_loss`, and with ref_logps
        kl: of k.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option, or one without
    effect.

    Error: the aggregate of the bounds of `grpo_per_token`, and that of `aggregate`.

    Claims: those of `grpo_per_token` and `aggregate`.

    Sources: Shao et al., arXiv:2402.03300, equations 3 and 4.
    """
    check_clip_range(clip_low, clip_high, None)
    check_kl_penalty(ref_logps, kl_coef, kl_estimator)
    check_aggregation("aggregation", aggregation, denominator, max_length)
    tokens = token_inputs(logps, old_logps, advantages)
    if ref_logps is not None:
        check_reference(ref_logps, logps)
    counted = counted_tokens(mask, "logps", logps)
    tokens = tokens.only(counted)
    clipped = clipped_tokens(tokens, clip_low, clip_high)
    metrics = ratio_metrics(tokens, clipped, counted)
    if ref_logps is not None:
        ref_logps = ref_logps.masked_fill(~counted, 0)
        metrics["kl"] = aggregate(kl_estimate(tokens.logps.detach(), ref_logps, kl_estimator), counted, "token_mean")
    per_token = grpo_per_token(
        tokens.logps, tokens.old_logps, tokens.advantages,
        ref_logps=ref_logps, kl_coef=kl_coef, kl_estimator=kl_estimator, clip_low=clip_low, clip_high=clip_high,
    )  # fmt: skip
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    return LossOutput(loss, per_token, metrics)


def dapo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> LossOutput:
    """DAPO's loss: `grpo_loss` with a higher upper clip, every token weighing the same, and no KL penalty.

    Arguments:
        logps, old_logps, advantages, mask, clip_low, clip_high: as in `grpo_loss`; the advantages are those of
            `group_advantages` with its defaults.
        denominator: a finite number > 0 or a 0-d tensor that holds one; None for the number of counted tokens.

    Returns: LossOutput(loss, per_token, metrics), as `grpo_loss`.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value or option.

    Error: that of `grpo_loss`.

    Claims: grpo.dapo, and those of `grpo_loss`.

    Sources: Yu et al., arXiv:2503.14476.
    """
    return grpo_loss(
        logps, old_logps, advantages, mask,
        clip_low=clip_low, clip_high=clip_high, aggregation="token_mean", denominator=denominator,
    )  # fmt: skip


def dr_grpo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    max_length: int,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> LossOutput:
    """Dr. GRPO's loss: `grpo_loss` with one fixed length in place of each sequence's own, and no KL penalty.

    Arguments:
        logps, old_logps, advantages, mask, clip_low, clip_high: as in `grpo_loss`; the advantages are those of
            `group_advantages` with scale="none".
        max_length: the length > 0 that every row is divided by.
        denominator: a finite number > 0 or a 0-d tensor that holds one; None for the number of rows.

    Returns: LossOutput(loss, per_token, metrics), as `grpo_loss`.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value or option.

    Error: that of `grpo_loss`.

    Claims: grpo.dr_grpo, and those of `grpo_loss`.

    Sources: Liu et al., arXiv:2503.20783.
    """
    return grpo_loss(
        logps, old_logps, advantages, mask,
        clip_low=clip_low, clip_high=clip_high,
        aggregation="fixed_length", denominator=denominator, max_length=max_length,
    )  # fmt: skip


def gspo_per_sequence(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> Float[Tensor, " batch"]:
    """Loss of each sequence, −min(sA, clip(s, 1−ε, 1+ε′)A) with s = exp(Σ_t m_t(logp_t − old_logp_t) / Σ_t m_t).

    Only `logps` is differentiated; its slope is that of `ppo_per_token` at s, shared equally by the tokens that
    count. Kinks and saturation are those of `ppo_per_token`. A sequence without tokens has loss 0. Masked entries may
    hold anything, NaN and inf included.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; read in the compute dtype of logps.
        advantages: (batch,), one for each sequence; read in the compute dtype of logps.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        clip_low: ε in [0, 1].
        clip_high: ε′ ≥ 0.

    Returns: (batch,), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value or option.

    Error: |error| ≤ 4·u·(mean of |logp − old_logp| + 1)·|value|, u the unit roundoff of the compute dtype, where s
    neither saturates nor underflows.

    Claims: grpo.gspo.ratio, grpo.gspo.objective, grpo.gspo.gradient, ppo.clip.gradient.

    Sources: Zheng et al., arXiv:2507.18071.
    """
    check_clip_range(clip_low, clip_high, None)
    sequences, _ = _sequences(logps, old_logps, advantages, mask)
    return _clipped_sequences(sequences, clip_low, clip_high)


def gspo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> SequenceLossOutput:
    """GSPO's loss: the sum of `gspo_per_sequence` over the sequences, divided by D.

    With one denominator for the whole batch, the losses of its micro-batches add up to its loss. If no token counts,
    the loss is 0 with zero gradients.

    Arguments:
        logps, old_logps, advantages, mask, clip_low, clip_high: as in `gspo_per_sequence`.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one, not differentiated; None for the number
            of rows, those without tokens included.

    Returns: SequenceLossOutput(loss, per_sequence, metrics). The metrics are means over the sequences of this call
    that have tokens, 0 if there are none:
        clip_fraction: of 1 where clipping took the slope away (A > 0 and s > 1+ε′; A < 0 and s < 1−ε).
        ratio_mean: of s.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value or option.

    Error: that of `gspo_per_sequence`, summed and divided by D, and 8·u·Σ|per_sequence|/D for the sum.

    Claims: those of `gspo_per_sequence`.

    Sources: Zheng et al., arXiv:2507.18071.
    """
    check_clip_range(clip_low, clip_high, None)
    check_denominator(denominator)
    sequences, nonempty = _sequences(logps, old_logps, advantages, mask)
    per_sequence = _clipped_sequences(sequences, clip_low, clip_high)
    loss = divide(per_sequence.sum(), denominator, default=per_sequence.shape[0])
    metrics = ratio_metrics(sequences, clipped_tokens(sequences, clip_low, clip_high), nonempty)
    return SequenceLossOutput(loss, per_sequence, {name: metrics[name] for name in ("clip_fraction", "ratio_mean")})


def cispo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    *,
    clip_low: float = 1.0,
    clip_high: float = 4.0,
) -> Float[Tensor, "batch time"]:
    """Loss of each token, −w·A·logp with the constant weight w = clip(ρ, 1−ε, 1+ε′), ρ = exp(logp − old_logp).

    The weight is not differentiated, so a clipped token keeps the slope −wA. Where the value would leave the range of
    the dtype it saturates at ± finfo.max · 2⁻²⁴ and keeps its slope.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; read in the compute dtype of logps.
        advantages: (batch, time), or (batch,) for one per sequence; read in the compute dtype of logps.
        clip_low: ε in [0, 1]; 1 for no lower clip.
        clip_high: ε′ ≥ 0.

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: |error| ≤ 4·u·(|logp − old_logp| + 1)·|value|, u the unit roundoff of the compute dtype, where nothing
    saturates or underflows.

    Claims: grpo.cispo.weight, grpo.cispo.objective, grpo.cispo.gradient.

    Sources: Chen et al., arXiv:2506.13585; it gives no value for the upper clip, and none for a lower.
    """
    check_clip_range(clip_low, clip_high, None)
    tokens = token_inputs(logps, old_logps, advantages)
    ratio = bounded_exp(tokens.logps.detach() - tokens.old_logps)
    weight = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -bounded(weight * tokens.advantages * bounded(tokens.logps))


def cispo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    clip_low: float = 1.0,
    clip_high: float = 4.0,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """CISPO's loss: the aggregate of `cispo_per_token` over the tokens that count.

    Its value is no measure of progress, as the weight is held constant: it is there to be differentiated. Masked
    entries may hold anything, NaN and inf included. If no token counts, the loss is 0 with zero gradients.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; a constant.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        clip_low, clip_high: as in `cispo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none:
        clip_fraction: of 1 where the weight is not the ratio (ρ > 1+ε′ or ρ < 1−ε).
        ratio_mean, approx_kl: as in `ppo_loss`.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option.

    Error: the aggregate of the bounds of `cispo_per_token`, and that of `aggregate`.

    Claims: those of `cispo_per_token` and `aggregate`.

    Sources: Chen et al., arXiv:2506.13585.
    """
    check_clip_range(clip_low, clip_high, None)
    check_aggregation("aggregation", aggregation, denominator, max_length)
    tokens = token_inputs(logps, old_logps, advantages)
    counted = counted_tokens(mask, "logps", logps)
    tokens = tokens.only(counted)
    per_token = cispo_per_token(
        tokens.logps, tokens.old_logps, tokens.advantages, clip_low=clip_low, clip_high=clip_high
    )
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    ratio = bounded_exp(tokens.logps.detach() - tokens.old_logps)
    clipped = (ratio > 1 + clip_high) | (ratio < 1 - clip_low)
    return LossOutput(loss, per_token, ratio_metrics(tokens, clipped, counted))


def _sequences(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> tuple[TokenInputs, Tensor]:
    """Each sequence as one token, whose log-ratio is the mean of those of its tokens; and which have any tokens.

    Both (batch, 1). What the token reads is 0 for a sequence without tokens.
    """
    check_sequence_advantages(advantages, logps)
    tokens = token_inputs(logps, old_logps, advantages)
    counted = counted_tokens(mask, "logps", logps)
    length = counted.sum(1, keepdim=True)
    own = tokens.advantages[:, :1].masked_fill(length == 0, 0)
    tokens = tokens.only(counted)
    log_ratio = bounded(tokens.logps - tokens.old_logps).sum(1, keepdim=True) / length.clamp(min=1)
    return TokenInputs(log_ratio, torch.zeros_like(log_ratio), own), length > 0


def _clipped_sequences(sequences: TokenInputs, clip_low: float, clip_high: float) -> Tensor:
    """The clipped surrogate of each sequence, 0 for one without tokens."""
    return ppo_per_token(
        sequences.logps, sequences.old_logps, sequences.advantages, clip_low=clip_low, clip_high=clip_high
    ).squeeze(1)

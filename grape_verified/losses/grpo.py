"""Group relative policy optimisation: clipped surrogates with advantages relative to a group of responses.

Z. Shao et al., DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models, arXiv:2402.03300,
section 4. The advantages come from `group_advantages`. Variants: DAPO (Q. Yu et al., arXiv:2503.14476), Dr. GRPO
(Z. Liu et al., arXiv:2503.20783), GSPO (C. Zheng et al., arXiv:2507.18071), CISPO (A. Chen et al., MiniMax-M1,
arXiv:2506.13585).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import check_reduction
from grape_verified.arguments import (
    Aggregation,
    check_alike,
    check_denominator,
    check_one_per_sequence,
    counted_tokens,
)
from grape_verified.losses.kl_term import KLRatio, LossEstimator
from grape_verified.losses.output import LossOutput, SequenceLossOutput, mean_of_rows
from grape_verified.losses.ppo import check_clip, clipped_surrogate, ppo_loss, ppo_per_token
from grape_verified.losses.ratio import RatioTokens, counted_ratio_tokens, ratio_metrics, ratio_output, ratio_tokens
from grape_verified.numerics import bounded, difference, only, saturate_

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
    kl_estimator: LossEstimator = "k3",
    kl_ratio: KLRatio = "absent",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Float[Tensor, "batch time"]:
    """GRPO's loss of each token: `ppo_per_token` with a KL penalty, by default without the ratio.

        −min(ρA, clip(ρ, 1−ε, 1+ε′)·A) + β·k        ρ = exp(logp − old_logp)

    k estimates KL(policy‖reference); by default it is k3 = expm1(d) − d, d = ref_logp − logp, with slope 1 − exp(d) in
    logp: in expectation, the gradient of KL(reference‖policy), and that on policy only. Choose kl_ratio="attached" for
    the gradient of KL(policy‖reference), on policy and off.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        ref_logps, kl_coef, kl_estimator, kl_ratio, clip_low, clip_high: as in `ppo_per_token`.

    Returns: (batch, time).

    Error: with d = ref_logp − logp and k3, where neither exponential saturates or underflows, |error| ≤ 4·u·((|logp −
    old_logp| + 1)·|first term| + β·(|d| + 2)·(exp(d) + |d| + 1)); with the ratio on the penalty, the second term times
    ρ·(|logp − old_logp| + 1).

    Claims: ppo.clip.gradient, grpo.gradient, grpo.kl_ratio.gradient.

    Sources: Shao et al., arXiv:2402.03300, equations 3 and 4.

    Examples:
        >>> import torch
        >>> from grape_verified import grpo_per_token
        >>> logps, ref_logps = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -3.0]])
        >>> grpo_per_token(logps, logps, torch.tensor([1.0]), ref_logps=ref_logps, kl_coef=0.1)
        tensor([[-1.0000, -0.9632]])
    """
    return ppo_per_token(
        logps, old_logps, advantages, clip_low=clip_low, clip_high=clip_high,
        ref_logps=ref_logps, kl_coef=kl_coef, kl_estimator=kl_estimator, kl_ratio=kl_ratio,
    )  # fmt: skip


def grpo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    ref_logps: Float[Tensor, "batch time"] | None = None,
    kl_coef: float = 0.0,
    kl_estimator: LossEstimator = "k3",
    kl_ratio: KLRatio = "absent",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregation: Aggregation = "sequence_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """GRPO's loss: `grpo_per_token`, aggregated over the tokens that count.

    The KL penalty is inside the aggregate, under the same mask and denominator.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence, as from `group_advantages`; constants.
        mask: (batch, time).
        ref_logps, kl_coef, kl_estimator, kl_ratio, clip_low, clip_high: as in `ppo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), as `ppo_loss`.

    Error: the aggregate of the bounds of `grpo_per_token`, and that of `aggregate`.

    Claims: those of `grpo_per_token` and `aggregate`.

    Sources: those of `grpo_per_token`.

    Examples:
        >>> import torch
        >>> from grape_verified import group_advantages, grpo_loss
        >>> logps, ref_logps = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]]), torch.tensor([[-1.0, -3.0], [-3.0, -1.0]])
        >>> advantages = group_advantages(torch.tensor([1.0, 0.0]), group_size=2, scale="none")
        >>> mask = torch.ones(2, 2, dtype=torch.bool)
        >>> grpo_loss(logps, logps, advantages, mask, ref_logps=ref_logps, kl_coef=0.1).loss
        tensor(0.0092)
    """
    return ppo_loss(
        logps, old_logps, advantages, mask, clip_low=clip_low, clip_high=clip_high,
        ref_logps=ref_logps, kl_coef=kl_coef, kl_estimator=kl_estimator, kl_ratio=kl_ratio,
        aggregation=aggregation, denominator=denominator, max_length=max_length,
    )  # fmt: skip


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
    """DAPO's loss: `grpo_loss` with a higher upper clip, a mean over all tokens and no KL penalty.

    The loss only: DAPO's dynamic sampling and its penalty on overlong responses are not part of it.

    Arguments:
        logps, old_logps, advantages, mask, clip_low, clip_high: as in `grpo_loss`; the advantages are those of
            `group_advantages` with its defaults.
        denominator: a finite number > 0 or a 0-d tensor that holds one; None for the number of counted tokens.

    Returns: LossOutput(loss, per_token, metrics), as `grpo_loss`.

    Error: that of `grpo_loss`.

    Claims: grpo.dapo, and those of `grpo_loss`.

    Sources: Yu et al., arXiv:2503.14476, where the responses to each prompt have a mean of their own.

    Examples:
        >>> import torch
        >>> from grape_verified import dapo_loss
        >>> logps, mask = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> dapo_loss(logps, logps, torch.tensor([1.5, -1.5]), mask).loss  # −(1.5 + 1.5 − 1.5) / 3
        tensor(-0.5000)
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
    """Dr. GRPO's loss: `grpo_loss` that divides every sequence by one fixed length, with no KL penalty.

    Arguments:
        logps, old_logps, advantages, mask, clip_low, clip_high: as in `grpo_loss`; the advantages are those of
            `group_advantages` with scale="none".
        max_length: the length > 0 that every row is divided by.
        denominator: a finite number > 0 or a 0-d tensor that holds one; None for the number of rows.

    Returns: LossOutput(loss, per_token, metrics), as `grpo_loss`.

    Error: that of `grpo_loss`.

    Claims: grpo.dr_grpo, and those of `grpo_loss`.

    Sources: Liu et al., arXiv:2503.20783; the fixed length is that of their code, not of their objective.

    Examples:
        >>> import torch
        >>> from grape_verified import dr_grpo_loss
        >>> logps, mask = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> dr_grpo_loss(logps, logps, torch.tensor([1.5, -1.5]), mask, max_length=10).loss  # −1.5 / (2·10)
        tensor(-0.0750)
    """
    return grpo_loss(
        logps, old_logps, advantages, mask,
        clip_low=clip_low, clip_high=clip_high,
        aggregation="fixed_length", denominator=denominator, max_length=max_length,
    )  # fmt: skip


def cispo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    *,
    clip_low: float = 1.0,
    clip_high: float = 4.0,
) -> Float[Tensor, "batch time"]:
    """CISPO's loss of each token, −w·A·logp with the constant weight w = clip(ρ, 1−ε, 1+ε′), ρ = exp(logp − old_logp).

    The weight is not differentiated, so a clipped token keeps the slope −wA.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        clip_low: ε in [0, 1]; 1 for no lower clip.
        clip_high: ε′ ≥ 0.

    Returns: (batch, time).

    Error: |error| ≤ 4·u·(|logp − old_logp| + 1)·|value|, where nothing saturates or underflows (theorem
    cispo_per_token_error, for an exponential within 0.9 ulp).

    Claims: grpo.cispo.gradient.

    Sources: Chen et al., arXiv:2506.13585; it gives no value for the upper clip, and none for a lower.

    Examples:
        >>> import torch
        >>> from grape_verified import cispo_per_token
        >>> logps = torch.tensor([[-1.0, -2.0]])
        >>> cispo_per_token(logps, logps, torch.tensor([0.5]))
        tensor([[0.5000, 1.0000]])
    """
    clip = check_clip(clip_low, clip_high)
    tokens = ratio_tokens(logps, old_logps, advantages)
    weight = tokens.ratio.detach().clamp(1 - clip.low, 1 + clip.high)
    return -saturate_(weight * tokens.advantages * bounded(logps.to(weight.dtype)))


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
    """CISPO's loss: `cispo_per_token`, aggregated over the tokens that count.

    Only the gradient is meaningful, not the value: the weight is a constant.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        mask: (batch, time).
        clip_low, clip_high: as in `cispo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics, each a mean over the counted tokens of this call:
        clip_fraction: 1 where the weight is not the ratio (ρ > 1+ε′ or ρ < 1−ε), else 0.
        ratio_mean, approx_kl: as in `ppo_loss`.

    Error: the aggregate of the bounds of `cispo_per_token`, and that of `aggregate`.

    Claims: those of `cispo_per_token` and `aggregate`.

    Sources: those of `cispo_per_token`.

    Examples:
        >>> import torch
        >>> from grape_verified import cispo_loss
        >>> logps, mask = torch.tensor([[-1.0, -2.0]]), torch.tensor([[1, 1]])
        >>> cispo_loss(logps, logps, torch.tensor([0.5]), mask).loss
        tensor(0.7500)
    """
    clip = check_clip(clip_low, clip_high)
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    tokens = counted_ratio_tokens(logps, old_logps, advantages, mask)
    assert tokens.counted is not None
    ratio = tokens.ratio.detach()
    weight = ratio.clamp(1 - clip.low, 1 + clip.high)
    policy = saturate_(only(logps.to(weight.dtype), tokens.counted))
    per_token = -saturate_(weight * tokens.advantages * policy)
    return ratio_output(per_token, tokens, reduction, clip_fraction=weight != ratio)


def gspo_per_sequence(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> Float[Tensor, " batch"]:
    """GSPO's clipped loss of each sequence.

        −min(sA, clip(s, 1−ε, 1+ε′)·A)        s = exp(Σ_t m_t(logp_t − old_logp_t) / Σ_t m_t)

    The slope is that of `ppo_per_token` at s, shared equally by the tokens that count. A sequence without tokens has
    loss 0.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch,), one for each sequence; constants.
        mask: (batch, time).
        clip_low: ε in [0, 1].
        clip_high: ε′ ≥ 0.

    Returns: (batch,).

    Error: |error| ≤ 4·u·(mean of |logp − old_logp| + 1)·|value|, where s neither saturates nor underflows.

    Claims: grpo.gspo.gradient, ppo.clip.gradient.

    Sources: Zheng et al., arXiv:2507.18071.

    Examples:
        >>> import torch
        >>> from grape_verified import gspo_per_sequence
        >>> logps, mask = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> gspo_per_sequence(logps, logps - 0.5, torch.tensor([1.0, -1.0]), mask, clip_high=0.2)  # s = exp(0.5)
        tensor([-1.2000,  1.6487])
    """
    clip = check_clip(clip_low, clip_high)
    sequences, _ = _sequences(logps, old_logps, advantages, mask)
    return clipped_surrogate(sequences, clip)[0].squeeze(1)


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

    Arguments:
        logps, old_logps, advantages, mask, clip_low, clip_high: as in `gspo_per_sequence`.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one; a constant; None for the number of rows.

    Returns: SequenceLossOutput(loss, per_sequence, metrics). Metrics, each a mean over the sequences that have tokens:
        clip_fraction: 1 where clipping sets the slope to 0 (A > 0 and s > 1+ε′; A < 0 and s < 1−ε), else 0.
        ratio_mean: s.

    Error: that of `gspo_per_sequence`, summed and divided by D, and 8·u·Σ|per_sequence|/D for the sum.

    Claims: aggregation.gradient, and those of `gspo_per_sequence`.

    Sources: those of `gspo_per_sequence`.

    Examples:
        >>> import torch
        >>> from grape_verified import gspo_loss
        >>> logps, mask = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> gspo_loss(logps, logps, torch.tensor([1.0, -0.5]), mask).loss
        tensor(-0.2500)
    """
    clip, denominator = check_clip(clip_low, clip_high), check_denominator(denominator)
    sequences, nonempty = _sequences(logps, old_logps, advantages, mask)
    surrogates, clipped = clipped_surrogate(sequences, clip)
    per_sequence, metrics = surrogates.squeeze(1), ratio_metrics(sequences, nonempty, clip_fraction=clipped)
    del metrics["approx_kl"]
    return SequenceLossOutput(mean_of_rows(per_sequence, denominator), per_sequence, metrics)


def _sequences(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> tuple[RatioTokens, Tensor]:
    """Each sequence as one token, with the mean log-ratio of its tokens; and which sequences have tokens.

    All (batch, 1). A sequence without tokens has ratio 1 and advantage 0.
    """
    check_alike("(batch, time)", logps=logps, old_logps=old_logps)
    check_one_per_sequence("advantages", advantages, logps)
    counted = counted_tokens(mask, "logps", logps)
    length = counted.sum(1, keepdim=True)
    mean = difference(logps, old_logps, counted).sum(1, keepdim=True) / length.clamp(min=1)
    log_ratio = difference(mean, torch.zeros_like(mean), exponent=1)
    own = advantages.detach().to(mean.dtype).unsqueeze(1).masked_fill(length == 0, 0)
    return RatioTokens(log_ratio, log_ratio.exp(), own, counted), length > 0

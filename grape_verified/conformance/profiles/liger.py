"""Liger: the losses of its chunked heads, called on log-probabilities, and a whole head, on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from grape_verified.conformance.profiles.profile import Entry, Profile


def _group_loss(
    loss_type: str, logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, **settings: Any
) -> Tensor:
    """The loss of the fused GRPO on log-probabilities."""
    from liger_kernel.chunked_loss.grpo_loss import LigerFusedLinearGRPOFunction

    counted = mask.long()
    loss, _ = LigerFusedLinearGRPOFunction.ppo_loss_fn(
        per_token_logps=logps,
        attention_mask=counted,
        advantages=advantages,
        full_attention_mask=counted,
        old_per_token_logps=old_logps,
        loss_type=loss_type,
        **({"beta": 0.0} | settings),
    )
    return loss


def grpo(logps, old_logps, advantages, mask, *, ref_logps=None, kl_coef=0.0, clip_low=0.2, clip_high=0.2):
    given = {"ref_per_token_logps": ref_logps, "beta": kl_coef, "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("grpo", logps, old_logps, advantages, mask, **given)


def grpo_kl_times_ratio(logps, old_logps, advantages, mask, *, ref_logps=None, kl_coef=0.0):
    given = {"ref_per_token_logps": ref_logps, "beta": kl_coef, "use_bias_correction_kl": True}
    return _group_loss("grpo", logps, old_logps, advantages, mask, **given)


def bnpo(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2):
    return _group_loss("bnpo", logps, old_logps, advantages, mask, epsilon_low=clip_low, epsilon_high=clip_high)


def dr_grpo(logps, old_logps, advantages, mask, *, max_length, clip_low=0.2, clip_high=0.2):
    given = {"max_completion_length": max_length, "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("dr_grpo", logps, old_logps, advantages, mask, **given)


def dapo(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.28, denominator=None):
    given = {"num_items_in_batch": denominator, "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("dapo", logps, old_logps, advantages, mask, **given)


def cispo(logps, old_logps, advantages, mask, *, clip_high=4.0, denominator=None):
    given = {"num_items_in_batch": denominator, "epsilon_high": clip_high}
    return _group_loss("cispo", logps, old_logps, advantages, mask, **given)


def gspo(logps, old_logps, advantages, mask, *, clip_low=0.0003, clip_high=0.0004):
    given = {"importance_sampling_level": "sequence", "epsilon_low": clip_low, "epsilon_high": clip_high}
    return _group_loss("grpo", logps, old_logps, advantages, mask, **given)


def sapo(logps, old_logps, advantages, mask, *, temperature_pos=1.0, temperature_neg=1.05):
    given = {"sapo_temperature_pos": temperature_pos, "sapo_temperature_neg": temperature_neg}
    return _group_loss("sapo", logps, old_logps, advantages, mask, **given)


def _pair_loss(
    loss_type: str, chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, **settings: Any
) -> Tensor:
    """The loss of the fused DPO on log-probabilities of responses."""
    from liger_kernel.chunked_loss.dpo_loss import LigerFusedLinearDPOFunction

    targets = torch.zeros(2 * len(chosen), 1)
    reference = {"ref_chosen_logps": ref_chosen, "ref_rejected_logps": ref_rejected}
    found = LigerFusedLinearDPOFunction.preference_loss_fn(
        chosen, rejected, targets, loss_type=loss_type, **reference, **settings
    )
    loss: Tensor = found[0]
    return loss


def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1):
    return _pair_loss("sigmoid", chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta)


def robust_dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1, flip_probability=0.1):
    pair, settings = (chosen_logps, rejected_logps), {"beta": beta, "label_smoothing": flip_probability}
    return _pair_loss("robust", *pair, ref_chosen_logps, ref_rejected_logps, **settings)


def selective_logprob(hidden, weight, targets, bias=None, mask=None, *, temperature=1.0):
    """The log-probabilities of the fused GRPO, 0 where masked."""
    from liger_kernel.chunked_loss.fused_linear_ppo import LigerFusedLinearPPOBase

    found = LigerFusedLinearPPOBase.chunk_forward(hidden, weight, targets, bias, temperature)
    return found if mask is None else torch.where(mask.bool(), found, 0)


GROUP_LOSS = "liger_kernel.chunked_loss.grpo_loss:LigerFusedLinearGRPOFunction.ppo_loss_fn"
PAIR_LOSS = "liger_kernel.chunked_loss.dpo_loss:LigerFusedLinearDPOFunction.preference_loss_fn"
HEAD = "liger_kernel.chunked_loss.fused_linear_ppo:LigerFusedLinearPPOBase.chunk_forward"

PROFILE = Profile(
    "liger",
    "liger-kernel",
    "0.8",
    (
        Entry("grpo", GROUP_LOSS, "grpo", grpo, "loss_type='grpo'"),
        Entry(
            "grpo, KL times ratio",
            GROUP_LOSS,
            "grpo",
            grpo_kl_times_ratio,
            "loss_type='grpo', beta=0.04, use_bias_correction_kl=True",
            {"kl_coef": 0.04, "kl_ratio": "attached"},
        ),
        Entry("bnpo", GROUP_LOSS, "grpo", bnpo, "loss_type='bnpo'", {"aggregation": "token_mean"}),
        Entry("dr_grpo", GROUP_LOSS, "dr_grpo", dr_grpo, "loss_type='dr_grpo'"),
        Entry("dapo", GROUP_LOSS, "dapo", dapo, "loss_type='dapo'"),
        Entry("cispo", GROUP_LOSS, "cispo", cispo, "loss_type='cispo'", {}, ("cispo_cap=epsilon",)),
        Entry("gspo", GROUP_LOSS, "gspo", gspo, "importance_sampling_level='sequence'"),
        Entry("sapo", GROUP_LOSS, "sapo", sapo, "loss_type='sapo'"),
        Entry("dpo", PAIR_LOSS, "dpo", dpo, "loss_type='sigmoid'"),
        Entry("robust", PAIR_LOSS, "robust_dpo", robust_dpo, "loss_type='robust'"),
        Entry("selective_logprob", HEAD, "linear_token_logps", selective_logprob),
    ),
)

"""openrlhf: its losses are modules with options, built for each call.

The package imports deepspeed and flash_attn, which no loss uses and which can be installed only with a CUDA compiler.
"""

from __future__ import annotations

from torch import Tensor

from grape_verified.conformance.profiles.profile import Entry, Profile


def _for_tokens(advantages: Tensor, logps: Tensor) -> Tensor:
    return advantages if advantages.ndim > 1 else advantages[:, None].expand_as(logps)


def policy(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2, dual_clip=None):
    from openrlhf.models.loss import PolicyLoss

    return PolicyLoss(clip_low, clip_high, dual_clip)(logps, old_logps, _for_tokens(advantages, logps), mask)


def policy_by_sample(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2, dual_clip=None):
    from openrlhf.models.loss import PolicyLoss

    loss = PolicyLoss(clip_low, clip_high, dual_clip, token_level_loss=False)
    return loss(logps, old_logps, _for_tokens(advantages, logps), mask)


def gspo(logps, old_logps, advantages, mask, *, clip_low=0.0003, clip_high=0.0004):
    from openrlhf.models.loss import PolicyLoss

    loss = PolicyLoss(clip_low, clip_high, policy_loss_type="gspo")
    return loss(logps, old_logps, _for_tokens(advantages, logps), mask)


def value(values, returns, mask, *, old_values, clip):
    from openrlhf.models.loss import ValueLoss

    return ValueLoss(clip)(values, old_values, returns, mask)


def sft(logps, mask, *, denominator=None):
    from openrlhf.models.loss import SFTLoss

    return SFTLoss()(logps, mask, batch_num_tokens=denominator)


def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1, label_smoothing=0.0):
    from openrlhf.models.loss import DPOLoss

    return DPOLoss(beta, label_smoothing)(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)


def ipo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1):
    from openrlhf.models.loss import DPOLoss

    return DPOLoss(beta, ipo=True)(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)


def reward(chosen_rewards, rejected_rewards):
    from openrlhf.models.loss import PairWiseLoss

    return PairWiseLoss()(chosen_rewards, rejected_rewards)


def log_exp(chosen_rewards, rejected_rewards):
    from openrlhf.models.loss import LogExpLoss

    return LogExpLoss()(chosen_rewards, rejected_rewards)


def kl_estimate(logps, ref_logps, *, estimator="k3"):
    from openrlhf.models.utils import compute_approx_kl

    return compute_approx_kl(logps, ref_logps, kl_estimator=estimator)


def kl_shaped_rewards(rewards, logps, ref_logps, mask, *, kl_coef=0.1, estimator="k1"):
    from openrlhf.models.utils import compute_approx_kl, compute_reward

    return compute_reward(rewards, kl_coef, compute_approx_kl(logps, ref_logps, kl_estimator=estimator), mask)


def log_probs_from_logits(logits, targets, *, temperature=1.0):
    """The logits are not a leaf, like those of a model, because the function divides them in place."""
    from openrlhf.models.utils import log_probs_from_logits

    return log_probs_from_logits(logits.clone(), targets, temperature)


LOSS, TOOLS = "openrlhf.models.loss", "openrlhf.models.utils"

PROFILE = Profile(
    "openrlhf",
    "openrlhf",
    "0.11",
    (
        Entry("PolicyLoss", f"{LOSS}:PolicyLoss", "ppo", policy, "", {}, ("log_ratio_clamp=20",)),
        Entry("PolicyLoss, by sample", f"{LOSS}:PolicyLoss", "ppo", policy_by_sample, "token_level_loss=False",
              {"aggregation": "sequence_mean"}, ("log_ratio_clamp=20", "empty_rows=left_out")),
        Entry("PolicyLoss, GSPO", f"{LOSS}:PolicyLoss", "gspo", gspo, "policy_loss_type='gspo'", {},
              ("empty_rows=left_out",)),
        Entry("ValueLoss", f"{LOSS}:ValueLoss", "value", value, "", {"clip": 0.2}),
        Entry("SFTLoss", f"{LOSS}:SFTLoss", "sft", sft),
        Entry("DPOLoss", f"{LOSS}:DPOLoss", "dpo", dpo),
        Entry("DPOLoss, IPO", f"{LOSS}:DPOLoss", "ipo", ipo, "ipo=True"),
        Entry("PairWiseLoss", f"{LOSS}:PairWiseLoss", "bradley_terry", reward),
        Entry("LogExpLoss", f"{LOSS}:LogExpLoss", "bradley_terry", log_exp),
        Entry("compute_approx_kl", f"{TOOLS}:compute_approx_kl", "kl_estimate", kl_estimate, "", {}, ("kl_clamp=10",)),
        Entry("compute_reward", f"{TOOLS}:compute_reward", "kl_shaped_rewards", kl_shaped_rewards, "", {},
              ("kl_clamp=10", "masked_kl=kept")),
        Entry("log_probs_from_logits", f"{TOOLS}:log_probs_from_logits", "token_logps", log_probs_from_logits,
              "on a copy of the logits"),
    ),
    ("deepspeed", "flash_attn", "flash_attn.bert_padding", "flash_attn.utils", "flash_attn.utils.distributed"),
)  # fmt: skip

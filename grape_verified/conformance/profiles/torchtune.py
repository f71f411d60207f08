"""torchtune: its losses are modules with options, built for each call.

Before calling a loss, its recipes set log-probabilities to 1 and values to 0 where masked; these calls do the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grape_verified.conformance.profiles.profile import Entry, Profile


def _filled(mask: Tensor, tensor: Tensor, number: float) -> Tensor:
    return torch.where(mask.bool(), tensor, number)


def ppo(logps, old_logps, advantages, mask, *, clip_eps=0.2):
    """The policy part of PPOLoss; the value part has weight 0."""
    from torchtune.rlhf.loss import PPOLoss

    none, policies = torch.zeros_like(logps.detach()), [_filled(mask, x, 1.0) for x in (old_logps, logps)]
    advantages = _filled(mask, advantages, 0.0)
    return PPOLoss(epsilon=clip_eps, value_coeff=0.0)(*policies, advantages, none, none, none, mask, mask)


def value(values, returns, mask, *, old_values, clip):
    """The value part of PPOLoss; with equal policies and advantages of 0, the policy part is 0."""
    from torchtune.rlhf.loss import PPOLoss

    none, critic = torch.zeros_like(returns), [_filled(mask, x, 0.0) for x in (old_values, values, returns)]
    return PPOLoss(value_clip_range=clip, value_coeff=1.0)(none, none, none, *critic, mask, mask)


def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1, label_smoothing=0.0):
    from torchtune.rlhf.loss import DPOLoss

    loss = DPOLoss(beta, label_smoothing)
    return loss(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)[0]


def kl_shaped_rewards(rewards, logps, ref_logps, mask, *, kl_coef=0.1):
    from torchtune.rlhf import get_rewards_ppo

    last = (mask.bool() * torch.arange(mask.shape[1])).amax(1)
    policies = [_filled(mask, x, 1.0) for x in (logps, ref_logps)]
    return get_rewards_ppo(rewards, *policies, kl_coef, last)[0]


def gae(rewards, values, mask, *, discount=1.0, lam=0.95):
    """The advantages before whitening, which are the returns minus the values, and the returns; 0 where masked.

    Its recipe pads at the end, so the tokens that count are moved to the front, and the results are moved back.
    """
    from torchtune.rlhf import estimate_advantages

    order = mask.bool().logical_not().int().argsort(dim=1, stable=True)
    rewards, values = (_filled(mask, tensor, 0.0).gather(1, order) for tensor in (rewards, values))
    returns = estimate_advantages(values, rewards, discount, lam, mask.gather(1, order))[1]
    found = (returns - values, returns)
    return tuple(_filled(mask, torch.zeros_like(x).scatter(1, order, x), 0.0) for x in found)


PROFILE = Profile(
    "torchtune",
    "torchtune",
    "0.6",
    (
        Entry("PPOLoss", "torchtune.rlhf.loss:PPOLoss", "ppo", ppo, "value_coeff=0"),
        Entry("PPOLoss, values", "torchtune.rlhf.loss:PPOLoss", "value", value, "advantages 0, value_coeff=1",
              {"clip": 0.2}),
        Entry("DPOLoss", "torchtune.rlhf.loss:DPOLoss", "dpo_per_pair", dpo),
        Entry("get_rewards_ppo", "torchtune.rlhf:get_rewards_ppo", "kl_shaped_rewards", kl_shaped_rewards),
        Entry("estimate_advantages", "torchtune.rlhf:estimate_advantages", "gae", gae, "before whitening"),
        Entry("whiten", "torchtune.rlhf:whiten", "whiten", None, "", {"ddof": 1, "eps": 1e-8}),
        Entry("masked_mean", "torchtune.rlhf:masked_mean", "aggregate"),
        Entry("logits_to_logprobs", "torchtune.rlhf:logits_to_logprobs", "token_logps"),
    ),
)  # fmt: skip

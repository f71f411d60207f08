"""Losses as papers and trainers write them, in a few lines: the right formula, without a guard.

A report must not call them another loss. What they do not survive is for its other verdict.
"""

import torch
from torch.nn.functional import logsigmoid


def over_tokens(advantages):
    return advantages if advantages.ndim == 2 else advantages[:, None]


def clipped(logps, old_logps, advantages, low=0.2, high=0.2):
    ratio, gains = torch.exp(logps - old_logps), over_tokens(advantages)
    return -torch.min(ratio * gains, ratio.clamp(1 - low, 1 + high) * gains)


def ppo(logps, old_logps, advantages, mask, clip_low=0.2, clip_high=0.2):
    return (clipped(logps, old_logps, advantages, clip_low, clip_high) * mask).sum() / mask.sum()


def grpo(logps, old_logps, advantages, mask, ref_logps=None, kl_coef=0.0, clip_low=0.2, clip_high=0.2):
    losses = clipped(logps, old_logps, advantages, clip_low, clip_high)
    if ref_logps is not None:
        losses = losses + kl_coef * (torch.exp(ref_logps - logps) - (ref_logps - logps) - 1)
    return ((losses * mask).sum(1) / mask.sum(1)).mean()


def gspo(logps, old_logps, advantages, mask, clip_low=3e-4, clip_high=4e-4):
    ratio = torch.exp(((logps - old_logps) * mask).sum(1) / mask.sum(1))
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages).mean()


def cispo(logps, old_logps, advantages, mask, clip_high=4.0):
    weight = torch.exp(logps - old_logps).clamp(max=1 + clip_high).detach()
    return -(weight * over_tokens(advantages) * logps * mask).sum() / mask.sum()


def sapo(logps, old_logps, advantages, mask, temperature_pos=1.0, temperature_neg=1.05):
    gains = over_tokens(advantages)
    tau = torch.where(gains > 0, temperature_pos, temperature_neg)
    gate = torch.sigmoid(tau * (torch.exp(logps - old_logps) - 1)) * 4 / tau
    return -((gate * gains * mask).sum(1) / mask.sum(1)).mean()


def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    margin = beta * ((chosen_logps - rejected_logps) - (ref_chosen_logps - ref_rejected_logps))
    return torch.log(1 + torch.exp(-margin)).mean()


def bradley_terry(chosen_rewards, rejected_rewards):
    return -torch.log(torch.sigmoid(chosen_rewards - rejected_rewards)).mean()


def robust_dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1, *, flip_probability):
    margin = beta * ((chosen_logps - rejected_logps) - (ref_chosen_logps - ref_rejected_logps))
    kept, other = -logsigmoid(margin), -logsigmoid(-margin)
    return (((1 - flip_probability) * kept - flip_probability * other) / (1 - 2 * flip_probability)).mean()


def value(values, returns, mask, old_values=None, clip=None):
    losses = (values - returns) ** 2
    if clip is not None:
        losses = torch.max(losses, (old_values + (values - old_values).clamp(-clip, clip) - returns) ** 2)
    return 0.5 * (losses * mask).sum() / mask.sum()


def whiten(values, mask, shift_mean=True, eps=1e-8):
    mean = (values * mask).sum() / mask.sum()
    variance = ((values - mean) ** 2 * mask).sum() / (mask.sum() - 1)
    whitened = (values - mean) * torch.rsqrt(variance + eps)
    return (whitened if shift_mean else whitened + mean) * mask


def group_advantages(rewards, group_size, eps=1e-6):
    groups = rewards.view(-1, group_size)
    return ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + eps)).flatten()


def token_logps(logits, targets, temperature=1.0):
    scaled = logits / temperature
    return scaled.gather(-1, targets[..., None]).squeeze(-1) - scaled.exp().sum(-1).log()


def token_entropies(logits):
    probabilities = logits.softmax(-1)
    return -(probabilities * probabilities.log()).sum(-1)


#: Each is named like the contract that it is written for.
TEXTBOOK = (ppo, grpo, gspo, cispo, sapo, dpo, bradley_terry, robust_dpo, value, whiten, group_advantages, token_logps,
            token_entropies)  # fmt: skip

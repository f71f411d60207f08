"""Losses as trainers write them, each with what it is: plain PyTorch, in several styles, with constants inside."""

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Stranger:
    """A function and what it is.

    Arguments:
        function: the loss.
        contract, options, habits: what it is.
    """

    function: object
    contract: str
    options: dict = field(default_factory=dict)
    habits: tuple = ()


ALL: list[Stranger] = []


def stranger(contract, *habits, **options):
    """Enter a function."""

    def enter(function):
        ALL.append(Stranger(function, contract, options, habits))
        return function

    return enter


def masked_mean(x, mask):
    """As many trainers write it."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


# -- PPO and its kin --------------------------------------------------------------------------------------------------


@stranger("ppo")
def token_ppo(log_prob, old_log_prob, advantages, response_mask, cliprange=0.2):
    if advantages.ndim == 1:
        advantages = advantages.unsqueeze(-1)
    negative_approx_kl = log_prob - old_log_prob
    ratio = torch.exp(negative_approx_kl)
    pg_losses = -advantages * ratio
    pg_losses2 = -advantages * torch.clamp(ratio, 1.0 - cliprange, 1.0 + cliprange)
    return masked_mean(torch.maximum(pg_losses, pg_losses2), response_mask), None


@stranger("ppo", clip_low=0.1, clip_high=0.3)
def guarded_ppo(logps, old_logps, advantages, mask):
    keep = mask.bool()
    advantages = (advantages[:, None] if advantages.ndim == 1 else advantages).expand_as(logps)
    zero = logps.new_zeros(())
    ratio = torch.where(keep, logps - old_logps, zero)
    gain = torch.where(keep, advantages, zero)
    up = ratio.clamp(max=torch.tensor(1.3).double().log().item())
    down = ratio.clamp(min=torch.tensor(0.9).double().log().item())
    return -(torch.where(gain >= 0, up, down).exp() * gain).sum() / keep.sum().clamp(min=1)


@stranger("ppo", clip_low=0.1, clip_high=0.3)
def ppo_of_logs(logps, old_logps, advantages, mask):
    advantages = advantages[:, None] if advantages.ndim == 1 else advantages
    delta = logps - old_logps
    ratio = delta.exp()
    worse = torch.minimum(ratio * advantages, ratio.clamp(0.9, 1.3) * advantages)
    return -(worse * mask).sum() / mask.sum()


FEW = ALL[:1]


def without_minimum(logps, old_logps, advantages, mask):
    ratio = (logps - old_logps).exp()
    return -masked_mean(ratio.clamp(0.8, 1.2) * advantages, mask)

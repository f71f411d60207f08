"""torchrl: GRPOLoss and similar losses read a policy's distribution; a stand-in gives them log-probabilities."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from grape_verified.conformance.profiles.profile import Entry, Profile


class _Policy:
    """A policy whose log-probabilities are given."""

    in_keys = ()

    def __init__(self, logps: Tensor, mask: Tensor) -> None:
        self.logps, self.mask = logps, mask

    def _get_sft_dist(self, batch: Any) -> SimpleNamespace:
        return SimpleNamespace(mask=self.mask, log_prob=lambda action: self.logps)

    get_dist = _get_sft_dist


def _group_loss(name: str, logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, **settings: Any) -> Any:
    """The output of a loss on tokens; only their log-probabilities matter."""
    from tensordict import TensorDict
    from torchrl.objectives import llm

    counted = mask.bool()
    advantages = advantages if advantages.ndim > 1 else advantages[:, None].expand_as(logps)
    batch = TensorDict(
        {"tokens": {"full": counted.long()}, "log_probs": {"full": old_logps}, "advantage": advantages[..., None]},
        batch_size=[len(logps)],
    )
    loss = getattr(llm, name)(None, entropy_bonus=False, **settings)
    loss.__dict__["actor_network"] = _Policy(logps, counted)
    return loss(batch).loss_objective


def grpo(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2):
    return _group_loss("GRPOLoss", logps, old_logps, advantages, mask, clip_epsilon=(clip_low, clip_high))


def grpo_by_prompt(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2):
    given = {"clip_epsilon": (clip_low, clip_high), "aggregation": "prompt_mean"}
    return _group_loss("GRPOLoss", logps, old_logps, advantages, mask, **given).squeeze(-1)


def cispo(logps, old_logps, advantages, mask, *, clip_low=1.0, clip_high=4.0):
    return _group_loss("CISPOLoss", logps, old_logps, advantages, mask, clip_epsilon=(clip_low, clip_high))


def kl_estimate(logps, ref_logps):
    from torchrl.objectives.llm import k3_kl_token_estimate

    return k3_kl_token_estimate(ref_logps, logps)


def gae(rewards, values, mask, *, discount=1.0, lam=0.95):
    """Advantages and returns; the counted tokens of a row form one trajectory; 0 where masked."""
    from torchrl.objectives.value.functional import generalized_advantage_estimate

    found = torch.zeros(2, *values.shape, dtype=values.dtype)
    for row, counted in enumerate(mask.bool()):
        received, valued = (x[row, counted][:, None] for x in (rewards, values))
        following = torch.cat([valued[1:], torch.zeros_like(valued[:1])])
        done = torch.zeros_like(valued, dtype=torch.bool)
        estimates = generalized_advantage_estimate(discount, lam, valued, following, received, done)
        found[:, row, counted] = torch.stack(estimates)[..., 0]
    return tuple(found)


LLM = "torchrl.objectives.llm"

PROFILE = Profile(
    "torchrl",
    "torchrl",
    "0.14",
    (
        Entry("GRPOLoss", f"{LLM}:GRPOLoss", "grpo", grpo, "aggregation='token_mean'",
              {"aggregation": "token_mean", "clip_low": 0.2}),
        Entry("GRPOLoss, by prompt", f"{LLM}:GRPOLoss", "grpo", grpo_by_prompt, "aggregation='prompt_mean'",
              {"clip_low": 0.2}),
        Entry("CISPOLoss", f"{LLM}:CISPOLoss", "cispo", cispo, "", {"clip_low": 0.2}),
        Entry("k3_kl_token_estimate", f"{LLM}:k3_kl_token_estimate", "kl_estimate", kl_estimate, "",
              {"estimator": "k3"}),
        Entry("gae", "torchrl.objectives.value.functional:generalized_advantage_estimate", "gae", gae),
    ),
)  # fmt: skip

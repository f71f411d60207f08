"""verl: policy losses take an ActorConfig, and every loss takes its aggregation mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from grape_verified.conformance.profiles.profile import Entry, Profile

#: verl's names of the aggregations, and its arguments for the numbers of tokens or sequences in the global batch.
MODES = {
    "token_mean": ("token-mean", "batch_num_tokens"),
    "sequence_mean": ("seq-mean-token-mean", "global_batch_size"),
    "sequence_sum": ("seq-mean-token-sum", "global_batch_size"),
    "token_sum": ("token-sum", "batch_num_tokens"),
    "fixed_length": ("seq-mean-token-sum-norm", "global_batch_size"),
}


def _aggregated(aggregation: str, denominator: float | None, max_length: int | None) -> tuple[str, dict[str, Any]]:
    """The mode, and the arguments of agg_loss."""
    mode, counted = MODES[aggregation]
    scale = {"loss_scale_factor": max_length} if aggregation == "fixed_length" else {}
    return mode, scale | ({} if denominator is None else {counted: denominator})


def _policy_loss(
    name: str,
    old_logps: Tensor,
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    aggregation: str,
    denominator: float | None,
    max_length: int | None,
    **settings: Any,
) -> Tensor:
    """A policy loss, by its registered name."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.workers.config import ActorConfig

    mode, batch = _aggregated(aggregation, denominator, max_length)
    config = ActorConfig(
        strategy="fsdp", rollout_n=1, use_dynamic_bsz=True, global_batch_info=batch, loss_agg_mode=mode, **settings
    )
    advantages = advantages if advantages.ndim > 1 else advantages[:, None].expand_as(logps)
    loss, _ = get_policy_loss_fn(name)(old_logps, logps, advantages, mask.long(), mode, config)
    found: Tensor = loss
    return found


def vanilla(
    logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2, dual_clip=3.0, aggregation="token_mean",
    denominator=None, max_length=None,
):  # fmt: skip
    clips = {"clip_ratio_low": clip_low, "clip_ratio_high": clip_high, "clip_ratio_c": dual_clip}
    return _policy_loss("vanilla", old_logps, logps, advantages, mask, aggregation, denominator, max_length, **clips)


def gspo(logps, old_logps, advantages, mask, *, clip_low=0.0003, clip_high=0.0004, denominator=None):
    clips = {"clip_ratio_low": clip_low, "clip_ratio_high": clip_high}
    return _policy_loss("gspo", old_logps, logps, advantages, mask, "sequence_mean", denominator, None, **clips)


def sapo(logps, old_logps, advantages, mask, *, temperature_pos=1.0, temperature_neg=1.05, denominator=None):
    taus = {"tau_pos": temperature_pos, "tau_neg": temperature_neg}
    return _policy_loss("sapo", old_logps, logps, advantages, mask, "sequence_mean", denominator, None, **taus)


def cispo(
    logps, old_logps, advantages, mask, *, clip_low=1.0, clip_high=4.0, aggregation="token_mean", denominator=None,
    max_length=None,
):  # fmt: skip
    clips = {"clip_ratio_low": clip_low, "clip_ratio_high": clip_high}
    return _policy_loss("cispo", old_logps, logps, advantages, mask, aggregation, denominator, max_length, **clips)


def gpg(logps, advantages, mask, *, aggregation="token_mean", denominator=None, max_length=None):
    return _policy_loss("gpg", logps.detach(), logps, advantages, mask, aggregation, denominator, max_length)


def value(values, returns, mask, *, old_values, clip, aggregation="token_mean", denominator=None, max_length=None):
    from verl.trainer.ppo.core_algos import compute_value_loss

    mode, batch = _aggregated(aggregation, denominator, max_length)
    return compute_value_loss(values, returns, old_values, mask.long(), clip, mode, **batch)[0]


def aggregate(per_token, mask, *, mode="token_mean", denominator=None, max_length=None):
    from verl.trainer.ppo.core_algos import agg_loss

    named, batch = _aggregated(mode, denominator, max_length)
    return agg_loss(per_token, mask.long(), named, **batch)


def kl_penalty(logps, ref_logps, *, estimator="k3"):
    from verl.trainer.ppo.core_algos import kl_penalty

    return kl_penalty(logps, ref_logps, estimator)


def kl_penalty_straight_through(logps, ref_logps):
    from verl.trainer.ppo.core_algos import kl_penalty

    return kl_penalty(logps, ref_logps, "k3+")


def gae(rewards, values, mask, *, discount=1.0, lam=0.95):
    """The advantages before whitening, which are the returns minus the values, and the returns; 0 where masked.

    Whitening a single token raises an error, so two rows of ones are added and their results left out.
    """
    from verl.trainer.ppo.core_algos import compute_gae_advantage_return

    more = [torch.cat([tensor, torch.ones(2, *tensor.shape[1:])]) for tensor in (rewards, values, mask.long())]
    _, returns = compute_gae_advantage_return(more[0], more[1], more[2].long(), discount, lam)
    returns = returns[:-2]
    return torch.where(mask.bool(), returns - values, 0), torch.where(mask.bool(), returns, 0)


def whiten(values, mask, *, shift_mean=True):
    from verl.utils.torch_functional import masked_whiten

    return torch.where(mask.bool(), masked_whiten(values, mask.long(), shift_mean), 0)


def _outcome(rewards: Tensor, group_size: int, name: str, **settings: Any) -> Tensor:
    """The advantages of responses of one token; an index gives the group of each."""
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    groups = [place // group_size for place in range(len(rewards))]
    mask = torch.ones(len(rewards), 1, dtype=torch.long)
    found: Tensor = get_adv_estimator_fn(name)(rewards.clone()[:, None], mask, groups, **settings)[0]
    return found[:, 0]


def grpo_advantages(rewards, *, group_size=4, scale="std", eps=1e-6):
    return _outcome(rewards, group_size, "grpo", epsilon=eps, norm_adv_by_std_in_grpo=scale == "std")


def rloo_advantages(rewards, *, group_size=4):
    return _outcome(rewards, group_size, "rloo")


CORE, TOOLS = "verl.trainer.ppo.core_algos", "verl.utils.torch_functional"

PROFILE = Profile(
    "verl",
    "verl",
    "0.9",
    (
        Entry("vanilla", f"{CORE}:compute_policy_loss_vanilla", "ppo", vanilla, "", {},
              ("dual_clip=3", "log_ratio_clamp=20", "empty_rows=left_out")),
        Entry("gspo", f"{CORE}:compute_policy_loss_gspo", "gspo", gspo, "loss_agg_mode='seq-mean-token-mean'", {},
              ("sequence_log_ratio_cap=10", "empty_rows=left_out")),
        Entry("sapo", f"{CORE}:compute_policy_loss_sapo", "sapo", sapo, "", {},
              ("log_ratio_clamp=20", "empty_rows=left_out")),
        Entry("cispo", f"{CORE}:compute_policy_loss_cispo", "cispo", cispo, "", {},
              ("log_ratio_clamp=20", "empty_rows=left_out")),
        Entry("gpg", f"{CORE}:compute_policy_loss_gpg", "reinforce", gpg, "", {}, ("empty_rows=left_out",)),
        Entry("value", f"{CORE}:compute_value_loss", "value", value, "", {"clip": 0.2},
              ("empty_rows=left_out",)),
        Entry("agg_loss", f"{CORE}:agg_loss", "aggregate", aggregate, "", {}, ("empty_rows=left_out",)),
        Entry("kl_penalty", f"{CORE}:kl_penalty", "kl_estimate", kl_penalty, "", {},
              ("k3_clamp=10", "kl_log_ratio_clamp=20")),
        Entry("kl_penalty, k3+", f"{CORE}:kl_penalty", "kl_estimate", kl_penalty_straight_through,
              "kl_penalty='k3+'", {"estimator": "k3"},
              ("kl_straight_through", "k3_clamp=10", "kl_log_ratio_clamp=20")),
        Entry("gae", f"{CORE}:compute_gae_advantage_return", "gae", gae, "before whitening"),
        Entry("masked_whiten", f"{TOOLS}:masked_whiten", "whiten", whiten, "", {"ddof": 1, "eps": 1e-8}),
        Entry("grpo advantages", f"{CORE}:compute_grpo_outcome_advantage", "group_advantages", grpo_advantages, "",
              {"baseline": "mean", "ddof": 1}, ("group_of_one=raw",)),
        Entry("rloo advantages", f"{CORE}:compute_rloo_outcome_advantage", "group_advantages", rloo_advantages, "",
              {"baseline": "leave_one_out", "scale": "none"}, ("group_of_one=raw",)),
        Entry("entropy_from_logits", f"{TOOLS}:entropy_from_logits", "token_entropies"),
        Entry("logprobs, naive", f"{TOOLS}:logprobs_from_logits_naive", "token_logps"),
        Entry("logprobs, v2", f"{TOOLS}:logprobs_from_logits_v2", "token_logps"),
    ),
)  # fmt: skip

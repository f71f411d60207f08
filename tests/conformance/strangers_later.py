"""More strangers, written after `identify` was frozen, and not used to improve it: other styles, other constants."""

import math

import torch
from torch.nn.functional import logsigmoid, softplus

from .strangers import Stranger, entering

ALL: list[Stranger] = []

stranger = entering(ALL)


@stranger("ppo", clip_low=0.17, clip_high=0.23)
def einsum_ppo(logps, old_logps, advantages, mask):
    m = mask.to(logps)
    r = torch.exp(logps - old_logps)
    worse = torch.stack([r * advantages, r.clamp(0.83, 1.23) * advantages]).amin(0)
    return -torch.einsum("bt,bt->", worse, m) / m.sum()


@stranger("ppo", dual_clip=4.0)
def squeezed(log_probs, old_log_probs, adv, action_mask, eps_clip=0.2):
    adv = adv.reshape(len(adv), -1)
    ratio = torch.exp(log_probs - old_log_probs)
    objective = torch.minimum(ratio * adv, ratio.clamp(1 - eps_clip, 1 + eps_clip) * adv)
    objective = torch.where(adv < 0, torch.maximum(objective, 4.0 * adv), objective)
    keep = action_mask.to(objective.dtype)
    return -(objective * keep).sum() / keep.sum().clamp_min(1)


@stranger("ppo", "log_ratio_clamp=10", aggregation="sequence_sum")
def sums_of_rows(new, old, adv, keep):
    log_ratio = torch.clip(new - old, -10, 10)
    ratio = log_ratio.exp()
    per_token = -torch.min(adv * ratio, adv * torch.clip(ratio, 0.8, 1.2))
    return per_token.masked_fill(~keep.bool(), 0).sum(-1).mean()


@stranger("grpo", "empty_rows=left_out", clip_high=0.28, kl_coef=0.003, kl_estimator="k3")
def kimi_style(log_probs, old_log_probs, advantages, loss_mask, ref_log_probs):
    m = loss_mask.to(log_probs.dtype)
    lengths = m.sum(1)
    ratio = (log_probs - old_log_probs).exp()
    surrogate = torch.min(ratio * advantages[:, None], ratio.clamp(0.8, 1.28) * advantages[:, None])
    x = ref_log_probs - log_probs
    loss = (x.expm1() - x) * 0.003 - surrogate
    return ((loss * m).sum(1)[lengths > 0] / lengths[lengths > 0]).sum() / max(1, int((lengths > 0).sum()))


@stranger("grpo", kl_estimator="k2", kl_coef=0.05)
def squared_penalty(logps, old_logps, adv, mask, ref_logps):
    ratio = (logps - old_logps).exp()
    gain = torch.where(adv > 0, torch.clamp(ratio, max=1.2), torch.clamp(ratio, min=0.8)) * adv
    loss = 0.05 * (logps - ref_logps) ** 2 / 2 - gain
    return torch.stack([(x * m).sum() / m.sum().clamp(min=1) for x, m in zip(loss, mask, strict=True)]).mean()


@stranger("grpo", aggregation="token_mean")
def with_options(log_probs, old_log_probs, advantages, mask, ref_log_probs, eps_low=0.2, eps_high=0.2, beta=0.0):
    ratio = torch.exp(log_probs - old_log_probs)
    loss = -torch.min(ratio * advantages, torch.clamp(ratio, 1 - eps_low, 1 + eps_high) * advantages)
    if beta:
        away = ref_log_probs - log_probs
        loss = loss + beta * (torch.exp(away) - away - 1)
    return {"loss": (loss * mask).sum() / mask.sum().clamp(min=1), "kl": 0.0}


@stranger("dapo", clip_low=0.3, clip_high=0.5)
def flat(logps, old_logps, advantages, mask):
    here = mask.bool()
    ratio = (logps[here] - old_logps[here]).exp()
    gain = advantages[here]
    return -torch.min(ratio * gain, ratio.clamp(0.7, 1.5) * gain).sum() / max(1, len(gain))


@stranger("dr_grpo", max_length=4096)
def fixed_budget(per_token_logps, old_per_token_logps, advantages, completion_mask, epsilon=0.2):
    coefficient = torch.exp(per_token_logps - old_per_token_logps)
    capped = coefficient.clamp(1 - epsilon, 1 + epsilon)
    loss = -torch.minimum(coefficient * advantages.unsqueeze(1), capped * advantages.unsqueeze(1))
    return (loss * completion_mask).sum() / (loss.size(0) * 4096)


@stranger("dr_grpo", "log_ratio_clamp=20", max_length=3000, clip_high=0.27)
def fixed_budget_clamped(logps, old_logps, advantages, mask):
    d = (logps - old_logps).clamp(-20, 20)
    losses = torch.max(-d.exp() * advantages, -d.exp().clamp(0.8, 1.27) * advantages) * mask
    return losses.sum(-1).mean() / 3000


@stranger("gspo", clip_low=0.0003, clip_high=0.0006)
def sequence_level(new_logps, old_logps, advantages, mask):
    m = mask.to(new_logps.dtype)
    s = (((new_logps - old_logps) * m).sum(-1) / m.sum(-1).clamp(min=1)).exp()
    losses = torch.maximum(-s * advantages, -s.clamp(1 - 3e-4, 1 + 6e-4) * advantages)
    return (losses * (m.sum(-1) > 0)).mean()


@stranger("cispo", clip_low=0.3, clip_high=0.4)
def two_sided_weight(logps, old_logps, adv, mask):
    with torch.no_grad():
        weight = (logps - old_logps).exp().clamp(0.7, 1.4)
    return -(weight * adv * logps * mask).sum() / mask.sum().clamp(min=1)


@stranger("reinforce", "empty_rows=left_out")
def by_sequence(logps, advantages, mask):
    per_row = -(logps * mask * (advantages if advantages.ndim == 2 else advantages[:, None])).sum(1)
    return per_row.sum() / (mask.sum(1) > 0).sum().clamp(min=1)


@stranger("sft", aggregation="sequence_mean")
def nll_by_sequence(logps, mask):
    return (-logps * mask).sum(1).div(mask.sum(1).clamp(min=1)).mean()


@stranger("trpo")
def importance(logps, old_logps, adv, mask):
    return (-adv * torch.exp(logps - old_logps))[mask.bool()].sum() / mask.sum().clamp(min=1)


@stranger("value", clip=0.5, aggregation="sequence_mean")
def critic(values, returns, old_values, mask):
    moved = old_values + (values - old_values).clamp(-0.5, 0.5)
    worst = torch.maximum((values - returns).square(), (moved - returns).square()) / 2
    return ((worst * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


@stranger("dpo", beta=0.07)
def preference(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps):
    margin = policy_chosen_logps - reference_chosen_logps - policy_rejected_logps + reference_rejected_logps
    return softplus(-0.07 * margin).mean()


@stranger("robust_dpo", flip_probability=0.2, beta=0.5)
def noisy_preference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps):
    h = 0.5 * ((chosen_logps - rejected_logps) - (ref_chosen_logps - ref_rejected_logps))
    return ((-logsigmoid(h) * 0.8 + logsigmoid(-h) * 0.2) / 0.6).mean()


@stranger("ipo", beta=0.2)
def squared_margin(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps):
    return ((chosen_logps - ref_chosen_logps - (rejected_logps - ref_rejected_logps) - 2.5) ** 2).mean()


@stranger("group_advantages", ddof=0, eps=1e-5)
def population_scaled(rewards, group_size):
    groups = rewards.unflatten(0, (-1, group_size))
    mean, std = groups.mean(-1, keepdim=True), groups.var(-1, unbiased=False, keepdim=True).sqrt()
    return ((groups - mean) / (std + 1e-5)).flatten()


@stranger("whiten", eps=1e-8)
def masked_whiten(values, mask, shift_mean=True):
    keep = mask.to(values.dtype)
    n = keep.sum()
    mean = (values * keep).sum() / n.clamp(min=1)
    centred = (values - mean) * keep
    variance = centred.square().sum() / (n - 1).clamp(min=1)
    return (
        (centred if shift_mean else values * keep) / (variance + 1e-8).sqrt()
        if shift_mean
        else ((centred / (variance + 1e-8).sqrt() + mean) * keep)
    )


@stranger("kl_estimate", estimator="k3")
def low_variance(log_prob, ref_log_prob):
    d = ref_log_prob - log_prob
    return torch.exp(d) - 1 - d


@stranger("ppo_per_token", dual_clip=3.0)
def each_token_dual(logps, old_logps, advantages):
    top = torch.where(advantages < 0, math.log(3.0), math.log(1.2))
    bottom = torch.where(advantages < 0, math.log(0.8), -math.inf)
    return -torch.maximum(torch.minimum(logps - old_logps, top), bottom).exp() * advantages

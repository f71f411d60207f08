"""Losses as trainers write them, each with what it is: plain PyTorch in several styles, with constants inside.

The first half is made by writers, each a style of its own, that are given options and habits at random; the second is
written by hand.
"""

import math
from dataclasses import dataclass, field
from random import Random

import torch
from torch.nn.functional import logsigmoid, softplus

from grape_verified.conformance import CONTRACTS


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

    @property
    def id(self):
        """The name of its tests."""
        return "-".join([self.function.__name__, *(f"{n}={v}" for n, v in self.options.items()), *self.habits])

    def is_named_by(self, found):
        """Whether it fits as what it is, or is said to be the same; options that it takes itself are not compared."""
        every = [found.variety, *(tie.variety for tie in found.ties)] if found.fits else []
        return any(self._is(variety) for variety in every)

    def _is(self, variety):
        mine = normal(self.contract, self.options, self.habits)
        other = normal(variety.contract, variety.options, variety.habits)
        return all(mine.get(n) == other.get(n) for n in {*mine, *other} - {*variety.takes})


#: Contracts that are GRPO with some options fixed.
SPECIAL = {
    "ppo": {},
    "grpo": {},
    "dapo": {"aggregation": "token_mean"},
    "dr_grpo": {"aggregation": "fixed_length"},
}


def normal(contract, options, habits):
    """A variety as values by name; the contracts that are GRPO with some options fixed are written as GRPO."""
    chosen = CONTRACTS[contract].defaults({}) | dict(options)
    habits = dict(habit.partition("=")[::2] for habit in habits)
    if contract in SPECIAL:
        dual = chosen.pop("dual_clip", None)
        habits |= {"dual_clip": f"{dual:g}"} if dual else {}
        chosen, contract = {**SPECIAL[contract], **chosen}, "grpo"
    fitted = CONTRACTS[contract].fit({**CONTRACTS[contract].defaults({}), **chosen}, [])
    return {"contract": contract, **fitted, **{f"habit {name}": value for name, value in habits.items()}}


ALL: list[Stranger] = []


def entering(losses):
    """A decorator that enters a function into a list, with what it is."""

    def stranger(contract, *habits, **options):
        def enter(function):
            losses.append(Stranger(function, contract, options, habits))
            return function

        return enter

    return stranger


stranger = entering(ALL)


# -- writers: the clipped surrogate with everything that may be chosen ------------------------------------------------


def aggregated(x, mask, mode, length, left_out):
    """A batch of per-token losses reduced in one of five ways."""
    counts = mask.sum(-1)
    rows = (counts > 0).sum().clamp(min=1) if left_out else len(x)
    match mode:
        case "token_mean":
            return (x * mask).sum() / mask.sum().clamp(min=1)
        case "sequence_mean":
            return ((x * mask).sum(-1) / counts.clamp(min=1)).sum() / rows
        case "sequence_sum":
            return (x * mask).sum(-1).sum() / rows
        case "token_sum":
            return (x * mask).sum()
        case "fixed_length":
            return (x * mask).sum() / (rows * length)
    raise ValueError(mode)


def as_verl(low, high, dual, kl, kind, clamp, **reduction):
    """Maxima of negative terms, by names of verl."""

    def compute_policy_loss(old_log_prob, log_prob, advantages, response_mask, ref_log_prob=None):
        mask = response_mask.to(log_prob.dtype)
        advantages = advantages.unsqueeze(-1) if advantages.ndim == 1 else advantages
        negative_approx_kl = log_prob - old_log_prob
        if clamp:
            negative_approx_kl = torch.clamp(negative_approx_kl, min=-clamp, max=clamp)
        ratio = torch.exp(negative_approx_kl)
        pg_losses1 = torch.maximum(-advantages * ratio, -advantages * torch.clamp(ratio, 1 - low, 1 + high))
        pg_losses = pg_losses1
        if dual:
            pg_losses3 = -advantages * dual
            pg_losses = torch.where(advantages < 0, torch.min(pg_losses3, pg_losses1), pg_losses1)
        return aggregated(pg_losses, mask, **reduction), {"pg_clipfrac": 0.0}

    return compute_policy_loss


def as_trl(low, high, dual, kl, kind, clamp, **reduction):
    """Coefficients and a penalty that is added to the loss of a token, by names of TRL; advantages per sequence."""

    def compute_loss(per_token_logps, old_per_token_logps, advantages, completion_mask, ref_per_token_logps):
        mask = completion_mask.to(per_token_logps.dtype)
        log_ratio = per_token_logps - old_per_token_logps
        coef_1 = torch.exp(log_ratio.clamp(-clamp, clamp) if clamp else log_ratio)
        coef_2 = torch.clamp(coef_1, 1 - low, 1 + high)
        if dual:
            coef_1 = torch.where(advantages.unsqueeze(1) < 0, torch.clamp(coef_1, max=dual), coef_1)
        per_token_loss = -torch.min(coef_1 * advantages.unsqueeze(1), coef_2 * advantages.unsqueeze(1))
        if kl:
            difference = ref_per_token_logps - per_token_logps
            penalty = {
                "k1": -difference,
                "k2": 0.5 * difference**2,
                "k3": torch.exp(difference) - difference - 1,
            }[kind]
            per_token_loss = per_token_loss + kl * penalty
        return {"loss": aggregated(per_token_loss, mask, **reduction)}

    return compute_loss


class AsModule(torch.nn.Module):
    """A module with surrogates surr1 and surr2, in the manner of OpenRLHF."""

    def __init__(self, low, high, dual, kl, kind, clamp, **reduction):
        super().__init__()
        self.low, self.high, self.dual, self.clamp, self.reduction = low, high, dual, clamp, reduction

    def forward(self, log_probs, old_log_probs, advantages, action_mask):
        advantages = advantages[:, None] if advantages.ndim == 1 else advantages
        log_ratio = log_probs - old_log_probs
        if self.clamp:
            log_ratio = log_ratio.clamp(-self.clamp, self.clamp)
        ratio = log_ratio.exp()
        surr1 = ratio * advantages
        surr2 = ratio.clamp(1 - self.low, 1 + self.high) * advantages
        loss = -torch.min(surr1, surr2)
        if self.dual:
            loss = -torch.where(advantages < 0, torch.max(-loss, self.dual * advantages), -loss)
        return aggregated(loss, action_mask.to(loss.dtype), **self.reduction)


def as_module(**chosen):
    """The module, under a name."""
    made = AsModule(**chosen)
    made.__name__ = "policy_loss_module"
    return made


def row_by_row(low, high, dual, kl, kind, clamp, mode, length, left_out):
    """Loops over rows with boolean indexing, clipping the logarithm of the ratio by cases."""

    def loss(new, old, adv, keep):
        rows, counts = [], []
        for i in range(len(new)):
            here = keep[i].bool()
            delta = (new[i] - old[i])[here]
            gain = (adv[i] if adv.ndim == 1 else adv[i][here]) * torch.ones_like(delta)
            if clamp:
                delta = delta.clamp(-clamp, clamp)
            top = torch.where(gain >= 0, math.log1p(high), math.log(dual) if dual else math.inf)
            bottom = torch.where(gain >= 0, -math.inf, math.log1p(-low) if low < 1 else -math.inf)
            rows.append(-(torch.minimum(torch.maximum(delta, bottom), top).exp() * gain))
            counts.append(int(here.sum()))
        full = [i for i, n in enumerate(counts) if n] if left_out else range(len(counts))
        match mode:
            case "token_mean":
                return torch.cat(rows).sum() / max(1, sum(counts))
            case "token_sum":
                return torch.cat(rows).sum()
            case "sequence_mean":
                return torch.stack([rows[i].sum() / max(1, counts[i]) for i in full]).mean()
            case "sequence_sum":
                return torch.stack([rows[i].sum() for i in full]).mean()
        return torch.stack([rows[i].sum() for i in full]).mean() / length

    return loss


LOWS, HIGHS, DUALS = (0.2, 0.1, 0.3, 0.15), (0.2, 0.28, 0.3, 0.25, 0.4, 0.27), (None, None, 3.0, 5.0, 10.0)
PENALTIES, CLAMPS, LENGTHS = (0.001, 0.04, 0.1, 0.005, 0.02), (None, None, 20.0, 10.0), (1024, 512, 8192, 100)
MODES = ("token_mean", "sequence_mean", "sequence_sum", "token_sum", "fixed_length")


def written(seed):
    """A function by one of the writers, with options and habits at random."""
    random = Random(seed)
    writer = (as_verl, as_trl, as_module, row_by_row)[seed % 4]
    one = {"low": LOWS, "high": HIGHS, "dual": DUALS, "clamp": CLAMPS, "mode": MODES, "length": LENGTHS}
    chosen = {name: random.choice(values) for name, values in one.items()}
    chosen["kl"] = random.choice(PENALTIES) if writer is as_trl and random.random() < 0.7 else 0.0
    chosen["kind"] = random.choice(("k1", "k2", "k3"))
    by_rows = chosen["mode"] in ("sequence_mean", "sequence_sum", "fixed_length")
    chosen["left_out"] = by_rows and random.random() < 0.3
    function = writer(**chosen)
    options = {"clip_low": chosen["low"], "clip_high": chosen["high"], "aggregation": chosen["mode"]}
    options |= {"max_length": chosen["length"]} if chosen["mode"] == "fixed_length" else {}
    options |= {"kl_coef": chosen["kl"]} if chosen["kl"] else {}
    options |= {"kl_estimator": chosen["kind"]} if chosen["kl"] else {}
    habits = [f"log_ratio_clamp={chosen['clamp']:g}"] if chosen["clamp"] else []
    habits += ["empty_rows=left_out"] if chosen["left_out"] else []
    habits += [f"dual_clip={chosen['dual']:g}"] if chosen["dual"] else []
    return Stranger(function, "grpo", options, tuple(habits))


ALL += [written(seed) for seed in range(24)]


# -- by hand ----------------------------------------------------------------------------------------------------------


def masked_mean(x, mask):
    """As many trainers write it."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


@stranger("ppo")
def token_ppo(log_prob, old_log_prob, advantages, response_mask, cliprange=0.2):
    if advantages.ndim == 1:
        advantages = advantages.unsqueeze(-1)
    ratio = torch.exp(log_prob - old_log_prob)
    pg_losses = -advantages * ratio
    pg_losses2 = -advantages * torch.clamp(ratio, 1.0 - cliprange, 1.0 + cliprange)
    return masked_mean(torch.maximum(pg_losses, pg_losses2), response_mask), None


@stranger("ppo", clip_low=0.1, clip_high=0.3)
def guarded_ppo(logps, old_logps, advantages, mask):
    keep = mask.bool()
    advantages = (advantages[:, None] if advantages.ndim == 1 else advantages).expand_as(logps)
    log_ratio = torch.where(keep, logps - old_logps, 0)
    gain = torch.where(keep, advantages, 0)
    held = torch.where(gain >= 0, log_ratio.clamp(max=math.log(1.3)), log_ratio.clamp(min=math.log(0.9)))
    return -(held.exp() * gain).sum() / keep.sum().clamp(min=1)


@stranger("dapo")
def decoupled(logps, old_logps, adv, mask, eps_low=0.2, eps_high=0.28):
    ratio = (logps - old_logps).exp()
    return -(torch.min(ratio * adv, ratio.clip(1 - eps_low, 1 + eps_high) * adv) * mask).sum() / mask.sum()


@stranger("grpo")
def grpo_with_beta(per_token_logps, old_per_token_logps, advantages, completion_mask, ref_per_token_logps, beta=0.04):
    ratio = (per_token_logps - old_per_token_logps).exp()
    advantages = advantages.unsqueeze(1) if advantages.ndim == 1 else advantages
    loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    away = ref_per_token_logps - per_token_logps
    loss = loss + beta * (away.exp() - away - 1)
    return ((loss * completion_mask).sum(1) / completion_mask.sum(1).clamp(min=1)).mean()


@stranger("gspo")
def sequence_ratio(logps, old_logps, advantages, mask):
    lengths = mask.sum(1).clamp(min=1)
    ratio = (((logps - old_logps) * mask).sum(1) / lengths).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantages)
    return -(surrogate * (mask.sum(1) > 0)).sum() / len(surrogate)


@stranger("gspo", clip_low=0.2, clip_high=0.25)
def sequence_ratio_wide(logps, old_logps, advantages, mask):
    means = [(new - old)[keep.bool()].mean() for new, old, keep in zip(logps, old_logps, mask, strict=True)]
    ratio = torch.stack(means).nan_to_num(0.0).exp()
    worse = torch.min(ratio * advantages, ratio.clamp(0.8, 1.25) * advantages)
    return -torch.where(mask.sum(1) > 0, worse, 0).mean()


@stranger("cispo", clip_high=0.28)
def minimax(log_probs, old_log_probs, advantages, mask):
    weight = torch.exp(log_probs - old_log_probs).clamp(max=1.28).detach()
    return -masked_mean(weight * advantages * log_probs, mask)


@stranger("cispo", aggregation="sequence_mean")
def minimax_by_sequence(new, old, adv, mask):
    ratio = (new - old).exp().detach()
    per_token = -torch.minimum(ratio, torch.full_like(ratio, 5.0)) * adv * new * mask
    return torch.mean(per_token.sum(1) / mask.sum(1).clamp(min=1))


@stranger("sapo")
def soft_gate(logps, old_logps, advantages, mask):
    ratio = (logps - old_logps).exp()
    tau = torch.where(advantages > 0, 1.0, 1.05)
    gate = torch.sigmoid(tau * (ratio - 1)) * 4 / tau
    return -((gate * advantages * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()


@stranger("trpo", aggregation="sequence_mean")
def plain_ratio(logps, old_logps, advantages, mask):
    return -(((logps - old_logps).exp() * advantages * mask).sum(-1) / mask.sum(-1)).mean()


@stranger("reinforce", aggregation="token_mean")
def score_function(log_probs, advantages, mask):
    return -(log_probs[mask.bool()] * advantages[mask.bool()]).sum() / mask.sum().clamp(min=1)


@stranger("sft")
def cross_entropy(token_log_probs, loss_mask):
    return -(token_log_probs * loss_mask).sum() / loss_mask.sum()


@stranger("dpo", beta=0.3, label_smoothing=0.05)
def smoothed_preference(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps):
    logits = (policy_chosen_logps - policy_rejected_logps) - (reference_chosen_logps - reference_rejected_logps)
    return -(logsigmoid(0.3 * logits) * 0.95 + logsigmoid(-0.3 * logits) * 0.05).mean()


@stranger("ipo_per_pair")
def squared_preference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    logits = chosen_logps - ref_chosen_logps - rejected_logps + ref_rejected_logps
    return (logits - 1 / (2 * beta)) ** 2


@stranger("preference", beta=0.2)
def calibrated(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps):
    chosen = policy_chosen_logps - reference_chosen_logps
    return torch.relu(1 - 0.2 * (chosen - (policy_rejected_logps - reference_rejected_logps))).mean()


@stranger("simpo", beta=2.5, target_margin=1.0)
def mean_margin(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths):
    chosen, rejected = chosen_logps / chosen_lengths, rejected_logps / rejected_lengths
    return softplus(1.0 - 2.5 * (chosen - rejected)).mean()


@stranger("orpo", odds_weight=0.2)
def odds_ratio(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths):
    chosen, rejected = chosen_logps / chosen_lengths, rejected_logps / rejected_lengths
    log_odds = torch.log(torch.expm1(-rejected)) - torch.log(torch.expm1(-chosen))
    return -(chosen + 0.2 * logsigmoid(log_odds)).mean()


@stranger("kto", anchor=0.5)
def unpaired(logps, ref_logps, labels):
    signs = torch.where(labels, 1, -1)
    return (1 - torch.sigmoid(0.1 * (logps - ref_logps - 0.5) * signs)).mean()


@stranger("pointwise", kind="apo_down", beta=0.5)
def down(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps):
    chosen = 0.5 * (policy_chosen_logps - reference_chosen_logps)
    rejected = 0.5 * (policy_rejected_logps - reference_rejected_logps)
    return (chosen.sigmoid() + 1 - (chosen - rejected).sigmoid()).mean()


@stranger("bradley_terry")
def pairwise(chosen_reward, reject_reward):
    return torch.log(1 + torch.exp(reject_reward - chosen_reward)).mean()


@stranger("value", clip=0.2)
def clipped_values(vpreds, returns, values_old, response_mask):
    clipped = torch.clamp(vpreds, values_old - 0.2, values_old + 0.2)
    losses = torch.max((vpreds - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * masked_mean(losses, response_mask)


@stranger("group_advantages", eps=1e-4)
def standardised(rewards, num_generations):
    grouped = rewards.view(-1, num_generations)
    centred = grouped - grouped.mean(1, keepdim=True)
    spread = (centred.square().sum(1, keepdim=True) / max(1, num_generations - 1)).sqrt()
    return (centred / (spread + 1e-4)).flatten()


@stranger("group_advantages", scale="none")
def centred(rewards, num_generations):
    means = rewards.view(-1, num_generations).mean(1).repeat_interleave(num_generations)
    return rewards - means


@stranger("group_advantages", baseline="leave_one_out", scale="none")
def leave_one_out(rewards, group_size):
    grouped = rewards.view(-1, group_size)
    others = (grouped.sum(1, keepdim=True) - grouped) / max(1, group_size - 1)
    return (grouped - others).flatten() * (group_size > 1)


@stranger("gae")
def generalised(token_level_rewards, values, response_mask, gamma, lam):
    last, following, found = 0.0, 0.0, []
    for t in reversed(range(values.shape[1])):
        keep = response_mask[:, t].to(values.dtype)
        delta = token_level_rewards[:, t] + gamma * following - values[:, t]
        new = delta + gamma * lam * last
        following = keep * values[:, t] + (1 - keep) * following
        last = keep * new + (1 - keep) * last
        found.append(last * keep)
    advantages = torch.stack(found[::-1], 1)
    return advantages, (advantages + values) * response_mask


@stranger("kl_estimate", estimator="k2")
def squared_log_ratio(logprob, ref_logprob):
    return 0.5 * (logprob - ref_logprob).square()


@stranger("ppo_per_token", clip_high=0.28)
def each_token(logps, old_logps, advantages):
    ratio = (logps - old_logps).exp()
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)


@stranger("grpo", kl_estimator="k1")
def penalty_k1(per_token_logps, old_per_token_logps, advantages, completion_mask, ref_per_token_logps, beta=0.1):
    """The coefficient is an argument and the estimator is not."""
    return clipped_with(per_token_logps - ref_per_token_logps, beta)(
        per_token_logps, old_per_token_logps, advantages, completion_mask
    )


@stranger("grpo", kl_estimator="k2")
def penalty_k2(logp, logp_old, adv, mask, logp_ref, kl_coef=0.0):
    return clipped_with((logp - logp_ref) ** 2 / 2, kl_coef)(logp, logp_old, adv, mask)


def clipped_with(kl, beta):
    """GRPO with a penalty."""

    def loss(logps, old_logps, advantages, mask):
        gains = advantages[:, None] if advantages.ndim == 1 else advantages
        ratio = (logps - old_logps).exp()
        each = beta * kl - torch.min(ratio * gains, ratio.clamp(0.8, 1.2) * gains)
        return ((each * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()

    return loss


@stranger("grpo", aggregation="sequence_mean")
def in_words_of_its_own(logps, old_logps, advantages, mask, aggregation="each_sequence"):
    """The name of an option with other values."""
    gains = advantages[:, None] if advantages.ndim == 1 else advantages
    ratio = (logps - old_logps).exp()
    each = -torch.min(ratio * gains, ratio.clamp(0.8, 1.2) * gains) * mask
    if aggregation == "each_sequence":
        return (each.sum(1) / mask.sum(1).clamp(min=1)).mean()
    if aggregation == "all_tokens":
        return each.sum() / mask.sum().clamp(min=1)
    raise ValueError(aggregation)


#: Those of the default tier.
FEW = [one for one in ALL if one.function in (token_ppo, minimax, leave_one_out)]


# -- wrong ------------------------------------------------------------------------------------------------------------


def without_minimum(logps, old_logps, advantages, mask):
    ratio = (logps - old_logps).exp()
    return -masked_mean(ratio.clamp(0.8, 1.2) * advantages, mask)


def penalty_of_the_reverse(logp, logp_old, adv, mask, logp_ref, kl_coef=0.0):
    """k3 at the reciprocal of its ratio."""
    x = logp - logp_ref
    return clipped_with(x.exp() - x - 1, kl_coef)(logp, logp_old, adv, mask)

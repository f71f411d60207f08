"""GRPO and its variants to check: correct ones in another style than the kernels, and wrong ones with one mistake."""

import itertools
import math
from statistics import fmean
from types import SimpleNamespace

import torch

from .table import KINKED, SPEC, correct, wrong

# -- correct, in another style ----------------------------------------------------------------------------------------


@correct("grpo")
def token_by_token(
    logps, old_logps, advantages, mask, *, ref_logps=None, kl_coef=0.0, clip_low=0.2, clip_high=0.2, denominator=None
):
    """One token at a time, each in its region; a saturated exponential keeps its slope through a straight line."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    total = 0 * logps.nan_to_num(0, 0, 0).to(dtype).sum()
    for i, t in itertools.product(*map(range, logps.shape)):
        if not mask[i, t]:
            continue
        gain = (advantages[i] if advantages.ndim == 1 else advantages[i, t]).to(dtype)
        ratio = _safe_exp(logps[i, t].to(dtype) - old_logps[i, t].to(dtype))
        if gain > 0 and ratio > 1 + clip_high:
            loss = -(1 + clip_high) * gain
        elif gain < 0 and ratio < 1 - clip_low:
            loss = -(1 - clip_low) * gain
        else:
            loss = -ratio * gain
        if ref_logps is not None:
            below = ref_logps[i, t].to(dtype) - logps[i, t].to(dtype)
            loss = loss + kl_coef * (_safe_exp(below) - 1 - below)
        total = total + loss / int(mask[i].sum())
    return SimpleNamespace(loss=total / (denominator or len(logps)))


@correct("grpo_per_token")
def penalty_by_its_slope(
    logps, old_logps, advantages, *, ref_logps=None, kl_coef=0.0, kl_estimator="k3", kl_ratio="absent"
):
    """The penalty as a constant, plus a line of its slope that is 0 in value."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages[:, None].expand_as(logps) if advantages.ndim == 1 else advantages).to(dtype)
    policy, old = logps.to(dtype), old_logps.to(dtype)
    loss = -_clipped(_safe_exp(policy - old), gains)
    if ref_logps is None or kl_coef == 0:
        return loss
    at, reference = policy.detach(), ref_logps.to(dtype)
    x, ratio = at - reference, 1.0 if kl_ratio == "absent" else _safe_exp(at - old)
    to_reference = _safe_exp(-x) if kl_ratio == "absent" else _safe_exp(reference - old)  # the ratio times exp(−x)
    k2 = ratio * x * x / 2
    close = ratio * ((-x).expm1() + x)
    value = {"k1": ratio * x, "k2": k2, "k3": torch.where(x.abs() < 1, close, to_reference - ratio * (1 - x))}
    slope = {"k1": ratio * torch.ones_like(x), "k2": ratio * x, "k3": ratio - to_reference}
    chosen = value[kl_estimator[:2]]
    slope = ratio * x if kl_estimator.endswith("+") else slope[kl_estimator]
    slope = slope + chosen if kl_ratio == "attached" else slope
    slope = ratio * x if (kl_estimator, kl_ratio) == ("k3", "attached") else slope
    return loss + kl_coef * (chosen + slope * (policy - at))


@correct("gspo")
def sequence_by_sequence(logps, old_logps, advantages, mask, *, clip_low=3e-4, clip_high=4e-4, denominator=None):
    """GSPO, one sequence at a time, each in its region."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    total = 0 * logps.nan_to_num(0, 0, 0).to(dtype).sum()
    for i, counted in enumerate(mask.bool()):
        if counted.any():
            gain = advantages[i].to(dtype)
            ratio = _safe_exp((logps[i][counted].to(dtype) - old_logps[i][counted].to(dtype)).mean())
            kept = not (gain > 0 and ratio > 1 + clip_high) and not (gain < 0 and ratio < 1 - clip_low)
            total = total - gain * (ratio if kept else 1 + clip_high if gain > 0 else 1 - clip_low)
    return SimpleNamespace(loss=total / (denominator or len(logps)))


@correct("cispo")
def weights_first(logps, old_logps, advantages, mask, *, clip_low=1.0, clip_high=4.0, denominator=None):
    """CISPO, with weights computed before anything is differentiated."""
    logps, old_logps, gains, keep = _tokens(logps, old_logps, advantages, mask)
    with torch.no_grad():
        weights = gains * _safe_exp(logps - old_logps).clip(1 - clip_low, 1 + clip_high)
    return -(weights * logps)[keep].sum() / (denominator or keep.sum().clamp(min=1))


@correct("group_advantages")
def group_by_group(rewards, *, group_size, baseline="mean", scale="std", ddof=1, eps=1e-6):
    """One group at a time, in Python's floats."""
    every = []
    for group in rewards.double().reshape(-1, group_size).tolist():
        mean = fmean(group)
        spread = sum((r - mean) ** 2 for r in group)
        if baseline == "leave_one_out":
            others = [(sum(group) - r) / (group_size - 1) if group_size > 1 else r for r in group]
        else:
            others = [mean if baseline == "mean" else 0.0] * group_size
        divisor = math.sqrt(spread / (group_size - ddof)) + eps if scale == "std" and spread else 1.0
        varies = scale == "none" or spread > 0
        every += [(r - other) / divisor if varies else 0.0 for r, other in zip(group, others, strict=True)]
    return torch.tensor(every, dtype=torch.promote_types(rewards.dtype, torch.float32))


# -- parts of the wrong functions -------------------------------------------------------------------------------------


def _tokens(logps, old_logps, advantages, mask):
    """Inputs in the compute dtype, 0 where masked."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = advantages[:, None].expand_as(logps) if advantages.ndim == 1 else advantages
    keep = mask.bool()
    return *(torch.where(keep, x.to(dtype), 0) for x in (logps, old_logps, gains)), keep


def _safe_exp(x):
    """exp that saturates and keeps its slope."""
    ceiling = math.log(torch.finfo(x.dtype).max) - 20
    return torch.exp(x - (x.detach() - ceiling).clamp(min=0))


def _clipped(ratio, gains):
    return torch.where(gains >= 0, ratio.clamp(max=1.2), ratio.clamp(min=0.8)) * gains


def _k3(logps, ref_logps):
    below = ref_logps - logps
    return _safe_exp(below) - 1 - below


def _sequence_mean(x, keep):
    return (x.sum(1) / keep.sum(1).clamp(min=1)).mean()


def _grpo(surrogate=_clipped, divergence=_k3, sign=1, reduce=_sequence_mean, weight=None):
    """GRPO from its parts; a weight, a function of ratio and mask, multiplies the penalty."""

    def grpo(logps, old_logps, advantages, mask, *, ref_logps=None, kl_coef=0.0):
        logps, old_logps, gains, keep = _tokens(logps, old_logps, advantages, mask)
        losses = -surrogate(_safe_exp(logps - old_logps), gains)
        if ref_logps is not None:
            penalty = kl_coef * divergence(logps, torch.where(keep, ref_logps.to(logps), 0))
            losses = losses + sign * penalty * (weight(_safe_exp(logps - old_logps), keep) if weight else 1)
        return reduce(torch.where(keep, losses, 0), keep)

    return grpo


# -- GRPO: one mistake each -------------------------------------------------------------------------------------------

correct_grpo = correct("grpo")(_grpo())
divergence_rewarded = wrong("grpo", must=("options",), may=("kinks", "extremes"))(
    wrong("grpo", must=("value", "gradient"), may=KINKED, options={"kl_coef": 0.1})(_grpo(sign=-1))
)
reference_exchanged = wrong("grpo", must=("value", "gradient"), may=KINKED, options={"kl_coef": 0.1})(
    _grpo(divergence=lambda logps, ref_logps: _k3(ref_logps, logps))
)
k1_for_k3 = wrong("grpo", must=("value", "gradient"), may=KINKED, options={"kl_coef": 0.1})(
    _grpo(divergence=lambda logps, ref_logps: logps - ref_logps)
)
divergence_held_constant = wrong("grpo", must=("gradient",), may=KINKED, options={"kl_coef": 0.1})(
    _grpo(divergence=lambda logps, ref_logps: _k3(logps.detach(), ref_logps))
)
mean_over_all_tokens = wrong("grpo", must=("value", "gradient"), may=KINKED)(
    _grpo(reduce=lambda x, keep: x.sum() / keep.sum().clamp(min=1))
)
mean_over_padding = wrong("grpo", must=("value", "padding"), may=KINKED)(_grpo(reduce=lambda x, keep: x.mean()))
no_minimum = wrong("grpo", must=("value", "gradient"), may=KINKED)(
    _grpo(surrogate=lambda ratio, gains: ratio.clamp(0.8, 1.2) * gains)
)
divergence_clamped = wrong("grpo", must=("value", "gradient", "extremes"), may=KINKED, options={"kl_coef": 0.1})(
    _grpo(divergence=lambda logps, ref_logps: _k3(logps, ref_logps).clamp(-10, 10))
)


@wrong("grpo", must=("value", "masked values", "padding"), may=(*KINKED, "empty batch"), options={"kl_coef": 0.1})
def divergence_outside_the_mask(logps, old_logps, advantages, mask, *, ref_logps=None, kl_coef=0.0):
    """The KL penalty is averaged over every position, padding included."""
    loss = correct_grpo(logps, old_logps, advantages, mask)
    if ref_logps is None:
        return loss
    return loss + kl_coef * _k3(logps.to(loss.dtype), ref_logps.to(loss.dtype)).mean()


# -- GRPO with the ratio on its penalty: one mistake each -------------------------------------------------------------

ATTACHED = {"kl_coef": 0.1, "kl_ratio": "attached"}
DETACHED = {"kl_coef": 0.1, "kl_ratio": "detached"}

# Products of a ratio and an exponential that leave the range are none of these mistakes.
ratio_held_constant = wrong("grpo", must=("gradient",), may=KINKED, options=ATTACHED)(
    _grpo(weight=lambda ratio, keep: ratio.detach())
)
ratio_left_out = wrong("grpo", must=("value", "gradient"), may=KINKED, options=ATTACHED)(_grpo())
ratio_clipped = wrong("grpo", must=("value", "gradient"), may=KINKED, options=ATTACHED)(
    _grpo(weight=lambda ratio, keep: ratio.clamp(0.8, 1.2))
)
ratio_of_the_sequence = wrong("grpo", must=("value", "gradient"), may=KINKED, options=ATTACHED)(
    _grpo(weight=lambda ratio, keep: (ratio.log().sum(1, True) / keep.sum(1, keepdim=True).clamp(min=1)).exp())
)
ratio_inverted = wrong("grpo", must=("value", "gradient"), may=KINKED, options=DETACHED)(
    _grpo(weight=lambda ratio, keep: 1 / ratio.detach())
)
ratio_differentiated = wrong("grpo", must=("gradient",), may=KINKED, options=DETACHED)(
    _grpo(weight=lambda ratio, keep: ratio)
)
straight_through_of_nothing = wrong(
    "grpo", must=("gradient",), may=KINKED, options={"kl_coef": 0.1, "kl_estimator": "k3+"}
)(_grpo())


# -- DAPO and Dr. GRPO: one mistake each ------------------------------------------------------------------------------


@wrong("dapo", must=("value", "gradient"), may=KINKED)
def dapo_as_grpo(logps, old_logps, advantages, mask):
    """The same clip on both sides."""
    return mean_over_all_tokens(logps, old_logps, advantages, mask)


def _dr_grpo(divisor):
    """Dr. GRPO from what the sum of every sequence is divided by."""

    def dr_grpo(logps, old_logps, advantages, mask, *, max_length):
        total = _grpo(reduce=lambda x, keep: (x.sum(1) / divisor(keep, max_length)).mean())
        return total(logps, old_logps, advantages, mask)

    return dr_grpo


correct_dr_grpo = correct("dr_grpo")(_dr_grpo(lambda keep, max_length: max_length))
own_length = wrong("dr_grpo", must=("value", "gradient"), may=KINKED)(
    _dr_grpo(lambda keep, max_length: keep.sum(1).clamp(min=1))
)
longest_length = wrong("dr_grpo", must=("value", "gradient"), may=KINKED)(
    _dr_grpo(lambda keep, max_length: keep.sum(1).max().clamp(min=1))
)
padded_length = wrong("dr_grpo", must=("value", "padding"), may=KINKED)(
    _dr_grpo(lambda keep, max_length: keep.shape[1])
)

# -- GSPO: one mistake each -------------------------------------------------------------------------------------------


def _gspo(log_ratio, loss_of_empty=0.0):
    """GSPO from the log-ratio of a sequence."""

    def gspo(logps, old_logps, advantages, mask, *, clip_low=3e-4, clip_high=4e-4):
        logps, old_logps, _, keep = _tokens(logps, old_logps, advantages, mask)
        gains = torch.where(keep.any(1), advantages.to(logps), loss_of_empty * advantages.to(logps))
        ratio = _safe_exp(log_ratio(logps - old_logps, keep))
        clipped = torch.where(gains >= 0, ratio.clamp(max=1 + clip_high), ratio.clamp(min=1 - clip_low))
        return -(clipped * gains).mean()

    return gspo


def _mean(x, keep):
    return x.sum(1) / keep.sum(1).clamp(min=1)


correct_gspo = correct("gspo")(_gspo(_mean))
sum_of_log_ratios = wrong("gspo", must=("value", "gradient"), may=KINKED)(_gspo(lambda x, keep: x.sum(1)))
mean_with_padding = wrong("gspo", must=("value", "padding"), may=KINKED)(_gspo(lambda x, keep: x.mean(1)))
mean_of_ratios = wrong("gspo", must=("value", "gradient"), may=(*KINKED, "masked values", "padding"))(
    _gspo(lambda x, keep: _mean(torch.where(keep, _safe_exp(x), 0), keep).clamp(min=1e-30).log())
)
empty_sequences_count = wrong("gspo", must=("value", "empty batch"), may=KINKED, verdict="robustness")(
    _gspo(_mean, loss_of_empty=1.0)
)


@wrong("gspo", must=("value", "gradient"), may=KINKED)
def a_ratio_for_each_token(logps, old_logps, advantages, mask):
    """The ratio of each token is clipped by itself, as in GRPO."""
    logps, old_logps, gains, keep = _tokens(logps, old_logps, advantages, mask)
    ratio = _safe_exp(logps - old_logps)
    clipped = torch.where(gains >= 0, ratio.clamp(max=1 + 4e-4), ratio.clamp(min=1 - 3e-4)) * gains
    return -_sequence_mean(torch.where(keep, clipped, 0), keep)


# -- CISPO: one mistake each ------------------------------------------------------------------------------------------


def _cispo(weight=lambda ratio: ratio.detach().clamp(0, 5)):
    """CISPO from the weight of a token."""

    def cispo(logps, old_logps, advantages, mask):
        logps, old_logps, gains, keep = _tokens(logps, old_logps, advantages, mask)
        return -(weight(_safe_exp(logps - old_logps)) * gains * logps)[keep].sum() / keep.sum().clamp(min=1)

    return cispo


correct_cispo = correct("cispo")(_cispo())
weight_differentiated = wrong("cispo", must=("gradient",), may=SPEC)(_cispo(lambda ratio: ratio.clamp(0, 5)))
cap_without_the_one = wrong("cispo", must=("value", "gradient"), may=SPEC)(
    _cispo(lambda ratio: ratio.detach().clamp(0, 4))
)
clipped_tokens_dropped = wrong("cispo", must=("value", "gradient"), may=SPEC)(
    _cispo(lambda ratio: ratio.detach() * (ratio.detach() <= 5))
)
weight_not_clipped = wrong("cispo", must=("value", "gradient"), may=SPEC)(_cispo(lambda ratio: ratio.detach()))
clipped_from_below_too = wrong("cispo", must=("value", "gradient"), may=SPEC)(
    _cispo(lambda ratio: ratio.detach().clamp(0.8, 5))
)

# -- group advantages: one mistake each -------------------------------------------------------------------------------


def _advantages(centre=lambda x: x.mean(1, keepdim=True), divisor=lambda x, ddof, eps: _std(x, ddof) + eps):
    """Advantages from the centre and the divisor of a group."""

    def advantages(rewards, *, group_size, ddof=1, eps=1e-6):
        groups = rewards.to(torch.promote_types(rewards.dtype, torch.float32)).reshape(-1, group_size)
        scaled = (groups - centre(groups)) / divisor(groups, ddof, eps)
        return torch.where(_std(groups, 0) > 0, scaled, 0).flatten()

    return advantages


def _std(groups, ddof):
    return groups.std(1, correction=ddof, keepdim=True)


correct_advantages = correct("group_advantages")(_advantages())
population_std = wrong("group_advantages", must=("value",), may=("options", "dtype"))(
    _advantages(divisor=lambda x, ddof, eps: _std(x, 0) + eps)
)
sum_for_mean = wrong("group_advantages", must=("value",), may=("options", "dtype"))(
    _advantages(centre=lambda x: x.sum(1, keepdim=True))
)
median_for_mean = wrong("group_advantages", must=("value",), may=("options", "dtype"))(
    _advantages(centre=lambda x: x.median(1, keepdim=True).values)
)
variance_for_std = wrong("group_advantages", must=("value",), may=("options", "dtype"))(
    _advantages(divisor=lambda x, ddof, eps: _std(x, ddof) ** 2 + eps)
)
eps_inside_the_root = wrong("group_advantages", must=("options",), may=("value", "dtype"))(
    _advantages(divisor=lambda x, ddof, eps: (_std(x, ddof) ** 2 + eps).sqrt())
)
std_of_the_batch = wrong("group_advantages", must=("value",), may=("options", "dtype"))(
    _advantages(divisor=lambda x, ddof, eps: x.std() + eps)
)


@wrong("group_advantages", must=("options",), may=("repeatable", "permutation"), verdict="robustness")
def nan_in_a_group_of_one(rewards, *, group_size):
    """The sample standard deviation of one reward."""
    groups = rewards.to(torch.promote_types(rewards.dtype, torch.float32)).reshape(-1, group_size)
    return ((groups - groups.mean(1, keepdim=True)) / (_std(groups, 1) + 1e-6)).flatten()


@wrong("group_advantages", must=("options",))
def baseline_with_itself(rewards, *, group_size, baseline="mean"):
    """Leaves nothing out."""
    return correct_advantages(rewards, group_size=group_size)

"""Functions to check: correct ones in another style than the kernels, and wrong ones, each with one mistake."""

import itertools
import math
import sys
from types import SimpleNamespace

import torch
from torch.nn.functional import logsigmoid, softplus

from .table import KINKED, SPEC, correct, wrong

# -- PPO: correct, in another style -----------------------------------------------------------------------------------


@correct("ppo")
def log_space_ppo(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2, dual_clip=None, denominator=None):
    """Clips the log-ratio, one token at a time; a saturated token keeps its slope through a straight line."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    ceiling = math.log(torch.finfo(dtype).max) - 20
    total = logps.new_zeros((), dtype=dtype) + 0 * logps.nan_to_num(0, 0, 0).to(dtype).sum()
    for i, t in itertools.product(*map(range, logps.shape)):
        if not mask[i, t]:
            continue
        advantage = (advantages[i] if advantages.ndim == 1 else advantages[i, t]).to(dtype)
        log_ratio = logps[i, t].to(dtype) - old_logps[i, t].to(dtype)
        if log_ratio > ceiling:
            log_ratio = log_ratio - (log_ratio.detach() - ceiling)
        if advantage > 0 and log_ratio > math.log1p(clip_high):
            log_ratio = torch.tensor(math.log1p(clip_high), dtype=dtype)
        if advantage < 0 and clip_low < 1 and log_ratio < math.log1p(-clip_low):
            log_ratio = torch.tensor(math.log1p(-clip_low), dtype=dtype)
        if advantage < 0 and dual_clip is not None and log_ratio > math.log(dual_clip):
            log_ratio = torch.tensor(math.log(dual_clip), dtype=dtype)
        total = total - torch.exp(log_ratio) * advantage
    return SimpleNamespace(loss=total / (denominator or max(1, int(mask.sum()))))


# -- PPO: one mistake each --------------------------------------------------------------------------------------------


def _tokens(logps, old_logps, advantages, mask):
    """Inputs in the compute dtype, 0 where masked; the starting point of every wrong function below."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    if advantages.ndim == 1:
        advantages = advantages[:, None].expand_as(logps)
    keep = mask.bool()
    clean = (torch.where(keep, x.to(dtype), 0) for x in (logps, old_logps, advantages))
    return *clean, keep


def _safe_ratio(log_ratio):
    """exp that saturates and keeps its slope."""
    ceiling = math.log(torch.finfo(log_ratio.dtype).max) - 20
    return torch.exp(log_ratio - (log_ratio.detach() - ceiling).clamp(min=0))


def _clipped(ratio, advantages, clip_low, clip_high, dual_clip):
    top, bottom = 1 + clip_high, 1 - clip_low
    falling = ratio.clamp(min=bottom, max=dual_clip)
    return torch.where(advantages >= 0, ratio.clamp(max=top), falling) * advantages


def _mean(per_token, mask, denominator):
    return (per_token * mask).sum() / (denominator or mask.sum().clamp(min=1))


def _ppo(per_token=lambda d, a, low, high, dual: -_clipped(_safe_ratio(d), a, low, high, dual), reduce=_mean):
    """A PPO loss from the loss of one token, given the log-ratio, and a reduction."""

    def ppo(
        logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2, dual_clip=None, denominator=None
    ):  # fmt: skip
        new, old, gains, keep = _tokens(logps, old_logps, advantages, mask)
        return reduce(per_token(new - old, gains, clip_low, clip_high, dual_clip), keep, denominator)

    return ppo


@wrong("ppo", must=("extremes",))
def textbook_ppo(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2, dual_clip=None, denominator=None):
    """The usual code. Right, but its gradient is NaN where the ratio overflows on the branch not taken."""
    new, old, gains, keep = _tokens(logps, old_logps, advantages, mask)
    ratio = (new - old).exp()
    objective = torch.min(ratio * gains, ratio.clamp(1 - clip_low, 1 + clip_high) * gains)
    if dual_clip is not None:
        objective = torch.where(gains < 0, torch.max(objective, dual_clip * gains), objective)
    return _mean(-objective, keep, denominator)


correct_ppo = correct("ppo")(_ppo())

no_min = wrong("ppo", must=("value", "gradient"), may=KINKED)(
    _ppo(lambda d, a, low, high, dual: -_safe_ratio(d).clamp(1 - low, 1 + high) * a)
)
max_for_min = wrong("ppo", must=("value", "gradient"), may=KINKED)(
    _ppo(lambda d, a, low, high, dual: -torch.max(_safe_ratio(d) * a, _safe_ratio(d).clamp(1 - low, 1 + high) * a))
)
padded_mean = wrong("ppo", must=("value", "padding"), may=KINKED)(
    _ppo(reduce=lambda x, mask, denominator: (x * mask).sum() / (denominator or mask.numel()))
)
sequence_mean = wrong("ppo", must=("value", "gradient"), may=KINKED)(
    _ppo(
        reduce=lambda x, mask, denominator: (
            ((x * mask).sum(1) / mask.sum(1).clamp(min=1)).sum() / (denominator or len(x))
        )
    )
)
detached_ratio = wrong("ppo", must=("gradient", "empty batch"))(
    _ppo(lambda d, a, low, high, dual: -_clipped(_safe_ratio(d).detach(), a, low, high, dual))
)
wrong_sign = wrong("ppo", must=("value", "gradient"), may=KINKED)(
    _ppo(lambda d, a, low, high, dual: _clipped(_safe_ratio(d), a, low, high, dual))
)
linear_ratio = wrong("ppo", must=("value", "gradient"), may=KINKED)(
    _ppo(lambda d, a, low, high, dual: -_clipped(1 + d, a, low, high, dual))
)
clamped_log_ratio = wrong("ppo", must=("value", "extremes"), may=SPEC, verdict="robustness")(
    _ppo(lambda d, a, low, high, dual: -_clipped(d.clamp(-20, 20).exp(), a, low, high, dual))
)
clip_high_ignored = wrong("ppo", must=("options",), may=("kinks", "extremes"))(
    _ppo(lambda d, a, low, high, dual: -_clipped(_safe_ratio(d), a, low, low, dual))
)
dual_clip_ignored = wrong("ppo", must=("options",), may=("kinks", "extremes"))(
    _ppo(lambda d, a, low, high, dual: -_clipped(_safe_ratio(d), a, low, high, None))
)
sum_for_mean = wrong("ppo", must=("value", "gradient"), may=KINKED)(
    _ppo(reduce=lambda x, mask, denominator: (x * mask).sum() / (denominator or 1))
)
zero_over_zero = wrong("ppo", must=("empty batch",))(
    _ppo(reduce=lambda x, mask, denominator: (x * mask).sum() / (denominator or mask.sum()))
)
denominator_ignored = wrong("ppo", must=("options", "partition"), may=("kinks", "extremes"))(
    _ppo(reduce=lambda x, mask, denominator: _mean(x, mask, None))
)
cut_to_zero = wrong("ppo", must=("extremes",))(
    _ppo(lambda d, a, low, high, dual: -_clipped(d.clamp(max=60.0).exp(), a, low, high, dual))
)
row_weights = wrong("ppo", must=("value", "partition", "permutation"), may=KINKED)(
    _ppo(reduce=lambda x, mask, denominator: _mean(x * torch.arange(1, len(x) + 1)[:, None], mask, denominator))
)
first_column_twice = wrong("ppo", must=("value", "padding"), may=KINKED)(
    _ppo(reduce=lambda x, mask, denominator: _mean(torch.cat([x[:, :1] * 2, x[:, 1:]], 1), mask, denominator))
)


@wrong("ppo", must=("masked values",))
def mask_times_nan(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2):
    """Multiplies values that may be NaN by the mask."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages if advantages.ndim == 2 else advantages[:, None]).to(dtype)
    per_token = -_clipped(_safe_ratio(logps.to(dtype) - old_logps.to(dtype)), gains, clip_low, clip_high, None)
    return (per_token * mask).sum() / mask.sum().clamp(min=1)


class _SlopeBeyondTheKink(torch.autograd.Function):
    """min(x, top) whose slope stays 1 for a hundredth beyond the top."""

    @staticmethod
    def forward(ctx, x, top):
        ctx.save_for_backward(x < top * 1.01)
        return x.clamp(max=top)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None


def late_kink(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2):
    """The value is right, but the slope ends a little too late."""
    new, old, gains, keep = _tokens(logps, old_logps, advantages, mask)
    ratio = _safe_ratio(new - old)
    kept = torch.where(gains >= 0, _SlopeBeyondTheKink.apply(ratio, 1 + clip_high), ratio.clamp(min=1 - clip_low))
    return _mean(-kept * gains, keep, None)


@wrong("ppo", must=("gradient", "masked values", "empty batch"), may=("kinks", "extremes"))
def gradient_behind_the_mask(logps, old_logps, advantages, mask):
    """The value is right, but masked tokens are pushed as well."""
    behind = torch.where(mask.bool(), 0, logps.nan_to_num(0, 0, 0)).sum()
    return correct_ppo(logps, old_logps, advantages, mask) + (behind - behind.detach())


@wrong("ppo", must=("inputs",))
def writes_into_inputs(logps, old_logps, advantages, mask):
    """Writes zeros to masked entries of its argument."""
    old_logps[mask == 0] = 0.25
    return correct_ppo(logps, old_logps, advantages, mask)


def half_precision(logps, old_logps, advantages, mask):
    """Computes in the dtype of its input."""
    if advantages.ndim == 1:
        advantages = advantages[:, None].expand_as(logps)
    log_ratio, gains = (torch.where(mask.bool(), x, 0) for x in (logps - old_logps, advantages))
    x = -_clipped(_safe_ratio(log_ratio), gains, 0.2, 0.2, None)
    return x.sum() / mask.sum().clamp(min=1).to(x.dtype)


def always_single_precision(logps, old_logps, advantages, mask):
    """Right, in fp32 for every input."""
    return correct_ppo(logps.float(), old_logps.float(), advantages.float(), mask)


def half_precision_dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1):
    """The most common code: right, in the dtype of its input."""
    policy, reference = chosen_logps - rejected_logps, ref_chosen_logps - ref_rejected_logps
    return -logsigmoid(beta * (policy - reference)).mean()


def softplus_dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1):
    """Right to single precision: torch's softplus is linear beyond 20, an error of 1e-10."""
    margin = beta * ((chosen_logps - ref_chosen_logps) - (rejected_logps - ref_rejected_logps))
    return softplus(-margin).mean()


def branching_ppo(logps, old_logps, advantages, mask):
    """Right, with ±inf where the exact result is beyond the range: the side that counts is picked before exp."""
    new, old, gains, keep = _tokens(logps, old_logps, advantages, mask)
    d = new - old
    cut = torch.where(gains >= 0, d.clamp(max=math.log(1.2)), d.clamp(min=math.log(0.8)))
    return _mean(-cut.exp() * gains, keep, None)


def misreads_float_masks(logps, old_logps, advantages, mask):
    """Right for bool masks only."""
    return correct_ppo(logps, old_logps, advantages, mask) * (1 if mask.dtype == torch.bool else 3)


class AsModule(torch.nn.Module):
    """A correct function as a module, whose signature accepts anything."""

    def forward(self, logps, old_logps, advantages, mask):
        return correct_ppo(logps, old_logps, advantages, mask)


def exits(logps, old_logps, advantages, mask):
    """Ends the process, as a script would."""
    sys.exit(0)


_calls = itertools.count()


def noisy(logps, old_logps, advantages, mask):
    """A different result each time."""
    return correct_ppo(logps, old_logps, advantages, mask) + 0.001 * next(_calls)


def rarely_noisy(logps, old_logps, advantages, mask):
    """A different result now and then."""
    return correct_ppo(logps, old_logps, advantages, mask) + (0.5 if next(_calls) % 97 == 96 else 0)


# -- PPO: misuse of the interface -------------------------------------------------------------------------------------


def raises(logps, old_logps, advantages, mask):
    """Never works."""
    raise RuntimeError("expected scalar type Half\nbut found Float")


def returns_tuple(logps, old_logps, advantages, mask):
    """Loss and metrics."""
    return correct_ppo(logps, old_logps, advantages, mask), {}


def returns_per_token(logps, old_logps, advantages, mask):
    """Not reduced."""
    return logps - old_logps


def returns_none(logps, old_logps, advantages, mask):
    """Forgot to return."""


def returns_nan(logps, old_logps, advantages, mask):
    """NaN, always."""
    return logps.sum() * math.nan


def without_gradient(logps, old_logps, advantages, mask):
    """Detached."""
    return correct_ppo(logps, old_logps, advantages, mask).detach()


def wrong_signature(logps, old_logps):
    """Too few arguments."""
    return (logps - old_logps).sum()


def needs_more(logps, old_logps, advantages, mask, *, entropy):
    """An argument that the contract does not have."""
    return correct_ppo(logps, old_logps, advantages, mask) - entropy


def interrupted(logps, old_logps, advantages, mask):
    """Stopped by the user."""
    raise KeyboardInterrupt


def per_sequence_only(logps, old_logps, advantages, mask):
    """Takes one advantage for each sequence, and silently gets others wrong."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    log_ratio = torch.where(mask, logps.to(dtype) - old_logps.to(dtype), 0)
    x = -_clipped(_safe_ratio(log_ratio), advantages.to(dtype).unsqueeze(1), 0.2, 0.2, None)
    return torch.where(mask, x, 0).sum() / mask.sum().clamp(min=1)


# -- DPO --------------------------------------------------------------------------------------------------------------


@correct("dpo")
def pairwise_dpo(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=0.1, label_smoothing=0.0):
    """Correct, in another style: one pair at a time, logaddexp for the sigmoid, other argument names."""
    dtype = torch.promote_types(policy_chosen.dtype, torch.float32)
    losses = []
    for w, l, rw, rl in zip(policy_chosen, policy_rejected, reference_chosen, reference_rejected, strict=True):
        x = beta * ((w.to(dtype) - l.to(dtype)) - (rw.to(dtype) - rl.to(dtype)))
        zero = torch.zeros_like(x)
        losses.append((1 - label_smoothing) * torch.logaddexp(zero, -x) + label_smoothing * torch.logaddexp(zero, x))
    return torch.stack(losses).mean()


def _dpo(loss, reduce=torch.mean):
    """A DPO loss from the loss of one pair, given β, the log-ratio of the chosen and that of the rejected response."""

    def dpo(chosen, rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0):
        dtype = torch.promote_types(chosen.dtype, torch.float32)
        w, l, rw, rl = (x.to(dtype) for x in (chosen, rejected, ref_chosen, ref_rejected))
        return reduce(loss(beta, w - rw, l - rl, label_smoothing))

    return dpo


def _smoothed(margin, smoothing):
    return -(1 - smoothing) * logsigmoid(margin) - smoothing * logsigmoid(-margin)


correct_dpo = correct("dpo")(_dpo(lambda beta, w, l, smoothing: _smoothed(beta * (w - l), smoothing)))
smoothing_ignored = wrong("dpo", must=("options",), may=("extremes",))(
    _dpo(lambda beta, w, l, smoothing: _smoothed(beta * (w - l), 0.0))
)
beta_outside = wrong("dpo", must=("value", "gradient"), may=SPEC)(
    _dpo(lambda beta, w, l, smoothing: beta * _smoothed(w - l, smoothing))
)
dpo_sum_for_mean = wrong("dpo", must=("value", "gradient"), may=SPEC)(
    _dpo(lambda beta, w, l, smoothing: _smoothed(beta * (w - l), smoothing), torch.sum)
)
log_of_sigmoid = wrong("dpo", must=("extremes",), may=("options",))(
    _dpo(
        lambda beta, w, l, smoothing: (
            -(1 - smoothing) * torch.sigmoid(beta * (w - l)).log()
            - (smoothing * torch.sigmoid(-beta * (w - l)).log() if smoothing else 0)
        )
    )
)
chosen_only = wrong("dpo", must=("gradient",), may=("options", "extremes"))(
    _dpo(lambda beta, w, l, smoothing: _smoothed(beta * (w - l.detach()), smoothing))
)
dpo_wrong_sign = wrong("dpo", must=("value", "gradient"), may=SPEC)(
    _dpo(lambda beta, w, l, smoothing: -_smoothed(beta * (w - l), smoothing))
)


@wrong("dpo", must=("value", "gradient"), may=SPEC)
def reference_swapped(ref_chosen, ref_rejected, chosen, rejected, *, beta=0.1, label_smoothing=0.0):
    """Takes the policy for the reference."""
    return correct_dpo(chosen, rejected, ref_chosen, ref_rejected, beta=beta, label_smoothing=label_smoothing)


# -- without reduction ------------------------------------------------------------------------------------------------


class _FirstCotangent(torch.autograd.Function):
    """The identity, with a backward pass that uses only the first upstream gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.flatten()[0].expand_as(grad)


@wrong("ppo_per_token", must=("cotangents",))
def first_cotangent(logps, old_logps, advantages):
    """Right for a plain sum, and wrong for any other combination."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages if advantages.ndim == 2 else advantages[:, None]).to(dtype)
    ratio = _safe_ratio(logps.to(dtype) - old_logps.to(dtype))
    return _FirstCotangent.apply(-_clipped(ratio, gains, 0.2, 0.2, None))


@wrong("token_entropies", must=("forbidden tokens",))
def naive_entropies(logits, *, temperature=1.0):
    """−Σ p log p, which is 0 · ∞ for a forbidden token."""
    logps = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, -1)
    return -(logps.exp() * logps).sum(-1)


@wrong("token_logps", must=("options",), may=("extremes",))
def temperature_ignored(logits, targets, *, temperature=1.0):
    """Log-probabilities at temperature one."""
    logps = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), -1)
    return logps.gather(-1, targets[..., None]).squeeze(-1)


@wrong("token_logps", must=("extremes",), may=("options",))
def overflowing_logps(logits, targets, *, temperature=1.0):
    """log Σ exp without subtracting the maximum."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    return scaled.gather(-1, targets[..., None]).squeeze(-1) - scaled.exp().sum(-1).log()


# -- breaking one property and no other -------------------------------------------------------------------------------


@wrong("ppo", must=("value", "gradient", "padding"))
def wrong_when_wide(logps, old_logps, advantages, mask):
    """Wrong for more columns than are drawn at random, so only after padding and on the large inputs."""
    return correct_ppo(logps, old_logps, advantages, mask) * (2 if logps.shape[1] > 6 else 1)


@wrong("ppo", must=("kinks",))
def kink_shared_wrongly(logps, old_logps, advantages, mask, *, clip_low=0.2, clip_high=0.2):
    """Exactly at the upper kink the slope is three times the allowed one."""
    new, old, gains, keep = _tokens(logps, old_logps, advantages, mask)
    d = new - old
    at_kink = (d - math.log1p(clip_high)).abs() < 4 * torch.finfo(d.dtype).eps
    steep = torch.where(at_kink, 3 * d - 2 * d.detach(), d)
    return _mean(-_clipped(_safe_ratio(steep), gains, clip_low, clip_high, None), keep, None)


@wrong("ppo", must=("options",), may=("kinks", "extremes"), verdict="robustness")
def empty_rows_left_out(
    logps, old_logps, advantages, mask, *, aggregation="token_mean", denominator=None, max_length=None
):
    """The mean over sequences leaves out those without tokens, where every row counts; all else is right."""
    new, old, gains, keep = _tokens(logps, old_logps, advantages, mask)
    per_token = -_clipped(_safe_ratio(new - old), gains, 0.2, 0.2, None) * keep
    lengths, rows = keep.sum(1), len(keep)
    if aggregation == "sequence_mean":
        per_token, rows = per_token / lengths.clamp(min=1)[:, None], (lengths > 0).sum().clamp(min=1)
    if aggregation == "fixed_length":
        per_token = per_token / max_length
    usual = {"token_mean": lengths.sum().clamp(min=1), "token_sum": 1}.get(aggregation, rows)
    return per_token.sum() / (usual if denominator is None else denominator)


# -- constants that are differentiated --------------------------------------------------------------------------------


def returns_not_held_constant(values, returns, mask):
    """Half the squared error, with a gradient in the returns."""
    keep = mask.bool()
    error = torch.where(keep, values, 0) - torch.where(keep, returns, 0)
    return (error**2 / 2).sum() / keep.sum().clamp(min=1)


def reference_not_held_constant(logps, ref_logps):
    """k3 with a gradient in the reference."""
    distance = ref_logps - logps
    return torch.expm1(distance) - distance


def scores_not_held_constant(rewards, threshold):
    """Right numbers, but with a gradient of 1 in the rewards."""
    kept = (rewards.detach() >= threshold).to(torch.promote_types(rewards.dtype, torch.float32))
    return kept + (rewards - rewards.detach())

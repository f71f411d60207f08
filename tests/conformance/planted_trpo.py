"""TRPO's loss to check: a correct one in another style, and wrong ones, each with one mistake."""

import itertools
import math
from types import SimpleNamespace

import torch

from .table import SPEC, correct, wrong


@correct("trpo")
def token_by_token(logps, old_logps, advantages, mask, *, denominator=None):
    """The mean over tokens by way of the old probability of each, as an importance weight; ends in a straight line."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    ceiling = math.log(torch.finfo(dtype).max) - 20
    total = 0 * logps.to(dtype).nan_to_num(0, 0, 0).sum()
    for i, t in itertools.product(*map(range, logps.shape)):
        if mask[i, t]:
            advantage = (advantages[i] if advantages.ndim == 1 else advantages[i, t]).to(dtype)
            difference = logps[i, t].to(dtype) - old_logps[i, t].to(dtype)
            capped = difference - (difference.detach() - ceiling).clamp(min=0)
            total = total - advantage * torch.exp(capped)
    return SimpleNamespace(loss=total / (denominator or max(1, int(mask.sum()))))


def _trpo(per_token, count=lambda mask: mask.sum().clamp(min=1)):
    """A TRPO loss from the loss of one token, given the log-ratio and the advantage, and a count."""

    def trpo(logps, old_logps, advantages, mask, *, denominator=None):
        dtype = torch.promote_types(logps.dtype, torch.float32)
        gains = advantages if advantages.ndim == 2 else advantages[:, None].expand_as(logps)
        keep = mask.bool()
        new, old, gains = (torch.where(keep, x.to(dtype), 0) for x in (logps, old_logps, gains))
        return (per_token(new - old.detach(), gains.detach()) * keep).sum() / (denominator or count(keep))

    return trpo


def _ratio(log_ratio):
    """exp that saturates and keeps its slope."""
    ceiling = math.log(torch.finfo(log_ratio.dtype).max) - 20
    return torch.exp(log_ratio - (log_ratio.detach() - ceiling).clamp(min=0))


correct = correct("trpo")(_trpo(lambda d, gain: -_ratio(d) * gain))
wrong_sign = wrong("trpo", must=("value", "gradient"), may=SPEC)(_trpo(lambda d, gain: _ratio(d) * gain))
ratio_upside_down = wrong("trpo", must=("value", "gradient"), may=SPEC)(_trpo(lambda d, gain: -_ratio(-d) * gain))
log_ratio_for_ratio = wrong("trpo", must=("value", "gradient"), may=SPEC)(_trpo(lambda d, gain: -d * gain))
ratio_detached = wrong("trpo", must=("value",), may=SPEC)(_trpo(lambda d, gain: -_ratio(d).detach() * d * gain))
clipped_as_ppo = wrong("trpo", must=("value", "gradient"), may=SPEC)(
    _trpo(lambda d, gain: -torch.min(_ratio(d) * gain, _ratio(d).clamp(0.8, 1.2) * gain))
)
overflowing = wrong("trpo", must=("extremes",))(_trpo(lambda d, gain: -d.exp() * gain))
cut_to_zero = wrong("trpo", must=("extremes",))(_trpo(lambda d, gain: -d.clamp(max=60).exp() * gain))
padding_counts = wrong("trpo", must=("value", "padding"), may=SPEC)(
    _trpo(lambda d, gain: -_ratio(d) * gain, count=lambda mask: mask.numel())
)
zero_over_zero = wrong("trpo", must=("empty batch",))(
    _trpo(lambda d, gain: -_ratio(d) * gain, count=lambda mask: mask.sum())
)


@wrong("trpo", must=("masked values",))
def mask_times_nan(logps, old_logps, advantages, mask):
    """Multiplies values that may be NaN by the mask."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages if advantages.ndim == 2 else advantages[:, None]).to(dtype)
    return (-_ratio(logps.to(dtype) - old_logps.to(dtype)) * gains * mask).sum() / mask.sum().clamp(min=1)


@wrong("trpo_per_token", must=("cotangents",))
def first_cotangent(logps, old_logps, advantages):
    """Of each token, but the gradient takes the first weight for all."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages if advantages.ndim == 2 else advantages[:, None]).to(dtype)
    per_token = -_ratio(logps.to(dtype) - old_logps.to(dtype)) * gains
    if per_token.requires_grad:
        per_token.register_hook(lambda grad: grad.flatten()[0].expand_as(grad))
    return per_token

"""REINFORCE to check: a correct one in another style than the kernels, and wrong ones, each with one mistake."""

import itertools
from types import SimpleNamespace

import torch

from .table import correct, wrong


@correct("reinforce")
def token_by_token(logps, advantages, mask, *, denominator=None):
    """One token at a time, each with its weight."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    total = 0 * logps.nan_to_num(0, 0, 0).to(dtype).sum()
    for i, t in itertools.product(*map(range, logps.shape)):
        if mask[i, t]:
            weight = (advantages[i] if advantages.ndim == 1 else advantages[i, t]).to(dtype)
            total = total - weight * logps[i, t].to(dtype)
    return SimpleNamespace(loss=total / (denominator or len(logps)))


def _reinforce(per_token=lambda logps, gains: -gains * logps, reduce=lambda x, mask: x.sum() / len(x)):
    """A loss from the loss of one token and a reduction."""

    def reinforce(logps, advantages, mask):
        dtype = torch.promote_types(logps.dtype, torch.float32)
        gains = advantages[:, None].expand_as(logps) if advantages.ndim == 1 else advantages
        keep = mask.bool()
        clean = [torch.where(keep, x.to(dtype), 0) for x in (logps, gains)]
        return reduce(torch.where(keep, per_token(*clean), 0), keep)

    return reinforce


wrong_sign = wrong("reinforce", must=("value", "gradient", "expectation"), may=("extremes",))(
    _reinforce(lambda logps, gains: gains * logps)
)
probability_for_its_logarithm = wrong("reinforce", must=("value", "gradient", "expectation"), may=("extremes",))(
    _reinforce(lambda logps, gains: -gains * logps.exp())
)
mean_over_tokens = wrong("reinforce", must=("value", "gradient"), may=("extremes",))(
    _reinforce(reduce=lambda x, mask: x.sum() / mask.sum().clamp(min=1))
)
mean_of_means = wrong("reinforce", must=("value", "gradient"), may=("extremes",))(
    _reinforce(reduce=lambda x, mask: (x.sum(1) / mask.sum(1).clamp(min=1)).mean())
)
centred_again = wrong("reinforce", must=("value", "gradient", "expectation"), may=("padding", "extremes"))(
    _reinforce(lambda logps, gains: -(gains - gains.mean()) * logps)
)
positive_advantages_only = wrong("reinforce", must=("value", "gradient", "expectation"), may=("extremes",))(
    _reinforce(lambda logps, gains: -gains.clamp(min=0) * logps)
)
clamped_logps = wrong("reinforce", must=("extremes",))(_reinforce(lambda logps, gains: -gains * logps.clamp(min=-50)))
without_gradient = wrong("reinforce", must=("gradient", "empty batch", "expectation"))(
    _reinforce(lambda logps, gains: -gains * logps.detach())
)


@wrong("reinforce", must=("masked values",))
def mask_times_nan(logps, advantages, mask):
    """Multiplies values that may be NaN by the mask."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages[:, None] if advantages.ndim == 1 else advantages).to(dtype)
    return (-gains * logps.to(dtype) * mask).sum() / len(logps)


@wrong("reinforce", must=("options", "partition"), may=("expectation", "extremes"))
def denominator_ignored(logps, advantages, mask, *, denominator=None):
    """The mean over its own rows, ignoring the shared denominator."""
    return token_by_token(logps, advantages, mask)


@wrong("reinforce_per_token", must=("value",), may=("extremes",))
def surrogate_of_the_value_one(logps, advantages):
    """exp(logp − logp) has the right gradient, and is its own derivative only once."""
    dtype = torch.promote_types(logps.dtype, torch.float32)
    gains = (advantages[:, None] if advantages.ndim == 1 else advantages).to(dtype)
    return -gains * (logps.to(dtype) - logps.detach().to(dtype)).exp()

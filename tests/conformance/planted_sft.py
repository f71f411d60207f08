"""SFT functions to check: a correct one in another style than the kernel, and wrong ones, each with one mistake."""

import itertools

import torch

from .table import SPEC, correct, wrong

# -- correct, in another style ----------------------------------------------------------------------------------------


@correct("sft")
def looping_sft(logps, mask, *, denominator=None):
    """One token at a time, the count by the way."""
    wide = logps.to(torch.promote_types(logps.dtype, torch.float32))
    total, count = 0 * wide.nan_to_num(0, 0, 0).sum(), 0
    for i, t in itertools.product(*map(range, logps.shape)):
        if mask[i, t]:
            total, count = total - wide[i, t], count + 1
    return total / (denominator or max(1, count))


@correct("sft_per_token")
def weighted_sft_per_token(logps):
    """The product with −1."""
    return logps.to(torch.promote_types(logps.dtype, torch.float32)) * -1


# -- one mistake each -------------------------------------------------------------------------------------------------


def _mean(per_token, mask, denominator):
    return per_token.sum() / (denominator or mask.sum().clamp(min=1))


def _sft(reduce=_mean, of_token=lambda logp: -logp):
    """The loss of supervised fine-tuning from the loss of one token and a reduction; right as it stands."""

    def sft(logps, mask, *, denominator=None):
        keep = mask.bool()
        clean = torch.where(keep, logps.to(torch.promote_types(logps.dtype, torch.float32)), 0)
        return reduce(torch.where(keep, of_token(clean), 0), keep, denominator)

    return sft


correct_sft = correct("sft")(_sft())

wrong_sign = wrong("sft", must=("value", "gradient"), may=SPEC)(_sft(of_token=lambda logp: logp))
probability_for_log = wrong("sft", must=("value", "gradient"), may=SPEC)(_sft(of_token=lambda logp: -logp.exp()))
detached = wrong("sft", must=("gradient",), may=SPEC)(_sft(of_token=lambda logp: -logp.detach() + 0 * logp))
padded_mean = wrong("sft", must=("value", "gradient"), may=(*SPEC, "padding"))(
    _sft(lambda x, mask, denominator: x.sum() / (denominator or mask.numel()))
)
mean_of_means = wrong("sft", must=("value", "gradient"), may=SPEC)(
    _sft(lambda x, mask, denominator: (x.sum(1) / mask.sum(1).clamp(min=1)).sum() / (denominator or len(x)))
)
zero_over_zero = wrong("sft", must=("empty batch",))(
    _sft(lambda x, mask, denominator: x.sum() / (denominator or mask.sum()))
)
denominator_ignored = wrong("sft", must=("options", "partition"), may=("extremes",))(
    _sft(lambda x, mask, denominator: _mean(x, mask, None))
)
clamped = wrong("sft", must=("extremes",))(_sft(of_token=lambda logp: -logp.clamp(min=-100)))


@wrong("sft", must=("value", "gradient", "padding"), may=SPEC)
def shifted_again(logps, mask, *, denominator=None):
    """Drops the first position, as if the log-probabilities had not been aligned with their tokens."""
    return correct_sft(logps[:, 1:], mask[:, 1:], denominator=denominator)


@wrong("sft", must=("masked values",), may=("padding",))
def mask_times_nan(logps, mask, *, denominator=None):
    """Multiplies values that may be NaN by the mask."""
    wide = logps.to(torch.promote_types(logps.dtype, torch.float32))
    return -(wide * mask).sum() / (denominator or mask.sum().clamp(min=1))


def half_precision(logps, mask, *, denominator=None):
    """Sums in the dtype of its input."""
    return -torch.where(mask.bool(), logps, 0).sum() / (denominator or mask.sum().clamp(min=1))


@wrong("sft_per_token", must=("value", "gradient"), may=("cotangents", "extremes"))
def positive_per_token(logps):
    """Log-probabilities, not their negatives."""
    return logps.to(torch.promote_types(logps.dtype, torch.float32)) * 1


@wrong("sft_per_token", must=("gradient",), may=("cotangents", "extremes"))
def summed_gradient(logps):
    """The values are right, but every token has the gradient of the first."""
    wide = -logps.to(torch.promote_types(logps.dtype, torch.float32))
    return wide.detach() + (wide[:, :1] - wide[:, :1].detach())


@wrong("sft_per_token", must=("extremes",))
def clamped_per_token(logps):
    """Clamps the loss of unlikely tokens, and so removes their gradient."""
    return -logps.to(torch.promote_types(logps.dtype, torch.float32)).clamp(min=-100)


class _UpstreamIgnored(torch.autograd.Function):
    """The mean, with a backward pass that ignores the upstream gradient."""

    @staticmethod
    def forward(ctx, logps, mask):
        ctx.mask = mask
        return -torch.where(mask, logps, 0).sum() / mask.sum().clamp(min=1)

    @staticmethod
    def backward(ctx, grad):
        return torch.where(ctx.mask, -1 / ctx.mask.sum().clamp(min=1).to(grad.dtype), 0).to(grad.dtype), None


@wrong("sft", must=("gradient", "contexts"), verdict="robustness")
def upstream_ignored(logps, mask):
    """Wrong as soon as the loss is scaled, by a gradient scaler or by the number of micro-batches."""
    return _UpstreamIgnored.apply(logps.to(torch.promote_types(logps.dtype, torch.float32)), mask.bool())

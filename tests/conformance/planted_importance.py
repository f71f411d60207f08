"""Importance weights to check: correct in another style, wrong with one mistake each; and the bound of their error."""

import math

import torch

from .bounds import middle
from .table import WEIGHTS, bound, correct, wrong


@bound("importance_weights", 4, "4·u·(n·S + 1)·w")
def weight_scales(case, answer):
    """(n·S + 1)·w, with S the sum of |old_logp − sampler_logp| over the n tokens whose ratios are multiplied."""
    apart = (case.tensors["old_logps"].double() - case.tensors["sampler_logps"].double()).abs()
    apart, counted = apart * case.tensors["mask"].bool(), case.tensors["mask"].bool().sum(1, keepdim=True)
    if case.options["level"] == "sequence":
        apart = (counted * apart.sum(1, keepdim=True)).expand_as(apart)
    return [(x + 1) * abs(middle(target)) for x, target in zip(apart.flatten().tolist(), answer.values, strict=True)]


def _weights(of_token=lambda d: d, of_row=lambda d, keep: (d * keep).sum(1, keepdim=True), cut=None, after=None):
    """Importance weights, from a log-ratio, its sum over a row, what is done outside the range, and at the end."""

    def weights(old_logps, sampler_logps, mask, *, level="token", low=0.0, high=2.0, outside="truncate"):
        dtype = torch.promote_types(old_logps.dtype, torch.float32)
        keep = mask.bool()
        log_ratio = of_token(torch.where(keep, old_logps.to(dtype) - sampler_logps.to(dtype), 0))
        if level == "sequence":
            log_ratio = of_row(log_ratio, keep).expand_as(log_ratio)
        result = (cut or _cut)(log_ratio, low, high, outside)
        return (after or torch.where)(keep, result, 0).detach()

    return weights


def _log(x):
    return math.log(x) if x else -math.inf


def _cut(d, low, high, outside):
    """By the logarithms of the ends."""
    inside = (d >= _log(low)) & (d <= _log(high))
    ends = torch.where(d > 0, high, low) if low < 1 < high else d.exp().clamp(low, high)
    return torch.where(inside, d.exp(), ends if outside == "truncate" else 0)


def _in_one(d, low, high, outside):
    """Of the ratio itself, as the kernel has it, but by minimum and maximum."""
    ratio = d.exp()
    held = ratio.minimum(torch.tensor(high)).maximum(torch.tensor(low))
    return held if outside == "truncate" else ratio * (held == ratio)


def _cap_on_log(d, low, high, outside):
    return d.clamp(low, high).exp() if outside == "truncate" else _cut(d, low, high, outside)


def _mask_on_log(d, low, high, outside):
    return d.exp() * ((d >= low) & (d <= high)) if outside == "mask" else _cut(d, low, high, outside)


by_logarithms = correct("importance_weights")(_weights())
by_extrema = correct("importance_weights")(_weights(cut=_in_one))

MISTAKES = {
    "inverse ratio": (_weights(of_token=lambda d: -d), "value"),
    "no end at the top": (_weights(cut=lambda d, low, high, outside: _cut(d, low, 1e30, outside)), "value"),
    "cap on the log-ratio": (_weights(cut=_cap_on_log), "value"),
    "mask on the log-ratio": (_weights(cut=_mask_on_log), "options"),
    "masked where it should be truncated": (_weights(cut=lambda d, *ends: _cut(d, *ends[:2], "mask")), "value"),
    "lower end ignored": (_weights(cut=lambda d, low, high, outside: _cut(d, 0.0, high, outside)), "options"),
    "mean in place of the product": (
        _weights(of_row=lambda d, keep: d.sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)),
        "options",
    ),
    "sum over half of the row": (_weights(of_row=lambda d, keep: d[:, ::2].sum(1, keepdim=True)), "options"),
}
for name, (mistake, fails) in MISTAKES.items():
    wrong("importance_weights", name, must=(fails,), may=(*WEIGHTS, "padding"))(mistake)


@wrong("importance_weights", must=("options",), may=WEIGHTS)
def mask_ignored_in_the_sum(old_logps, sampler_logps, mask, *, level="token", low=0.0, high=2.0, outside="truncate"):
    log_ratio = old_logps.float() - sampler_logps.float()
    log_ratio = log_ratio.sum(1, keepdim=True).expand_as(log_ratio) if level == "sequence" else log_ratio
    return torch.where(mask.bool(), _cut(log_ratio, low, high, outside), 0)


@wrong("importance_weights", must=("value",), may=(*WEIGHTS, "masked values", "empty batch", "padding"))
def weight_of_padding(old_logps, sampler_logps, mask, *, level="token", low=0.0, high=2.0, outside="truncate"):
    return _weights(after=lambda keep, x, zero: x)(
        old_logps, sampler_logps, mask, level=level, low=low, high=high, outside=outside
    )


# Filters of sequences.


_STATISTICS = {
    "geometric": lambda logs: math.exp(math.fsum(logs) / len(logs)),
    "product": lambda logs: math.prod(math.exp(d) for d in logs) if max(logs) < 80 else math.exp(math.fsum(logs)),
    "max": lambda logs: math.exp(max(logs)),
    "k3": lambda logs: math.fsum(math.expm1(d) - d for d in logs) / len(logs),
}


def _filter(sign=1, empty=0.0, inside=None, **changed):
    """A filter written row by row, with some statistics changed, and what is inside of a range."""
    statistics = {**_STATISTICS, **changed}

    def keep(old_logps, sampler_logps, mask, *, statistic, low=0.0, high):
        dtype = torch.promote_types(old_logps.dtype, torch.float32)
        found = []
        for old, sampler, counts in zip(old_logps.double(), sampler_logps.double(), mask.bool(), strict=True):
            logs = [max(-700.0, min(sign * d, 700.0)) for d in (old - sampler)[counts].tolist()]
            if not logs:
                found.append(empty)
                continue
            number = math.inf if sum(logs) > 700 else statistics[statistic](logs)
            found.append(float((inside or _inside)(number, low, high)))
        return old_logps.new_tensor(found, dtype=dtype)

    return keep


def _inside(number, low, high):
    return low <= number <= high


row_by_row = correct("sequence_filter")(_filter())


@correct("sequence_filter")
def by_log_ends(old_logps, sampler_logps, mask, *, statistic, low=0.0, high):
    """Compares logarithms with those of the ends, but for k3."""
    keep, dtype = mask.bool(), torch.promote_types(old_logps.dtype, torch.float32)
    logs = torch.where(keep, old_logps.to(dtype) - sampler_logps.to(dtype), 0)
    number = keep.sum(1).clamp(min=1)
    if statistic == "k3":
        found = (logs.exp() - 1 - logs).double().sum(1) / number
        found = torch.where(logs.abs().amax(1) < 1e-2, (logs.square() / 2).sum(1) / number, found)
        return ((found >= low) & (found <= high) & keep.any(1)).to(dtype)
    found = {
        "geometric": logs.sum(1) / number,
        "product": logs.sum(1),
        "max": torch.where(keep, logs, -math.inf).amax(1),
    }[statistic]
    return ((found >= _log(low)) & (found <= math.log(high)) & keep.any(1)).to(dtype)


FILTER_MISTAKES = {
    "inverse ratio": (_filter(sign=-1), "value"),
    "arithmetic mean for geometric": (
        _filter(geometric=lambda logs: sum(math.exp(d) for d in logs) / len(logs)),
        "value",
    ),
    "product for geometric": (_filter(geometric=_STATISTICS["product"]), "value"),
    "geometric for product": (_filter(product=_STATISTICS["geometric"]), "options"),
    "smallest for largest": (_filter(max=lambda logs: math.exp(min(logs))), "options"),
    "k3 of the other direction": (
        _filter(k3=lambda logs: sum(math.expm1(-d) + d for d in logs) / len(logs)),
        "options",
    ),
    "sum of k3": (_filter(k3=lambda logs: sum(math.expm1(d) - d for d in logs)), "options"),
    "lower end ignored": (_filter(inside=lambda number, low, high: number <= high), "options"),
    "upper end ignored": (_filter(inside=lambda number, low, high: low <= number), "value"),
    "drops what it should keep": (_filter(inside=lambda number, low, high: not low <= number <= high), "value"),
}
for name, (mistake, fails) in FILTER_MISTAKES.items():
    wrong("sequence_filter", name, must=(fails,), may=WEIGHTS)(mistake)


@wrong("sequence_filter", must=("value",), may=(*WEIGHTS, "masked values", "padding"))
def mean_over_the_padded_length(old_logps, sampler_logps, mask, *, statistic, low=0.0, high):
    logs = torch.where(mask.bool(), old_logps.float() - sampler_logps.float(), 0)
    if statistic != "geometric":
        return _filter()(old_logps, sampler_logps, mask, statistic=statistic, low=low, high=high)
    found = logs.mean(1).exp()
    dtype = torch.promote_types(old_logps.dtype, torch.float32)
    return ((found >= low) & (found <= high) & mask.bool().any(1)).to(dtype)

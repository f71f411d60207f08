"""Reward-model losses to check: correct ones in another style, and wrong ones, each with one mistake."""

import torch
from torch.nn.functional import logsigmoid, softplus

from .table import correct, wrong


@correct("bradley_terry")
def cross_entropy_of_two(chosen, rejected, *, denominator=None):
    """Correct, in another style: a classifier with the two rewards as its logits."""
    logits = torch.stack([chosen, rejected], 1).to(torch.promote_types(chosen.dtype, torch.float32))
    first = torch.zeros(len(logits), dtype=torch.long)
    total = torch.nn.functional.cross_entropy(logits, first, reduction="sum")
    return total / (denominator or len(logits))


def _terms(loss):
    """The loss of each pair, from the two rewards."""

    def terms(chosen, rejected):
        dtype = torch.promote_types(chosen.dtype, torch.float32)
        return loss(chosen.to(dtype), rejected.to(dtype))

    return terms


def _mean(loss):
    """The mean of the loss of each pair."""

    def bradley_terry(chosen, rejected, *, denominator=None):
        return _terms(loss)(chosen, rejected).sum() / (denominator or len(chosen))

    return bradley_terry


log_of_sum_terms = correct("bradley_terry_per_pair")(_terms(lambda w, l: torch.logaddexp(torch.zeros_like(w), l - w)))

BOTH, SLOPE, FAR = ("value", "gradient"), ("gradient",), ("extremes",)

#: A mistake, and the properties that must fail.
MISTAKES = {
    "exchanged": (lambda w, l: -logsigmoid(l - w), BOTH),
    "wrong sign": (lambda w, l: logsigmoid(w - l), BOTH),
    "hinge": (lambda w, l: (1 - (w - l)).clamp(min=0), BOTH),
    "half weight": (lambda w, l: 0.5 * softplus(l - w), BOTH),
    "chosen alone": (lambda w, l: -logsigmoid(w - l.detach()), SLOPE),
    "naive": (lambda w, l: -torch.sigmoid(w - l).log(), FAR),
}

for name, (loss, must) in MISTAKES.items():
    also = () if must == FAR else ("options", "extremes")
    wrong("bradley_terry", name, must=must, may=also)(_mean(loss))
    wrong("bradley_terry_per_pair", name, must=must, may=() if must == FAR else ("cotangents", "extremes"))(
        _terms(loss)
    )


@wrong("bradley_terry", must=("options", "partition"))
def denominator_ignored(chosen, rejected, *, denominator=None):
    """Always divides by the number of pairs."""
    return cross_entropy_of_two(chosen, rejected)

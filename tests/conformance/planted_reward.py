"""Reward-model losses to check: correct ones in another style, and wrong ones, each with one mistake."""

import torch
from torch.nn.functional import logsigmoid, softplus


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


MISTAKES = {
    "exchanged": lambda w, l: -logsigmoid(l - w),
    "wrong_sign": lambda w, l: logsigmoid(w - l),
    "hinge": lambda w, l: (1 - (w - l)).clamp(min=0),
    "half_weight": lambda w, l: 0.5 * softplus(l - w),
    "chosen_alone": lambda w, l: -logsigmoid(w - l.detach()),
    "naive": lambda w, l: -torch.sigmoid(w - l).log(),
}

log_of_sum_terms = _terms(lambda w, l: torch.logaddexp(torch.zeros_like(w), l - w))
wrong_losses = {name: _mean(loss) for name, loss in MISTAKES.items()}
wrong_terms = {name: _terms(loss) for name, loss in MISTAKES.items()}


def denominator_ignored(chosen, rejected, *, denominator=None):
    """Always divides by the number of pairs."""
    return cross_entropy_of_two(chosen, rejected)

"""Robust DPO and IPO to check: correct ones in another style than the kernels, and wrong ones with one mistake each."""

from types import SimpleNamespace

import torch
from torch.nn.functional import logsigmoid

from .table import SPEC, correct, wrong


def _log_ratios(*pairs):
    """Both log-ratios in the compute dtype."""
    chosen, rejected, ref_chosen, ref_rejected = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in pairs)
    return chosen - ref_chosen, rejected - ref_rejected


# -- correct, in another style ----------------------------------------------------------------------------------------


@correct("robust_dpo")
def two_losses(*pairs, beta=0.1, flip_probability, denominator=None):
    """Robust DPO as it is written: the loss of the label and that of the other one."""
    chosen, rejected = _log_ratios(*pairs)
    margin = beta * (chosen - rejected)
    kept, flipped = -logsigmoid(margin), -logsigmoid(-margin)
    losses = ((1 - flip_probability) * kept - flip_probability * flipped) / (1 - 2 * flip_probability)
    return SimpleNamespace(loss=losses.sum() / (denominator or len(losses)))


@correct("ipo")
def pair_by_pair(*pairs, beta=0.1, log_ratio="sum", chosen_lengths=None, rejected_lengths=None, denominator=None):
    """IPO, one pair at a time."""
    chosen, rejected = _log_ratios(*pairs)
    total = 0 * chosen.sum()
    for i in range(len(chosen)):
        h = chosen[i] - rejected[i]
        if log_ratio == "mean":
            h = chosen[i] / chosen_lengths[i].to(chosen) - rejected[i] / rejected_lengths[i].to(chosen)
        total = total + (h - 0.5 / beta) * (h - 0.5 / beta)
    return SimpleNamespace(loss=total / (denominator or len(chosen)))


# -- robust DPO: one mistake each -------------------------------------------------------------------------------------


def _robust(combine):
    """Robust DPO from the losses of the label and of the other one."""

    def robust(*pairs, beta=0.1, flip_probability):
        chosen, rejected = _log_ratios(*pairs)
        margin = beta * (chosen - rejected)
        kept, flipped = -logsigmoid(margin), -logsigmoid(-margin)
        return combine(kept, flipped, flip_probability).mean()

    return robust


not_divided = wrong("robust_dpo", must=("value", "gradient"), may=SPEC)(
    _robust(lambda kept, flipped, flips: (1 - flips) * kept - flips * flipped)
)
smoothed = wrong("robust_dpo", must=("value", "gradient"), may=SPEC)(
    _robust(lambda kept, flipped, flips: (1 - flips) * kept + flips * flipped)
)
divided_by_one_flip = wrong("robust_dpo", must=("value", "gradient"), may=SPEC)(
    _robust(lambda kept, flipped, flips: ((1 - flips) * kept - flips * flipped) / (1 - flips))
)
labels_exchanged = wrong("robust_dpo", must=("value", "gradient"), may=SPEC)(
    _robust(lambda kept, flipped, flips: ((1 - flips) * flipped - flips * kept) / (1 - 2 * flips))
)
never_negative = wrong("robust_dpo", must=("extremes",), may=SPEC, verdict="formula")(
    _robust(lambda kept, flipped, flips: (((1 - flips) * kept - flips * flipped) / (1 - 2 * flips)).clamp(min=0))
)

# -- IPO: one mistake each --------------------------------------------------------------------------------------------


def _ipo(loss):
    """IPO from the difference of log-ratios, by sums or by means."""

    def ipo(*pairs, beta=0.1, log_ratio="sum", chosen_lengths=None, rejected_lengths=None):
        chosen, rejected = _log_ratios(*pairs)
        if log_ratio == "mean":
            chosen, rejected = chosen / chosen_lengths.to(chosen), rejected / rejected_lengths.to(chosen)
        return loss(chosen - rejected, beta).mean()

    return ipo


target_of_one_over_beta = wrong("ipo", must=("value", "gradient"), may=SPEC)(_ipo(lambda h, beta: (h - 1 / beta) ** 2))
beta_on_the_log_ratio = wrong("ipo", must=("value", "gradient"), may=SPEC)(
    _ipo(lambda h, beta: (beta * h - 1 / 2) ** 2)
)
half_of_the_square = wrong("ipo", must=("value", "gradient"), may=SPEC)(
    _ipo(lambda h, beta: (h - 1 / (2 * beta)) ** 2 / 2)
)
hinge = wrong("ipo", must=("extremes",), may=SPEC, verdict="formula")(
    _ipo(lambda h, beta: (1 / (2 * beta) - h).clamp(min=0) ** 2)
)


@wrong("ipo", must=("options",), may=("extremes",))
def sums_for_means(*pairs, beta=0.1, log_ratio="sum", chosen_lengths=None, rejected_lengths=None):
    """Takes lengths and ignores them."""
    return pair_by_pair(*pairs, beta=beta)


@wrong("ipo", must=("value", "gradient"), may=SPEC)
def without_reference(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1):
    """The difference of the policy's log-probabilities only."""
    zero = torch.zeros_like(ref_chosen_logps)
    return pair_by_pair(chosen_logps, rejected_logps, zero, zero, beta=beta)

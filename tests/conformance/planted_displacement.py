"""DPO-Positive's loss to check: correct in another style, wrong with one mistake each, and the bound of its error."""

import torch
from torch.nn.functional import relu, softplus

from .stated import log_ratios
from .table import KINKED, TERMS, bound, correct, wrong

BOTH = ("value", "gradient")


@bound("dpop_per_pair", 8, "8·u·(β(1 + λ)|Δ_w| + β|Δ_l| + 1)")
def positive_scales(case, answer):
    """β(1 + λ)|Δ_w| + β|Δ_l| + 1."""
    chosen, rejected = log_ratios(case)
    return (case.options["beta"] * ((1 + case.options["penalty_weight"]) * chosen + rejected) + 1).tolist()


def _pairs(loss):
    """The loss of each pair, from log-ratios, β and λ."""

    def per_pair(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, beta=0.1, penalty_weight=50.0):
        wide = torch.promote_types(chosen_logps.dtype, torch.float32)
        chosen = chosen_logps.to(wide) - ref_chosen_logps.detach().to(wide)
        rejected = rejected_logps.to(wide) - ref_rejected_logps.detach().to(wide)
        return loss(chosen, rejected, beta, penalty_weight)

    return per_pair


def _mean(per_pair):
    """The mean of the loss of each pair."""

    def mean(*pairs, denominator=None, **options):
        losses = per_pair(*pairs, **options)
        return losses.sum() / (denominator or len(losses))

    return mean


def _counted(chosen, rejected, beta, weight):
    """The preferred response counts 1 + λ times where it has fallen."""
    return softplus(-beta * (torch.where(chosen < 0, (1 + weight) * chosen, chosen) - rejected))


MISTAKES = {
    "DPO": lambda w, l, beta, weight: softplus(-beta * (w - l)),
    "the price outside of β": lambda w, l, beta, weight: softplus(-beta * (w - l) + weight * relu(-w)),
    "the price outside of the sigmoid": lambda w, l, beta, weight: softplus(-beta * (w - l)) + beta * weight * relu(-w),
    "a price of a rise": lambda w, l, beta, weight: softplus(-beta * (w - l - weight * relu(w))),
    "a reward of a fall": lambda w, l, beta, weight: softplus(-beta * (w - l + weight * relu(-w))),
    "a price of the other's fall": lambda w, l, beta, weight: softplus(-beta * (w - l - weight * relu(-l))),
    "a price of the fall of the margin": lambda w, l, beta, weight: softplus(-beta * (w - l - weight * relu(l - w))),
}

in_another_style = correct("dpop")(_mean(_pairs(_counted)))
of_each_pair = correct("dpop_per_pair")(_pairs(_counted))
for name, mistake in MISTAKES.items():
    wrong("dpop", name, must=BOTH, may=KINKED)(_mean(_pairs(mistake)))
    wrong("dpop_per_pair", name, must=BOTH, may=(*TERMS, "kinks"))(_pairs(mistake))

#: The sigmoid rounds to 0, and its logarithm is −∞.
naive = wrong("dpop", must=("extremes",), may=KINKED, verdict="formula")(  # margins reach −100
    _mean(_pairs(lambda w, l, beta, weight: -torch.sigmoid(beta * (w - l - weight * relu(-w))).log()))
)

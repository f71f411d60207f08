"""Pointwise losses to check: correct in another style, wrong with one mistake each, and bounds of their errors."""

import torch
from torch.nn.functional import softplus

from .stated import log_ratios
from .table import SPEC, TERMS, bound, correct, wrong

BOTH = ("value", "gradient")


@bound("kto_per_sequence", 8, "8·u·λ·(β|ℓ − ℓ^ref| + β·z₀ + 1)")
def labelled_scales(case, answer):
    """λ·(β|ℓ − ℓ^ref| + β·z₀ + 1)."""
    distances = (case.tensors["logps"].double() - case.tensors["ref_logps"].double()).abs()
    weights = torch.where(case.tensors["labels"], *(case.options[f"{x}desirable_weight"] for x in ("", "un")))
    return (weights * (case.options["beta"] * (distances + case.options["anchor"]) + 1)).tolist()


@bound("pointwise_per_pair", 8, "|error| ≤ 8·u·(s + 1), for sppo 8·u·((s + 1)/β)²")
def reward_scales(case, answer):
    """s + 1, for SPPO ((s + 1)/β)²."""
    beta = case.options["beta"]
    sizes = beta * sum(log_ratios(case)) + abs(case.options["reward_shift"]) + 1
    return ((sizes / beta) ** 2 if case.options["kind"] == "sppo" else sizes).tolist()


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _mean(each):
    """The mean of the loss of each row."""

    def mean(*rows, denominator=None, **options):
        losses = each(*rows, **options)
        return losses.sum() / (denominator or len(losses))

    return mean


# -- KTO --------------------------------------------------------------------------------------------------------------


def _labelled(loss):
    """The loss of each response, from Δ, its label, β, z₀, λ_D and λ_U."""

    def per_sequence(logps, ref_logps, labels, *, anchor, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0):
        ratios = _wide(logps) - _wide(ref_logps).detach()
        return loss(ratios, labels.bool(), beta, anchor, desirable_weight, undesirable_weight)

    return per_sequence


def _kto(ratios, labels, beta, anchor, desirable, undesirable):
    """1/(1 + e^u) by softplus."""
    u = beta * (ratios - anchor)
    return torch.where(labels, desirable * torch.exp(-softplus(u)), undesirable * torch.exp(-softplus(-u)))


KTO_MISTAKES = {
    "without the anchor": lambda x, y, b, z, d, u: _kto(x, y, b, 0.0, d, u),
    "the anchor scales": lambda x, y, b, z, d, u: _kto(x * (1 + z), y, b, 0.0, d, u),
    "the anchor is a reward": lambda x, y, b, z, d, u: _kto(x, y, b, z / b, d, u),
    "weights exchanged": lambda x, y, b, z, d, u: _kto(x, y, b, z, u, d),
    "labels exchanged": lambda x, y, b, z, d, u: _kto(x, ~y, b, z, u, d),
    "the logarithm of σ": lambda x, y, b, z, d, u: torch.where(
        y, d * softplus(-b * (x - z)), u * softplus(b * (x - z))
    ),
    "the anchor of the other side": lambda x, y, b, z, d, u: _kto(x, y, b, torch.where(y, z, -z), d, u),
}
kto_in_another_style = correct("kto")(_mean(_labelled(_kto)))
kto_of_each_response = correct("kto_per_sequence")(_labelled(_kto))
for name, mistake in KTO_MISTAKES.items():
    must = ("options",) if name == "weights exchanged" else BOTH
    wrong("kto", name, must=must, may=SPEC)(_mean(_labelled(mistake)))
    wrong("kto_per_sequence", name, must=must, may=TERMS)(_labelled(mistake))


@wrong("kto", must=("gradient",), may=(*SPEC, "partition"))
def anchor_of_the_batch_is_differentiated(*rows, denominator=None, anchor, **options):
    """Adds to z₀ what is 0 and has the slope of the mean log-ratio."""
    ratios = _wide(rows[0]) - _wide(rows[1])
    moving = ratios.mean() - ratios.mean().detach()
    losses = _labelled(_kto)(*rows, anchor=anchor + moving, **options)
    return losses.sum() / (denominator or len(losses))


# -- pairs ------------------------------------------------------------------------------------------------------------


def _pairs(loss):
    """The loss of each pair, from both log-ratios, the kind, β and δ."""

    def per_pair(chosen_logps, rejected_logps, ref_chosen, ref_rejected, *, kind, beta=0.1, reward_shift=0.0):
        chosen = _wide(chosen_logps) - _wide(ref_chosen).detach()
        rejected = _wide(rejected_logps) - _wide(ref_rejected).detach()
        return loss(chosen, rejected, kind, beta, reward_shift)

    return per_pair


def _kinds(**other):
    """The losses in another style, some of them replaced by a function of both rewards, β and δ."""

    def loss(chosen, rejected, kind, beta, shift):
        w, l = beta * chosen, beta * rejected
        if kind in other:
            return other[kind](w, l, beta, shift)
        if kind == "bco":
            return softplus(shift - w) + softplus(l - shift)
        if kind == "nca":
            return 1.5 * softplus(-w) + w / 2 + softplus(l) / 2
        if kind == "sppo":
            return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2
        if kind == "apo_zero":
            return torch.exp(-softplus(w)) + torch.exp(-softplus(-l))
        return torch.exp(-softplus(-w)) + torch.exp(-softplus(w - l))

    return loss


MISTAKES = {
    "BCO without the shift": {"bco": lambda w, l, b, s: softplus(-w) + softplus(l)},
    "BCO with the shift added": {"bco": lambda w, l, b, s: softplus(-s - w) + softplus(l + s)},
    "DPO for BCO": {"bco": lambda w, l, b, s: softplus(l - w)},
    "NCA without the half": {"nca": lambda w, l, b, s: softplus(-w) + softplus(w) + softplus(l)},
    "NCA without the noise of the chosen": {"nca": lambda w, l, b, s: softplus(-w) + softplus(l) / 2},
    "APO-down for APO-zero": {"apo_zero": lambda w, l, b, s: w.sigmoid() + (l - w).sigmoid()},
    "APO-zero with the rejected raised": {"apo_zero": lambda w, l, b, s: (-w).sigmoid() + (-l).sigmoid()},
    "APO-down against 0": {"apo_down": lambda w, l, b, s: w.sigmoid() + l.sigmoid()},
    "IPO for SPPO": {"sppo": lambda w, l, b, s: ((w - l - 0.5) / b) ** 2},
    "targets of 1/β for SPPO": {"sppo": lambda w, l, b, s: ((w - 1) / b) ** 2 + ((l + 1) / b) ** 2},
    "one target for SPPO": {"sppo": lambda w, l, b, s: ((w - 0.5) / b) ** 2 + ((l - 0.5) / b) ** 2},
}
pairs_in_another_style = correct("pointwise")(_mean(_pairs(_kinds())))
of_each_pair = correct("pointwise_per_pair")(_pairs(_kinds()))
for name, mistake in MISTAKES.items():
    must = BOTH if "bco" in mistake and "shift" not in name else ("options",)
    wrong("pointwise", name, must=must, may=SPEC)(_mean(_pairs(_kinds(**mistake))))
    wrong("pointwise_per_pair", name, must=must, may=TERMS)(_pairs(_kinds(**mistake)))

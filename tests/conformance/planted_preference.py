"""Losses of a margin to check: correct in another style, wrong with one mistake each, and bounds of their errors."""

import math

import torch
from torch.nn.functional import logsigmoid, softplus

from .bounds import middle
from .stated import log_ratios
from .table import SPEC, TERMS, bound, correct, wrong

BOTH = ("value", "gradient")


def _sizes(case):
    """β|l_w − l_w^ref|/n_w + β|l_l − l_l^ref|/n_l + |γ|."""
    chosen, rejected = log_ratios(case)
    if case.options["log_ratio"] == "mean":
        chosen, rejected = chosen / case.tensors["chosen_lengths"], rejected / case.tensors["rejected_lengths"]
    return (case.options["beta"] * (chosen + rejected) + abs(case.options["target_margin"])).tolist()


@bound(
    "preference_per_pair", 8,
    "8·u·(s + 1) for sigmoid and hinge, 8·u·((s + ½)/β)² for ipo, 8·u·(s + 1)·|value| for exponential, "
    "8·u·(s + 1)·log(2/ε) for exo",
)  # fmt: skip
def margin_scales(case, answer):
    """s + 1, for the exponential times the value, for EXO times log(2/ε)."""
    sizes = [size + 1 for size in _sizes(case)]
    if case.options["kind"] == "exponential":
        return [size * abs(middle(target)) for size, target in zip(sizes, answer.values, strict=True)]
    return [
        size * (math.log(2 / case.options["label_smoothing"]) if case.options["kind"] == "exo" else 1) for size in sizes
    ]


@bound("simpo_per_pair", 8, "8·u·(β|l_w|/n_w + β|l_l|/n_l + |γ| + 1)")
def simpo_scales(case, answer):
    """β|l_w|/n_w + β|l_l|/n_l + |γ| + 1."""
    means = sum(
        case.tensors[f"{s}_logps"].double().abs() / case.tensors[f"{s}_lengths"] for s in ("chosen", "rejected")
    )
    return (case.options["beta"] * means + abs(case.options["target_margin"]) + 1).tolist()


def _wide(*tensors):
    return [x.to(torch.promote_types(tensors[0].dtype, torch.float32)) for x in tensors]


# -- functions of the margin ------------------------------------------------------------------------------------------


def _at_margins(loss, scores=lambda chosen, rejected, *ref: (chosen - ref[0].detach(), rejected - ref[1].detach())):
    """The loss of each pair, from a function of the margin, the kind and ε, and from what is compared."""

    def per_pair(
        *pairs, kind, beta=0.1, target_margin=0.0, label_smoothing=0.0, log_ratio="sum",
        chosen_lengths=None, rejected_lengths=None,
    ):  # fmt: skip
        chosen, rejected = scores(*_wide(*pairs))
        if log_ratio == "mean":
            chosen, rejected = chosen / chosen_lengths.to(chosen), rejected / rejected_lengths.to(chosen)
        return loss(beta * (chosen - rejected) - target_margin, kind, label_smoothing)

    return per_pair


def _mean(per_pair):
    """The mean of the loss of each pair."""

    def mean(*pairs, denominator=None, **options):
        losses = per_pair(*pairs, **options)
        return losses.sum() / (denominator or len(losses))

    return mean


def _kinds(**other):
    """The functions of the margin in another style, some of them replaced."""

    def loss(margin, kind, smoothing):
        if kind in other:
            return other[kind](margin, smoothing)
        if kind == "hinge":
            return torch.where(margin < 1, 1 - margin, 0)
        return _exponential(margin) if kind == "exponential" else _divergence(margin, smoothing)

    return loss


def _exponential(margin):
    """exp that saturates and keeps its slope."""
    ceiling = math.log(torch.finfo(margin.dtype).max) - 20
    return torch.exp(-margin - (-margin.detach() - ceiling).clamp(min=0))


def _divergence(margin, smoothing):
    """Entropies apart: Σ σ·log σ − Σ σ·log of the labels."""
    kept = torch.exp(-softplus(-margin))
    flipped = torch.exp(-softplus(margin))
    entropy = kept * softplus(-margin) + flipped * softplus(margin)
    return -entropy - kept * math.log(1 - smoothing) - flipped * math.log(smoothing)


MISTAKES = {
    "hinge at 0": _kinds(hinge=lambda m, _: (-m).clamp(min=0)),
    "squared hinge": _kinds(hinge=lambda m, _: (1 - m).clamp(min=0).square()),
    "exponential of the margin": _kinds(exponential=lambda m, _: _exponential(-m)),
    "cDPO for EXO": _kinds(exo=lambda m, e: (1 - e) * softplus(-m) + e * softplus(m)),
    "the other divergence for EXO": _kinds(
        exo=lambda m, e: (1 - e) * (math.log(1 - e) + softplus(-m)) + e * (math.log(e) + softplus(m))
    ),
}
in_another_style = correct("preference")(_mean(_at_margins(_kinds())))
of_each_pair = correct("preference_per_pair")(_at_margins(_kinds()))
for name, mistake in MISTAKES.items():
    must = BOTH if "EXO" not in name and "exponential" not in name else ("options",)
    wrong("preference", name, must=must, may=SPEC)(_mean(_at_margins(mistake)))
    wrong("preference_per_pair", name, must=must, may=TERMS)(_at_margins(mistake))


def _of_policy(chosen, rejected, *_):
    return chosen, rejected


without_reference = wrong("preference", must=BOTH, may=SPEC)(_mean(_at_margins(_kinds(), _of_policy)))


@wrong("preference", must=("options",), may=("extremes",))
def target_outside(*pairs, kind, target_margin=0.0, denominator=None, **options):
    """Subtracts γ from the loss."""
    losses = _at_margins(_kinds())(*pairs, kind=kind, **options) - target_margin
    return losses.sum() / (denominator or len(losses))


def _naive(margin, smoothing):
    """0·log 0 where a sigmoid rounds to 0."""
    kept = torch.sigmoid(margin)
    return kept * (kept / (1 - smoothing)).log() + (1 - kept) * ((1 - kept) / smoothing).log()


not_a_number = wrong("preference", must=("extremes",), may=("options",), verdict="robustness")(
    _mean(_at_margins(_kinds(exo=_naive)))
)

# -- SimPO ------------------------------------------------------------------------------------------------------------


def _simpo(loss):
    """The loss of each pair, from sums, lengths, β and γ."""

    def per_pair(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths, *, beta=2.0, target_margin=0.5):
        return loss(*_wide(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths), beta, target_margin)

    return per_pair


def _means(w, l, n, k, beta, target):
    return softplus(target - beta * (w / n - l / k))


SIMPO_MISTAKES = {
    "γ outside the sigmoid": lambda w, l, n, k, beta, target: -logsigmoid(beta * (w / n - l / k)) + target,
    "γ/β taken for γ": lambda w, l, n, k, beta, target: -logsigmoid(beta * (w / n - l / k - target)),
    "mean over the padded length": lambda w, l, n, k, beta, target: _means(
        w, l, torch.maximum(n, k), torch.maximum(n, k), beta, target
    ),
    "sums": lambda w, l, n, k, beta, target: -logsigmoid(beta * (w - l) - target),
    "γ added": lambda w, l, n, k, beta, target: -logsigmoid(beta * (w / n - l / k) + target),
    "mean over the batch of lengths": lambda w, l, n, k, beta, target: _means(w, l, n.mean(), k.mean(), beta, target),
}
with_softplus = correct("simpo")(_mean(_simpo(_means)))
with_softplus_of_each_pair = correct("simpo_per_pair")(_simpo(_means))
for name, mistake in SIMPO_MISTAKES.items():
    if name == "mean over the batch of lengths":
        wrong("simpo", name, must=BOTH, may=(*SPEC, "partition"))(_mean(_simpo(mistake)))
        continue
    wrong("simpo", name, must=BOTH, may=SPEC)(_mean(_simpo(mistake)))
    wrong("simpo_per_pair", name, must=BOTH, may=TERMS)(_simpo(mistake))


@wrong("simpo", must=("extremes",), may=("value", "gradient", "options"), verdict="formula")  # margins reach 100
def naive(*pairs, denominator=None, **options):
    """The logarithm of a sigmoid that has rounded to 0."""
    losses = _simpo(lambda w, l, n, k, beta, target: -torch.sigmoid(beta * (w / n - l / k) - target).log())(
        *pairs, **options
    )
    return losses.sum() / (denominator or len(losses))


# -- CPO --------------------------------------------------------------------------------------------------------------


@bound("cpo_per_pair", 8, "8·u·(β|l_w| + β|l_l| + λ|l_w|/n_w + 1)")
def cpo_scales(case, answer):
    """β|l_w| + β|l_l| + λ|l_w|/n_w + 1."""
    chosen, rejected = (case.tensors[f"{s}_logps"].double().abs() for s in ("chosen", "rejected"))
    likelihood = case.options["nll_weight"] * chosen / case.tensors["chosen_lengths"].double()
    return (case.options["beta"] * (chosen + rejected) + likelihood + 1).tolist()


def _cpo(loss):
    """The loss of each pair, from sums, the length, β and λ."""

    def per_pair(chosen_logps, rejected_logps, chosen_lengths, *, beta=0.1, nll_weight=1.0):
        return loss(*_wide(chosen_logps, rejected_logps, chosen_lengths), beta, nll_weight)

    return per_pair


CPO_MISTAKES = {
    "no likelihood": lambda w, l, n, beta, weight: softplus(beta * (l - w)),
    "the sum of the likelihood": lambda w, l, n, beta, weight: softplus(beta * (l - w)) - weight * w,
    "the likelihood inside the sigmoid": lambda w, l, n, beta, weight: softplus(beta * (l - w) - weight * w / n),
    "the likelihood with a plus": lambda w, l, n, beta, weight: softplus(beta * (l - w)) + weight * w / n,
    "the likelihood of the other response": lambda w, l, n, beta, weight: softplus(beta * (l - w)) - weight * l / n,
    "the margin of means": lambda w, l, n, beta, weight: softplus(beta * (l - w) / n) - weight * w / n,
    "all tokens of the batch": lambda w, l, n, beta, weight: softplus(beta * (l - w)) - weight * w.sum() / n.sum(),
}


def _with_likelihood(w, l, n, beta, weight):
    return softplus(beta * (l - w)) - weight * w / n


cpo_in_another_style = correct("cpo")(_mean(_cpo(_with_likelihood)))
cpo_of_each_pair = correct("cpo_per_pair")(_cpo(_with_likelihood))
for name, mistake in CPO_MISTAKES.items():
    if name == "all tokens of the batch":
        wrong("cpo", name, must=BOTH, may=(*SPEC, "partition"))(_mean(_cpo(mistake)))
        continue
    wrong("cpo", name, must=BOTH, may=SPEC)(_mean(_cpo(mistake)))
    wrong("cpo_per_pair", name, must=BOTH, may=TERMS)(_cpo(mistake))

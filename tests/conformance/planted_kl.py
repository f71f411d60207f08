"""Divergences to check: correct ones in another style than the kernels, and wrong ones, each with one mistake."""

import math

import torch
from torch.nn.functional import kl_div

from .table import TERMS, correct, wrong

# -- estimates --------------------------------------------------------------------------------------------------------


def _wide(logps, ref_logps):
    dtype = torch.promote_types(logps.dtype, torch.float32)
    return logps.to(dtype), ref_logps.to(dtype)


@correct("kl_estimate")
def polynomial_estimate(logps, ref_logps, estimator="k3"):
    """k3 as a series where the policies are close; a ratio that overflows goes on as a straight line."""
    logps, ref_logps = _wide(logps, ref_logps)
    x = ref_logps - logps
    if estimator == "k1":
        return -x
    if estimator == "k2":
        return torch.pow(x, 2).div(2)
    ceiling = math.log(torch.finfo(x.dtype).max) - 20
    x = x - (x.detach() - ceiling).clamp(min=0)
    series = x * x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7)))))
    return torch.where(x.abs() < 1e-2, series, x.exp() - (1 + x))


@correct("kl_estimate")
def textbook_estimate(logps, ref_logps, estimator="k3"):
    """The usual code. Right, but a ratio that overflows gives inf."""
    logps, ref_logps = _wide(logps, ref_logps)
    x = ref_logps - logps
    return {"k1": -x, "k2": x**2 / 2, "k3": x.exp() - x - 1}[estimator]


def _estimate(k1=lambda x: -x, k2=lambda x: x * x / 2, k3=lambda x: x.expm1() - x):
    """An estimate with some of the three replaced, given x = log ref − log π."""

    def kl_estimate(logps, ref_logps, estimator="k3"):
        logps, ref_logps = _wide(logps, ref_logps)
        x = ref_logps - logps
        return {"k1": k1, "k2": k2, "k3": k3}[estimator](x)

    return kl_estimate


k3_turned = wrong("kl_estimate", must=("value", "gradient", "expectation"), may=TERMS)(
    _estimate(k3=lambda x: (-x).expm1() + x)
)
k3_plus = wrong("kl_estimate", must=("value", "gradient"), may=(*TERMS, "expectation"))(
    _estimate(k3=lambda x: x.expm1() + x)
)
k1_turned = wrong("kl_estimate", must=("options",), may=("extremes",))(_estimate(k1=lambda x: x))
k2_without_half = wrong("kl_estimate", must=("options",), may=("extremes",))(_estimate(k2=lambda x: x * x))
k3_clamped = wrong("kl_estimate", must=("extremes",), may=(*TERMS, "expectation"), verdict="formula")(
    _estimate(k3=lambda x: x.clamp(-10, 10).expm1() - x.clamp(-10, 10))
)
k3_with_the_gradient_of_k2 = wrong(
    "kl_estimate", must=("gradient", "expectation"), may=("cotangents", "options", "extremes")
)(_estimate(k3=lambda x: (x.expm1() - x).detach() + x * x / 2 - (x * x / 2).detach()))
estimate_of_a_constant_ratio = wrong(
    "kl_estimate", must=("gradient", "expectation"), may=("cotangents", "options", "extremes")
)(_estimate(k3=lambda x: x.detach().expm1() - x))
estimate_without_gradient = wrong(
    "kl_estimate", must=("gradient", "expectation"), may=("cotangents", "options", "extremes")
)(_estimate(k3=lambda x: (x.expm1() - x).detach()))


@wrong("kl_estimate", must=("options",), may=("extremes",))
def estimator_ignored(logps, ref_logps, estimator="k3"):
    """Always k3."""
    return textbook_estimate(logps, ref_logps, "k3")


# -- over the vocabulary ----------------------------------------------------------------------------------------------


@correct("categorical_kl")
def from_torch(logits, other_logits):
    """PyTorch's own divergence, which takes the other distribution first; forbidden tokens left out by hand."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    own, other = (torch.log_softmax(x.to(dtype), -1) for x in (logits, other_logits))
    forbidden = own == -math.inf
    terms = kl_div(other.masked_fill(forbidden, 0), own.masked_fill(forbidden, 0), reduction="none", log_target=True)
    return terms.masked_fill(forbidden, 0).sum(-1)


@wrong("categorical_kl", must=("value", "gradient"), may=("cotangents", "forbidden tokens", "extremes"))
def arguments_of_torch_confused(logits, other_logits):
    """kl_div takes the other distribution first."""
    return from_torch(other_logits, logits)


@wrong("categorical_kl", must=("forbidden tokens",))
def forbidden_tokens_are_nan(logits, other_logits):
    """0 · (−∞) in the sum."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    own, other = (torch.log_softmax(x.to(dtype), -1) for x in (logits, other_logits))
    return (own.exp() * (own - other)).sum(-1)


@wrong("categorical_kl", must=("forbidden tokens", "extremes"), may=("value", "gradient", "cotangents"))
def log_of_softmax(logits, other_logits):
    """The logarithm of a probability that has underflowed."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    own, other = (torch.softmax(x.to(dtype), -1) for x in (logits, other_logits))
    terms = own * (own / other).log()
    return torch.where(own == 0, 0, terms).sum(-1)


@wrong("categorical_kl", must=("gradient",), may=("cotangents", "forbidden tokens", "extremes"))
def other_side_detached(logits, other_logits):
    """As where the other side is a frozen reference."""
    return from_torch(logits, other_logits.detach()) + 0 * other_logits.nan_to_num(0, 0, 0).sum(-1)


@wrong("categorical_kl", must=("value", "gradient"), may=("cotangents", "forbidden tokens", "extremes"))
def mean_over_the_vocabulary(logits, other_logits):
    """The default reduction of PyTorch's function."""
    return from_torch(logits, other_logits) / logits.shape[-1]

"""f-DPO's loss to check: correct in another style, wrong with one mistake each, and the bound of its error."""

import math

import torch
from torch.nn.functional import logsigmoid, softplus

from grape_verified.numerics import exp_limit

from .table import SPEC, TERMS, bound, correct, wrong

BOTH = ("value", "gradient")


@bound(
    "f_dpo_per_pair", 8,
    "8·u·(β·t_w + β·t_l + 1), where nothing saturates. For the reverse KL and Jensen-Shannon t = |Δ| + 1; else t = "
    "(1 + |a·Δ|)(e^(aΔ) + 1)/|a|",
)  # fmt: skip
def score_scales(case, answer):
    """β·t_w + β·t_l + 1; no bound where an exponent saturates."""
    a = _exponent(case.options["divergence"], case.options["alpha"])
    tensors = {name: tensor.double() for name, tensor in case.tensors.items()}
    ratios = [tensors[f"{side}_logps"] - tensors[f"ref_{side}_logps"] for side in ("chosen", "rejected")]
    limit = exp_limit(torch.promote_types(case.dtype, torch.float32)) + math.log(min(1, abs(a)) or 1)
    sizes = [
        torch.where(a * x < limit, (1 + (a * x).abs()) * ((a * x).exp() + 1) / abs(a), math.inf) if a else x.abs() + 1
        for x in ratios
    ]
    return (case.options["beta"] * sum(sizes) + 1).tolist()


def _exponent(divergence, alpha):
    """a = α − 1, for the forward KL −1; 0 for what is no power."""
    return -1.0 if divergence == "forward_kl" else (alpha - 1 if divergence == "alpha" else 0.0)


def _mean(margin):
    """The mean of the loss of each pair."""

    def mean(*pairs, denominator=None, **options):
        losses = _pairs(margin)(*pairs, **options)
        return losses.sum() / (denominator or len(losses))

    return mean


def _pairs(margin):
    """The loss of each pair, from the margin over β: of both log-ratios, the divergence, α and the dtype."""

    def per_pair(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, *, divergence, beta=0.1, alpha=0.5
    ):
        wide = torch.promote_types(chosen_logps.dtype, torch.float32)
        chosen = chosen_logps.to(wide) - ref_chosen_logps.detach().to(wide)
        rejected = rejected_logps.to(wide) - ref_rejected_logps.detach().to(wide)
        return softplus(-beta * margin(chosen, rejected, divergence, alpha)).to(wide)

    return per_pair


def _plain(chosen, rejected, divergence, alpha):
    """As the formula stands."""
    if divergence == "jensen_shannon":
        return logsigmoid(chosen) - logsigmoid(rejected)
    a = _exponent(divergence, alpha)
    return ((a * chosen).exp() - (a * rejected).exp()) / a if a else chosen - rejected


def _in_double(chosen, rejected, divergence, alpha):
    """The margin in fp64, where nothing overflows; of exponents that leave the range, the slopes saturate."""
    largest = torch.finfo(chosen.dtype).max
    a, wide = _exponent(divergence, alpha), (chosen.double(), rejected.double())
    exact = _plain(*wide, divergence, alpha)
    if not a:
        return exact
    kept = [x - (a * x.detach() - math.log(largest) + 20).clamp(min=0) / a for x in wide]
    slopes = _plain(*kept, divergence, alpha)
    return slopes + (exact.detach().clamp(-1e-9 * largest, 1e-9 * largest) - slopes.detach())


def _inverse(chosen, rejected, divergence, alpha):
    return -_plain(-chosen, -rejected, divergence, alpha)


def _of_the_difference(chosen, rejected, divergence, alpha):
    return _plain(chosen - rejected, 0 * rejected, divergence, alpha)


def _log_ratio(chosen, rejected, divergence, alpha):
    return chosen - rejected


def _undivided(chosen, rejected, divergence, alpha):
    return _plain(chosen, rejected, divergence, alpha) * (_exponent(divergence, alpha) or 1)


def _another_order(chosen, rejected, divergence, alpha):
    return _plain(chosen, rejected, divergence, alpha + 1 + (alpha == 0))


def _odds(chosen, rejected, divergence, alpha):
    if divergence != "jensen_shannon":
        return _plain(chosen, rejected, divergence, alpha)
    return logsigmoid(chosen) - logsigmoid(-chosen) - logsigmoid(rejected) + logsigmoid(-rejected)


MISTAKES = {
    "the ratio for its inverse": (BOTH, _inverse),
    "of the difference of the log-ratios": (BOTH, _of_the_difference),
    "DPO, whatever the divergence": (BOTH, _log_ratio),
    "without the division by α − 1": (BOTH, _undivided),
    "α for α − 1": (BOTH, _another_order),
    "the log-odds for log σ": (("options",), _odds),
}
in_another_style = correct("f_dpo")(_mean(_in_double))
of_each_pair = correct("f_dpo_per_pair")(_pairs(_in_double))
for name, (must, mistake) in MISTAKES.items():
    wrong("f_dpo", name, must=must, may=SPEC)(_mean(mistake))
    wrong("f_dpo_per_pair", name, must=must, may=TERMS)(_pairs(mistake))

#: Exponentials that overflow: ∞ − ∞.
overflow = wrong("f_dpo", must=("extremes",))(_mean(_plain))

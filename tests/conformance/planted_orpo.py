"""ORPO's loss to check: correct in another style, wrong with one mistake each, and the bound of its error."""

import torch
from torch.nn.functional import softplus

from .table import SPEC, TERMS, bound, correct, wrong

SIDES = ("chosen", "rejected")


@bound("orpo_per_pair", 8, "8·u·(|l_w|/n_w + λ(|o_w| + |o_l| + 1))")
def odds_scales(case, answer):
    """|l_w|/n_w + λ(|o_w| + |o_l| + 1)."""
    chosen, rejected = (case.tensors[f"{s}_logps"].double() / case.tensors[f"{s}_lengths"].double() for s in SIDES)
    odds = sum((x - (-x.expm1()).log()).abs() for x in (chosen, rejected))
    return (chosen.abs() + case.options["odds_weight"] * (odds + 1)).tolist()


def _pairs(loss):
    """The loss of each pair, from sums, lengths and λ."""

    def per_pair(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths, *, odds_weight=0.1):
        given = chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
        return loss(*(x.to(torch.promote_types(x.dtype, torch.float32)) for x in given), odds_weight)

    return per_pair


def _mean(per_pair):
    """The mean of the loss of each pair."""

    def orpo(*pairs, denominator=None, **options):
        losses = per_pair(*pairs, **options)
        return losses.sum() / (denominator or len(losses))

    return orpo


def _log_odds(logp):
    """Odds as 1/(1/P − 1)."""
    return -torch.log(torch.expm1(-logp.clamp(min=-80))) + (logp - logp.clamp(min=-80))


def _likelihood_and_odds(w, l, n, k, weight, log_odds=_log_odds):
    return -w / n + weight * softplus(log_odds(l / k) - log_odds(w / n))


def _log1p(logp):
    return logp - torch.log1p(-torch.exp(logp))


MISTAKES = {
    "product of the probabilities": lambda w, l, n, k, weight: -w / n + weight * softplus(_log_odds(l) - _log_odds(w)),
    "the ratio of the probabilities": lambda w, l, n, k, weight: -w / n + weight * softplus(l / k - w / n),
    "wrong sign": lambda w, l, n, k, weight: -w / n - weight * softplus(_log_odds(l / k) - _log_odds(w / n)),
    "λ inside the sigmoid": lambda w, l, n, k, weight: (
        -w / n + softplus(weight * (_log_odds(l / k) - _log_odds(w / n)))
    ),
    "the sum in the likelihood": lambda w, l, n, k, weight: -w + weight * softplus(_log_odds(l / k) - _log_odds(w / n)),
    "mean over the padded length": lambda w, l, n, k, weight: _likelihood_and_odds(
        w, l, torch.maximum(n, k), torch.maximum(n, k), weight
    ),
}

in_another_style = correct("orpo")(_mean(_pairs(_likelihood_and_odds)))
of_each_pair = correct("orpo_per_pair")(_pairs(_likelihood_and_odds))
for name, mistake in MISTAKES.items():
    wrong("orpo", name, must=("value", "gradient"), may=SPEC)(_mean(_pairs(mistake)))
    wrong("orpo_per_pair", name, must=("value", "gradient"), may=TERMS)(_pairs(mistake))

#: A response that is nearly certain: NaN, as in Liger 0.8.5 and in TRL before its `log1mexp`.
log1p_of_exp = wrong("orpo", must=("extremes",), verdict="robustness")(
    _mean(_pairs(lambda *pair: _likelihood_and_odds(*pair, log_odds=_log1p)))
)

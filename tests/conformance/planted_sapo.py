"""SAPO's loss to check: correct in another style, and wrong with one mistake each; and the bound of its error."""

import math

import torch

from .bounds import middle
from .stated import distances
from .table import SPEC, TERMS, bound, correct, wrong


@bound("sapo_per_token", 8, "8·u·(τ + 1)·(|logp − old_logp| + 1)·|value|")
def soft_scales(case, answer):
    """(τ + 1)·(|logp − old_logp| + 1)·|value|."""
    gains = case.tensors["advantages"].reshape(len(case.tensors["logps"]), -1).expand_as(case.tensors["logps"])
    tau = torch.where(gains > 0, case.options["temperature_pos"], case.options["temperature_neg"])
    spread = ((tau + 1) * (distances(case) + 1)).flatten().tolist()
    return [x * abs(middle(target)) for x, target in zip(spread, answer.values, strict=True)]


def _ratio(log_ratio):
    """exp that saturates and keeps its slope."""
    ceiling = math.log(torch.finfo(log_ratio.dtype).max) - 20
    return torch.exp(log_ratio - (log_ratio.detach() - ceiling).clamp(min=0))


def _gate(ratio, tau):
    """4σ/τ as 4/τ/(1 + exp(−x)), whose slope keeps its digits where σ rounds to 1."""
    return 4 / tau / (1 + torch.exp(tau * (1 - ratio)))


def _tokens(per_token):
    """A function of each token, from the loss at its log-ratio, its advantage and two temperatures."""

    def terms(logps, old_logps, advantages, *, temperature_pos=1.0, temperature_neg=1.05):
        dtype = torch.promote_types(logps.dtype, torch.float32)
        gains = (advantages if advantages.ndim == 2 else advantages[:, None].expand_as(logps)).detach().to(dtype)
        log_ratio = logps.to(dtype) - old_logps.detach().to(dtype)
        return per_token(log_ratio, gains, *(torch.tensor(x, dtype=dtype) for x in (temperature_pos, temperature_neg)))

    return terms


def _sapo(per_token, mean=lambda x, keep: x.sum(1) / keep.sum(1).clamp(min=1)):
    """A SAPO loss: the mean over sequences of a mean over tokens."""
    terms = _tokens(per_token)

    def sapo(logps, old_logps, advantages, mask, *, temperature_pos=1.0, temperature_neg=1.05, denominator=None):
        keep = mask.bool()
        gains = advantages if advantages.ndim == 2 else advantages[:, None].expand_as(logps)
        given = (torch.where(keep, x, 0) for x in (logps, old_logps, gains))
        x = terms(*given, temperature_pos=temperature_pos, temperature_neg=temperature_neg) * keep
        return mean(x, keep).sum() / (denominator or len(x))

    return sapo


def _soft(d, gain, pos, neg):
    return -gain * _gate(_ratio(d), torch.where(gain > 0, pos, neg))


def _without_factor(d, gain, pos, neg):
    tau = torch.where(gain > 0, pos, neg)
    return _soft(d, gain, pos, neg) * tau / 4


MISTAKES = {
    "factor 4/τ left out": _without_factor,
    "sign dropped": lambda d, gain, pos, neg: -_soft(d, gain, pos, neg),
    "log-ratio in the gate": lambda d, gain, pos, neg: -gain * _gate(1 + d, torch.where(gain > 0, pos, neg)),
    "gate held constant": lambda d, gain, pos, neg: _soft(d.detach(), gain, pos, neg) * _ratio(d),
}


def _by_sigmoid(d, gain, pos, neg):
    """The gate as trainers write it; the slope 4·σ(1 − σ)·ρ·A loses its digits where σ is nearly 1."""
    tau = torch.where(gain > 0, pos, neg)
    return -gain * 4 / tau * torch.sigmoid(tau * (_ratio(d) - 1))


soft = correct("sapo")(_sapo(_soft))
by_sigmoid = correct("sapo")(_sapo(_by_sigmoid))
soft_tokens = correct("sapo_per_token")(_tokens(_soft))
for name, mistake in MISTAKES.items():
    wrong("sapo", name, must=("value", "gradient"), may=SPEC)(_sapo(mistake))
    wrong("sapo_per_token", name, must=("value", "gradient"), may=TERMS)(_tokens(mistake))

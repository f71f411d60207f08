"""Functions of hidden states to check: correct ones in another style than the kernel, and wrong ones, with one mistake.

Those with a single result are checked against `linear_token_logps`, those with two against `linear_token_entropies`.
"""

import itertools
import math

import torch

from .table import SPEC, TERMS, correct, wrong


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


# -- correct, one position at a time ----------------------------------------------------------------------------------


def _soft(z, softcap):
    """c·tanh(z/c); a token that is forbidden stays so."""
    return z if softcap is None else torch.where(z == -math.inf, z, softcap * torch.tanh(z / softcap))


def _one_by_one(hidden, weight, targets, bias, temperatures, mask, softcap):
    """The log-probability and the entropy of each position that counts, over the tokens that are not forbidden."""
    allowed = (bias != -math.inf).nonzero().flatten()
    nothing = 0 * (_wide(weight).sum() + _wide(bias[allowed]).sum())
    logps, entropies = ([nothing] * targets.numel() for _ in range(2))
    for place, (i, t) in enumerate(itertools.product(*map(range, targets.shape))):
        if mask[i, t]:
            scores = [_wide(weight[v]).dot(_wide(hidden[i, t])) + _wide(bias[v]) for v in allowed]
            log_probabilities = (_soft(torch.stack(scores), softcap) / temperatures[i, t]).log_softmax(0)
            logps[place] = log_probabilities[(allowed == targets[i, t]).nonzero().item()]
            entropies[place] = -(log_probabilities.exp() * log_probabilities).sum()
    return torch.stack(logps).reshape(targets.shape), torch.stack(entropies).reshape(targets.shape)


@correct("linear_token_logps")
def logps_one_by_one(hidden, weight, targets, *, bias, mask, temperature=1.0, softcap=None):
    """In plain loops."""
    return _one_by_one(hidden, weight, targets, bias, torch.full(targets.shape, temperature), mask, softcap)[0]


@correct("linear_token_entropies")
def both_one_by_one(hidden, weight, targets, *, bias, temperature, mask, softcap=None):
    """In plain loops; it always returns both."""
    return _one_by_one(hidden, weight, targets, bias, _wide(temperature), mask, softcap)


# -- all at once, from which the wrong ones are made ------------------------------------------------------------------


def _logits(hidden, weight, bias):
    return _wide(hidden) @ _wide(weight).T + _wide(bias)


def _cleaned(hidden, targets, mask):
    keep = mask.bool()
    return torch.where(keep[..., None], hidden, 0), torch.where(keep, targets, 0), keep


def _at(z, targets):
    """The log-probability of the target."""
    return z.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)


def _entropy(z):
    logps = z.log_softmax(-1)
    return -(logps.exp() * logps.masked_fill(logps == -math.inf, 0)).sum(-1)


def _where(keep, x):
    return torch.where(keep, x, 0)


def _of_logps(
    logits=_logits,
    capped=_soft,
    tempered=lambda z, tau: z / tau,
    chosen=_at,
    cleaned=_cleaned,
    masked=_where,
):
    """Log-probabilities with one part replaced."""

    def linear_token_logps(hidden, weight, targets, *, bias, mask, temperature=1.0, softcap=None):
        hidden, targets, keep = cleaned(hidden, targets, mask)
        return masked(keep, chosen(tempered(capped(logits(hidden, weight, bias), softcap), temperature), targets))

    return linear_token_logps


logps = correct("linear_token_logps")(_of_logps())
next_token = wrong("linear_token_logps", must=("value", "gradient", "cotangents"), may=(*SPEC, "forbidden tokens"))(
    _of_logps(chosen=lambda z, targets: _at(z, (targets + 1) % z.shape[-1]))
)
bias_held_constant = wrong(
    "linear_token_logps", must=("gradient", "cotangents"), may=("options", "forbidden tokens", "extremes")
)(_of_logps(logits=lambda hidden, weight, bias: _logits(hidden, weight, bias.detach())))
temperature_without_gradient = wrong(
    "linear_token_logps", must=("options",), may=("gradient", "cotangents", "forbidden tokens", "extremes")
)(_of_logps(tempered=lambda z, tau: z + (z / tau - z).detach()))
temperature_multiplied = wrong("linear_token_logps", must=("options",), may=("extremes",))(
    _of_logps(tempered=lambda z, tau: z * tau)
)
normaliser_held_constant = wrong(
    "linear_token_logps", must=("gradient", "cotangents"), may=("options", "forbidden tokens", "extremes")
)(_of_logps(chosen=lambda z, targets: z.gather(-1, targets[..., None]).squeeze(-1) - z.logsumexp(-1).detach()))
mask_times_garbage = wrong("linear_token_logps", must=("masked values",), may=("forbidden tokens",))(
    _of_logps(
        cleaned=lambda hidden, targets, mask: (hidden, torch.where(mask.bool(), targets, 0), mask),
        masked=lambda keep, x: keep * x,
    )
)
masked_rows_leak = wrong(
    "linear_token_logps",
    must=("gradient", "masked values", "padding", "empty batch"),
    may=("cotangents", "options", "forbidden tokens", "extremes"),
)(
    _of_logps(
        cleaned=lambda hidden, targets, mask: (
            hidden.nan_to_num(0, 0, 0).clamp(-9, 9),
            torch.where(mask.bool(), targets, 0),
            mask.bool(),
        ),
        masked=lambda keep, x: torch.where(keep, x, x - x.detach()),
    )
)
shift_missing = wrong("linear_token_logps", must=("extremes",), may=(*TERMS, "forbidden tokens"))(
    _of_logps(chosen=lambda z, targets: z.gather(-1, targets[..., None]).squeeze(-1) - z.exp().sum(-1).log())
)
bias_at_temperature_one = wrong("linear_token_logps", must=("options",), may=("extremes",))(
    _of_logps(
        logits=lambda hidden, weight, bias: (_wide(hidden) @ _wide(weight).T, _wide(bias)),
        capped=lambda parts, softcap: parts if softcap is None else (_soft(parts[0] + parts[1], softcap), 0),
        tempered=lambda parts, tau: parts[0] / tau + parts[1],
    )
)
cap_left_out = wrong("linear_token_logps", must=("options",), may=("extremes",))(_of_logps(capped=lambda z, softcap: z))
cap_after_the_temperature = wrong("linear_token_logps", must=("options",), may=("extremes",))(
    _of_logps(
        capped=lambda z, softcap: (z, softcap), tempered=lambda z_and_cap, tau: _soft(z_and_cap[0] / tau, z_and_cap[1])
    )
)
cap_without_a_slope = wrong("linear_token_logps", must=("options",), may=("extremes",))(
    _of_logps(capped=lambda z, softcap: z + torch.where(z == -math.inf, 0, _soft(z, softcap) - z).detach())
)
clamped = wrong("linear_token_logps", must=("options",), may=("extremes", "forbidden tokens"))(
    _of_logps(capped=lambda z, softcap: z if softcap is None else z.clamp(-softcap, softcap))
)


def _divided(z, tau):
    """z/τ, and −inf a constant: its slope in τ would be 0 · inf."""
    allowed = z != -math.inf
    return torch.where(allowed, torch.where(allowed, z, 0) / tau[..., None], -math.inf)


def _of_both(
    capped=_soft,
    tempered=_divided,
    chosen=_at,
    entropy=_entropy,
    returned=lambda logps, entropies: (logps, entropies),
):
    """Both results, with one part replaced."""

    def linear_token_entropies(hidden, weight, targets, *, bias, temperature, mask, softcap=None, with_entropy=False):
        hidden, targets, keep = _cleaned(hidden, targets, mask)
        z = tempered(capped(_logits(hidden, weight, bias), softcap), _where(keep, _wide(temperature)) + ~keep)
        pair = returned(_where(keep, chosen(z, targets)), _where(keep, entropy(z)))
        return pair if with_entropy else pair[0]

    return linear_token_entropies


both = correct("linear_token_entropies")(_of_both())
entropy_held_constant = wrong(
    "linear_token_entropies", must=("gradient", "cotangents"), may=("options", "forbidden tokens", "extremes")
)(_of_both(entropy=lambda z: _entropy(z).detach()))
entropy_with_weights_held_constant = wrong(
    "linear_token_entropies", must=("gradient", "cotangents"), may=("options", "forbidden tokens", "extremes")
)(_of_both(entropy=lambda z: -(z.softmax(-1).detach() * z.log_softmax(-1).masked_fill(z == -math.inf, 0)).sum(-1)))
entropy_in_bits = wrong(
    "linear_token_entropies", must=("value", "gradient"), may=("options", "cotangents", "forbidden tokens", "extremes")
)(_of_both(entropy=lambda z: _entropy(z) / math.log(2)))
exchanged = wrong(
    "linear_token_entropies", must=("value",), may=("options", "gradient", "cotangents", "forbidden tokens", "extremes")
)(_of_both(returned=lambda logps, entropies: (entropies, logps)))
temperature_held_constant = wrong(
    "linear_token_entropies", must=("gradient", "cotangents"), may=("options", "forbidden tokens", "extremes")
)(_of_both(tempered=lambda z, tau: _divided(z, tau.detach())))
one_temperature_for_all = wrong(
    "linear_token_entropies",
    must=("value",),
    may=(
        "options",
        "gradient",
        "cotangents",
        "masked values",
        "padding",
        "forbidden tokens",
        "extremes",
        "permutation",
    ),
)(_of_both(tempered=lambda z, tau: _divided(z, tau.mean().expand_as(tau))))
forbidden_tokens_move_the_temperature = wrong("linear_token_entropies", must=("forbidden tokens",))(
    _of_both(tempered=lambda z, tau: z / tau[..., None])
)
forbidden_tokens_are_nan = wrong(
    "linear_token_entropies",
    must=("forbidden tokens",),
    may=(
        "options",
        "extremes",
    ),
)(_of_both(entropy=lambda z: -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)))
cap_without_a_slope_in_the_entropy = wrong(
    "linear_token_entropies", must=("options",), may=("gradient", "cotangents", "forbidden tokens", "extremes")
)(_of_both(capped=lambda z, softcap: z + torch.where(z == -math.inf, 0, _soft(z, softcap) - z).detach()))

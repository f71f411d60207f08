"""Functions without reduction, and the reduction itself: correct ones in another style, and wrong ones."""

import itertools
import math

import torch
from torch.nn.functional import logsigmoid

from .table import KINKED, TERMS, correct, wrong


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _safe_exp(x):
    """exp that saturates and keeps its slope."""
    ceiling = math.log(torch.finfo(x.dtype).max) - 20
    return torch.exp(x - (x.detach() - ceiling).clamp(min=0))


def _of_tokens(loss):
    """The loss of each token, from its log-ratio, its log-probability and its advantage."""

    def per_token(logps, old_logps, advantages):
        gains = advantages[:, None].expand_as(logps) if advantages.ndim == 1 else advantages
        logps, old_logps, gains = _wide(logps), _wide(old_logps), _wide(gains)
        return loss(logps - old_logps, logps, gains)

    return per_token


def _clip(ratio, gains, low, high):
    return -torch.where(gains >= 0, ratio.clamp(max=high), ratio.clamp(min=low)) * gains


# -- PPO, TRPO, REINFORCE, CISPO --------------------------------------------------------------------------------------

ppo = correct("ppo_per_token")(_of_tokens(lambda d, logp, gain: _clip(_safe_exp(d), gain, 0.8, 1.2)))
wrong("ppo_per_token", "no minimum", must=("value", "gradient"), may=(*TERMS, "kinks"))(
    _of_tokens(lambda d, logp, gain: -_safe_exp(d).clamp(0.8, 1.2) * gain)
)
wrong("ppo_per_token", "ratio upside down", must=("value", "gradient"), may=(*TERMS, "kinks"))(
    _of_tokens(lambda d, logp, gain: _clip(_safe_exp(-d), gain, 0.8, 1.2))
)
wrong("ppo_per_token", "advantage of the other sign", must=("value", "gradient"), may=(*TERMS, "kinks"))(
    _of_tokens(lambda d, logp, gain: _clip(_safe_exp(d), -gain, 0.8, 1.2))
)

trpo = correct("trpo_per_token")(_of_tokens(lambda d, logp, gain: -gain * _safe_exp(d)))
wrong("trpo_per_token", "log-ratio for ratio", must=("value", "gradient"), may=("cotangents", "extremes"))(
    _of_tokens(lambda d, logp, gain: -gain * d)
)
wrong("trpo_per_token", "ratio upside down", must=("value", "gradient"), may=("cotangents", "extremes"))(
    _of_tokens(lambda d, logp, gain: -gain * _safe_exp(-d))
)
wrong("trpo_per_token", "ratio held constant", must=("gradient",), may=("cotangents", "extremes"))(
    _of_tokens(lambda d, logp, gain: -gain * _safe_exp(d.detach()) + 0 * d)
)


def _reinforce(loss):
    def per_token(logps, advantages):
        gains = advantages[:, None].expand_as(logps) if advantages.ndim == 1 else advantages
        return loss(_wide(logps), _wide(gains))

    return per_token


reinforce = correct("reinforce_per_token")(_reinforce(lambda logp, gain: -(logp * gain)))
wrong("reinforce_per_token", "wrong sign", must=("value", "gradient"), may=("cotangents", "expectation", "extremes"))(
    _reinforce(lambda logp, gain: logp * gain)
)
wrong(
    "reinforce_per_token",
    "probability for its logarithm",
    must=("value", "gradient"),
    may=("cotangents", "expectation", "extremes"),
)(_reinforce(lambda logp, gain: -gain * logp.exp()))
wrong(
    "reinforce_per_token",
    "positive advantages alone",
    must=("value", "gradient"),
    may=("cotangents", "expectation", "extremes"),
)(_reinforce(lambda logp, gain: -gain.clamp(min=0) * logp))

cispo = correct("cispo_per_token")(_of_tokens(lambda d, logp, gain: -(_safe_exp(d.detach()).clamp(0, 5) * gain * logp)))
wrong("cispo_per_token", "weight differentiated", must=("gradient",), may=("cotangents", "options", "extremes"))(
    _of_tokens(lambda d, logp, gain: -(_safe_exp(d).clamp(0, 5) * gain * logp))
)
wrong("cispo_per_token", "cap without the one", must=("value", "gradient"), may=TERMS)(
    _of_tokens(lambda d, logp, gain: -(_safe_exp(d.detach()).clamp(0, 4) * gain * logp))
)
wrong("cispo_per_token", "ratio alone", must=("value", "gradient"), may=TERMS)(
    _of_tokens(lambda d, logp, gain: -(_safe_exp(d).clamp(0, 5) * gain))
)

# -- GRPO, GSPO -------------------------------------------------------------------------------------------------------


def _grpo(divergence):
    def per_token(logps, old_logps, advantages, *, ref_logps=None, kl_coef=0.0):
        losses = ppo(logps, old_logps, advantages)
        return losses if ref_logps is None else losses + kl_coef * divergence(_wide(ref_logps) - _wide(logps))

    return per_token


grpo = correct("grpo_per_token")(_grpo(lambda below: _safe_exp(below) - 1 - below))
wrong(
    "grpo_per_token", "divergence rewarded", must=("value", "gradient"), may=(*TERMS, "kinks"), options={"kl_coef": 0.1}
)(_grpo(lambda below: below + 1 - _safe_exp(below)))
wrong(
    "grpo_per_token",
    "policy and reference exchanged",
    must=("value", "gradient"),
    may=(*TERMS, "kinks"),
    options={"kl_coef": 0.1},
)(_grpo(lambda below: _safe_exp(-below) - 1 + below))
wrong("grpo_per_token", "k1 for k3", must=("value", "gradient"), may=(*TERMS, "kinks"), options={"kl_coef": 0.1})(
    _grpo(lambda below: -below)
)


def _gspo(log_ratio):
    def per_sequence(logps, old_logps, advantages, mask):
        keep = mask.bool()
        differences = torch.where(keep, _wide(logps) - _wide(old_logps), 0)
        gains = torch.where(keep.any(1), _wide(advantages), 0)
        return _clip(_safe_exp(log_ratio(differences, keep)), gains, 1 - 3e-4, 1 + 4e-4)

    return per_sequence


gspo = correct("gspo_per_sequence")(_gspo(lambda d, keep: d.sum(1) / keep.sum(1).clamp(min=1)))
wrong("gspo_per_sequence", "sum of log-ratios", must=("value", "gradient"), may=(*TERMS, "kinks"))(
    _gspo(lambda d, keep: d.sum(1))
)
wrong("gspo_per_sequence", "mean over padding", must=("value", "gradient"), may=(*TERMS, "kinks"))(
    _gspo(lambda d, keep: d.mean(1))
)
wrong("gspo_per_sequence", "the last token alone", must=("value", "gradient"), may=(*TERMS, "kinks"))(
    _gspo(lambda d, keep: d[:, -1])
)

# -- DPO --------------------------------------------------------------------------------------------------------------


def _of_pairs(loss, **defaults):
    """The loss of each pair, from the difference of its log-ratios."""

    def per_pair(chosen, rejected, ref_chosen, ref_rejected, *, beta=0.1):
        w, l, ref_w, ref_l = map(_wide, (chosen, rejected, ref_chosen, ref_rejected))
        return loss((w - ref_w) - (l - ref_l), beta)

    return per_pair


dpo = correct("dpo_per_pair")(_of_pairs(lambda h, beta: torch.logaddexp(torch.zeros_like(h), -beta * h)))
wrong("dpo_per_pair", "β outside", must=("value", "gradient"), may=TERMS)(
    _of_pairs(lambda h, beta: -beta * logsigmoid(h))
)
wrong("dpo_per_pair", "labels exchanged", must=("value", "gradient"), may=TERMS)(
    _of_pairs(lambda h, beta: -logsigmoid(-beta * h))
)
wrong("dpo_per_pair", "hinge", must=("value", "gradient"), may=TERMS)(
    _of_pairs(lambda h, beta: (1 - beta * h).clamp(min=0))
)

ipo = correct("ipo_per_pair")(_of_pairs(lambda h, beta: (2 * beta * h - 1).square() / (4 * beta * beta)))
wrong("ipo_per_pair", "target of 1/β", must=("value", "gradient"), may=TERMS)(
    _of_pairs(lambda h, beta: (h - 1 / beta) ** 2)
)
wrong("ipo_per_pair", "β on the log-ratio", must=("value", "gradient"), may=TERMS)(
    _of_pairs(lambda h, beta: (beta * h - 0.5) ** 2)
)
wrong("ipo_per_pair", "half of the square", must=("value", "gradient"), may=TERMS)(
    _of_pairs(lambda h, beta: (h - 0.5 / beta) ** 2 / 2)
)


def _robust(combine):
    def per_pair(chosen, rejected, ref_chosen, ref_rejected, *, beta=0.1, flip_probability):
        w, l, ref_w, ref_l = map(_wide, (chosen, rejected, ref_chosen, ref_rejected))
        margin = beta * ((w - ref_w) - (l - ref_l))
        return combine(-logsigmoid(margin), -logsigmoid(-margin), flip_probability)

    return per_pair


robust_dpo = correct("robust_dpo_per_pair")(
    _robust(lambda kept, other, flips: kept + flips * (kept - other) / (1 - 2 * flips))
)
wrong("robust_dpo_per_pair", "not divided", must=("value", "gradient"), may=TERMS)(
    _robust(lambda kept, other, flips: (1 - flips) * kept - flips * other)
)
wrong("robust_dpo_per_pair", "smoothed", must=("value", "gradient"), may=TERMS)(
    _robust(lambda kept, other, flips: (1 - flips) * kept + flips * other)
)
wrong("robust_dpo_per_pair", "divided by one flip", must=("value", "gradient"), may=TERMS)(
    _robust(lambda kept, other, flips: ((1 - flips) * kept - flips * other) / (1 - flips))
)

# -- DAPO -------------------------------------------------------------------------------------------------------------


def _dapo(low=0.8, high=1.28, reduce=lambda x, keep: x.sum() / keep.sum().clamp(min=1)):
    def loss(logps, old_logps, advantages, mask):
        keep = mask.bool()
        gains = advantages[:, None].expand_as(logps) if advantages.ndim == 1 else advantages
        clean = [torch.where(keep, _wide(x), 0) for x in (logps, old_logps, gains)]
        return reduce(_clip(_safe_exp(clean[0] - clean[1]), clean[2], low, high), keep)

    return loss


dapo = correct("dapo")(_dapo())
wrong("dapo", "both clips the same", must=("value", "gradient"), may=KINKED)(_dapo(high=1.2))
wrong("dapo", "the wider clip below", must=("value", "gradient"), may=KINKED)(_dapo(low=0.72, high=1.2))
wrong("dapo", "mean of the means of sequences", must=("value", "gradient"), may=KINKED)(
    _dapo(reduce=lambda x, keep: (x.sum(1) / keep.sum(1).clamp(min=1)).mean())
)

# -- logits and the reduction -----------------------------------------------------------------------------------------


@correct("token_logps")
def token_logps(logits, targets, *, temperature=1.0):
    """One position at a time."""
    z = _wide(logits) / temperature
    rows = [row[y] - row.logsumexp(0) for row, y in zip(z.flatten(0, -2), targets.flatten(), strict=True)]
    return torch.stack(rows).reshape(targets.shape)


@wrong("token_logps", must=("value", "gradient"), may=(*TERMS, "forbidden tokens"))
def shifted(logits, targets, *, temperature=1.0):
    """The token after the target's."""
    return token_logps(logits, (targets + 1) % logits.shape[-1], temperature=temperature)


@wrong("token_logps", must=("options",), may=("extremes",))
def multiplied(logits, targets, *, temperature=1.0):
    """Multiplies by the temperature."""
    return token_logps(logits, targets, temperature=1 / temperature)


@wrong("token_logps", must=("value", "gradient"), may=(*TERMS, "forbidden tokens"))
def probabilities(logits, targets, *, temperature=1.0):
    """Not their logarithms."""
    return token_logps(logits, targets, temperature=temperature).exp()


class _OverwritingLogits(torch.autograd.Function):
    """The log-probabilities, whose backward pass writes the gradient over the logits."""

    @staticmethod
    def forward(ctx, logits, targets, temperature):
        ctx.save_for_backward(logits, targets)
        ctx.temperature = temperature
        return token_logps(logits, targets, temperature=temperature)

    @staticmethod
    def backward(ctx, grad):
        logits, targets = ctx.saved_tensors
        z = _wide(logits) / ctx.temperature
        hit = torch.nn.functional.one_hot(targets, z.shape[-1])
        logits.data.copy_((hit - z.softmax(-1)) * (grad / ctx.temperature)[..., None])
        return logits.data, None, None


@wrong("token_logps", must=("inputs",))
def logits_overwritten(logits, targets, *, temperature=1.0):
    """Saves memory, and breaks a second use of the logits."""
    return _OverwritingLogits.apply(logits, targets, temperature)


@correct("token_entropies")
def token_entropies(logits, *, temperature=1.0):
    """log Σ exp z less the mean of z."""
    z = _wide(logits) / temperature
    mean = (z.softmax(-1) * z.masked_fill(z == -math.inf, 0)).sum(-1)
    return z.logsumexp(-1) - mean


@wrong("token_entropies", must=("value", "gradient"), may=(*TERMS, "forbidden tokens"))
def negative_entropies(logits, *, temperature=1.0):
    """Σ p log p."""
    return -token_entropies(logits, temperature=temperature)


@wrong("token_entropies", must=("value", "gradient"), may=(*TERMS, "forbidden tokens"))
def entropies_in_bits(logits, *, temperature=1.0):
    """With the logarithm to base two."""
    return token_entropies(logits, temperature=temperature) / math.log(2)


@wrong("token_entropies", must=("options",), may=("extremes",))
def entropies_at_one(logits, *, temperature=1.0):
    """At temperature one."""
    return token_entropies(logits)


def _aggregate(divisor):
    def aggregate(per_token, mask, *, denominator=None):
        keep = mask.bool()
        values = torch.where(keep, _wide(per_token), 0)
        return values.sum() / (denominator or divisor(keep))

    return aggregate


@correct("aggregate")
def aggregate(per_token, mask, *, denominator=None):
    """One token at a time."""
    total, count = 0 * _wide(per_token).nan_to_num(0, 0, 0).sum(), 0
    for i, t in itertools.product(*map(range, per_token.shape)):
        if mask[i, t]:
            total, count = total + _wide(per_token[i, t]), count + 1
    return total / (denominator or max(count, 1))


wrong("aggregate", "padding counts", must=("value", "gradient"), may=("options", "padding"))(
    _aggregate(lambda keep: keep.numel())
)
wrong("aggregate", "mean over rows", must=("value", "gradient"), may=("options",))(_aggregate(len))
wrong("aggregate", "no mean", must=("value", "gradient"), may=("options",))(_aggregate(lambda keep: 1))

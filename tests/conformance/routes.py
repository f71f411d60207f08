"""Three routes to the log-probabilities of a loss: from logits, from hidden states, and in one pass.

A contract draws log-probabilities. For each ℓ of them there is a hidden state that is 0 and whose derivative in ℓ is 1:
ℓ less a constant. Its logits are all 0, so that the log-probability of every target is −log V, and the head is such
that its derivative in ℓ is 1. That it is −log V is looked at; then a constant makes it ℓ, without a rounding, so that
a loss sees what was drawn, and what it asks of ℓ goes back through the whole route.
"""

import inspect
import math
from functools import wraps
from types import SimpleNamespace

import torch

from grape_verified import (
    fused_linear_loss,
    grape_advantages,
    grpo_per_token,
    gspo_per_sequence,
    kto_per_sequence,
    linear_token_logps,
    ppo_per_token,
    reinforce_per_token,
    rejection_sampling_loss,
    token_logps,
)
from grape_verified.conformance import CONTRACTS

#: The head: one weight for each token, their mean 0, so that a logit moves its own log-probability by just its weight.
WEIGHTS, TEMPERATURE = (1.0, -1.0, 2.0, -2.0), 2.0
LOGP = -math.log(len(WEIGHTS))

#: What a loss over tokens or pairs differentiates.
LOGPS = {"logps", "chosen_logps"}

#: Two tokens and three columns at once: several tiles either way.
TILE = (2, 3)

#: A sequence of a pair: its log-probability is the sum of two tokens, with a third, masked one between them.
PAIR_MASK = torch.tensor([True, False, True])


def head(logps):
    """Hidden states, weights and targets of some log-probabilities."""
    weight = torch.tensor(WEIGHTS, dtype=logps.dtype)
    targets = torch.arange(logps.numel()).reshape(logps.shape) % len(weight)
    hidden = (logps - logps.detach()) * (TEMPERATURE / weight[targets])
    return hidden.unsqueeze(-1), weight.unsqueeze(-1), targets


def as_drawn(logps, drawn, counted=True, tokens=1):
    """What came by a route, sums of so many log-probabilities, with the values that were drawn.

    Raises: AssertionError if it was not what it should be where it counts, within the bound of `token_logps`.
    """
    sums = tokens * LOGP
    bound = 4 * torch.finfo(logps.dtype).eps / 2 * (2 * abs(sums) + 1)
    wrong = (logps.detach() - sums).abs() > bound
    if (wrong & counted).any():
        raise AssertionError(f"got the log-probability {logps.detach()[wrong & counted][0].item()}, expected {sums}")
    return logps - logps.detach() + drawn.to(logps.dtype)


def from_logits(logps, mask):
    """Through `token_logps`, whose logits are finite."""
    hidden, weight, targets = head(torch.where(mask.bool(), logps, 0))
    return token_logps(hidden * weight.T, targets, temperature=TEMPERATURE)


def from_hidden(logps, mask):
    """Through `linear_token_logps`."""
    return linear_token_logps(*head(logps), mask=mask, temperature=TEMPERATURE, tile=TILE)


def through(route, loss):
    """A loss whose log-probabilities come through a route."""
    signature = inspect.signature(loss)

    def of_sequence(logps):
        tokens, mask = _as_tokens(logps)
        return as_drawn(torch.where(mask, route(tokens, mask), 0).sum(1), logps.detach(), tokens=2)

    @wraps(loss)
    def routed(*tensors, **options):
        bound = signature.bind(*tensors, **options)
        given = bound.arguments
        if "mask" in given:
            logps, mask = given["logps"], given["mask"]
            given["logps"] = as_drawn(route(logps, mask), logps.detach(), mask.bool())
        else:
            given |= {name: of_sequence(given[name]) for name in LOGPS & set(given)}
        return loss(*bound.args, **bound.kwargs)

    return routed


def _as_tokens(logps):
    """A token of each sequence that carries its log-probability, one that is masked and one that is constant."""
    nothing = torch.zeros_like(logps)
    return torch.stack([logps, nothing * math.nan, nothing], 1), PAIR_MASK.expand(len(logps), 3)


# -- in one pass ------------------------------------------------------------------------------------------------------


def fused(a, loss_fn, inputs, logps, mask, **options):
    """`fused_linear_loss` with the head of some log-probabilities."""
    inputs = {name: x.detach() for name, x in inputs.items()}
    return fused_linear_loss(
        *head(logps),
        loss_fn,
        inputs=inputs,
        mask=mask,
        temperature=TEMPERATURE,
        tile=TILE,
        denominator=a.denominator,
        **options,
    )


def over_tokens(per_token, inputs=(), options=(), **fixed):
    """A loss over tokens: what else it reads, and its options."""

    def loss(a):
        def terms(logps, drawn, **read):
            return per_token(as_drawn(logps, drawn), **read, **{name: getattr(a, name) for name in options})

        read = {name: getattr(a, name) for name in inputs if getattr(a, name) is not None}
        reduction = {name: fixed.get(name, getattr(a, name, None)) for name in ("aggregation", "max_length")}
        return fused(a, terms, read | {"drawn": a.logps}, a.logps, a.mask, **reduction)

    return loss


def rejection_sampling(a):
    """The weights of the tokens that are kept are those of tokens whose log-probability is −1."""
    options = {name: getattr(a, name) for name in ("group_size", "keep", "threshold")}
    weights = rejection_sampling_loss(-torch.ones_like(a.logps), a.rewards.detach(), a.mask, **options).per_token
    if a.denominator is None and a.aggregation != "token_sum":
        size = weights if a.aggregation == "token_mean" else weights.amax(1)
        a.denominator = size.sum().clamp(min=1)
    a.advantages, a.mask = weights, weights > 0
    return over_tokens(reinforce_per_token, ["advantages"])(a)


def grape(a):
    """The surrogate with GRAPE's advantages."""
    names = ("item_mask", "confidence", "categories", "normalisation", "baseline", "scale", "ddof", "eps")
    tensors = (x.detach() for x in (a.scores, a.confidences, a.weights))
    a.advantages = grape_advantages(*tensors, **{name: getattr(a, name) for name in names}).flatten()
    return over_tokens(ppo_per_token, RATIO, CLIP)(a)


def gspo(a):
    """A loss over sequences, which hold 0 where they are masked."""

    def terms(logps, drawn, mask, **read):
        seen = as_drawn(logps, drawn, mask.bool())
        return gspo_per_sequence(seen, mask=mask, **read, clip_low=a.clip_low, clip_high=a.clip_high)

    read = {"old_logps": a.old_logps, "advantages": a.advantages, "mask": a.mask, "drawn": a.logps}
    return fused(a, terms, read, a.logps, a.mask, separable="sequence")


def kto(a):
    """A loss over sequences, from the sums over their tokens."""

    def terms(logps, drawn, **read):
        given = {name: getattr(a, name) for name in CONTRACTS["kto_per_sequence"].options}
        return kto_per_sequence(as_drawn(logps.sum(1), drawn, tokens=2), **read, **given)

    read = {"ref_logps": a.ref_logps, "labels": a.labels, "drawn": a.logps}
    logps, mask = _as_tokens(a.logps)
    return fused(a, terms, read, logps, mask, separable="sequence")


def over_pairs(per_pair, options):
    """A loss over pairs, from the sums over tokens of the chosen half and of the rejected half."""

    def loss(a):
        def terms(chosen, rejected, drawn_chosen, drawn_rejected, **read):
            given = {name: getattr(a, name) for name in options}
            seen = as_drawn(chosen, drawn_chosen, tokens=2), as_drawn(rejected, drawn_rejected, tokens=2)
            return per_pair(*seen, **read, **given)

        names = ("ref_chosen_logps", "ref_rejected_logps", "chosen_lengths", "rejected_lengths")
        read = {name: getattr(a, name) for name in names if getattr(a, name, None) is not None}
        drawn = {"drawn_chosen": a.chosen_logps, "drawn_rejected": a.rejected_logps}
        logps, mask = _as_tokens(torch.cat([a.chosen_logps, a.rejected_logps]))
        return fused(a, terms, read | drawn, logps, mask, separable="pair")

    return loss


RATIO, CLIP = ["old_logps", "advantages"], ["clip_low", "clip_high"]


def unreduced(kind, over):
    """The losses over tokens or pairs whose terms are a function of their own, and how each is fused."""
    names = {name: f"{name}_per_{kind}" for name, contract in CONTRACTS.items() if LOGPS & set(contract.wrt)}
    return {name: over(CONTRACTS[term]) for name, term in names.items() if term in CONTRACTS}


def read_of(contract):
    """The tensors that a loss over tokens reads besides its log-probabilities."""
    return [name for name in contract.tensors if name not in contract.wrt]


#: How each loss is fused, given its arguments.
FUSED = {
    **unreduced("token", lambda c: over_tokens(c.function, read_of(c), c.options)),
    **unreduced("pair", lambda c: over_pairs(c.function, c.options)),
    "rejection_sampling": rejection_sampling,
    "dapo": over_tokens(grpo_per_token, RATIO, CLIP, aggregation="token_mean"),
    "dr_grpo": over_tokens(grpo_per_token, RATIO, CLIP, aggregation="fixed_length"),
    "gspo": gspo,
    "kto": kto,
    "grape": grape,
}


def in_one_pass(name):
    """A loss that is fused with the head."""
    loss = CONTRACTS[name].function
    signature = inspect.signature(loss)

    @wraps(loss)
    def routed(*tensors, **options):
        bound = signature.bind(*tensors, **options)
        bound.apply_defaults()
        return FUSED[name](SimpleNamespace(**bound.arguments))

    return routed


def by_route(name, route):
    """A loss by one of the routes."""
    if route == "one pass":
        return in_one_pass(name)
    ways = {"logits": from_logits, "hidden": from_hidden}
    return through(ways[route], CONTRACTS[name].function)


ROUTES = ("logits", "hidden", "one pass")

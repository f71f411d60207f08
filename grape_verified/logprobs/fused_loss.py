"""Losses straight from hidden states, for any function of log-probabilities that adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.distributed import ProcessGroup

from grape_verified.aggregation import aggregate, divide
from grape_verified.arguments import Aggregation, check_group, counted_tokens
from grape_verified.logprobs.inputs import (
    Separable,
    check_constant,
    check_fused_batch,
    check_fused_inputs,
    check_separable,
    head_inputs,
)
from grape_verified.logprobs.one_pass import Loss, OnePass, Part
from grape_verified.logprobs.parallel import first_token, ranks
from grape_verified.logprobs.tiles import Head, blocks, checked_tile, one_pass_tile
from grape_verified.numerics import compute_dtype

__all__ = ["FusedLossOutput", "fused_linear_loss"]


class FusedLossOutput(NamedTuple):
    """A loss from hidden states.

    loss: the number to differentiate. terms: what it is a sum of, before weights and denominator, and detached. logps:
    of every token, detached and 0 where masked.
    """

    loss: Float[Tensor, ""]
    terms: Float[Tensor, "batch time"] | Float[Tensor, " batch"]
    logps: Float[Tensor, "batch time"]


def fused_linear_loss(
    hidden: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "batch time"],
    loss_fn: Callable[..., Tensor],
    *,
    inputs: Mapping[str, Tensor] | None = None,
    mask: Shaped[Tensor, "batch time"] | None = None,
    bias: Float[Tensor, " vocab"] | None = None,
    temperature: float | Float[Tensor, "batch time"] = 1.0,
    separable: Separable = "token",
    aggregation: Aggregation | None = None,
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
    tile: tuple[int, int] | None = None,
    group: ProcessGroup | None = None,
) -> FusedLossOutput:
    """A loss of the log-probabilities of `linear_token_logps`, whose gradients are formed in the same pass.

    The logits of a block of tokens are computed once: they give log-probabilities, these give the terms of the loss
    and, by autograd on the few numbers of the block, its slopes, and the slopes give the gradients while the logits are
    still there. That saves computing the logits a second time, and asks for a loss that adds up over blocks:

        "token"     loss_fn(logps, **inputs) → (1, n), all of them (1, n): of any n tokens that count. The loss is the
                    `aggregate` of the terms.
        "sequence"  loss_fn(logps, **inputs) → (n,), of any n sequences: logps (n, time), 0 where masked, and n rows of
                    each input. The loss is Σ terms / D.
        "pair"      loss_fn(chosen_logps, rejected_logps, **inputs) → (n,), all of them (n,): of the sums over tokens
                    of any n pairs. The first half of the batch is chosen, the second rejected. The loss is Σ terms / D.

    `sft_per_token`, `ppo_per_token`, `grpo_per_token`, `gspo_per_sequence`, `dpo_per_pair` and the others of their kind
    are such functions as they are; their options go in by `functools.partial`. A block holds whole sequences or pairs,
    so that memory grows with the longest of them; it does not with `linear_token_logps`.

    The loss can be differentiated once, in hidden, weight and bias; terms and logps are constants. So are temperature,
    inputs and whatever else loss_fn reads.

    Arguments:
        hidden: (batch, time, width), any floating-point dtype; the state at a position predicts its target.
        weight, targets, mask, bias, temperature: as in `linear_token_logps`.
        loss_fn: one of the above, in terms of torch.
        inputs: by the names of loss_fn's arguments: for "token" (batch, time), or (batch,) for one value per sequence;
            for "sequence" (batch, …); for "pair" (batch / 2, …). What is masked may hold anything for "token".
        separable: what the loss is a sum over.
        aggregation, max_length: as in `aggregate`, for "token" alone, where None is "token_mean".
        denominator: as in `aggregate`; for "sequence" and "pair" D, None for their number.
        tile: rows (tokens of a block) and columns of logits that are computed at once; None for `one_pass_tile`.
        group: ranks that have a part of the vocabulary each, as in `linear_token_logps`; one maximum and one sum for
            each block, and one sum of the gradient of hidden.

    Returns: FusedLossOutput(loss, terms, logps), fp32 (fp64 for fp64); terms (batch, time) and 0 where masked, (batch,)
    or (batch / 2,). Gradients have the dtypes of the arguments.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, value or option, or one without effect.

    Error: that of the loss for log-probabilities with the error of `linear_token_logps`.

    Claims: those of `linear_token_logps`, of the loss and of `aggregate`.
    """
    check_separable(separable, aggregation, denominator, max_length)
    check_fused_batch(hidden, separable)
    check_constant("temperature", temperature)
    check_group(group)
    tokens = head_inputs(hidden, weight, targets, bias, temperature, mask, ranks(group))
    inputs = {} if inputs is None else inputs
    check_fused_inputs(inputs, separable, targets)
    counted = torch.ones_like(targets, dtype=torch.bool) if mask is None else counted_tokens(mask, "targets", targets)
    size = one_pass_tile(hidden, weight) if tile is None else checked_tile(tile)
    if separable == "token":
        weights = _token_weights(counted, compute_dtype(hidden), aggregation or "token_mean", denominator, max_length)
        loss = _over_tokens(loss_fn, inputs, counted, weights, size.rows)
    else:
        halves = 2 if separable == "pair" else 1
        ones = torch.ones(len(targets) // halves, dtype=compute_dtype(hidden), device=hidden.device)
        weights = divide(ones, denominator, len(ones))
        loss = _over_sequences(loss_fn, inputs, counted, weights, size.rows, halves)
    head, local = Head(weight, bias, tokens.temperature, group), tokens.targets - first_token(weight, group)
    total, terms, logps = OnePass.apply(tokens.hidden, weight, bias, head, local, loss, size)
    terms = tokens.restored(terms, targets) if separable == "token" else terms
    return FusedLossOutput(total, terms, tokens.restored(logps, targets))


def _token_weights(
    counted: Bool[Tensor, "batch time"],
    dtype: torch.dtype,
    aggregation: Aggregation,
    denominator: float | Tensor | None,
    max_length: int | None,
) -> Float[Tensor, " tokens"]:
    """What the term of each token that counts is multiplied by: the gradient of the aggregate, which is linear."""
    zeros = torch.zeros(counted.shape, dtype=dtype, device=counted.device, requires_grad=True)
    with torch.enable_grad():
        total = aggregate(zeros, counted, aggregation, denominator=denominator, max_length=max_length)
    return torch.autograd.grad(total, zeros)[0][counted]


def _over_tokens(
    loss_fn: Callable[..., Tensor], inputs: Mapping[str, Tensor], counted: Tensor, weights: Tensor, rows: int
) -> Loss:
    """A loss over the tokens that count, in blocks of at most so many rows."""
    per_token = {name: x.unsqueeze(1).expand_as(counted) if x.ndim == 1 else x for name, x in inputs.items()}
    given = {name: x[counted].unsqueeze(0) for name, x in per_token.items()}
    parts = [
        Part(torch.arange(part.start, part.stop, device=weights.device), part) for part in blocks(len(weights), rows)
    ]

    def terms(logps: Tensor, part: Part) -> Tensor:
        some = {name: x[:, part.terms] for name, x in given.items()}
        return _checked_terms(loss_fn(logps.unsqueeze(0), **some), (1, len(logps))).squeeze(0)

    return Loss(parts, terms, weights)


def _over_sequences(
    loss_fn: Callable[..., Tensor],
    inputs: Mapping[str, Tensor],
    counted: Tensor,
    weights: Tensor,
    rows: int,
    halves: int,
) -> Loss:
    """A loss over sequences, or over pairs of one in each half of the batch; blocks of at most so many rows, or one."""
    ends = [0, *counted.sum(1).cumsum(0).tolist()]
    firsts = [half * len(weights) for half in range(halves)]

    def spans(terms: slice) -> list[tuple[int, int]]:
        return [(ends[first + terms.start], ends[first + terms.stop]) for first in firsts]

    def part(terms: slice) -> Part:
        return Part(torch.cat([torch.arange(*span, device=weights.device) for span in spans(terms)]), terms)

    def terms(logps: Tensor, part: Part) -> Tensor:
        place = torch.cat([counted[first + part.terms.start : first + part.terms.stop] for first in firsts])
        padded = logps.new_zeros(place.shape).masked_scatter(place, logps)
        arguments = [padded] if halves == 1 else padded.sum(1).chunk(halves)
        some = {name: x[part.terms] for name, x in inputs.items()}
        return _checked_terms(loss_fn(*arguments, **some), (part.terms.stop - part.terms.start,))

    lengths = [sum(stop - start for start, stop in spans(slice(k, k + 1))) for k in range(len(weights))]
    return Loss([part(terms) for terms in _packed(lengths, rows)], terms, weights)


def _packed(lengths: Sequence[int], rows: int) -> Iterator[slice]:
    """Runs of neighbours whose lengths add up to at most so many rows; a longer one stands alone."""
    start, total = 0, 0
    for place, length in enumerate(lengths):
        if place > start and total + length > rows:
            yield slice(start, place)
            start, total = place, 0
        total += length
    if lengths:
        yield slice(start, len(lengths))


def _checked_terms(terms: object, shape: tuple[int, ...]) -> Tensor:
    """Check what a loss returned."""
    if not isinstance(terms, Tensor):
        raise TypeError(f"loss_fn: got one that returns {type(terms).__name__}, expected a tensor of shape {shape}")
    if terms.shape != shape:
        raise ValueError(f"loss_fn: got one that returns shape {tuple(terms.shape)}, expected {shape}, its terms")
    return terms

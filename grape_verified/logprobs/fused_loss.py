"""Losses directly from hidden states, for any loss that is a sum over tokens, sequences or pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.distributed import ProcessGroup

from grape_verified.aggregation import aggregate, divide
from grape_verified.arguments import Aggregation, check_group
from grape_verified.logprobs.inputs import (
    Separable,
    check_constant,
    check_fused_batch,
    check_fused_inputs,
    check_loss_function,
    check_separable,
    check_with_values,
    checked_softcap,
    checked_terms,
    head_inputs,
)
from grape_verified.logprobs.one_pass import Loss, OnePass, Part, one_pass
from grape_verified.logprobs.parallel import first_token, ranks
from grape_verified.logprobs.tiles import Head, blocks, checked_tile, one_pass_tile
from grape_verified.numerics import compute_dtype, savable

__all__ = ["FusedLossOutput", "fused_linear_loss"]


class FusedLossOutput(NamedTuple):
    """A loss from hidden states.

    loss: the number to differentiate. terms: its terms before weights and denominator, detached. logps: those of every
    token, detached and 0 where masked.
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
    softcap: float | None = None,
    tile: tuple[int, int] | None = None,
    group: ProcessGroup | None = None,
) -> FusedLossOutput:
    """A loss of the log-probabilities of `linear_token_logps`, whose gradients are formed in the same pass.

    The logits of a block of tokens are computed once. They give log-probabilities, these give the terms of the loss
    and, by autograd on a few numbers, its slopes, and the slopes give the gradients while the logits are still in
    memory. This avoids computing the logits twice, and requires a loss that is a sum over blocks:

        "token"     loss_fn(logps, **inputs) → (1, n), for any n counted tokens, all arguments (1, n). The loss is the
                    `aggregate` of the terms.
        "sequence"  loss_fn(logps, **inputs) → (n,), for any n sequences: logps (n, time), 0 where masked, and n rows of
                    each input. The loss is Σ terms / D.
        "pair"      loss_fn(chosen_logps, rejected_logps, **inputs) → (n,), for any n pairs, all arguments (n,), the
                    log-probabilities summed over tokens. The first half of the batch is chosen, the second rejected.
                    The loss is Σ terms / D.

    `sft_per_token`, `ppo_per_token`, `grpo_per_token`, `gspo_per_sequence`, `dpo_per_pair` and the like are such
    functions; set their options with `functools.partial`. A block holds whole sequences or pairs, so memory grows with
    the longest of them, unlike with `linear_token_logps`.

    The loss can be differentiated once, in hidden, weight and bias; terms, logps, temperature, inputs and everything
    else that loss_fn reads are constants. loss_fn runs without autocast. `torch.compile` breaks the graph at the call;
    torch.func transforms are not supported.

    Arguments:
        hidden: (batch, time, width); the state at a position predicts its target.
        weight, targets, mask, bias, temperature, softcap: as in `linear_token_logps`.
        loss_fn: a function as above, made of torch operations.
        inputs: by the names of loss_fn's arguments: for "token" (batch, time), or (batch,) for one value per sequence;
            for "sequence" (batch, …); for "pair" (batch / 2, …). For "token", masked entries may hold anything.
        separable: what the loss is a sum over.
        aggregation, max_length: as in `aggregate`, for "token" alone, where None is "token_mean".
        denominator: as in `aggregate`; for "sequence" and "pair" D, None for their number.
        tile: rows (tokens of a block) and columns of logits computed at once; None for `one_pass_tile`.
        group: ranks that each hold a part of the vocabulary, as in `linear_token_logps`; one MAX and one SUM for each
            block, and one SUM of the gradient of hidden.

    Returns: FusedLossOutput(loss, terms, logps): terms (batch, time) and 0 where masked, (batch,) or (batch / 2,).

    Raises: TypeError or ValueError also for a loss_fn that does not return terms, such as `ppo_loss`.

    Error: that of the loss, for log-probabilities with the error of `linear_token_logps`.

    Claims: those of `linear_token_logps`, of the loss and of `aggregate`.

    Examples:
        >>> import torch
        >>> from grape_verified import fused_linear_loss, sft_per_token
        >>> hidden, weight = torch.ones(1, 2, 3), torch.zeros(4, 3, requires_grad=True)
        >>> out = fused_linear_loss(hidden, weight, torch.tensor([[0, 3]]), sft_per_token)
        >>> out.loss.backward()
        >>> out.loss.item(), weight.grad[:, 0].tolist()
        (1.3862943649291992, [-0.25, 0.25, 0.25, -0.25])
    """
    call = torch.compiler.disable(_fused) if torch.compiler.is_compiling() else _fused
    return call(
        hidden, weight, targets, loss_fn, inputs, mask, bias, temperature, separable, aggregation, denominator,
        max_length, softcap, tile, group,
    )  # fmt: skip


def _fused(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    loss_fn: Callable[..., Tensor],
    inputs: Mapping[str, Tensor] | None,
    mask: Tensor | None,
    bias: Tensor | None,
    temperature: float | Tensor,
    separable: Separable,
    aggregation: Aggregation | None,
    denominator: float | Tensor | None,
    max_length: int | None,
    softcap: float | None,
    tile: tuple[int, int] | None,
    group: ProcessGroup | None,
) -> FusedLossOutput:
    denominator = check_separable(separable, aggregation, denominator, max_length)
    check_fused_batch(hidden, separable)
    check_constant("temperature", temperature)
    check_group(group)
    softcap = checked_softcap("softcap", softcap)
    tokens = head_inputs(hidden, weight, targets, bias, temperature, mask, ranks(group))
    inputs = {} if inputs is None else inputs
    check_fused_inputs(inputs, separable, targets)
    check_loss_function(loss_fn, separable)
    check_with_values("fused_linear_loss", "linear_token_logps", hidden, weight, targets, *inputs.values())
    counted = torch.ones_like(targets, dtype=torch.bool) if tokens.counted is None else tokens.counted.view_as(targets)
    size = one_pass_tile(hidden, weight) if tile is None else checked_tile(tile)
    places = counted.reshape(-1).nonzero().squeeze(1)
    if separable == "token":
        weights = token_weights(counted, compute_dtype(hidden), aggregation or "token_mean", denominator, max_length)
        loss = _over_tokens(loss_fn, inputs, targets, places, weights.reshape(-1)[places], size.rows)
    else:
        halves = 2 if separable == "pair" else 1
        ones = torch.ones(len(targets) // halves, dtype=compute_dtype(hidden), device=hidden.device)
        weights = divide(ones, max(1, len(ones)) if denominator is None else denominator)
        loss = _over_sequences(loss_fn, inputs, counted, places, weights, size.rows, halves)
    head, local = Head(weight, bias, tokens.temperature, group, softcap), tokens.targets - first_token(weight, group)
    compute = partial(one_pass, tokens.hidden, head, local, loss, size)
    refusal, differentiated = ("fused_linear_loss", "token_logps"), torch.is_grad_enabled()
    total, terms, logps = OnePass.apply(tokens.hidden, weight, bias, compute, refusal, differentiated)
    if separable == "token":
        terms = terms.new_zeros(targets.numel()).index_copy(0, places, terms).view(targets.shape)
    return FusedLossOutput(total, terms, logps.view(targets.shape))


def token_weights(
    counted: Bool[Tensor, "batch time"],
    dtype: torch.dtype,
    aggregation: Aggregation,
    denominator: float | Tensor | None,
    max_length: int | None,
) -> Float[Tensor, "batch time"]:
    """The weight of the term of each token: the gradient of the aggregate, which is linear."""
    with torch.inference_mode(False), torch.enable_grad():
        zeros = torch.zeros(counted.shape, dtype=dtype, device=counted.device, requires_grad=True)
        divisor = savable(denominator) if isinstance(denominator, Tensor) else denominator
        total = aggregate(zeros, savable(counted), aggregation, denominator=divisor, max_length=max_length)
        return torch.autograd.grad(total, zeros)[0]


def _over_tokens(
    loss_fn: Callable[..., Tensor],
    inputs: Mapping[str, Tensor],
    targets: Tensor,
    places: Tensor,
    weights: Tensor,
    rows: int,
) -> Loss:
    """A loss over the counted tokens, at these places, in blocks of at most `rows` rows."""
    per_token = {name: x.unsqueeze(1).expand_as(targets) if x.ndim == 1 else x for name, x in inputs.items()}
    given = {name: x.reshape(-1)[places].unsqueeze(0) for name, x in per_token.items()}
    parts = [Part(places[part], part) for part in blocks(len(weights), rows)]

    def terms(logps: Tensor, part: Part) -> Tensor:
        some = {name: x[:, part.terms] for name, x in given.items()}
        return checked_terms(loss_fn(logps.unsqueeze(0), **some), "token", (1, len(logps))).squeeze(0)

    return Loss(parts, terms, weights)


def _over_sequences(
    loss_fn: Callable[..., Tensor],
    inputs: Mapping[str, Tensor],
    counted: Tensor,
    places: Tensor,
    weights: Tensor,
    rows: int,
    halves: int,
) -> Loss:
    """A loss over sequences, or over pairs of one from each half, in blocks of one or of at most `rows` rows."""
    ends = [0, *counted.sum(1).cumsum(0).tolist()]
    firsts = [half * len(weights) for half in range(halves)]
    separable = "sequence" if halves == 1 else "pair"

    def spans(terms: slice) -> list[slice]:
        return [slice(ends[first + terms.start], ends[first + terms.stop]) for first in firsts]

    def part(terms: slice) -> Part:
        return Part(torch.cat([places[span] for span in spans(terms)]), terms)

    def terms(logps: Tensor, part: Part) -> Tensor:
        place = torch.cat([counted[first + part.terms.start : first + part.terms.stop] for first in firsts])
        padded = logps.new_zeros(place.shape).masked_scatter(place, logps)
        arguments = [padded] if halves == 1 else padded.sum(1).chunk(halves)
        some = {name: x[part.terms] for name, x in inputs.items()}
        return checked_terms(loss_fn(*arguments, **some), separable, (part.terms.stop - part.terms.start,))

    lengths = [sum(span.stop - span.start for span in spans(slice(k, k + 1))) for k in range(len(weights))]
    return Loss([part(terms) for terms in _packed(lengths, rows)], terms, weights)


def _packed(lengths: Sequence[int], rows: int) -> Iterator[slice]:
    """Runs of neighbours with lengths that add up to at most `rows`, or single longer ones."""
    start, total = 0, 0
    for place, length in enumerate(lengths):
        if place > start and total + length > rows:
            yield slice(start, place)
            start, total = place, 0
        total += length
    if lengths:
        yield slice(start, len(lengths))

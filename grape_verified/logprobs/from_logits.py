"""Log-probabilities and entropies from logits in memory, a block of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from grape_verified.arguments import (
    POSITIVE,
    check_logits,
    check_number,
    check_tensor,
    counted_tokens,
    values_are_readable,
)
from grape_verified.logprobs.dispatch import in_transform, triton_kernels_for
from grape_verified.logprobs.from_logits_triton import TritonTokenEntropies, TritonTokenLogps
from grape_verified.logprobs.inputs import check_targets, counted_positions
from grape_verified.logprobs.tiles import blocks
from grape_verified.numerics import EXP_IS_ZERO, compute_dtype, log_softmax, savable

__all__ = ["token_entropies", "token_logps"]

#: The most logits of a block for each thread, if it has more than one row: 2 MiB of fp32, which fit into a cache. In
#: smaller blocks, the overhead of calling an operation dominates.
TILE = 2**19
#: The same for a GPU, enough to keep it busy.
TILE_ON_GPU = 2**25


def token_logps(
    logits: Float[Tensor, "*positions vocab"],
    targets: Int[Tensor, "*positions"],
    *,
    temperature: float = 1.0,
    mask: Shaped[Tensor, "*positions"] | None = None,
) -> Float[Tensor, "*positions"]:
    """Log-probability of each target under the softmax of the logits z.

        log π(y) = z_y/τ − log Σ_v exp(z_v/τ)

    The logits at position t predict `targets[t]`: shift them first. A logit of −inf forbids its token: the token's
    log-probability is −inf, and gradients stay finite. A position with a NaN or +inf logit, or with −inf only, has no
    distribution: its result is NaN. Where the upstream gradient is exactly 0, the gradient is 0 whatever the logits.

    Arguments:
        logits: (..., vocab), shifted logits.
        targets: (...), integers in [0, vocab).
        temperature: τ, a finite number > 0.
        mask: (...); None if all tokens count.

    Returns: (...), natural logarithms; 0 where masked.

    Error: |error| ≤ 4·u·(|log π(y)| + H + 1), H ≤ log vocab the entropy; a constant added to all logits adds no error.
    Each entry of the gradient: |error| ≤ 4·u·(H + 1)/τ, and one rounding to the dtype of the logits.

    Claims: policy.log_softmax.gradient, policy.temperature.gradient.

    Examples:
        >>> import torch
        >>> from grape_verified import token_logps
        >>> logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, float("-inf"), float("-inf")]])
        >>> token_logps(logits, torch.tensor([2, 0]))
        tensor([-1.0986,  0.0000])
    """
    check_logits(logits)
    check_tensor("targets", targets)
    counted = None if mask is None else counted_tokens(mask, "targets", targets)
    check_targets(targets, "logits", logits, logits.shape[-1], counted)
    temperature = check_number("temperature", temperature, POSITIVE)
    targets = savable(targets.long()) if counted is None else targets.long().masked_fill(~counted, 0)
    if (kernels := triton_kernels_for(logits, targets)) is not None:
        logps = TritonTokenLogps.apply(logits, targets, temperature, kernels, _TokenLogps)  # type: ignore
    else:
        logps = _TokenLogps.apply(logits, targets, temperature)[0]  # type: ignore[no-untyped-call]
    # The backward pass reads the result: callers may write into a copy.
    return logps.clone() if counted is None else logps.masked_fill(~counted, 0)  # type: ignore[no-any-return]


def token_entropies(
    logits: Float[Tensor, "*positions vocab"],
    *,
    temperature: float = 1.0,
    mask: Shaped[Tensor, "*positions"] | None = None,
) -> Float[Tensor, "*positions"]:
    """Entropy of the softmax of the logits z, in nats.

        H = −Σ_v π_v log π_v = log Σ_v e_v + Σ_v e_v (m − z_v)/τ / Σ_v e_v,  m = max z, e_v = exp((z_v − m)/τ)

    The second form, in which nothing cancels, is computed. A logit of −inf forbids its token, which contributes 0
    (0 · log 0 = 0) and gets gradient 0. Positions without a distribution, and upstream gradients of 0, are treated as
    in `token_logps`.

    Arguments:
        logits: (..., vocab).
        temperature: τ, a finite number > 0.
        mask: (...); None if all tokens count.

    Returns: (...), H; 0 where masked.

    Error: with the spread S = Σ_v π_v |log π_v| |log π_v + H|, |error| ≤ 4·u·(1 + H + S); a constant added to all
    logits adds no error. Each entry of the gradient: |error| ≤ 4·u·π_v ((1 + H + |log π_v|)² + S)/τ, and one rounding
    to the dtype of the logits.

    Claims: policy.entropy.gradient, policy.temperature.gradient.

    Examples:
        >>> import torch
        >>> from grape_verified import token_entropies
        >>> token_entropies(torch.tensor([[0.0, 0.0, float("-inf")], [0.0, 0.0, 0.0]]))
        tensor([0.6931, 1.0986])
    """
    check_logits(logits)
    counted = None if mask is None else counted_positions(mask, logits)
    temperature = check_number("temperature", temperature, POSITIVE)
    if (kernels := triton_kernels_for(logits)) is not None:
        entropies = TritonTokenEntropies.apply(logits, temperature, kernels, _TokenEntropies)  # type: ignore
    else:
        entropies = _TokenEntropies.apply(logits, temperature)[0]  # type: ignore[no-untyped-call]
    return entropies.clone() if counted is None else entropies.masked_fill(~counted, 0)  # type: ignore[no-any-return]


class _TokenLogps(torch.autograd.Function):
    """log π(y), and what the backward pass reads of each row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, targets: Tensor, temperature: float) -> Sequence[Tensor]:
        if _at_once(logits, targets):
            return _logps_at_once(logits, targets, temperature)
        return _results(_logps, temperature, logits, targets)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Sequence[Tensor]) -> None:
        logits, targets, ctx.temperature = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(logits, targets, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        """∂log π(y)/∂z_v = (δ_yv − π_v)/τ, with 1 − π_y as −expm1(log π_y): it cancels for a confident token."""
        logits, targets, logps, *found = ctx.saved_tensors
        if not (torch.is_grad_enabled() or _at_once(logits, targets, grad)):
            return _gradient(_slopes, ctx.temperature, logits, grad, targets, logps, *found), None, None
        idle = (grad == 0) & logps.isnan()
        logits, logps = logits.masked_fill(idle.unsqueeze(-1), 0), logps.masked_fill(idle, 0)
        probabilities = _logps_of_all(logits, ctx.temperature, found).exp()
        slopes = torch.where(_is_at(targets, logits), -logps.expm1().unsqueeze(-1), -probabilities)
        return _scaled(slopes, grad / ctx.temperature, idle).to(logits.dtype), None, None


class _TokenEntropies(torch.autograd.Function):
    """H, and what the backward pass reads of each row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, temperature: float) -> Sequence[Tensor]:
        if _at_once(logits):
            return _entropies_at_once(logits, temperature)
        return _results(_entropies, temperature, logits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Sequence[Tensor]) -> None:
        logits, ctx.temperature = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(logits, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        """∂H/∂z_v = −π_v (log π_v + H)/τ."""
        logits, entropies, *found = ctx.saved_tensors
        if not (torch.is_grad_enabled() or _at_once(logits, grad)):
            return _gradient(_entropy_slopes, ctx.temperature, logits, grad, *found), None
        idle = (grad == 0) & entropies.isnan()
        logits, entropies = logits.masked_fill(idle.unsqueeze(-1), 0), entropies.masked_fill(idle, 0)
        logps = _logps_of_all(logits, ctx.temperature, found).clamp(min=EXP_IS_ZERO)
        slopes = logps.exp() * (logps + entropies.unsqueeze(-1))
        return _scaled(slopes, -grad / ctx.temperature, idle).to(logits.dtype), None


def _scaled(slopes: Tensor, scale: Tensor, idle: Tensor) -> Tensor:
    """The gradient of rows; exactly 0 in idle ones, which have neither a distribution nor an upstream gradient.

    Rows with a distribution are multiplied even by an upstream gradient of 0, which second derivatives depend on.
    """
    return scale.unsqueeze(-1) * slopes.masked_fill(idle.unsqueeze(-1), 0)


def _at_once(*tensors: Tensor) -> bool:
    """Whether to use expressions of all logits: a compiler fuses them, and under vmap tensors have no storage."""
    return torch.compiler.is_compiling() or in_transform(*tensors)


def _logps_at_once(logits: Tensor, targets: Tensor, temperature: float) -> Sequence[Tensor]:
    """log π(y), m and Σ exp((z_v − m)/τ) over the other tokens, as expressions that a compiler fuses."""
    shift, distances, others = _relative_at_once(logits, temperature)
    rest = others.exp().sum(-1)
    return distances.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - rest.log1p(), shift, rest


def _entropies_at_once(logits: Tensor, temperature: float) -> Sequence[Tensor]:
    """H, m and Σ exp((z_v − m)/τ) over the other tokens, likewise."""
    shift, _, others = _relative_at_once(logits, temperature)
    weights = others.exp()
    rest = torch.where(shift.isnan(), shift, weights.sum(-1))
    return rest.log1p() - (weights * others.clamp(min=EXP_IS_ZERO)).sum(-1) / (1 + rest), shift, rest


def _relative_at_once(logits: Tensor, temperature: float) -> Sequence[Tensor]:
    """The largest logit m, (z − m)/τ, and the same with −∞ at m; m is NaN where there is no distribution."""
    scores = logits.to(compute_dtype(logits))
    shift, top = scores.max(-1)
    shift = shift.masked_fill(shift.isinf(), math.nan)
    distances = (scores - shift.unsqueeze(-1)) / temperature
    return shift, distances, distances.masked_fill(_is_at(top, logits), -math.inf)


def _logps_of_all(logits: Tensor, temperature: float, found: Sequence[Tensor]) -> Tensor:
    """log π_v of every token: from the saved m and Σ in compiled code, else in differentiable operations."""
    if not torch.compiler.is_compiling():
        return log_softmax(logits, temperature)
    shift, rest = (x.unsqueeze(-1) for x in found)
    return (logits.to(shift.dtype) - shift) / temperature - rest.log1p()


def _is_at(position: Tensor, logits: Tensor) -> Tensor:
    """True at one position in each row."""
    return torch.arange(logits.shape[-1], device=logits.device) == position.unsqueeze(-1)


def _results(
    of_rows: Callable[..., Sequence[Tensor]], temperature: float, logits: Tensor, *others: Tensor
) -> Sequence[Tensor]:
    """Apply a function of rows of logits, and of tensors with one entry for each row, to all rows."""
    flat = [x.reshape(-1) for x in others]
    parts = [of_rows(rows, *(x[place] for x in flat), temperature) for place, rows in _rows(logits)]
    return tuple(torch.cat(results).view(logits.shape[:-1]) for results in zip(*parts, strict=True))


def _gradient(of_rows: Callable[..., None], temperature: float, logits: Tensor, *others: Tensor) -> Tensor:
    """The gradient of the logits, written by a function of rows."""
    as_given = _as_rows(logits) is not None
    gradient = torch.empty_like(logits, memory_format=torch.preserve_format if as_given else torch.contiguous_format)
    written, flat = gradient.view(-1, logits.shape[-1]), [x.reshape(-1) for x in others]
    for place, rows in _rows(logits):
        of_rows(written[place], rows, *(x[place] for x in flat), temperature)
    return gradient


def _rows(logits: Tensor, start: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """The rows of logits with their places, in one part where strides allow it; at most a tile is copied."""
    vocab = logits.shape[-1]
    rows = logits.reshape(-1, vocab) if logits.numel() <= TILE else _as_rows(logits)
    if rows is not None:
        yield slice(start, start + len(rows)), rows
        return
    step = TILE * len(logits) // logits.numel()
    for part in logits.split(step) if step > 1 else logits:
        yield from _rows(part, start)
        start += part.numel() // vocab


def _as_rows(logits: Tensor) -> Tensor | None:
    """Logits with their leading dimensions merged, if that needs no copy."""
    try:
        return logits.view(-1, logits.shape[-1])
    except RuntimeError:
        return None


def _logps(logits: Tensor, targets: Tensor, temperature: float) -> Sequence[Tensor]:
    """log π(y) of rows and, for `_slopes`, the total of torch's softmax."""
    memory = _memory(logits)
    logps, at_top, others = memory.new_empty(3, len(logits))
    for rows in blocks(len(logits), len(memory)):
        block, target = logits[rows], targets[rows, None]
        scores = _scores(block, temperature, memory)
        weights = torch.softmax(scores, 1, out=memory[: len(block)])
        top = _positions_of_largest(weights)
        at_top[rows], others[rows] = _take_out(weights, top)
        logps[rows] = (block.gather(1, target).to(memory.dtype) - block.gather(1, top)).squeeze(1)
    return logps.div_(temperature).sub_((others / at_top).log1p()), at_top.add_(others)


def _slopes(
    gradient: Tensor, logits: Tensor, grad: Tensor, targets: Tensor, logps: Tensor, total: Tensor, temperature: float
) -> None:
    """Write grad·∂log π(y)/∂z_v of rows."""
    memory = _memory(logits)
    scale = grad / -temperature
    of_others, of_target = (scale / total).unsqueeze(1), (scale * logps.expm1()).unsqueeze(1)
    in_place = gradient.dtype == memory.dtype
    for rows in _active(gradient, grad, len(memory)):
        block, written = logits[rows], gradient[rows]
        scores = _scores(block, temperature, memory)
        weights = torch.softmax(scores, 1, out=written if in_place else memory[: len(block)])
        slopes = weights.mul_(of_others[rows]).scatter_(1, targets[rows, None], of_target[rows])
        if not in_place:
            written.copy_(slopes)


def _entropies(logits: Tensor, temperature: float) -> Sequence[Tensor]:
    """H of rows and, for `_entropy_slopes`, the mean of (z − max z)/τ and the total of torch's softmax."""
    memory, other_memory = _memory(logits), _memory(logits)
    spread, at_top, others = memory.new_empty(3, len(logits))
    for rows in blocks(len(logits), len(memory)):
        distances = _distances(logits[rows], temperature, memory).clamp_(min=EXP_IS_ZERO)
        weights = torch.softmax(distances, 1, out=other_memory[: len(distances)])
        spread[rows] = _sums(distances.mul_(weights))
        at_top[rows], others[rows] = _take_out(weights, _positions_of_largest(weights))
    total = at_top + others
    mean = spread.div_(total)
    return (others / at_top).log1p() - mean, mean, total


def _entropy_slopes(
    gradient: Tensor, logits: Tensor, grad: Tensor, mean: Tensor, total: Tensor, temperature: float
) -> None:
    """Write grad·∂H/∂z_v of rows, with log π_v + H as the distance of z_v from the mean."""
    memory, other_memory = _memory(logits), _memory(logits)
    scale = (grad / -temperature / total).unsqueeze(1)
    for rows in _active(gradient, grad, len(memory)):
        distances = _distances(logits[rows], temperature, memory).clamp_(min=EXP_IS_ZERO)
        weights = torch.softmax(distances, 1, out=other_memory[: len(distances)])
        gradient[rows] = distances.sub_(mean[rows, None]).mul_(weights).mul_(scale[rows])


def _active(gradient: Tensor, grad: Tensor, step: int) -> Iterator[slice]:
    """Blocks with rows whose upstream gradient is not 0; in other rows the gradient is 0, whatever the logits."""
    skips = gradient.is_cpu and values_are_readable(grad)  # elsewhere, counting rows would synchronise with the device
    for rows in blocks(len(grad), step):
        idle = grad[rows] == 0
        if not skips:
            yield rows
            gradient[rows].masked_fill_(idle.unsqueeze(1), 0)
            continue
        places = idle.nonzero().squeeze(1)
        if len(places) < len(idle):
            yield rows
        gradient[rows].index_fill_(0, places, 0)


def _memory(logits: Tensor) -> Tensor:
    """A buffer for a block of rows in the compute dtype, reused for each block."""
    size = TILE * torch.get_num_threads() if logits.is_cpu else TILE_ON_GPU
    rows = max(1, min(len(logits), size // logits.shape[1]))
    return torch.empty(rows, logits.shape[1], dtype=compute_dtype(logits), device=logits.device)


def _scores(logits: Tensor, temperature: float, memory: Tensor) -> Tensor:
    """The input of the softmax: the logits themselves if they need no conversion, else computed in memory."""
    if temperature != 1:
        return _distances(logits, temperature, memory)
    return logits if logits.dtype == memory.dtype else memory[: len(logits)].copy_(logits)


def _distances(logits: Tensor, temperature: float, memory: Tensor) -> Tensor:
    """(z − max z)/τ, in memory. The maximum is subtracted first, so that a large common offset costs no accuracy."""
    distances = memory[: len(logits)]
    scores = logits if logits.dtype == memory.dtype else distances.copy_(logits)
    torch.sub(scores, scores.amax(1, keepdim=True), out=distances)
    return distances if temperature == 1 else distances.div_(temperature)


def _positions_of_largest(weights: Tensor) -> Tensor:
    """The position of the largest weight of each row, found piece by piece because argmax is slow."""
    pieces = weights.view(len(weights), _pieces(weights.shape[1]), -1)
    piece = pieces.amax(2).argmax(1)
    rows = torch.arange(len(weights), device=weights.device)
    return (piece * pieces.shape[2] + pieces[rows, piece].argmax(1)).unsqueeze(1)


@cache
def _pieces(size: int) -> int:
    """The number of equal pieces to divide a size into."""
    return max(pieces for pieces in range(1, 129) if size % pieces == 0)


def _take_out(weights: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """The largest weight of each row, and the sum of the others.

    Leaving the largest out does not round the others away, so the log-probability of a confident token is accurate. So
    is the total, which is 1 only up to the many rounding errors of torch's softmax.
    """
    at_top = weights.gather(1, top).squeeze(1)
    return at_top, _sums(weights.scatter_(1, top, 0))


def _sums(tile: Tensor) -> Tensor:
    """Sums of rows, bitwise the same for one row as for many, though torch splits a single row among threads."""
    return tile.sum(1) if len(tile) > 1 else torch.cat([tile, tile]).sum(1)[:1]

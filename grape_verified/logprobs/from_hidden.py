"""Log-probabilities and entropies from hidden states, without the logits of all tokens in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, Literal, overload

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributed import ProcessGroup

from grape_verified.arguments import check_flag, check_group
from grape_verified.logprobs.dispatch import triton_kernels_for
from grape_verified.logprobs.inputs import head_inputs
from grape_verified.logprobs.parallel import first_token, ranks, summed
from grape_verified.logprobs.tiles import (
    Head,
    Logits,
    Sums,
    Tile,
    accumulate,
    blocks,
    checked_tile,
    multiply,
    put_at,
    refuse_second_derivative,
    two_stage_tile,
)
from grape_verified.numerics import EXP_IS_ZERO, exp_

__all__ = ["linear_token_logps"]


@overload
def linear_token_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = ..., temperature: float | Tensor = ...,
    mask: Tensor | None = ..., with_entropy: Literal[False] = ..., tile: tuple[int, int] | None = ...,
    group: ProcessGroup | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def linear_token_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = ..., temperature: float | Tensor = ...,
    mask: Tensor | None = ..., with_entropy: Literal[True], tile: tuple[int, int] | None = ...,
    group: ProcessGroup | None = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
def linear_token_logps(
    hidden: Float[Tensor, "*positions width"],
    weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "*positions"],
    *,
    bias: Float[Tensor, " vocab"] | None = None,
    temperature: float | Float[Tensor, "*positions"] = 1.0,
    mask: Shaped[Tensor, "*positions"] | None = None,
    with_entropy: bool = False,
    tile: tuple[int, int] | None = None,
    group: ProcessGroup | None = None,
) -> Float[Tensor, "*positions"] | tuple[Float[Tensor, "*positions"], Float[Tensor, "*positions"]]:
    """Log-probability of each target under the softmax of z = (W·h + b)/τ, without the logits of all tokens in memory.

        log π(y) = z_y − log Σ_v exp(z_v)        H = −Σ_v π_v log π_v

    Logits are computed tile by tile, in fp32 whatever the operands are (fp64 stays fp64), and again in the backward
    pass: three numbers for each token are kept. Tokens of upstream gradient 0 are left out of the backward pass. A
    logit of −inf (a bias of −inf) is a forbidden token, as in `token_logps`. The backward pass cannot be
    differentiated again, and says so.

    The same call gives the same bits. On a CPU in fp64, with a width that is a multiple of 8, what comes out for a
    token (its gradient in hidden, too) does not depend on the other tokens either.

    Arguments:
        hidden: (..., width), any floating-point dtype; the state at a position predicts its target. May be empty.
        weight: (vocab, width), the last layer, in the dtype of hidden.
        targets: (...), any integer dtype, each in [0, vocab) where it counts.
        bias: (vocab,), in the dtype of weight, or None.
        temperature: τ, a finite number > 0, or (...), one for each token; a tensor is differentiated.
        mask: (...), 1 or True where a token counts; bool, or numbers that are only 0 and 1; None if all do. What is
            masked is 0 in the results and may hold anything in hidden, targets and temperature.
        with_entropy: whether to return H, too, in nats.
        tile: rows (tokens) and columns (of the vocabulary) of logits that are computed at once; None for those of
            `two_stage_tile`.
        group: ranks that have a part of the vocabulary each, in the order of the ranks: weight and bias are this
            rank's, equally many rows on all, and everything else, upstream gradients too, is the same on all ranks.
            So are the results; the gradients are those of the whole, for weight and bias of this rank's part. Each
            call costs one maximum and one sum of a few numbers per token, its backward pass one sum of the gradient
            of hidden.

    Returns: (...), fp32 (fp64 for fp64), or a pair of such tensors with_entropy. Gradients have the dtypes of the
    arguments.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, target, temperature, mask value or option.

    Error: with u the unit roundoff of the compute dtype and Z the largest (Σ_k |W_vk h_k| + |b_v|)/τ of the token,
    |error of log π(y)| ≤ 2·u·(width + 4)·Z + 4·u·(|log π(y)| + H + 1), and, with the spread S of `token_entropies`,
    |error of H| ≤ 2·u·(width + 4)·Z·(1 + S) + 4·u·(1 + H + S).

    Claims: head.logit, head.log_probability, head.entropy, head.gradient, head.entropy.gradient, head.log_odds,
    head.sums, head.parts, head.parts.gradient.
    """
    check_flag("with_entropy", with_entropy)
    check_group(group)
    tokens = head_inputs(hidden, weight, targets, bias, temperature, mask, ranks(group))
    chosen = two_stage_tile(hidden, weight) if tile is None else checked_tile(tile)
    local = tokens.targets - first_token(weight, group)
    logps, entropies = _LinearTokenLogps.apply(
        tokens.hidden, weight, bias, tokens.temperature, local, with_entropy, chosen, group
    )
    logps = tokens.restored(logps, targets)
    return (logps, tokens.restored(entropies, targets)) if with_entropy else logps


class _LinearTokenLogps(torch.autograd.Function):
    """log π(y) and H of rows, saving three numbers for each of them; the backward pass computes the logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        temperature: float | Tensor,
        targets: Tensor,
        with_entropy: bool,
        tile: Tile,
        group: ProcessGroup | None,
    ) -> tuple[Tensor, Tensor | None]:
        head = Head(weight, bias, temperature, group)
        sums = _sums(hidden, head, targets, tile, with_entropy)
        logps, entropies = sums.logps(), sums.entropies() if with_entropy else None
        given = temperature if isinstance(temperature, Tensor) else None
        ctx.save_for_backward(hidden, weight, bias, given, targets, logps, sums.totals(), entropies)
        ctx.temperature, ctx.tile, ctx.group = temperature if given is None else None, tile, group
        ctx.set_materialize_grads(False)
        return logps, entropies

    @staticmethod
    def backward(ctx: Any, grad_logps: Tensor | None, grad_entropies: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("linear_token_logps")
        hidden, weight, bias, temperature, targets, logps, totals, entropies = ctx.saved_tensors
        head = Head(weight, bias, ctx.temperature if temperature is None else temperature, ctx.group)
        if grad_logps is None and grad_entropies is None:
            return (None,) * 8
        if grad_logps is None:
            grad_logps = torch.zeros_like(logps)
        if grad_entropies is None:
            entropies = None
        rows = _Rows(hidden, targets, temperature, logps, totals, entropies, grad_logps, grad_entropies)
        gradients = _gradients(rows, head, ctx.needs_input_grad[:4], ctx.tile)
        return *gradients, None, None, None, None


def _sums(hidden: Tensor, head: Head, targets: Tensor, tile: Tile, with_entropy: bool) -> Sums:
    """What the softmax of each row needs, from all columns."""
    hidden = head.operand(hidden)
    memory = head.memory(min(tile.rows, len(hidden)), tile.columns)
    sums = Sums.of_nothing(head.zeros(len(hidden)), with_entropy=with_entropy)
    for columns in blocks(head.weight.shape[0], tile.columns):
        weight = head.operand(head.weight[columns])
        for rows in blocks(hidden.shape[0], tile.rows):
            logits = head.logits(hidden[rows], rows, weight, columns, memory)
            sums.rows(rows).add(logits, targets[rows] - columns.start, exponentials=False)
    return sums.joined(head, targets)


@dataclass(frozen=True)
class _Rows:
    """What the backward pass reads of each row: what the forward pass read and found, and what is asked of it."""

    hidden: Tensor
    targets: Tensor
    temperature: Tensor | None
    logps: Tensor
    totals: Tensor
    entropies: Tensor | None
    grad_logps: Tensor
    grad_entropies: Tensor | None

    def active(self) -> Tensor:
        """Which rows anything is asked of."""
        active = self.grad_logps != 0
        return active if self.grad_entropies is None else active | (self.grad_entropies != 0)

    def only(self, index: Tensor) -> _Rows:
        """Those of some rows."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[index] for name, value in values.items() if value is not None})

    def scale(self) -> Tensor:
        """What the slopes of a row leave out, so that its hidden state is multiplied by it and not a tile."""
        return -self.grad_logps if self.grad_entropies is None else -torch.ones_like(self.grad_logps)

    def at_target(self) -> Tensor:
        """The slope at the target: 1 − π_y is taken as −expm1(log π_y), as it cancels for a confident token."""
        miss = self.logps.expm1()
        if self.grad_entropies is None or self.entropies is None:
            return miss
        of_entropy = self.logps.exp() * (self.logps.clamp(min=EXP_IS_ZERO) + self.entropies)
        return self.grad_logps * miss + self.grad_entropies * of_entropy

    def terms(self, rows: slice) -> dict[str, Tensor]:
        """What makes up the factor of π_v in the slopes of some rows, beside 1."""
        if self.grad_entropies is None or self.entropies is None:
            return {}
        values = {"slope": self.grad_logps, "curve": self.grad_entropies, "entropies": self.entropies}
        return {name: value[rows] for name, value in values.items()}

    def slopes(self, distances: Tensor, rows: slice) -> Tensor:
        """Turn log π_v of a tile into slopes E_v, with ∂L/∂z_v = scale·E_v, but for the targets.

        E_v = π_v − δ_vy where only log π(y) is differentiated, and else g·(π_v − δ_vy) + g_H·π_v (log π_v + H).
        """
        if self.grad_entropies is None or self.entropies is None:
            return exp_(distances)
        factor = distances.clamp(min=EXP_IS_ZERO).add_(self.entropies[rows, None])
        factor.mul_(self.grad_entropies[rows, None]).add_(self.grad_logps[rows, None])
        return exp_(distances).mul_(factor)


class _Gradients:
    """∂L/∂hidden, ∂L/∂weight, ∂L/∂bias and ∂L/∂temperature, those that are needed, of some rows.

    Columns come first, and within them rows: each weight is read once and its gradient is rounded once.
    """

    def __init__(self, rows: _Rows, head: Head, needs: Sequence[bool]) -> None:
        self.rows, self.head, self.operand = rows, head, head.operand(rows.hidden)
        self.scale, self.at_target = rows.scale() / head.temperature, rows.at_target()
        self.scaled = (self.operand * self.scale.unsqueeze(1)).to(self.operand.dtype)
        self.hidden = rows.logps.new_zeros(rows.hidden.shape) if needs[0] else None
        self.weight = torch.empty_like(head.weight) if needs[1] else None
        if self.weight is not None and not len(self.operand):
            self.weight.zero_()
        self.bias = torch.empty_like(head.bias) if needs[2] and head.bias is not None else None
        self.temperature = torch.zeros_like(rows.logps) if needs[3] else None

    def add(self, columns: slice, tile: Tile, memory: Tensor) -> None:
        """Add what the logits of some columns give."""
        weight = self.head.operand(self.head.weight[columns])
        of_weight, of_bias = self._room(columns, memory), memory.new_zeros(len(weight))
        for rows in blocks(len(self.operand), tile.rows):
            slopes = self._slopes(weight, rows, columns, memory)
            if self.bias is not None:
                of_bias.addmv_(slopes.T, self.scale[rows])
            slopes = slopes.to(self.operand.dtype)
            if self.hidden is not None:
                accumulate(self.hidden[rows], slopes, weight)
            if of_weight is not None:
                put = accumulate if rows.start else multiply  # what was there before is not read
                put(of_weight, slopes.T, self.scaled[rows])
        if self.weight is not None and of_weight is not None and of_weight.dtype != self.weight.dtype:
            self.weight[columns] = of_weight
        if self.bias is not None:
            self.bias[columns] = of_bias

    def _room(self, columns: slice, memory: Tensor) -> Tensor | None:
        """Where the gradient of some columns of weight is added up: in place, unless that would round it each time."""
        if self.weight is None or self.weight.dtype == memory.dtype:
            return self.weight if self.weight is None else self.weight[columns]
        return torch.empty_like(self.weight[columns], dtype=memory.dtype)

    def _slopes(self, weight: Tensor, rows: slice, columns: slice, memory: Tensor) -> Tensor:
        """The slopes of a tile; what they give for the temperature is added."""
        tile = self.head.logits(self.operand[rows], rows, weight, columns, memory)
        position = self.rows.targets[rows] - columns.start
        if (kernels := triton_kernels_for(memory)) is not None:
            return self._triton_slopes(kernels, tile, rows, position)
        distances = tile.finished().sub_(self.rows.totals[rows, None])
        kept = distances.clamp(min=EXP_IS_ZERO) if self.temperature is not None else None
        slopes = self.rows.slopes(distances, rows)
        put_at(slopes, position, self.at_target[rows])
        if self.temperature is not None and kept is not None:
            self.temperature[rows].add_(kept.mul_(slopes).sum(1))
        return slopes

    def _triton_slopes(self, kernels: ModuleType, tile: Logits, rows: slice, position: Tensor) -> Tensor:
        """The same in one pass, and at once in the dtype of the products if nothing else reads the slopes."""
        dtype = tile.products.dtype if self.bias is not None else self.operand.dtype
        result = tile.products if dtype == tile.products.dtype else torch.empty_like(tile.products, dtype=dtype)
        kernels.slopes(
            tile.products.unsqueeze(0),
            position,
            self.at_target[rows],
            result,
            shift=self.rows.totals[rows],
            bias=tile.bias,
            temperature=tile.temperature,
            moments=None if self.temperature is None else self.temperature[rows],
            **self.rows.terms(rows),
        )
        return result

    def finished(self) -> Sequence[Tensor | None]:
        """The gradients, once all columns are added."""
        hidden, temperature = self.hidden, self.temperature
        if hidden is not None:
            hidden = summed(hidden.mul_(self.scale.unsqueeze(1)), self.head.group).to(self.rows.hidden.dtype)
        if temperature is not None:
            temperature = summed(temperature.mul_(-self.scale), self.head.group)
        return hidden, self.weight, self.bias, temperature


def _gradients(rows: _Rows, head: Head, needs: Sequence[bool], tile: Tile) -> Sequence[Tensor | None]:
    """All gradients of rows; those of which nothing is asked are left out of the products."""
    active = rows.active()
    if not active.all():
        index = active.nonzero().squeeze(1)
        some = rows.only(index)
        of_some = head if some.temperature is None else replace(head, temperature=some.temperature)
        hidden, weight, bias, temperature = _gradients(some, of_some, needs, tile)
        return _spread(hidden, index, rows.hidden), weight, bias, _spread(temperature, index, rows.logps)
    memory = head.memory(min(tile.rows, len(rows.hidden)), tile.columns)
    gradients = _Gradients(rows, head, needs)
    for columns in blocks(head.weight.shape[0], tile.columns):
        gradients.add(columns, tile, memory)
    return gradients.finished()


def _spread(some: Tensor | None, index: Tensor, like: Tensor) -> Tensor | None:
    """Rows put back where they were, with 0 in the others."""
    return None if some is None else torch.zeros_like(like).index_copy_(0, index, some)

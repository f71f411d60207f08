"""Log-probabilities and entropies from hidden states in two stages, as operators that are opaque to a compiler.

The forward pass saves three numbers for each row, and the backward pass recomputes the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from grape_verified.logprobs.dispatch import triton_kernels_for
from grape_verified.logprobs.parallel import first_token, group_named, summed
from grape_verified.logprobs.tiles import (
    Head,
    Logits,
    Sums,
    Tile,
    accumulate,
    blocks,
    multiply,
    put_at,
    refuse_second_derivative,
    second_derivative_refused,
)
from grape_verified.numerics import EXP_IS_ZERO, compute_dtype, exp_, without_autocast

#: The inputs of both operators: rows, which of them count, the head, and its tiling.
_GIVEN = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor? temperatures, float temperature, Tensor targets, "
    "Tensor? counted, int rows, int columns, str? group, float? softcap"
)
_FORWARD = f"({_GIVEN}, bool with_entropy) -> (Tensor, Tensor, Tensor)"
_BACKWARD = (
    f"({_GIVEN}, Tensor logps, Tensor totals, Tensor? entropies, Tensor? grad_logps, Tensor? grad_entropies, "
    "bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.custom_op("grape_verified::linear_token_logps", mutates_args=(), schema=_FORWARD)
def two_stage(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    targets: Tensor,
    counted: Tensor | None,
    rows: int,
    columns: int,
    group: str | None,
    softcap: float | None,
    with_entropy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """log π(y), log Σ_v exp(z_v) and H (empty without entropies) of rows; 0 where a row does not count."""
    head = _head(weight, bias, temperatures, temperature, group, softcap)
    index = None if counted is None else _places(counted)
    local = targets - first_token(weight, head.group)
    if index is not None:
        hidden, local, head = hidden[index], local[index], replace(head, temperature=head.temperature_of(index))
    with without_autocast(weight.device):
        sums = _sums(hidden, head, local, Tile(rows, columns), with_entropy)
        found = sums.logps(), sums.totals(), sums.entropies() if with_entropy else None
    logps, totals, entropies = (_spread(x, index, targets.shape) for x in found)
    assert logps is not None
    assert totals is not None
    return logps, totals, logps.new_empty(0) if entropies is None else entropies


@two_stage.register_fake
def _(hidden: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = hidden.new_empty(len(hidden), dtype=compute_dtype(hidden))
    return rows, torch.empty_like(rows), torch.empty_like(rows) if given[-1] else rows.new_empty(0)


@torch.library.custom_op("grape_verified::linear_token_logps_backward", mutates_args=(), schema=_BACKWARD)
def two_stage_backward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    targets: Tensor,
    counted: Tensor | None,
    rows: int,
    columns: int,
    group: str | None,
    softcap: float | None,
    logps: Tensor,
    totals: Tensor,
    entropies: Tensor | None,
    grad_logps: Tensor | None,
    grad_entropies: Tensor | None,
    needs: Sequence[bool],
) -> tuple[Tensor, ...]:
    """The gradients of hidden, weight, bias and temperatures, empty where none is needed.

    Rows that do not count, or have upstream gradients of 0, are left out.
    """
    head = _head(weight, bias, temperatures, temperature, group, softcap)
    local = targets - first_token(weight, head.group)
    asked = torch.zeros_like(logps) if grad_logps is None else grad_logps
    kept = entropies if grad_entropies is not None else None
    every = _Rows(hidden, local, temperatures, logps, totals, kept, asked, grad_entropies)
    active = every.active() if counted is None else every.active() & counted
    index = _places(active)
    some = every if index is None else every.only(index)
    if some.temperature is not None:
        head = replace(head, temperature=some.temperature)
    with without_autocast(weight.device):
        of_hidden, of_weight, of_bias, of_temperature = _gradients(some, head, needs, Tile(rows, columns))
    whole = _spread(of_hidden, index, hidden.shape), of_weight, of_bias, _spread(of_temperature, index, logps.shape)
    return tuple(logps.new_empty(0) if x is None else x for x in whole)


@two_stage_backward.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperatures: Tensor | None, *given: Any) -> tuple[Any, ...]:
    leaves = hidden, weight, bias, temperatures
    found = [
        x if needed and x is not None else hidden.new_empty(0) for x, needed in zip(leaves, given[-1], strict=True)
    ]
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in found)


def _mapped(function: Callable[..., Any], info: Any, in_dims: Sequence[Any], given: Sequence[Any]) -> tuple[Any, Any]:
    """The vmap rule of a function: one call for each entry of the batch."""

    def call(place: int) -> tuple[Tensor, ...]:
        own = (x.select(d, place) if isinstance(d, int) else x for x, d in zip(given, in_dims, strict=True))
        return function(*own)  # type: ignore[no-any-return]

    results = list(zip(*map(call, range(info.batch_size)), strict=True))
    return tuple(map(torch.stack, results)), (0,) * len(results)


class TwoStage(torch.autograd.Function):
    """The operators as an autograd function, which can be differentiated once.

    All arguments are named because a compiler counts them where nothing is differentiated.
    """

    @staticmethod
    def forward(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        temperatures: Tensor | None,
        temperature: float,
        targets: Tensor,
        counted: Tensor | None,
        rows: int,
        columns: int,
        group: str | None,
        softcap: float | None,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = hidden, weight, bias, temperatures, temperature, targets, counted, rows, columns, group, softcap
        return two_stage(*given, with_entropy)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        hidden, weight, bias, temperatures, ctx.temperature, targets, counted, *ctx.layout, with_entropy = inputs
        logps, totals, entropies = output
        ctx.mark_non_differentiable(totals, *([] if with_entropy else [entropies]))
        ctx.set_materialize_grads(False)
        found = logps, totals, entropies if with_entropy else None
        ctx.save_for_backward(hidden, weight, bias, temperatures, targets, counted, *found)

    @staticmethod
    def backward(
        ctx: Any, grad_logps: Tensor | None, _: Tensor | None, grad_entropies: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("linear_token_logps")
        hidden, weight, bias, temperatures, targets, counted, *found = ctx.saved_tensors
        grad_entropies = None if found[-1] is None else grad_entropies  # a compiler hands over that of an empty tensor
        if grad_logps is None and grad_entropies is None:
            return (None,) * 12
        needs = list(ctx.needs_input_grad[:4])
        head = weight, bias, temperatures, ctx.temperature
        given = hidden, *head, targets, counted, *ctx.layout, *found, grad_logps, grad_entropies, needs
        plain = torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is None
        call = two_stage_backward if plain else _Backward.apply
        results = call(*given)  # type: ignore[no-untyped-call, unused-ignore]
        gradients = (x if needed else None for x, needed in zip(results, needs, strict=True))
        return *gradients, None, None, None, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[Any], *given: Any) -> tuple[Any, Any]:
        return _mapped(TwoStage.apply, info, in_dims, given)


class _Backward(torch.autograd.Function):
    """The backward pass under torch.func, with a derivative that raises."""

    @staticmethod
    def forward(*given: Any) -> tuple[Tensor, ...]:
        return two_stage_backward(*given)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing to save."""

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> NoReturn:
        second_derivative_refused("linear_token_logps")

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[Any], *given: Any) -> tuple[Any, Any]:
        return _mapped(_Backward.apply, info, in_dims, given)


def _head(
    weight: Tensor,
    bias: Tensor | None,
    temperatures: Tensor | None,
    temperature: float,
    group: str | None,
    softcap: float | None,
) -> Head:
    return Head(weight, bias, temperature if temperatures is None else temperatures, group_named(group), softcap)


def _places(counted: Tensor) -> Tensor | None:
    """The places of the rows that count, or None if all do. Synchronises, because products need the number of rows."""
    places = counted.nonzero().squeeze(1)
    return places if len(places) < len(counted) else None


def _spread(some: Tensor | None, index: Tensor | None, shape: Sequence[int]) -> Tensor | None:
    """Rows put back in their places, with 0 in the others."""
    if some is None or index is None:
        return some
    return some.new_zeros(shape).index_copy_(0, index, some)


def _sums(hidden: Tensor, head: Head, targets: Tensor, tile: Tile, with_entropy: bool) -> Sums:
    """The sums of each row over all columns."""
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
    """The inputs of the backward pass for each row: inputs and results of the forward pass, upstream gradients."""

    hidden: Tensor
    targets: Tensor
    temperature: Tensor | None
    logps: Tensor
    totals: Tensor
    entropies: Tensor | None
    grad_logps: Tensor
    grad_entropies: Tensor | None

    def active(self) -> Tensor:
        """Which rows have an upstream gradient other than 0."""
        active = self.grad_logps != 0
        return active if self.grad_entropies is None else active | (self.grad_entropies != 0)

    def only(self, index: Tensor) -> _Rows:
        """A selection of rows."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[index] for name, value in values.items() if value is not None})

    def scale(self) -> Tensor:
        """The factor that the slopes of a row leave out; it multiplies the hidden state in place of a tile."""
        return -self.grad_logps if self.grad_entropies is None else -torch.ones_like(self.grad_logps)

    def at_target(self) -> Tensor:
        """The slope at the target, with 1 − π_y as −expm1(log π_y), because it cancels for a confident token."""
        miss = self.logps.expm1()
        if self.grad_entropies is None or self.entropies is None:
            return miss
        of_entropy = self.logps.exp() * (self.logps.clamp(min=EXP_IS_ZERO) + self.entropies)
        return self.grad_logps * miss + self.grad_entropies * of_entropy

    def terms(self, rows: slice) -> dict[str, Tensor]:
        """The terms of the factor of π_v in the slopes of some rows, if it is not 1."""
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

    The outer loop is over columns: each weight is read once and its gradient is rounded once.
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
        """Add the gradients through the logits of some columns."""
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
                put = accumulate if rows.start else multiply  # the first block overwrites uninitialised memory
                put(of_weight, slopes.T, self.scaled[rows])
        if self.weight is not None and of_weight is not None and of_weight.dtype != self.weight.dtype:
            self.weight[columns] = of_weight
        if self.bias is not None:
            self.bias[columns] = of_bias

    def _room(self, columns: slice, memory: Tensor) -> Tensor | None:
        """Where the gradient of some columns of weight is summed: in place, unless that would round it each time."""
        if self.weight is None or self.weight.dtype == memory.dtype:
            return self.weight if self.weight is None else self.weight[columns]
        return torch.empty_like(self.weight[columns], dtype=memory.dtype)

    def _slopes(self, weight: Tensor, rows: slice, columns: slice, memory: Tensor) -> Tensor:
        """The slopes of a tile; the gradient of the temperature is updated."""
        tile = self.head.logits(self.operand[rows], rows, weight, columns, memory)
        position, kept = self.rows.targets[rows] - columns.start, self.head.kept(tile.products)
        slopes = self._uncapped_slopes(tile, rows, position)
        return slopes if self.head.softcap is None else slopes.mul_(kept)

    def _uncapped_slopes(self, tile: Logits, rows: slice, position: Tensor) -> Tensor:
        """The slopes in the logits that a cap has been applied to."""
        if (kernels := triton_kernels_for(tile.products)) is not None:
            return self._triton_slopes(kernels, tile, rows, position)
        distances = tile.finished().sub_(self.rows.totals[rows, None])
        bounded = distances.clamp(min=EXP_IS_ZERO) if self.temperature is not None else None
        slopes = self.rows.slopes(distances, rows)
        put_at(slopes, position, self.at_target[rows])
        if self.temperature is not None and bounded is not None:
            self.temperature[rows].add_(bounded.mul_(slopes).sum(1))
        return slopes

    def _triton_slopes(self, kernels: ModuleType, tile: Logits, rows: slice, position: Tensor) -> Tensor:
        """The same in one pass, in the dtype of the operands unless the gradient of bias reads the slopes."""
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
        """The gradients, after all columns."""
        hidden, temperature = self.hidden, self.temperature
        if hidden is not None:
            hidden = summed(hidden.mul_(self.scale.unsqueeze(1)), self.head.group).to(self.rows.hidden.dtype)
        if temperature is not None:
            temperature = summed(temperature.mul_(-self.scale), self.head.group)
        return hidden, self.weight, self.bias, temperature


def _gradients(rows: _Rows, head: Head, needs: Sequence[bool], tile: Tile) -> Sequence[Tensor | None]:
    """All gradients of rows."""
    memory = head.memory(min(tile.rows, len(rows.hidden)), tile.columns)
    gradients = _Gradients(rows, head, needs)
    for columns in blocks(head.weight.shape[0], tile.columns):
        gradients.add(columns, tile, memory)
    return gradients.finished()

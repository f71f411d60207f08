"""Logits a tile at a time: how one is computed, and the sums over tiles that a softmax is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn.functional import logsigmoid

from grape_verified.arguments import check_integer
from grape_verified.logprobs.dispatch import triton_kernels_for
from grape_verified.logprobs.parallel import largest_shift, summed
from grape_verified.numerics import EXP_IS_ZERO, compute_dtype, exp_

#: A logit may exceed the shift by so much before the shift is raised: e¹⁶ is far from overflow and costs no accuracy.
SLACK = 16.0

#: Rows that are left over from so many take another way through the libraries on a CPU, where sums have another order:
#: what comes out for a row would depend on how many others there are. They are filled up with zeros.
ROWS_TOGETHER = 4

#: On a CPU the rows of a tile lie so many numbers further apart than they are long: rows that are a power of two apart
#: compete for the same places in the caches, which costs the products a twentieth of their rate.
GAP = 16


class Tile(NamedTuple):
    """So many rows (tokens) and columns (of the vocabulary) of logits at once."""

    rows: int
    columns: int


def two_stage_tile(hidden: Tensor, weight: Tensor) -> Tile:
    """The tile of the two-stage route: on a CPU 4 MiB of logits, which its last cache holds, on a GPU 128 MiB."""
    return Tile(8192, 4096) if hidden.is_cuda else Tile(512, 2048)


def one_pass_tile(hidden: Tensor, weight: Tensor) -> Tile:
    """The tile of the one-pass route, which holds all columns of its rows until their gradients are formed.

    Half as many rows as hidden states are wide: the logits of a block then take half the memory of the gradient of
    weight. No fewer than 256, below which the products do not reach the rate of the machine.
    """
    return Tile(max(256, weight.shape[1] // 2), len(weight) if hidden.is_cuda else 4096)


def checked_tile(tile: tuple[int, int]) -> Tile:
    """Check the size of a tile that was asked for."""
    if not isinstance(tile, tuple) or len(tile) != len(Tile._fields):
        raise TypeError(f"tile: got {tile!r}, expected a pair of rows and columns")
    for name, size in zip(Tile._fields, tile, strict=True):
        check_integer(f"tile {name}", size, at_least=1)
    return Tile(*tile)


def refuse_second_derivative(name: str) -> None:
    """Refuse to be differentiated twice: without this the part that is missing would be missing in silence."""
    if torch.is_grad_enabled() and torch._C._functorch.maybe_current_level() is None:  # torch.func always enables it
        second_derivative_refused(name)


def second_derivative_refused(name: str) -> NoReturn:
    """Say which function cannot be differentiated twice."""
    raise RuntimeError(
        f"{name}: got a backward pass with create_graph=True, expected one without: it cannot be differentiated again; "
        "token_logps on the logits can"
    )


def blocks(size: int, step: int) -> Iterator[slice]:
    """The slices of at most `step` that make up `size`: as few as can be, and none much smaller than the others."""
    equal = -(-size // max(1, -(-size // step)))
    step = min(step, equal + -equal % ROWS_TOGETHER) or 1
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


class Logits(NamedTuple):
    """A tile of logits (products + bias) / temperature, of which the products are in memory."""

    products: Tensor
    bias: Tensor | None
    temperature: float | Tensor

    def finished(self) -> Tensor:
        """The logits, in the place of the products."""
        tile = self.products
        if self.bias is not None:
            tile.add_(self.bias)
        if isinstance(self.temperature, Tensor):
            tile.div_(self.temperature.unsqueeze(1))
        elif self.temperature != 1:
            tile.div_(self.temperature)
        return tile


@dataclass(frozen=True)
class Head:
    """The last layer of a model, whose logits are (hidden · weightᵀ + bias) / temperature.

    The products are fp32 (fp64 for fp64 operands) whatever the operands are: half-precision logits are where
    log-probabilities lose their digits. CUDA multiplies bf16 operands so; on a CPU they are brought to fp32 first.
    With a group, weight and bias are those of one part of the vocabulary, and every rank of the group has another.
    """

    weight: Tensor
    bias: Tensor | None
    temperature: float | Tensor
    group: ProcessGroup | None = None

    def operand(self, x: Tensor) -> Tensor:
        """Hidden states or weights in the dtype in which they are multiplied."""
        multiplied = x.is_cuda and x.dtype == torch.bfloat16
        return x if multiplied else x.to(compute_dtype(x))

    def memory(self, rows: int, columns: int) -> Tensor:
        """Room for a tile of logits of at most so many rows and columns."""
        size = rows * (min(columns, len(self.weight)) + GAP)
        return torch.empty(size, dtype=compute_dtype(self.weight), device=self.weight.device)

    def zeros(self, size: int) -> Tensor:
        """So many zeros, in the dtype of the logits."""
        return torch.zeros(size, dtype=compute_dtype(self.weight), device=self.weight.device)

    def temperature_of(self, rows: slice | Tensor) -> float | Tensor:
        """The temperature of some rows."""
        return self.temperature[rows] if isinstance(self.temperature, Tensor) else self.temperature

    def logits(self, hidden: Tensor, rows: slice | Tensor, weight: Tensor, columns: slice, memory: Tensor) -> Logits:
        """A tile of logits, in memory, from the operands of some rows and some columns."""
        gap = GAP if triton_kernels_for(memory) is None else 0
        shape = len(hidden), len(weight) + gap
        tile = memory[: shape[0] * shape[1]].view(shape)[:, : len(weight)]
        multiply(tile, hidden, weight.T)
        return Logits(tile, None if self.bias is None else self.bias[columns], self.temperature_of(rows))


def multiply(result: Tensor, left: Tensor, right: Tensor) -> None:
    """result = left · right, in the dtype of result."""
    if left.dtype != result.dtype:
        torch.mm(left, right, out_dtype=result.dtype, out=result)
        return
    whole = len(left) - len(left) % ROWS_TOGETHER
    torch.mm(left[:whole], right, out=result[:whole])
    if whole < len(left):
        result[whole:] = _padded(left[whole:]).mm(right)[: len(left) - whole]


def accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left · right, in the dtype of total."""
    if left.dtype != total.dtype:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
        return
    whole = len(left) - len(left) % ROWS_TOGETHER
    total[:whole].addmm_(left[:whole], right)
    if whole < len(left):
        total[whole:] = _padded(total[whole:]).addmm_(_padded(left[whole:]), right)[: len(left) - whole]


def _padded(rows: Tensor) -> Tensor:
    """A few rows, and zeros after them."""
    return torch.nn.functional.pad(rows, (0, 0, 0, ROWS_TOGETHER - len(rows)))


def put_at(tile: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Put a value into each row of a tile at a position, unless that lies outside."""
    inside = (position >= 0) & (position < tile.shape[1])
    place = position.clamp(0, tile.shape[1] - 1).unsqueeze(1)
    there = tile.gather(1, place)
    return tile.scatter_(1, place, torch.where(inside.unsqueeze(1), values.unsqueeze(1), there))


@dataclass
class Sums:
    """What the softmax of some rows needs of their logits z, of as many columns as were added so far.

    With y the target: shift, near the largest logit; rest = Σ_{v≠y} exp(z_v − shift); chosen = z_y; and, for an
    entropy, spread = Σ_{v≠y} exp(z_v − shift)·(z_v − shift). Without the target among the others, the
    log-probability of a confident token, −log(1 + rest/exp(z_y − shift)), keeps its relative accuracy.
    """

    shift: Tensor
    rest: Tensor
    chosen: Tensor
    spread: Tensor | None

    @classmethod
    def of_nothing(cls, zero: Tensor, *, with_entropy: bool) -> Sums:
        """No column added yet, to a zero for each row."""
        lowest = torch.finfo(zero.dtype).min / 2  # not −∞: the differences of shifts are finite
        spread = zero.clone() if with_entropy else None
        return cls(torch.full_like(zero, lowest), zero, torch.full_like(zero, -math.inf), spread)

    def rows(self, rows: slice) -> Sums:
        """Those of some rows; what is added to them is added to these."""
        spread = None if self.spread is None else self.spread[rows]
        return Sums(self.shift[rows], self.rest[rows], self.chosen[rows], spread)

    def add(self, tile: Logits, position: Tensor, *, exponentials: bool) -> None:
        """Add a tile, whose targets are at `position`, which may lie outside.

        With exponentials it becomes exp(z − shift), and 0 at the target. Without, what is left in it is of no use.
        """
        if (kernels := triton_kernels_for(tile.products)) is not None:
            sums = self.shift, self.rest, self.chosen, self.spread
            head = {"bias": tile.bias, "temperature": tile.temperature}
            kernels.add_tile(tile.products, position, *sums, slack=SLACK, exponentials=exponentials, **head)
        else:
            self._add(tile.finished(), position)

    def _add(self, logits: Tensor, position: Tensor) -> None:
        """Add a tile in passes of torch; it becomes exp(z − shift)."""
        self.raise_shift(logits.amax(1))
        inside = (position >= 0) & (position < logits.shape[1])
        place = position.clamp(0, logits.shape[1] - 1).unsqueeze(1)
        found = logits.gather(1, place).squeeze(1)
        self.chosen.copy_(torch.where(inside, found, self.chosen))
        logits.scatter_(1, place, found.masked_fill(inside, -math.inf).unsqueeze(1)).sub_(self.shift.unsqueeze(1))
        if self.spread is not None:
            distances = logits.clamp(min=EXP_IS_ZERO)
            self.spread.add_(distances.mul_(exp_(logits)).sum(1))
            self.rest.add_(logits.sum(1))
        else:
            self.rest.add_(exp_(logits).sum(1))

    def raise_shift(self, top: Tensor) -> None:
        """Raise the shift to what is the largest logit so far where that is far above, and rescale what was summed."""
        shift = torch.where(top > self.shift + SLACK, top, self.shift)
        drop = self.shift - shift
        factor = drop.exp()
        if self.spread is not None:
            self.spread.add_(self.rest * drop).mul_(factor)
        self.rest.mul_(factor)
        self.shift.copy_(shift)

    def joined(self, head: Head, targets: Tensor) -> Sums:
        """Those of the whole vocabulary, where each rank has added the columns of its part: one MAX and one SUM."""
        if head.group is None:
            return self
        shift = largest_shift(self.shift, len(head.weight), head.group)
        drop = self.shift - shift
        owned = (targets >= 0) & (targets < len(head.weight))
        parts = [self.rest * drop.exp(), self.chosen.masked_fill(~owned, 0)]
        if self.spread is not None:
            parts.append((self.spread + self.rest * drop) * drop.exp())
        rest, chosen, *spread = summed(torch.stack(parts), head.group)
        return Sums(shift, rest, chosen, spread[0] if spread else None)

    def logps(self) -> Tensor:
        """log π(y), as the log of the sigmoid of the log-odds."""
        return logsigmoid(self._target() - self.rest.log())

    def totals(self) -> Tensor:
        """log Σ_v exp(z_v)."""
        return self.shift + self._log_total()

    def entropies(self) -> Tensor:
        """−Σ_v π_v log π_v: log Σ_v e_v − Σ_v e_v d_v / Σ_v e_v, with d_v = z_v − shift and e_v = exp(d_v)."""
        assert self.spread is not None
        target = self._target().clamp(min=EXP_IS_ZERO)
        weight = target.exp()
        return (self._log_total() - (self.spread + weight * target) / (self.rest + weight)).clamp(min=0)

    def _target(self) -> Tensor:
        return self.chosen - self.shift

    def _log_total(self) -> Tensor:
        return torch.logaddexp(self._target(), self.rest.log())

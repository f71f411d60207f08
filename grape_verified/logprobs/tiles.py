"""Logits a tile at a time: how a tile is computed, and the sums over tiles that a softmax needs."""

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

#: By how much a logit may exceed the shift before the shift is raised: e¹⁶ is far from overflow and costs no accuracy.
SLACK = 16.0

#: On a CPU the libraries treat rows beyond a multiple of this differently, with another order of summation: the result
#: for a row would depend on the number of rows. So rows are padded with zeros to a multiple.
ROWS_TOGETHER = 4

#: On a CPU, padding between the rows of a tile: rows that are a power of two apart compete for the same cache lines,
#: which slows the products down by a twentieth.
GAP = 16


class Tile(NamedTuple):
    """The numbers of rows (tokens) and columns (of the vocabulary) of logits computed at once."""

    rows: int
    columns: int


def two_stage_tile(hidden: Tensor, weight: Tensor) -> Tile:
    """The tile of the two-stage route: 4 MiB of logits on a CPU, which fit into its last cache, 128 MiB on a GPU."""
    return Tile(8192, 4096) if hidden.is_cuda else Tile(512, 2048)


def one_pass_tile(hidden: Tensor, weight: Tensor) -> Tile:
    """The tile of the one-pass route, which holds all columns of its rows until their gradients are formed.

    It has half as many rows as the width of hidden states: the logits of a block then take half the memory of the
    gradient of weight. With fewer than 256 rows, the products would not run at full speed.
    """
    return Tile(max(256, weight.shape[1] // 2), len(weight) if hidden.is_cuda else 4096)


def checked_tile(tile: tuple[int, int]) -> Tile:
    """Check a tile given by the caller."""
    if not isinstance(tile, tuple) or len(tile) != len(Tile._fields):
        raise TypeError(f"tile: got {tile!r}, expected a pair of rows and columns")
    for name, size in zip(Tile._fields, tile, strict=True):
        check_integer(f"tile {name}", size, at_least=1)
    return Tile(*tile)


def refuse_second_derivative(name: str, other: str = "token_logps") -> None:
    """Raise on a second derivative, part of which would otherwise be silently missing; another function has one."""
    if torch.is_grad_enabled() and torch._C._functorch.maybe_current_level() is None:  # torch.func always enables it
        second_derivative_refused(name, other)


def second_derivative_refused(name: str, other: str = "token_logps") -> NoReturn:
    """Raise the error of a function that cannot be differentiated twice."""
    raise RuntimeError(
        f"{name}: got a backward pass with create_graph=True, expected one without: it cannot be differentiated again; "
        f"{other} on the logits can"
    )


def blocks(size: int, step: int) -> Iterator[slice]:
    """Slices of at most `step` that cover `size`: as few as possible, of nearly equal length."""
    equal = -(-size // max(1, -(-size // step)))
    step = min(step, equal + -equal % ROWS_TOGETHER) or 1
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


class Logits(NamedTuple):
    """A tile of logits (products + bias) / temperature, of which only the products are computed."""

    products: Tensor
    bias: Tensor | None
    temperature: float | Tensor

    def capped(self, softcap: float) -> Logits:
        """The same with a soft cap, in place, so that only the temperature is left to apply."""
        tile = self.products if self.bias is None else self.products.add_(self.bias)
        tile.div_(softcap).tanh_().mul_(softcap)
        if self.bias is not None:
            tile.masked_fill_(self.bias.isneginf(), -math.inf)
        return Logits(tile, None, self.temperature)

    def finished(self) -> Tensor:
        """The logits, in place of the products."""
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

    With a soft cap C they are C·tanh((hidden · weightᵀ + bias)/C) / temperature; a bias of −inf still forbids a token.

    The products are fp32 (fp64 for fp64 operands) whatever the operands: log-probabilities lose their accuracy in
    half-precision logits. CUDA multiplies bf16 operands into fp32; on a CPU they are converted first. With a group,
    each rank has the weight and bias of one part of the vocabulary.
    """

    weight: Tensor
    bias: Tensor | None
    temperature: float | Tensor
    group: ProcessGroup | None = None
    softcap: float | None = None

    def operand(self, x: Tensor) -> Tensor:
        """Hidden states or weights in the dtype of the products' operands."""
        multiplied = x.is_cuda and x.dtype == torch.bfloat16
        return x if multiplied else x.to(compute_dtype(x))

    def memory(self, rows: int, columns: int) -> Tensor:
        """A buffer for a tile of logits of at most that many rows and columns."""
        size = rows * (min(columns, len(self.weight)) + GAP)
        return torch.empty(size, dtype=compute_dtype(self.weight), device=self.weight.device)

    def zeros(self, size: int) -> Tensor:
        """Zeros in the dtype of the logits."""
        return torch.zeros(size, dtype=compute_dtype(self.weight), device=self.weight.device)

    def temperature_of(self, rows: slice | Tensor) -> float | Tensor:
        """The temperature of some rows."""
        return self.temperature[rows] if isinstance(self.temperature, Tensor) else self.temperature

    def logits(self, hidden: Tensor, rows: slice | Tensor, weight: Tensor, columns: slice, memory: Tensor) -> Logits:
        """A tile of logits, in memory, from the operands of some rows and columns."""
        gap = GAP if triton_kernels_for(memory) is None else 0
        shape = len(hidden), len(weight) + gap
        tile = memory[: shape[0] * shape[1]].view(shape)[:, : len(weight)]
        multiply(tile, hidden, weight.T)
        logits = Logits(tile, None if self.bias is None else self.bias[columns], self.temperature_of(rows))
        return logits if self.softcap is None else logits.capped(self.softcap)

    def kept(self, capped: Tensor) -> Tensor | float:
        """The share of the slopes that the cap leaves at logits before the temperature: 1 − tanh²."""
        if self.softcap is None:
            return 1.0
        return 1 - (capped / self.softcap).clamp(min=-1).square_()  # a token that is forbidden is at −inf


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
    """A few rows padded with zeros."""
    return torch.nn.functional.pad(rows, (0, 0, 0, ROWS_TOGETHER - len(rows)))


def put_at(tile: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Write a value at a position of each row of a tile, unless the position is outside."""
    inside = (position >= 0) & (position < tile.shape[1])
    place = position.clamp(0, tile.shape[1] - 1).unsqueeze(1)
    there = tile.gather(1, place)
    return tile.scatter_(1, place, torch.where(inside.unsqueeze(1), values.unsqueeze(1), there))


@dataclass
class Sums:
    """Sums over the logits z of rows that their softmax needs, over the columns added so far.

    With y the target: shift, near the largest logit; rest = Σ_{v≠y} exp(z_v − shift); chosen = z_y; and, for an
    entropy, spread = Σ_{v≠y} exp(z_v − shift)·(z_v − shift). Because rest leaves the target out, the log-probability of
    a confident token, −log(1 + rest/exp(z_y − shift)), keeps its relative accuracy.
    """

    shift: Tensor
    rest: Tensor
    chosen: Tensor
    spread: Tensor | None

    @classmethod
    def of_nothing(cls, zero: Tensor, *, with_entropy: bool) -> Sums:
        """The sums over no columns, given a zero for each row."""
        lowest = torch.finfo(zero.dtype).min / 2  # finite, so that differences of shifts are
        spread = zero.clone() if with_entropy else None
        return cls(torch.full_like(zero, lowest), zero, torch.full_like(zero, -math.inf), spread)

    def rows(self, rows: slice) -> Sums:
        """A view of the sums of some rows."""
        spread = None if self.spread is None else self.spread[rows]
        return Sums(self.shift[rows], self.rest[rows], self.chosen[rows], spread)

    def add(self, tile: Logits, position: Tensor, *, exponentials: bool) -> None:
        """Add a tile with targets at `position`, which may be outside.

        With exponentials the tile becomes exp(z − shift), and 0 at the target. Else its contents are undefined.
        """
        if (kernels := triton_kernels_for(tile.products)) is not None:
            sums = self.shift, self.rest, self.chosen, self.spread
            head = {"bias": tile.bias, "temperature": tile.temperature}
            kernels.add_tile(tile.products, position, *sums, slack=SLACK, exponentials=exponentials, **head)
        else:
            self._add(tile.finished(), position)

    def _add(self, logits: Tensor, position: Tensor) -> None:
        """Add a tile with torch operations; it becomes exp(z − shift)."""
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
        """Raise the shift to the largest logit where that is far above it, and rescale the sums."""
        shift = torch.where(top > self.shift + SLACK, top, self.shift)
        drop = self.shift - shift
        factor = drop.exp()
        if self.spread is not None:
            self.spread.add_(self.rest * drop).mul_(factor)
        self.rest.mul_(factor)
        self.shift.copy_(shift)

    def joined(self, head: Head, targets: Tensor) -> Sums:
        """The sums over the whole vocabulary, from the parts of all ranks, by one MAX and one SUM."""
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

"""A loss directly from hidden states, with gradients formed while the logits of a block are in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from grape_verified.logprobs.parallel import summed
from grape_verified.logprobs.tiles import (
    Head,
    Sums,
    Tile,
    accumulate,
    blocks,
    multiply,
    put_at,
    refuse_second_derivative,
)
from grape_verified.numerics import compute_dtype, without_autocast

#: Rows with slope 0 are left out of the products if they are at least this share of their block: gathering the other
#: rows of a tile costs about a tenth of the products.
WORTH_MOVING = 0.1


class Part(NamedTuple):
    """A block: the places of its rows, and the terms of the loss that they make up."""

    rows: Tensor
    terms: slice


@dataclass(frozen=True)
class Loss:
    """Σ weights · terms, in independent parts."""

    parts: Sequence[Part]
    terms: Callable[[Tensor, Part], Tensor]
    weights: Tensor

    def slopes(self, logps: Tensor, part: Part) -> tuple[Tensor, Tensor]:
        """The terms of a part, and the derivative of the loss in its log-probabilities."""
        with torch.enable_grad():
            leaf = logps.detach().requires_grad_()
            terms = self.terms(leaf, part)
            if not terms.requires_grad:
                return terms, torch.zeros_like(logps)
            _check_leaves(terms, leaf)
            slopes = torch.autograd.grad(terms, leaf, self.weights[part.terms], allow_unused=True)[0]
        return terms.detach(), torch.zeros_like(logps) if slopes is None else slopes


def _check_leaves(terms: Tensor, leaf: Tensor) -> None:
    """Refuse a loss with parameters of its own: no gradient would reach them."""
    nodes, seen = [terms.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found = getattr(node, "variable", leaf)
        if found is not leaf:
            raise ValueError(
                f"loss_fn: got a function that reads a tensor of shape {tuple(found.shape)} which requires a gradient, "
                "expected none but logps: nothing else is differentiated"
            )
        nodes.extend(following for following, _ in node.next_functions)


#: Columns, and memory for the logits of some rows there.
Tiles = Sequence[tuple[slice, Tensor]]

#: The gradients of hidden, weight and bias that are needed, a loss, and more results without a gradient.
Found = tuple[Sequence[Tensor | None], Tensor, *tuple[Tensor, ...]]


class OnePass(torch.autograd.Function):
    """A loss, and more results of the same pass.

    The forward pass computes the gradients; the backward pass multiplies them by the upstream gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        compute: Callable[[Sequence[bool]], Found],
        refusal: tuple[str, str],
        differentiated: bool,
    ) -> tuple[Tensor, ...]:
        needs = [needed and differentiated for needed in ctx.needs_input_grad[:3]]
        with without_autocast(weight.device):
            gradients, total, *others = compute(needs)
        ctx.refusal = refusal
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(*others)
        return total, *others

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative(*ctx.refusal)
        gradients = ctx.saved_tensors
        # The usual upstream gradient of 1 needs no second copy of the gradient of weight; the test synchronises with a
        # GPU. A retained graph must keep its own gradients, because leaves write into those that they are given.
        if torch._C._autograd._get_current_graph_task_keep_graph() or upstream != 1:
            gradients = [None if gradient is None else gradient * upstream for gradient in gradients]
        return *gradients, None, None, None


def one_pass(hidden: Tensor, head: Head, targets: Tensor, loss: Loss, tile: Tile, needs: Sequence[bool]) -> Found:
    """A loss, its terms, the log-probabilities of all rows and the gradients that are needed."""
    most_rows = max((len(part.rows) for part in loss.parts), default=0)
    places = tiles_of(head, most_rows, tile)
    gradients = Gradients(hidden, head, needs)
    logps, terms = head.zeros(len(hidden)), torch.zeros_like(loss.weights)
    for part in loss.parts:
        block = _Block.of(head.operand(hidden[part.rows]), part.rows, head, targets[part.rows], places)
        logps[part.rows] = block.logps
        if gradients.needed:
            terms[part.terms], slopes = loss.slopes(block.logps, part)
            scale = -slopes * block.factor / head.temperature_of(part.rows)
            gradients.add(block.hidden, block.tiles, part.rows, scale)
        else:
            terms[part.terms] = loss.terms(block.logps, part)
    return gradients.finished(), (loss.weights * terms).sum(), terms, logps


def tiles_of(head: Head, rows: int, tile: Tile) -> Tiles:
    """Memory for all columns of some rows, in tiles."""
    return [(part, head.memory(rows, tile.columns)) for part in blocks(len(head.weight), tile.columns)]


@dataclass(frozen=True)
class _Block:
    """Some rows with all their columns, in tiles.

    A tile holds E_v with π_v − δ_vy = factor·E_v, which is exp(z_v − shift) for all tokens but the target; factor =
    exp(shift − log Σ_v exp(z_v)) is one number for each row. A soft cap multiplies each E_v by the share
    that it leaves.
    """

    hidden: Tensor
    tiles: Tiles
    logps: Tensor
    factor: Tensor

    @classmethod
    def of(cls, hidden: Tensor, rows: Tensor, head: Head, targets: Tensor, places: Tiles) -> _Block:
        """Compute the logits of some rows, whose hidden states are given as operands, a tile at each place."""
        sums = Sums.of_nothing(head.zeros(len(hidden)), with_entropy=False)
        tiles, shifts = [], []
        for part, place in places:
            logits = head.logits(hidden, rows, head.operand(head.weight[part]), part, place)
            kept = head.kept(logits.products)
            sums.add(logits, targets - part.start, exponentials=True)
            if head.softcap is not None:
                logits.products.mul_(kept)
            tiles.append((part, logits.products))
            shifts.append(sums.shift.clone())
        whole = sums.joined(head, targets)
        sums.raise_shift(whole.shift)
        logps, totals = whole.logps(), whole.totals()
        at_target = logps.expm1() * (totals - sums.shift).exp() * head.kept(whole.chosen * head.temperature_of(rows))
        for (part, tile), shift in zip(tiles, shifts, strict=True):
            if not torch.equal(shift, sums.shift):
                tile.mul_((shift - sums.shift).exp_().unsqueeze(1))
            put_at(tile, targets - part.start, at_target)
        return cls(hidden, tiles, logps, (sums.shift - totals).exp())


class Gradients:
    """∂L/∂hidden, ∂L/∂weight and ∂L/∂bias, those that are needed, summed over blocks.

    The factors of a row multiply its hidden state and its result, so that the tiles enter the products unchanged.
    """

    def __init__(self, hidden: Tensor, head: Head, needs: Sequence[bool]) -> None:
        self.head, self.needed, self.started = head, any(needs), False
        dtype = compute_dtype(hidden)
        self.hidden = torch.zeros_like(hidden, dtype=dtype) if needs[0] else None
        self.weight = torch.empty_like(head.weight, dtype=dtype) if needs[1] else None
        self.bias = head.zeros(len(head.weight)) if needs[2] else None

    def add(self, hidden: Tensor, tiles: Tiles, rows: Tensor, scale: Tensor) -> None:
        """Add the gradients of a block, whose slopes are its tiles times the scale of each row.

        Rows of scale 0 are left out if that pays.
        """
        active = scale != 0
        if not active.any():
            return
        moved = ~active.all() and (~active).float().mean() >= WORTH_MOVING
        index = active.nonzero().squeeze(1) if moved else slice(None)
        of_hidden = self._add(hidden[index], tiles, index, scale[index])
        self.started = True
        if self.hidden is not None:
            self.hidden[rows[index]] = of_hidden

    def _add(self, hidden: Tensor, tiles: Tiles, index: Tensor | slice, scale: Tensor) -> Tensor:
        """Add the gradients of weight and bias of some rows of a block; return that of hidden."""
        scaled = (hidden * scale.unsqueeze(1)).to(hidden.dtype)
        of_hidden = scale.new_zeros(hidden.shape)
        for columns, whole in tiles:
            tile = whole if isinstance(index, slice) else whole[index]
            if self.bias is not None:
                self.bias[columns].addmv_(tile.T, scale)
            tile = tile.to(hidden.dtype)
            if self.hidden is not None:
                accumulate(of_hidden, tile, self.head.operand(self.head.weight[columns]))
            if self.weight is not None:
                put = accumulate if self.started else multiply  # the first block overwrites uninitialised memory
                put(self.weight[columns], tile.T, scaled)
        return of_hidden.mul_(scale.unsqueeze(1))

    def finished(self) -> Sequence[Tensor | None]:
        """The gradients in the dtypes of their tensors, after all blocks."""
        if self.weight is not None and not self.started:
            self.weight.zero_()
        if self.hidden is not None:
            summed(self.hidden, self.head.group)
        dtype = self.head.weight.dtype
        return [None if x is None else x.to(dtype) for x in (self.hidden, self.weight, self.bias)]

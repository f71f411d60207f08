"""Divergences of a student from a teacher directly from hidden states, with gradients formed in the same pass.

As in `one_pass`, a block of rows has all its columns in memory, as tiles that become the slopes of the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from grape_verified.logprobs.one_pass import Found, Gradients, Tiles, tiles_of
from grape_verified.logprobs.tiles import Head, Logits, Sums, Tile, blocks
from grape_verified.numerics import exp_, value_limit

#: The most entries of a tile for each elementwise operation on a CPU: 1 MiB of fp32, so that several fit into a cache.
AT_ONCE = 2**18


class Rows(NamedTuple):
    """The places of the rows that count, and the weight of the divergence of each in the loss."""

    places: Tensor
    weights: Tensor

    def blocks(self, tile: Tile) -> Sequence[slice]:
        """The rows in blocks."""
        return list(blocks(len(self.places), tile.rows))


# -- from what a teacher sends ----------------------------------------------------------------------------------------


def pass_over_kept(
    hidden: Tensor,
    head: Head,
    tokens: Tensor,
    rows: Rows,
    of_scores: Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]],
    tile: Tile,
    needs: Sequence[bool],
) -> Found:
    """A sum of terms that read the logits of k tokens of a row and log Σ exp(z_v) over all others.

    Arguments:
        tokens: (rows that count, k).
        of_scores: the terms of some of these rows, and their slopes: (n, k + 1), the others last. What it reads is less
            some number in each row.
    """
    parts = rows.blocks(tile)
    memory = tiles_of(head, max((part.stop - part.start for part in parts), default=0), tile)
    gradients, terms = Gradients(hidden, head, needs), torch.zeros_like(rows.weights)
    for part in parts:
        places = rows.places[part]
        states = head.operand(hidden[places])
        block = _Kept.of(states, places, head, tokens[part], memory)
        shift = torch.where(block.sums.rest > 0, block.sums.shift, 0)  # none of the others may be allowed
        terms[part], slopes = of_scores(block.kept - shift.unsqueeze(1), block.sums.rest.log(), part)
        if gradients.needed:
            tiles = block.slopes(slopes)
            gradients.add(states, tiles, places, rows.weights[part] / head.temperature)
    return gradients.finished(), (rows.weights * terms).sum(), terms


@dataclass(frozen=True)
class _Kept:
    """Some rows: the logits of k tokens, and of all others exp(z_v − shift) in tiles, each at the shift of its time."""

    kept: Tensor
    sums: Sums
    tiles: Tiles
    shifts: Sequence[Tensor]
    spots: Sequence[tuple[Tensor, Tensor, Tensor]]
    shares: Sequence[Tensor | float]

    @classmethod
    def of(cls, states: Tensor, rows: Tensor, head: Head, tokens: Tensor, memory: Tiles) -> _Kept:
        """Compute the logits of some rows, whose hidden states are given as operands."""
        sums = Sums.of_nothing(head.zeros(len(states)), with_entropy=False)
        kept, no_target = sums.shift.new_empty(tokens.shape), torch.full_like(rows, -1)
        tiles, shifts, spots, shares = [], [], [], []
        for part, place in memory:
            tile, share = _logits(states, rows, head, part, place)
            row, entry = ((tokens >= part.start) & (tokens < part.stop)).nonzero(as_tuple=True)
            column = tokens[row, entry] - part.start
            kept[row, entry] = tile[row, column]
            tile[row, column] = -math.inf
            sums.add(Logits(tile, None, 1.0), no_target, exponentials=True)
            tiles.append((part, tile))
            shifts.append(sums.shift.clone())
            spots.append((row, entry, column))
            shares.append(share)
        return cls(kept, sums, tiles, shifts, spots, shares)

    def slopes(self, slopes: Tensor) -> Tiles:
        """Turn the tiles into slopes: those of the k tokens, and of any other its share of the last."""
        share = torch.where(self.sums.rest > 0, slopes[:, -1] / self.sums.rest, 0)
        for (_, tile), shift, (row, entry, column) in zip(self.tiles, self.shifts, self.spots, strict=True):
            tile.mul_((share * (shift - self.sums.shift).exp()).unsqueeze(1))
            tile[row, column] = slopes[row, entry]
        return _capped(self.tiles, self.shares)


# -- from a teacher with a head of its own ----------------------------------------------------------------------------


def pass_over_both(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    rows: Rows,
    mixing: float,
    tile: Tile,
    needs: Sequence[bool],
) -> Found:
    """A sum of Jensen-Shannon divergences of a student and a teacher with the same vocabulary."""
    parts = rows.blocks(tile)
    most = max((part.stop - part.start for part in parts), default=0)
    own, others = tiles_of(head, most, tile), tiles_of(teacher_head, most, tile)
    gradients, terms = Gradients(hidden, head, needs), torch.zeros_like(rows.weights)
    for part in parts:
        places = rows.places[part]
        states = head.operand(hidden[places])
        student, shares = _log_softmax(states, places, head, own)
        teacher, _ = _log_softmax(teacher_head.operand(teacher_hidden[places]), places, teacher_head, others)
        terms[part] = _folded(student, teacher, mixing)
        if gradients.needed:
            tiles = _capped(_centred(student, teacher), shares)
            gradients.add(states, tiles, places, rows.weights[part] * ((1 - mixing) / head.temperature))
    return gradients.finished(), (rows.weights * terms).sum(), terms


def _logits(states: Tensor, rows: Tensor, head: Head, part: slice, place: Tensor) -> tuple[Tensor, Tensor | float]:
    """A tile of logits, and the share of their slopes that a soft cap leaves."""
    logits = head.logits(states, rows, head.operand(head.weight[part]), part, place)
    share = head.kept(logits.products)
    return logits.finished(), share


def _capped(tiles: Tiles, shares: Sequence[Tensor | float]) -> Tiles:
    """Tiles of slopes, each multiplied by the share that a soft cap leaves."""
    for (_, tile), share in zip(tiles, shares, strict=True):
        if isinstance(share, Tensor):
            tile.mul_(share)
    return tiles


def _log_softmax(states: Tensor, rows: Tensor, head: Head, memory: Tiles) -> tuple[Tiles, Sequence[Tensor | float]]:
    """Log-probabilities of all tokens, those of forbidden ones finite, and the shares that a soft cap leaves."""
    found = [_logits(states, rows, head, part, place) for part, place in memory]
    tiles = [(part, tile) for (part, _), (tile, _) in zip(memory, found, strict=True)]
    highest = torch.stack([tile.amax(1) for _, tile in tiles]).amax(0).clamp(min=-value_limit(head.memory(0, 0).dtype))
    for _, tile in tiles:
        tile.sub_(highest.unsqueeze(1))  # a sum of exponentials is near 1 then, and its logarithm has small roundings
    total = torch.stack([exp_(some.clone()).sum(1) for _, tile in tiles for some in _pieces(tile)]).sum(0).log()
    for _, tile in tiles:
        tile.sub_(total.unsqueeze(1))
        if head.bias is not None:
            tile.clamp_(min=-value_limit(tile.dtype))
    return tiles, [share for _, share in found]


def _folded(student: Tiles, teacher: Tiles, mixing: float) -> Tensor:
    """The divergence of each row, from tiles of log-probabilities.

    The tiles of the student become π_v, and those of the teacher π_v e_v with e_v = log(π_v/m_v).
    """
    pairs = ((_pieces(own), _pieces(other)) for (_, own), (_, other) in zip(student, teacher, strict=True))
    values = [_fold(own, other, mixing) for pieces in pairs for own, other in zip(*pieces, strict=True)]
    return torch.stack(values).sum(0).clamp(min=0)


def _centred(probabilities: Tiles, weighted: Tiles) -> Tiles:
    """Turn π_v e_v into the slopes π_v (e_v − Σ_w π_w e_w), which add up to 0.

    What rounding leaves of their sum is taken off in a second round: beside a token with nearly all of the probability,
    whose own difference cancels, it would be most of the gradient.
    """
    for _ in range(2):
        mean = torch.stack([tile.sum(1) for _, tile in weighted]).sum(0).unsqueeze(1)
        for (_, own), (_, tile) in zip(probabilities, weighted, strict=True):
            tile.addcmul_(own, mean, value=-1)
    return weighted


def _fold(own: Tensor, other: Tensor, mixing: float) -> Tensor:
    """What `_folded` does, for a piece of a tile, from the log-ratio x of teacher to student.

    With c the weight of the side that gives less, and E = expm1(−|x|): L = −log1p(c·E) is log(p/m) of the side that
    gives more, p. The two terms of a token add up to p·(L·(1 + c·E) − c·(1 + E)·|x|), which is never negative.
    """
    x = other - own
    larger = exp_(torch.maximum(own, other))
    size = x.abs()
    less = size.neg().expm1_()
    weight = mixing if mixing == 0.5 else x.sign().mul_(0.5 - mixing).add_(0.5)
    scaled = less.mul_(weight)
    excess = scaled.log1p().neg_()
    values = size.mul_(scaled + weight).neg_().add_(excess).addcmul_(excess, scaled).mul_(larger).sum(1)
    exp_(own)
    torch.mul(excess.sub_(x.clamp_(min=0)), own, out=other)
    return values


def _pieces(tile: Tensor) -> Sequence[Tensor]:
    """A tile in pieces of columns that fit into a cache, or as it is on a GPU."""
    return tile.split(tile.shape[1] if tile.is_cuda else max(1, AT_ONCE // max(1, len(tile))), 1)

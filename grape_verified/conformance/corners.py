"""Fixed inputs that are tried on purpose, after the random ones, and how a failing one is made smaller.

Random inputs are small, and a bug may need more: long rows, many rows, one token in a row, a token masked at either
end, numbers that are nearly equal, an advantage of 0 with an extreme ratio. There are a few such inputs, the same each
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from random import Random

from grape_verified.conformance.strategies import NEARLY_EQUAL, NOISE, OPTIONS, WIDTH, Drawn, Space

#: The columns of a row of medium length, the rows of a large batch, and the bytes that each tensor has in a row.
MIDDLE, MANY, BYTES = 12, 40, 131

#: First bytes of a mask: every token counts, only the first, only the last, the first 40, or as the other bytes say.
EVERY, FIRST, LAST, FORTY, CHOSEN = 0, 6, 7, 201, 3

#: Places of simple numbers in a pool, and three of which all pairs are tried; extreme pools have both signs there.
SIMPLE, CORNERS = range(5), (0, 1, 4)


def large(space: Space) -> Iterator[Drawn]:
    """Long rows of uneven lengths, then rows of few tokens."""
    lengths = (EVERY, FIRST, FORTY) if _is_masked(space) else (EVERY,)
    yield replace(_filled(space, space.longest, [bytes([length]) for length in lengths], dtype=1), large=True)
    yield from _of_few_tokens(space)


def _of_few_tokens(space: Space) -> Iterator[Drawn]:
    """Rows whose first or last token is masked, with one in which only the last counts; many rows of one token."""
    if _is_masked(space):
        but_one = [bytes([CHOSEN]) + bytes(255 * (t == masked) for t in range(MIDDLE)) for masked in (0, MIDDLE - 1)]
        yield _filled(space, MIDDLE, [*but_one, bytes([LAST])], dtype=0)
    yield _filled(space, 1, [bytes([EVERY])] * MANY, dtype=1)


def large_with_options(space: Space) -> Iterator[Drawn]:
    """Rows of few tokens, each time with other values of all options."""
    for choice, one in enumerate(_of_few_tokens(space), start=1):
        yield replace(one, shared=bytes([choice] * OPTIONS) + one.shared[OPTIONS:])


def nearly_equal(space: Space) -> Iterator[Drawn]:
    """Two rows of numbers that lie close together, in fp64."""
    for kind, _ in enumerate(NEARLY_EQUAL if space.close else (), start=1):
        yield replace(_filled(space, 4, [bytes([EVERY])] * 2, dtype=0), close=kind)


def extreme(space: Space) -> Iterator[Drawn]:
    """Inputs of one token in fp32: three numbers for each tensor, and every pair of them for any two tensors."""
    directions = [d for d in product(range(3), repeat=3) if next(filter(None, d), 0) == 1]
    directions.sort(key=lambda d: sum(map(bool, d)))  # so that the first three tensors take every triple
    varied = [name for name in space.names if not name.startswith(("mask", "item_mask", "forbidden"))]
    for at in product(range(3), repeat=min(3, len(varied))):
        chosen = {
            name: CORNERS[sum(x * y for x, y in zip(at, direction, strict=False)) % 3]
            for name, direction in zip(varied, directions * len(varied), strict=False)
        }
        row = b"".join(bytes([chosen.get(name, 0)] * WIDTH) for name in space.names)
        yield Drawn(space.variants[0], 1 % len(space.regime.dtypes), 1, bytes(OPTIONS + NOISE), (row,))


def _is_masked(space: Space) -> bool:
    return any(name.startswith("mask") for name in space.names)


def _filled(space: Space, columns: int, masks: Sequence[bytes], dtype: int) -> Drawn:
    """A row for each mask, of simple numbers."""
    random = Random(0)

    def drawn(name: str, mask: bytes) -> bytes:
        if name.startswith(("mask", "item_mask")):
            return mask[:1] + (bytes(BYTES) + mask[1:])[-BYTES + 1 :]
        if name.startswith("forbidden"):
            return bytes(BYTES)
        return bytes(random.choice(SIMPLE if name != "targets" else range(256)) for _ in range(BYTES))

    rows = tuple(b"".join(drawn(name, mask) for name in space.names) for mask in masks)
    shared = bytes(OPTIONS) + bytes(2 * random.choice(range(128)) for _ in range(NOISE))
    return Drawn(space.variants[0], dtype % len(space.regime.dtypes), columns, shared, rows)


# -- smaller ----------------------------------------------------------------------------------------------------------

#: Numbers of rows or columns that are tried in place of more.
FEWER = (1, 2, 3, 4, 6, 9, 17, 33, 65)

#: Where there are at most this many rows, each is left out in turn.
FEW = 4


def smaller(one: Drawn, tensors: int) -> Iterator[Drawn]:
    """The same with less of something; the largest cuts come first."""
    rows, columns = len(one.rows), one.columns
    yield from (replace(one, rows=one.rows[:fewer]) for fewer in (*FEWER, rows - 1) if 0 < fewer < rows)
    yield from (replace(one, columns=fewer) for fewer in (*FEWER, columns - 1) if 0 < fewer < columns)
    if rows <= FEW:
        yield from (replace(one, rows=one.rows[:i] + one.rows[i + 1 :]) for i in range(rows) if rows > 1)
    if one.large:
        yield replace(one, large=False)
    yield from (other for tensor in range(tensors) if (other := _plain(one, tensor, tensors)) != one)
    if any(one.shared):
        yield replace(one, shared=bytes(len(one.shared)))
    if one.dtype:
        yield replace(one, dtype=0)


def other_numbers(one: Drawn, tensors: int) -> Iterator[Drawn]:
    """The same with one simple number throughout a tensor, or with one of the two simplest throughout each of two."""
    for tensor in range(tensors):
        yield from (_plain(one, tensor, tensors, byte) for byte in SIMPLE)
    for first, second in combinations(range(tensors), 2):
        for byte, other in product(range(2), repeat=2):
            yield _plain(_plain(one, first, tensors, byte), second, tensors, other)


def _plain(one: Drawn, tensor: int, tensors: int, byte: int = 0) -> Drawn:
    """The same with one number throughout a tensor, by default the first of its pool: a mask counts all."""
    width = len(one.rows[0]) // tensors
    start, end = tensor * width, (tensor + 1) * width
    return replace(one, rows=tuple(row[:start] + bytes([byte] * width) + row[end:] for row in one.rows))

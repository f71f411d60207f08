"""Inputs of the functions under check: small tensors that shrink to readable counterexamples.

A batch is drawn as rows of bytes, each of which is a place in a pool of numbers, ordered from simple to awkward. This
is fast, and as Hypothesis drops rows and lowers bytes, a failing example shrinks to few rows, simple numbers, a full
mask and default options. Hypothesis lowers the first bytes first, so a tensor with fewer columns uses the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

#: The largest batch, time and vocabulary that are drawn; a row of logits is a position.
ROWS, COLUMNS, VOCAB = 4, 6, 4

#: The longest rows and the largest vocabulary of large inputs, past powers of 2 at which functions divide their work.
LONGEST, LARGEST_VOCAB = 130, 17

#: Bytes of one tensor in one row: one for each column, and one for the kind of the row.
WIDTH = COLUMNS + 1

#: Bytes that choose the options (the last one: whether one is varied alone), and bytes of noise of a case.
OPTIONS, NOISE = 12, ROWS * COLUMNS


@dataclass(frozen=True)
class Variant:
    """One of the forms that a contract allows for tensors."""

    mask: str = "bool"  # or "float", in the dtype of the other tensors, or "int"
    advantages: str = "per token"  # or "per sequence"


@dataclass(frozen=True)
class Case:
    """One input of a function: its tensors in the contract's order and its options.

    Arguments:
        tensors: by name; none of them requires a gradient.
        options: the value of every option of the contract.
        variant: the form of the tensors.
        noise: bytes for anything else that a property draws.
    """

    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any]
    variant: Variant = field(default_factory=Variant)
    noise: bytes = bytes(NOISE)

    def with_tensors(self, **tensors: Tensor) -> Case:
        """The same with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **tensors})

    def with_options(self, **options: Any) -> Case:
        """The same with some options replaced."""
        return replace(self, options={**self.options, **options})

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first tensor, and of all floating-point ones except a mask."""
        return next(iter(self.tensors.values())).dtype


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary small enough to take every token as a sample, weighted by its probability."""

    logits: Tensor
    ref_logits: Tensor
    rewards: Tensor

    @classmethod
    def of(cls, case: Case) -> Vocabulary:
        """The vocabulary that the noise of a case draws."""
        size, pools = 2 + case.noise[0] % (VOCAB - 1), (LOGITS["ordinary"], LOGITS["ordinary"], ADVANTAGES)
        drawn = [[pool[byte] for byte in case.noise[1 + i :: 3][:size]] for i, pool in enumerate(pools)]
        return cls(*(torch.tensor(numbers, dtype=case.dtype) for numbers in drawn))


@dataclass(frozen=True)
class Regime:
    """The part of the input space that a property is tried on.

    Arguments:
        dtypes: of the tensors.
        numbers: the pools that the tensors come from: "ordinary", "extreme" or "kinks".
        vary_options: whether options are drawn or fixed at their defaults.
        nothing_counts: whether every token is masked; otherwise at least one counts.
        forbidden: whether some logits are −inf.
    """

    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)
    numbers: str = "ordinary"
    vary_options: bool = True
    nothing_counts: bool = False
    forbidden: bool = False


@dataclass(frozen=True)
class Blueprint:
    """Everything that is drawn, from which the tensors are built."""

    columns: int
    dtype: torch.dtype
    regime: Regime
    variant: Variant
    options: Mapping[str, Any]
    rows: Sequence[Mapping[str, bytes]]

    def numbers(self, name: str, pool: Sequence[float], columns: int | None = None) -> Tensor:
        """Numbers of the pool, rounded to the dtype: one for each row, or `columns` of them."""
        if self.rows and name not in self.rows[0]:
            raise ValueError(f"plan.numbers: got {name!r}, expected the name of a tensor: {', '.join(self.rows[0])}")
        values = [[pool[byte % len(pool)] for byte in row[name][-(columns or 1) :]] for row in self.rows]
        numbers = torch.tensor(values, dtype=self.dtype)
        return numbers[:, 0] if columns is None else numbers

    def sum(self, a: Tensor, b: Tensor) -> Tensor:
        """The sum, in fp64 without the digits that rounding adds to decimals, except at kinks."""
        return (a + b).round(decimals=12) if a.dtype == torch.float64 and self.regime.numbers != "kinks" else a + b


def _pool(simple: Sequence[float], *more: Callable[[Random], float]) -> list[float]:
    """256 numbers: the simple ones first, then some of each kind, deterministically."""
    random = Random(0)
    return [*simple, *(more[i % len(more)](random) for i in range(256 - len(simple)))]


def _decimals(low: float, high: float, digits: int = 2) -> Callable[[Random], float]:
    return lambda random: round(random.uniform(low, high), digits)


def _one_of(values: Sequence[float]) -> Callable[[Random], float]:
    return lambda random: random.choice(values)


def _close_to(centres: Sequence[float]) -> Callable[[Random], float]:
    return lambda random: random.choice(centres) + random.choice((1e-2, -1e-2, 1e-3, -1e-3))


_EXTREME = (100.0, -100.0, 200.0, -200.0, 88.0, 89.0, 60.0, 62.0, 104.0, -104.0, 150.0, -150.0, 40.0, 20.5, -20.5)

LOGPS = _pool((-1.0, -0.5, 0.0, -2.0), _decimals(-4, 0), _decimals(-20, 0))
ADVANTAGES = _pool((1.0, -1.0, 0.5, -0.5, 0.0, 2.0), _decimals(-3, 3))
TEMPERATURES = _pool((1.0, 0.5, 2.0, 0.7, 10.0), _decimals(0.1, 4))
VALUES = _pool((1.0, 0.5, -0.5, 0.0, 2.0), _decimals(-3, 3), _decimals(-1000, 1000, 1))
SUMS = _pool((-1.0, -0.5, -2.0, 0.0), _decimals(-20, 0), _decimals(-400, 0, 1))
GARBAGE = _pool((math.nan, math.inf, -math.inf, 1e30), _one_of((math.nan, math.inf, -math.inf, 1e30, -1e30)))
COTANGENTS = _pool((1.0, 0.5, -1.0, 0.0, 2.0), _decimals(-2, 2))

#: Numbers that are nearly equal: what they are near, and how far apart. Near 0 rounding leaves the smallest steps.
NEARLY_EQUAL = ((1.0, 1e-2), (1.0, 1e-3), (0.0, 1e-2), (0.0, 1e-4), (0.0, 1e-6), (0.0, 1e-8))

#: Differences of log-probabilities: new minus old, policy minus reference.
LOG_RATIOS = {
    "ordinary": _pool(
        (0.5, -0.5, 0.0, 0.25, -0.25, 1.0, -1.0),
        _decimals(-1, 1),
        _decimals(-4, 4),
        _close_to((math.log(1.2), math.log(0.8), 0.0)),
        _decimals(-40, 40, 1),
    ),
    "extreme": _pool(_EXTREME[:4], _one_of(_EXTREME), _decimals(-200, 200, 1), _decimals(-1, 1)),
}
PAIR_RATIOS = {
    "ordinary": _pool((0.5, -0.5, 0.0, 1.0, -1.0), _decimals(-1, 1), _decimals(-20, 20)),
    "extreme": _pool(_EXTREME[:4], _one_of(_EXTREME), _decimals(-200, 200, 1)),
}
LOGITS = {
    "ordinary": _pool((0.0, 1.0, -1.0, 0.5, 2.0), _decimals(-1, 1), _decimals(-1, 1), _decimals(-10, 10)),
    "extreme": _pool((0.0, 100.0, -100.0, 1000.0, -1000.0), _decimals(-1, 1), _decimals(-200, 200, 1)),
}
LOGIT_SCALES = {"ordinary": (1.0, 1.0, 4.0, 8.0), "extreme": (1.0, 10.0)}
LOGIT_OFFSETS = {"ordinary": (0.0, 0.0, 10.0, -10.0), "extreme": (1000.0, -1000.0, 0.0)}


def mask_tensor(plan: Blueprint) -> Tensor:
    """Rows that are full, padded on the right, padded on the left, full of holes, or without any token."""
    counted = torch.tensor([_counted(row["mask"], plan.columns) for row in plan.rows])
    if plan.regime.nothing_counts:
        counted[:] = False
    elif not counted.any():
        counted[0, 0] = True
    return counted.to({"bool": torch.bool, "int": torch.int64}.get(plan.variant.mask, plan.dtype))


def _counted(drawn: bytes, columns: int) -> list[bool]:
    style, length = drawn[0] % 5, drawn[0] // 5 % (columns + 1)
    padded = [True] * length + [False] * (columns - length)
    holes = [byte < 160 for byte in drawn[-columns:]]
    return ([True] * columns, padded, padded[::-1], holes, [False] * columns)[style]


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """logps, old_logps and advantages of a loss over tokens."""
    old = plan.numbers("old_logps", LOGPS, plan.columns)
    ratios = _at_kinks(plan) if plan.regime.numbers == "kinks" else LOG_RATIOS[plan.regime.numbers]
    across = plan.columns if plan.variant.advantages == "per token" else None
    return {
        "logps": plan.sum(old, plan.numbers("logps", ratios, plan.columns)),
        "old_logps": old,
        "advantages": plan.numbers("advantages", ADVANTAGES, across),
    }


def _at_kinks(plan: Blueprint) -> list[float]:
    """Log-ratios at which the ratio is at an edge of the clip, or a few roundings away."""
    edges = [1 + plan.options["clip_high"], 1 - plan.options["clip_low"], plan.options.get("dual_clip") or 1.0]
    places = [math.log(edge) for edge in edges if edge > 0]
    rounding = torch.finfo(plan.dtype).eps
    nearby = [place + steps * rounding * (1 + abs(place)) for steps in (0, 1, -1, 2, -2) for place in places]
    return [nearby[i % len(nearby)] for i in range(256)]


def masked_token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a mask."""
    return {**token_tensors(plan), "mask": mask_tensor(plan)}


def value_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Per-token values and a mask."""
    return {"per_token": plan.numbers("per_token", VALUES, plan.columns), "mask": mask_tensor(plan)}


def pair_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Sequence log-probabilities of pairs, under the policy and under the reference."""
    ratios = PAIR_RATIOS[plan.regime.numbers]
    ref_chosen, ref_rejected = (plan.numbers(name, SUMS) for name in ("ref_chosen_logps", "ref_rejected_logps"))
    return {
        "chosen_logps": plan.sum(ref_chosen, plan.numbers("chosen_logps", ratios)),
        "rejected_logps": plan.sum(ref_rejected, plan.numbers("rejected_logps", ratios)),
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }


def logit_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Logits of one or two positions, (positions, 1, vocab), with ties, scales, offsets and perhaps −inf entries."""
    positions = [row_of_logits(plan, row) for row in plan.rows[:2]]
    return {"logits": torch.tensor(positions, dtype=plan.dtype).unsqueeze(1)}


def row_of_logits(plan: Blueprint, row: Mapping[str, bytes]) -> list[float]:
    """The logits of one position; the entry of its target is never −inf."""
    pool, scales, offsets = (table[plan.regime.numbers] for table in (LOGITS, LOGIT_SCALES, LOGIT_OFFSETS))
    kind = row["targets"]
    scale, offset = scales[kind[1] % len(scales)], offsets[kind[2] % len(offsets)]
    logits = [scale * pool[byte] + offset for byte in row["logits"][-_vocab(plan) :]]
    if plan.regime.forbidden:
        for v, byte in enumerate(row["forbidden"][-_vocab(plan) :]):
            logits[v] = -math.inf if byte % 3 == 2 and v != _target(plan, row) else logits[v]
    return logits


def _vocab(plan: Blueprint) -> int:
    return (2, 3, VOCAB, 2, 3, 1)[plan.columns - 1] if plan.columns <= COLUMNS else min(plan.columns, LARGEST_VOCAB)


def _target(plan: Blueprint, row: Mapping[str, bytes]) -> int:
    return row["targets"][0] % _vocab(plan)


def logit_and_target_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a target at each position."""
    targets = [[_target(plan, row)] for row in plan.rows[:2]]
    return {**logit_tensors(plan), "targets": torch.tensor(targets)}


@dataclass(frozen=True)
class Drawn:
    """What is drawn for an input, before tensors are made of it.

    Arguments:
        variant: the form of the tensors.
        dtype: a place among the dtypes of the regime.
        columns: the number of columns.
        shared: the bytes that choose the options, and noise.
        rows: the bytes of all tensors, row by row.
        large: whether options such as the size of a group are large.
        close: which of the kinds of numbers that are nearly equal; 0 for none.
    """

    variant: Variant
    dtype: int
    columns: int
    shared: bytes
    rows: tuple[bytes, ...]
    large: bool = False
    close: int = 0


#: What decides the drawings: the numbers of tensors and of dtypes, and the forms of tensors.
Size = tuple[int, int, tuple[Variant, ...]]


@st.composite
def drawings(draw: st.DrawFn, tensors: int, dtypes: int, variants: Sequence[Variant]) -> Drawn:
    """What is drawn, given the numbers of tensors and of dtypes, and the forms of tensors."""
    variant, dtype = draw(st.sampled_from(variants)), draw(st.sampled_from(range(dtypes)))
    columns = draw(st.integers(1, COLUMNS))
    shared = draw(_bytes(OPTIONS + NOISE))
    rows = draw(st.lists(_bytes(tensors * WIDTH), min_size=1, max_size=ROWS))
    return Drawn(variant, dtype, columns, shared, tuple(rows))


@dataclass(frozen=True)
class Space:
    """The inputs that a property is tried on.

    Arguments:
        build: makes tensors of what is drawn.
        names: those of the bytes that are drawn in each row.
        options: makes options of bytes, large ones or not.
        variants: the forms that tensors may have.
        regime: the part of the input space.
        close: the tensors whose numbers may be moved close together.
        longest: the columns of the longest rows.
    """

    build: Callable[[Blueprint], Mapping[str, Tensor]]
    names: Sequence[str]
    options: Callable[[bytes, bool], Mapping[str, Any]]
    variants: Sequence[Variant]
    regime: Regime
    close: Sequence[str] = ()
    longest: int = LONGEST

    @property
    def size(self) -> Size:
        """The numbers of tensors and of dtypes, and the forms of tensors; spaces of one size have the same drawings."""
        return len(self.names), len(self.regime.dtypes), tuple(self.variants)

    def case(self, drawn: Drawn) -> Case:
        """The input that is made of what was drawn."""
        rows = [split(row, self.names) for row in drawn.rows]
        dtype, options = self.regime.dtypes[drawn.dtype], self.options(drawn.shared, drawn.large)
        plan = Blueprint(drawn.columns, dtype, self.regime, drawn.variant, options, rows)
        tensors = dict(self.build(plan))
        if drawn.close:
            near, step = NEARLY_EQUAL[drawn.close - 1]
            tensors |= {name: near + step * tensors[name] for name in self.close}
        return Case(tensors, options, drawn.variant, drawn.shared[OPTIONS:])


def split(row: bytes, names: Sequence[str]) -> dict[str, bytes]:
    """The bytes of each tensor in one row."""
    width = len(row) // len(names)
    return {name: row[start : start + width] for name, start in zip(names, range(0, len(row), width), strict=True)}


def _bytes(count: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=count, max_size=count)

"""What the functions under check are fed: small tensors that shrink to something a person can read.

All numbers come from one draw of bytes, each byte a place in a pool that is ordered from simple to awkward. That is fast,
and as Hypothesis lowers the bytes of a failing example its numbers become simple, its masks full and its options the
defaults.
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

#: The largest batch, time (or number of positions) and vocabulary that is drawn.
ROWS, COLUMNS, VOCAB = 4, 6, 4

#: Bytes in one block: enough for the tokens of the largest batch, and for the logits of any position.
BLOCK = ROWS * COLUMNS


@dataclass(frozen=True)
class Variant:
    """One of the forms in which a contract lets tensors come."""

    mask: str = "bool"  # or "float", in the dtype of the other tensors
    advantages: str = "per token"  # or "per sequence"


@dataclass(frozen=True)
class Case:
    """One input of a function: its tensors in the contract's order and its options.

    Arguments:
        tensors: by name; none of them requires a gradient.
        options: the value of every option of the contract.
        variant: the form of the tensors.
        noise: bytes for whatever else a property needs to draw.
    """

    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any]
    variant: Variant = field(default_factory=Variant)
    noise: bytes = bytes(BLOCK)

    def with_tensors(self, **tensors: Tensor) -> Case:
        """The same with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **tensors})

    def with_options(self, **options: Any) -> Case:
        """The same with some options replaced."""
        return replace(self, options={**self.options, **options})

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first tensor, which is that of all floating-point ones but a mask."""
        return next(iter(self.tensors.values())).dtype


@dataclass(frozen=True)
class Regime:
    """The part of the input space that a property looks at.

    Arguments:
        dtypes: of the tensors.
        numbers: the pools that the tensors come from: "ordinary", "extreme" or "kinks".
        vary_options: draw the options too, instead of holding them at the defaults.
        nothing_counts: every token is masked; otherwise at least one counts.
        forbidden: some logits are −inf.
    """

    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)
    numbers: str = "ordinary"
    vary_options: bool = True
    nothing_counts: bool = False
    forbidden: bool = False


@dataclass(frozen=True)
class Blueprint:
    """Everything drawn before the tensors are built from it."""

    rows: int
    columns: int
    dtype: torch.dtype
    regime: Regime
    variant: Variant
    options: Mapping[str, Any]
    blocks: Mapping[str, bytes]

    def byte(self, name: str, row: int, column: int = 0) -> int:
        """The byte that decides one number; which it is does not depend on how many rows and columns there are."""
        return self.blocks[name][row * COLUMNS + column]

    def numbers(self, name: str, pool: Sequence[float], *shape: int) -> Tensor:
        """A tensor of numbers of the pool, rounded to the dtype."""
        if len(shape) == 1:
            values: Any = [pool[self.byte(name, i)] for i in range(shape[0])]
        else:
            values = [[pool[self.byte(name, i, t)] for t in range(shape[1])] for i in range(shape[0])]
        return torch.tensor(values, dtype=self.dtype)


def _pool(simple: Sequence[float], *more: Callable[[Random], float]) -> list[float]:
    """256 numbers: the simple ones first, then some of each kind, always the same."""
    random = Random(0)
    return [*simple, *(more[i % len(more)](random) for i in range(256 - len(simple)))]


def _decimals(low: float, high: float, digits: int = 2) -> Callable[[Random], float]:
    return lambda random: round(random.uniform(low, high), digits)


def _one_of(values: Sequence[float]) -> Callable[[Random], float]:
    return lambda random: random.choice(values)


def _close_to(centres: Sequence[float]) -> Callable[[Random], float]:
    return lambda random: random.choice(centres) + random.choice((0.0, 1e-15, -1e-15, 1e-7, -1e-7, 1e-3, -1e-3))


_EXTREME = (100.0, -100.0, 200.0, -200.0, 88.0, 89.0, 60.0, 62.0, 104.0, -104.0, 150.0, -150.0, 40.0, 20.5, -20.5)

LOGPS = _pool((-1.0, -0.5, 0.0, -2.0), _decimals(-4, 0), _decimals(-20, 0))
ADVANTAGES = _pool((1.0, -1.0, 0.5, -0.5, 0.0, 2.0), _decimals(-3, 3))
VALUES = _pool((1.0, 0.5, -0.5, 0.0, 2.0), _decimals(-3, 3), _decimals(-1000, 1000, 1))
SUMS = _pool((-1.0, -0.5, -2.0, 0.0), _decimals(-20, 0), _decimals(-400, 0, 1))
GARBAGE = _pool((math.nan, math.inf, -math.inf, 1e30), _one_of((math.nan, math.inf, -math.inf, 1e30, -1e30)))
COTANGENTS = _pool((1.0, 0.5, -1.0, 0.0, 2.0), _decimals(-2, 2))

#: Differences of log-probabilities, new less old, policy less reference.
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


def draw_mask(plan: Blueprint) -> Tensor:
    """Rows that are full, padded on the right, padded on the left, or full of holes; perhaps with no token at all."""
    counted = torch.zeros(plan.rows, plan.columns, dtype=torch.bool)
    if not plan.regime.nothing_counts:
        for i in range(plan.rows):
            style, length = plan.byte("mask", i) % 4, plan.byte("mask", i) // 4 % (plan.columns + 1)
            holes = [plan.byte("holes", i, t) < 160 for t in range(plan.columns)]
            kept = [True] * length + [False] * (plan.columns - length)
            counted[i] = torch.tensor(([True] * plan.columns, kept, kept[::-1], holes)[style])
        if not counted.any():
            counted[0, 0] = True
    return counted if plan.variant.mask == "bool" else counted.to(plan.dtype)


def token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """logps, old_logps and advantages of a loss over tokens."""
    shape = (plan.rows, plan.columns)
    old = plan.numbers("old_logps", LOGPS, *shape)
    if plan.regime.numbers == "kinks":
        logps = old + _at_kinks(plan)
    else:
        logps = old + plan.numbers("logps", LOG_RATIOS[plan.regime.numbers], *shape)
    across = shape if plan.variant.advantages == "per token" else shape[:1]
    return {"logps": logps, "old_logps": old, "advantages": plan.numbers("advantages", ADVANTAGES, *across)}


def _at_kinks(plan: Blueprint) -> Tensor:
    """Log-ratios where the ratio meets an edge of the clip, and a few roundings beside it."""
    options = plan.options
    edges = [1 + options["clip_high"], 1 - options["clip_low"], options["dual_clip"] or 1.0]
    places = [math.log(edge) for edge in edges if edge > 0]
    rounding = torch.finfo(plan.dtype).eps
    nearby = [place * (1 + steps * rounding) + steps * rounding for steps in (0, 1, -1, 2, -2) for place in places]
    return plan.numbers("logps", [nearby[i % len(nearby)] for i in range(256)], plan.rows, plan.columns)


def masked_token_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a mask."""
    return {**token_tensors(plan), "mask": draw_mask(plan)}


def value_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Per-token values and a mask."""
    return {"per_token": plan.numbers("per_token", VALUES, plan.rows, plan.columns), "mask": draw_mask(plan)}


def pair_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Sequence log-probabilities of pairs, under the policy and under the reference."""
    ratios, rows = PAIR_RATIOS[plan.regime.numbers], plan.rows
    ref_chosen = plan.numbers("ref_chosen_logps", SUMS, rows)
    ref_rejected = plan.numbers("ref_rejected_logps", SUMS, rows)
    return {
        "chosen_logps": ref_chosen + plan.numbers("chosen_logps", ratios, rows),
        "rejected_logps": ref_rejected + plan.numbers("rejected_logps", ratios, rows),
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }


def logit_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Logits of one or two positions, with ties, scales, offsets and perhaps −inf entries."""
    shape = (2, 1) if plan.rows > 1 else (1, min(plan.columns, 2))
    positions = [_logits(plan, place) for place in range(math.prod(shape))]
    return {"logits": torch.tensor(positions, dtype=plan.dtype).reshape(*shape, -1)}


def _logits(plan: Blueprint, place: int) -> list[float]:
    """The logits of one position; the entry of its target is never −inf."""
    pool = LOGITS[plan.regime.numbers]
    scales, offsets = LOGIT_SCALES[plan.regime.numbers], LOGIT_OFFSETS[plan.regime.numbers]
    scale = scales[plan.byte("scales", 0, place) % len(scales)]
    offset = offsets[plan.byte("offsets", 0, place) % len(offsets)]
    vocab = _vocab(plan)
    first = place * VOCAB
    logits = [scale * pool[byte] + offset for byte in plan.blocks["logits"][first : first + vocab]]
    forbidden = [byte % 3 == 2 for byte in plan.blocks["forbidden"][first : first + vocab]]
    target = plan.byte("targets", 0, place) % vocab
    if not plan.regime.forbidden:
        return logits
    return [-math.inf if forbidden[v] and v != target else logits[v] for v in range(vocab)]


def _vocab(plan: Blueprint) -> int:
    return 1 + (plan.byte("vocab", 0) + 1) % VOCAB


def logit_and_target_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a target at each position."""
    logits = logit_tensors(plan)["logits"]
    targets = [plan.byte("targets", 0, place) % _vocab(plan) for place in range(math.prod(logits.shape[:-1]))]
    return {"logits": logits, "targets": torch.tensor(targets).reshape(logits.shape[:-1])}


@st.composite
def cases(
    draw: st.DrawFn,
    build: Callable[[Blueprint], Mapping[str, Tensor]],
    names: Sequence[str],
    options: Callable[[bytes], Mapping[str, Any]],
    variants: Sequence[Variant],
    regime: Regime,
) -> Case:
    """Inputs for one property: the form and the sizes, then all numbers and options from one draw of bytes."""
    variant, dtype = draw(st.sampled_from(variants)), draw(st.sampled_from(regime.dtypes))
    rows, columns = draw(st.integers(1, ROWS)), draw(st.integers(1, COLUMNS))
    size = BLOCK * (len(names) + 2)
    drawn = draw(st.binary(min_size=size, max_size=size))
    chosen, noise, *blocks = (drawn[start : start + BLOCK] for start in range(0, size, BLOCK))
    plan = Blueprint(rows, columns, dtype, regime, variant, options(chosen), dict(zip(names, blocks, strict=True)))
    return Case(build(plan), plan.options, variant, noise)

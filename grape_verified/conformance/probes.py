"""Inputs on which losses differ; `identify` calls an unknown function with them.

There are three kinds, used in this order. *Single* inputs have one token or one row, so that the reduction does not
matter and each shows one thing: one side of a clip, a log-ratio of 25 or 100, a penalty. *Whole* batches tell
reductions apart: uneven lengths, rows without tokens, groups of equal and of nearly equal rewards. *Wired* inputs set
an option that the function takes to another value; if that brings in a tensor, single inputs show what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from random import Random
from typing import Any, Literal

import torch
from torch import Tensor

from grape_verified.conformance.comparison import ones_for
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.oracle import Arithmetic
from grape_verified.conformance.regions import unusual
from grape_verified.conformance.strategies import WIDTH, Blueprint, Case, Regime, Variant
from grape_verified.conformance.subject import Outcome, Subject, Violation

#: Draws the tensors of an input, given its numbers of rows and columns.
Draw = Callable[..., dict[str, Tensor]]

Kind = Literal["single", "whole", "wired"]
KINDS: tuple[Kind, ...] = ("single", "whole", "wired")

#: Log-ratios within every clip range, beyond one end of the usual ones, and beyond every guard; and advantages.
NEAR, FAR = (0.04, -0.04), (0.13, -0.13, 0.24, 0.4, -0.4, 1.3, -1.3, 3.0, -3.0, 7.0, -7.0)
EXTREME = (12.0, -12.0, 15.0, 25.0, -25.0, 100.0, -100.0)
GAINS = (1.0, -1.0, 0.7, -1.3)

#: Log-ratios of reference to policy; at the first, most penalties have no effect.
REFERENCES = (0.0, -0.3, 0.6, 4.0, -2.5, 0.0, 12.0, -12.0, 25.0, -25.0)

#: Numbers of random inputs: ordinary single ones, the most attempts for each of them, extreme ones, and batches.
DRAWN, TRIES, DRAWN_EXTREME, DRAWN_WHOLE = 14, 4, 4, 14

#: How nearly equal the rewards of a group are.
SPREADS = (0.0, 1e-2, 1e-5, 1e-8)

#: Rewards that differ by less are not ordinary.
NEARLY_EQUAL = 1e-4

#: Rows and columns of the inputs for each value of an option that the function takes.
WIRED = ((1, 3), (2, 4), (3, 2))


@dataclass(frozen=True)
class Probe:
    """One input, and what the function returns for it.

    Arguments:
        case: the input, with the options that the function takes.
        kind: what kind of input it is.
        outcome: value and gradients; None where the function raised an error.
        taken: the options whose values the function was given.
    """

    case: Case
    kind: Kind
    outcome: Outcome | None
    taken: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def unusual(self) -> tuple[str, ...]:
        """What is not ordinary about the input."""
        rewards = self.case.tensors.get("rewards")
        near = rewards is not None and 0 < float(rewards.max() - rewards.min()) < NEARLY_EQUAL
        return (*unusual(self.case), *(["rewards are nearly equal"] if near else []))

    @cached_property
    def values(self) -> list[float]:
        """The numbers of the result."""
        return [] if self.outcome is None else self.outcome.value.flatten().tolist()

    @cached_property
    def gradients(self) -> dict[str, list[float]]:
        """The numbers of the gradients."""
        found = None if self.outcome is None else self.outcome.gradients
        return {name: gradient.flatten().tolist() for name, gradient in (found or {}).items()}

    def arithmetic(self, *, strict: bool) -> Arithmetic:
        """The arithmetic in which the function computed."""
        assert self.outcome is not None
        return Arithmetic.of(self.outcome.value.dtype, self.case.dtype, strict=strict)


def probes(subject: Subject, variant: Variant) -> list[Probe]:
    """The inputs for a function that implements a contract, with its results."""
    usual = subject.contract.defaults({})
    found = [_called(subject, Case(t, usual, variant), kind, {}) for kind, t in _inputs(subject.contract, variant)]
    for step, taken in enumerate(_other_values(subject)):
        options = subject.contract.fit({**usual, **taken}, list(taken))
        draw = _drawer(subject.contract, options, variant, seed=1 + step)
        tensors = [draw(rows, columns) for rows, columns in WIRED]
        tensors += _brought_in(subject.contract, taken, draw)
        called = (_called(subject, Case(each, options, variant), "wired", taken) for each in tensors)
        found += (probe for probe in called if probe.outcome)  # a value that is refused tells nothing; check reports it
    return found


def _brought_in(contract: Contract, taken: Mapping[str, Any], draw: Draw) -> Iterator[dict[str, Tensor]]:
    """Single inputs for the first value of an option that brings in a tensor, such as a penalty its reference."""
    asking = {name: contract.options[name].others[0] for name in contract.by_keyword.values() if name}
    if taken and taken.items() <= asking.items():
        yield from _far_apart(contract, lambda: draw(1, 1, mask=[bytes(WIDTH)]))


def with_options(subject: Subject, case: Case, options: Mapping[str, Any], taken: Mapping[str, Any]) -> Case:
    """The input with consistent options: those of a candidate, and those that the function is given."""
    usual = subject.contract.defaults(options)
    return Case(case.tensors, subject.contract.fit({**usual, **taken}, list(taken)), case.variant)


def _called(subject: Subject, case: Case, kind: Kind, taken: Mapping[str, Any]) -> Probe:
    """An input with the function's result."""
    case = with_options(subject, case, {}, taken)
    try:
        return Probe(case, kind, subject(case, ones_for(subject, case)), taken)
    except Violation as violation:
        if violation.took_too_long:
            raise
        return Probe(case, kind, None, taken)


def _other_values(subject: Subject) -> Iterator[dict[str, Any]]:
    """Each option that the function takes, set to each other value, if that changes anything."""
    usual = subject.contract.defaults({})
    for name in subject.offered:
        for value in subject.contract.options[name].others:
            if subject.contract.fit({**usual, name: value}, [name]) != usual:
                yield {name: value}


# -- the tensors ------------------------------------------------------------------------------------------------------


def _drawer(contract: Contract, options: Mapping[str, Any], variant: Variant, seed: int = 0) -> Draw:
    """A function that draws the tensors of an input from its numbers of rows and columns and the bytes of its mask."""
    random = Random(seed)

    def draw(rows: int, columns: int, numbers: str = "ordinary", mask: Sequence[bytes] = ()) -> dict[str, Tensor]:
        regime = Regime(numbers=numbers)
        bytes_of = [{name: random.randbytes(WIDTH) for name in contract.drawn} for _ in range(rows)]
        for row, counted in zip(bytes_of, mask, strict=False):
            row["mask"] = counted
        return dict(contract.build(Blueprint(columns, torch.float64, regime, variant, options, bytes_of)))

    return draw


def _inputs(contract: Contract, variant: Variant) -> Iterator[tuple[Kind, Mapping[str, Tensor]]]:
    """The tensors of single inputs and of whole batches."""
    usual, full = contract.defaults({}), [bytes(WIDTH)]
    draw = _drawer(contract, usual, variant)
    for tensors in _far_apart(contract, lambda: draw(1, 1, mask=full)):
        yield "single", tensors
    left = DRAWN
    for _ in range(TRIES * DRAWN):
        tensors = draw(1, 1, mask=full)
        left -= not any(unusual(Case(tensors, usual, variant)))
        yield "single", tensors
        if not left:
            break
    for _ in range(DRAWN_EXTREME):
        yield "single", draw(1, 1, "extreme", full)
    for tensors in _whole(contract, draw):
        yield "whole", tensors


def _far_apart(contract: Contract, plain: Callable[[], dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """One token for each log-ratio and each sign of the advantage."""
    if not {"logps", "old_logps"} <= set(contract.tensors):
        return
    for i, (ratio, sign) in enumerate(product((*NEAR, *FAR, *EXTREME), (0, 1))):
        tensors = plain()
        tensors["logps"] = tensors["old_logps"] + ratio
        if "advantages" in tensors:
            tensors["advantages"] = torch.full_like(tensors["advantages"], GAINS[sign + 2 * (i // 2 % 2)])
        if "ref_logps" in tensors:
            tensors["ref_logps"] = tensors["logps"] + REFERENCES[i % len(REFERENCES)] * (abs(ratio) < 20)
        yield tensors


def _whole(contract: Contract, draw: Draw) -> Iterator[dict[str, Tensor]]:
    """Batches with rows of all kinds, the last of them with rows without tokens, and groups of all kinds."""
    for i in range(DRAWN_WHOLE):
        yield draw(2 + i % 3, 1 + i % 6, mask=[bytes(WIDTH)] if i % 2 else [])
    lengths = [[_padded(n, 6) for n in row] for row in ((1, 2, 6), (5, 1, 3), (2, 0, 4), (0, 3, 0))]
    if "mask" in contract.drawn:
        yield from (draw(3, 6, mask=row) for row in lengths)
    if "rewards" in contract.tensors:
        for spread, base in zip(SPREADS, (0.0, 1.0, 1.0, 0.5), strict=True):
            tensors = draw(3, 2)
            steps = torch.arange(tensors["rewards"].numel(), dtype=torch.float64)
            tensors["rewards"] = base + spread * (steps % 3).view_as(tensors["rewards"])
            yield tensors


def _padded(length: int, columns: int) -> bytes:
    """The bytes of a mask with `length` tokens, padded on the right."""
    return bytes([1 + 5 * length, *([0] * (WIDTH - 1))]) if length < columns else bytes(WIDTH)

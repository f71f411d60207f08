"""Habits: named conventions in which implementations of one loss differ.

A function is judged with its habits: the oracle reads the spec with the definitions of the habits in place of its own,
so that a bug behind a habit is still found. A habit is written `name=value`, such as `log_ratio_clamp=20`, or `name`
where it has no value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from grape_spec.language.registry import definition
from sympy import Rational

from grape_verified.conformance.oracle import Answer, Arithmetic, Oracle
from grape_verified.conformance.reading import Instead, reading
from grape_verified.conformance.strategies import Case

if TYPE_CHECKING:
    from grape_verified.conformance.contract import Contract

#: The value of a habit: a number, one of several words, or none.
Value = float | str | None


@dataclass(frozen=True)
class Habit:
    """A named convention.

    Arguments:
        id: that of its definition in the spec, `habit.name` or `habit.name.word`.
        value: its number or its word, if it has one.
        words: the habit for a reader, such as "log-ratio clamped to ±20".
    """

    id: str
    value: Value
    words: str

    @property
    def name(self) -> str:
        """What it is asked for by: the second part of its id."""
        return self.id.split(".")[1]

    def __str__(self) -> str:
        shown = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return self.name if shown is None else f"{self.name}={shown}"


@dataclass(frozen=True)
class Known:
    """A habit that functions may have.

    Arguments:
        id: that of its definition.
        words: the habit for a reader; a habit with a number says it at `{}`.
        instead_of: the definition that it takes the place of. A contract whose oracle reads that one may have it.
        number: the symbol that its number is given to.
        usual: the numbers that trainers use; any other is allowed, too.
        option: the option that it is in contracts that have one for it.
        tensor: a tensor that a contract must have for it.
    """

    id: str
    words: str
    instead_of: str
    number: str = ""
    usual: tuple[float, ...] = ()
    option: str = ""
    tensor: str = ""

    @property
    def plain(self) -> Habit:
        """The habit with its word, or with its usual number."""
        return (
            self.at(self.usual[0])
            if self.number
            else Habit(self.id, next(iter(self.id.split(".")[2:]), None), self.words)
        )

    def fits(self, contract: Contract) -> bool:
        """Whether a function under a contract may have it."""
        if self.tensor and self.tensor not in contract.tensors:
            return False
        return self.option in contract.options or self.instead_of in contract.rests_on

    def at(self, number: float) -> Habit:
        """The habit with a number."""
        return Habit(self.id, number, self.words.format(f"{number:g}"))

    @property
    def every(self) -> tuple[Habit, ...]:
        """The habit with each of its usual numbers."""
        return tuple(map(self.at, self.usual)) if self.number else (self.plain,)

    def instead(self, habit: Habit) -> Instead:
        """What is read in place of what."""
        numbers = {self.number: Rational(Fraction(str(habit.value)))} if self.number else {}
        return Instead(self.instead_of, definition(self.id)(**numbers))


#: Every habit by the id of its definition. Where two take the place of one definition, the second is read within the
#: first.
KNOWN = {
    known.id: known
    for known in (
        Known(
            "habit.dual_clip", "always-on dual clip c = {}", "ppo.clipped_surrogate",
            number="dual_clip", usual=(3.0,), option="dual_clip",
        ),
        Known(
            "habit.log_ratio_clamp", "log-ratio clamped to ±{}", "ppo.ratio",
            number="log_ratio_cap", usual=(20.0, 10.0),
        ),
        Known(
            "habit.empty_rows.left_out", "rows without tokens left out of the number of rows",
            "aggregation.sequence_count", tensor="mask",
        ),
    )
}  # fmt: skip


def habits_of(contract: Contract) -> tuple[Habit, ...]:
    """The habits that make sense for a contract, those of one name together; a function has at most one of a name."""
    return tuple(habit for known in _of(contract) for habit in known.every)


def _of(contract: Contract) -> list[Known]:
    """The habits of a contract, whatever their numbers."""
    return [known for known in KNOWN.values() if known.fits(contract)]


def chosen(contract: Contract, asked: Iterable[Habit | str]) -> tuple[Habit, ...]:
    """The habits of a contract that are asked for, in the order in which they are read.

    Raises: ValueError for one that the contract does not have, for two of one name, or for a number that is none.
    """
    asked = list(asked)
    if contract.habits and asked:
        raise ValueError(f"habits: {contract.name} has {' and '.join(map(str, contract.habits))}, expected none before")
    found = [habit if isinstance(habit, Habit) else _parsed(contract, habit) for habit in asked]
    names = [habit.name for habit in found]
    for habit in found:
        if KNOWN.get(habit.id) not in _of(contract):
            raise _not_among(contract, habit)
        if names.count(habit.name) > 1:
            same = " and ".join(str(other) for other in found if other.name == habit.name)
            raise ValueError(f"habits: got {same}, expected one of them")
    return tuple(sorted(found, key=lambda habit: list(KNOWN).index(habit.id)))


def _parsed(contract: Contract, text: str) -> Habit:
    """The habit that NAME or NAME=VALUE asks for; NAME alone is enough where there is one of the name."""
    name, equals, value = text.partition("=")
    for known in _of(contract):
        if known.plain.name != name:
            continue
        if known.number and equals:
            return known.at(_positive(text, value))
        if value == (known.plain.value or "") or (not equals and len(known.every) == 1):
            return known.plain
    raise _not_among(contract, text)


def _positive(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (0 < number < math.inf):
        raise ValueError(f"habits: got {text!r}, expected a positive number")
    return number


def _not_among(contract: Contract, asked: object) -> ValueError:
    known = ", ".join(map(str, habits_of(contract))) or "none"
    return ValueError(f"habits: got {str(asked)!r}, expected some of those of {contract.name}: {known}")


def split(contract: Contract, asked: Iterable[Habit]) -> tuple[dict[str, Value], list[Instead]]:
    """The options that habits hold in a contract, and for the other habits what is read in place of what."""
    known = [(KNOWN[habit.id], habit) for habit in asked]
    held = {one.option: habit.value for one, habit in known if one.option in contract.options}
    return held, [one.instead(habit) for one, habit in known if one.option not in contract.options]


def under(oracle: Oracle, instead: Sequence[Instead]) -> Oracle:
    """The oracle that reads some definitions in place of others, also where it computes gradients later."""
    if not instead:
        return oracle

    def judged(case: Case, arithmetic: Arithmetic) -> Answer:
        with reading(instead):
            answer = oracle(case, arithmetic)
        return Answer(answer.values, reading(instead)(answer.of_gradients), reading(instead)(answer.of_size))

    return judged

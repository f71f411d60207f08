"""Formulas: the value of one token, pair or sequence and its slope, given by ids of the spec.

A formula names the definition of the value, what the spec states about its slope, and the tensors and options that the
symbols stand for. The definitions are evaluated on balls around the numbers that were read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from flint import arb
from grape_spec.aggregation import position, row
from grape_spec.language import Diff
from grape_spec.language.symbols import declaration
from sympy import Expr, IndexedBase
from torch import Tensor

from grape_verified.conformance.oracle import Arithmetic, Term, definition, entry, right_hand_side
from grape_verified.conformance.reading import evaluate, is_changed
from grape_verified.conformance.strategies import Case

#: A slope: a definition by its id, or the right-hand side of a claim by its id and the name of the part.
Slope = str | tuple[str, str]

#: The size of the terms that a number is a difference of.
Scale = float | Callable[[Mapping[str, Any]], float] | None

#: The value of a symbol: a number, or a table with one for each token.
Read = float | list[list[float]]


@dataclass(frozen=True)
class LogRatio:
    """The difference of two symbols, which is then exponentiated.

    A function may limit it where its exponential would leave the range; `cut` is the symbol that is changed.
    """

    above: str
    below: str
    cut: str

    def limited(self, numbers: Mapping[str, Read], reach: float) -> dict[str, Read]:
        """The numbers with a difference of at most `reach`."""
        above, below = numbers[self.above], numbers[self.below]
        if self.cut == self.above:
            return {**numbers, self.above: _paired(lambda x, y: min(x, y + reach), above, below)}
        return {**numbers, self.below: _paired(lambda x, y: max(y, x - reach), above, below)}


@dataclass(frozen=True)
class Formula:
    """The value of one token, pair or sequence, and its slope.

    Arguments:
        value: the id of its definition.
        slope: what the spec states about its derivative, for all differentiated tensors or for each by name; by default
            the derivative of the definition.
        reads: the tensor or option that a symbol stands for, or a number; by default the one with the symbol's name, or
            its plural.
        inner: symbols given by other definitions, by their ids, in order; the value is differentiated through them.
        constants: the same for symbols that are constants in the spec.
        absolute: symbols that also have an absolute rounding error: those that are exponentiated, or added to 1.
        exact: symbols that are read without rounding.
        objective: whether the value is to be maximised, so that the loss is its negative.
        log_ratios: log-ratios that a function may limit where their exponential leaves the range.
        scale, slope_scale: the size of the terms that a value or a slope is a difference of, given the numbers that
            were read, the latter perhaps by tensor; None if the balls around them cover all cancellation.
    """

    value: str
    slope: Slope | Mapping[str, Slope] | None = None
    reads: Mapping[str, str | int] = field(default_factory=dict)
    inner: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    absolute: Sequence[str] = ()
    exact: Sequence[str] = ()
    objective: bool = False
    log_ratios: Sequence[LogRatio] = ()
    scale: Scale = None
    slope_scale: Scale | Mapping[str, Scale] = None

    def term(self, case: Case, arithmetic: Arithmetic, i: int, t: int = 0, **given: arb) -> Term:
        """The term of a token, of pair i, or of sequence i with its slope at t; given symbols are not read."""
        numbers = {name: self._read(case, name, i, t) for name in self._things if name not in given}
        reach = math.log(arithmetic.range_end) if arithmetic.unit else math.inf
        limited = numbers
        for log_ratio in self.log_ratios:
            limited = log_ratio.limited(limited, reach)
        term = self._at(numbers, case, arithmetic, given)
        return term if limited == numbers else replace(term, limited=self._at(limited, case, arithmetic, given))

    def _at(self, numbers: Mapping[str, Read], case: Case, arithmetic: Arithmetic, known: Mapping[str, arb]) -> Term:
        """The term at these values of the symbols."""
        given: dict[str, Any] = {name: self._ball(name, x, arithmetic) for name, x in numbers.items()} | dict(known)
        for symbol, id in (*self.constants.items(), *self.inner.items()):
            given[symbol] = evaluate(definition(id), given, hull=True)
        sign = -1 if self.objective else 1

        def rounded(x: arb, scale: Scale) -> arb:
            size = scale(numbers) if callable(scale) else scale
            return x if size is None else arithmetic.rounded(x, size)

        def slope(tensor: str) -> arb:
            stated = self.slope[tensor] if isinstance(self.slope, Mapping) else self.slope
            if stated is None or is_changed(lambda: self._derivative(tensor)):  # what is stated is of the spec as it is
                found = evaluate(self._derivative(tensor), given, hull=True)
            else:
                law = definition(stated) if isinstance(stated, str) else right_hand_side(*stated)
                found = evaluate(law, given, hull=True)
                if not found.is_finite():  # the balls are too wide for this form of the slope
                    found = evaluate(self._derivative(tensor), given, hull=True)
                if arithmetic.any_branch:
                    found = found.union(evaluate(self._derivative(tensor), given, hull=True))
            scale = self.slope_scale[tensor] if isinstance(self.slope_scale, Mapping) else self.slope_scale
            return sign * rounded(found, scale)

        return Term(sign * rounded(evaluate(definition(self.value), given, hull=True), self.scale), slope)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the symbols that are read."""
        return tuple(self._things)

    def source(self, name: str, tensors: Container[str], options: Container[str]) -> str | int | None:
        """The tensor or option that a symbol stands for, or its number; None for nothing."""
        if self._things[name] in (row, position):
            return 0
        source = self.reads.get(name, name)
        if not isinstance(source, str):
            return source
        return next((one for one in (source, f"{source}s") if one in tensors), source if source in options else None)

    def _read(self, case: Case, name: str, i: int, t: int) -> Read:
        """The value of a symbol at token t of sequence i."""
        if self._things[name] in (row, position):
            return 1 + (i if self._things[name] == row else t)
        source = self.source(name, case.tensors, case.options)
        assert source is not None, f"{name} stands for nothing"
        if not isinstance(source, str):
            return source
        if source not in case.tensors:
            return float(case.options[source])
        tensor = case.tensors[source]
        return _table(tensor, case) if isinstance(self._things[name], IndexedBase) else entry(tensor, i, t)

    def _ball(self, name: str, x: Read, arithmetic: Arithmetic) -> Any:
        """The ball around a number that was read."""
        if isinstance(x, list):
            return [[self._ball(name, number, arithmetic) for number in line] for line in x]
        if name in self.exact or name == "mask" or isinstance(x, int):
            return int(x) if float(x).is_integer() else x
        return arithmetic.near(x, float(name in self.absolute))

    def _derivative(self, tensor: str) -> Expr:
        """The derivative of the definition with respect to a tensor, through the inner definitions."""
        value = definition(self.value)
        own = {declaration(thing).name for thing in value.of}
        inner = {symbol: definition(id)() for symbol, id in self.inner.items() if symbol in own}
        varied = next(x for name, x in self._things.items() if tensor in (self.reads.get(name), name, f"{name}s"))
        return Diff(value(**inner), varied[row, position] if isinstance(varied, IndexedBase) else varied)

    @cached_property
    def _things(self) -> dict[str, Any]:
        """The symbols and families that are read, by their names."""
        definitions = [definition(id) for id in (self.value, *self.inner.values(), *self.constants.values())]
        things = {declaration(thing).name: thing for entry in definitions for thing in entry.of}
        if row in things.values():
            things["position"] = position
        return {name: x for name, x in things.items() if name not in self.inner and name not in self.constants}


def _table(tensor: Tensor, case: Case) -> list[list[float]]:
    """A number for each token, 0 where masked."""
    table: list[list[float]] = tensor.masked_fill(case.tensors["mask"] == 0, 0).double().tolist()
    return table


def _paired(of: Callable[[float, float], float], x: Read, y: Read) -> Read:
    """A function of two numbers, or of the numbers of two tables, pair by pair."""
    if isinstance(x, list) and isinstance(y, list):
        return [[of(a, b) for a, b in zip(*lines, strict=True)] for lines in zip(x, y, strict=True)]
    if isinstance(x, list) or isinstance(y, list):
        raise TypeError("a log-ratio is of two numbers or of two tables")
    return of(x, y)

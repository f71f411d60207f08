"""Statements written out: a tree is read under an environment that gives sizes and indices numbers.

Sums become terms, definitions are read with their arguments, derivatives are the nilpotent parts of `explog`. Where a
value depends on a comparison, the side is taken that the point of the field lies on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from itertools import count
from random import Random
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from grape_spec.language.definitions import Recursion
from grape_spec.language.domains import Naturals, Position, RowDomain, SimplexDomain, SmoothDomain
from grape_spec.language.expressions import Apply, At, Diff, OneSided
from grape_spec.language.symbols import DECLARATIONS, Declaration, declared_name
from grape_spec.proof import explog
from grape_spec.proof.explog import Field, Jet, NotDecided, NoValue, Quotient, TooLong

#: How many different labels there are.
LABELS = 2

#: Nodes that may be read for one statement, at all sizes and points together.
STEPS = 1_000_000

#: The values of everything that occurs: integers, numbers with nilpotent parts, functions of positions.
Scope = Mapping[Any, Any]


class NeedsNumber(ArithmeticError):
    """A declared integer decides how long a sum is, or where an entry lies: it has to be given a value."""

    def __init__(self, thing: Any) -> None:
        super().__init__(f"{thing} stands where a number is needed")
        self.thing = thing


class NeedsLabels(ArithmeticError):
    """Families whose entries are only compared for equality: they have to be given values, so that some are equal."""

    def __init__(self, things: set[Any]) -> None:
        super().__init__(f"{things} are compared for equality")
        self.things = things


class Reader:
    """Reads trees into a field.

    Arguments:
        field: the field of the statement.
        labels: families whose entries are small integers, drawn at the point.
        steps: counts the nodes that are read.
    """

    def __init__(self, field: Field, labels: Collection[Any] = (), steps: Iterator[int] | None = None) -> None:
        self.field, self.labels = field, labels
        self._steps = count() if steps is None else steps
        self._tag = 1
        #: The ε of the innermost one-sided slope, which counts as positive.
        self._forward = 0

    # -- what is declared -------------------------------------------------------------------------------------------

    def scope(self, things: Iterable[Any], given: Mapping[Any, int]) -> dict[Any, Any]:
        """An environment for declared things, where sizes and indices are given as numbers."""
        scope: dict[Any, Any] = dict(given)
        for thing in things:
            if thing in given:
                continue
            entry = DECLARATIONS[thing]
            if thing in self.labels:
                most = _size(entry.domain.size, given) if isinstance(entry.domain, Position) else LABELS
                scope[thing] = self._table(entry.name, [_size(size, given) for size in entry.sizes], most)
            elif isinstance(thing, sp.IndexedBase):
                scope[thing] = self._family(entry, [_size(size, given) for size in entry.sizes])
            elif isinstance(thing, sp.Symbol):
                scope[thing] = self._number(entry)
            else:
                scope[thing] = self._function(entry)
        return scope

    def _number(self, entry: Declaration) -> Jet:
        return self._lift(self.field.open((entry.name,), _draws(entry.domain, (entry.name,)), entry.domain))

    def _table(self, name: str, shape: list[int], most: int) -> Callable[..., int]:
        def entry_at(*position: int) -> int:
            _refuse_beyond(name, position, shape)
            return _random(self.field.seed, (name, *position)).randint(1, most)

        return entry_at

    def _family(self, entry: Declaration, shape: list[int]) -> Callable[..., Jet]:
        def entry_at(*position: int) -> Jet:
            _refuse_beyond(entry.name, position, shape)
            if isinstance(entry.domain, RowDomain):
                return self._lift(self._in_row(entry.name, entry.domain, position, shape[-1]))
            key = (entry.name, *position)
            return self._lift(self.field.open(key, _draws(entry.domain, key), entry.domain))

        return entry_at

    def _in_row(self, name: str, domain: RowDomain, position: tuple[int, ...], length: int) -> Quotient:
        """An entry of a row that sums to one: the last is what the others leave."""
        *row, place = position

        def draw(place: int) -> Callable[[int], Fraction]:
            return lambda seed: domain.sample_row(_random(seed, (name, *row)), length)[place - 1]

        def element(place: int) -> Quotient:
            return self.field.open((name, *row, place), draw(place), domain)

        if place < length:
            return element(place)
        last = self.field.one
        for other in range(1, length):
            last = last + -element(other)
        if isinstance(domain, SimplexDomain):
            self.field.is_positive(last)
        return last

    def _function(self, entry: Declaration) -> Callable[..., Jet]:
        """A smooth function: its value and its derivatives where it is read are numbers of their own."""
        positive = bool(entry.domain.assumptions.get("positive"))

        def value(*arguments: Any) -> Jet:
            *index, at = arguments
            key = (entry.name, *map(self.whole, index), *self._lift(at).value.key)

            def derivative(k: int) -> Quotient:
                domain = SmoothDomain("value", positive and not k)
                scale = self.field.rational(Fraction(1, math.factorial(k)))
                return self.field.open((*key, k), _draws_value(domain, (*key, k)), domain) * scale

            return self._lift(at).through(derivative, self.field.zero)

        return value

    # -- numbers ----------------------------------------------------------------------------------------------------

    def _lift(self, x: Any) -> Jet:
        if isinstance(x, Jet):
            return x
        return Jet({0: x if isinstance(x, Quotient) else self.field.rational(x)})

    def number(self, expr: sp.Basic, scope: Scope) -> Jet:
        """The value of an expression."""
        return self._lift(self._value(expr, scope))

    def whole(self, x: Any) -> int:
        """A value that has to be an integer: a position, a size, an exponent."""
        if isinstance(x, int):
            return x
        found = x.value.number
        if x.moves or found is None or found.denominator != 1:
            self._ask_for_number(x)
            raise NotDecided("a position or an exponent that is no number")
        return int(found)

    def _ask_for_number(self, x: Jet) -> None:
        """Raise `NeedsNumber` for a declared integer among the generators of a value."""
        for thing in self._declared_in(x):
            if isinstance(thing, sp.Symbol) and isinstance(DECLARATIONS[thing].domain, Naturals):
                raise NeedsNumber(thing)

    def _declared_in(self, x: Jet) -> set[Any]:
        used = {place for exponents in x.value.above.to_dict() for place, n in enumerate(exponents) if n}
        return {declared_name(self.field.key_of(place)[0]) for place in used if self.field.is_open(place)}

    def _value(self, expr: Any, scope: Scope) -> Any:
        if next(self._steps) > STEPS:
            raise TooLong
        kind: Any = type(expr)
        return _reader_of(kind)(self, expr, scope)

    def _no_number(self, expr: Any, scope: Scope) -> Any:
        raise NoValue(f"{expr} is not a real number")

    def _rational(self, expr: sp.Rational, scope: Scope) -> Any:
        return int(expr) if expr.is_Integer else self._lift(Fraction(int(expr.p), int(expr.q)))

    def _symbol(self, expr: sp.Symbol, scope: Scope) -> Any:
        return scope[expr]

    def _indexed(self, expr: sp.Indexed, scope: Scope) -> Any:
        return scope[expr.base](*(self.whole(self._value(i, scope)) for i in expr.indices))

    def _add(self, expr: sp.Add, scope: Scope) -> Any:
        return _folded([self._value(arg, scope) for arg in expr.args], 0, self._plus)

    def _mul(self, expr: sp.Mul, scope: Scope) -> Any:
        return _folded([self._value(arg, scope) for arg in expr.args], 1, self._times)

    def _plus(self, x: Any, y: Any) -> Any:
        return x + y if type(x) is type(y) else self._lift(x) + self._lift(y)

    def _times(self, x: Any, y: Any) -> Any:
        return x * y if type(x) is type(y) else self._lift(x) * self._lift(y)

    def _exp(self, expr: sp.exp, scope: Scope) -> Jet:
        return explog.exp(self.number(expr.args[0], scope), self.field)

    def _log(self, expr: sp.log, scope: Scope) -> Jet:
        return explog.log(self.number(expr.args[0], scope), self.field)

    def _pow(self, expr: sp.Pow, scope: Scope) -> Jet:
        base, exponent = expr.args
        n = exponent if isinstance(exponent, sp.Rational) else self.whole(self._value(exponent, scope))
        return explog.power(self.number(base, scope), Fraction(str(n)), self.field)

    def _over(self, expr: sp.Sum | sp.Product, scope: Scope) -> Any:
        start, combine = (0, self._plus) if isinstance(expr, sp.Sum) else (1, self._times)

        def over(limits: tuple[Any, ...], scope: Scope) -> Any:
            if not limits:
                return self._value(expr.function, scope)
            *inner, (bound, low, high) = limits
            ends = [self.whole(self._value(end, scope)) for end in (low, high)]
            terms = [over(tuple(inner), {**scope, bound: i}) for i in range(ends[0], ends[1] + 1)]
            return _folded(terms, start, combine)

        return over(expr.limits, scope)

    def _delta(self, expr: sp.KroneckerDelta, scope: Scope) -> int:
        values = [self._value(arg, scope) for arg in expr.args]
        things = {thing for x in values if isinstance(x, Jet) for thing in self._declared_in(x)}
        families = {thing for thing in things if isinstance(thing, sp.IndexedBase)}
        if families:
            raise NeedsLabels(families)
        first, second = map(self.whole, values)
        return int(first == second)

    def _apply(self, expr: Apply, scope: Scope) -> Any:
        definition = expr.definition
        given = {p: self._argument(a, scope) for p, a in zip(definition.of, expr.arguments, strict=True)}
        inside = {**scope, **given}
        if definition.recursion is None:
            return self._value(definition.body, inside)
        return self._at_depth(definition.recursion, inside)

    def _at_depth(self, recursion: Recursion, scope: Scope) -> Any:
        """A definition by recursion, from its depth down to the first."""
        depth = self.whole(scope[recursion.over])
        if depth < recursion.lowest:
            raise NoValue(f"a depth of {depth}, where {recursion.lowest} is the first")
        if depth == recursion.lowest:
            return self._value(recursion.first, scope)
        return self._value(recursion.step, {**scope, recursion.over: depth - 1})

    def _undefined(self, expr: AppliedUndef, scope: Scope) -> Any:
        return scope[expr.func](*(self._value(arg, scope) for arg in expr.args))

    def _argument(self, argument: Any, scope: Scope) -> Any:
        if isinstance(argument, sp.IndexedBase):
            return scope[argument]
        if isinstance(argument, sp.Lambda):
            signature, body = argument.signature, argument.expr
            return lambda *at: self._value(body, {**scope, **dict(zip(signature, at, strict=True))})
        return self._value(argument, scope)

    # -- derivatives ------------------------------------------------------------------------------------------------

    def _diff(self, expr: Diff, scope: Scope) -> Jet:
        variable, tag = expr.variable, self._fresh_tag()
        step = Jet({0: self.field.zero, tag: self.field.one})
        if isinstance(variable, sp.Symbol):
            moved: dict[Any, Any] = {variable: self._lift(scope[variable]) + step}
        else:
            family = scope[variable.base]
            here = tuple(self.whole(self._value(i, scope)) for i in variable.indices)
            moved = {variable.base: lambda *at: self._lift(family(*at)) + step if at == here else family(*at)}
        return self.number(expr.expr, {**scope, **moved}).part(tag, self.field.zero)

    def _one_sided(self, expr: OneSided, scope: Scope) -> Jet:
        tag, outer = self._fresh_tag(), self._forward
        side = self.field.rational(expr.side)
        point = self.number(expr.point, scope) + Jet({0: self.field.zero, tag: side})
        self._forward = tag
        slope = self.number(expr.expr, {**scope, expr.variable: point}).part(tag, self.field.zero)
        self._forward = outer
        return slope * Jet({0: side})

    def _at(self, expr: At, scope: Scope) -> Any:
        return self._value(expr.expr, {**scope, expr.replaced: self._argument(expr.value, scope)})

    def _fresh_tag(self) -> int:
        self._tag <<= 1
        return self._tag

    # -- comparisons ------------------------------------------------------------------------------------------------

    def _order(self, x: Jet, y: Jet) -> int:
        """The sign of a difference: of its value, or where that is zero, of what it moves by."""
        difference = x + -y
        parts = {mask: part for mask, part in difference.parts.items() if mask and not self.field.is_zero(part)}
        if not self.field.is_zero(difference.value):
            return self.field.sign(difference.value, closed=not parts)
        if not parts:
            return 0
        if set(parts) == {self._forward}:
            return self.field.sign(parts[self._forward])
        raise NotDecided("a derivative at a kink")

    def _extremum(self, expr: sp.Min | sp.Max, scope: Scope) -> Any:
        side = -1 if isinstance(expr, sp.Min) else 1
        best, *others = (self.number(arg, scope) for arg in expr.args)
        for other in others:
            best = other if self._order(other, best) == side else best
        return best

    def _absolute(self, expr: sp.Abs, scope: Scope) -> Jet:
        x = self.number(expr.args[0], scope)
        return -x if self._order(x, self._lift(0)) < 0 else x

    def _piecewise(self, expr: sp.Piecewise, scope: Scope) -> Any:
        for value, condition in expr.args:
            if self.truth(condition, scope):
                return self._value(value, scope)
        raise NoValue("no case applies")

    def truth(self, formula: Any, scope: Scope) -> bool:
        """Whether a formula holds throughout the region of the point."""
        if formula in (sp.true, sp.false):
            return bool(formula)
        if isinstance(formula, Relational):
            return self._compare(formula, scope)
        parts = [self.truth(arg, scope) for arg in formula.args]
        if isinstance(formula, sp.And | sp.Or):
            return all(parts) if isinstance(formula, sp.And) else any(parts)
        if isinstance(formula, sp.Not):
            return not parts[0]
        if isinstance(formula, sp.Implies | sp.Equivalent):
            return (not parts[0] or parts[1]) if isinstance(formula, sp.Implies) else parts[0] == parts[1]
        raise NotDecided(f"the second route does not decide {type(formula).__name__}")

    def _compare(self, formula: Relational, scope: Scope) -> bool:
        left, right = (self.number(side, scope) for side in formula.args)
        difference = left + -right
        if self.field.is_zero(difference.value):
            if difference.moves and any(not self.field.is_zero(p) for m, p in difference.parts.items() if m):
                raise NotDecided("a condition that changes at the point")
            return isinstance(formula, sp.Eq | sp.Le | sp.Ge)
        sign = self.field.sign(difference.value)
        if isinstance(formula, sp.Eq | sp.Ne):
            return isinstance(formula, sp.Ne)
        return sign < 0 if isinstance(formula, sp.Lt | sp.Le) else sign > 0


_READERS: dict[type, Callable[[Reader, Any, Scope], Any]] = {
    sp.Rational: Reader._rational,
    sp.Symbol: Reader._symbol,
    sp.Indexed: Reader._indexed,
    sp.Add: Reader._add,
    sp.Mul: Reader._mul,
    sp.exp: Reader._exp,
    sp.log: Reader._log,
    sp.Pow: Reader._pow,
    sp.Sum: Reader._over,
    sp.Product: Reader._over,
    sp.KroneckerDelta: Reader._delta,
    Apply: Reader._apply,
    AppliedUndef: Reader._undefined,
    Diff: Reader._diff,
    OneSided: Reader._one_sided,
    At: Reader._at,
    sp.Min: Reader._extremum,
    sp.Max: Reader._extremum,
    sp.Abs: Reader._absolute,
    sp.Piecewise: Reader._piecewise,
    **dict.fromkeys(map(type, (sp.I, sp.zoo, sp.nan, sp.oo, -sp.oo)), Reader._no_number),
}


@cache
def _reader_of(kind: Any) -> Callable[[Reader, Any, Scope], Any]:
    """The method that reads nodes of a class: that of the nearest ancestor."""
    found = next((_READERS[ancestor] for ancestor in kind.__mro__ if ancestor in _READERS), None)
    if found is None:
        raise NotDecided(f"the second route does not read {kind.__name__}")
    return found


def _folded(values: list[Any], start: int, combine: Callable[[Any, Any], Any]) -> Any:
    total: Any = start
    for position, value in enumerate(values):
        total = combine(total, value) if position else value
    return total


def _size(size: Any, given: Mapping[Any, int]) -> int:
    return int(size) if isinstance(size, sp.Integer) else given[size]


def _refuse_beyond(name: str, position: tuple[int, ...], shape: list[int]) -> None:
    if any(not 1 <= i <= n for i, n in zip(position, shape, strict=True)):
        raise NoValue(f"{name} is read beyond its axis, at {position}")


def _random(seed: int, key: Any) -> Random:
    return Random(f"{seed} {key}")


def _draws(domain: Any, key: Any) -> Callable[[int], Fraction]:
    return lambda seed: Fraction(domain.sample(_random(seed, key)))


def _draws_value(domain: Any, key: Any) -> Callable[[int], Fraction]:
    """The value of a smooth function, or of a derivative of it."""
    low = 1 if domain.positive else -16
    return lambda seed: Fraction(_random(seed, key).randint(low, 16), 8)

"""A reader of LaTeX formulas: what is printed on a page becomes an expression again, to be compared with the statement.

It knows the grammar of formulas and the symbols that are declared, and nothing of how they are printed. Each symbol is
a pattern of signs with places for indices and arguments; the longest pattern that fits is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import (
    Apply,
    At,
    Diff,
    OneSided,
    occurring,
    substitute,
    symbols_of,
)
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.paper.alike import named_alike
from grape_spec.paper.arguments import hidden
from grape_spec.paper.cursor import Cursor, Unreadable
from grape_spec.paper.patterns import (
    Hole,
    Pattern,
    of_definition,
    of_local,
    of_symbol,
    refuse_unbalanced,
    signs,
)
from grape_spec.paper.printer import PARAMETER

_RELATIONS: dict[str, Callable[..., Any]] = {
    "=": sp.Eq, "<": sp.Lt, ">": sp.Gt, r"\le": sp.Le, r"\ge": sp.Ge, r"\ne": sp.Ne,
}  # fmt: skip


class Reader(Cursor):
    """Reads formulas of some symbols and definitions.

    Arguments:
        things: declared symbols, families and functions, each with its distance from the formula: of two that are
            printed alike, the nearer one is meant.
        definitions: those that may be applied, with their distances.
        of_parameters: functions of the parameters, which are printed without them.
    """

    def __init__(
        self, things: Mapping[Any, int], definitions: Mapping[Definition, int], of_parameters: Container[Any]
    ) -> None:
        super().__init__()
        found = [(near, pattern) for thing, near in things.items() for pattern in of_symbol(thing)]
        for entry, near in definitions.items():
            found += [(near, pattern) for pattern in of_definition(entry)] if entry.tex else []
        found.sort(key=lambda pair: (-pair[1].length, pair[0]))
        self.patterns = [pattern for _, pattern in found]
        self.of_parameters = of_parameters
        self.dummies: list[sp.Symbol] = []
        self.axes: dict[sp.Symbol, Any] = {}
        self.used: set[str] = set()
        self.unused: set[str] = set()

    def formula(self, main: str, where: dict[str, str], given: dict[str, str]) -> Any:
        """The statement or expression that a formula with its lines below says."""
        local = [of_local(glyph, body) for glyph, body in where.items()]
        found = [pattern for patterns in local for pattern in patterns]
        self.patterns = sorted([*found, *self.patterns], key=lambda pattern: -pattern.length)
        said = self.whole(main)
        values = {self.symbol(glyph): self.whole(value) for glyph, value in given.items()}
        spoken_of = symbols_of(said)
        self.unused = {glyph for glyph in where if glyph not in self.used}
        self.unused |= {glyph for glyph, thing in zip(given, values, strict=True) if thing not in spoken_of}
        return substitute(said, values) if values else said

    def display(self, tex: str) -> tuple[Any, tuple[Any, ...]]:
        """The statement that a displayed formula makes with the lines below it, and what it assumes.

        Raises: Unreadable for whatever is no formula.
        """
        refuse_unbalanced(tex)
        try:
            return self._displayed(tex)
        except (TypeError, ValueError, IndexError, RecursionError) as failure:  # two arguments of three, u = u + 1
            raise Unreadable(str(failure)) from failure

    def _displayed(self, tex: str) -> tuple[Any, tuple[Any, ...]]:
        main, *below = re.split(r"\\text\{(where|and|with|assuming) \}", tex)
        where: dict[str, str] = {}
        given: dict[str, str] = {}
        assumed: list[str] = []
        for word, line in zip(below[::2], below[1::2], strict=True):
            if word == "assuming":
                assumed += re.split(r",\\ |,\s*\\\\\[2pt\]\s*&\s*\\quad", line)
            else:
                for entry in line.split(r",\ ") if word == "with" else [line]:
                    glyph, value = _at_equals(entry)
                    if glyph in where or glyph in given:
                        raise Unreadable(f"{glyph} is explained twice")
                    (given if word == "with" else where)[glyph] = value
        statement = self.formula(main, where, given)
        return statement, tuple(map(self.whole, assumed))

    def symbol(self, glyph: str) -> Any:
        """The declared symbol of a glyph."""
        for pattern in self.patterns:
            if pattern.signs == tuple(signs(glyph)) and not pattern.vector:
                made = pattern.make({}, self)
                if made in DECLARATIONS:
                    return made
        raise Unreadable(f"{glyph} is no declared symbol")

    def whole(self, tex: str) -> Any:
        """What LaTeX says, all of it."""
        return self.elsewhere(signs(tex), self.statement)

    def braces(self, parse: Callable[[], Any] | None = None) -> Any:
        return self.inside("{", "}", parse or self.sum)

    # Statements.

    def statement(self) -> Any:
        left = self.joined()
        if self.peek() not in (r"\implies", r"\iff"):
            return left
        kind = sp.Implies if self.take() == r"\implies" else sp.Equivalent
        return kind(left, self.joined(), evaluate=False)  # a second arrow would need brackets

    def joined(self) -> Any:
        """Relations between ``or`` or between ``and``; both need brackets."""
        found = [self.relation()]
        word = self.peek()
        if word not in (r"\text{ or }", r"\text{ and }"):
            return found[0]
        while self.peek() == word:
            self.take()
            found.append(self.relation())
        return (sp.Or if word == r"\text{ or }" else sp.And)(*found, evaluate=False)

    def relation(self) -> Any:
        if self.peek() == r"\neg":
            self.take()
            return sp.Not(self.inside("(", ")", self.statement), evaluate=False)
        if self.peek() == "(":
            before = self.place
            try:
                found = self.inside("(", ")", self.statement)
                if not isinstance(found, sp.Expr) and not self._continues():
                    return found
            except Unreadable:
                pass
            self.place = before
        left = self.sum()
        if self.peek() in _RELATIONS:
            kind = _RELATIONS[self.take()]
            return kind(left, self.sum(), evaluate=False)
        return left

    def _continues(self) -> bool:
        return self.peek() in {*_RELATIONS, "+", "-", "^", "/"}

    # Numbers.

    def sum(self) -> Any:
        negative = self.peek() == "-" and bool(self.take())
        total = self.product()
        total = -total if negative else total
        while self.peek() in ("+", "-"):
            if self.signs[self.place - 1] == r"\end{cases}":
                raise Unreadable("cases that are added to need brackets")
            sign = self.take()
            term = self.product()
            total = total + term if sign == "+" else total - term
        return total

    _ENDS = frozenset({"", "+", "-", ")", "}", "]", ",", r"\\", r"\endbar", r"\implies", r"\iff", ":=", r"\mapsto"})

    def product(self) -> Any:
        factors = [self.factor()]
        while not self._at_end_of_product():
            if self.peek() == "/":
                self.take()
                factors.append(1 / self.factor())
                self._refuse_more("a slash")
                break
            self._refuse_to_run_together(factors[-1])
            if self.peek() in (r"\cdot", r"\,"):
                self.take()
            factors.append(self.factor())
        return sp.Mul(*factors)

    def _refuse_to_run_together(self, before: Any) -> None:
        """Two numbers side by side are one; a bar reaches back over all factors; cases end a product."""
        last, sign = self.signs[self.place - 1], self.peek()
        if (last.isdigit() and sign.isdigit()) or (before.is_Rational and sign == r"\frac"):
            raise Unreadable(f"{before} runs into what follows")
        if sign == r"\at":
            raise Unreadable("a factor before a bar may be within it")
        if last == r"\end{cases}":
            raise Unreadable("cases that are multiplied need brackets")

    def _refuse_more(self, sign: str) -> None:
        """After a logarithm, derivative or slash without brackets: a further factor may belong to it."""
        if not self._at_end_of_product():
            raise Unreadable(f"a factor after what follows {sign} may belong to it")

    def _at_end_of_product(self) -> bool:
        sign = self.peek()
        if sign == r"\Vert":  # of a norm that begins, or between the two arguments of a divergence
            return not self._starts_a_symbol()
        return sign in self._ENDS or sign in _RELATIONS or sign.startswith((r"\text", r"\end"))

    def _starts_a_symbol(self) -> bool:
        before = self.place
        found = self._by_pattern()
        self.place = before
        return found is not None

    def factor(self) -> Any:
        sign = self.peek()
        if sign in (r"\sum", r"\prod"):
            return self._quantified()
        if sign == r"\log":
            return self._logarithm()
        if sign == r"\nabla":
            self.take()
            self.take("_")
            variable = self.braces()
            found = Diff(self._operand(), variable)
            self._refuse_more(sign)
            return found
        if sign == r"\frac" and self.signs[self.place + 2 : self.place + 3] == [r"\partial"]:
            found = self._derivative()
            self._refuse_power()
            return found
        before = self.place
        return self._power(self.primary(), before)

    def _logarithm(self) -> Any:
        found = self._by_pattern()
        if found is None:
            self.take()
            found = sp.log(self._operand())
        self._refuse_power()
        self._refuse_more(r"\log")
        return found

    def _operand(self) -> Any:
        """What a logarithm or derivative without brackets is of."""
        if self.peek() == r"\at":
            raise Unreadable("what stands before a bar may be within it")
        return self.factor()

    def _power(self, base: Any, start: int) -> Any:
        """What was read from a place on, with its exponent."""
        if not self.at_exponent():
            return base
        if self.binds_loosely(start):
            self._refuse_power()
        self.take()
        power = self.braces()
        self._refuse_power()
        return base**power if power.is_number else sp.exp(power * sp.log(base))

    def _refuse_power(self) -> None:
        if self.at_exponent():
            raise Unreadable("what has the exponent needs brackets")

    def _quantified(self) -> Any:
        kind = sp.Sum if self.take() == r"\sum" else sp.Product
        self.take("_")
        self.take("{")
        index = self.primary()
        self.take("=")
        self.take("1")
        self.take("}")
        self.take("^")
        high = self.braces()
        body = self.product()
        return kind(body, (index, 1, high))

    def primary(self) -> Any:
        sign = self.peek()
        found = self._by_pattern()
        if found is not None:
            return found
        if sign.isdigit():
            return sp.Integer(self.take())
        if sign == "(":
            return self.inside("(", ")", self.sum)
        simple = {
            r"\frac": self._fraction, r"\sqrt": self._root, r"\exp": self._exp, r"\abs": self._abs, r"\at": self._at,
            r"\min": self._min, r"\max": self._max, r"\operatorname{clip}": self._clip, r"\delta": self._delta,
            r"\begin{cases}": self._cases, "e": self._power_of_e,
        }  # fmt: skip
        if sign not in simple:
            raise Unreadable(f"nothing is known of {' '.join(self.signs[self.place :][:8]) or 'the end'}")
        self.take()
        return simple[sign]()

    def _fraction(self) -> Any:
        above = self.braces()
        return above / self.braces()

    def _root(self) -> Any:
        return sp.sqrt(self.braces())

    def _exp(self) -> Any:
        return sp.exp(self.inside("(", ")", self.sum))

    def _power_of_e(self) -> Any:
        if self.peek() != "^":
            return sp.E
        self.take("^")
        return sp.exp(self.braces())

    def _abs(self) -> Any:
        found = self.sum()
        self.take(r"\endbar")
        return sp.Abs(found)

    def _several(self, parse: Callable[[], Any] | None = None) -> list[Any]:
        read = parse or self.sum
        found = [read()]
        while self.peek() == ",":
            self.take()
            found.append(read())
        return found

    def _index(self) -> Any:
        if self.peek() != r"\cdot":
            return self.sum()
        if not self.dummies:
            raise Unreadable("an index is missing")
        self.take()
        return self.dummies[0]

    def _min(self) -> Any:
        return sp.Min(*self.inside("(", ")", self._several), evaluate=False)

    def _max(self) -> Any:
        return sp.Max(*self.inside("(", ")", self._several), evaluate=False)

    def _clip(self) -> Any:
        x, low, high = self.inside("(", ")", self._several)
        return sp.Min(sp.Max(x, low, evaluate=False), high, evaluate=False)

    def _delta(self) -> Any:
        self.take("_")
        return sp.KroneckerDelta(*self.braces(self._several))

    def _cases(self) -> Any:
        rows = []
        while True:
            value = self.sum()
            word = self.take(r"\text{if }", r"\text{otherwise}")
            otherwise = word == r"\text{otherwise}"
            rows.append((value, sp.true if otherwise else self.statement()))
            if self.take(*([] if otherwise else [r"\\"]), r"\end{cases}") == r"\end{cases}":
                return sp.Piecewise(*rows, evaluate=False)

    # Derivatives.

    def _derivative(self) -> Any:
        r"""∂/∂x of what follows, or of what stands above: \frac{\partial^{2} f}{\partial x \partial y}."""
        self.take(r"\frac")
        self.take("{")
        self.take(r"\partial")
        order, side = 1, 0
        if self.peek() == "^":
            self.take()
            self.take("{")
            sign = self.take()
            side = {"+": 1, "-": -1}.get(sign, 0)
            order = int(sign) if not side else 1
            self.take("}")
        body = self._operand() if self.peek() != "}" else None
        self.take("}")
        variables = self.braces(self._variables)
        if len(variables) != order:
            raise Unreadable(f"got {len(variables)} variables, expected {order}")
        if body is None:
            body = self._operand()
            self._refuse_more(r"\partial")
        if side:
            return _Side(body, variables[0], side)
        for variable in reversed(variables):
            body = Diff(body, variable)
        return body

    def _variables(self) -> list[Any]:
        found = []
        while self.peek() == r"\partial":
            self.take()
            variable = self.primary()
            count = 1
            if self.peek() == "^":
                self.take()
                count = int(self.braces())
            found += [variable] * count
        return found

    def _at(self) -> Any:
        body = self._side_or_sum()
        self.take(r"\endbar")
        self.take("_")
        self.take("{")
        pairs = []
        while True:
            thing = self._replaced()
            self.take("=")
            pairs.append((thing, self.family_of(thing) if isinstance(thing, sp.IndexedBase) else self.sum()))
            if self.take(",", "}") == "}":
                break
        if isinstance(body, _Side):
            ((thing, point),) = pairs
            if thing != body.variable:
                raise Unreadable(f"a slope in {body.variable} at a value of {thing}")
            return OneSided(body.expr, body.variable, point, body.side)
        for position, (thing, value) in enumerate(pairs):
            if occurring(value) & {later for later, _ in pairs[position + 1 :]}:
                raise Unreadable(f"{value} is put in, and then replaced itself")
            body = At(body, thing, value)
        return body

    def _side_or_sum(self) -> Any:
        if self.peek() == r"\frac" and self.signs[self.place + 2] == r"\partial":
            before = self.place
            found = self._derivative()
            if isinstance(found, _Side):
                return found
            self.place = before
        return self.sum()

    def _replaced(self) -> Any:
        """The symbol or family before an equals sign."""
        end = self.signs.index("=", self.place)
        glyph = tuple(self.signs[self.place : end])
        for pattern in self.patterns:
            if pattern.signs == glyph:
                made = pattern.families.get("itself", None) if pattern.vector else pattern.make({}, self)
                if made in DECLARATIONS:
                    self.place = end
                    return made
        raise Unreadable(f"{' '.join(glyph)} is no declared symbol")

    # Declared symbols.

    def _by_pattern(self) -> Any | None:
        before = self.place
        for pattern in self.patterns:
            if (pattern.vector and not self.dummies) or not self._may_start(pattern):
                continue
            values = self._fit(pattern)
            if values is not None and self.peek() != "(":  # what stands before a bracket is applied to what is in it
                try:
                    return pattern.make(values, self)
                except Unreadable:
                    pass
            self.place = before
        return None

    def _may_start(self, pattern: Pattern) -> bool:
        first = pattern.signs[0]
        return first == self.peek() if isinstance(first, str) else self._end_of_hole(pattern) is not None

    def _end_of_hole(self, pattern: Pattern) -> int | None:
        """Where the symbol or bracket ends that fills the hole which a pattern starts with."""
        fixed = list(takewhile(lambda sign: isinstance(sign, str), pattern.signs[1:]))
        depth, place = 0, self.place
        while place < len(self.signs):
            if depth == 0 and place > self.place and self.signs[place : place + len(fixed)] == fixed:
                return place
            sign = self.signs[place]
            depth += (sign in "({") - (sign in ")}")
            if depth < 0 or (depth == 0 and (sign in self._ENDS - {")", "}"} or sign in _RELATIONS)):
                return None
            place += 1
        return None

    def _fit(self, pattern: Pattern) -> dict[str, Any] | None:
        values: dict[str, Any] = {}
        for position, sign in enumerate(pattern.signs):
            if isinstance(sign, str):
                if self.peek() != sign:
                    return None
                self.place += 1
                continue
            after = pattern.signs[position + 1] if position + 1 < len(pattern.signs) else None
            before = pattern.signs[position - 1] if position else None
            alone = before in ("(", "{", ",", r"\Vert", "_") and after in (")", "}", ",", r"\Vert")
            try:
                found = self._in_hole(sign, pattern, alone) if position else self._first_hole(sign, pattern)
            except (Unreadable, ValueError, TypeError):
                return None
            if sign.name in values and named_alike(values[sign.name]) != named_alike(found):
                return None
            values[sign.name] = found
        return values

    def _first_hole(self, hole: Hole, pattern: Pattern) -> Any:
        end = self._end_of_hole(pattern) or self.place
        filling = self.signs[self.place : end]
        self.place = end
        return self.elsewhere(filling, lambda: self.family_of(pattern.families[hole.name]))

    def _in_hole(self, hole: Hole, pattern: Pattern, alone: bool) -> Any:
        if hole.many:
            return self._several(self._index)
        if hole.name in pattern.families:
            return self.family_of(pattern.families[hole.name], alone=alone)
        return self.sum() if alone else self.factor()

    def family_of(self, base: Any, *, alone: bool = True) -> Any:
        """A family: a map from indices, or an expression of families without their last indices."""
        sizes = DECLARATIONS[base].sizes
        found = self._map()
        if found is not None:
            return found
        dummies = [sp.Dummy(f"i{axis}", integer=True, positive=True) for axis in range(len(sizes))]
        outer = self.dummies
        self.dummies = [*dummies, *outer]
        self.axes |= dict(zip(dummies, sizes, strict=True))
        try:
            body = self.sum() if alone else self.factor()
        finally:
            self.dummies = outer
        is_a_family = isinstance(body, sp.Indexed) and body.indices == tuple(dummies)
        return body.base if is_a_family else sp.Lambda(tuple(dummies), body)

    def _map(self) -> Any | None:
        before = self.place
        try:
            names = self.inside("(", ")", self._several) if self.peek() == "(" else [self.primary()]
            self.take(r"\mapsto")
        except Unreadable:
            self.place = before
            return None
        return sp.Lambda(tuple(names), self.sum())


def _at_equals(line: str) -> tuple[str, str]:
    glyph, _, value = line.partition(" = ")
    return re.sub(r"^[&\s]+|\\begin\{aligned\}", "", glyph).strip(), value


@dataclass
class _Side:
    """A one-sided slope whose point is still to be read."""

    expr: Any
    variable: Any
    side: int


def reader_for(expr: sp.Basic) -> Reader:
    """A reader of the symbols and definitions of an expression, and of those that the definitions speak of."""
    things: dict[Any, int] = {}
    definitions: dict[Definition, int] = {}
    of_parameters: set[Any] = set()
    waiting, distance = [expr], 0
    while waiting:
        found = [node for each in waiting for node in nodes_shown(each)]
        for node in found:
            for thing in (node, getattr(node, "func", None)):
                if thing in DECLARATIONS:
                    things.setdefault(thing, distance)
            if isinstance(node, AppliedUndef) and PARAMETER in node.args:
                of_parameters.add(node.func)
        new = {node.definition for node in found if isinstance(node, Apply)} - definitions.keys()
        definitions |= dict.fromkeys(new, distance)
        distance += 1
        for parameter in (parameter for entry in new for parameter in entry.of):
            things.setdefault(parameter, distance)
        waiting = [entry.body for entry in sorted(new, key=lambda entry: entry.id)]
    return Reader(things, definitions, of_parameters)


def nodes_shown(expr: sp.Basic) -> Iterator[sp.Basic]:
    """The nodes of an expression without the arguments that a definition has from its declaration and does not show."""
    yield expr
    if isinstance(expr, Apply):
        changed = [argument for _, argument in hidden(expr)]
        names = {DECLARATIONS[p].name: a for p, a in zip(expr.definition.of, expr.arguments, strict=True)}
        seen = [argument for name, argument in names.items() if f"{{{name}}}" in expr.definition.tex]
        children = [*changed, *seen]
    else:
        children = expr.args
    for child in children:
        yield from nodes_shown(child)

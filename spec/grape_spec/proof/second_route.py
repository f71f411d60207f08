"""The second route: every equation once more, by a way that shares nothing with the first but the reading of the tree.

Sizes are written out (2 and 3, or those that the proof names), derivatives are nilpotent parts, and both sides are
compared in a field of exponentials and logarithms over FLINT's polynomials (`explog`). What it shares with the provers:
the nodes, symbols, domains and definitions of the language, and SymPy's trees that hold them. It calls none of SymPy's
arithmetic and none of the provers' or the refuter's code; with the refuter it has FLINT's balls in common.

It never proves a claim: it looks at a few sizes, and at the regions that a few points lie in. "agrees" says that the
two sides are the same expression there. "contradicts" says that they differ at a point, by more than the width of the
balls that contain their values, or that one of them has no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from random import Random
from typing import Any, Literal

import sympy as sp
from flint import arb, fmpq
from sympy.logic.boolalg import Boolean

from grape_spec.language.domains import Interval, Naturals, OneOf, Position
from grape_spec.language.expressions import symbols_of
from grape_spec.language.symbols import DECLARATIONS, declaration, declared_name, lowest_of, size_of_axis
from grape_spec.proof.explog import FEW, MANY, Crowded, Field, NotDecided, NoValue, OnTheEdge, Quotient, Values
from grape_spec.proof.written_out import NeedsLabels, NeedsNumber, Reader

Opinion = Literal["agrees", "not decided", "contradicts", "no equation"]

#: Choices of positions for the indices that a statement leaves open, at each choice of sizes.
POSITIONS = 4

#: Points that are looked at where there are several regions: for a statement without sizes, for all choices of sizes
#: and positions together, and at least for each choice; and how many are drawn before the assumptions are given up on.
POINTS, TOGETHER, FEWEST, DRAWN = 60, 24, 3, 150


@dataclass(frozen=True)
class Second:
    """What the second route found: its opinion, and why it could not decide or where the two sides differ."""

    opinion: Opinion
    detail: str = ""


class _Differs(ArithmeticError):
    """The two sides differ at a point."""


class _Excluded(Exception):
    """The assumptions do not hold at the point, or nowhere in its region."""


def look_again(statement: Boolean, assuming: tuple[Boolean, ...], at_sizes: Mapping[Any, int]) -> Second:
    """Compare the two sides of an equation at small sizes, or at the sizes that are given."""
    if not isinstance(statement, sp.Eq):
        return Second("no equation")
    numbers: set[Any] = set(at_sizes)
    steps = count()
    while True:
        try:
            return _answer(_questions(statement, assuming, numbers, at_sizes, steps))
        except NeedsNumber as needed:
            numbers.add(needed.thing)


def _answer(questions: Iterable[_Question]) -> Second:
    where, asked = "", False
    try:
        for question in questions:
            where = question.where
            asked |= question.settle()
    except (NoValue, _Differs) as failure:
        return Second("contradicts", f"{failure}{where}")
    except (NotDecided, Crowded) as failure:
        return Second("not decided", f"{failure}{where}")
    except RecursionError:
        return Second("not decided", "its expressions nest too deeply")
    return Second("agrees") if asked else Second("not decided", "the assumptions hold at none of the sizes")


def _questions(
    statement: sp.Eq,
    assuming: tuple[Boolean, ...],
    numbers: set[Any],
    at_sizes: Mapping[Any, int],
    steps: Iterator[int],
) -> Iterator[_Question]:
    """One question for each choice of sizes, and of positions of the indices that the statement leaves open."""
    things = set().union(*(symbols_of(f) for f in (statement, *assuming)))
    indices = sorted((t for t in symbols_of(statement) if size_of_axis(t) is not None), key=str)
    sizes = sorted({s for t in things for s in _sizes_of(t)} | numbers, key=str)
    choices = _choices_of_sizes(sizes, at_sizes)
    for chosen in choices:
        ranges = [range(1, _number(size_of_axis(index), chosen) + 1) for index in indices]
        positions = list(product(*ranges))
        Random(0).shuffle(positions)
        kept = positions[:POSITIONS]
        for position in kept:
            given = {**chosen, **dict(zip(indices, position, strict=True))}
            yield _Question(statement, assuming, given, _points(len(choices) * len(kept)), steps)


def _sizes_of(thing: Any) -> set[Any]:
    entry, axis = DECLARATIONS[thing], size_of_axis(thing)
    return {s for size in (*entry.sizes, *([] if axis is None else [axis])) for s in size.free_symbols}


def _choices_of_sizes(sizes: Sequence[Any], at_sizes: Mapping[Any, int]) -> list[dict[Any, int]]:
    """Two choices, in which two sizes rarely have the same number; one where nothing is left to choose."""
    if not set(sizes) - set(at_sizes):
        return [dict(at_sizes)]
    pairs = ((2, 3), (3, 2), (2, 2), (3, 3))
    return [{**{s: _from_lowest(s, pairs[i % 4][turn]) for i, s in enumerate(sizes)}, **at_sizes} for turn in (0, 1)]


def _from_lowest(size: Any, n: int) -> int:
    """A number that is 2 or 3, or as far above the lowest number of a size that starts later."""
    return max(n, (lowest_of(size) or 0) + n - 2)


def _points(questions: int) -> int:
    return POINTS if questions == 1 else max(TOGETHER // questions, FEWEST)


def _number(size: Any, chosen: Mapping[Any, int]) -> int:
    return int(size) if isinstance(size, sp.Integer) else chosen[size]


class _Question:
    """Whether the two sides of an equation agree at given sizes and positions.

    Arguments:
        given: sizes and indices with their numbers; a number that a length or position depends on joins them.
        points: how many points to look at where there are several regions.
        steps: counts the nodes that are read.
    """

    def __init__(
        self, statement: sp.Eq, assuming: tuple[Boolean, ...], given: dict[Any, int], points: int, steps: Iterator[int]
    ) -> None:
        self.steps = steps
        self.statement, self.given, self.points = statement, given, points
        self.equations = [f for a in assuming for f in _conjuncts(a) if isinstance(f, sp.Eq)]
        self.conditions = [f for a in assuming for f in _conjuncts(a) if not isinstance(f, sp.Eq)]
        self.things = set().union(*(symbols_of(f) for f in (statement, *assuming)))
        self.labels = {thing for thing in self.things if isinstance(DECLARATIONS[thing].domain, Position)}
        #: Whether the two sides were somewhere equal in value, but not as expressions.
        self.doubt = False
        self.room = FEW

    @property
    def where(self) -> str:
        """The sizes and positions, in words."""
        shown = ", ".join(f"{thing} = {n}" for thing, n in self.given.items())
        return f" ({shown})" if shown else ""

    def settle(self) -> bool:
        """Whether the assumptions hold anywhere; raises what was found where the two sides do not agree there."""
        try:
            return self._look_at_points()
        except NeedsLabels as needed:
            self.labels |= needed.things
        except Crowded:
            if self.room == MANY:
                raise
            self.room = MANY
        return self.settle()

    def _look_at_points(self) -> bool:
        regions: list[_Region] = []
        seen, reason = 0, "no point was found that satisfies the assumptions"
        for seed in range(DRAWN):
            try:
                region = self._region_around(seed, regions)
                seen += region.has_values(seed)
            except OnTheEdge as failure:
                reason = str(failure)
            if any(region.never for region in regions):
                return False
            several = self.labels or any(region.field.signs or region.only_here for region in regions)
            if seen >= (POINTS if self.doubt else self.points if several else FEWEST):
                break
        if self.doubt:
            raise NotDecided("the two sides have the same values, but are not shown to be the same expression")
        if not seen:
            raise NotDecided(reason)
        return True

    def _region_around(self, seed: int, regions: list[_Region]) -> _Region:
        """The region that the point with a seed lies in: a known one, or a new one, which joins the others."""
        known = next((region for region in regions if region.contains(seed)), None)
        if known is not None:
            return known
        try:
            region = _Region(self, seed)
            region.explore()
        except OnTheEdge:
            region = _Region(self, seed, whole=True)
            region.explore()
        regions.append(region)
        return region


class _Region:
    """A neighbourhood of a point in which every comparison has the same outcome."""

    def __init__(self, question: _Question, seed: int, *, whole: bool = False) -> None:
        self.question, self.seed = question, seed
        self.field = Field(seed, question.room, whole=whole)
        self.reader = Reader(self.field, question.labels, question.steps)
        self.excluded = False
        #: Whether what was found holds at the point, and not throughout the region.
        self.only_here = whole or bool(question.labels)

    def contains(self, seed: int) -> bool:
        """Whether the point with a seed lies in it."""
        if self.only_here:
            return seed == self.seed
        values = Values(self.field, seed)
        signs = self.field.signs.values()
        return all(sign.holds(values.polynomial(sign.polynomial)) for sign in signs) and self._inside(values)

    @property
    def never(self) -> bool:
        """Whether the assumptions hold nowhere at these sizes and positions."""
        return self.excluded and not self.only_here and not self.field.signs

    def _inside(self, values: Values) -> bool:
        return all(_lies_in(domain, values.quotient(x)) for x, domain in self.field.solved.values())

    def has_values(self, seed: int) -> bool:
        """Whether the assumptions hold at a point of it; raises `NoValue` where something has no value there."""
        if self.excluded:
            return False
        values = Values(self.field, seed)
        for divisor in self.field.divisors.values():
            value = values.polynomial(divisor)
            if value.is_zero():
                raise NoValue("a division by zero")
            if value.contains(0):
                raise OnTheEdge("a divisor is too small")
        return True

    def explore(self) -> None:
        """Read the statement around the point; raises `_Differs` where its two sides do."""
        try:
            self._assume()
        except _Excluded:
            self.excluded = True
            return
        scope = self._scope()
        left, right = (self.reader.number(side, scope).value for side in self.question.statement.args)
        if not self.field.is_zero(left + -right):
            self._compare_values(left, right)

    def _compare_values(self, left: Quotient, right: Quotient) -> None:
        self.has_values(self.seed)
        values = Values(self.field, self.seed)
        a, b = values.quotient(left), values.quotient(right)
        if not values.quotient(left + -right).contains(0):
            raise _Differs(f"the left side is {a.str(8, radius=False)}, the right side {b.str(8, radius=False)}")
        self.only_here = True
        if self.field.whole:
            self.question.doubt = True
        else:
            _Region(self.question, self.seed, whole=True).explore()

    def _scope(self) -> dict[Any, Any]:
        return self.reader.scope(self.question.things, self.question.given)

    # -- assumptions ------------------------------------------------------------------------------------------------

    def _assume(self) -> None:
        """Solve the assumed equations and read the other assumptions; raises `_Excluded` where one does not hold."""
        equations = [(f, given) for f in self.question.equations for given in self._everywhere(f)]
        for _ in range(1 + len(equations) ** 2):
            if not any(self._solve(equation, given) for equation, given in equations):
                break
        else:
            raise OnTheEdge("the assumed equations are not solved one after the other")
        if not self._inside(Values(self.field, self.seed)):
            raise OnTheEdge("no point was found that satisfies the assumed equations")
        for condition in self.question.conditions:
            for given in self._everywhere(condition):
                if not self.reader.truth(condition, {**self._scope(), **given}):
                    raise _Excluded

    def _everywhere(self, formula: Boolean) -> Iterator[dict[Any, int]]:
        """Every position of the indices that only an assumption speaks of."""
        given = self.question.given
        loose = sorted((t for t in symbols_of(formula) - set(given) if size_of_axis(t) is not None), key=str)
        for position in product(*(range(1, _number(size_of_axis(t), given) + 1) for t in loose)):
            yield dict(zip(loose, position, strict=True))

    def _solve(self, equation: sp.Eq, given: Mapping[Any, int]) -> bool:
        """Whether a generator had to be given a value to make an equation true."""
        scope = {**self._scope(), **given}
        left, right = (self.reader.number(side, scope).value for side in equation.args)
        if self.field.is_zero(left + -right):
            return False
        self._make_zero(left + -right)
        return True

    def _make_zero(self, difference: Quotient) -> None:
        """Solve for one generator; what was solved for earlier and depends on it has to be solved again."""
        if difference.number is not None:
            raise _Excluded
        vanishing = self._vanishing(difference.above)
        for place in vanishing:
            self._solved_for(place, self.field.zero)
        if vanishing:
            return
        for place in self._candidates(difference):
            slope, rest = _linear(difference.above, place)
            if slope is None or Values(self.field, self.seed).polynomial(slope).contains(0):
                continue
            one = self.field.one.above
            solution = Quotient(-rest, one) * self.field.inverse(Quotient(slope, one))
            generator = self.field.generators[place]
            if generator.kind == "exp":
                self._make_zero(generator.of + -self.field.log(solution))
                return
            self._solved_for(place, solution)
            return
        raise NotDecided("an assumed equation that is not linear")

    def _solved_for(self, place: int, solution: Quotient) -> None:
        solved = {key: found for key, found in self.field.solved.items() if place not in self._behind(found[0])}
        self.field.solved = {**solved, self.field.key_of(place): (solution, self._domain_of(place))}

    def _vanishing(self, polynomial: Any) -> list[int]:
        """The generators that are zero where a polynomial is: one in each term, none negative, no two terms opposed."""
        terms = polynomial.to_dict()
        alone = [[place for place, n in enumerate(exponents) if n] for exponents in terms]
        one_side = all(c > 0 for c in terms.values()) or all(c < 0 for c in terms.values())
        if not one_side or any(len(places) != 1 for places in alone):
            return []
        found = sorted({place for (place,) in alone})
        at_least_zero = all(self.field.generators[place].nonnegative and self._rank(place) for place in found)
        return found if at_least_zero else []

    def _candidates(self, difference: Quotient) -> list[int]:
        """Generators that an equation may be solved for: single numbers, then entries of families, exponentials."""
        used = _places(difference.above)
        free = [place for place in used - self._under(used) if self._rank(place)]
        return sorted(free, key=lambda place: (self._rank(place), place))

    def _rank(self, place: int) -> int:
        """The order in which to solve for generators; 0 for one that is not to be solved for."""
        if self.field.generators[place].kind == "exp":
            return 4
        domain = self._domain_of(place)
        if domain is None:
            return 0
        return 3 if isinstance(domain, OneOf) else min(len(self.field.key_of(place)), 2)

    def _behind(self, x: Quotient) -> set[int]:
        """The generators that a number is made of, also within others."""
        used = _places(x.above) | _places(x.below)
        return used | self._under(used)

    def _under(self, places: set[int]) -> set[int]:
        """The generators that exponentials, logarithms and roots are made of."""
        found: set[int] = set()
        for of in (self.field.generators[place].of for place in places):
            if of is not None:
                found |= self._behind(of if isinstance(of, Quotient) else Quotient(of, self.field.one.above))
        return found

    def _domain_of(self, place: int) -> Any:
        """The domain of a number or entry that was declared; None for anything else."""
        if not self.field.is_open(place):
            return None
        domain = declaration(declared_name(self.field.key_of(place)[0])).domain
        return domain if isinstance(domain, Interval | Naturals | OneOf) else None


def _conjuncts(formula: Boolean) -> Iterator[Boolean]:
    yield from formula.args if isinstance(formula, sp.And) else (formula,)


def _places(polynomial: Any) -> set[int]:
    """The generators of a polynomial."""
    return {place for exponents in polynomial.to_dict() for place, n in enumerate(exponents) if n}


def _linear(polynomial: Any, place: int) -> tuple[Any, Any]:
    """Slope and rest of a polynomial in one generator; no slope where it is not linear."""
    slope: dict[tuple[int, ...], Any] = {}
    rest: dict[tuple[int, ...], Any] = {}
    for exponents, c in polynomial.to_dict().items():
        if exponents[place] > 1:
            return None, None
        part = slope if exponents[place] else rest
        part[tuple(n if i != place else 0 for i, n in enumerate(exponents))] = c
    ring = polynomial.context()
    return ring.from_dict(slope), ring.from_dict(rest)


def _lies_in(domain: Any, value: arb) -> bool:
    """Whether a value certainly lies in a domain."""
    if isinstance(domain, Interval):
        low, high = domain.low, domain.high
        above = low is None or value > _ball(low) or (domain.low_closed and value == _ball(low))
        return above and (high is None or value < _ball(high) or (domain.high_closed and value == _ball(high)))
    if isinstance(domain, OneOf):
        return any(value == n for n in domain.values)
    return value.is_integer() and value >= domain.low


def _ball(x: Any) -> arb:
    return arb(fmpq(x.numerator, x.denominator))

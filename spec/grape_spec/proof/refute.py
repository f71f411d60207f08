"""The refuter: searches the domain for a point at which a statement is certainly false.

It shares no code with the provers. Points are dyadic rationals, drawn from the domains of the symbols and, half of the
time, put exactly onto a boundary that the statement speaks of (the two sides of a comparison made equal), because false
statements tend to fail there. Both sides are enclosed in balls; only disjoint balls, or a comparison that is certain,
refute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import islice, product
from math import prod
from random import Random
from typing import Any

import sympy as sp
from flint import arb, ctx
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from grape_spec.evaluate import Evaluator
from grape_spec.jets import Undecided, Undefined, exact, value_of
from grape_spec.language.domains import Interval, Naturals, Position, RowDomain, SmoothDomain
from grape_spec.language.expressions import recursions_in, symbols_of, unfold
from grape_spec.language.symbols import DECLARATIONS, size_of_axis
from grape_spec.proof.deadline import OutOfTime, limited

#: Bits that are tried in turn until a comparison is certain.
PRECISIONS = (96, 384)

#: An effective point encloses both sides at least this tightly, relative to their size or to one.
TIGHT = arb(2) ** -40

#: Points of a search that are kept for the mutants of its statement.
KEPT = 30

#: The product of the exponents of sums in a difference up to which it is expanded.
LONGEST = 64

#: Seconds of processor time after which a search ends, which is far more than one needs.
SECONDS = 4.0

#: Points drawn for each requested one, before the search gives up on the assumptions.
PATIENCE = 60

#: How often one of the sizes is larger than those that a domain draws, and what it is then.
LARGE, LARGE_SIZES = 0.12, (5, 9)


@dataclass(frozen=True)
class Search:
    """The outcome of a search: the points drawn, those that could have refuted the statement, and the one that did.

    The first few points at which the statement holds are kept for its mutants.
    """

    drawn: int
    effective: int
    witness: dict[str, Any] | None = None
    points: tuple[Evaluator, ...] = field(default=(), repr=False, compare=False)

    @property
    def refuted(self) -> bool:
        """Whether a witness was found."""
        return self.witness is not None


def refute(
    statement: Boolean,
    assuming: tuple[Boolean, ...] = (),
    *,
    sizes: Mapping[sp.Symbol, int] | None = None,
    points: int = 24,
    seed: int = 0,
) -> Search:
    """Search for a witness against a statement at up to ``points`` effective points, at fixed ``sizes`` where given.

    A point at which the assumptions hold and the statement is undefined refutes it, too.
    """
    kept: list[Evaluator] = []
    effective = drawn = 0
    try:
        with limited(SECONDS):
            every = _points(statement, assuming, sizes or {}, Random(seed))
            for drawn, point in enumerate(islice(every, PATIENCE * points), 1):
                here = _at(point, PRECISIONS[0])
                outcome = _try_point(statement, assuming, point, here)
                if outcome is False:
                    return Search(drawn, effective + 1, _witness(statement, point), tuple(kept))
                if outcome and len(kept) < KEPT:
                    kept.append(here)
                effective += outcome is True
                if effective == points:
                    break
    except (OutOfTime, RecursionError):
        pass  # what was found so far counts
    return Search(drawn, effective, None, tuple(kept))


def _points(
    statement: Boolean, assuming: tuple[Boolean, ...], sizes: Mapping[sp.Symbol, int], random: Random
) -> Iterator[dict[Any, Any]]:
    """Points of the domain without end, about half of them moved onto a boundary of a formula."""
    symbols = sorted(_symbols(statement, assuming), key=str)
    may_be_large = [] if sizes else _may_be_large(symbols, (statement, *assuming))
    try:
        boundaries = _boundaries((statement, *assuming))
    except OverflowError:  # SymPy compares numbers as floats
        boundaries = []
    while True:
        chosen = dict(sizes)
        if may_be_large and random.random() < LARGE:
            chosen[random.choice(may_be_large)] = random.randint(*LARGE_SIZES)
        point = sample(symbols, random, chosen)
        if random.random() < 0.5:
            _onto_boundary(point, boundaries, random)
        yield point


def refutes(statement: Boolean, assuming: tuple[Boolean, ...], point: dict[Any, Any]) -> bool:
    """Whether a given point lies in the domains and is a witness against a statement."""
    missing = _symbols(statement, assuming) - set(point)
    inside = all(DECLARATIONS[s].domain.contains(Fraction(x)) for s, x in point.items() if s in DECLARATIONS)
    return not missing and inside and _within_axes(point) and _try_point(statement, assuming, point) is False


def _within_axes(point: dict[Any, Any]) -> bool:
    """Whether every index is a position of its axis."""
    axes = {s: axis for s in point if (axis := size_of_axis(s)) is not None}
    return all(Fraction(point[s]).denominator == 1 and 1 <= point[s] <= _size(axis, point) for s, axis in axes.items())


def _may_be_large(symbols: list, formulas: tuple[Boolean, ...]) -> list:
    """The sizes of which one at a time may be large; none beside a recursion, which grows by a power of them."""
    if any(map(recursions_in, formulas)):
        return []
    domains = {thing: DECLARATIONS[thing].domain for thing in symbols}
    return [thing for thing, domain in domains.items() if isinstance(domain, Naturals) and domain.low >= 1]


def _symbols(statement: Boolean, assuming: tuple[Boolean, ...]) -> set:
    return set().union(*(symbols_of(f) for f in (statement, *assuming)))


def refuted_at_one(mutant: Boolean, statement: Boolean, points: Iterable[Evaluator]) -> bool | None:
    """Whether a mutant is certainly false, or undefined, at one of the points of its statement.

    Subexpressions that it shares with the statement or an earlier mutant are not evaluated again. None if the mutant
    lacks an index of the statement: an assumption on that index would then be one on every value of it.
    """
    axes = _axes_of(statement)
    if axes and not axes <= symbols_of(mutant):
        return None
    return any(_refuted_at(mutant, point) for point in points)


@lru_cache(maxsize=64)
def _axes_of(statement: Boolean) -> frozenset:
    """The indices of a statement, which all its mutants are asked for in turn."""
    return frozenset(thing for thing in symbols_of(statement) if size_of_axis(thing) is not None)


def _refuted_at(mutant: Boolean, point: Evaluator) -> bool:
    with ctx.workprec(PRECISIONS[0]):
        try:
            return _decide(mutant, point) is False
        except Undecided:
            return False
        except (Undefined, IndexError):
            return True


# -- points -----------------------------------------------------------------------------------------------------


def sample(symbols: list, random: Random, sizes: Mapping[sp.Symbol, int]) -> dict[Any, Any]:
    """One point: sizes first, then everything that depends on them."""
    point: dict[Any, Any] = dict(sizes)
    entries = {thing: DECLARATIONS[thing] for thing in symbols if thing not in sizes}
    for thing, entry in entries.items():
        if isinstance(thing, sp.Symbol) and size_of_axis(thing) is None:
            point[thing] = _number(entry.domain.sample(random))
    for thing, entry in entries.items():
        axis = size_of_axis(thing)
        if axis is not None:
            point[thing] = random.randint(1, _size(axis, point))
        elif isinstance(entry.domain, SmoothDomain):
            point[thing] = _smooth_function(entry.domain, random)
        elif isinstance(thing, sp.IndexedBase):
            within = _size(entry.domain.size, point) if isinstance(entry.domain, Position) else 0
            point[thing] = _family(entry.domain, [_size(s, point) for s in entry.sizes], random, within)
    return point


def _number(x: Fraction) -> Any:
    return int(x) if x.denominator == 1 else x


def _size(size: sp.Expr, point: dict[Any, Any]) -> int:
    return int(size) if isinstance(size, sp.Integer) else int(point[size])


def _family(domain: Any, sizes: list[int], random: Random, within: int) -> list:
    """The entries of a family; ``within`` is the size of the axis that positions are on."""
    if len(sizes) > 1:
        return [_family(domain, sizes[1:], random, within) for _ in range(sizes[0])]
    if isinstance(domain, RowDomain):
        return domain.sample_row(random, sizes[0])
    if isinstance(domain, Position):
        return [domain.sample_within(random, within) for _ in range(sizes[0])]
    return [domain.sample(random) for _ in range(sizes[0])]


def _smooth_function(domain: SmoothDomain, random: Random) -> Any:
    """A quadratic in the parameter, or the exponential of one, with coefficients of its own for every index."""
    seed = random.getrandbits(64)

    @lru_cache
    def coefficients(*index: int) -> list[Fraction]:
        own = Random(f"{seed} {index}")  # whatever the order and number of calls
        return [Fraction(own.randint(-16, 16), 8) for _ in range(3)]

    def value(*arguments: Any) -> Any:
        *index, parameter = arguments
        a, b, c = coefficients(*index)
        x = exact(parameter)
        quadratic = exact(a) + exact(b) * x + exact(c) * x * x
        return Evaluator({_ARGUMENT: quadratic}).number(sp.exp(_ARGUMENT)) if domain.positive else quadratic

    return value


_ARGUMENT = sp.Symbol("argument", real=True)


def _boundaries(formulas: tuple[Boolean, ...]) -> list[tuple[sp.Symbol, sp.Expr, sp.Expr]]:
    """Symbols that occur linearly in a comparison, with slope and offset: x = −offset/slope is the boundary."""
    differences = {d for f in formulas for d in _differences(unfold(f))}
    return sorted((line for d in differences for line in _lines(d)), key=str)


@lru_cache(maxsize=4096)
def _lines(difference: sp.Expr) -> tuple[tuple[sp.Symbol, sp.Expr, sp.Expr], ...]:
    found = []
    powers = (abs(int(p.exp)) for p in difference.atoms(sp.Pow) if p.exp.is_Integer and p.base.is_Add)
    if prod(powers) > LONGEST:
        return ()
    expanded = sp.expand(difference, log=False, power_base=False, power_exp=False)
    for x in expanded.free_symbols & set(DECLARATIONS):
        if isinstance(x, sp.Symbol) and isinstance(DECLARATIONS[x].domain, Interval):
            slope, offset = expanded.coeff(x, 1), expanded.coeff(x, 0)
            if slope != 0 and x not in slope.free_symbols | offset.free_symbols:
                found.append((x, slope, offset))
    return tuple(found)


def _differences(f: sp.Basic) -> Iterator[sp.Expr]:
    for node in sp.preorder_traversal(f):
        if isinstance(node, sp.Min | sp.Max):
            first, *others = node.args
            yield from (first - other for other in others)
        elif isinstance(node, Relational) and (not node.atoms(sp.Sum, sp.Product) or _gives_a_symbol(node)):
            yield node.lhs - node.rhs


def _gives_a_symbol(relation: Relational) -> bool:
    """Whether a side is a symbol alone, such as the x of Σ_i p_i = x."""
    return any(isinstance(side, sp.Symbol) for side in relation.args)


def _onto_boundary(point: dict[Any, Any], boundaries: list, random: Random) -> None:
    """Move one symbol so that one comparison becomes an equality, where that is exact and within its domain."""
    if not boundaries:
        return
    x, slope, offset = random.choice(boundaries)
    try:
        a, b = (_rational(Evaluator(point).number(e)) for e in (slope, offset))
    except (KeyError, TypeError, Undecided, Undefined):
        return
    if a and b is not None:
        root = -b / a
        dyadic = root.denominator & (root.denominator - 1) == 0
        if dyadic and DECLARATIONS[x].domain.contains(root):
            point[x] = _number(root)


def _rational(x: Any) -> Fraction | None:
    ball = value_of(x)
    if not ball.is_exact() or not ball.is_finite():
        return None
    mantissa, exponent = ball.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


# -- deciding at a point ----------------------------------------------------------------------------------------


def _at(point: dict[Any, Any], bits: int) -> Evaluator:
    with ctx.workprec(bits):
        return Evaluator(point)


def _try_point(
    statement: Boolean, assuming: tuple[Boolean, ...], point: dict[Any, Any], first: Evaluator | None = None
) -> bool | None:
    """False where the statement certainly fails, True where it may well hold, None where the point says nothing.

    ``first`` is the evaluator at the point for the first precision, where the caller wants to keep it.
    """
    for bits in PRECISIONS:
        with ctx.workprec(bits):
            here = first if first is not None and bits == PRECISIONS[0] else Evaluator(point)
            try:
                if not all(_holds_for_all(f, statement, point, here) for f in assuming):
                    return None
            except (Undecided, Undefined):
                return None
            try:
                outcome = _decide(statement, here)
            except Undecided:
                outcome = None
            except (Undefined, IndexError):
                return False
        if outcome is not None:
            return outcome
    return None


def _holds_for_all(assumption: Boolean, statement: Boolean, point: dict[Any, Any], here: Evaluator) -> bool:
    """Whether an assumption certainly holds, for every value of an index that the statement does not fix."""
    own = _loose_axes(assumption, statement)
    if not own:
        return here.truth(assumption) is True
    ranges = [range(1, _size(axis, point) + 1) for _, axis in own]
    names = [name for name, _ in own]
    return all(
        Evaluator({**point, **dict(zip(names, values, strict=True))}).truth(assumption) is True
        for values in product(*ranges)
    )


@lru_cache(maxsize=4096)
def _loose_axes(assumption: Boolean, statement: Boolean) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
    """The indices that only the assumption speaks of, each with the size of its axis."""
    loose = sorted(symbols_of(assumption) - symbols_of(statement), key=str)
    return tuple((s, axis) for s in loose if (axis := size_of_axis(s)) is not None)


def _decide(statement: Boolean, evaluator: Evaluator) -> bool | None:
    if isinstance(statement, sp.Implies) and evaluator.truth(statement.args[0]) is not True:
        return None
    if not isinstance(statement, Relational):
        return evaluator.truth(statement)
    numbers = [evaluator.number(side) for side in statement.args]
    sides = [value_of(number) for number in numbers]
    if not all(side.is_finite() for side in sides):
        return None
    truth = evaluator.relation(statement, *numbers)
    if truth is None and all(side.rad() <= TIGHT * abs(side.mid()).max(arb(1)) for side in sides):
        return True
    return truth


def _witness(statement: Boolean, point: dict[Any, Any]) -> dict[str, Any]:
    """The point as JSON data, with the values of both sides."""
    shown = {DECLARATIONS[thing].name: _show(value) for thing, value in point.items()}
    if isinstance(statement, Relational):
        shown |= {
            name: _side(side, point) for name, side in zip(("left side", "right side"), statement.args, strict=True)
        }
    return shown


def _side(side: sp.Expr, point: dict[Any, Any]) -> str:
    with ctx.workprec(PRECISIONS[-1]):
        try:
            return value_of(Evaluator(point).number(side)).str(20)
        except (Undefined, Undecided, IndexError) as failure:
            return f"no value: {failure}"


def _show(value: Any) -> Any:
    if callable(value):
        return "a sampled smooth function"
    return [_show(v) for v in value] if isinstance(value, list) else str(value)

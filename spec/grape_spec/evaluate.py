"""Evaluates definitions in ball arithmetic. This is the oracle.

Every value is a ball that provably contains the exact real number (FLINT's Arb). Derivatives are exact too: a symbol is
given a nilpotent part ε with ε² = 0, and the coefficient of ε in the result is the derivative. Nothing here calls
SymPy's ``diff``, so that this engine and the prover can contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache, lru_cache
from operator import add, mul
from typing import Any, TypeAlias

import sympy as sp
from flint import arb, ctx, fmpq
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from grape_spec.jets import (
    NOTHING,
    Jet,
    Number,
    Undecided,
    Undefined,
    exact,
    exp,
    log,
    parts_of,
    power,
    ready,
    turns_negative,
    value_of,
)
from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import Apply, At, Diff, OneSided, bound_things, occurring, symbols_of
from grape_spec.language.symbols import DECLARATIONS, declared_name

#: The default precision in bits.
PRECISION = 256


class Scope:
    """The values of the symbols somewhere in a tree, and the results computed there so far."""

    __slots__ = ("known", "values")

    def __init__(self, values: dict[Any, Any], known: dict[Any, Any] | None = None) -> None:
        self.values = values
        self.known: dict[Any, Any] = {} if known is None else known

    def having(self, thing: Any, value: Any) -> Scope:
        """The same with one more value."""
        return Scope({**self.values, thing: value})


class Evaluator:
    """Evaluates trees under an environment that gives every free symbol a value.

    Results are cached, so an evaluator must be used at a single working precision.

    Arguments:
        environment: symbols to numbers, families to nested sequences or callables of 1-based indices, functions to
            callables.
        hull: where a comparison has no certain answer, take the hull of the branches rather than raise `Undecided`.
    """

    def __init__(self, environment: Mapping[Any, Any], *, hull: bool = False) -> None:
        self.hull = hull
        self._scope = Scope({thing: value if callable(value) else ready(value) for thing, value in environment.items()})
        self._depth = 0
        #: The ε of the innermost one-sided slope, which is taken to be positive.
        self.ordered = 0

    def number(self, expr: sp.Basic) -> Number:
        """The value of an expression."""
        return exact(code_of(expr)(self, self._scope))

    def truth(self, formula: sp.Basic) -> bool | None:
        """Whether a formula holds: True and False are certain, None is not known."""
        return condition_of(formula)(self, self._scope)

    def relation(self, formula: Relational, left: Number, right: Number) -> bool | None:
        """Whether a comparison holds for given values of its sides."""
        order = self.compare(left, right, flat_is_equal=False)
        return _unequal(left, right, formula) if order is None else _RELATIONS[type(formula)](order)

    def compare(self, a: Number, b: Number, *, flat_is_equal: bool = True) -> int | None:
        """−1, 0 or 1 where the order of two numbers is certain, else None; at an exact tie the ordered ε decides.

        Two numbers that move together to first order are equal for an extremum, whose slope is then the same either
        way, but not for a condition, which may come to hold as close by as one likes.
        """
        x, y = value_of(a), value_of(b)
        if x < y:
            return -1
        if x > y:
            return 1
        if not (x.is_exact() and y.is_exact()):
            return None
        if not isinstance(a, Jet) and not isinstance(b, Jet):
            return 0
        difference = parts_of(a + -b if isinstance(a, Jet) else -(b + -a))
        moving = {mask: d for mask, d in difference.items() if mask and not (d.is_exact() and d == 0)}
        if not moving:
            return 0 if flat_is_equal or not any(difference) else None
        if set(moving) == {self.ordered}:
            slope = moving[self.ordered]
            return -1 if slope < 0 else 1 if slope > 0 else None
        return None

    def hull_of(self, possible: list[Number], where: str) -> Number:
        """The smallest jet that contains all candidates; raises `Undecided` unless hulls are enabled."""
        if not self.hull or not possible:
            raise Undecided(f"the branch of {where} is not certain")
        masks = {mask for x in possible for mask in parts_of(x)}
        parts: dict[int, arb] = {}
        for mask in masks:
            parts[mask] = parts_of(possible[0]).get(mask, NOTHING)
            for x in possible[1:]:
                parts[mask] = parts[mask].union(parts_of(x).get(mask, NOTHING))
        return Jet(parts)

    @contextmanager
    def epsilon(self, *, ordered: bool = False) -> Iterator[int]:
        """The bit of a fresh ε, for one derivative."""
        tag, outer = 1 << self._depth, self.ordered
        self._depth += 1
        if ordered:
            self.ordered = tag
        try:
            yield tag
        finally:
            self._depth -= 1
            self.ordered = outer


# -- trees to code --------------------------------------------------------------------------------------------------

#: A compiled tree: a function of the evaluator and the scope that returns an integer, a ball or a jet.
Code: TypeAlias = Callable[[Evaluator, Scope], Any]


@lru_cache(maxsize=100_000)
def code_of(expr: sp.Basic) -> Code:
    """The code of an expression: the tree is inspected once, however often it is evaluated."""
    kind: Any = type(expr)
    code = _builder_for(kind)(expr)
    return _remembered(expr, code) if isinstance(expr, _REMEMBERED) else code


def _remembered(expr: sp.Basic, code: Code) -> Code:
    """The code, run once for each choice of the indices that it reads; nothing else changes within a scope."""
    reads = tuple(reads_of(expr))

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        values, known = scope.values, scope.known
        here = [x if type(x := values.get(thing)) is int else None for thing in reads]
        key = (code, evaluator.ordered, *here)
        if key not in known:
            known[key] = code(evaluator, scope)
        return known[key]

    return run


@lru_cache(maxsize=100_000)
def reads_of(expr: sp.Basic) -> frozenset:
    """Everything that the value of an expression depends on, also through definitions."""
    if isinstance(expr, Apply):
        of = expr.definition.of
        inside = _sizes_of(of) if expr.definition.recursion else reads_of(expr.definition.body) - set(of)
        return inside.union(*map(reads_of, expr.arguments))
    own = frozenset(occurring(expr)) if not expr.args or isinstance(expr, sp.IndexedBase) else frozenset()
    if isinstance(expr, AppliedUndef):
        own |= {expr.func}
    if isinstance(expr, OneSided | At):
        body, _, outside, *_ = expr.args
        return (reads_of(body) - bound_things(expr)) | reads_of(outside)
    if bound_things(expr):
        body, *others = expr.args
        inside = reads_of(expr.expr if isinstance(expr, sp.Lambda) else body) - bound_things(expr)
        return inside if isinstance(expr, sp.Lambda) else inside.union(*map(reads_of, others))
    return own.union(*map(reads_of, expr.args))


def _sizes_of(of: Sequence[Any]) -> frozenset:
    """The sizes of the parameters of a definition, all that its body reads beside them."""
    return frozenset().union(*map(symbols_of, of)) - set(of)


def _integer(expr: sp.Integer) -> Code:
    number = int(expr)
    return lambda evaluator, scope: number


def _rational(expr: sp.Rational) -> Code:
    number = fmpq(int(expr.p), int(expr.q))
    return lambda evaluator, scope: arb(number)


def _symbol(expr: sp.Symbol) -> Code:
    return lambda evaluator, scope: scope.values[expr]


def _indexed(expr: sp.Indexed) -> Code:
    base, indices = expr.base, [code_of(i) for i in expr.indices]

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        return ready(_lookup(scope.values[base], [int(i(evaluator, scope)) for i in indices]))

    return run


def _no_number(expr: sp.Basic) -> Code:
    return _raising(Undefined, f"{expr} is not a real number")


def _raising(kind: type[Exception], why: str) -> Code:
    def run(evaluator: Evaluator, scope: Scope) -> Any:
        raise kind(why)

    return run


def _combined(combine: Callable[[Any, Any], Any]) -> Callable[[sp.Basic], Code]:
    """For a sum or a product of several terms."""

    def build(expr: sp.Basic) -> Code:
        first, *others = map(code_of, expr.args)

        def run(evaluator: Evaluator, scope: Scope) -> Any:
            total = first(evaluator, scope)
            for other in others:
                total = combine(total, other(evaluator, scope))
            return total

        return run

    return build


def _folded(combine: Callable[[Any, Any], Any], start: int) -> Callable[[Any], Code]:
    """For a sum or a product over indices, the last of them the outermost."""

    def build(expr: Any) -> Code:
        code = code_of(expr.function)
        for bound, low, high in expr.limits:
            code = _over(code, bound, code_of(low), code_of(high))
        return code

    def _over(body: Code, bound: sp.Symbol, low: Code, high: Code) -> Code:
        def run(evaluator: Evaluator, scope: Scope) -> Any:
            inner = Scope(dict(scope.values), scope.known)
            total: Any = start
            for i in range(int(low(evaluator, scope)), int(high(evaluator, scope)) + 1):
                inner.values[bound] = i
                total = combine(total, body(evaluator, inner))
            return total

        return run

    return build


def _of_number(f: Callable[[Number], Number]) -> Callable[[sp.Basic], Code]:
    """For a function of one number."""

    def build(expr: sp.Basic) -> Code:
        inside = code_of(expr.args[0])
        return lambda evaluator, scope: f(exact(inside(evaluator, scope)))

    return build


def _pow(expr: sp.Pow) -> Code:
    base, exponent = expr.args
    inside = code_of(base)
    if not isinstance(exponent, sp.Rational):
        return _raising(TypeError, f"cannot evaluate the power {expr}: the exponent is not a number")
    to, depth, inverse = Fraction(int(exponent.p), int(exponent.q)), int(exponent.q), exponent == -1

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        x = exact(inside(evaluator, scope))
        if inverse and isinstance(x, arb) and not x.is_zero():
            return 1 / x
        if depth == 2 and evaluator.hull and isinstance(x, arb) and x.contains(0):
            x = x.nonnegative_part()  # what a square root is taken of is not negative: only the ball is too wide
        if depth != 1 and isinstance(x, Jet) and turns_negative(x, evaluator.ordered):
            raise Undefined("a root of a number that is zero here and negative nearby")
        return power(x, to)

    return run


def _delta(expr: sp.KroneckerDelta) -> Code:
    first, second = map(code_of, expr.args)

    def run(evaluator: Evaluator, scope: Scope) -> int:
        order = evaluator.compare(exact(first(evaluator, scope)), exact(second(evaluator, scope)))
        if order is None:
            raise Undecided("Kronecker's delta of numbers that are not certainly equal or different")
        return int(order == 0)

    return run


def _extremum(expr: sp.Min | sp.Max) -> Code:
    sign = -1 if isinstance(expr, sp.Min) else 1
    first, *others = map(code_of, expr.args)

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        best: Any = exact(first(evaluator, scope))
        for code in others:
            other = exact(code(evaluator, scope))
            order = evaluator.compare(other, best)
            if order == sign:
                best = other
            elif order is None and (isinstance(best, Jet) or isinstance(other, Jet)):
                best = evaluator.hull_of([best, other], "Min or Max")
            elif order is None:
                best = best.min(other) if sign < 0 else best.max(other)
        return best

    return run


def _absolute(expr: sp.Abs) -> Code:
    inside = code_of(expr.args[0])

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        x = exact(inside(evaluator, scope))
        order = evaluator.compare(x, arb(0))
        if order is None:
            return evaluator.hull_of([x, -x], "an absolute value") if isinstance(x, Jet) else abs(x)
        return -x if order < 0 else x

    return run


def _piecewise(expr: sp.Piecewise) -> Code:
    branches = [(code_of(value), condition_of(condition)) for value, condition in expr.args]

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        possible = []
        for value, condition in branches:
            holds = condition(evaluator, scope)
            if holds is False:
                continue
            possible.append(exact(value(evaluator, scope)))
            if holds:
                break
        return possible[0] if len(possible) == 1 else evaluator.hull_of(possible, "a case distinction")

    return run


def _apply(expr: Apply) -> Code:
    definition = expr.definition
    body = code_of(definition.body) if definition.recursion is None else _at_depth(definition)
    arguments = [(thing, _argument(value)) for thing, value in zip(definition.of, expr.arguments, strict=True)]

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        given = {thing: value(evaluator, scope) for thing, value in arguments}
        return body(evaluator, Scope(scope.values | given))

    return run


def _at_depth(definition: Definition) -> Code:
    """A recursive definition at the depth in the scope; its step is compiled when it is first needed."""
    recursion = definition.by_depth
    over, lowest = recursion.over, recursion.lowest

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        depth = scope.values[over]
        if type(depth) is not int or depth < lowest:
            raise Undefined(f"{definition.id} has no value at the depth {depth}")
        if depth == lowest:
            return code_of(recursion.first)(evaluator, scope)
        return code_of(recursion.step)(evaluator, scope.having(over, depth - 1))

    return run


def _argument(argument: Any) -> Code:
    """An argument of a definition: a number, a declared family, or a family given by a formula."""
    if isinstance(argument, sp.IndexedBase):
        return lambda evaluator, scope: scope.values[argument]
    if not isinstance(argument, sp.Lambda):
        return code_of(argument)
    signature, body = argument.signature, code_of(argument.expr)

    def run(evaluator: Evaluator, scope: Scope) -> Callable[..., Any]:
        return lambda *at: body(evaluator, Scope(scope.values | dict(zip(signature, at, strict=True))))

    return run


def _function(expr: AppliedUndef) -> Code:
    f, arguments = expr.func, [code_of(arg) for arg in expr.args]
    return lambda evaluator, scope: ready(scope.values[f](*(arg(evaluator, scope) for arg in arguments)))


# -- derivatives ----------------------------------------------------------------------------------------------------


def _diff(expr: Diff) -> Code:
    body, variable = code_of(expr.expr), expr.variable
    indices = [code_of(i) for i in variable.indices] if isinstance(variable, sp.Indexed) else []
    thing = variable.base if indices else variable

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        with evaluator.epsilon() as tag:
            at = [int(i(evaluator, scope)) for i in indices]
            moved = _moved(scope.values[thing], at, Jet({tag: arb(1)}))
            result = body(evaluator, scope.having(thing, moved))
        return result.part(tag) if isinstance(result, Jet) else arb(0)

    return run


def _moved(data: Any, at: list[int], epsilon: Jet) -> Any:
    """The number, or the family at one position of it, with ε added."""
    if not at:
        return exact(data) + epsilon

    def moved(*position: int) -> Any:
        x = _lookup(data, list(position))
        return exact(x) + epsilon if list(position) == at else x

    return moved


def _one_sided(expr: OneSided) -> Code:
    body, point, variable, side = code_of(expr.expr), code_of(expr.point), expr.variable, arb(expr.side)

    def run(evaluator: Evaluator, scope: Scope) -> Any:
        here = exact(point(evaluator, scope))
        with evaluator.epsilon(ordered=True) as tag:
            result = body(evaluator, scope.having(variable, here + Jet({tag: side})))
        return result.part(tag) * side if isinstance(result, Jet) else arb(0)

    return run


def _at(expr: At) -> Code:
    body, replaced, value = code_of(expr.expr), expr.replaced, _argument(expr.value)
    return lambda evaluator, scope: body(evaluator, scope.having(replaced, value(evaluator, scope)))


#: Nodes that are expensive enough for their results to be cached.
_REMEMBERED = (sp.Sum, sp.Product, Apply, Diff, OneSided, At)

_BUILDERS: dict[type, Callable[[Any], Code]] = {
    sp.Integer: _integer,
    sp.Rational: _rational,
    sp.Symbol: _symbol,
    sp.Indexed: _indexed,
    sp.Add: _combined(add),
    sp.Mul: _combined(mul),
    sp.exp: _of_number(exp),
    sp.log: _of_number(log),
    sp.Pow: _pow,
    sp.Sum: _folded(add, 0),
    sp.Product: _folded(mul, 1),
    sp.KroneckerDelta: _delta,
    sp.Min: _extremum,
    sp.Max: _extremum,
    sp.Abs: _absolute,
    sp.Piecewise: _piecewise,
    Apply: _apply,
    AppliedUndef: _function,
    Diff: _diff,
    OneSided: _one_sided,
    At: _at,
    type(sp.pi): lambda expr: lambda evaluator, scope: arb.pi(),
    type(sp.E): lambda expr: lambda evaluator, scope: arb.const_e(),
    **{type(e): _no_number for e in (sp.I, sp.zoo, sp.nan, sp.oo, -sp.oo)},
}


@cache
def _builder_for(kind: Any) -> Callable[[Any], Code]:
    """The function that compiles nodes of a class: that of the nearest ancestor."""
    for ancestor in kind.__mro__:
        if ancestor in _BUILDERS:
            return _BUILDERS[ancestor]
    raise TypeError(f"cannot evaluate {kind.__name__}")


# -- truth ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=100_000)
def condition_of(formula: Any) -> Callable[[Evaluator, Scope], bool | None]:
    """The code of a formula."""
    if formula in (sp.true, sp.false):
        value = bool(formula)
        return lambda evaluator, scope: value
    if isinstance(formula, Relational):
        left, right = map(code_of, formula.args)
        return lambda evaluator, scope: evaluator.relation(
            formula, exact(left(evaluator, scope)), exact(right(evaluator, scope))
        )
    for kind, connect in _CONNECTIVES.items():
        if isinstance(formula, kind):
            parts = [condition_of(arg) for arg in formula.args]
            return lambda evaluator, scope: connect([part(evaluator, scope) for part in parts])
    raise TypeError(f"cannot decide {type(formula).__name__}: {formula}")


def _any(parts: Sequence[bool | None]) -> bool | None:
    if True in parts:
        return True
    return None if None in parts else False


def _not(part: bool | None) -> bool | None:
    return None if part is None else not part


_CONNECTIVES: dict[Any, Callable[[list[bool | None]], bool | None]] = {
    sp.Not: lambda parts: _not(parts[0]),
    sp.Implies: lambda parts: _any([_not(parts[0]), parts[1]]),
    sp.Equivalent: lambda parts: None if None in parts else parts[0] == parts[1],
    sp.Or: _any,
    sp.And: lambda parts: _not(_any([_not(part) for part in parts])),
}

_RELATIONS: dict[Any, Callable[[int], bool]] = {
    sp.Eq: lambda order: order == 0,
    sp.Ne: lambda order: order != 0,
    sp.Lt: lambda order: order < 0,
    sp.Le: lambda order: order <= 0,
    sp.Gt: lambda order: order > 0,
    sp.Ge: lambda order: order >= 0,
}


def _unequal(left: Number, right: Number, formula: Relational) -> bool | None:
    """Disjoint balls differ; wide balls may still be on the right side of each other's edge."""
    x, y = value_of(left), value_of(right)
    if (isinstance(formula, sp.Le) and x <= y) or (isinstance(formula, sp.Ge) and x >= y):
        return True
    return None


def _lookup(data: Any, indices: list[int]) -> Any:
    if callable(data):
        return data(*indices)
    for i in indices:
        if i < 1:
            raise IndexError(f"index {i}: positions count from 1")
        data = data[i - 1]
    return data


def evaluate(
    what: Definition | sp.Basic, values: Mapping[str, Any], *, bits: int = PRECISION, hull: bool = False
) -> arb:
    """The ball that a definition or expression evaluates to.

    Arguments:
        what: a definition of the spec, or any expression over declared symbols.
        values: by the declared name of each symbol: numbers (floats and fractions are taken exactly), balls, nested
            lists for families. Sizes that are not given are read off the lists.
        bits: working precision.
        hull: where a branch is not certain, take the hull of all that are possible.

    Raises:
        Undecided: a comparison has no certain answer and ``hull`` is False.
        Undefined: there is no value.
        KeyError: a name is not declared, or a symbol was given no value.
    """
    body = what.body if isinstance(what, Definition) else what
    with ctx.workprec(bits):
        environment = environment_from(values)
        return value_of(Evaluator(environment, hull=hull).number(body))


def environment_from(values: Mapping[str, Any]) -> dict[Any, Any]:
    """The environment under which an evaluator walks, from values by name; sizes are read off the lists."""
    environment: dict[Any, Any] = {}
    for name, value in values.items():
        thing = declared_name(name)
        environment[thing] = value
        if isinstance(thing, sp.IndexedBase) and not callable(value):
            _read_sizes(DECLARATIONS[thing].sizes, value, environment)
    return environment


def _read_sizes(sizes: tuple[Any, ...], data: Any, environment: dict[Any, Any]) -> None:
    for size in sizes:
        if isinstance(size, sp.Symbol) and environment.setdefault(size, len(data)) != len(data):
            raise ValueError(f"{size}: got lists of length {environment[size]} and {len(data)} for one axis")
        data = data[0]

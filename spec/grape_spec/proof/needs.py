"""What an expression needs to have a value, such as nonzero divisors and derivatives that exist.

SymPy cancels x/x when an argument is substituted, so definitions and arguments are inspected separately, beforehand.
The kinds of nodes that may occur are listed here, each with what it needs: whatever else occurs is refused.

Each need is a kind and an expression:

- ``positive``, ``non-negative``, ``nonzero``: the sign of a number, for a logarithm, a root, a real power or a divisor;
- ``an integer at least 1``: what is put in for a size;
- ``true``: a condition, that one of the cases of a `Piecewise` without an ``else`` applies;
- ``a position of its axis``: where a family is read; `positions_of` lists these, each with its axis;
- ``defined``: a derivative or one-sided slope that exists. It is a `Diff` or a `OneSided`, or one within `At` where its
  variable has a value. The function in it is smooth by its form, or the rule that proves the statement shows that it
  exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction
from sympy.core.symbol import Str

from grape_spec.language.definitions import Definition
from grape_spec.language.domains import Interval, Naturals, OneHotDomain, OneOf, Position, Real, SmoothDomain
from grape_spec.language.expressions import (
    Apply,
    At,
    Diff,
    OneSided,
    bound_things,
    occurring,
    substitute,
    symbols_of,
    walk,
)
from grape_spec.language.recursions import may_be_handed_on
from grape_spec.language.symbols import DECLARATIONS, lowest_of, size_of_axis
from grape_spec.proof.derivatives import NotAlgebraic, exists_by_form, varied
from grape_spec.proof.normal_form import shown_positive

Kind = Literal[
    "positive", "non-negative", "nonzero", "an integer at least 1", "true", "defined", "a position of its axis"
]  # fmt: skip
Need = tuple[Kind, sp.Basic]


@lru_cache(maxsize=10_000)
def needs_of(expr: sp.Basic) -> tuple[Need, ...]:
    """What has to be shown for every part of an expression to have a value.

    The inside of a one-sided slope is asked for at the point; the rule for slopes asks for it around the point.

    Raises:
        NotAlgebraic: a kind of node that is not listed here, or an index that does not run over its declared range.
    """
    return tuple(dict.fromkeys(_needs_of(expr)))


def _needs_of(expr: sp.Basic) -> Iterator[Need]:
    if isinstance(expr, AppliedUndef):
        yield from _of_function(expr)
    elif type(expr) in _OWN:
        yield from _OWN[type(expr)](expr)
    elif type(expr) in _INSIDE:
        for arg in expr.args:
            yield from needs_of(arg)
    elif type(expr) not in _LEAVES:
        raise NotAlgebraic(f"{type(expr).__name__} is no part of the language: {expr}")


def _of_function(expr: AppliedUndef) -> Iterator[Need]:
    entry = DECLARATIONS.get(expr.func)
    if entry is None or not isinstance(entry.domain, SmoothDomain):
        raise NotAlgebraic(f"{expr.func} is not declared as a function")
    for arg in expr.args:
        yield from needs_of(arg)


def _of_entry(expr: sp.Indexed) -> Iterator[Need]:
    for position in expr.indices:
        yield from needs_of(position)


def _of_power(expr: sp.Pow) -> Iterator[Need]:
    if not expr.exp.is_Integer:
        yield "non-negative" if expr.exp.is_positive and expr.exp.is_Rational else "positive", expr.base
    elif expr.exp < 0:
        yield "nonzero", expr.base
    yield from needs_of(expr.base)
    yield from needs_of(expr.exp)


def _of_logarithm(expr: sp.log) -> Iterator[Need]:
    yield "positive", expr.args[0]
    yield from needs_of(expr.args[0])


def _of_cases(expr: sp.Piecewise) -> Iterator[Need]:
    conditions = [branch.cond for branch in expr.args]
    if sp.true not in conditions:
        yield "true", sp.Or(*conditions, evaluate=False)
    for branch in expr.args:
        yield from needs_of(branch.expr)
        yield from needs_of(branch.cond)


def _of_derivative(expr: Diff) -> Iterator[Need]:
    variable = expr.variable
    if type(variable) not in (sp.Symbol, sp.Dummy, sp.Indexed) or variable.is_integer:
        raise NotAlgebraic(f"there is no derivative with respect to {variable}")
    entry = DECLARATIONS.get(varied(variable))
    if entry is not None and isinstance(entry.domain, OneOf | OneHotDomain):
        raise NotAlgebraic(f"there is no derivative with respect to {variable}, which is {entry.domain.name}")
    yield from needs_of(variable)
    yield "defined", expr
    yield from (_around(need, variable) for need in needs_of(expr.expr))


def _around(need: Need, variable: sp.Expr) -> Need:
    """The same under a derivative: an expression that is zero at the point may be negative on one side of it."""
    kind, needed = need
    return ("positive", needed) if kind == "non-negative" and varied(variable) in occurring(needed) else need


def _of_slope(expr: OneSided) -> Iterator[Need]:
    yield from needs_of(expr.point)
    yield "defined", expr
    yield from _put(needs_of(expr.expr), {expr.variable: expr.point})


def _of_point(expr: At) -> Iterator[Need]:
    if expr.replaced not in DECLARATIONS and not isinstance(expr.replaced, sp.Dummy):
        raise NotAlgebraic(f"{expr.replaced} is not declared")
    lost = [thing for thing in symbols_of(expr.expr) if thing in DECLARATIONS and expr.replaced in _axes(thing)]
    if lost:
        raise NotAlgebraic(f"{expr.replaced} is the length of {lost[0]} and cannot be replaced alone")
    yield from _of_values(expr.expr, {expr.replaced: expr.value})
    yield from _put(needs_of(expr.expr), {expr.replaced: expr.value})


def _of_definition(expr: Apply) -> Iterator[Need]:
    yield from _of_values(expr.definition.body, _arguments(expr))
    if expr.depth is not None:
        refuse_recursion(expr)
    else:
        yield from _put(needs_of(expr.definition.body), _arguments(expr))


def _of_values(body: sp.Basic, put: dict[Any, Any]) -> Iterator[Need]:
    """The needs of what is put into a body.

    What is put in for a size is one; what is put in for a family runs over the same axes, at the sizes put in.
    """
    for thing, value in put.items():
        entry = DECLARATIONS.get(thing)
        if isinstance(thing, UndefinedFunction) and value != thing:
            raise NotAlgebraic(f"{value} cannot be put in for the function {thing}")
        if isinstance(thing, sp.IndexedBase) != isinstance(value, sp.IndexedBase | sp.Lambda):
            raise NotAlgebraic(f"{value} cannot be put in for {thing}: one of them is a family")
        if isinstance(value, sp.Lambda) and not runs_over_axes_of(thing, value, put):
            raise NotAlgebraic(f"{value} is not indexed by the axes of {thing}")
        if not isinstance(value, sp.IndexedBase):
            yield from needs_of(value)
        if entry is not None and isinstance(entry.domain, Naturals) and value != thing:
            yield "an integer at least 1", value - (entry.domain.low - 1)
            _refuse_unnamed_size(body, thing)


def _refuse_unnamed_size(body: sp.Basic, size: sp.Symbol, seen: frozenset = frozenset()) -> None:
    """Refuse a body in which a size stays when it is replaced: a definition or the index of a Lambda hides it."""
    if (body, size) in seen:
        return
    for node in sp.preorder_traversal(body):
        if isinstance(node, sp.Lambda) and any(size_of_axis(bound) == size for bound in node.signature):
            raise NotAlgebraic(f"{size} cannot be replaced: {node} runs over it")
        if not isinstance(node, Apply):
            continue
        definition, put = node.definition, _arguments(node)
        if size not in put and size in symbols_of(definition.body):
            raise NotAlgebraic(f"{size} cannot be replaced: {definition.id} has it and no argument for it")
        for inner in {size} - set(put) | {thing for thing, value in put.items() if size in symbols_of(value)}:
            _refuse_unnamed_size(definition.body, inner, seen | {(body, size)})


def _of_terms(expr: sp.Sum | sp.Product) -> Iterable[Need]:
    for bound, low, high in expr.limits:
        if low != 1 or size_of_axis(bound) != high:
            raise NotAlgebraic(f"{bound} does not run over its declared range in {expr}")
    return _of_any(expr.function, expr)


def _of_entries(expr: sp.Lambda) -> Iterable[Need]:
    return _of_any(expr.expr, expr)


def _of_any(body: sp.Basic, binder: sp.Basic) -> Iterable[Need]:
    """The needs of a body for any value of its bound variables, under names that no assumption mentions."""
    own = {bound: sp.Dummy("bound", integer=True, positive=True) for bound in bound_things(binder)}
    return needs_of(substitute(body, own))


def _put(needs: Iterable[Need], mapping: dict[Any, Any]) -> Iterator[Need]:
    return ((kind, substitute(needed, mapping)) for kind, needed in needs)


#: Nodes that have a value by themselves, nodes that have one where their arguments have, and nodes with own needs.
_LEAVES = frozenset(
    {sp.Symbol, sp.Dummy, type(sp.true), type(sp.false), sp.Integer, sp.Rational}
    | {type(number) for number in (sp.S.Zero, sp.S.One, sp.S.NegativeOne, sp.S.Half, sp.E, sp.pi)}
)
_INSIDE = frozenset({
    sp.Add, sp.Mul, sp.exp, sp.Abs, sp.Min, sp.Max, sp.KroneckerDelta,
    sp.Eq, sp.Ne, sp.Lt, sp.Le, sp.Gt, sp.Ge, sp.And, sp.Or, sp.Not, sp.Implies, sp.Equivalent,
})  # fmt: skip
_OWN: dict[type, Callable[[Any], Iterable[Need]]] = {
    sp.Indexed: _of_entry,
    sp.Pow: _of_power,
    sp.log: _of_logarithm,
    sp.Piecewise: _of_cases,
    sp.Sum: _of_terms,
    sp.Product: _of_terms,
    sp.Lambda: _of_entries,
    Apply: _of_definition,
    At: _of_point,
    Diff: _of_derivative,
    OneSided: _of_slope,
}


@lru_cache(maxsize=10_000)
def positions_of(expr: sp.Basic) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
    """Every position at which a family is read, also within definitions, with the size of the axis that it is on."""
    return tuple(dict.fromkeys(_positions_of(expr)))


def _positions_of(expr: sp.Basic) -> Iterator[tuple[sp.Expr, sp.Expr]]:
    if isinstance(expr, sp.Indexed) and expr.base in DECLARATIONS:
        yield from zip(expr.indices, DECLARATIONS[expr.base].sizes, strict=True)
    put = {expr.replaced: expr.value} if isinstance(expr, At) else {}
    if isinstance(expr, Apply):
        put = _arguments(expr)
        yield from () if expr.depth is not None else positions_of(expr.definition.body)
    for thing, value in put.items():
        if size_of_axis(thing) is not None:
            yield value, substitute(size_of_axis(thing), put)
        if isinstance(value, sp.IndexedBase) and value in DECLARATIONS:
            yield from zip(DECLARATIONS[value].sizes, _axes(thing, put), strict=True)
        domain = DECLARATIONS[thing].domain if thing in DECLARATIONS else None
        if isinstance(domain, Position):
            yield _an_entry(value), substitute(domain.size, put)
    for arg in expr.args:
        if not isinstance(arg, sp.IndexedBase | Str):
            yield from positions_of(arg)


def _an_entry(family: sp.IndexedBase | sp.Lambda) -> sp.Expr:
    return family.expr if isinstance(family, sp.Lambda) else family[(1,) * len(DECLARATIONS[family].sizes)]


def _axes(thing: Any, sizes: dict[Any, Any] | None = None) -> tuple[sp.Expr, ...]:
    """The sizes of the axes of a family, or that of an index, once those of its definition are put in."""
    own = size_of_axis(thing)
    axes = DECLARATIONS[thing].sizes if own is None else (own,)
    return tuple(substitute(axis, sizes or {}) for axis in axes)


def _arguments(expr: Apply) -> dict[Any, Any]:
    return dict(zip(expr.definition.of, expr.arguments, strict=True))


def runs_over_axes_of(thing: Any, value: sp.Lambda, sizes: dict[Any, Any] | None = None) -> bool:
    """Whether a substituted family has the same index ranges as the family it replaces, at the sizes put in."""
    return tuple(size_of_axis(bound) for bound in value.signature) == _axes(thing, sizes)


def refuse_recursion(node: Apply) -> None:
    """Refuse a recursive definition at arguments for which it is not shown to have a value at every depth."""
    definition = node.definition
    _refuse_valueless(definition)
    recursion = definition.by_depth
    if not reaches(node.depth, recursion.lowest):
        raise NotAlgebraic(f"{node.depth} is not shown to be a depth of {definition.id}")
    for parameter, argument in zip(definition.of, node.arguments, strict=True):
        if parameter != recursion.over and not is_in_domain(parameter, argument):
            raise NotAlgebraic(f"{argument} is not shown to be {DECLARATIONS[parameter].domain.name}")


def reaches(depth: sp.Expr | None, lowest: int) -> bool:
    """Whether a depth is a whole number from the lowest on: a number, or a declared size or count plus a number."""
    if depth is None:
        return False
    number, symbol = depth.as_coeff_Add()
    least = 0 if symbol == 0 else lowest_of(symbol)
    return bool(number.is_Integer and least is not None and number >= 0 and least + number >= lowest)


@lru_cache(maxsize=1_000)
def _refuse_valueless(definition: Definition) -> None:
    """Refuse a recursion whose first value or step has none somewhere in the domains of its parameters.

    The step is looked at with any real number in place of the values before; that it goes on within the domains of the
    parameters was checked when it was declared.
    """
    recursion = definition.by_depth
    onwards = [node for node in recursion.step.atoms(Apply) if node.definition.id == definition.id]
    before = {node: sp.Dummy("before", real=True) for node in onwards}
    handed_on = [a for node in onwards for a in node.arguments if not isinstance(a, sp.IndexedBase)]
    for expr in (recursion.first, walk(recursion.step, before.get), *handed_on):
        for kind, needed in needs_of(expr):
            if not _is_met_everywhere(kind, needed):
                raise NotAlgebraic(f"{definition.id} has no value where {needed} is not {kind}")
        for position, axis in positions_of(expr):
            if position not in (1, axis) and size_of_axis(position) != axis:
                raise NotAlgebraic(f"{definition.id} reads {position}, which is not shown to be a position of its axis")


def _is_met_everywhere(kind: Kind, needed: Any) -> bool:
    """Whether the form of a need shows that it is met for all values of the symbols."""
    if kind == "defined":
        return exists_by_form(needed)
    if kind == "an integer at least 1":
        return bool(needed.is_integer and needed.is_positive)
    return kind in ("positive", "non-negative", "nonzero") and shown_positive(needed)


def is_in_domain(parameter: Any, argument: Any) -> bool:
    """Whether an argument is in the domain of its parameter; every position is asked to be on its axis elsewhere."""
    declared = DECLARATIONS[parameter]
    if argument == parameter or size_of_axis(parameter) is not None or may_be_handed_on(parameter, argument):
        return True
    if argument in DECLARATIONS:
        return DECLARATIONS[argument].domain == declared.domain and DECLARATIONS[argument].sizes == declared.sizes
    if isinstance(argument, sp.Lambda):
        return declared.domain == Real and runs_over_axes_of(parameter, argument)
    number = argument.is_Rational and isinstance(declared.domain, Interval | OneOf)
    return bool(number and declared.domain.contains(Fraction(int(argument.p), int(argument.q))))

"""What an expression needs to be defined: nonzero divisors, positive arguments of logarithms and roots.

SymPy cancels x/x when an argument is substituted, so definitions and arguments are inspected separately, beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal

import sympy as sp
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.symbol import Str

from grape_spec.language.expressions import Apply, At, Diff, OneSided, bound_things, occurring, substitute
from grape_spec.language.symbols import DECLARATIONS, size_of_axis
from grape_spec.proof.derivatives import NotAlgebraic

Need = tuple[Literal["positive", "non-negative", "nonzero", "a position of its axis"], sp.Expr]


@lru_cache(maxsize=10_000)
def needs_of(expr: sp.Basic) -> tuple[Need, ...]:
    """What has to be positive, non-negative or nonzero for an expression to be defined.

    The inside of a one-sided slope is left to the rule for slopes, which asks for a value around the point.

    Raises:
        NotAlgebraic: a sum, or the entries of a family, do not run over the range that their index was declared with.
    """
    return tuple(dict.fromkeys(_needs_of(expr)))


def _needs_of(expr: sp.Basic) -> Iterator[Need]:
    if isinstance(expr, OneSided):
        return
    if isinstance(expr, At):
        yield from _put(needs_of(expr.expr), {expr.replaced: expr.value})
        yield from needs_of(expr.value)
        return
    if isinstance(expr, ExprWithLimits | sp.Lambda):
        yield from _needs_under(expr)
        return
    if isinstance(expr, Diff):
        yield from (_around(need, expr.variable) for need in needs_of(expr.expr))
        return
    if isinstance(expr, Apply):
        mapping = _arguments(expr)
        yield from _put(needs_of(expr.definition.body), mapping)
    elif isinstance(expr, sp.Pow) and not expr.exp.is_Integer:
        yield "non-negative" if expr.exp.is_positive and expr.exp.is_Rational else "positive", expr.base
    elif isinstance(expr, sp.Pow) and expr.exp < 0:
        yield "nonzero", expr.base
    elif isinstance(expr, sp.log):
        yield "positive", expr.args[0]
    for arg in expr.args:
        if not isinstance(arg, sp.IndexedBase | Str):
            yield from needs_of(arg)


def _around(need: Need, variable: sp.Expr) -> Need:
    """The same under a derivative: an expression that is zero at the point may be negative on one side of it."""
    kind, needed = need
    varied = variable.base if isinstance(variable, sp.Indexed) else variable
    return ("positive", needed) if kind == "non-negative" and varied in occurring(needed) else need


@lru_cache(maxsize=10_000)
def positions_of(expr: sp.Basic) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
    """Every position at which a family is read, also within definitions, with the size of the axis that it is on."""
    return tuple(dict.fromkeys(_positions_of(expr)))


def _positions_of(expr: sp.Basic) -> Iterator[tuple[sp.Expr, sp.Expr]]:
    if isinstance(expr, sp.Indexed) and expr.base in DECLARATIONS:
        yield from zip(expr.indices, DECLARATIONS[expr.base].sizes, strict=True)
    put = [(expr.replaced, expr.value)] if isinstance(expr, At) else []
    if isinstance(expr, Apply):
        put = list(zip(expr.definition.of, expr.arguments, strict=True))
        yield from positions_of(expr.definition.body)
    for thing, value in put:
        if size_of_axis(thing) is not None:
            yield value, size_of_axis(thing)
        if isinstance(value, sp.IndexedBase) and value in DECLARATIONS:
            yield from zip(DECLARATIONS[value].sizes, DECLARATIONS[thing].sizes, strict=True)
    for arg in expr.args:
        if not isinstance(arg, sp.IndexedBase | Str):
            yield from positions_of(arg)


def _put(needs: Iterable[Need], mapping: dict[Any, Any]) -> Iterator[Need]:
    return ((kind, substitute(needed, mapping)) for kind, needed in needs)


def _needs_under(expr: ExprWithLimits | sp.Lambda) -> Iterable[Need]:
    """The needs of a body for any value of its bound variables, under names that no assumption mentions."""
    if isinstance(expr, ExprWithLimits):
        for bound, low, high in expr.limits:
            if low != 1 or size_of_axis(bound) != high:
                raise NotAlgebraic(f"{bound} does not run over its declared range in {expr}")
    own = {bound: sp.Dummy("bound", integer=True, positive=True) for bound in bound_things(expr)}
    return needs_of(substitute(expr.function if isinstance(expr, ExprWithLimits) else expr.expr, own))


def _arguments(expr: Apply) -> dict[Any, Any]:
    mapping = dict(zip(expr.definition.of, expr.arguments, strict=True))
    for thing, value in mapping.items():
        if isinstance(value, sp.Lambda) and not runs_over_axes_of(thing, value):
            raise NotAlgebraic(f"{value} is not indexed by the axes of {thing}")
    return mapping


def runs_over_axes_of(thing: Any, value: sp.Lambda) -> bool:
    """Whether a substituted family has the same index ranges as the family it replaces."""
    return tuple(size_of_axis(bound) for bound in value.signature) == DECLARATIONS[thing].sizes

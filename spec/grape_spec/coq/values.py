"""What must hold for the terms of a statement to have a value (trusted).

In Coq 1/0 and ln 0 are numbers, and so is ``Derive`` of what has no derivative; in mathematics they are not. Each need
is a Coq proposition: under a sum for every index, under a derivative throughout a neighbourhood of the point, in cases
where the case applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.logic.boolalg import Boolean

from grape_spec.coq.printer import (
    Unstated,
    added_and_taken,
    applied,
    argument,
    coq_name,
    is_natural,
    one_sided,
    position,
    term,
    test,
    varied,
)
from grape_spec.language.domains import IndexUpTo, Naturals, Position
from grape_spec.language.expressions import Apply, At, Diff, OneSided
from grape_spec.language.symbols import DECLARATIONS, size_of_axis

# -- having a value ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=10_000)
def defined(expr: sp.Basic) -> tuple[str, ...]:
    """What must hold for an expression to have a value: in Coq 1/0 and ln 0 are numbers, in mathematics they are not.

    Under a sum for every index, under a derivative throughout a neighbourhood of the point.
    """
    return tuple(dict.fromkeys(_defined(expr)))


def _defined(expr: sp.Basic) -> Iterator[str]:
    if isinstance(expr, Diff):
        yield from _around_derivative(expr)
        yield _exists(expr)
    elif isinstance(expr, OneSided):
        yield from _beside_slope(expr)
        yield f"has_{one_sided(expr)} {term(expr.point)}"
    elif isinstance(expr, At):
        yield from defined(expr.value)
        if (axis := size_of_axis(expr.replaced)) is not None:
            yield from _on_axis(expr.value, axis)
        before = f"let {coq_name(expr.replaced)} := {argument(expr.replaced, expr.value)} in "
        yield from (f"({before}{condition})" for condition in defined(expr.expr))
    elif isinstance(expr, sp.Sum | sp.Product):
        yield from for_all([(bound, high) for bound, _, high in reversed(expr.limits)], defined(expr.function))
    elif isinstance(expr, sp.Lambda):
        yield from for_all([(bound, size_of_axis(bound)) for bound in expr.signature], defined(expr.expr))
    elif isinstance(expr, sp.Piecewise):
        yield from _in_its_case(expr)
    else:
        yield from _own_needs(expr)
        for arg in expr.args:
            if isinstance(arg, sp.Basic) and not isinstance(arg, sp.IndexedBase | sp.core.symbol.Str):
                yield from defined(arg)


def _own_needs(expr: sp.Basic) -> Iterator[str]:
    """What the outermost node needs, beyond what its arguments do."""
    if isinstance(expr, sp.Pow):
        base, exponent = expr.args
        if exponent.is_Integer and exponent < 0:
            yield f"{term(base)} <> 0"
        elif not exponent.is_Integer:
            yield f"{'0 <=' if exponent > 0 else '0 <'} {term(base)}"
    elif isinstance(expr, sp.log):
        yield f"0 < {term(expr.args[0])}"
    elif isinstance(expr, sp.Indexed):
        sizes = DECLARATIONS[expr.base].sizes if expr.base in DECLARATIONS else ()
        for index, size in zip(expr.indices, sizes, strict=False):
            yield from _on_axis(index, size)
    elif isinstance(expr, sp.KroneckerDelta) and all(map(is_natural, expr.args)):
        yield from (need for arg in expr.args for need in _natural(arg))
    elif isinstance(expr, AppliedUndef):
        yield from (need for arg in expr.args if arg.is_integer for need in _natural(arg))
    elif isinstance(expr, Apply):
        yield from _arguments_fit(expr)
        if expr.definition.recursion is not None or defined(expr.definition.body):
            yield applied(expr, "_defined")


def _arguments_fit(expr: Apply) -> Iterator[str]:
    put = dict(zip(expr.definition.of, expr.arguments, strict=True))
    for thing, value in put.items():
        domain = DECLARATIONS[thing].domain
        if isinstance(domain, IndexUpTo):
            yield from _on_axis(value, put.get(domain.size, domain.size))
        elif isinstance(domain, Position) and put.get(domain.size, domain.size) != domain.size:
            raise Unstated(f"{expr.definition.id}: {thing} leads along an axis of another size")
        elif isinstance(domain, Naturals) and not isinstance(value, sp.Symbol):
            yield from _natural(value)
            yield f"({domain.low} <= {position(value)})%nat"


def _on_axis(index: sp.Expr, size: sp.Expr) -> Iterator[str]:
    """An index that is declared on the axis is within it by its domain."""
    if size_of_axis(index) != size:
        yield from _natural(index)
        yield f"(1 <= {position(index)} <= {position(size)})%nat"


def _natural(expr: sp.Expr) -> Iterator[str]:
    """In Coq 0 − 1 is the natural number 0."""
    if isinstance(expr, sp.Add) and (added_and_taken(expr)[1]):
        more, less = (" + ".join(map(position, part)) for part in added_and_taken(expr))
        yield f"({less} <= {more})%nat"


def _around_derivative(expr: Diff) -> Iterator[str]:
    x, before, point = varied(expr)
    yield from defined(expr.variable)
    for condition in defined(expr.expr):
        yield f"locally {point} (fun {x} => {before}{condition})"


def _exists(expr: Diff) -> str:
    x, before, point = varied(expr)
    return f"ex_derive (fun {x} => {before}{term(expr.expr)}) {point}"


def _beside_slope(expr: OneSided) -> Iterator[str]:
    """At the point and beside it on the side of the slope."""
    yield from defined(expr.point)
    x, point = coq_name(expr.variable), term(expr.point)
    for condition in defined(expr.expr):
        yield f"(let {x} := {point} in {condition})"
        yield f"{'at_right' if expr.side == 1 else 'at_left'} {point} (fun {x} => {condition})"


def for_all(bounds: Iterable[tuple[sp.Symbol, Any]], conditions: Iterable[str]) -> Iterator[str]:
    """Conditions for every value of bound indices."""
    ranges = list(bounds)
    for condition in conditions:
        text = condition
        for bound, size in reversed(ranges):
            name = coq_name(bound)
            within = f"(1 <= {name} <= {position(size)})%nat -> " if size is not None else ""
            text = f"(forall {name} : nat, {within}{text})"
        yield text


def _in_its_case(expr: sp.Piecewise) -> Iterator[str]:
    """Each value where its case applies; one of the cases must."""
    text, last_condition = "True", expr.args[-1][1]
    if last_condition != sp.true:
        text = "False"
    for value, condition in reversed(expr.args):
        own = both(defined(value))
        if condition == sp.true:
            text = own
        else:
            yield from (need for side in condition.atoms(sp.core.relational.Relational) for need in defined(side))
            if own != "True" or text != "True":
                text = f"(if {test(condition)} then {own} else {text})"
    if text != "True":
        yield text


def both(conditions: Iterable[str]) -> str:
    """That all of the conditions hold."""
    found = [f"({condition})" for condition in conditions]
    return " /\\ ".join(found) if found else "True"


def has_value(statement: Boolean) -> tuple[str, ...]:
    """What must hold for every term of a statement to have a value.

    That a derivative or slope exists which is the left side of the equation is part of the statement itself.
    """
    if not (isinstance(statement, sp.Eq) and isinstance(statement.args[0], Diff | OneSided)):
        return defined(statement)
    left, right = statement.args
    beside = _around_derivative(left) if isinstance(left, Diff) else _beside_slope(left)
    return tuple(dict.fromkeys([*beside, *defined(right)]))

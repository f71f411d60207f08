"""Definitions by recursion over a depth: sums over all sequences of T tokens, trees, recursions along a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy as sp

from grape_spec.language.claims import as_tuple
from grape_spec.language.definitions import Definition, Recursion
from grape_spec.language.domains import Interval, Real
from grape_spec.language.expressions import (
    Apply,
    At,
    Diff,
    OneSided,
    bound_things,
    cases,
    occurring,
    substitute,
    symbols_of,
)
from grape_spec.language.registry import RegistryError, enter_recursion, without_body
from grape_spec.language.sources import DERIVED, Source
from grape_spec.language.symbols import DECLARATIONS, Declarable, lowest_of, size_of_axis


def recursive(
    id: str,
    text: str,
    of: Sequence[Declarable],
    over: sp.Symbol,
    first: sp.Expr,
    step: Callable[[Definition], sp.Expr],
    *,
    tex: str = "",
    convention: bool = False,
    source: Source = DERIVED,
) -> Definition:
    """Enter a definition by recursion into the registry.

    At the lowest number of the domain of ``over`` its value is ``first``; at ``over`` + 1 it is what ``step`` makes of
    the values at ``over``. What holds at every depth is proved with the rule `over_depth`.

    Arguments:
        over: the argument that counts the depth, a whole number.
        first: the value at the first depth, which does not mention ``over``.
        step: is given the definition, and applies it at ``over``, with other arguments where it goes on with others.

    Raises:
        RegistryError: as `define`, and for a recursion that does not go from ``over`` + 1 to ``over``, does not go on
            at all, or goes on with an argument that may lie outside the domain of its parameter.
    """
    of, lowest = as_tuple("of", of), lowest_of(over)
    if over not in of or lowest is None:
        raise RegistryError(f"{id}: got the depth {over}, expected an argument that is a whole number or a size")
    for thing in of:
        if thing != over and over in symbols_of(thing):
            raise RegistryError(
                f"{id}: the depth {over} is the size of {thing}, which would change from each depth to the next: "
                'count the depth by a number of its own, symbol(…, Naturals("whole number", 0), …)'
            )
    with without_body(id, of) as itself:
        onwards = sp.sympify(step(itself))
        _refuse_first(id, over, first)
        _refuse_step(id, of, over, onwards)
        before = substitute(onwards, {over: over - 1})
        body = cases((first, sp.Eq(over, lowest, evaluate=False)), (before, sp.true))
    recursion = Recursion(over, lowest, sp.sympify(first), onwards)
    return enter_recursion(Definition(id, text, of, body, tex, Real, convention, source, recursion))


def _refuse_first(id: str, over: sp.Symbol, first: sp.Expr) -> None:
    if over in occurring(first) or any(str(node.args[0]) == id for node in first.atoms(Apply)):
        raise RegistryError(f"{id}: its first value must mention neither {over} nor {id} itself")


def _refuse_step(id: str, of: tuple[Any, ...], over: sp.Symbol, step: sp.Expr) -> None:
    onwards = list(_applications(id, step, over))
    if not onwards:
        raise RegistryError(f"{id}: its step does not go on with {id} at {over}")
    for node in onwards:
        for parameter, argument in zip(of, node.arguments, strict=True):
            if parameter == over and argument != over:
                raise RegistryError(f"{id}: its step must go on at {over} itself, got {argument}")
            if argument != parameter and not may_be_handed_on(parameter, argument):
                raise RegistryError(f"{id}: {argument} is not shown to be in the domain of {parameter}")


def _applications(id: str, node: sp.Basic, over: sp.Symbol) -> Iterator[Apply]:
    """Where a step goes on; refused within a derivative or a function of an index, or where ``over`` is bound."""
    inside = [n for n in node.atoms(Apply) if str(n.args[0]) == id]
    if not inside:
        return
    if isinstance(node, Diff | At | OneSided | sp.Lambda) or over in bound_things(node):
        raise RegistryError(f"{id}: its step must go on outside of derivatives, functions and sums over {over}")
    if isinstance(node, Apply) and str(node.args[0]) == id:
        if len(inside) > 1:
            raise RegistryError(f"{id}: its step must not go on within an argument of {id}")
        yield node
        return
    for arg in node.args:
        yield from _applications(id, arg, over)


def may_be_handed_on(parameter: Any, argument: Any) -> bool:
    """Whether an argument other than the parameter itself is in its domain.

    It is if it is any real number where one is asked for, a position of the same axis, or the parameter plus a number
    that is not negative where the domain has no upper end.
    """
    axis = size_of_axis(parameter)
    if axis is not None:
        return size_of_axis(argument) == axis
    if not isinstance(parameter, sp.Symbol) or not isinstance(argument, sp.Expr):
        return False
    if isinstance(argument, sp.IndexedBase | sp.Lambda):
        return False
    domain = DECLARATIONS[parameter].domain
    if domain == Real:
        return argument.is_extended_real is not False
    more = argument - parameter
    return isinstance(domain, Interval) and domain.high is None and more.is_Rational and bool(more >= 0)

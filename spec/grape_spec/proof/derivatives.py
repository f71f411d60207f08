"""Derivatives that a statement leaves unevaluated, taken with SymPy's ``diff``, which is called nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from grape_spec.language.expressions import Apply, At, Diff, avoid, occurring, substitute, walk


class NotAlgebraic(ValueError):
    """The expression is beyond what an engine can decide: the verdict is unknown, not refuted."""


_KINKED = (sp.Min, sp.Max, sp.Abs, sp.Piecewise)


class Partial(sp.Expr):
    """A partial derivative of a declared function at its arguments, by the places of the arguments that are varied.

    SymPy names the variable in place of the argument, and loses it where two arguments become the same. The order of
    the places does not matter: a declared function is smooth.
    """

    is_commutative = True

    def __new__(cls, applied: sp.Basic, places: sp.Tuple) -> Partial:
        if isinstance(applied, Partial):
            applied, places = applied.args[0], sp.Tuple(*sorted((*applied.args[1], *places)))
        if not isinstance(applied, AppliedUndef):
            raise NotAlgebraic(f"cannot evaluate the derivative of an unknown function: {applied} is put in for it")
        return sp.Expr.__new__(cls, applied, places)

    def _eval_is_extended_real(self) -> bool:
        return True

    _eval_is_real = _eval_is_extended_real

    def _eval_derivative(self, variable: Any) -> sp.Expr:
        return sp.Add(
            *(
                sp.diff(argument, variable) * Partial(self, sp.Tuple(place))
                for place, argument in enumerate(self.args[0].args)
            )
        )


_SMOOTH = (sp.Add, sp.Mul, sp.Pow, sp.exp, sp.log, AppliedUndef, Partial)


def _as_partial(node: sp.Basic) -> sp.Basic | None:
    return Partial(node, sp.Tuple()) if isinstance(node, AppliedUndef) else None


def _as_function(node: sp.Basic) -> sp.Basic | None:
    return node.args[0] if isinstance(node, Partial) and not node.args[1] else None


@lru_cache(maxsize=10_000)
def resolve(expr: sp.Basic) -> sp.Basic:
    """The expression with definitions unfolded, derivatives taken and points substituted, innermost first."""

    def step(node: sp.Basic) -> sp.Basic | None:
        if isinstance(node, Diff):
            return derivative(node.expr, node.variable)
        if isinstance(node, At):
            if any(node.replaced in occurring(left) for left in node.expr.atoms(Diff)):
                raise NotAlgebraic(f"the derivative of a recursion is not evaluated at a point: {node}")
            return substitute(node.expr, {node.replaced: node.value})
        return None

    return walk(opened(expr), step)


@lru_cache(maxsize=10_000)
def opened(expr: sp.Basic) -> sp.Basic:
    """The expression with definitions replaced by their bodies, each restated over symbols without a sign before."""

    def open_up(node: sp.Basic) -> sp.Basic | None:
        return opened(node.unfold()) if isinstance(node, Apply) and node.unfolds else None

    return walk(walk(expr, _without_sign), open_up)


@lru_cache(maxsize=1_000)
def plain(thing: sp.Basic) -> sp.Basic:
    """A bound symbol without its sign: where r is declared positive SymPy replaces |r| by r, even at r = −5."""
    if not _label(thing).is_nonnegative:
        return thing
    own = sp.Dummy(_label(thing).name, real=True)
    return sp.IndexedBase(own, real=True) if isinstance(thing, sp.IndexedBase) else own


def _label(thing: sp.Basic) -> sp.Symbol:
    return thing.label if isinstance(thing, sp.IndexedBase) else thing


def _without_sign(node: sp.Basic) -> sp.Basic | None:
    """A point, or a derivative on a domain with an edge, restated over a symbol without a sign."""
    if isinstance(node, At):
        own = plain(node.replaced)
        return None if own == node.replaced else At(substitute(node.expr, {node.replaced: own}), own, node.value)
    if isinstance(node, Diff):
        thing = varied(node.variable)
        own = plain(thing)
        if own == thing or _label(thing).is_positive:  # positive: an open domain
            return None
        to = own[node.variable.indices] if isinstance(node.variable, sp.Indexed) else own
        return At(Diff(substitute(node.expr, {thing: own}), to), own, thing)
    return None


def derivative(expr: sp.Expr, variable: sp.Expr) -> sp.Expr:
    """The derivative by SymPy; refused where a Min, Max, Piecewise or absolute value depends on the variable.

    SymPy differentiates those through Heaviside(0) = 1/2, which is wrong at a kink.
    """
    if variable.is_integer:
        raise NotAlgebraic(f"{variable} is an integer: there is no derivative with respect to it")
    expr = avoid(expr, occurring(variable))
    stand_ins: dict[sp.Basic, sp.Basic] = {}

    def set_aside(node: sp.Basic) -> sp.Basic | None:
        if not isinstance(node, _KINKED):
            return None
        if _depends(node, variable):
            raise NotAlgebraic(f"the derivative of {node} with respect to {variable} needs a proof by regions")
        return stand_ins.setdefault(node, _stand_in(node))

    smooth = walk(expr, set_aside)
    if not is_smooth(smooth, varied(variable)):
        raise NotAlgebraic(f"the derivative of {expr} with respect to {variable} is not shown to exist")
    result = walk(sp.diff(walk(smooth, _as_partial), variable), _as_function)
    if untaken := result.atoms(sp.Derivative, sp.Subs):
        raise NotAlgebraic(f"{min(untaken, key=str)} is not shown to exist")
    if missing := [left for left in result.atoms(Diff) if not exists_by_form(left)]:
        raise NotAlgebraic(f"{min(missing, key=str)} is not shown to exist")
    if not stand_ins:
        return result
    back = {stand_in: node for node, stand_in in stand_ins.items()}
    return result.replace(lambda node: node in back, lambda node: back[node])


def is_of_recursion(expr: sp.Basic) -> bool:
    """Whether an expression is left as it is: a recursion that does not unfold, or a derivative of one."""
    while isinstance(expr, Diff):
        expr = expr.expr
    return isinstance(expr, Apply) and not expr.unfolds


def with_arguments(expr: sp.Basic, change: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    """A recursion that does not unfold, or its derivative, with every real number among its arguments changed."""
    if not isinstance(expr, Apply):
        return Diff(with_arguments(expr.args[0], change), expr.args[1])
    numbers = (isinstance(own, sp.Symbol) and not own.is_integer for own in expr.definition.of)
    pairs = zip(expr.arguments, numbers, strict=True)
    return Apply(str(expr.args[0]), *(change(argument) if number else argument for argument, number in pairs))


def _stand_in(node: sp.Basic) -> sp.Basic:
    """A constant with respect to the derivative that keeps the indices of the expression it stands for."""
    symbols = sorted(occurring(node), key=str)
    return sp.IndexedBase(sp.Dummy("constant"), real=True)[
        tuple(s for s in symbols if isinstance(s, sp.Symbol) and s.is_integer) or (1,)
    ]


def _depends(node: sp.Basic, variable: sp.Expr) -> bool:
    return varied(variable) in occurring(node)


@lru_cache(maxsize=10_000)
def is_smooth(expr: sp.Basic, thing: sp.Basic) -> bool:
    """Whether an expression is smooth in a symbol or family wherever its parts have values around the point.

    Its nodes show it: whatever depends on the symbol is arithmetic, an exponential, a logarithm, a declared function,
    or a sum, a product or a derivative of such.
    """
    if thing not in occurring(expr) or expr == thing:
        return True
    if isinstance(expr, At | Diff):
        expr = _without_sign(expr) or expr
    if isinstance(expr, sp.Indexed):
        return not any(thing in occurring(position) for position in expr.indices)
    if isinstance(expr, Apply):
        return is_smooth(expr.unfold(), thing) if expr.unfolds else _is_smooth_at_every_depth(expr, thing)
    if isinstance(expr, Diff):
        return is_smooth(expr.expr, thing) and is_smooth(expr.expr, varied(expr.variable))
    if isinstance(expr, At):
        body, replaced, value = expr.args
        inner = thing in occurring(value)
        through = is_smooth(body, replaced) and is_smooth(value, thing) if inner else True
        return through and (replaced == thing or is_smooth(body, thing))
    if isinstance(expr, sp.Sum | sp.Product | sp.Lambda):
        ends = expr.limits if not isinstance(expr, sp.Lambda) else ()
        inside = expr.expr if isinstance(expr, sp.Lambda) else expr.function
        return not any(thing in occurring(end) for limit in ends for end in limit[1:]) and is_smooth(inside, thing)
    return isinstance(expr, _SMOOTH) and all(is_smooth(arg, thing) for arg in expr.args)


def _is_smooth_at_every_depth(expr: Apply, thing: sp.Basic) -> bool:
    """A recursion is smooth where its first value and its step are, in everything that may be varied: by induction."""
    definition, recursion = expr.definition, expr.definition.by_depth
    onwards = {node for node in recursion.step.atoms(Apply) if node.definition.id == definition.id}
    before = sp.Function("before", real=True)  # smooth, and it depends on all that it is applied to
    step = walk(recursion.step, lambda node: before(*node.arguments) if node in onwards else None)
    parts = (recursion.first, step)
    varying = {
        own: own if _label(own).is_positive else plain(own) for own in definition.of if not _label(own).is_integer
    }
    return all(is_smooth(substitute(part, {own: to}), to) for part in parts for own, to in varying.items()) and all(
        is_smooth(argument, thing) for argument in expr.arguments if isinstance(argument, sp.Expr)
    )


def exists_by_form(node: sp.Basic) -> bool:
    """Whether a derivative, or one at a point, exists wherever the parts of the function have values around it."""
    node = walk(node, _without_sign)
    while isinstance(node, At):
        node = node.expr
    return isinstance(node, Diff) and is_smooth(node.expr, varied(node.variable))


def varied(variable: sp.Expr) -> sp.Basic:
    """The symbol, or the family of the entry, that a derivative varies."""
    return variable.base if isinstance(variable, sp.Indexed) else variable

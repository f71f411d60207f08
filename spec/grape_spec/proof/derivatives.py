"""Derivatives that a statement leaves unevaluated, taken with SymPy's ``diff``, which is called nowhere else."""

from __future__ import annotations

from functools import lru_cache

import sympy as sp
from sympy.core.function import AppliedUndef

from grape_spec.language.expressions import At, Diff, avoid, occurring, substitute, unfold, walk


class NotAlgebraic(ValueError):
    """The expression is beyond what an engine can decide: the verdict is unknown, not refuted."""


_KINKED = (sp.Min, sp.Max, sp.Abs, sp.Piecewise)


@lru_cache(maxsize=10_000)
def resolve(expr: sp.Basic) -> sp.Basic:
    """The expression with definitions unfolded, derivatives taken and points substituted, innermost first."""

    def step(node: sp.Basic) -> sp.Basic | None:
        if isinstance(node, Diff):
            return derivative(node.expr, node.variable)
        if isinstance(node, At):
            if any(node.replaced in occurring(d) for d in node.expr.atoms(sp.Derivative)):
                raise NotAlgebraic(f"cannot evaluate the derivative of an unknown function at a point: {node}")
            return substitute(node.expr, {node.replaced: node.value})
        return None

    return walk(unfold(walk(expr, _without_sign)), step)


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
        thing = node.variable.base if isinstance(node.variable, sp.Indexed) else node.variable
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
    result = sp.diff(smooth, variable)
    untaken = (node for node in result.atoms(sp.Derivative) if not isinstance(node.expr, AppliedUndef))
    if (node := next(untaken, None)) is not None:
        raise NotAlgebraic(f"{node} is not shown to exist")
    if not stand_ins:
        return result
    back = {stand_in: node for node, stand_in in stand_ins.items()}
    return result.replace(lambda node: node in back, lambda node: back[node])


def _stand_in(node: sp.Basic) -> sp.Basic:
    """A constant with respect to the derivative that keeps the indices of the expression it stands for."""
    symbols = sorted(occurring(node), key=str)
    return sp.IndexedBase(sp.Dummy("constant"), real=True)[
        tuple(s for s in symbols if isinstance(s, sp.Symbol) and s.is_integer) or (1,)
    ]


def _depends(node: sp.Basic, variable: sp.Expr) -> bool:
    return (variable.base if isinstance(variable, sp.Indexed) else variable) in occurring(node)

"""Whether two expressions are the same formula."""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.concrete.expr_with_limits import ExprWithLimits

from grape_spec.language.expressions import rebuild, unfold


def alike(left: sp.Basic, right: sp.Basic) -> bool:
    """Whether two expressions are the same when definitions are written out, whatever bound variables are called."""
    return named_alike(unfold(left)) == named_alike(unfold(right))


def named_alike(expr: sp.Basic) -> sp.Basic:
    return _by_height(expr)[0]


def _by_height(expr: sp.Basic) -> tuple[sp.Basic, int]:
    """An expression whose bound variables are named by how many binders are nested within, and that number."""
    if not expr.args or isinstance(expr, sp.Indexed | sp.IndexedBase | sp.Symbol):
        return expr, 0
    parts = [_by_height(argument) for argument in expr.args]
    height = max(number for _, number in parts)
    args = [part for part, _ in parts]
    if isinstance(expr, ExprWithLimits | sp.Lambda):
        bound = [limit[0] for limit in expr.limits] if isinstance(expr, ExprWithLimits) else list(expr.signature)
        names = {old: sp.Symbol(f"#{height}.{place}", integer=True, positive=True) for place, old in enumerate(bound)}
        height += 1
        if isinstance(expr, sp.Lambda):
            if isinstance(args[1], sp.Indexed) and args[1].indices == tuple(bound):
                return args[1].base, 0
            return sp.Lambda(tuple(names.values()), _renamed(args[1], names)), height
        limits = [(names[limit[0]], *(_renamed(end, names) for end in limit[1:])) for limit in args[1:]]
        return expr.func(_renamed(args[0], names), *limits), height
    return rebuild(expr, args), height


def _renamed(expr: sp.Basic, names: dict[Any, Any]) -> sp.Basic:
    return expr.xreplace(names)

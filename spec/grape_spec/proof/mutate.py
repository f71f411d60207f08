"""Mutants: a statement with one node changed, as in typical mistakes in formulas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import sympy as sp
from sympy.core.relational import Relational
from sympy.core.symbol import Str
from sympy.logic.boolalg import Boolean

from grape_spec.language.expressions import At, Diff, OneSided, rebuild, symbols_of
from grape_spec.language.symbols import size_of_axis
from grape_spec.render import unicode


def mutants(statement: Boolean) -> Iterator[tuple[str, Boolean]]:
    """Every statement that differs from this one in a single node, with what was changed; equal texts are numbered."""
    seen, texts = {statement}, Counter[str]()
    indices = [s for s in symbols_of(statement) if size_of_axis(s) is not None]
    for text, changed in _anywhere_below(statement, sorted(indices, key=str)):
        if changed not in seen and changed not in (sp.true, sp.false):
            seen.add(changed)
            texts[text] += 1
            yield text if texts[text] == 1 else f"{text} ({texts[text]})", changed


def _anywhere_below(statement: Boolean, indices: list[sp.Symbol]) -> Iterator[tuple[str, Boolean]]:
    """Change the right side of a relation; also the left side of an equation whose right side is a number."""
    if not isinstance(statement, Relational):
        yield from _anywhere(statement, indices)
        return
    left, right = statement.args
    for text, new in _anywhere(right, indices):
        yield f"right: {text}", statement.func(left, new, evaluate=False)
    if isinstance(statement, sp.Eq) and right.is_number:
        for text, new in _anywhere(left, indices):
            if right == 0 and new in (-left, 2 * left):
                continue  # a multiple of zero is zero
            yield f"left: {text}", statement.func(new, right, evaluate=False)


def _anywhere(node: sp.Basic, indices: list[sp.Symbol]) -> Iterator[tuple[str, sp.Basic]]:
    for new in _changed(node, indices):
        yield f"{_text(node)} → {_text(new)}", new
    for position, arg in enumerate(node.args):
        if _is_open(node, position):
            for text, new in _anywhere(arg, indices):
                yield text, rebuild(node, [*node.args[:position], new, *node.args[position + 1 :]])


_text = lru_cache(maxsize=1_000)(unicode)


def _is_open(node: sp.Basic, position: int) -> bool:
    """Whether a child may be changed: not the limits of a sum, a name, or a symbol that is differentiated or bound."""
    if isinstance(node, sp.Sum | sp.Product | Diff):
        return position == 0
    if isinstance(node, OneSided):
        return position in (0, 2)
    if isinstance(node, At):
        return position in (0, 2)
    if isinstance(node, sp.Lambda):
        return position == 1
    if isinstance(node, sp.Indexed):
        return isinstance(node.args[position], sp.Symbol)
    return not isinstance(node, sp.IndexedBase) and not isinstance(node.args[position], Str | sp.IndexedBase)


def _changed(node: sp.Basic, indices: list[sp.Symbol]) -> Iterator[sp.Basic]:
    if isinstance(node, Relational):
        yield _flipped(node)
        yield _touching(node)
    elif isinstance(node, sp.And | sp.Or):
        yield (sp.Or if isinstance(node, sp.And) else sp.And)(*node.args, evaluate=False)
    elif isinstance(node, sp.Symbol) and size_of_axis(node) is not None:
        yield from (other for other in indices if other != node and size_of_axis(other) == size_of_axis(node))
    elif isinstance(node, sp.Expr) and not isinstance(node, sp.Lambda):
        yield from _changed_number(node)


def _changed_number(node: sp.Expr) -> Iterator[sp.Expr]:
    yield node + 1
    if node != 0:
        yield -node
        yield 2 * node
    if isinstance(node, sp.Add | sp.Mul) and len(node.args) > 1:
        yield from (node.func(*node.args[:i], *node.args[i + 1 :]) for i in range(len(node.args)))
    elif isinstance(node, sp.exp | sp.log):
        yield node.args[0]
    elif isinstance(node, sp.Pow):
        yield 1 / node
        if node.exp == sp.Rational(1, 2):
            yield node.base
    elif isinstance(node, sp.Min | sp.Max):
        yield (sp.Max if isinstance(node, sp.Min) else sp.Min)(*node.args)
        yield from node.args
    elif isinstance(node, sp.KroneckerDelta):
        yield from (1 - node, sp.Integer(1))
    elif isinstance(node, sp.Sum):
        yield node / node.limits[0][2]
    elif isinstance(node, sp.Piecewise) and len(node.args) > 1:
        yield from (branch for branch, _ in node.args)


def _flipped(node: Relational) -> Relational:
    return {sp.Lt: sp.Gt, sp.Gt: sp.Lt, sp.Le: sp.Ge, sp.Ge: sp.Le, sp.Eq: sp.Ne, sp.Ne: sp.Eq}[type(node)](
        *node.args, evaluate=False
    )


def _touching(node: Relational) -> Relational:
    """The same comparison with its boundary moved in or out."""
    return {sp.Lt: sp.Le, sp.Le: sp.Lt, sp.Gt: sp.Ge, sp.Ge: sp.Gt, sp.Eq: sp.Ne, sp.Ne: sp.Eq}[type(node)](
        *node.args, evaluate=False
    )

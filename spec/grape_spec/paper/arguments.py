"""What is put in for the arguments of definitions: what a symbol does not show, and what can be said below."""

from __future__ import annotations

from typing import Any

import sympy as sp

from grape_spec.language.expressions import Apply, Diff, bound_things, symbols_of, unfold
from grape_spec.language.symbols import DECLARATIONS


def hidden(node: Apply) -> list[tuple[Any, Any]]:
    """Parameters and arguments of an applied definition that its symbol does not show, where they differ."""
    definition = node.definition
    pairs = zip(definition.of, node.arguments, strict=True)
    return [(p, a) for p, a in pairs if a != p and f"{{{DECLARATIONS[p].name}}}" not in definition.tex]


def _plain(value: Any) -> bool:
    """Whether a value can be said after the formula: a number, a symbol, or a definition at its own arguments."""
    if isinstance(value, Apply):
        return bool(value.definition.tex) and value.arguments == value.definition.of
    return isinstance(value, sp.Number | sp.Symbol)


def given_values(expr: sp.Basic) -> dict[Any, Any]:
    """Parameters that stand for one plain value wherever a definition has them, and that occur nowhere else."""
    values: dict[Any, set[Any]] = {}
    for node in expr.atoms(Apply):
        if node.definition.tex:
            for parameter, argument in zip(node.definition.of, node.arguments, strict=True):
                if f"{{{DECLARATIONS[parameter].name}}}" not in node.definition.tex:
                    values.setdefault(parameter, set()).add(argument)
    free, varied = symbols_of(expr), _varied(expr)
    once = {parameter: found.pop() for parameter, found in values.items() if len(found) == 1}
    return {p: v for p, v in once.items() if _can_be_said(p, v, free, varied)}


def _can_be_said(parameter: Any, value: Any, free: set[Any], varied: set[Any]) -> bool:
    """Whether a value can stand below the formula: it is plain, and nothing in the formula changes it."""
    if value == parameter or not _plain(value) or parameter in free:
        return False
    within = symbols_of(unfold(value))
    return parameter not in within and not within & varied


def _varied(expr: sp.Basic) -> set[Any]:
    """What a formula differentiates by, replaces or binds."""
    found: set[Any] = set()
    for node in sp.preorder_traversal(expr):
        found |= bound_things(node)
        if isinstance(node, Diff):
            variable = node.variable
            found.add(variable.base if isinstance(variable, sp.Indexed) else variable)
    return found


def printed_as(node: Apply) -> tuple[Any, ...]:
    """What a definition is printed as: its template, and the arguments that are in it."""
    tex, pairs = node.definition.tex, zip(node.definition.of, node.arguments, strict=True)
    return tex, *(argument for parameter, argument in pairs if f"{{{DECLARATIONS[parameter].name}}}" in tex)


def written_length(node: Apply) -> tuple[int, str]:
    """How long a definition is when it is written out."""
    text = str(unfold(node))
    return len(text), text

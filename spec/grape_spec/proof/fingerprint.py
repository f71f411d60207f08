"""The fingerprint of an entry covers all that an examination reads of it.

For a claim these are its statements, proofs, derivations, false variants and all claims that it uses; for a definition
its body; for both, whatever they are built from, down to the declarations of symbols. The code that examines them is
not covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

import sympy as sp

from grape_spec.language.expressions import Apply
from grape_spec.language.registry import CLAIMS, DEFINITIONS, DERIVATIONS
from grape_spec.language.symbols import DECLARATIONS, Declarable


def fingerprints() -> dict[str, str]:
    """The SHA-256 of every definition and claim by its id."""
    found: dict[str, str] = {}
    for entry in DEFINITIONS.values():
        of_definition = (entry.id, entry.of, entry.body, entry.recursion, entry.tex, repr(entry.domain))
        found[entry.id] = _hash(of_definition, (), found)
    for claim in CLAIMS.values():
        lines = tuple(DERIVATIONS.get((claim.id, part.name), ()) for part in claim.parts)
        of_claim = (claim.id, claim.text, str(claim.source), claim.uses, claim.hash, claim.parts, claim.wrong, lines)
        found[claim.id] = _hash(of_claim, claim.uses, found)
    return found


def _hash(read: tuple[Any, ...], uses: Iterable[str], found: Mapping[str, str]) -> str:
    """The fingerprint of an entry; those of what it speaks of have been found, as an entry comes after them."""
    nodes = {node for formula in _formulas(read) for node in _nodes(formula)}
    below = sorted({*_applied(nodes), *uses} - {read[0]})  # a recursive definition speaks of itself
    lines = [_text(read), *_declared(nodes), *(f"{id}: {found[id]}" for id in below)]
    return sha256("\n".join(lines).encode()).hexdigest()


def joint(ids: Sequence[str], found: Mapping[str, str]) -> str | None:
    """One fingerprint for several entries; None if one of them no longer exists."""
    if not found.keys() >= set(ids):
        return None
    return sha256("\n".join(f"{id}: {found[id]}" for id in ids).encode()).hexdigest()


def _text(value: Any) -> str:
    """Everything in a value, by the names of its fields; what is no data is refused, as its text may say too little."""
    if isinstance(value, sp.Basic | sp.core.function.UndefinedFunction):
        return sp.srepr(value, order="none")
    if is_dataclass(value) and not isinstance(value, type):
        inside = (f"{entry.name}={_text(getattr(value, entry.name))}" for entry in fields(value))
        return f"{type(value).__qualname__}({', '.join(inside)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(key)}: {_text(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    raise TypeError(f"got {type(value).__qualname__}, expected data: expressions, rules, text, whole numbers")


def _formulas(value: Any) -> Iterator[Any]:
    """Every expression in a value."""
    if isinstance(value, sp.Basic | sp.core.function.UndefinedFunction):
        yield value
    elif is_dataclass(value):
        yield from _formulas([getattr(value, entry.name) for entry in fields(value)])
    elif isinstance(value, Mapping):
        yield from _formulas([*value.values()])
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _formulas(entry)


def _applied(nodes: Iterable[Any]) -> set[str]:
    """The ids of the definitions that formulas speak of."""
    return {str(node.args[0]) for node in nodes if isinstance(node, Apply)}


def _declared(nodes: Iterable[Any]) -> list[str]:
    """What was declared of the symbols in formulas and of the sizes of their axes."""
    found: set[Declarable] = set()
    waiting = {thing for node in nodes for thing in (node, getattr(node, "func", None)) if thing in DECLARATIONS}
    while waiting:
        found |= waiting
        entries = map(DECLARATIONS.__getitem__, waiting)
        within = {node for entry in entries for f in (*entry.sizes, *_formulas(entry.domain)) for node in _nodes(f)}
        waiting = {thing for thing in within if thing in DECLARATIONS} - found
    declared = sorted((DECLARATIONS[thing] for thing in found), key=lambda entry: entry.name)
    return [f"{entry.name}: {entry.domain!r} {entry.sizes} {entry.tex}" for entry in declared]


def _nodes(formula: Any) -> Iterator[Any]:
    return sp.preorder_traversal(formula) if isinstance(formula, sp.Basic) else iter((formula,))

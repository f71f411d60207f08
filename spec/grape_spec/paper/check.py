"""Whether what is printed is what is stated: every formula of the catalogue is read back and compared."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from grape_spec.language.claims import Claim
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, DEFINITIONS, DERIVATIONS
from grape_spec.paper.layout import displayed, statements_of
from grape_spec.paper.reader import Unreadable, alike, reader_for
from grape_spec.render import unicode


def difference(expr: sp.Basic, tex: str) -> str:
    """In which way LaTeX is not the formula for an expression; empty if it is."""
    try:
        found, _ = reader_for(expr).display(tex)
    except Unreadable as failure:
        return f"it cannot be read: {failure}"
    return "" if alike(found, expr) else f"it says {unicode(found)}"


def formulas_of(entry: Claim | Definition) -> Iterator[tuple[str, sp.Basic]]:
    """Every formula that is shown of a claim or a definition, with what it is."""
    if isinstance(entry, Definition):
        yield from (("definition", statement) for statement in statements_of(entry))
        return
    for part in entry.parts:
        yield part.name or "statement", part.statement
        yield from (("condition", condition) for condition in part.assuming)
        yield from (("step", link.expr) for link in part.by.steps())
        for stage in DERIVATIONS.get((entry.id, part.name), ()):
            yield from ((f"derivation: {line.reason}", line.expr) for line in stage.lines)
    for variant in entry.wrong:
        yield f"false variant: {variant.text}", variant.statement


class WrongFormula(Exception):
    """A formula does not print as what it states."""


def differences() -> list[str]:
    """A line for each formula of the catalogue that does not print as what it states."""
    entries: list[Claim | Definition] = [*DEFINITIONS.values(), *CLAIMS.values()]
    found = []
    for entry in entries:
        for name, expr in formulas_of(entry):
            if fault := difference(expr, displayed(expr)):
                found.append(f"{entry.id} [{name}]: {fault}")
    return found

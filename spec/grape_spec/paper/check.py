"""Whether what is printed is what is stated: every formula of the catalogue is read back and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy as sp

from grape_spec.language.claims import Claim
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, DEFINITIONS, DERIVATIONS
from grape_spec.paper.layout import BREAK, displayed, statements_of, together
from grape_spec.paper.reader import Unreadable, alike, reader_for
from grape_spec.render import unicode


def difference(expr: sp.Basic, tex: str, among: Sequence[sp.Basic] = ()) -> str:
    """In which way LaTeX is not the formula for an expression; empty if it is.

    Arguments:
        among: all formulas that stand together with it.
    """
    try:
        found, _ = reader_for(sp.Tuple(*among) if among else expr).display(tex)
    except Unreadable as failure:
        return f"it cannot be read: {failure}"
    return "" if alike(found, expr) else f"it says {unicode(found)}"


def formulas_of(entry: Claim | Definition) -> Iterator[tuple[str, sp.Basic]]:
    """Every formula that is shown by itself of a claim or a definition, with what it is."""
    if isinstance(entry, Definition):
        yield from (("definition", statement) for statement in statements_of(entry))
        return
    for part in entry.parts:
        yield part.name or "statement", part.statement
        yield from (("condition", condition) for condition in part.assuming)
        yield from (("step", link.expr) for link in part.by.steps())
    for variant in entry.wrong:
        yield f"false variant: {variant.text}", variant.statement


def faults_of(entry: Claim | Definition) -> Iterator[str]:
    """The formulas of an entry that do not print as what they state, with what they say instead."""
    for name, expr in formulas_of(entry):
        if fault := difference(expr, displayed(expr)):
            yield f"{entry.id} [{name}]: {fault}"
    for part in entry.parts if isinstance(entry, Claim) else ():
        for stage in DERIVATIONS.get((entry.id, part.name), ()):
            yield from _faults_of_lines(f"{entry.id} [{part.name}]", stage.expressions)


def _faults_of_lines(place: str, exprs: Sequence[sp.Basic]) -> Iterator[str]:
    """The lines of a derivation, which share what is said below them."""
    texts, below = together(exprs)
    for number, (expr, text) in enumerate(zip(exprs, texts, strict=True)):
        if fault := difference(expr, BREAK.join([text, *below]), exprs):
            yield f"{place}, line {number} of its derivation: {fault}"


class WrongFormula(Exception):
    """A formula does not print as what it states."""


def differences() -> list[str]:
    """A line for each formula of the catalogue that does not print as what it states."""
    entries: list[Claim | Definition] = [*DEFINITIONS.values(), *CLAIMS.values()]
    return [fault for entry in entries for fault in faults_of(entry)]

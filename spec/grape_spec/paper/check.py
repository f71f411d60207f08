"""Whether what is printed is what is stated: every formula of the catalogue is read back and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy as sp

from grape_spec.language.claims import Claim, Part, Stage, Wrong
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, DEFINITIONS, DERIVATIONS
from grape_spec.paper.alike import alike
from grape_spec.paper.cursor import Unreadable
from grape_spec.paper.layout import BREAK, displayed, inline, statements_of, together
from grape_spec.paper.reader import reader_for
from grape_spec.render import unicode

#: What SymPy raises at a formula that has no value, or whose value has no place in an order, or that has no end.
BREAKS_OFF = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, NotImplementedError)


def broken_off(failure: Exception) -> str:
    """In one line, why SymPy could not go on."""
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:150]}"


def difference(expr: sp.Basic, tex: str, assuming: Sequence[sp.Basic] = ()) -> str:
    """In which way LaTeX is not the formula for an expression and what it assumes; empty if it is."""
    fault, unused = _read(expr, tex, (expr, *assuming), assuming)
    return fault or (f"nothing speaks of {', '.join(sorted(unused))}" if unused else "")


def _read(
    expr: sp.Basic, tex: str, among: Sequence[sp.Basic], assuming: Sequence[sp.Basic] = ()
) -> tuple[str, set[str]]:
    """In which way LaTeX is not the formula for an expression, and what is said below it in vain.

    Arguments:
        among: all formulas that stand together with it.
    """
    reader = reader_for(sp.Tuple(*among))
    try:
        found, assumed = reader.display(tex)
    except Unreadable as failure:
        return f"it cannot be read: {failure}", set()
    if not alike(found, expr):
        return f"it says {unicode(found)}", set()
    if len(assumed) != len(assuming) or not all(map(alike, assumed, assuming)):
        return f"it assumes {', '.join(map(unicode, assumed)) or 'nothing'}", set()
    return "", reader.unused


def printed_of(entry: Claim | Definition) -> Iterator[tuple[str, sp.Basic, str, Sequence[sp.Basic]]]:
    """Every formula that is shown by itself of a claim or a definition: what it is, LaTeX, and what it assumes."""
    for name, expr in formulas_of(entry):
        yield name, expr, inline(expr) if name == "condition" else displayed(expr), ()
    if isinstance(entry, Definition):
        return
    stated: list[Part | Wrong] = [*entry.parts, *entry.wrong]
    for part in stated:
        name = part.name if isinstance(part, Part) else f"false variant: {part.text}"
        if part.assuming:
            tex = displayed(part.statement, part.assuming)
            yield f"{name}, with what it assumes".removeprefix(", "), part.statement, tex, part.assuming
    for own in entry.parts:
        for stage in DERIVATIONS.get((entry.id, own.name), ()):
            yield from (("depth of an induction", depth, inline(depth), ()) for depth in _depths(stage))


def _depths(stage: Stage) -> Iterator[sp.Expr]:
    return (depth for depth in (stage.depth, stage.given) if depth is not None)


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
    try:
        yield from _faults_of(entry)
    except BREAKS_OFF as failure:
        yield f"{entry.id}: a formula cannot be printed and read back: {broken_off(failure)}"


def _faults_of(entry: Claim | Definition) -> Iterator[str]:
    for name, expr, tex, assuming in printed_of(entry):
        if fault := difference(expr, tex, assuming):
            yield f"{entry.id} [{name}]: {fault}"
    for part in entry.parts if isinstance(entry, Claim) else ():
        for stage in DERIVATIONS.get((entry.id, part.name), ()):
            yield from _faults_of_lines(f"{entry.id} [{part.name}]", stage.expressions)


def _faults_of_lines(place: str, exprs: Sequence[sp.Basic]) -> Iterator[str]:
    """The lines of a derivation, which share what is said below them."""
    texts, below = together(exprs)
    unused: set[str] | None = None
    for number, (expr, text) in enumerate(zip(exprs, texts, strict=True)):
        fault, left = _read(expr, BREAK.join([text, *below]), exprs)
        unused = left if unused is None else unused & left
        if fault:
            yield f"{place}, line {number} of its derivation: {fault}"
    if unused:
        yield f"{place}: no line of its derivation speaks of {', '.join(sorted(unused))}"


class WrongFormula(Exception):
    """A formula does not print as what it states."""


def differences() -> list[str]:
    """A line for each formula of the catalogue that does not print as what it states."""
    entries: list[Claim | Definition] = [*DEFINITIONS.values(), *CLAIMS.values()]
    return [fault for entry in entries for fault in faults_of(entry)]

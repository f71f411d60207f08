"""Derivations for people: how a page shows them, what the ledger says of their lines, and what fails the build."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp
from grape_spec.language.claims import Claim, Line, Part, Stage
from grape_spec.language.registry import CLAIMS, DERIVATIONS
from grape_spec.paper.check import BREAKS_OFF, broken_off
from grape_spec.paper.layout import inline, together
from grape_spec.proof.examine import refute_line
from grape_spec.render import latex, unicode

from grape_verified.conformance.ledger import NOT_RUN, Ledger
from grape_verified.docs.markdown import displayed

#: The signs of lines in LaTeX.
_SIGNS = {"≤": r"\le", "≥": r"\ge"}


class BrokenDerivation(Exception):
    """Lines of derivations that do not follow from the lines before."""


def derivation(claim: Claim, part: Part, ledger: Ledger) -> str:
    """The derivation of a part, a row for each line: the relation, and the reason beside or below it."""
    stages = DERIVATIONS.get((claim.id, part.name), ())
    if not stages:
        return ""
    name = [f"**{part.name}**"] if part.name else []
    checked = f"Each line is checked against the line before: {verdict(claim, part, ledger)}."
    return "\n\n".join([*name, *map(_stage, stages), checked])


def _stage(stage: Stage) -> str:
    said = heading(stage, lambda expr: f"${inline(expr)}$")
    (start, *texts), below = together(stage.expressions)
    rows = [displayed(start), *map(_row, stage.lines, texts), *(f"${line}$" for line in below)]
    inside = "\n\n".join(rows)
    return (f"{said}\n\n" if said else "") + f'<div class="derivation" markdown>\n\n{inside}\n\n</div>'


def heading(stage: Stage, shown: Callable[[Any], str]) -> str:
    """What the lines of an induction begin with: the depth, and at which depth the statement is known."""
    if stage.depth is None:
        return ""
    if stage.given is None:
        return f"By induction, first at depth {shown(stage.depth)}:"
    return f"Then at depth {shown(stage.depth)}, where the statement holds at depth {shown(stage.given)}:"


def _row(line: Line, text: str) -> str:
    formula = displayed(f"{_SIGNS.get(line.sign, line.sign)} {text}")
    return f'<div class="derivation-line" markdown>\n\n{formula}\n\n{_in_markdown(line.reason)}\n\n</div>'


def _in_markdown(reason: str) -> str:
    """The words of a reason, with what follows an underscore as an index, as in π_ref, and the asterisk of π* kept."""
    return re.sub(r"_(\w+)", r"<sub>\1</sub>", reason.replace("*", r"\*"))


def verdict(claim: Claim, part: Part, ledger: Ledger) -> str:
    """What the ledger says of the lines of a derivation as it is written today."""
    records = ledger.derivation(claim, part)
    if not records:
        return NOT_RUN
    return f"{sum(record.status == 'proved' for record in records)} of {len(records)} proved"


def as_dict(claim: Claim, part: Part) -> dict[str, Any]:
    """The derivation of a part as data, from the left side on; empty if it has none."""
    shown = [
        {"from": unicode(stage.start), "heading": heading(stage, unicode), "lines": [*map(_line_as_dict, stage.lines)]}
        for stage in DERIVATIONS.get((claim.id, part.name), ())
    ]
    return {"part": part.name, "stages": shown} if shown else {}


def _line_as_dict(line: Line) -> dict[str, str]:
    return {"sign": line.sign, "expression": unicode(line.expr), "latex": latex(line.expr), "reason": line.reason}


def faults(ledger: Ledger) -> Iterator[str]:
    """What is wrong with derivations: lines that the ledger has as not proved; where it has none, those refuted now."""
    for (id, name), stages in DERIVATIONS.items():
        part = next(part for part in CLAIMS[id].parts if part.name == name)
        records = ledger.derivation(CLAIMS[id], part)
        steps = [step for stage in stages for step in stage.steps()]
        for number, (before, line) in enumerate(steps, 1):
            if wrong := _fault(part, before, line, records[number - 1].status if records else NOT_RUN):
                where = f"{id} [{name}]" if name else id
                yield f"{where}: line {number} of its derivation {wrong}: {line.reason}"


def _fault(part: Part, before: sp.Expr, line: Line, status: str) -> str:
    """What is wrong with a line, by its record, or where there is none by a search; empty if nothing is."""
    try:
        refuted = refute_line(part, before, line).refuted if status == NOT_RUN else status != "proved"
    except BREAKS_OFF as failure:
        return f"cannot be checked, {broken_off(failure)}"
    return "does not follow" if refuted else ""

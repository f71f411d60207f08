"""Derivations for people: how a page shows them, what the ledger says of their lines, and what fails the build."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grape_spec.language.claims import Claim, Line, Part
from grape_spec.language.registry import CLAIMS, DERIVATIONS
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
    lines = DERIVATIONS.get((claim.id, part.name))
    if lines is None:
        return ""
    name = [f"**{part.name}**"] if part.name else []
    left = displayed(latex(part.statement.args[0]))
    rows = "\n\n".join(map(_row, lines))
    shown = f'<div class="derivation" markdown>\n\n{left}\n\n{rows}\n\n</div>'
    return "\n\n".join([*name, shown, f"Each line is checked against the line before: {verdict(claim, part, ledger)}."])


def _row(line: Line) -> str:
    formula = displayed(f"{_SIGNS.get(line.sign, line.sign)} {latex(line.expr)}")
    return f'<div class="derivation-line" markdown>\n\n{formula}\n\n{line.reason}\n\n</div>'


def verdict(claim: Claim, part: Part, ledger: Ledger) -> str:
    """What the ledger says of the lines of a derivation as it is written today."""
    records = ledger.derivation(claim, part)
    if not records:
        return NOT_RUN
    return f"{sum(record.status == 'proved' for record in records)} of {len(records)} proved"


def as_dict(claim: Claim, part: Part) -> dict[str, Any]:
    """The derivation of a part as data, from the left side on; empty if it has none."""
    lines = DERIVATIONS.get((claim.id, part.name), ())
    shown = [
        {"sign": line.sign, "expression": unicode(line.expr), "latex": latex(line.expr), "reason": line.reason}
        for line in lines
    ]
    return {"part": part.name, "from": unicode(part.statement.args[0]), "lines": shown} if shown else {}


def faults(ledger: Ledger) -> Iterator[str]:
    """What is wrong with derivations: lines that the ledger has as not proved; where it has none, those refuted now."""
    for (id, name), lines in DERIVATIONS.items():
        claim = CLAIMS[id]
        part = next(part for part in claim.parts if part.name == name)
        records = ledger.derivation(claim, part)
        before = part.statement.args[0]
        for number, line in enumerate(lines, 1):
            status = records[number - 1].status if records else NOT_RUN
            if status not in ("proved", NOT_RUN) or (status == NOT_RUN and refute_line(part, before, line).refuted):
                where = f"{id} [{name}]" if name else id
                yield f"{where}: line {number} of its derivation does not follow: {line.reason}"
            before = line.expr

"""Pieces of Markdown that every page is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from typing import Any

from grape_spec.language.claims import Claim
from grape_spec.language.registry import CLAIMS, RETIRED
from grape_spec.proof.rules import GENERAL

from grape_verified.conformance.ledger import FULLY_PROVED, Ledger
from grape_verified.conformance.subjects import subject_of
from grape_verified.docs.graph import status_class
from grape_verified.docs.reference import page_of


def address_of(id: str) -> str:
    """The permanent address of a claim or a definition, from the root of the site."""
    return f"claims/{id}/" if id in CLAIMS or id in RETIRED else f"definitions/{subject_of(id)}/#{id}"


def link(id: str) -> str:
    """A Markdown link to a claim or a definition, from any page in a folder, as all pages with links are."""
    page = f"../claims/{id}.md" if id in CLAIMS else f"../definitions/{subject_of(id)}.md#{id}"
    return f"[`{id}`]({page})"


def links(ids: Iterable[str]) -> str:
    """Links with commas between them."""
    return ", ".join(map(link, ids))


def reference_link(name: str) -> str:
    """A Markdown link to a public name in the reference, from any page in a folder."""
    return f"[`{name}`](../reference/{page_of(name)}.md#grape_verified.{name})"


def status_mark(status: str) -> str:
    """A status with the CSS class of its colour."""
    return f'<span class="status {status_class(status)}">{status}</span>'


def standing(claim: Claim, ledger: Ledger) -> str:
    """The status of a claim, and whether some parts are proved at chosen sizes only."""
    record, status = ledger.of(claim), ledger.status(claim)
    in_part = status == FULLY_PROVED and record is not None and record.scope != (GENERAL,)
    return status_mark(status) + (" with parts at chosen sizes" if in_part else "")


def recorded(ledger: Ledger) -> str:
    """When the evidence was recorded."""
    return f"Recorded {at(ledger.created)}." if ledger.created else "The ledger has no run of `verify`."


def at(created: str) -> str:
    """A date and time for a reader, to the minute."""
    return f"{created[:10]}, {created[11:16]} UTC" if created else "at an unknown time"


def displayed(formula: str) -> str:
    """A formula on lines of its own."""
    return f"$$\n{formula}\n$$"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, with bars escaped, as LaTeX in formulas and as entities in text."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(text: str) -> str:
    pieces = re.split(r"(\$[^$]*\$)", " ".join(text.split()))
    return "".join(p.replace("|", r"\vert " if p.startswith("$") else "&#124;") for p in pieces)


def numbered(formula: str) -> str:
    """A formula on lines of its own; the build gives it its number on the page."""
    return f'<div class="equation" markdown>\n\n{displayed(formula)}\n\n</div>'


def folded(title: str, sections: Iterable[str], *, anchor: str = "", unfolded: bool = False) -> str:
    """A piece of a page that is shown on demand."""
    marks = (f' id="{anchor}"' if anchor else "") + (" open" if unfolded else "")
    inside = "\n\n".join(section for section in sections if section)
    return f"<details{marks} markdown>\n<summary>{title}</summary>\n\n{inside}\n\n</details>"


def statements(parts: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The statements of parts with what they assume, each under the names of all parts that state it."""
    names: dict[tuple[str, ...], list[str]] = {}
    for part in parts:
        names.setdefault((part["statement_latex"], *part["assuming_latex"]), []).append(part["name"])
    for (statement, *assuming), named in names.items():
        lines = [", ".join(f"**{name}**" for name in named)] if any(named) else []
        lines.append(numbered(statement))
        if assuming:
            lines.append("assuming " + ", ".join(f"${condition}$" for condition in assuming))
        yield "\n\n".join(lines)


def symbols_table(symbols: Iterable[dict[str, str]]) -> str:
    """Symbols with their domains and meanings, a row for all that are written alike."""
    rows: dict[str, list[dict[str, str]]] = {}
    for symbol in symbols:
        rows.setdefault(symbol["indexed"], []).append(symbol)
    return table(("symbol", "name", "domain", "meaning"), starmap(_row_of_symbols, rows.items()))


def _row_of_symbols(latex: str, symbols: Sequence[dict[str, str]]) -> tuple[str, ...]:
    domains = dict.fromkeys(symbol["domain"] for symbol in symbols)
    names, texts = (f"`{s['name']}`" for s in symbols), (symbol["text"] for symbol in symbols)
    return f"${latex}$", ", ".join(names), "; ".join(domains), "; ".join(texts)


def convention_mark(is_convention: bool) -> str:
    """The mark of a convention."""
    return " *A convention.*" if is_convention else ""


def page(title: str, description: str, sections: Iterable[str], hide: str = "", **metadata: Any) -> str:
    """A page of Markdown; `hide` names parts of the theme to leave out, `metadata` is for the head of the page."""
    head = {"title": title, "description": description, **metadata}
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    lines += [f"hide: [{hide}]"] if hide else []
    return "\n\n".join(["\n".join(["---", *lines, "---\n"]), *(section for section in sections if section)]) + "\n"

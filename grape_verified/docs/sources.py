"""Where the claims and definitions of a chapter come from: work, section or equation, and whether it was compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.language.sources import DERIVED, Source
from grape_spec.references import plain

from grape_verified.docs.markdown import links, table

#: A claim or a definition on a page: in a box, or linked.
_NAMED = re.compile(r"(?:claims?/|definition/|definitions/\w+\.md#)(\w+(?:\.\w+)+?)(?:\.md)?[\")]")


def snippet(chapter: str) -> str:
    """The sources of what a chapter names, each with what it gives."""
    given: dict[Source, list[str]] = {}
    for id in dict.fromkeys(_NAMED.findall(chapter)):
        source = (CLAIMS.get(id) or DEFINITIONS[id]).source
        if source != DERIVED:
            given.setdefault(source, []).append(id)
    return table(("work", "where", "gives", "compared"), _rows(given)) + "\n"


def _rows(given: dict[Source, list[str]]) -> Iterator[tuple[str, str, str, str]]:
    """A row for each place in a work, with the work in the first of them."""
    before = ""
    for source in sorted(given, key=lambda source: (_work(source), source.place)):
        work = _work(source)
        yield "" if work == before else work, source.place, links(given[source]), "yes" if source.checked else "no"
        before = work


def _work(source: Source) -> str:
    return plain(replace(source, place="", checked=True))

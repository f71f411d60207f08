"""Where the claims and definitions of a chapter come from: work, section or equation, and whether it was compared."""

from __future__ import annotations

import re

from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.language.sources import DERIVED
from grape_spec.references import plain

from grape_verified.docs.markdown import links, table

#: A claim or a definition on a page: in a box, or linked.
_NAMED = re.compile(r"(?:claims?/|definition/|definitions/\w+\.md#)(\w+(?:\.\w+)+?)(?:\.md)?[\")]")


def snippet(chapter: str) -> str:
    """The sources of what a chapter names, each with what it gives."""
    given: dict[str, list[str]] = {}
    for id in dict.fromkeys(_NAMED.findall(chapter)):
        source = (CLAIMS.get(id) or DEFINITIONS[id]).source
        if source != DERIVED:
            given.setdefault(plain(source), []).append(id)
    rows = ((work, links(ids)) for work, ids in sorted(given.items()))
    return table(("work", "gives"), rows) + "\n"

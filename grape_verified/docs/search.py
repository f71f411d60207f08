"""The index of the search: without what nobody looks for, and with other names and spellings of what is there."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grape_verified.conformance.subjects import SUBJECTS
from grape_verified.docs.markdown import address_of
from grape_verified.docs.synonyms import ALSO_CALLED

#: Sections of the page of a claim that repeat what is found elsewhere, or that nobody looks for.
UNSEARCHED = (
    "symbols",
    "definitions",
    "assumptions",
    "proof",
    "evidence",
    "in-coq",
    "what-it-uses-and-what-uses-it",
    "implementation",
    "conventions-across-libraries",
    "source",
    "cite-this",
)

#: Pages that only list what has a page of its own: they are found by their titles.
LISTS = ("claims/", "graph/", "definitions/symbols/")

#: What the texts of the index are left without: blocks of code, formulas on lines of their own, and long decimals.
#: Nobody looks for these, and of many words of digits the search may make one that no page has, and break off there.
_LEFT_OUT = re.compile(r"<pre>.*?</pre>|\\\[.*?\\\]|\d*\.\d{6,}(?:e[+-]?\d+)?", re.DOTALL)

#: Spellings that differ in American English; the pages are written in British English.
_AMERICAN = (
    (re.compile(r"is(e[drs]?|ers|ing|ations?)\b"), r"iz\1"),
    (re.compile(r"centred\b"), "centered"),
    (re.compile(r"(behavi|neighb|fav)our"), r"\1or"),
)

#: The places of chapters, and of what has an id or a name, with a factor for each kind: a chapter is where to begin,
#: and definitions and functions make up for being sections, which the theme ranks below pages.
_NAMED = re.compile(r"(?P<page>claims|chapters)/[^/#]+/|(?P<section>definitions|reference)/\w+/#.+")
_FACTORS = {"claims": 1.0, "chapters": 1.4, "definitions": 2.5, "reference": 2.5}

#: A symptom, whose title is what a reader types: it comes before the ids that have a word of it.
_SYMPTOM, _AS_TYPED = "symptoms/#", 5.0

#: Two fields that the search looks into without showing them, beside title and text; a title counts 1000.
_FIELDS = {"names": {"boost": 300.0}, "spellings": {"boost": 1.0}}


def refine(file: Path) -> None:
    """Rewrite the search index of a built site."""
    index = json.loads(file.read_text(encoding="utf-8"))
    text = json.dumps(refined(index, _names()), ensure_ascii=False, separators=(",", ":"))
    file.write_text(text, encoding="utf-8")


def _names() -> dict[str, list[str]]:
    """The other names of what is at an address."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, names in ALSO_CALLED.items():
        found[f"chapters/{SUBJECTS[key].chapter}/" if key in SUBJECTS else address_of(key)] += names
    return found


def refined(index: dict[str, Any], names: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """The index that mkdocs has written, with other names by address, and without code and displayed formulas."""
    config = {**index["config"], "fields": {**index["config"]["fields"], **_FIELDS}}
    return {"config": config, "docs": [_entry(entry, names) for entry in index["docs"] if _searched(entry["location"])]}


def _searched(location: str) -> bool:
    page, _, section = location.partition("#")
    return not ((section and page in LISTS) or (page.startswith("claims/") and section in UNSEARCHED))


def _entry(entry: dict[str, Any], names: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    location, title = entry["location"], entry["title"]
    text = "" if location in LISTS else " ".join(_LEFT_OUT.sub("", entry["text"]).split())
    also = names.get(location, ())
    added = {
        "names": "; ".join([*also, *_american(f"{title} {also}")]),
        "spellings": " ".join(_american(text)),
        "boost": _boost(location, title),
    }
    return {**entry, "text": text, **{field: found for field, found in added.items() if found}}


def _boost(location: str, title: str) -> float | None:
    """What an id gains: the shorter of two ids that match comes first, so that every id leads to what bears it."""
    if location.startswith(_SYMPTOM):
        return _AS_TYPED
    named = _NAMED.fullmatch(location)
    if named is None:
        return None
    words = len(re.findall(r"[^\W_A-Z]+|[A-Z]+[^\W_A-Z]*", re.sub("<.*?>", "", title)))  # LossOutput has two
    return round(_FACTORS[named["page"] or named["section"]] * (1 + 1 / words), 3)


def _american(text: str) -> list[str]:
    """The words that American English spells otherwise, in that spelling."""
    return sorted({american for word in re.findall(r"\w+", text) if (american := _respelt(word)) != word})


def _respelt(word: str) -> str:
    for british, american in _AMERICAN:
        word = british.sub(american, word)
    return word

"""The graph of all claims: which rests on which, and what is proved, certified and measured of each.

A column holds whole subjects, to the right of the subjects whose claims they use. Within a subject the claims are in
the order of the spec, each indented by its depth among the claims of its own subject that it uses.
"""

from collections import Counter
from collections.abc import Mapping
from graphlib import TopologicalSorter
from html import escape
from typing import NamedTuple

from grape_spec.language.registry import CLAIMS

from grape_verified.conformance.subjects import subject_of
from grape_verified.docs.verdicts import Verdicts

#: Every status of a claim, and its sign for readers who do not see colours.
STATUSES = {
    "fully proved": "●",
    "proved": "◐",
    "proved at chosen sizes only": "◔",
    "unknown": "?",
    "refuted": "✕",
    "not run": "○",
}

#: The signs of what Coq says, and of what was measured of the kernels.
COQ = {"certified": "✓", "not certified": "–", "not run": "○"}
KERNELS = {"measured": "≈", "rejected": "✕", "not run": "○", "no kernel": "·"}

#: The words for each of the verdicts on a claim, with the head of their line in the legend.
_WORDS = (("proof", STATUSES), ("Coq", COQ), ("kernels", KERNELS))

#: In pixels: the left margin, a column and the gap beside it, a row and the box in it, a step inwards, the first row.
_MARGIN, _COLUMN, _GAP, _ROW, _BOX, _INDENT, _TOP = 30, 246, 60, 25, 20, 14, 114


class Place(NamedTuple):
    """The place of a claim: the upper left corner of its box, and its column."""

    x: float
    y: float
    column: int


def claim_graph(found: Mapping[str, Verdicts]) -> str:
    """The SVG of all claims and their uses; each claim links to its page and has the class of its status.

    Raises: ValueError for an unknown verdict, and if the ids are not those of all claims.
    """
    _check(found)
    heads, places = layout()
    width = max(place.column for place in places.values()) * (_COLUMN + _GAP) + _COLUMN + 2 * _MARGIN
    height = max(place.y for place in places.values()) + _ROW + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="claim-graph" viewBox="0 0 {width} {height:g}" width="100%" '
        'role="group" aria-labelledby="claim-graph-title claim-graph-desc">',
        '<title id="claim-graph-title">All claims and what they use</title>',
        '<desc id="claim-graph-desc">Each box is a claim; a curve runs from a claim to each claim that uses it.</desc>',
        *_legend(found),
        *(_edge(use, id, places) for id, claim in CLAIMS.items() for use in claim.uses),
        *(f'<text class="subject" x="{x:g}" y="{y:g}">{escape(subject)}</text>' for subject, (x, y) in heads.items()),
        *(_node(id, found[id], places[id]) for id in CLAIMS),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def depths() -> dict[str, int]:
    """The length of the longest chain of uses below each claim within its own subject."""
    found: dict[str, int] = {}
    for id, claim in CLAIMS.items():
        found[id] = max((found[use] + 1 for use in claim.uses if subject_of(use) == subject_of(id)), default=0)
    return found


def columns() -> dict[str, int]:
    """The column of each subject: to the right of all that it uses; an unused one goes where there is most room."""
    below: dict[str, set[str]] = {subject_of(id): set() for id in CLAIMS}
    for id, claim in CLAIMS.items():
        below[subject_of(id)] |= {subject_of(use) for use in claim.uses} - {subject_of(id)}
    sizes = Counter(subject_of(id) for id in CLAIMS)
    used = set().union(*below.values())
    placed: dict[str, int] = {}
    for subject in TopologicalSorter(below).static_order():
        if subject in used:
            placed[subject] = _after(below[subject], placed)
    last = max(_after(uses, placed) for uses in below.values())
    rows = [sum(sizes[s] + 2 for s, place in placed.items() if place == column) for column in range(last + 1)]
    for subject in sorted(below.keys() - used, key=lambda s: (-_after(below[s], placed), -sizes[s], s)):
        column = min(range(_after(below[subject], placed), last + 1), key=lambda c: rows[c])
        placed[subject] = column
        rows[column] += sizes[subject] + 2
    return {subject: placed[subject] for subject in below}


def layout() -> tuple[dict[str, tuple[float, float]], dict[str, Place]]:
    """The places of the subjects' names and of the claims."""
    within, filled = depths(), Counter[int]()
    heads: dict[str, tuple[float, float]] = {}
    places: dict[str, Place] = {}
    for subject, column in sorted(columns().items(), key=lambda pair: pair[1]):
        left = float(_MARGIN) + column * (_COLUMN + _GAP)
        heads[subject] = (left, _TOP + filled[column] * _ROW + 20.0)
        filled[column] += 1
        for id in (id for id in CLAIMS if subject_of(id) == subject):
            places[id] = Place(left + _INDENT * within[id], _TOP + filled[column] * _ROW + 4.0, column)
            filled[column] += 1
        filled[column] += 1
    return heads, places


def _after(uses: set[str], placed: Mapping[str, int]) -> int:
    return max((placed[use] + 1 for use in uses), default=0)


def _check(found: Mapping[str, Verdicts]) -> None:
    for id, verdicts in found.items():
        for word, (head, signs) in zip(verdicts, _WORDS, strict=True):
            if word not in signs:
                raise ValueError(f"found: {head}: got {word!r} for {id}, expected one of {', '.join(signs)}")
    if odd := found.keys() ^ CLAIMS.keys():
        raise ValueError(f"found: got extra or missing ids {sorted(odd)}, expected verdicts on each claim")


def status_class(status: str) -> str:
    """The CSS class of a status."""
    return f"status-{status.replace(' ', '-')}"


def _legend(found: Mapping[str, Verdicts]) -> list[str]:
    """The signs with their meanings and counts: a line for each kind of verdict."""
    entries = []
    for row, (head, signs) in enumerate(_WORDS):
        counts, left, y = Counter(verdicts[row] for verdicts in found.values()), _MARGIN + 60.0, 10 + row * _ROW
        entries.append(f'<text class="kind" x="{_MARGIN}" y="{y + 14.5:g}">{head}</text>')
        for word, sign in signs.items():
            text = f"{word}: {counts[word]}"
            box = f'<rect x="{left:g}" y="{y}" width="{_BOX}" height="{_BOX}" rx="4"/>' if signs is STATUSES else ""
            entries.append(
                f'<g class="legend {status_class(word) if box else "word"}">{box}'
                f'<text class="sign" x="{left + _BOX / 2:g}" y="{y + 14.5:g}">{sign}</text>'
                f'<text x="{left + _BOX + 7:g}" y="{y + 14.5:g}">{text}</text></g>'
            )
            left += _BOX + 30 + 7.4 * len(text)
    return entries


def _node(id: str, verdicts: Verdicts, place: Place) -> str:
    """A box with the sign of the status, the id without its subject, and at its end the signs of the other verdicts."""
    width = _COLUMN - (place.x - _MARGIN) % (_COLUMN + _GAP)
    middle, end = place.y + 14.5, place.x + width
    told = "; ".join(f"{head}: {word}" for word, (head, _) in zip(verdicts, _WORDS, strict=True))
    return (
        f'<a id="claim-graph-{id}" href="../claims/{id}/" class="{status_class(verdicts.status)}">'
        f"<title>{id}: {told}</title>"
        f'<rect x="{place.x:g}" y="{place.y:g}" width="{width:g}" height="{_BOX}" rx="4"/>'
        f'<text class="sign" x="{place.x + 11:g}" y="{middle:g}">{STATUSES[verdicts.status]}</text>'
        f'<text x="{place.x + 22:g}" y="{middle:g}">{escape(id.partition(".")[2])}</text>'
        f'<text class="sign" x="{end - 26:g}" y="{middle:g}">{COQ[verdicts.coq]}</text>'
        f'<text class="sign" x="{end - 11:g}" y="{middle:g}">{KERNELS[verdicts.kernels]}</text></a>'
    )


def _edge(use: str, id: str, places: Mapping[str, Place]) -> str:
    """A curve from a claim to one that uses it: to the right, or within a column along its left side."""
    start, end = places[use], places[id]
    y, to = start.y + _BOX / 2, end.y + _BOX / 2
    if start.column == end.column:
        out = min(start.x, end.x) - 12 - min(14, abs(to - y) / 12)
        path = f"M{start.x:g} {y:g}C{out:g} {y:g} {out:g} {to:g} {end.x:g} {to:g}"
    else:
        left = _MARGIN + start.column * (_COLUMN + _GAP) + _COLUMN
        bend = left + (end.x - left) / 2
        path = f"M{left:g} {y:g}C{bend:g} {y:g} {bend:g} {to:g} {end.x:g} {to:g}"
    return f'<path class="use" data-from="{use}" data-to="{id}" d="{path}"/>'

"""About how wide LaTeX is when it is set, which decides where a formula is broken; a browser has the last word."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\\[A-Za-z]+|\\.|[{}]|.")
_ENVIRONMENT = re.compile(r"\\(begin|end)\{\w+\}|(?<=\\\\)\[\dpt\]")
_BRACE = 0.9
_WORDS = re.compile(r"\\text\{[^{}]*\}")
_WIDE = {
    r"\sum": 1.5, r"\prod": 1.4, r"\log": 1.65, r"\exp": 1.6, r"\min": 1.9, r"\max": 2.0, r"\partial": 0.6,
    r"\mathrm": 0.0, r"\operatorname": 0.2, r"\left": 0.25, r"\right": 0.25, r"\text": 0.0, r"\quad": 1.0, r"\ ": 0.25,
    r"\bar": 0.0, r"\hat": 0.0, r"\tilde": 0.0, r"\overline": 0.0, r"\cdot": 0.7, r"\le": 1.3, r"\ge": 1.3,
    r"\ne": 1.3, r"\implies": 2.4, r"\iff": 2.4, r"\mapsto": 1.5, r"\binom": 0.6, r"\sqrt": 0.85,
    r"\mathcal": 0.0, r"\lvert": 0.28, r"\rvert": 0.28, r"\,": 0.17, r"\Bigl": 0.2, r"\Bigr": 0.2,
    r"\Biggl": 0.4, r"\Biggr": 0.4,
}  # fmt: skip
_SIGNS = {
    "=": 1.3, "<": 1.3, ">": 1.3, "+": 1.2, "-": 1.2, " ": 0.0, "(": 0.4, ")": 0.4, ",": 0.45, "|": 0.28, "&": 1.0,
    "~": 0.33,
}  # fmt: skip


def width(tex: str) -> float:
    """About how wide LaTeX is, in em; of several lines the widest counts."""
    tex = tex.replace(r"\begin{aligned}", "{").replace(r"\end{aligned}", "}")
    spaced = _WORDS.sub(lambda words: words[0].replace(" ", "~"), tex)
    return _row(_PIECE.findall(_ENVIRONMENT.sub(r"\\\1 ", spaced)), 0)[0]


def _row(pieces: list[str], place: int) -> tuple[float, int]:
    """The width of pieces up to a closing brace or the end of an environment, and the place after it."""
    widest = total = 0.0
    while place < len(pieces):
        piece = pieces[place]
        place += 1
        if piece in ("}", r"\end"):
            break
        if piece in ("{", r"\begin"):
            inner, place = _row(pieces, place)
            total += inner + (_BRACE if piece == r"\begin" else 0.0)
        elif piece in ("_", "^"):
            inner, place = _argument(pieces, place)
            total += 0.7 * inner
        elif piece in (r"\frac", r"\binom"):
            above, place = _argument(pieces, place)
            below, place = _argument(pieces, place)
            total += max(above, below) + 0.25
        elif piece == r"\\":
            widest, total = max(widest, total), 0.0
        elif piece.startswith("\\"):
            total += _WIDE.get(piece, 0.6)
        else:
            total += _of_a_sign(piece)
    return max(widest, total), place


def _argument(pieces: list[str], place: int) -> tuple[float, int]:
    while place < len(pieces) and pieces[place] == " ":
        place += 1
    if place < len(pieces) and pieces[place] == "{":
        return _row(pieces, place + 1)
    piece = pieces[place] if place < len(pieces) else ""
    return _WIDE.get(piece, _of_a_sign(piece)), place + 1


def _of_a_sign(piece: str) -> float:
    return _SIGNS.get(piece, 0.76 if piece.isupper() else 0.52)

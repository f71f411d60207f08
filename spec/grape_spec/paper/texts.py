"""Pieces of LaTeX: how tightly they bind, brackets, indices and names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import sympy as sp

from grape_spec.language.symbols import DECLARATIONS

# How tightly the outermost sign of a text binds, from a relation to a single sign.
RELATION, ADD, BIG, MUL, PREFIX, FRACTION, POWER, ATOM = range(8)


#: How a value at a point begins: its bar reaches back to here, which is not seen.
BAR = r"\left."

#: The end of cases: what follows could belong to the last of them.
CASES_END = r" \end{cases}"


class Text(NamedTuple):
    """LaTeX and how tightly its outermost sign binds."""

    tex: str
    level: int


def with_slash(tex: str) -> str:
    """A plain fraction as it stands within the brackets of an argument."""
    return re.sub(r"^\\frac\{([^{} ]*)\}\{([^{} ]*)\}$", r"\1 / \2", tex)


def within_brackets(tex: str) -> str | None:
    """What is in the brackets, if they enclose the whole."""
    if not (tex.startswith("(") and tex.endswith(")")):
        return None
    depth = 0
    for place, sign in enumerate(tex):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and place < len(tex) - 1:
            return None
    return tex[1:-1]


def with_tilde(tex: str) -> str:
    """A symbol that stands for the same quantity at other arguments."""
    found = re.fullmatch(r"(?P<base>\\[a-z]+(?: [A-Za-z])?|[A-Za-z])(?P<rest>.*)", tex)
    return rf"\tilde{{{found['base']}}}{found['rest']}" if found else rf"\tilde{{{tex}}}"


def powers(names: list[str]) -> Iterator[str]:
    """Equal neighbours as a power."""
    position = 0
    while position < len(names):
        count = 1
        while position + count < len(names) and names[position + count] == names[position]:
            count += 1
        yield names[position] + (f"^{{{count}}}" if count > 1 else "")
        position += count


def side_by_side(pieces: list[str]) -> str:
    """Factors with a dot between two numbers, where they would run together."""
    joined = pieces[0]
    for before, piece in pairwise(pieces):
        dot = r" \cdot " if before[-1:].isdigit() and piece[:1].isdigit() else " "
        if piece.startswith(("(", r"\left(")):
            dot = r" \, "  # not what is before it, applied to what is in the brackets
        joined += dot + piece
    return joined


def bracketed(tex: str) -> str:
    """In round brackets that are as high as what is in them."""
    return rf"\left({tex}\right)" if is_tall(tex) else f"({tex})"


def is_tall(tex: str) -> bool:
    return any(sign in tex for sign in (r"\frac", r"\sum", r"\prod", r"\left", r"\begin"))


def with_high_brackets(template: str, filled: str) -> str:
    """The brackets that a template ends with, as high as what was put between them."""
    if not template.endswith(")") or r"\left" in template:
        return filled
    depth = 0
    for place in range(len(filled) - 1, -1, -1):
        depth += (filled[place] == ")") - (filled[place] == "(")
        if depth == 0:
            return rf"{filled[:place]}\left({filled[place + 1 : -1]}\right)"
    return filled


def spelled(id: str) -> str:
    """The name of a definition without a symbol."""
    words = id.partition(".")[2].replace("_", r"\ ")
    return rf"\mathrm{{{words}}}"


def subscripted(tex: str, index: str) -> str:
    """A symbol with an index, which joins a subscript that the symbol has already."""
    own = re.fullmatch(r"(?P<base>[^_]+)_(?:\{(?P<long>.+)\}|(?P<short>\w))", tex)
    return f"{own['base']}_{{{own['long'] or own['short']},{index}}}" if own else f"{tex}_{{{index}}}"


def of_a_fresh_name(name: str) -> str:
    """A bound variable that was renamed: the LaTeX of the one that it was made from, with primes."""
    stem = name.rstrip("′")
    for thing, entry in DECLARATIONS.items():
        if entry.name == stem and isinstance(thing, sp.Symbol | sp.IndexedBase):
            return entry.tex + "'" * (len(name) - len(stem))
    return name


#: What counts as one sign when LaTeX is looked at from outside: an argument in braces, then anything within delimiters.
_GROUPS = (
    (re.compile(r"\{[^{}]*\}"), "#"),
    (re.compile(r"\\left\((?:(?!\\left\(|\\right\)).)*\\right\)"), "@"),
    (re.compile(r"\([^()]*\)|\\Vert (?:(?!\\Vert).)*\\Vert"), "@"),
)
_ONE_PIECE = re.compile(r"(?:\\(?:bar|hat|tilde) \w|\\[A-Za-z]+|\w|@)#*(?P<scripts>(?:[_^](?:#|\w|\*)|')*)@?")


def template_level(text: str) -> int:
    """How tightly declared LaTeX binds: as one sign, a power, a logarithm, or several factors side by side."""
    if text.startswith(r"\log "):
        return PREFIX
    for group, sign in _GROUPS:
        while (shorter := group.sub(sign, text)) != text:
            text = shorter
    found = _ONE_PIECE.fullmatch(text)
    if found is None:
        return ADD if re.search(r"[+-]", text) else MUL
    return POWER if re.search(r"[\^']", found["scripts"]) else ATOM

"""Conventions on which trainers differ: who does what, and in which release and symbol that was read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

from grape_verified.docs.markdown import table

_FACTS = tomllib.loads(files("grape_verified.docs").joinpath("conventions.toml").read_text(encoding="utf-8"))

#: The releases that were read.
READ: dict[str, str] = _FACTS["read"]

#: Within a name in code, where a line may end.
_BREAK = re.compile(r'(?<=[_/])|(?<=[.=])(?=[A-Za-z_"])')

#: In a row about this package, in place of a library.
HERE = "here"


class Practice(NamedTuple):
    """What a library does, and the symbol, or the file, of its release in which that was read."""

    library: str
    does: str
    where: str


class Convention(NamedTuple):
    """A choice that the mathematics leaves open: ours, those of others, and the ids that it affects."""

    family: str
    name: str
    here: str
    about: tuple[str, ...]
    others: tuple[Practice, ...]


class Penalty(NamedTuple):
    """How a trainer holds a policy near its reference: which estimate, where, multiplied by what."""

    library: str
    setting: str
    estimate: str
    place: str
    ratio: str
    besides: str
    where: str

    @property
    def term(self) -> str:
        """The estimate, what multiplies it, and where it goes."""
        return f"{self.estimate}{'' if self.ratio == 'nothing' else f' times {self.ratio}'}, in the {self.place}"

    @property
    def direction(self) -> str:
        """The divergence that gradient descent follows, in expectation."""
        return DIRECTIONS[self.estimate, self.place, self.ratio]


#: What a penalty descends: the estimate, its place, what multiplies it. Samples are from the policy, or, where a
#: ratio multiplies it, from the old policy. A test computes each of them.
DIRECTIONS = {
    ("k1", "loss", "nothing"): "nothing",
    ("k2", "loss", "nothing"): "reverse KL",
    ("k3", "loss", "nothing"): "forward KL",
    ("k3 with the slope of k2", "loss", "nothing"): "reverse KL",
    ("k3", "loss", "the ratio of the token"): "reverse KL",
    ("k3", "loss", "the mean ratio of the sequence"): "neither",
    ("k1", "reward", "nothing"): "reverse KL",
}

CONVENTIONS = tuple(
    Convention(**{**entry, "about": tuple(entry["about"]), "others": tuple(Practice(**p) for p in entry["others"])})
    for entry in _FACTS["convention"]
)
FAMILIES = tuple(dict.fromkeys(convention.family for convention in CONVENTIONS))
PENALTIES = tuple(Penalty(**entry) for entry in _FACTS["kl_penalty"])

#: The definitions and claims whose pages show the penalties.
ABOUT_PENALTIES: frozenset[str] = frozenset(_FACTS["about_kl_penalties"])


def conventions_about(ids: Iterable[str]) -> list[Convention]:
    """The conventions that affect any of these definitions or claims."""
    wanted = set(ids)
    return [convention for convention in CONVENTIONS if wanted.intersection(convention.about)]


def family(name: str) -> str:
    """The conventions of a family, as a chapter shows them."""
    return comparison([convention for convention in CONVENTIONS if convention.family == name]) + "\n"


def comparison(conventions: Sequence[Convention]) -> str:
    """A table of conventions: here, and in each release that was compared."""
    rows = [row for convention in conventions for row in _rows(convention)]
    compared = table(("convention", "library", "behaviour", "read in"), rows)
    return f"{compared}\n\nA library that a convention does not name was not compared."


def _rows(convention: Convention) -> Iterator[tuple[str, str, str, str]]:
    yield f"**{convention.name}**", HERE, _breakable(convention.here), ""
    for practice in convention.others:
        yield "", READ[practice.library], _breakable(practice.does), _symbol(practice.where)


def penalties() -> str:
    """The penalties for leaving the reference, trainer by trainer."""
    rows = (
        (
            READ.get(penalty.library, HERE),
            _breakable(penalty.setting),
            penalty.term,
            penalty.direction,
            penalty.besides,
            _symbol(penalty.where),
        )
        for penalty in PENALTIES
    )
    return table(("library", "setting", "penalty", "descends", "notes", "read in"), rows) + "\n"


def _symbol(where: str) -> str:
    """A symbol, by the last two of its names; a file, by its path."""
    return _breakable(f"`{where}`" if "/" in where else f"`{'.'.join(where.split('.')[-2:])}`")


def _breakable(text: str) -> str:
    """Text in whose code a line may end within a name, as in a narrow column it must."""
    return re.sub(r"`([^`]+)`", lambda code: f"<code>{'<wbr>'.join(map(_literal, _BREAK.split(code[1])))}</code>", text)


def _literal(code: str) -> str:
    """Code as HTML within Markdown, which would take its underscores and asterisks for emphasis."""
    return escape(code).replace("_", "&#95;").replace("*", "&#42;")

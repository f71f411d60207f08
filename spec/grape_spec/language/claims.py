"""Claims: statements with permanent ids, their proofs and the false statements beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.expressions import recursions_in, symbols_of, unfold
from grape_spec.language.grammar import shown
from grape_spec.language.sources import Source
from grape_spec.language.symbols import DECLARATIONS

if TYPE_CHECKING:
    from grape_spec.proof.rules import Rule


@dataclass(frozen=True)
class Part:
    """One statement of a claim with its proof; `holds` makes one.

    Arguments:
        statement: the formula that holds wherever the assumptions do.
        by: the rule, or chain of steps, that proves it.
        assuming: conditions beyond the domains of the symbols.
        name: which part of the claim this is, where there are several.
        equivalent: mutants of the statement that also hold but that no engine can prove, each with the reason.
    """

    statement: Boolean
    by: Rule
    assuming: tuple[Boolean, ...] = ()
    name: str = ""
    equivalent: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def speaks_of(self) -> frozenset:
        """The declared symbols in the statement itself."""
        return frozenset(symbols_of(self.statement))

    @cached_property
    def symbols(self) -> frozenset:
        """The declared symbols in the statement and its assumptions."""
        found: set = set()
        for formula in (self.statement, *self.assuming):
            found |= symbols_of(formula)
        return frozenset(found)


@dataclass(frozen=True)
class Wrong:
    """A plausible false statement, kept beside a claim because somebody made this mistake; `wrong` makes one.

    It must be refuted.
    """

    text: str
    statement: Boolean
    assuming: tuple[Boolean, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A numbered statement of the spec."""

    id: str
    text: str
    parts: tuple[Part, ...]
    uses: tuple[str, ...]
    source: Source
    wrong: tuple[Wrong, ...]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the unfolded statements, their assumptions and domains: the version of the claim."""
        digest = hashlib.sha256()
        for part in self.parts:
            for formula in (part.statement, *part.assuming):
                digest.update(sp.srepr(unfold(formula)).encode())
                for node in sorted(recursions_in(formula), key=str):
                    digest.update(sp.srepr(node.definition.body).encode())
            for thing in sorted(part.symbols, key=str):
                entry = DECLARATIONS[thing]
                digest.update(f"{entry.name}: {entry.domain!r} {entry.sizes}".encode())
        return digest.hexdigest()


def holds(
    statement: Boolean,
    *,
    by: Rule | None = None,
    assuming: Sequence[Boolean] = (),
    name: str = "",
    equivalent: Mapping[str, str] | None = None,
) -> Part:
    """One part of a claim: a statement and its proof."""
    if by is None:
        raise TypeError("by: got nothing, expected the rule that proves it, such as by=algebra()")
    return Part(statement, by, as_tuple("assuming", assuming), name, equivalent or {})


def wrong(text: str, statement: Boolean, *, assuming: Sequence[Boolean] = ()) -> Wrong:
    """A false variant of a claim: the error in a few words, and the statement that it leads to."""
    return Wrong(text, statement, as_tuple("assuming", assuming))


def as_tuple(argument: str, values: Any) -> tuple[Any, ...]:
    """The entries of a list or tuple; one entry that stands alone is refused."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"{argument}: got {shown(values)}, expected a list: {argument}=[…]")
    return tuple(values)

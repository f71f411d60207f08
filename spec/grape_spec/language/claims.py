"""Claims: statements with permanent ids, their proofs and the false statements beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.core.relational import Relational
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


#: The signs that may begin a line of a derivation, each with the relation that it stands for.
RELATIONS: Mapping[str, type[Relational]] = {"=": sp.Eq, "≤": sp.Le, "<": sp.Lt, "≥": sp.Ge, ">": sp.Gt}


@dataclass(frozen=True)
class Line:
    """One line of a derivation for people: the next expression and why it follows; `line` makes one.

    It is no part of the proof, and of no version of the claim; it is checked against the line before all the same.

    Arguments:
        reason: why, in a few plain words.
        by: the rule that checks it; None for the one that its form suggests.
        sign: how the expression before relates to this one, one of RELATIONS.
    """

    expr: sp.Expr
    reason: str
    by: Rule | None = None
    sign: str = "="

    def after(self, before: sp.Expr) -> Relational:
        """The statement that this line makes, given the expression before."""
        return RELATIONS[self.sign](before, self.expr, evaluate=False)


@dataclass(frozen=True)
class Stage:
    """A chain of lines in a derivation: the whole of it, or the first depth or the next one of an induction.

    Arguments:
        start: the expression that the first line follows.
        depth: what the depth of the recursion is here; None outside of an induction.
        given: the depth at which the statement may be used: that before; None where it may not.
    """

    start: sp.Expr
    lines: tuple[Line, ...]
    depth: sp.Expr | None = None
    given: sp.Symbol | None = None

    @property
    def expressions(self) -> tuple[sp.Expr, ...]:
        """All that a page shows of it."""
        return (self.start, *(entry.expr for entry in self.lines))

    def steps(self) -> Iterator[tuple[sp.Expr, Line]]:
        """Each line, with the expression before it."""
        before = self.start
        for entry in self.lines:
            yield before, entry
            before = entry.expr


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


def line(expr: Any, reason: str, *, by: Rule | None = None, sign: str = "=") -> Line:
    """The next line of a derivation: what the expression before equals, or is bounded by, and why."""
    return Line(sp.sympify(expr), reason, by, sign)


def wrong(text: str, statement: Boolean, *, assuming: Sequence[Boolean] = ()) -> Wrong:
    """A false variant of a claim: the error in a few words, and the statement that it leads to."""
    return Wrong(text, statement, as_tuple("assuming", assuming))


def as_tuple(argument: str, values: Any) -> tuple[Any, ...]:
    """The entries of a list or tuple; one entry that stands alone is refused."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"{argument}: got {shown(values)}, expected a list: {argument}=[…]")
    return tuple(values)

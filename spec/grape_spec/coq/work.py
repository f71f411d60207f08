"""A part of a claim on the way to its script (untrusted)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import sympy as sp

from grape_spec.coq.inequalities import Refutation, positive_names
from grape_spec.coq.printer import coq_id, coq_name
from grape_spec.coq.script import Script
from grape_spec.coq.statement import Statement, loose_in, quantified
from grape_spec.coq.terms import at_size, condition
from grape_spec.language.claims import Claim, Part
from grape_spec.language.domains import Interval, Mask, OneOf, Positive, RowDomain, SimplexDomain
from grape_spec.language.expressions import At
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.proof.rules.rule import Rule


def theorem_name(claim: Claim, part: Part) -> str:
    """The name of the theorem of a part: the id of its claim, with its position where there are several."""
    name = coq_id(claim.id)
    return name if len(claim.parts) == 1 else f"{name}_{claim.parts.index(part) + 1}"


@dataclass
class Work:
    """A part on the way to its script.

    Arguments:
        claim, part: what is to be proved; facts of the claim itself are looked up in ``claim``.
        statement: how Coq states it.
        uses: the theorems that the script refers to, as (claim, part).
        said: what the facts in the context say, by the names of their hypotheses.
        known: relations in normal form that are in the context, with their names.
    """

    claim: Claim
    part: Part
    statement: Statement
    uses: dict[tuple[str, str], None] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    known: list[tuple[Any, str]] = field(default_factory=list)

    def at(self, rule: Rule) -> Work:
        """A step that another rule proves, in the same script but from nothing that is known so far."""
        step = replace(self, part=replace(self.part, by=rule), known=[])
        step.__dict__["script"] = self.script
        return step

    @cached_property
    def goal(self) -> Any:
        return self._sized(condition(self.part.statement))

    @cached_property
    def assumed(self) -> list[Any]:
        return [self._sized(condition(a)) for a in self.part.assuming]

    @cached_property
    def loose(self) -> list[list[sp.Symbol]]:
        """Of each assumption, the indices that it is assumed for all values of."""
        return [loose_in(a, self.part.statement) for a in self.part.assuming]

    @cached_property
    def sizes(self) -> dict[str, int]:
        return {coq_name(size): number for size, number in self.part.by.at_sizes().items()}

    @property
    def chosen(self) -> list[str]:
        """The chosen sizes that the theorem is about."""
        return [name for name, _ in self.statement.binders if name in self.sizes]

    def _sized(self, node: Any) -> Any:
        for name, number in self.sizes.items():
            node = at_size(node, name, number)
        return node

    @cached_property
    def script(self) -> Script:
        quantified_here = quantified(self.part.statement, self.part.assuming)
        varied = {node.replaced for node in self.part.statement.atoms(At)} - set(quantified_here)
        things = {t: DECLARATIONS[t] for t in (*quantified_here, *varied)}
        sizes = {coq_name(t): [self._size(s) for s in entry.sizes] for t, entry in things.items()}
        positive = {
            coq_name(t) for t, e in things.items() if e.domain == Positive or isinstance(e.domain, SimplexDomain)
        }
        restricted = {coq_name(t) for t, e in things.items() if _is_restricted(e.domain)}
        script = Script(sizes, frozenset(positive), frozenset(restricted))
        for thing in quantified_here:
            entry = things[thing]
            if isinstance(entry.domain, RowDomain) and isinstance(thing, sp.IndexedBase):
                name = coq_name(thing)
                script.normal.rows[name] = (self._size(entry.sizes[-1]), f"H{name}_t")
            if entry.domain == Mask() and isinstance(thing, sp.IndexedBase):
                script.normal.masks.add(coq_name(thing))
        return script

    @cached_property
    def search(self) -> Refutation:
        return Refutation(self.script, positive_names())

    def _size(self, size: sp.Expr) -> str:
        name = f"{size}%nat" if isinstance(size, sp.Integer) else coq_name(size)
        return f"{self.sizes[name]}%nat" if name in self.sizes else name


def _is_restricted(domain: Any) -> bool:
    return isinstance(domain, RowDomain | OneOf) or (
        isinstance(domain, Interval) and (domain.low is not None or domain.high is not None)
    )

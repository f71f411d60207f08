"""Facts: instances of earlier claims that a proof may use.

A claim holds for every value of its symbols, so an instance of it holds wherever each value that is put in lies in the
domain of its symbol. Whatever is not shown to lie there is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.claims import as_tuple
from grape_spec.language.domains import Interval, Naturals, OneOf, Positive, Real, SimplexDomain
from grape_spec.language.expressions import implies, occurring, substitute, symbols_of
from grape_spec.language.grammar import shown
from grape_spec.language.registry import CLAIMS, claim_of
from grape_spec.language.symbols import DECLARATIONS, declared_name, size_of_axis
from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.needs import runs_over_axes_of
from grape_spec.proof.normal_form import shown_positive


@dataclass(frozen=True)
class Fact:
    """An instance of a proved claim, given to a rule as known."""

    claim: str
    part: str = ""
    bindings: tuple[tuple[str, Any], ...] = ()

    def instance(self, context: Context) -> Boolean:
        """The statement with its symbols bound; each value is shown to lie in the domain of its symbol."""
        part = part_of(self.claim, self.part, context)
        statement = instance(part.statement, self.bindings, context)
        if not part.assuming:
            return statement
        conditions = [_bind(condition, self.bindings) for condition in part.assuming]
        refuse_loose(part, self.bindings, context)
        return implies(sp.And(*conditions, evaluate=False), statement)

    def change(self, f: Callable[[Any], Any]) -> Fact:
        """The same fact with every expression in it put through ``f``."""
        return replace(self, bindings=tuple((name, f(value)) for name, value in self.bindings))


def fact(claim: str, *, part: str = "", **bindings: Any) -> Fact:
    """An instance of a claim, its symbols bound by name."""
    return Fact(claim, part, tuple((name, sp.sympify(value)) for name, value in bindings.items()))


def facts_in(given: Any) -> tuple[Fact, ...]:
    """The facts that a rule is given, a list."""
    facts = as_tuple("given", given)
    for item in facts:
        if not isinstance(item, Fact):
            raise TypeError(f"given: got {shown(item)}, expected facts: fact(id, …)")
    return facts


def part_of(claim: str, name: str, context: Context) -> Any:
    """A part of an earlier claim, or an earlier part of the claim being proved: nothing rests on itself."""
    own = claim in ("", context.claim)
    parts = context.parts if own else _parts_before(claim, context)
    found = next(iter(parts.values())) if not name and len(parts) == 1 else parts.get(name)
    if found is None:
        raise Unknown(f"{claim or 'the claim'} has no part {name!r} to use; it has {sorted(parts)}")
    if found.by.at_sizes():
        raise Unknown(f"{claim} ({found.name}) is proved at chosen sizes only")
    context.used.add(claim or context.claim)
    return found


def _parts_before(claim: str, context: Context) -> dict[str, Any]:
    parts = {part.name: part for part in claim_of(claim).parts}
    order = list(CLAIMS)
    if context.claim in CLAIMS and order.index(claim) > order.index(context.claim):
        raise Unknown(f"{claim} comes after {context.claim}, which may use earlier claims only")
    return parts


def refuse_loose(part: Any, bindings: tuple[tuple[str, Any], ...], context: Context) -> None:
    """An assumption on every value of an index requires the same assumption here; one value does not suffice."""
    loose = {thing for thing in part.symbols - part.speaks_of if size_of_axis(thing) is not None}
    bound = {thing for name, value in bindings for thing in (declared_name(name), *symbols_of(sp.sympify(value)))}
    for condition in part.assuming:
        assumed = _bind(condition, bindings) in context.assumptions and not loose & (context.speaks_of | bound)
        if loose & symbols_of(condition) and not assumed:
            raise Unknown("the claim assumes a condition for every index, which cannot be shown for a single one")


def _bind(statement: Boolean, bindings: tuple[tuple[str, Any], ...]) -> Boolean:
    here = occurring(statement)  # what is not there renames nothing
    return substitute(statement, {thing: value for name, value in bindings if (thing := declared_name(name)) in here})


def instance(statement: Boolean, bindings: tuple[tuple[str, Any], ...], context: Context) -> Boolean:
    for name, value in bindings:
        thing = declared_name(name)
        if not lies_in_domain(thing, value, context):
            raise Unknown(f"{value} is not shown to be {DECLARATIONS[thing].domain.name}, as {name} must be")
    return _bind(statement, bindings)


def lies_in_domain(thing: Any, value: Any, context: Context) -> bool:
    entry = DECLARATIONS[thing]
    if isinstance(entry.domain, Naturals):
        return False  # the families of that size would not follow
    if isinstance(thing, sp.Symbol) and entry.domain == Real and isinstance(value, sp.Symbol):
        return value in DECLARATIONS  # whatever number it is, a size or a mask: it is real
    if value in DECLARATIONS:
        return DECLARATIONS[value].domain == entry.domain and DECLARATIONS[value].sizes == entry.sizes
    if context.unmet_need(value) is not None:
        return False
    if isinstance(value, sp.Indexed) and size_of_axis(thing) is not None:
        return size_of_axis(value) == size_of_axis(thing)
    if isinstance(value, sp.Lambda):
        return runs_over_axes_of(thing, value) and _family_in_domain(entry, value, context)
    if isinstance(entry.domain, OneOf):
        return bool(value.is_Integer) and int(value) in entry.domain.values
    if not isinstance(entry.domain, Interval):
        return False
    if entry.domain in (Real, Positive):
        return entry.domain == Real or context.is_positive(value)
    return context.entails(entry.domain.constraint(value))


def _family_in_domain(entry: Any, value: sp.Lambda, context: Context) -> bool:
    if not isinstance(entry.domain, SimplexDomain):
        return entry.domain == Real
    *_, axis = value.signature
    total = sp.Sum(value.expr, (axis, 1, entry.sizes[-1]))
    for_all = context if context.speaks_of.isdisjoint(value.signature) else context.anywhere()
    return shown_positive(value.expr) and for_all.agree(total, sp.Integer(1))


def can_be_varied(variable: sp.Expr) -> bool:
    """Whether a claim about a symbol or entry holds around every point, so that it can be differentiated."""
    thing = variable.base if isinstance(variable, sp.Indexed) else variable
    domain = DECLARATIONS[thing].domain if thing in DECLARATIONS else None
    return isinstance(domain, Interval) and domain.is_open

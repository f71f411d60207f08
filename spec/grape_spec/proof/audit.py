"""The audit: does a proof mean anything?

For each part of a claim: can its assumptions hold; is each assumption, and each domain, needed; does every mutant of
the statement fail; are the two sides different trees. Every exception is reported, and one that would make the proof
vacuous fails it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import sympy as sp
from sympy.core.function import UndefinedFunction
from sympy.core.relational import Relational
from sympy.logic.boolalg import Boolean

from grape_spec.language.claims import Part
from grape_spec.language.domains import Domain, IndexUpTo, Naturals, Position, Real, Smooth, SmoothDomain
from grape_spec.language.expressions import equals, implies, rebuild, substitute
from grape_spec.language.symbols import DECLARATIONS, declared_for_now
from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.derivatives import NotAlgebraic
from grape_spec.proof.mutate import mutants
from grape_spec.proof.prove import prove
from grape_spec.proof.refute import KEPT, Search, refute, refuted_at_one, refutes
from grape_spec.render import unicode

#: Points for a mutant that neither the first search nor the prover could decide, and for one that is listed as true.
MORE_POINTS, POINTS_IF_LISTED = 400, 100

#: Milliseconds that the solver may take to show that a mutant follows from its claim.
TIME_PER_MUTANT = 300


@dataclass(frozen=True)
class Mutant:
    """The fate of one mutant."""

    text: str
    fate: Literal["refuted", "implied", "listed", "survived"]
    reason: str = ""


@dataclass(frozen=True)
class Condition:
    """An assumption or a domain, and whether the proof breaks without it."""

    text: str
    needed: bool


def two_sides_differ(part: Part) -> bool:
    """Whether the statement says anything: the two sides of a relation are different trees."""
    return not isinstance(part.statement, Relational) or part.statement.lhs != part.statement.rhs


def assumptions_can_hold(part: Part, search: Search) -> bool:
    """Whether a point satisfies the assumptions and the solver does not find them contradictory."""
    return search.effective > 0 and not (part.assuming and _context(part).solver().satisfiable() is False)


def audit_mutants(
    part: Part, *, claim_id: str = "", earlier: tuple[Part, ...] = (), search: Search | None = None
) -> list[Mutant]:
    """The fate of every mutant of a statement; each is first tried at the points of a search on the statement."""
    found = refute(part.statement, part.assuming, sizes=part.by.at_sizes(), points=KEPT) if search is None else search
    context = _context(part)
    return [_fate(part, text, changed, claim_id, earlier, found, context) for text, changed in mutants(part.statement)]


def _fate(
    part: Part,
    text: str,
    changed: Boolean,
    claim_id: str,
    earlier: tuple[Part, ...],
    search: Search,
    context: Context,
) -> Mutant:
    sizes = part.by.at_sizes()
    refuted = refuted_at_one(changed, part.statement, search.points)
    if refuted is None:
        refuted = refute(changed, part.assuming, sizes=sizes, points=KEPT).refuted
    if refuted:
        return Mutant(text, "refuted")
    difference = _difference(part, changed)
    if _holds(difference, context):
        return Mutant(text, "implied", "the prover derives it from the claim")
    if not _breaks(replace(part, statement=changed), claim_id, earlier):
        return Mutant(text, "implied", "the proof of the claim also proves it")
    if _try(lambda: refutes(changed, part.assuming, context.solver().counterexample(difference) or {})):
        return Mutant(text, "refuted")
    points = POINTS_IF_LISTED if text in part.equivalent else MORE_POINTS
    if refute(changed, part.assuming, sizes=sizes, points=points, seed=1).refuted:
        return Mutant(text, "refuted")
    if text in part.equivalent:
        return Mutant(text, "listed", part.equivalent[text])
    return Mutant(text, "survived")


def _context(part: Part) -> Context:
    return Context(part.assuming, part.speaks_of, milliseconds=TIME_PER_MUTANT)


def _difference(part: Part, changed: Boolean) -> Boolean:
    """The condition under which a mutant is true, given its claim."""
    if not isinstance(changed, sp.Eq):
        return implies(part.statement, changed)
    left, right = (new - old for new, old in zip(changed.args, part.statement.args, strict=True))
    return equals(left - right, 0)


def _holds(statement: Boolean, context: Context) -> bool:
    by_normal_form = isinstance(statement, sp.Eq) and _try(lambda: context.agree(*statement.args))
    return by_normal_form or _try(lambda: context.entails(statement))


def _try(decide: Any) -> bool:
    try:
        return bool(decide())
    except (NotAlgebraic, Unknown):
        return False


def audit_conditions(part: Part, *, claim_id: str = "", earlier: tuple[Part, ...] = ()) -> list[Condition]:
    """Drop each assumption and widen each domain in turn."""
    found = []
    for position, assumption in enumerate(part.assuming):
        without = replace(part, assuming=part.assuming[:position] + part.assuming[position + 1 :])
        found.append(Condition(unicode(assumption), _breaks(without, claim_id, earlier)))
    for thing in sorted(part.symbols, key=str):
        wider = _wider(DECLARATIONS[thing].domain)
        if wider is not None:
            text = f"{DECLARATIONS[thing].name} is {DECLARATIONS[thing].domain.name}"
            with _widened(part, thing, wider) as widened:
                found.append(Condition(text, _breaks(widened, claim_id, earlier)))
    return found


def _breaks(part: Part, claim_id: str, earlier: tuple[Part, ...]) -> bool:
    return prove(part, claim_id=claim_id, earlier=earlier).status != "proved"


def _wider(domain: Domain) -> Domain | None:
    """The real numbers for any narrower domain; sizes and positions have none."""
    if isinstance(domain, IndexUpTo | Naturals | Position) or domain in (Real, Smooth):
        return None
    return Smooth if isinstance(domain, SmoothDomain) else Real


@contextmanager
def _widened(part: Part, thing: Any, domain: Domain) -> Iterator[Part]:
    """The part with one symbol on a wider domain, which is declared only within the context."""
    twin = _twin(thing, domain)
    change = _replacing({thing: twin})
    with declared_for_now(twin, replace(DECLARATIONS[thing], domain=domain)):
        yield replace(
            part,
            statement=change(part.statement),
            assuming=tuple(change(f) for f in part.assuming),
            by=part.by.change(change),
        )


def _twin(thing: Any, domain: Domain) -> Any:
    """A symbol of the same kind under another name, with the assumptions of a domain."""
    if isinstance(thing, UndefinedFunction):
        return sp.Function(thing.__name__ + "°", **domain.assumptions)
    if isinstance(thing, sp.IndexedBase):
        return sp.IndexedBase(thing.label.name + "°", **domain.assumptions)
    return sp.Symbol(thing.name + "°", **domain.assumptions)


def _replacing(mapping: Mapping[Any, Any]) -> Any:
    """Replaces symbols everywhere, including the variables of derivatives and slopes."""

    def change(node: sp.Basic) -> sp.Basic:
        if node in mapping:
            return mapping[node]
        if isinstance(node, sp.Indexed) or not node.args or isinstance(node, sp.IndexedBase):
            return substitute(node, mapping)
        args = [change(arg) for arg in node.args]
        if node.func in mapping:
            return mapping[node.func](*args)
        return rebuild(node, args)

    return change

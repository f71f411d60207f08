"""Proving one part of a claim: run its rule, and say what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import sympy as sp
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.symbol import Str

from grape_spec.language.claims import Claim, Part
from grape_spec.language.expressions import Apply, At, OneSided, bound_things, substitute
from grape_spec.language.registry import DEFINITIONS, RegistryError
from grape_spec.proof.derivatives import NotAlgebraic
from grape_spec.proof.normal_form import shown_positive
from grape_spec.proof.rules import Context, Unknown, on_the_simplex


@dataclass(frozen=True)
class Proof:
    """What a prover says: proved in a scope, or unknown with the reason. It never says refuted."""

    status: Literal["proved", "unknown"]
    scope: str = ""
    reason: str = ""
    seconds: float = 0.0
    queries: tuple[str, ...] = ()


def prove(part: Part, *, claim_id: str = "", earlier: tuple[Part, ...] = ()) -> Proof:
    """Run the proof of one part; earlier parts of the same claim may be used."""
    known = {p.name: p for p in earlier}
    context = Context(part.assuming, part.speaks_of, {claim_id: known, "": known})
    start = perf_counter()
    try:
        scope = part.by.prove(part.statement, context)
        has_a_value(part, context)
    except (Unknown, NotAlgebraic) as failure:
        return Proof("unknown", reason=str(failure), seconds=perf_counter() - start, queries=tuple(context.queries))
    return Proof("proved", scope, seconds=perf_counter() - start, queries=tuple(context.queries))


def has_a_value(part: Part, context: Context) -> None:
    """Show that both sides have a value wherever the assumptions hold: no divisor is zero, every logarithm positive.

    SymPy cancels x/x when an argument is put in, so this looks at definitions and arguments apart, before that happens.
    """
    sizes = part.by.at_sizes()
    for kind, needed in needs_of(part.statement):
        sized = on_the_simplex(substitute(needed, sizes), sizes)
        if not (context.is_positive(sized) if kind == "positive" else context.differs_from_zero(sized)):
            raise Unknown(f"{needed} is not shown to be {kind}, as the statement needs it to be")


def needs_of(expr: sp.Basic) -> Iterator[tuple[Literal["positive", "nonzero"], sp.Expr]]:
    """What has to be positive or nonzero for an expression to have a value, by its divisors and logarithms."""
    if isinstance(expr, Apply):
        mapping = dict(zip(expr.definition.of, expr.arguments, strict=True))
        for kind, needed in needs_of(expr.definition.body):
            yield kind, substitute(needed, mapping)
    elif isinstance(expr, At):
        for kind, needed in needs_of(expr.expr):
            yield kind, substitute(needed, {expr.replaced: expr.value})
        yield from needs_of(expr.value)
        return
    elif bound_things(expr) and isinstance(expr, ExprWithLimits | sp.Lambda):
        own = {bound: sp.Dummy("bound", integer=True, positive=True) for bound in bound_things(expr)}
        yield from needs_of(substitute(expr.args[0] if isinstance(expr, ExprWithLimits) else expr.expr, own))
        return
    elif isinstance(expr, OneSided):
        return  # the value at the point and beside it: the rule for slopes asks for it
    elif isinstance(expr, sp.Pow) and expr.exp.is_negative:
        yield "nonzero", expr.base
    elif isinstance(expr, sp.log):
        yield "positive", expr.args[0]
    for arg in expr.args:
        if not isinstance(arg, sp.IndexedBase | Str):
            yield from needs_of(arg)


def check_domains() -> None:
    """Refuse a definition that is declared positive where its form does not show it: SymPy believes declarations."""
    for definition in DEFINITIONS.values():
        declared = definition.domain.assumptions.get("positive", False)
        if declared and not shown_positive(definition.body):
            raise RegistryError(f"{definition.id} is declared {definition.domain.name}, which its body does not show")


def prove_claim(claim: Claim) -> list[Proof]:
    """The proofs of all parts of a claim, in order."""
    return [prove(part, claim_id=claim.id, earlier=claim.parts[:position]) for position, part in enumerate(claim.parts)]

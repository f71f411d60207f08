"""Prove one part of a claim: run its rule and report the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from time import perf_counter
from typing import Any, Literal

import sympy as sp

from grape_spec.language.claims import Claim, Line, Part, Stage
from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import Apply
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RegistryError
from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.deadline import OutOfTime, limited
from grape_spec.proof.derivatives import NotAlgebraic, opened
from grape_spec.proof.facts import Fact
from grape_spec.proof.needs import needs_of
from grape_spec.proof.normal_form import shown_positive
from grape_spec.proof.rules import RULES, Algebra, FiniteSum, Rule, Smt
from grape_spec.proof.rules.depth import agree_one_deeper
from grape_spec.proof.rules.rule import Step, refuse_without_value

#: Seconds of processor time that the proof of one part may take.
SECONDS = 5.0

TOO_DEEP = "its expressions nest too deeply"


@dataclass(frozen=True)
class Proof:
    """The verdict of a prover: proved in a scope, or unknown with a reason; never refuted."""

    status: Literal["proved", "unknown"]
    scope: str = ""
    reason: str = ""
    seconds: float = 0.0
    queries: tuple[str, ...] = ()


def prove(part: Part, *, claim_id: str = "", earlier: tuple[Part, ...] = ()) -> Proof:
    """Run the proof of one part; earlier parts of the same claim may be used.

    Whatever breaks an engine is no proof, and neither is what takes too long: the verdict is unknown, with the reason.
    """
    try:
        context = _context(part, claim_id, earlier)
    except RecursionError:
        return Proof("unknown", reason=TOO_DEEP)
    except KeyError as failure:  # a definition that there is not
        return Proof("unknown", reason=failure.args[0])
    return _outcome(lambda: _scope(part, context), context)


def prove_lines(
    part: Part, stages: Sequence[Stage], *, claim_id: str = "", earlier: tuple[Part, ...] = ()
) -> list[Proof]:
    """What a rule says of each line of a derivation: that it follows from the line before as the part assumes."""
    context = _context(part, claim_id, earlier)
    steps = [(before, line, stage.given) for stage in stages for before, line in stage.steps()]
    return [_outcome(partial(_line_scope, part, *step, context), context) for step in steps]


def line_rule(part: Part, before: sp.Expr, line: Line) -> Rule:
    """The rule that checks a line: its own, or the one that its form suggests."""
    if line.by is not None:
        return line.by
    sides, sizes = [opened(side) for side in (before, line.expr)], part.by.at_sizes()
    if line.sign != "=" or any(side.has(sp.Piecewise) for side in sides):
        return Smt()
    sums = any(side.atoms(sp.Sum, sp.Product) for side in sides)
    return FiniteSum() if sums and not sizes else Algebra(tuple(sizes.items()))


def _line_scope(part: Part, before: sp.Expr, line: Line, given: sp.Symbol | None, context: Context) -> str:
    link, statement = Step(line.expr, line_rule(part, before, line)), line.after(before)
    _refuse_foreign(link)
    _refuse_unshown((statement, link))
    needs_of(link.expr)
    if given is not None and line.by is None:
        refuse_without_value(link.expr, context)
        return agree_one_deeper(statement, part.statement, given, context)
    scope = link.prove(statement, context, part.by.at_sizes())
    _refuse_unnamed(context)
    return scope


def _context(part: Part, claim_id: str, earlier: tuple[Part, ...]) -> Context:
    return Context(part.assuming, part.speaks_of, claim_id or _claim_with(part), {p.name: p for p in earlier})


def _outcome(scope_of: Callable[[], str], context: Context) -> Proof:
    """The verdict on what gives a scope, or breaks."""
    start = perf_counter()
    scope, reason = None, ""
    try:
        with limited(SECONDS):
            scope = scope_of()
    except (Unknown, NotAlgebraic, OutOfTime) as failure:
        reason = str(failure)
    except RecursionError:
        reason = TOO_DEEP
    except Exception as failure:  # an engine met what it was not made for
        reason = f"{type(failure).__name__}: {failure}"
    seconds, queries = perf_counter() - start, tuple(context.queries)
    if scope is None:
        first, *_ = reason.splitlines() or ["no reason is given"]
        return Proof("unknown", reason=first, seconds=seconds, queries=queries)
    return Proof("proved", scope, seconds=seconds, queries=queries)


def _scope(part: Part, context: Context) -> str:
    _refuse_foreign(part.by)
    _refuse_unshown((part.statement, part.assuming, part.by))
    for formula in (part.statement, *part.assuming):
        needs_of(formula)
    if part.assuming and context.solver().satisfiable() is False:
        raise Unknown("the assumptions contradict each other or the domains")
    scope = part.by.prove(part.statement, context)
    refuse_without_value(part.statement, context, part.by.at_sizes(), "the statement")
    _refuse_unnamed(context)
    return scope


def _refuse_foreign(value: Any) -> None:
    """Refuse a rule, a step or a fact that is not of this package, also within another rule."""
    if isinstance(value, Rule | Step | Fact):
        if type(value) not in RULES | {Step, Fact}:
            raise Unknown(f"{type(value).__name__} is no rule of the package")
        names = [entry.name for entry in fields(value)]
        if vars(value).keys() - set(names):
            raise Unknown(f"this {type(value).__name__} is not as the package made it")
        value = tuple(getattr(value, name) for name in names)
    if isinstance(value, tuple):
        for item in value:
            _refuse_foreign(item)


def _refuse_unnamed(context: Context) -> None:
    """Refuse a proof that rests on a claim which its own claim does not name, so that nobody waits for that one."""
    named = {context.claim, *(CLAIMS[context.claim].uses if context.claim in CLAIMS else context.used)}
    if unnamed := context.used - named:
        raise Unknown(f"the proof rests on {min(unnamed)}, which is not among the uses of {context.claim}")


def _claim_with(part: Part) -> str:
    """The id of the claim that a part belongs to; none for a part that was not entered."""
    return next((claim.id for claim in CLAIMS.values() if any(own is part for own in claim.parts)), "")


def check_domains() -> None:
    """Refuse a definition that is declared positive where its form does not show it: SymPy believes declarations."""
    for definition in DEFINITIONS.values():
        if not _is_shown(definition):
            raise RegistryError(f"{definition.id} is declared {definition.domain.name}, which its body does not show")


def _refuse_unshown(value: Any) -> None:
    """The same for the definitions that a proof rests on, which may have been entered since then."""
    if isinstance(value, sp.Basic):
        for definition in _definitions_in(value):
            if not _is_shown(definition):
                raise Unknown(f"{definition.id} is declared {definition.domain.name}, which its body does not show")
    elif isinstance(value, tuple):
        for item in value:
            _refuse_unshown(item)
    elif isinstance(value, Rule | Step | Fact):
        _refuse_unshown(tuple(getattr(value, entry.name) for entry in fields(value)))


@lru_cache(maxsize=10_000)
def _definitions_in(expr: sp.Basic) -> frozenset[Definition]:
    """The definitions in an expression, and those in their bodies."""
    found: set[Definition] = set()
    waiting = [expr]
    while waiting:
        new = {node.definition for node in waiting.pop().atoms(Apply)} - found
        found |= new
        waiting += [definition.body for definition in new]
    return frozenset(found)


@lru_cache(maxsize=10_000)
def _is_shown(definition: Definition) -> bool:
    declared = definition.domain.assumptions.get("positive", False)
    return not declared or shown_positive(definition.body)


def prove_claim(claim: Claim) -> list[Proof]:
    """The proofs of all parts of a claim, in order; a part may use the earlier ones that are proved."""
    proofs: list[Proof] = []
    for part in claim.parts:
        proofs.append(prove(part, claim_id=claim.id, earlier=proved_of(claim, proofs)))
    return proofs


def proved_of(claim: Claim, proofs: Sequence[Proof]) -> tuple[Part, ...]:
    """The parts of a claim that the proofs of its first parts prove."""
    return tuple(part for part, proof in zip(claim.parts, proofs, strict=False) if proof.status == "proved")

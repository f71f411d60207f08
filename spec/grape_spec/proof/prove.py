"""Prove one part of a claim: run its rule and report the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from grape_spec.language.claims import Claim, Part
from grape_spec.language.registry import DEFINITIONS, RegistryError
from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.derivatives import NotAlgebraic
from grape_spec.proof.normal_form import shown_positive


@dataclass(frozen=True)
class Proof:
    """The verdict of a prover: proved in a scope, or unknown with a reason; never refuted."""

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
        unmet = context.unmet_need(part.statement, part.by.at_sizes())
        if unmet is not None:
            raise Unknown(f"{unmet[1]} is not shown to be {unmet[0]}, as the statement requires")
    except (Unknown, NotAlgebraic) as failure:
        return Proof("unknown", reason=str(failure), seconds=perf_counter() - start, queries=tuple(context.queries))
    return Proof("proved", scope, seconds=perf_counter() - start, queries=tuple(context.queries))


def check_domains() -> None:
    """Refuse a definition that is declared positive where its form does not show it: SymPy believes declarations."""
    for definition in DEFINITIONS.values():
        declared = definition.domain.assumptions.get("positive", False)
        if declared and not shown_positive(definition.body):
            raise RegistryError(f"{definition.id} is declared {definition.domain.name}, which its body does not show")


def prove_claim(claim: Claim) -> list[Proof]:
    """The proofs of all parts of a claim, in order."""
    return [prove(part, claim_id=claim.id, earlier=claim.parts[:position]) for position, part in enumerate(claim.parts)]

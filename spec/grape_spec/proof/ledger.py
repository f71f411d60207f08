"""The ledger: what one run of the checker saw, as one JSON document.

Everything that a page, a badge or the README says about a claim is read from here. `examine` does the work for one
claim and returns plain data, so that claims can be examined side by side in other processes; `summarise` computes what
needs them all.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import Any

from grape_spec.language.claims import Claim, Part
from grape_spec.language.registry import all_uses, claim_of
from grape_spec.proof.audit import assumptions_can_hold, audit_conditions, audit_mutants, two_sides_differ
from grape_spec.proof.prove import Proof, prove
from grape_spec.proof.refute import refute
from grape_spec.proof.rules import GENERAL
from grape_spec.render import latex_assuming, unicode

SCHEMA = 1

#: Effective points at which the refuter tries a statement that the prover proved.
POINTS = 50

#: What every proof takes for granted beyond its named lemmas.
TRUSTED_BASE = (
    "SymPy's diff and polynomial arithmetic",
    "the normal form for finite sums of this project",
    "z3",
    "FLINT's ball arithmetic",
)

_PACKAGES = ("grape-verified", "sympy", "python-flint", "z3-solver", "torch", "hypothesis", "numpy")


def examine(claim_id: str) -> dict[str, Any]:
    """Prove, attack and audit one claim; the record of it for the ledger."""
    claim = claim_of(claim_id)
    start = perf_counter()
    parts = [_examine_part(claim, position) for position in range(len(claim.parts))]
    wrong = [_examine_wrong(variant) for variant in claim.wrong]
    return {
        "id": claim.id,
        "text": claim.text,
        "hash": claim.hash,
        "source": str(claim.source),
        "uses": list(claim.uses),
        "lemmas": sorted({lemma for part in claim.parts for lemma in part.by.lemmas}),
        "status": _status(parts),
        "sound": all(part["sound"] for part in parts) and all(variant["refuted"] for variant in wrong),
        "scope": list(dict.fromkeys(part["scope"] for part in parts if part["scope"])),
        "parts": parts,
        "wrong": wrong,
        "prove_seconds": sum(part["seconds"] for part in parts),
        "seconds": perf_counter() - start,
    }


def _examine_part(claim: Claim, position: int) -> dict[str, Any]:
    part, earlier = claim.parts[position], claim.parts[:position]
    proof = prove(part, claim_id=claim.id, earlier=earlier)
    search = refute(part.statement, part.assuming, sizes=part.by.at_sizes(), points=POINTS)
    mutants = audit_mutants(part, claim_id=claim.id, earlier=earlier)
    survived = [mutant.text for mutant in mutants if mutant.fate == "survived"]
    stale = sorted(set(part.equivalent) - {mutant.text for mutant in mutants if mutant.fate == "listed"})
    contradiction = proof.status == "proved" and search.refuted
    satisfiable = assumptions_can_hold(part, search)
    vacuous = not satisfiable or not two_sides_differ(part)
    return {
        "name": part.name,
        "statement": unicode(part.statement),
        "latex": latex_assuming(part.statement, part.assuming),
        "assuming": [unicode(condition) for condition in part.assuming],
        "rule": part.by.describe(),
        "engine": part.by.engine,
        "status": "refuted" if search.refuted else proof.status,
        "scope": proof.scope,
        "reason": proof.reason,
        "seconds": proof.seconds,
        "contradiction": contradiction,
        "satisfiable": satisfiable,
        "sides_differ": two_sides_differ(part),
        "points": {"drawn": search.drawn, "effective": search.effective},
        "witness": search.witness,
        "mutants": {
            "total": len(mutants),
            "refuted": sum(mutant.fate == "refuted" for mutant in mutants),
            "implied": [asdict(mutant) for mutant in mutants if mutant.fate == "implied"],
            "listed": [asdict(mutant) for mutant in mutants if mutant.fate == "listed"],
            "survived": survived,
            "stale": stale,
        },
        "conditions": _conditions(claim, part, earlier, proof),
        "sound": proof.status == "proved" and not (contradiction or vacuous or survived or stale),
    }


def _conditions(claim: Claim, part: Part, earlier: tuple[Part, ...], proof: Proof) -> list[dict[str, Any]]:
    """Which assumptions and domains the proof needs; of a statement without a proof nothing can be said."""
    if proof.status != "proved":
        return []
    return [asdict(condition) for condition in audit_conditions(part, claim_id=claim.id, earlier=earlier)]


def _examine_wrong(variant: Any) -> dict[str, Any]:
    search = refute(variant.statement, variant.assuming, points=10 * POINTS)
    return {
        "text": variant.text,
        "statement": unicode(variant.statement),
        "refuted": search.refuted,
        "witness": search.witness,
    }


def _status(parts: list[dict[str, Any]]) -> str:
    found = {part["status"] for part in parts}
    return "refuted" if "refuted" in found else "unknown" if "unknown" in found else "proved"


def summarise(claims: list[dict[str, Any]], kernels: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The whole ledger: the records, what follows from them together, the versions and the date."""
    proved = {record["id"] for record in claims if record["status"] == "proved" and record["sound"]}
    for record in claims:
        rests_on = all_uses(record["id"])
        record["fully_proved"] = record["id"] in proved and rests_on <= proved
        record["waits_for"] = sorted(rests_on - proved)
    parts = [part for record in claims for part in record["parts"]]
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "trusted_base": list(TRUSTED_BASE),
        "claims": claims,
        "kernels": kernels,
        "summary": {
            "claims": len(claims),
            "fully_proved": sum(record["fully_proved"] for record in claims),
            "proved": sum(record["status"] == "proved" for record in claims),
            "unknown": sum(record["status"] == "unknown" for record in claims),
            "refuted": sum(record["status"] == "refuted" for record in claims),
            "at_sizes_only": sum(GENERAL not in record["scope"] for record in claims if record["status"] == "proved"),
            "contradictions": sum(part["contradiction"] for part in parts),
            "mutants": sum(part["mutants"]["total"] for part in parts),
            "mutants_refuted": sum(part["mutants"]["refuted"] for part in parts),
            "mutants_implied": sum(len(part["mutants"]["implied"]) for part in parts),
            "mutants_listed": sum(len(part["mutants"]["listed"]) for part in parts),
            "mutants_survived": sum(len(part["mutants"]["survived"]) for part in parts),
            "wrong_variants": sum(len(record["wrong"]) for record in claims),
            "kernels": len(kernels),
            "kernels_accepted": sum(kernel["accepted"] for kernel in kernels),
            "mean_claim_seconds": sum(record["seconds"] for record in claims) / len(claims) if claims else 0.0,
            "mean_prove_seconds": sum(record["prove_seconds"] for record in claims) / len(claims) if claims else 0.0,
            "seconds": seconds,
        },
        "holds": all(record["fully_proved"] for record in claims) and all(kernel["accepted"] for kernel in kernels),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a verdict depends on; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_queries(claim: Claim, folder: Path) -> int:
    """Write every SMT query that the proofs of a claim ask, as SMT-LIB files; the number of them."""
    count = 0
    for position, part in enumerate(claim.parts):
        proof = prove(part, claim_id=claim.id, earlier=claim.parts[:position])
        for query in proof.queries:
            (folder / f"{claim.id}.{position + 1}.{count + 1}.smt2").write_text(query, encoding="utf-8")
            count += 1
    return count


def schema() -> dict[str, Any]:
    """The JSON schema of the ledger."""
    return json.loads(files("grape_spec.proof").joinpath("ledger.schema.json").read_text(encoding="utf-8"))

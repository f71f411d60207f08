"""The examination of one claim: prove it, try to refute it, audit the proof, and record what was seen.

A record is plain data: claims are examined side by side in other processes, and whatever a page or a command says of a
claim is read from its record. A verdict follows from what was seen; it is never typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Literal

import sympy as sp

from grape_spec.language.claims import Claim, Line, Part, Stage, Wrong
from grape_spec.language.registry import DERIVATIONS, claim_of
from grape_spec.proof.audit import (
    Condition,
    Mutant,
    assumptions_can_hold,
    audit_conditions,
    audit_mutants,
    two_sides_differ,
)
from grape_spec.proof.prove import Proof, line_rule, prove_claim, prove_lines, proved_of
from grape_spec.proof.refute import Search, refute
from grape_spec.proof.rules import GENERAL
from grape_spec.proof.second_route import Second, look_again
from grape_spec.render import unicode

Status = Literal["proved", "refuted", "unknown"]

#: Effective points at which the refuter tries a statement that the prover proved.
POINTS = 40

#: Points at which it tries a false variant: it stops at the first witness, which lies in a narrow region for some.
POINTS_IF_WRONG = 1000

#: Points at which it compares a line of a derivation with the line before, where that is proved.
POINTS_OF_A_PROVED_LINE = 4

#: What every proof takes for granted beyond its named lemmas.
TRUSTED_BASE = (
    "SymPy's diff and polynomial arithmetic",
    "this project's normal form for finite sums",
    "z3",
    "FLINT's ball arithmetic",
)


@dataclass(frozen=True)
class Points:
    """Points that the refuter drew, and those among them that could have refuted."""

    drawn: int
    effective: int


@dataclass(frozen=True)
class Mutants:
    """What became of the mutants of a statement.

    Arguments:
        total, refuted: how many there are, and how many were found false.
        implied: those that are true because the statement is.
        listed: those that nothing decided and that the claim lists as true, with a reason.
        survived: those that nothing decided and that no list explains.
        stale: entries of the claim's list that are no longer needed.
    """

    total: int
    refuted: int
    implied: tuple[Mutant, ...]
    listed: tuple[Mutant, ...]
    survived: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True)
class LineRecord:
    """What was seen of one line of a derivation.

    Arguments:
        sign, expression: how the line before relates to it, and it.
        reason: why, in the words of the derivation.
        rule: how it was checked.
        status: "refuted" where a witness was found, whatever the prover says.
        why_not: why the prover could not decide.
    """

    sign: str
    expression: str
    reason: str
    rule: str
    status: Status
    why_not: str
    witness: dict[str, Any] | None
    seconds: float


@dataclass(frozen=True)
class PartRecord:
    """What was seen of one part of a claim.

    Arguments:
        status: "refuted" where a witness was found, whatever the prover says.
        scope: the sizes for which it is proved; empty where it is not.
        reason: why the prover could not decide.
        contradiction: proved, and refuted or contradicted by the second route: a bug in the checker.
        satisfiable: whether the assumptions hold anywhere.
        sides_differ: whether the two sides are different trees.
        conditions: the assumptions and domains, and whether the proof needs each; none without a proof.
        second: what the second route found.
        derivation: what was seen of the lines of its derivation for people; empty if it has none.
    """

    name: str
    statement: str
    assuming: tuple[str, ...]
    rule: str
    engine: str
    status: Status
    scope: str
    reason: str
    seconds: float
    contradiction: bool
    satisfiable: bool
    sides_differ: bool
    points: Points
    witness: dict[str, Any] | None
    mutants: Mutants
    conditions: tuple[Condition, ...]
    second: Second
    derivation: tuple[LineRecord, ...] = ()

    DERIVED: ClassVar = ("sound",)

    @property
    def sound(self) -> bool:
        """Whether the part and every line of its derivation are proved, and the audit found no fault with the proof."""
        fine = self.status == "proved" and not self.contradiction and self.satisfiable and self.sides_differ
        derived = all(line.status == "proved" for line in self.derivation)
        return fine and derived and not self.mutants.survived and not self.mutants.stale


@dataclass(frozen=True)
class WrongRecord:
    """A false variant of a claim, and the point at which it is false."""

    text: str
    statement: str
    witness: dict[str, Any] | None

    DERIVED: ClassVar = ("refuted",)

    @property
    def refuted(self) -> bool:
        """Whether a witness was found."""
        return self.witness is not None


@dataclass(frozen=True)
class ClaimRecord:
    """What was seen of one claim.

    Arguments:
        hash: the version of the claim.
        parts, wrong: what was seen of its parts and of its false variants.
        seconds: how long the examination took.
        waits_for: the claims it rests on that are not proved; None as long as those have not been looked at.
        fingerprint: of all that the examination read, the claims that it uses included.
        created: the date and time of the run that examined it.
    """

    id: str
    text: str
    hash: str
    source: str
    uses: tuple[str, ...]
    lemmas: tuple[str, ...]
    parts: tuple[PartRecord, ...]
    wrong: tuple[WrongRecord, ...]
    seconds: float
    waits_for: tuple[str, ...] | None = None
    fingerprint: str = ""
    created: str = ""

    DERIVED: ClassVar = ("status", "sound", "fully_proved", "scope", "prove_seconds")

    @property
    def status(self) -> Status:
        """Proved where every part is, refuted where one is."""
        found = {part.status for part in self.parts}
        return "refuted" if "refuted" in found else "unknown" if "unknown" in found else "proved"

    @property
    def sound(self) -> bool:
        """Whether every part is sound and every false variant refuted."""
        return all(part.sound for part in self.parts) and all(variant.refuted for variant in self.wrong)

    @property
    def fully_proved(self) -> bool:
        """Whether the claim and all that it rests on are proved and sound."""
        return self.sound and self.waits_for == ()

    @property
    def scope(self) -> tuple[str, ...]:
        """The scopes of the parts, each once."""
        return tuple(dict.fromkeys(part.scope for part in self.parts if part.scope))

    @property
    def prove_seconds(self) -> float:
        """How long the proofs took, without the audit."""
        return sum(part.seconds for part in self.parts)

    @property
    def general(self) -> bool:
        """Whether a part is proved for all sizes."""
        return GENERAL in self.scope

    @property
    def effective(self) -> int:
        """Points at which a part could have been refuted."""
        return sum(part.points.effective for part in self.parts)


def examine(claim_id: str) -> ClaimRecord:
    """Prove, attack and audit one claim."""
    claim = claim_of(claim_id)
    start = perf_counter()
    proofs = prove_claim(claim)
    return ClaimRecord(
        id=claim.id,
        text=claim.text,
        hash=claim.hash,
        source=str(claim.source),
        uses=claim.uses,
        lemmas=tuple(sorted({lemma for part in claim.parts for lemma in part.by.lemmas})),
        parts=tuple(
            _examine_part(claim.id, part, proof, proved_of(claim, proofs[:position]))
            for position, (part, proof) in enumerate(zip(claim.parts, proofs, strict=True))
        ),
        wrong=tuple(map(_examine_wrong, claim.wrong)),
        seconds=perf_counter() - start,
    )


def _examine_part(claim_id: str, part: Part, proof: Proof, earlier: tuple[Part, ...]) -> PartRecord:
    search = refute(part.statement, part.assuming, sizes=part.by.at_sizes(), points=POINTS)
    mutants = audit_mutants(part, claim_id=claim_id, earlier=earlier, search=search)
    second = look_again(part.statement, part.assuming, part.by.at_sizes())
    proved = proof.status == "proved"
    return PartRecord(
        name=part.name,
        statement=unicode(part.statement),
        assuming=tuple(map(unicode, part.assuming)),
        rule=part.by.describe(),
        engine=part.by.engine,
        status="refuted" if search.refuted else proof.status,
        scope=proof.scope,
        reason=proof.reason,
        seconds=proof.seconds,
        contradiction=proved and (search.refuted or second.opinion == "contradicts"),
        satisfiable=assumptions_can_hold(part, search),
        sides_differ=two_sides_differ(part),
        points=Points(search.drawn, search.effective),
        witness=search.witness,
        mutants=_counted(mutants, part),
        conditions=tuple(audit_conditions(part, claim_id=claim_id, earlier=earlier)) if proved else (),
        second=second,
        derivation=examine_lines(claim_id, part, earlier),
    )


def examine_lines(claim_id: str, part: Part, earlier: tuple[Part, ...]) -> tuple[LineRecord, ...]:
    """Check each line of the derivation of a part against the line before: prove it, and try to refute it."""
    stages = DERIVATIONS.get((claim_id, part.name), ())
    steps = [(stage, before, line) for stage in stages for before, line in stage.steps()]
    proofs = prove_lines(part, stages, claim_id=claim_id, earlier=earlier) if steps else []
    return tuple(
        _line_record(part, stage, before, line, proof)
        for (stage, before, line), proof in zip(steps, proofs, strict=True)
    )


def _line_record(part: Part, stage: Stage, before: sp.Expr, line: Line, proof: Proof) -> LineRecord:
    found = refute_line(part, before, line, POINTS_OF_A_PROVED_LINE if proof.status == "proved" else POINTS)
    rule = line_rule(part, before, line).describe()
    return LineRecord(
        sign=line.sign,
        expression=unicode(line.expr),
        reason=line.reason,
        rule=rule if stage.given is None or line.by else f"{rule}, given the statement at {stage.given}",
        status="refuted" if found.refuted else proof.status,
        why_not=proof.reason,
        witness=found.witness,
        seconds=proof.seconds,
    )


def refute_line(part: Part, before: sp.Expr, line: Line, points: int = POINTS) -> Search:
    """Search for a point at which a line does not follow from the expression before."""
    return refute(line.after(before), part.assuming, sizes=part.by.at_sizes(), points=points)


def _counted(mutants: Sequence[Mutant], part: Part) -> Mutants:
    refuted, implied, listed, survived = (
        tuple(mutant for mutant in mutants if mutant.fate == fate)
        for fate in ("refuted", "implied", "listed", "survived")
    )
    return Mutants(
        total=len(mutants),
        refuted=len(refuted),
        implied=implied,
        listed=listed,
        survived=tuple(mutant.text for mutant in survived),
        stale=tuple(sorted(set(part.equivalent) - {mutant.text for mutant in listed})),
    )


def _examine_wrong(variant: Wrong) -> WrongRecord:
    search = refute(variant.statement, variant.assuming, points=POINTS_IF_WRONG)
    return WrongRecord(variant.text, unicode(variant.statement), search.witness)


def settled(records: Iterable[ClaimRecord]) -> tuple[ClaimRecord, ...]:
    """The records of a run, each with what it waits for among all of them."""
    by_id = {record.id: record for record in records}
    return tuple(replace(record, waits_for=_not_sound_below(record, by_id)) for record in by_id.values())


def _not_sound_below(record: ClaimRecord, by_id: Mapping[str, ClaimRecord]) -> tuple[str, ...]:
    found: set[str] = set()
    waiting = [*record.uses]
    while waiting:
        use = waiting.pop()
        if use not in found:
            found.add(use)
            waiting += by_id[use].uses if use in by_id else ()
    return tuple(sorted(use for use in found if use not in by_id or not by_id[use].sound))


def write_queries(claim: Claim, folder: Path) -> int:
    """Write every SMT query that the proofs of a claim ask, as SMT-LIB files; the number of them."""
    count = 0
    for position, proof in enumerate(prove_claim(claim)):
        for query in proof.queries:
            (folder / f"{claim.id}.{position + 1}.{count + 1}.smt2").write_text(query, encoding="utf-8")
            count += 1
    return count

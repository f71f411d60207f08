"""The certification of parts of claims by Coq, and its record.

Parts are checked one by one, side by side. A theorem that a script uses is an axiom to Coq until it is certified
itself, so a part is certified only if all that it uses is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

from grape_spec.coq.certificate import (
    KINDS,
    Certificate,
    NotCertified,
    certificate,
    certify_all,
    part_named,
)
from grape_spec.coq.coqtop import HEADER, Session, compile_library, library_text, version
from grape_spec.coq.printer import Unstated
from grape_spec.coq.rules import theorem_name
from grape_spec.coq.statement import definition_text, stated
from grape_spec.coq.terms import NoScript
from grape_spec.language.claims import Claim, Part
from grape_spec.language.registry import CLAIMS, claim_of

#: Seconds for each of the two theorems of a part.
TIME_LIMIT = 60.0

_RESTS = "it rests on"

Verdict = Literal["certified", "not certified"]
CERTIFIED: Verdict = "certified"
NOT_CERTIFIED: Verdict = "not certified"


@dataclass(frozen=True)
class CertificateRecord:
    """What Coq said of a part.

    Arguments:
        claim, part: whose it is.
        status: "certified" only if the statement is, that its terms have values, and every part that it rests on.
        reason: why it is not certified.
        seconds: what Coq took.
        axioms: those of Coq that the proofs rest on.
        rests_on: the parts whose theorems the script uses, as "claim" or "claim [part]".
        coq: the version of Coq.
        hash: SHA-256 of all that Coq was given, the library included.
        states: SHA-256 of what is certified: the theorems and the definitions that they speak of.
    """

    claim: str
    part: str
    status: Verdict
    reason: str
    seconds: float
    axioms: tuple[str, ...]
    rests_on: tuple[str, ...]
    coq: str
    hash: str
    states: str


def label(claim_id: str, part: str) -> str:
    """A part by name."""
    return f"{claim_id} [{part}]" if part else claim_id


def coq_statement(part: Part, claim: Claim) -> str:
    """What is certified of a part, as Coq states it: the definitions, the theorem, and that its terms have values.

    Raises: Unstated if it has no form in Coq.
    """
    statement, name = stated(part.statement, part.assuming, part.by.at_sizes()), theorem_name(claim, part)
    theorems = [statement.theorem(name), *([statement.value_theorem(name)] if statement.needs else [])]
    return "\n".join([*map(definition_text, statement.definitions), *theorems])


def coq_statement_or_reason(part: Part, claim: Claim) -> str:
    """What is certified of a part, or why it has no form in Coq, as a comment of Coq."""
    try:
        return coq_statement(part, claim)
    except Unstated as failure:
        return _comment(f"no form in Coq: {failure}")


def states(part: Part, claim: Claim) -> str:
    """The hash of what is certified; empty if it has no form in Coq."""
    try:
        text = coq_statement(part, claim)
    except Unstated:
        return ""
    return sha256(f"{library_text('Definitions')}\n{text}".encode()).hexdigest()


def with_what_they_use(claims: Iterable[Claim]) -> list[tuple[Claim, Part]]:
    """The parts of claims and those that their scripts use, in the order of the registry."""
    wanted = {(claim.id, part.name): None for claim in claims for part in claim.parts}
    todo = list(wanted)
    while todo:
        claim = claim_of(todo[0][0])
        for use in _uses(claim, part_named(claim, todo.pop(0)[1])):
            if use not in wanted:
                wanted[use] = None
                todo.append(use)
    return [(claim, part) for claim in CLAIMS.values() for part in claim.parts if (claim.id, part.name) in wanted]


def _uses(claim: Claim, part: Part) -> tuple[tuple[str, str], ...]:
    try:
        entry = certificate(claim, part)
    except (NoScript, Unstated):
        return ()
    return entry.uses if entry is not None else ()


class Run:
    """One run over parts; workers take the next part until none is left.

    Arguments:
        parts: what is to be certified.
        known: earlier records by hash, which are not made again.
        finished: called with each part as it is done.
    """

    def __init__(
        self,
        parts: list[tuple[Claim, Part]],
        known: Iterable[CertificateRecord],
        finished: Callable[[CertificateRecord], None],
    ) -> None:
        self.records: dict[tuple[str, str], CertificateRecord] = {}
        self._parts, self._finished = list(parts), finished
        # Whether a part falls with another that it rests on is seen anew in each run.
        self._known = {record.hash: record for record in known if not record.reason.startswith(_RESTS)}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def work(self, folder: Path, coq: str, limit: float) -> None:
        """What one worker does."""
        try:
            with Session(folder) as session:
                while (task := self._next()) is not None:
                    record = self._record(session, *task, coq, limit)
                    with self._lock:
                        self.records[record.claim, record.part] = record
                        self._finished(record)
        except BaseException as failure:
            self._failure = failure

    def _next(self) -> tuple[Claim, Part] | None:
        with self._lock:
            return self._parts.pop(0) if self._parts and self._failure is None else None

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _record(self, session: Session, claim: Claim, part: Part, coq: str, limit: float) -> CertificateRecord:
        blank = CertificateRecord(claim.id, part.name, NOT_CERTIFIED, "", 0.0, (), (), coq, "", states(part, claim))
        try:
            entries = [entry for kind in KINDS if (entry := certificate(claim, part, kind)) is not None]
        except (NoScript, Unstated) as failure:
            return replace(blank, reason=f"no script: {failure}")
        rests_on = tuple(label(*use) for use in entries[0].uses)
        blank = replace(blank, rests_on=rests_on, hash=_joint_hash(entries))
        earlier = self._known.get(blank.hash)
        if earlier is not None and earlier.coq == coq:
            return replace(earlier, claim=claim.id, part=part.name)
        return _checked(session, entries, blank, limit)


def _checked(session: Session, entries: list[Certificate], blank: CertificateRecord, limit: float) -> CertificateRecord:
    start = perf_counter()
    try:
        axioms = sorted(certify_all(session, entries, limit))
    except NotCertified as failure:
        return replace(blank, reason=str(failure), seconds=perf_counter() - start)
    return replace(blank, status=CERTIFIED, axioms=tuple(axioms), seconds=perf_counter() - start)


def _joint_hash(entries: list[Certificate]) -> str:
    return sha256("".join(entry.hash for entry in entries).encode()).hexdigest()


def settled(records: Iterable[CertificateRecord]) -> tuple[CertificateRecord, ...]:
    """The records, where a part that rests on one that is not certified is not certified either."""
    found = {label(record.claim, record.part): record for record in records}
    while True:
        fallen = {
            name: missing
            for name, record in found.items()
            if record.status == CERTIFIED
            and (missing := [use for use in record.rests_on if use not in found or found[use].status != CERTIFIED])
        }
        if not fallen:
            return tuple(found.values())
        for name, missing in fallen.items():
            reason = f"{_RESTS} {', '.join(missing)}, not certified"
            found[name] = replace(found[name], status=NOT_CERTIFIED, reason=reason)


def certify_claims(
    claims: Iterable[Claim],
    *,
    known: Iterable[CertificateRecord] = (),
    processes: int = 2,
    limit: float = TIME_LIMIT,
    finished: Callable[[CertificateRecord], None] = lambda record: None,
    started: Callable[[int], None] = lambda count: None,
) -> tuple[CertificateRecord, ...]:
    """Have Coq certify every part of claims, and the parts that their scripts use.

    Arguments:
        claims: what to certify.
        known: records of earlier runs; a part whose text has not changed keeps its record.
        processes: how many run side by side.
        limit: seconds for each theorem.
        finished: called with each record as it is made.
        started: called with the number of parts before the first.

    Raises: CoqMissing if Coq cannot be used, OSError if a file cannot be written.
    """
    coq = version()
    parts = with_what_they_use(claims)
    started(len(parts))
    run = Run(parts, known, finished)
    with TemporaryDirectory(prefix="grape_verified_coq_") as name:
        folder = Path(name)
        compile_library(folder)
        workers = [threading.Thread(target=run.work, args=(folder, coq, limit)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    run.raise_failure()
    order = {(claim.id, part.name): position for position, (claim, part) in enumerate(parts)}
    return settled(sorted(run.records.values(), key=lambda record: order[record.claim, record.part]))


# -- files of subjects -------------------------------------------------------------------------------------------


def write_subjects(records: Iterable[CertificateRecord], folder: Path) -> list[Path]:
    """Write what is certified as files that Coq compiles: the library, and a file for each subject."""
    folder.mkdir(parents=True, exist_ok=True)
    certified = {(r.claim, r.part) for r in records if r.status == CERTIFIED}
    written = []
    for name in ("Definitions", "Tactics"):
        written.append(folder / f"{name}.v")
        written[-1].write_text(library_text(name), encoding="utf-8")
    for subject in dict.fromkeys(id.split(".")[0] for id in CLAIMS):
        own = [claim for claim in CLAIMS.values() if claim.id.split(".")[0] == subject]
        text = subject_text(own, certified)
        if text:
            written.append(folder / f"{subject}.v")
            written[-1].write_text(text, encoding="utf-8")
    return written


def subject_text(claims: Iterable[Claim], certified: set[tuple[str, str]]) -> str:
    """A file with what is certified of claims, after what that rests on; empty if nothing is."""
    seen: dict[tuple[str, str], None] = {}
    pieces: list[str] = []
    definitions: dict[str, None] = {}

    def put(claim: Claim, part: Part) -> None:
        if (claim.id, part.name) in seen:
            return
        seen[claim.id, part.name] = None
        entries = [entry for kind in KINDS if (entry := certificate(claim, part, kind)) is not None]
        for use in entries[0].uses:
            put(claim_of(use[0]), part_named(claim_of(use[0]), use[1]))
        new = [id for entry in entries for id in entry.definitions if id not in definitions]
        for id in dict.fromkeys(new):
            definitions[id] = None
            pieces.append(definition_text(id))
        pieces.append(_comment(f"{label(claim.id, part.name)}: {claim.text}"))
        pieces.extend(entry.proof() for entry in entries)

    for claim in claims:
        for part in claim.parts:
            if (claim.id, part.name) in certified:
                put(claim, part)
    return "\n\n".join([HEADER.strip(), *pieces]) + "\n" if pieces else ""


def _comment(text: str) -> str:
    """A comment of Coq, which reads quotation marks and comments within comments."""
    plain = text.replace('"', "'").replace("(*", "( *").replace("*)", "* )")
    return f"(** {plain} *)"

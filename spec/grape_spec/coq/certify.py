"""The certification of parts of claims by Coq, and its record.

Parts are checked one by one, side by side. A theorem that a script uses is an axiom to Coq until it is certified
itself, so a part is certified only if all that it uses is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

import sympy as sp
import z3

from grape_spec.coq.certificate import (
    KINDS,
    Certificate,
    NotCertified,
    certificate,
    certify_all,
)
from grape_spec.coq.coqtop import (
    ENDED,
    HEADER,
    LIBRARY,
    OUT_OF_TIME,
    CoqMissing,
    Session,
    compile_library,
    library_text,
    refuse_without_space,
    version,
)
from grape_spec.coq.printer import Unstated
from grape_spec.coq.statement import definition_text, stated
from grape_spec.coq.terms import NoScript
from grape_spec.coq.work import theorem_name
from grape_spec.language.claims import Claim, Part
from grape_spec.language.registry import CLAIMS, claim_of
from grape_spec.proof.fingerprint import fingerprints

#: Seconds for each of the two theorems of a part.
TIME_LIMIT = 60.0

#: How the reason begins of a part that Coq accepts, but not all that it rests on. No other reason begins so.
_RESTS = "it rests on"

#: How the reason begins where Coq did not judge a text: the next run tries it again.
_NO_VERDICT = (ENDED, OUT_OF_TIME)

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
        read: SHA-256 of all that the texts are made from: the claim, what it uses, and the code that writes them.
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
    read: str = ""


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


# -- what is kept of earlier runs --------------------------------------------------------------------------------

#: Records of earlier runs that hold without a look at their texts, by claim and part.
Kept = Mapping[tuple[str, str], CertificateRecord]


def _kept(known: Iterable[CertificateRecord], coq: str, today: Mapping[str, str]) -> Kept:
    """The records whose texts would be the same today. Whether a part falls with another is seen anew in each run."""
    stood = (replace(r, status=CERTIFIED, reason="") if r.reason.startswith(_RESTS) else r for r in known)
    return {
        (r.claim, r.part): r
        for r in stood
        if r.coq == coq and r.read and r.read == today.get(r.claim) and not r.reason.startswith(_NO_VERDICT)
    }


def _read_today() -> dict[str, str]:
    """For each claim, the SHA-256 of all that its texts for Coq are made from."""
    code = sha256(f"{sp.__version__} {z3.get_version_string()}".encode())
    package = Path(__file__).parents[1]
    for folder in ("coq", "language", "proof"):
        for file in sorted((package / folder).rglob("*")):
            if file.suffix in (".py", ".v"):
                code.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    found = fingerprints()
    return {id: sha256(f"{code.hexdigest()} {found[id]}".encode()).hexdigest() for id in CLAIMS}


class Run:
    """One run over parts; workers take the next part until none is left.

    What a part rests on is known once its script is written: it is added to the parts then.

    Arguments:
        claims: what is to be certified.
        known: earlier records by hash, which are not made again.
        kept: those whose texts need not be written again.
        read: for each claim, the SHA-256 of all that its texts are made from.
        finished: called with each part as it is done.
        started: called with the number of parts, and again whenever it grows.
    """

    def __init__(
        self,
        claims: Iterable[Claim],
        known: Iterable[CertificateRecord],
        kept: Kept,
        read: Mapping[str, str],
        finished: Callable[[CertificateRecord], None],
        started: Callable[[int], None],
    ) -> None:
        self.records: dict[str, CertificateRecord] = {}
        self._kept, self._read = kept, read
        self._finished, self._started = finished, started
        # Whether a part falls with another that it rests on is seen anew in each run; without a verdict it is repeated.
        self._known = {record.hash: record for record in known if not record.reason.startswith((_RESTS, *_NO_VERDICT))}
        self._named = {label(claim.id, part.name): (claim, part) for claim in CLAIMS.values() for part in claim.parts}
        self._wanted: set[str] = set()
        self._waiting: list[str] = []
        self._busy = 0
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._sessions: list[Session] = []
        self._want(label(claim.id, part.name) for claim in claims for part in claim.parts)

    def work(self, folder: Path, coq: str, limit: float) -> None:
        """What one worker does."""
        try:
            with Session(folder) as session:
                self._sessions.append(session)
                while (name := self._next()) is not None:
                    record = self._record(session, *self._named[name], coq, limit)
                    if self._failure is not None and record.reason.startswith(ENDED):
                        return  # cut off by the end of the run
                    if record.status != CERTIFIED:
                        refuse_without_space(folder)
                    self._done(name, record)
        except BaseException as failure:
            self._end(failure)

    def _next(self) -> str | None:
        """The next part; while none is left, others may still find what their parts rest on."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._busy or self._failure is not None)
            if not self._waiting or self._failure is not None:
                return None
            self._busy += 1
            return self._waiting.pop(0)

    def _want(self, names: Iterable[str]) -> None:
        with self._changed:
            new = [name for name in dict.fromkeys(names) if name in self._named and name not in self._wanted]
            if new:
                self._wanted.update(new)
                self._waiting.extend(new)
                self._started(len(self._wanted))
                self._changed.notify_all()

    def _done(self, name: str, record: CertificateRecord) -> None:
        with self._changed:
            self.records[name] = record
            self._finished(record)
            self._busy -= 1
            self._changed.notify_all()

    def _end(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def in_order(self) -> list[CertificateRecord]:
        """What is found, in the order of the registry."""
        return [self.records[name] for name in self._named if name in self.records]

    def stop(self, failure: BaseException) -> None:
        """End what is being checked, and begin nothing more."""
        self._end(failure)
        for session in self._sessions:
            session.interrupt()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _record(self, session: Session, claim: Claim, part: Part, coq: str, limit: float) -> CertificateRecord:
        if (kept := self._kept.get((claim.id, part.name))) is not None:
            self._want(kept.rests_on)
            return kept
        read, now = self._read[claim.id], states(part, claim)
        blank = CertificateRecord(claim.id, part.name, NOT_CERTIFIED, "", 0.0, (), (), coq, "", now, read)
        try:
            entries = _certificates(claim, part)
        except (NoScript, Unstated) as failure:
            return replace(blank, reason=f"no script: {failure}")
        rests_on = tuple(label(*use) for use in entries[0].uses)
        self._want(rests_on)
        blank = replace(blank, rests_on=rests_on, hash=_joint_hash(entries))
        earlier = self._known.get(blank.hash)
        if earlier is not None and earlier.coq == coq:
            return replace(earlier, claim=claim.id, part=part.name, rests_on=rests_on, read=read)
        return _checked(session, entries, blank, limit)


def _checked(session: Session, entries: list[Certificate], blank: CertificateRecord, limit: float) -> CertificateRecord:
    start = perf_counter()
    try:
        axioms = sorted(certify_all(session, entries, limit))
    except NotCertified as failure:
        return replace(blank, reason=str(failure), seconds=perf_counter() - start)
    return replace(blank, status=CERTIFIED, axioms=tuple(axioms), seconds=perf_counter() - start)


def _certificates(claim: Claim, part: Part) -> list[Certificate]:
    return [entry for kind in KINDS if (entry := certificate(claim, part, kind)) is not None]


def _joint_hash(entries: list[Certificate]) -> str:
    return sha256("".join(entry.hash for entry in entries).encode()).hexdigest()


def settled(records: Iterable[CertificateRecord]) -> tuple[CertificateRecord, ...]:
    """The records, where a part that rests on one that is not certified, or on itself, is not certified either."""
    found = {label(record.claim, record.part): record for record in records}
    waiting = {name: record.rests_on for name, record in found.items() if record.status == CERTIFIED}
    stand: set[str] = set()
    while new := {name for name, uses in waiting.items() if stand.issuperset(uses)} - stand:
        stand |= new
    for name in waiting.keys() - stand:
        missing = ", ".join(use for use in waiting[name] if use not in stand)
        found[name] = replace(found[name], status=NOT_CERTIFIED, reason=f"{_RESTS} {missing}, not certified")
    return tuple(found.values())


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
        known: records of earlier runs; a part keeps its record if nothing that its text is made from has changed, or
            if the text is the same.
        processes: how many run side by side.
        limit: seconds for each theorem.
        finished: called with each record as it is made.
        started: called with the number of parts, and again whenever it grows.

    Raises: CoqMissing if Coq cannot be used.
    """
    coq, known, read = version(), list(known), _read_today()
    kept = _kept(known, coq, read)
    run = Run(claims, known, kept, read, finished, started)
    try:
        temporary = TemporaryDirectory(prefix="grape_verified_coq_")
    except OSError as failure:
        raise CoqMissing(f"there is no temporary folder: {failure.strerror}") from failure
    with temporary as name:
        folder = Path(name)
        compile_library(folder)
        workers = [threading.Thread(target=run.work, args=(folder, coq, limit)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except BaseException as failure:  # such as an interrupt, of which only this thread hears
            run.stop(failure)
            for worker in workers:
                worker.join()
    run.raise_failure()
    return settled(run.in_order())


# -- files of subjects -------------------------------------------------------------------------------------------


#: The two theorems of each part that a file holds, by claim and part.
Theorems = Mapping[tuple[str, str], list[Certificate]]

#: How to check a file of a subject, at its head.
HOW = "Run coqc -Q . Grape FILE in this folder, for Definitions.v, Tactics.v and {}.v, in this order."


def theorems_of(records: Iterable[CertificateRecord]) -> Theorems:
    """The theorems that Coq accepted, where statement, script and library are those that it was given."""
    found, unchanged = {}, []
    for record in records:
        if record.status == CERTIFIED and (entries := _certificates_of(record)) is not None:
            found[record.claim, record.part] = entries
            unchanged.append(record)
    return {(r.claim, r.part): found[r.claim, r.part] for r in settled(unchanged) if r.status == CERTIFIED}


def _certificates_of(record: CertificateRecord) -> list[Certificate] | None:
    """What Coq was given for a record, or None if it would be given something else today."""
    claim = CLAIMS.get(record.claim)
    part = next((part for part in claim.parts if part.name == record.part), None) if claim is not None else None
    if claim is None or part is None:
        return None
    try:
        entries = _certificates(claim, part)
    except (NoScript, Unstated):
        return None
    return entries if _joint_hash(entries) == record.hash else None


def write_subjects(theorems: Theorems, folder: Path) -> list[Path]:
    """Write theorems as files that Coq compiles: the library, and a file for each subject with what it rests on."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: library_text(name) for name in LIBRARY}
    for subject in dict.fromkeys(claim.partition(".")[0] for claim, _ in theorems):
        texts[subject] = _subject_text(subject, theorems)
    written = []
    for name, text in texts.items():
        written.append(folder / f"{name}.v")
        written[-1].write_text(text, encoding="utf-8")
    return written


def _subject_text(subject: str, theorems: Theorems) -> str:
    seen: set[tuple[str, str]] = set()
    pieces: list[str] = []
    definitions: set[str] = set()

    def put(key: tuple[str, str]) -> None:
        if key in seen:
            return
        seen.add(key)
        for use in theorems[key][0].uses:
            put(use)
        for id in (id for entry in theorems[key] for id in entry.definitions):
            if id not in definitions:
                definitions.add(id)
                pieces.append(definition_text(id))
        pieces.append(_comment(f"{label(*key)}: {claim_of(key[0]).text}"))
        pieces.extend(entry.proof() for entry in theorems[key])

    for key in theorems:
        if key[0].partition(".")[0] == subject:
            put(key)
    return "\n\n".join([_comment(HOW.format(subject)), HEADER.strip(), *pieces]) + "\n"


def _comment(text: str) -> str:
    """A comment of Coq, which reads quotation marks and comments within comments."""
    plain = text.replace('"', "'").replace("(*", "( *").replace("*)", "* )")
    return f"(** {plain} *)"

"""The ledger: the evidence of a run on claims and kernels, as one JSON document.

Every status on a page, in a badge or in the output of a command is read from it. Evidence about another version of a
claim or of the code does not count.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import grape_spec
from grape_spec.coq.certify import CERTIFIED, NOT_CERTIFIED, CertificateRecord, states
from grape_spec.language.claims import Claim, Part
from grape_spec.language.registry import CLAIMS
from grape_spec.outside import is_of_unloaded
from grape_spec.proof.codec import from_json, to_json
from grape_spec.proof.examine import TRUSTED_BASE, ClaimRecord, LineRecord, settled
from grape_spec.proof.fingerprint import fingerprints, joint
from sympy.external.gmpy import GROUND_TYPES
from torch.backends.cpu import get_cpu_capability

import grape_verified
from grape_verified.conformance.report import Judgement

#: Raised whenever a record gets, loses or renames a field: a ledger of another schema counts as empty.
SCHEMA = 6

NOT_RUN = "not run"
FULLY_PROVED = "fully proved"
AT_SIZES = "proved at chosen sizes only"

#: Every status of a claim, from best to worst. A claim is proved but not fully if the audit found a fault, or if
#: something that it uses is not proved.
STATUSES = (FULLY_PROVED, AT_SIZES, "proved", "unknown", "refuted", NOT_RUN)

_PACKAGES = ("grape-verified", "sympy", "mpmath", "python-flint", "z3-solver", "torch", "hypothesis", "numpy")

#: The entries of `versions` that the examination of a claim depends on, and those that the check of a kernel does.
OF_CLAIMS = ("python", "sympy", "mpmath", "python-flint", "z3-solver", "ground types", "spec code")
OF_KERNELS = (*OF_CLAIMS, "torch", "hypothesis", "numpy", "platform", "kernel code")


class NotALedger(ValueError):
    """The file was not written by `verify`."""


@dataclass(frozen=True)
class KernelRecord(Judgement):
    """What is found about one of our own kernels.

    Arguments:
        rests_on: the definitions and claims that its contract reads.
        examples: the number of inputs for each property.
        fingerprint: that of all that it rests on.
        created: the date and time of the run that checked it.
    """

    rests_on: tuple[str, ...]
    seconds: float
    examples: int = 0
    fingerprint: str = ""
    created: str = ""

    DERIVED: ClassVar = ("accepted",)


@dataclass(frozen=True)
class Summary:
    """A run in numbers."""

    claims: int = 0
    fully_proved: int = 0
    proved: int = 0
    unknown: int = 0
    refuted: int = 0
    at_sizes_only: int = 0
    contradictions: int = 0
    equations: int = 0
    equations_agree: int = 0
    equations_contradicted: int = 0
    equations_not_decided: int = 0
    mutants: int = 0
    mutants_refuted: int = 0
    mutants_implied: int = 0
    mutants_listed: int = 0
    mutants_survived: int = 0
    wrong_variants: int = 0
    derivations: int = 0
    derivation_lines: int = 0
    derivation_lines_proved: int = 0
    kernels: int = 0
    kernels_accepted: int = 0
    mean_claim_seconds: float = 0.0
    mean_prove_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Ledger:
    """The evidence of a run, with its date and versions; empty if nothing was run.

    Arguments:
        created: the date and time of the run.
        versions: whatever a verdict depends on beside its claim: packages, hashes of the code, the platform.
        trusted_base: the assumptions of every proof.
        claims, kernels: the records, in the order of the spec and of the contracts.
        certificates: what Coq said of parts of claims; `certify` adds them.
        summary: their counts.
    """

    schema: int = SCHEMA
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    trusted_base: tuple[str, ...] = TRUSTED_BASE
    claims: tuple[ClaimRecord, ...] = ()
    kernels: tuple[KernelRecord, ...] = ()
    certificates: tuple[CertificateRecord, ...] = ()
    summary: Summary = Summary()

    DERIVED: ClassVar = ("holds",)

    @property
    def holds(self) -> bool:
        """Whether every claim is fully proved and every kernel accepted."""
        return all(record.fully_proved for record in self.claims) and all(kernel.accepted for kernel in self.kernels)

    @cached_property
    def by_id(self) -> dict[str, ClaimRecord]:
        """The records of claims by id."""
        return {record.id: record for record in self.claims}

    @cached_property
    def _by_contract(self) -> dict[str, KernelRecord]:
        return {record.contract: record for record in self.kernels}

    @cached_property
    def _of_this_code(self) -> bool:
        return all(self.versions.get(name) == hash for name, hash in code().items())

    @cached_property
    def _today(self) -> Mapping[str, str]:
        return fingerprints()

    def of(self, claim: Claim) -> ClaimRecord | None:
        """The record of a claim as it is stated today, or None."""
        record = self.by_id.get(claim.id)
        return record if record is not None and record.hash == claim.hash else None

    def status(self, claim: Claim) -> str:
        """One of STATUSES."""
        record = self.of(claim)
        if record is None:
            return NOT_RUN
        if record.status != "proved":
            return record.status
        if not record.fully_proved:
            return "proved"
        return FULLY_PROVED if record.general else AT_SIZES

    def derivation(self, claim: Claim, part: Part) -> tuple[LineRecord, ...]:
        """What was seen of the lines of a derivation as it is written today; empty if there is no record."""
        record = self.of(claim)
        if record is None or record.fingerprint != self._today.get(claim.id):
            return ()
        return next(own.derivation for own in record.parts if own.name == part.name)

    @cached_property
    def _by_part(self) -> dict[tuple[str, str], CertificateRecord]:
        return {(record.claim, record.part): record for record in self.certificates}

    @cached_property
    def _states(self) -> dict[tuple[str, str], tuple[Part, str]]:
        return {}

    def certificate(self, claim: Claim, part: Part) -> CertificateRecord | None:
        """What Coq said of a part as it is stated today, or None."""
        key = (claim.id, part.name)
        record = self._by_part.get(key)
        if record is None:
            return None
        if key not in self._states or self._states[key][0] is not part:
            self._states[key] = part, states(part, claim)
        return record if record.states == self._states[key][1] else None

    def certified_part(self, claim: Claim, part: Part) -> str:
        """Whether Coq's kernel accepts a part: "certified", "not certified" or "not run"."""
        record = self.certificate(claim, part)
        return NOT_RUN if record is None else record.status

    def certified(self, claim: Claim) -> str:
        """Whether Coq's kernel accepts every part of a claim: "certified", "not certified" or "not run"."""
        records = [self.certificate(claim, part) for part in claim.parts]
        if None in records:
            return NOT_RUN
        return CERTIFIED if all(r is not None and r.status == CERTIFIED for r in records) else NOT_CERTIFIED

    def with_certificates(self, records: Iterable[CertificateRecord]) -> Ledger:
        """The ledger with records added, in place of earlier ones of the same parts; all else is kept."""
        by_part = {**self._by_part, **{(record.claim, record.part): record for record in records}}
        kept = [key for key in _parts() if key in by_part]
        kept += [key for key in by_part if is_of_unloaded(key[0])]
        return replace(self, certificates=tuple(by_part[key] for key in kept))

    def of_kernel(self, contract: str) -> KernelRecord | None:
        """The record of a kernel under a contract, or None if there is none for this code and these definitions."""
        record = self._by_contract.get(contract)
        if record is None or not self._of_this_code:
            return None
        return record if record.fingerprint == joint(record.rests_on, self._today) else None


def _parts() -> Iterable[tuple[str, str]]:
    return ((claim.id, part.name) for claim in CLAIMS.values() for part in claim.parts)


def summarise(claims: Iterable[ClaimRecord], kernels: Sequence[KernelRecord], seconds: float) -> Ledger:
    """The ledger of a run: the records, their summary, the versions and the date."""
    records = settled(claims)
    return Ledger(
        created=now(),
        versions=versions(),
        claims=records,
        kernels=tuple(kernels),
        summary=_counted(records, kernels, seconds),
    )


def _counted(claims: Sequence[ClaimRecord], kernels: Sequence[KernelRecord], seconds: float) -> Summary:
    parts = [part for record in claims for part in record.parts]
    lines = [line for part in parts for line in part.derivation]
    proved = [record for record in claims if record.status == "proved"]
    return Summary(
        claims=len(claims),
        fully_proved=sum(record.fully_proved for record in claims),
        proved=len(proved),
        unknown=sum(record.status == "unknown" for record in claims),
        refuted=sum(record.status == "refuted" for record in claims),
        at_sizes_only=sum(not record.general for record in proved),
        contradictions=sum(part.contradiction for part in parts),
        equations=sum(part.second.opinion != "no equation" for part in parts),
        equations_agree=sum(part.second.opinion == "agrees" for part in parts),
        equations_contradicted=sum(part.second.opinion == "contradicts" for part in parts),
        equations_not_decided=sum(part.second.opinion == "not decided" for part in parts),
        mutants=sum(part.mutants.total for part in parts),
        mutants_refuted=sum(part.mutants.refuted for part in parts),
        mutants_implied=sum(len(part.mutants.implied) for part in parts),
        mutants_listed=sum(len(part.mutants.listed) for part in parts),
        mutants_survived=sum(len(part.mutants.survived) for part in parts),
        wrong_variants=sum(len(record.wrong) for record in claims),
        derivations=sum(bool(part.derivation) for part in parts),
        derivation_lines=len(lines),
        derivation_lines_proved=sum(line.status == "proved" for line in lines),
        kernels=len(kernels),
        kernels_accepted=sum(kernel.accepted for kernel in kernels),
        mean_claim_seconds=sum(record.seconds for record in claims) / max(len(claims), 1),
        mean_prove_seconds=sum(record.prove_seconds for record in claims) / max(len(claims), 1),
        seconds=seconds,
    )


def now() -> str:
    """The date and time, to be recorded."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")  # two runs within a second are told apart


def versions() -> dict[str, str]:
    """What a verdict depends on beside its claim; packages that are not installed are left out."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()} {get_cpu_capability()}",
        "ground types": GROUND_TYPES,
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, **code()}


def code() -> dict[str, str]:
    """SHA-256 of the code that examines claims and of the code that checks kernels, as a version covers many states.

    Subjects and derivations only state what is examined. The command line and the pages only show what was found.
    """
    spec, package = (Path(str(found.__file__)).parent for found in (grape_spec, grape_verified))
    stated = {spec / f"{subject}.py" for subject in grape_spec.SUBJECTS}
    stated |= {spec / "derivations" / f"{module}.py" for module in grape_spec.DERIVATIONS}
    return {
        "spec code": _hash(spec, lambda file: file not in stated),
        "kernel code": _hash(package, lambda file: file.relative_to(package).parts[0] not in ("cli", "docs")),
    }


def _hash(folder: Path, counts: Callable[[Path], bool]) -> str:
    digest = sha256()
    for file in sorted(filter(counts, folder.rglob("*.py"))):
        digest.update(f"{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def read(path: Path) -> Ledger:
    """The ledger in a file; an empty one if there is no file, or if it has another schema.

    Raises: NotALedger for a file of another kind.
    """
    if not path.exists():
        return Ledger()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return from_json(Ledger, found) if found["schema"] == SCHEMA else Ledger()
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise NotALedger(f"{path} is not a grape-verified ledger") from failure


def write(ledger: Ledger, path: Path) -> None:
    """Write a ledger as JSON; if that fails, the file stays as it was."""
    text = json.dumps(to_json(ledger), indent=1, ensure_ascii=False) + "\n"
    if path.exists() and not path.is_file():  # a pipe or a device
        path.write_text(text, encoding="utf-8")
        return
    beside = path.resolve().with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path.resolve())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def schema() -> dict[str, Any]:
    """The JSON schema of the ledger."""
    return json.loads(files("grape_verified.conformance").joinpath("ledger.schema.json").read_text(encoding="utf-8"))

"""Recorded runs of profiles: what each function was checked as, and what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from grape_spec.proof.codec import from_json, to_json

import grape_verified
from grape_verified.conformance.checking import EXAMPLES, check
from grape_verified.conformance.profiles.profile import Entry, Profile
from grape_verified.conformance.report import VERDICTS, FailOn, Report, Verdict

#: Increased whenever a record gains, loses or renames a field.
SCHEMA = 1


class NotARun(ValueError):
    """The file is not a recorded run of this version."""


@dataclass(frozen=True)
class Found:
    """One thing that is wrong with a function.

    Arguments:
        verdict, property, text, where, counterexample: as in the report.
    """

    verdict: Verdict
    property: str
    text: str
    where: tuple[str, ...]
    counterexample: str


@dataclass(frozen=True)
class Row:
    """One function of a trainer in a run.

    Arguments:
        name, symbol, setting, contract, options: as in the profile's entry.
        habits: the conventions that it was judged with.
        formula: whether it is the loss of its contract.
        findings: what is wrong, findings on the formula first.
        reason: why it was not run.
    """

    name: str
    symbol: str
    setting: str
    contract: str
    options: dict[str, Any]
    habits: tuple[str, ...]
    formula: Literal["right", "wrong", "not known", "not run"]
    findings: tuple[Found, ...] = ()
    reason: str = ""

    def of(self, verdict: Verdict) -> tuple[Found, ...]:
        """The findings of one verdict."""
        return tuple(found for found in self.findings if found.verdict == verdict)

    @property
    def called(self) -> bool:
        """Whether the function could be called; if not, that is what is found about its formula."""
        return self.formula != "not known" or not self.of("formula")

    @property
    def robustness(self) -> str:
        """The number of robustness findings, in words."""
        if self.formula == "not run" or not self.called:
            return self.formula
        count = len(self.of("robustness"))
        return "1 finding" if count == 1 else f"{count} findings" if count else "no findings"

    def fails(self, on: FailOn) -> bool:
        """Whether it is rejected; notes do not count, as they are not recorded."""
        if on == "robustness":
            return bool(self.of("robustness")) or self.formula == "not run" or not self.called
        return self.formula != "right" or (on != "formula" and bool(self.findings))


@dataclass(frozen=True)
class Run:
    """A run of a profile.

    Arguments:
        schema: the version of the record's fields.
        profile, package, release: as in the profile.
        versions: the versions of the trainer, torch and this package.
        date: the date of the run.
        examples: the number of inputs for each property.
        functions: what was found, function by function.
    """

    schema: int
    profile: str
    package: str
    release: str
    versions: dict[str, str]
    date: str
    examples: int
    functions: tuple[Row, ...]

    @property
    def version(self) -> str:
        """The trainer's version."""
        return self.versions[self.package]

    def as_dict(self) -> dict[str, Any]:
        """The record as data for JSON."""
        found: dict[str, Any] = to_json(self)
        return found


def run(profile: Profile, examples: int = EXAMPLES, at: Callable[[Entry], None] = lambda entry: None) -> Run:
    """Check every function of a profile.

    Arguments:
        profile: a trainer.
        examples: the number of inputs for each property.
        at: called with each entry before it is checked.

    Raises: NotInstalled.
    """
    versions = {profile.package: profile.installed()}
    versions |= {"torch": metadata.version("torch"), "grape-verified": grape_verified.__version__}
    rows = []
    for entry in profile.entries:
        at(entry)
        rows.append(_row(profile, entry, examples))
    date = datetime.now(UTC).date().isoformat()
    return Run(SCHEMA, profile.name, profile.package, profile.release, versions, date, examples, tuple(rows))


def _row(profile: Profile, entry: Entry, examples: int) -> Row:
    """What is found about a function; one that cannot be imported is not run."""
    try:
        target = profile.target(entry)
    except Exception as failure:
        first = str(failure).strip().split("\n", 1)[0]
        return _filled(entry, "not run", reason=f"{type(failure).__name__}: {first}")
    report = check(
        target, entry.contract, examples=examples, options=entry.options, habits=entry.habits, bind=entry.bind
    )
    return _filled(entry, report.formula, findings=_findings(report))


def _filled(entry: Entry, formula: Any, findings: tuple[Found, ...] = (), reason: str = "") -> Row:
    own = (entry.name, entry.symbol, entry.setting, entry.contract, dict(entry.options))
    return Row(*own, entry.habits, formula, findings, reason)


def _findings(report: Report) -> tuple[Found, ...]:
    return tuple(
        Found(kind, finding.name, departure.text, departure.where, departure.counterexample)
        for kind in VERDICTS
        for finding, departure in report.departures(kind)
    )


def read(path: Path) -> Run:
    """The run in a file.

    Raises: NotARun.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        schema = data["schema"]
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise NotARun(f"{path.name} is no recorded run of a profile: {failure}") from failure
    if schema != SCHEMA:
        raise NotARun(f"{path.name} has the schema {schema!r}, expected {SCHEMA}; run its profile again")
    try:
        return from_json(Run, data)
    except ValueError as failure:
        raise NotARun(f"{path.name} is no recorded run of a profile: {failure}") from failure

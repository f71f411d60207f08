"""The findings of a check, property by property, and its two verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from grape_verified.conformance.habits import Habit

#: What a finding speaks of: whether it is the loss that it claims to be, or whether it survives training.
Verdict = Literal["formula", "robustness"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

#: What a function is rejected for.
FailOn = Literal["formula", "robustness", "formula and robustness", "all"]


def known(on: str) -> None:
    """Refuse what no function can be rejected for."""
    if on not in get_args(FailOn):
        raise ValueError(f"fail_on: got {on!r}, expected one of {', '.join(get_args(FailOn))}")


#: Why nothing more was tried: the function takes too long, or it ended the process.
TOO_LONG, ENDED = "the function takes too long", "the function ended the process"


@dataclass(frozen=True)
class Departure:
    """One way in which a function does not have a property.

    Arguments:
        text: what is wrong, in one sentence.
        verdict: "formula" if it is wrong on ordinary numbers where every row has tokens, else "robustness".
        where: what the smallest input needs for it, such as an option at another value than its default.
        counterexample: Python code with that input.
    """

    text: str
    verdict: Verdict
    where: tuple[str, ...] = ()
    counterexample: str = ""


@dataclass(frozen=True)
class Finding:
    """One property of one function.

    Arguments:
        name: the property.
        status: "noted" is a departure from a convention of this package, which is not an error; "not run" says nothing
            about the function.
        text: the property in one sentence, or what is wrong first, or why it was not run.
        examples: the number of inputs tried.
        verdict: the verdict that the property decides.
        departures: the different ways in which the function does not have it, at most three.
        undefined: the numbers that were not compared, as the spec gives them no value.
    """

    name: str
    status: Literal["passed", "failed", "noted", "not run"]
    text: str
    examples: int = 0
    verdict: Verdict = "robustness"
    departures: tuple[Departure, ...] = ()
    undefined: int = 0

    @property
    def broke_off(self) -> bool:
        """Whether the function took too long or ended the process, before this property or at it."""
        if self.status == "not run":
            return self.text in (TOO_LONG, ENDED)
        return "TookTooLong" in self.text or self.text.startswith(ENDED)

    @property
    def counterexample(self) -> str:
        """Python code with the smallest input found on which the function does not have it; empty if there is none."""
        return next((departure.counterexample for departure in self.departures), "")


@dataclass(frozen=True)
class Judgement:
    """What is found about one function, property by property.

    Arguments:
        contract, function: their names.
        offered, not_offered: the options of the contract that the function takes, and those that it does not.
        properties: the findings, in the order of checking.
    """

    contract: str
    function: str
    offered: tuple[str, ...]
    not_offered: tuple[str, ...]
    properties: tuple[Finding, ...]

    @property
    def accepted(self) -> bool:
        """Whether no property failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the properties that failed."""
        return self.named("failed")

    @property
    def formula(self) -> Literal["right", "wrong", "not known"]:
        """Whether it is the loss of its contract, where numbers are ordinary and every row has tokens."""
        if not self.called:
            return "not known"
        if any(self.departures("formula")):
            return "wrong"
        broken_off = any(finding.broke_off for finding in self.properties if finding.name in ("value", "gradient"))
        return "not known" if broken_off or self.finding("value").status == "not run" else "right"

    @property
    def called(self) -> bool:
        """Whether the function could be called, so that anything was tried."""
        return any(finding.status != "not run" for finding in self.properties if finding.name != "signature")

    def fails(self, on: FailOn = "formula and robustness") -> bool:
        """Whether the function is rejected: for a wrong formula, for robustness findings, or also for notes."""
        known(on)
        if not self.called:
            return True
        if on == "formula":
            return self.formula != "right"
        if on == "robustness":
            return any(self.departures("robustness"))
        return not self.accepted or (on == "all" and "noted" in {finding.status for finding in self.properties})

    def departures(self, verdict: Verdict) -> Iterator[tuple[Finding, Departure]]:
        """What is wrong, by verdict, each with the property that it was found by."""
        return (found for found in self._with_status("failed") if found[1].verdict == verdict)

    def deciding(self, on: FailOn = "formula and robustness") -> list[tuple[Finding, Departure]]:
        """What the function is rejected for, the formula first; empty if it is not rejected."""
        if not self.fails(on):
            return []
        by_verdict = {verdict: list(self.departures(verdict)) for verdict in VERDICTS}
        if on in VERDICTS and by_verdict[on]:
            return by_verdict[on]
        every = [found for verdict in VERDICTS for found in by_verdict[verdict]]  # also what left the formula unknown
        return [*every, *self.notes()] if on == "all" else every

    def notes(self) -> Iterator[tuple[Finding, Departure]]:
        """What departs from a convention, each with the property that it was found by."""
        return self._with_status("noted")

    def _with_status(self, status: str) -> Iterator[tuple[Finding, Departure]]:
        chosen = (finding for finding in self.properties if finding.status == status)
        return ((finding, departure) for finding in chosen for departure in finding.departures)

    def in_words(self, on: FailOn = "formula and robustness") -> str:
        """Whether it is rejected, the two verdicts, and the notes where they count."""
        outcome = "rejected" if self.fails(on) else "accepted"
        noted = self.named("noted") if on == "all" else ()
        notes = f" Notes: {', '.join(noted)}." if noted else ""
        return f"{self.function} as {self.judged_as}: {outcome}. {self.verdicts_in_words()}{notes}"

    def verdicts_in_words(self) -> str:
        """The two verdicts, each with the properties that decide it."""
        wrong, weak = (Counter(found.name for found, _ in self.departures(kind)) for kind in VERDICTS)
        formula = f"{self.formula} ({', '.join(wrong)})" if wrong else self.formula
        findings = "1 finding" if weak.total() == 1 else f"{weak.total()} findings"
        names = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in weak.items())
        robustness = f"{findings} ({names})" if weak else "no findings" if self.called else "not known"
        return f"Formula: {formula}. Robustness: {robustness}."

    @property
    def judged_as(self) -> str:
        """What it was compared with, in words."""
        return self.contract

    def __str__(self) -> str:
        """A line for each property that failed, was noted or was not run, and the verdicts, without counterexamples."""
        wrong = [(kind, *found) for kind in VERDICTS for found in self.departures(kind)]
        noted = [("noted", *found) for found in self.notes()]
        lines = [f"{kind}, {finding.name}: {departure.text}" for kind, finding, departure in (*wrong, *noted)]
        left = [
            f"not run, {finding.name}: {finding.text}" for finding in self.properties if finding.status == "not run"
        ]
        return "\n".join([*lines, *left, self.in_words()])

    def named(self, status: str) -> tuple[str, ...]:
        """The names of the properties with that status."""
        return tuple(finding.name for finding in self.properties if finding.status == status)

    def finding(self, name: str) -> Finding:
        """The finding on one property."""
        return next(finding for finding in self.properties if finding.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return {"accepted": self.accepted, "formula": self.formula, **asdict(self)}


@dataclass(frozen=True)
class Report(Judgement):
    """The result of `check`.

    Arguments:
        habits: the habits that the function was judged with.
    """

    habits: tuple[Habit, ...] = ()

    @property
    def judged_as(self) -> str:
        """The contract, and the habits in words."""
        return ", ".join([self.contract, *(habit.words for habit in self.habits)])

    def broken_off(self, sentence: str) -> Report:
        """What was found before the function broke the check off, at the first property without a finding."""
        done = [finding for finding in self.properties if finding.status != "not run" or finding.text]
        last, *rest = self.properties[len(done) :]
        broken = Finding(last.name, "failed", sentence, 1, "robustness", (Departure(sentence, "robustness"),))
        why = ENDED if sentence.startswith(ENDED) else TOO_LONG
        return replace(self, properties=(*done, broken, *(Finding(one.name, "not run", why) for one in rest)))

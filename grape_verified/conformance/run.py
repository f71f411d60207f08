"""Running the properties on a function that has been read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Flaky

from grape_verified.conformance.counterexample import render
from grape_verified.conformance.properties import PROPERTIES, Property
from grape_verified.conformance.report import Finding
from grape_verified.conformance.strategies import Case, Variant
from grape_verified.conformance.subject import Subject, Violation

#: Attempts to make a failing case smaller.
REDUCTIONS = 300

#: Why no further property can be tried where one of these failed.
BLOCKS = {"signature": "the function cannot be called", "repeatable": "the function is not repeatable"}


def run(subject: Subject, names: Sequence[str], examples: int) -> tuple[Finding, ...]:
    """The findings on some properties, in that order; once one makes the rest meaningless, they are not run."""
    found: list[Finding] = []
    for name in names:
        blocked = next((BLOCKS[entry.name] for entry in found if entry.status == "failed" and entry.name in BLOCKS), "")
        if blocked:
            found.append(Finding(name, "not run", blocked))
        elif name == "signature":
            found.append(signature(subject))
        else:
            found.append(run_property(subject, PROPERTIES[name], examples))
        if name == "options" and found[-1].status == "failed":
            usual = subject.contract.defaults(subject.held)  # later properties would fail on the same option
            subject = replace(subject, held=usual)
    return tuple(found)


def unreadable(subject: Subject, violation: Violation, names: Sequence[str]) -> tuple[Finding, ...]:
    """The findings on a function that cannot be called."""
    failed = Finding("signature", "failed", violation.sentence, 1, render(subject, violation))
    return (failed, *(Finding(name, "not run", BLOCKS["signature"]) for name in names[1:]))


def run_property(subject: Subject, prop: Property, examples: int) -> Finding:
    """Try one property on drawn inputs; on failure, keep the smallest counterexample."""
    reason = prop.not_run(subject)
    if reason:
        return Finding(prop.name, "not run", reason)
    search = _Search(subject, prop)

    def holds(case: Case) -> None:
        search.attempt(case)

    cases = subject.contract.cases(prop.regime, subject.offered, subject.held, subject.variants)
    try:
        _quietly(examples * prop.times)(given(case=cases)(holds))()
    except (Violation, _Enough):
        violation = search.last
        status: Literal["failed", "noted"] = "failed" if prop.required or subject.strict else "noted"
        return Finding(prop.name, status, violation.sentence, search.tried, render(subject, violation))
    except Flaky:
        once = "" if prop.name == "repeatable" else "gives different results for the same input; once, "
        return Finding(prop.name, "failed", f"{once}{search.last.sentence}", search.tried)
    return Finding(prop.name, "passed", prop.text, search.tried)


class _Enough(BaseException):
    """The limit of reductions is reached. Not an Exception, so that nothing catches it on the way."""


class _Search:
    """Tries a property case by case, and limits the reduction of a failing case."""

    def __init__(self, subject: Subject, prop: Property) -> None:
        self.subject, self.prop = subject, prop
        self.tried, self.reductions = 0, 0
        self.last = Violation("")

    def attempt(self, case: Case) -> None:
        """Raise `Violation` if the property does not hold."""
        failing = self.last.case is not None
        if failing and self.reductions >= REDUCTIONS:
            raise _Enough
        self.tried += not failing
        self.reductions += failing
        try:
            self.prop.holds(self.subject, case)
        except Violation as violation:
            self.last = violation
            raise


def _quietly(examples: int) -> Any:
    """Settings for deterministic runs without output or files."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )


# -- the signature ----------------------------------------------------------------------------------------------------


def signature(subject: Subject) -> Finding:
    """Which forms of tensors the function takes, and for which of them it returns a wrong value."""
    sentences, tried = ["It can be called with the contract's tensors."], len(subject.contract.variants)
    only = _what_is_common(subject.variants) if len(subject.variants) < tried else ""
    if only:
        sentences.append(f"Only with {only}.")
    departures = _other_defaults(subject)
    if subject.misread:
        departures.append(f"With {_what_is_common(subject.misread)} it silently returns a wrong value.")
    status: Literal["passed", "failed", "noted"] = "passed"
    if departures:
        status = "failed" if subject.strict else "noted"
    return Finding("signature", status, " ".join(sentences + departures), tried)


def _other_defaults(subject: Subject) -> list[str]:
    """Defaults other than the contract's; None may mean that the option is required."""
    usual = subject.contract.defaults({})
    return [
        f"Without {name} it takes {default!r}, the contract {usual[name]!r}."
        for name, default in subject.defaults.items()
        if name not in subject.held and default is not None and default != usual[name]
    ]


def _what_is_common(variants: Sequence[Variant]) -> str:
    """The common features of some forms of tensors."""
    masks = {variant.mask for variant in variants}
    forms = {variant.advantages for variant in variants}
    shared = [f"{kind} masks" for kind in sorted(masks)] if len(masks) == 1 else []
    shared += [f"advantages {form}" for form in sorted(forms)] if len(forms) == 1 else []
    return " and ".join(shared) or "some forms of masks and advantages"

"""`check`: one function, one contract, one report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Flaky

import grape_verified
from grape_verified.conformance import properties
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.counterexample import render
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.properties import PROPERTIES, Property
from grape_verified.conformance.report import Finding, Report
from grape_verified.conformance.strategies import WIDTH, Blueprint, Case, Regime, Variant
from grape_verified.conformance.subject import Subject, Violation, name_of

#: Attempts to make a failing case smaller.
REDUCTIONS = 300


def check(
    function: Callable[..., Any],
    contract: str,
    *,
    examples: int = 200,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> Report:
    """Hold a function against a contract, property by property.

    The function is called with the contract's tensors by position and its options by keyword. It may return a tensor or
    an object with one in `.loss`. Options that it does not take are held at the contract's defaults.

    Arguments:
        function: any implementation.
        contract: the name of a contract, such as "ppo".
        examples: how many inputs each property is tried on; twice as many for the options.
        options: options to hold at one value, for a function that has it built in or knows no other.
        strict: hold it to what our own kernels promise, too: fp64 to its own precision rather than to that of fp32,
            half precision computed in fp32, and large finite numbers where the exact result leaves the range, not ±inf.

    Returns: a report; what the function does wrong is in it and is never raised.

    Raises: ValueError for an unknown contract or option, a value that an option cannot have, or fewer than one example.
    """
    bound = contract_named(contract)
    held = _checked_options(bound, options or {})
    if examples < 1:
        raise ValueError(f"examples: got {examples}, expected at least 1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _report(function, bound, held, examples, strict)


def contract_named(name: str) -> Contract:
    """The contract of that name; a ValueError lists them."""
    if name not in CONTRACTS:
        raise ValueError(f"contract: got {name!r}, expected one of {', '.join(CONTRACTS)}")
    return CONTRACTS[name]


def run_property(subject: Subject, prop: Property, examples: int) -> Finding:
    """Try one property on drawn inputs; where it fails, the smallest counterexample is kept."""
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
    """A failing case was made smaller often enough. Not an Exception: nothing on the way is to catch it."""


class _Search:
    """Tries a property case by case, and bounds how long a failing one is made smaller."""

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
    """Settings under which a run says nothing, keeps nothing and is the same each time."""
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


def _report(
    function: Callable[..., Any], contract: Contract, held: Mapping[str, Any], examples: int, strict: bool
) -> Report:
    found: list[Finding] = []
    offered: tuple[str, ...] = ()
    try:
        subject = read(function, contract, held, strict=strict)
        offered = subject.offered
        found.append(_signature(subject))
    except Violation as violation:
        text, where = violation.sentence, render(Subject(function, contract, held), violation)
        found.append(Finding("signature", "failed", text, 1, where))
    for name in contract.properties[1:]:
        blocked = _blocked(found)
        untried = Finding(name, "not run", blocked)
        found.append(untried if blocked else run_property(subject, PROPERTIES[name], examples))
        if name == "options" and found[-1].status == "failed":
            subject.held = contract.defaults(held)  # so that no later property blames the same option again
    not_offered = tuple(name for name in contract.options if name not in offered)
    return Report(contract.name, name_of(function), offered, not_offered, tuple(found))


def _blocked(found: Sequence[Finding]) -> str:
    """Why no further property can be tried; empty where it can."""
    blocks = {"signature": "the function cannot be called", "repeatable": "the function is not repeatable"}
    return next((blocks[entry.name] for entry in found if entry.status == "failed" and entry.name in blocks), "")


def read(function: Callable[..., Any], contract: Contract, held: Mapping[str, Any], *, strict: bool = False) -> Subject:
    """How to call a function, found out by calling it once with each form of tensors that the contract allows.

    Forms that it refuses are not tried again, as one is enough; nor are those that it misreads while it gets another
    right, but the report says which they are.
    """
    subject = Subject.read(function, contract, held)
    subject.strict = strict
    right, called, refusals = [], [], []
    for variant in contract.variants:
        case = _probe(contract, held, variant)
        try:
            subject(case)
            called.append(variant)
            properties.value(subject, case)
            right.append(variant)
        except Violation as violation:
            refusals.append(violation)
    if not called:
        raise refusals[0]
    subject.variants = tuple(right or called)
    subject.misread = tuple(variant for variant in called if variant not in subject.variants)
    return subject


def _probe(contract: Contract, held: Mapping[str, Any], variant: Variant) -> Case:
    """A plain input with more tokens than rows, so that a wrong broadcast cannot fit."""
    rows = [{name: bytes((i + t + len(name)) % 7 for t in range(WIDTH)) for name in contract.blocks} for i in range(2)]
    rows = [{**row, "mask": bytes(WIDTH)} for row in rows]
    options = contract.defaults(held)
    return Case(contract.build(Blueprint(3, torch.float64, Regime(), variant, options, rows)), options, variant)


def _signature(subject: Subject) -> Finding:
    """Which forms of tensors the function takes, where there is a choice, and which it takes for something else."""
    sentences, tried = ["It can be called with the contract's tensors."], len(subject.contract.variants)
    only = _what_is_common(subject.variants) if len(subject.variants) < tried else ""
    if only:
        sentences.append(f"Only with {only}.")
    departures = _other_defaults(subject)
    if subject.misread:
        forms = _what_is_common(subject.misread)
        departures.append(f"With {forms} it returns something else than the spec says, without a word.")
    status: Literal["passed", "failed", "noted"] = "passed"
    if departures:
        status = "failed" if subject.strict else "noted"
    return Finding("signature", status, " ".join(sentences + departures), tried)


def _other_defaults(subject: Subject) -> list[str]:
    """Defaults that are not the contract's; None may ask to be given a value."""
    usual = subject.contract.defaults({})
    return [
        f"Without {name} it takes {default!r}, the contract {usual[name]!r}."
        for name, default in subject.defaults.items()
        if name not in subject.held and default is not None and default != usual[name]
    ]


def _what_is_common(variants: Sequence[Variant]) -> str:
    """What some forms of tensors share."""
    masks = {variant.mask for variant in variants}
    forms = {variant.advantages for variant in variants}
    shared = [f"{kind} masks" for kind in sorted(masks)] if len(masks) == 1 else []
    shared += [f"advantages {form}" for form in sorted(forms)] if len(forms) == 1 else []
    return " and ".join(shared) or "some forms of masks and advantages"


def _checked_options(contract: Contract, options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in contract.options:
            raise ValueError(f"options: got {name!r}, expected some of {', '.join(contract.options)}")
    held = dict(options)
    _refuse_as_the_kernel_does(contract, held)
    try:
        contract.oracle(_probe(contract, held, contract.variants[0]), EXACT)
    except Exception as error:
        raise ValueError(f"options: got {held}, which the spec cannot be evaluated at: {error}") from None
    return held


def _refuse_as_the_kernel_does(contract: Contract, held: Mapping[str, Any]) -> None:
    """Call our own kernel with the options: it says of which one a value is outside its domain, and what it expects."""
    variant = contract.variants[0]
    try:
        case = _probe(contract, held, variant)
    except Exception:  # inputs are made for an option, too: a group size that is no number, above all
        plain = _probe(contract, {}, variant)
        case = Case(plain.tensors, contract.defaults(held), variant)
    try:
        Subject.read(getattr(grape_verified, contract.kernel), contract, held).call(case, case.tensors)
    except Violation as refused:
        raise ValueError(str(refused.__cause__ or refused)) from None

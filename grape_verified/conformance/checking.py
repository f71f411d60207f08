"""`check`: one function, one contract, one report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from grape_verified.conformance.binding import Binding
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.guard import guarded
from grape_verified.conformance.habits import Habit
from grape_verified.conformance.mistakes import refuse_unfounded
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.registry import contract_named
from grape_verified.conformance.report import Finding, Report
from grape_verified.conformance.run import run, unreadable
from grape_verified.conformance.strategies import Case
from grape_verified.conformance.subject import Subject, Violation, by_signature, name_of, read

#: Inputs for each property.
EXAMPLES = 200


def check(
    function: Callable[..., Any],
    contract: str | Contract,
    *,
    examples: int = EXAMPLES,
    options: Mapping[str, Any] | None = None,
    habits: Iterable[Habit | str] = (),
    bind: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Report:
    """Check a function against a contract, property by property.

    Its parameters are bound to the contract's tensors and options by name, including the field's synonyms, and by
    position where a name is unknown. It may return a tensor, a tuple that begins with one, an object with a `.loss` or
    a dict with a `"loss"`. Options that it does not take stay at the contract's defaults.

    Arguments:
        function: any implementation.
        contract: a contract, or the name of one in this package or a loaded module, such as "ppo".
        examples: the number of inputs for each property; twice as many for the options.
        options: fixed values of options, for a function that hard-codes or supports no others.
        habits: the conventions that the function is judged with, such as ``["log_ratio_clamp=20"]``.
        bind: parameters of the function, each with the tensor or option that it is, such as ``{"pi": "logps"}``.
        strict: also require what our own kernels guarantee: fp64 to its own precision rather than to that of fp32,
            half precision computed in fp32, and large finite numbers where the exact result leaves the range, not ±inf.

    Returns: a report. It includes the function's faults, which are never raised.

    Raises:
        ValueError: for an unknown contract, option, habit or parameter, an invalid value of an option, two values of a
            habit, or if `examples` is less than one.
    """
    return checked(function, contract, examples=examples, options=options, habits=habits, bind=bind, strict=strict)


def checked(
    function: Callable[..., Any],
    contract: str | Contract,
    *,
    examples: int = EXAMPLES,
    options: Mapping[str, Any] | None = None,
    habits: Iterable[Habit | str] = (),
    bind: Mapping[str, str] | None = None,
    strict: bool = False,
    seen: Callable[[Report], None] = lambda report: None,
) -> Report:
    """As `check`; ``seen`` is called with the report so far, before anything is called and after each property."""
    bound = with_habits(contract, habits)
    held = checked_options(bound, options or {})
    checked_number(examples)
    subject = Subject(function, bound, held, Binding(in_order=bound.by_position))

    def report(found: Sequence[Finding]) -> Report:
        pending = tuple(Finding(name, "not run", "") for name in bound.properties[len(found) :])
        not_offered = tuple(name for name in bound.options if name not in subject.offered)
        every = (*found, *pending)
        return Report(bound.name, name_of(function), subject.offered, not_offered, every, bound.habits)

    seen(report(()))
    with warnings.catch_warnings(), guarded():
        warnings.simplefilter("ignore")
        try:
            subject = read(function, bound, held, strict=strict, bound=bind)
        except Violation as violation:
            subject = _as_called(function, bound, held, bind)
            return report(unreadable(subject, violation, bound.properties))
        return report(run(subject, bound.properties, examples, lambda found: seen(report(found))))


def _as_called(
    function: Callable[..., Any], contract: Contract, held: Mapping[str, Any], bound: Mapping[str, str] | None
) -> Subject:
    """How a function was called that cannot be called, so that a counterexample shows that call."""
    try:
        return by_signature(function, contract, held, bound)
    except Violation:
        return Subject(function, contract, held, Binding(in_order=contract.by_position))


def with_habits(contract: str | Contract, habits: Iterable[Habit | str] = ()) -> Contract:
    """A contract, or the one of that name, for a function with these habits."""
    plain = contract if isinstance(contract, Contract) else contract_named(contract)
    return plain.with_habits(asked) if (asked := tuple(habits)) else plain


def checked_number(examples: int) -> int:
    """The number of inputs, which is at least 1."""
    if examples < 1:
        raise ValueError(f"examples: got {examples}, expected at least 1")
    return examples


def checked_options(contract: Contract, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a contract has the options, and that kernel and oracle accept their values."""
    for name in options:
        if name not in contract.options:
            raise ValueError(f"options: got {name!r}, expected some of {', '.join(contract.options)}")
    for habit in contract.habits:
        if habit.name in options:
            raise ValueError(f"options: got {habit.name!r}, which the habit {habit} fixes")
    held = dict(options)
    if not held:
        refuse_unfounded(contract)
        return held
    _refuse_as_the_kernel_does(contract, held)
    try:
        contract.oracle(contract.probe(held, contract.variants[0]), EXACT)
    except Exception as error:
        raise ValueError(f"options: got {held}, expected values at which the spec can be evaluated: {error}") from None
    return held


def _refuse_as_the_kernel_does(contract: Contract, held: Mapping[str, Any]) -> None:
    """Call the contract's own function with the options; its error names an invalid one."""
    variant = contract.variants[0]
    try:
        case = contract.probe(held, variant)
    except Exception:  # inputs depend on options such as the group size
        plain = contract.probe({}, variant)
        case = Case(plain.tensors, contract.defaults(held), variant)
    try:
        by_signature(contract.function, contract, held).call(case, case.tensors)
    except Violation as refused:
        raise ValueError(str(refused.__cause__ or refused)) from None

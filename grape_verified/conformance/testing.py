"""Checks as tests of pytest: one assertion for a function, or one test for each property of several functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from grape_verified.conformance.checking import EXAMPLES, check, checked_number, checked_options, with_habits
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.habits import Habit
from grape_verified.conformance.report import Departure, FailOn, Finding, Report, known
from grape_verified.conformance.subject import name_of

if TYPE_CHECKING:
    import pytest

Function = Callable[..., Any]


def conforms(
    function: Function,
    contract: str | Contract,
    *,
    options: Mapping[str, Any] | None = None,
    habits: Iterable[Habit | str] = (),
    bind: Mapping[str, str] | None = None,
    examples: int | None = None,
    fail_on: FailOn = "formula and robustness",
) -> Report:
    """Assert that a function satisfies a contract.

    Arguments:
        function, contract, options, habits, bind: as for `check`.
        examples: the number of inputs for each property; by default the number that pytest is given, or 200.
        fail_on: what a function is rejected for; "all" includes notes.

    Returns: the report on a function that is not rejected.

    Raises:
        AssertionError: with both verdicts and, for each deciding finding, a sentence and Python code to paste.
        ValueError: as `check` does, and for an unknown `fail_on`.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    try:
        known(fail_on)
        row = (function, with_habits(contract, habits), options)
        report = _Check.of(row, examples, bind).report
    except ValueError as wrong:
        raise ValueError(str(wrong)) from None
    if report.fails(fail_on):
        raise AssertionError("\n".join([report.in_words(fail_on), *map(_shown, report.deciding(fail_on))]))
    return report


def parametrize_with_checks(
    functions: Iterable[tuple[Function, str | Contract] | tuple[Function, str | Contract, Mapping[str, Any]]],
    *,
    expected_failures: Mapping[Function, Mapping[str, str]] | None = None,
    examples: int | None = None,
) -> pytest.MarkDecorator:
    """Make one test for each property of each function, from a test with an argument `check` that calls it.

    A function is checked when the first of its tests runs, once in a process. A property that is not run is skipped,
    and one that is only noted passes. Under pytest-xdist, `--dist loadfile` keeps the tests of a file in one.

    Arguments:
        functions: pairs of a function and its contract; a third entry fixes values of options.
        expected_failures: for a function, the properties that it does not have, each with the reason. The tests of
            these are xfail, and fail if the function has the property after all.
        examples: the number of inputs for each property; by default what pytest was asked for, or 200.

    Returns: a decorator.

    Raises: ValueError for an unknown contract, option, function or property, or a missing reason.
    """
    __tracebackhide__ = True
    try:
        checks = [_Check.of(row, examples) for row in functions]
        expected = _expected(checks, expected_failures or {})
    except ValueError as wrong:
        raise ValueError(str(wrong)) from None
    import pytest

    marked = [(test, _marks(test, expected)) for one in checks for test in one.tests()]
    return pytest.mark.parametrize("check", [pytest.param(test, marks=marks, id=test.id) for test, marks in marked])


@dataclass(frozen=True)
class _Check:
    """The check of one function, made when it is first asked for."""

    function: Function
    contract: Contract
    options: Mapping[str, Any]
    bind: Mapping[str, str] | None
    examples: int

    @classmethod
    def of(cls, row: Any, examples: int | None, bind: Mapping[str, str] | None = None) -> _Check:
        """The check of a row, which is refused if it could not be made."""
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) not in (2, 3):
            raise ValueError(f"functions: got {row!r}, expected (function, contract) or (function, contract, options)")
        function, contract, *rest = row
        bound = with_habits(contract)
        options = rest[0] if rest and rest[0] is not None else {}
        if not isinstance(options, Mapping):
            raise ValueError(f"options: got {options!r}, expected {{name: value}}")
        return cls(function, bound, checked_options(bound, options), bind, checked_number(_number(examples)))

    @cached_property
    def report(self) -> Report:
        """The report, which all tests of the function share."""
        return check(self.function, self.contract, options=self.options, bind=self.bind, examples=self.examples)

    @property
    def id(self) -> str:
        """Function, contract and options."""
        options = (f"{name}={value}" for name, value in self.options.items())
        return "-".join([name_of(self.function), self.contract.name, *options])

    def tests(self) -> Iterator[_Test]:
        """A test for each property."""
        return (_Test(self, name) for name in self.contract.properties)


@dataclass(frozen=True)
class _Test:
    """The test of one property of one function."""

    check: _Check
    name: str

    @property
    def id(self) -> str:
        """What pytest shows, without spaces, so that it can be selected."""
        return f"{self.check.id}-{self.name.replace(' ', '_')}"

    def __call__(self) -> None:
        """Skip what was not run, and fail for what is wrong."""
        __tracebackhide__ = True
        report = self.check.report
        finding = report.finding(self.name)
        if finding.status == "not run":
            import pytest

            pytest.skip(finding.text)
        if finding.status == "failed":
            found = (_shown((finding, departure)) for departure in finding.departures)
            raise AssertionError("\n".join([report.in_words(), *found]))


def _expected(checks: Sequence[_Check], given: Mapping[Function, Mapping[str, str]]) -> list[tuple[_Test, str]]:
    """The tests that are expected to fail, each with the reason."""
    if not checks:
        raise ValueError("functions: got none, expected at least one (function, contract)")
    names = ", ".join(dict.fromkeys(name_of(check.function) for check in checks))
    found: list[tuple[_Test, str]] = []
    for function, reasons in given.items():
        who = name_of(function) if callable(function) else repr(function)
        tests = [test for check in checks if check.function == function for test in check.tests()]
        if not tests:
            raise ValueError(f"expected_failures: got {who}, expected some of the functions {names}")
        if not isinstance(reasons, Mapping):
            raise ValueError(f"expected_failures: got {reasons!r} for {who}, expected {{property: reason}}")
        for name, reason in reasons.items():
            own = [(test, reason) for test in tests if test.name == name]
            if not own:
                there = ", ".join(dict.fromkeys(test.name for test in tests))
                raise ValueError(f"expected_failures: got {name!r} for {who}, expected some of {there}")
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"expected_failures: got {reason!r} for {name!r} of {who}, expected a reason in words")
            found += own
    return found


def _marks(test: _Test, expected: Sequence[tuple[_Test, str]]) -> list[pytest.MarkDecorator]:
    """The mark of a test that is expected to fail."""
    import pytest

    reasons = [reason for other, reason in expected if other == test]
    return [pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason) for reason in reasons]


def _shown(found: tuple[Finding, Departure]) -> str:
    """What is wrong and the code that shows it."""
    finding, departure = found
    kind = departure.verdict if finding.status == "failed" else finding.status
    return f"\n{kind}, {finding.name}: {departure.text}\n{departure.counterexample}".rstrip()


def _number(examples: int | None) -> int:
    """The number of inputs: of the call, of the command line or file that pytest was run with, or the usual one."""
    if examples is not None:
        return examples
    plugin: Any = sys.modules.get("grape_verified_pytest")  # importing it would require pytest
    return (plugin and plugin.examples()) or EXAMPLES

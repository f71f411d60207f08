"""What pytest loads of this package when it starts: one option, and how a rejected loss is shown.

It stands beside the package and not in it, as every module of the package imports torch, and a run of pytest that
checks no loss should not wait for that.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import Any

import pytest

#: The module whose assertions end with Python code to paste.
ASSERTS = "grape_verified.conformance.testing"

#: The number of inputs for each property: an option of the command line, and a line of the configuration file.
OPTION, LINE = "--grape-verified-examples", "grape_verified_examples"

#: The configurations of the runs in this process, the current one last.
_RUNS: list[pytest.Config] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    words = "inputs for each property of a loss, where a test names no number of its own"
    group = parser.getgroup("grape-verified", "losses checked with grape-verified")
    group.addoption(OPTION, type=_count, metavar="N", help=words)
    parser.addini(LINE, words)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a wrong line of the configuration file before any test runs."""
    _from_file(config)
    _RUNS.append(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget a run."""
    if config in _RUNS:
        _RUNS.remove(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show what an assertion of ours says as it stands, so that its code can be pasted."""
    report = yield
    if call.excinfo is not None and report.failed and call.excinfo.errisinstance(AssertionError):
        last = call.excinfo.traceback[-1].frame
        if last.f_globals.get("__name__") == ASSERTS:
            report.longrepr = call.excinfo.getrepr(style="value")
    return report


def examples() -> int | None:
    """The number of inputs that the current run asks for."""
    if not _RUNS:
        return None
    asked: int | None = _RUNS[-1].getoption(OPTION)
    return asked or _from_file(_RUNS[-1])


def _from_file(config: pytest.Config) -> int | None:
    text = config.getini(LINE)
    try:
        return _count(text) if text else None
    except argparse.ArgumentTypeError as wrong:
        raise pytest.UsageError(f"{LINE}: {wrong}") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)

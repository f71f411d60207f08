"""Verifiers: callables (prompt, response, reference) that score a verifiable item without a model.

A verifier returns a bool or a number in [0, 1]. It raises if it cannot decide, such as without a required reference:
that is a fault of the data or of the verifier, never a score of 0.
"""

import ast
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from grape_verified.arguments import Range, check_number

__all__ = ["ExactAnswer", "RegularExpression", "UnitTestRun", "UnitTests", "Verifier"]

Verifier = Callable[[str, str, Any], bool | float]

DRIVER = Path(__file__).with_name("unit_test_driver.py")

#: The report of the driver before the response runs; after the tests it adds the token.
STARTED = b"started "

#: The largest size in bytes of a file that unit tests write, and of their output.
OUTPUT_LIMIT = 2**24

#: The number of bytes of the output that are kept, from its end.
OUTPUT_KEPT = 10_000

FENCED = re.compile(r"^ {0,3}```[ \t]*(\w*)[^\n]*\n(.*?)^ {0,3}```[ \t\r]*$", re.DOTALL | re.MULTILINE)
PYTHON = ("", "py", "python", "python3")

#: Statements that only define names. A reference of nothing else tests nothing.
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class ExactAnswer:
    """Whether the answer equals the reference up to whitespace.

    Whitespace at the ends is removed, and every run of it within becomes one space. Nothing else is normalised: 0.5 is
    not 1/2, and two Unicode spellings of a letter differ.

    Arguments:
        pattern: None to take the whole response as the answer, or a regular expression whose only group, in its last
            match, is the answer. A response without a match of the group is wrong.
        ignore_case: whether upper and lower case are the same (by `str.casefold`).

    Raises: TypeError or ValueError for a wrong option; when called, for a reference that is not a str or is blank.
    """

    pattern: str | None = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if self.pattern is not None:
            groups = _compiled(self.pattern).groups
            if groups != 1:
                raise ValueError(f"pattern: got {self.pattern!r} with {groups} groups, expected one, the answer")
        if not isinstance(self.ignore_case, bool):
            raise TypeError(f"ignore_case: got {type(self.ignore_case).__name__}, expected a bool")

    def __call__(self, prompt: str, response: str, reference: Any) -> bool:
        expected = self._normalised(_text_reference(reference, "the answer"))
        answer = self._answer(response)
        return answer is not None and self._normalised(answer) == expected

    def _answer(self, response: str) -> str | None:
        if self.pattern is None:
            return response
        answer = None
        for match in _compiled(self.pattern).finditer(response):
            answer = match[1]
        return answer

    def _normalised(self, text: str) -> str:
        words = " ".join(text.split())
        return words.casefold() if self.ignore_case else words


@dataclass(frozen=True)
class RegularExpression:
    r"""Whether a regular expression matches somewhere in the response. The reference is ignored.

    Anchors and flags are written in the pattern: `\A`, `\Z`, `(?i)`, `(?s)`. There is no time limit: a pattern with
    nested repetitions, such as `(a+)+b`, can take exponential time on an adversarial response.

    Arguments:
        pattern: a regular expression of Python's `re`.

    Raises: TypeError or ValueError for an invalid pattern.
    """

    pattern: str

    def __post_init__(self) -> None:
        _compiled(self.pattern)

    def __call__(self, prompt: str, response: str, reference: Any) -> bool:
        return _compiled(self.pattern).search(response) is not None


class UnitTestRun(NamedTuple):
    """One run of unit tests: whether they passed, how the process ended, and the end of its output."""

    passed: bool
    ending: str
    output: str


@dataclass(frozen=True)
class UnitTests:
    """Whether a response passes unit tests, which are its reference, in a separate process.

    **This is not a sandbox.** The process can read what this user can read, reach the network, and leave a child behind
    in a session of its own. The limits below guard against accidents, not attacks; for untrusted responses, run the
    whole evaluation in a container or a virtual machine. Code that sets out to deceive the tests, by comparing equal to
    everything or by inspecting the stack of its caller, can do so.

    The code is the last Markdown code block of the response that is labelled as Python or not labelled, or the whole
    response if it has no code block. It runs as the module `response`. Then the tests run: Python code that sees the
    names of the response and raises if a test fails, such as `assert` statements. The tests pass if they reach their
    end in time. A response that ends the process earlier fails, as does `unittest.main()`, and functions that are never
    called test nothing.

    The process is `python -I` in a new temporary folder, with stdin closed, without the environment of this process, in
    its own process group, which is killed with all its children at the end or on time-out. Address space, CPU time and
    the size of files and output (16 MiB) are limited where the system supports it. POSIX only.

    Arguments:
        time_limit: seconds of wall-clock time > 0, including the start of the interpreter.
        memory_limit: MiB of address space for each process, > 0.

    Raises: TypeError or ValueError for a wrong option; when called, for a reference that is not a str, is not Python or
    only defines names; RuntimeError if the process failed before it ran the response.
    """

    time_limit: float = 10.0
    memory_limit: float = 2048.0

    def __post_init__(self) -> None:
        for name, unit in (("time_limit", "seconds"), ("memory_limit", "MiB")):
            check_number(name, getattr(self, name), Range(f"a number of {unit} in (0, 2³¹)", 0.0, 2.0**31))

    def __call__(self, prompt: str, response: str, reference: Any) -> bool:
        return self.run(response, reference).passed

    def run(self, response: str, reference: str) -> UnitTestRun:
        """Run the tests; return the verdict, how the process ended, and the end of its output."""
        tests = _text_reference(reference, "the unit tests, as Python code")
        _check_tests(tests)
        if os.name != "posix":
            raise RuntimeError(f"unit tests: got the system {os.name}, expected one with process groups (POSIX)")
        # The response does not know the token, so it cannot report that the tests reached their end.
        token = secrets.token_hex(16)
        job = {
            "response": python_code(response),
            "tests": tests,
            "token": token,
            "seconds": self.time_limit,
            "bytes": int(self.memory_limit * 2**20),
            "file_bytes": OUTPUT_LIMIT,
        }
        ending, report, output = _run_driver(json.dumps(job).encode(), self.time_limit)
        if not report.startswith(STARTED):
            raise RuntimeError(f"unit tests: the process ended before the response ran: {ending}: {output}")
        return UnitTestRun(report == STARTED + token.encode(), ending, output)


#: The verifiers that a rubric file can name. The fields of each are its options.
VERIFIERS: Mapping[str, type[ExactAnswer] | type[RegularExpression] | type[UnitTests]] = {
    "exact_answer": ExactAnswer,
    "regular_expression": RegularExpression,
    "unit_tests": UnitTests,
}


def python_code(response: str) -> str:
    """The last code block of a response labelled as Python or not labelled; without any block, the whole response."""
    blocks = [(label.lower(), code) for label, code in FENCED.findall(response)]
    if not blocks:
        return response
    return next((textwrap.dedent(code) for label, code in reversed(blocks) if label in PYTHON), "")


def _run_driver(job: bytes, seconds: float) -> tuple[str, bytes, str]:
    """Run the driver on a job; return how it ended, its report, and the end of its output."""
    read, write = os.pipe()
    # A process that escaped its group may still be writing to the folder.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as order,
        tempfile.TemporaryFile() as output,
    ):
        try:
            order.write(job)
            order.seek(0)
            ending = _wait(_start(folder, order, output, write), seconds)
            output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_KEPT))
            os.set_blocking(read, False)  # an escaped process may hold the other end
            try:
                report = os.read(read, 100)
            except BlockingIOError:
                report = b""
            return ending, report, output.read().decode("utf-8", "replace")
        finally:
            os.close(read)
            os.close(write)


def _start(folder: str, order: IO[bytes], output: IO[bytes], report: int) -> subprocess.Popen[bytes]:
    """Start the driver with the job as its standard input."""
    # The environment of a trainer holds its credentials.
    environment = {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
    if "LD_LIBRARY_PATH" in os.environ:  # an interpreter may not start without it
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(
        [sys.executable, "-I", str(DRIVER), str(report)],
        cwd=folder,
        env=environment,
        stdin=order,
        stdout=output,
        stderr=output,
        pass_fds=(report,),
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Wait for a process, kill what is left of its group, and return how it ended."""
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"killed after {seconds:g} s"
    finally:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty; macOS raises PermissionError
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"exit status {status}" if status >= 0 else f"ended by signal {-status}"


def _check_tests(tests: str) -> None:
    """Check that unit tests are Python and do something, so that only the response can fail."""
    try:
        statements = ast.parse(tests).body
        compile(tests, "<tests>", "exec", dont_inherit=True)  # finds more than the parser, such as a lone return
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"reference: got invalid Python, expected the unit tests: {error}") from None
    if all(isinstance(statement, DEFINITIONS) or _is_constant(statement) for statement in statements):
        raise ValueError("reference: got only definitions, expected unit tests: statements that raise where one fails")


def _is_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _text_reference(reference: object, what: str) -> str:
    if not isinstance(reference, str):
        raise TypeError(f"reference: got {type(reference).__name__}, expected a str, {what}")
    if not reference.strip():
        raise ValueError(f"reference: got blank text, expected {what}")
    return reference


def _compiled(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; `re` keeps it, so that only the first call compiles."""
    if not isinstance(pattern, str):
        raise TypeError(f"pattern: got {type(pattern).__name__}, expected a regular expression")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"pattern: got {pattern!r}, expected a regular expression: {error}") from None

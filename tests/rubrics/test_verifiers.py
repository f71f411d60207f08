"""Verifiers: answers, patterns, and hostile programs."""

import os
import sys
import time
from pathlib import Path

import pytest

from grape_verified.rubrics import ExactAnswer, RegularExpression, UnitTests
from grape_verified.rubrics.verifiers import OUTPUT_KEPT, OUTPUT_LIMIT, python_code

TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0\n"
RIGHT = "def add(a, b):\n    return a + b\n"
GUESS = """
import os
for descriptor in range(3, 20):
    try:
        os.write(descriptor, b"0123456789abcdef" * 2)
    except OSError:
        pass
os._exit(0)
"""
DESCRIPTOR = """
import os
try:
    os.fstat({})
except OSError:
    pass
else:
    raise AssertionError("it is open")
"""


@pytest.mark.parametrize(
    ("response", "reference", "options", "expected"),
    [
        ("42", "42", {}, True),
        ("  42\n", "42", {}, True),
        ("a \t\n b", "a b", {}, True),
        ("a\u00a0b", "a b", {}, True),
        ("ab", "a b", {}, False),
        ("0.5", "1/2", {}, False),
        ("Paris", "paris", {}, False),
        ("STRASSE", "straße", {"ignore_case": True}, True),
        ("The answer: 42", "42", {}, False),
        ("Answer: 41, no. Answer: 42.", "42", {"pattern": r"Answer: (\d+)"}, True),
        ("Answer: 42, no. Answer: 41.", "42", {"pattern": r"Answer: (\d+)"}, False),
        ("42", "42", {"pattern": r"Answer: (\d+)"}, False),
        ("Answer:", "42", {"pattern": r"Answer:(\d+)?"}, False),
        ("", "42", {}, False),
    ],
)
def test_exact_answer(response, reference, options, expected):
    assert ExactAnswer(**options)("prompt", response, reference) is expected


@pytest.mark.parametrize(
    ("pattern", "response", "expected"),
    [
        ("b+", "abba", True),
        ("^b", "a\nb", False),
        ("(?m)^b", "a\nb", True),
        (r"\Aa.b\Z", "a\nb", False),
        (r"(?s)\Aa.b\Z", "a\nb", True),
    ],
)
def test_regular_expression(pattern, response, expected):
    assert RegularExpression(pattern)("prompt", response, None) is expected


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("x = 1", "x = 1"),
        ("So:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```py title='a'\nx = 1\n```\nor\n```Python\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\n```sh\npip install x\n```", "x = 1\n"),
        ("```sh\nls\n```", ""),
        ("1. So:\n   ```python\n   if x:\n       y = 1\n   ```\n", "if x:\n    y = 1\n"),
        ("```python\r\nx = 1\r\n```\r\n", "x = 1\r\n"),
        ("```python\nx = 1\n", "```python\nx = 1\n"),
        ("```python\nx = '```'\n```\n", "x = '```'\n"),
    ],
)
def test_the_code_of_a_response(response, code):
    assert python_code(response) == code


@pytest.mark.parametrize(
    "response",
    [
        RIGHT,
        f"Here it is:\n```python\n{RIGHT}```\nIt adds.",
        RIGHT + "import sys\nprint('x' * 100_000, file=sys.stderr)\n",
        "import atexit, time\natexit.register(time.sleep, 60)\n" + RIGHT,
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n" + RIGHT,
        "import os\nos.chdir('/')\n" + RIGHT,
        "import os, sys\nsys.stdout.close(); os.close(1); os.close(2)\n" + RIGHT,
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
        + RIGHT,
        "import sys\nassert sys.flags.isolated and not sys.argv[1:]\nassert sys.stdin.read() == ''\n" + RIGHT,
        RIGHT + "if __name__ == '__main__':\n    add(input(), input())\n",
        "from math import *\n" + RIGHT,
        "def helper(a, b):\n    return a + b\ndef add(a, b):\n    return helper(a, b)\n",
    ],
)
def test_responses_that_pass(response):
    tests = "import response\nassert __name__ == 'tests' and response.add is add\ndef helper():\n    'another one'\n"
    run = UnitTests().run(response, tests + TESTS)
    assert run.passed, run
    assert run.ending == "exit status 0"


@pytest.mark.parametrize(
    ("response", "ending", "output"),
    [
        ("def add(a, b):\n    return a - b\n", "exit status 1", "AssertionError"),
        ("", "exit status 1", "NameError: name 'add' is not defined"),
        ("def add(:", "exit status 1", "SyntaxError"),
        ("x = '\x00'", "exit status 1", "null bytes"),
        ("x = '\ud800'", "exit status 1", "surrogates not allowed"),
        ("raise SystemExit(0)", "exit status 0", ""),
        ("import os\nos._exit(0)", "exit status 0", ""),
        (RIGHT + "def add(a, b):\n    raise SystemExit\n", "exit status 0", ""),
        ("import os\nos.kill(os.getpid(), 11)", "ended by signal 11", ""),
        (GUESS, "exit status 0", ""),
        ("import os\nos.rmdir(os.getcwd())", "exit status 1", "NameError"),
        ("import sys\nassert sys.stdin.read() == sys.argv[1:]", "exit status 1", "AssertionError"),
        (
            "import os\nassert not [name for name in os.environ if name.startswith('SECRET')]\n",
            "exit status 1",
            "NameError",
        ),
        ("add = 1", "exit status 1", "TypeError"),
    ],
)
def test_responses_that_fail(response, ending, output, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_TRAINER", "x")
    run = UnitTests().run(response, TESTS)
    assert not run.passed
    assert run.ending == ending
    assert output in run.output
    assert UnitTests()("prompt", response, TESTS) is False


def alive(pid):
    """Whether a process runs; one that is dead and not yet fetched by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("end", ["while True: pass", "raise SystemExit"])
def test_no_child_is_left(tmp_path, end):
    """On time-out as at the end; the child ignores SIGTERM."""
    pids = tmp_path / "pids"
    response = f"""
import os, signal, sys, time
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child}}")
{end}
"""
    started = time.monotonic()
    run = UnitTests(time_limit=3).run(response, TESTS)
    assert not run.passed
    assert run.ending == ("killed after 3 s" if "while" in end else "exit status 0")
    assert time.monotonic() - started < 20
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 2
    while time.monotonic() - started < 20 and any(map(alive, found)):
        time.sleep(0.05)
    assert not any(map(alive, found))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space that hold")
@pytest.mark.parametrize(
    ("response", "end_of_output"),
    [
        ("x = bytearray(2**30)\n" + RIGHT, "MemoryError\n"),
        (f"import sys\nsys.stdout.write('x' * {2 * OUTPUT_LIMIT})\nsys.stdout.flush()\n" + RIGHT, "x" * OUTPUT_KEPT),
        (f"open('file', 'wb').write(bytes({2 * OUTPUT_LIMIT}))\n" + RIGHT, "[Errno 27] File too large\n"),
    ],
)
def test_limits(response, end_of_output):
    run = UnitTests(memory_limit=512).run(response, TESTS)
    assert not run.passed
    assert run.ending in ("exit status 1", "exit status 120")  # 120: the interpreter could not write what was left
    assert len(run.output) <= OUTPUT_KEPT
    assert run.output.endswith(end_of_output)


@pytest.mark.parametrize(
    "response", [f"print('x' * {OUTPUT_LIMIT // 2})\n", f"open('f', 'wb').write(bytes({OUTPUT_LIMIT}))\n"]
)
def test_output_within_the_limit_does_no_harm(response):
    assert UnitTests().run(response + RIGHT, TESTS).passed


def test_memory_within_the_limit_is_there():
    assert UnitTests(memory_limit=2048).run("x = bytearray(2**30)\n" + RIGHT, TESTS).passed


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors through /proc")
def test_descriptors(tmp_path):
    """What is open here is not open there, and no run leaves one open."""
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        before = os.listdir("/proc/self/fd")
        run = UnitTests().run(DESCRIPTOR.format(secret.fileno()) + RIGHT, TESTS)
        assert run.passed, run
        assert os.listdir("/proc/self/fd") == before


def test_nothing_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = UnitTests().run("import os\nos.mkdir('a'); open('a/b', 'w').write('x'); print(os.getcwd())\n" + RIGHT, TESTS)
    assert run.passed
    assert run.output.startswith(str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        (None, TypeError, "reference: got NoneType, expected a str, the unit tests, as Python code"),
        (" \n", ValueError, "reference: got blank text, expected the unit tests, as Python code"),
        ("assert (", ValueError, "reference: got invalid Python, expected the unit tests: '(' was never closed"),
        ("return 1", ValueError, "reference: got invalid Python, expected the unit tests: 'return' outside function"),
        ("assert 1\x00", ValueError, "reference: got invalid Python, expected the unit tests: "),
        (
            "'''Tests.'''\nimport math\ndef test_add():\n    assert add(1, 2) == 3\n",
            ValueError,
            "reference: got only defin",
        ),
    ],
)
def test_tests_that_are_none_are_not_the_fault_of_the_response(reference, error, message):
    with pytest.raises(error) as caught:
        UnitTests()("prompt", RIGHT, reference)
    assert str(caught.value).startswith(message)


def test_a_process_that_does_not_come_as_far_as_the_response():
    with pytest.raises(RuntimeError, match=r"the process ended before the response ran: killed after 0\.001 s"):
        UnitTests(time_limit=0.001)("prompt", RIGHT, TESTS)


def test_an_answer_needs_a_reference():
    with pytest.raises(TypeError, match="reference: got NoneType, expected a str, the answer"):
        ExactAnswer()("prompt", "42", None)
    with pytest.raises(ValueError, match="reference: got blank text, expected the answer"):
        ExactAnswer()("prompt", "", "")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ExactAnswer(pattern=1), TypeError, "pattern: got int, expected a regular expression"),
        (lambda: ExactAnswer(pattern="(a)(b)"), ValueError, "pattern: got '(a)(b)' with 2 groups, expected one, the"),
        (lambda: ExactAnswer(ignore_case=1), TypeError, "ignore_case: got int, expected a bool"),
        (lambda: RegularExpression("a{2,1}"), ValueError, "pattern: got 'a{2,1}', expected a regular expression: min"),
        (lambda: RegularExpression("a{1" + "0" * 40 + "}"), ValueError, "pattern: got 'a{1000"),
        (lambda: UnitTests(time_limit="1"), TypeError, "time_limit: got str, expected a number of seconds in (0, 2³¹)"),
        (lambda: UnitTests(time_limit=2**31), ValueError, "time_limit: got 2147483648, expected a number of seconds"),
        (lambda: UnitTests(memory_limit=-1), ValueError, "memory_limit: got -1, expected a number of MiB in (0, 2³¹)"),
    ],
)
def test_wrong_options(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)

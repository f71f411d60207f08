"""The command survives what a function does to its process: it says what happened, with the report so far."""

import json
import os
import subprocess
import sys
from textwrap import dedent

import pytest

LOSSES = """
    import ctypes, os, signal, sys, threading, time
    from grape_verified import ppo_loss

    def right(logps, old_logps, advantages, mask):
        return ppo_loss(logps, old_logps, advantages, mask).loss

    def beside(action):
        def stranger(logps, old_logps, advantages, mask):
            action()
            return right(logps, old_logps, advantages, mask)
        return stranger

    def some(logps, old_logps, advantages, mask):
        if logps.numel() > 6:
            os.abort()
        return right(logps, old_logps, advantages, mask)

    def interrupted():
        raise KeyboardInterrupt

    aborts = beside(os.abort)
    killed = beside(lambda: os.kill(os.getpid(), signal.SIGKILL))
    left = beside(lambda: ctypes.CDLL(None)._exit(0))
    busy = beside(lambda: sum(range(10**13)))
    closes = beside(lambda: (sys.__stdout__.close(), sys.__stderr__.close()))
    thread = beside(lambda: threading.Thread(target=time.sleep, args=(1000,)).start())
    interrupted = beside(interrupted)
    forks = beside(os.fork)
    reads = beside(input)
"""

#: Runs each command in a fork of a loaded process, with little time for a call; prints what came of each.
RUN = """
    import json, os, sys
    from pathlib import Path
    from grape_verified import __main__ as command
    from grape_verified.cli import watched
    from grape_verified.conformance import guard
    guard.LIMIT = watched.GRACE = 1.0
    for number, words in enumerate(json.loads(sys.argv[1])):
        child = os.fork()
        if not child:
            os.setsid()
            for descriptor in (1, 2):
                os.dup2(os.open(f"{number}.{descriptor}", os.O_CREAT | os.O_WRONLY), descriptor)
            sys.argv = ["grape-verified", *words, "--examples", "2"]
            command.main()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([code, *(Path(f"{number}.{n}").read_text() for n in (1, 2))]))
"""

CHECKED = ("some", "aborts", "killed", "left", "busy", "closes", "thread", "interrupted", "forks", "reads")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """For each target, and each to be identified, the exit status, standard output and standard error."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "strangers.py").write_text(dedent(LOSSES))
    (folder / "leaving.py").write_text("import os\nos.abort()\n")
    (folder / "loud.py").write_text("print('x' * 10**6)\nfrom strangers import right\n")
    targets = [f"strangers:{name}" for name in CHECKED] + ["leaving:f", "loud:right"]
    commands = {target: ["check", target, "--as", "ppo"] for target in targets}
    commands |= {f"identify {name}": ["identify", f"strangers:{name}", "--among", "ppo"] for name in ("some", "busy")}
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", dedent(RUN), json.dumps(list(commands.values()))],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=500,
    )  # fmt: skip
    return dict(zip(commands, map(json.loads, done.stdout.splitlines()), strict=True))


def linux(test):
    return pytest.mark.skipif(sys.platform != "linux", reason="a child process is watched on Linux")(test)


@linux
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("aborts", "the function ended the process (signal SIGABRT)"),
        ("killed", "the function ended the process (signal SIGKILL)"),
        ("left", "the function ended the process (exit status 0)"),
        ("interrupted", "the function ended the process (KeyboardInterrupt)"),
        ("busy", "TookTooLong: a call took more than 1 seconds, and cannot be stopped"),
    ],
)
def test_the_end_of_its_process_is_a_finding(found, name, why):
    status, out, err = found[f"strangers:{name}"]
    assert (status, "Traceback" in out + err) == (1, False)
    assert f"robustness, signature: {why}" in out
    assert "stranger as ppo: rejected. Formula: not known. Robustness: 1 finding (signature)." in out


@linux
def test_what_was_found_before_the_end_is_reported(found):
    status, out, _ = found["strangers:some"]
    lines = {line.split()[0]: line.split()[1:3] for line in out.splitlines() if line.strip()}
    assert status == 1
    assert lines["signature"][0] == "passed"
    assert "failed" in (lines["repeatable"][0], lines["value"][0])
    assert lines["gradient"] == lines["inputs"] == ["not", "run"]
    assert "some as ppo: rejected. Formula: not known. Robustness: 1 finding (" in out


@linux
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("some", "some cannot be identified: the function ended the process (signal SIGABRT)."),
        ("busy", "stranger cannot be identified: TookTooLong: a call took more than 1 seconds, and cannot be stopped."),
    ],
)
def test_the_end_of_its_process_breaks_the_search_off(found, name, line):
    status, out, err = found[f"identify {name}"]
    assert (status, out, err) == (1, f"{line}\n", "")


@linux
@pytest.mark.parametrize("name", ["thread", "forks"])
def test_what_leaves_threads_or_children_behind_is_checked(found, name):
    status, out, err = found[f"strangers:{name}"]
    assert (status, err) == (0, "")
    assert "as ppo: accepted." in out


@linux
def test_the_report_is_printed_where_the_function_closes_the_streams(found):
    status, out, _ = found["strangers:closes"]
    assert status in (0, 1)
    assert "stranger as ppo: " in out


def test_a_function_that_reads_gets_nothing(found):
    status, out, _ = found["strangers:reads"]
    assert status == 1
    assert "raised EOFError" in out


@linux
def test_a_module_that_ends_the_process_is_named(found):
    why = "grape-verified: cannot import leaving:f: the function ended the process (signal SIGABRT)\n"
    assert found["leaving:f"] == [2, "", why]


def test_what_a_module_prints_is_bounded(found):
    status, out, err = found["loud:right"]
    assert (status, "as ppo: accepted." in out) == (0, True)
    assert len(err) < 200_000
    assert err.endswith("[… what else the function prints is left out]\n")

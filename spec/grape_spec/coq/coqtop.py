"""Sessions of Coq: a process that has loaded the library and is given one text after another."""

from __future__ import annotations

import os
import re
import secrets
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import monotonic

#: How to install what is needed, on Debian and Ubuntu.
INSTALL = "apt-get install coq libcoq-coquelicot"

#: The oldest version of Coq that is known to accept the library.
OLDEST = (8, 16)

#: How the answer of a process begins that ended by itself: it says nothing about the text that it was given.
ENDED = "coqtop ended"

#: What is said of a text that Coq gave no answer to: no verdict either.
OUT_OF_TIME = "no answer within the time limit"

#: Seconds by the clock after which a process that computes nothing is given up.
IDLE = 120.0

#: Seconds for each question that is asked of a process before it is believed.
PROBE = 60.0

LIBRARY = ("Definitions", "Tactics")

HEADER = """From Coq Require Import Reals Lra Lia Psatz List Bool.
From Coquelicot Require Import Coquelicot.
From Grape Require Import Definitions Tactics.
Import ListNotations.
Open Scope R_scope.
"""


class CoqMissing(RuntimeError):
    """Coq cannot be used; the message says why in one line."""


@dataclass(frozen=True)
class Answer:
    """What Coq printed for a text: None if it did not answer in time."""

    text: str | None

    @property
    def error(self) -> str:
        """The first error in one line, or nothing."""
        if self.text is None:
            return OUT_OF_TIME
        found = re.search(r"^Error:?\s*(.*?)(?:\n\n|\Z)", self.text, re.S | re.M)
        if found is None:
            return "syntax error" if "Syntax error" in self.text else ""
        return re.sub(r"\s+", " ", found[1]).strip()[:300] or "an error without a message"


def version() -> str:
    """The version of Coq.

    Raises: CoqMissing if there is none, or none that works or is new enough.
    """
    if shutil.which("coqtop") is None or shutil.which("coqc") is None:
        raise CoqMissing(f"Coq is not installed: run {INSTALL}")
    try:
        run = subprocess.run(["coqc", "--print-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise CoqMissing(f"coqc does not run: {failure}") from failure
    found = re.match(r"(\d+)\.(\d+)", run.stdout)
    if run.returncode != 0 or found is None:
        raise CoqMissing(f"coqc does not run: {_last_line(run.stderr) or f'exit status {run.returncode}'}")
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CoqMissing(f"Coq {run.stdout.split()[0]} is too old, expected {oldest} or newer")
    return run.stdout.split()[0]


def library_text(name: str) -> str:
    """A file of the library."""
    return files("grape_spec.coq").joinpath(f"{name}.v").read_text(encoding="utf-8")


def compile_library(folder: Path) -> None:
    """Write the library to a folder and compile it.

    Raises: CoqMissing if Coquelicot is not installed, Coq cannot compile the library, or there is no space for it.
    """
    for name in LIBRARY:
        text, source, compiled = library_text(name), folder / f"{name}.v", folder / f"{name}.vo"
        if compiled.exists() and source.exists() and source.read_text(encoding="utf-8") == text:
            continue
        with _written_to(folder):
            source.write_text(text, encoding="utf-8")
        run = coqc(source)
        if run.returncode != 0:
            if "Coquelicot" in run.stderr and "Cannot find" in run.stderr:
                raise CoqMissing(f"Coquelicot is not installed: run {INSTALL}")
            raise CoqMissing(f"coqc does not compile {source}: {_reason(run)}")


def refuse_without_space(folder: Path) -> None:
    """Tactics keep what they find in files of the current folder, and fail for no stated reason where they cannot.

    Raises: CoqMissing.
    """
    with _written_to(folder), NamedTemporaryFile(dir=folder) as probe:
        probe.write(bytes(1 << 16))
        probe.flush()


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise CoqMissing(f"cannot write to the temporary folder {folder}: {failure.strerror}") from failure


def coqc(source: Path, limit: float = 600) -> subprocess.CompletedProcess[str]:
    """Compile a file against the library in the same folder."""
    command = ["coqc", "-q", "-w", "none", "-Q", ".", "Grape", source.name]
    try:
        return subprocess.run(command, cwd=source.parent, capture_output=True, text=True, timeout=limit, check=False)
    except OSError as failure:
        raise CoqMissing(f"coqc does not run: {failure.strerror}") from failure
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {limit:.0f} s")


def _reason(run: subprocess.CompletedProcess[str]) -> str:
    if run.returncode < 0:
        return f"it was killed by signal {-run.returncode}"
    return _last_line(run.stderr) or f"exit status {run.returncode}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


class Session:
    """A running coqtop with the library loaded; a text that takes too long ends it, and the next one starts another."""

    def __init__(self, folder: Path, header: str = HEADER) -> None:
        self._folder, self._header = folder, header
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Session:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def interrupt(self) -> None:
        """End the process from another thread, which waits for its answer."""
        if self._process is not None:
            self._process.kill()

    def ask(self, text: str, limit: float) -> Answer:
        """What Coq prints for sentences within a limit of seconds of its own time, on a busy machine more by the clock.

        Raises: CoqMissing if the process cannot be started.
        """
        if self._process is None:
            self._start()
        return self._ask(text, limit)

    def _start(self) -> None:
        command = ["coqtop", "-q", "-w", "none", "-Q", ".", "Grape"]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, bufsize=0
            )
        except OSError as failure:
            raise CoqMissing(f"coqtop does not run: {failure.strerror}") from failure
        # Silent: Coq would print what is left to prove after each sentence, which takes it longer than most proofs.
        answer = self._ask(f"{self._header}\nSet Silent.", 300)
        if answer.error:
            self.close()
            raise CoqMissing(f"coqtop does not load the library: {answer.error}")
        if not self._judges():
            self.close()
            raise CoqMissing("coqtop does not check what it is given")

    def _judges(self) -> bool:
        """Whether the process tells true from false, for numbers that nobody knows before, and names what it assumes.

        One that accepts all that it is given, or says the same of everything, would certify everything.
        """
        one, other, name = secrets.randbelow(1000), 1 + secrets.randbelow(1000), f"assumed_{secrets.token_hex(8)}"
        proof = "Theorem probe : {} + {} = {}. Proof. ring. Qed."
        refused = self._ask(f"Module probes. {proof.format(one, other, one + other - 1)}\nAbort All.", PROBE)
        accepted = self._ask(proof.format(one, other, one + other), PROBE)
        proof = f"Axiom {name} : False. Theorem other : False. Proof. exact {name}. Qed."
        assumed = self._ask(f"{proof} Print Assumptions other.\nReset probes.", PROBE)
        found = re.search(rf"^Axioms:\s+(?:probes\.)?{name}\b", assumed.text or "", re.M)
        return bool(refused.error) and not accepted.error and not assumed.error and found is not None

    def _ask(self, text: str, limit: float) -> Answer:
        process = self._process
        if process is None:  # it ended, and did not answer what was asked before
            return Answer(None)
        assert process.stdin is not None
        assert process.stdout is not None
        mark = f"mark_{secrets.token_hex(8)}"
        seen, deadline = b"", _Deadline(process.pid, limit)
        # Coq echoes nothing, so the mark appears once: in the message that it is unknown.
        pending = f"{text}\nLocate {mark}.\n".encode()
        os.set_blocking(process.stdin.fileno(), False)
        while not deadline.passed():
            writers = [process.stdin] if pending else []
            ready, writable, _ = select.select([process.stdout], writers, [], 0.5)
            if writable:
                pending = self._send(process, pending)
            if ready:
                found = os.read(process.stdout.fileno(), 1 << 16)
                if not found:
                    return self._ended(process)
                seen += found
                if re.search(rb"No object of\s+basename\s+" + mark.encode(), seen):
                    return Answer(_without_prompts(seen.decode(errors="replace")))
        self.close()
        return Answer(None)

    def _send(self, process: subprocess.Popen[bytes], pending: bytes) -> bytes:
        assert process.stdin is not None
        try:
            return pending[os.write(process.stdin.fileno(), pending[: 1 << 12]) :]
        except BlockingIOError:
            return pending
        except BrokenPipeError:
            return b""

    def _ended(self, process: subprocess.Popen[bytes]) -> Answer:
        """The answer of a process that ended by itself, such as for want of memory."""
        status = process.wait()
        self.close()
        return Answer(f"Error: {ENDED}: {f'killed by signal {-status}' if status < 0 else f'exit status {status}'}")


class _Deadline:
    """A limit on what a process computes, where the system says that, and on what passes by the clock elsewhere."""

    def __init__(self, pid: int, limit: float) -> None:
        self._pid, self._limit, self._moved = pid, limit, monotonic()
        self._start = self._seen = self._computed()

    def passed(self) -> bool:
        now = self._computed()
        if now is None or self._start is None:
            return monotonic() - self._moved > self._limit
        if now != self._seen:
            self._seen, self._moved = now, monotonic()
        return now - self._start > self._limit or monotonic() - self._moved > IDLE

    def _computed(self) -> float | None:
        try:
            fields = Path(f"/proc/{self._pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None


def _without_prompts(text: str) -> str:
    """The output without prompts and without the message about the mark."""
    cut = text.rfind("No object of")
    return re.sub(r"(?m)^(?:[\w']+ < )+", "", text[:cut] if cut >= 0 else text)

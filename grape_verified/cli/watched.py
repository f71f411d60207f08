"""Work on somebody's function in a child process, so that the command survives whatever the function does to it.

A child that is forked starts at once, as everything is imported already. The work is done in this process where
processes cannot be forked safely: not on Linux, or where the command line is called from Python.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from time import monotonic, sleep
from typing import Any, Literal, NoReturn

import typer
from rich.console import Console

from grape_verified.cli.target import WrongCall, output_to_stderr
from grape_verified.conformance import guard
from grape_verified.conformance.printing import in_a_line
from grape_verified.conformance.report import ENDED

#: Whether this process does nothing but run the command, so that it may be forked.
may_fork = False

#: Seconds after which a call that has taken too long and does not stop is ended with its process.
GRACE = 5.0

#: Seconds between two looks at the child.
LOOK = 0.25

#: Ends the child without anything that the function may have left to be done.
_leave = os._exit

#: Tells the parent of a step, in words, or of what has been found.
Tell = Callable[[Any], None]


@dataclass(frozen=True)
class Ended:
    """The process of the function ended before the work was done; why, in a sentence."""

    sentence: str


def watched(work: Callable[[Tell], Any], doing: str, told: Tell = lambda news: None) -> Any:
    """What the work returns, or `Ended`.

    Arguments:
        work: called with a function that tells what it is doing, in words, or what it has found.
        doing: the work in words, shown on a terminal until it tells others.
        told: called with what the work has found so far.

    Raises: WrongCall and ValueError, as the work does.
    """
    child, pipe = _forked(work) if may_fork and sys.platform == "linux" else (0, None)
    with Console(stderr=True).status(doing) as status:

        def tell(news: Any) -> None:
            status.update(news) if isinstance(news, str) else told(news)

        if pipe:
            with pipe:
                return _followed(child, pipe, tell)
        with output_to_stderr():
            return work(tell)


def _forked(work: Callable[[Tell], Any]) -> tuple[int, Connection]:
    """A child that does the work, and the end of a pipe at which it tells."""
    ours, theirs = Pipe(duplex=False)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    guard.DUE[0] = 0.0
    child = os.fork()
    if not child:
        _work(work, theirs)
    theirs.close()
    return child, ours


# -- the child --------------------------------------------------------------------------------------------------------

Kind = Literal["told", "returned", "wrong", "exit", "raised"]


def _work(work: Callable[[Tell], Any], pipe: Connection) -> NoReturn:
    """Do the work in this process, which ends with it."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        with output_to_stderr():
            pipe.send(_done(work, pipe))
    finally:
        _leave(0)


def _done(work: Callable[[Tell], Any], pipe: Connection) -> tuple[Kind, Any]:
    try:
        return "returned", work(lambda news: pipe.send(("told", news)))
    except (WrongCall, ValueError) as wrong:
        return "wrong", str(wrong)
    except typer.Exit as end:
        return "exit", end.exit_code
    except KeyboardInterrupt:
        return "raised", f"{ENDED} (KeyboardInterrupt)"
    except BaseException as error:  # an error of ours
        traceback.print_exc()
        return "raised", f"an error in grape_verified itself, {in_a_line(error)}"


# -- the parent -------------------------------------------------------------------------------------------------------


def _followed(child: int, pipe: Connection, told: Tell) -> Any:
    """What the child returns."""
    last: tuple[Kind, Any] | None = None
    try:
        while last is None:
            if guard.DUE[0] and monotonic() > guard.DUE[0] + GRACE:
                return Ended(f"TookTooLong: a call took more than {guard.LIMIT:g} seconds, and cannot be stopped")
            alive = _is_alive(child)
            if not wait([pipe], LOOK if alive else 0):
                if alive:
                    continue
                break
            kind, what = pipe.recv()
            if kind == "told":
                told(what)
            else:
                last = kind, what
    except (EOFError, OSError):
        _is_alive(child, monotonic() + GRACE)
    finally:
        how = _reaped(child)
    return Ended(f"{ENDED} ({how})") if last is None else _given(*last)


def _given(kind: Kind, what: Any) -> Any:
    match kind:
        case "wrong":
            raise WrongCall(what)
        case "exit":
            raise typer.Exit(what)
        case "raised":
            return Ended(what)
    return what


def _is_alive(child: int, until: float = 0.0) -> bool:
    """Whether the child has not ended, at a time."""
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if monotonic() > until:
            return True
        sleep(0.01)
    return False


def _reaped(child: int) -> str:
    """End the child, unless it has ended; say how it did."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

"""Calls of a function under check, which cannot end the process, hang or leave global state changed."""

from __future__ import annotations

import mmap
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import current_thread, main_thread
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch

from grape_verified.conformance import state
from grape_verified.conformance.printing import NotAnError, Printed, bounded
from grape_verified.conformance.state import Changes

#: Seconds that one call may take.
LIMIT = 20.0

#: Seconds until a call that did not stop when it took too long is told again.
AGAIN = 1.0


class TookTooLong(Exception):
    """A call took longer than it may."""


class _Stop(BaseException):
    """Stops a call that takes too long. Not an Exception, so that less catches it."""


class _Rang(BaseException):
    """What the handler of an alarm raised that was set before. Not an Exception, so that nothing catches it."""


@dataclass
class _Alarm:
    """The alarm that was set before, which goes off when it should, and that of the current call.

    Arguments:
        handler: what was to be called.
        due, interval: when, by `monotonic`, and every how many seconds after that; never if `due` is None.
        raised: what the handler raised.
    """

    handler: Callable[[int, FrameType | None], object]
    due: float | None
    interval: float
    raised: BaseException | None = None

    def set(self, limit: float) -> None:
        """Go off when the one that was set before is due, or after the limit of a call."""
        if signal.getsignal(signal.SIGALRM) != self.rings:  # the function set its own
            signal.signal(signal.SIGALRM, self.rings)
        waits = [limit] if limit else []
        if self.due is not None:
            waits.append(max(self.due - monotonic(), 1e-6))
        signal.setitimer(signal.ITIMER_REAL, min(waits, default=0.0))

    def rings(self, number: int, frame: FrameType | None) -> None:
        """Call the handler if it is due; else the current call takes too long."""
        if self.due is None or monotonic() < self.due:
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            raise _Stop
        self.due = monotonic() + self.interval if self.interval else None
        try:
            self.handler(number, frame)
        except BaseException as raised:
            self.raised = raised
            raise _Rang from raised


#: When the current call will have taken too long, by `monotonic`; 0 between calls. Children that are forked share it,
#: so that a process can see what its child is at; and so siblings write over each other.
DUE = memoryview(mmap.mmap(-1, 8)).cast("d")

#: The same of this process alone.
_OWN_DUE = [0.0]

#: What the function has printed in the check that runs.
_PRINTED: ContextVar[Printed] = ContextVar("_PRINTED", default=Printed())  # noqa: B039

#: Ends this process, whatever has become of `os._exit`.
_leave = os._exit

#: The alarm of the check that runs; None where calls cannot be stopped.
_ALARM: ContextVar[_Alarm | None] = ContextVar("_ALARM", default=None)


@contextmanager
def guarded() -> Iterator[None]:
    """Within: `os._exit` raises SystemExit, `call` stops what takes too long, and random numbers may be drawn.

    Afterwards random numbers go on as if none had been. Only the main thread can be interrupted, and not
    on Windows.
    """
    process, leave = os.getpid(), os._exit
    numbers, ours, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    printed = _PRINTED.set(Printed())

    def stay(status: int) -> NoReturn:
        if os.getpid() != process:  # a child that was forked within ends as it should
            leave(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = stay  # type: ignore[assignment]
    try:
        with _own_alarm():
            yield
    finally:
        os._exit = leave
        _PRINTED.reset(printed)
        torch.set_rng_state(numbers)
        random.setstate(ours)
        np.random.set_state(of_numpy)


@contextmanager
def _own_alarm() -> Iterator[None]:
    """Within: `call` may set the alarm; one that was set before goes off when it should, within or afterwards."""
    if not hasattr(signal, "setitimer") or current_thread() is not main_thread():
        yield
        return
    theirs = signal.getsignal(signal.SIGALRM)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    if theirs is None or (left and not callable(theirs)):  # set by what is not Python, or to end the process
        yield
        return
    alarm = _Alarm(theirs if callable(theirs) else lambda *_: None, monotonic() + left if left else None, interval)
    signal.signal(signal.SIGALRM, alarm.rings)
    kept = _ALARM.set(alarm)
    try:
        yield
    except BaseException:
        if alarm.raised:  # and not what was made of it on the way
            raise alarm.raised from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _ALARM.reset(kept)
        signal.signal(signal.SIGALRM, theirs)
        if alarm.due is not None:
            signal.setitimer(signal.ITIMER_REAL, max(alarm.due - monotonic(), 1e-6), interval)


@contextmanager
def same_numbers() -> Iterator[None]:
    """Within: the random numbers of Python and NumPy restart; afterwards they go on as if none had been drawn."""
    ours, of_numpy = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(of_numpy)


def call(function: Callable[[], Any], changes: Changes) -> Any:
    """The result of a function. Global state is as it was before; what had been changed is added to the changes.

    Raises:
        TookTooLong: if it takes longer than the limit, even if it returns then.
        NotAnError: for what it raises that is no Exception, other than KeyboardInterrupt.
    """
    process, before, alarm, within = os.getpid(), state.read(), _ALARM.get(), _OWN_DUE[0]
    _starts(alarm, LIMIT)
    try:
        with bounded(_PRINTED.get(), changes):
            found = function()
    except (Exception, KeyboardInterrupt, _Rang):
        raise
    except BaseException as error:
        if not isinstance(error, _Stop):
            raise NotAnError from error
    finally:
        if os.getpid() != process:  # a child that was forked within does not go on as this process
            _leave(0)
        late = monotonic() > _OWN_DUE[0]
        _starts(alarm, LIMIT if within else 0.0)  # a call that this one is part of goes on
        state.restore(before, changes)
        if late:
            raise TookTooLong(f"a call took more than {LIMIT:g} seconds") from None
    return found


def _starts(alarm: _Alarm | None, limit: float) -> None:
    """From now on, what runs may take this many seconds; 0 for any number."""
    DUE[0] = _OWN_DUE[0] = monotonic() + limit if limit else 0.0
    if alarm:
        alarm.set(limit)

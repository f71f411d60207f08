"""Calls of a function under check, which cannot end the process, hang or leave global state changed."""

from __future__ import annotations

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

#: Seconds that one call may take.
LIMIT = 20.0

#: Global state that a function must leave as it was: how to read it, and how to restore it.
_STATE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "whether gradients are computed": (torch.is_grad_enabled, torch.set_grad_enabled),
    "the seed": (torch.initial_seed, torch.manual_seed),
}


class TookTooLong(Exception):
    """A call took longer than it may."""


class _Rang(BaseException):
    """What the handler of an alarm raised that was set before. Not an Exception, so that nothing catches it."""


@dataclass
class _Alarm:
    """The alarm that was set before, which goes off when it should, and that of the current call.

    Arguments:
        handler: what was to be called.
        due, interval: when, by `monotonic`, and every how many seconds after that; never if `due` is None.
    """

    handler: Callable[[int, FrameType | None], object]
    due: float | None
    interval: float

    def set(self, limit: float | None = None) -> None:
        """Go off when the one that was set before is due, or after the limit of a call."""
        waits = [limit] if limit else []
        if self.due is not None:
            waits.append(max(self.due - monotonic(), 1e-6))
        signal.setitimer(signal.ITIMER_REAL, min(waits, default=0.0))

    def rings(self, number: int, frame: FrameType | None) -> None:
        """Call the handler if it is due; else the current call takes too long."""
        if self.due is None or monotonic() < self.due:
            raise TookTooLong(f"a call took more than {LIMIT:g} seconds")
        self.due = monotonic() + self.interval if self.interval else None
        try:
            self.handler(number, frame)
        except BaseException as raised:
            raise _Rang from raised


#: The alarm of the check that runs; None where calls cannot be stopped.
_ALARM: ContextVar[_Alarm | None] = ContextVar("_ALARM", default=None)


@contextmanager
def guarded() -> Iterator[None]:
    """Within: `os._exit` raises SystemExit, `call` stops what takes too long, and random numbers may be drawn.

    Afterwards the random numbers of torch go on as if none had been. Only the main thread can be interrupted, and not
    on Windows.
    """
    process, leave, numbers = os.getpid(), os._exit, torch.get_rng_state()

    def stay(status: int) -> NoReturn:
        if os.getpid() != process:  # a child that was forked within ends as it should
            leave(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = stay  # type: ignore[assignment]
    try:
        with _own_alarm():
            yield
    except _Rang as rang:
        raise rang.__cause__ or rang from None
    finally:
        os._exit = leave
        torch.set_rng_state(numbers)


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


def call(function: Callable[[], Any], changes: set[str]) -> Any:
    """The result of a function. Global state is as it was before; what had been changed is added to the changes."""
    before = [read() for read, _ in _STATE.values()]
    alarm = _ALARM.get()
    if alarm:
        alarm.set(LIMIT)
    try:
        return function()
    finally:
        if alarm:
            alarm.set()
        for (name, (read, write)), value in zip(_STATE.items(), before, strict=True):
            if read() != value:
                changes.add(f"{name} from {value} to {read()}")
                write(value)

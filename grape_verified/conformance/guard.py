"""Calls of a stranger's function that cannot end the process, hang for ever or leave global state changed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch

#: Seconds that one call may take.
LIMIT = 20.0

#: Global state that a function must leave as it was, with what sets it again.
_STATE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "whether gradients are computed": (torch.is_grad_enabled, torch.set_grad_enabled),
    "the seed": (torch.initial_seed, torch.manual_seed),
}


class TookTooLong(Exception):
    """A call took longer than it may."""


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

    interrupts = hasattr(signal, "setitimer") and current_thread() is main_thread()
    before = signal.signal(signal.SIGALRM, _stop) if interrupts else None
    os._exit = stay  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = leave
        if interrupts:
            signal.signal(signal.SIGALRM, before)
        torch.set_rng_state(numbers)


@contextmanager
def same_numbers() -> Iterator[None]:
    """Within: random numbers of Python and NumPy begin anew; afterwards they go on as if none had been drawn."""
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
    limited = hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _stop
    if limited:
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        return function()
    finally:
        if limited:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for (name, (read, write)), value in zip(_STATE.items(), before, strict=True):
            if read() != value:
                changes.add(f"{name} from {value} to {read()}")
                write(value)


def _stop(_: int, frame: FrameType | None) -> NoReturn:
    raise TookTooLong(f"a call took more than {LIMIT:g} seconds")

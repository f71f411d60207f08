"""A limit on the processor time of a proof.

Processor time, so that a busy machine gives the same verdicts as an idle one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

#: Seconds between further interruptions, for code that swallowed the first.
AGAIN = 0.5


class OutOfTime(Exception):
    """The proof took longer than it may."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Within: `OutOfTime` after some seconds. Only the main thread can be interrupted, and not on Windows."""
    if not hasattr(signal, "setitimer") or current_thread() is not main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise OutOfTime(f"no proof within {seconds:g} seconds")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def left(seconds: float) -> float:
    """The seconds that are left within `limited`, at most the given ones."""
    remaining = signal.getitimer(signal.ITIMER_VIRTUAL)[0] if hasattr(signal, "getitimer") else 0.0
    return min(seconds, remaining) if remaining else seconds

"""A limit on the processor time of a proof.

Processor time, so that a busy machine gives the same verdicts as an idle one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

#: Seconds between further interruptions, for code that swallowed the first, or must not be interrupted.
AGAIN = 0.5


class OutOfTime(Exception):
    """The proof took longer than it may."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Within: `OutOfTime` after some seconds. Only the main thread can be interrupted, and not on Windows."""
    if not hasattr(signal, "setitimer") or current_thread() is not main_thread():
        yield
        return

    def stop(_: int, frame: FrameType | None) -> None:
        if not _in_a_finaliser(frame):
            raise OutOfTime(f"no proof within {seconds:g} seconds")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _in_a_finaliser(frame: FrameType | None) -> bool:
    """Whether an object is being deleted: Python only reports an exception there. The next interruption serves."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def left(seconds: float) -> float:
    """The seconds that are left within `limited`, at most the given ones."""
    remaining = signal.getitimer(signal.ITIMER_VIRTUAL)[0] if hasattr(signal, "getitimer") else 0.0
    return min(seconds, remaining) if remaining else seconds

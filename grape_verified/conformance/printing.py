"""What a function under check prints is bounded, and what it raises is a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grape_verified.conformance.state import STREAMS, Changes

#: Characters that a function may print in one check; the rest is left out.
PRINTED = 100_000

#: Characters of an error that are told.
TOLD = 1000


class NotAnError(Exception):
    """A function raised what is not an Exception, its cause, such as SystemExit, which would end the process."""


class Printed:
    """The number of characters that were printed."""

    count = 0


class _Bounded:
    """A stream that takes no more than a number of characters, and that cannot be closed."""

    def __init__(self, stream: Any, printed: Printed, changes: Changes) -> None:
        self._stream, self._printed, self._changes = stream, printed, changes

    def write(self, text: str) -> int:
        room = PRINTED - self._printed.count
        self._printed.count += len(text)
        if room > 0:
            self._stream.write(text[:room])
            if room < len(text):
                self._stream.write("\n[… what else the function prints is left out]\n")
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        self._changes[STREAMS] += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def bounded(printed: Printed, changes: Changes) -> Iterator[None]:
    """Within: what is printed is bounded, and `close` closes neither stream."""
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    ours = {name: stream and _Bounded(stream, printed, changes) for name, stream in streams.items()}
    for name, stream in ours.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in streams.items():
            if getattr(sys, name) is ours[name]:
                setattr(sys, name, stream)


def in_a_line(error: BaseException) -> str:
    """The type of an error and the first line of what it says, without what a terminal would obey."""
    if isinstance(error, NotAnError) and error.__cause__:
        error = error.__cause__
    try:
        first = str(error).strip().split("\n", 1)[0][:TOLD]
    except Exception:  # an error of the user may be anything
        first = ""
    first = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in first)
    return f"{type(error).__name__}: {first}" if first else type(error).__name__

"""A place in a row of signs, from which they are taken one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Unreadable(ValueError):
    """LaTeX that is no formula of the declared symbols."""


class Cursor:
    """Takes signs, and says what it expected instead."""

    def __init__(self) -> None:
        self.signs: list[str] = []
        self.place = 0

    def elsewhere(self, found: Sequence[str], parse: Callable[[], Any]) -> Any:
        before = self.signs, self.place
        self.signs, self.place = list(found), 0
        try:
            value = parse()
            if self.place != len(self.signs):
                raise Unreadable(f"nothing is known of {' '.join(self.signs[self.place :][:12])}")
            return value
        finally:
            self.signs, self.place = before

    def peek(self) -> str:
        return self.signs[self.place] if self.place < len(self.signs) else ""

    def take(self, *expected: str) -> str:
        sign = self.peek()
        if expected and sign not in expected:
            rest = " ".join(self.signs[self.place :][:8]) or "the end"
            raise Unreadable(f"got {rest}, expected {' or '.join(expected)}")
        self.place += 1
        return sign

    def inside(self, opening: str, closing: str, parse: Callable[[], Any]) -> Any:
        self.take(opening)
        value = parse()
        self.take(closing)
        return value

    def at_exponent(self) -> bool:
        return self.peek() == "^" and self.signs[self.place + 1 : self.place + 3] != ["{", r"\top"]

    def binds_loosely(self, start: int) -> bool:
        """Whether what was read is a fraction, cases, a bar, or has an exponent or prime of its own already."""
        if self.signs[start] in (r"\frac", r"\begin{cases}", r"\at", "e"):
            return True
        depth, found = 0, False
        for sign in self.signs[start : self.place]:
            depth += (sign in "({") - (sign in ")}")
            found = depth == 0 and sign != ")" and (found or sign in ("^", "'"))
        return found

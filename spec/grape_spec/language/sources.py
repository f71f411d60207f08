"""Where a statement comes from: a paper and, where it is known, the equation."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Source:
    """A reference into ``references.bib``, with the place inside the work.

    ``checked`` says whether the place was compared with the text of the work.
    """

    key: str
    place: str = ""
    checked: bool = False

    def eq(self, number: int | str, *, checked: bool = False) -> Source:
        """The equation of that number."""
        return replace(self, place=f"eq. {number}", checked=checked)

    def section(self, number: int | str, *, checked: bool = False) -> Source:
        """The section of that number."""
        return replace(self, place=f"section {number}", checked=checked)

    def __str__(self) -> str:
        place = f", {self.place}" if self.place else ""
        return f"[{self.key}]{place}" + ("" if self.checked else " (not checked against the source)")


#: A statement that is derived here, from the definitions alone.
DERIVED = Source("derived", "worked out here", checked=True)

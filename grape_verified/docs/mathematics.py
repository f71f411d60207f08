"""A check of every formula of a built site, by the KaTeX that the site uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple


class BrokenMathematics(Exception):
    """KaTeX rejects formulas of the site."""


class Formula(NamedTuple):
    """LaTeX on a page."""

    page: str
    latex: str
    displayed: bool


class _Formulas(HTMLParser):
    """Collects the formulas that the extension `arithmatex` has marked: \\(…\\) in a span, \\[…\\] in a div."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tag: str | None = None
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if dict(attrs).get("class") == "arithmatex":
            self.tag = tag
            self.found.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == self.tag:
            self.tag = None

    def handle_data(self, data: str) -> None:
        if self.tag is not None:
            tag, text = self.found[-1]
            self.found[-1] = tag, text + data


def formulas(site: Path) -> Iterator[Formula]:
    """The formulas of all pages."""
    for page in sorted(site.rglob("*.html")):
        parser = _Formulas()
        parser.feed(page.read_text(encoding="utf-8"))
        for tag, text in parser.found:
            yield Formula(str(page.relative_to(site)), text.strip()[2:-2], tag == "div")


def faults(found: Iterator[Formula], katex: Path) -> list[str]:
    """A line for each formula that KaTeX rejects in strict mode; `katex` is its script."""
    from py_mini_racer import MiniRacer

    seen: dict[tuple[str, bool], str] = {}
    for formula in found:
        seen.setdefault((formula.latex, formula.displayed), formula.page)
    engine = MiniRacer()
    engine.eval(katex.read_text(encoding="utf-8"))
    engine.eval(_FAULT)
    lines = []
    for (latex, displayed), page in seen.items():
        fault = engine.eval(f"fault({json.dumps(latex)}, {json.dumps(displayed)})")
        if fault:
            lines.append(f"{page}: {latex}: {fault}")
    return lines


_FAULT = """
function fault(latex, displayed) {
  try {
    katex.renderToString(latex, {displayMode: displayed, throwOnError: true, strict: "error"});
    return "";
  } catch (error) {
    return String(error.message);
  }
}
"""

"""Formulas as HTML and MathML: KaTeX sets each formula of a built page, so that readers need no JavaScript."""

from __future__ import annotations

import atexit
import html
import json
import re
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

#: What the extension `arithmatex` has marked: \\(…\\) in a span, \\[…\\] in a div.
_MARKED = re.compile(r'(<(span|div) class="arithmatex">)\s*\\[(\[](.*?)\\[)\]]\s*(</\2>)', re.DOTALL)

#: Where `markdown.numbered` has put a formula.
_EQUATION = re.compile(r'<div class="equation">')

#: An element of a formula with a style of its own.
_STYLED = re.compile(r'<span(?: class="([^"]*)")? style="([^"]*)">')

#: How often a rule names its class, so that it wins over those of KaTeX, as a style of an element's own does.
_WEIGHT = 5

#: The script, in the folder of the chapters. It is not published.
KATEX = Path("assets", "katex", "katex.min.js")


class BrokenMathematics(Exception):
    """KaTeX rejects formulas of the site."""


def typeset(site: Path, katex: Path) -> None:
    """Set every formula of a built site, and number its equations; `katex` is the script.

    Raises: BrokenMathematics, with a line for each formula that KaTeX rejects in strict mode.
    """
    faults = []
    for file in sorted(site.rglob("*.html")):
        text, wrong = with_formulas(file.read_text(encoding="utf-8"), katex)
        file.write_text(with_numbers(text), encoding="utf-8")
        faults += [f"{file.relative_to(site)}: {line}" for line in wrong]
    if faults:
        raise BrokenMathematics("\n".join(faults))


def with_formulas(page: str, katex: Path) -> tuple[str, list[str]]:
    """A page with its formulas set, and a line for each that stays as it is because it is broken.

    A style that elements of formulas have stands once in the head, and not in each: there are thousands of elements.
    """
    faults = []
    styles: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        name = styles.setdefault(found[2], f"_{len(styles)}")
        return f'<span class="{found[1]} {name}">' if found[1] else f'<span class="{name}">'

    def replaced(found: re.Match[str]) -> str:
        start, tag, marked, end = found.groups()
        latex = html.unescape(marked).strip()
        done = _set(katex, latex, tag == "div")
        if "html" in done:
            return f"{start}{_STYLED.sub(named, done['html'])}{end}"
        faults.append(f"{latex}: {done['fault']}")
        return found[0]

    text = _MARKED.sub(replaced, page)
    rules = "".join(f"{f'.{name}' * _WEIGHT}{{{style}}}" for style, name in styles.items())
    before, head, after = text.rpartition("</head>")
    return f"{before}<style>{rules}</style>{head}{after}" if rules else text, faults


def with_numbers(page: str) -> str:
    """A page whose statements and definitions are numbered from 1, each number a link to its equation."""
    numbers = count(1)

    def replaced(found: re.Match[str]) -> str:
        n = next(numbers)
        return f'<div class="equation" id="equation-{n}"><a href="#equation-{n}" aria-label="Equation {n}">({n})</a>'

    return _EQUATION.sub(replaced, page)


def on_post_page(output: str, *, config: Any, page: Any) -> str:
    """The hook by which the pages of `mkdocs serve` have their formulas; its terminal names those that are broken."""
    from mkdocs.plugins import get_plugin_logger  # the commands do without it

    text, wrong = with_formulas(output, Path(config.docs_dir) / KATEX)
    for line in wrong:
        get_plugin_logger("mathematics").error("%s: %s", page.file.src_uri, line)
    return with_numbers(text)


@cache
def _set(katex: Path, latex: str, displayed: bool) -> dict[str, str]:
    return json.loads(_engine(katex).eval(f"set({json.dumps(latex)}, {json.dumps(displayed)})"))


@cache
def _engine(katex: Path) -> Any:
    from py_mini_racer import MiniRacer

    engine = MiniRacer()
    atexit.register(engine.close)  # its thread may wait forever for one that the end of the process has stopped
    engine.eval(katex.read_text(encoding="utf-8"))
    engine.eval(_SET)
    return engine


_SET = """
function set(latex, displayed) {
  const options = {displayMode: displayed, output: "htmlAndMathml", throwOnError: true, strict: "error"};
  try {
    return JSON.stringify({html: katex.renderToString(latex, options)});
  } catch (error) {
    return JSON.stringify({fault: String(error.message)});
  }
}
"""

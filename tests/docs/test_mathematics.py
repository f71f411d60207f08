"""Formulas are in the pages as HTML and MathML; one that KaTeX cannot set fails the build, wherever it stands."""

import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest

from grape_verified.docs.mathematics import KATEX, BrokenMathematics, on_post_page, typeset, with_formulas, with_numbers

DOCS = Path(__file__).parents[2] / "docs"
INLINE, DISPLAYED = '<span class="arithmatex">\\({}\\)</span>', '<div class="arithmatex">\n\\[\n{}\n\\]</div>'


def sources(text):
    """The LaTeX that can be copied from a page."""
    return [
        unescape(found) for found in re.findall(r'<annotation encoding="application/x-tex">(.*?)</annotation>', text)
    ]


def test_formulas_are_set_and_keep_their_source():
    page = "</head><p>x " + INLINE.format("a &lt; b_1") + "</p>" + DISPLAYED.format(r"\frac{1}{2}") + "<p>y</p>"
    text, faults = with_formulas(page, DOCS / KATEX)
    assert not faults
    assert sources(text) == ["a < b_1", r"\frac{1}{2}"]
    assert text.count("<math ") == text.count('class="katex-html"') == 2
    assert text.count("katex-display") == 1
    assert '</head><p>x <span class="arithmatex"><span class="katex">' in text
    assert text.endswith("</span></div><p>y</p>")
    assert r"\(" not in text
    assert r"\[" not in text


def test_a_style_stands_once_and_wins_over_the_rules_of_katex():
    page = "<head></head>" + INLINE.format(r"\frac{a_1}{2}") + INLINE.format(r"\frac{a_1}{2}")
    text, _ = with_formulas(page, DOCS / KATEX)
    rules = re.search(r"<head><style>(.*)</style></head>", text)[1]
    body = text.partition("</head>")[2]
    assert "<span style" not in body
    assert not re.search(r'<span class="[^"]*" style', body)
    found = re.findall(r"((?:\._\d+)+)\{(.*?)\}", rules)
    assert "".join(f"{selector}{{{style}}}" for selector, style in found) == rules
    assert len({style for _, style in found}) == len(found) > 5
    for selector, style in found:
        name = selector[1:].partition(".")[0]
        assert selector == f".{name}" * 5
        assert len(re.findall(rf'class="[^"]*\b{name}"', body)) % 2 == 0  # two formulas, which are alike
        assert style.endswith(";")
    classes = re.findall(r"[^{}]*\{", (DOCS / KATEX).with_suffix(".css").read_text("utf-8"))
    assert max(len(re.findall(r"\.[a-z]", rule.split(",")[0])) for rule in classes) < 6


def test_equations_are_numbered_on_each_page():
    page = with_numbers('<div class="equation">a</div><div class="arithmatex">b</div><div class="equation">c</div>')
    assert re.findall(r'<div class="equation" id="(.*?)"><a href="#(.*?)" aria-label="(.*?)">(.*?)</a>', page) == [
        (f"equation-{n}", f"equation-{n}", f"Equation {n}", f"({n})") for n in (1, 2)
    ]
    assert page.endswith("c</div>")


def test_what_is_no_formula_stays_as_it_is():
    page = '<pre><code>&lt;span class="arithmatex"&gt;\\(x\\)&lt;/span&gt;</code></pre>'
    assert with_formulas(page, DOCS / KATEX) == (page, [])


def test_a_broken_formula_is_named_with_its_page(tmp_path):
    wrong = [r"\frac{1}{", r"\nosuchcommand", "über"]
    for name, some in (("a.html", wrong), ("b.html", wrong[:1])):
        (tmp_path / name).write_text("".join(map(INLINE.format, ["x", *some])), encoding="utf-8")
    with pytest.raises(BrokenMathematics) as broken:
        typeset(tmp_path, DOCS / KATEX)
    lines = str(broken.value).splitlines()
    starts = [f"{page}: {latex}: " for page, latex in (*(("a.html", latex) for latex in wrong), ("b.html", wrong[0]))]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 4


def test_pages_that_are_served_for_writing_have_their_formulas(caplog):
    config, page = SimpleNamespace(docs_dir=str(DOCS)), SimpleNamespace(file=SimpleNamespace(src_uri="ppo.md"))
    assert "katex-html" in on_post_page(INLINE.format("x"), config=config, page=page)
    assert not caplog.records
    on_post_page(INLINE.format(r"\frac{1}{"), config=config, page=page)
    assert r"ppo.md: \frac{1}{: " in caplog.text

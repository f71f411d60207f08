"""The pages to look things up in: notation, the index of symbols, the glossary."""

import re

import pytest
from grape_spec.language.registry import DEFINITIONS
from grape_spec.language.symbols import DECLARATIONS

from grape_verified.docs import symbols
from tests.docs.test_code_blocks import DOCS

GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^## (.+?) \{ #.+? \}\n\n(.+?)\n(?=\n##|\Z)", GLOSSARY, re.DOTALL | re.MULTILINE))

#: Words in bold that head a paragraph of a chapter, or stress what it says, and are no terms.
NO_TERMS = {
    "in the loss", "in the reward", "Second step: take the smaller of the two", "A value", "An entropy bonus",
    "A KL penalty in the reward", "A controller", "weight",
}  # fmt: skip

#: Chapters in which words in bold only head paragraphs.
HEADS = ("numerics", "hot_path")


def terms(chapter):
    """The terms that a chapter introduces, in bold."""
    text = chapter.read_text(encoding="utf-8").split("## Where this goes wrong")[0]
    found = {" ".join(term.split()) for term in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL)}
    return {term for term in found if not term.endswith((".", ":"))} - NO_TERMS


def known():
    """The terms of the glossary in lower case, without what they are said of."""
    return {term.partition(" (")[0].casefold() for term in ENTRIES}


@pytest.mark.parametrize("chapter", sorted((DOCS / "chapters").glob("*.md")), ids=lambda chapter: chapter.stem)
def test_the_glossary_has_every_term_that_a_chapter_introduces(chapter):
    if chapter.stem not in HEADS:
        singular = {re.sub("ies$", "y", term.casefold()) for term in terms(chapter)}
        assert singular <= known()


def test_some_chapters_introduce_terms():
    assert {"baseline", "group", "ddof"} <= terms(DOCS / "chapters" / "advantage.md")


def test_a_term_is_explained_in_a_sentence_and_leads_somewhere():
    assert len(ENTRIES) == GLOSSARY.count("\n## ") > 70
    assert list(ENTRIES) == sorted(ENTRIES, key=str.casefold)
    for term, text in ENTRIES.items():
        sentence, links = " ".join(text.split()).rsplit(" See ", 1)
        assert re.search(r"\]\([\w/.]+\.md", links), term
        assert sentence.count(". ") == 0, term


def test_the_table_of_notation_is_what_is_declared():
    text = (DOCS / "notation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \$(.+?)\$ \| `(\w+)` \|", text, re.MULTILINE)
    declared = {entry.name: entry.tex for entry in DECLARATIONS.values()}
    assert len(rows) > 20
    assert [(declared.get(name), name) for _, name in rows] == rows


def test_the_index_has_every_symbol_and_definition():
    found = list(symbols.meanings())
    assert len(found) == len(DECLARATIONS) + len(DEFINITIONS)
    page = symbols.index_page()
    assert all(f"[`{id}`](../definitions/" in page for id in DEFINITIONS)
    assert not [meaning.name for meaning in found if not meaning.places and "(../definitions" not in meaning.name]


def test_the_index_shows_all_that_a_letter_heads():
    under = [meaning.name for meaning in symbols.meanings() if meaning.letter == "L"]
    headed = [name for name in under if "(../definitions" in name]
    assert len(headed) >= 19
    section = symbols.index_page().split("\n## L {")[1].split("\n## ")[0]
    assert all(name in section for name in under)


@pytest.mark.parametrize(
    ("latex", "letter"),
    [
        (r"\ell_w^{\mathrm{ref}}", "ℓ"),
        (r"L_{\mathrm{robust}}(m)", "L"),
        (r"\overline{r}", "r"),
        (r"\bar c_{q}", "c"),
        (r"\log \pi_{a}", "π"),
        (r"(L^{\top} d)_{k}", "L"),
        (r"\mathrm{KL}(p \Vert q)", "KL"),
        (r"\mathrm{eos}", symbols.WITHOUT),
        (r"\frac{a}{b}", symbols.WITHOUT),
    ],
)
def test_a_name_is_under_its_letter(latex, letter):
    assert symbols.letter_of(latex) == letter

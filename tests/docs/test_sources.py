"""What a chapter says about a paper or a library carries its evidence, or says that it was not compared."""

import re
from pathlib import Path

import pytest

from grape_verified.conformance.subjects import SUBJECTS
from grape_verified.docs import sources
from grape_verified.docs.conventions import READ

CHAPTERS = sorted((Path(__file__).parents[2] / "docs" / "chapters").glob("*.md"))

#: A paper, by its number.
PAPER = re.compile(r"arXiv:(\d{4}\.\d{5})")

#: Authors and a year.
CITED = re.compile(r"(?:[A-Z][a-z]+,? (?:et al\.,? |and |[A-Z]\. |\*[^*]+\*, )*)+\(?(?:19|20)\d\d\b")

#: The libraries that are compared, and others whose threads are cited.
LIBRARY = re.compile(rf"\b(?:{'|'.join([*READ, 'NeMo', 'open-instruct', 'slime', 'SkyRL', 'ms-swift'])})\b")

#: Evidence for what is said about a library: a release, a thread, or the table of who does what.
EVIDENCE = re.compile(r"\b\d+\.\d+\.\d+\b|#\d{3,}|#who-does-what|\btable\b|\babove\b|conventions/")

#: What says that a work was not read.
NOT_COMPARED = re.compile(r"not (?:\w+ ){0,2}compared|not available")


def paragraphs(text):
    """The paragraphs of a page, each on one line; items of a list are paragraphs of their own."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n|\n(?=- )", prose)]


def without_evidence(text):
    """The paragraphs that speak of a library without a release, a thread or a table."""
    return [p for p in paragraphs(text) if LIBRARY.search(p) and not EVIDENCE.search(p)]


def not_traced(text):
    """The papers that neither give something that a page names nor are said to be not compared, or read in part."""
    given = sources.snippet(text)
    said = " ".join(p for p in paragraphs(text) if NOT_COMPARED.search(p) or "was compared" in p)
    numbers = [number for number in PAPER.findall(text) if number not in given + said]
    return numbers + [cited for cited in CITED.findall(" ".join(paragraphs(text))) if not told_in(cited, given, said)]


def told_in(cited, given, said):
    """Whether the sources give a work of one of the authors and that year, or it is said to be not compared."""
    *names, year = re.findall(r"[A-Z][a-z]+|\d{4}", re.sub(r"\*[^*]+\*", "", cited))
    return any(name in said or re.search(rf"{name}.* \({year}\)", given) for name in names)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_what_a_chapter_says_about_a_library_carries_its_evidence(chapter):
    assert without_evidence(chapter.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_paper_gives_a_claim_or_is_said_to_be_not_compared(chapter):
    text = chapter.read_text(encoding="utf-8")
    assert not_traced(text) == []
    assert f'--8<-- "sources/{chapter.name}"' in text


@pytest.mark.parametrize("chapter", sorted({subject.chapter for subject in SUBJECTS.values()}))
def test_a_chapter_says_who_does_what(chapter):
    told = CHAPTERS[0].with_name(f"{chapter}.md").read_text(encoding="utf-8").split("\n## Who does what\n")
    assert len(told) == 2
    section = told[1].split("\n## ")[0]
    assert re.search(r'"conventions/|not compared|no Python file', section)


def test_what_lacks_evidence_is_found():
    assert without_evidence("TRL does it.\n\nverl 0.9.1 does not.\n\nTRL#6503 did.") == ["TRL does it."]
    assert not_traced("By arXiv:1234.56789, surely.") == ["1234.56789"]
    assert not_traced("By arXiv:1234.56789, which was not compared.") == []
    assert not_traced("as A. Nobody (2020) says.\n\nBy Someone et al. (2021), not compared.") == ["Nobody (2020"]


def test_a_source_says_where_in_the_work_and_whether_it_was_compared():
    named = "".join(f"[`{id}`](../definitions/dpo.md#{id})" for id in ("dpo.loss", "dpo.implied_reward"))
    first, second = sources.snippet(named).splitlines()[2:]
    assert "arXiv:2305.18290. | eq. 5 | [`dpo.implied_reward`]" in first
    assert second == "|  | eq. 7 | [`dpo.loss`](../definitions/dpo.md#dpo.loss) | no |"

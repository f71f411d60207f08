"""A chapter shows the parts of a claim that its text speaks of, chosen by name."""

import re
from pathlib import Path

import pytest
from grape_spec import render
from grape_spec.language.registry import CLAIMS

from grape_verified.conformance.ledger import Ledger
from grape_verified.docs import pages
from grape_verified.docs.claim_page import claim_page
from grape_verified.docs.pages import claim_snippet
from grape_verified.docs.shown_parts import SHOWN, shown_parts

CHAPTERS = Path(__file__).parents[2] / "docs" / "chapters"

#: More formulas in one box are a page of their own.
MOST = 6

BOXES = sorted(
    {id for path in CHAPTERS.glob("*.md") for id in re.findall(r'--8<-- "claim/(.+)\.md"', path.read_text("utf-8"))}
)


@pytest.mark.parametrize("id", SHOWN)
def test_what_is_chosen_exists_is_in_a_chapter_and_leaves_something_out(id):
    names = [part.name for part in CLAIMS[id].parts]
    assert id in BOXES, "no chapter shows it"
    assert [name for name in names if name in SHOWN[id]] == list(SHOWN[id]), "an unknown part, or another order"
    assert len(SHOWN[id]) < len(names), "all parts are shown anyway"


@pytest.mark.parametrize("id", BOXES)
def test_a_box_shows_every_part_or_those_that_were_chosen(id):
    parts = render.as_dict(CLAIMS[id])["parts"]
    shown = shown_parts(id, parts)
    assert len(shown) <= MOST, f"choose among {[part['name'] for part in parts]}"
    box = pages.claim_snippet(CLAIMS[id], Ledger())
    assert all(part["statement_latex"] in box for part in shown)
    left = len(parts) - len(shown)
    assert (f"*and {left} more on [its page](../claims/{id}.md)*" in box) == (left > 0)


def test_what_a_claim_is_about_comes_first():
    for id, first in (
        ("trpo.bound", "with half of C"),
        ("trpo.pinsker", "everywhere"),
        ("grpo.advantage.bound", "bound"),
    ):
        statement = claim_page(CLAIMS[id], Ledger(), "", {}).split("## Statement")[1].split("## In words")[0]
        results, steps = statement.split("### On the way")
        assert results.strip().startswith(f"**{first}**")
        assert f"**{CLAIMS[id].parts[0].name}**" in steps
        names = re.findall(r"^\*\*(.*?)\*\*", results + steps, re.MULTILINE)
        assert sorted(names) == sorted(part.name for part in CLAIMS[id].parts)
        assert f"**{first}**" in claim_snippet(CLAIMS[id], Ledger()).split("$$")[0]
    for id in ("grpo.gradient", "dpo.gradient", "rejection.best_of_n.law"):
        assert "On the way" not in claim_page(CLAIMS[id], Ledger(), "", {})

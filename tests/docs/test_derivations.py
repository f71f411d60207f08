"""Derivations on the pages: shown with what the ledger says of their lines, and a wrong line fails the build."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from grape_spec.language.registry import _DERIVED, CLAIMS, DERIVATIONS
from grape_spec.proof.examine import examine
from grape_spec.proof.fingerprint import fingerprints
from grape_spec.render import latex

from grape_verified.conformance.ledger import Ledger, summarise
from grape_verified.docs import derivations
from grape_verified.docs.claim_page import claim_page
from grape_verified.docs.mathematics import KATEX, with_formulas
from tests.tables import with_first_negated, with_lines

ROOT = Path(__file__).parents[2]
DISPLAYED = re.compile(r"\$\$\n(.*?)\n\$\$", re.DOTALL)

KEY = ID, NAME = "policy.softmax.jacobian", ""


def recorded():
    return summarise([replace(examine(ID), fingerprint=fingerprints()[ID])], [], 1.0)


@pytest.fixture
def planted(monkeypatch):
    """The first line with its sign flipped; the lines as they were."""
    lines = DERIVATIONS[KEY][0].lines
    monkeypatch.setitem(_DERIVED, KEY, with_first_negated(KEY))
    return lines


def test_a_page_shows_every_line_with_its_reason_and_what_the_ledger_says():
    page = claim_page(CLAIMS[ID], recorded(), "", {})
    section = page.split("## Derivation")[1].split("## Symbols")[0]
    for entry in DERIVATIONS[KEY][0].lines:
        assert f"= {latex(entry.expr)}\n$$\n\n{entry.reason}\n" in section
    count = len(DERIVATIONS[KEY][0].lines)
    assert f"Each line is checked against the line before: {count} of {count} proved." in section
    assert "the line before: not run." in claim_page(CLAIMS[ID], Ledger(), "", {})
    assert "## Derivation" not in claim_page(CLAIMS["policy.softmax.normalised"], Ledger(), "", {})


def test_katex_sets_every_line():
    pages = (derivations.derivation(claim, part, Ledger()) for claim in CLAIMS.values() for part in claim.parts)
    shown = "\n".join(f'<div class="arithmatex">\\[{tex}\\]</div>' for page in pages for tex in DISPLAYED.findall(page))
    assert shown
    _, faults = with_formulas(shown, ROOT / "docs" / KATEX)
    assert faults == []


def test_evidence_on_other_lines_does_not_count(monkeypatch):
    ledger = recorded()
    other = with_lines(KEY, lambda lines: (replace(lines[0], reason="other words"), *lines[1:]))
    monkeypatch.setitem(_DERIVED, KEY, other)
    assert derivations.verdict(CLAIMS[ID], CLAIMS[ID].parts[0], replace(ledger)) == "not run"


@pytest.mark.parametrize("with_ledger", [False, True])
def test_a_wrong_line_is_named(planted, with_ledger):
    assert planted
    found = list(derivations.faults(recorded() if with_ledger else Ledger()))
    named = [f"{ID}: line {n} of its derivation does not follow: {planted[n - 1].reason}" for n in (1, 2)]
    assert found == named


def test_no_line_of_the_package_is_wrong():
    assert list(derivations.faults(Ledger())) == []


def test_the_signs_in_a_reason_are_shown_as_they_are_meant():
    page = claim_page(CLAIMS["dpo.gibbs"], Ledger(), "", {})
    assert "r = β log(π\\*/π<sub>ref</sub>) + β log Z, and π<sub>ref</sub> cancels" in page


def test_an_induction_is_shown_with_its_first_depth_and_the_step():
    page = claim_page(CLAIMS["policy.sequence.normalised"], Ledger(), "", {})
    section = page.split("## Derivation")[1].split("## Symbols")[0]
    first, then = DERIVATIONS["policy.sequence.normalised", "from any prefix"]
    start = section.index("By induction, first at depth $0$:")
    step = section.index("Then at depth $T + 1$, where the statement holds at depth $T$:")
    assert start < section.index(first.lines[0].reason) < step < section.index(then.lines[0].reason)
    assert f"$$\n{latex(then.start)}\n$$" in section[step:]

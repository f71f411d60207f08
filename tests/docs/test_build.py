"""`grape-verified docs build`: a broken page fails it, and a wrong call is reported in one line."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import sympy as sp
from grape_spec.language.registry import _DERIVED, CLAIMS, DERIVATIONS
from grape_spec.paper import check
from grape_spec.paper.layout import displayed
from typer.testing import CliRunner

from grape_verified.cli import app
from grape_verified.conformance.ledger import Ledger
from grape_verified.docs import derivations, site
from tests.tables import with_first_negated, with_lines

ROOT = Path(__file__).parents[2]
CONFIG = """
site_name: small
theme: {name: material, font: false}
validation: {anchors: warn}
markdown_extensions: [{pymdownx.arithmatex: {generic: true}}, {pymdownx.snippets: {base_path: [.], check_paths: true}}]
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A site of one page in the current folder, for which nothing is generated."""
    shutil.copytree(ROOT / "docs" / "assets" / "katex", tmp_path / "docs" / "assets" / "katex")
    (tmp_path / "mkdocs.yml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(site, "write", lambda config_file, ledger: None)
    monkeypatch.setattr(check, "CLAIMS", {"ppo.clip.lower_bound": CLAIMS["ppo.clip.lower_bound"]})
    monkeypatch.setattr(check, "DEFINITIONS", {})
    return tmp_path / "docs" / "index.md"


def built():
    return CliRunner().invoke(app, ["docs", "build"])


def test_a_page_without_fault_is_built(small):
    small.write_text("# Home\n\nA formula, $x^2$, and a link to [a place](#home).\n", encoding="utf-8")
    assert built().exit_code == 0
    text = (small.parents[1] / "site" / "index.html").read_text(encoding="utf-8")
    assert "katex-html" in text
    assert r"\(x^2\)" not in text


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("a formula: $\\frac{1}{$", r"\frac{1}{"),
        ("a page: [that is not there](nowhere.md)", "nowhere.md"),
        ("an anchor: [that is not there](#nowhere)", "#nowhere"),
        ('what a chapter pulls in:\n\n--8<-- "claim/no.such.claim.md"', "no.such.claim.md"),
    ],
)
def test_a_fault_fails_the_build_and_is_named(small, capfd, fault, named):
    small.write_text(f"# Home\n\n{fault}\n", encoding="utf-8")
    result = built()
    assert result.exit_code == 1
    assert named in result.stderr + capfd.readouterr().err


def test_a_wrong_line_of_a_derivation_fails_the_build_and_is_named(small, monkeypatch):
    small.write_text("# Home\n", encoding="utf-8")
    key = ("policy.softmax.jacobian", "")
    first = DERIVATIONS[key][0].lines[0]
    monkeypatch.setitem(_DERIVED, key, with_first_negated(key))
    result = built()
    assert result.exit_code == 1
    assert f"line 1 of its derivation does not follow: {first.reason}" in result.stderr


UNORDERED = r"\begin{cases} 1 & \text{if } \frac{1}{0} < 1 \\ 0 & \text{otherwise} \end{cases}"
ENDLESS = sp.Pow(0, -1, evaluate=False)


@pytest.mark.parametrize(
    "planted",
    [
        sp.zoo,
        sp.nan,
        ENDLESS,
        sp.Max(sp.Symbol("x"), ENDLESS, evaluate=False),
        sp.Piecewise((1, sp.Lt(ENDLESS, 0, evaluate=False)), (0, True), evaluate=False),
        sp.Sum(1, (sp.Symbol("x"), 1, sp.zoo)),
        sp.gamma(-1, evaluate=False),
    ],
)
@pytest.mark.parametrize("sign", ["=", "≤"])
def test_a_line_at_which_sympy_breaks_off_is_named(small, monkeypatch, planted, sign):
    small.write_text("# Home\n", encoding="utf-8")
    id, _ = key = ("policy.softmax.shift", "")
    monkeypatch.setattr(check, "CLAIMS", {id: CLAIMS[id]})
    monkeypatch.setitem(_DERIVED, key, with_lines(key, lambda lines: (replace(lines[0], expr=planted, sign=sign),)))
    monkeypatch.setattr(derivations, "DERIVATIONS", {key: DERIVATIONS[key]})
    (line,) = built().stderr.strip().splitlines()
    assert id in line
    (line,) = derivations.faults(Ledger())
    assert line.startswith(f"{id}: line 1 of its derivation ")


@pytest.mark.parametrize(
    ("id", "printed", "planted"),
    [
        (
            "ppo.clip.gradient",
            r"\rho",
            r"\begin{cases} 1 & \text{if } \frac{1}{0} < 1 \\ 0 & \text{otherwise} \end{cases}",
        ),
        ("ppo.clip.lower_bound", r"\rho A", r"\frac{1}{0} A"),
        ("rejection.best_of_n.law", "n", r"\frac{0}{0}"),
    ],
)
def test_a_formula_at_which_sympy_breaks_off_is_named(small, monkeypatch, id, printed, planted):
    small.write_text("# Home\n", encoding="utf-8")
    monkeypatch.setattr(check, "CLAIMS", {id: CLAIMS[id]})
    monkeypatch.setattr(check, "displayed", lambda *given: displayed(*given).replace(printed, planted))
    result = built()
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.removeprefix("grape-verified: ").splitlines()
    assert lines
    assert all(line.startswith(id) for line in lines), lines


def test_a_formula_that_is_not_the_statement_fails_the_build_and_is_named(small, monkeypatch):
    small.write_text("# Home\n", encoding="utf-8")
    monkeypatch.setattr(check, "displayed", lambda expr: displayed(expr).replace(r"\rho A", "A"))
    result = built()
    assert result.exit_code == 1
    assert "ppo.clip.lower_bound [statement]: it says clipped_surrogate ≤ advantage" in result.stderr


def test_without_a_checkout_there_is_nothing_to_build(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = built()
    assert result.exit_code == 2
    assert "--config: mkdocs.yml does not exist; the documentation is built from a checkout" in result.stderr


def test_what_is_no_ledger_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mkdocs.yml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "ledger.json").write_text("{}", encoding="utf-8")
    result = CliRunner().invoke(app, ["docs", "build", "--ledger", "ledger.json"])
    assert result.exit_code == 2
    assert "--ledger: ledger.json is not a grape-verified ledger" in result.stderr

"""A formula that KaTeX cannot render fails the build, wherever it stands."""

from pathlib import Path

from grape_verified.docs.mathematics import Formula, faults, formulas

KATEX = Path(__file__).parents[2] / "docs" / "assets" / "katex" / "katex.min.js"


def test_formulas_are_found_as_they_were_written(tmp_path):
    (tmp_path / "a.html").write_text(
        r'<p>x <span class="arithmatex">\(a &lt; b_1\)</span></p><div class="arithmatex">\[\frac{1}{2}\]</div>'
    )
    assert list(formulas(tmp_path)) == [Formula("a.html", "a < b_1", False), Formula("a.html", r"\frac{1}{2}", True)]


def test_what_katex_renders_has_no_fault():
    right = [r"\rho = e^{\ell - \ell_{\mathrm{old}}}", r"\begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}"]
    assert not faults((Formula("a.html", latex, True) for latex in right), KATEX)


def test_a_broken_formula_is_named_with_its_page():
    wrong = [r"\frac{1}{", r"\nosuchcommand", "über"]
    found = faults((Formula("a.html", latex, False) for latex in wrong), KATEX)
    assert len(found) == len(wrong)
    assert all(line.startswith(f"a.html: {latex}: ") for line, latex in zip(found, wrong, strict=True))

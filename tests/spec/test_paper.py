"""Formulas as a paper prints them: what is printed is read back and is the statement; known formulas look as known."""

import re
from types import SimpleNamespace

import pytest
import sympy as sp
from grape_spec.language import (
    At,
    Diff,
    OneSided,
    Positive,
    Real,
    cases,
    clip,
    define,
    equals,
    family,
    greater,
    iff,
    implies,
    index,
    sum_over,
    symbol,
)
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.paper.check import difference, faults_of, formulas_of
from grape_spec.paper.cursor import Unreadable
from grape_spec.paper.layout import COLUMN, defined, displayed, inline
from grape_spec.paper.patterns import signs
from grape_spec.paper.plain import plain
from grape_spec.paper.reader import reader_for
from grape_spec.paper.texts import with_tilde
from grape_spec.paper.widths import width
from sympy import Abs, Lambda, Max, Min, log

ENTRIES = {**CLAIMS, **DEFINITIONS}

#: Entries whose formulas are read back in the default tier, too: one in six.
SAMPLE = list(ENTRIES)[::6]


def faults(id):
    """The formulas of an entry that do not print as what they state."""
    return list(faults_of(ENTRIES[id]))


@pytest.mark.parametrize("id", SAMPLE)
def test_what_is_printed_is_what_is_stated(id):
    assert faults(id) == []


@pytest.mark.full("formulas of every entry read back")
@pytest.mark.parametrize("id", [id for id in ENTRIES if id not in SAMPLE])
def test_what_is_printed_of_every_other_entry_is_what_is_stated(id):
    assert faults(id) == []


def statement(id, part=""):
    return next(found.statement for found in CLAIMS[id].parts if found.name == part)


@pytest.mark.parametrize(
    ("id", "part", "tex"),
    [
        (
            "dpo.gradient",
            "in a parameter",
            r"\begin{aligned} & \nabla_{\theta} L(m) = -\beta \sigma(-m) \, "
            r"(\nabla_{\theta} \ell_w - \nabla_{\theta} \ell_l) \\[2pt] & \text{where } "
            r"m = \beta \, (\ell_w - \ell_w^{\mathrm{ref}} - \ell_l + \ell_l^{\mathrm{ref}}) \end{aligned}",
        ),
        ("dpo.gradient", "chosen", r"\frac{\partial L(m)}{\partial \ell_w} = -\beta \sigma(-m)"),
        ("kl.log_bound", "bound", r"\log x \le x - 1"),
        (
            "kl.forward.gradient",
            "",
            r"\frac{\partial \mathrm{KL}(\pi_{\mathrm{ref}} \Vert \pi)}{\partial z_{k}} "
            r"= \pi_{k}(z) - \pi_{\mathrm{ref},k}",
        ),
        ("dpo.gibbs", "", r"J(\pi) = \beta \log Z - \beta \mathrm{KL}(\pi \Vert \pi^*)"),
        ("policy.softmax.shift", "", r"\pi_{a}(z + c) = \pi_{a}(z)"),
        (
            "trpo.cauchy_schwarz",
            "bound",
            r"(g^{\top} d)^{2} \le (d^{\top} F d) \, (x^{\top} F x)",
        ),
        (
            "grpo.advantage.affine",
            "unit and origin",
            r"\begin{aligned} & A_{g}(a r + b) = A_{g}(r) \\[2pt] & \text{with } \epsilon = 0 \end{aligned}",
        ),
        ("grape.advantage.decomposition", "mean", None),
    ],
)
def test_a_formula_looks_as_the_field_writes_it(id, part, tex):
    if tex is None:
        assert r"\overline{s_{\cdot,q}}" in displayed(statement(id, part))
    else:
        assert displayed(statement(id, part)) == tex


@pytest.mark.parametrize(
    ("id", "tex"),
    [
        (
            "ppo.clipped_surrogate",
            r"L^{\mathrm{CLIP}}(\rho) = \min(\rho A, \operatorname{clip}(\rho, 1 - \varepsilon, 1 + \varepsilon') A)",
        ),
        ("kl.divergence", r"\mathrm{KL}(p \Vert q) = \sum_{y=1}^{n} p_{y} \log \frac{p_{y}}{q_{y}}"),
        ("aggregation.token_mean", r"\mathrm{token\ mean} = \frac{1}{D} \sum_{i=1}^{B} \sum_{t=1}^{T} m_{i,t} x_{i,t}"),
        (
            "trpo.token_pairs",
            r"\begin{aligned} & \binom{0}{2} = 0 \\[6pt] & \binom{T + 1}{2} = T + \binom{T}{2} \end{aligned}",
        ),
        (
            "dpo.margin",
            r"m = \beta \, (\ell_w - \ell_w^{\mathrm{ref}} - \ell_l + \ell_l^{\mathrm{ref}})",
        ),
        ("ppo.value_loss", r"L^{\mathrm{VF}}(V) = \frac{(V - R)^{2}}{2}"),
    ],
)
def test_a_definition_looks_as_the_field_writes_it(id, tex):
    assert defined(DEFINITIONS[id]) == tex


#: Printed formulas with what a tired hand writes instead: a lost factor, a swapped index, a sign, a wrong side.
SLIPS = [
    ("ppo.clip.lower_bound", "", r"\rho A", "A"),
    ("dpo.gradient", "chosen", r"-\beta", r"\beta"),
    ("dpo.gradient", "in a parameter", r"- \nabla_{\theta} \ell_l", r"+ \nabla_{\theta} \ell_l"),
    ("dpo.gradient", "in a parameter", r"\ell_w - \ell_w", r"\ell_l - \ell_w"),
    ("kl.forward.gradient", "", r"= \pi_{k}", r"= \pi_{v}"),
    ("kl.nonnegative", "bound", r"p \Vert q", r"q \Vert p"),
    ("policy.fisher", "second moment", "z_{l}", "z_{k}"),
    ("grpo.advantage.affine", "unit and origin", r"\epsilon = 0", r"\epsilon = 1"),
    ("advantage.gae.recursion", "one token more", r"\xi^{k - 1}", r"\xi^{k}"),
    ("ppo.clip.first_order", "slope from above", r"\partial^{+}", r"\partial^{-}"),
    ("dpo.kl_optimum", "curvature", r"\partial^{2}", r"\partial"),
]


@pytest.mark.parametrize(("id", "part", "printed", "slip"), SLIPS)
def test_a_slip_is_found(id, part, printed, slip):
    """A paper form with a lost factor, a swapped index or a wrong sign is not the statement."""
    right = displayed(statement(id, part))
    assert printed in right
    assert not difference(statement(id, part), right)
    assert difference(statement(id, part), right.replace(printed, slip, 1))


def test_another_assumption_is_found():
    part = next(part for part in CLAIMS["grape.baseline"].parts if part.assuming)
    right = displayed(part.statement, part.assuming)
    assert not difference(part.statement, right, part.assuming)
    assert "it assumes" in difference(part.statement, right, part.assuming[1:])
    assert "it assumes" in difference(part.statement, displayed(part.statement), part.assuming)


@pytest.fixture
def paper(words):
    """Symbols as a paper has them, a definition of a number, of a family, and of a table."""
    letters = SimpleNamespace(
        x=symbol("t_px", Real, "", tex="x"), y=symbol("t_py", Real, "", tex="y"), z=symbol("t_pz", Real, "", tex="z"),
        p=symbol("t_pp", Positive, "", tex="p"), i=index("t_pi", words.rows, "", tex="i"),
        j=index("t_pj", words.rows, "", tex="j"), a=family("t_pa", Real, words.rows, text="", tex="a"),
        m=family("t_pm", Real, words.rows, words.rows, text="", tex="M"),
    )  # fmt: skip
    letters.f = define("t.pf", "", (letters.x,), letters.x**2 + 1, tex="f({t_px})")
    letters.h = define(
        "t.ph", "", (letters.m,), sum_over(letters.m[letters.i, letters.j], letters.i, letters.j), tex="h({t_pm})"
    )
    letters.k = define("t.pk", "", (letters.a,), sum_over(letters.a[letters.i] ** 2, letters.i), tex="k({t_pa})")
    letters.g = define("t.pg", "", (letters.x, letters.y), letters.x + letters.y, tex="g({t_px})")
    letters.cases = cases((letters.x, greater(letters.y, 0)), (letters.z, True))
    letters.conditions = [greater(thing, 0) for thing in (letters.x, letters.y, letters.z)]
    return letters


#: LaTeX that says nothing, or that a reader of the page takes for something else, though each sign of it is known.
SLOVENLY = {
    "two numbers side by side": (lambda w: 6 * w.x, "2 3 x"),
    "a number and a fraction": (lambda w: w.x, r"2 \frac{1}{2} x"),
    "a factor after a slash": (lambda w: w.x * w.z / w.p, "x / p z"),
    "a fraction with an exponent": (lambda w: w.x**2 / w.p**2, r"\frac{x}{p}^{2}"),
    "two exponents": (lambda w: w.x**6, "x^{2}^{3}"),
    "a logarithm of what follows, too": (lambda w: log(w.p) * w.x, r"\log p x"),
    "a derivative of what follows, too": (lambda w: Diff(w.x * w.y, w.x) * w.z, r"\frac{\partial}{\partial x} (x y) z"),
    "a gradient of what follows, too": (lambda w: Diff(w.x, w.x) * w.z, r"\nabla_{x} x z"),
    "a sum above the line": (lambda w: Diff(w.x + w.y, w.x), r"\frac{\partial x + y}{\partial x}"),
    "a bar over what is before it": (lambda w: w.z * At(w.x * w.y, w.x, 1), r"z \left.x y\right|_{x = 1}"),
    "a bar with an exponent": (lambda w: At(w.x + w.y, w.x, 1) ** 2, r"\left.(x + y)\right|_{x = 1}^{2}"),
    "one after the other behind one bar": (
        lambda w: At(At(w.x * w.z, w.x, w.y), w.y, w.z),
        r"\left.x z\right|_{x = y, y = z}",
    ),
    "a slope at a value of another symbol": (
        lambda w: OneSided(Abs(w.x), w.x, 0, 1),
        r"\left.\frac{\partial^{+} \left|x\right|}{\partial x}\right|_{y = 0}",
    ),
    "a derivative of order x": (lambda w: Diff(w.x, w.x), r"\frac{\partial^{x} x}{\partial x}"),
    "cases to which something is added": (
        lambda w: w.cases + w.x,
        r"\begin{cases} x & \text{if } y > 0 \\ z & \text{otherwise} \end{cases} + x",
    ),
    "cases with a factor": (
        lambda w: w.cases * w.x,
        r"\begin{cases} x & \text{if } y > 0 \\ z & \text{otherwise} \end{cases} x",
    ),
    "a case after all others": (
        lambda w: w.cases,
        r"\begin{cases} x & \text{if } y > 0 \\ z & \text{otherwise} \\ x & \text{if } y < 0 \end{cases}",
    ),
    "an end too few": (lambda w: clip(w.x, w.y, w.z), r"\operatorname{clip}(x, y)"),
    "another bracket closes": (lambda w: w.f(), r"f(x\right)"),
    "a bracket of another size": (lambda w: w.f(), r"f\left(x)"),
    "a bracket lost": (lambda w: w.f(w.f()), "f(f(x)"),
    "a letter for itself": (lambda w: w.x, r"u = y \\[2pt] \text{where } u = u + x"),
    "lines without end": (lambda w: w.x, r"\begin{aligned} x"),
}


@pytest.mark.parametrize("name", SLOVENLY)
def test_what_a_person_takes_for_something_else_is_refused(paper, name):
    made, tex = SLOVENLY[name]
    statement = equals(made(paper), paper.y)
    assert "cannot be read" in difference(statement, tex if "where" in tex else f"{tex} = y")
    assert not difference(statement, displayed(statement))


@pytest.mark.parametrize(
    ("below", "found"),
    [
        (r"\text{where } u = x \\[2pt] \text{with } y = 2", "nothing speaks of u"),
        (r"\text{with } y = 5,\ y = 2", "y is explained twice"),
        (r"\text{with } y = 2 \\[2pt] \text{with } x = 3", "nothing speaks of x"),
        (r"\text{with } y = 2 \\[2pt] \text{assuming } z > 0", "it assumes t_pz > 0"),
    ],
)
def test_what_is_said_below_is_said_once_and_of_the_formula(paper, below, found):
    assert found in difference(equals(paper.g(paper.z, 2), paper.z), rf"g(z) = z \\[2pt] {below}")


#: Statements that are easily printed as others, with what is printed.
EASILY_MISTAKEN = {
    "an arrow at the left of an arrow": (
        lambda w: implies(implies(*w.conditions[:2]), w.conditions[2]),
        r"(x > 0 \implies y > 0) \implies z > 0",
    ),
    "an arrow at the right of an arrow": (
        lambda w: implies(w.conditions[0], implies(*w.conditions[1:])),
        r"x > 0 \implies (y > 0 \implies z > 0)",
    ),
    "a double arrow within an arrow": (
        lambda w: implies(w.conditions[0], iff(*w.conditions[1:])),
        r"x > 0 \implies (y > 0 \iff z > 0)",
    ),
    "an arrow and a condition": (
        lambda w: sp.And(implies(*w.conditions[:2]), w.conditions[2], evaluate=False),
        r"(x > 0 \implies y > 0)\text{ and }z > 0",
    ),
    "not": (lambda w: sp.Not(sp.And(*w.conditions[:2]), evaluate=False), r"\neg (x > 0\text{ and }y > 0)"),
    "a case under an arrow": (
        lambda w: equals(cases((w.x, implies(*w.conditions[:2])), (w.z, True)), w.y),
        r"\begin{cases} x & \text{if } x > 0 \implies y > 0 \\ z & \text{otherwise} \end{cases} = y",
    ),
    "a table the other way": (
        lambda w: equals(w.h(Lambda((w.i, w.j), w.m[w.j, w.i])), w.y),
        r"h((i,j) \mapsto M_{j,i}) = y",
    ),
    "a table of one family": (
        lambda w: equals(w.h(Lambda((w.i, w.j), w.a[w.j])), w.y),
        r"h((i,j) \mapsto a_{j}) = y",
    ),
    "a diagonal": (lambda w: equals(w.k(Lambda(w.i, w.m[w.i, w.i])), w.y), r"k(i \mapsto M_{i,i}) = y"),
    "a logarithm before a sum": (
        lambda w: equals(log(w.p) * sum_over(w.a[w.i], w.i), w.y),
        r"(\log p) \sum_{i=1}^{t_rows} a_{i} = y",
    ),
    "a derivative before a sum": (
        lambda w: equals(Diff(w.x * w.y, w.x) * sum_over(w.a[w.i], w.i), w.y),
        r"\left(\frac{\partial}{\partial x} (x y)\right) \sum_{i=1}^{t_rows} a_{i} = y",
    ),
    "one value put in after the other": (
        lambda w: equals(At(At(w.x * w.z, w.x, w.y), w.y, w.z), w.y),
        r"\left.\left.x z\right|_{x = y}\right|_{y = z} = y",
    ),
    "a minimum of maxima": (
        lambda w: equals(Min(Max(w.x, w.y), Max(w.y, w.z), evaluate=False), w.y),
        r"\min(\max(x, y), \max(y, z)) = y",
    ),
}


@pytest.mark.parametrize("name", EASILY_MISTAKEN)
def test_what_is_easily_mistaken_has_its_brackets(paper, name):
    made, tex = EASILY_MISTAKEN[name]
    assert displayed(made(paper)) == tex
    assert not difference(made(paper), displayed(made(paper)))


@pytest.mark.parametrize(("tex", "other"), [("x^2", lambda w: w.x**2), ("a_i", lambda w: w.a[w.i])])
def test_two_quantities_that_look_alike_are_found(paper, tex, other):
    """Braces around a single sign are not seen."""
    assert difference(equals(symbol("t_alike", Real, "", tex=tex), other(paper)), f"{tex} = {displayed(other(paper))}")


def test_what_cannot_be_read_is_named():
    with pytest.raises(Unreadable, match=r"nothing is known of \\zeta"):
        reader_for(statement("kl.log_bound", "bound")).display(r"\zeta \le x - 1")
    with pytest.raises(Unreadable, match="the end"):
        reader_for(statement("kl.log_bound", "bound")).display(r"\log x \le")


@pytest.mark.parametrize("id", SAMPLE)
def test_lines_fit_the_column(id):
    """By the estimate that breaks them; a browser has the last word, see tests/docs."""
    for _, expr in formulas_of(ENTRIES[id]):
        for line in re.split(r"\\\\\[\dpt\]", displayed(expr)):
            assert width(line) <= 1.3 * COLUMN, line


def test_brackets_around_cases_are_as_high_as_the_cases():
    """Big ones are lower than those that cases have themselves."""
    id = "grpo.gradient"
    texts = [displayed(formula) for _, formula in formulas_of(CLAIMS[id])]
    around = [tex for tex in texts if r"\begin{cases}" in tex and "l( " in tex]
    assert around
    for tex in around:
        for bracket in re.findall(r"\\Bigl\( (?:(?!\\Big).)*", tex):
            assert "cases" not in bracket


def test_within_a_sentence_nothing_is_said_below():
    from grape_spec.advantage import gae

    assert inline(equals(gae(next_advantage=0), 0)) == r"\delta = 0"


@pytest.mark.parametrize(
    ("id", "part", "lines"),
    [
        ("dpo.gradient", "in a parameter", ["∇_θ L(m) = -β σ(-m) (∇_θ ℓ_w - ∇_θ ℓₗ)", "where m = "]),
        ("kl.log_bound", "bound", ["log x ≤ x - 1"]),
        ("policy.softmax.shift", "", ["πₐ(z + c) = πₐ(z)"]),
        ("grpo.advantage.affine", "unit and origin", ["A_g(a r + b) = A_g(r)", "with ϵ = 0"]),
        ("ppo.clip.first_order", "slope from above", ["(∂⁺ L^CLIP(ρ)/∂ρ)|_{ρ = 1} = A"]),
        ("kl.chain_rule", "one token more", ["Σ_{j=1}^P Σ_{v=1}^{|V|} π_{j,v} dⱼ log((", "    = Σ_{j=1}^P "]),
    ],
)
def test_the_terminal_shows_the_same_lines(id, part, lines):
    shown = plain(displayed(statement(id, part))).split("\n")
    assert len(shown) == len(lines)
    assert all(map(str.startswith, shown, lines)), shown


@pytest.mark.full("formulas of every entry read back")
def test_formulas_that_differ_differ_in_the_terminal():
    shown = {}
    for entry in ENTRIES.values():
        for _, expr in formulas_of(entry):
            shown.setdefault(plain(displayed(expr)), set()).add(tuple(signs(displayed(expr))))
    assert {text: found for text, found in shown.items() if len(found) > 1} == {}


@pytest.mark.parametrize("id", SAMPLE)
def test_no_command_of_latex_is_left_in_the_terminal(id):
    for _, expr in formulas_of(ENTRIES[id]):
        assert not re.search(r"[\\&]", plain(displayed(expr))), plain(displayed(expr))


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\frac{a + b}{c}", "(a + b)/c"),
        (r"\frac{1}{1 - p} p", "(1/(1 - p)) p"),
        (r"\frac{a}{b} c", "(a/b) c"),
        (r"\frac{1}{n} \sum_{i=1}^{n} x_{i}", "(1/n) Σ_{i=1}ⁿ xᵢ"),
        (r"\frac{\partial f}{\partial x} y", "(∂f/∂x) y"),
        (r"\frac{\partial^{2}}{\partial x^{2}} f", "∂²/∂x² f"),
        (r"\log \frac{p}{q} > \frac{a}{b}", "log(p/q) > a/b"),
        (r"\neg (x > 0)", "¬ (x > 0)"),
        (r"\sqrt{\frac{a}{b}}", "√(a/b)"),
        (r"x^{n + 1} y_{12}", "x^{n + 1} y₁₂"),
        (r"\begin{cases} a & \text{if } b > 0 \\ 0 & \text{otherwise} \end{cases}", "{ a if b > 0 ; 0 otherwise }"),
        (r"\overline{r} - \tilde{s}^2", "r\u0304 - s\u0303²"),
        (r"\log \frac{p}{q}", "log(p/q)"),
    ],
)
def test_unicode_keeps_what_latex_groups(tex, text):
    assert plain(tex) == text


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\omega_{i}", r"\tilde{\omega}_{i}"),
        (r"\rho_t", r"\tilde{\rho}_t"),
        (r"\bar q_{v}", r"\tilde{\bar q}_{v}"),
        ("p'_{y}", r"\tilde{p}'_{y}"),
        ("{L}", r"\tilde{{L}}"),
    ],
)
def test_a_tilde_stands_over_the_letter_and_not_over_its_index(tex, expected):
    assert with_tilde(tex) == expected

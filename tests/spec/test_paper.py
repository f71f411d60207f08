"""Formulas as a paper prints them: what is printed is read back and is the statement; known formulas look as known."""

import re

import pytest
from grape_spec.language import equals
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.paper.check import difference, faults_of, formulas_of
from grape_spec.paper.layout import COLUMN, defined, displayed, inline
from grape_spec.paper.plain import plain
from grape_spec.paper.reader import Unreadable, reader_for
from grape_spec.paper.widths import width

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
        ("ppo.clip.first_order", "slope from above", ["∂⁺ L^CLIP(ρ)/∂ρ|_{ρ = 1} = A"]),
        ("kl.chain_rule", "one token more", ["Σ_{j=1}^P Σ_{v=1}^{|V|} π_{j,v} dⱼ log((", "    = Σ_{j=1}^P "]),
    ],
)
def test_the_terminal_shows_the_same_lines(id, part, lines):
    shown = plain(displayed(statement(id, part))).split("\n")
    assert len(shown) == len(lines)
    assert all(map(str.startswith, shown, lines)), shown


@pytest.mark.parametrize("id", SAMPLE)
def test_no_command_of_latex_is_left_in_the_terminal(id):
    for _, expr in formulas_of(ENTRIES[id]):
        assert not re.search(r"[\\&]", plain(displayed(expr))), plain(displayed(expr))


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\frac{a + b}{c}", "(a + b)/c"),
        (r"\frac{1}{1 - p} p", "(1/(1 - p)) p"),
        (r"\sqrt{\frac{a}{b}}", "√(a/b)"),
        (r"x^{n + 1} y_{12}", "x^{n + 1} y₁₂"),
        (r"\begin{cases} a & \text{if } b > 0 \\ 0 & \text{otherwise} \end{cases}", "{ a if b > 0 ; 0 otherwise }"),
        (r"\overline{r} - \tilde{s}^2", "r\u0304 - s\u0303²"),
        (r"\log \frac{p}{q}", "log(p/q)"),
    ],
)
def test_unicode_keeps_what_latex_groups(tex, text):
    assert plain(tex) == text

"""Every claim can be shown."""

import grape_spec  # noqa: F401
import pytest
from grape_spec.language import At, Diff, OneSided, cases, delta, equals, iff, implies, sum_over
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.proof.mutate import mutants
from grape_spec.render import domain_text, latex, unicode
from sympy import Max, exp


def balanced(tex):
    """Braces nest, and every \\left has its \\right."""
    depth = 0
    for character in tex:
        depth += (character == "{") - (character == "}")
        assert depth >= 0, tex
    assert depth == 0, tex
    assert tex.count(r"\left") == tex.count(r"\right"), tex


@pytest.mark.parametrize("id", list(CLAIMS))
def test_every_claim_is_shown(id):
    """Statements, assumptions, steps and wrong variants, in Unicode and in balanced LaTeX."""
    for part in CLAIMS[id].parts:
        for formula in (part.statement, *part.assuming, *(step.expr for step in part.by.steps())):
            assert unicode(formula)
            balanced(latex(formula))
        assert part.by.describe()
        assert all(domain_text(thing) for thing in part.symbols)
    for wrong in CLAIMS[id].wrong:
        assert unicode(wrong.statement)
        balanced(latex(wrong.statement))


@pytest.mark.parametrize("id", list(DEFINITIONS))
def test_every_definition_is_shown(id):
    """Its name and its body."""
    for expr in (DEFINITIONS[id](), DEFINITIONS[id].body):
        assert unicode(expr)
        balanced(latex(expr))


@pytest.mark.parametrize(
    "id", ["policy.entropy.gradient", "ppo.clip.gradient", "dpo.kl_optimum", "aggregation.gradient"]
)
def test_different_mutants_read_differently_from_the_statement(id):
    """A page that shows a mutant shows the difference."""
    for part in CLAIMS[id].parts:
        for text, changed in mutants(part.statement):
            before, _, after = text.partition(" → ")
            assert before.partition(": ")[2] != after, text
            assert unicode(changed)


def test_unicode_of_every_node(words):
    """One line each."""
    x, u, i, j = words.x, words.u, words.i, words.j
    assert unicode(equals(sum_over(u[i], i), 1)) == "(Σ_{t_i≤t_rows} t_u[t_i]) = 1"
    assert unicode(Diff(exp(x), x)) == "∂/∂t_x (exp(t_x))"
    assert unicode(OneSided(Max(x, 0), x, 0, -1)) == "∂⁻/∂t_x (Max(0, t_x)) at 0"
    assert unicode(At(x + 1, x, 2)) == "(t_x + 1) at t_x := 2"
    assert unicode(delta(i, j)) == "δ(t_i, t_j)"
    assert unicode(implies(x > 0, x > -1)) == "t_x > 0 ⇒ t_x > -1"
    assert unicode(iff(x > 0, x > -1)) in ("t_x > 0 ⇔ t_x > -1", "t_x > -1 ⇔ t_x > 0")
    assert unicode(cases((x, x > 0), (0, True))) == "{t_x if t_x > 0; 0 else}"


def test_order_of_sums_is_outermost_first(words):
    """Σ over rows of Σ over columns reads in that order."""
    import sympy as sp

    total = sp.Sum(words.table[words.i, words.s], (words.s, 1, words.columns), (words.i, 1, words.rows))
    assert unicode(total).startswith("(Σ_{t_i≤t_rows} Σ_{t_s≤t_columns} ")

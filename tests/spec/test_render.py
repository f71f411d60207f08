"""Every claim can be shown."""

import re

import grape_spec  # noqa: F401
import pytest
from grape_spec.language import At, Diff, OneSided, cases, delta, equals, iff, implies, sum_over
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.paper.layout import inline
from grape_spec.proof.mutate import mutants
from grape_spec.render import as_dict, domain_text, latex, latex_assuming, unicode
from sympy import Max, exp
from sympy.core.relational import Relational

#: What a line of text says besides the names of symbols and definitions.
WORDS = {"exp", "log", "sqrt", "Max", "Min", "Abs", "if", "else", "and", "or", "at", "True"}


def balanced(tex):
    """Braces nest, and every \\left has its \\right."""
    depth = 0
    for character in tex:
        depth += (character == "{") - (character == "}")
        assert depth >= 0, tex
    assert depth == 0, tex
    assert len(re.findall(r"\\left\b", tex)) == len(re.findall(r"\\right\b", tex)), tex
    assert not re.search(r"_(\{[^{}]*\}|\w)_", tex), f"two subscripts: {tex}"


def shown(id):
    """Everything that a page prints of a claim, by way of the data."""
    data = as_dict(CLAIMS[id])
    statements = [entry["statement"] for entry in (*data["parts"], *data["definitions"], *data["wrong"])]
    conditions = [condition for entry in (*data["parts"], *data["wrong"]) for condition in entry["assuming"]]
    return data, [*statements, *conditions, *(s["expression"] for part in data["parts"] for s in part["steps"])]


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


@pytest.mark.parametrize("id", list(CLAIMS))
def test_the_two_sides_of_a_relation_read_differently(id):
    """L = L says nothing."""
    for entry in (*CLAIMS[id].parts, *CLAIMS[id].wrong):
        for relation in entry.statement.atoms(Relational):
            for form in (unicode, latex):
                assert form(relation.lhs) != form(relation.rhs), form(relation)


@pytest.mark.parametrize("id", list(CLAIMS))
def test_a_wrong_variant_reads_unlike_what_is_proved(id):
    """In both forms, with the assumptions, which are all that some of them differ in."""

    def read(entry):
        text = unicode(entry.statement), *map(unicode, entry.assuming)
        return latex_assuming(entry.statement, entry.assuming), text

    for wrong in map(read, CLAIMS[id].wrong):
        for part in map(read, CLAIMS[id].parts):
            assert wrong[0] != part[0]
            assert wrong[1] != part[1]


@pytest.mark.parametrize("id", list(CLAIMS))
def test_latex_says_what_is_assumed(id):
    """Each condition, in the data too."""
    for entry, data in zip(CLAIMS[id].parts, as_dict(CLAIMS[id])["parts"], strict=True):
        balanced(data["latex"])
        assert (r"\text{assuming }" in data["latex"]) == bool(entry.assuming)
        assert all(inline(condition) in data["latex"] for condition in entry.assuming)


@pytest.mark.parametrize("id", list(CLAIMS))
def test_every_name_on_a_page_is_explained_there(id):
    """Each word of a formula is a symbol listed with its domain or a definition listed with its body."""
    data, lines = shown(id)
    listed = {re.match(r"[^\[]+", entry["name"])[0] for entry in data["symbols"]}
    defined = {re.match(r"[\w.]+", entry["statement"])[0] for entry in data["definitions"]}
    names = {name.rstrip("′.") for line in lines for name in re.findall(r"[^\W\d][\w.′]*", line.replace("∂", " "))}
    assert names - {"Σ_", "Π_", "δ"} <= listed | defined | WORDS, names - listed - defined - WORDS


@pytest.mark.parametrize("id", list(CLAIMS))
def test_a_name_on_a_page_is_one_thing(id):
    """No two definitions bear one name, and none that of a symbol; nor do two definitions share their LaTeX."""
    data, _ = shown(id)
    symbols = [re.match(r"[^\[]+", entry["name"])[0] for entry in data["symbols"]]
    names = symbols + [re.match(r"[\w.]+", entry["statement"])[0] for entry in data["definitions"]]
    heads = [entry["latex"].split(" = ")[0] for entry in data["definitions"]]
    assert len(set(names)) == len(names), names
    assert len(set(heads)) == len(heads), heads


@pytest.mark.parametrize("id", list(CLAIMS))
def test_a_proof_is_said_in_full(id):
    """Nothing is given where nothing follows."""
    for part in as_dict(CLAIMS[id])["parts"]:
        for rule in (part["rule"], *(step["rule"] for step in part["steps"])):
            assert not rule.rstrip().endswith(("given", ",", ":", "with"))


def test_arguments_are_named_where_they_are_not_the_first():
    """λ = 0 is not an advantage of 0 of the next token, and no argument is lost in LaTeX."""
    from grape_spec.advantage import gae

    assert (unicode(gae(lam=0)), unicode(gae(next_advantage=0))) == ("gae(lam=0)", "gae(next_advantage=0)")
    assert latex(gae(lam=0)).endswith(r"& A \\[2pt] & \text{with } \lambda = 0 \end{aligned}")


def test_an_index_joins_the_subscript_of_its_symbol():
    """One subscript, whatever the symbol carries."""
    from grape_spec.kl import reference
    from grape_spec.policy import k, logits

    assert (latex(reference[k]), latex(logits[k])) == (r"\pi_{\mathrm{ref},k}", "z_{k}")


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

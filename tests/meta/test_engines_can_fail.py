"""Planted falsehoods: no prover proves one, whatever the rule, and the refuter finds each."""

from types import SimpleNamespace

import grape_spec  # noqa: F401 - the registry is full before any test adds to it
import pytest
import sympy as sp
import z3
from grape_spec.language import (
    At,
    Diff,
    Mask,
    NonNegative,
    OneHot,
    OneSided,
    Open,
    Positive,
    Real,
    Simplex,
    Size,
    at_least,
    at_most,
    cases,
    claim,
    define,
    delta,
    differs,
    equals,
    family,
    greater,
    holds,
    index,
    less,
    sum_over,
    symbol,
)
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RegistryError
from grape_spec.language.symbols import _BY_NAME, DECLARATIONS
from grape_spec.proof.context import Context
from grape_spec.proof.prove import check_domains, prove, prove_claim
from grape_spec.proof.refute import refute
from grape_spec.proof.rules import (
    GENERAL,
    RULES,
    Rule,
    algebra,
    chain,
    chain_rule,
    fact,
    finite_sum,
    from_minimum,
    induction,
    rewrite,
    slope,
    smt,
    step,
    termwise,
)
from grape_spec.proof.smt import Solver
from sympy import Lambda, Max, Min, Rational, exp, log


@pytest.fixture
def w(scratch_registry):
    """Declared symbols of every kind."""
    rows, columns = symbol("t_rows", Size, ""), symbol("t_columns", Size, "")
    return SimpleNamespace(
        x=symbol("t_x", Real, ""),
        y=symbol("t_y", Real, ""),
        z=symbol("t_z", Real, ""),
        r=symbol("t_r", Positive, ""),
        m=symbol("t_m", Mask(), ""),
        c=symbol("t_c", Open(1), ""),
        rows=rows,
        columns=columns,
        i=index("t_i", rows, ""),
        j=index("t_j", rows, ""),
        k=index("t_k", rows, ""),
        s=index("t_s", columns, ""),
        u=family("t_u", Real, rows, text=""),
        p=family("t_p", Simplex, rows, text=""),
        hot=family("t_hot", OneHot, rows, text=""),
        table=family("t_table", Real, rows, columns, text=""),
        square=family("t_square", Simplex, rows, rows, text=""),
        width=family("t_width", Open(1, 2), rows, text=""),
    )


def planted(statement, by, assuming=()):
    """A false statement: the prover must not prove it, and the refuter must find a witness."""
    assert refute(statement, tuple(assuming), points=200).refuted, "the planted statement is not false"
    outcome = prove(holds(statement, by=by, assuming=assuming))
    assert outcome.status == "unknown", f"a false statement is proved: {statement}"
    assert outcome.reason


def given(id, statement, by, assuming=()):
    """A true claim to build on."""
    entered = claim(id, "text", holds(statement, by=by, assuming=assuming))
    assert [p.status for p in prove_claim(entered)] == ["proved"]


def parts_proved(id, *parts):
    """Which parts of a claim its prover proves."""
    return [outcome.status for outcome in prove_claim(claim(id, "text", *parts))]


# -- finite sums and algebra ------------------------------------------------------------------------------------


def false_sums(w):
    """False equations between sums, each for a rule of the normal form that might be applied too far."""
    i, j, k, u, p, hot = w.i, w.j, w.k, w.u, w.p, w.hot
    return {
        "square of a sum": (sum_over(u[i], i) ** 2, sum_over(u[i] ** 2, i)),
        "squared probabilities": (sum_over(p[i] ** 2, i), 1),
        "weighted probabilities": (sum_over(p[i] * u[i], i), 1),
        "the first axis of rows": (sum_over(w.square[i, j], i), 1),
        "the diagonal of rows": (sum_over(w.square[i, i], i), 1),
        "product of two rows": (sum_over(p[i] * hot[i], i), 1),
        "reciprocals": (sum_over(1 / p[i], i), 1),
        "length of a row": (sum_over(p[i], i), w.rows),
        "ones": (sum_over(sp.Integer(1), i), 1),
        "ones over the wrong axis": (sum_over(sp.Integer(1), i), w.columns),
        "delta shifted up": (sum_over(delta(i + 1, j) * u[i], i), u[j]),
        "delta shifted down": (sum_over(delta(i - 1, j) * u[i], i), u[j]),
        "delta doubled": (sum_over(delta(2 * i, j) * u[i], i), u[j]),
        "delta at the size": (sum_over(delta(i, w.columns), i), 1),
        "delta alone": (delta(i, j), 1),
        "delta of equal sums": (delta(i, j) * u[i], delta(i, j) * u[k]),
        "two deltas": (sum_over(delta(i, j) * delta(i, k), i), 1),
        "captured index": (u[i] * sum_over(u[i], i), sum_over(u[i] ** 2, i)),
        "another free index": (sum_over(u[i], i) * u[j], sum_over(u[i], i) * u[k]),
        "order of indices": (sum_over(w.square[i, j] * u[i], i), sum_over(w.square[j, i] * u[i], i)),
        "exp of a sum": (exp(w.x + w.y), exp(w.x) + exp(w.y)),
        "log of a sum": (log(1 + exp(w.x)), w.x),
        "log of a square": (log(w.x**2 + 0 * w.y), 2 * log(w.x)),
        "exp of a half": (exp(w.x / 2) ** 2, exp(2 * w.x)),
        "maximum": (Max(w.x, w.y), w.x),
        "quotient": (1 / (1 + exp(w.x)), 1 / (1 + exp(-w.x))),
    }


SUMS = [
    "square of a sum", "squared probabilities", "weighted probabilities", "the first axis of rows",
    "the diagonal of rows", "product of two rows", "reciprocals", "length of a row", "ones", "ones over the wrong axis",
    "delta shifted up", "delta shifted down", "delta doubled", "delta at the size", "delta alone",
    "delta of equal sums", "two deltas", "captured index", "another free index", "order of indices", "exp of a sum",
    "log of a sum", "log of a square", "exp of a half", "maximum", "quotient",
]  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_a_false_sum_is_not_proved(w, name):
    """Neither as a finite sum, nor by algebra, nor by induction."""
    left, right = false_sums(w)[name]
    for by in (finite_sum(), algebra(), induction(w.rows)):
        planted(equals(left, right), by)


def test_a_delta_does_not_reach_out_of_the_range(w):
    """Σ_i δ(i, s) is 0 where column s lies beyond the last row, and Σ_i δ(i, 2) where there is one row."""
    planted(equals(sum_over(delta(w.i, w.s), w.i), 1), finite_sum())
    planted(equals(sum_over(delta(w.i, 2), w.i), 1), finite_sum())


def test_a_pole_does_not_cancel(w):
    """1/x on both sides, and x/x behind a definition, have no value at zero."""
    same = define("t.same", "", (w.x,), w.x)
    over = define("t.over", "", (w.x, w.y), w.x / w.y)
    planted(equals(same(w.x) + 1 / w.x, w.x + 1 / w.x), algebra())
    planted(equals(over(w.x, w.x), 1), algebra())
    planted(equals(over(w.x, w.x), 1), smt())


def test_a_divisor_under_a_sum_is_discharged_for_all_indices(w):
    """3 i − j vanishes at i = 1, j = 3, though not at i = j."""
    body = w.u[w.i] * w.u[w.j] / (3 * w.i - w.j)
    planted(equals(sum_over(w.x * body, w.i, w.j), w.x * sum_over(body, w.i, w.j)), finite_sum())


def test_a_logarithm_needs_a_positive_argument(w):
    """What holds where log x has a value is not true of every real x."""
    planted(equals((log(w.x) + 1) ** 2, log(w.x) ** 2 + 2 * log(w.x) + 1), algebra())


def test_the_sign_of_a_reciprocal_survives_nesting(w):
    """Σ h/(3a − b) is the same in whatever order it is summed, so it is not minus itself."""
    cube = family("t_cube", Real, w.rows, w.rows, w.rows, text="")
    body = cube[w.i, w.j, w.k] / (3 * w.width[w.j] - w.width[w.k])
    for order in ((w.i, w.j, w.k), (w.i, w.k, w.j), (w.k, w.j, w.i), (w.j, w.k, w.i)):
        planted(equals(sum_over(body, *order), -sum_over(body, w.i, w.j, w.k)), finite_sum())


def test_a_relation_holds_for_the_index_that_it_names(w):
    """Row i sums to x; nobody said that row j does, when the statement speaks of both."""
    assumption = equals(sum_over(w.table[w.i, w.s], w.s), w.x)
    statement = equals(sum_over(w.table[w.i, w.s], w.s) + sum_over(w.table[w.j, w.s], w.s), 2 * w.x)
    planted(statement, finite_sum(), [assumption])


def test_a_relation_is_for_whole_terms(w):
    """Σ_s table = x says nothing of squares, of weights, or of the other axis."""
    assumption = equals(sum_over(w.table[w.i, w.s], w.s), w.x)
    planted(equals(sum_over(w.table[w.i, w.s] ** 2, w.s), w.x**2), finite_sum(), [assumption])
    planted(equals(sum_over(w.table[w.i, w.s] * w.s, w.s), w.x * w.columns), finite_sum(), [assumption])
    planted(equals(sum_over(w.table[w.i, w.s], w.i), w.x), finite_sum(), [assumption])
    planted(equals(sum_over(w.table[w.i, w.s], w.i, w.s), w.x), finite_sum(), [assumption])


def test_relations_of_two_indices_or_in_terms_of_themselves_do_not_crash(w):
    """They are used or refused."""
    cube = family("t_cube", Real, w.rows, w.rows, w.columns, text="")
    total = sum_over(cube[w.i, w.j, w.s], w.s)
    assert prove(holds(equals(total, w.x), by=finite_sum(), assuming=[equals(total, w.x)])).status
    own = sum_over(w.u[w.i], w.i)
    assert prove(holds(equals(own, 0), by=finite_sum(), assuming=[equals(own, 2 * own)])).status


def test_a_definition_does_not_vouch_for_its_own_domain(w):
    """SymPy believes a definition that calls itself positive, so the registry does not: |f(x)| = x would be proved."""
    define("t.claimed", "", (w.x,), w.x, domain=Positive)
    with pytest.raises(RegistryError, match=r"t\.claimed is declared positive"):
        check_domains()


def test_arguments_are_not_captured(w):
    """∂(xy)/∂x and (xy at x = 2), with y put to x."""
    slope_of = define("t.slope", "", (w.x, w.y), Diff(w.x * w.y, w.x))
    at_two = define("t.at_two", "", (w.y,), At(w.x * w.y, w.x, 2))
    planted(equals(slope_of(w.y, w.y), 2 * w.y), algebra())
    planted(equals(at_two(w.x), 4), algebra())


def test_algebra_at_sizes_says_so(w):
    """What holds at two rows is not said to hold for all."""
    statement = equals(sum_over(sp.Integer(1), w.i), 2)
    assert prove(holds(statement, by=algebra(sizes={w.rows: 2}))).scope == "t_rows = 2"
    assert prove(holds(statement, by=algebra(sizes={w.rows: 3}))).status == "unknown"


def test_a_chain_holds_at_the_sizes_of_its_links_alone(w):
    ones = sum_over(sp.Integer(1), w.i)
    links = (step(ones, by=finite_sum()), step(2, by=algebra(sizes={w.rows: 2})))
    assert prove(holds(equals(ones, 2), by=chain(*links))).scope == "t_rows = 2"


@pytest.mark.parametrize("user", ["rewrite", "fact"])
def test_what_rests_on_a_claim_at_sizes_does_not_hold_for_all(w, user):
    """A scope is handed on to whoever uses the claim."""
    statement = equals(sum_over(sp.Integer(1), w.i), 2)
    given("t.two", statement, algebra(sizes={w.rows: 2}))
    by = rewrite("t.two") if user == "rewrite" else smt(given=[fact("t.two")])
    outcome = prove(holds(statement, by=by))
    assert outcome.status == "unknown" or outcome.scope != GENERAL


# -- induction --------------------------------------------------------------------------------------------------


def test_induction_needs_its_base_and_its_step(w):
    """Off by one at the start; right at the start and wrong after."""
    total = sum_over(w.i, w.i)
    n = w.rows
    assert prove(holds(equals(total, n * (n + 1) / 2), by=induction(n))).status == "proved"
    planted(equals(total, n * (n + 1) / 2 + 1), induction(n))
    planted(equals(total, n**2), induction(n))
    planted(equals(total, (n**2 + n) / 2 + (n - 1)), induction(n))
    planted(equals(total, (n**2 + n) / 2 + (n - 1) * (n - 2)), induction(n))


def test_induction_over_another_size_proves_nothing(w):
    """The size that the sum runs to is the one that counts."""
    planted(equals(sum_over(w.i, w.i), w.rows), induction(w.columns))


def test_induction_under_an_assumption_on_the_size_is_no_short_cut(w):
    """A base outside of the assumption does not help."""
    planted(equals(sum_over(w.i, w.i), 3), induction(w.rows), [greater(w.rows, 1)])


# -- rewriting and chains ---------------------------------------------------------------------------------------


def test_a_chain_needs_every_link_and_the_right_end(w):
    """A wrong middle, a wrong end, and a middle that is right but does not get there."""
    good, wrong = (w.x + w.y) ** 2, w.x**2 + w.y**2
    end = w.x**2 + 2 * w.x * w.y + w.y**2
    assert prove(holds(equals(good, end), by=chain(step(end, by=algebra())))).status == "proved"
    assert (
        prove(holds(equals(good, end), by=chain(step(wrong, by=algebra()), step(end, by=algebra())))).status
        == "unknown"
    )
    planted(equals(good, wrong), chain(step(end, by=algebra()), step(wrong, by=algebra())))
    planted(equals(good, wrong), chain(step(end, by=algebra())))
    planted(equals(good, wrong), chain())


def test_a_rewrite_needs_its_claim_to_fit(w):
    """Nothing to replace, another result, or a claim that holds under assumptions."""
    given("t.square", equals(w.x**2 - w.y**2, (w.x - w.y) * (w.x + w.y)), algebra())
    planted(equals(w.x**3, w.x), rewrite("t.square"))
    planted(equals(w.x**2 - w.y**2, w.x + w.y), rewrite("t.square"))
    given("t.one", equals(w.x, 1), smt(), [equals(w.x, 1)])
    planted(equals(w.x, 1), rewrite("t.one"))


def test_a_rewrite_does_not_capture_the_variable_of_a_derivative(w):
    """∂(xy)/∂x = y with x := y is not a statement on ∂(y²)/∂y."""
    given("t.slope", equals(Diff(w.x * w.y, w.x), w.y), algebra())
    planted(equals(Diff(w.y * w.y, w.y), w.y), rewrite("t.slope", t_x=w.y))


def test_a_derivative_in_an_entry_is_not_one_in_a_constant(w):
    """All logits equal to θ: the derivative in one of them is not the derivative in θ."""
    v, a, k = (next(s for s in DECLARATIONS if str(s) == name) for name in "vak")
    softmax = DEFINITIONS["policy.softmax"]
    level = Lambda(v, w.x)
    statement = equals(Diff(log(softmax(a, level)), w.x), delta(a, k) - softmax(k, level))
    planted(statement, rewrite("policy.log_softmax.gradient", logits=level))


def test_a_rewrite_under_a_derivative_holds_around_the_point(w):
    """Σp = 1 and m² = m hold on the domain and not around it: they cannot be differentiated."""
    given("t.row", equals(sum_over(w.p[w.i], w.i), 1), finite_sum())
    planted(
        equals(Diff(sum_over(w.p[w.i], w.i), w.p[w.j]), 0),
        chain(step(Diff(sp.Integer(1), w.p[w.j]), by=rewrite("t.row")), step(0, by=algebra())),
    )
    given("t.mask", equals(w.m**2, w.m), smt())
    planted(
        equals(Diff(w.m**2, w.m), 1),
        chain(step(Diff(w.m, w.m), by=rewrite("t.mask")), step(1, by=algebra())),
    )
    planted(
        equals(OneSided(w.m**2, w.m, 1, 1), 1),
        chain(step(OneSided(w.m, w.m, 1, 1), by=rewrite("t.mask")), step(1, by=slope(radius=1))),
    )


def test_a_rewrite_under_a_derivative_is_not_for_a_closed_domain(w):
    """max(x, 0) = x for x ≥ 0, and yet there is no slope at 0."""
    closed = symbol("t_closed", NonNegative, "")
    plus = define("t.plus", "", (w.x,), Max(w.x, 0))
    given("t.same", equals(plus(closed), closed), smt())
    links = (step(Diff(closed, closed), by=rewrite("t.same")), step(1, by=algebra()))
    assert prove(holds(equals(Diff(plus(closed), closed), 1), by=chain(*links))).status == "unknown"


def test_a_rewrite_at_a_point_outside_of_the_domain_is_refused(w):
    """max(r, 0) = r for positive r, and not at r := −5."""
    plus = define("t.plus", "", (w.x,), Max(w.x, 0))
    given("t.positive", equals(plus(w.r), w.r), smt())
    links = (step(At(w.r, w.r, -5), by=rewrite("t.positive")), step(-5, by=algebra()))
    planted(equals(At(plus(w.r), w.r, -5), -5), chain(*links))
    planted(equals(At(plus(w.r), w.r, -5), -5), algebra())
    planted(equals(OneSided(plus(w.r), w.r, -5, 1), 1), slope(radius=1))


def test_a_size_is_not_renamed_from_under_its_families(w):
    """p has as many entries as it has, whatever the sum runs to."""
    given("t.row", equals(sum_over(w.p[w.i], w.i), 1), finite_sum())
    statement = equals(sp.Sum(w.p[w.i], (w.i, 1, w.columns)), 1)
    assert prove(holds(statement, by=rewrite("t.row", t_rows=w.columns))).status == "unknown"


# -- facts ------------------------------------------------------------------------------------------------------


def out_of_domain(w):
    """A claim that needs its domain, and a binding that leaves it."""
    return {
        "negative for positive": (greater(w.r, 0), {"t_r": w.x}),
        "zero for positive": (greater(w.r, 0), {"t_r": sp.Integer(0)}),
        "difference for positive": (greater(w.r, 0), {"t_r": w.r - 1}),
        "one half for above one": (greater(w.c, 1), {"t_c": Rational(1, 2)}),
        "positive for above one": (greater(w.c, 1), {"t_c": exp(w.x)}),
        "one half for a mask": (equals(w.m**2, w.m), {"t_m": Rational(1, 2)}),
        "real for a mask": (equals(w.m**2, w.m), {"t_m": w.x}),
        "even for one-hot": (equals(w.hot[w.i] ** 2, w.hot[w.i]), {"t_hot": Lambda(w.i, 1 / w.rows)}),
        "ones for a row": (less(w.p[w.i], 2), {"t_p": Lambda(w.i, sp.Integer(3))}),
        "half for a size": (at_least(w.rows, 1), {"t_rows": Rational(1, 2)}),
    }


OUT = [
    "negative for positive", "zero for positive", "difference for positive", "one half for above one",
    "positive for above one", "one half for a mask", "real for a mask", "even for one-hot", "half for a size",
]  # fmt: skip


@pytest.mark.parametrize("name", OUT)
def test_a_fact_is_bound_within_its_domain(w, name):
    """What holds for the domain says nothing of what lies outside."""
    statement, bindings = out_of_domain(w)[name]
    given("t.inside", statement, smt())
    bound = holds(equals(w.x, w.x + 1), by=smt(given=[fact("t.inside", **bindings)]))
    outcome = prove(bound)
    assert outcome.status == "unknown"
    assert "is not shown to be" in outcome.reason


def test_a_fact_with_assumptions_is_only_used_under_them(w):
    """x < 2 where x < 1; elsewhere nothing is said."""
    given("t.near", less(w.x, 2), smt(), [less(w.x, 1)])
    planted(less(w.y, 2), smt(given=[fact("t.near", t_x=w.y)]))
    assert (
        prove(holds(less(w.y, 2), by=smt(given=[fact("t.near", t_x=w.y)]), assuming=[less(w.y, 1)])).status == "proved"
    )


def test_a_claim_does_not_prove_itself(w):
    """Neither its only part, nor two parts each other, nor an earlier part by a later one."""
    false = equals(w.x, w.x + 1)
    circles = (
        [holds(false, by=smt(given=[fact("t.self")]))],
        [holds(equals(w.x, 1), by=rewrite("t.self"))],
        [
            holds(false, name="a", by=smt(given=[fact("t.self", part="b")])),
            holds(false, name="b", by=smt(given=[fact("t.self", part="a")])),
        ],
    )
    for parts in circles:
        with pytest.raises(RegistryError, match=r"expected one of the earlier parts of t\.self"):
            claim("t.self", "text", *parts)
        assert prove(parts[0], claim_id="t.self").status == "unknown"


def test_a_fact_that_is_not_there_is_unknown(w):
    """A missing part is an answer, not a crash."""
    given("t.there", greater(w.r, 0), smt())
    outcome = prove(holds(greater(w.r, 0), by=smt(given=[fact("t.there", part="other")])))
    assert outcome.status == "unknown"
    assert "has no part 'other'" in outcome.reason


# -- SMT --------------------------------------------------------------------------------------------------------


def false_for_reals(w):
    """Inequalities and equations that fail for some reals."""
    return {
        "square": greater(w.x**2, 0),
        "minimum": at_most(Max(w.x, w.y), w.x),
        "division by zero": at_least(w.x**2 * (1 / w.x + w.y) ** 2, 0),
        "reciprocal": greater(1 / w.x**2, 0),
        "exponential": greater(exp(w.x), 1),
        "two exponentials": equals(exp(w.x), exp(w.y)),
        "logarithm": greater(log(w.r), 0),
        "mask": greater(w.m, 0),
        "edge of an interval": greater(w.c, Rational(11, 10)),
        "cases": equals(cases((w.x, w.x >= 0), (0, True)), w.x),
        "sum": at_least(sum_over(w.u[w.i], w.i), 0),
        "entries": equals(w.u[w.i], w.u[w.j]),
        "implication": sp.Implies(w.x > 0, w.x > 1, evaluate=False),
        "size": greater(w.rows, 1),
    }


REALS = [
    "square", "minimum", "division by zero", "reciprocal", "exponential", "two exponentials", "logarithm", "mask",
    "edge of an interval", "cases", "sum", "entries", "implication", "size",
]  # fmt: skip


@pytest.mark.parametrize("name", REALS)
def test_a_false_statement_on_reals_is_not_proved(w, name):
    """By the solver, with no fact given."""
    planted(false_for_reals(w)[name], smt())


def test_a_pole_behind_a_definition_is_not_positive(w):
    """exp(x)·x/x has no value at 0."""
    same = define("t.same", "", (w.x,), w.x)
    shown = define("t.shown", "", (w.x,), exp(w.x) * same(w.x) / w.x)
    planted(greater(shown(w.x), 0), smt())


def test_variables_of_the_solver_are_told_apart(w):
    """A declared symbol is never the solver's own name for an exponential."""
    own = symbol("atom0", Real, "")
    planted(equals(exp(w.y), own), smt())
    twins = sp.Symbol("t_same", real=True), sp.Symbol("t_same", positive=True)
    assert not Solver().entails(equals(*twins))


def test_contradictory_assumptions_are_seen(w):
    """They prove anything, so it must show: no assignment, no effective point."""
    contradiction = (greater(w.x, 0), less(w.x, 0))
    assert Solver(contradiction).satisfiable() is False
    assert Solver((greater(w.x, 0),)).satisfiable() is True
    assert refute(equals(w.x, w.x + 1), contradiction, points=3).effective == 0


def test_every_query_is_kept(w):
    """Another solver can be asked the same."""
    outcome = prove(holds(at_least(w.x**2, 0), by=smt()))
    assert outcome.status == "proved"
    assert outcome.queries
    assert all("(check-sat)" in query for query in outcome.queries)


def test_an_answer_that_does_not_come_in_time_is_unknown(w, monkeypatch):
    """The solver says unknown: nothing is proved, no divisor is nonzero, and no assumptions are contradictory."""
    square, divided = at_least(w.x**2, 0), equals(w.x / w.r, w.x / w.r + 0 * w.y)
    assert Solver().entails(square)
    monkeypatch.setattr(z3.Solver, "check", lambda self: z3.unknown)
    solver = Solver()
    assert not solver.entails(square)
    assert not solver.entails(divided)
    assert not solver.nonzero
    assert solver.satisfiable() is None
    assert solver.counterexample(square) is None
    assert prove(holds(square, by=smt())).status == "unknown"


def test_what_was_shown_is_forgotten_with_the_assumption_that_showed_it(w):
    """x differs from zero where x > 1 is assumed, and there alone; so for what follows from the assumption."""
    context, divided = Context((greater(w.x, 1),)), equals((w.x + 1) / w.x, 1 + 1 / w.x)
    assert context.entails(divided)
    assert context.entails(greater(w.x, 0))
    assert not context.anywhere().entails(divided)
    assert not context.anywhere().entails(greater(w.x, 0))
    assert context.agree(log(w.x * w.r), log(w.x) + log(w.r))
    assert not context.anywhere().agree(log(w.x * w.r), log(w.x) + log(w.r))


# -- slopes -----------------------------------------------------------------------------------------------------


def test_a_slope_over_a_kink_is_not_proved(w):
    """A radius that reaches the kink, is zero, negative, or of unknown sign; a wrong slope within a good one."""
    plus = Max(w.x, 0)
    statement, above = equals(Diff(plus, w.x), 1), [greater(w.x, 0)]
    assert prove(holds(statement, by=slope(radius=w.x), assuming=above)).status == "proved"
    for radius in (2 * w.x, w.x + 1, sp.Integer(0), -w.x, w.y):
        assert prove(holds(statement, by=slope(radius=radius), assuming=above)).status == "unknown"
    assert prove(holds(statement, by=slope(radius=sp.Integer(1)))).status == "unknown"
    planted(equals(Diff(plus, w.x), Rational(1, 2)), slope(radius=w.x), above)
    planted(equals(OneSided(plus, w.x, 0, 1), Rational(1, 2)), slope(radius=1))
    planted(equals(OneSided(plus, w.x, 0, -1), 1), slope(radius=1))


def test_the_step_of_a_slope_is_nobody_elses(w):
    """x² has slope 2x, not 2x + step, even where a symbol is called step."""
    _BY_NAME.pop("step", None)  # the spec has an index of that name
    own = symbol("step", Real, "")
    planted(equals(Diff(w.x**2, w.x), 2 * w.x + own), slope(radius=1))


def test_a_slope_in_an_entry_moves_every_mention_of_it(w):
    """u_i moves when u_j does, where i = j; and so does a sum over all."""
    planted(equals(Diff(w.u[w.i], w.u[w.j]), 0), slope(radius=1))
    planted(equals(Diff(sum_over(w.u[w.i], w.i), w.u[w.j]), 0), slope(radius=1))


def test_a_slope_of_a_slope_does_not_crash(w):
    """Unknown is an answer."""
    assert prove(holds(equals(Diff(w.x * Diff(w.x**2, w.x), w.x), 4 * w.x), by=slope(radius=1))).status == "unknown"


def test_a_kink_is_not_differentiated(w):
    """SymPy's Heaviside(0) = 1/2 stays out."""
    for kinked in (Max(w.x, 0), Min(w.x, w.y), cases((w.x, w.x > 0), (0, True))):
        for by in (algebra(), finite_sum()):
            outcome = prove(holds(equals(Diff(kinked, w.x), Rational(1, 2)), by=by))
            assert outcome.status == "unknown"
            assert "regions" in outcome.reason


# -- the chain rule ---------------------------------------------------------------------------------------------


def composed(w, id, outer, statement, *, inner, at, outer_assuming=(), assuming=()):
    """The verdict on a composition, after the outer part is proved."""
    statuses = parts_proved(
        id,
        holds(outer[0], name="outer", by=outer[1], assuming=outer_assuming),
        holds(statement, name="whole", by=chain_rule(inner=inner, outer="outer", at=at), assuming=assuming),
    )
    assert statuses[0] == "proved"
    assert refute(statement, tuple(assuming), points=200).refuted
    return statuses[1]


def test_the_chain_rule_needs_the_assumptions_of_the_inside(w):
    """∂x²/∂x = 2 at x = 1 only."""
    given("t.inner", equals(Diff(w.x**2, w.x), 2), smt(), [equals(w.x, 1)])
    outer = (equals(Diff(w.y, w.y), 1), algebra())
    assert composed(w, "t.a", outer, equals(Diff(w.x**2, w.x), 2), inner="t.inner", at={w.y: w.x**2}) == "unknown"


def test_the_chain_rule_needs_the_inside_in_the_domain_of_the_outside(w):
    """max(r, y) has slope 1 for positive r and negative y; −x need not be positive."""
    given("t.inner", equals(Diff(-w.x, w.x), -1), algebra())
    outer = (equals(Diff(Max(w.r, w.y), w.r), 1), slope(radius=w.r))
    negative = [less(w.y, 0)]
    statement = equals(Diff(Max(-w.x, w.y), w.x), -1)
    found = composed(
        w, "t.a", outer, statement, inner="t.inner", at={w.r: -w.x}, outer_assuming=negative, assuming=negative
    )
    assert found == "unknown"


def test_the_chain_rule_needs_a_derivative_outside_not_a_one_sided_slope(w):
    """max(z, 0) has slope 1 at 0 from above."""
    given("t.inner", equals(Diff(-w.x, w.x), -1), algebra())
    outer = (equals(OneSided(Max(w.z, 0), w.z, 0, 1), 1), slope(radius=1))
    statement = equals(Diff(Max(-w.x, 0), w.x), -1)
    assert composed(w, "t.a", outer, statement, inner="t.inner", at={w.z: -w.x}) == "unknown"


def test_the_chain_rule_sees_every_way_that_the_outside_depends_on_the_variable(w):
    """∂(−x·x)/∂x is not the slope through −x alone."""
    given("t.inner", equals(Diff(-w.x, w.x), -1), algebra())
    outer = (equals(Diff(w.z * w.x, w.z), w.x), algebra())
    statement = equals(Diff(-w.x * w.x, w.x), -w.x)
    assert composed(w, "t.a", outer, statement, inner="t.inner", at={w.z: -w.x}) == "unknown"


def test_the_chain_rule_multiplies(w):
    """The outside alone, the inside alone, or a sum of slopes is not the slope."""
    given("t.inner", equals(Diff(w.x**2, w.x), 2 * w.x), algebra())
    outer = (equals(Diff(w.z**2, w.z), 2 * w.z), algebra())
    for n, wrong in enumerate((2 * w.x**2, 2 * w.x, 2 * w.x**2 + 2 * w.x)):
        statement = equals(Diff(w.x**4, w.x), wrong)
        assert composed(w, f"t.a{n}", outer, statement, inner="t.inner", at={w.z: w.x**2}) == "unknown"


def test_a_chain_rule_without_its_parts_is_unknown(w):
    """No outer part, or one that is no slope."""
    given("t.inner", equals(Diff(-w.x, w.x), -1), algebra())
    by = chain_rule(inner="t.inner", outer="missing", at={w.z: -w.x})
    assert parts_proved("t.none", holds(equals(Diff(-w.x, w.x), -1), by=by)) == ["unknown"]
    by = chain_rule(inner="t.inner", outer="no slope", at={w.z: -w.x})
    parts = (
        holds(equals(w.z + w.z, 2 * w.z + 0 * w.x), name="no slope", by=algebra()),
        holds(equals(Diff(-w.x, w.x), -1), name="whole", by=by),
    )
    assert parts_proved("t.flat", *parts)[1] == "unknown"


# -- minima and terms -------------------------------------------------------------------------------------------


def false_minima(w):
    """Statement, function, variable, point: each with something wrong."""
    return {
        "not zero there": (at_least(w.x**2 - 1, 0), w.x**2 - 1, w.x, 0),
        "a maximum": (at_least(-(w.x**2), 0), -(w.x**2), w.x, 0),
        "a saddle": (at_least(w.x**3, 0), w.x**3, w.x, 0),
        "a point outside of the domain": (at_least(w.r**2 - 1, 0), w.r**2 - 1, w.r, -1),
        "the edge of the domain": (at_least(w.r**2 - w.r, 0), w.r**2 - w.r, w.r, 0),
        "two points for an interval": (at_least(4 * w.m**3 - 5 * w.m**2, 0), 4 * w.m**3 - 5 * w.m**2, w.m, 0),
        "a pole between": (at_least(-1 / w.x - 1, 0), -1 / w.x - 1, w.x, -1),
        "another function": (greater(w.y, 0), w.x**2, w.x, 0),
        "the other way": (at_least(log(w.r), w.r - 1), w.r - 1 - log(w.r), w.r, 1),
    }


MINIMA = [
    "not zero there", "a maximum", "a saddle", "a point outside of the domain", "the edge of the domain",
    "two points for an interval", "a pole between", "another function", "the other way",
]  # fmt: skip


@pytest.mark.parametrize("name", MINIMA)
def test_a_minimum_that_is_none_proves_nothing(w, name):
    """Whether the sign, the point or the domain is at fault."""
    statement, of, over, at = false_minima(w)[name]
    planted(statement, from_minimum(of=of, over=over, at=at))


def test_a_strict_bound_needs_to_be_away_from_the_minimum(w):
    """log x < x − 1 fails at 1."""
    of = w.r - 1 - log(w.r)
    planted(less(log(w.r), w.r - 1), from_minimum(of=of, over=w.r, at=1, strict=True))
    planted(less(log(w.r), w.r - 1), from_minimum(of=of, over=w.r, at=1, strict=False), [differs(w.r, 2)])


def test_terms_below_their_bound_prove_nothing(w):
    """Terms that may be lower, bounds that do not sum up, an inequality the other way."""
    squares = sum_over(w.u[w.i] ** 2, w.i)
    zero, one = sp.Integer(0), sp.Integer(1)
    assert prove(holds(at_least(squares, 0), by=termwise(zero))).status == "proved"
    planted(at_least(sum_over(w.u[w.i], w.i), 0), termwise(zero))
    planted(at_least(squares, w.rows), termwise(one))
    planted(at_least(squares, 1), termwise(zero))
    planted(at_most(squares, 0), termwise(zero))
    planted(greater(squares, 0), termwise(zero))


def test_an_assumption_on_one_term_is_none_on_all(w):
    """u_i ≥ 0 for the i that the statement names says nothing of the others."""
    statement = at_least(sum_over(w.u[w.i], w.i), sum_over(delta(w.j, w.i), w.j) - 1)
    planted(statement, termwise(sp.Integer(0)), [at_least(w.u[w.i], 0)])


# -- an engine that lies ----------------------------------------------------------------------------------------


class Lying(Rule):
    """A rule that proves everything."""

    engine = "lies"

    def prove(self, statement, context):
        return GENERAL


def test_a_prover_that_lies_is_contradicted_by_the_refuter(w, monkeypatch):
    """Proved and refuted at once is what a broken prover looks like; a rule from elsewhere is not even tried."""
    statement = equals(w.x, w.x + 1)
    for lie in (Lying(), chain(step(w.x + 1, by=Lying()))):
        outcome = prove(holds(statement, by=lie))
        assert (outcome.status, outcome.reason) == ("unknown", "Lying is no rule of the package")
    monkeypatch.setattr("grape_spec.proof.prove.RULES", RULES | {Lying})
    assert prove(holds(statement, by=Lying())).status == "proved"
    assert refute(statement).refuted


@pytest.mark.full("false variants before the rules of others")
def test_every_wrong_variant_stays_unproved_by_its_neighbours_rules():
    """For each claim, the proofs of its parts are run on its wrong variants."""
    for entry in list(CLAIMS.values()):
        for wrong in entry.wrong:
            for part in entry.parts:
                outcome = prove(holds(wrong.statement, by=part.by, assuming=wrong.assuming), earlier=entry.parts)
                assert outcome.status == "unknown", (entry.id, wrong.text)


@pytest.mark.full("false variants before the rules of others")
@pytest.mark.parametrize("by", [finite_sum(), algebra(), smt()], ids=lambda by: by.engine)
def test_every_wrong_variant_stays_unproved_by_the_general_rules(by):
    """Normal forms, the field and the solver prove none of them."""
    for entry in list(CLAIMS.values()):
        for wrong in entry.wrong:
            assert prove(holds(wrong.statement, by=by, assuming=wrong.assuming)).status == "unknown", wrong.text

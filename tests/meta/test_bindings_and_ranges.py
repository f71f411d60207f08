"""More planted falsehoods, on what bindings, bound variables and assumptions may carry; and truths for the refuter."""

from types import SimpleNamespace

import grape_spec  # noqa: F401 - the registry is full before any test adds to it
import pytest
import sympy as sp
from grape_spec.language import (
    At,
    Diff,
    Mask,
    NonNegative,
    OneSided,
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
    function,
    greater,
    holds,
    implies,
    index,
    product_over,
    sum_over,
    symbol,
)
from grape_spec.language.domains import Smooth
from grape_spec.proof.prove import prove, prove_claim
from grape_spec.proof.refute import refute, refutes
from grape_spec.proof.rules import (
    algebra,
    chain,
    chain_rule,
    fact,
    finite_sum,
    induction,
    rewrite,
    slope,
    smt,
    step,
    termwise,
)
from sympy import Lambda, exp, log


@pytest.fixture
def w(scratch_registry):
    """Declared symbols and definitions of every kind."""
    rows, columns = symbol("t_rows", Size, ""), symbol("t_columns", Size, "")
    x, y = symbol("t_x", Real, ""), symbol("t_y", Real, "")
    return SimpleNamespace(
        x=x,
        y=y,
        z=symbol("t_z", Real, ""),
        r=symbol("t_r", Positive, ""),
        closed=symbol("t_closed", NonNegative, ""),
        m=symbol("t_m", Mask(), ""),
        rows=rows,
        columns=columns,
        i=index("t_i", rows, ""),
        j=index("t_j", rows, ""),
        k=index("t_k", rows, ""),
        s=index("t_s", columns, ""),
        u=family("t_u", Real, rows, text=""),
        table=family("t_table", Real, rows, columns, text=""),
        q=family("t_q", Simplex, columns, rows, text=""),
        f=function("t_f", Smooth, ""),
        size=define("t.size", "", (x,), sp.Abs(x)),
        over=define("t.over", "", (x, y), x / y),
        root=define("t.root", "", (x,), sp.sqrt(x)),
        e=define("t.e", "", (x,), exp(x)),
        lg=define("t.lg", "", (x,), log(x)),
    )


def planted(statement, by, assuming=(), *, seen=True, sizes=None):
    """A false statement is not proved; ``seen`` where the refuter finds a witness by itself."""
    if seen:
        assert refute(statement, tuple(assuming), points=200, sizes=sizes).refuted, "the planted statement is not false"
    outcome = prove(holds(statement, by=by, assuming=assuming))
    assert outcome.status == "unknown", f"a false statement is proved: {statement}"


def given(id, statement, by, assuming=()):
    """A true claim to build on."""
    entered = claim(id, "text", holds(statement, by=by, assuming=assuming))
    assert [p.status for p in prove_claim(entered)] == ["proved"]


# -- what a symbol is bound to ----------------------------------------------------------------------------------


def test_a_symbol_is_not_bound_to_what_has_no_value(w):
    """exp(x) > 0 at x := log y does not say that y > 0; y = 0 ⇒ xy = 0 at x := 1/y does not say that y ≠ 0."""
    given("t.positive", greater(exp(w.x), 0), smt())
    planted(greater(w.y, 0), smt(given=[fact("t.positive", t_x=log(w.y))]))
    given("t.product", implies(sp.Eq(w.y, 0), sp.Eq(w.x * w.y, 0)), smt())
    planted(differs(w.y, 0), smt(given=[fact("t.product", t_x=1 / w.y)]))


def test_a_rewrite_does_not_bind_to_what_has_no_value(w):
    """|e(x)| = e(x) at x := log y; and x·y by cases at x := 1/y."""
    given("t.absolute", equals(w.size(w.e(w.x)), w.e(w.x)), smt())
    links = (
        step(w.size(w.e(w.lg(w.y))), by=algebra()),
        step(w.e(w.lg(w.y)), by=rewrite("t.absolute", t_x=w.lg(w.y))),
        step(w.y, by=algebra()),
    )
    planted(equals(w.size(w.y), w.y), chain(*links))
    given("t.cases", equals(cases((w.x * w.y, sp.Ne(w.y, 0)), (0, True)), w.x * w.y), smt())
    planted(equals(cases((1, sp.Ne(w.y, 0)), (0, True)), 1), rewrite("t.cases", t_x=1 / w.y))


def test_a_family_is_not_bound_to_what_has_no_value(w):
    """The same, entry by entry."""
    given("t.entry", greater(exp(w.u[w.i]), 0), smt())
    planted(greater(w.y, 0), smt(given=[fact("t.entry", t_u=Lambda(w.i, log(w.y)))]))


def test_a_symbol_is_not_bound_to_what_is_no_real_number(w):
    """x² ≥ 0 says nothing of the imaginary unit."""
    given("t.square", at_least(w.x**2, 0), smt())
    planted(equals(w.x, w.x + 1), smt(given=[fact("t.square", t_x=sp.I)]))


def test_the_indices_of_a_bound_family_run_over_its_own_axes(w):
    """Σ_k δ(k, i) is 1 for a row i, and 0 for a column beyond the last row."""
    given("t.row", equals(sum_over(w.q[w.s, w.j], w.j), 1), finite_sum())
    body = sum_over(delta(w.k, w.i), w.k) / w.rows
    statement = equals(sum_over(sum_over(delta(w.k, w.s), w.k) / w.rows, w.j), 1)
    planted(statement, rewrite("t.row", t_q=Lambda((w.i, w.j), body)))


def test_a_definition_is_not_positive_outside_of_its_domain(w):
    """|f(y)| = f(y) for a definition that is positive at positive arguments only."""
    own = define("t.own", "", (w.r,), w.r, domain=Positive)
    given("t.absolute", equals(sp.Abs(w.x), w.size(w.x)), smt())
    planted(equals(own(w.y), w.size(own(w.y))), rewrite("t.absolute", t_x=own(w.y)))


# -- assumptions ------------------------------------------------------------------------------------------------


def test_an_assumption_on_every_row_is_not_met_by_one(w):
    """Where every row sums to x the table sums to rows · x; one row that does is not enough."""
    total = equals(sum_over(w.table[w.i, w.s], w.s), w.x)
    every = equals(sum_over(w.table[w.j, w.s], w.j, w.s), w.rows * w.x)
    given("t.rows", every, finite_sum(), [total])
    planted(implies(total, every), smt(given=[fact("t.rows")]), seen=False)
    # rows = 2, columns = 1, table = (0, 1), i = 1, x = 0: row i sums to x and the table does not sum to 2x.


def test_an_assumption_on_one_row_is_not_used_in_a_product_over_all(w):
    """The i of the statement is not the i that the product binds."""
    total = equals(sum_over(w.table[w.i, w.s], w.s), w.x)
    statement = equals(product_over(total.lhs, w.i) + w.i, product_over(w.x, w.i) + w.i)
    planted(statement, finite_sum(), [total], seen=False)


def test_links_at_different_sizes_do_not_make_a_chain(w):
    """Σ1 = 2 at two rows and 2 = Σ1 − 1 at three; Σ1 = Σ1 − 1 nowhere."""
    ones = sum_over(sp.Integer(1), w.i)
    links = (step(2, by=algebra(sizes={w.rows: 2})), step(ones - 1, by=algebra(sizes={w.rows: 3})))
    planted(equals(ones, ones - 1), chain(*links))


def test_induction_does_not_keep_an_index_within_the_smaller_size(w):
    """Σ_i δ(i, j) = 1 for j up to n is not so for j = n + 1."""
    one = sum_over(delta(w.i, w.j), w.i)
    planted(equals(one**2, 3 * one - 2 * delta(1, w.j)), induction(w.rows))


# -- derivatives ------------------------------------------------------------------------------------------------


def test_the_chain_rule_sees_that_the_outside_depends_on_an_entry(w):
    """∂(−u_k·u_k)/∂u_k is not the slope through −u_k alone."""
    entry = w.u[w.k]
    given("t.inner", equals(Diff(-entry, entry), -1), algebra())
    parts = prove_claim(
        claim(
            "t.whole",
            "text",
            holds(equals(Diff(w.z * entry, w.z), entry), name="outer", by=algebra()),
            holds(
                equals(Diff(-entry * entry, entry), -entry),
                name="whole",
                by=chain_rule(inner="t.inner", outer="outer", at={w.z: -entry}),
            ),
        )
    )
    assert [p.status for p in parts] == ["proved", "unknown"]


def test_a_bound_symbol_does_not_keep_its_domain(w):
    """|r| = r for positive r; at −5 and below 0 it is not."""
    planted(equals(At(w.size(w.r), w.r, -5), -5), algebra())
    planted(equals(OneSided(w.size(w.r), w.r, -5, 1), 1), slope(radius=1))
    planted(equals(OneSided(w.size(w.closed), w.closed, 0, -1), 1), slope(radius=1))


def test_a_derivative_at_the_edge_of_a_domain_does_not_keep_it(w):
    """|x| has no slope at 0, which is among the non-negative numbers."""
    for by in (algebra(), slope(radius=1)):
        planted(equals(Diff(w.size(w.closed), w.closed), 1), by, seen=False)


def test_a_point_put_into_two_arguments_is_not_captured(w):
    """The derivatives of g(x, y) in its two arguments differ, also where x = y."""
    first, second = At(Diff(w.f(w.x, w.y), w.x), w.x, w.y), At(Diff(w.f(w.y, w.x), w.x), w.x, w.y)
    planted(equals(first, second), algebra(), seen=False)


def test_a_one_sided_slope_needs_values(w):
    """x/x and exp(log x) have no value at 0, and so no slope there."""
    planted(equals(OneSided(w.over(w.x, w.x), w.x, 0, 1), 0), slope(radius=1))
    planted(equals(OneSided(w.e(w.lg(w.x)), w.x, 0, 1), 1), slope(radius=1))


# -- powers -----------------------------------------------------------------------------------------------------


def test_a_root_needs_a_value(w):
    """√x has none below 0, and x⁻¹ behind a definition none at 0."""
    planted(equals(w.root(w.x) ** 2, w.x), algebra(), seen=False)
    planted(equals(w.over(1, w.x) * w.x, 1), algebra(), seen=False)


# -- ranges -----------------------------------------------------------------------------------------------------


def test_an_index_bound_over_another_range_leaves_its_own(w):
    """Σ_k δ(k, i) = 1 for the rows i, and not for all of 1..columns."""
    inner = sum_over(delta(w.k, w.i), w.k)
    given("t.one", equals(inner, 1), finite_sum())
    over = (w.i, 1, w.columns)
    for statement, by in (
        (equals(sp.Sum(inner, over), sp.Sum(1, over)), rewrite("t.one")),
        (equals(sp.Product(inner, over), sp.Product(1, over)), finite_sum()),
        (at_least(sp.Sum(inner, over), w.columns), termwise(sp.Integer(1))),
    ):
        planted(statement, by)


def test_the_index_of_a_lambda_leaves_its_own_range(w):
    """The same, as the entries of a family that has one for every column."""
    column = family("t_column", Real, w.columns, text="")
    total = define("t.total", "", (column,), sum_over(column[w.s], w.s))
    inner = sum_over(delta(w.k, w.i), w.k)
    given("t.one", equals(inner, 1), finite_sum())
    left, right = (total(Lambda(w.i, entry)) + w.columns for entry in (inner, sp.Integer(1)))
    planted(equals(left, right), rewrite("t.one"))


def test_a_symbol_bound_by_a_sum_leaves_its_domain(w):
    """m² = m for 0 and 1."""
    given("t.mask", equals(w.m**2, w.m), smt())
    over = (w.m, 1, w.rows)
    planted(equals(sp.Sum(w.m**2, over), sp.Sum(w.m, over)), rewrite("t.mask"))


def test_a_sum_may_be_empty(w):
    """Σ over 1..rows − 1 is 0 where there is one row, and Σ1 over 1..rows − 5 is never negative."""
    planted(greater(sp.Sum(exp(w.u[w.i]), (w.i, 1, w.rows - 1)), 0), smt())
    planted(equals(sp.Sum(1, (w.i, 1, w.rows - 5)), w.rows - 5), finite_sum())


# -- entries as variables ---------------------------------------------------------------------------------------


def test_a_one_sided_slope_in_an_entry_moves_every_mention_of_it(w):
    """u_i moves when u_j does, where i = j: refused when written, or when proved."""
    try:
        statements = [equals(OneSided(w.u[w.i], w.u[w.j], 0, 1), 0), equals(At(w.u[w.i], w.u[w.j], 5), w.u[w.i])]
    except (TypeError, ValueError):
        return
    assert prove(holds(statements[0], by=slope(radius=1))).status == "unknown"
    assert prove(holds(statements[1], by=algebra())).status == "unknown"


# -- the refuter ------------------------------------------------------------------------------------------------


def test_a_position_beyond_its_axis_is_no_witness(w):
    """i ≤ rows."""
    assert not refutes(at_most(w.i, w.rows), (), {w.i: 2, w.rows: 1})


def test_a_delta_of_balls_is_not_zero_because_they_are_wide(w):
    """δ(i/3, 1) = δ(i, 3)."""
    assert not refute(equals(delta(w.i / 3, 1), delta(w.i, 3)), points=200).refuted

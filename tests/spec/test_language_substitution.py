"""Substitution never captures: what was bound stays bound, what was free stays free."""

import pytest
import sympy as sp
from grape_spec.evaluate import Evaluator
from grape_spec.language import At, Diff, OneSided, define, equals, holds, substitute, sum_over, unfold
from grape_spec.language.expressions import symbols_of
from grape_spec.proof.prove import prove
from grape_spec.proof.rules import algebra
from sympy import Lambda, Max, exp


def test_a_bound_variable_is_renamed_when_its_name_comes_in(words):
    """Σ_i u_i y with y := u_i is Σ_v u_v u_i."""
    total = substitute(sum_over(words.u[words.i] * words.y, words.i), {words.y: words.u[words.i]})
    assert words.i in total.free_symbols
    point = {words.rows: 2, words.i: 1, words.u: [3, 5]}
    assert Evaluator(point).number(total) == 24


def test_a_bound_variable_is_not_replaced(words):
    """i := 2 leaves Σ_i alone."""
    total = sum_over(words.u[words.i], words.i)
    assert substitute(total, {words.i: sp.Integer(2)}) == total


def test_nested_binders_are_renamed_apart(words):
    """Both bound variables make way."""
    body = sum_over(sum_over(words.table[words.i, words.s] * words.y, words.i), words.s)
    total = substitute(body, {words.y: words.table[words.i, words.s]})
    point = {words.rows: 2, words.columns: 2, words.i: 1, words.s: 2, words.table: [[1, 2], [3, 4]]}
    assert Evaluator(point).number(total) == 20


def test_a_family_is_replaced_by_a_function_of_its_index(words):
    """Inside of sums, too, and with free variables kept free."""
    total = substitute(
        sum_over(words.u[words.i], words.i), {words.u: Lambda(words.j, words.u[words.j] * words.u[words.i])}
    )
    assert Evaluator({words.rows: 2, words.i: 2, words.u: [3, 5]}).number(total) == 40


def test_a_one_sided_slope_binds_its_variable_but_not_its_point(words):
    """The x of the point is the caller's, and free."""
    node = OneSided(words.x * words.y, words.x, words.x, 1)
    assert words.x in symbols_of(node)
    changed = substitute(node, {words.x: sp.Integer(3)})
    assert changed.point == 3
    assert changed.variable == words.x


def meaning_is_kept(definition, arguments, point):
    """An applied definition unfolded has the value of the definition evaluated."""
    applied = definition(*arguments)
    assert Evaluator(point).number(applied).overlaps(Evaluator(point).number(unfold(applied)))


def test_a_derivative_is_not_captured_by_an_argument(words):
    """∂(x y)/∂x at x = y is y, not ∂(y²)/∂y."""
    slope = define("t.slope", "", (words.x, words.y), Diff(words.x * words.y, words.x))
    meaning_is_kept(slope, (words.y, words.y), {words.y: 3})


def test_a_derivative_at_an_expression_is_taken_first(words):
    """∂x²/∂x at x = 2y is 4y, and does not fail."""
    slope = define("t.slope", "", (words.x,), Diff(words.x**2, words.x))
    meaning_is_kept(slope, (2 * words.y,), {words.y: 3})


def test_a_derivative_in_an_entry_is_not_captured_by_a_constant_family(words):
    """∂(Σ exp u)/∂u_k with every u = x is exp x, not N exp x."""
    slope = define("t.slope", "", (words.u, words.k), Diff(sum_over(exp(words.u[words.i]), words.i), words.u[words.k]))
    meaning_is_kept(slope, (Lambda(words.i, words.x),), {words.x: 1, words.rows: 3, words.k: 2})


def test_a_derivative_in_an_entry_is_not_captured_by_another_family(words):
    """∂(Σ u q)/∂u_k with u := q is q_k, not 2 q_k."""
    body = Diff(sum_over(words.u[words.i] * words.q[words.i], words.i), words.u[words.k])
    slope = define("t.slope", "", (words.u, words.q, words.k), body)
    meaning_is_kept(slope, (words.q,), {words.q: [2, 3], words.rows: 2, words.k: 1})


def test_a_point_is_not_captured_by_an_argument(words):
    """(x y at x := 2) with y := x is 2x, not 4."""
    at = define("t.at", "", (words.y,), At(words.x * words.y, words.x, 2))
    meaning_is_kept(at, (words.x,), {words.x: 5})


def test_dividing_by_an_argument_that_vanishes_stays_undefined(words):
    """x/y at y := x has no value at 0, unfolded or not."""
    ratio = define("t.over", "", (words.x, words.y), words.x / words.y)
    with pytest.raises(ArithmeticError):
        Evaluator({words.x: 0}).number(ratio(words.x, words.x))
    assert prove(holds(equals(ratio(words.x, words.x), 1), by=algebra())).status == "unknown"


def test_symbols_of_counts_the_sizes_of_families(words):
    """Who speaks of u speaks of its length; what a sum binds is not counted."""
    assert symbols_of(words.u[words.i]) == {words.u, words.i, words.rows}
    assert symbols_of(sum_over(words.u[words.i], words.i)) == {words.u, words.rows}


def test_unfolding_leaves_extrema_as_written(words):
    """Max(x, 0) at a positive argument is still a Max."""
    plus = define("t.plus", "", (words.x,), Max(words.x, 0))
    assert unfold(plus(-words.positive)).func is Max

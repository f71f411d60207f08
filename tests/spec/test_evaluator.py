"""The oracle: against exact fractions, and against derivatives worked out by hand."""

from fractions import Fraction
from itertools import islice

import grape_spec.evaluate as evaluate_module
import pytest
import sympy as sp
from flint import arb, ctx
from grape_spec.evaluate import Evaluator, code_of, evaluate
from grape_spec.jets import Undecided, Undefined, exact, parts_of, value_of
from grape_spec.language import At, Diff, OneSided, cases, delta, sum_over
from grape_spec.language.registry import CLAIMS
from grape_spec.proof.mutate import mutants
from grape_spec.proof.refute import refute
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from sympy import Lambda, Max, Min, Rational, exp, log
from sympy.core.relational import Relational

A, B, C = (sp.Symbol(name, real=True) for name in "abc")
values = st.fractions(min_value=-4, max_value=4, max_denominator=8).map(lambda x: Fraction(round(x * 8), 8))


BUILD = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "cube": lambda a, b: a**3,
    "Min": sp.Min,
    "Max": sp.Max,
    "cases": lambda a, b: sp.Piecewise((a, sp.Lt(a, b, evaluate=False)), (b + 1, True), evaluate=False),
}


def of_one_case(expr):
    """SymPy folds a case distinction within another into conditions that the fractions below cannot read."""
    return len(expr.atoms(sp.Piecewise)) <= 1


numbers = st.sampled_from([sp.Integer(-1), sp.Integer(2), Rational(1, 2), Rational(-3, 4)])
leaves = st.one_of(st.sampled_from([A, B, C]), numbers)
trees = st.recursive(leaves, lambda t: st.tuples(st.sampled_from(sorted(BUILD)), t, t), max_leaves=6)


def built(tree):
    """The expression of a drawn tree; what SymPy itself cannot put together is not tried."""
    if not isinstance(tree, tuple):
        return tree
    kind, *parts = tree
    try:
        return BUILD[kind](*map(built, parts))
    except TypeError:
        reject()


def by_fractions(expr, point):
    """The value in exact fractions; raises ZeroDivisionError where there is none."""
    if isinstance(expr, sp.Rational):
        return Fraction(int(expr.p), int(expr.q))
    if isinstance(expr, sp.Symbol):
        return point[expr]
    if isinstance(expr, sp.Piecewise):
        (value, condition), (other, _) = expr.args
        holds = by_fractions(condition.args[0], point) < by_fractions(condition.args[1], point)
        return by_fractions(value if holds else other, point)
    if expr in (sp.zoo, sp.nan):
        raise ZeroDivisionError
    parts = [by_fractions(arg, point) for arg in expr.args]
    if isinstance(expr, sp.Add):
        return sum(parts)
    if isinstance(expr, sp.Mul):
        product = Fraction(1)
        for part in parts:
            product *= part
        return product
    if isinstance(expr, sp.Pow):
        return parts[0] ** int(expr.exp)
    return {sp.Min: min, sp.Max: max}[type(expr)](parts)


def is_ball_of(ball, value):
    """The ball holds the value and is tight."""
    ball = value_of(exact(ball))
    with ctx.workprec(300):
        assert ball.overlaps(exact(value)), f"{ball} is not {value}"
    assert ball.rad() <= arb(2) ** -40 * (abs(ball.mid()) + 1)


@settings(max_examples=200, deadline=None)
@given(trees, values, values, values)
def test_rational_expressions_agree_with_fractions(tree, a, b, c):
    """Whatever is built from arithmetic, Min, Max and cases has the value that exact fractions give."""
    expr = built(tree)
    assume(of_one_case(expr))
    point = {A: a, B: b, C: c}
    with ctx.workprec(256):
        try:
            expected = by_fractions(expr, point)
        except ZeroDivisionError:
            with pytest.raises((Undefined, Undecided)):
                Evaluator(point).number(expr)
            return
        try:
            found = Evaluator(point).number(expr)
        except Undecided:
            return  # a comparison of balls that touch, as at 1/3 < 1/3
        is_ball_of(found, expected)


CLOSED_FORMS = [
    (A**3, [A], 3 * A**2),
    (A**3, [A, A], 6 * A),
    (A**3, [A, A, A], sp.Integer(6)),
    (A**3, [A, A, A, A], sp.Integer(0)),
    (A**2 * B**3, [A, B], 6 * A * B**2),
    (A**2 * B**3, [A, B, A], 6 * B**2),
    (A / B, [B], -A / B**2),
    (A / B, [B, B], 2 * A / B**3),
    (1 / (1 + exp(-A)), [A], exp(-A) / (1 + exp(-A)) ** 2),
    (log(A), [A, A, A], 2 / A**3),
    (exp(A * B), [A, B], (1 + A * B) * exp(A * B)),
    (exp(2 * A), [A, A, A], 8 * exp(2 * A)),
    (sp.sqrt(A), [A, A], -1 / (4 * A ** Rational(3, 2))),
    (A ** Rational(1, 3), [A], A ** Rational(-2, 3) / 3),
    (log(exp(A) + exp(B)), [A, B], -exp(A + B) / (exp(A) + exp(B)) ** 2),
    (Max(A, B) * A, [A], 2 * A),
    (Min(A, B) * A, [A], B),
    (sp.Integer(7), [A], sp.Integer(0)),
    (B, [A], sp.Integer(0)),
]


@pytest.mark.parametrize(("expr", "variables", "expected"), CLOSED_FORMS, ids=str)
def test_derivatives_agree_with_closed_forms(expr, variables, expected):
    """Products, quotients, powers, logarithms, exponentials, nested and mixed."""
    point = {A: Fraction(5, 4), B: Fraction(1, 2)}
    with ctx.workprec(256):
        is_ball_of(Evaluator(point).number(Diff(expr, *variables)), Evaluator(point).number(expected))


def test_perturbations_are_not_confused():
    """∂(a ∂(a + b)/∂b)/∂a is 1, and derivatives in one variable nest."""
    point = {A: 3, B: 5}
    is_ball_of(Evaluator(point).number(Diff(A * Diff(A + B, B), A)), 1)
    is_ball_of(Evaluator(point).number(Diff(A * Diff(A**2, A), A)), 12)
    is_ball_of(Evaluator(point).number(Diff(A * At(Diff(A * B, B), B, A), A)), 6)
    is_ball_of(Evaluator(point).number(Diff(At(B**2, B, A**2), A)), 108)


def test_at_puts_the_point_in_after_the_derivative():
    """(∂a²/∂a at a := 7) is 14 wherever a is; at an expression, the value of the expression counts."""
    assert Evaluator({A: 1}).number(At(Diff(A**2, A), A, 7)) == 14
    assert Evaluator({A: 1, B: 4}).number(At(Diff(A**2, A), A, A + B)) == 10


def test_derivatives_in_an_entry_of_a_family(words):
    """Only the entry that is meant moves, whichever index names it."""
    point = {words.rows: 3, words.u: [2, 3, 5], words.k: 2, words.i: 2, words.j: 3}
    evaluator = Evaluator(point)
    assert evaluator.number(Diff(sum_over(words.u[words.i] ** 2, words.i), words.u[words.k])) == 6
    assert evaluator.number(Diff(words.u[words.i], words.u[words.k])) == 1
    assert evaluator.number(Diff(words.u[words.j], words.u[words.k])) == 0
    assert (
        evaluator.number(At(Diff(words.u[words.k] ** 2, words.u[words.k]), words.u, Lambda(words.i, 10 * words.i)))
        == 40
    )


SLOPES = [
    (Max(A, 0), 0, 1, 1),
    (Max(A, 0), 0, -1, 0),
    (Min(A, 0), 0, 1, 0),
    (Min(A, 0), 0, -1, 1),
    (Max(A, -A), 0, 1, 1),
    (Max(A, -A), 0, -1, -1),
    (Max(A, -A), 1, -1, 1),
    (Min(A * B, Min(Max(A, 1), 2) * B), 2, 1, 0),
    (Min(A * B, Min(Max(A, 1), 2) * B), 2, -1, 5),
    (cases((A**2, A < 1), (2 * A - 1, True)), 1, 1, 2),
    (cases((A**2, A < 1), (2 * A - 1, True)), 1, -1, 2),
    (cases((3 * A, A <= 0), (-A, True)), 0, 1, -1),
    (cases((3 * A, A <= 0), (-A, True)), 0, -1, 3),
    (A**2, 3, -1, 6),
]


@pytest.mark.parametrize(("expr", "point", "side", "slope"), SLOPES, ids=str)
def test_one_sided_slopes(expr, point, side, slope):
    """At a kink each side has its own slope."""
    assert Evaluator({B: 5}).number(OneSided(expr, A, point, side)) == slope


def test_a_derivative_at_a_kink_is_undecided():
    """There is none; the oracle does not pick a side."""
    for kinked in (Max(A, 0), Max(A, -A), cases((A, A > 0), (2 * A, True))):
        with pytest.raises(Undecided):
            Evaluator({A: 0}).number(Diff(kinked, A))


FLAT_CONTACT = [
    (cases((A, sp.Gt(A**2, 0, evaluate=False)), (2 * A, True)), 1),
    (cases((A, sp.Eq(A**2, 0, evaluate=False)), (2 * A, True)), 2),
    (cases((A, sp.Gt(A**3, 0, evaluate=False)), (2 * A, True)), None),
]


@pytest.mark.parametrize(("expr", "slope"), FLAT_CONTACT, ids=str)
def test_a_condition_that_is_flat_at_its_boundary_does_not_pick_a_wrong_branch(expr, slope):
    """a² > 0 holds on both sides of 0 though its first-order part is nothing: the answer is right or undecided."""
    for node, expected in ((Diff(expr, A), slope), (OneSided(expr, A, 0, 1), slope or 1)):
        try:
            found = Evaluator({A: 0}).number(node)
        except Undecided:
            continue
        assert expected is not None
        assert found == expected


def test_no_value_is_undefined():
    """Logarithms of what is not positive, and divisions by zero."""
    for expr in (log(A), log(-B), 1 / A, B / A, sp.zoo, sp.nan, sp.oo):
        with pytest.raises(Undefined):
            Evaluator({A: 0, B: 2}).number(expr)


def test_what_cannot_be_told_is_undecided_or_a_hull():
    """Overlapping balls have no order; with ``hull`` both branches are enclosed."""
    wide = arb(0, 1)
    branches = cases((1, A > 0), (2, True))
    with pytest.raises(Undecided):
        Evaluator({A: wide}).number(branches)
    hull = value_of(Evaluator({A: wide}, hull=True).number(branches))
    assert hull.contains(1)
    assert hull.contains(2)
    assert value_of(Evaluator({A: wide}).number(Max(A, 0))).contains(Fraction(1, 2).limit_denominator().numerator)
    slope = value_of(Evaluator({A: wide}, hull=True).number(Diff(Max(A, 0), A)))
    assert slope.contains(0)
    assert slope.contains(1)


def test_truth_has_three_values():
    """True and False are certain; None is an honest answer."""
    wide = Evaluator({A: arb(0, 1), B: 3})
    assert wide.truth(sp.Lt(A, B)) is True
    assert wide.truth(sp.Gt(A, B)) is False
    assert wide.truth(sp.Gt(A, 0, evaluate=False)) is None
    assert wide.truth(sp.Eq(A, 0, evaluate=False)) is None
    assert wide.truth(sp.And(sp.Gt(A, 0), sp.Gt(A, B), evaluate=False)) is False
    assert wide.truth(sp.Or(sp.Gt(A, 0), sp.Lt(A, B), evaluate=False)) is True
    assert wide.truth(sp.Implies(sp.Gt(A, 0), sp.Gt(A, B), evaluate=False)) is None
    assert wide.truth(sp.Not(sp.Gt(A, B), evaluate=False)) is True
    assert wide.truth(sp.Equivalent(sp.Gt(A, 0), sp.Gt(A, B), evaluate=False)) is None


def test_one_third_is_not_exact_and_thus_equal_to_nothing():
    """A ball around 1/3 is neither certainly equal to itself nor certainly different."""
    assert Evaluator({}).truth(sp.Eq(Rational(1, 3) * A / A, Rational(1, 3), evaluate=False)) is None
    assert Evaluator({}).truth(sp.Ne(Rational(1, 3), Rational(1, 2), evaluate=False)) is True


def test_sums_products_and_deltas_by_hand(words):
    """Ranges count from one to the size; a sum over several variables runs the last one outermost."""
    point = {words.rows: 3, words.u: [1, 2, 4], words.j: 2}
    evaluator = Evaluator(point)
    assert evaluator.number(sum_over(words.u[words.i] * words.i, words.i)) == 17
    assert evaluator.number(sp.Product(words.u[words.i], (words.i, 1, words.rows))) == 8
    assert evaluator.number(sum_over(delta(words.i, words.j) * words.u[words.i], words.i)) == 2
    assert evaluator.number(sp.Sum(words.i, (words.i, 1, words.j), (words.j, 1, words.rows))) == 10


def test_numbers_that_the_language_can_write_have_values():
    """|a|, e and π are numbers to the oracle, too."""
    assert Evaluator({A: -2}).number(sp.Abs(A)) == 2
    is_ball_of(Evaluator({}).number(sp.E / sp.exp(1, evaluate=False)), 1)
    assert value_of(Evaluator({}).number(sp.pi)).overlaps(arb.pi())


def test_evaluate_reads_sizes_off_the_lists(words):
    """Sizes need not be given; lists that disagree, unknown names and missing values are refused."""
    total = sum_over(words.u[words.i] * words.q[words.i], words.i)
    assert evaluate(total, {"t_u": [1, 2], "t_q": [3, 4]}) == 11
    assert evaluate(total, {"t_u": [0.5], "t_q": [Fraction(1, 2)]}) == 0.25
    with pytest.raises(ValueError, match="lists of length 2 and 1 for one axis"):
        evaluate(total, {"t_u": [1, 2], "t_q": [3]})
    with pytest.raises(KeyError, match="no symbol is declared under the name 't_nothing'"):
        evaluate(total, {"t_nothing": 1})
    with pytest.raises(KeyError):
        evaluate(total, {"t_u": [1, 2]})


def test_an_index_counts_from_one(words):
    """Position 0 is an error, not the last entry."""
    with pytest.raises(IndexError, match="count from 1"):
        Evaluator({words.u: [1, 2], words.i: 0}).number(words.u[words.i])


def test_more_bits_give_tighter_balls():
    """At least as tight as asked."""
    coarse, fine = (evaluate(exp(Rational(1, 3)), {}, bits=bits) for bits in (64, 512))
    assert fine.rad() < coarse.rad()
    assert coarse.overlaps(fine)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
def test_what_an_evaluator_remembers_changes_no_value(claim, monkeypatch):
    """One that has evaluated a statement and its mutants gives each the ball that one without a memory gives it."""
    for part in claim.parts:
        formulas = [part.statement, *(changed for _, changed in islice(mutants(part.statement), 0, None, 9))]
        sides = [side for formula in formulas if isinstance(formula, Relational) for side in formula.args]
        points = [
            p._scope.values for p in refute(part.statement, part.assuming, sizes=part.by.at_sizes(), points=1).points
        ]
        found = [[value_or_failure(shared, side) for side in sides] for shared in map(Evaluator, points)]
        with monkeypatch.context() as patch:
            patch.setattr(evaluate_module, "_REMEMBERED", ())
            code_of.cache_clear()
            assert found == [[value_or_failure(Evaluator(point), side) for side in sides] for point in points]
        code_of.cache_clear()


def value_or_failure(evaluator, expr):
    """The ball and its derivatives as text, or the kind of failure."""
    with ctx.workprec(96):
        try:
            return {mask: part.str(40) for mask, part in parts_of(evaluator.number(expr)).items()}
        except (Undecided, Undefined, IndexError) as failure:
            return type(failure)

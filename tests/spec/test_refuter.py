"""The refuter finds planted falsehoods, finds nothing against truths, and never leaves the domain."""

from fractions import Fraction

import grape_spec  # noqa: F401
import pytest
import sympy as sp
from grape_spec.language import (
    Diff,
    OneSided,
    at_least,
    at_most,
    delta,
    differs,
    equals,
    greater,
    implies,
    less,
    sum_over,
)
from grape_spec.proof.refute import refute, refuted_at_one, refutes
from sympy import Max, Min, exp, log


def falsehoods(w):
    """Statements that fail somewhere, often only at a boundary."""
    return {
        "everywhere": equals(w.x, w.x + 1),
        "at one point of a line": differs(w.x, w.y),
        "at a boundary": less(Min(w.x, w.y), Max(w.x, w.y)),
        "at a kink": greater(Max(w.x, w.y) - w.y, 0),
        "at size one only": greater(w.rows, 1),
        "away from size one": equals(sum_over(w.u[w.i], w.i) ** 2, sum_over(w.u[w.i] ** 2, w.i)),
        "on the diagonal only": equals(delta(w.i, w.j), 0),
        "on the simplex": equals(sum_over(w.p[w.i] ** 2, w.i), 1),
        "in a derivative": equals(Diff(w.x**2, w.x), w.x),
        "on one side": equals(OneSided(Max(w.x, 0), w.x, 0, 1), 0),
        "where it is undefined": equals(1 / w.x, 1 / w.x + 0 * w.y),
        "of a logarithm": equals(log(w.x), log(w.x) + 0 * w.y),
        "of an implication": implies(greater(w.x, 0), greater(w.x, 1)),
        "of a smooth function": equals(Diff(w.f(w.i, w.x), w.x), w.f(w.i, w.x)),
        "for a mask": equals(w.mask, 1),
        "at large sizes": at_most(w.rows, 4),
        "far out": at_most(w.x, 1_000_000),
        "close to an end": at_least(w.positive, sp.Rational(1, 10_000)),
        "by very little": equals(w.x, w.x + sp.Rational(1, 2**60)),
    }


NAMES = [
    "everywhere", "at one point of a line", "at a boundary", "at a kink", "at size one only", "away from size one",
    "on the diagonal only", "on the simplex", "in a derivative", "on one side", "where it is undefined",
    "of a logarithm", "of an implication", "of a smooth function", "for a mask", "at large sizes", "far out",
    "close to an end", "by very little",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_falsehood_is_refuted(words, name):
    """With a witness."""
    search = refute(falsehoods(words)[name], points=300)
    assert search.refuted
    assert search.witness


def test_truths_are_not_refuted(words):
    """Ties, roundings and boundaries included."""
    w = words
    truths = [
        equals((w.x + w.y) ** 2, w.x**2 + 2 * w.x * w.y + w.y**2),
        equals(exp(w.x + w.y), exp(w.x) * exp(w.y)),
        equals(log(w.positive * w.above_one), log(w.positive) + log(w.above_one)),
        at_most(Min(w.x, w.y), Max(w.x, w.y)),
        equals(w.mask**2, w.mask),
        equals(sum_over(w.p[w.i], w.i), 1),
        equals(sum_over(w.hot[w.i] ** 2, w.i), 1),
        at_least((w.rows - 1) * (w.rows - 2), 0),
        equals(w.x / 3, w.x * sp.Rational(1, 3)),
    ]
    for truth in truths:
        search = refute(truth, points=60)
        assert not search.refuted, (truth, search.witness)
        assert search.effective == 60


def test_assumptions_that_contradict_give_no_effective_point(words):
    """Nothing is refuted, nothing is supported, and the count says so."""
    search = refute(equals(words.x, words.y), (greater(words.x, 0), less(words.x, 0)), points=5)
    assert not search.refuted
    assert search.effective == 0
    assert search.drawn > 5


def test_an_assumption_that_has_no_value_does_not_hold(words):
    """log x > 0 keeps the points away at which x is negative."""
    search = refute(greater(words.x, 1), (greater(log(words.x), 0),), points=20)
    assert not search.refuted
    assert search.effective == 20


def test_an_assumption_on_an_index_that_the_statement_binds_holds_for_every_value(words):
    """Each u_i is at least 0, so their sum is."""
    search = refute(at_least(sum_over(words.u[words.i], words.i), 0), (at_least(words.u[words.i], 0),), points=10)
    assert not search.refuted
    assert search.effective == 10


def test_sizes_can_be_fixed(words):
    """True at two, false in general."""
    statement = equals(sum_over(sp.Integer(1), words.i), 2)
    assert not refute(statement, sizes={words.rows: 2}).refuted
    assert refute(statement).refuted


def test_a_search_is_reproducible(words):
    """The same seed draws the same points."""
    statement = less(words.x, 10 * words.positive)
    assert refute(statement, seed=3) == refute(statement, seed=3)


def test_a_given_point_refutes_only_where_it_falsifies(words):
    """And only when it gives every symbol a value."""
    statement = less(words.x, words.y)
    assert refutes(statement, (), {words.x: 2, words.y: 1})
    assert not refutes(statement, (), {words.x: 1, words.y: 2})
    assert not refutes(statement, (), {words.x: 2})
    assert not refutes(statement, (greater(words.y, 5),), {words.x: 2, words.y: 1})


def test_a_given_point_outside_of_the_domain_refutes_nothing(words):
    """A size of 3/2, a negative positive number, a mask of 1/2: a solver's guess is checked before it is believed."""
    assert not refutes(at_least((words.rows - 1) * (words.rows - 2), 0), (), {words.rows: Fraction(3, 2)})
    assert not refutes(greater(words.positive, 0), (), {words.positive: Fraction(-1)})
    assert not refutes(equals(words.mask**2, words.mask), (), {words.mask: Fraction(1, 2)})


def test_a_slope_at_its_own_variable_has_a_point(words):
    """The slope from above at x speaks of x."""
    assert not refute(equals(OneSided(words.x**2, words.x, words.x, 1), 2 * words.x)).refuted
    assert refute(equals(OneSided(words.x**2, words.x, words.x, 1), words.x)).refuted


def test_an_absolute_value_can_be_refuted(words):
    """|x| = x is false."""
    assert refute(equals(sp.Abs(words.x), words.x)).refuted


def test_points_that_take_more_bits_to_decide(words):
    """A case that 96 bits do not decide is decided with 384 where the points are drawn, and left to those elsewhere."""
    hair = sp.Integer(2) ** -150
    left = sp.Piecewise((words.x, exp(words.x) + hair * words.y > exp(words.x)), (words.y, True))
    statement = sp.Le(left, Max(words.x, words.y))
    points = refute(statement, points=4).points
    assert len(points) == 4
    assert refuted_at_one(sp.Le(words.x, words.x - 1, evaluate=False), statement, points)
    assert not refuted_at_one(sp.Le(left, Max(words.x, words.y) - 1000), statement, points)


def test_the_points_of_a_search_are_for_mutants_of_every_index_of_the_statement(words):
    """What is assumed of an index that a mutant does not speak of would be assumed of every one."""
    statement = equals(words.u[words.i], words.u[words.i])
    points = refute(statement).points
    assert refuted_at_one(equals(words.u[words.i], 0), statement, points) is True
    assert refuted_at_one(equals(words.x, 0), statement, points) is None

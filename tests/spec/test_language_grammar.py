"""What the language lets through: every engine reads it, and nothing else is let through."""

import pytest
import sympy as sp
from grape_spec.evaluate import Evaluator
from grape_spec.jets import value_of
from grape_spec.language import At, Diff, OneSided, cases, define, delta, product_over, sum_over
from grape_spec.language.grammar import (
    _CONNECTIVES,
    _NODES,
    _RELATIONS,
    NotInLanguage,
    refuse_foreign,
    refuse_foreign_number,
    rules_are,
)
from grape_spec.paper.check import difference
from grape_spec.render import latex, unicode
from sympy import Abs, Integer, Lambda, Max, Min, Rational, exp, log
from sympy.core.function import UndefinedFunction


def numbers(w):
    """An expression of each kind of node, with its value where rows = 3, x = 2, positive = 4, i = 2, u = (1, 5, 7)."""
    total = define("t.total", "", (w.u,), sum_over(w.u[w.j], w.j))
    return {
        type(Integer(2)): (Integer(7), 7),
        type(sp.S.Zero): (sp.S.Zero, 0),
        type(sp.S.One): (sp.S.One, 1),
        type(sp.S.NegativeOne): (sp.S.NegativeOne, -1),
        type(sp.S.Half): (sp.S.Half, 0.5),
        sp.Rational: (Rational(3, 4), 0.75),
        type(sp.E): (sp.E, 2.718281828),
        sp.Symbol: (w.x, 2),
        sp.Add: (w.x + w.positive, 6),
        sp.Mul: (w.x * w.positive, 8),
        sp.exp: (exp(w.x), 7.389056099),
        sp.log: (log(w.positive), 1.386294361),
        sp.Abs: (Abs(w.x - 9), 7),
        sp.Min: (Min(w.x, w.positive), 2),
        sp.Max: (Max(w.x, w.positive), 4),
        sp.KroneckerDelta: (delta(w.i, 2), 1),
        sp.Pow: (w.positive ** Rational(-1, 2), 0.5),
        sp.Indexed: (w.u[w.i], 5),
        UndefinedFunction: (w.f(w.i, w.x), 20),
        sp.Sum: (sum_over(w.u[w.j], w.j), 13),
        sp.Product: (product_over(w.u[w.j], w.j), 35),
        sp.Piecewise: (cases((1, w.x > 3), (w.x, True)), 2),
        Diff: (Diff(w.x**3, w.x), 12),
        OneSided: (OneSided(Abs(w.x), w.x, 0, -1), -1),
        At: (At(w.x**2, w.x, w.positive), 16),
        type(total()): (total(Lambda(w.i, w.u[w.i] * w.x)), 26),
    }


def point(w):
    """Where the expressions are evaluated."""
    return {w.rows: 3, w.x: 2, w.positive: 4, w.i: 2, w.u: [1, 5, 7], w.f: lambda i, x: x * 10}


def test_every_kind_of_node_has_a_value_and_is_printed(words):
    """The refuter evaluates it, a page shows it."""
    examples = numbers(words)
    assert set(examples) == set(_NODES) - {sp.IndexedBase}, "a kind of node has no example"
    for kind, (expr, expected) in examples.items():
        assert kind is UndefinedFunction or type(expr) is kind
        refuse_foreign_number(expr)
        assert float(value_of(Evaluator(point(words)).number(expr))) == pytest.approx(expected)
        assert unicode(expr)
        assert not difference(expr, latex(expr))


def test_every_kind_of_formula_is_decided(words):
    """Comparisons and connectives."""
    x, positive = words.x, words.positive
    less, more = sp.Lt(x, positive, evaluate=False), sp.Gt(x, positive, evaluate=False)
    formulas = [kind(x, positive, evaluate=False) for kind in _RELATIONS]
    formulas += [
        kind(less, evaluate=False) if kind is sp.Not else kind(less, more, evaluate=False) for kind in _CONNECTIVES
    ]
    assert {type(formula) for formula in formulas} == {*_RELATIONS, *_CONNECTIVES}
    for formula in formulas:
        refuse_foreign(formula)
        assert Evaluator(point(words)).truth(formula) in (True, False)
        assert not difference(formula, latex(formula))


@pytest.mark.parametrize(
    "made",
    [
        lambda x: sp.gamma(x), lambda x: sp.asin(x), lambda x: sp.sin(x), lambda x: sp.floor(x), lambda x: sp.sign(x),
        lambda x: sp.Heaviside(x), lambda x: sp.Mod(x, 2), lambda x: sp.LambertW(x),
        lambda x: sp.I * x, lambda x: x + sp.pi, lambda x: x + sp.oo, lambda x: x * sp.Float(2), lambda x: sp.nan,
        lambda x: sp.Integral(x, (x, 0, 1)), lambda x: sp.Limit(1 / x, x, 0), lambda x: sp.Derivative(x**2, x),
        lambda x: sp.Subs(x, x, 1), lambda x: sp.Function("stranger")(x),
        lambda x: sp.Function("stranger", real=True)(x),
        lambda x: 2**x, lambda x: x**sp.I, lambda x: sp.Dummy("x", real=True), lambda x: sp.Wild("x"),
        lambda x: sp.Symbol("t_x"), lambda x: sp.UnevaluatedExpr(x), lambda x: sp.Lambda(x, x**2),
        lambda x: sp.Tuple(x, x),
        lambda x: sp.Matrix([[x]]), lambda x: sp.Piecewise((1, x > 0)),
        lambda x: sp.Piecewise((1, sp.Xor(x > 0, x > 1)), (2, True)), lambda x: sp.Max(x, sp.oo, evaluate=False),
        lambda x: sp.AlgebraicNumber(sp.sqrt(2)), lambda x: sp.zeta(x), lambda x: sp.factorial(x), lambda x: sp.true,
        lambda x: "x", lambda x: 1.5, lambda x: None,
    ],
)  # fmt: skip
def test_what_is_foreign_is_refused(words, made):
    """Alone, and deep inside of what is not."""
    expr = made(words.x)
    with pytest.raises(NotInLanguage):
        refuse_foreign_number(expr)
    if isinstance(expr, sp.Expr) and not isinstance(expr, sp.MatrixBase):
        with pytest.raises(NotInLanguage):
            refuse_foreign_number(sum_over(words.u[words.i] * expr, words.i))


def test_a_subclass_of_a_node_is_foreign(words):
    """A class that prints like an exponential may evaluate like anything."""

    class Exponential(sp.exp):
        """Says nothing of its own."""

    with pytest.raises(NotInLanguage, match="Exponential"):
        refuse_foreign_number(Exponential(words.x))


def test_the_rules_are_said_once():
    """Nobody adds to them."""
    with pytest.raises(RuntimeError, match="the rules are those of"):
        rules_are({int})


def test_a_double_arrow_has_two_sides(words):
    conditions = [sp.Gt(thing, 0, evaluate=False) for thing in (words.x, words.y, words.z)]
    with pytest.raises(NotInLanguage, match=r"got 3 sides in .*: iff\(left, right\) has two"):
        refuse_foreign(sp.Equivalent(*conditions, evaluate=False))

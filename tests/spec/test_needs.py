"""What an expression needs to have a value, and what shows that it has one."""

import pytest
import sympy as sp
from grape_spec.language import (
    Apply,
    At,
    Diff,
    OneSided,
    at_least,
    cases,
    define,
    delta,
    equals,
    greater,
    holds,
    product_over,
    registry,
    sum_over,
)
from grape_spec.language.registry import claim
from grape_spec.proof.derivatives import NotAlgebraic, Partial, is_smooth, resolve
from grape_spec.proof.needs import needs_of, positions_of
from grape_spec.proof.prove import prove
from grape_spec.proof.rules import algebra, by_terms, fact, finite_sum, slope, smt
from sympy import Abs, Lambda, Max, Min, exp, log, sqrt


def proved(statement, by, assuming=()):
    """Whether a statement is proved."""
    return prove(holds(statement, by=by, assuming=assuming)).status == "proved"


def test_each_kind_of_need(words):
    """One expression for each."""
    x, y, n = words.x, words.y, words.rows
    assert needs_of(log(x)) == (("positive", x),)
    assert needs_of(sqrt(x)) == (("non-negative", x),)
    assert needs_of(1 / x) == (("nonzero", x),)
    assert needs_of(x**y) == (("positive", x),)
    assert needs_of(cases((1, x > 0))) == (("true", x > 0),)
    assert needs_of(cases((1, x > 0), (2, True))) == ()
    assert needs_of(Diff(x**2, x)) == (("defined", Diff(x**2, x)),)
    assert needs_of(OneSided(x**2, x, 1 / y, 1)) == (("nonzero", y), ("defined", OneSided(x**2, x, 1 / y, 1)))
    count = define("t.count", "", (n,), sum_over(sp.Integer(1), words.i))
    assert needs_of(count(5 - n)) == (("an integer at least 1", 5 - n),)
    assert needs_of(At(count(), n, 5 - n)) == (("an integer at least 1", 5 - n),)


def test_a_derivative_at_a_point_is_needed_there(words):
    """The variable of the need is bound, its value is the point."""
    x, y = words.x, words.y
    ((kind, needed),) = needs_of(At(Diff(x**2, x), x, y**2))
    assert kind == "defined"
    assert isinstance(needed, At)
    assert needed.value == y**2


@pytest.mark.parametrize("f", [sp.gamma, sp.asin, sp.sign, sp.floor, sp.Heaviside, sp.sin, sp.Function("other")])
def test_what_is_not_listed_is_refused(words, f):
    """By name; also where it cancels, and within definitions, sums, cases and derivatives."""
    x = words.x
    hidden = sum_over(cases((f(x), x > 0), (0, True)), words.i)
    for expr in (f(x), 1 / f(x), hidden, Diff(f(x), x), OneSided(f(x), x, 0, 1), At(f(x), x, sp.Integer(1))):
        with pytest.raises(NotAlgebraic, match=r"no part of the language|not declared as a function"):
            needs_of(expr)


@pytest.mark.parametrize("number", [sp.oo, sp.zoo, sp.nan, sp.I, sp.Float(1)])
def test_what_is_no_real_number_is_refused(number):
    """Infinities, complex numbers and floats have no place."""
    with pytest.raises(NotAlgebraic, match=r"no part of the language"):
        needs_of(number)


def test_smooth_by_form(words):
    """What depends on the variable is smooth, node by node."""
    x, y, u, i, k = words.x, words.y, words.u, words.i, words.k
    own = words.f(i, x)
    for smooth in (x**2 * exp(y) / x, log(x), own, Diff(own, x), Abs(y) * x, x ** sp.Rational(1, 3)):
        assert is_smooth(smooth, x)
    for kinked in (Abs(x), Max(x, 0), Min(x, y), cases((x, y > 0), (0, True)), OneSided(y, y, x, 1), delta(x, 0)):
        assert not is_smooth(x * kinked, x)
    assert is_smooth(sum_over(u[i] ** 2, i), u)
    assert not is_smooth(product_over(Abs(u[i]), i), u)
    assert is_smooth(At(Diff(y**2, y), y, x), x)
    assert not is_smooth(At(Abs(y), y, x), x)
    assert not is_smooth(At(y, y, Abs(x)), x)
    assert is_smooth(At(Abs(x), x, y), x), "the x inside is bound"
    kinked = define("t.kinked", "", (x,), Abs(x))
    assert not is_smooth(kinked(x), x)
    assert is_smooth(kinked(u[k]) * x, x)


def test_a_derivative_exists_by_a_rule_or_by_a_fact(words):
    """The slope of |x| for x > 0 is proved, and may be used for x > 0, but not elsewhere and not in silence."""
    x, y = words.x, words.y
    kinked, minus = define("t.kinked", "", (x,), Abs(x)), define("t.minus", "", (x, y), x - y)
    own = Diff(kinked(x), x)
    above = holds(equals(own, 1), by=slope(radius=x), assuming=[greater(x, 0)])
    assert prove(above).status == "proved"
    claim("t.above", "", above)
    nothing = equals(minus(own, own), 0)
    assert not proved(nothing, smt(), [greater(x, 0)])
    assert proved(equals(Diff(kinked(x) + x**2, x), 1 + 2 * x), by_terms(fact("t.above")), [greater(x, 0)])
    assert not proved(equals(Diff(kinked(x) + x**2, x), 1 + 2 * x), by_terms(fact("t.above")), [at_least(x, 0)])


def test_cases_must_cover_the_assumptions(words):
    """Without an else, where the conditions may fail."""
    x = words.x
    gap, minus = cases((x, x > 0), (-x, x < 0)), define("t.minus", "", (x, words.y), x - words.y)
    nothing = equals(minus(gap, gap), 0)
    assert not proved(nothing, algebra())
    assert not proved(nothing, algebra(), [at_least(x, 0)])


def test_what_is_put_in_for_a_size(words):
    """An integer that is shown to be at least 1, and nothing that is read along the axis."""
    n, x, q = words.rows, words.x, words.q
    count = define("t.count", "", (n,), sum_over(sp.Integer(1), words.i))
    whole = define("t.whole", "", (q, n), sum_over(q[words.i], words.i))
    assert proved(equals(count(n + 1), n + 1), finite_sum())
    assert proved(equals(count(words.columns), words.columns), finite_sum())
    assert proved(equals(count(n - 1), n - 1), finite_sum(), [at_least(n, 2)])
    for size in (n - 1, 5 - n, x, n / 2, sp.Integer(0), sp.Rational(1, 2)):
        assert not proved(equals(count(size), size), finite_sum())
    assert proved(greater(whole(q), 0), smt())
    assert not proved(greater(whole(q, n + 1), 0), smt()), "an entry too many"
    assert not proved(greater(At(sum_over(q[words.i], words.i), n, n + 1), 0), smt())


def test_a_size_that_is_hidden_cannot_be_replaced(words, monkeypatch):
    """By an index of a Lambda, or by a definition that has it and no argument for it, had the registry let it pass."""
    monkeypatch.setattr(registry, "_refuse_kept_sizes", lambda entry: None)
    n, c, x, u, q = words.rows, words.columns, words.x, words.u, words.q
    total = define("t.total", "", (u,), sum_over(u[words.i], words.i))
    hidden = define("t.hidden", "", (x, n), total(Lambda(words.i, x)) * n)
    scaled = define("t.scaled", "", (q, n), n * total(q))
    around = define("t.around", "", (x, n), n + hidden(x))
    column = Lambda(words.s, exp(words.table[words.i, words.s]))
    for statement in (
        equals(hidden(x, c), n * c * x),
        greater(scaled(column, c), 0),
        equals(around(x, c), c + n * c * x),
        equals(around(x, c), c + c * c * x),
        equals(At(total(Lambda(words.i, x)), n, c), n * x),
    ):
        for by in (finite_sum(), smt()):
            assert "cannot be replaced" in prove(holds(statement, by=by)).reason
    assert proved(equals(around(x), n + n**2 * x), finite_sum()), "as it stands"


def test_a_family_is_no_number(words):
    """Nor a number a family."""
    times = define("t.times", "", (words.x, words.y), words.x * words.y)
    total = define("t.total", "", (words.u,), sum_over(words.u[words.i], words.i))
    for expr in (times(words.u, words.x), total(words.x), At(words.x**2, words.x, words.u), words.f(words.u)):
        with pytest.raises(NotAlgebraic, match=r"family|no part of the language"):
            needs_of(expr)


def test_positions_follow_the_sizes_that_are_put_in(words):
    """A family and an index of the new size."""
    n, c, u = words.rows, words.columns, words.u
    pick = define("t.pick", "", (words.i, u, n), sum_over(u[words.j] * delta(words.i, words.j), words.j))
    read = positions_of(pick(words.s, Lambda(words.s, sp.Integer(1)), c))
    assert (words.s, c) in read
    assert needs_of(pick(words.s, Lambda(words.s, sp.Integer(1)), c)) == (("an integer at least 1", c),)
    with pytest.raises(NotAlgebraic, match="axes"):
        needs_of(pick(words.i, Lambda(words.i, sp.Integer(1)), c))
    assert (n, c) in positions_of(pick(words.s, u, c))


def test_a_partial_derivative_names_an_argument(words):
    """Two arguments that become the same keep their derivatives apart."""
    x, y, f = words.x, words.y, words.f
    at_the_same = resolve(At(Diff(f(x, y), x), y, x))
    assert at_the_same == Partial(f(x, x), sp.Tuple(0))
    assert resolve(Diff(f(x, x), x)) == at_the_same + Partial(f(x, x), sp.Tuple(1))
    assert resolve(Diff(f(x**2, y), x)) == 2 * x * Partial(f(x**2, y), sp.Tuple(0))
    assert resolve(Diff(f(x, y), x, y)) == resolve(Diff(f(x, y), y, x)) == Partial(f(x, y), sp.Tuple(0, 1))
    with pytest.raises(NotAlgebraic, match="unknown function"):
        Partial(x**2, sp.Tuple(0))


def test_a_smooth_function_has_mixed_derivatives(words):
    """They commute: smooth means that every derivative exists."""
    x, y, f = words.x, words.y, words.f
    assert proved(equals(Diff(f(x, y), x, y), Diff(f(x, y), y, x)), algebra())
    assert proved(equals(Diff(f(words.i, x), x, x) - Diff(f(words.i, x), x, x), 0), algebra())


def test_no_definition_of_a_wrong_number_of_arguments(words):
    """It is refused, and nothing breaks."""
    define("t.square", "", (words.x,), words.x**2)
    assert not proved(equals(Apply("t.square", words.x, words.y), 0 * words.x), algebra())

"""Planted falsehoods about roots, masks, regions and sums of derivatives: no prover proves one."""

import pytest
import sympy as sp
from grape_spec.language import (
    Diff,
    Mask,
    NonNegative,
    OneHot,
    Positive,
    Real,
    Simplex,
    Size,
    at_least,
    at_most,
    cases,
    claim,
    clip,
    define,
    delta,
    equals,
    family,
    greater,
    holds,
    index,
    less,
    product_over,
    sum_over,
    symbol,
)
from grape_spec.language.expressions import At, OneSided
from grape_spec.proof.mutate import mutants
from grape_spec.proof.prove import check_domains, prove
from grape_spec.proof.refute import refute
from grape_spec.proof.rules import (
    algebra,
    by_terms,
    chain,
    fact,
    finite_sum,
    from_minimum,
    near,
    rewrite,
    smt,
    step,
    termwise,
    unproved,
)
from sympy import Abs, Max, exp, log, sqrt


class World:
    """Declared symbols of the kinds that these rules speak of."""

    def __init__(self):
        self.size = symbol("t_size", Size, "")
        self.i, self.j = index("t_i", self.size, ""), index("t_j", self.size, "")
        self.x, self.y = symbol("t_x", Real, ""), symbol("t_y", Real, "")
        self.a, self.e = symbol("t_a", Positive, ""), symbol("t_e", NonNegative, "")
        self.m = symbol("t_m", Mask(), "")
        self.u, self.q = family("t_u", Real, self.size, text=""), family("t_q", Positive, self.size, text="")
        self.mask = family("t_mask", Mask(), self.size, text="")
        self.hot = family("t_hot", OneHot, self.size, text="")
        self.squares = define("t.squares", "", (self.u,), sum_over(self.u[self.j] ** 2, self.j))


@pytest.fixture
def w(scratch_registry):
    return World()


def status(statement, by, assuming=()):
    outcome = prove(holds(statement, by=by, assuming=assuming))
    assert outcome.status == "proved" or outcome.reason
    return outcome.status


def planted(statement, by, assuming=()):
    assert refute(statement, tuple(assuming), points=300).refuted, "the planted statement is not false"
    assert status(statement, by, assuming) == "unknown"


# -- square roots -----------------------------------------------------------------------------------------------------


def false_roots(w):
    squares, a, x, e = w.squares(), w.a, w.x, w.e
    return {
        "root of a sum": (sqrt(a + w.q[w.i]), sqrt(a) + sqrt(w.q[w.i])),
        "root of a square": (sqrt(squares**2 + a) - sqrt(squares**2), sqrt(a)),
        "a factor under the root": (sqrt(2 * squares + 1), 2 * sqrt(squares + 1)),
        "sum of roots": (sum_over(sqrt(w.q[w.i]), w.i) ** 2, sum_over(w.q[w.i], w.i)),
        "reciprocal": (1 / sqrt(1 + squares), sqrt(1 + squares)),
        "three halves": (sqrt(1 + e) ** 3, 1 + e),
        "a root is not what it is of": (sqrt(1 + squares), 1 + squares),
        "the sign of a factor": (sqrt(x**2 * (1 + squares)), x * sqrt(1 + squares)),
        "numbers": (sqrt(8 + 8 * squares), 4 * sqrt(1 + squares)),
    }


FALSE_ROOTS = (
    "root of a sum", "root of a square", "a factor under the root", "sum of roots", "reciprocal", "three halves",
    "a root is not what it is of", "the sign of a factor", "numbers",
)  # fmt: skip


def test_every_false_root_is_tried(w):
    assert tuple(false_roots(w)) == FALSE_ROOTS


@pytest.mark.parametrize("name", FALSE_ROOTS)
@pytest.mark.parametrize("by", [finite_sum(), smt()], ids=lambda by: by.engine)
def test_a_false_equation_of_roots_is_not_proved(w, name, by):
    planted(equals(*false_roots(w)[name]), by)


def test_what_is_true_of_roots_is_proved(w):
    squares = w.squares()
    assert status(equals(sqrt(1 + squares) * sqrt(1 + squares) * w.x, w.x + w.x * squares), finite_sum()) == "proved"
    assert status(equals(1 / (1 + sqrt(2)), sqrt(2) - 1 + 0 * w.x), finite_sum()) == "proved"
    scaled = sum_over((w.a * w.u[w.j]) ** 2, w.j)
    assert status(equals(sqrt(scaled), w.a * sqrt(squares)), finite_sum()) == "proved"
    assert status(equals(Diff(sqrt(w.a), w.a), 1 / (2 * sqrt(w.a))), finite_sum()) == "proved"


def test_a_root_of_what_may_be_negative_has_no_value(w):
    for by in (finite_sum(), smt()):
        assert status(equals(sqrt(w.x) ** 3, w.x * sqrt(w.x)), by) == "unknown"
        assert status(at_least(sqrt(w.x - w.a), 0), by) == "unknown"
    assert status(equals(sqrt(w.x) ** 3, w.x * sqrt(w.x)), finite_sum(), [at_least(w.x, 0)]) == "proved"


def test_a_root_of_what_is_negative_is_a_witness(w):
    assert refute(at_least(sqrt(w.x), 0), ()).refuted
    assert not refute(at_least(sqrt(w.e), 0), ()).refuted


def test_a_division_by_a_root_needs_it_positive(w):
    statement = equals(w.x / sqrt(w.squares()), w.x * sqrt(w.squares()) / w.squares().unfold())
    assert status(statement, finite_sum()) == "unknown"
    assert status(statement, finite_sum(), [greater(w.squares(), 0)]) == "proved"


def test_the_solver_says_nothing_of_a_root_that_is_none(w):
    impossible = [less(w.x, 0)]
    assert status(equals(Max(sqrt(w.x), 1), 0), smt(), impossible) == "unknown"


def test_a_mutant_leaves_the_root_out(w):
    texts = [text for text, _ in mutants(equals(w.x, sqrt(w.a)))]
    assert "right: sqrt(t_a) → t_a" in texts


def test_a_root_that_ends_at_the_point_has_no_derivative_there(w):
    cube, slope = w.e ** sp.Rational(3, 2), sp.Rational(3, 2) * sqrt(w.e)
    planted(equals(Diff(cube, w.e), slope), finite_sum())
    planted(equals(Diff(w.x ** sp.Rational(3, 2) + w.x, w.x), 3 * sqrt(w.x) / 2 + 1), by_terms(), [at_least(w.x, 0)])
    root = define("t.root", "", (w.y,), sqrt(w.y))
    planted(equals(Diff(root(w.x) ** 2, w.x), 1), smt(), [at_least(w.x, 0)])
    assert status(equals(Diff(root(w.x) ** 2, w.x), 1), finite_sum(), [greater(w.x, 0)]) == "proved"
    assert status(equals(Diff(root(w.e) * w.x, w.x), sqrt(w.e)), finite_sum()) == "proved", "another is varied"
    assert not refute(equals(Diff(root(w.a) ** 3, w.a), 3 * root(w.a) / 2), ()).refuted
    upwards = OneSided(w.x ** sp.Rational(3, 2), w.x, 0, 1)
    assert not refute(equals(upwards, 0 * w.y), ()).refuted
    assert refute(equals(OneSided(w.x ** sp.Rational(3, 2), w.x, 0, -1), 0 * w.y), ()).refuted


# -- zeros and ones ---------------------------------------------------------------------------------------------------


def test_only_masks_are_their_own_squares(w):
    assert (
        status(equals(sum_over(w.mask[w.i] ** 2 * w.u[w.i], w.i), sum_over(w.mask[w.i] * w.u[w.i], w.i)), finite_sum())
        == "proved"
    )
    assert status(equals(sum_over(w.hot[w.i] ** 3, w.i), 1), finite_sum()) == "proved"
    planted(equals(sum_over(w.u[w.i] ** 2, w.i), sum_over(w.u[w.i], w.i)), finite_sum())
    planted(equals(sum_over(w.mask[w.i], w.i) ** 2, sum_over(w.mask[w.i], w.i)), finite_sum())


def test_there_is_no_derivative_with_respect_to_a_mask(w):
    """Whatever it is said to be: a function of what is 0 or 1 has no slope."""
    for slope in (2 * w.m, sp.S.One):
        outcome = prove(holds(equals(Diff(w.m**2, w.m), slope), by=finite_sum()))
        assert outcome.reason == "there is no derivative with respect to t_m, which is 0 or 1"
    assert status(equals(Diff(w.x**2, w.x), 2 * w.x), finite_sum()) == "proved"


def test_an_argument_that_is_no_mask_is_not_its_own_square(w):
    square = define("t.square", "", (w.m,), w.m**2)
    planted(equals(square(w.x), w.x), finite_sum())


@pytest.mark.parametrize("kind", ["mask", "row"])
def test_a_definition_is_positive_for_what_is_a_mask_or_a_row_only(w, kind):
    row = family("t_row", Simplex, w.size, text="")
    of, body, wide = (w.m, 1 + w.m - w.m**2, w.e) if kind == "mask" else (row, 2 - sum_over(row[w.j], w.j), w.q)
    vouched = define("t.vouched", "", (of,), body, domain=Positive)
    magnitude = define("t.magnitude", "", (w.x,), Abs(w.x))
    check_domains()
    planted(equals(magnitude(vouched(wide)), vouched(wide)), smt())
    assert vouched(of).is_positive


def test_a_delta_is_zero_or_one_to_the_solver(w):
    assert status(at_least(1 - delta(w.i, w.j), 0), smt()) == "proved"
    planted(greater(1 - delta(w.i, w.j), 0), smt())


# -- assumptions on sums ----------------------------------------------------------------------------------------------


def test_an_assumption_on_a_sum_is_for_that_sum(w):
    assuming = [greater(w.squares(), 0)]
    planted(greater(sum_over(w.u[w.j], w.j), 0), smt(), assuming)
    planted(greater(w.u[w.i] ** 2, 0), smt(), assuming)
    assert status(greater(sum_over(2 * w.u[w.j] ** 2, w.j), 0), smt(), assuming) == "proved"


def test_a_bound_on_every_term_is_none_on_one_that_is_named(w):
    total = sum_over(w.q[w.i] * (w.u[w.i] - w.x), w.i)
    every = [at_most(w.x, w.u[w.i])]
    assert status(at_least(total, 0), termwise(0), every) == "proved"
    # the assumption speaks of the i of the statement, and of no other
    statement = at_least(total * 1 + 0 * w.y, 0)
    named = at_least(sum_over(w.q[w.i] * (w.u[w.i] - w.x), w.i), sp.Mul(0, w.u[w.j], evaluate=False))
    assert status(statement, termwise(0), [at_most(w.x, w.u[w.j])]) == "unknown"
    assert status(named, termwise(0), [at_most(w.x, w.u[w.j])]) == "unknown"


def test_a_bound_from_above_is_not_one_from_below(w):
    total, every = sum_over(w.q[w.i] * (w.u[w.i] - w.x), w.i), [at_most(w.u[w.i], w.x)]
    assert status(at_most(total, 0), termwise(0), every) == "proved"
    planted(at_least(total, 0), termwise(0), every)
    planted(at_most(total, 0), termwise(0), [at_most(w.x, w.u[w.i])])


def test_a_fact_on_every_term_needs_the_same_assumption_on_every_term(w):
    every = [at_most(w.x, w.u[w.i])]
    total = sum_over(w.q[w.i] * (w.u[w.i] - w.x), w.i)
    claim("t.every", "text", holds(at_least(total, 0), assuming=every, by=termwise(0)))
    by = smt(given=[fact("t.every")])
    assert status(at_least(2 * total, 0), by, every) == "proved"
    planted(at_least(2 * total, 0), by)
    at_j = at_least(total + 0 * w.u[w.j], 0)
    assert status(at_j, smt(given=[fact("t.every", t_i=w.j)]), [at_most(w.x, w.u[w.j])]) == "unknown"
    own = sum_over(w.q[w.j] * (w.u[w.j] - w.u[w.i]), w.j)
    weaker = [at_most(w.u[w.i], w.u[w.i])]
    assert status(at_least(own, 0), smt(given=[fact("t.every", t_x=w.u[w.i])]), weaker) == "unknown"


def test_the_last_entry_of_a_row_is_positive_at_a_size(w):
    row = family("t_row", Simplex, w.size, text="")
    both = equals(sum_over(1 / row[w.j], w.j), 1 / row[1] + 1 / row[2])
    assert status(both, algebra(sizes={w.size: 2})) == "proved"
    hot = equals(w.x / w.hot[2], w.x * w.hot[1] / w.hot[2] + w.x)
    assert status(hot, algebra(sizes={w.size: 2})) == "unknown", "an entry of a one-hot row may be zero"
    planted_at_two = equals(sum_over(1 / row[w.j], w.j), 1 / row[1] - 1 / row[2])
    assert status(planted_at_two, algebra(sizes={w.size: 2})) == "unknown"


def test_what_is_proved_at_no_size_is_not_proved(w):
    planted(equals(sum_over(w.u[w.j], w.j), 0), algebra(sizes={w.size: 0}))
    planted(equals(w.x**2, w.x), algebra(sizes={w.x: 1}))


@pytest.mark.parametrize("position", ["number", "next", "none", "other axis", "under a sum", "in a definition", "at"])
def test_a_position_beyond_its_axis_has_no_value(w, position):
    other = index("t_other", symbol("t_longer", Size, ""), "")
    entry = define("t.entry", "", (w.i, w.q), w.q[w.i])
    read = {
        "number": w.q[2],
        "next": w.q[w.i + 1],
        "none": w.q[0],
        "other axis": w.q[other],
        "under a sum": sum_over(w.q[w.i + 1], w.i),
        "in a definition": entry(w.i + 1),
        "at": At(w.q[w.i], w.i, 2),
    }
    planted(greater(read[position], 0), smt())
    assert status(greater(w.q[1], 0), smt()) == "proved", "no axis is empty"
    assert status(equals(2 * w.q[2], w.q[2] + w.q[2]), algebra(sizes={w.size: 2})) == "proved"


def test_a_row_that_is_bound_does_not_keep_what_is_assumed_of_one(w):
    rows = symbol("t_rows", Size, "")
    one, named = index("t_one", rows, ""), index("t_named", rows, "")
    inside, wide = family("t_p", Simplex, rows, w.size, text=""), family("t_w", Positive, rows, w.size, text="")
    claim("t.rows", "text", holds(equals(sum_over(inside[one, w.j], w.j), 1), by=finite_sum()))
    by = smt(given=[fact("t.rows", t_p=sp.Lambda((named, w.j), wide[named, w.j]))])
    assumed = equals(sum_over(wide[named, w.j], w.j), 1)
    others = sum_over(wide[one, w.j], w.j)
    planted(equals(others + wide[named, w.i], 1 + wide[named, w.i]), by, [assumed])
    assert status(equals(2 * others, 2), by, [assumed]) == "proved", "here it is assumed of every row"


def test_a_rewrite_under_a_binder_does_not_use_what_is_assumed_outside(w):
    magnitude = define("t.magnitude", "", (w.x,), Abs(w.x))
    claim("t.magnitude.positive", "text", holds(equals(magnitude(w.a), w.a), by=smt()))
    claim("t.magnitude.other", "text", holds(equals(magnitude(w.e), w.e), by=smt()))
    total, plain = sum_over(magnitude(w.u[w.j]), w.j), sum_over(w.u[w.j], w.j)
    by = rewrite("t.magnitude.positive", t_a=w.u[w.j])
    planted(equals(total + w.u[w.j], plain + w.u[w.j]), by, [greater(w.u[w.j], 0)])
    assert status(equals(total, plain), by, [greater(w.u[w.j], 0)]) == "proved", "here it is assumed of every term"
    moved = equals(At(magnitude(w.x + 1), w.x, sp.Integer(-3)), At(w.x + 1, w.x, sp.Integer(-3)))
    planted(moved, rewrite("t.magnitude.positive", t_a=w.x + 1), [greater(w.x, 0)])
    kink = equals(Diff(magnitude(w.x + w.y), w.x), Diff(w.x + w.y, w.x))
    at_the_edge = rewrite("t.magnitude.other", t_e=w.x + w.y)
    assert status(kink, at_the_edge, [at_least(w.x + w.y, 0)]) == "unknown"


def test_what_stands_between_the_two_sides_has_a_value(w):
    magnitude = define("t.magnitude", "", (w.x,), Abs(w.x))
    logarithm = define("t.logarithm", "", (w.x,), log(w.x))
    hidden = exp(logarithm(w.x))  # x where x > 0, else without a value: SymPy takes it for positive
    links = (
        step(hidden, by=finite_sum()),
        step(magnitude(hidden), by=smt()),
        step(magnitude(w.x), by=finite_sum()),
    )
    planted(equals(w.x, magnitude(w.x)), chain(*links))
    assert status(equals(w.x, magnitude(w.x)), chain(*links), [greater(w.x, 0)]) == "proved"
    total, least = sum_over(w.x * w.q[w.i], w.i), magnitude(hidden) * w.q[w.i]
    planted(at_least(total, magnitude(w.x) * sum_over(w.q[w.i], w.i)), termwise(least))


def test_terms_of_nested_sums(w):
    squares = sum_over((w.u[w.i] - w.u[w.j]) ** 2, w.i, w.j)
    assert status(at_least(squares, 0), termwise(0)) == "proved"
    planted(at_least(sum_over(w.u[w.i] * w.u[w.j] - w.u[w.i] ** 2, w.i, w.j), 0), termwise(0))


# -- from a point upwards ---------------------------------------------------------------------------------------------


def test_a_function_that_rises_above_a_point_only(w):
    rising = w.a**2 * log(w.a) + log(w.a)
    above = [at_least(w.a, 1)]
    assert status(at_least(w.a - 1, 0), from_minimum(of=w.a - 1, over=w.a, at=1), above) == "proved"
    planted(at_least(w.a - 1, 0), from_minimum(of=w.a - 1, over=w.a, at=1))
    planted(at_least(rising, 0), from_minimum(of=rising, over=w.a, at=1))


def test_a_function_without_a_value_on_the_way_proves_nothing(w):
    jump = (w.a - 1) / (3 - w.a)  # rises everywhere, and is negative beyond its pole
    planted(at_least(jump, 0), from_minimum(of=jump, over=w.a, at=1), [at_least(w.a, 1), greater(abs(w.a - 3), 1)])


def test_the_sign_of_a_derivative_may_rest_on_a_fact(w):
    of = w.a * log(w.a) - (w.a - 1)
    above = [at_least(w.a, 1)]
    assert status(at_least(of, 0), from_minimum(of=of, over=w.a, at=1), above) == "unknown"
    given = [fact("kl.log_bound", part="strict", x=1 / w.a)]
    assert status(at_least(of, 0), from_minimum(of=of, over=w.a, at=1, given=given), above) == "proved"
    assert status(at_least(of, 0), from_minimum(of=of, over=w.a, at=1, given=given)) == "unknown", "not below one"


# -- regions and sums of derivatives ----------------------------------------------------------------------------------


def test_a_local_form_holds_within_its_region(w):
    function = Max(w.x, 0) ** 2
    right = [greater(w.x, 0)]
    assert status(equals(Diff(function, w.x), 2 * w.x), near(w.x**2, radius=w.x), right) == "proved"
    planted(equals(Diff(function, w.x), 2 * w.x), near(w.x**2, radius=1))
    planted(equals(Diff(function, w.x), 2 * w.x), near(w.x**2, radius=w.x), [less(w.x, 0)])
    planted(equals(Diff(function, w.x), w.x), near(w.x**2, radius=w.x), right)
    assert status(equals(Diff(function, w.x), 2 * w.x), near(w.x**2, radius=w.x + 1), right) == "unknown"
    assert status(equals(Diff(function, w.x), 2 * w.x), near(w.x**2, radius=0), right) == "unknown"


def test_what_has_no_derivative_has_none_times_two(w):
    step, total = delta(w.x, 1), sum_over(w.u[w.j], w.j)
    assert status(equals(Diff(2 * step, w.x), 2 * Diff(step, w.x)), finite_sum()) == "unknown", "at x = 1"
    assert status(equals(Diff(2 * total, w.size), 2 * Diff(total, w.size)), finite_sum()) == "unknown"
    assert status(equals(Diff(w.i * w.x, w.i), w.x), finite_sum()) == "unknown", "an index does not move"


def test_touching_at_the_point_alone_is_not_enough(w):
    function = cases((w.x, w.x > 0), (-w.x, True))
    assert status(equals(Diff(function, w.x), 1), near(w.x, radius=1), [equals(w.x, 0)]) == "unknown"


def test_a_sum_of_derivatives_needs_each(w):
    kinked = define("t.kinked", "", (w.x,), clip(w.x, 0, 1))
    inside = [greater(w.x, 0), less(w.x, 1)]
    claim(
        "t.slope",
        "text",
        holds(equals(Diff(kinked(), w.x), 1), assuming=inside, by=near(w.x, radius=sp.Min(w.x, 1 - w.x))),
    )
    total = -2 * w.a * kinked() + exp(w.x)
    given = by_terms(fact("t.slope"))
    assert status(equals(Diff(total, w.x), -2 * w.a + exp(w.x)), given, inside) == "proved"
    planted(equals(Diff(total, w.x), -2 + exp(w.x)), given, inside)
    planted(equals(Diff(total, w.x), -2 * w.a + exp(w.x)), given, [greater(w.x, 1)])
    planted(equals(Diff(w.x * kinked(), w.x), w.x), given, inside)
    assert status(equals(Diff(total, w.x), -2 * w.a + exp(w.x)), by_terms(), inside) == "unknown"


def test_a_sum_has_the_derivative_of_its_own_term(w):
    kinked = define("t.kinked", "", (w.x,), clip(w.x, 0, 1))
    inside = [greater(w.x, 0), less(w.x, 1)]
    claim(
        "t.slope",
        "text",
        holds(equals(Diff(kinked(), w.x), 1), assuming=inside, by=near(w.x, radius=sp.Min(w.x, 1 - w.x))),
    )
    own = [greater(w.u[w.j], 0), less(w.u[w.j], 1)]
    given = by_terms(fact("t.slope", t_x=w.u[w.j]))
    total = w.a * sum_over(w.q[w.i] * kinked(w.u[w.i]), w.i)
    assert status(equals(Diff(total, w.u[w.j]), w.a * w.q[w.j]), given, own) == "proved"
    planted(equals(Diff(total, w.u[w.j]), w.a), given, own)
    planted(equals(Diff(total, w.u[w.j]), w.a * w.q[w.j]), given, [greater(w.u[w.j], 1)])
    planted(equals(Diff(total * w.u[w.j], w.u[w.j]), w.a * w.q[w.j] * w.u[w.j]), given, own)


def test_cases_are_not_taken_out_of_the_sum_that_binds_them(w):
    one_for_each = cases((1, w.u[w.i] >= w.u[w.j]), (0, True))
    assert sum_over(one_for_each, w.j).free_symbols >= {w.i}
    with pytest.raises(TypeError, match="SymPy takes the cases out"):
        sum_over(product_over(one_for_each, w.j), w.i)


def test_no_proof_is_unknown_with_its_reason(w):
    outcome = prove(holds(equals(w.x, w.x + 0 * w.y), by=unproved("nothing was tried")))
    assert (outcome.status, outcome.reason) == ("unknown", "nothing was tried")

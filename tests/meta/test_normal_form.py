"""The normal form for finite sums: what it says is true at every size, and plain rearrangements are recognised.

Random expressions are brought into normal form, and both are worked out by brute force in exact fractions at small
sizes.
"""

from fractions import Fraction
from itertools import permutations, product
from types import SimpleNamespace

import grape_spec  # noqa: F401 - the registry is full before any test adds to it
import pytest
import sympy as sp
from grape_spec.evaluate import Evaluator
from grape_spec.jets import value_of
from grape_spec.language import Open, Positive, Real, Simplex, Size, delta, equals, family, index, sum_over, symbol
from grape_spec.language.expressions import substitute
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.proof.context import Context
from grape_spec.proof.derivatives import NotAlgebraic
from grape_spec.proof.field import is_zero
from grape_spec.proof.normal_form import NormalForm
from grape_spec.proof.polynomials import to_expr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sympy import Max, exp, log

from tests.tables import TABLES, restored


def declared():
    """The symbols that the expressions are grown from."""
    rows, columns = symbol("h_rows", Size, ""), symbol("h_columns", Size, "")
    return SimpleNamespace(
        rows=rows,
        columns=columns,
        x=symbol("h_x", Real, ""),
        i=index("h_i", rows, ""),
        j=index("h_j", rows, ""),
        k=index("h_k", rows, ""),
        s=index("h_s", columns, ""),
        u=family("h_u", Real, rows, text=""),
        q=family("h_q", Positive, rows, text=""),
        p=family("h_p", Simplex, rows, text=""),
        pairs=family("h_pairs", Simplex, columns, rows, text=""),
        width=family("h_width", Open(1, 2), rows, text=""),
        square=family("h_square", Real, rows, rows, text=""),
        table=family("h_table", Real, rows, columns, text=""),
    )


with restored():
    W = declared()
    _MINE = dict(DECLARATIONS)


@pytest.fixture(autouse=True, scope="module")
def symbols_of_this_module():
    """Declared while these tests run, and no longer."""
    with restored():
        TABLES[0].update(_MINE)
        yield


INDICES = (W.i, W.j, W.k)


def leaves():
    """Numbers, entries, deltas and reciprocals over free indices."""
    at = st.sampled_from(INDICES)
    return st.one_of(
        st.sampled_from([sp.Integer(-1), sp.Integer(2), sp.Rational(1, 3), W.x, W.rows]),
        at.map(lambda a: W.u[a]),
        at.map(lambda a: W.p[a]),
        at.map(lambda a: 1 / W.q[a]),
        at.map(lambda a: W.table[a, W.s]),
        at.map(lambda a: W.pairs[W.s, a]),
        st.tuples(at, at).map(lambda ab: W.square[ab]),
        st.tuples(at, at).map(lambda ab: delta(*ab)),
        st.tuples(at, at).map(lambda ab: 1 / (W.q[ab[0]] + 2 * W.q[ab[1]])),
        st.tuples(at, at).map(lambda ab: 1 / (3 * W.width[ab[0]] - W.width[ab[1]])),
    )


def grown(children):
    """Sums, products, squares and sums over an index of what is there."""
    axes = st.sampled_from([W.i, W.j, W.k, W.s])
    return st.one_of(
        st.tuples(children, children).map(lambda ab: ab[0] + ab[1]),
        st.tuples(children, children).map(lambda ab: ab[0] * ab[1]),
        children.map(lambda a: a**2),
        st.tuples(children, axes).map(lambda ax: sum_over(*ax)),
        st.tuples(children, axes).map(lambda ax: sum_over(*ax)),
    )


terms = st.lists(leaves(), min_size=1, max_size=3).map(lambda factors: sp.Mul(*factors))
nested = st.tuples(terms, terms, st.permutations(INDICES)).map(
    lambda case: sum_over(case[0] * sum_over(case[1], case[2][0]), *case[2][1:])
)
expressions = st.one_of(st.recursive(leaves(), grown, max_leaves=8), nested)


def points(seed=1):
    """A value for everything, at sizes 1, 2 and 3; no two numbers are alike, and the rows sum to one."""
    for rows, columns in ((1, 2), (2, 1), (3, 2)):
        n = iter(range(seed, 10_000, 7))

        def number(n=n):
            return Fraction(next(n) % 97 - 40, 8)

        def weights(count, n=n):
            parts = [next(n) % 31 + 1 for _ in range(count)]
            return [Fraction(part, sum(parts)) for part in parts]

        def between(n=n):
            return 1 + Fraction(next(n) % 61 + 1, 64)

        yield {
            W.rows: rows,
            W.columns: columns,
            W.x: number(),
            W.i: 1,
            W.j: rows,
            W.k: (rows + 1) // 2,
            W.s: columns,
            W.u: [number() for _ in range(rows)],
            W.q: [between() - 1 for _ in range(rows)],
            W.width: [between() for _ in range(rows)],
            W.p: weights(rows),
            W.pairs: [weights(rows) for _ in range(columns)],
            W.square: [[number() for _ in range(rows)] for _ in range(rows)],
            W.table: [[number() for _ in range(columns)] for _ in range(rows)],
        }


def brute(expr, point):
    """The exact value, by adding up every term."""
    if isinstance(expr, sp.Rational):
        return Fraction(int(expr.p), int(expr.q))
    if isinstance(expr, sp.Symbol):
        return Fraction(point[expr])
    if isinstance(expr, sp.Indexed):
        data = point[expr.base]
        for position in expr.indices:
            data = data[int(brute(position, point)) - 1]
        return data
    if isinstance(expr, sp.KroneckerDelta):
        return Fraction(brute(expr.args[0], point) == brute(expr.args[1], point))
    if isinstance(expr, sp.Sum):
        names = [limit[0] for limit in expr.limits]
        ranges = [range(1, int(brute(limit[2], point)) + 1) for limit in expr.limits]
        every = (dict(zip(names, at, strict=True)) for at in product(*ranges))
        return sum((brute(expr.function, {**point, **at}) for at in every), Fraction(0))
    if isinstance(expr, sp.Add):
        return sum((brute(arg, point) for arg in expr.args), Fraction(0))
    if isinstance(expr, sp.Mul):
        value = Fraction(1)
        for arg in expr.args:
            value *= brute(arg, point)
        return value
    assert isinstance(expr, sp.Pow), expr
    return brute(expr.base, point) ** int(expr.exp)


def small(expr):
    """Whether brute force takes no time."""
    return sp.count_ops(expr) < 60 and sum(len(node.limits) for node in expr.atoms(sp.Sum)) <= 4


@settings(max_examples=150, deadline=None)
@given(expressions)
def test_the_normal_form_has_the_value_of_the_expression(expr):
    """At every size, in exact fractions; this is soundness."""
    assume(small(expr))
    try:
        form = to_expr(NormalForm().of(expr))
    except NotAlgebraic:
        return
    for point in points():
        assert brute(form, point) == brute(expr, point), form


@settings(max_examples=100, deadline=None)
@given(expressions, expressions)
def test_what_is_said_to_vanish_vanishes(first, second):
    """The zero test on differences, deltas between free indices included."""
    assume(small(first) and small(second))
    form = NormalForm()
    try:
        zero = is_zero(form.of(first - second), form)
    except NotAlgebraic:
        return
    if zero:
        for point in points():
            assert brute(first, point) == brute(second, point)


@settings(max_examples=100, deadline=None)
@given(terms, terms)
def test_a_product_is_the_product_of_the_normal_forms(first, second):
    """Multiplying before or after makes no difference."""
    form = NormalForm()
    left = form.of(sum_over(first, W.i) * sum_over(second, W.j))
    right = form.multiply(form.of(sum_over(first, W.i)), form.of(sum_over(second, W.j)))
    assert is_zero(form.of(to_expr(left) - to_expr(right)), form)


@settings(max_examples=100, deadline=None)
@given(terms)
def test_a_derivative_in_an_entry_is_that_of_the_oracle(expr):
    """SymPy's diff of a sum with deltas contracted, against nilpotent numbers."""
    from grape_spec.language import Diff

    statement = Diff(sum_over(expr * W.u[W.i] ** 2, W.i), W.u[W.k])
    try:
        form = to_expr(NormalForm().of(statement))
    except NotAlgebraic:
        return
    for point in points():
        exact, found = (value_of(Evaluator(point).number(e)) for e in (statement, form))
        assert exact.overlaps(found)


def test_an_antisymmetric_reciprocal_keeps_its_sign_however_sums_nest():
    """Σ f/(3a_j − a_k): reordering the bound variables must not lose the sign that the divisor is normalised by."""
    body = W.square[W.i, W.j] * W.square[W.k, W.i] / (3 * W.width[W.j] - W.width[W.k])
    for order in permutations(INDICES):
        expr = sum_over(body, *order)
        form = to_expr(NormalForm().of(expr))
        for point in points():
            assert brute(form, point) == brute(expr, point), (order, form)


# -- rearrangements that must be recognised ---------------------------------------------------------------------


def recognised(left, right):
    """The two sides have one normal form."""
    form = NormalForm()
    assert is_zero(form.of(left - right), form), f"{left} and {right} are not seen to be equal"


plain = st.lists(
    leaves().filter(lambda leaf: not leaf.atoms(sp.KroneckerDelta) and W.width not in leaf.atoms(sp.IndexedBase)),
    min_size=1,
    max_size=3,
).map(lambda factors: sp.Mul(*factors))


@settings(max_examples=60, deadline=None)
@given(plain)
def test_bound_variables_have_no_name(body):
    """Σ_i f(i) = Σ_k f(k)."""
    assume(W.k not in body.free_symbols)
    recognised(sum_over(body, W.i), sum_over(substitute(body, {W.i: W.k}), W.k))


@settings(max_examples=60, deadline=None)
@given(plain)
def test_sums_commute(body):
    """Σ_i Σ_j = Σ_j Σ_i, and over columns, too."""
    recognised(sum_over(body, W.i, W.j), sum_over(body, W.j, W.i))
    recognised(sum_over(body, W.i, W.s), sum_over(body, W.s, W.i))


@settings(max_examples=60, deadline=None)
@given(plain, plain)
def test_sums_distribute(first, second):
    """Σ (a + b) = Σ a + Σ b."""
    recognised(sum_over(first + second, W.i), sum_over(first, W.i) + sum_over(second, W.i))


@settings(max_examples=60, deadline=None)
@given(plain, plain)
def test_factors_leave_a_sum(factor, body):
    """Σ c b = c Σ b where c has no bound variable."""
    assume(W.i not in factor.free_symbols)
    recognised(sum_over(factor * body, W.i), factor * sum_over(body, W.i))


@settings(max_examples=60, deadline=None)
@given(plain)
def test_deltas_pick_an_entry(body):
    """Σ_i δ(i, k) f(i) = f(k)."""
    recognised(sum_over(delta(W.i, W.k) * body, W.i), substitute(body, {W.i: W.k}))


@settings(max_examples=40, deadline=None)
@given(plain, plain)
def test_a_product_of_sums_is_a_sum_over_pairs(first, second):
    """Σ_i a Σ_i b = Σ_i Σ_j a(i) b(j)."""
    assume(not {W.j} & (first.free_symbols | second.free_symbols))
    pairs = sum_over(first * substitute(second, {W.i: W.j}), W.i, W.j)
    recognised(sum_over(first, W.i) * sum_over(second, W.i), pairs)


# -- single rules -----------------------------------------------------------------------------------------------


def test_known_identities():
    """One for each rule of the normal form."""
    w = W
    recognised(sum_over(w.p[w.i], w.i), sp.Integer(1))
    recognised(sum_over(w.pairs[w.s, w.i], w.i), sp.Integer(1))
    recognised(sum_over(sp.Integer(1), w.i), w.rows)
    recognised(sum_over(w.p[w.i] * w.p[w.j], w.i, w.j), sp.Integer(1))
    recognised(delta(w.i, w.j) ** 2, delta(w.i, w.j))
    recognised(delta(w.i, w.j) * w.u[w.i], delta(w.i, w.j) * w.u[w.j])
    recognised(exp(w.u[w.i] + w.x) * exp(-w.x), exp(w.u[w.i]))
    recognised(log(w.q[w.i] * exp(w.x) / 6), log(w.q[w.i]) + w.x - log(sp.Integer(2)) - log(sp.Integer(3)))
    recognised(exp(log(w.q[w.i]) * 2), w.q[w.i] ** 2)
    recognised(sum_over(exp(w.u[w.i]) / sum_over(exp(w.u[w.j]), w.j), w.i), sp.Integer(1))
    recognised(1 / (1 + exp(-w.x)), exp(w.x) / (1 + exp(w.x)))
    recognised(sum_over(Max(w.u[w.i], 0) * delta(w.i, w.k), w.i), Max(w.u[w.k], 0))
    recognised(sum_over(w.u[w.i], w.i) ** 2, sum_over(w.u[w.i] * w.u[w.j], w.i, w.j))


def test_every_divisor_is_recorded():
    """Unless its form shows that it is positive."""
    form = NormalForm()
    form.of(1 / (W.x - 1) + W.u[W.i] / (W.u[W.j] * W.q[W.i]) + 1 / (1 + exp(W.x)))
    assert {abs(d) for d in form.nonzero} == {abs(W.x - 1), abs(W.u[W.j])}


def test_a_divisor_that_cancels_is_still_recorded():
    """(x² − 1)/(x − 1) − x − 1 is zero in the field, and x ≠ 1 has to be shown."""
    form = NormalForm()
    assert is_zero(form.of((W.x**2 - 1) / (W.x - 1) - W.x - 1), form)
    assert {abs(d) for d in form.nonzero} == {abs(W.x - 1)}
    assert not Context().agree((W.x**2 - 1) / (W.x - 1), W.x + 1)
    assert Context((sp.Ne(W.x, 1, evaluate=False),)).agree((W.x**2 - 1) / (W.x - 1), W.x + 1)


def test_logarithms_split_only_where_the_factors_are_positive():
    """log(uq) stays whole, log(pq) does not."""
    assert to_expr(NormalForm().of(log(W.u[W.i] * W.q[W.i]))) == log(W.u[W.i] * W.q[W.i])
    assert to_expr(NormalForm().of(log(W.p[W.i] * W.q[W.i]))) == log(W.p[W.i]) + log(W.q[W.i])
    assert to_expr(NormalForm().of(log(-W.q[W.i]))) == log(-W.q[W.i])


def test_relations_are_used_for_any_row_and_for_nothing_else():
    """Σ_s table[i, s] = x: of row j, too; not of squares, not with a weight, not of columns."""
    form = NormalForm([equals(sum_over(W.table[W.i, W.s], W.s), W.x)])
    assert to_expr(form.of(sum_over(W.table[W.j, W.s], W.s))) == W.x
    assert to_expr(form.of(sum_over(3 * W.table[W.j, W.s], W.s))) == 3 * W.x
    assert to_expr(form.of(sum_over(W.table[W.i, W.s], W.i, W.s))) == W.rows * W.x
    for other in (W.table[W.i, W.s] ** 2, W.table[W.i, W.s] * W.s, W.table[W.i, W.s] * W.pairs[W.s, W.i]):
        assert to_expr(form.of(sum_over(other, W.s))).atoms(sp.Sum)
    assert to_expr(form.of(sum_over(W.table[W.i, W.s], W.i))).atoms(sp.Sum)


REFUSED = {
    "a cube root": lambda: sp.cbrt(W.x**2 + 1),
    "a symbolic power": lambda: W.q[W.i] ** W.x,
    "a case distinction": lambda: sp.Piecewise((W.x, W.x > 0), (0, True)),
    "a sum that starts elsewhere": lambda: sp.Sum(W.u[W.i], (W.i, 2, W.rows)),
    "a range that depends on a bound variable": lambda: sp.Sum(W.i, (W.i, 1, W.j), (W.j, 1, W.rows)),
    "a division by zero": lambda: 1 / sp.Add(sum_over(W.u[W.i], W.i), -sum_over(W.u[W.j], W.j)),
    "the logarithm of zero": lambda: log(sum_over(W.u[W.i], W.i) - sum_over(W.u[W.j], W.j)),
    "a delta on another axis": lambda: sum_over(delta(W.i, W.s) * W.u[W.i], W.i),
    "a delta at a number": lambda: sum_over(delta(W.i, 2) * W.u[W.i], W.i),
    "a shifted delta": lambda: sum_over(delta(W.i + 1, W.j) * W.u[W.i], W.i),
    "a complex number": lambda: W.x * sp.I,
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_has_no_normal_form_is_refused(name):
    """With the one exception that a prover turns into unknown."""
    with pytest.raises(NotAlgebraic):
        NormalForm().of(REFUSED[name]())


def test_sums_at_a_fixed_size_are_written_out():
    """Three terms, each with its own entry."""
    total = sp.Sum(W.u[W.i] * W.i, (W.i, 1, 3))
    assert to_expr(NormalForm().of(total)) == W.u[1] + 2 * W.u[2] + 3 * W.u[3]


def test_a_logarithm_of_no_known_sign_does_not_vanish():
    """False is no proof of anything: log(x²) − 2 log x is left open, and the true one is found."""
    form = NormalForm()
    assert not is_zero(form.of(log(W.u[W.i] ** 2) - 2 * log(W.u[W.i])), form)
    assert is_zero(form.of(log(W.q[W.i] ** 2) - 2 * log(W.q[W.i])), form)


def test_numbers_with_large_factors_and_large_powers_end():
    """A root or a logarithm of a product of two large primes stays in one piece, and equal ones are equal."""
    number = sp.Integer((10**18 + 9) * (10**18 + 3))
    for f in (log, sp.sqrt):
        assert Context().agree(f(number * 9) - f(number * 9), sp.S.Zero)
        assert not Context().agree(f(number), f(number + 2))
    assert Context().agree(log(number * 8), log(number) + 3 * log(2))
    with pytest.raises(NotAlgebraic, match="the exponent 10000000000 is too large"):
        Context().agree((W.x + 1) ** 10**10, W.x)

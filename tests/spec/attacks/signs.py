"""Signs, ranges and positions that hold in one place and are used in another.

What SymPy knows of a symbol from its domain is false of what a definition puts in its place, and the axis that a
position is on is another one at the next size."""

from grape_spec.language import (
    Apply,
    At,
    Diff,
    OneSided,
    at_least,
    at_most,
    delta,
    differs,
    equals,
    greater,
    holds,
    index,
    product_over,
    recursive,
    sum_over,
)
from grape_spec.language.domains import Naturals
from grape_spec.proof.rules import (
    algebra,
    by_terms,
    chain,
    finite_sum,
    from_minimum,
    induction,
    near,
    over_depth,
    rewrite,
    slope,
    smt,
    step,
    termwise,
    within_depth,
)
from grape_spec.proof.rules.equations import Algebra
from sympy import Integer, Lambda, Max, Min, Rational, exp, log, sqrt

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, c, d, e, f, g, i, j, k, l, m, n, of, p, q, r, u, v, x, y, z

attack = attacks_on("signs")

# A definition of a positive number, applied to one that is not.


def slope_of_size():
    """|r|′ for a positive r."""
    return of("slope_of_size", (r,), Diff(w.mag(r), r))


def size_at():
    """|r| at r := x."""
    return of("size_at", (x,), At(w.mag(r), r, x))


def lit_at():
    """δ(e, −1) at e := x."""
    return of("lit_at", (x,), At(of("lit", (y,), delta(y, -1))(e), e, x))


attack("the slope of |r| at −5", "−1", lambda: holds(equals(slope_of_size()(-5) + 0 * x, 1), by=algebra()), at={x: 0})
attack("the slope of |r| at −5, by smt", "−1", lambda: holds(greater(slope_of_size()(-5), 0 * x), by=smt()), at={x: 0})
attack("the slope of |r| at x", "x = −1", lambda: holds(equals(slope_of_size()(x), 1), by=algebra()), at={x: -1})
attack(
    "the slope of |r| at a logarithm",
    "x = 1/2",
    lambda: holds(equals(slope_of_size()(log(x)), 1), by=algebra(), assuming=[greater(x, 0)]),
)
attack("|r| at x, inside a definition", "x = −1", lambda: holds(equals(size_at()(), x), by=algebra()), at={x: -1})
attack("|r| at x, inside a definition, by smt", "x = −1", lambda: holds(equals(size_at()(), x), by=smt()), at={x: -1})
attack(
    "|r| at u, inside a definition, in a sum",
    "u = −1",
    lambda: holds(equals(sum_over(size_at()(u[i]), i), sum_over(u[i], i)), by=finite_sum()),
)
attack("a delta at −1, inside a definition", "x = −1", lambda: holds(equals(lit_at()(), 0), by=algebra()), at={x: -1})
attack(
    "|r| at x, inside two definitions",
    "x = −1",
    lambda: holds(equals(of("outer", (y,), 2 * size_at()(y))(x), 2 * x), by=algebra()),
    at={x: -1},
)
attack(
    "|r| at x, in an assumption",
    "x = −1",
    lambda: holds(greater(x, 0), by=smt(), assuming=[greater(size_at()(x) * exp(y), 0)]),
)
attack(
    "the slope of Σ|q|, at a family of numbers",
    "u = −1",
    lambda: holds(
        equals(of("slopes", (q, k), Diff(sum_over(w.mag(q[i]), i), q[k]))(Lambda(i, u[i]), k), 1), by=finite_sum()
    ),
)
attack(
    "the slope of Σ|q|, at another family",
    "u = −1",
    lambda: holds(equals(of("slopes", (q, k), Diff(sum_over(w.mag(q[i]), i), q[k]))(u, k), 1), by=finite_sum()),
)
attack(
    "Σ|q| at a family of numbers",
    "u = −1",
    lambda: holds(
        equals(of("sizes_at", (u,), At(sum_over(w.mag(q[i]), i), q, u))(u), sum_over(u[i], i)), by=finite_sum()
    ),
)
attack("0 · |e|′", "e = 0", lambda: holds(equals(w.mul(0, Diff(w.mag(e), e)), 0), by=smt()))
attack("|e|′ − |e|′", "e = 0", lambda: holds(equals(w.minus(Diff(w.mag(e), e), Diff(w.mag(e), e)), 0), by=smt()))
attack("0 · (|r|′ at 0)", "no slope", lambda: holds(equals(w.mul(0, At(Diff(w.mag(r), r), r, 0)), 0 * x), by=smt()))
attack(
    "0 · (max(e, 0)′)",
    "e = 0",
    lambda: holds(equals(w.mul(0, Diff(of("ramp", (x,), Max(x, 0))(e), e)), 0), by=smt()),
)
attack(
    "0 · (max(e, −y)′)",
    "e = −y",
    lambda: holds(equals(w.mul(0, Diff(Max(e, -y), e)), 0), by=smt()),
)
attack(
    "a slope that exists, taken for one of the same form",
    "e = 0",
    lambda: holds(equals(Diff(e, e), 1 + w.mul(0, Diff(w.mag(e), e))), by=by_terms()),
)
attack(
    "a slope that exists in a chain, taken for another",
    "e = 0",
    lambda: holds(
        equals(Diff(e, e), 1 + w.mul(0, Diff(w.mag(e), e))),
        by=chain(step(1 + w.mul(0, Diff(w.mag(e), e)), by=near(e, radius=1))),
    ),
)
attack(
    "|e|, near itself",
    "e = 0",
    lambda: holds(equals(Diff(w.mag(e), e), 1 + w.mul(0, x)), by=near(w.mag(e), radius=1)),
)
attack(
    "a recursion of |e| has a slope at its edge",
    "e = 0",
    lambda: holds(
        equals(w.mul(0, Diff(recursive("at.edged", "", (d, e), d, w.mag(e), lambda go: go() + e)(), e)), 0), by=smt()
    ),
)

# Slopes that SymPy takes where there is none.

attack("δ(x, 0)′ = 0, term by term", "x = 0", lambda: holds(equals(Diff(delta(x, 0), x), 0), by=by_terms()))
attack(
    "δ(x, 0)′ = 0, near itself", "x = 0", lambda: holds(equals(Diff(delta(x, 0), x), 0), by=near(delta(x, 0), radius=1))
)
attack(
    "a minimum of what is lit at a point",
    "x = 1",
    lambda: holds(at_least(delta(x, 0) - 1, 0), by=from_minimum(of=delta(x, 0) - 1, over=x, at=0)),
    at={x: 1},
)
attack(
    "a bent recursion, term by term",
    "x = 0",
    lambda: holds(equals(Diff(2 * w.kinked(), x), 2 * Diff(w.kinked(), x)), by=by_terms()),
)
attack(
    "a bent recursion, near itself",
    "x = 0",
    lambda: holds(equals(Diff(w.kinked(), x), Diff(w.kinked(), x) + 0 * y), by=near(w.kinked(), radius=1)),
)
attack(
    "a minimum of a bent recursion",
    "x = −1, d = 1",
    lambda: holds(at_least(w.kinked(1, x), 1 - exp(y)), by=from_minimum(of=w.kinked(1, x), over=x, at=0)),
)
attack(
    "a radius that shrinks to nothing",
    "x = 0",
    lambda: holds(equals(Diff(w.mag(x), x), 1), by=slope(radius=w.mag(x))),
)
attack(
    "a form that has its kink at the point",
    "x = y",
    lambda: holds(equals(Diff(Max(x, y), x), 1), by=near(w.mag(x - y) + y, radius=1)),
)
attack(
    "a form that is the same at the point alone",
    "slope 2x",
    lambda: holds(equals(Diff(x**2, x), 1), by=near(x, radius=1), assuming=[equals(x, 0)]),
)
attack(
    "a slope at the edge of a root",
    "e = 0",
    lambda: holds(equals(OneSided(w.root(e), e, 0, 1), 0), by=slope(radius=1)),
)
attack(
    "a slope from the wrong side of an edge",
    "x = 0",
    lambda: holds(equals(OneSided(w.root(x) ** 2, x, 0, -1), 1), by=slope(radius=1)),
)

# Ranges that depend on another index.


def harmonic():
    """Σ 1/i up to a size."""
    return of("harmonic", (n,), sum_over(1 / i, i))


def transposed():
    """Σ s_ik h_i = Σ s_ki h_i."""
    h = harmonic()
    return equals(sum_over(w.square[i, k] * h(i), i, k), sum_over(w.square[k, i] * h(i), i, k))


attack("a sum up to one of two indices, transposed", "n = 2", lambda: holds(transposed(), by=finite_sum()))
attack(
    "a sum up to one of two positions",
    "onward",
    lambda: holds(
        equals(
            sum_over(w.square[i, k] * harmonic()(w.onward[i]), i, k),
            sum_over(w.square[k, i] * Apply("at.harmonic", w.onward[i]), i, k),
        ),
        by=finite_sum(),
    ),
)
attack(
    "as many as the index says",
    "i = 2",
    lambda: holds(equals(sum_over(w.count(i), i), n), by=finite_sum()),
)
attack(
    "a sum up to an index, exchanged",
    "n = 2",
    lambda: holds(equals(sum_over(w.triangle(i), i), n * w.triangle(n)), by=finite_sum()),
)


def led(wrong=1):
    """(u at the first position's next) − u₁, written so that both ends of an induction agree."""
    here = w.onward[1]
    one, there = sum_over(delta(j, here), j), sum_over(delta(j, here) * u[j], j)
    turned = there * (2 - one) + u[here] * (one - 1) - u[1] * (one * (2 - one) + one - 1)
    return equals((3 * one - one**2) * turned * wrong, 0)


attack("induction over the axis that positions are on", "n = 2", lambda: holds(led(), by=induction(n)))
attack("the same, twice", "n = 2", lambda: holds(led(2), by=induction(n)))
attack("the same, at any size", "n = 2", lambda: holds(led(), by=finite_sum()))
attack(
    "positions below a depth",
    "c = 2",
    lambda: holds(equals(w.lengthening(), sum_over(delta(j, w.onward[1]), j) * c**2), by=over_depth(c)),
)
attack(
    "two numbers for one size",
    "n = 2",
    lambda: holds(equals(w.count(n), 3), by=Algebra(((n, 2), (n, 3)))),
)

# What takes too long is no proof, and neither the search nor the second look hangs.

for name, write in (
    ("a power of powers", lambda: (((x + y + z + 1) ** 90 + 1) ** 90 + 1) ** 90),
    ("the logarithm of a power", lambda: log(((x + y + z) ** 2 + 1) ** 60 + 1)),
    ("the root of a number of 120 digits", lambda: sqrt(x**2 * (10**60 + 7) * (10**61 + 9))),
    ("an exponential of an exponential of ten", lambda: exp(exp(exp(exp(10)))) * x),
    ("a tree of depth 90", lambda: w.drawn(90)),
    ("sixteen sums in one another", lambda: sum_over(u[i] * u[j] * u[k] * u[l], *[i, j, k, l] * 4)),
):
    attack(name, "everywhere but at a few points", lambda write=write: holds(equals(write(), x), by=algebra()))


def nested(depth, inner):
    """A formula within a formula, many times."""

    def part():
        found = x
        for _ in range(depth):
            found = inner(found)
        return holds(equals(found, 0), by=smt())

    return part


attack("sizes within sizes", "everywhere", nested(150, lambda inner: w.mag(inner) + 1))
attack("exponentials within exponentials", "everywhere", nested(90, lambda inner: exp(inner) + y))
attack(
    "a formula that nests without end",
    "everywhere",
    nested(600, lambda inner: exp(inner) + y),
    refused="nest too deeply",
)
attack(
    "an axis of a billion",
    "refused",
    lambda: holds(equals(sum_over(u[i], i), 0), by=algebra(sizes={n: 10**9})),
    refused="at most 100",
)
attack(
    "a depth of a billion",
    "refused",
    lambda: holds(equals(w.counted(10**9) + 0 * x, 1), by=algebra()),
    refused="up to 100",
)
attack("a size of a billion", "refused", lambda: index("at_far", 10**9, ""), refused="from 1 to 100")
attack("a size of at least a billion", "refused", lambda: Naturals("", 10**9), refused="from 0 to 100")

# Order, edges and bounds.

for name, why, statement, assuming in (
    ("a bound from a root alone", "x = 1/4", lambda: at_most(w.root(x), x), lambda: [greater(x, 0)]),
    ("a power of a power", "x = −1", lambda: equals(w.root(x**4) * w.root(x**2), x**3), lambda: []),
    ("a quotient of equals", "x = y", lambda: equals(w.over(x - y, x - y), 1), lambda: []),
    ("a mean of none", "m = 0", lambda: equals(w.over(m * x, m), x), lambda: []),
    ("a minimum of the same", "x ≠ y", lambda: equals(Min(x, y), Max(x, y)), lambda: []),
    ("a size between two integers", "n = 1", lambda: differs(2 * n, n + 1), lambda: []),
    (
        "an inverse that keeps the order",
        "x = 1, y = 2",
        lambda: greater(1 / y, 1 / x),
        lambda: [greater(y, x), greater(x, 0)],
    ),
    (
        "an inverse across zero",
        "x = −1",
        lambda: at_most(1 / x, 1 / y),
        lambda: [greater(x * y, 0), at_least(x, y - 9)],
    ),
    ("a power of a mask", "m = 0", lambda: equals(m**2 + m**3, 2), lambda: []),
    ("a positive function at two points", "g(x) = exp x", lambda: equals(g(x), g(y)), lambda: []),
    ("a positive function is above its slope", "g(x) = exp 2x", lambda: greater(g(x), Diff(g(x), x)), lambda: []),
    ("one hot entry at a size of one", "n = 2", lambda: equals(w.hot[1], 1), lambda: []),
    ("one probability", "n = 2", lambda: equals(p[1], 1), lambda: []),
    ("a product above its factors", "q = 1/2", lambda: at_least(product_over(q[j], j), q[i]), lambda: []),
):
    attack(name, why, lambda statement=statement, assuming=assuming: holds(statement(), by=smt(), assuming=assuming()))

attack(
    "terms below a bound that has no value",
    "x = 0",
    lambda: holds(at_least(sum_over(u[i] ** 2, i), w.mul(0, 1 / x)), by=termwise(w.mul(0, 1 / x))),
)
attack("a product, term by term", "q = 1/2", lambda: holds(at_least(product_over(1 + q[i], i), n), by=termwise(1)))
attack(
    "a bound on a recursion, strictly",
    "d = 0",
    lambda: holds(at_least(w.counted(), d + Rational(1, 2)), by=within_depth(d, by=smt())),
    at={d: 0},
)
attack(
    "a softmax over the wrong row",
    "n = 2",
    lambda: holds(equals(sum_over(w.softmax(i, Lambda(j, w.square[i, j])), i), 1), by=finite_sum()),
)
attack(
    "a row put in with its index free",
    "n = 2",
    lambda: holds(
        equals(sum_over(w.square[i, i] / sum_over(w.square[i, j], j), i), 1),
        by=rewrite("at.row", at_p=Lambda(i, w.square[i, i] / sum_over(w.square[i, j], j))),
    ),
)
attack(
    "a softmax of a table, summed over rows",
    "n = 2",
    lambda: holds(
        equals(sum_over(w.softmax(k, Lambda(j, w.square[i, j])), i), n * w.softmax(k, Lambda(j, w.square[1, j]))),
        by=finite_sum(),
    ),
)
attack(
    "a product over what is one hot",
    "n = 2",
    lambda: holds(equals(product_over(1 + w.hot[i], i), 1 + n), by=finite_sum()),
)
attack(
    "a delta in a product",
    "n = 2",
    lambda: holds(equals(product_over(1 + delta(i, k) * v[i], i), 1 + n * v[k]), by=finite_sum()),
)
attack(
    "a delta under a function",
    "i ≠ k",
    lambda: holds(equals(sum_over(f(delta(i, k)), i), f(1)), by=finite_sum()),
)
attack(
    "a delta in an exponential",
    "i ≠ k",
    lambda: holds(equals(sum_over(exp(delta(i, k)), i), n * exp(Integer(1))), by=finite_sum()),
)

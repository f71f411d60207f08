"""The neighbours of what was mended.

Products beside sums, two axes beside one, masks and one-hot rows, points within points, cases within conditions,
definitions within definitions, and assumptions that no point satisfies."""

import sympy as sp
from grape_spec.language import (
    At,
    Diff,
    at_least,
    cases,
    define,
    equals,
    greater,
    holds,
    less,
    product_over,
    recursive,
    sum_over,
)
from grape_spec.proof.rules import algebra, by_terms, fact, finite_sum, induction, rewrite, smt, termwise
from sympy import Integer, Lambda, Rational, exp, log

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, c, d, i, j, k, l, m, n, of, p, q, s, t, u, v, x, y, z

attack = attacks_on("neighbours")

# -- sizes that stay hidden ---------------------------------------------------------------------------------------


def hidden():
    """n · Σ_{i ≤ n} x, where the second n is in a definition and cannot be replaced."""
    return of("hidden", (x, n), w.total(Lambda(i, x)) * n)


attack(
    "a size that a definition hides",
    "n = 1, c = 2: 4x",
    lambda: holds(equals(hidden()(x, c), n * c * x), by=finite_sum()),
    refused="make at_n an argument of at.total",
)
attack(
    "a size that a definition within a definition hides",
    "n = 1, c = 2: 2 + 4x",
    lambda: holds(equals(of("around", (x, n), n + hidden()(x))(x, c), c + n * c * x), by=finite_sum()),
    refused="make at_n an argument of at.total",
)
attack(
    "a size that is hidden, at a point",
    "c ≠ n",
    lambda: holds(equals(At(w.total(Lambda(i, x)), n, c), n * x), by=finite_sum()),
    refused="replaces at_n",
)
attack(
    "one entry more",
    "the last",
    lambda: holds(greater(w.partial(q, n + 1), 0), by=smt()),
    refused="over at_n + 1",
)
attack(
    "one entry less, of one",
    "n = 1",
    lambda: holds(equals(w.count(n - 1), n - 1), by=finite_sum(), assuming=[at_least(n, 1)]),
    refused="without assumptions",
)

# -- products -----------------------------------------------------------------------------------------------------

attack(
    "a sum of products over the index that they share",
    "n = 2",
    lambda: holds(
        equals(sum_over(product_over(u[i] + v[j], i), j), product_over(sum_over(u[i] + v[j], j), i)), by=finite_sum()
    ),
)
attack(
    "a product of squares",
    "q = 2",
    lambda: holds(equals(product_over(q[i] ** 2, i), product_over(q[i], i)), by=finite_sum()),
)
attack(
    "the product of another column",
    "s ≠ t",
    lambda: holds(equals(product_over(w.table[i, s], i), product_over(w.table[i, t], i)), by=finite_sum()),
)
attack(
    "0 · the logarithm of a product",
    "u < 0",
    lambda: holds(equals(w.mul(0, log(product_over(u[i], i))), 0 * x), by=finite_sum()),
)
attack(
    "a product is differentiated as a sum",
    "n = 2",
    lambda: holds(equals(Diff(product_over(u[i], i), u[k]), 1), by=finite_sum()),
)
attack(
    "a product over an entry of it",
    "u_k = 0",
    lambda: holds(equals(Diff(product_over(u[i], i), u[k]), w.over(product_over(u[i], i), u[k])), by=finite_sum()),
)
attack(
    "induction over a product",
    "n = 2",
    lambda: holds(equals(product_over(Integer(2), i), 2 * n), by=induction(n)),
)

# -- two axes -----------------------------------------------------------------------------------------------------

attack("rows are symmetric", "rows (1, 0)", lambda: holds(equals(w.rows[i, j], w.rows[j, i]), by=smt()))
attack(
    "columns of rows that sum to one, of another length",
    "n = 2, c = 1",
    lambda: holds(equals(sum_over(w.pairs[i, s], i), 1), by=finite_sum()),
)
attack(
    "a row put in across",
    "transposed",
    lambda: holds(equals(sum_over(w.pairs[i, s], i), 1), by=rewrite("at.row", at_p=Lambda(j, w.pairs[j, s]))),
)
attack(
    "an entry and its mirror image",
    "∂ is 2·square[l, k]",
    lambda: holds(
        equals(Diff(sum_over(w.square[i, j] * w.square[j, i], i, j), w.square[k, l]), w.square[l, k]), by=by_terms()
    ),
)
attack(
    "the entry itself for its mirror image",
    "k ≠ l",
    lambda: holds(
        equals(Diff(sum_over(w.square[i, j] * w.square[j, i], i, j), w.square[k, l]), 2 * w.square[k, l]),
        by=finite_sum(),
    ),
)
attack(
    "the own term where other terms read the entry, too",
    "n = 2",
    lambda: holds(equals(Diff(sum_over(u[i] * u[j], i), u[j]), 2 * u[j]), by=by_terms()),
)
attack(
    "the slope of a sum of absolute values",
    "u_k = 0",
    lambda: holds(equals(w.mul(0, Diff(sum_over(w.mag(u[i]), i), u[k])), 0 * x), by=finite_sum()),
)

# -- masks and one-hot rows ---------------------------------------------------------------------------------------

attack("one hot entry, twice", "i ≠ j", lambda: holds(equals(w.hot[i] * w.hot[j], w.hot[i]), by=finite_sum()))
attack(
    "the first of two is hot",
    "hot = (0, 1)",
    lambda: holds(equals(w.hot[1], 1 + 0 * sum_over(w.hot[i], i)), by=algebra(sizes={n: 2})),
)
attack("a mask over itself", "m = 0", lambda: holds(equals(w.over(m, m), 1), by=algebra()))
attack("two masks are one", "m = (1, 0)", lambda: holds(equals(w.mask[i] * w.mask[j], w.mask[i]), by=finite_sum()))
attack(
    "a mask of a mask of a sum",
    "n = 2",
    lambda: holds(equals(sum_over(w.mask[i] * sum_over(w.mask[j], j), i), sum_over(w.mask[i], i)), by=finite_sum()),
)
attack(
    "a derivative with respect to a mask",
    "0 or 1",
    lambda: holds(equals(Diff(m * x, m), x), by=algebra()),
    refused="expected a real number",
)

# -- points within points -----------------------------------------------------------------------------------------

attack("x for y and y for x", "y − y", lambda: holds(equals(At(At(x - y, x, y), y, x), x - y), by=algebra()))
attack(
    "a slope at a point within a point",
    "∂(xy)/∂x at y = x = z is z",
    lambda: holds(equals(At(At(Diff(x * y, x), y, x), x, z), 2 * z), by=algebra()),
)
attack(
    "an index put under its own sum",
    "n = 2",
    lambda: holds(equals(At(sum_over(u[i] * v[j], i), j, i), sum_over(u[i] * v[i], i)), by=finite_sum()),
)
attack(
    "0 · the slope of |x| at y",
    "y = 0",
    lambda: holds(equals(w.mul(0, At(Diff(w.mag(x), x), x, y)), 0 * z), by=algebra()),
)
attack(
    "0 · the logarithm at −1",
    "everywhere",
    lambda: holds(equals(w.mul(0, At(w.lg(x), x, -1)), 0 * z), by=algebra()),
)

# -- cases within conditions --------------------------------------------------------------------------------------


def one_if(condition):
    """1 where a condition holds, else 0."""
    return cases((1, condition), (0, True))


attack(
    "of two, one is at least the other",
    "x = y: both",
    lambda: holds(equals(one_if(x >= y) + one_if(y >= x), 1), by=smt()),
    at={x: 1, y: 1},
)
attack(
    "a case within a condition",
    "x = 0",
    lambda: holds(equals(one_if(sp.Gt(cases((x, x > 0), (0, True)), 0, evaluate=False)), 1), by=smt()),
    refused="got ITE",
)
attack(
    "0 · the slope of a jump",
    "x = 0",
    lambda: holds(equals(w.mul(0, Diff(one_if(x > 0), x)), 0), by=smt()),
)


def a_jump_by_recursion():
    """x·sgn x = |x| has no slope at 0, though 0 times that of sgn x is nothing."""
    sign = recursive("at.sign", "", (d, x), d, cases((1, x >= 0), (-1, True)), lambda go: go())
    return holds(equals(Diff(x * sign(), x), sign()), by=by_terms(), assuming=[equals(x, 0)])


attack("the sum rule for a recursion that jumps", "x = 0", a_jump_by_recursion)

# -- definitions within definitions -------------------------------------------------------------------------------

attack(
    "a pole two definitions below",
    "x = 1",
    lambda: holds(equals(w.mul(0, of("below", (x,), w.over(1, x - 1))(x)), 0), by=smt()),
)
attack(
    "a root of a logarithm, two definitions below",
    "x = 1/2",
    lambda: holds(equals(w.mul(0, of("below", (x,), w.root(w.lg(x)))(x)), 0), by=algebra(), assuming=[greater(x, 0)]),
)
attack(
    "a slope two definitions below",
    "y = 0",
    lambda: holds(equals(w.mul(0, of("below", (x,), Diff(w.mag(x), x))(y)), 0), by=algebra()),
)
attack(
    "a positive definition of a number that is not",
    "x = −1",
    lambda: holds(greater(of("twice", (w.r,), 2 * w.r, domain=w.Positive)(x), 0), by=smt()),
)
attack(
    "a positive definition of weights that are not",
    "u = −1",
    lambda: holds(greater(of("all", (q,), sum_over(q[i], i), domain=w.Positive)(u), 0), by=smt()),
)


def goes_round():
    """A definition that is made of a recursion while that is written."""
    made = recursive("at.round", "", (d, x), d, x, lambda go: go() + define("at.ring", "", (d, x), go() + 1)(d + 1, x))
    return holds(equals(made(d + 1, x), made(d + 1, x) + 1), by=smt())


attack("a recursion in a circle", "f(d + 1) = f(d + 1) + 1", goes_round, refused="is being written")

# -- what no point satisfies --------------------------------------------------------------------------------------

for name, assuming in (
    ("below and above zero", lambda: [less(x, 0), greater(x, 0)]),
    ("probabilities that sum to two", lambda: [equals(sum_over(p[i], i), 2)]),
    ("two totals of one sum", lambda: [equals(sum_over(u[i], i), 1), equals(sum_over(u[j], j), 2)]),
    ("an exponential below zero", lambda: [less(exp(x), 0)]),
    ("half a mask", lambda: [equals(m, Rational(1, 2))]),
    ("a one-hot row of twos", lambda: [equals(w.hot[i], 2)]),
    ("a size of a half", lambda: [equals(n, Rational(1, 2))]),
):
    for by in (smt(), finite_sum()):
        attack(
            f"{name}, by {by.engine}",
            "no point satisfies the assumptions",
            lambda by=by, assuming=assuming: holds(equals(y, 0), by=by, assuming=assuming()),
        )

# -- values for the symbols of a claim ----------------------------------------------------------------------------

attack(
    "1/x for a positive number, for x ≥ 0",
    "x = 0",
    lambda: holds(
        equals(w.mag(w.over(1, x)), w.over(1, x)),
        by=rewrite("at.mag_of_positive", at_r=w.over(1, x)),
        assuming=[at_least(x, 0)],
    ),
)
attack(
    "a bound on each term from a claim on others",
    "u = (−1, 0), i = 2",
    lambda: holds(at_least(sum_over(u[j], j), 0), by=termwise(0, given=[fact("at.square", at_x=u[i])])),
)

# -- what takes long ----------------------------------------------------------------------------------------------

attack(
    "a power that nobody can write out",
    "x = 0",
    lambda: holds(equals((x + 1) ** 10**10, x), by=algebra()),
    refused="expected one of at most 100",
)
attack(
    "a sum that nobody can write out",
    "u = 1, x = 0",
    lambda: holds(equals(sum_over(u[i], i), x), by=algebra(sizes={n: 10**9})),
    refused="expected a whole number of at most 100",
)
attack(
    "a number that nobody can factor",
    "x = 0",
    lambda: holds(equals(log(Integer(10**40 + 121) * Integer(10**41 + 37)), x), by=algebra()),
)

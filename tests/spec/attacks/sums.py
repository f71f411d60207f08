"""Sums over the wrong thing: merged indices, deltas off their axis, means of products.

Every loss is a sum over tokens, responses and prompts, and most mistakes in losses are in its weights and indices."""

from grape_spec.language import At, at_most, delta, equals, holds, index, product_over, sum_over
from grape_spec.proof.rules import algebra, finite_sum, induction, rewrite, termwise
from sympy import Lambda, Max, Rational, exp, log

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, c, f, i, j, k, n, of, p, q, s, u, v, x

attack = attacks_on("sums")

attack(
    "one index bound twice",
    "n = 2",
    lambda: holds(equals(sum_over(sum_over(u[i], i), i), sum_over(u[i], i)), by=finite_sum()),
)
attack(
    "a delta counts twice",
    "u = 1",
    lambda: holds(equals(sum_over(delta(i, j) * (u[i] + u[j]), i, j), sum_over(u[i], i)), by=finite_sum()),
)
attack(
    "one of two deltas",
    "j ≠ k",
    lambda: holds(equals(sum_over(delta(i, j) * delta(i, k) * u[i], i), u[j]), by=finite_sum()),
)
attack(
    "what is not on the diagonal",
    "n = 1",
    lambda: holds(equals(sum_over((1 - delta(i, j)) ** 2, i), n), by=finite_sum()),
)
attack("a delta on another axis", "s > n", lambda: holds(equals(sum_over(delta(i, s), i), 1), by=finite_sum()))
attack("a delta at 2", "n = 1", lambda: holds(equals(sum_over(delta(i, 2), i), 1), by=finite_sum()))
attack(
    "a captured argument",
    "n = 2",
    lambda: holds(equals(w.total(Lambda(i, u[i] * u[j])), sum_over(u[j] ** 2, j)), by=finite_sum()),
)
attack("a captured index", "n = 2", lambda: holds(equals(sum_over(w.pick(j), j), n * u[j]), by=finite_sum()))
attack(
    "a bound index put to 1",
    "n = 2",
    lambda: holds(equals(sum_over(At(u[i], i, 1), i), sum_over(u[i], i)), by=finite_sum()),
)
attack(
    "a product of sums",
    "n = 2",
    lambda: holds(equals(sum_over(u[i], i) * sum_over(v[i], i), sum_over(u[i] * v[i], i)), by=finite_sum()),
)
attack(
    "the square of a mean",
    "n = 2",
    lambda: holds(equals(sum_over(p[i] * u[i] ** 2, i), sum_over(p[i] * u[i], i) ** 2), by=finite_sum()),
)
attack(
    "independence",
    "n = 2",
    lambda: holds(
        equals(sum_over(p[i] * u[i] * v[i], i), sum_over(p[i] * u[i], i) * sum_over(p[i] * v[i], i)), by=finite_sum()
    ),
)
attack(
    "weights that are not normalised",
    "q = 2",
    lambda: holds(equals(sum_over(q[i] * (u[i] - sum_over(q[j] * u[j], j)), i), 0), by=finite_sum()),
)
attack(
    "k3 under a reference that is not normalised",
    "q = 2",
    lambda: holds(
        equals(sum_over(p[i] * (q[i] / p[i] - 1 - log(q[i] / p[i])), i), sum_over(p[i] * log(p[i] / q[i]), i)),
        by=finite_sum(),
    ),
)
attack("columns of rows that sum to one", "n = 2", lambda: holds(equals(sum_over(w.rows[i, j], i), 1), by=finite_sum()))
attack(
    "the trace of rows that sum to one", "n = 2", lambda: holds(equals(sum_over(w.rows[i, i], i), 1), by=finite_sum())
)
attack(
    "the hot entry is the first",
    "hot = (0, 1)",
    lambda: holds(equals(sum_over(w.hot[i] * u[i], i), u[1]), by=finite_sum()),
)
attack(
    "a sum of masks is a mask",
    "n = 2",
    lambda: holds(equals(sum_over(w.mask[i], i) ** 2, sum_over(w.mask[i], i)), by=finite_sum()),
)
attack(
    "a real number is a mask",
    "u = 2",
    lambda: holds(equals(sum_over(u[i] ** 2, i), sum_over(u[i], i)), by=finite_sum()),
)
attack(
    "transposed",
    "n = 2",
    lambda: holds(
        equals(sum_over(w.square[i, j] * u[i], i, j), sum_over(w.square[i, j] * u[j], i, j)), by=finite_sum()
    ),
)
attack("a product of a constant", "n = 2", lambda: holds(equals(product_over(x, i), x), by=finite_sum()))
attack(
    "Π Σ = Σ Π",
    "n = c = 2",
    lambda: holds(
        equals(product_over(sum_over(w.table[i, s], s), i), sum_over(product_over(w.table[i, s], i), s)),
        by=finite_sum(),
    ),
)
attack(
    "antisymmetric",
    "n = 1",
    lambda: holds(
        equals(sum_over(w.square[i, j] / (3 * q[i] + q[j]), i, j), -sum_over(w.square[j, i] / (3 * q[j] + q[i]), i, j)),
        by=finite_sum(),
    ),
)


def inner():
    """Σ_j Σ_j′ δ(j, j′), and n."""
    return w.total(Lambda(k, w.pick(k, Lambda(i, 1))))


attack(
    "a definition that nests sums over one index, put under that index",
    "n = 2: a renamed index meets the other one, j′ = j′",
    lambda: holds(equals(w.pick(i, Lambda(k, inner())), n**2), by=finite_sum()),
)
few = (n - 1) * (n - 2) * (n - 3) * (n - 4)
attack(
    "the same, as a bound that the audit finds sound",
    "n = 5: 2400",
    lambda: holds(at_most(sum_over(few * (n**2 - w.pick(i, Lambda(k, inner()))), i), 0), by=termwise(0)),
    at={n: 5},
)
attack(
    "an index named like a bound variable of the normal form",
    "n = 2",
    lambda: holds(equals(u[index("_0", n, "")] * sum_over(u[i], i), sum_over(u[i] ** 2, i)), by=finite_sum()),
)
attack(
    "induction with a wrong base", "n = 1", lambda: holds(equals(sum_over(i, i), n * (n + 1) / 2 + 1), by=induction(n))
)
attack("induction with a wrong step", "n = 2", lambda: holds(equals(sum_over(i, i), n**2), by=induction(n)))
attack("induction over the length of a row", "n = 2", lambda: holds(equals(sum_over(p[i] ** 2, i), 1), by=induction(n)))
attack(
    "induction over the other axis",
    "c = 2",
    lambda: holds(equals(sum_over(w.table[i, s], i, s), sum_over(w.table[i, 1], i)), by=induction(n)),
)

for name, why, statement in (
    ("shifted positions", "j = 1", lambda: equals(sum_over(delta(i + 1, j), i), 1)),
    ("even positions", "j = 1", lambda: equals(sum_over(delta(2 * i, j), i), 1)),
    ("doubled positions", "u = 1", lambda: equals(sum_over(delta(2 * i, 2 * j) * u[i], i), 2 * u[j])),
    ("a number is a position", "x = 1/2", lambda: equals(sum_over(delta(i, x), i), 1)),
    ("equal entries are one", "u = (1, 1)", lambda: equals(sum_over(delta(u[i], u[j]), j), 1)),
    ("equal entries are at one place", "u = (1, 1)", lambda: equals(sum_over(delta(u[i], u[j]) * v[j], j), v[i])),
    ("different positions have different entries", "u = (1, 1)", lambda: equals(delta(u[i], u[j]), delta(i, j))),
    ("an axis of the other's size", "col = 2", lambda: equals(delta(n, c) * sum_over(w.col[s], s), delta(n, c) * n)),
    (
        "an extremum, transposed",
        "n = 2",
        lambda: equals(sum_over(Max(w.square[i, j], 0) * u[i], i, j), sum_over(Max(w.square[i, j], 0) * u[j], i, j)),
    ),
    ("a function, transposed", "n = 2", lambda: equals(sum_over(f(i, x) * u[j], i, j), sum_over(f(i, x) * u[i], i, j))),
    ("a function pulled out", "f(i, x) = i", lambda: equals(sum_over(f(i, x), i), n * f(1, x))),
    (
        "a product with its transpose",
        "n = 2",
        lambda: equals(sum_over(w.square[i, j] * w.square[j, i], i, j), sum_over(w.square[i, j] ** 2, i, j)),
    ),
    ("a row of another family in its place", "q = 2", lambda: equals(At(sum_over(p[i], i), p, q), 1)),
    ("a definition of rows at a family of numbers", "u = 2", lambda: equals(of("mass", (p,), sum_over(p[i], i))(u), 1)),
    ("a definition of masks at a number", "x = 2", lambda: equals(of("gap", (w.m,), w.m**2 - w.m)(x), 0)),
    ("logarithms of a sum", "n = 2", lambda: equals(log(sum_over(q[i], i)), sum_over(log(q[i]), i))),
    ("an exponential of a sum", "n = 2", lambda: equals(exp(sum_over(u[i], i)), sum_over(exp(u[i]), i))),
    ("a constant out of a product", "n = 2", lambda: equals(product_over(2 * q[i], i), 2 * product_over(q[i], i))),
    ("softmax at another temperature", "x = 2", lambda: equals(w.softmax(i, Lambda(j, x * u[j])), w.softmax(i, u))),
    ("softmax, shifted by a family", "n = 2", lambda: equals(w.softmax(i, Lambda(j, u[j] + v[j])), w.softmax(i, u))),
    ("one hot entry is every", "i ≠ j", lambda: equals(w.hot[i] * w.hot[j], w.hot[i])),
    ("columns of pairs", "n = 2", lambda: equals(sum_over(w.pairs[i, s], i), 1)),
    (
        "a mean under a mask",
        "mask = 0",
        lambda: equals(sum_over(w.mask[i] * u[i], i) / sum_over(w.mask[i], i), sum_over(u[i], i) / n),
    ),
    ("roots of squares", "u = −1", lambda: equals(sum_over(w.root(u[i] ** 2), i), sum_over(u[i], i))),
):
    attack(name, why, lambda statement=statement: holds(statement(), by=finite_sum()))
attack("induction over the last entry", "n = 2", lambda: holds(equals(sum_over(u[i], i), n * u[n]), by=induction(n)))
attack(
    "the last entry by induction is the first",
    "n = 2",
    lambda: holds(equals(sum_over(delta(i, n) * u[i], i), u[1]), by=induction(n)),
)
attack("a sum at two sizes", "n = 3", lambda: holds(equals(w.p[1], w.p[2]), by=algebra(sizes={n: 2})))
attack(
    "fewer than half", "mask = 1", lambda: holds(at_most(sum_over(w.mask[i], i), n / 2), by=termwise(Rational(1, 2)))
)
attack(
    "what is above zero, in sum",
    "u = −1",
    lambda: holds(at_most(sum_over(Max(u[i], 0), i), sum_over(u[i], i)), by=termwise(u[i])),
)
attack(
    "a size rewritten by a sum over it",
    "n = 2",
    lambda: holds(equals(sum_over(u[i], i) + n, sum_over(u[i], i) + n**2), by=rewrite("at.size")),
)

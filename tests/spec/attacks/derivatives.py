"""Derivatives that are not what is written, or that do not exist.

Gradients are what a loss is used for: a kink taken for smooth, a derivative at a captured point or a missing diagonal
are the mistakes that a proof has to find."""

import sympy as sp
from grape_spec.language import (
    At,
    Diff,
    OneSided,
    at_least,
    at_most,
    cases,
    clip,
    delta,
    equals,
    greater,
    holds,
    less,
    product_over,
    sum_over,
)
from grape_spec.proof.rules import algebra, by_terms, chain, chain_rule, fact, finite_sum, near, rewrite, slope, step
from sympy import Integer, Lambda, Max, Rational, exp, log

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, e, f, i, j, k, l, m, n, of, p, r, s, t, u, x, y, z

attack = attacks_on("derivatives")

attack(
    "a mixed derivative for a second one",
    "f(x, y) = xy",
    lambda: holds(equals(Diff(f(x, y), x, y), Diff(f(x, y), x, x)), by=algebra()),
    refused="one number",
)
attack(
    "two arguments made one inside a derivative",
    "i = j, f(x, y) = x + y",
    lambda: holds(
        equals(delta(i, j) * Diff(f(u[i], u[j]), u[i]), delta(i, j) * At(Diff(f(x, y), x), x, u[i])), by=finite_sum()
    ),
    refused="one number",
)
attack(
    "a sum over a delta that makes two arguments one",
    "f(x, y) = x + y",
    lambda: holds(
        equals(sum_over(delta(i, j) * Diff(f(x * u[i], y * u[j]), x), j), Diff(f(x * u[i], x * u[i]), x)),
        by=finite_sum(),
        assuming=[equals(x, y)],
    ),
    refused="one number",
)
attack(
    "∂(Σ u²)/∂u_k without its delta",
    "k ≠ j",
    lambda: holds(equals(Diff(sum_over(delta(i, j) * u[i] ** 2, i), u[k]), 2 * u[j]), by=finite_sum()),
)
attack(
    "the other entries left out",
    "j = k",
    lambda: holds(equals(Diff(sum_over(u[i] * u[j], i), u[k]), u[j]), by=finite_sum()),
)
attack(
    "off the diagonal",
    "k ≠ l",
    lambda: holds(equals(Diff(sum_over(u[i] ** 3, i), u[k], u[l]), 6 * u[k]), by=finite_sum()),
)
attack(
    "∂²log Σexp without the diagonal",
    "k = l",
    lambda: holds(equals(Diff(log(sum_over(exp(u[i]), i)), u[k], u[l]), -w.softmax(k) * w.softmax(l)), by=finite_sum()),
)
attack(
    "through a Lambda",
    "n = 2",
    lambda: holds(equals(Diff(w.total(Lambda(i, u[i] ** 2)), u[k]), sum_over(2 * u[i], i)), by=finite_sum()),
)
attack(
    "the index of the sum is that of the derivative",
    "n = 2",
    lambda: holds(equals(Diff(sum_over(u[k] ** 2, k), u[k]), 2 * sum_over(u[k], k)), by=finite_sum()),
)
attack("|x|′ = 1 for x ≥ 0", "e = 0", lambda: holds(equals(Diff(w.mag(e), e), 1), by=slope(radius=1)))
attack("|x|′ = 1 for x ≥ 0, near", "e = 0", lambda: holds(equals(Diff(w.mag(e), e), 1), by=near(e, radius=1)))
attack("|x| from below at 0", "slope −1", lambda: holds(equals(OneSided(w.mag(x), x, 0, -1), 1), by=slope(radius=1)))
attack(
    "a clip from inside and outside",
    "slope 1 from below",
    lambda: holds(equals(OneSided(clip(x, 0, 1), x, 1, -1), 0), by=slope(radius=1)),
)
attack(
    "max(x, 0)² twice",
    "x = 0",
    lambda: holds(equals(Diff(Max(x, 0) ** 2, x, x), 2), by=near(2 * x, radius=x), assuming=[at_least(x, 0)]),
)
attack(
    "a slope known at one point only",
    "x = 0",
    lambda: holds(equals(Diff(w.mag(x), x), 0), by=near(0, radius=1), assuming=[equals(x, 0)]),
)
attack(
    "half at the tie",
    "x = y",
    lambda: holds(equals(Diff(Max(x, y), x), Rational(1, 2)), by=slope(radius=1), assuming=[equals(x, y)]),
)
attack(
    "m² = m, differentiated",
    "∂m² = 2m",
    lambda: holds(equals(Diff(m**2, m), 1), by=chain(step(Diff(m, m), by=rewrite("at.mask")), step(1, by=algebra()))),
    refused="which is 0 or 1",
)
attack(
    "Σp = 1, differentiated",
    "slope 1",
    lambda: holds(
        equals(Diff(sum_over(p[i], i), p[k]), 0),
        by=chain(step(Diff(Integer(1), p[k]), by=rewrite("at.row")), step(0, by=algebra())),
    ),
)
attack(
    "in a size",
    "no derivative",
    lambda: holds(equals(Diff(sum_over(Integer(1), i), n), 1), by=finite_sum()),
    refused="which is positive integer",
)
attack(
    "in an index",
    "no derivative",
    lambda: holds(equals(Diff(i * x, i), x), by=algebra()),
    refused="which is in 1..at_n",
)
attack("a floor is flat", "x = 1", lambda: holds(equals(Diff(sp.floor(x), x), 0), by=algebra()), refused="floor")
attack("a sign is flat", "x = 0", lambda: holds(equals(Diff(sp.sign(x), x), 0), by=algebra()), refused="sign")
attack("δ(x, 0) is flat", "x = 0", lambda: holds(equals(Diff(delta(x, 0), x), 0), by=algebra()))
attack(
    "Heaviside is flat",
    "x = 0",
    lambda: holds(equals(Diff(sp.Heaviside(x), x) * x, 0), by=algebra()),
    refused="Heaviside",
)
attack("a derivative at a captured point", "2y", lambda: holds(equals(At(Diff(x * y, x), x, y), 2 * y), by=algebra()))
attack(
    "∂(xy)/∂x with y put to x",
    "x",
    lambda: holds(equals(of("slope", (x, y), Diff(x * y, x))(x, x), 2 * x), by=algebra()),
)
attack(
    "f(x, x) moves through its first argument alone",
    "f(x, y) = x + y",
    lambda: holds(equals(Diff(f(x, x), x), At(Diff(f(x, y), x), y, x)), by=algebra()),
    refused="one number",
)
attack(
    "the chain rule at a kink",
    "x = 0",
    lambda: [
        holds(equals(Diff(Max(z, 0), z), 1), name="outer", assuming=[greater(z, 0)], by=slope(radius=z)),
        holds(
            equals(Diff(Max(x**2, 0), x), 2 * x),
            name="whole",
            by=chain_rule(inner="at.square_slope", outer="outer", at={z: x**2}),
        ),
    ],
)
attack(
    "the sum rule with a slope under an assumption",
    "x = −1",
    lambda: holds(equals(Diff(w.mag(x) + x, x), 2), by=by_terms()),
)
attack(
    "one term of each of two sums that are multiplied",
    "n = 2",
    lambda: holds(equals(Diff(sum_over(u[i], i) * sum_over(u[i] ** 2, i), u[k]), 3 * u[k] ** 2), by=by_terms()),
)
attack(
    "one term of a sum whose terms read another entry, too",
    "j = k",
    lambda: holds(equals(Diff(sum_over(u[i] * u[j], i), u[k]), u[j] + delta(j, k) * u[k]), by=by_terms()),
)
attack(
    "one term of a sum within a sum over the same index",
    "n = 2",
    lambda: holds(equals(Diff(sum_over(u[i] * sum_over(u[i], i), i), u[k]), sum_over(u[i], i) + u[k]), by=by_terms()),
)
attack(
    "one term of a sum with a kink in it",
    "u = −1",
    lambda: holds(equals(Diff(sum_over(Max(u[i], 0), i), u[k]), 1), by=by_terms()),
)

for name, why, statement in (
    ("a product is flat", "n = 1", lambda: equals(Diff(product_over(u[i], i), u[k]), 0)),
    ("a power of the size, differentiated", "n = 2", lambda: equals(Diff(product_over(x + 0 * u[i], i), x), 1)),
    ("a total of probabilities in a product", "slope x", lambda: equals(Diff(x * sum_over(p[i], i), p[k]), 0)),
    ("a total of probabilities, squared", "slope 2", lambda: equals(At(Diff(sum_over(p[i], i) ** 2, p[k]), k, 1), 0)),
    (
        "of a column, in an entry of another",
        "i ≠ j",
        lambda: equals(Diff(sum_over(w.table[i, s] ** 2, s), w.table[j, t]), 2 * w.table[j, t]),
    ),
    ("of a column, everywhere one", "s ≠ t", lambda: equals(Diff(sum_over(w.table[i, s], i), w.table[j, t]), 1)),
    ("summed over what is varied", "n = 2", lambda: equals(sum_over(Diff(u[i] ** 2, u[k]), k), 2 * n * u[i])),
    ("an entry does not move with the first", "i = 1", lambda: equals(Diff(u[i], u[1]), 0)),
    ("the last entry is not the first", "n = 1", lambda: equals(Diff(u[n], u[1]), 0)),
    (
        "of softmax, without its diagonal",
        "i ≠ k",
        lambda: equals(Diff(w.softmax(i, u), u[k]), w.softmax(i, u) * (1 - w.softmax(k, u))),
    ),
    ("a function at a multiple", "f(x) = x²", lambda: equals(Diff(f(2 * x), x), 2 * Diff(f(x), x))),
    ("a function of a square", "f(x) = x²", lambda: equals(Diff(f(x**2), x), 2 * x * Diff(f(x), x))),
    ("functions of different indices", "f(i, x) = ix", lambda: equals(Diff(f(1, x), x), Diff(f(2, x), x))),
    (
        "an equal argument is another argument",
        "x = y",
        lambda: equals(delta(x, y) * Diff(x * y, x), delta(x, y) * Diff(x**2, x)),
    ),
):
    attack(name, why, lambda statement=statement: holds(statement(), by=finite_sum()))

attack(
    "a function of an absolute value",
    "f(x) = x: a kink",
    lambda: holds(equals(w.mul(0, Diff(f(w.mag(x)), x)), 0), by=algebra()),
)
attack("√x² is smooth", "x = 0", lambda: holds(equals(Diff(w.root(x**2), x) * w.root(x**2), x), by=algebra()))
attack(
    "a root has a slope at its end",
    "e = 0",
    lambda: holds(equals(w.mul(0, OneSided(w.root(e), e, 0, 1)), 0 * y), by=algebra()),
)
attack(
    "a factor that is differentiated twice over",
    "∂xx² = 3x²",
    lambda: holds(equals(Diff(x**3, x), 2 * x**2), by=by_terms(fact("at.square_slope"))),
)
attack(
    "|−x| from |x| by a fact",
    "x = −1",
    lambda: holds(equals(Diff(w.mag(-x) + x, x), 2), by=by_terms(fact("at.mag_slope", at_x=-x)), assuming=[less(x, 0)]),
)
attack(
    "|2x| from |x| by a fact",
    "slope 2",
    lambda: holds(
        equals(Diff(w.mag(2 * x), x), 1), by=by_terms(fact("at.mag_slope", at_x=2 * x)), assuming=[greater(x, 0)]
    ),
)
attack(
    "|y| from |x| by a fact",
    "slope 0",
    lambda: holds(equals(Diff(w.mag(y), x), 1), by=by_terms(fact("at.mag_slope", at_x=y)), assuming=[greater(y, 0)]),
)
attack(
    "a proved derivative at another point",
    "8x",
    lambda: holds(equals(Diff((2 * x) ** 2, x), 4 * x), by=rewrite("at.square_slope", at_x=2 * x)),
)
attack(
    "what is varied, rewritten",
    "∂|r|²/∂|r|",
    lambda: holds(
        equals(Diff(r**2, r), 2 * Diff(w.mag(r) ** 2, r)),
        by=chain(
            step(Diff(w.mag(r) ** 2, r), by=rewrite("at.is_its_size")), step(2 * Diff(w.mag(r) ** 2, r), by=algebra())
        ),
    ),
)
attack(
    "a product of slopes without the outer one",
    "y = 2",
    lambda: [
        holds(equals(Diff(z * y, z), y), name="outer", by=algebra()),
        holds(
            equals(Diff(x**2 * y, x), 2 * x),
            name="whole",
            by=chain_rule(inner="at.square_slope", outer="outer", at={z: x**2}),
        ),
    ],
)
attack(
    "max(x, 0) near its kink, from below",
    "x = 0",
    lambda: holds(equals(Diff(Max(x, 0), x), 0), by=near(0 * x, radius=w.mag(x)), assuming=[at_most(x, 0)]),
)
attack(
    "a radius that has no value",
    "x = 0",
    lambda: holds(equals(Diff(Max(x, 0), x), 1), by=slope(radius=1 / x**2), assuming=[at_least(x, 0)]),
)
attack(
    "a radius that is not always there",
    "x = 0",
    lambda: holds(equals(Diff(Max(x, 0), x), 1), by=slope(radius=x + log(x) ** 2), assuming=[at_least(x, 0)]),
)
attack(
    "a slope at a moving point", "slope 1", lambda: holds(equals(OneSided(Max(x, y), x, y, 1), 0), by=slope(radius=1))
)
attack(
    "a jump has a slope",
    "x > 0",
    lambda: holds(equals(OneSided(cases((0, x <= 0), (1, True)), x, 0, 1), 0), by=slope(radius=1)),
)
attack(
    "a jump has a slope from below",
    "x = 0",
    lambda: holds(equals(OneSided(cases((0, x < 0), (1, True)), x, 0, -1), 0), by=slope(radius=1)),
)
attack(
    "a point that is lit has a slope",
    "x = 0",
    lambda: holds(equals(OneSided(delta(x, 0), x, 0, 1), 0), by=slope(radius=1)),
)

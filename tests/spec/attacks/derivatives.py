"""Derivatives that are not what is written, or that do not exist.

Gradients are what a loss is used for: a kink taken for smooth, a derivative at a captured point or a missing diagonal
are the mistakes that a proof has to find."""

import sympy as sp
from grape_spec.language import At, Diff, OneSided, at_least, clip, delta, equals, greater, holds, sum_over
from grape_spec.proof.rules import algebra, by_terms, chain, chain_rule, finite_sum, near, rewrite, slope, step
from sympy import Integer, Lambda, Max, Rational, exp, log

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, e, f, i, j, k, l, m, n, of, p, u, x, y, z

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

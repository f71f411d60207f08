"""Statements with a part that has no value somewhere.

What cancels or is multiplied by zero leaves no trace in a normal form, but 0 · log(−1) is not 0. A proved equation is
put into other proofs, so that one without a value spreads."""

import sympy as sp
from grape_spec.language import Diff, OneSided, cases, equals, greater, holds, product_over, sum_over
from grape_spec.proof.rules import algebra, finite_sum, induction, rewrite, slope, smt
from sympy import Max, log

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, e, i, n, of, u, x, y

attack = attacks_on("what has no value")

attack("0 · |x|′ = 0", "x = 0: no derivative", lambda: holds(equals(w.mul(0, Diff(w.mag(x), x)), 0), by=algebra()))
attack("0 · ∂max(x, y) = 0, by smt", "x = y", lambda: holds(equals(w.mul(0, Diff(Max(x, y), x)), 0), by=smt()))
attack("0 · (1/|x|′)", "x = 0", lambda: holds(equals(w.mul(0, w.over(1, Diff(w.mag(x), x))), 0), by=algebra()))
attack(
    "cases without an else, less themselves",
    "x = 0",
    lambda: holds(equals(w.minus(cases((x, x > 0)), cases((x, x > 0))), 0), by=algebra()),
    refused="end with (value, True)",
)
attack(
    "a slope at a point without a value, 1/x",
    "x = 0",
    lambda: holds(equals(OneSided(y, y, 1 / x, 1), 1), by=slope(radius=1)),
)
attack(
    "0 · a slope of log at −1",
    "everywhere",
    lambda: holds(equals(w.mul(0, OneSided(log(x), x, -1, 1)), 0 * y), by=algebra()),
)
attack(
    "0 · a slope of |x| at 0 from above of √",
    "√ at −1",
    lambda: holds(equals(w.mul(0, OneSided(w.root(x), x, -1, -1)), 0 * y), by=algebra()),
)
attack(
    "Γ(x) − Γ(x) = 0",
    "x = 0: a pole",
    lambda: holds(equals(w.minus(sp.gamma(x), sp.gamma(x)), 0), by=algebra()),
    refused="gamma",
)
attack(
    "|asin x|² = (asin x)²",
    "x = 2: asin 2 is not real",
    lambda: holds(equals(w.mag(sp.asin(x)) ** 2, sp.asin(x) ** 2), by=rewrite("at.mag_squared", at_x=sp.asin(x))),
    refused="asin",
)
attack("x/x = 1", "x = 0", lambda: holds(equals(w.over(x, x), 1), by=algebra()))
attack("Σ u/u = n", "u = 0", lambda: holds(equals(sum_over(w.over(u[i], u[i]), i), n), by=finite_sum()))
attack("1/x − 1/x = 0", "x = 0", lambda: holds(equals(w.minus(w.over(1, x), w.over(1, x)), 0), by=algebra()))
attack("exp log x = x", "x ≤ 0", lambda: holds(equals(w.ex(w.lg(x)), x), by=algebra()))
attack(
    "log xy = log x + log y",
    "x, y < 0",
    lambda: holds(equals(w.lg(x * y), w.lg(x) + w.lg(y)), by=algebra(), assuming=[greater(x * y, 0)]),
)
attack("(√x)² = x", "x < 0", lambda: holds(equals(w.root(x) ** 2, x), by=algebra()))
attack("√x² = x", "x < 0", lambda: holds(equals(w.root(x**2), x), by=smt()))
attack("0 · log x = 0", "x ≤ 0", lambda: holds(equals(w.mul(0, w.lg(x)), 0), by=smt()))
attack("0 · u₂ = 0", "n = 1", lambda: holds(equals(w.mul(0, u[2]), 0 * x), by=algebra()))
attack(
    "Σ log u = log Π u",
    "u < 0",
    lambda: holds(equals(log(product_over(u[i], i)), sum_over(log(u[i]), i)), by=induction(n)),
)
attack(
    "(1/Σu) Σu = 1",
    "Σu = 0",
    lambda: holds(equals(w.over(1, sum_over(u[i], i)) * sum_over(u[i], i), 1), by=finite_sum()),
)
attack(
    "0⁰ = 1 and 0ᵉ = 1",
    "e = 0: a power that the language has not",
    lambda: holds(equals(of("power", (x, y), x**y)(e, 0), 1), by=algebra()),
    refused="expected a number; write exp",
)
attack(
    "(−1)ˣ(−1)ˣ = 1",
    "x = 1/2",
    lambda: holds(equals(of("power", (x, y), x**y)(-1, x) ** 2, 1), by=algebra()),
    refused="expected a number; write exp",
)
attack(
    "a root under a derivative at its end",
    "e = 0",
    lambda: holds(equals(Diff(w.root(e) * w.root(e), e), 1), by=finite_sum()),
)

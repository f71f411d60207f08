"""Inequalities and cases that fail at an edge, at a tie or far away.

The solver decides these; whatever it does not decide, for whatever reason, is unknown."""

from grape_spec.language import (
    at_least,
    at_most,
    cases,
    clip,
    differs,
    equals,
    greater,
    holds,
    iff,
    implies,
    less,
    sum_over,
)
from grape_spec.proof.rules import from_minimum, smt, termwise
from sympy import Abs, Max, Min, Rational, exp, log

from tests.spec.attacks.world import FAR, attacks_on, f, i, j, m, n, q, r, u, x, y, z

attack = attacks_on("order")

attack(
    "cases in the wrong order",
    "x = 1: the first holds",
    lambda: holds(
        equals(cases((1, x >= 0), (2, x > 0), (3, True)), cases((2, x > 0), (1, x >= 0), (3, True))), by=smt()
    ),
)
attack(
    "cases with a gap",
    "x = 0",
    lambda: holds(equals(cases((1, x > 0), (-1, x < 0), (0, True)), cases((1, x >= 0), (-1, True))), by=smt()),
)
attack(
    "a clip with its edges exchanged",
    "the low edge above the high one",
    lambda: holds(at_least(clip(x, y, z), y), by=smt()),
)
attack("max of a mask and one half", "m = 0", lambda: holds(greater(Max(m, Rational(1, 2)), Rational(1, 2)), by=smt()))
attack("min is below max, strictly", "x = y", lambda: holds(less(Min(x, y), Max(x, y)), by=smt()))
attack("iff one way only", "x = 0", lambda: holds(iff(greater(x, 0), at_least(x, 0)), by=smt()))
attack("implied the other way", "x = −1", lambda: holds(implies(greater(x**2, 0), greater(x, 0)), by=smt()))
attack(
    "a polynomial that touches zero",
    "(1, 1)",
    lambda: holds(greater(x**4 * y**2 + x**2 * y**4 + 1 - 3 * x**2 * y**2, 0), by=smt()),
)
attack(
    "a hard polynomial, out of time",
    "(4, 4, −4)",
    lambda: holds(at_least(sum((x - d) ** 4 * (y - d) ** 4 * (z + d) ** 2 for d in range(9)), 3_000_000), by=smt()),
    at={x: 4, y: 4, z: -4},
)
attack("far away", "x = 2000000", lambda: holds(at_most(x, FAR), by=smt()))
attack("equal functions of equal things", "x ≠ y", lambda: holds(equals(f(x), f(y)), by=smt()))
attack("equal exponentials", "x ≠ y", lambda: holds(equals(exp(x), exp(y)), by=smt()))
attack("entries are equal", "n = 2", lambda: holds(equals(u[i], u[j]), by=smt()))
attack("a real power", "r = 2", lambda: holds(equals(r ** Rational(1, 3), r), by=smt()))
attack("terms of either sign", "u = −1", lambda: holds(at_least(sum_over(q[i] * u[i], i), 0), by=termwise(0)))
attack("bounds that do not add up", "n = 2", lambda: holds(at_least(sum_over(u[i] ** 2 + 1, i), n + 1), by=termwise(1)))
attack(
    "a strict sum of terms that may be zero", "u = 0", lambda: holds(greater(sum_over(u[i] ** 2, i), 0), by=termwise(0))
)
attack(
    "a maximum for a minimum", "x = 1", lambda: holds(at_least(-(x**2), 0), by=from_minimum(of=-(x**2), over=x, at=0))
)
attack(
    "a minimum that is not in the domain",
    "r = 1/2",
    lambda: holds(at_least(r**2 - 1, 0), by=from_minimum(of=r**2 - 1, over=r, at=-1)),
)
attack(
    "a minimum at the edge", "r = 1/2", lambda: holds(at_least(r**2 - r, 0), by=from_minimum(of=r**2 - r, over=r, at=0))
)
attack(
    "a minimum with a kink between",
    "x = 1",
    lambda: holds(at_least(1 - Abs(x - 1) + 0 * y, 0), by=from_minimum(of=1 - Abs(x - 1), over=x, at=0)),
)
attack(
    "strictly, at the minimum too",
    "r = 1",
    lambda: holds(less(log(r), r - 1), by=from_minimum(of=r - 1 - log(r), over=r, at=1, strict=True)),
)
attack(
    "a pole on the way",
    "x = 2",
    lambda: holds(
        at_least(1 / (1 - x) - 1, 0),
        by=from_minimum(of=1 / (1 - x) - 1, over=x, at=0),
        assuming=[at_least(x, 0), differs(x, 1)],
    ),
)

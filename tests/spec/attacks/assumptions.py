"""Assumptions used beyond what they say.

What is assumed of one entry, of a total or not strictly says nothing of all entries, of a part or strictly."""

import sympy as sp
from grape_spec.language import Diff, at_least, equals, greater, holds, less, sum_over
from grape_spec.proof.rules import fact, finite_sum, from_minimum, rewrite, smt, termwise
from sympy import Lambda

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, i, j, k, s, u, v, x, y

attack = attacks_on("assumptions")

attack(
    "of one entry, used of all",
    "another entry is −1",
    lambda: holds(at_least(sum_over(u[i], i), w.mul(0, u[k])), by=termwise(0), assuming=[at_least(u[k], 0)]),
)
attack(
    "of one entry, named in the statement",
    "another entry is −1",
    lambda: holds(at_least(sum_over(u[i], i), w.mul(0, u[i])), by=termwise(0), assuming=[at_least(u[i], 0)]),
)
attack(
    "of one row, used of another",
    "the other row",
    lambda: holds(
        equals(sum_over(w.table[i, s], s) + sum_over(w.table[j, s], s), 2 * x),
        by=finite_sum(),
        assuming=[equals(sum_over(w.table[i, s], s), x)],
    ),
)
attack(
    "a total, used of squares",
    "u = (2, −1)",
    lambda: holds(equals(sum_over(u[i] ** 2, i), 1), by=finite_sum(), assuming=[equals(sum_over(u[i], i), 1)]),
)
attack(
    "a fact without its assumption", "y = 3", lambda: holds(less(y, 2), by=smt(given=[fact("at.below_two", at_x=y)]))
)
attack(
    "a fact under an assumption, rewritten under a sum",
    "u = −1",
    lambda: holds(
        equals(sum_over(w.mag(u[i]), i) + u[i], sum_over(u[i], i) + u[i]),
        by=rewrite("at.mag_of_positive", at_r=u[i]),
        assuming=[greater(u[i], 0)],
    ),
)
attack(
    "of the sum, used of a term",
    "u = (2, −1)",
    lambda: holds(greater(u[i], 0), by=smt(), assuming=[greater(sum_over(u[j], j), 0)]),
)
attack("strict from not strict", "x = 0", lambda: holds(greater(x, 0), by=smt(), assuming=[at_least(x, 0)]))
attack(
    "undefined at the point",
    "log of −1",
    lambda: holds(greater(x, 0), by=smt(), assuming=[equals(w.mul(0, w.lg(x)), 0)]),
)

attack(
    "a fact on every entry, for one",
    "another entry is −1",
    lambda: holds(
        at_least(sum_over(u[i], i), w.mul(0, u[k])),
        by=smt(given=[fact("at.nonnegative_sum")]),
        assuming=[at_least(u[k], 0)],
    ),
)
attack(
    "a fact on every entry, for the one of its name",
    "another entry is −1",
    lambda: holds(
        at_least(sum_over(u[i], i), w.mul(0, u[i])),
        by=smt(given=[fact("at.nonnegative_sum")]),
        assuming=[at_least(u[i], 0)],
    ),
)
attack(
    "a fact on every entry, for another family",
    "v = −1",
    lambda: holds(
        at_least(sum_over(v[i], i), 0 * x),
        by=smt(given=[fact("at.nonnegative_sum", at_u=v)]),
        assuming=[at_least(u[i], 0)],
    ),
)
attack(
    "one row within a sum over rows",
    "n = 2",
    lambda: holds(
        equals(sum_over(sum_over(w.table[k, s], s), k) + w.mul(0, u[i]), sum_over(u[k], k)),
        by=finite_sum(),
        assuming=[equals(sum_over(w.table[i, s], s), u[i])],
    ),
)
attack(
    "a total of squares, weighted",
    "v = 2",
    lambda: holds(
        equals(sum_over(u[i] ** 2 * v[i], i), x), by=finite_sum(), assuming=[equals(sum_over(u[i] ** 2, i), x)]
    ),
)
attack(
    "a total, differentiated",
    "slope Σu",
    lambda: holds(equals(Diff(sum_over(u[i], i) * x, x), y), by=finite_sum(), assuming=[equals(sum_over(u[i], i), x)]),
)
attack(
    "a total, of twice as much",
    "u = 1",
    lambda: holds(equals(w.total(Lambda(i, 2 * u[i])), x), by=finite_sum(), assuming=[equals(w.total(u), x)]),
)
attack(
    "a total, of another family",
    "v = 2",
    lambda: holds(equals(w.total(v), x), by=finite_sum(), assuming=[equals(w.total(u), x)]),
)
attack(
    "a total that cannot be",
    "x = 1, y = 2",
    lambda: holds(equals(x, y), by=finite_sum(), assuming=[equals(sum_over(u[i], i), sum_over(u[i], i) + 1)]),
)
attack(
    "one of two",
    "x = −1, y = 1",
    lambda: holds(greater(x, 0), by=smt(), assuming=[sp.Or(greater(x, 0), greater(y, 0))]),
)
attack(
    "a minimum that an assumption moves",
    "x = −1/2",
    lambda: holds(at_least(x**2 + y, 0), by=from_minimum(of=x**2 + y, over=x, at=0), assuming=[equals(y, x)]),
)
attack(
    "a minimum by a total that moves",
    "y = 1, x = 1/4",
    lambda: holds(
        at_least((sum_over(u[i], i) - x) * y + x**2 - x, w.mul(0, x)),
        by=from_minimum(of=(sum_over(u[i], i) - x) * y + x**2 - x, over=x, at=0),
        assuming=[equals(sum_over(u[i], i), 0)],
    ),
)
attack(
    "a bound by a fact without its assumption",
    "x = 3",
    lambda: holds(less(x, 2), by=from_minimum(of=2 - x, over=x, at=2, given=[fact("at.below_two")], strict=True)),
)

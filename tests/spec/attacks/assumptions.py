"""Assumptions used beyond what they say.

What is assumed of one entry, of a total or not strictly says nothing of all entries, of a part or strictly."""

from grape_spec.language import at_least, equals, greater, holds, less, sum_over
from grape_spec.proof.rules import fact, finite_sum, rewrite, smt, termwise

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, i, j, k, s, u, x, y

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

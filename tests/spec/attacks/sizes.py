"""Sizes that are no positive integers, and entries that are not there.

A sum over 1..n has n terms only where n is a positive integer. Below that the evaluator finds an empty sum and the
normal form a negative number of terms: each is right in its own way, and a proof that mixes them shows anything."""

import sympy as sp
from grape_spec.language import At, Positive, at_least, at_most, delta, equals, family, greater, holds, sum_over, symbol
from grape_spec.language.domains import Naturals
from grape_spec.proof.rules import fact, finite_sum, induction, smt

from tests.spec.attacks import world as w
from tests.spec.attacks.world import ID, attacks_on, c, i, j, n, q, r, s, u, x

attack = attacks_on("sizes")

attack(
    "count(5 − n) = 5 − n",
    "n = 6: an empty sum, and −1",
    lambda: holds(equals(w.count(5 - n), 5 - n), by=finite_sum()),
    at={n: 6},
    refused="expected a declared size",
)
attack(
    "triangle(5 − n) > 0",
    "n = 5: an empty sum",
    lambda: holds(greater(w.triangle(5 - n), 0), by=smt()),
    at={n: 5},
    refused="expected a declared size",
)
attack(
    "a size put in by At",
    "n = 5",
    lambda: holds(greater(At(sum_over(i, i), n, 5 - n), 0), by=smt()),
    at={n: 5},
    refused="replaces at_n",
)
attack(
    "partial sums of positive numbers",
    "n = 1: an empty sum",
    lambda: holds(greater(w.partial(q, n - 1), 0), by=smt()),
    refused="expected a family",
)
attack(
    "more entries than there are",
    "c > n",
    lambda: holds(greater(w.partial(q, c), 0), by=smt()),
    refused="expected a family",
)
attack(
    "a size that is any real number",
    "x = −1",
    lambda: holds(equals(w.count(x), x), by=finite_sum()),
    refused="expected a declared size",
)
attack(
    "induction over the positive reals",
    "r = 3/2: 1, and 15/8",
    lambda: holds(equals(w.triangle(r), r * (r + 1) / 2), by=induction(r)),
    refused="expected a declared size",
)
attack(
    "the first of no numbers",
    "a size of 0",
    lambda: holds(
        greater(family("at_none", Positive, symbol("at_zero", Naturals("whole number", 0), ""), text="")[1], 0),
        by=smt(),
    ),
    refused="expected a symbol of domain Size",
)
attack(
    "the first of n − 1 numbers",
    "n = 1",
    lambda: holds(greater(family("at_fewer", Positive, n - 1, text="")[1], 0), by=smt()),
    refused="expected a symbol of domain Size",
)
attack(
    "Σ over 1..n − 1 is positive",
    "n = 1",
    lambda: holds(greater(sp.Sum(i, (i, 1, n - 1)), 0), by=smt()),
    refused="not over the whole range",
)
attack(
    "the mean of the others is positive",
    "n = 1",
    lambda: holds(greater(sum_over((1 - delta(i, j)) * q[j], j), 0), by=smt()),
)
attack(
    "n/(n − 1) at n = 1",
    "n = 1",
    lambda: holds(equals(w.over(sum_over(u[i], i), n - 1) * (n - 1), sum_over(u[i], i)), by=finite_sum()),
)
attack(
    "the sample variance is not negative, at n = 1 too", "n = 1: 0/0", lambda: holds(at_least(w.spread(), 0), by=smt())
)
attack("n > 1", "n = 1", lambda: holds(greater(n, 1), by=smt()))
attack(
    "sums of equal length are equal",
    "n = 2, c = 1",
    lambda: holds(equals(sum_over(u[i], i), w.total(u) * c / n), by=finite_sum()),
)
attack(
    "two sizes that an assumption makes equal",
    "reads beyond the axis",
    lambda: holds(greater(sp.Sum(w.col[s], (s, 1, n)), 0), by=smt(), assuming=[equals(n, c)]),
    refused="not over the whole range",
)


def side():
    """A number whose square is 5 − n."""
    return w.root(w.count(5 - n))


attack(
    "every size is at most 5",
    "n = 6: from the root of an empty sum",
    lambda: [
        holds(equals(w.mul(side(), side()), 5 - n), name="its square", by=finite_sum()),
        holds(at_most(n, 5), name="at most 5", by=smt(given=[fact(ID, part="its square")])),
    ],
    at={n: 6},
    refused="expected a declared size",
)

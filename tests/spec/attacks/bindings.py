"""Claims used for values that they do not hold for.

A claim holds on the domains of its symbols. An instance of it outside of them is a false statement with a proof."""

from grape_spec.language import At, Diff, at_least, equals, greater, holds, sum_over
from grape_spec.proof.rules import algebra, chain, fact, finite_sum, rewrite, smt, step
from sympy import Integer, Lambda, Rational, exp, log

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, f, i, j, n, q, r, s, u, x, y, z

attack = attacks_on("bindings")

attack(
    "positive bound to −1",
    "|−1| = −1",
    lambda: holds(equals(w.mag(-1), -1 + 0 * x), by=rewrite("at.mag_of_positive", at_r=Integer(-1))),
)
attack(
    "positive bound to log y",
    "y = 1/2",
    lambda: holds(
        equals(w.mag(w.lg(y)), w.lg(y)), by=rewrite("at.mag_of_positive", at_r=w.lg(y)), assuming=[greater(y, 0)]
    ),
)
attack(
    "a mask bound to 1/2",
    "1/4 = 1/2",
    lambda: holds(equals(x + Rational(1, 4), x + Rational(1, 2)), by=smt(given=[fact("at.mask", at_m=Rational(1, 2))])),
)
attack(
    "a mask bound to an entry of a real family",
    "u = 2",
    lambda: holds(equals(u[i] ** 2, u[i]), by=rewrite("at.mask", at_m=u[i])),
)
attack(
    "above one bound to exp x",
    "x = −1",
    lambda: holds(greater(exp(x), 1), by=smt(given=[fact("at.above_one", at_a=exp(x))])),
)
attack(
    "rows bound to positive numbers", "q = 2", lambda: holds(equals(sum_over(q[i], i), 1), by=rewrite("at.row", at_p=q))
)
attack(
    "a row bound to rows by columns",
    "transposed",
    lambda: holds(equals(sum_over(w.rows[i, j], i), 1), by=rewrite("at.row", at_p=Lambda(i, w.rows[i, j]))),
)
attack(
    "a Lambda with its indices exchanged",
    "n ≠ c",
    lambda: holds(
        equals(sum_over(1 / n + 0 * w.table[i, s], s), 1), by=rewrite("at.pairs", at_pairs=Lambda((s, i), 1 / n))
    ),
)
attack(
    "a Lambda over another axis",
    "n ≠ c",
    lambda: holds(equals(w.total(Lambda(s, 1)), n), by=finite_sum()),
    refused="expected a family",
)
attack(
    "a family over another axis",
    "n ≠ c",
    lambda: holds(greater(w.partial(w.col), 0), by=smt()),
    refused="expected a family",
)
attack(
    "a size bound to 1/2",
    "n",
    lambda: holds(at_least(Rational(1, 2) + 0 * x, 1), by=smt(given=[fact("at.one", at_n=Rational(1, 2))])),
)
attack(
    "non-negative bound to x under a derivative",
    "x = 0",
    lambda: holds(
        equals(Diff(w.mag(x), x), Diff(x, x)), by=rewrite("at.mag_of_nonnegative", at_e=x), assuming=[at_least(x, 0)]
    ),
)
attack(
    "put to a point outside of the domain",
    "r := −5",
    lambda: holds(
        equals(At(w.mag(r), r, -5), -5),
        by=chain(step(At(r, r, -5), by=rewrite("at.mag_of_positive")), step(-5, by=algebra())),
    ),
)
attack(
    "a function put in that is not defined everywhere",
    "y ≤ 0",
    lambda: holds(greater(y, 0), by=smt(given=[fact("at.positive", at_x=At(f(y), f, Lambda(z, log(z))))])),
    refused="expected a symbol or a family",
)

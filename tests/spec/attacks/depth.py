"""Recursions over a depth, and the induction over it.

A recursion has a value at every depth from its first, for arguments in the domains of its parameters; the hypothesis of
the induction holds at the depth before, for what fits its left side."""

from grape_spec.language import At, Diff, at_least, at_most, delta, equals, greater, holds, recursive, sum_over
from grape_spec.proof.rules import algebra, fact, finite_sum, over_depth, rewrite, smt, within_depth
from sympy import Integer, Lambda, Max

from tests.spec.attacks import world as w
from tests.spec.attacks.world import ID, attacks_on, c, d, i, j, k, m, of, pairs, r, s, t, u, x, y, z

attack = attacks_on("depth")


def written(of, first, step):
    """A part about a recursion that should be refused when it is written."""
    return lambda: holds(equals(recursive("at.written", "", of, of[0], first, step)(), 0), by=over_depth(of[0]))


attack(
    "a step to a depth that is no lower",
    "never ends",
    written((d,), Integer(0), lambda go: go(at_d=d + 1) + 1),
    refused="must go on at at_d itself",
)
attack(
    "a step to two depths below",
    "d = 1",
    written((d,), Integer(0), lambda go: go(at_d=d - 1) + 1),
    refused="must go on at at_d itself",
)
attack("a step to nowhere", "not a recursion", written((d, x), x, lambda go: x + d), refused="does not go on")
attack(
    "a first value that depends on the depth",
    "d",
    written((d,), 1 * d, lambda go: go() + 1),
    refused="must mention neither",
)
attack(
    "a positive number handed on less one",
    "r = 1/2",
    written((d, r), r, lambda go: go(at_r=r - 1)),
    refused="not shown to be in the domain",
)
attack(
    "a mask handed on plus one",
    "m = 1",
    written((d, m), m, lambda go: go(at_m=m + 1)),
    refused="not shown to be in the domain",
)
attack(
    "a position handed on plus one",
    "the last",
    written((d, i, u), u[i], lambda go: go(at_i=i + 1)),
    refused="not shown to be in the domain",
)
attack(
    "a position on another axis",
    "n > c",
    written((d, s, w.col, u), w.col[s], lambda go: sum_over(u[i] * go(at_s=i), i)),
    refused="not shown to be in the domain",
)
attack(
    "a recursion within its own argument",
    "too fast",
    written((d, x), x, lambda go: go(at_x=go())),
    refused="within an argument",
)
attack(
    "a step within a derivative", "not smooth", written((d, x), abs(x), lambda go: Diff(go(), x)), refused="outside of"
)
attack(
    "a depth that is any number", "x = 1/2", written((x, y), y, lambda go: go() + 1), refused="whole number or a size"
)
attack(
    "a step that sums over its depth",
    "c",
    written((c,), Integer(1), lambda go: sum_over(go(at_c=s), s)),
    refused="must go on at",
)

attack("2^d = 1 + d", "d = 2", lambda: holds(equals(w.doubled(), 1 + d), by=over_depth(d)), at={d: 2})
attack(
    "a step without a first", "d = 0: 2⁰ is not 0", lambda: holds(equals(w.doubled(), 0), by=over_depth(d)), at={d: 0}
)
attack(
    "an argument moves, and the right side does not",
    "d = 1",
    lambda: holds(equals(w.shifted(), x), by=over_depth(d)),
    at={d: 1, x: 0},
)
attack(
    "an argument moves the other way",
    "d = 1",
    lambda: holds(equals(w.shifted(), x - d), by=over_depth(d)),
    at={d: 1, x: 0},
)
attack(
    "the hypothesis for equal arguments, used for others",
    "d = 1: −1",
    lambda: holds(equals(w.apart(d, x, x), 0), by=over_depth(d)),
    at={d: 1, x: 0},
)
attack(
    "the hypothesis for an argument that is fixed, used for another",
    "d = 1: −1",
    lambda: holds(equals(w.apart(d, x, 0), x), by=over_depth(d)),
    at={d: 1, x: 0},
)
attack(
    "a free index that a sum of the step binds",
    "u is not constant",
    lambda: holds(equals(w.drawn(), x + d * u[j]), by=over_depth(d)),
)
attack(
    "the position before in place of the one after",
    "u is not constant",
    lambda: holds(equals(w.along(), (d + 1) * u[i]), by=over_depth(d)),
)
attack("the depth in two arguments", "d = 1", lambda: holds(equals(w.shifted(d, -d), 0 * d), by=over_depth(d)))
attack(
    "an assumption at one depth",
    "d = 1, x = 0",
    lambda: holds(equals(w.shifted(), x), by=over_depth(d), assuming=[at_most(d * x, 0)]),
)
attack(
    "rows that are normalised at every depth",
    "c = 2",
    lambda: holds(equals(w.lengthening(), sum_over(pairs[i, s], s) * c**2), by=over_depth(c)),
)
attack(
    "an index that is not there at the depth before",
    "c = 2",
    lambda: holds(equals(w.lengthening(), t), by=over_depth(c)),
    at={c: 2, t: 1},
)
attack(
    "a depth below the first",
    "d = 0",
    lambda: holds(equals(w.counted(d - 1), d - 1), by=over_depth(d)),
    refused="a whole number of at least 0",
)
attack(
    "a depth below the first, by rewriting",
    "d = 0",
    lambda: holds(equals(w.counted(d - 1), d - 1), by=rewrite("at.counted_is_depth", at_d=d - 1)),
    refused="a whole number of at least 0",
)
attack(
    "a depth that is any real number",
    "x = 1/2",
    lambda: holds(equals(w.counted(x), x), by=rewrite("at.counted_is_depth", at_d=x)),
    refused="a whole number of at least 0",
)
attack(
    "a positive parameter at −1",
    "x = −1, d = 0: |−1| is not −1",
    lambda: holds(equals(w.sized(d, x), (1 + d) * x), by=over_depth(d)),
)
attack(
    "a step that has no value, and cancels",
    "x = 0",
    lambda: holds(equals(w.cut(), 1), by=over_depth(d)),
    at={d: 1, x: 0},
)
attack(
    "a kink of a recursion, less itself",
    "x = 0",
    lambda: holds(equals(w.minus(Diff(w.kinked(), x), Diff(w.kinked(), x)), 0), by=finite_sum()),
)
attack(
    "the derivative of a recursion, less itself, where there is a kink",
    "x = 0",
    lambda: holds(equals(w.minus(2 * Diff(w.kinked(), x), Diff(w.kinked(), x)), Diff(w.kinked(), x)), by=finite_sum()),
)
attack(
    "two recursions have the same derivative",
    "d = 0, x = 0: 3, and 2",
    lambda: holds(equals(Diff(w.grown() * w.faster(), x), 2 * w.grown() * Diff(w.grown(), x)), by=finite_sum()),
    at={d: 0, x: 0},
)
attack(
    "a recursion does not depend on its argument",
    "d = 0, x = 0",
    lambda: holds(equals(Diff(z * w.grown(), x), 0), by=finite_sum()),
    at={d: 0, x: 0, z: 1},
)
attack(
    "a derivative at twice the argument",
    "d = 0, x = 0: 2, and 1",
    lambda: holds(equals(Diff(w.grown(d, 2 * x), x), w.grown(d, 2 * x) * 1), by=finite_sum()),
    at={d: 1, x: 1},
)
attack(
    "itself, as known",
    "d = 2",
    lambda: holds(equals(w.doubled(), 1 + d), by=over_depth(d, given=[fact(ID)])),
    refused="expected one of the earlier parts",
)
attack(
    "what is assumed, as known at every depth",
    "d = 1",
    lambda: [
        holds(equals(w.shifted(), x), by=smt(given=[]), assuming=[equals(w.shifted(), x)], name="assumed"),
        holds(equals(w.shifted(), x), by=over_depth(d, given=[fact(ID, part="assumed")]), name="known"),
    ],
    at={d: 1, x: 0},
)
attack(
    "induction over another recursion's depth",
    "c = 2",
    lambda: holds(equals(w.lengthening(), 1 + 0 * d), by=over_depth(d)),
    at={c: 2, d: 0},
)


def row():
    """The total of a row, which is 1."""
    return sum_over(w.p[j], j)


attack(
    "a total inside the derivative of a recursion",
    "D′ · 2x is not D′ · x",
    lambda: holds(
        equals(Diff(w.grown(at_x=x * row() ** 2), w.p[k]), Diff(w.grown(at_x=x * row()), w.p[k])), by=finite_sum()
    ),
)
attack(
    "an assumed total inside the derivative of a recursion",
    "D′ · 2x is not D′ · x",
    lambda: holds(
        equals(Diff(w.grown(at_x=x * sum_over(u[j], j) ** 2), u[k]), Diff(w.grown(at_x=x * sum_over(u[j], j)), u[k])),
        by=finite_sum(),
        assuming=[equals(sum_over(u[j], j), 1)],
    ),
)


def hides_the_depth():
    """y + Σ_{t < c} t = y + (c − 1)·Σ_t 1, where the sum is that of a definition."""
    rising = recursive("at.rising", "", (y, c), c, y, lambda go: go() + c)
    return holds(equals(rising(), y + (c - 1) * w.col_total(Lambda(s, 1))), by=over_depth(c))


attack("a depth that a definition hides", "c = 3: y + 3, and y + 6", hides_the_depth)


def bounds_the_hidden_depth():
    """The same as a bound from below."""
    rising = recursive("at.rising", "", (y, c), c, y, lambda go: go() + c)
    columns = w.col_total(Lambda(s, 1))
    step = smt(given=[fact(ID, part="columns")])
    return [
        holds(equals(columns, c), name="columns", by=finite_sum()),
        holds(at_least(rising(), y + (c - 1) * columns), name="bound", by=within_depth(c, by=step)),
    ]


attack("a depth that a definition hides, in a bound", "c = 2: y + 1, and y + 2", bounds_the_hidden_depth)


def with_a_kink(of_what, first, step, variable):
    """0 · the derivative of a recursion."""

    def part():
        made = recursive("at.bent", "", (d, *of_what), d, first(), step)
        return holds(equals(w.mul(0, Diff(made(), variable)), 0 * y), by=finite_sum())

    return part


attack(
    "a recursion that is bent in a family",
    "u₁ = 0",
    with_a_kink((u,), lambda: u[1], lambda go: Max(go(), 0), u[k]),
)
attack(
    "a recursion that is bent where its arguments cancel",
    "D(x) = D(−x)",
    with_a_kink((x,), lambda: x, lambda go: Max(go(at_x=x * x) - go(at_x=-x * x), 0), x),
)
attack(
    "a position put in that is off the axis",
    "n = 1",
    lambda: holds(greater(of("there", (w.onward, w.q), w.q[w.onward[1]])(Lambda(i, i + 1), w.q), 0), by=smt()),
    refused="expected a family of positions",
)
attack(
    "numbers put in for positions",
    "u = 1/2",
    lambda: holds(greater(of("there", (w.onward, w.q), w.q[w.onward[1]])(u, w.q), 0), by=smt()),
    refused="expected a family of positions",
)
attack(
    "positions put in at a point",
    "n = 1",
    lambda: holds(greater(At(w.q[w.onward[1]], w.onward, Lambda(i, i + 1)), 0), by=smt()),
    refused="expected a family of positions",
)
attack(
    "each position is led to once",
    "onward = (1, 1)",
    lambda: holds(equals(sum_over(delta(w.onward[i], j) * u[i], i), u[j]), by=finite_sum()),
)
attack(
    "positions lead back",
    "onward = (1, 1)",
    lambda: holds(equals(w.onward[w.onward[i]], i), by=smt()),
)

# Bounds: the step puts the bound in place of the recursion.

attack(
    "less of it is more",
    "d = 1: 5",
    lambda: holds(at_most(w.turned(), 1), by=within_depth(d, by=smt())),
    at={d: 1},
)
attack(
    "less of it is more, written as what is to spare",
    "d = 1: 5",
    lambda: holds(at_least(1 - w.turned(), 0), by=within_depth(d, by=smt())),
    at={d: 1},
)
attack(
    "its square is more where it is less",
    "d = 1: 25",
    lambda: holds(at_most(w.squared(), 1), by=within_depth(d, by=smt())),
    at={d: 1},
)
attack(
    "its product with itself",
    "d = 1, x = 0: 25",
    lambda: holds(at_most(w.multiplied(d, x), x + 1), by=within_depth(d, by=smt())),
    at={d: 1, x: 0},
)
attack(
    "weights that may be negative",
    "d = 1, u = −1: 5",
    lambda: holds(at_most(w.weighed(), 0), by=within_depth(d, by=smt())),
)
attack(
    "a bound at an argument that moves",
    "d = 1, x = 0",
    lambda: holds(at_most(w.shifted(), 0), by=within_depth(d, by=smt()), assuming=[at_most(x, 0)]),
    at={d: 1, x: 0},
)
attack(
    "a bound at the position before",
    "the next entry",
    lambda: holds(at_most(w.along(), 0), by=within_depth(d, by=smt()), assuming=[at_most(u[i], 0)]),
)
attack(
    "a bound that does not grow",
    "d = 1",
    lambda: holds(at_most(w.counted(), 0), by=within_depth(d, by=smt())),
    at={d: 1},
)
attack(
    "a bound that fails at the first depth",
    "d = 0",
    lambda: holds(at_least(w.counted(), d + 1), by=within_depth(d, by=smt())),
    at={d: 0},
)
attack(
    "weights of which one is not negative",
    "the others",
    lambda: holds(at_most(w.weighed(d, u), u[i]), by=within_depth(d, by=smt()), assuming=[at_least(u[i], 0)]),
)
attack(
    "an equation, as a bound",
    "d = 2",
    lambda: holds(equals(w.doubled(), 1 + d), by=within_depth(d, by=algebra())),
    at={d: 2},
)
attack(
    "weights of which one is assumed not to be negative, in a bound",
    "d = 1, u = (1, −5), i = 1: −4",
    lambda: holds(
        at_least(w.weighted(), w.minus(w.v[i], w.v[i])), by=within_depth(d, by=smt()), assuming=[at_least(u[i], 0)]
    ),
)
attack(
    "the same with an index on both sides",
    "d = 1, u = (1, −5), i = 1: −4",
    lambda: holds(at_least(w.weighted() + w.v[i], w.v[i]), by=within_depth(d, by=smt()), assuming=[at_least(u[i], 0)]),
)

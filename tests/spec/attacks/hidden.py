"""Sizes that an application depends on and does not show.

A definition takes the sizes of its families and indices from them. Applied to a number it still depends on the size,
and nothing that is put in for the size reaches it: it is another number at the next depth, under another assumption, or
in a definition whose own argument the size is."""

from grape_spec.language import (
    At,
    OneHot,
    PositionOn,
    Real,
    at_least,
    at_most,
    equals,
    family,
    holds,
    sum_over,
)
from grape_spec.proof.rules import chain, fact, finite_sum, induction, over_depth, rewrite, smt, step, within_depth
from sympy import Integer, Lambda, Max

from tests.spec.attacks import world as w
from tests.spec.attacks.world import attacks_on, by_depth, c, d, i, j, n, of, r, s, t, true, u, x

attack = attacks_on("hidden")

TAKES, KEEPS = "takes the size at_c from its families and indices", "whatever is put in for the argument"


def length():
    """The size c of the axis of s, whatever s is."""
    found = of("length", (s,), w.minus(s, s) + sum_over(Integer(1), t))
    true("its_value", equals(found(1), c), finite_sum())
    return found


def length_at_depth():
    """The same at every depth, where it does not unfold."""
    found = by_depth("length", (d, s), w.minus(s, s) + sum_over(Integer(1), t), lambda go: go())
    true("its_value", equals(found(d, 1), c), over_depth(d))
    return found


def added_up(*others):
    """The sum of the depths before, c·(c − 1)/2."""
    return by_depth("added_up", (c, *others), w.minus(*others * 2) if others else Integer(0), lambda go: go() + c)


def known():
    """That the length is c."""
    return [fact("at.its_value")]


def numbers(size, domain=Real, name="at_w"):
    """A family of a length."""
    return family(name, domain, size, text="numbers")


# -- another size at the next depth -------------------------------------------------------------------------------

attack(
    "a bound by a recursion that hides the depth",
    "c = 3: 3, and 6",
    lambda: holds(at_least(added_up()(), (c - 1) * length_at_depth()(d, 1)), by=within_depth(c, by=smt(given=known()))),
    at={c: 3, d: 0},
)
attack(
    "the same for a recursion with an argument of its own",
    "c = 3: 3, and 6",
    lambda: holds(
        at_least(added_up(d)(), (c - 1) * length_at_depth()(d, 1)), by=within_depth(c, by=smt(given=known()))
    ),
    at={c: 3, d: 0},
)
attack(
    "an equation with a recursion that hides the depth",
    "c = 2: 1, and 0",
    lambda: holds(
        equals(
            by_depth("reset", (c,), Integer(0), lambda go: w.minus(go(), go()) + c)(),
            (c - 1) * (c - length_at_depth()(d, 1)),
        ),
        by=over_depth(c, given=known()),
    ),
    at={c: 2, d: 0},
)
attack(
    "a recursion that hides the depth, within a definition",
    "c = 3: 3, and 6",
    lambda: holds(
        at_least(added_up()(), (c - 1) * of("around", (d, x), length_at_depth()(d, 1) * x)(d, 1)),
        by=within_depth(c, by=smt(given=known())),
    ),
    refused=TAKES,
)
attack(
    "induction over a size that a recursion hides",
    "c = 2",
    lambda: holds(equals(c * length_at_depth()(d, 1), c), by=induction(c)),
    at={c: 2, d: 0},
)


def jump():
    """0 at the first depth, 2 at the second and 3 from then on."""
    return by_depth("jump", (c,), Integer(0), lambda go: go() + Max(0, 3 - c))()


def assumed(condition, kept=True):
    """That the jump is not there, from what holds at late depths alone."""
    return lambda: holds(
        at_most(jump(), 0), by=within_depth(c, by=smt(given=known() if kept else ())), assuming=[condition()]
    )


attack(
    "an assumption on a size that a definition hides",
    "c = 3: 3",
    assumed(lambda: at_least(length()(1), 3)),
    at={c: 3},
)
attack(
    "an assumption on a size that a recursion hides",
    "c = 3: 3",
    assumed(lambda: at_least(length_at_depth()(d, 1), 3)),
    at={c: 3, d: 0},
)
attack(
    "an assumption on a size that is hidden, at a point",
    "c = 3: 3",
    assumed(lambda: at_least(At(length()(s), s, 1), 3)),
    at={c: 3},
)
attack(
    "an assumption on a size that a Lambda hides",
    "c = 3: 3",
    assumed(lambda: at_least(w.col_total(Lambda(s, 1)), 3), kept=False),
    at={c: 3},
)
attack(
    "a depth that is the size of an index",
    "another position at each depth",
    lambda: holds(equals(by_depth("written", (c, s), s, lambda go: go())(3, 3), 3), by=finite_sum()),
    refused="the depth at_c is the size of at_s",
)
attack(
    "a depth that is the size of a family",
    "fewer entries at each depth",
    lambda: holds(equals(by_depth("written", (c, w.col), w.col[1], lambda go: go() + w.col[1])(), c), by=over_depth(c)),
    refused="the depth at_c is the size of at_col",
)

# -- another size as an argument ----------------------------------------------------------------------------------


def scaled():
    """c more than a total that has the size c as well."""
    return of("scaled", (n, u), w.total(u) + n)


attack(
    "a definition keeps the size of a family",
    "n = 1, c = 2",
    lambda: holds(equals(scaled()(c, numbers(c)), w.total(u) + c), by=finite_sum()),
    refused=KEEPS,
)
attack(
    "a definition keeps the size when a number is put in",
    "n = 1: three times a total over 3, divided by 1",
    lambda: holds(equals(of("outer", (n, u), w.unit(u) * n)(3, numbers(3)), 3), by=smt()),
    refused=KEEPS,
)
attack(
    "a definition keeps the size of an index",
    "n = 1, c = 2",
    lambda: holds(equals(of("outer", (c, s), length()(s) + c)(n, i), c + n), by=finite_sum()),
    refused=KEEPS,
)
attack(
    "a definition keeps the size of a position that is a number",
    "n = 1, c = 2",
    lambda: holds(equals(of("outer", (c, x), length()(1) * x + c)(n, x), c * x + n), by=finite_sum()),
    refused=KEEPS,
)
attack(
    "a definition hides a size, and one around it has it as an argument",
    "n = 1, c = 2",
    lambda: holds(
        equals(of("outer", (c, x), of("inner", (x,), length()(1) * x)(x) + c)(n, x), c * x + n), by=finite_sum()
    ),
    refused="no argument here has",
)
attack(
    "a definition keeps the size in a sum over its axis",
    "n = 1, c = 2: 1 · 2",
    lambda: holds(equals(of("outer", (c, x), sum_over(length()(s) * x, s))(n, x), n**2 * x), by=finite_sum()),
    refused=KEEPS,
)
attack(
    "a Lambda keeps the size",
    "n = 1, c = 2",
    lambda: holds(
        equals(
            of("outer", (c, r), of("summed", (c, w.col), sum_over(w.col[s], s))(c, Lambda(s, r * s)))(n, r),
            r * sum_over(s, s),
        ),
        by=finite_sum(),
    ),
    refused="keeps the size at_c",
)
attack(
    "a recursion keeps the size of a family",
    "n = 1, c = 2",
    lambda: holds(
        equals(by_depth("outer", (d, n, u), w.total(u), lambda go: go() + n)(1, c, numbers(c)), w.total(u) + c),
        by=finite_sum(),
    ),
    refused=KEEPS,
)
attack(
    "a chain through a size that is kept",
    "n = 1, c = 2",
    lambda: holds(
        equals(w.total(u) + c, w.total(u) + c + 0 * n),
        by=chain(step(scaled()(c, numbers(c)), by=finite_sum()), step(w.total(u) + c, by=finite_sum())),
    ),
    refused=KEEPS,
)
attack(
    "a fact at another size",
    "n = 1, c = 2",
    lambda: holds(equals(length()(1), n), by=smt(given=[fact("at.its_value", at_c=n)])),
    at={c: 2, n: 1},
)
attack(
    "rewriting at another size",
    "n = 1, c = 2",
    lambda: holds(equals(length()(1), n), by=rewrite("at.its_value", at_c=n)),
    at={c: 2, n: 1},
)

# -- what else belongs to an axis ---------------------------------------------------------------------------------


def led():
    """An entry of a family over n at a position that another leads to."""
    where = family("at_where", PositionOn(n), n, c, text="where")
    return of("led", (n, c, j, s, u, where), u[where[j, s]])


attack(
    "positions that lead along the old axis",
    "c = 2, n = 3",
    lambda: holds(
        equals(led()(c, n, s, i, numbers(c), family("at_back", PositionOn(n), c, n, text="where")), x), by=smt()
    ),
    refused="expected a family of positions in 1..at_c",
)
attack(
    "numbers in place of a one-hot row, at another size",
    "two of them are 1",
    lambda: holds(equals(of("ones", (n, w.hot), sum_over(w.hot[i], i))(c, numbers(c)), 1), by=finite_sum()),
)
attack(
    "squares of numbers in place of a mask, at another size",
    "2",
    lambda: holds(
        equals(of("squares", (n, w.mask), sum_over(w.mask[i] ** 2 - w.mask[i], i))(c, numbers(c)), 0),
        by=finite_sum(),
    ),
)
attack(
    "one-hot rows of another size, all of them 1",
    "c = 2",
    lambda: holds(equals(of("ones", (n, w.hot), sum_over(w.hot[i], i))(c, numbers(c, OneHot)), c), by=finite_sum()),
)

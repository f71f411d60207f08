"""What the attacks speak of: symbols of every kind, definitions that hide things, and true claims to build on.

It is declared once, and the tables are put back at once: `entered` enters it for as long as a test needs it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grape_spec  # noqa: F401 - the registry is full before anything is added
import sympy as sp
from grape_spec.language import (
    Definition,
    Diff,
    Mask,
    NonNegative,
    OneHot,
    Open,
    Part,
    PositionOn,
    Positive,
    Real,
    Simplex,
    Size,
    Smooth,
    SmoothPositive,
    at_least,
    claim,
    define,
    delta,
    equals,
    family,
    function,
    greater,
    holds,
    index,
    recursive,
    sum_over,
    symbol,
)  # fmt: skip
from grape_spec.language.domains import Naturals
from grape_spec.proof.rules import algebra, finite_sum, over_depth, slope, smt, termwise
from sympy import Abs, exp, log, sqrt

from tests.tables import TABLES, restored

#: The id of every attack: only one of them is ever entered.
ID = "at.attack"

#: Farther out than a search draws often.
FAR = 1_000_000


@dataclass(frozen=True)
class Attack:
    """A statement that is false, or has no value, somewhere in its domain, with a proof that must fail.

    Arguments:
        kind: what it is an attack on.
        why: where the statement fails.
        parts: writes the claim; what is written is proved in the order of its parts, the last of them false.
        at: a point at which the last part is false, where a search may not find one.
        refused: words of the error, where the language refuses to have it written.
    """

    kind: str
    name: str
    why: str
    parts: Callable[[], Part | list[Part]]
    at: dict = field(default_factory=dict)
    refused: str = ""


ATTACKS: list[Attack] = []


def attacks_on(kind: str) -> Callable[..., None]:
    """The function by which a file adds attacks of its kind."""

    def attack(name: str, why: str, parts: Any, *, at: dict | None = None, refused: str = "") -> None:
        ATTACKS.append(Attack(kind, name, why, parts, at or {}, refused))

    return attack


def of(name: str, arguments: tuple, body: Any, **more: Any) -> Definition:
    """A definition."""
    return define(f"at.{name}", "", arguments, body, **more)


def by_depth(name: str, arguments: tuple, first: Any, step: Any) -> Definition:
    """A definition by recursion over its first argument."""
    return recursive(f"at.{name}", "", arguments, arguments[0], first, step)


def true(id: str, statement: Any, by: Any, assuming: Any = ()) -> None:
    """A claim that holds."""
    claim(f"at.{id}", "true", holds(statement, by=by, assuming=assuming))


with restored() as _before:
    n, c = symbol("at_n", Size, "rows"), symbol("at_c", Size, "columns")
    i, j, k, l = (index(f"at_{name}", n, "a row") for name in "ijkl")
    s, t = index("at_s", c, "a column"), index("at_t", c, "a column")
    x, y, z = (symbol(f"at_{name}", Real, "a number") for name in "xyz")
    r, e = symbol("at_r", Positive, "a number"), symbol("at_e", NonNegative, "a number")
    m, a = symbol("at_m", Mask(), "a mask"), symbol("at_a", Open(1), "a number above one")
    u, v = family("at_u", Real, n, text="numbers"), family("at_v", Real, n, text="numbers")
    q, p = family("at_q", Positive, n, text="weights"), family("at_p", Simplex, n, text="probabilities")
    col = family("at_col", Positive, c, text="weights of columns")
    mask, hot = family("at_mask", Mask(), n, text="a mask"), family("at_hot", OneHot, n, text="a one-hot row")
    table, wide = family("at_table", Real, n, c, text="a table"), family("at_wide", Positive, n, c, text="weights")
    rows, square = family("at_rows", Simplex, n, n, text="rows"), family("at_square", Real, n, n, text="a square")
    pairs = family("at_pairs", Simplex, n, c, text="rows of a table")
    d, onward = (
        symbol("at_d", Naturals("whole number", 0), "a depth"),
        family("at_onward", PositionOn(n), n, text="where"),
    )
    f, g = function("at_f", Smooth, "a function"), function("at_g", SmoothPositive, "a positive function")

    mul, minus = of("mul", (x, y), x * y), of("minus", (x, y), x - y)
    over = of("over", (x, y), x / y)
    mag, lg, root, ex = (
        of("mag", (x,), Abs(x)), of("lg", (x,), log(x)), of("root", (x,), sqrt(x)), of("ex", (x,), exp(x)),
    )  # fmt: skip
    total = of("total", (u,), sum_over(u[j], j))
    pick = of("pick", (i, u), sum_over(delta(i, j) * u[j], j))
    count, triangle = of("count", (n,), sum_over(sp.Integer(1), i)), of("triangle", (n,), sum_over(i, i))
    partial = of("partial", (q, n), sum_over(q[i], i))
    col_total = of("col_total", (col,), sum_over(col[s], s))
    softmax = of("softmax", (i, u), exp(u[i]) / sum_over(exp(u[j]), j), domain=Positive)
    unit = of("unit", (u,), sum_over(u[i], i) / n)
    spread = of("spread", (u,), sum_over((u[i] - unit()) ** 2, i) / (n - 1))

    counted = by_depth("counted", (d,), sp.Integer(0), lambda go: go() + 1)
    doubled = by_depth("doubled", (d,), sp.Integer(1), lambda go: 2 * go())
    shifted = by_depth("shifted", (d, x), x, lambda go: go(at_x=x + 1))
    apart = by_depth("apart", (d, x, y), x - y, lambda go: go(at_y=y + 1))
    along = by_depth("along", (d, i, u, onward), u[i], lambda go: u[i] + go(at_i=onward[i]))
    drawn = by_depth("drawn", (d, x, u, p), x, lambda go: sum_over(p[j] * go(at_x=x + u[j]), j))
    sized = by_depth("sized", (d, r), mag(r), lambda go: go() + r)
    kinked = by_depth("kinked", (d, x), mag(x), lambda go: go() + x)
    grown = by_depth("grown", (d, x), exp(x), lambda go: x * go())
    faster = by_depth("faster", (d, x), exp(2 * x), lambda go: x * go())
    cut = by_depth("cut", (d, x), sp.Integer(1), lambda go: go() * over(x, x))
    turned = by_depth("turned", (d,), sp.Integer(-5), lambda go: -go())
    squared = by_depth("squared", (d,), sp.Integer(-5), lambda go: go() ** 2)
    multiplied = by_depth("multiplied", (d, x), x - 5, lambda go: go(at_x=x) * go(at_x=0))
    weighed = by_depth("weighed", (d, u), sp.Integer(-5), lambda go: sum_over(u[i] * go(), i))
    weighted = by_depth("weighted", (d, u), sp.Integer(1), lambda go: sum_over(u[i] * go(), i))
    lengthening = by_depth("lengthening", (c,), sp.Integer(1), lambda go: go() + 1)

    true("counted_is_depth", equals(counted(), d), over_depth(d))
    true("positive", greater(exp(x), 0), smt())
    true("square", at_least(x**2, 0), smt())
    true("mag_of_positive", equals(mag(r), r), smt())
    true("mag_of_nonnegative", equals(mag(e), e), smt())
    true("mag_squared", equals(mag(x) ** 2, x**2), algebra())
    true("row", equals(sum_over(p[i], i), 1), finite_sum())
    true("pairs", equals(sum_over(pairs[i, s], s), 1), finite_sum())
    true("one", equals(sum_over(delta(k, i), k), 1), finite_sum())
    true("mask", equals(m**2, m), smt())
    true("square_slope", equals(Diff(x**2, x), 2 * x), algebra())
    true("below_two", sp.Lt(x, 2, evaluate=False), smt(), [sp.Lt(x, 1, evaluate=False)])
    true("above_one", greater(a, 1), smt())
    true("is_its_size", equals(r, mag(r)), smt())
    true("mag_slope", equals(Diff(mag(x), x), 1), slope(radius=x), [greater(x, 0)])
    true("nonnegative_sum", at_least(sum_over(u[i], i), 0), termwise(0), [at_least(u[i], 0)])
    true("no_entry", equals(mul(0, u[i]), mul(0, u[j])), algebra())
    true("size", equals(n, sum_over(sp.Integer(1), i)), finite_sum())
    _ADDED = [
        {key: value for key, value in table.items() if key not in old}
        for table, old in zip(TABLES, _before, strict=True)
    ]


@contextmanager
def entered() -> Iterator[None]:
    """Within: the world is declared."""
    with restored():
        for table, added in zip(TABLES, _ADDED, strict=True):
            table.update(added)
        yield

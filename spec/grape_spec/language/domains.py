"""Domains: what values a symbol may take.

One object has four readings: the SymPy assumption that simplification may use, the constraint that an SMT solver is
given, the sampler that refutation draws from, and the line in the documentation. Samples are dyadic rationals, so that
ball arithmetic represents them, and the sums and products of them, without any error.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from random import Random

import sympy as sp
from sympy.logic.boolalg import Boolean

#: Bits after the binary point of a sampled number.
SAMPLE_BITS = 6

#: The binary exponents of numbers that are sampled far out or close to an end, from a millionth to a billion.
MAGNITUDES = (-20, 30)

#: The largest number for a size, a depth or an exponent: engines write such a thing out.
MOST = 100

#: How often a number is sampled from all magnitudes.
FAR = 0.2


def _refuse(wrong: bool, got: str, expected: str) -> None:
    if wrong:
        raise ValueError(f"domain: got {got}, expected {expected}")


@dataclass(frozen=True)
class Domain:
    """A set of numbers; the subclasses say which."""

    name: str

    @property
    def assumptions(self) -> dict[str, bool]:
        """What SymPy may assume of a symbol with this domain."""
        return {"real": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        """The formula that says that ``x`` lies in the domain."""
        return sp.true

    def contains(self, x: Fraction) -> bool:
        """Whether a rational lies in the domain."""
        return True

    def sample(self, random: Random) -> Fraction:
        """One dyadic rational of the domain; boundary points and small integers come often."""
        raise NotImplementedError(f"{self.name} has no sampler of its own")


@dataclass(frozen=True)
class Interval(Domain):
    """An interval of the real line, open or closed at either end; None is an infinite end."""

    low: Fraction | None = None
    high: Fraction | None = None
    low_closed: bool = False
    high_closed: bool = False

    def __post_init__(self) -> None:
        low, high = self.low, self.high
        _refuse(not (low is None or high is None or low < high), f"the interval from {low} to {high}", "low < high")
        _refuse(self.name != self._text(), f"the name {self.name!r}", f"what the interval is: {self._text()!r}")

    def _text(self) -> str:
        """What a page calls the interval, so that a name cannot promise what the ends do not keep."""
        low, high = self.low, self.high
        if low is None and high is None:
            return "real"
        if high is None:
            if low == 0:
                return "non-negative" if self.low_closed else "positive"
            return f"at least {low}" if self.low_closed else f"greater than {low}"
        if low is None:
            return f"at most {high}" if self.high_closed else f"less than {high}"
        return f"in {'[' if self.low_closed else '('}{low}, {high}{']' if self.high_closed else ')'}"

    @property
    def assumptions(self) -> dict[str, bool]:
        if self.low is not None and (self.low > 0 or (self.low == 0 and not self.low_closed)):
            return {"positive": True}
        if self.low == 0:
            return {"nonnegative": True}
        return {"real": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        parts = []
        if self.low is not None:
            low = sp.Rational(self.low.numerator, self.low.denominator)
            parts.append(sp.Ge(x, low, evaluate=False) if self.low_closed else sp.Gt(x, low, evaluate=False))
        if self.high is not None:
            high = sp.Rational(self.high.numerator, self.high.denominator)
            parts.append(sp.Le(x, high, evaluate=False) if self.high_closed else sp.Lt(x, high, evaluate=False))
        return sp.And(*parts, evaluate=False) if len(parts) > 1 else (parts[0] if parts else sp.true)

    @property
    def is_open(self) -> bool:
        """Whether every point has neighbours on both sides, so that functions on it can be differentiated."""
        return not (self.low_closed or self.high_closed)

    @cached_property
    def _simple(self) -> list[Fraction]:
        """A few numbers of the interval at which formulas are likely to go wrong."""
        return [x for n in (0, 1, 2, 4, 6, 8, 12, -1, -2, -4, -8) if self.contains(x := Fraction(n, 4))]

    @cached_property
    def _grids(self) -> dict[int, tuple[Fraction, Fraction]]:
        """For each width of a window, where an open end has one, the lowest number in it and the step upwards."""
        found = {}
        for width in (1, 2, 4, 16):
            low = self.low if self.low is not None else (Fraction(-width) if self.high is None else self.high - width)
            high = self.high if self.high is not None else low + (width if self.low is not None else 2 * width)
            found[width] = low, (high - low) / 2**SAMPLE_BITS
        return found

    def contains(self, x: Fraction) -> bool:
        above = self.low is None or x > self.low or (self.low_closed and x == self.low)
        below = self.high is None or x < self.high or (self.high_closed and x == self.high)
        return above and below

    def sample(self, random: Random) -> Fraction:
        if random.random() < 0.3 and self._simple:
            return random.choice(self._simple)
        if random.random() < FAR:
            return self._far(random)
        low, step = self._grids[random.choice((1, 1, 2, 4, 16))]
        while True:
            x = low + step * random.randint(0, 2**SAMPLE_BITS)
            if self.contains(x):
                return x

    def _far(self, random: Random) -> Fraction:
        """A number of any magnitude, seen from an end: some statements fail only far out, or only close to an end."""
        significand = Fraction(random.randint(2**SAMPLE_BITS, 2 ** (SAMPLE_BITS + 1) - 1), 2**SAMPLE_BITS)
        if self.low is not None and self.high is not None:
            distance = (self.high - self.low) * significand / 2 ** random.randint(2, -MAGNITUDES[0])
        else:
            distance = significand * Fraction(2) ** random.randint(*MAGNITUDES)
        upwards = self.low is not None and (self.high is None or random.random() < 0.5)
        if upwards or (self.high is None and random.random() < 0.5):
            return (self.low or Fraction(0)) + distance
        return (self.high or Fraction(0)) - distance


@dataclass(frozen=True)
class Naturals(Domain):
    """The integers from ``low`` upwards: sizes and counts."""

    low: int = 1

    def __post_init__(self) -> None:
        whole = isinstance(self.low, int) and 0 <= self.low <= MOST
        _refuse(not whole, f"the lowest number {self.low}", f"an integer from 0 to {MOST}")
        expected = {0: "whole number", 1: "positive integer"}.get(self.low, f"integer of at least {self.low}")
        _refuse(self.name != expected, f"the name {self.name!r}", repr(expected))

    @property
    def assumptions(self) -> dict[str, bool]:
        return {"integer": True, "positive": True} if self.low > 0 else {"integer": True, "nonnegative": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        return sp.Ge(x, self.low, evaluate=False)

    def contains(self, x: Fraction) -> bool:
        return x.denominator == 1 and x >= self.low

    def sample(self, random: Random) -> Fraction:
        return Fraction(self.low + random.choice((0, 1, 1, 2, 2, 3)))


@dataclass(frozen=True)
class IndexUpTo(Domain):
    """The positions 1, 2, …, size of an axis."""

    size: sp.Expr = sp.S.One

    @property
    def assumptions(self) -> dict[str, bool]:
        return {"integer": True, "positive": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        return sp.And(sp.Ge(x, 1, evaluate=False), sp.Le(x, self.size, evaluate=False), evaluate=False)


@dataclass(frozen=True)
class Position(Domain):
    """A position on an axis, as an entry of a family: where a step from each position leads."""

    size: sp.Expr = sp.S.One

    def __post_init__(self) -> None:
        _refuse(self.name != f"in 1..{self.size}", f"the name {self.name!r}", repr(f"in 1..{self.size}"))

    @property
    def assumptions(self) -> dict[str, bool]:
        return {"integer": True, "positive": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        return sp.And(sp.Ge(x, 1, evaluate=False), sp.Le(x, self.size, evaluate=False), evaluate=False)

    def sample_within(self, random: Random, size: int) -> int:
        """One position on an axis of the given size."""
        return random.randint(1, size)


@dataclass(frozen=True)
class OneOf(Domain):
    """A finite set of numbers, such as the values 0 and 1 of a mask."""

    values: tuple[int, ...] = (0, 1)

    def __post_init__(self) -> None:
        whole = bool(self.values) and all(isinstance(value, int) for value in self.values)
        _refuse(not whole, f"the values {self.values}", "one integer or more")
        expected = " or ".join(map(str, self.values))
        _refuse(self.name != expected, f"the name {self.name!r}", repr(expected))

    @property
    def assumptions(self) -> dict[str, bool]:
        return {"nonnegative": True} if min(self.values) >= 0 else {"real": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        return sp.Or(*(sp.Eq(x, v, evaluate=False) for v in self.values), evaluate=False)

    def contains(self, x: Fraction) -> bool:
        return x in self.values

    def sample(self, random: Random) -> Fraction:
        return Fraction(random.choice(self.values))


@dataclass(frozen=True)
class RowDomain(Domain):
    """Rows of numbers along the last axis of a family, each of which sums to one."""

    def sample_row(self, random: Random, length: int) -> list[Fraction]:
        """One row of the given length."""
        raise NotImplementedError


@dataclass(frozen=True)
class SimplexDomain(RowDomain):
    """Probability vectors without a zero: the interior of the simplex."""

    @property
    def assumptions(self) -> dict[str, bool]:
        return {"positive": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        return sp.Gt(x, 0, evaluate=False)

    def sample_row(self, random: Random, length: int) -> list[Fraction]:
        total = 2**10
        cuts = sorted(random.sample(range(1, total), length - 1))
        return [Fraction(b - a, total) for a, b in zip([0, *cuts], [*cuts, total], strict=True)]


@dataclass(frozen=True)
class OneHotDomain(RowDomain):
    """Rows with a single 1 among zeros: which part a thing belongs to."""

    @property
    def assumptions(self) -> dict[str, bool]:
        return {"nonnegative": True}

    def constraint(self, x: sp.Expr) -> Boolean:
        return sp.Or(sp.Eq(x, 0, evaluate=False), sp.Eq(x, 1, evaluate=False), evaluate=False)

    def sample_row(self, random: Random, length: int) -> list[Fraction]:
        hot = random.randrange(length)
        return [Fraction(int(i == hot)) for i in range(length)]


@dataclass(frozen=True)
class SmoothDomain(Domain):
    """Smooth functions of the parameters; ``positive`` ones have positive values.

    Smooth means that every partial derivative in real arguments exists, of any order, so that their order does not
    matter. Integer arguments are indices.
    """

    positive: bool = False

    @property
    def assumptions(self) -> dict[str, bool]:
        return {"positive": True} if self.positive else {"real": True}


Real = Interval("real")
Positive = Interval("positive", low=Fraction(0))
NonNegative = Interval("non-negative", low=Fraction(0), low_closed=True)
Size = Naturals("positive integer")
Simplex = SimplexDomain("on the interior of the simplex")
OneHot = OneHotDomain("one-hot along the last axis")
Smooth = SmoothDomain("smooth")
SmoothPositive = SmoothDomain("smooth and positive", positive=True)


def Open(low: int | Fraction, high: int | Fraction | None = None) -> Interval:  # noqa: N802 - reads as a set
    """The open interval (low, high); without ``high`` it has no upper end."""
    first, last = Fraction(low), None if high is None else Fraction(high)
    name = "positive" if (first, last) == (0, None) else f"greater than {first}"
    return Interval(name if last is None else f"in ({first}, {last})", first, last)


def PositionOn(size: sp.Symbol) -> Position:  # noqa: N802 - reads as a set
    """The positions 1, 2, …, size of an axis, for the entries of a family."""
    return Position(f"in 1..{size}", size)


def Mask() -> OneOf:  # noqa: N802 - reads as a set
    """The values of a mask: 1 where a token counts, else 0."""
    return OneOf("0 or 1", (0, 1))

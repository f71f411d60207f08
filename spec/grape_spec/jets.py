"""Numbers of the oracle: balls that provably contain a real number (FLINT's Arb), and jets, which carry derivatives.

A jet is a ball with nilpotent parts: each ε has ε² = 0, and the coefficient of ε in a result is the derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from operator import mul
from typing import Any, TypeAlias

import sympy as sp
from flint import arb, fmpq

NOTHING = arb(0)


class Undecided(ArithmeticError):
    """The balls are too wide, or a kink is met exactly: a comparison that decides a branch is not certain."""


class Undefined(ArithmeticError):
    """The expression has no value here: a logarithm of what is certainly not positive, or a division by zero."""


class Jet:
    """A ball plus nilpotent parts: ``parts[mask]`` belongs to the product of the ε whose bits are in the mask."""

    __slots__ = ("parts",)

    def __init__(self, parts: dict[int, arb]) -> None:
        self.parts = parts

    @property
    def value(self) -> arb:
        return self.parts.get(0, NOTHING)

    def part(self, tag: int) -> Number:
        """The coefficient of one ε, itself a jet in the others: the derivative."""
        found = {mask & ~tag: x for mask, x in self.parts.items() if mask & tag}
        return Jet(found) if set(found) - {0} else found.get(0, NOTHING)

    def __add__(self, other: Number) -> Jet:
        parts = dict(self.parts)
        for mask, x in parts_of(other).items():
            parts[mask] = parts[mask] + x if mask in parts else x
        return Jet(parts)

    def __mul__(self, other: Number) -> Jet:
        parts: dict[int, arb] = {}
        for mine, x in self.parts.items():
            for theirs, y in parts_of(other).items():
                if not mine & theirs:
                    mask = mine | theirs
                    parts[mask] = parts[mask] + x * y if mask in parts else x * y
        return Jet(parts)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Jet:
        return Jet({mask: -x for mask, x in self.parts.items()})


Number: TypeAlias = "arb | Jet"


def parts_of(x: Number | int) -> dict[int, arb]:
    """The ball and the nilpotent parts of a number."""
    return x.parts if isinstance(x, Jet) else {0: exact(x)}


def value_of(x: Number) -> arb:
    """The ball without its nilpotent parts."""
    return x.value if isinstance(x, Jet) else x


def _taylor(x: Number, coefficient: Callable[[int], arb]) -> Number:
    """Σ_k coefficient(k) · nᵏ for the nilpotent part n of x: what a smooth function does to a jet."""
    if not isinstance(x, Jet):
        return coefficient(0)
    nilpotent = Jet({mask: part for mask, part in x.parts.items() if mask})
    result, power, k = Jet({0: coefficient(0)}), nilpotent, 1
    while power.parts:
        result = result + power * coefficient(k)
        power, k = power * nilpotent, k + 1
    return result


def exp(x: Number) -> Number:
    """The exponential."""
    at = value_of(x).exp()
    if not isinstance(x, Jet):
        return at
    return _taylor(x, lambda k: at / arb.fac_ui(k))


def log(x: Number) -> Number:
    """The logarithm; refused where the number is certainly not positive."""
    at = value_of(x)
    if at <= 0:
        raise Undefined(f"the logarithm of {at.str(10)}")
    return _taylor(x, lambda k: at.log() if k == 0 else -((-1 / at) ** k) / k)


def power(x: Number, exponent: Fraction) -> Number:
    """A rational power; refused where there is none."""
    at = value_of(x)
    if exponent < 0 and at.is_zero():
        raise Undefined("a division by zero")
    if exponent.denominator != 1 and at < 0:
        raise Undefined(f"a root of {at.str(10)}")
    binomial = [Fraction(1)]

    def coefficient(k: int) -> arb:
        while len(binomial) <= k:
            n = len(binomial)
            binomial.append(binomial[-1] * (exponent - n + 1) / n)
        return exact(binomial[k]) * _ball_power(at, exponent - k) if binomial[k] else arb(0)

    return _taylor(x, coefficient)


def _ball_power(at: arb, exponent: Fraction) -> arb:
    if exponent.denominator == 1 and exponent > 0:
        return reduce(mul, [at] * int(exponent))  # FLINT's own power of a ball around 0 is NaN
    if exponent.denominator == 1:
        return at ** int(exponent)
    if exponent.denominator == 2:
        return at.sqrt() ** int(exponent * 2)
    return at ** exact(exponent)


def turns_negative(x: Jet, ordered: int) -> bool:
    """Whether a number is exactly zero and moves, other than upwards along the side of a one-sided slope."""
    moving = {mask: part for mask, part in x.parts.items() if mask.bit_count() == 1 and (part > 0 or part < 0)}
    return x.value.is_zero() and any(mask != ordered or part < 0 for mask, part in moving.items())


def exact(x: Any) -> Number:
    """A number as a ball: rationals, floats and integers exactly, up to the precision for what is not dyadic."""
    kind = type(x)
    if kind is arb or kind is Jet:
        return x
    if isinstance(x, (Fraction, sp.Rational)):
        return arb(fmpq(int(x.numerator), int(x.denominator)))
    return arb(x)


def ready(x: Any) -> Any:
    """A number or nested list of numbers, ready for arithmetic: integers, balls and jets."""
    if type(x) in (int, arb, Jet):
        return x
    return [ready(entry) for entry in x] if isinstance(x, (list, tuple)) else exact(x)

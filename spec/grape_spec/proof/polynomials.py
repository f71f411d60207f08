"""Polynomials over atoms: sums of rational multiples of monomials, each a product of powers of atoms."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import gcd, lcm

import sympy as sp

Monomial = tuple[tuple[sp.Expr, int], ...]
Polynomial = dict[Monomial, Fraction]

ONE: Polynomial = {(): Fraction(1)}

#: Numbers are split into prime factors up to this one.
SMALL = 10_000


def constant(c: Fraction) -> Polynomial:
    """A rational as a polynomial."""
    return {(): c} if c else {}


def without_zeros(p: Polynomial) -> Polynomial:
    """The same without terms that are zero."""
    return {monomial: c for monomial, c in p.items() if c}


def add(p: Polynomial, q: Polynomial) -> Polynomial:
    """The sum of two normal forms."""
    result = dict(p)
    for monomial, c in q.items():
        result[monomial] = result.get(monomial, Fraction(0)) + c
    return without_zeros(result)


def scale(p: Polynomial, c: Fraction) -> Polynomial:
    """A normal form times a rational."""
    return without_zeros({monomial: c * d for monomial, d in p.items()})


def to_expr(p: Polynomial) -> sp.Expr:
    """The normal form as a SymPy tree."""
    return sp.Add(
        *(
            sp.Mul(sp.Rational(c.numerator, c.denominator), *(sp.Pow(atom, n) for atom, n in monomial))
            for monomial, c in p.items()
        )
    )


def factors_of(number: int) -> list[tuple[int, int]]:
    """The small prime factors of a number with their powers, and what is left."""
    found = sp.factorint(number, limit=SMALL, use_rho=False, use_pm1=False, use_ecm=False)
    return [(int(factor), int(power)) for factor, power in found.items()]


def rational_content(coefficients: Iterable[Fraction]) -> Fraction:
    """The largest rational of which all coefficients are whole multiples."""
    numerator, denominator = 0, 1
    for c in coefficients:
        numerator, denominator = gcd(numerator, c.numerator), lcm(denominator, c.denominator)
    return Fraction(numerator, denominator)

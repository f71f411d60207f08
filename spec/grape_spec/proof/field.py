"""The zero test: a normal form is zero when it is zero in the field of rational functions over its atoms."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp
from sympy.polys.domains import QQ
from sympy.polys.fields import FracField
from sympy.polys.rings import PolyElement

from grape_spec.proof.normal_form import NormalForm, is_root
from grape_spec.proof.polynomials import ONE, Monomial, Polynomial, add


def is_zero(p: Polynomial, form: NormalForm) -> bool:
    """Whether a polynomial over atoms vanishes identically, its atoms taken as independent of each other.

    True is a proof: an identity of rational functions holds for every value of the atoms at which no divisor is zero,
    and the divisors are in ``form.nonzero``; so does one that holds once squares of square roots are written out. False
    is no proof that the expression differs from zero.
    """
    p = form.settle_deltas(p)
    if not p:
        return True
    generators: dict[sp.Expr, None] = {}
    _collect(p, form, generators)
    if not generators:
        return False
    field = FracField([f"x{i}" for i in range(len(generators))], QQ)
    values = dict(zip(generators, field.gens, strict=True))
    element = _element(p, form, values, field)
    return element == field.zero or _vanishes_by_roots(element.numer, list(generators), form)


def _vanishes_by_roots(numerator: PolyElement, generators: list[sp.Expr], form: NormalForm) -> bool:
    """Whether a numerator is zero once the squares of square roots in it are written as what they are squares of."""
    roots = [place for place, atom in enumerate(generators) if is_root(atom)]
    if not any(exponents[place] > 1 for exponents in numerator for place in roots):
        return False
    total: Polynomial = {}
    for exponents, c in numerator.terms():
        monomial = tuple((atom, int(n)) for atom, n in zip(generators, exponents, strict=True) if n)
        total = add(total, form.multiply({monomial: Fraction(int(c.numerator), int(c.denominator))}, ONE))
    return is_zero(total, form)


def _divisor(factor: tuple[sp.Expr, int], form: NormalForm) -> Polynomial | None:
    """The polynomial behind a reciprocal atom; None for an atom that is a generator by itself."""
    atom, _ = factor
    return form.of(atom) if isinstance(atom, sp.Add) else None


def _collect(p: Polynomial, form: NormalForm, generators: dict[sp.Expr, None]) -> None:
    for monomial in p:
        for factor in monomial:
            inner = _divisor(factor, form)
            if inner is None:
                generators[factor[0]] = None
            else:
                _collect(inner, form, generators)


def _element(p: Polynomial, form: NormalForm, values: dict, field: FracField):
    total = field.zero
    for monomial, c in p.items():
        total += _term(monomial, form, values, field) * field.domain(c.numerator, c.denominator)
    return total


def _term(monomial: Monomial, form: NormalForm, values: dict, field: FracField):
    product = field.one
    for atom, n in monomial:
        inner = _divisor((atom, n), form)
        base = values[atom] if inner is None else _element(inner, form, values, field)
        product *= base**n
    return product

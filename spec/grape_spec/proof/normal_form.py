"""A normal form for expressions with finite sums of general length.

An expression becomes a polynomial over *atoms*: a mapping from monomials (atoms with integer exponents) to rationals.
Atoms are symbols, indexed symbols, exponentials and logarithms of monomials, square roots and reciprocals of
polynomials, and sums that cannot be taken apart. The rules that lead there are the only mathematics in this file:

- exp(a + b) = exp(a) exp(b), exp(log a) = a;  log(ab) = log a + log b where a and b are positive, log(exp a) = a;
- √a √a = a, 1/√a = √a/a;  √(ab) = √a √b and √(a²) = a where a is positive;
- m² = m for what is only 0 or 1;
- Σ is linear, and a factor without the bound variable leaves the sum;
- Σ_v δ(v, k) f(v) = f(k) for k in the range of v, and Σ_v 1 = V;
- a row of a simplex family sums to one, and so does a one-hot row; further relations are declared by a claim's
  assumptions;
- Σ_v Σ_w = Σ_w Σ_v, and bound variables are named by how deep sums nest, so that equal sums are equal trees.

A product or quotient is never simplified by dropping a pole: every divisor is recorded in `nonzero` for the caller to
discharge. What the rules do not cover becomes an opaque atom: that can hide a true identity, but it cannot prove a
false one. Whether the polynomial is zero is decided in a field by `grape_spec.proof.field`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import permutations, repeat
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from grape_spec.language.domains import MOST, OneHotDomain, OneOf, RowDomain
from grape_spec.language.expressions import Apply, At, Diff, substitute
from grape_spec.language.symbols import DECLARATIONS, size_of_axis
from grape_spec.proof.derivatives import NotAlgebraic, Partial, is_of_recursion, resolve, with_arguments
from grape_spec.proof.polynomials import (
    ONE,
    Monomial,
    Polynomial,
    add,
    constant,
    factors_of,
    rational_content,
    scale,
    to_expr,
    without_zeros,
)

Bound = tuple[sp.Symbol, sp.Expr]

#: Sums over more variables than this keep the order that they were written in.
MOST_PERMUTED = 4

#: Products with more pairs of terms than this are not multiplied out.
MOST_PAIRS = 10_000


#: What bound variables are called while their sums are taken apart: the same few names, so that equal terms are equal
#: trees. One that is in use, or that occurs in the sum, is passed over.
_NAMES: list[sp.Dummy] = []
_IN_USE: set[sp.Dummy] = set()


class Relation:
    """A declared value of a sum, such as Σ_t mask[i, t] = length for every i."""

    def __init__(self, total: sp.Expr, value: sp.Expr, free: tuple[sp.Symbol, ...]) -> None:
        self.total = total
        self.value = value
        self.free = free


class NormalForm:
    """Brings expressions into normal form and records what had to be nonzero.

    Arguments:
        relations: equations Sum = value, valid for every value of their free indices but the fixed ones.
        fixed: indices that the statement speaks of; what is assumed of one of them is not assumed of others.
        positive: decides whether an expression is positive; what it does not know keeps a logarithm in one piece.
        known: what another form with the same relations, fixed indices and ``positive`` has found.
        totals: whether the total of a row is put in.
    """

    def __init__(
        self,
        relations: Iterable[sp.Eq] = (),
        positive: Callable[[sp.Expr], bool] | None = None,
        fixed: Iterable[sp.Symbol] = (),
        known: dict[Any, tuple[Polynomial, frozenset]] | None = None,
        totals: bool = True,
    ) -> None:
        self._totals = totals
        self._fixed = set(fixed)
        self._positive = positive or is_positive
        self.nonzero: set[sp.Expr] = set()
        self._known: dict[Any, tuple[Polynomial, frozenset]] = {}
        self._ranges: dict[sp.Symbol, sp.Expr] = {}
        self._relations: list[Relation] = []
        for equation in relations:
            self._declare(equation)
        self._known = {} if known is None else known  # what was found before all relations were there is forgotten

    def _declare(self, equation: sp.Eq) -> None:
        total = to_expr(self.of(equation.lhs))
        if not isinstance(total, sp.Sum) or equation.rhs.has(sp.Sum, Apply):
            raise NotAlgebraic(f"a relation must state the value of a single sum, got {equation}")
        indices = {s for s in total.free_symbols if size_of_axis(s) is not None}
        free = tuple(sorted(indices - self._fixed, key=str))
        if len(free) > 1:
            raise NotAlgebraic(f"a relation may have at most one free index, got {equation}")
        self._relations.append(Relation(total, equation.rhs, free))

    # -- the walk -----------------------------------------------------------------------------------------------

    def of(self, expr: sp.Expr) -> Polynomial:
        """The normal form of an expression."""
        if isinstance(expr, sp.Rational):
            return constant(Fraction(int(expr.p), int(expr.q)))
        if isinstance(expr, sp.Symbol | sp.Indexed | sp.KroneckerDelta | AppliedUndef | Partial):
            return self._atom(expr)
        key = (expr, *((name, self._ranges.get(name)) for name in dummies_in(expr)))
        if key not in self._known:
            before, self.nonzero = self.nonzero, set()
            try:
                self._known[key] = self._worked_out(expr), frozenset(self.nonzero)
            finally:
                self.nonzero |= before
        result, nonzero = self._known[key]
        self.nonzero |= nonzero
        return result

    def _worked_out(self, expr: sp.Expr) -> Polynomial:
        if isinstance(expr, sp.Add):
            return reduce(add, (self.of(arg) for arg in expr.args))
        if isinstance(expr, sp.Mul):
            return reduce(self.multiply, (self.of(arg) for arg in expr.args))
        if isinstance(expr, sp.exp):
            return self._exp(self.of(expr.args[0]))
        if isinstance(expr, sp.Pow):
            return self._pow(expr)
        if isinstance(expr, sp.log):
            return self._log(self.of(expr.args[0]))
        if isinstance(expr, sp.Sum):
            return self._sum(expr)
        if isinstance(expr, Apply) and expr.unfolds:
            return self.of(expr.unfold())
        if isinstance(expr, Apply | Diff | At):
            taken = resolve(expr)
            if is_of_recursion(taken):
                return self._of_recursion(taken)
            return self.of(taken)
        if isinstance(expr, sp.Min | sp.Max | sp.Abs):
            return self._opaque(expr)
        if isinstance(expr, sp.Product):
            return self._product(expr)
        raise NotAlgebraic(f"{type(expr).__name__} has no normal form: {expr}")

    def _atom(self, atom: sp.Expr, exponent: int = 1) -> Polynomial:
        if exponent == 0:
            return ONE
        if isinstance(atom, sp.KroneckerDelta):
            exponent = 1
        return {((atom, exponent),): Fraction(1)}

    def _of_recursion(self, expr: sp.Expr) -> Polynomial:
        """A recursion, or its derivative, in which a total that is known at the point may not be put in."""
        form = NormalForm(totals=False) if isinstance(expr, Diff) else self
        form._ranges = self._ranges
        result = self._atom(with_arguments(expr, lambda argument: to_expr(form.of(argument))))
        self.nonzero |= form.nonzero
        return result

    def _opaque(self, expr: sp.Expr) -> Polynomial:
        rebuilt = expr.func(*(to_expr(self.of(arg)) for arg in expr.args))
        return self._atom(rebuilt) if isinstance(rebuilt, expr.func) else self.of(rebuilt)

    # -- products -----------------------------------------------------------------------------------------------

    def multiply(self, p: Polynomial, q: Polynomial) -> Polynomial:
        """The product of two normal forms."""
        if len(p) * len(q) > MOST_PAIRS:
            raise NotAlgebraic(f"a product of {len(p)} and {len(q)} terms is too long")
        result: Polynomial = {}
        for left, c in p.items():
            for right, d in q.items():
                monomial = self._merge(left, right)
                if all(n == 1 or not is_root(atom) for atom, n in monomial):
                    result[monomial] = result.get(monomial, Fraction(0)) + c * d
                else:
                    result = add(result, scale(self._without_squared_roots(monomial), c * d))
        return without_zeros(result)

    def _without_squared_roots(self, monomial: Monomial) -> Polynomial:
        """The same with every square root to the power of one: (√b)ⁿ is √b or 1 times a whole power of b."""
        others = tuple((atom, n) for atom, n in monomial if n == 1 or not is_root(atom))
        result: Polynomial = {others: Fraction(1)}
        for atom, n in monomial:
            if (atom, n) not in others:
                whole, left = divmod(n, 2)
                base = self.of(atom.base)
                factor = base if whole >= 0 else self.inverse(base)
                result = reduce(self.multiply, repeat(factor, abs(whole)), result)
                result = self.multiply(result, self._atom(atom)) if left else result
        return result

    def _merge(self, left: Iterable[tuple[sp.Expr, int]], right: Iterable[tuple[sp.Expr, int]]) -> Monomial:
        exponents: dict[sp.Expr, int] = {}
        for atom, exponent in (*left, *right):
            exponents[atom] = exponents.get(atom, 0) + exponent
        kept = [(a, 1 if n > 1 and is_idempotent(a) else n) for a, n in exponents.items() if n]
        return tuple(sorted(kept, key=_key))

    def _pow(self, expr: sp.Pow) -> Polynomial:
        base, exponent = expr.args
        p = self.of(base)
        if isinstance(exponent, sp.Rational) and exponent.q == 2:
            p, exponent = self._sqrt(p), sp.Integer(exponent.p)
        if not isinstance(exponent, sp.Integer):
            raise NotAlgebraic(f"the power {expr} has no normal form")
        if abs(exponent) > MOST:
            raise NotAlgebraic(f"the exponent {exponent} is too large")
        if exponent < 0:
            p, exponent = self.inverse(p), -exponent
        return reduce(self.multiply, repeat(p, int(exponent)), ONE)

    def inverse(self, p: Polynomial) -> Polynomial:
        """The reciprocal of a normal form; the divisor is recorded unless its sign shows that it is nonzero."""
        if not p:
            raise NotAlgebraic("a divisor is identically zero")
        coefficient, monomial, rest = self._content(p)
        for atom, _ in monomial:
            self._must_not_vanish(atom)
        inverse = self.multiply({tuple((atom, -n) for atom, n in monomial): 1 / coefficient}, ONE)
        if len(rest) == 1:
            return inverse
        divisor = to_expr(rest)
        self._must_not_vanish(divisor)
        return self.multiply(inverse, self._atom(divisor, -1))

    def _must_not_vanish(self, divisor: sp.Expr) -> None:
        if not is_positive(divisor):
            self.nonzero.add(divisor)

    def _content(self, p: Polynomial) -> tuple[Fraction, Monomial, Polynomial]:
        """p = coefficient · monomial · rest, with the rest free of common factors and positive in its first term."""
        if len(p) == 1:
            (monomial, coefficient), *_ = p.items()
            return coefficient, monomial, ONE
        atoms = {atom for monomial in p for atom, _ in monomial if not is_root(atom)}
        least = {atom: min(dict(monomial).get(atom, 0) for monomial in p) for atom in atoms}
        common = self._merge(least.items(), ())
        rest = self.multiply(p, {tuple((atom, -n) for atom, n in common): Fraction(1)})
        if any(isinstance(atom, sp.Add) and n > 0 for monomial in rest for atom, n in monomial):
            inner, further, rest = self._content(self.of(to_expr(rest)))
            return inner, self._merge(common, further), rest
        coefficient = rational_content(rest.values())
        if rest[min(rest, key=lambda monomial: [_key(f) for f in monomial])] < 0:
            coefficient = -coefficient
        return coefficient, common, {monomial: c / coefficient for monomial, c in rest.items()}

    # -- square roots, exponentials and logarithms --------------------------------------------------------------

    def _sqrt(self, p: Polynomial) -> Polynomial:
        """The square root of what is not negative: of every positive factor by itself, and of the others together."""
        if not p:
            return {}
        coefficient, monomial, rest = self._content(p)
        if coefficient < 0:
            coefficient, rest = -coefficient, scale(rest, Fraction(-1))
        result, inside = self._sqrt_of_number(coefficient), rest
        for atom, n in monomial:
            if isinstance(atom, sp.exp):
                result = self.multiply(result, self._exp(scale(self.of(atom.args[0]), Fraction(n, 2))))
            elif self._positive(atom) and not is_root(atom):
                whole, left = divmod(n, 2)
                result = self.multiply(result, self._atom(atom, whole))
                result = self.multiply(result, self._root(atom)) if left else result
            else:
                inside = self.multiply(inside, {((atom, n),): Fraction(1)})
        return result if inside == ONE else self.multiply(result, self._root(to_expr(inside)))

    def _root(self, base: sp.Expr) -> Polynomial:
        return self._atom(sp.Pow(base, sp.Rational(1, 2), evaluate=False))

    def _sqrt_of_number(self, c: Fraction) -> Polynomial:
        result = ONE
        for number, sign in ((c.numerator, 1), (c.denominator, -1)):
            for prime, power in factors_of(number):
                whole, left = divmod(sign * power, 2)
                result = scale(result, Fraction(prime) ** whole)
                result = self.multiply(result, self._root(sp.Integer(prime))) if left else result
        return result

    def _exp(self, p: Polynomial) -> Polynomial:
        result = ONE
        for monomial, c in p.items():
            if len(monomial) == 1 and isinstance(monomial[0][0], sp.log) and monomial[0][1] == 1 and c.denominator == 1:
                inside = self.of(monomial[0][0].args[0])
                base = inside if c > 0 else self.inverse(inside)
                factor = reduce(self.multiply, repeat(base, abs(int(c))), ONE)
            else:
                argument = to_expr({monomial: Fraction(1, c.denominator)})
                factor = self._atom(sp.exp(argument, evaluate=False), int(c.numerator))
            result = self.multiply(result, factor)
        return result

    def _log(self, p: Polynomial) -> Polynomial:
        if not p:
            raise NotAlgebraic("the logarithm of zero")
        coefficient, monomial, rest = self._content(p)
        factors = [*monomial, *([(to_expr(rest), 1)] if rest != ONE else [])]
        if coefficient <= 0 or not all(self._positive(atom) for atom, _ in factors):
            return self._atom(sp.log(to_expr(p), evaluate=False))
        result = self._log_of_number(coefficient)
        for atom, n in factors:
            result = add(result, scale(self._log_of_atom(atom), Fraction(n)))
        return result

    def _log_of_atom(self, atom: sp.Expr) -> Polynomial:
        if isinstance(atom, sp.exp):
            return self.of(atom.args[0])
        if is_root(atom):
            return scale(self._log(self.of(atom.base)), Fraction(1, 2))
        return self._atom(sp.log(atom, evaluate=False))

    def _log_of_number(self, c: Fraction) -> Polynomial:
        result: Polynomial = {}
        for number, sign in ((c.numerator, 1), (c.denominator, -1)):
            for prime, power in factors_of(number):
                result = add(
                    result, scale(self._atom(sp.log(sp.Integer(prime), evaluate=False)), Fraction(sign * power))
                )
        return result

    # -- sums ---------------------------------------------------------------------------------------------------

    def _sum(self, expr: sp.Sum) -> Polynomial:
        own: list[Bound] = []
        body = expr.function
        try:
            for bound, low, high in expr.limits:
                if low != 1:
                    raise NotAlgebraic(f"a sum must start at 1, got {expr}")
                if bound in set().union(*(later[2].free_symbols for later in expr.limits)):
                    raise NotAlgebraic(f"the range of one bound variable depends on another: {expr}")
                own.append((self._fresh_bound(high, expr), high))
                body = substitute(body, {bound: own[-1][0]})
            result = self.of(body)
            for fresh in own:
                result = self._sum_over(result, fresh)
            return result
        finally:
            _give_back(own)

    def _fresh_bound(self, size: sp.Expr, *bodies: sp.Expr) -> sp.Symbol:
        """A name for a bound variable of these bodies that nothing else uses while its sum is taken apart."""
        taken = _IN_USE.union(*map(dummies_in, bodies))
        own = next((name for name in _NAMES if name not in taken), None)
        if own is None:
            own = sp.Dummy("bound", integer=True, positive=True)
            _NAMES.append(own)
        _IN_USE.add(own)
        self._ranges[own] = size
        return own

    def _range(self, position: sp.Expr) -> sp.Expr | None:
        if position in self._ranges:
            return self._ranges[position]
        return size_of_axis(position)

    def _sum_over(self, p: Polynomial, bound: Bound) -> Polynomial:
        name, size = bound
        if isinstance(size, sp.Integer):
            terms = (self.of(substitute(to_expr(p), {name: sp.Integer(i)})) for i in range(1, int(size) + 1))
            return reduce(add, terms, {})
        total: Polynomial = {}
        for monomial, c in p.items():
            total = add(total, scale(self._sum_monomial(monomial, bound), c))
        return total

    def _sum_monomial(self, monomial: Monomial, bound: Bound) -> Polynomial:
        name, size = bound
        for factor in monomial:
            if isinstance(factor[0], sp.KroneckerDelta) and name in free_in(factor[0]):
                return self._contract(factor[0], [f for f in monomial if f != factor], bound)
        outside = tuple(f for f in monomial if name not in free_in(f[0]))
        inside = [f for f in monomial if name in free_in(f[0])]
        if not inside:
            return self.multiply({outside: Fraction(1)}, self.of(size))
        return self.multiply({outside: Fraction(1)}, self._joint_sum(inside, bound))

    def _contract(self, d: sp.KroneckerDelta, rest: list[tuple[sp.Expr, int]], bound: Bound) -> Polynomial:
        name, size = bound
        if name not in d.args:
            raise NotAlgebraic(f"{d} does not fix {name}")
        other = d.args[1] if d.args[0] == name else d.args[0]
        if name in other.free_symbols or self._range(other) != size:
            raise NotAlgebraic(f"cannot tell whether {other} lies in 1..{size}")
        return self.of(substitute(to_expr({tuple(rest): Fraction(1)}), {name: other}))

    def _joint_sum(self, inside: list[tuple[sp.Expr, int]], bound: Bound) -> Polynomial:
        """A sum whose factors all contain the bound variable; sums among the factors become further bound variables."""
        bounds = [bound]
        coefficient = Fraction(1)
        factors: list[tuple[sp.Expr, int]] = []
        try:
            for sum_, n in ((atom, n) for atom, n in inside if isinstance(atom, sp.Sum) and n > 0):
                for _ in range(n):
                    fresh = {}
                    for name, _, size in sum_.limits:
                        if any(other in free_in(size) for other, _ in bounds):
                            raise NotAlgebraic(f"the range of one bound variable depends on another: {sum_}")
                        fresh[name] = self._fresh_bound(size, *(atom for atom, _ in inside))
                        bounds.append((fresh[name], size))
                    ((body, c),) = self.of(substitute(sum_.function, fresh)).items()
                    coefficient *= c
                    factors += body
            factors += [(atom, n) for atom, n in inside if not (isinstance(atom, sp.Sum) and n > 0)]
            factors = list(self._merge(factors, ()))
            known = self._by_relation(bounds, factors)
            return scale(self._sum_atom(bounds, factors) if known is None else known, coefficient)
        finally:
            _give_back(bounds[1:])

    def _by_relation(self, bounds: list[Bound], factors: list[tuple[sp.Expr, int]]) -> Polynomial | None:
        """Use a relation on one of the bound variables, if there is one, and sum what is left over the others."""
        for bound in bounds:
            own = [f for f in factors if bound[0] in free_in(f[0])]
            value = self._known_total(own, bound)
            if value is not None:
                others = tuple(f for f in factors if f not in own)
                result = self.multiply({others: Fraction(1)}, value)
                for other in bounds:
                    if other != bound:
                        result = self._sum_over(result, other)
                return result
        return None

    def _known_total(self, own: list[tuple[sp.Expr, int]], bound: Bound) -> Polynomial | None:
        if self._totals and len(own) == 1 and own[0][1] == 1 and self._is_whole_row(own[0][0], bound):
            return ONE
        if not self._relations:
            return None
        total = to_expr(self._sum_atom([bound], own))
        for relation in self._relations:
            value = self._match(relation, total)
            if value is not None:
                return self.of(value)
        return None

    def _match(self, relation: Relation, total: sp.Expr) -> sp.Expr | None:
        """The value that a relation gives a sum, its free index standing for any other of the same range."""
        if not relation.free:
            return relation.value if total == relation.total else None
        (free,) = relation.free
        for candidate in total.free_symbols:
            same_range = self._range(candidate) == self._range(free)
            if same_range and substitute(relation.total, {free: candidate}) == total:
                return substitute(relation.value, {free: candidate})
        return None

    def _is_whole_row(self, atom: sp.Expr, bound: Bound) -> bool:
        if not isinstance(atom, sp.Indexed):
            return False
        entry = DECLARATIONS.get(atom.base)
        own_axis = atom.indices[-1] == bound[0] and bound[0] not in sp.Tuple(*atom.indices[:-1]).free_symbols
        return bool(entry and isinstance(entry.domain, RowDomain) and own_axis and entry.sizes[-1] == bound[1])

    def _sum_atom(self, bounds: list[Bound], factors: list[tuple[sp.Expr, int]]) -> Polynomial:
        """The sum as an atom; its bound variables are named by depth, in the order whose text sorts first."""
        depth = max((_depth(atom) for atom, _ in factors), default=0)
        names = [sp.Symbol(f"_{depth + i}", integer=True, positive=True) for i in range(len(bounds))]
        orders = permutations(bounds) if len(bounds) <= MOST_PERMUTED else [tuple(bounds)]
        product = to_expr({tuple(factors): Fraction(1)})
        candidates = []
        for order in orders:
            renaming = {bound: name for (bound, _), name in zip(order, names, strict=True)}
            limits = ((name, 1, size) for name, (_, size) in zip(names, order, strict=True))
            candidates.append(sp.Sum(substitute(product, renaming), *limits))
        return self._atom(candidates[0] if len(candidates) == 1 else min(candidates, key=_text))

    def _product(self, expr: sp.Product) -> Polynomial:
        if len(expr.limits) != 1:
            raise NotAlgebraic(f"a product over several indices has no normal form: {expr}")
        ((bound, low, high),) = expr.limits
        if isinstance(high, sp.Integer) and low == 1:
            terms = (self.of(substitute(expr.function, {bound: sp.Integer(i)})) for i in range(1, int(high) + 1))
            return reduce(self.multiply, terms, ONE)
        if low != 1:
            raise NotAlgebraic(f"a product must start at 1, got {expr}")
        own = self._fresh_bound(high, expr)
        try:
            body = to_expr(self.of(substitute(expr.function, {bound: own})))
        finally:
            _give_back([(own, high)])
        name = sp.Symbol(f"_{_depth(body)}", integer=True, positive=True)
        return self._atom(sp.Product(substitute(body, {own: name}), (name, low, high)))

    # -- deltas between free indices ----------------------------------------------------------------------------

    def settle_deltas(self, p: Polynomial) -> Polynomial:
        """Write one index for both where a term carries a delta between two free indices."""
        result: Polynomial = {}
        for monomial, c in p.items():
            result = add(result, scale(self._settled(monomial), c))
        return result

    def _settled(self, monomial: Monomial) -> Polynomial:
        for factor in monomial:
            d = factor[0]
            if not isinstance(d, sp.KroneckerDelta):
                continue
            first, second = d.args
            rest = tuple(f for f in monomial if f != factor)
            if isinstance(second, sp.Symbol) and any(second in atom.free_symbols for atom, _ in rest):
                changed = self.of(substitute(to_expr({rest: Fraction(1)}), {second: first}))
                return self.settle_deltas(self.multiply(changed, self._atom(d)))
        return {monomial: Fraction(1)}


def _give_back(bounds: Iterable[Bound]) -> None:
    _IN_USE.difference_update(name for name, _ in bounds)


@lru_cache(maxsize=100_000)
def dummies_in(expr: sp.Basic) -> frozenset[sp.Dummy]:
    """The dummy symbols in an expression."""
    return frozenset((expr,)) if isinstance(expr, sp.Dummy) else frozenset().union(*map(dummies_in, expr.args))


@lru_cache(maxsize=100_000)
def free_in(expr: sp.Basic) -> set[sp.Basic]:
    """The free symbols of an expression."""
    return expr.free_symbols


@lru_cache(maxsize=100_000)
def _text(atom: sp.Expr) -> str:
    """The text by which atoms are ordered; the same in every run, except for dummy symbols."""
    return sp.srepr(atom)


def _key(factor: tuple[sp.Expr, int]) -> tuple[str, int]:
    return _text(factor[0]), factor[1]


def _depth(expr: sp.Expr) -> int:
    """How many names of bound variables, ``_0``, ``_1``, …, an expression uses up."""
    numbers = [int(s.name[1:]) + 1 for s in expr.atoms(sp.Symbol) if s.name[:1] == "_" and s.name[1:].isdigit()]
    return max(numbers, default=0)


def is_root(atom: sp.Expr) -> bool:
    """Whether an atom is a square root."""
    return isinstance(atom, sp.Pow) and not isinstance(atom, sp.exp) and atom.exp == sp.Rational(1, 2)


def is_idempotent(atom: sp.Expr) -> bool:
    """Whether an atom is only 0 or 1, so that its powers are itself."""
    if isinstance(atom, sp.KroneckerDelta):
        return True
    entry = DECLARATIONS.get(atom.base if isinstance(atom, sp.Indexed) else atom)
    if entry is None:
        return False
    return isinstance(entry.domain, OneHotDomain) or (isinstance(entry.domain, OneOf) and entry.domain.values == (0, 1))


def shown_positive(expr: sp.Expr) -> bool:
    """Whether the normal form of an expression shows that it is defined and positive everywhere."""
    form = NormalForm()
    return is_positive(to_expr(form.of(expr))) and not form.nonzero


def is_positive(expr: sp.Expr) -> bool:
    """Whether the form of an expression alone shows that it is positive, given the domains of its symbols."""
    if isinstance(expr, sp.exp):
        return True
    if isinstance(expr, sp.Sum | sp.Product):
        return is_positive(expr.function)
    if isinstance(expr, sp.Add | sp.Mul | sp.Min):
        return all(is_positive(arg) for arg in expr.args)
    if isinstance(expr, sp.Max):
        return any(is_positive(arg) for arg in expr.args)
    if isinstance(expr, sp.Pow):
        return is_positive(expr.base)
    if isinstance(expr, sp.Rational):
        return expr > 0
    return isinstance(expr, sp.Symbol | sp.Indexed | AppliedUndef) and bool(expr.is_positive)

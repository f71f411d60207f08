"""Arithmetic of the second route: a field of exponentials and logarithms, and nilpotent parts for derivatives.

A number is a quotient of two polynomials over generators (FLINT's `fmpq_mpoly`). Generators are what a statement leaves
open (entries of families, values of functions) and, over these, exponentials, logarithms of absolute values of
irreducible polynomials, and square roots of them. Every rewriting is a law of real numbers: exp(a + b) = exp(a)·exp(b),
log(f·g) = log|f| + log|g| for a positive product, √(f²) = |f|. A quotient that is zero is therefore zero wherever its
generators have values. One that is not zero may be so nevertheless, since generators may depend on each other: only
its value at a point tells.

Which sign a polynomial has is read off its form, or off the point that a field was made at; what was read off the point
is kept, and what follows holds wherever these signs are the same: a region around the point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flint import arb, ctx, fmpq, fmpq_mpoly_ctx, fmpz

#: Bits of the values at a point.
BITS = 192

#: Rounds of writing squares as what they are squares of, before giving up.
ROUNDS = 100

#: Terms that a polynomial may have, pairs of terms that a product may have, and digits of a number that is factored.
TERMS, PAIRS, DIGITS = 20_000, 2_000_000, 50

#: Generators of a field; a statement that needs more gets the larger number.
FEW, MANY = 24, 160


class NotDecided(ArithmeticError):
    """This arithmetic does not cover the case; the text says which."""


class TooLong(NotDecided):
    """More steps, or longer polynomials, than a second look may take."""

    def __init__(self) -> None:
        super().__init__("takes too long")


class OnTheEdge(NotDecided):
    """A point lies on the edge of a region, where another point would do."""


class NoValue(ArithmeticError):
    """An expression has no value at the point: a division by zero, a logarithm or root of a negative number."""


class Crowded(ArithmeticError):
    """More generators than the field has room for."""


@dataclass(frozen=True)
class Generator:
    """What a generator stands for.

    Arguments:
        kind: "open" for what is drawn, "exp", "log" or "root".
        of: what the exponential, logarithm or root is taken of; nothing for the first kind.
        draw: the value at the point with a seed, for the first kind.
        positive, nonnegative: what is known of its sign.
    """

    kind: str
    of: Any = None
    draw: Callable[[int], Fraction] | None = None
    positive: bool = False
    nonnegative: bool = False


class Quotient:
    """A quotient of two polynomials in lowest terms, with denominator one or of leading coefficient one."""

    __slots__ = ("above", "below")

    def __init__(self, above: Any, below: Any) -> None:
        if below.is_one():
            self.above, self.below = above, below
            return
        if len(above) + len(below) > TERMS:
            raise TooLong
        if not above.is_zero():
            common = above.gcd(below)
            if not common.is_one():
                above, below = above / common, below / common
        lead = fmpq(1) if above.is_zero() else below.leading_coefficient()
        self.above = above / lead
        self.below = below / lead if not above.is_zero() else below.context().constant(1)

    def __add__(self, other: Quotient) -> Quotient:
        if self.below == other.below:
            return Quotient(self.above + other.above, self.below)
        if max(len(self.above) * len(other.below), len(other.above) * len(self.below)) > PAIRS:
            raise TooLong
        return Quotient(self.above * other.below + other.above * self.below, self.below * other.below)

    def __mul__(self, other: Quotient) -> Quotient:
        if max(len(self.above) * len(other.above), len(self.below) * len(other.below)) > PAIRS:
            raise TooLong
        return Quotient(self.above * other.above, self.below * other.below)

    def __neg__(self) -> Quotient:
        return Quotient(-self.above, self.below)

    @property
    def key(self) -> tuple[str, str]:
        return str(self.above), str(self.below)

    @property
    def number(self) -> Fraction | None:
        """The rational number that it is, if it is one."""
        if not (self.below.is_one() and self.above.is_constant()):
            return None
        c = self.above.leading_coefficient() if not self.above.is_zero() else fmpq(0)
        return Fraction(int(c.p), int(c.q))


@dataclass(frozen=True)
class Sign:
    """What was read off the point: that a polynomial, times the side, is positive, or not negative if closed."""

    polynomial: Any
    side: int
    closed: bool

    def holds(self, value: arb) -> bool | None:
        """Whether a value has this sign; None where that is not certain."""
        turned = value * self.side
        if turned > 0 or (self.closed and value.is_zero()):
            return True
        return False if turned < 0 or value.is_zero() else None


class Field:
    """The field of one statement, around one point.

    Arguments:
        seed: the seed of the point.
        room: how many generators there may be.
        whole: take what is 0 or 1 as the number that it is at the point, not as a generator.
    """

    def __init__(self, seed: int, room: int = FEW, *, whole: bool = False) -> None:
        self.ring = fmpq_mpoly_ctx.get(tuple(f"g{i}" for i in range(room)))
        self._unit = self.ring.constant(1)
        self.seed, self.room, self.whole = seed, room, whole
        self.generators: list[Generator] = []
        self.signs: dict[tuple[str, int, bool], Sign] = {}
        #: Polynomials that something was divided by.
        self.divisors: dict[str, Any] = {}
        #: What generators were found to be equal to, from assumed equations.
        self.solved: dict[Any, tuple[Quotient, Any]] = {}
        self._places: dict[Any, int] = {}
        self._keys: list[Any] = []
        self._squares: dict[int, Quotient] = {}
        self._zero_or_one: set[int] = set()
        self._positive: set[str] = set()
        self._opened: dict[Any, Quotient] = {}
        #: Terms by identity of a polynomial, which is kept so that its identity stays its own.
        self._terms: dict[int, tuple[Any, list[tuple[arb, list[tuple[int, int]]]]]] = {}
        self._factored: dict[str, list[tuple[Any, int]]] = {}
        self._here = Values(self, seed)
        self.zero, self.one = self.rational(0), self.rational(1)

    # -- elements ---------------------------------------------------------------------------------------------------

    def rational(self, x: Fraction | int) -> Quotient:
        """A rational number."""
        return Quotient(self.ring.constant(fmpq(x.numerator, x.denominator)), self._unit)

    def open(self, key: Any, draw: Callable[[int], Fraction], domain: Any) -> Quotient:
        """A generator for a number of a domain that the statement leaves open, or what it was solved for."""
        if key in self.solved:
            return self.solved[key][0]
        if key not in self._opened:
            self._opened[key] = self._open(key, draw, domain)
        return self._opened[key]

    def _open(self, key: Any, draw: Callable[[int], Fraction], domain: Any) -> Quotient:
        switch = getattr(domain, "values", None) == (0, 1) or domain.name.startswith("one-hot")
        if switch and self.whole:
            return self.rational(draw(self.seed))
        facts = domain.assumptions
        positive = bool(facts.get("positive"))
        element = self._generator(key, Generator("open", None, draw, positive, bool(facts.get("nonnegative"))))
        if switch:
            self._zero_or_one.add(self._places[key])
        return element

    def is_positive(self, element: Quotient) -> None:
        """Note that a polynomial is positive by the domain of what it stands for."""
        self._positive.add(str(element.above))

    def key_of(self, place: int) -> Any:
        """The key under which a generator was asked for."""
        return self._keys[place]

    def is_open(self, place: int) -> bool:
        """Whether a generator stands for something declared."""
        return self.generators[place].kind == "open"

    def terms(self, polynomial: Any) -> list[tuple[arb, list[tuple[int, int]]]]:
        """The terms of a polynomial: coefficient, and generators with their exponents."""
        if id(polynomial) not in self._terms:
            terms = [
                (arb(c), [(place, int(n)) for place, n in enumerate(exponents) if n])
                for exponents, c in polynomial.to_dict().items()
            ]
            self._terms[id(polynomial)] = polynomial, terms
        return self._terms[id(polynomial)][1]

    def _generator(self, key: Any, generator: Generator) -> Quotient:
        if key not in self._places:
            if len(self.generators) == self.room:
                raise Crowded(f"more than {self.room} generators")
            self._places[key] = len(self.generators)
            self._keys.append(key)
            self.generators.append(generator)
        return Quotient(self.ring.gen(self._places[key]), self._unit)

    def power(self, x: Quotient, n: int) -> Quotient:
        """A whole power."""
        if n < 0:
            return self.power(self.inverse(x), -n)
        if max(math.comb(n + max(len(p), 1) - 1, n) for p in (x.above, x.below)) > TERMS:
            raise TooLong
        return Quotient(x.above**n, x.below**n)

    def inverse(self, x: Quotient) -> Quotient:
        """One divided by a number."""
        if self.is_zero(x):
            raise NoValue("a division by zero")
        if x.number is None:
            self.divisors[str(x.above)] = x.above
        return Quotient(x.below, x.above)

    def exp(self, x: Quotient) -> Quotient:
        """The exponential, one factor for each term of the exponent."""
        product = self.one
        for exponents, c in x.above.to_dict().items():
            places = [place for place, n in enumerate(exponents) if n]
            only = places[0] if len(places) == 1 and exponents[places[0]] == 1 and x.below.is_one() else None
            if only is not None and self.generators[only].kind == "log" and c.q == 1:
                product = product * self.power(self._absolute(self.generators[only].of), int(c.p))
                continue
            unit = Quotient(self.ring.from_dict({exponents: fmpq(1, c.q)}), x.below)
            factor = self._generator(("exp", *unit.key), Generator("exp", unit, positive=True))
            product = product * self.power(factor, int(c.p))
        return product

    def log(self, x: Quotient) -> Quotient:
        """The logarithm, one term for each irreducible factor."""
        if self.sign(x) != 1:
            raise NoValue("a logarithm of a number that is not positive")
        total = self.zero
        for polynomial, side in ((x.above, 1), (x.below, -1)):
            for factor, n in self._factors(polynomial):
                total = total + self.rational(side * n) * self._log_of(factor)
        return total

    def _log_of(self, factor: Any) -> Quotient:
        terms = factor.to_dict()
        ((exponents, _),) = terms.items() if len(terms) == 1 else (((), None),)
        if sum(exponents) == 1:
            generator = self.generators[list(exponents).index(1)]
            if generator.kind == "exp":
                return generator.of
            if generator.kind == "root":
                return self.rational(Fraction(1, 2)) * self._log_of(generator.of)
        return self._generator(("log", str(factor)), Generator("log", factor))

    def root(self, x: Quotient) -> Quotient:
        """The square root, one factor for each irreducible factor."""
        sign = self.sign(x)
        if sign < 0:
            raise NoValue("a root of a negative number")
        product = self.one if sign else self.zero
        for polynomial, side in ((x.above, 1), (x.below, -1)) if sign else ():
            for factor, n in self._factors(polynomial):
                size = self._absolute(factor)
                product = product * self.power(size, side * (n // 2))
                if n % 2:
                    root = self._root_of(factor, size)
                    product = product * (root if side > 0 else root * self.inverse(size))
        return product

    def _root_of(self, factor: Any, size: Quotient) -> Quotient:
        key = ("root", str(factor))
        root = self._generator(key, Generator("root", factor, positive=True))
        self._squares[self._places[key]] = size
        return root

    def _factors(self, polynomial: Any) -> list[tuple[Any, int]]:
        """Irreducible factors up to sign, prime numbers among them, with how often they occur; 1/2 is 2 to the −1."""
        key = str(polynomial)
        if key not in self._factored:
            self._factored[key] = self._factorised(polynomial)
        return self._factored[key]

    def _factorised(self, polynomial: Any) -> list[tuple[Any, int]]:
        if len(polynomial) > TERMS or any(abs(part) >= 10**DIGITS for c in polynomial.coeffs() for part in (c.p, c.q)):
            raise TooLong
        c, found = polynomial.factor()
        primes = [(p, int(n)) for p, n in fmpz(abs(int(c.p))).factor()] + [(p, -int(n)) for p, n in c.q.factor()]
        whole = [(self.ring.constant(fmpq(int(p))), n) for p, n in primes]
        return whole + [(f if f.leading_coefficient() > 0 else -f, int(n)) for f, n in found]

    def _absolute(self, factor: Any) -> Quotient:
        element = Quotient(factor, self._unit)
        return element if self.sign(element) > 0 else -element

    # -- signs and zero ---------------------------------------------------------------------------------------------

    def is_zero(self, x: Quotient) -> bool:
        """Whether a number is zero by the relations among its generators."""
        return x.above.is_zero() or self._settled(x.above).is_zero()

    def _settled(self, polynomial: Any) -> Any:
        """The numerator once squares of roots, and powers of what is 0 or 1, are written out."""
        for _ in range(ROUNDS if self._squares or self._zero_or_one else 0):
            place = next((i for i, n in enumerate(polynomial.degrees()) if n > 1 and self._reduces(i)), None)
            if place is None:
                return polynomial
            total = self.zero
            for exponents, c in polynomial.to_dict().items():
                rest = tuple(n if i != place else 0 for i, n in enumerate(exponents))
                term = Quotient(self.ring.from_dict({rest: c}), self._unit)
                total = total + term * self._reduced(place, exponents[place])
            polynomial = total.above
        if self._squares or self._zero_or_one:
            raise NotDecided("roots of roots")
        return polynomial

    def _reduces(self, place: int) -> bool:
        return place in self._squares or place in self._zero_or_one

    def _reduced(self, place: int, n: int) -> Quotient:
        generator = Quotient(self.ring.gen(place), self._unit)
        if place in self._zero_or_one:
            return generator if n else self.one
        return self.power(self._squares[place], n // 2) * self.power(generator, n % 2)

    def sign(self, x: Quotient, *, closed: bool = False) -> int:
        """The sign of a number, at the point if its form does not show it; closed if zero may count as either sign."""
        return self._sign_of(x.above, closed) * self._sign_of(x.below, False)

    def _sign_of(self, polynomial: Any, closed: bool) -> int:
        if self._settled(polynomial).is_zero():
            return 0
        for side in (1, -1):
            if self._shows_sign(polynomial * side):
                return side
        value = self._here.polynomial(polynomial)
        side = -1 if value < 0 else 1
        seen = Sign(polynomial, side, closed)
        if not seen.holds(value):
            raise OnTheEdge("a point lies on the edge of a region")
        self.signs[str(polynomial), side, closed] = seen
        return side

    def _shows_sign(self, polynomial: Any) -> bool:
        """Whether a polynomial is positive by its form: no term negative, and one positive."""
        if str(polynomial) in self._positive:
            return True
        if any(c < 0 for c in polynomial.coeffs()):
            return False
        certain = False
        for exponents in polynomial.monoms():
            used = [self.generators[place] for place, n in enumerate(exponents) if n]
            if not all(g.positive or g.nonnegative for g in used):
                return False
            certain |= all(g.positive for g in used)
        return certain


class Values:
    """The values of a field's generators at the point with a seed, as balls."""

    def __init__(self, field: Field, seed: int) -> None:
        self._field, self._seed, self._known = field, seed, {}  # type: ignore[var-annotated]

    def quotient(self, x: Quotient) -> arb:
        """The value of a quotient."""
        with ctx.workprec(BITS):
            return self.polynomial(x.above) / self.polynomial(x.below)

    def polynomial(self, polynomial: Any) -> arb:
        """The value of a polynomial."""
        with ctx.workprec(BITS):
            total = arb(0)
            for c, powers in self._field.terms(polynomial):
                term = c
                for place, n in powers:
                    value = self._generator(place)
                    term = term * value if n == 1 else term * value**n
                total = total + term
            return total

    def _generator(self, place: int) -> arb:
        if place not in self._known:
            self._known[place] = self._of(self._field.generators[place])
        return self._known[place]

    def _of(self, generator: Generator) -> arb:
        if generator.draw is not None:
            drawn = Fraction(generator.draw(self._seed))
            with ctx.workprec(BITS):
                return arb(fmpq(drawn.numerator, drawn.denominator))
        with ctx.workprec(BITS):
            if generator.kind == "exp":
                return self.quotient(generator.of).exp()
            inside = abs(self.polynomial(generator.of))
            return inside.log() if generator.kind == "log" else inside.sqrt()


class Jet:
    """A number with nilpotent parts: ``parts[mask]`` belongs to the product of the ε whose bits are in the mask."""

    __slots__ = ("parts",)

    def __init__(self, parts: dict[int, Quotient]) -> None:
        self.parts = {mask: part for mask, part in parts.items() if not (mask and part.above.is_zero())}

    @property
    def value(self) -> Quotient:
        return self.parts[0]

    @property
    def moves(self) -> bool:
        """Whether it has nilpotent parts."""
        return len(self.parts) > 1

    def __add__(self, other: Jet) -> Jet:
        parts = dict(self.parts)
        for mask, part in other.parts.items():
            parts[mask] = parts[mask] + part if mask in parts else part
        return Jet(parts)

    def __mul__(self, other: Jet) -> Jet:
        parts: dict[int, Quotient] = {}
        for mine, x in self.parts.items():
            for theirs, y in other.parts.items():
                if not mine & theirs:
                    parts[mine | theirs] = parts[mine | theirs] + x * y if mine | theirs in parts else x * y
        return Jet(parts)

    def __neg__(self) -> Jet:
        return Jet({mask: -part for mask, part in self.parts.items()})

    def part(self, tag: int, zero: Quotient) -> Jet:
        """The coefficient of one ε: the derivative."""
        found = {mask & ~tag: part for mask, part in self.parts.items() if mask & tag}
        return Jet({0: zero, **found})

    def through(self, coefficient: Callable[[int], Quotient], zero: Quotient) -> Jet:
        """Σ_k coefficient(k)·nᵏ for the nilpotent part n: what a smooth function does to the number."""
        nilpotent = Jet({**self.parts, 0: zero})
        total, power, k = Jet({0: coefficient(0)}), nilpotent, 1
        while power.moves:
            total = total + power * Jet({0: coefficient(k)})
            power, k = power * nilpotent, k + 1
        return total


def exp(x: Jet, field: Field) -> Jet:
    """The exponential."""
    at = field.exp(x.value)
    return x.through(lambda k: at * field.rational(Fraction(1, math.factorial(k))), field.zero)


def log(x: Jet, field: Field) -> Jet:
    """The logarithm."""
    at = x.value

    def coefficient(k: int) -> Quotient:
        if not k:
            return field.log(at)
        return field.power(at, -k) * field.rational(Fraction((-1) ** (k + 1), k))

    return x.through(coefficient, field.zero)


def power(x: Jet, exponent: Fraction, field: Field) -> Jet:
    """A power whose exponent is whole or half a whole number."""
    if exponent.denominator > 2:
        raise NotDecided("a root that is no square root")
    base = x.value if exponent.denominator == 1 else field.root(x.value)
    step = exponent.denominator

    def coefficient(k: int) -> Quotient:
        binomial = math.prod((exponent - j for j in range(k)), start=Fraction(1)) / math.factorial(k)
        return field.rational(binomial) * field.power(base, int(exponent * step) - k * step) if binomial else field.zero

    return x.through(coefficient, field.zero)

"""A definition becomes a number: a walk over its tree in ball arithmetic. This is the oracle.

Every value is a ball that provably contains the exact real number (FLINT's Arb). Derivatives are exact too: a symbol is
given a nilpotent part ε with ε² = 0, and the coefficient of ε in the result is the derivative. Nothing here calls
SymPy's ``diff``, so that this engine and the prover can contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache, reduce
from operator import mul
from typing import Any, TypeAlias

import sympy as sp
from flint import arb, ctx, fmpq
from sympy.core.function import AppliedUndef, UndefinedFunction
from sympy.core.relational import Relational

from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import Apply, At, Diff, OneSided
from grape_spec.language.symbols import DECLARATIONS, declared_name

#: Bits of precision when none are asked for.
PRECISION = 256

_NOTHING = arb(0)


class Undecided(ArithmeticError):
    """Balls too wide, or a kink met exactly: the comparison that a branch needs has no certain answer."""


class Undefined(ArithmeticError):
    """The expression has no value here: a logarithm of what is certainly not positive, or a division by zero."""


class Jet:
    """A ball plus nilpotent parts: ``parts[mask]`` belongs to the product of the ε whose bits are in the mask."""

    __slots__ = ("parts",)

    def __init__(self, parts: dict[int, arb]) -> None:
        self.parts = parts

    @property
    def value(self) -> arb:
        return self.parts.get(0, _NOTHING)

    def part(self, tag: int) -> Number:
        """The coefficient of one ε, itself a jet in the others: the derivative."""
        found = {mask & ~tag: x for mask, x in self.parts.items() if mask & tag}
        return Jet(found) if set(found) - {0} else found.get(0, _NOTHING)

    def __add__(self, other: Number) -> Jet:
        parts = dict(self.parts)
        for mask, x in _parts(other).items():
            parts[mask] = parts[mask] + x if mask in parts else x
        return Jet(parts)

    def __mul__(self, other: Number) -> Jet:
        parts: dict[int, arb] = {}
        for mine, x in self.parts.items():
            for theirs, y in _parts(other).items():
                if not mine & theirs:
                    mask = mine | theirs
                    parts[mask] = parts[mask] + x * y if mask in parts else x * y
        return Jet(parts)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Jet:
        return Jet({mask: -x for mask, x in self.parts.items()})


Number: TypeAlias = "arb | Jet"


def _parts(x: Number) -> dict[int, arb]:
    return x.parts if isinstance(x, Jet) else {0: x}


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


def _exp(x: Number) -> Number:
    at = value_of(x).exp()
    return _taylor(x, lambda k: at / arb.fac_ui(k))


def _log(x: Number) -> Number:
    at = value_of(x)
    if at <= 0:
        raise Undefined(f"the logarithm of {at.str(10)}")
    return _taylor(x, lambda k: at.log() if k == 0 else -((-1 / at) ** k) / k)


def _power(x: Number, exponent: Fraction) -> Number:
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


def exact(x: Any) -> Number:
    """A number as a ball: rationals, floats and integers exactly, up to the precision for what is not dyadic."""
    if isinstance(x, arb | Jet):
        return x
    if isinstance(x, Fraction | sp.Rational):
        return arb(fmpq(int(x.numerator), int(x.denominator)))
    return arb(x)


class Evaluator:
    """Walks trees under an environment that gives every free symbol a value.

    Arguments:
        environment: symbols to numbers, families to nested sequences or callables of 1-based indices, functions to
            callables.
        hull: where a comparison has no certain answer, take the hull of the branches rather than raise `Undecided`.
    """

    def __init__(self, environment: Mapping[Any, Any], *, hull: bool = False) -> None:
        self.environment = dict(environment)
        self.hull = hull
        self._tags = 1
        self._ordered = 0

    def number(self, expr: sp.Basic) -> Number:
        """The value of an expression."""
        return exact(self._number(expr, self.environment))

    def truth(self, formula: sp.Basic) -> bool | None:
        """Whether a formula holds: True and False are certain, None is not known."""
        return self._truth(formula, self.environment)

    # -- numbers ------------------------------------------------------------------------------------------------

    def _number(self, expr: Any, env: dict[Any, Any]) -> Any:
        kind: Any = type(expr)
        return _method_for(kind)(self, expr, env)

    def _rational(self, expr: sp.Rational, env: dict[Any, Any]) -> Any:
        return int(expr) if expr.is_Integer else exact(expr)

    def _symbol(self, expr: sp.Symbol, env: dict[Any, Any]) -> Any:
        return env[expr]

    def _indexed(self, expr: sp.Indexed, env: dict[Any, Any]) -> Any:
        return _lookup(env[expr.base], [int(self._number(i, env)) for i in expr.indices])

    def _no_number(self, expr: sp.Basic, env: dict[Any, Any]) -> Any:
        raise Undefined(f"{expr} is not a real number")

    def _add(self, expr: sp.Add, env: dict[Any, Any]) -> Any:
        total = self._number(expr.args[0], env)
        for arg in expr.args[1:]:
            total = _plus(total, self._number(arg, env))
        return total

    def _mul(self, expr: sp.Mul, env: dict[Any, Any]) -> Any:
        product = self._number(expr.args[0], env)
        for arg in expr.args[1:]:
            product = _times(product, self._number(arg, env))
        return product

    def _pow(self, expr: sp.Pow, env: dict[Any, Any]) -> Any:
        base, exponent = expr.args
        if not isinstance(exponent, sp.Rational):
            raise TypeError(f"cannot evaluate the power {expr}: the exponent is not a number")
        x = exact(self._number(base, env))
        if exponent == -1 and isinstance(x, arb) and not x.is_zero():
            return 1 / x
        if exponent.q == 2 and self.hull and isinstance(x, arb) and x.contains(0):
            x = x.nonnegative_part()  # what a square root is taken of is not negative: only the ball is too wide
        if exponent.q != 1 and isinstance(x, Jet) and self._turns_negative(x):
            raise Undefined("a root of what is zero here and negative next to it")
        return _power(x, Fraction(int(exponent.p), int(exponent.q)))

    def _turns_negative(self, x: Jet) -> bool:
        """Whether a number is exactly zero and moves, other than upwards along the side of a one-sided slope."""
        moving = {mask: part for mask, part in x.parts.items() if mask.bit_count() == 1 and (part > 0 or part < 0)}
        return x.value.is_zero() and any(mask != self._ordered or part < 0 for mask, part in moving.items())

    def _sum(self, expr: sp.Sum, env: dict[Any, Any]) -> Any:
        return self._fold(expr, env, _plus, 0)

    def _product(self, expr: sp.Product, env: dict[Any, Any]) -> Any:
        return self._fold(expr, env, _times, 1)

    def _fold(self, expr: Any, env: dict[Any, Any], combine: Callable[[Any, Any], Any], start: int) -> Any:
        def over(limits: Sequence[Any], inner: dict[Any, Any]) -> Any:
            if not limits:
                return self._number(expr.function, inner)
            bound, low, high = limits[-1]
            total: Any = start
            for i in range(int(self._number(low, inner)), int(self._number(high, inner)) + 1):
                total = combine(total, over(limits[:-1], {**inner, bound: i}))
            return total

        return over(expr.limits, env)

    def _delta(self, expr: sp.KroneckerDelta, env: dict[Any, Any]) -> int:
        order = self._compare(*(exact(self._number(arg, env)) for arg in expr.args))
        if order is None:
            raise Undecided("Kronecker's delta of what is not certain")
        return int(order == 0)

    def _extremum(self, expr: sp.Min | sp.Max, env: dict[Any, Any]) -> Any:
        sign = -1 if isinstance(expr, sp.Min) else 1
        best = exact(self._number(expr.args[0], env))
        for arg in expr.args[1:]:
            other = exact(self._number(arg, env))
            order = self._compare(other, best)
            if order is None:
                best = self._undecided_extremum(best, other, sign)
            elif order == sign:
                best = other
        return best

    def _absolute(self, expr: sp.Abs, env: dict[Any, Any]) -> Any:
        x = exact(self._number(expr.args[0], env))
        order = self._compare(x, arb(0))
        if order is None:
            return self._hull([x, -x], "an absolute value") if isinstance(x, Jet) else abs(x)
        return -x if order < 0 else x

    def _undecided_extremum(self, a: Number, b: Number, sign: int) -> Number:
        if not isinstance(a, Jet) and not isinstance(b, Jet):
            return a.min(b) if sign < 0 else a.max(b)
        return self._hull([a, b], "Min or Max")

    def _piecewise(self, expr: sp.Piecewise, env: dict[Any, Any]) -> Any:
        possible = []
        for value, condition in expr.args:
            holds = self._truth(condition, env)
            if holds is False:
                continue
            possible.append(exact(self._number(value, env)))
            if holds:
                break
        return possible[0] if len(possible) == 1 else self._hull(possible, "a case distinction")

    def _hull(self, possible: list[Number], where: str) -> Number:
        if not self.hull or not possible:
            raise Undecided(f"{where} has no certain branch")
        masks = {mask for x in possible for mask in _parts(x)}
        parts: dict[int, arb] = {}
        for mask in masks:
            parts[mask] = _parts(possible[0]).get(mask, _NOTHING)
            for x in possible[1:]:
                parts[mask] = parts[mask].union(_parts(x).get(mask, _NOTHING))
        return Jet(parts)

    def _apply(self, expr: Apply, env: dict[Any, Any]) -> Any:
        definition = expr.definition
        inner = dict(env)
        for parameter, argument in zip(definition.of, expr.arguments, strict=True):
            inner[parameter] = self._argument(argument, env)
        return self._number(definition.body, inner)

    def _argument(self, argument: Any, env: dict[Any, Any]) -> Any:
        if isinstance(argument, sp.IndexedBase):
            return env[argument]
        if isinstance(argument, sp.Lambda):
            return lambda *at: self._number(argument.expr, {**env, **dict(zip(argument.signature, at, strict=True))})
        return self._number(argument, env)

    def _function(self, expr: AppliedUndef, env: dict[Any, Any]) -> Any:
        return env[expr.func](*(self._number(arg, env) for arg in expr.args))

    # -- derivatives --------------------------------------------------------------------------------------------

    def _diff(self, expr: Diff, env: dict[Any, Any]) -> Any:
        tag = self._new_tag()
        result = exact(self._number(expr.expr, self._seeded(expr.variable, tag, env)))
        return result.part(tag) if isinstance(result, Jet) else arb(0)

    def _one_sided(self, expr: OneSided, env: dict[Any, Any]) -> Any:
        tag = self._new_tag()
        point = exact(self._number(expr.point, env)) + Jet({tag: arb(expr.side)})
        outer, self._ordered = self._ordered, tag
        try:
            result = exact(self._number(expr.expr, {**env, expr.variable: point}))
        finally:
            self._ordered = outer
        return result.part(tag) * arb(expr.side) if isinstance(result, Jet) else arb(0)

    def _at(self, expr: At, env: dict[Any, Any]) -> Any:
        return self._number(expr.expr, {**env, expr.replaced: self._argument(expr.value, env)})

    def _new_tag(self) -> int:
        tag, self._tags = self._tags, self._tags << 1
        return tag

    def _seeded(self, variable: Any, tag: int, env: dict[Any, Any]) -> dict[Any, Any]:
        epsilon = Jet({tag: arb(1)})
        if isinstance(variable, sp.Symbol):
            return {**env, variable: exact(env[variable]) + epsilon}
        data = env[variable.base]
        here = [int(self._number(i, env)) for i in variable.indices]

        def shifted(*at: int) -> Any:
            x = _lookup(data, list(at))
            return exact(x) + epsilon if list(at) == here else x

        return {**env, variable.base: shifted}

    # -- truth --------------------------------------------------------------------------------------------------

    def _truth(self, formula: Any, env: dict[Any, Any]) -> bool | None:
        if formula in (sp.true, sp.false):
            return bool(formula)
        if isinstance(formula, Relational):
            return self.relation(formula, *(exact(self._number(side, env)) for side in formula.args))
        parts = [self._truth(arg, env) for arg in formula.args]
        if isinstance(formula, sp.Not):
            return None if parts[0] is None else not parts[0]
        if isinstance(formula, sp.Implies):
            return _any([None if parts[0] is None else not parts[0], parts[1]])
        if isinstance(formula, sp.Equivalent):
            return None if None in parts else parts[0] == parts[1]
        if isinstance(formula, sp.Or):
            return _any(parts)
        if isinstance(formula, sp.And):
            return _not(_any([_not(p) for p in parts]))
        raise TypeError(f"cannot decide {type(formula).__name__}: {formula}")

    def relation(self, formula: Relational, left: Number, right: Number) -> bool | None:
        """Whether a comparison holds for given values of its sides."""
        order = self._compare(left, right, flat_is_equal=False)
        return _unequal(left, right, formula) if order is None else _RELATIONS[type(formula)](order)

    def _compare(self, a: Number, b: Number, *, flat_is_equal: bool = True) -> int | None:
        """−1, 0 or 1 where the order of two numbers is certain, else None; at an exact tie the ordered ε decides.

        Two numbers that move together to first order are equal for an extremum, whose slope is then the same either
        way, but not for a condition, which may come to hold as close by as one likes.
        """
        x, y = value_of(a), value_of(b)
        if x < y:
            return -1
        if x > y:
            return 1
        if not (x.is_exact() and y.is_exact()):
            return None
        if not isinstance(a, Jet) and not isinstance(b, Jet):
            return 0
        difference = _parts(a + -b if isinstance(a, Jet) else -(b + -a))
        moving = {mask: d for mask, d in difference.items() if mask and not (d.is_exact() and d == 0)}
        if not moving:
            return 0 if flat_is_equal or not any(difference) else None
        if set(moving) == {self._ordered}:
            slope = moving[self._ordered]
            return -1 if slope < 0 else 1 if slope > 0 else None
        return None


_METHODS: dict[type, Callable[..., Any]] = {
    sp.Rational: Evaluator._rational,
    sp.Symbol: Evaluator._symbol,
    sp.Indexed: Evaluator._indexed,
    sp.Add: Evaluator._add,
    sp.Mul: Evaluator._mul,
    sp.exp: lambda self, e, env: _exp(exact(self._number(e.args[0], env))),
    sp.log: lambda self, e, env: _log(exact(self._number(e.args[0], env))),
    sp.Pow: Evaluator._pow,
    sp.Sum: Evaluator._sum,
    sp.Product: Evaluator._product,
    sp.KroneckerDelta: Evaluator._delta,
    sp.Min: Evaluator._extremum,
    sp.Max: Evaluator._extremum,
    sp.Abs: Evaluator._absolute,
    sp.Piecewise: Evaluator._piecewise,
    Apply: Evaluator._apply,
    AppliedUndef: Evaluator._function,
    Diff: Evaluator._diff,
    OneSided: Evaluator._one_sided,
    At: Evaluator._at,
    type(sp.pi): lambda self, e, env: arb.pi(),
    type(sp.E): lambda self, e, env: arb.const_e(),
    **{type(e): Evaluator._no_number for e in (sp.I, sp.zoo, sp.nan, sp.oo, -sp.oo)},
}


@cache
def _method_for(kind: Any) -> Callable[..., Any]:
    """How to evaluate a node of that class; the nearest class in its ancestry decides."""
    for ancestor in kind.__mro__:
        if ancestor in _METHODS:
            return _METHODS[ancestor]
    raise TypeError(f"cannot evaluate {kind.__name__}")


_RELATIONS: dict[Any, Callable[[int], bool]] = {
    sp.Eq: lambda order: order == 0,
    sp.Ne: lambda order: order != 0,
    sp.Lt: lambda order: order < 0,
    sp.Le: lambda order: order <= 0,
    sp.Gt: lambda order: order > 0,
    sp.Ge: lambda order: order >= 0,
}


def _unequal(left: Number, right: Number, formula: Relational) -> bool | None:
    """Disjoint balls differ; wide balls may still be on the right side of each other's edge."""
    x, y = value_of(left), value_of(right)
    if (isinstance(formula, sp.Le) and x <= y) or (isinstance(formula, sp.Ge) and x >= y):
        return True
    return None


def _any(parts: Sequence[bool | None]) -> bool | None:
    if True in parts:
        return True
    return None if None in parts else False


def _not(part: bool | None) -> bool | None:
    return None if part is None else not part


def _plus(a: Any, b: Any) -> Any:
    return a + b if isinstance(a, int) and isinstance(b, int) else exact(a) + exact(b)


def _times(a: Any, b: Any) -> Any:
    return a * b if isinstance(a, int) and isinstance(b, int) else exact(a) * exact(b)


def _lookup(data: Any, indices: list[int]) -> Any:
    if callable(data):
        return data(*indices)
    for i in indices:
        if i < 1:
            raise IndexError(f"index {i}: positions count from 1")
        data = data[i - 1]
    return data


def evaluate(
    what: Definition | sp.Basic, values: Mapping[str, Any], *, bits: int = PRECISION, hull: bool = False
) -> arb:
    """The ball that a definition or expression evaluates to.

    Arguments:
        what: a definition of the spec, or any expression over declared symbols.
        values: by the declared name of each symbol: numbers (floats and fractions are taken exactly), balls, nested
            lists for families. Sizes that are not given are read off the lists.
        bits: working precision.
        hull: where a branch is not certain, take the hull of all that are possible.

    Raises:
        Undecided: a comparison has no certain answer and ``hull`` is False.
        Undefined: there is no value.
        KeyError: a name is not declared, or a symbol was given no value.
    """
    body = what.body if isinstance(what, Definition) else what
    with ctx.workprec(bits):
        environment = environment_from(values)
        return value_of(Evaluator(environment, hull=hull).number(body))


def environment_from(values: Mapping[str, Any]) -> dict[Any, Any]:
    """The environment under which an evaluator walks, from values by name; sizes are read off the lists."""
    environment: dict[Any, Any] = {}
    for name, value in values.items():
        thing = declared_name(name)
        environment[thing] = value if isinstance(thing, sp.IndexedBase | UndefinedFunction) else _scalar(value)
        if isinstance(thing, sp.IndexedBase) and not callable(value):
            _read_sizes(DECLARATIONS[thing].sizes, value, environment)
    return environment


def _scalar(value: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) else exact(value)


def _read_sizes(sizes: tuple[Any, ...], data: Any, environment: dict[Any, Any]) -> None:
    for size in sizes:
        if isinstance(size, sp.Symbol) and environment.setdefault(size, len(data)) != len(data):
            raise ValueError(f"{size}: got lists of length {environment[size]} and {len(data)} for one axis")
        data = data[0]

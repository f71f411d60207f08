"""What a formula may be made of.

The engines read these nodes and no others, so that the prover, the refuter and a page speak of the same thing: whatever
SymPy has beyond them is refused by name when a claim or definition is entered. What is put in for a symbol has to be of
its kind: for a size a size, for a family one over the same axes, for a position a whole number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.core.function import UndefinedFunction

from grape_spec.language.domains import MOST, IndexUpTo, Interval, Naturals, Position, PositionOn, SimplexDomain
from grape_spec.language.expressions import Apply, At, Diff, OneSided
from grape_spec.language.symbols import DECLARATIONS, size_of_axis


class NotInLanguage(ValueError):
    """A node that no engine reads, or something put where it does not fit."""


#: The classes of rules, facts and steps; the package of rules says once which they are.
_RULES: set[type] = set()


def rules_are(kinds: set[type]) -> None:
    """Say which rules there are: one from elsewhere could prove anything."""
    if _RULES:
        raise RuntimeError("the rules are those of grape_spec.proof.rules")
    _RULES.update(kinds)


def refuse_foreign_rule(rule: Any) -> None:
    """Refuse a rule that is not of the package, and what is foreign in one that is."""
    if type(rule) not in _RULES or not hasattr(rule, "prove"):
        raise NotInLanguage(f"by: got {shown(rule)}, expected a rule, such as algebra() or smt()")
    _refuse_foreign_in_rule(rule)


def _refuse_foreign_in_rule(value: Any) -> None:
    if isinstance(value, tuple):
        for item in value:
            _refuse_foreign_in_rule(item)
    elif isinstance(value, sp.Basic):
        _refuse_in_rule(value)
    elif type(value) in _RULES:
        names = [entry.name for entry in fields(value)]
        if extra := vars(value).keys() - set(names):
            raise NotInLanguage(f"by: got {shown(value)} with {', '.join(sorted(extra))} of its own")
        for name in names:
            (refuse_foreign_rule if name == "by" else _refuse_foreign_in_rule)(getattr(value, name))
    elif isinstance(value, int) and value > MOST:
        raise NotInLanguage(f"by: got the size {value}, expected at most {MOST}")
    elif not isinstance(value, str | int):
        raise NotInLanguage(f"by: got {shown(value)}, expected a rule, such as algebra() or smt()")


def instances_in(value: Any) -> Iterator[Any]:
    """Every instance of a claim in a rule: whatever names a claim, its part and what is put in for its symbols."""
    if isinstance(value, tuple):
        for item in value:
            yield from instances_in(item)
    elif type(value) in _RULES:
        if hasattr(value, "bindings"):
            yield value
        for entry in fields(value):
            yield from instances_in(getattr(value, entry.name))


def _refuse_in_rule(value: sp.Basic) -> None:
    if isinstance(value, sp.Lambda):
        _refuse_number(value.expr)
    elif isinstance(value, sp.logic.boolalg.Boolean) and not isinstance(value, sp.Symbol):
        refuse_foreign(value)
    elif not isinstance(value, sp.IndexedBase):
        _refuse_number(value)


def refuse_foreign(formula: Any) -> None:
    """Refuse a statement or condition with a node outside of the language."""
    if type(formula) in _RELATIONS:
        for side in formula.args:
            _refuse_number(side)
    elif type(formula) is sp.Equivalent and len(formula.args) != 2:
        raise NotInLanguage(f"got {len(formula.args)} sides in {shown(formula)}: iff(left, right) has two")
    elif type(formula) in _CONNECTIVES:
        for part in formula.args:
            refuse_foreign(part)
    elif isinstance(formula, bool):
        raise NotInLanguage(f"got {formula}, which Python made of it: write equals(left, right) for left == right")
    else:
        expected = "a statement, such as equals(left, right) or at_least(left, right)"
        raise NotInLanguage(f"got {shown(formula)}, expected {expected}")


def refuse_foreign_number(expr: Any) -> None:
    """Refuse an expression with a node outside of the language."""
    if not isinstance(expr, sp.Basic):
        raise NotInLanguage(f"got {shown(expr)}, expected an expression")
    _refuse_number(expr)


def _refuse_number(expr: sp.Basic) -> None:
    if isinstance(expr, sp.Float):
        whole = Fraction(str(expr)).limit_denominator(10**6)
        exact = f"Rational({whole.numerator}, {whole.denominator})" if whole.denominator > 1 else whole.numerator
        raise NotInLanguage(f"got the floating-point number {float(expr):g}: write {exact}")
    kind: Any = UndefinedFunction if isinstance(type(expr), UndefinedFunction) else type(expr)
    check = _NODES.get(kind)
    if check is None:
        hint = _INSTEAD.get(kind.__name__, "it is not in the language")
        raise NotInLanguage(f"got {kind.__name__} in {shown(expr)}: {hint}")
    check(expr)


def shown(value: Any) -> str:
    """A value in an error: formulas as they are printed, anything else by what it is."""
    if isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
        return value.__name__
    if not isinstance(value, sp.Basic | str | int | float | None):
        return f"a {type(value).__name__}"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


# -- nodes --------------------------------------------------------------------------------------------------------


def _leaf(expr: sp.Basic) -> None:
    pass


def _symbol(expr: sp.Symbol) -> None:
    if expr not in DECLARATIONS:
        raise NotInLanguage(
            f"the symbol {expr} is not declared, or not with these assumptions: use what symbol() returns"
        )


def _each(expr: sp.Basic) -> None:
    for arg in expr.args:
        _refuse_number(arg)


def _power(expr: sp.Pow) -> None:
    _refuse_number(expr.base)
    if not isinstance(expr.exp, sp.Rational):
        raise NotInLanguage(f"the exponent of {shown(expr)}: expected a number; write exp(y·log(x)) for x to the y")
    if max(abs(expr.exp.p), expr.exp.q) > MOST:
        raise NotInLanguage(f"the exponent of {shown(expr)}: expected one of at most {MOST}")


def _family(expr: sp.IndexedBase) -> None:
    raise NotInLanguage(f"the family {expr} stands without an index: write {expr}[i]")


def _entry(expr: sp.Indexed) -> None:
    sizes = DECLARATIONS[expr.base].sizes
    if len(expr.indices) != len(sizes):
        raise NotInLanguage(f"{expr} has {len(expr.indices)} indices, expected {len(sizes)}")
    _each_position(expr.indices, expr)


def _each_position(
    positions: tuple[sp.Basic, ...], expr: sp.Basic, expected: str = "an index or a whole number"
) -> None:
    for position in positions:
        _refuse_number(position)
        if not position.is_integer:
            raise NotInLanguage(f"{position} in {shown(expr)}: expected {expected}")


def _function(expr: sp.Expr) -> None:
    if expr.func not in DECLARATIONS:
        raise NotInLanguage(f"the function {expr.func} is not declared: use function()")
    *positions, last = expr.args
    _each_position(tuple(positions), expr, "an index: a function is of indices and, last, one number")
    _refuse_number(last)


def _over_axes(expr: sp.Sum | sp.Product) -> None:
    for bound, *ends in expr.limits:
        if ends != [1, size_of_axis(bound)]:
            name = "sum_over" if isinstance(expr, sp.Sum) else "product_over"
            raise NotInLanguage(f"{shown(expr)} is not over the whole range of {bound}: write {name}(…, {bound})")
    _refuse_number(expr.function)


def _cases(expr: sp.Piecewise) -> None:
    *branches, last = expr.args
    if last[1] != sp.true:
        raise NotInLanguage(f"{shown(expr)} has no value where none of its conditions holds: end with (value, True)")
    for value, condition in branches:
        _refuse_number(value)
        refuse_foreign(condition)
    _refuse_number(last[0])


def _derivative(expr: Diff | OneSided) -> None:
    thing = expr.variable.base if isinstance(expr.variable, sp.Indexed) else expr.variable
    entry = DECLARATIONS.get(thing)
    if not isinstance(expr.variable, sp.Symbol | sp.Indexed) or entry is None:
        raise NotInLanguage(f"a derivative with respect to {shown(expr.variable)}: expected a symbol, or an entry u[k]")
    if not isinstance(entry.domain, Interval | SimplexDomain):
        raise NotInLanguage(f"a derivative in {expr.variable}, which is {entry.domain.name}: expected a real number")
    _refuse_number(expr.expr)
    _refuse_number(expr.variable)
    if isinstance(expr, OneSided):
        _refuse_number(expr.point)


def _at(expr: At) -> None:
    entry = DECLARATIONS.get(expr.replaced)
    if entry is None or isinstance(entry.domain, Naturals):
        raise NotInLanguage(f"{shown(expr)} replaces {expr.replaced}: expected a number, an index or a family")
    _refuse_number(expr.expr)
    _refuse_put(expr.replaced, expr.value, {}, f"the value of {expr.replaced}")


def _apply(expr: Apply) -> None:
    try:
        definition = expr.definition
    except KeyError as failure:
        raise NotInLanguage(failure.args[0]) from None
    if len(expr.arguments) != len(definition.of):
        raise NotInLanguage(
            f"{definition.id}: got {len(expr.arguments)} arguments, expected {len(definition.of)} "
            f"({', '.join(map(str, definition.of))})"
        )
    put = dict(zip(definition.of, expr.arguments, strict=True))
    for thing, value in put.items():
        _refuse_put(thing, value, put, f"{definition.id}: {thing}")


def _refuse_put(thing: Any, value: Any, put: Mapping[Any, Any], where: str) -> None:
    """Refuse a value of another kind than the symbol that it is put in for."""
    entry = DECLARATIONS[thing]
    if entry.sizes:
        wanted = tuple(put.get(size, size) for size in entry.sizes)
        if _axes(value) != wanted:
            expected = f"a family, or a Lambda of indices, over {', '.join(map(str, wanted))}"
            raise NotInLanguage(f"{where}: got {shown(value)}, expected {expected}")
        if isinstance(entry.domain, Position):
            axis = put.get(entry.domain.size, entry.domain.size)
            if value not in DECLARATIONS or DECLARATIONS[value].domain != PositionOn(axis):
                raise NotInLanguage(f"{where}: got {shown(value)}, expected a family of positions in 1..{axis}")
        if isinstance(value, sp.Lambda):
            _refuse_number(value.expr)
    elif isinstance(value, sp.IndexedBase | sp.Lambda):
        raise NotInLanguage(f"{where}: got {shown(value)}, expected a number")
    elif isinstance(entry.domain, Naturals):
        _refuse_number(value)
        if value.is_Integer and value > MOST:
            raise NotInLanguage(f"{where}: got {shown(value)}, expected a symbol or an integer up to {MOST}")
        if not _is_at_least(value, entry.domain.low):
            expected = f"a declared size, or what is a whole number of at least {entry.domain.low} without assumptions"
            raise NotInLanguage(f"{where}: got {shown(value)}, expected {expected}")
    elif isinstance(entry.domain, IndexUpTo):
        _each_position((value,), value)
    else:
        _refuse_number(value)


def _axes(value: Any) -> tuple[sp.Expr | None, ...] | None:
    """The sizes of a family, or of one that is given by a formula."""
    if isinstance(value, sp.Lambda):
        return tuple(size_of_axis(bound) for bound in value.signature)
    return DECLARATIONS[value].sizes if isinstance(value, sp.IndexedBase) and value in DECLARATIONS else None


def _is_at_least(value: sp.Basic, low: int) -> bool:
    """Whether something is a whole number from ``low`` upwards, whatever is assumed."""
    return bool(value.is_integer and (value - low).is_nonnegative)


_RELATIONS = (sp.Eq, sp.Ne, sp.Lt, sp.Le, sp.Gt, sp.Ge)
_CONNECTIVES = (sp.And, sp.Or, sp.Not, sp.Implies, sp.Equivalent)

#: Every kind of node of a number, with what is asked of it; functions that are declared come under one entry.
_NODES: dict[Any, Callable[[Any], None]] = {
    **{type(number): _leaf for number in (sp.Integer(2), sp.S.Zero, sp.S.One, sp.S.NegativeOne, sp.S.Half)},
    sp.Rational: _leaf,
    type(sp.E): _leaf,
    sp.Symbol: _symbol,
    **dict.fromkeys((sp.Add, sp.Mul, sp.exp, sp.log, sp.Abs, sp.Min, sp.Max, sp.KroneckerDelta), _each),
    sp.Pow: _power,
    sp.IndexedBase: _family,
    sp.Indexed: _entry,
    UndefinedFunction: _function,
    sp.Sum: _over_axes,
    sp.Product: _over_axes,
    sp.Piecewise: _cases,
    Diff: _derivative,
    OneSided: _derivative,
    At: _at,
    Apply: _apply,
}

#: What to write in place of nodes that come to mind.
_INSTEAD = {
    "Derivative": "write Diff(expr, x)",
    "Subs": "write At(expr, x, value)",
    "Lambda": "a Lambda stands only for a family that is put into a definition",
    "ImaginaryUnit": "the numbers of the language are real",
    "Infinity": "the numbers of the language are finite",
    "NegativeInfinity": "the numbers of the language are finite",
    "ComplexInfinity": "a division by zero",
    "NaN": "it has no value",
}

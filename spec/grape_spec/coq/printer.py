"""Terms and formulas of the spec as Coq prints them, node by node (trusted).

Definitions stay folded. A derivative in an entry of a family varies that entry:
``Derive (fun x => let p := upd p k x in …) (p k)``. A point is put in by ``let``, which Coq substitutes without
capture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction
from sympy.logic.boolalg import Boolean

from grape_spec.language.domains import Naturals
from grape_spec.language.expressions import Apply, At, Diff, OneSided, symbols_of
from grape_spec.language.symbols import DECLARATIONS


class Unstated(ValueError):
    """The part cannot be printed as a Coq statement; the message says why."""


#: Words that a symbol may not take as its Coq name: keywords, and what statements speak of.
_RESERVED = frozenset(
    (
        "as", "at", "cofix", "else", "end", "exists", "fix", "for", "forall", "fun", "if", "in", "let", "match", "mod",
        "return", "then", "using", "where", "with", "by", "Prop", "Set", "Type", "I", "O", "R", "S", "nat", "bool",
        "true", "false", "negb", "exp", "ln", "sqrt", "sum1", "prod1", "delta", "upd", "upd2", "upd3", "Rmin", "Rmax",
        "Rabs", "Rltb", "Rleb", "Reqb", "INR", "IZR", "Derive", "is_derive", "ex_derive", "locally", "at_right",
        "at_left", "slope_above", "slope_below", "has_slope_above", "has_slope_below", "h", "B", "D", "E", "left",
        "right", "last", "pos",
    )
)  # fmt: skip
_RELATIONS = {sp.Eq: "=", sp.Ne: "<>", sp.Le: "<=", sp.Lt: "<", sp.Ge: ">=", sp.Gt: ">"}
_TESTS = {sp.Eq: "Reqb", sp.Le: "Rleb", sp.Lt: "Rltb"}


# -- names -------------------------------------------------------------------------------------------------------


def coq_name(thing: Any) -> str:
    """The Coq name of a symbol, family or function."""
    label = thing.label if isinstance(thing, sp.IndexedBase) else thing
    name = getattr(label, "name", None) or str(label)
    # No name of the language holds an apostrophe, so that α is not taken for a symbol that is named as its code is.
    ascii_name = re.sub(r"[^A-Za-z0-9_']", lambda found: f"u'{ord(found[0]):x}'", name.replace("′", "'"))
    # A trailing underscore is added to what could be taken for a reserved word, a number, or a name of a script.
    taken = ascii_name in _RESERVED or re.fullmatch(r"_.*|[0-9'].*|.*_|[A-Z]+[a-z]*\d+|[a-z]\d+|H.*", ascii_name)
    return ascii_name + "_" if taken else ascii_name


def coq_id(id: str) -> str:
    """The Coq name of a definition or claim."""
    name = id.replace(".", "_")
    return name + "_" if name in _RESERVED else name


def _fresh_variable(expr: sp.Basic) -> str:
    """A name for a varied entry that occurs nowhere in an expression."""
    taken = {coq_name(thing) for thing in mentioned(expr)}
    name = "x"
    while name in taken:
        name += "'"
    return name


def mentioned(expr: sp.Basic) -> set[Any]:
    """Every symbol, family and function in an expression, free or bound."""
    return {node.func if isinstance(node, AppliedUndef) else node for node in sp.preorder_traversal(expr)
            if isinstance(node, sp.Symbol | sp.IndexedBase | AppliedUndef)}  # fmt: skip


# -- terms -------------------------------------------------------------------------------------------------------


Factor = tuple[sp.Expr, sp.Rational]


def signed(expr: sp.Expr) -> tuple[int, list[sp.Expr]]:
    """The sign of a term and its factors without it: −2x has the factors 2 and x."""
    number, rest = expr.as_coeff_Mul()
    factors = [] if rest == 1 else list(sp.Mul.make_args(rest))
    return (-1 if number < 0 else 1), [abs(number), *factors] if abs(number) != 1 or not factors else factors


def quotient(factors: Iterable[sp.Expr]) -> tuple[list[Factor], list[Factor]]:
    """The factors above and below the line, each a base with a positive exponent."""
    above: list[Factor] = []
    below: list[Factor] = []
    for factor in factors:
        if isinstance(factor, sp.Rational):
            above += [(sp.Integer(factor.p), sp.S.One)] if factor.p != 1 else []
            below += [(sp.Integer(factor.q), sp.S.One)] if factor.q != 1 else []
        elif isinstance(factor, sp.Pow):
            base, exponent = factor.args
            if not isinstance(exponent, sp.Rational) or exponent.q not in (1, 2):
                raise Unstated(f"the power {factor} has no form in Coq")
            (below if exponent < 0 else above).append((base, abs(exponent)))
        else:
            above.append((factor, sp.S.One))
    return above, below


def term(expr: sp.Basic) -> str:
    """A real number as a Coq term, in parentheses unless it is a single word."""
    if isinstance(expr, sp.Integer):
        return str(expr) if expr >= 0 else f"({expr})"
    if isinstance(expr, sp.Rational):
        return f"({expr.p} / {expr.q})" if expr > 0 else f"(- {term(-expr)})"
    if expr.is_integer and isinstance(expr, sp.Symbol | sp.Indexed):
        return f"(INR {position(expr)})"
    if isinstance(expr, sp.Symbol):
        return coq_name(expr)
    printers = {
        sp.Add: _sum, sp.Mul: _product, sp.Pow: _product, sp.Indexed: _entry, sp.Sum: _folded, sp.Product: _folded,
        sp.Piecewise: _cases, Diff: _derivative, At: _at, Apply: _applied, sp.Min: _extremum, sp.Max: _extremum,
    }  # fmt: skip
    for kind, printer in printers.items():
        if isinstance(expr, kind):
            return printer(expr)
    words = {sp.exp: "exp", sp.log: "ln", sp.Abs: "Rabs"}
    for kind, word in words.items():
        if isinstance(expr, kind) and len(expr.args) == 1:
            return f"({word} {term(expr.args[0])})"
    if isinstance(expr, sp.KroneckerDelta):
        return _delta(*expr.args)
    if isinstance(expr, AppliedUndef):
        return f"({' '.join([coq_name(expr.func), *map(_argument_of_function, expr.args)])})"
    raise Unstated(f"{type(expr).__name__} has no form in Coq")


def position(expr: sp.Basic) -> str:
    """A natural number: an index, a size, a number, or a sum or difference of them."""
    if isinstance(expr, sp.Integer) and expr >= 0:
        return f"{expr}%nat"
    if isinstance(expr, sp.Symbol) and expr.is_integer:
        return coq_name(expr)
    if isinstance(expr, sp.Indexed) and expr.is_integer:
        return _entry(expr)
    if isinstance(expr, sp.Add):
        more, less = (list(map(position, part)) for part in added_and_taken(expr))
        return f"({' - '.join([' + '.join(more), *less])})%nat"
    raise Unstated(f"{expr} is no natural number")


def added_and_taken(expr: sp.Add) -> tuple[list[sp.Expr], list[sp.Expr]]:
    """The terms of a sum of natural numbers that are added, and those that are taken away."""
    found: tuple[list[sp.Expr], list[sp.Expr]] = [], []
    for part in expr.args:
        sign, factors = signed(part)
        if len(factors) != 1:
            raise Unstated(f"{part} is no natural number")
        found[sign < 0].append(factors[0])
    if not found[0]:
        raise Unstated(f"{expr} is no natural number")
    return found


def _argument_of_function(expr: sp.Basic) -> str:
    return position(expr) if expr.is_integer else term(expr)


def _sum(expr: sp.Add) -> str:
    text = ""
    for part in expr.args:
        sign, factors = signed(part)
        joint = (" - " if sign < 0 else " + ") if text else ("- " if sign < 0 else "")
        text += joint + _line(factors)
    return f"({text})"


def _product(expr: sp.Mul | sp.Pow) -> str:
    sign, factors = signed(expr)
    return f"(- {_line(factors)})" if sign < 0 else _line(factors)


def _line(factors: list[sp.Expr]) -> str:
    """The product of factors, written with one line of division."""
    above, below = quotient(factors)
    over = [_raised(*factor) for factor in above] or ["1"]
    if not below:
        return f"({' * '.join(over)})" if len(over) > 1 else over[0]
    under = [_raised(*factor) for factor in below]
    divisor = f"({' * '.join(under)})" if len(under) > 1 else under[0]
    return f"({' * '.join(over)} / {divisor})"


def _raised(base: sp.Expr, exponent: sp.Rational) -> str:
    text = f"(sqrt {term(base)})" if exponent.q == 2 else term(base)
    return text if exponent.p == 1 else f"({text} ^ {exponent.p})"


def is_natural(expr: sp.Basic) -> bool:
    """Whether an expression is printed as a natural number."""
    return bool(expr.is_integer) and isinstance(expr, sp.Symbol | sp.Integer | sp.Indexed | sp.Add)


def _delta(left: sp.Expr, right: sp.Expr) -> str:
    """Kronecker's delta of positions, or of real numbers."""
    if is_natural(left) and is_natural(right):
        return f"(delta {position(left)} {position(right)})"
    return f"(if (Reqb {term(left)} {term(right)}) then 1 else 0)"


def _entry(expr: sp.Indexed) -> str:
    return f"({' '.join([coq_name(expr.base), *map(position, expr.indices)])})"


def _folded(expr: sp.Sum | sp.Product) -> str:
    text = term(expr.function)
    for bound, low, high in expr.limits:
        if low != 1:
            raise Unstated(f"{expr} does not begin at 1")
        text = f"({'sum1' if isinstance(expr, sp.Sum) else 'prod1'} {position(high)} (fun {coq_name(bound)} => {text}))"
    return text


def _extremum(expr: sp.Min | sp.Max) -> str:
    word = "Rmin" if isinstance(expr, sp.Min) else "Rmax"
    first, *others = ordered(expr)
    text = term(first)
    for other in others:
        text = f"({word} {text} {term(other)})"
    return text


def ordered(expr: sp.Min | sp.Max) -> list[sp.Expr]:
    """The arguments of a minimum or maximum in a fixed order: SymPy keeps them as a set."""
    return sorted(expr.args, key=sp.default_sort_key)


def _cases(expr: sp.Piecewise) -> str:
    *branches, (last, condition) = expr.args
    # Without a last branch for everything else the value there is of no account: `_defined` excludes it.
    text = term(last) if condition == sp.true else f"(if {test(condition)} then {term(last)} else 0)"
    for value, when in reversed(branches):
        text = f"(if {test(when)} then {term(value)} else {text})"
    return text


def varied(expr: Diff) -> tuple[str, str, str]:
    """The variable of a derivative, what precedes the body, and the point, as texts."""
    variable = expr.variable
    if isinstance(variable, sp.Symbol):
        return coq_name(variable), "", coq_name(variable)
    if not isinstance(variable, sp.Indexed) or len(variable.indices) > 3:
        raise Unstated(f"a derivative in {variable} has no form in Coq")
    x, family, update = _fresh_variable(expr), coq_name(variable.base), updated(variable)
    return x, f"let {family} := {update} {x} in ", _entry(variable)


def updated(entry: sp.Indexed) -> str:
    """The family with an entry replaced, but for the new value."""
    word = "upd" + (str(len(entry.indices)) if len(entry.indices) > 1 else "")
    return " ".join([word, coq_name(entry.base), *map(position, entry.indices)])


def _derivative(expr: Diff) -> str:
    x, before, point = varied(expr)
    return f"(Derive (fun {x} => {before}{term(expr.expr)}) {point})"


def _at(expr: At) -> str:
    return f"(let {coq_name(expr.replaced)} := {argument(expr.replaced, expr.value)} in {term(expr.expr)})"


def _applied(expr: Apply) -> str:
    return f"({applied(expr)})"


def applied(expr: Apply, suffix: str = "") -> str:
    """A definition, or what says that it has a value, applied to its sizes and arguments."""
    entry = expr.definition
    pairs = zip(entry.of, expr.arguments, strict=True)
    arguments = [*map(coq_name, implicit_sizes(entry)), *(argument(thing, value) for thing, value in pairs)]
    return " ".join([coq_id(entry.id) + suffix, *arguments])


def argument(parameter: Any, value: Any) -> str:
    """What is put in for a symbol, family or function."""
    if isinstance(value, sp.Lambda):
        return f"(fun {' '.join(map(coq_name, value.signature))} => {term(value.expr)})"
    if isinstance(parameter, sp.IndexedBase | UndefinedFunction):
        if not isinstance(value, sp.IndexedBase | UndefinedFunction):
            raise Unstated(f"{value} is put in for {parameter}")
        return coq_name(value)
    return position(value) if parameter.is_integer else term(value)


# -- propositions ------------------------------------------------------------------------------------------------


def proposition(formula: Boolean) -> str:
    """A formula as a Coq proposition."""
    for kind, sign in _RELATIONS.items():
        if isinstance(formula, kind):
            return _relation(formula, sign)
    if isinstance(formula, sp.And | sp.Or):
        return f" {_junctor(formula)} ".join(f"({proposition(part)})" for part in formula.args)
    if isinstance(formula, sp.Not):
        return f"~ ({proposition(formula.args[0])})"
    if isinstance(formula, sp.Implies):
        return f"({proposition(formula.args[0])}) -> ({proposition(formula.args[1])})"
    if isinstance(formula, sp.Equivalent) and len(formula.args) == 2:
        return f"({proposition(formula.args[0])}) <-> ({proposition(formula.args[1])})"
    raise Unstated(f"{type(formula).__name__} has no form in Coq")


def _junctor(formula: Boolean) -> str:
    return "/\\" if isinstance(formula, sp.And) else "\\/"


def _relation(formula: Any, sign: str) -> str:
    """An equation whose left side is a derivative or a slope says that it exists and what it is."""
    left, right = formula.args
    if isinstance(left, OneSided) and sign == "=":
        return f"{one_sided(left)} {term(left.point)} {term(right)}"
    if isinstance(left, Diff) and sign == "=":
        x, before, point = varied(left)
        return f"is_derive (fun {x} => {before}{term(left.expr)}) {point} {term(right)}"
    return f"{term(left)} {sign} {term(right)}"


def one_sided(expr: OneSided) -> str:
    word = "slope_above" if expr.side == 1 else "slope_below"
    return f"{word} (fun {coq_name(expr.variable)} => {term(expr.expr)})"


def test(condition: Boolean) -> str:
    """A condition of cases, as a Boolean."""
    for kind, word in _TESTS.items():
        if isinstance(condition, kind):
            return f"({word} {term(condition.args[0])} {term(condition.args[1])})"
    if isinstance(condition, sp.Gt | sp.Ge):
        word = "Rltb" if isinstance(condition, sp.Gt) else "Rleb"
        return f"({word} {term(condition.args[1])} {term(condition.args[0])})"
    if isinstance(condition, sp.Ne | sp.Not):
        inner = sp.Eq(*condition.args, evaluate=False) if isinstance(condition, sp.Ne) else condition.args[0]
        return f"(negb {test(inner)})"
    if isinstance(condition, sp.And | sp.Or):
        return f"({(' && ' if isinstance(condition, sp.And) else ' || ').join(map(test, condition.args))})%bool"
    raise Unstated(f"the condition {condition} has no form in Coq")


def implicit_sizes(entry: Any) -> list[sp.Symbol]:
    """The sizes that a definition depends on beyond its arguments."""
    mentioned = symbols_of(entry.body) | {size for thing in entry.of for size in symbols_of(thing)}
    others = {node.definition for node in entry.body.atoms(Apply)} - {entry}
    inner = {size for other in others for size in implicit_sizes(other)}
    sizes = {thing for thing in mentioned | inner if _is_size(thing)} - set(entry.of)
    return sorted(sizes, key=coq_name)


def _is_size(thing: Any) -> bool:
    return thing in DECLARATIONS and isinstance(DECLARATIONS[thing].domain, Naturals)

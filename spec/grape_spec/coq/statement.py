"""Parts of claims as Coq statements.

Whoever trusts a certificate trusts this module, ``Definitions.v`` and Coq, and nothing else: neither SymPy's rewriting
nor our provers. The tree of a statement is printed node by node. Definitions stay folded: each becomes a Coq
``Definition``, and Coq unfolds it. Domains and assumptions become hypotheses. A part is certified only if two theorems
are: its statement, and that every term of the statement has a value wherever the hypotheses hold (``_defined``).

A derivative in an entry of a family varies that entry: ``Derive (fun x => let p := upd p k x in …) (p k)``. A point is
put in by ``let``, which Coq substitutes without capture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction
from sympy.logic.boolalg import Boolean

from grape_spec.language.domains import (
    IndexUpTo,
    Interval,
    Naturals,
    OneHotDomain,
    OneOf,
    RowDomain,
    SimplexDomain,
    SmoothDomain,
)
from grape_spec.language.expressions import Apply, At, Diff, OneSided, occurring, symbols_of
from grape_spec.language.registry import definition
from grape_spec.language.symbols import DECLARATIONS, size_of_axis


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
    ascii_name = re.sub(r"[^A-Za-z0-9_']", lambda found: f"u{ord(found[0]):x}", name.replace("′", "'"))
    # A trailing underscore is added to what could be taken for a reserved word, a number, or a name of a script.
    taken = ascii_name in _RESERVED or re.fullmatch(r"_.*|[0-9'].*|.*_|[A-Z]+[a-z]*\d+|[a-z]\d+|H.*", ascii_name)
    return ascii_name + "_" if taken else ascii_name


def coq_id(id: str) -> str:
    """The Coq name of a definition or claim."""
    return id.replace(".", "_")


def _fresh_variable(expr: sp.Basic) -> str:
    """A name for a varied entry that occurs nowhere in an expression."""
    taken = {coq_name(thing) for thing in _mentioned(expr)}
    name = "x"
    while name in taken:
        name += "'"
    return name


def _mentioned(expr: sp.Basic) -> set[Any]:
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
    if getattr(expr, "is_integer", False) and _is_position(expr):
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
        return f"(delta {position(expr.args[0])} {position(expr.args[1])})"
    if isinstance(expr, AppliedUndef):
        return f"({' '.join([coq_name(expr.func), *map(_argument_of_function, expr.args)])})"
    raise Unstated(f"{type(expr).__name__} has no form in Coq")


def _is_position(expr: sp.Basic) -> bool:
    return isinstance(expr, sp.Symbol)


def position(expr: sp.Basic) -> str:
    """A natural number: an index, a size, a number, or a sum or difference of them."""
    if isinstance(expr, sp.Integer) and expr >= 0:
        return f"{expr}%nat"
    if isinstance(expr, sp.Symbol) and expr.is_integer:
        return coq_name(expr)
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


# -- having a value ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=10_000)
def defined(expr: sp.Basic) -> tuple[str, ...]:
    """What must hold for an expression to have a value: in Coq 1/0 and ln 0 are numbers, in mathematics they are not.

    Under a sum for every index, under a derivative throughout a neighbourhood of the point.
    """
    return tuple(dict.fromkeys(_defined(expr)))


def _defined(expr: sp.Basic) -> Iterator[str]:
    if isinstance(expr, Diff):
        yield from _around_derivative(expr)
        yield _exists(expr)
    elif isinstance(expr, OneSided):
        yield from _beside_slope(expr)
        yield f"has_{one_sided(expr)} {term(expr.point)}"
    elif isinstance(expr, At):
        yield from defined(expr.value)
        before = f"let {coq_name(expr.replaced)} := {argument(expr.replaced, expr.value)} in "
        yield from (f"({before}{condition})" for condition in defined(expr.expr))
    elif isinstance(expr, sp.Sum | sp.Product):
        yield from _for_all([(bound, high) for bound, _, high in reversed(expr.limits)], defined(expr.function))
    elif isinstance(expr, sp.Lambda):
        yield from _for_all([(bound, size_of_axis(bound)) for bound in expr.signature], defined(expr.expr))
    elif isinstance(expr, sp.Piecewise):
        yield from _in_its_case(expr)
    else:
        yield from _own_needs(expr)
        for arg in expr.args:
            if isinstance(arg, sp.Basic) and not isinstance(arg, sp.IndexedBase | sp.core.symbol.Str):
                yield from defined(arg)


def _own_needs(expr: sp.Basic) -> Iterator[str]:
    """What the outermost node needs, beyond what its arguments do."""
    if isinstance(expr, sp.Pow):
        base, exponent = expr.args
        if exponent.is_Integer and exponent < 0:
            yield f"{term(base)} <> 0"
        elif not exponent.is_Integer:
            yield f"{'0 <=' if exponent > 0 else '0 <'} {term(base)}"
    elif isinstance(expr, sp.log):
        yield f"0 < {term(expr.args[0])}"
    elif isinstance(expr, sp.Indexed):
        sizes = DECLARATIONS[expr.base].sizes if expr.base in DECLARATIONS else ()
        for index, size in zip(expr.indices, sizes, strict=False):
            yield from _on_axis(index, size)
    elif isinstance(expr, AppliedUndef):
        yield from (need for arg in expr.args if arg.is_integer for need in _natural(arg))
    elif isinstance(expr, Apply):
        yield from _arguments_fit(expr)
        if defined(expr.definition.body):
            yield applied(expr, "_defined")


def _arguments_fit(expr: Apply) -> Iterator[str]:
    for thing, value in zip(expr.definition.of, expr.arguments, strict=True):
        domain = DECLARATIONS[thing].domain
        if isinstance(domain, IndexUpTo):
            yield from _on_axis(value, domain.size)
        elif isinstance(domain, Naturals) and not isinstance(value, sp.Symbol):
            yield from _natural(value)
            yield f"({domain.low} <= {position(value)})%nat"


def _on_axis(index: sp.Expr, size: sp.Expr) -> Iterator[str]:
    """An index that is declared on the axis is within it by its domain."""
    if size_of_axis(index) != size:
        yield from _natural(index)
        yield f"(1 <= {position(index)} <= {position(size)})%nat"


def _natural(expr: sp.Expr) -> Iterator[str]:
    """In Coq 0 − 1 is the natural number 0."""
    if isinstance(expr, sp.Add) and (added_and_taken(expr)[1]):
        more, less = (" + ".join(map(position, part)) for part in added_and_taken(expr))
        yield f"({less} <= {more})%nat"


def _around_derivative(expr: Diff) -> Iterator[str]:
    x, before, point = varied(expr)
    for condition in defined(expr.expr):
        yield f"locally {point} (fun {x} => {before}{condition})"


def _exists(expr: Diff) -> str:
    x, before, point = varied(expr)
    return f"ex_derive (fun {x} => {before}{term(expr.expr)}) {point}"


def _beside_slope(expr: OneSided) -> Iterator[str]:
    """At the point and beside it on the side of the slope."""
    yield from defined(expr.point)
    x, point = coq_name(expr.variable), term(expr.point)
    for condition in defined(expr.expr):
        yield f"(let {x} := {point} in {condition})"
        yield f"{'at_right' if expr.side == 1 else 'at_left'} {point} (fun {x} => {condition})"


def _for_all(bounds: Iterable[tuple[sp.Symbol, Any]], conditions: Iterable[str]) -> Iterator[str]:
    ranges = list(bounds)
    for condition in conditions:
        text = condition
        for bound, size in reversed(ranges):
            name = coq_name(bound)
            within = f"(1 <= {name} <= {position(size)})%nat -> " if size is not None else ""
            text = f"(forall {name} : nat, {within}{text})"
        yield text


def _in_its_case(expr: sp.Piecewise) -> Iterator[str]:
    """Each value where its case applies; one of the cases must."""
    text, last_condition = "True", expr.args[-1][1]
    if last_condition != sp.true:
        text = "False"
    for value, condition in reversed(expr.args):
        own = _both(defined(value))
        if condition == sp.true:
            text = own
        else:
            yield from (need for side in condition.atoms(sp.core.relational.Relational) for need in defined(side))
            if own != "True" or text != "True":
                text = f"(if {test(condition)} then {own} else {text})"
    if text != "True":
        yield text


def _both(conditions: Iterable[str]) -> str:
    found = [f"({condition})" for condition in conditions]
    return " /\\ ".join(found) if found else "True"


def has_value(statement: Boolean) -> tuple[str, ...]:
    """What must hold for every term of a statement to have a value.

    That a derivative or slope exists which is the left side of the equation is part of the statement itself.
    """
    if not (isinstance(statement, sp.Eq) and isinstance(statement.args[0], Diff | OneSided)):
        return defined(statement)
    left, right = statement.args
    beside = _around_derivative(left) if isinstance(left, Diff) else _beside_slope(left)
    return tuple(dict.fromkeys([*beside, *defined(right)]))


# -- definitions -------------------------------------------------------------------------------------------------


def implicit_sizes(entry: Any) -> list[sp.Symbol]:
    """The sizes that a definition depends on beyond its arguments."""
    mentioned = symbols_of(entry.body) | {size for thing in entry.of for size in symbols_of(thing)}
    others = {node.definition for node in entry.body.atoms(Apply)} - {entry}
    inner = {size for other in others for size in implicit_sizes(other)}
    sizes = {thing for thing in mentioned | inner if _is_size(thing)} - set(entry.of)
    return sorted(sizes, key=coq_name)


def _is_size(thing: Any) -> bool:
    return thing in DECLARATIONS and isinstance(DECLARATIONS[thing].domain, Naturals)


@lru_cache(maxsize=1000)
def definition_text(id: str) -> str:
    """A definition of the spec in Coq, and what it needs to have a value if that is anything."""
    entry = definition(id)
    for inner in definitions_of([entry.body]):
        definition_text(inner)  # raises if it has no form
    things = [*implicit_sizes(entry), *entry.of]
    binders = " ".join(f"({coq_name(thing)} : {type_of(thing, [entry.body])})" for thing in things)
    lines = [f"Definition {coq_id(id)} {binders} : R :=\n  {term(entry.body)}."]
    needs = defined(entry.body)
    if needs:
        lines.append(f"Definition {coq_id(id)}_defined {binders} : Prop :=\n  {_lines_and(needs)}.")
    return "\n".join(lines)


def _lines_and(conditions: Iterable[str]) -> str:
    return " /\\\n  ".join(f"({condition})" for condition in conditions)


def definitions_of(formulas: Iterable[sp.Basic]) -> list[str]:
    """The ids of the definitions that formulas speak of, each after those that it is built from."""
    found: dict[str, None] = {}
    for formula in formulas:
        for node in sorted(formula.atoms(Apply), key=str):
            entry = node.definition
            if entry.recursion is not None:
                raise Unstated(f"{entry.id} is a recursion over {entry.recursion.over}, which has no form in Coq yet")
            found.update(dict.fromkeys(definitions_of([entry.body])))
            found[entry.id] = None
    return list(found)


def type_of(thing: Any, formulas: Iterable[sp.Basic]) -> str:
    """The Coq type of a symbol, family or function, whose arguments are as it is applied in the formulas."""
    if isinstance(thing, sp.IndexedBase):
        return "nat -> " * len(DECLARATIONS[thing].sizes) + "R"
    if isinstance(thing, UndefinedFunction):
        return "".join(f"{kind} -> " for kind in kinds_of_arguments(thing, formulas)) + "R"
    return "nat" if thing.is_integer else "R"


def kinds_of_arguments(function: Any, formulas: Iterable[sp.Basic]) -> tuple[str, ...]:
    """Which arguments of a function are natural numbers, and which are real."""
    found = {
        tuple("nat" if arg.is_integer else "R" for arg in node.args)
        for formula in formulas
        for node in formula.atoms(AppliedUndef)
        if node.func == function
    }
    if len(found) != 1:
        raise Unstated(f"{function} is applied to {'different kinds of' if found else 'no'} arguments")
    return found.pop()


# -- theorems ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hypothesis:
    """A condition of a theorem under the name that scripts give it."""

    name: str
    text: str


@dataclass(frozen=True)
class Statement:
    """A part of a claim as Coq states it.

    Arguments:
        binders: the universally quantified things, with their types.
        domains: the hypotheses that their domains make.
        assumed: the hypotheses that the part assumes.
        goal: the conclusion.
        needs: what else must hold for each term of it to have a value.
        definitions: the ids of the definitions that it speaks of.
    """

    binders: tuple[tuple[str, str], ...]
    domains: tuple[Hypothesis, ...]
    assumed: tuple[Hypothesis, ...]
    goal: str
    needs: tuple[str, ...]
    definitions: tuple[str, ...]

    @property
    def hypotheses(self) -> tuple[Hypothesis, ...]:
        return self.domains + self.assumed

    def theorem(self, name: str) -> str:
        """The theorem that the part states."""
        return self._theorem(name, self.goal)

    def value_theorem(self, name: str) -> str:
        """The theorem that every term of the statement has a value."""
        return self._theorem(f"{name}_defined", _lines_and(self.needs))

    def _theorem(self, name: str, conclusion: str) -> str:
        binders = " ".join(f"({name} : {kind})" for name, kind in self.binders)
        lines = [f"forall {binders},"] if binders else []
        lines += [f"({hypothesis.text}) ->" for hypothesis in self.hypotheses]
        return f"Theorem {name} :\n  " + "\n  ".join([*lines, conclusion]) + "."


def stated(
    statement: Boolean, assuming: Iterable[Boolean] = (), sizes: dict[sp.Symbol, int] | None = None
) -> Statement:
    """A statement under assumptions, at chosen sizes where some are given.

    Raises: Unstated if it has no form in Coq.
    """
    assuming = tuple(assuming)
    formulas = [statement, *assuming]
    things = quantified(statement, assuming)
    for id in definitions_of(formulas):
        definition_text(id)  # raises if it has no form
    return Statement(
        tuple((coq_name(thing), type_of(thing, formulas)) for thing in things),
        tuple(h for thing in things for h in domain_of(thing, formulas, sizes or {})),
        tuple(Hypothesis(f"A{n}", _assumed(a, loose_in(a, statement))) for n, a in enumerate(assuming)),
        proposition(statement),
        has_value(statement),
        tuple(definitions_of(formulas)),
    )


def quantified(statement: Boolean, assuming: Iterable[Boolean]) -> list[Any]:
    """What a theorem is about: sizes, then indices, then numbers, families and functions."""
    formulas = [statement, *assuming]
    found: set[Any] = set().union(*map(symbols_of, formulas))
    found |= {size for id in definitions_of(formulas) for size in implicit_sizes(definition(id))}
    found -= {thing for formula in formulas[1:] for thing in loose_in(formula, statement)}

    def rank(thing: Any) -> tuple[int, str]:
        domain = DECLARATIONS[thing].domain
        return (0 if isinstance(domain, Naturals) else 1 if isinstance(domain, IndexUpTo) else 2), coq_name(thing)

    return sorted(found, key=rank)


def loose_in(condition: Boolean, statement: Boolean) -> list[sp.Symbol]:
    """The indices of an assumption that the statement does not mention: it is assumed for all their values."""
    own = {thing for thing in occurring(condition) if size_of_axis(thing) is not None}
    return sorted(own - symbols_of(statement), key=coq_name)


def _assumed(condition: Boolean, loose: list[sp.Symbol]) -> str:
    text = proposition(condition)
    (text,) = _for_all([(index, size_of_axis(index)) for index in loose], [text])
    return text


def domain_of(thing: Any, formulas: Iterable[sp.Basic], sizes: dict[sp.Symbol, int]) -> list[Hypothesis]:
    """The hypotheses that the domain of a symbol, family or function makes."""
    entry, name = DECLARATIONS[thing], coq_name(thing)
    domain, label = entry.domain, f"H{name}"
    if isinstance(domain, Naturals):
        if thing in sizes:
            return [Hypothesis(label, f"{name} = {sizes[thing]}%nat")]
        return [Hypothesis(label, f"({domain.low} <= {name})%nat")] if domain.low else []
    if isinstance(domain, IndexUpTo):
        return [Hypothesis(label, f"(1 <= {name} <= {position(domain.size)})%nat")]
    if isinstance(domain, SmoothDomain):
        return _of_function(thing, domain, kinds_of_arguments(thing, formulas))
    indices = [f"w{n}" for n in range(len(entry.sizes))] if isinstance(thing, sp.IndexedBase) else []
    entry_text = " ".join([name, *indices])
    found = [(f"{label}{'_' * n}", condition) for n, condition in enumerate(_conditions(domain, entry_text))]
    hypotheses = [Hypothesis(key, _over_axes(indices, entry.sizes, condition)) for key, condition in found]
    if isinstance(domain, RowDomain):
        total = f"sum1 {position(entry.sizes[-1])} (fun {indices[-1]} => {entry_text}) = 1"
        hypotheses.append(Hypothesis(f"{label}_t", _over_axes(indices[:-1], entry.sizes[:-1], total)))
    return hypotheses


def _conditions(domain: Any, x: str) -> Iterator[str]:
    """What a domain says of one number."""
    if isinstance(domain, Interval):
        if domain.low is not None:
            yield f"{term(sp.Rational(str(domain.low)))} {'<=' if domain.low_closed else '<'} {x}"
        if domain.high is not None:
            yield f"{x} {'<=' if domain.high_closed else '<'} {term(sp.Rational(str(domain.high)))}"
    elif isinstance(domain, OneOf):
        yield " \\/ ".join(f"{x} = {value}" for value in domain.values)
    elif isinstance(domain, SimplexDomain):
        yield f"0 < {x}"
    elif isinstance(domain, OneHotDomain):
        yield f"{x} = 0 \\/ {x} = 1"
    else:
        raise Unstated(f"the domain {domain.name} has no form in Coq")


def _over_axes(indices: list[str], sizes: Iterable[sp.Expr], condition: str) -> str:
    text = condition
    for name, size in reversed(list(zip(indices, sizes, strict=True))):
        text = f"forall {name} : nat, (1 <= {name} <= {position(size)})%nat -> {text}"
    return text


def _of_function(function: Any, domain: SmoothDomain, kinds: tuple[str, ...]) -> list[Hypothesis]:
    """A function of indices and at most one parameter: it is differentiable at every real number."""
    name = coq_name(function)
    if kinds.count("R") > 1 or "R" in kinds[:-1]:
        raise Unstated(f"{name} is a function of several parameters")
    names = [f"y{n}" for n in range(len(kinds))]
    binders = " ".join(f"({x} : {kind})" for x, kind in zip(names, kinds, strict=True))
    applied_to = " ".join([name, *names])
    found = [Hypothesis(f"H{name}", f"forall {binders}, 0 < {applied_to}")] if domain.positive else []
    if "R" in kinds:
        text = f"forall {binders}, ex_derive ({' '.join([name, *names[:-1]])}) {names[-1]}"
        found.append(Hypothesis(f"H{name}_s", text))
    return found

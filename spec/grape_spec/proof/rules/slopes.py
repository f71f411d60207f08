"""Rules that prove derivatives and one-sided slopes.

A function with kinks is never differentiated: its slope is an exact difference quotient, or the slope of a smooth
function that it equals nearby.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.expressions import (
    Apply,
    At,
    Diff,
    OneSided,
    bound_things,
    implies,
    occurring,
    substitute,
    symbols_of,
    walk,
)
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.derivatives import exists_by_form, opened, plain, resolve
from grape_spec.proof.facts import Fact, facts_in, lies_in_domain, part_of, refuse_loose
from grape_spec.proof.needs import needs_of
from grape_spec.proof.rules.rule import GENERAL, Rule, refuse_without_value, sides


@dataclass(frozen=True)
class Slope(Rule):
    """The difference quotient equals the slope exactly for every step shorter than a positive radius."""

    radius: sp.Expr
    engine = "SMT, exact difference quotient"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, slope = sides(statement)
        h = sp.Dummy("step", real=True)
        if isinstance(left, OneSided):
            point, allowed = left.point, left.side * h > 0
        elif isinstance(left, Diff) and isinstance(left.variable, sp.Symbol):
            point, allowed = left.variable, sp.Ne(h, 0)
        else:
            raise Unknown(f"this rule proves slopes in a symbol, got {left}")
        refuse_without_value(self.radius, context)
        if not context.entails(sp.Gt(self.radius, 0, evaluate=False)):
            raise Unknown("the radius is not shown to be positive")
        own = plain(left.variable)
        expr = substitute(left.expr, {left.variable: own})
        has_values_near(expr, own, point + h, sp.And(sp.Abs(h) < self.radius, sp.Or(allowed, sp.Eq(h, 0))), context)
        value = opened(expr)
        rise = substitute(value, {own: point + h}) - substitute(value, {own: point})
        close = sp.And(sp.Abs(h) < self.radius, allowed)
        if not context.entails(implies(close, sp.Eq(rise, slope * h, evaluate=False))):
            raise Unknown("the difference quotient is not shown to equal the slope")
        context.defined.add(opened(left))
        return GENERAL


def slope(*, radius: Any) -> Rule:
    """An exact difference quotient within an explicit radius."""
    return Slope(sp.sympify(radius))


@dataclass(frozen=True)
class Near(Rule):
    """Within a positive radius the function equals a smooth one and therefore shares its derivative."""

    form: sp.Expr
    radius: sp.Expr
    engine = "SMT, locally equal to a smooth function"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, result = sides(statement)
        if not isinstance(left, Diff) or not isinstance(left.variable, sp.Symbol):
            raise Unknown(f"this rule proves derivatives in a symbol, got {left}")
        x, h = left.variable, sp.Dummy("step", real=True)
        refuse_without_value(self.radius, context)
        if not context.entails(sp.Gt(self.radius, 0, evaluate=False)):
            raise Unknown("the radius is not shown to be positive")
        own = plain(x)
        near = sp.Abs(h) < self.radius
        function, form = (substitute(expr, {x: own}) for expr in (left.expr, self.form))
        for expr in (function, form):
            has_values_near(expr, own, x + h, near, context)
        same = sp.Eq(*(substitute(opened(expr), {own: x + h}) for expr in (function, form)), evaluate=False)
        if not context.entails(implies(near, same)):
            raise Unknown("the function is not shown to equal the smooth function near the point")
        if not context.agree(At(Diff(form, own), own, x), result):
            raise Unknown("the derivative of the smooth function is not shown to be the right side")
        context.defined.add(opened(left))
        return GENERAL


def near(form: Any, *, radius: Any) -> Rule:
    """The derivative of a smooth function that is the same within an explicit radius."""
    return Near(sp.sympify(form), sp.sympify(radius))


def has_values_near(expr: sp.Expr, x: sp.Symbol, there: sp.Expr, near: Boolean, context: Context) -> None:
    """Refuse an expression that is not shown to be defined throughout a neighbourhood."""
    relations = {"positive": sp.Gt, "non-negative": sp.Ge, "nonzero": sp.Ne}
    for kind, needed in needs_of(expr):
        moved = substitute(needed, {x: there})
        if x not in occurring(needed):
            met = context.meets(kind, needed)
        elif kind in relations:
            met = context.entails(implies(near, relations[kind](moved, 0, evaluate=False)))
        elif kind == "true":
            met = context.entails(implies(near, moved))
        else:
            met = kind == "defined" and exists_by_form(needed)
        if not met:
            raise Unknown(f"{needed} is not shown to be {kind} near the point")


@dataclass(frozen=True)
class ByTerms(Rule):
    """The derivative of a sum is the sum of the derivatives, which come from facts or from algebra.

    In an entry of a family, a sum over an axis of the family has one term that depends on it, its own.
    """

    given: tuple[Fact, ...] = ()
    takes_for_granted = ("sum rule",)
    engine = "sum rule"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, result = sides(statement)
        if not isinstance(left, Diff):
            raise Unknown(f"this rule proves derivatives, got {left}")
        expr = left.expr.unfold() if isinstance(left.expr, Apply) else left.expr
        if isinstance(left.variable, sp.Indexed):
            expr = own_term(expr, left.variable)
        known = dict(self._slope_given(fact, left.variable, context) for fact in self.given)
        slopes = [self._slope(term, left.variable, known, context) for term in sp.Add.make_args(expr)]
        if not context.entails(sp.Eq(result, sp.Add(*slopes), evaluate=False)):
            raise Unknown("the sum of the slopes is not shown to be the right side")
        context.defined.add(opened(left))
        return GENERAL

    def _slope_given(self, fact: Fact, variable: sp.Expr, context: Context) -> tuple[sp.Expr, sp.Expr]:
        equation = fact.instance(context)
        if isinstance(equation, sp.Implies):
            condition, equation = equation.args
            if not context.entails(condition):
                raise Unknown(f"{condition}, an assumption of {fact.claim}, is not shown")
        derivative_of, slope_of = sides(equation)
        if isinstance(derivative_of, At) and derivative_of.value == variable:
            derivative_of = _in_an_entry(derivative_of)
        if not isinstance(derivative_of, Diff) or derivative_of.variable != variable:
            raise Unknown(f"{fact.claim} does not give a derivative in {variable}")
        return opened(derivative_of.expr), slope_of

    def _slope(self, term: sp.Expr, variable: sp.Expr, known: Mapping[Any, sp.Expr], context: Context) -> sp.Expr:
        base = variable.base if isinstance(variable, sp.Indexed) else variable
        factors = sp.Mul.make_args(term)
        constant = [f for f in factors if base not in symbols_of(f)]
        varying = sp.Mul(*(f for f in factors if base in symbols_of(f)))
        found = known.get(opened(varying))
        if found is not None:
            return sp.Mul(*constant, found)
        return resolve(Diff(term, variable))

    def uses(self) -> tuple[str, ...]:
        return tuple(fact.claim for fact in self.given)

    def describe(self) -> str:
        return f"sum rule, given {', '.join(fact.claim for fact in self.given)}"


def _in_an_entry(at_entry: At) -> sp.Expr:
    """∂f/∂x at x := entry as the derivative in the entry itself, where f depends on its family through x alone."""
    inner, x, entry = at_entry.args
    same = isinstance(inner, Diff) and inner.variable == x and isinstance(entry, sp.Indexed)
    if not same or entry.base in occurring(inner.expr):
        return at_entry
    return Diff(substitute(inner.expr, {x: entry}), entry)


def own_term(expr: sp.Expr, entry: sp.Indexed) -> sp.Expr:
    """An expression with the same derivative in an entry of a family: of a sum over an axis, the term of the entry.

    A sum is left as it is unless each of its terms reads the family at its own index alone.
    """
    if isinstance(expr, Apply) and expr.unfolds and entry.base in occurring(expr):
        body = expr.unfold()
        own = own_term(body, entry)
        return expr if own == body else own
    if isinstance(expr, sp.Add):
        return sp.Add(*(own_term(term, entry) for term in expr.args))
    if isinstance(expr, sp.Mul):
        varying = [factor for factor in expr.args if entry.base in occurring(factor)]
        constant = [factor for factor in expr.args if entry.base not in occurring(factor)]
        return sp.Mul(*constant, own_term(varying[0], entry)) if len(varying) == 1 else expr
    if not isinstance(expr, sp.Sum):
        return expr
    *inner, (bound, low, size) = expr.limits
    body = sp.Sum(expr.function, *inner) if inner else expr.function
    for place, axis in enumerate(DECLARATIONS[entry.base].sizes):
        if (low, size) == (1, axis) and _reads_at(opened(body), entry.base, place, bound):
            return own_term(substitute(body, {bound: entry.indices[place]}), entry)
    return expr


def _reads_at(body: sp.Expr, base: sp.IndexedBase, place: int, bound: sp.Symbol) -> bool:
    """Whether every entry of a family that a body reads has a bound index at a place."""
    if any(bound in bound_things(node) or isinstance(node, Diff | At) for node in sp.preorder_traversal(body)):
        return False

    def set_aside(node: sp.Basic) -> sp.Basic | None:
        own = isinstance(node, sp.Indexed) and node.base == base and node.indices[place] == bound
        return sp.Dummy("own", real=True) if own else None

    return base not in occurring(walk(body, set_aside))


def by_terms(*given: Fact) -> Rule:
    """The derivative of a sum from the derivatives of its terms, some given by claims."""
    return ByTerms(facts_in(given))


@dataclass(frozen=True)
class ChainRule(Rule):
    """The derivative of a composition: a proved outer slope times a proved inner derivative."""

    inner: str
    outer: str
    at: tuple[sp.Symbol, sp.Expr]
    takes_for_granted = ("chain rule",)
    engine = "chain rule"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, result = sides(statement)
        inner, part = part_of(self.inner, "", context), part_of("", self.outer, context)
        inside, inside_slope = sides(inner.statement)
        outside, outside_slope = sides(part.statement)
        variable, value = self.at
        if inner.assuming:
            raise Unknown(f"{self.inner} holds only under assumptions")
        derivatives = isinstance(left, Diff) and isinstance(outside, Diff)
        if not derivatives or inside != Diff(value, left.variable) or outside.variable != variable:
            raise Unknown("the parts are not the derivatives that this composition needs")
        if not lies_in_domain(variable, value, context):
            raise Unknown(f"{value} is not shown to be {DECLARATIONS[variable].domain.name}, as {variable} must be")
        refuse_loose(part, (), context)
        varied = left.variable.base if isinstance(left.variable, sp.Indexed) else left.variable
        if varied in symbols_of(outside.expr):
            raise Unknown(f"the outer function depends on {left.variable} directly, not only through the inner one")
        if opened(left.expr) != opened(substitute(outside.expr, {variable: value})):
            raise Unknown("the left side is not the outer function applied to the inner one")
        for condition in part.assuming:
            if not context.entails(substitute(condition, {variable: value})):
                raise Unknown(f"{condition} is not shown at the value of the inner function")
        product = substitute(outside_slope, {variable: value}) * inside_slope
        if not context.entails(sp.Eq(result, product, evaluate=False)):
            raise Unknown("the product of the two slopes is not shown to be the right side")
        context.defined.add(opened(left))
        return GENERAL

    def uses(self) -> tuple[str, ...]:
        return (self.inner,)

    def describe(self) -> str:
        return f"chain rule with {self.inner}"


def chain_rule(*, inner: str, outer: str, at: Mapping[sp.Symbol, sp.Expr]) -> Rule:
    """The chain rule, from a claim on the inner function and an earlier part of this claim on the outer one."""
    ((variable, value),) = at.items()
    return ChainRule(inner, outer, (variable, value))

"""Rules that prove inequalities, and whatever else an SMT solver decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.domains import Interval
from grape_spec.language.expressions import implies, substitute
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.derivatives import derivative, opened
from grape_spec.proof.facts import Fact, facts_in
from grape_spec.proof.rules.rule import GENERAL, Rule, refuse_without_value


@dataclass(frozen=True)
class Smt(Rule):
    """The SMT solver refutes the negation, over all reals."""

    given: tuple[Fact, ...] = ()
    engine = "SMT"

    def prove(self, statement: Boolean, context: Context) -> str:
        facts = [fact.instance(context) for fact in self.given]
        if not context.entails(statement, facts):
            raise Unknown("the SMT solver did not refute the negation")
        return GENERAL

    def uses(self) -> tuple[str, ...]:
        return tuple(fact.claim for fact in self.given)

    def describe(self) -> str:
        given = ", ".join(fact.claim for fact in self.given)
        return f"SMT, given {given}" if given else "SMT"


def smt(*, given: Iterable[Fact] = ()) -> Rule:
    """The SMT solver, with instances of claims as known facts."""
    return Smt(facts_in(given))


@dataclass(frozen=True)
class FromMinimum(Rule):
    """A function that is zero at a point, nonincreasing before it and nondecreasing after it is nowhere negative.

    A strict bound requires it to decrease before the point and increase after it. Where the assumptions exclude
    everything below the point, only what lies above it matters.
    """

    of: sp.Expr
    over: sp.Symbol
    at: sp.Expr
    strict: bool = False
    given: tuple[Fact, ...] = ()
    takes_for_granted = ("mean value theorem",)
    engine = "sign of the derivative"

    def prove(self, statement: Boolean, context: Context) -> str:
        domain = DECLARATIONS[self.over].domain
        if not (isinstance(domain, Interval) and self.at.is_Rational and domain.contains(Fraction(str(self.at)))):
            raise Unknown(f"{self.over} does not range over an interval that contains {self.at}")
        if not context.agree(substitute(self.of, {self.over: self.at}), sp.S.Zero):
            raise Unknown(f"the function is not shown to be zero at {self.at}")
        slope = derivative(opened(self.of), self.over)
        up, down = (sp.Gt, sp.Lt) if self.strict else (sp.Ge, sp.Le)
        rises = implies(sp.Gt(self.over, self.at, evaluate=False), up(slope, 0, evaluate=False))
        falls = implies(sp.Lt(self.over, self.at, evaluate=False), down(slope, 0, evaluate=False))
        anywhere = context.anywhere()
        facts = [fact.instance(anywhere) for fact in self.given]
        if not anywhere.entails(rises, facts):
            raise Unknown("the function is not shown to increase after the point")
        from_here = sp.Ge(self.over, self.at, evaluate=False)
        above = context.entails(from_here)
        on_the_way = context.where(from_here) if above else anywhere
        if on_the_way.unmet_need(self.of) is not None:
            raise Unknown("the function is not shown to be defined all the way")
        if not above and not anywhere.entails(falls, facts):
            raise Unknown("the function is not shown to decrease before the point")
        away = context.entails(sp.Ne(self.over, self.at, evaluate=False))
        if self.strict and not away:
            raise Unknown(f"{self.over} is not shown to differ from {self.at}")
        bound = sp.Gt if self.strict else sp.Ge
        if not context.entails(statement, [bound(self.of, 0, evaluate=False)]):
            raise Unknown("the statement does not follow from the bound on the function")
        return GENERAL

    def uses(self) -> tuple[str, ...]:
        return tuple(fact.claim for fact in self.given)

    def describe(self) -> str:
        return f"sign of the derivative in {self.over} around {self.at}"


def from_minimum(*, of: sp.Expr, over: sp.Symbol, at: Any, strict: bool = False, given: Iterable[Fact] = ()) -> Rule:
    """A bound from the sign of a derivative around a minimum of zero, or above a point after which it increases."""
    return FromMinimum(of, over, sp.sympify(at), strict, facts_in(given))


@dataclass(frozen=True)
class Termwise(Rule):
    """A sum is bounded by the sum of bounds on its terms, from below or from above."""

    bound: sp.Expr
    given: tuple[Fact, ...] = ()
    takes_for_granted = ("finite sums preserve inequalities",)
    engine = "term by term"

    def prove(self, statement: Boolean, context: Context) -> str:
        total = opened(statement.args[0])
        if not isinstance(statement, sp.Ge | sp.Le) or not isinstance(total, sp.Sum):
            raise Unknown("this rule proves lower and upper bounds on sums")
        term: sp.Expr = total
        limits: list[sp.Tuple] = []
        while isinstance(term, sp.Sum):
            term, limits = term.function, [*term.limits, *limits]
        if context.speaks_of & {limit[0] for limit in limits}:
            raise Unknown("the statement mentions the index of the sum: its assumptions need not hold for every term")
        refuse_without_value(self.bound, context)
        facts = [fact.instance(context) for fact in self.given]
        if not context.entails(statement.func(term, self.bound, evaluate=False), facts):
            raise Unknown("a term is not shown to satisfy its bound")
        if not context.agree(sp.Sum(self.bound, *limits), statement.args[1]):
            raise Unknown("the bounds on the terms do not add up to the right side")
        return GENERAL

    def uses(self) -> tuple[str, ...]:
        return tuple(fact.claim for fact in self.given)

    def describe(self) -> str:
        given = ", ".join(fact.claim for fact in self.given)
        return f"term by term, given {given}" if given else "term by term"


def termwise(bound: Any, *, given: Iterable[Fact] = ()) -> Rule:
    """A bound on a sum from bounds on its terms, from below or from above as the statement says."""
    return Termwise(sp.sympify(bound), facts_in(given))

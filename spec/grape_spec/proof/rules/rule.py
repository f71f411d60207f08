"""What a rule is.

A rule proves a statement under assumptions or says why it could not: `Unknown` is an honest answer, and no rule ever
answers that a statement is false. A rule is data, so that a page can print it and the audit can run it again on altered
symbols. What a rule takes for granted is among its `lemmas`, which are part of the trusted base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.facts import Fact

GENERAL = "all sizes"


@dataclass(frozen=True)
class Rule:
    """One way of proving a statement."""

    #: The engine that decides, by the name that evidence is shown under.
    engine: ClassVar[str] = ""
    #: What the rule takes for granted beyond its engine.
    takes_for_granted: ClassVar[tuple[str, ...]] = ()

    @property
    def lemmas(self) -> tuple[str, ...]:
        """What the whole proof takes for granted."""
        return self.takes_for_granted

    def at_sizes(self) -> dict[sp.Symbol, int]:
        """The sizes at which the statement is proved; none stands for every size."""
        return {}

    def prove(self, statement: Boolean, context: Context) -> str:
        """The scope in which the statement is proved; raises `Unknown` where it is not."""
        raise NotImplementedError

    def uses(self) -> tuple[str, ...]:
        """The claims that the rule rests on."""
        return ()

    def steps(self) -> tuple[Step, ...]:
        """The steps of the proof, for a page to print."""
        return ()

    def describe(self) -> str:
        """The rule in a few words."""
        return self.engine

    def change(self, f: Callable[[Any], Any]) -> Rule:
        """The same rule with every expression in it put through ``f``."""
        return replace(self, **{entry.name: _change(getattr(self, entry.name), f) for entry in fields(self)})


@dataclass(frozen=True)
class Step:
    """One link of a chain: the next expression, and the rule that makes it equal to the one before."""

    expr: sp.Expr
    by: Rule

    def prove(self, statement: Boolean, context: Context, sizes: Mapping[sp.Symbol, int]) -> str:
        """The scope in which the statement holds that leads from the expression before to this one."""
        scope = self.by.prove(statement, context)
        refuse_without_value(self.expr, context, sizes)
        return scope

    def change(self, f: Callable[[Any], Any]) -> Step:
        """The same step with every expression in it put through ``f``."""
        return Step(f(self.expr), self.by.change(f))


def _change(value: Any, f: Callable[[Any], Any]) -> Any:
    if isinstance(value, Rule | Step | Fact):
        return value.change(f)
    if isinstance(value, sp.Basic):
        return f(value)
    if isinstance(value, tuple):
        return tuple(_change(item, f) for item in value)
    return value


def refuse_without_value(
    expr: sp.Basic, context: Context, sizes: Mapping[sp.Symbol, int] | None = None, name: str = ""
) -> None:
    """Refuse a statement, or an intermediate expression of a proof, that is not shown to be defined."""
    unmet = context.unmet_need(expr, sizes)
    if unmet is not None:
        kind, needed = unmet
        a_sign = kind in ("positive", "non-negative", "nonzero") and isinstance(needed, sp.Symbol | sp.Indexed)
        hint = ": declare it so, or assume it" if a_sign else ""
        raise Unknown(f"{needed} is not shown to be {kind}, as {name or expr} requires{hint}")


def sides(statement: Boolean) -> tuple[sp.Expr, sp.Expr]:
    if not isinstance(statement, sp.Eq):
        raise Unknown(f"this rule proves equations, got {statement}: try smt() or termwise()")
    return statement.args


@dataclass(frozen=True)
class Unproved(Rule):
    """No proof: the verdict is unknown, and the reason says what was tried."""

    tried: str
    engine = "none"

    def prove(self, statement: Boolean, context: Context) -> str:
        raise Unknown(self.tried)


def step(expr: Any, *, by: Rule) -> Step:
    """The next expression of a chain and why it equals the one before."""
    return Step(sp.sympify(expr), by)


def unproved(tried: str) -> Rule:
    """No proof; the text says what was tried."""
    return Unproved(tried)

"""The rules by which a statement is proved.

A rule proves a statement under assumptions or says why it could not: `Unknown` is an honest answer, and no rule ever
answers that a statement is false. A rule is data, so that a page can print it and the audit can run it again on altered
symbols. What a rule takes for granted is among its `lemmas`, which are part of the trusted base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.domains import IndexUpTo, Interval, Naturals, OneOf, Positive, Real, RowDomain, SimplexDomain
from grape_spec.language.expressions import (
    Apply,
    At,
    Diff,
    OneSided,
    bound_things,
    implies,
    rebuild,
    substitute,
    unfold,
    walk,
)
from grape_spec.language.registry import claim_of
from grape_spec.language.symbols import DECLARATIONS, declared_name, size_of_axis, symbols_of
from grape_spec.proof.derivatives import NotAlgebraic, derivative, plain, resolve
from grape_spec.proof.field import is_zero
from grape_spec.proof.needs import Need, needs_of, positions_of, runs_over_axes_of
from grape_spec.proof.normal_form import NormalForm, add, is_positive, scale, shown_positive, to_expr
from grape_spec.proof.smt import TIME_LIMIT, Solver

GENERAL = "all sizes"


class Unknown(Exception):
    """The rule could not prove the statement; the message says what was tried."""


@dataclass
class Context:
    """Where a proof happens: what is assumed, what the statement speaks of, what was proved and asked before."""

    assumptions: tuple[Boolean, ...] = ()
    speaks_of: frozenset = frozenset()
    parts: Mapping[str, Any] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
    milliseconds: int = TIME_LIMIT

    def anywhere(self) -> Context:
        """The same without any assumption."""
        return replace(self, assumptions=())

    def solver(self) -> Solver:
        """A solver under the assumptions that it can read, those on sums also with every definition unfolded."""
        return Solver(self._readable, self.queries, self.milliseconds)

    @cached_property
    def _readable(self) -> tuple[Boolean, ...]:
        unfolded = (f for f in map(unfold, self.assumptions) if f.atoms(sp.Sum, sp.exp, sp.log))
        return tuple(f for f in dict.fromkeys((*self.assumptions, *unfolded)) if _is_readable(f))

    def entails(self, statement: Boolean, given: Iterable[Boolean] = ()) -> bool:
        """Whether the SMT solver proves a statement here."""
        return self.solver().entails(statement, given=given)

    def agree(self, left: sp.Expr, right: sp.Expr) -> bool:
        """Whether two expressions have the same normal form, every divisor of either proved nonzero."""
        form = self._form()
        difference = add(form.of(resolve(left)), scale(form.of(resolve(right)), Fraction(-1)))
        return is_zero(difference, form) and self._have_values(form)

    def is_positive(self, expr: sp.Expr) -> bool:
        """Whether an expression is shown to have a value here, and a positive one."""
        form = self._form()
        by_form = self._positive(to_expr(form.of(resolve(expr)))) and self._have_values(form)
        return by_form or self.entails(sp.Gt(expr, 0, evaluate=False)) or self._is_positive_by_parts(expr)

    def _is_positive_by_parts(self, expr: sp.Expr) -> bool:
        if isinstance(expr, Apply):
            return self._is_positive_by_parts(expr.unfold())
        if isinstance(expr, sp.Pow) and expr.exp in (sp.Rational(1, 2), -1):
            return self.is_positive(expr.base)
        if isinstance(expr, sp.Mul):
            return all(self.is_positive(arg) for arg in expr.args)
        if isinstance(expr, sp.Add):
            return any(map(self.is_positive, expr.args)) and all(map(self.is_nonnegative, expr.args))
        return False

    def differs_from_zero(self, expr: sp.Expr) -> bool:
        """Whether an expression is shown to differ from zero here."""
        return is_positive(expr) or self.entails(sp.Ne(expr, 0, evaluate=False)) or self._is_positive_by_parts(expr)

    def unmet_need(self, expr: sp.Basic, sizes: Mapping[sp.Symbol, int] | None = None) -> Need | None:
        """The first thing that an expression needs to have a value and that is not shown here; None if it has one."""
        for position, axis in positions_of(expr):
            if not _is_on_axis(position, axis, sizes or {}):
                return "a position of its axis", position
        for kind, needed in needs_of(expr):
            sized = substitute(needed, sizes or {})
            here = self.at_sizes(sized, sizes or {})
            shown = {
                "positive": here.is_positive,
                "non-negative": here.is_nonnegative,
                "nonzero": here.differs_from_zero,
            }
            if not shown[kind](on_the_simplex(sized, sizes or {})):
                return kind, needed
        return None

    def keeps(self, kind: str, needed: sp.Expr) -> bool:
        """Whether an expression is shown to be what another needs it to be."""
        shown = {"positive": self.is_positive, "non-negative": self.is_nonnegative, "nonzero": self.differs_from_zero}
        return shown[kind](needed)

    def at_sizes(self, expr: sp.Basic, sizes: Mapping[sp.Symbol, int]) -> Context:
        """The same where the last entry of every row of a simplex is known to be positive."""
        rows = (node for node in expr.atoms(sp.Indexed) if _of_a_simplex(node))
        last = {entry for node in rows if (entry := last_entry(node, sizes)) is not None}
        known = tuple(sp.Gt(entry, 0, evaluate=False) for entry in sorted(last, key=str))
        return replace(self, assumptions=self.assumptions + known)

    def is_nonnegative(self, expr: sp.Expr) -> bool:
        """Whether an expression is shown not to be negative here: a sum or product of what is not, a square, a root."""
        if isinstance(expr, Apply):
            return self.is_nonnegative(expr.unfold())
        if isinstance(expr, sp.Sum):
            own = {limit[0]: sp.Dummy("bound", integer=True, positive=True) for limit in expr.limits}
            return self.is_nonnegative(substitute(expr.function, own))
        if isinstance(expr, sp.Pow) and isinstance(expr.exp, sp.Rational):
            return expr.exp.q == 2 or expr.exp.p % 2 == 0 or self.is_nonnegative(expr.base)
        by_parts = isinstance(expr, sp.Add | sp.Mul) and all(self.is_nonnegative(arg) for arg in expr.args)
        return by_parts or self.is_positive(expr) or self.entails(sp.Ge(expr, 0, evaluate=False))

    def _form(self) -> NormalForm:
        relations = [f for f in self.assumptions if isinstance(f, sp.Eq) and isinstance(unfold(f.lhs), sp.Sum)]
        return NormalForm(relations, self._positive, self.speaks_of)

    def _have_values(self, form: NormalForm) -> bool:
        return all(self.differs_from_zero(divisor) for divisor in form.nonzero)

    def _positive(self, expr: sp.Expr) -> bool:
        readable = not expr.atoms(sp.exp, sp.log, sp.Sum, sp.Product)
        return is_positive(expr) or (readable and self.entails(sp.Gt(expr, 0, evaluate=False)))


def _is_on_axis(position: sp.Expr, axis: sp.Expr, sizes: Mapping[sp.Symbol, int]) -> bool:
    """Whether a position is an index of its axis, or a number within it, of which the first is always there."""
    length = substitute(axis, sizes)
    if position.is_Integer:
        return bool(position == 1 or (length.is_Integer and 1 <= position <= length))
    own = size_of_axis(position)
    return length == substitute(position if own is None else own, sizes)


def _is_readable(formula: Boolean) -> bool:
    """Whether the solver can translate an assumption; one that it cannot is left out, which proves less."""
    try:
        Solver().formula(formula)
    except NotAlgebraic:
        return False
    return True


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


def _change(value: Any, f: Callable[[Any], Any]) -> Any:
    if isinstance(value, Rule | Step | Fact):
        return value.change(f)
    if isinstance(value, sp.Basic):
        return f(value)
    if isinstance(value, tuple):
        return tuple(_change(item, f) for item in value)
    return value


def _refuse_without_value(expr: sp.Expr, context: Context, sizes: Mapping[sp.Symbol, int] | None = None) -> None:
    """Refuse an expression between the two sides of a statement that is not shown to have a value itself."""
    unmet = context.unmet_need(expr, sizes)
    if unmet is not None:
        raise Unknown(f"{unmet[1]} is not shown to be {unmet[0]}, as {expr} needs it to be")


def _sides(statement: Boolean) -> tuple[sp.Expr, sp.Expr]:
    if not isinstance(statement, sp.Eq):
        raise Unknown(f"this rule proves equations, not {statement}")
    return statement.args


# -- equations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FiniteSum(Rule):
    """Both sides have the same normal form, for sums of any length."""

    engine = "finite sums"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, right = _sides(statement)
        if not context.agree(left, right):
            raise Unknown("the normal forms of the two sides differ")
        return GENERAL


@dataclass(frozen=True)
class Algebra(Rule):
    """The difference is zero in a field of rational functions; with ``sizes``, sums written out at those sizes."""

    sizes: tuple[tuple[sp.Symbol, int], ...] = ()
    engine = "algebra"

    def prove(self, statement: Boolean, context: Context) -> str:
        sizes = self.at_sizes()
        for size, n in sizes.items():
            domain = DECLARATIONS[size].domain if size in DECLARATIONS else None
            if not (isinstance(domain, Naturals) and domain.contains(Fraction(n))):
                raise Unknown(f"{size} = {n} is not a size")
        left, right = (resolve(side) for side in _sides(statement))
        if not sizes and (left.atoms(sp.Sum, sp.Product) or right.atoms(sp.Sum, sp.Product)):
            raise Unknown("a sum of general length is not for this rule")
        left, right = (walk(substitute(side, sizes), _written_out) for side in (left, right))
        here = context.at_sizes(left, sizes).at_sizes(right, sizes)
        if not here.agree(on_the_simplex(left, sizes), on_the_simplex(right, sizes)):
            raise Unknown("the difference of the two sides is not zero in the field")
        return ", ".join(f"{size} = {n}" for size, n in self.sizes) or GENERAL

    def at_sizes(self) -> dict[sp.Symbol, int]:
        return dict(self.sizes)

    def change(self, f: Callable[[Any], Any]) -> Rule:
        return self


def _written_out(node: sp.Basic) -> sp.Basic | None:
    """A sum or product over one index of a chosen size, term by term."""
    if not isinstance(node, sp.Sum | sp.Product) or len(node.limits) != 1 or not node.limits[0][2].is_Integer:
        return None
    ((bound, low, high),) = node.limits
    terms = [substitute(node.function, {bound: sp.Integer(i)}) for i in range(int(low), int(high) + 1)]
    return sp.Add(*terms) if isinstance(node, sp.Sum) else sp.Mul(*terms)


def on_the_simplex(expr: sp.Expr, sizes: Mapping[sp.Symbol, int]) -> sp.Expr:
    """The expression with the last entry of every probability row written as one minus the others."""
    return walk(expr, lambda node: last_entry(node, sizes))


def _of_a_simplex(node: sp.Indexed) -> bool:
    return node.base in DECLARATIONS and isinstance(DECLARATIONS[node.base].domain, SimplexDomain)


def last_entry(node: sp.Basic, sizes: Mapping[sp.Symbol, int]) -> sp.Expr | None:
    """One minus the other entries of a row, for the last entry of a row at a chosen size; None for anything else."""
    entry = DECLARATIONS.get(node.base) if isinstance(node, sp.Indexed) else None
    if entry is None or not isinstance(entry.domain, RowDomain):
        return None
    *row, position = node.indices
    length = sizes.get(entry.sizes[-1])
    if length is None or position != length:
        return None
    return 1 - sum(node.base[(*row, i)] for i in range(1, length))


@dataclass(frozen=True)
class Induction(Rule):
    """Both sides agree at size one, and grow by the same amount from any size to the next."""

    size: sp.Symbol
    takes_for_granted = ("induction over the natural numbers",)
    engine = "induction"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, right = _sides(statement)
        if context.assumptions or any(self._is_normalised_along_size(thing) for thing in symbols_of(statement)):
            raise Unknown(f"an assumption or a total that holds at one {self.size} need not hold at the next")
        left, right = resolve(left), resolve(right)
        if not context.agree(*(substitute(side, {self.size: sp.Integer(1)}) for side in (left, right))):
            raise Unknown(f"the base of the induction, {self.size} = 1, is not shown")
        if not context.agree(self._larger(left) + right, self._larger(right) + left):
            raise Unknown("the step of the induction is not shown")
        return GENERAL

    def _larger(self, side: sp.Expr) -> sp.Expr:
        return walk(substitute(side, {self.size: self.size + 1}), self._split)

    def _is_normalised_along_size(self, thing: Any) -> bool:
        entry = DECLARATIONS[thing]
        if isinstance(entry.domain, IndexUpTo):
            return self.size in entry.domain.size.free_symbols
        return isinstance(entry.domain, RowDomain) and self.size in entry.sizes[-1].free_symbols

    def _split(self, node: sp.Basic) -> sp.Basic | None:
        if not isinstance(node, sp.Sum | sp.Product) or node.limits[0][2] != self.size + 1:
            return None
        (bound, low, high), *outer = node.limits
        if outer:
            raise Unknown("an induction over nested sums is not supported")
        last, shorter = substitute(node.function, {bound: high}), node.func(node.function, (bound, low, self.size))
        return shorter + last if isinstance(node, sp.Sum) else shorter * last

    def describe(self) -> str:
        return f"induction over {self.size}"


@dataclass(frozen=True)
class Rewrite(Rule):
    """A step that replaces an instance of a proved equation's left side by its right side."""

    claim: str
    part: str = ""
    bindings: tuple[tuple[str, Any], ...] = ()
    engine = "rewriting"

    def prove(self, statement: Boolean, context: Context) -> str:
        before, after = _sides(statement)
        part = _part_of(self.claim, self.part, context)
        if part.assuming:
            raise Unknown(f"{self.claim} holds under assumptions: it cannot be used under a sum")
        equation = _instance(part.statement, self.bindings, context)
        left, right = _sides(equation)
        replaced = self._replace(before, left, right, context)
        if replaced == before:
            raise Unknown(f"the left side of {self.claim} does not occur")
        if replaced != after:
            raise Unknown(f"replacing by {self.claim} gives {replaced}")
        return GENERAL

    def _replace(self, node: sp.Basic, left: sp.Expr, right: sp.Expr, context: Context) -> sp.Basic:
        """Replace everywhere; under a derivative only what holds around the point, not just on some domain."""
        if node == left:
            return right
        if not node.args or isinstance(node, sp.IndexedBase):
            return node
        args = [self._replace(arg, left, right, context) for arg in node.args]
        if all(new is old for new, old in zip(args, node.args, strict=True)):
            return node
        if isinstance(node, Diff | At) or not context.speaks_of.isdisjoint(bound_things(node)):
            self._refuse_assumed(context)
        if isinstance(node, OneSided) and args[0] != node.args[0]:
            raise Unknown(f"{self.claim} is not shown on one side of a point alone")
        if isinstance(node, Diff) and not _can_be_varied(node.variable):
            raise Unknown(f"{self.claim} is not shown around {node.variable}, only on its domain")
        if isinstance(node, At) and not _lies_in_domain(node.replaced, node.value, context):
            raise Unknown(f"{self.claim} is not shown at {node.value}")
        return rebuild(node, args)

    def _refuse_assumed(self, context: Context) -> None:
        """What is assumed at a point holds neither around it nor for an index that a sum binds under the same name."""
        for name, value in self.bindings:
            if not _lies_in_domain(declared_name(name), value, context.anywhere()):
                raise Unknown(f"{value} is in the domain of {name} only where the assumptions hold")

    def uses(self) -> tuple[str, ...]:
        return (self.claim,)

    def describe(self) -> str:
        return self.claim + (f" ({self.part})" if self.part else "")


@dataclass(frozen=True)
class Step:
    """One link of a chain: the next expression, and the rule that makes it equal to the one before."""

    expr: sp.Expr
    by: Rule

    def change(self, f: Callable[[Any], Any]) -> Step:
        """The same step with every expression in it put through ``f``."""
        return Step(f(self.expr), self.by.change(f))


@dataclass(frozen=True)
class Chain(Rule):
    """A chain of equations from the left side to the right, each link with its own rule."""

    links: tuple[Step, ...]
    engine = "chain of steps"

    def prove(self, statement: Boolean, context: Context) -> str:
        here, right = _sides(statement)
        scopes, at = [], self.at_sizes()
        if any(at[size] != n for link in self.links for size, n in link.by.at_sizes().items()):
            raise Unknown("the links hold at different sizes")
        for link in self.links:
            scopes.append(link.by.prove(sp.Eq(here, link.expr, evaluate=False), context))
            _refuse_without_value(link.expr, context, at)
            here = link.expr
        if here != right:
            raise Unknown(f"the chain ends at {here}, not at the right side")
        return "; ".join(dict.fromkeys(scopes))

    def at_sizes(self) -> dict[sp.Symbol, int]:
        return {size: n for link in self.links for size, n in link.by.at_sizes().items()}

    def uses(self) -> tuple[str, ...]:
        return tuple(use for link in self.links for use in link.by.uses())

    def steps(self) -> tuple[Step, ...]:
        return self.links

    @property
    def lemmas(self) -> tuple[str, ...]:
        """What the links take for granted."""
        return tuple(dict.fromkeys(lemma for link in self.links for lemma in link.by.lemmas))

    def describe(self) -> str:
        return "; ".join(dict.fromkeys(link.by.describe() for link in self.links))


# -- facts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """An instance of a proved claim, given to a rule as known."""

    claim: str
    part: str = ""
    bindings: tuple[tuple[str, Any], ...] = ()

    def instance(self, context: Context) -> Boolean:
        """The statement with its symbols bound, the domain of each shown to hold for what it was bound to."""
        part = _part_of(self.claim, self.part, context)
        statement = _instance(part.statement, self.bindings, context)
        if not part.assuming:
            return statement
        conditions = [_bind(condition, self.bindings) for condition in part.assuming]
        _refuse_loose(part, self.bindings, context)
        return implies(sp.And(*conditions, evaluate=False), statement)

    def change(self, f: Callable[[Any], Any]) -> Fact:
        """The same fact with every expression in it put through ``f``."""
        return replace(self, bindings=tuple((name, f(value)) for name, value in self.bindings))


def _part_of(claim: str, name: str, context: Context) -> Any:
    """A part of an earlier claim, or an earlier part of the claim being proved."""
    own = claim in context.parts
    parts = context.parts[claim] if own else {part.name: part for part in claim_of(claim).parts}
    found = next(iter(parts.values())) if not name and len(parts) == 1 else parts.get(name)
    if found is None:
        raise Unknown(f"{claim or 'the claim'} has no part {name!r} to use; it has {sorted(parts)}")
    if found.by.at_sizes():
        raise Unknown(f"{claim} ({found.name}) is proved at chosen sizes only")
    return found


def _refuse_loose(part: Any, bindings: tuple[tuple[str, Any], ...], context: Context) -> None:
    """An assumption on every value of an index is not met by one value, but by the same assumption on every value."""
    loose = {thing for thing in part.symbols - part.speaks_of if size_of_axis(thing) is not None}
    bound = {thing for name, value in bindings for thing in (declared_name(name), *symbols_of(sp.sympify(value)))}
    for condition in part.assuming:
        assumed = _bind(condition, bindings) in context.assumptions and not loose & (context.speaks_of | bound)
        if loose & symbols_of(condition) and not assumed:
            raise Unknown("it holds under an assumption for every index, which cannot be shown at one")


def _bind(statement: Boolean, bindings: tuple[tuple[str, Any], ...]) -> Boolean:
    return substitute(statement, {declared_name(name): value for name, value in bindings})


def _instance(statement: Boolean, bindings: tuple[tuple[str, Any], ...], context: Context) -> Boolean:
    for name, value in bindings:
        thing = declared_name(name)
        if not _lies_in_domain(thing, value, context):
            raise Unknown(f"{value} is not shown to be {DECLARATIONS[thing].domain.name}, as {name} is")
    return _bind(statement, bindings)


def _lies_in_domain(thing: Any, value: Any, context: Context) -> bool:
    entry = DECLARATIONS[thing]
    if isinstance(entry.domain, Naturals):
        return False  # the families of that size would not follow
    if value.has(sp.I, sp.oo, -sp.oo, sp.zoo, sp.nan) or context.unmet_need(value) is not None:
        return False
    if value in DECLARATIONS:
        return DECLARATIONS[value].domain == entry.domain and DECLARATIONS[value].sizes == entry.sizes
    if isinstance(value, sp.Lambda):
        return runs_over_axes_of(thing, value) and _family_in_domain(entry, value, context)
    if isinstance(entry.domain, OneOf):
        return bool(value.is_Integer) and int(value) in entry.domain.values
    if not isinstance(entry.domain, Interval):
        return False
    if entry.domain in (Real, Positive):
        return entry.domain == Real or context.is_positive(value)
    return context.entails(entry.domain.constraint(value))


def _family_in_domain(entry: Any, value: sp.Lambda, context: Context) -> bool:
    if not isinstance(entry.domain, SimplexDomain):
        return entry.domain == Real
    *_, axis = value.signature
    total = sp.Sum(value.expr, (axis, 1, entry.sizes[-1]))
    for_all = context if context.speaks_of.isdisjoint(value.signature) else context.anywhere()
    return shown_positive(value.expr) and for_all.agree(total, sp.Integer(1))


def _can_be_varied(variable: sp.Expr) -> bool:
    """Whether what is claimed of a symbol or entry holds around every point, so that it can be differentiated."""
    thing = variable.base if isinstance(variable, sp.Indexed) else variable
    domain = DECLARATIONS[thing].domain if thing in DECLARATIONS else None
    return isinstance(domain, Interval) and domain.is_open


# -- inequalities and slopes ------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Slope(Rule):
    """The difference quotient equals the slope exactly, for every step shorter than a radius that is positive."""

    radius: sp.Expr
    engine = "SMT, exact difference quotient"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, slope = _sides(statement)
        h = sp.Dummy("step", real=True)
        if isinstance(left, OneSided):
            point, allowed = left.point, left.side * h > 0
        elif isinstance(left, Diff) and isinstance(left.variable, sp.Symbol):
            point, allowed = left.variable, sp.Ne(h, 0)
        else:
            raise Unknown(f"this rule proves slopes in a symbol, not {left}")
        _refuse_without_value(self.radius, context)
        if not context.entails(sp.Gt(self.radius, 0, evaluate=False)):
            raise Unknown("the radius is not shown to be positive")
        own = plain(left.variable)
        expr = substitute(left.expr, {left.variable: own})
        has_values_near(expr, own, point + h, sp.And(sp.Abs(h) < self.radius, sp.Or(allowed, sp.Eq(h, 0))), context)
        value = unfold(expr)
        rise = substitute(value, {own: point + h}) - substitute(value, {own: point})
        close = sp.And(sp.Abs(h) < self.radius, allowed)
        if not context.entails(implies(close, sp.Eq(rise, slope * h, evaluate=False))):
            raise Unknown("the difference quotient is not shown to equal the slope")
        return GENERAL


def has_values_near(expr: sp.Expr, x: sp.Symbol, there: sp.Expr, near: Boolean, context: Context) -> None:
    """Refuse an expression that is not shown to have a value at every point of a neighbourhood."""
    relations = {"positive": sp.Gt, "non-negative": sp.Ge, "nonzero": sp.Ne}
    for kind, needed in needs_of(expr):
        wanted = relations[kind](substitute(needed, {x: there}), 0, evaluate=False)
        if not context.entails(implies(near, wanted)):
            raise Unknown(f"{needed} is not shown to be {kind} near the point")


@dataclass(frozen=True)
class Locally(Rule):
    """Within a radius that is positive the function equals a smooth one, and so has its derivative."""

    form: sp.Expr
    radius: sp.Expr
    engine = "SMT, equal to a smooth function nearby"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, result = _sides(statement)
        if not isinstance(left, Diff) or not isinstance(left.variable, sp.Symbol):
            raise Unknown(f"this rule proves derivatives in a symbol, not {left}")
        x, h = left.variable, sp.Dummy("step", real=True)
        _refuse_without_value(self.radius, context)
        if not context.entails(sp.Gt(self.radius, 0, evaluate=False)):
            raise Unknown("the radius is not shown to be positive")
        own = plain(x)
        near = sp.Abs(h) < self.radius
        function, form = (substitute(expr, {x: own}) for expr in (left.expr, self.form))
        for expr in (function, form):
            has_values_near(expr, own, x + h, near, context)
        same = sp.Eq(*(substitute(unfold(expr), {own: x + h}) for expr in (function, form)), evaluate=False)
        if not context.entails(implies(near, same)):
            raise Unknown("the function is not shown to equal the smooth one near the point")
        if not context.agree(At(Diff(form, own), own, x), result):
            raise Unknown("the derivative of the smooth function is not shown to be the right side")
        return GENERAL


@dataclass(frozen=True)
class ByTerms(Rule):
    """The derivative of a sum is the sum of the derivatives: those that facts give, and those that algebra does."""

    given: tuple[Fact, ...] = ()
    takes_for_granted = ("sum rule",)
    engine = "sum rule"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, result = _sides(statement)
        if not isinstance(left, Diff):
            raise Unknown(f"this rule proves derivatives, not {left}")
        expr = left.expr.unfold() if isinstance(left.expr, Apply) else left.expr
        known = dict(self._slope_given(fact, left.variable, context) for fact in self.given)
        slopes = [self._slope(term, left.variable, known, context) for term in sp.Add.make_args(expr)]
        if not context.entails(sp.Eq(result, sp.Add(*slopes), evaluate=False)):
            raise Unknown("the sum of the slopes is not shown to be the right side")
        return GENERAL

    def _slope_given(self, fact: Fact, variable: sp.Expr, context: Context) -> tuple[sp.Expr, sp.Expr]:
        equation = fact.instance(context)
        if isinstance(equation, sp.Implies):
            condition, equation = equation.args
            if not context.entails(condition):
                raise Unknown(f"{condition} is not shown, under which {fact.claim} holds")
        derivative_of, slope_of = _sides(equation)
        if not isinstance(derivative_of, Diff) or derivative_of.variable != variable:
            raise Unknown(f"{fact.claim} does not give a derivative in {variable}")
        return unfold(derivative_of.expr), slope_of

    def _slope(self, term: sp.Expr, variable: sp.Expr, known: Mapping[Any, sp.Expr], context: Context) -> sp.Expr:
        base = variable.base if isinstance(variable, sp.Indexed) else variable
        factors = sp.Mul.make_args(term)
        constant = [f for f in factors if base not in symbols_of(f)]
        varying = sp.Mul(*(f for f in factors if base in symbols_of(f)))
        found = known.get(unfold(varying))
        if found is not None:
            return sp.Mul(*constant, found)
        return resolve(Diff(term, variable))

    def uses(self) -> tuple[str, ...]:
        return tuple(fact.claim for fact in self.given)

    def describe(self) -> str:
        return f"sum rule, given {', '.join(fact.claim for fact in self.given)}"


@dataclass(frozen=True)
class Unproved(Rule):
    """No proof: what was tried is said, and the verdict is unknown."""

    tried: str
    engine = "none"

    def prove(self, statement: Boolean, context: Context) -> str:
        raise Unknown(self.tried)


@dataclass(frozen=True)
class ChainRule(Rule):
    """The derivative of a composition: a proved slope of the outside, times a proved derivative of the inside."""

    inner: str
    outer: str
    at: tuple[sp.Symbol, sp.Expr]
    takes_for_granted = ("chain rule",)
    engine = "chain rule"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, result = _sides(statement)
        inner, part = _part_of(self.inner, "", context), _part_of("", self.outer, context)
        inside, inside_slope = _sides(inner.statement)
        outside, outside_slope = _sides(part.statement)
        variable, value = self.at
        if inner.assuming:
            raise Unknown(f"{self.inner} holds under assumptions")
        derivatives = isinstance(left, Diff) and isinstance(outside, Diff)
        if not derivatives or inside != Diff(value, left.variable) or outside.variable != variable:
            raise Unknown("the parts are not the derivatives that this composition needs")
        if not _lies_in_domain(variable, value, context):
            raise Unknown(f"{value} is not shown to be {DECLARATIONS[variable].domain.name}, as {variable} is")
        _refuse_loose(part, (), context)
        varied = left.variable.base if isinstance(left.variable, sp.Indexed) else left.variable
        if varied in symbols_of(outside.expr):
            raise Unknown(f"the outside depends on {left.variable} by itself, not only through the inside")
        if unfold(left.expr) != unfold(substitute(outside.expr, {variable: value})):
            raise Unknown("the composition is not the outside applied to the inside")
        for condition in part.assuming:
            if not context.entails(substitute(condition, {variable: value})):
                raise Unknown(f"{condition} is not shown at the inside")
        product = substitute(outside_slope, {variable: value}) * inside_slope
        if not context.entails(sp.Eq(result, product, evaluate=False)):
            raise Unknown("the product of the two slopes is not shown to be the right side")
        return GENERAL

    def uses(self) -> tuple[str, ...]:
        return (self.inner,)

    def describe(self) -> str:
        return f"chain rule with {self.inner}"


@dataclass(frozen=True)
class FromMinimum(Rule):
    """A function with value zero at a point, not rising before it and not falling after it, is nowhere negative.

    For a strict bound it has to fall before the point and rise after it. Where the assumptions leave only what lies
    above the point, nothing is asked of it before.
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
            raise Unknown(f"{self.over} does not range over an interval with {self.at} in it")
        if not context.agree(substitute(self.of, {self.over: self.at}), sp.S.Zero):
            raise Unknown(f"the function is not shown to be zero at {self.at}")
        slope = derivative(unfold(self.of), self.over)
        up, down = (sp.Gt, sp.Lt) if self.strict else (sp.Ge, sp.Le)
        rises = implies(sp.Gt(self.over, self.at, evaluate=False), up(slope, 0, evaluate=False))
        falls = implies(sp.Lt(self.over, self.at, evaluate=False), down(slope, 0, evaluate=False))
        anywhere = Context(speaks_of=context.speaks_of, queries=context.queries)
        facts = [fact.instance(anywhere) for fact in self.given]
        if not anywhere.entails(rises, facts):
            raise Unknown("the function is not shown to rise after the point")
        from_here = sp.Ge(self.over, self.at, evaluate=False)
        above = context.entails(from_here)
        on_the_way = Context((from_here,)) if above else anywhere
        if on_the_way.unmet_need(self.of) is not None:
            raise Unknown("the function is not shown to have a value all the way")
        if not above and not anywhere.entails(falls, facts):
            raise Unknown("the function is not shown to fall before the point")
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


@dataclass(frozen=True)
class Termwise(Rule):
    """A sum is at least (at most) a number when its terms are at least (at most) others, whose sum is that number."""

    bound: sp.Expr
    given: tuple[Fact, ...] = ()
    takes_for_granted = ("finite sums keep inequalities",)
    engine = "term by term"

    def prove(self, statement: Boolean, context: Context) -> str:
        total = unfold(statement.args[0])
        if not isinstance(statement, sp.Ge | sp.Le) or not isinstance(total, sp.Sum):
            raise Unknown("this rule proves that a sum is at least or at most a number")
        term: sp.Expr = total
        limits: list[sp.Tuple] = []
        while isinstance(term, sp.Sum):
            term, limits = term.function, [*term.limits, *limits]
        if context.speaks_of & {limit[0] for limit in limits}:
            raise Unknown("the statement speaks of the index of the sum: what is assumed need not hold for every term")
        _refuse_without_value(self.bound, context)
        facts = [fact.instance(context) for fact in self.given]
        if not context.entails(statement.func(term, self.bound, evaluate=False), facts):
            raise Unknown("a term is not shown to keep its bound")
        if not context.agree(sp.Sum(self.bound, *limits), statement.args[1]):
            raise Unknown("the bounds of the terms do not sum to the right side")
        return GENERAL

    def uses(self) -> tuple[str, ...]:
        return tuple(fact.claim for fact in self.given)

    def describe(self) -> str:
        given = ", ".join(fact.claim for fact in self.given)
        return f"term by term, given {given}" if given else "term by term"


# -- how a spec file writes them --------------------------------------------------------------------------------


def algebra(*, sizes: Mapping[sp.Symbol, int] | None = None) -> Rule:
    """Zero test in a field; ``sizes`` writes sums out, and the scope then names the sizes."""
    return Algebra(tuple((sizes or {}).items()))


def finite_sum() -> Rule:
    """Normal form of finite sums, any length."""
    return FiniteSum()


def induction(size: sp.Symbol) -> Rule:
    """Induction over a size, from one."""
    return Induction(size)


def smt(*, given: Iterable[Fact] = ()) -> Rule:
    """The SMT solver, with instances of claims as known facts."""
    return Smt(tuple(given))


def slope(*, radius: Any) -> Rule:
    """An exact difference quotient within an explicit radius."""
    return Slope(sp.sympify(radius))


def near(form: Any, *, radius: Any) -> Rule:
    """The derivative of a smooth function that is the same within an explicit radius."""
    return Locally(sp.sympify(form), sp.sympify(radius))


def by_terms(*given: Fact) -> Rule:
    """The derivative of a sum from the derivatives of its terms, some of which claims give."""
    return ByTerms(given)


def unproved(tried: str) -> Rule:
    """No proof; the text says what was tried."""
    return Unproved(tried)


def chain(*links: Step) -> Rule:
    """A chain of equations."""
    return Chain(tuple(links))


def step(expr: Any, *, by: Rule) -> Step:
    """The next expression of a chain and why it equals the one before."""
    return Step(sp.sympify(expr), by)


def rewrite(claim: str, *, part: str = "", **bindings: Any) -> Rule:
    """Replace an instance of a claim's left side by its right side."""
    return Rewrite(claim, part, tuple(bindings.items()))


def fact(claim: str, *, part: str = "", **bindings: Any) -> Fact:
    """An instance of a claim, its symbols bound by name."""
    return Fact(claim, part, tuple(bindings.items()))


def chain_rule(*, inner: str, outer: str, at: Mapping[sp.Symbol, sp.Expr]) -> Rule:
    """The chain rule, from a claim on the inside and an earlier part of this claim on the outside."""
    ((variable, value),) = at.items()
    return ChainRule(inner, outer, (variable, value))


def from_minimum(*, of: sp.Expr, over: sp.Symbol, at: Any, strict: bool = False, given: Iterable[Fact] = ()) -> Rule:
    """A bound from the sign of a derivative around a minimum of zero, or above a point from which on it rises."""
    return FromMinimum(of, over, sp.sympify(at), strict, tuple(given))


def termwise(bound: Any, *, given: Iterable[Fact] = ()) -> Rule:
    """A bound on a sum, from below or from above as the statement says, from that bound on its terms."""
    return Termwise(sp.sympify(bound), tuple(given))

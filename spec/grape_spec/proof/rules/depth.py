"""The rule that proves what holds at every depth of a recursion: for sequences of any length, and whole trees.

The statement is an equation whose left side is a recursion at the depth of the induction. It is shown at the first
depth, and at each depth from the same statement at the depth before, for all values of its symbols.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    occurring,
    rebuild,
    sizes_kept,
    sizes_of,
    substitute,
    symbols_of,
)
from grape_spec.language.recursions import may_be_handed_on
from grape_spec.language.symbols import lowest_of, size_of_axis
from grape_spec.proof.context import Context, Unknown
from grape_spec.proof.derivatives import opened
from grape_spec.proof.facts import Fact, facts_in, part_of
from grape_spec.proof.needs import is_in_domain, reaches
from grape_spec.proof.rules.equations import last_apart
from grape_spec.proof.rules.rule import GENERAL, Rule, sides


@dataclass(frozen=True)
class Known:
    """An equation whose left side is a recursion, for every value of the symbols among its arguments.

    Arguments:
        lowest: the first depth at which it holds.
        within: where its depth is fixed, that depth; otherwise it holds at every depth.
    """

    left: Apply
    right: sp.Expr
    lowest: int
    within: sp.Symbol | None = None

    def at(self, node: sp.Basic) -> sp.Expr | None:
        """What a recursion equals by this equation; None if it is no instance of the left side."""
        if not isinstance(node, Apply) or node.args[0] != self.left.args[0] or not self._holds_at(node.depth):
            return None
        pairs = zip(self.left.arguments, node.arguments, strict=True)
        chosen = {own: given for own, given in pairs if isinstance(own, sp.Symbol)}
        if any(own not in (self.left.depth, given) and not _fits(own, given) for own, given in chosen.items()):
            return None
        return substitute(self.right, chosen) if substitute(self.left, chosen) == node else None

    def _holds_at(self, depth: sp.Expr | None) -> bool:
        return depth == self.within if self.within is not None else reaches(depth, self.lowest)


@dataclass(frozen=True)
class OverDepth(Rule):
    """A recursion equals the right side at the first depth, and at each one if at the depth before."""

    over: sp.Symbol
    given: tuple[Fact, ...] = ()
    takes_for_granted = ("induction on the natural numbers",)
    engine = "induction over depth"

    def prove(self, statement: Boolean, context: Context) -> str:
        known = [self._known(fact, context) for fact in self.given]
        if context.assumptions:
            raise Unknown(f"an assumption that holds at one {self.over} may fail at the next")
        hypothesis = _equation(statement, self.over, within=self.over)
        left, right = map(opened, statement.args)  # a definition may hide the depth
        at_first = {self.over: sp.Integer(hypothesis.lowest)}
        if not context.agree(*(_rewritten(opened(substitute(side, at_first)), known) for side in (left, right))):
            raise Unknown(f"the first depth, {self.over} = {hypothesis.lowest}, is not shown")
        if not context.agree(*(self._one_deeper(side, [hypothesis, *known]) for side in (left, right))):
            raise Unknown("the induction step is not shown")
        return GENERAL

    def _one_deeper(self, side: sp.Expr, known: list[Known]) -> sp.Expr:
        deeper = last_apart(substitute(side, {self.over: self.over + 1}), self.over)
        return _rewritten(opened(deeper), known)

    def _known(self, fact: Fact, context: Context) -> Known:
        part = part_of(fact.claim, fact.part, context)
        if part.assuming or fact.bindings:
            raise Unknown(f"{fact.claim} ({fact.part}) is used at every depth: without assumptions, and as it stands")
        over = part.statement.args[0].depth if isinstance(part.statement.args[0], Apply) else None
        if not isinstance(over, sp.Symbol):
            raise Unknown(f"{fact.claim} ({fact.part}) is not about a recursion")
        return _equation(part.statement, over)

    def uses(self) -> tuple[str, ...]:
        return tuple(fact.claim for fact in self.given)

    def describe(self) -> str:
        given = "".join(f", {fact.part}" for fact in self.given)
        return f"induction over {self.over}" + (f", given {given[2:]}" if given else "")


def over_depth(over: sp.Symbol, *, given: Iterable[Fact] = ()) -> Rule:
    """Induction over the depth of a recursion, with earlier equations about recursions as further knowledge."""
    return OverDepth(over, facts_in(given))


def agree_one_deeper(statement: Boolean, hypothesis: Boolean, over: sp.Symbol, context: Context) -> str:
    """Show an equation of a derivation, given that a statement holds at the depth ``over``; the scope.

    Raises: Unknown where it is not shown, or the statement may not be used at every value of its symbols.
    """
    if context.assumptions:
        raise Unknown(f"an assumption that holds at one {over} may fail at the next")
    known = [_equation(hypothesis, over, within=over)]
    if not context.agree(*(_rewritten(opened(side), known) for side in sides(statement))):
        raise Unknown(f"the two sides differ, also where the statement is known at {over}")
    return GENERAL


@dataclass(frozen=True)
class WithinDepth(Rule):
    """A recursion is bounded by the right side at the first depth, and at each one if at the depth before.

    The step is shown with the bound in place of the recursion, which may only occur where more of it is more in all: in
    sums, and in products with what is not negative. An assumption on every value of an index holds at each depth.
    """

    over: sp.Symbol
    by: Rule
    takes_for_granted = ("induction on the natural numbers", "finite sums preserve inequalities")
    engine = "induction over depth"

    def prove(self, statement: Boolean, context: Context) -> str:
        if self.by.at_sizes():
            raise Unknown("the step has to be shown at every size")
        statement = _on_its_own(statement)
        bound = _equation(sp.Eq(*statement.args, evaluate=False), self.over, within=self.over)
        left, right = bound.left, bound.right
        own = {thing for thing in left.arguments if isinstance(thing, sp.Symbol)}
        if any(own & symbols_of(assumption) for assumption in context.assumptions):
            raise Unknown(f"an assumption that holds at one {self.over} may fail at the next")
        at_first = {self.over: sp.Integer(bound.lowest)}
        if not context.entails(statement.func(*(opened(substitute(side, at_first)) for side in (left, right)))):
            raise Unknown(f"the first depth, {self.over} = {bound.lowest}, is not shown")
        deeper = substitute(left, {self.over: self.over + 1}).unfold()
        if not self._grows(deeper, bound, context):
            raise Unknown("the recursion is not shown to grow with its value at the depth before")
        wanted = substitute(right, {self.over: self.over + 1})
        self.by.prove(statement.func(_rewritten(deeper, [bound]), wanted, evaluate=False), _at_own_indices(context))
        return GENERAL

    def _grows(self, node: sp.Expr, bound: Known, context: Context) -> bool:
        """Whether an expression is nondecreasing in every recursion that the bound replaces."""
        if bound.at(node) is not None or _rewritten(node, [bound]) == node:
            return True
        if isinstance(node, sp.Sum):  # what is assumed of an index that the statement mentions holds for that one alone
            return context.speaks_of.isdisjoint(bound_things(node)) and self._grows(node.function, bound, context)
        if isinstance(node, sp.Mul):
            others = [factor for factor in node.args if _rewritten(factor, [bound]) == factor]
            varying = [factor for factor in node.args if factor not in others]
            alone = len(varying) == 1 and self._grows(varying[0], bound, context)
            return alone and all(context.is_nonnegative(factor) for factor in others)
        return isinstance(node, sp.Add) and all(self._grows(term, bound, context) for term in node.args)

    @property
    def lemmas(self) -> tuple[str, ...]:
        """What the induction and its step take for granted."""
        return tuple(dict.fromkeys((*self.takes_for_granted, *self.by.lemmas)))

    def uses(self) -> tuple[str, ...]:
        return self.by.uses()

    def describe(self) -> str:
        return f"induction over {self.over}, each step {self.by.describe()}"


def within_depth(over: sp.Symbol, *, by: Rule) -> Rule:
    """A bound on a recursion by induction over its depth; ``by`` shows the step, with the bound for the recursion."""
    return WithinDepth(over, by)


def _on_its_own(statement: Boolean) -> Boolean:
    """A bound with the recursion alone on its left side; it may be written as what is to spare, a − R ≥ 0."""
    if not isinstance(statement, sp.Ge | sp.Le):
        raise Unknown(f"this rule proves bounds on recursions, got {statement}")
    left, right = statement.args
    terms = sp.Add.make_args(left - right)
    alone = [term for term in terms if isinstance(term, Apply) or isinstance(-term, Apply)]
    if isinstance(left, Apply) or len(alone) != 1:
        return statement
    rest = sp.Add(*(term for term in terms if term is not alone[0]))
    if isinstance(alone[0], Apply):
        return statement.func(alone[0], -rest, evaluate=False)
    return statement.reversed.func(-alone[0], rest, evaluate=False)


def _at_own_indices(context: Context) -> Context:
    """The same, with what is assumed of every value of an index also assumed of those that the statement speaks of."""
    instances = [
        substitute(assumption, {index: own})
        for assumption in context.assumptions
        for index in sorted(symbols_of(assumption) - context.speaks_of, key=str)
        for own in sorted(context.speaks_of, key=str)
        if size_of_axis(index) is not None and size_of_axis(own) == size_of_axis(index)
    ]
    return context.where(*context.assumptions, *instances)


def _equation(statement: Boolean, over: sp.Symbol, within: sp.Symbol | None = None) -> Known:
    """An equation that may be used for all values of its symbols; refused where the depth is in any other place."""
    left, right = map(opened, sides(statement))  # a definition may hide the depth
    lowest = lowest_of(over)
    if lowest is None:
        raise Unknown(f"{over} is not a size or a whole number")
    if not isinstance(left, Apply) or left.depth != over:
        raise Unknown(f"the left side is not a recursion at the depth {over}")
    if left.definition.by_depth.lowest > lowest:
        raise Unknown(f"the recursion begins at {left.definition.by_depth.lowest}, and {over} at {lowest}")
    if sum(over in occurring(argument) for argument in left.arguments) != 1:
        raise Unknown(f"{over} is in more than one argument")
    grown = sorted(str(thing) for thing in symbols_of(statement) - {over} if over in sizes_of(thing))
    if grown:
        raise Unknown(f"{grown[0]} has another size at another depth")
    kept = sorted(node.definition.id for side in (left, right) for node in sizes_kept(side, over))
    if kept:
        raise Unknown(f"{kept[0]} has another size at another depth")
    if lowest < 1 and any(over in _ranges(side) for side in (left, right)):
        raise Unknown(f"a sum up to {over} has no terms at the first depth")
    rows = [row for row in left.atoms(sp.Lambda) | right.atoms(sp.Lambda) if over in map(size_of_axis, row.signature)]
    if rows:
        raise Unknown(f"{rows[0]} has another size at another depth")
    return Known(left, right, lowest, within)


def _fits(own: sp.Symbol, given: Any) -> bool:
    if lowest_of(own) is not None:
        return False  # the families of that size would not follow
    if size_of_axis(own) is not None:
        return may_be_handed_on(own, given)
    return is_in_domain(own, given)


def _ranges(expr: sp.Expr) -> set[sp.Symbol]:
    """Every symbol in the limits of a sum or product, also within definitions."""
    nodes = opened(expr).atoms(sp.Sum, sp.Product)
    return set().union(*(limit[2].free_symbols for node in nodes for limit in node.limits))


def _rewritten(node: sp.Basic, known: list[Known]) -> sp.Basic:
    """Every recursion replaced by what it is known to equal, but under a derivative or a name that is bound."""
    for equation in known:
        value = equation.at(node)
        if value is not None:
            return value
    if not node.args or isinstance(node, sp.IndexedBase | Diff | At | OneSided | sp.Lambda):
        return node
    bound = bound_things(node)
    usable = [equation for equation in known if bound.isdisjoint(occurring(equation.left) | occurring(equation.right))]
    args = [_rewritten(arg, usable) for arg in node.args]
    return node if all(new is old for new, old in zip(args, node.args, strict=True)) else rebuild(node, args)

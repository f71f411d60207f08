"""Rules that prove equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.domains import MOST, IndexUpTo, Naturals, Position, RowDomain
from grape_spec.language.expressions import (
    At,
    Diff,
    OneSided,
    bound_things,
    rebuild,
    sizes_kept,
    substitute,
    symbols_of,
    walk,
)
from grape_spec.language.grammar import shown
from grape_spec.language.symbols import DECLARATIONS, declared_name, lowest_of
from grape_spec.proof.context import Context, Unknown, on_the_simplex
from grape_spec.proof.derivatives import resolve
from grape_spec.proof.facts import can_be_varied, instance, lies_in_domain, part_of
from grape_spec.proof.rules.rule import GENERAL, Rule, Step, sides


@dataclass(frozen=True)
class FiniteSum(Rule):
    """Both sides have the same normal form, for sums of any length."""

    engine = "finite sums"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, right = sides(statement)
        if not context.agree(left, right):
            raise Unknown("the normal forms of the two sides differ")
        return GENERAL


def finite_sum() -> Rule:
    """Normal form of finite sums, any length."""
    return FiniteSum()


@dataclass(frozen=True)
class Algebra(Rule):
    """The difference is zero in a field of rational functions; with ``sizes``, sums written out at those sizes."""

    sizes: tuple[tuple[sp.Symbol, int], ...] = ()
    engine = "algebra"

    def prove(self, statement: Boolean, context: Context) -> str:
        sizes = self.at_sizes()
        if len(sizes) < len(self.sizes):
            raise Unknown("a size is given twice")
        for size, n in sizes.items():
            domain = DECLARATIONS[size].domain if size in DECLARATIONS else None
            if not (isinstance(domain, Naturals) and domain.contains(Fraction(n)) and n <= MOST):
                raise Unknown(f"{size} = {n} is not a size")
        left, right = (resolve(side) for side in sides(statement))
        if not sizes and (left.atoms(sp.Sum, sp.Product) or right.atoms(sp.Sum, sp.Product)):
            raise Unknown("this rule does not support sums of general length")
        left, right = (walk(substitute(side, sizes), _written_out) for side in (left, right))
        here = context.at_sizes(left, sizes).at_sizes(right, sizes)
        if not here.agree(on_the_simplex(left, sizes), on_the_simplex(right, sizes)):
            raise Unknown("the difference of the two sides is not zero in the field")
        return ", ".join(f"{size} = {n}" for size, n in sizes.items()) or GENERAL

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


def algebra(*, sizes: Mapping[sp.Symbol, int] | None = None) -> Rule:
    """Zero test in a field; ``sizes`` writes sums out, and the scope then names the sizes.

    Raises: ValueError for sizes that nobody can write out.
    """
    for size, n in (sizes or {}).items():
        if not isinstance(n, int) or n > MOST:
            raise ValueError(f"sizes: got {n} for {size}, expected a whole number of at most {MOST}")
    return Algebra(tuple((sizes or {}).items()))


@dataclass(frozen=True)
class Induction(Rule):
    """Both sides agree at size one and change by the same amount from each size to the next."""

    size: sp.Symbol
    takes_for_granted = ("induction on the natural numbers",)
    engine = "induction"

    def prove(self, statement: Boolean, context: Context) -> str:
        left, right = sides(statement)
        if lowest_of(self.size) is None:
            raise Unknown(f"{self.size} is not a size or a whole number")
        if context.assumptions or any(self._is_normalised_along_size(thing) for thing in symbols_of(statement)):
            raise Unknown(f"an assumption, a total or a position that holds at one {self.size} may fail at the next")
        left, right = resolve(left), resolve(right)
        if kept := sizes_kept(left, self.size) | sizes_kept(right, self.size):
            raise Unknown(f"{min(kept, key=str)} has another size at the next {self.size}")
        if not context.agree(*(substitute(side, {self.size: sp.Integer(1)}) for side in (left, right))):
            raise Unknown(f"the base case, {self.size} = 1, is not shown")
        if not context.agree(self._larger(left) + right, self._larger(right) + left):
            raise Unknown("the induction step is not shown")
        return GENERAL

    def _larger(self, side: sp.Expr) -> sp.Expr:
        return last_apart(substitute(side, {self.size: self.size + 1}), self.size)

    def _is_normalised_along_size(self, thing: Any) -> bool:
        entry = DECLARATIONS[thing]
        if isinstance(entry.domain, IndexUpTo | Position):
            return self.size in entry.domain.size.free_symbols
        return isinstance(entry.domain, RowDomain) and self.size in entry.sizes[-1].free_symbols

    def describe(self) -> str:
        return f"induction over {self.size}"


def last_apart(expr: sp.Expr, size: sp.Symbol) -> sp.Expr:
    """The expression with the last term of every sum up to ``size`` + 1 taken out of it."""

    def split(node: sp.Basic) -> sp.Basic | None:
        if not isinstance(node, sp.Sum | sp.Product) or node.limits[0][2] != size + 1:
            return None
        (bound, low, high), *outer = node.limits
        if outer:
            raise Unknown("induction over nested sums is not supported")
        last, shorter = substitute(node.function, {bound: high}), node.func(node.function, (bound, low, size))
        return shorter + last if isinstance(node, sp.Sum) else shorter * last

    return walk(expr, split)


def induction(size: sp.Symbol) -> Rule:
    """Induction over a size, from one."""
    return Induction(size)


@dataclass(frozen=True)
class Rewrite(Rule):
    """A step that replaces an instance of a proved equation's left side by its right side."""

    claim: str
    part: str = ""
    bindings: tuple[tuple[str, Any], ...] = ()
    engine = "rewriting"

    def prove(self, statement: Boolean, context: Context) -> str:
        before, after = sides(statement)
        part = part_of(self.claim, self.part, context)
        if part.assuming:
            raise Unknown(f"{self.claim} holds under assumptions and cannot be used under a sum")
        equation = instance(part.statement, self.bindings, context)
        left, right = sides(equation)
        replaced = self._replace(before, left, right, context)
        if replaced == before:
            raise Unknown(f"the left side of {self.claim} does not occur")
        if replaced != after:
            raise Unknown(f"rewriting with {self.claim} gives {replaced}")
        return GENERAL

    def _replace(self, node: sp.Basic, left: sp.Expr, right: sp.Expr, context: Context) -> sp.Basic:
        """Replace everywhere; under a derivative the claim must hold around the point, not only on some domain."""
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
            raise Unknown(f"{self.claim} is not shown to hold on one side of a point alone")
        if isinstance(node, Diff) and not can_be_varied(node.variable):
            raise Unknown(f"{self.claim} is not shown around {node.variable}, only on its domain")
        if isinstance(node, At) and not lies_in_domain(node.replaced, node.value, context):
            raise Unknown(f"{self.claim} is not shown at {node.value}")
        return rebuild(node, args)

    def _refuse_assumed(self, context: Context) -> None:
        """An assumption at a point holds neither around it nor for an index that a sum binds under the same name."""
        for name, value in self.bindings:
            if not lies_in_domain(declared_name(name), value, context.anywhere()):
                raise Unknown(f"{value} is in the domain of {name} only where the assumptions hold")

    def uses(self) -> tuple[str, ...]:
        return (self.claim,)

    def describe(self) -> str:
        return self.claim + (f" ({self.part})" if self.part else "")


def rewrite(claim: str, *, part: str = "", **bindings: Any) -> Rule:
    """Replace an instance of a claim's left side by its right side."""
    return Rewrite(claim, part, tuple(bindings.items()))


@dataclass(frozen=True)
class Chain(Rule):
    """A chain of equations from the left side to the right, each link with its own rule."""

    links: tuple[Step, ...]
    engine = "chain of steps"

    def prove(self, statement: Boolean, context: Context) -> str:
        here, right = sides(statement)
        scopes, at = [], self.at_sizes()
        if any(at[size] != n for link in self.links for size, n in link.by.at_sizes().items()):
            raise Unknown("the links of the chain hold at different sizes")
        for link in self.links:
            scopes.append(link.prove(sp.Eq(here, link.expr, evaluate=False), context, at))
            here = link.expr
        if here != right:
            raise Unknown(f"the chain ends at {here}, not at the right side")
        chosen = [scope for scope in scopes if scope != GENERAL]
        return "; ".join(dict.fromkeys(chosen)) or GENERAL

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


def chain(*links: Step) -> Rule:
    """A chain of equations."""
    for link in links:
        if not isinstance(link, Step):
            raise TypeError(f"chain: got {shown(link)}, expected step(expr, by=rule)")
    return Chain(links)

"""The context of a proof: its assumptions, and what can be shown from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import sympy as sp
from sympy.logic.boolalg import Boolean

from grape_spec.language.domains import Naturals, RowDomain, SimplexDomain
from grape_spec.language.expressions import Apply, substitute, walk
from grape_spec.language.symbols import DECLARATIONS, size_of_axis
from grape_spec.proof.derivatives import NotAlgebraic, exists_by_form, opened, resolve
from grape_spec.proof.field import is_zero
from grape_spec.proof.needs import Kind, Need, needs_of, positions_of
from grape_spec.proof.normal_form import NormalForm, is_positive
from grape_spec.proof.polynomials import add, scale, to_expr
from grape_spec.proof.smt import TIME_LIMIT, Solver


class Unknown(Exception):
    """The rule could not prove the statement; the message says why."""


@dataclass
class Context:
    """The assumptions of a proof, the symbols of its statement, its place in the registry, and the queries so far.

    Arguments:
        claim: the id of the claim that is proved; a proof may use what was entered before it.
        parts: the earlier parts of that claim.
        used: the claims whose statements were used.
        defined: derivatives and slopes that a proof shows to exist, their definitions unfolded.
    """

    assumptions: tuple[Boolean, ...] = ()
    speaks_of: frozenset = frozenset()
    claim: str = ""
    parts: Mapping[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    queries: list[str] = field(default_factory=list)
    milliseconds: int = TIME_LIMIT
    defined: set[sp.Basic] = field(default_factory=set)
    _forms: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _nonzero: set[sp.Basic] = field(default_factory=set, init=False, repr=False, compare=False)
    _entailed: dict[Any, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def anywhere(self) -> Context:
        """The same without any assumption."""
        return self.where()

    def where(self, *assumptions: Boolean) -> Context:
        """The same under other assumptions."""
        return replace(self, assumptions=assumptions, defined=set())

    def solver(self) -> Solver:
        """A solver with the assumptions that it can translate; those on sums also with every definition unfolded."""
        return Solver(self._readable, self.queries, self.milliseconds, self._nonzero)

    @cached_property
    def _readable(self) -> tuple[Boolean, ...]:
        unfolded = (f for f in map(opened, self.assumptions) if f.atoms(sp.Sum, sp.exp, sp.log))
        return tuple(f for f in dict.fromkeys((*self.assumptions, *unfolded)) if _is_readable(f))

    def entails(self, statement: Boolean, given: Iterable[Boolean] = ()) -> bool:
        """Whether the SMT solver proves a statement here."""
        asked = (statement, *given)
        if asked not in self._entailed:
            self._entailed[asked] = self.solver().entails(statement, given=asked[1:])
        return self._entailed[asked]

    def agree(self, left: sp.Expr, right: sp.Expr) -> bool:
        """Whether two expressions have the same normal form and every divisor in either is proved nonzero."""
        form = self._form()
        difference = add(form.of(resolve(left)), scale(form.of(resolve(right)), Fraction(-1)))
        return is_zero(difference, form) and self._have_values(form)

    def is_positive(self, expr: sp.Expr) -> bool:
        """Whether an expression is shown to be defined and positive here."""
        form = self._form()
        by_form = self._positive(to_expr(form.of(resolve(expr)))) and self._have_values(form)
        return by_form or self.entails(sp.Gt(expr, 0, evaluate=False)) or self._is_positive_by_parts(expr)

    def _is_positive_by_parts(self, expr: sp.Expr) -> bool:
        if isinstance(expr, Apply) and expr.unfolds:
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
        """The first condition for an expression to be defined that is not shown here; None if there is none."""
        for position, axis in positions_of(expr):
            if not _is_on_axis(position, axis, sizes or {}):
                return "a position of its axis", position
        for kind, needed in needs_of(expr):
            if kind == "defined":
                met = self._is_defined(needed)
            else:
                sized = substitute(needed, sizes or {})
                met = self.at_sizes(sized, sizes or {}).meets(kind, on_the_simplex(sized, sizes or {}))
            if not met:
                return kind, needed
        return None

    def meets(self, kind: Kind, needed: sp.Basic) -> bool:
        """Whether a need of an expression is shown to be met here."""
        shown: dict[Kind, Callable[[Any], bool]] = {
            "positive": self.is_positive,
            "non-negative": self.is_nonnegative,
            "nonzero": self.differs_from_zero,
            "an integer at least 1": self._is_size,
            "true": self.entails,
            "defined": self._is_defined,
            "a position of its axis": lambda needed: False,
        }
        return shown[kind](needed)

    def _is_size(self, value: sp.Expr) -> bool:
        return bool(value.is_integer) and (bool(value.is_positive) or self.entails(sp.Ge(value, 1, evaluate=False)))

    def _is_defined(self, node: sp.Basic) -> bool:
        """Whether a derivative exists, by the form of the function or by a proof."""
        return exists_by_form(node) or opened(node) in self.defined

    def at_sizes(self, expr: sp.Basic, sizes: Mapping[sp.Symbol, int]) -> Context:
        """The same where the last entry of every row of a simplex is known to be positive."""
        rows = (node for node in expr.atoms(sp.Indexed) if _of_a_simplex(node))
        last = {entry for node in rows if (entry := last_entry(node, sizes)) is not None}
        known = tuple(sp.Gt(entry, 0, evaluate=False) for entry in sorted(last, key=str))
        return replace(self, assumptions=self.assumptions + known)

    def is_nonnegative(self, expr: sp.Expr) -> bool:
        """Whether an expression is shown to be non-negative here: a square, a root, or a sum or product of such."""
        if isinstance(expr, Apply) and expr.unfolds:
            return self.is_nonnegative(expr.unfold())
        if isinstance(expr, sp.Sum):
            own = {limit[0]: sp.Dummy("bound", integer=True, positive=True) for limit in expr.limits}
            return self.is_nonnegative(substitute(expr.function, own))
        if isinstance(expr, sp.Pow) and isinstance(expr.exp, sp.Rational):
            return expr.exp.q == 2 or expr.exp.p % 2 == 0 or self.is_nonnegative(expr.base)
        by_parts = isinstance(expr, sp.Add | sp.Mul) and all(self.is_nonnegative(arg) for arg in expr.args)
        return by_parts or self.is_positive(expr) or self.entails(sp.Ge(expr, 0, evaluate=False))

    def _form(self) -> NormalForm:
        relations = [f for f in self.assumptions if isinstance(f, sp.Eq) and isinstance(opened(f.lhs), sp.Sum)]
        return NormalForm(relations, self._positive, self.speaks_of, self._forms)

    def _have_values(self, form: NormalForm) -> bool:
        return all(self.differs_from_zero(divisor) for divisor in form.nonzero)

    def _positive(self, expr: sp.Expr) -> bool:
        readable = not expr.atoms(sp.exp, sp.log, sp.Sum, sp.Product)
        return is_positive(expr) or (readable and self.entails(sp.Gt(expr, 0, evaluate=False)))


def _is_on_axis(position: sp.Expr, axis: sp.Expr, sizes: Mapping[sp.Symbol, int]) -> bool:
    """Whether a position is an index of its axis or a number within it; the first position always exists."""
    length = substitute(axis, sizes)
    if not _is_length(length):
        return False
    if position.is_Integer:
        return bool(position == 1 or (length.is_Integer and 1 <= position <= length))
    own = size_of_axis(position)
    return length == substitute(position if own is None else own, sizes)


def _is_length(length: sp.Expr) -> bool:
    entry = DECLARATIONS.get(length)
    declared = entry is not None and isinstance(entry.domain, Naturals) and entry.domain.low >= 1
    return declared or (length.is_Integer and bool(length >= 1))


def _is_readable(formula: Boolean) -> bool:
    """Whether the solver can translate an assumption; one that it cannot is left out, which proves less."""
    try:
        Solver().formula(formula)
    except NotAlgebraic:
        return False
    return True


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

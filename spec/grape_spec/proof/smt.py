"""Statements over all real numbers, decided by an SMT solver (z3).

Min, Max, absolute values and case distinctions are translated as they stand. What is not arithmetic (an exponential, a
logarithm, a sum) is brought into normal form and becomes a real variable of its own, positive where its form shows it:
the solver then proves more than is asked, never less. Every divisor must be proved nonzero before a query counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import sympy as sp
import z3
from sympy.core.relational import Relational

from grape_spec.language.domains import MOST, IndexUpTo
from grape_spec.language.expressions import Apply, occurring
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.proof.deadline import left
from grape_spec.proof.derivatives import NotAlgebraic
from grape_spec.proof.normal_form import NormalForm, is_positive, is_root, shown_positive
from grape_spec.proof.polynomials import Polynomial

#: Milliseconds that the solver may take for one query.
TIME_LIMIT = 10_000

_ARITHMETIC = (sp.Add, sp.Mul, sp.Min, sp.Max, sp.Abs, sp.Piecewise)


@dataclass
class Solver:
    """One set of variables, their domains, and the queries asked of them.

    Arguments:
        queries: each query as SMT-LIB text, so that another solver can be asked the same.
        nonzero: divisors that were shown to differ from zero under the same assumptions.
    """

    assumptions: tuple[sp.Basic, ...] = ()
    queries: list[str] = field(default_factory=list)
    milliseconds: int = TIME_LIMIT
    nonzero: set[sp.Basic] = field(default_factory=set)
    _variables: dict[sp.Basic, z3.ArithRef] = field(default_factory=dict)
    _domains: list[z3.BoolRef] = field(default_factory=list)
    _divisors: dict[sp.Basic, z3.ArithRef] = field(default_factory=dict)

    def entails(self, statement: sp.Basic, *, given: Iterable[sp.Basic] = ()) -> bool:
        """Whether the domains, assumptions and given facts imply the statement; False if unknown."""
        known = [self.formula(f) for f in self.assumptions]
        facts, wanted = [self.formula(f) for f in given], self.formula(statement)
        defined = all(self._differs_from_zero(divisor, term, known) for divisor, term in self._divisors.items())
        if not defined or self._solve([*known, *facts, z3.Not(wanted)]) != z3.unsat:
            return False
        return not facts or self._solve([*known, *facts]) != z3.unsat  # what contradicts itself implies everything

    def _differs_from_zero(self, divisor: sp.Basic, term: z3.ArithRef, known: list[z3.BoolRef]) -> bool:
        if divisor not in self.nonzero and self._solve([*known, term == 0]) == z3.unsat:
            self.nonzero.add(divisor)
        return divisor in self.nonzero

    def counterexample(self, statement: sp.Basic) -> dict[sp.Symbol, Fraction] | None:
        """Rational values at which the solver finds the statement false; they still have to be checked."""
        solver = self._asked([*(self.formula(f) for f in self.assumptions), z3.Not(self.formula(statement))])
        if solver.check() != z3.sat:
            return None
        values = {atom: solver.model().eval(variable, True) for atom, variable in self._variables.items()}
        return {a: v.as_fraction() for a, v in values.items() if isinstance(a, sp.Symbol) and z3.is_rational_value(v)}

    def satisfiable(self) -> bool | None:
        """Whether the domains and the assumptions are satisfiable together; None if unknown."""
        known = [self.formula(f) for f in self.assumptions]
        answer = self._solve(known)
        return None if answer == z3.unknown else answer == z3.sat

    def _solve(self, formulas: list[z3.BoolRef]) -> z3.CheckSatResult:
        solver = self._asked(formulas)
        self.queries.append("(set-logic ALL)\n" + solver.to_smt2())
        return solver.check()

    def _asked(self, formulas: list[z3.BoolRef]) -> z3.Solver:
        solver = z3.Solver()
        solver.set("timeout", max(1, int(1000 * left(self.milliseconds / 1000))))
        solver.add(*self._domains, *formulas)
        return solver

    # -- translation --------------------------------------------------------------------------------------------

    def formula(self, f: sp.Basic) -> z3.BoolRef:
        """A SymPy formula as a formula of the solver."""
        if f in (sp.true, sp.false):
            return z3.BoolVal(bool(f))
        if isinstance(f, Relational):
            left, right = (self.term(side) for side in f.args)
            return _RELATIONS[type(f)](left, right)
        parts = [self.formula(arg) for arg in f.args]
        for kind, build in _CONNECTIVES.items():
            if isinstance(f, kind):
                return build(*parts)
        raise NotAlgebraic(f"the SMT solver cannot express {type(f).__name__}: {f}")

    def term(self, expr: sp.Basic) -> z3.ArithRef:
        """A SymPy expression as a term of the solver."""
        if isinstance(expr, sp.Rational):
            return z3.RealVal(f"{expr.p}/{expr.q}")
        if isinstance(expr, sp.Symbol):
            return self._variable(expr)
        if isinstance(expr, Apply):
            return self.term(expr.unfold()) if _is_arithmetic_inside(expr) else self._variable(expr)
        if isinstance(expr, sp.Piecewise):
            return self._piecewise(expr)
        if isinstance(expr, sp.Pow) and isinstance(expr.exp, sp.Integer) and not isinstance(expr, sp.exp):
            return self._power(expr.base, int(expr.exp))
        if is_root(expr) and is_arithmetic(expr.base):
            return self._root(expr, self.term(expr.base))
        if isinstance(expr, _ARITHMETIC):
            return _fold(expr, [self.term(arg) for arg in expr.args])
        return self._from_normal_form(expr)

    def _piecewise(self, expr: sp.Piecewise) -> z3.ArithRef:
        *branches, last = expr.args
        if last[1] != sp.true:
            raise NotAlgebraic(f"a case distinction must end with a default case: {expr}")
        value = self.term(last[0])
        for branch, condition in reversed(branches):
            value = z3.If(self.formula(condition), self.term(branch), value)
        return value

    def _power(self, base: sp.Expr, n: int) -> z3.ArithRef:
        if abs(n) > MOST:
            raise NotAlgebraic(f"the exponent {n} is too large")
        term = self.term(base)
        if n < 0:
            self._divisors[base] = term
        product = term
        for _ in range(abs(n) - 1):
            product = product * term
        return product if n > 0 else 1 / product

    def _root(self, root: sp.Expr, base: z3.ArithRef) -> z3.ArithRef:
        """A variable that equals the square root where the base is non-negative; elsewhere only its sign is known."""
        if root not in self._variables:
            self._variables[root] = variable = z3.Real(f"root.{len(self._variables)}")
            self._domains += [variable >= 0, z3.Implies(base >= 0, variable * variable == base)]
        return self._variables[root]

    def _from_normal_form(self, expr: sp.Basic) -> z3.ArithRef:
        polynomial, nonzero = _normal_form(expr, _domains_in(expr))
        total = z3.RealVal(0)
        for monomial, c in polynomial.items():
            product = z3.RealVal(f"{c.numerator}/{c.denominator}")
            for atom, n in monomial:
                product = product * (self._power_of_atom(atom, n))
            total = total + product
        for divisor in nonzero:
            self._divisors[divisor] = self.term(divisor)
        return total

    def _power_of_atom(self, atom: sp.Expr, n: int) -> z3.ArithRef:
        if isinstance(atom, sp.Add):
            return self._power(atom, n)
        variable = self._root(atom, self.term(atom.base)) if is_root(atom) else self._variable(atom)
        product = variable
        for _ in range(abs(n) - 1):
            product = product * variable
        if n < 0:
            self._divisors[atom] = variable
            return 1 / product
        return product

    def _variable(self, atom: sp.Basic) -> z3.ArithRef:
        if atom not in self._variables:
            name = atom.name if isinstance(atom, sp.Symbol) else "atom"
            variable = z3.Real(f"{name}.{len(self._variables)}")
            self._variables[atom] = variable
            self._domains += self._domain(atom, variable)
        return self._variables[atom]

    def _domain(self, atom: sp.Basic, variable: z3.ArithRef) -> list[z3.BoolRef]:
        if isinstance(atom, Apply):
            return [variable > 0] if _shown_positive(atom, _domains_in(atom)) else []
        if isinstance(atom, sp.KroneckerDelta):
            return [z3.Or(variable == 0, variable == 1)]
        entry = DECLARATIONS.get(atom.base if isinstance(atom, sp.Indexed) else atom)
        if entry is None or isinstance(entry.domain, IndexUpTo):
            return [variable > 0] if is_positive(atom) else []
        return [self.formula(entry.domain.constraint(atom))]


def _domains_in(expr: sp.Basic) -> frozenset:
    """The domains of the symbols in an expression, on which its normal form also depends."""
    return frozenset((thing, DECLARATIONS[thing]) for thing in occurring(expr) if thing in DECLARATIONS)


@lru_cache(maxsize=10_000)
def _normal_form(expr: sp.Basic, domains: frozenset) -> tuple[Polynomial, frozenset]:
    form = NormalForm()
    return form.of(expr), frozenset(form.nonzero)


@lru_cache(maxsize=10_000)
def _shown_positive(expr: sp.Basic, domains: frozenset) -> bool:
    return shown_positive(expr)


def is_arithmetic(body: sp.Basic) -> bool:
    """Whether a body is built from arithmetic, Min, Max and cases alone, so that the solver can see through it."""
    return not body.atoms(sp.exp, sp.log, sp.Sum, sp.Product, sp.Indexed) and all(
        _is_arithmetic_inside(node) for node in body.atoms(Apply)
    )


def _is_arithmetic_inside(node: Apply) -> bool:
    return node.definition.recursion is None and is_arithmetic(node.definition.body)


def _fold(expr: sp.Basic, terms: list[z3.ArithRef]) -> z3.ArithRef:
    first, *others = terms
    if isinstance(expr, sp.Abs):
        return z3.If(first >= 0, first, -first)
    for other in others:
        if isinstance(expr, sp.Add):
            first = first + other
        elif isinstance(expr, sp.Mul):
            first = first * other
        elif isinstance(expr, sp.Min):
            first = z3.If(first <= other, first, other)
        else:
            first = z3.If(first >= other, first, other)
    return first


_RELATIONS = {
    sp.Eq: lambda a, b: a == b,
    sp.Ne: lambda a, b: a != b,
    sp.Lt: lambda a, b: a < b,
    sp.Le: lambda a, b: a <= b,
    sp.Gt: lambda a, b: a > b,
    sp.Ge: lambda a, b: a >= b,
}

_CONNECTIVES = {
    sp.Not: z3.Not,
    sp.And: z3.And,
    sp.Or: z3.Or,
    sp.Implies: z3.Implies,
    sp.Equivalent: lambda a, b: a == b,
}

"""Parts of claims as Coq statements.

Whoever trusts a certificate trusts this module, ``printer``, ``values``, ``Definitions.v`` and Coq, and nothing else:
neither SymPy's rewriting nor our provers. Definitions stay folded: each becomes a Coq ``Definition``, or a ``Fixpoint``
where it is recursive, and Coq unfolds it. Domains and assumptions become hypotheses. A part is certified only if two
theorems are: its statement, and that every term of the statement has a value wherever the hypotheses hold
(``_defined``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction
from sympy.logic.boolalg import Boolean

from grape_spec.coq.printer import (
    Unstated,
    coq_id,
    coq_name,
    implicit_sizes,
    mentioned,
    position,
    proposition,
    term,
)
from grape_spec.coq.values import both, defined, for_all, has_value
from grape_spec.language.domains import (
    IndexUpTo,
    Interval,
    Naturals,
    OneHotDomain,
    OneOf,
    Position,
    RowDomain,
    SimplexDomain,
    SmoothDomain,
)
from grape_spec.language.expressions import Apply, occurring, symbols_of
from grape_spec.language.registry import definition
from grape_spec.language.symbols import DECLARATIONS, size_of_axis

# -- definitions -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1000)
def definition_text(id: str) -> str:
    """A definition of the spec in Coq, and what it needs to have a value if that is anything."""
    entry = definition(id)
    for inner in definitions_of([entry.body]):
        if inner != id:
            definition_text(inner)  # raises if it has no form
    things = [*implicit_sizes(entry), *entry.of]
    _refuse_hidden({*things, *mentioned(entry.body)}, [id, *definitions_of([entry.body])])
    _refuse_other_sizes(entry)
    binders = " ".join(f"({coq_name(thing)} : {type_of(thing, [entry.body])})" for thing in things)
    if entry.recursion is not None:
        return _fixpoints(entry, binders)
    lines = [f"Definition {coq_id(id)} {binders} : R :=\n  {term(entry.body)}."]
    needs = defined(entry.body)
    if needs:
        lines.append(f"Definition {coq_id(id)}_defined {binders} : Prop :=\n  {_lines_and(needs)}.")
    return "\n".join(lines)


def _fixpoints(entry: Any, binders: str) -> str:
    """A recursive definition: the value at the first depth, and at each one from that at the depth before."""
    recursion, over = entry.recursion, coq_name(entry.recursion.over)
    needs = [both(defined(recursion.first)), both(defined(recursion.step))]
    lines = []
    for suffix, kind, below, (first, step) in (
        ("", "R", "0", (term(recursion.first), term(recursion.step))),
        ("_defined", "Prop", "True", needs),
    ):
        at_first, after = first, step
        for _ in range(recursion.lowest):  # below the first depth there is no value
            at_first, after = below, f"match {over} with O => {at_first} | S _ => {after} end"
        cases = f"  match {over} with\n  | O => {at_first}\n  | S {over} => {after}\n  end."
        lines.append(f"Fixpoint {coq_id(entry.id)}{suffix} {binders} {{struct {over}}} : {kind} :=\n{cases}")
    return "\n".join(lines)


def _refuse_hidden(things: Iterable[Any], ids: Iterable[str]) -> None:
    """A symbol under the name of a definition would be read in its place."""
    names = {coq_id(id) + suffix for id in ids for suffix in ("", "_defined")}
    for thing in things:
        if coq_name(thing) in names:
            raise Unstated(f"the symbol {thing} has the name of a definition in Coq")


def _refuse_other_sizes(entry: Any) -> None:
    """An inner definition over an axis whose size is an argument: its size follows in Coq, but not in SymPy."""
    for node in entry.body.atoms(Apply):
        for size in set(implicit_sizes(node.definition)) & set(entry.of):
            raise Unstated(f"{entry.id} has the argument {size}, which {node.definition.id} takes from its families")


def _lines_and(conditions: Iterable[str]) -> str:
    return " /\\\n  ".join(f"({condition})" for condition in conditions)


def definitions_of(formulas: Iterable[sp.Basic], within: frozenset[str] = frozenset()) -> list[str]:
    """The ids of the definitions that formulas speak of, each after those that it is built from.

    ``within`` are those that are being looked into, as a recursive definition speaks of itself.
    """
    found: dict[str, None] = {}
    for formula in formulas:
        for node in sorted(formula.atoms(Apply), key=str):
            entry = node.definition
            if entry.id in found or entry.id in within:
                continue
            found.update(dict.fromkeys(definitions_of([entry.body], within | {entry.id})))
            found[entry.id] = None
    return list(found)


def type_of(thing: Any, formulas: Iterable[sp.Basic]) -> str:
    """The Coq type of a symbol, family or function, whose arguments are as it is applied in the formulas."""
    if isinstance(thing, sp.IndexedBase):
        entry = DECLARATIONS[thing]
        return "nat -> " * len(entry.sizes) + ("nat" if isinstance(entry.domain, Position) else "R")
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
    _refuse_hidden(set(things).union(*map(mentioned, formulas)), definitions_of(formulas))
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
    (text,) = for_all([(index, size_of_axis(index)) for index in loose], [text])
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
    elif isinstance(domain, Position):
        yield f"(1 <= {x} <= {position(domain.size)})%nat"
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

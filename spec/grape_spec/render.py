"""A claim becomes text: one line of Unicode for the terminal, LaTeX for a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from grape_spec.language.claims import Claim, Part, Wrong
from grape_spec.language.definitions import Definition
from grape_spec.language.domains import IndexUpTo
from grape_spec.language.expressions import Apply, At, Diff, OneSided, bound_things, symbols_of
from grape_spec.language.registry import CLAIMS, DEFINITIONS, DERIVATIONS, is_ours
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.paper.layout import defined, displayed, inline
from grape_spec.paper.plain import plain
from grape_spec.paper.texts import subscripted

_GREEK = {"pi": "π", "rho": "ρ", "theta": "θ", "beta": "β", "temperature": "τ", "label_smoothing": "ε"}


def unicode(expr: Any) -> str:
    """One line of Unicode."""
    return _Unicode().doprint(expr)


def latex(expr: Any) -> str:
    """LaTeX for lines of its own, without the dollar signs."""
    return displayed(expr)


def plain_text(expr: Any) -> str:
    """The same lines in Unicode, for the terminal."""
    return plain(latex(expr))


def latex_assuming(statement: Any, assuming: Iterable[Any]) -> str:
    """LaTeX of a statement and of the conditions that it holds under, without which it may well be false."""
    return displayed(statement, assuming)


def domain_text(thing: Any) -> str:
    """What was declared of a symbol, in a line: name, domain, meaning."""
    shown = symbol_as_dict(thing)
    return f"{shown['name']}: {shown['domain']}; {shown['text']}"


def symbol_as_dict(thing: Any) -> dict[str, str]:
    """What was declared of a symbol: name with its sizes, LaTeX without and with indices, domain, meaning."""
    entry = DECLARATIONS[thing]
    sizes = f"[{', '.join(map(str, entry.sizes))}]" if entry.sizes else ""
    name = f"{_GREEK.get(entry.name, entry.name)}{sizes}"
    return {
        "name": name,
        "latex": entry.tex,
        "indexed": _indexed(entry.tex, entry.sizes) if entry.sizes else entry.tex,
        "plain": plain(entry.tex),
        "domain": entry.domain.name,
        "text": entry.text,
    }


def _indexed(tex: str, sizes: Iterable[sp.Expr]) -> str:
    """A family with its indices: for each axis the index that was declared first, for a second one the next."""
    left, indices = list(DECLARATIONS.values()), []
    for size in sizes:
        found = (entry for entry in left if isinstance(entry.domain, IndexUpTo) and entry.domain.size == size)
        entry = next(found, None)
        if entry is None:  # an axis without an index has its entries by number
            return rf"{subscripted(tex, '1')}, {subscripted(tex, '2')}, \dots"
        left.remove(entry)
        indices.append(entry.tex)
    return subscripted(tex, ",".join(indices))


def as_dict(claim: Claim) -> dict[str, Any]:
    """Everything that the spec itself says of a claim, as data for JSON or a page; nothing of evidence."""
    formulas = list(_formulas_of(claim))
    definitions = definitions_in(formulas)
    shown = [*formulas, *(formula for entry in definitions for formula in (entry(), entry.body))]
    things = sorted({thing for formula in shown for thing in _declared_in(formula)}, key=str)
    return {
        "id": claim.id,
        "text": claim.text,
        "hash": claim.hash,
        "source": str(claim.source),
        "symbols": [symbol_as_dict(thing) for thing in things],
        "parts": [_part_as_dict(part) for part in claim.parts],
        "definitions": [_definition_as_dict(entry) for entry in definitions],
        "wrong": [_wrong_as_dict(variant) for variant in claim.wrong],
        "uses": list(claim.uses),
        "used_by": [other.id for other in CLAIMS.values() if claim.id in other.uses],
        "lemmas": sorted({lemma for part in claim.parts for lemma in part.by.lemmas}),
    }


def _formulas_of(claim: Claim) -> Iterator[sp.Basic]:
    """Every formula that is shown of a claim: statements, assumptions, steps, derivations, wrong variants."""
    for part in claim.parts:
        yield from (part.statement, *part.assuming, *(link.expr for link in part.by.steps()))
        for stage in DERIVATIONS.get((claim.id, part.name), ()):
            yield from stage.expressions
    for variant in claim.wrong:
        yield from (variant.statement, *variant.assuming)


def definitions_in(formulas: Iterable[sp.Basic]) -> list[Definition]:
    """The definitions that formulas speak of, and those that they are built from, in the order of the registry."""
    found: set[str] = set()
    waiting = list(formulas)
    while waiting:
        new = _applied(waiting.pop()) - found
        found |= new
        waiting += [DEFINITIONS[id].body for id in new]
    return [entry for id, entry in DEFINITIONS.items() if id in found]


@cache
def _applied(formula: sp.Basic) -> frozenset[str]:
    """The ids of the definitions that a formula itself speaks of."""
    return frozenset(str(node.args[0]) for node in formula.atoms(Apply))


def _declared_in(formula: sp.Basic) -> set[Any]:
    """Every declared symbol in a formula, with what is bound in it, the sizes, and arguments that go by their names."""
    found = set(symbols_of(formula))
    for node in sp.preorder_traversal(formula):
        for bound in bound_things(node):
            found |= symbols_of(bound)
        if isinstance(node, Apply):
            found |= {parameter for _, parameter, _ in _shown_arguments(node)}
    return {thing for thing in found if thing in DECLARATIONS}


def _shown_arguments(expr: Apply) -> list[tuple[int, Any, Any]]:
    """Position, parameter and argument wherever the argument is not the parameter itself, and of every index."""
    pairs = zip(expr.definition.of, expr.arguments, strict=True)
    return [
        (position, parameter, argument)
        for position, (parameter, argument) in enumerate(pairs)
        if argument != parameter or isinstance(DECLARATIONS[parameter].domain, IndexUpTo)
    ]


def _printed_name(id: str) -> str:
    """A definition's name: without its subject, unless another definition or a symbol bears that name too.

    What is declared outside of this package changes no name within it.
    """
    name = id.partition(".")[2]
    others = [*(other.partition(".")[2] for other in _beside(id, DEFINITIONS) if other != id), *_beside(id, _names())]
    return id if name in others else name


def _names() -> Iterator[str]:
    return (entry.name for entry in DECLARATIONS.values())


def _beside(id: str, names: Iterable[str]) -> Iterator[str]:
    """Among names, those that an id could be mistaken for."""
    return (name for name in names if is_ours(name) or not is_ours(id))


def definition_as_dict(entry: Definition) -> dict[str, Any]:
    """Everything that the spec says of a definition: what it is, and which definitions and claims speak of it."""
    things = sorted(_declared_in(entry()) | _declared_in(entry.body), key=str)
    return {
        **_definition_as_dict(entry),
        "symbols": [symbol_as_dict(thing) for thing in things],
        "uses": [id for id in DEFINITIONS if id in _applied(entry.body)],
        "used_by": [other.id for other in DEFINITIONS.values() if entry.id in _applied(other.body)],
        "claims": [claim.id for claim in CLAIMS.values() if any(entry.id in _applied(f) for f in _stated(claim))],
    }


def _stated(claim: Claim) -> list[sp.Basic]:
    """The statements of a claim and what they assume."""
    return [formula for part in claim.parts for formula in (part.statement, *part.assuming)]


def _definition_as_dict(entry: Definition) -> dict[str, Any]:
    return {
        "id": entry.id,
        "text": entry.text,
        "statement": f"{unicode(entry())} = {unicode(entry.body)}",
        "latex": defined(entry),
        "plain": plain(defined(entry)),
        "convention": entry.convention,
        "source": str(entry.source),
    }


def _wrong_as_dict(variant: Wrong) -> dict[str, Any]:
    return {
        "text": variant.text,
        "statement": unicode(variant.statement),
        "latex": latex_assuming(variant.statement, variant.assuming),
        "plain": plain(latex_assuming(variant.statement, variant.assuming)),
        "assuming": [unicode(condition) for condition in variant.assuming],
    }


def _part_as_dict(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "statement": unicode(part.statement),
        "latex": latex_assuming(part.statement, part.assuming),
        "plain": plain(latex_assuming(part.statement, part.assuming)),
        "statement_latex": latex(part.statement),
        "assuming": [unicode(condition) for condition in part.assuming],
        "assuming_latex": [inline(condition) for condition in part.assuming],
        "rule": part.by.describe(),
        "steps": [
            {
                "expression": unicode(link.expr),
                "latex": latex(link.expr),
                "plain": plain_text(link.expr),
                "rule": link.by.describe(),
            }
            for link in part.by.steps()
        ],
    }


class _Unicode(StrPrinter):
    """Sums and products with their ranges, derivatives as ∂, definitions by the last words of their id."""

    printmethod = "_unicode"

    def parenthesize(self, item: Any, level: int, strict: bool = False) -> str:
        if isinstance(item, Diff | OneSided | At):  # they reach over all that follows
            return f"({self._print(item)})"
        return super().parenthesize(item, level, strict)

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return _GREEK.get(expr.name, expr.name)

    def _print_IndexedBase(self, expr: sp.IndexedBase) -> str:
        return self._print(expr.label)

    def _print_Indexed(self, expr: sp.Indexed) -> str:
        return f"{self._print(expr.base)}[{', '.join(self._print(i) for i in expr.indices)}]"

    def _print_Sum(self, expr: sp.Sum) -> str:
        return self._quantified("Σ", expr)

    def _print_Product(self, expr: sp.Product) -> str:
        return self._quantified("Π", expr)

    def _quantified(self, sign: str, expr: Any) -> str:
        ranges = "".join(f"{sign}_{{{self._print(b)}≤{self._print(high)}}} " for b, _, high in reversed(expr.limits))
        return f"({ranges}{self._print(expr.function)})"

    def _print_KroneckerDelta(self, expr: sp.KroneckerDelta) -> str:
        return f"δ({', '.join(self._print(i) for i in expr.args)})"

    def _print_Diff(self, expr: Diff) -> str:
        return f"∂/∂{self._print(expr.variable)} {self._bracketed(expr.expr)}"

    def _print_OneSided(self, expr: OneSided) -> str:
        side = "⁺" if expr.side > 0 else "⁻"
        return f"∂{side}/∂{self._print(expr.variable)} {self._bracketed(expr.expr)} at {self._print(expr.point)}"

    def _print_At(self, expr: At) -> str:
        return f"{self._bracketed(expr.expr)} at {self._print(expr.replaced)} := {self._print(expr.value)}"

    def _print_Lambda(self, expr: sp.Lambda) -> str:
        names = ", ".join(self._print(s) for s in expr.signature)
        return f"{names if len(expr.signature) == 1 else f'({names})'} ↦ {self._print(expr.expr)}"

    def _print_Apply(self, expr: Apply) -> str:
        shown = [
            self._print(argument) if position == place or argument == parameter else self._named(parameter, argument)
            for place, (position, parameter, argument) in enumerate(_shown_arguments(expr))
        ]
        name = _printed_name(expr.definition.id)
        return f"{name}({', '.join(shown)})" if shown else name

    def _named(self, parameter: Any, argument: Any) -> str:
        name = DECLARATIONS[parameter].name
        return f"{_GREEK.get(name, name)}={self._print(argument)}"

    def _bracketed(self, expr: Any) -> str:
        text = self._print(expr)
        return text if isinstance(expr, Apply | sp.Symbol | sp.Indexed) else f"({text})"

    def _print_Relational(self, expr: Any) -> str:
        sign = {"==": "=", "!=": "≠", "<=": "≤", ">=": "≥"}.get(expr.rel_op, expr.rel_op)
        return f"{self._print(expr.lhs)} {sign} {self._print(expr.rhs)}"

    def _print_And(self, expr: Any) -> str:
        return "(" + " and ".join(self._print(arg) for arg in expr.args) + ")"

    def _print_Or(self, expr: Any) -> str:
        return "(" + " or ".join(self._print(arg) for arg in expr.args) + ")"

    def _print_Implies(self, expr: Any) -> str:
        return f"{self._print(expr.args[0])} ⇒ {self._print(expr.args[1])}"

    def _print_Equivalent(self, expr: Any) -> str:
        return f"{self._print(expr.args[0])} ⇔ {self._print(expr.args[1])}"

    def _print_Piecewise(self, expr: sp.Piecewise) -> str:
        branches = [
            f"{self._print(value)} {'else' if condition == sp.true else 'if ' + self._print(condition)}"
            for value, condition in expr.args
        ]
        return "{" + "; ".join(branches) + "}"

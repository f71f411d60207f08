"""A claim becomes text: one line of Unicode for the terminal, LaTeX for a page."""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from grape_spec.language.claims import Claim, Part, Wrong
from grape_spec.language.definitions import Definition
from grape_spec.language.domains import IndexUpTo
from grape_spec.language.expressions import Apply, At, Diff, OneSided
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.language.symbols import DECLARATIONS

_GREEK = {"pi": "π", "rho": "ρ", "theta": "θ", "beta": "β", "temperature": "τ", "label_smoothing": "ε"}


def unicode(expr: Any) -> str:
    """One line of Unicode."""
    return _Unicode().doprint(expr)


def latex(expr: Any) -> str:
    """LaTeX, without the dollar signs."""
    return _Latex().doprint(expr)


def domain_text(thing: Any) -> str:
    """What was declared of a symbol, in a line: name, domain, meaning."""
    entry = DECLARATIONS[thing]
    sizes = f"[{', '.join(map(str, entry.sizes))}]" if entry.sizes else ""
    return f"{_GREEK.get(entry.name, entry.name)}{sizes}: {entry.domain.name}; {entry.text}"


def as_dict(claim: Claim) -> dict[str, Any]:
    """Everything that the spec itself says of a claim, as data for JSON or a page; nothing of evidence."""
    things = sorted({thing for part in claim.parts for thing in part.symbols}, key=str)
    return {
        "id": claim.id,
        "text": claim.text,
        "hash": claim.hash,
        "source": str(claim.source),
        "symbols": [domain_text(thing) for thing in things],
        "parts": [_part_as_dict(part) for part in claim.parts],
        "definitions": [_definition_as_dict(entry) for entry in _definitions_of(claim)],
        "wrong": [_wrong_as_dict(variant) for variant in claim.wrong],
        "uses": list(claim.uses),
        "used_by": [other.id for other in CLAIMS.values() if claim.id in other.uses],
        "lemmas": sorted({lemma for part in claim.parts for lemma in part.by.lemmas}),
    }


def _definitions_of(claim: Claim) -> list[Definition]:
    """The definitions that a claim speaks of, and those that they are built from, in the order of the registry."""
    found: set[str] = set()
    waiting: list[sp.Basic] = [part.statement for part in claim.parts]
    while waiting:
        new = {str(node.args[0]) for node in waiting.pop().atoms(Apply)} - found
        found |= new
        waiting += [DEFINITIONS[id].body for id in new]
    return [entry for id, entry in DEFINITIONS.items() if id in found]


def _definition_as_dict(entry: Definition) -> dict[str, Any]:
    return {
        "id": entry.id,
        "text": entry.text,
        "statement": f"{unicode(entry())} = {unicode(entry.body)}",
        "latex": f"{latex(entry())} = {latex(entry.body)}",
        "convention": entry.convention,
        "source": str(entry.source),
    }


def _wrong_as_dict(variant: Wrong) -> dict[str, Any]:
    return {
        "text": variant.text,
        "statement": unicode(variant.statement),
        "latex": latex(variant.statement),
        "assuming": [unicode(condition) for condition in variant.assuming],
    }


def _part_as_dict(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "statement": unicode(part.statement),
        "latex": latex(part.statement),
        "assuming": [unicode(condition) for condition in part.assuming],
        "rule": part.by.describe(),
        "steps": [
            {"expression": unicode(link.expr), "latex": latex(link.expr), "rule": link.by.describe()}
            for link in part.by.steps()
        ],
    }


class _Unicode(StrPrinter):
    """Sums and products with their ranges, derivatives as ∂, definitions by the last words of their id."""

    printmethod = "_unicode"

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
        return f"{', '.join(self._print(s) for s in expr.signature)} ↦ {self._print(expr.expr)}"

    def _print_Apply(self, expr: Apply) -> str:
        shown = [
            self._print(argument)
            for parameter, argument in zip(expr.definition.of, expr.arguments, strict=True)
            if argument != parameter or isinstance(getattr(DECLARATIONS[parameter], "domain", None), IndexUpTo)
        ]
        name = expr.definition.id.split(".", 1)[1]
        return f"{name}({', '.join(shown)})" if shown else name

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


class _Latex(LatexPrinter):
    """Symbols and definitions by their declared LaTeX, sums over their whole range."""

    def _print_Symbol(self, expr: sp.Symbol, style: str = "plain") -> str:
        entry = DECLARATIONS.get(expr)
        return entry.tex if entry else super()._print_Symbol(expr, style)

    def _print_IndexedBase(self, expr: sp.IndexedBase) -> str:
        return DECLARATIONS[expr].tex

    def _print_Indexed(self, expr: sp.Indexed) -> str:
        return f"{{{self._print(expr.base)}}}_{{{','.join(self._print(i) for i in expr.indices)}}}"

    def _print_Diff(self, expr: Diff) -> str:
        return rf"\frac{{\partial}}{{\partial {self._print(expr.variable)}}} {self._bracketed(expr.expr)}"

    def _print_OneSided(self, expr: OneSided) -> str:
        side = "+" if expr.side > 0 else "-"
        return (
            rf"\left.\frac{{\partial^{{{side}}}}}{{\partial {self._print(expr.variable)}}} "
            rf"{self._bracketed(expr.expr)}\right|_{{{self._print(expr.point)}}}"
        )

    def _print_At(self, expr: At) -> str:
        value = expr.value.expr if isinstance(expr.value, sp.Lambda) else expr.value
        return rf"\left.{self._print(expr.expr)}\right|_{{{self._print(expr.replaced)} = {self._print(value)}}}"

    def _print_Lambda(self, expr: sp.Lambda) -> str:
        return self._print(expr.expr)

    def _print_AppliedUndef(self, expr: Any) -> str:
        arguments = ",".join(self._print(arg) for arg in expr.args)
        return rf"{DECLARATIONS[expr.func].tex}\left({arguments}\right)"

    def _print_Apply(self, expr: Apply) -> str:
        definition = expr.definition
        names = {DECLARATIONS[p].name: self._print(a) for p, a in zip(definition.of, expr.arguments, strict=True)}
        if definition.tex:
            return definition.tex.format(**names)
        return rf"\mathrm{{{definition.id.split('.', 1)[1].replace('_', ' ')}}}"

    def _bracketed(self, expr: Any) -> str:
        text = self._print(expr)
        return text if isinstance(expr, Apply | sp.Symbol | sp.Indexed) else rf"\left({text}\right)"

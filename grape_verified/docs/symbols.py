"""The index of symbols: what every letter stands for, and where."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sympy as sp
from grape_spec import render
from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import Apply, bound_things, symbols_of
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.language.symbols import DECLARATIONS

from grape_verified.conformance.subjects import SUBJECTS, subject_of
from grape_verified.docs.markdown import convention_mark, link, links, page, table

#: What may stand before the letter of a name, as in \bar x, \overline{r}, \log π or (Lᵀd).
_BEFORE = re.compile(r"(?:\\(?:bar|hat|overline|log|Vert|lvert|mathcal|Sigma|binom|left)\b|[\s({\[])+")
_LETTER = re.compile(r"\\mathrm\{(?P<word>[^}]*)\}|\\(?P<greek>[A-Za-z]+)|(?P<latin>[A-Za-z])")

#: Greek letters as text.
_GREEK = {
    **{"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε", "kappa": "κ"},
    **{"lambda": "λ", "mu": "μ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "psi": "ψ", "theta": "θ"},
    **{
        "Delta": "Δ",
        "Phi": "Φ",
        "ell": "ℓ",
        "eta": "η",
        "nu": "ν",
        "xi": "ξ",
        "omega": "ω",
        "Gamma": "Γ",
        "Lambda": "Λ",
    },
}

#: The columns of the index.
HEAD = ("symbol", "name", "meaning", "domain", "where")

#: The number of claims about a definition that the index names.
SHOWN = 3

#: Quantities that are printed as words, or written out.
WITHOUT = "Without a letter"


class Meaning(NamedTuple):
    """One thing that a letter stands for, as a row of the index."""

    letter: str
    latex: str
    name: str
    domain: str
    text: str
    places: str


def letter_of(latex: str) -> str:
    """The letter that a name is made of: ℓ of \\ell_w^{\\mathrm{ref}}; WITHOUT where it has none."""
    start = _BEFORE.match(latex)
    found = _LETTER.match(latex, start.end() if start else 0)
    if found is None:
        return WITHOUT
    if found["word"]:
        return found["word"] if len(found["word"]) <= 3 and found["word"].isupper() else WITHOUT
    return found["latin"] or _GREEK.get(found["greek"], WITHOUT)


def meanings() -> Iterator[Meaning]:
    """Every declared symbol and every definition."""
    used = _subjects()
    for thing, declared in DECLARATIONS.items():
        shown = render.symbol_as_dict(thing)
        places = ", ".join(f"[{name}](../definitions/{name}.md)" for name in SUBJECTS if name in used[declared.name])
        name = f"`{shown['name']}`"
        yield Meaning(letter_of(declared.tex), declared.tex, name, shown["domain"], declared.text, places)
    about = _claims_about()
    for entry in DEFINITIONS.values():
        yield _of_definition(entry, about[entry.id])


def _of_definition(entry: Definition, about: Sequence[str]) -> Meaning:
    latex = render.latex(entry())
    places = links(about[:SHOWN]) + (f" and {len(about) - SHOWN} more" if len(about) > SHOWN else "")
    text = f"{entry.text}{convention_mark(entry.convention)}"
    return Meaning(letter_of(latex), latex, link(entry.id), entry.domain.name, text, places)


def _stated() -> Iterator[tuple[str, sp.Basic]]:
    """The formulas of all definitions and claims, each with its id."""
    for entry in DEFINITIONS.values():
        yield from ((entry.id, formula) for formula in (entry(), entry.body))
    for claim in CLAIMS.values():
        given = [(stated.statement, *stated.assuming) for stated in claim.parts]
        given += [(stated.statement, *stated.assuming) for stated in claim.wrong]
        yield from ((claim.id, formula) for formulas in given for formula in formulas)


def _subjects() -> dict[str, set[str]]:
    """The subjects whose definitions or claims have a symbol, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for id, formula in _stated():
        bound = (symbols_of(thing) for node in sp.preorder_traversal(formula) for thing in bound_things(node))
        for thing in symbols_of(formula).union(*bound) & set(DECLARATIONS):
            found[DECLARATIONS[thing].name].add(subject_of(id))
    return found


def _claims_about() -> dict[str, list[str]]:
    """The claims that speak of a definition, by its id."""
    found: dict[str, list[str]] = defaultdict(list)
    for claim in CLAIMS.values():
        for id in sorted({str(node.args[0]) for part in claim.parts for node in part.statement.atoms(Apply)}):
            found[id].append(claim.id)
    return found


def index_page() -> str:
    """All letters, each with all that it stands for."""
    by_letter: dict[str, list[Meaning]] = defaultdict(list)
    for meaning in meanings():
        by_letter[meaning.letter].append(meaning)
    sections = [
        "# Index of symbols",
        "What every letter stands for, in the definitions and claims of this site. Letters are few, so most have "
        "several meanings; the table of symbols on the page of a claim gives the one used there. Linked names are "
        "definitions, all others symbols. [Notation](../notation.md) explains how formulas are written.",
    ]
    for letter in sorted(by_letter, key=_order):
        rows = [(f"${m.latex}$", m.name, m.text, m.domain, m.places) for m in by_letter[letter]]
        sections += [
            f"## {letter} {{ #{_anchor(letter)} }}",
            table(("symbol", "name", "meaning", "domain", "where"), rows),
        ]
    return page("Index of symbols", "What every letter stands for, and where", sections)


def _order(letter: str) -> tuple[int, str, str]:
    kind = 3 if letter == WITHOUT else 0 if letter.isascii() and len(letter) == 1 else 1 if len(letter) == 1 else 2
    return kind, letter.casefold(), letter


def _anchor(letter: str) -> str:
    words = letter if len(letter) > 1 else unicodedata.name(letter)
    return words.casefold().replace(" ", "-")

"""Citations: the works that the spec draws on, and claims and definitions themselves, as BibTeX."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from grape_spec.language.claims import Claim
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import RegistryError
from grape_spec.language.sources import Source

#: The year of the release, as in ``CITATION.cff``.
YEAR = 2026

#: An entry ends with a brace on a line of its own, before the next one begins.
_ENTRY = re.compile(r"^@\w+\{([^,]+),(?:(?!^@).)*?^\}$", re.MULTILINE | re.DOTALL)

#: A field of an entry on its line.
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)

#: The bibliographies from outside, by their files.
_OUTSIDE: dict[Path, str] = {}

#: Signs that are mathematics wherever they stand, and the LaTeX of them.
_MATHEMATICS = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon", "λ": r"\lambda", "π": r"\pi",
    "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "θ": r"\theta", "ζ": r"\zeta", "η": r"\eta", "ι": r"\iota",
    "κ": r"\kappa", "μ": r"\mu", "ν": r"\nu", "ξ": r"\xi", "φ": r"\varphi", "χ": r"\chi", "ψ": r"\psi",
    "ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta", "Λ": r"\Lambda", "Ξ": r"\Xi", "Φ": r"\Phi",
    "Ψ": r"\Psi", "Ω": r"\Omega", "ℓ": r"\ell", "Σ": r"\sum", "Π": r"\prod", "√": r"\surd",
    "−": "-", "·": r"\cdot", "×": r"\times", "±": r"\pm", "‖": r"\Vert", "½": r"\frac{1}{2}", "∞": r"\infty",
    "∂": r"\partial", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "→": r"\to", "′": r"'", "″": r"''", "₀": "_{0}",
    "…": r"\dots", "<": "<", ">": ">", "|": r"\mid", "*": r"^{*}",
}  # fmt: skip

_RAISED = str.maketrans({"⁻": "-", "⁺": "+", "¹": "1", "²": "2", "³": "3", "ⁿ": "n", "ᵀ": r"\top"})
_ESCAPED = {c: "\\" + c for c in "#$%&_{}"} | {"~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}

#: An index after a single letter, an exponent, what is written raised, and any other sign that is not plain text.
_SPECIAL = re.compile(
    r"(?<![^\W\d_]{2})(?<=[^\W\d_])_(?:\{(?P<indices>[^{}]*)\}|(?P<index>[^\W_]+))"
    r"|\^(?:\((?P<exponents>(?:[^()]|\([^()]*\))*)\)|(?P<exponent>\w))"
    r"|(?P<raised>[⁻⁺¹²³ⁿᵀ]+)"
    r"|(?P<sign>[^\w\s.,:;()'\-/+=!?\[\]\"]|[^\x00-\x7f]|_)"
)


def works() -> dict[str, str]:
    """Every entry of ``references.bib`` by its key, and those of bibliographies from outside."""
    texts = [files("grape_spec").joinpath("references.bib").read_text(encoding="utf-8"), *_OUTSIDE.values()]
    return {match.group(1): match.group(0) for text in texts for match in _ENTRY.finditer(text)}


def add_bibliography(file: Path) -> None:
    """Add the entries of a file from outside.

    Raises: RegistryError for a key that is that of another work.
    """
    text, known = file.read_text(encoding="utf-8"), works()
    for entry in _ENTRY.finditer(text):
        if known.get(entry.group(1), entry.group(0)) != entry.group(0):
            raise RegistryError(f"{file.name}: the key {entry.group(1)!r} is that of another work: take another key")
    _OUTSIDE[file] = text


def work(key: str) -> dict[str, str]:
    """The fields of a work, without braces; none for what is worked out here."""
    return {name: re.sub(r"[{}]", "", value) for name, value in _FIELD.findall(works().get(key, ""))}


def plain(source: Source) -> str:
    """A source in words: authors, year, title, where it appeared, the place in it, and whether that was compared."""
    fields = work(source.key)
    if not fields:
        return "Worked out here, from the definitions alone."
    where = [fields[name] for name in ("journal", "booktitle", "publisher", "note") if name in fields]
    place = f", {source.place}" if source.place else ""
    compared = "" if source.checked else " (not checked against the source)"
    return f"{_authors(fields['author'])} ({fields['year']}), {'. '.join([fields['title'], *where])}{place}{compared}."


def _authors(text: str) -> str:
    """Family names, at most three of them."""
    names = [name.partition(",")[0] for name in text.split(" and ")]
    if len(names) > 3 or names[-1] == "others":
        return f"{names[0]} et al."
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def bibtex(entry: Claim | Definition, version: str, address: str = "", *, module: str = "") -> str:
    """BibTeX for a claim or definition of this spec, followed by the entry of the work that it comes from.

    With the address of its page, where one is known; for an entry from outside, with the module that it is from. The
    second pair of braces about the title keeps styles from changing its letters to lower case.
    """
    kind = "claim" if isinstance(entry, Claim) else "definition"
    place = rf"{kind} \texttt{{{_escaped(entry.id)}}}"
    fields = {
        "author": f"{{{_escaped(module or 'grape_verified')} contributors}}",
        "title": f"{{{tex(entry.text.rstrip('.'))}}}",
        "howpublished": rf"grape\_verified {version}, {place}",
        "year": str(YEAR),
    }
    if module:
        fields["howpublished"] = rf"\texttt{{{_escaped(module)}}}, {place}, checked with grape\_verified {version}"
        del fields["year"]
    if isinstance(entry, Claim):
        fields["note"] = f"SHA-256 of the statement: {entry.hash}"
    if address:
        fields["url"] = address
    lines = ",\n".join(f"  {name:<12} = {{{value}}}" for name, value in fields.items())
    own = f"@misc{{{module or 'grape_verified'}:{entry.id},\n{lines}\n}}"
    source = works().get(entry.source.key)
    return f"{own}\n\n{source}" if source else own


def _escaped(name: str) -> str:
    return name.replace("_", r"\_")


def tex(text: str) -> str:
    """A sentence as LaTeX in ASCII: mathematics between dollar signs, and what LaTeX reads as its own escaped."""
    return re.sub(r"(?<!\\)\$\$", "", _SPECIAL.sub(_as_latex, text))


def _as_latex(found: re.Match[str]) -> str:
    index, word, exponent = found["indices"], found["index"], found["exponents"] or found["exponent"]
    if index or word:
        return f"$_{{{_signs(index) if index else _word(word)}}}$"
    if exponent:
        return f"$^{{{_signs(exponent)}}}$"
    if found["raised"]:
        return f"$^{{{found['raised'].translate(_RAISED)}}}$"
    sign = found["sign"]
    return f"${_MATHEMATICS[sign]}$" if sign in _MATHEMATICS else _ESCAPED.get(sign, sign)


def _signs(text: str) -> str:
    """What stands in an index or exponent; a command ends before the letter that follows it."""
    signs = (_MATHEMATICS.get(sign, sign) for sign in text)
    return "".join(f"{sign} " if sign[1:].isalpha() else sign for sign in signs).strip()


def _word(text: str) -> str:
    return text if len(text) == 1 else rf"\mathrm{{{text}}}"

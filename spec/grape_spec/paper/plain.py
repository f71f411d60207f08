"""A formula as lines of Unicode for the terminal, from the LaTeX that a page has."""

from __future__ import annotations

import re
from collections.abc import Callable

from grape_spec.paper.texts import within_brackets

_SIGN = re.compile(r"\\[A-Za-z]+|\\.|\\\\|[{}^_&]|\s+|[^\\{}^_&\s]")

_NAMES = {
    r"\alpha": "α", r"\beta": "β", r"\gamma": "γ", r"\delta": "δ", r"\epsilon": "ϵ", r"\varepsilon": "ε", r"\eta": "η",
    r"\theta": "θ", r"\kappa": "κ", r"\lambda": "λ", r"\mu": "μ", r"\pi": "π", r"\rho": "ρ", r"\sigma": "σ",
    r"\tau": "τ", r"\phi": "φ", r"\psi": "ψ", r"\omega": "ω", r"\Phi": "Φ", r"\Sigma": "Σ", r"\Delta": "Δ",
    r"\ell": "ℓ", r"\sum": "Σ", r"\prod": "Π", r"\partial": "∂", r"\nabla": "∇", r"\le": "≤", r"\ge": "≥",
    r"\ne": "≠", r"\implies": "⇒", r"\iff": "⇔", r"\mapsto": "↦", r"\cdot": "·", r"\Vert": "‖", r"\top": "⊤",
    r"\log": "log", r"\exp": "exp", r"\min": "min", r"\max": "max", r"\,": " ", r"\ ": " ", r"\quad": "\t",
    r"\nu": "ν", r"\xi": "ξ", r"\Gamma": "Γ", r"\Lambda": "Λ", r"\lvert": "|", r"\rvert": "|",
    r"\neg": "¬", r"\left": "", r"\right": "", r"\Bigl": "", r"\Bigr": "", r"\Biggl": "", r"\Biggr": "", r"\!": "",
    r"\pm": "±", r"\chi": "χ", r"\Pi": "Π",
}  # fmt: skip
_UPPER = dict(zip("0123456789+-nkKTNi", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵏᴷᵀᴺⁱ", strict=True))
_LOWER = dict(zip("0123456789aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
_MARKS = {r"\bar": "\u0304", r"\overline": "\u0304", r"\hat": "\u0302", r"\tilde": "\u0303"}
#: What may follow a fraction without joining what is below its line.
_AFTER_A_FRACTION = {
    "", "}", ")", "+", "-", "=", ",", "&", "<", ">", "\u200b", r"\\", r"\right", r"\le", r"\ge", r"\ne", r"\implies",
    r"\iff", r"\end",
}  # fmt: skip
_BREAK = re.compile(r"\\\\\[\dpt\]")


def plain(tex: str) -> str:
    """The lines of a formula, its parts below it indented."""
    lines = [_Plain(line).all() for line in _BREAK.split(_without_blocks(tex))]
    return "\n".join(line for line in lines if line)


def _without_blocks(tex: str) -> str:
    return re.sub(r"\\(begin|end)\{aligned\}", "", tex)


class _Plain:
    """Reads signs from left to right."""

    def __init__(self, tex: str) -> None:
        tex = tex.replace(r"\left.", "").replace(r"\right|", "|")
        self.signs = _SIGN.findall(re.sub(r"\\(?:text|mathrm|mathcal|operatorname)\{([^{}]*)\}", _as_word, tex))
        self.place = 0

    def all(self) -> str:
        text = self.until(lambda sign: False).replace("\u200b", " ")
        text = re.sub(r" +", " ", text).replace("( ", "(").replace(" )", ")").replace("∂ ", "∂")
        return text.strip(" ").replace("\t ", "\t").replace("\t", "    ").rstrip()

    def until(self, ends: Callable[[str], bool]) -> str:
        text = ""
        while self.place < len(self.signs) and not ends(self.signs[self.place]):
            text += self.one()
        return text

    def one(self) -> str:
        sign = self.signs[self.place]
        self.place += 1
        if sign == "{":
            return self.group()
        if sign in "^_":
            return self.script(sign)
        if sign == r"\frac":
            return self.fraction()
        if sign == r"\log" and r"\frac" in self.signs[self.place : self.place + 2]:
            return f"log{_bracketed(self.argument())}"
        if sign == r"\binom":
            return f"binom({self.argument()}, {self.argument()})"
        if sign == r"\sqrt":
            return f"√{_tight(self.argument())}"
        if sign in _MARKS:
            return self.marked(_MARKS[sign])
        if sign in (r"\begin", r"\end"):
            return self.environment(sign)
        if sign == r"\\":
            return "; "
        if sign == "&":
            return ""
        return _NAMES.get(sign, " " if sign.isspace() else sign)

    def fraction(self) -> str:
        above, below = self.argument().strip(), self.argument().strip()
        operator = re.fullmatch(r"∂[⁺⁻⁰-⁹²³]*", above)
        text = f"{above}/{below}" if above.startswith("∂") else f"{_tight(above)}/{_tight(below)}"
        after = next((sign for sign in self.signs[self.place :] if not sign.isspace()), "")
        return text if operator or after in _AFTER_A_FRACTION else f"({text})"

    def group(self) -> str:
        text = self.until(lambda sign: sign == "}")
        self.place += 1
        return text

    def argument(self) -> str:
        while self.signs[self.place].isspace():
            self.place += 1
        return self.one()

    def script(self, sign: str) -> str:
        text, table = self.argument(), _UPPER if sign == "^" else _LOWER
        if text and all(letter in table for letter in text):
            return "".join(table[letter] for letter in text)
        return f"{sign}{text}" if len(text) == 1 or text.isalpha() else f"{sign}{{{text}}}"

    def marked(self, mark: str) -> str:
        text = self.argument()
        return text + mark if len(text) == 1 else f"mean({text})" if mark == _MARKS[r"\overline"] else f"({text}){mark}"

    def environment(self, sign: str) -> str:
        self.argument()
        return "{ " if sign == r"\begin" else " }"


def _bracketed(text: str) -> str:
    """In brackets, if it is not in brackets as a whole already."""
    return text if within_brackets(text) is not None else f"({text})"


def _as_word(found: re.Match[str]) -> str:
    return found[1].replace(" ", "\u200b").replace("\\\u200b", "\u200b")


def _tight(text: str) -> str:
    """What stands above or below a line, or under a root, in brackets if it is more than one sign."""
    text = text.strip()
    one = re.fullmatch(r"[\w'̂̃̄‖⊤]+(?:[_^]\{[^{}]*\})?(?:\([^()]*\))?", text)
    return text if one else f"({text})"

"""How declared symbols and definitions are written: patterns of signs with places for indices and arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.core.function import UndefinedFunction

from grape_spec.language.definitions import IN_TEMPLATE, Definition
from grape_spec.language.expressions import substitute
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.paper.cursor import Unreadable
from grape_spec.paper.printer import PARAMETER
from grape_spec.paper.texts import subscripted

if TYPE_CHECKING:
    from grape_spec.paper.reader import Reader


_SIGN = re.compile(r"\\[A-Za-z]+|\\.|\d+|:=|\S")
_SPACES = {
    r"\begin{aligned}", r"\end{aligned}", "&", r"\left", r"\right", r"\Bigl", r"\Bigr", r"\Biggl", r"\Biggr", r"\ ",
    r"\quad",
}  # fmt: skip


def signs(tex: str) -> list[str]:
    """The signs of LaTeX, without spaces; words within ``\\text`` and ``\\mathrm`` stay as they are."""
    found: list[str] = []
    tex = re.sub(r"\\\\\[\w+\]", "", tex)  # breaks of lines; a row of cases ends without a length
    tex = tex.replace(r"\left.", r"\at ").replace(r"\left|", r"\abs ").replace(r"\right|", r"\endbar ")
    for match in re.finditer(r"\\(?:text|mathrm|operatorname|begin|end)\{[^{}]*\}|" + _SIGN.pattern, tex):
        sign = match[0]
        if found and found[-1] in _TAKE_ONE and sign != "{":  # x^2 is set as x^{2} is
            found += ["{", sign, "}"] if not sign.isdigit() else ["{", sign[0], "}", *([sign[1:]] if sign[1:] else [])]
        elif sign not in _SPACES:
            found.append(sign)
    return found


#: What takes the next sign if there are no braces.
_TAKE_ONE = {"^", "_", r"\bar", r"\hat", r"\tilde", r"\overline"}

_CLOSING = {
    "(": ")", "{": "}", r"\left(": r"\right)", r"\left[": r"\right]", r"\left.": r"\right|", r"\left|": r"\right|",
    r"\Bigl(": r"\Bigr)", r"\Biggl(": r"\Biggr)",
    r"\lvert": r"\rvert", r"\begin{aligned}": r"\end{aligned}", r"\begin{cases}": r"\end{cases}",
}  # fmt: skip
_BRACKET = re.compile(r"\\(?:left|right|Bigg?l|Bigg?r) ?[()\[\].|]|\\(?:begin|end)\{\w+\}|\\[lr]vert|[(){}]")


def refuse_unbalanced(tex: str) -> None:
    """Refuse LaTeX in which a bracket is closed by one of another kind or size, or not at all."""
    waiting: list[str] = []
    for bracket in _BRACKET.findall(tex):
        if closing := _CLOSING.get(bracket):
            waiting.append(closing)
        elif not waiting or waiting.pop() != bracket:
            raise Unreadable(f"{bracket} closes nothing")
    if waiting:
        raise Unreadable(f"{waiting[-1]} is missing")


@dataclass(frozen=True)
class Hole:
    """A place in a pattern: an index, a number, or a family of them, named after what is put in."""

    name: str
    many: bool = False


_Make = Callable[[dict[str, Any], "Reader"], Any]


@dataclass(frozen=True)
class Pattern:
    """A symbol as it is printed, and what it makes of what stands in its places."""

    signs: tuple[str | Hole, ...]
    make: _Make
    families: dict[str, Any] = field(default_factory=dict)
    vector: bool = False

    @property
    def length(self) -> int:
        """How many signs are fixed: the longest pattern is tried first."""
        return sum(isinstance(sign, str) for sign in self.signs)


def of_symbol(thing: Any) -> Iterable[Pattern]:
    """How a declared symbol, family or function is written."""
    entry = DECLARATIONS[thing]
    if isinstance(thing, sp.IndexedBase):
        yield _with_indices(entry.tex, len(entry.sizes), lambda indices: thing[tuple(indices)])
        for given in range(len(entry.sizes)):
            yield _shortened(thing, entry, given)
    elif isinstance(thing, UndefinedFunction):
        yield from _of_function(thing, entry.tex)
    else:
        yield Pattern(tuple(signs(entry.tex)), lambda values, reader: thing)


def _of_function(thing: Any, tex: str) -> Iterable[Pattern]:
    plain = tuple(signs(tex))

    def at(arguments: list[Any], reader: Reader) -> Any:
        return thing(*arguments, *((PARAMETER,) if thing in reader.of_parameters else ()))

    yield Pattern((*plain, "(", Hole("indices", many=True), ")"), lambda values, reader: at(values["indices"], reader))
    found = [Hole("indices", many=True) if sign == _MARK else sign for sign in signs(subscripted(tex, _MARK))]
    yield Pattern(tuple(found), lambda values, reader: at(values["indices"], reader))
    yield Pattern(plain, lambda values, reader: at([], reader))


_MARK = "§"


def _with_indices(tex: str, count: int | None, make: Callable[[list[Any]], Any]) -> Pattern:
    def made(values: dict[str, Any], reader: Reader) -> Any:
        indices = values["indices"]
        if count is not None and len(indices) != count:
            raise Unreadable(f"got {len(indices)} indices, expected {count}")
        return make(indices)

    found = [Hole("indices", many=True) if sign == _MARK else sign for sign in signs(subscripted(tex, _MARK))]
    return Pattern(tuple(found), made)


def _shortened(thing: Any, entry: Any, given: int) -> Pattern:
    """A family with its first indices only, as it stands for a whole row."""

    def made(values: dict[str, Any], reader: Reader) -> Any:
        indices = list(values.get("indices", []))
        if len(indices) != given:
            raise Unreadable(f"got {len(indices)} indices, expected {given}")
        left = list(reader.dummies)
        for size in entry.sizes[given:]:
            fitting = next((dummy for dummy in left if reader.axes[dummy] == size), left[0] if left else None)
            if fitting is None:
                raise Unreadable(f"{entry.name}: an index is missing")
            left.remove(fitting)
            indices.append(fitting)
        return thing[tuple(indices)]

    tex = subscripted(entry.tex, _MARK) if given else entry.tex
    found = [Hole("indices", many=True) if sign == _MARK else sign for sign in signs(tex)]
    return Pattern(tuple(found), made, {"itself": thing}, vector=True)


def of_local(glyph: str, body: str) -> tuple[Pattern, Pattern]:
    """A symbol that is explained below the formula; in a family it may stand without its last index."""

    def whole(values: dict[str, Any], reader: Reader) -> Any:
        reader.used.add(glyph)
        return reader.whole(body)

    plain = Pattern(tuple(signs(glyph)), whole)
    found = re.fullmatch(r"(.*)_\{(\\?\w+'*)\}", glyph)
    if found is None:
        return plain, plain

    def of_a_row(values: dict[str, Any], reader: Reader) -> Any:
        reader.used.add(glyph)
        index = reader.elsewhere(signs(found[2]), reader.primary)
        return substitute(reader.whole(body), {index: reader.dummies[0]})

    return plain, Pattern(tuple(signs(found[1])), of_a_row, vector=True)


def of_definition(entry: Definition) -> Iterable[Pattern]:
    """How an applied definition is written: as its template, and with hidden arguments in square brackets after it."""
    names = {DECLARATIONS[p].name: p for p in entry.of}
    for template, rest in _readings(entry.tex):
        found = _template_signs(template)
        holes = [names[hole.name] for hole in found if isinstance(hole, Hole)]
        families = {DECLARATIONS[thing].name: thing for thing in holes if isinstance(thing, sp.IndexedBase)}
        yield Pattern(tuple(found), _applied(entry, rest), families)
        index = re.search(r"_\{\{\{(\w+)\}\}\}", template)
        if index and f"{{{index[1]}}}" not in template.replace(index[0], ""):
            found = _template_signs(template.replace(index[0], ""))
            yield Pattern(tuple(found), _applied(entry, rest, index[1]), families, vector=True)


def _readings(template: str) -> Iterable[tuple[str, tuple[str, str] | None]]:
    """A template; one that is an entry of a family less something gives that something."""
    found = re.fullmatch(r"\(\{(\w+)\}_\{\{\{(\w+)\}\}\} - (.*)\)", template)
    if found:
        yield found[3], (found[1], found[2])
    else:
        yield (template[1:-1] if template.startswith("(") and template.endswith(")") else template), None


def _template_signs(template: str) -> list[str | Hole]:
    """The signs of a template, with a hole for each argument."""
    names: list[str] = []

    def marked(match: re.Match[str]) -> str:
        if match["family"]:
            raise TypeError(f"{template}: an entry of a family may only stand first")
        if not match["name"]:
            return match[0][0]
        names.append(match["name"])
        return _MARK

    found = signs(IN_TEMPLATE.sub(marked, template))
    left = iter(names)
    return [Hole(next(left)) if sign == _MARK else sign for sign in found]


def _applied(entry: Definition, rest: tuple[str, str] | None, dropped: str = "") -> _Make:
    def make(values: dict[str, Any], reader: Reader) -> Any:
        if dropped:
            values = {**values, dropped: reader.dummies[0]}
        if reader.peek() == "[":
            values = {**values, **_hidden(entry, reader)}
        if rest is None:
            return entry(**values)
        family, index = rest
        base = values[family]
        at = values.get(index) if index in values else None
        if at is None:
            raise Unreadable(f"{entry.id}: no index")
        own = substitute(base.expr, {base.signature[0]: at}) if isinstance(base, sp.Lambda) else base[at]
        return own - entry(**values)

    return make


def _hidden(entry: Definition, reader: Reader) -> dict[str, Any]:
    """What stands in square brackets after a definition: values of arguments that its symbol does not show."""
    found = {}
    reader.take("[")
    while True:
        end = reader.signs.index(":=", reader.place)
        glyph = reader.signs[reader.place : end]
        thing = next((p for p in entry.of if signs(DECLARATIONS[p].tex) == glyph), None)
        if thing is None:
            raise Unreadable(f"{entry.id} has no argument {' '.join(glyph)}")
        reader.place = end + 1
        name = DECLARATIONS[thing].name
        found[name] = reader.family_of(thing) if isinstance(thing, sp.IndexedBase) else reader.sum()
        if reader.take(",", "]") == "]":
            return found

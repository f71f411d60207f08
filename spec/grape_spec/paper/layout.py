"""A formula on a page: in one line if it fits, else broken where the field breaks, with what it needs said below it.

Lines are broken before a relation, before a plus or minus, and after the bracket that a long factor opens. What is
still too wide, or repeated, gets a letter that is explained below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.relational import Relational

from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import Apply, bound_things, equals
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.paper.order import terms_in_order
from grape_spec.paper.printer import Printer
from grape_spec.paper.texts import BIG, CASES_END, bracketed, spelled
from grape_spec.paper.widths import width

#: The width of a column in em.
COLUMN = 31.0

#: Narrower pieces get no letter.
SHORTEST = 4.0

_NAMEABLE = (sp.Add, sp.Mul, sp.Pow, sp.exp, sp.Abs, sp.Sum, sp.Min, sp.Max)

#: Between two statements.
NEXT = r" \\[6pt] "

#: The end of a line that is broken for its width, as opposed to a row of cases.
BREAK = r" \\[2pt] "


def displayed(expr: Any, assuming: Iterable[Any] = ()) -> str:
    """A statement or expression on lines of its own, with what stands below it and what it assumes."""
    return _displayed(expr, tuple(assuming))


@lru_cache(maxsize=1 << 14)  # a page, a snippet, the data and the button to copy show the same formula
def _displayed(expr: Any, assuming: tuple[Any, ...]) -> str:
    (text,), below = together([_said_once(expr)])
    lines = [text, *below, *_conditions(assuming)]
    if len(lines) == 1:
        return text
    return rf"\begin{{aligned}} {BREAK.join('& ' + line for line in lines)} \end{{aligned}}"


def _said_once(expr: Any) -> Any:
    """A relation in which a side that would be a letter, explained below, is what the letter stands for.

    A quantity that is compared with itself at other arguments, or with another letter, keeps its own.
    """
    if not isinstance(expr, Relational):
        return expr
    printer = Printer(expr)
    printer.text(expr)
    explained = [side for side in expr.args if side in printer.glyphs]
    if len(explained) != 1:
        return expr
    (letter,) = explained
    if any(node.definition is letter.definition for node in expr.atoms(Apply) - {letter}):
        return expr
    return expr.func(*(side.unfold() if side == letter else side for side in expr.args), evaluate=False)


def together(exprs: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Formulas that stand below one another, as the lines of a derivation do, and what is said once below them all.

    Their lines fit the column if that can be done: pieces get letters until they do.
    """
    printer = Printer(sp.Tuple(*exprs))
    while True:
        printer.used, printer.said = set(), set()
        texts = [_aligned(list(_lines(printer, expr))) for expr in exprs]
        below = list(_below(printer))
        bodies = [printer.bodies[glyph] for glyph in printer.used if glyph in printer.glyphs.values()]
        pieces = [piece for body in (*((expr, ()) for expr in exprs), *bodies) for piece in _pieces(*body, printer)]
        if max(map(width, (*texts, *below))) <= COLUMN or not printer.name_one(pieces):
            return texts, below


def _conditions(assuming: Iterable[Any]) -> Iterator[str]:
    """What is assumed, in lines that fit."""
    lines: list[str] = []
    for text in map(inline, assuming):
        if lines and width(lines[-1] + text) <= COLUMN:
            lines[-1] += rf",\ {text}"
        else:
            lines.append(text)
    for position, line in enumerate(lines):
        comma = "," if position < len(lines) - 1 else ""
        yield (r"\quad " if position else r"\text{assuming } ") + line + comma


def statements_of(entry: Definition) -> list[sp.Basic]:
    """What a definition says: an equation, or one for the first depth and one for the next.

    A definition without a symbol of its own is its body. One that is written as its body is has that body written out.
    """
    recursion = entry.recursion
    if recursion is None:
        if not entry.tex:
            return [entry.body]
        alike = inline(entry()) == inline(entry.body)
        return [equals(entry(), _written_out(entry.body) if alike else entry.body)]
    over = DECLARATIONS[recursion.over].name
    first = equals(entry(**{over: recursion.lowest}), recursion.first)
    return [first, equals(entry(**{over: recursion.over + 1}), recursion.step)]


def _written_out(expr: sp.Expr) -> sp.Expr:
    """An expression whose definitions are replaced by their bodies, but not what these bodies speak of."""
    return expr.xreplace({node: node.unfold() for node in expr.atoms(Apply)})


def defined(entry: Definition) -> str:
    """A definition on lines of its own."""
    texts = [displayed(statement) for statement in statements_of(entry)]
    if not entry.tex:
        texts = [f"{spelled(entry.id)} = {texts[0]}"]
    if len(texts) == 1:
        return texts[0]
    return rf"\begin{{aligned}} & {NEXT.join('& ' + text for text in texts)[2:]} \end{{aligned}}"


@lru_cache(maxsize=1 << 14)
def inline(expr: Any) -> str:
    """A formula within a sentence: what would be said below it is written out."""
    return Printer(expr, alone=False).text(expr).tex


def _below(printer: Printer) -> Iterator[str]:
    """What the symbols that were used stand for, and which values some have throughout."""
    word = r"\text{where } "
    done: set[str] = set()
    while left := [glyph for glyph in printer.bodies if glyph in printer.used - done]:
        done.add(left[0])
        yield f"{word}{left[0]} = {_body(printer, left[0])}"
        word = r"\text{and } "
    if given := printer.given_tex():
        yield r"\text{with } " + r",\ ".join(f"{glyph} = {value}" for glyph, value in given.items())


def _body(printer: Printer, glyph: str) -> str:
    body, bound = printer.bodies[glyph]
    letter = printer.named.pop(body, None)
    printer.bound = list(bound)
    lines = broken(printer, body, COLUMN - width(glyph) - 4)
    printer.bound = []
    if letter:
        printer.named[body] = letter
    return block(lines)


def block(lines: list[str]) -> str:
    """Lines below one another, as one formula."""
    if len(lines) == 1:
        return lines[0]
    return rf"\begin{{aligned}} {BREAK.join('& ' + line for line in lines)} \end{{aligned}}"


def _aligned(lines: list[str]) -> str:
    if len(lines) == 1:
        return lines[0].removeprefix("& ")
    return rf"\begin{{aligned}} {BREAK.join(lines)} \end{{aligned}}"


def _lines(printer: Printer, expr: Any) -> Iterator[str]:
    """The lines of a statement, with & where they are aligned."""
    whole = printer.text(expr).tex
    if width(whole) <= COLUMN:
        yield whole  # without a mark of alignment: the marks in it are those of cases
    elif isinstance(expr, Relational):
        yield from _relation(printer, expr)
    elif isinstance(expr, sp.Or | sp.And):
        yield from _alternatives(printer, expr)
    elif isinstance(expr, sp.Implies | sp.Equivalent):
        sign = r"\implies" if isinstance(expr, sp.Implies) else r"\iff"
        left, right = printer.sides(expr)
        yield f"& {left}"
        yield rf"& {sign} {right}"
    else:
        yield from (f"& {line}" for line in broken(printer, expr, COLUMN))


def _relation(printer: Printer, expr: Relational) -> Iterator[str]:
    sign = printer.sign(expr)
    left = printer.text(expr.lhs).tex
    short = width(left) <= COLUMN / 2.5
    room = COLUMN - (width(left) if short else 1.5) - 2
    right = broken(printer, expr.rhs, room)
    if short and max(map(width, right)) > room + 1:  # it fits where its lines begin at the margin
        yield f"& {left} {sign} {right[0]}"
    elif short:
        mark = "& " if len(right) > 1 else ""
        yield f"{left} {mark}{sign} {right[0]}"
    else:
        for line in broken(printer, expr.lhs, COLUMN):
            yield f"& {line}"
        yield rf"& \quad {sign} {right[0]}"
    yield from (rf"& \quad {line}" for line in right[1:])


def _alternatives(printer: Printer, expr: Any) -> Iterator[str]:
    word = r"\text{ or }" if isinstance(expr, sp.Or) else r"\text{ and }"
    line = ""
    for text in printer.joined_texts(expr):
        longer = f"{line} {word} {text}" if line else text
        if line and width(longer) > COLUMN - 1:
            yield f"& {line} {word}"
            longer = text
        line = longer
    yield f"& {line}"


def broken(printer: Printer, expr: Any, room: float) -> list[str]:
    """An expression in lines that are at most so wide, if its structure allows it."""
    whole = printer.text(expr)
    if width(whole.tex) <= room:
        return [whole.tex]
    if isinstance(expr, Apply) and expr in printer.glyphs:
        return [whole.tex]
    if isinstance(expr, sp.Add):
        return _sum(printer, expr, room)
    if isinstance(expr, sp.Piecewise):
        return [_cases(printer, expr, room)]
    if isinstance(expr, Apply) and printer.unfolds(expr):
        return broken(printer, expr.unfold(), room)
    return _product(printer, expr, room) or [whole.tex]


def _sum(printer: Printer, expr: sp.Add, room: float) -> list[str]:
    """Terms line by line, as many as fit, each after its sign."""
    lines = [""]
    for position, (negative, term) in enumerate(terms_in_order(expr)):
        sign = "-" if negative else "+" if position else ""
        pieces = broken(printer, term, room - 1.5)
        if len(pieces) == 1 and printer.text(term).level < BIG:
            pieces = [bracketed(pieces[0])]
        if pieces[-1].endswith(CASES_END) and position < len(expr.args) - 1:
            pieces = [bracketed(pieces[0])] if len(pieces) == 1 else _in_brackets(pieces)
        first = f"{sign} {pieces[0]}".strip()
        if lines[-1] and (width(f"{lines[-1]} {first}") > room or len(pieces) > 1):
            lines.append(first)
        else:
            lines[-1] = f"{lines[-1]} {first}".strip()
        lines += pieces[1:]
    return lines


def _in_brackets(lines: list[str]) -> list[str]:
    """Lines between brackets; those around cases are at least as high as the brackets that cases have themselves."""
    if len(lines) == 1:
        return [bracketed(lines[0])]
    size = "Bigg" if any(CASES_END in line for line in lines) else "Big"
    return [rf"\{size}l( {lines[0]}", *lines[1:-1], rf"{lines[-1]} \{size}r)"]


def _cases(printer: Printer, expr: sp.Piecewise, room: float) -> str:
    rows = []
    for value, condition in expr.args:
        when = r"\text{otherwise}" if condition == sp.true else rf"\text{{if }} {printer.text(condition).tex}"
        if width(when) > room / 2:
            when = r"\text{if } " + block(_lines_of_condition(printer, condition))
        rows.append(f"{block(broken(printer, value, max(room - 3 - min(width(when), 6), 12)))} & {when}")
    return r"\begin{cases} " + r" \\ ".join(rows) + CASES_END


def _lines_of_condition(printer: Printer, condition: Any) -> list[str]:
    if not isinstance(condition, sp.Or | sp.And):
        return [printer.text(condition).tex]
    word = r"\text{ or }" if isinstance(condition, sp.Or) else r"\text{ and }"
    texts = printer.joined_texts(condition)
    return [*(f"{text} {word}" for text in texts[:-1]), texts[-1]]


def _product(printer: Printer, expr: Any, room: float) -> list[str] | None:
    """Lines that are broken within the widest factor."""
    found = printer.around(expr)
    if found is None:
        return None
    lines = broken(printer, found.inner, max(room - 2 - min(width(found.before), room / 2), room / 2))
    if lines == [printer.text(found.inner).tex]:
        return None
    lines = [lines[0], *(rf"\quad {line}" for line in lines[1:])]
    before = f"{found.before} " if found.before else ""
    if found.in_brackets:
        lines = _in_brackets(lines)
        lines[0] = before + lines[0]
        lines[-1] = f"{lines[-1]} {found.after}".strip()
    else:
        lines[0] = before + lines[0]
    return lines if max(map(width, lines)) < width(printer.text(expr).tex) else None


def _pieces(expr: Any, around: tuple[Any, ...], printer: Printer) -> list[tuple[Any, tuple[Any, ...]]]:
    """Pieces that could get a letter with the bound variables in them: those first that make a formula shortest."""
    counts: dict[Any, int] = {}
    bound_in: dict[Any, tuple[Any, ...]] = {}

    def visit(node: Any, bound: tuple[Any, ...]) -> None:
        if isinstance(node, sp.Mul | sp.Number) and node.could_extract_minus_sign():
            node = -node
        if node in printer.named:
            return
        if (
            isinstance(node, _NAMEABLE)
            and not node.is_number
            and not (isinstance(node, sp.Pow) and node.exp.is_negative)
        ):
            counts[node] = counts.get(node, 0) + 1
            bound_in[node] = tuple(thing for thing in dict.fromkeys(bound) if thing in node.free_symbols)
        inner = list(bound_things(node))
        if isinstance(node, ExprWithLimits):
            inner = [limit[0] for limit in reversed(node.limits)]
        for child in () if isinstance(node, sp.Indexed) else node.args:
            if isinstance(child, sp.Basic):
                visit(child, (*bound, *inner))

    visit(expr, around)
    worth = []
    for node, count in counts.items():
        size = width(printer.text(node).tex)
        if size > SHORTEST and node not in (expr, *getattr(expr, "args", ())):
            worth.append(((count - 1) * (size - 2), size if size < COLUMN / 2 else 0, node))
    worth.sort(key=lambda entry: (-entry[0], -entry[1], str(entry[2])))
    return [(node, bound_in[node]) for saved, size, node in worth if saved or size]

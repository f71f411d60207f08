"""LaTeX as the field writes it: products in their order, clip, powers, fractions, and definitions by their symbols.

A definition whose symbol does not show all of its arguments is explained below the formula (``where``, ``with``), or
written out. Nothing here is trusted: `reader` reads what is printed, and a test compares it with what is stated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import sympy as sp
from sympy.core.function import AppliedUndef

from grape_spec.language.definitions import IN_TEMPLATE
from grape_spec.language.expressions import (
    Apply,
    At,
    Diff,
    OneSided,
    bound_things,
    occurring,
    substitute,
    symbols_of,
)
from grape_spec.language.symbols import DECLARATIONS, declared_name, size_of_axis
from grape_spec.paper.arguments import given_values, hidden, printed_as, written_length
from grape_spec.paper.order import clipped, counts, is_index, ordered, rank, terms_in_order
from grape_spec.paper.texts import (
    ADD,
    ATOM,
    BAR,
    BIG,
    CASES_END,
    FRACTION,
    MUL,
    POWER,
    PREFIX,
    RELATION,
    Text,
    bracketed,
    is_tall,
    of_a_fresh_name,
    powers,
    side_by_side,
    spelled,
    subscripted,
    template_level,
    with_high_brackets,
    with_slash,
    with_tilde,
    within_brackets,
)  # fmt: skip
from grape_spec.paper.widths import width

#: The parameters that functions depend on: a function is printed without them.
PARAMETER = declared_name("theta")

#: Letters for what is repeated in a formula that is too wide.
LETTERS = ("u", "v", "w", "x", "y", "f", "g", "h")

#: A power of e or a numerator up to this many em is set as such.
SHORT = 6.0


class Around(NamedTuple):
    """The part of an expression in which its lines may be broken, and what stands around it."""

    before: str
    inner: Any
    after: str
    in_brackets: bool


class Printer:
    """Prints one formula, and collects what has to be said below it."""

    def __init__(self, expr: Any, *, alone: bool = True) -> None:
        self.alone = alone
        self.given = given_values(expr) if alone else {}
        self.bodies: dict[str, tuple[Any, tuple[Any, ...]]] = {}
        self.named: dict[Any, str] = {}
        self.glyphs: dict[Apply, str] = {}
        self.used: set[str] = set()
        self.said: set[Any] = set()
        self.bound: list[Any] = []
        self.dropped: tuple[Any, ...] = ()
        bound = {thing for node in sp.preorder_traversal(expr) for thing in bound_things(node)}
        self.taken = {DECLARATIONS[thing].tex for thing in symbols_of(expr) | bound if thing in DECLARATIONS}
        self.standing: dict[str, Any] = {}
        for node in sorted(expr.atoms(Apply), key=str):
            if node.definition.tex and not any(map(self._left, node.atoms(Apply))):
                self.standing.setdefault(self._symbol_of(node).tex, node)
        for node in [node for node in self.standing.values() if node.unfolds]:  # what its definition speaks of, too
            for inner in sorted(node.unfold().atoms(Apply), key=str):
                if inner.definition.tex and not any(map(self._left, inner.atoms(Apply))):
                    self.standing.setdefault(self._symbol_of(inner).tex, inner)
        self.plainest = self._plainest(expr)
        self.said.clear()

    def _plainest(self, expr: Any) -> dict[tuple[Any, ...], Apply]:
        """Among definitions that share a letter, explained below, the shortest: it keeps the letter as it is."""
        found: dict[tuple[Any, ...], Apply] = {}
        waiting, seen = [expr], set[Apply]()
        while waiting:
            new = {node for node in waiting.pop().atoms(Apply) if self.unfolds(node)} - seen
            seen |= new
            for node in (node for node in new if node.definition.tex):
                shortest = found.setdefault(printed_as(node), node)
                found[printed_as(node)] = min(shortest, node, key=written_length)
            waiting += [node.unfold() for node in new]
        return found

    def given_tex(self) -> dict[str, str]:
        """The values that are said below the formula, by symbol."""
        return {DECLARATIONS[p].tex: self.text(v).tex for p, v in self.given.items() if p in self.said}

    def text(self, expr: Any) -> Text:
        if expr in self.named:
            self.used.add(self.named[expr])
            return Text(self.named[expr], ATOM)
        for kind in type(expr).__mro__:
            method = getattr(self, f"_{kind.__name__}", None)
            if method is not None:
                return method(expr)
        raise TypeError(f"{type(expr).__name__} has no form in LaTeX")

    def at_least(self, expr: Any, level: int) -> str:
        """The text of an expression, in brackets if it binds more loosely than this."""
        found = self.text(expr)
        return found.tex if found.level >= level else bracketed(found.tex)

    # Numbers and symbols.

    def _Integer(self, expr: sp.Integer) -> Text:
        return Text(str(expr), ATOM if expr >= 0 else ADD)

    def _Rational(self, expr: sp.Rational) -> Text:
        sign = "-" if expr < 0 else ""
        return Text(rf"{sign}\frac{{{abs(expr.p)}}}{{{expr.q}}}", ADD if sign else FRACTION)

    def _Exp1(self, expr: sp.Expr) -> Text:
        return Text("e", ATOM)

    def _Symbol(self, expr: sp.Symbol) -> Text:
        if expr in self.dropped:
            raise LookupError(f"{expr} is more than an index")
        entry = DECLARATIONS.get(expr)
        tex = entry.tex if entry else of_a_fresh_name(expr.name)
        return Text(tex, POWER if "^" in tex or "'" in tex else ATOM)

    def _IndexedBase(self, expr: sp.IndexedBase) -> Text:
        entry = DECLARATIONS.get(expr)
        return Text(entry.tex if entry else of_a_fresh_name(expr.label.name), ATOM)

    def _Indexed(self, expr: sp.Indexed) -> Text:
        base = self.text(expr.base).tex
        tex = self._indices(base, expr.indices)
        return Text(tex, POWER if "^" in base or "'" in base else ATOM)

    def _AppliedUndef(self, expr: AppliedUndef) -> Text:
        """A function of the parameters without them, its other arguments as indices."""
        indices = [argument for argument in expr.args if argument != PARAMETER]
        tex = DECLARATIONS[expr.func].tex
        if all(map(counts, indices)):
            return Text(self._indices(tex, indices), POWER if "^" in tex or "'" in tex else ATOM)
        return Text(rf"{tex}({','.join(self.text(a).tex for a in indices)})", ATOM)

    def _KroneckerDelta(self, expr: sp.KroneckerDelta) -> Text:
        return Text(rf"\delta_{{{','.join(self.text(i).tex for i in expr.args)}}}", ATOM)

    # Sums and products of terms.

    def _Add(self, expr: sp.Add) -> Text:
        parts = []
        for position, (negative, rest) in enumerate(terms_in_order(expr)):
            text = self.at_least(rest, BIG)
            if text.endswith(CASES_END) and position < len(expr.args) - 1:
                text = bracketed(text)
            parts.append(("-" if negative else "") + text if position == 0 else f"{'-' if negative else '+'} {text}")
        return Text(" ".join(parts), ADD)

    def _Mul(self, expr: sp.Mul) -> Text:
        number, rest = expr.as_coeff_Mul()
        if number.is_negative:
            inner = sp.Mul(-number, rest) if number != -1 else rest
            return Text(f"-{self.at_least(inner, BIG)}", ADD)
        above, below = [], []
        for factor in sp.Mul.make_args(rest):
            base, power = factor.args if isinstance(factor, sp.Pow) else (factor, sp.S.One)
            if isinstance(factor, sp.Pow) and power.is_number and power.is_negative:
                below.append(sp.Pow(base, -power))
            else:
                above.append(factor)
        upper, lower = ([n] if n != 1 else [] for n in map(sp.Integer, (number.p, number.q)))
        return self._quotient([*upper, *above], [*lower, *below])

    def _Pow(self, expr: sp.Pow) -> Text:
        base, power = expr.args
        if power.is_number and power.is_negative:
            return self._quotient([], [sp.Pow(base, -power)])
        if power == sp.Rational(1, 2):
            return Text(rf"\sqrt{{{self.text(base).tex}}}", ATOM)
        return Text(f"{self.at_least(base, ATOM)}^{{{self.text(power).tex}}}", POWER)

    def _quotient(self, above: list[sp.Expr], below: list[sp.Expr]) -> Text:
        if not below:
            return self._product(above)
        outside = [factor for factor in above if rank(factor) >= 10]
        inside = [factor for factor in above if rank(factor) < 10]
        upper, lower = self._product(inside), self._product(below)
        if width(upper.tex) > 4 * SHORT and inside:
            wide = max(inside, key=lambda factor: width(self.text(factor).tex))
            outside, inside = [wide, *outside], [factor for factor in inside if factor is not wide]
            upper = self._product(inside)
        fraction = Text(rf"\frac{{{upper.tex}}}{{{lower.tex}}}", FRACTION)
        if not outside:
            return fraction
        after = self._product(outside)
        return Text(side_by_side([fraction.tex, self._as_factor(after)]), BIG if after.level == BIG else MUL)

    def _as_factor(self, text: Text) -> str:
        return text.tex if text.level >= BIG and not text.tex.startswith(BAR) else bracketed(text.tex)

    def _product(self, factors: list[sp.Expr]) -> Text:
        if not factors:
            return Text("1", ATOM)
        roots = [f.base for f in factors if isinstance(f, sp.Pow) and f.exp == sp.Rational(1, 2)]
        if len(roots) > 1:
            whole = Text(rf"\sqrt{{{self._product(roots).tex}}}", ATOM)
            rest = [f for f in factors if not (isinstance(f, sp.Pow) and f.exp == sp.Rational(1, 2))]
            texts = [*(self.text(f) for f in ordered(rest)), whole]
        else:
            texts = [self.text(factor) for factor in ordered(factors)]
        if len(texts) == 1:
            return texts[0]
        pieces = []
        for position, text in enumerate(texts):
            last = position == len(texts) - 1
            open_ended = (text.level == PREFIX and not last) or (text.tex.startswith(BAR) and position > 0)
            tight = text.level >= (BIG if last else MUL) and not open_ended and r"^{\top}" not in text.tex
            pieces.append(text.tex if tight else bracketed(text.tex))
        return Text(side_by_side(pieces), BIG if texts[-1].level == BIG else MUL)

    def _Sum(self, expr: sp.Sum) -> Text:
        return self._quantified(r"\sum", expr)

    def _Product(self, expr: sp.Product) -> Text:
        return self._quantified(r"\prod", expr)

    def _quantified(self, sign: str, expr: Any) -> Text:
        bound = [limit[0] for limit in reversed(expr.limits)]
        self.bound += bound
        signs = self._signs(sign, expr)
        body = self.at_least(expr.function, BIG)
        del self.bound[-len(bound) :]
        return Text(signs + body, BIG)

    def _signs(self, sign: str, expr: Any) -> str:
        limits = reversed(expr.limits)
        return "".join(rf"{sign}_{{{self.text(b).tex}=1}}^{{{self.text(high).tex}}} " for b, _, high in limits)

    # Functions.

    def _exp(self, expr: sp.exp) -> Text:
        (inside,) = expr.args
        logs = [factor for factor in sp.Mul.make_args(inside) if isinstance(factor, sp.log)]
        if isinstance(inside, sp.Mul) and len(logs) == 1:
            power = sp.Mul(*(f for f in sp.Mul.make_args(inside) if f is not logs[0]))
            return Text(f"{self.at_least(logs[0].args[0], ATOM)}^{{{self.text(power).tex}}}", POWER)
        power_tex = self.text(inside).tex
        if width(power_tex) <= SHORT and "frac" not in power_tex:
            return Text(f"e^{{{power_tex}}}", POWER)
        return Text(rf"\exp{bracketed(power_tex)}", ATOM)

    def _log(self, expr: sp.log) -> Text:
        inside = self.text(expr.args[0])
        argument = f" {inside.tex}" if inside.level >= FRACTION else bracketed(inside.tex)
        return Text(rf"\log{argument}", PREFIX)

    def _Abs(self, expr: sp.Abs) -> Text:
        return Text(rf"\left|{self.text(expr.args[0]).tex}\right|", ATOM)

    def _Min(self, expr: sp.Min) -> Text:
        found = clipped(expr)
        if found:
            return Text(rf"\operatorname{{clip}}{bracketed(', '.join(self.text(a).tex for a in found))}", ATOM)
        return self._of_several(r"\min", expr)

    def _Max(self, expr: sp.Max) -> Text:
        return self._of_several(r"\max", expr)

    def _of_several(self, name: str, expr: Any) -> Text:
        texts = sorted((self.text(arg).tex for arg in expr.args), key=lambda tex: (width(tex), tex))
        return Text(rf"{name}{bracketed(', '.join(texts))}", ATOM)

    # Derivatives.

    def _Diff(self, expr: Diff) -> Text:
        variables, body = [], expr
        while isinstance(body, Diff):
            variables.append(body.variable)
            body = body.expr
        if variables == [PARAMETER]:
            return Text(rf"\nabla_{{{self.text(PARAMETER).tex}}} {self._operand(body)}", PREFIX)
        order = f"^{{{len(variables)}}}" if len(variables) > 1 else ""
        below = " ".join(powers([rf"\partial {self.text(v).tex}" for v in variables]))
        return self._slope(order, body, below)

    def _slope(self, order: str, body: sp.Expr, below: str) -> Text:
        inside = self.text(body)
        if inside.level >= POWER and width(inside.tex) <= SHORT:
            return Text(rf"\frac{{\partial{order} {inside.tex}}}{{{below}}}", FRACTION)
        return Text(rf"\frac{{\partial{order}}}{{{below}}} {self._operand(body)}", PREFIX)

    def _operand(self, body: sp.Expr) -> str:
        inside = self.text(body)
        return inside.tex if inside.level in (PREFIX, POWER, ATOM) else bracketed(inside.tex)

    def _OneSided(self, expr: OneSided) -> Text:
        variable = self.text(expr.variable).tex
        slope = self._slope("^{+}" if expr.side > 0 else "^{-}", expr.expr, rf"\partial {variable}")
        return Text(rf"{BAR}{slope.tex}\right|_{{{variable} = {self.text(expr.point).tex}}}", MUL)

    def _At(self, expr: At) -> Text:
        """Behind one bar stands what may be put in at once: no value has what another replaces."""
        pairs, body, replaced = [], expr, set[Any]()
        while isinstance(body, At) and not replaced & {body.replaced, *occurring(body.value)}:
            replaced.add(body.replaced)
            pairs.append(f"{self.text(body.replaced).tex} = {self._value_of(body)}")
            body = body.expr
        return Text(rf"{BAR}{self.at_least(body, BIG)}\right|_{{{', '.join(reversed(pairs))}}}", MUL)

    def _value_of(self, expr: At) -> str:
        return self._family(expr.value) if isinstance(expr.value, sp.Lambda) else self.text(expr.value).tex

    # Conditions.

    def _Relational(self, expr: Any) -> Text:
        return Text(f"{self.text(expr.lhs).tex} {self.sign(expr)} {self.text(expr.rhs).tex}", RELATION)

    def sign(self, expr: Any) -> str:
        """The sign of a relation."""
        return {"==": "=", "!=": r"\ne", "<=": r"\le", ">=": r"\ge"}.get(expr.rel_op, expr.rel_op)

    def _And(self, expr: Any) -> Text:
        return self._joined(r"\text{ and }", expr)

    def _Or(self, expr: Any) -> Text:
        return self._joined(r"\text{ or }", expr)

    def _joined(self, word: str, expr: Any) -> Text:
        return Text(word.join(self.joined_texts(expr)), RELATION)

    def joined_texts(self, expr: Any) -> list[str]:
        """The conditions that are joined, in order."""
        args = sorted(expr.args, key=lambda arg: (isinstance(arg, sp.And | sp.Or), str(arg)))
        return [self._condition(arg, (sp.And, sp.Or, sp.Implies, sp.Equivalent)) for arg in args]

    def _Not(self, expr: Any) -> Text:
        return Text(rf"\neg {bracketed(self.text(expr.args[0]).tex)}", RELATION)

    def _Implies(self, expr: Any) -> Text:
        return Text(r" \implies ".join(self.sides(expr)), RELATION)

    def _Equivalent(self, expr: Any) -> Text:
        return Text(r" \iff ".join(self.sides(expr)), RELATION)

    def sides(self, expr: Any) -> list[str]:
        """The sides of an arrow; one that has an arrow itself is in brackets."""
        return [self._condition(side, (sp.Implies, sp.Equivalent)) for side in expr.args]

    def _condition(self, expr: Any, in_brackets: tuple[type, ...]) -> str:
        tex = self.text(expr).tex
        return bracketed(tex) if isinstance(expr, in_brackets) else tex

    def _Piecewise(self, expr: sp.Piecewise) -> Text:
        rows = []
        for value, condition in expr.args:
            when = r"\text{otherwise}" if condition == sp.true else rf"\text{{if }} {self.text(condition).tex}"
            rows.append(rf"{self.text(value).tex} & {when}")
        return Text(r"\begin{cases} " + r" \\ ".join(rows) + CASES_END, BIG)

    # Definitions.

    def _Apply(self, expr: Apply) -> Text:
        left = self._left(expr)
        self.said |= {p for p, a in hidden(expr) if (p, a) not in left} if not self.unfolds(expr) else set()
        if expr.definition.tex and not left:
            return self._symbol_of(expr)
        if not expr.unfolds:
            return self._with_arguments(expr, left)
        name = self._stands_for(expr) if self.alone and expr.definition.tex else None
        return name or self.text(expr.unfold())

    def unfolds(self, expr: Apply) -> bool:
        """Whether a definition is written out here."""
        left = self._left(expr)
        return expr.unfolds and bool(left or not expr.definition.tex)

    def name_one(self, pieces: list[tuple[Any, tuple[Any, ...]]]) -> bool:
        """Give the first of these pieces a letter that is explained below, if there are pieces and letters left.

        Arguments:
            pieces: each with the bound variables in it, which its letter gets as indices.
        """
        used = {tex[0] for tex in self.bodies} | self.taken | self.standing.keys()
        free = [letter for letter in LETTERS if letter not in used]
        if not pieces or not free:
            return False
        piece, bound = pieces[0]
        letter = subscripted(free[0], ",".join(self.text(b).tex for b in bound)) if bound else free[0]
        self.bodies[letter], self.named[piece] = (piece, bound), letter
        return True

    def around(self, expr: Any) -> Around | None:
        """What stands before and after the part of an expression in which its lines may be broken."""
        if isinstance(expr, sp.Sum | sp.Product):
            sign = r"\sum" if isinstance(expr, sp.Sum) else r"\prod"
            return Around(self._signs(sign, expr), expr.function, "", isinstance(expr.function, sp.Add))
        if isinstance(expr, sp.Mul):
            return self._around_factor(expr)
        if isinstance(expr, Diff):
            whole, inside = self.text(expr).tex, self.text(_innermost(expr)).tex
            before = whole[: whole.rindex(inside)].removesuffix(r"\left(").removesuffix("(")
            return Around(before, _innermost(expr), "", True)
        if isinstance(expr, sp.Pow) and expr.exp.is_positive and expr.exp != sp.Rational(1, 2):
            return Around("", expr.base, f"^{{{self.text(expr.exp).tex}}}", True)
        if isinstance(expr, sp.log | sp.exp) and self.text(expr).tex.startswith((r"\log", r"\exp")):
            return Around(r"\log" if isinstance(expr, sp.log) else r"\exp", expr.args[0], "", True)
        return None

    def _written_out(self, factor: sp.Expr) -> sp.Expr:
        writes_out = isinstance(factor, Apply) and factor not in self.glyphs and self.unfolds(factor)
        return factor.unfold() if writes_out else factor

    def _around_factor(self, expr: sp.Mul) -> Around | None:
        number, rest = expr.as_coeff_Mul()
        factors = [self._written_out(factor) for factor in sp.Mul.make_args(rest)]
        breakable = [factor for factor in factors if _is_breakable(factor)]
        if not breakable:
            return None
        widest = max(breakable, key=lambda factor: width(self.text(factor).tex))
        others = [factor for factor in factors if factor is not widest]
        late = [factor for factor in others if rank(factor) >= 9] if rank(widest) < 9 else []
        early = [factor for factor in others if factor not in late]
        before = "-" if number.is_negative else ""
        open_ended = [factor for factor in early if self.text(factor).level == PREFIX]
        early = [factor for factor in early if factor not in open_ended]
        if early or abs(number) != 1:
            before += rf"{self.at_least(sp.Mul(abs(number), *early), MUL)} \,"
        before += "".join(rf" {bracketed(self.text(factor).tex)} \," for factor in ordered(open_ended))
        after = self._as_factor(self._product(late)) if late else ""
        alone = isinstance(widest, sp.Sum | sp.Pow | Diff | sp.Piecewise) and not late
        return Around(before, widest, after, not alone)

    def _left(self, expr: Apply) -> list[tuple[Any, Any]]:
        """The arguments that neither the symbol of a definition shows nor the line below the formula."""
        return [(p, a) for p, a in hidden(expr) if self.given.get(p) != a]

    def _symbol_of(self, expr: Apply) -> Text:
        tex = self._filled(expr)
        inner = within_brackets(tex)
        return Text(tex, template_level(tex)) if inner is None else Text(inner, template_level(inner))

    def _stands_for(self, expr: Apply) -> Text | None:
        """A symbol for a definition at other arguments, explained below the formula; None if there is none to spare."""
        if any(f"{{{DECLARATIONS[p].name}}}" in expr.definition.tex and not is_index(p) for p in expr.definition.of):
            return None
        dropped, self.dropped = self.dropped, ()
        try:
            tex = self.glyphs.get(expr) or self._glyph(expr)
        finally:
            self.dropped = dropped
        if tex is None:
            return None
        self.used.add(tex)
        for index in reversed([thing for thing in dropped if thing in symbols_of(expr)]):
            found = re.fullmatch(rf"(.*)_\{{{re.escape(self._plain_name(index))}\}}", tex)
            if found is None:
                raise LookupError(f"{tex} has no index to drop")
            tex = found[1]
        return Text(tex, template_level(tex))

    def _plain_name(self, index: Any) -> str:
        dropped, self.dropped = self.dropped, ()
        try:
            return self.text(index).tex
        finally:
            self.dropped = dropped

    def _glyph(self, expr: Apply) -> str | None:
        free = symbols_of(expr)
        within = [self.text(thing).tex for thing in dict.fromkeys(self.bound) if thing in free]
        plain = self._filled(expr)
        if not all(tex in plain for tex in within):
            plain = subscripted(plain, ",".join(within))
        keeps = self.plainest.get(printed_as(expr), expr) == expr
        for tex in (plain, with_tilde(plain)) if keeps else (with_tilde(plain), plain):
            if tex not in self.taken and self.standing.setdefault(tex, expr) == expr:
                self.glyphs[expr], self.bodies[tex] = tex, (expr.unfold(), tuple(self.bound))
                return tex
        return None

    def _with_arguments(self, expr: Apply, left: list[tuple[Any, Any]]) -> Text:
        head = self._filled(expr) if expr.definition.tex else spelled(expr.definition.id)
        inside = r",\ ".join(f"{DECLARATIONS[p].tex} := {self._argument(a)}" for p, a in left)
        return Text(rf"{head}\left[{inside}\right]" if left else head, ATOM)

    def _argument(self, value: Any) -> str:
        return self._family(value) if isinstance(value, sp.Lambda) else self.text(value).tex

    def _filled(self, expr: Apply) -> str:
        """The declared LaTeX with the arguments in it, in brackets where they are not alone between delimiters."""
        template = expr.definition.tex
        values = {DECLARATIONS[p].name: a for p, a in zip(expr.definition.of, expr.arguments, strict=True)}
        for name, value in values.items():
            if value in self.dropped:  # an entry of a family that is printed as a whole
                shorter = template.replace(f"_{{{{{{{name}}}}}}}", "")
                template = shorter if f"{{{name}}}" not in shorter else template

        def fill(match: re.Match[str]) -> str:
            if match["family"]:
                return self._entry(values[match["family"]], values[match["index"]])
            if match["name"]:
                before, after = template[: match.start()].rstrip(), template[match.end() :].lstrip()
                opened = before[-1:] in ("(", "{", ",") or before.endswith(r"\Vert")
                closed = after[:1] in (")", "}", ",") or after.startswith(r"\Vert")
                value = values[match["name"]]
                alone = (opened and closed) or (isinstance(value, sp.Basic) and counts(value))
                power = after[:1] == "^" or after.startswith("{{")
                return self._in_place(value, RELATION if alone else ATOM if power else POWER)
            return match[0][0]

        filled = IN_TEMPLATE.sub(fill, template)
        return filled if within_brackets(template) or not is_tall(filled) else with_high_brackets(template, filled)

    def _in_place(self, value: Any, level: int) -> str:
        if not isinstance(value, sp.Lambda):
            return self.at_least(value, level)
        tex = self._family(value)
        found = RELATION if r"\mapsto" in tex else template_level(tex)
        return tex if found >= level else bracketed(tex)

    def _entry(self, values: Any, index: Any) -> str:
        """An entry of a family, or of what was put in its place."""
        if isinstance(values, sp.Lambda):
            return self.at_least(substitute(values.expr, {values.signature[0]: index}), ATOM)
        return self.text(values[index]).tex

    def _family(self, expr: sp.Lambda) -> str:
        """A family given by its entries: without its index if that only selects entries, else as a map."""
        signature = tuple(expr.signature)
        outer = tuple(thing for thing in self.dropped if thing not in signature)
        before = self.dropped
        self.bound += signature
        try:
            self.dropped = (*outer, *signature)
            return with_slash(self.text(expr.expr).tex)
        except LookupError:
            self.dropped = outer
            names = ",".join(self.text(s).tex for s in signature)
            head = names if len(signature) == 1 else f"({names})"
            return rf"{head} \mapsto {self.text(expr.expr).tex}"
        finally:
            self.dropped = before
            del self.bound[-len(signature) :]

    def _indices(self, tex: str, indices: Iterable[Any]) -> str:
        """A symbol with its indices, without the last ones if they are those of a family that is printed as a whole.

        Raises: LookupError if it would not be plain which place has which index.
        """
        kept = list(indices)
        left = [index for index in kept if index in self.dropped]
        sizes = set(map(size_of_axis, left))
        if left != [index for index in self.dropped if size_of_axis(index) in sizes]:
            raise LookupError(f"{tex} has its indices in another order, or not all of them")
        while kept and kept[-1] in self.dropped:
            kept.pop()
        shown = [r"\cdot" if index in self.dropped else self.text(index).tex for index in kept]
        return subscripted(tex, ",".join(shown)) if shown else tex


def _is_breakable(factor: sp.Expr) -> bool:
    if isinstance(factor, sp.Pow):
        return bool(factor.exp.is_positive)
    return isinstance(factor, sp.Add | sp.Sum | Diff | sp.Piecewise)


def _innermost(expr: Any) -> Any:
    while isinstance(expr, Diff):
        expr = expr.expr
    return expr

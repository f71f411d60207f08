"""Proof scripts: the lines of a proof, and equations proved through normal forms (untrusted: Coq checks each line)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, combinations
from typing import Any

from grape_spec.coq.normal import Form, Normal
from grape_spec.coq.terms import (
    ONE,
    ZERO,
    NoScript,
    Tree,
    free,
    has_cases,
    has_derivative,
    has_sum_over,
    index_text,
    rename,
    roots_in,
    sub,
)
from grape_spec.coq.texts import argument_text, function_text, point_text, rational, show, split_point, value_text

_POLYNOMIAL = {"q", "v", "ap", "inr", "rec"}
_BOUND = {(kind,) for kind in ("prod", "diff", "at", "one", "lam", "pw", "fn", "dfn")}


class Script:
    """A proof under construction.

    Arguments:
        sizes: of each family, the sizes of its axes, as texts.
        positive: the symbols and families whose domain makes them positive.
        restricted: those whose domain is not all real numbers.
    """

    def __init__(self, sizes: dict[str, list[str]], positive: frozenset[str], restricted: frozenset[str]) -> None:
        self.lines: list[str] = []
        self.normal = Normal()
        #: The names of equations that are known.
        self.equations: list[str] = []
        self.sizes, self.positive, self.restricted = sizes, positive, restricted
        self._depth, self._count = 1, 0

    # -- lines -------------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        self.lines.append("  " * self._depth + line)

    @contextmanager
    def block(self, line: str = "") -> Iterator[None]:
        """A goal of its own, in braces."""
        if line:
            self.say(line)
        self.say("{")
        self._depth += 1
        yield
        self._depth -= 1
        self.say("}")

    @contextmanager
    def bullet(self, line: str) -> Iterator[None]:
        """One of several goals."""
        self.say(f"- {line}")
        self._depth += 1
        yield
        self._depth -= 1

    def attempt(self, write: Callable[[], None], failure: type[Exception]) -> bool:
        """Write lines, or none if that fails."""
        lines, depth = len(self.lines), self._depth
        try:
            write()
        except (failure, NoScript):
            del self.lines[lines:]
            self._depth = depth
            return False
        return True

    def fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    # -- equations ---------------------------------------------------------------------------------------------

    def canonical(self, node: Tree) -> Tree:
        """The tree with the parts that are not polynomial in their normal forms."""
        kind = node[0]
        if kind in ("ap", "inr"):
            return self.normal.canonical(node)
        if kind in _POLYNOMIAL:
            return node
        if kind == "inv":
            short = self.of_one_term(node[1])
            return (kind, self.canonical(node[1]) if short is None else short)
        if kind == "neg":
            return (kind, self.canonical(node[1]))
        if kind in ("+", "*"):
            return (kind, tuple(map(self.canonical, node[1])))
        if kind == "^":
            return (kind, self.canonical(node[1]), node[2])
        return self.normal.canonical(node)

    def of_one_term(self, node: Tree) -> Tree | None:
        """A divisor as one term where it is a sum that comes to one, of which it is plain that it is not 0.

        The sum over an index may come to more: assumptions speak of such sums.
        """
        if node[0] in _POLYNOMIAL or (node[0] != "sum" and not _has_sum(node)):
            return None
        form = self.normal.of(node)
        new = self.normal.back(form)
        return new if len(form) == 1 or (node[0] == "sum" and unnamed(new) != unnamed(node)) else None

    def divisors(self, node: Any) -> list[Tree]:
        """What divides in a formula outside of functions, factor by factor, the innermost first.

        Within a sum only what its index has no part in.
        """
        if isinstance(node, tuple) and node[:1] == ("sum",):
            return [found for found in self.divisors(node[3]) if node[2] not in free(found)]
        if not isinstance(node, tuple) or node[:1] in _BOUND:
            return []
        inner = [found for part in node for found in self.divisors(part)]
        return [*inner, *_factors(node[1])] if node[:1] == ("inv",) else inner

    def equation(self, left: Tree, right: Tree) -> None:
        """Prove left = right, the goal, through the normal forms of both."""
        new_left, new_right = self.canonical(left), self.canonical(right)
        if unnamed(left) != unnamed(new_left):
            with self.block(f"transitivity {show(new_left)}."):
                self.to_canonical(left)
        if unnamed(right) != unnamed(new_right):
            with self.block(f"transitivity {show(new_right)}; [ | symmetry ]."):
                self.equal_polynomials(new_left, new_right)
            self.to_canonical(right)
        else:
            self.equal_polynomials(new_left, new_right)

    def equal_polynomials(self, left: Tree, right: Tree) -> None:
        """Prove an equation that is rational but for roots, whose squares are known."""
        roots = roots_in((left, right))
        if not roots:
            told = " | ".join(f"by_equation {name}" for name in self.equations)
            cases = has_cases((left, right))
            self.say(f"first [fin | {told}]." if told and cases else "fin.")
            return
        known = self.known_squares(roots)
        self.say(f"first [fin | ring [{known}] | solve [field [{known}]; nz] | solve [field [{known}]; root_nz]].")

    def known_squares(self, roots: list[Tree]) -> str:
        """Prove what the squares of roots are; gives the names of the hypotheses."""
        apart = self._apart({show(root): root for root in roots})
        return " ".join(self._square(root) for _, root in sorted(apart.items()))

    def _apart(self, roots: dict[str, Tree]) -> dict[str, Tree]:
        """The roots that are no rational multiples of products of others; the rest is rewritten as such multiples."""
        kept: dict[str, Tree] = {}
        for key in sorted(roots, key=lambda key: (len(key), key)):
            for others in chain.from_iterable(combinations(kept.values(), n) for n in range(4)):
                factor = self.normal.ratio_of_roots(roots[key], others)
                if factor is not None:
                    self._as_multiple(roots[key], factor, others)
                    break
            else:
                kept[key] = roots[key]
        return kept

    def _as_multiple(self, root: Tree, factor: Tree, others: tuple[Tree, ...]) -> None:
        name = self.fresh("Hr")
        product = "".join(f" * {show(other)}" for other in others)
        square: Tree = ("^", factor, 2)
        with self.block(f"assert ({name} : {show(root)} = Rabs {show(factor)}{product})."):
            self.say("root_multiple.")
            self.equation(root[1], ("*", (square, *(other[1] for other in others))) if others else square)
        self.say(f"signed_multiple {name}. rewrite ?{name}.")

    def _square(self, root: Tree) -> str:
        """Prove what the square of a root is, with a single product on the left; gives the name of the hypothesis."""
        above, below = self.over_common_divisor(self.normal.of(root[1]))
        square, name = self.fresh("Hs"), self.fresh("Hm")
        with self.block(f"assert ({square} : {show(root)} ^ 2 * {show(below)} = {show(above)})."):
            self.say("rewrite pow2_sqrt by (first [solve [nonneg] | lastpos]).")
            if has_sum_over(root):
                self.equation(("*", (root[1], below)), above)
            else:
                self.say("field; nz.")
        rule = self.normal.solved(root, above, below)
        if rule is None:
            return square
        left, right, times = map(show, rule)
        self.say(f"assert ({name} : {left} = {right}) by (apply (solved _ _ _ _ {times} {square}); ring).")
        return name

    def over_common_divisor(self, form: Form) -> tuple[Tree, Tree]:
        """A form as a fraction of trees without inverses."""
        powers: dict[str, int] = {}
        for monomial in form:
            for key, exponent in monomial:
                if exponent < 0:
                    powers[key] = max(powers.get(key, 0), -exponent)
        divisor = tuple(sorted(powers.items()))
        above = self.normal.times(form, {divisor: Fraction(1)})
        return self.normal.back(above), self.normal.term(divisor)

    def to_canonical(self, node: Tree) -> None:
        """Prove node = canonical(node), the goal."""
        new, kind = self.canonical(node), node[0]
        if unnamed(node) == unnamed(new):
            self.say("reflexivity.")
        elif kind == "neg":
            self.say("apply (f_equal Ropp).")
            self.to_canonical(node[1])
        elif kind == "inv":
            self.say("apply (f_equal Rinv).")
            self.equation(node[1], new[1])
        elif kind in ("+", "*"):
            parts = node[1]
            self.say(f"apply (f_equal2 {'Rplus' if kind == '+' else 'Rmult'}).")
            with self.block():
                self.to_canonical(parts[0] if len(parts) == 2 else (kind, parts[:-1]))
            self.to_canonical(parts[-1])
        elif kind == "^":
            self.say(f"apply (f_equal (fun x => x ^ {node[2]})).")
            self.to_canonical(node[1])
        elif kind == "ap":
            self.say("f_equal; lia.")
        elif kind == "inr":
            self.say("rewrite ?minus_INR, ?plus_INR, ?S_INR by lia; cbn [INR]; first [reflexivity | ring].")
        elif kind == "delta":
            self.say("first [apply delta_self | apply delta_sym | fin].")
        elif kind in ("diff", "at"):
            self._derivative_to_canonical(node, new)
        elif kind in ("exp", "ln"):
            self._argument_to_canonical(kind, node[1])
            self._split_exponential(node) if kind == "exp" else self._split_logarithm(node)
        elif kind == "sum":
            self._sum_to_canonical(node, new)
        else:
            self._function_to_canonical(node, new)

    def _function_to_canonical(self, node: Tree, new: Tree) -> None:
        kind = node[0]
        if kind == "prod":
            w = self.fresh("w")
            self.say(f"apply prod1_ext; intros {w} H{w}; cbv beta.")
            self.equation(sub(node[3], node[2], ("i", w)), sub(new[3], new[2], ("i", w)))
        elif kind == "sqrt":
            self.say("apply (f_equal sqrt).")
            self.equation(node[1], new[1])
        elif kind == "abs":
            self._argument_to_canonical("Rabs", node[1])
            turned = self.normal.with_sign(node[1]) != self.normal.of(node[1])
            self.say(f"{'rewrite <- Rabs_Ropp; ' if turned else ''}f_equal; fin.")
        elif kind in ("min", "max"):
            word, (left, right) = ("Rmin" if kind == "min" else "Rmax"), node[1:]
            if unnamed(self.normal.canonical(left)) != unnamed(new[1]):
                self.say(f"rewrite {word}_comm.")
                left, right = right, left
            with self.block(f"apply (f_equal2 {word})."):
                self.equation(left, new[1])
            self.equation(right, new[2])
        elif kind in ("fn", "dfn") and node[2][-1][0] not in ("i", "k", "n+", "ip"):
            *first, last = node[2]
            if [*first] != [*new[2][:-1]]:
                self.say(f"replace {show(node)} with {show((kind, node[1], (*new[2][:-1], last)))} by (f_equal; lia).")
                first = [*new[2][:-1]]
            function = " ".join([node[1], *map(argument_text, first)])
            self.say(f"apply (f_equal ({function if kind == 'fn' else f'Derive ({function})'})).")
            self.equation(last, new[2][-1])
        elif kind == "fn":
            self.say("f_equal; lia.")
        else:
            self.say("fin.")

    def _argument_to_canonical(self, word: str, node: Tree) -> None:
        new = self.canonical(node)
        if unnamed(node) != unnamed(new):
            with self.block(f"transitivity ({word} {show(new)}); [apply (f_equal {word}) | ]."):
                self.to_canonical(node)

    def _split_exponential(self, node: Tree) -> None:
        """The exponential of a sum is a product of exponentials."""
        parts = []
        for monomial, c in self.normal.of(node[1]).items():
            power = abs(c.numerator)
            base = show(self.normal.term(monomial, Fraction(1, c.denominator)))
            text = base if power == 1 else f"(INR {power} * {base})"
            parts.append(text if c > 0 else f"(- {text})")
        self.say(f"transitivity (exp ({' + '.join(parts) or '0'})); [f_equal; cbn [INR]; fin | ]. expc; fin.")

    def _split_logarithm(self, node: Tree) -> None:
        """The logarithm of a product is a sum of logarithms."""
        number, monomial, primitive = self.normal.logarithm(self.normal.of(node[1]))
        factors = [rational(abs(number))] if abs(number) != 1 else []
        for key, exponent in monomial:
            text = show(self.normal.atoms[key])
            text = text if abs(exponent) == 1 else f"({text} ^ {abs(exponent)})"
            factors.append(text if exponent > 0 else f"(/ {text})")
        if primitive is not None:
            factors.append(show(self.normal.back(primitive)))
        self.say(f"transitivity (ln ({' * '.join(factors) or '1'})); [f_equal; fin | ]. lnc; fin.")

    # -- sums --------------------------------------------------------------------------------------------------

    def _sum_to_canonical(self, node: Tree, new: Tree) -> None:
        """A sum is the combination of sums that its normal form says."""
        _, size, i, body = node
        w = self.fresh("w")
        body = sub(body, i, ("i", w))
        _, items = self.normal.sum(size, w, self.normal.of(body))
        certificate: list[str] = []
        reasons: list[str] = []
        point: Tree = ZERO
        total: Tree = ZERO
        for item in reversed(items):
            text, at_point, of_sum, reason = self._item(size, w, item)
            certificate.insert(0, text)
            reasons.insert(0, reason)
            point, total = ("+", (at_point, point)), ("+", (of_sum, total))
        with self.block(f"sc ([{'; '.join(certificate)}] : list item_)."):
            self.say(f"intros {w} H{w}; cbn beta iota delta [points_ point_].")
            self.equation(body, point)
        self.say("cbn beta iota delta [totals_ total_].")
        with self.block(f"transitivity {show(total)}."):
            for reason in reasons:
                with self.block("apply (f_equal2 Rplus)."):
                    self.say(reason)
            self.say("reflexivity.")
        self.equation(total, new)

    def _item(self, size: str, w: str, item: tuple[Any, ...]) -> tuple[str, Tree, Tree, str]:
        """An item of a certificate: its text, its value at a point, what it adds to the sum, and why."""
        kind, c = item[0], self.normal.back(item[1])
        if kind == "Cnt":
            return f"Cnt {show(c)}", c, ("*", (c, ("inr", ("i", size)))), "reflexivity."
        if kind == "Pick":
            _, _, other, _, rest, there = item
            text = f"Pick {show(c)} {index_text(other)} (fun {w} => {show(rest)})"
            return text, ("*", (c, ("*", (("delta", ("i", w), other), rest)))), ("*", (c, there)), "reflexivity."
        if kind == "Swap":
            _, _, _, factor, inner, _ = item
            _, inner_size, j, body = inner
            text = f"Lin {show(c)} (fun {w} => {show(factor)} * {show(inner)})"
            swapped = ("sum", inner_size, j, ("sum", size, w, ("*", (factor, body))))
            functions = f"(fun {w} => {show(factor)}) (fun {w} {j} => {show(body)})"
            why = f"[reflexivity | apply (sum1_swap_scal {size} {inner_size} {functions})]"
            return text, ("*", (c, ("*", (factor, inner)))), ("*", (c, swapped)), f"apply (f_equal2 Rmult); {why}."
        _, _, bound, term, hypothesis = item
        text, at_point = f"Lin {show(c)} (fun {bound} => {show(term)})", ("*", (c, sub(term, bound, ("i", w))))
        if not hypothesis:
            return text, at_point, ("*", (c, ("sum", size, bound, term))), "reflexivity."
        known = self.normal.total(("sum", size, bound, term))
        value = self.normal.back(known[0]) if known else ONE
        return text, at_point, ("*", (c, value)), f"apply (f_equal2 Rmult); [reflexivity | exact {hypothesis}]."

    # -- derivatives -------------------------------------------------------------------------------------------

    def _derivative_to_canonical(self, node: Tree, new: Tree) -> None:
        value, known = self.derivative_known(node)
        self.say(f"transitivity {show(value)}; [apply d_Derive; exact {known} | clear {known}].")
        self.equation(value, new)

    def derivative_known(self, node: Tree) -> tuple[Tree, str]:
        """Prove what a derivative is, as a new hypothesis; gives the derivative and the name of the hypothesis."""
        if node[0] == "at":
            return self._derivative_at(node)
        if has_derivative(node[1]):
            return self._second_derivative(node)
        value, name = self.normal.derivative(node[1], node[2]), self.fresh("DD")
        function, point = function_text(node[1], node[2])
        with self.block(f"assert ({name} : der {function} {point} {show(value)})."):
            self.say("der_by.")
        return value, name

    def _derivative_at(self, node: Tree) -> tuple[Tree, str]:
        body, variable, value = split_point(node)
        function, point = point_text(node)
        found, name = self.normal.derivative_at(node), self.fresh("DD")
        if not has_derivative(body) and (value is None or variable[0] == "v"):
            with self.block(f"assert ({name} : der {function} {point} {show(found)})."):
                self.say("der_by.")
            return found, name
        own = variable[1] + "__"
        taken = rename(self.normal.derivative(body, variable), variable[1], own)
        moved = ("diff", rename(body, variable[1], own), rename(variable, variable[1], own))
        general = function_text(moved[1], moved[2])
        domain = self._positive_family(variable[1], own) if variable[1] in self.restricted else ""
        kind = "nat -> " * len(variable[2]) + "R"
        with self.block(f"assert ({name} : forall {own} : {kind}, {domain}der {' '.join(general)} {show(taken)})."):
            self.say(f"intros {own}{f' HH{own}' if domain else ''}.")
            if has_derivative(body):
                taken_too, known = self._second_derivative(moved)
                self.say(f"apply (d_val _ _ _ _ {known}); reals.")
                self.equation(taken_too, taken)
            else:
                self.say("der_by.")
        if value is None:
            value = ("fam", variable[1])
        fed = f" feed {name} ltac:(side)." if domain else ""
        self.say(f"specialize ({name} {value_text(value)}); cbv beta in {name}.{fed}")
        return found, name

    def _positive_family(self, family: str, own: str) -> str:
        """The condition that a family or symbol under another name is positive."""
        sizes = self.sizes.get(family, [])
        if not sizes:
            return f"0 < {own} -> "
        names = [f"w{n}" for n in range(len(sizes))]
        ranges = "".join(f"(1 <= {w} <= {size})%nat -> " for w, size in zip(names, sizes, strict=True))
        return f"(forall {' '.join(names)} : nat, {ranges}0 < {' '.join([own, *names])}) -> "

    def _second_derivative(self, node: Tree) -> tuple[Tree, str]:
        """The derivative of a derivative: what the inner one is everywhere, then the derivative of that."""
        body, variable = node[1], node[2]
        if body[0] != "diff" or has_derivative(body[1]):
            raise NoScript("a derivative that stands within another")
        inner, first = body[1], body[2]
        name, own = first[1], first[1] + "__"
        restricted = name in self.restricted
        if restricted and name not in self.positive:
            raise NoScript("a second derivative on this domain")
        if variable[1] != name:
            return self._mixed_derivative(node)
        inner_own, first_own = rename(inner, name, own), rename(first, name, own)
        taken = self.normal.derivative(inner_own, first_own)
        short = self.normal.canonical(taken)
        kind = "R" if first[0] == "v" else "nat -> " * len(first[2]) + "R"
        function, point = function_text(inner_own, first_own)
        general, known = self.fresh("G"), self.fresh("DD")
        domain = self._positive_family(name, own) if restricted else ""
        with self.block(f"assert ({general} : forall {own} : {kind}, {domain}der {function} {point} {show(short)})."):
            self.say(f"intros {own}{f' HH{own}' if domain else ''}.")
            self.prove_derivative(inner_own, first_own, short, function, point)
        value, known = self._of_known(node, rename(short, own, name), general, restricted)
        return value, known

    def _of_known(self, node: Tree, inner: Tree, general: str, restricted: bool) -> tuple[Tree, str]:
        """The derivative of what an inner derivative is known to be."""
        body, variable = node[1], node[2]
        value = self.normal.derivative(inner, variable)
        function, point = function_text(inner, variable)
        own, known = self.fresh("DD"), self.fresh("DD")
        with self.block(f"assert ({own} : der {function} {point} {show(value)})."):
            self.say("der_by.")
        outer, _ = function_text(body, variable)
        with self.block(f"assert ({known} : der {outer} {point} {show(value)})."):
            if restricted:
                self.say(f"refine (d_ext_pos _ _ _ _ _ _ {own}); [side | ].")
                feed = f"apply {general}; exact Hxx" if variable[0] == "v" else f"apply ({general} _); upd_pos"
                self.say(f"intros xx Hxx; cbv beta. apply d_Derive. {feed}.")
            else:
                self.say(f"apply (is_derive_ext _ _ _ _ (fun xx => eq_sym (d_Derive _ _ _ ({general} _))) {own}).")
        self.say(f"clear {own} {general}.")
        return value, known

    def _mixed_derivative(self, node: Tree) -> tuple[Tree, str]:
        """The derivative of a derivative in another variable."""
        body, variable = node[1], node[2]
        inner, first = body[1], body[2]
        if variable[0] != "v" or variable[1] in self.restricted:
            raise NoScript("a mixed derivative in entries or on a domain")
        name, own = variable[1], variable[1] + "__"
        inner_own, first_own = rename(inner, name, own), rename(first, name, own)
        short = self.normal.canonical(self.normal.derivative(inner_own, first_own))
        function, point = function_text(inner_own, first_own)
        general = self.fresh("G")
        with self.block(f"assert ({general} : forall {own} : R, der {function} {point} {show(short)})."):
            self.say(f"intros {own}.")
            self.prove_derivative(inner_own, first_own, short, function, point)
        return self._of_known(node, rename(short, own, name), general, False)

    def prove_derivative(self, body: Tree, variable: Tree, right: Tree, function: str, point: str) -> None:
        """Prove that the derivative of a smooth function is the right side."""
        value, name = self.normal.derivative(body, variable), self.fresh("DD")
        with self.block(f"assert ({name} : der {function} {point} {show(value)})."):
            self.say("der_by.")
        self.say(f"apply (d_val _ _ _ _ {name}); clear {name}; reals.")
        self.equation(value, right)


def unnamed(node: Any, bound: tuple[tuple[str, int], ...] = (), depth: int = 0) -> Any:
    """The tree with bound indices numbered, so that trees that differ in their names alone are equal."""
    if not isinstance(node, tuple):
        return node
    if node[:1] in (("sum",), ("prod",)):
        return (node[0], node[1], unnamed(node[3], ((node[2], depth), *bound), depth + 1))
    if node[:1] == ("i",):
        level = next((level for name, level in bound if name == node[1]), None)
        return node if level is None else ("bound", level)
    return tuple(unnamed(part, bound, depth) for part in node)


def _has_sum(node: Tree) -> bool:
    """Whether terms are added in a rational expression."""
    if node[0] in ("+", "*"):
        return node[0] == "+" or any(map(_has_sum, node[1]))
    return node[0] in ("neg", "inv", "^") and _has_sum(node[1])


def _factors(node: Tree) -> list[Tree]:
    if node[0] == "*":
        return [factor for part in node[1] for factor in _factors(part)]
    return _factors(node[1]) if node[0] in ("neg", "^") else [node]

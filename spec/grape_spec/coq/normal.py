"""The normal form of terms, which scripts steer by, and what derivatives are (untrusted: Coq checks each step).

A normal form maps monomials to rational coefficients; a monomial is a tuple of (atom, exponent). Sums of any length are
atoms once constants are taken out, deltas contracted and inner sums put in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import isqrt
from typing import Any, TypeAlias

from grape_spec.coq.entries import EntrySlope
from grape_spec.coq.terms import ONE, ZERO, NoScript, Tree, free, index_text, number_of, put, simple_index, sub
from grape_spec.coq.texts import show, split_point

Monomial: TypeAlias = tuple[tuple[str, int], ...]
Form: TypeAlias = dict[Monomial, Fraction]

#: What becomes of the sum of one term: ("Cnt", c), ("Pick", c, k, i, rest, rest at k), ("Lin", c, i, term, hypothesis)
#: or ("Swap", c, i, factor, inner sum, the sums swapped).
Item: TypeAlias = tuple[Any, ...]

_TOO_LARGE = 4000


def constant(q: Any) -> Form:
    return {(): Fraction(q)} if q else {}


def add(*forms: Form) -> Form:
    total: Form = {}
    for form in forms:
        for monomial, c in form.items():
            new = total.get(monomial, Fraction(0)) + c
            if new:
                total[monomial] = new
            else:
                total.pop(monomial, None)
    return total


class Normal:
    """The normal forms of one proof: its atoms, and the sums whose value its hypotheses give."""

    def __init__(self) -> None:
        self.atoms: dict[str, Tree] = {}
        #: Key of a sum, and its value with the hypothesis that says so.
        self.totals: dict[str, tuple[Form, str]] = {}
        #: Sums that are known for every value of an index: the sum, the index, the value, the hypothesis.
        self.totals_of_rows: list[tuple[Tree, str, Form, str]] = []
        #: Family whose rows sum to one, with the size of a row and the hypothesis.
        self.rows: dict[str, tuple[str, str]] = {}
        #: Families whose entries are 0 or 1.
        self.masks: set[str] = set()
        #: Derivatives that facts give, by function and variable.
        self.slopes: dict[tuple[Tree, Tree], Tree] = {}
        #: The same for terms of sums, in an entry of a family.
        self.entry_slopes: list[EntrySlope] = []
        self._roots: dict[str, Tree] = {}
        self._negative: set[str] = set()
        self._forms: dict[Tree, Form] = {}

    def forget(self) -> None:
        """Normal forms change once another total is known."""
        self._forms.clear()

    # -- monomials ---------------------------------------------------------------------------------------------

    def atom(self, node: Tree) -> str:
        key = show(node)
        self.atoms[key] = node
        return key

    def mono(self, node: Tree, exponent: int = 1) -> Form:
        return {((self.atom(node), exponent),): Fraction(1)}

    def _joined(self, left: Monomial, right: Monomial) -> Monomial:
        powers = dict(left)
        for key, exponent in right:
            new = powers.get(key, 0) + exponent
            if new > 1 and self._is_its_square(self.atoms[key]):
                new = 1
            if new:
                powers[key] = new
            else:
                powers.pop(key, None)
        return tuple(sorted(powers.items()))

    def _is_its_square(self, atom: Tree) -> bool:
        return atom[0] == "delta" or (atom[0] == "ap" and atom[1] in self.masks)

    def times(self, left: Form, right: Form) -> Form:
        found: Form = {}
        for m, a in left.items():
            for n, b in right.items():
                monomial = self._joined(m, n)
                c = found.get(monomial, Fraction(0)) + a * b
                if c:
                    found[monomial] = c
                else:
                    found.pop(monomial, None)
        if len(found) > _TOO_LARGE:
            raise NoScript("an expression is too large")
        return self._without_squares_of_roots(found)

    def _is_square_of_root(self, key: str, exponent: int) -> bool:
        return abs(exponent) >= 2 and self.atoms[key][0] == "sqrt"

    def _without_squares_of_roots(self, form: Form) -> Form:
        if not any(self._is_square_of_root(*power) for monomial in form for power in monomial):
            return form
        found: Form = {}
        for monomial, c in form.items():
            part: Form = {tuple(power for power in monomial if not self._is_square_of_root(*power)): c}
            for key, exponent in monomial:
                if self._is_square_of_root(key, exponent):
                    inside = self.of(self.atoms[key][1])
                    for _ in range(abs(exponent) // 2):
                        part = self.times(part, inside if exponent > 0 else self.inverse(inside))
                    if exponent % 2:
                        part = self.times(part, {((key, 1 if exponent > 0 else -1),): Fraction(1)})
            found = add(found, part)
        return found

    def content(self, form: Form) -> tuple[Fraction, Monomial, Form]:
        """A form as number · monomial · polynomial without a common factor."""
        keys = {key for monomial in form for key, _ in monomial}
        low = {key: min(dict(monomial).get(key, 0) for monomial in form) for key in keys}
        common = tuple(sorted((key, exponent) for key, exponent in low.items() if exponent))
        inverse = tuple((key, -exponent) for key, exponent in common)
        primitive = {self._joined(monomial, inverse): c for monomial, c in form.items()}
        lead = primitive[max(primitive, key=lambda monomial: (len(monomial), monomial))]
        own = {monomial: c / lead for monomial, c in primitive.items()}
        if self._negative and show(self.back(own)) in self._negative:
            lead, own = -lead, {monomial: -c for monomial, c in own.items()}
        return lead, common, own

    def assume_positive(self, node: Tree) -> None:
        """Take note of a term that is positive: it stands for its equals under roots, and its factor has its sign."""
        form = self.of(node)
        if len(form) > 1:
            lead, common, primitive = self.content(form)
            if lead < 0 and all(self.atoms[key][0] == "inr" for key, _ in common):
                self._negative.add(show(self.back(primitive)))
                self.forget()
        self.under_root(node)

    def inverse(self, form: Form) -> Form:
        if not form:
            raise NoScript("a division by zero")
        if len(form) == 1:
            ((monomial, c),) = form.items()
            return {tuple((key, -exponent) for key, exponent in monomial): 1 / c}
        c, monomial, primitive = self.content(form)
        own = tuple((key, -exponent) for key, exponent in monomial)
        plain = self.of(self.back(primitive))
        if plain != primitive:
            return self.times({own: 1 / c}, self.inverse(plain))
        return {self._joined(own, ((self.atom(self.back(primitive)), -1),)): 1 / c}

    # -- roots -------------------------------------------------------------------------------------------------

    def _factored(self, form: Form) -> tuple[Fraction, Monomial]:
        """A form as a number times powers of atoms, what is left as one of them."""
        if len(form) == 1:
            ((monomial, c),) = form.items()
            return c, monomial
        c, monomial, primitive = self.content(form)
        return c, self._joined(monomial, ((self.atom(self.back(primitive)), 1),))

    def _quotient(self, node: Tree, others: Iterable[Tree]) -> tuple[Fraction, Monomial] | None:
        """A term over others, as a number times powers of atoms."""
        forms = [self.of(part) for part in (node, *others)]
        if not all(forms):
            return None
        (number, powers), *divisors = map(self._factored, forms)
        for other, below in divisors:
            number, powers = number / other, self._joined(powers, tuple((key, -exponent) for key, exponent in below))
        return number, powers

    def ratio(self, node: Tree, other: Tree) -> Tree | None:
        """A term over another, as a product."""
        found = self._quotient(node, [other])
        return self.term(found[1], found[0]) if found is not None else None

    def ratio_of_roots(self, root: Tree, others: tuple[Tree, ...]) -> Tree | None:
        """The rational factor, but for its sign, by which a root is a multiple of the product of others."""
        found = self._quotient(root[1], [other[1] for other in others])
        number = _square_root(found[0]) if found is not None else None
        if found is None or number is None or any(exponent % 2 for _, exponent in found[1]):
            return None
        return self.term(tuple((key, exponent // 2) for key, exponent in found[1]), number)

    def solved(self, root: Tree, above: Tree, below: Tree) -> tuple[Tree, Tree, Tree] | None:
        """The equation root² · below = above, solved for a product that holds an atom which no other product does.

        The last of the three is the number by which it is multiplied.
        """
        square = ((self.atom(root), 2),)
        left = {self._joined(monomial, square): c for monomial, c in self._expanded(below).items()}
        form = add(left, {monomial: -c for monomial, c in self._expanded(above).items()})
        places: dict[str, list[tuple[Monomial, int]]] = {}
        for monomial in form:
            for key, exponent in monomial:
                places.setdefault(key, []).append((monomial, exponent))
        alone = [own[0][0] for own in places.values() if len(own) == 1 and (own[0][1] == 1 or own[0][0] == square)]
        if not alone:
            return None
        chosen = min(alone, key=lambda monomial: (square[0] not in monomial, len(monomial), monomial))
        rest = {monomial: -c / form[chosen] for monomial, c in form.items() if monomial != chosen}
        return self.term(chosen), self.back(rest), ("q", 1 / form[chosen])

    def _expanded(self, node: Tree) -> Form:
        """A polynomial multiplied out; roots stay as they are."""
        return self._product(node[1] if node[0] == "*" else [node])

    # -- back to trees -----------------------------------------------------------------------------------------

    def back(self, form: Form) -> Tree:
        """A tree for a normal form."""
        ordered = sorted(form.items(), key=lambda item: (len(item[0]), item[0]))
        terms = [self.term(monomial, c) for monomial, c in ordered]
        if not terms:
            return ZERO
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def _power(self, key: str, exponent: int) -> Tree:
        base = self.atoms[key]
        raised = base if abs(exponent) == 1 else ("^", base, abs(exponent))
        return raised if exponent > 0 else ("inv", raised)

    def term(self, monomial: Monomial, c: Fraction = Fraction(1)) -> Tree:
        """A tree for one term."""
        factors = [self._power(*power) for power in monomial]
        if c == -1 and factors:
            return ("neg", factors[0] if len(factors) == 1 else ("*", tuple(factors)))
        if c != 1 or not factors:
            factors = [("q", c), *factors]
        return factors[0] if len(factors) == 1 else ("*", tuple(factors))

    def canonical(self, node: Tree) -> Tree:
        return self.back(self.of(node))

    # -- the normal form ---------------------------------------------------------------------------------------

    def of(self, node: Tree) -> Form:
        """The normal form of a tree."""
        if node not in self._forms:
            self._forms[node] = self._of(node)
        return self._forms[node]

    def _of(self, node: Tree) -> Form:  # noqa: PLR0912 - a branch for each kind of node
        kind = node[0]
        simple = {"exp": self._of_exp, "ln": self._of_ln, "prod": self._of_product, "delta": self._of_delta}
        if kind in simple:
            return simple[kind](node)
        if kind == "q":
            return constant(node[1])
        if kind == "inr":
            return self._of_number(node[1])
        if kind == "ap":
            return self.mono(("ap", node[1], tuple(map(simple_index, node[2]))))
        if kind == "neg":
            return {monomial: -c for monomial, c in self.of(node[1]).items()}
        if kind == "+":
            return add(*map(self.of, node[1]))
        if kind in ("*", "^"):
            return self._product(node[1] if kind == "*" else [node[1]] * node[2])
        if kind == "inv":
            return self.inverse(self.of(node[1]))
        if kind == "sqrt":
            return self.mono(("sqrt", self.under_root(node[1])))
        if kind == "abs":
            return self.mono((kind, self.back(self.with_sign(node[1]))))
        if kind in ("min", "max"):
            return self.mono((kind, *sorted(map(self.canonical, node[1:]), key=_numbers_first)))
        if kind in ("fn", "dfn"):
            arguments = (simple_index(a) if a[0] in ("i", "k", "n+", "ip") else self.canonical(a) for a in node[2])
            return self.mono((kind, node[1], tuple(arguments)))
        if kind == "sum":
            return self.sum(node[1], node[2], self.of(node[3]))[0]
        if kind == "diff":
            taken = self.derivative(node[1], node[2])
            return self.of(taken) if taken != node else self.mono(node)
        if kind == "at":
            return self.of(self.derivative_at(node))
        if kind in ("v", "pw", "rec"):
            return self.mono(node)
        raise NoScript(f"a term of kind {kind}")

    def with_sign(self, node: Tree) -> Form:
        """The normal form of a term or of what is opposite to it, whose first coefficient is not negative."""
        form = self.of(node)
        first = form[min(form, key=lambda monomial: (len(monomial), monomial))] if form else 0
        return {monomial: -c for monomial, c in form.items()} if first < 0 else form

    def _of_number(self, index: Tree) -> Form:
        """A natural number as a real one: INR (1 + n) is 1 + INR n."""
        index = simple_index(index)
        if index[0] == "k":
            return constant(index[1])
        if index[0] != "n+":
            return self.mono(("inr", index))
        more, less = (add(*(self.of(("inr", part)) for part in parts)) for parts in index[1:])
        return add(more, {monomial: -c for monomial, c in less.items()})

    def under_root(self, node: Tree) -> Tree:
        """What stands for an argument of a root: as it was first seen, since multiplied out it hides its sign."""
        return self._roots.setdefault(show(self.canonical(node)), node)

    def _product(self, factors: Iterable[Tree]) -> Form:
        found = constant(1)
        for factor in factors:
            found = self.times(found, self.of(factor))
        return found

    def _of_product(self, node: Tree) -> Form:
        bound = fresh_bound(node[3], node[2])
        return self.mono(("prod", node[1], bound, self.canonical(sub(node[3], node[2], ("i", bound)))))

    def _of_delta(self, node: Tree) -> Form:
        i, j = sorted(node[1:], key=lambda index: (index[0], str(index[1])))
        if i == j:
            return constant(1)
        if i[0] == j[0] == "k":
            return {}
        return self.mono(("delta", i, j))

    def _of_exp(self, node: Tree) -> Form:
        found = constant(1)
        for monomial, c in self.of(node[1]).items():
            power, share = c.numerator, Fraction(1, c.denominator)
            key = monomial[0][0] if len(monomial) == 1 and monomial[0][1] == 1 else ""
            if key and self.atoms[key][0] == "ln" and c.denominator == 1:
                inside = self.atoms[key][1]
                form = self.mono(inside) if inside[0] == "+" else self.of(inside)
                for _ in range(abs(power)):
                    found = self.times(found, form if power > 0 else self.inverse(form))
            else:
                inside = ("q", share) if monomial == () else self.term(monomial, share)
                found = self.times(found, self.mono(("exp", inside), power))
        return found

    def logarithm(self, form: Form) -> tuple[Fraction, Monomial, Form | None]:
        """A form as a positive number · monomial · polynomial, for its logarithm."""
        if not form:
            raise NoScript("the logarithm of zero")
        if len(form) == 1:
            ((monomial, c),) = form.items()
            return *self._with_its_sign(c, monomial), None
        number, monomial, primitive = self.content(form)
        plain = self.of(self.back(primitive))
        if plain != primitive:
            own, others, rest = self.logarithm(plain)
            return *self._with_its_sign(number * own, self._joined(monomial, others)), rest
        if number < 0:
            return -number, monomial, {m: -c for m, c in primitive.items()}
        return number, monomial, primitive

    def _with_its_sign(self, c: Fraction, monomial: Monomial) -> tuple[Fraction, Monomial]:
        """A negative number times a polynomial that stands for a positive one is a positive one times that."""
        for n, (key, exponent) in enumerate(monomial):
            if c < 0 and exponent % 2 and self.atoms[key][0] == "+":
                turned = self.atom(self.back({m: -own for m, own in self.of(self.atoms[key]).items()}))
                return -c, tuple(sorted((*monomial[:n], (turned, exponent), *monomial[n + 1 :])))
        return c, monomial

    def _of_ln(self, node: Tree) -> Form:
        number, monomial, primitive = self.logarithm(self.of(node[1]))
        found: Form = {}
        for value, sign in ((abs(number).numerator, 1), (number.denominator, -1)):
            if value != 1:
                found = add(found, {((self.atom(("ln", ("q", Fraction(value)))), 1),): Fraction(sign)})
        for key, exponent in monomial:
            inside = self.atoms[key]
            if inside[0] == "exp":
                found = add(found, {m: c * exponent for m, c in self.of(inside[1]).items()})
            elif inside[0] == "prod":
                total = self.of(("sum", inside[1], inside[2], ("ln", inside[3])))
                found = add(found, self.times(constant(exponent), total))
            elif inside[0] == "sqrt":
                found = add(found, self.times(constant(Fraction(exponent, 2)), self.of(("ln", inside[1]))))
            else:
                found = add(found, {((self.atom(("ln", inside)), 1),): Fraction(exponent)})
        if primitive is not None:
            found = add(found, self.mono(("ln", self.back(primitive))))
        return found

    # -- sums --------------------------------------------------------------------------------------------------

    def sum(self, size: str, i: str, body: Form) -> tuple[Form, list[Item]]:
        """The normal form of a sum, and what becomes of each of its terms."""
        found: Form = {}
        items: list[Item] = []
        for monomial, c in sorted(body.items()):
            inside = tuple(power for power in monomial if i in free(self.atoms[power[0]]))
            outside: Form = {tuple(power for power in monomial if power not in inside): c}
            value, item = self._sum_of_term(size, i, inside, outside)
            found = add(found, self.times(outside, value))
            items.append(item)
        return found, items

    def _sum_of_term(self, size: str, i: str, inside: Monomial, outside: Form) -> tuple[Form, Item]:
        if not inside:
            number = number_of(size)
            count = constant(number) if number else self.mono(("inr", ("i", size)))
            return count, ("Cnt", outside)
        deltas = (power for power in inside if self.atoms[power[0]][0] == "delta" and power[1] > 0)
        chosen = next(deltas, None)
        if chosen is not None and any(index != ("i", i) for index in self.atoms[chosen[0]][1:]):
            other = next(index for index in self.atoms[chosen[0]][1:] if index != ("i", i))
            rest = self.term(tuple(power for power in inside if power != chosen))
            there = sub(rest, i, other)
            return self.of(there), ("Pick", outside, other, i, rest, there)
        swapped = self._swapped(size, i, inside)
        if swapped is not None:
            factor, inner, outer = swapped
            return self.of(outer), ("Swap", outside, i, factor, inner, outer)
        term = self.term(inside)
        bound = fresh_bound(term, i)
        term = sub(term, i, ("i", bound))
        term = self.back(self.of(term)) if term[0] == "*" else term
        node = ("sum", size, bound, term)
        known = self.total(node)
        return (known[0] if known else self.mono(node)), ("Lin", outside, bound, term, known[1] if known else None)

    def _swapped(self, size: str, i: str, inside: Monomial) -> tuple[Tree, Tree, Tree] | None:
        """A factor and an inner sum, and the two sums in the other order, where that order is the fixed one."""
        sums = [power for power in inside if self.atoms[power[0]][0] == "sum"]
        many = sum(exponent for _, exponent in sums) >= 2 and all(exponent > 0 for _, exponent in sums)
        if not many and not (len(sums) == 1 and sums[0][1] == 1):
            return None
        _, inner_size, j, body = self.atoms[sums[0][0]]
        if j == i or any(j in free(self.atoms[key]) for key, _ in inside):
            body, j = sub(body, j, ("i", j + "_")), j + "_"
        (key, exponent) = sums[0]
        rest = tuple((k, e - 1 if k == key else e) for k, e in inside if k != key or exponent > 1)
        factor = self.term(rest)
        joint = body if factor == ONE else ("*", (factor, body))
        swapped = ("sum", inner_size, j, ("sum", size, i, joint))
        if inner_size != size:
            goes, many = self._rank(inner_size) < self._rank(size), False
        else:
            goes = self._unnamed(swapped) < self._unnamed(("sum", size, i, ("sum", inner_size, j, joint)))
        return (factor, ("sum", inner_size, j, body), swapped) if goes or many else None

    def _rank(self, size: str) -> tuple[bool, str]:
        return size in {of for of, _ in self.rows.values()}, size

    def _unnamed(self, node: Tree) -> str:
        """A text that does not depend on the names of what is bound."""
        _, _, i, (_, _, j, body) = node
        return show(self.canonical(sub(sub(body, i, ("i", "zz1")), j, ("i", "zz2"))))

    def total(self, node: Tree) -> tuple[Form, str] | None:
        """The value of a sum that the hypotheses give, with a proof of it."""
        _, size, bound, term = node
        key = show(node)
        if key in self.totals:
            return self.totals[key]
        if term[0] == "ap" and term[1] in self.rows and self.rows[term[1]][0] == size and term[2][-1] == ("i", bound):
            hypothesis = self.rows[term[1]][1]
            first = [index_text(index) for index in term[2][:-1]]
            ranges = ["ltac:(rng)"] * len(first)
            pairs = [text for pair in zip(first, ranges, strict=True) for text in pair]
            return constant(1), f"({' '.join([hypothesis, *pairs])})" if first else hypothesis
        for pattern, loose, value, hypothesis in self.totals_of_rows:
            for name in free(node):
                if show(sub(pattern, loose, ("i", name))) == key:
                    self.totals[key] = value, f"({hypothesis} {name} ltac:(rng))"
                    return self.totals[key]
        return None

    # -- derivatives, as the tactic dv takes them --------------------------------------------------------------

    def derivative_at(self, node: Tree) -> Tree:
        """What the derivative at another point is."""
        body, variable, value = split_point(node)
        taken = self.derivative(body, variable)
        return taken if value is None else put(taken, {variable[1]: value})

    def derivative(self, node: Tree, variable: Tree) -> Tree:  # noqa: PLR0912 - a branch for each kind of node
        """The derivative of a tree in a variable or in an entry of a family."""
        if variable[1] not in free(node):
            return ZERO
        if (node, variable) in self.slopes:
            return self.slopes[node, variable]
        for known in self.entry_slopes:
            if (found := known.of(node, variable)) is not None:
                return found

        def d(part: Tree) -> Tree:
            return self.derivative(part, variable)

        kind = node[0]
        if kind == "v":
            return ONE
        if kind == "ap":
            deltas = tuple(("delta", i, j) for i, j in zip(node[2], variable[2], strict=True))
            return deltas[0] if len(deltas) == 1 else ("*", deltas)
        if kind == "neg":
            return ("neg", d(node[1]))
        if kind in ("+", "*"):
            first, last = (node[1][0] if len(node[1]) == 2 else (kind, node[1][:-1])), node[1][-1]
            return ("+", (d(first), d(last))) if kind == "+" else self._of_factors(first, last, variable)
        if kind == "inv":
            return ("*", (("neg", d(node[1])), ("inv", ("*", (node[1], node[1])))))
        if kind == "^":
            below = ("^", node[1], node[2] - 1) if node[2] > 2 else node[1]
            return ("*", (("q", Fraction(node[2])), below, d(node[1])))
        if kind == "exp":
            return ("*", (d(node[1]), node))
        if kind == "ln":
            return ("*", (d(node[1]), ("inv", node[1])))
        if kind == "sqrt":
            return ("*", (d(node[1]), ("inv", ("*", (("q", Fraction(2)), node)))))
        if kind in ("sum", "prod"):
            if node[2] in free(variable):
                bound = node[2] + "'"
                return d((kind, node[1], bound, sub(node[3], node[2], ("i", bound))))
            if kind == "sum":
                return ("sum", node[1], node[2], d(node[3]))
            return ("*", (node, ("sum", node[1], node[2], ("*", (d(node[3]), ("inv", node[3]))))))
        if kind == "fn":
            return ("*", (d(node[2][-1]), ("dfn", node[1], node[2])))
        if kind == "diff":
            return d(self.derivative(node[1], node[2]))
        if kind == "rec":
            return ("diff", node, variable)
        raise NoScript(f"the derivative of a term of kind {kind}")

    def _of_factors(self, first: Tree, last: Tree, variable: Tree) -> Tree:
        varies = [variable[1] in free(part) for part in (first, last)]
        left, right = (self.derivative(part, variable) for part in (first, last))
        if not varies[0]:
            return ("*", (first, right))
        if not varies[1]:
            return ("*", (left, last))
        return ("+", (("*", (left, last)), ("*", (first, right))))


def _numbers_first(node: Tree) -> tuple[bool, str]:
    return node[0] != "q", show(node)


def _square_root(q: Fraction) -> Fraction | None:
    if q <= 0:
        return None
    root = Fraction(isqrt(q.numerator), isqrt(q.denominator))
    return root if root**2 == q else None


def fresh_bound(body: Tree, i: str) -> str:
    """The name of a bound index, by how deep sums nest under it."""
    depth = _height(body)
    while f"i{depth}" in free(body) and f"i{depth}" != i:
        depth += 1
    return f"i{depth}"


def _height(node: Any) -> int:
    if not isinstance(node, tuple):
        return 0
    below = max(map(_height, node), default=0)
    return below + 1 if node[:1] in (("sum",), ("prod",)) else below

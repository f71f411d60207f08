"""Scripts for inequalities: that what is given and the negation of the goal contradict each other (untrusted).

Each inequality that is known is a polynomial that is not negative. A linear program finds products of them with
numbers, with each other and with what is positive, whose sum is zero although it would have to be positive. Coq is
given the products and checks that they add up to zero: it searches for nothing. Minima, maxima and absolute values
are taken case by case.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import sympy as sp
import z3

from grape_spec.coq.normal import Form, Monomial, Normal, add
from grape_spec.coq.printer import coq_name
from grape_spec.coq.script import Script, unnamed
from grape_spec.coq.terms import ONE, ZERO, Tree, has_derivative, index_text, product_of, signed_factors, tree
from grape_spec.coq.texts import rational, show
from grape_spec.language.domains import Interval, SimplexDomain, SmoothDomain
from grape_spec.language.symbols import DECLARATIONS, lowest_of

SIGNS = {"=": "(@eq R)", "<=": "Rle", "<": "Rlt", ">=": "Rge", ">": "Rgt", "<>": "(fun a b => a <> b)"}

_FLIPPED = {"<": ">", "<=": ">="}
_CASES = {"min", "max", "abs"}
#: How far the search goes: cases within cases, terms of a linear program, its rounds, the degree of a multiplier.
_MOST_CASES, _MOST_TERMS, _ROUNDS, _DEGREE = 6, 1500, 3, 8
#: Steps of a linear program, some seconds; no clock, so that a busy machine finds what an idle one does.
_EFFORT = 5_000_000


class Unfound(Exception):
    """No contradiction is found; the lines that were written are of no use."""


# -- relations in normal form ------------------------------------------------------------------------------------


def normalised(script: Script, relation: Any, hypothesis: str) -> tuple[str, Any]:
    """From a hypothesis that is a relation, the same with both sides in normal form: its name and the relation."""
    sign, left, right = relation
    name = script.fresh("N")
    new = [script.canonical(side) for side in (left, right)]
    with script.block(f"assert ({name} : {show(new[0])} {sign} {show(new[1])})."):
        for own, old, now in (("EL", left, new[0]), ("ER", right, new[1])):
            with script.block(f"assert ({own} : {show(now)} = {show(old)})."):
                script.say("symmetry.")
                script.to_canonical(old)
        script.say(f"exact (rel_conv {SIGNS[sign]} _ _ _ _ (eq_sym EL) (eq_sym ER) {hypothesis}).")
    if hypothesis.startswith("F"):
        script.say(f"clear {hypothesis}.")
    if sign == ">" and right == ZERO and new[0][0] not in ("v", "ap", "sum"):
        above, below = script.over_common_divisor(script.normal.of(left))
        script.say(f"above_sign {show(above)} ({show(new[0])}) ({show(below)}) {name}.")
    return name, (sign, *new)


def sides_in_normal_form(script: Script, relation: Any) -> Any:
    """The goal, a relation, with both sides in normal form; gives the new relation."""
    sign, left, right = relation
    new = [script.canonical(side) for side in (left, right)]
    if unnamed(left) == unnamed(new[0]) and unnamed(right) == unnamed(new[1]):
        return relation
    for own, old, now in (("EL", left, new[0]), ("ER", right, new[1])):
        with script.block(f"assert ({own} : {show(old)} = {show(now)})."):
            script.to_canonical(old)
    script.say(f"apply (rel_conv {SIGNS[sign]} _ _ _ _ (eq_sym EL) (eq_sym ER)); clear EL ER.")
    return (sign, *new)


def normalise_goal(script: Script, relation: Any) -> None:
    """The goal, a relation, with both sides in normal form and without factors of both that are not negative."""
    sides_in_normal_form(script, relation)
    sign, left, right = relation
    if sign in ("<=", ">="):
        _without_common_factors(script, sign, script.canonical(left), script.canonical(right))


def _without_common_factors(script: Script, sign: str, left: Tree, right: Tree) -> None:
    """Both sides without the factors that they share, where these are not negative."""
    (minus_left, own), (minus_right, others) = signed_factors(left), signed_factors(right)
    common = []
    for factor in own:
        if factor in others and factor[0] != "q":
            others = [*others[: others.index(factor)], *others[others.index(factor) + 1 :]]
            common.append(factor)
    if not common:
        return
    for factor in common:
        own = [*own[: own.index(factor)], *own[own.index(factor) + 1 :]]
    kept = (show(product_of(minus_left, own)), show(product_of(minus_right, others)), show(product_of(False, common)))
    lemma = "le_by_factor" if sign == "<=" else "ge_by_factor"
    script.say(f"try (apply ({lemma} _ _ {' '.join(kept)}); [solve [nonneg] | ring | ring | ]).")


def without_root(script: Script, goal: Any) -> Any:
    """A bound on |c / (e + √v)| by a bound on c²; gives the new goal."""
    if goal[0] != "<=" or goal[1][0] != "abs" or goal[1][1][0] != "*" or len(goal[1][1][1]) != 2:
        return goal
    _, left, right = goal
    above, below = left[1][1]
    if below[0] != "inv" or below[1][0] != "+" or len(below[1][1]) != 2 or below[1][1][1][0] != "sqrt":
        return goal
    added, root = below[1][1]
    script.say(f"apply (over_root {' '.join(map(show, (above, added, root, right)))}); [pos | nonneg | nonneg | ].")
    return ("<=", ("^", above, 2), ("*", (("^", right, 2), ("^", root, 2))))


# -- what is known -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A polynomial that is positive, not negative, or zero, and why.

    Arguments:
        proof: of ``0 < text``, ``0 <= text`` or ``text = 0``.
        form: the polynomial.
        sign: ">", ">=" or "=".
    """

    proof: str
    form: Form
    sign: str


@dataclass(frozen=True)
class Term:
    """One term of a contradiction: a number times a monomial that is positive times what is known."""

    number: Fraction
    monomial: Monomial
    known: Known


class Refutation:
    """The search for a contradiction among what is known.

    Arguments:
        script: that the lines are written to.
        positive: the names of symbols, families and functions that are positive.
    """

    def __init__(self, script: Script, positive: frozenset[str]) -> None:
        self.script, self.positive = script, positive
        self.normal: Normal = script.normal
        self._from_zero = {("i", coq_name(thing)) for thing in DECLARATIONS if lowest_of(thing) == 0}

    # -- forms -------------------------------------------------------------------------------------------------

    def form(self, node: Tree) -> Form:
        """The normal form; what stands under a root that occurs is the square of the root."""
        return self.by_roots(self.normal.of(node))

    def by_roots(self, form: Form) -> Form:
        squares = {
            show(node[1]): key
            for key, node in self.normal.atoms.items()
            if node[0] == "sqrt" and node[1][0] in ("v", "ap", "fn", "sum", "inr")
        }
        found: Form = {}
        for monomial, c in form.items():
            powers: dict[str, int] = {}
            for key, exponent in monomial:
                own, times = (squares[key], 2) if key in squares else (key, 1)
                powers[own] = powers.get(own, 0) + times * exponent
            found = add(found, {tuple(sorted((k, e) for k, e in powers.items() if e)): c})
        return found

    def is_positive(self, node: Tree) -> bool:
        """Whether the tactic ``pos`` shows that a tree is positive."""
        kind = node[0]
        if kind == "exp":
            return True
        if kind == "q":
            return bool(node[1] > 0)
        if kind in ("v", "ap", "fn"):
            return node[1] in self.positive
        if kind == "inr":
            return node[1] not in self._from_zero and (node[1][0] == "i" or (node[1][0] == "k" and node[1][1] > 0))
        if kind in ("+", "*"):
            return all(map(self.is_positive, node[1]))
        if kind in ("inv", "^", "sqrt"):
            return self.is_positive(node[1])
        return kind in ("sum", "prod") and self.is_positive(node[3])

    def positive_monomial(self, monomial: Monomial) -> bool:
        return all(self.is_positive(self.normal.atoms[key]) for key, _ in monomial)

    # -- known -------------------------------------------------------------------------------------------------

    def known(self, relation: Any, hypothesis: str) -> list[Known]:
        """What a relation in normal form says, as a hypothesis of Coq."""
        sign, left, right = relation
        if sign == "<>":
            return []
        if sign in _FLIPPED:
            left, right = right, left
        difference = ("+", (left, ("neg", right)))
        form = self.normal.of(difference)
        text, name = show(self.normal.back(form)), self.script.fresh("K")
        lemma = {"=": "known_eq", ">": "known_gt", ">=": "known_ge", "<": "known_lt", "<=": "known_le"}[sign]
        kind = _FLIPPED.get(sign, sign)
        stated = f"{text} = 0" if kind == "=" else f"0 {'<' if kind == '>' else '<='} {text}"
        with self.script.block(f"assert ({name} : {stated})."):
            self.script.say(f"apply ({lemma} _ _ _ {hypothesis}).")
            self.script.equal_polynomials(difference, self.normal.back(form))
        squares = [side for side in (left, right) if kind == "=" and side[0] == "^" and side[2] == 2]
        return [Known(name, self.by_roots(form), kind), *map(self._square, squares)]

    def _square(self, node: Tree) -> Known:
        return Known(f"(pow2_ge_0 {show(node[1])})", self.form(node), ">=")

    def all_known(self, relations: Iterable[tuple[Any, str]]) -> list[Known]:
        return [known for relation, hypothesis in relations for known in self.known(relation, hypothesis)]

    def of_atoms(self, forms: Iterable[Form], taken: set[str]) -> list[Known]:
        """What is known of the atoms of forms beyond that they are positive."""
        found = []
        for key in sorted({key for form in forms for monomial in form for key, _ in monomial} - taken):
            taken.add(key)
            node = self.normal.atoms[key]
            for relation, proof in self._about(node):
                name = self.script.fresh("D")
                self.script.say(f"pose proof {proof} as {name}.")
                found += self.known(relation, name)
        return found

    def _about(self, node: Tree) -> list[tuple[Any, str]]:
        kind = node[0]
        if kind == "sqrt" and not self.is_positive(node):
            return [((">=", node, ZERO), f"(Rle_ge _ _ (sqrt_pos {show(node[1])}))")]
        if kind == "delta":
            bounds = f"(delta_bounds {index_text(node[1])} {index_text(node[2])})"
            less = ("<=", ZERO, ("+", (ONE, ("neg", node))))
            return [(("<=", ZERO, node), f"(proj1 {bounds})"), (less, f"(proj2 {bounds})")]
        if kind == "inr" and node[1] in self._from_zero:
            return [((">=", node, ZERO), f"(Rle_ge _ _ (pos_INR {index_text(node[1])}))")]
        if kind == "inr" and node[1][0] == "i":
            return [(("<=", ONE, node), f"(one_le_INR {index_text(node[1])} ltac:(lia))")]
        if kind in ("v", "ap"):
            return list(self._of_domain(node))
        return []

    def _of_domain(self, node: Tree) -> Iterable[tuple[Any, str]]:
        arguments = "".join(f" {index_text(index)} ltac:(rng)" for index in node[2]) if node[0] == "ap" else ""
        for number, relation in enumerate(of_interval(node[1], node)):
            if relation != ("<", ZERO, node):
                yield relation, f"(H{node[1]}{'_' * number}{arguments})"

    # -- refuting ----------------------------------------------------------------------------------------------

    def refute(self, known: list[Known], goal: Known | None = None) -> None:
        """Write the script that proves False from what is known.

        Raises: Unfound, after which the lines that were written are of no use.
        """
        taken: set[str] = set()
        self._refute([*known, *self.of_atoms(_forms(known, goal), taken)], goal, taken, frozenset())

    def _refute(self, known: list[Known], goal: Known | None, taken: set[str], split: frozenset[str]) -> None:
        key = self._to_split(_forms(known, goal), split)
        terms = self.combination(known, goal, products=False) or (
            self.combination(known, goal, products=True) if key is None else None
        )
        if terms is not None:
            self.write(terms)
        elif len(split) >= _MOST_CASES:
            raise Unfound
        elif key is not None:
            self._in_cases(known, goal, taken, split, key)
        else:
            self._by_delta(known, goal, taken, split)

    def _to_split(self, forms: list[Form], split: frozenset[str]) -> str | None:
        """The longest minimum, maximum or absolute value that is still to be taken case by case."""
        keys = {key for form in forms for monomial in form for key, _ in monomial} - split
        return max((key for key in keys if self.normal.atoms[key][0] in _CASES), key=len, default=None)

    def _in_cases(
        self, known: list[Known], goal: Known | None, taken: set[str], split: frozenset[str], key: str
    ) -> None:
        script, node = self.script, self.normal.atoms[key]
        first, last = (ZERO, node[1]) if node[0] == "abs" else node[1:]
        condition, value = script.fresh("C"), script.fresh("E")
        script.say(f"destruct (Rle_or_lt {show(first)} {show(last)}) as [{condition} | {condition}].")
        for sign, chosen, lemma in _cases_of(node):
            with script.block():
                sides = (first, last) if sign == "<=" else (last, first)
                script.say(f"pose proof ({lemma} {condition}) as {value}.")
                more = self.known((sign, *sides), condition) + self.known(("=", node, chosen), value)
                own = set(taken)
                more += self.of_atoms(_forms(more, None), own)
                self._refute([*known, *more], goal, own, split | {key})

    def _by_delta(self, known: list[Known], goal: Known | None, taken: set[str], split: frozenset[str]) -> None:
        """What is left if a delta is 1, and if it is 0."""
        keys = {key for form in _forms(known, goal) for monomial in form for key, _ in monomial} - split
        key = min((key for key in keys if self.normal.atoms[key][0] == "delta"), default=None)
        if key is None:
            raise Unfound
        node, value = self.normal.atoms[key], self.script.fresh("E")
        self.script.say(f"destruct (delta_cases {' '.join(map(index_text, node[1:]))}) as [{value} | {value}].")
        for number in (ONE, ZERO):
            with self.script.block():
                more = self.known(("=", node, number), value)
                self._refute([*known, *more], goal, set(taken), split | {key})

    # -- the linear program ------------------------------------------------------------------------------------

    def combination(self, known: list[Known], goal: Known | None, *, products: bool) -> list[Term] | None:
        """Terms that are not negative, one of them positive, whose sum is zero."""
        items = [Known("Rlt_0_1", {(): Fraction(1)}, ">"), *known, *([goal] if goal else [])]
        if products:
            items += [_product(a, b) for a, b in combinations(items[1:], 2) if "=" not in (a.sign, b.sign)]
            items += self._squares(items)
        targets = set((goal.form if goal else {}) or {m for k in known for m in k.form})
        identities = self._identities(_forms(known, goal))
        for _ in range(_ROUNDS):
            candidates = self._candidates([*items, *identities], targets)
            found = _solved(candidates)
            if found is not None:
                return [term for term in found if term.known.proof]
            grown = targets | {m for entry, _ in candidates for m in entry}
            if grown == targets or len(grown) > _MOST_TERMS:
                return None
            targets = grown
        return None

    def _identities(self, forms: list[Form]) -> list[Known]:
        """What divides, times its inverse, is one: nothing to prove, since the sum is compared as a fraction."""
        found = []
        for key in sorted({key for form in forms for monomial in form for key, _ in monomial}):
            if self.normal.atoms[key][0] == "+":
                above = {_times(m, ((key, -1),)): c for m, c in self.form(self.normal.atoms[key]).items()}
                found.append(Known("", add(above, {(): Fraction(-1)}), "="))
        return found

    def _squares(self, items: list[Known]) -> list[Known]:
        """Squares of sums and differences of atoms that occur squared."""
        keys = {key for item in items for monomial in item.form for key, e in monomial if e == 2}
        found = []
        for a, b in combinations(sorted(key for key in keys if not self.is_positive(self.normal.atoms[key])), 2):
            for sign, word in ((1, "+"), (-1, "-")):
                mixed = _times(((a, 1),), ((b, 1),))
                form = {((a, 2),): Fraction(1), ((b, 2),): Fraction(1), mixed: Fraction(2 * sign)}
                found.append(Known(f"(pow2_ge_0 ({a} {word} {b}))", form, ">="))
        return found

    def _candidates(self, items: list[Known], targets: set[Monomial]) -> list[tuple[Form, Term]]:
        """What is known times monomials that bring it to what is to be cancelled."""
        found: dict[tuple[int, Monomial], tuple[Form, Term]] = {}
        for number, item in enumerate(items):
            for target in targets:
                for own in item.form:
                    monomial = _times(target, own, -1)
                    if (number, monomial) in found or not self._may_multiply(monomial, item.sign):
                        continue
                    form = {_times(m, monomial): c for m, c in item.form.items()}
                    found[number, monomial] = form, Term(Fraction(1), monomial, item)
                    if len(found) > _MOST_TERMS:
                        return list(found.values())
        return list(found.values())

    def _may_multiply(self, monomial: Monomial, sign: str) -> bool:
        of_sign = (power for power in monomial if sign != "=" or power[1] < 0)
        return sum(abs(e) for _, e in monomial) <= _DEGREE and all(
            self.is_positive(self.normal.atoms[key]) for key, _ in of_sign
        )

    def write(self, terms: list[Term]) -> None:
        """The script of a contradiction."""
        script, names, total = self.script, list[str](), list[Tree]()
        for term in sorted(terms, key=lambda term: term.known.sign != ">"):
            lemma = {">": "term_gt", ">=": "term_ge", "=": "term_eq"}[term.known.sign]
            factor = self.normal.term(term.monomial)
            signs = "" if term.known.sign == "=" else " ltac:(lra) ltac:(pos)"
            of_sign = term.known.proof
            if names and term.known.sign == ">":
                lemma, of_sign = "term_ge", f"(Rlt_le _ _ {of_sign})"
            names.append(script.fresh("T"))
            number = rational(term.number)
            script.say(f"pose proof ({lemma} {number} {show(factor)} _{signs} {of_sign}) as {names[-1]}.")
            total.append(("*", (factor, self.normal.back(term.known.form))))
        proof = names[-1]
        for position, name in reversed(list(enumerate(names[:-1]))):
            lemma = "Rplus_le_le_0_compat" if position else "Rplus_lt_le_0_compat"
            proof = f"({lemma} _ _ {name} {proof})"
        script.say(f"apply (contradicts _ {proof}).")
        script.equal_polynomials(("+", (*total, ZERO)), ZERO)

    # -- goals -------------------------------------------------------------------------------------------------

    def prove(self, goal: Any, known: list[Known]) -> None:
        """Write the script of a goal.

        Raises: Unfound.
        """
        kind, say = goal[0], self.script.say
        if kind == "imp":
            name = self.script.fresh("P")
            say(f"intro {name}.")
            self.prove(goal[2], known + self.assume(goal[1], name))
        elif kind == "iff":
            say("split.")
            for one, other in (goal[1:], goal[:0:-1]):
                with self.script.block():
                    self.prove(("imp", one, other), known)
        elif kind == "and":
            for part in goal[1][:-1]:
                say("split.")
                with self.script.block():
                    self.prove(part, known)
            self.prove(goal[1][-1], known)
        elif kind in SIGNS:
            relation = sides_in_normal_form(self.script, goal)
            for side in relation[1:]:
                self.normal.of(side)  # the roots in the goal are seen before squares of roots are
            self._prove_relation(relation, [replace(k, form=self.by_roots(k.form)) for k in known])
        else:
            raise Unfound

    def assume(self, condition: Any, hypothesis: str) -> list[Known]:
        """What a hypothesis says."""
        if condition[0] == "and":
            found, last = [], hypothesis
            for part in condition[1][:-1]:
                name, rest = self.script.fresh("P"), self.script.fresh("P")
                self.script.say(f"destruct {last} as [{name} {rest}].")
                found += self.assume(part, name)
                last = rest
            return found + self.assume(condition[1][-1], last)
        if condition[0] not in SIGNS or condition[0] == "<>" or has_derivative(condition):
            return []
        name, relation = normalised(self.script, condition, hypothesis)
        return self.known(relation, name)

    def _prove_relation(self, goal: Any, known: list[Known]) -> None:
        sign, left, right = goal
        say, name = self.script.say, self.script.fresh("G")
        if sign == "=":
            if self.normal.of(left) == self.normal.of(right):
                self.script.equation(left, right)
                return
            say("apply Rle_antisym.")
            for one, other in ((left, right), (right, left)):
                with self.script.block():
                    self._prove_relation(("<=", one, other), known)
            return
        lemma, negated = {
            ">=": ("Rnot_lt_ge", ("<", left, right)), "<=": ("Rnot_lt_le", ("<", right, left)),
            ">": ("Rnot_le_gt", ("<=", left, right)), "<": ("Rnot_le_lt", ("<=", right, left)),
            "<>": ("", ("=", left, right)),
        }[sign]  # fmt: skip
        say(f"{f'apply {lemma}; ' if lemma else ''}intro {name}.")
        self.refute(known, *self.known(negated, name))


def _forms(known: Iterable[Known], goal: Known | None) -> list[Form]:
    return [entry.form for entry in (*known, *([goal] if goal else []))]


def _times(left: Monomial, right: Monomial, sign: int = 1) -> Monomial:
    powers = dict(left)
    for key, exponent in right:
        powers[key] = powers.get(key, 0) + sign * exponent
    return tuple(sorted((key, exponent) for key, exponent in powers.items() if exponent))


def _product(a: Known, b: Known) -> Known:
    form: Form = {}
    for m, c in a.form.items():
        for n, d in b.form.items():
            form = add(form, {_times(m, n): c * d})
    strict = a.sign == b.sign == ">"
    proofs = [k.proof if strict or k.sign == ">=" else f"(Rlt_le _ _ {k.proof})" for k in (a, b)]
    lemma = "Rmult_lt_0_compat" if strict else "Rmult_le_pos"
    return Known(f"({lemma} _ _ {' '.join(proofs)})", form, ">" if strict else ">=")


def _cases_of(node: Tree) -> list[tuple[str, Tree, str]]:
    """The two cases of a minimum, maximum or absolute value: the sign between its parts, its value, the lemma."""
    if node[0] == "abs":
        return [("<=", node[1], "Rabs_pos_eq _"), ("<", ("neg", node[1]), "Rabs_left _")]
    first, last = node[1:]
    if node[0] == "min":
        return [("<=", first, "Rmin_left _ _"), ("<", last, "min_right _ _")]
    return [("<=", last, "Rmax_right _ _"), ("<", first, "max_left _ _")]


def _solved(candidates: list[tuple[Form, Term]]) -> list[Term] | None:
    """The terms of a contradiction with their numbers, from a linear program."""
    own = z3.Context()  # scripts are written in several threads, which may not share one
    numbers = [z3.Real(f"c{n}", own) for n in range(len(candidates))]
    columns: dict[Monomial, list[Any]] = {}
    for number, (form, _) in zip(numbers, candidates, strict=True):
        for monomial, c in form.items():
            columns.setdefault(monomial, []).append(number * z3.Q(c.numerator, c.denominator, own))
    solver = z3.SimpleSolver(ctx=own)
    solver.set("rlimit", _EFFORT)
    solver.set("ctrl_c", False)  # its handlers of the signal, set and reset by several threads, would be left in place
    solver.add(*(z3.Sum(column) == 0 for column in columns.values()))
    solver.add(*(c >= 0 for c, (_, term) in zip(numbers, candidates, strict=True) if term.known.sign != "="))
    strict = [c for c, (_, term) in zip(numbers, candidates, strict=True) if term.known.sign == ">"]
    solver.add(z3.Sum(strict) >= 1)
    if solver.check() != z3.sat:
        return None
    model = solver.model()
    values = (model.eval(number, model_completion=True).as_fraction() for number in numbers)
    return [replace(term, number=Fraction(value)) for value, (_, term) in zip(values, candidates, strict=True) if value]


def positive_names() -> frozenset[str]:
    """The names of the symbols, families and functions whose domain makes them positive."""
    found = {coq_name(thing) for thing, entry in DECLARATIONS.items() if _is_positive(thing, entry.domain)}
    return frozenset(found)


def _is_positive(thing: Any, domain: Any) -> bool:
    if isinstance(domain, Interval):
        at_zero = domain.low == 0 and not domain.low_closed
        return at_zero or (isinstance(thing, sp.Symbol) and domain.low is not None and domain.low > 0)
    return isinstance(domain, SimplexDomain) or (isinstance(domain, SmoothDomain) and domain.positive)


def of_interval(name: str, node: Tree) -> list[Any]:
    """What the domain of a symbol or family says of a value, if it is an interval."""
    domain = next((entry.domain for thing, entry in DECLARATIONS.items() if coq_name(thing) == name), None)
    if not isinstance(domain, Interval):
        return []
    ends = ((domain.low, domain.low_closed, True), (domain.high, domain.high_closed, False))
    return [
        (
            "<=" if closed else "<",
            *((tree(sp.Rational(str(end))), node) if low else (node, tree(sp.Rational(str(end))))),
        )
        for end, closed, low in ends
        if end is not None
    ]

"""The likeliest mistakes of a first claim are answered in one line that says what to write instead."""

import re

import pytest
import sympy as sp
from grape_spec.language import (
    Apply,
    Diff,
    Mask,
    Open,
    Positive,
    Real,
    at_least,
    cases,
    claim,
    define,
    equals,
    family,
    function,
    greater,
    holds,
    index,
    recursive,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.registry import check_registry
from grape_spec.proof.examine import examine
from grape_spec.proof.prove import prove_claim
from grape_spec.proof.rules import algebra, chain, fact, rewrite, smt, step
from sympy import Lambda, gamma, log, oo

#: What goes wrong, how it is written, and words of the answer.
MISTAKES = {
    "an undeclared symbol": (lambda w: entered(equals(sp.Symbol("beta"), w.x)), "use what symbol() returns"),
    "a symbol of the same name": (
        lambda w: entered(equals(sp.Symbol("t_x"), 1)), "not declared, or not with these assumptions",
    ),
    "a float": (lambda w: entered(equals(w.x, 0.5 * w.y)), "got the floating-point number 0.5: write Rational(1, 2)"),
    "a float of many digits": (lambda w: entered(equals(w.x, 0.1)), "write Rational(1, 10)"),
    "a float that is whole": (lambda w: entered(equals(w.x, 2.0)), "got the floating-point number 2: write 2"),
    "a missing index": (lambda w: entered(equals(w.u, w.x)), "stands without an index: write t_u[i]"),
    "a missing second index": (lambda w: entered(equals(w.table[w.i], w.x)), "has 1 indices, expected 2"),
    "an index that is no whole number": (lambda w: entered(equals(w.u[w.x], 1)), "expected an index or a whole number"),
    "too many arguments": (lambda w: shape(w)(1, 2, 3), "got 3 arguments, expected at most 2: t_x, t_y"),
    "too few arguments": (lambda w: entered(equals(Apply(shape(w).id, w.x), 1)), "got 1 arguments, expected 2"),
    "an argument under a wrong name": (lambda w: shape(w)(z=1), "got an argument 'z', expected one of t_x, t_y"),
    "a number for a family": (lambda w: entered(equals(total(w)(w.x), 1)), "expected a family, or a Lambda of indices"),
    "a family over another axis": (
        lambda w: entered(equals(total(w)(Lambda(w.s, w.table[w.i, w.s])), 1)), "over t_rows",
    ),
    "a real number for a size": (lambda w: family("t_w", Real, w.x, text=""), "expected a symbol of domain Size"),
    "a domain forgotten": (lambda w: symbol("t_beta", "the strength"), "got the domain the strength, expected Real"),
    "a domain without its brackets": (lambda w: symbol("t_beta", Mask, "the strength"), "got the domain Mask"),
    "a text forgotten": (lambda w: symbol("t_beta", Positive), "text: got nothing, expected a few words"),
    "a function with the domain of a number": (lambda w: function("t_g", Real, ""), "expected Smooth"),
    "an empty domain": (lambda w: Open(2, 1), "got the interval from 2 to 1, expected low < high"),
    "a name that is taken": (lambda w: symbol("t_x", Real, ""), "import the existing one"),
    "a name that is no word": (lambda w: symbol("log pi", Real, ""), "expected letters, digits and underscores"),
    "a sum over a number": (lambda w: sum_over(w.x, w.x), "expected one declared with index()"),
    "a sum over a range of its own": (
        lambda w: entered(equals(sp.Sum(w.u[w.i], (w.i, 1, w.rows - 1)), 1)), "write sum_over(…, t_i)",
    ),
    "an id without a dot": (lambda w: entered(equals(w.x, w.y), id="simpo"), "lower-case words joined by dots"),
    "an id that is no text": (lambda w: entered(equals(w.x, w.y), id=7), "lower-case words joined by dots"),
    "an id that is taken": (lambda w: (entered(equals(w.x, w.y)), entered(equals(w.x, 1))), "is taken: choose another"),
    "an unknown use": (lambda w: entered(equals(w.x, w.y), uses=["ppo.ratio.gradiant"]), "the nearest: ppo.ratio"),
    "a use that is no list": (lambda w: entered(equals(w.x, w.y), uses="ppo.ratio"), "expected a list: uses=[…]"),
    "a circle of uses": (
        lambda w: entered(equals(w.x, w.y), by=rewrite("t.first")), "expected one of the earlier parts of t.first",
    ),
    "a wrong part of a fact": (
        lambda w: entered(greater(w.x, 0), by=smt(given=[fact("ppo.ratio.gradient", part="slope")])),
        "uses the part 'slope', expected one of the parts of ppo.ratio.gradient",
    ),
    "a wrong name in a fact": (
        lambda w: entered(greater(w.x, 0), by=smt(given=[fact("ppo.ratio.gradient", t_x=w.y)])),
        "binds 't_x' in ppo.ratio.gradient, expected one of its symbols",
    ),
    "a statement that SymPy evaluated": (lambda w: entered(sp.Eq(w.x, w.x)), "write it with equals()"),
    "== for =": (lambda w: entered(w.x == w.y), "got False, which Python made of it: write equals(left, right)"),
    "an expression for a statement": (lambda w: entered(w.x - w.y), "expected a statement, such as equals"),
    "a text for a statement": (lambda w: entered("x = y"), "expected a statement, such as equals(left, right)"),
    "no proof": (lambda w: holds(equals(w.x, w.y)), "by: got nothing, expected the rule that proves it"),
    "a rule without its brackets": (lambda w: entered(equals(w.x, w.y), by=algebra), "got algebra, expected a rule"),
    "parts in a list": (
        lambda w: claim("t.a", "text", [holds(equals(w.x, w.y), by=algebra())]), "parts: got a list, expected holds",
    ),
    "a statement for a part": (lambda w: claim("t.a", "text", equals(w.x, w.y)), "expected holds(statement, by=rule)"),
    "no parts": (lambda w: claim("t.a", "text"), "at least one part: holds(statement, by=rule)"),
    "parts of one name": (
        lambda w: claim("t.a", "text", *[holds(equals(w.x, w.y), by=algebra())] * 2), "write holds(…, name=…)",
    ),
    "no sentence": (lambda w: claim("t.a", holds(equals(w.x, w.y), by=algebra())), "text: got a Part"),
    "an assumption that is no list": (
        lambda w: holds(equals(w.x, w.y), by=smt(), assuming=greater(w.x, 0)), "expected a list: assuming=[…]",
    ),
    "a wrong variant without its words": (
        lambda w: entered(equals(w.x, w.y), wrong=[equals(w.x, 2)]), "expected wrong(text, statement)",
    ),
    "a wrong variant that is no list": (
        lambda w: entered(equals(w.x, w.y), wrong=wrong("twice", equals(w.x, 2))), "expected a list: wrong=[…]",
    ),
    "an argument that is no list": (lambda w: define("t.d", "", w.x, 2 * w.x), "expected a list: of=[…]"),
    "an argument that the body lacks": (lambda w: define("t.d", "", (w.x, w.y), w.x), "take it out of of="),
    "an argument that is missing": (lambda w: define("t.d", "", (w.x,), w.x + w.y), "add it to of="),
    "a size that an argument would not change": (
        lambda w: define("t.mean", "", (w.u, w.rows), total(w)(w.u) / w.rows),
        "t.total takes the size t_rows from its families and indices, whatever is put in for the argument: "
        "make t_rows an argument of t.total, or take it out of of=",
    ),
    "a size that no argument has": (
        lambda w: define("t.d", "", (w.x,), total(w)(Lambda(w.i, w.x))),
        "which no argument here has: make t_rows an argument of t.total",
    ),
    "a Lambda over an argument": (
        lambda w: define("t.d", "", (w.rows, w.x), whole(w)(w.rows, Lambda(w.i, w.x))),
        "keeps the size t_rows, whatever is put in for the argument: take t_rows out of of=, or make a family over",
    ),
    "a depth that is the size of an argument": (
        lambda w: recursive("t.d", "", (w.rows, w.u), w.rows, w.u[1], lambda go: go() + 1),
        'count the depth by a number of its own, symbol(…, Naturals("whole number", 0), …)',
    ),
    "a body that is a text": (lambda w: define("t.d", "", (w.x,), "t_x + 1"), "expected an expression of declared"),
    "a body that is a statement": (lambda w: define("t.d", "", (w.x,), greater(w.x, 0)), "got StrictGreaterThan"),
    "a definition that is not there": (
        lambda w: entered(equals(Apply("ppo.ratios", w.x), 1)), "no definition 'ppo.ratios'; the nearest: ppo.ratio",
    ),
    "a function that the language has not": (lambda w: entered(equals(gamma(w.x), 1)), "got gamma in gamma(t_x)"),
    "a derivative of SymPy": (
        lambda w: entered(equals(sp.Derivative(log(w.positive), w.positive), 1)), "write Diff(expr, x)",
    ),
    "a derivative in an index": (lambda w: entered(equals(Diff(w.i**2, w.i), 1)), "which is in 1..t_rows"),
    "infinity": (lambda w: entered(equals(w.x, oo)), "the numbers of the language are finite"),
    "a power with a symbol above": (lambda w: entered(equals(2**w.x, 1)), "write exp(y·log(x))"),
    "a derivative in nothing": (lambda w: Diff(w.x**2), "got no variable, expected Diff(expr, x)"),
    "a sum over nothing": (lambda w: sum_over(w.u[w.i]), "got no index, expected sum_over(body, i)"),
    "a definition that is not applied": (lambda w: equals(shape(w), 1), "expected it applied: shape(), or shape(…)"),
    "a multiple of a definition": (lambda w: 2 * shape(w), "expected it applied"),
    "a bound on a definition": (lambda w: shape(w) > 0, "expected it applied"),
    "a derivative of a definition": (lambda w: Diff(shape(w), w.x), "expected it applied"),
    "a rule by its name": (lambda w: entered(equals(w.x, w.y), by="algebra"), "got algebra, expected a rule, such as"),
    "a fact for a rule": (lambda w: entered(equals(w.x, w.y), by=fact("ppo.ratio.gradient")), "expected a rule"),
    "a rule by its name in a step": (
        lambda w: entered(equals(w.x, w.y), by=chain(step(w.y, by="algebra"))), "got algebra, expected a rule",
    ),
    "an expression for a step": (lambda w: chain(w.x, w.y), "chain: got t_x, expected step(expr, by=rule)"),
    "a fact that is no list": (lambda w: smt(given=fact("ppo.ratio.gradient")), "expected a list: given=[…]"),
    "an id for a fact": (lambda w: smt(given=["ppo.ratio.gradient"]), "got ppo.ratio.gradient, expected facts: fact("),
    "a source that is a text": (
        lambda w: entered(equals(w.x, w.y), source="meng2024simpo"), 'got meng2024simpo, expected Source("key")',
    ),
    "a source of a definition that is a text": (
        lambda w: define("t.d", "", (w.x,), w.x, source="meng2024simpo"), 'expected Source("key")',
    ),
    "a name of a part that is a number": (
        lambda w: claim("t.a", "text", holds(equals(w.x, w.y), by=algebra(), name=1)), "name: got 1, expected a few",
    ),
    "mutants without reasons": (
        lambda w: claim("t.a", "text", holds(equals(w.x, w.y), by=algebra(), equivalent=["left: x → y"])),
        "equivalent: got a list, expected {mutant: reason}",
    ),
    "a wrong variant that is named by a number": (
        lambda w: entered(equals(w.x, w.y), wrong=[wrong(1, equals(w.x, 2))]), "expected wrong(text, statement)",
    ),
    "a text that is a number": (lambda w: symbol("t_beta", Positive, 3), "t_beta: text: got 3, expected a few words"),
    "LaTeX that is a number": (lambda w: symbol("t_beta", Positive, "", tex=3), "t_beta: tex: got 3, expected LaTeX"),
    "a name that is a number": (lambda w: symbol(3, Positive, ""), "name: got 3, expected letters, digits and"),
    "LaTeX of a definition that is a number": (
        lambda w: define("t.d", "", (w.x,), w.x, tex=3), "t.d: tex: got 3, expected LaTeX",
    ),
    "a body that is nothing": (lambda w: define("t.d", "", (w.x,), None), "body: got None, expected an expression"),
    "a body that is a function": (lambda w: define("t.d", "", (w.x,), max), "body: got max, expected an expression"),
    "a body that is a definition": (lambda w: define("t.d", "", (w.x,), shape(w)), "expected it applied"),
    "a domain of Python": (lambda w: define("t.d", "", (w.x,), w.x, domain=float), "got float, expected Real or"),
    "an id of a definition": (lambda w: entered(equals(shape(w)(), 1), id="t.shape"), "is taken: choose another"),
    "cases without conditions": (lambda w: cases(w.x, 0), "cases: got t_x, expected (value, condition)"),
    "cases without an else": (lambda w: entered(equals(cases((1, w.x > 0)), 1)), "end with (value, True)"),
    "a domain that no proof can show": (
        lambda w: define("t.d", "", (w.x,), w.x + 1, domain=Open(1)), "expected Real or Positive",
    ),
}  # fmt: skip


def entered(statement, by=None, id="t.first", **more):
    """A claim of one part."""
    return claim(id, "text", holds(statement, by=smt() if by is None else by), **more)


def shape(w):
    """A definition of two numbers."""
    return define("t.shape", "", (w.x, w.y), w.x - 2 * w.y)


def total(w):
    """A definition of a family."""
    return define("t.total", "", (w.u,), sum_over(w.u[w.j], w.j))


def whole(w):
    """A definition of a family and its size."""
    return define("t.whole", "", (w.rows, w.u), sum_over(w.u[w.j], w.j))


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_answered_in_one_line(words, name):
    """With what to write instead, and before anything is entered."""
    write, answer = MISTAKES[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        write(words)
    assert re.search(re.escape(answer), str(caught.value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


#: Statements that can be entered, with the reason why they are not proved.
UNPROVED = {
    "the rule for another kind of statement": (
        lambda w: entered(at_least(w.x**2, 0), by=algebra()), "try smt() or termwise()",
    ),
    "a domain that is too wide": (
        lambda w: entered(equals((1 + log(w.x)) ** 2, 1 + 2 * log(w.x) + log(w.x) ** 2), by=algebra()),
        "t_x is not shown to be positive, as the statement requires: declare it so, or assume it",
    ),
    "a false statement": (lambda w: entered(greater(w.x**2, 0)), "did not refute the negation"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(UNPROVED))
def test_a_proof_that_fails_says_why(words, name):
    """In one line."""
    write, answer = UNPROVED[name]
    (proof,) = prove_claim(write(words))
    assert proof.status == "unknown"
    assert re.search(re.escape(answer), proof.reason)
    assert "\n" not in proof.reason


def test_an_assumption_that_cannot_hold_is_found(words):
    """The part is not proved, and no point satisfies it."""
    part = holds(equals(words.x, 1), by=smt(), assuming=[greater(words.x, 0), greater(-words.x, 0)])
    claim("t.first", "text", part)
    (record,) = examine("t.first").parts
    assert (record.status, record.satisfiable, record.sound) == ("unknown", False, False)
    assert record.reason == "the assumptions contradict each other or the domains"


def test_a_symbol_that_nothing_uses_is_named(words):
    """When the whole registry is checked."""
    index("t_idle", words.rows, "an idle index")
    with pytest.raises(ValueError, match="is declared but nothing uses it: delete it"):
        check_registry()

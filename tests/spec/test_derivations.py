"""Derivations for people: a wrong line is named, and what could be none is refused."""

import re
from dataclasses import replace

import pytest
from grape_spec.language import (
    at_least,
    derive,
    derive_by_induction,
    equals,
    greater,
    holds,
    iff,
    line,
    recursive,
    substitute,
    sum_over,
    symbol,
)
from grape_spec.language.claims import Stage
from grape_spec.language.domains import Naturals
from grape_spec.language.registry import _DERIVED, CLAIMS, DERIVATIONS, RegistryError, claim
from grape_spec.policy import V
from grape_spec.proof.examine import examine
from grape_spec.proof.fingerprint import fingerprints
from grape_spec.proof.prove import prove_lines
from grape_spec.proof.rules import algebra, fact, finite_sum, over_depth, smt, termwise
from sympy import Integer, log, symbols

from tests.tables import with_lines


def seen(id):
    """What became of the lines of a claim of one part."""
    return examine(id).parts[0].derivation


# -- wrong lines --------------------------------------------------------------------------------------------------


@pytest.fixture
def square(words):
    """A claim that has no derivation yet, and its symbols."""
    x, y = words.x, words.y
    claim("t.square", "A difference.", holds(equals((x + y) ** 2 - x**2, y * (2 * x + y)), by=algebra()))
    return x, y


def derive_square(x, y):
    derive("t.square", line(2 * x * y + y**2, "expand the square"), line(y * (2 * x + y), "collect"))


WRONG = {
    "lost factor": lambda x, y: x * y + y**2,
    "sign": lambda x, y: 2 * x * y - y**2,
    "swapped": lambda x, y: 2 * x * y + x**2,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_line_is_refuted_and_makes_the_claim_unsound(square, name):
    x, y = square
    derive("t.square", line(WRONG[name](x, y), "expand the square"), line(y * (2 * x + y), "collect"))
    record = examine("t.square")
    part = record.parts[0]
    assert (part.status, part.sound, record.sound) == ("proved", False, False)
    assert [(entry.reason, entry.status) for entry in part.derivation] == [
        ("expand the square", "refuted"),
        ("collect", "refuted"),
    ]
    assert all(entry.witness for entry in part.derivation)


def test_a_swapped_index_is_refuted(words):
    u, i, j = words.u, words.i, words.j
    claim("t.swap", "", holds(equals((u[i] + 1) * (u[j] + 2) - 2, u[i] * u[j] + 2 * u[i] + u[j]), by=algebra()))
    derive("t.swap", line(u[i] * u[j] + u[i] + 2 * u[j], "expand"), line(u[i] * u[j] + 2 * u[i] + u[j], "swap"))
    assert [entry.status for entry in seen("t.swap")] == ["refuted", "refuted"]


def test_a_line_that_its_rule_does_not_prove_makes_the_claim_unsound(words):
    """Though it is true: a reader would have to take it on trust."""
    x = words.positive
    claim("t.log", "", holds(greater(x - log(x), 0), by=smt(given=[fact("kl.log_bound", part="bound", x=x)])))
    derive("t.log", line(1, "the logarithm lies below its tangent", sign="≥"), line(0, "one is positive", sign=">"))
    record = examine("t.log")
    assert [entry.status for entry in record.parts[0].derivation] == ["unknown", "proved"]
    assert (record.status, record.sound) == ("proved", False)
    bound = fact("kl.log_bound", part="bound", x=x)
    proved = with_lines(("t.log", ""), lambda lines: (replace(lines[0], by=smt(given=[bound])), lines[1]))
    _DERIVED["t.log", ""] = proved
    assert examine("t.log").sound


def test_a_line_without_a_value_is_not_proved(words):
    x = words.x
    claim("t.quotient", "", holds(equals((x + 1) ** 2 - 1, x * (x + 2)), by=algebra()))
    derive("t.quotient", line((x**3 + 2 * x**2) / x, "which is 0/0 at zero"), line(x * (x + 2), "cancel"))
    assert seen("t.quotient")[0].status != "proved"


@pytest.mark.parametrize(("own", "status"), [("i", "unknown"), ("j", "proved")])
def test_what_is_assumed_of_the_index_of_a_statement_is_not_assumed_of_all(words, own, status):
    """Not in a line either that speaks of no such index but binds its name; an assumption on another is one on all."""
    u, i = words.u, words.i
    part = holds(at_least(u[vars(words)[own]], 0), assuming=[greater(u[i], 0)], by=smt())
    lines = (line(sum_over(u[i], i), "no", sign="≥"), line(0, "no term is negative", sign="≥", by=termwise(0)))
    assert prove_lines(part, [Stage(part.statement.args[0], lines)])[1].status == status


def test_the_verdict_of_the_part_and_the_version_of_the_claim_stay(square):
    hash, before = CLAIMS["t.square"].hash, fingerprints()
    derive_square(*square)
    assert CLAIMS["t.square"].hash == hash
    assert {id for id, found in fingerprints().items() if found != before[id]} == {"t.square"}
    record = examine("t.square")
    assert record.sound
    assert [(entry.sign, entry.rule, entry.status) for entry in record.parts[0].derivation] == [
        ("=", "algebra", "proved")
    ] * 2


@pytest.mark.parametrize(
    "change", [{"expr": Integer(1)}, {"reason": "other words"}, {"by": finite_sum()}, {"sign": "≤"}], ids=str
)
def test_whatever_changes_in_a_line_is_noticed(square, change):
    derive_square(*square)
    before = fingerprints()["t.square"]
    _DERIVED["t.square", ""] = with_lines(("t.square", ""), lambda lines: (replace(lines[0], **change), lines[1]))
    assert fingerprints()["t.square"] != before


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.fixture
def parts(words):
    """A claim of three parts: an equation, a strict bound, and what no chain of lines leads to."""
    x, y = words.x, words.y
    claim(
        "t.parts",
        "Several.",
        holds(equals((x + 1) ** 2, x**2 + 2 * x + 1), name="equation", by=algebra()),
        holds(greater(x**2 + 1, -1), name="bound", by=smt()),
        holds(iff(equals(x, y), equals(x - y, 0)), name="neither", by=smt()),
    )
    return x, y


def refusals(x, y):
    """What is written, under a piece of what is said of it."""
    start, end = (x + 1) ** 2, line(x**2 + 2 * x + 1, "expand")
    below, low = line(0, "a square is not negative", sign="≥"), line(-1, "smaller", sign=">")
    of_later = replace(below, by=smt(given=[fact("t.parts", part="bound")]))
    return {
        "no part 'other'": ("other", [end, end]),
        "expected an equation or a bound": ("neither", [end, end]),
        "got 1 lines": ("equation", [end]),
        "it ends at t_x": ("equation", [end, line(x, "no")]),
        "line 1: it repeats the one before": ("equation", [line(start, "again"), end]),
        "line 1: t_y is not in the statement": ("equation", [line(x + y, "which y?"), end]),
        "line 1: reason: got , expected a few words": ("equation", [line(x, ""), end]),
        "line 1: sign: got '≥', expected one of = for a =": ("equation", [line(x, "no", sign="≥"), end]),
        "line 1: sign: got '≤', expected one of =≥> for a >": ("bound", [line(1, "no", sign="≤"), low]),
        "no line is strict": ("bound", [below, line(-1, "smaller", sign="≥")]),
        "line 2: got t_x, expected line(": ("equation", [line(x, "so"), x]),
        "line 1: got the floating-point number": ("equation", [line(0.5 * x, "no"), end]),
        "line 1: rests on kl.log_bound": ("bound", [replace(below, by=smt(given=[fact("kl.log_bound")])), low]),
        "uses the part 'bound'": ("bound", [of_later, low]),
        "line 1: it is checked at other sizes": ("equation", [line(x, "no", by=algebra(sizes={V: 2})), end]),
    }


@pytest.mark.parametrize("said", refusals(symbols("x"), symbols("x")))
def test_what_is_no_derivation_is_refused(parts, said):
    part, lines = refusals(*parts)[said]
    with pytest.raises(RegistryError, match=re.escape(said)):
        derive("t.parts", *lines, part=part)
    assert ("t.parts", part) not in DERIVATIONS


def test_a_part_has_one_derivation_and_those_of_the_package_are_not_added_to(square):
    derive_square(*square)
    with pytest.raises(RegistryError, match="takes no further one"):
        derive_square(*square)
    with pytest.raises(RegistryError, match="takes no further one"):
        derive("policy.softmax.shift", line(1, "no"), line(2, "no"))
    with pytest.raises(KeyError, match="there is no claim"):
        derive("t.none", line(1, "no"), line(2, "no"))


def test_a_bound_is_derived_by_signs_that_lead_to_it(parts):
    derive("t.parts", line(1, "a square is not negative", sign="≥"), line(-1, "one is more", sign=">"), part="bound")
    assert [entry.status for entry in examine("t.parts").parts[1].derivation] == ["proved", "proved"]


# -- induction ----------------------------------------------------------------------------------------------------


@pytest.fixture
def doubled(words):
    """A recursion that adds twice a number at each depth, and what it is."""
    depth = symbol("t_depth", Naturals("whole number", 0), "a depth")
    total = recursive("t.total", "", (depth, words.x), depth, words.x, lambda before: before() + 2 * words.x, tex="t")
    statement = equals(total(), (2 * depth + 1) * words.x)
    claim("t.sum", "A sum.", holds(statement, by=over_depth(depth)))
    return depth, total, words.x


def test_a_step_may_use_the_statement_at_the_depth_before(doubled):
    depth, total, x = doubled
    right = substitute((2 * depth + 1) * x, {depth: depth + 1})
    derive_by_induction(
        "t.sum",
        depth,
        first=[line(x, "nothing is added yet")],
        then=[line(total() + 2 * x, "once more"), line((2 * depth + 1) * x + 2 * x, "known"), line(right, "collect")],
    )
    assert [(entry.status, entry.rule) for entry in seen("t.sum")] == [
        ("proved", "algebra"),
        *[("proved", "algebra, given the statement at t_depth")] * 3,
    ]


def test_no_line_may_use_the_statement_at_its_own_depth(doubled):
    """At the first depth nothing is known yet, and in the step only what holds at the depth before."""
    depth, total, x = doubled
    right = substitute((2 * depth + 1) * x, {depth: depth + 1})
    derive_by_induction(
        "t.sum",
        depth,
        first=[line(total() - 2 * depth * x, "of any depth"), line(x, "known")],
        then=[line(total(depth + 2) - 2 * x, "at the depth after"), line(right + 0 * x, "known")],
    )
    assert [entry.status for entry in seen("t.sum")] == ["unknown", "unknown", "proved", "proved"]


def test_a_wrong_step_is_refuted(doubled):
    depth, total, x = doubled
    right = substitute((2 * depth + 1) * x, {depth: depth + 1})
    derive_by_induction(
        "t.sum",
        depth,
        first=[line(x, "nothing is added yet")],
        then=[line(total() + x, "a factor is lost"), line(right, "collect")],
    )
    assert [entry.status for entry in seen("t.sum")] == ["proved", "refuted", "refuted"]


def test_what_is_no_induction_is_refused(doubled):
    depth, _, x = doubled
    with pytest.raises(RegistryError, match="by induction over t_x: expected an equation without assumptions, and a"):
        derive_by_induction("t.sum", x, first=[line(x, "so")], then=[line(x, "so")])
    with pytest.raises(RegistryError, match=r"at t_depth = 0: it ends at 2\*t_x, expected the right side, t_x"):
        derive_by_induction("t.sum", depth, first=[line(2 * x, "so")], then=[line(x, "so")])
    with pytest.raises(RegistryError, match=r"at t_depth = t_depth \+ 1: it ends at t_x"):
        derive_by_induction("t.sum", depth, first=[line(x, "so")], then=[line(x, "so")])
    assert ("t.sum", "") not in DERIVATIONS

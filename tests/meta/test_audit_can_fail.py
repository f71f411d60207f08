"""The audit and the ledger can fail: each thing that makes a proof worthless is planted and must be reported."""

from dataclasses import dataclass
from types import SimpleNamespace

import grape_spec  # noqa: F401 - the registry is full before any test adds to it
import pytest
import sympy as sp
from grape_spec.language import (
    Mask,
    Open,
    Positive,
    Real,
    Size,
    at_least,
    at_most,
    claim,
    equals,
    family,
    grammar,
    greater,
    holds,
    index,
    less,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.registry import CLAIMS, check_registry
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.proof import audit
from grape_spec.proof import examine as examination
from grape_spec.proof.audit import audit_conditions, audit_mutants, two_sides_differ
from grape_spec.proof.context import Unknown
from grape_spec.proof.examine import examine
from grape_spec.proof.prove import Proof
from grape_spec.proof.refute import Search, refute
from grape_spec.proof.rules import GENERAL, RULES, Rule, algebra, fact, finite_sum, smt

from grape_verified.cli.tables import _shortcomings
from grape_verified.conformance.ledger import summarise


@pytest.fixture
def w(scratch_registry):
    """Declared symbols of every kind."""
    rows = symbol("t_rows", Size, "")
    return SimpleNamespace(
        x=symbol("t_x", Real, ""),
        y=symbol("t_y", Real, ""),
        r=symbol("t_r", Positive, ""),
        m=symbol("t_m", Mask(), ""),
        c=symbol("t_c", Open(1), ""),
        centred=symbol("t_centred", Open(-1, 1), ""),
        rows=rows,
        i=index("t_i", rows, ""),
        u=family("t_u", Real, rows, text=""),
    )


class Lying(Rule):
    """A rule that proves everything."""

    engine = "lies"

    def prove(self, statement, context):
        return GENERAL


@pytest.fixture
def planted_rules(monkeypatch):
    """The rules of this file count as rules of the package."""
    monkeypatch.setattr("grape_spec.proof.prove.RULES", RULES | {Lying, Only})
    monkeypatch.setattr("grape_spec.language.grammar._RULES", {*grammar._RULES, Lying, Only})


def record(id="t.planted", statement=None, by=None, **kwargs):
    """The ledger's record of a claim with one part, and of its part."""
    entered = claim(id, "text", holds(statement, by=by, **kwargs))
    found = examine(entered.id)
    return found, found.parts[0]


def test_a_sound_claim_is_sound(w):
    """The baseline of the failures below."""
    found, part = record(statement=equals((w.x + w.y) ** 2, w.x**2 + 2 * w.x * w.y + w.y**2), by=algebra())
    assert found.status == "proved"
    assert found.sound
    assert part.sound
    assert part.mutants.total == part.mutants.refuted > 5
    assert summarise([found], [], 0.0).holds


def test_assumptions_that_either_engine_finds_contradictory_are_reported(w):
    """The refuter by finding no point, the solver by a proof."""
    part = holds(greater(w.x, 0), by=smt(), assuming=[greater(w.x, 1), less(w.x, 0)])
    assert not audit.assumptions_can_hold(part, refute(part.statement, part.assuming, points=2))
    assert not audit.assumptions_can_hold(part, Search(10, 10)), "whatever the refuter says"
    fine = holds(greater(w.x, 0), by=smt(), assuming=[greater(w.x, 1)])
    assert audit.assumptions_can_hold(fine, refute(fine.statement, fine.assuming, points=2))


def test_a_prover_that_lies_is_a_contradiction(w, planted_rules):
    """Proved by a broken rule and refuted at a point: neither proved nor sound."""
    found, part = record(statement=equals(w.x, w.x + w.y), by=Lying())
    assert part.contradiction
    assert part.witness
    assert found.status == "refuted"
    assert not found.sound
    run = summarise([found], [], 0.0)
    assert run.summary.contradictions == 1
    assert not run.holds


def test_a_false_equation_that_prover_and_refuter_pass_is_contradicted_by_the_second_route(
    w, planted_rules, monkeypatch
):
    """The run fails, with one line that names claim, part and size."""
    monkeypatch.setattr(examination, "refute", lambda *args, **kwargs: Search(50, 50))
    found, part = record(statement=equals(sum_over(w.u[w.i], w.i), w.rows * w.u[1]), by=Lying(), name="the total")
    assert (part.status, part.second.opinion) == ("proved", "contradicts")
    assert part.contradiction
    run = summarise([found], [], 0.0)
    assert (run.summary.contradictions, run.summary.equations_contradicted, run.holds) == (1, 1, False)
    (line,) = (line for line in _shortcomings(run) if "second route" in line)
    assert line.startswith("t.planted [the total]: contradicted by the second route: the left side is ")
    assert "(t_rows = 2)" in line
    assert "\n" not in line


def test_every_engine_that_is_forced_to_say_proved_is_contradicted(w, monkeypatch):
    """One false claim for each engine, with that engine broken."""
    from grape_spec.proof.context import Context
    from grape_spec.proof.smt import Solver

    monkeypatch.setattr(Context, "agree", lambda self, *args: True)
    monkeypatch.setattr(Solver, "entails", lambda self, *args, **kwargs: True)
    for n, by in enumerate((algebra(), finite_sum(), smt())):
        _, part = record(f"t.forced{n}", equals(w.x, w.x + w.y), by)
        assert part.contradiction
        assert not part.sound


def test_a_prover_that_never_answers_proves_nothing(w, monkeypatch):
    """Unknown is not proved."""
    monkeypatch.setattr("grape_spec.proof.prove.prove", lambda *args, **kwargs: Proof("unknown", reason="forced"))
    found, _ = record(statement=equals(w.x + w.y, w.y + 1 * w.x + 0 * w.r), by=algebra())
    assert found.status == "unknown"
    assert not found.sound


def test_a_refuter_that_finds_nothing_leaves_survivors_and_nothing_effective(w, monkeypatch):
    """Mutants that nobody refuted, and a statement that nobody tried, are not sound."""
    silent = lambda *args, **kwargs: Search(10, 0)  # noqa: E731
    for module in (audit, examination):
        monkeypatch.setattr(module, "refute", silent)
    monkeypatch.setattr(audit, "refutes", lambda *args: False)
    monkeypatch.setattr(audit, "refuted_at_one", lambda *args: False)
    found, part = record(statement=equals((w.x + w.y) ** 2, w.x**2 + 2 * w.x * w.y + w.y**2), by=algebra())
    assert not part.sound
    assert not part.satisfiable
    assert part.mutants.survived
    assert not summarise([found], [], 0.0).holds


def test_a_refuter_that_refutes_everything_is_a_contradiction(w, monkeypatch):
    """A true claim is then proved and refuted at once."""
    monkeypatch.setattr(examination, "refute", lambda *args, **kwargs: Search(1, 1, {"forced": True}))
    _, part = record(statement=equals(2 * (w.x + w.y), 2 * w.x + 2 * w.y + 0 * w.r), by=algebra())
    assert part.contradiction
    assert not part.sound


def test_contradictory_assumptions_are_reported(w):
    """They prove that x is x + y; the record says that they cannot hold."""
    found, part = record(statement=equals(w.x, w.x + w.y), by=smt(), assuming=[greater(w.x, 0), less(w.x, 0)])
    assert not part.satisfiable
    assert part.points.effective == 0
    assert not part.sound
    assert not found.sound


def test_two_sides_of_one_tree_are_reported(w):
    """x + y = x + y proves nothing."""
    assert not two_sides_differ(holds(equals(w.x + w.y, w.y + w.x), by=algebra()))
    assert two_sides_differ(holds(equals(w.x + w.y, w.y - w.x), by=algebra()))
    _, part = record(statement=equals(w.x + w.y, w.x + w.y), by=algebra())
    assert not part.sides_differ
    assert not part.sound


@dataclass(frozen=True)
class Only(Rule):
    """A rule that proves one statement and nothing else."""

    statement: sp.Basic
    engine = "only"

    def prove(self, statement, context):
        if statement != self.statement:
            raise Unknown("only the statement itself")
        return GENERAL


def test_a_mutant_that_is_true_and_not_shown_survives_until_it_is_listed(w, planted_rules):
    """x ≤ log(1 + exp x) holds with 2(1 + exp x), too, but no engine can tell."""
    statement = at_most(w.x, sp.log(1 + sp.exp(w.x)))
    survivors = [m.text for m in audit_mutants(holds(statement, by=Only(statement))) if m.fate == "survived"]
    assert survivors
    found, part = record(statement=statement, by=Only(statement))
    assert list(part.mutants.survived) == survivors
    assert not found.sound
    excused = dict.fromkeys(survivors, "the logarithm rises")
    found, part = record("t.excused", statement, Only(statement), equivalent=excused)
    assert not part.mutants.survived
    assert found.sound
    assert {m.reason for m in part.mutants.listed} == {"the logarithm rises"}


def test_a_mutant_that_follows_from_the_claim_is_implied_with_its_reason(w):
    """x² ≥ −2 follows from x² ≥ −1."""
    fates = audit_mutants(holds(at_least(w.x**2, -1), by=smt()))
    assert {m.fate for m in fates} == {"refuted", "implied"}
    assert all(m.reason for m in fates if m.fate == "implied")


def test_an_excuse_that_no_mutant_needs_is_stale(w):
    """A list of equivalents may not outlive its mutants."""
    statement = equals((w.x + w.y) ** 2, w.x**2 + 2 * w.x * w.y + w.y**2)
    _, part = record(statement=statement, by=algebra(), equivalent={"right: nothing → something": "none"})
    assert part.mutants.stale == ("right: nothing → something",)
    assert not part.sound


def test_a_wrong_variant_that_is_true_is_reported(w):
    """It has no witness."""
    true = equals(w.x * (w.y + 1), w.x * w.y + w.x)
    entered = claim("t.wrong", "text", holds(true, by=algebra()), wrong=[wrong("it is true", true)])
    found = examine(entered.id)
    assert not found.wrong[0].refuted
    assert not found.sound


def test_each_assumption_is_dropped_in_turn(w):
    """One that is needed, and one that is not."""
    part = holds(greater(w.x + w.y, 0), by=smt(), assuming=[greater(w.x, 0), greater(w.y, 0), less(w.x, 7)])
    assert {c.text: c.needed for c in audit_conditions(part)} == {"t_x > 0": True, "t_y > 0": True, "t_x < 7": False}


def test_each_domain_is_widened_in_turn(w):
    """log needs its positive argument, a square does not; a mask is its own square, a real number is not."""
    needed = {c.text: c.needed for c in audit_conditions(holds(equals(sp.log(w.r**2), 2 * sp.log(w.r)), by=algebra()))}
    assert needed in ({}, {"t_r is positive": True})
    part = holds(greater(w.r * w.c, 0), by=smt())
    assert {c.needed for c in audit_conditions(part)} == {True}
    part = holds(at_least(w.r**2, 0), by=smt())
    assert [c.needed for c in audit_conditions(part)] == [False]
    part = holds(equals(w.m**2, w.m), by=smt())
    assert [(c.text, c.needed) for c in audit_conditions(part)] == [("t_m is 0 or 1", True)]


def test_the_audit_leaves_the_declarations_as_they_were(w):
    """Neither twins left behind, nor a domain overwritten."""
    before = dict(DECLARATIONS)
    audit_conditions(holds(greater(w.r, 0), by=smt()))
    audit_conditions(holds(less(w.centred, 1), by=smt()))
    assert before == DECLARATIONS


def test_a_domain_without_an_assumption_of_its_own_is_widened_too(w):
    """(−1, 1) is real to SymPy; the proof of c < 1 needs it all the same, once and again."""
    part = holds(less(w.centred, 1), by=smt())
    for _ in range(2):
        assert [c.needed for c in audit_conditions(part)] == [True]


def test_the_registry_is_whole_after_an_audit():
    """A run of the audit leaves no symbol that nothing uses."""
    for part in CLAIMS["ppo.clip.sign_form"].parts:
        audit_conditions(part)
    check_registry()


def test_what_rests_on_an_unsound_claim_is_not_fully_proved(w, planted_rules):
    """It waits for it, by name."""
    claim("t.base", "text", holds(equals(w.x, w.x + w.y), by=Lying()))
    claim("t.top", "text", holds(equals(w.y + 0 * w.x, 0), by=smt(given=[fact("t.base")])))
    run = summarise([examine("t.base"), examine("t.top")], [], 0.0)
    top = run.claims[1]
    assert not top.fully_proved
    assert top.waits_for == ("t.base",)


def test_a_part_that_rests_on_an_unproved_part_does_not_make_the_claim_proved(w):
    """All parts or none."""
    false = equals(w.x, w.x + w.y)
    claim(
        "t.parts",
        "text",
        holds(false, name="first", by=algebra()),
        holds(equals(w.y, 0), name="second", by=smt(given=[fact("t.parts", part="first")])),
    )
    found = examine("t.parts")
    assert found.status != "proved"
    assert not found.sound


def test_a_proof_at_sizes_is_not_shown_as_a_proof(w):
    """The scope names the sizes, and the summary counts it apart."""
    total = sum_over(sp.Integer(1), w.i)
    found, part = record(statement=equals(total, 2 * w.rows - 2), by=algebra(sizes={w.rows: 2}))
    assert part.scope == "t_rows = 2"
    assert summarise([found], [], 0.0).summary.at_sizes_only == 1
    assert refute(equals(total, 2 * w.rows - 2)).refuted


def test_a_claim_with_one_part_at_sizes_says_so(w):
    """One general part does not hide the other's sizes."""
    total = sum_over(sp.Integer(1), w.i)
    entered = claim(
        "t.mixed",
        "text",
        holds(equals(total, w.rows), name="any", by=finite_sum()),
        holds(equals(total, 2 * w.rows - 2), name="two", by=algebra(sizes={w.rows: 2})),
    )
    assert examine(entered.id).scope == ("all sizes", "t_rows = 2")

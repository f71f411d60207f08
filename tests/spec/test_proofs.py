"""What a proof may rest on, and what becomes of one that breaks, takes long or assumes what cannot be."""

import itertools
import threading
import time
from time import process_time

import pytest
import sympy as sp
from grape_spec.language import (
    DERIVED,
    Apply,
    Claim,
    Diff,
    at_least,
    at_most,
    claim,
    define,
    equals,
    greater,
    holds,
    less,
    sum_over,
)
from grape_spec.language.registry import CLAIMS, RegistryError
from grape_spec.proof.context import Context
from grape_spec.proof.deadline import OutOfTime, left, limited
from grape_spec.proof.facts import fact, part_of
from grape_spec.proof.prove import prove, prove_claim, proved_of
from grape_spec.proof.rules import (
    Smt,
    algebra,
    by_terms,
    chain,
    chain_rule,
    finite_sum,
    from_minimum,
    induction,
    rewrite,
    smt,
    step,
    termwise,
)
from grape_spec.proof.smt import Solver
from sympy import Abs, Lambda


def resting_on(id, words):
    """A proof by every rule that can use a claim, with a false statement that it would prove from itself."""
    x, u, i = words.x, words.u, words.i
    mag = define("t.mag", "", (x,), Abs(x))
    ahead, given = equals(mag(x), x), [fact(id)]
    return {
        "smt": (less(x, 0), smt(given=given)),
        "from_minimum": (at_most(x, 9), from_minimum(of=9 - x, over=x, at=9, given=given)),
        "termwise": (at_least(sum_over(u[i], i), 0), termwise(0, given=given)),
        "rewrite": (ahead, rewrite(id)),
        "chain": (ahead, chain(step(x, by=rewrite(id)))),
        "by_terms": (equals(Diff(mag(x), x), 1), by_terms(fact(id))),
        "chain_rule": (equals(Diff(mag(x), x), 1), chain_rule(inner=id, outer="", at={x: x})),
    }


def unentered(id, *parts):
    """A claim that the registry would refuse."""
    return Claim(id, "", parts, (), DERIVED, ())


@pytest.mark.parametrize("rule", ["smt", "from_minimum", "termwise", "rewrite", "chain", "by_terms", "chain_rule"])
def test_nothing_is_proved_from_itself(words, rule):
    """By no rule; a claim with an instance of itself is not even entered."""
    statement, by = resting_on("t.circle", words)[rule]
    (outcome,) = prove_claim(unentered("t.circle", holds(statement, by=by)))
    assert outcome.status == "unknown"
    assert outcome.reason.startswith("t.circle has no part ''")
    if rule != "chain_rule":
        with pytest.raises(RegistryError, match=r"expected one of the earlier parts of t\.circle"):
            claim("t.circle", "", holds(statement, by=by))


@pytest.mark.parametrize("used", ["before", "itself", "after", "unproved", "none"])
def test_a_part_may_use_the_parts_before_it_that_are_proved(words, used):
    """Neither itself, nor a later one, nor one that is not proved, nor one that is not there."""
    square = words.x**2
    entered = unentered(
        "t.parts",
        holds(at_least(square, 1), name="unproved", by=smt()),
        holds(at_least(square, 0), name="before", by=smt()),
        holds(at_least(square, -1), name="itself", by=smt(given=[fact("t.parts", part=used)])),
        holds(at_least(square, -2), name="after", by=smt()),
    )
    statuses = {part.name: proof.status for part, proof in zip(entered.parts, prove_claim(entered), strict=True)}
    own = "proved" if used == "before" else "unknown"
    assert statuses == {"unproved": "unknown", "before": "proved", "itself": own, "after": "proved"}


def test_what_rests_on_an_unproved_part_is_not_proved(words):
    """Though the conclusion would follow from it."""
    entered = claim(
        "t.resting",
        "",
        holds(less(words.x, 0), name="false", by=smt()),
        holds(less(words.x, 1), name="follows", by=smt(given=[fact("t.resting", part="false")])),
    )
    proofs = prove_claim(entered)
    assert [proof.status for proof in proofs] == ["unknown", "unknown"]
    assert proved_of(entered, proofs) == ()


def test_a_proof_rests_on_earlier_claims_only(words):
    """A claim that was entered later may rest on this one."""
    context = lambda id: Context(claim=id)  # noqa: E731
    claim("t.first", "", holds(greater(words.x**2, -1), by=smt()))
    claim("t.second", "", holds(greater(words.x**2, -2), by=smt(given=[fact("t.first")])))
    assert part_of("t.first", "", context("t.second"))
    assert [proof.status for proof in prove_claim(CLAIMS["t.second"])] == ["proved"]
    with pytest.raises(Exception, match=r"t\.second comes after t.first"):
        part_of("t.second", "", context("t.first"))
    later = holds(greater(words.x**2, -1), by=smt(given=[fact("t.second")]))
    assert prove(later, claim_id="t.first").reason.startswith("t.second comes after t.first")
    with pytest.raises(Exception, match="has no part"):
        part_of("t.first", "", context("t.first").anywhere())


def test_a_proof_rests_only_on_claims_that_its_claim_names(words, monkeypatch):
    """A rule that kept one from its uses would keep it from the claims that are waited for."""
    claim("t.known", "", holds(greater(words.x**2, -1), by=smt()))
    monkeypatch.setattr(Smt, "uses", lambda self: ())
    entered = claim("t.silent", "", holds(greater(words.x**2, -2), by=smt(given=[fact("t.known")])))
    assert prove_claim(entered)[0].reason.startswith("the proof rests on t.known")


def test_contradictory_assumptions_prove_nothing(words):
    """Whether the solver or the normal form would see it."""
    x, p, i = words.x, words.p, words.i
    for assuming in (
        [less(x, 0), greater(x, 0)],
        [equals(sum_over(p[i], i), 2)],
        [equals(sum_over(words.u[i], i), 1), equals(sum_over(words.u[words.j], words.j), 2)],
        [less(words.positive, 0)],
    ):
        statement = equals(words.y + 0 * words.positive, 0)
        for by in (smt(), finite_sum()):
            assert prove(holds(statement, by=by, assuming=assuming)).status == "unknown"
        assert "contradict" in prove(holds(equals(x, x), by=smt(), assuming=assuming)).reason


def test_contradictory_facts_prove_nothing(words):
    """They would prove everything."""
    false = [equals(words.x, 0), equals(words.x, 1)]
    assert not Solver().entails(less(words.y, 0), given=false)
    assert Solver().entails(less(words.x, 1), given=false[:1])


def test_what_breaks_an_engine_is_unknown_with_a_reason(words):
    """One line, and no exception."""
    define("t.square", "", (words.x,), words.x**2)
    deep = words.x
    for _ in range(300):
        deep = sp.Max(deep**2, words.y, evaluate=False)
    for statement in (
        equals(Apply("t.square", words.x, words.y), 0 * words.x),
        equals(Apply("t.none", words.x), 0 * words.x),
        equals(Apply("t.square", Lambda(words.i, words.u[words.i])), 0 * words.x),
        at_least(deep, words.y),
        equals(Diff(words.x**2, words.x**2), 1),
        equals(words.table[words.i], 0),
        greater(words.f(words.table), 0),
    ):
        for by in (algebra(), finite_sum(), smt(), termwise(0), from_minimum(of=words.x, over=words.y, at=words.y)):
            outcome = prove(holds(statement, by=by))
            assert outcome.status == "unknown"
            assert outcome.reason
            assert "\n" not in outcome.reason


# Where Python cannot raise, as in a call from C, it only reports the interruption, and the next one serves.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_proof_that_takes_too_long_is_unknown(words, monkeypatch):
    """By processor time."""
    monkeypatch.setattr("grape_spec.proof.prove.SECONDS", 0.2)
    many = sum((words.x + n * words.y + words.z + 1) ** 20 for n in range(1, 20))
    huge = holds(equals(many, words.x), by=algebra())
    start = process_time()
    outcome = prove(huge)
    assert outcome.status == "unknown"
    assert outcome.reason == "no proof within 0.2 seconds"
    assert process_time() - start < 3


def test_what_is_too_long_to_write_out_is_unknown(words):
    """Before it takes long, whatever the clock says."""
    x, y, z = words.x, words.y, words.z
    for power, reason in (
        ((x + y + z + 1) ** 90, "a product of 2600 and 4 terms is too long"),
        ((x + 1) ** 200, "the exponent 200 is too large"),
    ):
        assert prove(holds(equals(power, x), by=algebra())).reason == reason
    assert prove(holds(equals((x + 1) ** 90 * (x + 1), (x + 1) ** 91), by=algebra())).status == "proved"


def test_a_limit_ends_with_its_block(words):
    """Nothing is interrupted afterwards, and in other threads nothing at all."""
    assert left(3) == 3
    with limited(5):
        assert left(3) == 3
        assert left(100) < 6
    with pytest.raises(OutOfTime), limited(0.01):
        any(False for _ in itertools.repeat(1))
    assert left(3) == 3
    statuses = []
    proof = lambda: statuses.append(prove(holds(at_least(words.x**2, 0), by=smt())).status)  # noqa: E731
    thread = threading.Thread(target=proof)
    thread.start()
    thread.join()
    assert statuses == ["proved"]


def test_induction_is_over_whole_numbers(words):
    """Not over positive numbers, among which there is no next one."""
    for number in (words.positive, words.above_one, words.x, words.i):
        outcome = prove(holds(equals(number + 1, 1 + number + 0 * words.y), by=induction(number)))
        assert outcome.reason == f"{number} is not a size or a whole number"
    assert prove(holds(equals(words.rows + 1, 1 + words.rows), by=induction(words.rows))).status == "proved"


class Slow:
    """An object that takes long to delete, as a solver may."""

    def __del__(self):
        end = time.process_time() + 0.15
        while time.process_time() < end:
            pass


def test_time_that_runs_out_while_an_object_is_deleted_interrupts_what_follows():
    """An exception there would only be reported, and pytest makes an error of it."""
    thing = [Slow()]
    with pytest.raises(OutOfTime), limited(0.05):
        any(thing.clear() for _ in itertools.repeat(1))

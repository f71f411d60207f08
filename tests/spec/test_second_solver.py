"""A second opinion: cvc5 is asked every query that the proofs asked z3."""

import cvc5
import pytest
import z3
from grape_spec.language.registry import CLAIMS
from grape_spec.proof.prove import prove_claim

#: Milliseconds that cvc5 may take for one query.
TIME_LIMIT = 3000

#: Queries of the whole registry that cvc5 may leave open within that time.
LEFT_OPEN = 3


def answer_of_cvc5(query: str) -> str:
    """sat, unsat or unknown."""
    manager = cvc5.TermManager()
    solver = cvc5.Solver(manager)
    solver.setOption("tlimit-per", str(TIME_LIMIT))
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, query, "query")
    answer = ["unknown"]
    while not (command := parser.nextCommand()).isNull():
        answer = command.invoke(solver, parser.getSymbolManager()).split() or answer
    return answer[0]


def answer_of_z3(query: str) -> str:
    """sat, unsat or unknown."""
    solver = z3.Solver()
    solver.from_string(query)
    return str(solver.check())


@pytest.fixture(scope="module")
def answers():
    """What both solvers say to every query of every proof."""
    queries = [q for claim in CLAIMS.values() for proof in prove_claim(claim) for q in proof.queries]
    return [(answer_of_z3(query), answer_of_cvc5(query)) for query in queries]


def test_the_solvers_never_contradict_each_other(answers):
    assert not {("sat", "unsat"), ("unsat", "sat")} & set(answers)


def test_the_second_solver_confirms_nearly_every_query(answers):
    proved = [second for first, second in answers if first == "unsat"]
    assert len(proved) >= 40
    assert sum(second != "unsat" for second in proved) <= LEFT_OPEN


def test_the_second_solver_can_say_no():
    assert answer_of_cvc5("(set-logic ALL)(declare-fun x () Real)(assert (> x 0))(check-sat)") == "sat"

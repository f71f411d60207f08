"""Proofs that rest on themselves.

A rule that may use what it proves proves everything, however sound each of its steps is."""

from grape_spec.language import Diff, at_least, at_most, equals, holds, less, sum_over
from grape_spec.proof.rules import by_terms, fact, from_minimum, rewrite, smt, termwise, unproved

from tests.spec.attacks import world as w
from tests.spec.attacks.world import FAR, ID, attacks_on, i, u, x

attack = attacks_on("circles")

attack(
    "a claim as its own fact, in from_minimum",
    "x = 1000001",
    lambda: holds(at_most(x, FAR), by=from_minimum(of=FAR - x, over=x, at=FAR, given=[fact(ID)])),
    at={x: FAR + 1},
    refused="expected one of the earlier parts",
)
attack(
    "a claim as its own fact, for −x² ≥ 0",
    "x = 1",
    lambda: holds(at_least(-(x**2), 0), by=from_minimum(of=-(x**2), over=x, at=0, given=[fact(ID)])),
    refused="expected one of the earlier parts",
)
attack(
    "its own fact, in smt",
    "x = 1",
    lambda: holds(less(x, 0), by=smt(given=[fact(ID)])),
    refused="expected one of the earlier parts",
)
attack(
    "its own fact, in termwise",
    "u = −1",
    lambda: holds(at_least(sum_over(u[i], i), 0), by=termwise(0, given=[fact(ID)])),
    refused="expected one of the earlier parts",
)
attack(
    "itself by rewriting",
    "x = 0",
    lambda: holds(equals(w.ex(x), x), by=rewrite(ID)),
    refused="expected one of the earlier parts",
)
attack(
    "itself by the sum rule",
    "x = 1",
    lambda: holds(equals(Diff(w.mag(x), x), 2), by=by_terms(fact(ID))),
    refused="expected one of the earlier parts",
)
attack("no proof, and nothing said", "x = 1", lambda: holds(equals(x, 0), by=unproved("")))

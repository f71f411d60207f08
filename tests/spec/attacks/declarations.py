"""Declarations, definitions and rules that lie, or that change after they were used.

The prover believes what is declared: the language has to see that it is so, and that it stays so."""

from grape_spec.language import Apply, Positive, at_most, equals, holds, symbol
from grape_spec.language.registry import DEFINITIONS
from grape_spec.proof.rules import GENERAL, Rule, algebra, smt

from tests.spec.attacks import world as w
from tests.spec.attacks.world import FAR, attacks_on, of, x

attack = attacks_on("declarations")

attack(
    "a definition that calls itself positive",
    "x = −2000000: `check_domains` runs when grape_spec is imported, and no more",
    lambda: holds(equals(w.mag(of("vouched", (x,), x + FAR, domain=Positive)(x)), x + FAR), by=smt()),
    at={x: -2 * FAR},
)
attack(
    "a definition of itself",
    "f(x) = f(x) + x",
    lambda: holds(equals(of("itself", (x,), Apply("at.itself", x) + x)(), x + Apply("at.itself", x) + x), by=algebra()),
)


class Lies(Rule):
    """A rule that is not of the spec."""

    engine = "SMT"

    def prove(self, statement, context):
        return GENERAL


attack(
    "a rule that somebody wrote, under the name of another",
    "x = 1000001",
    lambda: holds(at_most(x, FAR), by=Lies()),
    at={x: FAR + 1},
)


def redefined():
    """A definition is taken out and put in again: what was unfolded before is still there."""
    first = of("changed", (x,), x)
    first(x).unfold()
    DEFINITIONS.pop("at.changed")
    return holds(equals(of("changed", (x,), x + 1)(x), x), by=algebra())


attack("a definition that changes", "everywhere", redefined)
attack(
    "a symbol of two declarations",
    "refused",
    lambda: holds(equals(symbol("at_x", Positive, ""), 1), by=smt()),
    refused="declared twice",
)
attack("a float", "refused", lambda: holds(equals(x, x + 0.5), by=algebra()), refused="floating-point")

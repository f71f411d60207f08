"""Declarations, definitions and rules that lie, or that change after they were used.

The prover believes what is declared: the language has to see that it is so, and that it stays so."""

from fractions import Fraction

from grape_spec.language import (
    Apply,
    Mask,
    Open,
    Part,
    Positive,
    Simplex,
    Smooth,
    at_most,
    equals,
    family,
    holds,
    index,
    symbol,
)
from grape_spec.language.domains import Interval, OneOf
from grape_spec.language.registry import DEFINITIONS
from grape_spec.proof.rules import GENERAL, Rule, algebra, smt

from tests.spec.attacks import world as w
from tests.spec.attacks.world import FAR, attacks_on, f, n, of, x

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
    refused="there is no definition",
)


class Liar(Interval):
    """An interval whose symbols SymPy takes for positive."""

    @property
    def assumptions(self):
        return {"positive": True}


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
    refused="expected a rule",
)


def redefined():
    """A definition is taken out and put in again: what was unfolded before is still there."""
    first = of("changed", (x,), x)
    first(x).unfold()
    DEFINITIONS.pop("at.changed")
    return holds(equals(of("changed", (x,), x + 1)(x), x), by=algebra())


attack("a definition that changes", "everywhere", redefined, refused="mappingproxy")
attack(
    "a symbol of two declarations",
    "refused",
    lambda: holds(equals(symbol("at_x", Positive, ""), 1), by=smt()),
    refused="declared twice",
)
attack("a float", "refused", lambda: holds(equals(x, x + 0.5), by=algebra()), refused="floating-point")

for name, write, refused in (
    ("an interval without a number", lambda: Open(2, 1), "expected low < high"),
    ("an interval of a single number that it leaves out", lambda: Open(1, 1), "expected low < high"),
    ("a choice among no numbers", lambda: OneOf("", ()), "expected one integer or more"),
    ("an interval under the name of another", lambda: Interval("positive", Fraction(-1)), "greater than -1"),
    ("a domain that promises what it does not keep", lambda: symbol("at_liar", Liar("real"), ""), "got the domain"),
    (
        "a subclass of a domain that promises more",
        lambda: family("at_liars", Liar("real"), n, text=""),
        "got the domain",
    ),
    ("a row that is a number", lambda: symbol("at_lonely", Simplex, ""), "got the domain"),
    ("a family of functions", lambda: family("at_functions", Smooth, n, text=""), "got the domain"),
    ("a family without an index", lambda: family("at_single", Positive, text=""), "expected one for each index"),
    ("an index over a real number", lambda: index("at_stray", x, ""), "expected a symbol of domain Size"),
    ("a name that a renamed index takes", lambda: index("at_j′", w.c, ""), "expected letters, digits and underscores"),
):
    attack(name, "nothing is of such a kind", write, refused=refused)


class TwoFaced(Part):
    """A part that says one thing to a page and another to the prover."""

    looks = 0

    def __getattribute__(self, name):
        if name == "statement":
            TwoFaced.looks += 1
            return equals(x, x + 0 * FAR) if TwoFaced.looks % 2 else equals(x, 1)
        return super().__getattribute__(name)


def patched():
    """A rule of the package with a proof of its own."""
    rule = smt()
    object.__setattr__(rule, "prove", lambda statement, context: GENERAL)
    return holds(at_most(x, FAR), by=rule)


attack("a part that changes its statement", "x = 2", lambda: TwoFaced(equals(x, 1), smt()), refused="expected holds")
attack("a rule with a proof of its own", "x = 1000001", patched, refused="with prove of its own")
attack(
    "an argument that is given twice",
    "f(1, 2)",
    lambda: of("twice", (x, x), x + 1),
    refused="twice, expected each argument once",
)
attack(
    "an argument that is a function",
    "f is not put in",
    lambda: of("applied", (f,), f(x)),
    refused="expected symbols, indices and families",
)
attack(
    "a definition that calls itself a mask",
    "x = 2",
    lambda: of("masked", (x,), x, domain=Mask()),
    refused="expected Real or Positive",
)

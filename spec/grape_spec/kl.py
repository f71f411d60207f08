"""The Kullback-Leibler divergence of two distributions over the same finite set."""

from sympy import log

from grape_spec.language import (
    Definition,
    Positive,
    Real,
    Simplex,
    Size,
    Source,
    Wrong,
    at_least,
    at_most,
    claim,
    define,
    differs,
    equals,
    family,
    greater,
    holds,
    index,
    less,
    sum_over,
    symbol,
)
from grape_spec.proof.rules import fact, finite_sum, from_minimum, smt, termwise

COVER = Source("cover2006elements", "theorem 2.6.3")

n = symbol("n", Size, "number of outcomes")
y = index("y", n, "an outcome")
p = family("p", Simplex, n, text="a distribution")
q = family("q", Simplex, n, text="a distribution over the same outcomes")
x = symbol("x", Positive, "a positive number")

divergence = define(
    Definition(
        "kl.divergence",
        "Kullback-Leibler divergence of q from p, in nats.",
        (p, q),
        sum_over(p[y] * log(p[y] / q[y]), y),
        tex=r"\mathrm{{KL}}({p} \Vert {q})",
        domain=Real,
        source=COVER,
    )
)

claim(
    "kl.log_bound",
    "The logarithm lies below its tangent at one, and touches it there only.",
    holds(at_most(log(x), x - 1), name="bound", by=from_minimum(of=x - 1 - log(x), over=x, at=1)),
    holds(
        less(log(x), x - 1),
        name="strict",
        assuming=[differs(x, 1)],
        by=from_minimum(of=x - 1 - log(x), over=x, at=1, strict=True),
    ),
    wrong=[
        Wrong("the tangent without its constant", at_most(log(x), x - 2)),
        Wrong("the other way round", at_least(log(x), x - 1)),
    ],
)

claim(
    "kl.nonnegative",
    "The divergence is never negative, and zero only where the two distributions agree.",
    holds(
        at_least(divergence(), 0),
        name="bound",
        by=termwise(p[y] - q[y], given=[fact("kl.log_bound", part="bound", x=q[y] / p[y])]),
    ),
    holds(equals(divergence(p, p), 0), name="zero where they agree", by=finite_sum()),
    holds(
        greater(p[y] * log(p[y] / q[y]) - (p[y] - q[y]), 0),
        name="an outcome on which they differ makes its term positive",
        assuming=[differs(p[y], q[y])],
        by=smt(given=[fact("kl.log_bound", part="strict", x=q[y] / p[y])]),
    ),
    source=COVER,
    wrong=[
        Wrong("every term is non-negative by itself", at_least(p[y] * log(p[y] / q[y]), 0)),
        Wrong("the divergence is symmetric", equals(divergence(), divergence(q, p))),
    ],
)

"""The contract of the reduction from tokens to one number."""

from __future__ import annotations

from flint import arb

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import ALL_DIFFERENTIATED, EVERY, MASKED, MASKS, Contract, number
from grape_verified.conformance.defaults import options_of
from grape_verified.conformance.oracle import Aggregation, Answer, Arithmetic, Term, precisely, reduced
from grape_verified.conformance.strategies import Case


@precisely
def aggregate(case: Case, arithmetic: Arithmetic) -> Answer:
    """The aggregate of given values. Scale: 0, as every term is rounded relative to itself."""
    how = Aggregation.of(case, arithmetic, option="mode")
    values = case.tensors["per_token"].tolist()
    terms = {(i, t): Term(arithmetic.near(values[i][t]), lambda name: arb(1)) for i, t in how.counted()}
    return reduced(terms, how, ["per_token"], arithmetic)


CONTRACTS = (
    Contract(
        name="aggregate",
        kernel="aggregate",
        tensors=("per_token", "mask"),
        wrt=("per_token",),
        options=options_of("aggregate", {}, ("mode", "denominator", "max_length")),
        build=strategies.value_tensors,
        drawn=("per_token", "mask"),
        oracle=aggregate,
        result=number,
        properties=(*EVERY, *MASKED, *ALL_DIFFERENTIATED),
        variants=MASKS,
    ),
)

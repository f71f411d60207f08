"""Assertions of the bounds in docstrings, shared by the tests of all methods."""

import math
import os

import torch
from hypothesis import HealthCheck, given, settings

from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case, Regime
from grape_verified.conformance.subject import read

#: Inputs for each property; nightly runs use more.
EXAMPLES = int(os.environ.get("GRAPE_VERIFIED_EXAMPLES", "120"))


def subject_of(name):
    """Our own kernel of a contract, checked strictly."""
    contract = CONTRACTS[name]
    return read(contract.function, contract, {}, strict=True)


def middle(target):
    """The expected number, nearly exact here."""
    return float(target.ball.mid())


def factors(subject, scales, case):
    """|error| of each number that a kernel returns, in units of u · scale; underflow aside.

    ``scales(case, answer)`` gives one scale for each number; where it is 0, the result must be exact.
    """
    got = subject.call(case, case.tensors)
    numbers = torch.finfo(got.dtype)
    answer = subject.contract.oracle(case, EXACT)
    found = []
    for number, target, scale in zip(got.flatten().tolist(), answer.values, scales(case, answer), strict=True):
        error = max(0.0, abs(float(target.ball.mid() - number)) - numbers.tiny)
        found.append(error / (numbers.eps / 2 * scale) if scale else error and math.inf)
    return found


def largest_error(name, constant, scales, text, numbers="ordinary"):
    """Assert |error| ≤ constant · u · scale, with the text in the docstring; return the largest factor by dtype."""
    contract, subject = CONTRACTS[name], subject_of(name)
    assert text in " ".join(contract.function.__doc__.split())
    regime = Regime((torch.float64, torch.float32, torch.bfloat16), numbers=numbers)
    largest = {}

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(contract.cases(regime, subject.offered, {}, contract.variants))
    def holds(case: Case):
        factor = max(factors(subject, scales, case))
        assert factor <= constant
        largest[str(case.dtype)] = max(largest.get(str(case.dtype), 0.0), round(factor, 2))

    holds()
    return largest

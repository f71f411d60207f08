"""The bound in a docstring is the bound that is asserted: what the tests of all methods share."""

import torch
from hypothesis import HealthCheck, given, settings

import grape_verified
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.checking import read
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case, Regime

EXAMPLES = 200


def subject_of(name):
    """Our own kernel of a contract, held to everything that it promises."""
    contract = CONTRACTS[name]
    return read(getattr(grape_verified, contract.kernel), contract, {}, strict=True)


def middle(target):
    """The expected number, which is all but exact here."""
    return float(target.ball.mid())


def largest_error(name, constant, scales, text, numbers="ordinary"):
    """Assert |error| ≤ constant · u · scale, as the docstring says in these words; the largest factor by dtype.

    ``scales(case, answer)`` gives one scale for each number that the kernel returns.
    """
    contract, subject = CONTRACTS[name], subject_of(name)
    assert text in " ".join(getattr(grape_verified, contract.kernel).__doc__.split())
    regime = Regime((torch.float64, torch.float32, torch.bfloat16), numbers=numbers)
    largest = {}

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(contract.cases(regime, subject.offered, {}, contract.variants))
    def holds(case: Case):
        got = subject.call(case, case.tensors)
        numbers = torch.finfo(got.dtype)
        answer = contract.oracle(case, EXACT)
        for number, target, scale in zip(got.flatten().tolist(), answer.values, scales(case, answer), strict=True):
            error = max(0.0, abs(float(target.ball.mid() - number)) - numbers.tiny)
            assert error <= constant * numbers.eps / 2 * scale
            if scale:
                dtype = str(case.dtype)
                largest[dtype] = max(largest.get(dtype, 0.0), round(error / (numbers.eps / 2 * scale), 2))

    holds()
    return largest

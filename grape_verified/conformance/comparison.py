"""Comparison of results: with the oracle, and with each other up to the order of summation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from grape_verified.conformance.oracle import EXACT, Arithmetic, Target
from grape_verified.conformance.strategies import NOISE, Case
from grape_verified.conformance.subject import Outcome, Subject, Violation

#: Unit roundoffs by which two results may differ that are the same sum in another order.
SAME = 64


def compare_with_spec(
    subject: Subject,
    case: Case,
    cotangent: Tensor,
    *,
    values: bool = True,
    gradients: bool = True,
    any_branch: bool = False,
) -> Outcome:
    """Call the function and compare its result with the oracle. A missing gradient is not compared."""
    outcome = subject(case, cotangent)
    arithmetic = Arithmetic.of(outcome.value.dtype, case.dtype, strict=subject.strict, any_branch=any_branch)
    answer = subject.contract.oracle(case, arithmetic)
    if values:
        _all_accepted(subject, case, outcome.value, answer.values, noun_of(subject))
    if gradients and outcome.gradients is not None:
        expected = answer.gradients(cotangent.flatten().tolist())
        for name, got in outcome.gradients.items():
            _all_accepted(subject, case, got, expected[name], f"gradient in {name}", cotangent)
    return outcome


def compare_gradient(subject: Subject, case: Case, cotangent: Tensor) -> None:
    """Compare the gradients only; a missing one is a violation."""
    outcome = compare_with_spec(subject, case, cotangent, values=False)
    if outcome.gradients is None:
        raise Violation(f"the {noun_of(subject)} {outcome.no_gradients}", case)


def _all_accepted(
    subject: Subject, case: Case, got: Tensor, targets: Sequence[Target], noun: str, cotangent: Tensor | None = None
) -> None:
    """Check that every number of a tensor is accepted; those that the spec gives no value are counted."""
    for place, (number, target) in enumerate(zip(got.flatten().tolist(), targets, strict=True)):
        if target.is_undefined:
            subject.undefined["numbers"] += 1
        elif not target.accepts(number):
            where = place_in(got, place)
            if cotangent is not None and not cotangent.ndim and cotangent != 1:
                where += f" for an upstream gradient of {cotangent.item()!r}"
            raise Violation(
                f"the {noun}{where} is {number!r}, the spec gives {target}",
                case,
                cotangents=cotangent,
                remarks=[f"{noun}{where}: got {number!r}, expected {target}"],
            )


def compare(
    subject: Subject, case: Case, got: Outcome, expected: Outcome, which: str, *, cut: int | None = None
) -> None:
    """Compare two results of a function up to the order of summation, the other one being from `which` call.

    NaN equals NaN: other properties reject it.
    """
    noun = noun_of(subject)
    pairs = [(noun, got.value, expected.value)]
    if got.gradients is not None and expected.gradients is not None:
        pairs += [(f"gradient in {name}", found, expected.gradients[name]) for name, found in got.gradients.items()]
    for what, found, wanted in pairs:
        both = enumerate(zip(found.flatten().tolist(), wanted.flatten().tolist(), strict=True))
        differ = [(place, a, b) for place, (a, b) in both if a != b and not (math.isnan(a) and math.isnan(b))]
        slack = _slack(subject, case, found, wanted) if differ else 0.0
        for place, a, b in differ:
            if not abs(a - b) <= slack:
                where, other = f"{what}{place_in(found, place)}", f"but {b!r} from the same function {which}"
                remark = f"{where}: got {a!r}, {other}"
                raise Violation(f"the {where} is {a!r}, {other}", case, remarks=[remark], cut=cut)


def _slack(subject: Subject, case: Case, found: Tensor, wanted: Tensor) -> float:
    """The difference that a change of the order of summation may make, and the least number where one underflows."""
    size = subject.contract.oracle(case, EXACT).size()
    largest = max(size, found.abs().max().item(), wanted.abs().max().item())
    finer, coarser = (torch.finfo(tensor.dtype).eps for tensor in (wanted, found))
    least = max(torch.finfo(tensor.dtype).tiny * torch.finfo(tensor.dtype).eps for tensor in (wanted, found))
    return float(largest * (SAME * finer / 2 + (coarser if coarser > finer else 0)) + least)


def rounding_size(numbers: Tensor) -> float:
    """What is left of numbers around 1, or of the largest of these, where they cancel."""
    largest = numbers[numbers.isfinite()].abs().max().item() if bool(numbers.isfinite().any()) else 0.0
    return SAME * torch.finfo(numbers.dtype).eps / 2 * max(1.0, largest)


def wrong(case: Case, what: str, got: float, expected: str) -> Violation:
    """The violation for a number that is not the expected one."""
    remark = f"{what}: got {got!r}, expected {expected}"
    return Violation(f"the {what} is {got!r}, expected {expected}", case, remarks=[remark])


def is_masked(subject: Subject, name: str, tensor: Tensor, mask: Tensor) -> bool:
    """Whether a tensor lies along the mask, with one number or several for each token."""
    along = tensor.shape[: mask.ndim] == mask.shape
    return name not in ("mask", *subject.contract.unmasked, *subject.contract.shared) and along


def over(mask: Tensor, tensor: Tensor) -> Tensor:
    """A mask over tokens in a shape that goes with a tensor that lies along it."""
    return mask.reshape(mask.shape + (1,) * (tensor.ndim - mask.ndim))


def ones_for(subject: Subject, case: Case) -> Tensor:
    """The cotangent of a plain sum of the results, in the dtype that they should have."""
    shape = subject.contract.shape_of_result(case)
    return torch.ones(shape, dtype=torch.promote_types(case.dtype, torch.float32))


def noise(case: Case, pool: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Numbers of a pool, by the noise of the case."""
    count = math.prod(shape)
    numbers = [pool[case.noise[i % NOISE]] for i in range(count)]
    return torch.tensor(numbers, dtype=torch.promote_types(case.dtype, torch.float32)).reshape(tuple(shape))


def noun_of(subject: Subject) -> str:
    """What a sentence calls the result."""
    return "loss" if subject.contract.reduced else "result"


def place_in(tensor: Tensor, place: int) -> str:
    """The index of an entry, given its place in the flattened tensor; nothing for a single number."""
    index = [int(i) for i in torch.unravel_index(torch.tensor(place), tensor.shape)]
    return f" at {index}" if index else ""

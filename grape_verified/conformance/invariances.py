"""Changes of an input that must not change what a function returns; the function is compared with itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from grape_verified.conformance.comparison import compare, is_masked, noise, ones_for, over
from grape_verified.conformance.strategies import ADVANTAGES, GARBAGE, LOGPS, Case
from grape_verified.conformance.subject import Outcome, Subject, Violation


def masked_values(subject: Subject, case: Case) -> None:
    """Masked entries do not affect the result, NaN and inf included."""
    masked = case.tensors["mask"] == 0
    dirty = case.with_tensors(
        **{
            name: torch.where(over(masked, tensor), noise(case, GARBAGE, tensor.shape).to(tensor.dtype), tensor)
            for name, tensor in case.tensors.items()
            if is_masked(subject, name, tensor, masked)
        }
    )
    ones = ones_for(subject, case)
    clean, got = subject(case, ones), subject(dirty, ones)
    compare(subject, dirty, got, clean, "with finite numbers where masked")
    for name, found in (got.gradients or {}).items():
        behind = found[masked].flatten().tolist() if is_masked(subject, name, found, masked) else []
        if any(behind):
            raise Violation(f"the gradient in {name} where masked is {next(filter(None, behind))!r}, expected 0", dirty)


def masked_items(subject: Subject, case: Case) -> None:
    """Entries of items that a prompt does not have do not affect the result, NaN and inf included."""
    masked = case.tensors["item_mask"] == 0
    behind = {"scores": masked.unsqueeze(1), "confidences": masked.unsqueeze(1), "weights": masked.all(0)}
    dirty = case.with_tensors(
        **{
            name: torch.where(where, noise(case, GARBAGE, case.tensors[name].shape).to(case.dtype), case.tensors[name])
            for name, where in behind.items()
        }
    )
    compare(subject, dirty, subject(dirty), subject(case), "with finite numbers where items are masked")


def padding(subject: Subject, case: Case) -> None:
    """Inserting masked positions anywhere does not change the result."""
    mask = case.tensors["mask"]
    rows, columns = mask.shape
    place, width = case.noise[0] % (columns + 1), 1 + case.noise[1] % 2
    old = [t for t in range(columns + width) if not place <= t < place + width]

    def widened(name: str, tensor: Tensor) -> Tensor:
        if name != "mask" and not is_masked(subject, name, tensor, mask):
            return tensor
        pool, shape = ADVANTAGES if name == "advantages" else LOGPS, (rows, columns + width, *tensor.shape[2:])
        wide = noise(case, pool, shape).to(tensor.dtype)
        if name == "mask":
            wide = torch.zeros(rows, columns + width, dtype=tensor.dtype)
        wide[:, old] = tensor
        return wide

    padded = case.with_tensors(**{name: widened(name, tensor) for name, tensor in case.tensors.items()})
    got, expected = (subject(given, ones_for(subject, given)) for given in (padded, case))

    def kept(found: Tensor, wanted: Tensor) -> Tensor:
        return found if found.shape == wanted.shape else found[:, old]

    value = kept(got.value, expected.value)
    gradients = None
    if got.gradients is not None and expected.gradients is not None:
        gradients = {name: kept(g, expected.gradients[name]) for name, g in got.gradients.items()}
    compare(subject, padded, replace(got, value=value, gradients=gradients), expected, "without the masked positions")


def permutation(subject: Subject, case: Case) -> None:
    """The order of the batch does not matter."""
    contract = subject.contract
    order = sorted(range(contract.parts(case)), key=lambda i: case.noise[i])
    shuffled = contract.of_parts(case, order)
    ones = ones_for(subject, case)
    plain, got = subject(case, ones), subject(shuffled, ones)

    def ordered(**tensors: Tensor) -> Mapping[str, Tensor]:
        return contract.of_parts(case.with_tensors(**tensors), order).tensors

    expected = Outcome(
        plain.value if contract.reduced else ordered(value=plain.value)["value"],
        None if plain.gradients is None else {name: ordered(**{name: g})[name] for name, g in plain.gradients.items()},
    )
    compare(subject, shuffled, got, expected, "in another order of the batch")


def partition(subject: Subject, case: Case) -> None:
    """With a shared denominator, losses and gradients of micro-batches add up to those of the batch."""
    contract = subject.contract
    count = contract.parts(case)
    if count == 1:
        return
    case = case.with_options(**contract.divided_at)
    if case.options["denominator"] is None and "token_sum" not in case.options.values():
        case = case.with_options(denominator=7)
    cut = 1 + case.noise[0] % (count - 1)
    halves = [subject(contract.of_parts(case, part)) for part in (range(cut), range(cut, count))]
    total = Outcome(
        halves[0].value + halves[1].value,
        None
        if any(half.gradients is None for half in halves)
        else {name: torch.cat([half.gradients[name] for half in halves]) for name in contract.wrt},  # type: ignore[index]
    )
    compare(subject, case, total, subject(case), "for the whole batch", cut=cut)

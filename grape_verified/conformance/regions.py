"""Where a function goes wrong: what an input has beside a plain one, in words.

Hypothesis makes a failing input as plain as it can be while it fails. What is then left beside a plain input, such as
an option at another value or a row without tokens, is what the failure needs. A search that leaves such inputs out
finds the next failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import torch
from torch import Tensor

from grape_verified.conformance.strategies import Case
from grape_verified.conformance.subject import Subject, Violation

#: Beyond this difference of log-probabilities a ratio is no ordinary number, and beyond this magnitude a value.
LARGE_RATIO, LARGE_VALUE = 20.0, 100.0

Words = frozenset[str]


def beside_plain(subject: Subject, case: Case) -> Words:
    """Everything that an input has beside a plain one: options, forms of tensors, what training throws at a loss."""
    return frozenset((*_options(subject, case), *_forms(subject, case), *unusual(case)))


def needed(violation: Violation, words: Words) -> Words:
    """What inputs to leave out after a violation: for a wrong number, every other value of an option it needs."""
    if violation.raised:
        return words
    names = {word.partition("=")[0] for word in words if "=" in word}
    return frozenset({word for word in words if "=" not in word} | {f"{name} changed" for name in names})


def lies_in(words: Words, regions: Iterable[Words]) -> bool:
    """Whether an input lies in a region that was found."""
    return any(region <= words for region in regions)


def shown(words: Words) -> tuple[str, ...]:
    """The words for a reader."""
    return tuple(sorted(word for word in words if not word.endswith(" changed")))


def _options(subject: Subject, case: Case) -> Iterator[str]:
    usual = subject.contract.defaults(subject.held)
    for name in subject.offered:
        if case.options[name] != usual[name]:
            yield f"{name}={case.options[name]!r}"
            yield f"{name} changed"


def _forms(subject: Subject, case: Case) -> Iterator[str]:
    first = subject.variants[0]
    if case.dtype != torch.float64:
        yield f"in {str(case.dtype).removeprefix('torch.')}"
    if case.variant.mask != first.mask:
        yield f"with a {case.variant.mask} mask"
    if case.variant.advantages != first.advantages:
        yield f"with advantages {case.variant.advantages}"
    if (mask := case.tensors.get("mask")) is not None and not bool(mask.all()):
        yield "a token is masked"


def unusual(case: Case) -> Iterator[str]:
    """What is not ordinary about an input: rows without tokens, extreme numbers, groups of equal rewards."""
    if (mask := case.tensors.get("mask")) is not None:
        if not mask.any():
            yield "no token counts"
        elif not bool(mask.any(-1).all()):
            yield "a row has no tokens"
    numbers = {name: tensor for name, tensor in case.tensors.items() if tensor.is_floating_point() and name != "mask"}
    if any(bool((tensor == -torch.inf).any()) for tensor in numbers.values()):
        yield "a logit is -inf"
    if _far_apart([tensor for name, tensor in numbers.items() if name.endswith("logps")]):
        yield f"log-probabilities differ by more than {LARGE_RATIO:g}"
    others = (tensor for name, tensor in numbers.items() if not name.endswith("logps"))
    if any(bool((tensor[tensor.isfinite()].abs() > LARGE_VALUE).any()) for tensor in others):
        yield f"numbers are beyond {LARGE_VALUE:g}"
    size = case.options.get("group_size")
    if isinstance(size, int) and "rewards" in numbers and len(numbers["rewards"]) % size == 0:
        groups = numbers["rewards"].reshape(-1, size)
        if size > 1 and bool((groups.amax(1) == groups.amin(1)).any()):
            yield "all rewards of a group are equal"


def _far_apart(logps: list[Tensor]) -> bool:
    pairs = ((a, b) for a, b in combinations(logps, 2) if a.shape == b.shape)
    return any(bool(((a - b).nan_to_num().abs() > LARGE_RATIO).any()) for a, b in pairs)

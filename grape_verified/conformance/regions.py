"""Where a function goes wrong: how an input differs from a plain one, in words.

Hypothesis makes a failing input as plain as it can while it still fails. Any remaining difference from a plain input,
such as an option at another value or a row without tokens, is what the failure needs. A search that leaves such inputs
out finds the next failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

import torch
from torch import Tensor

from grape_verified.conformance.strategies import COLUMNS, Case
from grape_verified.conformance.subject import Subject, Violation

#: Beyond this difference of log-probabilities a ratio is not ordinary; beyond these magnitudes, a value and a logit
#: divided by the temperature are not ordinary.
LARGE_RATIO, LARGE_VALUE, LARGE_LOGIT = 20.0, 100.0, 50.0

#: Numbers that differ by no more than this are nearly equal, where a result is divided by their standard deviation.
CLOSE = 0.0201

Words = frozenset[str]


def beside_plain(subject: Subject, case: Case) -> Words:
    """How an input differs from a plain one: options, forms of tensors, and what training throws at a loss."""
    return frozenset((*_options(subject, case), *_forms(subject, case), *unusual(case)))


def needed(violation: Violation, words: Words) -> Words:
    """Which inputs to leave out after a violation: for a wrong number, all other values of an option that it needs."""
    if violation.raised:
        return words
    names = {word.partition("=")[0] for word in words if "=" in word}
    return frozenset({word for word in words if "=" not in word} | {f"{name} changed" for name in names})


def lies_in(words: Words, regions: Iterable[Words]) -> bool:
    """Whether an input lies in one of the regions."""
    return any(region <= words for region in regions)


def shown(words: Words) -> tuple[str, ...]:
    """The words for a reader."""
    return tuple(sorted(word for word in words if not word.endswith(" changed")))


#: Magnitudes of numbers that are easy to read.
READABLE = (1e-3, 1e4)

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[-+]?\d+)?")


def awkward(violation: Violation) -> int:
    """How hard the numbers of a sentence are to read: 2 if one is tiny, 1 if one is huge, else 0."""
    low, high = READABLE
    sizes = [abs(float(number)) for number in _NUMBER.findall(violation.sentence)]
    return 2 if any(0 < size < low for size in sizes) else int(any(size > high for size in sizes))


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
    along = next(iter(case.tensors.values()))
    if along.ndim > 1 and along.shape[1] > COLUMNS:
        yield f"a row is longer than {COLUMNS}"


def unusual(case: Case) -> Iterator[str]:
    """What is not ordinary about an input: rows without tokens, extreme numbers, groups in which nothing differs."""
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
    if bool((_margins(case).abs() > LARGE_RATIO).any()):
        yield f"a margin is beyond {LARGE_RATIO:g}"
    if "logits" in numbers and _largest(numbers["logits"]) > LARGE_LOGIT * abs(case.options.get("temperature", 1.0)):
        yield f"logits over the temperature are beyond {LARGE_LOGIT:g}"
    others = (tensor for name, tensor in numbers.items() if not name.endswith("logps"))
    if any(_largest(tensor) > LARGE_VALUE for tensor in others):
        yield f"numbers are beyond {LARGE_VALUE:g}"
    yield from _of_groups(case)


def _largest(tensor: Tensor) -> float:
    """The largest magnitude among the finite numbers, 0 if there are none."""
    return max(tensor[tensor.isfinite()].abs().tolist(), default=0.0)


def _margins(case: Case) -> Tensor:
    """What the losses of pairs exponentiate; nothing for other inputs."""
    given = case.tensors
    if "chosen_rewards" in given:
        return given["chosen_rewards"] - given["rejected_rewards"]
    if "ref_chosen_logps" in given and "beta" in case.options:
        chosen, rejected = (given[f"{side}_logps"] - given[f"ref_{side}_logps"] for side in ("chosen", "rejected"))
        return case.options["beta"] * (chosen - rejected)
    return torch.empty(0)


def _of_groups(case: Case) -> Iterator[str]:
    """Where a divisor, such as a spread or a sum, is 0."""
    given, options = case.tensors, case.options
    size = options.get("group_size") if "ddof" in options else None
    if isinstance(size, int) and "rewards" in given and len(given["rewards"]) % size == 0:
        groups = given["rewards"].reshape(-1, size)
        if size == 1:
            yield "a group has one member"
        else:
            spread = groups.amax(1) - groups.amin(1)
            if bool((spread == 0).any()):
                yield "all rewards of a group are equal"
            if bool(((spread > 0) & (spread <= CLOSE)).any()):
                yield "rewards of a group are nearly equal"
    if "values" in given and "ddof" in options and len(counted := given["values"][given["mask"] != 0]):
        if len(counted) <= options["ddof"]:
            yield "too few values count for a variance"
        elif bool((counted == counted[0]).all()):
            yield "all values are equal"
        elif counted.max() - counted.min() <= CLOSE:
            yield "values are nearly equal"
    if {"confidences", "weights", "item_mask"} <= set(given):
        trust = given["weights"] * given["confidences"].mean(1) * (given["item_mask"] != 0)
        if bool((trust.nan_to_num() == 0).all(-1).any()):
            yield "no item of a prompt is trusted"


def _far_apart(logps: list[Tensor]) -> bool:
    pairs = ((a, b) for a, b in combinations(logps, 2) if a.shape == b.shape)
    return any(bool(((a - b).nan_to_num().abs() > LARGE_RATIO).any()) for a, b in pairs)

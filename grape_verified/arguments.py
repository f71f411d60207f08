"""Checks of arguments, made before any work.

Every error is a TypeError or a ValueError that names the argument, what it was and what was expected. Checks of values
(a mask that is not boolean, targets, a denominator on a device) synchronise with the device, and are skipped where
values cannot be read (`values_are_readable`).
"""

import math
import sys
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch import distributed as dist

from grape_verified.numerics import has_values, values_are_readable

Aggregation = Literal["token_mean", "sequence_mean", "sequence_sum", "token_sum", "fixed_length"]
Estimator = Literal["k1", "k2", "k3"]

#: The range of normal fp32 numbers, to which options are limited.
SMALLEST, LARGEST = 2.0**-126, 2.0**127


@dataclass(frozen=True)
class Range:
    """The interval of allowed values of an option, with its text for errors; `ends` says which ends it includes."""

    text: str
    low: float = -math.inf
    high: float = math.inf
    ends: str = "()"

    def __contains__(self, x: float) -> bool:
        above = self.low <= x if self.ends[0] == "[" else self.low < x
        return above and (x <= self.high if self.ends[1] == "]" else x < self.high)

    def __str__(self) -> str:
        return self.text


FINITE = Range("a finite number")
POSITIVE = Range("a finite number > 0", low=0.0)
NON_NEGATIVE = Range("a finite number >= 0", low=0.0, ends="[)")
UNIT_INTERVAL = Range("a number in [0, 1]", 0.0, 1.0, ends="[]")
BELOW_HALF = Range("a number in [0, 0.5)", 0.0, 0.5, ends="[)")
DENOMINATOR = Range("None, a finite number > 0 or a 0-d tensor that holds one", low=0.0)

RANKS = {"(batch, time)": 2, "(batch,)": 1, "(prompts, group, items)": 3, "(parameters,)": 1}


def token_advantages(advantages: Tensor, logps: Tensor) -> Float[Tensor, "batch time"]:
    """Check advantages; return them as constants, one for each token."""
    check_floating("advantages", advantages)
    check_same_device("advantages", advantages, "logps", logps)
    if advantages.shape not in (logps.shape, logps.shape[:1]):
        raise ValueError(
            f"advantages: got shape {_shape(advantages)}, expected {_shape(logps)}, the shape of logps, "
            f"or {tuple(logps.shape[:1])}, one for each sequence"
        )
    if advantages.ndim == 1:
        advantages = advantages.unsqueeze(1).expand_as(logps)
    return advantages.detach()


def check_one_per_sequence(name: str, value: Tensor, logps: Tensor) -> None:
    """Check a floating-point tensor with one number for each sequence of logps."""
    check_floating(name, value)
    check_same_device(name, value, "logps", logps)
    if value.shape != logps.shape[:1]:
        raise ValueError(
            f"{name}: got shape {_shape(value)}, expected {tuple(logps.shape[:1])}, one for each sequence of logps"
        )


def counted_tokens(mask: Tensor, like_name: str, like: Tensor) -> Bool[Tensor, "batch time"]:
    """Check a mask against the tensor that it masks; return it as bool. The values of a bool mask are not read."""
    check_tensor("mask", mask)
    check_same_shape("mask", mask, like_name, like)
    return as_bool("mask", mask)


def as_bool(name: str, mask: Tensor) -> Bool[Tensor, "*shape"]:
    """Check the values of a mask; return it as bool."""
    if mask.is_complex():
        raise TypeError(f"{name}: got dtype {mask.dtype}, expected bool, or numbers that are only 0 and 1")
    if mask.dtype != torch.bool:
        check_values(name, mask, (mask == 0) | (mask == 1), "only 0 and 1")
    return mask.to(torch.bool)


def check_denominator(denominator: float | Tensor | None) -> float | Tensor | None:
    """Check a denominator; return a number as a float, a tensor unchanged."""
    if denominator is None:
        return None
    if not isinstance(denominator, Tensor):
        return check_number("denominator", denominator, DENOMINATOR)
    check_tensor("denominator", denominator)
    if denominator.ndim:
        raise ValueError(f"denominator: got shape {_shape(denominator)}, expected {DENOMINATOR}")
    if denominator.is_meta:
        raise ValueError(f"denominator: got device meta, expected {DENOMINATOR}")
    if denominator.dtype == torch.bool or denominator.is_complex():
        raise TypeError(f"denominator: got dtype {denominator.dtype}, expected {DENOMINATOR}")
    if values_are_readable(denominator):
        check_number("denominator", denominator.item(), DENOMINATOR)
    return denominator


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check an option with a fixed list of strings."""
    expected = "one of " + ", ".join(repr(choice) for choice in choices)
    if not isinstance(value, str):
        raise TypeError(f"{name}: got {type(value).__name__}, expected {expected}")
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected {expected}")


def check_flag(name: str, value: bool) -> None:
    """Check a boolean option."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: got {type(value).__name__}, expected True or False")


def check_finite(name: str, value: Tensor) -> None:
    """Check that a tensor holds no NaN and no infinity."""
    check_values(name, value, value.isfinite(), "finite values only")


def check_values(name: str, value: Tensor, right: Bool[Tensor, "*shape"], expected: str) -> None:
    """Check that every entry of a tensor is valid, if its values can be read."""
    if values_are_readable(right) and not right.all():
        raise ValueError(f"{name}: got the value {value[~right][0].item()}, expected {expected}")


def check_has_values(name: str, tensor: Tensor) -> None:
    """Check that a tensor has values, for a function whose control flow depends on them."""
    if not torch.compiler.is_compiling() and not has_values(tensor):
        raise ValueError(f"{name}: got a tensor without values (fake, meta or within vmap), expected one with values")


def check_integer(name: str, value: int | None, *, at_least: int) -> int:
    """Check a count; return it as a plain int."""
    expected = f"an integer >= {at_least}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: got {value!r}, expected {expected}")
    if value < at_least:
        raise ValueError(f"{name}: got {value}, expected {expected}")
    return int(value)


def check_number(name: str, value: float, allowed: Range) -> float:
    """Check that a value is a real number within a range; return it as a float.

    Bools are refused, as a flag in the wrong place, and so are numbers that fp32 would round to inf or 0.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: got {type(value).__name__}, expected {allowed}")
    if value not in allowed:
        raise ValueError(f"{name}: got {value}, expected {allowed}")
    if value and not SMALLEST <= abs(value) <= LARGEST:
        shown = f"{value:.3g}" if abs(value) < 1 else f"a number beyond {LARGEST:.3g}"
        raise ValueError(f"{name}: got {shown}, expected {allowed} within the range of fp32")
    return float(value)


def check_floating(name: str, value: Tensor, layout: str | None = None) -> None:
    """Check that a value is a floating-point tensor, with the rank of a layout such as "(batch, time)"."""
    check_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: got dtype {value.dtype}, expected a floating-point dtype")
    if layout is not None and value.ndim != RANKS[layout]:
        raise ValueError(f"{name}: got shape {_shape(value)}, expected shape {layout}")


def check_alike(layout: str, **tensors: Tensor) -> None:
    """Check that tensors are floating-point, the first of the layout, the others of its shape and on its device."""
    first, like = next(iter(tensors.items()))
    check_floating(first, like, layout)
    for name, value in tensors.items():
        if name != first:
            check_like(name, value, first, like)


def check_like(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Check that a tensor is floating-point, of the shape and on the device of another."""
    check_floating(name, value)
    check_same_shape(name, value, like_name, like)


def check_logits(logits: Tensor) -> None:
    """Check that logits are a floating-point tensor with a vocabulary."""
    check_floating("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits: got shape {_shape(logits)}, expected shape (..., vocab) with a vocab > 0")


def check_tensor(name: str, value: object) -> None:
    """Check that a value is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a tensor")
    if is_dtensor(value):
        raise TypeError(
            f"{name}: got a DTensor, expected a plain tensor; pass {name}.to_local(), and the group= of its ranks to "
            "functions that take one"
        )
    if value.layout != torch.strided:
        raise TypeError(f"{name}: got layout {value.layout}, expected a dense tensor")


def is_dtensor(value: Tensor) -> bool:
    """Whether a value is a DTensor. There is none before its module is imported, and the import is slow."""
    if type(value) in (Tensor, torch.nn.Parameter):
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def check_group(group: object) -> None:
    """Check a group of ranks."""
    if group is not None and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(f"group: got {type(group).__name__}, expected a torch.distributed.ProcessGroup or None")


def check_same_shape(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Check that a tensor has the shape and the device of another."""
    check_same_device(name, value, like_name, like)
    if value.shape != like.shape:
        raise ValueError(f"{name}: got shape {_shape(value)}, expected {_shape(like)}, the shape of {like_name}")


def check_same_dtype(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Check that a tensor has the dtype of another."""
    if value.dtype != like.dtype:
        raise TypeError(f"{name}: got dtype {value.dtype}, expected {like.dtype}, the dtype of {like_name}")


def check_same_device(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Check that a tensor is on the device of another."""
    if value.device != like.device:
        raise ValueError(f"{name}: got device {value.device}, expected {like.device}, the device of {like_name}")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)

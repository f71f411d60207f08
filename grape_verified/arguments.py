"""All checking of arguments, before any work, and the neutralising of what is masked.

Every error is a TypeError or a ValueError that names the argument, what came and what was expected.
Checks of values (a mask that is not boolean, targets, a denominator on a device) wait for the device,
and are skipped where values cannot be read (`values_are_readable`).
"""

import math
import sys
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch import distributed as dist

from grape_verified.numerics import compute_dtype

Aggregation = Literal["token_mean", "sequence_mean", "sequence_sum", "token_sum", "fixed_length"]
Estimator = Literal["k1", "k2", "k3"]
LogRatio = Literal["sum", "mean"]

#: The range of normal fp32 numbers, which options have to lie in.
SMALLEST, LARGEST = 2.0**-126, 2.0**127


@dataclass(frozen=True)
class Range:
    """The numbers that an option may be: in words, and by two ends, each of which belongs to it or not."""

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
DUAL_CLIP = Range("None or a finite number > 1", low=1.0)
VALUE_CLIP = Range("None or a finite number > 0", low=0.0)
DENOMINATOR = Range("None, a finite number > 0 or a 0-d tensor that holds one", low=0.0)

RANKS = {"(batch, time)": 2, "(batch,)": 1, "(prompts, group, items)": 3, "(parameters,)": 1}


@dataclass(frozen=True)
class TokenInputs:
    """What a ratio-based loss reads for each token, in the compute dtype; only `logps` carries a gradient."""

    logps: Float[Tensor, "batch time"]
    old_logps: Float[Tensor, "batch time"]
    advantages: Float[Tensor, "batch time"]

    def only(self, counted: Bool[Tensor, "batch time"]) -> "TokenInputs":
        """The same with 0 where a token does not count, so that NaN and inf behind a mask reach nothing."""
        masked = ~counted
        return TokenInputs(
            self.logps.masked_fill(masked, 0),
            self.old_logps.masked_fill(masked, 0),
            self.advantages.masked_fill(masked, 0),
        )


@dataclass(frozen=True)
class PairInputs:
    """Sequence log-probabilities of pairs, in the compute dtype; those of the reference carry no gradient."""

    chosen_logps: Float[Tensor, " batch"]
    rejected_logps: Float[Tensor, " batch"]
    ref_chosen_logps: Float[Tensor, " batch"]
    ref_rejected_logps: Float[Tensor, " batch"]


def token_inputs(logps: Tensor, old_logps: Tensor, advantages: Tensor) -> TokenInputs:
    """Check the per-token tensors of a ratio-based loss and bring them to one shape and dtype."""
    check_floating("logps", logps, "(batch, time)")
    check_floating("old_logps", old_logps)
    check_same_shape("old_logps", old_logps, "logps", logps)
    advantages = token_advantages(advantages, logps)
    dtype = compute_dtype(logps)
    return TokenInputs(logps.to(dtype), old_logps.detach().to(dtype), advantages)


def token_advantages(advantages: Tensor, logps: Tensor) -> Float[Tensor, "batch time"]:
    """Check advantages; return them as constants, one for each token, in the compute dtype of logps."""
    check_floating("advantages", advantages)
    check_same_device("advantages", advantages, "logps", logps)
    if advantages.shape not in (logps.shape, logps.shape[:1]):
        raise ValueError(
            f"advantages: got shape {_shape(advantages)}, expected {_shape(logps)}, the shape of logps, "
            f"or {tuple(logps.shape[:1])}, one for each sequence"
        )
    if advantages.ndim == 1:
        advantages = advantages.unsqueeze(1).expand_as(logps)
    return advantages.detach().to(compute_dtype(logps))


def pair_inputs(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor
) -> PairInputs:
    """Check the sequence log-probabilities of a loss over pairs and bring them to one dtype."""
    check_floating("chosen_logps", chosen_logps, "(batch,)")
    others = {
        "rejected_logps": rejected_logps,
        "ref_chosen_logps": ref_chosen_logps,
        "ref_rejected_logps": ref_rejected_logps,
    }
    for name, value in others.items():
        check_floating(name, value)
        check_same_shape(name, value, "chosen_logps", chosen_logps)
    dtype = compute_dtype(chosen_logps, rejected_logps)
    return PairInputs(
        chosen_logps.to(dtype),
        rejected_logps.to(dtype),
        ref_chosen_logps.detach().to(dtype),
        ref_rejected_logps.detach().to(dtype),
    )


def reward_inputs(chosen_rewards: Tensor, rejected_rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Check the scores that a reward model gives to the responses of pairs and bring them to one dtype."""
    check_floating("chosen_rewards", chosen_rewards, "(batch,)")
    check_floating("rejected_rewards", rejected_rewards)
    check_same_shape("rejected_rewards", rejected_rewards, "chosen_rewards", chosen_rewards)
    dtype = compute_dtype(chosen_rewards, rejected_rewards)
    return chosen_rewards.to(dtype), rejected_rewards.to(dtype)


def sequence_rewards(rewards: Tensor, logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Check one reward for each sequence, and what it is penalised by; return it as a constant in the compute dtype."""
    check_floating("logps", logps, "(batch, time)")
    check_floating("ref_logps", ref_logps)
    check_same_shape("ref_logps", ref_logps, "logps", logps)
    check_floating("rewards", rewards)
    check_same_device("rewards", rewards, "logps", logps)
    if rewards.shape != logps.shape[:1]:
        raise ValueError(
            f"rewards: got shape {_shape(rewards)}, expected {tuple(logps.shape[:1])}, one for each sequence of logps"
        )
    return rewards.detach().to(compute_dtype(logps))


def value_inputs(values: Tensor, returns: Tensor, old_values: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check what a value loss reads for each token and bring it to one dtype; only `values` carries a gradient."""
    check_floating("values", values, "(batch, time)")
    check_floating("returns", returns)
    check_same_shape("returns", returns, "values", values)
    dtype = compute_dtype(values)
    if old_values is not None:
        check_floating("old_values", old_values)
        check_same_shape("old_values", old_values, "values", values)
        old_values = old_values.detach().to(dtype)
    return values.to(dtype), returns.detach().to(dtype), old_values


def counted_tokens(mask: Tensor, like_name: str, like: Tensor) -> Bool[Tensor, "batch time"]:
    """Check a mask against the tensor that it masks; return it as bool. A bool mask needs no look at its values."""
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


def check_clip_range(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    """Check the options of ratio clipping."""
    check_number("clip_low", clip_low, UNIT_INTERVAL)
    check_number("clip_high", clip_high, NON_NEGATIVE)
    if dual_clip is not None:
        check_number("dual_clip", dual_clip, DUAL_CLIP)


def check_value_clip(clip: float | None, old_values: Tensor | None) -> None:
    """Check the option of value clipping: the width, and the values that it is around, come together."""
    if clip is None:
        if old_values is not None:
            raise ValueError("old_values: got a tensor, expected None without clip, which alone uses it")
        return
    check_number("clip", clip, VALUE_CLIP)
    if old_values is None:
        raise TypeError("old_values: got NoneType, expected a tensor, which clip needs")


def check_kl_penalty(ref_logps: Tensor | None, kl_coef: float, kl_estimator: str) -> None:
    """Check the options of a KL penalty, and that there is a reference where and only where they need one."""
    check_choice("kl_estimator", kl_estimator, get_args(Estimator))
    check_number("kl_coef", kl_coef, NON_NEGATIVE)
    if ref_logps is not None:
        if kl_coef == 0:
            raise ValueError(f"kl_coef: got {kl_coef}, expected a number > 0 with ref_logps, which nothing else reads")
        return
    if kl_coef != 0:
        raise ValueError(f"ref_logps: got None, expected a tensor with kl_coef {kl_coef}, which weighs what it gives")
    if kl_estimator != "k3":
        raise ValueError(f"kl_estimator: got {kl_estimator!r}, expected the default without ref_logps, which it reads")


def check_reference(ref_logps: Tensor, logps: Tensor) -> None:
    """Check the log-probabilities of a reference against those of the policy."""
    check_floating("logps", logps, "(batch, time)")
    check_floating("ref_logps", ref_logps)
    check_same_shape("ref_logps", ref_logps, "logps", logps)


def check_sequence_advantages(advantages: Tensor, logps: Tensor) -> None:
    """Check that there is one advantage for each sequence."""
    check_floating("logps", logps, "(batch, time)")
    check_floating("advantages", advantages)
    if advantages.shape != logps.shape[:1]:
        raise ValueError(
            f"advantages: got shape {_shape(advantages)}, expected {_shape(logps)[:1]}, one for each sequence of logps"
        )


def check_flip_probability(flip_probability: float) -> None:
    """Check the known probability that a label is flipped."""
    check_number("flip_probability", flip_probability, BELOW_HALF)


def check_log_ratio(log_ratio: str, chosen_lengths: Tensor | None, rejected_lengths: Tensor | None) -> None:
    """Check how a log-ratio is reduced over tokens, and that there are lengths where and only where it needs them."""
    check_choice("log_ratio", log_ratio, get_args(LogRatio))
    for name, lengths in {"chosen_lengths": chosen_lengths, "rejected_lengths": rejected_lengths}.items():
        if log_ratio == "sum" and lengths is not None:
            raise ValueError(f"{name}: got a value, expected None with log_ratio 'sum', which does not use it")
        if log_ratio == "mean" and lengths is None:
            raise TypeError(f"{name}: got None, expected a tensor, which log_ratio 'mean' needs")
        if lengths is not None:
            check_tensor(name, lengths)


def sequence_lengths(name: str, lengths: Tensor, like_name: str, like: Tensor) -> Tensor:
    """Check the lengths of sequences; return them in the dtype of the tensor that they divide."""
    if lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"{name}: got dtype {lengths.dtype}, expected an integer or a floating-point dtype")
    check_same_shape(name, lengths, like_name, like)
    right = (lengths.to(torch.float64) >= 1) & (lengths.to(torch.float64) <= LARGEST)
    check_values(name, lengths, right, "finite lengths >= 1")
    return lengths.detach().to(like.dtype)


def check_label_smoothing(label_smoothing: float) -> None:
    """Check the assumed share of flipped preferences."""
    check_number("label_smoothing", label_smoothing, BELOW_HALF)


def check_estimator(name: str, estimator: str) -> None:
    """Check the name of an estimator of the KL divergence (called `name` by the caller)."""
    check_choice(name, estimator, get_args(Estimator))


def check_aggregation(name: str, mode: str, denominator: float | Tensor | None, max_length: int | None) -> None:
    """Check an aggregation mode (called `name` by the caller) and the options that belong to it."""
    check_choice(name, mode, get_args(Aggregation))
    if mode == "token_sum" and denominator is not None:
        raise ValueError(f"denominator: got {denominator}, expected None with {name} 'token_sum', which divides by 1")
    if mode != "fixed_length" and max_length is not None:
        raise ValueError(f"max_length: got {max_length}, expected None with {name} {mode!r}, which does not use it")
    if mode == "fixed_length":
        _check_max_length(max_length)
    check_denominator(denominator)


def check_denominator(denominator: float | Tensor | None) -> float | Tensor | None:
    """Check a normaliser that micro-batches share; return a number as a float, a tensor as it is."""
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
    """Check an option that is one of a few words."""
    expected = "one of " + ", ".join(repr(choice) for choice in choices)
    if not isinstance(value, str):
        raise TypeError(f"{name}: got {type(value).__name__}, expected {expected}")
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, expected {expected}")


def check_flag(name: str, value: bool) -> None:
    """Check an option that is on or off."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: got {type(value).__name__}, expected True or False")


def check_finite(name: str, value: Tensor) -> None:
    """Check that a tensor holds no NaN and no infinity."""
    check_values(name, value, value.isfinite(), "finite values only")


def check_values(name: str, value: Tensor, right: Bool[Tensor, "*shape"], expected: str) -> None:
    """Check that every entry of a tensor is right, where its values can be read."""
    if values_are_readable(right) and not right.all():
        raise ValueError(f"{name}: got the value {value[~right][0].item()}, expected {expected}")


def values_are_readable(tensor: Tensor) -> bool:
    """Whether a check may read values: not while a compiler traces, nor within torch.func, nor of fake or meta tensors.

    What torch.func wraps, vmap above all, has no memory of its own.
    """
    if torch.compiler.is_compiling():
        return False
    try:
        return tensor.untyped_storage().device.type != "meta"
    except NotImplementedError:
        return False


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

    A bool is refused: it is an option in the wrong place. So is a number that fp32 would turn into inf or 0.
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
    """Check that a value is a floating-point tensor, laid out like "(batch, time)" if a layout is given."""
    check_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: got dtype {value.dtype}, expected a floating-point dtype")
    if layout is not None and value.ndim != RANKS[layout]:
        raise ValueError(f"{name}: got shape {_shape(value)}, expected shape {layout}")


def check_logits(logits: Tensor) -> None:
    """Check that logits are a floating-point tensor with a vocabulary."""
    check_floating("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits: got shape {_shape(logits)}, expected shape (..., vocab) with a vocab > 0")


def check_tensor(name: str, value: object) -> None:
    """Check that a value is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a tensor")
    if _is_dtensor(value):
        raise TypeError(
            f"{name}: got a DTensor, expected a plain tensor; pass {name}.to_local(), and the group= of its ranks to "
            "functions that take one"
        )
    if value.layout != torch.strided:
        raise TypeError(f"{name}: got layout {value.layout}, expected a dense tensor")


def _is_dtensor(value: Tensor) -> bool:
    """Whether a tensor is spread over ranks. Only a program that has imported that module can have one."""
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
    """Check that a tensor is where another is."""
    if value.device != like.device:
        raise ValueError(f"{name}: got device {value.device}, expected {like.device}, the device of {like_name}")


def _check_max_length(max_length: int | None) -> None:
    if isinstance(max_length, bool) or not isinstance(max_length, Integral):
        raise TypeError(f"max_length: got {max_length!r}, expected an integer > 0, which 'fixed_length' divides by")
    if not 0 < max_length <= LARGEST:
        raise ValueError(f"max_length: got {max_length}, expected an integer > 0, which 'fixed_length' divides by")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)

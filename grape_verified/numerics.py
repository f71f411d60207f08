"""Floating-point building blocks: the dtype to compute in, and functions that saturate instead of overflowing."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

# exp is 0 in every dtype long before this; without such a floor a forbidden token would be 0 · ∞ in an entropy.
EXP_IS_ZERO = -1e4

# Of so few numbers a select costs less than calling the operations that take its place.
SMALL = 2**14

# The integers that have as many bits.
_INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}

# torch's exp2 takes a third of the time of its exp on a CPU, and a fiftieth where the result is nearly 0.
LOG2_E = math.log2(math.e)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """fp64 if one of the tensors is fp64, else fp32: nothing is computed in half precision."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which autocast lowers no precision: products above all, which it would compute in half precision."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def values_are_readable(tensor: Tensor) -> bool:
    """Whether Python may read values: not while a compiler traces, nor of a tensor that has none."""
    return not torch.compiler.is_compiling() and has_values(tensor)


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor has memory of its own: not if it is fake or meta, nor if torch.func wraps it, as vmap does."""
    try:
        return tensor.untyped_storage().device.type != "meta"
    except NotImplementedError:
        return False


def exp_(x: Tensor) -> Tensor:
    """exp(x) in place; |relative error| ≤ u·(2·|x| + 3).

    In fp64 by torch's exp, which gives a number the same bits wherever it stands in a tensor.
    """
    return x.exp_() if x.dtype == torch.float64 else x.mul_(LOG2_E).exp2_()


def value_limit(dtype: torch.dtype) -> float:
    """The magnitude at which `bounded` saturates, finfo.max · 2⁻²⁴.

    The 24 bits of headroom keep a product with an advantage, and a sum over up to 2²⁴ tokens, finite.
    """
    return torch.finfo(dtype).max * 2.0**-24


def exp_limit(dtype: torch.dtype) -> float:
    """The largest argument whose exponential is within `value_limit`."""
    return math.log(value_limit(dtype))


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log π_v of every token, in the compute dtype.

    NaN where there is no distribution: all logits −inf, or +inf or NaN among them.

    The weight of a largest logit is exactly 1. Left out of the sum and put back by log1p, it rounds away no digit of
    the others, so that the log-probability of a confident token keeps its relative accuracy. Operations in place act on
    tensors made here that autograd has not saved: they halve the time.
    """
    scores = logits.to(compute_dtype(logits))
    highest, top = scores.max(-1, keepdim=True)
    others = (scores - highest).div_(temperature).scatter_(-1, top, -math.inf)
    log_total = others.exp().sum(-1, keepdim=True).log1p()
    nowhere = highest - highest  # NaN where the largest is infinite or NaN, else 0
    return others.scatter_(-1, top, 0).sub_(log_total + nowhere)


def with_values_(x: Tensor, values: Tensor) -> Tensor:
    """x with other values put in its place, and the derivative that it had.

    As autograd does not see the change, x must be the fresh result of an operation whose backward pass does not read
    it, such as a difference or a product, and nobody else's tensor.
    """
    with torch.no_grad():
        return x.copy_(values)


def saturate_(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Hold x within [low, high] in place, by default within ± `value_limit`, with derivative 1 everywhere.

    A large slope is never cut to zero. NaN stays NaN. What x must be: see `with_values_`.
    """
    limit = value_limit(x.dtype)
    return with_values_(x, x.detach().clamp(-limit if low is None else low, limit if high is None else high))


def bounded(x: Tensor) -> Tensor:
    """x held within ± `value_limit`, with derivative 1 everywhere, as a new tensor."""
    return saturate_(x.clone())


def only(x: Tensor, counted: Tensor) -> Tensor:
    """x where a token counts and 0 elsewhere, whatever x holds there; its derivative likewise.

    A CPU selects by a branch, which a ragged mask mispredicts: that takes up to 100 times as long as a product. So x is
    multiplied by the mask, and what 0 · NaN and 0 · inf leave is cleared bit by bit.
    """
    if not x.is_cpu or x.numel() < SMALL or not (values_are_readable(x) and values_are_readable(counted)):
        return x.masked_fill(~counted, 0)
    kept, integer = x * counted.to(x.dtype), _INTEGER[x.dtype]
    with torch.no_grad():
        kept.view(integer).bitwise_and_(counted.to(integer).neg_())
    return kept


def select(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds and y elsewhere, both finite; see `only` for what a select costs on a CPU."""
    if torch.compiler.is_compiling():
        return torch.where(condition, x, y)
    return torch.lerp(y, x, condition.to(x.dtype))


def difference(a: Tensor, b: Tensor, counted: Tensor | None = None, *, exponent: int = 0) -> Tensor:
    """a − b of a variable and a constant, in the compute dtype of a, 0 where no token counts.

    It saturates as `saturate_` does; with exponent 1 or −1 already where exp(exponent · (a − b)) leaves the range.
    """
    dtype = compute_dtype(a)
    differences, limit = a.to(dtype) - b.detach().to(dtype), exp_limit(dtype)
    kept = differences if counted is None else only(differences, counted)
    return saturate_(kept, low=-limit if exponent < 0 else None, high=limit if exponent > 0 else None)

"""Floating-point building blocks: the dtype to compute in, and functions that saturate instead of overflowing."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

# exp is 0 in every dtype long before this; without such a floor a forbidden token would be 0 · ∞ in an entropy.
EXP_IS_ZERO = -1e4

# torch's exp2 takes a third of the time of its exp on a CPU, and a fiftieth where the result is nearly 0.
LOG2_E = math.log2(math.e)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """fp64 if one of the tensors is fp64, else fp32: nothing is computed in half precision."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which autocast lowers no precision: products above all, which it would compute in half precision."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


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
    """The argument at which `bounded_exp` saturates."""
    return math.log(value_limit(dtype))


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log π_v of every token, in the compute dtype.

    The weight of a largest logit is exactly 1. Left out of the sum and put back by log1p, it rounds away no digit of
    the others, so that the log-probability of a confident token keeps its relative accuracy. Operations in place act on
    tensors made here that autograd has not saved: they halve the time.
    """
    scores = logits.to(compute_dtype(logits))
    highest, top = scores.max(-1, keepdim=True)
    others = (scores - highest).div_(temperature).scatter_(-1, top, -math.inf)
    log_total = others.exp().sum(-1, keepdim=True).log1p()
    return others.scatter_(-1, top, 0).sub_(log_total)


def bounded(x: Tensor) -> Tensor:
    """x held within ± `value_limit`, with derivative 1 everywhere: a large slope is never cut to zero.

    NaN stays NaN.
    """
    limit = value_limit(x.dtype)
    return _StraightThroughClamp.apply(x, -limit, limit)  # type: ignore[no-any-return, no-untyped-call]


def bounded_exp(x: Tensor) -> Tensor:
    """exp(min(x, log `value_limit`)), with derivative equal to its value everywhere, saturated or not.

    Finite, forward and backward, for every x from −∞ to +∞; NaN stays NaN. A plain clamp would cut the derivative
    to zero where the exponential saturates, and a plain exp would give 0 · ∞ behind a `where`.
    """
    return bounded_exponent(x).exp()


def bounded_exponent(x: Tensor) -> Tensor:
    """min(x, log `value_limit`), with derivative 1 everywhere: for a function that takes exp(x) with other terms.

    NaN stays NaN.
    """
    return _StraightThroughClamp.apply(x, -math.inf, exp_limit(x.dtype))  # type: ignore[no-any-return, no-untyped-call]


class _StraightThroughClamp(torch.autograd.Function):
    """clamp(x, low, high) with derivative 1 also outside [low, high]."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        """Nothing to save: the derivative is 1."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None

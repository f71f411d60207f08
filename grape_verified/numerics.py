"""Floating-point building blocks: the dtype to compute in, and functions that saturate instead of overflowing."""

import math
from typing import Any

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """fp64 if one of the tensors is fp64, else fp32: nothing is computed in half precision."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def value_limit(dtype: torch.dtype) -> float:
    """The magnitude at which `bounded` saturates, finfo.max · 2⁻²⁴.

    The 24 bits of headroom keep a product with an advantage, and a sum over up to 2²⁴ tokens, finite.
    """
    return torch.finfo(dtype).max * 2.0**-24


def exp_limit(dtype: torch.dtype) -> float:
    """The argument at which `bounded_exp` saturates."""
    return math.log(value_limit(dtype))


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
    return _StraightThroughClamp.apply(x, -math.inf, exp_limit(x.dtype)).exp()  # type: ignore[no-any-return, no-untyped-call]


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

"""Floating-point building blocks: the dtype to compute in, and functions that saturate instead of overflowing."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# exp underflows to 0 long before this in every dtype. Without the floor, a forbidden token gives 0 · ∞ in an entropy.
EXP_IS_ZERO = -1e4

# Below this size, a select costs less than the operations that replace it.
SMALL = 2**14

# The integer dtypes of the same width.
_INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}

# torch's exp2 takes a third of the time of its exp on a CPU, and a fiftieth where the result is nearly 0.
LOG2_E = math.log2(math.e)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """fp64 if one of the tensors is fp64, else fp32: nothing is computed in half precision."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context without autocast, which would compute products in half precision."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def is_traced() -> bool:
    """Whether operations are being recorded: by torch.compile, torch.export, torch.jit or make_fx."""
    if torch.compiler.is_compiling():
        return True
    return torch._C._is_tracing() or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def is_recorded() -> bool:
    """Whether torch.jit or make_fx records operations: the derivative will be that of the values."""
    return is_traced() and not torch.compiler.is_compiling()


def values_are_readable(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be read: not while operations are recorded, and not if it has none."""
    return not is_traced() and has_values(tensor)


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor has storage of its own. Fake and meta tensors have none, nor do those that torch.func wraps."""
    try:
        return tensor.untyped_storage().device.type != "meta"
    except NotImplementedError:
        return False


def savable(x: Tensor) -> Tensor:
    """A tensor that autograd can save: a copy of one made in inference mode, else the tensor."""
    copied = not torch.compiler.is_compiling() and x.is_inference() and not torch.is_inference_mode_enabled()
    return x.clone() if copied else x


def exp_(x: Tensor) -> Tensor:
    """exp(x) in place; |relative error| ≤ u·(2·|x| + 3).

    fp64 uses torch's exp, whose result for a number does not depend on its position in the tensor.
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

    The weight of a largest logit is exactly 1. It is left out of the sum and added back by log1p, so that it does not
    round the others away and the log-probability of a confident token keeps its relative accuracy. The in-place
    operations act on fresh tensors that autograd has not saved; they halve the time.
    """
    scores = logits.to(compute_dtype(logits))
    highest, top = scores.max(-1, keepdim=True)
    others = (scores - highest).div_(temperature).scatter_(-1, top, -math.inf)
    log_total = others.exp().sum(-1, keepdim=True).log1p()
    nowhere = highest - highest  # NaN where the largest is infinite or NaN, else 0
    return others.scatter_(-1, top, 0).sub_(log_total + nowhere)


def with_values_(x: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace the values of x by a function of x and keep the derivative of x.

    Eager mode and `torch.compile` overwrite x, and reverse-mode autograd does not see the change: x must be the fresh
    result of an operation whose backward pass does not read it, such as a difference or a product, and must have no
    other users. torch.func and forward-mode derivatives would see it, so they get a function with that derivative. A
    trace (torch.jit, make_fx) cannot hold it: there the derivative is that of the values.
    """
    if is_recorded():
        return of(x)
    with torch.no_grad():
        values = of(x)
        if torch.compiler.is_compiling() or not _has_transforms():
            return x.copy_(values)
    return _WithValues.apply(x, values)  # type: ignore[no-any-return, no-untyped-call]


def _has_transforms() -> bool:
    """Whether a transform of torch.func or a forward-mode derivative is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0  # type: ignore[attr-defined]


class _WithValues(torch.autograd.Function):
    """`values` with derivative 1 in x, in every mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing to save: the derivative is 1."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Tensor | None) -> Tensor:
        return tangent.clone()


def with_slope(x: Tensor, values: Tensor, slope: Tensor) -> Tensor:
    """Constant values whose derivative in x is a given slope, which is differentiated in turn.

    For a derivative that autograd would compute as a difference of large terms. A trace cannot hold it.
    """
    return _WithSlope.apply(x, values, slope)  # type: ignore[no-any-return, no-untyped-call]


class _WithSlope(torch.autograd.Function):
    """`values` with derivative `slope` in x, in every mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, values: Tensor, slope: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])
        ctx.save_for_forward(inputs[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * ctx.saved_tensors[0], None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Tensor | None) -> Tensor:
        return tangent * ctx.saved_tensors[0]


def saturate_(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Clamp x to [low, high], by default to ± `value_limit`, with derivative 1 everywhere.

    Slopes are never cut to 0, and NaN stays NaN. `with_values_` says what x must be.
    """
    limit = value_limit(x.dtype)
    return with_values_(x, lambda x: x.clamp(-limit if low is None else low, limit if high is None else high))


def bounded(x: Tensor) -> Tensor:
    """x clamped to ± `value_limit`, with derivative 1 everywhere, as a new tensor."""
    return saturate_(x.clone())


def only(x: Tensor, counted: Tensor) -> Tensor:
    """x where a token counts and 0 elsewhere, whatever x holds there; its derivative likewise.

    On a CPU a select branches, and a ragged mask makes the branch mispredict: it takes up to 100 times as long as a
    product. So the bits of what does not count are cleared.
    """
    if x.is_cpu and x.numel() >= SMALL and values_are_readable(x) and values_are_readable(counted):
        return _Only.apply(x, counted)  # type: ignore[no-any-return, no-untyped-call]
    return x.masked_fill(~counted, 0)


class _Only(torch.autograd.Function):
    """Linear in x, and its own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counted: Tensor) -> Tensor:
        ctx.counted, integer = counted, _INTEGER[x.dtype]
        return x.view(integer).bitwise_and(counted.to(integer).neg_()).view(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return only(grad, ctx.counted), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return only(tangent, ctx.counted)


def select(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds and y elsewhere, both finite; `only` says what a select costs on a CPU."""
    if is_traced():
        return torch.where(condition, x, y)
    return torch.lerp(y, x, condition.to(x.dtype))


def difference(a: Tensor, b: Tensor, counted: Tensor | None = None, *, exponent: int = 0) -> Tensor:
    """a − b, with b a constant, in the compute dtype of a, 0 where masked.

    It saturates as by `saturate_`; with exponent 1 or −1, already where exp(exponent · (a − b)) leaves the range.
    """
    dtype = compute_dtype(a)
    differences, limit = a.to(dtype) - b.detach().to(dtype), exp_limit(dtype)
    kept = differences if counted is None else only(differences, counted)
    return saturate_(kept, low=-limit if exponent < 0 else None, high=limit if exponent > 0 else None)

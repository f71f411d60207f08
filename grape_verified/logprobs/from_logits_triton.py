"""Log-probabilities and entropies by Triton kernels: one read of the logits forward, one read and write backward."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from grape_verified.logprobs.dispatch import in_transform


class TritonTokenLogps(torch.autograd.Function):
    """log π(y), by Triton kernels. For second derivatives `plain`, the same function in torch, is used."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, temperature: float, kernels: ModuleType, plain: Any
    ) -> Tensor:
        top, ties, rest, _ = kernels.softmax(_rows(logits), temperature, with_spread=False)
        totals = ties.log() + (rest / ties).log1p()
        chosen = logits.gather(-1, targets.unsqueeze(-1)).reshape(-1).float()
        logps = (chosen - top).div_(temperature).sub_(totals).view(targets.shape)
        ctx.save_for_backward(logits, targets, logps, top, totals)
        ctx.temperature, ctx.kernels, ctx.plain = temperature, kernels, plain
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """∂log π(y)/∂z_v = (δ_yv − π_v)/τ, with 1 − π_y as −expm1(log π_y): it cancels for a confident token."""
        logits, targets, logps, top, totals = ctx.saved_tensors
        if torch.is_grad_enabled() or in_transform(grad):
            return _by_torch(ctx.plain, grad, logits, targets, ctx.temperature), None, None, None, None
        slope = (grad / -ctx.temperature).reshape(-1)
        at_target = slope * logps.expm1().reshape(-1)
        result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        options = {"shift": top, "totals": totals, "divisor": ctx.temperature, "slope": slope}
        ctx.kernels.slopes(_rows(logits), targets.reshape(-1), at_target, result, **options)
        return result, None, None, None, None


class TritonTokenEntropies(torch.autograd.Function):
    """H, by Triton kernels. For second derivatives `plain`, the same function in torch, is used."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, temperature: float, kernels: ModuleType, plain: Any) -> Tensor:
        top, ties, rest, spread = kernels.softmax(_rows(logits), temperature, with_spread=True)
        totals = ties.log() + (rest / ties).log1p()
        entropies = totals - spread / (ties + rest)
        ctx.save_for_backward(logits, entropies, top, totals)
        ctx.temperature, ctx.kernels, ctx.plain = temperature, kernels, plain
        return entropies.view(logits.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """∂H/∂z_v = −π_v (log π_v + H)/τ."""
        logits, entropies, top, totals = ctx.saved_tensors
        if torch.is_grad_enabled() or in_transform(grad):
            return _by_torch(ctx.plain, grad, logits, ctx.temperature), None, None, None
        curve = (grad / -ctx.temperature).reshape(-1)
        terms = {"slope": torch.zeros_like(curve), "curve": curve, "entropies": entropies}
        result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        ctx.kernels.slopes(
            _rows(logits), None, None, result, shift=top, totals=totals, divisor=ctx.temperature, **terms
        )
        return result, None, None, None


def _by_torch(plain: Any, grad: Tensor, logits: Tensor, *others: Any) -> Tensor:
    """The gradient through the same function in torch, which can be differentiated again or batched."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        result = plain.apply(logits, *others)[0]
    return torch.autograd.grad(result, logits, grad, create_graph=again)[0]


def _rows(logits: Tensor) -> Tensor:
    """As (outer, inner, vocab), without a copy if only the last time steps of each sequence are cut off."""
    rows = logits if logits.ndim == 3 else logits.reshape(1, -1, logits.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()

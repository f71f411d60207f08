"""Log-probabilities and entropies from logits that are held in memory."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grape_verified.arguments import check_logits, check_positive, check_targets
from grape_verified.numerics import log_softmax, relative_to_top

# exp is 0 in every dtype long before this; without such a floor a forbidden token would be 0 · ∞ in an entropy.
EXP_IS_ZERO = -1e4


def token_logps(
    logits: Float[Tensor, "*positions vocab"], targets: Int[Tensor, "*positions"], *, temperature: float = 1.0
) -> Float[Tensor, "*positions"]:
    """Log-probability of each target under the softmax of the logits z, log π(y) = z_y/τ − log Σ_v exp(z_v/τ).

    The logits are already shifted: those at position t predict `targets[t]`. A logit of −inf is a forbidden token:
    its probability is 0, its log-probability −inf, and gradients stay finite. A position with all logits −inf, or
    with NaN or +inf among them, has no distribution; its result is NaN.

    Arguments:
        logits: (..., vocab), any floating-point dtype, read in fp32 (fp64 stays fp64).
        targets: (...), any integer dtype, each in [0, vocab); not the ignore label −100.
        temperature: τ, a finite number > 0 that divides the logits.

    Returns: (...), natural logarithms, fp32 (fp64 for fp64 logits). The gradient has the dtype of the logits.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, target or temperature.

    Error: with u the unit roundoff of the compute dtype, |error| ≤ 4·u·(|log π(y)| + H + 1), H ≤ log vocab the entropy;
    a constant added to the logits does not enter. Each entry of the gradient: |error| ≤ 4·u·(H + 1)/τ, and one
    rounding to the dtype of the logits.

    Claims: policy.log_softmax, policy.log_softmax.gradient, policy.temperature.gradient.
    """
    check_logits(logits)
    check_targets(targets, logits)
    check_positive("temperature", temperature)
    logps: Tensor = _TokenLogps.apply(logits, targets.long().unsqueeze(-1), temperature)  # type: ignore[no-untyped-call]
    return logps.squeeze(-1)


def token_entropies(
    logits: Float[Tensor, "*positions vocab"], *, temperature: float = 1.0
) -> Float[Tensor, "*positions"]:
    """Entropy of the softmax of the logits z, H = −Σ_v π_v log π_v with π = softmax(z/τ), in nats.

    Computed as log Σ_v e_v + Σ_v e_v (m − z_v)/τ / Σ_v e_v with m = max z and e_v = exp((z_v − m)/τ): both terms are
    non-negative, so nothing cancels, and a constant added to the logits changes nothing.

    A logit of −inf is a forbidden token: it contributes 0 (the convention 0 · log 0 = 0) and its gradient is 0. A
    position with all logits −inf, or with NaN or +inf among them, has no distribution; its result is NaN.

    Arguments:
        logits: (..., vocab), any floating-point dtype, read in fp32 (fp64 stays fp64).
        temperature: τ, a finite number > 0 that divides the logits.

    Returns: (...), fp32 (fp64 for fp64 logits). The gradient has the dtype of the logits.

    Raises: TypeError or ValueError for a wrong type, dtype, shape or temperature.

    Error: with u the unit roundoff of the compute dtype and the spread S = Σ_v π_v |log π_v| |log π_v + H|,
    |error| ≤ 4·u·(1 + H + S); a constant added to the logits does not enter. Each entry of the gradient:
    |error| ≤ 4·u·π_v ((1 + H + |log π_v|)² + S)/τ, and one rounding to the dtype of the logits.

    Claims: policy.entropy, policy.entropy.gradient, policy.temperature.gradient.
    """
    check_logits(logits)
    check_positive("temperature", temperature)
    entropies: Tensor = _TokenEntropies.apply(logits, temperature)  # type: ignore[no-untyped-call]
    return entropies.squeeze(-1)


class _TokenLogps(torch.autograd.Function):
    """log π(y), saving nothing of the size of the logits but the logits; the backward pass is differentiable too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
        top, others = relative_to_top(logits, temperature)
        chosen = others.gather(-1, targets).masked_fill(targets == top, 0)
        return chosen - others.exp_().sum(-1, keepdim=True).log1p()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        logits, targets, ctx.temperature = inputs
        ctx.save_for_backward(logits, targets, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """∂log π(y)/∂z_v = (δ_yv − π_v)/τ, with 1 − π_y as −expm1(log π_y): it cancels for a confident token."""
        logits, targets, logps = ctx.saved_tensors
        probabilities = log_softmax(logits, ctx.temperature).exp()
        slopes = probabilities.neg().scatter_(-1, targets, -logps.expm1())
        return (grad / ctx.temperature * slopes).to(logits.dtype), None, None


class _TokenEntropies(torch.autograd.Function):
    """H, saving nothing of the size of the logits but the logits; the backward pass is differentiable too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, temperature: float) -> Tensor:
        _, others = relative_to_top(logits, temperature)
        others = others.clamp_(min=EXP_IS_ZERO)
        weights = others.exp()
        total = weights.sum(-1, keepdim=True)
        return total.log1p() - (weights * others).sum(-1, keepdim=True) / (1 + total)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        logits, ctx.temperature = inputs
        ctx.save_for_backward(logits, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """∂H/∂z_v = −π_v (log π_v + H)/τ."""
        logits, entropies = ctx.saved_tensors
        logps = log_softmax(logits, ctx.temperature).clamp(min=EXP_IS_ZERO)
        return (-grad / ctx.temperature * logps.exp() * (logps + entropies)).to(logits.dtype), None

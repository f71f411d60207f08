"""The Kullback-Leibler divergence between two policies, and its estimates from sampled tokens.

The estimators k1, k2 and k3 are named after J. Schulman, Approximating KL Divergence, 2020.
"""

import math
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from grape_verified.arguments import (
    Estimator,
    check_alike,
    check_choice,
    check_floating,
    check_logits,
    check_same_shape,
)
from grape_verified.numerics import compute_dtype, difference, log_softmax, saturate_, savable, value_limit

__all__ = ["categorical_kl", "kl_estimate"]


def kl_estimate(
    logps: Float[Tensor, "batch time"], ref_logps: Float[Tensor, "batch time"], estimator: Estimator = "k3"
) -> Float[Tensor, "batch time"]:
    """Estimate of KL(π‖ref) from each token, sampled from the policy π that is being trained.

        k1   logp − ref_logp
        k2   ½ (logp − ref_logp)²
        k3   exp(x) − 1 − x  with  x = ref_logp − logp

    k1 and k3 have expectation KL(π‖ref); k2 does not, but is close to it where the policies are. k2 and k3 are never
    negative. The expected gradient depends on where the estimate is used:

              in a loss, differentiated        in the reward, a constant weight of the score
        k1    0: no effect                     ∇KL(π‖ref)
        k2    ∇KL(π‖ref)                       neither: E[½ (logp − ref_logp)² ∇logp]
        k3    ∇KL(ref‖π), the other direction  ∇KL(π‖ref) − ∇KL(ref‖π)

    A NaN log-ratio, as of two log-probabilities of −inf, gives NaN: fill masked entries first.

    Arguments:
        logps: (batch, time).
        ref_logps: (batch, time), under the frozen reference; a constant.
        estimator: "k1", "k2" or "k3".

    Returns: (batch, time).

    Error: where nothing saturates or underflows, |error| ≤ u·|value| for k1, 4·u·value for k2 and 4·u·((|x| +
    1)·|exp(x) − 1| + |x|) for k3 (theorems kl_estimate_k1_error, kl_estimate_k2_error and kl_estimate_k3_error, for an
    expm1 within 2 ulp). Slope: exact for k1, |error| ≤ u·|x| for k2 and 4·u·((|x| + 1)·exp(x) + 1) for k3 (theorem
    kl_estimate_k3_slope_error, for an expm1 within 1 ulp), each before it is rounded to the dtype of logps.

    Claims: kl.estimate.gradient, kl.k1.unbiased, kl.k3.unbiased, kl.k3.nonnegative, kl.k1.loss_gradient,
    kl.k2.loss_gradient, kl.k3.loss_gradient, kl.k1.reward_gradient, kl.k3.reward_gradient, kl.sign.

    Sources: J. Schulman, Approximating KL Divergence, 2020 (not checked against the source).

    Examples:
        >>> import torch
        >>> from grape_verified import kl_estimate
        >>> kl_estimate(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -3.0]]))
        tensor([[0.0000, 0.3679]])
    """
    check_estimator("estimator", estimator)
    check_alike("(batch, time)", logps=logps, ref_logps=ref_logps)
    return estimate(logps, ref_logps, estimator)


def check_estimator(name: str, estimator: str) -> None:
    """Check an estimator of the KL divergence, the argument `name` of the caller."""
    check_choice(name, estimator, get_args(Estimator))


def estimate(logps: Tensor, ref_logps: Tensor, estimator: Estimator, counted: Tensor | None = None) -> Tensor:
    """`kl_estimate` without checks, 0 where masked."""
    if estimator == "k3":
        log_ratio = difference(logps, ref_logps, counted, exponent=-1)
        return (-log_ratio).expm1() + log_ratio
    log_ratio = difference(logps, ref_logps, counted)
    return log_ratio if estimator == "k1" else saturate_(log_ratio.square() / 2)


def categorical_kl(
    logits: Float[Tensor, "*positions vocab"], other_logits: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    """Kullback-Leibler divergence KL(π‖q) = Σ_v π_v log(π_v/q_v), π and q the softmax of logits and other logits.

    Computed as Σ_v (q_v − π_v + π_v log(π_v/q_v)): no term is negative, so nothing cancels, and rounding errors of the
    normalisers have no effect in first order. Both sides are differentiated; detach the one that is a constant.

    A logit of −inf forbids its token. A token that π forbids contributes 0 (the convention 0 · log 0 = 0). If q forbids
    a token that π allows, the divergence is +inf and its gradients are finite, those of a log-ratio of
    finfo.max · 2⁻²⁴. A position where all logits of one side are −inf, or one is NaN or +inf, has no distribution: the
    result is NaN there, and the gradients are 0 if the upstream gradient is 0.

    Arguments:
        logits: (..., vocab), of π.
        other_logits: (..., vocab), of q.

    Returns: (...), in nats, never negative.

    Error: with the log-ratio d_v = log(π_v/q_v), the weight W_v = |log π_v| + |log q_v| + 1 and a logarithm of 0
    counted as 0, |error| ≤ 4·u·Σ_v W_v (|π_v − q_v| + q_v − π_v + π_v d_v + u·π_v W_v). Each entry of the gradient,
    before it is rounded to the dtype of its argument: |error| ≤ 4·u·π_k (W_k (1 + |d_k|) + Σ_v π_v W_v (1 + |d_v|)) in
    logits and |error| ≤ 4·u·(π_k + q_k) W_k in other logits.

    Claims: kl.nonnegative, kl.reverse.gradient, kl.forward.gradient.

    Examples:
        >>> import torch
        >>> from grape_verified import categorical_kl
        >>> logits = torch.tensor([0.5, 0.5]).log()
        >>> categorical_kl(logits, torch.tensor([0.25, 0.75]).log())  # ½ log 2 + ½ log ⅔
        tensor(0.1438)
    """
    check_logits(logits)
    check_floating("other_logits", other_logits)
    check_same_shape("other_logits", other_logits, "logits", logits)
    return _CategoricalKL.apply(savable(logits), savable(other_logits))  # type: ignore[no-any-return, no-untyped-call]


class _CategoricalKL(torch.autograd.Function):
    """KL(π‖q). Only the logits are saved, and the backward pass can be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, other_logits: Tensor) -> Tensor:
        logps, other_logps = log_softmaxes(logits, other_logits)
        log_ratios = logps - other_logps
        probabilities, others = logps.exp(), other_logps.exp()
        near = probabilities * ((-log_ratios).expm1() + log_ratios)
        far = others - probabilities + probabilities * log_ratios
        infinite = (other_logits == -math.inf) & (log_ratios > 0)
        return torch.where(log_ratios.abs() < 1, near, far).masked_fill(infinite, math.inf).sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """∂KL/∂z_k = π_k (log(π_k/q_k) − KL) and ∂KL/∂z′_k = q_k − π_k.

        KL is computed as the mean of the same log-ratios, so that a common offset cancels.
        """
        logits, other_logits = (without_idle(x, grad) for x in ctx.saved_tensors)
        logps, other_logps = log_softmaxes(logits, other_logits)
        log_ratios, probabilities, others = logps - other_logps, logps.exp(), other_logps.exp()
        mean = (probabilities * log_ratios).sum(-1, keepdim=True)
        slopes = grad.unsqueeze(-1) * probabilities * (log_ratios - mean)
        other_slopes = grad.unsqueeze(-1) * (others - probabilities)
        return slopes.to(logits.dtype), other_slopes.to(other_logits.dtype)


def without_idle(logits: Tensor, grad: Tensor) -> Tensor:
    """Logits, with 0 at positions without a distribution whose upstream gradient is 0, because 0 · NaN is not 0."""
    nowhere = ~logits.amax(-1).isfinite()  # amax propagates NaN
    return logits.masked_fill(((grad == 0) & nowhere).unsqueeze(-1), 0)


def log_softmaxes(logits: Tensor, other_logits: Tensor) -> tuple[Tensor, Tensor]:
    """log π_v and log q_v in the compute dtype, finite for forbidden tokens, with an exponential of 0."""
    dtype = compute_dtype(logits, other_logits)
    least = -value_limit(dtype)
    return log_softmax(logits.to(dtype)).clamp(min=least), log_softmax(other_logits.to(dtype)).clamp(min=least)

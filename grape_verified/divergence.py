"""Divergences of a student from a teacher, for distillation.

R. Agarwal et al., On-Policy Distillation of Language Models, arXiv:2306.13649, equation 1 (not checked against the
source).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from grape_verified.arguments import Range, check_floating, check_logits, check_number, check_same_shape
from grape_verified.kl import log_softmaxes, without_idle
from grape_verified.numerics import savable

__all__ = ["jensen_shannon"]

OPEN_INTERVAL = Range("a number in (0, 1)", 0.0, 1.0)


def jensen_shannon(
    logits: Float[Tensor, "*positions vocab"], teacher_logits: Float[Tensor, "*positions vocab"], *, mixing: float = 0.5
) -> Float[Tensor, "*positions"]:
    """Jensen-Shannon divergence of a teacher T and a student π, the policy with these logits.

        β·KL(T‖m) + (1 − β)·KL(π‖m)        m = βT + (1 − β)π,  β = `mixing`

    It is at most −β log β − (1 − β) log(1 − β), whatever the two forbid. At β → 0 and β → 1 it tends to 0; the KL
    divergences are the limits of JS/β and JS/(1 − β). Only the student is differentiated.

    Computed from the log-ratio of teacher to student with log1p and expm1, as a sum of terms of which none is negative:
    nothing cancels where the two are close. A logit of −inf forbids its token. A position where all logits of one side
    are −inf, or one is NaN or +inf, has no distribution: the result is NaN there, and the gradient is 0 if the upstream
    gradient is 0.

    Arguments:
        logits: (..., vocab), of the student.
        teacher_logits: (..., vocab), of the teacher; a constant.
        mixing: β in (0, 1), the weight of the teacher in the mixture.

    Returns: (...), in nats, never negative.

    Error: with W_v = |log T_v| + |log π_v| + 1 and a logarithm of 0 counted as 0, |error| ≤ 8·u·Σ_v W_v (β T_v
    |log(T_v/m_v)| + (1 − β) π_v |log(π_v/m_v)| + |T_v − π_v|). Each entry of the gradient, before it is rounded to the
    dtype of logits: |error| ≤ 8·u·(1 − β)·π_k (W_k (1 + |log(π_k/m_k)|) + Σ_v π_v W_v (1 + |log(π_v/m_v)|)).

    Claims: divergence.jensen_shannon.bounds, divergence.jensen_shannon.symmetry, divergence.jensen_shannon.ends,
    divergence.jensen_shannon.gradient.

    Sources: Agarwal et al., arXiv:2306.13649 (not checked against the source).

    Examples:
        >>> import torch
        >>> from grape_verified import jensen_shannon
        >>> logits, teacher_logits = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log()
        >>> jensen_shannon(logits, teacher_logits)  # ½ log 4/3 + ¼ log 2/3 + ¼ log 2
        tensor(0.2158)
    """
    check_logits(logits)
    check_floating("teacher_logits", teacher_logits)
    check_same_shape("teacher_logits", teacher_logits, "logits", logits)
    beta = check_number("mixing", mixing, OPEN_INTERVAL)
    teacher = savable(teacher_logits.detach())
    return _JensenShannon.apply(savable(logits), teacher, beta)  # type: ignore[no-any-return, no-untyped-call]


def _excesses(logps: Tensor, teacher_logps: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """log(T/m) and log(π/m), from the log-ratio x of teacher to student: no exponential in them overflows."""
    x = teacher_logps - logps
    above = -((1 - beta) * (-x.clamp(min=0)).expm1()).log1p()  # log(T/m), where the teacher gives more
    below = -(beta * x.clamp(max=0).expm1()).log1p()  # log(π/m), where the student does
    return torch.where(x > 0, above, below + x), torch.where(x > 0, above - x, below)


def _above_tangent(probabilities: Tensor, excess: Tensor, mixture: Tensor) -> Tensor:
    """p·d + m − p with d = log(p/m), which is never negative."""
    near = probabilities * ((-excess).expm1() + excess)
    far = probabilities * excess + mixture - probabilities
    return torch.where(excess.abs() < 1, near, far)


class _JensenShannon(torch.autograd.Function):
    """JS(T‖π). Only the logits are saved, and the backward pass can be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, teacher_logits: Tensor, beta: float) -> Tensor:
        logps, teacher_logps = log_softmaxes(logits, teacher_logits)
        of_teacher, of_student = _excesses(logps, teacher_logps, beta)
        student, teacher = logps.exp(), teacher_logps.exp()
        mixture = beta * teacher + (1 - beta) * student
        terms = beta * _above_tangent(teacher, of_teacher, mixture)
        return (terms + (1 - beta) * _above_tangent(student, of_student, mixture)).sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        logits, teacher_logits, ctx.beta = inputs
        ctx.save_for_backward(logits, teacher_logits)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """∂JS/∂z_k = (1 − β)·π_k·(log(π_k/m_k) − Σ_v π_v log(π_v/m_v))."""
        logits, teacher_logits = (without_idle(x, grad) for x in ctx.saved_tensors)
        logps, teacher_logps = log_softmaxes(logits, teacher_logits)
        _, excess = _excesses(logps, teacher_logps, ctx.beta)
        student = logps.exp()
        mean = (student * excess).sum(-1, keepdim=True)
        slopes = (1 - ctx.beta) * grad.unsqueeze(-1) * student * (excess - mean)
        return slopes.to(logits.dtype), None, None

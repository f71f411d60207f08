"""Divergences of a student from a teacher, for distillation.

R. Agarwal et al., On-Policy Distillation of Language Models, arXiv:2306.13649, equation 1 (not checked against the
source).
"""

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from grape_verified.advantage import gae
from grape_verified.arguments import (
    UNIT_INTERVAL,
    Range,
    check_alike,
    check_choice,
    check_floating,
    check_logits,
    check_number,
    check_same_device,
    check_same_shape,
    check_tensor,
    check_values,
    counted_tokens,
)
from grape_verified.kl import log_softmaxes, without_idle
from grape_verified.logprobs.inputs import counted_positions
from grape_verified.numerics import compute_dtype, log_softmax, savable, value_limit

__all__ = ["distillation_advantages", "jensen_shannon", "top_k_divergence"]

OPEN_INTERVAL = Range("a number in (0, 1)", 0.0, 1.0)

Tail = Literal["bucket", "none", "renormalised"]

#: By how much the probabilities of a teacher may add up to more than 1: log-probabilities rounded to bf16 do.
ROUNDING = 2.0**-6


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


@torch.no_grad()
def distillation_advantages(
    logps: Float[Tensor, "batch time"],
    teacher_logps: Float[Tensor, "batch time"],
    mask: Shaped[Tensor, "batch time"],
    *,
    discount: float,
) -> Float[Tensor, "batch time"]:
    """Advantages of sampled tokens in on-policy distillation, A_t = −Σ_k γᵏ (logp_{t+k} − teacher_logp_{t+k}).

        discount 0       immediate: in expectation, the gradient of the divergence of each next token from the teacher,
                         prefixes held fixed
        discount 1       to go: the gradient of the divergence of whole responses

    For any policy loss; as a loss of its own the log-ratio does nothing. t+1 is the next counted token of the row, as
    in `gae`, of which this is the case λ = 1 without values. The result is a constant.

    A token that the teacher forbids, with −inf, has the advantage −inf, as all before it with a discount > 0. With −inf
    under the student it is +inf; with both, at one token or ahead, NaN.

    Arguments:
        logps: (batch, time), of the student, which sampled the tokens.
        teacher_logps: (batch, time), of the same tokens under the teacher.
        mask: (batch, time).
        discount: γ in [0, 1].

    Returns: (batch, time), 0 where masked.

    Error: |error| ≤ u·(⌈log₂ time⌉ + 4)·S_t, S_t the same sum as A_t over |logp − teacher_logp|.

    Claims: divergence.on_policy.advantage, divergence.on_policy.immediate, divergence.on_policy.to_go,
    divergence.on_policy.left_out, kl.k1.loss_gradient.

    Sources: Y. Gu et al., MiniLLM, arXiv:2306.08543 (not checked against the source).

    Examples:
        >>> import torch
        >>> from grape_verified import distillation_advantages
        >>> logps, teacher_logps = torch.tensor([[-1.0, -1.0, -2.0]]), torch.tensor([[-2.0, -1.0, -1.0]])
        >>> distillation_advantages(logps, teacher_logps, torch.ones(1, 3), discount=0.0)
        tensor([[-1.,  0.,  1.]])
        >>> distillation_advantages(logps, teacher_logps, torch.ones(1, 3), discount=1.0)
        tensor([[0., 1., 1.]])
    """
    check_number("discount", discount, UNIT_INTERVAL)
    check_alike("(batch, time)", logps=logps, teacher_logps=teacher_logps)
    counted = counted_tokens(mask, "logps", logps)
    dtype = compute_dtype(logps, teacher_logps)
    rewards = teacher_logps.to(dtype) - logps.to(dtype)
    return gae(rewards, torch.zeros_like(rewards), counted, discount=discount, lam=1.0)[0]


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
        """∂JS/∂z_k = (1 − β)·π_k·(log(π_k/m_k) − Σ_v π_v log(π_v/m_v)).

        What rounding leaves of the sum of the slopes, which is 0, is taken off: beside a token with nearly all of the
        probability, whose own difference cancels, it would be most of the gradient.
        """
        logits, teacher_logits = (without_idle(x, grad) for x in ctx.saved_tensors)
        logps, teacher_logps = log_softmaxes(logits, teacher_logits)
        _, excess = _excesses(logps, teacher_logps, ctx.beta)
        student = logps.exp()
        mean = (student * excess).sum(-1, keepdim=True)
        centred = student * (excess - mean)
        centred = centred - student * centred.sum(-1, keepdim=True)
        return ((1 - ctx.beta) * grad.unsqueeze(-1) * centred).to(logits.dtype), None, None


# -- the tokens that a teacher sends ----------------------------------------------------------------------------------


def top_k_divergence(
    logits: Float[Tensor, "*positions vocab"],
    teacher_logps: Float[Tensor, "*positions k"],
    teacher_tokens: Int[Tensor, "*positions k"],
    *,
    tail: Tail = "bucket",
    mask: Shaped[Tensor, "*positions"] | None = None,
) -> Float[Tensor, "*positions"]:
    """Forward divergence of a student π, the policy with these logits, from the k tokens K that a teacher T sends.

        "bucket"        Σ_K T_v log(T_v/π_v) + T_rest log(T_rest/π_rest)     rest: all other tokens, in one bucket
        "none"          Σ_K T_v log(T_v/π_v)                                 may be negative, and is no divergence
        "renormalised"  Σ_K t_v log(t_v/q_v),  t = T/T(K),  q = π/π(K)       0 for k = 1

    `torch.topk` of a teacher's log-probabilities gives both arguments, in this order. With the bucket it is the forward
    KL without its part within the rest. π_rest is a sum over the other tokens and T_rest is 1 − T(K) in fp64, with the
    likeliest token subtracted by expm1, so that neither cancels where K has nearly all of the mass. Probabilities that
    add up to more than 1 by rounding leave nothing for the bucket, and k = vocab has none.

    A logit of −inf forbids its token. If the teacher allows what the student forbids, the divergence is +inf and its
    gradient finite. A position where all logits are −inf (renormalised: all those of K, or of the teacher), or one is
    NaN or +inf, has no distribution: the result is NaN there, and the gradient is 0 if the upstream gradient is 0.

    Arguments:
        logits: (..., vocab), of the student.
        teacher_logps: (..., k), the teacher's log-probabilities, normalised over the whole vocabulary; a constant.
        teacher_tokens: (..., k), integers in [0, vocab), distinct at each position.
        tail: "bucket", "none" or "renormalised".
        mask: (...); None if all positions count.

    Returns: (...), in nats; 0 where masked.

    Error: with the cells c, the tokens of K and the bucket, and W_c = |log T_c| + |log π_c| + log vocab + 1, a
    logarithm of 0 counted as 0: |error| ≤ 8·u·Σ_c W_c (T_c |log(T_c/π_c)| + |T_c − π_c|), for "none" 8·u·Σ_c W_c T_c,
    with a bucket plus 2⁻⁴⁸·k·W_rest for T(K), a sum in fp64. Each entry of the gradient is a difference of two terms;
    before it is rounded to the dtype of logits, |error| ≤ 8·u·W times their sum, W the weight of its cell, for another
    token that of the bucket and |log π_v|.

    Claims: divergence.truncated.gradient, divergence.truncated.parts, divergence.bucketed.gradient,
    divergence.renormalised.gradient, divergence.renormalised.single.

    Examples:
        >>> import torch
        >>> from grape_verified import top_k_divergence
        >>> teacher = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
        >>> top_k_divergence(torch.zeros(4), *teacher.topk(2))  # ½ log 2 + ¼ log 1 + ¼ log ½
        tensor(0.1733)
    """
    check_logits(logits)
    check_choice("tail", tail, get_args(Tail))
    counted = None if mask is None else counted_positions(mask, logits)
    check_kept(teacher_logps, teacher_tokens, "logits", logits, logits.shape[-1], counted)
    logps, tokens = teacher_logps.detach(), teacher_tokens.long()
    if counted is not None:
        logps, tokens = (x.masked_fill(~counted.unsqueeze(-1), 0) for x in (logps, tokens))
    teacher = Teacher.of(logps, tail, logits.shape[-1], compute_dtype(logits))
    found = _TopK.apply(savable(logits), savable(tokens), *map(savable, teacher), tail)  # type: ignore[no-untyped-call]
    return found if counted is None else found.masked_fill(~counted, 0)  # type: ignore[no-any-return]


def check_kept(
    logps: Tensor, tokens: Tensor, like_name: str, like: Tensor, vocab: int, counted: Bool[Tensor, "..."] | None
) -> None:
    """Check what a teacher sends: k distinct tokens at each position of a tensor, and their log-probabilities."""
    check_floating("teacher_logps", logps)
    check_same_device("teacher_logps", logps, like_name, like)
    if logps.ndim != like.ndim or logps.shape[:-1] != like.shape[:-1] or not 0 < logps.shape[-1] <= vocab:
        raise ValueError(
            f"teacher_logps: got shape {tuple(logps.shape)}, expected {tuple(like.shape[:-1])} and a k from 1 to "
            f"{vocab}, the vocabulary"
        )
    check_tensor("teacher_tokens", tokens)
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"teacher_tokens: got dtype {tokens.dtype}, expected an integer dtype")
    check_same_shape("teacher_tokens", tokens, "teacher_logps", logps)
    masked = torch.zeros(like.shape[:-1], dtype=torch.bool, device=like.device) if counted is None else ~counted
    out, tokens = masked.unsqueeze(-1), tokens.long()  # unsigned dtypes cannot be compared
    check_values("teacher_tokens", tokens, (tokens >= 0) & (tokens < vocab) | out, f"values in [0, {vocab})")
    ordered = tokens.sort(-1).values
    repeated = ordered[..., 1:] == ordered[..., :-1]
    check_values("teacher_tokens", ordered[..., 1:], ~repeated | out, "distinct tokens at each position")
    check_values("teacher_logps", logps, (logps <= 0) | out, "log-probabilities, <= 0")
    mass = logps.detach().double().exp().sum(-1)
    expected = "at most 1: log-probabilities normalised over the whole vocabulary"
    check_values("teacher_logps.exp().sum(-1)", mass, (mass <= 1 + ROUNDING) | masked, expected)


class Teacher(NamedTuple):
    """The probabilities of a teacher in each cell, their logarithms, and their sum less 1, which is a rounding.

    The cells are the tokens that it sends, and all others together unless it is renormalised. They are computed in fp64
    because what is left for the others is a difference.
    """

    probabilities: Float[Tensor, "*positions cells"]
    logps: Float[Tensor, "*positions cells"]
    excess: Float[Tensor, "*positions"]

    @classmethod
    def of(cls, logps: Float[Tensor, "*positions k"], tail: Tail, vocab: int, dtype: torch.dtype) -> "Teacher":
        """The cells of the tokens with these log-probabilities."""
        logps = logps.double()
        if tail == "renormalised":
            logps = logps.log_softmax(-1)
        kept = logps.exp()
        highest, top = logps.max(-1, keepdim=True)
        rest = -highest.expm1() - kept.scatter(-1, top, 0).sum(-1, keepdim=True)
        if tail == "renormalised":
            return cls(kept.to(dtype), _finite(logps.to(dtype)), torch.zeros_like(highest, dtype=dtype).squeeze(-1))
        bucket = rest.clamp(min=0) if tail == "bucket" and logps.shape[-1] < vocab else torch.zeros_like(rest)
        kept, logps = torch.cat([kept, bucket], -1), torch.cat([logps, bucket.log()], -1)
        return cls(kept.to(dtype), _finite(logps.to(dtype)), (bucket - rest).squeeze(-1).to(dtype))


def _finite(logps: Tensor) -> Tensor:
    """Logarithms with a finite one of 0."""
    return logps.clamp(min=-value_limit(logps.dtype))


def divergence_of_cells(scores: Tensor, teacher: Teacher, tail: Tail) -> Tensor:
    """The divergence of each position, from the scores of its cells: their probabilities are the softmax of these."""
    logps = _finite(log_softmax(scores))
    excesses = teacher.logps - logps
    if tail == "none":
        terms, excess = teacher.probabilities * excesses, torch.zeros_like(teacher.excess)
    else:
        terms, excess = _above_tangent(teacher.probabilities, excesses, logps.exp()), teacher.excess
    infinite = (scores == -math.inf) & (excesses > 0)
    return terms.masked_fill(infinite, math.inf).sum(-1) + excess


def slopes_of_cells(scores: Tensor, teacher: Teacher) -> Tensor:
    """The slopes of a divergence in the scores of the cells: π·ΣT − T.

    They add up to 0. That of a cell with more than half of the probability is minus the sum of the others, because its
    own difference cancels where the rest is small.
    """
    first = log_softmax(scores).exp() * teacher.probabilities.sum(-1, keepdim=True)
    slopes = first - teacher.probabilities
    most, cell = (first + teacher.probabilities).max(-1, keepdim=True)
    others = slopes.scatter(-1, cell, 0).sum(-1, keepdim=True)
    return torch.where(most > 1, slopes.scatter(-1, cell, -others), slopes)


class _TopK(torch.autograd.Function):
    """The divergence over the tokens of a teacher. The backward pass can be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, tokens: Tensor, probabilities: Tensor, logps: Tensor, excess: Tensor, tail: Tail
    ) -> Tensor:
        scores, _ = _scores(logits, tokens, tail)
        return divergence_of_cells(scores, Teacher(probabilities, logps, excess), tail)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.tail = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """∂/∂z_v: the slope of its own cell, or its share of the slope of the bucket."""
        logits, tokens, *teacher = ctx.saved_tensors
        scores, others = _scores(without_idle(logits, grad), tokens, ctx.tail)
        slopes = slopes_of_cells(scores, Teacher(*teacher)) * grad.unsqueeze(-1)
        if ctx.tail == "renormalised":
            of_all = torch.zeros_like(others)
        else:
            of_all = slopes[..., -1:] * (others - _finite(scores[..., -1:])).exp()
        of_all = of_all.scatter(-1, tokens, slopes[..., : tokens.shape[-1]])
        return of_all.masked_fill((grad == 0).unsqueeze(-1), 0).to(logits.dtype), None, None, None, None, None


def _scores(logits: Tensor, tokens: Tensor, tail: Tail) -> tuple[Tensor, Tensor]:
    """The scores of the cells, and the logits with −inf for the tokens that are cells of their own.

    Both are less the largest logit, because the logarithm of a sum is rounded as the logits are.
    """
    logits = logits.to(compute_dtype(logits))
    logits = logits - logits.detach().amax(-1, keepdim=True)
    kept, others = logits.gather(-1, tokens), logits.scatter(-1, tokens, -math.inf)
    return (kept if tail == "renormalised" else torch.cat([kept, others.logsumexp(-1, keepdim=True)], -1)), others

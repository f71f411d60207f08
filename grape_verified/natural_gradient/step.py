"""TRPO's step: along the natural gradient, under a limit on the measured KL.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import Module

from grape_verified.arguments import (
    NON_NEGATIVE,
    POSITIVE,
    Range,
    check_floating,
    check_has_values,
    check_integer,
    check_number,
    check_same_device,
    check_tensor,
    counted_tokens,
)
from grape_verified.kl import categorical_kl
from grape_verified.logprobs.from_logits import token_logps
from grape_verified.natural_gradient.conjugate_gradient import NonPositiveCurvature, conjugate_gradient
from grape_verified.natural_gradient.fisher import fisher_product, flat_gradient
from grape_verified.natural_gradient.policy import (
    Policy,
    evaluating,
    model_inputs,
    savable_outside,
    trained_parameters,
    twice_differentiable,
)
from grape_verified.numerics import compute_dtype, exp_limit

__all__ = ["TrpoStep", "trpo_step"]


class TrpoStep(NamedTuple):
    """The result of `trpo_step`, in Python numbers.

    accepted: whether the parameters moved. kl: mean over the counted tokens of KL(old‖new), measured over the
    vocabulary; 0 without a step. surrogate_before, surrogate_after: mean over the counted tokens of ρA. fraction: of
    the full step, 0 without a step. reason: why there is no step, None if there is one.
    """

    accepted: bool
    kl: float
    surrogate_before: float
    surrogate_after: float
    fraction: float
    reason: str | None


def trpo_step(
    model: Module,
    inputs: Tensor | Mapping[str, Any],
    targets: Int[Tensor, "*positions"],
    advantages: Float[Tensor, "..."],
    mask: Shaped[Tensor, "*positions"],
    *,
    max_kl: float = 0.01,
    damping: float = 0.1,
    cg_steps: int = 10,
    backtracks: int = 10,
    backtrack_ratio: float = 0.5,
) -> TrpoStep:
    """Move a model's parameters by d = √(2δ/xᵀHx)·x, Hx = g and H = F + λI, or by the first of d, r·d, r²·d, … that
    raises the measured surrogate with a measured KL(old‖new) ≤ δ.

    g is the gradient of the surrogate, the mean of ρA over the counted tokens, old the policy at entry, F its Fisher
    matrix as in `fisher_vector_product`, and x comes from `conjugate_gradient`. With λ > 0 and the quadratic model, the
    KL stays below δ: ½dᵀFd ≤ ½dᵀHd = δ.

    Either the step is accepted, with KL ≤ δ and a larger surrogate, or every parameter is bitwise unchanged and the
    reason says why: no token counts, something is not finite, the gradient is zero, F + λI is not positive, or no
    fraction is acceptable. An error inside the model also leaves every parameter unchanged. `.grad` is neither read nor
    changed.

    The KL is exact over the vocabulary, a mean over counted tokens, measured with the stored parameters and the model
    in its current mode. Under the caller's autocast it is the KL of the policy under autocast, whose cache of
    parameters is cleared before each evaluation and at the end. Buffers that the forward pass changes, as batch
    normalisation does in training, are restored. Dropout must be off. The other requirements on a model are those of
    `fisher_vector_product`.

    Arguments:
        model, inputs: as in `fisher_vector_product`.
        targets: (...), the tokens that were sampled, already shifted: the logits at t predict `targets[t]`.
        advantages: (...), or one for each entry of the first dimension; constants.
        mask: (...).
        max_kl: δ > 0.
        damping: λ ≥ 0, in the units of F.
        cg_steps: the largest number of Fisher products for x, an integer > 0.
        backtracks: the largest number of times the step is shortened, an integer ≥ 0.
        backtrack_ratio: r in (0, 1).

    Returns: TrpoStep(accepted, kl, surrogate_before, surrogate_after, fraction, reason).

    Raises: as `fisher_vector_product`, and ValueError for a model whose logits differ between two evaluations, or with
    cached parametrizations.

    Error: |kl − KL(old‖new)| ≤ 16·u·(1 + L)·√kl for the logits that the model gives, L the largest |log π|.

    Claims: trpo.step, trpo.step.gain, trpo.surrogate.gradient, trpo.kl.hessian, trpo.conjugate_gradient.

    Sources: Schulman et al., arXiv:1502.05477, section 6 and appendix C.

    Examples:
        >>> import torch
        >>> from grape_verified import trpo_step
        >>> model = torch.nn.Linear(1, 2, dtype=torch.float64)
        >>> step = trpo_step(model, torch.ones(1, 1).double(), torch.tensor([0]), torch.ones(1), torch.ones(1))
        >>> step.accepted, step.kl <= 0.01, step.surrogate_after > step.surrogate_before
        (True, True, True)
    """
    max_kl = check_number("max_kl", max_kl, POSITIVE)
    damping = check_number("damping", damping, NON_NEGATIVE)
    cg_steps = check_integer("cg_steps", cg_steps, at_least=1)
    fractions = _fractions(backtracks, backtrack_ratio)
    parameters = trained_parameters(model)
    with evaluating(model):
        sample = _sample(model, inputs, targets, advantages, mask)
        try:
            old = _measured_start(sample)
            with twice_differentiable():
                step = _full_step(sample, parameters, max_kl, damping, cg_steps)
            return _line_search(sample, old, parameters, step, max_kl, fractions)
        except (_NoStep, NonPositiveCurvature) as reason:
            surrogate = sample.surrogate_before()
            return TrpoStep(False, 0.0, surrogate, surrogate, 0.0, str(reason))


class _NoStep(Exception):
    """There is no step; the message says why."""


class _Measured(NamedTuple):
    """A policy on the counted tokens."""

    logits: Float[Tensor, "tokens vocab"]
    logps: Float[Tensor, " tokens"]


@dataclass(frozen=True)
class _Sample:
    """A policy, and the counted tokens that were sampled from it, with their advantages."""

    policy: Policy
    targets: Int[Tensor, " tokens"]
    advantages: Float[Tensor, " tokens"]

    @torch.no_grad()
    def measured(self) -> _Measured:
        """The policy at the current parameters."""
        logits = self.policy.logits()
        return _Measured(logits, token_logps(logits, self.targets))

    def surrogate_before(self) -> float:
        """Mean of ρA where ρ = 1."""
        return self.advantages.mean().item() if self.advantages.numel() else 0.0


def _sample(
    model: Module, inputs: Tensor | Mapping[str, Any], targets: Tensor, advantages: Tensor, mask: Tensor
) -> _Sample:
    """Check the samples; keep the counted tokens."""
    check_tensor("targets", targets)
    counted = savable_outside(counted_tokens(mask, "targets", targets))
    check_has_values("mask", counted)
    check_floating("advantages", advantages)
    check_same_device("advantages", advantages, "targets", targets)
    if advantages.shape not in (targets.shape, targets.shape[:1]):
        raise ValueError(
            f"advantages: got shape {tuple(advantages.shape)}, expected {tuple(targets.shape)}, the shape of targets, "
            f"or {tuple(targets.shape[:1])}, one for each entry of its first dimension"
        )
    whole = advantages.detach().reshape(*advantages.shape, *[1] * (targets.ndim - advantages.ndim)).expand_as(targets)
    constants = whole[counted].to(compute_dtype(advantages))
    return _Sample(Policy(model, model_inputs(inputs), counted), targets[counted], constants)


def _measured_start(sample: _Sample) -> _Measured:
    """The policy at entry, evaluated twice to detect dropout."""
    if not sample.targets.numel():
        raise _NoStep("no token counts")
    if not sample.advantages.isfinite().all():
        raise _NoStep("an advantage that counts is not finite")
    old, again = sample.measured(), sample.measured()
    if not old.logps.isfinite().all():
        raise _NoStep("the log-probability of a target that counts is not finite")
    if not torch.equal(old.logits, again.logits):
        raise ValueError(
            "model: got different logits from two evaluations at the same parameters, expected the same: dropout "
            "must be off, as after model.eval()"
        )
    return old


def _full_step(
    sample: _Sample, parameters: Sequence[Tensor], max_kl: float, damping: float, cg_steps: int
) -> Float[Tensor, " parameters"]:
    """The full step d = √(2δ/xᵀHx)·x."""
    logits = sample.policy.differentiable_logits()
    # Where the policies agree, ∇(ρA) = A ∇log π: trpo.surrogate.gradient.
    with torch.enable_grad():
        surrogate = (token_logps(logits, sample.targets) * sample.advantages).mean()
    gradient = flat_gradient(surrogate, parameters)
    if not gradient.isfinite().all():
        raise _NoStep("the gradient of the surrogate is not finite")
    if not gradient.any():
        raise _NoStep("the gradient of the surrogate is zero")
    product = fisher_product(logits, parameters, damping)
    solution = conjugate_gradient(product, gradient, steps=cg_steps)
    direction = solution / solution.abs().max()
    curvature = (direction * product(direction)).sum()
    step = direction * (2 * max_kl / curvature).sqrt()
    if not step.isfinite().all():
        raise _NoStep("the full step is not finite")
    return step


def _line_search(
    sample: _Sample,
    old: _Measured,
    parameters: Sequence[Tensor],
    step: Float[Tensor, " parameters"],
    max_kl: float,
    fractions: Iterable[float],
) -> TrpoStep:
    """Take the first fraction that is acceptable; if there is none, and after any error, restore the parameters."""
    saved = [parameter.detach().clone() for parameter in parameters]
    before, accepted = sample.surrogate_before(), False
    try:
        for fraction in fractions:
            _move(parameters, saved, fraction * step)
            kl, gain = _change(sample, old)
            accepted = kl <= max_kl and gain > 0
            if accepted:
                return TrpoStep(True, kl, before, before + gain, fraction, None)
    finally:
        if not accepted:
            _copy(parameters, saved)
    raise _NoStep(
        f"no fraction of the step from 1 to {fraction:.3g} has KL <= {max_kl:.3g} and a larger surrogate; the "
        f"last has KL {kl:.3g} and changes the surrogate by {gain:.3g}"
    )


def _change(sample: _Sample, old: _Measured) -> tuple[float, float]:
    """Mean KL(old‖new), and the gain of the surrogate as the mean of (ρ − 1)A, in which nothing cancels."""
    new = sample.measured()
    log_ratio = (new.logps - old.logps).clamp(max=exp_limit(new.logps.dtype))
    gain = log_ratio.expm1() * sample.advantages
    return categorical_kl(old.logits, new.logits).mean().item(), gain.mean().item()


def _move(parameters: Sequence[Tensor], saved: Sequence[Tensor], step: Tensor) -> None:
    """Set the parameters to the saved ones plus a flat step, added in the dtype of the step."""
    pieces = step.split([parameter.numel() for parameter in parameters])
    _copy(parameters, [piece.view_as(old) + old for piece, old in zip(pieces, saved, strict=True)])


@torch.no_grad()
def _copy(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _fractions(backtracks: int, backtrack_ratio: float) -> Iterable[float]:
    """Check the options of the line search; return the fractions to try, the full step first, none of them 0."""
    backtracks = check_integer("backtracks", backtracks, at_least=0)
    ratio = check_number("backtrack_ratio", backtrack_ratio, Range("a number in (0, 1)", 0.0, 1.0))
    return takewhile(bool, (ratio**k for k in range(backtracks + 1)))

"""Trust region policy optimisation: the surrogate of one token, and the step that a KL constraint allows.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel

from grape_verified.aggregation import aggregate
from grape_verified.arguments import (
    NON_NEGATIVE,
    POSITIVE,
    Aggregation,
    Range,
    TokenInputs,
    check_aggregation,
    check_floating,
    check_integer,
    check_logits,
    check_number,
    check_same_device,
    check_same_shape,
    check_tensor,
    counted_tokens,
    token_inputs,
)
from grape_verified.kl import categorical_kl, kl_estimate
from grape_verified.logprobs.from_logits import token_logps
from grape_verified.losses.output import LossOutput
from grape_verified.numerics import bounded_exp, compute_dtype, exp_limit

__all__ = [
    "NonPositiveCurvature",
    "TrpoStep",
    "conjugate_gradient",
    "fisher_vector_product",
    "trpo_loss",
    "trpo_per_token",
    "trpo_step",
]

#: The attention kernel whose backward pass can be differentiated; it is also the one while checkpoints are recomputed.
TWICE_DIFFERENTIABLE = SDPBackend.MATH


def trpo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """Negative surrogate of each token, −ρA with ρ = exp(logp − old_logp).

    Only `logps` is differentiated: `old_logps` and `advantages` are constants. Where ρ would leave the range of the
    dtype it saturates at finfo.max · 2⁻²⁴ and the slope in logp, −ρA, keeps that size and sign.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; read in the compute dtype of logps.
        advantages: (batch, time), or (batch,) for one per sequence; read in the compute dtype of logps.

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype, shape or device.

    Error: |error| ≤ 4·u·(|logp − old_logp| + 1)·|value|, u the unit roundoff of the compute dtype, where ρ neither
    saturates nor underflows.

    Claims: ppo.ratio, ppo.ratio.gradient, trpo.surrogate, trpo.surrogate.gradient, trpo.importance.identity.

    Sources: Schulman et al., arXiv:1502.05477, equation 14.
    """
    tokens = token_inputs(logps, old_logps, advantages)
    return -bounded_exp(tokens.logps - tokens.old_logps) * tokens.advantages


def trpo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """TRPO's policy loss: the aggregate of `trpo_per_token` over the tokens that count.

    It bounds nothing: what keeps the policies close is the constraint of `trpo_step`. Masked entries may hold
    anything, NaN and inf included. If no token counts, the loss is 0 with zero gradients. Where ratios saturate for
    advantages of both signs the loss is some finite number; the slope of each token keeps its sign.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; a constant.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none:
        ratio_mean: of ρ.
        approx_kl: of expm1(d) − d with d = logp − old_logp, an estimate of KL(old‖new) from samples of old.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option.

    Error: the aggregate of the bounds of `trpo_per_token`, and that of `aggregate`.

    Claims: those of `trpo_per_token` and `aggregate`.

    Sources: Schulman et al., arXiv:1502.05477, equation 14.
    """
    check_aggregation("aggregation", aggregation, denominator, max_length)
    tokens = token_inputs(logps, old_logps, advantages)
    counted = counted_tokens(mask, "logps", logps)
    tokens = tokens.only(counted)
    per_token = trpo_per_token(tokens.logps, tokens.old_logps, tokens.advantages)
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    return LossOutput(loss, per_token, _metrics(tokens, counted))


def fisher_vector_product(
    model: Module,
    inputs: Tensor | Mapping[str, Any],
    mask: Shaped[Tensor, "*positions"],
    vector: Float[Tensor, " parameters"],
    *,
    damping: float = 0.0,
) -> Float[Tensor, " parameters"]:
    """Product of the Fisher matrix of a model and a vector, (F + λI)v, with F = mean_t J_tᵀ (diag π_t − π_t π_tᵀ) J_t.

    J_t is the Jacobian of the logits at position t in the parameters, π_t their softmax, and the mean is over the
    counted tokens. F is the Hessian of the mean of KL(old‖new) where the two policies agree. If no token counts, F = 0.

    Computed in that form, u = J v, w = π(u − πᵀu), Jᵀw: no second derivative of the model is taken, F is symmetric and
    positive semi-definite by construction, and the graph serves every further product. J v is the derivative of Jᵀw
    in w, so the backward pass of the model must be differentiable: attention through
    `torch.nn.functional.scaled_dot_product_attention` is run by its mathematical kernel, a model that is compiled, or
    has fused kernels without a second derivative, is refused by torch.

    The model is used in the mode that it is in; dropout must be off. A vector is flat, over the parameters that
    require gradients, in the order of `model.parameters()`; tied parameters count once.

    Arguments:
        model: `model(inputs)` for a tensor, `model(**inputs)` for a mapping, gives logits (..., vocab), or an object
            that holds them as `.logits`. Masked logits do not enter; a NaN within the model reaches its gradients.
        inputs: what the model reads.
        mask: (...), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        vector: v, (parameters,), any floating-point dtype; read in fp32 (fp64 if a parameter is).
        damping: λ, a finite number ≥ 0.

    Returns: (parameters,), fp32 (fp64 if a parameter is). A product with half-precision parameters is as coarse as
    their gradients are.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option, or a model that gives no logits
    with a gradient.

    Error: in fp32, on a Llama of two layers, at most 64·u of the largest entry of Fv (37·u measured, against a dense F
    in fp64).

    Claims: policy.fisher, trpo.kl.hessian.

    Sources: Schulman et al., arXiv:1502.05477, appendix C.1.
    """
    check_number("damping", damping, NON_NEGATIVE)
    parameters = _trained(model)
    _check_vector(vector, parameters)
    policy = _Policy(model, _checked_inputs(inputs), counted_tokens(mask, "mask", mask))
    with sdpa_kernel(TWICE_DIFFERENTIABLE):
        product = _fisher_product(policy.differentiable_logits(), parameters, damping)
        return product(vector.detach().to(compute_dtype(*parameters)))


class NonPositiveCurvature(ValueError):
    """The matrix of `conjugate_gradient` is not positive definite, or not finite."""


@torch.no_grad()
def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    target: Float[Tensor, " parameters"],
    *,
    steps: int = 10,
    tolerance: float = 1e-10,
) -> Float[Tensor, " parameters"]:
    """Approximate solution x of Ax = b by conjugate gradients from x = 0, for a positive definite A known by products.

    In exact arithmetic x is the solution after as many steps as A has distinct eigenvalues. It stops early where
    ‖b − Ax‖ ≤ tolerance · ‖b‖, by the residual of the recurrence. b is first scaled to a largest entry of 1, so that
    its square neither overflows nor vanishes.

    Arguments:
        product: v ↦ Av, from (parameters,) to (parameters,).
        target: b, (parameters,), finite, any floating-point dtype; read in fp32 (fp64 stays fp64).
        steps: how many products at most, an integer > 0.
        tolerance: a finite number ≥ 0.

    Returns: x, (parameters,), fp32 (fp64 for fp64); 0 for b = 0, without a product.

    Raises: TypeError or ValueError for a wrong type, dtype, shape or option; NonPositiveCurvature, a ValueError, for a
    direction p in which pᵀAp is not > 0.

    Error: in fp64, for matrices of 20 rows and condition number 100, after 40 steps: ‖b − Ax‖ ≤ 1e-9·‖b‖ (1e-10
    measured).

    Claims: trpo.conjugate_gradient.

    Sources: M. R. Hestenes and E. Stiefel, Methods of conjugate gradients for solving linear systems, 1952, section 3.
    """
    _check_system(target, steps, tolerance)
    target = target.to(compute_dtype(target))
    scale = target.abs().max()
    if scale == 0:
        return torch.zeros_like(target)
    residual = target / scale
    direction, solution = residual, torch.zeros_like(residual)
    norm = first_norm = torch.linalg.vector_norm(residual)
    for step in range(1, steps + 1):
        image = product(direction)
        check_same_shape("product", image, "target", target)
        curvature = (direction * image).sum()
        if not curvature > 0:
            raise NonPositiveCurvature(
                f"product: got the curvature {curvature:.3g} along direction {step}, expected > 0, as of a positive "
                "definite matrix"
            )
        length = norm.square() / curvature
        solution = solution + length * direction
        residual = residual - length * image
        previous, norm = norm, torch.linalg.vector_norm(residual)
        if norm <= tolerance * first_norm:
            break
        direction = residual + (norm / previous).square() * direction
    return solution * scale


class TrpoStep(NamedTuple):
    """What `trpo_step` did, in Python numbers.

    accepted: whether the parameters moved. kl: mean over the counted tokens of KL(old‖new), measured over the
    vocabulary; 0 where nothing moved. surrogate_before, surrogate_after: mean over the counted tokens of ρA.
    fraction: of the full step, 0 where nothing moved. reason: why nothing moved, None where something did.
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

    The KL is exact over the vocabulary, a mean over counted tokens, measured with the parameters as they are stored.
    Either the step is accepted, with KL ≤ δ and a larger surrogate, or every parameter is what it was, bit for bit, and
    the reason says why: no token counts, something is not finite, the gradient is zero, F + λI is not positive, no
    fraction will do. They are also what they were after an error inside the model. `.grad` is not read or changed.

    The model is used in the mode that it is in. Dropout must be off: a model that gives two different logits at the
    same parameters is refused. What its backward pass must offer: see `fisher_vector_product`.

    Arguments:
        model, inputs: as in `fisher_vector_product`.
        targets: (...), the tokens that were sampled, already shifted: the logits at t predict `targets[t]`.
        advantages: (...), or one for each entry of the first dimension; constants.
        mask: (...), 1 or True where a token counts. Masked targets and advantages may hold anything.
        max_kl: δ, a finite number > 0.
        damping: λ, a finite number ≥ 0, in the units of F.
        cg_steps: how many Fisher products are spent on x, an integer > 0.
        backtracks: how often the step is shortened at most, an integer ≥ 0.
        backtrack_ratio: r in (0, 1).

    Returns: TrpoStep(accepted, kl, surrogate_before, surrogate_after, fraction, reason).

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, value or option, or a model that gives no
    logits with a gradient, or two different ones.

    Error: |kl − KL(old‖new)| ≤ 16·u·(1 + L)·√kl for the logits that the model gives, L the largest |log π| and u the
    unit roundoff of the compute dtype.

    Claims: trpo.step, trpo.step.gain, trpo.surrogate.gradient, trpo.kl.hessian, trpo.conjugate_gradient.

    Sources: Schulman et al., arXiv:1502.05477, section 6 and appendix C.
    """
    _check_step_options(max_kl, damping, cg_steps, backtracks, backtrack_ratio)
    parameters = _trained(model)
    sample = _sample(model, inputs, targets, advantages, mask)
    try:
        old = _measured_start(sample)
        with sdpa_kernel(TWICE_DIFFERENTIABLE):
            step = _full_step(sample, parameters, max_kl, damping, cg_steps)
        fractions = [backtrack_ratio**k for k in range(backtracks + 1)]
        return _line_search(sample, old, parameters, step, max_kl, fractions)
    except (_NoStep, NonPositiveCurvature) as reason:
        surrogate = sample.surrogate_before()
        return TrpoStep(False, 0.0, surrogate, surrogate, 0.0, str(reason))


class _NoStep(Exception):
    """The parameters stay as they are; the message says why."""


@dataclass(frozen=True)
class _Policy:
    """A model and what it reads; of its logits, those of the tokens that count, in one dimension."""

    model: Module
    inputs: Tensor | Mapping[str, Any]
    counted: Tensor

    def logits(self) -> Float[Tensor, "tokens vocab"]:
        """Logits of the tokens that count, in the compute dtype."""
        output = self.model(**self.inputs) if isinstance(self.inputs, Mapping) else self.model(self.inputs)
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor):
            raise TypeError(f"model: got {type(output).__name__}, expected logits or an object with .logits")
        check_logits(logits)
        check_same_device("mask", self.counted, "logits", logits)
        if logits.shape[:-1] != self.counted.shape:
            raise ValueError(
                f"mask: got shape {tuple(self.counted.shape)}, expected {tuple(logits.shape[:-1])}, the shape of the "
                "model's logits without its last dimension"
            )
        return logits[self.counted].to(compute_dtype(logits))

    def differentiable_logits(self) -> Float[Tensor, "tokens vocab"]:
        """The same, to be differentiated."""
        with torch.enable_grad():
            logits = self.logits()
        if not logits.requires_grad:
            raise ValueError("model: got logits without a gradient, expected logits that depend on its parameters")
        return logits


class _Measured(NamedTuple):
    """A policy as it is, on the tokens that count."""

    logits: Float[Tensor, "tokens vocab"]
    logps: Float[Tensor, " tokens"]


@dataclass(frozen=True)
class _Sample:
    """A policy, and the tokens that were sampled from it, those that count, with their advantages."""

    policy: _Policy
    targets: Int[Tensor, " tokens"]
    advantages: Float[Tensor, " tokens"]

    @torch.no_grad()
    def measured(self) -> _Measured:
        """The policy at the parameters that its model has now."""
        logits = self.policy.logits()
        return _Measured(logits, token_logps(logits, self.targets))

    def surrogate_before(self) -> float:
        """Mean of ρA where ρ = 1."""
        return self.advantages.mean().item() if self.advantages.numel() else 0.0


def _sample(
    model: Module, inputs: Tensor | Mapping[str, Any], targets: Tensor, advantages: Tensor, mask: Tensor
) -> _Sample:
    """Check what was sampled, and keep of it what counts."""
    check_tensor("targets", targets)
    counted = counted_tokens(mask, "targets", targets)
    check_floating("advantages", advantages)
    check_same_device("advantages", advantages, "targets", targets)
    if advantages.shape not in (targets.shape, targets.shape[:1]):
        raise ValueError(
            f"advantages: got shape {tuple(advantages.shape)}, expected {tuple(targets.shape)}, the shape of targets, "
            f"or {tuple(targets.shape[:1])}, one for each entry of its first dimension"
        )
    whole = advantages.detach().reshape(*advantages.shape, *[1] * (targets.ndim - advantages.ndim)).expand_as(targets)
    constants = whole[counted].to(compute_dtype(advantages))
    return _Sample(_Policy(model, _checked_inputs(inputs), counted), targets[counted], constants)


def _trained(model: Module) -> Sequence[Tensor]:
    """The parameters that require gradients, each once."""
    if not isinstance(model, Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model: got no parameter that requires gradients, expected at least one")
    devices = sorted({str(parameter.device) for parameter in parameters})
    if len(devices) > 1:
        raise ValueError(f"model: got parameters on {', '.join(devices)}, expected one device")
    return parameters


def _fisher_product(
    logits: Float[Tensor, "tokens vocab"], parameters: Sequence[Tensor], damping: float
) -> Callable[[Tensor], Tensor]:
    """v ↦ (F + λI)v at the parameters that the logits were computed with; the mean is over the tokens."""
    probabilities = logits.detach().softmax(-1)
    tokens = max(1, len(logits))
    cotangent = torch.zeros_like(logits, requires_grad=True)
    pulled = torch.autograd.grad(logits, parameters, cotangent, create_graph=True, allow_unused=True)
    used = [(part, place) for place, part in enumerate(pulled) if part is not None and part.requires_grad]

    def product(vector: Tensor) -> Tensor:
        pieces = _split(vector, parameters)
        (pushed,) = torch.autograd.grad(
            [part for part, _ in used], cotangent, [pieces[place] for _, place in used], retain_graph=True
        )
        weighted = probabilities * (pushed - (probabilities * pushed).sum(-1, keepdim=True)) / tokens
        return _flat_gradient(logits, parameters, weighted).to(vector.dtype) + damping * vector

    return product


def _flat_gradient(output: Tensor, parameters: Sequence[Tensor], cotangent: Tensor | None = None) -> Tensor:
    """Gradient in all parameters, flat, 0 for those that take no part; the graph is kept for more."""
    gradients = torch.autograd.grad(output, parameters, cotangent, retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.reshape(-1).to(compute_dtype(*parameters)) for gradient in gradients])


def _split(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector, cut into the shapes of the parameters, each in its parameter's dtype."""
    pieces = vector.split([parameter.numel() for parameter in parameters])
    return [piece.view_as(of).to(of.dtype) for piece, of in zip(pieces, parameters, strict=True)]


def _measured_start(sample: _Sample) -> _Measured:
    """The policy at entry, measured twice: dropout shows in a difference."""
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
            "has to be off, as by model.eval()"
        )
    return old


def _full_step(
    sample: _Sample, parameters: Sequence[Tensor], max_kl: float, damping: float, cg_steps: int
) -> Float[Tensor, " parameters"]:
    """The step d = √(2δ/xᵀHx)·x, before any shortening."""
    logits = sample.policy.differentiable_logits()
    # Where the policies agree, ∇(ρA) = A ∇log π: trpo.surrogate.gradient.
    with torch.enable_grad():
        surrogate = (token_logps(logits, sample.targets) * sample.advantages).mean()
    gradient = _flat_gradient(surrogate, parameters)
    if not gradient.isfinite().all():
        raise _NoStep("the gradient of the surrogate is not finite")
    if not gradient.any():
        raise _NoStep("the gradient of the surrogate is zero")
    product = _fisher_product(logits, parameters, damping)
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
    fractions: Sequence[float],
) -> TrpoStep:
    """Take the first fraction that is allowed and pays; without one, and after any error, put everything back."""
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
        f"no fraction of the step from 1 to {fractions[-1]:.3g} has KL <= {max_kl:.3g} and a larger surrogate; the "
        f"last has KL {kl:.3g} and changes the surrogate by {gain:.3g}"
    )


def _change(sample: _Sample, old: _Measured) -> tuple[float, float]:
    """Mean KL(old‖new), and what the surrogate has gained: the mean of (ρ − 1)A, in which nothing cancels."""
    new = sample.measured()
    log_ratio = (new.logps - old.logps).clamp(max=exp_limit(new.logps.dtype))
    gain = log_ratio.expm1() * sample.advantages
    return categorical_kl(old.logits, new.logits).mean().item(), gain.mean().item()


def _move(parameters: Sequence[Tensor], saved: Sequence[Tensor], step: Tensor) -> None:
    """Set the parameters to what was saved plus a flat step, added in the step's dtype."""
    pieces = step.split([parameter.numel() for parameter in parameters])
    _copy(parameters, [piece.view_as(old) + old for piece, old in zip(pieces, saved, strict=True)])


@torch.no_grad()
def _copy(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


@torch.no_grad()
def _metrics(tokens: TokenInputs, counted: Tensor) -> dict[str, Tensor]:
    """The metrics that `trpo_loss` defines."""
    return {
        "ratio_mean": aggregate(bounded_exp(tokens.logps - tokens.old_logps), counted, "token_mean"),
        "approx_kl": aggregate(kl_estimate(tokens.old_logps, tokens.logps), counted, "token_mean"),
    }


def _checked_inputs(inputs: object) -> Tensor | Mapping[str, Any]:
    if not isinstance(inputs, Tensor | Mapping):
        raise TypeError(f"inputs: got {type(inputs).__name__}, expected a tensor or a mapping of arguments by name")
    return inputs


def _check_vector(vector: Tensor, parameters: Sequence[Tensor]) -> None:
    """Check a flat vector over the parameters."""
    check_floating("vector", vector)
    check_same_device("vector", vector, "model", parameters[0])
    size = sum(parameter.numel() for parameter in parameters)
    if vector.shape != (size,):
        raise ValueError(
            f"vector: got shape {tuple(vector.shape)}, expected {(size,)}, one entry for each trained parameter"
        )


def _check_system(target: Tensor, steps: int, tolerance: float) -> None:
    """Check the arguments of `conjugate_gradient`."""
    check_floating("target", target, "(parameters,)")
    if not target.isfinite().all():
        raise ValueError("target: got a value that is not finite, expected finite numbers")
    check_integer("steps", steps, at_least=1)
    check_number("tolerance", tolerance, NON_NEGATIVE)


def _check_step_options(max_kl: float, damping: float, cg_steps: int, backtracks: int, backtrack_ratio: float) -> None:
    """Check the options of `trpo_step`."""
    check_number("max_kl", max_kl, POSITIVE)
    check_number("damping", damping, NON_NEGATIVE)
    check_integer("cg_steps", cg_steps, at_least=1)
    check_integer("backtracks", backtracks, at_least=0)
    check_number("backtrack_ratio", backtrack_ratio, Range("a number in (0, 1)", 0.0, 1.0))

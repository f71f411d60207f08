"""Products with the Fisher matrix of a policy, in the form Jᵀ(diag π − ππᵀ)J."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel

from grape_verified.arguments import (
    NON_NEGATIVE,
    check_floating,
    check_logits,
    check_number,
    check_same_device,
    counted_tokens,
)
from grape_verified.numerics import compute_dtype

__all__ = ["fisher_vector_product"]

#: The attention kernel whose backward pass can be differentiated; it is also the one while checkpoints are recomputed.
TWICE_DIFFERENTIABLE = SDPBackend.MATH


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
    damping = check_number("damping", damping, NON_NEGATIVE)
    parameters = trained_parameters(model)
    _check_vector(vector, parameters)
    policy = Policy(model, checked_inputs(inputs), counted_tokens(mask, "mask", mask))
    with sdpa_kernel(TWICE_DIFFERENTIABLE):
        product = fisher_product(policy.differentiable_logits(), parameters, damping)
        return product(vector.detach().to(compute_dtype(*parameters)))


@dataclass(frozen=True)
class Policy:
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


def trained_parameters(model: Module) -> Sequence[Tensor]:
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


def fisher_product(
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
        return flat_gradient(logits, parameters, weighted).to(vector.dtype) + damping * vector

    return product


def flat_gradient(output: Tensor, parameters: Sequence[Tensor], cotangent: Tensor | None = None) -> Tensor:
    """Gradient in all parameters, flat, 0 for those that take no part; the graph is kept for more."""
    gradients = torch.autograd.grad(output, parameters, cotangent, retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.reshape(-1).to(compute_dtype(*parameters)) for gradient in gradients])


def _split(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector, cut into the shapes of the parameters, each in its parameter's dtype."""
    pieces = vector.split([parameter.numel() for parameter in parameters])
    return [piece.view_as(of).to(of.dtype) for piece, of in zip(pieces, parameters, strict=True)]


def checked_inputs(inputs: object) -> Tensor | Mapping[str, Any]:
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

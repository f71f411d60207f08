"""Products with the Fisher matrix of a policy, in the form Jᵀ(diag π − ππᵀ)J."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import Module

from grape_verified.arguments import NON_NEGATIVE, check_floating, check_number, check_same_device, counted_tokens
from grape_verified.natural_gradient.policy import (
    Policy,
    evaluating,
    model_inputs,
    savable_outside,
    trained_parameters,
    twice_differentiable,
)
from grape_verified.numerics import compute_dtype

__all__ = ["fisher_vector_product"]


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

    The product is u = J v, w = π(u − πᵀu), Jᵀw: the model is differentiated once, and F is symmetric and positive
    semi-definite by construction. J v is the derivative of Jᵀw in w, so the backward pass of the model must be
    differentiable: scaled_dot_product_attention uses its math kernel, modules compiled with torch.compile run eagerly,
    checkpoints must not be reentrant, and torch raises for other kernels without a second derivative.

    The model runs in its current mode and under the caller's autocast, whose cache of parameters is not used; its
    backward pass runs in the dtypes of its forward pass. Buffers that the forward pass changes are restored. Dropout
    must be off. A call within torch.compile is not supported.

    Arguments:
        model: `model(inputs)` for a tensor, `model(**inputs)` for a mapping; returns logits (..., vocab), or an object
            that holds them as `.logits`. Masked logits are ignored; a NaN within the model reaches its gradients.
        inputs: the model's inputs.
        mask: (...).
        vector: v, (parameters,), over the parameters that require gradients, in the order of `model.parameters()`,
            each once; read in fp32 (fp64 if a parameter is).
        damping: λ ≥ 0.

    Returns: (parameters,), a constant, fp32 (fp64 if a parameter is). With half-precision parameters, or under
    autocast, it is only as accurate as their gradients.

    Raises: TypeError for a model of DTensors, DistributedDataParallel or FullyShardedDataParallel, of which each rank
    would see only its own part. ValueError for logits without a gradient.

    Error: in fp32, on a Llama of two layers, at most 64·u of the largest entry of Fv (37·u measured, against a dense F
    in fp64).

    Claims: policy.fisher, trpo.kl.hessian.

    Sources: Schulman et al., arXiv:1502.05477, appendix C.1.

    Examples:
        >>> import torch
        >>> from grape_verified import fisher_vector_product
        >>> model = torch.nn.Linear(1, 2, bias=False)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> fisher_vector_product(model, torch.ones(1, 1), torch.ones(1), torch.tensor([1.0, 0.0]))
        tensor([ 0.2500, -0.2500])
    """
    damping = check_number("damping", damping, NON_NEGATIVE)
    parameters = trained_parameters(model)
    _check_vector(vector, parameters)
    policy = Policy(model, model_inputs(inputs), savable_outside(counted_tokens(mask, "mask", mask)))
    with evaluating(model), twice_differentiable():
        product = fisher_product(policy.differentiable_logits(), parameters, damping)
        return product(vector.detach().to(compute_dtype(*parameters)))


def fisher_product(
    logits: Float[Tensor, "tokens vocab"], parameters: Sequence[Tensor], damping: float
) -> Callable[[Tensor], Tensor]:
    """v ↦ (F + λI)v at the parameters that the logits were computed with; the mean is over the tokens."""
    probabilities = logits.detach().softmax(-1)
    tokens = max(1, len(logits))
    cotangent = torch.zeros_like(logits, requires_grad=True)
    with _autocast_off(logits):
        pulled = torch.autograd.grad(logits, parameters, cotangent, create_graph=True, allow_unused=True)
    used = [(part, place) for place, part in enumerate(pulled) if part is not None and part.requires_grad]

    def product(vector: Tensor) -> Tensor:
        pieces = _split(vector, parameters)
        with _autocast_off(logits):
            (pushed,) = torch.autograd.grad(
                [part for part, _ in used], cotangent, [pieces[place] for _, place in used], retain_graph=True
            )
        weighted = probabilities * (pushed - (probabilities * pushed).sum(-1, keepdim=True)) / tokens
        return flat_gradient(logits, parameters, weighted).to(vector.dtype) + damping * vector

    return product


def flat_gradient(output: Tensor, parameters: Sequence[Tensor], cotangent: Tensor | None = None) -> Tensor:
    """Flat gradient in all parameters, 0 for unused ones; the graph is retained."""
    with _autocast_off(output):
        gradients = torch.autograd.grad(output, parameters, cotangent, retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.reshape(-1).to(compute_dtype(*parameters)) for gradient in gradients])


def _autocast_off(tensor: Tensor) -> AbstractContextManager[None]:
    """No autocast: it would change the dtypes of the matrix products of a backward pass."""
    return torch.autocast(tensor.device.type, enabled=False)


def _split(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector split into the shapes and dtypes of the parameters."""
    pieces = vector.split([parameter.numel() for parameter in parameters])
    return [piece.view_as(of).to(of.dtype) for piece, of in zip(pieces, parameters, strict=True)]


def _check_vector(vector: Tensor, parameters: Sequence[Tensor]) -> None:
    """Check a flat vector over the parameters."""
    check_floating("vector", vector)
    check_same_device("vector", vector, "model", parameters[0])
    size = sum(parameter.numel() for parameter in parameters)
    if vector.shape != (size,):
        raise ValueError(
            f"vector: got shape {tuple(vector.shape)}, expected {(size,)}, one entry for each trained parameter"
        )

"""A model as a policy: its logits, evaluated and differentiated independently of the context of the call."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch import distributed as dist
from torch.nn import Module
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

from grape_verified.arguments import check_has_values, check_logits, check_same_device, is_dtensor
from grape_verified.numerics import compute_dtype, savable

COMPILED = (
    "model: got a call within torch.compile, expected one that is not compiled; decorate the calling function with "
    "torch.compiler.disable"
)


@dataclass(frozen=True)
class Policy:
    """A model, its inputs and the tokens that count."""

    model: Module
    inputs: Tensor | Mapping[str, Any]
    counted: Bool[Tensor, "*positions"]

    def logits(self) -> Float[Tensor, "tokens vocab"]:
        """Logits of the tokens that count, in the compute dtype."""
        torch.clear_autocast_cache()  # it may hold outdated copies of parameters, or copies without a gradient
        output = self.model(**self.inputs) if isinstance(self.inputs, Mapping) else self.model(self.inputs)
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor):
            raise TypeError(f"model: got {type(output).__name__}, expected logits or an object with .logits")
        check_logits(logits)
        check_same_device("mask", self.counted, "logits", logits)
        check_has_values("mask", self.counted)
        if logits.shape[:-1] != self.counted.shape:
            raise ValueError(
                f"mask: got shape {tuple(self.counted.shape)}, expected {tuple(logits.shape[:-1])}, the shape of the "
                "model's logits without its last dimension"
            )
        return logits[self.counted].to(compute_dtype(logits))

    def differentiable_logits(self) -> Float[Tensor, "tokens vocab"]:
        """The same, with a graph."""
        with torch.enable_grad():
            logits = self.logits()
        if not logits.requires_grad:
            raise ValueError("model: got logits without a gradient, expected logits that depend on its parameters")
        return logits


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Restore the buffers of a model, and clear the cache of autocast, after evaluations of it."""
    with torch.inference_mode(False):
        buffers = [
            (module, name, buffer, buffer.detach().clone())
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.layout == torch.strided and not buffer.is_meta  # others cannot be compared
        ]
        try:
            _check_parametrizations(model)
            yield
        finally:
            torch.clear_autocast_cache()
            for module, name, buffer, value in buffers:
                setattr(module, name, buffer)
                if not torch.equal(buffer, value):  # a copy would invalidate a graph that has saved the buffer
                    buffer.detach().copy_(value)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Run attention by the kernel whose backward pass can be differentiated, and compiled modules eagerly.

    The backward pass needs this as well, because it recomputes checkpoints.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # else no module is compiled, and the import takes seconds
            stack.enter_context(_eager())
        yield


def _eager() -> AbstractContextManager[Any]:
    """Compiled modules run eagerly: torch cannot differentiate the backward pass of a compiled one."""
    try:
        if not torch.compiler.is_compiling():
            return torch.compiler.set_stance("force_eager")
    except RuntimeError:  # an eager part of a compiled function, which torch gives no other way to detect
        pass
    raise ValueError(COMPILED)


def trained_parameters(model: Module) -> Sequence[Tensor]:
    """Check a model; return the parameters that require gradients, each once."""
    if not isinstance(model, Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    if torch.compiler.is_compiling():
        raise ValueError(COMPILED)
    _check_one_process(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model: got no parameter that requires gradients, expected at least one")
    devices = sorted({str(parameter.device) for parameter in parameters})
    if len(devices) > 1:
        raise ValueError(f"model: got parameters on {', '.join(devices)}, expected one device")
    if devices == ["meta"]:
        raise ValueError("model: got parameters on meta, expected parameters with values")
    if any(parameter.is_inference() for parameter in parameters):
        raise ValueError(
            "model: got parameters made in inference mode, expected some that can be trained; clone them outside it"
        )
    return parameters


def model_inputs(inputs: object) -> Tensor | Mapping[str, Any]:
    """Check the inputs of a model; return tensors that autograd can save."""
    if isinstance(inputs, Tensor):
        return savable_outside(inputs)
    if isinstance(inputs, Mapping):
        return {name: savable_outside(value) if isinstance(value, Tensor) else value for name, value in inputs.items()}
    raise TypeError(f"inputs: got {type(inputs).__name__}, expected a tensor or a mapping of arguments by name")


def savable_outside(tensor: Tensor) -> Tensor:
    """A tensor that autograd can save once inference mode, if the caller is in it, is left."""
    with torch.inference_mode(False):
        return savable(tensor)


def _check_one_process(model: Module) -> None:
    """Check that a model is neither sharded nor replicated over processes."""
    advice = "expected a plain module with all of its parameters; a step takes the whole batch in one process"
    if any(is_dtensor(parameter) for parameter in model.parameters()):
        raise TypeError(f"model: got parameters that are DTensors, {advice}")
    wrappers: tuple[type[Module], ...] = (DistributedDataParallel,)
    if dist.is_available() and dist.is_initialized():
        from torch.distributed.fsdp import FullyShardedDataParallel

        wrappers += (FullyShardedDataParallel,)
    for module in model.modules():
        if isinstance(module, wrappers):
            raise TypeError(f"model: got a {type(module).__name__}, {advice}")


@torch.no_grad()
def _check_parametrizations(model: Module) -> None:
    """Check that parametrized tensors follow their parameters: torch must not cache them."""
    for module in model.modules():
        for name, parametrization in getattr(module, "parametrizations", {}).items():
            value = getattr(module, name)
            if value is getattr(module, name) and value is not getattr(parametrization, "original", None):
                raise ValueError(
                    f"model: got a cached {name}, expected parametrizations that follow their parameters; leave "
                    "torch.nn.utils.parametrize.cached() before the call"
                )

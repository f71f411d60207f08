"""The choice between Triton kernels and torch."""

import os
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor


def triton_kernels_for(x: Tensor, *others: Tensor) -> ModuleType | None:
    """The module `triton_kernels` if its kernels support the tensors, else None: torch does the same in more passes.

    They support tensors of up to fp32 on CUDA, and on a CPU in Triton's interpreter. `torch.compile` generates kernels
    of its own, and the tensors of `torch.func` transforms have no storage.
    """
    if torch.compiler.is_compiling() or x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    if type(x) not in (Tensor, torch.nn.Parameter) or in_transform(x, *others):
        return None
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return _triton_kernels(interpreted) if x.is_cuda or (interpreted and x.is_cpu) else None


def in_transform(*tensors: Tensor) -> bool:
    """Whether a tensor is wrapped by a torch.func transform, or by a batched backward pass."""
    try:
        for x in tensors:
            x.untyped_storage()
    except NotImplementedError:
        return True
    return any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors))


@cache
def _triton_kernels(interpreted: bool) -> ModuleType | None:
    """The module, or None if Triton is missing or unusable: it needs a C compiler, which small images lack."""
    if find_spec("triton") is None:
        return None
    try:
        from grape_verified.logprobs import triton_kernels

        if not interpreted:
            from triton.runtime import driver  # type: ignore[import-untyped, import-not-found, unused-ignore]

            driver.active.get_current_target()
    except Exception as error:
        warnings.warn(f"grape_verified: Triton is not used, so calls are slower: {error}", stacklevel=2)
        return None
    return triton_kernels

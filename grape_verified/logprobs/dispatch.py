"""Which tensors the Triton kernels can read."""

import os
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor


def triton_kernels_for(x: Tensor) -> ModuleType | None:
    """The module `triton_kernels` if its kernels can read x, else None: torch then does the same in more passes.

    They read tensors of up to fp32 on CUDA, and on a CPU in Triton's interpreter. `torch.compile` generates kernels of
    its own, and the tensors of `torch.func` transforms have no memory.
    """
    if torch.compiler.is_compiling() or x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    if type(x) not in (Tensor, torch.nn.Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(x):
        return None
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return _triton_kernels(interpreted) if interpreted or x.is_cuda else None


@cache
def _triton_kernels(interpreted: bool) -> ModuleType | None:
    """The module, unless Triton is missing or unusable: it needs a C compiler, which small images lack."""
    if find_spec("triton") is None:
        return None
    try:
        from grape_verified.logprobs import triton_kernels

        if not interpreted:
            from triton.runtime import driver  # type: ignore[import-untyped, import-not-found, unused-ignore]

            driver.active.get_current_target()
    except Exception as error:
        warnings.warn(f"grape_verified: Triton is not used, which costs time: {error}", stacklevel=2)
        return None
    return triton_kernels

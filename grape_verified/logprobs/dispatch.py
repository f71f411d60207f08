"""Where the folds in Triton take the place of passes in torch."""

import os
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor


def folds_for(x: Tensor) -> ModuleType | None:
    """The module `folds` if its kernels can read x, else None: then torch does the same in more passes.

    They can on CUDA, and on a CPU in Triton's interpreter, up to fp32. What torch traces or transforms is left to it:
    `torch.compile` makes kernels of its own, and `torch.func.vmap` hands over no memory.
    """
    if torch.compiler.is_compiling() or x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    if type(x) not in (Tensor, torch.nn.Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(x):
        return None
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return _folds(interpreted) if interpreted or x.is_cuda else None


@cache
def _folds(interpreted: bool) -> ModuleType | None:
    """The module, unless Triton is not there or cannot be used: it needs a compiler for C, which small images lack."""
    if find_spec("triton") is None:
        return None
    try:
        from grape_verified.logprobs import folds

        if not interpreted:
            from triton.runtime import driver  # type: ignore[import-untyped, import-not-found, unused-ignore]

            driver.active.get_current_target()
    except Exception as error:
        warnings.warn(f"grape_verified: Triton is not used, which costs time: {error}", stacklevel=2)
        return None
    return folds

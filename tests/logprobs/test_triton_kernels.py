"""The Triton kernels: in the interpreter, on CUDA if there is a device, and what happens if they cannot be used.

Triton reads once, when it is imported, whether to interpret: what is interpreted runs in a process of its own.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from grape_verified import token_logps
from grape_verified.logprobs import dispatch

FOLDER = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="the Triton kernels need Triton, which is not installed"
)


def run(*command, **environment):
    """A process that ends well, and what it printed."""
    run = subprocess.run(
        [sys.executable, *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=FOLDER.parent.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-1000:]
    return run.stdout


def checked(*selection, **environment):
    """Run tests in a process of their own."""
    return run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--show-capture=no", *selection, **environment)


@pytest.mark.full("Triton's interpreter and compiler")
@needs_triton
def test_in_the_interpreter():
    """The checks of the kernels, and of the tests of the routes those in fp32 that are small."""
    routes = "check_triton or masked_positions or of_zero or far_above or far_apart or distribution or confident"
    routes += " or (documented and None and peaked)"
    files = [str(path) for path in sorted(FOLDER.glob("test_from_*.py"))]
    checked(
        str(FOLDER / "check_triton_kernels.py"),
        str(FOLDER / "test_fused_loss.py"),
        str(FOLDER.parent / "test_distillation.py"),
        *files,
        "-k",
        routes,
        TRITON_INTERPRET="1",
    )


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_the_device():
    checked(str(FOLDER / "check_triton_kernels.py"), TRITON_INTERPRET="0")


def test_on_a_cpu_torch_does_it_all():
    x = torch.randn(3, 5)
    assert dispatch.triton_kernels_for(x) is None
    assert token_logps(x, torch.tensor([0, 1, 2])).isfinite().all()


@pytest.mark.parametrize("interpret", ["0", "1"])
def test_without_triton_torch_does_it_all(interpret):
    code = (
        "import sys; sys.modules['triton'] = None; import torch, grape_verified as g; x = torch.ones(2, 3);"
        "y = torch.zeros(2, dtype=int); print(g.token_logps(x, y).exp(), g.linear_token_logps(x, x.T @ x, y).exp())"
    )
    assert run("-W", "error", "-c", code, TRITON_INTERPRET=interpret).count("0.3333") == 4


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton can be used")
def test_triton_that_cannot_be_used_is_said_and_left_out():
    with pytest.warns(UserWarning, match="grape_verified: Triton is not used, so calls are slower: "):
        assert dispatch._triton_kernels.__wrapped__(False) is None


def test_a_cpu_does_not_wait_for_triton_to_be_imported():
    code = (
        "import sys, torch, grape_verified as g; g.token_logps(torch.ones(2, 3), torch.zeros(2, dtype=int));"
        "print('grape_verified.logprobs.triton_kernels' in sys.modules)"
    )
    assert run("-c", code, TRITON_INTERPRET="0") == "False\n"


def test_traced_calls_are_left_to_torch(monkeypatch):
    """`torch.compile` generates its own code from logits; the linear head is one operator that it runs as it is."""
    monkeypatch.setattr(dispatch, "_triton_kernels", lambda interpreted: pytest.fail("Triton kernels while tracing"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    x, y = torch.randn(3, 5), torch.tensor([0, 1, 2])
    assert torch.compile(token_logps, fullgraph=True, backend="aot_eager")(x, y).shape == (3,)
    torch.vmap(lambda row: (row, dispatch.triton_kernels_for(row))[0])(x)

"""Every kernel as it is called, compiled for three generations of GPUs: nothing is left outside registers."""

import re
import subprocess

import pytest
import torch

pytest.importorskip("triton", reason="the Triton kernels need Triton, which is not installed")

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from grape_verified.logprobs import triton_kernels
from grape_verified.logprobs.tiles import SLACK

pytestmark = [
    pytest.mark.skipif(knobs.runtime.interpret, reason="the interpreter is on: nothing is compiled"),
    pytest.mark.full("Triton's interpreter and compiler"),
]

ROWS = 256
FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16
TYPES = {FP32: "*fp32", FP16: "*fp16", BF16: "*bf16", torch.int64: "*i64"}


def room(*shape, dtype=FP32):
    """A tensor of which only shape and dtype are read."""
    return torch.empty(shape, dtype=dtype, device="meta")


HEADS = {
    "plain head": lambda columns: {"bias": None, "temperature": 0.7},
    "whole head": lambda columns: {"bias": room(columns, dtype=BF16), "temperature": room(ROWS)},
}


def sums_of_tiles(columns, head):
    """In the two stages, with and without an entropy, and in one pass."""
    for spread, exponentials in ((None, False), (room(ROWS), False), (None, True)):
        sums = room(ROWS, dtype=torch.int64), room(ROWS), room(ROWS), room(ROWS), spread
        triton_kernels.add_tile(room(ROWS, columns), *sums, slack=SLACK, exponentials=exponentials, **head)


def slopes_of_tiles(columns, head):
    """With and without a gradient of an entropy and of temperatures, for operands of both dtypes."""
    place = room(1, ROWS, columns), room(ROWS, dtype=torch.int64), room(ROWS)
    for moments in (None, room(ROWS)):
        for terms in ({}, dict.fromkeys(("slope", "curve", "entropies"), room(ROWS))):
            for dtype in (FP32, BF16):
                result = room(ROWS, columns, dtype=dtype)
                triton_kernels.slopes(*place, result, shift=room(ROWS), moments=moments, **head, **terms)


def passes_over_logits(columns):
    """Log-probabilities and entropies and the gradients of both."""
    for dtype in (FP32, FP16, BF16):
        logits = room(1, ROWS, columns, dtype=dtype)
        sums = {"shift": room(ROWS), "totals": room(ROWS), "divisor": 0.7}
        triton_kernels.softmax(logits, 0.7, with_spread=False)
        triton_kernels.slopes(logits, room(ROWS, dtype=torch.int64), room(ROWS), logits[0], **sums, slope=room(ROWS))
        triton_kernels.softmax(logits, 0.7, with_spread=True)
        terms = dict.fromkeys(("slope", "curve", "entropies"), room(ROWS))
        triton_kernels.slopes(logits, None, None, logits[0], **sums, **terms)


class Recorder:
    """A kernel that notes what it is given."""

    def __init__(self, kernel, found):
        self.kernel, self.found = kernel, found

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.found.append((self.kernel, arguments, options))


@pytest.fixture
def launches(monkeypatch):
    """What would be launched."""
    found = []
    for name in ("add_tile_kernel", "softmax_kernel", "slopes_kernel"):
        monkeypatch.setattr(triton_kernels, name, Recorder(getattr(triton_kernels, name), found))
    return found


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    """Use no cache of an earlier run."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def source(kernel, arguments, constants):
    """A kernel for arguments of these types, as Triton specialises it: whether numbers are multiples of 16."""
    constants, types, attributes = dict(constants), {}, {}
    for place, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        if value is None:
            constants[name] = value
        elif isinstance(value, float):
            types[name] = "fp32"
        else:
            types[name] = TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
            if isinstance(value, torch.Tensor) or (value % 16 == 0 and not kernel.params[place].do_not_specialize):
                attributes[place,] = [["tt.divisibility", 16]]
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    return ASTSource(kernel, signature, constants, attributes)


def compiled(kernel, arguments, options, cc):
    constants = {name: value for name, value in options.items() if name in kernel.arg_names}
    settings = {name: value for name, value in options.items() if name not in kernel.arg_names}
    target = GPUTarget("cuda", cc, 32)
    return triton.compile(source(kernel, arguments, constants), target=target, options=settings)


def stack_frame(kernel, tmp_path):
    """Bytes of a thread's stack: here nothing but what did not fit into registers."""
    binary = tmp_path / "kernel.cubin"
    binary.write_bytes(kernel.asm["cubin"])
    command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(binary)]
    usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(re.search(r"\bREG:\d+ STACK:(\d+)", usage)[1])


@pytest.mark.parametrize("cc", [80, 90, 100])
@pytest.mark.parametrize("columns", [151_936, 50_257])
@pytest.mark.parametrize("head", [*HEADS, "logits"])
def test_nothing_spills(launches, tmp_path, cc, columns, head):
    if head == "logits":
        passes_over_logits(columns)
    else:
        sums_of_tiles(columns, HEADS[head](columns))
        slopes_of_tiles(columns, HEADS[head](columns))
    assert len(launches) >= 11
    for kernel, arguments, options in launches:
        result = compiled(kernel, arguments, options, cc)
        given = [name for name, value in zip(kernel.arg_names, arguments, strict=False) if value is not None]
        assert stack_frame(result, tmp_path) == 0, (kernel.__name__, given, options)
        assert ("ld.global.v4" in result.asm["ptx"]) == (columns % 16 == 0)


@pytest.mark.parametrize("cc", [80, 90, 100])
def test_too_many_columns_for_a_thread_are_seen_to_spill(launches, tmp_path, cc):
    triton_kernels.softmax(room(1, ROWS, 4096), 1.0, with_spread=True)
    kernel, arguments, options = launches[0]
    options = {**options, "block": 8192, "num_warps": 1}
    assert stack_frame(compiled(kernel, arguments, options, cc), tmp_path) > 0


@pytest.mark.parametrize(
    ("columns", "dtype", "block", "warps"),
    [
        (1, FP32, 256, 1),
        (256, FP32, 256, 1),
        (257, FP32, 512, 2),
        (700, FP32, 1024, 4),
        (4096, FP32, 2048, 8),
        (512, BF16, 512, 1),
        (151_936, BF16, 4096, 8),
    ],
)
def test_the_law_for_blocks(columns, dtype, block, warps):
    assert triton_kernels.block_of(room(3, columns, dtype=dtype)) == {"block": block, "num_warps": warps}

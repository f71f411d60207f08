"""The contexts of training: each public function called in each of them, compared with a plain call.

Value and gradients must be the same, bitwise unless a context says otherwise. What is not supported must raise an error
that says what was got and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context

import torch
from torch import Tensor

from grape_verified.conformance import other_inputs as other
from grape_verified.conformance import ways
from grape_verified.conformance.calls import Call, calls, names
from grape_verified.conformance.subject import Violation

Names = Sequence[str]


@dataclass(frozen=True)
class Context:
    """One way to call a function.

    Arguments:
        name, text: its name, and a sentence about it.
        pairs: the results of a call in the context, each with that of a plain call.
        missing: why it does not apply to a call; empty if it does.
        roundings: the number of roundings of the largest number by which the two may differ; 0 for the same bits.
        because: why they may differ.
        exempt: kernels that it does not apply to, each with the reason.
        refused: kernels that may raise an error in place of support; all others must work.
        cost: "" for milliseconds, "compiles" for seconds, "inductor" for more.
        inputs: the number of inputs that it is tried on.
    """

    name: str
    text: str
    pairs: Callable[[Call], ways.Pairs]
    missing: Callable[[Call], str] = lambda call: ""
    roundings: float = 0
    because: str = ""
    exempt: Mapping[str, str] = field(default_factory=dict)
    refused: Names = ()
    cost: str = ""
    inputs: int = 3


# -- where a context does not apply -----------------------------------------------------------------------------------


def _no_gradient(call: Call) -> str:
    return "" if call.wrt else "nothing is differentiated"


def _no_derivative(call: Call) -> str:
    return "its weights are constants" if call.constants else _no_gradient(call)


def _no_tensor(call: Call) -> str:
    return "" if call.tensors else "takes no tensor"


def _no_numbers(call: Call) -> str:
    return "" if any(call.numbers.values()) else "takes no option that is a number"


def _no_mask(call: Call) -> str:
    return "" if {"mask", "item_mask"} & call.tensors.keys() else "takes no mask"


def _no_token_mask(call: Call) -> str:
    along = [n for n, t in call.tensors.items() if n not in ("mask", *call.unmasked) and t.is_floating_point()]
    if "mask" not in call.tensors or not along:
        return "takes no mask over tokens" if along else "takes nothing but a mask"
    return "" if bool(call.masked.any()) else "nothing is masked"


def _no_masked_logps(call: Call) -> str:
    chosen = [n for n in call.wrt if n.endswith("logps")]
    if not chosen:
        return "differentiates no log-probabilities"
    return _no_token_mask(call) if call.tensors[chosen[0]].ndim > 1 else ""


def _no_logits(call: Call) -> str:
    return "" if any(name.endswith("logits") for name in call.wrt) else "differentiates no logits"


# -- the table --------------------------------------------------------------------------------------------------------

EVERY = ("every kernel",)
_FUSED = ("fused_linear_loss", "fused_jensen_shannon_loss", "fused_top_k_loss")
_HEAD = ("linear_token_logps", "linear_token_entropies", *_FUSED)
_MODEL = ("fisher_vector_product", "trpo_step")
_READS = {"conjugate_gradient": "stops by what it finds"}
_VALUES = (*_HEAD, "unpack_sequences")
_BREAKS = dict.fromkeys((*_VALUES, *_MODEL, "conjugate_gradient"), "reads values between its parts")
_LOWERED = dict.fromkeys(_MODEL, "its model runs under autocast, as it is asked to")
_LAYOUT = dict.fromkeys(_MODEL, "its model reads the inputs as they lie")
_AGAIN = "the gradient is an expression of all logits, which can be differentiated"
_ORDER = "compiled code adds and multiplies in another order"
_FUNCTORCH = "tensors of functorch have no memory: expressions of all logits in place of blocks"

CONTEXTS: tuple[Context, ...] = (
    *(
        Context(
            f"autocast {part} {str(dtype).removeprefix('torch.')}",
            f"torch.autocast in {dtype} around {'both passes' if part == 'both' else f'the {part} pass'}.",
            ways.autocast(dtype, part),
            _no_tensor if part != "backward" else _no_gradient,
            exempt=_LOWERED,
        )
        for part in ("forward", "backward", "both")
        for dtype in (torch.bfloat16, torch.float16)
    ),
    Context("no_grad", "torch.no_grad.", ways.without_gradients(torch.no_grad), _no_tensor),
    Context("inference_mode", "torch.inference_mode.", ways.without_gradients(torch.inference_mode), _no_tensor,
            refused=_MODEL),
    Context("compiled", "torch.compile, without code generation, with breaks of the graph.",
            ways.compiled("aot_eager", False), _no_tensor, refused=_MODEL,
            roundings=16, because=_ORDER, cost="compiles", inputs=1),
    Context("compiled, full graph", "The same without a break.", ways.compiled("aot_eager"), _no_tensor,
            exempt=_BREAKS, roundings=16, because=_ORDER, cost="compiles", inputs=1),
    Context("inductor", "torch.compile with code generation.", ways.compiled("inductor"), _no_tensor,
            exempt=_BREAKS, roundings=16, because=_ORDER, cost="inductor", inputs=1),
    Context("func.grad", "torch.func.grad.", ways.functional, _no_gradient, roundings=16, because=_FUNCTORCH,
            refused=_HEAD),
    Context("vmap", "torch.vmap over three batches.", ways.vmapped, _no_tensor, roundings=16, because=_FUNCTORCH,
            refused=_VALUES, exempt={**dict.fromkeys(_MODEL, "calls a model"), **_READS}),
    Context("create_graph", "A backward pass with create_graph.", ways.with_graph, _no_gradient, refused=_HEAD,
            roundings=16, because=_AGAIN),
    Context("second derivative", "The derivative of the gradient, beside differences of it in fp64.",
            ways.second_derivative, _no_derivative, refused=_HEAD),
    Context("checkpoint", "Gradient checkpointing, non-reentrant.", ways.checkpointed, _no_gradient),
    Context("checkpoint reentrant", "Gradient checkpointing, reentrant.", ways.checkpointed_reentrant, _no_gradient),
    *(
        Context(f"upstream {factor:g}", f"A gradient of {factor:g} from above.", ways.scaled_upstream(factor),
                _no_gradient, roundings=8 if factor else 0, because="multiples of a number are rounded")
        for factor in (3.5, 4.0, 0.0)
    ),
    Context("upstream expanded", "A gradient from above that is in memory once.", ways.expanded_upstream, _no_gradient),
    Context("two backward passes", "Two backward passes with retain_graph.", ways.two_passes, _no_gradient),
    Context("strided", "Tensors with gaps in memory.", other.reshaped(other.strided), _no_tensor, exempt=_LAYOUT),
    Context("transposed", "Tensors that are transposed in memory.", other.reshaped(other.transposed), _no_tensor,
            exempt=_LAYOUT),
    Context("expanded", "One row in place of all, in memory once.", other.expanded, _no_tensor),
    Context("subclass", "Tensors of a subclass.", other.reshaped(other.as_subclass), _no_tensor),
    Context("Parameter", "Leaves that are parameters.", other.parameters, _no_gradient),
    *(
        Context(f"mask {str(dtype).removeprefix('torch.')}", f"Masks of {dtype}.", other.masks(dtype), _no_mask)
        for dtype in (torch.int64, torch.uint8, torch.float32)
    ),
    Context("default dtype", "torch.set_default_dtype(torch.float64).", ways.within(ways.default_dtype)),
    Context("deterministic", "torch.use_deterministic_algorithms.", ways.within(ways.deterministic), _no_tensor),
    Context("threads", "Two threads.", ways.within(ways.threads), _no_tensor),
    Context("masked values", "NaN and ±inf at masked positions.", other.masked_values, _no_token_mask),
    Context("masked logits", "NaN and ±inf at the logits of masked tokens.",
            other.masked_logits(ways.within(nullcontext)), _no_masked_logps),
    Context("masked logits, func.grad", "The same under torch.func.grad.", other.masked_logits(ways.functional),
            _no_masked_logps, roundings=16, because=_FUNCTORCH),
    Context("masked logits, create_graph", "The same with create_graph.",
            other.masked_logits(ways.with_graph), _no_masked_logps, roundings=16, because=_AGAIN),
    Context("masked logits, compiled", "The same, compiled.", other.masked_logits(ways.compiled("aot_eager")),
            _no_masked_logps, roundings=16, because=_ORDER, cost="compiles", inputs=1),
    *(
        Context(f"logits {name}", f"A position {text}: NaN there, in every mode.", other.no_distribution(filler),
                _no_logits, roundings=16, because=_ORDER, cost="compiles", inputs=1)
        for name, text, filler in (
            ("all −inf", "whose logits are all −inf", -math.inf),
            ("+inf", "with logits of +inf", math.inf),
            ("NaN", "with logits that are NaN", math.nan),
        )
    ),
    Context("row counts", "1, 2, 3, 5 and 67 rows, under autocast.", other.row_counts, _no_tensor, exempt=_LOWERED),
    Context("zero rows", "A batch without rows.", other.zero_rows, _no_tensor, refused=("trpo_step",),
            exempt={"aggregation_denominator": "counts at least 1", "conjugate_gradient": "takes no rows"}),
    Context("DTensor", "Distributed tensors.", other.distributed, _no_tensor, refused=EVERY, inputs=1),
    Context("fake tensors", "FakeTensorMode, as for planning memory.", other.fake, _no_tensor, refused=_VALUES,
            exempt={**dict.fromkeys(_MODEL, "calls a model"), **_READS}),
    Context("meta", "Tensors on the device meta.", other.meta, _no_tensor, refused=_VALUES,
            exempt={**dict.fromkeys(_MODEL, "calls a model"), **_READS}),
    Context("numbers", "Fractions and integers beyond int64 as options.", other.numbers, _no_numbers),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """The outcome of a function in a context: "works", "refuses", "–" if it does not apply, or "WRONG"."""

    kernel: str
    context: str
    status: str
    words: str = ""

    def __str__(self) -> str:
        return f"{self.status}: {self.words}" if self.words else self.status


def cell(context: Context, kernel: str, given: Sequence[Call]) -> Cell:
    """Try a function in a context on some of its inputs; return the worst outcome."""
    if kernel in context.exempt:
        return Cell(kernel, context.name, "–", context.exempt[kernel])
    missing = [context.missing(call) for call in given]
    tried = [call for call, reason in zip(given, missing, strict=True) if not reason][: context.inputs]
    if not tried:
        return Cell(kernel, context.name, "–", missing[0])
    found = [_attempt(context, kernel, call) for call in tried]
    status, words = min(found, key=lambda outcome: ("WRONG", "refuses", "works").index(outcome[0]))
    return Cell(kernel, context.name, status, words)


def _attempt(context: Context, kernel: str, call: Call) -> tuple[str, str]:
    try:
        for got, expected in context.pairs(call.mapped(torch.clone)):
            differs = difference(got, expected, context.roundings)
            if differs:
                return "WRONG", differs
    except Violation as violation:
        return "WRONG", violation.sentence
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        allowed = kernel in context.refused or context.refused == EVERY
        return "refuses" if allowed and ways.REFUSAL.match(str(error)) else "WRONG", f"{type(error).__name__}: {first}"
    return "works", ""


def difference(got: ways.Seen, expected: ways.Seen, roundings: float) -> str:
    """What differs; empty if nothing does."""
    pairs = {"the value": (got.value, expected.value)}
    pairs |= {f"the gradient in {name}": (got.gradients[name], g) for name, g in expected.gradients.items()
              if name in got.gradients}  # fmt: skip
    for what, (a, b) in pairs.items():
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{what} is {a.dtype} {tuple(a.shape)}, expected {b.dtype} {tuple(b.shape)}"
        if not (ways.same(a, b) or (roundings and _close(a, b, roundings))):
            error = torch.where((a == b) | (a.isnan() & b.isnan()), 0, a - b).abs().nan_to_num(nan=math.inf)
            worst = error.argmax()
            return f"{what} is {a.flatten()[worst].item()}, expected {b.flatten()[worst].item()}"
    return ""


def _close(a: Tensor, b: Tensor, roundings: float) -> bool:
    finite = b[b.isfinite()]
    size = max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
    return torch.allclose(a, b, rtol=0, atol=roundings * torch.finfo(b.dtype).eps * size, equal_nan=True)


def row(kernel: str, contexts: Names) -> list[Cell]:
    """The cells of one function."""
    torch.set_num_threads(1)
    given = calls(kernel)
    return [cell(context, kernel, given) for context in CONTEXTS if context.name in contexts]


def table(kernels: Names = (), *, full: bool = False, processes: int = 2) -> list[Cell]:
    """Every function, or those that are named, in every context.

    Arguments:
        kernels: names of contracts or of functions without one; all if empty.
        full: also compile with inductor.
        processes: the number of parallel processes.
    """
    unknown = [name for name in kernels if name not in names()]
    if unknown:
        raise ValueError(f"kernels: got {unknown[0]!r}, expected some of {', '.join(names())}")
    chosen = [context.name for context in CONTEXTS if full or context.cost != "inductor"]
    asked = kernels or names()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return [found for cells in pool.map(row, asked, [chosen] * len(asked)) for found in cells]


def lines(cells: Iterable[Cell]) -> Iterator[str]:
    """The lines of the table: a mark in each cell, and notes below."""
    given = list(cells)
    columns = list(dict.fromkeys(found.context for found in given))
    texts = {context.name: context.text for context in CONTEXTS}
    words = dict.fromkeys(str(found) for found in given if found.words)
    notes = {"works": "✓"} | {text: f"{text[0]}{number}" for number, text in enumerate(words, start=1)}
    marks = {(found.kernel, found.context): notes[str(found)] for found in given}
    yield from (f"{number:3}  {name}: {texts.get(name, '')}" for number, name in enumerate(columns, start=1))
    yield " " * 24 + "".join(f"{number:4}" for number in range(1, 1 + len(columns)))
    for kernel in dict.fromkeys(found.kernel for found in given):
        yield f"{kernel:24}" + "".join(f"{marks[kernel, name]:>4}" for name in columns)
    yield from (f"{mark:>5}  {text}" for text, mark in notes.items())

"""Compares every loss with a textbook implementation, forward and backward: `python -m benchmarks.losses`.

The losses of this package return their metrics and check their arguments; the textbook versions do neither.
"""

from __future__ import annotations

import argparse
import datetime
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import grape_verified
from benchmarks import textbook
from benchmarks.measure import clocked, in_a_word, keep_freed_memory, peak_memory
from benchmarks.run import machine, versions
from benchmarks.table import MIB, markdown, with_spread
from benchmarks.textbook import NONE, ROWS

SHAPES = ("8x128", "256x4096")
MODES = ("eager", "compiled")
SIDES = ("ours", "textbook")
ITEMS = 4
#: The least seconds of one measurement: small losses are repeated.
LEAST = 0.01
WARM_UPS = 3
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
DIFFERENTIATED = {"logps", "values", "chosen_logps", "rejected_logps", "chosen_rewards", "rejected_rewards"}

Inputs = dict[str, Tensor]
Cell = dict[str, Any]


class Shape(NamedTuple):
    """Number of sequences or pairs, and tokens of each."""

    batch: int
    time: int

    def __str__(self) -> str:
        return f"{self.batch} × {self.time}"


def batch(shape: Shape, advantages: str, device: str, seed: int, dtype: torch.dtype = torch.float32) -> Inputs:
    """The inputs of all losses, by parameter name: half of the tokens count, some ratios leave the clip range."""
    draw = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, device=device, dtype=dtype)

    sequences, prompts = shape.batch, shape.batch // textbook.GROUP
    logps, values, returns = -normal(*shape).abs(), normal(*shape), normal(*shape)
    pairs = {name: -10 * normal(sequences).abs() for name in ("chosen_logps", "rejected_logps")}
    references = {f"ref_{name}": sums + normal(sequences) for name, sums in pairs.items()}
    found = {
        "logps": logps,
        "old_logps": logps + 0.2 * normal(*shape),
        "ref_logps": logps + 0.2 * normal(*shape),
        "advantages": normal(*(shape if advantages == "token" else shape[:1])),
        "mask": torch.rand(*shape, generator=draw, device=device) < 0.5,
        "values": values,
        "old_values": values + 0.2 * normal(*shape),
        "returns": returns,
        "rewards": normal(sequences),
        "scores": normal(prompts, textbook.GROUP, ITEMS).sigmoid(),
        "confidences": normal(prompts, textbook.GROUP, ITEMS).sigmoid(),
        "weights": normal(ITEMS).exp(),
        "chosen_rewards": normal(sequences),
        "rejected_rewards": normal(sequences),
        **pairs,
        **references,
    }
    for name in ("chosen_lengths", "rejected_lengths"):
        found[name] = torch.randint(1, 100, (sequences,), generator=draw, device=device)
    found["labels"] = torch.rand(sequences, generator=draw, device=device) < 0.5
    return {name: x.requires_grad_(name in DIFFERENTIATED) for name, x in found.items()}


def sides(name: str) -> dict[str, Callable[..., Any]]:
    """Our loss of that name, which returns metrics too, and the textbook loss."""
    row = ROWS[name]
    loss, options = getattr(grape_verified, f"{name}_loss"), dict(row.options)

    def ours(**inputs: Tensor) -> Any:
        return loss(**inputs, **options)

    return {"ours": ours, "textbook": row.textbook}


def inputs_of(name: str, everything: Inputs) -> Inputs:
    """The inputs of one loss."""
    parameters = inspect.signature(ROWS[name].textbook).parameters
    if "labels" in parameters:  # of responses, whose log-probabilities are sums
        everything = everything | {x: everything[x.replace("logps", "chosen_logps")] for x in ("logps", "ref_logps")}
    return {parameter: everything[parameter] for parameter in parameters}


def forward_backward(function: Callable[..., Any], inputs: Inputs) -> tuple[Tensor, ...]:
    """Compute a loss, its metrics if it has any, and its gradients: the work that is measured."""
    output = function(**inputs)
    loss: Tensor = output if isinstance(output, Tensor) else output.loss
    return loss, *torch.autograd.grad(loss, [x for x in inputs.values() if x.requires_grad])


def reads_values(operator: Any, arguments: Any) -> bool:
    """Whether the operator needs values on the host, as `item` and masked indexing do: on a GPU, a synchronisation."""
    if operator._schema.name in INDEXING:
        return any(index is not None and index.dtype in {torch.bool, torch.uint8} for index in arguments[1])
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operator.tags))


class OperatorCount(TorchDispatchMode):
    """Counts the operators that are dispatched, forward and backward, views included.

    Not `detach`: under a dispatch mode autograd calls it for outputs that it saves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.host_reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += func._schema.name != "aten::detach"
        self.host_reads += reads_values(func, args)
        return func(*args, **kwargs or {})


def counts(work: Callable[[], object]) -> dict[str, int]:
    """Number of operators that work dispatches, and how many of them read values."""
    with OperatorCount() as count:
        work()
    return {"operators": count.operators, "host_reads": count.host_reads}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled as one graph."""
    return torch.compile(function, dynamic=False, fullgraph=True)


def repeated(work: Callable[[], object], times: int) -> None:
    """Repeat work."""
    for _ in range(times):
        work()


def timed(works: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each piece of work per round; every other round runs them in reverse order."""
    for work in works.values():
        repeated(work, WARM_UPS)
    calls = {name: math.ceil(LEAST / max(clocked(work, device), 1e-6)) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        for name in list(works)[:: -1 if turn % 2 else 1]:
            seconds[name].append(clocked(partial(repeated, works[name], calls[name]), device) / calls[name])
    return seconds


class Case(NamedTuple):
    """One loss at one shape in one mode."""

    loss: str
    advantages: str
    shape: Shape
    mode: str

    def works(self, device: str, seed: int) -> dict[str, Callable[[], object]]:
        """The forward and backward pass of ours and of the textbook, compiled in that mode."""
        inputs = inputs_of(self.loss, batch(self.shape, self.advantages, device, seed))
        functions = sides(self.loss)
        if self.mode == "compiled":
            torch._dynamo.reset()
            functions = {side: compiled(function) for side, function in functions.items()}
        return {side: partial(forward_backward, function, inputs) for side, function in functions.items()}

    def measured(self, rounds: int, device: str, seed: int) -> Cell:
        """Times, and counts of operators or generated kernels."""
        works = self.works(device, seed)
        if self.mode == "eager":
            found: Cell = {"counts": {side: counts(work) for side, work in works.items()}}
        else:
            found = {"kernels": {side: generated_kernels(work) for side, work in works.items()}}
        return found | {"seconds": timed(works, rounds, device)}

    def peaks(self, device: str, seed: int) -> Cell:
        """Peak bytes beyond the inputs."""
        return {"peak": {side: peak_memory(work, device) for side, work in self.works(device, seed).items()}}


def generated_kernels(work: Callable[[], object]) -> int:
    """Number of kernels that the compiler generates when work runs for the first time."""
    from torch._inductor import metrics  # takes seconds to import

    metrics.reset()
    work()
    return metrics.generated_kernel_count


def cases(losses: list[str], shapes: list[Shape], modes: list[str]) -> list[Case]:
    """All cases of the options."""
    return [
        Case(loss, advantages, shape, mode)
        for loss in losses
        for advantages in ROWS[loss].advantages
        for shape in shapes
        for mode in modes
    ]


def measured(all_cases: list[Case], options: argparse.Namespace) -> list[Cell]:
    """All cells. Memory is measured in a separate process, whose heap holds no free blocks left over from timing."""
    cells: list[Cell] = [{**case._asdict(), "error": None, "detail": None} for case in all_cases]
    largest, setting = max(options.shapes), (options.device, options.seed)

    def note(cell: Cell, measure: Callable[[], Cell]) -> None:
        try:
            cell |= measure()
        except Exception as error:
            cell |= {"error": in_a_word(error), "detail": " ".join(str(error).split())[:300]}

    for case, cell in zip(all_cases, cells, strict=True):
        note(cell, partial(case.measured, options.rounds, *setting))
        print(f"{' '.join(map(str, case))}: {cell['error'] or ratio(cell)}", file=sys.stderr)
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (options.threads,)) as apart:
        for case, cell in zip(all_cases, cells, strict=True):
            if case.shape == largest and cell["error"] is None:
                note(cell, apart.submit(case.peaks, *setting).result)
    return cells


def ratio(cell: Cell) -> str:
    """Time of ours over that of the textbook: median and range over the rounds."""
    return with_spread([mine / theirs for mine, theirs in zip(*map(cell["seconds"].get, SIDES), strict=True)])


def beside(found: Mapping[str, Any] | None, say: Callable[[Any], str] = str) -> str:
    """Both numbers, ours / textbook."""
    if not found or None in found.values():
        return NONE
    return " / ".join(say(found[side]) for side in SIDES)


def table(results: dict[str, Any]) -> str:
    """One line per loss and kind of advantages: times, operators, kernels, memory."""
    cells = {(cell["loss"], cell["advantages"], tuple(cell["shape"]), cell["mode"]): cell for cell in results["cells"]}
    rows = list(dict.fromkeys(key[:2] for key in cells))
    shapes = sorted(dict.fromkeys(Shape(*key[2]) for key in cells))
    modes = [mode for mode in MODES if any(key[3] == mode for key in cells)]

    def said(cell: Cell, say: Callable[[Cell], str]) -> str:
        return cell["error"] or say(cell)

    def counted(what: str) -> Callable[[Cell], str]:
        return lambda cell: beside({side: cell["counts"][side][what] for side in SIDES})

    columns: dict[str, tuple[Shape, str, Callable[[Cell], str]]] = {
        f"{shape}, {mode}": (shape, mode, ratio) for shape in shapes for mode in modes
    }
    if "eager" in modes:
        columns["operators"] = shapes[0], "eager", counted("operators")
        columns["host reads"] = shapes[0], "eager", counted("host_reads")
    if "compiled" in modes:
        columns["generated kernels"] = shapes[0], "compiled", lambda cell: beside(cell["kernels"])
    for mode in modes:
        columns[f"peak MiB, {mode}"] = (
            shapes[-1], mode, lambda cell: beside(cell.get("peak"), lambda size: f"{size / MIB:.1f}")
        )  # fmt: skip

    def line(loss: str, advantages: str) -> list[str]:
        return [loss, advantages, *(said(cells[loss, advantages, s, mode], say) for s, mode, say in columns.values())]

    return markdown(["loss", "advantages", *columns], (line(*row) for row in rows))


def conditions(results: dict[str, Any]) -> str:
    """One line with the machine and versions."""
    processor = results["machine"].get("gpu") or f"{results['machine']['cpu']}, {results['threads']} thread(s)"
    return (
        f"{processor}, fp32, {results['rounds']} rounds; torch {results['versions']['torch']}; {results['date'][:10]}."
    )


def shape(text: str) -> Shape:
    """Parse BATCHxTIME."""
    sizes = text.split("x")
    if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes) or int(sizes[0]) % textbook.GROUP:
        raise argparse.ArgumentTypeError(f"got {text}, expected BATCHxTIME with BATCH a multiple of {textbook.GROUP}")
    return Shape(*map(int, sizes))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description=__doc__)
    parser.add_argument("--losses", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--shapes", nargs="+", type=shape, default=[shape(text) for text in SHAPES])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="also write the numbers there, as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(options.device),
        **{key: getattr(options, key) for key in ("device", "threads", "seed", "rounds")},
        "cells": measured(cases(options.losses, options.shapes, options.modes), options),
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(conditions(results), table(results), sep="\n\n")


if __name__ == "__main__":
    main()

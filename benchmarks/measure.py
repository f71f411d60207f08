"""Measures one cell of the benchmark in its own process, which reads one request per line."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks import distillation
from benchmarks.cells import NotOffered, Outcome, Row, row
from benchmarks.problems import KINDS, WITHOUT_ADVANTAGES, Problem, Shape, exact, problem
from grape_verified import token_logps

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Columns of the vocabulary in the matrix products that measure the machine's rate.
RATE_COLUMNS = {"cpu": 4096, "cuda": 16384}


def synchronize(device: str) -> None:
    """Wait for the device to finish."""
    if device == "cuda":
        torch.cuda.synchronize()


def clocked(work: Callable[[], object], device: str) -> float:
    """Seconds of work: processor time for one CPU thread, which other processes affect less, else wall-clock time."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    synchronize(device)
    start = clock()
    work()
    synchronize(device)
    return clock() - start


def problem_of(task: str) -> Callable[..., Problem]:
    """What makes the problems of a task."""
    return distillation.lesson if task in distillation.TASKS else problem


def forward_backward(cell: Row, p: Problem, task: str) -> Outcome:
    """Compute a loss and the gradients of hidden and weight: the work that is measured."""
    p.hidden.grad = p.weight.grad = None
    outcome = cell(p, task)
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    return outcome


def matrix_rate(p: Problem) -> float:
    """FLOP per second of the three matrix products of the problem, on some columns of the vocabulary."""
    hidden = p.hidden.detach().flatten(0, 1)
    weight = p.weight.detach()[: RATE_COLUMNS[p.hidden.device.type]]
    logits = hidden @ weight.T
    products = [(hidden, weight.T, logits), (logits, weight, torch.empty_like(hidden))]
    products.append((logits.T, hidden, torch.empty_like(weight)))
    seconds = [
        clocked(partial(torch.mm, left, right, out=result), hidden.device.type) for left, right, result in products
    ]
    return 2 * len(hidden) * weight.numel() / (sum(seconds) / len(seconds))


def copy_rate(device: str, size: int, repeats: int = 5) -> float:
    """Bytes per second that a copy reads and writes, the best of several."""
    source = torch.empty(size, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source).copy_(source)
    return max(2 * size / clocked(lambda: target.copy_(source), device) for _ in range(repeats))


def logits_given(p: Problem, repeats: int) -> dict[str, Any]:
    """Times of token_logps for precomputed logits, and the rate of a copy of the same number of bytes."""
    device = p.hidden.device.type
    logits = (p.hidden.detach() @ p.weight.detach().T).requires_grad_()
    times: dict[str, list[float]] = {"forward_seconds": [], "backward_seconds": []}
    for _ in range(repeats + 1):
        found: list[torch.Tensor] = []
        forward = partial(lambda into: into.append(token_logps(logits, p.targets)), found)
        times["forward_seconds"].append(clocked(forward, device))
        times["backward_seconds"].append(clocked(partial(found[0].backward, p.upstream), device))
        logits.grad = None
    size = logits.numel() * logits.element_size()
    kept = {name: seconds[1:] for name, seconds in times.items()}
    return {**kept, "bytes": size, "copy_rate": copy_rate(device, min(size, 2**32))}


def keep_freed_memory() -> None:
    """Make malloc reuse freed memory, as a GPU's allocator does; else page faults are most of the spread of times."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)


def status(name: str) -> int:
    """A memory figure of this process in /proc, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def peak_memory(work: Callable[[], object], device: str) -> int | None:
    """Peak bytes that work allocates. It runs twice and the second run counts, because libraries cache memory.

    On a CPU: the kernel's own mark of the most memory that was resident, set back before. Freed memory is given back at
    once, by a threshold above which malloc maps each piece of its own. None where there is no such mark.
    """
    if device == "cuda":
        work()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(M_MMAP_THRESHOLD, 2**16)
    work()
    gc.collect()
    libc.malloc_trim(0)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def number(x: torch.Tensor) -> float | str:
    """The number; a string if it is not finite, because JSON has no NaN."""
    return x.item() if x.isfinite() else str(x.item())


def errors(cell: Row, task: str, shape: Shape, dtype: torch.dtype, kind: str, device: str, seed: int) -> dict[str, Any]:
    """Largest error of counted log-probabilities and entropies; for gradients, norm of the error over the norm."""
    p = problem_of(task)(shape, kind, dtype, device, seed)
    truth = distillation.exact(p, task) if isinstance(p, distillation.Lesson) else exact(p, task)
    outcome = forward_backward(cell, p, task)

    def largest(found: torch.Tensor | None, expected: torch.Tensor) -> float | str | None:
        return None if found is None else number((found.detach().double() - expected)[p.mask].abs().max())

    def relative(found: torch.Tensor | None, expected: torch.Tensor) -> float | str | None:
        return None if found is None else number((found.double() - expected).norm() / expected.norm())

    return {
        "loss": number((outcome.loss.detach().double() - truth.loss).abs()),
        "logps": largest(outcome.logps, truth.logps),
        "entropies": largest(outcome.entropies, truth.entropies),
        "hidden": relative(p.hidden.grad, truth.of_hidden),
        "weight": relative(p.weight.grad, truth.of_weight),
    }


class Cell:
    """A row and a task at one size; each public method answers one request."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.task, self.device = settings["task"], settings["device"]
        self.row = (distillation.row if self.task in distillation.TASKS else row)(settings["row"])
        self.shape, self.error_shape = Shape(*settings["shape"]), Shape(*settings["error_shape"])
        self.dtype, self.seed = getattr(torch, settings["dtype"]), settings["seed"]
        torch.set_num_threads(settings["threads"])
        self.problems: dict[str, Problem] = {}

    def problem(self, kind: str) -> Problem:
        """The problem of a kind, run once to warm up when it is created."""
        if kind not in self.problems:
            self.problems[kind] = problem_of(self.task)(self.shape, kind, self.dtype, self.device, self.seed)
            forward_backward(self.row, self.problems[kind], self.task)
        return self.problems[kind]

    def time(self, kind: str) -> dict[str, float]:
        """Seconds, and the rate of products measured before and after."""
        p = self.problem(kind)
        before = matrix_rate(p)
        p.hidden.grad = p.weight.grad = None
        seconds = clocked(lambda: forward_backward(self.row, p, self.task), self.device)
        return {"seconds": seconds, "rate": max(before, matrix_rate(p))}

    def peak(self) -> int | None:
        """Peak bytes beyond the inputs."""
        p = self.problem("flat")

        def work() -> None:
            forward_backward(self.row, p, self.task)
            p.hidden.grad = p.weight.grad = None

        return peak_memory(work, self.device)

    def errors(self) -> dict[str, dict[str, Any]]:
        """Errors by dtype and kind of input."""
        without = self.task in (*WITHOUT_ADVANTAGES, *distillation.TASKS)
        kinds = [kind for kind in KINDS if kind != "zeros" or not without]

        def of(dtype: torch.dtype, kind: str) -> dict[str, Any]:
            return errors(self.row, self.task, self.error_shape, dtype, kind, self.device, self.seed)

        return {str(dtype)[6:]: {kind: of(dtype, kind) for kind in kinds} for dtype in (torch.float32, torch.bfloat16)}

    def logits_given(self, repeats: int) -> dict[str, Any]:
        """Times of token_logps alone, and the rate of a copy."""
        return logits_given(self.problem("flat"), repeats)


def in_a_word(error: Exception) -> str:
    """The error in one or two words, for a table."""
    if isinstance(error, NotOffered):
        return "not offered"
    if isinstance(error, ImportError):
        return "not installed"
    return type(error).__name__


def main() -> None:
    """Answer each line ["name", {arguments}] with one line: {"result": …} or {"error": a word, "detail": text}."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not an answer
    cell = Cell(json.loads(sys.argv[1]))
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer: dict[str, Any] = {"result": getattr(cell, name)(**arguments)}
        except Exception as error:
            answer = {"error": in_a_word(error), "detail": " ".join(str(error).split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""From hidden states to a loss: `python -m benchmarks.run` measures, prints the table and writes the numbers."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks import distillation
from benchmarks.cells import ROWS, row
from benchmarks.problems import SEQUENCES, TASKS, Shape
from benchmarks.table import full_table

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "trl", "liger-kernel", "triton", "transformers", "numpy", "grape-verified")
SHAPES = {"cpu": Shape(2048, 512, 32768), "cuda": Shape(8192, 4096, 151936)}
ERROR_SHAPES = {"cpu": Shape(256, 512, 8192), "cuda": Shape(1024, 4096, 16384)}
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
MEASURES = ("time", "peak", "errors")


class Worker:
    """A process for one cell, which answers one request at a time."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        threads = str(settings["threads"])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.measure", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )

    def tell(self, name: str, **arguments: Any) -> None:
        """Send a request without waiting for the answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps([name, arguments]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says so

    def answer(self) -> dict[str, Any]:
        """The answer to the last request."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "died", "detail": f"exit status {self.process.wait()}"}

    def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        self.tell(name, **arguments)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measured(task: str, rows: list[str], settings: dict[str, Any], repeats: int, measures: list[str]) -> list[dict]:
    """The cells of a task. Times are taken in rounds over all cells, so that drift affects all alike."""
    workers = {name: Worker(settings | {"row": name, "task": task}) for name in rows}
    cells: dict[str, dict[str, Any]] = {
        name: {"task": task, "row": name, "error": None, "detail": None} for name in rows
    }
    kinds = ["flat", "zeros"] if task == "grpo" else ["flat"]

    def note(name: str, answer: dict[str, Any]) -> Any:
        if "error" in answer:
            cells[name] |= answer
        return answer.get("result")

    def going() -> list[str]:
        return [name for name in rows if cells[name]["error"] is None]

    def each(question: str, key: str) -> None:
        for name in going():
            cells[name][key] = note(name, workers[name].ask(question))

    if "time" in measures:
        for place in range(repeats + 1):  # in the first round problems are made and functions compiled
            for kind in kinds:
                for name in going():
                    found = note(name, workers[name].ask("time", kind=kind))
                    if place and found:
                        cells[name].setdefault("times", {}).setdefault(kind, []).append(found)
            print(f"{task}: round {place} of {repeats}", file=sys.stderr)
        if task == "logps" and "logits" in going():
            cells["logits"]["logits_given"] = note("logits", workers["logits"].ask("logits_given", repeats=repeats))
    if "peak" in measures:
        each("peak", "peak")
    if "errors" in measures:
        each("errors", "errors")
    for worker in workers.values():
        worker.close()
    return list(cells.values())


def versions() -> dict[str, str]:
    """Versions of Python and the installed libraries, and the commit of this one."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    )
    return found | ({"commit": commit.stdout.strip()} if commit.returncode == 0 else {})


def machine(device: str) -> dict[str, Any]:
    """The machine that the numbers were measured on."""
    found: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        found["cpu"] = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        found["cpu"] = platform.processor()
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def shape(text: str) -> Shape:
    """Parse N,d,V."""
    sizes = tuple(int(size) for size in text.split(","))
    if len(sizes) != 3 or min(sizes) < 1 or sizes[0] % SEQUENCES:
        raise argparse.ArgumentTypeError(f"got {text}, expected N,d,V with N a multiple of {SEQUENCES}")
    return Shape(*sizes)


def row_name(text: str) -> str:
    """Check the name of a row."""
    try:
        row(text)
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"got {text}, expected one of {', '.join(ROWS)}") from None
    return text


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the options; some defaults depend on the device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tasks", nargs="+", choices=(*TASKS, *distillation.TASKS), default=list(TASKS))
    parser.add_argument("--rows", nargs="+", type=row_name, default=list(ROWS), help="with naive: all is over it")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--shape", type=shape, help="N,d,V; default 2048,512,32768, on a GPU 8192,4096,151936")
    parser.add_argument("--error-shape", type=shape, help="the smaller shape at which errors are measured")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default float32, on a GPU bfloat16")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="default benchmarks/results/<device>.json")
    options = parser.parse_args(arguments)
    options.shape = options.shape or SHAPES[options.device]
    options.error_shape = options.error_shape or ERROR_SHAPES[options.device]
    options.dtype = options.dtype or DTYPES[options.device]
    options.output = options.output or RESULTS / f"{options.device}.json"
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; results are written after each task."""
    options = parsed(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: getattr(options, key) for key in ("device", "shape", "error_shape", "dtype", "threads", "seed")}
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(options.device),
        **settings,
        "repeats": options.repeats,
        "cells": [],
    }
    for task in options.tasks:
        results["cells"] += measured(task, options.rows, settings, options.repeats, options.measures)
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(full_table(results))


if __name__ == "__main__":
    main()

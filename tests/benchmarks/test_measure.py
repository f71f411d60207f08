"""The measurement of time, memory and rates, and a whole run."""

import json
import sys

import jsonschema
import pytest
import torch

from benchmarks import distillation, run
from benchmarks.cells import NotOffered, row
from benchmarks.measure import copy_rate, in_a_word, logits_given, matrix_rate, peak_memory
from benchmarks.problems import Shape, problem
from benchmarks.table import full_table

NUMBERS = {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}}
ERROR = {"type": ["number", "string", "null"]}
SCHEMA = {
    "type": "object",
    "required": [
        "date",
        "versions",
        "machine",
        "device",
        "shape",
        "error_shape",
        "dtype",
        "threads",
        "seed",
        "repeats",
    ],
    "properties": {
        "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT"},
        "versions": {"type": "object", "required": ["python", "torch"], "additionalProperties": {"type": "string"}},
        "machine": {"type": "object", "required": ["system", "cores", "cpu"]},
        "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3},
        "cells": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["task", "row", "error", "detail"],
                "additionalProperties": False,
                "properties": {
                    "task": {"type": "string"},
                    "row": {"type": "string"},
                    "error": {"type": ["string", "null"]},
                    "detail": {"type": ["string", "null"]},
                    "times": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["seconds", "rate"],
                                "additionalProperties": {"type": "number", "exclusiveMinimum": 0},
                            },
                        },
                    },
                    "peak": {"type": ["integer", "null"]},
                    "errors": {
                        "type": ["object", "null"],
                        "additionalProperties": {
                            "type": "object",
                            "additionalProperties": {
                                "type": "object",
                                "properties": dict.fromkeys(("loss", "logps", "entropies", "hidden", "weight"), ERROR),
                                "required": ["loss", "logps", "entropies", "hidden", "weight"],
                                "additionalProperties": False,
                            },
                        },
                    },
                    "logits_given": {
                        "type": ["object", "null"],
                        "required": ["bytes", "copy_rate"],
                        "properties": {"forward_seconds": NUMBERS, "backward_seconds": NUMBERS},
                    },
                },
            },
        },
    },
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the mark is Linux's")
def test_the_peak_of_known_allocations():
    def held(*sizes):
        def work():
            kept = [torch.ones(size * 2**18) for size in sizes]
            del kept

        return peak_memory(work, "cpu") / 2**20

    def one_after_the_other():
        for _ in range(3):
            torch.ones(40 * 2**18)

    assert held(64) == pytest.approx(64, abs=1.5)
    assert held(16, 48, 0) == pytest.approx(64, abs=1.5)
    assert held(8) == pytest.approx(8, abs=1.5)
    assert peak_memory(one_after_the_other, "cpu") / 2**20 == pytest.approx(40, abs=1.5)


def test_rates_are_those_of_a_machine():
    assert 1e8 < matrix_rate(problem(Shape(256, 128, 512), "flat", torch.float32, "cpu", 0)) < 1e15
    assert 1e7 < copy_rate("cpu", 2**24) < 1e14


def test_logits_that_are_given_are_timed_both_ways():
    found = logits_given(problem(Shape(32, 8, 64), "flat", torch.float32, "cpu", 0), repeats=2)
    assert found["bytes"] == 32 * 64 * 4
    assert len(found["forward_seconds"]) == len(found["backward_seconds"]) == 2


def test_what_goes_wrong_is_said_in_a_word():
    assert in_a_word(NotOffered()) == "not offered"
    assert in_a_word(ModuleNotFoundError("no trl")) == "not installed"
    assert in_a_word(RuntimeError("long story")) == "RuntimeError"


def test_rows_and_shapes_are_checked(capsys):
    for wrong in (["--rows", "nobody"], ["--rows", "one-pass:3"], ["--shape", "100,5,6"], ["--tasks", "poetry"]):
        with pytest.raises(SystemExit):
            run.parsed(wrong)
    assert "expected N,d,V with N a multiple of 16" in capsys.readouterr().err
    assert run.parsed([]).shape == (2048, 512, 32768)
    assert run.parsed(["--device", "cuda"]).dtype == "bfloat16"
    assert row("one-pass:3x4").keywords == {"tile": (3, 4)}


@pytest.mark.full("runs of the benchmarks")
def test_a_run_at_a_tiny_shape(tmp_path, capsys):
    sizes = ["--shape", "32,8,64", "--error-shape", "32,8,64", "--repeats", "2"]
    out = tmp_path / "results" / "out.json"
    run.main(["--tasks", "entropy", "grpo", "--rows", "naive", "one-pass", *sizes, "--output", str(out)])
    results = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(results, SCHEMA)
    cells = {(cell["task"], cell["row"]): cell for cell in results["cells"]}
    assert len(cells) == 4
    assert cells["entropy", "one-pass"]["error"] == "not offered"
    assert set(cells["entropy", "naive"]["times"]) == {"flat"}
    assert set(cells["grpo", "naive"]["times"]) == {"flat", "zeros"}
    assert len(cells["grpo", "naive"]["times"]["flat"]) == 2
    assert set(cells["grpo", "one-pass"]["errors"]["bfloat16"]) == {"flat", "peaked", "offset", "masked", "zeros"}
    assert full_table(results) in capsys.readouterr().out


def test_a_worker_that_dies_is_an_error_of_its_cell():
    worker = run.Worker({"row": "nobody", "threads": 1})
    assert worker.ask("time", kind="flat")["error"] == "died"
    worker.close()


@pytest.mark.parametrize("path", sorted(run.RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_kept_results_are_whole(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(results, SCHEMA)
    of = distillation if path.stem.endswith("-distillation") else run
    assert {cell["task"] for cell in results["cells"]} == set(of.TASKS)
    assert {cell["row"] for cell in results["cells"]} == set(of.ROWS)


@pytest.mark.parametrize("path", sorted(run.RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_every_cell_that_was_kept_computed_the_gradients_that_it_should(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for kind, found in (cell["errors"]["float32"] if cell["error"] is None else {}).items():
            limit = 1e-2 if kind == "offset" else 1e-4
            assert max(found["hidden"], found["weight"]) < limit, (cell["task"], cell["row"], kind)

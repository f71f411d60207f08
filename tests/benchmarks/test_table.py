"""Tables of results: formulas, words, and a README that agrees with the stored results."""

import pytest

from benchmarks import table
from benchmarks.problems import Shape

SHAPE = Shape(32, 8, 64)


def cell(name, seconds, **others):
    times = {
        "flat": [{"seconds": x, "rate": 1e6} for x in seconds],
        "zeros": [{"seconds": x / 2, "rate": 1e6} for x in seconds],
    }
    return {"task": "grpo", "row": name, "error": None, "detail": None, "times": times, **others}


def errors(kinds):
    whole = {"loss": 0.0, "logps": None, "entropies": None, "hidden": 0.5, "weight": 0.25}
    return {dtype: {kind: whole | found for kind, found in kinds.items()} for dtype in ("float32", "bfloat16")}


def results(*cells):
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3", "torch": "2"},
        "machine": {"cpu": "abacus", "cores": 1, "system": "x"},
        "device": "cpu",
        "shape": list(SHAPE),
        "error_shape": list(SHAPE),
        "dtype": "float32",
        "threads": 1,
        "seed": 0,
        "repeats": 3,
        "cells": list(cells),
    }


def test_the_floor_is_the_two_gradients():
    assert table.floor(Shape(2048, 512, 32768), "float32") == 68 * 2**20
    assert table.floor(Shape(2048, 512, 32768), "bfloat16") == 34 * 2**20


def test_the_limit_is_three_products():
    assert table.flop(Shape(2, 3, 5)) == 3 * 2 * (2 * 3 * 5)
    assert table.shares(cell("naive", [table.flop(SHAPE) / 1e6, table.flop(SHAPE) / 5e5]), SHAPE) == [1.0, 0.5]


def test_ratios_are_taken_round_by_round():
    mine, naive = cell("one-pass", [1, 4, 9]), cell("naive", [2, 4, 3])
    assert table.ratios(mine, naive) == [0.5, 1, 3]
    assert table.with_spread(table.ratios(mine, naive)) == "1.00 (0.50–3.00)"
    assert table.ratios(mine, mine, "zeros") == [0.5, 0.5, 0.5]


def test_the_worst_error_is_that_of_any_kind_of_its_sort_and_nan_is_worst():
    kinds = {"flat": {"logps": 1e-6}, "peaked": {"logps": 3e-6}, "offset": {"logps": 1e-3}}
    found = {"errors": errors(kinds)}
    assert table.worst(found, "logps", "float32") == 3e-6
    assert table.worst(found, "logps", "bfloat16", table.LARGE) == 1e-3
    assert table.worst(found, "entropies", "float32") is None
    assert table.both(found, "logps") == "3.0e-6 / 3.0e-6"
    assert table.both(found, "entropies") == "—"
    found = {"errors": errors({"flat": {"logps": "nan"}, "peaked": {"logps": 1.0}})}
    assert table.both(found, "logps") == "nan / nan"


def test_a_line_for_each_cell():
    kinds = {kind: {"logps": 2.34e-6} for kind in ("flat", "offset")}
    lines = table.full_table(
        results(
            cell("naive", [2, 2], peak=2 * table.floor(SHAPE, "float32"), errors=errors(kinds)),
            cell("one-pass", [1, 1.5], peak=None),
            {"task": "grpo", "row": "torch", "error": "not offered", "detail": ""},
            {"task": "grpo", "row": "liger", "error": "OutOfMemoryError", "detail": ""},
        )
    ).splitlines()
    assert lines[0] == "abacus, 1 thread(s), float32, N = 32, d = 8, V = 64, 3 rounds; torch 2; 2026-01-02."
    assert lines[4] == (
        "| grpo | naive | 1.00 (1.00–1.00) | 5 % | 0 (2.00) | 0.50 | 2.3e-6 / 2.3e-6 | 2.3e-6 / 2.3e-6 | — | — "
        "| 5.0e-1 / 5.0e-1 | 2.5e-1 / 2.5e-1 |"
    )
    assert lines[5].startswith("| grpo | one-pass | 0.62 (0.50–0.75) | 8 % | — | 0.50 | — |")
    assert lines[6] == "| grpo | torch |" + " — |" * 10
    assert lines[7] == "| grpo | liger |" + " OutOfMemoryError |" * 10


def test_the_share_of_a_copy():
    given = {"bytes": 100, "copy_rate": 1000.0, "forward_seconds": [0.2], "backward_seconds": [0.4, 0.4, 9]}
    logits = cell("logits", [1]) | {"task": "logps", "logits_given": given}
    assert "50 % of the rate of a copy forward (NVb/B), 50 % backward" in table.full_table(results(logits))


def test_a_part_of_the_readme_is_put_between_markers():
    readme = f"above\n{table.BEGIN}\nold\n{table.END}\nbelow\n"
    assert table.put(readme, "new") == f"above\n{table.BEGIN}\nnew\n{table.END}\nbelow\n"
    with pytest.raises(ValueError, match="expected the two markers"):
        table.put("nothing", "new")


def test_the_readme_shows_the_kept_results():
    readme = (table.ROOT / "README.md").read_text(encoding="utf-8")
    assert table.put(readme, table.readme_parts()) == readme

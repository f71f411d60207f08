"""Tables of results: `python -m benchmarks.table` writes those of the kept results into the README."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.problems import Shape
from benchmarks.textbook import NONE

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"
LIBRARIES = ("torch", "trl", "liger-kernel")
MIB = 2**20
BYTES = {"float32": 4, "bfloat16": 2}
LABELS = {
    "naive": "naive: log_softmax, gather",
    "compiled": "naive, `torch.compile`",
    "trl-selective": "TRL selective",
    "trl-chunked": "TRL chunked",
    "liger": "Liger",
    "torch": "`F.linear_cross_entropy`",
    "logits": "**`token_logps`**, logits given to it",
    "two-stage": "**`linear_token_logps`**",
    "one-pass": "**`fused_linear_loss`**",
}
TASK_LABELS = {"logps": "log π", "entropy": "log π and H", "sft": "SFT", "grpo": "GRPO", "dpo": "DPO"}
DISTILLATION = {"jsd": "Jensen-Shannon", "top-k": "32 tokens of a teacher"}
DISTILLATION_LABELS = {
    "naive": "naive: log_softmax of both",
    "logits": "**`jensen_shannon`**, **`top_k_divergence`**, logits given",
    "one-pass": "**`fused_jensen_shannon_loss`**, **`fused_top_k_loss`**",
}

Cell = dict[str, Any]


def floor(shape: Shape, dtype: str) -> int:
    """Bytes of the two gradients, (V + N)·d numbers: the least that must be held."""
    return (shape.vocab + shape.tokens) * shape.width * BYTES[dtype]


def flop(shape: Shape) -> int:
    """6NVd: logits and two gradients."""
    return 6 * shape.tokens * shape.vocab * shape.width


def times(cell: Cell, kind: str = "flat") -> list[float]:
    """Seconds of each round."""
    return [found["seconds"] for found in cell.get("times", {}).get(kind, [])]


def ratios(cell: Cell, other: Cell, kind: str = "flat", other_kind: str = "flat") -> list[float]:
    """The time of one cell over that of another, per round."""
    return [mine / theirs for mine, theirs in zip(times(cell, kind), times(other, other_kind), strict=False)]


def shares(cell: Cell, shape: Shape) -> list[float]:
    """6NVd/(P·t) of each round, P the rate of matrix products measured around t."""
    return [flop(shape) / (found["rate"] * found["seconds"]) for found in cell.get("times", {}).get("flat", [])]


#: Kinds of input by the size of their logits: at an offset of 1000 the rounding of fp32 logits dominates the error.
SMALL, LARGE = ("flat", "peaked", "masked", "zeros"), ("offset",)


def worst(cell: Cell, what: str, dtype: str, kinds: tuple[str, ...] = SMALL) -> float | None:
    """The largest error over kinds of input; NaN if any of them is."""
    measured = (cell.get("errors") or {}).get(dtype, {})
    found = [measured[kind][what] for kind in kinds if kind in measured]
    if not found or None in found:
        return None
    return max(map(float, found), key=lambda error: (math.isnan(error), error))


def with_spread(values: list[float]) -> str:
    """The median and the range."""
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})" if values else NONE


def scientific(number: float | None) -> str:
    """The number with two digits."""
    if number is None:
        return NONE
    digits, _, exponent = f"{number:.1e}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


def both(cell: Cell, what: str, kinds: tuple[str, ...] = SMALL) -> str:
    """The largest errors with fp32 and with bf16 operands."""
    found = [worst(cell, what, dtype, kinds) for dtype in BYTES]
    return NONE if found == [None, None] else " / ".join(map(scientific, found))


#: Columns of errors: the quantity, and the kinds of input.
ERRORS = {
    "log π": ("logps", SMALL),
    "log π, ±1000": ("logps", LARGE),
    "H": ("entropies", SMALL),
    "H, ±1000": ("entropies", LARGE),
    "dh": ("hidden", SMALL),
    "dW": ("weight", SMALL),
}


def markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table."""
    head = list(head)
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in rows)


class Results:
    """Results by task and row."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.raw, self.shape = results, Shape(*results["shape"])
        self.cells = {(cell["task"], cell["row"]): cell for cell in results["cells"]}
        self.tasks = list(dict.fromkeys(task for task, _ in self.cells))
        self.rows = list(dict.fromkeys(name for _, name in self.cells))

    def said(self, task: str, name: str, say: Callable[[Cell], str]) -> str:
        """The text of a cell, or its error."""
        cell = self.cells.get((task, name))
        if cell is None or cell["error"] == "not offered":
            return NONE
        return cell["error"] or say(cell)

    def over_naive(self, task: str, name: str) -> list[float]:
        """Time over that of the naive row."""
        naive = self.cells.get((task, "naive"))
        return ratios(self.cells[task, name], naive) if naive else []

    def peak(self, cell: Cell) -> str:
        """MiB beyond the inputs, and the ratio to the floor."""
        if not cell.get("peak"):
            return NONE
        return f"{cell['peak'] / MIB:.0f} ({cell['peak'] / floor(self.shape, self.raw['dtype']):.2f})"

    def share(self, cell: Cell) -> str:
        """Median share of 6NVd."""
        found = shares(cell, self.shape)
        return f"{100 * median(found):.0f} %" if found else NONE

    def skipped(self, cell: Cell) -> str:
        """Time with half of the advantages 0 over time with no zero advantage."""
        found = ratios(cell, cell, "zeros")
        return f"{median(found):.2f}" if found else NONE


def label(name: str) -> str:
    """The name of a row in a table."""
    base, _, tile = name.partition(":")
    return f"{base} {tile}" if tile else LABELS[name]


def conditions(results: Results) -> str:
    """One line with the machine, sizes and versions."""
    raw, (tokens, width, vocab) = results.raw, results.shape
    processor = raw["machine"].get("gpu") or f"{raw['machine']['cpu']}, {raw['threads']} thread(s)"
    libraries = ", ".join(f"{name} {raw['versions'][name]}" for name in LIBRARIES if name in raw["versions"])
    return (
        f"{processor}, {raw['dtype']}, N = {tokens}, d = {width}, V = {vocab}, {raw['repeats']} rounds; {libraries}; "
        f"{raw['date'][:10]}."
    )


def full_table(raw: dict[str, Any]) -> str:
    """All results, one line per cell."""
    results = Results(raw)
    head = ["task", "row", "time ÷ naive", "share of 6NVd", "peak MiB (÷ floor)", "half zero ÷ none", *ERRORS]

    def line(task: str, name: str) -> list[str]:
        says: list[Callable[[Cell], str]] = [
            lambda _: with_spread(results.over_naive(task, name)), results.share, results.peak, results.skipped,
            *(partial(both, what=what, kinds=kinds) for what, kinds in ERRORS.values()),
        ]  # fmt: skip
        return [task, name, *(results.said(task, name, say) for say in says)]

    parts = [conditions(results), markdown(head, (line(*cell) for cell in results.cells)), bandwidth(results)]
    return "\n\n".join(part for part in parts if part)


def bandwidth(results: Results) -> str:
    """The rate of token_logps for precomputed logits as a fraction of the rate of a copy."""
    found = results.cells.get(("logps", "logits"), {}).get("logits_given")
    if not found:
        return ""
    forward, backward = (
        passes * found["bytes"] / (found["copy_rate"] * median(found[f"{name}_seconds"]))
        for name, passes in (("forward", 1), ("backward", 2))
    )
    return (
        f"`token_logps` of given logits: {100 * forward:.0f} % of the rate of a copy forward (NVb/B), "
        f"{100 * backward:.0f} % backward (2NVb/B); B = {found['copy_rate'] / 1e9:.0f} GB/s."
    )


def cost_table(results: Results) -> str:
    """Time and memory: all columns for GRPO, the time for the other tasks."""
    others = [task for task in results.tasks if task != "grpo"]
    head = ["forward and backward", "GRPO: time ÷ naive", "share of 6NVd", "peak over inputs, MiB (÷ floor)"]
    head += ["half of advantages 0 ÷ none", *(f"{TASK_LABELS[task]}: time ÷ naive" for task in others)]

    def line(name: str) -> list[str]:
        def time(task: str) -> str:
            return results.said(task, name, lambda _: f"{median(results.over_naive(task, name)):.2f}")

        spread = results.said("grpo", name, lambda _: with_spread(results.over_naive("grpo", name)))
        columns = [results.said("grpo", name, say) for say in (results.share, results.peak, results.skipped)]
        return [label(name), spread, *columns, *(time(task) for task in others)]

    return markdown(head, (line(name) for name in results.rows))


def error_table(results: Results) -> str:
    """Accuracy of log-probabilities, entropies and gradients."""

    def line(name: str) -> list[str]:
        return [
            results.said("entropy" if what == "entropies" else "logps", name, partial(both, what=what, kinds=kinds))
            for what, kinds in ERRORS.values()
        ]

    return markdown(["error, fp32 / bf16", *ERRORS], ([label(name), *line(name)] for name in results.rows))


def readme_part(raw: dict[str, Any]) -> str:
    """The part of the README between the markers, for one set of results."""
    results = Results(raw)
    tokens, width, vocab = raw["error_shape"]
    errors = (
        f"Against fp64, with fp32 and bf16 operands (N = {tokens}, d = {width}, V = {vocab}): the largest error of "
        "log π and H and the relative error of the gradients, over flat, peaked, half-masked and half-zero inputs, and "
        "with logits raised or lowered by 1000:"
    )
    parts = [conditions(results), cost_table(results), bandwidth(results), errors, error_table(results)]
    return "\n\n".join(part for part in parts if part)


def distillation_table(results: Results) -> str:
    """Time and memory of distillation, over those of the naive row, and errors of the gradients."""

    def over(task: str, name: str) -> str:
        naive = results.cells[task, "naive"]["peak"]
        return results.said(task, name, lambda cell: f"{cell['peak'] / MIB:.0f} ({cell['peak'] / naive:.2f})")

    def of(task: str, name: str) -> list[str]:
        time = results.said(task, name, lambda _: with_spread(results.over_naive(task, name)))
        return [
            time,
            over(task, name),
            *(results.said(task, name, partial(both, what=x)) for x in ("hidden", "weight")),
        ]

    def line(name: str) -> list[str]:
        return [DISTILLATION_LABELS.get(name) or label(name), *(x for task in DISTILLATION for x in of(task, name))]

    of_task = ("time ÷ naive", "peak over inputs, MiB (÷ naive)", "dh", "dW")
    head = [f"{text}: {what}" for text in DISTILLATION.values() for what in of_task]
    return markdown(["forward and backward", *head], (line(name) for name in results.rows))


def distillation_part(raw: dict[str, Any]) -> str:
    """The part of the README on distillation."""
    results = Results(raw)
    title = f"Distillation from hidden states of a student and a teacher: {conditions(results)} dh and dW as above."
    return f"{title}\n\n{distillation_table(results)}"


def kept(name: str) -> list[dict[str, Any]]:
    """The kept results of that name, CPU first."""
    paths = [RESULTS / f"{device}{name}.json" for device in ("cpu", "cuda")]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def readme_parts() -> str:
    """The whole text between the markers."""
    parts = [*map(readme_part, kept("")), *map(distillation_part, kept("-distillation"))]
    return "\n\n".join(parts) or "Not run yet."


def put(readme: str, part: str) -> str:
    """The README with the text between its markers replaced."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: got no {BEGIN} … {END}, expected the two markers")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def main() -> None:
    """Write the README."""
    path = ROOT / "README.md"
    path.write_text(put(path.read_text(encoding="utf-8"), readme_parts()), encoding="utf-8")


if __name__ == "__main__":
    main()

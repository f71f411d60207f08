"""The page of trainers: what recorded runs of profiles found, function by function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from grape_verified.conformance.profiles import PROFILES, Profile, Row, Run, profile_named, read
from grape_verified.conformance.registry import contract_named
from grape_verified.conformance.report import Verdict
from grape_verified.docs.markdown import folded, page, table

INTRO = """
These functions of trainers are called as their trainers call them, and checked against the contracts of this package.
*Formula* says whether a function is the loss of its contract where numbers are ordinary and every row has tokens.
*Robustness* counts what it does not withstand: masked or extreme numbers, rows and batches without tokens, the contexts
of training. *Habits* are named conventions in which trainers differ; a function is judged with its habits. The inputs
may include what a trainer never passes to its function, so a finding does not always mean a fault in a training run.
[Check your own loss](../guide/check.md) explains these terms and how to check any other function.
""".strip()

HEAD = ("function", "contract", "formula", "robustness", "habits")


def runs(folder: Path) -> dict[str, Run]:
    """The recorded runs in a folder, by profile.

    Raises: NotARun.
    """
    found = (read(path) for path in sorted(folder.glob("*.json")))
    return {run.profile: run for run in found}


def conformance_page(found: dict[str, Run]) -> str:
    """All profiles, each with its recorded run or the statement that there is none."""
    sections = ["# Trainers", INTRO]
    for name in PROFILES:
        sections += _sections(profile_named(name), found.get(name))
    return page("Trainers", "The losses of trainers, checked: formula, robustness and habits", sections)


def _sections(profile: Profile, run: Run | None) -> Iterator[str]:
    yield f"## {profile.name} {{ #{profile.name} }}"
    if run is None:
        yield f"Not run. The profile was written for {profile.package} {profile.release}."
        yield _commands(profile, profile.release + ".*", "")
        return
    packages = ", ".join(f"{package} {version}" for package, version in run.versions.items())
    yield f"{packages}; {run.date}; {run.examples} inputs for each property."
    yield table(HEAD, (_row(run, row) for row in run.functions))
    yield from (_findings(run, row) for row in run.functions)
    yield _commands(profile, run.version, f" --examples {run.examples}")


def _commands(profile: Profile, version: str, examples: str) -> str:
    lines = (f"pip install '{profile.package}=={version}'", f"grape-verified check --profile {profile.name}{examples}")
    return "\n".join(["```console", *(f"$ {line}" for line in lines), "```"])


def anchor(run: Run, row: Row) -> str:
    """The anchor of a function's findings on the page."""
    return f"{run.profile}-{'-'.join(row.name.replace(',', '').lower().split())}"


def _row(run: Run, row: Row) -> tuple[str, ...]:
    place = f"#{anchor(run, row)}"
    formula = f"[{row.formula}]({place})" if row.of("formula") or row.reason else row.formula
    robustness = f"[{row.robustness}]({place})" if row.of("robustness") else row.robustness
    habits = "; ".join(habit.words for habit in contract_named(row.contract).with_habits(row.habits).habits)
    return f"[{row.name}]({place})", f"`{row.contract}`", formula, robustness, habits


def _findings(run: Run, row: Row) -> str:
    """What was checked and found, with the smallest counterexample of each verdict."""
    held = [f"`{name}={value!r}`" for name, value in row.options.items()]
    setting = f", called with `{row.setting}`" if "=" in row.setting else f", {row.setting}" if row.setting else ""
    lines = [f"`{row.symbol.replace(':', '.')}`{setting}."]
    lines += [f"Options fixed: {', '.join(held)}."] if held else []
    lines += [f"Not run: {row.reason}."] if row.reason else []
    verdicts: tuple[Verdict, ...] = ("formula", "robustness")
    shown = [" ".join(lines), *(text for verdict in verdicts for text in _of(row, verdict))]
    return folded(row.name, shown, anchor=anchor(run, row))


def _of(row: Row, verdict: Verdict) -> Iterable[str]:
    found = row.of(verdict)
    if not found:
        return
    yield "\n".join(f"- {verdict}, {one.property}: {_plain(one.text)}" for one in found)
    if found[0].counterexample:
        yield f"```python\n{found[0].counterexample.rstrip()}\n```"


def _plain(text: str) -> str:
    """A sentence with the marks of Markdown escaped."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|$#" else letter for letter in text)

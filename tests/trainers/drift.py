"""What differs between two recorded runs of a profile: `python -m tests.trainers.drift EARLIER LATER`.

The exit status is 1 if a verdict differs or a function came or went, else 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from grape_verified.conformance.profiles import NotARun, Row, Run, read


def versions(earlier: Run, later: Run) -> Iterator[str]:
    """What was installed in each, where that differs."""
    for package in {**earlier.versions, **later.versions}:
        one, other = (run.versions.get(package, "not installed") for run in (earlier, later))
        if one != other:
            yield f"{package}: {one}, now {other}"
    if earlier.examples != later.examples:
        yield f"inputs for each property: {earlier.examples}, now {later.examples}"


def differences(earlier: Run, later: Run) -> Iterator[str]:
    """The verdicts that differ, and the functions that came or went."""
    if earlier.profile != later.profile:
        raise NotARun(f"got runs of {earlier.profile} and {later.profile}, expected two of one profile")
    before, after = ({row.name: row for row in run.functions} for run in (earlier, later))
    yield from (f"{name}: gone" for name in before if name not in after)
    yield from (f"{name}: new, formula {row.formula}" for name, row in after.items() if name not in before)
    for name in before:
        if name in after:
            yield from (f"{name}: {line}" for line in _changed(before[name], after[name]))


def _changed(before: Row, after: Row) -> Iterator[str]:
    if _asked(before) != _asked(after):
        yield f"checked as {_asked(before)}, now as {_asked(after)}"
    if before.formula != after.formula:
        why = f" ({after.reason})" if after.reason else ""
        yield f"formula {before.formula}, now {after.formula}{why}"
    was, now = ({(found.verdict, found.property): found.text for found in row.findings} for row in (before, after))
    yield from (f"{' of '.join(kind[::-1])} no longer fails: {was[kind]}" for kind in was if kind not in now)
    yield from (f"{' of '.join(kind[::-1])} fails: {now[kind]}" for kind in now if kind not in was)


def _asked(row: Row) -> str:
    options = [f"{name}={value!r}" for name, value in sorted(row.options.items())]
    return " ".join([row.contract, *options, *row.habits])


def main(paths: list[str]) -> int:
    """Print what differs."""
    if len(paths) != 2:
        print("expected two recorded runs: EARLIER LATER", file=sys.stderr)
        return 2
    try:
        earlier, later = (read(Path(path)) for path in paths)
        found = list(differences(earlier, later))
    except NotARun as wrong:
        print(wrong, file=sys.stderr)
        return 2
    for line in versions(earlier, later):
        print(f"{earlier.profile}: {line}")
    for line in found or ["the same verdicts"]:
        print(f"{earlier.profile}: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`check --profile`: every function that a trainer's profile names, as a table or as a record."""

from __future__ import annotations

import json
import sys

import typer
from rich.console import Console

from grape_verified.cli import tables
from grape_verified.cli.given import FAILS, HOLDS, refuse
from grape_verified.cli.target import output_to_stderr
from grape_verified.conformance.profiles import Entry, NotInstalled, Run, profile_named, run
from grape_verified.conformance.report import FailOn


def check_profile(name: str, examples: int, fail_on: FailOn, *, as_json: bool) -> None:
    """Check the functions of a trainer; the exit status is that of the worst function."""
    try:
        profile = profile_named(name)
        if warning := profile.outside(profile.installed()):
            print(f"grape-verified: {warning}", file=sys.stderr)
        found = _checked(name, examples)
    except (NotInstalled, ValueError) as wrong:
        refuse(str(wrong))
    if as_json:
        print(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        tables.print_profile(found)
    raise typer.Exit(FAILS if any(row.fails(fail_on) for row in found.functions) else HOLDS)


def _checked(name: str, examples: int) -> Run:
    profile = profile_named(name)
    with output_to_stderr(), Console(stderr=True).status(f"checking {name}") as status:

        def at(entry: Entry) -> None:
            status.update(f"checking {name}: {entry.name} as {entry.contract}")

        return run(profile, examples, at)

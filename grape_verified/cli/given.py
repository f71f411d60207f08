"""What a command is given: claims, modules and ledgers. Anything wrong with it is an error of one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import NoReturn, TypeVar

import typer
from grape_spec.language.claims import Claim
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, entry_of, select
from grape_spec.outside import CannotLoad

from grape_verified.cli.target import output_to_stderr
from grape_verified.conformance import registry
from grape_verified.conformance.guard import guarded
from grape_verified.conformance.ledger import Ledger, NotALedger, read, write
from grape_verified.conformance.verification import claims_named

T = TypeVar("T")

#: Seconds between two writes of what a run has found, before it ends.
KEPT_EVERY = 5.0

#: Exit status: everything holds; something does not; the call was wrong.
HOLDS, FAILS, WRONG_CALL = 0, 1, 2


def refuse(message: str) -> NoReturn:
    print(f"grape-verified: {message}", file=sys.stderr)
    raise typer.Exit(WRONG_CALL)


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Report in one line that what an option names cannot be written."""
    try:
        yield
    except OSError as failure:
        refuse(f"{option}: cannot write {path}: {failure.strerror}")


def refuse_unwritable(ledger: Path) -> None:
    """Fail before the work if the ledger cannot be written."""
    there = ledger.exists()
    with writing("--ledger", ledger):
        ledger.open("a", encoding="utf-8").close()
    if not there:
        ledger.unlink()


def write_ledger(found: Ledger, path: Path) -> None:
    with writing("--ledger", path):
        write(found, path)


@contextmanager
def kept_as_they_come(ledger: Callable[[list[T]], Ledger], path: Path) -> Iterator[Callable[[T], None]]:
    """Write the ledger with what a run has found so far, every few seconds and where the run ends early."""
    found: list[T] = []
    written = monotonic()
    once = path.exists() and not path.is_file()  # a pipe or a device

    def keep(record: T) -> None:
        nonlocal written
        found.append(record)
        if not once and monotonic() - written >= KEPT_EVERY:
            with suppress(OSError):  # at the end of the run it is an error
                write(ledger(found), path)
            written = monotonic()

    try:
        yield keep
    except BaseException:
        if found:
            write_ledger(ledger(found), path)
        raise


def read_ledger(path: Path) -> Ledger:
    try:
        return read(path)
    except NotALedger as wrong:
        refuse(f"--ledger: {wrong}")


def as_it_is_now(path: Path, before: Ledger) -> Ledger:
    """The ledger with what other runs have written to it since; as it was before where it cannot be read again."""
    if not path.is_file() or not path.stat().st_size:
        return before
    try:
        return read(path)
    except NotALedger:
        return before


def entry_named(id: str, modules: list[str] | None) -> Claim | Definition:
    load(modules)
    try:
        return entry_of(id)
    except KeyError as unknown:
        refuse(unknown.args[0])


def selected(names: tuple[str, ...]) -> list[Claim]:
    try:
        return select(names)
    except KeyError as unknown:
        refuse(unknown.args[0])


def named_claims(names: list[str] | None, modules: list[str] | None) -> tuple[str, ...]:
    """The names given; without any, the claims of the modules that are loaded."""
    theirs = load(modules)
    if names or not modules:
        return tuple(names or ())
    claims = tuple(id for id in CLAIMS if id in theirs)
    return claims or refuse(f"--from: {', '.join(modules)}: no claim is declared there")


def named_work(names: list[str] | None, modules: list[str] | None) -> tuple[list[Claim], tuple[str, ...]]:
    """The named claims and contracts from outside; without names, those of the modules that are loaded."""
    theirs = load(modules)
    if names or not modules:
        named = tuple(names or ())
        try:
            return claims_named(named), tuple(filter(registry.module_of, named))
        except KeyError as unknown:
            refuse(unknown.args[0])
    held = tuple(contract.name for module in modules for contract in registry.contracts_of(module))
    claims = [claim for id, claim in CLAIMS.items() if id in theirs]
    if not claims and not held:
        refuse(f"--from: {', '.join(modules)}: no claim and no contract is declared there")
    return claims, held


def load(modules: list[str] | None) -> set[str]:
    """Load what installed packages and the given modules declare; return the ids of the latter.

    A module may lie in the current folder.
    """
    if modules:
        sys.path.insert(0, str(Path.cwd()))
    with output_to_stderr(), guarded():
        try:
            registry.load_installed()
        except CannotLoad as failure:
            refuse(str(failure))
        try:
            return {id for module in modules or () for id in registry.load(module)}
        except CannotLoad as failure:
            refuse(f"--from: {failure}")

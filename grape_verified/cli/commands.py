"""The commands, their options and their exit status."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Annotated, NoReturn, TypeVar

import typer
from grape_spec import outside, render
from grape_spec.coq.certify import (
    CERTIFIED,
    CertificateRecord,
    coq_statement_or_reason,
    settled,
    theorems_of,
    write_subjects,
)
from grape_spec.coq.coqtop import CoqMissing
from grape_spec.language.claims import Claim, Part
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import CLAIMS, entry_of, select
from grape_spec.paper.check import WrongFormula
from grape_spec.proof.codec import to_json
from grape_spec.proof.examine import write_queries
from grape_spec.references import bibtex
from rich.console import Console

from grape_verified import __version__
from grape_verified.cli import progress, tables
from grape_verified.cli.target import WrongCall, imported, output_to_stderr
from grape_verified.cli.target import binding as parsed_binding
from grape_verified.cli.target import option as parsed_option
from grape_verified.conformance import CONTRACTS, contexts, verification
from grape_verified.conformance import check as check_function
from grape_verified.conformance.ledger import Ledger, NotALedger, read, write
from grape_verified.conformance.report import FailOn
from grape_verified.docs.derivations import BrokenDerivation, as_dict
from grape_verified.docs.mathematics import BrokenMathematics
from grape_verified.docs.verdicts import verdicts

T = TypeVar("T")

#: The ledger that `verify` writes, and that `list` and `show` read.
LEDGER = Path("grape-verified-ledger.json")

#: The default configuration of the documentation.
MKDOCS = Path("mkdocs.yml")

#: Seconds between two times that what a run has found is written, before it ends.
KEPT_EVERY = 5.0

#: Exit status: everything holds; something does not; the call was wrong.
HOLDS, FAILS, WRONG_CALL = 0, 1, 2

app = typer.Typer(
    help="Post-training losses for language models, with machine-checked mathematics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Names = Annotated[list[str] | None, typer.Argument(help="Claim ids, or families such as ppo. Default: everything.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
LedgerPath = Annotated[Path, typer.Option("--ledger", help="The ledger file.")]
From = Annotated[
    list[str] | None,
    typer.Option(
        "--from", metavar="MODULE", help="Also load the claims of this module; repeatable. Without names: its claims."
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a claim or definition, such as ppo.clip.gradient.")]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    verification.leave_no_folder()
    if show:
        print(f"grape-verified {__version__}")
        raise typer.Exit(HOLDS)


@app.command()
def verify(
    names: Names = None,
    modules: From = None,
    as_json: Json = False,
    ledger: LedgerPath = LEDGER,
    examples: Annotated[int, typer.Option(min=1, help="Inputs per kernel property.")] = verification.EXAMPLES,
    smt2: Annotated[Path | None, typer.Option(help="Write every SMT query to this folder, as SMT-LIB.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything again, unchanged or not.")] = False,
) -> None:
    """Prove the claims, check the kernels and record the evidence.

    What holds in the ledger is kept if nothing that it depends on has changed. With names, only those claims and the
    kernels that rest on them are run.
    """
    named = _named(names, modules)
    chosen = _selected(named)
    _refuse_unwritable(ledger)
    earlier = _ledger(ledger)
    claims, kernels = verification.still_valid(earlier)
    if smt2 is not None:
        with _writing("--smt2", smt2):
            smt2.mkdir(parents=True, exist_ok=True)
            for claim in chosen:
                write_queries(claim, smt2)
    wanted = tuple(claim.id for claim in chosen) if modules else tuple(names or ())

    def complete(run: Ledger) -> Ledger:
        now = _as_it_is_now(ledger, earlier)
        return verification.merged(run, *verification.still_valid(now)).with_certificates(now.certificates)

    def so_far(found: list[verification.Record]) -> Ledger:
        return complete(verification.recorded(found))

    with _kept_as_they_come(so_far, ledger) as keep:
        run = progress.verified(wanted, examples, () if fresh else (*claims, *kernels), keep)
    _write(complete(run), ledger)
    if as_json:
        _print_json(to_json(run))
    else:
        tables.print_run(run, ledger)
    raise typer.Exit(HOLDS if run.holds else FAILS)


@app.command()
def certify(
    names: Names = None,
    modules: From = None,
    out: Annotated[Path | None, typer.Option(help="Write the certified theorems to this folder, as .v files.")] = None,
    as_json: Json = False,
    ledger: LedgerPath = LEDGER,
) -> None:
    """Have Coq certify the claims, part by part, and add the certificates to the ledger.

    Parts whose text has not changed since are not run again.
    """
    chosen = _selected(_named(names, modules))
    seen = _ledger(ledger)
    _refuse_unwritable(ledger)
    if out is not None:
        with _writing("--out", out):
            out.mkdir(parents=True, exist_ok=True)

    def so_far(found: list[CertificateRecord]) -> Ledger:
        return _as_it_is_now(ledger, seen).with_certificates(settled(found))

    try:
        with _kept_as_they_come(so_far, ledger) as keep:
            records = progress.certified(chosen, seen, keep)
    except CoqMissing as missing:
        _refuse(str(missing))
    complete = _as_it_is_now(ledger, seen).with_certificates(records)
    _write(complete, ledger)
    if out is not None:
        with _writing("--out", out):
            write_subjects(theorems_of(complete.certificates), out)
    if as_json:
        _print_json(to_json(records))
    else:
        tables.print_certificates(records, ledger)
    raise typer.Exit(HOLDS if all(record.status == CERTIFIED for record in records) else FAILS)


@app.command(name="list")
def list_claims(names: Names = None, modules: From = None, as_json: Json = False, ledger: LedgerPath = LEDGER) -> None:
    """List claims with their status in the ledger: proved, certified by Coq, measured on kernels, or not run."""
    chosen, seen = _selected(_named(names, modules)), _ledger(ledger)
    rows = [(claim, verdicts(claim, seen)) for claim in chosen]
    if as_json:
        _print_json([{"id": claim.id, **found._asdict(), "text": claim.text} for claim, found in rows])
    else:
        tables.print_verdicts(rows)


@app.command()
def show(
    id: Id,
    modules: From = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print the statements in LaTeX.")] = False,
    as_json: Json = False,
    ledger: LedgerPath = LEDGER,
) -> None:
    """Show a claim with its proof and evidence, or a definition with what depends on it."""
    entry = _entry(id, modules)
    if isinstance(entry, Definition):
        _show_definition(entry, latex=latex, as_json=as_json)
        return
    seen = _ledger(ledger)
    if as_json:
        coq = [_in_coq(entry, part, seen) for part in entry.parts]
        found, evidence = verdicts(entry, seen)._asdict(), to_json(seen.by_id.get(entry.id))
        derived = [shown for part in entry.parts if (shown := as_dict(entry, part))]
        _print_json(
            {**render.as_dict(entry), "derivations": derived, "verdicts": found, "evidence": evidence, "coq": coq}
        )
    elif latex:
        for part in entry.parts:
            print(render.latex_assuming(part.statement, part.assuming))
    else:
        tables.print_claim(entry, seen)


def _in_coq(claim: Claim, part: Part, seen: Ledger) -> dict[str, object]:
    record = seen.certificate(claim, part)
    return {
        "part": part.name,
        "status": seen.certified_part(claim, part),
        "statement": coq_statement_or_reason(part, claim),
        "record": to_json(record),
    }


def _show_definition(entry: Definition, *, latex: bool, as_json: bool) -> None:
    shown = render.definition_as_dict(entry)
    if as_json:
        _print_json(shown)
    elif latex:
        print(shown["latex"])
    else:
        tables.print_definition(shown)


@app.command()
def cite(id: Id, modules: From = None, as_json: Json = False) -> None:
    """Print BibTeX for a claim or definition and for its source."""
    entry = _entry(id, modules)
    entries = bibtex(entry, __version__, module=outside.module_of(id))
    if as_json:
        _print_json({"id": id, "bibtex": entries})
    else:
        print(entries)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The function to check.")],
    contract: Annotated[str, typer.Option("--as", help=f"Contract to check against: {', '.join(CONTRACTS)}.")],
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Fix an option's value.")] = None,
    bind: Annotated[
        list[str] | None, typer.Option(metavar="PARAMETER=NAME", help="Say which tensor or option a parameter is.")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Inputs per property; twice as many for options.")] = 200,
    strict: Annotated[bool, typer.Option("--strict", help="Also require what our own kernels guarantee.")] = False,
    fail_on: Annotated[FailOn, typer.Option(help="What counts as failure; all: notes too.")] = "formula and robustness",
    as_json: Json = False,
) -> None:
    """Check any function against a contract, property by property: is its formula right, is it robust in training?"""
    try:
        options = dict(map(parsed_option, option or ()))
        bound = dict(map(parsed_binding, bind or ()))
        with output_to_stderr():
            function = imported(target)
            with Console(stderr=True).status(f"checking {target} as {contract}"):
                report = check_function(
                    function, contract, examples=examples, options=options, bind=bound, strict=strict
                )
    except (WrongCall, ValueError) as wrong:
        _refuse(str(wrong))
    if as_json:
        _print_json(report.as_dict())
    else:
        tables.print_report(report, options, fail_on)
    raise typer.Exit(FAILS if report.fails(fail_on) else HOLDS)


@app.command(name="contexts")
def show_contexts(
    names: Annotated[list[str] | None, typer.Argument(help="Contracts or functions. Default: everything.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Also compile with inductor.")] = False,
    as_json: Json = False,
) -> None:
    """Call every public function in every training context, and compare with a plain call."""
    try:
        cells = contexts.table(tuple(names or ()), full=full)
    except ValueError as unknown:
        _refuse(str(unknown))
    if as_json:
        print(json.dumps([asdict(cell) for cell in cells], ensure_ascii=False))
    else:
        print("\n".join(contexts.lines(cells)))
    raise typer.Exit(FAILS if any(cell.status == "WRONG" for cell in cells) else HOLDS)


# -- the documentation ------------------------------------------------------------------------------------------

docs_app = typer.Typer(help="Build or serve the documentation, from a checkout.", no_args_is_help=True)
app.add_typer(docs_app, name="docs")

Config = Annotated[Path, typer.Option("--config", help="The configuration file of mkdocs.")]


@docs_app.command(name="build")
def docs_build(
    site_dir: Annotated[Path, typer.Option(help="Output folder.")] = Path("site"),
    config: Config = MKDOCS,
    ledger: LedgerPath = LEDGER,
) -> None:
    """Write the generated pages and build the site.

    Formulas are read back from their LaTeX first. Any mismatch, warning, dead link or wrong derivation is an error.
    """
    with _errors_in_a_line():
        _site(config).build(config, site_dir, ledger)


@docs_app.command(name="serve")
def docs_serve(config: Config = MKDOCS, ledger: LedgerPath = LEDGER) -> None:
    """Write the generated pages and serve the site locally."""
    with _errors_in_a_line():
        _site(config).serve(config, ledger)


@contextmanager
def _errors_in_a_line() -> Iterator[None]:
    """Report an error in a ledger, a derivation, a chapter or a formula in one line, without a traceback."""
    try:
        yield
    except NotALedger as wrong:
        _refuse(f"--ledger: {wrong}")
    except (BrokenDerivation, WrongFormula, BrokenMathematics, subprocess.CalledProcessError) as failure:
        print(f"grape-verified: {failure}", file=sys.stderr)
        raise typer.Exit(FAILS) from None


def _site(config: Path) -> ModuleType:
    """The module that builds the site; its dependencies come with the extra `docs`."""
    if not config.is_file():
        _refuse(f"--config: {config} does not exist; the documentation is built from a checkout")
    try:
        return importlib.import_module("grape_verified.docs.site")
    except ModuleNotFoundError as missing:
        _refuse(f"the package {missing.name} is not installed: run pip install 'grape-verified[docs]'")


# -- reading the call -------------------------------------------------------------------------------------------


def _refuse(message: str) -> NoReturn:
    print(f"grape-verified: {message}", file=sys.stderr)
    raise typer.Exit(WRONG_CALL)


def _print_json(data: object) -> None:
    print(json.dumps(data, ensure_ascii=False))


@contextmanager
def _writing(option: str, path: Path) -> Iterator[None]:
    """Report in one line that what an option names cannot be written."""
    try:
        yield
    except OSError as failure:
        _refuse(f"{option}: cannot write {path}: {failure.strerror}")


def _refuse_unwritable(ledger: Path) -> None:
    """Fail before the work if the ledger cannot be written."""
    there = ledger.exists()
    with _writing("--ledger", ledger):
        ledger.open("a", encoding="utf-8").close()
    if not there:
        ledger.unlink()


def _write(found: Ledger, path: Path) -> None:
    with _writing("--ledger", path):
        write(found, path)


@contextmanager
def _kept_as_they_come(ledger: Callable[[list[T]], Ledger], path: Path) -> Iterator[Callable[[T], None]]:
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
            _write(ledger(found), path)
        raise


def _ledger(path: Path) -> Ledger:
    try:
        return read(path)
    except NotALedger as wrong:
        _refuse(f"--ledger: {wrong}")


def _as_it_is_now(path: Path, before: Ledger) -> Ledger:
    """The ledger with what other runs have written to it since; as it was before where it cannot be read again."""
    if not path.is_file() or not path.stat().st_size:
        return before
    try:
        return read(path)
    except NotALedger:
        return before


def _entry(id: str, modules: list[str] | None) -> Claim | Definition:
    _load(modules)
    try:
        return entry_of(id)
    except KeyError as unknown:
        _refuse(unknown.args[0])


def _selected(names: tuple[str, ...]) -> list[Claim]:
    try:
        return select(names)
    except KeyError as unknown:
        _refuse(unknown.args[0])


def _named(names: list[str] | None, modules: list[str] | None) -> tuple[str, ...]:
    """The names of a call; without any, the claims of the modules that it loads."""
    theirs = _load(modules)
    if names or not modules:
        return tuple(names or ())
    claims = tuple(id for id in CLAIMS if id in theirs)
    return claims or _refuse(f"--from: {', '.join(modules)}: no claim is declared there")


def _load(modules: list[str] | None) -> set[str]:
    """Load the claims of installed packages and of modules, maybe in the current folder; the ids of those modules."""
    if modules:
        sys.path.insert(0, str(Path.cwd()))
    with output_to_stderr():
        try:
            outside.load_installed()
        except outside.CannotLoad as failure:
            _refuse(str(failure))
        try:
            return {id for module in modules or () for id in outside.load(module)}
        except outside.CannotLoad as failure:
            _refuse(f"--from: {failure}")

"""The command line: verify, list, show, cite, check, docs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer
from grape_spec import render
from grape_spec.language.claims import Claim
from grape_spec.language.definitions import Definition
from grape_spec.language.registry import entry_of, select
from grape_spec.proof.ledger import summarise, write_queries
from grape_spec.proof.rules import GENERAL
from grape_spec.references import bibtex
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from grape_verified import __version__
from grape_verified.conformance import CONTRACTS, Report, verification
from grape_verified.conformance import check as check_function
from grape_verified.conformance.evidence import Evidence, NotALedger, read
from grape_verified.docs.mathematics import BrokenMathematics

#: Where `verify` writes what it saw, and where `list` and `show` look for it.
LEDGER = Path("grape-verified-ledger.json")

#: How the documentation is built.
MKDOCS = Path("mkdocs.yml")

#: Exit status: all that was asked for holds; something does not; the call was wrong.
HOLDS, FAILS, WRONG_CALL = 0, 1, 2

_MARKS = {
    "proved": "[green]proved[/]",
    "unknown": "[yellow]unknown[/]",
    "refuted": "[red]refuted[/]",
    "passed": "[green]passed[/]",
    "failed": "[red]failed[/]",
    "noted": "[yellow]noted[/]",
    "not run": "[dim]not run[/]",
}

app = typer.Typer(
    help="The mathematics of language-model post-training and the code that trains models, held together by machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Names = Annotated[list[str] | None, typer.Argument(help="Ids of claims, or families such as ppo. None: everything.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
LedgerPath = Annotated[Path, typer.Option("--ledger", help="The ledger file.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a claim or definition, such as ppo.clip.gradient.")]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    verification.leave_no_folder()
    if show:
        print(f"grape-verified {__version__}")
        raise typer.Exit(HOLDS)


@app.command()
def verify(
    names: Names = None,
    as_json: Json = False,
    ledger: LedgerPath = LEDGER,
    examples: Annotated[int, typer.Option(min=1, help="Inputs for each property of a kernel.")] = verification.EXAMPLES,
    smt2: Annotated[Path | None, typer.Option(help="A folder to write every SMT query to, as SMT-LIB.")] = None,
) -> None:
    """Prove the claims, check the kernels, print and write the evidence.

    A run of a part keeps what an earlier run of the same code saw of other claims and kernels.
    """
    chosen = _selected(names)
    _refuse_unwritable(ledger)
    kept = _still_valid(ledger) if names else ([], [])
    if smt2 is not None:
        smt2.mkdir(parents=True, exist_ok=True)
        for claim in chosen:
            write_queries(claim, smt2)
    evidence = _with_progress(tuple(names or ()), examples)
    whole = verification.merged(evidence, *kept) if any(kept) else evidence
    ledger.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(evidence, ensure_ascii=False))
    else:
        _print_evidence(evidence, ledger)
    raise typer.Exit(HOLDS if evidence["holds"] else FAILS)


@app.command(name="list")
def list_claims(names: Names = None, as_json: Json = False, ledger: LedgerPath = LEDGER) -> None:
    """List claims with the status that the ledger has of them."""
    seen = _evidence(ledger)
    rows = [(claim.id, seen.status(claim), claim.text) for claim in _selected(names)]
    if as_json:
        print(json.dumps([dict(zip(("id", "status", "text"), row, strict=True)) for row in rows], ensure_ascii=False))
        return
    table = Table("claim", "status", "statement", box=None, pad_edge=False)
    for id, status, text in rows:
        table.add_row(id, _MARKS.get(status, status), text)
    _out().print(table)


@app.command()
def show(
    id: Id,
    latex: Annotated[bool, typer.Option("--latex", help="Print the statements in LaTeX.")] = False,
    as_json: Json = False,
    ledger: LedgerPath = LEDGER,
) -> None:
    """Show one claim with its proof and evidence, or one definition with what rests on it."""
    entry = _entry(id)
    if isinstance(entry, Definition):
        _show_definition(entry, latex=latex, as_json=as_json)
        return
    seen = _evidence(ledger)
    if as_json:
        print(json.dumps({**render.as_dict(entry), "evidence": seen.claims.get(entry.id)}, ensure_ascii=False))
    elif latex:
        for part in entry.parts:
            print(render.latex_assuming(part.statement, part.assuming))
    else:
        _print_claim(entry, seen)


def _show_definition(entry: Definition, *, latex: bool, as_json: bool) -> None:
    shown = render.definition_as_dict(entry)
    if as_json:
        print(json.dumps(shown, ensure_ascii=False))
    elif latex:
        print(shown["latex"])
    else:
        _print_definition(shown)


@app.command()
def cite(id: Id, as_json: Json = False) -> None:
    """Print BibTeX for a claim or definition and for the work that it comes from."""
    entries = bibtex(_entry(id), __version__)
    print(json.dumps({"id": id, "bibtex": entries}, ensure_ascii=False) if as_json else entries)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The function to check.")],
    contract: Annotated[str, typer.Option("--as", help=f"What it should be: {', '.join(CONTRACTS)}.")],
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Hold an option at one value.")] = None,
    examples: Annotated[int, typer.Option(min=1, help="Inputs for each property; twice as many for options.")] = 200,
    strict: Annotated[bool, typer.Option("--strict", help="Hold it to what our own kernels promise, too.")] = False,
    as_json: Json = False,
) -> None:
    """Hold anybody's function against a contract, property by property."""
    options = dict(map(_option, option or ()))
    with _output_to_stderr():
        function = _imported(target)
        try:
            with Console(stderr=True).status(f"checking {target} as {contract}"):
                report = check_function(function, contract, examples=examples, options=options, strict=strict)
        except ValueError as wrong:
            _refuse(str(wrong))
    if as_json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        _print_report(report, options)
    raise typer.Exit(HOLDS if report.accepted else FAILS)


# -- the documentation ------------------------------------------------------------------------------------------

docs_app = typer.Typer(help="Build or serve the documentation, from a checkout.", no_args_is_help=True)
app.add_typer(docs_app, name="docs")

Config = Annotated[Path, typer.Option("--config", help="The configuration of mkdocs.")]


@docs_app.command(name="build")
def docs_build(
    site_dir: Annotated[Path, typer.Option(help="The folder to build into.")] = Path("site"),
    config: Config = MKDOCS,
    ledger: LedgerPath = LEDGER,
) -> None:
    """Write the generated pages and build the site; a warning, a dead link or a broken formula fails it."""
    with _told_in_a_line():
        _site(config).build(config, site_dir, ledger)


@docs_app.command(name="serve")
def docs_serve(config: Config = MKDOCS, ledger: LedgerPath = LEDGER) -> None:
    """Write the generated pages and serve the site on this machine."""
    with _told_in_a_line():
        _site(config).serve(config, ledger)


@contextmanager
def _told_in_a_line() -> Iterator[None]:
    """What is wrong with a ledger, with the chapters or with a formula in them."""
    try:
        yield
    except NotALedger as wrong:
        _refuse(f"--ledger: {wrong}")
    except (BrokenMathematics, subprocess.CalledProcessError) as failure:
        print(f"grape-verified: {failure}", file=sys.stderr)
        raise typer.Exit(FAILS) from None


def _site(config: Path) -> ModuleType:
    """The module that builds the site; its dependencies come with the extra `docs`."""
    if not config.is_file():
        _refuse(f"--config: there is no {config}: the documentation is built from a checkout")
    try:
        return importlib.import_module("grape_verified.docs.site")
    except ModuleNotFoundError as missing:
        _refuse(f"the package {missing.name} is not installed; pip install 'grape-verified[docs]'")


# -- reading the call -------------------------------------------------------------------------------------------


def _refuse(message: str) -> NoReturn:
    print(f"grape-verified: {message}", file=sys.stderr)
    raise typer.Exit(WRONG_CALL)


def _refuse_unwritable(ledger: Path) -> None:
    """Say that the ledger cannot be written before the work, not after."""
    there = ledger.exists()
    try:
        ledger.open("a", encoding="utf-8").close()
    except OSError as failure:
        _refuse(f"--ledger: cannot write {ledger}: {failure.strerror}")
    if not there:
        ledger.unlink()


def _entry(id: str) -> Claim | Definition:
    try:
        return entry_of(id)
    except KeyError as unknown:
        _refuse(unknown.args[0])


def _selected(names: list[str] | None) -> list[Claim]:
    try:
        return select(tuple(names or ()))
    except KeyError as unknown:
        _refuse(unknown.args[0])


def _imported(target: str) -> Callable[..., Any]:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        _refuse(f"got {target!r}, expected MODULE:FUNCTION, such as mypackage.losses:my_loss")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module_name)
    except (Exception, SystemExit) as failure:  # whatever a stranger's module raises becomes one line
        reason = str(failure).strip().split("\n")[0]
        _refuse(f"cannot import {module_name}: {type(failure).__name__}: {reason}")
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            _refuse(f"the module {module_name} has no {name}")
        found = getattr(found, attribute)
    if not callable(found):
        _refuse(f"{target} is a {type(found).__name__}, expected a function")
    return found


@contextmanager
def _output_to_stderr() -> Iterator[None]:
    """What a function prints is not part of the report: also what it, or a child process, writes past `sys.stdout`."""
    kept = os.dup(1)
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            stream.flush()
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        _refuse(f"--option: got {text!r}, expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


# -- evidence ---------------------------------------------------------------------------------------------------


def _evidence(ledger: Path) -> Evidence:
    """What a ledger has on claims and kernels; nothing where there is no ledger."""
    try:
        return read(ledger)
    except NotALedger as wrong:
        _refuse(f"--ledger: {wrong}")


def _still_valid(ledger: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of a ledger that a run on a part keeps; that they can be summarised is found out before the work."""
    if not ledger.is_file():
        return [], []
    try:
        kept = verification.still_valid(json.loads(ledger.read_text(encoding="utf-8")))
        summarise(*kept, 0.0)
    except (OSError, ValueError, KeyError, TypeError):
        _refuse(f"--ledger: {ledger} is not a ledger of grape-verified verify")
    return kept


def _with_progress(names: tuple[str, ...], examples: int) -> dict[str, Any]:
    columns = TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("starting", total=len(verification.tasks(names)))

        def finished(task: verification.Task, record: dict[str, Any]) -> None:
            progress.update(bar, advance=1, description=task[1])

        return verification.verify(names, examples=examples, finished=finished)


# -- printing ---------------------------------------------------------------------------------------------------


def _out() -> Console:
    """The terminal; where output is piped, wide enough that nothing is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _print_evidence(evidence: dict[str, Any], ledger: Path) -> None:
    out = _out()
    table = Table("claim", "status", "scope", "proof", "points", "mutants", "seconds", box=None, pad_edge=False)
    for record in evidence["claims"]:
        parts = record["parts"]
        killed, total = (sum(p["mutants"][key] for p in parts) for key in ("refuted", "total"))
        table.add_row(
            record["id"],
            "[green]fully proved[/]" if record["fully_proved"] else _MARKS[record["status"]],
            _scope(record["scope"]),
            ", ".join(dict.fromkeys(p["engine"] for p in parts)),
            str(sum(p["points"]["effective"] for p in parts)),
            f"{killed}/{total}",
            f"{record['seconds']:.2f}",
        )
    out.print(table)
    out.print()
    if evidence["kernels"]:
        out.print(_kernel_table(evidence["kernels"]))
        out.print()
    for line in _shortcomings(evidence):
        out.print(line, markup=False)
    _print_summary(out, evidence, ledger)


def _scope(scopes: list[str]) -> str:
    """The scopes of the parts of a claim, those at chosen sizes only counted."""
    general = [scope for scope in scopes if scope == GENERAL]
    sized = len(scopes) - len(general)
    return " and ".join([*general, *([f"{sized} choices of sizes"] if sized else [])])


def _kernel_table(kernels: list[dict[str, Any]]) -> Table:
    table = Table("kernel", "contract", "verdict", "properties", "examples", "seconds", box=None, pad_edge=False)
    for kernel in kernels:
        passed = sum(entry["status"] == "passed" for entry in kernel["properties"])
        table.add_row(
            kernel["function"],
            kernel["contract"],
            "[green]accepted[/]" if kernel["accepted"] else "[red]rejected[/]",
            f"{passed}/{len(kernel['properties'])} passed",
            str(sum(entry["examples"] for entry in kernel["properties"])),
            f"{kernel['seconds']:.2f}",
        )
    return table


def _shortcomings(evidence: dict[str, Any]) -> list[str]:
    """A line for everything that keeps the run from holding."""
    lines = []
    for record in evidence["claims"]:
        for part in record["parts"]:
            where = f"{record['id']} [{part['name']}]" if part["name"] else record["id"]
            if part["contradiction"]:
                lines.append(f"{where}: proved and refuted at once: a bug in the checker; witness {part['witness']}")
            elif part["status"] == "refuted":
                lines.append(f"{where}: refuted; witness {part['witness']}")
            elif part["status"] == "unknown":
                lines.append(f"{where}: unknown: {part['reason']}")
            if not part["satisfiable"]:
                lines.append(f"{where}: no point satisfies the assumptions")
            if not part["sides_differ"]:
                lines.append(f"{where}: the two sides are the same tree")
            lines += [f"{where}: a mutant survived: {text}" for text in part["mutants"]["survived"]]
            lines += [
                f"{where}: listed as equivalent, but no such mutant is left: {t}" for t in part["mutants"]["stale"]
            ]
        lines += [f"{record['id']}: not refuted: {v['text']}" for v in record["wrong"] if not v["refuted"]]
        if record["waits_for"]:
            lines.append(f"{record['id']}: rests on {', '.join(record['waits_for'])}, not proved")
    for kernel in evidence["kernels"]:
        failed = [entry for entry in kernel["properties"] if entry["status"] == "failed"]
        lines += [f"{kernel['function']}: {entry['name']}: {entry['text']}" for entry in failed]
    return lines


def _print_summary(out: Console, evidence: dict[str, Any], ledger: Path) -> None:
    s = evidence["summary"]
    out.print(
        f"{s['fully_proved']} of {s['claims']} claims fully proved, {s['unknown']} unknown, {s['refuted']} refuted, "
        f"{s['at_sizes_only']} at chosen sizes only; {s['contradictions']} contradictions between engines.\n"
        f"{s['mutants_refuted']} of {s['mutants']} mutants refuted, {s['mutants_implied']} true because the claim is, "
        f"{s['mutants_listed']} listed as equivalent, {s['mutants_survived']} survived; "
        f"{s['wrong_variants']} wrong variants.\n"
        f"{s['kernels_accepted']} of {s['kernels']} kernels accepted.\n"
        f"Mean time of a claim: {1000 * s['mean_prove_seconds']:.0f} ms to prove, {s['mean_claim_seconds']:.2f} s with "
        f"its audit. {s['seconds']:.1f} s in all. Ledger: {ledger}",
        markup=False,
        highlight=False,
    )


def _print_claim(claim: Claim, seen: Evidence) -> None:
    out = _out()
    shown = render.as_dict(claim)
    out.print(f"[bold]{claim.id}[/]  {claim.text}")
    for part in shown["parts"]:
        out.print(f"\n  {part['statement']}" + (f"   [{part['name']}]" if part["name"] else ""), markup=False)
        for condition in part["assuming"]:
            out.print(f"    assuming {condition}", markup=False)
        out.print(f"    proof: {part['rule']}", markup=False)
        for step in part["steps"]:
            out.print(f"      = {step['expression']}   by {step['rule']}", markup=False)
    out.print("\nwhere")
    for entry in shown["symbols"]:
        out.print(f"  {entry['name']}: {entry['domain']}; {entry['text']}", markup=False)
    for entry in shown["definitions"]:
        convention = " (a convention)" if entry["convention"] else ""
        out.print(f"\n{entry['id']}: {entry['text']}{convention}\n  {entry['statement']}", markup=False)
    for variant in shown["wrong"]:
        conditions = f"   assuming {', '.join(variant['assuming'])}" if variant["assuming"] else ""
        out.print(f"\nfalse: {variant['text']}\n  {variant['statement']}{conditions}", markup=False)
    for name in ("uses", "used_by", "lemmas"):
        if shown[name]:
            out.print(f"\n{name.replace('_', ' ')}: {', '.join(shown[name])}")
    out.print(f"\nsource: {claim.source}\nversion: {claim.hash[:16]}", markup=False)
    out.print(f"evidence: {_evidence_line(claim, seen)}", markup=False)


def _print_definition(shown: dict[str, Any]) -> None:
    out = _out()
    convention = " (a convention)" if shown["convention"] else ""
    out.print(f"[bold]{shown['id']}[/]  {shown['text']}{convention}")
    out.print(f"\n  {shown['statement']}", markup=False)
    out.print("\nwhere")
    for entry in shown["symbols"]:
        out.print(f"  {entry['name']}: {entry['domain']}; {entry['text']}", markup=False)
    for name in ("uses", "used_by", "claims"):
        if shown[name]:
            out.print(f"\n{name.replace('_', ' ')}: {', '.join(shown[name])}")
    out.print(f"\nsource: {shown['source']}", markup=False)


def _evidence_line(claim: Claim, seen: Evidence) -> str:
    record, status = seen.of(claim), seen.status(claim)
    if record is None:
        return f"{status}: the ledger is about an earlier version of this claim" if claim.id in seen.claims else status
    points = sum(part["points"]["effective"] for part in record["parts"])
    refuted, total = (sum(part["mutants"][key] for part in record["parts"]) for key in ("refuted", "total"))
    true = sum(len(part["mutants"]["implied"]) + len(part["mutants"]["listed"]) for part in record["parts"])
    return f"{status}, {_scope(record['scope'])}; {points} points; {refuted} of {total} mutants refuted, {true} true"


def _print_report(report: Report, options: dict[str, Any]) -> None:
    out = _out()
    table = Table("property", "result", "examples", "", box=None, pad_edge=False)
    for finding in report.properties:
        table.add_row(finding.name, _MARKS[finding.status], str(finding.examples or ""), finding.text)
    out.print(table)
    for finding in report.properties:
        if finding.counterexample and finding.status == "failed":
            out.print(f"\n[bold]{finding.name}[/]: the smallest counterexample that was found")
            print(finding.counterexample)  # as it is, so that it can be pasted from any width of terminal
    at_defaults = [name for name in report.not_offered if name not in options]
    if at_defaults:
        out.print(f"\nOptions that it does not take, held at their defaults: {', '.join(at_defaults)}.")
    verdict = "accepted" if report.accepted else f"rejected: {', '.join(report.failed)}"
    out.print(f"\n{report.function} as {report.contract}: {verdict}", markup=False)

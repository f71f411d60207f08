"""The commands, their options and their exit status."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated

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
from grape_spec.paper.check import WrongFormula
from grape_spec.proof.codec import to_json
from grape_spec.proof.examine import write_queries
from grape_spec.references import bibtex

from grape_verified import __version__
from grape_verified.cli import contracts as shown_contracts
from grape_verified.cli import parameters as asked
from grape_verified.cli import progress, tables
from grape_verified.cli.given import (
    FAILS,
    HOLDS,
    as_it_is_now,
    entry_named,
    kept_as_they_come,
    load,
    named_claims,
    named_work,
    read_ledger,
    refuse,
    refuse_unwritable,
    selected,
    write_ledger,
    writing,
)
from grape_verified.cli.profile import check_profile
from grape_verified.cli.tables import print_json
from grape_verified.cli.target import WrongCall, imported
from grape_verified.cli.target import binding as parsed_binding
from grape_verified.cli.target import option as parsed_option
from grape_verified.cli.watched import Ended, Tell, watched
from grape_verified.conformance import contexts, verification
from grape_verified.conformance import identify as identify_function
from grape_verified.conformance.checking import checked
from grape_verified.conformance.identification import Identification
from grape_verified.conformance.ledger import Ledger, NotALedger
from grape_verified.conformance.mistakes import WrongContract
from grape_verified.conformance.profiles import NotARun
from grape_verified.conformance.registry import every_contract
from grape_verified.conformance.report import FailOn, Report
from grape_verified.conformance.subject import name_of
from grape_verified.docs.derivations import BrokenDerivation, as_dict
from grape_verified.docs.mathematics import BrokenMathematics
from grape_verified.docs.verdicts import verdicts

#: The default configuration of the documentation.
MKDOCS = Path("mkdocs.yml")

app = typer.Typer(
    help="Post-training losses for language models, with machine-checked mathematics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    verification.leave_no_folder()
    if show:
        print(f"grape-verified {__version__}")
        raise typer.Exit(HOLDS)


@app.command()
def verify(
    names: asked.Names = None,
    modules: asked.From = None,
    as_json: asked.Json = False,
    ledger: asked.LedgerPath = asked.LEDGER,
    examples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Inputs per kernel property.")
    ] = verification.EXAMPLES,
    smt2: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write every SMT query to this folder, as SMT-LIB.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything again, unchanged or not.")] = False,
) -> None:
    """Prove the claims, check the kernels and record the evidence.

    What holds in the ledger is kept if nothing that it depends on has changed. With names, only those claims and the
    kernels that rest on them are run. The functions that contracts of --from name are checked.
    """
    chosen, held = named_work(names, modules)
    refuse_unwritable(ledger)
    earlier = read_ledger(ledger)
    claims, kernels = verification.still_valid(earlier)
    if smt2 is not None:
        with writing("--smt2", smt2):
            smt2.mkdir(parents=True, exist_ok=True)
            for claim in chosen:
                write_queries(claim, smt2)
    wanted = (*(claim.id for claim in chosen), *held) if modules else tuple(names or ())

    def complete(run: Ledger) -> Ledger:
        now = as_it_is_now(ledger, earlier)
        return verification.merged(run, *verification.still_valid(now)).with_certificates(now.certificates)

    def so_far(found: list[verification.Record]) -> Ledger:
        return complete(verification.recorded(found))

    try:
        with kept_as_they_come(so_far, ledger) as keep:
            run = progress.verified(wanted, examples, () if fresh else (*claims, *kernels), keep)
    except WrongContract as wrong:  # a contract from outside, at an input that its other checks did not draw
        refuse(str(wrong))
    write_ledger(complete(run), ledger)
    if as_json:
        print_json(to_json(run))
    else:
        tables.print_run(run, ledger)
    raise typer.Exit(HOLDS if run.holds else FAILS)


@app.command()
def certify(
    names: asked.Names = None,
    modules: asked.From = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the certified theorems to this folder, as .v files.")
    ] = None,
    as_json: asked.Json = False,
    ledger: asked.LedgerPath = asked.LEDGER,
) -> None:
    """Have Coq certify the claims, part by part.

    The certificates are added to the ledger. Parts whose text has not changed since are not run again.
    """
    chosen = selected(named_claims(names, modules))
    seen = read_ledger(ledger)
    refuse_unwritable(ledger)
    if out is not None:
        with writing("--out", out):
            out.mkdir(parents=True, exist_ok=True)

    def so_far(found: list[CertificateRecord]) -> Ledger:
        return as_it_is_now(ledger, seen).with_certificates(settled(found))

    try:
        with kept_as_they_come(so_far, ledger) as keep:
            records = progress.certified(chosen, seen, keep)
    except CoqMissing as missing:
        refuse(str(missing))
    complete = as_it_is_now(ledger, seen).with_certificates(records)
    write_ledger(complete, ledger)
    if out is not None:
        with writing("--out", out):
            write_subjects(theorems_of(complete.certificates), out)
    if as_json:
        print_json(to_json(records))
    else:
        tables.print_certificates(records, ledger)
    raise typer.Exit(HOLDS if all(record.status == CERTIFIED for record in records) else FAILS)


@app.command(name="list")
def list_claims(
    names: asked.Names = None,
    modules: asked.From = None,
    as_json: asked.Json = False,
    ledger: asked.LedgerPath = asked.LEDGER,
) -> None:
    """List claims with their status in the ledger.

    Each is proved, certified by Coq, measured on kernels, or not run. `list contracts` lists the contracts that `check`
    knows.
    """
    if names == ["contracts"]:
        load(modules)
        shown_contracts.print_all(shown_contracts.chosen(modules), as_json=as_json)
        return
    chosen, seen = selected(named_claims(names, modules)), read_ledger(ledger)
    rows = [(claim, verdicts(claim, seen)) for claim in chosen]
    if as_json:
        print_json([{"id": claim.id, **found._asdict(), "text": claim.text} for claim, found in rows])
    else:
        tables.print_verdicts(rows)


@app.command()
def show(
    id: asked.IdOrContract,
    modules: asked.FromOf = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print the statements in LaTeX.")] = False,
    as_json: asked.Json = False,
    ledger: asked.LedgerPath = asked.LEDGER,
) -> None:
    """Show a claim, a definition or a contract.

    A claim comes with its proof and evidence, a definition with what depends on it, a contract with its options and
    habits.
    """
    load(modules)
    if id in every_contract():
        shown_contracts.print_one(every_contract()[id], as_json=as_json)
        return
    entry = entry_named(id, modules)
    if isinstance(entry, Definition):
        _show_definition(entry, latex=latex, as_json=as_json)
        return
    seen = read_ledger(ledger)
    if as_json:
        coq = [_in_coq(entry, part, seen) for part in entry.parts]
        found, evidence = verdicts(entry, seen)._asdict(), to_json(seen.by_id.get(entry.id))
        derived = [shown for part in entry.parts if (shown := as_dict(entry, part))]
        print_json(
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
        print_json(shown)
    elif latex:
        print(shown["latex"])
    else:
        tables.print_definition(shown)


@app.command()
def cite(id: asked.Id, modules: asked.FromOf = None, as_json: asked.Json = False) -> None:
    """Print BibTeX for a claim or definition and for its source."""
    entry = entry_named(id, modules)
    entries = bibtex(entry, __version__, module=outside.module_of(id))
    if as_json:
        print_json({"id": id, "bibtex": entries})
    else:
        print(entries)


@app.command()
def check(
    target: asked.CheckTarget = None,
    contract: asked.As = None,
    modules: asked.FromOf = None,
    profile: asked.Trainer = None,
    option: asked.Fixed = None,
    habit: asked.Judged = None,
    bind: asked.Bind = None,
    examples: asked.Examples = 200,
    strict: asked.Strict = False,
    fail_on: Annotated[FailOn, typer.Option(help="What counts as failure; all: notes too.")] = "formula and robustness",
    as_json: asked.Json = False,
) -> None:
    """Check any function against a contract, property by property.

    Is its formula right, and is it robust in training? Exit status: 0 if nothing failed, 1 if something did, 2 if the
    command was called wrongly.
    """
    if profile is not None:
        if target or contract or modules or option or habit or bind or strict:
            refuse("--profile: got it together with a function or its options, expected it alone")
        check_profile(profile, examples, fail_on, as_json=as_json)
    if target is None or contract is None:
        refuse(
            "check: expected MODULE:FUNCTION and --as CONTRACT, or --profile TRAINER; if you do not know the contract, "
            "run identify"
        )
    try:
        options = dict(map(parsed_option, option or ()))
        bound = dict(map(parsed_binding, bind or ()))

        def work(tell: Tell) -> Report:
            load(modules)
            return checked(
                imported(target),
                contract,
                examples=examples,
                options=options,
                habits=habit or (),
                bind=bound,
                strict=strict,
                seen=tell,
            )

        so_far: list[Report] = []
        report = watched(work, f"checking {target} as {contract}", so_far.append)
        if isinstance(report, Ended):
            report = so_far[-1].broken_off(report.sentence) if so_far else refuse(_ended_by_import(target, report))
    except (WrongCall, ValueError) as wrong:
        refuse(str(wrong))
    if as_json:
        print_json(report.as_dict())
    else:
        tables.print_report(report, options, fail_on)
    raise typer.Exit(FAILS if report.fails(fail_on) else HOLDS)


@app.command()
def identify(
    target: asked.IdentifyTarget,
    among: asked.Among = "",
    modules: asked.FromOf = None,
    bind: asked.Bind = None,
    examples: Annotated[int, typer.Option(min=1, metavar="N", help="Inputs per property of the final check.")] = 200,
    as_json: asked.Json = False,
) -> None:
    """Find out which loss a function is.

    Prints its contract, options and habits, and how well it fits. Exit status: 0 if it fits, 1 if it does not, 2 if the
    command was called wrongly.
    """
    try:
        bound = dict(map(parsed_binding, bind or ()))
        names = [name for name in among.split(",") if name]

        def work(tell: Tell) -> Identification:
            load(modules)
            function = imported(target)
            tell(Identification(name_of(function), "broken off"))
            return identify_function(function, among=names, bind=bound, examples=examples, progress=tell)

        begun: list[Identification] = []
        found = watched(work, f"identifying {target}", begun.append)
        if isinstance(found, Ended):
            found = replace(begun[-1], broken_off=found.sentence) if begun else refuse(_ended_by_import(target, found))
    except (WrongCall, ValueError) as wrong:
        refuse(str(wrong))
    if as_json:
        print_json(found.as_dict())
    else:
        tables.print_identification(found, target)
    raise typer.Exit(HOLDS if found.fits else FAILS)


@app.command(name="contexts")
def show_contexts(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Contracts or functions. Default: everything.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Also compile with inductor.")] = False,
    as_json: asked.Json = False,
) -> None:
    """Call every public function in every training context.

    Each result is compared with that of a plain call.
    """
    try:
        cells = contexts.table(tuple(names or ()), full=full)
    except ValueError as unknown:
        refuse(str(unknown))
    if as_json:
        print(json.dumps([asdict(cell) for cell in cells], ensure_ascii=False))
    else:
        print("\n".join(contexts.lines(cells)))
    raise typer.Exit(FAILS if any(cell.status == "WRONG" for cell in cells) else HOLDS)


def _ended_by_import(target: str, end: Ended) -> str:
    return f"cannot import {target}: {end.sentence}"


# -- the documentation ------------------------------------------------------------------------------------------

docs_app = typer.Typer(help="Build or serve the documentation, from a checkout.", no_args_is_help=True)
app.add_typer(docs_app, name="docs")

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The configuration file of mkdocs.")]


@docs_app.command(name="build")
def docs_build(
    site_dir: Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder.")] = Path("site"),
    config: Config = MKDOCS,
    ledger: asked.LedgerPath = asked.LEDGER,
) -> None:
    """Write the generated pages and build the site.

    Formulas are read back from their LaTeX first. Any mismatch, warning, dead link or wrong derivation is an error.
    """
    with _errors_in_a_line():
        _site(config).build(config, site_dir, ledger)


@docs_app.command(name="serve")
def docs_serve(config: Config = MKDOCS, ledger: asked.LedgerPath = asked.LEDGER) -> None:
    """Write the generated pages and serve the site locally."""
    with _errors_in_a_line():
        _site(config).serve(config, ledger)


@contextmanager
def _errors_in_a_line() -> Iterator[None]:
    """Report an error in a ledger, a derivation, a chapter or a formula in one line, without a traceback."""
    try:
        yield
    except NotALedger as wrong:
        refuse(f"--ledger: {wrong}")
    except NotARun as wrong:
        refuse(f"docs/conformance: {wrong}")
    except (BrokenDerivation, WrongFormula, BrokenMathematics, subprocess.CalledProcessError) as failure:
        print(f"grape-verified: {failure}", file=sys.stderr)
        raise typer.Exit(FAILS) from None


def _site(config: Path) -> ModuleType:
    """The module that builds the site; its dependencies come with the extra `docs`."""
    if not config.is_file():
        refuse(f"--config: {config} does not exist; the documentation is built from a checkout")
    try:
        return importlib.import_module("grape_verified.docs.site")
    except ModuleNotFoundError as missing:
        refuse(f"the package {missing.name} is not installed: run pip install 'grape-verified[docs]'")

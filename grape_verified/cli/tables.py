"""The output of the commands for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grape_spec import render
from grape_spec.coq.certify import CERTIFIED, CertificateRecord, coq_statement_or_reason, label
from grape_spec.language.claims import Claim
from grape_spec.language.registry import DERIVATIONS
from grape_spec.paper.layout import together
from grape_spec.paper.plain import plain
from grape_spec.proof.examine import ClaimRecord, PartRecord
from grape_spec.proof.rules import GENERAL
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from grape_verified.conformance.identification import Identification, Variety
from grape_verified.conformance.ledger import KernelRecord, Ledger, Summary
from grape_verified.conformance.profiles import Run
from grape_verified.conformance.report import VERDICTS, Departure, FailOn, Finding, Report
from grape_verified.docs.derivations import heading, verdict
from grape_verified.docs.reference import contracts_about
from grape_verified.docs.verdicts import Verdicts, kernel_verdict, verdicts

#: The most contracts for which the output says why a function cannot be called as them.
REFUSALS = 6

_COLOURS = {
    "proved": "green",
    "fully proved": "green",
    "passed": "green",
    "accepted": "green",
    "certified": "green",
    "measured": "green",
    "unknown": "yellow",
    "noted": "yellow",
    "not certified": "yellow",
    "refuted": "red",
    "failed": "red",
    "rejected": "red",
    "right": "green",
    "wrong": "red",
    "not run": "dim",
    "no kernel": "dim",
}


def print_verdicts(rows: Iterable[tuple[Claim, Verdicts]]) -> None:
    """Claims with what a ledger says of them."""
    table = _table("claim", "status", "Coq", "kernels", "statement")
    for claim, found in rows:
        table.add_row(claim.id, *map(_coloured, found), escape(claim.text))
    _out().print(table)


def print_contracts(rows: Iterable[Sequence[str]]) -> None:
    """Contracts with their functions, tensors and options."""
    table = _table("contract", "function", "tensors", "options")
    for row in rows:
        table.add_row(*map(escape, row))
    _out().print(table)


def print_run(run: Ledger, path: Path) -> None:
    """A run: claims, kernels, everything that does not hold, and the summary."""
    out = _out()
    out.print(_claim_table(run.claims))
    out.print()
    if run.kernels:
        out.print(_kernel_table(run.kernels))
        out.print()
    for line in _shortcomings(run):
        out.print(line, markup=False)
    out.print(f"{_in_words(run.summary)} Ledger: {path}", markup=False, highlight=False)
    if kept := _kept(run):
        out.print(kept, markup=False, highlight=False)


def print_certificates(records: Sequence[CertificateRecord], path: Path) -> None:
    """What Coq says of the parts: a table by subject, what is not certified and why, and the totals."""
    out = _out()
    table = _table("subject", "parts certified", "claims certified", "seconds")
    by_subject: dict[str, list[CertificateRecord]] = {}
    for record in records:
        by_subject.setdefault(record.claim.split(".")[0], []).append(record)
    for subject, own in by_subject.items():
        table.add_row(subject, *_certified_counts(own), f"{sum(record.seconds for record in own):.1f}")
    out.print(table)
    out.print()
    for record in records:
        if record.status != CERTIFIED:
            out.print(f"{label(record.claim, record.part)}: {record.reason}", markup=False, highlight=False)
    parts, claims = _certified_counts(records)
    coq = ", ".join(sorted({record.coq for record in records}))
    axioms = ", ".join(sorted({axiom for record in records for axiom in record.axioms})) or "none"
    out.print(
        f"{parts} parts and {claims} claims certified by Coq {coq}. Axioms: {axioms}.", markup=False, highlight=False
    )
    out.print(f"Ledger: {path}", markup=False, highlight=False)


def _certified_counts(records: Sequence[CertificateRecord]) -> tuple[str, str]:
    """Parts, and claims all of whose parts are certified."""
    whole: dict[str, bool] = {}
    for record in records:
        whole[record.claim] = whole.get(record.claim, True) and record.status == CERTIFIED
    parts = sum(record.status == CERTIFIED for record in records)
    return f"{parts} of {len(records)}", f"{sum(whole.values())} of {len(whole)}"


def print_claim(claim: Claim, seen: Ledger) -> None:
    """A claim with its proof, its definitions and its evidence."""
    out = _out()
    shown = render.as_dict(claim)
    out.print(f"[bold]{claim.id}[/]  {escape(claim.text)}")
    for line in (*_parts(shown["parts"]), *_derivations(claim, seen), "\nwhere", *_symbols(shown["symbols"])):
        out.print(line, markup=False)
    for entry in shown["definitions"]:
        convention = " (a convention)" if entry["convention"] else ""
        out.print(f"\n{entry['id']}: {entry['text']}{convention}\n{_block(entry['plain'])}", markup=False)
    for variant in shown["wrong"]:
        out.print(f"\nfalse: {variant['text']}\n{_block(variant['plain'])}", markup=False)
    _print_relations(out, shown, ("uses", "used_by", "lemmas"))
    out.print(f"\nsource: {claim.source}\nversion: {claim.hash[:16]}", markup=False)
    out.print(f"evidence: {_evidence(claim, seen)}", markup=False)
    out.print(f"kernels: {_kernels(claim, seen)}", markup=False)
    for line in _in_coq(claim, seen):
        out.print(line, markup=False, highlight=False)


def _in_coq(claim: Claim, seen: Ledger) -> Iterator[str]:
    """What Coq's kernel says of the parts, and the theorems that it is asked to accept."""
    yield f"\nCoq: {seen.certified(claim)}"
    for part in claim.parts:
        record = seen.certificate(claim, part)
        why = f": {record.reason}" if record is not None and record.reason else ""
        yield f"\n(* {label(claim.id, part.name)}: {seen.certified_part(claim, part)}{why} *)"
        yield coq_statement_or_reason(part, claim)


def print_definition(shown: Mapping[str, Any]) -> None:
    """A definition with what it is built from and what depends on it."""
    out = _out()
    convention = " (a convention)" if shown["convention"] else ""
    out.print(f"[bold]{shown['id']}[/]  {escape(shown['text'])}{convention}")
    for line in (f"\n{_block(shown['plain'])}", "\nwhere", *_symbols(shown["symbols"])):
        out.print(line, markup=False)
    _print_relations(out, shown, ("uses", "used_by", "claims"))
    out.print(f"\nsource: {shown['source']}", markup=False)


def print_report(report: Report, options: Mapping[str, Any], fail_on: FailOn) -> None:
    """The findings on a function that was checked with some options fixed."""
    out = _out()
    table = _table("property", "result", "examples", "")
    for finding in report.properties:
        others = [departure for departure in finding.departures if departure.text not in finding.text]
        more = f" (and {len(others)} more)" if finding.status == "failed" and others else ""
        table.add_row(finding.name, _coloured(finding.status), str(finding.examples or ""), escape(finding.text + more))
    out.print(table)
    told: list[tuple[str, Finding, Departure]] = [
        (kind, *found) for kind in VERDICTS for found in report.departures(kind)
    ]
    if fail_on == "all":
        told += [("noted", *found) for found in report.notes()]
    for kind, finding, departure in told:
        out.print(f"\n[bold]{kind}, {finding.name}[/]: {escape(departure.text)}", soft_wrap=True)
        print(departure.counterexample)  # unwrapped, so that it can be pasted
    undefined = sum(finding.undefined for finding in report.properties)
    if undefined:
        out.print(f"\nNot compared, as the spec gives them no value: {undefined} numbers.")
    at_defaults = [name for name in report.not_offered if name not in options]
    if at_defaults:
        out.print(f"\nOptions it does not take, checked at their defaults only: {', '.join(at_defaults)}.")
    out.print(f"\n{report.in_words(fail_on)}", markup=False, soft_wrap=True)


def print_identification(found: Identification, target: str) -> None:
    """Which loss a function is, or how it differs from the nearest."""
    out, name = _out(), found.function
    if found.broken_off:
        out.print(f"{name} cannot be identified: {found.broken_off}.", markup=False, soft_wrap=True)
        return
    if found.variety is None:
        refused = dict(found.refused or {})
        out.print(f"{name} cannot be called as any of the contracts:", markup=False)
        for contract, why in list(refused.items())[:REFUSALS]:
            out.print(f"  {contract}: {why}", markup=False, soft_wrap=True)
        if refused.keys() > set(list(refused)[:REFUSALS]):
            out.print(f"  … {len(refused) - REFUSALS} more: --json lists all, --among NAME shows one", markup=False)
        return
    if not found.fits:
        shown = f"{name} is none of the losses of the spec. Nearest: {found.variety.in_words()}."
        out.print(shown, markup=False, soft_wrap=True)
        out.print(f"It agrees with the spec on {found.explained} of {found.tried} ordinary inputs.", markup=False)
        if found.departure:
            out.print(f"\nIt differs: {found.departure.text}", markup=False, soft_wrap=True)
            print(found.departure.counterexample)
        return
    out.print(f"{name} is {found.variety.in_words()}.", markup=False, soft_wrap=True)
    if found.variety.takes:
        out.print(f"Its options: {', '.join(found.variety.takes)}.", markup=False, soft_wrap=True)
    for tie in found.ties:
        out.print(f"Cannot be told apart from {tie.variety.in_words()} ({tie.why}).", markup=False, soft_wrap=True)
    assert found.report is not None
    out.print(found.report.verdicts_in_words(), markup=False, soft_wrap=True)
    if not found.report.accepted:
        out.print(f"To see the findings: {_call_of_check(found.variety, target)}", markup=False, soft_wrap=True)


def _call_of_check(variety: Variety, target: str) -> str:
    """The command that checks a function as what it was found to be."""
    options = [f"--option {name}={value}" for name, value in variety.options.items()]
    habits = [f"--habit {habit}" for habit in variety.habits]
    return " ".join(["grape-verified check", target, f"--as {variety.contract}", *options, *habits])


def print_profile(run: Run) -> None:
    """The functions of a trainer, one per line, each with its first finding."""
    out = _out()
    table = Table(box=None, pad_edge=False)
    for column in ("function", "contract", "formula", "robustness", "habits"):
        table.add_column(column, no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for row in run.functions:
        first = f"{row.findings[0].property}: {row.findings[0].text}" if row.findings else row.reason
        habits = ", ".join(row.habits)
        table.add_row(row.name, row.contract, _coloured(row.formula), row.robustness, habits, escape(first))
    out.print(table)
    versions = ", ".join(f"{package} {version}" for package, version in run.versions.items())
    out.print(f"\n{versions}; {run.examples} inputs for each property.", markup=False, highlight=False)


def _out() -> Console:
    """The console, wide enough that piped output is not cut."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _coloured(status: str) -> str:
    return f"[{_COLOURS[status]}]{status}[/]" if status in _COLOURS else status


# -- a run ------------------------------------------------------------------------------------------------------


def _claim_table(claims: Sequence[ClaimRecord]) -> Table:
    table = _table("claim", "status", "scope", "proof", "points", "mutants", "seconds")
    for record in claims:
        refuted, total = (sum(getattr(p.mutants, name) for p in record.parts) for name in ("refuted", "total"))
        table.add_row(
            record.id,
            _coloured("fully proved" if record.fully_proved else record.status),
            _scope(record.scope),
            ", ".join(dict.fromkeys(part.engine for part in record.parts)),
            str(record.effective),
            f"{refuted}/{total}",
            f"{record.seconds:.2f}",
        )
    return table


def _scope(scopes: Sequence[str]) -> str:
    """The scopes of the parts of a claim; those at chosen sizes are only counted."""
    general = [scope for scope in scopes if scope == GENERAL]
    sized = len(scopes) - len(general)
    return " and ".join([*general, *([f"{sized} choices of sizes"] if sized else [])])


def _kernel_table(kernels: Sequence[KernelRecord]) -> Table:
    table = _table("kernel", "contract", "verdict", "properties", "examples", "seconds")
    for kernel in kernels:
        table.add_row(
            kernel.function,
            kernel.contract,
            _coloured("accepted" if kernel.accepted else "rejected"),
            f"{len(kernel.named('passed'))}/{len(kernel.properties)} passed",
            str(sum(finding.examples for finding in kernel.properties)),
            f"{kernel.seconds:.2f}",
        )
    return table


def _shortcomings(run: Ledger) -> Iterator[str]:
    """A line for everything that does not hold."""
    for record in run.claims:
        for part in record.parts:
            where = f"{record.id} [{part.name}]" if part.name else record.id
            yield from (f"{where}: {fault}" for fault in _faults(part))
        yield from (f"{record.id}: false variant not refuted: {v.text}" for v in record.wrong if not v.refuted)
        if record.waits_for:
            yield f"{record.id}: uses claims that are not proved: {', '.join(record.waits_for)}"
    for kernel in run.kernels:
        failed = (finding for finding in kernel.properties if finding.status == "failed")
        yield from (f"{kernel.function}: {finding.name}: {finding.text}" for finding in failed)


def _faults(part: PartRecord) -> Iterator[str]:
    if part.second.opinion == "contradicts":
        yield f"contradicted by the second route: {part.second.detail}"
    if part.contradiction and part.status == "refuted":
        yield f"both proved and refuted, a bug in the checker; witness {part.witness}"
    elif part.status == "refuted":
        yield f"refuted; witness {part.witness}"
    elif part.status == "unknown":
        yield f"unknown: {part.reason}"
    if not part.satisfiable:
        yield "no point satisfies the assumptions"
    if not part.sides_differ:
        yield "both sides are the same expression"
    for number, line in enumerate(part.derivation, 1):
        if line.status != "proved":
            why = f"; witness {line.witness}" if line.witness else f": {line.why_not}"
            yield f"line {number} of its derivation, {line.reason!r}: {line.status}{why}"
    yield from (f"a mutant survived: {text}" for text in part.mutants.survived)
    yield from (f"listed as equivalent, but there is no such mutant: {text}" for text in part.mutants.stale)


def _kept(run: Ledger) -> str:
    """How many records are from earlier runs, and the date of the first of them; empty if there are none."""
    counts = []
    for kind, records in (("claims", run.claims), ("kernels", run.kernels)):
        dates = [record.created for record in records if record.created != run.created]
        if dates:
            counts.append(f"{len(dates)} of {len(records)} {kind} unchanged since {min(dates)}: kept")
    return "; ".join([*counts, "--fresh runs them again."]) if counts else ""


def _in_words(s: Summary) -> str:
    return (
        f"{s.fully_proved} of {s.claims} claims fully proved, {s.unknown} unknown, {s.refuted} refuted, "
        f"{s.at_sizes_only} at chosen sizes only; {s.contradictions} contradictions between engines.\n"
        f"Second route: {s.equations_agree} of {s.equations} equations agree, {s.equations_contradicted} contradict, "
        f"{s.equations_not_decided} not decided.\n"
        f"{s.mutants_refuted} of {s.mutants} mutants refuted, {s.mutants_implied} implied by the claim, "
        f"{s.mutants_listed} listed as equivalent, {s.mutants_survived} survived; "
        f"{s.wrong_variants} false variants.\n"
        f"{s.derivations} derivations, {s.derivation_lines_proved} of {s.derivation_lines} lines proved.\n"
        f"{s.kernels_accepted} of {s.kernels} kernels accepted.\n"
        f"Mean time per claim: {1000 * s.mean_prove_seconds:.0f} ms to prove, {s.mean_claim_seconds:.2f} s with its "
        f"audit. Total: {s.seconds:.1f} s."
    )


# -- one entry --------------------------------------------------------------------------------------------------


def _parts(parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        yield (f"\n  [{part['name']}]\n" if part["name"] else "\n") + _block(part["plain"])
        yield f"    proof: {part['rule']}"
        yield from (f"{_block(step['plain'], 6, '= ')}   by {step['rule']}" for step in part["steps"])


def _block(text: str, indent: int = 2, sign: str = "") -> str:
    """The lines of a formula, indented, after the sign of a relation."""
    first, *rest = text.split("\n")
    lines = [sign + first, *(" " * len(sign) + line for line in rest)]
    return "\n".join(" " * indent + line for line in lines)


def _derivations(claim: Claim, seen: Ledger) -> Iterator[str]:
    """The derivations of the parts: a line of each, and below it the reason."""
    for part in claim.parts:
        stages = DERIVATIONS.get((claim.id, part.name), ())
        if stages:
            name = f" [{part.name}]" if part.name else ""
            yield f"\nderivation{name}, lines checked: {verdict(claim, part, seen)}"
        for stage in stages:
            if said := heading(stage, render.plain_text):
                yield f"    {said}"
            (start, *texts), below = together(stage.expressions)
            yield _block(plain(start), 6)
            for line, text in zip(stage.lines, texts, strict=True):
                yield f"{_block(plain(text), 4, f'{line.sign} ')}\n        {line.reason}"
            yield from (_block(plain(line), 6) for line in below)


def _symbols(symbols: Iterable[Mapping[str, str]]) -> Iterator[str]:
    for entry in symbols:
        mark = "" if entry["plain"] == entry["name"] else f" ({entry['name']})"
        yield f"  {entry['plain']}{mark}: {entry['domain']}; {entry['text']}"


def _print_relations(out: Console, shown: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if shown[name]:
            out.print(f"\n{name.replace('_', ' ')}: {', '.join(shown[name])}", markup=False)


def _evidence(claim: Claim, seen: Ledger) -> str:
    record, status = seen.of(claim), seen.status(claim)
    if record is None:
        return f"{status}: the ledger has an earlier version of this claim" if claim.id in seen.by_id else status
    mutants = [part.mutants for part in record.parts]
    refuted, total = sum(m.refuted for m in mutants), sum(m.total for m in mutants)
    true = sum(len(m.implied) + len(m.listed) for m in mutants)
    scope = _scope(record.scope)
    return (
        f"{status}, {scope}; {record.effective} points; {refuted} of {total} mutants refuted, {true} true; "
        f"second route: {_second(record)}"
    )


def _kernels(claim: Claim, seen: Ledger) -> str:
    """What was measured of the kernels that implement a claim, and a line for each contract."""
    lines = (f"\n  {c.kernel} as {c.name}: {kernel_verdict(c.name, seen)}" for c in contracts_about(claim.id))
    return verdicts(claim, seen).kernels + "".join(lines)


def _second(record: ClaimRecord) -> str:
    """What the second route found: a count, and a line for each equation that it did not confirm."""
    seen = [(part.name, part.second) for part in record.parts if part.second.opinion != "no equation"]
    if not seen:
        return "no equation"
    lines = [f"{sum(second.opinion == 'agrees' for _, second in seen)} of {len(seen)} equations agree"]
    for name, second in seen:
        if second.opinion != "agrees":
            lines.append(f"  {name + ': ' if name else ''}{second.opinion}: {second.detail}")
    return "\n".join(lines)


def print_json(data: object) -> None:
    """Print data as JSON, in one line."""
    print(json.dumps(data, ensure_ascii=False))

"""Runs with a bar on standard error that shows how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from grape_spec.coq.certify import CertificateRecord, certify_claims
from grape_spec.language.claims import Claim
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from grape_verified.conformance import verification
from grape_verified.conformance.ledger import Ledger


def certified(
    claims: list[Claim], seen: Ledger, keep: Callable[[CertificateRecord], None]
) -> tuple[CertificateRecord, ...]:
    """Have Coq certify claims; ``keep`` is given each record as it is made."""
    with _bar() as progress:
        bar = progress.add_task("starting Coq", total=None)

        def finished(record: CertificateRecord) -> None:
            keep(record)
            progress.update(bar, advance=1, description=record.claim)

        return certify_claims(
            claims,
            known=seen.certificates,
            started=lambda count: progress.update(bar, total=count),
            finished=finished,
        )


def _bar() -> Progress:
    columns = TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def verified(
    names: tuple[str, ...],
    examples: int,
    earlier: Iterable[verification.Record],
    keep: Callable[[verification.Record], None],
) -> Ledger:
    """Examine claims and check kernels; ``keep`` is given each record as it is made."""
    with _bar() as progress:
        bar = progress.add_task("starting", total=None)

        def started(count: int) -> None:
            progress.update(bar, total=count)

        def finished(task: verification.Task, record: verification.Record) -> None:
            keep(record)
            progress.update(bar, advance=1, description=task[1])

        return verification.verify(names, examples=examples, earlier=earlier, started=started, finished=finished)

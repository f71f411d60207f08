"""The main job: examine claims and check kernels side by side, and put what was seen into one ledger."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import gettempdir
from time import perf_counter

import torch
from grape_spec.language.registry import CLAIMS, all_uses, select
from grape_spec.proof.examine import ClaimRecord, examine
from hypothesis.configuration import set_hypothesis_home_dir

import grape_verified
from grape_verified.conformance.checking import check
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.ledger import KernelRecord, Ledger, summarise, versions

#: Inputs on which each property of each kernel is tried; the tests try more.
EXAMPLES = 40

#: A task of a run: what kind it is, and the id of a claim or the name of a contract.
Task = tuple[str, str]


def tasks(names: tuple[str, ...]) -> list[Task]:
    """What a run consists of: the claims asked for with all that they use, and the kernels that rest on them."""
    claims = [claim.id for claim in select(names)]
    wanted = set(claims).union(*(all_uses(id) for id in claims))
    kernels = [c.name for c in CONTRACTS.values() if not names or _rests_on(c, names)]
    every = [claim.id for claim in select(()) if claim.id in wanted]
    return [*(("kernel", name) for name in kernels), *(("claim", id) for id in every)]


def _rests_on(contract: Contract, names: Iterable[str]) -> bool:
    return any(id == name or id.startswith(name + ".") for name in names for id in contract.rests_on)


def verify(
    names: tuple[str, ...] = (),
    *,
    examples: int = EXAMPLES,
    processes: int | None = None,
    finished: Callable[[Task], None] = lambda task: None,
) -> Ledger:
    """Prove the claims, check the kernels, and return the ledger of the run.

    Arguments:
        names: ids of claims, or families such as ``ppo``; none stands for everything.
        examples: inputs on which each property of a kernel is tried; twice as many for the options.
        processes: how many work side by side; None for one a core, up to four.
        finished: called with each task as it ends.

    Raises: KeyError for a name that is no claim and no family; it names the nearest ids.
    """
    start = perf_counter()
    asked = tasks(names)
    records: dict[Task, ClaimRecord | KernelRecord] = {}
    for task, record in _run(asked, examples, processes or min(4, os.cpu_count() or 1)):
        records[task] = record
        finished(task)
    seen = [records[task] for task in asked]
    claims = [record for record in seen if isinstance(record, ClaimRecord)]
    kernels = [record for record in seen if isinstance(record, KernelRecord)]
    return summarise(claims, kernels, perf_counter() - start)


def still_valid(ledger: Ledger) -> tuple[tuple[ClaimRecord, ...], tuple[KernelRecord, ...]]:
    """The records of claims and kernels in an earlier ledger that are about what is here now.

    A claim has to have the hash that it had, a kernel to rest on the same claims and definitions, none of which has
    another hash. Of a ledger that was made with another version of any package, or by other code, nothing counts.
    """
    if ledger.versions != versions():
        return (), ()
    changed = {r.id for r in ledger.claims if r.id not in CLAIMS or r.hash != CLAIMS[r.id].hash}
    rests_on = {contract.name: contract.rests_on for contract in CONTRACTS.values()}
    claims = tuple(record for record in ledger.claims if record.id not in changed)
    kernels = tuple(
        record
        for record in ledger.kernels
        if record.rests_on == rests_on.get(record.contract) and changed.isdisjoint(record.rests_on)
    )
    return claims, kernels


def merged(run: Ledger, claims: Iterable[ClaimRecord], kernels: Iterable[KernelRecord]) -> Ledger:
    """The ledger of a run with earlier records of what the run was not about; its date and seconds are the run's."""
    by_id = {record.id: record for record in (*claims, *run.claims)}
    by_contract = {record.contract: record for record in (*kernels, *run.kernels)}
    records = [by_id[id] for id in CLAIMS if id in by_id]
    kept = [by_contract[name] for name in CONTRACTS if name in by_contract]
    return replace(summarise(records, kept, run.summary.seconds), created=run.created)


def _run(asked: list[Task], examples: int, processes: int) -> Iterator[tuple[Task, ClaimRecord | KernelRecord]]:
    """Each task with its record, as it ends; a single task is not worth another process."""
    workers = min(processes, len(asked))
    if workers == 1:
        yield from ((task, run_task(task, examples)) for task in asked)
        return
    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_alone) as pool:
        running = {pool.submit(run_task, task, examples): task for task in asked}
        try:
            yield from ((running[future], future.result()) for future in as_completed(running))
        except BaseException:  # an interrupt, above all: what has not begun is not to begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _alone() -> None:
    """One thread for each process, and nothing of Hypothesis left in the current folder."""
    torch.set_num_threads(1)
    leave_no_folder()


def leave_no_folder() -> None:
    """Keep what Hypothesis caches in the system's folder for temporary files, for a run of the command line."""
    set_hypothesis_home_dir(Path(gettempdir()) / "grape_verified_hypothesis")


def run_task(task: Task, examples: int) -> ClaimRecord | KernelRecord:
    """The record of one task."""
    kind, name = task
    return examine(name) if kind == "claim" else check_kernel(name, examples)


def check_kernel(name: str, examples: int) -> KernelRecord:
    """Check our own kernel against its contract, strictly."""
    start = perf_counter()
    report = check(getattr(grape_verified, CONTRACTS[name].kernel), name, examples=examples, strict=True)
    return KernelRecord(**vars(report), rests_on=CONTRACTS[name].rests_on, seconds=perf_counter() - start)

"""The main job: examine claims and check kernels in parallel, and record the evidence in one ledger."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import fields, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from tempfile import gettempdir
from time import perf_counter

import torch
from grape_spec import outside
from grape_spec.language.claims import Claim
from grape_spec.language.registry import CLAIMS, all_uses, select
from grape_spec.proof.examine import ClaimRecord, examine
from grape_spec.proof.fingerprint import fingerprints, joint
from hypothesis.configuration import set_hypothesis_home_dir

from grape_verified.conformance.checking import check
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.ledger import OF_CLAIMS, OF_KERNELS, KernelRecord, Ledger, now, summarise, versions
from grape_verified.conformance.registry import contract_named, every_contract, load, module_of
from grape_verified.conformance.report import Judgement

#: The number of inputs for each property of each kernel; the tests use more.
EXAMPLES = 40

#: So many tasks of one worker are worth its start.
TASKS_OF_A_WORKER = 4

#: A task of a run: its kind, and the id of a claim or the name of a contract.
Task = tuple[str, str]

Record = ClaimRecord | KernelRecord


def tasks(names: tuple[str, ...]) -> list[Task]:
    """The tasks of a run: the named claims with all that they use, the kernels that rest on them, named contracts."""
    claims = [claim.id for claim in claims_named(names)]
    wanted = set(claims).union(*(all_uses(id) for id in claims))
    kernels = [contract.name for contract in every_contract().values() if not names or _is_asked(contract, names)]
    every = [claim.id for claim in select(()) if claim.id in wanted]
    return [*(("kernel", name) for name in kernels), *(("claim", id) for id in every)]


def claims_named(names: tuple[str, ...]) -> list[Claim]:
    """The claims under those ids or families; all for none. A name may also be that of a contract from outside.

    Raises: KeyError for a name that is none of these; it names the nearest ids.
    """
    of_claims = tuple(name for name in names if _is_of_claims(name) or not module_of(name))
    return select(of_claims) if of_claims or not names else []


def _is_of_claims(name: str) -> bool:
    return any(id == name or id.startswith(name + ".") for id in CLAIMS)


def _is_asked(contract: Contract, names: Iterable[str]) -> bool:
    """Whether a contract is named, or rests on something named; none of ours rests on what is from outside."""
    if module_of(contract.name):
        return contract.name in names or _rests_on(contract, names)
    return _rests_on(contract, [name for name in names if not outside.module_of(name) and not module_of(name)])


def _rests_on(contract: Contract, names: Iterable[str]) -> bool:
    return any(id == name or id.startswith(name + ".") for name in names for id in contract.rests_on)


def verify(
    names: tuple[str, ...] = (),
    *,
    examples: int = EXAMPLES,
    processes: int | None = None,
    earlier: Iterable[Record] = (),
    started: Callable[[int], None] = lambda count: None,
    finished: Callable[[Task, Record], None] = lambda task, record: None,
) -> Ledger:
    """Prove the claims, check the kernels, and return the ledger of the run.

    Arguments:
        names: ids of claims, families such as ``ppo``, or contracts of loaded modules; everything if empty.
        examples: the number of inputs for each property of a kernel; twice as many for the options.
        processes: the number of parallel processes; None for one per core, up to four.
        earlier: records that still apply; those among them in which everything holds are kept.
        started: called with the number of tasks that are left.
        finished: called with each task as it ends, and with its record.

    Raises: KeyError for a name that is none of these; it names the nearest ids.
    """
    start, created = perf_counter(), now()
    asked = tasks(names)
    known = {_task(record): record for record in earlier if _need_not_be_repeated(record, examples)}
    records = {task: known[task] for task in asked if task in known}
    left = [task for task in asked if task not in records]
    started(len(left))
    with _running(left, examples, processes or min(4, os.cpu_count() or 1)) as ended:
        today = fingerprints() if left else {}  # while the workers start
        for task, record in ended:
            records[task] = replace(record, fingerprint=_fingerprint(record, today) or "", created=created)
            finished(task, records[task])
    return replace(recorded([records[task] for task in asked], perf_counter() - start), created=created)


def recorded(records: Sequence[Record], seconds: float = 0.0) -> Ledger:
    """The ledger of records that were made now."""
    claims = [record for record in records if isinstance(record, ClaimRecord)]
    kernels = [record for record in records if isinstance(record, KernelRecord)]
    return summarise(claims, kernels, seconds)


def _task(record: Record) -> Task:
    return ("claim", record.id) if isinstance(record, ClaimRecord) else ("kernel", record.contract)


def _need_not_be_repeated(record: Record, examples: int) -> bool:
    """Whether everything holds in it; what failed may have run out of time, and is tried again.

    A function from outside is checked in each run, as no fingerprint covers its code.
    """
    if isinstance(record, ClaimRecord):
        return record.sound
    return record.contract in CONTRACTS and record.accepted and record.examples >= examples


def _fingerprint(record: Record, today: Mapping[str, str]) -> str | None:
    return today.get(record.id) if isinstance(record, ClaimRecord) else joint(record.rests_on, today)


def still_valid(ledger: Ledger) -> tuple[tuple[ClaimRecord, ...], tuple[KernelRecord, ...]]:
    """The records of claims and kernels in an earlier ledger that still apply.

    Nothing that the examination or the check read may have changed since: neither what the fingerprint covers, nor the
    code and the versions of packages that took part. A contract reads the same entries as long as none of them changes.
    Records of modules that are not loaded are kept until they are.
    """
    here, today = versions(), fingerprints()
    of_claims, of_kernels = (
        all(ledger.versions.get(name) == here.get(name) for name in names) for names in (OF_CLAIMS, OF_KERNELS)
    )
    unchanged = (r for r in ledger.claims if r.fingerprint == _fingerprint(r, today) or outside.is_of_unloaded(r.id))
    kernels = (r for r in ledger.kernels if r.fingerprint == _fingerprint(r, today) or _is_of_unloaded(r))
    return tuple(unchanged) if of_claims else (), tuple(kernels) if of_kernels else ()


def _is_of_unloaded(record: KernelRecord) -> bool:
    """Whether a contract rests on definitions of a module that is not loaded."""
    return record.contract not in every_contract() and any(map(outside.is_of_unloaded, record.rests_on))


def merged(run: Ledger, claims: Iterable[ClaimRecord], kernels: Iterable[KernelRecord]) -> Ledger:
    """The ledger of a run with earlier records added; date and seconds are those of the run."""
    by_id = {record.id: record for record in (*claims, *run.claims)}
    by_contract = {record.contract: record for record in (*kernels, *run.kernels)}
    records = [by_id[id] for id in (*CLAIMS, *filter(outside.is_of_unloaded, by_id)) if id in by_id]
    kept = [by_contract[name] for name in every_contract() if name in by_contract]
    kept += filter(_is_of_unloaded, by_contract.values())
    return replace(summarise(records, kept, run.summary.seconds), created=run.created)


@contextmanager
def _running(asked: list[Task], examples: int, processes: int) -> Iterator[Iterator[tuple[Task, Record]]]:
    """Within: each task with its record, as it ends; a few run in this process, since workers take seconds to start."""
    workers = min(processes, len(asked) // TASKS_OF_A_WORKER)
    if workers < 2:
        yield ((task, run_task(task, examples)) for task in asked)
        return
    with ProcessPoolExecutor(workers, _processes(), initializer=_alone, initargs=(outside.loaded(),)) as pool:
        running = {pool.submit(run_task, task, examples): task for task in asked}
        try:
            yield ((running[future], future.result()) for future in as_completed(running))
        except BaseException:  # such as an interrupt: tasks that have not begun must not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _processes() -> BaseContext:
    """How workers start: from a server that has imported this package once, or each by itself where there is none."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    server = get_context("forkserver")
    server.set_forkserver_preload([__name__])
    return server


def _alone(modules: Iterable[str]) -> None:
    """Set up a worker: one thread, no files of Hypothesis in the current folder, the claims from outside.

    What a module prints while it is imported does not belong to the output of the run.
    """
    torch.set_num_threads(1)
    leave_no_folder()
    os.dup2(2, 1)
    for module in modules:
        load(module)


def leave_no_folder() -> None:
    """Move the cache of Hypothesis from the current folder to the temporary one, for runs of the command line."""
    set_hypothesis_home_dir(Path(gettempdir()) / "grape_verified_hypothesis")


def run_task(task: Task, examples: int) -> Record:
    """The record of one task."""
    kind, name = task
    return examine(name) if kind == "claim" else check_kernel(name, examples)


def check_kernel(name: str, examples: int) -> KernelRecord:
    """Check the function that a contract names against it; one of our own strictly."""
    start, contract = perf_counter(), contract_named(name)
    report = check(contract.function, contract, examples=examples, strict=name in CONTRACTS)
    rests_on, seconds = contract.rests_on, perf_counter() - start
    found = {entry.name: getattr(report, entry.name) for entry in fields(Judgement)}
    return KernelRecord(**found, rests_on=rests_on, seconds=seconds, examples=examples)

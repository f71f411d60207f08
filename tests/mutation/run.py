"""Kill mutants of the kernels: by their contracts, and by the tests written by hand.

Each mutant lives in a process of its own, forked from one that has imported everything that is slow to import but
nothing of `grape_verified`. There the module is imported from the mutated source, and what rests on it is tried,
cheapest first, until something fails: value, gradient and options of the contracts of the kernels that reach the
mutated function, the module's tests, and the other properties of those contracts. Tests that compile are left out: they
take long, and hold the same values.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import selectors
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .mutants import Key, Mutant, mutants

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).with_name("survivors.toml")

#: The losses that have a file of tests by their name.
_LOSSES = [path.stem[5:-5] for path in sorted(ROOT.glob("tests/losses/test_*_loss.py"))]

#: The tests of the metrics, which the losses share.
_METRICS = tuple(
    f"tests/test_every_loss.py::{name}"
    for name in (
        "test_metrics_are_finite_numbers_without_a_gradient",
        "test_where_no_token_counts_loss_terms_metrics_and_gradients_are_0",
    )
)

#: The tests of a module that are written by hand, besides those of its arguments.
TESTS = {
    f"grape_verified.losses.{name}": (f"tests/losses/test_{name}_loss.py",)
    for name in _LOSSES
    if (ROOT / f"grape_verified/losses/{name}.py").exists()
} | {
    "grape_verified.advantage": ("tests/test_advantage.py",),
    "grape_verified.aggregation": ("tests/test_aggregation.py",),
    "grape_verified.divergence": ("tests/test_divergence.py", "tests/test_top_k_divergence.py"),
    "grape_verified.importance": ("tests/test_importance.py",),
    "grape_verified.kl": ("tests/test_kl.py",),
    "grape_verified.losses.kl_term": ("tests/losses/test_kl_penalty.py",),
    "grape_verified.packing": ("tests/test_packing.py",),
    "grape_verified.numerics": ("tests/test_numerics.py", "tests/logprobs"),
    "grape_verified.losses.preference": tuple(f"tests/losses/test_{name}_loss.py" for name in ("preference", "cpo")),
    "grape_verified.losses.ppo": (
        "tests/losses/test_ppo_loss.py",
        "tests/losses/test_value_loss.py",
        "tests/losses/test_kl_penalty.py",
    ),
    "grape_verified.losses.output": (
        *(f"tests/losses/test_{name}_loss.py" for name in ("sft", "dpo", "reinforce")),
        *_METRICS,
    ),
    "grape_verified.losses.pairs": tuple(
        f"tests/losses/test_{name}_loss.py" for name in ("dpo", "preference", "orpo", "cpo", "displacement", "f_dpo")
    ),
    "grape_verified.losses.ratio": (
        *(f"tests/losses/test_{name}_loss.py" for name in ("ppo", "trpo", "grpo")),
        *_METRICS,
    ),
    "grape_verified.natural_gradient.conjugate_gradient": ("tests/natural_gradient",),
    "grape_verified.natural_gradient.fisher": ("tests/natural_gradient",),
    "grape_verified.natural_gradient.policy": ("tests/natural_gradient",),
    "grape_verified.natural_gradient.step": ("tests/natural_gradient",),
}

#: The tests of all functions that are cheap, and those that are drawn over all contracts.
OF_ALL, OVER_CONTRACTS = ("tests/test_arguments.py", "tests/test_defaults.py"), "tests/test_every_loss.py"

#: The properties that are tried before the tests, and those of the rest after them.
FIRST = ("value", "gradient", "options")

#: Drawn inputs for each property of a contract.
EXAMPLES = 40

#: Mutants alive at once, the seconds of a processor that each may take, and the share of them that has to be killed.
AT_ONCE, SECONDS, SHARE = 2, 60, 0.95
ASLEEP = 10


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: killed by "contracts", "tests", "import", "crash" or "time", or by nothing."""

    killed_by: str
    what: str = ""


@dataclass
class Outcome:
    """What became of all mutants."""

    verdicts: dict[Key, Verdict] = field(default_factory=dict)
    unknown: list[Key] = field(default_factory=list)
    stale: list[Key] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of mutants that were killed."""
        return sum(bool(v.killed_by) for v in self.verdicts.values()) / max(1, len(self.verdicts))

    @property
    def passed(self) -> bool:
        """Whether every survivor is listed, every listed one survives, and enough are killed."""
        return not self.unknown and not self.stale and self.share >= SHARE


# -- in the child -----------------------------------------------------------------------------------------------------


class _Planted(importlib.machinery.SourceFileLoader):
    """Loads a module from the source of a mutant instead of its file."""

    def __init__(self, mutant: Mutant, path: str) -> None:
        super().__init__(mutant.key.module, path)
        self.mutant = mutant

    def get_code(self, fullname: str) -> Any:
        return compile(self.mutant.source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutated module, and no other."""

    def __init__(self, mutant: Mutant, path: Path) -> None:
        self.mutant, self.path = mutant, str(path)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.mutant.key.module:
            return None
        loader = _Planted(self.mutant, self.path)
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def judge(mutant: Mutant | None, module: str) -> Verdict:
    """Try everything that rests on a module, mutated or as it is."""
    if mutant:
        sys.meta_path.insert(0, _Finder(mutant, path_of(module)))
    try:
        importlib.import_module("grape_verified")
    except Exception as error:
        return Verdict("import", repr(error))
    contracts = _contracts_on(module, mutant.key.function if mutant else "")
    steps: list[Callable[[], Verdict | None]] = [
        *(lambda name=name: _by_contract(name, FIRST) for name in contracts),
        lambda: _by_tests((*TESTS[module], *OF_ALL), "not compile"),
        lambda: _by_tests((OVER_CONTRACTS,), f"({' or '.join(contracts) or None}) and not compile"),
        *(lambda name=name: _by_contract(name, ()) for name in contracts),
    ]
    return next((verdict for step in steps if (verdict := step())), Verdict(""))


def _contracts_on(module: str, function: str) -> list[str]:
    """The contracts of the kernels of a module that reach a function, the kernel's own first; all without a function.

    A module without kernels is held by the contracts of others, those before any reduction.
    """
    import grape_verified
    from grape_verified.conformance import CONTRACTS

    kernels = {name: getattr(grape_verified, contract.kernel) for name, contract in CONTRACTS.items()}
    own = [name for name, kernel in kernels.items() if kernel.__module__ == module]
    if not any(getattr(getattr(grape_verified, name), "__module__", "") == module for name in grape_verified.__all__):
        return [name for name, contract in CONTRACTS.items() if contract.wrt and not contract.reduced]
    reached = {name: _reached_from(module, CONTRACTS[name].kernel) for name in own}
    found = [name for name in own if not function or set(function.split(".")) & reached[name]]
    return sorted(found, key=lambda name: (CONTRACTS[name].kernel != function, CONTRACTS[name].reduced))


def _reached_from(module: str, kernel: str) -> set[str]:
    """The functions and classes of a module that one of its functions uses, itself and by others."""
    body = ast.parse(path_of(module).read_text(encoding="utf-8")).body
    names = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found, waiting = {kernel}, [kernel]
    while waiting:
        used = {node.id for node in ast.walk(names[waiting.pop()]) if isinstance(node, ast.Name)}
        waiting += sorted(names.keys() & used - found)
        found |= names.keys() & used
    return found


def _by_contract(name: str, properties: Sequence[str]) -> Verdict | None:
    """The first property of a contract that its kernel does not keep, of some, or of all but those that come first."""
    import grape_verified
    from grape_verified.conformance import CONTRACTS, run
    from grape_verified.conformance.properties import PROPERTIES
    from grape_verified.conformance.subject import Violation, read

    run.REDUCTIONS = 0  # only the verdict matters
    contract = CONTRACTS[name]
    try:
        subject = read(getattr(grape_verified, contract.kernel), contract, {}, strict=True)
    except Violation as violation:
        return Verdict("contracts", f"{name}: signature: {violation.sentence}")
    usual = contract.defaults({})
    if (
        subject.offered != tuple(contract.options)
        or subject.variants != contract.variants
        or any(default not in (usual[option], None) for option, default in subject.defaults.items())
    ):
        return Verdict("contracts", f"{name}: signature")
    chosen = [p for p in contract.properties[1:] if (p in FIRST) == (properties == FIRST)]
    for prop in chosen:
        finding = run.run_property(subject, PROPERTIES[prop], EXAMPLES)
        if finding.status != "passed":
            return Verdict("contracts", f"{name}: {prop}: {finding.text}")
    return None


def _by_tests(paths: Sequence[str], chosen: str) -> Verdict | None:
    """The first of the chosen tests that fails; one that cannot be collected fails, too; no test is no failure."""
    import pytest

    class First:
        failed = ""

        def pytest_runtest_logreport(self, report: Any) -> None:
            self.failed = self.failed or (report.nodeid if report.failed else "")

        def pytest_collectreport(self, report: Any) -> None:
            self.failed = self.failed or (report.nodeid if report.failed else "")

    first = First()
    options = ["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-k", chosen]
    code = pytest.main([*options, *(str(ROOT / path) for path in paths)], plugins=[first])
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return None
    return Verdict("tests", first.failed or f"pytest: {code!r}")


# -- in the parent ----------------------------------------------------------------------------------------------------


@dataclass
class _Child:
    """A running process, and what it has said so far."""

    pid: int
    started: float
    number: int
    said: bytes = b""


def judged(jobs: Sequence[tuple[Mutant | None, str]], seconds: int) -> Iterator[tuple[int, Verdict]]:
    """The verdict on each mutant, with its number, as they come in.

    One that sleeps for ever is ended too, after so many times the seconds, as a busy machine may take that long.
    """
    selector, waiting = selectors.DefaultSelector(), list(enumerate(jobs))[::-1]
    while waiting or selector.get_map():
        while waiting and len(selector.get_map()) < AT_ONCE:
            number, (mutant, module) = waiting.pop()
            pid, pipe = _forked(lambda m=mutant, of=module: judge(m, of), seconds)
            selector.register(pipe, selectors.EVENT_READ, _Child(pid, time.monotonic(), number))
        ready = {key.fd for key, _ in selector.select(timeout=1.0)}
        for key in list(selector.get_map().values()):
            child = key.data
            late = time.monotonic() - child.started > ASLEEP * seconds
            said = os.read(key.fd, 65536) if key.fd in ready else b""
            child.said += said
            if said or (key.fd not in ready and not late):
                continue
            selector.unregister(key.fd)
            os.close(key.fd)
            yield child.number, _ended(child, seconds)


def _ended(child: _Child, seconds: int) -> Verdict:
    """The verdict of a process that has said its last, or has had its time. What it started ends with it."""
    if not child.said:
        time.sleep(0.1)
    ended, status = os.waitpid(child.pid, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    if not ended:
        os.waitpid(child.pid, 0)
    if child.said:
        return Verdict(**json.loads(child.said))
    if not ended or os.waitstatus_to_exitcode(status) == -signal.SIGXCPU:
        return Verdict("time", f"not done after {seconds} s")
    return Verdict("crash", "the process ended without a verdict")


def _forked(work: Callable[[], Verdict], seconds: int) -> tuple[int, int]:
    """A process that works without output, and a pipe for its verdict."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        os.set_inheritable(writing, False)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        try:
            verdict = work()
        except BaseException as error:
            verdict = Verdict("crash", repr(error))
        os.write(writing, json.dumps(asdict(verdict)).encode()[:60000])
    finally:
        os._exit(0)


def path_of(module: str) -> Path:
    """The file of a module."""
    place = ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module of the package."""
    return mutants(module, path_of(module).read_text(encoding="utf-8"))


def accepted() -> dict[Key, str]:
    """The survivors that are accepted, each with its reason."""
    entries = tomllib.loads(ACCEPTED.read_text(encoding="utf-8")).get("survivor", [])
    listed = {Key(*(entry[name] for name in ("module", "function", "line", "mutation"))): entry for entry in entries}
    for key, entry in listed.items():
        if not entry.get("reason", "").strip():
            raise ValueError(f"{ACCEPTED.name}: got no reason, expected one for {key}")
    return {key: entry["reason"] for key, entry in listed.items()}


def settle(outcome: Outcome, listed: dict[Key, str], modules: Sequence[str], *, whole: bool) -> None:
    """Compare the survivors with those that are accepted; of modules that were not tried wholly, those that were."""
    survivors = [key for key, verdict in outcome.verdicts.items() if not verdict.killed_by]
    outcome.unknown = [key for key in survivors if key not in listed]
    outcome.stale = [
        key for key in listed if key.module in modules and key not in survivors and (whole or key in outcome.verdicts)
    ]


def run(modules: Sequence[str], limit: int | None, say: Callable[[str], None]) -> Outcome:
    """Judge the unmutated modules, then every mutant or so many of each module, evenly spread."""
    import_what_is_slow()
    for number, verdict in judged([(None, module) for module in modules], SECONDS):
        if verdict.killed_by:
            raise SystemExit(f"{modules[number]}: not mutated, and yet killed by {verdict.killed_by}: {verdict.what}")
    say(f"{len(modules)} modules as they are: everything holds")
    outcome, made = Outcome(), {module: mutants_of(module) for module in modules}
    chosen = [m for some in made.values() for m in some[:: max(1, -(-len(some) // limit)) if limit else 1]]
    for done, (number, verdict) in enumerate(judged([(m, m.key.module) for m in chosen], SECONDS), 1):
        outcome.verdicts[chosen[number].key] = verdict
        if not verdict.killed_by:
            say(f"survived: {chosen[number].key}")
        if verdict.killed_by in ("time", "crash"):
            say(f"killed by {verdict.killed_by} ({verdict.what}): {chosen[number].key}")
        if done % 25 == 0 or done == len(chosen):
            say(f"{done} of {len(chosen)}")
    settle(outcome, accepted(), modules, whole=limit is None)
    return outcome


def import_what_is_slow() -> None:
    """Import in the parent what every child needs and no mutant changes."""
    for name in ("torch", "hypothesis", "hypothesis.extra", "pytest", "sympy", "flint", "jaxtyping", "grape_spec"):
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    if any(name.partition(".")[0] == "grape_verified" for name in sys.modules):
        raise SystemExit("grape_verified is imported already: mutants would not be")


def summary(outcome: Outcome) -> list[str]:
    """A line for each module: how many were killed by what, and how many survived."""
    columns = ("contracts", "tests", "import", "crash", "time", "")
    rows = {module: Counter() for module in dict.fromkeys(key.module for key in outcome.verdicts)}
    for key, verdict in outcome.verdicts.items():
        rows[key.module][verdict.killed_by] += 1
    rows["all"] = sum(rows.values(), Counter())
    lines = [f"{'killed by':34}" + "".join(f"{name or 'survived':>11}" for name in columns)]
    lines += [f"{module:34}" + "".join(f"{row[name]:11}" for name in columns) for module, row in rows.items()]
    return [*lines, f"{100 * outcome.share:.1f} % of {len(outcome.verdicts)} mutants are killed"]


def report(outcome: Outcome) -> dict[str, Any]:
    """All of it, for a machine."""
    return {
        "passed": outcome.passed,
        "share": outcome.share,
        "mutants": [asdict(key) | asdict(verdict) for key, verdict in outcome.verdicts.items()],
        "not listed": [asdict(key) for key in outcome.unknown],
        "stale": [asdict(key) for key in outcome.stale],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 where every survivor is known and enough are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as losses.ppo or advantages; all without any")
    parser.add_argument("--limit", type=int, help="so many mutants of each module, evenly spread")
    parser.add_argument("--json", type=Path, help="write the verdict on every mutant here")
    given = parser.parse_args(arguments)
    modules = [f"grape_verified.{name.removeprefix('grape_verified.')}" for name in given.modules] or list(TESTS)
    for module in modules:
        if module not in TESTS:
            parser.error(f"modules: got {module}, expected some of {', '.join(TESTS)}")
    start = time.monotonic()
    outcome = run(modules, given.limit, lambda line: print(f"{time.monotonic() - start:6.0f} s  {line}", flush=True))
    print("\n".join(summary(outcome)))
    for key in outcome.unknown:
        print(f"survived and not listed: {key}")
    for key in outcome.stale:
        print(f"listed as a survivor, but killed or gone: {key}")
    if given.json:
        given.json.write_text(json.dumps(report(outcome), indent=1, ensure_ascii=False), encoding="utf-8")
    return 0 if outcome.passed else 1

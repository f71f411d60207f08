"""Search for larger errors: `python -m tests.corpus.search [contract …] [--minutes m] [--seed n]`.

Inputs are drawn from the strategies of the contracts; from the worst of them it climbs, changing one number at a time
and keeping what makes the error larger. Numbers stay in the range that was drawn, as no bound holds where an
exponential saturates or underflows, and what is only ever drawn as integers, such as a length, stays as it is. An entry
of the file is only ever replaced by one with a larger error.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.strategies import Case, Regime
from grape_verified.conformance.subject import Violation

from ..conformance.bounds import subject_of
from .cases import DTYPES, STATED, Entry, factor_of, larger, load, save

#: The numbers of inputs that are drawn, and from which it climbs.
DRAWN, STARTS = 100, 3

Range = tuple[float, float]


def worst(contract: str, dtype: str, seconds: float, number: int) -> Entry:
    """The input with the largest error that is found in some seconds."""
    end, chance = time.monotonic() + seconds, random.Random(number)
    cases = drawn(contract, dtype, number)
    drawn_numbers = {name: _numbers(cases, name) for name in cases[0].tensors}
    ranges = {name: (min(x), max(x)) for name, x in drawn_numbers.items() if not all(map(float.is_integer, x))}
    found = sorted(((factor_of(contract, case), i) for i, case in enumerate(cases)), reverse=True)
    best = [(factor, cases[i]) for factor, i in found[:STARTS]]
    while ranges and time.monotonic() < end:
        place = chance.randrange(len(best))
        case = _changed(best[place][1], ranges, chance)
        try:
            factor = factor_of(contract, case)
        except (Violation, ValueError, ArithmeticError):  # outside of the domain
            continue
        if factor > best[place][0]:
            best[place] = factor, case
    factor, case = max(best, key=lambda found: found[0])
    return Entry(contract, dtype, factor, case)


def drawn(contract: str, dtype: str, number: int) -> list[Case]:
    """Inputs from the strategy of a contract."""
    bound, found = CONTRACTS[contract], []

    @seed(number)
    @settings(
        max_examples=DRAWN,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(bound.cases(Regime((DTYPES[dtype],)), subject_of(contract).offered, {}, bound.variants))
    def keep(case: Case) -> None:
        found.append(case)

    keep()
    return found


def _numbers(cases: Sequence[Case], name: str) -> list[float]:
    """Every number that was drawn for a tensor."""
    return [x for case in cases for x in case.tensors[name].flatten().double().tolist()]


def _changed(case: Case, ranges: dict[str, Range], chance: random.Random) -> Case:
    """The case with one number changed: by a few roundings, by a part of it, or to any of its range."""
    name = chance.choice(sorted(ranges))
    tensor = case.tensors[name].clone()
    place, (low, high) = chance.randrange(tensor.numel()), ranges[name]
    flat = tensor.view(-1)
    old, rounding = flat[place].item(), torch.finfo(tensor.dtype).eps
    new = chance.choice(
        (
            old * (1 + chance.choice((-1, 1)) * rounding * 2 ** chance.randrange(5)),
            old * (1 + chance.gauss(0, 0.1)),
            old + chance.gauss(0, 0.1),
            chance.uniform(low, high),
        )
    )
    flat[place] = min(max(new, low), high)
    return case.with_tensors(**{name: tensor})


def search(contracts: Sequence[str], minutes: float, number: int) -> Iterator[tuple[Entry, Entry | None]]:
    """The errors found for each contract and dtype, and those in the file, which is updated with larger ones."""
    jobs = [(contract, dtype) for contract in contracts for dtype in DTYPES]
    for contract, dtype in jobs:
        new = worst(contract, dtype, 60 * minutes / len(jobs), number)
        entries = load()
        old = entries.get((contract, dtype))
        save({**entries, (contract, dtype): larger(old, new)})
        yield new, old


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 1 where an error is larger than the docstring allows."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.search", description=__doc__)
    parser.add_argument("contracts", nargs="*", help=f"some of {', '.join(STATED)}; all without any")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="another one draws other inputs")
    given = parser.parse_args(arguments)
    for name in given.contracts:
        if name not in STATED:
            parser.error(f"contracts: got {name!r}, expected some of {', '.join(STATED)}")
    number = random.randrange(2**32) if given.seed is None else given.seed
    beyond = 0
    for new, old in search(given.contracts or list(STATED), given.minutes, number):
        before = f"{old.factor:.3f}" if old else "none"
        print(f"{new.contract:26} {new.dtype:9} {new.factor:8.3f}  so far {before:>8}  bound {new.bound}", flush=True)
        beyond += new.factor > new.bound
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main())

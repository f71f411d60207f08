"""The tables of the language, which a test may add to and must not leave changed."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from grape_spec.language.claims import Line, Stage
from grape_spec.language.registry import _CLAIMED, _DEFINED, _DERIVED, DERIVATIONS, RETIRED
from grape_spec.language.symbols import _BY_NAME, _DECLARED

TABLES = (_DECLARED, _BY_NAME, _DEFINED, _CLAIMED, _DERIVED, RETIRED)


@contextmanager
def restored() -> Iterator[list[dict]]:
    """Within: whatever is declared, defined or claimed. Afterwards: the tables as they were, and nothing remembered."""
    before = [dict(table) for table in TABLES]
    try:
        yield before
    finally:
        changed = [(table, saved) for table, saved in zip(TABLES, before, strict=True) if table != saved]
        for table, saved in changed:
            table.clear()
            table.update(saved)
        for cached in caches() if changed else ():
            cached.cache_clear()


def caches() -> list[Callable]:
    """Every cached function of the spec: its expressions name definitions, which a test may define otherwise."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "grape_spec"]
    return [thing for module in modules for thing in vars(module).values() if hasattr(thing, "cache_clear")]


def with_lines(key: tuple[str, str], change: Callable[[tuple[Line, ...]], tuple[Line, ...]]) -> tuple[Stage, ...]:
    """A derivation with other lines; of an induction, in its first stage."""
    first, *others = DERIVATIONS[key]
    return (replace(first, lines=change(first.lines)), *others)


def with_first_negated(key: tuple[str, str]) -> tuple[Stage, ...]:
    """A derivation with the sign of its first line flipped."""
    return with_lines(key, lambda lines: (replace(lines[0], expr=-lines[0].expr), *lines[1:]))

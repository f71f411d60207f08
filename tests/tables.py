"""The tables of the language, which a test may add to and must not leave changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from grape_spec.evaluate import code_of, condition_of, reads_of
from grape_spec.language.claims import Line, Stage
from grape_spec.language.expressions import _unfolded
from grape_spec.language.registry import _CLAIMED, _DEFINED, _DERIVED, DERIVATIONS, RETIRED
from grape_spec.language.symbols import _BY_NAME, _DECLARED
from grape_spec.proof.derivatives import is_smooth, resolve
from grape_spec.proof.needs import _refuse_valueless, needs_of, positions_of
from grape_spec.proof.prove import _definitions_in, _is_shown
from grape_spec.proof.refute import _lines, _loose_axes
from grape_spec.proof.smt import _normal_form, _shown_positive

TABLES = (_DECLARED, _BY_NAME, _DEFINED, _CLAIMED, _DERIVED, RETIRED)

#: Caches of expressions, which a test may redefine.
REMEMBERED = (
    code_of, condition_of, reads_of, _unfolded, _lines, _loose_axes, _normal_form, _shown_positive, needs_of,
    positions_of, resolve, is_smooth, _refuse_valueless, _definitions_in, _is_shown,
)  # fmt: skip


@contextmanager
def restored() -> Iterator[list[dict]]:
    """Within: whatever is declared, defined or claimed. Afterwards: the tables as they were, and nothing remembered."""
    before = [dict(table) for table in TABLES]
    try:
        yield before
    finally:
        for table, saved in zip(TABLES, before, strict=True):
            table.clear()
            table.update(saved)
        for remembered in REMEMBERED:
            remembered.cache_clear()


def with_lines(key: tuple[str, str], change: Callable[[tuple[Line, ...]], tuple[Line, ...]]) -> tuple[Stage, ...]:
    """A derivation with other lines; of an induction, in its first stage."""
    first, *others = DERIVATIONS[key]
    return (replace(first, lines=change(first.lines)), *others)


def with_first_negated(key: tuple[str, str]) -> tuple[Stage, ...]:
    """A derivation with the sign of its first line flipped."""
    return with_lines(key, lambda lines: (replace(lines[0], expr=-lines[0].expr), *lines[1:]))

"""The spec as an oracle reads it: as it is, or with some definitions in place of others.

A habit of an implementation is a definition that replaces another. Every expression that an oracle evaluates goes
through `evaluate` here, so that no oracle has to know about habits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import grape_spec.evaluate as spec
from flint import arb
from grape_spec.language import registry
from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import Apply, rebuild, substitute
from sympy import Basic, IndexedBase


@dataclass(frozen=True)
class Instead:
    """A definition that is read in place of another.

    Arguments:
        of: the id of the replaced definition.
        read: the definition, applied to its numbers; its other symbols are arguments of the replaced definition, or
            have values anyway.
        held: pairs of symbols; the first has the value of the second, and a derivative in the second holds it constant.
    """

    of: str
    read: Apply
    held: tuple[tuple[str, str], ...] = ()

    def within(self, expr: Basic) -> Basic:
        """The expression with the definition in place of the other, also inside definitions that refer to it.

        A replacement is not searched again: it may itself refer to what it replaces.
        """
        if isinstance(expr, Apply):
            id = str(expr.args[0])
            if id == self.of:
                arguments = map(self.within, expr.arguments)
                return substitute(self.read, dict(zip(expr.definition.of, arguments, strict=True)))
            if self.of in _spoken_of(id):
                return self.within(expr.unfold())
        if not expr.args or isinstance(expr, IndexedBase):
            return expr
        inside = [self.within(inner) for inner in expr.args]
        return expr if inside == list(expr.args) else rebuild(expr, inside)


@cache
def _spoken_of(id: str) -> frozenset[str]:
    """The ids of the definitions that a definition refers to, at any depth."""
    own = registry.definition(id).body.atoms(Apply)
    names = frozenset(str(node.args[0]) for node in own if node.definition.recursion is None)
    return names.union(*map(_spoken_of, names))


_READ_INSTEAD: ContextVar[tuple[Instead, ...]] = ContextVar("_READ_INSTEAD", default=())


@contextmanager
def reading(instead: Sequence[Instead]) -> Iterator[None]:
    """Within this context, replace definitions, in the given order; a later one also applies within an earlier one."""
    token = _READ_INSTEAD.set(tuple(instead))
    try:
        yield
    finally:
        _READ_INSTEAD.reset(token)


def is_changed(what: Callable[[], Basic]) -> bool:
    """Whether an expression has a replaced definition; the expression is made only if necessary."""
    instead = _READ_INSTEAD.get()
    return bool(instead) and _as_read(plain := what(), instead) != plain


@lru_cache(maxsize=4096)
def _as_read(expr: Basic, instead: tuple[Instead, ...]) -> Basic:
    for one in instead:
        expr = one.within(expr)
    return expr


def evaluate(what: Definition | Basic, values: Mapping[str, Any], *, hull: bool = False) -> arb:
    """The ball that a definition or an expression evaluates to, with the replacements."""
    if instead := _READ_INSTEAD.get():
        what = _as_read(what() if isinstance(what, Definition) else what, instead)
        held = (pair for one in instead for pair in one.held)
        values = {**values, **{constant: values[name] for constant, name in held if name in values}}
    return spec.evaluate(what, values, hull=hull)

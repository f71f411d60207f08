"""Definitions: a named quantity with a permanent id, applied to arguments like a function."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy as sp

from grape_spec.language.domains import Domain
from grape_spec.language.expressions import Apply, sizes_of
from grape_spec.language.sources import Source
from grape_spec.language.symbols import DECLARATIONS, declaration

#: In the declared LaTeX of a definition: an entry of a family, an argument, a brace that is meant.
IN_TEMPLATE = re.compile(r"\{(?P<family>\w+)\}_\{\{\{(?P<index>\w+)\}\}\}|\{\{|\}\}|\{(?P<name>\w+)\}")


@dataclass(frozen=True)
class Recursion:
    """How a quantity is defined for every depth: its value at the first, and at each one from that at the depth before.

    In Coq it is a ``Fixpoint`` on a natural number: ``first`` is the case of ``O``, and ``step``, in which ``over`` is
    the number before, that of ``S``.

    Arguments:
        over: the argument that counts the depth.
        lowest: the first depth, the lowest number of its domain.
        first: the value at the first depth.
        step: the value at ``over`` + 1, in which the definition is applied at ``over``.
    """

    over: sp.Symbol
    lowest: int
    first: sp.Expr
    step: sp.Expr


@dataclass(frozen=True)
class Definition:
    """A named quantity, entered into the registry and explained by `define`."""

    id: str
    text: str
    of: tuple[Any, ...]
    body: sp.Expr
    tex: str
    domain: Domain
    convention: bool
    source: Source
    recursion: Recursion | None = None

    @property
    def by_depth(self) -> Recursion:
        """The recursion of a definition that has one."""
        if self.recursion is None:
            raise TypeError(f"{self.id} is not defined by recursion")
        return self.recursion

    @cached_property
    def sizes(self) -> frozenset[sp.Symbol]:
        """The sizes that it takes from its families and indices, which no argument replaces."""
        declared = (thing for thing in self.of if thing in DECLARATIONS)
        return frozenset().union(*map(sizes_of, declared)) - set(self.of)

    def __call__(self, *arguments: Any, **by_name: Any) -> Apply:
        """Apply it: leading arguments by position, others by the name of the symbol; the rest stay as they are."""
        if len(arguments) > len(self.of):
            names = ", ".join(map(str, self.of))
            raise TypeError(f"{self.id}: got {len(arguments)} arguments, expected at most {len(self.of)}: {names}")
        values = dict(zip(self.of, arguments, strict=False))
        things = {declaration(thing).name: thing for thing in self.of}
        for name, value in by_name.items():
            if name not in things:
                raise TypeError(f"{self.id}: got an argument {name!r}, expected one of {', '.join(things)}")
            if things[name] in values:
                raise TypeError(f"{self.id}: got the argument {name!r} twice")
            values[things[name]] = value
        return Apply(self.id, *(sp.sympify(values.get(thing, thing)) for thing in self.of))

    def _refuse_unapplied(self, *_: Any) -> Any:
        name = self.id.rpartition(".")[2]
        raise TypeError(f"{self.id}: got the definition itself, expected it applied: {name}(), or {name}(…)")

    _sympy_ = __neg__ = __abs__ = _refuse_unapplied
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse_unapplied
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse_unapplied

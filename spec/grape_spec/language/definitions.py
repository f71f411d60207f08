"""Definitions: a named quantity with a permanent id, applied to arguments like a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from grape_spec.language.domains import Domain, Real
from grape_spec.language.expressions import Apply
from grape_spec.language.sources import DERIVED, Source
from grape_spec.language.symbols import declaration


@dataclass(frozen=True)
class Definition:
    """A named quantity.

    Arguments:
        id: permanent slug, such as ``ppo.ratio``.
        text: one sentence of what it is.
        of: what it is a function of, in order: symbols, families, indices.
        body: the expression that it stands for.
        tex: LaTeX with ``{name}`` for the arguments.
        domain: where its values lie; engines prove it before they rely on it.
        convention: True where mathematics leaves a choice that this definition makes.
        source: where it comes from.
    """

    id: str
    text: str
    of: tuple[Any, ...]
    body: sp.Expr
    tex: str = ""
    domain: Domain = Real
    convention: bool = False
    source: Source = DERIVED

    def __call__(self, *arguments: Any, **by_name: Any) -> Apply:
        """Apply it: leading arguments by position, others by the name of the symbol; what is not given stays itself."""
        if len(arguments) > len(self.of):
            raise TypeError(f"{self.id}: got {len(arguments)} arguments, expected at most {len(self.of)}")
        values = dict(zip(self.of, arguments, strict=False))
        names = {declaration(thing).name: thing for thing in self.of}
        for name, value in by_name.items():
            if name not in names:
                raise TypeError(f"{self.id}: got an argument {name!r}, expected one of {', '.join(names)}")
            if names[name] in values:
                raise TypeError(f"{self.id}: got the argument {name!r} twice")
            values[names[name]] = value
        return Apply(self.id, *(sp.sympify(values.get(thing, thing)) for thing in self.of))

"""Declaring symbols: a name, its domain, what it means and how it is printed.

A *family* is a symbol with indices, ``logits[v]``; its sizes are symbols too, so that a statement covers every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import sympy as sp
from sympy.core.function import UndefinedFunction

from grape_spec.language.domains import Domain, IndexUpTo, Naturals

Declarable: TypeAlias = "sp.Symbol | sp.IndexedBase | UndefinedFunction"


@dataclass(frozen=True)
class Declaration:
    """What was declared about one symbol."""

    name: str
    domain: Domain
    text: str
    tex: str
    sizes: tuple[sp.Expr, ...] = ()


DECLARATIONS: dict[Declarable, Declaration] = {}
_BY_NAME: dict[str, Declarable] = {}


def _declare(thing: Declarable, declaration: Declaration) -> Declarable:
    if declaration.name in _BY_NAME:
        raise ValueError(f"symbol {declaration.name!r} is declared twice")
    _BY_NAME[declaration.name] = thing
    DECLARATIONS[thing] = declaration
    return thing


def symbol(name: str, domain: Domain, text: str, *, tex: str | None = None) -> sp.Symbol:
    """Declare one number."""
    return _declare(sp.Symbol(name, **domain.assumptions), Declaration(name, domain, text, tex or name))


def index(name: str, size: sp.Expr, text: str, *, tex: str | None = None) -> sp.Symbol:
    """Declare a position on an axis of the given size, counted from 1: a declared size, or a number."""
    entry = DECLARATIONS.get(size)
    declared = entry is not None and isinstance(entry.domain, Naturals) and entry.domain.low >= 1
    if not declared and not (isinstance(size, sp.Integer) and size >= 1):
        raise TypeError(f"{name}: got the size {size}, expected a symbol of domain Size or a positive integer")
    return symbol(name, IndexUpTo(f"in 1..{size}", size), text, tex=tex)


def family(name: str, domain: Domain, *sizes: sp.Expr, text: str, tex: str | None = None) -> sp.IndexedBase:
    """Declare numbers with one index for each size: ``logits[v]`` for v = 1..V."""
    base = sp.IndexedBase(name, **domain.assumptions)
    return _declare(base, Declaration(name, domain, text, tex or name, sizes))


def function(name: str, domain: Domain, text: str, *, tex: str | None = None) -> UndefinedFunction:
    """Declare a differentiable function of the parameters."""
    return _declare(sp.Function(name, **domain.assumptions), Declaration(name, domain, text, tex or name))


def declaration(thing: Declarable) -> Declaration:
    """The declaration of a symbol, family or function."""
    try:
        return DECLARATIONS[thing]
    except KeyError:
        raise KeyError(f"{thing} is not declared: use symbol(), index(), family() or function()") from None


def size_of_axis(thing: Declarable) -> sp.Expr | None:
    """The size of the axis that an index runs over; None for anything but an index."""
    entry = DECLARATIONS.get(thing)
    return entry.domain.size if entry and isinstance(entry.domain, IndexUpTo) else None


def declared_name(name: str) -> Declarable:
    """The symbol, family or function that was declared under a name."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise KeyError(f"no symbol is declared under the name {name!r}") from None

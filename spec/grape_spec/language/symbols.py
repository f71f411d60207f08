"""Declaring symbols: a name, its domain, what it means and how it is printed.

A *family* is a symbol with indices, ``logits[v]``; its sizes are symbols too, so that a statement covers every size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import sympy as sp
from sympy.core.function import UndefinedFunction

from grape_spec.language.domains import (
    MOST,
    Domain,
    IndexUpTo,
    Interval,
    Naturals,
    OneHot,
    OneOf,
    Position,
    Simplex,
    Smooth,
    SmoothPositive,
)  # fmt: skip

Declarable: TypeAlias = "sp.Symbol | sp.IndexedBase | UndefinedFunction"


@dataclass(frozen=True)
class Declaration:
    """What was declared about one symbol."""

    name: str
    domain: Domain
    text: str
    tex: str
    sizes: tuple[sp.Expr, ...] = ()


_DECLARED: dict[Declarable, Declaration] = {}
_BY_NAME: dict[str, Declarable] = {}

#: Every declaration, to be read; `symbol`, `index`, `family` and `function` add to them.
DECLARATIONS: Mapping[Declarable, Declaration] = MappingProxyType(_DECLARED)


def _declare(thing: Declarable, declaration: Declaration) -> Declarable:
    name = declaration.name
    if name in _BY_NAME:
        raise ValueError(f"symbol {name!r} is declared twice: import the existing one, or choose another name")
    _BY_NAME[name] = thing
    _DECLARED[thing] = declaration
    return thing


def _described(name: str, domain: Domain, text: str, tex: str | None, sizes: tuple[sp.Expr, ...] = ()) -> Declaration:
    """A declaration, after what is said of the symbol was found to be words."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"name: got {name!r}, expected letters, digits and underscores")
    if not isinstance(text, str):
        raise TypeError(f"{name}: text: got {text!r}, expected a few words on what it is")
    if not isinstance(tex, str | None):
        raise TypeError(f"{name}: tex: got {tex!r}, expected LaTeX")
    return Declaration(name, domain, text, tex or name, sizes)


@contextmanager
def declared_for_now(thing: Declarable, declaration: Declaration) -> Iterator[None]:
    """Within: one more declaration, under a name that no file can take."""
    _DECLARED[thing] = declaration
    try:
        yield
    finally:
        del _DECLARED[thing]


def _refuse_domain(name: str, domain: Domain, fits: bool, expected: str) -> None:
    """A domain of somebody's own could promise SymPy what its constraint does not say."""
    if not fits:
        got = getattr(domain, "name", getattr(domain, "__name__", domain))
        raise TypeError(f"{name}: got the domain {got}, expected {expected}")


def _refuse_size(name: str, size: sp.Expr) -> None:
    """The size of an axis is at least 1, whatever its value: a sum over it is never empty."""
    entry = DECLARATIONS.get(size)
    declared = entry is not None and isinstance(entry.domain, Naturals) and entry.domain.low >= 1
    if not declared and not (isinstance(size, sp.Integer | int) and 1 <= size <= MOST):
        raise TypeError(f"{name}: got the size {size}, expected a symbol of domain Size or an integer from 1 to {MOST}")


def symbol(name: str, domain: Domain, text: str | None = None, *, tex: str | None = None) -> sp.Symbol:
    """Declare one number."""
    fits = type(domain) in (Interval, OneOf, Naturals)
    _refuse_domain(name, domain, fits, "Real, Positive, NonNegative, Open(low, high), Mask() or Size")
    if text is None:
        raise TypeError(f"{name}: text: got nothing, expected a few words on what it is")
    return _number(name, domain, text, tex)


def _number(name: str, domain: Domain, text: str, tex: str | None) -> sp.Symbol:
    entry = _described(name, domain, text, tex)
    return _declare(sp.Symbol(name, **domain.assumptions), entry)


def index(name: str, size: sp.Expr, text: str, *, tex: str | None = None) -> sp.Symbol:
    """Declare a position on an axis of the given size, counted from 1: a declared size, or a number."""
    _refuse_size(name, size)
    return _number(name, IndexUpTo(f"in 1..{size}", sp.sympify(size)), text, tex)


def family(name: str, domain: Domain, *sizes: sp.Expr, text: str, tex: str | None = None) -> sp.IndexedBase:
    """Declare numbers with one index for each size: ``logits[v]`` for v = 1..V."""
    fits = type(domain) in (Interval, OneOf, Position) or domain in (Simplex, OneHot)
    expected = "Real, Positive, NonNegative, Open(low, high), Mask(), PositionOn(size), Simplex or OneHot"
    _refuse_domain(name, domain, fits, expected)
    if not sizes:
        raise TypeError(f"{name}: got no sizes, expected one for each index (a single number is a symbol)")
    for size in sizes:
        _refuse_size(name, size)
    if isinstance(domain, Position) and domain.size not in sizes:
        raise TypeError(f"{name}: got positions on an axis of size {domain.size}, expected one of its own axes")
    entry = _described(name, domain, text, tex, tuple(map(sp.sympify, sizes)))
    return _declare(sp.IndexedBase(name, **domain.assumptions), entry)


def function(name: str, domain: Domain, text: str, *, tex: str | None = None) -> UndefinedFunction:
    """Declare a smooth function of the parameters: it has derivatives of every order."""
    _refuse_domain(name, domain, domain in (Smooth, SmoothPositive), "Smooth or SmoothPositive")
    entry = _described(name, domain, text, tex)
    return _declare(sp.Function(name, **domain.assumptions), entry)


def declaration(thing: Declarable) -> Declaration:
    """The declaration of a symbol, family or function."""
    try:
        return DECLARATIONS[thing]
    except KeyError:
        raise KeyError(f"{thing} is not declared: use symbol(), index(), family() or function()") from None


def size_of_axis(thing: Declarable | sp.Indexed) -> sp.Expr | None:
    """The size of the axis that an index, or an entry of a family of positions, is on; None for anything else."""
    if isinstance(thing, sp.Indexed) and thing.base in DECLARATIONS:
        domain = DECLARATIONS[thing.base].domain
        return domain.size if isinstance(domain, Position) else None
    entry = DECLARATIONS.get(thing)
    return entry.domain.size if entry and isinstance(entry.domain, IndexUpTo) else None


def lowest_of(thing: Declarable) -> int | None:
    """The lowest number that a size or a count can be; None for anything else."""
    entry = DECLARATIONS.get(thing)
    return entry.domain.low if entry and isinstance(entry.domain, Naturals) else None


def declared_name(name: str) -> Declarable:
    """The symbol, family or function that was declared under a name."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise KeyError(f"no symbol is declared under the name {name!r}") from None

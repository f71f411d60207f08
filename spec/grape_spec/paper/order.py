"""The order of the field: of factors, of terms and of the ends of a clip, which SymPy sorts by other rules."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from grape_spec.language.domains import IndexUpTo, Interval, Naturals, OneOf, SimplexDomain
from grape_spec.language.expressions import Apply, At, Diff, OneSided
from grape_spec.language.symbols import DECLARATIONS


def counts(thing: sp.Expr) -> bool:
    """Whether something is made of whole numbers and indices."""
    nodes = sp.preorder_traversal(thing)
    return all(isinstance(node, sp.Integer | sp.Add | sp.Mul) or is_index(node) for node in nodes)


def is_index(thing: Any) -> bool:
    return thing in DECLARATIONS and isinstance(DECLARATIONS[thing].domain, IndexUpTo | Naturals)


def _is_mask(thing: Any) -> bool:
    base = thing.base if isinstance(thing, sp.Indexed) else thing
    entry = DECLARATIONS.get(base)
    return entry is not None and isinstance(entry.domain, OneOf)


def _is_probability(thing: Any) -> bool:
    if isinstance(thing, Apply):
        return bool(thing.definition.domain.assumptions.get("positive"))
    base = thing.base if isinstance(thing, sp.Indexed) else thing
    entry = DECLARATIONS.get(base)
    if entry is None:
        return False
    if isinstance(entry.domain, SimplexDomain):
        return True
    return isinstance(entry.domain, Interval) and entry.domain.low == 0 and entry.domain.high == 1


def rank(factor: sp.Expr) -> int:
    """The place of a factor in a product: counts, masks, weights, probabilities, quantities, brackets, then sums."""
    inner = factor.base if isinstance(factor, sp.Pow) else factor
    for place, kinds in _LATE.items():
        if isinstance(inner, kinds):
            return place
    if isinstance(inner, sp.Add):
        return _rank_of_bracket(inner)
    if isinstance(inner, sp.Min | sp.Max | sp.exp | sp.Abs):
        return 5
    if isinstance(inner, sp.KroneckerDelta) or _is_mask(inner):
        return 1
    if isinstance(inner, sp.Symbol):
        entry = DECLARATIONS.get(inner)
        return 0 if entry and isinstance(entry.domain, Naturals) else 2 if inner.is_positive else 6
    return 3 if _is_probability(inner) else 7


_LATE = {12: (sp.Sum, sp.Product), 11: (sp.Piecewise,), 10: (Diff, OneSided, At), 9: (sp.log,)}


def _rank_of_bracket(inner: sp.Add) -> int:
    """A complement such as 1 − λ stands where λ does; other brackets come late."""
    others = [term for term in inner.args if not term.is_number]
    signs = [_sign_and_rest(term)[1] for term in others]
    complement = len(others) < len(inner.args) and all(isinstance(s, sp.Symbol | sp.KroneckerDelta) for s in signs)
    return max(rank(sign) for sign in signs) if complement else 8


def _sign_and_rest(term: sp.Expr) -> tuple[bool, sp.Expr]:
    number, rest = term.as_coeff_Mul()
    if not number.is_negative:
        return False, term
    return True, sp.Mul(-number, rest) if rest != 1 else -number


def terms_in_order(expr: sp.Add) -> list[tuple[bool, sp.Expr]]:
    """The terms of a sum as they were declared, positive ones first unless all are plain quantities.

    Returns: for each term whether it is subtracted, and what is added or subtracted.
    """
    signed = [_sign_and_rest(term) for term in expr.args]
    mixed = all(isinstance(rest, sp.Symbol | sp.Indexed | AppliedUndef) for _, rest in signed)
    whole = all(counts(rest) for _, rest in signed)

    def place(entry: tuple[bool, sp.Expr]) -> tuple[Any, ...]:
        negative, rest = entry
        number = rest.is_number
        group = 0 if number and not negative and not whole else 2 if number else 1
        return (negative and not mixed, group, bool(rest.atoms(sp.Sum)), _declared_at(rest), _in_words(rest))

    ordered = sorted(signed, key=place)
    first = next((entry for entry in ordered if not entry[0]), ordered[0])
    return [first, *(entry for entry in ordered if entry is not first)]


#: An order among what is otherwise alike; words are dear to make, and the same pieces come again and again.
_in_words = lru_cache(maxsize=1 << 16)(str)

_PLACES: dict[Any, int] = {}


def _declared_at(expr: sp.Expr) -> int:
    """The place among all declarations of what was declared first in an expression; a function counts by itself."""
    if len(_PLACES) != len(DECLARATIONS):
        _PLACES.update({thing: place for place, thing in enumerate(DECLARATIONS)})
    things = set()
    walk = sp.preorder_traversal(expr)
    for node in walk:
        if isinstance(node, AppliedUndef):
            things.add(node.func)
            walk.skip()  # its parameter was declared long before it
        elif node in _PLACES and not is_index(node):
            things.add(node)
    return min((_PLACES.get(thing, 0) for thing in things), default=0)


def ordered(factors: Iterable[sp.Expr]) -> list[sp.Expr]:
    return sorted(
        factors, key=lambda f: (not f.is_number, rank(f), f.is_Add, _declared_at(f), isinstance(f, Apply), _in_words(f))
    )


def clipped(expr: sp.Min) -> tuple[Any, Any, Any] | None:
    """What is clipped and its two ends, if a minimum is a clip."""
    if len(expr.args) != 2:
        return None
    for inner, high in (expr.args, expr.args[::-1]):
        if isinstance(inner, sp.Max) and len(inner.args) == 2 and not isinstance(high, sp.Max):
            first, second = inner.args
            x, low = (first, second) if _end_like(second, high) > _end_like(first, high) else (second, first)
            return x, low, high
    return None


def _end_like(thing: sp.Expr, high: sp.Expr) -> tuple[int, bool]:
    """How much something looks like the lower end that belongs to an upper end."""
    return -len((high - thing).free_symbols | (high - thing).atoms(Apply)), isinstance(thing, sp.Add)

"""Frozen dataclasses to JSON and back: a record is written down once, as its fields and their types.

A type may name properties in `DERIVED`. They are written with the fields; a reader computes them anew, whatever the
file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")


def to_json(value: Any) -> Any:
    """Data for `json.dumps`: a record becomes a dict of its fields and derived properties, a tuple a list."""
    if is_dataclass(value):
        names = [*(entry.name for entry in fields(value)), *_derived(value)]
        return {name: to_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    return value


def from_json(kind: type[R], data: Any) -> R:
    """The record of a type that `to_json` turned into data.

    Raises: ValueError naming the place, what was there and what was expected.
    """
    return _read(kind, data, kind.__name__)


_hints = cache(get_type_hints)


def _derived(record: Any) -> tuple[str, ...]:
    return getattr(record, "DERIVED", ())


def _read(kind: Any, data: Any, place: str) -> Any:
    if is_dataclass(kind):
        return _record(kind, data, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        some = next((a for a in arguments if a is not NoneType), Any)
        return None if data is None else _read(some, data, place)
    if origin is tuple:
        entries = _of_type(list, data, place)
        return tuple(_read(arguments[0], entry, f"{place}[{i}]") for i, entry in enumerate(entries))
    if origin is dict:
        entries = _of_type(dict, data, place)
        return {key: _read(arguments[1], entry, f"{place}.{key}") for key, entry in entries.items()}
    if origin is Literal:
        if data not in arguments:
            raise ValueError(f"{place}: got {data!r}, expected one of {', '.join(map(repr, arguments))}")
        return data
    return data if kind is Any else _of_type(kind, data, place)


def _record(kind: Any, data: Any, place: str) -> Any:
    entries, hints = _of_type(dict, data, place), _hints(kind)
    names = [entry.name for entry in fields(kind)]
    if odd := set(names) - entries.keys() or entries.keys() - {*names, *_derived(kind)}:
        raise ValueError(f"{place}: got the keys {sorted(entries)}, which differ by {sorted(odd)} from those expected")
    return kind(**{name: _read(hints[name], entries[name], f"{place}.{name}") for name in names})


def _of_type(kind: type, data: Any, place: str) -> Any:
    allowed = (int, float) if kind is float else kind
    if not isinstance(data, allowed) or (isinstance(data, bool) and kind is not bool):
        raise ValueError(f"{place}: got {type(data).__name__}, expected {kind.__name__}")
    return data

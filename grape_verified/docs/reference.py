"""The reference: the public functions of each subject, and the claims and definitions that they implement."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module

import grape_verified
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.subjects import SUBJECTS


@cache
def names_of(subject: str) -> tuple[str, ...]:
    """The public names of a subject, in the order of their lines in the source."""
    modules = (import_module(f"grape_verified.{module}") for module in SUBJECTS[subject].modules)
    return tuple(
        name
        for module in modules
        for name in sorted(module.__all__, key=lambda name: inspect.getsourcelines(getattr(module, name))[1])
    )


def page_of(name: str) -> str:
    """The subject in whose reference a public name is."""
    return next(subject for subject in SUBJECTS if name in names_of(subject))


def role_of(name: str) -> str:
    """What kind of Python object a public name is, as inventories call it."""
    return "class" if inspect.isclass(getattr(grape_verified, name)) else "function"


def claims_of(name: str) -> list[str]:
    """The claims that the docstring of a public name lists."""
    docstring = inspect.getdoc(getattr(grape_verified, name)) or ""
    stated = re.search(r"^Claims: (.*?)(?:\n\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    return re.findall(r"[a-z]\w*(?:\.\w+)+", stated[1]) if stated else []


def contracts_of(name: str) -> list[Contract]:
    """The contracts that a public function is checked against."""
    return [contract for contract in CONTRACTS.values() if contract.kernel == name]


@cache
def implemented_by(name: str) -> tuple[str, ...]:
    """The ids that a public name implements: the claims in its docstring, and what its contracts evaluate."""
    return tuple(dict.fromkeys([*claims_of(name), *(id for c in contracts_of(name) for id in c.rests_on)]))


def implementing(id: str) -> Iterator[str]:
    """The public functions that implement a claim or definition."""
    return (name for subject in SUBJECTS for name in names_of(subject) if id in implemented_by(name))


def contracts_about(id: str) -> list[Contract]:
    """The contracts of the functions that implement a claim or definition."""
    return [contract for contract in CONTRACTS.values() if id in implemented_by(contract.kernel)]

"""Contracts as the commands show them: all in a table, or one with its tensors, options and definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grape_verified.cli.given import refuse
from grape_verified.cli.tables import print_contracts, print_json
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.habits import habits_of
from grape_verified.conformance.registry import contracts_of, every_contract, module_of


def chosen(modules: Sequence[str] | None) -> list[Contract]:
    """The contracts of some modules, which must hold at least one; without modules, every contract."""
    if not modules:
        return [*every_contract().values()]
    held = [one for module in modules for one in contracts_of(module)]
    return held or refuse(f"--from: {', '.join(modules)}: no contract is declared there")


def as_dict(contract: Contract) -> dict[str, Any]:
    """A contract as data for JSON."""
    return {
        "name": contract.name,
        "function": contract.kernel,
        "module": module_of(contract.name),
        "tensors": contract.tensors,
        "differentiated": contract.wrt,
        "options": {name: [option.default, *option.others] for name, option in contract.options.items()},
        "habits": [str(habit) for habit in habits_of(contract)],
        "properties": contract.properties,
        "rests_on": contract.rests_on,
    }


def in_a_line(contract: Contract) -> tuple[str, str, str, str]:
    """A contract's name, its function, its tensors and the names of its options."""
    return contract.name, contract.kernel, ", ".join(contract.tensors), ", ".join(contract.options)


def in_words(contract: Contract) -> Iterator[str]:
    """A contract in words, line by line."""
    shown = as_dict(contract)
    where = f"the module {shown['module']}" if shown["module"] else "this package"
    yield f"{contract.name}  The contract of {contract.kernel}, from {where}."
    constant = [name for name in contract.tensors if name not in contract.wrt]
    yield f"\ntensors: {', '.join(contract.tensors)}"
    yield f"differentiated: {', '.join(contract.wrt) or 'none'}; constant: {', '.join(constant) or 'none'}"
    yield from _options(shown["options"])
    if shown["habits"]:
        yield f"\nhabits: {', '.join(shown['habits'])}"
    yield f"\nproperties: {', '.join(contract.properties)}"
    yield f"\nrests on: {', '.join(contract.rests_on)}"


def _options(options: Mapping[str, list[Any]]) -> Iterator[str]:
    if options:
        yield "\noptions, each with its default and the other values that are tried"
    for name, (default, *others) in options.items():
        yield f"  {name}: {default!r}" + (f"; {', '.join(map(repr, others))}" if others else "")


def print_all(chosen: Sequence[Contract], *, as_json: bool) -> None:
    """Print contracts, a line each."""
    if as_json:
        print_json([as_dict(contract) for contract in chosen])
    else:
        print_contracts(map(in_a_line, chosen))


def print_one(contract: Contract, *, as_json: bool) -> None:
    """Print a contract with all that it asks for."""
    if as_json:
        print_json(as_dict(contract))
    else:
        print("\n".join(in_words(contract)))

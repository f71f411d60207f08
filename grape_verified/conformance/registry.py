"""Every contract by name: those of this package, and those of modules from outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from grape_spec import outside
from grape_spec.outside import CannotLoad

from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.mistakes import WrongContract, refuse_unfounded

__all__ = ["CannotLoad", "contract_named", "contracts_of", "every_contract", "load", "load_installed", "module_of"]

#: The contracts that each module from outside holds.
_HELD: dict[str, tuple[Contract, ...]] = {}


def load(module: str) -> tuple[str, ...]:
    """Load a module from outside with its definitions, claims and contracts.

    A module holds a contract if one of its variables is the contract, or the tuple of contracts that a family returns.
    Afterwards `check`, `conforms` and the commands know its contracts by name.

    Arguments:
        module: as Python imports it, such as "mypackage.losses".

    Returns: the ids of its definitions and claims. `contracts_of` gives its contracts.

    Raises:
        CannotLoad: in one line, for a module that cannot be imported or has neither claims nor contracts, and for a
            contract whose name is taken.
    """
    return outside.load(module, _holds_contracts)


def load_installed() -> None:
    """Load the modules that installed packages announce in the entry-point group `grape_verified.claims`.

    Raises: CannotLoad, naming the package.
    """
    outside.load_installed(_holds_contracts)


def every_contract() -> Mapping[str, Contract]:
    """Every contract by its name, those of loaded modules included."""
    return {**CONTRACTS, **{contract.name: contract for held in _HELD.values() for contract in held}}


def contracts_of(module: str) -> tuple[Contract, ...]:
    """The contracts of a loaded module."""
    return _HELD.get(module, ())


def module_of(contract: str) -> str:
    """The loaded module that holds a contract; empty for those of this package."""
    return next((module for module, held in _HELD.items() if contract in {one.name for one in held}), "")


def contract_named(name: str) -> Contract:
    """The contract of that name; if no loaded module has it, those of installed packages are loaded.

    Raises: ValueError, which names the nearest contracts.
    """
    if not isinstance(name, str):
        raise ValueError(f"contract: got {_shown(name)}, expected a contract or its name, such as 'ppo'")
    if name not in every_contract():
        try:
            load_installed()
        except CannotLoad as failure:
            raise ValueError(f"contract: got {name!r}, which is not a contract of this package; {failure}") from None
    known = every_contract()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=3)
    expected = f"the name of a contract; the nearest: {', '.join(near)}" if near else f"one of {', '.join(known)}"
    own = "" if any(_HELD.values()) else "; for one of your own, name its module: --from MODULE, in Python load(MODULE)"
    raise ValueError(f"contract: got {name!r}, expected {expected}{own}")


def _shown(got: object) -> str:
    """What came in place of a name; most likely it is the tuple that a family returns."""
    if isinstance(got, tuple) and got and all(isinstance(one, Contract) for one in got):
        return f"a tuple of the contracts {', '.join(one.name for one in got)}"
    return f"a {type(got).__name__}"


def _holds_contracts(module: str) -> bool:
    """Enter the contracts of an imported module; return whether it holds any."""
    held = {id(contract): contract for contract in _found_in(module)}.values()
    ours = {id(contract) for contract in CONTRACTS.values()}
    own = tuple(contract for contract in held if id(contract) not in ours)
    taken = dict(every_contract())
    for contract in own:
        other = taken.setdefault(contract.name, contract)
        if other is not contract:
            whose = "this package" if contract.name in CONTRACTS else module_of(contract.name) or module
            raise CannotLoad(f"{module}: the contract {contract.name!r} already exists in {whose}: choose another name")
        try:
            refuse_unfounded(contract)
        except WrongContract as wrong:
            raise CannotLoad(f"{module}: {wrong}") from None
    _HELD[module] = own
    return bool(own)


def _found_in(module: str) -> Iterator[Contract]:
    for found in vars(sys.modules[module]).values():
        several = found if isinstance(found, tuple | list) else (found,)
        yield from (one for one in several if isinstance(one, Contract))

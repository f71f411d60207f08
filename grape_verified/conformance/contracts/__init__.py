"""The contracts, one file for each subject. Each oracle says what it evaluates."""

from collections.abc import Mapping
from importlib import import_module

from grape_verified.conformance.contract import Contract
from grape_verified.conformance.subjects import SUBJECTS


def of_subject(subject: str) -> tuple[Contract, ...]:
    """The contracts in the file of a subject."""
    if not SUBJECTS[subject].modules:
        return ()
    found: tuple[Contract, ...] = import_module(f"{__name__}.{subject}").CONTRACTS
    return found


#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract for subject in SUBJECTS for contract in of_subject(subject)
}

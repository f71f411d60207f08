"""The contracts, one file for each subject. Each oracle says what it evaluates."""

from collections.abc import Mapping
from importlib import import_module

from grape_verified.conformance.contract import Contract
from grape_verified.conformance.subjects import SUBJECTS

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract
    for subject in SUBJECTS.values()
    if subject.modules
    for contract in import_module(f"{__name__}.{subject.name}").CONTRACTS
}

"""Where the mathematics and the code meet: check any implementation against the spec.

`check(function, "ppo")` says, property by property, whether a function does what the definitions of the spec say, and
shows the smallest input on which it does not.

`identify(function)` finds the contract, the options and the habits of a function.

`token_loss`, `pair_loss`, `sequence_loss` and `estimator` make contracts from definitions of the spec, or of your own:
each returns a tuple of contracts, and `check(function, contract)` takes one of them in place of a name.

Conventions in which trainers differ are habits: `habits_of(contract)` names them, and `check(…, habits=[…])` judges a
function with them.

`conforms` and `parametrize_with_checks` make tests of pytest from checks.
"""

from grape_verified.conformance.checking import check
from grape_verified.conformance.contract import Contract, Expectation, Option
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.families import estimator, pair_loss, sequence_loss, token_loss
from grape_verified.conformance.formula import Formula, LogRatio
from grape_verified.conformance.habits import Habit, habits_of
from grape_verified.conformance.identification import Identification, Tie, Variety, identify
from grape_verified.conformance.registry import CannotLoad, every_contract, load
from grape_verified.conformance.report import Finding, Report
from grape_verified.conformance.testing import conforms, parametrize_with_checks

__all__ = [
    "CONTRACTS",
    "CannotLoad",
    "Contract",
    "Expectation",
    "Finding",
    "Formula",
    "Habit",
    "Identification",
    "LogRatio",
    "Option",
    "Report",
    "Tie",
    "Variety",
    "check",
    "conforms",
    "estimator",
    "every_contract",
    "habits_of",
    "identify",
    "load",
    "pair_loss",
    "parametrize_with_checks",
    "sequence_loss",
    "token_loss",
]

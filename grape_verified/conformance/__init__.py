"""The meeting of the mathematics and the code: hold any implementation against the spec.

`check(function, "ppo")` says, property by property, whether a function does what the definitions of the spec say, and
shows the smallest input on which it does not.
"""

from grape_verified.conformance.checking import check
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.report import Finding, Report

__all__ = ["CONTRACTS", "Contract", "Finding", "Report", "check"]

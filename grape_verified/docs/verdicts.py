"""What a ledger says of a claim, in the words of the trust page: proved, certified, measured, or not run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grape_spec.coq.certify import CERTIFIED, NOT_CERTIFIED
from grape_spec.language.claims import Claim

from grape_verified.conformance.ledger import NOT_RUN, Ledger
from grape_verified.docs.reference import contracts_about

MEASURED, REJECTED, NO_KERNEL = "measured", "rejected", "no kernel"

#: Every word for what Coq says of a claim, and for what was measured of the kernels that implement it.
COQ = (CERTIFIED, NOT_CERTIFIED, NOT_RUN)
KERNELS = (MEASURED, REJECTED, NOT_RUN, NO_KERNEL)


class Verdicts(NamedTuple):
    """What a ledger says of a claim.

    Arguments:
        status: what our provers and the audit say, one of the ledger's STATUSES.
        coq: what Coq's kernel says, one of COQ.
        kernels: whether the kernels that implement it were accepted on the inputs that were tried, one of KERNELS.
    """

    status: str
    coq: str
    kernels: str


def verdicts(claim: Claim, ledger: Ledger) -> Verdicts:
    """What the ledger says of a claim as it is stated today."""
    return Verdicts(ledger.status(claim), ledger.certified(claim), _measured(claim, ledger))


def _measured(claim: Claim, ledger: Ledger) -> str:
    seen = {measured(contract.name, ledger) for contract in contracts_about(claim.id)}
    return next((word for word in (REJECTED, NOT_RUN, MEASURED) if word in seen), NO_KERNEL)


def measured(contract: str, ledger: Ledger) -> str:
    """Whether our kernel was accepted under a contract: "measured", "rejected" or "not run"."""
    record = ledger.of_kernel(contract)
    return NOT_RUN if record is None else MEASURED if record.accepted else REJECTED


def kernel_verdict(contract: str, ledger: Ledger) -> str:
    """The verdict of the ledger on our kernel under a contract."""
    record = ledger.of_kernel(contract)
    if record is None:
        return NOT_RUN
    verdict = "accepted" if record.accepted else REJECTED
    return f"{verdict}, {len(record.named('passed'))} of {len(record.properties)} properties"


def counted(words: Sequence[str], *best: str) -> str:
    """How many of these verdicts are the best ones, as in "3 of 5"; "not run" where nothing was looked at."""
    if set(words) <= {NOT_RUN}:
        return NOT_RUN
    return f"{sum(word in best for word in words)} of {len(words)}"

"""What a ledger says of a claim and of a kernel today: evidence on an earlier version of either does not count."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grape_spec.language.claims import Claim
from grape_spec.proof.rules import GENERAL

from grape_verified.conformance import verification

NOT_RUN = "not run"
FULLY_PROVED = "fully proved"
AT_SIZES = "proved at chosen sizes only"

#: Every status that a claim can have, from the best to none at all. A claim is proved, and not fully, where the audit
#: found fault with it or where something that it uses is not proved.
STATUSES = (FULLY_PROVED, AT_SIZES, "proved", "unknown", "refuted", NOT_RUN)

_CLAIM_FIELDS = ("hash", "status", "fully_proved", "waits_for", "scope", "seconds", "parts", "wrong")


class NotALedger(ValueError):
    """A file that `verify` did not write."""


@dataclass(frozen=True)
class Evidence:
    """The records of a ledger, and when and with what it was made; empty where nothing was run."""

    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    kernels: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def of(self, claim: Claim) -> dict[str, Any] | None:
        """The record of a claim as it is stated today, or None."""
        record = self.claims.get(claim.id)
        return record if record is not None and record["hash"] == claim.hash else None

    def status(self, claim: Claim) -> str:
        """One of STATUSES."""
        record = self.of(claim)
        if record is None:
            return NOT_RUN
        if record["status"] != "proved":
            return str(record["status"])
        if not record["fully_proved"]:
            return "proved"
        return FULLY_PROVED if GENERAL in record["scope"] else AT_SIZES

    def of_kernel(self, contract: str) -> dict[str, Any] | None:
        """The record of a kernel under a contract, if the code is what it was then, or None."""
        return self.kernels.get(contract) if self.versions.get("code") == verification.code() else None


def read(ledger: Path) -> Evidence:
    """The evidence in a ledger; none where there is no such file.

    Raises: NotALedger for a file of another kind.
    """
    if not ledger.exists():
        return Evidence()
    try:
        found = json.loads(ledger.read_text(encoding="utf-8"))
        claims = {record["id"]: {key: record[key] for key in _CLAIM_FIELDS} for record in found["claims"]}
        kernels = {record["contract"]: record for record in found["kernels"]}
        return Evidence(claims, kernels, found["created"], found["versions"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as failure:
        raise NotALedger(f"{ledger} is not a ledger of grape-verified verify") from failure

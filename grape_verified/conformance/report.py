"""What a check found, property by property."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One property of one function.

    Arguments:
        name: the property.
        status: "noted" is a departure from a convention of this package that makes no function wrong; "not run" says
            nothing about the function.
        text: the property in one sentence, or what is wrong, or why it was not run.
        examples: how many inputs were tried.
        counterexample: Python that shows what is wrong, the smallest that was found; empty where nothing is.
    """

    name: str
    status: Literal["passed", "failed", "noted", "not run"]
    text: str
    examples: int = 0
    counterexample: str = ""


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Arguments:
        contract, function: what was checked, and as what.
        offered, not_offered: the options of the contract that the function takes, and those that it does not.
        properties: in the order in which they were checked.
    """

    contract: str
    function: str
    offered: tuple[str, ...]
    not_offered: tuple[str, ...]
    properties: tuple[Finding, ...]

    @property
    def accepted(self) -> bool:
        """Whether no property failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the properties that failed."""
        return self.named("failed")

    def named(self, status: str) -> tuple[str, ...]:
        """The names of the properties with that status."""
        return tuple(finding.name for finding in self.properties if finding.status == status)

    def finding(self, name: str) -> Finding:
        """The finding on one property."""
        return next(finding for finding in self.properties if finding.name == name)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able data."""
        return {"accepted": self.accepted, **asdict(self)}

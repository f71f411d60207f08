"""The findings of a check, property by property."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One property of one function.

    Arguments:
        name: the property.
        status: "noted" is a departure from a convention of this package, which is not an error; "not run" says nothing
            about the function.
        text: the property in one sentence, or what is wrong, or why it was not run.
        examples: the number of inputs tried.
        counterexample: Python code with the smallest counterexample found; empty if there is none.
    """

    name: str
    status: Literal["passed", "failed", "noted", "not run"]
    text: str
    examples: int = 0
    counterexample: str = ""


@dataclass(frozen=True)
class Report:
    """The result of `check`.

    Arguments:
        contract, function: their names.
        offered, not_offered: the options of the contract that the function takes, and those that it does not.
        properties: the findings, in the order of checking.
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
        """The report as data for JSON."""
        return {"accepted": self.accepted, **asdict(self)}

"""What a profile is: a trainer, the release that it was written for, and an entry for each function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

#: Every profile.
PROFILES = ("trl", "verl", "openrlhf", "torchtune", "torchrl", "liger")


class NotInstalled(Exception):
    """The trainer is not installed; the message has the command that installs it."""


@dataclass(frozen=True)
class Entry:
    """One function of a trainer, as an implementation of a contract.

    Arguments:
        name: its name in the profile.
        symbol: MODULE:NAME of the trainer's function.
        contract: the contract that it is checked against.
        function: calls the trainer's function with the contract's tensors; None to call it directly.
        setting: how it is called, in words.
        options: values of the contract's options that it hard-codes, or that the setting fixes.
        habits: the conventions that it is judged with.
        bind: what the parameters are whose names do not say it.
    """

    name: str
    symbol: str
    contract: str
    function: Callable[..., Any] | None = None
    setting: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    habits: tuple[str, ...] = ()
    bind: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """A trainer.

    Arguments:
        name: what `--profile` takes.
        package: its name in the package registry.
        release: the release that the profile was written for.
        entries: its functions.
        unused: modules that it imports but no function of the profile uses.
    """

    name: str
    package: str
    release: str
    entries: tuple[Entry, ...]
    unused: tuple[str, ...] = ()

    def installed(self) -> str:
        """The version that is installed.

        Raises: NotInstalled.
        """
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            command = f"pip install '{self.package}=={self.release}.*'"
            raise NotInstalled(f"{self.package} is not installed: run {command}") from None

    def target(self, entry: Entry) -> Callable[..., Any]:
        """The function to check. The trainer is imported, with empty modules for unused ones that are not installed.

        Raises: what the import raises; AttributeError for a symbol that does not exist.
        """
        absent = [name for name in self.unused if not _is_there(name)]
        sys.modules.update({name: _Empty(name) for name in absent})
        try:
            theirs = resolve_name(entry.symbol)
        finally:
            for name in absent:
                del sys.modules[name]
        return entry.function or theirs

    def outside(self, version: str) -> str:
        """A sentence if a version is not of the profile's release; empty if it is."""
        if version == self.release or version.startswith(f"{self.release}."):
            return ""
        return f"{self.package} {version} is installed, but the profile was written for {self.release}.*"


class _Empty(ModuleType):
    """A module in which every name is None."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # other packages ask for it

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not installed
        return False


def profile_named(name: str) -> Profile:
    """The profile of that name; a ValueError lists all names."""
    if name not in PROFILES:
        raise ValueError(f"profile: got {name!r}, expected one of {', '.join(PROFILES)}")
    found: Profile = import_module(f"grape_verified.conformance.profiles.{name}").PROFILE
    return found

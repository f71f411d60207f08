"""The table of planted functions: each is registered where it is written, with the verdict that a check must give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

#: Properties that often fail together: of a loss, of one with kinks, of a constant.
SPEC = ("value", "gradient", "options", "extremes")
KINKED = (*SPEC, "kinks")
TERMS = (*SPEC, "cotangents")
CONSTANT = ("value", "options")
WEIGHTS = (*CONSTANT, "extremes")

#: Properties that a wrong formula breaks; any other is about what a right one does not survive.
OF_THE_FORMULA = {"value", "gradient", "cotangents", "options", "partition", "expectation", "kinks"}


@dataclass(frozen=True)
class Planted:
    """A function, right or wrong, and its contract.

    Arguments:
        name: how it is called among those of its contract.
        must, may: the properties that have to fail, and those that may fail with them; none for a correct function.
        options: those that stay at one value.
        verdict: "formula" if it is another loss, "robustness" if it is the loss and does not survive something.
    """

    name: str
    function: Callable[..., Any]
    contract: str
    must: Sequence[str] = ()
    may: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = ""

    @property
    def id(self) -> str:
        """The id of its tests."""
        return "-".join([self.contract, self.name, *(f"{name}={value}" for name, value in self.options.items())])


WRONG: list[Planted] = []
CORRECT: list[Planted] = []

#: Constant, scale and text of the bound in the docstring of a kernel.
STATED: dict[str, tuple[float, Callable[..., Any], str]] = {}


def wrong(contract, name="", *, must, may=(), options=None, verdict=None):
    """Plant a function with one mistake; a property that is in neither list must not fail.

    It is a mistake of the formula if a property of the formula must fail, unless another verdict is stated.
    """
    meant = verdict or ("formula" if OF_THE_FORMULA & set(must) else "robustness")

    def plant(function):
        WRONG.append(Planted(name, function, contract, must, may, options or {}, meant))
        return function

    return plant


def correct(contract, name=""):
    """Plant a correct function in another style than the kernel's."""

    def plant(function):
        CORRECT.append(Planted(name, function, contract))
        return function

    return plant


def bound(contract, constant, text):
    """State the error bound of a kernel: the constant, the words of the docstring, and a function for the scales."""

    def state(scales):
        STATED[contract] = (constant, scales, text)
        return scales

    return state


def load():
    """Import every module of planted functions, and return the table: the wrong ones and the correct ones."""
    names = {id(x): name for module in _modules("planted*.py") for name, x in vars(module).items() if callable(x)}
    return tuple([_named(entry, names) for entry in table] for table in (WRONG, CORRECT))


def stated():
    """Import every module that states bounds, and return them by contract."""
    _modules("stated.py")
    _modules("planted*.py")
    return STATED


def _modules(pattern):
    return [import_module(f"{__package__}.{file.stem}") for file in sorted(Path(__file__).parent.glob(pattern))]


def _named(entry, names):
    """The entry with the name of the variable that holds its function, unless it has a name of its own."""
    return entry if entry.name else Planted(names[id(entry.function)], *list(vars(entry).values())[1:])

"""Claims from outside: modules that declare symbols, definitions and claims with the public language.

Such a module has a namespace of its own, the first words of its ids, and may have a bibliography, the file
``references.bib`` beside it. A package announces its modules in the entry-point group ``grape_verified.claims``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import FrameType

import grape_spec
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RegistryError, check_registry, entry_of, is_ours
from grape_spec.proof.prove import check_domains
from grape_spec.references import add_bibliography, works

#: The entry-point group.
GROUP = "grape_verified.claims"

#: The packages of this distribution, whose messages speak for themselves.
_OURS = (grape_spec.__name__, "grape_verified")

#: What to write instead, by words of the errors of Python, SymPy, NumPy and torch that formulas lead to.
_INSTEAD = {
    "truth value of Relational": "write Max, Min, cases() or And() in place of max, min, if or and",
    **dict.fromkeys(
        ("expression to float", "loop of ufunc", "must be Tensor", "must be real number"),
        "write exp, log and the like of SymPy, which take formulas",
    ),
    "interpreted as an integer": "write sum_over(…, i) for a sum over an index",
    "cannot sympify": "write an expression of declared symbols",
}

#: The ids that each module entered.
_LOADED: dict[str, tuple[str, ...]] = {}


class CannotLoad(Exception):
    """Why the claims of a module cannot be used, in one line."""


def _holds_nothing(module: str) -> bool:
    """What a module may hold beside definitions and claims is not known here."""
    return False


def load(module: str, holds: Callable[[str], bool] = _holds_nothing) -> tuple[str, ...]:
    """Import a module from outside; the ids that it entered.

    Arguments:
        module: its name.
        holds: given the name of the imported module, whether it holds something beside definitions and claims.

    Raises: CannotLoad.
    """
    if module not in _LOADED:
        before, known = _ids(), module in sys.modules
        try:
            _import(module)
            found = tuple(sorted(_ids() - before))
            _check(module, found, holds(module) or known)
        except (RegistryError, OSError, UnicodeDecodeError) as failure:
            raise CannotLoad(f"{module}: {_first_line(failure)}") from failure
        _LOADED[module] = found
    return _LOADED[module]


def load_installed(holds: Callable[[str], bool] = _holds_nothing) -> None:
    """Load the modules that installed packages announce; `holds` is that of `load`.

    Raises: CannotLoad, naming the package.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            load(point.module, holds)
        except CannotLoad as failure:
            package = point.dist.name if point.dist else point.name
            raise CannotLoad(f"the claims of the installed package {package}: {failure}") from failure


def loaded() -> tuple[str, ...]:
    """The modules from outside, in the order in which they were loaded."""
    return tuple(_LOADED)


def module_of(id: str) -> str:
    """The module from outside that entered an id; empty for those of this package."""
    return next((module for module, ids in _LOADED.items() if id in ids), "")


def is_of_unloaded(id: str) -> bool:
    """Whether an id is of a namespace of which nothing is loaded, so that nobody can say whether it still exists."""
    return _namespace(id) not in set(map(_namespace, _ids()))


def _ids() -> set[str]:
    return {*DEFINITIONS, *CLAIMS}


def _namespace(id: str) -> str:
    return id.partition(".")[0]


def _import(module: str) -> None:
    top = module.partition(".")[0]
    if top in _OURS:
        raise CannotLoad(f"{module} is part of this package, expected a module of your own")
    try:
        if find_spec(top) is None:
            raise CannotLoad(f"there is no module {module!r} in the current folder or among the installed packages")
        importlib.import_module(module)
    except SyntaxError as failure:
        raise CannotLoad(f"{_shown(failure.filename)}, line {failure.lineno}: {failure.msg}") from failure
    except (CannotLoad, KeyboardInterrupt):
        raise
    except BaseException as failure:  # a module of somebody else may raise anything
        raise CannotLoad(f"{_place(failure, top) or module}: {_first_line(failure)}") from failure


def _check(module: str, ids: tuple[str, ...], holds: bool) -> None:
    """Refuse what would not be of a namespace of its own, what is nothing, and what the checks of ours would refuse."""
    if not ids and not holds:
        raise CannotLoad(f"{module}: it declares no definition, no claim and no contract")
    ours = {_namespace(id) for id in _ids() if is_ours(id)}
    for id in ids:
        if _namespace(id) in ours:
            raise CannotLoad(
                f"{module}: the id {id!r} begins with a word of this package's: begin with one of your own"
            )
    file = getattr(sys.modules[module], "__file__", None)
    if file and (bibliography := Path(file).with_name("references.bib")).is_file():
        add_bibliography(bibliography)
    for id in ids:
        key = entry_of(id).source.key
        if key != "derived" and key not in works():
            raise CannotLoad(f"{module}: the source {key!r} of {id} is not in references.bib beside the module")
    check_registry()
    check_domains()


def _first_line(failure: BaseException) -> str:
    """What went wrong, and what to write instead; the messages of this package speak for themselves."""
    told = failure.args[0] if isinstance(failure, KeyError) and failure.args else failure
    text = str(told).strip().split("\n")[0]
    raised_in = [_package(frame) for frame, _ in walk_tb(failure.__traceback__)][-1]
    ours = isinstance(failure, ValueError | TypeError | KeyError) and raised_in in _OURS
    if text and (isinstance(failure, OSError) or ours):
        return text
    hint = next((f": {hint}" for words, hint in _INSTEAD.items() if words in text), "")
    return f"{type(failure).__name__}: {text}{hint}" if text else type(failure).__name__


def _place(failure: BaseException, top: str) -> str:
    """The last line of theirs that Python was at: not of this package, of Python, or of another installed one."""
    frames = [(frame, line) for frame, line in walk_tb(failure.__traceback__) if _is_theirs(frame, top)]
    return f"{_shown(frames[-1][0].f_code.co_filename)}, line {frames[-1][1]}" if frames else ""


def _is_theirs(frame: FrameType, top: str) -> bool:
    package, file = _package(frame), frame.f_code.co_filename
    if package == top:
        return True
    installed = {"site-packages", "dist-packages"}.intersection(Path(file).parts)
    return not (installed or file.startswith("<") or package in (*_OURS, *sys.stdlib_module_names))


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _shown(file: str | None) -> str:
    """A file by its path from the current folder if it is below it."""
    path = Path(file or "")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

"""The target of `check`: its import, its output, and the options fixed for it."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from grape_verified.conformance.guard import guarded
from grape_verified.conformance.printing import Printed, bounded, in_a_line
from grape_verified.conformance.state import Changes


class WrongCall(Exception):
    """What is wrong with the call, in one line."""


def imported(target: str) -> Callable[..., Any]:
    """What is found at MODULE:FUNCTION, looked up from the current folder; a class or a factory may be called there.

    A module may also be given as a file in the current folder or below it. What is printed meanwhile is bounded.

    Raises: WrongCall.
    """
    with bounded(Printed(), Changes()):
        return _imported(target)


def _imported(target: str) -> Callable[..., Any]:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise WrongCall(f"got {target!r}, expected MODULE:FUNCTION, such as mypackage.losses:my_loss")
    steps = _steps(name, target)
    if module_name.endswith(".py"):
        module_name = _module_in(module_name)
    sys.path.insert(0, os.getcwd())
    try:
        with guarded():
            found = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # a module of the user may raise anything
        raise WrongCall(f"cannot import {module_name}: {in_a_line(failure)}") from failure
    for step in steps:
        if isinstance(step, str):
            found = _attribute(found, step, f"the module {module_name} has no {name}")
        else:
            found = _made(found, step, target)
    if isinstance(found, type):
        raise WrongCall(f"{target} is a class, expected a function; give what it is made with: {target}(…)")
    if not callable(found):
        raise WrongCall(f"{target} is a {type(found).__name__}, expected a function")
    return found


def _module_in(file: str) -> str:
    """The name by which a file of Python can be imported from the current folder."""
    path = os.path.relpath(file)
    parts = path.removesuffix(".py").split(os.sep)
    if not os.path.isfile(path):
        raise WrongCall(f"there is no file {file}")
    if not all(part.isidentifier() for part in parts):
        raise WrongCall(f"got {file}, expected a file in the current folder or below it, with names of Python modules")
    return ".".join(parts)


#: A step to the target: the name of an attribute, or the arguments of a call.
Step = str | tuple[list[Any], dict[str, Any]]


def _steps(name: str, target: str) -> list[Step]:
    """The steps in NAME, NAME.ATTRIBUTE or NAME(ARGUMENT, …), with literals as arguments."""
    steps: list[Step] = []
    try:
        node: ast.expr = ast.parse(name, mode="eval").body
        while not isinstance(node, ast.Name):
            if isinstance(node, ast.Attribute):
                steps.append(node.attr)
                node = node.value
            elif isinstance(node, ast.Call):
                by_name = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
                steps.append(([ast.literal_eval(argument) for argument in node.args], by_name))
                node = node.func
            else:
                raise SyntaxError
    except (SyntaxError, ValueError):
        raise WrongCall(
            f"got {target!r}, expected MODULE:FUNCTION or MODULE:CLASS(NAME=VALUE), with literals as values"
        ) from None
    return [node.id, *reversed(steps)]


def _attribute(found: Any, step: str, missing: str) -> Any:
    """An attribute, which may run code of the user."""
    try:
        return getattr(found, step)
    except AttributeError:
        raise WrongCall(missing) from None
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        raise WrongCall(f"{missing}: {in_a_line(failure)}") from failure


def _made(found: Any, call: tuple[list[Any], dict[str, Any]], target: str) -> Any:
    """What a class or a factory makes of its arguments."""
    by_position, by_name = call
    try:
        with guarded():
            return found(*by_position, **by_name)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        raise WrongCall(f"cannot make {target}: {in_a_line(failure)}") from failure


def option(text: str) -> tuple[str, Any]:
    """The name and the value in NAME=VALUE.

    Raises: WrongCall.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise WrongCall(f"--option: got {text!r}, expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def binding(text: str) -> tuple[str, str]:
    """The parameter and the name in PARAMETER=NAME.

    Raises: WrongCall.
    """
    parameter, equals, name = text.partition("=")
    if not (parameter and equals and name):
        raise WrongCall(f"--bind: got {text!r}, expected PARAMETER=NAME, such as new=logps")
    return parameter, name


@contextmanager
def output_to_stderr() -> Iterator[None]:
    """Redirect standard output to standard error, including writes that bypass `sys.stdout` and those of children."""
    kept = os.dup(1)
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            stream.flush()
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        os.dup2(kept, 1)
        os.close(kept)

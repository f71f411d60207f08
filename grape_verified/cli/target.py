"""The target of `check`: its import, its output, and the options fixed for it."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any


class WrongCall(Exception):
    """What is wrong with the call, in one line."""


def imported(target: str) -> Callable[..., Any]:
    """The function at MODULE:FUNCTION, looked up from the current folder.

    Raises: WrongCall.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise WrongCall(f"got {target!r}, expected MODULE:FUNCTION, such as mypackage.losses:my_loss")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # a module of the user may raise anything
        reason = str(failure).strip().split("\n")[0]
        raise WrongCall(f"cannot import {module_name}: {type(failure).__name__}: {reason}") from failure
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            raise WrongCall(f"the module {module_name} has no {name}")
        found = getattr(found, attribute)
    if not callable(found):
        raise WrongCall(f"{target} is a {type(found).__name__}, expected a function")
    return found


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

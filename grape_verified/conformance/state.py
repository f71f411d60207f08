"""Global state that a function under check must leave as it was: what it is, how to read it and how to restore it."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

#: Signals whose handlers are restored; `guard` sees to that of the alarm.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


#: What a sentence calls sys.stdout, sys.stderr and sys.stdin.
STREAMS = "the standard streams"


@dataclass(frozen=True)
class _Kept:
    """A piece of global state.

    Arguments:
        name: what a sentence calls it.
        read, write: give it, and set it to what was given.
        of_libraries: whether libraries change it when they are first used, so that one change says nothing; the values
            of such state are not shown.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    of_libraries: bool = False


def _default_device() -> torch.device | None:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return context and context.device


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _set_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _environment() -> dict[bytes, bytes]:
    return dict(os.environ._data)  # type: ignore[attr-defined]  # fifty times as fast as os.environ.copy()


def _set_environment(values: dict[bytes, bytes]) -> None:
    for name in os.environb.keys() - values.keys():
        del os.environb[name]
    os.environb.update(values)


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _set_handlers(handlers: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if handler is not None and signal.getsignal(number) is not handler:
            with suppress(ValueError):  # only the main thread may set handlers
                signal.signal(number, handler)


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdout, sys.stderr, sys.stdin = streams


_STATE = (
    _Kept("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Kept("the number of threads", torch.get_num_threads, torch.set_num_threads),
    _Kept("whether gradients are computed", torch.is_grad_enabled, torch.set_grad_enabled),
    _Kept("the seed", torch.initial_seed, torch.manual_seed),
    _Kept("the default device", _default_device, torch.set_default_device),
    _Kept("the mode of deterministic algorithms", torch.get_deterministic_debug_mode,
          torch.set_deterministic_debug_mode),
    _Kept("whether anomalies are detected", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    _Kept("whether autocast is on", lambda: torch.is_autocast_enabled("cpu"),
          lambda on: torch.set_autocast_enabled("cpu", on)),
    _Kept("the precision of matrix products", torch.get_float32_matmul_precision,
          torch.set_float32_matmul_precision),
    _Kept("the working folder", _folder, _set_folder),
    _Kept("the limit of recursion", sys.getrecursionlimit, sys.setrecursionlimit, of_libraries=True),
    _Kept("what NumPy does about errors", np.geterr, lambda errors: np.seterr(**errors), of_libraries=True),
    _Kept("the environment", _environment, _set_environment, of_libraries=True),
    _Kept("the filters of warnings", lambda: list(warnings.filters), _set_filters, of_libraries=True),
    _Kept("the handlers of signals", lambda: [signal.getsignal(n) for n in _SIGNALS], _set_handlers,
          of_libraries=True),
    _Kept(STREAMS, lambda: (sys.stdout, sys.stderr, sys.stdin), _set_streams, of_libraries=True),
)  # fmt: skip


class Changes(Counter[str]):
    """The changes of global state, in words, each with the number of calls that made it."""

    def told(self) -> list[str]:
        """Those that a function makes itself: a library that is first used changes some state once."""
        once = {kept.name for kept in _STATE if kept.of_libraries}
        return sorted(words for words, times in self.items() if times > 1 or words not in once)


def read() -> list[Any]:
    """The global state."""
    return [kept.read() for kept in _STATE]


def restore(before: list[Any], changes: Changes) -> None:
    """Set the global state to what was read; what had been changed is added to the changes."""
    for kept, value in zip(_STATE, before, strict=True):
        now = kept.read()
        if now != value:
            changes[kept.name if kept.of_libraries else f"{kept.name} from {value} to {now}"] += 1
            kept.write(value)

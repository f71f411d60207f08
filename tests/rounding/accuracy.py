"""How accurate torch's functions are on this machine: `python -m tests.rounding.accuracy [--all]`.

In fp32 the inputs are floats at equal steps of their bits (with --all every float whose magnitude is above 2⁻³⁰) and
all floats near critical points; the exact values are numpy's in fp64. In fp64 the inputs are drawn, and the exact
values are FLINT's balls.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import flint
import numpy as np
import torch
from torch.nn.functional import logsigmoid

DTYPES = {"fp32": np.float32, "fp64": np.float64}

#: How many u an error of logsigmoid may exceed u·|log σ| by: log_sigmoid_error, for a log1p within 1.5 ulp.
LOGSIGMOID = 1.02 + 1.41 * 1.5


@dataclass(frozen=True)
class Function:
    """A function of torch, with its exact values, the range of its arguments, and where it may be at its worst."""

    name: str
    of: Callable[[torch.Tensor], torch.Tensor]
    wide: Callable[[np.ndarray], np.ndarray]
    ball: Callable[[flint.arb], flint.arb]
    low: float
    high: float
    critical: tuple[float, ...]

    def error(self, got: np.ndarray, exact: np.ndarray, off: np.ndarray) -> np.ndarray:
        """The error, `off`, in ulp of the exact value; for logsigmoid, what it exceeds u·|exact| by, in u."""
        digits = np.finfo(got.dtype).nmant + 1
        if self.name == "logsigmoid":
            return off * 2.0**digits - np.abs(exact)
        _, exponent = np.frexp(exact)
        return off / np.ldexp(1.0, exponent - digits)


def _log_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


HALVES = tuple((k + 0.5) * math.log(2) for k in (-100, -20, -3, -2, -1, 0, 1, 2, 20, 100))

FUNCTIONS = {
    "exp": Function("exp", torch.exp, np.exp, lambda x: x.exp(), -87.0, 88.0, HALVES),
    "expm1": Function(
        "expm1", torch.expm1, np.expm1, lambda x: x.expm1(), -88.0, 88.0,
        (*HALVES, *(digits * -math.log(2) for digits in (22, 23, 24, 25, 52, 53, 54))),
    ),
    "log1p": Function(
        "log1p", torch.log1p, np.log1p, lambda x: x.log1p(), 0.0, 1.0, (math.sqrt(2) - 1, math.sqrt(0.5), 0.5, 1.0)
    ),
    "logsigmoid": Function(
        "logsigmoid", logsigmoid, _log_sigmoid, lambda x: -(-x).exp().log1p(), -1000.0, 88.0,
        (-1.0, -math.log(2), math.log(2), 1.0),
    ),
}  # fmt: skip


def floats(low: float, high: float, step: int) -> np.ndarray:
    """The fp32 numbers from low to high, 0 < low: each step-th of them."""
    first, last = (int(np.float32(x).view(np.uint32)) for x in (low, high))
    return np.arange(first, last + 1, step, dtype=np.uint32).view(np.float32)


def near(points: tuple[float, ...], dtype: type, number: int) -> np.ndarray:
    """The numbers next to some points other than 0, to both sides."""
    integer = np.dtype(dtype).str.replace("f", "i")
    steps = np.arange(-number, number + 1).astype(integer)
    return (np.array(points, dtype)[:, None].view(integer) + steps).view(dtype).ravel()


def inputs_fp32(function: Function, everything: bool) -> Iterator[np.ndarray]:
    """Arrays of arguments in fp32."""
    step = 1 if everything else 997
    for sign, end in ((1, function.high), (-1, -function.low)):
        if end > 0:
            yield sign * floats(2.0**-126, 2.0**-30, 9973)
            edges = [2.0**k for k in range(-30, math.ceil(math.log2(end)))] + [end]
            for low, high in pairwise(edges):
                yield sign * floats(low, high, step)
    yield _inside(function, near(function.critical, np.float32, 2**14))


def inputs_fp64(function: Function, number: int) -> Iterator[np.ndarray]:
    """Arrays of arguments in fp64."""
    chance = np.random.default_rng(0)
    yield chance.uniform(function.low, function.high, number)
    yield chance.uniform(max(function.low, -1), 1, number)
    small = np.exp2(chance.uniform(-60, 0, number))
    yield small if function.low == 0 else small * chance.choice([-1, 1], number)
    yield _inside(function, near(function.critical, np.float64, number // 100))


def _inside(function: Function, x: np.ndarray) -> np.ndarray:
    return x[(x >= function.low) & (x <= function.high)]


def ways(of: Callable[[torch.Tensor], torch.Tensor], x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Arguments and results on each way through torch: whole vectors, strides, and pieces too short for a vector."""
    whole = torch.from_numpy(x)
    yield x, of(whole).numpy()
    some = whole[: 2**16]
    yield some.numpy(), of(torch.stack([some, some], 1)[:, 0]).numpy()
    few = whole[:: max(1, len(whole) // 500)]
    for size in (1, 7, 33):
        yield few.numpy(), torch.cat([of(piece) for piece in few.split(size)]).numpy()


def worst(function: Function, dtype: str, everything: bool = False, number: int = 2_000) -> float:
    """The largest error of a function, in ulp; for logsigmoid see `Function.error`."""
    found = -math.inf
    if dtype == "fp32":
        for x in inputs_fp32(function, everything):
            for arguments, got in ways(function.of, x):
                exact = function.wide(arguments.astype(np.float64))
                found = max(found, function.error(got, exact, np.abs(got - exact)).max())
        return float(found)
    flint.ctx.prec = 160
    for x in inputs_fp64(function, number):
        balls = {argument: function.ball(flint.arb(argument)) for argument in x.tolist()}
        for arguments, got in ways(function.of, x):
            exact = [balls[argument] for argument in arguments.tolist()]
            off = [abs(float((value - ball).mid())) for value, ball in zip(got.tolist(), exact, strict=True)]
            middles = np.array([float(ball.mid()) for ball in exact])
            found = max(found, function.error(got, middles, np.array(off)).max())
    return float(found)


def main() -> None:
    """Print the largest error of each function at each dtype."""
    parser = argparse.ArgumentParser(prog="python -m tests.rounding.accuracy", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every float in fp32, and ten times the inputs in fp64")
    everything = parser.parse_args().all
    for name, function in FUNCTIONS.items():
        for dtype in DTYPES:
            found = worst(function, dtype, everything, 20_000 if everything else 2_000)
            print(f"{name:10} {dtype}  {found:.4f}", flush=True)


if __name__ == "__main__":
    main()

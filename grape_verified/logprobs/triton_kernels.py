"""Small Triton kernels for passes over logits, each of which takes several operations of torch.

The matrix products stay with torch. What follows is memory-bound: one program for each row reads it once, in blocks of
columns, and writes it at most once. Everything is computed in fp32.

In all kernels e is the exponential of a distance d from a shift. If π_v = 0 then d_v is −∞, so a d_v that is multiplied
by e_v is clamped from below.
"""

from typing import Any

import torch
import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
import triton.language as tl  # type: ignore[import-untyped, import-not-found, unused-ignore]
from torch import Tensor

from grape_verified.numerics import EXP_IS_ZERO

#: The bytes of a row that a thread loads at once, two loads of full width, and the largest number of warps for a row.
BYTES_PER_THREAD, MOST_WARPS = 32, 8

_FLOOR = tl.constexpr(EXP_IS_ZERO)
_LOWEST = tl.constexpr(torch.finfo(torch.float32).min)
_LOG2E = tl.constexpr(1.4426950408889634)
_LN2 = tl.constexpr(0.6931471805599453)


def block_of(logits: Tensor) -> dict[str, int]:
    """The launch options: 32 bytes of a row for each thread, and 1, 2, 4 or 8 warps, as many as its columns need."""
    of_warp = 32 * BYTES_PER_THREAD // logits.element_size()
    warps = min(triton.next_power_of_2(triton.cdiv(logits.shape[-1], of_warp)), MOST_WARPS)
    return {"block": warps * of_warp, "num_warps": warps}


# -- kernels ----------------------------------------------------------------------------------------------------------


@triton.jit
def _inverse(temperatures, inverse_temperature, row):
    """1/τ of a row: its own, or that of all rows."""
    inverse = inverse_temperature
    if temperatures is not None:
        inverse = tl.div_rn(1.0, tl.load(temperatures + row))
    return inverse


@triton.jit
def _exp(d):
    """exp(d), by the exp2 of the hardware; subnormal results become 0."""
    return tl.exp2(d * _LOG2E)


@triton.jit
def _logits(products, bias, columns, inside, inverse):
    """z of some columns, −∞ outside."""
    z = tl.load(products + columns, mask=inside, other=-float("inf")).to(tl.float32)
    if bias is not None:
        z += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    return z * inverse


@triton.jit
def _in_rows(base, row, inner, outer_stride, inner_stride):
    """The address of a row, by its place among outer and inner rows."""
    row = row.to(tl.int64)
    return base + (row // inner) * outer_stride + (row % inner) * inner_stride


@triton.jit
def add_tile_kernel(
    products, bias, temperatures, inverse_temperature, position, shift, rest, chosen, spread, columns,
    slack: tl.constexpr, exponentials: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One row of `add_tile`."""
    row = tl.program_id(0)
    start = products + row.to(tl.int64) * columns
    inverse = _inverse(temperatures, inverse_temperature, row)
    y = tl.load(position + row).to(tl.int32)
    held = (y >= 0) & (y < columns)
    top = _logits(start, bias, y, held, inverse)
    tl.store(chosen + row, top, mask=held)
    m = tl.load(shift + row)
    s = tl.load(rest + row)
    if spread is not None:
        w = tl.load(spread + row)
    for first in range(0, columns, block):
        j = first + tl.arange(0, block)
        inside = j < columns
        z = tl.where(j == y, -float("inf"), _logits(start, bias, j, inside, inverse))
        top = tl.maximum(top, tl.max(z, 0))
        raised = tl.where(top > m + slack, top, m)
        drop = tl.maximum(m - raised, _FLOOR)
        factor = _exp(drop)
        late = (raised > m) & (first > 0)
        m = raised
        d = z - m
        e = _exp(d)
        if spread is not None:
            w = (w + s * drop) * factor + tl.sum(e * tl.maximum(d, _FLOOR), 0)
        s = s * factor + tl.sum(e, 0)
        if exponentials:
            tl.store(start + j, e, mask=inside)
            if late:
                tl.debug_barrier()  # wait for the writes of other threads
                for earlier in range(0, first, block):
                    place = start + earlier + tl.arange(0, block)
                    tl.store(place, tl.load(place) * factor)
    tl.store(shift + row, m)
    tl.store(rest + row, s)
    if spread is not None:
        tl.store(spread + row, w)


@triton.jit(do_not_specialize=["inner"])
def softmax_kernel(
    logits, outer_stride, inner_stride, inner, inverse_temperature, top, ties, rest, spread, columns,
    block: tl.constexpr,
):  # fmt: skip
    """One row of `softmax`; distances are in units of log 2."""
    row = tl.program_id(0)
    start = _in_rows(logits, row, inner, outer_stride, inner_stride)
    unit = inverse_temperature * _LOG2E
    m = _LOWEST
    n = 0.0
    s = 0.0
    w = 0.0
    for first in range(0, columns, block):
        j = first + tl.arange(0, block)
        z = tl.load(start + j, mask=j < columns, other=-float("inf")).to(tl.float32)
        raised = tl.maximum(m, tl.max(z, 0))
        drop = tl.maximum((m - raised) * unit, _FLOOR)
        factor = tl.exp2(drop)
        d = (z - raised) * unit
        e = tl.exp2(d)
        others = tl.sum(tl.where(z == raised, 0.0, e), 0)
        tied = tl.floor(tl.sum(e, 0) - others + 0.5)
        if spread is not None:
            w = (w + (n + s) * drop) * factor + tl.sum(e * tl.maximum(d, _FLOOR), 0)
        s = (s + tl.where(raised > m, n, 0.0)) * factor + others
        n = tl.where(raised > m, 0.0, n) + tied
        m = raised
    tl.store(top + row, m)
    tl.store(ties + row, n)
    tl.store(rest + row, s)
    if spread is not None:
        tl.store(spread + row, w * _LN2)


@triton.jit(do_not_specialize=["inner"])
def slopes_kernel(
    products, outer_stride, inner_stride, inner, bias, temperatures, inverse_temperature, inverse_divisor,
    position, shift, totals, at_target, slope, curve, entropies, moments, result, columns,
    block: tl.constexpr,
):  # fmt: skip
    """One row of `slopes`; distances are in units of log 2."""
    row = tl.program_id(0)
    start = _in_rows(products, row, inner, outer_stride, inner_stride)
    inverse = _inverse(temperatures, inverse_temperature, row)
    unit = inverse_divisor * _LOG2E
    m = tl.load(shift + row)
    total = 0.0
    if totals is not None:
        total = tl.load(totals + row) * _LOG2E
    y = -1
    of_target = 0.0
    if position is not None:
        y = tl.load(position + row).to(tl.int32)
        of_target = tl.load(at_target + row)
    a = 1.0
    if slope is not None:
        a = tl.load(slope + row)
    read = columns
    if slope is not None:
        idle = a == 0.0
        if curve is not None:
            h = tl.load(curve + row)
            idle = idle & (h == 0.0)
            entropy = tl.where(idle, 0.0, tl.load(entropies + row))
        read = tl.where(idle, 0, columns)
        m = tl.where(idle, 0.0, m)
        total = tl.where(idle, 0.0, total)
        of_target = tl.where(idle, 0.0, of_target)
    moment = 0.0
    for first in range(0, columns, block):
        j = first + tl.arange(0, block)
        inside = j < columns
        d = (_logits(start, bias, j, j < read, inverse) - m) * unit - total
        logp = tl.maximum(d * _LN2, _FLOOR)
        factor = a
        if curve is not None:
            factor = h * (logp + entropy) + a
        e = tl.where(j == y, of_target, tl.exp2(d) * factor)
        if moments is not None:
            moment += tl.sum(tl.where(inside, logp * e, 0.0), 0)
        tl.store(result + row.to(tl.int64) * columns + j, e.to(result.dtype.element_ty), mask=inside)
    if moments is not None:
        tl.store(moments + row, tl.load(moments + row) + moment)


# -- calls ------------------------------------------------------------------------------------------------------------


def add_tile(
    products: Tensor,
    position: Tensor,
    shift: Tensor,
    rest: Tensor,
    chosen: Tensor,
    spread: Tensor | None,
    *,
    slack: float,
    bias: Tensor | None,
    temperature: float | Tensor,
    exponentials: bool,
) -> None:
    """Add a tile of logits z_v = (products_v + bias_v)/τ to the `Sums` of its rows.

    The shift is raised to the largest logit where that exceeds it by more than slack.

    Arguments:
        products: (rows, columns), contiguous, fp32.
        position: (rows,), y, which may be outside.
        shift, rest, chosen, spread: (rows,), fp32 and contiguous; written.
        bias, temperature: (columns,) or None; a number or (rows,).
        exponentials: whether products become exp(z_v − shift), and 0 at y; else they stay as they are.
    """
    rows, columns = products.shape
    per_row = _flat(position), shift, rest, chosen, spread
    options = {"slack": slack, "exponentials": exponentials}
    _launch(add_tile_kernel, rows, products, _flat(bias), *_inverses(temperature), *per_row, columns, **options)


def softmax(logits: Tensor, temperature: float, *, with_spread: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The sums that the softmax of each row needs, over d_v = (z_v − top)/τ, which a common offset does not change.

    Returns top = max z; ties, the number of maxima; rest = Σ exp(d_v) over the other tokens; and spread =
    Σ exp(d_v)·d_v or None; all (rows,) and fp32. ties and rest are separate, so that a small rest is not rounded away.

    Arguments:
        logits: (outer, inner, columns), with contiguous columns.
        temperature: τ.
        with_spread: whether to compute spread.
    """
    outer, inner, columns = logits.shape
    rows = outer * inner
    top, ties, rest = (torch.empty(rows, dtype=torch.float32, device=logits.device) for _ in range(3))
    spread = torch.empty_like(top) if with_spread else None
    place = logits.stride(0), logits.stride(1), inner
    _launch(softmax_kernel, rows, logits, *place, 1 / temperature, top, ties, rest, spread, columns)
    return top, ties, rest, spread


def slopes(
    products: Tensor,
    position: Tensor | None,
    at_target: Tensor | None,
    result: Tensor,
    *,
    shift: Tensor,
    totals: Tensor | None = None,
    bias: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    divisor: float = 1.0,
    slope: Tensor | None = None,
    curve: Tensor | None = None,
    entropies: Tensor | None = None,
    moments: Tensor | None = None,
) -> None:
    """Write E_v = π_v·(slope + curve·(log π_v + H)), and at_target at y, in one read and one write.

    log π_v = (z_v − shift)/τ′ − totals, with z_v = (products_v + bias_v)/τ. Σ_v E_v·log π_v, of E before it is rounded
    to the dtype of the result, is added to moments.

    Arguments:
        products: (outer, inner, columns), with contiguous columns.
        position, at_target: (rows,), y, which may be outside, and E_y; both None for no target.
        result: (rows, columns), contiguous; it may be products.
        shift, totals: (rows,); None for totals of 0.
        bias, temperature, divisor: (columns,) or None; τ, a number or (rows,); τ′, a number.
        slope: (rows,) or None for 1. Where slope and curve are 0, E = 0 and the row is not read.
        curve, entropies: (rows,), or both None for no such term; a curve requires a slope.
        moments: (rows,), fp32 and contiguous; written.
    """
    outer, inner, columns = products.shape
    place = products.stride(0), products.stride(1), inner
    head = _flat(bias), *_inverses(temperature), 1 / divisor
    per_row = map(_flat, (position, shift, totals, at_target, slope, curve, entropies))
    _launch(slopes_kernel, outer * inner, products, *place, *head, *per_row, moments, result, columns)


def _flat(x: Tensor | None) -> Tensor | None:
    """A contiguous tensor: an upstream gradient may be one number expanded over all rows."""
    return None if x is None else x.contiguous()


def _inverses(temperature: float | Tensor) -> tuple[Tensor | None, float]:
    """The temperatures of the rows, or the inverse of a common one."""
    return (_flat(temperature), 1.0) if isinstance(temperature, Tensor) else (None, 1 / temperature)


def _launch(kernel: Any, rows: int, logits: Tensor, *arguments: Tensor | float | None, **options: float) -> None:
    """Run a kernel on all rows, on the device of the logits; do nothing if there are none."""
    with torch.cuda.device_of(logits):
        kernel[(rows,)](logits, *arguments, **options, **block_of(logits), enable_fp_fusion=True)

"""Other inputs: the same numbers in other forms, edge cases, and inputs that are not supported.

As in `ways`, each yields pairs of a result and the expected one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from grape_verified.conformance.calls import Call, other_numbers
from grape_verified.conformance.subject import Violation
from grape_verified.conformance.ways import (
    REFUSAL,
    Pairs,
    Seen,
    compiled,
    count,
    differentiated,
    functional,
    gradients_of,
    plain,
    quiet,
    vmapped,
)
from grape_verified.logprobs.from_logits import token_logps


def reshaped(function: Callable[[Tensor], Tensor]) -> Callable[[Call], Pairs]:
    """The same numbers in another memory layout."""

    def pairs(call: Call) -> Pairs:
        yield differentiated(call.mapped(function)), plain(call)

    return pairs


def strided(tensor: Tensor) -> Tensor:
    wide = tensor.repeat_interleave(2, -1) if tensor.ndim else tensor
    return wide[..., ::2] if tensor.ndim else tensor


def transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.ndim > 1 else tensor


def as_subclass(tensor: Tensor) -> Tensor:
    return tensor.clone().as_subclass(Tagged)


class Tagged(Tensor):
    """A subclass of tensors without behaviour of its own."""


def expanded(call: Call) -> Pairs:
    """The first row expanded in place of all rows."""
    first = call.mapped(lambda t: t[:1].expand_as(t), shared=False)
    yield differentiated(first), plain(first.mapped(torch.clone).mapped(torch.Tensor.contiguous))


def parameters(call: Call) -> Pairs:
    given = {n: torch.nn.Parameter(call.tensors[n].clone()) for n in call.wrt}

    def compute(tensors: Mapping[str, Tensor]) -> Tensor:
        return call({**call.tensors, **given})

    result = compute(given)
    gradients = gradients_of(result, given, None, False, False)
    yield Seen(result.detach(), gradients), plain(call)


def masks(dtype: torch.dtype) -> Callable[[Call], Pairs]:
    """Masks of numbers in place of boolean ones."""

    def pairs(call: Call) -> Pairs:
        given = {n: t for n, t in call.tensors.items() if n in ("mask", "item_mask")}
        got, usual = (call.with_tensors(**{n: t.to(kind) for n, t in given.items()}) for kind in (dtype, torch.bool))
        yield differentiated(got), plain(usual)

    return pairs


#: What a masked entry may hold.
GARBAGE = (math.nan, math.inf, -math.inf)


def masked_values(call: Call) -> Pairs:
    """Masked entries hold garbage; value and gradients are those of a plain call."""
    masked = call.masked
    usual = plain(call)
    for filler in GARBAGE:
        along = {
            n: torch.where(masked.view(*masked.shape, *[1] * (t.ndim - masked.ndim)), filler, t)
            for n, t in call.tensors.items()
            if n not in ("mask", *call.unmasked) and t.shape[: masked.ndim] == masked.shape and t.is_floating_point()
        }
        yield differentiated(call.with_tensors(**along)), usual


def masked_logits(way: Callable[[Call], Pairs]) -> Callable[[Call], Pairs]:
    """The gradient of a loss in logits, with garbage at masked tokens."""

    def pairs(call: Call) -> Pairs:
        from_logits, masked = of_logits(call)
        logits = from_logits.tensors["logits"]
        expected = plain(from_logits)
        for filler in GARBAGE:
            dirty = from_logits.with_tensors(logits=torch.where(masked.unsqueeze(-1), filler, logits))
            for got, _ in way(dirty):
                yield got, expected

    return pairs


def of_logits(call: Call) -> tuple[Call, Tensor]:
    """A loss of log-probabilities as a function of logits, and their mask.

    The log-probability of a sequence is the sum over two tokens with a masked one between them.
    """
    chosen = [n for n in call.wrt if n.endswith("logps")]
    pairs = call.tensors[chosen[0]].ndim == 1
    shape = (*call.tensors[chosen[0]].shape, 3) if pairs else tuple(call.tensors[chosen[0]].shape)
    masked = torch.tensor([False, True, False]).expand(shape) if pairs else call.masked
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(chosen), *shape, 5, generator=generator)
    targets = torch.randint(5, (len(chosen), *shape), generator=generator)

    def compute(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
        logps = token_logps(tensors["logits"], tensors["targets"])
        logps = torch.where(masked, 0, logps).sum(-1) if pairs else logps
        return call({**tensors, **dict(zip(chosen, logps.unbind(), strict=True))}, **options)

    others = {n: t for n, t in call.tensors.items() if n not in chosen}
    tensors = {"logits": logits, "targets": targets, **others}
    return Call(call.name, compute, tensors, ("logits",), call.options), masked.expand(len(chosen), *shape)


def no_distribution(filler: float) -> Callable[[Call], Pairs]:
    """A position where all logits are −inf, or one is +inf or NaN, gives NaN; other positions are unchanged."""

    def pairs(call: Call) -> Pairs:
        logits = next(n for n in call.wrt if n.endswith("logits"))
        bad = call.tensors[logits].clone()
        bad[0] = filler if filler < 0 else torch.where(count(bad[0]) < 1, filler, bad[0])
        dirty = call.with_tensors(**{logits: bad})
        usual, eager = plain(call), plain(dirty)
        if not eager.value[0].isnan().all():
            raise Violation(f"returns {eager.value[0].flatten()[0].item()} where there is no distribution")
        yield Seen(eager.value[1:]), Seen(usual.value[1:])
        for way in (functional, vmapped, compiled("aot_eager")):
            for got, _ in way(dirty):
                yield Seen(got.value), Seen(eager.value)
                break

    return pairs


def row_counts(call: Call) -> Pairs:
    """1, 2, 3, 5 and 67 rows, or groups of rows, under autocast."""
    for parts in (1, 2, 3, 5, 67):
        some = call.of_parts(parts)
        on = partial(torch.autocast, "cpu", torch.bfloat16)
        yield differentiated(some, forward=on, backward=on), plain(some)


def zero_rows(call: Call) -> Pairs:
    got = plain(call.mapped(lambda t: t[:0], shared=False))
    value = torch.zeros_like(got.value)
    yield got, Seen(value, {name: torch.zeros_like(g) for name, g in got.gradients.items()})


def distributed(call: Call) -> Pairs:
    """Each tensor in turn is a DTensor, except the inputs of a model; the error names it."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    refusals, chosen = [], {name: tensor for name, tensor in call.tensors.items() if name != "inputs"}
    with one_rank() as mesh:
        for name, tensor in chosen.items():
            try:
                call({**call.tensors, name: distribute_tensor(tensor, mesh, [Replicate()])})
            except TypeError as refused:
                if not str(refused).startswith(f"{name}: got a DTensor, expected"):
                    raise Violation(f"{name}: {refused}") from None
                refusals.append(refused)
    unsaid = len(chosen) - len(refusals)
    if unsaid:
        raise Violation(f"accepts {unsaid} of {len(chosen)} tensors as DTensors")
    raise refusals[0]
    yield


@contextmanager
def one_rank() -> Iterator[Any]:
    """A mesh of one process."""
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield dist.device_mesh.init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def fake(call: Call) -> Pairs:
    """Fake tensors, as used for planning memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    usual = plain(call)
    with FakeTensorMode() as mode, quiet():
        got = differentiated_shapes(call.mapped(mode.from_tensor))
    yield from _of_shapes(got, usual)


def meta(call: Call) -> Pairs:
    yield from _of_shapes(differentiated_shapes(call.mapped(lambda t: t.to("meta"))), plain(call))


def differentiated_shapes(call: Call) -> Seen:
    """Value and gradients of tensors without numbers."""
    leaves = {n: t.detach().requires_grad_(n in call.wrt) for n, t in call.tensors.items()}
    result = call(leaves)
    return Seen(result.detach(), gradients_of(result, {n: leaves[n] for n in call.wrt}, None, False, False))


def _of_shapes(got: Seen, usual: Seen) -> Pairs:
    """Results without numbers, compared as zeros of their shapes and dtypes."""

    def zeros(seen: Seen) -> Seen:
        empty = {n: torch.zeros(g.shape, dtype=g.dtype) for n, g in seen.gradients.items()}
        return Seen(torch.zeros(seen.value.shape, dtype=seen.value.dtype), empty)

    yield zeros(got), zeros(usual)


def numbers(call: Call) -> Pairs:
    """A number of another type gives the result of the float, or an error that names an option."""
    for other in other_numbers(call):
        got, expected = (_outcome(call, {other.option: value}) for value in (other.value, other.usual))
        if isinstance(got, Tensor) and isinstance(expected, Tensor):
            yield Seen(got), Seen(expected)
        else:
            alike = isinstance(got, Tensor) == isinstance(expected, Tensor)
            if not (alike or other.whole):
                raise Violation(f"{other.option} {other.value!r}: {got}, but {other.usual!r}: {expected}")


def _outcome(call: Call, options: Mapping[str, Any]) -> Tensor | str:
    try:
        return call(call.tensors, **options)
    except (TypeError, ValueError) as refused:
        if not REFUSAL.match(str(refused)):
            raise
        return str(refused)

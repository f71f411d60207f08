"""Ways in which training calls a function, each with the expected result.

A way yields pairs of value and gradients: those of its own call and those of a plain call. It raises `Violation` for
anything else that is wrong.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from grape_verified.conformance.calls import Call
from grape_verified.conformance.subject import Violation


@dataclass(frozen=True)
class Seen:
    """The result of a call: its value, and its gradients by the names of the tensors."""

    value: Tensor
    gradients: Mapping[str, Tensor] = field(default_factory=dict)


Pairs = Iterator[tuple[Seen, Seen]]


#: The form of an error about something that is not supported.
REFUSAL = re.compile(r"[\w ]+: got .*(, expected |; )", re.DOTALL)


# -- calling ----------------------------------------------------------------------------------------------------------


def upstream_of(result: Tensor) -> Tensor:
    """An upstream gradient: 1 for a loss, else different numbers."""
    return 1.0 + (torch.arange(result.numel(), device=result.device) % 3).to(result.dtype).view(result.shape)


def plain(call: Call, upstream: Tensor | None = None) -> Seen:
    """Value and gradients without any context."""
    return differentiated(call, upstream=upstream)


def differentiated(
    call: Call,
    *,
    forward: Callable[[], AbstractContextManager[Any]] = nullcontext,
    backward: Callable[[], AbstractContextManager[Any]] = nullcontext,
    compute: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    upstream: Tensor | None = None,
    passes: int = 1,
    create_graph: bool = False,
) -> Seen:
    """Value and gradients, each pass in its own context; raises `Violation` if an argument was modified."""
    leaves = {n: t.detach().requires_grad_(n in call.wrt) for n, t in call.tensors.items()}
    before = {name: tensor.detach().clone() for name, tensor in leaves.items()}
    with forward():
        result = (compute or call)(leaves)
    gradients: Mapping[str, Tensor] = {}
    for _ in range(passes):
        with backward():
            gradients = gradients_of(result, {n: leaves[n] for n in call.wrt}, upstream, create_graph, passes > 1)
    written = [name for name, tensor in leaves.items() if not same(tensor.detach(), before[name])]
    if written:
        raise Violation(f"modifies {' and '.join(written)}")
    return Seen(result.detach(), {name: g.detach() for name, g in gradients.items()})


def gradients_of(
    result: Tensor, leaves: Mapping[str, Tensor], upstream: Tensor | None, create_graph: bool, retain_graph: bool
) -> dict[str, Tensor]:
    if not leaves or not result.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    weights = upstream_of(result) if upstream is None else upstream.to(result.dtype)
    found = torch.autograd.grad(
        result, list(leaves.values()), weights, retain_graph=retain_graph or create_graph, create_graph=create_graph,
        allow_unused=True,
    )  # fmt: skip
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in pairs}


# -- the ways ---------------------------------------------------------------------------------------------------------


def autocast(dtype: torch.dtype, part: str) -> Callable[[Call], Pairs]:
    def pairs(call: Call) -> Pairs:
        on = partial(torch.autocast, "cpu", dtype)
        forward, backward = (on if part in (own, "both") else nullcontext for own in ("forward", "backward"))
        yield differentiated(call, forward=forward, backward=backward), plain(call)

    return pairs


def without_gradients(mode: Callable[[], AbstractContextManager[Any]]) -> Callable[[Call], Pairs]:
    def pairs(call: Call) -> Pairs:
        with mode():
            value = call(call.mapped(torch.clone).tensors)
        if value.requires_grad:
            raise Violation("returns a tensor that requires a gradient")
        yield Seen(value.clone()), Seen(plain(call).value)

    return pairs


def compiled(backend: str, fullgraph: bool = True) -> Callable[[Call], Pairs]:
    def pairs(call: Call) -> Pairs:
        torch._dynamo.reset()
        with quiet():
            yield differentiated(call, compute=torch.compile(call, backend=backend, fullgraph=fullgraph)), plain(call)

    return pairs


def functional(call: Call) -> Pairs:
    fixed = {n: t for n, t in call.tensors.items() if n not in call.wrt}
    weights = upstream_of(plain(call).value)

    def total(leaves: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        result = call({**fixed, **leaves})
        return (result * weights).sum(), result

    gradients, value = torch.func.grad(total, has_aux=True)({name: call.tensors[name] for name in call.wrt})
    yield Seen(value.detach(), gradients), plain(call)


def vmapped(call: Call) -> Pairs:
    """Over three different batches."""
    varied = call.wrt or tuple(n for n, t in call.tensors.items() if t.is_floating_point() and n != "mask")[:1]
    batches = [call.with_tensors(**{n: call.tensors[n] * scale for n in varied}) for scale in (1.0, 0.5, 0.25)]
    stacked = {name: torch.stack([batch.tensors[name] for batch in batches]) for name in call.tensors}
    leaves = {name: t.requires_grad_(name in call.wrt) for name, t in stacked.items()}
    result = torch.vmap(call)(leaves)
    expected = [plain(batch) for batch in batches]
    weights = torch.stack([upstream_of(one.value) for one in expected])
    gradients = gradients_of(result, {n: leaves[n] for n in call.wrt}, weights, False, False)
    for i, one in enumerate(expected):
        yield Seen(result[i].detach(), {name: g[i] for name, g in gradients.items()}), one


def with_graph(call: Call) -> Pairs:
    yield differentiated(call, create_graph=True), plain(call)


def second_derivative(call: Call) -> Pairs:
    """Along a direction, in fp64, against differences of the gradient, away from kinks."""
    exact = call.mapped(lambda t: t.double() if t.is_floating_point() else t)
    exact = exact.with_tensors(
        **{n: exact.tensors[n] + 0.01 * torch.sin(count(exact.tensors[n]) + 1) for n in call.wrt}
    )
    leaves = {n: t.detach().requires_grad_(n in call.wrt) for n, t in exact.tensors.items()}
    chosen = {n: leaves[n] for n in call.wrt}
    along = {n: torch.cos(count(leaf)) for n, leaf in chosen.items()}
    first = gradients_of(exact(leaves), chosen, None, True, False)
    slope = torch.stack([(first[n] * along[n]).sum() for n in chosen]).sum()
    second = gradients_of(slope, chosen, None, False, False)
    ends = [exact.with_tensors(**{n: leaves[n].detach() + step * along[n] for n in chosen}) for step in (1e-5, -1e-5)]
    above, below = (plain(end).gradients for end in ends)
    for n in chosen:
        expected = (above[n] - below[n]) / 2e-5
        error = (second[n] - expected).abs().sum().item()
        if not error <= 1e-4 * (1 + expected.abs().sum().item()):
            raise Violation(f"the second derivative in {n} is off by {error:.1e}")
    yield from ()


def count(tensor: Tensor) -> Tensor:
    return torch.arange(tensor.numel(), dtype=tensor.dtype).view(tensor.shape)


def checkpointed(call: Call) -> Pairs:
    with quiet():
        yield differentiated(call, compute=partial(_recomputed, call, False)), plain(call)


def checkpointed_reentrant(call: Call) -> Pairs:
    """Such a checkpoint supports `backward` only, not `torch.autograd.grad`."""
    leaves = {n: t.detach().requires_grad_(n in call.wrt) for n, t in call.tensors.items()}
    with quiet():
        result = _recomputed(call, True, leaves)
        result.backward(upstream_of(result))
    gradients = {n: torch.zeros_like(g) if (g := leaves[n]).grad is None else g.grad for n in call.wrt}
    yield Seen(result.detach(), {n: g for n, g in gradients.items() if g is not None}), plain(call)


def _recomputed(call: Call, reentrant: bool, tensors: Mapping[str, Tensor]) -> Tensor:
    inner = lambda *flat: call(dict(zip(tensors, flat, strict=True)))  # noqa: E731
    return checkpoint(inner, *tensors.values(), use_reentrant=reentrant)  # type: ignore[no-any-return]


def scaled_upstream(factor: float) -> Callable[[Call], Pairs]:
    def pairs(call: Call) -> Pairs:
        usual = plain(call)
        got = differentiated(call, upstream=factor * upstream_of(usual.value))
        yield got, Seen(usual.value, {name: factor * g + 0.0 for name, g in usual.gradients.items()})

    return pairs


def expanded_upstream(call: Call) -> Pairs:
    value = plain(call).value
    expanded = torch.tensor(1.5).expand_as(value)
    yield differentiated(call, upstream=expanded), plain(call, expanded.clone(memory_format=torch.contiguous_format))


def two_passes(call: Call) -> Pairs:
    yield differentiated(call, passes=2), plain(call)


@contextmanager
def default_dtype() -> Iterator[None]:
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(kept)


@contextmanager
def deterministic() -> Iterator[None]:
    kept = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(kept)


@contextmanager
def threads() -> Iterator[None]:
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(kept)


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def within(mode: Callable[[], AbstractContextManager[Any]]) -> Callable[[Call], Pairs]:
    def pairs(call: Call) -> Pairs:
        with mode():
            got = differentiated(call)
        yield got, plain(call)

    return pairs


def same(a: Tensor, b: Tensor) -> bool:
    """Whether all numbers are equal, with NaN equal to NaN."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())

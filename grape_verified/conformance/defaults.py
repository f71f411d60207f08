"""What follows from the kind of a contract: its options, the bytes of its inputs and its properties."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import grape_verified
from grape_verified.conformance import mistakes
from grape_verified.conformance.contract import (
    ALL_DIFFERENTIATED,
    CONSTANT,
    EVERY,
    LAST,
    MASKED,
    REDUCTION,
    Contract,
    Expectation,
    Option,
    Options,
)
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.strategies import Blueprint, Case, Variant, mask_tensor

#: The formula of a loss, or a function from options to it.
ByOptions = Formula | Callable[[Options], Formula]

Build = Callable[[Blueprint], Mapping[str, Tensor]]
Drawn = Mapping[str, Option | Sequence[Any]]

#: A function, or the name of one of this package.
Kernel = str | Callable[..., Any] | None


def contract_of(
    name: str,
    kernel: str | Callable[..., Any],
    *,
    tensors: Sequence[str],
    wrt: Sequence[str],
    options: Drawn,
    extras: Sequence[str],
    term: ByOptions | None = None,
    role: str = "loss",
    reduction: Sequence[str] = (),
    masked: bool = False,
    with_mask: bool = False,
    adds_mask: bool = False,
    **more: Any,
) -> Contract:
    """A contract with the options, bytes and properties that follow from its kind."""
    mistakes.refuse_names(name, tensors, wrt, adds_mask=adds_mask)
    mistakes.refuse_function(role, kernel)
    mistakes.refuse_more(more)
    found = options_of(kernel, options, reduction)
    if term is not None:
        mistakes.refuse_term(term, tensors, found, wrt)
        more["constants"] = lambda options: bool(formula_of(term, options).constants)
    tensors, wrt = tuple(tensors), tuple(wrt)
    if masked or with_mask:
        by_keyword = [tensor for tensor in tensors if tensor in more.get("by_keyword", {})]
        tensors = (*(tensor for tensor in tensors if tensor not in by_keyword), "mask", *by_keyword)
    return Contract(
        name=name,
        kernel=kernel if isinstance(kernel, str) else name_of(kernel),
        reference=None if isinstance(kernel, str) else kernel,
        tensors=tensors,
        wrt=wrt,
        options=found,
        drawn=more.pop("drawn", tensors),
        oracle=mistakes.readable(more.pop("oracle")),
        properties=_properties(tensors, wrt, found, extras, masked, reduction),
        **more,
    )


def options_of(kernel: str | Callable[..., Any], drawn: Drawn, reduction: Sequence[str] = ()) -> dict[str, Option]:
    """The options of a function in the order of its signature, with their defaults and the values to draw."""
    function = getattr(grape_verified, kernel) if isinstance(kernel, str) else kernel
    mistakes.refuse_options(drawn, function)
    parameters = inspect.signature(function).parameters
    known = {name: REDUCTION[name] for name in reduction} | dict(drawn)
    return {name: _option(parameters[name], known[name]) for name in parameters if name in known}


def _option(parameter: inspect.Parameter, drawn: Option | Sequence[Any]) -> Option:
    """An option: the default of the signature, or else the first value, and the other values."""
    if isinstance(drawn, Option):
        return drawn
    default = drawn[0] if parameter.default is inspect.Parameter.empty else parameter.default
    return Option(default, tuple(x for x in drawn if x != default or type(x) is not type(default)))


def _properties(
    tensors: Sequence[str],
    wrt: Sequence[str],
    options: Mapping[str, Option],
    extras: Sequence[str],
    masked: bool,
    reduction: Sequence[str],
) -> tuple[str, ...]:
    """The properties of a function of its kind, in the order of checking."""
    last = LAST if set(tensors) - set(wrt) - {"mask", "targets"} else ALL_DIFFERENTIATED
    if not wrt and "mask" in tensors:
        return (*CONSTANT, *extras, *last)
    if not wrt:
        return ("signature", "repeatable", "value", "options", *extras, *last)
    if masked:
        return (*EVERY, *MASKED, *extras, *last)
    if reduction:
        return (*EVERY, "options", "partition", *extras, *last)
    return (*EVERY, "cotangents", *(("options",) if options else ()), *extras, *last)


def extras_of(kinks: bool, samples: Expectation | None) -> tuple[str, ...]:
    return (*(("expectation",) if samples else ()), *(("kinks",) if kinks else ()), "extremes")


def formula_at(term: ByOptions | None, case: Case) -> Formula:
    assert term is not None
    return formula_of(term, case.options)


def formula_of(term: ByOptions, options: Options) -> Formula:
    return term if isinstance(term, Formula) else term(options)


def masked_too(build: Build) -> Build:
    return lambda plan: {**build(plan), "mask": mask_tensor(plan)}


def with_full_mask(samples: Expectation) -> Expectation:
    """The same samples with a full mask."""

    def tensors(words: Any, logps: Tensor, variant: Variant) -> dict[str, Tensor]:
        found = samples.tensors(words, logps, variant)
        dtype = torch.bool if variant.mask == "bool" else logps.dtype
        return {**found, "mask": torch.ones(len(logps), 1, dtype=dtype)}

    return replace(samples, tensors=tensors)


def function_named(function: Kernel, loss: Kernel, usual: str) -> str | Callable[..., Any] | None:
    """A function as given; for a loss of this package, by default the function of the usual name, if there is one."""
    return function or (usual if not callable(loss) and hasattr(grape_verified, usual) else None)


def name_of(function: str | Callable[..., Any]) -> str:
    return function if isinstance(function, str) else function.__name__

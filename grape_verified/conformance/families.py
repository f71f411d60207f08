"""Families of contracts, for what losses of one kind have in common.

`token_loss`, `pair_loss` and `sequence_loss` make two contracts each, of the loss and of its terms before reduction,
from a formula of the spec; `estimator` makes the contract of a function whose results are not reduced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from flint import arb
from torch import Tensor

import grape_verified
from grape_verified.conformance import mistakes
from grape_verified.conformance.contract import (
    ADVANTAGES,
    ALL_DIFFERENTIATED,
    CONSTANT,
    EVERY,
    LAST,
    MASKED,
    MASKS,
    MASKS_AND_ADVANTAGES,
    REDUCTION,
    Contract,
    Expectation,
    Option,
    Options,
    like_first,
    number,
    one_for_each_row,
)
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.oracle import (
    Aggregation,
    Answer,
    Arithmetic,
    Oracle,
    Target,
    Term,
    mean_of_rows,
    precisely,
    reduced,
    slope_target,
    target,
    unreduced,
)
from grape_verified.conformance.strategies import Blueprint, Case, Variant, mask_tensor

#: The formula of a loss, or a function from options to it.
ByOptions = Formula | Callable[[Options], Formula]

Build = Callable[[Blueprint], Mapping[str, Tensor]]
Drawn = Mapping[str, Option | Sequence[Any]]

#: A function, or the name of one of this package.
Kernel = str | Callable[..., Any] | None

OF_SEQUENCES = tuple(Variant(mask, "per sequence") for mask in ("bool", "float"))


def token_loss(
    name: str,
    *,
    term: ByOptions,
    tensors: Sequence[str],
    build: Build,
    options: Drawn | None = None,
    wrt: Sequence[str] = ("logps",),
    kinks: bool = False,
    aggregation: str | None = None,
    samples: Expectation | None = None,
    loss: Kernel = None,
    per_token: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """The contracts of a loss over tokens: aggregated, and of each token.

    Arguments:
        name: that of the contract; the other is named like its function.
        term: the formula of one token, or a function from options to it.
        tensors: the arguments that are tensors, in order, without the mask.
        build: makes them from what is drawn.
        options: values that are drawn for the options beside their defaults; without a default, the first is used as
            one. The options of the reduction are added.
        wrt: the tensors that are differentiated.
        kinks: whether the value has kinks, which `build` then draws.
        aggregation: the mode of the reduction, if it is fixed.
        samples: the expectation over sampled tokens, if the spec states one.
        loss, per_token: the functions that keep the contracts; by default `{name}_loss` and `{name}_per_token` of this
            package. Where `loss` is a function of your own and `per_token` is not given, there is one contract.
        more: any other argument of `Contract`.
    """

    mistakes.refuse_mode(aggregation)

    @precisely
    def of_loss(case: Case, arithmetic: Arithmetic) -> Answer:
        case = case.with_options(aggregation=aggregation) if aggregation else case
        how, formula = Aggregation.of(case, arithmetic), _formula(term, case)
        return reduced({(i, t): formula.term(case, arithmetic, i, t) for i, t in how.counted()}, how, wrt, arithmetic)

    @precisely
    def of_tokens(case: Case, arithmetic: Arithmetic) -> Answer:
        rows, columns = case.tensors[tensors[0]].shape
        formula = _formula(term, case)
        terms = [formula.term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
        return unreduced(terms, wrt, arithmetic)

    build = mistakes.checked(build, tensors, mistakes.by_token(wrt))
    shared: dict[str, Any] = {
        "tensors": tensors, "wrt": wrt, "extras": _extras(kinks, samples), "options": options or {}, "term": term,
        "adds_mask": True,
    }  # fmt: skip
    by_sequence = "advantages" in tensors
    whole = _contract(
        name, loss or f"{name}_loss", **shared, build=_with_mask(build), oracle=of_loss, result=number, masked=True,
        reduction=("aggregation", "denominator", "max_length"), expectation=samples and _masked(samples),
        variants=MASKS_AND_ADVANTAGES if by_sequence else MASKS, **more,
    )  # fmt: skip
    single = _named(per_token, loss, f"{name}_per_token")
    if single is None:
        return (whole,)
    variants = ADVANTAGES if by_sequence else (Variant(),)
    return whole, _contract(
        _name_of(single), single, **shared, build=build, oracle=of_tokens, result=like_first, expectation=samples,
        variants=variants, **more,
    )  # fmt: skip


def sequence_loss(
    name: str,
    *,
    term: ByOptions,
    tensors: Sequence[str],
    build: Build,
    options: Drawn | None = None,
    wrt: Sequence[str] = ("logps",),
    kinks: bool = False,
    loss: Kernel = None,
    per_sequence: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """The contracts of a loss over sequences: the mean over them, and of each sequence.

    The arguments are those of `token_loss`. Both functions take the mask. The formula is that of sequence `row`; its
    slope is that in the log-probability at `position`.
    """

    def gradients(case: Case, arithmetic: Arithmetic, factors: Sequence[arb]) -> dict[str, list[Target]]:
        counted, formula = case.tensors["mask"].tolist(), _formula(term, case)

        def slope(tensor: str, i: int, t: int) -> Target:
            return slope_target(formula.term(case, arithmetic, i, t), tensor, factors[i], arithmetic)

        places = [(i, t) for i, row in enumerate(counted) for t in range(len(row))]
        return {x: [slope(x, i, t) if counted[i][t] else Target(arb(0)) for i, t in places] for x in wrt}

    def terms(case: Case, arithmetic: Arithmetic) -> list[Term]:
        formula = _formula(term, case)
        return [formula.term(case, arithmetic, i) for i in range(len(case.tensors["mask"]))]

    @precisely
    def of_loss(case: Case, arithmetic: Arithmetic) -> Answer:
        answer = mean_of_rows(case, terms(case, arithmetic), [], arithmetic)
        weight = Aggregation.of_rows(case, arithmetic).weight
        rows = range(len(case.tensors["mask"]))
        return replace(answer, of_gradients=lambda c: gradients(case, arithmetic, [weight(i, 0) * c[0] for i in rows]))

    @precisely
    def of_sequences(case: Case, arithmetic: Arithmetic) -> Answer:
        found = terms(case, arithmetic)
        values = [target(arithmetic.rounded(one.value), one.within().value, arithmetic) for one in found]
        return Answer(values, lambda cotangents: gradients(case, arithmetic, [arb(c) for c in cotangents]))

    build = mistakes.checked(build, tensors, mistakes.by_token(wrt))
    shared: dict[str, Any] = {
        "tensors": tensors, "wrt": wrt, "extras": _extras(kinks, None), "options": options or {}, "term": term,
        "build": _with_mask(build), "variants": OF_SEQUENCES, "adds_mask": True,
    }  # fmt: skip
    whole = _contract(
        name, loss or f"{name}_loss", **shared, oracle=of_loss, result=number, masked=True, reduction=("denominator",),
        **more,
    )  # fmt: skip
    single = _named(per_sequence, loss, f"{name}_per_sequence")
    if single is None:
        return (whole,)
    return whole, _contract(
        _name_of(single), single, **shared, oracle=of_sequences, result=one_for_each_row, with_mask=True, **more
    )


def pair_loss(
    name: str,
    *,
    term: ByOptions,
    tensors: Sequence[str],
    build: Build,
    wrt: Sequence[str],
    options: Drawn | None = None,
    loss: Kernel = None,
    per_pair: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """The contracts of a loss over pairs: the mean over them, and of each pair.

    The arguments are those of `token_loss`.
    """

    def terms(case: Case, arithmetic: Arithmetic) -> list[Term]:
        formula = _formula(term, case)
        return [formula.term(case, arithmetic, i) for i in range(len(case.tensors[tensors[0]]))]

    @precisely
    def of_loss(case: Case, arithmetic: Arithmetic) -> Answer:
        return mean_of_rows(case, terms(case, arithmetic), wrt, arithmetic)

    @precisely
    def of_pairs(case: Case, arithmetic: Arithmetic) -> Answer:
        return unreduced(terms(case, arithmetic), wrt, arithmetic)

    build = mistakes.checked(build, tensors, mistakes.by_pair(tensors))
    shared: dict[str, Any] = {
        "tensors": tensors, "wrt": wrt, "extras": ("extremes",), "options": options or {}, "term": term,
    }  # fmt: skip
    whole = _contract(
        name, loss or f"{name}_loss", **shared, build=build, oracle=of_loss, result=number, reduction=("denominator",),
        **more,
    )  # fmt: skip
    single = _named(per_pair, loss, f"{name}_per_pair")
    if single is None:
        return (whole,)
    return whole, _contract(_name_of(single), single, **shared, build=build, oracle=of_pairs, result=like_first, **more)


def estimator(
    name: str,
    *,
    tensors: Sequence[str],
    build: Build,
    term: ByOptions | None = None,
    oracle: Oracle | None = None,
    options: Drawn | None = None,
    wrt: Sequence[str] = (),
    extras: Sequence[str] = (),
    samples: Expectation | None = None,
    kernel: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """The contract of a function whose results are not reduced: estimates of a token, advantages, weights.

    It is given by the formula of one token, or by an oracle if a result depends on several tokens.

    Arguments:
        name: that of the contract, and by default of the function.
        term, oracle: one of them. With an oracle and an empty `wrt`, the results are constants.
        extras: further properties that it promises.
        kernel: the function that keeps the contract.
        tensors, build, options, wrt, samples, more: as in `token_loss`, with the mask among the tensors.
    """
    if (term is None) == (oracle is None):
        raise mistakes.WrongContract("term, oracle: got both or neither, expected one of them")

    @precisely
    def of_tokens(case: Case, arithmetic: Arithmetic) -> Answer:
        rows, columns = case.tensors[tensors[0]].shape
        formula = _formula(term, case)
        terms = [formula.term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
        return unreduced(terms, wrt, arithmetic)

    found = _contract(
        name, kernel or name, role="kernel", tensors=tensors, wrt=wrt, options=options or {}, term=term,
        build=mistakes.checked(build, tensors, None),
        oracle=oracle or of_tokens, result=more.pop("result", like_first),
        extras=(*(("expectation",) if samples else ()), *extras), expectation=samples,
        variants=more.pop("variants", MASKS if "mask" in tensors else (Variant(),)), **more,
    )  # fmt: skip
    return (found,)


# -- defaults ---------------------------------------------------------------------------------------------------------


def _contract(
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
    tensors, wrt = tuple(tensors), tuple(wrt)
    if masked or with_mask:
        by_keyword = [tensor for tensor in tensors if tensor in more.get("by_keyword", {})]
        tensors = (*(tensor for tensor in tensors if tensor not in by_keyword), "mask", *by_keyword)
    return Contract(
        name=name,
        kernel=kernel if isinstance(kernel, str) else _name_of(kernel),
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


def _extras(kinks: bool, samples: Expectation | None) -> tuple[str, ...]:
    return (*(("expectation",) if samples else ()), *(("kinks",) if kinks else ()), "extremes")


def _formula(term: ByOptions | None, case: Case) -> Formula:
    assert term is not None
    return term if isinstance(term, Formula) else term(case.options)


def _with_mask(build: Build) -> Build:
    return lambda plan: {**build(plan), "mask": mask_tensor(plan)}


def _masked(samples: Expectation) -> Expectation:
    """The same samples with a full mask."""

    def tensors(words: Any, logps: Tensor, variant: Variant) -> dict[str, Tensor]:
        found = samples.tensors(words, logps, variant)
        dtype = torch.bool if variant.mask == "bool" else logps.dtype
        return {**found, "mask": torch.ones(len(logps), 1, dtype=dtype)}

    return replace(samples, tensors=tensors)


def _named(function: Kernel, loss: Kernel, usual: str) -> str | Callable[..., Any] | None:
    """A function as given, or beside a loss of this package the one with the default name, if there is one."""
    return function or (usual if not callable(loss) and hasattr(grape_verified, usual) else None)


def _name_of(function: str | Callable[..., Any]) -> str:
    return function if isinstance(function, str) else function.__name__

"""Common mistakes in a contract; each raises an error of one line that says what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from grape_spec.evaluate import Undefined
from grape_spec.language import registry
from grape_spec.language.definitions import Definition
from torch import Tensor

import grape_verified
from grape_verified.conformance.contract import MODES, Contract, Option
from grape_verified.conformance.formula import Formula
from grape_verified.conformance.oracle import EXACT, Answer, Arithmetic, Oracle, Target
from grape_verified.conformance.strategies import Blueprint, Case

Build = Callable[[Blueprint], Mapping[str, Tensor]]

#: The shape that a plan requires, the call that makes a tensor of it, and the names of the tensors that must have it.
Shape = tuple[Callable[[Blueprint], tuple[int, ...]], str, Collection[str]]


class WrongContract(ValueError):
    """What is wrong with a contract, in one line."""


# -- what the families are given -----------------------------------------------------------------------------------


def refuse_names(name: Any, tensors: Any, wrt: Any, *, adds_mask: bool) -> None:
    """Refuse names that are not words, and names of unknown tensors."""
    if not isinstance(name, str) or not name.isidentifier():
        raise WrongContract(f"name: got {name!r}, expected a word, such as 'simpo'")
    for argument, given in (("tensors", tensors), ("wrt", wrt)):
        if isinstance(given, str) or not all(isinstance(one, str) for one in given):
            raise WrongContract(f"{argument}: got {given!r}, expected names: {argument}=('logps', …)")
    if adds_mask and "mask" in tensors:
        raise WrongContract("tensors: got 'mask', which is added automatically: leave it out")
    for one in wrt:
        if one not in tensors:
            raise WrongContract(f"wrt: got {one!r}, expected some of the tensors {', '.join(tensors)}")


def refuse_function(argument: str, function: Any) -> None:
    """Refuse what is neither a function nor the name of a function of this package."""
    if callable(function) or (isinstance(function, str) and hasattr(grape_verified, function)):
        return
    if isinstance(function, str):
        raise WrongContract(f"{argument}: this package has no {function}: give your own, {argument}=my_function")
    raise WrongContract(f"{argument}: got {function!r}, expected a function")


def refuse_options(options: Any, function: Any) -> None:
    """Refuse options that the function does not have, and values that are not a sequence."""
    if not isinstance(options, Mapping):
        raise WrongContract(f"options: got {options!r}, expected the values to try by name: {{'beta': (0.1, 1.0)}}")
    parameters = inspect.signature(function).parameters
    for name, values in options.items():
        if name not in parameters:
            raise WrongContract(f"options: got {name!r}, expected some of {', '.join(parameters)}")
        several = isinstance(values, Sequence) and not isinstance(values, str) and len(values)
        if not (several or isinstance(values, Option)):
            raise WrongContract(f"options: got {values!r} for {name}, expected values to try: ({values!r}, …)")


def refuse_more(more: Iterable[str]) -> None:
    """Refuse arguments that no contract has."""
    known = [entry.name for entry in fields(Contract)]
    for name in more:
        if name not in known:
            near = get_close_matches(name, [*known, "kinks", "aggregation", "samples", "loss", "term"], n=1)
            raise WrongContract(f"got an argument {name!r}" + (f", did you mean {near[0]}?" if near else ""))


def refuse_mode(aggregation: Any) -> None:
    """Refuse an unknown reduction."""
    if aggregation is not None and aggregation not in MODES:
        raise WrongContract(f"aggregation: got {aggregation!r}, expected one of {', '.join(MODES)}")


# -- formulas ------------------------------------------------------------------------------------------------------


def refuse_term(term: Any, tensors: Iterable[str], options: Mapping[str, Any], wrt: Iterable[str]) -> None:
    """Refuse a formula of unknown definitions, or one whose symbols are neither tensors nor options."""
    if isinstance(term, str | Definition):
        raise WrongContract(f"term: got {_id(term)!r}, expected Formula({_id(term)!r})")
    if not isinstance(term, Formula):
        if not callable(term):
            got = type(term).__name__
            raise WrongContract(f"term: got a {got}, expected Formula('ID'), or a function from options to one")
        defaults = {name: option.default for name, option in options.items()}
        try:
            term = term(defaults)
        except KeyError as missing:
            known = ", ".join(defaults) or "none"
            raise WrongContract(f"term: reads the option {missing}, expected some of options: {known}") from None
        if not isinstance(term, Formula):
            raise WrongContract(f"term: returns a {type(term).__name__} for options, expected a Formula")
    for id in (term.value, *term.inner.values(), *term.constants.values()):
        _refuse_unknown("term", id)
    _refuse_slopes(term)
    _refuse_symbols(term, (*tensors, "mask"), options, wrt)


def _id(thing: Any) -> Any:
    return thing.id if isinstance(thing, Definition) else thing


def _refuse_unknown(argument: str, id: Any) -> None:
    """Refuse what is not the id of a definition."""
    if not isinstance(id, str):
        raise WrongContract(f"{argument}: got {type(id).__name__} {_id(id)}, expected an id: {str(_id(id))!r}")
    if id in registry.CLAIMS:
        raise WrongContract(f"{argument}: {id!r} is a claim, expected the id of a definition")
    try:
        registry.definition(id)
    except KeyError as unknown:
        raise WrongContract(f"{argument}: {unknown.args[0]}") from None


def _refuse_slopes(formula: Formula) -> None:
    stated = formula.slope.values() if isinstance(formula.slope, Mapping) else (formula.slope,)
    for slope in stated:
        if isinstance(slope, str):
            _refuse_unknown("slope", slope)
        elif isinstance(slope, tuple):
            id, part = slope
            try:
                parts = [entry.name for entry in registry.claim_of(id).parts]
            except KeyError as unknown:
                raise WrongContract(f"slope: {unknown.args[0]}") from None
            if part and part not in parts:
                raise WrongContract(f"slope: {id} has no part {part!r}, expected one of {', '.join(parts)}")


def _refuse_symbols(formula: Formula, tensors: Collection[str], options: Mapping[str, Any], wrt: Iterable[str]) -> None:
    """Refuse symbols that stand for nothing, and names of unknown symbols."""
    symbols = formula.symbols
    for argument, names in (("reads", formula.reads), ("absolute", formula.absolute), ("exact", formula.exact)):
        for name in names:
            if name not in symbols:
                raise WrongContract(f"{argument}: got {name!r}, expected some of the symbols {', '.join(symbols)}")
    read = {symbol: formula.source(symbol, tensors, options) for symbol in symbols}
    for symbol, source in read.items():
        if source is None:
            named = formula.reads.get(symbol)
            if named is not None:
                raise WrongContract(f"reads: {symbol} is {named!r}, which is neither a tensor nor an option")
            raise WrongContract(
                f"term: {formula.value} depends on {symbol}, which is neither a tensor nor an option: "
                f"add it to one of them, or name it with reads={{{symbol!r}: 'NAME'}}"
            )
    for tensor in wrt:
        if formula.slope is None and tensor not in read.values():
            raise WrongContract(f"wrt: {formula.value} does not depend on {tensor}: leave it out of wrt")


# -- what is built -------------------------------------------------------------------------------------------------


def checked(build: Build, tensors: Collection[str], shape: Shape | None) -> Build:
    """The same function with its tensors in the contract's order; a result that cannot be an input is refused."""
    if not callable(build):
        raise WrongContract(f"build: got a {type(build).__name__}, expected a function from a plan to tensors")

    def built(plan: Blueprint) -> dict[str, Tensor]:
        try:
            made = build(plan)
        except WrongContract:
            raise
        except Exception as failure:
            raise WrongContract(f"build: raised {type(failure).__name__}: {failure}") from failure
        if not isinstance(made, Mapping):
            raise WrongContract(f"build: returned a {type(made).__name__}, expected {{name: tensor}}")
        if set(made) != set(tensors):
            raise WrongContract(f"build: returned the tensors {', '.join(made)}, expected {', '.join(tensors)}")
        for name in tensors:
            _refuse_tensor(name, made[name], plan)
            if shape and name in shape[2] and tuple(made[name].shape) != shape[0](plan):
                got, expected = tuple(made[name].shape), shape[0](plan)
                raise WrongContract(f"build: returned {name} of shape {got}, expected {expected}: {shape[1]}")
        return {name: made[name] for name in tensors}

    return built


def _refuse_tensor(name: str, made: Any, plan: Blueprint) -> None:
    how = f"write plan.numbers({name!r}, pool) or plan.numbers({name!r}, pool, plan.columns)"
    if not isinstance(made, Tensor):
        raise WrongContract(f"build: returned a {type(made).__name__} for {name}, expected a tensor: {how}")
    if not made.is_floating_point():
        return
    if made.dtype != plan.dtype:
        raise WrongContract(f"build: returned {name} in {made.dtype}, expected plan.dtype, here {plan.dtype}: {how}")
    if made.isnan().any():
        raise WrongContract(f"build: returned {name} with a NaN, expected numbers")


def by_token(names: Collection[str]) -> Shape:
    """One number for each token."""
    return lambda plan: (len(plan.rows), plan.columns), "plan.numbers(name, pool, plan.columns)", names


def by_pair(names: Collection[str]) -> Shape:
    """One number for each pair."""
    return lambda plan: (len(plan.rows),), "plan.numbers(name, pool)", names


# -- the value that the spec gives ------------------------------------------------------------------------------------


def readable(oracle: Oracle) -> Oracle:
    """The same oracle, with an error of one line that says why a formula has no value on an input."""

    def read(case: Case, arithmetic: Arithmetic) -> Answer:
        with _undefined():
            answer = oracle(case, arithmetic)

        def gradients(cotangents: Sequence[float]) -> dict[str, list[Target]]:
            with _undefined():
                return answer.of_gradients(cotangents)

        return replace(answer, of_gradients=gradients)

    return read


@contextmanager
def _undefined() -> Iterator[None]:
    try:
        yield
    except Undefined as failure:
        raise WrongContract(
            f"the formula has no value on an input that build makes: {failure}: choose other numbers"
        ) from failure


def refuse_unfounded(contract: Contract) -> None:
    """Refuse a contract that cannot make its simplest input, or whose formula has no value there.

    Raises: WrongContract, naming the contract.
    """
    try:
        contract.oracle(contract.probe({}, contract.variants[0]), EXACT)
    except WrongContract as wrong:
        raise WrongContract(f"the contract {contract.name}: {wrong}") from None

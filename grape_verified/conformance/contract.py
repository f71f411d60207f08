"""Contracts: a public function bound to definitions of the spec, and the properties that it promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

import grape_verified
from grape_verified.conformance import habits, strategies
from grape_verified.conformance.habits import Habit
from grape_verified.conformance.oracle import EXACT, Oracle, recording
from grape_verified.conformance.strategies import Blueprint, Case, Regime, Space, Variant, Vocabulary

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """A keyword argument: its default, and other values that are drawn."""

    default: Any
    others: tuple[Any, ...]

    def pick(self, byte: int) -> Any:
        """One of the values, the default for 0."""
        return (self.default, *self.others)[byte % (1 + len(self.others))]


def number(case: Case) -> tuple[int, ...]:
    """The shape of a loss: one number."""
    return ()


def like_first(case: Case) -> tuple[int, ...]:
    """The shape of the first tensor: one number for each token or pair."""
    return tuple(next(iter(case.tensors.values())).shape)


def like(name: str) -> Callable[[Case], tuple[int, ...]]:
    """The shape of a tensor by its name."""
    return lambda case: tuple(case.tensors[name].shape)


def one_for_each_row(case: Case) -> tuple[int, ...]:
    """The shape of one number for each sequence."""
    return (rows(case),)


def without_vocabulary(case: Case) -> tuple[int, ...]:
    """The shape of the first tensor without its last dimension: one number for each position."""
    return like_first(case)[:-1]


def rows(case: Case) -> int:
    """The number of independent parts of a batch in which each row is one."""
    return len(next(iter(case.tensors.values())))


def fit_reduction(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """The options made consistent: a fixed length needs a length, and a plain sum has no denominator."""
    mode = "aggregation" if "aggregation" in options else "mode"
    if mode not in options:
        return options
    if options[mode] == "fixed_length" and "max_length" not in varied and options.get("max_length") is None:
        options[mode] = "sequence_sum"
    if options[mode] == "token_sum" and "denominator" in varied:
        options["denominator"] = None
    if "max_length" in options:
        long = options["max_length"] or 8
        options["max_length"] = long if options[mode] == "fixed_length" else None
    return options


@dataclass(frozen=True)
class Expectation:
    """The expectation of a function of sampled tokens under the policy.

    Arguments:
        tensors: the arguments with every token of a vocabulary as a sample, one in each row, given the
            log-probabilities under the policy and the form of the tensors.
        gradient: the right-hand side of the claim on the expected gradient in a logit, for the options.
    """

    tensors: Callable[[Vocabulary, Tensor, Variant], Mapping[str, Tensor]]
    gradient: Callable[[Options], Any]


@dataclass(frozen=True)
class Contract:
    """A public function, bound to definitions of the spec.

    Arguments:
        name: the name that `check` knows it by.
        kernel: the name of the public function that keeps it.
        reference: that function itself, if it is not one of this package.
        tensors: the arguments that are tensors, in order, by position except for those of `by_keyword`.
        wrt: those that are differentiated; none if the result is a constant.
        options: the keyword arguments.
        build, drawn: the function that makes inputs, and the names of the bytes that are drawn for them in each row.
        oracle: the expected value and gradients.
        result: the shape of what it returns.
        properties: the names of the properties that it promises, in the order of checking.
        variants: the forms that tensors may have.
        by_keyword: tensors that are passed by keyword, each with the option that requires it: it is passed if that
            option is not at its default; with an empty name, always.
        unmasked: tensors that do not lie along the mask, though they may have its shape.
        shared: tensors that all parts of a batch share.
        parts: the number of independent parts of a batch.
        divided_at: values that options must have for the batch to be the sum of its parts.
        outputs: the names of the returned tensors, if there are several; they are stacked last.
        forced_options: keyword arguments that are passed to a function that takes them, as its result depends on them.
        fit: makes drawn options consistent, given the names of those that vary.
        expectation: the expectation over sampled tokens; None if the spec states none.
        neutral: the values of keyword tensors that a function does not take.
        left_out: the keyword tensors that the function does not take.
        large: options of large inputs, such as the size of a group.
        close: the tensors whose numbers may be moved close together.
        longest: the columns of the longest rows that are tried.
        habits: the habits that its oracle judges a function with.
        constants: whether, with some options, a weight in the value is held constant: the gradient is then not the
            derivative of the value.
    """

    name: str
    kernel: str
    tensors: tuple[str, ...]
    wrt: tuple[str, ...]
    options: Mapping[str, Option]
    build: Callable[[Blueprint], Mapping[str, Tensor]]
    drawn: tuple[str, ...]
    oracle: Oracle
    result: Callable[[Case], tuple[int, ...]]
    properties: tuple[str, ...]
    variants: tuple[Variant, ...] = (Variant(),)
    by_keyword: Mapping[str, str] = field(default_factory=dict)
    unmasked: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    parts: Callable[[Case], int] = rows
    divided_at: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    forced_options: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[[dict[str, Any], Sequence[str]], dict[str, Any]] = fit_reduction
    expectation: Expectation | None = None
    reference: Callable[..., Any] | None = None
    neutral: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    large: Mapping[str, Any] = field(default_factory=dict)
    close: tuple[str, ...] = ()
    longest: int = strategies.LONGEST
    habits: tuple[Habit, ...] = ()
    constants: Callable[[Options], bool] = lambda options: False

    def __post_init__(self) -> None:
        """Each option needs a byte that chooses its value."""
        if len(self.options) >= strategies.OPTIONS:
            raise ValueError(f"options: got {len(self.options)}, expected fewer than {strategies.OPTIONS}")

    @property
    def function(self) -> Callable[..., Any]:
        """The function that keeps it, from which defaults are read."""
        found: Callable[..., Any] = self.reference or getattr(grape_verified, self.kernel)
        return found

    @property
    def reduced(self) -> bool:
        """Whether it returns one number rather than one for each token, pair or position."""
        return self.result is number

    @property
    def by_position(self) -> tuple[str, ...]:
        """The tensors that are passed by position."""
        return tuple(tensor for tensor in self.tensors if tensor not in self.by_keyword)

    def shape_of_result(self, case: Case) -> tuple[int, ...]:
        """The shape of what the function returns, several outputs stacked last."""
        return (*self.result(case), len(self.outputs)) if self.outputs else self.result(case)

    def defaults(self, held: Options) -> dict[str, Any]:
        """The value of every option that is not varied."""
        return {name: held.get(name, option.default) for name, option in self.options.items()}

    def passed_by_keyword(self, options: Options) -> tuple[str, ...]:
        """The tensors that are passed by keyword with these options."""
        asked = (
            tensor
            for tensor, option in self.by_keyword.items()
            if tensor not in self.left_out and (not option or options[option] != self.options[option].default)
        )
        return tuple(asked)

    def probe(self, held: Options, variant: Variant) -> Case:
        """A plain input with more tokens than rows, so that a wrong broadcast raises."""
        width = strategies.WIDTH
        rows = [{name: bytes((i + t + len(name)) % 7 for t in range(width)) for name in self.drawn} for i in range(2)]
        rows = [{**row, "mask": bytes(width)} for row in rows]
        options = self.defaults(held)
        plan = Blueprint(3, torch.float64, Regime(), variant, options, rows)
        return Case(self.build(plan), options, variant)

    def without(self, names: Sequence[str]) -> Contract:
        """The contract of a function that does not take some tensors, which have their neutral values."""

        def build(plan: Blueprint) -> Mapping[str, Tensor]:
            tensors = self.build(plan)
            return {**tensors, **{name: torch.full_like(tensors[name], self.neutral[name]) for name in names}}

        wrt = tuple(name for name in self.wrt if name not in names)
        return replace(self, build=build, wrt=wrt, left_out=tuple(names)) if names else self

    def with_habits(self, asked: Iterable[Habit | str]) -> Contract:
        """The same contract for a function with these habits, such as "log_ratio_clamp=20".

        Raises:
            ValueError: for a habit that the contract does not have, for two of one name, for an invalid number, or if
                the contract already has habits.
        """
        found = habits.chosen(self, asked)
        held = {name: Option(value, ()) for name, value in habits.options_held(self, found).items()}
        return replace(self, habits=found, options={**self.options, **held}, oracle=habits.under(self, found))

    @cached_property
    def rests_on(self) -> tuple[str, ...]:
        """The definitions and claims that its oracle reads."""
        with recording() as read:
            for case in self._handful():
                answer = self.oracle(case, EXACT)
                answer.gradients([1.0] * len(answer.values))
                if self.expectation:
                    self.expectation.gradient(case.options)
        return tuple(sorted(read))

    def _handful(self) -> Iterator[Case]:
        """A few small inputs at every value of every option, with the others at their defaults and at other values."""
        usual = self.defaults({})
        others = {name: option.others[0] for name, option in self.options.items() if option.others}
        for base in (usual, usual | others):
            yield from self._filled(base)
            for name, option in self.options.items():
                for value in (option.default, *option.others):
                    yield from self._filled(base | {name: value})

    def simplest(self, held: Options) -> Case:
        """The input that counterexamples shrink to: one row with equal numbers and a full mask."""
        return next(self._filled(self.defaults(held)))

    def _filled(self, options: dict[str, Any]) -> Iterator[Case]:
        """An input with equal numbers and one with different ones, at options made consistent."""
        fitting = self.fit(options, list(self.options))
        for filled in (bytes(strategies.WIDTH), bytes(range(strategies.WIDTH))):
            rows = [{name: bytes(strategies.WIDTH) if name == "mask" else filled for name in self.drawn}] * 2
            plan = Blueprint(2, torch.float64, Regime(), self.variants[0], fitting, rows)
            yield Case(self.build(plan), fitting, self.variants[0])

    def of_parts(self, case: Case, chosen: Sequence[int]) -> Case:
        """The case with some parts of its batch, in a given order."""
        count = self.parts(case)

        def taken(tensor: Tensor) -> Tensor:
            width = len(tensor) // count
            return tensor[[part * width + i for part in chosen for i in range(width)]]

        return case.with_tensors(**{n: t if n in self.shared else taken(t) for n, t in case.tensors.items()})

    def cases(
        self, regime: Regime, offered: Sequence[str], held: Options, variants: Sequence[Variant]
    ) -> st.SearchStrategy[Case]:
        """Inputs of a regime for a function that takes the offered options, some of which may be fixed."""
        space = self.space(regime, offered, held, variants)
        return strategies.drawings(*space.size).map(space.case)

    def space(self, regime: Regime, offered: Sequence[str], held: Options, variants: Sequence[Variant]) -> Space:
        """The same, as what is drawn and what is made of it.

        In every second case one option is varied alone, so that an error at one value of one option is not hidden by
        the others.
        """
        free = [name for name in offered if name not in held]
        varied = free if regime.vary_options else []

        def options(chosen: bytes, large: bool) -> dict[str, Any]:
            *values, last = chosen
            alone = varied[last // 2 % len(varied)] if varied and last % 2 else None
            drawn = {name: self.options[name].pick(byte) for name, byte in zip(varied, values, strict=False)}
            drawn = {name: value for name, value in drawn.items() if alone in (None, name)}
            drawn |= {name: value for name, value in self.large.items() if large and name in free}
            return self.fit({**self.defaults(held), **drawn}, varied)

        return Space(self.build, self.drawn, options, variants, regime, self.close, self.longest)


#: Options that many contracts share.
MODES = ("token_mean", "sequence_mean", "sequence_sum", "token_sum", "fixed_length")
REDUCTION: dict[str, Any] = {"aggregation": MODES, "mode": MODES, "denominator": (7, 2.5, 1), "max_length": (6, 100)}
CLIPPING: dict[str, Any] = {"clip_low": (0.1, 0.5, 0.0, 1.0), "clip_high": (0.2, 0.5, 0.28, 0.0, 4.0)}

#: Properties that many contracts promise: every one, those of a loss over tokens, those of a constant, and the last,
#: without constants among the tensors and with them.
EVERY = ("signature", "repeatable", "value", "gradient")
MASKED = ("options", "masked values", "padding", "partition", "empty batch")
CONSTANT = ("signature", "repeatable", "value", "options", "masked values", "padding", "empty batch")
ALL_DIFFERENTIATED = ("permutation", "inputs", "contexts", "dtype")
LAST = ("permutation", "inputs", "contexts", "constants", "dtype")

#: Forms of tensors: masks, and advantages with masks.
MASKS = (Variant("bool"), Variant("float"))
ADVANTAGES = tuple(Variant(advantages=form) for form in ("per token", "per sequence"))
MASKS_AND_ADVANTAGES = tuple(
    Variant(mask, form) for form in ("per token", "per sequence") for mask in ("bool", "float")
)

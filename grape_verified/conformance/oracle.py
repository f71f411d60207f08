"""The expected results of functions: definitions of the spec in ball arithmetic. No formula is written here.

**The tolerance.** A correct implementation in floating point returns almost the exact result of almost the given input.
So every number that is read becomes a ball around it. Its radius is 4u(|x| + 1) for log-probabilities and logits, which
are exponentiated, and for numbers that 1 is added to or subtracted from, and 4u|x| for all others; u is the unit
roundoff of the dtype that the function computes in. The spec is evaluated on the balls, with the hull of both branches
where a comparison is undecided, so that either side is right at a kink. The result is widened by 4u(|result| + scale)
for the arithmetic after that, by u for each term of a sum, and by the smallest normal number for underflow; a gradient
also by the roundoff of its own dtype. The scale is the size of the terms that a result is a difference of; each oracle
states the one that it uses.

**Beyond the range.** Where the exact result is larger than finfo.max · 2⁻⁴⁰, a function must return a finite number of
the right sign, at least as large as the result for the largest log-ratio whose exponential is in that range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import grape_spec  # noqa: F401 - enters every definition and claim into the registry
import torch
from flint import arb, ctx
from grape_spec.aggregation import per_token
from grape_spec.aggregation import position as position_of_token
from grape_spec.aggregation import row as row_of_token
from grape_spec.evaluate import PRECISION
from grape_spec.language import Diff, registry
from grape_spec.language.definitions import Definition
from grape_spec.language.expressions import Apply
from sympy import Expr
from torch import Tensor

from grape_verified.conformance.reading import evaluate, is_changed
from grape_verified.conformance.strategies import Case, Vocabulary

#: Roundings allowed for every number that is read, and again for every result.
ROUNDINGS = 4

#: How far below the largest finite number the range of exact results ends: room for sums and weights.
HEADROOM = 2.0**-40


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point numbers that a function computes in; with unit 0, exact arithmetic.

    Arguments:
        unit: the unit roundoff.
        largest, smallest: the largest finite and the smallest normal number.
        gradient_unit: the roundoff of the dtype of the returned gradients.
        may_overflow: whether ±inf is right where the result is beyond the range.
        any_branch: whether a gradient may be that of either branch of an undecided min or clip, since automatic
            differentiation may take either where the two differ only by rounding.
    """

    unit: float
    largest: float
    smallest: float
    gradient_unit: float = 0.0
    any_branch: bool = False
    may_overflow: bool = False

    @classmethod
    def of(
        cls, computed_in: torch.dtype, returned_in: torch.dtype, *, strict: bool = True, any_branch: bool = False
    ) -> Arithmetic:
        """The arithmetic of a function that computes in one dtype and returns gradients in another.

        Unless strict, fp64 results need only the accuracy of fp32, and results beyond the range may be ±inf.
        """
        numbers, returned = torch.finfo(computed_in), torch.finfo(returned_in)
        coarser = returned.eps / 2 if returned.eps > numbers.eps else 0.0
        unit = numbers.eps / 2 if strict else max(numbers.eps, torch.finfo(torch.float32).eps) / 2
        return cls(unit, numbers.max, numbers.tiny, coarser, any_branch, may_overflow=not strict)

    def near(self, x: float, absolute: float = 0.0) -> arb:
        """The ball around a number that was read, for the roundings of reading it."""
        return arb(x, ROUNDINGS * self.unit * (abs(x) + absolute))

    def rounded(self, x: arb, scale: float | arb = 0.0, terms: int = 0) -> arb:
        """The ball around a result, for the roundings of computing it."""
        slack = (ROUNDINGS + terms) * arb(self.unit) * (abs(x) + abs(arb(scale)))
        return x + arb(0, (slack + ROUNDINGS * arb(self.smallest) * bool(self.unit)).upper())

    def returned(self, gradient: arb) -> arb:
        """The ball around a gradient, for the rounding to its dtype."""
        return gradient + arb(0, (abs(gradient) * self.gradient_unit).upper())

    @property
    def range_end(self) -> float:
        """The largest magnitude that a function must return exactly."""
        return self.largest * HEADROOM


EXACT = Arithmetic(0.0, math.inf, 0.0)


#: The ball that holds every number.
ANY_NUMBER = arb(0, math.inf)


@dataclass(frozen=True)
class Target:
    """The expected value of one number: a ball, or beyond the range a least magnitude with its sign."""

    ball: arb
    least: arb | None = None
    may_overflow: bool = False

    @property
    def is_undefined(self) -> bool:
        """Whether the spec gives no value here, such as 0/0: no number is right or wrong."""
        return not self.ball.is_finite() and self.ball is not ANY_NUMBER

    def accepts(self, got: float) -> bool:
        """Whether a number that a function returned is right; no number is where the spec gives no value."""
        if self.is_undefined:
            return False
        if not math.isfinite(got) and not (self.may_overflow and self.least is not None):
            return False
        if self.least is None:
            return self.ball.contains(arb(got))
        return bool(arb(got) * self.ball > 0 and abs(arb(got)) >= abs(self.least).lower())

    def __str__(self) -> str:
        if self.least is not None:
            what = "something" if self.may_overflow else "something finite"
            return f"{what} beyond {float(self.least.mid()):.3g}"
        low, middle, high = (float(x) for x in (self.ball.lower(), self.ball.mid(), self.ball.upper()))
        size = max(abs(low), abs(high))
        if middle == 0 or high - low <= 1e-2 * size:
            return repr(middle)
        low, high = (0.0 if abs(x) < 1e-5 * size else x for x in (low, high))
        return f"something from {low:.6g} to {high:.6g}"


@dataclass(frozen=True)
class Answer:
    """The expected result, its numbers in the order of the flattened tensors. What is expensive is computed lazily.

    Arguments:
        values: the numbers that the function should return.
        of_gradients: the gradients by tensor, given the cotangents.
        of_size: the sum of the magnitudes of the terms of the value.
    """

    values: list[Target]
    of_gradients: Callable[[Sequence[float]], dict[str, list[Target]]]
    of_size: Callable[[], arb] = lambda: arb(0)

    def gradients(self, cotangents: Sequence[float]) -> dict[str, list[Target]]:
        """The vector-Jacobian products of the results with the cotangents."""
        with ctx.workprec(PRECISION):
            return self.of_gradients(cotangents)

    def size(self) -> float:
        """The sum of the magnitudes of the terms of the value, to which rounding in the sum is relative."""
        with ctx.workprec(PRECISION):
            return float(self.of_size().upper())


Oracle = Callable[[Case, Arithmetic], Answer]


def precisely(oracle: Oracle) -> Oracle:
    """Run an oracle at the precision of the spec's evaluator, not at FLINT's default."""

    @wraps(oracle)
    def at_full_precision(case: Case, arithmetic: Arithmetic) -> Answer:
        with ctx.workprec(PRECISION):
            return oracle(case, arithmetic)

    return at_full_precision


# -- reading the spec -------------------------------------------------------------------------------------------------

_RECORDED: ContextVar[set[str] | None] = ContextVar("_RECORDED", default=None)


@contextmanager
def recording() -> Iterator[set[str]]:
    """Record the ids of the definitions and claims that are read in the context."""
    found: set[str] = set()
    token = _RECORDED.set(found)
    try:
        yield found
    finally:
        _RECORDED.reset(token)


def definition(id: str) -> Definition:
    """The definition with that id."""
    found = registry.definition(id)
    _record(id, found.body)
    return found


def right_hand_side(claim: str, part: str = "") -> Any:
    """The right-hand side of an equation that the spec claims: its only part, or the one with that name."""
    parts = registry.claim_of(claim).parts
    formula = next(entry for entry in parts if not part or entry.name == part).statement.rhs
    _record(claim, formula)
    return formula


def _record(id: str, formula: Expr) -> None:
    """Note that an entry was read, and the definitions that occur in the formula."""
    found = _RECORDED.get()
    if found is None:
        return
    found.add(id)
    for inner in {str(node.args[0]) for node in formula.atoms(Apply)} - found:
        definition(inner)


# -- sums over tokens -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aggregation:
    """The reduction of a case, with its weights evaluated from the spec."""

    mode: str
    mask: list[list[int]]
    numbers: Mapping[str, Any]

    @classmethod
    def of(cls, case: Case, arithmetic: Arithmetic, option: str = "aggregation") -> Aggregation:
        mask = [[int(m) for m in row] for row in case.tensors["mask"].tolist()]
        mode, divisor = case.options[option], case.options.get("denominator")
        if divisor is None:
            count = definition("aggregation.token_count" if mode == "token_mean" else "aggregation.sequence_count")
            divisor = evaluate(count, {"mask": mask})
        numbers = {"denominator": arithmetic.near(float(divisor))}
        if mode == "fixed_length":
            numbers["max_length"] = arithmetic.near(case.options["max_length"])
        return cls(mode, mask, numbers)

    @classmethod
    def of_rows(cls, case: Case, arithmetic: Arithmetic) -> Aggregation:
        """The mean over pairs or sequences: a mean over tokens, one in each."""
        rows = torch.ones(len(next(iter(case.tensors.values()))), 1)
        whole = cls.of(
            Case({"mask": rows, **case.tensors}, {**case.options, "aggregation": "sequence_sum"}), arithmetic
        )
        return replace(whole, mask=[[1]] * len(rows))

    def of_values(self, values: list[list[arb]]) -> arb:
        """The aggregate of per-token values."""
        given = {"per_token": values, "mask": self.mask, **self.numbers}
        return evaluate(definition(f"aggregation.{self.mode}"), given)

    def weight(self, row: int, position: int) -> arb:
        """The weight of one token."""
        given = {"mask": self.mask, "row": row + 1, "position": position + 1, **self.numbers}
        value = definition(f"aggregation.{self.mode}")
        if not is_changed(value):
            return evaluate(right_hand_side("aggregation.gradient", self.mode), given)
        nothing = [[0] * len(counted) for counted in self.mask]
        return evaluate(Diff(value(), per_token[row_of_token, position_of_token]), {**given, "per_token": nothing})

    def tokens(self) -> Iterator[tuple[int, int]]:
        """The places of all tokens, row by row."""
        return ((i, t) for i, row in enumerate(self.mask) for t in range(len(row)))

    def counted(self) -> Iterator[tuple[int, int]]:
        """The places of the tokens that count."""
        return ((i, t) for i, t in self.tokens() if self.mask[i][t])


@dataclass(frozen=True)
class Term:
    """The value of one token or pair, and its slope in each differentiated tensor.

    Arguments:
        limited: the same with log-ratios limited where their exponential leaves the range; None if none is.
    """

    value: arb
    slope: Callable[[str], arb]
    limited: Term | None = None

    def within(self) -> Term:
        """The term with its log-ratios limited."""
        return self.limited or self


def reduced(
    terms: Mapping[tuple[int, int], Term], how: Aggregation, names: Sequence[str], arithmetic: Arithmetic
) -> Answer:
    """A loss and its gradient: the aggregate of its terms, and weight × slope. Masked tokens have no term.

    If terms of both signs are beyond the range, the limits decide how they cancel: any finite number is right.
    """

    def total(of: Callable[[Term], arb]) -> arb:
        values = [[arb(0)] * len(row) for row in how.mask]
        for (i, t), term in terms.items():
            values[i][t] = of(term)
        return how.of_values(values)

    def gradient(name: str, cotangent: float) -> list[Target]:
        return [
            slope_target(terms[at], name, how.weight(*at) * cotangent, arithmetic) if at in terms else Target(arb(0))
            for at in how.tokens()
        ]

    exact = arithmetic.rounded(total(lambda term: arithmetic.rounded(term.value, terms=len(terms))))
    limited = total(lambda term: term.within().value) if any(term.limited for term in terms.values()) else exact
    beyond = [term.value for term in terms.values() if term.limited and abs(term.value) > arithmetic.range_end]
    undecided = any(x > 0 for x in beyond) and any(x < 0 for x in beyond)
    return Answer(
        [Target(ANY_NUMBER) if undecided else target(exact, limited, arithmetic)],
        lambda cotangents: {name: gradient(name, *cotangents) for name in names},
        lambda: total(lambda term: abs(term.value)),
    )


def unreduced(terms: Sequence[Term], names: Sequence[str], arithmetic: Arithmetic) -> Answer:
    """The values of the terms, and their slopes times the cotangents."""

    def gradient(name: str, cotangents: Sequence[float]) -> list[Target]:
        return [
            slope_target(term, name, arb(weight), arithmetic) for term, weight in zip(terms, cotangents, strict=True)
        ]

    return Answer(
        [target(arithmetic.rounded(term.value), term.within().value, arithmetic) for term in terms],
        lambda cotangents: {name: gradient(name, cotangents) for name in names},
    )


def mean_of_rows(case: Case, terms: Sequence[Term], names: Sequence[str], arithmetic: Arithmetic) -> Answer:
    """The mean of one term for each pair or sequence."""
    how = Aggregation.of_rows(case, arithmetic)
    return reduced({(i, 0): term for i, term in enumerate(terms)}, how, names, arithmetic)


def constants(values: Sequence[arb]) -> Answer:
    """Results without a gradient."""
    return Answer([Target(value) for value in values], lambda cotangents: {})


def entry(tensor: Tensor, i: int, t: int) -> float:
    """One entry of a tensor over tokens, or over sequences."""
    return float(tensor[i, t].item() if tensor.ndim == 2 else tensor[i].item())


def slope_target(term: Term, name: str, factor: arb, arithmetic: Arithmetic) -> Target:
    """Factor × slope: the derivative that reaches one entry."""
    exact = arithmetic.returned(arithmetic.rounded(term.slope(name) * factor))
    return target(exact, term.within().slope(name) * factor, arithmetic) if term.limited else Target(exact)


def target(exact: arb, limited: arb, arithmetic: Arithmetic) -> Target:
    return Target(exact, limited, arithmetic.may_overflow) if abs(exact) > arithmetic.range_end else Target(exact)


# -- expectations over sampled tokens ---------------------------------------------------------------------------------


def expected_gradient(rhs: Any, words: Vocabulary, sample: Case, arithmetic: Arithmetic) -> list[Target]:
    """The expected gradient in each logit, over tokens sampled from the policy, for the weight of one sample.

    Scale: the largest numbers among the inputs, as a rare token has a large term before it is weighted.
    """
    with ctx.workprec(PRECISION):
        policy, other = ([arithmetic.near(z, 1) for z in x.tolist()] for x in (words.logits, words.ref_logits))
        tokens = range(1, len(policy) + 1)
        reference = [evaluate(definition("policy.softmax"), {"logits": other, "a": a}) for a in tokens]
        rewards = [arithmetic.near(r) for r in words.rewards.tolist()]
        given = {"logits": policy, "reference": reference, "token_reward": rewards}
        scale = 1 + sum(x.abs().max().item() for x in (words.logits, words.ref_logits, words.rewards))
        weight = Aggregation.of(sample, arithmetic).weight(0, 0) if "mask" in sample.tensors else arb(1)
        slopes = (arithmetic.rounded(evaluate(rhs, {**given, "k": k}), scale) for k in tokens)
        return [Target(arithmetic.returned(arithmetic.rounded(slope * weight))) for slope in slopes]

"""What a function should return: the definitions of the spec, evaluated in ball arithmetic. No formula is written here.

**The tolerance.** A correct implementation in floating point returns almost the exact result of almost the given input.
So every number that is read becomes a ball around it, of radius 4u(|x| + 1) for log-probabilities and logits, which
are about to be exponentiated, and for what 1 is added to or taken from, and 4u|x| for everything else; u is the unit
roundoff of the dtype that the function computes in. The spec is evaluated on the balls, with the hull of both branches
where a comparison has no certain outcome, so that either side is right at a kink. The result is widened by
4u(|result| + scale) for the arithmetic after that, by u for each term of a sum, and by the smallest normal number for
underflow; a gradient also by the roundoff of its own dtype. The scale is the size of the terms that a result is a
difference of, and each function below says what it takes.

**Beyond the range.** Where the exact result is larger than finfo.max · 2⁻⁴⁰, a function must return something finite,
of the right sign, and at least as large as the result for the largest log-ratio whose exponential is in that range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import grape_spec.aggregation
import grape_spec.dpo
import grape_spec.policy
import grape_spec.ppo
import torch
from flint import arb, ctx
from grape_spec.evaluate import PRECISION, evaluate
from grape_spec.language import Diff
from grape_spec.language.registry import claim_of, definition
from torch import Tensor

from grape_verified.conformance.strategies import Case

#: Roundings allowed at every number that is read, and again at every result.
ROUNDINGS = 4

#: How far below the largest finite number the range of exact results ends: room for sums and weights.
HEADROOM = 2.0**-40


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point numbers that a function computes in; with unit 0, exact arithmetic.

    Arguments:
        unit: the unit roundoff.
        largest, smallest: the largest finite and the smallest normal number.
        gradient_unit: the roundoff of the dtype in which gradients are handed back.
        may_overflow: where the result is beyond the range, ±inf is right.
        any_branch: where a min or clip of a definition has no certain outcome, allow what either branch would give, as
            automatic differentiation may take it even where the two only meet by rounding.
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
        """That of a function that computes in one dtype and returns gradients in another.

        Unless it is strict, a result in fp64 need not be better than one in fp32, and one beyond the range may be ±inf.
        """
        numbers, returned = torch.finfo(computed_in), torch.finfo(returned_in)
        coarser = returned.eps / 2 if returned.eps > numbers.eps else 0.0
        unit = numbers.eps / 2 if strict else max(numbers.eps, torch.finfo(torch.float32).eps) / 2
        return cls(unit, numbers.max, numbers.tiny, coarser, any_branch, may_overflow=not strict)

    def near(self, x: float, absolute: float = 0.0) -> arb:
        """A number that was read, with the roundings that reading it may cost."""
        return arb(x, ROUNDINGS * self.unit * (abs(x) + absolute))

    def rounded(self, x: arb, scale: float | arb = 0.0, terms: int = 0) -> arb:
        """A result, with the roundings that computing it may cost."""
        slack = (ROUNDINGS + terms) * arb(self.unit) * (abs(x) + abs(arb(scale)))
        return x + arb(0, (slack + ROUNDINGS * arb(self.smallest) * bool(self.unit)).upper())

    def returned(self, gradient: arb) -> arb:
        """A gradient, with the rounding to the dtype that it is handed back in."""
        return gradient + arb(0, (abs(gradient) * self.gradient_unit).upper())

    @property
    def range_end(self) -> float:
        """The largest magnitude that a function must return exactly."""
        return self.largest * HEADROOM


EXACT = Arithmetic(0.0, math.inf, 0.0)


@dataclass(frozen=True)
class Target:
    """What one number should be: in the ball, or, beyond the range, at least so large and with its sign."""

    ball: arb
    least: arb | None = None
    may_overflow: bool = False

    def accepts(self, got: float) -> bool:
        """Whether a number that a function returned is right."""
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
    """The whole result, its numbers in the order of the flattened tensors. What is dear is worked out when asked for.

    Arguments:
        values: what the function should return.
        of_gradients: the gradients by tensor, given the cotangents.
        of_size: the sum of the magnitudes that the value is added up from.
    """

    values: list[Target]
    of_gradients: Callable[[Sequence[float]], dict[str, list[Target]]]
    of_size: Callable[[], arb] = lambda: arb(0)

    def gradients(self, cotangents: Sequence[float]) -> dict[str, list[Target]]:
        """The gradients of the results, each multiplied with its cotangent and added up."""
        with ctx.workprec(PRECISION):
            return self.of_gradients(cotangents)

    def size(self) -> float:
        """The sum of the magnitudes that the value is added up from: what rounding in the sum is relative to."""
        with ctx.workprec(PRECISION):
            return float(self.of_size().upper())


Oracle = Callable[[Case, Arithmetic], Answer]


def precisely(oracle: Oracle) -> Oracle:
    """Let the balls of an oracle be computed at the precision of the spec's evaluator, not at FLINT's default."""

    @wraps(oracle)
    def at_full_precision(case: Case, arithmetic: Arithmetic) -> Answer:
        with ctx.workprec(PRECISION):
            return oracle(case, arithmetic)

    return at_full_precision


def right_hand_side(claim: str, part: str = "") -> Any:
    """The right-hand side of an equation that the spec claims: of its only part, or of the one with that name."""
    parts = claim_of(claim).parts
    return next(entry for entry in parts if not part or entry.name == part).statement.rhs


# -- sums over tokens -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aggregation:
    """The reduction that a case asks for, with its weights read off the spec."""

    mode: str
    mask: list[list[int]]
    numbers: Mapping[str, Any]

    @classmethod
    def of(cls, case: Case, arithmetic: Arithmetic, option: str = "aggregation") -> Aggregation:
        mask = [[int(m) for m in row] for row in case.tensors["mask"].tolist()]
        mode, divisor = case.options[option], case.options["denominator"]
        if divisor is None:
            count = definition("aggregation.token_count")
            divisor = evaluate(count, {"mask": mask}) if mode == "token_mean" else len(mask)
        numbers = {"denominator": arithmetic.near(float(divisor))}
        if mode == "fixed_length":
            numbers["max_length"] = arithmetic.near(case.options["max_length"])
        return cls(mode, mask, numbers)

    def of_values(self, values: list[list[arb]]) -> arb:
        """The aggregate of per-token values."""
        given = {"per_token": values, "mask": self.mask, **self.numbers}
        return evaluate(definition(f"aggregation.{self.mode}"), given)

    def weight(self, row: int, position: int) -> arb:
        """How much one token counts."""
        given = {"mask": self.mask, "row": row + 1, "position": position + 1, **self.numbers}
        return evaluate(right_hand_side("aggregation.gradient", self.mode), given)

    def tokens(self) -> Iterator[tuple[int, int]]:
        """The places of all tokens, row by row."""
        return ((i, t) for i, row in enumerate(self.mask) for t in range(len(row)))


@dataclass(frozen=True)
class Term:
    """The value of one token or pair, and its slope in each differentiated tensor.

    Arguments:
        limited: the same for a log-ratio that is cut where its exponential leaves the range; None where none is.
    """

    value: arb
    slope: Callable[[str], arb]
    limited: Term | None = None

    def within(self) -> Term:
        """The term with its log-ratio limited."""
        return self.limited or self


def _reduced(
    terms: Mapping[tuple[int, int], Term], how: Aggregation, names: Sequence[str], arithmetic: Arithmetic
) -> Answer:
    """A loss and its gradient: the aggregate of its terms, and weight × slope. Masked tokens have no term."""

    def total(of: Callable[[Term], arb]) -> arb:
        values = [[arb(0)] * len(row) for row in how.mask]
        for (i, t), term in terms.items():
            values[i][t] = of(term)
        return how.of_values(values)

    def gradient(name: str, cotangent: float) -> list[Target]:
        return [
            _slope_target(terms[at], name, how.weight(*at) * cotangent, arithmetic) if at in terms else Target(arb(0))
            for at in how.tokens()
        ]

    exact = arithmetic.rounded(total(lambda term: arithmetic.rounded(term.value, terms=len(terms))))
    limited = total(lambda term: term.within().value) if any(term.limited for term in terms.values()) else exact
    return Answer(
        [_target(exact, limited, arithmetic)],
        lambda cotangents: {name: gradient(name, *cotangents) for name in names},
        lambda: total(lambda term: abs(term.value)),
    )


def _unreduced(terms: Sequence[Term], names: Sequence[str], arithmetic: Arithmetic) -> Answer:
    """The values of the terms, and the products of their slopes with the cotangents."""

    def gradient(name: str, cotangents: Sequence[float]) -> list[Target]:
        return [
            _slope_target(term, name, arb(weight), arithmetic) for term, weight in zip(terms, cotangents, strict=True)
        ]

    return Answer(
        [_target(arithmetic.rounded(term.value), term.within().value, arithmetic) for term in terms],
        lambda cotangents: {name: gradient(name, cotangents) for name in names},
    )


def _slope_target(term: Term, name: str, factor: arb, arithmetic: Arithmetic) -> Target:
    """Factor × slope: the derivative that reaches one entry."""
    exact = arithmetic.returned(arithmetic.rounded(term.slope(name) * factor))
    return _target(exact, term.within().slope(name) * factor, arithmetic) if term.limited else Target(exact)


def _target(exact: arb, limited: arb, arithmetic: Arithmetic) -> Target:
    return Target(exact, limited, arithmetic.may_overflow) if abs(exact) > arithmetic.range_end else Target(exact)


# -- methods ----------------------------------------------------------------------------------------------------------


def _ppo_term(case: Case, arithmetic: Arithmetic, i: int, t: int) -> Term:
    """The clipped surrogate of one token, negative as in a loss."""
    logp, old = (case.tensors[name][i, t].item() for name in ("logps", "old_logps"))
    advantage = _entry(case.tensors["advantages"], i, t)
    reach = math.log(arithmetic.range_end) if arithmetic.unit else math.inf
    if logp - old <= reach:
        return _ppo_at(case, arithmetic, logp, old, advantage)
    return replace(
        _ppo_at(case, arithmetic, logp, old, advantage), limited=_ppo_at(case, arithmetic, old + reach, old, advantage)
    )


def _ppo_at(case: Case, arithmetic: Arithmetic, logp: float, old_logp: float, advantage: float) -> Term:
    near, options = arithmetic.near, case.options
    given = {"logp": near(logp, 1), "old_logp": near(old_logp, 1), "advantage": near(advantage)}
    given |= {"clip_low": near(options["clip_low"], 1), "clip_high": near(options["clip_high"], 1)}
    objective, slope_of = definition("ppo.clipped_surrogate"), definition("ppo.clip.slope")
    if options["dual_clip"] is not None:
        objective, slope_of = definition("ppo.dual_clipped_surrogate"), definition("ppo.dual_clip.slope")
        given["dual_clip"] = near(options["dual_clip"])
    given["rho"] = evaluate(definition("ppo.ratio"), given)

    def slope(name: str) -> arb:
        stated = evaluate(slope_of, given, hull=True)
        if arithmetic.any_branch:
            branches = Diff(objective(definition("ppo.ratio")()), grape_spec.ppo.logp)
            stated = stated.union(evaluate(branches, given, hull=True))
        return -stated

    return Term(-evaluate(objective, given, hull=True), slope)


def _entry(tensor: Tensor, i: int, t: int) -> float:
    return float(tensor[i, t].item() if tensor.ndim == 2 else tensor[i].item())


@precisely
def ppo(case: Case, arithmetic: Arithmetic) -> Answer:
    """PPO's loss: ppo.clipped_surrogate or its dual-clipped form, aggregated. Scale: 0, as nothing cancels."""
    how = Aggregation.of(case, arithmetic)
    terms = {(i, t): _ppo_term(case, arithmetic, i, t) for i, t in how.tokens() if how.mask[i][t]}
    return _reduced(terms, how, ["logps"], arithmetic)


@precisely
def ppo_per_token(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before aggregation."""
    rows, columns = case.tensors["logps"].shape
    terms = [_ppo_term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
    return _unreduced(terms, ["logps"], arithmetic)


_PAIR_WRT = ("chosen_logps", "rejected_logps")


def _dpo_term(case: Case, arithmetic: Arithmetic, i: int) -> Term:
    """The smoothed loss of one pair. Scale: 1 for the value and β for the slopes, as −log σ(m) is small for large m."""
    near, options = arithmetic.near, case.options
    smoothing = options["label_smoothing"]
    pair = {name.removesuffix("s"): near(tensor[i].item()) for name, tensor in case.tensors.items()}
    given = pair | {"beta": near(options["beta"]), "label_smoothing": near(smoothing, 1 if smoothing else 0)}
    given["margin"] = evaluate(definition("dpo.margin"), given)

    def slope(name: str) -> arb:
        rhs = right_hand_side("dpo.label_smoothing", name.removesuffix("_logps"))
        return arithmetic.rounded(evaluate(rhs, given), options["beta"])

    return Term(arithmetic.rounded(evaluate(definition("dpo.smoothed_loss"), given), 1), slope)


@precisely
def dpo(case: Case, arithmetic: Arithmetic) -> Answer:
    """DPO's loss: dpo.smoothed_loss at dpo.margin, the pairs aggregated as the tokens of a batch with one column."""
    terms = {(i, 0): _dpo_term(case, arithmetic, i) for i in range(len(case.tensors["chosen_logps"]))}
    ones = torch.ones(len(terms), 1)
    how = Aggregation.of(case.with_tensors(mask=ones).with_options(aggregation="token_mean"), arithmetic)
    return _reduced(terms, how, _PAIR_WRT, arithmetic)


@precisely
def dpo_per_pair(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same before the mean."""
    terms = [_dpo_term(case, arithmetic, i) for i in range(len(case.tensors["chosen_logps"]))]
    return _unreduced(terms, _PAIR_WRT, arithmetic)


@precisely
def aggregate(case: Case, arithmetic: Arithmetic) -> Answer:
    """The aggregate of given values. Scale: 0, as every term is rounded relative to itself."""
    how = Aggregation.of(case, arithmetic, option="mode")
    values = case.tensors["per_token"].tolist()
    counted = [(i, t) for i, t in how.tokens() if how.mask[i][t]]
    terms = {(i, t): Term(arithmetic.near(values[i][t]), lambda name: arb(1)) for i, t in counted}
    return _reduced(terms, how, ["per_token"], arithmetic)


# -- one position of a model's output ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Position:
    """The logits of one position. An entry of −inf has probability 0: it is left out of the vocabulary."""

    given: dict[str, Any]
    allowed: list[int]
    size: int

    @classmethod
    def of(cls, logits: Sequence[float], temperature: float, arithmetic: Arithmetic) -> _Position:
        """Read one position."""
        allowed = [v for v, z in enumerate(logits) if z != -math.inf]
        balls = [arithmetic.near(logits[v], 1) for v in allowed]
        return cls({"logits": balls, "temperature": arithmetic.near(temperature)}, allowed, len(logits))

    def gradient(self, rhs: Any, cotangent: float, scale: float, arithmetic: Arithmetic) -> list[Target]:
        """Cotangent × the derivative in each logit, of that scale; 0 for those that are left out."""
        targets = [Target(arb(0))] * self.size
        for k, v in enumerate(self.allowed, start=1):
            slope = arithmetic.rounded(evaluate(rhs, {**self.given, "k": k}), scale)
            targets[v] = Target(arithmetic.returned(arithmetic.rounded(slope * cotangent)))
        return targets


def _positions(case: Case, arithmetic: Arithmetic) -> list[_Position]:
    logits = case.tensors["logits"]
    rows = logits.reshape(-1, logits.shape[-1]).tolist()
    return [_Position.of(row, case.options["temperature"], arithmetic) for row in rows]


def _logit_gradient(
    positions: Sequence[_Position], weights: Sequence[float], rhs: Any, scale: float, arithmetic: Arithmetic
) -> dict[str, list[Target]]:
    """The gradients of all positions, one after the other."""
    pairs = zip(positions, weights, strict=True)
    return {"logits": [target for at, weight in pairs for target in at.gradient(rhs, weight, scale, arithmetic)]}


@precisely
def token_logps(case: Case, arithmetic: Arithmetic) -> Answer:
    """Log-probabilities of targets, policy.log_softmax. Scale of the gradient: 1/τ, as it is a δ less a probability."""
    positions = _positions(case, arithmetic)
    for at, target in zip(positions, case.tensors["targets"].flatten().tolist(), strict=True):
        at.given["a"] = at.allowed.index(target) + 1
    values = [evaluate(definition("policy.log_softmax"), at.given) for at in positions]
    rhs, scale = right_hand_side("policy.temperature.gradient"), 1 / case.options["temperature"]
    return Answer(
        [Target(arithmetic.rounded(value)) for value in values],
        lambda weights: _logit_gradient(positions, weights, rhs, scale, arithmetic),
    )


@precisely
def token_entropies(case: Case, arithmetic: Arithmetic) -> Answer:
    """Entropies, policy.entropy. Scale: 1 + log V, which no term exceeds, and that over τ for the gradient."""
    positions = _positions(case, arithmetic)
    scale = 1 + math.log(case.tensors["logits"].shape[-1])
    values = [evaluate(definition("policy.entropy"), at.given) for at in positions]
    rhs, steep = right_hand_side("policy.entropy.gradient", "temperature"), scale / case.options["temperature"]
    return Answer(
        [Target(arithmetic.rounded(value, scale)) for value in values],
        lambda weights: _logit_gradient(positions, weights, rhs, steep, arithmetic),
    )

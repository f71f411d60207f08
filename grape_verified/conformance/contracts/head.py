"""Contracts of log-probabilities and entropies from hidden states, through a linear head.

Tolerance: each logit is a product with `width` terms, and is widened by that many roundings of |W|·|h| + |b|. The rest
is as for given logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from flint import arb
from torch import Tensor

from grape_verified.conformance.contract import ALL_DIFFERENTIATED, EVERY, MASKS, Contract, like
from grape_verified.conformance.defaults import options_of
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, definition, precisely, right_hand_side
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import (
    ADVANTAGES,
    COLUMNS,
    LOGIT_OFFSETS,
    LOGITS,
    TEMPERATURES,
    Blueprint,
    Case,
    mask_tensor,
)

DRAWN = ("hidden", "weight", "more_weight", "bias", "forbidden", "targets", "mask")
PROPERTIES = (
    *EVERY, "cotangents", "options", "masked values", "padding", "empty batch", "forbidden tokens", "extremes",
    *ALL_DIFFERENTIATED,
)  # fmt: skip


#: Vocabulary, width and positions of a row, by the number of columns that were drawn.
SIZES = ((2, 1, 1), (3, 2, 1), (4, 3, 1), (2, 3, 2), (3, 1, 2), (1, 2, 2))

#: The same of a large input.
LARGE = (17, 2, 2)

#: Soft caps: Gemma 2's, and one that most logits reach.
SOFTCAPS = (30.0, 1.0)

NOTHING = Target(arb(0))


@dataclass(frozen=True)
class _Head:
    """The last layer. A token whose bias is −inf has probability 0: it is left out of the vocabulary."""

    weight: list[list[float]]
    bias: list[float]
    softcap: float | None
    arithmetic: Arithmetic

    @classmethod
    def of(cls, case: Case, arithmetic: Arithmetic) -> _Head:
        """Read the layer of a case."""
        softcap: Any = case.options["softcap"]
        return cls(case.tensors["weight"].tolist(), case.tensors["bias"].tolist(), softcap, arithmetic)

    @cached_property
    def allowed(self) -> list[int]:
        """The tokens of the vocabulary."""
        return [v for v, b in enumerate(self.bias) if b != -math.inf]

    @cached_property
    def given(self) -> dict[str, Any]:
        """Weights and biases under their names in the claims, at temperature 1."""
        near = self.arithmetic.near
        weight = [[near(w) for w in self.weight[v]] for v in self.allowed]
        return {"weight": weight, "bias": [near(self.bias[v]) for v in self.allowed], "temperature": 1}

    def magnitudes(self, hidden: Sequence[float]) -> list[float]:
        """|W_v|·|h| + |b_v| of each token."""
        return [sum(abs(w * h) for w, h in zip(self.weight[v], hidden, strict=True)) + abs(self.bias[v])
                for v in self.allowed]  # fmt: skip

    def logits(self, hidden: Sequence[float]) -> list[arb]:
        """head.logit of each token, with the roundings of a product."""
        given = {**self.given, "hidden": [self.arithmetic.near(h) for h in hidden]}
        exact = [evaluate(definition("head.logit"), {**given, "v": k}) for k, _ in enumerate(self.allowed, start=1)]
        sizes = self.magnitudes(hidden)
        return [self.arithmetic.rounded(z, size + 1, len(hidden)) for z, size in zip(exact, sizes, strict=True)]

    def capped(self, logits: Sequence[arb]) -> list[arb]:
        """head.softcap.logit of each."""
        return self._by_cap("head.softcap.logit", logits, 0) if self.softcap else list(logits)

    def kept(self, logits: Sequence[arb]) -> list[arb]:
        """head.softcap.kept of each: 1 less a number up to 1."""
        return self._by_cap("head.softcap.kept", logits, 1) if self.softcap else [arb(1)] * len(logits)

    def _by_cap(self, id: str, logits: Sequence[arb], scale: int) -> list[arb]:
        assert self.softcap is not None
        given = {"softcap": self.arithmetic.near(self.softcap)}
        exact = (evaluate(definition(id), {**given, "uncapped": z}) for z in logits)
        return [self.arithmetic.rounded(x, scale) for x in exact]


@dataclass(frozen=True)
class _Position:
    """One counted position, and the arguments of the definitions and claims of the policy."""

    head: _Head
    hidden: list[float]
    temperature: float
    uncapped: list[arb]
    given: dict[str, Any]

    @classmethod
    def of(cls, head: _Head, hidden: list[float], target: int, temperature: float) -> _Position:
        """Read one position."""
        tau = head.arithmetic.near(temperature)
        uncapped = head.logits(hidden)
        given = {"logits": head.capped(uncapped), "temperature": tau, "a": head.allowed.index(target) + 1}
        return cls(head, hidden, temperature, uncapped, given)

    @property
    def scale(self) -> float:
        """1 + log V, which no term of an entropy exceeds."""
        return 1 + math.log(len(self.head.allowed))

    @cached_property
    def log_probability(self) -> arb:
        """policy.log_softmax of the target."""
        return self.head.arithmetic.rounded(evaluate(definition("policy.log_softmax"), self.given))

    @cached_property
    def entropy(self) -> arb:
        """policy.entropy."""
        return self.head.arithmetic.rounded(evaluate(definition("policy.entropy"), self.given), self.scale)

    def slopes(self, weights: Sequence[float]) -> list[arb]:
        """The slopes of weighted values in the logits before the cap and the temperature."""
        claims = (("policy.temperature.gradient", ""), ("policy.entropy.gradient", "temperature"))
        places = range(1, len(self.head.allowed) + 1)
        capped = [self._weighted(weights, claims, (1, self.scale), {"k": k}) for k in places]
        return [slope * share for slope, share in zip(capped, self.head.kept(self.uncapped), strict=True)]

    def temperature_slope(self, weights: Sequence[float]) -> Target:
        """The slope of weighted values in the temperature."""
        claims = [("policy.temperature.slope", part) for part in ("log-probability", "entropy")]
        scales = (abs(float(self.log_probability.mid())) + self.scale, self.scale**2)
        return Target(self.head.arithmetic.returned(self._weighted(weights, claims, scales, {})))

    def _weighted(
        self,
        weights: Sequence[float],
        claims: Sequence[tuple[str, str]],
        scales: Sequence[float],
        at: Mapping[str, int],
    ) -> arb:
        """Weighted right-hand sides, each of its scale over the temperature."""
        arithmetic, total = self.head.arithmetic, arb(0)
        for weight, (claim, part), scale in zip(weights, claims, scales, strict=False):
            if weight:
                slope = evaluate(right_hand_side(claim, part), {**self.given, **at})
                slope = arithmetic.rounded(slope, scale / self.temperature, len(self.head.allowed))
                total += arithmetic.rounded(slope * weight)
        return total

    def by_logits(self, slopes: Sequence[arb], part: str, **at: int) -> arb:
        """The slopes that follow from those in the logits, head.logit.gradient."""
        hidden = [self.head.arithmetic.near(h) for h in self.hidden]
        given = {**self.head.given, "token_slope": slopes, "hidden": hidden, **at}
        return evaluate(right_hand_side("head.logit.gradient", part), given)

    def hidden_slope(self, slopes: Sequence[arb], entry: int) -> Target:
        """The slope in an entry of the hidden state. Scale: the slopes times the largest weight."""
        arithmetic, largest = self.head.arithmetic, max(abs(self.head.weight[v][entry - 1]) for v in self.head.allowed)
        scale = largest * sum(map(abs, slopes), arb(0))
        exact = self.by_logits(slopes, "hidden", c=entry)
        return Target(arithmetic.returned(arithmetic.rounded(exact, scale, len(slopes))))


def _positions(case: Case, arithmetic: Arithmetic) -> list[_Position | None]:
    """Every position in order; None where it is masked."""
    head = _Head.of(case, arithmetic)
    hidden, targets, counted = (case.tensors[name].flatten(0, 1).tolist() for name in ("hidden", "targets", "mask"))
    own = case.tensors.get("temperature")
    temperatures = [float(case.options["temperature"])] * len(targets) if own is None else own.flatten().tolist()
    rows = zip(hidden, targets, temperatures, counted, strict=True)
    return [_Position.of(head, h, y, tau) if m else None for h, y, tau, m in rows]


def _gradients(
    positions: Sequence[_Position | None], weights: Sequence[Sequence[float]], case: Case, arithmetic: Arithmetic
) -> dict[str, list[Target]]:
    """The weighted gradients of the values of all positions. Scale: the terms of the sums."""
    slopes = [[] if at is None else at.slopes(pair) for at, pair in zip(positions, weights, strict=True)]
    counted = [(at, own) for at, own in zip(positions, slopes, strict=True) if at is not None]
    vocab, width = case.tensors["weight"].shape
    allowed, entries = _Head.of(case, arithmetic).allowed, range(1, width + 1)

    def over_positions(v: int, part: str, **at: int) -> Target:
        if v not in allowed:
            return NOTHING
        terms = [position.by_logits(own, part, k=allowed.index(v) + 1, **at) for position, own in counted]
        size = sum(map(abs, terms), arb(0))
        return Target(arithmetic.returned(arithmetic.rounded(sum(terms, arb(0)), size, len(terms))))

    of_hidden = [
        [NOTHING] * width if at is None else [at.hidden_slope(own, c) for c in entries]
        for at, own in zip(positions, slopes, strict=True)
    ]
    found = {
        "hidden": [target for row in of_hidden for target in row],
        "weight": [over_positions(v, "weight", c=c) for v in range(vocab) for c in entries],
        "bias": [over_positions(v, "bias") for v in range(vocab)],
    }
    if "temperature" in case.tensors:
        pairs = zip(positions, weights, strict=True)
        found["temperature"] = [NOTHING if at is None else at.temperature_slope(pair) for at, pair in pairs]
    return found


def _answer(case: Case, arithmetic: Arithmetic, names: Sequence[str]) -> Answer:
    """Some values of each position, 0 where masked. Size: the largest magnitude that a logit is a sum of."""
    positions = _positions(case, arithmetic)
    values = [NOTHING if at is None else Target(getattr(at, name)) for at in positions for name in names]
    sizes = [max(at.head.magnitudes(at.hidden)) / at.temperature for at in positions if at is not None]

    def gradients(cotangents: Sequence[float]) -> dict[str, list[Target]]:
        starts = range(0, len(cotangents), len(names))
        return _gradients(positions, [cotangents[i : i + len(names)] for i in starts], case, arithmetic)

    return Answer(values, gradients, lambda: arb(max(sizes, default=0.0)))


@precisely
def linear_token_logps(case: Case, arithmetic: Arithmetic) -> Answer:
    """Log-probabilities of targets, policy.log_softmax of head.logit."""
    return _answer(case, arithmetic, ["log_probability"])


@precisely
def linear_token_entropies(case: Case, arithmetic: Arithmetic) -> Answer:
    """The same, each with the entropy at its position, policy.entropy of head.logit."""
    return _answer(case, arithmetic, ["log_probability", "entropy"])


# -- inputs -----------------------------------------------------------------------------------------------------------


def head_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """Hidden states of one or two rows, (rows, time, width), targets, and a small head; perhaps biases of −inf."""
    vocab, width, time = _size(plan)
    plan = replace(plan, columns=time, rows=plan.rows[:2])
    hidden = plan.numbers("hidden", ADVANTAGES, time * width).reshape(-1, time, width)
    targets = [[row["targets"][-1 - t] % vocab for t in range(time)] for row in plan.rows]
    tensors = {"hidden": hidden, "weight": _weight(plan, vocab, width), "targets": torch.tensor(targets)}
    return {**tensors, "bias": _bias(plan, vocab, targets), "mask": mask_tensor(plan)}


def _size(plan: Blueprint) -> tuple[int, int, int]:
    return SIZES[plan.columns - 1] if plan.columns <= COLUMNS else LARGE


def _weight(plan: Blueprint, vocab: int, width: int) -> Tensor:
    """The weights, drawn from the first row."""
    first = plan.rows[0]
    drawn = (first["more_weight"] + first["weight"])[-vocab * width :]
    pool = LOGITS[plan.regime.numbers]
    return torch.tensor([pool[byte] for byte in drawn], dtype=plan.dtype).reshape(vocab, width)


def _bias(plan: Blueprint, vocab: int, targets: Sequence[Sequence[int]]) -> Tensor:
    """The biases, drawn from the first row; no target is forbidden."""
    first, offsets = plan.rows[0], LOGIT_OFFSETS[plan.regime.numbers]
    pool, offset = LOGITS[plan.regime.numbers], offsets[first["bias"][0] % len(offsets)]
    bias = torch.tensor([pool[byte] + offset for byte in first["bias"][-vocab:]], dtype=plan.dtype)
    if plan.regime.forbidden:
        for v, byte in enumerate(first["forbidden"][-vocab:]):
            bias[v] = -math.inf if byte % 3 == 2 and all(v not in row for row in targets) else bias[v]
    return bias


def tempered_head_tensors(plan: Blueprint) -> dict[str, Tensor]:
    """The same with a temperature for each token."""
    *_, time = _size(plan)
    return {**head_tensors(plan), "temperature": plan.numbers("temperature", TEMPERATURES, time)[:2]}


SHARED: dict[str, Any] = {
    "kernel": "linear_token_logps",
    "result": like("targets"),
    "variants": MASKS,
    "shared": ("weight", "bias"),
    "neutral": {"bias": 0.0, "temperature": 1.0, "mask": 1.0},
}

CONTRACTS = (
    Contract(
        name="linear_token_logps",
        tensors=("hidden", "weight", "targets", "bias", "mask"),
        wrt=("hidden", "weight", "bias"),
        options=options_of("linear_token_logps", {"temperature": (0.5, 2.0, 0.7, 10.0), "softcap": SOFTCAPS}),
        build=head_tensors,
        drawn=DRAWN,
        oracle=linear_token_logps,
        properties=PROPERTIES,
        by_keyword={"bias": "", "mask": ""},
        **SHARED,
    ),
    Contract(
        name="linear_token_entropies",
        tensors=("hidden", "weight", "targets", "bias", "temperature", "mask"),
        wrt=("hidden", "weight", "bias", "temperature"),
        options=options_of("linear_token_logps", {"softcap": SOFTCAPS}),
        build=tempered_head_tensors,
        drawn=(*DRAWN, "temperature"),
        oracle=linear_token_entropies,
        properties=PROPERTIES,
        by_keyword={"bias": "", "temperature": "", "mask": ""},
        outputs=("logps", "entropies"),
        forced_options={"with_entropy": True},
        **SHARED,
    ),
)

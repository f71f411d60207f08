"""Contracts of generalised advantage estimation and of whitening."""

from __future__ import annotations

from flint import arb
from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.families import estimator
from grape_verified.conformance.oracle import Answer, Arithmetic, Target, definition, precisely
from grape_verified.conformance.reading import evaluate
from grape_verified.conformance.strategies import Blueprint, Case, _decimals, _pool

#: Rewards of tokens: most have none.
REWARDS = _pool((1.0, 0.0, -1.0, 0.5), lambda random: 0.0, _decimals(-3, 3))
CRITIC = _pool((1.0, 0.5, -0.5, 0.0, 2.0), _decimals(-3, 3), _decimals(-100, 100, 1))

#: Numbers to whiten: often equal, and small enough that rounding on reading does not dominate their differences.
ESTIMATES = _pool((1.0, 0.5, -0.5, 0.0, 2.0), _decimals(-3, 3), lambda random: 1.0, _decimals(-40, 40, 1))

#: The results, with the definition of each.
OUTPUTS = {"advantages": "advantage.gae", "returns": "advantage.estimated_return"}


@precisely
def gae(case: Case, arithmetic: Arithmetic) -> Answer:
    """advantage.gae and advantage.estimated_return, from the last token of each row to the first.

    Scale: the reward, the value and the value handed on, of which a residual is the difference.
    """
    rows = [_walked(case, arithmetic, row) for row in range(len(case.tensors["mask"]))]
    size = sum((abs(scale) for _, scales in rows for scale in scales), arb(0))
    return Answer([Target(ball) for balls, _ in rows for ball in balls], lambda cotangents: {}, lambda: size)


def _walked(case: Case, arithmetic: Arithmetic, row: int) -> tuple[list[arb], list[arb]]:
    """Advantage and return of each token of a row, 0 where masked, and the scales of its residuals."""
    near, options = arithmetic.near, case.options
    given = {"discount": near(options["discount"]), "lam": near(options["lam"])}
    given |= {"next_value": arb(0), "next_advantage": arb(0)}
    results: list[arb] = []
    scales: list[arb] = []
    for t in reversed(range(case.tensors["mask"].shape[1])):
        counts = int(case.tensors["mask"][row, t])
        read = (float(case.tensors[name][row, t]) if counts else 0.0 for name in ("rewards", "values"))
        given |= dict(zip(("received", "value"), map(near, read), strict=True), counts=arb(counts))
        scale = abs(given["received"]) + abs(given["value"]) + abs(given["next_value"])
        own = [arithmetic.rounded(evaluate(definition(name), given), scale) for name in OUTPUTS.values()]
        results = [*(x if counts else arb(0) for x in own), *results]
        scales.append(scale)
        handed_on = arithmetic.rounded(evaluate(definition("advantage.advantage_handed_on"), given), counts * scale)
        given["next_value"] = evaluate(definition("advantage.value_handed_on"), given)
        given["next_advantage"] = handed_on
    return results, scales


@precisely
def whiten(case: Case, arithmetic: Arithmetic) -> Answer:
    """advantage.whitened of each token at advantage.mean and advantage.variance; 0 where masked.

    Scale: the largest number for the mean, as it is a sum in which terms cancel. Else 0, as the balls around what was
    read cover cancellation.
    """
    kept = [int(m) for m in case.tensors["mask"].flatten().tolist()]
    read = [x if m else 0.0 for x, m in zip(case.tensors["values"].flatten().tolist(), kept, strict=True)]
    given = {"kept": kept, "estimate": [arithmetic.near(x) for x in read], "eps": arithmetic.near(case.options["eps"])}
    given["count"] = evaluate(definition("advantage.token_count"), given)
    given["ddof"] = arb(case.options["ddof"])
    largest = max(map(abs, read))
    given["centre"] = arithmetic.rounded(evaluate(definition("advantage.mean"), given), largest, terms=len(kept))
    spread = arithmetic.rounded(evaluate(definition("advantage.variance"), given), terms=len(kept))
    given["spread"] = spread.max(arb(0))  # a sum of squares, though its ball may reach below 0
    result = definition("advantage.whitened" if case.options["shift_mean"] else "advantage.whitened_in_place")
    balls = [
        arithmetic.rounded(evaluate(result, {**given, "number": x})) if m else arb(0)
        for x, m in zip(given["estimate"], kept, strict=True)
    ]
    return Answer([Target(ball) for ball in balls], lambda cotangents: {}, lambda: max(map(abs, balls)))


def estimates(plan: Blueprint) -> dict[str, Tensor]:
    """Rewards and values of tokens, and a mask."""
    return {
        "rewards": plan.numbers("rewards", REWARDS, plan.columns),
        "values": plan.numbers("values", CRITIC, plan.columns),
        "mask": strategies.mask_tensor(plan),
    }


def to_whiten(plan: Blueprint) -> dict[str, Tensor]:
    """Numbers and a mask."""
    return {"values": plan.numbers("values", ESTIMATES, plan.columns), "mask": strategies.mask_tensor(plan)}


CONTRACTS = (
    *estimator(
        "gae",
        oracle=gae,
        tensors=("rewards", "values", "mask"),
        build=estimates,
        options={"discount": (0.99, 0.9, 0.5, 0.0), "lam": (1.0, 0.0, 0.9, 0.5)},
        outputs=tuple(OUTPUTS),
    ),
    *estimator(
        "whiten",
        oracle=whiten,
        tensors=("values", "mask"),
        build=to_whiten,
        options={"shift_mean": (True, False), "ddof": (1, 0), "eps": (1e-5, 1e-2, 1.0)},
        close=("values",),
    ),
)

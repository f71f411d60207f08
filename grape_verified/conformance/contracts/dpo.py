"""Contracts of DPO's losses, of robust DPO and of IPO."""

from __future__ import annotations

from torch import Tensor

from grape_verified.conformance import strategies
from grape_verified.conformance.contract import Options
from grape_verified.conformance.families import pair_loss
from grape_verified.conformance.formula import Formula, Slope
from grape_verified.conformance.strategies import Blueprint

PAIR = ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
WRT = PAIR[:2]
LENGTHS = ("chosen_lengths", "rejected_lengths")
POSSIBLE_LENGTHS = [float((1, 2, 3, 5, 8, 40, 1000)[i % 7]) for i in range(256)]
BETA = {"beta": (0.1, 0.5, 1.0, 0.01, 5.0)}


def stated(claim: str) -> dict[str, Slope]:
    """The slopes in both responses of a pair, which are parts of a claim."""
    return {f"{side}_logps": (claim, side) for side in ("chosen", "rejected")}


def smoothed(options: Options) -> Formula:
    """DPO's loss. Scale: 1 for the value and β for the slopes, as −log σ(m) is small for large m."""
    return Formula(
        "dpo.smoothed_loss",
        slope=stated("dpo.label_smoothing"),
        inner={"margin": "dpo.margin"},
        absolute=("label_smoothing",) if options["label_smoothing"] else (),
        scale=1,
        slope_scale=options["beta"],
    )


def robust(options: Options) -> Formula:
    """Robust DPO's loss. Scale: that of DPO over 1 − 2ε, as it is a difference of two such losses."""
    scale = 1 / (1 - 2 * options["flip_probability"])
    return Formula(
        "dpo.robust_loss",
        slope=stated("dpo.robust"),
        inner={"margin": "dpo.margin"},
        absolute=("flip_probability",) if options["flip_probability"] else (),
        scale=scale,
        slope_scale=options["beta"] * scale,
    )


def squared(options: Options) -> Formula:
    """IPO's loss. Scale: 0, as the target is read with the roundings of β."""
    lengths = {f"{side}_length": 1 for side in ("chosen", "rejected")}
    return Formula(
        "dpo.ipo_loss",
        slope=stated("dpo.ipo"),
        inner={"log_ratio_difference": "dpo.log_ratio_margin"},
        reads=lengths if options["log_ratio"] == "sum" else {},
        exact=tuple(lengths),
    )


def pairs_with_lengths(plan: Blueprint) -> dict[str, Tensor]:
    """Pairs, and the numbers of tokens of their responses."""
    return {**strategies.pair_tensors(plan), **{name: plan.numbers(name, POSSIBLE_LENGTHS) for name in LENGTHS}}


CONTRACTS = (
    *pair_loss(
        "dpo",
        term=smoothed,
        tensors=PAIR,
        wrt=WRT,
        build=strategies.pair_tensors,
        options=BETA | {"label_smoothing": (0.1, 0.25, 0.45)},
    ),
    *pair_loss(
        "robust_dpo",
        term=robust,
        tensors=PAIR,
        wrt=WRT,
        build=strategies.pair_tensors,
        options=BETA | {"flip_probability": (0.1, 0.25, 0.0, 0.45)},
    ),
    *pair_loss(
        "ipo",
        term=squared,
        tensors=(*PAIR, *LENGTHS),
        wrt=WRT,
        build=pairs_with_lengths,
        options=BETA | {"log_ratio": ("mean",)},
        by_keyword=dict.fromkeys(LENGTHS, "log_ratio"),
    ),
)

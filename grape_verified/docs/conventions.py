"""Conventions on which trainers differ, as read in the sources of the named versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: The versions that were read.
READ = {"TRL": "trl 1.16.0", "verl": "verl 0.9.1", "Liger": "liger-kernel 0.8.5"}


class Convention(NamedTuple):
    """A choice that the mathematics leaves open: ours, those of others, and the ids that it affects."""

    name: str
    here: str
    others: dict[str, str]
    about: tuple[str, ...]


CONVENTIONS = (
    Convention(
        "standard deviation of a group",
        "`ddof=1`, `eps=1e-6`; a group of one, or of equal rewards, gets 0",
        {"TRL": "over G − 1, ε = 1e-4", "verl": "over G − 1, ε = 1e-6"},
        ("grpo.group_std", "grpo.advantage"),
    ),
    Convention(
        "dual clip",
        "off, unless `dual_clip` is given",
        {"verl": "always on, c = 3"},
        ("ppo.dual_clipped_surrogate", "ppo.clipped_surrogate"),
    ),
    Convention(
        "log-ratio",
        "not clamped; what leaves the range of the dtype saturates",
        {"verl": "clamped to ±20"},
        ("ppo.ratio",),
    ),
    Convention(
        "log-probabilities under the old policy",
        "always given",
        {"TRL": "where they are absent, the detached current ones"},
        ("ppo.ratio",),
    ),
    Convention(
        "no token counts",
        "loss 0 and gradient 0",
        {"TRL": "the denominator is at least 1", "verl": "0/0; in one mode 1e-8 is added to the denominator"},
        ("aggregation.token_count", "aggregation.row_count"),
    ),
    Convention(
        "mean over all tokens",
        "`token_mean`",
        {"TRL": "`bnpo` (of a process), `dapo` (of the whole batch)", "verl": "`token-mean`"},
        ("aggregation.token_mean", "grpo.dapo"),
    ),
    Convention(
        "mean over sequences of the mean over tokens",
        "`sequence_mean`",
        {"TRL": "`grpo`", "verl": "`seq-mean-token-mean`"},
        ("aggregation.sequence_mean", "grpo.objective"),
    ),
    Convention(
        "mean over sequences of the sum over tokens",
        "`sequence_sum`",
        {"verl": "`seq-mean-token-sum`"},
        ("aggregation.sequence_sum",),
    ),
    Convention(
        "one fixed length for all sequences",
        "`fixed_length`",
        {"TRL": "`dr_grpo`", "verl": "`seq-mean-token-sum-norm`"},
        ("aggregation.fixed_length", "grpo.dr_grpo"),
    ),
    Convention(
        "temperatures of SAPO",
        "`temperature_pos=1.0`, `temperature_neg=1.05`, which A = 0 takes",
        {
            "TRL": "`sapo_temperature_pos`, `sapo_temperature_neg`: the same",
            "verl": "`tau_pos`, `tau_neg`: the same; the log-ratio is clamped to ±20",
            "Liger": "`sapo_temperature_pos`, `sapo_temperature_neg`: the same",
        },
        ("sapo.temperature", "sapo.objective"),
    ),
    Convention(
        "label smoothing",
        "`label_smoothing`",
        {"TRL": "ignored for the loss type `sigmoid`", "Liger": "ignored for the loss type `sigmoid`"},
        ("dpo.smoothed_loss",),
    ),
)


def conventions_about(ids: Iterable[str]) -> list[Convention]:
    """The conventions that affect any of these definitions or claims."""
    wanted = set(ids)
    return [convention for convention in CONVENTIONS if wanted.intersection(convention.about)]

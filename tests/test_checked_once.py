"""A public loss checks each of its arguments once, and reads the ratio once."""

from collections import Counter

import pytest
import torch

import grape_verified
from grape_verified import advantage, aggregation, arguments, kl
from grape_verified.losses import dpo, grape, grpo, ppo, ratio, reinforce, rejection, reward, sft, trpo

TOKENS, ROW, MASK = torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3, dtype=torch.bool)
SCORES = torch.full((1, 2, 3), 0.5)
RATIO = {"logps": TOKENS, "old_logps": TOKENS, "advantages": ROW, "mask": MASK}
CLIP = {"clip_low": 0.1, "clip_high": 0.1}
REDUCTION = {"aggregation": "fixed_length", "denominator": 2.0, "max_length": 3}
PAIR = dict.fromkeys(("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps"), ROW)
RUBRIC = {"scores": SCORES, "confidences": SCORES, "weights": torch.ones(3)}

CALLS = {
    "ppo_loss": {**RATIO, **CLIP, "dual_clip": 2.0, **REDUCTION},
    "grpo_loss": {**RATIO, **CLIP, "ref_logps": TOKENS, "kl_coef": 0.1, "kl_estimator": "k3", **REDUCTION},
    "gspo_loss": {**RATIO, **CLIP, "denominator": 2.0},
    "cispo_loss": {**RATIO, **CLIP, **REDUCTION},
    "trpo_loss": {**RATIO, **REDUCTION},
    "reinforce_loss": {"logps": TOKENS, "advantages": ROW, "mask": MASK, **REDUCTION},
    "sft_loss": {"logps": TOKENS, "mask": MASK, **REDUCTION},
    "value_loss": {"values": TOKENS, "returns": TOKENS, "mask": MASK, "old_values": TOKENS, "clip": 0.2, **REDUCTION},
    "dpo_loss": {**PAIR, "beta": 0.1, "label_smoothing": 0.1, "denominator": 2.0},
    "robust_dpo_loss": {**PAIR, "beta": 0.1, "flip_probability": 0.1, "denominator": 2.0},
    "ipo_loss": {**PAIR, "beta": 0.1, "log_ratio": "mean", "chosen_lengths": ROW + 2, "rejected_lengths": ROW + 2},
    "grape_loss": {
        **{name: RATIO[name] for name in ("logps", "old_logps", "mask")},
        **RUBRIC,
        **CLIP,
        **REDUCTION,
        "confidence": "group",
        "normalisation": "mean",
        "baseline": "mean",
        "scale": "std",
        "eps": 1e-3,
    },
    "rejection_sampling_loss": {"logps": TOKENS, "rewards": ROW, "mask": MASK, "keep": "threshold", "threshold": 0.5},
    "bradley_terry_loss": {"chosen_rewards": ROW, "rejected_rewards": ROW, "denominator": 2.0},
}
MODULES = (advantage, aggregation, arguments, kl, dpo, grape, grpo, ppo, ratio, reinforce, rejection, reward, sft, trpo)
#: The checks that every argument passes through: those of tensors, of numbers, and of words.
CHECKS = ("check_tensor", "check_number", "check_choice")


@pytest.fixture
def checked(monkeypatch):
    """How often each argument is checked, by its name."""
    counts = Counter()
    for name in CHECKS:
        plain = getattr(arguments, name)

        def counting(argument, *rest, plain=plain):
            counts[argument] += 1
            return plain(argument, *rest)

        for module in MODULES:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counting)
    return counts


@pytest.mark.parametrize("name", CALLS)
def test_each_argument_is_checked_once(name, checked):
    getattr(grape_verified, name)(**CALLS[name])
    expected = {argument: 1 for argument in CALLS[name] if argument != "max_length"}
    if name == "grape_loss":
        expected["logps"] = 2  # before there are advantages, its rows are compared with the scores
    assert {argument: checked[argument] for argument in expected} == expected


def test_the_ratio_is_computed_once(monkeypatch):
    """Loss and metrics read the same exponential: a second one would cost what a loss costs."""
    count = Counter()
    plain = torch.Tensor.exp

    def counting(x):
        count["exp"] += 1
        return plain(x)

    monkeypatch.setattr(torch.Tensor, "exp", counting)
    grape_verified.ppo_loss(TOKENS, TOKENS, ROW, MASK)
    assert count["exp"] == 1

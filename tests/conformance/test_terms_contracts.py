"""Every contract accepts a correct function in another style, and rejects three typical mistakes or more."""

from collections import Counter

import pytest

from grape_verified.conformance import CONTRACTS, check, checking

from . import (
    planted_reward,
    test_check,
    test_dpo_contracts,
    test_grape_contracts,
    test_grpo_contracts,
    test_head_contracts,
    test_kl_contracts,
    test_ppo_contracts,
    test_reinforce_contracts,
    test_rejection_contracts,
    test_sft_contracts,
    test_trpo_contracts,
)  # fmt: skip
from . import planted_terms as planted

FEWEST = 3

CORRECT = {
    "ppo_per_token": planted.ppo,
    "trpo_per_token": planted.trpo,
    "reinforce_per_token": planted.reinforce,
    "cispo_per_token": planted.cispo,
    "grpo_per_token": planted.grpo,
    "gspo_per_sequence": planted.gspo,
    "dpo_per_pair": planted.dpo,
    "ipo_per_pair": planted.ipo,
    "robust_dpo_per_pair": planted.robust_dpo,
    "dapo": planted.dapo,
    "token_logps": planted.token_logps,
    "token_entropies": planted.token_entropies,
    "aggregate": planted.aggregate,
}

WRONG = {
    "ppo_per_token": planted.ppo_wrong,
    "trpo_per_token": planted.trpo_wrong,
    "reinforce_per_token": planted.reinforce_wrong,
    "cispo_per_token": planted.cispo_wrong,
    "grpo_per_token": planted.grpo_wrong,
    "gspo_per_sequence": planted.gspo_wrong,
    "dpo_per_pair": planted.dpo_wrong,
    "ipo_per_pair": planted.ipo_wrong,
    "robust_dpo_per_pair": planted.robust_dpo_wrong,
    "dapo": planted.dapo_wrong,
    "token_logps": {f.__name__: f for f in (planted.shifted, planted.multiplied, planted.probabilities)},
    "token_entropies": {
        f.__name__: f for f in (planted.negative_entropies, planted.entropies_in_bits, planted.entropies_at_one)
    },
    "aggregate": planted.aggregate_wrong,
}

#: The properties by which a mistake is seen, and the options that a function is held to.
SEEN_BY = {"value", "gradient", "options", "cotangents"}
HELD = {"grpo_per_token": {"kl_coef": 0.1}}


@pytest.mark.parametrize("contract", CORRECT)
def test_accepts_a_correct_function_in_another_style(contract):
    report = check(CORRECT[contract], contract, examples=40)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


@pytest.mark.parametrize(
    ("contract", "mistake"), [(contract, mistake) for contract, found in WRONG.items() for mistake in found]
)
def test_rejects_a_wrong_function(contract, mistake, monkeypatch):
    monkeypatch.setattr(checking, "REDUCTIONS", 10)
    report = check(WRONG[contract][mistake], contract, examples=20, options=HELD.get(contract))
    assert SEEN_BY & set(report.failed), report.failed


def test_every_contract_rejects_three_typical_mistakes():
    modules = (
        test_check, test_dpo_contracts, test_grape_contracts, test_grpo_contracts, test_head_contracts,
        test_kl_contracts, test_ppo_contracts, test_reinforce_contracts, test_rejection_contracts, test_sft_contracts,
        test_trpo_contracts,
    )  # fmt: skip
    planted_for = Counter(
        word for module in modules for entry in module.WRONG for word in entry if isinstance(word, str)
    )
    planted_for.update({contract: len(found) for contract, found in WRONG.items()})
    planted_for.update({name: len(planted_reward.MISTAKES) for name in ("bradley_terry", "bradley_terry_per_pair")})
    assert {name: planted_for[name] for name in CONTRACTS if planted_for[name] < FEWEST} == {}

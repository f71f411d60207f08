"""Each property can fail, and the oracle does not use the kernels."""

import ast
from pathlib import Path

import pytest
import torch
from grape_spec.language.registry import CLAIMS, DEFINITIONS

import grape_verified
from grape_verified.conformance import CONTRACTS, contracts, formula, oracle
from grape_verified.conformance.oracle import EXACT, Arithmetic, Target
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.run import run_property
from grape_verified.conformance.strategies import Case
from grape_verified.conformance.subject import read

from ..conformance import planted, planted_contexts, planted_grape, planted_kl

BREAKS = {
    "repeatable": (planted.noisy, "ppo"),
    "value": (planted.sum_for_mean, "ppo"),
    "gradient": (planted.detached_ratio, "ppo"),
    "cotangents": (planted.first_cotangent, "ppo_per_token"),
    "options": (planted.clip_high_ignored, "ppo"),
    "masked values": (planted.mask_times_nan, "ppo"),
    "masked items": (planted_grape.items_times_nan, "grape_rewards"),
    "padding": (planted.wrong_when_wide, "ppo"),
    "partition": (planted.denominator_ignored, "ppo"),
    "empty batch": (planted.zero_over_zero, "ppo"),
    "expectation": (planted_kl.k3_with_the_gradient_of_k2, "kl_estimate"),
    "kinks": (planted.kink_shared_wrongly, "ppo"),
    "forbidden tokens": (planted.naive_entropies, "token_entropies"),
    "extremes": (planted.cut_to_zero, "ppo"),
    "permutation": (planted.row_weights, "ppo"),
    "inputs": (planted.writes_into_inputs, "ppo"),
    "contexts": (planted_contexts.doubles_in_a_second_pass, "sft"),
    "constants": (planted.returns_not_held_constant, "value"),
    "dtype": (planted.always_single_precision, "ppo"),
}


def test_every_property_is_planted():
    assert set(BREAKS) == set(PROPERTIES)
    assert {name for contract in CONTRACTS.values() for name in contract.properties} == {"signature", *PROPERTIES}


@pytest.mark.parametrize("name", BREAKS)
def test_a_property_fails_where_it_is_broken(name):
    function, contract = BREAKS[name]
    finding = run_property(read(function, CONTRACTS[contract], {}), PROPERTIES[name], 100)
    assert finding.status == ("failed" if PROPERTIES[name].required else "noted")
    assert finding.text


def test_the_contracts_rest_on_things_that_the_spec_states():
    assert {id for contract in CONTRACTS.values() for id in contract.rests_on} <= set(DEFINITIONS) | set(CLAIMS)


def test_the_oracle_does_not_reach_the_kernels():
    for file in (Path(oracle.__file__), Path(formula.__file__), *Path(contracts.__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        ours = {name for name in modules if name.startswith("grape_verified")}
        assert all(name.startswith("grape_verified.conformance") for name in ours), file


def one_token(logp, advantage, dtype=torch.float64, **options):
    tensors = {"logps": [[logp]], "old_logps": [[0.0]], "advantages": [[advantage]]}
    usual = {name: option.default for name, option in CONTRACTS["ppo_per_token"].options.items()}
    return Case({name: torch.tensor(x, dtype=dtype) for name, x in tensors.items()}, {**usual, **options})


def test_the_oracle_is_right_where_the_answer_is_known_by_hand():
    clipped = CONTRACTS["ppo_per_token"].oracle(one_token(1.0, 2.0, clip_high=0.25), EXACT)
    assert float(clipped.values[0].ball) == -2.5
    assert float(clipped.gradients([1.0])["logps"][0].ball) == 0
    free = CONTRACTS["ppo_per_token"].oracle(one_token(0.0, 2.0), EXACT)
    assert float(free.values[0].ball) == -2
    assert float(free.gradients([3.0])["logps"][0].ball) == -6
    capped = CONTRACTS["ppo_per_token"].oracle(one_token(5.0, -1.0, dual_clip=3.0), EXACT)
    assert float(capped.values[0].ball) == 3


def test_the_tolerance_is_a_few_roundings():
    arithmetic = Arithmetic.of(torch.float64, torch.float64)
    target = CONTRACTS["ppo_per_token"].oracle(one_token(0.1, 1.0), arithmetic).values[0]
    expected = -torch.tensor(0.1, dtype=torch.float64).exp().item()
    assert target.accepts(expected)
    assert not target.accepts(expected * (1 + 40 * 2**-53))
    assert not target.accepts(float("nan"))


def test_beyond_the_range_a_result_must_be_finite_large_and_of_the_right_sign():
    arithmetic = Arithmetic.of(torch.float32, torch.float32)
    target = (
        CONTRACTS["ppo_per_token"]
        .oracle(one_token(200.0, -1.0, torch.float32), arithmetic)
        .gradients([1.0])["logps"][0]
    )
    assert target.least is not None
    assert target.accepts(1e30)
    assert not any(target.accepts(x) for x in (-1e30, 0.0, 1e20, float("inf"), float("nan")))
    assert "beyond" in str(target)


def test_a_target_prints_what_is_expected():
    assert str(CONTRACTS["ppo_per_token"].oracle(one_token(0.0, 2.0), EXACT).values[0]) == "-2.0"
    kink = CONTRACTS["ppo_per_token"].oracle(
        one_token(0.0, 1.0, clip_high=0.0), Arithmetic.of(torch.float64, torch.float64)
    )
    assert str(kink.gradients([1.0])["logps"][0]) == "something from -1 to 0"
    assert isinstance(kink.values[0], Target)


def test_the_kernels_are_what_the_contracts_check():
    for name, contract in CONTRACTS.items():
        assert contract.kernel in (name, f"{name}_loss") or contract.forced_options, name
        assert contract.function is getattr(grape_verified, contract.kernel)

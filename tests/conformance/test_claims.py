"""The entries of the spec that an oracle reads are recorded, and the docstring of the function names the claims."""

import inspect
import re

import pytest
from grape_spec.language.registry import CLAIMS, DEFINITIONS

import grape_verified
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.oracle import definition, recording, right_hand_side


def under_claims(name):
    """The paragraph of a docstring that names its claims."""
    docstring = inspect.getdoc(getattr(grape_verified, name)) or ""
    stated = re.search(r"^Claims: (.*?)(?:\n\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    return stated[1] if stated else ""


def named_by(name, seen=()):
    """The ids that a docstring names, and those of the docstrings that it refers to."""
    text = under_claims(name)
    ids = set(re.findall(r"[a-z]\w*(?:\.\w+)+", text))
    others = [other for other in re.findall(r"`(\w+)`", text) if other in grape_verified.__all__ and other not in seen]
    return ids.union(*(named_by(other, (*seen, name)) for other in others))


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_theorem_that_an_oracle_reads_is_named_by_the_docstring(name):
    """By that of the function, or by one that it refers to."""
    contract = CONTRACTS[name]
    theorems = {id for id in contract.rests_on if id in CLAIMS}
    assert theorems <= named_by(contract.kernel), sorted(theorems - named_by(contract.kernel))


@pytest.mark.parametrize("name", sorted({contract.kernel for contract in CONTRACTS.values()}))
def test_a_docstring_names_claims_alone(name):
    assert named_by(name) <= set(CLAIMS), sorted(named_by(name) - set(CLAIMS))


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_oracle_reads_definitions_or_claims_that_exist(name):
    assert CONTRACTS[name].rests_on
    assert set(CONTRACTS[name].rests_on) <= {*CLAIMS, *DEFINITIONS}


def test_what_is_read_is_recorded_with_what_occurs_in_it():
    with recording() as read:
        definition("trpo.surrogate")
        right_hand_side("grpo.gradient", "one token, k3")
    assert {"trpo.surrogate", "ppo.ratio", "grpo.gradient"} <= read
    assert "trpo.surrogate.gradient" not in read
    definition("kl.k1")
    assert "kl.k1" not in read


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        ("ppo", {"ppo.dual_clip.gradient", "ppo.clip.slope", "aggregation.fixed_length"}, "kl.k1"),
        ("grpo", {"kl.k1", "kl.k2", "kl.k3", "grpo.gradient", "ppo.clip.gradient"}, "ppo.dual_clip.gradient"),
        ("dapo", {"ppo.clip.gradient", "aggregation.token_mean"}, "aggregation.sequence_mean"),
        ("group_advantages", {"grpo.left_out", "grpo.centred", "grpo.advantage.degenerate"}, "grpo.gradient"),
        ("kl_estimate", {"kl.k1.loss_gradient", "kl.k2.loss_gradient", "kl.k3.loss_gradient"}, "ppo.ratio"),
    ],
)
def test_every_value_of_every_option_is_tried(name, present, absent):
    assert present <= set(CONTRACTS[name].rests_on)
    assert absent not in CONTRACTS[name].rests_on

"""A public loss checks each of its arguments once, and reads the ratio once."""

import inspect
import sys
from collections import Counter

import pytest
import torch

import grape_verified
from grape_verified import arguments
from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.calls import calls

LOSSES = [name for name, contract in CONTRACTS.items() if contract.reduced and name != "aggregate"]
#: The checks that every argument passes through: those of tensors, of numbers, and of words.
CHECKS = ("check_tensor", "check_number", "check_choice")
#: Integers, which have checks of their own.
INTEGERS = {"max_length", "group_size", "ddof"}
#: Options that are None in every call.
UNUSUAL = {"ppo": {"dual_clip": 2.0}, "rejection_sampling": {"keep": "threshold", "threshold": 0.5, "group_size": None}}
#: Before there are advantages, the rows of `logps` are compared with the scores.
TWICE = {("grape", "logps")}


@pytest.fixture
def checked(monkeypatch):
    """How often each argument is checked, by its name."""
    counts = Counter()
    modules = [module for name, module in sys.modules.items() if name.startswith("grape_verified.")]
    for name in CHECKS:
        plain = getattr(arguments, name)

        def counting(argument, *rest, plain=plain):
            counts[argument] += 1
            return plain(argument, *rest)

        for module in modules:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counting)
    return counts


@pytest.mark.parametrize("name", LOSSES)
def test_each_argument_is_checked_once(name, checked):
    """Tensors and options, those at their defaults included."""
    parameters = inspect.signature(getattr(grape_verified, CONTRACTS[name].kernel)).parameters
    options = {n: parameter.default for n, parameter in parameters.items() if n not in CONTRACTS[name].tensors}
    for call in calls(name):
        for more in ({}, UNUSUAL.get(name, {})):
            checked.clear()
            call(call.tensors, **more)
            values = {**options, **call.options, **more}
            given = {*call.tensors, *(n for n, x in values.items() if x is not None)} - INTEGERS
            assert {n: checked[n] for n in given} == {n: 2 if (name, n) in TWICE else 1 for n in given}


def test_the_ratio_is_computed_once(monkeypatch):
    """Loss and metrics read the same exponential: a second one would cost what a loss costs."""
    count = Counter()
    plain = torch.Tensor.exp

    def counting(x):
        count["exp"] += 1
        return plain(x)

    monkeypatch.setattr(torch.Tensor, "exp", counting)
    tokens = torch.zeros(2, 3)
    grape_verified.ppo_loss(tokens, tokens, torch.zeros(2), torch.ones(2, 3, dtype=torch.bool))
    assert count["exp"] == 1

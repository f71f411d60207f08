"""Inputs are large, nearly equal and in corners often enough that a bug there is found with 200 of them."""

import pytest
import torch

from grape_verified import group_advantages, sft_loss
from grape_verified.conformance import CONTRACTS, run
from grape_verified.conformance.properties import LARGE_INPUTS, ONE_IN, PROPERTIES
from grape_verified.conformance.subject import read


def in_tiles_of_eight(logps, mask):
    """Forgets what is left beyond a tile."""
    return sft_loss(logps[:, :8], mask[:, :8], denominator=mask.sum().clamp(min=1)).loss


def with_a_floor_under_the_variance(rewards, group_size, baseline="mean", scale="std", ddof=1, eps=0.0):
    """No standard deviation is below 0.03."""
    found = group_advantages(rewards, group_size=group_size, baseline=baseline, scale=scale, ddof=ddof, eps=eps)
    if scale == "none" or group_size <= ddof:
        return found
    spread = rewards.reshape(-1, group_size).std(1, correction=ddof).repeat_interleave(group_size)
    return torch.where(spread > 0, found * (spread + eps) / (spread.clamp(min=0.03) + eps), found)


def in_groups_of_at_most_32(rewards, group_size):
    """One group of 64 is taken for two."""
    return group_advantages(rewards, group_size=32 if group_size == 64 else group_size)


def nan_at_advantage_zero(logps, old_logps, advantages, mask):
    """0 · inf where the advantage is 0: `>` in place of `>=`."""
    gains = advantages if advantages.ndim == 2 else advantages[:, None].expand_as(logps)
    dtype = torch.promote_types(logps.dtype, torch.float32)
    d, gains = (torch.where(mask.bool(), x.to(dtype), 0) for x in (logps - old_logps, gains))
    far = torch.where(
        gains > 0, d.clamp(max=torch.tensor(1.2).log().item()), d.clamp(min=torch.tensor(0.8).log().item())
    )
    return (-far.exp() * gains).sum() / mask.sum().clamp(min=1)


@pytest.mark.parametrize(
    ("function", "contract", "prop"),
    [
        (in_tiles_of_eight, "sft", "value"),
        (in_tiles_of_eight, "sft", "gradient"),
        (with_a_floor_under_the_variance, "group_advantages", "value"),
        (in_groups_of_at_most_32, "group_advantages", "value"),
        (nan_at_advantage_zero, "ppo", "extremes"),
    ],
)
def test_a_bug_that_needs_a_large_or_a_rare_input_is_found(function, contract, prop, monkeypatch):
    monkeypatch.setattr(run, "REDUCTIONS", 30)
    finding = run.run_property(read(function, CONTRACTS[contract], {}), PROPERTIES[prop], 200)
    assert finding.status == "failed"


def test_large_inputs_are_few_and_among_many():
    value = PROPERTIES["value"]
    assert [(regime.large, count) for regime, count in value.inputs(200)] == [
        (False, 200 - LARGE_INPUTS),
        (True, LARGE_INPUTS),
    ]
    assert [count for _, count in value.inputs(ONE_IN - 1)] == [ONE_IN - 1]

"""Inputs are drawn once for many properties, and reach what a bug needs."""

import random

import pytest
import torch

import grape_verified
from grape_verified import group_advantages, sft_loss, whiten
from grape_verified.conformance import CONTRACTS, check, run
from grape_verified.conformance.drawing import drawn, run_on
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.subject import read

SIZE = CONTRACTS["ppo"].space(PROPERTIES["value"].regime, (), {}, CONTRACTS["ppo"].variants).size


def test_the_same_inputs_are_drawn_again():
    again = []
    run_on(again.append, SIZE, 30)
    assert tuple(again) == drawn(SIZE, 30)
    assert len(set(again)) > 20


def test_a_failing_input_is_reduced_from_where_it_was_found():
    calls = []

    def wrong_at_three_rows(logps, old_logps, advantages, mask):
        calls.append(len(logps))
        found = grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss
        return found + 1 if len(logps) >= 3 else found

    subject = read(wrong_at_three_rows, CONTRACTS["ppo"], {})
    calls.clear()
    finding = run.run_property(subject, PROPERTIES["value"], 40)
    first = next(place for place, rows in enumerate(calls) if rows >= 3)
    assert finding.examples == first + 1
    assert calls[first + 1] >= 3  # drawn again, and not what passed before it
    assert finding.counterexample.count("[1.0") == 3


def test_a_failure_that_does_not_come_again_is_said():
    calls = []

    def wrong_once(logps, old_logps, advantages, mask):
        calls.append(1)
        return grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss + (len(calls) == 20)

    subject = read(wrong_once, CONTRACTS["ppo"], {})
    finding = run.run_property(subject, PROPERTIES["value"], 40)
    assert finding.text.startswith("gives different results for the same input; once, the loss is ")


def test_random_numbers_of_python_go_on_afterwards():
    def draws(logps, old_logps, advantages, mask):
        random.random()
        return grape_verified.ppo_loss(logps, old_logps, advantages, mask).loss

    subject = read(draws, CONTRACTS["ppo"], {})
    random.seed(1)
    expected = random.Random(1).random()
    assert run.run_property(subject, PROPERTIES["value"], 5).status == "passed"
    assert random.random() == expected


# -- what small random inputs do not reach ----------------------------------------------------------------------------


def in_tiles(width):
    """Forgets what is left beyond a tile."""

    def sft(logps, mask):
        return sft_loss(logps[:, :width], mask[:, :width], denominator=mask.sum().clamp(min=1)).loss

    return sft


def in_blocks(rows):
    """Forgets what is left beyond a block of rows."""

    def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps):
        given = (chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
        return grape_verified.dpo_loss(*(tensor[:rows] for tensor in given), denominator=len(chosen_logps)).loss

    return dpo


def without_the_last_of_many(logps, mask):
    """Takes the last of more than eight columns for an end of a sequence."""
    kept = mask.clone()
    if mask.shape[1] > 8:
        kept[:, -1] = 0
    return sft_loss(logps, kept, denominator=mask.sum().clamp(min=1)).loss


def with_a_floor_under_the_variance(rewards, group_size, baseline="mean", scale="std", ddof=1, eps=0.0):
    """No standard deviation is below 0.03."""
    found = group_advantages(rewards, group_size=group_size, baseline=baseline, scale=scale, ddof=ddof, eps=eps)
    if scale == "none" or group_size <= ddof:
        return found
    spread = rewards.reshape(-1, group_size).std(1, correction=ddof).repeat_interleave(group_size)
    return torch.where(spread > 0, found * (spread + eps) / (spread.clamp(min=0.03) + eps), found)


def whitened_with_a_floor(values, mask):
    """The same for values."""
    kept = values[mask != 0]
    spread = kept.var() if len(kept) > 1 else torch.tensor(1.0)
    return whiten(values, mask) * (spread / spread.clamp(min=1e-3)).sqrt() if spread > 0 else whiten(values, mask)


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


NEEDS_MORE = [
    (in_tiles(8), "sft", {"value", "gradient"}, "formula"),
    (in_tiles(128), "sft", {"value", "gradient"}, "formula"),
    (in_blocks(8), "dpo", {"value", "gradient"}, "formula"),
    (without_the_last_of_many, "sft", {"value", "gradient"}, "formula"),
    (in_groups_of_at_most_32, "group_advantages", {"value"}, "formula"),
    (with_a_floor_under_the_variance, "group_advantages", {"value"}, "robustness"),
    (whitened_with_a_floor, "whiten", {"value"}, "robustness"),
    (nan_at_advantage_zero, "ppo", {"extremes"}, "robustness"),
]


@pytest.mark.parametrize(("function", "contract", "must", "verdict"), NEEDS_MORE)
def test_a_bug_that_needs_a_large_or_a_rare_input_is_found(function, contract, must, verdict):
    report = check(function, contract, examples=20)
    assert must <= set(report.failed)
    assert {one.verdict for name in must for one in report.finding(name).departures} == {verdict}
    assert report.finding(min(must)).counterexample


def test_a_large_input_is_made_small():
    finding = check(in_tiles(8), "sft", examples=20).finding("value")
    assert "mask = torch.full((1, 9), True, dtype=torch.bool)" in finding.counterexample
    assert "a row is longer than 6" in finding.departures[0].where
    many = check(in_blocks(8), "dpo", examples=20).finding("value")
    assert "ref_chosen_logps = torch.full((9,), " in many.counterexample


def test_what_is_found_among_drawn_inputs_needs_no_large_one():
    finding = check(in_tiles(2), "sft", examples=20).finding("value")
    assert not any("longer" in words for one in finding.departures for words in one.where)


def test_every_contract_is_tried_on_purpose():
    for name, contract in CONTRACTS.items():
        subject = read(contract.function, contract, {})
        for prop in set(contract.properties) & {"value", "gradient", "options", "extremes"}:
            space = contract.space(PROPERTIES[prop].regime, subject.offered, {}, contract.variants)
            cases = [space.case(one) for one in PROPERTIES[prop].on_purpose(space)]
            assert cases, (name, prop)
            if prop == "value":
                assert max(t.numel() for case in cases for t in case.tensors.values()) >= 17, name

"""A function is judged with its habits: right with them, not right without, and a bug behind a habit is found."""

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from grape_spec.language.registry import DEFINITIONS

from grape_verified.conformance import CONTRACTS, check
from grape_verified.conformance.habits import KNOWN, habits_of
from grape_verified.conformance.oracle import EXACT

EXAMPLES = 24

# -- losses as trainers write them ------------------------------------------------------------------------------------


def clamped(highest=None, bound=20):
    """The mean over tokens of a clipped loss whose log-ratio is clamped."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        keep = response_mask > 0
        advantages = advantages if advantages.ndim == 2 else advantages.unsqueeze(-1)
        diff = torch.where(keep, log_prob - old_log_prob, torch.zeros_like(log_prob)).clamp(min=-bound, max=bound)
        adv = torch.where(keep, advantages, torch.zeros_like(log_prob))
        ratio = diff.exp()
        unclipped = -adv * ratio
        other = -adv * torch.clamp(ratio, 1 - clip_low, 1 + (clip_high if highest is None else highest))
        return torch.maximum(unclipped, other).mul(keep).sum() / keep.sum().clamp(min=1)

    return policy_loss


def capped(masked=True, cap=3.0, by_rows=False):
    """A clipped loss in which a negative advantage never costs more than the cap allows."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        keep = response_mask > 0
        advantages = advantages if advantages.ndim == 2 else advantages.unsqueeze(-1)
        diff = torch.where(keep, log_prob - old_log_prob, torch.zeros_like(log_prob))
        adv = torch.where(keep, advantages, torch.zeros_like(log_prob))
        # exp is never taken of what the clips would cut off, so that no gradient is 0 · inf
        up, down, top = (torch.log(torch.tensor(edge)).item() for edge in (1 + clip_high, 1 - clip_low, cap))
        held = torch.where(adv >= 0, diff.clamp(max=up), torch.maximum(diff, diff.new_tensor(down)).clamp(max=top))
        losses = -adv * held.exp()
        return losses.mul(keep).sum() / (keep.sum().clamp(min=1) if masked else keep.numel())

    return policy_loss


def rows_that_count(longest=None):
    """The mean over the sequences that have tokens of the mean over their tokens."""

    def policy_loss(log_prob, old_log_prob, advantages, response_mask, clip_low=0.2, clip_high=0.2):
        keep = response_mask > 0
        advantages = advantages if advantages.ndim == 2 else advantages.unsqueeze(-1)
        diff = torch.where(keep, log_prob - old_log_prob, torch.zeros_like(log_prob))
        adv = torch.where(keep, advantages, torch.zeros_like(log_prob))
        up, down = (torch.log(torch.tensor(edge)).item() for edge in (1 + clip_high, 1 - clip_low))
        held = torch.where(adv >= 0, diff.clamp(max=up), diff.clamp(min=down))
        losses = -adv * held.exp()
        length = keep.sum(-1).clamp(min=1) if longest is None else keep.sum(-1).clamp(min=1, max=longest)
        return (losses.mul(keep).sum(-1) / length).sum() / keep.any(-1).sum().clamp(min=1)

    return policy_loss


# -- the table --------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A function with habits, and the same with a bug.

    Arguments:
        bug: a property that finds it, and words of the finding.
        without: what the function without its habits is judged as; "formula" where the habit shows on ordinary inputs.
    """

    contract: str
    habits: tuple[str, ...]
    right: Any
    wrong: Any
    bug: tuple[str, str]
    without: str
    options: dict[str, Any] = {}


ROWS = {
    "log_ratio_clamp=20": Row(
        "ppo", ("log_ratio_clamp=20",), clamped(), clamped(highest=0.2), ("options", "clip_high="), "robustness"
    ),
    "log_ratio_clamp=10": Row(
        "ppo", ("log_ratio_clamp=10",), clamped(bound=10), clamped(bound=5), ("value", ""), "formula"
    ),
    "dual_clip=3, an option": Row("ppo", ("dual_clip=3",), capped(), capped(masked=False), ("value", ""), "formula"),
    "dual_clip=3": Row(
        "grpo", ("dual_clip=3",), capped(), capped(cap=2.5), ("value", ""), "formula", {"aggregation": "token_mean"}
    ),
    "dual_clip=3, unmasked mean": Row("dapo", ("dual_clip",), capped(), capped(masked=False), ("value", ""), "formula"),
    "empty_rows=left_out": Row(
        "grpo", ("empty_rows=left_out",), rows_that_count(), rows_that_count(longest=2), ("value", ""), "robustness",
        {"aggregation": "sequence_mean"},
    ),
}  # fmt: skip


#: The properties that decide whether a formula is right; the others cost time here.
FORMULA = ("signature", "value", "gradient", "options", "partition", "expectation", "kinks")


def judged(function, row, habits=()):
    """The report on the formula of a function of a row."""
    contract = CONTRACTS[row.contract].with_habits(habits)
    names = tuple(name for name in contract.properties if name in FORMULA)
    return check(function, replace(contract, properties=names), examples=EXAMPLES, options=row.options)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_function_is_right_with_its_habits_and_a_bug_behind_them_is_found(row):
    right = judged(row.right, row, row.habits)
    assert right.formula == "right", right.in_words()
    assert right.accepted, right.in_words()
    wrong = judged(row.wrong, row, row.habits)
    assert wrong.formula == "wrong", wrong.in_words()
    name, words = row.bug
    assert any(found.name == name and words in one.text for found, one in wrong.departures("formula"))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_without_the_habit_the_function_departs(row):
    plain = judged(row.right, row)
    assert any(plain.departures(row.without)), plain.in_words()


# -- what exists ------------------------------------------------------------------------------------------------------


def test_every_habit_is_tried():
    """By its name; a number is one of several."""
    tried = {habit.id for row in ROWS.values() for habit in CONTRACTS[row.contract].with_habits(row.habits).habits}
    assert tried == set(KNOWN) == {id for id in DEFINITIONS if id.startswith("habit.")}


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_oracle_of_a_contract_can_be_read_with_every_habit_of_it(name):
    contract = CONTRACTS[name]
    for habit in habits_of(contract):
        judged = contract.with_habits([habit])
        case = judged.probe({}, judged.variants[0])
        answer = judged.oracle(case, EXACT)
        answer.gradients([1.0] * len(answer.values))


def test_a_habit_has_a_name_a_value_and_words():
    report = check(clamped(), "ppo", examples=1, habits=["dual_clip=3", "log_ratio_clamp=20"])
    assert "as ppo, always-on dual clip c = 3, log-ratio clamped to ±20: " in report.in_words()
    assert list(report.as_dict()["habits"]) == [
        {"id": "habit.dual_clip", "value": 3.0, "words": "always-on dual clip c = 3"},
        {"id": "habit.log_ratio_clamp", "value": 20.0, "words": "log-ratio clamped to ±20"},
    ]
    assert list(map(str, report.habits)) == ["dual_clip=3", "log_ratio_clamp=20"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["no_such"], "got 'no_such', expected some of those of ppo: dual_clip=3, log_ratio_clamp=20, "),
        (["log_ratio_clamp=20", "log_ratio_clamp=10"], "got log_ratio_clamp=20 and log_ratio_clamp=10, expected one"),
        (["log_ratio_clamp=-1"], "got 'log_ratio_clamp=-1', expected a positive number"),
        (["log_ratio_clamp=wide"], "got 'log_ratio_clamp=wide', expected a positive number"),
        (["log_ratio_clamp"], "got 'log_ratio_clamp', expected some of those of ppo: "),
        (["empty_rows=counted"], "got 'empty_rows=counted', expected some of those of ppo: "),
    ],
)
def test_what_is_no_habit_is_said_in_a_line(asked, sentence):
    with pytest.raises(ValueError, match=r"^habits: ") as refused:
        check(clamped(), "ppo", habits=asked)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_option_that_a_habit_holds_cannot_be_given():
    with pytest.raises(ValueError, match="options: got 'dual_clip', which the habit dual_clip=3 holds"):
        check(clamped(), "ppo", habits=["dual_clip=3"], options={"dual_clip": 2.0})


def test_a_contract_takes_habits_once():
    with pytest.raises(ValueError, match="habits: ppo has dual_clip=3, expected none before"):
        CONTRACTS["ppo"].with_habits(["dual_clip"]).with_habits(["log_ratio_clamp=20"])

"""GRAPE's contracts accept correct functions in another style and reject wrong ones."""

import pytest

from grape_verified.conformance import CONTRACTS, check, checking

from . import planted_grape


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted_grape.looped_rewards, "grape_rewards"),
        (planted_grape.looped_advantages, "grape_advantages"),
        (planted_grape.looped_grape, "grape"),
        (planted_grape.correct_rewards, "grape_rewards"),
        (planted_grape.correct_advantages, "grape_advantages"),
        (planted_grape.correct_grape, "grape"),
    ],
)
def test_accepts_a_correct_function(function, contract):
    report = check(function, contract, examples=20)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


#: A wrong function and the properties that it breaks.
WRONG = [
    (planted_grape.own_confidence, "grape_rewards", ("value",)),
    (planted_grape.not_normalised, "grape_rewards", ("value",)),
    (planted_grape.padded_items, "grape_rewards", ("value", "masked items")),
    (planted_grape.averaged_over_items, "grape_rewards", ("value",)),
    (planted_grape.confidence_ignored, "grape_rewards", ("value",)),
    (planted_grape.items_times_nan, "grape_rewards", ("masked items",)),
    (planted_grape.nothing_trusted, "grape_rewards", ("value",)),
    (planted_grape.categories_ignored, "grape_rewards", ("options",)),
    (planted_grape.mean_for_others, "grape_advantages", ("value",)),
    (planted_grape.baseline_of_the_batch, "grape_advantages", ("value",)),
    (planted_grape.sum_over_others, "grape_advantages", ("value",)),
    (planted_grape.own_spread, "grape_advantages", ("options",)),
    (planted_grape.one_for_all, "grape", ("value", "gradient")),
    (planted_grape.best_of_each_prompt, "grape", ("value", "gradient")),
    (planted_grape.rows_interleaved, "grape", ("value", "gradient")),
    (planted_grape.wrong_sign, "grape", ("value", "gradient")),
    (planted_grape.mean_over_tokens, "grape", ("value", "gradient")),
    (planted_grape.denominator_ignored, "grape", ("options", "partition")),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "violation"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, violation):
    subject = checking.read(function, CONTRACTS[contract], {})
    for name in violation:
        finding = checking.run_property(subject, checking.PROPERTIES[name], 100)
        assert finding.status == "failed"
        assert finding.counterexample
        assert "Traceback" not in finding.text


def test_multiplying_with_the_mask_is_right_as_long_as_numbers_stand_behind_it():
    subject = checking.read(planted_grape.items_times_nan, CONTRACTS["grape_rewards"], {})
    assert checking.run_property(subject, checking.PROPERTIES["value"], 60).status == "passed"

"""GRAPE's contracts accept correct functions in another style and reject wrong ones; the bound of the rewards."""

import pytest

from grape_verified.conformance import check, checking

from . import bounds, planted_grape


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
    report = check(function, contract, examples=100)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


#: A wrong function, the properties that must fail, and those that may fail with them, as the mistake shows there, too.
WRONG = [
    (planted_grape.own_confidence, "grape_rewards", {"value"}, set()),
    (planted_grape.not_normalised, "grape_rewards", {"value"}, set()),
    (planted_grape.padded_items, "grape_rewards", {"value", "masked items"}, set()),
    (planted_grape.averaged_over_items, "grape_rewards", {"value"}, set()),
    (planted_grape.confidence_ignored, "grape_rewards", {"value"}, set()),
    (planted_grape.items_times_nan, "grape_rewards", {"masked items"}, set()),
    (planted_grape.nothing_trusted, "grape_rewards", {"value"}, set()),
    (planted_grape.categories_ignored, "grape_rewards", {"options"}, set()),
    (planted_grape.mean_for_others, "grape_advantages", {"value"}, {"options"}),
    (planted_grape.baseline_of_the_batch, "grape_advantages", {"value"}, set()),
    (planted_grape.sum_over_others, "grape_advantages", {"value"}, set()),
    (planted_grape.own_spread, "grape_advantages", {"options"}, set()),
    (planted_grape.one_for_all, "grape", {"value", "gradient"}, {"extremes", "kinks", "permutation"}),
    (planted_grape.best_of_each_prompt, "grape", {"value", "gradient"}, {"extremes", "kinks"}),
    (planted_grape.rows_interleaved, "grape", {"value", "gradient"}, {"extremes", "kinks", "permutation"}),
    (planted_grape.wrong_sign, "grape", {"value", "gradient"}, {"extremes", "kinks"}),
    (planted_grape.mean_over_tokens, "grape", {"value", "gradient"}, {"extremes", "kinks"}),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=100)
    failed = set(report.failed)
    assert must <= failed <= must | may
    assert all(report.finding(name).counterexample for name in failed)


def reward_scales(case, answer):
    """r."""
    return [abs(bounds.middle(target)) for target in answer.values]


def test_bound_in_the_docstring(record_property):
    largest = bounds.largest_error("grape_rewards", 16, reward_scales, "16·u·r")
    record_property("largest error in units of the bound's u · scale", largest)

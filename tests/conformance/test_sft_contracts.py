"""`check` and the contracts of SFT: what it accepts, what it rejects and by which properties."""

import pytest

from grape_verified.conformance import check, checking

from . import planted_sft as planted

SPEC = {"value", "gradient", "options", "extremes"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted.looping_sft, "sft"),
        (planted.correct_sft, "sft"),
        (planted.weighted_sft_per_token, "sft_per_token"),
    ],
)
def test_accepts_a_correct_function(function, contract):
    report = check(function, contract, examples=50)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


# The properties that must reject a function, and those that may.
WRONG = [
    (planted.wrong_sign, "sft", {"value", "gradient"}, SPEC),
    (planted.probability_for_log, "sft", {"value", "gradient"}, SPEC),
    (planted.detached, "sft", {"gradient"}, SPEC),
    (planted.padded_mean, "sft", {"value", "gradient"}, SPEC | {"padding"}),
    (planted.mean_of_means, "sft", {"value", "gradient"}, SPEC),
    (planted.zero_over_zero, "sft", {"empty batch"}, set()),
    (planted.denominator_ignored, "sft", {"options", "partition"}, {"extremes"}),
    (planted.clamped, "sft", {"extremes"}, set()),
    (planted.shifted_again, "sft", {"value", "gradient", "padding"}, SPEC),
    (planted.mask_times_nan, "sft", {"masked values"}, {"padding"}),
    (planted.positive_per_token, "sft_per_token", {"value", "gradient"}, {"cotangents", "extremes"}),
    (planted.summed_gradient, "sft_per_token", {"gradient"}, {"cotangents", "extremes"}),
    (planted.clamped_per_token, "sft_per_token", {"extremes"}, set()),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=40)
    assert must <= set(report.failed) <= must | may
    assert all(report.finding(name).counterexample for name in report.failed)


def test_half_precision_is_noted():
    assert "dtype" in check(planted.half_precision, "sft", examples=40).named("noted")

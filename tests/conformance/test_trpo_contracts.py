"""TRPO's contracts: what they accept, what they reject and by which properties."""

import pytest

from grape_verified.conformance import check, checking

from . import planted_trpo

SPEC = {"value", "gradient", "options", "extremes"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


def test_accepts_a_correct_function_in_another_style():
    report = check(planted_trpo.token_by_token, "trpo")
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]
    assert all(f.examples >= 200 for f in report.properties if f.status == "passed" and f.name != "signature")


def test_accepts_the_function_that_the_wrong_ones_are_made_from():
    assert check(planted_trpo.correct, "trpo", examples=50).accepted


#: A wrong function, the properties that must fail, and those that may fail with them, as the mistake shows there, too.
WRONG = [
    (planted_trpo.wrong_sign, "trpo", {"value", "gradient"}, SPEC),
    (planted_trpo.ratio_upside_down, "trpo", {"value", "gradient"}, SPEC),
    (planted_trpo.log_ratio_for_ratio, "trpo", {"value", "gradient"}, SPEC),
    (planted_trpo.ratio_detached, "trpo", {"value"}, SPEC),
    (planted_trpo.clipped_as_ppo, "trpo", {"value", "gradient"}, SPEC),
    (planted_trpo.overflowing, "trpo", {"extremes"}, set()),
    (planted_trpo.cut_to_zero, "trpo", {"extremes"}, set()),
    (planted_trpo.padding_counts, "trpo", {"value", "padding"}, SPEC),
    (planted_trpo.zero_over_zero, "trpo", {"empty batch"}, set()),
    (planted_trpo.mask_times_nan, "trpo", {"masked values"}, set()),
    (planted_trpo.first_cotangent, "trpo_per_token", {"cotangents"}, set()),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=40)
    failed = set(report.failed)
    assert must <= failed <= must | may
    for name in failed:
        assert report.finding(name).counterexample
        assert "Traceback" not in report.finding(name).text

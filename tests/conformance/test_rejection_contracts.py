"""`check` and the contracts of rejection sampling: what it accepts, what it rejects and by which properties."""

import pytest

from grape_verified.conformance import check, checking

from . import planted_rejection as planted

WEIGHTS = {"value", "options", "extremes"}
SPEC = {"value", "gradient", "options", "extremes"}
KEPT = SPEC | {"empty batch"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted.sorting_best_of_n, "best_of_n_weights"),
        (planted.subtracting_threshold, "threshold_weights"),
        (planted.power_acceptance, "acceptance_probabilities"),
        (planted.logarithmic_acceptance, "acceptance_weights"),
        (planted.filtering_sampler, "rejection_sampling"),
    ],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract, examples=50)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


# The properties that must reject a function, and those that may.
WRONG = [
    (planted.first_of_the_best, "best_of_n_weights", {"value"}, WEIGHTS),
    (planted.every_best_whole, "best_of_n_weights", {"value"}, WEIGHTS),
    (planted.worst_of_n, "best_of_n_weights", {"value"}, WEIGHTS),
    (planted.strided_groups, "best_of_n_weights", {"value"}, WEIGHTS | {"permutation"}),
    (planted.best_of_the_batch, "best_of_n_weights", {"value"}, WEIGHTS),
    (planted.above_threshold, "threshold_weights", {"value"}, WEIGHTS),
    (planted.below_threshold, "threshold_weights", {"value"}, WEIGHTS),
    (planted.soft_threshold, "threshold_weights", {"value"}, WEIGHTS | {"dtype"}),
    (planted.threshold_ignored, "threshold_weights", {"options"}, WEIGHTS),
    (planted.times_beta, "acceptance_probabilities", {"options"}, WEIGHTS),
    (planted.batch_maximum, "acceptance_probabilities", {"value"}, WEIGHTS),
    (planted.without_maximum, "acceptance_probabilities", {"value"}, WEIGHTS),
    (planted.normalised, "acceptance_probabilities", {"value"}, WEIGHTS),
    (planted.tossed_times_beta, "acceptance_weights", {"options"}, WEIGHTS),
    (planted.tossed_without_maximum, "acceptance_weights", {"value"}, WEIGHTS),
    (planted.refused, "acceptance_weights", {"value"}, WEIGHTS),
    (planted.wrong_sign, "rejection_sampling", {"value", "gradient"}, KEPT),
    (planted.keeps_the_worst, "rejection_sampling", {"value", "gradient"}, KEPT),
    (planted.ties_whole, "rejection_sampling", {"value", "gradient"}, KEPT),
    (planted.first_wins, "rejection_sampling", {"value", "gradient"}, KEPT),
    (planted.over_all_tokens, "rejection_sampling", {"value", "gradient"}, KEPT | {"padding"}),
    (planted.over_all_sequences, "rejection_sampling", {"value", "gradient"}, KEPT),
    (planted.no_filter, "rejection_sampling", {"value", "gradient"}, KEPT),
    (planted.reward_weighted, "rejection_sampling", {"value", "gradient"}, KEPT),
    (planted.threshold_ignored_by_the_loss, "rejection_sampling", {"options"}, {"extremes"}),
    (planted.zero_times_nan, "rejection_sampling", {"masked values"}, {"padding"}),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=40)
    assert must <= set(report.failed) <= must | may
    assert all(report.finding(name).counterexample for name in report.failed)

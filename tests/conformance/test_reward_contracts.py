"""The contracts of the reward model accept correct functions in another style and reject wrong ones."""

import pytest

from grape_verified.conformance import check, checking

from . import planted_reward as planted

#: What a loss fails that disagrees with the spec everywhere.
EVERYWHERE = {"value", "gradient", "options", "extremes", "cotangents"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


@pytest.mark.parametrize(
    ("function", "contract"),
    [(planted.cross_entropy_of_two, "bradley_terry"), (planted.log_of_sum_terms, "bradley_terry_per_pair")],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract, examples=100)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


#: The properties that a mistake must fail.
MUST = {
    "exchanged": {"value", "gradient"},
    "wrong_sign": {"value", "gradient"},
    "hinge": {"value", "gradient"},
    "half_weight": {"value", "gradient"},
    "chosen_alone": {"gradient"},
    "naive": {"extremes"},
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mistake", planted.MISTAKES)
@pytest.mark.parametrize("contract", ["bradley_terry", "bradley_terry_per_pair"])
def test_rejects_a_wrong_function_by_the_right_properties(mistake, contract):
    functions = planted.wrong_losses if contract == "bradley_terry" else planted.wrong_terms
    failed = set(check(functions[mistake], contract, examples=40).failed)
    assert MUST[mistake] <= failed <= EVERYWHERE
    assert "value" in failed or mistake in ("chosen_alone", "naive")


@pytest.mark.usefixtures("quick")
def test_rejects_a_denominator_that_is_ignored():
    assert set(check(planted.denominator_ignored, "bradley_terry", examples=40).failed) >= {"options", "partition"}

"""The contracts of REINFORCE: what they accept, what they reject and by which property."""

import pytest
import torch

from grape_verified.conformance import CONTRACTS, check, checking
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case

from . import planted_reinforce
from .bounds import middle

SPEC = {"value", "gradient", "expectation", "extremes"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 3)


def test_accepts_a_correct_function_in_another_style():
    report = check(planted_reinforce.token_by_token, "reinforce", examples=30)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


WRONG = [
    (planted_reinforce.wrong_sign, "reinforce", {"value", "gradient", "expectation"}, SPEC),
    (planted_reinforce.probability_for_its_logarithm, "reinforce", {"value", "gradient", "expectation"}, SPEC),
    (planted_reinforce.mean_over_tokens, "reinforce", {"value", "gradient"}, SPEC - {"expectation"}),
    (planted_reinforce.mean_of_means, "reinforce", {"value", "gradient"}, SPEC - {"expectation"}),
    (planted_reinforce.centred_again, "reinforce", {"value", "gradient", "expectation"}, SPEC | {"padding"}),
    (planted_reinforce.positive_advantages_only, "reinforce", {"value", "gradient", "expectation"}, SPEC),
    (planted_reinforce.clamped_logps, "reinforce", {"extremes"}, set()),
    (planted_reinforce.without_gradient, "reinforce", {"gradient", "expectation", "empty batch"}, set()),
    (planted_reinforce.mask_times_nan, "reinforce", {"masked values"}, set()),
    (planted_reinforce.denominator_ignored, "reinforce", {"options", "partition"}, {"expectation", "extremes"}),
    (planted_reinforce.surrogate_of_the_value_one, "reinforce_per_token", {"value"}, {"extremes"}),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=20)
    failed = set(report.failed)
    assert must <= failed <= must | may
    for name in failed:
        assert report.finding(name).counterexample
        assert "Traceback" not in report.finding(name).text


def test_the_oracle_is_right_where_the_answer_is_known_by_hand():
    tensors = {
        "logps": torch.tensor([[-1.0, -2.0], [-3.0, -9.0]]).double(),
        "advantages": torch.tensor([2.0, -1.0]).double(),
        "mask": torch.tensor([[True, True], [True, False]]),
    }
    contract = CONTRACTS["reinforce"]
    answer = contract.oracle(Case(tensors, contract.defaults({})), EXACT)
    assert middle(answer.values[0]) == (2 * 1 + 2 * 2 - 3) / 2
    assert [middle(x) for x in answer.gradients([1.0])["logps"]] == [-1, -1, 0.5, 0]

"""The contracts of robust DPO and IPO: what they accept, what they reject and by which property."""

import math

import pytest
import torch

from grape_verified.conformance import CONTRACTS, check, checking
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case

from . import planted_dpo
from .bounds import middle

SPEC = {"value", "gradient", "options", "extremes"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


@pytest.mark.parametrize(
    ("function", "contract"), [(planted_dpo.two_losses, "robust_dpo"), (planted_dpo.pair_by_pair, "ipo")]
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract, examples=100)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


WRONG = [
    (planted_dpo.not_divided, "robust_dpo", {"value", "gradient"}, SPEC),
    (planted_dpo.smoothed, "robust_dpo", {"value", "gradient"}, SPEC),
    (planted_dpo.divided_by_one_flip, "robust_dpo", {"value", "gradient"}, SPEC),
    (planted_dpo.labels_exchanged, "robust_dpo", {"value", "gradient"}, SPEC),
    (planted_dpo.never_negative, "robust_dpo", {"extremes"}, SPEC),
    (planted_dpo.target_of_one_over_beta, "ipo", {"value", "gradient"}, SPEC),
    (planted_dpo.beta_on_the_log_ratio, "ipo", {"value", "gradient"}, SPEC),
    (planted_dpo.half_of_the_square, "ipo", {"value", "gradient"}, SPEC),
    (planted_dpo.hinge, "ipo", {"extremes"}, SPEC),
    (planted_dpo.sums_for_means, "ipo", {"options"}, {"extremes"}),
    (planted_dpo.without_reference, "ipo", {"value", "gradient"}, SPEC),
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


def answer(name, chosen, rejected, lengths=(1.0, 1.0), **options):
    numbers = (chosen, rejected, 0.0, 0.0, *lengths)
    contract = CONTRACTS[name]
    tensors = {name: torch.tensor([x]).double() for name, x in zip(contract.tensors, numbers, strict=False)}
    return contract.oracle(Case(tensors, contract.defaults(options)), EXACT)


def test_the_oracle_of_robust_dpo_by_hand():
    got = answer("robust_dpo", math.log(3), 0.0, beta=1.0, flip_probability=0.25)
    assert middle(got.values[0]) == pytest.approx((0.75 * math.log(4 / 3) - 0.25 * math.log(4)) / 0.5)
    gradients = got.gradients([1.0])
    assert middle(gradients["chosen_logps"][0]) == pytest.approx(-0.25 - 0.5)
    assert middle(gradients["rejected_logps"][0]) == pytest.approx(0.25 + 0.5)


@pytest.mark.parametrize(("log_ratio", "h", "divisors"), [("sum", 4.0, (1, 1)), ("mean", 1.0, (2, 4))])
def test_the_oracle_of_ipo_by_hand(log_ratio, h, divisors):
    got = answer("ipo", 4.0, 4.0 * (log_ratio == "mean"), (2.0, 4.0), beta=0.25, log_ratio=log_ratio)
    assert middle(got.values[0]) == pytest.approx((h - 2) ** 2)
    gradients = got.gradients([1.0])
    assert middle(gradients["chosen_logps"][0]) == pytest.approx(2 * (h - 2) / divisors[0])
    assert middle(gradients["rejected_logps"][0]) == pytest.approx(-2 * (h - 2) / divisors[1])

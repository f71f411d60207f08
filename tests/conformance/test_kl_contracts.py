"""The contracts of divergences: what they accept, what they reject and by which property."""

import math

import pytest
import torch

from grape_verified.conformance import CONTRACTS, check, checking
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case

from . import planted_kl
from .bounds import middle

K3 = {"value", "gradient", "cotangents", "options", "expectation", "extremes"}
OTHERS = {"options", "extremes"}
DIVERGENCE = {"value", "gradient", "cotangents", "forbidden tokens", "extremes"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 3)


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted_kl.polynomial_estimate, "kl_estimate"),
        (planted_kl.textbook_estimate, "kl_estimate"),
        (planted_kl.from_torch, "categorical_kl"),
    ],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract, examples=30)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


WRONG = [
    (planted_kl.k3_turned, "kl_estimate", {"value", "gradient", "expectation"}, K3),
    (planted_kl.k3_plus, "kl_estimate", {"value", "gradient"}, K3),
    (planted_kl.k1_turned, "kl_estimate", {"options"}, OTHERS),
    (planted_kl.k2_without_half, "kl_estimate", {"options"}, OTHERS),
    (planted_kl.k3_clamped, "kl_estimate", {"extremes"}, K3),
    (planted_kl.k3_with_the_gradient_of_k2, "kl_estimate", {"gradient", "expectation"}, K3 - {"value"}),
    (planted_kl.estimate_of_a_constant_ratio, "kl_estimate", {"gradient", "expectation"}, K3 - {"value"}),
    (planted_kl.estimate_without_gradient, "kl_estimate", {"gradient", "expectation"}, K3 - {"value"}),
    (planted_kl.estimator_ignored, "kl_estimate", {"options"}, OTHERS),
    (planted_kl.arguments_of_torch_confused, "categorical_kl", {"value", "gradient"}, DIVERGENCE),
    (planted_kl.forbidden_tokens_are_nan, "categorical_kl", {"forbidden tokens"}, set()),
    (planted_kl.log_of_softmax, "categorical_kl", {"forbidden tokens", "extremes"}, DIVERGENCE),
    (planted_kl.other_side_detached, "categorical_kl", {"gradient"}, DIVERGENCE - {"value"}),
    (planted_kl.mean_over_the_vocabulary, "categorical_kl", {"value", "gradient"}, DIVERGENCE),
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


@pytest.mark.usefixtures("quick")
def test_only_a_strict_check_minds_that_a_ratio_overflows():
    strict = check(planted_kl.textbook_estimate, "kl_estimate", examples=30, strict=True)
    assert set(strict.failed) == {"extremes", "constants"}


def test_the_oracle_is_right_where_the_answer_is_known_by_hand():
    tokens = {"logps": torch.tensor([[math.log(2)]], dtype=torch.float64), "ref_logps": torch.zeros(1, 1).double()}
    log2 = tokens["logps"].item()
    by_hand = {"k1": (log2, 1), "k2": (log2**2 / 2, log2), "k3": (log2 - 1 / 2, 1 / 2)}
    for estimator, expected in by_hand.items():
        answer = CONTRACTS["kl_estimate"].oracle(Case(tokens, {"estimator": estimator}), EXACT)
        got = middle(answer.values[0]), middle(answer.gradients([1.0])["logps"][0])
        assert got == pytest.approx(expected, rel=1e-15)
    halves = torch.tensor([0.5, 0.5, 0.0]).double().log()
    thirds = torch.zeros(3).double()
    answer = CONTRACTS["categorical_kl"].oracle(Case({"logits": halves[None], "other_logits": thirds[None]}, {}), EXACT)
    assert middle(answer.values[0]) == pytest.approx(math.log(3 / 2), rel=1e-15)
    gradients = {name: [middle(x) for x in found] for name, found in answer.gradients([1.0]).items()}
    assert gradients["logits"] == pytest.approx([0, 0, 0], abs=1e-15)
    assert gradients["other_logits"] == pytest.approx([-1 / 6, -1 / 6, 1 / 3], rel=1e-15)

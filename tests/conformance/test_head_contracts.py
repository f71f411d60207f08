"""The contracts of what is read off hidden states: what they accept, what they reject and by which property."""

import math

import pytest
import torch

import grape_verified
from grape_verified.conformance import CONTRACTS, check, checking
from grape_verified.conformance.contracts.head import SIZES
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case

from . import planted_head as planted
from .bounds import middle

LOGPS, BOTH = "linear_token_logps", "linear_token_entropies"
SLOPES = {"gradient", "cotangents", "options", "forbidden tokens", "extremes"}
EVERYWHERE = SLOPES | {"value"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 3)


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted.logps_one_by_one, LOGPS),
        (planted.logps, LOGPS),
        (planted.both_one_by_one, BOTH),
        (planted.both, BOTH),
    ],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract, examples=30)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


WRONG = [
    (planted.next_token, LOGPS, {"value", "gradient", "cotangents"}, EVERYWHERE),
    (planted.bias_held_constant, LOGPS, {"gradient", "cotangents"}, SLOPES),
    (planted.normaliser_held_constant, LOGPS, {"gradient", "cotangents"}, SLOPES),
    (planted.temperature_without_gradient, LOGPS, {"options"}, SLOPES),
    (planted.temperature_multiplied, LOGPS, {"options"}, {"extremes"}),
    (planted.bias_at_temperature_one, LOGPS, {"options"}, {"extremes"}),
    (planted.mask_times_garbage, LOGPS, {"masked values"}, {"forbidden tokens"}),
    (planted.masked_rows_leak, LOGPS, {"gradient", "masked values", "padding", "empty batch"}, SLOPES),
    (planted.shift_missing, LOGPS, {"extremes"}, EVERYWHERE),
    (planted.entropy_held_constant, BOTH, {"gradient", "cotangents"}, SLOPES),
    (planted.entropy_with_weights_held_constant, BOTH, {"gradient", "cotangents"}, SLOPES),
    (planted.entropy_in_bits, BOTH, {"value", "gradient"}, EVERYWHERE),
    (planted.exchanged, BOTH, {"value"}, EVERYWHERE),
    (planted.temperature_held_constant, BOTH, {"gradient", "cotangents"}, SLOPES),
    (planted.one_temperature_for_all, BOTH, {"value"}, EVERYWHERE | {"masked values", "padding", "permutation"}),
    (planted.forbidden_tokens_move_the_temperature, BOTH, {"forbidden tokens"}, set()),
    (planted.forbidden_tokens_are_nan, BOTH, {"forbidden tokens"}, {"extremes"}),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, must, may):
    report = check(function, contract, examples=30)
    failed = set(report.failed)
    assert must <= failed <= must | may
    for name in failed:
        assert report.finding(name).counterexample
        assert "Traceback" not in report.finding(name).text


def test_what_depends_on_a_keyword_is_asked_for_and_shown(quick):
    subject = checking.read(planted.entropy_held_constant, CONTRACTS[BOTH], {})
    assert subject.takes == ("with_entropy",)
    finding = checking.run_property(subject, checking.PROPERTIES["gradient"], 30)
    assert "with_entropy=True" in finding.counterexample
    assert checking.read(planted.both_one_by_one, CONTRACTS[BOTH], {}).takes == ()


def test_inputs_have_several_sizes():
    assert {size for sizes in zip(*SIZES, strict=True) for size in sizes} == {1, 2, 3, 4}


def test_the_oracle_is_right_where_the_answer_is_known_by_hand():
    tensors = {
        "hidden": torch.tensor([[[1.0], [7.0]]]).double(),
        "weight": torch.tensor([[2 * math.log(3)], [0.0], [5.0]], dtype=torch.float64),
        "targets": torch.tensor([[1, 0]]),
        "bias": torch.tensor([0.0, 0.0, -math.inf]).double(),
        "temperature": torch.tensor([[2.0, math.nan]]).double(),
        "mask": torch.tensor([[True, False]]),
    }
    answer = CONTRACTS[BOTH].oracle(Case(tensors, {}), EXACT)
    log3, log4 = math.log(3), math.log(4)
    assert [middle(x) for x in answer.values] == pytest.approx([-log4, log4 - 3 / 4 * log3, 0, 0], rel=1e-15)
    gradients = {name: [middle(x) for x in found] for name, found in answer.gradients([1.0, 0.0, 1.0, 1.0]).items()}
    assert gradients["bias"] == pytest.approx([-3 / 8, 3 / 8, 0], rel=1e-15)
    assert gradients["weight"] == gradients["bias"]
    assert gradients["hidden"] == pytest.approx([-3 / 4 * log3, 0], rel=1e-15)
    assert gradients["temperature"] == pytest.approx([3 / 8 * log3, 0], rel=1e-14)
    of_entropy = {name: [middle(x) for x in found] for name, found in answer.gradients([0.0, 1.0, 0.0, 0.0]).items()}
    assert of_entropy["bias"] == pytest.approx([-3 / 32 * log3, 3 / 32 * log3, 0], rel=1e-14)
    assert of_entropy["temperature"] == pytest.approx([3 / 32 * log3**2, 0], rel=1e-14)


def test_the_kernel_is_held_to_the_precision_of_the_dtype():
    for contract in (LOGPS, BOTH):
        assert check(grape_verified.linear_token_logps, contract, examples=10, strict=True).accepted
        rounded = check(_in_single_precision, contract, examples=10, strict=True)
        assert {"value", "gradient"} <= set(rounded.failed)


def _in_single_precision(hidden, weight, targets, **options):
    narrow = {name: x.float() if torch.is_tensor(x) and x.is_floating_point() else x for name, x in options.items()}
    found = grape_verified.linear_token_logps(hidden.float(), weight.float(), targets, **narrow)
    return tuple(x.to(hidden.dtype) for x in found) if isinstance(found, tuple) else found.to(hidden.dtype)

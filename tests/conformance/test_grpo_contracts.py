"""The contracts of GRPO and its variants: what they accept, what they reject and by which property."""

import math

import pytest
import torch

from grape_verified.conformance import CONTRACTS, check, checking
from grape_verified.conformance.oracle import EXACT
from grape_verified.conformance.strategies import Case

from . import planted_grpo
from .bounds import middle

SPEC = {"value", "gradient", "options", "extremes"}
CLIPPED = SPEC | {"kinks"}
SCALED = {"value", "options", "dtype"}


@pytest.fixture
def quick(monkeypatch):
    """Fewer attempts to make a counterexample smaller, where only the verdict matters."""
    monkeypatch.setattr(checking, "REDUCTIONS", 10)


@pytest.mark.parametrize(
    ("function", "contract"),
    [
        (planted_grpo.token_by_token, "grpo"),
        (planted_grpo.sequence_by_sequence, "gspo"),
        (planted_grpo.weights_first, "cispo"),
        (planted_grpo.group_by_group, "group_advantages"),
        (planted_grpo.correct_grpo, "grpo"),
        (planted_grpo.correct_dr_grpo, "dr_grpo"),
        (planted_grpo.correct_gspo, "gspo"),
        (planted_grpo.correct_cispo, "cispo"),
        (planted_grpo.correct_advantages, "group_advantages"),
    ],
)
def test_accepts_a_correct_function_in_another_style(function, contract):
    report = check(function, contract, examples=60)
    assert report.accepted, [(f.name, f.text, f.counterexample) for f in report.properties if f.status == "failed"]


#: A wrong function, its contract, the options it is held to, the properties that must fail, and those that may.
WRONG = [
    (planted_grpo.divergence_rewarded, "grpo", {"kl_coef": 0.1}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.reference_exchanged, "grpo", {"kl_coef": 0.1}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.k1_for_k3, "grpo", {"kl_coef": 0.1}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.divergence_held_constant, "grpo", {"kl_coef": 0.1}, {"gradient"}, CLIPPED),
    (planted_grpo.divergence_outside_the_mask, "grpo", {"kl_coef": 0.1}, {"value", "masked values", "padding"},
     CLIPPED | {"empty batch"}),
    (planted_grpo.divergence_clamped, "grpo", {"kl_coef": 0.1}, {"value", "gradient", "extremes"}, CLIPPED),
    (planted_grpo.divergence_rewarded, "grpo", {}, {"options"}, {"kinks", "extremes"}),
    (planted_grpo.mean_over_all_tokens, "grpo", {}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.mean_over_padding, "grpo", {}, {"value", "padding"}, CLIPPED),
    (planted_grpo.no_minimum, "grpo", {}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.dapo_as_grpo, "dapo", {}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.own_length, "dr_grpo", {}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.longest_length, "dr_grpo", {}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.padded_length, "dr_grpo", {}, {"value", "padding"}, CLIPPED),
    (planted_grpo.sum_of_log_ratios, "gspo", {}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.mean_with_padding, "gspo", {}, {"value", "padding"}, CLIPPED),
    (planted_grpo.mean_of_ratios, "gspo", {}, {"value", "gradient"}, CLIPPED | {"masked values", "padding"}),
    (planted_grpo.empty_sequences_count, "gspo", {}, {"value", "empty batch"}, CLIPPED),
    (planted_grpo.a_ratio_for_each_token, "gspo", {}, {"value", "gradient"}, CLIPPED),
    (planted_grpo.weight_differentiated, "cispo", {}, {"gradient"}, SPEC),
    (planted_grpo.cap_without_the_one, "cispo", {}, {"value", "gradient"}, SPEC),
    (planted_grpo.clipped_tokens_dropped, "cispo", {}, {"value", "gradient"}, SPEC),
    (planted_grpo.weight_not_clipped, "cispo", {}, {"value", "gradient"}, SPEC),
    (planted_grpo.clipped_from_below_too, "cispo", {}, {"value", "gradient"}, SPEC),
    (planted_grpo.population_std, "group_advantages", {}, {"value"}, SCALED),
    (planted_grpo.sum_for_mean, "group_advantages", {}, {"value"}, SCALED),
    (planted_grpo.median_for_mean, "group_advantages", {}, {"value"}, SCALED),
    (planted_grpo.variance_for_std, "group_advantages", {}, {"value"}, SCALED),
    (planted_grpo.eps_inside_the_root, "group_advantages", {}, {"options"}, SCALED),
    (planted_grpo.std_of_the_batch, "group_advantages", {}, {"value"}, SCALED),
    (planted_grpo.nan_in_a_group_of_one, "group_advantages", {}, {"options"}, {"repeatable", "permutation"}),
    (planted_grpo.baseline_with_itself, "group_advantages", {}, {"options"}, set()),
]  # fmt: skip


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("function", "contract", "options", "must", "may"), WRONG)
def test_rejects_a_wrong_function_by_the_right_properties(function, contract, options, must, may):
    report = check(function, contract, examples=40, options=options)
    failed = set(report.failed)
    assert must <= failed <= must | may
    for name in failed:
        assert report.finding(name).counterexample
        assert "Traceback" not in report.finding(name).text


# -- the oracles, where the answer is known by hand -------------------------------------------------------------------


def answer(name, tensors, **options):
    contract = CONTRACTS[name]
    return contract.oracle(Case(tensors, contract.defaults(options)), EXACT)


def tokens(ratios, advantages, ref_ratios=None):
    logps = torch.tensor(ratios).double().log()
    tensors = {"logps": logps, "old_logps": torch.zeros_like(logps), "advantages": torch.tensor(advantages).double()}
    tensors["mask"] = torch.tensor([[ratio < 8 for ratio in row] for row in ratios])
    if ref_ratios is not None:
        tensors["ref_logps"] = logps + torch.tensor(ref_ratios).double().log()
    return tensors


def test_the_oracle_of_grpo_by_hand():
    tensors = tokens([[2.0, 0.5], [0.5, 9.0]], [1.0, -1.0], [[2.0, 1.0], [1.0, 1.0]])
    got = answer("grpo", tensors, kl_coef=0.1)
    k3 = 1 - math.log(2)
    assert middle(got.values[0]) == pytest.approx(((-1.2 + 0.1 * k3 - 0.5) / 2 + 0.8) / 2)
    slopes = [middle(x) for x in got.gradients([1.0])["logps"]]
    assert slopes == pytest.approx([0.1 * (1 - 2) / 4, -0.5 / 4, 0, 0])


def test_the_oracle_of_gspo_by_hand():
    got = answer("gspo", tokens([[4.0, 0.25], [4.0, 9.0], [9.0, 9.0]], [2.0, -1.0, 5.0]))
    assert middle(got.values[0]) == pytest.approx((-2 * 1 + 4) / 3)
    slopes = [middle(x) for x in got.gradients([1.0])["logps"]]
    assert slopes == pytest.approx([-1 / 3, -1 / 3, 4 / 3, 0, 0, 0])


def test_the_oracle_of_cispo_by_hand():
    got = answer("cispo", tokens([[7.0, 0.5]], [2.0]))
    assert middle(got.values[0]) == pytest.approx(-(5 * 2 * math.log(7) + 0.5 * 2 * math.log(0.5)) / 2)
    assert [middle(x) for x in got.gradients([1.0])["logps"]] == pytest.approx([-5, -0.5])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"group_size": 2, "eps": 0.0}, [1 / math.sqrt(2), -1 / math.sqrt(2), 0, 0]),
        ({"group_size": 2, "eps": 0.5, "ddof": 0}, [0.5, -0.5, 0, 0]),
        ({"group_size": 4, "scale": "none"}, [0.75, -0.25, -0.25, -0.25]),
        ({"group_size": 4, "scale": "none", "baseline": "leave_one_out"}, [1, -1 / 3, -1 / 3, -1 / 3]),
        ({"group_size": 4, "scale": "none", "baseline": "none"}, [1, 0, 0, 0]),
        ({"group_size": 1}, [0, 0, 0, 0]),
    ],
)
def test_the_oracle_of_group_advantages_by_hand(options, expected):
    got = answer("group_advantages", {"rewards": torch.tensor([1.0, 0.0, 0.0, 0.0]).double()}, **options)
    assert [middle(x) for x in got.values] == pytest.approx(expected)

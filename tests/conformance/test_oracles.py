"""The oracles, where the result is known by hand."""

import math

import pytest
import torch

from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.drawing import drawn
from grape_verified.conformance.oracle import ANY_NUMBER, EXACT, Arithmetic
from grape_verified.conformance.regions import unusual
from grape_verified.conformance.strategies import Case, Regime

from .bounds import middle


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


def of_a_pair(name, chosen, rejected, lengths=(1.0, 1.0), **options):
    numbers = (chosen, rejected, 0.0, 0.0, *lengths)
    contract = CONTRACTS[name]
    tensors = {name: torch.tensor([x]).double() for name, x in zip(contract.tensors, numbers, strict=False)}
    return contract.oracle(Case(tensors, contract.defaults(options)), EXACT)


def test_the_oracle_of_robust_dpo_by_hand():
    got = of_a_pair("robust_dpo", math.log(3), 0.0, beta=1.0, flip_probability=0.25)
    assert middle(got.values[0]) == pytest.approx((0.75 * math.log(4 / 3) - 0.25 * math.log(4)) / 0.5)
    gradients = got.gradients([1.0])
    assert middle(gradients["chosen_logps"][0]) == pytest.approx(-0.25 - 0.5)
    assert middle(gradients["rejected_logps"][0]) == pytest.approx(0.25 + 0.5)


@pytest.mark.parametrize(("log_ratio", "h", "divisors"), [("sum", 4.0, (1, 1)), ("mean", 1.0, (2, 4))])
def test_the_oracle_of_ipo_by_hand(log_ratio, h, divisors):
    got = of_a_pair("ipo", 4.0, 4.0 * (log_ratio == "mean"), (2.0, 4.0), beta=0.25, log_ratio=log_ratio)
    assert middle(got.values[0]) == pytest.approx((h - 2) ** 2)
    gradients = got.gradients([1.0])
    assert middle(gradients["chosen_logps"][0]) == pytest.approx(2 * (h - 2) / divisors[0])
    assert middle(gradients["rejected_logps"][0]) == pytest.approx(-2 * (h - 2) / divisors[1])


def test_the_oracles_of_divergences_by_hand():
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


def test_the_oracle_of_reinforce_by_hand():
    tensors = {
        "logps": torch.tensor([[-1.0, -2.0], [-3.0, -9.0]]).double(),
        "advantages": torch.tensor([2.0, -1.0]).double(),
        "mask": torch.tensor([[True, True], [True, False]]),
    }
    contract = CONTRACTS["reinforce"]
    answer = contract.oracle(Case(tensors, contract.defaults({})), EXACT)
    assert middle(answer.values[0]) == (2 * 1 + 2 * 2 - 3) / 2
    assert [middle(x) for x in answer.gradients([1.0])["logps"]] == [-1, -1, 0.5, 0]


def test_the_oracle_of_a_head_by_hand():
    tensors = {
        "hidden": torch.tensor([[[1.0], [7.0]]]).double(),
        "weight": torch.tensor([[2 * math.log(3)], [0.0], [5.0]], dtype=torch.float64),
        "targets": torch.tensor([[1, 0]]),
        "bias": torch.tensor([0.0, 0.0, -math.inf]).double(),
        "temperature": torch.tensor([[2.0, math.nan]]).double(),
        "mask": torch.tensor([[True, False]]),
    }
    answer = CONTRACTS["linear_token_entropies"].oracle(Case(tensors, {"softcap": None}), EXACT)
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


# -- every contract at every value of every option --------------------------------------------------------------------


def targets_at(contract, held, regime):
    """Inputs at fixed options, each with the targets of its numbers and of its gradients."""
    space = contract.space(regime, (), contract.fit(contract.defaults(held), list(held)), contract.variants)
    for case in map(space.case, drawn(space.size, 6)):
        answer = contract.oracle(case, Arithmetic.of(torch.float64, torch.float64, strict=False))
        gradients = answer.gradients([1.0] * len(answer.values))
        yield case, [*answer.values, *(target for found in gradients.values() for target in found)]


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_what_is_compared_has_an_end(contract):
    """A target with no end accepts nothing, or is the one that lets the limits of the range decide."""
    values = [{name: value} for name, option in contract.options.items() for value in (option.default, *option.others)]
    for held in ({}, *values):
        for numbers in ("ordinary", "extreme"):
            for _, targets in targets_at(contract, held, Regime(vary_options=False, numbers=numbers)):
                ends = [target.ball.is_finite() for target in targets]
                endless = [target for target, end in zip(targets, ends, strict=True) if not end]
                accepting = [target for target in endless if any(target.accepts(x) for x in (0.0, 7.0, -7.0))]
                assert all(target.ball is ANY_NUMBER for target in accepting), held
                assert numbers == "extreme" or not accepting, held


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_no_value_of_an_option_leaves_nothing_to_compare(contract):
    """On an ordinary input every number is compared, and none of them accepts two numbers that are far apart."""
    values = [{name: value} for name, option in contract.options.items() for value in (option.default, *option.others)]
    for held in ({}, *values):
        every, alone = targets_at(contract, held, Regime(vary_options=False)), held == {"group_size": 1}
        judged = [targets for case, targets in every if targets and (alone or not any(unusual(case)))]
        assert judged, held
        assert not any(target.is_undefined for targets in judged for target in targets), held
        assert not any(target.accepts(7.0) and target.accepts(-7.0) for targets in judged for target in targets), held

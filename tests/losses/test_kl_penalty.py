"""The KL penalty in the reward, and its adaptive coefficient: by hand, masks, and errors."""

import math

import pytest
import torch

from grape_verified import adaptive_kl_coef, kl_shaped_rewards

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]])
TOKENS, ROW, ONES = torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3)


def ragged(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(4, generator=generator, dtype=dtype)
    return [rewards, *(-3 * torch.rand(4, 4, generator=generator, dtype=dtype) for _ in range(2))]


def test_by_hand():
    rewards, ref_logps = torch.tensor([10.0, 20.0]), torch.zeros(2, 3)
    logps, mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([[1, 0, 1], [1, 1, 0]])
    assert kl_shaped_rewards(rewards, logps, ref_logps, mask, kl_coef=0.5).tolist() == [[-0.5, 0, 8.5], [-2, 17.5, 0]]
    squared = kl_shaped_rewards(rewards, logps, ref_logps, mask, kl_coef=0.5, estimator="k2")
    assert squared.tolist() == [[-0.25, 0, 7.75], [-4, 13.75, 0]]
    third = kl_shaped_rewards(rewards, logps, ref_logps, mask, kl_coef=1.0, estimator="k3")
    assert third[0, 0].item() == pytest.approx(-math.exp(-1))


def test_without_a_coefficient_the_reward_stands_at_the_last_counted_token():
    rewards, logps, ref_logps = ragged()
    result = kl_shaped_rewards(rewards, logps, ref_logps, MASK, kl_coef=0)
    expected = torch.zeros(4, 4)
    for row, last in ((0, 2), (1, 3), (3, 2)):
        expected[row, last] = rewards[row]
    assert torch.equal(result, expected)


def test_summed_it_is_the_reward_less_the_log_ratio_of_the_sequence():
    rewards, logps, ref_logps = ragged(dtype=torch.float64)
    result = kl_shaped_rewards(rewards, logps, ref_logps, MASK, kl_coef=0.3)
    for row in range(4):
        counted = [t for t in range(4) if MASK[row, t]]
        ratio = sum((logps[row, t] - ref_logps[row, t]).item() for t in counted)
        expected = rewards[row].item() - 0.3 * ratio if counted else 0
        assert result[row].sum().item() == pytest.approx(expected)
    assert (result[MASK == 0] == 0).all()


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, LARGEST])
@pytest.mark.parametrize("position", [1, 2])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_masked_entries_reach_nothing(hidden, position, estimator):
    inputs = ragged()
    clean = kl_shaped_rewards(*inputs, MASK, kl_coef=0.1, estimator=estimator)
    inputs[position] = inputs[position].masked_fill(MASK == 0, hidden)
    inputs[0][2] = hidden  # the reward of a row without a counted token
    assert torch.equal(kl_shaped_rewards(*inputs, MASK, kl_coef=0.1, estimator=estimator), clean)


def test_nothing_is_differentiated_and_inputs_stay_as_they_were():
    inputs = [x.requires_grad_() for x in ragged()]
    before = [x.detach().clone() for x in inputs]
    result = kl_shaped_rewards(*inputs, MASK, kl_coef=0.1)
    assert not result.requires_grad
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, before, strict=True))
    strided = [torch.stack([x.detach(), x.detach()], dim=-1)[..., 0] for x in inputs]
    assert torch.equal(kl_shaped_rewards(*strided, MASK, kl_coef=0.1), result)


def test_documented_bound_between_precisions():
    generator = torch.Generator().manual_seed(0)
    rewards, logps, ref_logps = (torch.randn(shape, generator=generator) for shape in (100, (100, 9), (100, 9)))
    mask = torch.rand(100, 9, generator=generator) < 0.8
    result = kl_shaped_rewards(rewards, logps, ref_logps, mask, kl_coef=0.3)
    exact = kl_shaped_rewards(*(x.double() for x in (rewards, logps, ref_logps)), mask, kl_coef=0.3)
    penalty = 0.3 * (logps.double() - ref_logps.double()).abs()
    bound = 2.0**-24 * (penalty + 2 * (rewards.double().abs().unsqueeze(1) + penalty))
    assert ((result - exact).abs() <= bound).all()


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 1.0),
        (6.6, 1.01),
        (5.4, 0.99),
        (9.0, 1.02),
        (1e30, 1.02),
        (0.0, 0.98),
        (-5.0, 0.98),
    ],
)
def test_the_coefficient_by_hand(kl, expected):
    result = adaptive_kl_coef(3.0, kl, target=6.0, horizon=1000, steps=100)
    assert isinstance(result, float)
    assert result == pytest.approx(3 * expected, rel=1e-15)


def test_the_clip_of_one_update():
    assert adaptive_kl_coef(1, 2.0, target=1, horizon=10, steps=5, clip=0.5) == 1.25
    assert adaptive_kl_coef(1, 1.5, target=1, horizon=10, steps=5, clip=1.5) == 1.25


POSITIVE = "expected a finite number > 0"

BAD = [
    (
        lambda: kl_shaped_rewards(ROW, TOKENS, TOKENS, ONES, kl_coef=-0.1),
        ValueError,
        "kl_coef: got -0.1, expected a fin",
    ),
    (
        lambda: kl_shaped_rewards(ROW, TOKENS, TOKENS, ONES, kl_coef=None),
        TypeError,
        "kl_coef: got NoneType, expected a",
    ),
    (
        lambda: kl_shaped_rewards(1.0, TOKENS, TOKENS, ONES, kl_coef=1),
        TypeError,
        "rewards: got float, expected a tensor",
    ),
    (
        lambda: kl_shaped_rewards(TOKENS, TOKENS, TOKENS, ONES, kl_coef=1),
        ValueError,
        "rewards: got shape (2, 3), expected (2,), one for each sequence of logps",
    ),
    (
        lambda: kl_shaped_rewards(ROW.int(), TOKENS, TOKENS, ONES, kl_coef=1),
        TypeError,
        "rewards: got dtype torch.int32, exp",
    ),
    (
        lambda: kl_shaped_rewards(ROW, ROW, TOKENS, ONES, kl_coef=1),
        ValueError,
        "logps: got shape (2,), expected shape (batch",
    ),
    (
        lambda: kl_shaped_rewards(ROW, TOKENS, TOKENS[:1], ONES, kl_coef=1),
        ValueError,
        "ref_logps: got shape (1, 3), expected (2, 3), the shape of logps",
    ),
    (
        lambda: kl_shaped_rewards(ROW, TOKENS, TOKENS, ROW, kl_coef=1),
        ValueError,
        "mask: got shape (2,), expected (2, 3), the",
    ),
    (
        lambda: kl_shaped_rewards(ROW, TOKENS, TOKENS, ONES, kl_coef=1, estimator="k4"),
        ValueError,
        "estimator: got 'k4', expected one of 'k1', 'k2', 'k3'",
    ),
    (lambda: adaptive_kl_coef(0, 1, target=1, horizon=9, steps=1), ValueError, f"kl_coef: got 0, {POSITIVE}"),
    (
        lambda: adaptive_kl_coef(1, ROW, target=1, horizon=9, steps=1),
        TypeError,
        "kl: got Tensor, expected a finite num",
    ),
    (lambda: adaptive_kl_coef(1, math.nan, target=1, horizon=9, steps=1), ValueError, "kl: got nan, expected a finite"),
    (lambda: adaptive_kl_coef(1, 1, target=-1, horizon=9, steps=1), ValueError, f"target: got -1, {POSITIVE}"),
    (lambda: adaptive_kl_coef(1, 1, target=1, horizon=None, steps=1), TypeError, f"horizon: got NoneType, {POSITIVE}"),
    (lambda: adaptive_kl_coef(1, 1, target=1, horizon=9, steps=0), ValueError, f"steps: got 0, {POSITIVE}"),
    (lambda: adaptive_kl_coef(1, 1, target=1, horizon=9, steps=1, clip=0), ValueError, f"clip: got 0, {POSITIVE}"),
    (
        lambda: adaptive_kl_coef(1, 1, target=1, horizon=100, steps=200, clip=0.5),
        ValueError,
        "steps: got 200, expected less than horizon / clip, here 200.0",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)

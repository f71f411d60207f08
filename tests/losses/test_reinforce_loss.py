"""REINFORCE: the estimator on numbers worked out by hand and by enumeration, masks, and the edge of the floats."""

import math

import pytest
import torch

from grape_verified import aggregate, reinforce_loss, reinforce_per_token, token_logps
from grape_verified.numerics import value_limit

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])


def ragged(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logps, advantages = (torch.randn(3, 3, generator=generator, dtype=dtype) for _ in range(2))
    return logps.requires_grad_(), advantages


@pytest.mark.parametrize(
    ("options", "loss", "weights"),
    [
        ({}, 0.5 * 2 + 3 * 2 - 4 * 1, [[1, 1, 0], [1, 0, 1], [0, 0, 0]]),
        (
            {"aggregation": "sequence_sum", "denominator": 6},
            (1 + 6 - 4) / 2,
            [[1 / 2, 1 / 2, 0], [1 / 2, 0, 1 / 2], [0] * 3],
        ),
        ({"aggregation": "token_mean"}, 3 * (1 + 6 - 4) / 4, [[3 / 4, 3 / 4, 0], [3 / 4, 0, 3 / 4], [0, 0, 0]]),
        ({"aggregation": "sequence_mean"}, (1 + 6 - 4) / 2, [[1 / 2, 1 / 2, 0], [1 / 2, 0, 1 / 2], [0, 0, 0]]),
        ({"aggregation": "token_sum"}, 3 * (1 + 6 - 4), [[3, 3, 0], [3, 0, 3], [0, 0, 0]]),
        (
            {"aggregation": "fixed_length", "max_length": 10},
            (1 + 6 - 4) / 10,
            [[0.1, 0.1, 0], [0.1, 0, 0.1], [0, 0, 0]],
        ),
    ],
)
def test_by_hand(options, loss, weights):
    logps = torch.tensor([[-0.5, -3.0, -9.0], [-4.0, -9.0, 0.0], [-9.0, -9.0, -9.0]], dtype=torch.float64)
    logps.requires_grad_()
    advantages = torch.tensor([2.0, -1.0, 5.0])
    output = reinforce_loss(logps, advantages, MASK, **options)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(loss / 3)
    expected = -torch.tensor(weights, dtype=torch.float64) * advantages[:, None] / 3
    torch.testing.assert_close(logps.grad, expected)
    assert output.per_token.tolist() == [[1, 6, 0], [-4, 0, 0], [0, 0, 0]]


def test_the_expected_gradient_is_minus_the_policy_gradient():
    logits = torch.tensor([0.3, -1.2, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    logps = token_logps(logits.expand(4, -1), torch.arange(4)).unsqueeze(1)
    weights = logps.detach().exp()
    total = sum(map(math.exp, logits.tolist()))
    p = [math.exp(z) / total for z in logits.tolist()]
    objective = sum(a * r for a, r in zip(p, rewards.tolist(), strict=True))
    expected = [a * (r - objective) for a, r in zip(p, rewards.tolist(), strict=True)]
    for baseline in (0.0, 0.7):
        terms = weights * reinforce_per_token(logps, rewards - baseline)
        (gradient,) = torch.autograd.grad(terms.sum(), logits, retain_graph=True)
        assert gradient.tolist() == pytest.approx([-x for x in expected], abs=1e-12)


def test_an_advantage_for_each_sequence_is_that_of_each_of_its_tokens():
    logps, _ = ragged()
    per_sequence = torch.tensor([1.0, -2.0, 0.5])
    per_token = per_sequence.unsqueeze(1).expand(3, 3)
    assert torch.equal(reinforce_per_token(logps, per_sequence), reinforce_per_token(logps, per_token))


def test_an_impossible_token_has_a_finite_loss_and_none_without_an_advantage():
    logps = torch.tensor([[-math.inf, -math.inf]], requires_grad=True)
    loss = reinforce_per_token(logps, torch.tensor([[2.0, 0.0]]))
    assert loss.tolist() == [[2 * value_limit(torch.float32), 0]]
    assert torch.autograd.grad(loss.sum(), logps)[0].tolist() == [[-2, 0]]


@pytest.mark.parametrize("logp", [-200.0, -1e30, -LARGEST, LARGEST, -math.inf])
@pytest.mark.parametrize("advantage", [3.0, -3.0, 0.0])
def test_gradients_are_finite_for_every_log_probability(logp, advantage):
    logps = torch.full((2, 3), logp, requires_grad=True)
    output = reinforce_loss(logps, torch.full((2,), advantage), torch.ones(2, 3), aggregation="token_sum")
    output.loss.backward()
    assert output.per_token.isfinite().all()
    assert output.loss.isfinite()
    assert torch.equal(logps.grad, torch.full((2, 3), -advantage))
    assert all(metric.isfinite() for metric in output.metrics.values())


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, LARGEST])
@pytest.mark.parametrize("position", ["logps", "advantages"])
def test_masked_entries_reach_nothing(hidden, position):
    results = []
    for value in (0.0, hidden):
        inputs = dict(zip(("logps", "advantages"), (x.detach().clone() for x in ragged()), strict=True))
        inputs[position] = inputs[position].masked_fill(MASK == 0, value)
        inputs["logps"].requires_grad_()
        output = reinforce_loss(**inputs, mask=MASK)
        output.loss.backward()
        results.append((output, inputs["logps"].grad))
    (clean, clean_gradient), (dirty, dirty_gradient) = results
    assert torch.equal(clean.loss, dirty.loss)
    assert torch.equal(clean.per_token, dirty.per_token)
    assert torch.equal(clean_gradient, dirty_gradient)
    assert clean.metrics == dirty.metrics
    assert (clean.per_token[MASK == 0] == 0).all()
    assert (clean_gradient[MASK == 0] == 0).all()


def test_a_row_advantage_of_nan_behind_the_mask():
    logps, _ = ragged()
    output = reinforce_loss(logps, torch.tensor([1.0, 1.0, math.nan]), MASK)
    output.loss.backward()
    assert output.loss.isfinite()
    assert logps.grad.isfinite().all()


def test_metrics_by_hand():
    logps = torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -9.0, -6.0], [-9.0, -9.0, -9.0]], requires_grad=True)
    metrics = reinforce_loss(logps, torch.tensor([2.0, -1.0, 5.0]), MASK).metrics
    assert {name: metric.item() for name, metric in metrics.items()} == {"logp_mean": -3, "advantage_mean": 0.5}
    assert all(metric.shape == () and not metric.requires_grad for metric in metrics.values())


def test_metrics_are_finite_for_the_largest_advantages():
    metrics = reinforce_loss(torch.full((2, 3), -1.0), torch.full((2, 3), LARGEST), torch.ones(2, 3)).metrics
    assert all(metric.isfinite() for metric in metrics.values())


def test_the_loss_is_the_mean_over_sequences_of_their_sums():
    output = reinforce_loss(*ragged(), MASK)
    assert torch.equal(output.loss, aggregate(output.per_token, MASK, "sequence_sum"))


def test_micro_batches_with_the_global_denominator_add_up():
    logps, advantages = ragged(dtype=torch.float64)
    parts = [
        reinforce_loss(logps[rows], advantages[rows], MASK[rows], denominator=3).loss
        for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), reinforce_loss(logps, advantages, MASK).loss)


def test_documented_bound_between_precisions():
    generator = torch.Generator().manual_seed(0)
    logps = (-20 * torch.rand(100, 100, generator=generator)).requires_grad_()
    advantages = torch.randn(100, 100, generator=generator)
    result = reinforce_per_token(logps, advantages)
    exact = reinforce_per_token(logps.detach().double(), advantages.double())
    assert ((result - exact).abs() <= 2.0**-24 * exact.abs()).all()
    assert torch.equal(torch.autograd.grad(result.sum(), logps)[0], -advantages)

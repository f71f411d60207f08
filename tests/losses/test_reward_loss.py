"""The Bradley-Terry loss: values and slopes worked out by hand, inputs at the edge of the floats, and errors."""

import math

import pytest
import torch

from grape_verified import bradley_terry_loss, bradley_terry_per_pair

LARGEST = torch.finfo(torch.float32).max
ROW = torch.zeros(2)


def pairs(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(5, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize(
    ("chosen", "rejected", "loss", "slope"),
    [
        (2.0, 2.0, math.log(2), -1 / 2),
        (math.log(3), 0.0, math.log(4 / 3), -1 / 4),
        (1.0, 1 + math.log(3), math.log(4), -3 / 4),
        (500.0, 0.0, 0, 0),
        (0.0, 500.0, 500, -1),
    ],
)
def test_by_hand(chosen, rejected, loss, slope):
    rewards = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (chosen, rejected)]
    result = bradley_terry_per_pair(*rewards)
    result.sum().backward()
    assert result.item() == pytest.approx(loss, abs=1e-12)
    assert [x.grad.item() for x in rewards] == pytest.approx([slope, -slope], abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [200.0, 1e30, LARGEST, math.inf])
def test_gradients_are_finite_for_every_difference(sign, size):
    chosen, rejected = (torch.tensor([s * sign * size], requires_grad=True) for s in (1, -1))
    output = bradley_terry_loss(chosen, rejected)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(metric.isfinite() for metric in output.metrics.values())
    assert chosen.grad.item() == (0 if sign > 0 else -1)
    assert rejected.grad.item() == (0 if sign > 0 else 1)


def test_loss_and_metrics_by_hand():
    chosen, rejected = torch.tensor([0.5, 0.0, 0.0, 3.0]), torch.tensor([0.0, 4.0, 0.0, 0.0])
    chosen.requires_grad_()
    output = bradley_terry_loss(chosen, rejected)
    assert {name: metric.item() for name, metric in output.metrics.items()} == pytest.approx(
        {"accuracy": 2 / 4, "margin": -1 / 8}
    )
    assert all(metric.shape == () and not metric.requires_grad for metric in output.metrics.values())
    expected = [math.log1p(math.exp(-0.5)), math.log1p(math.exp(4)), math.log(2), math.log1p(math.exp(-3))]
    assert output.per_pair.tolist() == pytest.approx(expected)
    assert output.loss.item() == pytest.approx(sum(expected) / 4)


def test_micro_batches_with_the_global_denominator_add_up():
    inputs = pairs(dtype=torch.float64)
    parts = [bradley_terry_loss(*(x[rows] for x in inputs), denominator=5).loss for rows in (slice(0, 1), slice(1, 5))]
    torch.testing.assert_close(sum(parts), bradley_terry_loss(*inputs).loss)
    half = bradley_terry_loss(*inputs, denominator=torch.tensor(10)).loss
    torch.testing.assert_close(half, bradley_terry_loss(*inputs).loss / 2)


@pytest.mark.parametrize("size", [0.1, 10.0, 1000.0])
def test_documented_bound_between_precisions(size):
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = (size * torch.randn(10000, generator=generator) for _ in range(2))
    difference = chosen.double() - rejected.double()
    exact = (-difference).clamp(min=0) + (-difference.abs()).exp().log1p()
    bound = 4 * 2.0**-24 * (difference.abs() + 1)
    assert ((bradley_terry_per_pair(chosen, rejected) - exact).abs() <= bound).all()


BAD = [
    (lambda: bradley_terry_loss(0.0, ROW), TypeError, "chosen_rewards: got float, expected a tensor"),
    (
        lambda: bradley_terry_loss(ROW.view(1, 2), ROW),
        ValueError,
        "chosen_rewards: got shape (1, 2), expected shape (bat",
    ),
    (
        lambda: bradley_terry_per_pair(ROW, ROW.int()),
        TypeError,
        "rejected_rewards: got dtype torch.int32, expected a fl",
    ),
    (
        lambda: bradley_terry_per_pair(ROW, ROW[:1]),
        ValueError,
        "rejected_rewards: got shape (1,), expected (2,), the shape of chosen_rewards",
    ),
    (
        lambda: bradley_terry_loss(ROW, ROW, denominator=0),
        ValueError,
        "denominator: got 0, expected None, a finite numb",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)

"""SAPO: numbers worked out by hand, and inputs at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import sapo_loss, sapo_per_token

LARGEST = torch.finfo(torch.float32).max
LOG_3 = math.log(3)


def at_ratio(ratio, advantage, **options):
    """Loss of one token at a given ratio, and its slope in logp, in fp64."""
    logps = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    loss = sapo_per_token(logps, torch.zeros_like(logps), torch.tensor([[advantage]]), **options)
    (slope,) = torch.autograd.grad(loss.sum(), logps)
    return loss.item(), slope.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "options", "loss", "slope"),
    [
        (1.0, 2.0, {}, -4.0, -2.0),  # −2A/τ and −A
        (1.0, -2.1, {}, 4.0, 2.1),
        (1.0, -2.0, {"temperature_neg": 4.0}, 1.0, 2.0),
        (1.0, 2.0, {"temperature_neg": 4.0}, -4.0, -2.0),  # which a positive advantage does not read
        # σ(log 3) = 3/4 and σ(−log 3) = 1/4: the weight is 3/4 on both sides.
        (1 + LOG_3, 2.0, {}, -6.0, -1.5 * (1 + LOG_3)),
        (1 + LOG_3 / 2, 2.0, {"temperature_pos": 2.0}, -3.0, -1.5 * (1 + LOG_3 / 2)),
        (1 - LOG_3 / 2, -2.0, {"temperature_neg": 2.0}, 1.0, 1.5 * (1 - LOG_3 / 2)),
        (5.0, 0.0, {}, 0.0, 0.0),
    ],
)
def test_by_hand(ratio, advantage, options, loss, slope):
    assert at_ratio(ratio, advantage, **options) == pytest.approx((loss, slope))


def test_opposite_advantages_do_not_cancel_but_their_slopes_do():
    logps = torch.zeros(2, 1, requires_grad=True)
    output = sapo_loss(logps, torch.zeros(2, 1), torch.tensor([1.0, -1.0]), torch.ones(2, 1), temperature_neg=2.0)
    output.loss.backward()
    assert output.loss.item() == -0.5  # the mean of −2 and 1
    assert logps.grad.tolist() == [[-0.5], [0.5]]


def test_it_is_the_mean_over_sequences_of_means_over_tokens_and_says_how_much_it_damps():
    ratios = torch.tensor([[1.0, 1.0 + LOG_3], [1.0, 9.0]], dtype=torch.float64)
    output = sapo_loss(ratios.log(), torch.zeros(2, 2), torch.tensor([2.0, 2.0]), torch.tensor([[1, 1], [1, 0]]))
    assert output.loss.item() == pytest.approx(((-4 - 6) / 2 - 4) / 2)
    assert output.metrics["damping"].item() == pytest.approx(0.25 / 3)
    assert output.metrics["ratio_mean"].item() == pytest.approx(1 + LOG_3 / 3)


def test_the_slope_keeps_its_digits_where_the_sigmoid_rounds_to_1():
    """4·σ·(1 − σ)·ρ is 4ρ·exp(−x) up to a factor (1 + exp(−x))²."""
    ratio = torch.tensor([[31.0]])
    logps = ratio.log().requires_grad_()
    sapo_per_token(logps, torch.zeros(1, 1), torch.ones(1, 1)).sum().backward()
    x = math.exp(logps.item()) - 1
    assert logps.grad.item() == pytest.approx(-4 * (x + 1) * math.exp(-x), rel=1e-4)


@pytest.mark.parametrize("log_ratio", [200.0, 70.0, -70.0, -200.0, 1e30, LARGEST, -LARGEST])
@pytest.mark.parametrize("advantage", [3.0, -3.0, 0.0])
@pytest.mark.parametrize("tau", [1e-6, 1.0, 1e6])
def test_gradients_are_finite_for_every_log_ratio(log_ratio, advantage, tau):
    logps = torch.full((2, 3), log_ratio, requires_grad=True)
    options = {"temperature_pos": tau, "temperature_neg": tau}
    output = sapo_loss(logps, torch.zeros(2, 3), torch.full((2,), advantage), torch.ones(2, 3), **options)
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_token, logps.grad, *output.metrics.values()))
    if log_ratio > 0:  # σ is 1, and its slope underflows to the limit, 0
        torch.testing.assert_close(output.loss.item(), -4 * advantage / tau)
        assert not logps.grad.any()


@pytest.mark.parametrize("option", ["temperature_pos", "temperature_neg"])
@pytest.mark.parametrize("value", [0.0, -1.0, 1e-7, 1e7])
def test_a_temperature_beyond_the_range_is_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}: got {value}, expected a number in \\[1e-6, 1e6\\]"):
        sapo_per_token(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1), **{option: value})

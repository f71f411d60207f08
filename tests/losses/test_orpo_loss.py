"""ORPO: numbers worked out by hand, and responses that are nearly certain."""

import math

import pytest
import torch

from grape_verified import orpo_loss, orpo_per_pair

LARGEST = torch.finfo(torch.float32).max


def of_chances(chosen, rejected, dtype=torch.float64, **options):
    """Loss of one pair of single tokens with these probabilities, and its slopes in both log-probabilities."""
    logps = [torch.tensor([math.log(p)], dtype=dtype, requires_grad=True) for p in (chosen, rejected)]
    one = torch.ones(1)
    loss = orpo_per_pair(*logps, one, one, **options)
    return loss.item(), *(slope.item() for slope in torch.autograd.grad(loss.sum(), logps))


@pytest.mark.parametrize(
    ("chosen", "rejected", "weight", "loss", "slopes"),
    [
        (0.5, 0.5, 1.0, 2 * math.log(2), (-1 - 1, 1)),  # σ = 1/2, and 1 − P = 1/2 on both sides
        (0.75, 0.5, 1.0, math.log(4 / 3) + math.log(4 / 3), (-1 - 1, 0.5)),  # odds 3 and 1: σ(−log 3) = 1/4
        (0.5, 0.75, 0.2, math.log(2) + 0.2 * math.log(4), (-1 - 0.2 * 1.5, 0.2 * 3)),
        (0.75, 0.25, 0.1, math.log(4 / 3) + 0.1 * math.log(10 / 9), (-1 - 0.04, 0.1 / 7.5)),  # odds 3 and 1/3
    ],
)
def test_by_hand(chosen, rejected, weight, loss, slopes):
    assert of_chances(chosen, rejected, odds_weight=weight) == pytest.approx((loss, *slopes))


def test_probabilities_are_geometric_means_over_tokens():
    sums = torch.tensor([2 * math.log(0.75)], requires_grad=True), torch.tensor([3 * math.log(0.5)], requires_grad=True)
    output = orpo_loss(*sums, torch.tensor([2]), torch.tensor([3]), odds_weight=1.0)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(2 * math.log(4 / 3))
    assert [x.grad.item() for x in sums] == pytest.approx([-2 / 2, 0.5 / 3])
    assert {name: x.item() for name, x in output.metrics.items()} == pytest.approx(
        {"accuracy": 1, "log_odds_ratio": math.log(3), "likelihood": math.log(4 / 3)}
    )


def test_the_slope_of_a_response_that_is_nearly_certain_is_the_odds_of_the_other():
    """σ(−Δo)/(1 − P_w) tends to the odds of the rejected response, here 1/3, as P_w tends to 1."""
    for distance in (1e-8, 1e-20, 1e-29):
        logps = torch.tensor([-distance], requires_grad=True), torch.tensor([math.log(0.25)], requires_grad=True)
        orpo_per_pair(*logps, torch.ones(1), torch.ones(1), odds_weight=3.0).sum().backward()
        assert logps[0].grad.item() == pytest.approx(-1 - 3 / 3)
        assert logps[1].grad.item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("other", [-1.0, -1e-30, 0.0, -1e30])
@pytest.mark.parametrize("logp", [0.0, -0.0, -1e-45, -1e-38, -1e-30, -1e-8, -80.0, -1e30, -LARGEST, -math.inf])
def test_everything_is_finite_at_every_probability(logp, other):
    chosen, rejected = torch.tensor([logp, other], requires_grad=True), torch.tensor([other, logp], requires_grad=True)
    output = orpo_loss(chosen, rejected, torch.tensor([1, 7]), torch.tensor([3, 1]))
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_pair, chosen.grad, rejected.grad))
    assert all(value.isfinite() for value in output.metrics.values())
    assert (chosen.grad < 0).all()
    assert (rejected.grad >= 0).all()


def test_a_tie_is_not_ranked_as_labelled():
    logps = torch.tensor([-3.0])
    metrics = orpo_loss(logps, 2 * logps, torch.tensor([4]), torch.tensor([8])).metrics
    assert metrics["accuracy"].item() == metrics["log_odds_ratio"].item() == 0
    close = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.4)])
    assert orpo_loss(*close, torch.ones(1), torch.ones(1)).metrics["accuracy"].item() == 1


def test_micro_batches_with_the_global_denominator_add_up():
    pairs = [
        torch.tensor(x, dtype=torch.float64) for x in ([-3.0, -9.0, -4.0], [-4.0, -5.0, -4.0], [1, 2, 3], [3, 1, 9])
    ]
    parts = [orpo_loss(*(x[rows] for x in pairs), denominator=3).loss for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(parts), orpo_loss(*pairs).loss)

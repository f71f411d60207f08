"""Pointwise losses: numbers worked out by hand, and what the claims say, seen in the kernels."""

import math

import pytest
import torch

from grape_verified import dpo_per_pair, ipo_loss, kto_loss, kto_per_sequence, pointwise_loss, pointwise_per_pair

LARGEST = torch.finfo(torch.float32).max
KINDS = ("bco", "nca", "apo_zero", "apo_down", "sppo")
LOG2, LOG3 = math.log(2), math.log(3)


def of_rewards(chosen, rejected, beta=1.0, dtype=torch.float64, **options):
    """Loss of one pair with these rewards, and its slopes in both of them."""
    logps = [torch.tensor([r / beta], dtype=dtype, requires_grad=True) for r in (chosen, rejected)]
    loss = pointwise_per_pair(*logps, *torch.zeros(2, 1, dtype=dtype), beta=beta, **options)
    return loss.item(), *(slope.item() / beta for slope in torch.autograd.grad(loss.sum(), logps))


def of_response(log_ratio, desirable, dtype=torch.float64, **options):
    """Loss of one response with this log-ratio, and its slope."""
    logps = torch.tensor([log_ratio], dtype=dtype, requires_grad=True)
    loss = kto_per_sequence(logps, torch.zeros(1, dtype=dtype), torch.tensor([desirable]), **options)
    return loss.item(), *(slope.item() for slope in torch.autograd.grad(loss.sum(), [logps]))


@pytest.mark.parametrize(
    ("kind", "shift", "rewards", "loss", "slopes"),
    [
        ("bco", 0.0, (0.0, 0.0), 2 * LOG2, (-1 / 2, 1 / 2)),
        ("bco", 0.0, (LOG3, -LOG3), 2 * math.log(4 / 3), (-1 / 4, 1 / 4)),  # σ(log 3) = 3/4 on both sides
        ("bco", LOG3, (LOG3, 0.0), LOG2 + math.log(4 / 3), (-1 / 2, 1 / 4)),
        ("nca", 0.0, (0.0, 0.0), 2 * LOG2, (-1 / 4, 1 / 4)),
        ("nca", 0.0, (LOG2, 0.0), math.log(3 / 2) + LOG3 / 2 + LOG2 / 2, (0.0, 1 / 4)),  # the optimum, σ = 2/3
        ("nca", 0.0, (LOG3, LOG3), math.log(4 / 3) + 2 * LOG2, (1 / 8, 3 / 8)),
        ("apo_zero", 0.0, (0.0, 0.0), 1.0, (-1 / 4, 1 / 4)),
        ("apo_zero", 0.0, (LOG3, LOG3), 1.0, (-3 / 16, 3 / 16)),
        ("apo_down", 0.0, (0.0, 0.0), 1.0, (0.0, 1 / 4)),  # at the reference only the rejected one moves
        ("apo_down", 0.0, (0.0, -LOG3), 3 / 4, (1 / 16, 3 / 16)),  # above half of r_l: lowered
        ("apo_down", 0.0, (-LOG3, -LOG3), 3 / 4, (-1 / 16, 1 / 4)),  # below half of r_l: raised
        ("apo_down", 0.0, (-LOG3, -2 * LOG3), 1 / 2, (0.0, 3 / 16)),  # at half of r_l
        ("sppo", 0.0, (0.0, 0.0), 1 / 2, (-1.0, 1.0)),
        ("sppo", 0.0, (0.5, -0.5), 0.0, (0.0, 0.0)),
        ("sppo", 0.0, (2.0, 1.0), 4.5, (3.0, 3.0)),
    ],
)
def test_pairs_by_hand(kind, shift, rewards, loss, slopes):
    found = of_rewards(*rewards, kind=kind, reward_shift=shift)
    assert found == pytest.approx((loss, *slopes), abs=1e-15)


@pytest.mark.parametrize(
    ("log_ratio", "desirable", "options", "loss", "slope"),
    [
        (0.0, True, {"anchor": 0.0}, 1 / 2, -0.1 / 4),
        (3.0, True, {"anchor": 3.0, "desirable_weight": 2.0}, 1.0, -0.2 / 4),  # full weight at the anchor, not at 0
        (3.0, False, {"anchor": 3.0, "undesirable_weight": 3.0}, 3 / 2, 0.3 / 4),
        (1 + LOG3, True, {"anchor": 1.0, "beta": 1.0}, 1 / 4, -3 / 16),
        (1 + LOG3, False, {"anchor": 1.0, "beta": 1.0}, 3 / 4, 3 / 16),
        (1 - LOG3, True, {"anchor": 1.0, "beta": 1.0}, 3 / 4, -3 / 16),  # as far below as above: the same weight
        (1 + LOG3 / 2, True, {"anchor": torch.tensor(1.0), "beta": 2.0}, 1 / 4, -3 / 8),
    ],
)
def test_kto_by_hand(log_ratio, desirable, options, loss, slope):
    assert of_response(log_ratio, desirable, **options) == pytest.approx((loss, slope))


def test_the_anchor_is_a_constant():
    logps = torch.tensor([1.0, 2.0], requires_grad=True)
    anchor = logps.mean()
    kto_loss(logps, torch.zeros(2), torch.ones(2), anchor=anchor).loss.backward()
    fixed = torch.tensor([1.0, 2.0], requires_grad=True)
    kto_loss(fixed, torch.zeros(2), torch.ones(2), anchor=1.5).loss.backward()
    assert torch.equal(logps.grad, fixed.grad)


def test_kto_outputs_means_and_metrics():
    logps = torch.tensor([1.0, 1.0, 10.0, -20.0])  # the first two are at the anchor
    output = kto_loss(logps, torch.zeros(4), torch.tensor([1, 0, 0, 0]), anchor=1.0, beta=0.5)
    assert output.loss.item() == pytest.approx(output.per_sequence.sum().item() / 4)
    assert {name: x.item() for name, x in output.metrics.items()} == pytest.approx(
        {"accuracy": 1 / 4, "reward": -1.0, "desirable": 1 / 4}
    )
    assert output.loss.item() * 2 == pytest.approx(
        kto_loss(logps, torch.zeros(4), torch.tensor([1, 0, 0, 0]), anchor=1.0, beta=0.5, denominator=2).loss.item()
    )


def test_apo_zero_is_kto_at_the_anchor_0_summed_over_the_pair():
    w, l, zero = torch.tensor([3.0]), torch.tensor([-7.0]), torch.zeros(1)
    pair = pointwise_per_pair(w, l, zero, zero, kind="apo_zero", beta=0.3)
    both = kto_per_sequence(torch.cat([w, l]), torch.zeros(2), torch.tensor([True, False]), anchor=0.0, beta=0.3)
    torch.testing.assert_close(pair, both.sum(0, keepdim=True))


@pytest.mark.parametrize("shift", [-5.0, 0.0, 0.4, 5.0])
def test_bco_is_above_dpo_and_least_halfway(shift):
    w, l, zero = torch.tensor([2.0]), torch.tensor([-1.0]), torch.zeros(1)
    bco = pointwise_per_pair(w, l, zero, zero, kind="bco", beta=1.0, reward_shift=shift)
    halfway = pointwise_per_pair(w, l, zero, zero, kind="bco", beta=1.0, reward_shift=0.5)
    assert dpo_per_pair(w, l, zero, zero, beta=1.0) < halfway < bco
    torch.testing.assert_close(halfway, 2 * dpo_per_pair(w, l, zero, zero, beta=0.5))


def test_sppo_is_half_of_ipo_at_half_the_strength_and_half_of_the_squared_sum():
    w, l, zero = torch.tensor([2.0]), torch.tensor([-1.5]), torch.zeros(1)
    sppo = pointwise_loss(w, l, zero, zero, kind="sppo", beta=0.2).loss
    torch.testing.assert_close(sppo, ipo_loss(w, l, zero, zero, beta=0.1).loss / 2 + (2.0 - 1.5) ** 2 / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_added_to_both_rewards_changes_the_loss(kind):
    assert of_rewards(1.5, 0.5, kind=kind)[0] != pytest.approx(of_rewards(2.5, 1.5, kind=kind)[0], rel=1e-3)


@pytest.mark.parametrize("other", [0.0, 1e30, -LARGEST, LARGEST])
@pytest.mark.parametrize("log_ratio", [0.0, 1e-45, 20.0, -20.0, 110.0, -110.0, 1e30, LARGEST, -LARGEST, -math.inf])
@pytest.mark.parametrize("beta", [5.0, 1e30])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_finite_at_every_log_ratio_that_a_float_can_hold(kind, beta, log_ratio, other):
    chosen, rejected = torch.tensor([log_ratio, other], requires_grad=True), torch.tensor([other, log_ratio])
    rejected.requires_grad_()
    output = pointwise_loss(chosen, rejected, torch.zeros(2), torch.zeros(2), kind=kind, beta=beta)
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_pair, chosen.grad, rejected.grad))
    assert all(value.isfinite() for value in output.metrics.values())


@pytest.mark.parametrize("beta", [5.0, 1e30])
@pytest.mark.parametrize("anchor", [0.0, 1.0, 1e30])
@pytest.mark.parametrize("log_ratio", [0.0, 110.0, -110.0, 1e30, LARGEST, -LARGEST, -math.inf])
def test_kto_is_finite_at_every_log_ratio_that_a_float_can_hold(log_ratio, anchor, beta):
    logps = torch.tensor([log_ratio, log_ratio], requires_grad=True)
    output = kto_loss(logps, torch.zeros(2), torch.tensor([True, False]), anchor=anchor, beta=beta)
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_sequence, logps.grad))
    assert all(value.isfinite() for value in output.metrics.values())


@pytest.mark.parametrize("distance", [30.0, 60.0, 80.0])
def test_slopes_keep_their_digits_where_the_sigmoid_rounds_to_1(distance):
    """The slope of a desirable response far below the anchor is λβe^(−β|Δ − z₀|), and not 0."""
    loss, slope = of_response(-distance, True, dtype=torch.float32, anchor=0.0, beta=1.0)
    assert loss == 1.0
    assert slope == pytest.approx(-math.exp(-distance), rel=1e-4, abs=0)


def test_micro_batches_with_the_global_denominator_add_up():
    rows = [torch.tensor(x, dtype=torch.float64) for x in ([-3.0, -9.0, -4.0], [-4.0, -5.0, -4.0], [1.0, 0.0, 1.0])]
    parts = [kto_loss(*(x[some] for x in rows), anchor=0.7, denominator=3).loss for some in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(parts), kto_loss(*rows, anchor=0.7).loss)

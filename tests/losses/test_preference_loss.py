"""Functions of a margin and SimPO: numbers worked out by hand, kinks, and inputs at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import dpo_loss, dpo_per_pair, ipo_loss, preference_loss, preference_per_pair, simpo_loss

LARGEST = torch.finfo(torch.float32).max
LOG_3 = math.log(3)
KINDS = {
    "sigmoid": {},
    "hinge": {},
    "ipo": {},
    "exponential": {},
    "exo": {"label_smoothing": 0.25},
}


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def at_margin(margin, kind, beta=1.0, **options):
    """Loss of one pair at a given margin, and its slope in the chosen log-probability, in fp64."""
    chosen = column(margin / beta).requires_grad_()
    zero = torch.zeros_like(chosen)
    loss = preference_per_pair(chosen, zero, zero, zero, kind=kind, beta=beta, **options)
    return loss.item(), torch.autograd.grad(loss.sum(), chosen)[0].item()


@pytest.mark.parametrize(
    ("kind", "margin", "options", "loss", "slope"),
    [
        ("sigmoid", LOG_3, {}, math.log(4 / 3), -1 / 4),
        ("sigmoid", LOG_3, {"label_smoothing": 0.25}, math.log(4) - 0.75 * LOG_3, 0),
        ("hinge", 0.25, {}, 0.75, -1),
        ("hinge", -40.0, {}, 41, -1),
        ("hinge", 1.0, {}, 0, 0),  # the kink
        ("hinge", 3.0, {}, 0, 0),
        ("hinge", 3.0, {"target_margin": 2.5}, 0.5, -1),
        ("hinge", 0.25, {"beta": 0.5}, 0.75, -0.5),
        ("ipo", 0.3, {"beta": 0.1}, 4, -4),  # the log-ratio is 3, and its target 5
        ("ipo", 0.3, {"beta": 0.1, "target_margin": -0.2}, 0, 0),
        ("exponential", math.log(2), {}, 0.5, -0.5),
        ("exponential", -math.log(2), {"target_margin": math.log(2)}, 4, -4),
        ("exo", 0.0, {"label_smoothing": 0.25}, 0.5 * math.log(4 / 3), -LOG_3 / 4),
        ("exo", LOG_3, {"label_smoothing": 0.25}, 0, 0),
        ("exo", -LOG_3, {"label_smoothing": 0.25}, LOG_3 / 2, -2 * LOG_3 * 3 / 16),
        ("exo", 800.0, {"label_smoothing": 0.25}, math.log(4 / 3), 0),
        ("exo", -800.0, {"label_smoothing": 0.25}, math.log(4), 0),
    ],
)
def test_by_hand(kind, margin, options, loss, slope):
    assert at_margin(margin, kind, **options) == pytest.approx((loss, slope), abs=1e-12)


def test_sigmoid_and_ipo_are_dpo_and_ipo():
    pairs = [column(*numbers) for numbers in ((-3.0, -9.0), (-4.0, -5.0), (-2.0, -7.0), (-6.0, -6.0))]
    for smoothing in (0.0, 0.1):
        same = preference_loss(*pairs, kind="sigmoid", beta=0.3, label_smoothing=smoothing)
        expected = dpo_loss(*pairs, beta=0.3, label_smoothing=smoothing)
        torch.testing.assert_close(same.per_pair, expected.per_pair)
        assert same.metrics == expected.metrics
    lengths = {"log_ratio": "mean", "chosen_lengths": column(2, 4), "rejected_lengths": column(3, 5)}
    same, expected = preference_loss(*pairs, kind="ipo", **lengths), ipo_loss(*pairs, **lengths)
    torch.testing.assert_close(same.per_pair, expected.per_pair)
    assert same.metrics == expected.metrics


def test_without_a_reference_it_is_the_reference_of_zeros():
    chosen, rejected, zero = column(-3.0), column(-5.0), column(0.0)
    for kind, options in KINDS.items():
        free = preference_per_pair(chosen, rejected, kind=kind, **options)
        torch.testing.assert_close(free, preference_per_pair(chosen, rejected, zero, zero, kind=kind, **options))


def test_r_dpo_is_a_reference_that_loses_a_little_with_every_token():
    chosen, rejected, ref_chosen, ref_rejected = (column(x) for x in (-30.0, -12.0, -33.0, -11.0))
    longer, shorter, alpha, beta = 30, 10, 0.02, 0.1
    loss = preference_per_pair(
        chosen, rejected, ref_chosen - alpha / beta * longer, ref_rejected - alpha / beta * shorter, kind="sigmoid"
    )
    margin = beta * (3 + 1) + alpha * (30 - 10)  # 0.4 + 0.4
    assert loss.item() == pytest.approx(math.log1p(math.exp(-margin)))


def test_simpo_by_hand():
    chosen, rejected = column(-10.0).requires_grad_(), column(-30.0).requires_grad_()
    lengths = torch.tensor([10]), torch.tensor([20.0])
    target = 1 - LOG_3  # the margin is 2·(−1 + 1.5) − γ = log 3
    output = simpo_loss(chosen, rejected, *lengths, beta=2.0, target_margin=target)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(math.log(4 / 3))
    assert chosen.grad.item() == pytest.approx(-2 / 10 / 4)
    assert rejected.grad.item() == pytest.approx(2 / 20 / 4)
    assert {name: metric.item() for name, metric in output.metrics.items()} == pytest.approx(
        {"accuracy": 1, "margin": 1, "chosen_reward": -2, "rejected_reward": -3}
    )


def test_simpo_sees_means_and_not_sums():
    chosen, rejected = column(-10.0), column(-30.0)
    loss = simpo_loss(chosen, rejected, torch.tensor([10]), torch.tensor([20])).loss
    torch.testing.assert_close(loss, simpo_loss(7 * chosen, rejected, torch.tensor([70]), torch.tensor([20])).loss)


def test_micro_batches_with_the_global_denominator_add_up():
    pairs, lengths = (column(-3.0, -9.0, -4.0), column(-4.0, -5.0, -4.0)), (column(1, 2, 3), column(3, 1, 9))
    parts = [
        simpo_loss(*(x[rows] for x in (*pairs, *lengths)), denominator=3).loss for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), simpo_loss(*pairs, *lengths).loss)
    parts = [
        preference_loss(*(x[rows] for x in pairs), kind="hinge", denominator=3).loss
        for rows in (slice(0, 2), slice(2, 3))
    ]
    torch.testing.assert_close(sum(parts), preference_loss(*pairs, kind="hinge").loss)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [200.0, 1e30, LARGEST, math.inf])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [1e-30, 0.1, 1.0, 1e3])
def test_gradients_are_finite_for_every_log_ratio(sign, size, kind, beta):
    chosen, rejected = (torch.tensor([s * sign * size], requires_grad=True) for s in (1, -1))
    references = -chosen.detach(), -rejected.detach()
    output = preference_loss(chosen, rejected, *references, kind=kind, beta=beta, target_margin=0.5, **KINDS[kind])
    output.loss.backward()
    numbers = (output.loss, chosen.grad, rejected.grad, *output.metrics.values())
    assert all(x.isfinite().all() for x in numbers)
    if sign < 0 and kind != "exo":  # a pair that is ranked wrongly is pulled up, however wrong it is
        assert chosen.grad.item() < 0 < rejected.grad.item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("logp", [-LARGEST, -math.inf, -1e30, 0.0, -1e-45])
def test_without_a_reference_too(kind, logp):
    chosen, rejected = torch.tensor([logp, -1.0], requires_grad=True), torch.tensor([-1.0, logp], requires_grad=True)
    output = preference_loss(chosen, rejected, kind=kind, **KINDS[kind])
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_pair, chosen.grad, rejected.grad))


def test_the_slope_of_exo_keeps_its_digits_where_the_sigmoid_rounds_to_1():
    """σ(m)·σ(−m)·(m − log 3) is exp(−m)·(m − log 3), up to a factor (1 + exp(−m))²."""
    chosen, zero = torch.tensor([30.0], requires_grad=True), torch.zeros(1)
    preference_per_pair(chosen, zero, zero, zero, kind="exo", beta=1.0, label_smoothing=0.25).sum().backward()
    assert chosen.grad.item() == pytest.approx(math.exp(-30) * (30 - LOG_3), rel=1e-4)


def test_the_reference_and_the_lengths_are_constants():
    pairs = [column(-3.0).requires_grad_() for _ in range(4)]
    lengths = {name: column(2.0).requires_grad_() for name in ("chosen_lengths", "rejected_lengths")}
    preference_loss(*pairs, kind="hinge", log_ratio="mean", **lengths).loss.backward()
    assert [x.grad is not None for x in pairs] == [True, True, False, False]
    assert all(x.grad is None for x in lengths.values())


def test_dpo_with_a_target_is_the_sigmoid_with_a_target():
    chosen, zero = column(1.5), column(0.0)
    loss = preference_per_pair(chosen, zero, zero, zero, kind="sigmoid", beta=1.0, target_margin=0.5)
    torch.testing.assert_close(loss, dpo_per_pair(chosen - 0.5, zero, zero, zero, beta=1.0))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_target_of_ipo_beyond_the_range_saturates(sign):
    chosen, rejected = torch.tensor([-3.0], requires_grad=True), torch.tensor([-3.0], requires_grad=True)
    options = {"kind": "ipo", "beta": 2.0**-126, "target_margin": sign * 2.0**100}
    loss = preference_loss(chosen, rejected, **options).loss
    loss.backward()
    assert all(x.isfinite().all() for x in (loss, chosen.grad, rejected.grad))
    assert sign * chosen.grad.item() < -(2.0**120)

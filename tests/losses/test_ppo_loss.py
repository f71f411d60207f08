"""PPO: clip regions on numbers worked out by hand, conventions at the kinks, and inputs at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import aggregate, ppo_loss, ppo_per_token

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])


def at_ratio(ratio, advantage, **options):
    """Loss of one token at a given ratio, and its slope in logp, in fp64."""
    logps = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    loss = ppo_per_token(logps, torch.zeros_like(logps), torch.tensor([[advantage]]), **options)
    (slope,) = torch.autograd.grad(loss.sum(), logps)
    return loss.item(), slope.item()


def ragged(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logps, old_logps, advantages = (torch.randn(3, 3, generator=generator, dtype=dtype) for _ in range(3))
    return logps.requires_grad_(), old_logps, advantages


@pytest.mark.parametrize(
    ("ratio", "advantage", "options", "loss", "slope"),
    [
        (1.0, 2.0, {}, -2.0, -2.0),
        (1.0, -2.0, {}, 2.0, 2.0),
        (1.1, 2.0, {}, -2.2, -2.2),
        (0.5, 2.0, {}, -1.0, -1.0),
        (3.0, 2.0, {}, -2.4, 0.0),
        (3.0, -2.0, {}, 6.0, 6.0),
        (0.5, -2.0, {}, 1.6, 0.0),
        (3.0, 2.0, {"clip_high": 0.5}, -3.0, 0.0),
        (0.5, -2.0, {"clip_low": 0.1}, 1.8, 0.0),
        (0.5, -2.0, {"clip_low": 1.0}, 1.0, 1.0),
        (3.0, -2.0, {"dual_clip": 2.0}, 4.0, 0.0),
        (1.5, -2.0, {"dual_clip": 2.0}, 3.0, 3.0),
        (3.0, 2.0, {"dual_clip": 2.0}, -2.4, 0.0),
        (0.5, -2.0, {"dual_clip": 2.0}, 1.6, 0.0),
        (5.0, 0.0, {}, 0.0, 0.0),
        (0.1, 0.0, {"dual_clip": 2.0}, 0.0, 0.0),
    ],
)
def test_by_hand(ratio, advantage, options, loss, slope):
    assert at_ratio(ratio, advantage, **options) == pytest.approx((loss, slope))


@pytest.mark.parametrize(("advantage", "options"), [(3.0, {"clip_high": 0.0}), (-3.0, {"clip_low": 0.0})])
def test_at_a_kink_the_slope_is_the_unclipped_one(advantage, options):
    assert at_ratio(1.0, advantage, **options) == (-advantage, -advantage)


def test_at_the_kink_of_the_dual_clip_the_slope_is_the_unclipped_one():
    logps = torch.tensor([[math.log(2.0)]], dtype=torch.float64, requires_grad=True)
    kink = logps.exp().item()
    loss = ppo_per_token(logps, torch.zeros_like(logps), torch.tensor([[-3.0]]), dual_clip=kink)
    assert torch.autograd.grad(loss.sum(), logps)[0].item() == pytest.approx(6)


@pytest.mark.parametrize("log_ratio", [200.0, -200.0, LARGEST, -LARGEST, 1e4, -1e4])
@pytest.mark.parametrize("advantage", [3.0, -3.0, 0.0])
@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_gradients_are_finite_for_every_log_ratio(log_ratio, advantage, dual_clip):
    logps = torch.full((2, 3), log_ratio, requires_grad=True)
    output = ppo_loss(logps, torch.zeros(2, 3), torch.full((2,), advantage), torch.ones(2, 3), dual_clip=dual_clip)
    output.loss.backward()
    assert output.per_token.isfinite().all()
    assert output.loss.isfinite()
    assert logps.grad.isfinite().all()
    assert all(metric.isfinite() for metric in output.metrics.values())
    pushes_back = log_ratio > 0 and advantage < 0 and dual_clip is None
    assert (logps.grad > 1e25).all() if pushes_back else (logps.grad == 0).all()


def test_the_difference_of_two_largest_floats_saturates():
    logps = torch.tensor([[LARGEST, -LARGEST]], requires_grad=True)
    old_logps = torch.tensor([[-LARGEST, LARGEST]])
    output = ppo_loss(logps, old_logps, torch.tensor([-1.0]), torch.ones(1, 2))
    output.loss.backward()
    assert output.loss.isfinite()
    assert logps.grad[0, 0] > 1e25
    assert logps.grad[0, 1] == 0


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, LARGEST])
@pytest.mark.parametrize("position", ["logps", "old_logps", "advantages"])
def test_masked_entries_reach_nothing(hidden, position):
    results = []
    for value in (0.0, hidden):
        names = ("logps", "old_logps", "advantages")
        inputs = {name: tensor.detach().clone() for name, tensor in zip(names, ragged(), strict=True)}
        inputs[position] = inputs[position].masked_fill(MASK == 0, value)
        inputs["logps"].requires_grad_()
        output = ppo_loss(**inputs, mask=MASK)
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
    logps, old_logps, _ = ragged()
    output = ppo_loss(logps, old_logps, torch.tensor([1.0, 1.0, math.nan]), MASK)
    output.loss.backward()
    assert output.loss.isfinite()
    assert logps.grad.isfinite().all()


def test_metrics_by_hand():
    ratios = torch.tensor([[2.0, 1.0, 0.5, 9.0], [2.0, 0.5, 4.0, 2.0]], dtype=torch.float64)
    advantages = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, 0.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    old_logps = torch.full_like(ratios, -0.25)
    logps = (ratios.log() + old_logps).requires_grad_()
    metrics = ppo_loss(logps, old_logps, advantages, mask, dual_clip=3.0).metrics
    # Clipped: ratio 2 at A > 0, ratio 0.5 and ratio 4 at A < 0.
    assert metrics["clip_fraction"].item() == pytest.approx(3 / 7)
    assert metrics["ratio_mean"].item() == pytest.approx(12 / 7)
    # Σ (ρ − 1 − log ρ): the logarithms are 1 + 0 − 1 + 1 − 1 + 2 + 1 = 3 times log 2.
    assert metrics["approx_kl"].item() == pytest.approx((12 - 7 - 3 * math.log(2)) / 7)
    assert all(metric.shape == () and not metric.requires_grad for metric in metrics.values())


@pytest.mark.parametrize("dual_clip", [None, 3.0, math.exp(2.0)])
@pytest.mark.parametrize("clips", [(0.0, 0.0), (0.2, 0.5), (0.5, 0.2)])
@pytest.mark.parametrize("advantage", [1.0, 0.5, 0.0, -0.5, -1.0])
@pytest.mark.parametrize("log_ratio", [-2.0, -0.3, -0.1, 0.0, 0.1, 0.3, 0.5, 2.0])
def test_clipped_is_where_the_slope_is_taken_away(log_ratio, advantage, clips, dual_clip):
    if dual_clip == math.exp(2.0):  # the same number, as the kernel rounds it: at the kink itself the slope is kept
        dual_clip = torch.tensor(2.0, dtype=torch.float64).exp().item()
    logps = torch.tensor([[log_ratio]], dtype=torch.float64, requires_grad=True)
    options = {"clip_low": clips[0], "clip_high": clips[1], "dual_clip": dual_clip}
    output = ppo_loss(logps, torch.zeros_like(logps), torch.tensor([advantage]), torch.ones(1, 1), **options)
    output.loss.backward()
    assert output.metrics["clip_fraction"].item() == (advantage != 0 and logps.grad.item() == 0)


def test_an_advantage_for_each_sequence_is_that_of_each_of_its_tokens():
    logps, old_logps, _ = ragged()
    per_sequence = torch.tensor([1.0, -2.0, 0.5])
    per_token = per_sequence.unsqueeze(1).expand(3, 3)
    assert torch.equal(ppo_per_token(logps, old_logps, per_sequence), ppo_per_token(logps, old_logps, per_token))


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "token_mean", "denominator": 5},
        {"aggregation": "sequence_mean"},
        {"aggregation": "sequence_sum", "denominator": torch.tensor(2.0)},
        {"aggregation": "token_sum"},
        {"aggregation": "fixed_length", "max_length": 10, "denominator": 3},
    ],
)
def test_the_loss_is_the_aggregate_of_its_terms(options):
    output = ppo_loss(*ragged(), MASK, **options)
    mode = options.pop("aggregation")
    assert torch.equal(output.loss, aggregate(output.per_token, MASK, mode, **options))


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_documented_bound_between_precisions(spread):
    generator = torch.Generator().manual_seed(0)
    logps = -20 * torch.rand(100, 100, generator=generator)
    old_logps = logps + spread * torch.randn(100, 100, generator=generator)
    advantages = torch.randn(100, 100, generator=generator)
    result = ppo_per_token(logps, old_logps, advantages)
    exact = ppo_per_token(logps.double(), old_logps.double(), advantages.double())
    in_range = (exact.abs() > 1e-30) & (exact.abs() < 1e30)
    bound = 4 * 2.0**-24 * ((logps.double() - old_logps).abs() + 1) * exact.abs()
    assert ((result - exact).abs() <= bound)[in_range].all()

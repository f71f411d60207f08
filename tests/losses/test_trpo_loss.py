"""TRPO's surrogate: by hand, with masks, and at the edge of the floats."""

import math
import re

import pytest
import torch

from grape_verified import aggregate, ppo_loss, trpo_loss, trpo_per_token

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])


def ragged(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logps, old_logps, advantages = (torch.randn(3, 3, generator=generator, dtype=dtype) for _ in range(3))
    return logps.requires_grad_(), old_logps, advantages


@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("advantage", [2.0, -2.0, 0.0])
def test_by_hand(ratio, advantage):
    """The surrogate is linear in the ratio, and its slope in the log-probability is its value."""
    logps = torch.tensor([[math.log(ratio) - 3.0]], dtype=torch.float64, requires_grad=True)
    loss = trpo_per_token(logps, torch.full_like(logps, -3.0), torch.tensor([[advantage]]))
    (slope,) = torch.autograd.grad(loss.sum(), logps)
    assert (loss.item(), slope.item()) == pytest.approx((-ratio * advantage, -ratio * advantage))


def token_by_token(logps, old_logps, advantages, aggregation):
    """The loss and its gradient in fp64, in plain loops over the tokens that count."""
    terms = {
        (row, place): -math.exp(logps[row][place] - old_logps[row][place]) * advantages[row][place]
        for row in range(3)
        for place in range(3)
        if MASK[row][place]
    }
    lengths = [max(1, int(row.sum())) for row in MASK]
    divisors = {
        "token_mean": lambda row: len(terms),
        "sequence_mean": lambda row: 3 * lengths[row],
        "sequence_sum": lambda row: 3,
    }
    gradient = torch.zeros(3, 3, dtype=torch.float64)
    for (row, place), term in terms.items():
        gradient[row, place] = term / divisors[aggregation](row)
    return gradient.sum(), gradient


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "sequence_sum"])
def test_from_first_principles(aggregation):
    inputs = ragged(dtype=torch.float64)
    output = trpo_loss(*inputs, MASK, aggregation=aggregation)
    expected, gradient = token_by_token(*(tensor.tolist() for tensor in inputs), aggregation)
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(torch.autograd.grad(output.loss, inputs[0])[0], gradient)


def test_it_is_ppo_without_clipping():
    inputs = ragged()
    unclipped = ppo_loss(*inputs, MASK, clip_low=1.0, clip_high=1e9)
    torch.testing.assert_close(trpo_loss(*inputs, MASK).loss, unclipped.loss)


@pytest.mark.parametrize("log_ratio", [200.0, -200.0, LARGEST, -LARGEST, 1e30])
@pytest.mark.parametrize("advantage", [3.0, -3.0, 0.0])
def test_gradients_are_finite_for_every_log_ratio(log_ratio, advantage):
    logps = torch.full((2, 3), log_ratio, requires_grad=True)
    output = trpo_loss(logps, torch.zeros(2, 3), torch.full((2,), advantage), torch.ones(2, 3))
    output.loss.backward()
    assert output.per_token.isfinite().all()
    assert output.loss.isfinite()
    assert logps.grad.isfinite().all()
    assert all(metric.isfinite() for metric in output.metrics.values())
    if log_ratio > 0 and advantage:
        assert (logps.grad * -advantage > 1e25).all()
    else:
        assert (logps.grad == 0).all()


def test_the_difference_of_two_largest_floats_saturates():
    logps = torch.tensor([[LARGEST, -LARGEST]], requires_grad=True)
    output = trpo_loss(logps, -logps.detach(), torch.tensor([1.0]), torch.ones(1, 2))
    output.loss.backward()
    assert output.loss.isfinite()
    assert logps.grad[0, 0] < -1e25
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
        output = trpo_loss(**inputs, mask=MASK)
        output.loss.backward()
        results.append((output, inputs["logps"].grad))
    (clean, clean_gradient), (dirty, dirty_gradient) = results
    assert torch.equal(clean.loss, dirty.loss)
    assert torch.equal(clean.per_token, dirty.per_token)
    assert torch.equal(clean_gradient, dirty_gradient)
    assert clean.metrics == dirty.metrics
    assert (clean.per_token[MASK == 0] == 0).all()
    assert (clean_gradient[MASK == 0] == 0).all()


def test_metrics_by_hand():
    ratios = torch.tensor([[2.0, 1.0, 2.0], [0.5, 4.0, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    old_logps = torch.full_like(ratios, -0.25)
    logps = (ratios.log() + old_logps).requires_grad_()
    metrics = trpo_loss(logps, old_logps, torch.ones(2), mask).metrics
    assert metrics["ratio_mean"].item() == pytest.approx(9.5 / 5)
    # Σ (ρ − 1 − log ρ): the logarithms are 1 + 0 + 1 − 1 + 2 = 3 times log 2.
    assert metrics["approx_kl"].item() == pytest.approx((9.5 - 5 - 3 * math.log(2)) / 5)
    assert all(metric.shape == () and not metric.requires_grad for metric in metrics.values())


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
    output = trpo_loss(*ragged(), MASK, **options)
    mode = options.pop("aggregation")
    assert torch.equal(output.loss, aggregate(output.per_token, MASK, mode, **options))


def test_half_precision_is_read_in_fp32():
    logps, old_logps, advantages = (tensor.detach().to(torch.bfloat16) for tensor in ragged())
    coarse = trpo_per_token(logps, old_logps, advantages)
    assert torch.equal(coarse, trpo_per_token(logps.float(), old_logps.float(), advantages.float()))


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_documented_bound_between_precisions(spread):
    generator = torch.Generator().manual_seed(0)
    logps = -20 * torch.rand(100, 100, generator=generator)
    old_logps = logps + spread * torch.randn(100, 100, generator=generator)
    advantages = torch.randn(100, 100, generator=generator)
    result = trpo_per_token(logps, old_logps, advantages)
    exact = trpo_per_token(logps.double(), old_logps.double(), advantages.double())
    log_ratios = (logps.double() - old_logps).abs()
    in_range = (log_ratios < 70) & (exact.abs() > 1e-30)  # the ratio saturates beyond exp(72)
    bound = 4 * 2.0**-24 * (log_ratios + 1) * exact.abs()
    assert ((result - exact).abs() <= bound)[in_range].all()


TOKENS, ROW, ALL = torch.zeros(2, 4), torch.zeros(2), torch.ones(2, 4)


@pytest.mark.parametrize("call", [trpo_per_token, lambda *given: trpo_loss(*given, ALL)])
@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (([[0.0]], TOKENS, ROW), TypeError, "logps: got list, expected a tensor"),
        ((TOKENS.long(), TOKENS, ROW), TypeError, "logps: got dtype torch.int64, expected a floating-point dtype"),
        ((ROW, ROW, ROW), ValueError, "logps: got shape (2,), expected shape (batch, time)"),
        ((TOKENS, TOKENS[:1], ROW), ValueError, "old_logps: got shape (1, 4), expected (2, 4), the shape of logps"),
        (
            (TOKENS, TOKENS, TOKENS[0]),
            ValueError,
            "advantages: got shape (4,), expected (2, 4), the shape of logps, or",
        ),
    ],
)
def test_bad_tensors(call, given, error, text):
    with pytest.raises(error) as raised:
        call(*given)
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize(
    ("mask", "options", "text"),
    [
        (2 * ALL, {}, "mask: got the value 2.0, expected only 0 and 1"),
        (ALL[:1], {}, "mask: got shape (1, 4), expected (2, 4), the shape of logps"),
        (ALL, {"aggregation": "mean"}, "aggregation: got 'mean', expected one of 'token_mean'"),
        (ALL, {"denominator": 0}, "denominator: got 0, expected None, a finite number > 0"),
        (ALL, {"max_length": 4}, "max_length: got 4, expected None with aggregation 'token_mean'"),
    ],
)
def test_bad_options(mask, options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        trpo_loss(TOKENS, TOKENS, ROW, mask, **options)

"""SFT: values and slopes from logits by hand, shared denominators, and inputs at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import aggregate, sft_loss, sft_per_token, token_logps

LARGEST = torch.finfo(torch.float32).max
MASK = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 0]])
LENGTHS = [2, 2, 0]


def logps_of(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (-20 * torch.rand(3, 3, generator=generator, dtype=dtype)).requires_grad_()


def test_by_hand():
    logps = torch.tensor([[-1.0, -2.0, -4.0], [-0.5, -0.25, -9.0], [-7.0, -7.0, -7.0]], dtype=torch.float64)
    output = sft_loss(logps, MASK)
    assert output.per_token.tolist() == [[1, 0, 4], [0.5, 0.25, 0], [0, 0, 0]]
    assert output.loss.item() == pytest.approx((1 + 4 + 0.5 + 0.25) / 4)
    assert sft_loss(logps, MASK, aggregation="sequence_mean").loss.item() == pytest.approx((2.5 + 0.375) / 3)
    assert sft_loss(logps, MASK, aggregation="sequence_sum").loss.item() == pytest.approx(5.75 / 3)
    assert sft_per_token(logps).tolist() == (-logps).tolist()


def test_the_gradient_in_the_logits_is_the_probabilities_minus_one_hot():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(5, (3, 3), generator=generator)
    loss = sft_loss(token_logps(logits, targets), MASK).loss
    (gradient,) = torch.autograd.grad(loss, logits)
    total, slopes = 0.0, torch.zeros_like(logits)
    for i in range(3):
        for t in range(3):
            masses = [math.exp(z) for z in logits[i, t].tolist()]
            total -= MASK[i, t].item() * math.log(masses[targets[i, t]] / sum(masses))
            for k in range(5):
                hit = 1.0 if k == targets[i, t] else 0.0
                slopes[i, t, k] = MASK[i, t].item() * (masses[k] / sum(masses) - hit) / sum(LENGTHS)
    assert loss.item() == pytest.approx(total / sum(LENGTHS))
    torch.testing.assert_close(gradient, slopes.detach())


def test_micro_batches_with_the_global_denominator_add_up_and_their_means_do_not():
    logps = logps_of(dtype=torch.float64)
    rows = [[0], [1, 2]]
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 0, 0]])
    whole = sft_loss(logps, mask)
    parts = [sft_loss(logps[part], mask[part], denominator=5) for part in rows]
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    gradients = [torch.autograd.grad(loss, logps)[0] for loss in (sum(part.loss for part in parts), whole.loss)]
    torch.testing.assert_close(*gradients)
    means = sum(sft_loss(logps[part], mask[part]).loss for part in rows) / 2
    assert abs(means - whole.loss) > 0.1
    # The metric is that of the part, with the denominator of its own tokens.
    assert parts[1].metrics["nll"].item() == pytest.approx(-logps[1:, 0].mean().item())


@pytest.mark.parametrize(
    ("logp", "value"),
    [(-200.0, 200), (-1e30, 1e30), (200.0, -200), (-LARGEST, None), (-math.inf, None), (0.0, 0)],
)
def test_gradients_are_finite_for_every_log_probability(logp, value):
    logps = torch.full((2, 3), logp, requires_grad=True)
    output = sft_loss(logps, torch.ones(2, 3), aggregation="token_sum")
    output.loss.backward()
    assert output.loss.isfinite()
    assert output.metrics["nll"].isfinite()
    assert torch.equal(logps.grad, torch.full((2, 3), -1.0))
    expected = LARGEST * 2.0**-24 if value is None else value
    torch.testing.assert_close(output.per_token, torch.full((2, 3), float(expected)))


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -math.inf, LARGEST])
def test_masked_entries_reach_nothing(hidden):
    results = []
    for value in (0.0, hidden):
        logps = logps_of().detach().masked_fill(MASK == 0, value).requires_grad_()
        output = sft_loss(logps, MASK)
        output.loss.backward()
        results.append((output, logps.grad))
    (clean, clean_gradient), (dirty, dirty_gradient) = results
    assert torch.equal(clean.loss, dirty.loss)
    assert torch.equal(clean.per_token, dirty.per_token)
    assert torch.equal(clean_gradient, dirty_gradient)
    assert clean.metrics == dirty.metrics
    assert (clean.per_token[MASK == 0] == 0).all()
    assert (clean_gradient[MASK == 0] == 0).all()


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
    output = sft_loss(logps_of(), MASK, **options)
    mode = options.pop("aggregation")
    assert torch.equal(output.loss, aggregate(output.per_token, MASK, mode, **options))
    assert not output.metrics["nll"].requires_grad
    assert torch.equal(output.metrics["nll"], aggregate(output.per_token.detach(), MASK, "token_mean"))
    assert output.metrics["nll"].shape == ()


def test_the_mean_of_one_token_is_its_own():
    output = sft_loss(torch.tensor([[-3.0, -5.0]]), torch.tensor([[False, True]]))
    assert output.metrics["nll"].item() == 5


@pytest.mark.parametrize("mode", ["token_mean", "sequence_mean", "sequence_sum", "token_sum"])
def test_documented_bound(mode):
    generator = torch.Generator().manual_seed(0)
    logps = -20 * torch.rand(512, 1024, generator=generator)
    mask = torch.rand(512, 1024, generator=generator) < 0.6
    exact = sft_loss(logps.double(), mask, aggregation=mode).loss
    assert (sft_loss(logps, mask, aggregation=mode).loss - exact).abs() <= 8 * 2.0**-24 * exact

"""CPO: numbers worked out by hand, and what the likelihood adds."""

import math

import pytest
import torch

from grape_verified import cpo_loss, cpo_per_pair, preference_loss

LARGEST = torch.finfo(torch.float32).max


def row(*numbers):
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("chosen", "rejected", "length", "options", "loss", "slopes"),
    [
        # margin 0: σ = 1/2 on both sides
        (-6.0, -6.0, 3, {"beta": 1.0}, math.log(2) + 2, (-0.5 - 1 / 3, 0.5)),
        # margin log 3: σ(−m) = 1/4, loss log 4/3
        (-4.0, -4.0 - math.log(3), 2, {"beta": 1.0, "nll_weight": 0.5}, math.log(4 / 3) + 1, (-0.25 - 0.25, 0.25)),
        # margin −log 3: σ(−m) = 3/4; the sum of the log-probabilities with a length of 1
        (-4 - 2 * math.log(3), -4.0, 1, {"beta": 0.5}, math.log(4) + 4 + 2 * math.log(3), (-0.375 - 1, 0.375)),
    ],
)
def test_by_hand(chosen, rejected, length, options, loss, slopes):
    pair = row(chosen), row(rejected)
    value = cpo_per_pair(*pair, torch.tensor([length]), **options)
    assert value.item() == pytest.approx(loss)
    assert [x.item() for x in torch.autograd.grad(value.sum(), pair)] == pytest.approx(list(slopes))


def test_it_is_the_margin_without_a_reference_and_the_likelihood():
    chosen, rejected, lengths = row(-3.0, -9.0), row(-4.0, -5.0), torch.tensor([2, 3])
    output = cpo_loss(chosen, rejected, lengths, beta=0.3, nll_weight=0.7)
    without = preference_loss(chosen, rejected, kind="sigmoid", beta=0.3)
    torch.testing.assert_close(output.per_pair, without.per_pair + 0.7 * row(1.5, 3.0))
    likelihood = output.metrics.pop("likelihood")
    assert likelihood.item() == 2.25
    assert output.metrics == without.metrics


def test_a_common_fall_raises_the_loss():
    """Where DPO's margin sees nothing: each nat costs λ over the length."""
    pair, length = (row(-3.0), row(-4.0)), torch.tensor([4])
    fallen = cpo_per_pair(pair[0] - 2, pair[1] - 2, length, nll_weight=0.5)
    assert (fallen - cpo_per_pair(*pair, length, nll_weight=0.5)).item() == pytest.approx(0.5 * 2 / 4)


@pytest.mark.parametrize("other", [0.0, -1.0, -1e30, -LARGEST])
@pytest.mark.parametrize("logp", [0.0, -1e-30, -80.0, -1e30, -LARGEST, -math.inf, LARGEST])
def test_everything_is_finite_at_every_log_probability(logp, other):
    chosen, rejected = torch.tensor([logp, other], requires_grad=True), torch.tensor([other, logp], requires_grad=True)
    output = cpo_loss(chosen, rejected, torch.tensor([1, 7]), beta=5.0, nll_weight=1e6)
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_pair, chosen.grad, rejected.grad))
    assert all(value.isfinite() for value in output.metrics.values())
    assert (chosen.grad < 0).all()


def test_micro_batches_with_the_global_denominator_add_up():
    pairs = row(-3.0, -9.0, -4.0), row(-4.0, -5.0, -4.0), torch.tensor([1, 2, 3])
    parts = [cpo_loss(*(x[rows] for x in pairs), denominator=3).loss for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(parts), cpo_loss(*pairs).loss)

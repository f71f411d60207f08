"""DPO-Positive: numbers worked out by hand, the kink where training starts, and a common fall."""

import math

import pytest
import torch

from grape_verified import dpo_loss, dpop_loss, dpop_per_pair

LARGEST = torch.finfo(torch.float32).max
REFERENCE = torch.tensor([-10.0], dtype=torch.float64)


def of_log_ratios(chosen, rejected, **options):
    """The loss of one pair with these log-ratios, and its slopes in both log-probabilities."""
    pair = [(REFERENCE + x).requires_grad_() for x in (chosen, rejected)]
    loss = dpop_per_pair(*pair, REFERENCE, REFERENCE, **options)
    return loss.item(), *(x.item() for x in torch.autograd.grad(loss.sum(), pair))


@pytest.mark.parametrize(
    ("chosen", "rejected", "loss", "slopes"),
    [
        # with β = 1 and λ = 2
        (1.0, 1.0, math.log(2), (-0.5, 0.5)),  # above the reference: DPO
        (-1.0, -3.0, math.log(2), (-1.5, 0.5)),  # −1 + 3 − 2·1 = 0, and 1 + λ = 3
        (-1.0, -3.0 - math.log(3), math.log(4 / 3), (-0.75, 0.25)),
        (-1.0, -3.0 + math.log(3), math.log(4), (-2.25, 0.75)),
        (0.0, 0.0, math.log(2), (-0.5, 0.5)),  # at the kink: the slopes of DPO
    ],
)
def test_by_hand(chosen, rejected, loss, slopes):
    found = of_log_ratios(chosen, rejected, beta=1.0, penalty_weight=2.0)
    assert found == pytest.approx((loss, *slopes))


def test_the_first_step_is_that_of_dpo():
    """The policy is the reference: every pair is at the kink."""
    pairs = [torch.tensor([-3.0, -8.0], requires_grad=True) for _ in range(2)]
    given = (*pairs, *(x.detach() for x in pairs))
    for theirs, ours in zip(*(torch.autograd.grad(f(*given).loss, pairs) for f in (dpo_loss, dpop_loss)), strict=True):
        assert torch.equal(theirs, ours)


def test_a_common_fall_lowers_the_margin_by_beta_lambda_per_nat():
    """DPO's loss stays as it is."""
    loss = [of_log_ratios(-fall, -fall - 1, beta=0.1, penalty_weight=5.0)[0] for fall in (0.0, 1.0, 2.0)]
    margins = [0.1 - 0.5 * fall for fall in (0, 1, 2)]
    assert loss == pytest.approx([math.log1p(math.exp(-m)) for m in margins])


def test_metrics_are_those_of_dpo_and_the_mean_fall():
    pairs = [torch.tensor(x) for x in ([-9.0, -13.0], [-11.0, -18.0], [-10.0, -10.0], [-10.0, -10.0])]
    metrics = dpop_loss(*pairs, beta=0.1).metrics
    assert metrics.pop("decline").item() == 1.5
    assert metrics == dpo_loss(*pairs, beta=0.1).metrics


@pytest.mark.parametrize("other", [0.0, 1e30, -1e30])
@pytest.mark.parametrize("logp", [0.0, -0.0, 1e-30, -1e-30, -80.0, 1e30, -1e30, LARGEST, -LARGEST, -math.inf])
def test_everything_is_finite_at_every_log_ratio(logp, other):
    chosen, rejected = torch.tensor([logp, other], requires_grad=True), torch.tensor([other, logp], requires_grad=True)
    output = dpop_loss(chosen, rejected, torch.zeros(2), torch.zeros(2), beta=5.0, penalty_weight=1e6)
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_pair, chosen.grad, rejected.grad))
    assert all(value.isfinite() for value in output.metrics.values())
    assert (chosen.grad <= 0).all()
    assert (rejected.grad >= 0).all()


def test_micro_batches_with_the_global_denominator_add_up():
    pairs = [torch.tensor(x) for x in ([-3.0, -9.0, -4.0], [-4.0, -5.0, -4.0], [-2.0, -9.5, -4.0], [-3.0, -7.0, -4.0])]
    parts = [dpop_loss(*(x[rows] for x in pairs), denominator=3).loss for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(parts), dpop_loss(*pairs).loss)

"""f-DPO: numbers worked out by hand, one family of divergences, and ratios that no exponential can hold."""

import math

import pytest
import torch

from grape_verified import dpo_loss, f_dpo_loss, f_dpo_per_pair

LARGEST = torch.finfo(torch.float32).max
DIVERGENCES = ("reverse_kl", "forward_kl", "jensen_shannon", "alpha")


def of_ratios(chosen, rejected, **options):
    """The loss of one pair of responses with these ratios to the reference, and its slopes."""
    zero = torch.zeros(1, dtype=torch.float64)
    pair = [torch.tensor([math.log(x)], dtype=torch.float64, requires_grad=True) for x in (chosen, rejected)]
    loss = f_dpo_per_pair(*pair, zero, zero, **options)
    return loss.item(), *(x.item() for x in torch.autograd.grad(loss.sum(), pair))


@pytest.mark.parametrize(
    ("divergence", "alpha", "ratios", "beta", "slopes"),
    [
        # each with the margin log 3, so that σ(−m) = 1/4: β·ratio^(α − 1)/4
        ("reverse_kl", 0.5, (3.0, 1.0), 1.0, (-0.25, 0.25)),
        ("forward_kl", 0.5, (2.0, 0.5), math.log(3) / 1.5, (-0.5 * math.log(3) / 6, 2 * math.log(3) / 6)),
        ("jensen_shannon", 0.5, (3.0, 1 / 3), 1.0, (-0.25 * 0.25, 0.75 * 0.25)),  # σ = 3/4 and 1/4
        ("alpha", 2.0, (3.0, 1.0), math.log(3) / 2, (-3 * math.log(3) / 8, math.log(3) / 8)),
        ("alpha", 0.5, (4.0, 0.25), math.log(3) / 3, (-0.5 * math.log(3) / 12, 2 * math.log(3) / 12)),
    ],
)
def test_by_hand(divergence, alpha, ratios, beta, slopes):
    found = of_ratios(*ratios, divergence=divergence, alpha=alpha, beta=beta)
    assert found == pytest.approx((math.log(4 / 3), *slopes))


def test_orders_0_and_1_are_the_two_kl_divergences():
    pairs = [torch.linspace(-3, 3, 7), torch.linspace(2, -1, 7).square(), torch.zeros(7), torch.ones(7)]
    for order, divergence in {0.0: "forward_kl", 1.0: "reverse_kl"}.items():
        own = f_dpo_per_pair(*pairs, divergence=divergence)
        assert torch.equal(f_dpo_per_pair(*pairs, divergence="alpha", alpha=order), own)
    assert torch.equal(own, dpo_loss(*pairs).per_pair)


@pytest.mark.parametrize("step", [1e-3, 1e-6, 1e-12])
def test_orders_near_1_are_near_dpo(step):
    """The limit keeps its digits: e^(aΔ) − 1 is not a difference of numbers near 1."""
    pairs = [torch.tensor([x]) for x in (0.7, -1.2, 0.0, 0.0)]
    found = f_dpo_per_pair(*pairs, divergence="alpha", alpha=1 + step, beta=1.0)
    torch.testing.assert_close(found, dpo_loss(*pairs, beta=1.0).per_pair, rtol=2 * step + 1e-6, atol=0)


def test_a_common_fall_raises_the_margin_of_the_forward_kl():
    """A factor of e^(−c) on both probabilities multiplies it by e^c."""
    zero = torch.zeros(1)
    margins = [
        f_dpo_loss(zero + 1 - fall, zero - fall, zero, zero, divergence="forward_kl", beta=1.0).metrics["margin"].item()
        for fall in (0.0, 1.0)
    ]
    assert margins[1] == pytest.approx(math.e * margins[0])


@pytest.mark.parametrize(
    ("divergence", "alpha"),
    [*((divergence, 0.5) for divergence in DIVERGENCES), *(("alpha", x) for x in (2.0, -20.0, 50.0, 1 + 1e-12, 1e30))],
)
@pytest.mark.parametrize("other", [0.0, 200.0, -200.0, -1e30])
@pytest.mark.parametrize("logp", [0.0, 1e-30, -90.0, 90.0, 1e30, -1e30, LARGEST, -LARGEST, -math.inf])
def test_everything_is_finite_at_every_log_ratio(logp, other, divergence, alpha):
    chosen, rejected = torch.tensor([logp, other], requires_grad=True), torch.tensor([other, logp], requires_grad=True)
    output = f_dpo_loss(chosen, rejected, torch.zeros(2), torch.zeros(2), divergence=divergence, alpha=alpha)
    output.loss.backward()
    assert all(x.isfinite().all() for x in (output.loss, output.per_pair, chosen.grad, rejected.grad))
    assert all(value.isfinite() for value in output.metrics.values())
    assert (chosen.grad <= 0).all()
    assert (rejected.grad >= 0).all()


@pytest.mark.parametrize(("chosen", "rejected"), [(-150.0, -170.0), (-110.0, -200.0)])
def test_responses_that_both_leave_the_range_are_ranked(chosen, rejected):
    """e^150 and e^170 are beyond fp32: the margin has the sign of their difference all the same."""
    pair = torch.tensor([chosen, rejected]), torch.tensor([rejected, chosen])
    output = f_dpo_loss(*pair, torch.zeros(2), torch.zeros(2), divergence="forward_kl")
    assert output.per_pair[0].item() == 0
    assert output.per_pair[1].item() > 1e20
    assert output.metrics["accuracy"].item() == 0.5


def test_micro_batches_with_the_global_denominator_add_up():
    pairs = [torch.tensor(x) for x in ([-3.0, -9.0, -4.0], [-4.0, -5.0, -4.0], [-2.0, -9.5, -4.0], [-3.0, -7.0, -4.0])]
    for divergence in DIVERGENCES:
        parts = [
            f_dpo_loss(*(x[rows] for x in pairs), divergence=divergence, denominator=3).loss
            for rows in (slice(0, 1), slice(1, 3))
        ]
        torch.testing.assert_close(sum(parts), f_dpo_loss(*pairs, divergence=divergence).loss)

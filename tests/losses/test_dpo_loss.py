"""DPO, robust DPO and IPO: values at the reference and far from it, smoothing, and inputs at the edge of the floats."""

import math
from functools import partial

import pytest
import torch

from grape_verified import (
    dpo_loss,
    dpo_per_pair,
    ipo_loss,
    ipo_per_pair,
    robust_dpo_loss,
    robust_dpo_per_pair,
)

LARGEST = torch.finfo(torch.float32).max


def pairs(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [-20 * torch.rand(5, generator=generator, dtype=dtype) for _ in range(4)]


def at_margin(margin, **options):
    """Loss of one pair at a given margin with beta = 1, and its slope in the chosen log-probability, in fp64."""
    chosen = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros_like(chosen)
    loss = dpo_per_pair(chosen, zero, zero, zero, beta=1.0, **options)
    return loss.item(), torch.autograd.grad(loss.sum(), chosen)[0].item()


def test_at_the_reference():
    chosen, rejected = (torch.tensor([-3.0, -700.0], requires_grad=True) for _ in range(2))
    loss = dpo_per_pair(chosen, rejected, chosen, rejected, beta=0.5)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.full((2,), math.log(2)))
    torch.testing.assert_close(chosen.grad, torch.full((2,), -0.25))
    torch.testing.assert_close(rejected.grad, torch.full((2,), 0.25))


@pytest.mark.parametrize(
    ("margin", "options", "loss", "slope"),
    [
        (math.log(3), {}, math.log(4 / 3), -1 / 4),
        (-math.log(3), {}, math.log(4), -3 / 4),
        (math.log(3), {"label_smoothing": 0.25}, math.log(4) - 0.75 * math.log(3), 0),
        (0.0, {"label_smoothing": 0.1}, math.log(2), -0.4),
        (500.0, {}, 0, 0),
        (-500.0, {}, 500, -1),
        (500.0, {"label_smoothing": 0.1}, 50, 0.1),
    ],
)
def test_by_hand(margin, options, loss, slope):
    assert at_margin(margin, **options) == pytest.approx((loss, slope), abs=1e-12)


def test_every_argument_has_its_sign_and_beta_its_place():
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for position, sign in enumerate((1, -1, -1, 1)):
        inputs = [zero, zero, zero, zero]
        inputs[position] = one * math.log(3)
        assert dpo_loss(*inputs, beta=2.0).metrics["margin"].item() == pytest.approx(sign * 2 * math.log(3))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [200.0, 1e30, LARGEST, math.inf])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("beta", [0.1, 1.0, 1e3])
def test_gradients_are_finite_for_every_log_ratio(sign, size, label_smoothing, beta):
    chosen, rejected = (torch.tensor([s * sign * size], requires_grad=True) for s in (1, -1))
    output = dpo_loss(
        chosen, rejected, -chosen.detach(), -rejected.detach(), beta=beta, label_smoothing=label_smoothing
    )
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(metric.isfinite() for metric in output.metrics.values())
    expected = beta * (label_smoothing if sign > 0 else label_smoothing - 1)
    assert chosen.grad.item() == pytest.approx(expected, rel=1e-6, abs=1e-9 * beta)
    assert rejected.grad.item() == pytest.approx(-expected, rel=1e-6, abs=1e-9 * beta)


def test_long_sequences_do_not_lose_the_margin():
    chosen, rejected = torch.tensor([-30000.0]), torch.tensor([-1.0])
    shift = torch.tensor([2.0**-9])  # the unit in the last place of 30000
    margin = dpo_loss(chosen + shift, rejected, chosen, rejected, beta=1.0).metrics["margin"]
    assert margin.item() == 2.0**-9


def test_loss_and_metrics_by_hand():
    chosen, rejected = torch.tensor([0.5, 0.0, 0.0, 3.0]), torch.tensor([0.0, 4.0, 0.0, 0.0])
    chosen.requires_grad_()
    zero = torch.zeros(4)
    output = dpo_loss(chosen, rejected, zero, zero, beta=0.5)
    assert {name: metric.item() for name, metric in output.metrics.items()} == pytest.approx(
        {"accuracy": 2 / 4, "margin": -1 / 16, "chosen_reward": 7 / 16, "rejected_reward": 1 / 2}
    )
    assert all(metric.shape == () and not metric.requires_grad for metric in output.metrics.values())
    assert output.loss.item() == pytest.approx(output.per_pair.mean().item())


def test_micro_batches_with_the_global_denominator_add_up():
    inputs = pairs(dtype=torch.float64)
    parts = [dpo_loss(*(x[rows] for x in inputs), denominator=5).loss for rows in (slice(0, 1), slice(1, 5))]
    torch.testing.assert_close(sum(parts), dpo_loss(*inputs).loss)
    torch.testing.assert_close(dpo_loss(*inputs, denominator=torch.tensor(10)).loss, dpo_loss(*inputs).loss / 2)


def test_the_reference_is_a_constant():
    inputs = [x.requires_grad_() for x in pairs()]
    dpo_loss(*inputs).loss.backward()
    assert [x.grad is not None for x in inputs] == [True, True, False, False]


@pytest.mark.parametrize("spread", [0.1, 30.0, 300.0])
@pytest.mark.parametrize(("beta", "label_smoothing"), [(0.1, 0.0), (0.1, 0.2), (5.0, 0.49)])
def test_documented_bound_between_precisions(spread, beta, label_smoothing):
    generator = torch.Generator().manual_seed(0)
    policy = [-500 * torch.rand(10000, generator=generator) for _ in range(2)]
    reference = [x + spread * torch.randn(10000, generator=generator) for x in policy]
    options = {"beta": beta, "label_smoothing": label_smoothing}
    exact = dpo_per_pair(*(x.double() for x in policy + reference), **options)
    scale = sum(beta * (x.double() - y).abs() for x, y in zip(policy, reference, strict=True)) + 1
    assert ((dpo_per_pair(*policy, *reference, **options) - exact).abs() <= 8 * 2.0**-24 * scale).all()


# -- robust DPO and IPO -----------------------------------------------------------------------------------------------

LENGTHS = {
    "log_ratio": "mean",
    "chosen_lengths": torch.tensor([1, 2, 3, 40, 5]),
    "rejected_lengths": torch.tensor([7.0, 1.0, 2.0, 3.0, 1000.0]),
}
VARIANTS = [
    (robust_dpo_loss, robust_dpo_per_pair, {"flip_probability": 0.2}),
    (robust_dpo_loss, robust_dpo_per_pair, {"flip_probability": 0.0, "beta": 2.0}),
    (ipo_loss, ipo_per_pair, {}),
    (ipo_loss, ipo_per_pair, {"beta": 0.5, **LENGTHS}),
]
IDS = ["robust", "robust, no flips", "ipo", "ipo, mean"]


def log_loss(margin):
    """−log σ(m) and its derivative, in plain floats."""
    value = math.log1p(math.exp(-abs(margin))) + max(-margin, 0)
    return value, -1 / (1 + math.exp(margin))


@pytest.mark.parametrize("flip_probability", [0.0, 0.1, 0.45])
@pytest.mark.parametrize("seed", range(3))
def test_robust_dpo_pair_by_pair(flip_probability, seed):
    inputs = [x.requires_grad_() for x in pairs(seed, torch.float64)]
    losses = robust_dpo_per_pair(*inputs, beta=0.3, flip_probability=flip_probability)
    slopes = torch.autograd.grad(losses.sum(), inputs[:2])
    for i in range(5):
        chosen, rejected, ref_chosen, ref_rejected = (x[i].item() for x in inputs)
        margin = 0.3 * (chosen - ref_chosen - rejected + ref_rejected)
        (right, right_slope), (wrong, wrong_slope) = log_loss(margin), log_loss(-margin)
        whole = 1 - 2 * flip_probability
        loss = ((1 - flip_probability) * right - flip_probability * wrong) / whole
        slope = ((1 - flip_probability) * right_slope + flip_probability * wrong_slope) / whole
        assert losses[i].item() == pytest.approx(loss)
        assert [side[i].item() for side in slopes] == pytest.approx([0.3 * slope, -0.3 * slope])


def test_robust_dpo_is_in_expectation_over_flipped_labels_the_loss_of_the_true_ones():
    chosen, rejected, ref_chosen, ref_rejected = pairs(dtype=torch.float64)
    options = {"beta": 0.7, "flip_probability": 0.3}
    labelled = robust_dpo_per_pair(chosen, rejected, ref_chosen, ref_rejected, **options)
    flipped = robust_dpo_per_pair(rejected, chosen, ref_rejected, ref_chosen, **options)
    clean = dpo_per_pair(chosen, rejected, ref_chosen, ref_rejected, beta=0.7)
    torch.testing.assert_close(0.7 * labelled + 0.3 * flipped, clean)


@pytest.mark.parametrize("options", [{}, LENGTHS], ids=["sum", "mean"])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_ipo_pair_by_pair(options, beta):
    inputs = [x.requires_grad_() for x in pairs(dtype=torch.float64)]
    losses = ipo_per_pair(*inputs, beta=beta, **options)
    slopes = torch.autograd.grad(losses.sum(), inputs[:2])
    for i in range(5):
        chosen, rejected, ref_chosen, ref_rejected = (x[i].item() for x in inputs)
        n_chosen, n_rejected = (options[name][i].item() if options else 1 for name in list(LENGTHS)[1:])
        gap = (chosen - ref_chosen) / n_chosen - (rejected - ref_rejected) / n_rejected - 1 / (2 * beta)
        assert losses[i].item() == pytest.approx(gap * gap)
        assert [side[i].item() for side in slopes] == pytest.approx([2 * gap / n_chosen, -2 * gap / n_rejected])


def test_ipo_is_least_where_the_difference_of_log_ratios_is_half_of_one_over_beta():
    chosen, zero = torch.tensor([5.0], requires_grad=True), torch.zeros(1)
    loss = ipo_per_pair(chosen, zero, zero, zero, beta=0.1)
    loss.sum().backward()
    assert loss.item() == chosen.grad.item() == 0


@pytest.mark.parametrize(("loss", "per_pair", "options"), VARIANTS, ids=IDS)
def test_loss_of_a_variant_is_the_mean_of_its_terms_and_adds_up_over_micro_batches(loss, per_pair, options):
    inputs = pairs(dtype=torch.float64)
    output = loss(*inputs, **options)
    torch.testing.assert_close(output.per_pair, per_pair(*inputs, **options))
    torch.testing.assert_close(output.loss, output.per_pair.mean())
    parts = []
    for rows in (slice(0, 1), slice(1, 5)):
        own = {name: x[rows] if isinstance(x, torch.Tensor) else x for name, x in options.items()}
        parts.append(loss(*(x[rows] for x in inputs), **own, denominator=5).loss)
    torch.testing.assert_close(sum(parts), output.loss)


def test_metrics_of_the_variants_are_those_of_dpo():
    inputs = pairs()
    expected = dpo_loss(*inputs, beta=0.3).metrics
    assert robust_dpo_loss(*inputs, beta=0.3, flip_probability=0.2).metrics == expected
    assert ipo_loss(*inputs, beta=0.3).metrics == expected


def test_metrics_of_ipo_by_length_by_hand():
    zero = torch.zeros(2)
    lengths = {"chosen_lengths": torch.tensor([4, 1]), "rejected_lengths": torch.tensor([2, 1])}
    output = ipo_loss(torch.tensor([8.0, 0.0]), torch.tensor([2.0, 2.0]), zero, zero, log_ratio="mean", **lengths)
    assert {name: metric.item() for name, metric in output.metrics.items()} == pytest.approx(
        {"accuracy": 1 / 2, "margin": -0.05, "chosen_reward": 0.1, "rejected_reward": 0.15}
    )


@pytest.mark.parametrize(("loss", "per_pair", "options"), VARIANTS, ids=IDS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [200.0, 1e30, LARGEST, math.inf])
def test_gradients_of_the_variants_are_finite_for_every_log_ratio(loss, per_pair, options, sign, size):
    chosen, rejected = (torch.full((5,), s * sign * size, requires_grad=True) for s in (1, -1))
    output = loss(chosen, rejected, -chosen.detach(), -rejected.detach(), **options)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(metric.isfinite() for metric in output.metrics.values())
    assert chosen.grad.isfinite().all()
    assert rejected.grad.isfinite().all()
    if per_pair is ipo_per_pair:  # its slope has no limit, and pulls back from either side
        assert (sign * chosen.grad > 0).all()
        assert (sign * rejected.grad < 0).all()


def test_robust_dpo_far_out_has_the_slopes_of_its_asymptotes():
    for margin, slope in ((200.0, -0.25), (-200.0, -1.25)):
        chosen, zero = torch.tensor([margin], requires_grad=True), torch.zeros(1)
        loss = robust_dpo_per_pair(chosen, zero, zero, zero, beta=1.0, flip_probability=1 / 6)
        loss.sum().backward()
        assert loss.item() == pytest.approx(slope * margin)
        assert chosen.grad.item() == pytest.approx(slope)


def far_pairs(spread):
    generator = torch.Generator().manual_seed(0)
    policy = [-500 * torch.rand(10000, generator=generator) for _ in range(2)]
    return policy, [x + spread * torch.randn(10000, generator=generator) for x in policy]


@pytest.mark.parametrize("spread", [0.1, 30.0, 300.0])
@pytest.mark.parametrize(("beta", "flip_probability"), [(0.1, 0.0), (0.1, 0.2), (5.0, 0.49)])
def test_documented_bound_of_robust_dpo_between_precisions(spread, beta, flip_probability):
    policy, reference = far_pairs(spread)
    options = {"beta": beta, "flip_probability": flip_probability}
    exact = robust_dpo_per_pair(*(x.double() for x in policy + reference), **options)
    scale = sum(beta * (x.double() - y).abs() for x, y in zip(policy, reference, strict=True)) + 1
    bound = 8 * 2.0**-24 * scale / (1 - 2 * flip_probability)
    assert ((robust_dpo_per_pair(*policy, *reference, **options) - exact).abs() <= bound).all()


@pytest.mark.parametrize("spread", [0.1, 30.0, 300.0])
@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
@pytest.mark.parametrize("log_ratio", ["sum", "mean"])
def test_documented_bound_of_ipo_between_precisions(spread, beta, log_ratio):
    policy, reference = far_pairs(spread)
    lengths = [torch.randint(1, 900, (10000,), generator=torch.Generator().manual_seed(i)) for i in range(2)]
    options = {"beta": beta}
    if log_ratio == "mean":
        options |= {"log_ratio": "mean", "chosen_lengths": lengths[0], "rejected_lengths": lengths[1]}
    else:
        lengths = [1, 1]
    exact = ipo_per_pair(*(x.double() for x in policy + reference), **options)
    sizes = [(x.double() - y).abs() / n for x, y, n in zip(policy, reference, lengths, strict=True)]
    bound = 8 * 2.0**-24 * (sum(sizes) + 1 / (2 * beta)) ** 2
    assert ((ipo_per_pair(*policy, *reference, **options) - exact).abs() <= bound).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("response", [0, 1])
@pytest.mark.parametrize("flip_probability", [None, 0.49, 0.5 - 1e-10])
def test_a_margin_beyond_the_range_saturates(flip_probability, response, sign):
    """β(l_w − l_l) overflows in fp32, though neither factor does; with labels nearly random, so does the loss."""
    options = {} if flip_probability is None else {"flip_probability": flip_probability}
    logps = [torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)]
    logps[response] = torch.tensor([sign * 1e30], requires_grad=True)
    loss_of = dpo_loss if flip_probability is None else robust_dpo_loss
    out = loss_of(*logps, torch.zeros(1), torch.zeros(1), beta=1e10, **options)
    out.loss.backward()
    assert out.per_pair.isfinite().all()
    assert all(x.grad.isfinite().all() for x in logps)
    assert all(value.isfinite() for value in out.metrics.values())
    assert out.metrics["margin"] * sign * (-1) ** response > 1e30


@pytest.mark.parametrize("loss_of", [dpo_loss, partial(robust_dpo_loss, flip_probability=0.1), ipo_loss])
def test_a_denominator_that_is_none_is_refused(loss_of):
    with pytest.raises(ValueError, match="denominator: got -1"):
        loss_of(*[torch.zeros(2)] * 4, denominator=-1)

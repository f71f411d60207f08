"""DPO: values at the reference and far from it, smoothing, and inputs at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import dpo_loss, dpo_per_pair

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
    chosen, rejected = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 4.0, 0.0])
    zero = torch.zeros(3)
    output = dpo_loss(chosen, rejected, zero, zero, beta=0.5)
    assert {name: metric.item() for name, metric in output.metrics.items()} == pytest.approx(
        {"accuracy": 1 / 3, "margin": -1 / 3, "chosen_reward": 1 / 3, "rejected_reward": 2 / 3}
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    inputs = [x.to(dtype).requires_grad_() for x in pairs()]
    output = dpo_loss(*inputs)
    output.loss.backward()
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert output.loss.dtype == output.per_pair.dtype == expected
    assert {metric.dtype for metric in output.metrics.values()} == {expected}
    assert inputs[0].grad.dtype == dtype
    wide = dpo_per_pair(*(x.detach().to(expected) for x in inputs))
    assert torch.equal(output.per_pair, wide)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_gradcheck(label_smoothing):
    inputs = [x.requires_grad_() for x in pairs(dtype=torch.float64)]
    references = [x.detach() for x in inputs[2:]]
    assert torch.autograd.gradcheck(
        lambda chosen, rejected: dpo_per_pair(chosen, rejected, *references, label_smoothing=label_smoothing),
        inputs[:2],
    )


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


def test_strided_inputs_give_the_same_and_stay_untouched():
    inputs = pairs()
    strided = [torch.stack([x, x], dim=1)[:, 0] for x in inputs]
    before = [x.clone() for x in strided]
    assert torch.equal(dpo_per_pair(*strided), dpo_per_pair(*inputs))
    assert all(torch.equal(x, copy) for x, copy in zip(strided, before, strict=True))


def test_compiled():
    inputs = [x.requires_grad_() for x in pairs()]
    compiled = torch.compile(dpo_loss, fullgraph=True, backend="aot_eager")
    for options in ({}, {"beta": 0.3, "label_smoothing": 0.1, "denominator": 9}):
        eager, other = (loss(*inputs, **options) for loss in (dpo_loss, compiled))
        assert torch.equal(eager.loss, other.loss)
        assert eager.metrics == other.metrics
        gradients = [torch.autograd.grad(output.loss, inputs[0])[0] for output in (eager, other)]
        assert torch.equal(*gradients)

"""Log-probabilities and entropies on distributions known by hand, and the bounds of the docstrings."""

import math

import pytest
import torch

from grape_verified import token_entropies, token_logps

UNIT_ROUNDOFF = 2.0**-24
TARGETS = torch.tensor([0, 1])
# Probabilities 1/2, 1/4, 1/4 in both rows, the second row with an offset that must not matter.
HALVES = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]], dtype=torch.float64).log() + torch.tensor([[0.0], [8.0]])


def exact_distribution(logits, temperature):
    """log π in fp64 from logits of fp32: what both bounds are measured against."""
    return torch.log_softmax(logits.double() / temperature, -1)


def cases():
    generator = torch.Generator().manual_seed(0)
    for vocab in (2, 7, 1000, 20000):
        noise = torch.randn(64, vocab, generator=generator)
        peak = torch.zeros(64, vocab)
        peak[:, 0] = 12
        flat_tail = torch.full((64, vocab), -math.log(vocab))
        flat_tail[:, 0] = torch.linspace(-2, 2, 64)
        named = {"small": noise * 0.1, "normal": noise, "wide": noise * 10, "offset": noise * 3 + 1000}
        for name, logits in {**named, "peaked": noise + peak, "flat tail": flat_tail}.items():
            yield pytest.param(logits, id=f"{name}-{vocab}")


def test_log_probabilities_by_hand():
    expected = torch.tensor([-math.log(2), -math.log(4)], dtype=torch.float64)
    torch.testing.assert_close(token_logps(HALVES, TARGETS), expected)


def test_entropy_by_hand():
    torch.testing.assert_close(token_entropies(HALVES), torch.full((2,), 1.5 * math.log(2), dtype=torch.float64))


def test_uniform():
    logits = torch.full((3, 8), -7.5)
    torch.testing.assert_close(token_logps(logits, torch.tensor([0, 3, 7])), torch.full((3,), -math.log(8)))
    torch.testing.assert_close(token_entropies(logits), torch.full((3,), math.log(8)))


def test_temperature_divides_the_logits():
    torch.testing.assert_close(token_logps(HALVES * 3, TARGETS, temperature=3.0), token_logps(HALVES, TARGETS))
    torch.testing.assert_close(token_entropies(HALVES * 0.5, temperature=0.5), token_entropies(HALVES))


def test_one_token_vocabulary():
    logits = torch.tensor([[3.0], [-3.0]], requires_grad=True)
    logps, entropies = (token_logps(logits, torch.zeros(2, dtype=torch.long)), token_entropies(logits))
    (logps + entropies).sum().backward()
    assert logps.tolist() == entropies.tolist() == [0, 0]
    assert logits.grad.tolist() == [[0], [0]]


def test_gradient_by_hand():
    logits = HALVES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(token_logps(logits, TARGETS, temperature=2.0).sum(), logits)
    two = torch.sqrt(torch.tensor(2.0, dtype=torch.float64))
    first, rest = two / (2 + two), 1 / (2 + two)  # √½ : ½ : ½, normalised
    expected = torch.stack([torch.stack([1 - first, -rest, -rest]), torch.stack([-first, 1 - rest, -rest])]) / 2
    torch.testing.assert_close(gradient, expected)


def test_forbidden_tokens():
    logits = torch.tensor([[0.0, 0.0, -math.inf], [-math.inf, 5.0, -math.inf]], requires_grad=True)
    logps, entropies = (token_logps(logits, torch.tensor([1, 1])), token_entropies(logits))
    (gradient,) = torch.autograd.grad(logps.sum() + entropies.sum(), logits)
    torch.testing.assert_close(logps, torch.tensor([-math.log(2), 0.0]))
    torch.testing.assert_close(entropies, torch.tensor([math.log(2), 0.0]))
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]))


def test_a_forbidden_target_has_log_probability_minus_infinity_and_a_finite_gradient():
    logits = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    logps = token_logps(logits, torch.tensor([2]))
    (gradient,) = torch.autograd.grad(logps.sum(), logits)
    assert logps.item() == -math.inf
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, -0.5, 1.0]]))


def test_a_position_without_a_distribution_is_nan():
    for bad in (-math.inf, math.inf, math.nan):
        logits = torch.full((1, 4), bad)
        assert token_logps(logits, torch.tensor([0])).isnan().all()
        assert token_entropies(logits).isnan().all()


def test_a_confident_token_keeps_its_relative_accuracy():
    logits = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=True)
    logps = token_logps(logits, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(logps.sum(), logits)
    assert logps.item() == pytest.approx(-2 * math.exp(-30), rel=1e-5)
    assert gradient[0].tolist() == pytest.approx([2 * math.exp(-30), -math.exp(-30), -math.exp(-30)], rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("logits", list(cases()))
def test_documented_bounds(logits, temperature):
    logits = logits.clone().requires_grad_()
    targets = torch.arange(len(logits)) % logits.shape[1]
    logp = exact_distribution(logits.detach(), temperature)
    chosen, p = logp.gather(-1, targets[:, None])[:, 0], logp.exp()
    entropy = -(p * logp).sum(-1, keepdim=True)

    result = token_logps(logits, targets, temperature=temperature)
    error = (result.double() - chosen).abs()
    assert (error <= 4 * UNIT_ROUNDOFF * (chosen.abs() + entropy[:, 0] + 1)).all()
    (gradient,) = torch.autograd.grad(result.sum(), logits)
    slope = (torch.nn.functional.one_hot(targets, logits.shape[1]) - p) / temperature
    assert ((gradient.double() - slope).abs() <= 4 * UNIT_ROUNDOFF * (entropy + 1) / temperature).all()

    result = token_entropies(logits, temperature=temperature)
    error = (result.double() - entropy[:, 0]).abs()
    spread = (p * logp.abs() * (logp + entropy).abs()).sum(-1, keepdim=True)
    assert (error <= 4 * UNIT_ROUNDOFF * (1 + entropy + spread)[:, 0]).all()
    (gradient,) = torch.autograd.grad(result.sum(), logits)
    slope = -p * (logp + entropy) / temperature
    bound = 4 * UNIT_ROUNDOFF * p * ((1 + entropy + logp.abs()) ** 2 + spread) / temperature
    assert ((gradient.double() - slope).abs() <= bound + torch.finfo(torch.float32).tiny).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients_of_both_orders(temperature):
    logits = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([[0, 1, 2], [3, 4, 0]])
    for function in (
        lambda z: token_logps(z, targets, temperature=temperature),
        lambda z: token_entropies(z, temperature=temperature),
    ):
        assert torch.autograd.gradcheck(function, logits)
        assert torch.autograd.gradgradcheck(function, logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("target_dtype", [torch.int64, torch.int32, torch.uint8])
def test_dtypes(dtype, target_dtype):
    logits = torch.tensor([[0.5, 3.0, -2.0]], dtype=dtype, requires_grad=True)
    wide = logits.detach().to(torch.float64 if dtype == torch.float64 else torch.float32)
    targets = torch.tensor([1], dtype=target_dtype)
    for result, expected in (
        (token_logps(logits, targets), token_logps(wide, targets)),
        (token_entropies(logits), token_entropies(wide)),
    ):
        assert torch.equal(result, expected)
        assert result.dtype == wide.dtype
        assert torch.autograd.grad(result.sum(), logits)[0].dtype == dtype


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 2)])
def test_any_leading_shape(shape):
    logits, targets = torch.zeros(*shape, 5), torch.zeros(shape, dtype=torch.long)
    assert token_logps(logits, targets).shape == shape
    assert token_entropies(logits).shape == shape


def test_strided_inputs_give_the_same_and_stay_untouched():
    logits = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(12).view(3, 4) % 6
    strided, strided_targets = (logits.permute(2, 0, 1).contiguous().permute(1, 2, 0), targets.T.contiguous().T)
    assert torch.equal(token_logps(strided, strided_targets), token_logps(logits, targets))
    assert torch.equal(token_entropies(strided), token_entropies(logits))
    assert torch.equal(strided, logits)
    assert torch.equal(strided_targets, targets)


def test_compiled():
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([0, 5, 2])
    for function in (lambda z: token_logps(z, targets, temperature=0.7), lambda z: token_entropies(z, temperature=0.7)):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(logits), function(logits))
        for result in (compiled(logits), function(logits)):
            result.sum().backward()
    assert logits.grad.isfinite().all()

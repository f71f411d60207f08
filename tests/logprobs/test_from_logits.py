"""Log-probabilities and entropies on distributions known by hand, and the bounds of the docstrings."""

import math

import pytest
import torch

from grape_verified import token_entropies, token_logps
from grape_verified.logprobs import from_logits

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
    one_infinite, one_nan = (torch.tensor([[0.0, bad, 0.0, 0.0]]) for bad in (math.inf, math.nan))
    for logits in (*(torch.full((1, 4), bad) for bad in (-math.inf, math.inf, math.nan)), one_infinite, one_nan):
        assert all(token_logps(logits, torch.tensor([y])).isnan() for y in range(4))
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
        torch.testing.assert_close(compiled(logits), function(logits), rtol=8 * UNIT_ROUNDOFF, atol=0)
        for result in (compiled(logits), function(logits)):
            result.sum().backward()
    assert logits.grad.isfinite().all()


def test_compiled_by_default_without_a_python_loop():
    logits = torch.randn(40, 3000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.arange(40)
    for function in (lambda z: token_logps(z, targets, temperature=0.7), lambda z: token_entropies(z, temperature=0.7)):
        results = [f(logits) for f in (torch.compile(function, fullgraph=True, dynamic=False), function)]
        gradients = [torch.autograd.grad(result.sum(), logits)[0] for result in results]
        torch.testing.assert_close(*results, rtol=32 * UNIT_ROUNDOFF, atol=32 * UNIT_ROUNDOFF)
        torch.testing.assert_close(*gradients, rtol=64 * UNIT_ROUNDOFF, atol=4 * UNIT_ROUNDOFF)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """This many threads, independently of other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def results_and_gradients(logits, targets, weights):
    """Of both functions, each row's gradient with an upstream gradient of its own."""
    logits = logits.clone().requires_grad_()
    results = token_logps(logits, targets, temperature=0.7), token_entropies(logits, temperature=0.7)
    return [*(x.detach() for x in results), *(torch.autograd.grad((weights * x).sum(), logits)[0] for x in results)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("vocab", [1, 5, 997, 40001])
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype, vocab, threads, monkeypatch):
    monkeypatch.setattr(from_logits, "TILE", 2**18)
    generator = torch.Generator().manual_seed(0)
    rows = 23 if vocab > 1000 else 700
    logits = (torch.randn(rows, vocab, generator=generator) * 4).to(dtype)
    targets, weights = torch.randint(vocab, (rows,), generator=generator), torch.randn(rows, generator=generator)
    together = results_and_gradients(logits, targets, weights)
    parts = [
        torch.randperm(rows, generator=generator),
        *(torch.arange(k, k + 1) for k in range(9)),
        torch.arange(3, 16),
    ]
    for rows_of_part in parts:
        apart = results_and_gradients(logits[rows_of_part], targets[rows_of_part], weights[rows_of_part])
        assert all(torch.equal(x, y[rows_of_part]) for x, y in zip(apart, together, strict=True))


@pytest.mark.parametrize("function", [lambda z: token_logps(z, torch.arange(len(z))), token_entropies])
def test_rows_without_upstream_gradient_are_zero_whatever_they_hold(function, monkeypatch):
    monkeypatch.setattr(from_logits, "TILE", 2**10)  # five rows: some blocks without any gradient, some with a part
    logits = torch.randn(40, 200, generator=torch.Generator().manual_seed(0))
    upstream = torch.zeros(40)
    upstream[[3, 17, 18, 39]] = torch.tensor([1.0, -2.0, 0.5, 3.0])
    (expected,) = torch.autograd.grad(function(leaf := logits.clone().requires_grad_()), leaf, upstream)
    logits[upstream == 0] = math.nan
    (gradient,) = torch.autograd.grad(function(leaf := logits.requires_grad_()), leaf, upstream)
    assert torch.equal(gradient, expected)
    assert gradient[upstream != 0].ne(0).all()
    (none,) = torch.autograd.grad(function(leaf), leaf, torch.zeros(40))
    assert none.eq(0).all()


@pytest.mark.parametrize("form", ["shifted", "time first", "expanded", "every other token", "columns first"])
def test_layouts_in_blocks(form, monkeypatch):
    monkeypatch.setattr(from_logits, "TILE", 2**10)
    x = torch.randn(6, 7, 200, generator=torch.Generator().manual_seed(0))
    logits = {
        "shifted": lambda: x[:, :-1],
        "time first": lambda: x.transpose(0, 1),
        "expanded": lambda: x[:, None].expand(-1, 3, -1, -1),
        "every other token": lambda: x[..., ::2],
        "columns first": lambda: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    }[form]().requires_grad_()
    plain = logits.detach().contiguous().requires_grad_()
    targets = torch.arange(plain[..., 0].numel()).view(plain.shape[:-1]) % plain.shape[-1]
    for function in (lambda z: token_logps(z, targets), token_entropies):
        results = [function(z) for z in (logits, plain)]
        assert torch.equal(*results)
        weights = torch.randn(results[0].shape, generator=torch.Generator().manual_seed(1))
        gradients = [torch.autograd.grad(y, z, weights)[0] for y, z in zip(results, (logits, plain), strict=True)]
        assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "function",
    [lambda z: token_logps(z, torch.tensor([0, 4, 2]), temperature=0.7), lambda z: token_entropies(z, temperature=0.7)],
)
def test_vmap(function):
    """What a loop gives, forward and backward, whichever dimension is mapped."""

    def gradient(z):
        return torch.func.grad(lambda z: function(z).square().sum())(z)

    logits = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for of_one in (function, gradient):
        looped = torch.stack([torch.stack([of_one(z) for z in some]) for some in logits])
        torch.testing.assert_close(torch.vmap(torch.vmap(of_one))(logits), looped)
        torch.testing.assert_close(torch.vmap(of_one, in_dims=1)(logits[0].transpose(0, 1)), looped[0])


def test_many_upstream_gradients_at_once():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for function in (lambda z: token_logps(z, torch.tensor([0, 4, 2])), token_entropies):
        result = function(logits)
        (batched,) = torch.autograd.grad(result, logits, torch.eye(3), is_grads_batched=True, retain_graph=True)
        torch.testing.assert_close(batched.sum(1), torch.autograd.grad(result.sum(), logits)[0])
        with torch.no_grad():
            torch.testing.assert_close(torch.func.jacrev(function)(logits.detach()), batched)


@pytest.mark.parametrize("rows", [slice(None), slice(1, None)])
def test_no_second_buffer_of_the_size_of_the_logits(rows):
    """Above the logits, forward and backward allocate the gradient, a tile or two, and little more."""
    logits = torch.randn(8, 9, 2**16, dtype=torch.bfloat16)[:, rows].requires_grad_()
    targets = torch.arange(logits[..., 0].numel()).view(logits.shape[:2])
    for function in (lambda z: token_logps(z, targets), token_entropies):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            torch.autograd.grad(function(logits).sum(), logits)
        held, highest = 0, 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                highest = max(highest, held)
        assert highest <= logits.nbytes + 2 * from_logits.TILE * 4 + 2**16

"""Saturating functions: finite for every float, and never a slope cut to zero."""

import math

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from grape_verified.numerics import (
    SMALL,
    bounded,
    compute_dtype,
    difference,
    exp_,
    exp_limit,
    is_traced,
    log_softmax,
    only,
    select,
    value_limit,
    with_values_,
)

DTYPES = [torch.float32, torch.float64]


def every_kind_of_float(dtype):
    largest = torch.finfo(dtype).max
    values = [0.0, 1.0, -1.0, 80.0, 200.0, -200.0, 1e4, -1e4, largest, -largest, math.inf, -math.inf]
    return torch.tensor([*values, exp_limit(dtype)], dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([torch.float16], torch.float32),
        ([torch.bfloat16], torch.float32),
        ([torch.float32], torch.float32),
        ([torch.float64], torch.float64),
        ([torch.bfloat16, torch.float64], torch.float64),
    ],
)
def test_compute_dtype(dtypes, expected):
    assert compute_dtype(*(torch.zeros(1, dtype=dtype) for dtype in dtypes)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_saturate_where_the_docstrings_say(dtype):
    assert value_limit(dtype) == torch.finfo(dtype).max * 2.0**-24


def exponent(x):
    """x as it may be exponentiated."""
    return difference(x, torch.zeros_like(x), exponent=1)


def saturating_exp(x):
    return exponent(x).exp()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exponential_of_a_difference_is_finite_and_its_own_derivative(dtype):
    x = every_kind_of_float(dtype)
    y = saturating_exp(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert torch.equal(slope, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exponential_of_a_difference_is_exp_up_to_its_limit(dtype):
    x = torch.linspace(-100, exp_limit(dtype), 1001, dtype=dtype)
    assert torch.equal(saturating_exp(x), x.exp())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_difference_is_held_within_its_limits_with_slope_one(dtype):
    x = every_kind_of_float(dtype)
    y = exponent(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(y, x.clamp(-value_limit(dtype), exp_limit(dtype)))
    assert torch.equal(slope, torch.ones_like(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturated_values_add_up_to_a_finite_number(dtype):
    saturated = saturating_exp(torch.tensor(math.inf, dtype=dtype))
    assert saturated.item() == pytest.approx(value_limit(dtype), rel=1e-4)
    assert (saturated * 2.0**23).isfinite()


@pytest.mark.parametrize("size", [4, SMALL // 7 + 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_does_not_count_is_0_with_slope_0_whatever_it_holds(dtype, size):
    block = torch.tensor([math.nan, math.inf, -math.inf, 2.0, math.nan, -3.0, 1e-40], dtype=dtype)
    x = block.repeat(size).requires_grad_()
    counted = torch.tensor([False, False, False, False, True, True, True]).repeat(size)
    y = only(x, counted)
    assert torch.equal(y.detach().nan_to_num(7.0), torch.tensor([0, 0, 0, 0, 7, -3, 1e-40], dtype=dtype).repeat(size))
    (slope,) = torch.autograd.grad(y, x, torch.full_like(x, 0.5))
    assert torch.equal(slope, 0.5 * counted.to(dtype))


def compiled(function):
    return torch.compile(function, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("size", [4, 2 * SMALL])
def test_what_does_not_count_has_slope_0_in_forward_mode(size):
    counted = torch.arange(size) % 2 == 0
    tangent = torch.arange(size, dtype=torch.float64)
    _, slope = torch.func.jvp(lambda x: only(x, counted), (torch.ones(size, dtype=torch.float64),), (tangent,))
    assert torch.equal(slope, tangent * counted)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(only(forward_ad.make_dual(torch.ones_like(tangent), tangent), counted)).tangent
    assert torch.equal(slope, tangent * counted)


@pytest.mark.parametrize("run", [lambda f: f, compiled])
def test_one_of_two_is_selected(run):
    x, y = torch.tensor([0.1, 1e30, -3.0]), torch.tensor([1e30, 0.1, 7.0])
    condition = torch.tensor([True, False, False])
    assert torch.equal(run(select)(condition, x, y), torch.where(condition, x, y))


@pytest.mark.parametrize("run", [lambda f: f, compiled])
def test_other_values_keep_the_derivative(run):
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    y = run(lambda x: with_values_(x * 3, lambda x: 2 * x - 1))(x)
    (slope,) = torch.autograd.grad(y.square().sum(), x)
    assert y.tolist() == [5, 11]
    assert slope.tolist() == [30, 66]


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounded_keeps_slope_one_everywhere(dtype):
    x = every_kind_of_float(dtype)
    y = bounded(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert y.abs().max() == value_limit(dtype)
    assert torch.equal(slope, torch.ones_like(x))


@pytest.mark.parametrize("function", [bounded, saturating_exp, exponent])
class TestEach:
    def test_nan_stays_nan(self, function):
        assert function(torch.tensor([math.nan, 0.0])).isnan().tolist() == [True, False]

    def test_gradients_of_both_orders(self, function):
        x = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)

    def test_compiled(self, function):
        x = every_kind_of_float(torch.float32)
        run = compiled(function)
        assert torch.equal(run(x), function(x))
        assert torch.equal(torch.autograd.grad(run(x).sum(), x)[0], torch.autograd.grad(function(x).sum(), x)[0])

    def test_forward_mode(self, function):
        """By torch.func and by dual numbers, where the function saturates too."""
        x = every_kind_of_float(torch.float32).detach()
        slopes = torch.func.vmap(torch.func.grad(function))(x)
        assert torch.equal(torch.func.jvp(function, (x,), (torch.ones_like(x),))[1], slopes)
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
        assert torch.equal(tangent, slopes)

    def test_function_transforms(self, function):
        x = every_kind_of_float(torch.float32)
        slopes = torch.func.vmap(torch.func.grad(function))(x.detach())
        assert torch.equal(slopes, torch.autograd.grad(function(x).sum(), x)[0])


def test_the_exponential_in_place_keeps_its_bound():
    x = torch.linspace(-87, 88, 100_001)
    expected = x.double().exp()
    error = (exp_(x.clone()).double() - expected).abs() / expected
    assert (error <= 2.0**-24 * (2 * x.abs() + 3)).all()
    assert exp_(torch.tensor([-math.inf, -1e38, 0.0])).tolist() == [0, 0, 1]
    assert exp_(torch.tensor([math.nan])).isnan()


def test_the_exponential_in_place_in_fp64_is_that_of_torch_at_every_position():
    x = torch.linspace(-700, 700, 1001, dtype=torch.float64)
    assert torch.equal(exp_(x.clone()), x.exp())
    assert torch.equal(torch.cat([exp_(x[i : i + 1].clone()) for i in range(len(x))]), x.exp())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_log_softmax_of_a_temperature(temperature):
    logits = torch.tensor([[0.0, 1.0, -2.0], [3.0, 3.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    found, expected = log_softmax(logits, temperature), (logits / temperature).log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.25, 1.0, 0.0]], dtype=torch.float64)
    slopes = [torch.autograd.grad(x.where(weights != 0, 0), logits, weights)[0] for x in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "record", [make_fx, lambda function: lambda x: torch.jit.trace(function, x, check_trace=False)]
)
def test_what_is_recorded_is_known(record):
    seen = []

    def function(x):
        seen.append(is_traced())
        return x + 1

    record(function)(torch.ones(2))
    assert all(seen)
    assert seen
    assert not is_traced()


@pytest.mark.parametrize(
    "record", [make_fx, lambda function: lambda x: torch.jit.trace(function, x, check_trace=False)]
)
def test_a_recording_of_other_values_keeps_their_own_derivative(record):
    """It cannot hold a derivative that differs from that of the values."""
    x = torch.tensor([-2.0, 0.5], requires_grad=True)
    recorded = record(lambda x: with_values_(x.clone(), lambda y: y * 3))(torch.ones(2))
    assert recorded(x).tolist() == [-6, 1.5]
    assert torch.autograd.grad(recorded(x).sum(), x)[0].tolist() == [3, 3]

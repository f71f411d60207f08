"""KL divergence and its estimators: by hand, by enumeration of a vocabulary, and at the edge of the floats."""

import math

import pytest
import torch

from grape_verified import categorical_kl, kl_estimate, token_logps

LARGEST = torch.finfo(torch.float32).max
UNIT_ROUNDOFF = 2.0**-24
LOG2 = math.log(2)
ESTIMATORS = ["k1", "k2", "k3"]


def estimate_at(log_ratio, estimator):
    """Estimate for one token at a given logp − ref_logp, and its slope in logp, in fp64."""
    logps = torch.tensor([[log_ratio - 1]], dtype=torch.float64, requires_grad=True)
    result = kl_estimate(logps, torch.full((1, 1), -1.0), estimator)
    return result.item(), torch.autograd.grad(result.sum(), logps)[0].item()


@pytest.mark.parametrize(
    ("log_ratio", "estimator", "expected", "slope"),
    [
        (LOG2, "k1", LOG2, 1),
        (-LOG2, "k1", -LOG2, 1),
        (LOG2, "k2", LOG2**2 / 2, LOG2),
        (-LOG2, "k2", LOG2**2 / 2, -LOG2),
        (LOG2, "k3", 1 / 2 - 1 + LOG2, 1 - 1 / 2),
        (-LOG2, "k3", 2 - 1 - LOG2, 1 - 2),
        (0.0, "k1", 0, 1),
        (0.0, "k2", 0, 0),
        (0.0, "k3", 0, 0),
        (30.0, "k3", 29, 1),
        (-30.0, "k3", math.exp(30) - 31, 1 - math.exp(30)),
    ],
)
def test_estimators_by_hand(log_ratio, estimator, expected, slope):
    assert estimate_at(log_ratio, estimator) == pytest.approx((expected, slope), rel=1e-12)


def test_k3_is_the_default():
    logps, ref_logps = torch.tensor([[-1.0, -3.0]]), torch.tensor([[-2.0, -0.5]])
    assert torch.equal(kl_estimate(logps, ref_logps), kl_estimate(logps, ref_logps, "k3"))


def every_token_as_a_sample(logits, ref_logits, estimator):
    """The estimate at each token of the vocabulary, and the probability of each, a constant."""
    tokens = torch.arange(len(logits))
    logps, ref_logps = (token_logps(z.expand(len(tokens), -1), tokens).unsqueeze(1) for z in (logits, ref_logits))
    return kl_estimate(logps, ref_logps, estimator)[:, 0], logps.detach().exp()[:, 0], logps[:, 0]


def distributions():
    logits = torch.tensor([0.3, -1.2, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    ref_logits = torch.tensor([1.0, 0.5, -0.7, 0.2], dtype=torch.float64)
    return logits, ref_logits


def gradient_of_kl(logits, ref_logits, *, forward):
    """∇KL(π‖ref), or with `forward` ∇KL(ref‖π), in the logits of π, written out entry by entry."""
    p, q = ([math.exp(z) / sum(map(math.exp, zs)) for z in zs] for zs in (logits.tolist(), ref_logits.tolist()))
    if forward:
        return torch.tensor([a - b for a, b in zip(p, q, strict=True)], dtype=torch.float64)
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return torch.tensor([a * (math.log(a / b) - kl) for a, b in zip(p, q, strict=True)], dtype=torch.float64)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_expected_estimate_is_the_divergence(estimator):
    logits, ref_logits = distributions()
    estimates, weights, _ = every_token_as_a_sample(logits, ref_logits, estimator)
    torch.testing.assert_close((weights * estimates).sum(), categorical_kl(logits, ref_logits))


def test_the_expected_gradient_of_an_estimate_in_a_loss():
    logits, ref_logits = distributions()
    reverse, forward = (gradient_of_kl(logits, ref_logits, forward=side) for side in (False, True))
    for estimator, expected in (("k1", 0 * reverse), ("k2", reverse), ("k3", forward)):
        estimates, weights, _ = every_token_as_a_sample(logits, ref_logits, estimator)
        (gradient,) = torch.autograd.grad((weights * estimates).sum(), logits)
        torch.testing.assert_close(gradient, expected)


def test_the_expected_gradient_of_an_estimate_in_the_reward():
    logits, ref_logits = distributions()
    reverse, forward = (gradient_of_kl(logits, ref_logits, forward=side) for side in (False, True))
    for estimator, expected in (("k1", reverse), ("k3", reverse - forward)):
        estimates, weights, logps = every_token_as_a_sample(logits, ref_logits, estimator)
        (gradient,) = torch.autograd.grad((weights * estimates.detach() * logps).sum(), logits)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("log_ratio", [200.0, -200.0, 1e30, -1e30, LARGEST, -LARGEST, math.inf, -math.inf])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimates_and_their_gradients_are_finite_for_every_log_ratio(log_ratio, estimator):
    logps = torch.full((2, 3), log_ratio, requires_grad=True)
    result = kl_estimate(logps, torch.zeros(2, 3), estimator)
    result.sum().backward()
    assert result.isfinite().all()
    assert logps.grad.isfinite().all()
    if estimator == "k1":
        assert (logps.grad == 1).all()
    elif log_ratio > 0:
        assert (logps.grad > 0).all()
        assert (result > 190).all()
    else:
        assert (logps.grad <= -200).all()
        assert (result > 190).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_difference_of_two_largest_floats_saturates(estimator):
    logps = torch.tensor([[LARGEST, -LARGEST]], requires_grad=True)
    result = kl_estimate(logps, torch.tensor([[-LARGEST, LARGEST]]), estimator)
    result.sum().backward()
    assert result.isfinite().all()
    assert (result.abs() > 1e25).all()
    assert logps.grad.isfinite().all()
    if estimator != "k1":
        assert logps.grad[0, 1] < -1e25


def test_k2_and_k3_are_never_negative():
    generator = torch.Generator().manual_seed(0)
    logps = -20 * torch.rand(1000, 1000, generator=generator)
    for spread in (1e-6, 1e-3, 1.0, 100.0):
        ref_logps = logps + spread * torch.randn(1000, 1000, generator=generator)
        assert (kl_estimate(logps, ref_logps, "k2") >= 0).all()
        assert (kl_estimate(logps, ref_logps, "k3") >= 0).all()


@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 20.0])
def test_documented_bounds_of_the_estimators(spread):
    generator = torch.Generator().manual_seed(0)
    logps = (-20 * torch.rand(100, 100, generator=generator)).requires_grad_()
    ref_logps = logps.detach() + spread * torch.randn(100, 100, generator=generator)
    x = ref_logps.double() - logps.detach().double()
    bounds = {
        "k1": (-x, x.abs(), torch.ones_like(x), 0 * x),
        "k2": (x * x / 2, 4 * (x * x / 2), -x, x.abs()),
        "k3": (
            x.expm1() - x,
            4 * ((x.abs() + 1) * x.expm1().abs() + x.abs()),
            -x.expm1(),
            4 * ((x.abs() + 1) * x.exp() + 1),
        ),
    }
    for estimator, (exact, bound, exact_slope, slope_bound) in bounds.items():
        result = kl_estimate(logps, ref_logps, estimator)
        (slope,) = torch.autograd.grad(result.sum(), logps)
        assert ((result - exact).abs() <= UNIT_ROUNDOFF * bound).all()
        assert ((slope - exact_slope).abs() <= UNIT_ROUNDOFF * slope_bound).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_reference_of_an_estimate_is_a_constant(estimator):
    logps, ref_logps = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    kl_estimate(logps, ref_logps, estimator).sum().backward()
    assert logps.grad is not None
    assert ref_logps.grad is None


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_of_the_estimators(dtype, estimator):
    logps, ref_logps = torch.tensor([[-1.0, -2.5]], dtype=dtype, requires_grad=True), torch.tensor([[-2.0, -2.25]])
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    result = kl_estimate(logps, ref_logps, estimator)
    result.sum().backward()
    assert torch.equal(result, kl_estimate(logps.detach().to(wide), ref_logps, estimator))
    assert result.dtype == wide
    assert logps.grad.dtype == dtype


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_of_both_orders_of_the_estimators(estimator):
    generator = torch.Generator().manual_seed(0)
    logps, ref_logps = (torch.randn(2, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    logps.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: kl_estimate(x, ref_logps, estimator), logps)
    assert torch.autograd.gradgradcheck(lambda x: kl_estimate(x, ref_logps, estimator), logps)


# The divergence over the whole vocabulary.

HALVES = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log()
THIRDS = torch.zeros(3, dtype=torch.float64)


def pairs_of_logits():
    generator = torch.Generator().manual_seed(0)
    for vocab in (2, 7, 1000, 20000):
        noise, other = (torch.randn(16, vocab, generator=generator) for _ in range(2))
        peak = torch.zeros(16, vocab)
        peak[:, 0] = 12
        named = {
            "same": (noise, noise),
            "nearly the same": (noise, noise + 1e-4 * other),
            "near": (noise, noise + 0.1 * other),
            "different": (noise, other),
            "wide": (10 * noise, 10 * other),
            "an offset apart": (3 * noise, 3 * noise + 0.01 * other + 1000),
            "peaked": (noise + peak, other + peak),
            "one peaked": (noise + peak, other),
            "the other peaked": (noise, other + peak),
        }
        for name, logits in named.items():
            yield pytest.param(*logits, id=f"{name}-{vocab}")


def test_divergence_by_hand():
    expected = 0.5 * math.log(1.5) + 0.5 * math.log(0.75)
    assert categorical_kl(HALVES, THIRDS).item() == pytest.approx(expected, rel=1e-12)
    assert categorical_kl(HALVES + 5, THIRDS - 7).item() == pytest.approx(expected, rel=1e-12)
    assert categorical_kl(THIRDS, HALVES).item() == pytest.approx(
        math.log(2 / 3) / 3 + 2 / 3 * math.log(4 / 3), rel=1e-12
    )
    assert categorical_kl(HALVES, HALVES).item() == 0


def test_divergence_gradients_by_hand():
    logits, other_logits = (z.clone().requires_grad_() for z in (HALVES, THIRDS))
    kl = categorical_kl(logits, other_logits)
    kl.backward()
    p, ratios = [0.5, 0.25, 0.25], [1.5, 0.75, 0.75]
    expected = [a * (math.log(ratio) - kl.item()) for a, ratio in zip(p, ratios, strict=True)]
    assert logits.grad.tolist() == pytest.approx(expected, rel=1e-12)
    assert other_logits.grad.tolist() == pytest.approx([1 / 3 - 0.5, 1 / 3 - 0.25, 1 / 3 - 0.25], rel=1e-12)


@pytest.mark.parametrize(("logits", "other_logits"), list(pairs_of_logits()))
def test_documented_bounds_of_the_divergence(logits, other_logits):
    logits, other_logits = logits.clone().requires_grad_(), other_logits.clone().requires_grad_()
    logp, logq = (torch.log_softmax(z.detach().double(), -1) for z in (logits, other_logits))
    p, q, ratio, weight = logp.exp(), logq.exp(), logp - logq, logp.abs() + logq.abs() + 1
    exact = (p * ratio).sum(-1)
    result = categorical_kl(logits, other_logits)
    result.sum().backward()
    bound = 4 * (weight * ((p - q).abs() + q - p + p * ratio + UNIT_ROUNDOFF * p * weight)).sum(-1)
    assert ((result - exact).abs() <= UNIT_ROUNDOFF * bound).all()
    assert (result >= 0).all()
    scaled = weight * (1 + ratio.abs())
    bound = 4 * UNIT_ROUNDOFF * p * (scaled + (p * scaled).sum(-1, keepdim=True))
    tiny = torch.finfo(torch.float32).tiny
    assert ((logits.grad - p * (ratio - exact[:, None])).abs() <= bound + tiny).all()
    assert ((other_logits.grad - (q - p)).abs() <= 4 * UNIT_ROUNDOFF * (p + q) * weight + tiny).all()


def test_a_rounding_of_the_normaliser_does_not_hide_a_small_divergence():
    logits = torch.zeros(1000, requires_grad=True)
    other_logits = torch.zeros(1000)
    other_logits[0] = 1e-3
    kl = categorical_kl(logits, other_logits)
    exact = -math.log(1000) + math.log(999 + math.exp(1e-3)) - 1e-3 / 1000
    assert kl.item() == pytest.approx(exact, rel=1e-3)


def test_tokens_that_are_forbidden():
    infinity = math.inf
    logits = torch.tensor([[0.0, 0.0, -infinity], [0.0, 0.0, -infinity], [0.0, 0.0, 0.0]], requires_grad=True)
    other_logits = torch.tensor([[0.0, 0.0, -infinity], [0.0, 0.0, 0.0], [0.0, 0.0, -infinity]], requires_grad=True)
    kl = categorical_kl(logits, other_logits)
    torch.testing.assert_close(kl, torch.tensor([0.0, math.log(1.5), infinity]))
    kl.sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:2] == 0).all()
    assert logits.grad[2, 2] > 1e25
    assert (logits.grad[2, :2] < -1e25).all()
    expected = torch.tensor([[0.0, 0.0, 0.0], [1 / 3 - 1 / 2, 1 / 3 - 1 / 2, 1 / 3], [1 / 6, 1 / 6, -1 / 3]])
    torch.testing.assert_close(other_logits.grad, expected)


def test_a_token_of_vanishing_probability_that_the_other_forbids_is_seen():
    logits, other_logits = torch.tensor([0.0, -1000.0]), torch.tensor([0.0, -math.inf])
    assert categorical_kl(logits, other_logits).item() == math.inf


@pytest.mark.parametrize("size", [200.0, 1e30, LARGEST])
def test_divergence_gradients_are_finite_for_extreme_logits(size):
    logits = torch.tensor([[size, -size, 0.0], [size, 0.0, 0.0], [-size, size, size]], requires_grad=True)
    other_logits = torch.tensor([[-size, size, 0.0], [0.0, 0.0, size], [-size, size, size]], requires_grad=True)
    kl = categorical_kl(logits, other_logits)
    kl.sum().backward()
    assert kl.isfinite().all()
    assert (kl[:2] >= 200).all()
    assert kl[2] == 0
    assert logits.grad.isfinite().all()
    assert other_logits.grad.isfinite().all()


@pytest.mark.parametrize("bad", [-math.inf, math.inf, math.nan])
def test_a_position_without_a_distribution_is_nan(bad):
    logits = torch.tensor([[bad, bad], [0.0, 0.0]])
    assert categorical_kl(logits, torch.zeros(2, 2)).isnan().tolist() == [True, False]
    assert categorical_kl(torch.zeros(2, 2), logits).isnan().tolist() == [True, False]


@pytest.mark.parametrize("bad", [-math.inf, math.inf, math.nan])
@pytest.mark.parametrize("side", [0, 1])
def test_a_position_without_a_distribution_has_gradients_of_0_for_an_upstream_of_0_only(bad, side):
    given = [torch.tensor([[0.5, 2.0], [0.5, 2.0], [0.0, 1.0]], dtype=torch.float64) for _ in range(2)]
    given[side][:2, 0], given[side][:2, 1] = bad, bad if bad == -math.inf else 0.0
    leaves = [x.requires_grad_() for x in given]
    upstream = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    for gradient in torch.autograd.grad(categorical_kl(*leaves), leaves, upstream):
        assert gradient[[0, 2]].tolist() == [[0, 0], [0, 0]]
        assert gradient[1].isnan().any()


def test_an_upstream_of_0_does_not_touch_other_positions():
    logits, other = (torch.tensor(x, requires_grad=True) for x in ([[0.0, -math.inf], [0.0, 1.0]], [[0.0, 1.0]] * 2))
    upstream = torch.tensor([1.0, 1.0])
    gradients = torch.autograd.grad(categorical_kl(logits, other), (logits, other), upstream)
    p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]).softmax(0)
    torch.testing.assert_close(gradients[0][0], torch.zeros(2))
    torch.testing.assert_close(gradients[1][0], q - p)
    torch.testing.assert_close(gradients[1][1], torch.zeros(2))


@pytest.mark.parametrize("forbidden", [False, True])
def test_divergence_gradients_of_both_orders(forbidden):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]
    hole = torch.zeros(4, dtype=torch.bool)
    hole[1] = forbidden

    def function(logits, other_logits):
        return categorical_kl(logits.masked_fill(hole, -math.inf), other_logits.masked_fill(hole, -math.inf))

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_the_curvature_at_equal_policies_is_the_fisher_matrix():
    p = HALVES.exp()
    fisher = torch.diag(p) - torch.outer(p, p)
    for function in (lambda z: categorical_kl(z, HALVES), lambda z: categorical_kl(HALVES, z)):
        torch.testing.assert_close(torch.func.jacrev(torch.func.jacrev(function))(HALVES), fisher)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("other_dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_of_the_divergence(dtype, other_dtype):
    logits = torch.tensor([[0.5, 3.0, -2.0]], dtype=dtype, requires_grad=True)
    other_logits = torch.tensor([[0.25, 1.0, 2.0]], dtype=other_dtype, requires_grad=True)
    wide = torch.float64 if torch.float64 in (dtype, other_dtype) else torch.float32
    result = categorical_kl(logits, other_logits)
    result.sum().backward()
    assert torch.equal(result, categorical_kl(logits.detach().to(wide), other_logits.detach().to(wide)))
    assert result.dtype == wide
    assert (logits.grad.dtype, other_logits.grad.dtype) == (dtype, other_dtype)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 2)])
def test_any_leading_shape(shape):
    assert categorical_kl(torch.zeros(*shape, 5), torch.zeros(*shape, 5)).shape == shape


def test_strided_inputs_give_the_same_and_stay_untouched():
    inputs = [torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    strided = [z.permute(2, 0, 1).contiguous().permute(1, 2, 0) for z in inputs]
    assert torch.equal(categorical_kl(*strided), categorical_kl(*inputs))
    assert all(torch.equal(z, copy) for z, copy in zip(strided, inputs, strict=True))
    rows = [z[0] for z in inputs]
    copies = [z.T.contiguous().T for z in rows]
    for estimator in ESTIMATORS:
        assert torch.equal(kl_estimate(*copies, estimator), kl_estimate(*rows, estimator))
    assert all(torch.equal(z, copy) for z, copy in zip(rows, copies, strict=True))


def test_compiled():
    inputs = [torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)).requires_grad_() for seed in (0, 1)]
    functions = [categorical_kl, *(lambda x, y, name=name: kl_estimate(x, y, name) for name in ESTIMATORS)]
    for function in functions:
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(*inputs), function(*inputs))
        slopes = [torch.autograd.grad(call(*inputs).sum(), inputs[0])[0] for call in (compiled, function)]
        assert torch.equal(*slopes)

"""The operations that a theorem speaks of, in their order, give the bits of the kernel."""

import pytest
import torch
from torch.nn.functional import logsigmoid

from grape_verified import (
    aggregate,
    bradley_terry_per_pair,
    cispo_per_token,
    dpo_per_pair,
    kl_estimate,
    ppo_per_token,
    reinforce_per_token,
    trpo_per_token,
    value_loss_per_token,
)

DTYPES = [torch.float32, torch.float64]
SHAPE = (5, 37)  # no multiple of a vector's width


def drawn(dtype, *, number, shape=SHAPE):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(number)]


def converted(option, dtype):
    """A Python float in a dtype."""
    return torch.tensor(option, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dual_clip", [None, 1.3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ppo_per_token(dtype, dual_clip):
    logp, old_logp, A = drawn(dtype, number=3)
    d = logp - old_logp
    rho = d.exp()
    lower, upper = converted(1 - 0.3, dtype), converted(1 + 0.1, dtype)
    falling = torch.maximum(rho, lower)
    if dual_clip is not None:
        falling = torch.minimum(falling, converted(dual_clip, dtype))
    v = torch.where(A >= 0, torch.minimum(rho, upper), falling) * -A
    assert torch.equal(ppo_per_token(logp, old_logp, A, clip_low=0.3, clip_high=0.1, dual_clip=dual_clip), v)


@pytest.mark.parametrize("dtype", DTYPES)
def test_trpo_per_token(dtype):
    logp, old_logp, A = drawn(dtype, number=3)
    assert torch.equal(trpo_per_token(logp, old_logp, A), (logp - old_logp).exp() * -A)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cispo_per_token(dtype):
    logp, old_logp, A = drawn(dtype, number=3)
    rho = (logp - old_logp).exp()
    lower, upper = converted(1 - 0.3, dtype), converted(1 + 0.1, dtype)
    clipped = torch.minimum(torch.maximum(rho, lower), upper)
    assert torch.equal(cispo_per_token(logp, old_logp, A, clip_low=0.3, clip_high=0.1), -(clipped * A * logp))


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_estimate(dtype):
    logp, ref_logp = drawn(dtype, number=2)
    logp.requires_grad_()
    d = logp.detach() - ref_logp
    e = (-d).expm1()
    k3 = kl_estimate(logp, ref_logp, "k3")
    assert torch.equal(k3, e + d)
    assert torch.equal(torch.autograd.grad(k3.sum(), logp)[0], 1 - (e + 1))
    assert torch.equal(kl_estimate(logp, ref_logp, "k1"), d)
    k2 = kl_estimate(logp, ref_logp, "k2")
    assert torch.equal(k2, d * d / 2)
    assert torch.equal(torch.autograd.grad(k2.sum(), logp)[0], d)


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dpo_per_pair(dtype, smoothing):
    chosen, rejected, ref_chosen, ref_rejected = drawn(dtype, number=4, shape=(37,))
    a, b = chosen - ref_chosen, rejected - ref_rejected
    m = converted(0.3, dtype) * (a - b)
    p = -converted(1 - smoothing, dtype) * logsigmoid(m)
    q = converted(smoothing, dtype) * logsigmoid(-m)
    options = {"beta": 0.3, "label_smoothing": smoothing}
    assert torch.equal(dpo_per_pair(chosen, rejected, ref_chosen, ref_rejected, **options), p - q)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logsigmoid(dtype):
    """It has its own exp and log1p, so the last bits may differ."""
    [x] = drawn(dtype, number=1)
    steps = x.clamp(max=0) - (-x.abs()).exp().log1p()
    assert (logsigmoid(x) - steps).abs().max() <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_bradley_terry_per_pair(dtype):
    chosen, rejected = drawn(dtype, number=2, shape=(37,))
    assert torch.equal(bradley_terry_per_pair(chosen, rejected), -logsigmoid(chosen - rejected))


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_loss_per_token(dtype, clip):
    V, R, V_old = drawn(dtype, number=3)
    d = V - R
    if clip is None:
        assert torch.equal(value_loss_per_token(V, R), 0.5 * d * d)
        return
    c = converted(clip, dtype)
    clipped = torch.minimum(torch.maximum(V, V_old - c), V_old + c) - R
    larger = torch.where(d.abs() < clipped.abs(), clipped, d)
    assert torch.equal(value_loss_per_token(V, R, old_values=V_old, clip=clip), 0.5 * larger * larger)
    assert (larger != d).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_reinforce_per_token(dtype):
    logp, A = drawn(dtype, number=2)
    assert torch.equal(reinforce_per_token(logp, A), -A * logp)


@pytest.mark.parametrize("dtype", DTYPES)
def test_aggregate(dtype):
    """The divisions; the order of the additions is torch's own, and the theorem holds for each."""
    [x] = drawn(dtype, number=1)
    mask, D = torch.ones(SHAPE, dtype=torch.bool), converted(7.3, dtype)
    rows, tokens = (torch.tensor(float(n), dtype=dtype) for n in SHAPE)
    sums = x.sum(1)
    assert torch.equal(aggregate(x, mask, "token_sum"), x.sum())
    assert torch.equal(aggregate(x, mask, "token_mean", denominator=7.3), x.sum() / D)
    assert torch.equal(aggregate(x, mask, "sequence_sum"), x.sum() / rows)
    assert torch.equal(aggregate(x, mask, "sequence_mean", denominator=7.3), (sums / tokens).sum() / D)
    assert torch.equal(aggregate(x, mask, "fixed_length", max_length=41), x.sum() / 41 / rows)

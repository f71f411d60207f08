"""Soft-capped heads, in both tiled routes: against the dense formula in fp64, and worked by hand."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from grape_verified import fused_linear_loss, linear_token_logps, sft_per_token

UNIT_ROUNDOFF = 2.0**-24
MASK = torch.tensor([[True, False, True], [True, True, False]])
TILES = [None, (1, 1), (2, 3), (3, 8), (100, 100)]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def problem():
    """Hidden states, weight, targets, bias and temperature; most logits are beyond a cap of 1."""
    targets = torch.arange(6).reshape(2, 3) * 5 % 11
    tensors = normal(2, 3, 4), normal(11, 4, seed=1), normal(11, seed=2), normal(2, 3, seed=3).abs() + 0.5
    hidden, weight, bias, temperature = (x.requires_grad_() for x in tensors)
    return hidden, weight, targets, bias, temperature


def dense(hidden, weight, targets, bias, temperature, softcap):
    """The definitions, with all logits in memory."""
    scores = softcap * torch.tanh((hidden @ weight.T + bias) / softcap) / temperature.unsqueeze(-1)
    logps = scores.log_softmax(-1)
    return logps.gather(-1, targets.unsqueeze(-1)).squeeze(-1), -(logps.exp() * logps).sum(-1)


@pytest.mark.parametrize("softcap", [1.0, 30.0])
@pytest.mark.parametrize("tile", TILES)
def test_two_stages_are_the_dense_formula(tile, softcap):
    *inputs, temperature = problem()
    hidden, weight, targets, bias = inputs
    options = {"mask": MASK, "with_entropy": True, "tile": tile, "softcap": softcap}
    found = linear_token_logps(hidden, weight, targets, bias=bias, temperature=temperature, **options)
    wanted = [x * MASK for x in dense(*inputs, temperature, softcap)]
    torch.testing.assert_close(found, tuple(wanted))
    leaves, upstream = (hidden, weight, bias, temperature), (normal(2, 3, seed=4), normal(2, 3, seed=5))
    torch.testing.assert_close(*(torch.autograd.grad(outputs, leaves, upstream) for outputs in (found, wanted)))


@pytest.mark.parametrize("softcap", [1.0, 30.0])
@pytest.mark.parametrize("tile", TILES)
def test_one_pass_is_the_dense_formula(tile, softcap):
    hidden, weight, targets, bias, temperature = problem()
    temperature, leaves = temperature.detach(), (hidden, weight, bias)
    options = {"mask": MASK, "bias": bias, "temperature": temperature, "tile": tile, "softcap": softcap}
    found = fused_linear_loss(hidden, weight, targets, sft_per_token, **options).loss
    wanted = -(dense(hidden, weight, targets, bias, temperature, softcap)[0] * MASK).sum() / MASK.sum()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(loss, leaves) for loss in (found, wanted)))


def test_gradcheck():
    hidden, weight, targets, bias, temperature = problem()
    options = {"mask": MASK, "with_entropy": True, "tile": (2, 3), "softcap": 1.5}
    gradcheck(
        lambda h, w, b, t: linear_token_logps(h, w, targets, bias=b, temperature=t, **options),
        (hidden, weight, bias, temperature),
    )


def test_by_hand():
    """Logits 1 and −1 under a cap of 1: tanh 1 and −tanh 1, so the odds are exp(2·tanh 1), and the share sech² 1."""
    weight = torch.tensor([[1.0], [-1.0]], dtype=torch.float64, requires_grad=True)
    logps = linear_token_logps(torch.ones(1, 1).double(), weight, torch.tensor([0]), softcap=1.0)
    miss = 1 / (1 + math.exp(2 * math.tanh(1)))
    assert logps.item() == pytest.approx(math.log(1 - miss))
    logps.sum().backward()
    slope = miss / math.cosh(1) ** 2
    assert weight.grad.flatten().tolist() == pytest.approx([slope, -slope])


@pytest.mark.parametrize("softcap", [1.0, 1e-3, 1e30])
def test_forbidden_tokens_stay_forbidden(softcap):
    """Although the cap of −inf is −c; nothing of them reaches a gradient."""
    hidden, weight, targets, _, _ = problem()
    bias = torch.zeros(11, dtype=torch.float64)
    bias[1] = -math.inf
    others = [v for v in range(11) if v != 1]
    known = {5 * t % 11: others.index(5 * t % 11) for t in range(6)}
    fewer = torch.tensor([[known[v] for v in row] for row in targets.tolist()])
    found = linear_token_logps(hidden, weight, targets, bias=bias, with_entropy=True, softcap=softcap)
    wanted = linear_token_logps(hidden, weight[others], fewer, with_entropy=True, softcap=softcap)
    torch.testing.assert_close(found, wanted)
    for loss in (
        found[0].sum() + found[1].sum(),
        fused_linear_loss(hidden, weight, targets, sft_per_token, bias=bias, softcap=softcap).loss,
    ):
        of_weight, of_hidden = torch.autograd.grad(loss, (weight, hidden), retain_graph=True)
        assert of_hidden.isfinite().all()
        assert not of_weight[1].any()


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_logits_far_beyond_the_cap_are_the_cap(size):
    """They have no slope, and none of the results is NaN."""
    weight = torch.tensor([[size], [-size], [0.0]], requires_grad=True)
    logps = linear_token_logps(torch.ones(1, 1), weight, torch.tensor([0]), softcap=2.0)
    assert logps.item() == pytest.approx(-math.log(1 + math.exp(-4) + math.exp(-2)))
    logps.sum().backward()
    assert weight.grad[:2].flatten().tolist() == [0, 0]


def test_a_scaled_head_is_a_temperature():
    """head.softcap.scale."""
    hidden, weight, targets, bias, _ = problem()
    scaled = linear_token_logps(hidden, 0.0625 * weight, targets, bias=0.0625 * bias, temperature=0.7)
    torch.testing.assert_close(linear_token_logps(hidden, weight, targets, bias=bias, temperature=0.7 / 0.0625), scaled)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [30.0, 5.0])
def test_documented_bounds(dtype, softcap):
    width, vocab = 64, 1000
    hidden, weight = normal(100, width, dtype=dtype), (normal(vocab, width, seed=1) * 0.75).to(dtype)
    products = hidden.double() @ weight.double().T
    targets = torch.where(torch.arange(100) % 2 == 0, products.argmax(-1), torch.arange(100))
    logps, entropies = linear_token_logps(hidden, weight, targets, with_entropy=True, softcap=softcap)
    logp = (softcap * torch.tanh(products / softcap)).log_softmax(-1)
    chosen, p = logp.gather(-1, targets[:, None])[:, 0], logp.exp()
    entropy = -(p * logp).sum(-1)
    spread = (p * logp.abs() * (logp + entropy[:, None]).abs()).sum(-1)
    of_logits = 2 * UNIT_ROUNDOFF * (width + 4) * (hidden.double().abs() @ weight.double().abs().T).amax(-1)
    assert ((logps.double() - chosen).abs() <= of_logits + 4 * UNIT_ROUNDOFF * (chosen.abs() + entropy + 1)).all()
    bound = of_logits * (1 + spread) + 4 * UNIT_ROUNDOFF * (1 + entropy + spread)
    assert ((entropies.double() - entropy).abs() <= bound).all()


def test_compiled_it_gives_the_same_bits():
    hidden, weight, targets, bias, _ = (x.float() if x.is_floating_point() else x for x in problem())

    def call(h, w):
        return linear_token_logps(h, w, targets, bias=bias.detach(), mask=MASK, softcap=1.0).sum()

    inputs = [x.detach().requires_grad_() for x in (hidden, weight)]
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    found, wanted = (torch.autograd.grad(function(*inputs), inputs) for function in (compiled, call))
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("softcap", [0, -1.0, math.inf, math.nan])
def test_a_cap_is_a_positive_number(softcap):
    hidden, weight, targets, *_ = problem()
    with pytest.raises(ValueError, match=r"^softcap: got"):
        linear_token_logps(hidden, weight, targets, softcap=softcap)
    with pytest.raises(ValueError, match=r"^softcap: got"):
        fused_linear_loss(hidden, weight, targets, sft_per_token, softcap=softcap)

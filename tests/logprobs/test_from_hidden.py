"""Log-probabilities from hidden states: against the dense formula in fp64, whatever the tiles, masks and dtypes."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from grape_verified import linear_token_logps, token_entropies, token_logps

UNIT_ROUNDOFF = 2.0**-24
TILES = [None, (1, 1), (2, 3), (3, 8), (100, 100)]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def problem(dtype=torch.float64, positions=(2, 3), width=4, vocab=11):
    """Hidden states, weight, targets, bias and temperature."""
    targets = torch.arange(math.prod(positions)).reshape(positions) * 5 % vocab
    temperature = normal(*positions, seed=3).abs() + 0.5
    tensors = (normal(*positions, width), normal(vocab, width, seed=1), normal(vocab, seed=2), temperature)
    hidden, weight, bias, temperature = (x.to(dtype).requires_grad_() for x in tensors)
    return hidden, weight, targets, bias, temperature


def dense(hidden, weight, targets, bias, temperature, mask):
    """The definitions, with all logits in memory and without care for rounding; 0 where masked."""
    scores = (hidden @ weight.T + bias) / temperature.unsqueeze(-1)
    logps = scores - scores.exp().sum(-1, keepdim=True).log()
    chosen = logps.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen * mask, -(logps.exp() * logps).sum(-1) * mask


MASK = torch.tensor([[True, False, True], [True, True, False]])


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("mask", [None, MASK])
def test_values_and_gradients_are_those_of_the_dense_formula(tile, mask):
    hidden, weight, targets, bias, temperature = problem()
    results = linear_token_logps(
        hidden, weight, targets, bias=bias, temperature=temperature, mask=mask, with_entropy=True, tile=tile
    )
    expected = dense(hidden, weight, targets, bias, temperature, torch.ones(2, 3) if mask is None else mask)
    torch.testing.assert_close(results, expected)
    inputs, upstream = (hidden, weight, bias, temperature), (normal(2, 3, seed=4), normal(2, 3, seed=5))
    found, wanted = (torch.autograd.grad(outputs, inputs, upstream) for outputs in (results, expected))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("with_entropy", [False, True])
@pytest.mark.parametrize("tile", [(2, 3), None])
def test_gradcheck(tile, with_entropy):
    hidden, weight, targets, bias, temperature = problem()
    options = {"mask": MASK, "with_entropy": with_entropy, "tile": tile}
    gradcheck(
        lambda h, w, b, t: linear_token_logps(h, w, targets, bias=b, temperature=t, **options),
        (hidden, weight, bias, temperature),
    )


def test_each_output_alone_can_be_differentiated():
    hidden, weight, targets, bias, temperature = problem()
    inputs = (hidden, weight, bias, temperature)
    for place in (0, 1):
        found = linear_token_logps(hidden, weight, targets, bias=bias, temperature=temperature, with_entropy=True)
        wanted = dense(hidden, weight, targets, bias, temperature, 1)
        torch.testing.assert_close(*(torch.autograd.grad(out[place].sum(), inputs) for out in (found, wanted)))


@pytest.mark.parametrize("frozen", range(4))
def test_what_needs_no_gradient_gets_none(frozen):
    hidden, weight, targets, bias, temperature = problem()
    inputs = [hidden, weight, bias, temperature]
    wanted = torch.autograd.grad(dense(hidden, weight, targets, bias, temperature, 1)[0].sum(), inputs)
    inputs[frozen] = inputs[frozen].detach()
    hidden, weight, bias, temperature = inputs
    linear_token_logps(hidden, weight, targets, bias=bias, temperature=temperature).sum().backward()
    for place, (x, gradient) in enumerate(zip(inputs, wanted, strict=True)):
        if place == frozen:
            assert x.grad is None
        else:
            torch.testing.assert_close(x.grad, gradient)


def test_with_the_identity_for_a_weight_it_is_token_logps():
    logits, targets = 5 * normal(7, 9), torch.arange(7)
    logps, entropies = linear_token_logps(logits, torch.eye(9).double(), targets, temperature=0.7, with_entropy=True)
    torch.testing.assert_close(logps, token_logps(logits, targets, temperature=0.7))
    torch.testing.assert_close(entropies, token_entropies(logits, temperature=0.7))


# -- rounding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1.0, 0.0), (6.0, 0.0), (3.0, 1000.0), (3.0, -1000.0)],
    ids=["flat", "peaked", "above", "below"],
)
@pytest.mark.parametrize("tile", [None, (7, 300)])
def test_documented_bounds(dtype, scale, shift, tile):
    width, vocab = 64, 1000
    hidden, weight = normal(100, width, dtype=dtype), (normal(vocab, width, seed=1) * scale / 8).to(dtype)
    bias = torch.full((vocab,), shift, dtype=dtype)
    scores = hidden.double() @ weight.double().T + bias.double()
    targets = torch.where(torch.arange(100) % 2 == 0, scores.argmax(-1), torch.arange(100))
    logps, entropies = linear_token_logps(hidden, weight, targets, bias=bias, with_entropy=True, tile=tile)
    assert logps.dtype == entropies.dtype == torch.float32
    logp = torch.log_softmax(scores, -1)
    chosen, p = logp.gather(-1, targets[:, None])[:, 0], logp.exp()
    entropy = -(p * logp).sum(-1)
    spread = (p * logp.abs() * (logp + entropy[:, None]).abs()).sum(-1)
    size = (hidden.double().abs() @ weight.double().abs().T + bias.double().abs()).amax(-1)
    of_logits = 2 * UNIT_ROUNDOFF * (width + 4) * size
    bound = of_logits + 4 * UNIT_ROUNDOFF * (chosen.abs() + entropy + 1)
    assert ((logps.double() - chosen).abs() <= bound).all()
    bound = of_logits * (1 + spread) + 4 * UNIT_ROUNDOFF * (1 + entropy + spread)
    assert ((entropies.double() - entropy).abs() <= bound).all()


def test_half_precision_operands_lose_no_digit_of_the_logits():
    """Logits rounded to bf16 would be wrong by up to 0.06 at 32."""
    hidden, weight = normal(200, 512, dtype=torch.bfloat16), (normal(4000, 512, seed=1) / 4).to(torch.bfloat16)
    scores = hidden.double() @ weight.double().T
    assert 20 < scores.abs().max() < 40
    targets = torch.where(torch.arange(200) % 2 == 0, scores.argmax(-1), torch.arange(200))
    expected = torch.log_softmax(scores, -1).gather(-1, targets[:, None])[:, 0]
    found = linear_token_logps(hidden, weight, targets)
    assert (found.double() - expected).abs().max() <= 1e-5


def test_gradients_of_half_precision_operands():
    hidden, weight = normal(200, 64, dtype=torch.bfloat16), normal(500, 64, seed=1, dtype=torch.bfloat16)
    targets, upstream = torch.arange(200), normal(200, seed=2, dtype=torch.float32)
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        inputs = [x.detach().to(dtype).requires_grad_() for x in (hidden, weight)]
        logps = linear_token_logps(*inputs, targets)
        gradients.append(torch.autograd.grad(logps, inputs, upstream.to(logps.dtype)))
    for found, expected in zip(*gradients, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.double() - expected).norm() <= 3e-3 * expected.norm()


def test_tiles_change_rounding_only():
    hidden, weight, targets, bias, _ = problem(torch.float32, (40,), 16, 301)
    whole = linear_token_logps(hidden, weight, targets, bias=bias, tile=(40, 301))
    for tile in TILES:
        torch.testing.assert_close(linear_token_logps(hidden, weight, targets, bias=bias, tile=tile), whole)


def test_the_same_call_gives_the_same_bits():
    hidden, weight, targets, bias, _ = problem(torch.float32, (300,), 16, 3001)
    runs = []
    for _ in range(2):
        logps = linear_token_logps(hidden, weight, targets, bias=bias)
        runs.append((logps, *torch.autograd.grad(logps.sum(), (hidden, weight, bias))))
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("width", "vocab"), [(8, 30), (64, 1000), (336, 4097)])
def test_a_token_does_not_depend_on_what_it_is_batched_with(threads, width, vocab):
    """On a CPU in fp64, bit for bit: alone, among its sequence, in a batch, or at another place of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        hidden, weight, targets, _, _ = problem(positions=(5, 29), width=width, vocab=vocab)
        together = _found(hidden, weight, targets)
        reversed_order = [x.flip(0) for x in _found(hidden.flip(0), weight, targets.flip(0))]
        assert all(torch.equal(x, y) for x, y in zip(together, reversed_order, strict=True))
        for some in (slice(1), slice(3), slice(7), slice(29), slice(11, 18)):
            alone = _found(hidden[1:2, some], weight, targets[1:2, some])
            assert all(torch.equal(x, y[1:2, some]) for x, y in zip(alone, together, strict=True))
    finally:
        torch.set_num_threads(before)


def _found(hidden, weight, targets):
    """Both outputs, and the gradient of their sum in hidden."""
    hidden = hidden.detach().requires_grad_()
    results = linear_token_logps(hidden, weight, targets, with_entropy=True)
    return *results, *torch.autograd.grad(sum(results).sum(), hidden)


def test_a_logit_far_above_those_of_earlier_tiles():
    """The sums before it are rescaled, and overflow nowhere."""
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[-1e30], [0.0], [1e4], [1e30], [-5.0]], requires_grad=True)
    for target, expected in ((3, 0.0), (1, -1e30)):
        logps, entropies = linear_token_logps(hidden, weight, torch.tensor([target]), with_entropy=True, tile=(1, 1))
        assert logps.item() == pytest.approx(expected)
        assert entropies.item() == 0
        gradients = torch.autograd.grad(logps.sum() + entropies.sum(), (hidden, weight))
        assert all(gradient.isfinite().all() for gradient in gradients)


# -- masked tokens, forbidden tokens and upstream gradients of 0 ------------------------------------------------------


@pytest.mark.parametrize("hidden_value", [math.nan, math.inf, 1e38])
def test_masked_positions_reach_nothing(hidden_value):
    hidden, weight, targets, bias, temperature = problem(torch.float32)
    spoiled = torch.where(MASK.unsqueeze(-1), hidden, hidden_value).detach().requires_grad_()
    beyond = torch.where(MASK, targets, -100)
    frozen = torch.where(MASK, temperature, math.nan).detach().requires_grad_()
    results = []
    for h, y, t in ((hidden, targets, temperature), (spoiled, beyond, frozen)):
        logps = linear_token_logps(h, weight, y, bias=bias, temperature=t, mask=MASK)
        results.append((logps, *torch.autograd.grad(logps.sum(), (h, weight, bias, t))))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
    assert (results[1][0][~MASK] == 0).all()


@pytest.mark.parametrize("positions", [(2, 3), (0,), (2, 0)])
def test_no_token_at_all(positions):
    hidden = torch.zeros(*positions, 4, requires_grad=True)
    weight = torch.ones(5, 4, requires_grad=True)
    targets, mask = torch.zeros(positions, dtype=torch.long), torch.zeros(positions, dtype=torch.bool)
    logps, entropies = linear_token_logps(hidden, weight, targets, mask=mask, with_entropy=True)
    assert logps.shape == entropies.shape == positions
    gradients = torch.autograd.grad(logps.sum() + entropies.sum(), (hidden, weight))
    assert not any(gradient.any() for gradient in gradients)


def test_forbidden_tokens():
    hidden, weight = normal(3, 2).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    bias = torch.tensor([0.0, -math.inf, 0.5, -math.inf], dtype=torch.float64)
    logps, entropies = linear_token_logps(hidden, weight, torch.tensor([0, 2, 1]), bias=bias, with_entropy=True)
    found = torch.autograd.grad(logps[:2].sum() + entropies.sum(), (hidden, weight))
    allowed, targets = weight[[0, 2]], torch.tensor([0, 1, 0])
    scores = hidden @ allowed.T + bias[[0, 2]]
    expected = torch.log_softmax(scores, -1)
    spread = -(expected.exp() * expected).sum(-1)
    torch.testing.assert_close(entropies, spread)
    torch.testing.assert_close(logps[:2], expected.gather(-1, targets[:, None])[:2, 0])
    assert logps[2] == -math.inf
    wanted = torch.autograd.grad(expected.gather(-1, targets[:, None])[:2].sum() + spread.sum(), (hidden, weight))
    torch.testing.assert_close(found, wanted)
    assert not found[1][[1, 3]].any()


def test_nothing_but_forbidden_tokens_is_no_distribution():
    bias = torch.full((3,), -math.inf)
    logps, entropies = linear_token_logps(
        torch.ones(1, 2), torch.ones(3, 2), torch.tensor([0]), bias=bias, with_entropy=True
    )
    assert logps.isnan()
    assert entropies.isnan()


def test_rows_without_an_upstream_gradient_are_left_out():
    """The gradients are unchanged, and no weight is read for them."""
    hidden, weight, targets, bias, temperature = problem(positions=(6,))
    inputs = (hidden, weight, bias, temperature)
    upstream = torch.tensor([1.0, 0.0, 0.0, -2.0, 0.0, 0.5], dtype=torch.float64)
    logps = linear_token_logps(hidden, weight, targets, bias=bias, temperature=temperature)
    found = torch.autograd.grad(logps, inputs, upstream)
    wanted = torch.autograd.grad(dense(hidden, weight, targets, bias, temperature, 1)[0], inputs, upstream)
    torch.testing.assert_close(found, wanted)
    assert not found[0][upstream == 0].any()


# -- dtypes, layouts, what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("target_dtype", [torch.int64, torch.int32, torch.uint8])
def test_dtypes(dtype, target_dtype):
    hidden, weight, targets, bias, _ = problem(dtype)
    logps = linear_token_logps(hidden, weight, targets.to(target_dtype), bias=bias)
    assert logps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    gradients = torch.autograd.grad(logps.sum(), (hidden, weight, bias))
    assert all(gradient.dtype == dtype for gradient in gradients)


def test_strided_inputs_give_the_same_and_stay_untouched():
    hidden, weight, targets, bias, _ = problem()
    strided = hidden.detach().transpose(0, 1).contiguous().transpose(0, 1), weight.detach().T.contiguous().T
    before = [x.clone() for x in strided]
    result = linear_token_logps(*strided, targets.T.contiguous().T, bias=bias)
    torch.testing.assert_close(result, linear_token_logps(hidden, weight, targets, bias=bias))
    assert all(torch.equal(x, y) for x, y in zip(strided, before, strict=True))


def test_autocast_does_not_lower_the_precision():
    hidden, weight, targets, bias, _ = problem(torch.float32, (40,), 64, 100)
    plain = linear_token_logps(hidden, weight, targets, bias=bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = linear_token_logps(hidden, weight, targets, bias=bias)
        gradients = torch.autograd.grad(lowered.sum(), (hidden, weight))
    assert torch.equal(lowered, plain)
    expected = torch.autograd.grad(plain.sum(), (hidden, weight))
    assert all(torch.equal(x, y) for x, y in zip(gradients, expected, strict=True))


def test_a_second_derivative_is_refused():
    hidden, weight, targets, _, _ = problem()
    logps = linear_token_logps(hidden, weight, targets)
    with pytest.raises(RuntimeError, match="linear_token_logps: got a backward pass with create_graph=True, expected"):
        torch.autograd.grad(logps.sum(), hidden, create_graph=True)


HIDDEN, WEIGHT, TARGETS, BIAS, _ = (x.detach() for x in problem(torch.float32))
BAD = [
    ({"hidden": [1.0]}, TypeError, "hidden: got list, expected a tensor"),
    ({"hidden": HIDDEN.long()}, TypeError, "hidden: got dtype torch.int64, expected a floating-point dtype"),
    ({"hidden": HIDDEN[0, 0]}, ValueError, "hidden: got shape (4,), expected shape (..., width) with a width > 0"),
    ({"hidden": HIDDEN[..., :0]}, ValueError, "hidden: got shape (2, 3, 0), expected shape (..., width) with"),
    ({"weight": WEIGHT.T}, ValueError, "weight: got shape (4, 11), expected (vocab, 4), as wide as hidden"),
    ({"weight": WEIGHT[0]}, ValueError, "weight: got shape (4,), expected (vocab, 4), as wide as hidden"),
    ({"weight": WEIGHT.double()}, TypeError, "weight: got dtype torch.float64, expected torch.float32, the dtype of"),
    ({"weight": WEIGHT.to("meta")}, ValueError, "weight: got device meta, expected cpu, the device of hidden"),
    ({"bias": BIAS[:3]}, ValueError, "bias: got shape (3,), expected (11,), one for each row of weight"),
    ({"bias": BIAS.double()}, TypeError, "bias: got dtype torch.float64, expected torch.float32, the dtype of weight"),
    ({"targets": TARGETS.float()}, TypeError, "targets: got dtype torch.float32, expected an integer dtype"),
    ({"targets": TARGETS[0]}, ValueError, "targets: got shape (3,), expected (2, 3), the shape of hidden without its"),
    ({"targets": TARGETS - 100}, ValueError, "targets: got the value -100, expected values in [0, 11), the vocabulary"),
    ({"targets": TARGETS + 1}, ValueError, "targets: got the value 11, expected values in [0, 11), the vocabulary"),
    ({"mask": MASK[0]}, ValueError, "mask: got shape (3,), expected (2, 3), the shape of targets"),
    ({"mask": MASK.int() * 2}, ValueError, "mask: got the value 2, expected only 0 and 1"),
    ({"temperature": 0.0}, ValueError, "temperature: got 0.0, expected a finite number > 0"),
    ({"temperature": math.inf}, ValueError, "temperature: got inf, expected a finite number > 0"),
    ({"temperature": torch.ones(3)}, ValueError, "temperature: got shape (3,), expected (2, 3), the shape of targets"),
    (
        {"temperature": torch.zeros(2, 3)},
        ValueError,
        "temperature: got the value 0.0, expected finite numbers > 0",
    ),
    ({"temperature": torch.ones(2, 3) * math.nan}, ValueError, "temperature: got the value nan, expected finite"),
    ({"with_entropy": 1}, TypeError, "with_entropy: got int, expected True or False"),
    ({"tile": 64}, TypeError, "tile: got 64, expected a pair of rows and columns"),
    ({"tile": (64, 0)}, ValueError, "tile columns: got 0, expected an integer >= 1"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD)
def test_bad_arguments(given, error, text):
    with pytest.raises(error) as raised:
        linear_token_logps(**{"hidden": HIDDEN, "weight": WEIGHT, "targets": TARGETS} | given)
    assert str(raised.value).startswith(text)

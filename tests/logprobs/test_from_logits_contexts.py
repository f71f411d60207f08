"""`token_logps` and `token_entropies` with a mask, without a distribution, and in the contexts of training."""

import math
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from grape_verified import token_entropies, token_logps
from grape_verified.logprobs import from_logits

VOCAB = 7
BAD_ROWS = {
    "NaN": [0.0, math.nan, 1.0, 0.0, 0.0, 0.0, 0.0],
    "one inf": [0.0, math.inf, 1.0, 0.0, 0.0, 0.0, 0.0],
    "all inf": [math.inf] * VOCAB,
    "all -inf": [-math.inf] * VOCAB,
}
compiled = partial(torch.compile, fullgraph=True, backend="aot_eager")


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def targets_of(logits):
    return torch.arange(logits[..., 0].numel()).view(logits.shape[:-1]) * 3 % logits.shape[-1]


FUNCTIONS = {
    "logps": lambda z, **options: token_logps(z, targets_of(z), **options),
    "entropies": token_entropies,
}


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


# -- positions without a distribution, and upstream gradients of 0 ----------------------------------------------------


def modes(function):
    """The same function in every mode of execution, each as a function of logits."""
    return {
        "eager": function,
        "compiled": compiled(function),
        "generated": torch.compile(function, fullgraph=True),
        "vmap": lambda z: torch.vmap(function)(z.unsqueeze(0)).squeeze(0),
    }


@pytest.mark.parametrize("bad", BAD_ROWS)
@pytest.mark.parametrize("vocab", [1, VOCAB])
def test_a_position_without_a_distribution_is_nan_in_every_mode(function, bad, vocab):
    if bad == "one inf" and vocab == 1:
        pytest.skip("one logit is all logits")
    bad_row = BAD_ROWS[bad][1 : 1 + vocab] if vocab == 1 else BAD_ROWS[bad]
    rows = torch.tensor([[0.5] * vocab, *[bad_row] * VOCAB])  # with each token as a target
    for name, of_mode in modes(function).items():
        result = of_mode(rows)
        assert result[0].isfinite(), name
        assert result[1:].isnan().all(), name


def gradients(function, weights):
    """The gradient of Σ weights·function, in every mode that has one."""

    def loss(z):
        return (weights * function(z)).sum()

    def backward(z, loss=loss, **options):
        z = z.detach().requires_grad_()
        return torch.autograd.grad(loss(z), z, **options)[0]

    return {
        "eager": backward,
        "compiled": lambda z: backward(z, compiled(loss)),
        "create_graph": partial(backward, create_graph=True),
        "torch.func.grad": torch.func.grad(loss),
        "vmap of torch.func.grad": lambda z: torch.vmap(torch.func.grad(loss))(z.unsqueeze(0)).squeeze(0),
    }


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_an_upstream_gradient_of_zero_gives_zero_in_every_mode(function, bad):
    logits = normal(4, VOCAB)
    weights = torch.tensor([1.0, 0.0, -2.0, 0.0])
    spoiled = logits.clone()
    spoiled[1] = torch.tensor(BAD_ROWS[bad])
    # not of the result, which is NaN there: 0 · NaN is no loss; of what a mask lets through
    masked = partial(_masked, function, weights != 0)
    for name, gradient in gradients(masked, weights).items():
        found, expected = gradient(spoiled), gradient(logits)
        torch.testing.assert_close(found, expected, msg=lambda text: f"{name}: {text}")  # noqa: B023
        assert (found[1] == 0).all(), name


def _masked(function, counted, z):
    return function(z).masked_fill(~counted, 0)


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_second_derivatives_beside_a_position_without_a_distribution(function, bad):
    counted = torch.tensor([True, False])
    found = []
    for row in ([0.0] * VOCAB, BAD_ROWS[bad]):
        z = torch.stack([normal(VOCAB, dtype=torch.float64), torch.tensor(row, dtype=torch.float64)]).requires_grad_()
        (slope,) = torch.autograd.grad(_masked(function, counted, z).square().sum(), z, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), z)[0])
    assert torch.equal(found[0], found[1])
    assert found[0][0].any()


def test_an_upstream_gradient_of_zero_leaves_the_second_derivative(function):
    """(f − c)²/2 has slope 0 where f = c, and there ∇f ∇fᵀ as its matrix of second derivatives."""
    z = normal(1, VOCAB, dtype=torch.float64)
    constant, (slope,) = function(z), torch.func.jacrev(function)(z)[0]
    second = torch.func.jacrev(torch.func.grad(lambda z: (function(z) - constant).square().sum() / 2))
    torch.testing.assert_close(second(z)[0, :, 0], torch.outer(slope, slope))


def test_forward_derivatives_are_refused(function):
    z = normal(2, VOCAB)
    with pytest.raises(RuntimeError, match="forward mode AD"):
        torch.func.jvp(function, (z,), (z,))


# -- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masked_positions_give_zero_and_may_hold_anything(value, dtype):
    logits, mask = normal(2, 3, VOCAB), torch.tensor([[1, 0, 1], [1, 1, 0]]).to(dtype)
    spoiled = torch.where(mask.bool().unsqueeze(-1), logits, value).requires_grad_()
    targets = torch.where(mask.bool(), targets_of(logits), -100)
    plain = logits.clone().requires_grad_()
    for found, expected in (
        (token_logps(spoiled, targets, mask=mask), token_logps(plain, targets_of(logits))),
        (token_entropies(spoiled, mask=mask), token_entropies(plain)),
    ):
        assert torch.equal(found, expected.masked_fill(~mask.bool(), 0))
        wanted = torch.autograd.grad(expected.sum(), plain)[0] * mask.bool().unsqueeze(-1)
        assert torch.equal(torch.autograd.grad(found.sum(), spoiled)[0], wanted)


def test_a_mask_in_every_mode(function):
    logits, mask = normal(3, VOCAB), torch.tensor([True, False, True])
    logits[1] = math.nan
    masked = partial(function, mask=mask)
    expected = masked(logits)
    for name, of_mode in modes(masked).items():
        torch.testing.assert_close(of_mode(logits), expected, msg=lambda text: f"{name}: {text}")  # noqa: B023
    wanted = gradients(masked, torch.ones(3))["eager"](logits)
    assert wanted[0].any()
    for name, gradient in gradients(masked, torch.ones(3)).items():
        torch.testing.assert_close(gradient(logits), wanted, msg=lambda text: f"{name}: {text}")  # noqa: B023


def test_nothing_counts(function):
    logits = torch.full((2, VOCAB), math.nan, requires_grad=True)
    result = function(logits, mask=torch.zeros(2))
    assert not result.any()
    assert not torch.autograd.grad(result.sum(), logits)[0].any()


def test_targets_and_masks_are_mapped_too():
    logits, mask = normal(4, 3, VOCAB), normal(4, 3, seed=1) > 0
    targets = targets_of(logits)
    for some in (mask, mask.int()):
        found = torch.vmap(lambda z, y, m: token_logps(z, y, mask=m))(logits, targets, some)
        torch.testing.assert_close(found, token_logps(logits, targets, mask=some))
        found = torch.vmap(lambda y, m: token_logps(logits[0], y, mask=m))(targets, some)
        looped = [token_logps(logits[0], y, mask=m) for y, m in zip(targets, some, strict=True)]
        torch.testing.assert_close(found, torch.stack(looped))
        found = torch.vmap(lambda z, m: token_entropies(z, mask=m))(logits, some)
        torch.testing.assert_close(found, token_entropies(logits, mask=some))


BAD = [
    (torch.ones(3), ValueError, "mask: got shape (3,), expected (2, 3), the shape of "),
    (torch.ones(2, 3) * 2, ValueError, "mask: got the value 2.0, expected only 0 and 1"),
    ([1, 0], TypeError, "mask: got list, expected a tensor"),
    (torch.ones(2, 3, dtype=torch.complex64), TypeError, "mask: got dtype torch.complex64, expected bool, or numbers"),
    (torch.ones(2, 3, device="meta"), ValueError, "mask: got device meta, expected cpu, the device of "),
]


@pytest.mark.parametrize(("mask", "error", "text"), BAD)
def test_bad_masks(function, mask, error, text):
    with pytest.raises(error) as raised:
        function(normal(2, 3, VOCAB), mask=mask)
    assert str(raised.value).startswith(text)


def test_targets_out_of_range_are_refused_only_where_they_count():
    logits, targets = normal(2, VOCAB), torch.tensor([0, -100])
    assert token_logps(logits, targets, mask=torch.tensor([1, 0]))[1] == 0
    for mask in (None, torch.tensor([0, 1])):
        with pytest.raises(
            ValueError, match=r"targets: got the value -100, expected values in \[0, 7\), the vocabulary"
        ):
            token_logps(logits, targets, mask=mask)


# -- contexts of training ---------------------------------------------------------------------------------------------


def value_and_gradient(function, logits, around=None, around_backward=None):
    """With contexts around the two passes, and an upstream gradient that is expanded."""
    leaf = logits.detach().clone().requires_grad_()
    with around or torch.enable_grad():
        result = function(leaf)
    with around_backward or torch.enable_grad():
        result.backward(torch.tensor(-0.7, dtype=result.dtype).expand_as(result))
    return result.detach(), leaf.grad


@pytest.mark.parametrize("lowered", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("part", ["forward", "backward", "both"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_autocast_changes_no_bit(function, lowered, dtype, part, temperature):
    logits, of = normal(5, 41, dtype=dtype), partial(function, temperature=temperature)
    on = partial(torch.autocast, "cpu", dtype=lowered)
    around = {"forward": (on(), None), "backward": (None, on()), "both": (on(), on())}[part]
    for found, expected in zip(value_and_gradient(of, logits, *around), value_and_gradient(of, logits), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_without_gradients_the_values_are_the_same(function):
    logits = normal(5, VOCAB)
    expected = function(logits.requires_grad_())
    assert expected.requires_grad
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            inside = logits.clone()
            assert torch.equal(function(logits), expected)
            assert torch.equal(function(inside), expected)
            assert torch.equal(function(inside, mask=torch.ones(5)), expected)
        assert torch.equal(function(inside), expected)


def test_targets_and_masks_made_in_inference_mode_go_into_a_loss():
    with torch.inference_mode():
        targets, mask = torch.tensor([0, 3]), torch.tensor([True, False])
    logits = normal(2, VOCAB).requires_grad_()
    for options in ({}, {"mask": mask}, {"mask": mask.int()}):
        plain = {name: x.clone() for name, x in options.items()}
        found, expected = token_logps(logits, targets, **options), token_logps(logits, targets.clone(), **plain)
        assert torch.equal(*(torch.autograd.grad(x.sum(), logits)[0] for x in (found, expected)))
    token_entropies(logits, mask=mask).sum().backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_no_bit(function, reentrant):
    logits = normal(5, VOCAB)
    again = value_and_gradient(lambda z: checkpoint(function, z, use_reentrant=reentrant), logits)
    assert all(torch.equal(x, y) for x, y in zip(again, value_and_gradient(function, logits), strict=True))


@pytest.fixture(params=["default dtype fp64", "deterministic", "two threads"])
def setting(request):
    """A global setting, restored afterwards."""
    threads = torch.get_num_threads()
    set_to = {
        "default dtype fp64": (torch.set_default_dtype, torch.float64, torch.float32),
        "deterministic": (torch.use_deterministic_algorithms, True, False),
        "two threads": (torch.set_num_threads, 2, threads),
    }[request.param]
    yield partial(set_to[0], set_to[1])
    set_to[0](set_to[2])


def test_global_settings_change_no_bit(function, setting):
    logits = normal(67, 1001)
    of = partial(function, temperature=0.7, mask=torch.arange(67) % 5 > 0)
    expected = value_and_gradient(of, logits)
    setting()
    for found, wanted in zip(value_and_gradient(of, logits), expected, strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)


def test_two_backward_passes_add_up(function):
    logits = normal(3, VOCAB).requires_grad_()
    result = function(logits).sum()
    result.backward(retain_graph=True)
    once = logits.grad.clone()
    result.backward()
    assert torch.equal(logits.grad, 2 * once)


class Marked(torch.Tensor):
    """A subclass of tensors."""


def test_parameters_and_subclasses(function):
    logits = normal(3, VOCAB)
    expected = function(logits)
    assert torch.equal(function(torch.nn.Parameter(logits)), expected)
    assert torch.equal(function(logits.as_subclass(Marked)).as_subclass(torch.Tensor), expected)
    found, gradient = value_and_gradient(function, logits.as_subclass(Marked))
    assert torch.equal(gradient.as_subclass(torch.Tensor), value_and_gradient(function, logits)[1])
    assert torch.equal(found.as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0)])
def test_no_position(function, shape):
    logits = torch.zeros(*shape, VOCAB, requires_grad=True)
    for options in ({}, {"mask": torch.zeros(shape)}):
        result = function(logits, **options)
        assert result.shape == shape
        assert torch.autograd.grad(result.sum(), logits)[0].shape == logits.shape


# -- memory planning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fake", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_planning(function, kind, dtype, monkeypatch):
    """Shapes and dtypes without memory. On these, too, no number decides what is done: so it is on a GPU."""
    monkeypatch.setattr(from_logits, "TILE", 2**10)
    with FakeTensorMode() if kind == "fake" else torch.device("meta"):
        logits = torch.empty(40, 200, dtype=dtype, requires_grad=True)
        result = function(logits, temperature=0.7, mask=torch.empty(40, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(result.sum(), logits)
    assert (result.shape, result.dtype) == ((40,), torch.float32)
    assert (gradient.shape, gradient.dtype) == (logits.shape, dtype)

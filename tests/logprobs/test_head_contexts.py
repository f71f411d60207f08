"""`linear_token_logps` and `fused_linear_loss` in the contexts of training."""

import math
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from grape_verified import (
    dpo_per_pair,
    fused_linear_loss,
    gspo_per_sequence,
    linear_token_logps,
    ppo_per_token,
    sft_per_token,
    token_logps,
)

WIDTH, VOCAB = 16, 37
COUNTS = [1, 2, 3, 5, 67]


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Problem:
    """Hidden states of one sequence, or of two for pairs, and a head."""

    def __init__(self, time=5, batch=1, dtype=torch.float32):
        compute = torch.float64 if dtype == torch.float64 else torch.float32
        self.leaves = normal(batch, time, WIDTH, dtype=dtype), normal(VOCAB, WIDTH, seed=1, dtype=dtype)
        self.bias = normal(VOCAB, seed=2, dtype=dtype)
        self.targets = torch.arange(batch * time).view(batch, time) * 3 % VOCAB
        self.mask = torch.arange(batch * time).view(batch, time) % 4 != 1
        self.inputs = {"old_logps": normal(batch, time, seed=3, dtype=compute) - 4, "advantages": normal(batch, seed=4)}

    def two_stage(self, hidden, weight):
        logps, entropies = linear_token_logps(
            hidden, weight, self.targets, bias=self.bias, temperature=0.7, mask=self.mask, with_entropy=True
        )
        return (logps - 0.1 * entropies).square()

    def token(self, hidden, weight):
        options = {"bias": self.bias, "temperature": 0.7, "mask": self.mask, "inputs": self.inputs}
        return fused_linear_loss(hidden, weight, self.targets, ppo_per_token, **options).loss

    def sequence(self, hidden, weight):
        inputs = {**self.inputs, "mask": self.mask}
        options = {"mask": self.mask, "inputs": inputs, "separable": "sequence"}
        return fused_linear_loss(hidden, weight, self.targets, gspo_per_sequence, **options).loss

    def pair(self, hidden, weight):
        half = len(self.targets) // 2
        inputs = {"ref_chosen_logps": -normal(half, seed=5).abs(), "ref_rejected_logps": -normal(half, seed=6).abs()}
        options = {"mask": self.mask, "inputs": inputs, "separable": "pair"}
        return fused_linear_loss(hidden, weight, self.targets, dpo_per_pair, **options).loss


ROUTES = ["two_stage", "token", "sequence", "pair"]


@pytest.fixture(params=ROUTES)
def route(request):
    return request.param


def run(problem, route, around=None, around_backward=None, call=lambda f, *x: f(*x)):
    """The value, and the gradients of both operands with an expanded upstream gradient."""
    leaves = [x.detach().clone().requires_grad_() for x in problem.leaves]
    with around or torch.enable_grad():
        result = call(getattr(problem, route), *leaves)
    with around_backward or torch.enable_grad():
        result.backward(torch.tensor(-0.7, dtype=result.dtype).expand_as(result))
    return [result.detach(), *(x.grad for x in leaves)]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


# -- autocast ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowered", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("time", COUNTS)
def test_autocast_changes_no_bit(route, lowered, dtype, time):
    """Around the forward pass, the backward pass and both, for every number of tokens that is left over."""
    problem = Problem(time, batch=2, dtype=dtype)
    expected = run(problem, route)
    on = partial(torch.autocast, "cpu", dtype=lowered)
    for around in ((on(), None), (None, on()), (on(), on())):
        assert_equal(run(problem, route, *around), expected)


def test_autocast_does_not_reach_the_function_of_the_loss():
    """Which may hold products: here of log-probabilities."""
    problem, square = Problem(), normal(5, 5, seed=7)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found.append(fused_linear_loss(*problem.leaves, problem.targets, lambda x: x @ square))
    assert_equal(found[0], found[1])


# -- without gradients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_values_are_the_same(route, context):
    problem = Problem(batch=2)
    expected = run(problem, route)[0]
    with context():
        assert torch.equal(getattr(problem, route)(*problem.leaves), expected)
        inside = Problem(batch=2)
        assert torch.equal(getattr(inside, route)(*inside.leaves), expected)
        inside.denominator = torch.tensor(2.0)
        fused = fused_linear_loss(*inside.leaves, inside.targets, sft_per_token, denominator=inside.denominator)
        assert fused.loss.isfinite()


def test_no_slope_is_computed_where_no_gradient_is_asked_for():
    problem, modes = Problem(), []

    def loss_fn(logps):
        modes.append((torch.is_grad_enabled(), logps.requires_grad))
        return -logps

    leaves = [x.requires_grad_() for x in problem.leaves]
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            fused_linear_loss(*leaves, problem.targets, loss_fn)
    assert modes == [(True, True), (False, False), (False, False)]


def test_targets_and_masks_made_in_inference_mode_go_into_a_loss(route):
    with torch.inference_mode():
        rollout = Problem(batch=2)
    problem = Problem(batch=2)
    expected = run(problem, route)
    problem.targets, problem.mask = rollout.targets, rollout.mask
    assert_equal(run(problem, route), expected)


# -- contexts of training ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_no_bit(route, reentrant):
    problem = Problem(batch=2)
    assert_equal(run(problem, route, call=partial(checkpoint, use_reentrant=reentrant)), run(problem, route))


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


def test_global_settings_change_no_bit(route, setting):
    problem = Problem(5, batch=2)
    expected = run(problem, route)
    setting()
    assert_equal(run(problem, route), expected)


@pytest.mark.parametrize("view", [False, True])
def test_two_backward_passes_add_up(route, view):
    """Also where a leaf clips its gradient in between, in place, and is looked at through a view."""
    problem = Problem(batch=2)
    leaves = [x.flatten(0, -2).clone().requires_grad_() if view else x.requires_grad_() for x in problem.leaves]
    shapes = [x.shape for x in problem.leaves]
    result = getattr(problem, route)(*(x.view(shape) for x, shape in zip(leaves, shapes, strict=True))).sum()
    result.backward(retain_graph=True)
    once = [x.grad.clone() for x in leaves]
    for x in leaves:
        x.grad.mul_(0.5)
    result.backward()
    assert_equal([x.grad for x in leaves], [0.5 * x + x for x in once])


def test_masks_of_integers_change_no_bit(route):
    problem = Problem(batch=2)
    expected = run(problem, route)
    for dtype in (torch.int64, torch.float32):
        problem.mask = problem.mask.to(dtype)
        if route == "sequence":
            problem.mask = problem.mask.bool()  # the input of gspo_per_sequence is the same tensor
        assert_equal(run(problem, route), expected)


def test_strided_operands_change_rounding_only(route):
    problem = Problem(batch=2)
    expected = run(problem, route)
    hidden, weight = problem.leaves
    problem.leaves = hidden.transpose(0, 2).contiguous().transpose(0, 2), weight.T.contiguous().T
    torch.testing.assert_close(run(problem, route), expected)


def test_a_weight_that_made_the_hidden_states_gets_both_gradients():
    """Tied to the embedding."""
    problem = Problem(dtype=torch.float64)
    problem.inputs = {name: x.double() for name, x in problem.inputs.items()}
    found = []
    for logps_of in (
        lambda h, w: linear_token_logps(h, w, problem.targets),
        lambda h, w: token_logps(h @ w.T, problem.targets),
        None,
    ):
        weight = problem.leaves[1].clone().requires_grad_()
        hidden = weight[problem.targets].tanh()
        if logps_of is None:
            loss = fused_linear_loss(hidden, weight, problem.targets, sft_per_token).loss
        else:
            loss = -logps_of(hidden, weight).mean()
        found.append(torch.autograd.grad(loss, weight)[0])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[2], found[1])


def test_parameters_and_subclasses(route):
    class Marked(torch.Tensor):
        """A subclass of tensors."""

    problem = Problem(batch=2)
    expected = getattr(problem, route)(*problem.leaves)
    for of_class in (torch.nn.Parameter, lambda x: x.as_subclass(Marked)):
        found = getattr(problem, route)(*(of_class(x) for x in problem.leaves))
        assert torch.equal(found.detach().as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_state_that_is_not_finite_is_nan_and_touches_no_other_token(value):
    problem = Problem()
    hidden, weight = problem.leaves
    hidden[0, 2] = value
    logps, entropies = linear_token_logps(hidden, weight, problem.targets, with_entropy=True)
    terms = fused_linear_loss(hidden, weight, problem.targets, sft_per_token).terms
    for result in (logps, entropies, terms):
        assert result.isnan().tolist() == [[False, False, True, False, False]]
    leaves = [x.requires_grad_() for x in problem.leaves]
    upstream = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0]])
    found = torch.autograd.grad(linear_token_logps(*leaves, problem.targets), leaves, upstream)
    assert all(x.isfinite().all() for x in found)
    assert not found[0][0, 2].any()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_rank_without_tokens_takes_part(route, shape, masked):
    problem = Problem(shape[1], batch=shape[0])
    if not masked:
        problem.mask = torch.ones(shape, dtype=torch.bool)
    value, *gradients = run(problem, route)
    assert value.isfinite().all()
    assert route in ("sequence", "pair") or not value.any()
    assert [x.shape for x in gradients] == [x.shape for x in problem.leaves]
    assert not any(x.any() for x in gradients)


# -- compilers, transforms, memory planning ---------------------------------------------------------------------------


def test_compiled_two_stages_are_one_graph_with_the_same_bits():
    problem = Problem(67, batch=2)
    for options in ({"fullgraph": True, "backend": "aot_eager"}, {"fullgraph": True, "dynamic": True}):
        compiled = torch.compile(problem.two_stage, **options)
        torch.testing.assert_close(
            run(problem, "two_stage", call=lambda _, *x, f=compiled: f(*x)), run(problem, "two_stage")
        )


def test_compiled_two_stages_need_no_gradient():
    hidden, weight, targets = torch.randn(3, 5), torch.randn(7, 5), torch.tensor([0, 1, 2])
    compiled = torch.compile(linear_token_logps, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(hidden, weight, targets), linear_token_logps(hidden, weight, targets))


@pytest.mark.parametrize("options", [{}, {"mask": torch.tensor([1, 0, 1])}])
def test_compiled_two_stages_ignore_entropies_that_nobody_asked_for(options):
    hidden, weight = (torch.randn(n, 5, requires_grad=True) for n in (3, 7))
    targets, gradients = torch.tensor([0, 1, 2]), []
    for compiled in (False, True):
        function = torch.compile(linear_token_logps, backend="aot_eager") if compiled else linear_token_logps
        total = function(hidden, weight, targets, **options).sum()
        gradients.append(torch.autograd.grad(total, (hidden, weight)))
    assert all(map(torch.equal, *gradients))


def test_a_compiled_fused_loss_breaks_the_graph_once():
    problem = Problem(67, batch=2)
    counter = CompileCounterWithBackend("aot_eager")

    def around(hidden, weight):
        return problem.token(hidden.sin(), weight.cos()) * 2

    found = run(problem, "token", call=lambda _, *x: torch.compile(around, backend=counter)(*x))
    assert_equal(found, run(problem, "token", call=lambda _, *x: around(*x)))
    assert counter.frame_count == 2  # what is before the call, and what is after it


def test_torch_func_grad_of_the_two_stages():
    problem = Problem(batch=2)
    hidden, weight = problem.leaves
    found = torch.func.grad(lambda *x: problem.two_stage(*x).sum(), argnums=(0, 1))(hidden, weight)
    leaves = [x.clone().requires_grad_() for x in problem.leaves]
    assert_equal(found, torch.autograd.grad(problem.two_stage(*leaves).sum(), leaves))


def test_vmap_of_the_two_stages_is_a_loop():
    targets = torch.arange(6).view(2, 3)
    hidden, weight = normal(2, 3, WIDTH), normal(2, VOCAB, WIDTH, seed=1)

    def loss(h, w, y):
        logps, entropies = linear_token_logps(h, w, y, mask=y != 4, with_entropy=True)
        return (logps * entropies).sum()

    for function in (loss, torch.func.grad(loss), torch.func.grad(loss, argnums=1)):
        looped = torch.stack([function(*x) for x in zip(hidden, weight, targets, strict=True)])
        torch.testing.assert_close(torch.vmap(function)(hidden, weight, targets), looped)
        looped = torch.stack([function(h, weight[0], y) for h, y in zip(hidden, targets, strict=True)])
        torch.testing.assert_close(torch.vmap(function, in_dims=(0, None, 0))(hidden, weight[0], targets), looped)


def test_second_and_forward_derivatives_of_the_two_stages_are_refused():
    problem = Problem()
    hidden, weight = problem.leaves

    def loss(h):
        return problem.two_stage(h, weight).sum()

    with pytest.raises(RuntimeError, match="linear_token_logps: got a backward pass with create_graph=True, expected"):
        torch.func.grad(lambda h: torch.func.grad(loss)(h).square().sum())(hidden)
    with pytest.raises(RuntimeError, match="forward mode AD"):
        torch.func.jvp(loss, (hidden,), (hidden,))


def test_the_fused_loss_refuses_transforms_by_name():
    problem = Problem()
    hidden, weight = problem.leaves
    calls = [
        lambda: torch.func.grad(problem.token)(hidden, weight),
        lambda: torch.vmap(problem.token, in_dims=(None, 0))(hidden, weight.expand(2, -1, -1)),
        lambda: torch.func.jvp(lambda h: problem.token(h, weight), (hidden,), (hidden,)),
    ]
    for call in calls:
        with pytest.raises(
            TypeError, match=r"fused_linear_loss: got tensors of a torch.func transform, expected plain"
        ):
            call()


@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_memory_planning_of_the_two_stages(kind):
    with FakeTensorMode() if kind == "fake" else torch.device("meta"):
        hidden = torch.empty(2, 3, WIDTH, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.empty(VOCAB, WIDTH, dtype=torch.bfloat16, requires_grad=True)
        targets, mask = torch.empty(2, 3, dtype=torch.long), torch.empty(2, 3, dtype=torch.bool)
        logps, entropies = linear_token_logps(hidden, weight, targets, mask=mask, with_entropy=True)
        gradients = torch.autograd.grad((logps + entropies).sum(), (hidden, weight))
    assert (logps.shape, logps.dtype, entropies.shape) == ((2, 3), torch.float32, (2, 3))
    assert [(x.shape, x.dtype) for x in gradients] == [(x.shape, x.dtype) for x in (hidden, weight)]


@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_the_fused_loss_refuses_tensors_without_numbers(kind):
    with FakeTensorMode() if kind == "fake" else torch.device("meta"):
        hidden, weight = torch.empty(2, 3, WIDTH), torch.empty(VOCAB, WIDTH)
        with pytest.raises(TypeError, match=r"hidden: got a tensor without values, expected"):
            fused_linear_loss(hidden, weight, torch.empty(2, 3, dtype=torch.long), sft_per_token)

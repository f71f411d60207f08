"""Contexts of a step or a Fisher product: no state that torch keeps between evaluations affects the result."""

import contextlib
import copy

import pytest
import torch
from torch import distributed as dist
from torch._subclasses import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import distribute_tensor
from torch.nn import BatchNorm1d, Embedding, Flatten, Linear, Module, Parameter, Sequential, Unflatten
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from grape_verified import conjugate_gradient, fisher_vector_product, trpo_step

from .models import MASK, bits, linear, linear_case, llama, llama_batch, logits_of, normal, trained

FLOATS = [torch.bfloat16, torch.float16]


def autocast(dtype, **options):
    return torch.autocast("cpu", dtype=dtype, **options)


@contextlib.contextmanager
def default_double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def llama_step(model, **options):
    inputs, targets = llama_batch()
    return trpo_step(model, inputs, targets, normal(3, 4, seed=9, dtype=torch.float32), MASK, **options)


def linear_step(model, **options):
    return trpo_step(model, *linear_case()[1:], MASK, **options)


def outcomes(model):
    """What a product and a step do, in bits."""
    vector = normal(sum(p.numel() for p in trained(model)), seed=2, dtype=torch.float32)
    product = fisher_vector_product(model, llama_batch()[0], MASK, vector)
    step = llama_step(model)
    assert step.accepted
    return [step], [product, *bits(model)]


def same(one, other):
    return one[0] == other[0] and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


class Casting(Module):
    """A model that enters autocast itself."""

    def __init__(self, inner, **options):
        super().__init__()
        self.inner, self.options = inner, options

    def forward(self, **inputs):
        with autocast(**self.options):
            return self.inner(**inputs)


class Recomputed(Module):
    """A model that saves only its input for the backward pass."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, **inputs):
        return checkpoint(self.inner, **inputs, use_reentrant=False)


# -- contexts without effect, bit for bit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "around", [torch.no_grad, torch.inference_mode, torch.enable_grad, default_double, deterministic]
)
def test_modes_change_nothing(around):
    expected = outcomes(llama())
    model = llama()
    with around():
        found = outcomes(model)
    assert same(found, expected)


def test_tensors_made_in_inference_mode_may_be_read():
    expected = llama()
    step = llama_step(expected)
    with torch.inference_mode():
        inputs, targets = llama_batch()
        advantages, mask = normal(3, 4, seed=9, dtype=torch.float32), MASK.clone()
        vector = normal(28)
    model, other = llama(), linear()
    assert trpo_step(model, inputs, targets, advantages, mask) == step
    assert all(torch.equal(a, b) for a, b in zip(bits(model), bits(expected), strict=True))
    product = fisher_vector_product(other, normal(3, 4, 3), mask, vector)
    assert torch.equal(product, fisher_vector_product(other, normal(3, 4, 3), MASK, vector.clone()))


def test_a_compiled_model_takes_the_step_of_the_model():
    """Evaluated compiled and differentiated eagerly: aot_autograd has no second derivative."""
    assert same(outcomes(torch.compile(llama(), backend="aot_eager")), outcomes(llama()))


def test_hooks_on_accumulated_gradients_do_not_run():
    model, calls = llama(), []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(calls.append)
    assert same(outcomes(model), outcomes(llama()))
    assert not calls


# -- autocast ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_under_autocast_the_policy_is_that_of_the_model_under_autocast(dtype):
    """A model that enters autocast itself has fresh copies of its parameters each time."""
    model = llama()
    with autocast(dtype):
        found = outcomes(model)
    assert same(found, outcomes(Casting(llama(), dtype=dtype)))
    assert not same(found, outcomes(llama()))


@pytest.mark.parametrize("dtype", FLOATS)
def test_under_autocast_the_divergence_is_measured_where_the_parameters_are(dtype):
    """Against evaluations each in a region of its own, in fp64 from the logits on."""
    torch.manual_seed(0)
    model = Sequential(Embedding(10, 4), Linear(4, 10))
    old, inputs, targets = copy.deepcopy(model), torch.randint(10, (1, 6)), torch.randint(10, (1, 6))
    advantages, mask = torch.randn(1, 6), torch.ones(1, 6)
    with autocast(dtype):
        step = trpo_step(model, inputs, targets, advantages, mask, max_kl=0.5, damping=0.0)
    logps = []
    for policy in (old, model):
        with torch.no_grad(), autocast(dtype):
            logps.append(policy(inputs).double().log_softmax(-1))
    kl = (logps[0].exp() * (logps[0] - logps[1])).sum(-1).mean().item()
    assert step.accepted
    assert step.kl == pytest.approx(kl, rel=1e-5)
    assert 1e-3 < kl <= 0.5


@pytest.mark.parametrize("polluted", [False, True])
def test_an_autocast_region_goes_on_with_the_new_parameters_and_their_gradients(polluted):
    """Copies made before the step, or by it without a gradient, would be read by what follows in the region."""
    model, (inputs, _) = llama(), llama_batch()
    with autocast(torch.bfloat16):
        if polluted:
            with torch.no_grad():
                logits_of(model, inputs)
        found = outcomes(model)
        after = logits_of(model, inputs)
        gradients = torch.autograd.grad(after.sum(), list(model.parameters()), allow_unused=True)
    with autocast(torch.bfloat16):
        assert torch.equal(after, logits_of(model, inputs))
    assert all(gradient is not None for gradient in gradients)
    assert same(found, outcomes(Casting(llama(), dtype=torch.bfloat16)))


def test_a_region_of_the_model_within_that_of_the_caller_may_cache():
    class Prepared(Module):
        """Enters the same region each time, whose cache was enabled when it was made."""

        def __init__(self):
            super().__init__()
            self.inner, self.region = llama(), autocast(torch.bfloat16, cache_enabled=True)

        def forward(self, **inputs):
            with self.region:
                return self.inner(**inputs)

    model = Prepared()
    with autocast(torch.bfloat16):
        found = outcomes(model)
    assert same(found, outcomes(Casting(llama(), dtype=torch.bfloat16)))


def test_a_rejected_step_under_autocast_leaves_the_region_with_the_old_parameters():
    model, inputs, targets, advantages = linear_case()
    model, inputs = model.float(), inputs.float()
    before = bits(model)
    with autocast(torch.bfloat16):
        old = model(inputs)
        step = trpo_step(model, inputs, targets, advantages, MASK, max_kl=3.0, damping=0.0, cg_steps=28, backtracks=0)
        assert not step.accepted
        assert torch.equal(model(inputs), old)
    assert all(torch.equal(a, b) for a, b in zip(before, bits(model), strict=True))


def test_a_backward_pass_under_autocast_has_the_dtypes_of_the_forward_pass():
    """A layer that the model keeps in fp32 is differentiated in fp32."""

    class Kept(Module):
        def __init__(self):
            super().__init__()
            self.inner = linear(seed=5).float()

        def forward(self, inputs):
            with torch.autocast("cpu", enabled=False):
                return self.inner(inputs)

    inputs, vector = normal(3, 4, 3, dtype=torch.float32), normal(28, dtype=torch.float32)
    with autocast(torch.bfloat16):
        product = fisher_vector_product(Kept(), inputs, MASK, vector)
    assert torch.equal(product, fisher_vector_product(Kept(), inputs, MASK, vector))


def test_checkpoints_under_autocast():
    inner, other = llama(use_cache=False), llama(use_cache=False)
    with autocast(torch.bfloat16):
        found, expected = outcomes(Recomputed(inner)), outcomes(other)
    assert found[0][0].kl == pytest.approx(expected[0][0].kl, rel=0.05)
    for one, two in zip(inner.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3)


def test_the_solution_of_a_system_is_not_rounded_by_autocast():
    matrix, target = torch.diag(torch.tensor([1.0, 2.0, 3.0])), normal(3, dtype=torch.float32)
    plain = conjugate_gradient(lambda vector: (matrix * vector).sum(1), target)
    with autocast(torch.bfloat16):
        assert torch.equal(conjugate_gradient(lambda vector: (matrix * vector).sum(1), target), plain)


# -- what a model keeps ------------------------------------------------------------------------------------------------


def normalised():
    return Sequential(
        Flatten(0, 1), BatchNorm1d(3, dtype=torch.float64), Unflatten(0, (3, 4)), linear(seed=5)
    )  # fmt: skip


def test_buffers_are_what_they_were():
    model = normalised()
    before, objects = [buffer.clone() for buffer in model.buffers()], list(model.buffers())
    assert linear_step(model).accepted
    fisher_vector_product(model, linear_case()[1], MASK, normal(34))
    assert all(torch.equal(old, new) for old, new in zip(before, model.buffers(), strict=True))
    assert all(old is new for old, new in zip(objects, model.buffers(), strict=True))


def test_buffers_are_what_they_were_after_an_error_and_where_they_were_replaced():
    class Counting(Module):
        def __init__(self):
            super().__init__()
            self.inner = linear(seed=5)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, inputs):
            self.calls = self.calls + 1
            if self.calls == 3:
                raise RuntimeError("out of memory")
            return self.inner(inputs)

    model = Counting()
    with pytest.raises(RuntimeError, match="out of memory"):
        linear_step(model)
    assert model.calls == 0


def test_a_buffer_that_requires_a_gradient_is_restored():
    class Moving(Module):
        def __init__(self):
            super().__init__()
            self.inner = linear(seed=5)
            self.register_buffer("seen", torch.zeros((), requires_grad=True))

        def forward(self, inputs):
            self.seen.detach().add_(1)
            return self.inner(inputs)

    model = Moving()
    assert linear_step(model).accepted
    assert model.seen == 0
    assert model.seen.requires_grad


def test_a_buffer_that_did_not_change_is_not_written_to():
    """A graph of the caller that saved it can still be differentiated."""

    class Scaled(Module):
        def __init__(self):
            super().__init__()
            self.inner = linear(seed=5)
            self.register_buffer("scale", torch.ones(7, dtype=torch.float64))

        def forward(self, inputs):
            return self.inner(inputs) * self.scale

    model = Scaled()
    loss = model(linear_case()[1]).sum()
    fisher_vector_product(model, linear_case()[1], MASK, normal(28))
    loss.backward()
    assert model.inner.bias.grad is not None


@pytest.mark.parametrize("parametrized", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_parametrized_weights_follow_their_parameters(parametrized):
    model = parametrized(linear(seed=5))
    old = model(linear_case()[1]).detach().log_softmax(-1)[MASK]
    step = linear_step(model)
    new = model(linear_case()[1]).detach().log_softmax(-1)[MASK]
    assert step.accepted
    assert step.kl == pytest.approx((old.exp() * (old - new)).sum(-1).mean().item(), rel=1e-9)


def test_a_parametrization_that_returns_its_parameter_is_not_a_cached_one():
    model = linear(seed=5)
    parametrize.register_parametrization(model, "weight", torch.nn.Identity())
    assert linear_step(model).accepted


def test_cached_parametrizations_are_refused():
    model = parametrizations.weight_norm(linear(seed=5))
    with parametrize.cached(), pytest.raises(ValueError, match="model: got a cached weight, expected parametrizations"):
        linear_step(model)
    with parametrize.cached(), pytest.raises(ValueError, match="model: got a cached weight, expected parametrizations"):
        fisher_vector_product(model, linear_case()[1], MASK, normal(35))


# -- what is refused ---------------------------------------------------------------------------------------------------


def both(model, inputs=None):
    """A step, and a product."""
    _, given, targets, advantages = linear_case()
    inputs = given if inputs is None else inputs
    return [
        lambda: trpo_step(model, inputs, targets, advantages, MASK),
        lambda: fisher_vector_product(model, inputs, MASK, torch.ones(28)),
    ]


def test_parameters_in_parts_are_refused(one_rank):
    model = linear()
    model.weight = Parameter(distribute_tensor(model.weight.detach(), init_device_mesh("cpu", (1,))))
    for call in both(model):
        with pytest.raises(TypeError, match="model: got parameters that are DTensors, expected a plain module"):
            call()


def test_replicas_are_refused(one_rank):
    for call in both(Sequential(DistributedDataParallel(linear()))):
        with pytest.raises(TypeError, match="model: got a DistributedDataParallel, expected a plain module"):
            call()


def test_a_sharded_module_is_refused(one_rank):
    sharded = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    Module.__init__(sharded)
    sharded.inner = linear()
    for call in both(Sequential(sharded)):
        with pytest.raises(TypeError, match="model: got a FullyShardedDataParallel, expected a plain module"):
            call()


def test_parameters_that_cannot_be_trained_are_refused():
    with torch.inference_mode():
        models = [linear(), Sequential(linear(), Linear(7, 2))]
    models[1][1] = Linear(7, 2)
    for call in (call for model in models for call in both(model)):
        with pytest.raises(ValueError, match="model: got parameters made in inference mode, expected some that"):
            call()


def test_what_has_no_values_is_refused():
    for call in both(linear().to("meta")):
        with pytest.raises(ValueError, match="model: got parameters on meta, expected parameters with values"):
            call()
    with FakeTensorMode(allow_non_fake_inputs=True):
        mask = torch.ones(3, 4, dtype=torch.bool)
        with pytest.raises(ValueError, match="mask: got a tensor without values"):
            fisher_vector_product(linear(), normal(3, 4, 3), mask, torch.ones(28))
    model, given = linear(), (normal(3, 4, 3), torch.zeros(3, 4).long(), normal(3, 4))
    with pytest.raises(ValueError, match="mask: got a tensor without values"):
        torch.func.vmap(lambda mask: trpo_step(model, *given, mask))(torch.ones(2, 3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="target: got a tensor without values"):
        torch.func.vmap(lambda target: conjugate_gradient(lambda v: 2 * v, target))(normal(5, 3))


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_call_is_refused(fullgraph):
    """For a full graph, torch raises an error of its own that quotes ours."""
    torch._dynamo.reset()
    for call in both(linear()):
        with pytest.raises(
            torch._dynamo.exc.Unsupported if fullgraph else ValueError,
            match=r"model: got a call within torch\.compile, expected one that is not compiled",
        ):
            torch.compile(call, fullgraph=fullgraph, backend="eager")()


def test_products_of_many_vectors_under_vmap():
    model, inputs, vectors = linear(), linear_case()[1], normal(5, 28)

    def product(vector):
        return fisher_vector_product(model, inputs, MASK, vector, damping=0.5)

    torch.testing.assert_close(torch.func.vmap(product)(vectors), torch.stack([product(v) for v in vectors]))


def test_batches_without_a_row():
    model, inputs, targets, advantages = linear_case()
    before = bits(model)
    step = trpo_step(model, inputs[:0], targets[:0], advantages[:0], MASK[:0])
    assert (step.accepted, step.kl, step.reason) == (False, 0.0, "no token counts")
    assert all(torch.equal(a, b) for a, b in zip(before, bits(model), strict=True))
    vector = normal(28)
    assert torch.equal(fisher_vector_product(model, inputs[:0], MASK[:0], vector, damping=0.5), 0.5 * vector)

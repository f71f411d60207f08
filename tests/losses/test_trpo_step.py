"""TRPO's step: Fisher products against dense matrices, conjugate gradients, what a step guarantees on real models."""

import copy
import inspect
import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.nn import Dropout, Embedding, Linear, Module, Parameter, Sequential
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from grape_verified import (
    NonPositiveCurvature,
    conjugate_gradient,
    fisher_vector_product,
    token_logps,
    trpo_loss,
    trpo_step,
)

VOCAB = 7
MASK = torch.tensor([[True, True, False, True], [True, False, False, False], [False, False, False, False]])
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tokens(*shape, seed=0):
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


class Tied(Module):
    """An embedding that is the output matrix as well, a frozen bias, and a parameter that takes no part."""

    def __init__(self):
        super().__init__()
        self.embedding = Embedding(VOCAB, 3, dtype=torch.float64)
        self.unused = Parameter(normal(2))
        self.output = Linear(3, VOCAB, dtype=torch.float64)
        self.output.weight = self.embedding.weight
        self.output.bias.requires_grad_(False)
        with torch.no_grad():
            self.embedding.weight.copy_(normal(VOCAB, 3, seed=1))

    def forward(self, inputs):
        return self.output(self.embedding(inputs).tanh())


def linear(seed=0, features=3):
    model = Linear(features, VOCAB, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(normal(VOCAB, features, seed=seed))
        model.bias.copy_(normal(VOCAB, seed=seed + 1))
    return model


def llama(dtype=torch.float32, **options):
    """A small Llama. Its norms compute in fp32 whatever the dtype: in fp64, torch's replace them."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        initializer_range=0.4,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval().to(dtype)
    if dtype == torch.float64:
        for parent in list(model.modules()):
            for name, norm in list(parent.named_children()):
                if isinstance(norm, LlamaRMSNorm):
                    double = torch.nn.RMSNorm(norm.weight.shape, norm.variance_epsilon, dtype=dtype)
                    double.weight = norm.weight
                    setattr(parent, name, double)
    return model


def llama_batch():
    """Padded on the right; position t predicts the token after it."""
    sequences = tokens(3, 5, seed=4)
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
    return {"input_ids": sequences[:, :-1], "attention_mask": real}, sequences[:, 1:]


def logits_of(model, inputs):
    output = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return getattr(output, "logits", output)


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def dense_fisher(model, inputs, mask=MASK):
    """mean_t J_tᵀ (diag π − ππᵀ) J_t: one logit, one row of J, after the other."""
    parameters = trained(model)
    rows = logits_of(model, inputs)[mask]
    total = 0
    for row in rows:
        jacobian = []
        for logit in row:
            found = torch.autograd.grad(logit, parameters, retain_graph=True, allow_unused=True)
            of_parameters = zip(found, parameters, strict=True)
            jacobian.append(flat([torch.zeros_like(of) if g is None else g for g, of in of_parameters]))
        jacobian = torch.stack(jacobian)
        p = row.detach().exp() / row.detach().exp().sum()
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(rows)


def measure(model, inputs, targets, advantages, old_logits, mask=MASK):
    """Mean KL(old‖new) and mean ρA, token by token in fp64."""
    with torch.no_grad():
        logits = logits_of(model, inputs).double()
    divergences, surrogates = [], []
    for place in mask.nonzero().tolist():
        old, new = (Categorical(logits=given[tuple(place)].double()) for given in (old_logits, logits))
        divergences.append(kl_divergence(old, new).item())
        target = targets[tuple(place)]
        surrogates.append((new.log_prob(target) - old.log_prob(target)).exp().item() * advantages[tuple(place)].item())
    return sum(divergences) / len(divergences), sum(surrogates) / len(surrogates)


def bits(model):
    """Every parameter as integers, so that NaN equals NaN and 0 is not −0."""
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    return [p.detach().clone().view(integers[p.element_size()]) for p in model.parameters()]


def unchanged(before, model):
    return all(torch.equal(old, new) for old, new in zip(before, bits(model), strict=True))


# -- Fisher products ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (linear(), normal(3, 4, 3, seed=2)),
        (Sequential(Embedding(VOCAB, 3, dtype=torch.float64), linear()), tokens(3, 4)),
        (Tied(), tokens(3, 4)),
        (llama(torch.float64), llama_batch()[0]),
        (llama(torch.float64, tie_word_embeddings=True), llama_batch()[0]),
    ],
    ids=["linear", "embedding", "tied", "llama", "llama tied"],
)
def test_fisher_product_is_that_of_the_dense_matrix(model, inputs, damping):
    fisher = dense_fisher(model, inputs)
    vector = normal(len(fisher), seed=3)
    product = fisher_vector_product(model, inputs, MASK, vector, damping=damping)
    torch.testing.assert_close(product, fisher @ vector + damping * vector, rtol=1e-12, atol=1e-13)


def test_the_fisher_matrix_of_a_single_token():
    model, inputs, vector = linear(), normal(3, 4, 3), normal(28, seed=3)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, 2] = True
    torch.testing.assert_close(
        fisher_vector_product(model, inputs, mask, vector), dense_fisher(model, inputs, mask) @ vector
    )


def test_the_fisher_matrix_is_the_hessian_of_the_mean_divergence():
    """An independent road to it: differentiate KL(old‖new) twice, without the Gauss-Newton form."""
    model, inputs = Sequential(Embedding(VOCAB, 3, dtype=torch.float64), torch.nn.Tanh(), linear()), tokens(3, 4)
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    old = model(inputs).detach()[MASK].log_softmax(-1)

    def divergence(vector):
        pieces = vector.split([value.numel() for value in values.values()])
        moved = {name: piece.view_as(values[name]) for name, piece in zip(values, pieces, strict=True)}
        new = torch.func.functional_call(model, moved, (inputs,))[MASK].log_softmax(-1)
        return (old.exp() * (old - new)).sum(-1).mean()

    hessian = torch.autograd.functional.hessian(divergence, flat(values.values()))
    vector = normal(len(hessian), seed=3)
    torch.testing.assert_close(fisher_vector_product(model, inputs, MASK, vector), hessian @ vector)


def test_fisher_product_in_fp32_keeps_its_bound():
    model, inputs = llama(), llama_batch()[0]
    fisher = dense_fisher(llama(torch.float64), inputs)
    for seed in range(20):
        vector = normal(len(fisher), seed=seed, dtype=torch.float32)
        product, exact = fisher_vector_product(model, inputs, MASK, vector), fisher @ vector.double()
        assert product.dtype == torch.float32
        assert (product - exact).abs().max() <= 64 * UNIT[torch.float32] * exact.abs().max()


def test_fisher_matrix_is_symmetric_and_positive_semi_definite():
    model, inputs = Tied(), tokens(3, 4)
    matrix = torch.stack([fisher_vector_product(model, inputs, MASK, row) for row in torch.eye(23).double()])
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-15
    assert not matrix[:, :2].any(), "the parameter that takes no part"
    assert matrix[:, 2:].any(0).sum() > 10


def test_fisher_product_of_half_precision_is_fp32():
    model, inputs = llama(torch.bfloat16), llama_batch()[0]
    vector = normal(sum(p.numel() for p in model.parameters()), dtype=torch.bfloat16)
    product = fisher_vector_product(model, inputs, MASK, vector)
    assert product.dtype == torch.float32
    exact = dense_fisher(llama(torch.float64), inputs) @ vector.double()
    assert torch.cosine_similarity(product.double(), exact, dim=0) > 0.99


def test_fisher_product_without_a_token_is_the_damping_alone():
    model, vector = linear(), normal(28)
    nobody = torch.zeros(3, 4, dtype=torch.bool)
    assert torch.equal(fisher_vector_product(model, normal(3, 4, 3), nobody, vector, damping=0.5), 0.5 * vector)


def test_fisher_product_ignores_masked_logits_and_leaves_everything_as_it_was():
    class Behind(Module):
        """NaN logits where the mask is 0."""

        def __init__(self):
            super().__init__()
            self.inner = linear()

        def forward(self, inputs):
            return torch.where(MASK.unsqueeze(-1), self.inner(inputs), math.nan)

    model, inputs, vector = Behind(), normal(3, 4, 3, seed=2), normal(28)
    before, copies = bits(model), (inputs.clone(), vector.clone())
    with torch.no_grad():
        dirty = fisher_vector_product(model, inputs, MASK, vector)
    assert torch.equal(dirty, fisher_vector_product(model.inner, inputs, MASK, vector))
    assert unchanged(before, model)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(inputs, copies[0])
    assert torch.equal(vector, copies[1])


class Forbidding(Module):
    """Token 2 has a logit of −inf everywhere."""

    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, inputs):
        return self.inner(inputs).masked_fill(torch.arange(VOCAB) == 2, -math.inf)


def test_a_forbidden_token_has_no_part_in_the_fisher_matrix():
    model, inputs = Forbidding(), normal(3, 4, 3, seed=2)
    of_token_two = torch.zeros(28, dtype=torch.float64)
    of_token_two[6:9] = of_token_two[23] = 1
    assert not fisher_vector_product(model, inputs, MASK, of_token_two).any()
    assert fisher_vector_product(model, inputs, MASK, torch.ones(28)).isfinite().all()


# -- conjugate gradients -----------------------------------------------------------------------------------------------


def positive_definite(size, condition, seed=0):
    basis, _ = torch.linalg.qr(normal(size, size, seed=seed))
    return basis @ torch.diag(torch.logspace(0, math.log10(condition), size, dtype=torch.float64)) @ basis.T


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_conjugate_gradient_is_exact_after_as_many_steps_as_dimensions(size):
    matrix, target = positive_definite(size, 10), normal(size, seed=1)
    solution = conjugate_gradient(matrix.mv, target, steps=size)
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, target), rtol=1e-9, atol=1e-9)


def test_conjugate_gradient_keeps_its_bound():
    for seed in range(20):
        matrix, target = positive_definite(20, 100, seed), normal(20, seed=seed + 100)
        residual = target - matrix @ conjugate_gradient(matrix.mv, target, steps=40)
        assert residual.norm() <= 1e-9 * target.norm()


def test_conjugate_gradient_is_optimal_in_its_krylov_space():
    """After k steps x minimises ½xᵀAx − bᵀx over the span of b, Ab, …, A^(k−1) b."""
    matrix, target = positive_definite(8, 30), normal(8, seed=1)
    space = torch.stack([torch.linalg.matrix_power(matrix, k) @ target for k in range(3)], 1)
    best = space @ torch.linalg.solve(space.T @ matrix @ space, space.T @ target)
    torch.testing.assert_close(conjugate_gradient(matrix.mv, target, steps=3), best)


@pytest.mark.parametrize(("tolerance", "expected"), [(0.5, 1), (1e-2, 5), (1e-10, 8)])
def test_conjugate_gradient_stops_at_its_tolerance(tolerance, expected):
    matrix, target, calls = positive_definite(8, 4), normal(8, seed=1), []

    def product(vector):
        calls.append(vector)
        return matrix @ vector

    solution = conjugate_gradient(product, target, steps=50, tolerance=tolerance)
    assert (target - matrix @ solution).norm() <= tolerance * target.norm() * (1 + 1e-3)
    assert len(calls) <= expected
    if len(calls) > 1:
        shorter = conjugate_gradient(matrix.mv, target, steps=len(calls) - 1, tolerance=0.0)
        assert (target - matrix @ shorter).norm() > tolerance * target.norm()


def test_conjugate_gradient_of_zero_is_zero_without_a_product():
    def product(vector):
        raise AssertionError

    assert torch.equal(conjugate_gradient(product, torch.zeros(3)), torch.zeros(3))


def test_conjugate_gradient_of_a_target_without_a_positive_entry():
    target = torch.tensor([0.0, -3.0])
    assert torch.equal(conjugate_gradient(lambda vector: 2 * vector, target), target / 2)


def test_conjugate_gradient_ends_where_nothing_is_left_even_without_a_tolerance():
    target = torch.tensor([2.0, -4.0])
    assert torch.equal(conjugate_gradient(lambda vector: vector, target, tolerance=0.0), target)


def test_solutions_and_products_are_constants():
    vector = normal(28).requires_grad_()
    assert not conjugate_gradient(lambda v: 2 * v, vector).requires_grad
    assert not fisher_vector_product(linear(), normal(3, 4, 3), MASK, vector).requires_grad


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e25, 1e37])
def test_conjugate_gradient_neither_overflows_nor_vanishes(scale):
    matrix, target = positive_definite(4, 4).float(), normal(4, seed=1, dtype=torch.float32)
    solution = conjugate_gradient(matrix.mv, target * scale, tolerance=1e-5)
    torch.testing.assert_close(solution / scale, torch.linalg.solve(matrix, target), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_conjugate_gradient_reads_at_least_fp32_and_changes_nothing(dtype):
    target = normal(3).to(dtype)
    before = target.clone()
    solution = conjugate_gradient(lambda vector: 2 * vector, target)
    assert solution.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(solution, target.to(solution.dtype) / 2)
    assert torch.equal(target, before)


@pytest.mark.parametrize("matrix", [-torch.eye(2), torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, -3.0]])])
def test_a_direction_of_non_positive_curvature_is_named(matrix):
    with pytest.raises(NonPositiveCurvature, match=r"product: got the curvature .* along direction [12], expected > 0"):
        conjugate_gradient(matrix.mv, torch.tensor([2.0, 1.0]))


@pytest.mark.parametrize("curvature", [-3, 0])
def test_the_curvature_that_is_named_is_that_of_the_direction(curvature):
    with pytest.raises(NonPositiveCurvature, match=f"got the curvature {curvature} along direction 1, expected > 0"):
        conjugate_gradient(lambda vector: curvature * vector, torch.tensor([2.0, 0.0]))


def test_a_curvature_that_is_not_a_number_is_refused():
    with pytest.raises(NonPositiveCurvature, match="got the curvature nan"):
        conjugate_gradient(lambda vector: vector * math.nan, torch.ones(2))


# -- the step, where everything is known -------------------------------------------------------------------------------


def linear_case():
    """Linear logits: F does not depend on anything but the policy, and is known in closed form."""
    return linear(seed=5), normal(3, 4, 3, seed=6), tokens(3, 4, seed=7), normal(3, 4, seed=8)


def linear_fisher_and_gradient(model, inputs, targets, advantages):
    """F and g of z = Wx + b written out: F has entries π_v(δ_vw − π_w) x_i x_j at (v, i), (w, j), and g A(δ − π)x."""
    size = VOCAB * 4
    fisher, gradient, count = torch.zeros(size, size).double(), torch.zeros(size).double(), int(MASK.sum())
    weight = torch.cat([model.weight.detach(), model.bias.detach().unsqueeze(1)], 1)
    for place in MASK.nonzero().tolist():
        x = torch.cat([inputs[tuple(place)], torch.ones(1).double()])
        p = (weight @ x).exp() / (weight @ x).exp().sum()
        hot = torch.eye(VOCAB).double()[targets[tuple(place)]]
        fisher += torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(x, x)) / count
        gradient += advantages[tuple(place)] * torch.kron(hot - p, x) / count
    return fisher, gradient


def change_of(model, old):
    """What a step added to (W, b), in the order of `linear_fisher_and_gradient`."""
    new, old = (torch.cat([m.weight.detach(), m.bias.detach().unsqueeze(1)], 1) for m in (model, old))
    return (new - old).reshape(-1)


@pytest.mark.parametrize("max_kl", [1e-2, 1e-4])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_the_step_is_the_closed_form(max_kl, damping):
    """trpo.step: d* = √(2δ/gᵀH⁻¹g) H⁻¹g. F is singular, as logits may be shifted; H⁻¹g has the least norm."""
    model, inputs, targets, advantages = linear_case()
    old = copy.deepcopy(model)
    fisher, gradient = linear_fisher_and_gradient(model, inputs, targets, advantages)
    solution = torch.linalg.pinv(fisher + damping * torch.eye(28).double(), rtol=1e-10, hermitian=True) @ gradient
    full = (2 * max_kl / (gradient @ solution)).sqrt() * solution
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=max_kl, damping=damping, cg_steps=80)
    assert result.accepted
    assert result.fraction in (1.0, 0.5)
    torch.testing.assert_close(change_of(model, old), result.fraction * full, rtol=1e-6, atol=1e-8)
    # trpo.step.gain: the surrogate gains √(2δ gᵀH⁻¹g) to first order.
    gain = result.surrogate_after - result.surrogate_before
    first_order = result.fraction * (2 * max_kl * (gradient @ solution)).sqrt().item()
    assert gain == pytest.approx(first_order, rel=10 * max_kl**0.5)


def test_without_damping_a_small_step_uses_up_its_divergence():
    model, inputs, targets, advantages = linear_case()
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=1e-6, damping=0.0, cg_steps=80)
    assert result.kl == pytest.approx(1e-6 * result.fraction**2, rel=1e-2)


def test_reported_numbers_are_those_of_plain_loops():
    model, inputs, targets, advantages = linear_case()
    old_logits = model(inputs).detach()
    result = trpo_step(model, inputs, targets, advantages, MASK)
    kl, surrogate = measure(model, inputs, targets, advantages, old_logits)
    assert result.kl == pytest.approx(kl, rel=1e-10)
    assert result.surrogate_after == pytest.approx(surrogate, rel=1e-12)
    assert result.surrogate_before == pytest.approx(advantages[MASK].mean().item())
    logps, old_logps = (token_logps(logits, targets) for logits in (model(inputs), old_logits))
    assert result.surrogate_after == pytest.approx(-trpo_loss(logps, old_logps, advantages, MASK).loss.item())


def test_shorter_fractions_are_tried_in_turn():
    """A full step whose divergence is far above the bound, as the quadratic model is no good at this length."""
    results = {}
    for backtracks in (0, 1, 20):
        model, inputs, targets, advantages = linear_case()
        before = bits(model)
        options = {"max_kl": 3.0, "damping": 0.0, "cg_steps": 28, "backtrack_ratio": 0.7}
        result = trpo_step(model, inputs, targets, advantages, MASK, backtracks=backtracks, **options)
        assert result.accepted is not unchanged(before, model)
        results[backtracks] = result
    taken = results[20]
    tries = round(math.log(taken.fraction) / math.log(0.7))
    assert tries > 1
    assert taken.accepted
    assert taken.fraction == pytest.approx(0.7**tries)
    assert not results[0].accepted
    assert not results[1].accepted


# -- the step, on a transformer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("max_kl", [1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_on_a_transformer_keeps_the_divergence_and_gains(dtype, max_kl, tied):
    model, (inputs, targets) = llama(dtype, tie_word_embeddings=tied), llama_batch()
    advantages = normal(3, 4, seed=9, dtype=dtype)
    with torch.no_grad():
        old_logits = logits_of(model, inputs)
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=max_kl)
    assert result.accepted
    assert result.reason is None
    assert 0 < result.kl <= max_kl
    assert result.surrogate_after > result.surrogate_before
    kl, surrogate = measure(model, inputs, targets, advantages, old_logits)
    bound = 16 * UNIT[dtype] * (1 + old_logits.log_softmax(-1).abs().max().item()) * kl**0.5
    assert abs(result.kl - kl) <= bound
    assert result.surrogate_after == pytest.approx(surrogate, rel=1e-5)


def test_a_small_divergence_keeps_its_digits():
    """In fp32, log π − log π_old alone would be off by more than this divergence."""
    model, (inputs, targets) = llama(), llama_batch()
    advantages = normal(3, 4, seed=9)
    with torch.no_grad():
        old_logits = logits_of(model, inputs)
    result = trpo_step(model, inputs, targets, advantages, MASK, max_kl=1e-8)
    kl, _ = measure(model, inputs, targets, advantages, old_logits)
    assert result.accepted
    assert result.kl == pytest.approx(kl, rel=1e-2)


def test_a_step_with_a_forbidden_token():
    model, inputs, targets, advantages = Forbidding(), *linear_case()[1:]
    targets = targets.masked_fill(targets == 2, 3)
    old_logits = model(inputs).detach()
    result = trpo_step(model, inputs, targets, advantages, MASK)
    assert result.accepted
    allowed = torch.arange(VOCAB) != 2
    kl, _ = measure(lambda x: model(x)[..., allowed], inputs, targets * 0, advantages, old_logits[..., allowed])
    assert result.kl == pytest.approx(kl, rel=1e-10)


def test_steps_in_a_row_learn():
    """Reward for one token: its probability rises, step by step, and no step goes further than it may."""
    model, (inputs, _) = llama(), llama_batch()
    targets = torch.full((3, 4), 3)

    def mean_probability():
        with torch.no_grad():
            return logits_of(model, inputs).softmax(-1)[..., 3][MASK].mean().item()

    probabilities = [mean_probability()]
    for _ in range(8):
        result = trpo_step(model, inputs, targets, torch.ones(3), MASK, max_kl=0.05)
        assert result.accepted
        assert result.kl <= 0.05
        probabilities.append(mean_probability())
    assert probabilities == sorted(probabilities)
    assert probabilities[-1] > probabilities[0] + 0.3


def test_half_precision_parameters_are_measured_as_they_are_stored():
    model, (inputs, targets) = llama(torch.bfloat16), llama_batch()
    advantages = normal(3, 4, seed=9)
    with torch.no_grad():
        old_logits = logits_of(model, inputs)
    result = trpo_step(model, inputs, targets, advantages, MASK)
    assert result.accepted
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    kl, surrogate = measure(model, inputs, targets, advantages, old_logits)
    assert result.kl == pytest.approx(kl, rel=1e-4)
    assert result.surrogate_after == pytest.approx(surrogate, rel=1e-4)


class Recomputed(Module):
    """A Llama that keeps nothing for its backward pass but its input: everything is computed again there."""

    def __init__(self):
        super().__init__()
        self.inner = llama(torch.float64, use_cache=False)

    def forward(self, **inputs):
        return checkpoint(self.inner, **inputs, use_reentrant=False)


def test_gradient_checkpointing_changes_nothing():
    steps = []
    for model in (llama(torch.float64), Recomputed()):
        inputs, targets = llama_batch()
        assert trpo_step(model, inputs, targets, normal(3, 4, seed=9), MASK).accepted
        steps.append(flat(model.parameters()))
    torch.testing.assert_close(*steps, rtol=1e-9, atol=1e-12)


def test_what_a_step_leaves_alone():
    model, (inputs, targets) = llama(), llama_batch()
    frozen = model.model.layers[0]
    frozen.requires_grad_(False)
    gradients = [torch.full_like(parameter, 3.0) for parameter in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    before, mode = bits(frozen), model.training
    given = {name: value.clone() for name, value in inputs.items()}
    advantages = normal(3, 4, seed=9).requires_grad_()
    with torch.no_grad():
        assert trpo_step(model, inputs, targets, advantages, MASK).accepted
    assert unchanged(before, frozen)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert (gradient == 3).all()
    assert [parameter.requires_grad for parameter in frozen.parameters()] == [False] * len(before)
    assert model.training is mode
    assert advantages.grad is None
    assert all(torch.equal(inputs[name], value) for name, value in given.items())


def test_masked_entries_do_not_enter():
    steps = []
    for behind in (0.0, math.nan):
        model, (inputs, targets) = llama(), llama_batch()
        advantages = normal(3, 4, seed=9).masked_fill(~MASK, behind)
        targets = targets.masked_fill(~MASK, 0 if behind == 0 else -100)
        steps.append((trpo_step(model, inputs, targets, advantages, MASK.long()), bits(model)))
    (clean, clean_bits), (dirty, dirty_bits) = steps
    assert clean == dirty
    assert all(torch.equal(old, new) for old, new in zip(clean_bits, dirty_bits, strict=True))


def test_an_advantage_for_each_sequence_is_that_of_each_of_its_tokens():
    per_sequence, results = torch.tensor([1.0, -2.0, 0.5]), []
    for advantages in (per_sequence, per_sequence.unsqueeze(1).expand(3, 4)):
        model, (inputs, targets) = llama(), llama_batch()
        results.append(trpo_step(model, inputs, targets, advantages, MASK))
    assert results[0].accepted
    assert results[0] == results[1]


# -- nothing to do, or nothing that may be done ------------------------------------------------------------------------


class Backwards(Module):
    """A model whose gradient has the wrong sign, so that no step along it helps."""

    class Turned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    def __init__(self):
        super().__init__()
        self.inner = linear(seed=5)

    def forward(self, inputs):
        return self.inner(inputs.new_ones(inputs.shape)) + self.Turned.apply(2 * self.inner(inputs))


class Overflowing(Module):
    """Finite at the start, and NaN after any step of visible size."""

    def __init__(self):
        super().__init__()
        self.inner = linear(seed=5)

    def forward(self, inputs):
        moved = (self.inner.weight - linear(seed=5).weight).abs().max() > 1e-9
        return self.inner(inputs) + torch.where(moved.detach(), math.nan, 0.0)


def with_nan_parameter():
    model = linear(seed=5)
    with torch.no_grad():
        model.weight[0, 0] = math.nan
        model.weight[1, 1] = -0.0
    return model


def with_forbidden_token():
    model = linear(seed=5)
    with torch.no_grad():
        model.bias[linear_case()[2][0, 0]] = -math.inf
    return model


def with_infinite_gradient():
    model = linear(seed=5)
    model.bias.register_hook(lambda gradient: gradient * math.inf)
    return model


NOTHING = {
    "all masked": ({"mask": torch.zeros(3, 4)}, "no token counts"),
    "advantages of zero": ({"advantages": torch.zeros(3)}, "the gradient of the surrogate is zero"),
    "an advantage of NaN": ({"advantages": torch.full((3,), math.nan)}, "an advantage that counts is not finite"),
    "an advantage of inf": ({"advantages": torch.full((3,), math.inf)}, "an advantage that counts is not finite"),
    "one advantage of NaN": (
        {"advantages": torch.tensor([1.0, math.nan, 2.0])},
        "an advantage that counts is not finite",
    ),
    "a forbidden target": (
        {"model": with_forbidden_token},
        "the log-probability of a target that counts is not finite",
    ),
    "a step too small for the parameters": (
        {"model": lambda: linear(seed=5).bfloat16(), "inputs": linear_case()[1].bfloat16(), "max_kl": 1e-12},
        "no fraction of the step from 1 to 0.000977 has KL <= 1e-12",
    ),
    "a parameter of NaN": ({"model": with_nan_parameter}, "the log-probability of a target that counts is not finite"),
    "an infinite gradient": ({"model": with_infinite_gradient}, "the gradient of the surrogate is not finite"),
    "NaN after the step": ({"model": Overflowing}, "no fraction of the step from 1 to 0.000977 has KL <= 0.01"),
    "no step helps": ({"model": Backwards}, "no fraction of the step from 1 to 0.000977 has KL <= 0.01"),
    "too far": (
        {"max_kl": 3.0, "damping": 0.0, "cg_steps": 28, "backtracks": 0},
        "no fraction of the step from 1 to 1",
    ),
}


@pytest.mark.parametrize(("given", "reason"), NOTHING.values(), ids=NOTHING)
def test_without_an_acceptable_step_the_parameters_stay_bit_for_bit(given, reason):
    model, inputs, targets, advantages = linear_case()
    case = {"model": lambda: model, "inputs": inputs, "targets": targets, "advantages": advantages, "mask": MASK}
    case |= given
    case["model"] = case["model"]()
    before = bits(case["model"])
    result = trpo_step(**case)
    assert result.accepted is False
    assert result.reason.startswith(reason)
    assert (result.kl, result.fraction) == (0.0, 0.0)
    assert isinstance(result.kl, float)
    assert unchanged(before, case["model"])
    assert all(parameter.grad is None for parameter in case["model"].parameters())
    before_after = torch.tensor([result.surrogate_before, result.surrogate_after])
    assert torch.equal(before_after[:1].isnan(), before_after[1:].isnan())
    if before_after.isfinite().all():
        assert result.surrogate_before == result.surrogate_after
    if not case["mask"].any():
        assert result.surrogate_before == 0


def test_a_singular_fisher_matrix_without_damping_is_a_reason():
    """One number added to all logits changes nothing: what is left of its gradient is rounding."""

    class Shifted(Module):
        def __init__(self):
            super().__init__()
            self.shift = Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, inputs):
            return normal(3, 4, VOCAB) + self.shift

    model, (_, inputs, targets, advantages) = Shifted(), linear_case()
    result = trpo_step(model, inputs, targets, advantages, MASK, damping=0.0)
    assert not result.accepted
    assert "curvature" in result.reason or "zero" in result.reason or "no fraction" in result.reason
    assert model.shift.item() == 0


@pytest.mark.parametrize("call", range(1, 6))
def test_an_error_within_the_model_leaves_the_parameters_as_they_were(call):
    """Twice at the start, once for the gradient, and once for each fraction, of which the second would be taken."""

    class Failing(Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = linear(seed=5), 0

        def forward(self, inputs):
            self.calls += 1
            if self.calls == call:
                raise RuntimeError("out of memory")
            return self.inner(inputs)

    model, (_, inputs, targets, advantages) = Failing(), linear_case()
    before = bits(model)
    with pytest.raises(RuntimeError, match="out of memory"):
        trpo_step(model, inputs, targets, advantages, MASK, max_kl=3.0, damping=0.0, cg_steps=28)
    assert unchanged(before, model)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_only_the_proportions_of_advantages_matter(scale):
    model, inputs, targets, advantages = linear_case()
    model, inputs, advantages = model.float(), inputs.float(), advantages.float()
    other = copy.deepcopy(model)
    assert trpo_step(model, inputs, targets, advantages, MASK).accepted
    assert trpo_step(other, inputs, targets, advantages * scale, MASK).accepted
    torch.testing.assert_close(other.weight, model.weight)


def test_a_step_of_a_single_parameter_that_has_to_fall():
    """Every entry of the solution is then negative."""

    class Tilted(Module):
        def __init__(self):
            super().__init__()
            self.slope = Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, inputs):
            return self.slope * torch.arange(VOCAB, dtype=torch.float64).expand(*inputs.shape, VOCAB)

    model, mask = Tilted(), torch.ones(1, 1)
    result = trpo_step(model, torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.long), torch.ones(1), mask)
    assert result.accepted
    assert result.surrogate_after > result.surrogate_before
    assert model.slope < 0


def test_a_ratio_beyond_the_range_does_not_spoil_the_gain():
    """A target of advantage 0 becomes e¹⁰⁰ times as likely, which fp32 cannot hold: 0 · ∞ would be NaN."""

    class Steep(Module):
        def __init__(self):
            super().__init__()
            self.slope = Parameter(torch.zeros(1))

        def forward(self, inputs):
            slope = self.slope
            rare = torch.stack([slope * 0, slope * 0, 1e4 * slope - 200], -1)
            return torch.stack([torch.stack([slope, -slope, slope * 0], -1), rare], 1)

    mask, advantages = torch.ones(1, 2), torch.tensor([[1.0, 0.0]])
    model, targets = Steep(), torch.tensor([[0, 2]])
    result = trpo_step(model, torch.zeros(1, 2), targets, advantages, mask, max_kl=1e-4, damping=0.0)
    assert model.slope > 0.0095  # so that the rare logit is above −105
    assert result.accepted
    assert 0 < result.surrogate_after - result.surrogate_before < 1


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_dropout_is_detected():
    torch.manual_seed(0)
    model, inputs, targets, advantages = linear_case()
    model = Sequential(Dropout(0.5), model)
    before = bits(model)
    with pytest.raises(ValueError, match="model: got different logits from two evaluations at the same parameters"):
        trpo_step(model, inputs, targets, advantages, MASK)
    assert unchanged(before, model)
    assert trpo_step(model.eval(), inputs, targets, advantages, MASK).accepted


def test_what_is_on_another_device_is_refused():
    model, inputs, targets, advantages = linear_case()
    with pytest.raises(ValueError, match="mask: got device meta, expected cpu"):
        fisher_vector_product(model, inputs, MASK.to("meta"), torch.zeros(28))
    with pytest.raises(ValueError, match="vector: got device meta, expected cpu"):
        fisher_vector_product(model, inputs, MASK, torch.zeros(28, device="meta"))
    with pytest.raises(ValueError, match="advantages: got device meta, expected cpu"):
        trpo_step(model, inputs, targets, advantages.to("meta"), MASK)
    model.bias = Parameter(model.bias.to("meta"))
    with pytest.raises(ValueError, match="model: got parameters on cpu, meta, expected one device"):
        trpo_step(model, inputs, targets, advantages, MASK)


def test_defaults():
    for function, expected in {
        fisher_vector_product: {"damping": 0.0},
        conjugate_gradient: {"steps": 10, "tolerance": 1e-10},
        trpo_step: {"max_kl": 0.01, "damping": 0.1, "cg_steps": 10, "backtracks": 10, "backtrack_ratio": 0.5},
    }.items():
        parameters = inspect.signature(function).parameters.values()
        assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


class Fixed(Module):
    """Gives what it was built with, whatever comes."""

    def __init__(self, output):
        super().__init__()
        self.output, self.weight = output, Parameter(torch.ones(1))

    def forward(self, inputs):
        return self.output


INPUTS, TARGETS, ADVANTAGES = linear_case()[1:]
FROZEN = linear().requires_grad_(False)

BAD = [
    ({"model": linear}, TypeError, "model: got function, expected a torch.nn.Module"),
    ({"model": FROZEN}, ValueError, "model: got no parameter that requires gradients, expected at least one"),
    ({"model": Fixed("text")}, TypeError, "model: got str, expected logits or an object with .logits"),
    ({"model": Fixed(TARGETS)}, TypeError, "logits: got dtype torch.int64, expected a floating-point dtype"),
    (
        {"model": Fixed(torch.zeros(3, 4, VOCAB))},
        ValueError,
        "model: got logits without a gradient, expected logits that depend",
    ),
    ({"inputs": [1, 2]}, TypeError, "inputs: got list, expected a tensor or a mapping of arguments by name"),
    ({"mask": 2 * MASK}, ValueError, "mask: got the value 2, expected only 0 and 1"),
    ({"mask": [[1]]}, TypeError, "mask: got list, expected a tensor"),
]
BAD_STEP = [
    ({"targets": [[1]]}, TypeError, "targets: got list, expected a tensor"),
    ({"targets": TARGETS[:, :3]}, ValueError, "mask: got shape (3, 4), expected (3, 3), the shape of targets"),
    ({"targets": TARGETS + 7}, ValueError, "targets: got the value"),
    ({"targets": TARGETS.double()}, TypeError, "targets: got dtype torch.float64, expected an integer dtype"),
    (
        {"targets": TARGETS[:, :3], "mask": MASK[:, :3], "advantages": ADVANTAGES[:, :3]},
        ValueError,
        "mask: got shape (3, 3), expected (3, 4), the shape of the model's logits without its last dimension",
    ),
    ({"advantages": TARGETS}, TypeError, "advantages: got dtype torch.int64, expected a floating-point dtype"),
    (
        {"advantages": ADVANTAGES[:, :3]},
        ValueError,
        "advantages: got shape (3, 3), expected (3, 4), the shape of targets, or (3,), one for each entry of its first",
    ),
    ({"max_kl": 0.0}, ValueError, "max_kl: got 0.0, expected a finite number > 0"),
    ({"damping": -0.1}, ValueError, "damping: got -0.1, expected a finite number >= 0"),
    ({"damping": math.inf}, ValueError, "damping: got inf, expected a finite number >= 0"),
    ({"cg_steps": 0}, ValueError, "cg_steps: got 0, expected an integer >= 1"),
    ({"cg_steps": 1.0}, TypeError, "cg_steps: got 1.0, expected an integer >= 1"),
    ({"backtracks": -1}, ValueError, "backtracks: got -1, expected an integer >= 0"),
    ({"backtracks": True}, TypeError, "backtracks: got True, expected an integer >= 0"),
    ({"backtrack_ratio": 1.0}, ValueError, "backtrack_ratio: got 1.0, expected a number in (0, 1)"),
    ({"backtrack_ratio": 0.0}, ValueError, "backtrack_ratio: got 0.0, expected a number in (0, 1)"),
]
BAD_PRODUCT = [
    ({"vector": torch.ones(27)}, ValueError, "vector: got shape (27,), expected (28,), one entry for each trained"),
    ({"vector": torch.ones(28).long()}, TypeError, "vector: got dtype torch.int64, expected a floating-point dtype"),
    ({"damping": math.inf}, ValueError, "damping: got inf, expected a finite number >= 0"),
    ({"mask": MASK[:, :3]}, ValueError, "mask: got shape (3, 3), expected (3, 4), the shape of the model's logits"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD + BAD_STEP)
def test_bad_arguments_of_a_step(given, error, text):
    good = {"model": linear(), "inputs": INPUTS, "targets": TARGETS, "advantages": ADVANTAGES, "mask": MASK}
    with pytest.raises(error) as raised:
        trpo_step(**good | given)
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize(("given", "error", "text"), BAD + BAD_PRODUCT)
def test_bad_arguments_of_a_fisher_product(given, error, text):
    good = {"model": linear(), "inputs": INPUTS, "mask": MASK}
    size = 1 if isinstance(given.get("model"), Fixed) else 28
    with pytest.raises(error) as raised:
        fisher_vector_product(**good | {"vector": torch.ones(size)} | given)
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"target": [1.0]}, TypeError, "target: got list, expected a tensor"),
        ({"target": torch.ones(2, 2)}, ValueError, "target: got shape (2, 2), expected shape (parameters,)"),
        (
            {"target": torch.tensor([1.0, math.nan])},
            ValueError,
            "target: got a value that is not finite, expected finite",
        ),
        ({"product": torch.linalg.norm}, ValueError, "product: got shape (), expected (2,), the shape of target"),
        ({"steps": 0}, ValueError, "steps: got 0, expected an integer >= 1"),
        ({"tolerance": -1.0}, ValueError, "tolerance: got -1.0, expected a finite number >= 0"),
        ({"tolerance": math.inf}, ValueError, "tolerance: got inf, expected a finite number >= 0"),
    ],
)
def test_bad_arguments_of_conjugate_gradient(given, error, text):
    with pytest.raises(error) as raised:
        conjugate_gradient(**{"product": lambda vector: vector, "target": torch.ones(2)} | given)
    assert str(raised.value).startswith(text)

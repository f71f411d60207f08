"""Fisher products against dense matrices."""

import math

import pytest
import torch
from torch.nn import Embedding, Module, Sequential

from grape_verified import fisher_vector_product

from .models import (
    BAD,
    INPUTS,
    MASK,
    UNIT,
    VOCAB,
    Fixed,
    Forbidding,
    Tied,
    bits,
    flat,
    linear,
    llama,
    llama_batch,
    logits_of,
    normal,
    tokens,
    trained,
    unchanged,
)


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
    """An independent computation: differentiate KL(old‖new) twice, without the Gauss-Newton form."""
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


def test_a_fisher_product_is_a_constant():
    vector = normal(28).requires_grad_()
    assert not fisher_vector_product(linear(), normal(3, 4, 3), MASK, vector).requires_grad


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


def test_a_forbidden_token_has_no_part_in_the_fisher_matrix():
    model, inputs = Forbidding(), normal(3, 4, 3, seed=2)
    of_token_two = torch.zeros(28, dtype=torch.float64)
    of_token_two[6:9] = of_token_two[23] = 1
    assert not fisher_vector_product(model, inputs, MASK, of_token_two).any()
    assert fisher_vector_product(model, inputs, MASK, torch.ones(28)).isfinite().all()


# -- what is refused ---------------------------------------------------------------------------------------------------

BAD_PRODUCT = [
    ({"vector": torch.ones(27)}, ValueError, "vector: got shape (27,), expected (28,), one entry for each trained"),
    ({"vector": torch.ones(28).long()}, TypeError, "vector: got dtype torch.int64, expected a floating-point dtype"),
    ({"damping": math.inf}, ValueError, "damping: got inf, expected a finite number >= 0"),
    ({"mask": MASK[:, :3]}, ValueError, "mask: got shape (3, 3), expected (3, 4), the shape of the model's logits"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD + BAD_PRODUCT)
def test_bad_arguments_of_a_fisher_product(given, error, text):
    good = {"model": linear(), "inputs": INPUTS, "mask": MASK}
    size = 1 if isinstance(given.get("model"), Fixed) else 28
    with pytest.raises(error) as raised:
        fisher_vector_product(**good | {"vector": torch.ones(size)} | given)
    assert str(raised.value).startswith(text)

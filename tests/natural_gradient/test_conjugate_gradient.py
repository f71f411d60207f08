"""Conjugate gradients against dense solutions."""

import math

import pytest
import torch

from grape_verified import NonPositiveCurvature, conjugate_gradient

from .models import normal


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


def test_a_solution_is_a_constant():
    assert not conjugate_gradient(lambda v: 2 * v, normal(28).requires_grad_()).requires_grad


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


@pytest.mark.parametrize(
    ("product", "target", "error", "message"),
    [
        (lambda v: None, torch.ones(2), TypeError, "product: got NoneType, expected a tensor"),
        (lambda v: v * 1j, torch.ones(2), TypeError, "product: got dtype torch.complex64, expected a floating-point"),
        (lambda v: v, torch.ones(0), ValueError, "target: got shape (0,), expected at least one entry"),
    ],
)
def test_a_product_or_target_of_another_kind_is_refused(product, target, error, message):
    with pytest.raises(error) as caught:
        conjugate_gradient(product, target)
    assert message in str(caught.value)


def test_the_target_decides_the_dtype():
    assert conjugate_gradient(lambda v: v.double(), torch.ones(2)).dtype == torch.float32

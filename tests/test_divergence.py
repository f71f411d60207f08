"""The Jensen-Shannon divergence: numbers worked out by hand, both ends, close distributions, and forbidden tokens."""

import math
import re

import pytest
import torch

from grape_verified import categorical_kl, jensen_shannon

SURE, OTHER, EVEN = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log(), torch.tensor([0.5, 0.5]).log()


@pytest.mark.parametrize(
    ("logits", "teacher_logits", "mixing", "expected"),
    [
        (EVEN, EVEN, 0.5, 0.0),
        (EVEN, SURE, 0.5, (math.log(4 / 3) + (math.log(2 / 3) + math.log(2)) / 2) / 2),  # m = (¾, ¼)
        (OTHER, SURE, 0.5, math.log(2)),  # the largest there is
        (OTHER, SURE, 0.25, 0.25 * math.log(4) + 0.75 * math.log(4 / 3)),
        (SURE, OTHER, 0.75, 0.25 * math.log(4) + 0.75 * math.log(4 / 3)),
        (torch.tensor([0.2, 0.8]).log(), EVEN, 0.5, 0.5 * (0.5 * math.log(0.5 / 0.35) + 0.5 * math.log(0.5 / 0.65)
         + 0.2 * math.log(0.2 / 0.35) + 0.8 * math.log(0.8 / 0.65))),
    ],
)  # fmt: skip
def test_by_hand(logits, teacher_logits, mixing, expected):
    assert jensen_shannon(logits, teacher_logits, mixing=mixing).item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("mixing", [1e-6, 1e-3])
def test_the_quotients_tend_to_the_two_divergences(mixing):
    logits, teacher_logits = torch.tensor([[0.3, -0.2, 1.0], [0.1, 0.7, -0.4]], dtype=torch.float64)
    forward = jensen_shannon(logits, teacher_logits, mixing=mixing) / mixing
    reverse = jensen_shannon(logits, teacher_logits, mixing=1 - mixing) / mixing
    torch.testing.assert_close(forward, categorical_kl(teacher_logits, logits), rtol=2 * mixing, atol=0)
    torch.testing.assert_close(reverse, categorical_kl(logits, teacher_logits), rtol=2 * mixing, atol=0)


def test_close_distributions_keep_their_digits():
    """To second order JS is β(1 − β)/2 · Σ_v (T_v − π_v)²/π_v."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1000, generator=generator)
    teacher_logits = logits + 1e-3 * torch.randn(1000, generator=generator)
    found = jensen_shannon(logits, teacher_logits, mixing=0.3).item()
    exact = jensen_shannon(logits.double(), teacher_logits.double(), mixing=0.3).item()
    student, teacher = (x.double().softmax(-1) for x in (logits, teacher_logits))
    second_order = 0.3 * 0.7 / 2 * ((teacher - student) ** 2 / student).sum().item()
    assert exact == pytest.approx(second_order, rel=2e-3)
    assert found == pytest.approx(exact, rel=2e-3)  # the probabilities of fp32 differ by 1e-7, those here by 1e-4


@pytest.mark.parametrize("mixing", [0.5, 0.1, 0.9])
def test_the_bound_of_the_gradient(mixing):
    generator = torch.Generator().manual_seed(1)
    logits = (4 * torch.randn(50, 33, generator=generator)).requires_grad_()
    teacher_logits = logits.detach() + torch.randn(50, 33, generator=generator)
    found = torch.autograd.grad(jensen_shannon(logits, teacher_logits, mixing=mixing).sum(), logits)[0].double()
    student, teacher = (x.detach().double().log_softmax(-1) for x in (logits, teacher_logits))
    mixture = torch.logaddexp(teacher + math.log(mixing), student + math.log1p(-mixing))
    excess, pi = student - mixture, student.exp()
    exact = (1 - mixing) * pi * (excess - (pi * excess).sum(-1, keepdim=True))
    size = (teacher.abs() + student.abs() + 1) * (1 + excess.abs())
    bound = 8 * 2.0**-24 * (1 - mixing) * pi * (size + (pi * size).sum(-1, keepdim=True))
    assert ((found - exact).abs() <= bound).all()


def test_the_teacher_is_a_constant_and_a_forbidden_token_has_no_slope():
    logits = torch.tensor([[0.0, -math.inf, 1.0]], requires_grad=True)
    teacher_logits = torch.tensor([[-math.inf, 0.0, 1.0]], requires_grad=True)
    jensen_shannon(logits, teacher_logits, mixing=0.3).sum().backward()
    assert teacher_logits.grad is None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] == 0


def test_a_position_without_a_distribution_is_nan_and_passes_nothing_on():
    logits = torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]], requires_grad=True)
    divergence = jensen_shannon(logits, torch.zeros(2, 2))
    assert divergence.isnan().tolist() == [False, True]
    divergence[0].backward()
    assert logits.grad[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((EVEN, EVEN[:1]), {}, ValueError, "teacher_logits: got shape (1,), expected (2,), the shape of logits"),
        ((EVEN, None), {}, TypeError, "teacher_logits: got NoneType, expected a tensor"),
        ((EVEN, EVEN), {"mixing": 0.0}, ValueError, "mixing: got 0.0, expected a number in (0, 1)"),
        ((EVEN, EVEN), {"mixing": 1.0}, ValueError, "mixing: got 1.0, expected a number in (0, 1)"),
        ((EVEN, EVEN), {"mixing": "half"}, TypeError, "mixing: got str, expected a number in (0, 1)"),
    ],
)
def test_wrong_arguments(arguments, options, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        jensen_shannon(*arguments, **options)

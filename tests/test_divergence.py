"""The Jensen-Shannon divergence: numbers worked out by hand, both ends, close distributions, and forbidden tokens."""

import math
import re

import pytest
import torch

from grape_verified import categorical_kl, distillation_advantages, gae, jensen_shannon, reinforce_loss

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


def test_the_gradient_beside_a_token_with_nearly_all_of_the_probability():
    """Its own slope is about 1e-9, the difference of two numbers near ½."""
    logits = torch.cat([torch.tensor([21.0]), torch.linspace(-1, 1, 9)])
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        gradients += torch.autograd.grad(jensen_shannon(leaf, torch.zeros(10, dtype=dtype)), leaf)
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-5, atol=0)


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


# Advantages of on-policy distillation.

INF = math.inf
STUDENT, TEACHER = torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[-2.0, -2.5, -1.0]])  # log-ratios of 1, ½ and −2


@pytest.mark.parametrize(
    ("mask", "discount", "expected"),
    [
        ([1, 1, 1], 0.0, [-1.0, -0.5, 2.0]),
        ([1, 1, 1], 1.0, [0.5, 1.5, 2.0]),
        ([1, 1, 1], 0.5, [-0.75, 0.5, 2.0]),  # −1 − ½ · ½ + ¼ · 2
        ([1, 0, 1], 0.5, [0.0, 0.0, 2.0]),  # the next counted token is one step ahead
        ([1, 1, 0], 1.0, [-1.5, -0.5, 0.0]),
        ([0, 0, 0], 1.0, [0.0, 0.0, 0.0]),
    ],
)
def test_advantages_by_hand(mask, discount, expected):
    found = distillation_advantages(STUDENT, TEACHER, torch.tensor([mask]), discount=discount)
    torch.testing.assert_close(found, torch.tensor([expected]))


@pytest.mark.parametrize("discount", [0.0, 0.3, 1.0])
def test_advantages_are_those_of_gae_without_values(discount):
    """`divergence.on_policy.advantage`."""
    generator = torch.Generator().manual_seed(0)
    logps, teacher_logps = -torch.rand(2, 4, 9, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 9, generator=generator) < 0.7
    found = distillation_advantages(logps, teacher_logps, mask, discount=discount)
    expected, _ = gae(teacher_logps - logps, torch.zeros(4, 9).double(), mask, discount=discount, lam=1.0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("discount", "whole"), [(1.0, True), (0.0, False)])
def test_the_gradient_is_that_of_the_divergence_of_responses_or_of_their_tokens(discount, whole):
    """`divergence.on_policy.to_go` and `.immediate`, over all responses of two tokens from a vocabulary of three."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)  # after nothing, 0, 1, 2
    teacher = torch.randn(4, 3, generator=generator, dtype=torch.float64).log_softmax(-1)
    student = logits.log_softmax(-1)
    first, second = torch.arange(3).repeat_interleave(3), torch.arange(3).repeat(3)
    of = torch.stack([student[0, first], student[1 + first, second]], 1)
    of_teacher = torch.stack([teacher[0, first], teacher[1 + first, second]], 1)
    probability = of.detach().sum(1).exp()
    advantages = distillation_advantages(of, of_teacher, torch.ones(9, 2), discount=discount)
    assert not advantages.requires_grad
    (found,) = torch.autograd.grad(-(probability[:, None] * advantages * of).sum(), logits, retain_graph=True)
    each = (student.exp() * (student - teacher)).sum(1)
    reach = student[0].exp() if whole else student[0].exp().detach()
    (expected,) = torch.autograd.grad(each[0] + (reach * each[1:]).sum(), logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("logp", "teacher_logp", "expected"),
    [
        (-1.0, -INF, [-INF, -INF, 0.0]),
        (-INF, -1.0, [INF, INF, 0.0]),
        (-INF, -INF, [math.nan, math.nan, 0.0]),
        (math.nan, -1.0, [math.nan, math.nan, 0.0]),
    ],
)
def test_advantages_of_what_one_side_forbids(logp, teacher_logp, expected):
    logps, teacher_logps = torch.tensor([[-1.0, logp, -1.0]]), torch.tensor([[-1.0, teacher_logp, -1.0]])
    found = distillation_advantages(logps, teacher_logps, torch.ones(1, 3), discount=0.9)
    torch.testing.assert_close(found, torch.tensor([expected]), equal_nan=True)
    immediate = distillation_advantages(logps, teacher_logps, torch.ones(1, 3), discount=0.0)
    torch.testing.assert_close(immediate, torch.tensor([[0.0, expected[1], 0.0]]), equal_nan=True)


@pytest.mark.parametrize("hidden", [math.nan, INF, -INF])
def test_what_a_masked_entry_holds_reaches_no_advantage(hidden):
    mask = torch.tensor([[1, 0, 1]])
    dirty = distillation_advantages(*(x.masked_fill(mask == 0, hidden) for x in (STUDENT, TEACHER)), mask, discount=1.0)
    torch.testing.assert_close(dirty, torch.tensor([[1.0, 0.0, 2.0]]))


def test_advantages_are_in_the_wider_dtype_and_go_into_a_loss():
    mask = torch.ones(1, 3)
    assert distillation_advantages(STUDENT.bfloat16(), TEACHER, mask, discount=1.0).dtype == torch.float32
    advantages = distillation_advantages(STUDENT, TEACHER, mask, discount=0.0)
    logps = STUDENT.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(reinforce_loss(logps, advantages, mask).loss, logps)
    torch.testing.assert_close(slopes, -advantages)


@pytest.mark.parametrize(
    ("discount", "error", "text"),
    [
        (1.5, ValueError, "discount: got 1.5, expected a number in [0, 1]"),
        (-0.1, ValueError, "discount: got -0.1, expected a number in [0, 1]"),
        (None, TypeError, "discount: got NoneType, expected a number in [0, 1]"),
    ],
)
def test_wrong_discounts(discount, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        distillation_advantages(STUDENT, TEACHER, torch.ones(1, 3), discount=discount)


def test_wrong_tensors_of_advantages():
    with pytest.raises(ValueError, match=r"^teacher_logps: got shape \(3, 1\), expected \(1, 3\)"):
        distillation_advantages(STUDENT, TEACHER.T, torch.ones(1, 3), discount=1.0)
    with pytest.raises(ValueError, match=r"^logps: got shape \(3,\), expected shape \(batch, time\)$"):
        distillation_advantages(STUDENT[0], TEACHER[0], torch.ones(3), discount=1.0)

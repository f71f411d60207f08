"""Divergences over the tokens that a teacher sends: worked out by hand, kept masses of 0 and 1, close distributions."""

import math
import re

import pytest
import torch

from grape_verified import categorical_kl, top_k_divergence

LOG = math.log
EVEN = torch.zeros(4)
TAILS = ("bucket", "none", "renormalised")


def sent(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log().float()


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(
    ("teacher", "tokens", "tail", "expected"),
    [
        ((0.5, 0.25), (2, 0), "none", 0.5 * LOG(2)),
        ((0.5, 0.25), (2, 0), "bucket", 0.5 * LOG(2) + 0.25 * LOG(0.5)),
        ((0.5, 0.25), (2, 0), "renormalised", 2 / 3 * LOG(4 / 3) + 1 / 3 * LOG(2 / 3)),
        ((0.125,), (1,), "none", 0.125 * LOG(0.5)),  # negative
        ((0.125,), (1,), "bucket", 0.125 * LOG(0.5) + 0.875 * LOG(7 / 6)),
        ((0.125,), (1,), "renormalised", 0.0),
        ((1.0,), (3,), "none", LOG(4)),
        ((1.0,), (3,), "bucket", LOG(4)),
        ((0.0, 0.0), (0, 1), "none", 0.0),
        ((0.0, 0.0), (0, 1), "bucket", LOG(2)),
        ((0.5, 0.25, 0.125, 0.125), (3, 2, 1, 0), "bucket", 0.5 * LOG(2) + 0.25 * LOG(0.5)),
    ],
)
def test_by_hand(teacher, tokens, tail, expected):
    found = top_k_divergence(EVEN, sent(*teacher), torch.tensor(tokens), tail=tail)
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("none", [0.75 / 4 - 0.25, 0.75 / 4, 0.75 / 4 - 0.5, 0.75 / 4]),
        ("bucket", [0.25 - 0.25, 0.25 - 0.125, 0.25 - 0.5, 0.25 - 0.125]),
        ("renormalised", [1 / 2 - 1 / 3, 0, 1 / 2 - 2 / 3, 0]),
    ],
)
def test_gradients_by_hand(tail, expected):
    logits = EVEN.clone().requires_grad_()
    top_k_divergence(logits, sent(0.5, 0.25), torch.tensor([2, 0]), tail=tail).backward()
    torch.testing.assert_close(logits.grad, torch.tensor(expected))


def test_all_tokens_are_the_whole_divergence():
    logits, teacher = normal(5, 9), normal(5, 9, seed=1)
    everything = teacher.log_softmax(-1).topk(9)
    expected = categorical_kl(teacher, logits)
    for tail in TAILS:
        torch.testing.assert_close(top_k_divergence(logits, *everything, tail=tail), expected)


@pytest.mark.parametrize("logp", [-1e-3, -1e-7, -1e-12, -1e-17, -60.0, -800.0])
def test_a_mass_near_1_or_0_leaves_its_complement_exactly(logp):
    """One token: the bucket has 1 − T, and the student half of the probability in each cell."""
    logits = torch.tensor([LOG(2), 0.0, 0.0], dtype=torch.float64)
    teacher = torch.tensor([logp], dtype=torch.float64)
    found = top_k_divergence(logits, teacher, torch.tensor([0])).item() - LOG(2)
    rest = -math.expm1(logp)
    assert found == pytest.approx(math.exp(logp) * logp + rest * LOG(rest), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("tail", ["bucket", "renormalised"])
def test_close_distributions_keep_their_digits(tail):
    """To second order the divergence is ½ Σ_c (T_c − π_c)²/π_c; it is never negative."""
    logits = normal(200, 50, dtype=torch.float32)
    teacher = logits.double() + 1e-3 * normal(200, 50, seed=1)
    logps, tokens = teacher.log_softmax(-1).topk(8)
    found = top_k_divergence(logits, logps.float(), tokens, tail=tail)
    exact = top_k_divergence(logits.double(), logps, tokens, tail=tail)
    assert (found >= 0).all()
    torch.testing.assert_close(found.double(), exact, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("tail", TAILS)
def test_the_bound_of_the_gradient(tail):
    logits = (4 * normal(50, 33, dtype=torch.float32)).requires_grad_()
    logps, tokens = (logits.detach().double() + normal(50, 33, seed=1)).log_softmax(-1).topk(5)
    logps = logps.float()
    found = torch.autograd.grad(top_k_divergence(logits, logps, tokens, tail=tail).sum(), logits)[0].double()
    student, teacher = logits.detach().double().log_softmax(-1), logps.double()
    kept = torch.zeros_like(student).scatter(-1, tokens, 1)
    own, mass = torch.zeros_like(student).scatter(-1, tokens, teacher.exp()), teacher.exp().sum(-1, keepdim=True)
    pi, share = student.exp(), (student.exp() * kept).sum(-1, keepdim=True)
    rest = (1 - kept) * (1 - mass) / (1 - share)
    first, second = {
        "none": (mass * pi, own), "bucket": (pi, own + rest * pi), "renormalised": (kept * pi / share, own / mass),
    }[tail]  # fmt: skip
    sizes = 1 + LOG(33) + student.abs() + own.clamp(min=1e-30).log().abs() * kept
    sizes = sizes + (1 - kept) * ((1 - mass).log().abs() + (1 - share).log().abs())
    assert ((found - (first - second)).abs() <= 8 * 2.0**-24 * sizes * (first + second)).all()


@pytest.mark.parametrize("sure", [0, 5])
def test_the_gradient_beside_a_token_with_nearly_all_of_the_probability(sure):
    """Of those that are sent, or not: its own slope is a difference of two numbers near 1."""
    logits, teacher = torch.linspace(-1, 1, 9), torch.linspace(1, -1, 9).double()
    logits[sure], teacher[sure] = 20.0, 24.0
    logps = teacher.log_softmax(-1)[:3].float()
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        found = top_k_divergence(leaf, logps.to(dtype), torch.arange(3), tail="bucket")
        gradients += torch.autograd.grad(found, leaf)
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("shift", [1e3, -1e3])
@pytest.mark.parametrize("tail", TAILS)
def test_a_constant_added_to_all_logits_adds_no_error(tail, shift):
    logits, teacher = (
        normal(20, 30).mul(8).round().div(8).float(),
        normal(20, 30, seed=1).log_softmax(-1).float().topk(4),
    )
    found = []
    for x in (logits, logits + shift):
        leaf = x.requires_grad_()
        value = top_k_divergence(leaf, *teacher, tail=tail)
        found.append((value, *torch.autograd.grad(value.sum(), leaf)))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("tail", TAILS)
def test_twice_differentiable(tail):
    logits = normal(3, 6).requires_grad_()
    logps, tokens = normal(3, 6, seed=1).log_softmax(-1).topk(2)
    assert torch.autograd.gradgradcheck(lambda z: top_k_divergence(z, logps, tokens, tail=tail), logits)


def test_what_the_student_forbids_is_infinite_with_a_finite_gradient():
    logits = torch.tensor([[0.0, -math.inf, 1.0], [0.0, -math.inf, -math.inf]], requires_grad=True)
    for tail in TAILS:
        found = top_k_divergence(logits, sent(0.5, 0.25).expand(2, 2), torch.tensor([[1, 0]] * 2), tail=tail)
        assert found[0] == math.inf
        gradient = torch.autograd.grad(found.sum(), logits)[0]
        assert gradient.isfinite().all()
    bucket = top_k_divergence(logits[1], sent(0.5), torch.tensor([0]))
    assert bucket == math.inf  # the teacher has half of its mass where the student has none
    assert top_k_divergence(logits[1], sent(1.0), torch.tensor([0])) == 0


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("row", [[-math.inf] * 3, [0.0, math.nan, 0.0], [0.0, math.inf, 0.0]])
def test_a_position_without_a_distribution_is_nan_and_passes_nothing_on(tail, row):
    logits = torch.tensor([[0.0, 1.0, 2.0], row], requires_grad=True)
    found = top_k_divergence(logits, sent(0.5, 0.25).expand(2, 2), torch.tensor([[1, 0]] * 2), tail=tail)
    assert found.isnan().tolist() == [False, True]
    found[0].backward()
    assert logits.grad[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("tail", TAILS)
def test_masked_positions_may_hold_anything(tail):
    logits = torch.tensor([[0.0, 1.0, 2.0], [math.nan] * 3], requires_grad=True)
    logps = torch.stack([sent(0.5, 0.25), torch.tensor([math.nan, 7.0])])
    tokens, mask = torch.tensor([[1, 0], [-1, 99]]), torch.tensor([True, False])
    found = top_k_divergence(logits, logps, tokens, tail=tail, mask=mask)
    assert found[1] == 0
    assert found[0] == top_k_divergence(logits[0], logps[0], tokens[0], tail=tail)
    found.sum().backward()
    assert logits.grad[1].tolist() == [0, 0, 0]
    assert logits.grad[0].any()


def test_the_teacher_is_a_constant():
    logits, logps = EVEN.clone().requires_grad_(), sent(0.5, 0.25).requires_grad_()
    top_k_divergence(logits, logps, torch.tensor([0, 1])).backward()
    assert logps.grad is None


def test_probabilities_rounded_to_bf16_may_add_up_to_more_than_1():
    logps = torch.tensor([0.50, 0.505]).log()
    logits = torch.zeros(3, requires_grad=True)
    found = top_k_divergence(logits, logps, torch.tensor([0, 1]))
    assert found.item() == pytest.approx(0.5 * LOG(1.5) + 0.505 * LOG(1.515), rel=1e-5)
    found.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([1.005 / 3 - 0.5, 1.005 / 3 - 0.505, 1.005 / 3]))


HALF, PLACES = sent(0.5, 0.25), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((EVEN, HALF, PLACES), {"tail": "all"}, ValueError, "tail: got 'all', expected one of 'bucket', 'none', 'ren"),
        ((EVEN, None, PLACES), {}, TypeError, "teacher_logps: got NoneType, expected a tensor"),
        ((EVEN, PLACES, PLACES), {}, TypeError, "teacher_logps: got dtype torch.int64, expected a floating-point"),
        ((EVEN[:1], HALF, PLACES), {}, ValueError, "teacher_logps: got shape (2,), expected () and a k from 1 to 1"),
        (
            (EVEN, HALF[:0], PLACES[:0]),
            {},
            ValueError,
            "teacher_logps: got shape (0,), expected () and a k from 1 to 4",
        ),
        ((EVEN.expand(3, 4), HALF, PLACES), {}, ValueError, "teacher_logps: got shape (2,), expected (3,) and a k"),
        ((EVEN, HALF, PLACES.float()), {}, TypeError, "teacher_tokens: got dtype torch.float32, expected an integer"),
        ((EVEN, HALF, PLACES[:1]), {}, ValueError, "teacher_tokens: got shape (1,), expected (2,), the shape of teach"),
        ((EVEN, HALF, PLACES + 3), {}, ValueError, "teacher_tokens: got the value 4, expected values in [0, 4)"),
        ((EVEN, HALF, PLACES - 1), {}, ValueError, "teacher_tokens: got the value -1, expected values in [0, 4)"),
        ((EVEN, HALF, PLACES * 0), {}, ValueError, "teacher_tokens: got the value 0, expected distinct tokens at each"),
        ((EVEN, HALF + 1, PLACES), {}, ValueError, "teacher_logps: got the value 0.3"),
        (
            (EVEN, HALF * math.nan, PLACES),
            {},
            ValueError,
            "teacher_logps: got the value nan, expected log-probabilities",
        ),
        (
            (EVEN, HALF * 0, PLACES),
            {},
            ValueError,
            "teacher_logps.exp().sum(-1): got the value 2.0, expected at most 1",
        ),
        ((EVEN, HALF, PLACES), {"mask": torch.ones(3)}, ValueError, "mask: got shape (3,), expected (), the shape of"),
    ],
)
def test_wrong_arguments(arguments, options, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        top_k_divergence(*arguments, **options)

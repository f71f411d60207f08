"""Losses of distillation from hidden states: value and gradients are those of the divergences of all logits."""

import math
import re

import pytest
import torch
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grape_verified import (
    aggregate,
    fused_jensen_shannon_loss,
    fused_top_k_loss,
    jensen_shannon,
    top_k_divergence,
)
from grape_verified.conformance import CONTRACTS, run
from grape_verified.conformance.properties import PROPERTIES
from grape_verified.conformance.subject import read
from grape_verified.logprobs import one_pass_divergence

BATCH, TIME, WIDTH, TEACHER_WIDTH, VOCAB, K = 4, 5, 6, 3, 23, 4
TILES = [None, (1, 1), (4, 5), (100, 100)]
TAILS = ("bucket", "none", "renormalised")
UNIT_ROUNDOFF = 2.0**-24


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Problem:
    """A batch with holes and a sequence without tokens, of a student and a teacher with heads of different widths."""

    def __init__(self, dtype=torch.float64):
        self.hidden = normal(BATCH, TIME, WIDTH, dtype=dtype).requires_grad_()
        self.weight = normal(VOCAB, WIDTH, seed=1, dtype=dtype).requires_grad_()
        self.bias = normal(VOCAB, seed=2, dtype=dtype).requires_grad_()
        self.teacher = [normal(BATCH, TIME, TEACHER_WIDTH, seed=3, dtype=dtype)]
        self.teacher += [normal(VOCAB, TEACHER_WIDTH, seed=4, dtype=dtype), normal(VOCAB, seed=5, dtype=dtype)]
        self.mask = normal(BATCH, TIME, seed=6) > -0.5
        self.mask[2] = False
        self.sent = (self.teacher_logits() / 0.7).log_softmax(-1).topk(K)

    @property
    def leaves(self):
        return self.hidden, self.weight, self.bias

    def logits(self):
        return (self.hidden @ self.weight.T + self.bias) / 0.7

    def teacher_logits(self):
        hidden, weight, bias = self.teacher
        return (hidden @ weight.T + bias) / 0.7

    def fused(self, kind, **options):
        """The loss in one pass; the kind is the weight of a mixture, or what becomes of the tail."""
        options = {"mask": self.mask, "bias": self.bias, "temperature": 0.7, **options}
        if isinstance(kind, str):
            return fused_top_k_loss(self.hidden, self.weight, *self.sent, tail=kind, **options)
        hidden, weight, bias = self.teacher
        options = {"teacher_bias": bias, "mixing": kind, **options}
        return fused_jensen_shannon_loss(self.hidden, self.weight, hidden, weight, **options)

    def dense(self, kind):
        """The divergences of all logits."""
        if isinstance(kind, str):
            return top_k_divergence(self.logits(), *self.sent, tail=kind)
        return jensen_shannon(self.logits(), self.teacher_logits(), mixing=kind)


KINDS = (0.5, 0.2, *TAILS)
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "token_sum"])
def test_value_and_gradients_are_those_of_the_dense_formula(kind, tile, aggregation):
    p = Problem()
    found = p.fused(kind, tile=tile, aggregation=aggregation)
    terms = p.dense(kind)
    expected = aggregate(terms, p.mask, aggregation)
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.per_token, torch.where(p.mask, terms, 0).detach())
    torch.testing.assert_close(found.metrics["divergence"], terms[p.mask].mean().detach())
    assert not found.per_token.requires_grad
    torch.testing.assert_close(*(torch.autograd.grad(-3 * x, p.leaves) for x in (found.loss, expected)))


def capped(logits, softcap):
    """C·tanh(z/C) of logits that a temperature of 0.7 divided, which divides again."""
    return softcap * (0.7 * logits / softcap).tanh() / 0.7


@kinds
@pytest.mark.parametrize("tile", [None, (4, 5)])
def test_soft_caps(kind, tile):
    p = Problem()
    logits, teacher_logits = capped(p.logits(), 2.0), capped(p.teacher_logits(), 0.5)
    if isinstance(kind, str):
        found = p.fused(kind, softcap=2.0, tile=tile).loss
        terms = top_k_divergence(logits, *p.sent, tail=kind)
    else:
        found = p.fused(kind, softcap=2.0, teacher_softcap=0.5, tile=tile).loss
        terms = jensen_shannon(logits, teacher_logits, mixing=kind)
    expected = terms[p.mask].mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, p.leaves) for x in (found, expected)))


@kinds
def test_reductions_are_those_of_aggregate(kind):
    p = Problem()
    for options in ({"denominator": 7}, {"denominator": torch.tensor(2.5)},
                    {"aggregation": "fixed_length", "max_length": 9}):  # fmt: skip
        mode = {"mode": options.get("aggregation", "token_mean")}
        given = {name: value for name, value in options.items() if name != "aggregation"}
        torch.testing.assert_close(p.fused(kind, **options).loss, aggregate(p.dense(kind), p.mask, **mode, **given))


@kinds
def test_gradcheck(kind):
    p = Problem()

    def loss(hidden, weight, bias):
        p.hidden, p.weight, p.bias = hidden, weight, bias
        return p.fused(kind, tile=(4, 5)).loss

    gradcheck(loss, p.leaves)


@kinds
@pytest.mark.parametrize("frozen", range(3))
def test_what_needs_no_gradient_gets_none(kind, frozen):
    p = Problem()
    wanted = torch.autograd.grad(p.fused(kind).loss, p.leaves)
    p.leaves[frozen].requires_grad_(False)
    p.fused(kind).loss.backward()
    for place, (leaf, gradient) in enumerate(zip(p.leaves, wanted, strict=True)):
        assert leaf.grad is None if place == frozen else torch.equal(leaf.grad, gradient)


@kinds
def test_without_gradients_there_is_a_loss_all_the_same(kind):
    p = Problem()
    expected = p.fused(kind).loss
    with torch.no_grad():
        found = p.fused(kind).loss
    assert not found.requires_grad
    assert found == expected


@kinds
def test_the_teacher_is_a_constant(kind):
    p = Problem()
    given = p.sent if isinstance(kind, str) else p.teacher
    leaves = [x.requires_grad_() for x in given if x.is_floating_point()]
    p.fused(kind).loss.backward()
    assert all(x.grad is None for x in leaves)


@kinds
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_masked_positions_reach_nothing(kind, value):
    results = []
    for spoiled in (False, True):
        p = Problem(torch.float32)
        if spoiled:
            counted = p.mask.unsqueeze(-1)
            p.hidden = torch.where(counted, p.hidden, value).detach().requires_grad_()
            p.teacher[0] = torch.where(counted, p.teacher[0], value)
            p.sent = torch.where(counted, p.sent[0], value), torch.where(counted, p.sent[1], -100)
        found = p.fused(kind)
        results.append((found.loss, found.per_token, *torch.autograd.grad(found.loss, p.leaves)))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


@kinds
def test_no_token_at_all(kind):
    p = Problem()
    p.mask = torch.zeros_like(p.mask)
    found = p.fused(kind)
    assert found.loss == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(found.loss, p.leaves))


@kinds
def test_forbidden_tokens(kind):
    p = Problem()
    kept = torch.zeros(VOCAB, dtype=torch.bool).index_fill(0, p.sent[1].flatten(), True)
    forbidden = ~kept & (torch.arange(VOCAB) % 3 == 1)
    p.bias = torch.where(forbidden, -math.inf, p.bias).detach().requires_grad_()
    p.teacher[2][7:9] = -math.inf
    found, expected = p.fused(kind, tile=(4, 5)).loss, p.dense(kind)[p.mask].mean()
    torch.testing.assert_close(found, expected)
    found, expected = (torch.autograd.grad(x, p.leaves) for x in (found, expected))
    torch.testing.assert_close(found, expected)
    assert not found[1][forbidden].any()


@kinds
def test_logits_far_apart_in_different_tiles(kind):
    """Nothing overflows, and what underflows is 0."""
    weight = torch.tensor([[-1e30], [0.0], [90.0], [1e4], [-5.0]], requires_grad=True)
    hidden = torch.ones(1, 1, 1, requires_grad=True)
    if isinstance(kind, str):
        teacher = torch.tensor([[[0.5, 0.25]]]).log(), torch.tensor([[[1, 3]]])
        found = fused_top_k_loss(hidden, weight, *teacher, tail=kind, tile=(1, 1)).loss
        dense = top_k_divergence((hidden @ weight.T), *teacher, tail=kind).sum()
    else:
        teacher = torch.ones(1, 1, 1), weight.detach().flip(0)
        found = fused_jensen_shannon_loss(hidden, weight, *teacher, mixing=kind, tile=(1, 1)).loss
        dense = jensen_shannon(hidden @ weight.T, teacher[0] @ teacher[1].T, mixing=kind).sum()
    torch.testing.assert_close(found, dense)
    gradients = [torch.autograd.grad(x, (hidden, weight)) for x in (found, dense)]
    assert all(x.isfinite().all() for x in gradients[0])
    torch.testing.assert_close(*gradients)


@kinds
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_state_that_is_not_finite_is_nan_and_touches_no_other_token(kind, value):
    p = Problem()
    p.mask[:] = True
    expected = p.fused(kind).per_token
    p.hidden.data[0, 2] = value
    found = p.fused(kind).per_token
    assert found.isnan().nonzero().tolist() == [[0, 2]]
    torch.testing.assert_close(found[1:], expected[1:])


@pytest.mark.parametrize("kind", [0.5, 0.2, "bucket"])
def test_the_gradient_beside_a_token_with_nearly_all_of_the_probability(kind):
    """Its own slope is a difference that cancels; those of all tokens add up to 0."""
    logits, others = torch.linspace(-1, 1, 40), torch.linspace(2, -2, 40).double()
    logits[17] = 20.0
    logps, tokens = (x.view(1, 1, -1) for x in others.log_softmax(-1).topk(5))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        hidden = logits.to(dtype).view(1, 1, -1).requires_grad_()
        eye = torch.eye(40, dtype=dtype)
        if isinstance(kind, str):
            loss = fused_top_k_loss(hidden, eye, logps.to(dtype), tokens, tail=kind, tile=(1, 7)).loss
        else:
            teacher = others.to(dtype).view(1, 1, -1), eye
            loss = fused_jensen_shannon_loss(hidden, eye, *teacher, mixing=kind, tile=(1, 7)).loss
        gradients += torch.autograd.grad(loss, hidden)
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=2e-5, atol=0)


# -- rounding, memory -------------------------------------------------------------------------------------------------


def large(dtype, scale):
    """Hidden states and heads of a student and a teacher, and their logits in fp64 with the size of their products."""
    heads = []
    for seed in (0, 2):
        hidden, weight = normal(2, 50, 64, seed=seed, dtype=dtype), normal(1000, 64, seed=seed + 1) * scale / 8
        heads.append((hidden, weight.to(dtype)))
    logits = [h.double() @ w.double().T for h, w in heads]
    sizes = [(h.double().abs() @ w.double().abs().T).amax(-1) for h, w in heads]
    return *heads, *logits, *(2 * UNIT_ROUNDOFF * 68 * size for size in sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("mixing", [0.5, 0.1])
def test_the_documented_bound_of_jensen_shannon(dtype, scale, mixing):
    student, teacher, z, t, error, teacher_error = large(dtype, scale)
    found = fused_jensen_shannon_loss(*student, *teacher, mixing=mixing, tile=(7, 300)).per_token
    assert found.dtype == torch.float32
    log_q, log_p = z.log_softmax(-1), t.log_softmax(-1)
    mixture = torch.logaddexp(log_p + math.log(mixing), log_q + math.log1p(-mixing))
    sizes, bound = log_q.abs() + log_p.abs() + 1, 0
    for logs, weight, each in ((log_q, 1 - mixing, error), (log_p, mixing, teacher_error)):
        excess, p = logs - mixture, logs.exp()
        bound += each * weight * (p * (excess - (p * excess).sum(-1, keepdim=True)).abs()).sum(-1)
        bound += 8 * UNIT_ROUNDOFF * (sizes * weight * p * excess.abs()).sum(-1)
    bound += 8 * UNIT_ROUNDOFF * (sizes * (log_p.exp() - log_q.exp()).abs()).sum(-1)
    assert ((found.double() - jensen_shannon(z, t, mixing=mixing)).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("tail", TAILS)
def test_the_documented_bound_over_what_a_teacher_sends(dtype, scale, tail):
    student, _, z, t, error, _ = large(dtype, scale)
    logps, tokens = t.log_softmax(-1).topk(16)
    logps = logps.float()
    found = fused_top_k_loss(*student, logps, tokens, tail=tail, tile=(7, 300)).per_token
    logits = z.requires_grad_()
    exact = top_k_divergence(logits, logps.double(), tokens, tail=tail)
    slopes = torch.autograd.grad(exact.sum(), logits)[0]
    log_q, log_p = logits.detach().log_softmax(-1).gather(-1, tokens), logps.double()
    if tail == "renormalised":
        log_q, log_p = log_q.log_softmax(-1), log_p.log_softmax(-1)
    elif tail == "bucket":
        rest = [(1 - x.exp().sum(-1, keepdim=True)).log() for x in (log_q, log_p)]
        log_q, log_p = (torch.cat(x, -1) for x in zip((log_q, log_p), rest, strict=True))
    sizes, q, p = log_q.abs() + log_p.abs() + math.log(1000) + 1, log_q.exp(), log_p.exp()
    terms = p if tail == "none" else p * (log_p - log_q).abs() + (p - q).abs()
    bound = 8 * UNIT_ROUNDOFF * (sizes * terms).sum(-1) + error * slopes.abs().sum(-1)
    assert ((found.double() - exact.detach()).abs() <= bound).all()


@pytest.mark.parametrize("kind", [0.5, "bucket"])
def test_gradients_of_half_precision_operands(kind):
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        p = Problem(torch.bfloat16)
        p.sent = Problem().sent
        p.hidden, p.weight, p.bias = (x.detach().to(dtype).requires_grad_() for x in p.leaves)
        p.teacher = [x.to(dtype) for x in p.teacher]
        gradients.append(torch.autograd.grad(p.fused(kind, tile=(8, 8)).loss, p.leaves))
    for found, expected in zip(*gradients, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.double() - expected).norm() <= 4e-3 * expected.norm()


class Largest(TorchDispatchMode):
    """The most numbers that a tensor has memory for while the mode is on."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        sizes = [x.untyped_storage().nbytes() // x.itemsize for x in tree_leaves(found) if isinstance(x, torch.Tensor)]
        self.size = max([getattr(self, "size", 0), *sizes])
        return found


@pytest.mark.parametrize("kind", [0.5, "bucket"])
def test_no_tensor_has_a_number_for_each_token_and_word(kind):
    hidden, weight = normal(4, 100, 8).requires_grad_(), normal(1000, 8, seed=1).requires_grad_()
    with Largest() as seen:
        if isinstance(kind, str):
            teacher = torch.full((4, 100, 2), 0.25).log(), torch.tensor([3, 999]).expand(4, 100, 2)
            loss = fused_top_k_loss(hidden, weight, *teacher, tile=(16, 250)).loss
        else:
            loss = fused_jensen_shannon_loss(hidden, weight, hidden.flip(0), weight.flip(0), tile=(16, 250)).loss
        loss.backward()
    assert 1000 * 8 <= seen.size < 400 * 1000 / 10


# -- the contracts of the divergences, through a head -----------------------------------------------------------------


def head_of(logits):
    """A head that gives these logits: its weight is 1 for each token, and the bias of a forbidden one is −inf."""
    forbidden = logits == -math.inf
    weight = torch.eye(len(logits), dtype=logits.dtype)
    bias = torch.zeros_like(logits).masked_fill(forbidden, -math.inf).detach()
    return torch.where(forbidden, 0, logits).view(1, 1, -1), weight, bias


def positions(function, logits, *others):
    """The results of a function of one position."""
    rows = zip(*(x.flatten(0, -2) for x in (logits, *others)), strict=True)
    return torch.stack([function(*row) for row in rows]).view(logits.shape[:-1])


def jensen_shannon_by_heads(logits, teacher_logits, *, mixing=0.5):
    def one(own, other):
        hidden, weight, bias = head_of(own)
        teacher_hidden, teacher_weight, teacher_bias = head_of(other.detach())
        options = {"bias": bias, "teacher_bias": teacher_bias, "mixing": mixing, "tile": (1, 3)}
        return fused_jensen_shannon_loss(hidden, weight, teacher_hidden, teacher_weight, **options).loss

    return positions(one, logits, teacher_logits)


def top_k_by_heads(logits, teacher_logps, teacher_tokens, *, tail="bucket"):
    def one(own, logps, tokens):
        hidden, weight, bias = head_of(own)
        sent = logps.view(1, 1, -1), tokens.view(1, 1, -1)
        return fused_top_k_loss(hidden, weight, *sent, tail=tail, bias=bias, tile=(1, 3)).loss

    return positions(one, logits, teacher_logps, teacher_tokens)


BY_HEADS = {"jensen_shannon": jensen_shannon_by_heads, "top_k_divergence": top_k_by_heads}
CHECKED = ("value", "gradient", "options", "forbidden tokens", "extremes")


@pytest.mark.parametrize("prop", CHECKED)
@pytest.mark.parametrize("contract", BY_HEADS)
def test_the_contract_of_the_divergence_holds_in_one_pass(contract, prop):
    subject = read(BY_HEADS[contract], CONTRACTS[contract], {}, strict=True)
    finding = run.run_property(subject, PROPERTIES[prop], 30)
    assert finding.status == "passed", f"{finding.text}\n{finding.counterexample}"


def without_the_mean(probabilities, weighted):
    """The slopes keep the mean of the log-ratios."""
    return weighted


def weights_exchanged(student, teacher, mixing):
    """The weight of the teacher is the student's."""
    return folded(student, teacher, 1 - mixing)


def first_piece(tile):
    """The first columns of each tile."""
    return [tile[:, :1]]


def others_pulled_apart(self, slopes):
    """All other tokens have the whole slope of the bucket."""
    tiles = kept_slopes(self, slopes)
    for (_, tile), (row, entry, column) in zip(tiles, self.spots, strict=True):
        tile.copy_(slopes[:, -1:].expand_as(tile))
        tile[row, column] = slopes[row, entry]
    return tiles


folded, kept_slopes = one_pass_divergence._folded, one_pass_divergence._Kept.slopes

#: An error in a pass: what is replaced, the contract, and the properties that detect it.
MISTAKES = [
    (one_pass_divergence, "_centred", without_the_mean, "jensen_shannon", {"gradient", "options"}),
    (one_pass_divergence, "_folded", weights_exchanged, "jensen_shannon", {"options"}),
    (one_pass_divergence, "_pieces", first_piece, "jensen_shannon", {"value", "gradient", "options"}),
    (one_pass_divergence._Kept, "slopes", others_pulled_apart, "top_k_divergence", {"gradient", "options"}),
]


@pytest.mark.parametrize(("of", "name", "mistake", "contract", "seen_by"), MISTAKES)
def test_a_mistake_in_a_pass_breaks_the_contract(of, name, mistake, contract, seen_by, monkeypatch):
    monkeypatch.setattr(run, "REDUCTIONS", 3)
    subject = read(BY_HEADS[contract], CONTRACTS[contract], {}, strict=True)
    monkeypatch.setattr(of, name, mistake)
    failed = {prop for prop in CHECKED[:3] if run.run_property(subject, PROPERTIES[prop], 60).status == "failed"}
    assert failed == seen_by


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_second_derivative_is_refused():
    p = Problem()
    for kind, name, other in ((0.5, "fused_jensen_shannon_loss", "jensen_shannon"),
                              ("bucket", "fused_top_k_loss", "top_k_divergence")):  # fmt: skip
        with pytest.raises(RuntimeError, match=f"{name}: got a backward pass with create_graph=True.*; {other} on the"):
            torch.autograd.grad(p.fused(kind).loss, p.hidden, create_graph=True)


def test_transforms_are_refused_by_name():
    p = Problem()
    for kind, name in ((0.5, "fused_jensen_shannon_loss"), ("bucket", "fused_top_k_loss")):

        def loss(hidden, kind=kind):
            p.hidden = hidden
            return p.fused(kind).loss

        with pytest.raises(TypeError, match=f"{name}: got tensors of a torch.func transform, expected plain tensors"):
            torch.func.grad(loss)(p.hidden.detach())


P = Problem(torch.float32)
BAD = [
    ({"mixing": 1.0}, ValueError, "mixing: got 1.0, expected a number in (0, 1)"),
    ({"hidden": P.hidden[0]}, ValueError, "hidden: got shape (5, 6), expected shape (batch, time, width)"),
    ({"weight": P.weight[:, :3]}, ValueError, "weight: got shape (23, 3), expected (vocab, 6), as wide as hidden"),
    ({"teacher_hidden": P.hidden[:2, :, :3]}, ValueError, "teacher_hidden: got shape (2, 5, 3), expected (4, 5) and a"),
    (
        {"teacher_weight": P.weight[:, :2]},
        ValueError,
        "teacher_weight: got shape (23, 2), expected (vocab, 3), as wide",
    ),
    ({"teacher_weight": P.weight[:9, :3]}, ValueError, "teacher_weight: got 9 rows, expected 23, the vocabulary of we"),
    (
        {"teacher_bias": P.bias[:9]},
        ValueError,
        "teacher_bias: got shape (9,), expected (23,), one for each row of teac",
    ),
    (
        {"teacher_hidden": P.teacher[0].double(), "teacher_weight": P.teacher[1].double()},
        TypeError,
        "teacher_hidden: got dtype torch.float64, expected that of hidden, torch.float32",
    ),
    ({"softcap": 0}, ValueError, "softcap: got 0, expected a finite number > 0"),
    ({"teacher_softcap": -1.0}, ValueError, "teacher_softcap: got -1.0, expected a finite number > 0"),
    ({"temperature": 0}, ValueError, "temperature: got 0, expected a finite number > 0"),
    ({"mask": P.mask[:2]}, ValueError, "mask: got shape (2, 5), expected (4, 5), the shape of hidden without its last"),
    ({"max_length": 3}, ValueError, "max_length: got 3, expected None with aggregation 'token_mean', which does not"),
    ({"tile": 3}, TypeError, "tile: got 3, expected a pair of rows and columns"),
]


@pytest.mark.parametrize(("changed", "error", "text"), BAD)
def test_wrong_arguments(changed, error, text):
    given = {"hidden": P.hidden, "weight": P.weight, "teacher_hidden": P.teacher[0], "teacher_weight": P.teacher[1]}
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        fused_jensen_shannon_loss(**(given | changed))


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"tail": "all"}, ValueError, "tail: got 'all', expected one of 'bucket', 'none', 'renormalised'"),
        ({"teacher_tokens": P.sent[1] + VOCAB}, ValueError, "teacher_tokens: got the value "),
        (
            {"teacher_logps": P.sent[0][:2]},
            ValueError,
            "teacher_logps: got shape (2, 5, 4), expected (4, 5) and a k from",
        ),
    ],
)
def test_wrong_tokens(changed, error, text):
    given = {"hidden": P.hidden, "weight": P.weight, "teacher_logps": P.sent[0], "teacher_tokens": P.sent[1]}
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        fused_top_k_loss(**(given | changed))

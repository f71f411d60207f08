"""Losses directly from hidden states: value and gradients are those through log-probabilities."""

import math
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck

from grape_verified import (
    dpo_loss,
    dpo_per_pair,
    fused_linear_loss,
    grpo_loss,
    grpo_per_token,
    gspo_loss,
    gspo_per_sequence,
    linear_token_logps,
    ppo_loss,
    ppo_per_token,
    sft_loss,
    sft_per_token,
)

BATCH, TIME, WIDTH, VOCAB = 6, 7, 5, 23
TILES = [None, (1, 1), (4, 5), (100, 100)]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Problem:
    """A batch with holes, a sequence without tokens, and one whose advantage is 0."""

    def __init__(self, dtype=torch.float64):
        self.hidden = normal(BATCH, TIME, WIDTH, dtype=dtype).requires_grad_()
        self.weight = normal(VOCAB, WIDTH, seed=1, dtype=dtype).requires_grad_()
        self.bias = normal(VOCAB, seed=2, dtype=dtype).requires_grad_()
        self.targets = torch.arange(BATCH * TIME).reshape(BATCH, TIME) * 5 % VOCAB
        self.temperature = normal(BATCH, TIME, seed=3).abs().to(dtype) + 0.5
        self.mask = normal(BATCH, TIME, seed=4) > -0.5
        self.mask[2] = False
        self.advantages = normal(BATCH, seed=5, dtype=dtype)
        self.advantages[1] = 0
        logps = self.logps().detach()
        self.old_logps = logps + 0.3 * normal(BATCH, TIME, seed=6, dtype=logps.dtype)
        self.ref_logps = logps + 0.2 * normal(BATCH, TIME, seed=7, dtype=logps.dtype)

    @property
    def head(self):
        return {"bias": self.bias, "temperature": self.temperature, "mask": self.mask}

    @property
    def leaves(self):
        return self.hidden, self.weight, self.bias

    def logps(self):
        return linear_token_logps(self.hidden, self.weight, self.targets, **self.head)

    def fused(self, loss_fn, **options):
        return fused_linear_loss(self.hidden, self.weight, self.targets, loss_fn, **{**self.head, **options})


def sft(p, aggregation):
    """The loss through log-probabilities, and the arguments with which it is fused."""
    return sft_loss(p.logps(), p.mask, aggregation=aggregation), sft_per_token, {}


def ppo(p, aggregation):
    inputs = {"old_logps": p.old_logps, "advantages": p.advantages.unsqueeze(1).expand(BATCH, TIME)}
    plain = ppo_loss(p.logps(), *inputs.values(), p.mask, clip_low=0.1, aggregation=aggregation)
    return plain, partial(ppo_per_token, clip_low=0.1), {"inputs": inputs}


def grpo(p, aggregation):
    inputs = {"old_logps": p.old_logps, "advantages": p.advantages, "ref_logps": p.ref_logps}
    plain = grpo_loss(
        p.logps(), p.old_logps, p.advantages, p.mask, ref_logps=p.ref_logps, kl_coef=0.1, aggregation=aggregation
    )
    return plain, partial(grpo_per_token, kl_coef=0.1), {"inputs": inputs}


def gspo(p):
    inputs = {"old_logps": p.old_logps, "advantages": p.advantages, "mask": p.mask}
    plain = gspo_loss(p.logps(), p.old_logps, p.advantages, p.mask)
    return plain, gspo_per_sequence, {"inputs": inputs, "separable": "sequence"}


def dpo(p):
    sums, half = p.logps().sum(1), BATCH // 2
    reference = p.ref_logps.masked_fill(~p.mask, 0).sum(1)
    inputs = {"ref_chosen_logps": reference[:half], "ref_rejected_logps": reference[half:]}
    return dpo_loss(sums[:half], sums[half:], *inputs.values()), dpo_per_pair, {"inputs": inputs, "separable": "pair"}


def assert_the_same(p, plain, fused, upstream=1.0):
    torch.testing.assert_close(fused.loss, plain.loss)
    torch.testing.assert_close(fused.terms, plain[1].detach())
    torch.testing.assert_close(fused.logps, p.logps().detach())
    assert not fused.terms.requires_grad
    assert not fused.logps.requires_grad
    found, wanted = (torch.autograd.grad(upstream * x.loss, p.leaves) for x in (fused, plain))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("loss", [sft, ppo, grpo])
@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "sequence_sum", "token_sum"])
def test_losses_over_tokens(tile, loss, aggregation):
    p = Problem()
    plain, loss_fn, options = loss(p, aggregation)
    assert_the_same(p, plain, p.fused(loss_fn, aggregation=aggregation, tile=tile, **options))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("loss", [gspo, dpo])
def test_losses_over_sequences_and_pairs(tile, loss):
    p = Problem()
    plain, loss_fn, options = loss(p)
    assert_the_same(p, plain, p.fused(loss_fn, tile=tile, **options), upstream=-3.0)


def test_reductions_are_those_of_aggregate():
    p = Problem()
    for options in ({}, {"denominator": 7}, {"denominator": torch.tensor(2.5)}):
        assert_the_same(p, sft_loss(p.logps(), p.mask, **options), p.fused(sft_per_token, **options))
    options = {"aggregation": "fixed_length", "max_length": 9}
    assert_the_same(p, sft_loss(p.logps(), p.mask, **options), p.fused(sft_per_token, **options))
    plain, loss_fn, options = gspo(p)
    fused = p.fused(loss_fn, denominator=2.5, **options)
    torch.testing.assert_close(fused.loss, plain.loss * BATCH / 2.5)


def test_without_mask_bias_or_temperature():
    p = Problem()
    fused = fused_linear_loss(p.hidden, p.weight, p.targets, sft_per_token)
    plain = -linear_token_logps(p.hidden, p.weight, p.targets).mean()
    torch.testing.assert_close(fused.loss, plain)
    found, wanted = (torch.autograd.grad(x, (p.hidden, p.weight)) for x in (fused.loss, plain))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("tile", [None, (4, 5)])
def test_gradcheck(tile):
    p = Problem()
    inputs = {"old_logps": p.old_logps, "advantages": p.advantages}

    def loss(hidden, weight, bias):
        head = {"bias": bias, "mask": p.mask, "temperature": 0.7}
        return fused_linear_loss(hidden, weight, p.targets, ppo_per_token, inputs=inputs, tile=tile, **head).loss

    gradcheck(loss, p.leaves)


@pytest.mark.parametrize("frozen", range(3))
def test_what_needs_no_gradient_gets_none(frozen):
    p = Problem()
    wanted = torch.autograd.grad(sft_loss(p.logps(), p.mask).loss, p.leaves)
    p.leaves[frozen].requires_grad_(False)
    p.fused(sft_per_token).loss.backward()
    for place, (leaf, gradient) in enumerate(zip(p.leaves, wanted, strict=True)):
        if place == frozen:
            assert leaf.grad is None
        else:
            torch.testing.assert_close(leaf.grad, gradient)


def test_without_gradients_there_is_a_loss_all_the_same():
    p = Problem()
    with torch.no_grad():
        fused = p.fused(sft_per_token)
    assert not fused.loss.requires_grad
    torch.testing.assert_close(fused.loss, sft_loss(p.logps(), p.mask).loss.detach())


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_rows_without_a_slope_are_left_out(share):
    """Whether it pays to move the others together or not."""
    p = Problem()
    advantages = torch.ones(BATCH * TIME, dtype=torch.float64)
    advantages[: math.ceil(share * BATCH * TIME)] = 0
    advantages = advantages.reshape(BATCH, TIME)
    plain = ppo_loss(p.logps(), p.old_logps, advantages, p.mask)
    fused = p.fused(ppo_per_token, inputs={"old_logps": p.old_logps, "advantages": advantages}, tile=(64, 8))
    assert_the_same(p, plain, fused)


def test_a_loss_that_reads_no_log_probability_has_no_gradient():
    p = Problem()
    fused = p.fused(lambda logps: torch.ones_like(logps))
    assert fused.loss.item() == pytest.approx(1)
    assert not any(gradient.any() for gradient in torch.autograd.grad(fused.loss, p.leaves))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_masked_positions_reach_nothing(value):
    results = []
    for spoiled in (False, True):
        p = Problem(torch.float32)
        if spoiled:
            p.hidden = torch.where(p.mask.unsqueeze(-1), p.hidden, value).detach().requires_grad_()
            p.targets = torch.where(p.mask, p.targets, -100)
            p.old_logps = torch.where(p.mask, p.old_logps, value)
            p.temperature = torch.where(p.mask, p.temperature, math.nan)
        inputs = {"old_logps": p.old_logps, "advantages": p.advantages}
        fused = p.fused(ppo_per_token, inputs=inputs)
        results.append((*fused, *torch.autograd.grad(fused.loss, p.leaves)))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


@pytest.mark.parametrize("separable", ["token", "sequence", "pair"])
def test_no_token_at_all(separable):
    hidden, weight = torch.zeros(2, 3, 4, requires_grad=True), torch.ones(5, 4, requires_grad=True)
    targets = torch.zeros(2, 3, dtype=torch.long)
    loss_fn = {"token": sft_per_token, "sequence": lambda x: -x.sum(1), "pair": lambda x, y: y - x}[separable]
    mask = torch.zeros(2, 3, dtype=torch.bool)
    fused = fused_linear_loss(hidden, weight, targets, loss_fn, mask=mask, separable=separable)
    assert fused.loss == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(fused.loss, (hidden, weight)))


def test_half_precision_operands():
    hidden, weight = normal(4, 50, 64, dtype=torch.bfloat16), normal(500, 64, seed=1, dtype=torch.bfloat16)
    targets, advantages = torch.arange(200).reshape(4, 50), normal(4, 50, seed=2, dtype=torch.float32)
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        leaves = [x.detach().to(dtype).requires_grad_() for x in (hidden, weight)]
        loss = fused_linear_loss(*leaves, targets, lambda x, a: a * x, inputs={"a": advantages}, tile=(64, 100)).loss
        gradients.append(torch.autograd.grad(loss, leaves))
    for found, expected in zip(*gradients, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.double() - expected).norm() <= 3e-3 * expected.norm()


def test_a_logit_far_above_those_of_earlier_tiles():
    """The exponentials before it are rescaled, and nothing overflows."""
    hidden = torch.tensor([[[1.0]]], requires_grad=True)
    weight = torch.tensor([[-1e30], [0.0], [90.0], [1e4], [-5.0]], requires_grad=True)
    fused = fused_linear_loss(hidden, weight, torch.tensor([[1]]), sft_per_token, tile=(1, 1))
    assert fused.loss == 1e4
    of_hidden, of_weight = torch.autograd.grad(fused.loss, (hidden, weight))
    assert of_hidden == 1e4
    assert of_weight.flatten().tolist() == [0, -1, 0, 1, 0]


def test_forbidden_tokens():
    p = Problem()
    p.bias = torch.where(torch.arange(VOCAB) % 7 == 6, -math.inf, p.bias).detach()
    p.targets = torch.where(p.targets % 7 == 6, 0, p.targets)
    plain, fused = sft_loss(p.logps(), p.mask), p.fused(sft_per_token, tile=(4, 5))
    torch.testing.assert_close(fused.loss, plain.loss)
    found, wanted = (torch.autograd.grad(x.loss, (p.hidden, p.weight)) for x in (fused, plain))
    torch.testing.assert_close(found, wanted)
    assert not found[1][6::7].any()


def test_a_second_derivative_is_refused():
    p = Problem()
    with pytest.raises(RuntimeError, match="fused_linear_loss: got a backward pass with create_graph=True, expected"):
        torch.autograd.grad(p.fused(sft_per_token).loss, p.hidden, create_graph=True)


def test_several_backward_passes_add_up():
    p = Problem()
    loss = p.fused(sft_per_token).loss
    wanted = torch.autograd.grad(sft_loss(p.logps(), p.mask).loss, p.leaves)
    for upstream in (1.0, 2.0, 1.0):
        (upstream * loss).backward(retain_graph=True)
    torch.testing.assert_close([x.grad for x in p.leaves], [4 * x for x in wanted])


def test_the_gradients_are_not_copied():
    """If nothing multiplies the loss, the computed tensor becomes the gradient of the leaf."""
    p = Problem()
    fused = p.fused(sft_per_token)
    computed = fused.loss.grad_fn.saved_tensors[1].data_ptr()
    fused.loss.backward()
    assert p.weight.grad.data_ptr() == computed


P = Problem(torch.float32)
WITH_PARAMETER = torch.ones(3, requires_grad=True)
BAD = [
    ({"separable": "batch"}, ValueError, "separable: got 'batch', expected one of 'token', 'sequence', 'pair'"),
    ({"hidden": P.hidden[0], "targets": P.targets[0]}, ValueError, "hidden: got shape (7, 5), expected shape (batch,"),
    ({"hidden": P.hidden[..., :0]}, ValueError, "hidden: got shape (6, 7, 0), expected shape (..., width) with a"),
    ({"hidden": [1.0]}, TypeError, "hidden: got list, expected a tensor"),
    ({"targets": P.targets + VOCAB}, ValueError, "targets: got the value 23, expected values in [0, 23)"),
    ({"inputs": [P.mask]}, TypeError, "inputs: got list, expected a mapping from names to tensors"),
    ({"inputs": {"x": 1.0}}, TypeError, "inputs['x']: got float, expected a tensor"),
    ({"inputs": {"x": P.hidden[..., 0]}}, ValueError, "inputs['x']: got a tensor that requires a gradient, expected a"),
    ({"inputs": {"x": P.mask[:, :3]}}, ValueError, "inputs['x']: got shape (6, 3), expected (6, 7), the shape of"),
    (
        {"inputs": {"x": P.mask}, "separable": "pair"},
        ValueError,
        "inputs['x']: got shape (6, 7), expected (3, ...), one row for each pair",
    ),
    ({"hidden": P.hidden[:5], "separable": "pair"}, ValueError, "hidden: got shape (5, 7, 5), expected an even batch"),
    ({"temperature": P.bias.exp()[:1]}, ValueError, "temperature: got a tensor that requires a gradient, expected a"),
    (
        {"separable": "sequence", "aggregation": "token_mean"},
        ValueError,
        "aggregation: got 'token_mean', expected None with separable 'sequence', which does not use it",
    ),
    (
        {"separable": "pair", "max_length": 3},
        ValueError,
        "max_length: got 3, expected None with separable 'pair', which does not use it",
    ),
    ({"max_length": 3}, ValueError, "max_length: got 3, expected None with aggregation 'token_mean', which does not"),
    ({"denominator": 0}, ValueError, "denominator: got 0, expected None, a finite number > 0 or a 0-d tensor"),
    (
        {"loss_fn": lambda x: 1.0},
        TypeError,
        "loss_fn: got a function that returns float, expected a tensor of shape (1, 42)",
    ),
    (
        {"loss_fn": ppo_loss},
        TypeError,
        "loss_fn: got a function that returns LossOutput, expected its terms, such as ppo_per",
    ),
    (
        {"loss_fn": partial(sft_loss, mask=P.mask)},
        TypeError,
        "loss_fn: got a function that returns LossOutput, expected its",
    ),
    (
        {"loss_fn": lambda x: sft_loss(x, torch.ones_like(x))},
        TypeError,
        "loss_fn: got a function that returns LossOutput, expected a tensor of shape (1, 42), its terms, such as ppo",
    ),
    (
        {"loss_fn": dpo_loss, "separable": "pair"},
        TypeError,
        "loss_fn: got a function that returns PairLossOutput, expected its terms, such as dpo_per_pair",
    ),
    ({"loss_fn": "ppo_per_token"}, TypeError, "loss_fn: got str, expected a function, such as ppo_per_token"),
    (
        {"loss_fn": lambda x: x.sum()},
        ValueError,
        "loss_fn: got a function that returns shape (), expected (1, 42), its terms",
    ),
    (
        {"loss_fn": lambda x: x * WITH_PARAMETER.sum()},
        ValueError,
        "loss_fn: got a function that reads a tensor of shape (3,) which requires a gradient, expected none but logps",
    ),
    ({"tile": (0, 4)}, ValueError, "tile rows: got 0, expected an integer >= 1"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD)
def test_bad_arguments(given, error, text):
    with pytest.raises(error) as raised:
        fused_linear_loss(
            **{"hidden": P.hidden, "weight": P.weight, "targets": P.targets, "loss_fn": sft_per_token} | given
        )
    assert str(raised.value).startswith(text)

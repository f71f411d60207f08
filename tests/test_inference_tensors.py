"""What was made in inference mode, as a reference model's output is, may be given as a constant to what is trained."""

import pytest
import torch

from grape_verified import categorical_kl, ipo_loss, linear_token_logps, sft_loss, token_entropies, token_logps

with torch.inference_mode():
    TWO, ONES, LOGITS = torch.tensor(2.0), torch.ones(2), torch.randn(2, 3)
    BIAS, LENGTHS, HEAD = torch.zeros(3), torch.tensor([2.0, 3.0]), torch.randn(4, 3)

PAIRS, TARGETS = torch.zeros(2), torch.tensor([0, 2])
CALLS = {
    "denominator": lambda x: sft_loss(x, torch.ones(2, 3), denominator=TWO).loss,
    "lengths": lambda x: (
        ipo_loss(
            x[:, 0], x[:, 1], PAIRS, PAIRS, log_ratio="mean", chosen_lengths=LENGTHS, rejected_lengths=LENGTHS
        ).loss
    ),
    "other logits": lambda x: categorical_kl(x, LOGITS).sum(),
    "logits": lambda x: categorical_kl(LOGITS, x).sum(),
    "bias and temperature": lambda x: linear_token_logps(x, torch.eye(3), TARGETS, bias=BIAS, temperature=ONES).sum(),
    "weight": lambda x: linear_token_logps(x, HEAD, TARGETS).sum(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_constant_made_in_inference_mode_is_saved(name):
    x = torch.randn(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(CALLS[name](x), x)
    assert gradient.any()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: token_logps(x, TARGETS),
        token_entropies,
        lambda x: linear_token_logps(x, torch.eye(3), TARGETS),
    ],
    ids=["token_logps", "token_entropies", "linear_token_logps"],
)
def test_a_result_may_be_written_into(function):
    x = torch.randn(2, 3, requires_grad=True)
    result = function(x)
    result[0] = 0
    result.sum().backward()
    assert not x.grad[0].any()
    assert x.grad[1].any()

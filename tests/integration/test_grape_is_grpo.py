"""With one rubric item GRAPE is GRPO: the same gradients through a transformer, to rounding."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import grape_verified as gv

PROMPTS, GROUP, TIME, VOCAB = 3, 4, 7, 23

#: Both sides differ only in the rounding of the advantages: a few u of each, which propagate to the gradients.
ROUNDINGS = 64


@pytest.fixture
def batch():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    tokens = torch.randint(VOCAB, (PROMPTS * GROUP, TIME + 1))
    lengths = torch.randint(1, TIME + 1, (PROMPTS * GROUP, 1))
    return model, tokens, torch.arange(TIME) < lengths, torch.rand(PROMPTS, GROUP, 1)


def gradients(model, tokens, loss_of):
    """The gradients of a loss of log-probabilities, off the policy that sampled."""
    model.zero_grad()
    logps = gv.token_logps(model(tokens[:, :-1]).logits, tokens[:, 1:])
    old_logps = logps.detach() + 0.3 * torch.sin(torch.arange(logps.numel()).view_as(logps))
    loss_of(logps, old_logps).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("scale", ["none", "std"])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_one_item_with_any_confidence_is_grpo(batch, scale, baseline):
    model, tokens, mask, scores = batch
    confidences = 0.1 + 0.9 * torch.rand_like(scores)
    advantages = gv.group_advantages(scores.flatten(), GROUP, baseline=baseline, scale=scale)
    by_grape = gradients(
        model, tokens,
        lambda logps, old: gv.grape_loss(
            logps, old, scores, confidences, torch.tensor([2.5]), mask, baseline=baseline, scale=scale
        ),
    )  # fmt: skip
    by_grpo = gradients(model, tokens, lambda logps, old: gv.grpo_loss(logps, old, advantages, mask))
    unit = torch.finfo(scores.dtype).eps / 2
    assert by_grpo.abs().max() > 1e-3
    assert (by_grape - by_grpo).abs().max() <= ROUNDINGS * unit * by_grpo.abs().max()


def test_leave_one_out_is_a_longer_step_in_the_same_direction(batch):
    model, tokens, mask, scores = batch
    advantages = gv.group_advantages(scores.flatten(), GROUP, scale="none")
    by_grape = gradients(
        model, tokens,
        lambda logps, old: gv.grape_loss(logps, old, scores, torch.ones_like(scores), torch.ones(1), mask),
    )  # fmt: skip
    by_grpo = gradients(model, tokens, lambda logps, old: gv.grpo_loss(logps, old, advantages, mask))
    unit = torch.finfo(scores.dtype).eps / 2
    longer = GROUP / (GROUP - 1) * by_grpo
    assert (by_grape - longer).abs().max() <= ROUNDINGS * unit * longer.abs().max()


def test_two_items_are_not(batch):
    model, tokens, mask, scores = batch
    both = torch.cat([scores, scores.flip(1)], -1)
    advantages = gv.group_advantages(scores.flatten(), GROUP, scale="none")
    by_grape = gradients(
        model, tokens, lambda logps, old: gv.grape_loss(logps, old, both, torch.ones_like(both), torch.ones(2), mask)
    )
    by_grpo = gradients(model, tokens, lambda logps, old: gv.grpo_loss(logps, old, advantages, mask))
    assert (by_grape - by_grpo).abs().max() > 0.1 * by_grpo.abs().max()

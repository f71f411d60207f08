"""The inputs of every row of the benchmark, and the exact results for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import textbook

TASKS = ("logps", "entropy", "sft", "grpo", "dpo")
KINDS = ("flat", "peaked", "offset", "masked", "zeros")
#: In the last kind half of the advantages are 0; these losses have none.
WITHOUT_ADVANTAGES = ("sft", "dpo")

SEQUENCES = 16
CONFIDENT = 30.0
OFFSET = 1000.0


class Shape(NamedTuple):
    """N tokens, d the width of their hidden states, V the size of the vocabulary."""

    tokens: int
    width: int
    vocab: int


@dataclass(frozen=True)
class Problem:
    """A batch of sequences, the last layer of a model, and the constants of each task.

    For DPO the first half of the batch is chosen and the second rejected; the reference's sums are 0.
    """

    hidden: Tensor  # (batch, time, width)
    weight: Tensor  # (vocab, width)
    targets: Tensor  # (batch, time)
    mask: Tensor  # (batch, time), bool
    upstream: Tensor  # (batch, time), what is asked of the log-probabilities where there is no loss
    entropy_upstream: Tensor
    old_logps: Tensor
    advantages: Tensor  # (batch,)


def problem(shape: Shape, kind: str, dtype: torch.dtype, device: str, seed: int) -> Problem:
    """Logits of standard deviation 1, but for what the kind says.

    peaked: half of the positions have a token of logit about 30, every other time the target. offset: the logits of a
    token are all raised or all lowered by 1000. masked: half of the tokens do not count. zeros: half of the sequences
    have an advantage, and their tokens an upstream gradient, of 0.
    """

    draw = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, device=device)

    def half(size: int) -> Tensor:
        return torch.randperm(size, generator=draw, device=device) < size // 2

    tokens, width, vocab = shape
    batch = SEQUENCES, tokens // SEQUENCES
    hidden, weight = normal(tokens, width), normal(vocab, width).mul_(width**-0.5)
    targets = torch.randint(vocab, (tokens,), generator=draw, device=device)
    chosen = half(tokens)
    if kind == "peaked":
        towards = weight[torch.where(half(tokens), targets, targets.roll(1))[chosen]]
        hidden[chosen] += CONFIDENT * towards / towards.square().sum(1, keepdim=True)
    if kind == "offset":
        hidden[:, 0], weight[:, 0] = torch.where(chosen, OFFSET, -OFFSET), 1
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    old_logps = _logps(hidden, weight, targets) + 0.1 * normal(tokens)
    advantages = normal(SEQUENCES)
    if kind == "zeros":
        advantages[half(SEQUENCES)] = 0
    asked = (advantages != 0).float().unsqueeze(1)
    return Problem(
        hidden.view(*batch, width).requires_grad_(),
        weight.requires_grad_(),
        targets.view(batch),
        ~chosen.view(batch) if kind == "masked" else torch.ones(batch, dtype=torch.bool, device=device),
        normal(*batch) * asked,
        normal(*batch) * asked,
        old_logps.view(batch),
        advantages,
    )


def _logps(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities for the old policy, a few rows at a time."""
    weight = weight.float()
    parts = zip(hidden.float().split(256), targets.split(256), strict=True)
    return torch.cat([(h @ weight.T).log_softmax(1).gather(1, y.unsqueeze(1)).squeeze(1) for h, y in parts])


def plain_loss(p: Problem, task: str, logps: Tensor, entropies: Tensor | None = None) -> Tensor:
    """The loss of a task by its textbook formula; token mean for SFT and GRPO, whose clipped surrogate is PPO's."""
    if task == "logps":
        return (p.upstream * logps * p.mask).sum()
    if task == "entropy":
        assert entropies is not None
        return ((p.upstream * logps + p.entropy_upstream * entropies) * p.mask).sum()
    if task == "sft":
        return textbook.sft(logps, p.mask)
    if task == "grpo":
        return textbook.ppo(logps, p.old_logps, p.advantages, p.mask)
    chosen, rejected = (logps * p.mask).sum(1).chunk(2)
    zeros = torch.zeros_like(chosen)
    return textbook.dpo(chosen, rejected, zeros, zeros)


class Exact(NamedTuple):
    """The result of a task in fp64, from the same operands."""

    loss: Tensor
    logps: Tensor
    entropies: Tensor
    of_hidden: Tensor
    of_weight: Tensor


def exact(p: Problem, task: str) -> Exact:
    """The result of a task by the formulas, in fp64 from the first product on."""
    hidden, weight = (x.detach().double().requires_grad_() for x in (p.hidden, p.weight))
    scores = (hidden @ weight.T).log_softmax(-1)
    logps = scores.gather(-1, p.targets.unsqueeze(-1)).squeeze(-1)
    entropies = -(scores.exp() * scores).sum(-1)
    constants = {
        name: getattr(p, name).double() for name in ("upstream", "entropy_upstream", "old_logps", "advantages")
    }
    loss = plain_loss(replace(p, **constants), task, logps, entropies)
    of_hidden, of_weight = torch.autograd.grad(loss, (hidden, weight))
    return Exact(loss.detach(), logps.detach(), entropies.detach(), of_hidden, of_weight)

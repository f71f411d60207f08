"""Distillation from hidden states: the inputs, the exact results, and the rows of its tasks.

Both sides have a head of their own over one vocabulary. jsd: the Jensen-Shannon divergence with equal weights, and the
mean over tokens. top-k: the forward divergence from the teacher's likeliest tokens, with a bucket for all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.cells import NotOffered, Outcome, Row
from benchmarks.problems import Exact, Problem, Shape, problem
from grape_verified import fused_jensen_shannon_loss, fused_top_k_loss, jensen_shannon, top_k_divergence

TASKS = ("jsd", "top-k")

#: How many tokens the teacher sends.
K = 32


@dataclass(frozen=True)
class Lesson(Problem):
    """A problem, and a teacher of the same width: its hidden states and head, and the tokens that it would send."""

    teacher_hidden: Tensor
    teacher_weight: Tensor
    teacher_logps: Tensor
    teacher_tokens: Tensor


def lesson(shape: Shape, kind: str, dtype: torch.dtype, device: str, seed: int) -> Lesson:
    """A problem of a kind, with a teacher whose logits have standard deviation 1, independent of the student's."""
    student = problem(shape, kind, dtype, device, seed)
    draw = torch.Generator(device).manual_seed(seed + 1)
    hidden = torch.randn(shape.tokens, shape.width, generator=draw, device=device)
    weight = torch.randn(shape.vocab, shape.width, generator=draw, device=device).mul_(shape.width**-0.5)
    hidden, weight, k = hidden.to(dtype), weight.to(dtype), min(K, shape.vocab // 2)
    parts = [(h @ weight.float().T).log_softmax(1).topk(k) for h in hidden.float().split(256)]
    logps, tokens = (torch.cat(found).view(*student.mask.shape, k) for found in zip(*parts, strict=True))
    return Lesson(**vars(student), teacher_hidden=hidden.view(*student.mask.shape, -1), teacher_weight=weight,
                  teacher_logps=logps, teacher_tokens=tokens)  # fmt: skip


def textbook_loss(p: Lesson, task: str, hidden: Tensor, weight: Tensor, least: float = 0.0) -> Tensor:
    """The loss of a task as trainers write it, from the logits of all tokens, with a least mass of a bucket."""
    student = (hidden @ weight.T).to(torch.promote_types(hidden.dtype, torch.float32)).log_softmax(-1)
    if task == "jsd":
        with torch.no_grad():
            logits = p.teacher_hidden.to(hidden.dtype) @ p.teacher_weight.to(hidden.dtype).T
            teacher = logits.to(student.dtype).log_softmax(-1)
        mixture = torch.logsumexp(torch.stack([teacher, student]), 0) - math.log(2)
        both = [functional.kl_div(mixture, x, reduction="none", log_target=True) for x in (teacher, student)]
        per_token = ((both[0] + both[1]) / 2).sum(-1)
    else:
        teacher, kept = p.teacher_logps.to(student.dtype), student.gather(-1, p.teacher_tokens)
        rest, others = ((1 - x.exp().sum(-1)).clamp(min=least) for x in (teacher, kept))
        per_token = (teacher.exp() * (teacher - kept)).sum(-1) + rest * (rest.log() - others.log())
    return (per_token * p.mask).sum() / p.mask.sum()


def exact(p: Lesson, task: str) -> Exact:
    """The result of a task in fp64, from the same operands."""
    hidden, weight = (x.detach().double().requires_grad_() for x in (p.hidden, p.weight))
    loss = textbook_loss(p, task, hidden, weight)
    nothing = loss.new_empty(0)
    return Exact(loss.detach(), nothing, nothing, *torch.autograd.grad(loss, (hidden, weight)))


# -- the rows ---------------------------------------------------------------------------------------------------------


def naive(p: Any, task: str) -> Outcome:
    """The textbook's formula of all logits, with masses of at least 1e-7, as fp32 needs them."""
    return Outcome(textbook_loss(p, task, p.hidden, p.weight, least=1e-7))


def compiled_naive(p: Any, task: str) -> Outcome:
    """The same, compiled."""
    return _compiled()(p, task)


@cache
def _compiled() -> Row:
    return torch.compile(naive, dynamic=False, fullgraph=True)


def liger(p: Any, task: str) -> Outcome:
    """Liger's fused loss with its defaults, without the loss of the labels."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    if task != "jsd":
        raise NotOffered
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0)
    labels = p.targets.masked_fill(~p.mask, -100).flatten()
    states = p.hidden.flatten(0, 1), p.weight, p.teacher_hidden.flatten(0, 1), p.teacher_weight
    return Outcome(loss(*states, labels))


def logits_route(p: Any, task: str) -> Outcome:
    """The logits, then jensen_shannon or top_k_divergence."""
    logits = p.hidden @ p.weight.T
    if task == "jsd":
        per_token = jensen_shannon(logits, p.teacher_hidden @ p.teacher_weight.T)
    else:
        per_token = top_k_divergence(logits, p.teacher_logps, p.teacher_tokens)
    return Outcome((per_token * p.mask).sum() / p.mask.sum())


def one_pass(p: Any, task: str, tile: tuple[int, int] | None = None) -> Outcome:
    """fused_jensen_shannon_loss, or fused_top_k_loss."""
    if task == "jsd":
        teacher = p.teacher_hidden, p.teacher_weight
        return Outcome(fused_jensen_shannon_loss(p.hidden, p.weight, *teacher, mask=p.mask, tile=tile).loss)
    sent = p.teacher_logps, p.teacher_tokens
    return Outcome(fused_top_k_loss(p.hidden, p.weight, *sent, mask=p.mask, tile=tile).loss)


def not_offered(p: Any, task: str) -> Outcome:
    """A library without such a loss from hidden states."""
    raise NotOffered


ROWS: dict[str, Row] = {
    "naive": naive,
    "compiled": compiled_naive,
    "liger": liger,
    "logits": logits_route,
    "one-pass": one_pass,
}


def row(name: str) -> Row:
    """A row by its name; "one-pass:256x4096" is ours with tiles of 256 rows and 4096 columns."""
    base, _, tile = name.partition(":")
    found = ROWS.get(base, not_offered)
    return partial(found, tile=tuple(int(size) for size in tile.split("x"))) if tile else found  # type: ignore

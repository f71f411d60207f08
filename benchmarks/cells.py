"""The rows of the benchmark: for each, how it gets from hidden states to the loss of a task.

A row is a function of a problem and a task. It returns the loss to differentiate and, where its library hands them
out, the log-probabilities and entropies of all tokens. Rows that only give log-probabilities are followed by the plain
formula of the loss, ours by ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.problems import Problem, plain_loss
from benchmarks.textbook import BETA, CLIP
from grape_verified import (
    dpo_loss,
    dpo_per_pair,
    fused_linear_loss,
    grpo_loss,
    grpo_per_token,
    linear_token_logps,
    sft_loss,
    sft_per_token,
    token_entropies,
    token_logps,
)

#: Columns of the vocabulary that TRL computes at once on a CPU; on a GPU, the value that its trainers pass.
TRL_COLUMNS = 2048


class Outcome(NamedTuple):
    """The loss of a row, and its log-probabilities and entropies if the library returns them."""

    loss: Tensor
    logps: Tensor | None = None
    entropies: Tensor | None = None


class NotOffered(Exception):
    """The library has no function for this task."""


Row = Callable[[Problem, str], Outcome]


def naive(p: Problem, task: str) -> Outcome:
    """log_softmax of all logits, and gather."""
    scores = (p.hidden @ p.weight.T).float().log_softmax(-1)
    logps = scores.gather(-1, p.targets.unsqueeze(-1)).squeeze(-1)
    entropies = -(scores.exp() * scores).sum(-1) if task == "entropy" else None
    return Outcome(plain_loss(p, task, logps, entropies), logps, entropies)


def compiled_naive(p: Problem, task: str) -> Outcome:
    """The same, compiled."""
    return _compiled()(p, task)


@cache
def _compiled() -> Row:
    return torch.compile(naive, dynamic=False, fullgraph=True)


def trl_selective(p: Problem, task: str) -> Outcome:
    """TRL's functions of the logits."""
    from trl.trainer.utils import selective_log_softmax, selective_log_softmax_and_entropy

    logits, entropies = p.hidden @ p.weight.T, None
    if task == "entropy":
        logps, entropies = selective_log_softmax_and_entropy(logits, p.targets)
    else:
        logps = selective_log_softmax(logits, p.targets)
    return Outcome(plain_loss(p, task, logps, entropies), logps, entropies)


def trl_chunked(p: Problem, task: str) -> Outcome:
    """TRL's fused head. On a GPU its trainers pass only the counted positions, elsewhere all."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    columns = _CHUNKED_LOGPROB_CHUNK_SIZE if p.hidden.is_cuda else TRL_COLUMNS
    counted = p.mask if p.hidden.is_cuda else torch.ones_like(p.mask)
    outputs = ("entropy",) if task == "entropy" else ()
    found = ChunkedLogProbFunction.apply(
        p.hidden[counted] if p.hidden.is_cuda else p.hidden.flatten(0, 1),
        p.weight, None, p.targets[counted], 1.0, columns, None, 1.0, outputs,
    )  # fmt: skip

    def back(x: Tensor) -> Tensor:
        return x.new_zeros(p.mask.shape).masked_scatter(counted, x)

    logps, entropies = back(found[0]), None if found[1] is None else back(found[1])
    return Outcome(plain_loss(p, task, logps, entropies), logps, entropies)


def liger(p: Problem, task: str) -> Outcome:
    """Liger's fused losses with their defaults, and the log-probabilities inside them."""
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss, LigerFusedLinearGRPOLoss
    from liger_kernel.chunked_loss.fused_linear_ppo import LigerFusedLinearPPOBase
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    labels = p.targets.masked_fill(~p.mask, -100)
    if task == "logps":
        logps = LigerFusedLinearPPOBase.chunk_forward(p.hidden, p.weight, p.targets)
        return Outcome(plain_loss(p, task, logps), logps)
    if task == "sft":
        return Outcome(liger_fused_linear_cross_entropy(p.hidden.flatten(0, 1), p.weight, labels.flatten()))
    if task == "grpo":
        grpo = LigerFusedLinearGRPOLoss(
            beta=0.0, use_ref_model=False, epsilon_low=CLIP, epsilon_high=CLIP, loss_type="bnpo"
        )
        found = grpo(p.hidden, p.weight, p.targets, p.mask, p.advantages, old_per_token_logps=p.old_logps)
        return Outcome(found[0])
    if task == "dpo":
        found = LigerFusedLinearDPOLoss(beta=BETA, use_ref_model=False)(p.weight, p.hidden, labels)
        return Outcome(found[0])
    raise NotOffered


def torch_op(p: Problem, task: str) -> Outcome:
    """torch.nn.functional.linear_cross_entropy with its own chunks: reduced for SFT, else −log π(y) per token."""
    if task == "entropy":
        raise NotOffered
    labels = p.targets.masked_fill(~p.mask, -100).flatten()
    cross_entropy = partial(
        functional.linear_cross_entropy,  # type: ignore[attr-defined, unused-ignore]
        p.hidden.flatten(0, 1), p.weight, labels, options=torch.nn.LinearCrossEntropyOptions(),
    )  # fmt: skip
    if task == "sft":
        return Outcome(cross_entropy())
    logps = -cross_entropy(reduction="none").view(p.mask.shape).float()
    return Outcome(plain_loss(p, task, logps), logps)


def our_loss(p: Problem, task: str, logps: Tensor, entropies: Tensor | None = None) -> Tensor:
    """The loss of a task by our functions, or by the plain formula if we have no function for it."""
    if task == "sft":
        return sft_loss(logps, p.mask).loss
    if task == "grpo":
        loss = partial(grpo_loss, clip_low=CLIP, clip_high=CLIP, aggregation="token_mean")
        return loss(logps, p.old_logps, p.advantages, p.mask).loss
    if task == "dpo":
        chosen, rejected = (logps * p.mask).sum(1).chunk(2)
        zeros = torch.zeros_like(chosen)
        return dpo_loss(chosen, rejected, zeros, zeros, beta=BETA).loss
    return plain_loss(p, task, logps, entropies)


def logits_route(p: Problem, task: str) -> Outcome:
    """The logits, then token_logps and token_entropies."""
    logits = p.hidden @ p.weight.T
    logps = token_logps(logits, p.targets)
    entropies = token_entropies(logits) if task == "entropy" else None
    return Outcome(our_loss(p, task, logps, entropies), logps, entropies)


def two_stage(p: Problem, task: str, tile: tuple[int, int] | None = None) -> Outcome:
    """linear_token_logps."""
    arguments = p.hidden, p.weight, p.targets
    if task == "entropy":
        logps, entropies = linear_token_logps(*arguments, mask=p.mask, with_entropy=True, tile=tile)
        return Outcome(our_loss(p, task, logps, entropies), logps, entropies)
    logps = linear_token_logps(*arguments, mask=p.mask, tile=tile)
    return Outcome(our_loss(p, task, logps), logps)


def one_pass(p: Problem, task: str, tile: tuple[int, int] | None = None) -> Outcome:
    """fused_linear_loss."""
    fused = partial(fused_linear_loss, p.hidden, p.weight, p.targets, mask=p.mask, tile=tile)
    if task == "logps":
        found = fused(_weighted, inputs={"upstream": p.upstream}, aggregation="token_sum")
    elif task == "sft":
        found = fused(sft_per_token)
    elif task == "grpo":
        per_token = partial(grpo_per_token, clip_low=CLIP, clip_high=CLIP)
        found = fused(per_token, inputs={"old_logps": p.old_logps, "advantages": p.advantages})
    elif task == "dpo":
        zeros = p.old_logps.new_zeros(len(p.mask) // 2)
        references = {"ref_chosen_logps": zeros, "ref_rejected_logps": zeros}
        found = fused(partial(dpo_per_pair, beta=BETA), inputs=references, separable="pair")
    else:
        raise NotOffered
    return Outcome(found.loss, found.logps)


def _weighted(logps: Tensor, upstream: Tensor) -> Tensor:
    return logps * upstream


ROWS: dict[str, Row] = {
    "naive": naive,
    "compiled": compiled_naive,
    "trl-selective": trl_selective,
    "trl-chunked": trl_chunked,
    "liger": liger,
    "torch": torch_op,
    "logits": logits_route,
    "two-stage": two_stage,
    "one-pass": one_pass,
}


def row(name: str) -> Row:
    """A row by its name; "one-pass:256x4096" is our row with tiles of 256 rows and 4096 columns."""
    base, _, tile = name.partition(":")
    if not tile:
        return ROWS[base]
    rows, columns = (int(size) for size in tile.split("x"))
    return partial({"two-stage": two_stage, "one-pass": one_pass}[base], tile=(rows, columns))

"""Losses of distillation directly from hidden states, without the logits of all tokens in memory.

R. Agarwal et al., On-Policy Distillation of Language Models, arXiv:2306.13649, equation 1 (not checked against the
source).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from grape_verified.aggregation import check_reduction
from grape_verified.arguments import POSITIVE, Aggregation, check_choice, check_number, check_same_device
from grape_verified.divergence import (
    OPEN_INTERVAL,
    Tail,
    Teacher,
    check_kept,
    divergence_of_cells,
    slopes_of_cells,
)
from grape_verified.logprobs.fused_loss import token_weights
from grape_verified.logprobs.inputs import (
    check_fused_batch,
    check_head,
    check_with_values,
    checked_softcap,
    counted_positions,
)
from grape_verified.logprobs.one_pass import Found, OnePass
from grape_verified.logprobs.one_pass_divergence import Rows, pass_over_both, pass_over_kept
from grape_verified.logprobs.tiles import Head, Tile, checked_tile, one_pass_tile
from grape_verified.losses.output import LossOutput, means_over
from grape_verified.numerics import compute_dtype

__all__ = ["fused_jensen_shannon_loss", "fused_top_k_loss"]


def fused_jensen_shannon_loss(
    hidden: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "vocab width"],
    teacher_hidden: Float[Tensor, "batch time teacher_width"],
    teacher_weight: Float[Tensor, "vocab teacher_width"],
    *,
    mixing: float = 0.5,
    mask: Shaped[Tensor, "batch time"] | None = None,
    bias: Float[Tensor, " vocab"] | None = None,
    teacher_bias: Float[Tensor, " vocab"] | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    teacher_softcap: float | None = None,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
    tile: tuple[int, int] | None = None,
) -> LossOutput:
    """`jensen_shannon` of a student and a teacher whose logits are (W·h + b)/τ, aggregated, in one pass.

    The logits of a block of tokens are computed once, for both sides, and become the slopes in the student's, from
    which both gradients are formed before the next block: no (tokens, vocab) numbers are in memory. All else is as in
    `fused_linear_loss`: the loss can be differentiated once, in hidden, weight and bias; masked tokens are left out;
    `torch.compile` breaks the graph at the call, and torch.func transforms are not supported.

    Arguments:
        hidden, weight, bias, mask: as in `fused_linear_loss`, of the student; (batch, time, width).
        teacher_hidden, teacher_weight, teacher_bias: of the teacher, constants; its width may be another, not its
            vocabulary.
        mixing: β in (0, 1), the weight of the teacher in the mixture.
        temperature: τ of both, a finite number > 0.
        softcap, teacher_softcap: as in `linear_token_logps`, of the student and of the teacher.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).
        tile: rows (tokens of a block) and columns of logits computed at once; None for `one_pass_tile`.

    Returns: LossOutput(loss, per_token, metrics), per_token detached. Metrics, means over the counted tokens:
        divergence: the divergence, whatever the aggregation and its denominator.

    Error: with δ the error of a logit, 2·u·(width + 4)·Z for Z as in `linear_token_logps`: of each divergence, that of
    `jensen_shannon` and δ·(1 − β)·Σ_v π_v |e_v − Σ_w π_w e_w| with e = log(π/m), and the same for the teacher with β.

    Claims: those of `jensen_shannon` and of `aggregate`, head.logit.gradient, head.softcap.gradient.

    Sources: Agarwal et al., arXiv:2306.13649 (not checked against the source).

    Examples:
        >>> import torch
        >>> from grape_verified import fused_jensen_shannon_loss
        >>> hidden, weight = torch.ones(1, 1, 1), torch.zeros(2, 1, requires_grad=True)
        >>> teacher = torch.ones(1, 1, 1), torch.tensor([[0.0], [-1000.0]])
        >>> out = fused_jensen_shannon_loss(hidden, weight, *teacher)
        >>> out.loss.backward()
        >>> out.loss, weight.grad.flatten()  # ½ log 4/3 + ¼ log 2/3 + ¼ log 2
        (tensor(0.2158, grad_fn=<OnePassBackward>), tensor([-0.1373,  0.1373]))
    """

    def call() -> LossOutput:
        beta = check_number("mixing", mixing, OPEN_INTERVAL)
        own = _Student.of(hidden, weight, bias, mask, temperature, softcap, aggregation, denominator, max_length, tile)
        teacher = _teacher(own, teacher_hidden, teacher_weight, teacher_bias, teacher_softcap, hidden)
        check_with_values("fused_jensen_shannon_loss", "jensen_shannon", hidden, weight, teacher_hidden, teacher_weight)
        rows = own.rows()
        compute = partial(pass_over_both, own.hidden, own.head, *teacher, rows, beta, own.tile)
        return own.output(compute, rows, ("fused_jensen_shannon_loss", "jensen_shannon"))

    return _outside_of_graphs(call)


def fused_top_k_loss(
    hidden: Float[Tensor, "batch time width"],
    weight: Float[Tensor, "vocab width"],
    teacher_logps: Float[Tensor, "batch time k"],
    teacher_tokens: Int[Tensor, "batch time k"],
    *,
    tail: Tail = "bucket",
    mask: Shaped[Tensor, "batch time"] | None = None,
    bias: Float[Tensor, " vocab"] | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
    tile: tuple[int, int] | None = None,
) -> LossOutput:
    """`top_k_divergence` of a student whose logits are (W·h + b)/τ, aggregated, in one pass.

    All but the teacher's arguments is as in `fused_jensen_shannon_loss`.

    Arguments:
        hidden, weight, bias, softcap, mask, aggregation, denominator, max_length, tile: as there.
        teacher_logps, teacher_tokens, tail: as in `top_k_divergence`, (batch, time, k). Masked entries may hold
            anything.
        temperature: τ of the student, a finite number > 0; the teacher's is in its log-probabilities.

    Returns: LossOutput(loss, per_token, metrics), per_token detached. Metrics, means over the counted tokens:
        divergence: the divergence, whatever the aggregation and its denominator.

    Error: with δ the error of a logit, 2·u·(width + 4)·Z for Z as in `linear_token_logps`: of each divergence, that of
    `top_k_divergence` and δ times the sum of the magnitudes of its gradient's entries.

    Claims: those of `top_k_divergence` and of `aggregate`, head.logit.gradient, head.softcap.gradient.

    Examples:
        >>> import torch
        >>> from grape_verified import fused_top_k_loss
        >>> hidden, weight = torch.ones(1, 1, 1), torch.zeros(4, 1, requires_grad=True)
        >>> teacher = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]]).log()
        >>> out = fused_top_k_loss(hidden, weight, *teacher.topk(2))
        >>> out.loss.backward()
        >>> out.loss, weight.grad.flatten()
        (tensor(0.1733, grad_fn=<OnePassBackward>), tensor([-0.2500,  0.0000,  0.1250,  0.1250]))
    """

    def call() -> LossOutput:
        check_choice("tail", tail, get_args(Tail))
        own = _Student.of(hidden, weight, bias, mask, temperature, softcap, aggregation, denominator, max_length, tile)
        check_kept(teacher_logps, teacher_tokens, "hidden", hidden, len(weight), own.counted)
        check_with_values("fused_top_k_loss", "top_k_divergence", hidden, weight, teacher_logps, teacher_tokens)
        rows = own.rows()
        logps, tokens = (x.detach().flatten(0, 1)[rows.places] for x in (teacher_logps, teacher_tokens))
        teacher = Teacher.of(logps, tail, len(weight), rows.weights.dtype)

        def of_scores(kept: Tensor, others: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            cells = Teacher(*(x[part] for x in teacher))
            scores = kept if tail == "renormalised" else torch.cat([kept, others.unsqueeze(1)], 1)
            slopes = slopes_of_cells(scores, cells)
            if tail == "renormalised":
                slopes = torch.nn.functional.pad(slopes, (0, 1))
            return divergence_of_cells(scores, cells, tail), slopes

        compute = partial(pass_over_kept, own.hidden, own.head, tokens.long(), rows, of_scores, own.tile)
        return own.output(compute, rows, ("fused_top_k_loss", "top_k_divergence"))

    return _outside_of_graphs(call)


def _outside_of_graphs(call: Callable[[], LossOutput]) -> LossOutput:
    """The result of a call, which a compiler leaves alone."""
    return torch.compiler.disable(call)() if torch.compiler.is_compiling() else call()


@dataclass(frozen=True)
class _Student:
    """The arguments of a student: its head, its hidden states in one row for each token, and how to reduce."""

    hidden: Tensor
    head: Head
    counted: Bool[Tensor, "batch time"]
    reduction: tuple[Aggregation, float | Tensor | None, int | None]
    tile: Tile

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        temperature: float,
        softcap: float | None,
        aggregation: Aggregation,
        denominator: float | Tensor | None,
        max_length: int | None,
        tile: tuple[int, int] | None,
    ) -> "_Student":
        """Check them."""
        check_reduction("aggregation", aggregation, denominator, max_length)
        check_fused_batch(hidden, "token")
        check_head(hidden, weight, bias)
        cap = checked_softcap("softcap", softcap)
        head = Head(weight, bias, check_number("temperature", temperature, POSITIVE), softcap=cap)
        everywhere = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        counted = everywhere if mask is None else counted_positions(mask, hidden, "hidden")
        size = one_pass_tile(hidden, weight) if tile is None else checked_tile(tile)
        return cls(hidden.flatten(0, 1), head, counted, (aggregation, denominator, max_length), size)

    def rows(self) -> Rows:
        """The tokens that count."""
        weights = token_weights(self.counted, compute_dtype(self.hidden), *self.reduction).flatten()
        places = self.counted.flatten().nonzero().squeeze(1)
        return Rows(places, weights[places])

    def output(self, compute: Callable[..., Found], rows: Rows, refusal: tuple[str, str]) -> LossOutput:
        """The loss of a pass over these rows."""
        leaves = self.hidden, self.head.weight, self.head.bias
        loss, terms = OnePass.apply(*leaves, compute, refusal, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
        per_token = terms.new_zeros(self.counted.numel()).index_copy(0, rows.places, terms).view(self.counted.shape)
        return LossOutput(loss, per_token, means_over(self.counted, divergence=per_token))


def _teacher(
    student: _Student, hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, like: Tensor
) -> tuple[Tensor, Head]:
    """Check a teacher beside the hidden states of a student; return its hidden states, flattened, and its head."""
    check_head(hidden, weight, bias, of="teacher_")
    check_same_device("teacher_hidden", hidden, "hidden", like)
    if hidden.ndim != 3 or hidden.shape[:2] != like.shape[:2]:
        raise ValueError(
            f"teacher_hidden: got shape {tuple(hidden.shape)}, expected {tuple(like.shape[:2])} and a width, as hidden"
        )
    if len(weight) != len(student.head.weight):
        raise ValueError(
            f"teacher_weight: got {len(weight)} rows, expected {len(student.head.weight)}, the vocabulary of weight"
        )
    if compute_dtype(hidden) != compute_dtype(like):
        raise TypeError(f"teacher_hidden: got dtype {hidden.dtype}, expected that of hidden, {like.dtype}")
    bias, cap = None if bias is None else bias.detach(), checked_softcap("teacher_softcap", softcap)
    return hidden.detach().flatten(0, 1), Head(weight.detach(), bias, student.head.temperature, softcap=cap)

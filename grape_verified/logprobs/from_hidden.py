"""Log-probabilities and entropies from hidden states, without the logits of all tokens in memory."""

from __future__ import annotations

from typing import Literal, overload

from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributed import ProcessGroup

from grape_verified.arguments import check_flag, check_group
from grape_verified.logprobs.inputs import checked_softcap, head_inputs
from grape_verified.logprobs.parallel import ranks
from grape_verified.logprobs.tiles import checked_tile, two_stage_tile
from grape_verified.logprobs.two_stage import TwoStage
from grape_verified.numerics import savable

__all__ = ["linear_token_logps"]


@overload
def linear_token_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = ..., temperature: float | Tensor = ...,
    mask: Tensor | None = ..., with_entropy: Literal[False] = ..., tile: tuple[int, int] | None = ...,
    softcap: float | None = ..., group: ProcessGroup | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def linear_token_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = ..., temperature: float | Tensor = ...,
    mask: Tensor | None = ..., with_entropy: Literal[True], tile: tuple[int, int] | None = ...,
    softcap: float | None = ..., group: ProcessGroup | None = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
def linear_token_logps(
    hidden: Float[Tensor, "*positions width"],
    weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "*positions"],
    *,
    bias: Float[Tensor, " vocab"] | None = None,
    temperature: float | Float[Tensor, "*positions"] = 1.0,
    mask: Shaped[Tensor, "*positions"] | None = None,
    with_entropy: bool = False,
    softcap: float | None = None,
    tile: tuple[int, int] | None = None,
    group: ProcessGroup | None = None,
) -> Float[Tensor, "*positions"] | tuple[Float[Tensor, "*positions"], Float[Tensor, "*positions"]]:
    """Log-probability of each target under the softmax of z = (W·h + b)/τ, without the logits of all tokens in memory.

        log π(y) = z_y − log Σ_v exp(z_v)        H = −Σ_v π_v log π_v

    Logits are computed tile by tile, in fp32 whatever the dtype of the operands (fp64 stays fp64), and again in the
    backward pass; three numbers per token are saved. Tokens that are masked, or whose upstream gradient is 0, are
    skipped; on a GPU, counting them synchronises with the device. A bias of −inf forbids its token, as in
    `token_logps`. `torch.compile` treats the call as one operator. A second derivative raises RuntimeError.

    Results are bitwise reproducible. On a CPU in fp64, with a width that is a multiple of 8, the results for a token
    (and its gradient in hidden) do not depend on the other tokens either.

    Arguments:
        hidden: (..., width); the state at a position predicts its target.
        weight: (vocab, width), the last layer, in the dtype of hidden.
        targets: (...), integers in [0, vocab).
        bias: (vocab,), in the dtype of weight, or None.
        temperature: τ, a finite number > 0, or (...), one for each token; a tensor is differentiated.
        mask: (...); None if all tokens count.
        with_entropy: whether to return H, in nats, as well.
        softcap: C, a finite number > 0: z = C·tanh((W·h + b)/C)/τ, as in Gemma 2; None for no cap. A head that scales
            its logits by a number α, as Cohere's, takes τ/α as its temperature.
        tile: rows (tokens) and columns (of the vocabulary) of logits computed at once; None for `two_stage_tile`.
        group: ranks that each hold a part of the vocabulary, in the order of the ranks: weight and bias are those of
            this rank, with the same number of rows on every rank. All other arguments, upstream gradients and results
            are the same on all ranks. Gradients are those of the whole; for weight and bias, of this rank's part. The
            forward pass costs one MAX and one SUM of a few numbers per token, the backward pass one SUM of the gradient
            of hidden.

    Returns: (...), 0 where masked; a pair of such tensors with_entropy.

    Error: with Z the largest (Σ_k |W_vk h_k| + |b_v|)/τ of the token, |error of log π(y)| ≤ 2·u·(width + 4)·Z +
    4·u·(|log π(y)| + H + 1), and, with the spread S of `token_entropies`, |error of H| ≤ 2·u·(width + 4)·Z·(1 + S) +
    4·u·(1 + H + S).

    Claims: head.logit.gradient, head.gradient, head.entropy.gradient, head.log_odds, head.sums, head.parts,
    head.parts.gradient, head.softcap.slope, head.softcap.gradient, head.softcap.scale, policy.temperature.gradient,
    policy.temperature.slope, policy.entropy.gradient.

    Examples:
        >>> import torch
        >>> from grape_verified import linear_token_logps
        >>> linear_token_logps(torch.ones(1, 2), torch.zeros(3, 2), torch.tensor([2]))
        tensor([-1.0986])
    """
    check_flag("with_entropy", with_entropy)
    softcap = checked_softcap("softcap", softcap)
    check_group(group)
    tokens = head_inputs(hidden, weight, targets, bias, temperature, mask, ranks(group))
    size = two_stage_tile(hidden, weight) if tile is None else checked_tile(tile)
    each, every = (tokens.temperature, 1.0) if isinstance(tokens.temperature, Tensor) else (None, tokens.temperature)
    name = None if group is None else group.group_name
    head = (None if x is None else savable(x) for x in (tokens.hidden, weight, bias, each))
    logps, _, entropies = TwoStage.apply(  # type: ignore[no-untyped-call]
        *head, every, tokens.targets, tokens.counted, *size, name, softcap, with_entropy
    )
    logps = logps.view(targets.shape).clone()  # the backward pass reads what is cloned: callers may write into the copy
    return (logps, entropies.view(targets.shape).clone()) if with_entropy else logps

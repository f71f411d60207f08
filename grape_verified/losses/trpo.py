"""Trust region policy optimisation: the surrogate of one token.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477. The step under a KL constraint is in
`grape_verified.natural_gradient`.
"""

from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import check_reduction
from grape_verified.arguments import Aggregation
from grape_verified.losses.output import LossOutput
from grape_verified.losses.ratio import counted_ratio_tokens, ratio_output, ratio_tokens

__all__ = ["trpo_loss", "trpo_per_token"]


def trpo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """TRPO's loss of each token, the negative surrogate −ρA with ρ = exp(logp − old_logp).

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.

    Returns: (batch, time).

    Error: |error| ≤ 4·u·(|logp − old_logp| + 1)·|value|, where nothing saturates or underflows (theorem
    trpo_per_token_error, for an exponential within 1 ulp).

    Claims: ppo.ratio.gradient, trpo.surrogate.gradient, trpo.importance.identity.

    Sources: Schulman et al., arXiv:1502.05477, equation 14.

    Examples:
        >>> import torch
        >>> from grape_verified import trpo_per_token
        >>> trpo_per_token(torch.tensor([[0.5, 1.0]]).log(), torch.zeros(1, 2), torch.tensor([2.0]))
        tensor([[-1., -2.]])
    """
    tokens = ratio_tokens(logps, old_logps, advantages)
    return tokens.ratio * -tokens.advantages


def trpo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    aggregation: Aggregation = "token_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """TRPO's policy loss: `trpo_per_token`, aggregated over the tokens that count.

    The loss does not keep the policies close; the constraint of `trpo_step` does. Where ratios saturate for advantages
    of both signs, the value is finite but arbitrary; the slope of each token keeps its sign.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        mask: (batch, time).
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics, each a mean over the counted tokens of this call:
        ratio_mean: ρ.
        approx_kl: expm1(d) − d with d = logp − old_logp, an estimate of KL(old‖new) from samples of old.

    Error: the aggregate of the bounds of `trpo_per_token`, and that of `aggregate`.

    Claims: those of `trpo_per_token` and `aggregate`.

    Sources: those of `trpo_per_token`.

    Examples:
        >>> import torch
        >>> from grape_verified import trpo_loss
        >>> logps, mask = torch.tensor([[-1.0, -2.0, -9.0]]), torch.tensor([[1, 1, 0]])
        >>> trpo_loss(logps, logps, torch.tensor([2.0]), mask).loss
        tensor(-2.)
    """
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    tokens = counted_ratio_tokens(logps, old_logps, advantages, mask)
    return ratio_output(tokens.ratio * -tokens.advantages, tokens, reduction)

"""REINFORCE: the score of one token, weighted by its advantage.

R. J. Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992.
"""

from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import check_reduction, reduced
from grape_verified.arguments import Aggregation, check_floating, counted_tokens, token_advantages
from grape_verified.losses.output import LossOutput, means_over
from grape_verified.numerics import bounded, compute_dtype, only, saturate_

__all__ = ["reinforce_loss", "reinforce_per_token"]


def reinforce_per_token(
    logps: Float[Tensor, "batch time"], advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"]
) -> Float[Tensor, "batch time"]:
    """Surrogate of each token, −A·logp: its gradient is minus the policy-gradient estimate A ∇logp.

    Only the gradient is meaningful, not the value.

    Arguments:
        logps: (batch, time), of tokens that this policy has sampled.
        advantages: A, (batch, time), or (batch,) for one per sequence; rewards minus a baseline; constants.

    Returns: (batch, time).

    Error: |error| ≤ u·|value|, where nothing saturates or underflows (theorem reinforce_per_token_error); the gradient
    is −A, exactly, before it is rounded to the dtype of logps.

    Claims: reinforce.policy_gradient, reinforce.surrogate, reinforce.closed_form, reinforce.baseline.unbiased,
    reinforce.reward_to_go.

    Sources: Williams 1992 (not checked against the source).

    Examples:
        >>> import torch
        >>> from grape_verified import reinforce_per_token
        >>> reinforce_per_token(torch.tensor([[-1.0, -2.0]]), torch.tensor([0.5]))
        tensor([[0.5000, 1.0000]])
    """
    check_floating("logps", logps, "(batch, time)")
    weights, policy = token_advantages(advantages, logps), bounded(logps.to(compute_dtype(logps)))
    return -weights.to(policy.dtype) * policy


def reinforce_loss(
    logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    aggregation: Aggregation = "sequence_sum",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """REINFORCE's loss: `reinforce_per_token`, aggregated over the tokens that count.

    Aggregated as "sequence_sum", its gradient is minus the unbiased estimate of the policy gradient; a mean over
    tokens gives the tokens of long sequences less weight. There is no importance ratio: the tokens must be sampled from
    the current policy.

    Arguments:
        logps: (batch, time).
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        mask: (batch, time).
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics, each a mean over the counted tokens of this call:
        logp_mean: logp; its negative estimates the entropy of the policy at the sampled positions.
        advantage_mean: A.

    Error: the aggregate of the bounds of `reinforce_per_token`, and that of `aggregate`.

    Claims: those of `reinforce_per_token` and `aggregate`.

    Sources: those of `reinforce_per_token`.

    Examples:
        >>> import torch
        >>> from grape_verified import reinforce_loss
        >>> logps, mask = torch.tensor([[-1.0, -2.0], [-3.0, -9.0]]), torch.tensor([[1, 1], [1, 0]])
        >>> reinforce_loss(logps, torch.tensor([1.0, -1.0]), mask).loss.item()  # (3 − 3) / 2 rows
        0.0
    """
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    check_floating("logps", logps, "(batch, time)")
    weights = token_advantages(advantages, logps)
    counted = counted_tokens(mask, "logps", logps)
    policy = saturate_(only(logps.to(compute_dtype(logps)), counted))
    weights = only(weights.to(policy.dtype), counted)
    per_token = -weights * policy
    metrics = means_over(counted, logp_mean=policy, advantage_mean=bounded(weights))
    return LossOutput(reduced(per_token, counted, reduction), per_token, metrics)

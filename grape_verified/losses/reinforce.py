"""REINFORCE: the score of one token, weighted with its advantage.

R. J. Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import aggregate
from grape_verified.arguments import Aggregation, check_aggregation, check_floating, counted_tokens, token_advantages
from grape_verified.losses.output import LossOutput
from grape_verified.numerics import bounded, compute_dtype

__all__ = ["reinforce_loss", "reinforce_per_token"]


def reinforce_per_token(
    logps: Float[Tensor, "batch time"], advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"]
) -> Float[Tensor, "batch time"]:
    """Surrogate of each token, −A·logp: its gradient is minus the policy-gradient estimate A ∇logp.

    The value means nothing by itself. Only `logps` is differentiated: `advantages` A, rewards less a baseline, are
    constants. A log-probability beyond ± finfo.max · 2⁻²⁴ counts as that, and the slope −A stays.

    Arguments:
        logps: (batch, time), of tokens that this policy has sampled; any floating-point dtype, read in fp32 (fp64
            stays fp64).
        advantages: (batch, time), or (batch,) for one per sequence; read in the compute dtype of logps.

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype, shape or device.

    Error: |error| ≤ u·|value|, u the unit roundoff of the compute dtype; the gradient is −A, exactly, before it
    is rounded to the dtype of logps.

    Claims: reinforce.token_loss, reinforce.surrogate, reinforce.policy_gradient, reinforce.closed_form,
    reinforce.baseline.unbiased, reinforce.reward_to_go.

    Sources: Williams 1992 (not checked against the source).
    """
    check_floating("logps", logps, "(batch, time)")
    weights = token_advantages(advantages, logps)
    return -weights * bounded(logps.to(compute_dtype(logps)))


def reinforce_loss(
    logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    aggregation: Aggregation = "sequence_sum",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """REINFORCE's loss: the aggregate of `reinforce_per_token` over the tokens that count.

    Aggregated as "sequence_sum", its gradient is minus the unbiased estimate of the policy gradient; a mean over
    tokens weighs the tokens of long sequences less. The tokens must be samples of the policy itself: there is no
    importance ratio. Masked entries may hold anything, NaN and inf included. If no token counts, the loss is 0 with
    zero gradients.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        advantages: (batch, time), or (batch,) for one per sequence; a constant.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none:
        logp_mean: of logp; minus that estimates the entropy of the policy at the positions of its samples.
        advantage_mean: of A.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option.

    Error: the aggregate of the bounds of `reinforce_per_token`, and that of `aggregate`.

    Claims: those of `reinforce_per_token` and `aggregate`.

    Sources: those of `reinforce_per_token`.
    """
    check_aggregation("aggregation", aggregation, denominator, max_length)
    check_floating("logps", logps, "(batch, time)")
    weights = token_advantages(advantages, logps)
    counted = counted_tokens(mask, "logps", logps)
    tokens = logps.to(compute_dtype(logps)).masked_fill(~counted, 0)
    weights = weights.masked_fill(~counted, 0)
    per_token = reinforce_per_token(tokens, weights)
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    return LossOutput(loss, per_token, _metrics(tokens, weights, counted))


@torch.no_grad()
def _metrics(logps: Tensor, advantages: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """The metrics that `reinforce_loss` defines."""
    return {
        "logp_mean": aggregate(bounded(logps), counted, "token_mean"),
        "advantage_mean": aggregate(bounded(advantages), counted, "token_mean"),
    }

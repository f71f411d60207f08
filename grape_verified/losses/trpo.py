"""Trust region policy optimisation: the surrogate of one token.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477. The step that a KL constraint allows is
`grape_verified.natural_gradient`.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grape_verified.aggregation import aggregate
from grape_verified.arguments import Aggregation, TokenInputs, check_aggregation, counted_tokens, token_inputs
from grape_verified.kl import kl_estimate
from grape_verified.losses.output import LossOutput
from grape_verified.numerics import bounded_exp

__all__ = ["trpo_loss", "trpo_per_token"]


def trpo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """Negative surrogate of each token, −ρA with ρ = exp(logp − old_logp).

    Only `logps` is differentiated: `old_logps` and `advantages` are constants. Where ρ would leave the range of the
    dtype it saturates at finfo.max · 2⁻²⁴ and the slope in logp, −ρA, keeps that size and sign.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; read in the compute dtype of logps.
        advantages: (batch, time), or (batch,) for one per sequence; read in the compute dtype of logps.

    Returns: (batch, time), to be minimised, fp32 (fp64 for fp64 logps). The gradient has the dtype of logps.

    Raises: TypeError or ValueError for a wrong type, dtype, shape or device.

    Error: |error| ≤ 4·u·(|logp − old_logp| + 1)·|value|, u the unit roundoff of the compute dtype, where ρ neither
    saturates nor underflows.

    Claims: ppo.ratio, ppo.ratio.gradient, trpo.surrogate, trpo.surrogate.gradient, trpo.importance.identity.

    Sources: Schulman et al., arXiv:1502.05477, equation 14.
    """
    tokens = token_inputs(logps, old_logps, advantages)
    return -bounded_exp(tokens.logps - tokens.old_logps) * tokens.advantages


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
    """TRPO's policy loss: the aggregate of `trpo_per_token` over the tokens that count.

    It bounds nothing: what keeps the policies close is the constraint of `trpo_step`. Masked entries may hold
    anything, NaN and inf included. If no token counts, the loss is 0 with zero gradients. Where ratios saturate for
    advantages of both signs the loss is some finite number; the slope of each token keeps its sign.

    Arguments:
        logps: (batch, time), any floating-point dtype, read in fp32 (fp64 stays fp64).
        old_logps: (batch, time), under the policy that sampled; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; a constant.
        mask: (batch, time), 1 or True where a token counts; bool, or numbers that are only 0 and 1.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics), per_token (batch, time) and 0 where masked. The metrics are means
    over the counted tokens of this call, 0 if there are none:
        ratio_mean: of ρ.
        approx_kl: of expm1(d) − d with d = logp − old_logp, an estimate of KL(old‖new) from samples of old.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, mask value, mode or option.

    Error: the aggregate of the bounds of `trpo_per_token`, and that of `aggregate`.

    Claims: those of `trpo_per_token` and `aggregate`.

    Sources: Schulman et al., arXiv:1502.05477, equation 14.
    """
    check_aggregation("aggregation", aggregation, denominator, max_length)
    tokens = token_inputs(logps, old_logps, advantages)
    counted = counted_tokens(mask, "logps", logps)
    tokens = tokens.only(counted)
    per_token = trpo_per_token(tokens.logps, tokens.old_logps, tokens.advantages)
    loss = aggregate(per_token, counted, aggregation, denominator=denominator, max_length=max_length)
    return LossOutput(loss, per_token, _metrics(tokens, counted))


@torch.no_grad()
def _metrics(tokens: TokenInputs, counted: Tensor) -> dict[str, Tensor]:
    """The metrics that `trpo_loss` defines."""
    return {
        "ratio_mean": aggregate(bounded_exp(tokens.logps - tokens.old_logps), counted, "token_mean"),
        "approx_kl": aggregate(kl_estimate(tokens.old_logps, tokens.logps), counted, "token_mean"),
    }

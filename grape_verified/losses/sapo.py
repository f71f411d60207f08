"""Soft adaptive policy optimisation: a sigmoid of the ratio takes the place of PPO's clip.

C. Gao et al., Soft Adaptive Policy Optimization, arXiv:2511.20347.
"""

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.aggregation import check_reduction
from grape_verified.arguments import Aggregation, Range, check_number
from grape_verified.losses.output import LossOutput
from grape_verified.losses.ratio import RatioTokens, counted_ratio_tokens, ratio_output, ratio_tokens

__all__ = ["sapo_loss", "sapo_per_token"]

#: Within these, 4/τ and τ(ρ − 1) stay in the range of fp32 whatever the ratio.
TEMPERATURE = Range("a number in [1e-6, 1e6]", 1e-6, 1e6, ends="[]")


def sapo_per_token(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    *,
    temperature_pos: float = 1.0,
    temperature_neg: float = 1.05,
) -> Float[Tensor, "batch time"]:
    """SAPO's loss of each token.

        −(4/τ)·σ(τ(ρ − 1))·A      ρ = exp(logp − old_logp), τ = τ₊ where A > 0, τ₋ elsewhere

    The slope in logp is −w·ρ·A with the weight w = 4σ(1 − σ), 1 at ρ = 1 and smaller elsewhere. The value at ρ = 1 is
    −2A/τ: with two temperatures, advantages that add up to 0 give a loss other than 0.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        temperature_pos: τ₊ in [1e-6, 1e6].
        temperature_neg: τ₋ in [1e-6, 1e6].

    Returns: (batch, time).

    Error: |error| ≤ 8·u·(τ + 1)·(|logp − old_logp| + 1)·|value|, where the value does not underflow. The
    condition of the value in logp, τρ(1 − σ), is at most τ + 0.3 whatever the ratio.

    Claims: sapo.gradient, sapo.weight.bound, sapo.on_policy, sapo.temperature.sides.

    Sources: Gao et al., arXiv:2511.20347.

    Examples:
        >>> import torch
        >>> from grape_verified import sapo_per_token
        >>> logps = torch.zeros(1, 2)
        >>> sapo_per_token(logps, logps, torch.tensor([[1.0, -1.0]]), temperature_neg=2.0)
        tensor([[-2.,  1.]])
    """
    temperatures = check_temperatures(temperature_pos, temperature_neg)
    return soft_surrogate(ratio_tokens(logps, old_logps, advantages), *temperatures)[0]


def sapo_loss(
    logps: Float[Tensor, "batch time"],
    old_logps: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
    mask: Shaped[Tensor, "batch time"],
    *,
    temperature_pos: float = 1.0,
    temperature_neg: float = 1.05,
    aggregation: Aggregation = "sequence_mean",
    denominator: float | Shaped[Tensor, ""] | None = None,
    max_length: int | None = None,
) -> LossOutput:
    """SAPO's policy loss: `sapo_per_token`, aggregated over the tokens that count.

    Arguments:
        logps: (batch, time).
        old_logps: (batch, time), under the old policy, which sampled the tokens; a constant.
        advantages: (batch, time), or (batch,) for one per sequence; constants.
        mask: (batch, time).
        temperature_pos, temperature_neg: as in `sapo_per_token`.
        aggregation, denominator, max_length: as in `aggregate` (`aggregation` is its `mode`).

    Returns: LossOutput(loss, per_token, metrics). Metrics, each a mean over the counted tokens of this call:
        damping: 1 − w, the share of the slope that the weight takes away.
        ratio_mean: ρ.
        approx_kl: expm1(d) − d with d = logp − old_logp, an estimate of KL(old‖new) from samples of old.

    Error: the aggregate of the bounds of `sapo_per_token`, and that of `aggregate`.

    Claims: those of `sapo_per_token` and `aggregate`.

    Sources: those of `sapo_per_token`.

    Examples:
        >>> import torch
        >>> from grape_verified import sapo_loss
        >>> logps = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
        >>> output = sapo_loss(logps, logps.detach(), torch.tensor([0.5]), torch.tensor([[1, 1, 0]]))
        >>> output.loss.backward()
        >>> output.loss.item(), logps.grad.tolist()
        (-1.0, [[-0.25, -0.25, 0.0]])
    """
    temperatures = check_temperatures(temperature_pos, temperature_neg)
    reduction = check_reduction("aggregation", aggregation, denominator, max_length)
    tokens = counted_ratio_tokens(logps, old_logps, advantages, mask)
    per_token, damping = soft_surrogate(tokens, *temperatures)
    return ratio_output(per_token, tokens, reduction, damping=damping)


def check_temperatures(temperature_pos: float, temperature_neg: float) -> tuple[float, float]:
    """Check the temperatures of the two signs of advantages."""
    return (
        check_number("temperature_pos", temperature_pos, TEMPERATURE),
        check_number("temperature_neg", temperature_neg, TEMPERATURE),
    )


def soft_surrogate(tokens: RatioTokens, positive: float, negative: float) -> tuple[Tensor, Tensor]:
    """The negative objective of each token, and 1 − w = (2σ − 1)², 0 where it does not count.

    As exp(log σ), whose slope σ(x)·σ(−x) keeps its digits where σ rounds to 1.
    """
    rising = (tokens.advantages > 0).to(tokens.ratio.dtype)
    tau = positive * rising + negative * (1 - rising)
    sigmoid = logsigmoid(tau * (tokens.ratio - 1)).exp()
    return sigmoid * (-4 * tokens.advantages / tau), (2 * sigmoid.detach() - 1).square()

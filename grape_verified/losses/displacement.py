"""DPO-Positive: DPO with a price on a preferred response that falls below its reference.

A. Pal et al., Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive, arXiv:2402.13228.
"""

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.arguments import POSITIVE, check_denominator, check_number
from grape_verified.losses.output import PairLossOutput, mean_of_rows, means_over_rows
from grape_verified.losses.pairs import pair_log_ratios, pair_metrics
from grape_verified.numerics import saturate_

__all__ = ["dpop_loss", "dpop_per_pair"]


def dpop_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    penalty_weight: float = 50.0,
) -> Float[Tensor, " batch"]:
    """DPO-Positive's loss of each pair, −log σ(m) with m = β[Δ_w − Δ_l − λ·max(0, −Δ_w)], Δ = l − l^ref.

    The slope of max(0, −Δ_w) at Δ_w = 0, where training starts, is 0: there the loss is DPO's.

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response.
        ref_chosen_logps, ref_rejected_logps: (batch,), under the frozen reference; constants.
        beta: β, a finite number > 0.
        penalty_weight: λ, a finite number > 0.

    Returns: (batch,).

    Error: |error| ≤ 8·u·(β(1 + λ)|Δ_w| + β|Δ_l| + 1), where nothing saturates.

    Claims: displacement.dpop.sides, displacement.dpop.gradient, displacement.dpop.first_order.

    Sources: Pal et al., arXiv:2402.13228. Its text was not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import dpop_per_pair
        >>> reference = torch.tensor([-20.0])
        >>> pair = torch.tensor([-21.0]), torch.tensor([-31.0]), reference, reference
        >>> dpop_per_pair(*pair, penalty_weight=5.0)  # −log σ(0.1·(−1 + 11 − 5·1))
        tensor([0.4741])
    """
    beta, weight = check_number("beta", beta, POSITIVE), check_number("penalty_weight", penalty_weight, POSITIVE)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return _of_log_ratios(log_ratios, beta, weight)


def dpop_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    penalty_weight: float = 50.0,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """DPO-Positive's loss: the sum of `dpop_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: (batch,), as in `dpop_per_pair`.
        beta, penalty_weight: as in `dpop_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss`, before the penalty, and
        decline: max(0, −Δ_w), the mean over the pairs of this call.

    Error: that of `dpop_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `dpop_per_pair`.

    Sources: those of `dpop_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import dpop_loss
        >>> reference = torch.tensor([-20.0])
        >>> dpop_loss(torch.tensor([-21.0]), torch.tensor([-31.0]), reference, reference).metrics["decline"]
        tensor(1.)
    """
    beta, weight = check_number("beta", beta, POSITIVE), check_number("penalty_weight", penalty_weight, POSITIVE)
    denominator = check_denominator(denominator)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    per_pair = _of_log_ratios(log_ratios, beta, weight)
    metrics = pair_metrics(log_ratios, beta) | means_over_rows(decline=(-log_ratios[0]).relu())
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, metrics)


def _of_log_ratios(log_ratios: tuple[Tensor, Tensor], beta: float, weight: float) -> Tensor:
    """relu has the slope 0 at 0, where clamp(min=0) has 1 and maximum a half."""
    chosen, rejected = log_ratios
    margins = beta * (chosen - rejected - weight * (-chosen).relu())
    return -logsigmoid(saturate_(margins))

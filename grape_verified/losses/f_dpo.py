"""f-DPO: DPO for policies that another divergence than the reverse KL keeps near the reference.

C. Wang et al., Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints,
arXiv:2309.16240.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.arguments import FINITE, POSITIVE, check_choice, check_denominator, check_number
from grape_verified.losses.output import PairLossOutput, mean_of_rows
from grape_verified.losses.pairs import pair_log_ratios, pair_margins, pair_metrics
from grape_verified.numerics import exp_limit, saturate_, value_limit

__all__ = ["f_dpo_loss", "f_dpo_per_pair"]

Divergence = Literal["reverse_kl", "forward_kl", "jensen_shannon", "alpha"]


def f_dpo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    divergence: Divergence,
    beta: float = 0.1,
    alpha: float = 0.5,
) -> Float[Tensor, " batch"]:
    """f-DPO's loss of each pair, −log σ(β[s(Δ_w) − s(Δ_l)]) with Δ = l − l^ref and s = f′(e^Δ) up to a constant.

        reverse_kl       Δ                                    DPO
        forward_kl       1 − e^(−Δ)
        jensen_shannon   log σ(Δ)
        alpha            (e^((α − 1)Δ) − 1)/(α − 1)           α = 0: the forward KL; α = 1: Δ, its limit

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response.
        ref_chosen_logps, ref_rejected_logps: (batch,), under the frozen reference; constants.
        divergence: what keeps the policy near the reference, as above.
        beta: β, a finite number > 0.
        alpha: α, a finite number, which "alpha" alone uses.

    Returns: (batch,).

    Error: |error| ≤ 8·u·(β·t_w + β·t_l + 1), where nothing saturates. For the reverse KL and Jensen-Shannon
    t = |Δ| + 1; else t = (1 + |a·Δ|)(e^(aΔ) + 1)/|a| with a = α − 1, for the forward KL a = −1.

    Claims: f_dpo.scores, f_dpo.gradient, f_dpo.margins, f_dpo.stationary, f_dpo.optimum, dpo.gradient.

    Sources: Wang et al., arXiv:2309.16240. Its text was not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import f_dpo_per_pair
        >>> pair = torch.tensor([-19.0]), torch.tensor([-21.0]), torch.tensor([-20.0]), torch.tensor([-20.0])
        >>> f_dpo_per_pair(*pair, divergence="forward_kl", beta=1.0)  # −log σ(e − 1/e)
        tensor([0.0911])
        >>> f_dpo_per_pair(*pair, divergence="jensen_shannon", beta=1.0)  # −log σ(1), as σ(1) = e·σ(−1)
        tensor([0.3133])
    """
    beta, order = _checked(divergence, beta, alpha)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return -logsigmoid(pair_margins(_scores(log_ratios, divergence, order), beta))


def f_dpo_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    divergence: Divergence,
    beta: float = 0.1,
    alpha: float = 0.5,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """f-DPO's loss: the sum of `f_dpo_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: (batch,), as in `f_dpo_per_pair`.
        divergence, beta, alpha: as in `f_dpo_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss` for s(Δ) in place of Δ.

    Error: that of `f_dpo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `f_dpo_per_pair`.

    Sources: those of `f_dpo_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import f_dpo_loss
        >>> pair = torch.tensor([-19.0]), torch.tensor([-21.0]), torch.tensor([-20.0]), torch.tensor([-20.0])
        >>> f_dpo_loss(*pair, divergence="alpha", alpha=2.0, beta=1.0).metrics["margin"]  # e − 1/e
        tensor(2.3504)
    """
    beta, order = _checked(divergence, beta, alpha)
    denominator = check_denominator(denominator)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    scores = _scores(log_ratios, divergence, order)
    per_pair = -logsigmoid(pair_margins(scores, beta))
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, pair_metrics(scores, beta))


def _checked(divergence: str, beta: float, alpha: float) -> tuple[float, float]:
    """Check the divergence and its options: β, and the order, which is 0 for the forward and 1 for the reverse KL."""
    check_choice("divergence", divergence, get_args(Divergence))
    beta, order = check_number("beta", beta, POSITIVE), check_number("alpha", alpha, FINITE)
    return beta, order if divergence == "alpha" else float(divergence == "reverse_kl")


def _scores(log_ratios: tuple[Tensor, Tensor], divergence: str, order: float) -> tuple[Tensor, Tensor]:
    """s(Δ) of both responses. Of two scores that saturate, that of the larger Δ stays the larger one."""
    chosen, rejected = log_ratios
    if divergence == "jensen_shannon":
        return logsigmoid(chosen), logsigmoid(rejected)
    exponent = order - 1
    if not exponent:
        return log_ratios
    limit = exp_limit(chosen.dtype) + min(0.0, math.log(abs(exponent)))  # the score, too, is at most `value_limit`
    with torch.no_grad():
        saturate = (exponent * chosen > limit) & (exponent * rejected > limit)
        apart = torch.where(saturate, (chosen - rejected).sign(), 0) * value_limit(chosen.dtype)
    return _power(chosen, exponent, limit) + apart, _power(rejected, exponent, limit)


def _power(log_ratio: Tensor, exponent: float, limit: float) -> Tensor:
    """(e^(aΔ) − 1)/a.

    The slope of expm1 is computed from its value, and has no digits where that rounds to −1: it serves near 0 only.
    """
    x = saturate_(exponent * log_ratio, high=limit)
    return torch.where(x.abs() < 1, x.clamp(-1, 1).expm1(), x.exp() - 1) / exponent

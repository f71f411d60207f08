"""Odds ratio preference optimisation: likelihood of the preferred response and the odds ratio of the two.

J. Hong et al., ORPO: Monolithic Preference Optimization without Reference Model, arXiv:2403.07691.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.arguments import POSITIVE, check_denominator, check_number
from grape_verified.losses.output import PairLossOutput, mean_of_rows, means_over_rows
from grape_verified.losses.pairs import pair_means
from grape_verified.numerics import saturate_

__all__ = ["orpo_loss", "orpo_per_pair"]

#: Mean log-probabilities nearer to 0 count as these: there the odds, and their slope, are large and finite.
NEAREST = {torch.float32: -(2.0**-100), torch.float64: -(2.0**-900)}


def orpo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    chosen_lengths: Shaped[Tensor, " batch"],
    rejected_lengths: Shaped[Tensor, " batch"],
    *,
    odds_weight: float = 0.1,
) -> Float[Tensor, " batch"]:
    """ORPO's loss of each pair, −log P_w − λ·log σ(o_w − o_l) with log P = l/n and o = log P − log(1 − P).

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response, at most 0.
        chosen_lengths, rejected_lengths: (batch,), n_w and n_l, finite numbers >= 1 of any real dtype; constants.
        odds_weight: λ, a finite number > 0, which the paper calls λ and trainers call beta.

    Returns: (batch,).

    Error: |error| ≤ 8·u·(|l_w|/n_w + λ(|o_w| + |o_l| + 1)), for means of at most −2⁻¹⁰⁰, in fp64 −2⁻⁹⁰⁰. A mean nearer
    to 0 counts as that number: the loss stays finite where P rounds to 1.

    Claims: orpo.odds, orpo.gradient, orpo.certain, orpo.ratio.

    Sources: Hong et al., arXiv:2403.07691. Its text was not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import orpo_per_pair
        >>> halves = torch.tensor([2, 3]) * torch.tensor(0.5).log()
        >>> orpo_per_pair(halves[:1], halves[1:], torch.tensor([2]), torch.tensor([3]))  # log 2 + 0.1·log 2
        tensor([0.7625])
    """
    weight = check_number("odds_weight", odds_weight, POSITIVE)
    means = _means(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths)
    return -means[0] - weight * logsigmoid(_log_odds_ratios(means))


def orpo_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    chosen_lengths: Shaped[Tensor, " batch"],
    rejected_lengths: Shaped[Tensor, " batch"],
    *,
    odds_weight: float = 0.1,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """ORPO's loss: the sum of `orpo_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_logps, rejected_logps, chosen_lengths, rejected_lengths: (batch,), as in `orpo_per_pair`.
        odds_weight: as in `orpo_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics). Metrics, each a mean over the pairs of this call:
        accuracy: 1 where o_w > o_l, so that the pair is ranked as labelled, else 0.
        log_odds_ratio: o_w − o_l.
        likelihood: −log P_w, the first term of the loss.

    Error: that of `orpo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `orpo_per_pair`.

    Sources: those of `orpo_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import orpo_loss
        >>> halves = torch.tensor([2, 3]) * torch.tensor(0.5).log()
        >>> orpo_loss(halves[:1], halves[1:], torch.tensor([2]), torch.tensor([3])).metrics["likelihood"]
        tensor(0.6931)
    """
    weight, denominator = check_number("odds_weight", odds_weight, POSITIVE), check_denominator(denominator)
    means = _means(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths)
    ratios = _log_odds_ratios(means)
    per_pair = -means[0] - weight * logsigmoid(ratios)
    accuracy = (ratios > 0).to(ratios.dtype)
    metrics = means_over_rows(accuracy=accuracy, log_odds_ratio=ratios, likelihood=-means[0])
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, metrics)


def _means(
    chosen_logps: Tensor, rejected_logps: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """The mean log-probabilities of both responses, at most `NEAREST`."""
    chosen, rejected = pair_means(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths)
    high = NEAREST[chosen.dtype]
    return saturate_(chosen, high=high), saturate_(rejected, high=high)


def _log_odds_ratios(means: tuple[Tensor, Tensor]) -> Tensor:
    """o_w − o_l, with 1 − P as −expm1(log P), which keeps its digits where P rounds to 1.

    Where P is small, 1 − P rounds to 1 and its logarithm to 0: an error of u, beside a log P of at least 1.
    """
    chosen, rejected = means
    return (chosen - (-torch.expm1(chosen)).log()) - (rejected - (-torch.expm1(rejected)).log())

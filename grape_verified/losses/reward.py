"""The reward model: the Bradley-Terry loss of one pair of responses.

R. A. Bradley and M. E. Terry, Rank Analysis of Incomplete Block Designs, 1952; for language models, D. M. Ziegler et
al., arXiv:1909.08593, and L. Ouyang et al., arXiv:2203.02155.
"""

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.arguments import check_alike, check_denominator
from grape_verified.losses.output import PairLossOutput, mean_of_rows, means_over_rows
from grape_verified.numerics import compute_dtype, saturate_

__all__ = ["bradley_terry_loss", "bradley_terry_per_pair"]


def bradley_terry_per_pair(
    chosen_rewards: Float[Tensor, " batch"], rejected_rewards: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Loss of each pair, −log σ(r_w − r_l): the negative log-likelihood of the preference under Bradley-Terry.

    Arguments:
        chosen_rewards, rejected_rewards: (batch,), r_w and r_l, the rewards of the preferred and of the other response;
            both are differentiated.

    Returns: (batch,).

    Error: |error| ≤ 4·u·(|r_w − r_l| + 1), where nothing saturates (theorem bradley_terry_per_pair_error, for an exp
    within 1 ulp and a log1p within 1.5 ulp).

    Claims: reward.bradley_terry.gradient.

    Sources: Ouyang et al., arXiv:2203.02155, equation 1, for one pair.

    Examples:
        >>> import torch
        >>> from grape_verified import bradley_terry_per_pair
        >>> bradley_terry_per_pair(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 0.0]))
        tensor([0.6931, 0.0486])
    """
    return -logsigmoid(_margins(chosen_rewards, rejected_rewards))


def bradley_terry_loss(
    chosen_rewards: Float[Tensor, " batch"],
    rejected_rewards: Float[Tensor, " batch"],
    *,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """Loss of a reward model: the sum of `bradley_terry_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_rewards, rejected_rewards: (batch,), as in `bradley_terry_per_pair`.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one; a constant; None for the number of pairs.

    Returns: PairLossOutput(loss, per_pair, metrics). Metrics, each a mean over the pairs of this call:
        accuracy: 1 where r_w > r_l, so that the pair is ranked as labelled, else 0.
        margin: r_w − r_l.

    Error: that of `bradley_terry_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `bradley_terry_per_pair`.

    Sources: those of `bradley_terry_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import bradley_terry_loss
        >>> bradley_terry_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])).loss
        tensor(0.6931)
    """
    denominator = check_denominator(denominator)
    margins = _margins(chosen_rewards, rejected_rewards)
    per_pair = -logsigmoid(margins)
    metrics = means_over_rows(accuracy=(margins > 0).to(margins.dtype), margin=margins)
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, metrics)


def _margins(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """Check the rewards; return r_w − r_l of each pair."""
    check_alike("(batch,)", chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards)
    dtype = compute_dtype(chosen_rewards, rejected_rewards)
    return saturate_(chosen_rewards.to(dtype) - rejected_rewards.to(dtype))

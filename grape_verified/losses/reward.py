"""The reward model: the Bradley-Terry loss of one pair of responses.

R. A. Bradley and M. E. Terry, Rank Analysis of Incomplete Block Designs, 1952; for language models, D. M. Ziegler et
al., arXiv:1909.08593, and L. Ouyang et al., arXiv:2203.02155.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.aggregation import divide
from grape_verified.arguments import check_denominator, reward_inputs
from grape_verified.losses.output import PairLossOutput
from grape_verified.numerics import bounded

__all__ = ["bradley_terry_loss", "bradley_terry_per_pair"]


def bradley_terry_per_pair(
    chosen_rewards: Float[Tensor, " batch"], rejected_rewards: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Loss of each pair, −log σ(r_w − r_l): the negative log-likelihood of the preference under Bradley-Terry.

    Both rewards are differentiated. Where their difference would leave the range of the dtype it saturates at
    ± finfo.max · 2⁻²⁴ and its slope is kept.

    Arguments:
        chosen_rewards, rejected_rewards: (batch,), r_w and r_l, the rewards of the preferred and of the other response,
            any floating-point dtype, read in fp32 (fp64 if one of them is).

    Returns: (batch,), fp32 (fp64 for fp64). The gradients have the dtypes of the arguments.

    Raises: TypeError or ValueError for a wrong type, dtype, shape or device.

    Error: |error| ≤ 4·u·(|r_w − r_l| + 1), u the unit roundoff of the compute dtype.

    Claims: reward.bradley_terry, reward.bradley_terry.gradient.

    Sources: Ouyang et al., arXiv:2203.02155, equation 1, for one pair.
    """
    chosen, rejected = reward_inputs(chosen_rewards, rejected_rewards)
    return -logsigmoid(bounded(chosen - rejected))


def bradley_terry_loss(
    chosen_rewards: Float[Tensor, " batch"],
    rejected_rewards: Float[Tensor, " batch"],
    *,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """The reward model's loss: the sum of `bradley_terry_per_pair` over the pairs, divided by D.

    With one denominator for the whole batch, the losses of its micro-batches add up to its loss.

    Arguments:
        chosen_rewards, rejected_rewards: (batch,), as in `bradley_terry_per_pair`.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one, not differentiated; None for the number
            of pairs.

    Returns: PairLossOutput(loss, per_pair, metrics). The metrics are means over the pairs of this call:
        accuracy: of 1 where r_w > r_l, so that the pair is ranked as labelled.
        margin: of r_w − r_l.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: that of `bradley_terry_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: those of `bradley_terry_per_pair`.

    Sources: those of `bradley_terry_per_pair`.
    """
    check_denominator(denominator)
    per_pair = bradley_terry_per_pair(chosen_rewards, rejected_rewards)
    loss = divide(per_pair.sum(), denominator, default=per_pair.shape[0])
    return PairLossOutput(loss, per_pair, _metrics(chosen_rewards, rejected_rewards))


@torch.no_grad()
def _metrics(chosen_rewards: Tensor, rejected_rewards: Tensor) -> dict[str, Tensor]:
    """The metrics that `bradley_terry_loss` defines."""
    chosen, rejected = reward_inputs(chosen_rewards, rejected_rewards)
    margin = bounded(chosen - rejected)
    return {"accuracy": (margin > 0).to(margin.dtype).mean(), "margin": margin.mean()}

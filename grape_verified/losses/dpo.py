"""Direct preference optimisation: the loss of one pair of responses.

R. Rafailov et al., Direct Preference Optimization: Your Language Model is Secretly a Reward Model, arXiv:2305.18290.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.aggregation import divide
from grape_verified.arguments import check_denominator, check_label_smoothing, check_positive, pair_inputs
from grape_verified.losses.output import PairLossOutput
from grape_verified.numerics import bounded


def dpo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " batch"]:
    """Loss of each pair, −(1−ε)·log σ(m) − ε·log σ(−m) with m = β[(l_w − l_w^ref) − (l_l − l_l^ref)].

    `chosen_logps` l_w and `rejected_logps` l_l are sums over the tokens of a response; they are differentiated, and
    the reference's are constants. Where a log-ratio or the margin m would leave the range of the dtype it saturates
    at ± finfo.max · 2⁻²⁴ and its slope is kept.

    Arguments:
        chosen_logps, rejected_logps: (batch,), any floating-point dtype, read in fp32 (fp64 if one of them is).
        ref_chosen_logps, ref_rejected_logps: (batch,), under the frozen reference; read in that dtype.
        beta: β, a finite number > 0.
        label_smoothing: ε in [0, 0.5), the assumed probability that a preference is flipped.

    Returns: (batch,), fp32 (fp64 for fp64). The gradients have the dtypes of the arguments.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: |error| ≤ 8·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1), u the unit roundoff of the compute dtype.

    Claims: dpo.margin, dpo.loss, dpo.gradient, dpo.label_smoothing.

    Sources: Rafailov et al., arXiv:2305.18290, equation 7; label smoothing: E. Mitchell, A note on DPO with noisy
    preferences and relationship to IPO, 2023 (not checked against the source).
    """
    check_positive("beta", beta)
    check_label_smoothing(label_smoothing)
    chosen, rejected = _log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    margin = bounded(beta * (chosen - rejected))
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def dpo_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """DPO's loss: the sum of `dpo_per_pair` over the pairs, divided by D.

    With one denominator for the whole batch, the losses of its micro-batches add up to its loss.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: (batch,), as in `dpo_per_pair`.
        beta, label_smoothing: as in `dpo_per_pair`.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one, not differentiated; None for the number
            of pairs.

    Returns: PairLossOutput(loss, per_pair, metrics). The metrics are means over the pairs of this call:
        accuracy: of 1 where m > 0, so that the pair is ranked as labelled.
        margin: of m.
        chosen_reward, rejected_reward: of the implicit rewards β(l_w − l_w^ref) and β(l_l − l_l^ref).

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: that of `dpo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: those of `dpo_per_pair`.

    Sources: those of `dpo_per_pair`.
    """
    check_denominator(denominator)
    per_pair = dpo_per_pair(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta, label_smoothing=label_smoothing
    )
    loss = divide(per_pair.sum(), denominator, default=per_pair.shape[0])
    metrics = _metrics(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta)
    return PairLossOutput(loss, per_pair, metrics)


def _log_ratios(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-ratio of policy to reference, l − l^ref, of both responses.

    Subtracted first, and in the compute dtype: both are large and nearly equal, so this difference is nearly exact,
    while a difference of the policy's two sums would round away what the margin is made of.
    """
    pairs = pair_inputs(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    chosen = bounded(pairs.chosen_logps - pairs.ref_chosen_logps)
    rejected = bounded(pairs.rejected_logps - pairs.ref_rejected_logps)
    return chosen, rejected


@torch.no_grad()
def _metrics(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor, beta: float
) -> dict[str, Tensor]:
    """The metrics that `dpo_loss` defines."""
    chosen, rejected = _log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    margin = bounded(beta * (chosen - rejected))
    return {
        "accuracy": (margin > 0).to(margin.dtype).mean(),
        "margin": margin.mean(),
        "chosen_reward": bounded(beta * chosen).mean(),
        "rejected_reward": bounded(beta * rejected).mean(),
    }

"""Direct preference optimisation: the loss of one pair of responses.

R. Rafailov et al., Direct Preference Optimization: Your Language Model is Secretly a Reward Model, arXiv:2305.18290.
Variants: robust DPO (S. R. Chowdhury et al., arXiv:2403.00409), IPO (M. G. Azar et al., arXiv:2310.12036).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.aggregation import divide
from grape_verified.arguments import (
    POSITIVE,
    LogRatio,
    check_denominator,
    check_flip_probability,
    check_label_smoothing,
    check_log_ratio,
    check_number,
    pair_inputs,
    sequence_lengths,
)
from grape_verified.losses.output import PairLossOutput
from grape_verified.numerics import bounded

__all__ = ["dpo_loss", "dpo_per_pair", "ipo_loss", "ipo_per_pair", "robust_dpo_loss", "robust_dpo_per_pair"]


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
    beta = check_number("beta", beta, POSITIVE)
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
    log_ratios = _log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return _mean_of_pairs(per_pair, log_ratios, beta, denominator)


def robust_dpo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    flip_probability: float,
) -> Float[Tensor, " batch"]:
    """Loss of each pair, [(1−ε)·L(m) − ε·L(−m)] / (1−2ε) with L(m) = −log σ(m), m the margin of `dpo_per_pair`.

    Its expectation over labels that are flipped with probability ε is L(m), the loss of the true label. It is not
    bounded from below: as m grows it falls with slope −ε/(1−2ε). What is differentiated is what `dpo_per_pair`
    differentiates. Where a log-ratio, the margin or the loss would leave the range of the dtype it saturates at
    ± finfo.max · 2⁻²⁴ and its slope is kept.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo_per_pair`.
        flip_probability: ε in [0, 0.5), the known probability that a preference is flipped.

    Returns: (batch,), fp32 (fp64 for fp64). The gradients have the dtypes of the arguments.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: |error| ≤ 8·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1) / (1−2ε), u the unit roundoff of the compute dtype.

    Claims: dpo.margin, dpo.robust_loss, dpo.robust.

    Sources: S. R. Chowdhury et al., Provably Robust DPO: Aligning Language Models with Noisy Feedback,
    arXiv:2403.00409.
    """
    beta = check_number("beta", beta, POSITIVE)
    check_flip_probability(flip_probability)
    chosen, rejected = _log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    margin = beta * (chosen - rejected)
    # As L(−m) = L(m) + m, the formula above is L(m) − ε·m/(1−2ε), which has no difference of two large losses.
    return bounded(-logsigmoid(margin) - flip_probability / (1 - 2 * flip_probability) * margin)


def robust_dpo_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    flip_probability: float,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """Robust DPO's loss: the sum of `robust_dpo_per_pair` over the pairs, divided by D.

    With one denominator for the whole batch, the losses of its micro-batches add up to its loss.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta, flip_probability: as in
            `robust_dpo_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss`.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device or option.

    Error: that of `robust_dpo_per_pair`, summed and divided by D, and 8·u·Σ|per_pair|/D for the sum.

    Claims: those of `robust_dpo_per_pair`.

    Sources: those of `robust_dpo_per_pair`.
    """
    check_denominator(denominator)
    per_pair = robust_dpo_per_pair(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta, flip_probability=flip_probability
    )
    log_ratios = _log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return _mean_of_pairs(per_pair, log_ratios, beta, denominator)


def ipo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    log_ratio: LogRatio = "sum",
    chosen_lengths: Shaped[Tensor, " batch"] | None = None,
    rejected_lengths: Shaped[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """Loss of each pair, (h − 1/(2β))² with h = (l_w − l_w^ref)/n_w − (l_l − l_l^ref)/n_l.

    With log_ratio "sum", as in the paper, n_w = n_l = 1; with "mean" they are the numbers of tokens of the two
    responses, which makes another loss. What is differentiated is what `dpo_per_pair` differentiates. Where a
    log-ratio or the loss would leave the range of the dtype it saturates at ± finfo.max · 2⁻²⁴ and its slope is kept.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: as in `dpo_per_pair`, sums over tokens with
            either option.
        beta: β, a finite number > 0.
        log_ratio: "sum" or "mean" over the tokens of a response.
        chosen_lengths, rejected_lengths: (batch,), n_w and n_l, finite numbers >= 1 of any real dtype, constants;
            required by "mean" and only allowed there.

    Returns: (batch,), fp32 (fp64 for fp64). The gradients have the dtypes of the arguments.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, length or option.

    Error: |error| ≤ 8·u·(|l_w − l_w^ref|/n_w + |l_l − l_l^ref|/n_l + 1/(2β))², u the unit roundoff of the compute
    dtype.

    Claims: dpo.log_ratio_margin, dpo.ipo_loss, dpo.ipo.

    Sources: M. G. Azar et al., A General Theoretical Paradigm to Understand Learning from Human Preferences,
    arXiv:2310.12036, equation 17.
    """
    beta = check_number("beta", beta, POSITIVE)
    check_log_ratio(log_ratio, chosen_lengths, rejected_lengths)
    log_ratios = _log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    chosen, rejected = _by_length(log_ratios, chosen_lengths, rejected_lengths)
    return bounded((chosen - rejected - 1 / (2 * beta)).square())


def ipo_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    log_ratio: LogRatio = "sum",
    chosen_lengths: Shaped[Tensor, " batch"] | None = None,
    rejected_lengths: Shaped[Tensor, " batch"] | None = None,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """IPO's loss: the sum of `ipo_per_pair` over the pairs, divided by D.

    With one denominator for the whole batch, the losses of its micro-batches add up to its loss.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta, log_ratio: as in `ipo_per_pair`.
        chosen_lengths, rejected_lengths: as there.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss` for the log-ratios that
    `log_ratio` asks for; the margin is βh.

    Raises: TypeError or ValueError for a wrong type, dtype, shape, device, length or option.

    Error: that of `ipo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: those of `ipo_per_pair`.

    Sources: those of `ipo_per_pair`.
    """
    check_denominator(denominator)
    lengths = {"chosen_lengths": chosen_lengths, "rejected_lengths": rejected_lengths}
    per_pair = ipo_per_pair(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta, log_ratio=log_ratio, **lengths
    )
    log_ratios = _log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return _mean_of_pairs(per_pair, _by_length(log_ratios, **lengths), beta, denominator)


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


def _by_length(
    log_ratios: tuple[Tensor, Tensor], chosen_lengths: Tensor | None, rejected_lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both log-ratios, divided by lengths if there are any."""
    chosen, rejected = log_ratios
    if chosen_lengths is None or rejected_lengths is None:
        return chosen, rejected
    return (
        chosen / sequence_lengths("chosen_lengths", chosen_lengths, "chosen_logps", chosen),
        rejected / sequence_lengths("rejected_lengths", rejected_lengths, "chosen_logps", rejected),
    )


def _mean_of_pairs(
    per_pair: Tensor, log_ratios: tuple[Tensor, Tensor], beta: float, denominator: float | Tensor | None
) -> PairLossOutput:
    """The sum over the pairs, divided by a denominator or their number, with the metrics."""
    loss = divide(per_pair.sum(), denominator, default=per_pair.shape[0])
    return PairLossOutput(loss, per_pair, _metrics(*log_ratios, beta))


@torch.no_grad()
def _metrics(chosen: Tensor, rejected: Tensor, beta: float) -> dict[str, Tensor]:
    """The metrics that `dpo_loss` defines, from the log-ratios of both responses."""
    margin = bounded(beta * (chosen - rejected))
    return {
        "accuracy": (margin > 0).to(margin.dtype).mean(),
        "margin": margin.mean(),
        "chosen_reward": bounded(beta * chosen).mean(),
        "rejected_reward": bounded(beta * rejected).mean(),
    }

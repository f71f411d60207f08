"""Direct preference optimisation: the loss of one pair of responses.

R. Rafailov et al., Direct Preference Optimization: Your Language Model is Secretly a Reward Model, arXiv:2305.18290.
Variants: robust DPO (S. R. Chowdhury et al., arXiv:2403.00409), IPO (M. G. Azar et al., arXiv:2310.12036).
"""

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.arguments import BELOW_HALF, POSITIVE, check_denominator, check_number
from grape_verified.losses.output import PairLossOutput, mean_of_rows
from grape_verified.losses.pairs import (
    LogRatio,
    by_length,
    check_log_ratio,
    pair_log_ratios,
    pair_margins,
    pair_metrics,
)
from grape_verified.numerics import saturate_

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
    """DPO's loss of each pair, −(1−ε)·log σ(m) − ε·log σ(−m) with m = β[(l_w − l_w^ref) − (l_l − l_l^ref)].

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response.
        ref_chosen_logps, ref_rejected_logps: (batch,), under the frozen reference; constants.
        beta: β, a finite number > 0.
        label_smoothing: ε in [0, 0.5), the assumed probability that a preference is flipped.

    Returns: (batch,).

    Error: |error| ≤ 8·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1), where nothing saturates (theorem dpo_per_pair_error,
    for an exp within 1 ulp and a log1p within 2 ulp).

    Claims: dpo.gradient, dpo.label_smoothing.

    Sources: Rafailov et al., arXiv:2305.18290, equation 7; label smoothing: E. Mitchell, A note on DPO with noisy
    preferences and relationship to IPO, 2023 (not checked against the source).

    Examples:
        >>> import torch
        >>> from grape_verified import dpo_per_pair
        >>> reference = torch.tensor([-20.0])
        >>> dpo_per_pair(torch.tensor([-10.0]), torch.tensor([-30.0]), reference, reference)  # −log σ(0.1·20)
        tensor([0.1269])
    """
    beta = check_number("beta", beta, POSITIVE)
    smoothing = check_number("label_smoothing", label_smoothing, BELOW_HALF)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return smoothed(pair_margins(log_ratios, beta), smoothing)


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

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: (batch,), as in `dpo_per_pair`.
        beta, label_smoothing: as in `dpo_per_pair`.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one; a constant; None for the number of pairs.

    Returns: PairLossOutput(loss, per_pair, metrics). Metrics, each a mean over the pairs of this call:
        accuracy: 1 where m > 0, so that the pair is ranked as labelled, else 0.
        margin: m.
        chosen_reward, rejected_reward: the implicit rewards β(l_w − l_w^ref) and β(l_l − l_l^ref).

    Error: that of `dpo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `dpo_per_pair`.

    Sources: those of `dpo_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import dpo_loss
        >>> reference = torch.tensor([-20.0])
        >>> output = dpo_loss(torch.tensor([-10.0]), torch.tensor([-30.0]), reference, reference, beta=0.1)
        >>> output.loss, output.metrics["margin"]
        (tensor(0.1269), tensor(2.))
    """
    beta = check_number("beta", beta, POSITIVE)
    smoothing = check_number("label_smoothing", label_smoothing, BELOW_HALF)
    denominator = check_denominator(denominator)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    per_pair = smoothed(pair_margins(log_ratios, beta), smoothing)
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, pair_metrics(log_ratios, beta))


def robust_dpo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    flip_probability: float,
) -> Float[Tensor, " batch"]:
    """Robust DPO's loss of each pair, [(1−ε)·L(m) − ε·L(−m)] / (1−2ε) with L(m) = −log σ(m).

    m is the margin of `dpo_per_pair`. The expectation over labels that are flipped with probability ε is L(m), the loss
    of the true label. The loss is not bounded from below: for large m it falls with slope −ε/(1−2ε).

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta: as in `dpo_per_pair`.
        flip_probability: ε in [0, 0.5), the known probability that a preference is flipped.

    Returns: (batch,).

    Error: |error| ≤ 8·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1) / (1−2ε).

    Claims: dpo.robust.

    Sources: S. R. Chowdhury et al., Provably Robust DPO: Aligning Language Models with Noisy Feedback,
    arXiv:2403.00409.

    Examples:
        >>> import torch
        >>> from grape_verified import robust_dpo_per_pair
        >>> chosen, rejected, reference = (torch.tensor([x]) for x in (-10.0, -30.0, -20.0))
        >>> robust_dpo_per_pair(chosen, rejected, reference, reference, flip_probability=0.1)
        tensor([-0.1231])
    """
    beta = check_number("beta", beta, POSITIVE)
    flipped = check_number("flip_probability", flip_probability, BELOW_HALF)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return _robust(log_ratios, beta, flipped)


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

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta, flip_probability: as in
            `robust_dpo_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss`.

    Error: that of `robust_dpo_per_pair`, summed and divided by D, and 8·u·Σ|per_pair|/D for the sum.

    Claims: aggregation.gradient, and those of `robust_dpo_per_pair`.

    Sources: those of `robust_dpo_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import robust_dpo_loss
        >>> logps = torch.tensor([-20.0, -30.0])
        >>> robust_dpo_loss(logps, logps, logps, logps, flip_probability=0.1).loss
        tensor(0.6931)
    """
    beta = check_number("beta", beta, POSITIVE)
    flipped = check_number("flip_probability", flip_probability, BELOW_HALF)
    denominator = check_denominator(denominator)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    per_pair = _robust(log_ratios, beta, flipped)
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, pair_metrics(log_ratios, beta))


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
    """IPO's loss of each pair, (h − 1/(2β))² with h = (l_w − l_w^ref)/n_w − (l_l − l_l^ref)/n_l.

    With log_ratio "sum", as in the paper, n_w = n_l = 1; with "mean" they are the numbers of tokens of the two
    responses, which is a different loss.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: (batch,), as in `dpo_per_pair`: sums over
            tokens with either option.
        beta: β, a finite number > 0.
        log_ratio: "sum" or "mean" over the tokens of a response.
        chosen_lengths, rejected_lengths: (batch,), n_w and n_l, finite numbers >= 1 of any real dtype, constants;
            required by "mean" and only allowed there.

    Returns: (batch,).

    Error: |error| ≤ 8·u·(|l_w − l_w^ref|/n_w + |l_l − l_l^ref|/n_l + 1/(2β))².

    Claims: dpo.ipo.

    Sources: M. G. Azar et al., A General Theoretical Paradigm to Understand Learning from Human Preferences,
    arXiv:2310.12036, equation 17.

    Examples:
        >>> import torch
        >>> from grape_verified import ipo_per_pair
        >>> reference = torch.tensor([-20.0])
        >>> ipo_per_pair(torch.tensor([-18.0]), torch.tensor([-21.0]), reference, reference, beta=0.1)  # (3 − 5)²
        tensor([4.])
    """
    beta = check_number("beta", beta, POSITIVE)
    check_log_ratio(log_ratio, chosen_lengths, rejected_lengths)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return _ipo(by_length(log_ratios, chosen_lengths, rejected_lengths), beta)


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

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: as in `ipo_per_pair`.
        beta, log_ratio, chosen_lengths, rejected_lengths: as in `ipo_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss` for the log-ratios that
    `log_ratio` chooses; the margin is βh.

    Error: that of `ipo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `ipo_per_pair`.

    Sources: those of `ipo_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import ipo_loss
        >>> reference = torch.tensor([-20.0])
        >>> ipo_loss(torch.tensor([-18.0]), torch.tensor([-21.0]), reference, reference, beta=0.1).loss
        tensor(4.)
    """
    beta, denominator = check_number("beta", beta, POSITIVE), check_denominator(denominator)
    check_log_ratio(log_ratio, chosen_lengths, rejected_lengths)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    log_ratios = by_length(log_ratios, chosen_lengths, rejected_lengths)
    per_pair = _ipo(log_ratios, beta)
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, pair_metrics(log_ratios, beta))


def smoothed(margins: Tensor, smoothing: float) -> Tensor:
    """−(1−ε)·log σ(m) − ε·log σ(−m)."""
    return -(1 - smoothing) * logsigmoid(margins) - smoothing * logsigmoid(-margins)


def _robust(log_ratios: tuple[Tensor, Tensor], beta: float, flipped: float) -> Tensor:
    """As L(−m) = L(m) + m, the loss is L(m) − ε·m/(1−2ε), which subtracts no large numbers."""
    margins = pair_margins(log_ratios, beta)
    return saturate_(-logsigmoid(margins) - flipped / (1 - 2 * flipped) * margins)


def _ipo(log_ratios: tuple[Tensor, Tensor], beta: float) -> Tensor:
    chosen, rejected = log_ratios
    return saturate_((chosen - rejected - 1 / (2 * beta)).square())

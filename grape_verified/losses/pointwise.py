"""Pointwise preference losses: each response is compared with a fixed point, and not only with the other one.

K. Ethayarajh et al., KTO: Model Alignment as Prospect Theoretic Optimization, arXiv:2402.01306, for single responses;
for pairs S. Jung et al., Binary Classifier Optimization, arXiv:2404.04656, and others.
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.arguments import (
    FINITE,
    LARGEST,
    POSITIVE,
    Range,
    as_bool,
    check_alike,
    check_choice,
    check_denominator,
    check_floating,
    check_number,
    check_same_shape,
    check_tensor,
)
from grape_verified.losses.output import PairLossOutput, SequenceLossOutput, mean_of_rows, means_over_rows
from grape_verified.losses.pairs import pair_log_ratios, pair_metrics
from grape_verified.numerics import difference, saturate_, values_are_readable

__all__ = ["kto_loss", "kto_per_sequence", "pointwise_loss", "pointwise_per_pair"]

Kind = Literal["bco", "nca", "apo_zero", "apo_down", "sppo"]

ANCHOR = Range("a finite number >= 0 or a 0-d tensor that holds one", low=0.0, ends="[)")


def kto_per_sequence(
    logps: Float[Tensor, " batch"],
    ref_logps: Float[Tensor, " batch"],
    labels: Shaped[Tensor, " batch"],
    *,
    beta: float = 0.1,
    anchor: float | Float[Tensor, ""],
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " batch"]:
    """KTO's loss of each response: λ_D·σ(−u) if it is desirable, λ_U·σ(u) if not, with u = β(ℓ − ℓ^ref − z₀).

    The anchor z₀ is a constant. In KTO it is the mean log-ratio of responses to other prompts, such as those of the
    batch in turn, over all ranks, but at least 0: `(other_logps - ref_other_logps).mean().clamp(min=0)`. With the
    anchor 0 the loss is APO-zero without pairs. With n_D desirable and n_U undesirable responses, n_D·λ_D = n_U·λ_U
    keeps the balance.

    Arguments:
        logps: (batch,), ℓ, sums over the tokens of a response.
        ref_logps: (batch,), under the frozen reference; constants.
        labels: (batch,), True or 1 for a desirable response, False or 0 for an undesirable one.
        beta: β, a finite number > 0.
        anchor: z₀, a finite number >= 0 or a 0-d tensor that holds one; a constant. It is a log-ratio, without β.
        desirable_weight, undesirable_weight: λ_D and λ_U, finite numbers > 0.

    Returns: (batch,).

    Error: |error| ≤ 8·u·λ·(β|ℓ − ℓ^ref| + β·z₀ + 1), where nothing saturates.

    Claims: pointwise.kto.slope, pointwise.kto.saturation, pointwise.kto.anchor, pointwise.kto.estimate,
    pointwise.kto.linear, pointwise.kto.balance.

    Sources: Ethayarajh et al., arXiv:2402.01306. Its text was not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import kto_per_sequence
        >>> logps, reference = torch.tensor([-10.0, -10.0]), torch.tensor([-13.0, -13.0])
        >>> kto_per_sequence(logps, reference, torch.tensor([True, False]), anchor=1.0)  # 1 − σ(0.2), 1 − σ(−0.2)
        tensor([0.4502, 0.5498])
    """
    options = _kto_options(beta, anchor, desirable_weight, undesirable_weight)
    return _kto(*_labelled(logps, ref_logps, labels), options)


def kto_loss(
    logps: Float[Tensor, " batch"],
    ref_logps: Float[Tensor, " batch"],
    labels: Shaped[Tensor, " batch"],
    *,
    beta: float = 0.1,
    anchor: float | Float[Tensor, ""],
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> SequenceLossOutput:
    """KTO's loss: the sum of `kto_per_sequence` over the responses, divided by D.

    Arguments:
        logps, ref_logps, labels: (batch,), as in `kto_per_sequence`.
        beta, anchor, desirable_weight, undesirable_weight: as in `kto_per_sequence`.
        denominator: D, a finite number > 0 or a 0-d tensor that holds one; a constant; None for the number of
            responses.

    Returns: SequenceLossOutput(loss, per_sequence, metrics). Metrics, each a mean over the responses of this call:
        accuracy: 1 where a desirable response is above the anchor or an undesirable one below, else 0.
        reward: β(ℓ − ℓ^ref).
        desirable: 1 where a response is desirable, else 0.

    Error: that of `kto_per_sequence`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `kto_per_sequence`.

    Sources: those of `kto_per_sequence`.

    Examples:
        >>> import torch
        >>> from grape_verified import kto_loss
        >>> logps, reference = torch.tensor([-10.0, -10.0]), torch.tensor([-13.0, -13.0])
        >>> output = kto_loss(logps, reference, torch.tensor([1, 0]), anchor=torch.tensor(1.0))
        >>> output.loss, output.metrics["accuracy"]
        (tensor(0.5000), tensor(0.5000))
    """
    options = _kto_options(beta, anchor, desirable_weight, undesirable_weight)
    denominator = check_denominator(denominator)
    log_ratios, desirable = _labelled(logps, ref_logps, labels)
    per_sequence = _kto(log_ratios, desirable, options)
    with torch.no_grad():
        right = torch.where(desirable > 0, log_ratios > options.anchor, log_ratios < options.anchor).to(
            log_ratios.dtype
        )
        rewards = saturate_(options.beta * log_ratios)
    metrics = means_over_rows(accuracy=right, reward=rewards, desirable=desirable)
    return SequenceLossOutput(mean_of_rows(per_sequence, denominator), per_sequence, metrics)


def pointwise_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    kind: Kind,
    beta: float = 0.1,
    reward_shift: float = 0.0,
) -> Float[Tensor, " batch"]:
    """A loss of each pair that is no function of its margin, with r_w = β(l_w − l_w^ref) and r_l = β(l_l − l_l^ref).

        bco          −log σ(r_w − δ) − log σ(δ − r_l)                      BCO
        nca          −log σ(r_w) − ½·log σ(−r_w) − ½·log σ(−r_l)           NCA
        apo_zero     1 − σ(r_w) + σ(r_l)                                   APO-zero
        apo_down     σ(r_w) + 1 − σ(r_w − r_l)                             APO-down
        sppo         [(r_w − ½)² + (r_l + ½)²]/β²                          SPPO with certain preferences

    A constant of the prompt in the rewards does not cancel here, as it does in the losses of `preference_per_pair`.

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response.
        ref_chosen_logps, ref_rejected_logps: (batch,), under the frozen reference; constants.
        kind: the loss, as above.
        beta: β, a finite number > 0.
        reward_shift: δ, a finite number, a constant: for "bco", where it is a running mean of rewards; else 0.

    Returns: (batch,).

    Error: with s = β|l_w − l_w^ref| + β|l_l − l_l^ref| + |δ|, where nothing saturates, |error| ≤ 8·u·(s + 1), for sppo
    8·u·((s + 1)/β)².

    Claims: pointwise.bco.slope, pointwise.bco.bound, pointwise.nca.slope, pointwise.nca.optimum,
    pointwise.apo_zero.slope, pointwise.apo_down.slope, pointwise.apo_down.target, pointwise.sppo.slope,
    pointwise.sppo.target, pointwise.common_shift.

    Sources: bco: Jung et al., arXiv:2404.04656; nca: H. Chen et al., arXiv:2402.05369; apo_zero, apo_down: K.
    D'Oosterlinck et al., arXiv:2408.06266; sppo: Y. Wu et al., arXiv:2405.00675. Their texts were not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import pointwise_per_pair
        >>> pair = torch.tensor([-10.0]), torch.tensor([-13.0]), torch.tensor([-12.0]), torch.tensor([-12.0])
        >>> pointwise_per_pair(*pair, kind="sppo", beta=0.25)  # (2 − 2)² + (−1 + 2)²
        tensor([1.])
        >>> pointwise_per_pair(*pair, kind="apo_zero")  # 1 − σ(0.2) + σ(−0.1)
        tensor([0.9252])
    """
    options = _pair_options(kind, beta, reward_shift)
    return _of_pairs(
        pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps), kind, *options
    )


def pointwise_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"],
    ref_rejected_logps: Float[Tensor, " batch"],
    *,
    kind: Kind,
    beta: float = 0.1,
    reward_shift: float = 0.0,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """A pointwise loss of pairs: the sum of `pointwise_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: as in `pointwise_per_pair`.
        kind, beta, reward_shift: as in `pointwise_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss`.

    Error: that of `pointwise_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `pointwise_per_pair`.

    Sources: those of `pointwise_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import pointwise_loss
        >>> reference = torch.tensor([-20.0])
        >>> output = pointwise_loss(reference, reference, reference, reference, kind="bco")
        >>> output.loss, output.metrics["margin"]  # 2·log 2, where DPO has log 2
        (tensor(1.3863), tensor(0.))
    """
    options, denominator = _pair_options(kind, beta, reward_shift), check_denominator(denominator)
    log_ratios = pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    per_pair = _of_pairs(log_ratios, kind, *options)
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, pair_metrics(log_ratios, options[0]))


class KtoOptions(NamedTuple):
    """β, z₀ as a constant, λ_D and λ_U."""

    beta: float
    anchor: float | Tensor
    desirable_weight: float
    undesirable_weight: float


def _kto_options(beta: float, anchor: float | Tensor, desirable_weight: float, undesirable_weight: float) -> KtoOptions:
    """Check KTO's options."""
    return KtoOptions(
        check_number("beta", beta, POSITIVE),
        _anchor(anchor),
        check_number("desirable_weight", desirable_weight, POSITIVE),
        check_number("undesirable_weight", undesirable_weight, POSITIVE),
    )


def _anchor(anchor: float | Tensor) -> float | Tensor:
    if not isinstance(anchor, Tensor):
        return check_number("anchor", anchor, ANCHOR)
    check_tensor("anchor", anchor)
    check_floating("anchor", anchor)
    if anchor.ndim:
        raise ValueError(f"anchor: got shape {tuple(anchor.shape)}, expected {ANCHOR}")
    if values_are_readable(anchor):
        check_number("anchor", anchor.item(), ANCHOR)
    return anchor.detach()


def _labelled(logps: Tensor, ref_logps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Check the responses; return their log-ratios, and 1 for a desirable one, else 0."""
    check_alike("(batch,)", logps=logps, ref_logps=ref_logps)
    check_tensor("labels", labels)
    check_same_shape("labels", labels, "logps", logps)
    log_ratios = difference(logps, ref_logps)
    return log_ratios, as_bool("labels", labels).to(log_ratios.dtype)


def _kto(log_ratios: Tensor, desirable: Tensor, options: KtoOptions) -> Tensor:
    """As exp(log σ), whose slope σ(x)·σ(−x) keeps its digits where σ rounds to 1, and is 0 where x overflows."""
    beta, anchor, weight, other = options
    sigmoids = logsigmoid((1 - 2 * desirable) * (beta * (log_ratios - anchor))).exp()
    return (weight * desirable + other * (1 - desirable)) * sigmoids


def _pair_options(kind: str, beta: float, shift: float) -> tuple[float, float]:
    """Check the loss and its options: β and δ."""
    check_choice("kind", kind, get_args(Kind))
    shift = check_number("reward_shift", shift, FINITE)
    if kind != "bco" and shift:
        raise ValueError(f"reward_shift: got {shift}, expected 0 with kind {kind!r}, which does not use it")
    return check_number("beta", beta, POSITIVE), shift


def _of_pairs(log_ratios: tuple[Tensor, Tensor], kind: str, beta: float, shift: float) -> Tensor:
    """The loss of each pair; exponentials of log σ, as in KTO."""
    if kind == "sppo":  # without the division of a large reward by a small β
        goal = min(0.5 / beta, LARGEST / 4)
        return saturate_((log_ratios[0] - goal).square() + (log_ratios[1] + goal).square())
    chosen, rejected = (saturate_(beta * x) for x in log_ratios)
    if kind == "bco":
        return -logsigmoid(chosen - shift) - logsigmoid(shift - rejected)
    if kind == "nca":
        return -logsigmoid(chosen) - logsigmoid(-chosen) / 2 - logsigmoid(-rejected) / 2
    if kind == "apo_zero":
        return logsigmoid(-chosen).exp() + logsigmoid(rejected).exp()
    return logsigmoid(chosen).exp() + logsigmoid(rejected - chosen).exp()

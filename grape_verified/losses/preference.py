"""Preference losses: a function of the margin of a pair, and SimPO and CPO, which need no reference.

Y. Tang et al., Generalized Preference Optimization, arXiv:2402.05749; Y. Meng et al., SimPO: Simple Preference
Optimization with a Reference-Free Reward, arXiv:2405.14734; H. Xu et al., Contrastive Preference Optimization,
arXiv:2401.08417.
"""

import math
from typing import Literal, get_args

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from grape_verified.arguments import (
    BELOW_HALF,
    FINITE,
    LARGEST,
    POSITIVE,
    check_choice,
    check_denominator,
    check_number,
    check_tensor,
)
from grape_verified.losses.dpo import smoothed
from grape_verified.losses.output import PairLossOutput, mean_of_rows, means_over_rows
from grape_verified.losses.pairs import (
    LogRatio,
    by_length,
    check_log_ratio,
    lengths_like,
    pair_log_ratios,
    pair_logps,
    pair_margins,
    pair_means,
    pair_metrics,
)
from grape_verified.numerics import exp_limit, saturate_

__all__ = ["cpo_loss", "cpo_per_pair", "preference_loss", "preference_per_pair", "simpo_loss", "simpo_per_pair"]

Kind = Literal["sigmoid", "hinge", "ipo", "exponential", "exo"]


def preference_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"] | None = None,
    ref_rejected_logps: Float[Tensor, " batch"] | None = None,
    *,
    kind: Kind,
    beta: float = 0.1,
    target_margin: float = 0.0,
    label_smoothing: float = 0.0,
    log_ratio: LogRatio = "sum",
    chosen_lengths: Shaped[Tensor, " batch"] | None = None,
    rejected_lengths: Shaped[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """A function of the margin of each pair, m = β[(l_w − l_w^ref)/n_w − (l_l − l_l^ref)/n_l] − γ.

        sigmoid       −(1−ε)·log σ(m) − ε·log σ(−m)                                DPO
        hinge         max(0, 1 − m), with slope 0 at m = 1                         SLiC, RSO
        ipo           (m − ½)²/β²                                                  IPO
        exponential   exp(−m)
        exo           σ(m)·log(σ(m)/(1−ε)) + σ(−m)·log(σ(−m)/ε)                    EXO, for pairs

    With log_ratio "sum", n_w = n_l = 1; with "mean" they are the numbers of tokens. Without a reference, l^ref = 0:
    with sums and "sigmoid" that is the preference term of CPO.

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response with either option.
        ref_chosen_logps, ref_rejected_logps: (batch,), under the frozen reference; constants; both or neither.
        kind: the function, as above.
        beta: β, a finite number > 0.
        target_margin: γ, a finite number that is subtracted from the margin.
        label_smoothing: ε in [0, 0.5): for "exo", which needs it, above 0; for "sigmoid" from 0; else 0.
        log_ratio: "sum" or "mean" over the tokens of a response.
        chosen_lengths, rejected_lengths: (batch,), n_w and n_l, finite numbers >= 1 of any real dtype, constants;
            required by "mean" and only allowed there.

    Returns: (batch,).

    Error: with s = β|l_w − l_w^ref|/n_w + β|l_l − l_l^ref|/n_l + |γ|, where nothing saturates, |error| ≤
    8·u·(s + 1) for sigmoid and hinge, 8·u·((s + ½)/β)² for ipo, 8·u·(s + 1)·|value| for exponential,
    8·u·(s + 1)·log(2/ε) for exo.

    Claims: preference.margins, preference.gradient, preference.common_shift, preference.hinge.slope,
    preference.exponential.slope, preference.squared, preference.exo.slope, preference.at_zero.

    Sources: Tang et al., arXiv:2402.05749; hinge: Y. Zhao et al., arXiv:2305.10425; exo: H. Ji et al.,
    arXiv:2402.00856. Their texts were not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import preference_per_pair
        >>> pair = torch.tensor([-10.0]), torch.tensor([-13.0]), torch.tensor([-12.0]), torch.tensor([-12.0])
        >>> preference_per_pair(*pair, kind="hinge", beta=0.1)  # 1 − 0.1·3
        tensor([0.7000])
        >>> preference_per_pair(*pair[:2], kind="exponential", beta=0.1, target_margin=0.3)  # exp(−(0.3 − 0.3))
        tensor([1.])
    """
    options = _checked(kind, beta, target_margin, label_smoothing)
    check_log_ratio(log_ratio, chosen_lengths, rejected_lengths)
    scores = by_length(
        _scores(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps), chosen_lengths, rejected_lengths
    )
    return _of_margins(scores, kind, *options)


def preference_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    ref_chosen_logps: Float[Tensor, " batch"] | None = None,
    ref_rejected_logps: Float[Tensor, " batch"] | None = None,
    *,
    kind: Kind,
    beta: float = 0.1,
    target_margin: float = 0.0,
    label_smoothing: float = 0.0,
    log_ratio: LogRatio = "sum",
    chosen_lengths: Shaped[Tensor, " batch"] | None = None,
    rejected_lengths: Shaped[Tensor, " batch"] | None = None,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """A preference loss: the sum of `preference_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: as in `preference_per_pair`.
        kind, beta, target_margin, label_smoothing, log_ratio, chosen_lengths, rejected_lengths: as in
            `preference_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss` for the log-ratios that the loss
    compares; the margin in them is before γ is subtracted.

    Error: that of `preference_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `preference_per_pair`.

    Sources: those of `preference_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import preference_loss
        >>> reference = torch.tensor([-20.0])
        >>> preference_loss(torch.tensor([-18.0]), torch.tensor([-21.0]), reference, reference, kind="ipo").loss
        tensor(4.)
    """
    options, denominator = _checked(kind, beta, target_margin, label_smoothing), check_denominator(denominator)
    check_log_ratio(log_ratio, chosen_lengths, rejected_lengths)
    scores = by_length(
        _scores(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps), chosen_lengths, rejected_lengths
    )
    return _output(scores, kind, options, denominator)


def simpo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    chosen_lengths: Shaped[Tensor, " batch"],
    rejected_lengths: Shaped[Tensor, " batch"],
    *,
    beta: float = 2.0,
    target_margin: float = 0.5,
) -> Float[Tensor, " batch"]:
    """SimPO's loss of each pair, −log σ(m) with m = β(l_w/n_w − l_l/n_l) − γ: means over tokens and no reference.

    It is `preference_per_pair` with kind "sigmoid", log_ratio "mean" and no reference.

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response.
        chosen_lengths, rejected_lengths: (batch,), n_w and n_l, finite numbers >= 1 of any real dtype; constants.
        beta: β, a finite number > 0.
        target_margin: γ, a finite number, in units of the margin: γ = β times the γ/β that some trainers take.

    Returns: (batch,).

    Error: |error| ≤ 8·u·(β|l_w|/n_w + β|l_l|/n_l + |γ| + 1), where nothing saturates.

    Claims: preference.simpo.gradient, preference.simpo.target, preference.margins.

    Sources: Meng et al., arXiv:2405.14734. Its text was not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import simpo_per_pair
        >>> sums, lengths = (torch.tensor([-10.0]), torch.tensor([-30.0])), (torch.tensor([10]), torch.tensor([20]))
        >>> simpo_per_pair(*sums, *lengths)  # −log σ(2·(−1 + 1.5) − 0.5)
        tensor([0.4741])
    """
    options = _checked("sigmoid", beta, target_margin, 0.0)
    scores = pair_means(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths)
    return _of_margins(scores, "sigmoid", *options)


def simpo_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    chosen_lengths: Shaped[Tensor, " batch"],
    rejected_lengths: Shaped[Tensor, " batch"],
    *,
    beta: float = 2.0,
    target_margin: float = 0.5,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """SimPO's loss: the sum of `simpo_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_logps, rejected_logps, chosen_lengths, rejected_lengths: (batch,), as in `simpo_per_pair`.
        beta, target_margin: as in `simpo_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss` for the mean log-probabilities of
    the tokens; the margin in them is before γ is subtracted.

    Error: that of `simpo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `simpo_per_pair`.

    Sources: those of `simpo_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import simpo_loss
        >>> sums, lengths = (torch.tensor([-10.0]), torch.tensor([-30.0])), (torch.tensor([10]), torch.tensor([20]))
        >>> output = simpo_loss(*sums, *lengths)
        >>> output.loss, output.metrics["margin"]
        (tensor(0.4741), tensor(1.))
    """
    options, denominator = _checked("sigmoid", beta, target_margin, 0.0), check_denominator(denominator)
    scores = pair_means(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths)
    return _output(scores, "sigmoid", options, denominator)


def cpo_per_pair(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    chosen_lengths: Shaped[Tensor, " batch"],
    *,
    beta: float = 0.1,
    nll_weight: float = 1.0,
) -> Float[Tensor, " batch"]:
    """CPO's loss of each pair, −log σ(β(l_w − l_l)) − λ·l_w/n_w.

    Arguments:
        chosen_logps, rejected_logps: (batch,), l_w and l_l, sums over the tokens of a response.
        chosen_lengths: (batch,), n_w, finite numbers >= 1 of any real dtype; constants. Ones take the sum of the
            log-probabilities in place of their mean.
        beta: β, a finite number > 0.
        nll_weight: λ, a finite number > 0; without the likelihood, it is `preference_per_pair` with kind "sigmoid".

    Returns: (batch,).

    Error: |error| ≤ 8·u·(β|l_w| + β|l_l| + λ|l_w|/n_w + 1), where nothing saturates.

    Claims: preference.cpo.gradient, preference.margins.

    Sources: Xu et al., arXiv:2401.08417. Its text was not compared.

    Examples:
        >>> import torch
        >>> from grape_verified import cpo_per_pair
        >>> cpo_per_pair(torch.tensor([-10.0]), torch.tensor([-30.0]), torch.tensor([5]))  # −log σ(0.1·20) + 10/5
        tensor([2.1269])
    """
    beta, weight = check_number("beta", beta, POSITIVE), check_number("nll_weight", nll_weight, POSITIVE)
    logps, likelihoods = _with_likelihoods(chosen_logps, rejected_logps, chosen_lengths)
    return saturate_(weight * likelihoods) - logsigmoid(pair_margins(logps, beta))


def cpo_loss(
    chosen_logps: Float[Tensor, " batch"],
    rejected_logps: Float[Tensor, " batch"],
    chosen_lengths: Shaped[Tensor, " batch"],
    *,
    beta: float = 0.1,
    nll_weight: float = 1.0,
    denominator: float | Shaped[Tensor, ""] | None = None,
) -> PairLossOutput:
    """CPO's loss: the sum of `cpo_per_pair` over the pairs, divided by D.

    Arguments:
        chosen_logps, rejected_logps, chosen_lengths: (batch,), as in `cpo_per_pair`.
        beta, nll_weight: as in `cpo_per_pair`.
        denominator: D, as in `dpo_loss`.

    Returns: PairLossOutput(loss, per_pair, metrics), with the metrics of `dpo_loss` for the log-probabilities, and
        likelihood: −l_w/n_w, the mean over the pairs of this call.

    Error: that of `cpo_per_pair`, summed and divided by D, and 8·u·loss for the sum.

    Claims: aggregation.gradient, and those of `cpo_per_pair`.

    Sources: those of `cpo_per_pair`.

    Examples:
        >>> import torch
        >>> from grape_verified import cpo_loss
        >>> cpo_loss(torch.tensor([-10.0]), torch.tensor([-30.0]), torch.tensor([5])).metrics["likelihood"]
        tensor(2.)
    """
    beta, weight = check_number("beta", beta, POSITIVE), check_number("nll_weight", nll_weight, POSITIVE)
    denominator = check_denominator(denominator)
    logps, likelihoods = _with_likelihoods(chosen_logps, rejected_logps, chosen_lengths)
    per_pair = saturate_(weight * likelihoods) - logsigmoid(pair_margins(logps, beta))
    metrics = pair_metrics(logps, beta) | means_over_rows(likelihood=likelihoods)
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, metrics)


def _checked(kind: str, beta: float, target: float, smoothing: float) -> tuple[float, float, float]:
    """Check the function and its options: β, γ and ε."""
    check_choice("kind", kind, get_args(Kind))
    smoothing = check_number("label_smoothing", smoothing, BELOW_HALF)
    if kind == "exo" and not smoothing:
        raise ValueError("label_smoothing: got 0.0, expected a number in (0, 0.5) with kind 'exo', which divides by it")
    if kind not in ("sigmoid", "exo") and smoothing:
        raise ValueError(f"label_smoothing: got {smoothing}, expected 0 with kind {kind!r}, which does not use it")
    return check_number("beta", beta, POSITIVE), check_number("target_margin", target, FINITE), smoothing


def _scores(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor | None, ref_rejected_logps: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The log-ratios to the reference, or the log-probabilities if there is none."""
    if ref_chosen_logps is None and ref_rejected_logps is None:
        return pair_logps(chosen_logps, rejected_logps)
    for name, given in {"ref_chosen_logps": ref_chosen_logps, "ref_rejected_logps": ref_rejected_logps}.items():
        if given is None:
            raise TypeError(f"{name}: got None, expected a tensor, as the other response has a reference")
    assert ref_chosen_logps is not None
    assert ref_rejected_logps is not None
    return pair_log_ratios(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)


def _output(
    scores: tuple[Tensor, Tensor], kind: str, options: tuple[float, float, float], denominator: float | Tensor | None
) -> PairLossOutput:
    per_pair = _of_margins(scores, kind, *options)
    return PairLossOutput(mean_of_rows(per_pair, denominator), per_pair, pair_metrics(scores, options[0]))


def _of_margins(scores: tuple[Tensor, Tensor], kind: str, beta: float, target: float, smoothing: float) -> Tensor:
    """The function of each margin. None of them overflows at a margin that is finite, nor does its slope."""
    if kind == "ipo":  # without the division of a large margin by a small β
        chosen, rejected = scores
        goal = min(max((target + 0.5) / beta, -LARGEST / 4), LARGEST / 4)
        return saturate_((chosen - rejected - goal).square())
    margins = pair_margins(scores, beta, target)
    if kind == "hinge":
        return (1 - margins).relu()
    if kind == "exponential":
        return saturate_(-margins, high=exp_limit(margins.dtype)).exp()
    return smoothed(margins, smoothing) if kind == "sigmoid" else _exo(margins, smoothing)


def _exo(margins: Tensor, smoothing: float) -> Tensor:
    """σ as the exponential of log σ, whose slope σ(m)·σ(−m) keeps its digits where σ rounds to 1."""
    kept, flipped = logsigmoid(margins), logsigmoid(-margins)
    return kept.exp() * (kept - math.log1p(-smoothing)) + flipped.exp() * (flipped - math.log(smoothing))


def _with_likelihoods(
    chosen_logps: Tensor, rejected_logps: Tensor, chosen_lengths: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Check the pairs; return both log-probabilities and −l_w/n_w."""
    check_tensor("chosen_lengths", chosen_lengths)
    logps = pair_logps(chosen_logps, rejected_logps)
    return logps, -logps[0] / lengths_like("chosen_lengths", chosen_lengths, logps[0])

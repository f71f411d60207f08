"""The KL penalty inside a loss: an estimate at each token, weighted by the importance ratio or not.

DeepSeek-V3.2 (arXiv:2512.02556) weights the estimate by the ratio, which is differentiated; its text was not compared.
"""

from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from grape_verified.arguments import NON_NEGATIVE, Estimator, check_choice, check_like, check_number
from grape_verified.kl import estimate
from grape_verified.losses.ratio import RatioTokens
from grape_verified.numerics import difference, exp_limit, is_recorded, saturate_, value_limit, with_slope, with_values_

__all__: list[str] = []

#: How the ratio weights the estimate: not at all, as a constant, or differentiated.
KLRatio = Literal["absent", "detached", "attached"]

#: Estimates in a loss: with a plus, the value of k1 or k3 and the slope of k2.
LossEstimator = Literal["k1", "k2", "k3", "k1+", "k3+"]


class KLTerm(NamedTuple):
    """A KL penalty with its options; ref_logps is None where there is none."""

    ref_logps: Tensor | None
    coef: float
    estimator: LossEstimator
    ratio: KLRatio


def check_kl_term(ref_logps: Tensor | None, kl_coef: float, kl_estimator: LossEstimator, kl_ratio: KLRatio) -> KLTerm:
    """Check the options of a KL penalty, and that there is a reference unless its coefficient is 0."""
    check_choice("kl_estimator", kl_estimator, get_args(LossEstimator))
    check_choice("kl_ratio", kl_ratio, get_args(KLRatio))
    coef = check_number("kl_coef", kl_coef, NON_NEGATIVE)
    if kl_ratio == "attached" and kl_estimator.endswith("+"):
        raise ValueError(
            f"kl_ratio: got 'attached', expected 'absent' or 'detached' with kl_estimator {kl_estimator!r}"
        )
    if ref_logps is None and coef != 0:
        raise ValueError(f"ref_logps: got None, expected a tensor with kl_coef {kl_coef}, which uses it")
    return KLTerm(ref_logps, coef, kl_estimator, kl_ratio)


def with_penalty(
    per_token: Tensor, logps: Tensor, tokens: RatioTokens, term: KLTerm
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of each token with its penalty, and what the metrics average: the estimate, without its weight."""
    if term.ref_logps is None:
        return per_token, {}
    check_like("ref_logps", term.ref_logps, "logps", logps)
    divergence = _estimate(logps, term.ref_logps, term.estimator, tokens.counted)
    if term.coef:
        per_token = per_token + saturate_(term.coef * _weighted(divergence, logps, tokens, term))
    return per_token, {"kl": divergence}


def _estimate(logps: Tensor, ref_logps: Tensor, estimator: LossEstimator, counted: Tensor | None) -> Tensor:
    """The estimate at each token; with a plus, its value on the slope of k2."""
    if not estimator.endswith("+"):
        return estimate(logps, ref_logps, cast(Estimator, estimator), counted)
    carrier = estimate(logps, ref_logps, "k2", counted)
    with torch.no_grad():
        value = estimate(logps, ref_logps, cast(Estimator, estimator[:2]), counted)
    return carrier + (value - carrier).detach() if is_recorded() else with_values_(carrier, lambda _: value)


def _weighted(divergence: Tensor, logps: Tensor, tokens: RatioTokens, term: KLTerm) -> Tensor:
    """The estimate times the ratio, as the options say; fresh, so that it can be saturated."""
    if term.ratio == "absent":
        return divergence
    if term.estimator in ("k3", "k3+") and not is_recorded():
        return _weighted_k3(divergence.detach(), logps, tokens, term)
    return (tokens.ratio if term.ratio == "attached" else tokens.ratio.detach()) * divergence


def _weighted_k3(k3: Tensor, logps: Tensor, tokens: RatioTokens, term: KLTerm) -> Tensor:
    """ρ·k3 and its slope: far from the reference, a ratio that underflows must not meet an exponential that overflows.

    There ρ·exp(−x), x = logp − ref_logp, is computed as exp(ref_logp − old_logp). With the ratio attached the slope is
    ρx, in which the slopes of the two factors cancel, and so it is for k3+.
    """
    assert term.ref_logps is not None
    x = difference(logps, term.ref_logps, tokens.counted)
    ratio, log_ratio = tokens.ratio.detach(), tokens.log_ratio.detach()
    ref_ratio = saturate_(log_ratio - x, high=exp_limit(x.dtype)).exp()
    is_near = x.detach().abs() < 1
    with torch.no_grad():
        far = ref_ratio - (ratio * (1 - x)).clamp(max=value_limit(x.dtype))
        value = torch.where(is_near, ratio * k3, torch.where(log_ratio - x > exp_limit(x.dtype), ref_ratio, far))
    if term.estimator == "k3+":
        slope = ratio * x
    elif term.ratio == "attached":
        slope = tokens.ratio * x
    else:
        slope = torch.where(is_near, ratio * -(-x).clamp(-1, 1).expm1(), ratio - ref_ratio)
    return with_slope(x, value, saturate_(slope))

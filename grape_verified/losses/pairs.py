"""What losses over pairs share: log-ratios, lengths, margins and metrics."""

from typing import Literal, get_args

import torch
from torch import Tensor

from grape_verified.arguments import LARGEST, check_alike, check_choice, check_same_shape, check_tensor, check_values
from grape_verified.losses.output import means_over_rows
from grape_verified.numerics import bounded, compute_dtype, difference, saturate_, savable

__all__: list[str] = []

LogRatio = Literal["sum", "mean"]


def pair_log_ratios(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor
) -> tuple[Tensor, Tensor]:
    """Check the pairs; return the log-ratio of policy to reference, l − l^ref, of both responses.

    They are subtracted first, and in the compute dtype: both are large and nearly equal, so their difference is nearly
    exact, while the difference of the policy's two sums would round the margin away.
    """
    check_alike(
        "(batch,)", chosen_logps=chosen_logps, rejected_logps=rejected_logps,
        ref_chosen_logps=ref_chosen_logps, ref_rejected_logps=ref_rejected_logps,
    )  # fmt: skip
    dtype = compute_dtype(chosen_logps, rejected_logps)
    chosen = difference(chosen_logps.to(dtype), ref_chosen_logps)
    return chosen, difference(rejected_logps.to(dtype), ref_rejected_logps)


def pair_logps(chosen_logps: Tensor, rejected_logps: Tensor) -> tuple[Tensor, Tensor]:
    """Check pairs without a reference; return both log-probabilities in the compute dtype."""
    check_alike("(batch,)", chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    dtype = compute_dtype(chosen_logps, rejected_logps)
    return bounded(chosen_logps.to(dtype)), bounded(rejected_logps.to(dtype))


def check_log_ratio(log_ratio: str, chosen_lengths: Tensor | None, rejected_lengths: Tensor | None) -> None:
    """Check how a log-ratio is reduced over tokens, and that lengths are given exactly where they are used."""
    check_choice("log_ratio", log_ratio, get_args(LogRatio))
    for name, lengths in {"chosen_lengths": chosen_lengths, "rejected_lengths": rejected_lengths}.items():
        if log_ratio == "sum" and lengths is not None:
            raise ValueError(f"{name}: got a value, expected None with log_ratio 'sum', which does not use it")
        if log_ratio == "mean" and lengths is None:
            raise TypeError(f"{name}: got None, expected a tensor, which log_ratio 'mean' needs")
        if lengths is not None:
            check_tensor(name, lengths)


def by_length(
    log_ratios: tuple[Tensor, Tensor], chosen_lengths: Tensor | None, rejected_lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both log-ratios, divided by the lengths if they are given."""
    chosen, rejected = log_ratios
    if chosen_lengths is None or rejected_lengths is None:
        return chosen, rejected
    return (
        chosen / lengths_like("chosen_lengths", chosen_lengths, chosen),
        rejected / lengths_like("rejected_lengths", rejected_lengths, rejected),
    )


def lengths_like(name: str, lengths: Tensor, like: Tensor) -> Tensor:
    """Check the lengths of responses; return them in the dtype of the log-ratios that they divide."""
    if lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"{name}: got dtype {lengths.dtype}, expected an integer or a floating-point dtype")
    check_same_shape(name, lengths, "chosen_logps", like)
    wide = lengths.to(torch.float64)
    check_values(name, lengths, (wide >= 1) & (wide <= LARGEST), "finite lengths >= 1")
    return savable(lengths.detach()).to(like.dtype)


def pair_means(
    chosen_logps: Tensor, rejected_logps: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Check pairs and their lengths; return the mean log-probabilities of the tokens of both responses."""
    check_tensor("chosen_lengths", chosen_lengths)
    check_tensor("rejected_lengths", rejected_lengths)
    return by_length(pair_logps(chosen_logps, rejected_logps), chosen_lengths, rejected_lengths)


def pair_margins(log_ratios: tuple[Tensor, Tensor], beta: float, target: float = 0.0) -> Tensor:
    """β times the difference of the log-ratios, minus a target."""
    chosen, rejected = log_ratios
    margins = beta * (chosen - rejected)
    return saturate_(margins - target if target else margins)


@torch.no_grad()
def pair_metrics(log_ratios: tuple[Tensor, Tensor], beta: float) -> dict[str, Tensor]:
    """The metrics that `dpo_loss` defines."""
    margins = pair_margins(log_ratios, beta)
    chosen, rejected = (saturate_(beta * x) for x in log_ratios)
    accuracy = (margins > 0).to(margins.dtype)
    return means_over_rows(accuracy=accuracy, margin=margins, chosen_reward=chosen, rejected_reward=rejected)

"""Habits: conventions in which implementations of one loss differ, each stated as what takes the place of a definition.

A habit is no error. Contracts read the spec with the habits of a function in place, so that everything else about it is
judged as before.
"""

from sympy import Max, Min, exp

from grape_spec.aggregation import i, mask
from grape_spec.language import Positive, clip, define, sum_over, symbol
from grape_spec.policy import logp, t
from grape_spec.ppo import advantage, clip_high, clip_low, dual_clip, dual_clipped_surrogate, old_logp, rho

log_ratio_cap = symbol(
    "log_ratio_cap", Positive, "bound at which a log-ratio is clamped on both sides", tex=r"\lambda_{\max}"
)

log_ratio_clamp = define(
    "habit.log_ratio_clamp",
    "Probability ratio of a token with the log-ratio clamped on both sides, in place of the ratio. Beyond the clamp "
    "the token has no gradient, even where a clipped surrogate would keep it.",
    (logp, old_logp, log_ratio_cap),
    exp(clip(logp - old_logp, -log_ratio_cap, log_ratio_cap)),
    tex=r"\rho_{{\pm {log_ratio_cap}}}",
    domain=Positive,
    convention=True,
)

always_dual_clip = define(
    "habit.dual_clip",
    "The dual-clipped surrogate in place of the clipped one, where a loss has no option for it.",
    (rho, advantage, clip_low, clip_high, dual_clip),
    dual_clipped_surrogate(),
    tex=r"L_{{\mathrm{{always}}}}({rho})",
    convention=True,
)

rows_with_tokens = define(
    "habit.empty_rows.left_out",
    "Number of sequences with a token that counts, in place of the number of all; 1 if there is none.",
    (mask,),
    Max(1, sum_over(Min(1, sum_over(mask[i, t], t)), i)),
    tex=r"N_{{\mathrm{{seq}}}}^{{+}}",
    domain=Positive,
    convention=True,
)

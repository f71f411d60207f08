"""Habits: conventions in which implementations of one loss differ, each stated as a definition in place of another.

A habit is not an error. A contract reads the spec with the habits of a function in place, so that everything else about
the function is judged as before.
"""

from sympy import Max, Min, exp, sqrt

from grape_spec.advantage import centre, ddof, eps, number, spread
from grape_spec.aggregation import T, denominator, i, mask, per_token, row
from grape_spec.group_advantage import centred, deviation, divisor, left_out, squares
from grape_spec.grpo import kl_term, logps, old_logps
from grape_spec.gspo import log_ratio_mean, sequence_objective
from grape_spec.kl import k3, ref_logp
from grape_spec.kl_penalty import kl_coef, last, penalty, rewards
from grape_spec.language import Positive, Real, cases, clip, define, sum_over, symbol
from grape_spec.policy import logp, t
from grape_spec.ppo import (
    advantage,
    clip_high,
    clip_low,
    clipped_surrogate,
    dual_clip,
    dual_clipped_surrogate,
    lower_edge,
    old_logp,
    rho,
)
from grape_spec.reinforce import G, g, response_reward

# The ratio and its clip.

log_ratio_cap = symbol("log_ratio_cap", Positive, "bound at which a log-ratio is clamped", tex=r"\lambda_{\max}")

log_ratio_clamp = define(
    "habit.log_ratio_clamp",
    "Probability ratio of a token with the log-ratio clamped on both sides, in place of the ratio. Beyond the clamp "
    "the token has no gradient, even where a clipped surrogate would keep it.",
    (logp, old_logp, log_ratio_cap),
    exp(clip(logp - old_logp, -log_ratio_cap, log_ratio_cap)),
    tex=r"\rho_{{\pm {log_ratio_cap}}}",
    convention=True,
)

sequence_log_ratio_cap = define(
    "habit.sequence_log_ratio_cap",
    "Likelihood ratio of a sequence with the mean log-ratio capped, in place of the ratio of GSPO.",
    (row, logps, old_logps, mask, log_ratio_cap),
    exp(Min(log_ratio_mean, log_ratio_cap)),
    tex=r"s_{{{row}}}^{{\le {log_ratio_cap}}}",
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

one_clip = define(
    "habit.one_clip",
    "The clipped surrogate with one ε for both sides, in place of one for each side.",
    (rho, advantage, clip_low),
    clipped_surrogate(clip_high=clip_low),
    tex=r"L_{{\mathrm{{one}}}}({rho})",
    convention=True,
)

one_clip_weight = define(
    "habit.one_clip.weight",
    "The weight of CISPO with one ε for both sides, in place of one for each side.",
    (rho, clip_low),
    clip(rho, lower_edge, 1 + clip_low),
    tex=r"w_{{\mathrm{{one}}}}({rho})",
    convention=True,
)

epsilon_cap = define(
    "habit.cispo_cap.epsilon",
    "The weight of CISPO with the upper clip range itself as its cap and no lower clip, in place of 1 plus the upper "
    "and 1 minus the lower clip range.",
    (rho, clip_high),
    Min(rho, clip_high),
    tex=r"w_{{{clip_high}}}({rho})",
    convention=True,
)

# Counts.

rows_with_tokens = define(
    "habit.empty_rows.left_out",
    "Number of sequences with a token that counts, in place of the number of all sequences; 1 if there are none.",
    (mask,),
    Max(1, sum_over(Min(1, sum_over(mask[i, t], t)), i)),
    tex=r"N_{{\mathrm{{seq}}}}^{{+}}",
    convention=True,
)

count_eps = symbol("count_eps", Positive, "number added to a count of tokens", tex=r"\varepsilon_N")

widened_count = define(
    "habit.denominator_eps",
    "Number of tokens that count plus a small number, in place of a lower bound of 1.",
    (mask, count_eps),
    sum_over(mask[i, t], i, t) + count_eps,
    tex=r"N^{{+{count_eps}}}",
    convention=True,
)

widened_row_count = define(
    "habit.denominator_eps.row",
    "Number of tokens of a sequence that count plus a small number, in place of a lower bound of 1.",
    (i, mask, count_eps),
    sum_over(mask[i, t], t) + count_eps,
    tex=r"n_{{{i}}}^{{+{count_eps}}}",
    convention=True,
)

padded_width = define(
    "habit.fixed_length.padded_width",
    "The sum over a sequence divided by the padded width of the batch, in place of one fixed length.",
    (per_token, mask, denominator),
    sum_over(mask[i, t] * per_token[i, t], i, t) / (denominator * T),
    convention=True,
)

weight_by_length = define(
    "habit.sequence_weight.length",
    "GSPO's objective of a sequence, weighted by its number of tokens, in place of the same weight for all sequences; "
    "the denominator is then the number of tokens.",
    (row, logps, old_logps, mask, advantage, clip_low, clip_high),
    sum_over(mask[row, t], t) * sequence_objective(),
    tex=r"J^{{n}}_{{{row}}}",
    convention=True,
)

# The KL penalty.

kl_cap = symbol("kl_cap", Positive, "bound at which an estimate of the KL divergence is clamped", tex=r"k_{\max}")

kl_clamp = define(
    "habit.kl_clamp",
    "An estimate of the KL divergence clamped on both sides, in place of the estimate.",
    (kl_term, kl_cap),
    clip(kl_term, -kl_cap, kl_cap),
    tex=r"k_{{\pm {kl_cap}}}",
    convention=True,
)

k3_clamp = define(
    "habit.k3_clamp",
    "The estimate k3 clamped on both sides, in place of k3; the other estimates stay as they are.",
    (logp, ref_logp, kl_cap),
    clip(k3(), -kl_cap, kl_cap),
    tex=r"k_{{3}}^{{\pm {kl_cap}}}",
    convention=True,
)

kl_log_ratio_cap = symbol(
    "kl_log_ratio_cap", Positive, "bound at which the log-ratio in k3 is clamped", tex=r"\kappa_{\max}"
)
clamped_kl_ratio = clip(ref_logp - logp, -kl_log_ratio_cap, kl_log_ratio_cap)

kl_log_ratio_clamp = define(
    "habit.kl_log_ratio_clamp",
    "The estimate k3 at a log-ratio clamped on both sides, in place of k3.",
    (logp, ref_logp, kl_log_ratio_cap),
    exp(clamped_kl_ratio) - 1 - clamped_kl_ratio,
    tex=r"k_{{3, \pm {kl_log_ratio_cap}}}",
    convention=True,
)

held_logp = symbol("held_logp", Real, "log-probability of the token, held constant", tex=r"\overline{\ell}")
held_kl = symbol("held_kl", Real, "estimate of the KL divergence, held constant", tex=r"\overline{k}")

kl_straight_through = define(
    "habit.kl_straight_through",
    "An estimate of the KL divergence with the gradient of k2, in place of its own: the estimate, held constant, plus "
    "the change of k2.",
    (held_kl, logp, held_logp, ref_logp),
    held_kl + ((logp - ref_logp) ** 2 - (held_logp - ref_logp) ** 2) / 2,
    tex=r"k^{{\mathrm{{st}}}}",
    convention=True,
)

masked_kl = define(
    "habit.masked_kl.kept",
    "Reward of a token with the penalty at every token, in place of only the tokens that count.",
    (t, rewards, penalty, last, kl_coef),
    last[t] * rewards - kl_coef * penalty[t],
    tex=r"r_{{{t}}}^{{\mathrm{{all}}}}",
    convention=True,
)

# Advantages.

fewer = define(
    "habit.ddof",
    "Divisor of a variance: the number of values minus 0 or 1.",
    (G, ddof),
    G - ddof,
    tex=r"N_{{{ddof}}}",
    convention=True,
)

varies = squares > 0
group_of_one = 1 - Min(1, G - 1)

inside_root = define(
    "habit.eps_inside_root",
    "A deviation divided by the standard deviation, with ε added to the variance under the square root, in place of ε "
    "added to the standard deviation; 0 if all rewards are equal.",
    (deviation, squares, divisor, eps),
    cases((deviation, varies), (0, True)) / cases((sqrt(squares / divisor + eps), varies), (1, True)),
    tex=r"A^{{\mathrm{{root}}}}({deviation})",
    convention=True,
)

lowest_std = symbol("lowest_std", Positive, "lower bound on the standard deviation", tex=r"\sigma_{\min}")

std_floor = define(
    "habit.std_floor",
    "A deviation divided by the standard deviation, with a lower bound on the latter in place of an added ε; 0 if all "
    "rewards are equal.",
    (deviation, squares, divisor, lowest_std),
    cases((deviation, varies), (0, True)) / cases((Max(sqrt(squares / divisor), lowest_std), varies), (1, True)),
    tex=r"A_{{\ge {lowest_std}}}({deviation})",
    convention=True,
)

raw_reward = define(
    "habit.group_of_one.raw",
    "A reward minus the mean of its group, but the reward itself in a group of one, in place of 0.",
    (g, response_reward),
    centred() + group_of_one * response_reward[g],
    tex=r"d^{{\mathrm{{one}}}}_{{{g}}}",
    convention=True,
)

raw_reward_left_out = define(
    "habit.group_of_one.raw_left_out",
    "A reward minus the mean of the others, but the reward itself in a group of one, in place of 0.",
    (g, response_reward),
    left_out() + group_of_one * response_reward[g],
    tex=r"d^{{\mathrm{{one}}}}_{{-{g}}}",
    convention=True,
)

raw_reward_scaled = define(
    "habit.group_of_one.raw_scaled",
    "A deviation in units of the standard deviation, which is 1 in a group of one; 0 if all rewards of a larger group "
    "are equal.",
    (deviation, squares, divisor, eps, G),
    cases((deviation, varies), (group_of_one * deviation, True))
    / (cases((sqrt(squares / divisor), varies), (1, True)) + eps),
    tex=r"A^{{1}}({deviation})",
    convention=True,
)

eps_on_std = define(
    "habit.eps_on_std",
    "A whitened number with ε added to the standard deviation, in place of the variance under the square root.",
    (number, centre, spread, eps),
    (number - centre) / (sqrt(spread) + eps),
    tex="w^{{+}}",
    convention=True,
)

lowest_variance = symbol("lowest_variance", Positive, "lower bound on the variance", tex=r"v_{\min}")

variance_floor = define(
    "habit.variance_floor",
    "A whitened number with a lower bound on the variance in place of an added ε.",
    (number, centre, spread, lowest_variance),
    (number - centre) / sqrt(Max(spread, lowest_variance)),
    tex=r"w_{{\ge {lowest_variance}}}",
    convention=True,
)

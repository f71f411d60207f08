"""Derivations: advantages within a group, and group relative policy optimisation."""

from sympy import Max, exp, sqrt

from grape_spec import grpo, gspo, sapo
from grape_spec.aggregation import mask, position, row, row_count, weight
from grape_spec.dpo import sigmoid
from grape_spec.group_advantage import (
    affine,
    bonus,
    centred,
    ddof,
    gain,
    group_advantage,
    group_mean,
    group_std,
    group_variance,
    success,
    success_rate,
)
from grape_spec.grpo import (
    advantages,
    cispo_weight,
    constant_weight,
    logps,
    old_response_logps,
    own_logp,
    own_ref_logp,
    own_slope,
    own_token,
    reinforced,
    reinforced_tokens,
    response_logps,
    sequence_mean,
)
from grape_spec.kl import k3, ref_logp
from grape_spec.kl_penalty import kl_coef
from grape_spec.language import At, Diff, derive, line, sum_over
from grape_spec.policy import logp
from grape_spec.ppo import advantage, clip_slope, ratio, rho
from grape_spec.proof.rules import by_terms, fact, smt
from grape_spec.reinforce import G, g, h, response_reward

own_k3 = k3(own_logp, own_ref_logp)
everything = sum_over(response_reward[h], h)

derive(
    "grpo.advantage.zero_sum",
    line(sum_over(response_reward[g], g) - G * group_mean(), "the mean is the same for all G responses"),
    line(0, "the mean is the sum divided by G"),
    part="not scaled",
)

derive(
    "grpo.advantage.zero_sum",
    line(sum_over(centred(), g) / group_std(), "the scale is the same for all: take it out of the sum"),
    line((sum_over(response_reward[g], g) - G * group_mean()) / group_std(), "so is the mean"),
    line(0, "the mean is the sum divided by G"),
    part="scaled, without ε",
)

derive(
    "grpo.advantage.unit_variance",
    line(sum_over(centred() ** 2, g) / group_variance(), "the scale is the same for all: take its square out"),
    line(G - ddof, "the variance is the same sum, divided by G − d"),
)

affine_centred = gain * response_reward[g] + bonus - sum_over(gain * response_reward[h] + bonus, h) / G

derive(
    "grpo.advantage.affine",
    line(affine_centred / group_std(affine), "write out the advantage"),
    line(gain * centred() / group_std(affine), "the mean has the same factor and constant: the constant cancels"),
    line(centred() / group_std(), "every deviation has the factor, and so does the standard deviation: it cancels"),
    line(group_advantage(eps=0), "this is the advantage"),
    part="unit and origin",
)

at_rate = success_rate * (1 - success_rate)

derive(
    "grpo.advantage.binary",
    line(
        sum_over((success[h] - success_rate) ** 2, h) / (G - ddof),
        "the mean of the group is the success rate",
    ),
    line(
        ((1 - 2 * success_rate) * sum_over(success[h], h) + G * success_rate**2) / (G - ddof),
        "expand: a success is 0 or 1, so it equals its square",
    ),
    line(((1 - 2 * success_rate) * success_rate * G + G * success_rate**2) / (G - ddof), "pG responses succeed"),
    line(at_rate * G / (G - ddof), "collect"),
    part="variance",
)

derive(
    "grpo.advantage.binary",
    line((success[g] - success_rate) / sqrt(group_variance(success, 0)), "the mean of the group is the success rate"),
    line((success[g] - success_rate) / sqrt(at_rate), "the variance is p(1 − p)"),
    part="over G, without ε",
)

derive(
    "grpo.advantage.leave_one_out",
    line((G * response_reward[g] - everything) / Max(1, G - 1), "the response's own reward is in all G differences"),
    line(G / Max(1, G - 1) * (response_reward[g] - everything / G), "take out G"),
    line(G / Max(1, G - 1) * centred(), "the sum over G is the mean"),
)

derive(
    "grpo.gradient",
    line(
        exp(ref_logp - logp) * Diff(ref_logp - logp, logp) - Diff(ref_logp - logp, logp),
        "the chain rule for exp(x) − 1 − x",
    ),
    line(1 - exp(ref_logp - logp), "the log-ratio of reference to policy has slope −1"),
    part="slope of k3",
)

derive(
    "grpo.gradient",
    line(
        clip_slope(ratio()) - kl_coef * Diff(k3(), logp),
        "differentiate term by term: the clipped surrogate has the slope ψ",
        by=by_terms(fact("ppo.clip.gradient", part="in the log-probability")),
    ),
    line(clip_slope(ratio()) - kl_coef * (1 - exp(ref_logp - logp)), "the slope of k₃"),
    part="one token, k3",
)

derive(
    "grpo.on_policy",
    line(
        clip_slope(ratio()),
        "the clipped surrogate has the slope ψ away from its kinks, and neither kink is at one",
        by=by_terms(fact("ppo.clip.gradient", part="in the log-probability")),
    ),
    line(ratio() * advantage, "a ratio of one is not clipped", by=smt()),
    line(advantage, "the ratio is one", by=smt()),
    part="slope",
)

own_ratio = exp(response_logps[g] - old_response_logps[g])

derive(
    "grpo.on_policy",
    line(
        At(own_ratio * centred(), response_logps, old_response_logps),
        "only its own term depends on the log-probability of a response",
    ),
    line(centred(), "the ratio is one where the policies agree"),
    line(Diff(reinforced, response_logps[g]), "the slope of a sum of advantages times log-probabilities"),
    part="a group, one ratio for each response and no scale",
)

derive(
    "grpo.on_policy",
    line(
        weight["sequence_mean"] * clip_slope(grpo.own_ratio, advantages[row]),
        "only the term of the token itself, with its weight in the mean; no KL penalty",
        by=by_terms(fact("grpo.gradient", part="one token, k3", kl_coef=0, **own_token)),
    ),
    line(weight["sequence_mean"] * advantages[row], "a ratio of one is not clipped, and is one", by=smt()),
    line(
        Diff(sequence_mean(reinforced_tokens), own_logp),
        "the same weight, and advantage times log-probability in place of the surrogate",
    ),
    part="of the objective",
)

derive(
    "grpo.gradient",
    line(
        weight["sequence_mean"] * (clip_slope(grpo.own_ratio, advantages[row]) - kl_coef * Diff(own_k3, own_logp)),
        "only the term of the token itself depends on it; the clipped surrogate has the slope ψ",
        by=by_terms(fact("grpo.gradient", part="one token, k3", **own_token)),
    ),
    line(weight["sequence_mean"] * own_slope, "the slope of k₃"),
    part="of the objective",
)

derive(
    "grpo.cispo.gradient",
    line(
        At(constant_weight * advantage * Diff(logp, logp), constant_weight, cispo_weight(ratio())),
        "weight and advantage are constants",
    ),
    line(cispo_weight(ratio()) * advantage, "the log-probability has slope one in itself; insert the weight"),
    part="in the log-probability",
)

# Variants.

derive(
    "grpo.gspo.ratio_gradient",
    line(
        gspo.sequence_ratio() * Diff(gspo.log_ratio_mean, logps[row, position]),
        "the ratio is the exponential of the mean log-ratio: the chain rule",
    ),
    line(
        gspo.sequence_ratio() * mask[row, position] / row_count(row),
        "only its own term of the mean depends on the log-probability of a token",
    ),
)

derive(
    "sapo.gradient",
    line(4 / sapo.tau * advantage * Diff(sigmoid(sapo.gate), rho), "the factor and the advantage are constants"),
    line(
        4 / sapo.tau * advantage * sigmoid(sapo.gate) * sigmoid(-sapo.gate) * Diff(sapo.gate, rho),
        "the chain rule: the slope of σ(x) is σ(x)σ(−x)",
    ),
    line(4 * advantage * sigmoid(sapo.gate) * sigmoid(-sapo.gate), "the slope of τ(ρ − 1) is τ: cancel"),
    line(sapo.weight() * advantage, "this is the weight"),
    part="in the ratio",
)

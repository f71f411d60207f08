"""Group relative policy optimisation: the clipped loss of group advantages, with a KL penalty, and its variants.

Z. Shao et al., DeepSeekMath, arXiv:2402.03300, section 4. Variants: Dr. GRPO (Z. Liu et al., arXiv:2503.20783), DAPO
(Q. Yu et al., arXiv:2503.14476), GSPO (C. Zheng et al., arXiv:2507.18071), CISPO (MiniMax-M1, arXiv:2506.13585).
"""

from sympy import Integer, Lambda, Max, Min, exp

from grape_spec.advantage import eps
from grape_spec.aggregation import (
    DAPO,
    DR_GRPO,
    B,
    denominator,
    fixed_length,
    i,
    mask,
    max_length,
    modes,
    own_mask,
    per_token,
    position,
    row,
    row_count,
    sequence_mean,
    sequence_sum,
    token_count,
    token_mean,
    weight,
)
from grape_spec.group_advantage import SHAO, centred, group_advantage, group_std, several, spread
from grape_spec.kl import estimators, k3, ref_logp
from grape_spec.kl_penalty import kl_coef
from grape_spec.language import (
    At,
    Diff,
    NonNegative,
    OneSided,
    Positive,
    Real,
    Smooth,
    Source,
    at_least,
    at_most,
    cases,
    claim,
    clip,
    define,
    delta,
    differs,
    equals,
    family,
    function,
    greater,
    holds,
    iff,
    substitute,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import T, logp, t, theta
from grape_spec.ppo import (
    advantage,
    clip_high,
    clip_low,
    clip_slope,
    clipped_surrogate,
    counts,
    lower_edge,
    no_kink,
    old_logp,
    ratio,
    rho,
    surrogate,
    upper_edge,
)
from grape_spec.proof.rules import algebra, by_terms, chain, chain_rule, fact, finite_sum, slope, smt, step, termwise
from grape_spec.reinforce import G, g, h

ZHENG = Source("zheng2025group")
MINIMAX = Source("minimax2025m1")

# The loss of one token, and of a batch.

kl_term = symbol("kl_term", Real, "estimate of the KL divergence from the reference at a token", tex="k")
logps = family("logps", Real, B, T, text="log-probability of each token under the policy being trained", tex=r"\ell")
old_logps = family("old_logps", Real, B, T, text="the same under the policy that sampled", tex=r"\ell_{\mathrm{old}}")
ref_logps = family("ref_logps", Real, B, T, text="the same under the frozen reference", tex=r"\ell_{\mathrm{ref}}")
advantages = family("advantages", Real, B, text="advantage of each sequence", tex="A")

token_objective = define(
    "grpo.token_objective",
    "Clipped surrogate of a token less the KL penalty, to be maximised.",
    (logp, old_logp, advantage, clip_low, clip_high, kl_coef, kl_term),
    clipped_surrogate(ratio()) - kl_coef * kl_term,
    tex=r"J({logp})",
    source=SHAO.eq(3),
)

of_batch = Lambda(
    (i, t),
    token_objective(logps[i, t], old_logps[i, t], advantages[i], kl_term=k3(logps[i, t], ref_logps[i, t])),
)

objective = define(
    "grpo.objective",
    "Mean over responses of the mean over tokens of the objective of a token, to be maximised.",
    (logps, old_logps, ref_logps, advantages, mask, denominator, clip_low, clip_high, kl_coef),
    sequence_mean(of_batch),
    tex="J",
    source=SHAO.eq(3),
)

estimator_slopes = {"k1": Integer(1), "k2": logp - ref_logp, "k3": 1 - exp(ref_logp - logp)}
no_ratio_at_kink = [differs(ratio(), upper_edge), differs(ratio(), lower_edge)]
token_value = function("token_value", Smooth, "objective of each token, as a function of the parameter", tex="J")
smooth_batch = Lambda((i, t), token_value(i, t, theta))

claim(
    "grpo.gradient",
    "The slope of a token is that of its clipped surrogate less β times that of the KL estimate, 1 − exp(ref − logp) "
    "for k3; the gradient of the batch is the sum of these slopes, weighted by the aggregation.",
    *(
        holds(equals(Diff(estimator(), logp), estimator_slopes[name]), name=f"slope of {name}", by=algebra())
        for name, estimator in estimators.items()
    ),
    *(
        holds(
            equals(
                Diff(token_objective(kl_term=estimator()), logp),
                clip_slope(ratio()) - kl_coef * estimator_slopes[name],
            ),
            name=f"one token, {name}",
            assuming=no_ratio_at_kink,
            by=by_terms(
                fact("ppo.clip.gradient", part="in the log-probability"),
                fact("grpo.gradient", part=f"slope of {name}"),
            ),
        )
        for name, estimator in estimators.items()
    ),
    *(
        holds(
            equals(
                Diff(mode(smooth_batch), theta),
                sum_over(substitute(weight[name], {row: i, position: t}) * Diff(token_value(i, t, theta), theta), i, t),
            ),
            name=f"every token, {name}",
            by=finite_sum(),
        )
        for name, mode in modes.items()
    ),
    source=SHAO.section(4),
    wrong=[
        wrong(
            "the reference and the policy swapped",
            equals(Diff(k3(), logp), exp(logp - ref_logp) - 1),
        ),
        wrong("the slope of k1 in place of k3", equals(Diff(k3(), logp), 1)),
        wrong(
            "the ratio weights the KL penalty, too",
            equals(
                Diff(token_objective(kl_term=k3()), logp),
                clip_slope(ratio()) - kl_coef * ratio() * (1 - exp(ref_logp - logp)),
            ),
            assuming=no_ratio_at_kink,
        ),
    ],
)

response_logps = family(
    "response_logps", Real, G, text="log-probability of each response under the policy being trained", tex=r"\ell"
)
old_response_logps = family(
    "old_response_logps", Real, G, text="the same under the policy that sampled", tex=r"\ell_{\mathrm{old}}"
)
weighted = sum_over(exp(response_logps[h] - old_response_logps[h]) * centred(h), h)
reinforced = sum_over(centred(h) * response_logps[h], h)
at_one = equals(ratio(), 1)
open_on_both_sides = [greater(clip_low, 0), greater(clip_high, 0)]

claim(
    "grpo.on_policy",
    "While the policy is still the one that sampled, GRPO without a KL penalty is REINFORCE with the mean of the "
    "group as the baseline: no token is clipped, and its slope in the log-probability is its advantage.",
    holds(equals(ratio(old_logp, old_logp), 1), name="ratio", by=algebra()),
    holds(equals(clipped_surrogate(ratio()), advantage), name="value", assuming=[at_one], by=smt()),
    holds(
        equals(Diff(clipped_surrogate(ratio()), logp), advantage),
        name="slope",
        assuming=[at_one, *open_on_both_sides],
        by=by_terms(fact("ppo.clip.gradient", part="in the log-probability")),
    ),
    holds(
        equals(
            At(Diff(weighted, response_logps[g]), response_logps, old_response_logps),
            Diff(reinforced, response_logps[g]),
        ),
        name="a group",
        by=finite_sum(),
    ),
    holds(equals(k3(ref_logp, ref_logp), 0), name="the divergence at the reference", by=algebra()),
    holds(equals(At(Diff(k3(), logp), logp, ref_logp), 0), name="its slope at the reference", by=algebra()),
    wrong=[
        wrong(
            "whatever the policy",
            equals(Diff(weighted, response_logps[g]), Diff(reinforced, response_logps[g])),
        ),
        wrong(
            "also where the ratio may not rise",
            equals(OneSided(surrogate, rho, 1, 1), advantage),
            assuming=[equals(clip_high, 0)],
        ),
    ],
)

by_default = {
    "token_mean": {"denominator": token_count()},
    "sequence_mean": {"denominator": B},
    "sequence_sum": {"denominator": B},
    "token_sum": {},
    "fixed_length": {"denominator": B},
}

default_weight = {
    "token_mean": own_mask / token_count(),
    "sequence_mean": own_mask / (row_count(row) * B),
    "sequence_sum": own_mask / B,
    "token_sum": own_mask,
    "fixed_length": own_mask / (B * max_length),
}

response_weight = {
    "token_mean": sum_over(mask[row, t], t) / token_count(),
    "sequence_mean": sum_over(mask[row, t], t) / (Max(1, sum_over(mask[row, t], t)) * B),
    "sequence_sum": sum_over(mask[row, t], t) / B,
    "token_sum": sum_over(mask[row, t], t),
    "fixed_length": sum_over(mask[row, t], t) / (B * max_length),
}

whole_row = Lambda((i, t), delta(i, row))

claim(
    "grpo.length_weight",
    "The weights of a token and of a whole response under each mode with its default denominator: under "
    "sequence_mean a token of a long response weighs less, and all responses weigh the same; under the other modes "
    "all tokens weigh the same.",
    *(
        holds(
            equals(Diff(mode(**by_default[name]), per_token[row, position]), default_weight[name]),
            name=name,
            by=finite_sum(),
        )
        for name, mode in modes.items()
    ),
    *(
        holds(
            equals(mode(per_token=whole_row, **by_default[name]), response_weight[name]),
            name=f"{name}, a whole response",
            by=finite_sum(),
        )
        for name, mode in modes.items()
    ),
    holds(
        equals(sequence_mean(per_token=whole_row, denominator=B), 1 / B),
        name="responses weigh alike under sequence_mean",
        assuming=[at_least(sum_over(mask[row, t], t), 1)],
        by=smt(given=[fact("grpo.length_weight", part="sequence_mean, a whole response")]),
    ),
    source=DR_GRPO,
    wrong=[
        wrong(
            "under sequence_mean all tokens weigh the same",
            equals(Diff(sequence_mean(denominator=B), per_token[row, position]), own_mask / token_count()),
        ),
        wrong(
            "under token_mean all responses weigh the same",
            equals(token_mean(per_token=whole_row, denominator=token_count()), 1 / B),
            assuming=[at_least(sum_over(mask[row, t], t), 1)],
        ),
    ],
)

# Variants as points in the space of options.

no_divergence = substitute(of_batch, {kl_coef: 0})
written_out = Min(
    exp(logps[i, t] - old_logps[i, t]) * advantages[i],
    clip(exp(logps[i, t] - old_logps[i, t]), lower_edge, upper_edge) * advantages[i],
)

claim(
    "grpo.dr_grpo",
    "Dr. GRPO drops the KL penalty, the standard deviation and the division by each response's own length. Its "
    "objective divides by no length at all; its code divides by one fixed length, which changes the scale alone.",
    holds(
        equals(
            fixed_length(no_divergence, denominator=B),
            sum_over(sum_over(mask[i, t] * written_out, t), i) / (B * max_length),
        ),
        name="loss",
        by=finite_sum(),
    ),
    holds(
        equals(max_length * fixed_length(no_divergence), sequence_sum(no_divergence)),
        name="the objective, but for its scale",
        by=finite_sum(),
    ),
    holds(
        equals(centred(), (group_std() + eps) * group_advantage()),
        name="advantage",
        assuming=[several, spread],
        by=finite_sum(),
    ),
    holds(
        equals(
            Diff(fixed_length(), per_token[row, position]),
            Diff(sequence_mean(), per_token[row, position]) * row_count(row) / max_length,
        ),
        name="weight of a token",
        by=finite_sum(),
    ),
    source=DR_GRPO,
    wrong=[
        wrong(
            "the length of each response",
            equals(
                fixed_length(no_divergence, denominator=B),
                sum_over(sum_over(mask[i, t] * written_out, t) / row_count(), i) / B,
            ),
        ),
        wrong(
            "it does not change the advantages",
            equals(centred(), group_advantage()),
            assuming=[several, spread],
        ),
    ],
)

claim(
    "grpo.dapo",
    "DAPO drops the KL penalty, gives every token of the batch the same weight, and has a separate upper clip edge.",
    holds(
        equals(
            token_mean(no_divergence, denominator=token_count()),
            sum_over(mask[i, t] * written_out, i, t) / Max(1, sum_over(mask[i, t], i, t)),
        ),
        name="loss",
        by=finite_sum(),
    ),
    holds(
        equals(clipped_surrogate(), rho * advantage),
        name="a rising token moves up to its own edge",
        assuming=[greater(advantage, 0), at_most(rho, upper_edge)],
        by=smt(),
    ),
    source=DAPO,
    wrong=[
        wrong(
            "the mean over responses of the mean over tokens",
            equals(
                token_mean(no_divergence, denominator=token_count()),
                sum_over(sum_over(mask[i, t] * written_out, t) / row_count(), i) / B,
            ),
        ),
        wrong(
            "one edge for both sides",
            equals(clipped_surrogate(clip_high=clip_low), rho * advantage),
            assuming=[greater(advantage, 0), at_most(rho, upper_edge)],
        ),
    ],
)

# One ratio for each sequence.

log_ratio_mean = sum_over(mask[row, t] * (logps[row, t] - old_logps[row, t]), t) / row_count(row)

sequence_ratio = define(
    "grpo.gspo.ratio",
    "Likelihood ratio of a sequence, raised to the power of 1 over its length.",
    (row, logps, old_logps, mask),
    exp(log_ratio_mean),
    tex=r"s_{{{row}}}",
    domain=Positive,
    source=ZHENG,
)

any_token = define(
    "grpo.gspo.any_token",
    "1 for a sequence with a token that counts, else 0: a sequence without tokens contributes 0 by convention.",
    (row, mask),
    Min(1, sum_over(mask[row, t], t)),
    tex=r"n_{{{row}}}^0",
    convention=True,
)

sequence_objective = define(
    "grpo.gspo.objective",
    "Clipped surrogate of a sequence, to be maximised.",
    (row, logps, old_logps, mask, advantage, clip_low, clip_high),
    any_token() * clipped_surrogate(sequence_ratio()),
    tex=r"J_{{{row}}}",
    source=ZHENG,
)

claim(
    "grpo.gspo.ratio_gradient",
    "Every token that counts changes the ratio of its sequence by the same share.",
    holds(
        equals(Diff(sequence_ratio(), logps[row, position]), sequence_ratio() * own_mask / row_count(row)),
        by=finite_sum(),
    ),
    source=ZHENG,
    wrong=[
        wrong(
            "without the length, as for the ratio of whole sequences",
            equals(Diff(sequence_ratio(), logps[row, position]), sequence_ratio() * own_mask),
        ),
        wrong(
            "padding changes it, too",
            equals(Diff(sequence_ratio(), logps[row, position]), sequence_ratio() / row_count(row)),
        ),
    ],
)

others_counted = sum_over((1 - delta(t, position)) * mask[row, t], t)
row_sum = sum_over(mask[row, t], t)

claim(
    "grpo.gspo.empty",
    "The convention affects only sequences without tokens, which contribute 0.",
    holds(
        equals(any_token(), Min(1, row_sum)),
        name="convention",
        by=finite_sum(),
        equivalent={
            "right: (Σ_{t≤T} mask[row, t]) → 2*(Σ_{t≤T} mask[row, t])": "true: the number of tokens is 0 or at least 1",
            "right: mask[row, t] → 2*mask[row, t]": "true, for the same reason",
        },
    ),
    holds(at_least(others_counted, 0), name="no count is negative", by=termwise(0)),
    holds(equals(others_counted, row_sum - own_mask), name="counts", by=finite_sum()),
    holds(
        equals(any_token() * own_mask, own_mask),
        name="a token that counts",
        by=smt(
            given=[
                fact("grpo.gspo.empty", part="convention"),
                fact("grpo.gspo.empty", part="no count is negative"),
                fact("grpo.gspo.empty", part="counts"),
            ]
        ),
    ),
    holds(
        equals(any_token(), 0),
        name="no token",
        assuming=[equals(row_sum, 0)],
        by=smt(given=[fact("grpo.gspo.empty", part="convention")]),
    ),
    wrong=[wrong("every sequence has a token", equals(any_token(), 1))],
)

gspo_no_kink = [differs(sequence_ratio(), upper_edge), differs(sequence_ratio(), lower_edge)]

claim(
    "grpo.gspo.gradient",
    "Every token of a sequence has the same slope: that of the clipped surrogate at the ratio of the sequence, "
    "divided by its length. A sequence is clipped as a whole.",
    holds(
        equals(Diff(surrogate, rho), cases((advantage, counts), (0, True))),
        name="in the ratio",
        assuming=no_kink,
        by=slope(radius=Min(abs(rho - upper_edge), abs(rho - lower_edge))),
    ),
    holds(
        equals(
            Diff(clipped_surrogate(sequence_ratio()), logps[row, position]),
            clip_slope(sequence_ratio()) * own_mask / row_count(row),
        ),
        name="in the log-probability",
        assuming=gspo_no_kink,
        by=chain_rule(inner="grpo.gspo.ratio_gradient", outer="in the ratio", at={rho: sequence_ratio()}),
    ),
    holds(
        equals(
            Diff(sequence_objective(), logps[row, position]),
            clip_slope(sequence_ratio()) * own_mask / row_count(row),
        ),
        name="of the objective",
        assuming=gspo_no_kink,
        by=chain(
            step(
                any_token() * clip_slope(sequence_ratio()) * own_mask / row_count(row),
                by=by_terms(fact("grpo.gspo.gradient", part="in the log-probability")),
            ),
            step(
                clip_slope(sequence_ratio()) * own_mask / row_count(row),
                by=smt(given=[fact("grpo.gspo.empty", part="a token that counts")]),
            ),
        ),
    ),
    source=ZHENG,
    wrong=[
        wrong(
            "the sum of log-ratios in place of their mean",
            equals(
                Diff(clipped_surrogate(sequence_ratio()), logps[row, position]),
                clip_slope(sequence_ratio()) * own_mask,
            ),
            assuming=gspo_no_kink,
        ),
        wrong(
            "the ratio of the token in place of that of the sequence",
            equals(
                Diff(clipped_surrogate(sequence_ratio()), logps[row, position]),
                clip_slope(ratio(logps[row, position], old_logps[row, position])) * own_mask / row_count(row),
            ),
            assuming=gspo_no_kink,
        ),
    ],
)

# A clipped weight, held constant.

constant_weight = symbol("constant_weight", NonNegative, "weight of a token, held constant", tex="w")

cispo_weight = define(
    "grpo.cispo.weight",
    "Clipped ratio of a token, used as a weight and not differentiated.",
    (rho, clip_low, clip_high),
    clip(rho, lower_edge, upper_edge),
    tex=r"w({rho})",
    source=MINIMAX,
)

cispo_objective = define(
    "grpo.cispo.objective",
    "Log-probability of a token, weighted by its advantage and by a constant, to be maximised.",
    (logp, advantage, constant_weight),
    constant_weight * advantage * logp,
    tex=r"J({logp})",
    source=MINIMAX,
)

held = At(Diff(cispo_objective(), logp), constant_weight, cispo_weight(ratio()))

claim(
    "grpo.cispo.gradient",
    "Every token keeps its slope, weighted by the clipped ratio. The weight is positive, so clipping removes no token: "
    "a slope is zero only where the advantage is.",
    holds(equals(held, cispo_weight(ratio()) * advantage), name="in the log-probability", by=algebra()),
    holds(greater(cispo_weight(), 0), name="the weight is positive", by=smt()),
    holds(
        iff(equals(cispo_weight() * advantage, 0), equals(advantage, 0)),
        name="no token is removed",
        by=smt(),
    ),
    holds(
        at_most(abs(cispo_weight() * advantage), upper_edge * abs(advantage)),
        name="cap",
        by=smt(),
    ),
    holds(equals(cispo_weight(clip_low=1), Min(rho, upper_edge)), name="without a lower clip", by=smt()),
    holds(
        equals(cispo_weight(), rho),
        name="inside the interval it is the policy gradient",
        assuming=[at_least(rho, lower_edge), at_most(rho, upper_edge)],
        by=smt(),
    ),
    source=MINIMAX,
    wrong=[
        wrong(
            "the weight is differentiated, too",
            equals(Diff(ratio() * advantage * logp, logp), cispo_weight(ratio()) * advantage),
        ),
        wrong("a clipped token has no slope", equals(held, clip_slope(ratio()))),
    ],
)

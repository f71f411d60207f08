"""Group relative policy optimisation: the clipped loss of group advantages, with a KL penalty, and its variants.

Z. Shao et al., DeepSeekMath, arXiv:2402.03300, section 4. Variants: Dr. GRPO (Z. Liu et al., arXiv:2503.20783), DAPO
(Q. Yu et al., arXiv:2503.14476), CISPO (MiniMax-M1, arXiv:2506.13585).
"""

from sympy import Integer, Lambda, Max, Min, exp

from grape_spec.advantage import eps
from grape_spec.aggregation import (
    DAPO,
    DR_GRPO,
    B,
    S,
    denominator,
    fixed_length,
    i,
    mask,
    max_length,
    modes,
    own_mask,
    part,
    per_token,
    position,
    row,
    row_count,
    s,
    sequence_mean,
    sequence_sum,
    token_count,
    token_mean,
    weight,
)
from grape_spec.group_advantage import SHAO, centred, group_advantage, group_mean, group_std, several, spread
from grape_spec.kl import estimators, k3, ref_logp
from grape_spec.kl_penalty import kl_coef
from grape_spec.language import (
    At,
    Diff,
    NonNegative,
    OneSided,
    Real,
    Smooth,
    Source,
    at_least,
    at_most,
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
    lower_edge,
    old_logp,
    ratio,
    rho,
    surrogate,
    upper_edge,
)
from grape_spec.proof.rules import algebra, by_terms, chain, fact, finite_sum, smt, step
from grape_spec.reinforce import G, g, h, response_reward

MINIMAX = Source("minimax2025m1")

# The loss of one token, and of a batch.

kl_term = symbol("kl_term", Real, "estimate of the KL divergence from the reference at a token", tex="k")
logps = family("logps", Real, B, T, text="log-probability of each token under the policy being trained", tex=r"\ell")
old_logps = family(
    "old_logps",
    Real,
    B,
    T,
    text="log-probability of each token under the old policy, which sampled it",
    tex=r"\ell_{\mathrm{old}}",
)
ref_logps = family(
    "ref_logps", Real, B, T, text="log-probability of each token under the frozen reference", tex=r"\ell_{\mathrm{ref}}"
)
advantages = family("advantages", Real, B, text="advantage of each sequence", tex="A")

token_objective = define(
    "grpo.token_objective",
    "Clipped surrogate of a token minus the KL penalty, to be maximised.",
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
    tex=r"J_{{\mathrm{{GRPO}}}}",
    source=SHAO.eq(3),
)

estimator_slopes = {"k1": Integer(1), "k2": logp - ref_logp, "k3": 1 - exp(ref_logp - logp)}
no_ratio_at_kink = [differs(ratio(), upper_edge), differs(ratio(), lower_edge)]
token_value = function("token_value", Smooth, "objective of each token, as a function of the parameter", tex="J")
smooth_batch = Lambda((i, t), token_value(i, t, theta))

own_logp, own_old_logp, own_ref_logp = (of[row, position] for of in (logps, old_logps, ref_logps))
own_ratio = ratio(own_logp, own_old_logp)
no_own_kink = [differs(own_ratio, upper_edge), differs(own_ratio, lower_edge)]
own_slope = clip_slope(own_ratio, advantages[row]) - kl_coef * (1 - exp(own_ref_logp - own_logp))
own_token = {"logp": own_logp, "old_logp": own_old_logp, "ref_logp": own_ref_logp, "advantage": advantages[row]}

claim(
    "grpo.gradient",
    "The slope of a token is that of its clipped surrogate minus β times that of the KL estimate, 1 − exp(ref − logp) "
    "for k3. Under every mode, the derivative of the objective in the log-probability of a token is the slope of that "
    "token times its weight in the aggregation, and the derivative in a parameter is the sum over the tokens.",
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
    *(
        holds(
            equals(Diff(mode(of_batch), own_logp), weight[name] * own_slope),
            name=f"in the log-probability of a token, {name}",
            assuming=no_own_kink,
            by=by_terms(fact("grpo.gradient", part="one token, k3", **own_token)),
        )
        for name, mode in modes.items()
        if mode is not sequence_mean  # that is the objective
    ),
    holds(
        equals(Diff(objective(), own_logp), weight["sequence_mean"] * own_slope),
        name="of the objective",
        assuming=no_own_kink,
        by=by_terms(fact("grpo.gradient", part="one token, k3", **own_token)),
    ),
    source=SHAO.section(4),
    wrong=[
        wrong(
            "the reference and the policy swapped",
            equals(Diff(k3(), logp), exp(logp - ref_logp) - 1),
        ),
        wrong("the slope of k1 in place of k3", equals(Diff(k3(), logp), 1)),
        wrong(
            "the weight of a mean over all tokens",
            equals(Diff(objective(), own_logp), weight["token_mean"] * own_slope),
            assuming=no_own_kink,
        ),
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
    "old_response_logps",
    Real,
    G,
    text="log-probability of each response under the old policy, which sampled it",
    tex=r"\ell_{\mathrm{old}}",
)
weighted = sum_over(exp(response_logps[h] - old_response_logps[h]) * centred(h), h)
reinforced = sum_over(centred(h) * response_logps[h], h)
reinforced_tokens = Lambda((i, t), advantages[i] * logps[i, t])
at_one = equals(ratio(), 1)
open_on_both_sides = [greater(clip_low, 0), greater(clip_high, 0)]

claim(
    "grpo.on_policy",
    "While the policy is still the old policy, no token is clipped, and GRPO without a KL penalty has the gradient of "
    "REINFORCE, each log-probability weighted by the advantage of its response and averaged over tokens, then over "
    "responses. That advantage is the reward minus the mean of the group, which is the baseline, divided by the scale.",
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
        name="a group, one ratio for each response and no scale",
        by=finite_sum(),
    ),
    holds(
        equals(Diff(objective(kl_coef=0), own_logp), Diff(sequence_mean(reinforced_tokens), own_logp)),
        name="of the objective",
        assuming=[equals(own_ratio, 1), *open_on_both_sides],
        by=chain(
            step(
                weight["sequence_mean"] * advantages[row],
                by=by_terms(fact("grpo.gradient", part="one token, k3", kl_coef=0, **own_token)),
            ),
            step(Diff(sequence_mean(reinforced_tokens), own_logp), by=finite_sum()),
        ),
    ),
    holds(
        equals(group_advantage(), (response_reward[g] - group_mean()) / (group_std() + eps)),
        name="the advantage of a response",
        assuming=[several, spread],
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
            "a clipped token keeps its slope",
            equals(Diff(objective(kl_coef=0), own_logp), Diff(sequence_mean(reinforced_tokens), own_logp)),
            assuming=no_own_kink,
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
    "objective divides by no length at all; its code divides by one fixed length, which changes only the scale.",
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

clipped_token = clipped_surrogate(ratio(logps[i, t], old_logps[i, t]), advantages[i])
tokens_of_prompt = sum_over(part[i, s] * mask[i, t], i, t)

dapo_objective = define(
    "grpo.dapo.objective",
    "Mean over prompts of the mean over all tokens of the responses to a prompt, to be maximised.",
    (logps, old_logps, advantages, mask, part, clip_low, clip_high),
    sum_over(sum_over(part[i, s] * mask[i, t] * clipped_token, i, t) / Max(1, tokens_of_prompt), s) / S,
    tex=r"J_{{\mathrm{{DAPO}}}}",
    source=DAPO.eq(8),
)

claim(
    "grpo.dapo",
    "DAPO drops the KL penalty, gives every token of the responses to a prompt the same weight, and has a separate "
    "upper clip edge; over several prompts its objective is the mean of these means, not one mean over all tokens. Its "
    "dynamic sampling and its penalty on overlong responses change samples and rewards, and are not in the loss.",
    holds(
        equals(
            token_mean(no_divergence, denominator=token_count()),
            sum_over(mask[i, t] * written_out, i, t) / Max(1, sum_over(mask[i, t], i, t)),
        ),
        name="loss",
        by=finite_sum(),
    ),
    holds(
        equals(dapo_objective(part=Lambda((i, s), 1)), token_mean(no_divergence, denominator=token_count())),
        name="the objective of one prompt",
        by=finite_sum(),
    ),
    holds(
        equals(clipped_surrogate(), rho * advantage),
        name="a rising token moves up to its own edge",
        assuming=[greater(advantage, 0), at_most(rho, upper_edge)],
        by=smt(),
    ),
    holds(
        equals(clipped_surrogate(advantage=0), 0),
        name="rewards that are all alike, which its sampling leaves out, add nothing",
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
            "one mean over the tokens of all prompts",
            equals(dapo_objective(), token_mean(no_divergence, denominator=token_count())),
        ),
        wrong(
            "one edge for both sides",
            equals(clipped_surrogate(clip_high=clip_low), rho * advantage),
            assuming=[greater(advantage, 0), at_most(rho, upper_edge)],
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
    tex=r"J_{{\mathrm{{CISPO}}}}({logp})",
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

"""Off-policy corrections: tokens that another policy sampled, weighted by the importance ratio, whole, cut or masked.

The sampler is the policy of the program that generated the tokens; even with the same parameters its probabilities are
not those that the trainer computes. The weight of a token is a constant: it is not differentiated.

E. L. Ionides, Truncated Importance Sampling, 2008, cuts a ratio at a cap; Ling Team, arXiv:2510.18855, masks a token
whose ratio is outside of a range (IcePop). Their texts were not compared.
"""

from typing import Any

from sympy import And, Integer, Lambda, Max, exp, log

from grape_spec.aggregation import B, denominator, i, mask, part, per_token, row, s, token_count, token_mean
from grape_spec.kl import n, p, q, y
from grape_spec.language import (
    Diff,
    Mask,
    NonNegative,
    Positive,
    Real,
    Simplex,
    Source,
    at_least,
    at_most,
    cases,
    claim,
    clip,
    define,
    delta,
    equals,
    family,
    greater,
    holds,
    less,
    product_over,
    recursive,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import P, T, V, a, after, end, j, k, left, logits, next_token, score, softmax, t, v
from grape_spec.policy_improvement import expected_reward, prefix_reward
from grape_spec.proof.rules import (
    algebra,
    fact,
    finite_sum,
    induction,
    over_depth,
    smt,
    termwise,
)
from grape_spec.reinforce import baseline, policy_gradient, token_reward
from grape_spec.trpo import statistic

IONIDES = Source("ionides2008truncated")
ICEPOP = Source("ling2025every")

trainer_logp = symbol(
    "trainer_logp", Real, "log-probability of the token as the trainer computes it", tex=r"\ell_{\pi}"
)
sampler_logp = symbol(
    "sampler_logp", Real, "log-probability of the token under the policy that sampled it", tex=r"\ell_{\mu}"
)
omega = symbol("omega", Positive, "importance ratio of a token or of a sequence", tex=r"\omega")
low = symbol("weight_low", NonNegative, "smallest weight, or ratio that is kept", tex=r"C_{\min}")
high = symbol("weight_high", Positive, "largest weight, or ratio that is kept", tex="C")
higher = symbol("higher", Positive, "another cap, no smaller", tex="C'")

importance_ratio = define(
    "importance.ratio",
    "Importance ratio of a token: its probability under the trainer's policy over that under the sampler's.",
    (trainer_logp, sampler_logp),
    exp(trainer_logp - sampler_logp),
    tex=r"\omega",
    domain=Positive,
)

truncated = define(
    "importance.truncated",
    "Truncated weight: the ratio, or the nearer end of the range [C_min, C] where it is outside.",
    (omega, low, high),
    clip(omega, low, high),
    tex=r"w_{{\mathrm{{trunc}}}}({omega}, {weight_low}, {weight_high})",
    source=IONIDES,
)

excess = define(
    "importance.excess",
    "What a cap takes off a ratio.",
    (omega, high),
    omega - truncated(omega, 0, high),
    tex=r"\Delta({omega}, {weight_high})",
)

masked = define(
    "importance.masked",
    "Masked weight: the ratio, or 0 where it is outside the range [C_min, C], whose ends belong to it.",
    (omega, low, high),
    cases((omega, And(low <= omega, omega <= high)), (0, True)),
    tex=r"w_{{\mathrm{{mask}}}}({omega}, {weight_low}, {weight_high})",
    source=ICEPOP,
)

# An outcome is a token or a whole response; p is its probability under the trainer's policy, q under the sampler's.

of_outcome = importance_ratio(log(p[y]), log(q[y]))
capped = truncated(omega, 0, high)


def at(outcome_ratio: Any, cap: Any = high) -> Any:
    """The weight of an outcome under a cap."""
    return truncated(outcome_ratio, 0, cap)


def mean(weight: Any, value: Any = statistic[y]) -> Any:
    """The expectation of a weighted quantity under the sampler."""
    return sum_over(q[y] * weight * value, y)


true_mean = sum_over(p[y] * statistic[y], y)

# A response of one token, whose score is that of the trainer's policy.

sampler = family("sampler", Simplex, V, text="probability of each token under the sampler", tex=r"\pi_{\mu}")
of_token = importance_ratio(log(softmax(a)), log(sampler[a]))


def sampled(value: Any) -> Any:
    """The expectation over a token that the sampler drew."""
    return sum_over(sampler[a] * value, a)


UNBIASED = "importance.unbiased"
RATIO = fact(UNBIASED, part="ratio")

claim(
    UNBIASED,
    "Weighted by the importance ratio, the tokens of a sampler give the expectation under the trainer's policy, and "
    "its policy gradient, with any baseline. The sampler must be able to draw every token that the policy can.",
    holds(equals(of_outcome, p[y] / q[y]), name="ratio", by=algebra()),
    holds(equals(mean(of_outcome), true_mean), name="any quantity", by=finite_sum()),
    holds(
        equals(sampled(of_token * (token_reward[a] - baseline) * score), policy_gradient),
        name="policy gradient",
        by=finite_sum(),
    ),
    uses=["trpo.importance.identity", "reinforce.baseline.unbiased"],
    wrong=[
        wrong("the inverse ratio", equals(mean(1 / of_outcome), true_mean)),
        wrong(
            "without the ratio",
            equals(sampled((token_reward[a] - baseline) * score), policy_gradient),
        ),
        wrong(
            "the ratio differentiated, too",
            equals(
                sampled(Diff(of_token * (token_reward[a] - baseline) * log(softmax(a)), logits[k])), policy_gradient
            ),
        ),
        wrong(
            "the weight divided by the mean weight, of a single sample",
            equals(mean(of_outcome / of_outcome), true_mean),
        ),
    ],
)

TRUNCATION = "importance.truncation.bias"

claim(
    TRUNCATION,
    "A cap C takes off what the ratio has above it, and the bias is the expectation of that under the sampler; a ratio "
    "that does not reach the cap loses nothing.",
    holds(equals(excess(), Max(omega - high, 0)), name="what is taken off", by=smt()),
    holds(equals(capped, omega), name="below the cap", assuming=[at_most(omega, high)], by=smt()),
    holds(equals(capped, high), name="above the cap", assuming=[at_least(omega, high)], by=smt()),
    holds(equals(mean(at(of_outcome)), true_mean - mean(excess(of_outcome))), name="bias", by=finite_sum()),
    source=IONIDES,
    wrong=[
        wrong("no bias", equals(mean(at(of_outcome)), true_mean)),
        wrong(
            "the cap on the log-ratio",
            equals(mean(exp(clip(log(p[y]) - log(q[y]), 0, high))), true_mean - mean(excess(of_outcome))),
        ),
        wrong(
            "the excess expected under the trainer's policy",
            equals(mean(at(of_outcome)), true_mean - sum_over(p[y] * excess(of_outcome) * statistic[y], y)),
        ),
    ],
)

MOMENT = "importance.truncation.second_moment"

claim(
    MOMENT,
    "With a cap C the second moment of the estimate is at most C times that under the trainer's policy, whatever the "
    "ratios; without one it has no such bound.",
    holds(at_most(capped**2, high * omega), name="a weight", by=smt()),
    holds(
        at_most(mean(at(of_outcome) ** 2, statistic[y] ** 2), high * sum_over(p[y] * statistic[y] ** 2, y)),
        name="bound",
        by=termwise(high * p[y] * statistic[y] ** 2, given=[RATIO, fact(MOMENT, part="a weight", omega=of_outcome)]),
        equivalent={
            f"right: {mutant}": "true and weaker, as no term is negative"
            for mutant in (
                "weight_high*(Σ_{y≤n} p[y]*statistic[y]**2) → 2*weight_high*(Σ_{y≤n} p[y]*statistic[y]**2)",
                "weight_high → weight_high + 1",
                "p[y]*statistic[y]**2 → 2*p[y]*statistic[y]**2",
                "p[y]*statistic[y]**2 → statistic[y]**2",
                "statistic[y] → 2*statistic[y]",
                "p[y] → p[y] + 1",
            )
        },
    ),
    source=IONIDES,
    wrong=[
        wrong(
            "without the cap",
            at_most(mean(of_outcome**2, statistic[y] ** 2), high * sum_over(p[y] * statistic[y] ** 2, y)),
        ),
        wrong(
            "no more than under the trainer's policy",
            at_most(mean(at(of_outcome) ** 2, statistic[y] ** 2), sum_over(p[y] * statistic[y] ** 2, y)),
        ),
    ],
)

MONOTONE = "importance.truncation.monotone"
not_negative = at_least(statistic[y], 0)
never_reached = at_most(of_outcome, high)

claim(
    MONOTONE,
    "For a quantity that is never negative, a cap lowers the mean, and the less, the higher it is; a cap that no ratio "
    "exceeds leaves every mean as it is.",
    holds(at_most(capped, truncated(omega, 0, higher)), name="a weight", assuming=[at_most(high, higher)], by=smt()),
    holds(at_most(capped, omega), name="a weight and its ratio", by=smt()),
    holds(
        at_least(mean(at(of_outcome, higher) - at(of_outcome)), 0),
        name="a higher cap",
        assuming=[not_negative, at_most(high, higher)],
        by=termwise(0),
    ),
    holds(
        at_most(mean(at(of_outcome)), true_mean),
        name="below the true mean",
        assuming=[not_negative],
        by=termwise(p[y] * statistic[y], given=[fact(MONOTONE, part="a weight and its ratio", omega=of_outcome)]),
        equivalent={
            f"right: {mutant}": "true and weaker, as no term is negative"
            for mutant in (
                "(Σ_{y≤n} p[y]*statistic[y]) → 2*(Σ_{y≤n} p[y]*statistic[y])",
                "p[y]*statistic[y] → 2*p[y]*statistic[y]",
                "p[y]*statistic[y] → statistic[y]",
                "p[y] → p[y] + 1",
            )
        },
    ),
    *(
        holds(
            relation(mean(at(of_outcome) - of_outcome), 0),
            name=f"what is taken off, {name}",
            assuming=[never_reached],
            by=termwise(0, given=[RATIO]),
        )
        for name, relation in (("from below", at_least), ("from above", at_most))
    ),
    holds(
        equals(mean(at(of_outcome)), true_mean),
        name="a cap that no ratio exceeds",
        assuming=[never_reached],
        by=smt(
            given=[
                fact(MONOTONE, part="what is taken off, from below"),
                fact(MONOTONE, part="what is taken off, from above"),
                fact(UNBIASED, part="any quantity"),
            ]
        ),
    ),
    source=IONIDES,
    wrong=[
        wrong("for every quantity", at_most(mean(at(of_outcome)), true_mean)),
        wrong(
            "a lower end only lowers, too",
            at_most(mean(truncated(of_outcome, low, high)), true_mean),
            assuming=[not_negative],
        ),
    ],
)

kept = family("kept_outcome", Mask(), n, text="1 where the weight of an outcome is kept, else 0", tex=r"\kappa")
kept_token = family("kept_token", Mask(), V, text="1 where the weight of a token is kept, else 0", tex=r"\kappa")

claim(
    "importance.masked.mean",
    "Masked weights give the expectation over what is kept, not the expectation given that it is kept: what is masked "
    "counts as zero. The mean weight is the probability, under the trainer's policy, that an outcome is kept.",
    holds(
        equals(masked(), omega),
        name="inside the range",
        assuming=[at_most(low, omega), at_most(omega, high)],
        by=smt(),
    ),
    holds(equals(masked(), 0), name="above it", assuming=[greater(omega, high)], by=smt()),
    holds(equals(masked(), 0), name="below it", assuming=[less(omega, low)], by=smt()),
    holds(
        equals(mean(kept[y] * of_outcome), sum_over(p[y] * kept[y] * statistic[y], y)),
        name="mean",
        by=finite_sum(),
    ),
    holds(
        equals(mean(kept[y] * of_outcome, 1), sum_over(p[y] * kept[y], y)),
        name="mean weight",
        by=finite_sum(),
    ),
    holds(
        equals(mean(kept[y] * of_outcome), true_mean - sum_over(p[y] * (1 - kept[y]) * statistic[y], y)),
        name="bias",
        by=finite_sum(),
    ),
    source=ICEPOP,
    wrong=[
        wrong("unbiased", equals(mean(kept[y] * of_outcome), true_mean)),
        wrong(
            "the expectation given that it is kept",
            equals(
                mean(kept[y] * of_outcome),
                sum_over(p[y] * kept[y] * statistic[y], y) / sum_over(p[y] * kept[y], y),
            ),
            assuming=[greater(sum_over(p[y] * kept[y], y), 0)],
        ),
        wrong(
            "the mask on the log-ratio",
            equals(cases((omega, And(low <= log(omega), log(omega) <= high)), (0, True)), masked()),
        ),
        wrong(
            "the range applied to the weight, where outside is its nearer end",
            equals(masked(), truncated()),
        ),
    ],
)

kept_mass = sum_over(softmax(v) * kept_token[v], v)
capped_token = at(of_token)

claim(
    "importance.baseline",
    "A constant added to every reward changes nothing in expectation under the whole ratio; under a cap or a mask it "
    "changes the update, by what the cap takes off or along the gradient of the probability of what is kept.",
    holds(
        equals(sampled(of_token * score), 0),
        name="whole ratio",
        by=finite_sum(),
        equivalent={
            "left: log(softmax(a)) → log(softmax(a)) + 1": "true: the ratio is e times as large, and the mean still 0",
        },
    ),
    holds(equals(sampled(capped_token * score), -sampled(excess(of_token) * score)), name="truncated", by=finite_sum()),
    holds(
        equals(sampled(kept_token[a] * of_token * score), Diff(kept_mass, logits[k])),
        name="masked",
        by=finite_sum(),
    ),
    holds(
        equals(
            sampled(kept_token[a] * of_token * (token_reward[a] - baseline) * score),
            sampled(kept_token[a] * of_token * token_reward[a] * score) - baseline * Diff(kept_mass, logits[k]),
        ),
        name="what a baseline adds under a mask",
        by=finite_sum(),
    ),
    uses=["policy.score.mean_zero"],
    source=ICEPOP,
    wrong=[
        wrong("truncated weights have none of it either", equals(sampled(capped_token * score), 0)),
        wrong("masked weights have none of it either", equals(sampled(kept_token[a] * of_token * score), 0)),
        wrong(
            "the sign flipped",
            equals(sampled(capped_token * score), sampled(excess(of_token) * score)),
        ),
    ],
)

# Batches: which denominator a masked loss has.

keep = family("keep_token", Mask(), B, T, text="1 where the weight of a token is kept, else 0", tex=r"\kappa")
kept_losses = Lambda((i, t), keep[i, t] * per_token[i, t])
both_masks = Lambda((i, t), keep[i, t] * mask[i, t])
kept_of_part = sum_over(part[i, s] * keep[i, t] * mask[i, t] * per_token[i, t], i, t)
kept_count_of_part = Max(1, sum_over(part[i, s] * keep[i, t] * mask[i, t], i, t))

claim(
    "importance.masked.denominator",
    "With the number of tokens before the mask as the denominator, a masked loss is the sum of the kept terms over a "
    "number that no ratio changes, and parts of a batch add up. With the number of kept tokens it is another loss, "
    "larger by the quotient of the two numbers.",
    holds(
        equals(sum_over(kept_of_part / denominator, s), token_mean(kept_losses)),
        name="parts add up",
        by=finite_sum(),
    ),
    holds(
        equals(
            token_mean(mask=both_masks, denominator=token_count(both_masks)),
            token_mean(kept_losses, denominator=token_count()) * token_count() / token_count(both_masks),
        ),
        name="after the mask",
        by=finite_sum(),
    ),
    source=ICEPOP,
    wrong=[
        wrong(
            "the denominator makes no difference",
            equals(
                token_mean(mask=both_masks, denominator=token_count(both_masks)),
                token_mean(kept_losses, denominator=token_count()),
            ),
        ),
        wrong(
            "parts with their own numbers of kept tokens add up",
            equals(
                sum_over(kept_of_part / kept_count_of_part, s),
                token_mean(mask=both_masks, denominator=token_count(both_masks)),
            ),
        ),
    ],
)


# Whole responses: the ratio of a response is the product of the ratios of its tokens.

trainer_logps = family(
    "trainer_logps", Real, B, T, text="log-probability of each token as the trainer computes it", tex=r"\ell_{\pi}"
)
sampler_logps = family(
    "sampler_logps",
    Real,
    B,
    T,
    text="log-probability of each token under the policy that sampled it",
    tex=r"\ell_{\mu}",
)
own_log_ratio = mask[row, t] * (trainer_logps[row, t] - sampler_logps[row, t])

sequence_ratio = define(
    "importance.sequence_ratio",
    "Importance ratio of a sequence: the product of the ratios of its tokens that count, so 1 if there are none.",
    (row, trainer_logps, sampler_logps, mask),
    exp(sum_over(own_log_ratio, t)),
    tex=r"\omega_{{{row}}}",
    domain=Positive,
)

trainer_token = family(
    "trainer_token", Positive, n, T, text="probability of each token of each response under the trainer", tex="p"
)
sampler_token = family(
    "sampler_token", Positive, n, T, text="probability of each token of each response under the sampler", tex="q"
)
of_trainer = exp(sum_over(log(trainer_token[y, t]), t))
of_sampler = exp(sum_over(log(sampler_token[y, t]), t))
token_log_ratio = log(trainer_token[y, t]) - log(sampler_token[y, t])
of_response = exp(sum_over(token_log_ratio, t))
reward_of_response = sum_over(of_trainer * statistic[y], y)

sampler_next_token = family(
    "sampler_next_token",
    Simplex,
    P,
    V,
    text="probability of each next token after prefix j under the sampler",
    tex=r"\pi_{\mu}",
)
next_ratio = next_token[j, v] / sampler_next_token[j, v]
weight_so_far = symbol("weight_so_far", Real, "importance ratio of the tokens so far", tex="W")
goes_on = 1 - delta(v, end)

weighted_reward = recursive(
    "importance.weighted_reward",
    "Expectation, over the responses that the sampler draws after a prefix, of the reward times the importance ratio "
    "of the whole response.",
    (left, j, weight_so_far, end, next_token, sampler_next_token, after, prefix_reward),
    left,
    weight_so_far * prefix_reward[j],
    lambda later: sum_over(
        sampler_next_token[j, v]
        * (
            delta(v, end) * weight_so_far * next_ratio * prefix_reward[j]
            + goes_on * later(j=after[j, v], weight_so_far=weight_so_far * next_ratio)
        ),
        v,
    ),
    tex=r"E_{{{left}}}({j}, {weight_so_far})",
)

all_count, none_counts = Lambda((i, t), 1), Lambda((i, t), 0)
all_of_response = sequence_ratio(
    trainer_logps=Lambda((i, t), log(trainer_token[y, t])),
    sampler_logps=Lambda((i, t), log(sampler_token[y, t])),
    mask=all_count,
)
elsewhere = Lambda((i, t), sampler_logps[i, t] + (1 - mask[i, t]) * weight_so_far)

PRODUCT = "importance.sequence.product"

claim(
    PRODUCT,
    "The importance ratio of a response is the product of the ratios of its tokens; weighted by it, the responses of a "
    "sampler give the expected reward of the trainer's policy, for responses of any length.",
    *(
        holds(
            equals(log(product_over(probability[y, t], t)), sum_over(log(probability[y, t]), t)),
            name=f"log-probability under the {name}",
            by=induction(T),
        )
        for name, probability in (("trainer", trainer_token), ("sampler", sampler_token))
    ),
    holds(
        equals(log(product_over(trainer_token[y, t], t) / product_over(sampler_token[y, t], t)), log(all_of_response)),
        name="quotient of the probabilities",
        by=smt(
            given=[
                fact(PRODUCT, part="log-probability under the trainer"),
                fact(PRODUCT, part="log-probability under the sampler"),
            ]
        ),
    ),
    holds(equals(sequence_ratio(mask=none_counts), 1), name="no token that counts", by=finite_sum()),
    holds(
        equals(sequence_ratio(sampler_logps=elsewhere), sequence_ratio()),
        name="tokens that do not count change nothing",
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(of_sampler * of_response * statistic[y], y), reward_of_response),
        name="responses of T tokens",
        by=finite_sum(),
    ),
    holds(equals(weighted_reward(), weight_so_far * expected_reward()), name="from any prefix", by=over_depth(left)),
    holds(
        equals(weighted_reward(weight_so_far=1), expected_reward()),
        name="all responses of at most T tokens",
        by=smt(given=[fact(PRODUCT, part="from any prefix", weight_so_far=Integer(1))]),
    ),
    uses=["policy.sequence.log_prob"],
    wrong=[
        wrong(
            "the geometric mean of the ratios of its tokens",
            equals(sum_over(of_sampler * exp(sum_over(token_log_ratio, t) / T) * statistic[y], y), reward_of_response),
        ),
        wrong(
            "the mean of the ratios of its tokens",
            equals(sum_over(of_sampler * sum_over(exp(token_log_ratio), t) / T * statistic[y], y), reward_of_response),
        ),
        wrong(
            "tokens that do not count change it, too",
            equals(sequence_ratio(mask=none_counts), sequence_ratio(mask=all_count)),
        ),
        wrong("the sum of the ratios", equals(all_of_response, sum_over(exp(token_log_ratio), t))),
    ],
)

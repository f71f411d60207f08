"""GRAPE: the rubric reward of a response, relative to the other responses, in the clipped surrogate.

R. Patel, Understanding Reinforcement Learning for Model Training, and future directions with GRAPE, arXiv:2509.04501.
Built on its abstract and on a published technical summary of it; not checked against the full text. Where these leave a
choice, each option has its definition here, and claims say what the choice changes.
"""

from fractions import Fraction

from sympy import Integer, Lambda, Max, sqrt

from grape_spec.advantage import ddof, eps
from grape_spec.group_advantage import centred, group_advantage, group_spread, group_variance, left_out
from grape_spec.language import (
    Diff,
    Positive,
    Simplex,
    at_least,
    at_most,
    claim,
    define,
    delta,
    differs,
    equals,
    family,
    greater,
    holds,
    substitute,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.domains import Interval
from grape_spec.ppo import (
    SCHULMAN,
    clip_high,
    clip_low,
    clip_slope,
    clipped_surrogate,
    logp,
    lower_edge,
    old_logp,
    ratio,
    upper_edge,
)
from grape_spec.proof.rules import by_terms, chain, fact, finite_sum, rewrite, smt, step, termwise
from grape_spec.reinforce import G, g, h, mean_of_others, response_reward
from grape_spec.rubric_reward import (
    PATEL,
    Q,
    confidences,
    divisor,
    factor,
    first_item,
    first_response,
    item,
    item_trust,
    leniency,
    reward,
    reward_sum,
    scores,
    share,
    shifted_scores,
    some_confidence,
    some_trust,
    total,
    total_trust,
    trust,
    trusted_reward,
    weights,
)

Fractional = Interval("in [0, 1]", Fraction(0), Fraction(1), low_closed=True, high_closed=True)

# The advantage of a response.

rubric_rewards = Lambda(g, reward())

advantage = define(
    "grape.advantage",
    "Advantage of a response: its reward minus the average reward of the others.",
    (g, scores, trust),
    left_out(response_reward=rubric_rewards),
    tex=r"A^{{\mathrm{{GRAPE}}}}_{{{g}}}",
    source=PATEL,
)

mean_advantage = centred(response_reward=rubric_rewards)
rubric_variance = group_variance(response_reward=rubric_rewards)
several = at_least(G, 2)
freedom = greater(G - ddof, 0)
spread = greater(group_spread(), 0)
standard_deviation = sqrt(group_spread() / (G - ddof))
stretch = G / (G - 1)
stretched = Lambda(g, stretch * centred())

claim(
    "grape.reward.convention",
    "Where the trust in every item is 0 there is no signal: by convention the rewards are 0, and so are the "
    "advantages.",
    holds(
        equals(reward_sum(), total_trust * reward()),
        name="the sum is the total times the mean",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    holds(
        equals(trusted_reward.body, reward()),
        name="some item trusted",
        assuming=[some_trust],
        by=smt(given=[fact("grape.reward.convention", part="the sum is the total times the mean")]),
    ),
    holds(equals(reward_sum(trust=Lambda(item, 0)), 0), name="no item trusted: nothing to add up", by=finite_sum()),
    holds(equals(divisor(), 1), name="no item trusted: divided by one", assuming=[equals(total, 0)], by=smt()),
    holds(equals(left_out(response_reward=Lambda(g, 0)), 0), name="no advantage", by=finite_sum()),
    wrong=[
        wrong(
            "the plain mean of the scores where no item is trusted",
            equals(trusted_reward(), sum_over(scores[g, item], item) / Q),
            assuming=[equals(total_trust, 0)],
        ),
    ],
)

claim(
    "grape.baseline",
    "The advantage is the reward minus the average reward of the others. Leaving a response out of its own baseline "
    "multiplies all advantages by one factor, G/(G − 1): it cancels on division by the standard deviation of the "
    "advantages themselves, but not by that of the rewards.",
    holds(
        equals(left_out() * Max(1, G - 1), (G - 1) * (response_reward[g] - mean_of_others)),
        name="sum of differences",
        assuming=[several],
        by=finite_sum(),
    ),
    holds(
        equals(left_out(), response_reward[g] - mean_of_others),
        name="leave-one-out",
        assuming=[several],
        by=smt(given=[fact("grape.baseline", part="sum of differences")]),
    ),
    holds(
        equals(left_out(), stretch * centred()),
        name="stretch",
        assuming=[several],
        by=smt(given=[fact("grpo.advantage.leave_one_out")]),
    ),
    holds(
        equals(
            factor * centred() / sqrt(group_variance(response_reward=Lambda(g, factor * centred()))),
            centred() / sqrt(group_variance()),
        ),
        name="any factor cancels",
        assuming=[freedom, spread],
        by=finite_sum(),
    ),
    holds(
        equals(left_out() / sqrt(group_variance(response_reward=stretched)), centred() / sqrt(group_variance())),
        name="over its own standard deviation",
        assuming=[several, freedom, spread],
        by=smt(
            given=[
                fact("grape.baseline", part="stretch"),
                fact("grape.baseline", part="any factor cancels", factor=stretch),
            ]
        ),
    ),
    holds(
        equals(left_out() / (standard_deviation + eps), stretch * group_advantage()),
        name="over that of the rewards",
        assuming=[several, freedom, spread],
        by=smt(given=[fact("grape.baseline", part="stretch"), fact("grpo.advantage.degenerate", part="scale")]),
    ),
    wrong=[
        wrong("the mean of the whole group leaves the response out", equals(left_out(), centred()), assuming=[several]),
        wrong(
            "the choice cancels against the standard deviation of the rewards",
            equals(left_out() / (standard_deviation + eps), group_advantage()),
            assuming=[several, freedom, spread],
        ),
    ],
)

claim(
    "grape.advantage.zero_sum",
    "The advantages of a group sum to zero, whatever the baseline and the scale.",
    holds(equals(sum_over(advantage(), g), 0), name="leave-one-out", assuming=[some_trust], by=finite_sum()),
    holds(equals(sum_over(mean_advantage, g), 0), name="mean", assuming=[some_trust], by=finite_sum()),
    holds(equals(sum_over(factor * advantage(), g), 0), name="any scale", assuming=[some_trust], by=finite_sum()),
    wrong=[
        wrong(
            "with the sum of all rewards divided by the number of the others",
            equals(sum_over(response_reward[g] - sum_over(response_reward[h], h) / (G - 1), g), 0),
            assuming=[several],
        ),
    ],
)

unit_scores = family("unit_scores", Fractional, G, Q, text="scores in [0, 1]", tex="u")
pair_share = (1 - delta(g, h)) * share / (G - 1)
differences = sum_over(pair_share * (unit_scores[g, item] - unit_scores[h, item]), h, item)
unit_centred = centred(response_reward=Lambda(g, reward(scores=unit_scores)))

claim(
    "grape.advantage.bound",
    "For scores in [0, 1] no advantage exceeds 1 in absolute value, nor 1 − 1/G with the mean as the baseline.",
    holds(
        equals(advantage(scores=unit_scores) * Max(1, G - 1), (G - 1) * differences),
        name="a mean of differences",
        assuming=[some_trust, several],
        by=finite_sum(),
    ),
    holds(at_least(differences, -1), name="none below −1", assuming=[some_trust, several], by=termwise(-pair_share)),
    holds(at_most(differences, 1), name="none above 1", assuming=[some_trust, several], by=termwise(pair_share)),
    holds(
        at_most(abs(advantage(scores=unit_scores)), 1),
        name="leave-one-out",
        assuming=[some_trust, several],
        by=smt(
            given=[
                fact("grape.advantage.bound", part="a mean of differences"),
                fact("grape.advantage.bound", part="none below −1"),
                fact("grape.advantage.bound", part="none above 1"),
            ]
        ),
    ),
    holds(
        equals(advantage(scores=unit_scores) * Max(1, G - 1), G * unit_centred),
        name="the two baselines",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    holds(
        at_most(abs(unit_centred), 1 - 1 / G),
        name="mean",
        assuming=[some_trust, several],
        by=smt(
            given=[
                fact("grape.advantage.bound", part="leave-one-out"),
                fact("grape.advantage.bound", part="the two baselines"),
            ]
        ),
    ),
    wrong=[
        wrong(
            "at most 1 − 1/G with leave-one-out, too",
            at_most(advantage(scores=unit_scores), 1 - 1 / G),
            assuming=[some_trust, several],
        ),
        wrong(
            "without normalisation, too",
            at_most(left_out(response_reward=Lambda(g, reward_sum(scores=unit_scores))), 1),
            assuming=[some_trust, several],
        ),
    ],
)

own_trust = Lambda(item, weights[item] * confidences[g, item])
one_raised = Lambda((g, item), scores[g, item] + delta(g, first_response) * leniency)

claim(
    "grape.advantage.item_shift",
    "A constant added to the scores of one item for the whole group changes no advantage: an item that is easy for "
    "all, or a critic that is lenient with all, does no harm.",
    holds(
        equals(advantage(scores=shifted_scores), advantage()),
        name="leave-one-out",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    holds(
        equals(substitute(mean_advantage, {scores: shifted_scores}), mean_advantage),
        name="mean",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    holds(
        equals(substitute(rubric_variance, {scores: shifted_scores}), rubric_variance),
        name="variance",
        assuming=[some_trust, freedom],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "with the confidence in each score itself in place of the average",
            equals(
                left_out(response_reward=Lambda(g, reward(scores=shifted_scores, trust=own_trust))),
                left_out(response_reward=Lambda(g, reward(trust=own_trust))),
            ),
            assuming=[several, some_confidence],
        ),
        wrong(
            "a constant added to the scores of one response",
            equals(advantage(scores=one_raised), advantage()),
            assuming=[some_trust, several],
        ),
    ],
)

item_scores = Lambda(g, scores[g, item])

claim(
    "grape.advantage.decomposition",
    "The advantage is the mean of the advantages of the single items, weighted by the trust in each.",
    holds(
        equals(advantage(), sum_over(share * left_out(response_reward=item_scores), item)),
        name="leave-one-out",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    holds(
        equals(mean_advantage, sum_over(share * centred(response_reward=item_scores), item)),
        name="mean",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "every item with the same weight",
            equals(advantage(), sum_over(left_out(response_reward=item_scores), item) / Q),
            assuming=[some_trust],
        ),
        wrong(
            "without normalisation",
            equals(advantage(), sum_over(trust[item] * left_out(response_reward=item_scores), item)),
            assuming=[some_trust],
        ),
    ],
)

sum_advantage = left_out(response_reward=Lambda(g, reward_sum()))
multiplied = Lambda(h, factor * response_reward[h])

claim(
    "grape.normalisation",
    "Without normalisation all advantages are multiplied by one factor, the total trust, which division by the "
    "standard deviation removes.",
    holds(
        equals(sum_advantage, total_trust * advantage()),
        name="factor",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    holds(
        equals(group_advantage(response_reward=multiplied, eps=0), group_advantage(eps=0)),
        name="any factor of the rewards cancels",
        assuming=[freedom, greater(group_variance(), 0)],
        by=smt(given=[fact("grpo.advantage.affine", part="unit and origin", gain=factor, bonus=Integer(0))]),
    ),
    wrong=[
        wrong("the advantages are the same", equals(sum_advantage, advantage()), assuming=[some_trust]),
        wrong(
            "the factor cancels with a constant added to the standard deviation, too",
            equals(group_advantage(response_reward=multiplied), group_advantage()),
            assuming=[freedom, greater(group_variance(), 0)],
        ),
    ],
)

sure = family("sure", Positive, G, Q, text="confidences, none of which is zero", tex="c^{+}")
important = family("important", Positive, Q, text="importances, none of which is zero", tex="w^{+}")
one_trust = Lambda(item, delta(item, first_item) * item_trust(confidences=sure, weights=important))
one_reward = Lambda(g, reward(trust=one_trust))
one_score = Lambda(g, scores[g, first_item])

claim(
    "grape.grpo_special_case",
    "With one item any positive confidence cancels, and with the mean as the baseline the advantages are those of "
    "GRPO, scaled or not. Leaving a response out multiplies them by G/(G − 1).",
    holds(equals(reward(trust=one_trust), scores[g, first_item]), name="reward", by=finite_sum()),
    holds(
        equals(centred(response_reward=one_reward), centred(response_reward=one_score)),
        name="not scaled",
        by=chain(step(centred(response_reward=one_score), by=rewrite("grape.grpo_special_case", part="reward"))),
    ),
    holds(
        equals(group_advantage(response_reward=one_reward), group_advantage(response_reward=one_score)),
        name="scaled",
        assuming=[freedom, greater(group_variance(response_reward=one_score), 0)],
        by=chain(
            step(group_advantage(response_reward=one_score), by=rewrite("grape.grpo_special_case", part="reward"))
        ),
    ),
    holds(
        equals(left_out(response_reward=one_reward), G / Max(1, G - 1) * centred(response_reward=one_score)),
        name="leave-one-out",
        by=chain(
            step(left_out(response_reward=one_score), by=rewrite("grape.grpo_special_case", part="reward")),
            step(
                G / Max(1, G - 1) * centred(response_reward=one_score),
                by=rewrite("grpo.advantage.leave_one_out", response_reward=one_score),
            ),
        ),
    ),
    source=PATEL,
    wrong=[
        wrong(
            "leave-one-out gives the same",
            equals(left_out(response_reward=one_reward), centred(response_reward=one_score)),
        ),
        wrong(
            "the confidence cancels from the sum, too",
            equals(reward_sum(trust=one_trust), scores[g, first_item]),
        ),
    ],
)

precision = family(
    "precision", Positive, Q, text="precision of the score of an item: noise over its variance", tex=r"\tau"
)
noise = symbol("noise", Positive, "variance of a score of precision one", tex=r"\sigma^2")
portion = family("portion", Simplex, Q, text="weight of each item in a mean of the scores", tex=r"\omega")
total_precision = sum_over(precision[item], item)
by_precision = Lambda(item, precision[item] / total_precision)

mean_variance = define(
    "grape.mean_variance",
    "Variance of a weighted mean of independent scores, where the variance of each score is the noise divided by its "
    "precision.",
    (portion, precision, noise),
    sum_over(portion[item] ** 2 * noise / precision[item], item),
    tex=r"\mathrm{{var}}({portion})",
)

excess = (portion[item] - precision[item] / total_precision) ** 2 / precision[item]

claim(
    "grape.variance",
    "If the confidences are the precisions of the scores, weights in proportion to them minimise the variance of the "
    "mean.",
    holds(
        equals(sum_over(noise * excess, item), mean_variance() - noise / total_precision),
        name="excess",
        by=finite_sum(),
    ),
    holds(at_least(sum_over(noise * excess, item), 0), name="never negative", by=termwise(0)),
    holds(
        at_least(mean_variance(), noise / total_precision),
        name="bound",
        by=smt(given=[fact("grape.variance", part="excess"), fact("grape.variance", part="never negative")]),
    ),
    holds(equals(mean_variance(portion=by_precision), noise / total_precision), name="reached", by=finite_sum()),
    holds(
        greater(noise * excess, 0),
        name="and nowhere else",
        assuming=[differs(portion[item], precision[item] / total_precision)],
        by=smt(),
    ),
    wrong=[
        wrong(
            "equal weights minimise it",
            at_least(mean_variance(), mean_variance(portion=Lambda(item, 1 / Q))),
        ),
        wrong(
            "weights in proportion to the square root of the confidences",
            at_least(
                mean_variance(),
                mean_variance(portion=Lambda(item, sqrt(precision[item]) / sum_over(sqrt(precision[item]), item))),
            ),
        ),
    ],
)

# The objective of a token.

surrogate = define(
    "grape.surrogate",
    "Clipped surrogate objective of a token of a response, to be maximised.",
    (logp, old_logp, g, scores, trust, clip_low, clip_high),
    clipped_surrogate(ratio(), advantage()),
    tex=r"L^{{\mathrm{{GRAPE}}}}",
    source=PATEL,
)

no_kink = [differs(ratio(), upper_edge), differs(ratio(), lower_edge)]

claim(
    "grape.gradient",
    "The slope of a token is that of PPO with the advantage of its response; scores and confidences are constants.",
    holds(
        equals(Diff(surrogate(), logp), clip_slope(ratio(), advantage())),
        name="slope",
        assuming=[some_trust, *no_kink],
        by=by_terms(fact("ppo.clip.gradient", part="in the log-probability", advantage=advantage())),
    ),
    holds(
        equals(clip_slope(1, advantage()), advantage()),
        name="on policy",
        assuming=[some_trust],
        by=smt(),
    ),
    source=SCHULMAN.eq(7),
    wrong=[
        wrong(
            "the slope of the unclipped surrogate",
            equals(Diff(surrogate(), logp), ratio() * advantage()),
            assuming=[some_trust, *no_kink],
        ),
        wrong(
            "the reward in place of the advantage",
            equals(Diff(surrogate(), logp), clip_slope(ratio(), reward())),
            assuming=[some_trust, *no_kink],
        ),
    ],
)

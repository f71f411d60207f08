"""Derivations: the rubric reward and its advantages."""

from sympy import Lambda, Max

from grape_spec import grape
from grape_spec.grape import left_out, noise, portion, precision, total_precision
from grape_spec.language import delta, derive, line, substitute, sum_over
from grape_spec.proof.rules import smt
from grape_spec.reinforce import G, g, h, mean_of_others, response_reward
from grape_spec.rubric_reward import (
    confidences,
    factor,
    first_item,
    item,
    item_trust,
    leniency,
    mean_confidence,
    reward,
    reward_sum,
    scores,
    share,
    total_trust,
    weights,
)

everything = sum_over(response_reward[h], h)

scaled_sum = sum_over(factor * weights[item] * mean_confidence() * scores[g, item], item)
scaled_total = sum_over(factor * weights[item] * mean_confidence(), item)

derive(
    "grape.reward.scale",
    line(scaled_sum / scaled_total, "write out the reward: a quotient of sums"),
    line(
        sum_over(weights[item] * mean_confidence() * scores[g, item], item)
        / sum_over(weights[item] * mean_confidence(), item),
        "take the factor out of both sums, and cancel it",
    ),
    line(reward(trust=Lambda(item, item_trust())), "this is the reward"),
    part="importances",
)

derive(
    "grape.reward.scale",
    line(
        sum_over(weights[item] * sum_over(factor * confidences[h, item], h) / G * scores[g, item], item)
        / sum_over(weights[item] * sum_over(factor * confidences[h, item], h) / G, item),
        "write out the reward: a quotient of sums",
    ),
    line(
        sum_over(weights[item] * mean_confidence() * scores[g, item], item)
        / sum_over(weights[item] * mean_confidence(), item),
        "take the factor out of every sum, and cancel it",
    ),
    line(reward(trust=Lambda(item, item_trust())), "this is the reward"),
    part="confidences",
)

all_rewards = sum_over(reward(h), h)

derive(
    "grape.advantage.zero_sum",
    line(sum_over(sum_over(reward(g) - reward(h), h), g) / Max(1, G - 1), "the divisor is the same for all responses"),
    line((G * sum_over(reward(g), g) - G * all_rewards) / Max(1, G - 1), "each reward occurs G times in either sum"),
    line(0, "both are the sum of all rewards"),
    part="leave-one-out",
)

derive(
    "grape.advantage.zero_sum",
    line(sum_over(reward(g), g) - all_rewards, "G times the mean is the sum"),
    line(0, "both are the sum of all rewards"),
    part="mean",
)

derive(
    "grape.advantage.decomposition",
    line(sum_over(reward(g) - reward(h), h) / Max(1, G - 1), "the advantage is a mean of differences"),
    line(
        sum_over(sum_over(share * (scores[g, item] - scores[h, item]), item), h) / Max(1, G - 1),
        "both rewards weight the items by the same shares",
    ),
    line(
        sum_over(share * sum_over(scores[g, item] - scores[h, item], h) / Max(1, G - 1), item),
        "exchange the sums",
    ),
    line(
        sum_over(share * left_out(response_reward=Lambda(g, scores[g, item])), item),
        "the inner sum is the advantage of the item",
    ),
    part="leave-one-out",
)

weight_error = portion[item] - precision[item] / total_precision

derive(
    "grape.variance",
    line(
        noise
        * sum_over(
            portion[item] ** 2 / precision[item]
            - 2 * portion[item] / total_precision
            + precision[item] / total_precision**2,
            item,
        ),
        "expand the square",
    ),
    line(
        noise
        * (
            sum_over(portion[item] ** 2 / precision[item], item)
            - 2 * sum_over(portion[item], item) / total_precision
            + sum_over(precision[item], item) / total_precision**2
        ),
        "take the sum term by term",
    ),
    line(
        grape.mean_variance() - noise / total_precision,
        "the weights sum to one, and so do the shares of the precisions: −2 + 1 = −1",
    ),
    part="excess",
)

derive(
    "grape.baseline",
    line((G * response_reward[g] - everything) / Max(1, G - 1), "the response's own reward is in all G differences"),
    line(
        (G * response_reward[g] - everything) / (G - 1),
        "with at least two responses, the divisor is the number of the others",
        by=smt(),
    ),
    line(
        ((G - 1) * response_reward[g] - sum_over((1 - delta(g, h)) * response_reward[h], h)) / (G - 1),
        "the difference from itself is zero: the others remain",
    ),
    line(response_reward[g] - mean_of_others, "divide"),
    part="leave-one-out",
)

derive(
    "grape.normalisation",
    line(sum_over(reward_sum(g) - reward_sum(h), h) / Max(1, G - 1), "the advantage is a mean of differences"),
    line(
        sum_over(total_trust * reward(g) - total_trust * reward(h), h) / Max(1, G - 1),
        "the sum is the total trust times the mean",
    ),
    line(total_trust * grape.advantage(), "the total trust is the same for all responses: take it out of the sum"),
    part="factor",
)

own_share = substitute(share, {item: first_item})

derive(
    "grape.advantage.item_shift",
    line(
        left_out(response_reward=Lambda(g, reward() + own_share * leniency)),
        "every reward of the group rises by the same amount, the share of the item times b",
    ),
    line(left_out(response_reward=Lambda(g, reward())), "a constant cancels from every difference"),
    line(grape.advantage(), "this is the advantage"),
    part="leave-one-out",
)

one_of_all = delta(item, first_item) * item_trust(item, grape.sure, grape.important)

derive(
    "grape.grpo_special_case",
    line(
        sum_over(one_of_all * scores[g, item], item) / sum_over(one_of_all, item),
        "write out the reward: a quotient of sums",
    ),
    line(scores[g, first_item], "the delta selects one term in either sum: the trust cancels"),
    part="reward",
)

derive(
    "grape.reward.uniform_confidence",
    line(
        sum_over(weights[item] * factor * scores[g, item], item) / sum_over(weights[item] * factor, item),
        "the mean of equal confidences is that confidence",
    ),
    line(
        sum_over(weights[item] * scores[g, item], item) / sum_over(weights[item], item),
        "take the factor out of both sums, and cancel it",
    ),
    line(reward(trust=weights), "this is the reward with the importances as trust"),
)

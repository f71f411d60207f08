"""The reward of a response from a rubric: the mean of the scores of its items, weighted by importance and confidence.

R. Patel, Understanding Reinforcement Learning for Model Training, and future directions with GRAPE, arXiv:2509.04501.
Built on its abstract and on a published technical summary of it; not checked against the full text. Where these leave a
choice, each option has its definition here, and claims say what the choice changes.
"""

from sympy import Expr, Lambda, Max

from grape_spec.language import (
    Diff,
    Mask,
    NonNegative,
    Positive,
    Real,
    Size,
    Source,
    at_least,
    at_most,
    cases,
    claim,
    define,
    delta,
    equals,
    family,
    greater,
    holds,
    index,
    substitute,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.proof.rules import finite_sum, smt, termwise
from grape_spec.reinforce import G, g, h

PATEL = Source("patel2025understanding")


Q = symbol("Q", Size, "number of items of the rubric")
item = index("item", Q, "an item of the rubric", tex="q")
first_item = index("first_item", Q, "an item that is singled out", tex="p")
second_item = index("second_item", Q, "another item that is singled out", tex="p'")
first_response = index("first_response", G, "a response that is singled out", tex="l")
second_response = index("second_response", G, "another response that is singled out", tex="l'")

scores = family("scores", Real, G, Q, text="score of each response for each item", tex="s")
confidences = family("confidences", NonNegative, G, Q, text="confidence of the critic in each score", tex="c")
weights = family("weights", NonNegative, Q, text="importance of each item", tex="w")
trust = family("trust", NonNegative, Q, text="trust in each item: its importance times the confidence in it", tex="k")
total = symbol("total", Real, "total trust of all items", tex="K")
factor = symbol("factor", Positive, "a positive constant", tex="a")
leniency = symbol("leniency", Real, "a constant that is added to some scores", tex=r"\eta")

# The reward of a response.

mean_confidence = define(
    "grape.mean_confidence",
    "Average confidence of the critic in an item, over the responses to one prompt.",
    (item, confidences),
    sum_over(confidences[h, item], h) / G,
    tex=r"\bar c_{{{item}}}",
    source=PATEL,
)

item_trust = define(
    "grape.trust",
    "Trust in an item: its importance times the average confidence in it.",
    (item, confidences, weights),
    weights[item] * mean_confidence(),
    tex="k_{{{item}}}",
    source=PATEL,
)

total_trust = sum_over(trust[item], item)
share = trust[item] / total_trust
some_trust = greater(total_trust, 0)

reward = define(
    "grape.reward",
    "Reward of a response: the mean of its scores, weighted by the trust in each item.",
    (g, scores, trust),
    sum_over(share * scores[g, item], item),
    tex="R_{{{g}}}",
    source=PATEL,
)

reward_sum = define(
    "grape.reward_sum",
    "Reward of a response without normalisation: the weighted sum in place of the mean.",
    (g, scores, trust),
    sum_over(trust[item] * scores[g, item], item),
    tex=r"R^{{\Sigma}}_{{{g}}}",
)

divisor = define(
    "grape.divisor",
    "Divisor of the weighted sum of scores: the total trust; 1 by convention where that is 0.",
    (total,),
    cases((total, greater(total, 0)), (1, True)),
    tex="K^{{+}}",
    convention=True,
)

trusted_reward = define(
    "grape.trusted_reward",
    "Reward of a response; 0 by convention if no item is trusted.",
    (g, scores, trust),
    reward_sum() / divisor(total_trust),
    tex=r"\hat R_{{{g}}}",
    convention=True,
)

group_trust = Lambda(item, item_trust())
group_reward = reward(trust=group_trust)
some_group_trust = greater(sum_over(item_trust(), item), 0)
some_confidence = greater(sum_over(weights[item] * confidences[h, item], item), 0)

low = symbol("low", Real, "a lower bound of the scores of the response", tex="a")
high = symbol("high", Real, "an upper bound of the scores of the response", tex="b")

claim(
    "grape.reward.range",
    "The reward is a convex combination of the scores of a response: it lies between the smallest and the largest.",
    holds(equals(sum_over(share, item), 1), name="the shares sum to one", assuming=[some_trust], by=finite_sum()),
    holds(at_least(share, 0), name="no share is negative", assuming=[some_trust], by=smt()),
    holds(
        at_least(reward(), low),
        name="lower bound",
        assuming=[some_trust, at_most(low, scores[g, item])],
        by=termwise(share * low),
    ),
    holds(
        at_most(reward(), high),
        name="upper bound",
        assuming=[some_trust, at_most(scores[g, item], high)],
        by=termwise(share * high),
    ),
    source=PATEL,
    wrong=[
        wrong(
            "the sum lies there, too",
            at_most(reward_sum(), high),
            assuming=[some_trust, at_most(scores[g, item], high)],
        ),
    ],
)

claim(
    "grape.reward.scale",
    "Only the proportions of the importances matter, and only the proportions of the confidences.",
    holds(
        equals(reward(trust=Lambda(item, item_trust(weights=Lambda(item, factor * weights[item])))), group_reward),
        name="importances",
        assuming=[some_group_trust],
        by=finite_sum(),
    ),
    holds(
        equals(
            reward(trust=Lambda(item, item_trust(confidences=Lambda((g, item), factor * confidences[g, item])))),
            group_reward,
        ),
        name="confidences",
        assuming=[some_group_trust],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the sum does not change, either",
            equals(reward_sum(trust=Lambda(item, factor * trust[item])), reward_sum()),
        ),
        wrong(
            "the confidences of a single response may be rescaled, too",
            equals(
                reward(
                    trust=Lambda(
                        item,
                        item_trust(
                            confidences=Lambda(
                                (g, item),
                                (1 + delta(g, first_response)) * confidences[g, item],
                            )
                        ),
                    )
                ),
                group_reward,
            ),
            assuming=[some_group_trust],
        ),
    ],
)


def exchanged(value: Expr, position: Expr, one: Expr, two: Expr) -> Expr:
    """A value for each position, with the values at two positions swapped."""
    at_one, at_two = (substitute(value, {position: place}) for place in (one, two))
    return value + (delta(position, one) - delta(position, two)) * (at_two - at_one)


items_exchanged = Lambda((g, item), exchanged(scores[g, item], item, first_item, second_item))
trust_exchanged = Lambda(item, exchanged(trust[item], item, first_item, second_item))
responses_exchanged = Lambda((g, item), exchanged(scores[g, item], g, first_response, second_response))
verdicts_exchanged = Lambda((g, item), exchanged(confidences[g, item], g, first_response, second_response))

claim(
    "grape.reward.permutation",
    "Items may be reordered, and so may responses, each keeping its reward: any two may be swapped, which generates "
    "every order.",
    holds(
        equals(reward(scores=items_exchanged, trust=trust_exchanged), reward()),
        name="items",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    holds(
        equals(mean_confidence(confidences=verdicts_exchanged), mean_confidence()),
        name="confidences of responses",
        by=finite_sum(),
    ),
    holds(
        equals(reward(scores=responses_exchanged), exchanged(reward(), g, first_response, second_response)),
        name="scores of responses",
        assuming=[some_trust],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the scores may be reordered alone",
            equals(reward(scores=items_exchanged), reward()),
            assuming=[some_trust],
        ),
    ],
)

never_sure = Lambda((g, item), (1 - delta(item, first_item)) * confidences[g, item])
once_unsure = Lambda((g, item), (1 - delta(g, first_response) * delta(item, first_item)) * confidences[g, item])
shifted_scores = Lambda((g, item), scores[g, item] + delta(item, first_item) * leniency)
other_items = Lambda(item, (1 - delta(item, first_item)) * item_trust())
some_other_trust = greater(sum_over((1 - delta(item, first_item)) * item_trust(), item), 0)

claim(
    "grape.reward.untrusted_item",
    "An item in which the critic has no confidence has no effect, whatever its scores: the reward is that of the "
    "other items alone.",
    holds(
        equals(
            reward(scores=shifted_scores, trust=Lambda(item, item_trust(confidences=never_sure))),
            reward(trust=other_items),
        ),
        assuming=[some_other_trust],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "already if it has no confidence for one response",
            equals(reward(trust=Lambda(item, item_trust(confidences=once_unsure))), reward(trust=other_items)),
            assuming=[some_other_trust],
        ),
    ],
)

claim(
    "grape.reward.gradient",
    "A score changes the reward of its own response alone, by the share of its item.",
    holds(
        equals(
            Diff(reward(first_response), scores[second_response, first_item]),
            delta(first_response, second_response) * substitute(share, {item: first_item}),
        ),
        assuming=[some_trust],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "every item changes it equally",
            equals(Diff(reward(g), scores[g, first_item]), 1 / Q),
            assuming=[some_trust],
        ),
    ],
)

claim(
    "grape.reward.uniform_confidence",
    "If all confidences are equal they cancel, and only the importances count.",
    holds(
        equals(
            reward(trust=Lambda(item, item_trust(confidences=Lambda((g, item), factor)))),
            reward(trust=weights),
        ),
        assuming=[greater(sum_over(weights[item], item), 0)],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "it cancels from the sum, too",
            equals(
                reward_sum(trust=Lambda(item, item_trust(confidences=Lambda((g, item), factor)))),
                reward_sum(trust=weights),
            ),
        ),
    ],
)

# Confidence averaged over the batch: over the prompts of one category, where item q is the same in all of them.

prompts = symbol("prompts", Size, "number of prompts in the batch", tex="N")
prompt = index("prompt", prompts, "a prompt", tex="n")
other_prompt = index("other_prompt", prompts, "a prompt that a sum runs over", tex="n'")
category = family("category", Real, prompts, text="number of the category of each prompt", tex=r"\kappa")
item_mask = family("item_mask", Mask(), prompts, Q, text="1 where a prompt has the item", tex="m")
batch_confidences = family(
    "batch_confidences", NonNegative, prompts, G, Q, text="confidence of the critic in each score of the batch", tex="c"
)
alike = delta(category[prompt], category[other_prompt]) * item_mask[other_prompt, item]

batch_confidence = define(
    "grape.batch_confidence",
    "Average confidence of the critic in an item, over all responses to those prompts of one category that have the "
    "item; 0 by convention if none has it.",
    (prompt, item, batch_confidences, category, item_mask),
    sum_over(alike * sum_over(batch_confidences[other_prompt, h, item], h), other_prompt)
    / (G * Max(1, sum_over(alike, other_prompt))),
    tex=r"\bar c_{{{prompt},{item}}}",
    convention=True,
)

batch_trust = define(
    "grape.batch_trust",
    "Trust in an item of a prompt, with the confidence averaged over the batch.",
    (prompt, item, batch_confidences, category, item_mask, weights),
    weights[item] * batch_confidence(),
    tex="k_{{{prompt},{item}}}",
)

own_confidences = Lambda((g, item), batch_confidences[prompt, g, item])

claim(
    "grape.confidence.batch",
    "If only one prompt has an item, the average over the batch is the average over its group.",
    holds(
        equals(
            batch_confidence(item_mask=Lambda((other_prompt, item), delta(other_prompt, prompt))),
            mean_confidence(confidences=own_confidences),
        ),
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "they are equal for every batch",
            equals(batch_confidence(), mean_confidence(confidences=own_confidences)),
            assuming=[equals(item_mask[prompt, item], 1)],
        ),
    ],
)

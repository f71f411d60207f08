"""Responses of many tokens: the sums over all of them that REINFORCE speaks of, by recursion over their length.

A response goes on from a prefix, token by token, until the end token or until no token is left. What is summed over all
responses is carried from token to token: the score so far, the reward so far.
"""

from sympy import Integer, Lambda, log

from grape_spec.language import (
    Diff,
    Positive,
    Real,
    define,
    delta,
    family,
    index,
    recursive,
    sum_over,
    symbol,
)
from grape_spec.policy import P, V, a, after, end, j, k, left, softmax, v

row_logits = family("row_logits", Real, P, V, text="logits of each next token after prefix j", tex="z")
prefix = index("prefix", P, "the prefix after which a logit is varied", tex="j'")

next_probability = define(
    "reinforce.next_probability",
    "Probability of the next token after a prefix.",
    (j, a, row_logits),
    softmax(a, Lambda(v, row_logits[j, v])),
    tex=r"\pi_{{{j}{a}}}",
    domain=Positive,
)

next_score = Diff(log(next_probability()), row_logits[prefix, k])
token_score = Diff(log(next_probability(j, v)), row_logits[prefix, k])
next_prefix = after[j, v]
ends, goes_on = delta(v, end), 1 - delta(v, end)
response_reward_at = family(
    "response_reward_at", Real, P, text="reward of the response that prefix j is once it has ended", tex="r"
)
scores_so_far = symbol("scores_so_far", Real, "sum of the scores of the tokens so far", tex="s")

expected_reward = recursive(
    "reinforce.expected_reward",
    "Expected reward of the responses that continue a prefix by at most a given number of tokens: they end with the "
    "end token, or are cut off.",
    (left, j, end, row_logits, after, response_reward_at),
    left,
    response_reward_at[j],
    lambda later: sum_over(
        next_probability(j, v) * (ends * response_reward_at[next_prefix] + goes_on * later(j=next_prefix)), v
    ),
    tex=r"J_{{{left}}}({j})",
)

weighted_scores = recursive(
    "reinforce.weighted_scores",
    "Expectation, over the responses that continue a prefix, of the reward times the sum of the scores of all tokens.",
    (left, j, scores_so_far, prefix, k, end, row_logits, after, response_reward_at),
    left,
    response_reward_at[j] * scores_so_far,
    lambda later: sum_over(
        next_probability(j, v)
        * (
            ends * response_reward_at[next_prefix] * (scores_so_far + token_score)
            + goes_on * later(j=next_prefix, scores_so_far=scores_so_far + token_score)
        ),
        v,
    ),
    tex=r"\Gamma_{{{left}}}({j}, {scores_so_far})",
)

step_reward = family("step_reward", Real, P, V, text="reward given for next token v after prefix j", tex="r")

rewards_so_far = symbol("rewards_so_far", Real, "sum of the rewards of the tokens so far", tex="R")
products_so_far = symbol(
    "products_so_far", Real, "each score so far times the rewards since its token, summed", tex="X"
)
all_scores = scores_so_far + token_score
all_rewards = rewards_so_far + step_reward[j, v]
all_products = products_so_far + step_reward[j, v] * all_scores
responses = (end, row_logits, after, step_reward)

by_all_rewards = recursive(
    "reinforce.by_all_rewards",
    "Expectation, over the responses that continue a prefix, of the sum of all scores times the sum of all rewards.",
    (left, j, scores_so_far, rewards_so_far, prefix, k, *responses),
    left,
    scores_so_far * rewards_so_far,
    lambda later: sum_over(
        next_probability(j, v)
        * (
            ends * all_scores * all_rewards
            + goes_on * later(j=next_prefix, scores_so_far=all_scores, rewards_so_far=all_rewards)
        ),
        v,
    ),
    tex=r"\Gamma^{{\mathrm{{all}}}}_{{{left}}}({j}, {scores_so_far}, {rewards_so_far})",
)

by_rewards_to_go = recursive(
    "reinforce.by_rewards_to_go",
    "Expectation, over the responses that continue a prefix, of the sum of the scores, each times the rewards from its "
    "token on: a reward is added to the weight of every score up to that of its own token.",
    (left, j, scores_so_far, products_so_far, prefix, k, *responses),
    left,
    products_so_far,
    lambda later: sum_over(
        next_probability(j, v)
        * (
            ends * all_products + goes_on * later(j=next_prefix, scores_so_far=all_scores, products_so_far=all_products)
        ),
        v,
    ),
    tex=r"\Gamma^{{\mathrm{{go}}}}_{{{left}}}({j}, {scores_so_far}, {products_so_far})",
)

reward_left = recursive(
    "reinforce.reward_left",
    "Expected sum of the rewards of the tokens that follow a prefix.",
    (left, j, *responses),
    left,
    Integer(0),
    lambda later: sum_over(next_probability(j, v) * (step_reward[j, v] + goes_on * later(j=next_prefix)), v),
    tex=r"V_{{{left}}}({j})",
)

score_times_reward_left = recursive(
    "reinforce.score_times_reward_left",
    "Expected sum, over the tokens that follow a prefix, of the score times the expected rewards from its token on.",
    (left, j, prefix, k, *responses),
    left,
    Integer(0),
    lambda later: sum_over(
        next_probability(j, v)
        * (token_score * (step_reward[j, v] + goes_on * reward_left(j=next_prefix)) + goes_on * later(j=next_prefix)),
        v,
    ),
    tex=r"U_{{{left}}}({j})",
)

"""Derivations: the policy gradient and its baselines."""

from sympy import Integer, log

from grape_spec.derivations.policy import JACOBIAN, KNOWN, ONE_MORE, ONE_TERM
from grape_spec.dpo import beta, reward
from grape_spec.kl import expected, q, reference, reverse, y
from grape_spec.language import Diff, delta, derive, derive_by_induction, line, sum_over
from grape_spec.policy import a, j, k, left, logits, score, softmax, t, theta, v
from grape_spec.reinforce import (
    G,
    baseline,
    best_baseline,
    centred,
    completion,
    completion_reward,
    continued,
    first_score,
    first_token,
    g,
    h,
    later_score,
    mean_of_all,
    objective,
    others_sum,
    policy_gradient,
    prefix_baseline,
    prefix_probability,
    response_logp,
    response_probability,
    response_reward,
    response_token,
    second_moment,
    squared_score,
    token_loss,
    token_reward,
)
from grape_spec.responses import (
    all_products,
    by_all_rewards,
    by_rewards_to_go,
    ends,
    expected_reward,
    goes_on,
    next_prefix,
    next_probability,
    prefix,
    products_so_far,
    response_reward_at,
    reward_left,
    rewards_so_far,
    row_logits,
    score_times_reward_left,
    scores_so_far,
    step_reward,
    token_score,
    weighted_scores,
)

LOG_TRICK = "π times the derivative of log π is the derivative of π"

derive(
    "reinforce.closed_form",
    line(sum_over(Diff(softmax(v), logits[k]) * token_reward[v], v), "the rewards are constants"),
    line(sum_over(softmax(v) * (delta(v, k) - softmax(k)) * token_reward[v], v), JACOBIAN),
    line(softmax(k) * token_reward[k] - softmax(k) * sum_over(softmax(v) * token_reward[v], v), ONE_TERM),
    line(softmax(k) * (token_reward[k] - objective()), "the sum is the expected reward; take out the common factor"),
)

derive(
    "reinforce.policy_gradient",
    line(sum_over(Diff(softmax(v), logits[k]) * token_reward[v], v), "the rewards are constants"),
    line(sum_over(softmax(v) * Diff(log(softmax(v)), logits[k]) * token_reward[v], v), LOG_TRICK),
    line(expected(token_reward[a] * score), "this is an expectation under the policy"),
    part="one token",
)

sequence_logp = sum_over(log(response_token(y, t, theta)), t)

derive(
    "reinforce.policy_gradient",
    line(sum_over(Diff(response_probability, theta) * reward[y], y), "the rewards are constants"),
    line(
        sum_over(response_probability * Diff(sequence_logp, theta) * reward[y], y),
        "the derivative of a probability is the probability times that of its logarithm",
    ),
    line(
        sum_over(response_probability * reward[y] * sum_over(Diff(log(response_token(y, t, theta)), theta), t), y),
        "the derivative of a finite sum, here over the tokens",
    ),
    part="responses of many tokens",
)

first, then, paid = first_token(v, theta), completion(v, y, theta), completion_reward[v, y]

derive(
    "reinforce.policy_gradient",
    line(
        sum_over((Diff(first, theta) * then + first * Diff(then, theta)) * paid, v, y),
        "the product rule; the rewards are constants",
    ),
    line(
        sum_over(continued * (Diff(first, theta) / first + Diff(then, theta) / then), v, y),
        "take out both probabilities",
    ),
    line(
        sum_over(continued * (first_score + later_score), v, y),
        "a derivative divided by its function is that of the logarithm",
    ),
    part="one token more",
)

derive(
    "reinforce.baseline.unbiased",
    line(expected(token_reward[a] * score) - baseline * expected(score), "take the baseline out of the expectation"),
    line(expected(token_reward[a] * score), "the score has expectation zero"),
    line(policy_gradient, "this is the policy gradient"),
    part="one token",
)

weight, own_logit = prefix_probability[j] * prefix_baseline[j], row_logits[prefix, k]

derive(
    "reinforce.baseline.unbiased",
    line(
        sum_over(weight * sum_over(Diff(next_probability(), own_logit), a), j),
        LOG_TRICK,
    ),
    line(sum_over(weight * Diff(sum_over(next_probability(), a), own_logit), j), "the derivative of a finite sum"),
    line(sum_over(weight * Diff(Integer(1), own_logit), j), "the probabilities of the next token sum to one"),
    line(0, "the derivative of a constant"),
    part="a number for each prefix",
)

derive(
    "reinforce.baseline.optimal",
    line(
        expected((token_reward[a] ** 2 - 2 * baseline * token_reward[a] + baseline**2) * squared_score(a))
        - second_moment(baseline=best_baseline()),
        "expand the square",
    ),
    line(
        expected(squared_score(a)) * (baseline**2 - 2 * baseline * best_baseline())
        - expected(squared_score(a)) * (best_baseline() ** 2 - 2 * best_baseline() * best_baseline()),
        "the best baseline times the mean squared score is the mean of reward times squared score",
    ),
    line(expected(squared_score(a)) * (baseline - best_baseline()) ** 2, "complete the square"),
    part="excess",
)

everything = sum_over(response_reward[h], h)

derive(
    "reinforce.leave_one_out.identity",
    line(
        response_reward[g] - (everything - response_reward[g]) / (G - 1),
        "the sum of the others is the sum of all minus the response's own reward",
    ),
    line((G * response_reward[g] - everything) / (G - 1), "collect the response's own reward"),
    line(G / (G - 1) * (response_reward[g] - mean_of_all), "take out G"),
)

derive(
    "reinforce.leave_one_out.unbiased",
    line(
        sum_over(q[y] * (expected(token_reward[a] * score) - others_sum[y] / (G - 1) * expected(score)), y),
        "given the other responses, their mean is a constant",
    ),
    line(sum_over(q[y], y) * expected(token_reward[a] * score), "the score has expectation zero"),
    line(policy_gradient, "the probabilities of the other responses sum to one; the policy gradient remains"),
    part="mean of the others",
)

derive(
    "reinforce.kl_regularised",
    line(Diff(objective(), logits[k]) - beta * Diff(reverse(), logits[k]), "differentiate term by term"),
    line(
        expected(token_reward[a] * score) - beta * expected(log(softmax(a) / reference[a]) * score),
        "both gradients are expectations of weighted scores: the reward, and the log-ratio k₁",
    ),
    line(
        expected((token_reward[a] - beta * log(softmax(a) / reference[a])) * score),
        "collect the weights of the score",
    ),
)

derive(
    "reinforce.surrogate",
    line(
        sum_over(Diff(token_loss(response_logp(h, theta), centred), theta), h) / G,
        "the derivative of a finite sum",
    ),
    line(
        sum_over(-centred * Diff(response_logp(h, theta), theta), h) / G,
        "the advantages are held constant",
    ),
    line(-sum_over(centred * Diff(response_logp(h, theta), theta), h) / G, "take the sign out of the sum"),
    part="mean over responses",
)

derive(
    "reinforce.surrogate",
    line(-expected((token_reward[a] - baseline) * score), "the loss is minus the advantage times the log-probability"),
    line(-expected(token_reward[a] * score) + baseline * expected(score), "multiply out"),
    line(-expected(token_reward[a] * score), "the score has expectation zero"),
    line(-policy_gradient, "this is the policy gradient"),
    part="in expectation",
)

# Whole responses, by induction over the number of tokens that may still follow.

own, to_come = next_probability(j, v), expected_reward(j=next_prefix)
later = Diff(to_come, own_logit)

derive_by_induction(
    "reinforce.policy_gradient",
    left,
    first=[
        line(response_reward_at[j] * scores_so_far, "no token is left"),
        line(
            scores_so_far * expected_reward(left=0) + Diff(expected_reward(left=0), own_logit),
            "the reward of the response does not depend on the policy",
        ),
    ],
    then=[
        line(
            sum_over(
                own
                * (
                    ends * response_reward_at[next_prefix] * (scores_so_far + token_score)
                    + goes_on * weighted_scores(j=next_prefix, scores_so_far=scores_so_far + token_score)
                ),
                v,
            ),
            ONE_MORE,
        ),
        line(
            sum_over(
                own
                * (
                    ends * response_reward_at[next_prefix] * (scores_so_far + token_score)
                    + goes_on * ((scores_so_far + token_score) * to_come + later)
                ),
                v,
            ),
            KNOWN,
        ),
        line(
            scores_so_far * expected_reward(left + 1)
            + sum_over(
                own * token_score * (ends * response_reward_at[next_prefix] + goes_on * to_come)
                + own * goes_on * later,
                v,
            ),
            "the scores so far weight the expected reward",
        ),
        line(
            scores_so_far * expected_reward(left + 1) + Diff(expected_reward(left + 1), own_logit),
            "the product rule: π times the score of the token is the derivative of π",
        ),
    ],
    part="from any prefix",
)

reward_now = step_reward[j, v]
more_rewards, more_scores = rewards_so_far + reward_now, scores_so_far + token_score
after_it = goes_on * reward_left(j=next_prefix)
what_comes = scores_so_far * reward_left(left + 1) + score_times_reward_left(left + 1)

derive_by_induction(
    "reinforce.reward_to_go",
    left,
    first=[
        line(scores_so_far * rewards_so_far, "no token is left"),
        line(
            scores_so_far * rewards_so_far + scores_so_far * reward_left(left=0) + score_times_reward_left(left=0),
            "there is no reward to come",
        ),
    ],
    then=[
        line(
            sum_over(
                own
                * (
                    ends * more_scores * more_rewards
                    + goes_on * by_all_rewards(j=next_prefix, scores_so_far=more_scores, rewards_so_far=more_rewards)
                ),
                v,
            ),
            ONE_MORE,
        ),
        line(
            sum_over(
                own
                * (
                    more_scores * more_rewards
                    + more_scores * after_it
                    + goes_on * score_times_reward_left(j=next_prefix)
                ),
                v,
            ),
            KNOWN,
        ),
        line(
            scores_so_far * rewards_so_far + rewards_so_far * sum_over(own * token_score, v) + what_comes,
            "multiply out: the scores so far and that of the token, each times the rewards to come",
        ),
        line(scores_so_far * rewards_so_far + what_comes, "the score has expectation zero"),
    ],
    part="weighted by all rewards",
)

derive_by_induction(
    "reinforce.reward_to_go",
    left,
    first=[
        line(products_so_far, "no token is left"),
        line(
            products_so_far + scores_so_far * reward_left(left=0) + score_times_reward_left(left=0),
            "there is no reward to come",
        ),
    ],
    then=[
        line(
            sum_over(
                own
                * (
                    ends * all_products
                    + goes_on * by_rewards_to_go(j=next_prefix, scores_so_far=more_scores, products_so_far=all_products)
                ),
                v,
            ),
            ONE_MORE,
        ),
        line(
            sum_over(
                own * (all_products + more_scores * after_it + goes_on * score_times_reward_left(j=next_prefix)),
                v,
            ),
            KNOWN,
        ),
        line(
            products_so_far
            + scores_so_far * sum_over(own * (reward_now + after_it), v)
            + sum_over(
                own * (token_score * (reward_now + after_it) + goes_on * score_times_reward_left(j=next_prefix)), v
            ),
            "multiply out: the scores so far and that of the token, each times the rewards to come",
        ),
        line(products_so_far + what_comes, "these are the rewards to come, and the scores to come times theirs"),
    ],
    part="weighted by the rewards to go",
)

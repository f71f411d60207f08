"""REINFORCE: the gradient of the expected reward as an expectation of weighted scores, and the baselines it allows.

R. J. Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992. The
probabilities and rewards that weight a score are outside its derivative: they are constants to autograd.
"""

from sympy import Integer, exp, log

from grape_spec.dpo import beta, reward
from grape_spec.kl import expected, k3, n, prefix_probability, q, reference, reverse, y
from grape_spec.language import (
    Diff,
    Real,
    Size,
    Smooth,
    SmoothPositive,
    Source,
    at_least,
    claim,
    define,
    delta,
    differs,
    equals,
    family,
    function,
    greater,
    holds,
    iff,
    index,
    less,
    recursive,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.domains import Naturals
from grape_spec.policy import SUTTON, P, V, a, j, k, left, logits, logp, score, softmax, t, theta, v
from grape_spec.ppo import advantage
from grape_spec.proof.rules import algebra, fact, finite_sum, over_depth, rewrite, smt
from grape_spec.responses import (
    by_all_rewards,
    by_rewards_to_go,
    expected_reward,
    next_probability,
    next_score,
    prefix,
    products_so_far,
    reward_left,
    rewards_so_far,
    row_logits,
    score_times_reward_left,
    scores_so_far,
    step_reward,
    weighted_scores,
)

WILLIAMS = Source("williams1992simple")
GREENSMITH = Source("greensmith2004variance")
KOOL = Source("kool2019buy")

token_reward = family("token_reward", Real, V, text="reward of each response of one token", tex="r")
baseline = symbol("baseline", Real, "a number that does not depend on the response", tex="b")

objective = define(
    "reinforce.objective",
    "Expected reward of a response of one token.",
    (logits, token_reward),
    sum_over(softmax(v) * token_reward[v], v),
    tex="J",
    source=WILLIAMS,
)

policy_gradient = Diff(objective(), logits[k])

claim(
    "reinforce.closed_form",
    "The gradient raises a logit if and only if the reward of its token exceeds the expected reward, in proportion to "
    "the difference and to its probability.",
    holds(equals(policy_gradient, softmax(k) * (token_reward[k] - objective())), by=finite_sum()),
    holds(
        iff(greater(policy_gradient, 0), greater(token_reward[k], objective())),
        name="raises",
        by=smt(given=[fact("reinforce.closed_form")]),
    ),
    holds(
        iff(less(policy_gradient, 0), less(token_reward[k], objective())),
        name="lowers",
        by=smt(given=[fact("reinforce.closed_form")]),
    ),
    wrong=[
        wrong("without the expected reward", equals(policy_gradient, softmax(k) * token_reward[k])),
        wrong("without the probability", equals(policy_gradient, token_reward[k] - objective())),
    ],
)

# Responses of many tokens: response y has the probability of its tokens, each given those before it.

response_token = function(
    "response_token",
    SmoothPositive,
    "probability of token t of response y given the tokens before it, as a function of the parameter",
    tex="p",
)
response_probability = exp(sum_over(log(response_token(y, t, theta)), t))
response_score = sum_over(Diff(log(response_token(y, t, theta)), theta), t)

first_token = function(
    "first_token", SmoothPositive, "probability of each first token, as a function of the parameter", tex="p"
)
completion = function(
    "completion",
    SmoothPositive,
    "probability of completion y after first token v, as a function of the parameter",
    tex="q",
)
completion_reward = family("completion_reward", Real, V, n, text="reward of first token v with completion y", tex="r")
continued = first_token(v, theta) * completion(v, y, theta) * completion_reward[v, y]
first_score = Diff(log(first_token(v, theta)), theta)
later_score = Diff(log(completion(v, y, theta)), theta)

claim(
    "reinforce.policy_gradient",
    "The gradient of the expected reward is the expected reward-weighted score. For sequences the score is the sum "
    "over all tokens, whether all have the same number of tokens or end with an end token by a limit T: each token "
    "adds its own score to the gradient of what follows it.",
    holds(equals(policy_gradient, expected(token_reward[a] * score)), name="one token", by=finite_sum()),
    holds(
        equals(
            Diff(sum_over(response_probability * reward[y], y), theta),
            sum_over(response_probability * reward[y] * response_score, y),
        ),
        name="responses of many tokens",
        by=finite_sum(),
    ),
    holds(
        equals(
            Diff(sum_over(continued, v, y), theta),
            sum_over(continued * (first_score + later_score), v, y),
        ),
        name="one token more",
        by=finite_sum(),
    ),
    holds(
        equals(
            weighted_scores(),
            scores_so_far * expected_reward() + Diff(expected_reward(), row_logits[prefix, k]),
        ),
        name="from any prefix",
        by=over_depth(left),
    ),
    holds(
        equals(Diff(expected_reward(), row_logits[prefix, k]), weighted_scores(scores_so_far=0)),
        name="all responses of at most T tokens",
        by=smt(given=[fact("reinforce.policy_gradient", part="from any prefix", scores_so_far=Integer(0))]),
    ),
    uses=["policy.sequence.log_prob"],
    source=WILLIAMS,
    wrong=[
        wrong(
            "the derivative of the probability in place of its logarithm",
            equals(policy_gradient, expected(token_reward[a] * Diff(softmax(a), logits[k]))),
        ),
        wrong(
            "every token has the same weight, whatever its probability",
            equals(policy_gradient, sum_over(token_reward[a] * score, a)),
        ),
        wrong(
            "the score of the first token alone",
            equals(Diff(sum_over(continued, v, y), theta), sum_over(continued * first_score, v, y)),
        ),
    ],
)

prefix_baseline = family("prefix_baseline", Real, P, text="a number for each prefix", tex="b")

claim(
    "reinforce.baseline.unbiased",
    "A baseline that does not depend on the response changes nothing in expectation; over sequences it may depend on "
    "everything before the token.",
    holds(equals(expected((token_reward[a] - baseline) * score), policy_gradient), name="one token", by=finite_sum()),
    holds(
        equals(
            sum_over(prefix_probability[j] * prefix_baseline[j] * sum_over(next_probability() * next_score, a), j),
            0,
        ),
        name="a number for each prefix",
        by=finite_sum(),
    ),
    uses=["policy.score.mean_zero"],
    source=WILLIAMS,
    wrong=[
        wrong(
            "also one that depends on the response, such as its own log-probability",
            equals(expected((token_reward[a] - log(softmax(a))) * score), policy_gradient),
        ),
        wrong("it removes the expected reward", equals(expected((token_reward[a] - baseline) * score), 0)),
    ],
)

squared_score = define(
    "reinforce.squared_score",
    "Squared norm of the score of a token.",
    (a, logits),
    sum_over((delta(a, k) - softmax(k)) ** 2, k),
    tex=r"\Vert s_{{{a}}} \Vert^2",
)

second_moment = define(
    "reinforce.second_moment",
    "Expected squared norm of the gradient estimate from one sample.",
    (logits, token_reward, baseline),
    expected((token_reward[a] - baseline) ** 2 * squared_score(a)),
    tex="f({baseline})",
)

best_baseline = define(
    "reinforce.best_baseline",
    "Mean reward, each response weighted by its squared score.",
    (logits, token_reward),
    expected(token_reward[a] * squared_score(a)) / expected(squared_score(a)),
    tex="b^*",
    source=GREENSMITH,
)

estimate = (token_reward[a] - baseline) * score
variance = define(
    "reinforce.variance",
    "Variance of the gradient estimate from one sample, summed over the logits.",
    (logits, token_reward, baseline),
    sum_over(expected(estimate**2) - expected(estimate) ** 2, k),
    tex=r"\mathrm{{Var}}({baseline})",
)
some_score = greater(expected(squared_score(a)), 0)

NOT_NEGATIVE = {
    "right: reinforce.variance(baseline=best_baseline) → -reinforce.variance(baseline=best_baseline)": (
        "true and weaker, as a variance is not negative"
    )
}
BEST, MOMENT = "reinforce.baseline.optimal", "the variance is the second moment, less what no baseline changes"

claim(
    BEST,
    "The variance of the gradient estimate is smallest when the baseline is the mean reward weighted by the squared "
    "scores, and larger for every other baseline.",
    holds(equals(sum_over(score**2, k), squared_score(a)), name="squared score", by=finite_sum()),
    holds(
        equals(variance(), second_moment() - sum_over(policy_gradient**2, k)),
        name=MOMENT,
        by=finite_sum(),
    ),
    holds(
        equals(
            second_moment() - second_moment(baseline=best_baseline()),
            expected(squared_score(a)) * (baseline - best_baseline()) ** 2,
        ),
        name="excess",
        assuming=[some_score],
        by=finite_sum(),
    ),
    holds(
        equals(
            variance() - variance(baseline=best_baseline()),
            expected(squared_score(a)) * (baseline - best_baseline()) ** 2,
        ),
        name="excess of the variance",
        assuming=[some_score],
        by=smt(
            given=[
                fact(BEST, part=MOMENT),
                fact(BEST, part=MOMENT, baseline=best_baseline()),
                fact(BEST, part="excess"),
            ]
        ),
    ),
    holds(
        at_least(variance(), variance(baseline=best_baseline())),
        name="no baseline does better",
        assuming=[some_score],
        by=smt(given=[fact(BEST, part="excess of the variance")]),
        equivalent=NOT_NEGATIVE,
    ),
    holds(
        greater(variance(), variance(baseline=best_baseline())),
        name="every other baseline does worse",
        assuming=[some_score, differs(baseline, best_baseline())],
        by=smt(given=[fact(BEST, part="excess of the variance")]),
        equivalent=NOT_NEGATIVE,
    ),
    source=GREENSMITH,
    wrong=[
        wrong(
            "the expected reward is optimal",
            at_least(variance(), variance(baseline=objective())),
        ),
        wrong("the variance does not depend on the baseline", equals(variance(), variance(baseline=0))),
    ],
)

earlier_reward = family("earlier_reward", Real, P, text="a reward given on the way to prefix j", tex="r")


what_follows = scores_so_far * reward_left() + score_times_reward_left()
TO_GO = "reinforce.reward_to_go"

claim(
    TO_GO,
    "Rewards given before a token do not affect its gradient in expectation: each score need only be weighted by the "
    "rewards from its token on, for responses that end with an end token or at a limit T.",
    holds(
        equals(
            sum_over(prefix_probability[j] * earlier_reward[j] * sum_over(next_probability() * next_score, a), j),
            0,
        ),
        name="an earlier reward",
        by=rewrite("reinforce.baseline.unbiased", part="a number for each prefix", prefix_baseline=earlier_reward),
    ),
    holds(
        equals(by_all_rewards(), scores_so_far * rewards_so_far + what_follows),
        name="weighted by all rewards",
        by=over_depth(left),
    ),
    holds(
        equals(by_rewards_to_go(), products_so_far + what_follows),
        name="weighted by the rewards to go",
        by=over_depth(left),
    ),
    holds(
        equals(
            by_all_rewards(scores_so_far=0, rewards_so_far=0),
            by_rewards_to_go(scores_so_far=0, products_so_far=0),
        ),
        name="all responses of at most T tokens",
        by=smt(
            given=[
                fact(TO_GO, part="weighted by all rewards", scores_so_far=Integer(0), rewards_so_far=Integer(0)),
                fact(TO_GO, part="weighted by the rewards to go", scores_so_far=Integer(0), products_so_far=Integer(0)),
            ]
        ),
    ),
    source=SUTTON,
    wrong=[
        wrong(
            "the reward for the token itself does not matter, either",
            equals(
                sum_over(prefix_probability[j] * sum_over(next_probability() * step_reward[j, a] * next_score, a), j),
                0,
            ),
        )
    ],
)

# A baseline from the other responses to the same prompt.

G = symbol("G", Size, "number of responses to one prompt")
g = index("g", G, "a response to the prompt")
h = index("h", G, "a response that a sum runs over")
response_reward = family("response_reward", Real, G, text="reward of each response to one prompt", tex="r")
others_sum = family(
    "others_sum", Real, n, text="sum of the rewards of the other responses in outcome y", tex=r"R_{\mathrm{oth}}"
)

several = greater(G, 1)
mean_of_others = sum_over((1 - delta(g, h)) * response_reward[h], h) / (G - 1)
mean_of_all = sum_over(response_reward[h], h) / G

claim(
    "reinforce.leave_one_out.identity",
    "A reward minus the mean of the others is G/(G − 1) times the reward minus the mean of all.",
    holds(
        equals(response_reward[g] - mean_of_others, G / (G - 1) * (response_reward[g] - mean_of_all)),
        assuming=[several],
        by=finite_sum(),
    ),
    source=KOOL,
    wrong=[
        wrong(
            "the two are equal",
            equals(response_reward[g] - mean_of_others, response_reward[g] - mean_of_all),
            assuming=[several],
        ),
        wrong(
            "the factor the other way round",
            equals(response_reward[g] - mean_of_others, (G - 1) / G * (response_reward[g] - mean_of_all)),
            assuming=[several],
        ),
    ],
)

less_mean_of_others = token_reward[a] - others_sum[y] / (G - 1)
less_mean_of_all = token_reward[a] - (token_reward[a] + others_sum[y]) / G

# The average over all G responses, each drawn independently. It depends on sums over the responses alone.

response_score = family("response_score", Real, G, text="score of each response", tex="s")
rewards_drawn = symbol("rewards_drawn", Real, "sum of the rewards of the responses drawn so far", tex="S_r")
scores_drawn = symbol("scores_drawn", Real, "sum of the scores of the responses drawn so far", tex="S_s")
products_drawn = symbol(
    "products_drawn", Real, "sum of reward times score over the responses drawn so far", tex="S_{rs}"
)
product_factor = symbol("product_factor", Real, "a factor of the sum of the products", tex="c")
drawn_score = Diff(log(softmax(v)), logits[k])
draws = symbol("draws", Naturals("whole number", 0), "number of responses still to be drawn", tex="N")

of_all_draws = recursive(
    "reinforce.of_all_draws",
    "Expectation, over responses drawn independently from the policy, of c times the sum of reward times score, minus "
    "the sum of the rewards times the sum of the scores.",
    (draws, rewards_drawn, scores_drawn, products_drawn, product_factor, logits, k, token_reward),
    draws,
    product_factor * products_drawn - rewards_drawn * scores_drawn,
    lambda later: sum_over(
        softmax(v)
        * later(
            rewards_drawn=rewards_drawn + token_reward[v],
            scores_drawn=scores_drawn + drawn_score,
            products_drawn=products_drawn + token_reward[v] * drawn_score,
        ),
        v,
    ),
    tex=r"E_{{{draws}}}({rewards_drawn}, {scores_drawn}, {products_drawn})",
)

group_estimate = sum_over(response_reward[g] * response_score[g], g)
sums_of_group = sum_over(response_reward[h], h) * sum_over(response_score[h], h)
from_nothing = {"rewards_drawn": Integer(0), "scores_drawn": Integer(0), "products_drawn": Integer(0)}
group_of_draws = of_all_draws(G, 0, 0, 0, G)
LEAVE_ONE_OUT, ALL_DRAWS = "reinforce.leave_one_out.unbiased", "any number of draws"

claim(
    "reinforce.leave_one_out.unbiased",
    "With the mean reward of the other, independently drawn responses as the baseline, the estimate is unbiased, from "
    "one response and on average over all G; with the mean of all, the response's own reward included, it is scaled by "
    "(G − 1)/G.",
    holds(
        equals(sum_over(q[y] * expected(less_mean_of_others * score), y), policy_gradient),
        name="mean of the others",
        assuming=[several],
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(q[y] * expected(less_mean_of_all * score), y), (G - 1) / G * policy_gradient),
        name="mean of all",
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(softmax(v) * expected((token_reward[a] - token_reward[v]) * score), v), policy_gradient),
        name="two responses from one policy",
        by=finite_sum(),
    ),
    holds(
        equals(
            sum_over((response_reward[g] - mean_of_others) * response_score[g], g) / G,
            (G * group_estimate - sums_of_group) / (G * (G - 1)),
        ),
        name="the average over the group, by sums",
        assuming=[several],
        by=finite_sum(),
    ),
    holds(
        equals(
            sum_over((response_reward[g] - mean_of_all) * response_score[g], g) / G,
            (G * group_estimate - sums_of_group) / G**2,
        ),
        name="the same with the mean of all",
        by=finite_sum(),
    ),
    holds(
        equals(
            of_all_draws(G),
            product_factor * (products_drawn + G * policy_gradient)
            - rewards_drawn * scores_drawn
            - G * (scores_drawn * objective() + policy_gradient),
        ),
        name=ALL_DRAWS,
        by=over_depth(G),
    ),
    holds(
        equals(group_of_draws / (G * (G - 1)), policy_gradient),
        name="the average over the group is unbiased",
        assuming=[several],
        by=smt(given=[fact(LEAVE_ONE_OUT, part=ALL_DRAWS, product_factor=G, **from_nothing)]),
    ),
    holds(
        equals(group_of_draws / G**2, (G - 1) / G * policy_gradient),
        name="the average with the mean of all",
        by=smt(given=[fact(LEAVE_ONE_OUT, part=ALL_DRAWS, product_factor=G, **from_nothing)]),
    ),
    source=KOOL,
    wrong=[
        wrong(
            "the mean of all is unbiased, too",
            equals(sum_over(q[y] * expected(less_mean_of_all * score), y), policy_gradient),
            assuming=[several],
        ),
    ],
)

claim(
    "reinforce.kl_regularised",
    "The KL penalty may be subtracted from the reward: β times the log-ratio, held constant like the reward.",
    holds(
        equals(
            Diff(objective() - beta * reverse(), logits[k]),
            expected((token_reward[a] - beta * log(softmax(a) / reference[a])) * score),
        ),
        by=finite_sum(),
    ),
    uses=["kl.k1.reward_gradient"],
    wrong=[
        wrong(
            "the log-ratio of reference to policy",
            equals(
                Diff(objective() - beta * reverse(), logits[k]),
                expected((token_reward[a] - beta * log(reference[a] / softmax(a))) * score),
            ),
        ),
        wrong(
            "k3 in place of the log-ratio",
            equals(
                Diff(objective() - beta * reverse(), logits[k]),
                expected((token_reward[a] - beta * k3(log(softmax(a)), log(reference[a]))) * score),
            ),
        ),
    ],
)

token_loss = define(
    "reinforce.token_loss",
    "Surrogate loss of a token, to be minimised; only its gradient is meaningful.",
    (logp, advantage),
    -advantage * logp,
    tex="L({logp})",
    source=WILLIAMS,
)

response_logp = function(
    "response_logp", Smooth, "log-probability of each response, as a function of the parameter", tex=r"\ell"
)
centred = response_reward[h] - baseline

claim(
    "reinforce.surrogate",
    "With the advantages held constant, the gradient of the surrogate is minus the policy gradient estimate.",
    holds(equals(Diff(token_loss(), logp), -advantage), name="in the log-probability", by=algebra()),
    holds(
        equals(
            Diff(sum_over(token_loss(response_logp(h, theta), centred), h) / G, theta),
            -sum_over(centred * Diff(response_logp(h, theta), theta), h) / G,
        ),
        name="mean over responses",
        by=finite_sum(),
    ),
    holds(
        equals(
            expected(Diff(token_loss(log(softmax(a)), token_reward[a] - baseline), logits[k])),
            -policy_gradient,
        ),
        name="in expectation",
        by=finite_sum(),
    ),
    source=WILLIAMS,
    wrong=[
        wrong("the sign flipped", equals(Diff(token_loss(), logp), advantage)),
        wrong(
            "with the advantages differentiated, too, such as a reward minus the log-probability",
            equals(
                Diff(token_loss(response_logp(g, theta), response_reward[g] - response_logp(g, theta)), theta),
                -(response_reward[g] - response_logp(g, theta)) * Diff(response_logp(g, theta), theta),
            ),
        ),
        wrong(
            "its value is minus the expected reward, too",
            equals(expected(token_loss(log(softmax(a)), token_reward[a])), -objective()),
        ),
    ],
)

"""Policy improvement: the gain of a new policy is what it earns of the old policy's advantages.

S. Kakade and J. Langford, Approximately Optimal Approximate Reinforcement Learning, 2002, lemma 6.1; J. Schulman
et al., Trust Region Policy Optimization, arXiv:1502.05477.
"""

from sympy import Integer, Lambda

from grape_spec.language import (
    Real,
    Simplex,
    Source,
    claim,
    define,
    delta,
    equals,
    family,
    holds,
    recursive,
    sum_over,
    wrong,
)
from grape_spec.policy import P, V, after, end, j, left, next_token, v
from grape_spec.proof.rules import finite_sum, over_depth
from grape_spec.trpo import SCHULMAN

KAKADE = Source("kakade2002approximately", "lemma 6.1")

# The gain of a new policy, over whole responses.

new_next_token = family(
    "new_next_token", Simplex, P, V, text="probability of each next token under the new policy", tex=r"\pi'"
)
continuation_value = family(
    "continuation_value", Real, V, text="value of the prefix continued with token v, under the old policy", tex="Q"
)
later_gain = family("later_gain", Real, V, text="gain of the new policy after token v", tex=r"\Delta")

prefix_value = define(
    "trpo.prefix_value",
    "Value of a prefix: the expectation of what follows.",
    (j, next_token, continuation_value),
    sum_over(next_token[j, v] * continuation_value[v], v),
    tex=r"V_{{{j}}}({next_token})",
    source=SCHULMAN.section(2),
)

prefix_advantage = define(
    "trpo.prefix_advantage",
    "Advantage of a token after a prefix: its value minus that of the prefix.",
    (v, j, next_token, continuation_value),
    continuation_value[v] - prefix_value(),
    tex=r"A_{{{j}}}({v})",
    source=SCHULMAN.section(2),
)

# Whole responses: they end with the end token, or are cut off when no token is left. Each has a reward of its own.

prefix_reward = family(
    "prefix_reward", Real, P, text="reward of the response that ends or is cut off after each prefix", tex="r"
)

expected_reward = recursive(
    "trpo.expected_reward",
    "Expected reward of all responses that continue a prefix.",
    (left, j, end, next_token, after, prefix_reward),
    left,
    prefix_reward[j],
    lambda rest: sum_over(
        next_token[j, v] * (delta(v, end) * prefix_reward[j] + (1 - delta(v, end)) * rest(j=after[j, v])), v
    ),
    tex=r"J_{{{left}}}({j}, {next_token})",
)

worth = Lambda(v, delta(v, end) * prefix_reward[j] + (1 - delta(v, end)) * expected_reward(j=after[j, v]))

advantage_sum = recursive(
    "trpo.advantage_sum",
    "Expected sum, over the tokens that the new policy appends to a prefix, of their advantages under the old policy.",
    (left, j, end, next_token, new_next_token, after, prefix_reward),
    left,
    Integer(0),
    lambda rest: sum_over(
        new_next_token[j, v]
        * (prefix_advantage(v, continuation_value=worth) + (1 - delta(v, end)) * rest(j=after[j, v])),
        v,
    ),
    tex=r"\Sigma A_{{{left}}}({j})",
    source=KAKADE,
)

gain = expected_reward(next_token=new_next_token) - expected_reward()

claim(
    "trpo.performance_difference",
    "The gain of a new policy is the sum of the old policy's advantages, in expectation under the new policy, for "
    "responses of any length.",
    holds(
        equals(
            prefix_value(j, new_next_token, Lambda(v, continuation_value[v] + later_gain[v])) - prefix_value(),
            sum_over(new_next_token[j, v] * (prefix_advantage(v) + later_gain[v]), v),
        ),
        name="one token more",
        by=finite_sum(),
    ),
    holds(equals(advantage_sum(), gain), name="responses of at most T tokens", by=over_depth(left)),
    source=KAKADE,
    wrong=[
        wrong(
            "expected under the old policy",
            equals(
                prefix_value(j, new_next_token) - prefix_value(),
                sum_over(next_token[j, v] * prefix_advantage(v), v),
            ),
        ),
        wrong("the gain of the old policy over the new", equals(advantage_sum(), -gain)),
        wrong(
            "advantages of the new policy",
            equals(
                prefix_value(j, new_next_token) - prefix_value(),
                sum_over(new_next_token[j, v] * prefix_advantage(v, next_token=new_next_token), v),
            ),
        ),
    ],
)

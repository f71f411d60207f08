"""Policy improvement: the gain of a new policy is what it earns of the old policy's advantages.

S. Kakade and J. Langford, Approximately Optimal Approximate Reinforcement Learning, 2002, lemma 6.1; J. Schulman
et al., Trust Region Policy Optimization, arXiv:1502.05477.
"""

from sympy import Add, Expr, IndexedBase, Integer, Lambda

from grape_spec.language import (
    Real,
    Simplex,
    Size,
    Source,
    claim,
    define,
    equals,
    family,
    holds,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import P, T, V, j, next_token, prefixes, v
from grape_spec.proof.rules import (
    algebra,
    finite_sum,
)
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
    "Advantage of a token after a prefix: its value less that of the prefix.",
    (v, j, next_token, continuation_value),
    continuation_value[v] - prefix_value(),
    tex=r"A_{{{j}}}({v})",
    source=SCHULMAN.section(2),
)

response_count = symbol("response_count", Size, "number of responses", tex="N")
reward_of_response = family("reward_of_response", Real, response_count, text="reward of each response", tex="r")


def gain_of_tree(vocabulary: int, length: int) -> tuple[Expr, Expr]:
    """Expected sum of advantages under the new policy, and what it gains in expected reward, over a tree of responses.

    Every prefix has its own rows of probabilities; token 1 ends a response, and the length limit does.
    """
    rows = {prefix: row for row, prefix in enumerate(prefixes(vocabulary, length), 1)}
    responses: dict[tuple[int, ...], int] = {}
    tokens = range(1, vocabulary + 1)

    def value(prefix: tuple[int, ...], policy: IndexedBase) -> Expr:
        if prefix not in rows:
            return reward_of_response[responses.setdefault(prefix, len(responses) + 1)]
        return Add(*(policy[rows[prefix], token] * value((*prefix, token), policy) for token in tokens))

    def advantages(prefix: tuple[int, ...]) -> Expr:
        if prefix not in rows:
            return Integer(0)
        own = value(prefix, next_token)
        return Add(
            *(
                new_next_token[rows[prefix], token]
                * (value((*prefix, token), next_token) - own + advantages((*prefix, token)))
                for token in tokens
            )
        )

    return advantages(()), value((), new_next_token) - value((), next_token)


trees = {(2, 2): 3, (2, 3): 4, (3, 2): 7}

claim(
    "trpo.performance_difference",
    "The gain of a new policy is the sum of the old policy's advantages, in expectation under the new policy: by "
    "induction on the tokens left.",
    holds(
        equals(
            prefix_value(j, new_next_token, Lambda(v, continuation_value[v] + later_gain[v])) - prefix_value(),
            sum_over(new_next_token[j, v] * (prefix_advantage(v) + later_gain[v]), v),
        ),
        name="one token more",
        by=finite_sum(),
    ),
    *(
        holds(
            equals(*gain_of_tree(vocabulary, length)),
            name=f"V = {vocabulary}, T = {length}",
            by=algebra(sizes={V: vocabulary, T: length, P: len(prefixes(vocabulary, length)), response_count: count}),
        )
        for (vocabulary, length), count in trees.items()
    ),
    source=KAKADE,
    wrong=[
        wrong(
            "expected under the old policy",
            equals(
                prefix_value(j, new_next_token) - prefix_value(),
                sum_over(next_token[j, v] * prefix_advantage(v), v),
            ),
        ),
        wrong(
            "advantages of the new policy",
            equals(
                prefix_value(j, new_next_token) - prefix_value(),
                sum_over(new_next_token[j, v] * prefix_advantage(v, next_token=new_next_token), v),
            ),
        ),
    ],
)

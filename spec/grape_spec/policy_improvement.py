"""Policy improvement: the gain of a new policy, and how far the surrogate of TRPO is from it.

S. Kakade and J. Langford, Approximately Optimal Approximate Reinforcement Learning, 2002, lemma 6.1; J. Schulman
et al., Trust Region Policy Optimization, arXiv:1502.05477.
"""

from sympy import Add, Expr, IndexedBase, Integer, Lambda, Rational, log, sqrt

from grape_spec.kl import divergence, n, p, q, x, y
from grape_spec.language import (
    Open,
    Positive,
    Real,
    Simplex,
    Size,
    Source,
    at_least,
    at_most,
    claim,
    define,
    equals,
    family,
    greater,
    holds,
    index,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import P, T, V, j, next_token, prefixes, t, v
from grape_spec.proof.rules import algebra, fact, finite_sum, from_minimum, induction, smt, termwise
from grape_spec.trpo import SCHULMAN, max_kl, multiplier

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


# How far the surrogate is from the true return.

total_variation = define(
    "trpo.total_variation",
    "Total variation of two distributions: half the sum of the absolute differences.",
    (p, q),
    sum_over(abs(p[y] - q[y]) / 2, y),
    tex=r"\mathrm{{TV}}({p}, {q})",
    source=SCHULMAN.section(3),
)

below_log = (x - 1) * (5 * x + 1) / (2 * x * (x + 2))
excess = multiplier / 2 * p[y] * log(p[y] / q[y]) + (p[y] + 2 * q[y]) / (3 * multiplier) - abs(p[y] - q[y])

claim(
    "trpo.pinsker",
    "The square of the total variation is at most half the divergence: Pinsker's inequality.",
    holds(
        at_least(log(x), below_log),
        name="the logarithm",
        by=from_minimum(of=log(x) - below_log, over=x, at=1),
    ),
    holds(
        at_least((2 * x + 4) * (x * log(x) - x + 1), 3 * (x - 1) ** 2),
        name="times x",
        by=smt(given=[fact("trpo.pinsker", part="the logarithm")]),
    ),
    holds(
        at_least(excess - multiplier / 2 * (p[y] - q[y]), 0),
        name="a term",
        by=smt(given=[fact("trpo.pinsker", part="times x", x=p[y] / q[y])]),
    ),
    holds(
        at_least(sum_over(excess, y), 0),
        name="summed",
        by=termwise(multiplier / 2 * (p[y] - q[y]), given=[fact("trpo.pinsker", part="a term")]),
    ),
    holds(
        equals(sum_over(excess, y), multiplier / 2 * divergence() + 1 / multiplier - 2 * total_variation()),
        name="what the sum is",
        by=finite_sum(),
    ),
    holds(at_least(total_variation(), 0), name="not negative", by=termwise(Rational(0))),
    holds(
        at_least(multiplier / 2 * divergence() + 1 / multiplier, 2 * total_variation()),
        name="for every multiplier",
        by=smt(
            given=[
                fact("trpo.pinsker", part="summed"),
                fact("trpo.pinsker", part="what the sum is"),
                fact("trpo.pinsker", part="not negative"),
            ]
        ),
    ),
    holds(
        at_most(total_variation() ** 2, divergence() / 2),
        name="where the distributions differ",
        assuming=[greater(total_variation(), 0)],
        by=smt(given=[fact("trpo.pinsker", part="for every multiplier", multiplier=1 / total_variation())]),
    ),
    holds(
        at_most(total_variation() ** 2, divergence() / 2),
        name="everywhere",
        by=smt(
            given=[
                fact("trpo.pinsker", part="where the distributions differ"),
                fact("trpo.pinsker", part="not negative"),
                fact("kl.nonnegative", part="bound"),
            ]
        ),
    ),
    source=SCHULMAN.section(3),
    wrong=[
        wrong("without the square", at_most(total_variation(), divergence())),
        wrong("a third of the divergence", at_most(total_variation() ** 2, divergence() / 3)),
        wrong("the other way round", at_least(total_variation() ** 2, divergence())),
    ],
)

# Responses of two tokens. After a first token the worth of a second one lies within ε of some number; where that number
# is the old value of the first token, no advantage of a second token is larger than ε.

opening = index("opening", n, "the first token", tex="o")
second = family("second", Simplex, n, n, text="probability of each second token under the old policy", tex=r"\pi")
new_second = family(
    "new_second", Simplex, n, n, text="probability of each second token under the new policy", tex=r"\pi'"
)
middle = family("middle", Real, n, text="a number for each first token", tex="c")
opinion = family("opinion", Open(-1, 1), n, n, text="worth of the second token, on a scale from −1 to 1", tex="s")
largest = symbol(
    "largest",
    Positive,
    "how far the worth of a second token may lie from the number of its first one; no advantage is above twice that",
    tex=r"\varepsilon",
)

worth = middle[opening] + largest * opinion[opening, y]
old_worth = sum_over(second[opening, y] * worth, y)

two_token_return = define(
    "trpo.two_token_return",
    "Expected reward of a response of two tokens.",
    (p, second, middle, opinion, largest),
    sum_over(p[opening] * old_worth, opening),
    tex=r"J({p}, {second})",
)

local_return = define(
    "trpo.local_return",
    "The same by the surrogate: old advantages under new probabilities, but after first tokens of the old policy.",
    (p, q, second, new_second, middle, opinion, largest),
    two_token_return()
    + sum_over(q[opening] * (old_worth - two_token_return()), opening)
    + sum_over(p[opening] * sum_over(new_second[opening, y] * (worth - old_worth), y), opening),
    tex=r"L({q}, {new_second})",
    source=SCHULMAN.eq(3),
)

bound_coefficient = define(
    "trpo.bound_coefficient",
    "Coefficient of the divergence in the bound, for responses of two tokens: C = 4ε.",
    (largest,),
    4 * largest,
    tex="C",
    domain=Positive,
    source=SCHULMAN.eq(9),
)

row_of_old, row_of_new = Lambda(y, second[opening, y]), Lambda(y, new_second[opening, y])
row_variation = total_variation(row_of_old, row_of_new)
turn = (new_second[opening, y] - second[opening, y]) * opinion[opening, y]
turned = sum_over(turn, y)
size_of_turn = abs(new_second[opening, y] - second[opening, y])
root = sqrt(max_kl)
missed = sum_over((q[opening] - p[opening]) * turned, opening)
missed_and_more = sum_over((q[opening] - p[opening]) * turned + 2 * root * abs(q[opening] - p[opening]), opening)
first_is_close = at_most(divergence(p, q), max_kl)
second_is_close = at_most(divergence(row_of_old, row_of_new), max_kl)

doubled_variation = "2*total_variation(y ↦ second[opening, y], y ↦ new_second[opening, y])"

claim(
    "trpo.bound",
    "The return of the new policy is at least its surrogate less C times the largest divergence: the bound of "
    "monotonic improvement, for responses of two tokens and any vocabulary.",
    holds(
        equals(two_token_return(q, new_second) - local_return(), largest * missed),
        name="what the surrogate misses",
        by=finite_sum(),
    ),
    holds(at_least(sum_over(size_of_turn - turn, y), 0), name="a row from above", by=termwise(Rational(0))),
    holds(at_least(sum_over(size_of_turn + turn, y), 0), name="a row from below", by=termwise(Rational(0))),
    holds(
        equals(sum_over(size_of_turn - turn, y), 2 * row_variation - turned),
        name="the sum from above",
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(size_of_turn + turn, y), 2 * row_variation + turned),
        name="the sum from below",
        by=finite_sum(),
    ),
    holds(
        at_most(abs(turned), 2 * row_variation),
        name="the second token",
        by=smt(
            given=[
                fact("trpo.bound", part="a row from above"),
                fact("trpo.bound", part="a row from below"),
                fact("trpo.bound", part="the sum from above"),
                fact("trpo.bound", part="the sum from below"),
                fact("trpo.pinsker", part="not negative", p=row_of_old, q=row_of_new),
            ]
        ),
        equivalent={
            f"right: {doubled_variation} → 2": "true and weaker, as no total variation is above 1",
            **{
                f"right: {of} → {changed}": f"true and weaker: {reason}"
                for of, other in (("second[opening, y]", "π′"), ("new_second[opening, y]", "π"))
                for changed, reason in (
                    (f"-{of}", "the sum of |π + π′| is 2"),
                    (f"{of} + 1", f"the sum over tokens is n, as {other} − 1 is nowhere above the other"),
                    (f"2*{of}", "doubling one of two distributions moves them no closer"),
                )
            },
        },
    ),
    holds(
        at_least(missed_and_more, 0),
        name="both tokens",
        assuming=[second_is_close],
        by=termwise(
            Rational(0),
            given=[
                fact("trpo.bound", part="the second token"),
                fact("trpo.pinsker", part="everywhere", p=row_of_old, q=row_of_new),
                fact("trpo.pinsker", part="not negative", p=row_of_old, q=row_of_new),
            ],
        ),
    ),
    holds(
        equals(missed_and_more, missed + 4 * root * total_variation()),
        name="the sum over first tokens",
        by=finite_sum(),
    ),
    holds(
        at_least(two_token_return(q, new_second), local_return() - bound_coefficient() * max_kl),
        name="bound",
        assuming=[first_is_close, second_is_close],
        by=smt(
            given=[
                fact("trpo.bound", part="what the surrogate misses"),
                fact("trpo.bound", part="both tokens"),
                fact("trpo.bound", part="the sum over first tokens"),
                fact("trpo.pinsker", part="everywhere"),
                fact("trpo.pinsker", part="not negative"),
            ]
        ),
        equivalent={
            "right: -max_kl*bound_coefficient → -bound_coefficient": "true by itself, as no total variation is above 1",
        },
    ),
    source=SCHULMAN.eq(9),
    wrong=[
        wrong("without the divergence", at_least(two_token_return(q, new_second), local_return())),
    ],
)

# Responses of any length. Summed over the tokens, C is 2T(T − 1)ε instead of 4ε: the distance grows with every token.

reach = family("reach", Simplex, P, text="probability of each prefix of one length under the old policy", tex="d")
new_reach = family(
    "new_reach", Simplex, P, text="probability of each prefix of one length under the new policy", tex="d'"
)
closeness = symbol("closeness", Positive, "upper bound of the total variation of next tokens", tex=r"\alpha")

moved_apart = abs(new_reach[j] * new_next_token[j, v] - reach[j] * next_token[j, v])
apart = abs(new_reach[j] - reach[j])
parting = abs(new_next_token[j, v] - next_token[j, v])
spare = sum_over(apart * new_next_token[j, v] + reach[j] * parting - moved_apart, j, v)

claim(
    "trpo.bound.horizon",
    "With every token, the distance between the two distributions over prefixes grows by at most the expected "
    "distance between the next tokens; the errors of T tokens, of which the t-th is at most 4(t − 1)εα², add up to "
    "at most 2T(T − 1)εα².",
    holds(at_least(spare, 0), name="one token more: what is to spare is not negative", by=termwise(Rational(0))),
    holds(
        equals(
            spare,
            sum_over(apart, j) + sum_over(reach[j] * sum_over(parting, v), j) - sum_over(moved_apart, j, v),
        ),
        name="what is to spare",
        by=finite_sum(),
    ),
    holds(
        equals(
            sum_over((t - 1) * 2 * closeness * 2 * closeness * largest, t), 2 * T * (T - 1) * largest * closeness**2
        ),
        name="all tokens",
        by=induction(T),
    ),
    source=SCHULMAN.section("A"),
    wrong=[
        wrong(
            "the distance does not grow",
            at_most(sum_over(moved_apart, j, v), sum_over(apart, j)),
        ),
        wrong(
            "linear in the number of tokens",
            equals(sum_over((t - 1) * 2 * closeness * 2 * closeness * largest, t), 4 * T * largest * closeness**2),
        ),
    ],
)

"""The bound of monotonic improvement for responses of any length.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477, section 3 and appendix A. Rewards lie between −ε
and ε, and after every prefix the two policies are within α in total variation.
"""

from typing import Any

from sympy import Integer, Lambda, Rational

from grape_spec.language import (
    Open,
    at_least,
    at_most,
    claim,
    define,
    delta,
    equals,
    family,
    holds,
    index,
    recursive,
    substitute,
    sum_over,
    wrong,
)
from grape_spec.policy import P, after, end, j, left, next_token, v
from grape_spec.policy_improvement import (
    advantage_sum,
    expected_reward,
    new_next_token,
    prefix_advantage,
    prefix_reward,
    worth,
)
from grape_spec.proof.facts import Fact
from grape_spec.proof.rules import fact, finite_sum, over_depth, smt, termwise, within_depth
from grape_spec.surrogate_bound import closeness, largest, parting
from grape_spec.trpo import SCHULMAN

anywhere = index("anywhere", P, "any prefix", tex="j'")
outcome = family("outcome", Open(-1, 1), P, text="reward of each response, from −1 to 1", tex="s")
bounded = Lambda(j, largest * outcome[j])
goes_on = 1 - delta(v, end)
change = new_next_token[j, v] - next_token[j, v]

token_gain = define(
    "trpo.token_gain",
    "Expected advantage of the next token: new probabilities, old advantages.",
    (left, j, end, next_token, new_next_token, after, prefix_reward),
    sum_over(new_next_token[j, v] * prefix_advantage(v, continuation_value=worth), v),
    tex=r"\overline{{A}}_{{{left}}}({j})",
    source=SCHULMAN.section("A"),
)

surrogate_sum = recursive(
    "trpo.surrogate_sum",
    "Gain by the surrogate: expected advantages of the tokens of a response, after prefixes of the old policy.",
    (left, j, end, next_token, new_next_token, after, prefix_reward),
    left,
    Integer(0),
    lambda rest: token_gain() + sum_over(next_token[j, v] * goes_on * rest(j=after[j, v]), v),
    tex=r"L_{{\mathrm{{old}},{left}}}({j})",
    source=SCHULMAN.eq(3),
)

missed_sum = recursive(
    "trpo.missed_sum",
    "What the surrogate misses: for each token of the new policy, the change of the probabilities, times what the "
    "surrogate expects of the tokens after it.",
    (left, j, end, next_token, new_next_token, after, prefix_reward),
    left,
    Integer(0),
    lambda rest: sum_over(
        new_next_token[j, v] * goes_on * rest(j=after[j, v]) + change * goes_on * surrogate_sum(j=after[j, v]), v
    ),
    tex=r"M_{{{left}}}({j})",
)

pairs = recursive(
    "trpo.token_pairs",
    "Number of pairs of tokens, 0 + 1 + … + (T − 1).",
    (left,),
    left,
    Integer(0),
    lambda before: before() + left,
    tex=r"\binom{{{left}}}{{2}}",
)

expected = expected_reward(prefix_reward=bounded)
worth_of_token = delta(v, end) * largest * outcome[j] + goes_on * expected_reward(j=after[j, v], prefix_reward=bounded)
close_here = at_most(sum_over(parting, v), 2 * closeness)
close_anywhere = substitute(close_here, {j: anywhere})
by_surrogate = surrogate_sum(prefix_reward=bounded)
missed = missed_sum(prefix_reward=bounded)
slope = 2 * closeness * largest
improvement = expected_reward(next_token=new_next_token, prefix_reward=bounded) - expected


def own(part: str, **bindings: Any) -> Fact:
    """An earlier part of the claim."""
    return fact("trpo.bound.responses", part=part, **bindings)


claim(
    "trpo.bound.responses",
    "For responses of at most T tokens, whose rewards lie between −ε and ε, and two policies within α in total "
    "variation after every prefix, the gain is at least the gain by the surrogate minus 2T(T − 1)εα², for every T.",
    holds(
        at_most(expected, largest),
        name="no more than ε",
        by=within_depth(left, by=termwise(next_token[j, v] * largest)),
    ),
    holds(
        at_least(expected, -largest),
        name="no less than −ε",
        by=within_depth(left, by=termwise(-next_token[j, v] * largest)),
    ),
    holds(
        equals(token_gain(prefix_reward=bounded), sum_over(change * worth_of_token, v)),
        name="the gain of a token",
        by=finite_sum(),
    ),
    *(
        holds(
            at_least(sum_over(largest * parting + sign * change * worth_of_token, v), 0),
            name=f"from {name}",
            by=termwise(
                Rational(0), given=[own("no more than ε", j=after[j, v]), own("no less than −ε", j=after[j, v])]
            ),
        )
        for name, sign in (("above", -1), ("below", 1))
    ),
    holds(
        at_least(slope - abs(token_gain(prefix_reward=bounded)), 0),
        name="the gain of a token is small",
        assuming=[close_here],
        by=smt(given=[own("the gain of a token"), own("from above"), own("from below")]),
    ),
    holds(
        at_least(slope * left - by_surrogate, 0),
        name="the surrogate from above",
        assuming=[close_anywhere],
        by=within_depth(left, by=smt(given=[own("the gain of a token is small")])),
    ),
    holds(
        at_least(slope * left + by_surrogate, 0),
        name="the surrogate from below",
        assuming=[close_anywhere],
        by=within_depth(left, by=smt(given=[own("the gain of a token is small")])),
    ),
    holds(
        at_least(
            sum_over(
                slope * left * parting + change * goes_on * surrogate_sum(j=after[j, v], prefix_reward=bounded),
                v,
            ),
            0,
        ),
        name="what one token adds",
        assuming=[close_anywhere],
        by=termwise(
            Rational(0),
            given=[own("the surrogate from above", j=after[j, v]), own("the surrogate from below", j=after[j, v])],
        ),
    ),
    holds(equals(pairs(), left * (left - 1) / 2), name="pairs of tokens", by=over_depth(left)),
    holds(at_least(pairs(), 0), name="no number of pairs is negative", by=within_depth(left, by=smt())),
    holds(
        at_least(missed + 2 * left * (left - 1) * largest * closeness**2, 0),
        name="what all tokens miss",
        assuming=[close_anywhere],
        by=within_depth(
            left,
            by=smt(given=[own("what one token adds"), own("pairs of tokens"), own("no number of pairs is negative")]),
        ),
    ),
    holds(equals(missed_sum(), advantage_sum() - surrogate_sum()), name="what is missed", by=over_depth(left)),
    holds(
        at_least(improvement - by_surrogate + 2 * left * (left - 1) * largest * closeness**2, 0),
        name="bound",
        assuming=[close_anywhere],
        by=smt(
            given=[
                fact("trpo.performance_difference", part="responses of at most T tokens", prefix_reward=bounded),
                own("what is missed", prefix_reward=bounded),
                own("what all tokens miss"),
            ]
        ),
    ),
    source=SCHULMAN.section("A"),
    wrong=[
        wrong("the surrogate is the gain", equals(improvement, by_surrogate)),
        wrong(
            "however far apart the policies are",
            at_least(improvement - by_surrogate + 2 * left * (left - 1) * largest * closeness**2, 0),
        ),
    ],
)

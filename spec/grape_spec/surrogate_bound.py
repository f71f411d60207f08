"""How far the surrogate of TRPO is from the true return: Pinsker's inequality, and bounds of what the surrogate misses.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477, section 3 and appendix A.
"""

from typing import Any

from sympy import Lambda, Rational, log, sqrt

from grape_spec.advantage import power
from grape_spec.kl import divergence, n, p, q, x, y
from grape_spec.language import (
    Open,
    Positive,
    Real,
    Simplex,
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
from grape_spec.policy import P, T, V, j, next_token, t, v
from grape_spec.policy_improvement import new_next_token
from grape_spec.proof.facts import Fact
from grape_spec.proof.rules import (
    fact,
    finite_sum,
    from_minimum,
    induction,
    smt,
    termwise,
)
from grape_spec.trpo import SCHULMAN, max_kl, multiplier

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

first_token_value = define(
    "trpo.first_token_value",
    "Expected reward after a first token.",
    (opening, second, middle, opinion, largest),
    sum_over(second[opening, y] * worth, y),
    tex=r"U_{{{opening}}}({second})",
)

two_token_return = define(
    "trpo.two_token_return",
    "Expected reward of a response of two tokens.",
    (p, second, middle, opinion, largest),
    sum_over(p[opening] * first_token_value(), opening),
    tex=r"J({p}, {second})",
)

local_return = define(
    "trpo.local_return",
    "Expected reward of a response of two tokens by the surrogate: old advantages under new probabilities, but after "
    "first tokens of the old policy.",
    (p, q, second, new_second, middle, opinion, largest),
    two_token_return()
    + sum_over(q[opening] * (first_token_value() - two_token_return()), opening)
    + sum_over(p[opening] * sum_over(new_second[opening, y] * (worth - first_token_value()), y), opening),
    tex=r"L_{{\mathrm{{old}}}}({q}, {new_second})",
    source=SCHULMAN.eq(3),
)

bound_coefficient = define(
    "trpo.bound_coefficient",
    "Coefficient of the divergence in the bound, for responses of two tokens: C = 4ε, where the paper has 4εγ/(1 − γ)² "
    "for infinite ones, discounted by γ.",
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
root = sqrt(max_kl / 2)
missed = sum_over((q[opening] - p[opening]) * turned, opening)
missed_and_more = sum_over((q[opening] - p[opening]) * turned + 2 * root * abs(q[opening] - p[opening]), opening)
first_is_close = at_most(divergence(p, q), max_kl)
second_is_close = at_most(divergence(row_of_old, row_of_new), max_kl)

doubled_variation = "2*total_variation(y ↦ second[opening, y], y ↦ new_second[opening, y])"

claim(
    "trpo.bound",
    "The return of the new policy is at least its surrogate minus C times the largest divergence, and half of C is "
    "enough: the bound of monotonic improvement, for responses of two tokens and any vocabulary.",
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
        at_least(two_token_return(q, new_second) - local_return() + bound_coefficient() / 2 * max_kl, 0),
        name="with half of C",
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

# Responses of any length. The advantage of a token after a prefix is ε times its opinion, less what the old policy
# expects of that; so it is its worth, less that of the prefix.

reach = family("reach", Simplex, P, text="probability of each prefix of one length under the old policy", tex="d")
new_reach = family(
    "new_reach", Simplex, P, text="probability of each prefix of one length under the new policy", tex="d'"
)
reach_at = family("reach_at", Simplex, T, P, text="probability of each prefix of t − 1 tokens, old policy", tex="d")
new_reach_at = family(
    "new_reach_at", Simplex, T, P, text="probability of each prefix of t − 1 tokens, new policy", tex="d'"
)
closeness = symbol("closeness", Positive, "upper bound of the total variation of next tokens", tex=r"\alpha")
gap = symbol("gap", Real, "upper bound of the distance of the two distributions over prefixes so far", tex="x")
token_opinion = family("token_opinion", Open(-1, 1), P, V, text="worth of each next token, from −1 to 1", tex="s")

moved_apart = abs(new_reach[j] * new_next_token[j, v] - reach[j] * next_token[j, v])
apart = abs(new_reach[j] - reach[j])
parting = abs(new_next_token[j, v] - next_token[j, v])
spare = sum_over(apart * new_next_token[j, v] + reach[j] * parting - moved_apart, j, v)
close = at_most(sum_over(parting, v), 2 * closeness)

shifted = (new_next_token[j, v] - next_token[j, v]) * token_opinion[j, v]
expected_advantage = sum_over(shifted, v)
old_opinion = sum_over(next_token[j, v] * largest * token_opinion[j, v], v)
token_missed = largest * sum_over((new_reach[j] - reach[j]) * expected_advantage, j)
weighed = sum_over((new_reach[j] - reach[j]) * expected_advantage + 2 * closeness * apart, j)
missed_at = largest * sum_over((new_reach_at[t, j] - reach_at[t, j]) * expected_advantage, j)
apart_at = at_most(sum_over(abs(new_reach_at[t, j] - reach_at[t, j]), j), 2 * closeness * (t - 1))
term = (t - 1) * 2 * closeness * 2 * closeness * largest


fading = symbol("fading", Open(0, 1), "discount factor per token", tex=r"\gamma")
faded = power(fading, t - 1)
faded_total = 4 * largest * closeness**2 * (fading - (T - (T - 1) * fading) * power(fading, T)) / (1 - fading) ** 2


def horizon(part: str, **bindings: Any) -> Fact:
    """A part of the claim on responses of any length."""
    return fact("trpo.bound.horizon", part=part, **bindings)


one_token = horizon(
    "what one token misses",
    reach=Lambda(j, reach_at[t, j]),
    new_reach=Lambda(j, new_reach_at[t, j]),
    gap=2 * closeness * (t - 1),
)

claim(
    "trpo.bound.horizon",
    "If the policies are within α in total variation after every prefix, the distance between their distributions over "
    "prefixes grows by at most 2α with every token. Where it is at most 2(t − 1)α at token t, the surrogate misses at "
    "most 4(t − 1)εα² at that token, and at most 2T(T − 1)εα² over T tokens, for every T; discounted by γ, at most "
    "4εγα²/(1 − γ)², for every T: the constant of the paper.",
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
        at_least(sum_over(reach[j] * (2 * closeness - sum_over(parting, v)), j), 0),
        name="next tokens are close",
        assuming=[close],
        by=termwise(Rational(0)),
    ),
    holds(
        at_least(sum_over(apart, j) + 2 * closeness - sum_over(moved_apart, j, v), 0),
        name="the distance grows by at most 2α",
        assuming=[close],
        by=smt(
            given=[
                horizon("one token more: what is to spare is not negative"),
                horizon("what is to spare"),
                horizon("next tokens are close"),
            ]
        ),
    ),
    holds(
        equals(
            sum_over(new_next_token[j, v] * (largest * token_opinion[j, v] - old_opinion), v),
            largest * expected_advantage,
        ),
        name="the expected advantage after a prefix",
        by=finite_sum(),
    ),
    holds(at_least(sum_over(parting - shifted, v), 0), name="from above", by=termwise(Rational(0))),
    holds(at_least(sum_over(parting + shifted, v), 0), name="from below", by=termwise(Rational(0))),
    holds(
        at_least(2 * closeness - abs(expected_advantage), 0),
        name="it is small",
        assuming=[close],
        by=smt(
            given=[
                horizon("from above"),
                horizon("from below"),
            ]
        ),
    ),
    holds(
        at_least(weighed, 0),
        name="every prefix",
        assuming=[close],
        by=termwise(Rational(0), given=[horizon("it is small")]),
    ),
    holds(
        at_least(token_missed + 2 * closeness * largest * gap, 0),
        name="what one token misses",
        assuming=[close, at_most(sum_over(apart, j), gap)],
        by=smt(
            given=[
                horizon("every prefix"),
            ]
        ),
    ),
    holds(
        at_least(sum_over(missed_at + term, t), 0),
        name="what all tokens miss",
        assuming=[close, apart_at],
        by=termwise(Rational(0), given=[one_token]),
    ),
    holds(
        equals(sum_over(term, t), 2 * T * (T - 1) * largest * closeness**2),
        name="all tokens",
        by=induction(T),
    ),
    holds(
        at_least(sum_over(missed_at, t) + 2 * T * (T - 1) * largest * closeness**2, 0),
        name="the bound for T tokens",
        assuming=[close, apart_at],
        by=smt(given=[horizon("what all tokens miss"), horizon("all tokens")]),
    ),
    holds(
        at_least(sum_over(faded * (missed_at + term), t), 0),
        name="what all tokens miss, discounted",
        assuming=[close, apart_at],
        by=termwise(Rational(0), given=[one_token]),
    ),
    holds(
        equals(sum_over(faded * term, t), faded_total),
        name="all tokens, discounted",
        by=induction(T),
    ),
    holds(
        at_least(4 * largest * fading * closeness**2 / (1 - fading) ** 2 - faded_total, 0),
        name="the constant of the paper",
        by=smt(),
    ),
    holds(
        at_least(sum_over(faded * missed_at, t) + 4 * largest * fading * closeness**2 / (1 - fading) ** 2, 0),
        name="the bound for T tokens, discounted",
        assuming=[close, apart_at],
        by=smt(
            given=[
                horizon("what all tokens miss, discounted"),
                horizon("all tokens, discounted"),
                horizon("the constant of the paper"),
            ]
        ),
    ),
    source=SCHULMAN.section("A"),
    wrong=[
        wrong(
            "the distance does not grow",
            at_most(sum_over(moved_apart, j, v), sum_over(apart, j)),
        ),
        wrong(
            "linear in the number of tokens",
            equals(sum_over(term, t), 4 * T * largest * closeness**2),
        ),
        wrong("the surrogate misses nothing", at_least(token_missed, 0)),
        wrong(
            "one factor 1/(1 − γ)",
            at_least(4 * largest * fading * closeness**2 / (1 - fading) - faded_total, 0),
        ),
    ],
)

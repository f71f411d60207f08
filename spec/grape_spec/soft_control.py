"""Regularised control over tokens: the policy that maximises reward less the KL penalty, token by token.

R. Rafailov et al., From r to Q*: Your Language Model is Secretly a Q-Function, arXiv:2404.12358, read DPO in this way;
A. Y. Ng, D. Harada and S. Russell, Policy Invariance under Reward Transformations, 1999, shape rewards by a potential.
Their texts were not compared.
"""

from sympy import Expr, Integer, Lambda, exp, log

from grape_spec.dpo import beta
from grape_spec.kl import ref_next_token
from grape_spec.language import (
    OneHot,
    Real,
    Source,
    at_least,
    at_most,
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
from grape_spec.policy import P, V, a, after, end, j, left, next_token, v
from grape_spec.proof.rules import chain, fact, finite_sum, over_depth, rewrite, smt, step, termwise, within_depth
from grape_spec.responses import step_reward

FROM_R = Source("rafailov2024from")
NG = Source("ng1999policy")

ends, goes_on = delta(v, end), 1 - delta(v, end)

# A response goes on until the end token, or is cut off when no token is left.

cut_reward = family(
    "cut_reward", Real, P, text="reward of a response that is cut off after each prefix", tex=r"r^{\mathrm{cut}}"
)

soft_value = recursive(
    "dpo.soft_value",
    "Soft value of a prefix: β times the logarithm of the mean, under the reference, of exp(Q/β).",
    (left, j, end, ref_next_token, after, step_reward, cut_reward, beta),
    left,
    cut_reward[j],
    lambda later: (
        beta * log(sum_over(ref_next_token[j, v] * exp((step_reward[j, v] + goes_on * later(j=after[j, v])) / beta), v))
    ),
    tex=r"V_{{{left}}}({j})",
    source=FROM_R,
)


def worth(token: Expr) -> Expr:
    """Q of a token after prefix j: its reward plus the soft value of what follows, unless it ends the response."""
    return step_reward[j, token] + (1 - delta(token, end)) * soft_value(j=after[j, token])


here = sum_over(ref_next_token[j, v] * exp(worth(v) / beta), v)

soft_policy = define(
    "dpo.soft_policy",
    "Soft-optimal probability of a token: the reference, reweighted by exp(Q/β).",
    (left, a, j, end, ref_next_token, after, step_reward, cut_reward, beta),
    ref_next_token[j, a] * exp(worth(a) / beta) / here,
    tex=r"\pi^*_{{{left}}}({a}, {j})",
    source=FROM_R,
)

log_ratio = log(soft_policy(a=v) / ref_next_token[j, v])

regularised = recursive(
    "dpo.regularised_return",
    "Expected sum, over the tokens that a policy appends to a prefix, of the reward less β times the log-ratio to the "
    "reference.",
    (left, j, end, next_token, ref_next_token, after, step_reward, cut_reward, beta),
    left,
    cut_reward[j],
    lambda later: sum_over(
        next_token[j, v]
        * (step_reward[j, v] - beta * log(next_token[j, v] / ref_next_token[j, v]) + goes_on * later(j=after[j, v])),
        v,
    ),
    tex=r"J_{{{left}}}({j})",
)

from_optimum = recursive(
    "dpo.divergence_from_optimum",
    "Expected sum, over the tokens that a policy appends to a prefix, of the divergence of its next token from the "
    "soft-optimal one.",
    (left, j, end, next_token, ref_next_token, after, step_reward, cut_reward, beta),
    left,
    Integer(0),
    lambda later: sum_over(
        next_token[j, v] * (log(next_token[j, v] / soft_policy(a=v)) + goes_on * later(j=after[j, v])), v
    ),
    tex=r"D_{{{left}}}({j})",
)

GIBBS = "dpo.tokens.gibbs"

claim(
    GIBBS,
    "Over responses of any length, reward less β times the KL penalty of a policy is the soft value of the prompt less "
    "β times the divergence from the soft-optimal policy: no policy does better than that.",
    holds(equals(sum_over(soft_policy(), a), 1), name="the probabilities sum to one", by=finite_sum()),
    holds(
        equals(regularised(), soft_value() - beta * from_optimum()),
        name="every policy",
        by=over_depth(left),
    ),
    holds(
        at_least(from_optimum(), 0),
        name="no divergence is negative",
        by=within_depth(
            left,
            by=termwise(
                next_token[j, v] - soft_policy(a=v),
                given=[fact("kl.log_bound", part="bound", x=soft_policy(a=v) / next_token[j, v])],
            ),
        ),
    ),
    holds(
        at_most(regularised(), soft_value()),
        name="no policy does better",
        by=smt(given=[fact(GIBBS, part="every policy"), fact(GIBBS, part="no divergence is negative")]),
    ),
    source=FROM_R,
    wrong=[
        wrong("without the divergence", equals(regularised(), soft_value())),
        wrong("the divergence without β", equals(regularised(), soft_value() - from_optimum())),
    ],
)

# One response: the token that follows each of its prefixes.

chosen = family("chosen_token", OneHot, P, V, text="1 for the token that follows each prefix of the response", tex="u")

log_ratios = recursive(
    "dpo.soft_log_ratios",
    "Sum along one response of β times the log-ratio of the soft-optimal policy to the reference.",
    (left, j, chosen, end, ref_next_token, after, step_reward, cut_reward, beta),
    left,
    Integer(0),
    lambda later: sum_over(chosen[j, v] * (beta * log_ratio + goes_on * later(j=after[j, v])), v),
    tex=r"\Lambda_{{{left}}}({j})",
)

rewards_along = recursive(
    "dpo.rewards_along",
    "Sum of the rewards along one response.",
    (left, j, chosen, end, after, step_reward, cut_reward),
    left,
    cut_reward[j],
    lambda later: sum_over(chosen[j, v] * (step_reward[j, v] + goes_on * later(j=after[j, v])), v),
    tex=r"R_{{{left}}}({j})",
)

claim(
    "dpo.tokens.reward",
    "Summed along any response, β times the log-ratio of the soft-optimal policy to the reference is the sum of the "
    "rewards less the soft value of the prompt. For a single token it is Q less the soft value of its prefix, and not "
    "the reward of the token.",
    holds(
        equals(beta * log(soft_policy() / ref_next_token[j, a]), worth(a) - beta * log(here)),
        name="a token",
        by=finite_sum(),
    ),
    holds(equals(log_ratios(), rewards_along() - soft_value()), name="a response", by=over_depth(left)),
    source=FROM_R,
    wrong=[
        wrong("the reward of the token", equals(beta * log(soft_policy() / ref_next_token[j, a]), step_reward[j, a])),
        wrong("the rewards themselves", equals(log_ratios(), rewards_along())),
    ],
)

potential = family("potential", Real, P, text="a potential of each prefix; what has ended has none", tex=r"\Phi")

shaped_reward = define(
    "dpo.shaped_reward",
    "Reward of a token, shaped: plus the potential of the prefix after it, 0 after the end, less that before it.",
    (j, v, end, after, step_reward, potential),
    step_reward[j, v] + goes_on * potential[after[j, v]] - potential[j],
    tex=r"r^{{\Phi}}_{{{j}{v}}}",
    source=NG,
)

shaped_cut_reward = define(
    "dpo.shaped_cut_reward",
    "Reward of a response that is cut off, shaped: less the potential of its last prefix.",
    (j, cut_reward, potential),
    cut_reward[j] - potential[j],
    tex=r"r^{{\Phi,\mathrm{{cut}}}}_{{{j}}}",
    source=NG,
)

shaped_value = define(
    "dpo.shaped_value",
    "Soft value of a prefix under the shaped rewards.",
    (left, j, end, ref_next_token, after, step_reward, cut_reward, beta, potential),
    soft_value(step_reward=Lambda((j, v), shaped_reward()), cut_reward=Lambda(j, shaped_cut_reward())),
    tex=r"V^{{\Phi}}_{{{left}}}({j})",
    source=NG,
)


def reweighted(value: Expr, value_of_any: Expr) -> Expr:
    """The soft-optimal probability of token a under the shaped rewards, given the values of what follows."""

    def weight(token: Expr, following: Expr) -> Expr:
        q_value = shaped_reward(v=token) + (1 - delta(token, end)) * following
        return ref_next_token[j, token] * exp(q_value / beta)

    return weight(a, value) / sum_over(weight(v, value_of_any), v)


shaped_policy = define(
    "dpo.shaped_policy",
    "Soft-optimal probability of a token under the shaped rewards.",
    (left, a, j, end, ref_next_token, after, step_reward, cut_reward, beta, potential),
    reweighted(shaped_value(j=after[j, a]), shaped_value(j=after[j, v])),
    tex=r"\pi^{{\Phi}}_{{{left}}}({a}, {j})",
    source=NG,
)


def unshaped(token: Expr) -> Expr:
    """What the soft value after a token is under the shaped rewards."""
    return soft_value(j=after[j, token]) - potential[after[j, token]]


SHAPING = "dpo.tokens.shaping"

claim(
    SHAPING,
    "Rewards of tokens that differ by the change of a potential, which is 0 where a response has ended or is cut off, "
    "have the same soft-optimal policy: rewards of tokens cannot be told from a policy.",
    holds(equals(shaped_value(), soft_value() - potential[j]), name="value", by=over_depth(left)),
    holds(
        equals(shaped_policy(), soft_policy()),
        name="policy",
        by=chain(
            step(reweighted(shaped_value(j=after[j, a]), shaped_value(j=after[j, v])), by=finite_sum()),
            step(
                reweighted(unshaped(a), shaped_value(j=after[j, v])),
                by=rewrite(SHAPING, part="value", j=after[j, a]),
            ),
            step(reweighted(unshaped(a), unshaped(v)), by=rewrite(SHAPING, part="value", j=after[j, v])),
            step(soft_policy(), by=finite_sum()),
        ),
    ),
    source=NG,
    wrong=[
        wrong("the same values", equals(shaped_value(), soft_value())),
        wrong(
            "a response that is cut off keeps its reward",
            equals(shaped_policy(cut_reward=Lambda(j, cut_reward[j] + potential[j])), soft_policy()),
        ),
    ],
)

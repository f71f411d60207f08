"""How far importance ratios spread: their variance, the effective sample size, growth with length, narrowed samplers.

L. Kish, Survey Sampling, 1965, has the effective sample size of unequal weights; its text was not compared.
"""

from sympy import Integer, Lambda, exp, log

from grape_spec.advantage import power
from grape_spec.importance import (
    goes_on,
    importance_ratio,
    kept_mass,
    kept_token,
    mean,
    next_ratio,
    of_outcome,
    omega,
    sampler_next_token,
    weight_so_far,
)
from grape_spec.improvement_bound import anywhere
from grape_spec.kl import divergence, n, p, q, y
from grape_spec.language import (
    Mask,
    NonNegative,
    Positive,
    Simplex,
    Source,
    at_least,
    at_most,
    claim,
    define,
    delta,
    equals,
    family,
    greater,
    holds,
    index,
    recursive,
    substitute,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import P, V, a, after, end, j, left, logits, next_token, softmax, v
from grape_spec.proof.rules import fact, finite_sum, over_depth, smt, termwise, within_depth
from grape_spec.reinforce import G, g, h, token_reward
from grape_spec.trpo import multiplier

KISH = Source("kish1965survey")

other = index("other_outcome", n, "an outcome of another token", tex="y'")
other_p = family("other_p", Simplex, n, text="a distribution of another token, independent of the first", tex="p'")
other_q = family("other_q", Simplex, n, text="its distribution under the sampler", tex="q'")
other_ratio = importance_ratio(log(other_p[other]), log(other_q[other]))

chi_squared = define(
    "importance.divergence",
    "Pearson's χ² divergence of p from q.",
    (p, q),
    sum_over((p[y] - q[y]) ** 2 / q[y], y),
    tex=r"\chi^2({p} \Vert {q})",
)

claim(
    "importance.chi_squared",
    "The mean of the ratio under the sampler is 1 and its variance the χ² divergence, so its second moment is 1 + χ².",
    holds(equals(mean(of_outcome, 1), 1), name="mean", by=finite_sum()),
    holds(equals(mean((of_outcome - 1) ** 2, 1), chi_squared()), name="variance", by=finite_sum()),
    holds(equals(mean(of_outcome**2, 1), 1 + chi_squared()), name="second moment", by=finite_sum()),
    wrong=[
        wrong("the divergence the other way round", equals(mean((of_outcome - 1) ** 2, 1), chi_squared(q, p))),
        wrong("the second moment is χ²", equals(mean(of_outcome**2, 1), chi_squared())),
        wrong(
            "under the trainer's policy",
            equals(sum_over(p[y] * (of_outcome - 1) ** 2, y), chi_squared()),
        ),
    ],
)

sample_weight = family("sample_weight", NonNegative, G, text="weight of each sample", tex="w")
total = sum_over(sample_weight[g], g)
squares = sum_over(sample_weight[g] ** 2, g)
some_weight = greater(squares, 0)
others = sum_over((1 - delta(g, h)) * sample_weight[h], h)

effective_size = define(
    "importance.effective_size",
    "Effective sample size of G weights: the square of their sum over the sum of their squares.",
    (sample_weight,),
    total**2 / squares,
    tex=r"G_{{\mathrm{{eff}}}}",
    source=KISH,
)

SIZE = "importance.effective_sample_size"

claim(
    SIZE,
    "The effective sample size of weights that are not all zero lies between 1 and their number, which it is if they "
    "are all equal.",
    holds(at_least(sum_over((sample_weight[g] - total / G) ** 2, g), 0), name="squared distances", by=termwise(0)),
    holds(
        equals(sum_over((sample_weight[g] - total / G) ** 2, g), squares - total**2 / G),
        name="sum of squared distances",
        by=finite_sum(),
    ),
    holds(at_least(others, 0), name="the other weights", by=termwise(0)),
    holds(
        at_least(sum_over(sample_weight[g] * others, g), 0),
        name="pairs",
        by=termwise(0, given=[fact(SIZE, part="the other weights")]),
    ),
    holds(equals(sum_over(sample_weight[g] * others, g), total**2 - squares), name="sum of pairs", by=finite_sum()),
    holds(
        equals(effective_size() * squares, total**2), name="times the squares", assuming=[some_weight], by=finite_sum()
    ),
    holds(
        at_most(effective_size(), G),
        name="above",
        assuming=[some_weight],
        by=smt(
            given=[
                fact(SIZE, part="times the squares"),
                fact(SIZE, part="squared distances"),
                fact(SIZE, part="sum of squared distances"),
            ]
        ),
    ),
    holds(
        at_least(effective_size(), 1),
        name="below",
        assuming=[some_weight],
        by=smt(
            given=[
                fact(SIZE, part="times the squares"),
                fact(SIZE, part="pairs"),
                fact(SIZE, part="sum of pairs"),
            ]
        ),
    ),
    holds(equals(effective_size(Lambda(g, omega)), G), name="equal weights", by=finite_sum()),
    source=KISH,
    wrong=[
        wrong("the sum of the weights", equals(effective_size(), total), assuming=[some_weight]),
        wrong("the inverse of the sum of their squares", equals(effective_size(), 1 / squares), assuming=[some_weight]),
    ],
)

relative_ratio = p[y] / q[y] / multiplier
below_tangent = sum_over(p[y] * (log(relative_ratio) - relative_ratio + 1), y)
TANGENT = fact("kl.log_bound", part="bound", x=relative_ratio)
BOUND = "importance.effective_sample_size.bound"

claim(
    BOUND,
    "The second moment of the ratio is at least the exponential of the divergence of the trainer's policy from the "
    "sampler, so the share 1/(1 + χ²) of the samples that is left in effect is at most exp(−KL).",
    holds(at_most(below_tangent, 0), name="for every multiplier", by=termwise(0, given=[TANGENT])),
    holds(
        equals(below_tangent, divergence() - log(multiplier) - (1 + chi_squared()) / multiplier + 1),
        name="the sum",
        by=finite_sum(),
    ),
    holds(
        at_least(1 + chi_squared(), exp(divergence())),
        name="second moment",
        by=smt(
            given=[
                fact(BOUND, part="for every multiplier", multiplier=exp(divergence())),
                fact(BOUND, part="the sum", multiplier=exp(divergence())),
            ]
        ),
        equivalent={
            "right: exp(kl.divergence) → kl.divergence": "true and weaker: a number is below its exp",
            "right: kl.divergence → -kl.divergence": "true and weaker, as no divergence is negative",
        },
    ),
    wrong=[
        wrong("the other way round", at_most(1 + chi_squared(), exp(divergence()))),
        wrong("the divergence of the sampler", at_least(1 + chi_squared(), exp(2 * divergence()))),
    ],
)

# Sequences: the second moment grows as a power of the number of tokens.

second_moment = recursive(
    "importance.second_moment",
    "Expectation under the sampler of the squared importance ratio of a response of T tokens after a prefix.",
    (left, j, weight_so_far, next_token, sampler_next_token, after),
    left,
    weight_so_far**2,
    lambda later: sum_over(
        sampler_next_token[j, v] * later(j=after[j, v], weight_so_far=weight_so_far * next_ratio), v
    ),
    tex=r"Q_{{{left}}}({j}, {weight_so_far})",
)

moment_of_tokens = recursive(
    "importance.moment_of_tokens",
    "Second moment of the ratio of the next token, times that of the tokens after it.",
    (left, j, next_token, sampler_next_token, after),
    left,
    Integer(1),
    lambda later: sum_over(sampler_next_token[j, v] * next_ratio**2 * later(j=after[j, v]), v),
    tex=r"R_{{{left}}}({j})",
)

token_moment = symbol("token_moment", Positive, "second moment of the ratio of a token, 1 + χ²", tex="u")
moment_anywhere = substitute(sum_over(sampler_next_token[j, v] * next_ratio**2, v), {j: anywhere})
TENSOR = "importance.sequence.tensorises"

claim(
    TENSOR,
    "Over responses of T tokens the second moment of the ratio, 1 + χ², multiplies: it grows as a power of T.",
    holds(
        equals(
            sum_over(sum_over(q[y] * other_q[other] * (of_outcome * other_ratio) ** 2, other), y),
            (1 + chi_squared()) * (1 + chi_squared(other_p, other_q)),
        ),
        name="two independent tokens",
        by=finite_sum(),
    ),
    holds(equals(second_moment(), weight_so_far**2 * moment_of_tokens()), name="token by token", by=over_depth(left)),
    holds(
        at_least(moment_of_tokens(), power(token_moment, left)),
        name="no less than a power",
        assuming=[at_least(moment_anywhere, token_moment)],
        by=within_depth(left, by=smt()),
        equivalent={
            "right: exp(left*log(token_moment)) → left*log(token_moment)": "true and weaker: a number is below its exp",
        },
    ),
    holds(
        at_most(moment_of_tokens(), power(token_moment, left)),
        name="no more than a power",
        assuming=[at_most(moment_anywhere, token_moment)],
        by=within_depth(left, by=smt()),
        equivalent={
            f"right: {mutant}": "true and weaker: no second moment is below 1, so neither is the bound"
            for mutant in (
                "left*log(token_moment) → 2*left*log(token_moment)",
                "left → left + 1",
                "log(token_moment) → log(token_moment) + 1",
                "log(token_moment) → token_moment",
            )
        },
    ),
    wrong=[
        wrong(
            "χ² itself multiplies",
            equals(
                sum_over(sum_over(q[y] * other_q[other] * (of_outcome * other_ratio - 1) ** 2, other), y),
                chi_squared() * chi_squared(other_p, other_q),
            ),
        ),
        wrong(
            "χ² adds up, as divergences do",
            equals(
                sum_over(sum_over(q[y] * other_q[other] * (of_outcome * other_ratio - 1) ** 2, other), y),
                chi_squared() + chi_squared(other_p, other_q),
            ),
        ),
    ],
)

# Samplers that leave tokens out, as top-p, top-k and min-p do.

narrowed = define(
    "importance.narrowed",
    "Probability of a token under a sampler that keeps some tokens and renormalises.",
    (a, logits, kept_token),
    softmax(a) * kept_token[a] / kept_mass,
    tex=r"\pi_{{\mu {a}}}",
)

kept_next = family(
    "kept_next", Mask(), P, V, text="1 where the sampler may draw a next token after prefix j", tex=r"\kappa"
)
next_mass = family("next_mass", Positive, P, text="probability of all that is kept after prefix j", tex="S")

inside = recursive(
    "importance.inside",
    "Probability that plain sampling after a prefix draws kept tokens alone.",
    (left, j, end, next_token, kept_next, after),
    left,
    Integer(1),
    lambda later: sum_over(next_token[j, v] * kept_next[j, v] * (delta(v, end) + goes_on * later(j=after[j, v])), v),
    tex=r"I_{{{left}}}({j})",
)

mass_product = recursive(
    "importance.mass_product",
    "Expectation, over the responses that a narrowed sampler draws after a prefix, of the product of the kept masses.",
    (left, j, weight_so_far, end, next_token, kept_next, next_mass, after),
    left,
    weight_so_far,
    lambda later: sum_over(
        next_token[j, v]
        * kept_next[j, v]
        / next_mass[j]
        * (
            delta(v, end) * weight_so_far * next_mass[j]
            + goes_on * later(j=after[j, v], weight_so_far=weight_so_far * next_mass[j])
        ),
        v,
    ),
    tex=r"\Pi_{{{left}}}({j}, {weight_so_far})",
)

some_kept = greater(kept_mass, 0)
TOP_P = "importance.top_p"

claim(
    TOP_P,
    "Under a sampler that keeps some tokens and renormalises, the ratio of every token that it draws is the kept mass, "
    "less than 1 if anything is left out: the weighted estimate covers the kept tokens alone. Over responses the "
    "product of the kept masses is, on average, the probability that plain sampling would have kept to them.",
    holds(
        equals(narrowed() * kept_mass, softmax(a) * kept_token[a]),
        name="probability",
        assuming=[some_kept],
        by=finite_sum(),
    ),
    holds(
        equals(softmax(a), kept_mass * narrowed()),
        name="ratio",
        assuming=[equals(kept_token[a], 1), some_kept],
        by=smt(given=[fact(TOP_P, part="probability")]),
    ),
    holds(
        equals(
            sum_over(narrowed() * kept_mass * token_reward[a], a),
            sum_over(softmax(a) * kept_token[a] * token_reward[a], a),
        ),
        name="mean",
        assuming=[some_kept],
        by=finite_sum(),
    ),
    holds(
        equals(
            sum_over(narrowed() * kept_mass * token_reward[a], a),
            sum_over(softmax(a) * token_reward[a], a) - sum_over(softmax(a) * (1 - kept_token[a]) * token_reward[a], a),
        ),
        name="what is missing",
        assuming=[some_kept],
        by=finite_sum(),
    ),
    holds(equals(mass_product(), weight_so_far * inside()), name="from any prefix", by=over_depth(left)),
    holds(
        equals(mass_product(weight_so_far=1), inside()),
        name="responses of at most T tokens",
        by=smt(given=[fact(TOP_P, part="from any prefix", weight_so_far=Integer(1))]),
    ),
    wrong=[
        wrong(
            "unbiased",
            equals(sum_over(narrowed() * kept_mass * token_reward[a], a), sum_over(softmax(a) * token_reward[a], a)),
            assuming=[some_kept],
        ),
        wrong(
            "no correction is needed over the kept tokens",
            equals(
                sum_over(narrowed() * token_reward[a], a), sum_over(softmax(a) * kept_token[a] * token_reward[a], a)
            ),
            assuming=[some_kept],
        ),
        wrong("the ratio is 1", equals(softmax(a), narrowed()), assuming=[equals(kept_token[a], 1), some_kept]),
    ],
)

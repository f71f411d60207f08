"""Trust region policy optimisation: the surrogate, and the step that a divergence constraint allows.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477. The step maximises the gain of a linear model,
gᵀd, where a quadratic model of the divergence, ½ dᵀFd, is at most δ. F is written as LLᵀ, which every Fisher matrix is,
with damping too, and g as Fx: x is the solution that conjugate gradients find.
"""

from sympy import Add, Expr, IndexedBase, Integer, Lambda, Rational, log, sqrt

from grape_spec.kl import divergence, n, p, q, y
from grape_spec.language import (
    At,
    Diff,
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
    delta,
    equals,
    family,
    greater,
    holds,
    index,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import P, T, V, a, j, k, l, logits, next_token, prefixes, softmax, t, v
from grape_spec.ppo import advantage, logp, old_logp, ratio
from grape_spec.proof.rules import algebra, fact, finite_sum, induction, smt, termwise

SCHULMAN = Source("schulman2015trust")
KAKADE = Source("kakade2002approximately", "lemma 6.1")
HESTENES = Source("hestenes1952methods", "section 3")

surrogate = define(
    "trpo.surrogate",
    "Surrogate objective of a token, to be maximised.",
    (logp, old_logp, advantage),
    ratio() * advantage,
    tex=r"(\rho A)",
    source=SCHULMAN.eq(14),
)

statistic = family("statistic", Real, n, text="any function of the outcome", tex="f")

claim(
    "trpo.importance.identity",
    "Under samples from the old policy, what is weighted by the ratio has its expectation under the new one.",
    holds(
        equals(sum_over(q[y] * ratio(log(p[y]), log(q[y])) * statistic[y], y), sum_over(p[y] * statistic[y], y)),
        by=finite_sum(),
    ),
    source=SCHULMAN.section(5),
    wrong=[
        wrong(
            "weighted by the inverse ratio",
            equals(sum_over(q[y] * ratio(log(q[y]), log(p[y])) * statistic[y], y), sum_over(p[y] * statistic[y], y)),
        ),
        wrong("not weighted at all", equals(sum_over(q[y] * statistic[y], y), sum_over(p[y] * statistic[y], y))),
    ],
)

old_logits = family("old_logits", Real, V, text="logits of the policy that sampled", tex=r"z^{\mathrm{old}}")
token_advantage = family("token_advantage", Real, V, text="advantage of each token", tex="A")
at_old = Lambda(v, old_logits[v])

expected_surrogate = define(
    "trpo.expected_surrogate",
    "Expectation of the surrogate under the policy that sampled.",
    (logits, old_logits, token_advantage),
    sum_over(softmax(v, at_old) * surrogate(log(softmax(v)), log(softmax(v, at_old)), token_advantage[v]), v),
    tex=r"L({logits})",
    source=SCHULMAN.eq(14),
)

claim(
    "trpo.surrogate.gradient",
    "Where the policies agree the surrogate has the gradient of the expected advantage, the policy gradient.",
    holds(equals(Diff(surrogate(), logp), surrogate()), name="of a token", by=algebra()),
    holds(
        equals(At(Diff(surrogate(), logp), logp, old_logp), advantage),
        name="of a token, where the policies agree",
        by=algebra(),
    ),
    holds(
        equals(
            At(Diff(expected_surrogate(), logits[k]), logits, at_old),
            sum_over(softmax(a, at_old) * token_advantage[a] * (delta(a, k) - softmax(k, at_old)), a),
        ),
        name="the expected score, weighted by the advantage",
        by=finite_sum(),
    ),
    holds(
        equals(
            At(Diff(expected_surrogate(), logits[k]), logits, at_old),
            At(Diff(sum_over(softmax(v) * token_advantage[v], v), logits[k]), logits, at_old),
        ),
        name="the gradient of the expected advantage",
        by=finite_sum(),
        equivalent={
            "right: old_logits[v] → old_logits[v] + 1": "the same: a constant added to every logit changes nothing"
        },
    ),
    source=SCHULMAN.section(2),
    wrong=[
        wrong(
            "the ratio differentiated as if it were its logarithm",
            equals(Diff(surrogate(), logp), advantage),
        ),
        wrong(
            "without the expectation's weights",
            equals(
                At(Diff(expected_surrogate(), logits[k]), logits, at_old),
                sum_over(token_advantage[a] * (delta(a, k) - softmax(k, at_old)), a),
            ),
        ),
    ],
)

policy_divergence = define(
    "trpo.kl",
    "Divergence of the new policy from the one that sampled, the one that the step is held to.",
    (logits, old_logits),
    sum_over(softmax(v, at_old) * log(softmax(v, at_old) / softmax(v)), v),
    tex=r"\mathrm{{KL}}(\pi_{{\mathrm{{old}}}} \Vert \pi({logits}))",
    source=SCHULMAN.eq(14),
)

claim(
    "trpo.kl.value",
    "Where the policies agree, their divergence is zero.",
    holds(equals(policy_divergence(at_old), 0), by=finite_sum()),
    wrong=[wrong("the entropy in its place", equals(-sum_over(softmax(v, at_old) * log(softmax(v, at_old)), v), 0))],
)

claim(
    "trpo.kl.gradient",
    "The divergence has slope π − π_old in the logits, which is zero where the policies agree.",
    holds(
        equals(Diff(policy_divergence(), logits[k]), softmax(k) - softmax(k, at_old)),
        name="anywhere",
        by=finite_sum(),
    ),
    holds(
        equals(At(Diff(policy_divergence(), logits[k]), logits, at_old), 0),
        name="where the policies agree",
        by=finite_sum(),
        equivalent={
            "left: old_logits[v] → old_logits[v] + 1": "the same: a constant added to every logit changes nothing"
        },
    ),
    wrong=[
        wrong("the sign turned", equals(Diff(policy_divergence(), logits[k]), softmax(k, at_old) - softmax(k))),
    ],
)

claim(
    "trpo.kl.hessian",
    "Where the policies agree, the divergence has the Fisher matrix as its curvature.",
    holds(
        equals(
            At(Diff(policy_divergence(), logits[k], logits[l]), logits, at_old),
            softmax(k, at_old) * (delta(k, l) - softmax(l, at_old)),
        ),
        by=finite_sum(),
    ),
    source=SCHULMAN.section("C"),
    wrong=[
        wrong(
            "the diagonal alone",
            equals(
                At(Diff(policy_divergence(), logits[k], logits[l]), logits, at_old), softmax(k, at_old) * delta(k, l)
            ),
        ),
        wrong(
            "twice the Fisher matrix, without the half in front of the quadratic form",
            equals(
                At(Diff(policy_divergence(), logits[k], logits[l]), logits, at_old),
                2 * softmax(k, at_old) * (delta(k, l) - softmax(l, at_old)),
            ),
        ),
    ],
)

# The step.

parameters = symbol("parameters", Size, "number of parameters", tex="n")
row = index("parameter", parameters, "a parameter", tex="i")
column = index("other_parameter", parameters, "another parameter", tex="i'")
varied = index("varied_parameter", parameters, "a parameter that is varied", tex="h")
inner = index("inner", parameters, "a column of the factor", tex="k")
other_inner = index("other_inner", parameters, "another column of the factor", tex="k'")

factor = family("fisher_factor", Real, parameters, parameters, text="a factor of the Fisher matrix", tex="L")
solution = family("solution", Real, parameters, text="the solution of Fx = g", tex="x")
direction = family("direction", Real, parameters, text="any step of the parameters", tex="d")
max_kl = symbol("max_kl", Positive, "how far the step may go, by the model of the divergence", tex=r"\delta")
multiplier = symbol("multiplier", Positive, "weight of a divergence penalty", tex=r"\lambda")

fisher = define(
    "trpo.fisher",
    "Entry of the Fisher matrix, F = LLᵀ.",
    (row, column, factor),
    sum_over(factor[row, inner] * factor[column, inner], inner),
    tex=r"F_{{{parameter}{other_parameter}}}",
)

gradient = define(
    "trpo.gradient",
    "Gradient of the surrogate, g = Fx.",
    (row, factor, solution),
    sum_over(fisher(row, column) * solution[column], column),
    tex=r"g_{{{parameter}}}",
)

gain = define(
    "trpo.gain",
    "What a step gains by the linear model of the surrogate, gᵀd.",
    (direction, factor, solution),
    sum_over(gradient(row) * direction[row], row),
    tex=r"g^{{\top}} {direction}",
    source=SCHULMAN.eq(17),
)

image = define(
    "trpo.image",
    "Entry of Lᵀd.",
    (inner, direction, factor),
    sum_over(factor[row, inner] * direction[row], row),
    tex=r"(L^{{\top}} {direction})_{{{inner}}}",
)

squared_length = define(
    "trpo.squared_length",
    "Twice the divergence of a step by its quadratic model, dᵀFd = Σ (Lᵀd)².",
    (direction, factor),
    sum_over(image(inner) ** 2, inner),
    tex=r"{direction}^{{\top}} F {direction}",
    source=SCHULMAN.eq(17),
)

solved = Lambda(row, solution[row])
along_solution = squared_length(solved)

natural_step = define(
    "trpo.natural_step",
    "The step of TRPO, d* = √(2δ/xᵀFx) x, where xᵀFx = gᵀx = gᵀF⁻¹g.",
    (row, factor, solution, max_kl),
    sqrt(2 * max_kl / along_solution) * solution[row],
    tex=r"d^*_{{{parameter}}}",
    source=SCHULMAN.section("C"),
)

best = Lambda(row, natural_step(row))
ascends = greater(along_solution, 0)
price = sqrt(along_solution / (2 * max_kl))
tilt = image(inner, solved) * image(other_inner) - image(other_inner, solved) * image(inner)

claim(
    "trpo.step.quadratic",
    "The squared length is the quadratic form of F, and never negative; gᵀx is that of x.",
    holds(
        equals(squared_length(), sum_over(direction[row] * fisher(row, column) * direction[column], row, column)),
        name="a form in F",
        by=finite_sum(),
    ),
    holds(at_least(squared_length(), 0), name="not negative", by=termwise(Rational(0))),
    holds(equals(gain(solved), along_solution), name="gᵀx = xᵀFx", by=finite_sum()),
    wrong=[
        wrong("the length of the step itself", equals(squared_length(), sum_over(direction[row] ** 2, row))),
        wrong("gᵀx is that of g", equals(gain(solved), squared_length(Lambda(row, gradient(row))))),
    ],
)

claim(
    "trpo.cauchy_schwarz",
    "No step gains more than √(gᵀx · dᵀFd): the Cauchy-Schwarz inequality in the metric of F.",
    holds(
        equals(
            along_solution * squared_length() - gain() ** 2,
            sum_over(tilt**2, inner, other_inner) / 2,
        ),
        name="Lagrange's identity",
        by=finite_sum(),
    ),
    holds(at_least(sum_over(tilt**2, inner, other_inner), 0), name="squares", by=termwise(Rational(0))),
    holds(
        at_most(gain() ** 2, along_solution * squared_length()),
        name="bound",
        by=smt(
            given=[
                fact("trpo.cauchy_schwarz", part="Lagrange's identity"),
                fact("trpo.cauchy_schwarz", part="squares"),
                fact("trpo.step.quadratic", part="not negative"),
                fact("trpo.step.quadratic", part="not negative", direction=solved),
            ]
        ),
        equivalent={
            "right: solution[parameter] → 2*solution[parameter]": "true and weaker: a length four times as large",
            "right: solution[parameter] → -solution[parameter]": "the same: xᵀFx does not see the sign of x",
        },
    ),
    wrong=[
        wrong("without the square", at_most(gain(), along_solution * squared_length())),
        wrong("with equality", equals(gain() ** 2, along_solution * squared_length())),
    ],
)


claim(
    "trpo.step.gain",
    "The step gains √(2δ gᵀF⁻¹g) by the linear model.",
    holds(equals(gain(best), sqrt(2 * max_kl * along_solution)), name="value", assuming=[ascends], by=finite_sum()),
    holds(equals(gain(best) ** 2, 2 * max_kl * along_solution), name="its square", assuming=[ascends], by=finite_sum()),
    holds(
        greater(gain(best), 0),
        name="positive",
        assuming=[ascends],
        by=smt(given=[fact("trpo.step.gain", part="value")]),
    ),
    source=SCHULMAN.section("C"),
    wrong=[
        wrong(
            "without the 2 of the quadratic model",
            equals(gain(best), sqrt(max_kl * along_solution)),
            assuming=[ascends],
        ),
        wrong("linear in δ", equals(gain(best), 2 * max_kl * along_solution), assuming=[ascends]),
    ],
)

claim(
    "trpo.step",
    "Of all steps whose divergence is at most δ by its quadratic model, d* gains the most by the linear model.",
    holds(
        equals(squared_length(best) / 2, max_kl),
        name="feasible, and the constraint is met with equality",
        assuming=[ascends],
        by=finite_sum(),
    ),
    holds(
        equals(gradient(varied), price * sum_over(fisher(varied, row) * natural_step(row), row)),
        name="stationary: g is a multiple of Fd*",
        assuming=[ascends],
        by=finite_sum(),
    ),
    holds(greater(price, 0), name="and the multiplier is positive", assuming=[ascends], by=smt()),
    holds(
        at_most(gain(), gain(best)),
        name="no feasible step gains more",
        assuming=[ascends, at_most(squared_length() / 2, max_kl)],
        by=smt(
            given=[
                fact("trpo.cauchy_schwarz", part="bound"),
                fact("trpo.step.gain", part="its square"),
                fact("trpo.step.gain", part="positive"),
            ]
        ),
        equivalent={
            "right: natural_step(parameter) → 2*natural_step(parameter)": "true and weaker: a gain twice as large",
            "right: max_kl → max_kl + 1": "true and weaker: more is gained within a larger distance",
            "right: max_kl → 2*max_kl": "true and weaker: more is gained within a larger distance",
        },
    ),
    source=SCHULMAN.section("C"),
    wrong=[
        wrong(
            "scaled by √(δ/gᵀx), without the 2 of the quadratic model",
            equals(squared_length(Lambda(row, sqrt(max_kl / along_solution) * solution[row])) / 2, max_kl),
            assuming=[ascends],
        ),
        wrong(
            "the plain gradient as direction",
            equals(squared_length(Lambda(row, sqrt(2 * max_kl / along_solution) * gradient(row))) / 2, max_kl),
            assuming=[ascends],
        ),
    ],
)

penalised = define(
    "trpo.penalised",
    "What a step gains, less λ times its divergence, both by their models.",
    (direction, factor, solution, multiplier),
    gain() - multiplier * squared_length() / 2,
    tex=r"\Phi_{{{multiplier}}}({direction})",
    source=SCHULMAN.section(4),
)

penalised_step = Lambda(row, solution[row] / multiplier)
half_of_it = Lambda(row, solution[row] / (2 * multiplier))
beyond = Lambda(row, direction[row] - solution[row] / multiplier)

claim(
    "trpo.penalty",
    "A penalty in place of the constraint gives the step F⁻¹g/λ, the same direction, and with one multiplier the same "
    "step.",
    holds(
        equals(At(Diff(penalised(), direction[varied]), direction, penalised_step), 0),
        name="stationary",
        by=finite_sum(),
    ),
    holds(
        equals(penalised(), along_solution / (2 * multiplier) - multiplier / 2 * squared_length(beyond)),
        name="the square completed",
        by=finite_sum(),
    ),
    holds(
        at_most(penalised(), along_solution / (2 * multiplier)),
        name="no step does better",
        by=smt(
            given=[
                fact("trpo.penalty", part="the square completed"),
                fact("trpo.step.quadratic", part="not negative", direction=beyond),
                fact("trpo.step.quadratic", part="not negative", direction=solved),
            ]
        ),
        equivalent={
            "right: solution[parameter] → 2*solution[parameter]": "true and weaker: a length four times as large",
            "right: solution[parameter] → -solution[parameter]": "the same: xᵀFx does not see the sign of x",
        },
    ),
    holds(
        equals(penalised(penalised_step), along_solution / (2 * multiplier)),
        name="the maximum is reached",
        by=finite_sum(),
    ),
    holds(
        equals(solution[varied] / price, natural_step(varied)),
        name="the multiplier that meets δ",
        assuming=[ascends],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the same step for every multiplier",
            equals(solution[varied] / multiplier, natural_step(varied)),
            assuming=[ascends],
        ),
        wrong(
            "without the half in the quadratic model",
            equals(At(Diff(penalised(), direction[varied]), direction, half_of_it), 0),
        ),
    ],
)


# Conjugate gradients, which find x by products with the matrix alone. They know vectors by inner products only, so
# any orthonormal basis will do: here one in which b lies along the first vector and A is tridiagonal. There always is
# one. A is LDLᵀ, with positive pivots D, and an L of ones with multipliers below them; the sign of a multiplier is
# that of a basis vector, and where one is 0, the iteration ends before.

unknowns = symbol("unknowns", Size, "number of unknowns", tex="n")
pivot = family("pivot", Positive, unknowns, text="pivots of the matrix, all positive: it is positive definite", tex="D")
multipliers = family("multipliers", Positive, unknowns, text="entries of L next to its diagonal", tex="\\ell")
right_side = symbol("right_side", Positive, "the length of b", tex="b")


def matrix(i: int, j: int) -> Expr:
    """Entry of the matrix LDLᵀ."""
    if i == j:
        return pivot[i] + (multipliers[i - 1] ** 2 * pivot[i - 1] if i > 1 else 0)
    return multipliers[min(i, j)] * pivot[min(i, j)] if abs(i - j) == 1 else Integer(0)


def dot(first: list[Expr], second: list[Expr]) -> Expr:
    """Inner product."""
    return Add(*(one * other for one, other in zip(first, second, strict=True)))


def times_matrix(vector: list[Expr]) -> list[Expr]:
    """Product of the matrix and a vector."""
    count = range(1, len(vector) + 1)
    return [Add(*(matrix(i, j) * vector[j - 1] for j in count)) for i in count]


def conjugate_gradients(target: list[Expr], steps: int, *, conjugate: bool = True) -> list[Expr]:
    """The approximate solution after a number of steps from zero; without ``conjugate``, by steepest descent."""
    found, residual, search = [Integer(0)] * len(target), target, target
    for _ in range(steps):
        moved = times_matrix(search)
        length = dot(residual, residual) / dot(search, moved)
        found = [x + length * d for x, d in zip(found, search, strict=True)]
        shorter = [r - length * h for r, h in zip(residual, moved, strict=True)]
        kept = dot(shorter, shorter) / dot(residual, residual)
        search = [r + kept * d for r, d in zip(shorter, search, strict=True)] if conjugate else shorter
        residual = shorter
    return found


def along_first(size: int) -> list[Expr]:
    """The right side of the equations."""
    return [right_side, *[Integer(0)] * (size - 1)]


def by_substitution(size: int) -> list[Expr]:
    """The solution: forwards through L, divided by the pivots, backwards through Lᵀ."""
    forwards = [right_side]
    for i in range(1, size):
        forwards.append(-multipliers[i] * forwards[-1])
    found = [forwards[-1] / pivot[size]]
    for i in range(size - 1, 0, -1):
        found.insert(0, forwards[i - 1] / pivot[i] - multipliers[i] * found[0])
    return found


claim(
    "trpo.conjugate_gradient",
    "After as many steps as there are unknowns, conjugate gradients end with the exact solution, for a positive "
    "definite matrix in an orthonormal basis that makes it tridiagonal and begins with the right side, as long as they "
    "do not end before.",
    *(
        holds(
            equals(times_matrix(by_substitution(size))[i], along_first(size)[i]),
            name=f"n = {size}: what solves equation {i + 1}",
            by=algebra(sizes={unknowns: size}),
        )
        for size in (2, 3)
        for i in range(size)
    ),
    *(
        holds(
            equals(conjugate_gradients(along_first(size), size)[i], by_substitution(size)[i]),
            name=f"n = {size}: unknown {i + 1} is found",
            by=algebra(sizes={unknowns: size}),
        )
        for size in (2, 3)
        for i in range(size)
    ),
    source=HESTENES,
    wrong=[
        wrong(
            "one step fewer is enough",
            equals(conjugate_gradients(along_first(2), 1)[0], by_substitution(2)[0]),
        ),
        wrong(
            "steps along the residuals alone, as of steepest descent",
            equals(conjugate_gradients(along_first(2), 2, conjugate=False)[0], by_substitution(2)[0]),
        ),
    ],
)


# What a new policy gains, over whole responses.

new_next_token = family(
    "new_next_token", Simplex, P, V, text="probability of each next token under the new policy", tex=r"\pi'"
)
continuation_value = family(
    "continuation_value", Real, V, text="value of a prefix that goes on with token v, old policy", tex="Q"
)
later_gain = family("later_gain", Real, V, text="what the new policy gains after token v", tex=r"\Delta")

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
    "What a new policy gains is its own expectation of the sum of the old policy's advantages: by induction on the "
    "tokens left.",
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


# How far the surrogate is from the truth.

total_variation = define(
    "trpo.total_variation",
    "Half the sum of the absolute differences of two distributions.",
    (p, q),
    sum_over(abs(p[y] - q[y]) / 2, y),
    tex=r"\mathrm{{TV}}({p}, {q})",
    source=SCHULMAN.section(3),
)

root_distance = (sqrt(p[y]) - sqrt(q[y])) ** 2
excess = multiplier / 2 * p[y] * log(p[y] / q[y]) + (p[y] + q[y]) / multiplier - abs(p[y] - q[y])

claim(
    "trpo.pinsker",
    "The square of the total variation is at most the divergence.",
    holds(
        at_least(p[y] * log(p[y] / q[y]), root_distance + p[y] - q[y]),
        name="a term of the divergence",
        by=smt(given=[fact("kl.log_bound", part="bound", x=sqrt(q[y] / p[y]))]),
        equivalent={
            "right: 2 → 3": "true and weaker, as no probability is above 1",
            "right: 2 → 4": "true and weaker, as no probability is above 1",
            "right: -q[y] → -1": "true and weaker, as no probability is above 1",
        },
    ),
    holds(
        at_most(abs(p[y] - q[y]), multiplier / 2 * root_distance + (p[y] + q[y]) / multiplier),
        name="a term of the total variation",
        by=smt(),
        equivalent={
            "right: multiplier*(sqrt(p[y]) - sqrt(q[y]))**2/2 → multiplier/2": "true and weaker, as no root is above 1",
            "right: sqrt(p[y]) → 1/sqrt(p[y])": "true and weaker, as 1/√p is at least 1, and so farther from √q",
            "right: sqrt(q[y]) → 1/sqrt(q[y])": "true and weaker, as 1/√q is at least 1, and so farther from √p",
        },
    ),
    holds(
        at_least(sum_over(excess, y), 0),
        name="summed",
        by=termwise(
            multiplier / 2 * (p[y] - q[y]),
            given=[
                fact("trpo.pinsker", part="a term of the divergence"),
                fact("trpo.pinsker", part="a term of the total variation"),
            ],
        ),
    ),
    holds(
        equals(sum_over(excess, y), multiplier / 2 * divergence() + 2 / multiplier - 2 * total_variation()),
        name="what the sum is",
        by=finite_sum(),
    ),
    holds(at_least(total_variation(), 0), name="not negative", by=termwise(Rational(0))),
    holds(
        at_least(multiplier / 2 * divergence() + 2 / multiplier, 2 * total_variation()),
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
        at_most(total_variation() ** 2, divergence()),
        name="where the distributions differ",
        assuming=[greater(total_variation(), 0)],
        by=smt(given=[fact("trpo.pinsker", part="for every multiplier", multiplier=2 / total_variation())]),
    ),
    holds(
        at_most(total_variation() ** 2, divergence()),
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
        wrong("the other way round", at_least(total_variation() ** 2, divergence())),
    ],
)

# Responses of two tokens. After a first token the worth of a second one lies within ε of some number; where that number
# is the old value of the first token, no advantage of a second token is larger than ε.

opening = index("opening", n, "the first token", tex="o")
second = family("second", Simplex, n, n, text="probability of each second token, old policy", tex=r"\pi")
new_second = family("new_second", Simplex, n, n, text="probability of each second token, new policy", tex=r"\pi'")
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
    "What the surrogate makes of it: old advantages under new probabilities, but after old first tokens.",
    (p, q, second, new_second, middle, opinion, largest),
    two_token_return()
    + sum_over(q[opening] * (old_worth - two_token_return()), opening)
    + sum_over(p[opening] * sum_over(new_second[opening, y] * (worth - old_worth), y), opening),
    tex=r"L({q}, {new_second})",
    source=SCHULMAN.eq(3),
)

bound_coefficient = define(
    "trpo.bound_coefficient",
    "How much of the return a divergence may cost at most, in responses of two tokens: C = 4ε.",
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
    "The return of the new policy is at least what the surrogate makes of it, less C times the largest divergence: the "
    "bound of monotonic improvement, for responses of two tokens and any vocabulary.",
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
        wrong("with no divergence at all", at_least(two_token_return(q, new_second), local_return())),
    ],
)

# Responses of any length. Summed over the tokens, C is 2T(T − 1)ε instead of 4ε: the distance grows with every token.

reach = family("reach", Simplex, P, text="probability of each prefix of one length, old policy", tex="d")
new_reach = family("new_reach", Simplex, P, text="probability of each prefix of one length, new policy", tex="d'")
closeness = symbol("closeness", Positive, "no total variation of next tokens is larger", tex=r"\alpha")

moved_apart = abs(new_reach[j] * new_next_token[j, v] - reach[j] * next_token[j, v])
apart = abs(new_reach[j] - reach[j])
parting = abs(new_next_token[j, v] - next_token[j, v])
spare = sum_over(apart * new_next_token[j, v] + reach[j] * parting - moved_apart, j, v)

claim(
    "trpo.bound.horizon",
    "With every token, the distance of the two distributions over prefixes grows by no more than the expected distance "
    "of the next tokens; and what T tokens miss, the t-th no more than 4(t − 1)εα², adds up to 2T(T − 1)εα².",
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

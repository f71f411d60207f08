"""Trust region policy optimisation: the surrogate, and the step under a constraint on the KL divergence.

J. Schulman et al., Trust Region Policy Optimization, arXiv:1502.05477. The step maximises a linear model of the gain,
gᵀd, where a quadratic model of the divergence, ½ dᵀFd, is at most δ. F is written as LLᵀ, as every Fisher matrix can
be, damped or not, and g as Fx, where x is the solution that conjugate gradients find.
"""

from sympy import Lambda, Rational, log, sqrt

from grape_spec.kl import n, p, q, y
from grape_spec.language import (
    At,
    Diff,
    Positive,
    Real,
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
from grape_spec.policy import V, a, k, l, logits, logp, softmax, v
from grape_spec.ppo import advantage, old_logp, ratio
from grape_spec.proof.rules import algebra, fact, finite_sum, smt, termwise

SCHULMAN = Source("schulman2015trust")

surrogate = define(
    "trpo.surrogate",
    "Surrogate objective of a token, to be maximised.",
    (logp, old_logp, advantage),
    ratio() * advantage,
    source=SCHULMAN.eq(14),
)

statistic = family("statistic", Real, n, text="any function of the outcome", tex="f")

claim(
    "trpo.importance.identity",
    "Under samples from the old policy, the expectation of a quantity weighted by the ratio is its expectation under "
    "the new policy.",
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

old_logits = family(
    "old_logits", Real, V, text="logits of the old policy, which sampled the tokens", tex=r"z^{\mathrm{old}}"
)
token_advantage = family("token_advantage", Real, V, text="advantage of each token", tex="A")
at_old = Lambda(v, old_logits[v])

expected_surrogate = define(
    "trpo.expected_surrogate",
    "Expectation of the surrogate under the old policy.",
    (logits, old_logits, token_advantage),
    sum_over(softmax(v, at_old) * surrogate(log(softmax(v)), log(softmax(v, at_old)), token_advantage[v]), v),
    tex=r"L_{{\mathrm{{old}}}}({logits})",
    source=SCHULMAN.eq(14),
)

claim(
    "trpo.surrogate.gradient",
    "Where the policies agree, the gradient of the surrogate is that of the expected advantage, the policy gradient.",
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
            "the ratio differentiated as its logarithm",
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
    "Divergence of the old policy from the new one, an expectation under the old policy; the step limits it.",
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
        wrong("the sign flipped", equals(Diff(policy_divergence(), logits[k]), softmax(k, at_old) - softmax(k))),
    ],
)

claim(
    "trpo.kl.hessian",
    "Where the policies agree, the Hessian of the divergence is the Fisher matrix.",
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

parameters = symbol("parameters", Size, "number of parameters", tex="N")
row = index("parameter", parameters, "a parameter", tex="i")
column = index("other_parameter", parameters, "another parameter", tex="i'")
varied = index("varied_parameter", parameters, "a parameter that is varied", tex="h")
inner = index("inner", parameters, "a column of the factor", tex="k")
other_inner = index("other_inner", parameters, "another column of the factor", tex="k'")

factor = family("fisher_factor", Real, parameters, parameters, text="a factor of the Fisher matrix", tex="L")
solution = family("solution", Real, parameters, text="the solution of Fx = g", tex="x")
direction = family("direction", Real, parameters, text="any step of the parameters", tex="d")
max_kl = symbol("max_kl", Positive, "limit on the divergence of the step, by its quadratic model", tex=r"\delta")
multiplier = symbol("multiplier", Positive, "weight of a KL penalty", tex=r"\lambda")

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
    "Gain of a step by the linear model of the surrogate, gᵀd.",
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
    "The squared length is the quadratic form of F, and never negative; gᵀx is the squared length of x.",
    holds(
        equals(squared_length(), sum_over(direction[row] * fisher(row, column) * direction[column], row, column)),
        name="a form in F",
        by=finite_sum(),
    ),
    holds(at_least(squared_length(), 0), name="not negative", by=termwise(Rational(0))),
    holds(equals(gain(solved), along_solution), name="gᵀx = xᵀFx", by=finite_sum()),
    wrong=[
        wrong("the length of the step itself", equals(squared_length(), sum_over(direction[row] ** 2, row))),
        wrong("gᵀx is the squared length of g", equals(gain(solved), squared_length(Lambda(row, gradient(row))))),
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
            "right: solution[parameter] → -solution[parameter]": "the same: xᵀFx does not depend on the sign of x",
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
    "Gain of a step minus λ times its divergence, both by their models.",
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
    "A penalty in place of the constraint gives the step F⁻¹g/λ: the same direction, and for one multiplier the same "
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
            "right: solution[parameter] → -solution[parameter]": "the same: xᵀFx does not depend on the sign of x",
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

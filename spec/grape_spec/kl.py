"""The Kullback-Leibler divergence of two distributions over the same finite set, and its estimates from samples.

The estimators are named as in J. Schulman, Approximating KL Divergence, 2020; samples are drawn from the policy.
"""

from sympy import Expr, Integer, Symbol, exp, log, sqrt

from grape_spec.language import (
    Diff,
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
    differs,
    equals,
    family,
    greater,
    holds,
    iff,
    implies,
    index,
    less,
    recursive,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import P, V, a, after, end, j, k, left, logits, logp, next_token, score, softmax, v
from grape_spec.proof.rules import algebra, fact, finite_sum, from_minimum, over_depth, smt, termwise

COVER = Source("cover2006elements", "theorem 2.6.3")
SCHULMAN_KL = Source("schulman2020approximating")

n = symbol("n", Size, "number of outcomes")
y = index("y", n, "an outcome")
one = index("one", n, "one of the outcomes", tex="o")
p = family("p", Simplex, n, text="a distribution")
q = family("q", Simplex, n, text="a distribution over the same outcomes")
x = symbol("x", Positive, "a positive number")

divergence = define(
    "kl.divergence",
    "Kullback-Leibler divergence of p from q, the expectation under p of log(p/q), in nats.",
    (p, q),
    sum_over(p[y] * log(p[y] / q[y]), y),
    tex=r"\mathrm{{KL}}({p} \Vert {q})",
    domain=Real,
    source=COVER,
)

claim(
    "kl.log_bound",
    "The logarithm lies below its tangent at one, and touches it only there.",
    holds(at_most(log(x), x - 1), name="bound", by=from_minimum(of=x - 1 - log(x), over=x, at=1)),
    holds(
        less(log(x), x - 1),
        name="strict",
        assuming=[differs(x, 1)],
        by=from_minimum(of=x - 1 - log(x), over=x, at=1, strict=True),
    ),
    wrong=[
        wrong("the tangent without its constant", at_most(log(x), x - 2)),
        wrong("the other way round", at_least(log(x), x - 1)),
    ],
)

squared_distance = define(
    "kl.squared_distance",
    "Sum of the squared differences of the square roots of the probabilities: zero if and only if p and q agree.",
    (p, q),
    sum_over((sqrt(p[y]) - sqrt(q[y])) ** 2, y),
    tex=r"h^2({p}, {q})",
)


def excess(outcome: Symbol) -> Expr:
    """The term of an outcome minus the difference of its probabilities, which sums to zero."""
    return p[outcome] * log(p[outcome] / q[outcome]) - (p[outcome] - q[outcome])


claim(
    "kl.nonnegative",
    "The divergence is never negative, and is zero if and only if the two distributions agree on every outcome.",
    holds(
        at_least(divergence(), 0),
        name="bound",
        by=termwise(p[y] - q[y], given=[fact("kl.log_bound", part="bound", x=q[y] / p[y])]),
    ),
    holds(equals(divergence(p, p), 0), name="zero where they agree", by=finite_sum()),
    holds(
        greater(excess(y), 0),
        name="an outcome on which they differ makes its term positive",
        assuming=[differs(p[y], q[y])],
        by=smt(given=[fact("kl.log_bound", part="strict", x=q[y] / p[y])]),
    ),
    holds(
        equals(divergence(), excess(one) + sum_over((1 - delta(y, one)) * excess(y), y)),
        name="one outcome and the others",
        by=finite_sum(),
    ),
    holds(
        at_least(sum_over((1 - delta(y, one)) * excess(y), y), 0),
        name="the others",
        by=termwise(Integer(0), given=[fact("kl.log_bound", part="bound", x=q[y] / p[y])]),
    ),
    holds(
        implies(differs(p[one], q[one]), greater(divergence(), 0)),
        name="positive if they differ on one outcome",
        by=smt(
            given=[
                fact("kl.nonnegative", part="one outcome and the others"),
                fact("kl.nonnegative", part="the others"),
                fact("kl.nonnegative", part="an outcome on which they differ makes its term positive", y=one),
            ]
        ),
    ),
    holds(
        at_least(divergence(), squared_distance()),
        name="no smaller than the squared distance of the roots",
        by=termwise(
            p[y] - q[y] + (sqrt(p[y]) - sqrt(q[y])) ** 2,
            given=[fact("kl.log_bound", part="bound", x=sqrt(q[y] / p[y]))],
        ),
        equivalent={
            "right: squared_distance → -squared_distance": "true and weaker, as a sum of squares is not negative",
        },
    ),
    holds(
        greater(divergence(), 0),
        name="positive if they differ",
        assuming=[greater(squared_distance(), 0)],
        by=smt(given=[fact("kl.nonnegative", part="no smaller than the squared distance of the roots")]),
    ),
    source=COVER,
    wrong=[
        wrong("twice the squared distance of the roots", at_least(divergence(), 2 * squared_distance())),
        wrong("every term is non-negative by itself", at_least(p[y] * log(p[y] / q[y]), 0)),
        wrong("the divergence is symmetric", equals(divergence(), divergence(q, p))),
    ],
)

# The divergence of the policy from a reference, and the other direction, over the vocabulary.

reference = family(
    "reference", Simplex, V, text="probability of each token under the reference", tex=r"\pi_{\mathrm{ref}}"
)

reverse = define(
    "kl.reverse",
    "Divergence of the policy from the reference, an expectation under the policy: reverse KL.",
    (logits, reference),
    sum_over(softmax(v) * log(softmax(v) / reference[v]), v),
    tex=r"\mathrm{{KL}}(\pi \Vert {reference})",
)

forward = define(
    "kl.forward",
    "Divergence of the reference from the policy, an expectation under the reference: forward KL.",
    (logits, reference),
    sum_over(reference[v] * log(reference[v] / softmax(v)), v),
    tex=r"\mathrm{{KL}}({reference} \Vert \pi)",
)

reverse_gradient = softmax(k) * (log(softmax(k) / reference[k]) - reverse())
forward_gradient = softmax(k) - reference[k]

claim(
    "kl.reverse.gradient",
    "Raising a logit raises the reverse KL if and only if the log-ratio of its token exceeds the divergence, and "
    "lowers it if and only if it falls short.",
    holds(equals(Diff(reverse(), logits[k]), reverse_gradient), by=finite_sum()),
    holds(
        iff(greater(Diff(reverse(), logits[k]), 0), greater(log(softmax(k) / reference[k]), reverse())),
        name="raises",
        by=smt(given=[fact("kl.reverse.gradient")]),
    ),
    holds(
        iff(less(Diff(reverse(), logits[k]), 0), less(log(softmax(k) / reference[k]), reverse())),
        name="lowers",
        by=smt(given=[fact("kl.reverse.gradient")]),
    ),
    wrong=[
        wrong("without the mean", equals(Diff(reverse(), logits[k]), softmax(k) * log(softmax(k) / reference[k]))),
        wrong("the gradient of the forward KL", equals(Diff(reverse(), logits[k]), forward_gradient)),
    ],
)

claim(
    "kl.forward.gradient",
    "The forward KL has the gradient of the cross-entropy against the reference.",
    holds(equals(Diff(forward(), logits[k]), forward_gradient), by=finite_sum()),
    wrong=[
        wrong("the sign flipped", equals(Diff(forward(), logits[k]), reference[k] - softmax(k))),
        wrong("the gradient of the reverse KL", equals(Diff(forward(), logits[k]), reverse_gradient)),
    ],
)

# Sequences: the divergence is the expected sum of the divergences of their tokens.

prefix_probability = family(
    "prefix_probability", Simplex, P, text="probability of each prefix under the policy", tex="d"
)
ref_prefix_probability = family(
    "ref_prefix_probability", Simplex, P, text="probability of each prefix under the reference", tex=r"d_{\mathrm{ref}}"
)
ref_next_token = family(
    "ref_next_token",
    Simplex,
    P,
    V,
    text="probability of each next token after prefix j under the reference",
    tex=r"\pi_{\mathrm{ref}}",
)

joint = prefix_probability[j] * next_token[j, v]
ref_joint = ref_prefix_probability[j] * ref_next_token[j, v]
token_divergence = sum_over(next_token[j, v] * log(next_token[j, v] / ref_next_token[j, v]), v)
prefix_divergence = sum_over(prefix_probability[j] * log(prefix_probability[j] / ref_prefix_probability[j]), j)


carried = symbol("carried", Real, "log-ratio of the tokens so far", tex="c")
token_log_ratio = log(next_token[j, v] / ref_next_token[j, v])

sequence_divergence = recursive(
    "kl.sequence_divergence",
    "Divergence of the distributions over all sequences that continue a prefix: the expectation, under the policy, of "
    "the log-ratio of the whole sequence, which is the sum over its tokens.",
    (left, j, carried, end, next_token, ref_next_token, after),
    left,
    carried,
    lambda rest: sum_over(
        next_token[j, v]
        * (
            delta(v, end) * (carried + token_log_ratio)
            + (1 - delta(v, end)) * rest(j=after[j, v], carried=carried + token_log_ratio)
        ),
        v,
    ),
    tex=r"\mathrm{{KL}}_{{{left}}}({j}, {carried})",
)

token_divergences = recursive(
    "kl.token_divergences",
    "Expected sum, over the tokens of a sequence that continues a prefix, of the divergence of the next token given "
    "those before it.",
    (left, j, end, next_token, ref_next_token, after),
    left,
    Integer(0),
    lambda rest: token_divergence + sum_over(next_token[j, v] * (1 - delta(v, end)) * rest(j=after[j, v]), v),
    tex=r"D_{{{left}}}({j})",
)


claim(
    "kl.chain_rule",
    "The divergence of sequences is the expected sum of the divergences of next tokens, for sequences of any length "
    "that end with an end token or at a limit T: each token adds its own, weighted by the probability of the tokens "
    "before it.",
    holds(
        equals(
            sum_over(joint * log(joint / ref_joint), j, v),
            prefix_divergence + sum_over(prefix_probability[j] * token_divergence, j),
        ),
        name="one token more",
        by=finite_sum(),
    ),
    holds(equals(sequence_divergence(), carried + token_divergences()), name="from any prefix", by=over_depth(left)),
    holds(
        equals(sequence_divergence(carried=0), token_divergences()),
        name="all sequences of at most T tokens",
        by=smt(given=[fact("kl.chain_rule", part="from any prefix", carried=Integer(0))]),
    ),
    source=Source("cover2006elements", "theorem 2.5.3"),
    wrong=[
        wrong(
            "prefixes weighted by their probability under the reference",
            equals(
                sum_over(joint * log(joint / ref_joint), j, v),
                prefix_divergence + sum_over(ref_prefix_probability[j] * token_divergence, j),
            ),
        ),
        wrong(
            "the mean over prefixes",
            equals(
                sum_over(joint * log(joint / ref_joint), j, v),
                prefix_divergence + sum_over(token_divergence, j) / P,
            ),
        ),
    ],
)

# Estimates from single tokens, sampled from the policy.

ref_logp = symbol(
    "ref_logp", Real, "log-probability of the token under the frozen reference", tex=r"\ell_{\mathrm{ref}}"
)

k1 = define(
    "kl.k1",
    "The log-ratio of policy to reference: the plain estimate.",
    (logp, ref_logp),
    logp - ref_logp,
    tex="k_1",
    source=SCHULMAN_KL,
)

k2 = define(
    "kl.k2",
    "Half the squared log-ratio: never negative, but biased.",
    (logp, ref_logp),
    (logp - ref_logp) ** 2 / 2,
    tex="k_2",
    source=SCHULMAN_KL,
)

k3 = define(
    "kl.k3",
    "The log-ratio plus a term of mean zero that makes it never negative.",
    (logp, ref_logp),
    exp(ref_logp - logp) - 1 - (ref_logp - logp),
    tex="k_3",
    source=SCHULMAN_KL,
)

claim(
    "kl.estimate.gradient",
    "The slope of each estimate in the log-probability of its token.",
    holds(equals(Diff(k1(), logp), 1), name="k1", by=algebra()),
    holds(equals(Diff(k2(), logp), logp - ref_logp), name="k2", by=algebra()),
    holds(equals(Diff(k3(), logp), 1 - exp(ref_logp - logp)), name="k3", by=algebra()),
    wrong=[
        wrong("k2 without the half", equals(Diff(k2(), logp), 2 * (logp - ref_logp))),
        wrong("k3 with the ratio of policy to reference", equals(Diff(k3(), logp), 1 - exp(logp - ref_logp))),
        wrong("k3 with the ratio treated as a constant", equals(Diff(k3(), logp), 1)),
    ],
)

estimators = {"k1": k1, "k2": k2, "k3": k3}
sampled = {name: estimator(log(softmax(a)), log(reference[a])) for name, estimator in estimators.items()}


def expected(value: Expr) -> Expr:
    """The expectation over a token sampled from the policy; its probability is not differentiated."""
    return sum_over(softmax(a) * value, a)


unnormalised = family("unnormalised", Positive, V, text="positive numbers that need not sum to one", tex="u")

claim(
    "kl.k1.unbiased",
    "Under samples from the policy, the expectation of the log-ratio is the reverse KL.",
    holds(equals(expected(sampled["k1"]), reverse()), by=finite_sum()),
    source=SCHULMAN_KL,
    wrong=[
        wrong("k2 is unbiased, too", equals(expected(sampled["k2"]), reverse())),
        wrong(
            "under samples from the reference, too",
            equals(sum_over(reference[a] * sampled["k1"], a), reverse()),
        ),
    ],
)

claim(
    "kl.k3.unbiased",
    "The expectation of k3 is also the reverse KL, because the probabilities of the reference sum to one.",
    holds(equals(expected(sampled["k3"]), reverse()), by=finite_sum()),
    source=SCHULMAN_KL,
    wrong=[
        wrong(
            "for a reference that is not normalised, such as one truncated to its top tokens",
            equals(
                expected(k3(log(softmax(a)), log(unnormalised[a]))),
                sum_over(softmax(v) * log(softmax(v) / unnormalised[v]), v),
            ),
        ),
        wrong(
            "under samples from the reference, too",
            equals(sum_over(reference[a] * sampled["k3"], a), reverse()),
        ),
    ],
)

ratio = exp(ref_logp) / exp(logp)
tangent = fact("kl.k3.nonnegative", part="the ratio, less its tangent")

claim(
    "kl.k3.nonnegative",
    "k3 is never negative, and is zero only if policy and reference agree on the token.",
    holds(
        equals(k3(), ratio - 1 - log(ratio)),
        name="the ratio, less its tangent",
        by=algebra(),
    ),
    holds(
        at_least(k3(), 0),
        name="bound",
        by=smt(given=[tangent, fact("kl.log_bound", part="bound", x=ratio)]),
    ),
    holds(equals(k3(ref_logp, ref_logp), 0), name="zero where they agree", by=algebra()),
    holds(
        greater(k3(), 0),
        name="positive where they do not",
        assuming=[differs(logp, ref_logp)],
        by=smt(
            given=[
                tangent,
                fact("kl.log_bound", part="strict", x=ratio),
                fact("kl.log_bound", part="bound", x=ratio),
                fact("kl.log_bound", part="bound", x=1 / ratio),
            ]
        ),
    ),
    source=SCHULMAN_KL,
    wrong=[
        wrong("k1 is never negative either", at_least(k1(), 0)),
        wrong("the linear term with the log-ratio the other way round", at_least(k3() + 2 * (ref_logp - logp), 0)),
    ],
)

# What an estimate does to the policy: in a loss it is differentiated, in the reward it weights the score.

in_loss = {name: expected(Diff(value, logits[k])) for name, value in sampled.items()}
in_reward = {name: expected(value * score) for name, value in sampled.items()}

claim(
    "kl.k1.loss_gradient",
    "As a loss, k1 has no effect: its gradient is the score, whose expectation is zero.",
    holds(equals(in_loss["k1"], 0), by=finite_sum()),
    wrong=[wrong("it descends the reverse KL", equals(in_loss["k1"], reverse_gradient))],
)

claim(
    "kl.k2.loss_gradient",
    "As a loss, k2 has the gradient of the reverse KL in expectation.",
    holds(equals(in_loss["k2"], Diff(reverse(), logits[k])), by=finite_sum()),
    wrong=[
        wrong("the gradient of its own expectation", equals(in_loss["k2"], Diff(expected(sampled["k2"]), logits[k]))),
        wrong("the gradient of the forward KL", equals(in_loss["k2"], Diff(forward(), logits[k]))),
    ],
)

claim(
    "kl.k3.loss_gradient",
    "As a loss, k3 has the gradient of the forward KL in expectation: the opposite direction.",
    holds(equals(in_loss["k3"], Diff(forward(), logits[k])), by=finite_sum()),
    wrong=[
        wrong("the gradient of the reverse KL, which it estimates", equals(in_loss["k3"], Diff(reverse(), logits[k])))
    ],
)

claim(
    "kl.k1.reward_gradient",
    "As a constant weight on the score, k1 gives the gradient of the reverse KL.",
    holds(equals(in_reward["k1"], Diff(reverse(), logits[k])), by=finite_sum()),
    wrong=[
        wrong("no effect, as in a loss", equals(in_reward["k1"], 0)),
        wrong("the gradient of the forward KL", equals(in_reward["k1"], Diff(forward(), logits[k]))),
    ],
)

claim(
    "kl.k3.reward_gradient",
    "As a constant weight on the score, k3 gives the gradient of the reverse KL minus that of the forward KL.",
    holds(
        equals(in_reward["k3"], Diff(reverse(), logits[k]) - Diff(forward(), logits[k])),
        by=finite_sum(),
    ),
    wrong=[
        wrong("the gradient of the reverse KL, as for k1", equals(in_reward["k3"], Diff(reverse(), logits[k]))),
        wrong("the same as in a loss", equals(in_reward["k3"], Diff(forward(), logits[k]))),
    ],
)

own_sign = log(reference[a]) - log(softmax(a))
turned = log(softmax(a)) - log(reference[a])

claim(
    "kl.sign",
    "Under samples from the policy the log-ratio is x = log ref − log π: k1 = −x and k3 = exp(x) − 1 − x.",
    holds(equals(expected(-own_sign), reverse()), name="k1", by=finite_sum()),
    holds(equals(expected(exp(own_sign) - 1 - own_sign), reverse()), name="k3", by=finite_sum()),
    source=SCHULMAN_KL,
    wrong=[
        wrong("k1 with x = log π − log ref", equals(expected(-turned), reverse())),
        wrong("k3 with x = log π − log ref", equals(expected(exp(turned) - 1 - turned), reverse())),
        wrong("k3 with + x in place of − x", equals(expected(exp(own_sign) - 1 + own_sign), reverse())),
        wrong(
            "k3 under samples from the reference",
            equals(sum_over(reference[a] * (exp(own_sign) - 1 - own_sign), a), reverse()),
        ),
    ],
)

"""The policy: a categorical distribution over a vocabulary, and over sequences of tokens.

Logits z give probabilities π = softmax(z). Every gradient of every method goes through the derivative of log π.
"""

from sympy import Integer, Lambda, exp, log

from grape_spec.language import (
    DERIVED,
    Diff,
    PositionOn,
    Positive,
    Real,
    Simplex,
    Size,
    SmoothPositive,
    Source,
    claim,
    define,
    delta,
    equals,
    family,
    function,
    holds,
    index,
    product_over,
    recursive,
    substitute,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.domains import Naturals
from grape_spec.proof.rules import chain, finite_sum, induction, over_depth, rewrite, step

SUTTON = Source("sutton2018reinforcement", "section 13.3")
HINTON = Source("hinton2015distilling")

V = symbol("V", Size, "number of tokens in the vocabulary", tex=r"\lvert{\mathcal{V}}\rvert")
a = index("a", V, "the token that was chosen")
k = index("k", V, "a token whose logit is varied")
l = index("l", V, "another token whose logit is varied")
v = index("v", V, "a token that a sum runs over")

logits = family("logits", Real, V, text="one real number for each token", tex="z")
logp = symbol("logp", Real, "log-probability of the token under the policy being trained", tex=r"\ell")
temperature = symbol("temperature", Positive, "number that divides the logits", tex=r"\tau")
shift = symbol("shift", Real, "a constant added to every logit", tex="c")
scaled = Lambda(v, logits[v] / temperature)

softmax = define(
    "policy.softmax",
    "Probability of a token.",
    (a, logits),
    exp(logits[a]) / sum_over(exp(logits[v]), v),
    tex=r"\pi_{{{a}}}({logits})",
    domain=Positive,
    source=DERIVED,
)

log_softmax = define(
    "policy.log_softmax",
    "Log-probability of a token at a temperature.",
    (a, logits, temperature),
    log(softmax(a, scaled)),
    tex=r"\log \pi_{{{a}}}({logits} / {temperature})",
    source=HINTON,
)

plain_entropy = -sum_over(softmax(v) * log(softmax(v)), v)

entropy = define(
    "policy.entropy",
    "Entropy of the next-token distribution at a temperature, in nats.",
    (logits, temperature),
    substitute(plain_entropy, {logits: scaled}),
    tex=r"H({logits} / {temperature})",
)

claim(
    "policy.softmax.normalised",
    "The probabilities of all tokens sum to one, for every vocabulary size.",
    holds(equals(sum_over(softmax(v), v), 1), by=finite_sum()),
)

claim(
    "policy.softmax.shift",
    "Adding one constant to every logit changes no probability.",
    holds(equals(softmax(a, Lambda(v, logits[v] + shift)), softmax(a)), by=finite_sum()),
    wrong=[
        wrong(
            "scaling the logits changes nothing either",
            equals(softmax(a, Lambda(v, logits[v] * shift)), softmax(a)),
        )
    ],
)

claim(
    "policy.softmax.jacobian",
    "Raising a logit raises the probability of its token and lowers all other probabilities in proportion.",
    holds(equals(Diff(softmax(a), logits[k]), softmax(a) * (delta(a, k) - softmax(k))), by=finite_sum()),
    wrong=[
        wrong("the diagonal alone, as for a sigmoid", equals(Diff(softmax(a), logits[k]), softmax(a) * delta(a, k))),
        wrong("the sign flipped", equals(Diff(softmax(a), logits[k]), softmax(a) * (softmax(k) - delta(a, k)))),
    ],
)

claim(
    "policy.log_softmax.gradient",
    "The score of the chosen token is its one-hot vector minus the probabilities.",
    holds(equals(Diff(log(softmax(a)), logits[k]), delta(a, k) - softmax(k)), by=finite_sum()),
    source=SUTTON,
    wrong=[
        wrong(
            "the probability of the chosen token", equals(Diff(log(softmax(a)), logits[k]), delta(a, k) - softmax(a))
        ),
        wrong("without the normaliser", equals(Diff(log(softmax(a)), logits[k]), delta(a, k))),
    ],
)

claim(
    "policy.log_softmax.hessian",
    "The curvature of a log-probability does not depend on which token was chosen.",
    holds(
        equals(Diff(log(softmax(a)), logits[k], logits[l]), -softmax(k) * (delta(k, l) - softmax(l))),
        by=chain(
            step(Diff(delta(a, k) - softmax(k), logits[l]), by=rewrite("policy.log_softmax.gradient")),
            step(-softmax(k) * (delta(k, l) - softmax(l)), by=finite_sum()),
        ),
    ),
    wrong=[
        wrong(
            "it depends on the chosen token",
            equals(Diff(log(softmax(a)), logits[k], logits[l]), -softmax(a) * (delta(k, l) - softmax(l))),
        )
    ],
)

tempered = log_softmax(a)

claim(
    "policy.temperature.gradient",
    "At temperature τ the score is the score of the tempered policy, divided by τ.",
    holds(
        equals(Diff(tempered, logits[k]), (delta(a, k) - softmax(k, scaled)) / temperature),
        by=finite_sum(),
    ),
    source=HINTON,
    wrong=[
        wrong("without the factor", equals(Diff(tempered, logits[k]), delta(a, k) - softmax(k, scaled))),
        wrong(
            "with the probabilities at temperature one",
            equals(Diff(tempered, logits[k]), (delta(a, k) - softmax(k)) / temperature),
        ),
    ],
)

score = Diff(log(softmax(a)), logits[k])
other_score = Diff(log(softmax(a)), logits[l])

claim(
    "policy.score.mean_zero",
    "The score has expectation zero under its own policy.",
    holds(
        equals(sum_over(softmax(a) * score, a), 0),
        by=chain(
            step(
                sum_over(softmax(a) * (delta(a, k) - softmax(k)), a),
                by=rewrite("policy.log_softmax.gradient"),
            ),
            step(0, by=finite_sum()),
        ),
    ),
    source=SUTTON,
    wrong=[wrong("without weighting by the probabilities", equals(sum_over(score, a), 0))],
)

fisher = softmax(k) * (delta(k, l) - softmax(l))

claim(
    "policy.fisher",
    "The Fisher matrix, the second moment of the score, is minus the expected curvature of the log-probability.",
    holds(
        equals(sum_over(softmax(a) * score * other_score, a), fisher),
        name="second moment",
        by=chain(
            step(
                sum_over(softmax(a) * (delta(a, k) - softmax(k)) * other_score, a),
                by=rewrite("policy.log_softmax.gradient"),
            ),
            step(
                sum_over(softmax(a) * (delta(a, k) - softmax(k)) * (delta(a, l) - softmax(l)), a),
                by=rewrite("policy.log_softmax.gradient", k=l),
            ),
            step(fisher, by=finite_sum()),
        ),
    ),
    holds(
        equals(-sum_over(softmax(a) * Diff(log(softmax(a)), logits[k], logits[l]), a), fisher),
        name="expected curvature",
        by=chain(
            step(-sum_over(softmax(a) * (-fisher), a), by=rewrite("policy.log_softmax.hessian")),
            step(fisher, by=finite_sum()),
        ),
    ),
    wrong=[
        wrong(
            "the empirical outer product without expectation",
            equals(score * other_score, fisher),
        )
    ],
)

claim(
    "policy.entropy.gradient",
    "The slope of the entropy in a logit is the probability of its token times (surprisal − entropy), divided by τ at "
    "a temperature τ: raising the logit raises the entropy where the surprisal exceeds the entropy.",
    holds(
        equals(
            Diff(plain_entropy, logits[k]), -softmax(k) * (log(softmax(k)) - sum_over(softmax(v) * log(softmax(v)), v))
        ),
        name="plain",
        by=finite_sum(),
    ),
    holds(
        equals(
            Diff(entropy(), logits[k]),
            -softmax(k, scaled) * (log(softmax(k, scaled)) + entropy()) / temperature,
        ),
        name="temperature",
        by=finite_sum(),
    ),
    wrong=[
        wrong("without the mean", equals(Diff(plain_entropy, logits[k]), -softmax(k) * log(softmax(k)))),
        wrong("with a leftover + 1", equals(Diff(plain_entropy, logits[k]), -softmax(k) * (log(softmax(k)) + 1))),
    ],
)

claim(
    "policy.temperature.slope",
    "The slope of a log-probability in the temperature is the surprisal of its token minus the entropy, all divided by "
    "τ: a higher temperature raises the tokens whose surprisal exceeds the entropy, and lowers those below it. The "
    "slope of the entropy is the variance of the log-probability, divided by τ.",
    holds(
        equals(Diff(tempered, temperature), -(tempered + entropy()) / temperature),
        name="log-probability",
        by=finite_sum(),
    ),
    holds(
        equals(
            Diff(entropy(), temperature),
            sum_over(softmax(v, scaled) * (log_softmax(v) + entropy()) ** 2, v) / temperature,
        ),
        name="entropy",
        by=finite_sum(),
    ),
    wrong=[
        wrong("without the entropy", equals(Diff(tempered, temperature), -tempered / temperature)),
        wrong("the sign flipped", equals(Diff(tempered, temperature), (tempered + entropy()) / temperature)),
    ],
)

# Sequences: the probability of a whole response is the product over its tokens.

T = symbol("T", Size, "number of tokens in the sequence")
t = index("t", T, "a position in the sequence")
theta = symbol("theta", Real, "a parameter of the policy", tex=r"\theta")
token_probability = function(
    "token_prob",
    SmoothPositive,
    "probability of token t given the tokens before it, as a function of the parameter",
    tex="p",
)

sequence_probability = product_over(token_probability(t, theta), t)

claim(
    "policy.sequence.log_prob",
    "The log-probability of a sequence is the sum over its tokens, and its score the sum of their scores.",
    holds(
        equals(log(sequence_probability), sum_over(log(token_probability(t, theta)), t)),
        name="sum",
        by=induction(T),
    ),
    holds(
        equals(Diff(log(sequence_probability), theta), sum_over(Diff(log(token_probability(t, theta)), theta), t)),
        name="score",
        by=chain(
            step(
                Diff(sum_over(log(token_probability(t, theta)), t), theta),
                by=rewrite("policy.sequence.log_prob", part="sum"),
            ),
            step(sum_over(Diff(log(token_probability(t, theta)), theta), t), by=finite_sum()),
        ),
    ),
    wrong=[
        wrong(
            "the mean over tokens, as with length normalisation",
            equals(log(sequence_probability), sum_over(log(token_probability(t, theta)), t) / T),
        )
    ],
)

P = symbol("P", Size, "number of prefixes")
j = index("j", P, "a prefix")
next_token = family("next_token", Simplex, P, V, text="probability of each next token after prefix j", tex=r"\pi")
end = index("end", V, "the end-of-sequence token", tex=r"\mathrm{eos}")
completions = family(
    "completions", Real, V, text="total probability of all completions once token v is appended", tex="C"
)

completion_mass = define(
    "policy.completion_mass",
    "Total probability of all ways to complete a prefix: to end it now, or to continue with another token.",
    (j, end, next_token, completions),
    sum_over(next_token[j, v] * (delta(v, end) + (1 - delta(v, end)) * completions[v]), v),
    tex=r"\mu_{{{j}}}",
)


# Whole sequences. A token leads from one prefix to the next: to prefix after[j, v] from prefix j, by token v.

left = symbol("left", Naturals("whole number", 0), "number of tokens that may still follow", tex="T")
after = family("after", PositionOn(P), P, V, text="the prefix that prefix j is after token v", tex=r"\mathrm{after}")
arrived = symbol("arrived", Real, "probability of the tokens so far", tex="d")

sequence_mass = recursive(
    "policy.sequence_mass",
    "Total probability of all sequences that continue a prefix, each the product over its tokens: sequences that end "
    "with the end token, and those that are cut off when no token is left.",
    (left, j, arrived, end, next_token, after),
    left,
    arrived,
    lambda mass: sum_over(
        delta(v, end) * arrived * next_token[j, v]
        + (1 - delta(v, end)) * mass(j=after[j, v], arrived=arrived * next_token[j, v]),
        v,
    ),
    tex=r"M_{{{left}}}({j}, {arrived})",
)

claim(
    "policy.sequence.normalised",
    "The probabilities of all sequences that end with an end-of-sequence token or at a length limit T sum to one, for "
    "every T: a prefix has mass one if all its continuations have.",
    holds(
        equals(completion_mass(completions=Lambda(v, 1)), 1),
        name="one token more",
        by=finite_sum(),
    ),
    holds(equals(sequence_mass(), arrived), name="from any prefix", by=over_depth(left)),
    holds(
        equals(sequence_mass(arrived=1), 1),
        name="all sequences of at most T tokens",
        by=rewrite("policy.sequence.normalised", part="from any prefix", arrived=Integer(1)),
        equivalent={
            "left: left → left + 1": "true: it holds for every limit",
            "left: left → 2*left": "true: it holds for every limit",
        },
    ),
    wrong=[
        wrong(
            "with the end token counted as a continuation, too",
            equals(sum_over(next_token[j, v] * (1 + delta(v, end)), v), 1),
        ),
        wrong("every further token multiplies the number of sequences", equals(sequence_mass(), (1 + left) * arrived)),
    ],
)

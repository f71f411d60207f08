"""Supervised fine-tuning: maximum likelihood of given responses.

The loss of a token is its negative log-probability. In expectation over the data this is, up to a constant, the
Kullback-Leibler divergence of the data from the policy: training moves the policy towards the data.
"""

from sympy import Expr, Lambda, Max, Symbol, log

from grape_spec.aggregation import B, S, denominator, i, mask, part, position, row, s, token_count, token_mean
from grape_spec.kl import divergence, p, q, squared_distance, y
from grape_spec.language import (
    Diff,
    OneHot,
    Real,
    Simplex,
    Source,
    at_least,
    claim,
    define,
    delta,
    equals,
    family,
    greater,
    holds,
    index,
    sum_over,
    wrong,
)
from grape_spec.policy import T, V, k, logits, logp, softmax, t, v
from grape_spec.proof.rules import chain, fact, finite_sum, rewrite, smt, step

COVER = Source("cover2006elements")

token_logits = family("token_logits", Real, B, T, V, text="the logits at every position", tex="z")
target = family("target_token", OneHot, B, T, V, text="1 for the token after position t, else 0", tex="Y")

token_loss = define(
    "sft.token_loss",
    "Negative log-likelihood of a token.",
    (logp,),
    -logp,
    tex=r"L({logp})",
)

row_logits = Lambda(v, token_logits[i, t, v])

target_logp = define(
    "sft.target_logp",
    "Log-probability of the token that follows a position.",
    (i, t, token_logits, target),
    sum_over(target[i, t, v] * log(softmax(v, row_logits)), v),
    tex=r"\log \pi(y_{{{i},{t}}})",
)

losses = Lambda((i, t), token_loss(target_logp()))

objective = define(
    "sft.objective",
    "Negative log-likelihood of the tokens that count, divided by a denominator: by default, their number.",
    (token_logits, target, mask, denominator),
    token_mean(losses),
    tex=r"L_{{\mathrm{{SFT}}}}",
)

varied = token_logits[row, position, k]
varied_logits = Lambda(v, token_logits[row, position, v])
excess = softmax(k, varied_logits) - target[row, position, k]

claim(
    "sft.gradient",
    "For a token that counts, the slope in each logit is the probability of that logit's token, minus 1 for the target "
    "token.",
    holds(equals(Diff(objective(), varied), mask[row, position] * excess / denominator), by=finite_sum()),
    wrong=[
        wrong("the sign flipped", equals(Diff(objective(), varied), -mask[row, position] * excess / denominator)),
        wrong("padding counts", equals(Diff(objective(), varied), excess / denominator)),
        wrong(
            "the mean over all positions, padding included",
            equals(Diff(objective(denominator=token_count()), varied), mask[row, position] * excess / (B * T)),
        ),
    ],
)

# What is learned: the distribution of the data.

data = family("data", Simplex, V, text="distribution of the data over next tokens", tex=r"p_{\mathrm{data}}")

cross_entropy = define(
    "sft.cross_entropy",
    "Expected negative log-likelihood of a model q under data from p, in nats; of p itself, the entropy of p.",
    (p, q),
    sum_over(p[y] * token_loss(log(q[y])), y),
    tex=r"H({p}, {q})",
    source=COVER,
)

token_cross_entropy = sum_over(data[v] * token_loss(log(softmax(v))), v)
token_divergence = sum_over(data[v] * log(data[v] / softmax(v)), v)

claim(
    "sft.kl_equivalence",
    "The expected loss is the entropy of the data plus the KL divergence of the data from the policy, so its "
    "gradient is that of the divergence.",
    holds(equals(cross_entropy(), cross_entropy(p, p) + divergence()), name="value", by=finite_sum()),
    holds(
        equals(Diff(token_cross_entropy, logits[k]), softmax(k) - data[k]),
        name="gradient of the loss",
        by=finite_sum(),
    ),
    holds(
        equals(Diff(token_divergence, logits[k]), softmax(k) - data[k]),
        name="gradient of the divergence",
        by=finite_sum(),
    ),
    source=COVER,
    wrong=[
        wrong("without the entropy of the data", equals(cross_entropy(), divergence())),
        wrong("the divergence the other way round", equals(cross_entropy(), cross_entropy(p, p) + divergence(q, p))),
        wrong(
            "the gradient of the divergence the other way round",
            equals(
                Diff(token_cross_entropy, logits[k]),
                Diff(sum_over(softmax(v) * log(softmax(v) / data[v]), v), logits[k]),
            ),
        ),
    ],
)

claim(
    "sft.optimum",
    "The distribution of the data has the smallest expected loss, and every other policy has a larger one.",
    holds(
        at_least(cross_entropy(), cross_entropy(p, p)),
        name="none does better",
        by=smt(given=[fact("sft.kl_equivalence", part="value"), fact("kl.nonnegative", part="bound")]),
        equivalent={
            "right: cross_entropy(q=p) → -cross_entropy(q=p)": "true and weaker, as an entropy is not negative",
        },
    ),
    holds(
        greater(cross_entropy(), cross_entropy(p, p)),
        name="every other has a larger loss",
        assuming=[greater(squared_distance(), 0)],
        by=smt(
            given=[fact("sft.kl_equivalence", part="value"), fact("kl.nonnegative", part="positive if they differ")]
        ),
        equivalent={
            "right: cross_entropy(q=p) → -cross_entropy(q=p)": "true and weaker, as an entropy is not negative",
        },
    ),
    source=COVER,
    wrong=[
        wrong("the expected loss can be driven to zero", equals(cross_entropy(p, p), 0)),
        wrong("the policy is the minimiser when the data vary", at_least(cross_entropy(), cross_entropy(q, q))),
    ],
)

# Which token a position predicts. After token j a bigram model has the logits bigram[j]; the tokens are drawn from it.

bigram = family("bigram", Real, V, V, text="logits of the next token after each token", tex="z")
first = family("token_read", Simplex, V, text="distribution of the token that a position has read", tex=r"\mu")
read = index("read_token", V, "the token that a position has read", tex="y_t")
following = index("following_token", V, "the token after the one that a position has read", tex="y_{t+1}")
later = index("later_token", V, "the second token after the one that a position has read", tex="y_{t+2}")
prior = index("prior_token", V, "a token after which a logit is varied", tex="j")


def next_probability(token: Symbol, after: Symbol) -> Expr:
    """Probability of a token after another in the bigram model."""
    return softmax(token, Lambda(v, bigram[after, v]))


def push(scored: Symbol) -> Expr:
    """Slope of the loss of a position that predicts a token."""
    return Diff(token_loss(log(next_probability(scored, read))), bigram[prior, k])


def expected(body: Expr, *tokens: Symbol) -> Expr:
    """The mean over the token that was read and over the named tokens after it, each drawn after the previous one."""
    for token, after in reversed([*zip(tokens, (read, *tokens), strict=False)]):
        body = sum_over(next_probability(token, after) * body, token)
    return sum_over(first[read] * body, read)


claim(
    "sft.shift",
    "If each position predicts the token after the one it has read, training on the model's own text leaves it "
    "unchanged in expectation. With no shift it is pulled towards repeating the token read; with two, towards the "
    "distribution of the second token after it.",
    holds(
        equals(expected(push(following), following), 0),
        name="the next token",
        by=finite_sum(),
        equivalent={
            "left: bigram[read_token, v] → bigram[read_token, v] + 1 (2)": "a constant on every logit changes nothing",
        },
    ),
    holds(
        equals(expected(push(read)), first[prior] * (next_probability(k, prior) - delta(k, prior))),
        name="no shift",
        by=finite_sum(),
    ),
    holds(
        equals(
            expected(push(later), following, later),
            first[prior]
            * (
                next_probability(k, prior)
                - sum_over(next_probability(following, prior) * next_probability(k, following), following)
            ),
        ),
        name="two shifts",
        by=finite_sum(),
    ),
    wrong=[
        wrong("no shift: the position predicts the token that it has read", equals(expected(push(read)), 0)),
        wrong("two shifts: it predicts the token after the next", equals(expected(push(later), following, later), 0)),
    ],
)

# Micro-batches: every part of a batch is divided by the number of tokens of the whole batch.

counted_loss = mask[i, t] * losses(i, t)
whole_batch = objective(denominator=token_count())
micro_batch = sum_over(part[i, s] * counted_loss, i, t) / token_count()
own_count = Max(1, sum_over(part[i, s] * mask[i, t], i, t))

claim(
    "sft.accumulation",
    "The losses of micro-batches, each divided by the number of tokens of the whole batch, add up to the loss of the "
    "whole batch, and so do their gradients.",
    holds(
        equals(sum_over(micro_batch, s), whole_batch),
        name="loss",
        by=chain(
            step(
                token_mean(losses, denominator=token_count()),
                by=rewrite("aggregation.partition", part="token_mean", per_token=losses, denominator=token_count()),
            ),
            step(whole_batch, by=finite_sum()),
        ),
    ),
    holds(
        equals(sum_over(Diff(micro_batch, varied), s), mask[row, position] * excess / token_count()),
        name="gradient",
        by=finite_sum(),
    ),
    source=Source("transformers34191", "pull request 34191"),
    wrong=[
        wrong(
            "the mean of the means of the micro-batches",
            equals(sum_over(sum_over(part[i, s] * counted_loss, i, t) / own_count, s) / S, whole_batch),
        ),
        wrong(
            "the sum of the means of the micro-batches",
            equals(sum_over(sum_over(part[i, s] * counted_loss, i, t) / own_count, s), whole_batch),
        ),
    ],
)

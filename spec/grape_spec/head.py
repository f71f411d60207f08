"""The linear head: from a hidden state to the policy, and how that is computed without holding all logits at once.

Logits are z = (W·h + b)/τ. Log-probability and entropy rest on two sums over the vocabulary, which join from those of
its parts; their gradients on one number for each token, which is known as soon as the sums are.
"""

from sympy import Lambda, exp, log

from grape_spec.language import (
    Diff,
    OneHot,
    Positive,
    Real,
    Size,
    Source,
    claim,
    define,
    delta,
    equals,
    family,
    holds,
    index,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import V, a, entropy, k, log_softmax, logits, plain_entropy, softmax, temperature, v
from grape_spec.proof.rules import finite_sum

MILAKOV = Source("milakov2018online", "section 3")

width = symbol("width", Size, "number of entries of a hidden state", tex="d")
u = index("u", width, "an entry of the hidden state that a sum runs over")
c = index("c", width, "an entry of the hidden state that is varied")

hidden = family("hidden", Real, width, text="the hidden state at a position", tex="h")
weight = family("weight", Real, V, width, text="the weights of the last layer, a row for each token", tex="W")
bias = family("bias", Real, V, text="the bias of each token", tex="b")

logit = define(
    "head.logit",
    "Logit of a token, over the temperature.",
    (v, hidden, weight, bias, temperature),
    (sum_over(weight[v, u] * hidden[u], u) + bias[v]) / temperature,
    tex=r"z_{{{v}}}",
)

head = Lambda(v, logit())

probability = define(
    "head.probability",
    "Probability of a token, given the hidden state.",
    (a, hidden, weight, bias, temperature),
    softmax(a, head),
    tex=r"\pi_{{{a}}}",
    domain=Positive,
)

log_probability = define(
    "head.log_probability",
    "Log-probability of a token, given the hidden state.",
    (a, hidden, weight, bias, temperature),
    log(probability()),
    tex=r"\log \pi_{{{a}}}",
)

head_entropy = define(
    "head.entropy",
    "Entropy of the next token, given the hidden state, in nats.",
    (hidden, weight, bias, temperature),
    -sum_over(probability(v) * log_probability(v), v),
    tex="H",
)

at_one = Lambda(v, logit(temperature=1))

claim(
    "head.tempered",
    "The policy of a head at a temperature is that of its logits at temperature one, tempered.",
    holds(equals(log_probability(), log_softmax(a, at_one, temperature)), name="log-probability", by=finite_sum()),
    holds(equals(head_entropy(), entropy(at_one, temperature)), name="entropy", by=finite_sum()),
    wrong=[
        wrong(
            "the bias is not divided by the temperature",
            equals(
                log_probability(),
                log(softmax(a, Lambda(v, sum_over(weight[v, u] * hidden[u], u) / temperature + bias[v]))),
            ),
        ),
        wrong("the temperature applied twice", equals(log_probability(), log_softmax(a, head, temperature))),
    ],
)

# Gradients: one number for each token, its slope, and all else are products of it.

token_slope = family("token_slope", Real, V, text="what the logit of each token does to a loss", tex="s")
by_logits = sum_over(token_slope[v] * logit(), v)

claim(
    "head.logit.gradient",
    "What the slopes of a loss in the logits become in what the logits are made of.",
    holds(
        equals(Diff(by_logits, hidden[c]), sum_over(token_slope[v] * weight[v, c], v) / temperature),
        name="hidden",
        by=finite_sum(),
    ),
    holds(
        equals(Diff(by_logits, weight[k, c]), token_slope[k] * hidden[c] / temperature), name="weight", by=finite_sum()
    ),
    holds(equals(Diff(by_logits, bias[k]), token_slope[k] / temperature), name="bias", by=finite_sum()),
    holds(equals(Diff(by_logits, temperature), -by_logits / temperature), name="temperature", by=finite_sum()),
    wrong=[
        wrong(
            "the bias, too, is multiplied by the state",
            equals(Diff(by_logits, bias[k]), token_slope[k] * hidden[c] / temperature),
        ),
        wrong(
            "the temperature does not reach the weights",
            equals(Diff(by_logits, weight[k, c]), token_slope[k] * hidden[c]),
        ),
    ],
)

slope = define(
    "head.slope",
    "What the logit of a token does to the log-probability of the chosen one.",
    (v, a, hidden, weight, bias, temperature),
    delta(a, v) - probability(v),
    tex=r"s_{{{v}}}({a})",
)

entropy_slope = define(
    "head.entropy_slope",
    "What the logit of a token does to the entropy.",
    (v, hidden, weight, bias, temperature),
    -probability(v) * (log_probability(v) + head_entropy()),
    tex=r"s^H_{{{v}}}",
)

claim(
    "head.gradient",
    "What raises the log-probability of a token: slopes, one for each token of the vocabulary, times what its logit "
    "is made of.",
    holds(
        equals(Diff(log_probability(), hidden[c]), sum_over(slope() * weight[v, c], v) / temperature),
        name="hidden",
        by=finite_sum(),
    ),
    holds(
        equals(Diff(log_probability(), weight[k, c]), slope(k) * hidden[c] / temperature),
        name="weight",
        by=finite_sum(),
    ),
    holds(equals(Diff(log_probability(), bias[k]), slope(k) / temperature), name="bias", by=finite_sum()),
    holds(
        equals(Diff(log_probability(), temperature), -(log_probability() + head_entropy()) / temperature),
        name="temperature",
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the temperature does not reach the hidden state",
            equals(Diff(log_probability(), hidden[c]), sum_over(slope() * weight[v, c], v)),
        ),
        wrong(
            "the row of the target alone",
            equals(Diff(log_probability(), hidden[c]), (1 - probability()) * weight[a, c] / temperature),
        ),
        wrong(
            "weights of the target alone are moved",
            equals(Diff(log_probability(), weight[k, c]), delta(a, k) * (1 - probability()) * hidden[c] / temperature),
        ),
        wrong(
            "the temperature moves the logit of the target alone",
            equals(Diff(log_probability(), temperature), -logit(a) / temperature),
        ),
    ],
)

claim(
    "head.entropy.gradient",
    "What raises the entropy: the same products, of the slopes of the entropy.",
    holds(
        equals(Diff(head_entropy(), hidden[c]), sum_over(entropy_slope() * weight[v, c], v) / temperature),
        name="hidden",
        by=finite_sum(),
    ),
    holds(
        equals(Diff(head_entropy(), weight[k, c]), entropy_slope(k) * hidden[c] / temperature),
        name="weight",
        by=finite_sum(),
    ),
    holds(equals(Diff(head_entropy(), bias[k]), entropy_slope(k) / temperature), name="bias", by=finite_sum()),
    holds(
        equals(
            Diff(head_entropy(), temperature),
            sum_over(probability(v) * (log_probability(v) + head_entropy()) ** 2, v) / temperature,
        ),
        name="temperature",
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "without the entropy in the slope",
            equals(Diff(head_entropy(), bias[k]), -probability(k) * log_probability(k) / temperature),
        ),
        wrong(
            "the temperature does not reach the weights",
            equals(Diff(head_entropy(), weight[k, c]), entropy_slope(k) * hidden[c]),
        ),
    ],
)

# The sums over the vocabulary. What is subtracted from the logits, their shift, keeps them within the range.

m = symbol("m", Real, "the shift of the logits, near the largest")

exp_sum = define(
    "head.exp_sum",
    "Sum of the exponentials of the shifted logits.",
    (logits, m),
    sum_over(exp(logits[v] - m), v),
    tex="E",
    domain=Positive,
)

spread = define(
    "head.spread",
    "The same sum, each term times its shifted logit.",
    (logits, m),
    sum_over(exp(logits[v] - m) * (logits[v] - m), v),
    tex="D",
)

claim(
    "head.sums",
    "Two sums over the vocabulary give log-probability and entropy, the same whatever the shift.",
    holds(equals(log(softmax(a)), logits[a] - m - log(exp_sum())), name="log-probability", by=finite_sum()),
    holds(equals(plain_entropy, log(exp_sum()) - spread() / exp_sum()), name="entropy", by=finite_sum()),
    wrong=[
        wrong("the shift is not put back", equals(log(softmax(a)), logits[a] - log(exp_sum()))),
        wrong("the shift is put back twice", equals(plain_entropy, m + log(exp_sum()) - spread() / exp_sum())),
    ],
)

others = sum_over((1 - delta(a, v)) * exp(logits[v] - m), v)

claim(
    "head.log_odds",
    "A log-probability by the odds against its token, in which nothing cancels where the token is all but certain.",
    holds(equals(log(softmax(a)), -log(1 + others / exp(logits[a] - m))), by=finite_sum()),
    wrong=[
        wrong(
            "the target counted among the others",
            equals(log(softmax(a)), -log(1 + exp_sum() / exp(logits[a] - m))),
        ),
    ],
)

# Parts of the vocabulary: tiles of columns, one after the other, or shards of the weights, each with its own process.

shards = symbol("shards", Size, "number of parts of the vocabulary", tex="S")
shard = index("shard", shards, "a part of the vocabulary", tex="s")
in_shard = family("in_shard", OneHot, V, shards, text="1 where the token belongs to the part", tex="p")
shard_shift = family("shard_shift", Real, shards, text="the shift of each part, near its largest logit", tex="m")

far = logits[v] - shard_shift[shard]
rescale = exp(shard_shift[shard] - m)

shard_sum = define(
    "head.shard_sum",
    "Sum of the exponentials over a part, with the shift of that part.",
    (shard, logits, in_shard, shard_shift),
    sum_over(in_shard[v, shard] * exp(far), v),
    tex="E_{{{shard}}}",
)

shard_spread = define(
    "head.shard_spread",
    "The same, each term times its shifted logit.",
    (shard, logits, in_shard, shard_shift),
    sum_over(in_shard[v, shard] * exp(far) * far, v),
    tex="D_{{{shard}}}",
)

claim(
    "head.parts",
    "However the vocabulary is split, and whatever the shift of each part, the sums of the parts join to those of the "
    "whole once they are brought to one shift.",
    holds(equals(exp_sum(), sum_over(rescale * shard_sum(), shard)), name="sum", by=finite_sum()),
    holds(
        equals(spread(), sum_over(rescale * (shard_spread() + (shard_shift[shard] - m) * shard_sum()), shard)),
        name="spread",
        by=finite_sum(),
    ),
    source=MILAKOV,
    wrong=[
        wrong("not brought to one shift", equals(exp_sum(), sum_over(shard_sum(), shard))),
        wrong("rescaled the wrong way", equals(exp_sum(), sum_over(shard_sum() / rescale, shard))),
        wrong("the distances keep their own shifts", equals(spread(), sum_over(rescale * shard_spread(), shard))),
    ],
)

by_hidden = token_slope[v] * weight[v, c]

claim(
    "head.parts.gradient",
    "What each part of the vocabulary gives to the gradient of the hidden state adds up to it, whatever the slopes.",
    holds(
        equals(sum_over(by_hidden, v), sum_over(sum_over(in_shard[v, shard] * by_hidden, v), shard)), by=finite_sum()
    ),
    wrong=[
        wrong(
            "the mean of the parts, as the gradients of copies are averaged",
            equals(sum_over(by_hidden, v), sum_over(sum_over(in_shard[v, shard] * by_hidden, v), shard) / shards),
        ),
    ],
)

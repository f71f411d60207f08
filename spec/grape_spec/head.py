"""The linear head: from a hidden state to the policy, without all logits in memory at once.

Logits are z = (W·h + b)/τ. Log-probability and entropy depend on two sums over the vocabulary, which combine from the
sums over its parts; their gradients on one slope for each token, which is known as soon as the sums are.
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
    "Logit of a token, divided by the temperature.",
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
    "The policy of a head at a temperature is the tempered policy of its logits.",
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

# Gradients: one slope for each token; everything else is a product with it.

token_slope = family("token_slope", Real, V, text="slope of a loss in the logit of each token", tex="g")
by_logits = sum_over(token_slope[v] * logit(), v)

claim(
    "head.logit.gradient",
    "The gradient of a loss with respect to the hidden state, the weights and the bias, from its slopes in the logits.",
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
            "the bias is multiplied by the hidden state, too",
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
    "Slope of the log-probability of the chosen token in the logit of a token.",
    (v, a, hidden, weight, bias, temperature),
    delta(a, v) - probability(v),
    tex=r"s_{{{v}}}({a})",
)

entropy_slope = define(
    "head.entropy_slope",
    "Slope of the entropy in the logit of a token.",
    (v, hidden, weight, bias, temperature),
    -probability(v) * (log_probability(v) + head_entropy()),
    tex=r"s^H_{{{v}}}",
)

claim(
    "head.gradient",
    "The gradient of the log-probability with respect to the hidden state, the weights and the bias: one slope for "
    "each token of the vocabulary, times the derivative of its logit.",
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
            "only the weights of the target have a gradient",
            equals(Diff(log_probability(), weight[k, c]), delta(a, k) * (1 - probability()) * hidden[c] / temperature),
        ),
        wrong(
            "the temperature affects the logit of the target alone",
            equals(Diff(log_probability(), temperature), -logit(a) / temperature),
        ),
    ],
)

claim(
    "head.entropy.gradient",
    "The gradient of the entropy with respect to the hidden state, the weights and the bias: one slope of the entropy "
    "for each token of the vocabulary, times the derivative of its logit.",
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

# The sums over the vocabulary. A shift is subtracted from the logits to keep their exponentials in range.

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
    "Sum of the exponentials of the shifted logits, each multiplied by its shifted logit.",
    (logits, m),
    sum_over(exp(logits[v] - m) * (logits[v] - m), v),
    tex="D",
)

claim(
    "head.sums",
    "Two sums over the vocabulary give the log-probability and the entropy, whatever the shift.",
    holds(equals(log(softmax(a)), logits[a] - m - log(exp_sum())), name="log-probability", by=finite_sum()),
    holds(equals(plain_entropy, log(exp_sum()) - spread() / exp_sum()), name="entropy", by=finite_sum()),
    wrong=[
        wrong("the shift is not added back", equals(log(softmax(a)), logits[a] - log(exp_sum()))),
        wrong("the shift is added back twice", equals(plain_entropy, m + log(exp_sum()) - spread() / exp_sum())),
    ],
)

others = sum_over((1 - delta(a, v)) * exp(logits[v] - m), v)

claim(
    "head.log_odds",
    "The log-probability follows from the odds against the token, and nothing cancels when the token is almost "
    "certain.",
    holds(equals(log(softmax(a)), -log(1 + others / exp(logits[a] - m))), by=finite_sum()),
    wrong=[
        wrong(
            "the target included among the others",
            equals(log(softmax(a)), -log(1 + exp_sum() / exp(logits[a] - m))),
        ),
    ],
)

# Parts of the vocabulary: tiles of columns, one after the other, or shards of the weights, each with its own process.

shards = symbol("shards", Size, "number of parts of the vocabulary", tex="J")
shard = index("shard", shards, "a part of the vocabulary", tex="j")
in_shard = family("in_shard", OneHot, V, shards, text="1 where the token belongs to the part", tex="p")
shard_shift = family("shard_shift", Real, shards, text="the shift of each part, near its largest logit", tex="m")

far = logits[v] - shard_shift[shard]
rescale = exp(shard_shift[shard] - m)

shard_sum = define(
    "head.shard_sum",
    "Sum of the exponentials of the shifted logits over a part of the vocabulary, with the shift of that part.",
    (shard, logits, in_shard, shard_shift),
    sum_over(in_shard[v, shard] * exp(far), v),
    tex="E_{{{shard}}}",
)

shard_spread = define(
    "head.shard_spread",
    "Sum of the exponentials of the shifted logits over a part of the vocabulary, each multiplied by its shifted "
    "logit, with the shift of that part.",
    (shard, logits, in_shard, shard_shift),
    sum_over(in_shard[v, shard] * exp(far) * far, v),
    tex="D_{{{shard}}}",
)

claim(
    "head.parts",
    "However the vocabulary is split, and whatever the shift of each part, the sums of the parts combine into those "
    "of the whole once rescaled to a common shift.",
    holds(equals(exp_sum(), sum_over(rescale * shard_sum(), shard)), name="sum", by=finite_sum()),
    holds(
        equals(spread(), sum_over(rescale * (shard_spread() + (shard_shift[shard] - m) * shard_sum()), shard)),
        name="spread",
        by=finite_sum(),
    ),
    source=MILAKOV,
    wrong=[
        wrong("not rescaled to a common shift", equals(exp_sum(), sum_over(shard_sum(), shard))),
        wrong("rescaled the wrong way", equals(exp_sum(), sum_over(shard_sum() / rescale, shard))),
        wrong(
            "the shifted logits keep the shifts of their parts",
            equals(spread(), sum_over(rescale * shard_spread(), shard)),
        ),
    ],
)

by_hidden = token_slope[v] * weight[v, c]

claim(
    "head.parts.gradient",
    "The contributions of the parts of the vocabulary to the gradient of the hidden state add up to it, whatever the "
    "slopes.",
    holds(
        equals(sum_over(by_hidden, v), sum_over(sum_over(in_shard[v, shard] * by_hidden, v), shard)), by=finite_sum()
    ),
    wrong=[
        wrong(
            "the mean over the parts, as in averaging the gradients of replicas",
            equals(sum_over(by_hidden, v), sum_over(sum_over(in_shard[v, shard] * by_hidden, v), shard) / shards),
        ),
    ],
)

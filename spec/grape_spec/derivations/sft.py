"""Derivations: supervised fine-tuning and rejection sampling."""

from sympy import exp, log

from grape_spec.aggregation import denominator, mask, position, row
from grape_spec.best_of_n import LAW, all_of, below, none_better, samples, up_to_it
from grape_spec.derivations.policy import ONE_TERM, SCORE
from grape_spec.dpo import beta, optimal_policy, partition, ref, reward, w
from grape_spec.kl import divergence, p, q, y
from grape_spec.language import Diff, delta, derive, line, sum_over
from grape_spec.policy import k, logits, softmax, v
from grape_spec.proof.rules import rewrite
from grape_spec.rejection import kept, kept_share, max_reward
from grape_spec.rejection import weight as sequence_weight
from grape_spec.sft import (
    cross_entropy,
    data,
    excess,
    target,
    varied,
    varied_logits,
)

own_target = target[row, position, v]
own_counts = mask[row, position]
own_logp = sum_over(own_target * log(softmax(v, varied_logits)), v)
slope_of_token = sum_over(own_target * (delta(v, k) - softmax(k, varied_logits)), v)

derive(
    "sft.gradient",
    line(-own_counts * Diff(own_logp, varied) / denominator, "only the loss of its own token depends on a logit"),
    line(-own_counts * slope_of_token / denominator, SCORE),
    line(
        -own_counts * (target[row, position, k] - softmax(k, varied_logits) * sum_over(own_target, v)) / denominator,
        ONE_TERM,
    ),
    line(own_counts * excess / denominator, "there is one target token; change the sign"),
)

derive(
    "sft.kl_equivalence",
    line(-sum_over(p[y] * log(q[y]), y), "the loss of a token is minus its log-probability"),
    line(-sum_over(p[y] * log(p[y]), y) + sum_over(p[y] * (log(p[y]) - log(q[y])), y), "add and subtract log p"),
    line(cross_entropy(p, p) + divergence(), "the entropy of the data, and the divergence"),
    part="value",
)

for name in ("gradient of the loss", "gradient of the divergence"):
    derive(
        "sft.kl_equivalence",
        line(-sum_over(data[v] * Diff(log(softmax(v)), logits[k]), v), "only log π depends on the logits"),
        line(-sum_over(data[v] * (delta(v, k) - softmax(k)), v), SCORE),
        line(softmax(k) * sum_over(data[v], v) - data[k], ONE_TERM),
        line(softmax(k) - data[k], "the distribution of the data sums to one"),
        part=name,
    )

# Rejection sampling.

derive(
    "rejection.acceptance.target",
    line(
        ref[w] * exp((reward[w] - max_reward) / beta) / sum_over(ref[y] * exp((reward[y] - max_reward) / beta), y),
        "write out the probability of acceptance",
    ),
    line(
        ref[w] * exp(reward[w] / beta) / sum_over(ref[y] * exp(reward[y] / beta), y),
        "every term has the factor exp(−r_max/β): cancel it",
    ),
    line(optimal_policy(w), "the sum is the partition function"),
    part="what is accepted",
)

derive(
    "rejection.acceptance.rate",
    line(sum_over(ref[y] * exp((reward[y] - max_reward) / beta), y), "write out the probability of acceptance"),
    line(
        sum_over(ref[y] * exp(reward[y] / beta), y) * exp(-max_reward / beta), "take the constant factor out of the sum"
    ),
    line(partition() * exp(-max_reward / beta), "the sum is the partition function"),
)

derive(
    "rejection.filter.gradient",
    line(Diff(kept_share(), logits[k]) / kept_share(), "the chain rule for the logarithm"),
    line(sum_over(Diff(softmax(v), logits[k]) * kept[v], v) / kept_share(), "the weights are constants"),
    line(
        sum_over(softmax(v) * Diff(log(softmax(v)), logits[k]) * kept[v], v) / kept_share(),
        "π times the derivative of log π is the derivative of π",
    ),
    line(
        sum_over(softmax(v) * kept[v] / kept_share() * Diff(log(softmax(v)), logits[k]), v),
        "move the divisor into the sum: these are the probabilities of the kept samples",
    ),
)

derive(
    "rejection.loss.gradient",
    line(
        -sequence_weight[row] * own_counts * Diff(own_logp, varied) / denominator,
        "only the loss of its own token depends on a logit",
    ),
    line(-sequence_weight[row] * own_counts * slope_of_token / denominator, SCORE),
    line(
        sequence_weight[row] * own_counts * excess / denominator,
        "the delta selects one term, and there is one target token; change the sign",
    ),
)

# Best of n.

derive(
    LAW,
    line(all_of(samples, up_to_it) * none_better, "take (G + f)ᴺ out of every term: powers of G/(G + f) remain"),
    line(
        all_of(samples, up_to_it) * (1 - all_of(samples, below / up_to_it)),
        "a geometric sum, since f/(G + f) = 1 − G/(G + f)",
        by=rewrite(LAW, part="if none is better"),
    ),
    line(all_of(samples, up_to_it) - all_of(samples, below), "multiply out"),
    part="any number of samples",
)

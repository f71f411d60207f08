"""Derivations: the policy and its score."""

from sympy import Integer, exp, log

from grape_spec.language import Diff, delta, derive, derive_by_induction, line, sum_over
from grape_spec.policy import (
    a,
    after,
    arrived,
    end,
    entropy,
    fisher,
    j,
    k,
    l,
    left,
    log_softmax,
    logits,
    next_token,
    scaled,
    sequence_mass,
    shift,
    softmax,
    t,
    temperature,
    tempered,
    theta,
    token_probability,
    v,
)
from grape_spec.proof.rules import rewrite

#: Reasons that come again and again.
SCORE = "the score is the one-hot vector minus the probabilities"
JACOBIAN = "the Jacobian of the softmax"
ONE_TERM = "the delta selects one term; take what does not depend on the token out of the sum"
SUM_TO_ONE = "the probabilities sum to one"
KNOWN = "the statement at the previous depth"

total = sum_over(exp(logits[v]), v)
tempered_total = sum_over(exp(logits[v] / temperature), v)
own, other = delta(a, k) - softmax(k), delta(a, l) - softmax(l)

derive(
    "policy.softmax.shift",
    line(exp(logits[a] + shift) / sum_over(exp(logits[v] + shift), v), "write out the softmax"),
    line(exp(logits[a]) / total, "every exponential has the factor exp(c): cancel it"),
    line(softmax(a), "this is the softmax"),
)

derive(
    "policy.softmax.jacobian",
    line(
        Diff(exp(logits[a]), logits[k]) / total - exp(logits[a]) * Diff(total, logits[k]) / total**2,
        "the quotient rule",
    ),
    line(
        delta(a, k) * exp(logits[a]) / total - exp(logits[a]) * exp(logits[k]) / total**2,
        "differentiate: of the sum, only the exponential of token k depends on its logit",
    ),
    line(delta(a, k) * softmax(a) - softmax(a) * softmax(k), "each quotient is a probability"),
    line(softmax(a) * (delta(a, k) - softmax(k)), "take out the common factor"),
)

derive(
    "policy.log_softmax.gradient",
    line(Diff(logits[a] - log(total), logits[k]), "the logarithm of a quotient"),
    line(delta(a, k) - Diff(total, logits[k]) / total, "differentiate each term; the chain rule for the logarithm"),
    line(delta(a, k) - exp(logits[k]) / total, "only the exponential of token k depends on its logit"),
    line(delta(a, k) - softmax(k), "the quotient is a probability"),
)

derive(
    "policy.log_softmax.hessian",
    line(Diff(own, logits[l]), "the score is known", by=rewrite("policy.log_softmax.gradient")),
    line(-Diff(softmax(k), logits[l]), "the chosen token occurs only in a constant"),
    line(-softmax(k) * (delta(k, l) - softmax(l)), JACOBIAN),
)

derive(
    "policy.temperature.gradient",
    line(Diff(logits[a] / temperature - log(tempered_total), logits[k]), "the logarithm of a quotient"),
    line(
        delta(a, k) / temperature - Diff(tempered_total, logits[k]) / tempered_total,
        "differentiate each term; the chain rule for the logarithm",
    ),
    line(
        delta(a, k) / temperature - exp(logits[k] / temperature) / temperature / tempered_total,
        "the derivative of z/τ is 1/τ",
    ),
    line((delta(a, k) - softmax(k, scaled)) / temperature, "the quotient is a probability; take out 1/τ"),
)

derive(
    "policy.score.mean_zero",
    line(sum_over(Diff(softmax(a), logits[k]), a), "the derivative of log π is that of π, divided by π"),
    line(Diff(sum_over(softmax(a), a), logits[k]), "the derivative of a finite sum"),
    line(Diff(Integer(1), logits[k]), SUM_TO_ONE),
    line(0, "the derivative of a constant"),
)

derive(
    "policy.fisher",
    line(sum_over(softmax(a) * own * other, a), SCORE),
    line(
        sum_over(softmax(a) * delta(a, k) * delta(a, l), a)
        - softmax(l) * sum_over(softmax(a) * delta(a, k), a)
        - softmax(k) * sum_over(softmax(a) * delta(a, l), a)
        + softmax(k) * softmax(l),
        "multiply out; take what does not depend on the token out of the sum; the last sum is one",
    ),
    line(softmax(k) * delta(k, l) - softmax(k) * softmax(l), "each delta selects one term"),
    line(fisher, "take out the probability of token k"),
    part="second moment",
)

derive(
    "policy.fisher",
    line(
        -sum_over(softmax(a) * -fisher, a),
        "the second derivative of log π is known",
        by=rewrite("policy.log_softmax.hessian"),
    ),
    line(fisher * sum_over(softmax(a), a), "it does not depend on the token"),
    line(fisher, SUM_TO_ONE),
    part="expected curvature",
)

plain_log, tempered_log = log(softmax(v)), log_softmax(v)

derive(
    "policy.entropy.gradient",
    line(-sum_over(Diff(softmax(v), logits[k]) * (plain_log + 1), v), "the product rule: (π log π)' = π' (log π + 1)"),
    line(-sum_over(softmax(v) * (delta(v, k) - softmax(k)) * (plain_log + 1), v), JACOBIAN),
    line(
        -softmax(k) * (log(softmax(k)) + 1) + softmax(k) * sum_over(softmax(v) * (plain_log + 1), v),
        ONE_TERM,
    ),
    line(
        -softmax(k) * (log(softmax(k)) - sum_over(softmax(v) * plain_log, v)),
        "the probabilities sum to one: the two ones cancel",
    ),
    part="plain",
)

tempered_jacobian = softmax(v, scaled) * (delta(v, k) - softmax(k, scaled)) / temperature

derive(
    "policy.entropy.gradient",
    line(
        -sum_over(Diff(softmax(v, scaled), logits[k]) * (tempered_log + 1), v),
        "the product rule: (π log π)' = π' (log π + 1)",
    ),
    line(-sum_over(tempered_jacobian * (tempered_log + 1), v), "the Jacobian of the softmax at temperature τ"),
    line(
        -softmax(k, scaled) * (log_softmax(k) + 1 - sum_over(softmax(v, scaled) * (tempered_log + 1), v)) / temperature,
        ONE_TERM,
    ),
    line(
        -softmax(k, scaled) * (log(softmax(k, scaled)) + entropy()) / temperature,
        "the probabilities sum to one: the two ones cancel, and the sum is minus the entropy",
    ),
    part="temperature",
)

mean_logit = sum_over(softmax(v, scaled) * logits[v], v)

derive(
    "policy.temperature.slope",
    line(Diff(logits[a] / temperature - log(tempered_total), temperature), "the logarithm of a quotient"),
    line(
        -logits[a] / temperature**2
        + sum_over(exp(logits[v] / temperature) * logits[v] / temperature**2, v) / tempered_total,
        "the derivative of z/τ in τ is −z/τ²; the chain rule for the logarithm",
    ),
    line((mean_logit - logits[a]) / temperature**2, "the quotient is the mean logit"),
    line(
        (sum_over(softmax(v, scaled) * log_softmax(v), v) - tempered) / temperature,
        "z/τ is the log-probability plus a constant, which cancels from the difference",
    ),
    line(-(tempered + entropy()) / temperature, "the mean log-probability is minus the entropy"),
    part="log-probability",
)

derive(
    "policy.sequence.log_prob",
    line(
        Diff(sum_over(log(token_probability(t, theta)), t), theta),
        "the logarithm of a product",
        by=rewrite("policy.sequence.log_prob", part="sum"),
    ),
    line(sum_over(Diff(log(token_probability(t, theta)), theta), t), "the derivative of a finite sum"),
    part="score",
)

# Whole sequences, by induction over the number of tokens that may still follow.

ends, goes_on = delta(v, end), 1 - delta(v, end)
with_token = arrived * next_token[j, v]
NONE_LEFT = "no token is left"
ONE_MORE = "one token: it ends the sequence, or leads to the next prefix"

derive_by_induction(
    "policy.sequence.normalised",
    left,
    first=[line(arrived, "no token is left: the sequence is cut off here")],
    then=[
        line(sum_over(ends * with_token + goes_on * sequence_mass(j=after[j, v], arrived=with_token), v), ONE_MORE),
        line(sum_over(ends * with_token + goes_on * with_token, v), KNOWN),
        line(arrived * sum_over(next_token[j, v], v), "it ends or goes on; take out the probability so far"),
        line(arrived, SUM_TO_ONE),
    ],
    part="from any prefix",
)

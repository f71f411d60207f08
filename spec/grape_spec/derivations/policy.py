"""Derivations: the policy."""

from sympy import exp

from grape_spec.language import Diff, delta, derive, line, sum_over
from grape_spec.policy import a, k, logits, shift, softmax, v

total = sum_over(exp(logits[v]), v)

derive(
    "policy.softmax.shift",
    line(exp(logits[a] + shift) / sum_over(exp(logits[v] + shift), v), "write out the softmax"),
    line(exp(logits[a]) / total, "every exponential has the factor exp(c): cancel it"),
    line(softmax(a), "which is the softmax"),
)

derive(
    "policy.softmax.jacobian",
    line(
        Diff(exp(logits[a]), logits[k]) / total - exp(logits[a]) * Diff(total, logits[k]) / total**2,
        "the quotient rule",
    ),
    line(
        delta(a, k) * exp(logits[a]) / total - exp(logits[a]) * exp(logits[k]) / total**2,
        "differentiate the exponentials",
    ),
    line(softmax(a) * delta(a, k) - softmax(a) * softmax(k), "each quotient is a probability"),
    line(softmax(a) * (delta(a, k) - softmax(k)), "take out the common factor"),
)

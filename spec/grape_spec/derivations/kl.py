"""Derivations: the Kullback-Leibler divergence and what its estimates do."""

from sympy import Integer, exp, log

from grape_spec.derivations.policy import JACOBIAN, KNOWN, ONE_MORE, ONE_TERM, SCORE, SUM_TO_ONE, ends, goes_on
from grape_spec.kl import (
    after,
    carried,
    excess,
    expected,
    forward,
    forward_gradient,
    joint,
    left,
    logp,
    next_token,
    one,
    p,
    prefix_divergence,
    prefix_probability,
    q,
    ratio,
    ref_logp,
    ref_next_token,
    ref_prefix_probability,
    reference,
    reverse,
    reverse_gradient,
    sequence_divergence,
    token_divergence,
    token_divergences,
    y,
)
from grape_spec.language import Diff, delta, derive, derive_by_induction, line, sum_over
from grape_spec.policy import a, j, k, logits, score, softmax, v
from grape_spec.proof.rules import fact, smt, termwise

# The divergence itself.

derive(
    "kl.nonnegative",
    line(sum_over(-p[y] * log(q[y] / p[y]), y), "invert the quotient: the logarithm changes sign"),
    line(
        sum_over(-p[y] * (q[y] / p[y] - 1), y),
        "the logarithm lies below its tangent: log x ≤ x − 1",
        sign="≥",
        by=termwise(p[y] - q[y], given=[fact("kl.log_bound", part="bound", x=q[y] / p[y])]),
    ),
    line(sum_over(p[y], y) - sum_over(q[y], y), "multiply out"),
    line(0, "both sum to one"),
    part="bound",
)

derive(
    "kl.nonnegative",
    line(
        sum_over(p[y] * log(p[y] / q[y]) - (p[y] - q[y]), y),
        "p − q sums to zero",
    ),
    line(sum_over(delta(y, one) * excess(y) + (1 - delta(y, one)) * excess(y), y), "one outcome and the others"),
    line(excess(one) + sum_over((1 - delta(y, one)) * excess(y), y), "the delta selects one term"),
    part="one outcome and the others",
)

log_ratio = log(softmax(v) / reference[v])

derive(
    "kl.reverse.gradient",
    line(
        sum_over(Diff(softmax(v), logits[k]) * (log_ratio + 1), v),
        "the product rule: (π log(π/π_ref))' = π' (log(π/π_ref) + 1)",
    ),
    line(sum_over(softmax(v) * (delta(v, k) - softmax(k)) * (log_ratio + 1), v), JACOBIAN),
    line(
        softmax(k) * (log(softmax(k) / reference[k]) + 1) - softmax(k) * sum_over(softmax(v) * (log_ratio + 1), v),
        ONE_TERM,
    ),
    line(reverse_gradient, "the probabilities sum to one: the two ones cancel, and the sum is the divergence"),
)

derive(
    "kl.forward.gradient",
    line(
        -sum_over(reference[v] * Diff(log(softmax(v)), logits[k]), v),
        "of log(π_ref/π), only log π depends on the logits",
    ),
    line(
        -sum_over(reference[v] * (delta(v, k) - softmax(k)), v),
        SCORE,
    ),
    line(
        -reference[k] + softmax(k) * sum_over(reference[v], v),
        ONE_TERM,
    ),
    line(forward_gradient, "the reference sums to one"),
)

token_log_ratio = log(next_token[j, v] / ref_next_token[j, v])
prefix_log_ratio = log(prefix_probability[j] / ref_prefix_probability[j])

derive(
    "kl.chain_rule",
    line(sum_over(joint * (prefix_log_ratio + token_log_ratio), j, v), "the logarithm of a product"),
    line(
        sum_over(prefix_probability[j] * prefix_log_ratio * sum_over(next_token[j, v], v), j)
        + sum_over(prefix_probability[j] * token_divergence, j),
        "take what does not depend on the token out of the inner sum",
    ),
    line(
        prefix_divergence + sum_over(prefix_probability[j] * token_divergence, j),
        "the probabilities of the next token sum to one",
    ),
    part="one token more",
)

# The estimates.

ratio_of_references = reference[a] / softmax(a)

derive(
    "kl.estimate.gradient",
    line(Diff(exp(ref_logp - logp), logp) - Diff(ref_logp - logp, logp), "differentiate term by term"),
    line(-exp(ref_logp - logp) - Integer(-1), "the chain rule: the exponent has slope −1")
    if False
    else line(1 - exp(ref_logp - logp), "the exponent has slope −1"),
    part="k3",
)

derive(
    "kl.k1.unbiased",
    line(sum_over(softmax(a) * log(softmax(a) / reference[a]), a), "the logarithm of a quotient"),
    line(reverse(), "this is the divergence, with another name for the token"),
)

derive(
    "kl.k3.unbiased",
    line(
        sum_over(softmax(a) * (ratio_of_references - 1 - log(ratio_of_references)), a),
        "write out k₃ at the log-probabilities",
    ),
    line(
        sum_over(reference[a], a) - sum_over(softmax(a), a) + sum_over(softmax(a) * log(softmax(a) / reference[a]), a),
        "multiply out: π times π_ref/π is π_ref",
    ),
    line(sum_over(softmax(a) * log(softmax(a) / reference[a]), a), "both sum to one, and cancel"),
    line(reverse(), "this is the divergence"),
)

derive(
    "kl.k3.nonnegative",
    line(ratio - 1 - log(ratio), "with r = exp(ℓ_ref − ℓ), the exponent is log r"),
    line(
        0,
        "the logarithm lies below its tangent: log r ≤ r − 1",
        sign="≥",
        by=smt(given=[fact("kl.log_bound", part="bound", x=ratio)]),
    ),
    part="bound",
)

derive(
    "kl.k1.loss_gradient",
    line(sum_over(softmax(a) * Diff(log(softmax(a)), logits[k]), a), "the reference does not depend on the logits"),
    line(sum_over(softmax(a) * (delta(a, k) - softmax(k)), a), SCORE),
    line(softmax(k) - softmax(k) * sum_over(softmax(a), a), "the delta selects one term"),
    line(0, SUM_TO_ONE),
)

derive(
    "kl.k2.loss_gradient",
    line(
        expected(log(softmax(a) / reference[a]) * score),
        "the chain rule: (x²/2)' = x x', and only log π depends on the logits",
    ),
    line(
        expected(log(softmax(a) / reference[a]) * (delta(a, k) - softmax(k))),
        SCORE,
    ),
    line(reverse_gradient, "the delta selects one term; the mean log-ratio is the divergence"),
    line(Diff(reverse(), logits[k]), "the gradient of the reverse KL"),
)

derive(
    "kl.k3.loss_gradient",
    line(
        expected((1 - ratio_of_references) * score),
        "the chain rule for eˣ − 1 − x with x = log(π_ref/π), whose slope is minus the score",
    ),
    line(expected(score) - sum_over(reference[a] * score, a), "multiply out: π times π_ref/π is π_ref"),
    line(-sum_over(reference[a] * (delta(a, k) - softmax(k)), a), "the mean score is zero; write out the other"),
    line(softmax(k) - reference[k], "the delta selects one term; the reference sums to one"),
    line(Diff(forward(), logits[k]), "the gradient of the forward KL"),
)

derive(
    "kl.k1.reward_gradient",
    line(
        sum_over(softmax(a) * log(softmax(a) / reference[a]) * (delta(a, k) - softmax(k)), a),
        SCORE,
    ),
    line(reverse_gradient, "the delta selects one term; the mean log-ratio is the divergence"),
    line(Diff(reverse(), logits[k]), "the gradient of the reverse KL"),
)

log_ratio_score = expected(log(softmax(a) / reference[a]) * score)

derive(
    "kl.k3.reward_gradient",
    line(
        sum_over(reference[a] * score, a) - expected(score) + log_ratio_score,
        "multiply out: π times π_ref/π is π_ref",
    ),
    line(reference[k] - softmax(k) + log_ratio_score, "the mean score is zero; the reference sums to one"),
    line(reference[k] - softmax(k) + reverse_gradient, "the last is the gradient of k₁ as a weight on the score"),
    line(Diff(reverse(), logits[k]) - Diff(forward(), logits[k]), "the gradients of the two divergences"),
)

# Whole sequences, by induction over the number of tokens that may still follow.

own_term, next_prefix = carried + token_log_ratio, after[j, v]

derive_by_induction(
    "kl.chain_rule",
    left,
    first=[
        line(carried, "no token is left: the log-ratio so far remains"),
        line(carried + token_divergences(left=0), "there is no divergence to add"),
    ],
    then=[
        line(
            sum_over(
                next_token[j, v] * (ends * own_term + goes_on * sequence_divergence(j=next_prefix, carried=own_term)),
                v,
            ),
            ONE_MORE,
        ),
        line(sum_over(next_token[j, v] * (own_term + goes_on * token_divergences(j=next_prefix)), v), KNOWN),
        line(
            carried + token_divergence + sum_over(next_token[j, v] * goes_on * token_divergences(j=next_prefix), v),
            "multiply out; the probabilities sum to one",
        ),
        line(carried + token_divergences(left + 1), "the divergence of this token, and of those that follow"),
    ],
    part="from any prefix",
)

"""The entropy of a policy: how a step changes it, what its sampled form does, and what it says of the gradient.

G. Cui et al., The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv:2505.22617, relate
the change to a covariance; their text was not compared.
"""

from sympy import Expr, Integer, Lambda, exp, log

from grape_spec.kl import expected
from grape_spec.language import (
    At,
    Diff,
    Real,
    Source,
    at_least,
    at_most,
    claim,
    define,
    equals,
    family,
    holds,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import V, a, k, l, logits, plain_entropy, score, softmax, v
from grape_spec.proof.rules import fact, finite_sum, smt, termwise
from grape_spec.reinforce import objective, squared_score, token_reward

CUI = Source("cui2025entropy")

direction = family("logit_step", Real, V, text="how far a step moves each logit", tex="u")
distance = symbol("step_length", Real, "length of the step", tex="s")


def along(step: Expr) -> Expr:
    """The slope of the entropy where the logits start to move, each by its own amount."""
    moved = Lambda(v, logits[v] + distance * step.subs(k, v))
    probability = softmax(v, moved)
    return At(Diff(-sum_over(probability * log(probability), v), distance), distance, Integer(0))


covariance = define(
    "policy.covariance",
    "Covariance, under the policy, of the log-probability of a token and a number for each token.",
    (logits, direction),
    sum_over(softmax(v) * log(softmax(v)) * direction[v], v)
    - sum_over(softmax(v) * log(softmax(v)), v) * sum_over(softmax(v) * direction[v], v),
    tex=r"\mathrm{{Cov}}_{{\pi}}(\log \pi, {logit_step})",
)

of_reward = covariance(logit_step=token_reward)

claim(
    "policy.entropy.covariance",
    "A small step of the logits changes the entropy by minus the covariance of log-probability and step. A natural "
    "gradient step moves each logit by its advantage: the entropy falls if and only if probable tokens have the larger "
    "advantages.",
    holds(equals(along(direction[k]), -covariance()), name="any direction", by=finite_sum()),
    holds(
        equals(along(token_reward[k] - objective()), -of_reward),
        name="natural gradient",
        by=finite_sum(),
    ),
    source=CUI,
    wrong=[
        wrong("the sign flipped", equals(along(direction[k]), covariance())),
        wrong(
            "the mean of the product, without that of each",
            equals(along(direction[k]), -sum_over(softmax(v) * log(softmax(v)) * direction[v], v)),
        ),
    ],
)

surprisal = -log(softmax(a))

claim(
    "policy.entropy.sampled",
    "The surprisal of the sampled token has the entropy as its mean. In a loss its gradient has expectation zero; as a "
    "reward, held constant, it gives the gradient of the entropy.",
    holds(equals(expected(surprisal), plain_entropy), name="mean", by=finite_sum()),
    holds(equals(expected(Diff(surprisal, logits[k])), 0), name="in a loss", by=finite_sum()),
    holds(equals(expected(surprisal * score), Diff(plain_entropy, logits[k])), name="as a reward", by=finite_sum()),
    uses=["policy.score.mean_zero", "policy.entropy.gradient"],
    wrong=[
        wrong(
            "in a loss it has the gradient of the entropy",
            equals(expected(Diff(surprisal, logits[k])), Diff(plain_entropy, logits[k])),
        ),
        wrong("as a reward it has no effect", equals(expected(surprisal * score), 0)),
        wrong(
            "the sign flipped",
            equals(expected(log(softmax(a)) * score), Diff(plain_entropy, logits[k])),
        ),
    ],
)

collision = sum_over(softmax(v) ** 2, v)
written_out = exp(logits[v]) / sum_over(exp(logits[l]), l)
NORM = "policy.score.norm"

claim(
    NORM,
    "The squared norm of the score is 1 − 2π + Σπ², and its mean 1 − Σπ²: at most the entropy. Where the policy is "
    "sure of its next token, no reward moves its logits much.",
    holds(equals(squared_score(a), 1 - 2 * softmax(a) + collision), name="of a token", by=finite_sum()),
    holds(equals(expected(squared_score(a)), 1 - collision), name="mean", by=finite_sum()),
    holds(
        at_least(sum_over(-softmax(v) * log(softmax(v)), v), 1 - collision),
        name="entropy",
        by=termwise(written_out * (1 - written_out), given=[fact("kl.log_bound", part="bound", x=written_out)]),
        equivalent={
            f"right: {mutant}": "true and weaker: the right side is then no larger than 0, or than before"
            for mutant in (
                "1 - (Σ_{v≤V} softmax(v)**2) → (Σ_{v≤V} softmax(v)**2) - 1",
                "-(Σ_{v≤V} softmax(v)**2) → -1",
                "softmax(v)**2 → softmax(v)**(-2)",
            )
        },
    ),
    holds(
        at_most(expected(squared_score(a)), plain_entropy),
        name="at most the entropy",
        by=smt(given=[fact(NORM, part="mean"), fact(NORM, part="entropy")]),
        equivalent={
            f"right: {mutant}": "true and weaker: no term of the entropy is negative, and each is then larger"
            for mutant in (
                "-(Σ_{v≤V} log(softmax(v))*softmax(v)) → -2*(Σ_{v≤V} log(softmax(v))*softmax(v))",
                "log(softmax(v))*softmax(v) → 2*log(softmax(v))*softmax(v)",
                "log(softmax(v))*softmax(v) → log(softmax(v))",
                "softmax(v) → softmax(v) + 1",
            )
        },
    ),
    wrong=[
        wrong("without the factor 2", equals(squared_score(a), 1 - softmax(a) + collision)),
        wrong("the mean is 1 less the largest", equals(expected(squared_score(a)), 1 - softmax(a))),
        wrong("at most half the entropy", at_most(expected(squared_score(a)), plain_entropy / 2)),
    ],
)

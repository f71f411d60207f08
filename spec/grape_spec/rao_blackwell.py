"""Estimates of the divergence of sequences with the sampled log-ratio of a token replaced by its mean.

A. Amini, T. Vieira and R. Cotterell, Better Estimation of the KL Divergence Between Language Models, arXiv:2504.10637,
do so at every token; their text was not compared.
"""

from sympy import Expr

from grape_spec.kl import (
    prefix_probability,
    token_divergence,
    token_log_ratio,
)
from grape_spec.language import (
    Real,
    Source,
    at_least,
    claim,
    equals,
    family,
    holds,
    sum_over,
    wrong,
)
from grape_spec.policy import P, j, next_token, v
from grape_spec.proof.rules import fact, finite_sum, smt, termwise

AMINI = Source("amini2025better")

# Any numbers: but for a constant, which no variance sees, they are the log-ratios of some reference.

prefix_log_ratio = family("prefix_log_ratio", Real, P, text="log-ratio of the tokens of each prefix", tex="b")


def over_tokens(value: Expr) -> Expr:
    """The expectation over the next token after a prefix."""
    return sum_over(next_token[j, v] * value, v)


def over_prefixes(value: Expr) -> Expr:
    """The expectation over prefixes."""
    return sum_over(prefix_probability[j] * value, j)


def variance(first: Expr, of_token: Expr) -> Expr:
    """The variance of a number for each prefix plus one for each next token."""
    total = first + of_token
    return over_prefixes(over_tokens(total**2)) - over_prefixes(over_tokens(total)) ** 2


def variance_of(value: Expr) -> Expr:
    """The variance of a number for each prefix."""
    return over_prefixes(value**2) - over_prefixes(value) ** 2


spread = over_tokens((token_log_ratio - token_divergence) ** 2)
covariance = over_prefixes(prefix_log_ratio[j] * token_divergence) - over_prefixes(prefix_log_ratio[j]) * over_prefixes(
    token_divergence
)
BLACKWELL = "kl.rao_blackwell"

claim(
    BLACKWELL,
    "The mean of the last log-ratio, over the vocabulary, may replace the sampled one: the expectation stays, and the "
    "variance does not rise. With the mean at every token the expectation stays, too, but the variance of the sum may "
    "rise: if early log-ratios and the divergence of what follows offset each other, the means do not.",
    holds(
        equals(
            over_prefixes(over_tokens(prefix_log_ratio[j] + token_log_ratio)),
            over_prefixes(prefix_log_ratio[j] + token_divergence),
        ),
        name="mean",
        by=finite_sum(),
    ),
    holds(
        equals(
            over_prefixes(spread),
            variance(prefix_log_ratio[j], token_log_ratio) - variance_of(prefix_log_ratio[j] + token_divergence),
        ),
        name="the difference",
        by=finite_sum(),
    ),
    holds(at_least(spread, 0), name="after each prefix", by=termwise(0)),
    holds(
        at_least(over_prefixes(spread), 0),
        name="over all prefixes",
        by=termwise(0, given=[fact(BLACKWELL, part="after each prefix")]),
    ),
    holds(
        at_least(
            variance(prefix_log_ratio[j], token_log_ratio) - variance_of(prefix_log_ratio[j] + token_divergence), 0
        ),
        name="variance with the last token's mean",
        by=smt(given=[fact(BLACKWELL, part="the difference"), fact(BLACKWELL, part="over all prefixes")]),
    ),
    holds(
        equals(
            variance(prefix_log_ratio[j], token_log_ratio) - variance_of(token_divergence),
            variance_of(prefix_log_ratio[j]) + 2 * covariance + over_prefixes(spread),
        ),
        name="variance with both means",
        by=finite_sum(),
    ),
    uses=["kl.chain_rule"],
    source=AMINI,
    wrong=[
        wrong(
            "the variance of the sum does not rise with the mean at every token, either",
            at_least(variance(prefix_log_ratio[j], token_log_ratio) - variance_of(token_divergence), 0),
        ),
        wrong(
            "the variance is the same",
            equals(variance(prefix_log_ratio[j], token_log_ratio), variance_of(prefix_log_ratio[j] + token_divergence)),
        ),
    ],
)

"""On-policy distillation: the log-ratio of student to teacher, as an advantage of the tokens that the student sampled.

Y. Gu et al., MiniLLM, arXiv:2306.08543, descend the divergence of whole responses from a teacher; their text was not
compared. Responses go on from a prefix until the end token or a limit. The advantage is minus what is weighted here.
"""

from sympy import Integer, log

from grape_spec.advantage import counts, discount, gae, next_advantage
from grape_spec.kl import k1
from grape_spec.language import (
    Diff,
    Real,
    Simplex,
    Source,
    claim,
    define,
    equals,
    family,
    holds,
    recursive,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import P, V, after, end, j, k, left, logp, v
from grape_spec.proof.rules import algebra, fact, over_depth
from grape_spec.responses import goes_on, next_prefix, next_probability, prefix, row_logits, token_score

GU = Source("gu2024minillm")

# The advantage of a token, from that of the next token that counts.

teacher_logp = symbol("teacher_logp", Real, "log-probability of the token under the teacher", tex=r"\ell_{\mathrm{T}}")

token_advantage = define(
    "divergence.token_advantage",
    "Advantage of a token in distillation: minus its log-ratio of student to teacher, plus the discounted advantage of "
    "the next token that counts.",
    (logp, teacher_logp, next_advantage, discount),
    teacher_logp - logp + discount * next_advantage,
    tex=r"A_{{\mathrm{{T}}}}",
    source=GU,
)

advantage_handed_on = define(
    "divergence.advantage_handed_on",
    "The advantage that the previous token accumulates: a masked token passes on the next one.",
    (counts, logp, teacher_logp, next_advantage, discount),
    counts * token_advantage() + (1 - counts) * next_advantage,
    tex=r"A_{{\mathrm{{T}}}}^{{\mathrm{{on}}}}",
    convention=True,
)

claim(
    "divergence.on_policy.advantage",
    "The advantage is that of generalised advantage estimation, with minus the log-ratio as the reward of a token, "
    "values of 0 and λ = 1. With a discount of 0 it is minus the log-ratio of the token alone.",
    holds(
        equals(token_advantage(), gae(teacher_logp - logp, 0, 0, next_advantage, discount, 1)),
        name="GAE",
        by=algebra(),
    ),
    holds(equals(token_advantage(discount=0), -k1(logp, teacher_logp)), name="immediate", by=algebra()),
    holds(equals(advantage_handed_on(0), next_advantage), name="masked", by=algebra()),
    source=GU,
    wrong=[
        wrong("the sign flipped", equals(token_advantage(discount=0), k1(logp, teacher_logp))),
        wrong("λ = 0", equals(token_advantage(), gae(teacher_logp - logp, 0, 0, next_advantage, discount, 0))),
    ],
)

teacher_next = family(
    "teacher_next",
    Simplex,
    P,
    V,
    text="probability of each next token after prefix j under the teacher",
    tex=r"\pi_{\mathrm{T}}",
)
log_ratio = log(next_probability(j, v)) - log(teacher_next[j, v])

of_prefix = define(
    "divergence.of_prefix",
    "Divergence of the student's next token from the teacher's, after one prefix.",
    (j, row_logits, teacher_next),
    sum_over(next_probability(j, v) * log_ratio, v),
    tex=r"\mathrm{{KL}}_{{{j}}}",
)

to_go = recursive(
    "divergence.to_go",
    "Expected discounted sum, over the tokens that the student appends to a prefix, of the log-ratio of student to "
    "teacher.",
    (left, j, end, row_logits, after, teacher_next, discount),
    left,
    Integer(0),
    lambda later: sum_over(next_probability(j, v) * (log_ratio + discount * goes_on * later(j=next_prefix)), v),
    tex=r"D^{{{discount}}}_{{{left}}}({j})",
    source=GU,
)

of_responses = recursive(
    "divergence.of_responses",
    "Divergence of the student's responses that continue a prefix from the teacher's: the expected sum of log-ratios.",
    (left, j, end, row_logits, after, teacher_next),
    left,
    Integer(0),
    lambda later: sum_over(next_probability(j, v) * (log_ratio + goes_on * later(j=next_prefix)), v),
    tex=r"\mathrm{{KL}}^{{\mathrm{{resp}}}}_{{{left}}}({j})",
    source=GU,
)

weighted = recursive(
    "divergence.weighted_scores",
    "Expected sum, over the tokens that the student appends to a prefix, of the score times the discounted log-ratios "
    "from its token on.",
    (left, j, prefix, k, end, row_logits, after, teacher_next, discount),
    left,
    Integer(0),
    lambda later: sum_over(
        next_probability(j, v)
        * (token_score * (log_ratio + discount * goes_on * to_go(j=next_prefix)) + goes_on * later(j=next_prefix)),
        v,
    ),
    tex=r"U^{{{discount}}}_{{{left}}}({j})",
    source=GU,
)

by_prefix = recursive(
    "divergence.by_prefix",
    "Expected sum, over the prefixes of the student's responses, of the gradient of the divergence of the next token: "
    "the prefixes are samples, and are not differentiated.",
    (left, j, prefix, k, end, row_logits, after, teacher_next),
    left,
    Integer(0),
    lambda later: (
        Diff(of_prefix(), row_logits[prefix, k]) + sum_over(next_probability(j, v) * goes_on * later(j=next_prefix), v)
    ),
    tex=r"F_{{{left}}}({j})",
)

left_out = recursive(
    "divergence.left_out",
    "Expected sum, over the tokens that the student appends to a prefix, of the score times the divergence of what "
    "follows the token.",
    (left, j, prefix, k, end, row_logits, after, teacher_next),
    left,
    Integer(0),
    lambda later: sum_over(
        next_probability(j, v) * goes_on * (token_score * to_go(j=next_prefix, discount=1) + later(j=next_prefix)),
        v,
    ),
    tex=r"C_{{{left}}}({j})",
)

of_sequences = Diff(of_responses(), row_logits[prefix, k])
TO_GO = "divergence.on_policy.to_go"
UNDISCOUNTED = fact(TO_GO, part="undiscounted")

claim(
    TO_GO,
    "Each score weighted by the log-ratios from its token on, undiscounted, in expectation, is the gradient of the "
    "divergence of whole responses, of any length.",
    holds(equals(to_go(discount=1), of_responses()), name="undiscounted", by=over_depth(left)),
    holds(equals(weighted(discount=1), of_sequences), name="gradient", by=over_depth(left, given=[UNDISCOUNTED])),
    source=GU,
    wrong=[wrong("the log-ratio of its own token is enough", equals(weighted(discount=0), of_sequences))],
)

claim(
    "divergence.on_policy.immediate",
    "Each score weighted by the log-ratio of its own token, in expectation, is the gradient of the divergences of the "
    "next tokens, over the whole vocabulary, with the prefixes held fixed.",
    holds(equals(weighted(discount=0), by_prefix()), by=over_depth(left)),
    wrong=[wrong("weighted by the log-ratios to go, too", equals(weighted(discount=1), by_prefix()))],
)

claim(
    "divergence.on_policy.left_out",
    "The gradient of the divergence of whole responses is that with the prefixes held fixed, plus the effect of each "
    "token on the divergence of what follows it.",
    holds(
        equals(left_out(), weighted(discount=1) - weighted(discount=0)),
        name="to go less immediate",
        by=over_depth(left),
    ),
    wrong=[wrong("the two are equal", equals(left_out(), 0))],
)

prefix_penalty = family("prefix_penalty", Real, P, text="a number for each prefix, such as a divergence", tex="c")

by_penalty = recursive(
    "divergence.by_penalty",
    "Expected sum, over the tokens that the student appends to a prefix, of the score times a number that depends on "
    "the prefix before the token alone.",
    (left, j, prefix, k, end, row_logits, after, prefix_penalty),
    left,
    Integer(0),
    lambda later: sum_over(
        next_probability(j, v) * (token_score * prefix_penalty[j] + goes_on * later(j=next_prefix)), v
    ),
    tex=r"N_{{{left}}}({j})",
)

later_penalty = recursive(
    "divergence.by_next_penalty",
    "The same with the number of the prefix after the token, if the response goes on.",
    (left, j, prefix, k, end, row_logits, after, prefix_penalty),
    left,
    Integer(0),
    lambda later: sum_over(
        next_probability(j, v) * goes_on * (token_score * prefix_penalty[next_prefix] + later(j=next_prefix)), v
    ),
    tex=r"N'_{{{left}}}({j})",
)

claim(
    "divergence.on_policy.prefix_only",
    "A penalty that depends on the prefix alone, such as a divergence over the whole vocabulary, has no effect in "
    "expectation as the immediate advantage of the next token.",
    holds(
        equals(by_penalty(), 0),
        by=over_depth(left),
        equivalent={
            f"left: {mutant}": "true: it holds for every limit, every prefix and every logit"
            for mutant in ("left → left + 1", "left → 2*left", "j → prefix", "prefix → j")
        },
    ),
    uses=["reinforce.baseline.unbiased"],
    wrong=[wrong("as the advantage of the token before it, neither", equals(later_penalty(), 0))],
)

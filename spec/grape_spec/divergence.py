"""Divergences for distillation: the Jensen-Shannon divergence of any weight, and those over a part of the tokens.

R. Agarwal et al., On-Policy Distillation of Language Models, arXiv:2306.13649, equation 1, for the weighted form; its
text was not compared.
"""

from sympy import Expr, Integer, Lambda, log

from grape_spec.kl import divergence, p, q, y
from grape_spec.language import (
    At,
    Diff,
    Mask,
    Open,
    Positive,
    Simplex,
    Source,
    at_least,
    at_most,
    claim,
    define,
    delta,
    equals,
    family,
    greater,
    holds,
    less,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import V, a, k, logits, softmax, v
from grape_spec.proof.rules import chain, fact, finite_sum, rewrite, smt, step, termwise

AGARWAL = Source("agarwal2024onpolicy")

# The Jensen-Shannon divergence of two distributions.

mixing = symbol("mixing", Open(0, 1), "weight of the first distribution in the mixture", tex=r"\beta")

mixture = mixing * p[y] + (1 - mixing) * q[y]

jensen_shannon = define(
    "divergence.jensen_shannon",
    "Jensen-Shannon divergence: the weighted mean of the divergences of p and of q from their mixture, in nats.",
    (p, q, mixing),
    sum_over(
        mixing * p[y] * (log(p[y]) - log(mixture)) + (1 - mixing) * q[y] * (log(q[y]) - log(mixture)),
        y,
    ),
    tex=r"\mathrm{{JS}}_{{{mixing}}}({p} \Vert {q})",
    source=AGARWAL,
)

one = symbol("one_part", Positive, "a positive number")
other = symbol("other_part", Positive, "another positive number")
factor = symbol("part_factor", Open(0, 1), "a factor below 1")
WEAKER = "true and weaker: minus the logarithm of a number below 1 is positive"
BOUNDS = "divergence.jensen_shannon.bounds"

claim(
    BOUNDS,
    "It is never negative, zero where the distributions agree, and at most the entropy of its two weights: unlike the "
    "KL divergence, it is bounded.",
    holds(equals(jensen_shannon(p, p), 0), name="zero where they agree", by=finite_sum()),
    holds(
        at_least(one * (log(one) - log(other)), one - other),
        name="a term, below",
        by=smt(given=[fact("kl.log_bound", part="bound", x=other / one)]),
    ),
    holds(
        at_least(jensen_shannon(), 0),
        name="below",
        by=termwise(
            mixing * (p[y] - mixture) + (1 - mixing) * (q[y] - mixture),
            given=[fact(BOUNDS, part="a term, below", one_part=of[y], other_part=mixture) for of in (p, q)],
        ),
    ),
    holds(
        at_most(factor * one * (log(one) - log(other)), -factor * one * log(factor)),
        name="a term, above",
        assuming=[at_most(factor * one, other)],
        by=smt(given=[fact("kl.log_bound", part="bound", x=factor * one / other)]),
        equivalent=dict.fromkeys(
            (
                "right: -one_part*part_factor*log(part_factor) → -2*one_part*part_factor*log(part_factor)",
                "right: -one_part*part_factor*log(part_factor) → -one_part*log(part_factor)",
                "right: one_part → one_part + 1",
                "right: part_factor → part_factor + 1",
            ),
            WEAKER,
        ),
    ),
    holds(
        at_most(jensen_shannon(), -mixing * log(mixing) - (1 - mixing) * log(1 - mixing)),
        name="above",
        by=termwise(
            -mixing * log(mixing) * p[y] - (1 - mixing) * log(1 - mixing) * q[y],
            given=[
                fact(BOUNDS, part="a term, above", one_part=of[y], other_part=mixture, part_factor=own)
                for of, own in ((p, mixing), (q, 1 - mixing))
            ],
        ),
        equivalent=dict.fromkeys(
            (
                "right: -mixing*log(mixing) - (1 - mixing)*log(1 - mixing) → "
                "-2*mixing*log(mixing) - 2*(1 - mixing)*log(1 - mixing)",
                "right: -mixing*log(mixing) → -2*mixing*log(mixing)",
                "right: -mixing*log(mixing) → -log(mixing)",
                "right: mixing → mixing + 1",
                "right: -(1 - mixing)*log(1 - mixing) → -2*(1 - mixing)*log(1 - mixing)",
                "right: -(1 - mixing)*log(1 - mixing) → -log(1 - mixing)",
                "right: 1 - mixing → 2 - mixing",
                "right: 1 - mixing → 2 - 2*mixing",
                "right: -mixing → mixing",
            ),
            WEAKER,
        ),
    ),
    source=AGARWAL,
    wrong=[
        wrong("at most the weight", at_most(jensen_shannon(), mixing)),
        wrong("no less than half the KL divergence", at_least(jensen_shannon(), divergence() / 2)),
    ],
)

claim(
    "divergence.jensen_shannon.symmetry",
    "Exchanging the distributions together with their weights changes nothing; with equal weights it is symmetric.",
    holds(equals(jensen_shannon(), jensen_shannon(q, p, 1 - mixing)), by=finite_sum()),
    wrong=[wrong("symmetric for every weight", equals(jensen_shannon(), jensen_shannon(q, p)))],
)

claim(
    "divergence.jensen_shannon.ends",
    "At weight 0 and at weight 1 it is 0: the two KL divergences are not its ends but its slopes there. Code that "
    "returns a KL divergence at an end has another function there, with a jump.",
    holds(equals(At(jensen_shannon(), mixing, Integer(0)), 0), name="at 0", by=finite_sum()),
    holds(equals(At(jensen_shannon(), mixing, Integer(1)), 0), name="at 1", by=finite_sum()),
    holds(
        equals(At(Diff(jensen_shannon(), mixing), mixing, Integer(0)), divergence()), name="slope at 0", by=finite_sum()
    ),
    holds(
        equals(At(Diff(jensen_shannon(), mixing), mixing, Integer(1)), -divergence(q, p)),
        name="slope at 1",
        by=finite_sum(),
    ),
    source=AGARWAL,
    wrong=[
        wrong("the KL divergence at 0", equals(At(jensen_shannon(), mixing, Integer(0)), divergence())),
        wrong(
            "the other direction as the slope at 0",
            equals(At(Diff(jensen_shannon(), mixing), mixing, Integer(0)), divergence(q, p)),
        ),
    ],
)

# A teacher and a student over the vocabulary.

teacher = family("teacher", Simplex, V, text="probability of each token under the teacher", tex=r"\pi_{\mathrm{T}}")


def mixed(token: Expr) -> Expr:
    """The probability of a token under the mixture."""
    return mixing * teacher[token] + (1 - mixing) * softmax(token)


distillation = define(
    "divergence.distillation",
    "Jensen-Shannon divergence of the teacher and the student, a policy with logits.",
    (logits, teacher, mixing),
    sum_over(
        mixing * teacher[v] * (log(teacher[v]) - log(mixed(v)))
        + (1 - mixing) * softmax(v) * (log(softmax(v)) - log(mixed(v))),
        v,
    ),
    tex=r"D_{{\mathrm{{JS}}}}",
    source=AGARWAL,
)


def log_excess(token: Expr) -> Expr:
    """The log-ratio of the student to the mixture at a token."""
    return log(softmax(token)) - log(mixed(token))


student_divergence = sum_over(softmax(v) * log_excess(v), v)


def moved(token: Expr) -> Expr:
    """How far the probability of a token moves with a logit."""
    return Diff(softmax(token), logits[k])


def shares(token: Expr) -> Expr:
    """The shares of the teacher and of the student in the mixture at a token."""
    return mixing * teacher[token] / mixed(token) + (1 - mixing) * softmax(token) / mixed(token)


def by_parts(of_mixture: Expr) -> Expr:
    """The derivative of the divergence by the product rule, with a given sum of the shares in the mixture."""
    return sum_over((1 - mixing) * moved(v) * (log_excess(v) + 1) - of_mixture * (1 - mixing) * moved(v), v)


claim(
    "divergence.jensen_shannon.gradient",
    "Raising a logit of the student raises the divergence if its token's log-ratio of student to mixture exceeds the "
    "mean of all; the teacher's part of the mixture has no slope of its own.",
    holds(equals(shares(a), 1), name="the shares in the mixture", by=finite_sum()),
    holds(
        equals(Diff(distillation(), logits[k]), (1 - mixing) * softmax(k) * (log_excess(k) - student_divergence)),
        name="the divergence",
        by=chain(
            step(by_parts(shares(v)), by=finite_sum()),
            step(
                by_parts(Integer(1)),
                by=rewrite("divergence.jensen_shannon.gradient", part="the shares in the mixture", a=v),
            ),
            step((1 - mixing) * softmax(k) * (log_excess(k) - student_divergence), by=finite_sum()),
        ),
    ),
    source=AGARWAL,
    wrong=[
        wrong(
            "without the weight",
            equals(Diff(distillation(), logits[k]), softmax(k) * (log_excess(k) - student_divergence)),
        ),
        wrong(
            "without the mean",
            equals(Diff(distillation(), logits[k]), (1 - mixing) * softmax(k) * log_excess(k)),
        ),
        wrong(
            "the weight of the teacher",
            equals(Diff(distillation(), logits[k]), mixing * softmax(k) * (log_excess(k) - student_divergence)),
        ),
    ],
)

# Divergences over the tokens that are kept, such as the k likeliest of the teacher.

kept = family("kept_tokens", Mask(), V, text="1 for a token that is kept, such as the teacher's likeliest", tex="e")

truncated = define(
    "divergence.truncated",
    "Forward KL over the kept tokens alone: neither side is renormalised.",
    (logits, teacher, kept),
    sum_over(kept[v] * teacher[v] * (log(teacher[v]) - log(softmax(v))), v),
    tex=r"D_{{\mathrm{{trunc}}}}",
)

teacher_mass = define(
    "divergence.teacher_mass",
    "Probability of the kept tokens under the teacher.",
    (teacher, kept),
    sum_over(kept[v] * teacher[v], v),
    tex="M_{{\\mathrm{{T}}}}",
)

student_mass = define(
    "divergence.student_mass",
    "Probability of the kept tokens under the student.",
    (logits, kept),
    sum_over(kept[v] * softmax(v), v),
    tex="M",
)

claim(
    "divergence.truncated.gradient",
    "The truncated divergence pulls every logit that is not kept down and none up: the gradient has the student's "
    "probability, times the kept mass of the teacher, without anything against it.",
    holds(
        equals(Diff(truncated(), logits[k]), teacher_mass() * softmax(k) - kept[k] * teacher[k]),
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the gradient of the whole forward KL on the kept tokens",
            equals(Diff(truncated(), logits[k]), kept[k] * (softmax(k) - teacher[k])),
        ),
        wrong(
            "the kept mass of the student",
            equals(Diff(truncated(), logits[k]), student_mass() * softmax(k) - kept[k] * teacher[k]),
        ),
    ],
)

renormalised = define(
    "divergence.renormalised",
    "Forward KL of the kept tokens, teacher and student both renormalised to their kept masses.",
    (logits, teacher, kept),
    sum_over(
        kept[v]
        * teacher[v]
        / teacher_mass()
        * (log(teacher[v]) - log(teacher_mass()) - log(softmax(v)) + log(student_mass())),
        v,
    ),
    tex=r"D_{{\mathrm{{renorm}}}}",
)

bucketed = define(
    "divergence.bucketed",
    "Truncated divergence, plus the term of one bucket that holds all tokens that are not kept.",
    (logits, teacher, kept),
    truncated() + (1 - teacher_mass()) * (log(1 - teacher_mass()) - log(1 - student_mass())),
    tex=r"D_{{\mathrm{{tail}}}}",
)

whole = sum_over(teacher[v] * (log(teacher[v]) - log(softmax(v))), v)
has_kept = [greater(teacher_mass(), 0), greater(student_mass(), 0)]
has_tail = [less(teacher_mass(), 1), less(student_mass(), 1)]

claim(
    "divergence.renormalised.gradient",
    "The renormalised divergence moves the logits of the kept tokens alone, each by the difference of the two "
    "renormalised probabilities.",
    holds(
        equals(
            Diff(renormalised(), logits[k]),
            kept[k] * (softmax(k) / student_mass() - teacher[k] / teacher_mass()),
        ),
        assuming=has_kept,
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the probabilities themselves",
            equals(Diff(renormalised(), logits[k]), kept[k] * (softmax(k) - teacher[k])),
            assuming=has_kept,
        ),
        wrong(
            "of every token",
            equals(
                Diff(renormalised(), logits[k]), softmax(k) / student_mass() - kept[k] * teacher[k] / teacher_mass()
            ),
            assuming=has_kept,
        ),
    ],
)

claim(
    "divergence.bucketed.gradient",
    "With the bucket, a kept token has the gradient of the whole forward KL; any other has its probability less its "
    "share, by the student, of the mass that the teacher leaves in the bucket.",
    holds(
        equals(
            Diff(bucketed(), logits[k]),
            softmax(k)
            - kept[k] * teacher[k]
            - (1 - kept[k]) * (1 - teacher_mass()) * softmax(k) / (1 - student_mass()),
        ),
        assuming=has_tail,
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "no force on what is not kept",
            equals(Diff(bucketed(), logits[k]), kept[k] * (softmax(k) - teacher[k])),
            assuming=has_tail,
        ),
        wrong(
            "the bucket held constant",
            equals(Diff(bucketed(), logits[k]), teacher_mass() * softmax(k) - kept[k] * teacher[k]),
            assuming=has_tail,
        ),
    ],
)

tail = sum_over(
    (1 - kept[v])
    * teacher[v]
    / (1 - teacher_mass())
    * (log(teacher[v]) - log(1 - teacher_mass()) - log(softmax(v)) + log(1 - student_mass())),
    v,
)

claim(
    "divergence.truncated.parts",
    "The truncated divergence is that of the two masses, which may be negative, plus the mass of the teacher times the "
    "renormalised one. With the bucket, only the divergence within the tail is missing from the whole.",
    holds(
        equals(
            truncated(),
            teacher_mass() * (log(teacher_mass()) - log(student_mass())) + teacher_mass() * renormalised(),
        ),
        name="masses and shape",
        assuming=has_kept,
        by=finite_sum(),
    ),
    holds(
        equals(whole, bucketed() + (1 - teacher_mass()) * tail),
        name="what the bucket leaves out",
        assuming=has_tail,
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the renormalised divergence, weighted",
            equals(truncated(), teacher_mass() * renormalised()),
            assuming=has_kept,
        ),
        wrong("never negative", at_least(truncated(), 0)),
        wrong("the bucket makes it whole", equals(whole, bucketed()), assuming=has_tail),
    ],
)

single = Lambda(v, delta(v, a))

claim(
    "divergence.renormalised.single",
    "Renormalised over one token, every divergence is 0, and so is its gradient: keep the tail.",
    holds(equals(renormalised(kept_tokens=single), 0), by=finite_sum()),
    holds(equals(Diff(renormalised(kept_tokens=single), logits[k]), 0), name="gradient", by=finite_sum()),
    wrong=[wrong("so is the truncated divergence", equals(truncated(kept_tokens=single), 0))],
)

"""Heads that change their logits before the softmax: a soft cap, as in Gemma 2, and a scale, as in Cohere's models.

The cap is C·tanh(x/C), written with exponentials. It comes before the temperature.
"""

from sympy import Lambda, exp, log

from grape_spec.language import (
    Diff,
    Positive,
    Real,
    claim,
    define,
    delta,
    equals,
    greater,
    holds,
    less,
    symbol,
    wrong,
)
from grape_spec.policy import a, entropy, k, log_softmax, logits, softmax, temperature, v
from grape_spec.proof.rules import algebra, fact, finite_sum, smt

x = symbol("uncapped", Real, "a logit before the cap", tex="x")
cap = symbol("softcap", Positive, "what no logit exceeds in size", tex="C")
scale = symbol("logit_scale", Positive, "number that multiplies the logits", tex=r"\alpha")

grown = exp(2 * x / cap)

capped = define(
    "head.softcap.logit",
    "Soft cap of a logit, C·tanh(x/C).",
    (x, cap),
    cap * (grown - 1) / (grown + 1),
    tex=r"\operatorname{{cap}}({uncapped})",
)

kept = define(
    "head.softcap.kept",
    "Share of the slope of a logit that is left by the cap.",
    (x, cap),
    1 - (capped() / cap) ** 2,
    tex=r"\kappa({uncapped})",
)

claim(
    "head.softcap.slope",
    "The slope of a capped logit is one minus the square of its share of the cap: 1 at zero, and positive.",
    holds(equals(Diff(capped(), x), kept()), name="slope", by=algebra()),
    holds(equals(kept(0), 1), name="at zero", by=algebra()),
    holds(equals(kept(), 4 * grown / (grown + 1) ** 2), name="in exponentials", by=algebra()),
    holds(greater(kept(), 0), name="positive", by=smt(given=[fact("head.softcap.slope", part="in exponentials")])),
    wrong=[
        wrong("the cap is not squared", equals(Diff(capped(), x), 1 - capped() ** 2 / cap)),
        wrong("of the logit before the cap", equals(Diff(capped(), x), 1 - (x / cap) ** 2)),
        wrong("all of it is left, as where a clamp does not act", equals(Diff(capped(), x), 1)),
    ],
)

claim(
    "head.softcap.bound",
    "A capped logit lies within the cap.",
    holds(equals(cap - capped(), 2 * cap / (grown + 1)), name="to the upper end", by=algebra()),
    holds(equals(cap + capped(), 2 * cap * grown / (grown + 1)), name="to the lower end", by=algebra()),
    holds(less(capped(), cap), name="below", by=smt(given=[fact("head.softcap.bound", part="to the upper end")])),
    holds(greater(capped(), -cap), name="above", by=smt(given=[fact("head.softcap.bound", part="to the lower end")])),
    wrong=[wrong("within half of it", less(capped(), cap / 2))],
)

capped_logits = Lambda(v, capped(logits[v]))

capped_policy = define(
    "head.softcap.policy",
    "Probability of a token under capped logits at a temperature.",
    (k, logits, temperature, cap),
    softmax(k, Lambda(v, capped(logits[v]) / temperature)),
    tex=r"\hat{{\pi}}_{{{k}}}",
    domain=Positive,
)

claim(
    "head.softcap.gradient",
    "Log-probability and entropy have the slopes of the capped logits, each times the share that its cap leaves.",
    holds(
        equals(
            Diff(log_softmax(a, capped_logits), logits[k]),
            (delta(a, k) - capped_policy(k)) * kept(logits[k]) / temperature,
        ),
        name="log-probability",
        by=finite_sum(),
    ),
    holds(
        equals(
            Diff(entropy(capped_logits), logits[k]),
            -capped_policy(k) * (log(capped_policy(k)) + entropy(capped_logits)) * kept(logits[k]) / temperature,
        ),
        name="entropy",
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the cap has no slope of its own",
            equals(
                Diff(log_softmax(a, capped_logits), logits[k]),
                (delta(a, k) - capped_policy(k)) / temperature,
            ),
        ),
        wrong(
            "the cap after the temperature",
            equals(
                Diff(log(softmax(a, Lambda(v, capped(logits[v] / temperature)))), logits[k]),
                (delta(a, k) - capped_policy(k)) * kept(logits[k]) / temperature,
            ),
        ),
        wrong(
            "the share of the chosen token",
            equals(
                Diff(log_softmax(a, capped_logits), logits[k]),
                (delta(a, k) - capped_policy(k)) * kept(logits[a]) / temperature,
            ),
        ),
    ],
)

scaled = Lambda(v, scale * logits[v])

claim(
    "head.softcap.scale",
    "Logits that are scaled are logits at the temperature over the scale; so a scaled head needs no option of its own.",
    holds(equals(log_softmax(a, scaled), log_softmax(a, logits, temperature / scale)), name="scale", by=finite_sum()),
    holds(equals(entropy(scaled), entropy(logits, temperature / scale)), name="entropy", by=finite_sum()),
    wrong=[
        wrong(
            "the temperature times the scale",
            equals(log_softmax(a, scaled), log_softmax(a, logits, temperature * scale)),
        ),
    ],
)

"""The KL penalty in a loss: which gradient each estimate gives, with and without the importance ratio.

Tokens are sampled by the old policy. An estimate in a loss is differentiated; the ratio that weights it is absent, a
constant, or differentiated, too. DeepSeek-V3.2 (arXiv:2512.02556) differentiates it; its text was not compared.
"""

from sympy import Expr, Integer, log, sqrt

from grape_spec.grpo import estimator_slopes, no_ratio_at_kink, token_objective
from grape_spec.kl import estimators, expected, forward, k2, k3, n, ref_logp, reference, reverse, sampled, y
from grape_spec.kl_penalty import kl_coef
from grape_spec.language import (
    At,
    Diff,
    Positive,
    Real,
    Simplex,
    Smooth,
    SmoothPositive,
    Source,
    claim,
    clip,
    define,
    equals,
    family,
    function,
    holds,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import V, a, k, logits, logp, score, softmax, theta
from grape_spec.ppo import clip_slope, lower_edge, old_logp, ratio, upper_edge
from grape_spec.proof.rules import algebra, by_terms, fact, finite_sum

DEEPSEEK = Source("deepseek2025v32")

old = family(
    "old_probability",
    Simplex,
    V,
    text="probability of each token under the old policy, which sampled it",
    tex=r"\pi_{\mathrm{old}}",
)
weight = symbol("kl_weight", Positive, "weight of the estimate at the token, a constant", tex=r"\bar{\rho}")
excess = symbol("kl_excess", Real, "the estimate minus k2, a constant", tex=r"\Delta")

# The three ways in which a ratio weights an estimate, and an estimate with the slope of k2.

attached = {
    name: define(
        f"kl.{name}.attached",
        f"k{name[1]} times the ratio of policy to old policy, which is differentiated, too.",
        (logp, old_logp, ref_logp),
        ratio() * estimator(),
        tex=rf"k_{name[1]}^{{{{\mathrm{{{{att}}}}}}}}",
        source=DEEPSEEK,
    )
    for name, estimator in estimators.items()
}

detached = {
    name: define(
        f"kl.{name}.detached",
        f"k{name[1]} times a weight that is not differentiated, such as the ratio of policy to old policy.",
        (logp, ref_logp, weight),
        weight * estimator(),
        tex=rf"k_{name[1]}^{{{{\mathrm{{{{det}}}}}}}}",
    )
    for name, estimator in estimators.items()
}

straight_through = define(
    "kl.straight_through",
    "k2 plus a constant: the slope of k2, whatever the value.",
    (logp, ref_logp, excess),
    k2() + excess,
    tex=r"k^{{+}}",
)

straight_through_detached = define(
    "kl.straight_through.detached",
    "k2 plus a constant, times a weight that is not differentiated.",
    (logp, ref_logp, excess, weight),
    weight * straight_through(),
    tex=r"k^{{+\mathrm{{det}}}}",
)

left_over = {
    name: define(
        f"kl.{name}.excess",
        f"What k{name[1]} exceeds k2 by; added to k2 as a constant, it gives the value of k{name[1]}.",
        (logp, ref_logp),
        estimator() - k2(),
        tex=rf"\Delta_{name[1]}",
    )
    for name, estimator in estimators.items()
    if name != "k2"
}

x = logp - ref_logp
attached_slopes = {"k1": ratio() * (x + 1), "k2": ratio() * (x + x**2 / 2), "k3": ratio() * x}

claim(
    "kl.attached.slope",
    "Differentiated with its ratio, k3 has slope ρ(logp − ref): its own slope cancels against that of the ratio, and "
    "the slope of k2 is left.",
    *(
        holds(equals(Diff(attached[name](), logp), slope), name=name, by=algebra())
        for name, slope in attached_slopes.items()
    ),
    source=DEEPSEEK,
    wrong=[
        wrong(
            "the ratio times the slope of k3", equals(Diff(attached["k3"](), logp), ratio() * estimator_slopes["k3"])
        ),
        wrong("without the ratio", equals(Diff(attached["k3"](), logp), x)),
        wrong("k1 weighted has the slope of the ratio", equals(Diff(attached["k1"](), logp), ratio())),
        wrong("k2 weighted has the ratio times the slope of k2", equals(Diff(attached["k2"](), logp), ratio() * x)),
    ],
)

# In expectation, over one vocabulary. The arguments of the estimates are those of the sampled token.

own, own_old, own_ref = log(softmax(a)), log(old[a]), log(reference[a])
own_ratio = softmax(a) / old[a]


def under_old(value: Expr) -> Expr:
    """The expectation over a token sampled from the old policy."""
    return sum_over(old[a] * value, a)


with_ratio = {name: under_old(Diff(of(own, own_old, own_ref), logits[k])) for name, of in attached.items()}
with_constant = {
    name: under_old(At(Diff(of(own, own_ref), logits[k]), weight, own_ratio)) for name, of in detached.items()
}
without = {name: under_old(Diff(of(own, own_ref), logits[k])) for name, of in estimators.items()}
mean = {name: expected(value) for name, value in sampled.items()}
as_reward = {name: under_old(own_ratio * of(own, own_ref) * score) for name, of in estimators.items()}
to_reverse, to_forward = Diff(reverse(), logits[k]), Diff(forward(), logits[k])

claim(
    "kl.attached.gradient",
    "With the ratio differentiated, an estimate in a loss has the gradient of its own expectation under the policy, "
    "whatever the old policy is: that of the reverse KL for k1 and k3, and not for k2. On policy the ratio is 1, and "
    "this still holds: the ratio is no factor that may be left out there.",
    *(
        holds(
            equals(with_ratio[name], Diff(mean[name], logits[k])),
            name=f"{name}, its own mean",
            by=finite_sum(),
            equivalent={
                "right: log(reference[a]) → log(reference[a]) + 1": "true: it adds a constant to the mean",
            }
            if name == "k3"
            else {},
        )
        for name in estimators
    ),
    holds(equals(with_ratio["k1"], to_reverse), name="k1", by=finite_sum()),
    holds(equals(with_ratio["k3"], to_reverse), name="k3", by=finite_sum()),
    source=DEEPSEEK,
    wrong=[
        wrong("k2 descends the reverse KL, too", equals(with_ratio["k2"], to_reverse)),
        wrong("k3 descends the forward KL, as without the ratio", equals(with_ratio["k3"], to_forward)),
        wrong("k1 has no effect, as without the ratio", equals(with_ratio["k1"], 0)),
    ],
)

claim(
    "kl.detached.gradient",
    "With the ratio as a constant, an estimate in a loss has the gradient that it has on policy, whatever the old "
    "policy is: none for k1, that of the reverse KL for k2, and that of the forward KL for k3.",
    *(
        holds(equals(Diff(detached[name](), logp), weight * slope), name=f"slope of {name}", by=algebra())
        for name, slope in estimator_slopes.items()
    ),
    holds(equals(with_constant["k1"], 0), name="k1", by=finite_sum()),
    holds(equals(with_constant["k2"], to_reverse), name="k2", by=finite_sum()),
    holds(equals(with_constant["k3"], to_forward), name="k3", by=finite_sum()),
    wrong=[
        wrong("k3 descends the reverse KL, as with the ratio attached", equals(with_constant["k3"], to_reverse)),
        wrong("k1 descends the reverse KL, as with the ratio attached", equals(with_constant["k1"], to_reverse)),
        wrong("k2 has the gradient of its own mean", equals(with_constant["k2"], Diff(mean["k2"], logits[k]))),
    ],
)

claim(
    "kl.unweighted.gradient",
    "Without the ratio, off policy, no estimate in a loss follows a divergence from the reference. k1 has the gradient "
    "of minus the divergence of the old policy from the new: it drives the policy away from the old one, and the "
    "reference has no part in it.",
    holds(equals(without["k1"], old[k] - softmax(k)), name="k1", by=finite_sum()),
    holds(
        equals(without["k1"], -Diff(forward(reference=old), logits[k])),
        name="k1, away from the old policy",
        by=finite_sum(),
    ),
    *(
        holds(
            equals(
                without[name],
                old[k] * slope.subs({logp: log(softmax(k)), ref_logp: log(reference[k])})
                - softmax(k) * under_old(slope.subs({logp: own, ref_logp: own_ref})),
            ),
            name=name,
            by=finite_sum(),
        )
        for name, slope in estimator_slopes.items()
        if name != "k1"
    ),
    wrong=[
        wrong("k1 has no effect, as on policy", equals(without["k1"], 0)),
        wrong("k2 descends the reverse KL, as on policy", equals(without["k2"], to_reverse)),
        wrong("k3 descends the forward KL, as on policy", equals(without["k3"], to_forward)),
    ],
)

claim(
    "kl.weighted_reward.gradient",
    "In the reward or the advantage an estimate is a constant that weights the score. Times the ratio, it has the "
    "gradient of its mean less its gradient as a loss: that of the reverse KL for k1, and of the reverse minus the "
    "forward KL for k3.",
    holds(equals(as_reward["k1"], to_reverse), name="k1", by=finite_sum()),
    holds(equals(as_reward["k2"], Diff(mean["k2"], logits[k]) - to_reverse), name="k2", by=finite_sum()),
    holds(equals(as_reward["k3"], to_reverse - to_forward), name="k3", by=finite_sum()),
    wrong=[
        wrong("k3 gives the gradient of the reverse KL, as k1 does", equals(as_reward["k3"], to_reverse)),
        wrong("k2 gives the gradient of the reverse KL, as in a loss", equals(as_reward["k2"], to_reverse)),
        wrong(
            "without the ratio, too",
            equals(under_old(estimators["k1"](own, own_ref) * score), to_reverse),
        ),
    ],
)

claim(
    "kl.straight_through.gradient",
    "An estimate with the value of k1 or k3 and the slope of k2, as from a straight-through construction, has the "
    "gradient of the reverse KL on policy. It must not be multiplied by a differentiated ratio: the value then has a "
    "slope of its own again.",
    *(
        holds(
            equals(At(straight_through(), excess, of()), estimators[name]()), name=f"the value of {name}", by=algebra()
        )
        for name, of in left_over.items()
    ),
    holds(equals(Diff(straight_through(), logp), x), name="slope", by=algebra()),
    holds(equals(Diff(straight_through_detached(), logp), weight * x), name="slope, detached", by=algebra()),
    holds(
        equals(expected(Diff(straight_through(own, own_ref), logits[k])), to_reverse),
        name="on policy",
        by=finite_sum(),
    ),
    holds(
        equals(
            At(Diff(ratio() * straight_through(), logp), excess, left_over["k3"]()),
            attached_slopes["k3"] + ratio() * k3(),
        ),
        name="times the ratio, k3",
        by=algebra(),
    ),
    wrong=[
        wrong("the slope of the value", equals(Diff(straight_through(), logp), estimator_slopes["k3"])),
        wrong(
            "times the ratio it has the slope of k3 times the ratio",
            equals(
                At(Diff(ratio() * straight_through(), logp), excess, left_over["k3"]()),
                Diff(attached["k3"](), logp),
            ),
        ),
        wrong(
            "the gradient of the forward KL on policy",
            equals(expected(Diff(straight_through(own, own_ref), logits[k])), to_forward),
        ),
    ],
)

# Sequences: one ratio for all the tokens of a response.

response_prob = function(
    "response_prob", SmoothPositive, "probability of response y as a function of the parameter", tex="f"
)
old_response = family(
    "old_response_prob",
    Simplex,
    n,
    text="probability of each response under the old policy, which sampled it",
    tex=r"f_{\mathrm{old}}",
)
penalties = function(
    "penalties", Smooth, "sum of the estimates over the tokens of response y, as a function of the parameter", tex="K"
)


def of_responses(response_weight: Expr) -> Expr:
    """The expected gradient of the penalties of a response, weighted."""
    return sum_over(old_response[y] * Diff(response_weight * penalties(y, theta), theta), y)


response_ratio = response_prob(y, theta) / old_response[y]
mean_penalties = sum_over(response_prob(y, theta) * penalties(y, theta), y)

claim(
    "kl.attached.sequence",
    "With one differentiated ratio for all tokens of a response, the product of theirs, the penalties of the response "
    "have the gradient of their mean under the policy. A ratio to another power, such as the geometric mean over the "
    "tokens, has not.",
    holds(equals(of_responses(response_ratio), Diff(mean_penalties, theta)), by=finite_sum()),
    wrong=[
        wrong(
            "the geometric mean of the ratios of two tokens",
            equals(of_responses(sqrt(response_ratio)), Diff(mean_penalties, theta)),
        ),
        wrong("no ratio", equals(of_responses(Integer(1)), Diff(mean_penalties, theta))),
    ],
)

# GRPO's objective of a token, with the penalty weighted.


def objective_slope(slope: Expr) -> Expr:
    """The slope of the clipped surrogate minus β times that of the penalty."""
    return clip_slope(ratio()) - kl_coef * slope


claim(
    "grpo.kl_ratio.gradient",
    "The slope of a token under GRPO with a weighted KL penalty is that of its clipped surrogate minus β times that of "
    "the penalty. The ratio that weights the penalty is never clipped.",
    *(
        holds(
            equals(Diff(token_objective(kl_term=attached[name]()), logp), objective_slope(slope)),
            name=f"one token, {name} attached",
            assuming=no_ratio_at_kink,
            by=by_terms(
                fact("ppo.clip.gradient", part="in the log-probability"),
                fact("kl.attached.slope", part=name),
            ),
        )
        for name, slope in attached_slopes.items()
    ),
    *(
        holds(
            equals(Diff(token_objective(kl_term=detached[name]()), logp), objective_slope(weight * slope)),
            name=f"one token, {name} detached",
            assuming=no_ratio_at_kink,
            by=by_terms(
                fact("ppo.clip.gradient", part="in the log-probability"),
                fact("kl.detached.gradient", part=f"slope of {name}"),
            ),
        )
        for name, slope in estimator_slopes.items()
    ),
    holds(
        equals(Diff(token_objective(kl_term=straight_through()), logp), objective_slope(x)),
        name="one token, straight through",
        assuming=no_ratio_at_kink,
        by=by_terms(
            fact("ppo.clip.gradient", part="in the log-probability"),
            fact("kl.straight_through.gradient", part="slope"),
        ),
    ),
    holds(
        equals(Diff(token_objective(kl_term=straight_through_detached()), logp), objective_slope(weight * x)),
        name="one token, straight through detached",
        assuming=no_ratio_at_kink,
        by=by_terms(
            fact("ppo.clip.gradient", part="in the log-probability"),
            fact("kl.straight_through.gradient", part="slope, detached"),
        ),
    ),
    source=DEEPSEEK,
    wrong=[
        wrong(
            "the clipped ratio weights the penalty",
            equals(
                Diff(token_objective(kl_term=clip(ratio(), lower_edge, upper_edge) * k3()), logp),
                objective_slope(attached_slopes["k3"]),
            ),
            assuming=no_ratio_at_kink,
        ),
        wrong(
            "attached has the slope of detached",
            equals(
                Diff(token_objective(kl_term=attached["k3"]()), logp), objective_slope(ratio() * estimator_slopes["k3"])
            ),
            assuming=no_ratio_at_kink,
        ),
    ],
)

"""Derivations: proximal policy optimisation, trust regions, and advantages along a sequence."""

from sympy import And, Max, Min, exp

from grape_spec.kl_penalty import counted, kl_coef, last, penalty, rewards
from grape_spec.language import Diff, cases, clip, derive, line, sum_over
from grape_spec.policy import entropy, k, logits, logp, t
from grape_spec.ppo import (
    advantage,
    clip_slope,
    counts,
    dual_clip,
    dual_counts,
    entropy_coef,
    entropy_slope,
    lower_edge,
    old_logp,
    old_value,
    ratio,
    returns,
    rho,
    sign_form,
    surrogate,
    upper_edge,
    value,
    value_clip,
    value_loss,
)
from grape_spec.proof.rules import chain_rule, fact, near, slope, smt

derive(
    "ppo.ratio.gradient",
    line(exp(logp - old_logp) * Diff(logp - old_logp, logp), "the chain rule for exp(ℓ − ℓ_old)"),
    line(ratio(), "the exponent has slope one: the old policy is a constant"),
)

positive, negative = advantage > 0, advantage < 0

derive(
    "ppo.clip.sign_form",
    line(
        cases(
            (Min(rho * advantage, upper_edge * advantage), advantage >= 0),
            (Min(rho * advantage, lower_edge * advantage), True),
        ),
        "where a side of the clip would raise ρA, the minimum does not take it",
        by=smt(),
    ),
    line(sign_form, "take A out of the minimum, which a negative A turns into a maximum", by=smt()),
)

derive(
    "ppo.clip.lower_bound",
    line(Min(rho * advantage, clip(rho, lower_edge, upper_edge) * advantage), "write out the surrogate"),
    line(rho * advantage, "a minimum is at most its first argument", sign="≤"),
)

derive(
    "ppo.clip.gradient",
    line(
        cases(
            (advantage, And(positive, rho < upper_edge)),
            (advantage, And(negative, rho > lower_edge)),
            (0, True),
        ),
        "by cases: A min(ρ, 1 + ε') for A > 0, A max(ρ, 1 − ε) for A < 0: a line, then a constant",
        by=slope(radius=Min(abs(rho - upper_edge), abs(rho - lower_edge))),
    ),
    line(cases((advantage, counts), (0, True)), "away from the kinks, < and ≤ are the same", by=smt()),
    part="in the ratio",
)

at_ratio = cases((advantage, counts.subs(rho, ratio())), (0, True))

derive(
    "ppo.clip.gradient",
    line(
        at_ratio * ratio(),
        "the chain rule: the slope in the ratio, times that of the ratio, which is its own",
        by=chain_rule(inner="ppo.ratio.gradient", outer="in the ratio", at={rho: ratio()}),
    ),
    line(clip_slope(ratio()), "the factor enters both cases", by=smt()),
    part="in the log-probability",
)

derive(
    "ppo.dual_clip.gradient",
    line(
        cases(
            (advantage, And(positive, rho < upper_edge)),
            (advantage, And(negative, rho > lower_edge, rho < dual_clip)),
            (0, True),
        ),
        "by cases: as without the cap, and for A < 0 constant again once the ratio exceeds c",
        by=slope(radius=Min(abs(rho - upper_edge), abs(rho - lower_edge), abs(rho - dual_clip))),
    ),
    line(cases((advantage, dual_counts), (0, True)), "away from the kinks, < and ≤ are the same", by=smt()),
    part="in the ratio",
)

derive(
    "ppo.dual_clip.bound",
    line(
        Max(surrogate, dual_clip * advantage),
        "for a negative advantage the definition takes the larger of the two",
        by=smt(),
    ),
    line(dual_clip * advantage, "a maximum is at least its second argument", sign="≥"),
    part="bound",
)

derive(
    "ppo.dual_clip.bound",
    line(
        Max(advantage * Max(rho, lower_edge), dual_clip * advantage), "only the lower side of the clip acts", by=smt()
    ),
    line(
        advantage * Min(Max(rho, lower_edge), dual_clip),
        "take A out of the maximum, which a negative A turns into a minimum",
        by=smt(),
    ),
    part="sign form",
)

derive(
    "ppo.entropy_bonus.gradient",
    line(entropy_coef * Diff(entropy(), logits[k]), "the coefficient is a constant"),
    line(
        entropy_coef * entropy_slope,
        "the gradient of the entropy",
        by=smt(given=[fact("policy.entropy.gradient", part="temperature")]),
    ),
)

derive(
    "ppo.value_clip.gradient",
    line(
        Diff(value_loss(), value),
        "within the clip the value is not clipped: both errors are the same",
        by=near(value_loss(), radius=value_clip - abs(value - old_value)),
    ),
    line(value - returns, "half a square has the slope of what is squared"),
    part="within the clip",
)

every_penalty = sum_over(counted[t] * penalty[t], t)

derive(
    "ppo.kl_in_reward",
    line(sum_over(last[t] * rewards, t) - kl_coef * every_penalty, "the sum of each term"),
    line(rewards - kl_coef * every_penalty, "the reward is given once"),
    part="any penalty",
)

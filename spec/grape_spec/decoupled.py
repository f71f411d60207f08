"""Decoupled PPO: the clip compares with one policy, and a constant weight corrects for the sampler.

J. Hilton et al., Batch size-invariance for policy optimization, arXiv:2110.00641; its text was not compared. The policy
that the clip compares with is the proximal policy.
"""

from sympy import And, Max, Min

from grape_spec.importance import importance_ratio, sampler_logp
from grape_spec.importance_loss import HILTON
from grape_spec.language import (
    Diff,
    Positive,
    at_least,
    at_most,
    claim,
    define,
    differs,
    equals,
    greater,
    holds,
    iff,
    less,
    symbol,
    wrong,
)
from grape_spec.policy import logp
from grape_spec.ppo import (
    advantage,
    clip_high,
    clip_low,
    clip_slope,
    clipped_surrogate,
    lower_edge,
    old_logp,
    ratio,
    rho,
    upper_edge,
)
from grape_spec.proof.rules import algebra, by_terms, fact, smt

correction = symbol("proximal_weight", Positive, "ratio of the proximal policy to the sampler, a constant", tex=r"\eta")

# old_logp is that of the proximal policy, which the trainer computes; rho is the ratio to it.

objective = define(
    "importance.decoupled",
    "Clipped surrogate of a token against the proximal policy, times a constant, to be maximised.",
    (rho, advantage, clip_low, clip_high, correction),
    correction * clipped_surrogate(),
    tex=r"L_{{\mathrm{{dec}}}}({rho})",
    source=HILTON,
)

to_sampler = importance_ratio(logp, sampler_logp)
weight = importance_ratio(old_logp, sampler_logp)
no_kink = [differs(ratio(), upper_edge), differs(ratio(), lower_edge)]
DECOUPLED = "importance.decoupled.gradient"
SLOPE = fact("ppo.clip.gradient", part="in the log-probability")

claim(
    DECOUPLED,
    "Inside the clip a token has the slope of the unclipped surrogate in the ratio to the sampler, as the two ratios "
    "multiply; outside it has none, whatever the sampler is. If the sampler is the proximal policy, it is PPO.",
    holds(equals(weight * ratio(), to_sampler), name="the ratios multiply", by=algebra()),
    holds(
        equals(Diff(objective(ratio()), logp), correction * clip_slope(ratio())),
        name="slope",
        assuming=no_kink,
        by=by_terms(SLOPE),
    ),
    holds(
        equals(correction * clip_slope(), correction * rho * advantage),
        name="inside the clip, rising",
        assuming=[greater(advantage, 0), at_most(rho, upper_edge)],
        by=smt(),
    ),
    holds(
        equals(correction * clip_slope(), correction * rho * advantage),
        name="inside the clip, falling",
        assuming=[less(advantage, 0), at_least(rho, lower_edge)],
        by=smt(),
    ),
    holds(
        equals(correction * clip_slope(), 0),
        name="outside, above",
        assuming=[greater(advantage, 0), greater(rho, upper_edge)],
        by=smt(),
    ),
    holds(
        equals(correction * clip_slope(), 0),
        name="outside, below",
        assuming=[less(advantage, 0), less(rho, lower_edge)],
        by=smt(),
    ),
    holds(equals(objective(proximal_weight=1), clipped_surrogate()), name="PPO", by=smt()),
    holds(equals(importance_ratio(old_logp, old_logp), 1), name="the weight on policy", by=algebra()),
    uses=["importance.weighted_loss"],
    source=HILTON,
    wrong=[
        wrong(
            "the slope of PPO",
            equals(Diff(objective(ratio()), logp), clip_slope(ratio())),
            assuming=no_kink,
        ),
        wrong(
            "the weight differentiated with the proximal policy",
            equals(
                Diff(importance_ratio(logp, sampler_logp) * clipped_surrogate(ratio()), logp),
                correction * clip_slope(ratio()),
            ),
            assuming=no_kink,
        ),
        wrong(
            "outside the clip the weight goes on",
            equals(correction * clip_slope(), correction * rho * advantage),
            assuming=[greater(advantage, 0), greater(rho, upper_edge)],
        ),
    ],
)

product = correction * rho
lowest, highest = lower_edge * correction, upper_edge * correction

claim(
    "importance.decoupled.range",
    "In the ratio to the sampler it is PPO with a range that moves along, [(1 − ε)η, (1 + ε')η], around the weight of "
    "the token, η, and not around 1.",
    holds(
        equals(objective(), advantage * Min(product, highest)),
        name="rising",
        assuming=[at_least(advantage, 0)],
        by=smt(),
    ),
    holds(
        equals(objective(), advantage * Max(product, lowest)),
        name="falling",
        assuming=[less(advantage, 0)],
        by=smt(),
    ),
    holds(
        iff(
            And(lower_edge <= rho, rho <= upper_edge),
            And(lowest <= product, product <= highest),
        ),
        name="range",
        by=smt(),
    ),
    source=HILTON,
    wrong=[
        wrong("the range is around 1", equals(objective(), clipped_surrogate(product))),
        wrong(
            "the range is divided by the weight",
            equals(objective(), advantage * Min(product, upper_edge / correction)),
            assuming=[at_least(advantage, 0)],
        ),
        wrong(
            "corrected twice: a clip of the ratio to the sampler, and the weight",
            equals(objective(product), objective()),
        ),
    ],
)

"""Weights in policy losses: a weight on the loss of a token is a factor of its advantage.

In this form J. Hilton et al., Batch size-invariance for policy optimization, arXiv:2110.00641, decouple PPO from the
policy that sampled the tokens; its text was not compared.
"""

from grape_spec.grpo import cispo_objective, kl_term, token_objective
from grape_spec.kl_penalty import kl_coef
from grape_spec.language import (
    NonNegative,
    Real,
    Source,
    claim,
    equals,
    greater,
    holds,
    symbol,
    wrong,
)
from grape_spec.ppo import (
    advantage,
    clip_slope,
    clipped_surrogate,
    dual_clipped_surrogate,
    ratio,
    rho,
)
from grape_spec.proof.rules import algebra, fact, smt
from grape_spec.reinforce import token_loss
from grape_spec.sapo import gate_temperature
from grape_spec.sapo import objective as sapo_objective
from grape_spec.trpo import surrogate

HILTON = Source("hilton2022batch")

weight = symbol("correction", NonNegative, "weight of a token, a constant", tex=r"\eta")
any_weight = symbol("any_correction", Real, "a factor of any sign", tex=r"\nu")
weighted = weight * advantage

LOSS = "importance.weighted_loss"

claim(
    LOSS,
    "A weight that is not negative may be put on the policy loss of a token or on its advantage: the loss is the same, "
    "with PPO's clip, its dual clip, or without a clip, for REINFORCE, CISPO and SAPO. On the advantage it leaves the "
    "KL penalty as it is.",
    holds(equals(weight * clipped_surrogate(), clipped_surrogate(advantage=weighted)), name="PPO", by=smt()),
    holds(
        equals(weight * dual_clipped_surrogate(), dual_clipped_surrogate(advantage=weighted)),
        name="dual clip",
        by=smt(),
    ),
    holds(equals(weight * clip_slope(), clip_slope(advantage=weighted)), name="slope of PPO", by=smt()),
    holds(equals(weight * surrogate(), surrogate(advantage=weighted)), name="without a clip", by=algebra()),
    holds(equals(weight * token_loss(), token_loss(advantage=weighted)), name="REINFORCE", by=algebra()),
    holds(equals(weight * cispo_objective(), cispo_objective(advantage=weighted)), name="CISPO", by=algebra()),
    holds(equals(weight * sapo_objective(), sapo_objective(advantage=weighted)), name="SAPO", by=algebra()),
    holds(
        equals(gate_temperature(advantage=weighted), gate_temperature()),
        name="SAPO's temperature",
        assuming=[greater(weight, 0)],
        by=smt(),
    ),
    holds(
        equals(
            clipped_surrogate(ratio(), weighted) - kl_coef * kl_term,
            weight * clipped_surrogate(ratio()) - kl_coef * kl_term,
        ),
        name="GRPO, whose KL penalty has no weight",
        by=smt(given=[fact(LOSS, part="PPO", rho=ratio())]),
    ),
    source=HILTON,
    wrong=[
        wrong(
            "for a negative factor, too",
            equals(any_weight * clipped_surrogate(), clipped_surrogate(advantage=any_weight * advantage)),
        ),
        wrong("the weight within the clip", equals(weight * clipped_surrogate(), clipped_surrogate(weight * rho))),
        wrong(
            "the KL penalty is weighted, too",
            equals(token_objective(advantage=weighted), weight * token_objective()),
        ),
    ],
)

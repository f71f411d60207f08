"""Proximal policy optimisation: the clipped surrogate of one token, the value loss, and the entropy bonus.

J. Schulman et al., Proximal Policy Optimization Algorithms, arXiv:1707.06347, section 3. The dual clip is due to
D. Ye et al., Mastering Complex Control in MOBA Games with Deep Reinforcement Learning, arXiv:1912.09729.
"""

from sympy import And, Eq, Max, Min, Or, exp, log

from grape_spec.advantage import value
from grape_spec.language import (
    Diff,
    NonNegative,
    OneSided,
    Open,
    Positive,
    Real,
    Source,
    at_least,
    at_most,
    cases,
    claim,
    clip,
    define,
    differs,
    equals,
    greater,
    holds,
    less,
    symbol,
    wrong,
)
from grape_spec.policy import entropy, k, logits, logp, scaled, softmax, temperature
from grape_spec.proof.rules import algebra, by_terms, chain_rule, fact, near, slope, smt

SCHULMAN = Source("schulman2017ppo")
YE = Source("ye2020mastering")
ENGSTROM = Source("engstrom2020implementation")

old_logp = symbol(
    "old_logp", Real, "log-probability of the token under the old policy, which sampled it", tex=r"\ell_{\mathrm{old}}"
)
advantage = symbol("advantage", Real, "advantage of the token", tex="A")
rho = symbol("rho", Positive, "probability ratio, new policy over old", tex=r"\rho")
clip_low = symbol("clip_low", NonNegative, "distance of the lower clip edge from 1", tex=r"\varepsilon")
clip_high = symbol("clip_high", NonNegative, "distance of the upper clip edge from 1", tex=r"\varepsilon'")
dual_clip = symbol("dual_clip", Open(1), "cap on the ratio where the advantage is negative", tex="c")

lower_edge, upper_edge = 1 - clip_low, 1 + clip_high

ratio = define(
    "ppo.ratio",
    "Probability ratio of a token, new policy over old.",
    (logp, old_logp),
    exp(logp - old_logp),
    tex=r"\rho",
    domain=Positive,
    source=SCHULMAN.eq(6),
)

clipped_surrogate = define(
    "ppo.clipped_surrogate",
    "Clipped surrogate objective of a token, to be maximised.",
    (rho, advantage, clip_low, clip_high),
    Min(rho * advantage, clip(rho, lower_edge, upper_edge) * advantage),
    tex=r"L^{{\mathrm{{CLIP}}}}({rho})",
    source=SCHULMAN.eq(7),
)

counts = Or(And(advantage > 0, rho <= upper_edge), And(advantage < 0, rho >= lower_edge))

clip_slope = define(
    "ppo.clip.slope",
    "Slope of the clipped surrogate in the log-probability; at a kink, by convention, the slope of the unclipped side.",
    (rho, advantage, clip_low, clip_high),
    cases((rho * advantage, counts), (0, True)),
    tex=r"\psi({rho})",
    convention=True,
)

surrogate = clipped_surrogate()
upper_kink = And(Eq(rho, upper_edge), greater(advantage, 0))
lower_kink = And(Eq(rho, lower_edge), less(advantage, 0))
no_kink = [differs(rho, upper_edge), differs(rho, lower_edge)]

claim(
    "ppo.ratio.gradient",
    "The ratio is its own derivative with respect to the log-probability.",
    holds(equals(Diff(ratio(), logp), ratio()), by=algebra()),
    wrong=[wrong("the derivative of the log-ratio", equals(Diff(ratio(), logp), 1))],
)

moves = Or(And(advantage > 0, rho < upper_edge), And(advantage < 0, rho > lower_edge))
rests = Or(And(advantage > 0, rho > upper_edge), And(advantage < 0, rho < lower_edge), Eq(advantage, 0))

sign_form = cases(
    (advantage * Min(rho, upper_edge), advantage >= 0),
    (advantage * Max(rho, lower_edge), True),
)

claim(
    "ppo.clip.sign_form",
    "Only one side of the clip acts: the upper for a positive advantage, the lower for a negative one.",
    holds(equals(surrogate, sign_form), by=smt()),
    wrong=[
        wrong(
            "the sides swapped",
            equals(
                surrogate,
                cases((advantage * Max(rho, lower_edge), advantage >= 0), (advantage * Min(rho, upper_edge), True)),
            ),
        ),
        wrong("both sides at once", equals(surrogate, advantage * clip(rho, lower_edge, upper_edge))),
    ],
)

claim(
    "ppo.clip.lower_bound",
    "Clipping is pessimistic: the clipped surrogate never exceeds the unclipped one.",
    holds(at_most(surrogate, rho * advantage), by=smt()),
    wrong=[
        wrong(
            "clip without the minimum",
            at_most(clip(rho, lower_edge, upper_edge) * advantage, rho * advantage),
        ),
        wrong(
            "the maximum in place of the minimum",
            at_most(Max(rho * advantage, clip(rho, lower_edge, upper_edge) * advantage), rho * advantage),
        ),
    ],
)

claim(
    "ppo.clip.first_order",
    "Where the policies agree, the clipped surrogate has the value and the slope of the unclipped one.",
    holds(equals(clipped_surrogate(1), advantage), name="value", by=smt()),
    holds(
        equals(OneSided(surrogate, rho, 1, 1), advantage),
        name="slope from above",
        assuming=[greater(clip_high, 0)],
        by=slope(radius=clip_high),
    ),
    holds(
        equals(OneSided(surrogate, rho, 1, -1), advantage),
        name="slope from below",
        assuming=[greater(clip_low, 0)],
        by=slope(radius=clip_low),
    ),
    source=SCHULMAN.section(3),
    wrong=[
        wrong(
            "also for a clip interval of width zero",
            equals(OneSided(surrogate, rho, 1, 1), advantage),
            assuming=[equals(clip_high, 0)],
        ),
    ],
)

claim(
    "ppo.clip.gradient",
    "The gradient vanishes once the ratio passes the clip edge that its advantage pushes it towards.",
    holds(
        equals(Diff(surrogate, rho), cases((advantage, counts), (0, True))),
        name="in the ratio",
        assuming=no_kink,
        by=slope(radius=Min(abs(rho - upper_edge), abs(rho - lower_edge))),
    ),
    holds(
        equals(Diff(clipped_surrogate(ratio()), logp), clip_slope(ratio())),
        name="in the log-probability",
        assuming=[differs(ratio(), upper_edge), differs(ratio(), lower_edge)],
        by=chain_rule(inner="ppo.ratio.gradient", outer="in the ratio", at={rho: ratio()}),
    ),
    holds(
        Or(moves, rests, Eq(rho, upper_edge), Eq(rho, lower_edge)), name="the regions cover all but the kinks", by=smt()
    ),
    wrong=[
        wrong(
            "the slope of the unclipped surrogate everywhere",
            equals(Diff(surrogate, rho), advantage),
            assuming=no_kink,
        ),
        wrong(
            "clipped on the wrong side",
            equals(
                Diff(surrogate, rho),
                cases(
                    (advantage, Or(And(advantage < 0, rho < upper_edge), And(advantage > 0, rho > lower_edge))),
                    (0, True),
                ),
            ),
            assuming=no_kink,
        ),
        wrong(
            "zero wherever the ratio leaves the interval",
            equals(
                Diff(surrogate, rho),
                cases((advantage, And(rho > lower_edge, rho < upper_edge)), (0, True)),
            ),
            assuming=no_kink,
        ),
        wrong(
            "in the log-probability, without the factor of the ratio",
            equals(Diff(clipped_surrogate(ratio()), logp), cases((advantage, counts.subs(rho, ratio())), (0, True))),
            assuming=[differs(ratio(), upper_edge), differs(ratio(), lower_edge)],
        ),
    ],
)

claim(
    "ppo.clip.kink",
    "At a kink the one-sided slopes are A and 0; the convention takes A, the slope of the unclipped side.",
    holds(
        equals(OneSided(surrogate, rho, upper_edge, -1), advantage),
        name="upper kink from below",
        assuming=[greater(advantage, 0)],
        by=slope(radius=upper_edge),
    ),
    holds(
        equals(OneSided(surrogate, rho, upper_edge, 1), 0),
        name="upper kink from above",
        assuming=[greater(advantage, 0)],
        by=slope(radius=1),
    ),
    holds(
        equals(OneSided(surrogate, rho, lower_edge, 1), advantage),
        name="lower kink from above",
        assuming=[less(advantage, 0)],
        by=slope(radius=1),
    ),
    holds(
        equals(OneSided(surrogate, rho, lower_edge, -1), 0),
        name="lower kink from below",
        assuming=[less(advantage, 0), less(clip_low, 1)],
        by=slope(radius=lower_edge),
    ),
    holds(equals(clip_slope(), rho * advantage), name="kept at the upper kink", assuming=[upper_kink], by=smt()),
    holds(equals(clip_slope(), rho * advantage), name="kept at the lower kink", assuming=[lower_kink], by=smt()),
    wrong=[
        wrong(
            "no kink: the slope from above is A, too",
            equals(OneSided(surrogate, rho, upper_edge, 1), advantage),
            assuming=[greater(advantage, 0)],
        ),
        wrong(
            "a kink also for a negative advantage at the upper edge",
            equals(OneSided(surrogate, rho, upper_edge, 1), 0),
            assuming=[less(advantage, 0)],
        ),
    ],
)

dual_clipped_surrogate = define(
    "ppo.dual_clipped_surrogate",
    "Clipped surrogate that a negative advantage cannot drive below cA, to be maximised.",
    (rho, advantage, clip_low, clip_high, dual_clip),
    cases(
        (Max(clipped_surrogate(), dual_clip * advantage), advantage < 0),
        (clipped_surrogate(), True),
    ),
    tex=r"L_{{\mathrm{{dual}}}}({rho})",
    source=YE,
)

dual_counts = Or(
    And(advantage > 0, rho <= upper_edge),
    And(advantage < 0, rho >= lower_edge, rho <= dual_clip),
)

dual_clip_slope = define(
    "ppo.dual_clip.slope",
    "Slope of the dual-clipped surrogate in the log-probability; at a kink, by convention, the slope of the "
    "unclipped side.",
    (rho, advantage, clip_low, clip_high, dual_clip),
    cases((rho * advantage, dual_counts), (0, True)),
    tex=r"\psi_{{\mathrm{{dual}}}}({rho})",
    convention=True,
)

dual_surrogate = dual_clipped_surrogate()

claim(
    "ppo.dual_clip.bound",
    "For a negative advantage the dual clip bounds the objective from below by cA and never lowers it; for any other "
    "it has no effect.",
    holds(
        at_least(dual_surrogate, dual_clip * advantage),
        name="bound",
        assuming=[less(advantage, 0)],
        by=smt(),
    ),
    holds(at_least(dual_surrogate, surrogate), name="never lower", by=smt()),
    holds(
        equals(dual_surrogate, surrogate),
        name="no effect",
        assuming=[at_least(advantage, 0)],
        by=smt(),
    ),
    holds(
        equals(dual_surrogate, advantage * Min(Max(rho, lower_edge), dual_clip)),
        name="sign form",
        assuming=[less(advantage, 0)],
        by=smt(),
    ),
    source=YE,
    wrong=[
        wrong(
            "applied to a positive advantage, too",
            equals(Max(surrogate, dual_clip * advantage), surrogate),
            assuming=[greater(advantage, 0)],
        )
    ],
)

claim(
    "ppo.dual_clip.gradient",
    "With the dual clip, the gradient at a negative advantage also vanishes once the ratio exceeds c.",
    holds(
        equals(Diff(dual_surrogate, rho), cases((advantage, dual_counts), (0, True))),
        name="in the ratio",
        assuming=[*no_kink, differs(rho, dual_clip)],
        by=slope(radius=Min(abs(rho - upper_edge), abs(rho - lower_edge), abs(rho - dual_clip))),
    ),
    holds(
        equals(Diff(dual_clipped_surrogate(ratio()), logp), dual_clip_slope(ratio())),
        name="in the log-probability",
        assuming=[
            differs(ratio(), upper_edge),
            differs(ratio(), lower_edge),
            differs(ratio(), dual_clip),
        ],
        by=chain_rule(inner="ppo.ratio.gradient", outer="in the ratio", at={rho: ratio()}),
    ),
    source=YE,
    wrong=[
        wrong(
            "no cap on the ratio",
            equals(Diff(dual_surrogate, rho), cases((advantage, counts), (0, True))),
            assuming=[*no_kink, differs(rho, dual_clip)],
        )
    ],
)

# The value loss.

returns = symbol("returns", Real, "return that the value predicts", tex="R")
old_value = symbol("old_value", Real, "value predicted by the critic at the time of sampling", tex=r"V_{\mathrm{old}}")
value_clip = symbol("clip", Positive, "distance of the clip edges from the old value", tex="c_V")

lowest, highest = old_value - value_clip, old_value + value_clip

value_loss = define(
    "ppo.value_loss",
    "Half the squared error of a value.",
    (value, returns),
    (value - returns) ** 2 / 2,
    tex=r"L^{{\mathrm{{VF}}}}({value})",
    source=SCHULMAN.eq(9),
)

clipped_value_loss = define(
    "ppo.clipped_value_loss",
    "The larger of the losses of the value and of the value clipped to lie near the old one, to be minimised.",
    (value, returns, old_value, value_clip),
    Max((value - returns) ** 2, (clip(value, lowest, highest) - returns) ** 2) / 2,
    tex=r"L^{{\mathrm{{VF}}}}_{{\mathrm{{clip}}}}({value})",
    source=ENGSTROM,
)

error = abs(value - returns)
clipped_error = abs(clip(value, lowest, highest) - returns)

value_slope = define(
    "ppo.value_clip.slope",
    "Slope of the clipped value loss; where the two losses are equal, by convention, the slope of the unclipped one.",
    (value, returns, old_value, value_clip),
    cases((value - returns, error >= clipped_error), (0, True)),
    tex=r"\psi_{{\mathrm{{VF}}}}({value})",
    convention=True,
)

value_objective = clipped_value_loss()
inside = less(abs(value - old_value), value_clip)
outside = greater(abs(value - old_value), value_clip)

claim(
    "ppo.value_clip.bound",
    "Clipping is pessimistic: the loss is never below the unclipped one, and equals it while the value has moved no "
    "further than the clip.",
    holds(at_least(value_objective, value_loss()), name="bound", by=smt()),
    holds(
        equals(value_objective, value_loss()),
        name="no effect",
        assuming=[at_most(abs(value - old_value), value_clip)],
        by=smt(),
    ),
    wrong=[
        wrong(
            "the smaller of the two squares",
            at_least(Min((value - returns) ** 2, (clip(value, lowest, highest) - returns) ** 2) / 2, value_loss()),
        ),
        wrong("clipped to lie near the return", equals(clipped_value_loss(old_value=returns), value_objective)),
    ],
)

RESTS = {
    "left: clipped_value_loss → clipped_value_loss + 1": "true: a constant loss stays constant with a number added",
    "left: clipped_value_loss → -clipped_value_loss": "true: a constant loss stays constant with its sign changed",
    "left: clipped_value_loss → 2*clipped_value_loss": "true: a constant loss stays constant when doubled",
}

claim(
    "ppo.value_clip.gradient",
    "The gradient is that of the unclipped loss, except that it vanishes outside the clip while the value is nearer "
    "to its return than the clipped value.",
    holds(
        equals(Diff(value_objective, value), value - returns),
        name="within the clip",
        assuming=[inside],
        by=near(value_loss(), radius=value_clip - abs(value - old_value)),
    ),
    holds(
        equals(Diff(value_objective, value), value - returns),
        name="beyond it, the unclipped error larger",
        assuming=[outside, greater(error, clipped_error)],
        by=near(value_loss(), radius=Min(abs(value - old_value) - value_clip, error - clipped_error)),
    ),
    holds(
        equals(Diff(value_objective, value), 0),
        name="above it, the clipped error larger",
        assuming=[greater(value, highest), less(error, clipped_error)],
        by=near((highest - returns) ** 2 / 2, radius=Min(value - highest, clipped_error - error)),
        equivalent={
            **RESTS,
            "left: returns → returns + 1": "true: a return further up is further from the clipped value, too",
            "left: clip → -clip": "true: the value is then clipped below, still further from its return",
        },
    ),
    holds(
        equals(Diff(value_objective, value), 0),
        name="below it, the clipped error larger",
        assuming=[less(value, lowest), less(error, clipped_error)],
        by=near((lowest - returns) ** 2 / 2, radius=Min(lowest - value, clipped_error - error)),
        equivalent={
            **RESTS,
            "left: old_value → old_value + 1": "true: an old value further up is further from the return, too",
        },
    ),
    holds(
        Or(
            And(outside, greater(error, clipped_error)),
            And(greater(value, highest), less(error, clipped_error)),
            And(less(value, lowest), less(error, clipped_error)),
        ),
        name="the regions beyond it cover all but ties",
        assuming=[differs(error, clipped_error)],
        by=smt(),
    ),
    holds(equals(value_slope(), value - returns), name="kept within the clip", assuming=[inside], by=smt()),
    holds(
        equals(value_slope(), value - returns),
        name="kept at a tie",
        assuming=[equals(error, clipped_error)],
        by=smt(),
    ),
    wrong=[
        wrong(
            "zero wherever the value leaves the interval",
            equals(Diff(value_objective, value), 0),
            assuming=[outside, differs(error, clipped_error)],
        ),
        wrong(
            "the slope of the clipped error where that is larger",
            equals(Diff(value_objective, value), clip(value, lowest, highest) - returns),
            assuming=[outside, less(error, clipped_error)],
        ),
        wrong(
            "without the factor one half",
            equals(Diff(value_objective, value), 2 * (value - returns)),
            assuming=[inside],
        ),
    ],
)

# The entropy bonus.

entropy_coef = symbol("entropy_coef", NonNegative, "weight of the entropy in the objective", tex="c_H")

entropy_bonus = define(
    "ppo.entropy_bonus",
    "The entropy bonus of a position in the objective.",
    (entropy_coef, logits, temperature),
    entropy_coef * entropy(),
    tex="b_H",
    source=SCHULMAN.eq(9),
)

entropy_slope = -softmax(k, scaled) * (log(softmax(k, scaled)) + entropy()) / temperature

claim(
    "ppo.entropy_bonus.gradient",
    "The bonus raises a logit if the surprisal of its token exceeds the entropy, and lowers it otherwise.",
    holds(
        equals(Diff(entropy_bonus(), logits[k]), entropy_coef * entropy_slope),
        by=by_terms(fact("policy.entropy.gradient", part="temperature")),
    ),
    source=SCHULMAN.eq(9),
    wrong=[
        wrong(
            "the sign flipped, as in a loss", equals(Diff(entropy_bonus(), logits[k]), -entropy_coef * entropy_slope)
        ),
        wrong(
            "the entropy of the sampled token alone",
            equals(
                Diff(entropy_bonus(), logits[k]),
                -entropy_coef * softmax(k, scaled) * log(softmax(k, scaled)) / temperature,
            ),
        ),
    ],
)

"""Proximal policy optimisation: the clipped surrogate of one token.

J. Schulman et al., Proximal Policy Optimization Algorithms, arXiv:1707.06347, section 3. The dual clip is due to
D. Ye et al., Mastering Complex Control in MOBA Games with Deep Reinforcement Learning, arXiv:1912.09729.
"""

from sympy import And, Eq, Max, Min, Or, exp

from grape_spec.language import (
    Definition,
    Diff,
    NonNegative,
    OneSided,
    Open,
    Positive,
    Real,
    Source,
    Wrong,
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
)
from grape_spec.policy import logp
from grape_spec.proof.rules import algebra, chain_rule, slope, smt

SCHULMAN = Source("schulman2017ppo")
YE = Source("ye2020mastering")

old_logp = symbol("old_logp", Real, "the same under the policy that sampled", tex=r"\ell_{\mathrm{old}}")
advantage = symbol("advantage", Real, "advantage of the token", tex="A")
rho = symbol("rho", Positive, "probability ratio, new policy over old", tex=r"\rho")
clip_low = symbol("clip_low", NonNegative, "how far below 1 the ratio counts", tex=r"\varepsilon")
clip_high = symbol("clip_high", NonNegative, "how far above 1 the ratio counts", tex=r"\varepsilon'")
dual_clip = symbol("dual_clip", Open(1), "cap on the ratio where the advantage is negative", tex="c")

lower_edge, upper_edge = 1 - clip_low, 1 + clip_high

ratio = define(
    Definition(
        "ppo.ratio",
        "Probability ratio of a token, new policy over old.",
        (logp, old_logp),
        exp(logp - old_logp),
        tex=r"\rho",
        domain=Positive,
        source=SCHULMAN.eq(6),
    )
)

clipped_surrogate = define(
    Definition(
        "ppo.clipped_surrogate",
        "Clipped surrogate objective of a token, to be maximised.",
        (rho, advantage, clip_low, clip_high),
        Min(rho * advantage, clip(rho, lower_edge, upper_edge) * advantage),
        tex=r"L({rho})",
        source=SCHULMAN.eq(7),
    )
)

counts = Or(And(advantage > 0, rho <= upper_edge), And(advantage < 0, rho >= lower_edge))

clip_slope = define(
    Definition(
        "ppo.clip.slope",
        "Slope of the clipped surrogate in the log-probability; at a kink, by convention, that of the unclipped side.",
        (rho, advantage, clip_low, clip_high),
        cases((rho * advantage, counts), (0, True)),
        tex=r"L'({rho})",
        convention=True,
    )
)

surrogate = clipped_surrogate()
upper_kink = And(Eq(rho, upper_edge), greater(advantage, 0))
lower_kink = And(Eq(rho, lower_edge), less(advantage, 0))
no_kink = [differs(rho, upper_edge), differs(rho, lower_edge)]

claim(
    "ppo.ratio.gradient",
    "The ratio is its own derivative with respect to the log-probability.",
    holds(equals(Diff(ratio(), logp), ratio()), by=algebra()),
    wrong=[Wrong("the derivative of the log-ratio", equals(Diff(ratio(), logp), 1))],
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
        Wrong(
            "the sides exchanged",
            equals(
                surrogate,
                cases((advantage * Max(rho, lower_edge), advantage >= 0), (advantage * Min(rho, upper_edge), True)),
            ),
        ),
        Wrong("both sides at once", equals(surrogate, advantage * clip(rho, lower_edge, upper_edge))),
    ],
)

claim(
    "ppo.clip.lower_bound",
    "Clipping is pessimistic: it never promises more than the unclipped surrogate.",
    holds(at_most(surrogate, rho * advantage), by=smt()),
    wrong=[
        Wrong(
            "clip without the minimum",
            at_most(clip(rho, lower_edge, upper_edge) * advantage, rho * advantage),
        ),
        Wrong(
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
        Wrong(
            "also where the interval has no width",
            equals(OneSided(surrogate, rho, 1, 1), advantage),
            assuming=(equals(clip_high, 0),),
        ),
    ],
)

claim(
    "ppo.clip.gradient",
    "A token pushes on the policy only while moving it further would still count.",
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
        Wrong(
            "the slope of the unclipped surrogate everywhere",
            equals(Diff(surrogate, rho), advantage),
            assuming=tuple(no_kink),
        ),
        Wrong(
            "clipped on the wrong side",
            equals(
                Diff(surrogate, rho),
                cases(
                    (advantage, Or(And(advantage < 0, rho < upper_edge), And(advantage > 0, rho > lower_edge))),
                    (0, True),
                ),
            ),
            assuming=tuple(no_kink),
        ),
        Wrong(
            "zero wherever the ratio leaves the interval",
            equals(
                Diff(surrogate, rho),
                cases((advantage, And(rho > lower_edge, rho < upper_edge)), (0, True)),
            ),
            assuming=tuple(no_kink),
        ),
        Wrong(
            "in the log-probability, without the ratio",
            equals(Diff(clipped_surrogate(ratio()), logp), cases((advantage, counts.subs(rho, ratio())), (0, True))),
            assuming=(differs(ratio(), upper_edge), differs(ratio(), lower_edge)),
        ),
    ],
)

claim(
    "ppo.clip.kink",
    "At a kink the slopes from the two sides are A and 0; the code keeps A, the slope of the unclipped side.",
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
        Wrong(
            "no kink at all: the slope from above is A, too",
            equals(OneSided(surrogate, rho, upper_edge, 1), advantage),
            assuming=(greater(advantage, 0),),
        ),
        Wrong(
            "a kink also for a negative advantage at the upper edge",
            equals(OneSided(surrogate, rho, upper_edge, 1), 0),
            assuming=(less(advantage, 0),),
        ),
    ],
)

dual_clipped_surrogate = define(
    Definition(
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
)

dual_counts = Or(
    And(advantage > 0, rho <= upper_edge),
    And(advantage < 0, rho >= lower_edge, rho <= dual_clip),
)

dual_clip_slope = define(
    Definition(
        "ppo.dual_clip.slope",
        "Slope of the dual-clipped surrogate in the log-probability; at a kink, that of the unclipped side.",
        (rho, advantage, clip_low, clip_high, dual_clip),
        cases((rho * advantage, dual_counts), (0, True)),
        tex=r"L_{{\mathrm{{dual}}}}'({rho})",
        convention=True,
    )
)

dual_surrogate = dual_clipped_surrogate()

claim(
    "ppo.dual_clip.bound",
    "The dual clip bounds the objective from below by cA, raises it at most for a negative advantage, and changes "
    "nothing for any other.",
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
        Wrong(
            "applied to a positive advantage, too",
            equals(Max(surrogate, dual_clip * advantage), surrogate),
            assuming=(greater(advantage, 0),),
        )
    ],
)

claim(
    "ppo.dual_clip.gradient",
    "With the dual clip, a token of negative advantage pushes only while its ratio is at most c.",
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
        Wrong(
            "no cap on the ratio",
            equals(Diff(dual_surrogate, rho), cases((advantage, counts), (0, True))),
            assuming=(*no_kink, differs(rho, dual_clip)),
        )
    ],
)

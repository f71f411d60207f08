"""Advantages within a group of responses to one prompt: rewards relative to the mean and the spread of the group.

Z. Shao et al., DeepSeekMath, arXiv:2402.03300, section 4.1. Without the scale: Dr. GRPO (Z. Liu et al.,
arXiv:2503.20783).
"""

from sympy import Lambda, Max, sqrt

from grape_spec.advantage import ddof, eps
from grape_spec.aggregation import DR_GRPO
from grape_spec.language import (
    Mask,
    NonNegative,
    Open,
    Positive,
    Real,
    Source,
    at_least,
    at_most,
    cases,
    claim,
    define,
    delta,
    equals,
    family,
    greater,
    holds,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.proof.rules import fact, finite_sum, smt, termwise
from grape_spec.reinforce import G, g, h, response_reward

SHAO = Source("shao2024deepseekmath")

deviation = symbol("deviation", Real, "a reward minus its baseline", tex="d")
squares = symbol("squares", NonNegative, "sum of the squared deviations of a group", tex=r"\mathrm{SS}")
divisor = symbol("divisor", Positive, "divisor of the sum of squared deviations in the variance", tex="N")

group_mean = define(
    "grpo.group_mean",
    "Mean reward of a group.",
    (response_reward,),
    sum_over(response_reward[h], h) / G,
    tex=r"\overline{{{response_reward}}}",
    source=SHAO.section("4.1"),
)

centred = define(
    "grpo.centred",
    "Reward minus the mean of its group: the advantage without a scale.",
    (g, response_reward),
    response_reward[g] - group_mean(),
    tex=r"({response_reward}_{{{g}}} - \overline{{{response_reward}}})",
    source=DR_GRPO,
)

left_out = define(
    "grpo.left_out",
    "Reward minus the mean of the other rewards of its group; 0 by convention in a group of one.",
    (g, response_reward),
    sum_over(response_reward[g] - response_reward[h], h) / Max(1, G - 1),
    tex=r"({response_reward}_{{{g}}} - \overline{{{response_reward}}}_{{-{g}}})",
    convention=True,
)

group_spread = define(
    "grpo.group_spread",
    "Sum of the squared deviations of a group from its mean.",
    (response_reward,),
    sum_over(centred(h) ** 2, h),
    tex=r"\mathrm{{SS}}({response_reward})",
)

group_variance = define(
    "grpo.group_variance",
    "Variance of the rewards of a group.",
    (response_reward, ddof),
    sum_over(centred(h) ** 2, h) / (G - ddof),
    tex=r"\mathrm{{std}}^2({response_reward})",
)

group_std = define(
    "grpo.group_std",
    "Standard deviation of the rewards of a group.",
    (response_reward, ddof),
    sqrt(group_variance()),
    tex=r"\mathrm{{std}}({response_reward})",
    source=SHAO.section("4.1"),
)

group_advantage = define(
    "grpo.advantage",
    "Advantage of a response: how many standard deviations its reward lies above the mean of its group.",
    (g, response_reward, ddof, eps),
    centred() / (group_std() + eps),
    tex=r"A_{{{g}}}({response_reward})",
    source=SHAO.section("4.1"),
)

scaled_deviation = define(
    "grpo.scaled_deviation",
    "A deviation in units of the standard deviation; 0 by convention if all rewards are equal, as in a group of one.",
    (deviation, squares, divisor, eps),
    cases((deviation, squares > 0), (0, True)) / (cases((sqrt(squares / divisor), squares > 0), (1, True)) + eps),
    tex=r"A({deviation})",
    convention=True,
)

several = greater(G - ddof, 0)
spread = greater(group_variance(), 0)
gain = symbol("gain", Positive, "a positive factor on every reward", tex="a")
bonus = symbol("bonus", Real, "a constant added to every reward", tex="b")
affine = Lambda(h, gain * response_reward[h] + bonus)
shifted = Lambda(h, response_reward[h] + bonus)

claim(
    "grpo.advantage.zero_sum",
    "The advantages of a group sum to zero, scaled or not.",
    holds(
        equals(sum_over(group_advantage(eps=0), g), 0),
        name="scaled, without ε",
        assuming=[several, spread],
        by=finite_sum(),
    ),
    holds(
        equals(sum_over((1 - delta(g, h)) * group_advantage(h), h), -group_advantage()),
        name="scaled, any ε: each is minus the sum of the others",
        assuming=[several, spread],
        by=finite_sum(),
    ),
    holds(equals(sum_over(centred(), g), 0), name="not scaled", by=finite_sum()),
    wrong=[
        wrong("without subtracting the mean", equals(sum_over(response_reward[g], g), 0)),
        wrong("each of them is zero", equals(centred(), 0)),
    ],
)

claim(
    "grpo.advantage.unit_variance",
    "At ε = 0 the squared advantages sum to the divisor of the variance.",
    holds(
        equals(sum_over(group_advantage(eps=0) ** 2, g), G - ddof),
        assuming=[several, spread],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "to the size of the group, whatever the divisor",
            equals(sum_over(group_advantage(eps=0) ** 2, g), G),
            assuming=[several, spread],
        ),
        wrong(
            "for every ε",
            equals(sum_over(group_advantage() ** 2, g), G - ddof),
            assuming=[several, spread],
        ),
    ],
)

claim(
    "grpo.advantage.affine",
    "At ε = 0 the advantages are invariant under scaling and shifting the rewards; with ε > 0 only under shifting.",
    holds(
        equals(group_advantage(response_reward=affine, eps=0), group_advantage(eps=0)),
        name="unit and origin",
        assuming=[several, spread],
        by=finite_sum(),
    ),
    holds(
        equals(group_advantage(response_reward=shifted), group_advantage()),
        name="origin",
        assuming=[several, spread],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "scaling, for every ε",
            equals(group_advantage(response_reward=affine), group_advantage()),
            assuming=[several, spread],
        ),
        wrong(
            "scaling, without dividing by the standard deviation", equals(centred(response_reward=affine), centred())
        ),
    ],
)

own_advantage = group_advantage(ddof=1)
unlike = sum_over((1 - delta(g, h)) * (centred(h) + centred() / (G - 1)) ** 2, h)
more_than_one = at_least(G, 2)
spread_by_one = greater(group_variance(ddof=1), 0)

claim(
    "grpo.advantage.bound",
    "With the variance over G − 1 no advantage exceeds (G − 1)/√G in absolute value, whatever the rewards and ε; a "
    "single success reaches it at ε = 0.",
    holds(
        equals(unlike, (G - 1) * group_variance(ddof=1) - G / (G - 1) * centred() ** 2),
        name="squares",
        assuming=[more_than_one],
        by=finite_sum(),
    ),
    holds(at_least(unlike, 0), name="no square is negative", assuming=[more_than_one], by=termwise(0)),
    holds(
        at_most(centred() ** 2, (G - 1) ** 2 / G * group_variance(ddof=1)),
        name="deviation",
        assuming=[more_than_one],
        by=smt(
            given=[
                fact("grpo.advantage.bound", part="squares"),
                fact("grpo.advantage.bound", part="no square is negative"),
            ]
        ),
    ),
    holds(
        equals(own_advantage * (sqrt(group_variance(ddof=1)) + eps), centred()),
        name="scale",
        assuming=[more_than_one, spread_by_one],
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(centred(h) ** 2, h), (G - 1) * group_variance(ddof=1)),
        name="variance",
        assuming=[more_than_one],
        by=finite_sum(),
    ),
    holds(
        at_most(abs(own_advantage), (G - 1) / sqrt(G)),
        name="bound",
        assuming=[more_than_one, spread_by_one],
        by=smt(
            given=[
                fact("grpo.advantage.bound", part="deviation"),
                fact("grpo.advantage.bound", part="scale"),
                fact("grpo.advantage.bound", part="variance"),
            ]
        ),
    ),
    holds(
        equals(group_advantage(response_reward=Lambda(h, delta(g, h)), ddof=1, eps=0), (G - 1) / sqrt(G)),
        name="reached",
        assuming=[more_than_one],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "with the variance over G, too",
            at_most(abs(group_advantage(ddof=0)), (G - 1) / sqrt(G)),
            assuming=[more_than_one, greater(group_variance(ddof=0), 0)],
        ),
        wrong("never larger than one", at_most(abs(own_advantage), 1), assuming=[more_than_one, spread_by_one]),
    ],
)

success = family("success", Mask(), G, text="1 where a response succeeds", tex="b")
success_rate = symbol("success_rate", Open(0, 1), "share of the group that succeeds", tex="p")
binary_std = sqrt(success_rate * (1 - success_rate) * G / (G - ddof))
at_rate = equals(sum_over(success[h], h), success_rate * G)

claim(
    "grpo.advantage.binary",
    "For rewards of 0 and 1, an advantage depends only on the success rate of the group, on the response's own "
    "success, and on the size of the group, the ddof and the ε of the scale.",
    holds(
        equals(group_variance(success, ddof), success_rate * (1 - success_rate) * G / (G - ddof)),
        name="variance",
        assuming=[at_rate, several],
        by=finite_sum(),
    ),
    holds(
        equals(group_advantage(response_reward=success), (success[g] - success_rate) / (binary_std + eps)),
        name="any",
        assuming=[at_rate, several],
        by=finite_sum(),
    ),
    holds(
        equals(
            group_advantage(response_reward=success, ddof=0, eps=0),
            (success[g] - success_rate) / sqrt(success_rate * (1 - success_rate)),
        ),
        name="over G, without ε",
        assuming=[at_rate],
        by=finite_sum(),
    ),
    holds(
        equals(group_advantage(response_reward=success, ddof=0, eps=0), sqrt((1 - success_rate) / success_rate)),
        name="of a success",
        assuming=[at_rate, equals(success[g], 1)],
        by=smt(given=[fact("grpo.advantage.binary", part="over G, without ε")]),
    ),
    holds(
        equals(group_advantage(response_reward=success, ddof=0, eps=0), -sqrt(success_rate / (1 - success_rate))),
        name="of a failure",
        assuming=[at_rate, equals(success[g], 0)],
        by=smt(given=[fact("grpo.advantage.binary", part="over G, without ε")]),
    ),
    wrong=[
        wrong(
            "a success has the advantage 1 − p",
            equals(group_advantage(response_reward=success, ddof=0, eps=0), success[g] - success_rate),
            assuming=[at_rate, several],
        ),
        wrong(
            "the variance is p(1 − p), whatever it is divided by",
            equals(group_variance(success, ddof), success_rate * (1 - success_rate)),
            assuming=[at_rate, several],
        ),
    ],
)

alike = Lambda(h, response_reward[g])
differ = greater(group_spread(), 0)

claim(
    "grpo.advantage.degenerate",
    "By convention a group whose rewards are all equal, such as a group of one, has advantages of 0; the convention "
    "changes no other group.",
    holds(equals(group_spread(alike), 0), name="equal rewards do not vary", by=finite_sum()),
    holds(
        equals(left_out(response_reward=alike), 0),
        name="nor without the response itself",
        by=finite_sum(),
    ),
    holds(equals(scaled_deviation(deviation, 0), 0), name="what does not vary has no advantage", by=smt()),
    holds(
        equals(group_advantage() * (sqrt(group_spread() / (G - ddof)) + eps), centred()),
        name="scale",
        assuming=[several, differ],
        by=finite_sum(),
    ),
    holds(
        equals(scaled_deviation(centred(), group_spread(), G - ddof), group_advantage()),
        name="any other group",
        assuming=[several, differ],
        by=smt(given=[fact("grpo.advantage.degenerate", part="scale")]),
    ),
    wrong=[
        wrong(
            "rewards that do not differ keep their size",
            equals(scaled_deviation(deviation, 0), deviation / eps),
            assuming=[greater(eps, 0)],
        ),
        wrong("every group has advantages of 0", equals(scaled_deviation(), 0)),
    ],
)

claim(
    "grpo.advantage.leave_one_out",
    "Leaving a response out of its own baseline multiplies every unscaled advantage by G/(G − 1).",
    holds(
        equals(left_out(), G / Max(1, G - 1) * centred()),
        by=finite_sum(),
    ),
    wrong=[wrong("it makes no difference", equals(left_out(), centred()))],
)

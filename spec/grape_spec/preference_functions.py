"""Functions of a margin: the hinge, the exponential, IPO's square and EXO, with their slopes, kinks and targets.

The margins are in `preference`, the functions of DPO and of its smoothed and robust forms in `dpo`. What is cited was
not compared with its text.
"""

from sympy import Max, Rational, exp, log

from grape_spec.dpo import (
    best_margin,
    beta,
    chosen_length,
    chosen_logp,
    flip_probability,
    h,
    ipo_loss,
    label_smoothing,
    loss,
    m,
    rejected_length,
    rejected_logp,
    robust_loss,
    sigmoid,
    smoothed_loss,
)
from grape_spec.kl import x
from grape_spec.language import (
    At,
    Diff,
    OneSided,
    Positive,
    Source,
    at_least,
    cases,
    claim,
    define,
    differs,
    equals,
    greater,
    holds,
    less,
    wrong,
)
from grape_spec.preference import TANG, margin
from grape_spec.proof.rules import algebra, chain_rule, fact, finite_sum, slope, smt

ZHAO = Source("zhao2023slic")
JI = Source("ji2024towards")

hinge_loss = define(
    "preference.hinge_loss",
    "Distance of the margin from 1, where it is smaller.",
    (m,),
    Max(0, 1 - m),
    tex=r"L_{{\mathrm{{hinge}}}}({margin})",
    source=ZHAO,
)

hinge_slope = define(
    "preference.hinge_slope",
    "Slope of the hinge in the margin; at the kink, by convention, 0.",
    (m,),
    cases((-1, m < 1), (0, True)),
    tex=r"\psi_{{\mathrm{{hinge}}}}({margin})",
    convention=True,
)

exponential_loss = define(
    "preference.exponential_loss",
    "Exponential of the negative margin.",
    (m,),
    exp(-m),
    tex=r"L_{{\exp}}({margin})",
    domain=Positive,
    source=TANG,
)

squared_loss = define(
    "preference.squared_loss",
    "Squared distance of the margin from one half, over β²: IPO as a function of the margin.",
    (m, beta),
    (m - Rational(1, 2)) ** 2 / beta**2,
    tex=r"L_{{2}}({margin})",
    source=TANG,
)

exo_loss = define(
    "preference.exo_loss",
    "Divergence of the ranking that the margin implies from a ranking that is right with probability 1 − ε: the loss "
    "of EXO for pairs.",
    (m, label_smoothing),
    sigmoid(m) * log(sigmoid(m) / (1 - label_smoothing)) + sigmoid(-m) * log(sigmoid(-m) / label_smoothing),
    tex=r"L_{{\mathrm{{EXO}}}}({margin})",
    source=JI,
)

mistaken = cases((1, m <= 0), (0, True))
at_pair = {m: margin()}

claim(
    "preference.hinge.slope",
    "The slope of the hinge is −1 below a margin of 1 and 0 above. At the kink the slopes are −1 from below and 0 from "
    "above; the convention takes 0.",
    holds(
        equals(Diff(hinge_loss(m), m), hinge_slope(m)),
        name="in the margin",
        assuming=[differs(m, 1)],
        by=slope(radius=abs(m - 1)),
    ),
    holds(
        equals(Diff(hinge_loss(margin()), chosen_logp), beta / chosen_length * hinge_slope(margin())),
        name="chosen",
        assuming=[differs(margin(), 1)],
        by=chain_rule(inner="preference.margin.chosen", outer="in the margin", at=at_pair),
    ),
    holds(
        equals(Diff(hinge_loss(margin()), rejected_logp), -beta / rejected_length * hinge_slope(margin())),
        name="rejected",
        assuming=[differs(margin(), 1)],
        by=chain_rule(inner="preference.margin.rejected", outer="in the margin", at=at_pair),
    ),
    holds(equals(OneSided(hinge_loss(m), m, 1, -1), -1), name="at the kink, from below", by=slope(radius=1)),
    holds(equals(OneSided(hinge_loss(m), m, 1, 1), 0), name="at the kink, from above", by=slope(radius=1)),
    holds(equals(hinge_slope(1), 0), name="at the kink, by convention", by=smt()),
    source=ZHAO,
    wrong=[
        wrong("a kink at a margin of 0", equals(Diff(hinge_loss(m), m), 0), assuming=[greater(m, 0), less(m, 1)]),
        wrong("no kink", equals(OneSided(hinge_loss(m), m, 1, 1), -1)),
        wrong("the slope of a squared hinge", equals(Diff(hinge_loss(m), m), 2 * (m - 1)), assuming=[less(m, 1)]),
    ],
)

claim(
    "preference.hinge.bound",
    "The hinge bounds the share of pairs that are ranked wrongly, ties among them, and is 0 exactly from a margin of 1 "
    "on: every such margin is optimal.",
    holds(at_least(hinge_loss(m), mistaken), name="bound", by=smt()),
    holds(equals(hinge_loss(m), 0), name="0 from 1 on", assuming=[at_least(m, 1)], by=smt()),
    holds(greater(hinge_loss(m), 0), name="positive below", assuming=[less(m, 1)], by=smt()),
    source=ZHAO,
    wrong=[
        wrong("a hinge at 0 bounds it, too", at_least(Max(0, -m), mistaken)),
        wrong("only a margin of 1 is optimal", greater(hinge_loss(m), 0), assuming=[differs(m, 1)]),
    ],
)

claim(
    "preference.exponential.slope",
    "The slope of the exponential loss is minus the loss: at a margin of 0 twice that of DPO, and without a bound "
    "below. It bounds the share of pairs that are ranked wrongly.",
    holds(equals(Diff(exponential_loss(m), m), -exponential_loss(m)), name="in the margin", by=algebra()),
    holds(
        equals(Diff(exponential_loss(margin()), chosen_logp), -beta / chosen_length * exponential_loss(margin())),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(Diff(exponential_loss(margin()), rejected_logp), beta / rejected_length * exponential_loss(margin())),
        name="rejected",
        by=algebra(),
    ),
    holds(equals(log(exponential_loss(m)), -m), name="logarithm", by=algebra()),
    holds(less(-exponential_loss(m), 0), name="falling everywhere", by=smt()),
    holds(
        at_least(exponential_loss(m), mistaken),
        name="bound",
        by=smt(
            given=[
                fact("preference.exponential.slope", part="logarithm"),
                fact("kl.log_bound", part="bound", x=exponential_loss(m)),
            ]
        ),
    ),
    source=TANG,
    wrong=[
        wrong("the slope of DPO", equals(Diff(exponential_loss(m), m), -sigmoid(-m))),
        wrong("a slope of at most 1, as in DPO", at_least(-exponential_loss(m), -1)),
    ],
)

claim(
    "preference.squared",
    "The squared loss of the margin is IPO's of the log-ratios: its target is a margin of one half, whatever β is.",
    holds(equals(squared_loss(beta * h), ipo_loss(h)), name="IPO", by=algebra()),
    holds(equals(Diff(squared_loss(m), m), 2 * (m - Rational(1, 2)) / beta**2), name="in the margin", by=algebra()),
    holds(
        equals(
            Diff(squared_loss(margin()), chosen_logp),
            2 * (margin() - Rational(1, 2)) / (beta * chosen_length),
        ),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(
            Diff(squared_loss(margin()), rejected_logp),
            -2 * (margin() - Rational(1, 2)) / (beta * rejected_length),
        ),
        name="rejected",
        by=algebra(),
    ),
    holds(equals(squared_loss(Rational(1, 2)), 0), name="target", by=algebra()),
    holds(greater(squared_loss(m), 0), name="no other target", assuming=[differs(m, Rational(1, 2))], by=smt()),
    source=TANG,
    wrong=[
        wrong("a target of 1", equals(squared_loss(1), 0)),
        wrong("without the division by β²", equals((beta * h - Rational(1, 2)) ** 2, ipo_loss(h))),
    ],
)

exo_gap = m - best_margin
both = sigmoid(m) * sigmoid(-m)
kept, flipped = sigmoid(m) / (1 - label_smoothing), sigmoid(-m) / label_smoothing

claim(
    "preference.log_bound",
    "The logarithm lies above 1 − 1/x.",
    holds(at_least(log(x), 1 - 1 / x), by=smt(given=[fact("kl.log_bound", part="bound", x=1 / x)])),
    wrong=[wrong("above its tangent at 1", at_least(log(x), x - 1))],
)

claim(
    "preference.exo.slope",
    "The slope of EXO's loss is the distance of the margin from log((1 − ε)/ε), times σ(m)σ(−m): it has the target of "
    "label smoothing, and fades on either side. The loss is never negative, and 0 at the target.",
    holds(equals(Diff(exo_loss(m), m), both * exo_gap), name="in the margin", by=finite_sum()),
    holds(
        equals(
            Diff(exo_loss(margin()), chosen_logp),
            beta / chosen_length * sigmoid(margin()) * sigmoid(-margin()) * (margin() - best_margin),
        ),
        name="chosen",
        by=chain_rule(inner="preference.margin.chosen", outer="in the margin", at=at_pair),
    ),
    holds(
        equals(
            Diff(exo_loss(margin()), rejected_logp),
            -beta / rejected_length * sigmoid(margin()) * sigmoid(-margin()) * (margin() - best_margin),
        ),
        name="rejected",
        by=chain_rule(inner="preference.margin.rejected", outer="in the margin", at=at_pair),
    ),
    holds(equals(exo_loss(best_margin), 0), name="target", by=finite_sum()),
    holds(less(both * exo_gap, 0), name="falling below", assuming=[less(m, best_margin)], by=smt()),
    holds(greater(both * exo_gap, 0), name="rising above", assuming=[greater(m, best_margin)], by=smt()),
    holds(
        at_least(sigmoid(m) * log(kept) + sigmoid(-m) * log(flipped), 0),
        name="never negative",
        by=smt(
            given=[
                fact("dpo.label_smoothing", part="one of the two rankings"),
                fact("preference.log_bound", x=kept),
                fact("preference.log_bound", x=flipped),
            ]
        ),
    ),
    source=JI,
    wrong=[
        wrong("the slope of label smoothing", equals(Diff(exo_loss(m), m), sigmoid(m) - (1 - label_smoothing))),
        wrong("the target is where the loss is ε", equals(exo_loss(best_margin), label_smoothing)),
        wrong("convex, as DPO's", at_least(Diff(exo_loss(m), m, m), 0)),
        wrong("the other divergence", equals(Diff(exo_loss(m), m), sigmoid(m) * exo_gap)),
    ],
)

claim(
    "preference.at_zero",
    "At a margin of 0 every one of the functions falls, with these slopes.",
    holds(equals(At(Diff(loss(m), m), m, 0), -Rational(1, 2)), name="DPO", by=algebra()),
    holds(equals(At(Diff(smoothed_loss(m), m), m, 0), label_smoothing - Rational(1, 2)), name="smoothed", by=algebra()),
    holds(
        equals(At(Diff(robust_loss(m), m), m, 0), -Rational(1, 2) - flip_probability / (1 - 2 * flip_probability)),
        name="robust",
        by=algebra(),
    ),
    holds(equals(hinge_slope(0), -1), name="hinge", by=smt()),
    holds(equals(At(Diff(exponential_loss(m), m), m, 0), -1), name="exponential", by=algebra()),
    holds(equals(At(Diff(squared_loss(m), m), m, 0), -1 / beta**2), name="IPO", by=algebra()),
    holds(equals(At(Diff(exo_loss(m), m), m, 0), -best_margin / 4), name="EXO", by=finite_sum()),
    source=TANG,
    wrong=[
        wrong("IPO's is −1, whatever β is", equals(At(Diff(squared_loss(m), m), m, 0), -1)),
        wrong(
            "EXO's is that of label smoothing", equals(At(Diff(exo_loss(m), m), m, 0), label_smoothing - Rational(1, 2))
        ),
    ],
)

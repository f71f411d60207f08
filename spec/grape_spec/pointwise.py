"""Pointwise losses of pairs: each response is compared with a fixed reward, and not only with the other response.

BCO compares with a shift δ, NCA, APO and SPPO with 0. A reward is β times the log-ratio to the reference. What is cited
was not compared with its text. KTO, which needs no pairs, is in `kto`.
"""

from sympy import Rational, exp, log

from grape_spec.dpo import (
    beta,
    chosen_logp,
    loss,
    ref_chosen_logp,
    ref_rejected_logp,
    rejected_logp,
    sigmoid,
    smoothed_loss,
)
from grape_spec.kto import HALF, QUARTER, away, desirable, log_bound, ratio_of, sigmoid_slope, undesirable
from grape_spec.language import (
    At,
    Diff,
    Real,
    Source,
    at_least,
    at_most,
    claim,
    define,
    differs,
    equals,
    greater,
    holds,
    less,
    symbol,
    wrong,
)
from grape_spec.preference_functions import squared_loss
from grape_spec.proof.rules import algebra, fact, finite_sum, from_minimum, smt
from grape_spec.reward import chosen_reward, common, rejected_reward

JUNG = Source("jung2024binary")
CHEN = Source("chen2024noise")
DOOSTERLINCK = Source("doosterlinck2024anchored")
WU = Source("wu2024selfplay")

reward_shift = symbol("reward_shift", Real, "the reward with which others are compared", tex=r"\delta")

reward_of_chosen = define(
    "pointwise.reward_of_chosen",
    "Reward of the preferred response: β times its log-ratio to the reference.",
    (chosen_logp, ref_chosen_logp, beta),
    beta * (chosen_logp - ref_chosen_logp),
    tex="r_w",
)

reward_of_rejected = define(
    "pointwise.reward_of_rejected",
    "Reward of the rejected response: β times its log-ratio to the reference.",
    (rejected_logp, ref_rejected_logp, beta),
    beta * (rejected_logp - ref_rejected_logp),
    tex="r_l",
)

bco_loss = define(
    "pointwise.bco_loss",
    "Negative log-likelihood that the reward of the preferred response is above the shift and that of the rejected "
    "one below: BCO for a pair.",
    (chosen_reward, rejected_reward, reward_shift),
    loss(chosen_reward - reward_shift) + loss(reward_shift - rejected_reward),
    tex=r"L_{{\mathrm{{BCO}}}}",
    source=JUNG,
)

nca_loss = define(
    "pointwise.nca_loss",
    "Negative log-likelihood that the preferred response is data, and half of that that either is noise: NCA for a "
    "pair.",
    (chosen_reward, rejected_reward),
    loss(chosen_reward) + loss(-chosen_reward) / 2 + loss(-rejected_reward) / 2,
    tex=r"L_{{\mathrm{{NCA}}}}",
    source=CHEN,
)

apo_zero_loss = define(
    "pointwise.apo_zero_loss",
    "APO-zero: falls with the reward of the preferred response and rises with that of the rejected one.",
    (chosen_reward, rejected_reward),
    1 - sigmoid(chosen_reward) + sigmoid(rejected_reward),
    tex=r"L_{{\mathrm{{zero}}}}",
    source=DOOSTERLINCK,
)

apo_down_loss = define(
    "pointwise.apo_down_loss",
    "APO-down: rises with the reward of the preferred response and falls with the margin.",
    (chosen_reward, rejected_reward),
    sigmoid(chosen_reward) + 1 - sigmoid(chosen_reward - rejected_reward),
    tex=r"L_{{\mathrm{{down}}}}",
    source=DOOSTERLINCK,
)

sppo_loss = define(
    "pointwise.sppo_loss",
    "Squared distances of the two log-ratios from ±1/(2β): SPPO with certain preferences.",
    (chosen_reward, rejected_reward, beta),
    ((chosen_reward - HALF) ** 2 + (rejected_reward + HALF) ** 2) / beta**2,
    tex=r"L_{{\mathrm{{SPPO}}}}",
    source=WU,
)


def at_most_a_quarter(x):
    """σ′(x) ≤ 1/4."""
    return fact("pointwise.sigmoid", part="a quarter at most", z=x)


r_w, r_l, delta = chosen_reward, rejected_reward, reward_shift
of_pair = {"chosen_reward": reward_of_chosen(), "rejected_reward": reward_of_rejected()}
pair_margin = reward_of_chosen() - reward_of_rejected()


def slopes(of, chosen, rejected):
    """The slopes of a loss in both log-probabilities: parts of a claim."""
    return (
        holds(equals(Diff(of(**of_pair), chosen_logp), beta * chosen), name="chosen", by=algebra()),
        holds(equals(Diff(of(**of_pair), rejected_logp), beta * rejected), name="rejected", by=algebra()),
    )


claim(
    "pointwise.bco.slope",
    "The preferred response is raised by the probability that its reward is below the shift, and the rejected one "
    "lowered by the probability that its reward is above: two weights, where DPO has one.",
    *slopes(bco_loss, -sigmoid(delta - reward_of_chosen()), sigmoid(reward_of_rejected() - delta)),
    source=JUNG,
    wrong=[
        wrong("the weight of DPO", equals(Diff(bco_loss(), r_w), -sigmoid(r_l - r_w))),
        wrong("without the shift", equals(Diff(bco_loss(), r_l), sigmoid(r_l))),
        wrong("the shift added", equals(Diff(bco_loss(), r_w), -sigmoid(-delta - r_w))),
    ],
)

apart = sigmoid(r_w - delta) * sigmoid(delta - r_l) / sigmoid(r_w - r_l)
middle = (r_w + r_l) / 2

ADDED = [fact("pointwise.bco.bound", part=part) for part in ("what is added", "below 1")]

claim(
    "pointwise.bco.bound",
    "The loss is above that of DPO for every shift. It is least for the shift halfway between the two rewards, where "
    "it is twice the loss at half of the margin, still above that of DPO.",
    holds(equals(bco_loss() - loss(r_w - r_l), -log(apart)), name="what is added", by=finite_sum()),
    holds(
        equals(1 - apart, (exp(delta - r_w) + exp(r_l - delta)) / ((1 + exp(delta - r_w)) * (1 + exp(r_l - delta)))),
        name="as a ratio",
        by=algebra(),
    ),
    holds(less(apart, 1), name="below 1", by=smt(given=[fact("pointwise.bco.bound", part="as a ratio")])),
    holds(
        greater(bco_loss() - loss(r_w - r_l), 0),
        name="above DPO",
        by=smt(given=[*ADDED, log_bound(apart)]),
    ),
    holds(equals(bco_loss(reward_shift=middle), 2 * loss((r_w - r_l) / 2)), name="halfway", by=algebra()),
    holds(
        at_least(bco_loss(reward_shift=middle + away) - bco_loss(reward_shift=middle), 0),
        name="no shift is better",
        by=from_minimum(
            of=bco_loss(reward_shift=middle + away) - bco_loss(reward_shift=middle),
            over=away,
            at=0,
            given=[log_bound(exp(away)), log_bound(1 / exp(away))],
        ),
    ),
    source=JUNG,
    wrong=[
        wrong("that of DPO, halfway", equals(bco_loss(reward_shift=middle), loss(r_w - r_l))),
        wrong("least at 0", at_least(bco_loss(), bco_loss(reward_shift=0))),
        wrong("least at the reward of the preferred response", at_least(bco_loss(), bco_loss(reward_shift=r_w))),
    ],
)

claim(
    "pointwise.nca.slope",
    "The preferred response is raised while σ(r) is below 2/3 and lowered above; the rejected one is lowered at every "
    "reward.",
    *slopes(nca_loss, Rational(3, 2) * sigmoid(reward_of_chosen()) - 1, sigmoid(reward_of_rejected()) / 2),
    source=CHEN,
    wrong=[
        wrong("the preferred response is always raised", less(Diff(nca_loss(), r_w), 0)),
        wrong("the whole weight for the rejected one", equals(Diff(nca_loss(), r_l), sigmoid(r_l))),
        wrong("the noise of the preferred one left out", equals(Diff(nca_loss(), r_w), sigmoid(r_w) - 1)),
    ],
)

DISTANCE = [fact("pointwise.nca.optimum", part=part) for part in ("distance", "in one exponential")]

claim(
    "pointwise.nca.optimum",
    "In the reward of the preferred response, NCA is DPO's loss with a label smoothing of 1/3, times 3/2: it is least "
    "at log 2, a log-ratio of (log 2)/β, where σ is 2/3. In that of the rejected response it has no end.",
    holds(
        equals(nca_loss(), Rational(3, 2) * smoothed_loss(r_w, Rational(1, 3)) + loss(-r_l) / 2),
        name="label smoothing",
        by=algebra(),
    ),
    holds(equals(sigmoid(log(2)), Rational(2, 3)), name="there", by=algebra()),
    holds(equals(At(Diff(nca_loss(), r_w), r_w, log(2)), 0), name="stationary", by=algebra()),
    holds(equals(log(2 * exp(-r_w)), log(2) - r_w), name="distance", by=algebra()),
    holds(
        equals(Rational(3, 2) * sigmoid(r_w) - 1, (1 - 2 * exp(-r_w)) / (2 * (1 + exp(-r_w)))),
        name="in one exponential",
        by=algebra(),
    ),
    holds(
        less(Rational(3, 2) * sigmoid(r_w) - 1, 0),
        name="falling below",
        assuming=[less(r_w, log(2))],
        by=smt(given=[*DISTANCE, log_bound(2 * exp(-r_w))]),
    ),
    holds(
        greater(Rational(3, 2) * sigmoid(r_w) - 1, 0),
        name="rising above",
        assuming=[greater(r_w, log(2))],
        by=smt(given=[*DISTANCE, log_bound(1 / (2 * exp(-r_w)))]),
    ),
    holds(greater(sigmoid(r_l) / 2, 0), name="no end for the rejected", by=smt()),
    source=CHEN,
    wrong=[
        wrong("a label smoothing of 1/2", equals(At(Diff(nca_loss(), r_w), r_w, 0), 0)),
        wrong("σ is 1/3 there", equals(sigmoid(log(2)), Rational(1, 3))),
        wrong("the rejected one, too", equals(At(Diff(nca_loss(), r_l), r_l, -log(2)), 0)),
    ],
)

claim(
    "pointwise.apo_zero.slope",
    "APO-zero raises the preferred response and lowers the rejected one, each with at most β/4, which is the weight "
    "at the reference. It is KTO with the anchor 0, one label of each kind and weights of 1.",
    *slopes(apo_zero_loss, -sigmoid_slope(reward_of_chosen()), sigmoid_slope(reward_of_rejected())),
    holds(
        at_most(beta * sigmoid_slope(r_w), beta / 4),
        name="bound",
        by=smt(given=[at_most_a_quarter(r_w)]),
    ),
    holds(
        equals(
            apo_zero_loss(**of_pair),
            desirable(ratio_of(chosen_logp, ref_chosen_logp), 0, beta, 1)
            + undesirable(ratio_of(rejected_logp, ref_rejected_logp), 0, beta, 1),
        ),
        name="KTO",
        by=algebra(),
    ),
    source=DOOSTERLINCK,
    wrong=[
        wrong(
            "KTO's mean",
            equals(
                apo_zero_loss(**of_pair),
                desirable(ratio_of(chosen_logp, ref_chosen_logp), 0, beta, HALF)
                + undesirable(ratio_of(rejected_logp, ref_rejected_logp), 0, beta, HALF),
            ),
        ),
        wrong("both are raised", less(Diff(apo_zero_loss(), r_l), 0)),
        wrong("the slope of log σ", equals(Diff(apo_zero_loss(), r_w), -sigmoid(-r_w))),
    ],
)

fall = sigmoid_slope(r_w) - sigmoid_slope(r_w - r_l)

claim(
    "pointwise.apo_down.slope",
    "APO-down lowers the rejected response at every pair of rewards, and with the weight β/4 at the reference. The "
    "preferred one has the difference of two weights: it does not move at the reference. Both are at most β/4.",
    *slopes(
        apo_down_loss,
        sigmoid_slope(reward_of_chosen()) - sigmoid_slope(pair_margin),
        sigmoid_slope(pair_margin),
    ),
    holds(equals(At(At(Diff(apo_down_loss(), r_w), r_w, 0), r_l, 0), 0), name="chosen, at the reference", by=algebra()),
    holds(
        equals(At(At(Diff(apo_down_loss(), r_l), r_w, 0), r_l, 0), QUARTER),
        name="rejected, at the reference",
        by=algebra(),
    ),
    holds(less(fall, QUARTER), name="bound", by=smt(given=[at_most_a_quarter(r_w)])),
    holds(greater(fall, -QUARTER), name="bound below", by=smt(given=[at_most_a_quarter(r_w - r_l)])),
    source=DOOSTERLINCK,
    wrong=[
        wrong("the preferred response is lowered, too", greater(Diff(apo_down_loss(), r_w), 0)),
        wrong("the rejected one is lowered more", greater(Diff(apo_down_loss(), r_l) - Diff(apo_down_loss(), r_w), 0)),
        wrong("the two weights are opposite, as in DPO", equals(Diff(apo_down_loss(), r_w), -sigmoid_slope(r_w - r_l))),
    ],
)

FALL = [fact("pointwise.apo_down.target", part=part) for part in ("a product", "less than 1")]

claim(
    "pointwise.apo_down.target",
    "Where the rejected response has lost probability, the preferred one follows it halfway, and no further: it is "
    "lowered while its reward is above half of the other's, and raised below.",
    holds(
        equals(
            fall,
            exp(r_w) * (exp(r_l) - 1) * (exp(r_l) - exp(2 * r_w)) / ((1 + exp(r_w)) ** 2 * (exp(r_w) + exp(r_l)) ** 2),
        ),
        name="a product",
        by=algebra(),
    ),
    holds(equals(At(Diff(apo_down_loss(), r_w), r_w, r_l / 2), 0), name="halfway", by=algebra()),
    holds(less(exp(r_l), 1), name="less than 1", assuming=[less(r_l, 0)], by=smt(given=[log_bound(1 / exp(r_l))])),
    holds(
        greater(fall, 0),
        name="lowered above",
        assuming=[less(r_l, 0), greater(2 * r_w, r_l)],
        by=smt(given=[*FALL, log_bound(exp(2 * r_w - r_l))]),
    ),
    holds(
        less(fall, 0),
        name="raised below",
        assuming=[less(r_l, 0), less(2 * r_w, r_l)],
        by=smt(given=[*FALL, log_bound(exp(r_l - 2 * r_w))]),
    ),
    source=DOOSTERLINCK,
    wrong=[
        wrong("all the way", equals(At(Diff(apo_down_loss(), r_w), r_w, r_l), 0)),
        wrong("always lowered", greater(fall, 0), assuming=[less(r_l, 0)]),
        wrong("where the other has gained, too", greater(fall, 0), assuming=[greater(2 * r_w, r_l)]),
    ],
)

claim(
    "pointwise.sppo.slope",
    "Each log-ratio is pulled to its own target, with twice its distance.",
    holds(
        equals(Diff(sppo_loss(**of_pair), chosen_logp), 2 * (reward_of_chosen() - HALF) / beta),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(Diff(sppo_loss(**of_pair), rejected_logp), 2 * (reward_of_rejected() + HALF) / beta),
        name="rejected",
        by=algebra(),
    ),
    source=WU,
    wrong=[
        wrong("the slope of IPO", equals(Diff(sppo_loss(), r_w), 2 * (r_w - r_l - HALF) / beta**2)),
        wrong("one target for both", equals(Diff(sppo_loss(), r_l), 2 * (r_l - HALF) / beta**2)),
    ],
)

claim(
    "pointwise.sppo.target",
    "The only optimum is at the rewards ±1/2, log-ratios of ±1/(2β): a margin of 1, twice that of IPO. SPPO is twice "
    "IPO's loss of half the margin and half of the squared sum of the log-ratios, so it also fixes where the two are.",
    holds(equals(sppo_loss(HALF, -HALF), 0), name="target", by=algebra()),
    holds(
        greater(sppo_loss(), 0), name="not for another reward of the chosen", assuming=[differs(r_w, HALF)], by=smt()
    ),
    holds(
        greater(sppo_loss(), 0), name="not for another reward of the rejected", assuming=[differs(r_l, -HALF)], by=smt()
    ),
    holds(
        equals(sppo_loss(), 2 * squared_loss((r_w - r_l) / 2) + (r_w + r_l) ** 2 / (2 * beta**2)),
        name="IPO and the sum",
        by=algebra(),
    ),
    source=WU,
    wrong=[
        wrong("the target of IPO", equals(sppo_loss(QUARTER, -QUARTER), 0)),
        wrong("every margin of 1 is optimal", equals(sppo_loss(r_l + 1, r_l), 0)),
        wrong("IPO alone", equals(sppo_loss(), 2 * squared_loss((r_w - r_l) / 2))),
    ],
)


def along(of):
    """Slope of a loss if both rewards rise alike."""
    return Diff(of(), r_w) + Diff(of(), r_l)


UNSEEN = {"BCO": bco_loss, "NCA": nca_loss, "APO-zero": apo_zero_loss, "APO-down": apo_down_loss, "SPPO": sppo_loss}

claim(
    "pointwise.common_shift",
    "None of these losses is a function of the margin: what is added to both rewards changes it, with these slopes. "
    "APO-down falls with every shift downwards. So a constant of the prompt, such as that of an f-divergence, does "
    "not cancel.",
    holds(equals(along(bco_loss), sigmoid(r_w - delta) + sigmoid(r_l - delta) - 1), name="BCO", by=algebra()),
    holds(equals(along(nca_loss), (3 * sigmoid(r_w) + sigmoid(r_l)) / 2 - 1), name="NCA", by=algebra()),
    holds(equals(along(apo_zero_loss), sigmoid_slope(r_l) - sigmoid_slope(r_w)), name="APO-zero", by=algebra()),
    holds(equals(along(apo_down_loss), sigmoid_slope(r_w)), name="APO-down", by=algebra()),
    holds(equals(along(sppo_loss), 2 * (r_w + r_l) / beta**2), name="SPPO", by=algebra()),
    wrong=[
        wrong(f"{name} is a function of the margin", equals(of(r_w + common, r_l + common), of()))
        for name, of in UNSEEN.items()
    ],
)

"""Displacement: a step on a pair can lower the preferred response, too. When that happens, and what prevents it.

N. Razin et al., Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization, arXiv:2410.08847;
A. Pal et al., Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive, arXiv:2402.13228. Their texts
were not compared. That a loss of the margin cannot see a common fall is `preference.common_shift`.
"""

from sympy import Expr, Integer, Lambda, Max, exp, log

from grape_spec.dpo import (
    AZAR,
    beta,
    chosen_logp,
    loss,
    m,
    o,
    optimal_policy,
    ref,
    ref_chosen_logp,
    ref_rejected_logp,
    rejected_logp,
    reward,
    sigmoid,
    w,
    z,
)
from grape_spec.dpo import margin as dpo_margin
from grape_spec.kl import p, y
from grape_spec.language import (
    At,
    Diff,
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
    iff,
    index,
    less,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import V, a, logits, softmax, v
from grape_spec.proof.rules import algebra, fact, finite_sum, near, smt, termwise
from grape_spec.trpo import parameters, row, varied

RAZIN = Source("razin2024unintentional")
PAL = Source("pal2024smaug")
ZHOU = Source("zhou2024wpo")

# Labels without noise: no margin is enough.

limit = symbol("limit", Positive, "any positive number", tex=r"\epsilon")

as_log = log(1 + exp(-m))
END = "displacement.no_end"

claim(
    END,
    "For a label without noise the loss is positive at every margin, and falls below any ε > 0: it is less than "
    "e^(−m). It has no minimum, so nothing but the end of training keeps the probability of the rejected response from "
    "0, whatever β is.",
    holds(equals(loss(m), as_log), name="as a logarithm", by=algebra()),
    holds(
        greater(log(1 + limit), 0),
        name="above 0",
        by=smt(given=[fact("kl.log_bound", part="strict", x=1 / (1 + limit))]),
    ),
    holds(
        less(log(1 + limit), limit),
        name="below ε",
        by=smt(given=[fact("kl.log_bound", part="strict", x=1 + limit)]),
    ),
    holds(greater(as_log, 0), name="positive", by=smt(given=[fact(END, part="above 0", limit=exp(-m))])),
    holds(
        less(as_log, exp(-m)),
        name="bound",
        by=smt(given=[fact(END, part="below ε", limit=exp(-m))]),
        equivalent={"right: -margin → 1 - margin": "true and weaker"},
    ),
    holds(equals(loss(-log(limit)), log(1 + limit)), name="at the margin −log ε", by=algebra()),
    holds(less(Diff(loss(m), m), 0), name="falling everywhere", by=smt()),
    source=AZAR,
    wrong=[
        wrong("0 where the pair is ranked with certainty enough: at a margin of 20", equals(loss(20), 0)),
        wrong("above ε at the margin −log ε", greater(loss(-log(limit)), limit)),
        wrong("rising somewhere, as with label smoothing", greater(Diff(loss(m), m), 0)),
    ],
)

# The first order of a step on one pair.

rate = symbol("rate", Positive, "size of a step", tex=r"\eta")
pair_weight = symbol("pair_weight", Positive, "minus the slope of a loss in the margin, for one pair", tex=r"\kappa")
chosen_score = family(
    "chosen_score", Real, parameters, text="gradient of the log-probability of the preferred response", tex="g^w"
)
rejected_score = family(
    "rejected_score", Real, parameters, text="gradient of the log-probability of the rejected response", tex="g^l"
)
moved_by = family("moved_by", Real, parameters, text="a change of the parameters", tex="d")

pair_step = define(
    "displacement.step",
    "Step of gradient descent on a loss of the margin of one pair, which has the slope −κ there.",
    (row, chosen_score, rejected_score, beta, pair_weight, rate),
    rate * beta * pair_weight * (chosen_score[row] - rejected_score[row]),
    tex=r"\Delta\theta_{{{parameter}}}",
    source=RAZIN,
)

chosen_change = define(
    "displacement.chosen_change",
    "Change of the log-probability of the preferred response, to first order in the step.",
    (chosen_score, rejected_score, beta, pair_weight, rate),
    sum_over(chosen_score[row] * pair_step(row), row),
    tex=r"\Delta\ell_w",
    source=RAZIN,
)

rejected_change = define(
    "displacement.rejected_change",
    "Change of the log-probability of the rejected response, to first order in the step.",
    (chosen_score, rejected_score, beta, pair_weight, rate),
    sum_over(rejected_score[row] * pair_step(row), row),
    tex=r"\Delta\ell_l",
    source=RAZIN,
)

stays = Lambda(row, Integer(0))
along = loss(
    dpo_margin(
        chosen_logp + sum_over(chosen_score[row] * moved_by[row], row),
        rejected_logp + sum_over(rejected_score[row] * moved_by[row], row),
    )
)
chosen_square = sum_over(chosen_score[row] ** 2, row)
rejected_square = sum_over(rejected_score[row] ** 2, row)
overlap = sum_over(chosen_score[row] * rejected_score[row], row)
apart = sum_over((chosen_score[row] - rejected_score[row]) ** 2, row)
pull = rate * beta * pair_weight

STEP = "displacement.first_order"

claim(
    STEP,
    "To first order, a step on one pair moves log π_w by ηβκ(‖g_w‖² − g_w·g_l): the preferred response falls exactly "
    "if the scores overlap by more than the square of its own. The rejected one then falls by more: the margin never "
    "falls. For DPO, κ = σ(−m).",
    holds(
        equals(
            -rate * At(Diff(along, moved_by[varied]), moved_by, stays),
            pair_step(varied, pair_weight=sigmoid(-dpo_margin())),
        ),
        name="the step of DPO",
        by=finite_sum(),
    ),
    holds(equals(chosen_change(), pull * (chosen_square - overlap)), name="chosen", by=finite_sum()),
    holds(equals(rejected_change(), pull * (overlap - rejected_square)), name="rejected", by=finite_sum()),
    holds(
        iff(less(chosen_change(), 0), greater(overlap, chosen_square)),
        name="when the chosen falls",
        by=smt(given=[fact(STEP, part="chosen")]),
        equivalent=dict.fromkeys(
            (
                "β → β + 1",
                "β → 2*β",
                "pair_weight → pair_weight + 1",
                "pair_weight → 2*pair_weight",
                "rate → rate + 1",
                "rate → 2*rate",
            ),
            "true: a positive factor changes no sign",
        ),
    ),
    holds(equals(chosen_change() - rejected_change(), pull * apart), name="difference of the changes", by=finite_sum()),
    holds(at_least(apart, 0), name="square of a distance", by=termwise(Integer(0))),
    holds(
        at_least(chosen_change(), rejected_change()),
        name="the margin never falls",
        by=smt(given=[fact(STEP, part="difference of the changes"), fact(STEP, part="square of a distance")]),
    ),
    source=RAZIN,
    wrong=[
        wrong("the chosen always rises", at_least(chosen_change(), 0)),
        wrong("the rejected always falls", at_most(rejected_change(), 0)),
        wrong("it falls where the scores overlap at all", iff(less(chosen_change(), 0), greater(overlap, 0))),
        wrong("the squares alone", equals(chosen_change(), pull * (chosen_square - rejected_square))),
    ],
)

b = index("b", V, "the token that was rejected", tex="a'")
scores = {
    "chosen_score": Lambda(v, Diff(log(softmax(a)), logits[v])),
    "rejected_score": Lambda(v, Diff(log(softmax(b)), logits[v])),
}
own_square = sum_over(Diff(log(softmax(a)), logits[v]) ** 2, v)
own_overlap = sum_over(Diff(log(softmax(a)), logits[v]) * Diff(log(softmax(b)), logits[v]), v)
others = sum_over((1 - delta(a, v)) * softmax(v), v)
TABLE = "displacement.one_token"

claim(
    TABLE,
    "If the responses are single tokens and the logits are the parameters, a step on a pair always raises the "
    "preferred one: ‖g_w‖² − g_w·g_l = 1 − π_w + π_l, for a vocabulary of any size.",
    holds(
        equals(own_square - own_overlap, (1 - delta(a, b)) * (1 - softmax(a) + softmax(b))),
        name="scores",
        by=finite_sum(),
    ),
    holds(equals(1 - softmax(a), others), name="the other tokens", by=finite_sum()),
    holds(at_least(others, 0), name="have no negative probability", by=termwise(Integer(0))),
    holds(
        greater(1 - softmax(a) + softmax(b), 0),
        name="the preferred token rises",
        by=smt(given=[fact(TABLE, part="the other tokens"), fact(TABLE, part="have no negative probability")]),
    ),
    source=RAZIN,
    wrong=[
        wrong("the square of its own score alone", equals(own_square - own_overlap, own_square)),
        wrong(
            "no overlap",
            equals(own_square - own_overlap, (1 - delta(a, b)) * (1 - softmax(a))),
        ),
        wrong("a likelier rejected token rises, too", at_most(1 - softmax(a) + softmax(b), 1)),
    ],
)

# DPO-Positive: a fall of the preferred response below its reference is part of the margin.

penalty_weight = symbol(
    "penalty_weight", Positive, "price of a fall of the preferred response below the reference", tex=r"\lambda"
)

fall = symbol("fall", Positive, "by how much the log-probabilities fall", tex="c")

decline = define(
    "displacement.decline",
    "How far the log-probability of the preferred response is below that of the reference.",
    (chosen_logp, ref_chosen_logp),
    Max(0, ref_chosen_logp - chosen_logp),
    tex=r"d_w",
    source=PAL,
)

dpop_margin = define(
    "displacement.dpop_margin",
    "Margin of DPO-Positive: that of DPO minus βλ times the fall of the preferred response.",
    (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta, penalty_weight),
    dpo_margin() - beta * penalty_weight * decline(),
    tex=r"m_{{\mathrm{{P}}}}",
    source=PAL,
)

fallen = dpo_margin() + beta * penalty_weight * (chosen_logp - ref_chosen_logp)
is_below = less(chosen_logp, ref_chosen_logp)
is_above = greater(chosen_logp, ref_chosen_logp)
from_reference = at_least(chosen_logp, ref_chosen_logp)

dpop_loss = define(
    "displacement.dpop_loss",
    "Loss of DPO-Positive: DPO's loss at that margin, written out on both sides of the kink.",
    (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta, penalty_weight),
    cases((loss(fallen), is_below), (loss(dpo_margin()), True)),
    tex=r"L_{{\mathrm{{P}}}}",
    source=PAL,
)


def on_its_side(below: Expr, above: Expr) -> Expr:
    """What holds below the reference and from it on."""
    return cases((below, is_below), (above, True))


CHOSEN = -beta * (1 + penalty_weight) * sigmoid(-fallen), -beta * sigmoid(-dpo_margin())
REJECTED = beta * sigmoid(-fallen), beta * sigmoid(-dpo_margin())

dpop_chosen_slope = define(
    "displacement.dpop_chosen_slope",
    "Slope of that loss in the preferred response; at the kink, by convention, that of DPO.",
    (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta, penalty_weight),
    on_its_side(*CHOSEN),
    tex=r"\psi_{{w}}",
    convention=True,
)

dpop_rejected_slope = define(
    "displacement.dpop_rejected_slope",
    "Slope of that loss in the rejected response.",
    (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta, penalty_weight),
    on_its_side(*REJECTED),
    tex=r"\psi_{{l}}",
)

SIDES = "displacement.dpop.sides"

claim(
    SIDES,
    "Below its reference the preferred response counts 1 + λ times in the margin, and above once: the margin is that "
    "of DPO minus a price, and never more. A common fall, which leaves DPO's margin as it is, is priced in full.",
    holds(equals(dpop_margin(), fallen), name="below", assuming=[is_below], by=smt()),
    holds(
        equals(dpop_margin(), dpo_margin()),
        name="above",
        assuming=[from_reference],
        by=smt(),
    ),
    holds(at_most(dpop_margin(), dpo_margin()), name="at most that of DPO", by=smt()),
    holds(
        equals(decline(chosen_logp - fall), decline() + fall),
        name="a common fall",
        assuming=[at_most(chosen_logp, ref_chosen_logp)],
        by=smt(),
    ),
    source=PAL,
    wrong=[
        wrong("a price above the reference", equals(dpop_margin(), fallen), assuming=[is_above]),
        wrong("more than that of DPO", at_least(dpop_margin(), dpo_margin())),
        wrong("a common fall changes nothing, as in DPO", equals(decline(chosen_logp - fall), decline())),
    ],
)

GRADIENT = "displacement.dpop.gradient"

claim(
    GRADIENT,
    "While the preferred response is below its reference, its weight is 1 + λ times that of the rejected one, and "
    "equal to it above. Training starts at the kink; the convention there is DPO's slope.",
    holds(
        equals(Diff(dpop_loss(), chosen_logp), -beta * (1 + penalty_weight) * sigmoid(-fallen)),
        name="chosen, below",
        assuming=[is_below],
        by=near(loss(fallen), radius=ref_chosen_logp - chosen_logp),
    ),
    holds(
        equals(Diff(dpop_loss(), chosen_logp), -beta * sigmoid(-dpo_margin())),
        name="chosen, above",
        assuming=[is_above],
        by=near(loss(dpo_margin()), radius=chosen_logp - ref_chosen_logp),
    ),
    holds(
        equals(Diff(dpop_loss(), rejected_logp), beta * sigmoid(-fallen)),
        name="rejected, below",
        assuming=[is_below],
        by=near(loss(fallen), radius=Integer(1)),
    ),
    holds(
        equals(Diff(dpop_loss(), rejected_logp), beta * sigmoid(-dpo_margin())),
        name="rejected, above",
        assuming=[from_reference],
        by=near(loss(dpo_margin()), radius=Integer(1)),
    ),
    holds(equals(on_its_side(m, z), m), name="a case below", assuming=[is_below], by=smt()),
    holds(equals(on_its_side(m, z), z), name="a case above", assuming=[from_reference], by=smt()),
    *(
        part
        for side, slopes in {"chosen": CHOSEN, "rejected": REJECTED}.items()
        for part in (
            holds(
                equals(on_its_side(*slopes), slopes[0]),
                name=f"{side}, definition below",
                assuming=[is_below],
                by=smt(given=[fact(GRADIENT, part="a case below", margin=slopes[0], z=slopes[1])]),
            ),
            holds(
                equals(on_its_side(*slopes), slopes[1]),
                name=f"{side}, definition above and at the kink",
                assuming=[from_reference],
                by=smt(given=[fact(GRADIENT, part="a case above", margin=slopes[0], z=slopes[1])]),
            ),
        )
    ),
    source=PAL,
    wrong=[
        wrong(
            "opposite weights, as in DPO",
            equals(Diff(dpop_loss(), chosen_logp), -Diff(dpop_loss(), rejected_logp)),
            assuming=[is_below],
        ),
        wrong(
            "the price above the reference",
            equals(Diff(dpop_loss(), chosen_logp), -beta * (1 + penalty_weight) * sigmoid(-dpo_margin())),
            assuming=[is_above],
        ),
        wrong(
            "the price outside of the sigmoid",
            equals(Diff(dpop_loss(), chosen_logp), -beta * (1 + penalty_weight) * sigmoid(-dpo_margin())),
            assuming=[is_below],
        ),
        wrong(
            "the price outside of β",
            equals(Diff(dpop_loss(), chosen_logp), -(beta + penalty_weight) * sigmoid(-fallen)),
            assuming=[is_below],
        ),
    ],
)

heavier = Lambda(row, (1 + penalty_weight) * chosen_score[row])
dpop_change = sum_over(chosen_score[row] * pair_step(row, chosen_score=heavier), row)
DPOP = "displacement.dpop.first_order"

claim(
    DPOP,
    "To first order, DPO-Positive lowers the preferred response, too, where its score overlaps with the other's by "
    "more than 1 + λ times its square: rarer than for DPO, and not excluded.",
    holds(equals(dpop_change, pull * ((1 + penalty_weight) * chosen_square - overlap)), name="change", by=finite_sum()),
    holds(
        iff(less(dpop_change, 0), greater(overlap, (1 + penalty_weight) * chosen_square)),
        name="when the chosen falls",
        by=smt(given=[fact(DPOP, part="change")]),
    ),
    source=PAL,
    wrong=[
        wrong("the preferred response never falls", at_least(dpop_change, 0)),
        wrong("as for DPO", iff(less(dpop_change, 0), greater(overlap, chosen_square))),
    ],
)

# WPO: pairs weighted by how likely the policy is to sample them.

aligned = p[y] / sum_over(p[y] ** 2, y)

claim(
    "displacement.weighted",
    "A weight on a pair that is not differentiated is a factor of both slopes. WPO takes π_a/Σπ² for each token, the "
    "geometric mean over a response: for a token that the policy samples, its expectation is 1, whatever the policy.",
    holds(
        equals(Diff(pair_weight * loss(dpo_margin()), chosen_logp), -pair_weight * beta * sigmoid(-dpo_margin())),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(Diff(pair_weight * loss(dpo_margin()), rejected_logp), pair_weight * beta * sigmoid(-dpo_margin())),
        name="rejected",
        by=algebra(),
    ),
    holds(equals(sum_over(p[y] * aligned, y), 1), name="expectation of a token's weight", by=finite_sum()),
    holds(
        at_most(sum_over(p[y] * log(aligned), y), 0),
        name="and of its logarithm",
        by=termwise(p[y] * (aligned - 1), given=[fact("kl.log_bound", part="bound", x=aligned)]),
    ),
    source=ZHOU,
    wrong=[
        wrong(
            "the weight differentiated, too",
            equals(
                Diff(exp(chosen_logp) * loss(dpo_margin()), chosen_logp),
                -exp(chosen_logp) * beta * sigmoid(-dpo_margin()),
            ),
        ),
        wrong("the probability itself", equals(sum_over(p[y] * p[y], y), 1)),
        wrong("every weight is at most 1", at_most(aligned, 1)),
    ],
)

# Where the loss comes to rest, if labels are drawn.

win = sigmoid(reward[w] - reward[o])
expected = win * loss(m) + (1 - win) * loss(-m)
difference = reward[w] - reward[o]
best = dpo_margin(log(optimal_policy(w)), log(optimal_policy(o)), log(ref[w]), log(ref[o]))
REST = "displacement.rest"

claim(
    REST,
    "If labels are drawn by Bradley-Terry from rewards, the expected slope is σ(m) − σ(r_w − r_l): the loss is at rest "
    "exactly where the margin is the difference of the rewards, which is that of the KL-regularised optimum. Log-odds "
    "of the policy are then those of the reference plus (r_w − r_l)/β.",
    holds(equals(Diff(expected, m), sigmoid(m) - win), name="slope", by=algebra()),
    holds(
        equals(sigmoid(m) - win, sigmoid(m) * win * exp(-difference) * (1 - exp(difference - m))),
        name="as a product",
        by=algebra(),
    ),
    holds(
        less(sigmoid(m) * win * exp(-difference) * (1 - exp(difference - m)), 0),
        name="falling below",
        assuming=[less(m, difference)],
        by=smt(given=[fact("kl.log_bound", part="bound", x=exp(difference - m))]),
    ),
    holds(
        greater(sigmoid(m) * win * exp(-difference) * (1 - exp(difference - m)), 0),
        name="rising above",
        assuming=[greater(m, difference)],
        by=smt(given=[fact("kl.log_bound", part="bound", x=exp(m - difference))]),
    ),
    holds(equals(best, difference), name="margin of the optimum", by=finite_sum()),
    wrong=[
        wrong("at rest where the margin is 0", equals(At(Diff(expected, m), m, Integer(0)), 0)),
        wrong("the margin is the difference over β", equals(best, difference / beta)),
        wrong("no rest, as for labels without noise", less(Diff(expected, m), 0)),
    ],
)

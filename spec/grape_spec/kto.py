"""KTO: responses with labels in place of pairs, each compared with an anchor, which is a constant.

K. Ethayarajh et al., KTO: Model Alignment as Prospect Theoretic Optimization, arXiv:2402.01306. Its text was not
compared.
"""

from sympy import Lambda, Max, Rational, exp

from grape_spec.aggregation import B, i
from grape_spec.dpo import beta, sigmoid, z
from grape_spec.language import (
    At,
    Diff,
    Mask,
    Positive,
    Real,
    Source,
    at_least,
    at_most,
    claim,
    define,
    equals,
    family,
    greater,
    holds,
    less,
    substitute,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.proof.rules import algebra, fact, finite_sum, smt

ETHAYARAJH = Source("ethayarajh2024kto")

HALF, QUARTER = Rational(1, 2), Rational(1, 4)

sigmoid_slope = define(
    "pointwise.sigmoid_slope",
    "Slope of the logistic function.",
    (z,),
    sigmoid(z) * sigmoid(-z),
    tex=r"\sigma'({z})",
    domain=Positive,
)


def log_bound(x):
    """log x ≤ x − 1."""
    return fact("kl.log_bound", part="bound", x=x)


EXPONENTIAL = [fact("pointwise.sigmoid", part="in one exponential"), log_bound(exp(z)), log_bound(1 / exp(z))]

claim(
    "pointwise.sigmoid",
    "The slope of the logistic function is the same on either side of 0, at most a quarter, and that at 0 alone. "
    "Near 0 it is nearly a quarter, and far from 0 it fades as an exponential.",
    holds(equals(Diff(sigmoid(z), z), sigmoid_slope(z)), name="slope", by=algebra()),
    holds(equals(sigmoid_slope(-z), sigmoid_slope(z)), name="either side", by=algebra()),
    holds(equals(QUARTER - sigmoid_slope(z), (sigmoid(z) - HALF) ** 2), name="what is missing", by=algebra()),
    holds(equals(sigmoid_slope(0), QUARTER), name="at 0", by=algebra()),
    holds(equals(sigmoid_slope(z), exp(z) / (1 + exp(z)) ** 2), name="in one exponential", by=algebra()),
    holds(
        at_most(sigmoid_slope(z), QUARTER),
        name="a quarter at most",
        by=smt(given=[fact("pointwise.sigmoid", part="what is missing")]),
    ),
    holds(
        less(sigmoid_slope(z), QUARTER),
        name="less elsewhere",
        assuming=[greater(z, 0)],
        by=smt(given=EXPONENTIAL),
    ),
    holds(at_most(exp(z) - 1, z * exp(z)), name="rise of the exponential", by=smt(given=[log_bound(1 / exp(z))])),
    holds(at_least(exp(z), 1), name="at least 1", assuming=[at_least(z, 0)], by=smt(given=[log_bound(exp(z))])),
    holds(
        at_least(sigmoid_slope(z), (1 - z**2) / 4),
        name="near 0, above",
        assuming=[at_least(z, 0)],
        by=smt(
            given=[
                fact("pointwise.sigmoid", part=part)
                for part in ("in one exponential", "rise of the exponential", "at least 1")
            ]
        ),
    ),
    holds(
        at_least(sigmoid_slope(z), (1 - z**2) / 4),
        name="near 0, below",
        assuming=[at_most(z, 0)],
        by=smt(
            given=[fact("pointwise.sigmoid", part="either side"), fact("pointwise.sigmoid", part="near 0, above", z=-z)]
        ),
    ),
    holds(equals(sigmoid_slope(z), exp(-z) * sigmoid(z) ** 2), name="far above", by=algebra()),
    holds(equals(sigmoid_slope(z), exp(z) * sigmoid(-z) ** 2), name="far below", by=algebra()),
    wrong=[
        wrong("a half at 0", equals(sigmoid_slope(0), HALF)),
        wrong("it falls from −∞ to ∞, as that of log σ", at_most(sigmoid_slope(z), sigmoid_slope(z - 1))),
        wrong("the slope of log σ", equals(Diff(sigmoid(z), z), sigmoid(-z))),
    ],
)

labelled_logp = symbol("labelled_logp", Real, "log-probability of a labelled response", tex=r"\ell")
ref_labelled_logp = symbol(
    "ref_labelled_logp", Real, "log-probability of a labelled response under the reference", tex=r"\ell^{\mathrm{ref}}"
)
log_ratio = symbol("labelled_log_ratio", Real, "log-ratio of a labelled response to the reference", tex=r"\Delta")
anchor = symbol("anchor", Real, "log-ratio with which others are compared, a constant", tex="z_0")
away = symbol("from_point", Real, "distance from a point", tex="s")
label = symbol("label", Mask(), "1 for a desirable response, 0 for an undesirable one", tex=r"\mathbb{1}_D")
desirable_weight = symbol("desirable_weight", Positive, "weight of a desirable response", tex=r"\lambda_D")
undesirable_weight = symbol("undesirable_weight", Positive, "weight of an undesirable response", tex=r"\lambda_U")
desirable_count = symbol("desirable_count", Positive, "number of desirable responses", tex="n_D")
undesirable_count = symbol("undesirable_count", Positive, "number of undesirable responses", tex="n_U")
mean_log_ratio = symbol("mean_log_ratio", Real, "mean log-ratio of mismatched responses", tex=r"\bar\Delta")
mismatched = family(
    "mismatched", Real, B, text="log-ratio of the response to another prompt, given each prompt", tex=r"\Delta'"
)

ratio_of = define(
    "pointwise.log_ratio",
    "Log-ratio of a response to the reference.",
    (labelled_logp, ref_labelled_logp),
    labelled_logp - ref_labelled_logp,
    tex=r"\Delta({labelled_logp})",
)

desirable = define(
    "pointwise.kto_desirable",
    "KTO's loss of a desirable response.",
    (log_ratio, anchor, beta, desirable_weight),
    desirable_weight * (1 - sigmoid(beta * (log_ratio - anchor))),
    tex=r"L_D({labelled_log_ratio}, {anchor})",
    source=ETHAYARAJH,
)

undesirable = define(
    "pointwise.kto_undesirable",
    "KTO's loss of an undesirable response.",
    (log_ratio, anchor, beta, undesirable_weight),
    undesirable_weight * (1 - sigmoid(beta * (anchor - log_ratio))),
    tex=r"L_U({labelled_log_ratio}, {anchor})",
    source=ETHAYARAJH,
)

kto_loss = define(
    "pointwise.kto_loss",
    "KTO's loss of a response, by its label.",
    (label, log_ratio, anchor, beta, desirable_weight, undesirable_weight),
    label * desirable() + (1 - label) * undesirable(),
    tex=r"L_{{\mathrm{{KTO}}}}",
    source=ETHAYARAJH,
)

kto_anchor = define(
    "pointwise.kto_anchor",
    "KTO's anchor, from the mean log-ratio of mismatched responses: that mean, but at least 0.",
    (mean_log_ratio,),
    Max(0, mean_log_ratio),
    tex=r"z_0({mean_log_ratio})",
    source=ETHAYARAJH,
)

gap = beta * (log_ratio - anchor)
at_gap = {"z": gap}
pull = beta * sigmoid_slope(gap)

claim(
    "pointwise.kto.slope",
    "A desirable response is raised and an undesirable one lowered, with the weight λβσ′(β(Δ − z₀)): at most λβ/4, "
    "which it is at the anchor.",
    holds(equals(Diff(desirable(), log_ratio), -desirable_weight * pull), name="desirable", by=algebra()),
    holds(equals(Diff(undesirable(), log_ratio), undesirable_weight * pull), name="undesirable", by=algebra()),
    holds(
        equals(
            Diff(kto_loss(labelled_log_ratio=ratio_of()), labelled_logp),
            ((1 - label) * undesirable_weight - label * desirable_weight)
            * beta
            * sigmoid_slope(beta * (ratio_of() - anchor)),
        ),
        name="by the label",
        by=algebra(),
    ),
    holds(
        at_most(desirable_weight * pull, desirable_weight * beta / 4),
        name="bound",
        by=smt(given=[fact("pointwise.sigmoid", part="a quarter at most", **at_gap)]),
    ),
    holds(
        equals(At(Diff(desirable(), log_ratio), log_ratio, anchor), -desirable_weight * beta / 4),
        name="at the anchor",
        by=algebra(),
    ),
    source=ETHAYARAJH,
    wrong=[
        wrong(
            "the anchor is differentiated, as half of it is the response's own log-ratio",
            equals(
                Diff(desirable(anchor=log_ratio / 2), log_ratio), -desirable_weight * pull.subs(anchor, log_ratio / 2)
            ),
        ),
        wrong("the slope of −log σ", equals(Diff(desirable(), log_ratio), -desirable_weight * beta * sigmoid(-gap))),
        wrong("without β", equals(Diff(desirable(), log_ratio), -desirable_weight * sigmoid_slope(gap))),
        wrong("both are raised", equals(Diff(undesirable(), log_ratio), -undesirable_weight * pull)),
        wrong("at most λβ/8", at_most(desirable_weight * pull, desirable_weight * beta / 8)),
    ],
)

claim(
    "pointwise.kto.saturation",
    "Responses as far above the anchor as below it have the same weight, and it fades as an exponential: a desirable "
    "response that has become very unlikely is given up.",
    holds(
        equals(
            At(Diff(desirable(), log_ratio), log_ratio, anchor - away),
            At(Diff(desirable(), log_ratio), log_ratio, anchor + away),
        ),
        name="either side",
        by=algebra(),
    ),
    holds(equals(pull, beta * exp(-gap) * sigmoid(gap) ** 2), name="far above", by=algebra()),
    holds(equals(pull, beta * exp(gap) * sigmoid(-gap) ** 2), name="far below", by=algebra()),
    source=ETHAYARAJH,
    wrong=[
        wrong(
            "the less likely, the more weight, as in DPO",
            greater(desirable_weight * pull, desirable_weight * beta / 4),
            assuming=[less(log_ratio, anchor)],
        ),
        wrong(
            "either side of 0, whatever the anchor",
            equals(
                At(Diff(desirable(), log_ratio), log_ratio, -away), At(Diff(desirable(), log_ratio), log_ratio, away)
            ),
        ),
    ],
)

claim(
    "pointwise.kto.anchor",
    "The anchor shifts the log-ratios and does not scale them: what is added to both changes nothing. So its slope "
    "would be the opposite of that of the log-ratio, and a response that is its own anchor would learn nothing.",
    holds(equals(desirable(log_ratio + away, anchor + away), desirable()), name="desirable", by=algebra()),
    holds(equals(undesirable(log_ratio + away, anchor + away), undesirable()), name="undesirable", by=algebra()),
    holds(equals(desirable(anchor, anchor), desirable_weight / 2), name="its own anchor", by=algebra()),
    holds(equals(Diff(desirable(), anchor), -Diff(desirable(), log_ratio)), name="in the anchor", by=algebra()),
    holds(
        equals(undesirable(-log_ratio, -anchor, beta, desirable_weight), desirable()),
        name="the opposite label",
        by=algebra(),
    ),
    source=ETHAYARAJH,
    wrong=[
        wrong("it scales", equals(desirable(2 * log_ratio, 2 * anchor), desirable())),
        wrong("it is added", equals(desirable(log_ratio + away, anchor - away), desirable())),
        wrong("in units of the reward", equals(desirable(anchor, anchor / beta), desirable_weight / 2)),
    ],
)

mean = sum_over(mismatched[i], i) / B

claim(
    "pointwise.kto.estimate",
    "The anchor estimates a divergence, so it is at least 0. Where the mean of the mismatched log-ratios is positive "
    "it is that mean, and at the reference it is 0.",
    holds(at_least(kto_anchor(mean), 0), name="at least 0", by=smt()),
    holds(equals(kto_anchor(mean), mean), name="a positive mean", assuming=[greater(mean, 0)], by=smt()),
    holds(equals(kto_anchor(mean), 0), name="a negative mean", assuming=[less(mean, 0)], by=smt()),
    holds(
        equals(kto_anchor(substitute(mean, {mismatched: Lambda(i, 0)})), 0), name="at the reference", by=finite_sum()
    ),
    source=ETHAYARAJH,
    wrong=[
        wrong("without the bound of 0", equals(kto_anchor(mean), mean)),
        wrong("each log-ratio is at least 0", equals(kto_anchor(mean), sum_over(Max(0, mismatched[i]), i) / B)),
    ],
)

claim(
    "pointwise.kto.linear",
    "At the anchor the loss has an inflection: for a desirable response it is concave below and convex above. Within "
    "a distance of s, the weight is λβ/4 up to a share of (βs)²: for small β the loss is nearly linear.",
    holds(
        equals(
            Diff(desirable(), log_ratio, log_ratio),
            desirable_weight * beta**2 * sigmoid_slope(gap) * (2 * sigmoid(gap) - 1),
        ),
        name="curvature",
        by=algebra(),
    ),
    holds(equals(2 * sigmoid(gap) - 1, (1 - exp(-gap)) / (1 + exp(-gap))), name="its last factor", by=algebra()),
    holds(
        less(2 * sigmoid(gap) - 1, 0),
        name="concave below",
        assuming=[less(log_ratio, anchor)],
        by=smt(given=[fact("pointwise.kto.linear", part="its last factor"), log_bound(exp(-gap))]),
    ),
    holds(
        greater(2 * sigmoid(gap) - 1, 0),
        name="convex above",
        assuming=[greater(log_ratio, anchor)],
        by=smt(given=[fact("pointwise.kto.linear", part="its last factor"), log_bound(1 / exp(-gap))]),
    ),
    *(
        holds(
            at_least(desirable_weight * pull, desirable_weight * beta / 4 * (1 - gap**2)),
            name=f"nearly linear {side}",
            assuming=[assumed],
            by=smt(given=[fact("pointwise.sigmoid", part=f"near 0, {side}", **at_gap)]),
        )
        for side, assumed in {"above": at_least(log_ratio, anchor), "below": at_most(log_ratio, anchor)}.items()
    ),
    source=ETHAYARAJH,
    wrong=[
        wrong("convex, as DPO's", at_least(Diff(desirable(), log_ratio, log_ratio), 0)),
        wrong("linear", equals(desirable_weight * pull, desirable_weight * beta / 4)),
    ],
)

alike = desirable_count * desirable() + undesirable_count * undesirable()

claim(
    "pointwise.kto.balance",
    "If all responses have one log-ratio, the sum of the losses falls with it where n_D·λ_D is larger than n_U·λ_U, "
    "rises where it is smaller, and stays where the two are equal: then no label outweighs the other, whatever the "
    "anchor. "
    "A response that has both labels is driven without an end, to the side that weighs more.",
    holds(
        equals(
            Diff(alike, log_ratio),
            (undesirable_count * undesirable_weight - desirable_count * desirable_weight) * pull,
        ),
        name="slope",
        by=algebra(),
    ),
    holds(
        equals(
            desirable_count * desirable()
            + undesirable_count
            * undesirable(undesirable_weight=desirable_count * desirable_weight / undesirable_count),
            desirable_count * desirable_weight,
        ),
        name="balanced",
        by=algebra(),
    ),
    source=ETHAYARAJH,
    wrong=[
        wrong(
            "balanced by equal weights",
            equals(
                desirable_count * desirable() + undesirable_count * undesirable(undesirable_weight=desirable_weight),
                desirable_count * desirable_weight,
            ),
        ),
        wrong(
            "the reciprocal",
            equals(
                desirable_count * desirable()
                + undesirable_count
                * undesirable(undesirable_weight=undesirable_count * desirable_weight / desirable_count),
                desirable_count * desirable_weight,
            ),
        ),
    ],
)

"""Odds ratio preference optimisation: the likelihood of one response and the odds ratio of two, without a reference.

J. Hong et al., ORPO: Monolithic Preference Optimization without Reference Model, arXiv:2403.07691. Its text was not
compared. The probability of a response is the geometric mean over its tokens, so its logarithm is the mean.
"""

from sympy import exp, log

from grape_spec.dpo import chosen_length, chosen_logp, loss, m, rejected_length, rejected_logp, sigmoid
from grape_spec.language import (
    Diff,
    Open,
    Positive,
    Source,
    at_least,
    at_most,
    claim,
    define,
    equals,
    greater,
    holds,
    symbol,
    wrong,
)
from grape_spec.proof.rules import algebra, chain_rule, smt

HONG = Source("hong2024orpo")

chance = symbol("chance", Open(0, 1), "probability of a response, the geometric mean over its tokens", tex="P")
chosen_chance = symbol("chosen_chance", Open(0, 1), "that of the preferred response", tex="P_w")
rejected_chance = symbol("rejected_chance", Open(0, 1), "that of the rejected response", tex="P_l")
odds_weight = symbol("odds_weight", Positive, "weight of the term of the odds", tex=r"\lambda")

chosen_mean = define(
    "orpo.chosen_mean",
    "Geometric mean of the probabilities of the tokens of the preferred response.",
    (chosen_logp, chosen_length),
    exp(chosen_logp / chosen_length),
    tex=r"\bar{{p}}_w",
    domain=Positive,
    source=HONG,
)

rejected_mean = define(
    "orpo.rejected_mean",
    "Geometric mean of the probabilities of the tokens of the rejected response.",
    (rejected_logp, rejected_length),
    exp(rejected_logp / rejected_length),
    tex=r"\bar{{p}}_l",
    domain=Positive,
    source=HONG,
)

odds = define(
    "orpo.odds_of",
    "Odds of a response.",
    (chance,),
    chance / (1 - chance),
    tex=r"\mathrm{{odds}}({chance})",
    source=HONG,
)

log_odds = define(
    "orpo.log_odds",
    "Logarithm of the odds of a response.",
    (chance,),
    log(chance) - log(1 - chance),
    tex=r"o({chance})",
    source=HONG,
)

log_odds_ratio = define(
    "orpo.log_odds_ratio",
    "Log-odds of the preferred response minus those of the rejected one.",
    (chosen_chance, rejected_chance),
    log_odds(chosen_chance) - log_odds(rejected_chance),
    tex=r"\Delta o",
    source=HONG,
)

pair_loss = define(
    "orpo.loss",
    "Negative mean log-probability of the preferred response, plus λ times the negative log-likelihood that the odds "
    "rank the pair correctly.",
    (chosen_chance, rejected_chance, odds_weight),
    -log(chosen_chance) + odds_weight * loss(log_odds_ratio()),
    tex=r"L_{{\mathrm{{ORPO}}}}",
    source=HONG,
)

wrongly = sigmoid(-log_odds_ratio())

claim(
    "orpo.odds",
    "The log-odds are the logarithm of P/(1 − P). Their slope in log P, which is P times that in P, is 1/(1 − P): it "
    "grows without bound as the response becomes certain.",
    holds(equals(log_odds(), log(odds())), name="odds", by=algebra()),
    holds(equals(log_odds(1 - chance), -log_odds()), name="of the opposite", by=algebra()),
    holds(equals(chance * Diff(log_odds(), chance), 1 / (1 - chance)), name="slope in log P", by=algebra()),
    source=HONG,
    wrong=[
        wrong("the slope of log P", equals(chance * Diff(log_odds(), chance), 1)),
        wrong("the slope in P", equals(Diff(log_odds(), chance), 1 / (1 - chance))),
        wrong("the odds of a product of P: P itself", equals(log_odds(), log(chance))),
    ],
)

claim(
    "orpo.odds.chosen",
    "The slope of the log-odds ratio in the probability of the preferred response.",
    holds(
        equals(Diff(log_odds_ratio(), chosen_chance), 1 / (chosen_chance * (1 - chosen_chance))),
        by=algebra(),
    ),
    source=HONG,
    wrong=[wrong("that of the log-ratio", equals(Diff(log_odds_ratio(), chosen_chance), 1 / chosen_chance))],
)

claim(
    "orpo.odds.rejected",
    "The slope of the log-odds ratio in the probability of the rejected response.",
    holds(
        equals(Diff(log_odds_ratio(), rejected_chance), -1 / (rejected_chance * (1 - rejected_chance))),
        by=algebra(),
    ),
    source=HONG,
    wrong=[wrong("that of the log-ratio", equals(Diff(log_odds_ratio(), rejected_chance), -1 / rejected_chance))],
)

at_pair = {m: log_odds_ratio()}

claim(
    "orpo.gradient",
    "In log P, the preferred response has the slope −1 of its likelihood and −λ/(1 − P) times the probability that the "
    "odds rank the pair wrongly; the rejected one has the latter with its own P and the opposite sign. Here are the "
    "slopes in P: P times each is that in log P.",
    holds(
        equals(Diff(odds_weight * loss(m), m), -odds_weight * sigmoid(-m)), name="in the log-odds ratio", by=algebra()
    ),
    holds(
        equals(
            Diff(odds_weight * loss(log_odds_ratio()), chosen_chance),
            -odds_weight * wrongly / (chosen_chance * (1 - chosen_chance)),
        ),
        name="of the odds, chosen",
        by=chain_rule(inner="orpo.odds.chosen", outer="in the log-odds ratio", at=at_pair),
    ),
    holds(
        equals(
            Diff(pair_loss(), chosen_chance),
            -1 / chosen_chance - odds_weight * wrongly / (chosen_chance * (1 - chosen_chance)),
        ),
        name="chosen",
        by=algebra(),
    ),
    holds(
        equals(
            Diff(odds_weight * loss(log_odds_ratio()), rejected_chance),
            odds_weight * wrongly / (rejected_chance * (1 - rejected_chance)),
        ),
        name="of the odds, rejected",
        by=chain_rule(inner="orpo.odds.rejected", outer="in the log-odds ratio", at=at_pair),
    ),
    holds(
        equals(Diff(pair_loss(), rejected_chance), odds_weight * wrongly / (rejected_chance * (1 - rejected_chance))),
        name="rejected",
        by=algebra(),
    ),
    source=HONG,
    wrong=[
        wrong(
            "λ inside the sigmoid, as β in DPO",
            equals(
                chosen_chance * Diff(pair_loss(), chosen_chance),
                -1 - odds_weight * sigmoid(-odds_weight * log_odds_ratio()) / (1 - chosen_chance),
            ),
        ),
        wrong(
            "probabilities for odds",
            equals(chosen_chance * Diff(pair_loss(), chosen_chance), -1 - odds_weight * wrongly),
        ),
        wrong(
            "weighted by the probability of the correct ranking",
            equals(
                rejected_chance * Diff(pair_loss(), rejected_chance),
                odds_weight * sigmoid(log_odds_ratio()) / (1 - rejected_chance),
            ),
        ),
        wrong(
            "the preferred response is left to the likelihood",
            equals(chosen_chance * Diff(pair_loss(), chosen_chance), -1),
        ),
    ],
)

unlikely = (1 - chosen_chance) / (1 - rejected_chance)
mixed = chosen_chance * (1 - rejected_chance) + rejected_chance * (1 - chosen_chance)

room = chosen_chance * (1 - rejected_chance) ** 2 + rejected_chance * (1 - chosen_chance)

claim(
    "orpo.certain",
    "The two factors of the slopes, written as one fraction: that of the preferred response stays below 1/(P_w(1 − "
    "P_l)) as it becomes certain, where its factor 1/(1 − P_w) alone has no bound.",
    holds(equals(wrongly / (1 - chosen_chance), rejected_chance / mixed), name="chosen", by=algebra()),
    holds(
        equals(
            wrongly / (1 - rejected_chance), rejected_chance * (1 - chosen_chance) / ((1 - rejected_chance) * mixed)
        ),
        name="rejected",
        by=algebra(),
    ),
    holds(equals(mixed - rejected_chance * chosen_chance * (1 - rejected_chance), room), name="room", by=algebra()),
    holds(greater(room, 0), name="bound", by=smt()),
    wrong=[
        wrong("at most 1, as for log P", at_most(rejected_chance / mixed, 1)),
        wrong(
            "bounded for the rejected response, too",
            at_most(unlikely * rejected_chance / mixed, 1 / chosen_chance),
        ),
    ],
)

further = (1 - rejected_chance) / (1 - chosen_chance)

claim(
    "orpo.ratio",
    "The ratio of the odds is further from 1 than that of the probabilities, on the same side: it ranks pairs alike, "
    "and more sharply.",
    holds(
        equals(odds(chosen_chance) / odds(rejected_chance), chosen_chance / rejected_chance * further),
        name="what the odds add",
        by=algebra(),
    ),
    holds(
        at_least(further, 1),
        name="ranked correctly",
        assuming=[at_least(chosen_chance, rejected_chance)],
        by=smt(),
    ),
    holds(
        at_most(further, 1),
        name="ranked wrongly",
        assuming=[at_most(chosen_chance, rejected_chance)],
        by=smt(),
    ),
    source=HONG,
    wrong=[
        wrong(
            "the ratio of the probabilities",
            equals(odds(chosen_chance) / odds(rejected_chance), chosen_chance / rejected_chance),
        ),
        wrong("the odds add something, whichever is likelier", at_least(further, 1)),
    ],
)

"""The reward model: the Bradley-Terry likelihood of one preference.

R. A. Bradley and M. E. Terry, Rank Analysis of Incomplete Block Designs, 1952. For language models: L. Ouyang et al.,
Training Language Models to Follow Instructions with Human Feedback, arXiv:2203.02155.
"""

from sympy import log

from grape_spec.dpo import sigmoid
from grape_spec.language import (
    Diff,
    Real,
    Source,
    at_least,
    claim,
    define,
    equals,
    greater,
    holds,
    substitute,
    symbol,
    wrong,
)
from grape_spec.proof.rules import algebra, fact, smt

BRADLEY_TERRY = Source("bradley1952rank")
OUYANG = Source("ouyang2022training")

chosen_reward = symbol("chosen_reward", Real, "reward of the preferred response", tex="r_w")
rejected_reward = symbol("rejected_reward", Real, "reward of the rejected response", tex="r_l")
common = symbol("common", Real, "a constant added to both rewards, such as one that depends on the prompt", tex="b")

bradley_terry = define(
    "reward.bradley_terry",
    "Negative log-likelihood of a preference: the preferred response wins with probability σ of the difference.",
    (chosen_reward, rejected_reward),
    -log(sigmoid(chosen_reward - rejected_reward)),
    tex=r"L_{{\mathrm{{BT}}}}({chosen_reward}, {rejected_reward})",
    source=OUYANG.eq(1),
)

loss = bradley_terry()
ranked, misranked = sigmoid(chosen_reward - rejected_reward), sigmoid(rejected_reward - chosen_reward)

along_chosen = symbol("along_chosen", Real, "part of a direction along the reward of the preferred response", tex="u")
along_rejected = symbol(
    "along_rejected", Real, "part of a direction along the reward of the rejected response", tex="v"
)
curvature = (
    along_chosen**2 * Diff(loss, chosen_reward, chosen_reward)
    + 2 * along_chosen * along_rejected * Diff(loss, chosen_reward, rejected_reward)
    + along_rejected**2 * Diff(loss, rejected_reward, rejected_reward)
)

claim(
    "reward.bradley_terry.gradient",
    "The loss pushes the two rewards apart with the same weight, the probability of the wrong ranking. It is convex "
    "in both together (its Hessian is positive semidefinite), and a constant added to both rewards has no effect.",
    holds(equals(Diff(loss, chosen_reward), -misranked), name="chosen", by=algebra()),
    holds(equals(Diff(loss, rejected_reward), misranked), name="rejected", by=algebra()),
    holds(
        equals(Diff(loss, chosen_reward, chosen_reward), misranked * ranked),
        name="curvature in the chosen",
        by=algebra(),
    ),
    holds(
        equals(Diff(loss, rejected_reward, rejected_reward), misranked * ranked),
        name="curvature in the rejected",
        by=algebra(),
    ),
    holds(
        equals(Diff(loss, chosen_reward, rejected_reward), -misranked * ranked),
        name="curvature in both",
        by=algebra(),
    ),
    holds(greater(misranked * ranked, 0), name="positive", by=smt()),
    holds(
        equals(curvature, misranked * ranked * (along_chosen - along_rejected) ** 2),
        name="curvature in any direction",
        by=algebra(),
    ),
    holds(
        at_least(curvature, 0),
        name="convex",
        by=smt(
            given=[
                fact("reward.bradley_terry.gradient", part="curvature in any direction"),
                fact("reward.bradley_terry.gradient", part="positive"),
            ]
        ),
    ),
    holds(
        equals(bradley_terry(chosen_reward + common, rejected_reward + common), loss),
        name="shift",
        by=algebra(),
    ),
    source=BRADLEY_TERRY,
    wrong=[
        wrong(
            "weighted by the probability of the correct ranking",
            equals(Diff(loss, chosen_reward), -ranked),
        ),
        wrong(
            "strictly convex, also if both rewards rise alike",
            greater(substitute(curvature, {along_rejected: along_chosen}), 0),
        ),
        wrong("both rewards move the same way", equals(Diff(loss, rejected_reward), -misranked)),
        wrong(
            "scaling the rewards has no effect, either",
            equals(bradley_terry(2 * chosen_reward, 2 * rejected_reward), loss),
        ),
    ],
)

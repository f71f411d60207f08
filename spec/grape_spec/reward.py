"""The reward model: the Bradley-Terry likelihood of one preference.

R. A. Bradley and M. E. Terry, Rank Analysis of Incomplete Block Designs, 1952. For language models: L. Ouyang et al.,
Training Language Models to Follow Instructions with Human Feedback, arXiv:2203.02155.
"""

from sympy import log

from grape_spec.dpo import sigmoid
from grape_spec.language import Diff, Real, Source, claim, define, equals, greater, holds, symbol, wrong
from grape_spec.proof.rules import algebra, smt

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
    tex="L",
    source=OUYANG.eq(1),
)

loss = bradley_terry()
ranked, misranked = sigmoid(chosen_reward - rejected_reward), sigmoid(rejected_reward - chosen_reward)

claim(
    "reward.bradley_terry.gradient",
    "The loss pushes the two rewards apart with the same weight, the probability of the wrong ranking. It is convex, "
    "and a constant added to both rewards has no effect.",
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
    holds(greater(misranked * ranked, 0), name="convex", by=smt()),
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
        wrong("both rewards move the same way", equals(Diff(loss, rejected_reward), -misranked)),
        wrong(
            "scaling the rewards has no effect, either",
            equals(bradley_terry(2 * chosen_reward, 2 * rejected_reward), loss),
        ),
    ],
)

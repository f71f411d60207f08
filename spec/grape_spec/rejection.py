"""Rejection sampling: draw responses, keep some of them, and fine-tune on those.

Best of n keeps the best of n samples. A threshold keeps every sample whose reward reaches it. Acceptance sampling keeps
a sample with a probability that turns samples of the reference into samples of the optimum of the KL-regularised
reward.
"""

from sympy import Lambda, Max, exp, log

from grape_spec.aggregation import B, denominator, i, mask, position, row, token_count, token_mean
from grape_spec.dpo import beta, optimal_policy, partition, ref, reward, w
from grape_spec.kl import y
from grape_spec.language import (
    Diff,
    Mask,
    NonNegative,
    Positive,
    Real,
    Source,
    at_most,
    cases,
    claim,
    define,
    equals,
    family,
    greater,
    holds,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import V, k, logits, logp, softmax, t, v
from grape_spec.proof.rules import algebra, fact, finite_sum, smt
from grape_spec.sft import excess, objective, target, target_logp, token_logits, token_loss, varied

LIU = Source("liu2024statistical")

# Acceptance: each sample of the reference is kept or not, by an independent draw.

prize_of_one = symbol("outcome_reward", Real, "reward of a sample", tex="r")
max_reward = symbol("max_reward", Real, "an upper bound of the rewards", tex=r"r_{\max}")
uniform = symbol("uniform", NonNegative, "a uniform random number below 1", tex="u")
threshold = symbol("threshold", Real, "the smallest reward that is kept", tex="c")

probability = symbol("probability", Positive, "probability with which a sample is accepted", tex=r"\alpha")

acceptance = define(
    "rejection.acceptance",
    "Probability with which a sample is accepted.",
    (prize_of_one, max_reward, beta),
    exp((prize_of_one - max_reward) / beta),
    tex=r"\alpha({outcome_reward})",
    domain=Positive,
)

acceptance_weight = define(
    "rejection.acceptance_weight",
    "Weight of a sample under acceptance: 1 if its uniform number is below its acceptance probability, else 0.",
    (uniform, probability),
    cases((1, uniform < probability), (0, True)),
    convention=True,
)

threshold_weight = define(
    "rejection.threshold_weight",
    "Weight of a sample under a threshold: 1 if its reward is at least the threshold, else 0.",
    (prize_of_one, threshold),
    cases((1, prize_of_one >= threshold), (0, True)),
    convention=True,
)

accepted_share = sum_over(ref[y] * acceptance(reward[y]), y)

claim(
    "rejection.acceptance.target",
    "Samples of the reference that are accepted with probability exp((r − r_max)/β) follow the policy that maximises "
    "the reward minus β times the divergence from the reference.",
    holds(
        equals(acceptance() * exp((max_reward - prize_of_one) / beta), 1),
        name="the inverse",
        by=algebra(),
    ),
    holds(
        at_most(acceptance(), 1),
        name="a probability",
        assuming=[at_most(prize_of_one, max_reward)],
        by=smt(
            given=[
                fact("rejection.acceptance.target", part="the inverse"),
                fact("kl.log_bound", part="bound", x=exp((max_reward - prize_of_one) / beta)),
            ]
        ),
    ),
    holds(
        equals(ref[w] * acceptance(reward[w]) / accepted_share, optimal_policy(w)),
        name="what is accepted",
        by=finite_sum(),
    ),
    uses=["dpo.kl_optimum"],
    source=LIU,
    wrong=[
        wrong(
            "with the reward times β",
            equals(
                ref[w]
                * exp(beta * (reward[w] - max_reward))
                / sum_over(ref[y] * exp(beta * (reward[y] - max_reward)), y),
                optimal_policy(w),
            ),
        ),
        wrong(
            "it is a probability without the largest reward, too",
            at_most(acceptance(max_reward=0), 1),
            assuming=[at_most(prize_of_one, max_reward)],
        ),
    ],
)

claim(
    "rejection.acceptance.rate",
    "A sample of the reference is accepted with probability Z·exp(−r_max/β), where Z is the partition function of "
    "the optimal policy.",
    holds(equals(accepted_share, partition() * exp(-max_reward / beta)), by=finite_sum()),
    source=LIU,
    wrong=[
        wrong("the partition function itself", equals(accepted_share, partition())),
        wrong("its inverse", equals(accepted_share, exp(max_reward / beta) / partition())),
    ],
)

# The objective that fine-tuning on kept samples maximises.

kept = family(
    "kept_share", NonNegative, V, text="weight of each response, such as the probability that it is kept", tex=r"\alpha"
)

kept_share = define(
    "rejection.kept_share",
    "Probability that a sample of the policy is kept.",
    (logits, kept),
    sum_over(softmax(v) * kept[v], v),
    tex="A",
)

claim(
    "rejection.filter.gradient",
    "The gradient of the log-probability that a sample is kept is the mean score of the kept samples, so fine-tuning "
    "on them ascends it. This holds for any nonnegative weights, 0 and 1 included, if anything is kept at all.",
    holds(
        equals(
            Diff(log(kept_share()), logits[k]),
            sum_over(softmax(v) * kept[v] / kept_share() * Diff(log(softmax(v)), logits[k]), v),
        ),
        assuming=[greater(kept_share(), 0)],
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "the mean score without dividing by the probability that a sample is kept",
            equals(
                Diff(log(kept_share()), logits[k]), sum_over(softmax(v) * kept[v] * Diff(log(softmax(v)), logits[k]), v)
            ),
            assuming=[greater(kept_share(), 0)],
        ),
        wrong(
            "all samples, kept or not",
            equals(Diff(log(kept_share()), logits[k]), sum_over(softmax(v) * Diff(log(softmax(v)), logits[k]), v)),
            assuming=[greater(kept_share(), 0)],
        ),
    ],
)

# The loss: fine-tuning with a weight for each sequence.

weight = family("sequence_weight", NonNegative, B, text="weight of each sequence, 0 where it is not kept", tex="w")
keep = family("keep", Mask(), B, text="1 where a sequence is kept", tex="b")

kept_tokens = define(
    "rejection.kept_tokens",
    "Number of tokens that count, each multiplied by the weight of its sequence; by convention at least 1.",
    (weight, mask),
    Max(1, sum_over(weight[i] * mask[i, t], i, t)),
    domain=Positive,
    convention=True,
)

kept_sequences = define(
    "rejection.kept_sequences",
    "Number of sequences, each multiplied by its weight; by convention at least 1.",
    (weight,),
    Max(1, sum_over(weight[i], i)),
    domain=Positive,
    convention=True,
)

kept_weight = symbol("kept_weight", NonNegative, "weight of the sequence of a token", tex="w")

weighted_loss = define(
    "rejection.token_loss",
    "Negative log-likelihood of a token, times the weight of its sequence.",
    (kept_weight, logp),
    kept_weight * token_loss(),
    tex=r"L_{{{kept_weight}}}({logp})",
)

loss = define(
    "rejection.loss",
    "Negative log-likelihood of the tokens that count, each times the weight of its sequence, divided by a "
    "denominator.",
    (token_logits, target, weight, mask, denominator),
    token_mean(Lambda((i, t), weighted_loss(weight[i], target_logp()))),
    tex=r"L_{{\mathrm{{kept}}}}",
)

claim(
    "rejection.loss.gradient",
    "The gradient of every logit is that of supervised fine-tuning, times the weight of its sequence.",
    holds(
        equals(Diff(loss(), varied), weight[row] * mask[row, position] * excess / denominator),
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "sequences that are not kept count in the denominator",
            equals(
                Diff(loss(denominator=kept_tokens()), varied),
                weight[row] * mask[row, position] * excess / token_count(),
            ),
        ),
        wrong("without the weights", equals(Diff(loss(), varied), mask[row, position] * excess / denominator)),
    ],
)

kept_mask = Lambda((i, t), keep[i] * mask[i, t])

claim(
    "rejection.loss.kept",
    "With weights of 0 and 1 the loss is that of supervised fine-tuning on the kept sequences alone.",
    holds(
        equals(
            loss(sequence_weight=keep, denominator=kept_tokens(keep)),
            objective(mask=kept_mask, denominator=token_count(kept_mask)),
        ),
        by=finite_sum(),
    ),
    wrong=[
        wrong(
            "with all tokens in the denominator",
            equals(
                loss(sequence_weight=keep, denominator=token_count()),
                objective(mask=kept_mask, denominator=token_count(kept_mask)),
            ),
        )
    ],
)

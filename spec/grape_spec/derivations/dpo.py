"""Derivations: direct preference optimisation."""

from sympy import exp, log

from grape_spec import reward as reward_model
from grape_spec.dpo import (
    beta,
    chosen,
    chosen_length,
    chosen_logp,
    flip_probability,
    flipped_target,
    h,
    ipo_gap,
    label_smoothing,
    log_ratio_margin,
    loss,
    m,
    margin,
    o,
    offset,
    optimal_policy,
    optimum,
    pair_margin,
    partition,
    pi,
    preference,
    ref,
    rejected,
    rejected_logp,
    reward,
    sigmoid,
    w,
    y,
)
from grape_spec.kl import divergence
from grape_spec.language import At, Diff, derive, line, sum_over
from grape_spec.policy import theta
from grape_spec.proof.rules import fact, smt

# The optimum of the KL-regularised reward.

log_ratio = log(pi[y] / ref[y])
against_optimum = log(pi[y] / optimal_policy(y))

derive(
    "dpo.gibbs",
    line(sum_over(pi[y] * (reward[y] - beta * log_ratio), y), "write the divergence as a sum"),
    line(
        sum_over(pi[y] * (beta * log(partition()) - beta * against_optimum), y),
        "r = β log(π*/π_ref) + β log Z, and π_ref cancels",
    ),
    line(
        beta * log(partition()) * sum_over(pi[y], y) - beta * sum_over(pi[y] * against_optimum, y),
        "the partition function does not depend on the response",
    ),
    line(beta * log(partition()) - beta * divergence(pi, optimum), "the policy sums to one; the sum is the divergence"),
)

derive(
    "dpo.kl_optimum",
    line(
        beta * log(partition()) - beta * divergence(pi, optimum), "Gibbs' identity", by=smt(given=[fact("dpo.gibbs")])
    ),
    line(
        beta * log(partition()),
        "a divergence is never negative",
        sign="≤",
        by=smt(given=[fact("kl.nonnegative", part="bound", p=pi, q=optimum)]),
    ),
    part="no policy does better",
)

derive(
    "dpo.kl_optimum",
    line(sum_over(ref[y] * exp(reward[y] / beta), y) / partition(), "take the partition function out of the sum"),
    line(1, "it is this sum"),
    part="feasible",
)

derive(
    "dpo.reparametrisation",
    line(beta * log(optimal_policy(w) * partition() / ref[w]), "solve π* = π_ref exp(r/β)/Z for the reward"),
    line(beta * log(optimal_policy(w) / ref[w]) + beta * log(partition()), "the logarithm of a product"),
)

derive(
    "dpo.partition_cancels",
    line(
        sigmoid(beta * (log(pi[w] / ref[w]) + log(partition())) - beta * (log(pi[o] / ref[o]) + log(partition()))),
        "write out both rewards, and take out β",
    ),
    line(sigmoid(beta * log(pi[w] / ref[w]) - beta * log(pi[o] / ref[o])), "both have the same constant: it cancels"),
)

shifted = exp((reward[y] + offset) / beta)

derive(
    "dpo.reward_shift",
    line(
        ref[w] * exp((reward[w] + offset) / beta) / sum_over(ref[y] * shifted, y),
        "write out the optimal policy of the shifted reward",
    ),
    line(ref[w] * exp(reward[w] / beta) / partition(), "every term has the factor exp(f/β): cancel it"),
    line(optimal_policy(w), "this is the optimal policy"),
)

# The loss of a pair.

derive(
    "dpo.gradient",
    line(Diff(log(1 + exp(-pair_margin)), theta), "−log σ(m) = log(1 + exp(−m))"),
    line(-exp(-pair_margin) / (1 + exp(-pair_margin)) * Diff(pair_margin, theta), "the chain rule, twice"),
    line(-sigmoid(-pair_margin) * Diff(pair_margin, theta), "multiply numerator and denominator by exp(m): σ(−m)"),
    line(
        -beta * sigmoid(-pair_margin) * Diff(chosen(theta) - rejected(theta), theta),
        "the terms of the reference are constants; take β out of the derivative",
    ),
    line(
        -beta * sigmoid(-pair_margin) * (Diff(chosen(theta), theta) - Diff(rejected(theta), theta)),
        "the derivative of a difference",
    ),
    part="in a parameter",
)

for name, logp, slope in (("chosen", chosen_logp, -beta), ("rejected", rejected_logp, beta)):
    derive(
        "dpo.gradient",
        line(Diff(log(1 + exp(-margin())), logp), "−log σ(m) = log(1 + exp(−m))"),
        line(-exp(-margin()) / (1 + exp(-margin())) * Diff(margin(), logp), "the chain rule, twice"),
        line(-sigmoid(-margin()) * Diff(margin(), logp), "multiply numerator and denominator by exp(m): σ(−m)"),
        line(slope * sigmoid(-margin()), "the margin has slope β in the preferred log-probability, −β in the other"),
        part=name,
    )

derive(
    "dpo.convex_in_margin",
    line(Diff(-sigmoid(-m), m), "the slope of −log σ(m) is −σ(−m)"),
    line(exp(m) / (1 + exp(m)) ** 2, "σ(−m) = 1/(1 + eᵐ), differentiated as a quotient"),
    line(sigmoid(m) * sigmoid(-m), "split the quotient: eᵐ/(1 + eᵐ) is σ(m)"),
    part="curvature",
)

derive(
    "dpo.label_smoothing",
    line(
        (1 - label_smoothing) * Diff(loss(m), m) + label_smoothing * Diff(loss(-m), m),
        "differentiate term by term",
    ),
    line(
        -(1 - label_smoothing) * sigmoid(-m) + label_smoothing * sigmoid(m),
        "the slope of −log σ(m) is −σ(−m), and that of −log σ(−m) is σ(m)",
    ),
    line(-(1 - label_smoothing) * (1 - sigmoid(m)) + label_smoothing * sigmoid(m), "σ(−m) = 1 − σ(m)"),
    line(sigmoid(m) - (1 - label_smoothing), "collect σ(m)"),
    part="in the margin",
)

derive(
    "dpo.label_smoothing",
    line(1 / (1 + label_smoothing / (1 - label_smoothing)), "exp(−m) at this margin is ε/(1 − ε)"),
    line(1 - label_smoothing, "multiply through by 1 − ε: the denominator becomes one"),
    part="the ranking there",
)

kept, flipped = 1 - flip_probability, flip_probability
scale = 1 - 2 * flip_probability

derive(
    "dpo.robust",
    line(
        (kept * (kept * loss(m) - flipped * loss(-m)) + flipped * (kept * loss(-m) - flipped * loss(m))) / scale,
        "write out both corrected losses",
    ),
    line((kept**2 - flipped**2) * loss(m) / scale, "the losses of the flipped label cancel"),
    line(loss(m), "(1 − ε)² − ε² = 1 − 2ε: cancel"),
    part="unbiased",
)

derive(
    "dpo.robust",
    line((scale * loss(m) + flipped * (loss(m) - loss(-m))) / scale, "1 − ε is 1 − 2ε plus ε"),
    line(loss(m) + flipped / scale * (loss(m) - loss(-m)), "divide"),
    line(loss(m) - flipped / scale * m, "−log σ(m) + log σ(−m) = −m"),
    part="closed form",
)

# IPO.

derive(
    "dpo.ipo",
    line(2 * ipo_gap * Diff(log_ratio_margin(), chosen_logp), "the chain rule for a square"),
    line(2 * ipo_gap / chosen_length, "the margin has slope one over the length"),
    part="chosen",
)

derive(
    "dpo.ipo",
    line(
        At(2 * preference * (h - 1 / (2 * beta)) - 2 * (1 - preference) * (-h - 1 / (2 * beta)), h, flipped_target),
        "differentiate both squares",
    ),
    line(At(2 * h - (2 * preference - 1) / beta, h, flipped_target), "collect h"),
    line(0, "insert (p − ½)/β: the terms cancel"),
    part="optimum under flipped labels",
)

# The reward model: the same likelihood, of two rewards.

difference = reward_model.chosen_reward - reward_model.rejected_reward

for name, own_reward, slope in (
    ("chosen", reward_model.chosen_reward, -1),
    ("rejected", reward_model.rejected_reward, 1),
):
    derive(
        "reward.bradley_terry.gradient",
        line(Diff(log(1 + exp(-difference)), own_reward), "−log σ(x) = log(1 + exp(−x))"),
        line(slope * exp(-difference) / (1 + exp(-difference)), "the chain rule, twice"),
        line(slope * reward_model.misranked, "multiply numerator and denominator by exp(x): σ(−x)"),
        part=name,
    )

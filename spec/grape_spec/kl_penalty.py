"""The KL penalty: subtracted from the reward at every token, with a coefficient that adapts to the measured divergence.

D. M. Ziegler et al., Fine-Tuning Language Models from Human Preferences, arXiv:1909.08593, section 2.2. The paper has
numbers where the coefficient here has symbols: a gain of 0.1, and a clip at ±0.2. The gain n/h, samples over a horizon,
is that of the code published with the paper.
"""

from sympy import Lambda, Rational, log

from grape_spec.language import (
    Mask,
    NonNegative,
    OneHot,
    Positive,
    Real,
    SmoothPositive,
    Source,
    at_least,
    at_most,
    claim,
    clip,
    define,
    equals,
    family,
    function,
    greater,
    holds,
    iff,
    less,
    product_over,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import T, sequence_probability, t, theta, token_probability
from grape_spec.proof.rules import chain, finite_sum, induction, rewrite, smt, step

ZIEGLER = Source("ziegler2019finetuning")

# The KL penalty in the reward.

rewards = symbol("rewards", Real, "reward of the sequence", tex=r"r_{\mathrm{seq}}")
kl_coef = symbol("kl_coef", NonNegative, "strength of the penalty", tex=r"\beta")
penalty = family("penalty", Real, T, text="estimate of the KL divergence at each token, such as its log-ratio", tex="k")
counted = family("counted", Mask(), T, text="1 where the token counts", tex="m")
last = family("last", OneHot, T, text="1 at the last token that counts", tex="e")
ref_token_probability = function(
    "ref_token_prob", SmoothPositive, "probability of token t under the reference", tex="q"
)

token_reward = define(
    "ppo.token_reward",
    "Reward of a token: minus β times its penalty where it counts, plus the reward of the sequence at the last token.",
    (t, rewards, penalty, counted, last, kl_coef),
    last[t] * rewards - kl_coef * counted[t] * penalty[t],
    tex="r_{{{t}}}",
    convention=True,
    source=ZIEGLER.section(2),
)

log_ratio = Lambda(t, log(token_probability(t, theta)) - log(ref_token_probability(t)))
sequence_log_ratio = log(sequence_probability) - log(product_over(ref_token_probability(t), t))

claim(
    "ppo.kl_in_reward",
    "The token rewards of a sequence sum to its reward minus β times the sum of its KL penalties; with log-ratios as "
    "penalties and every token counted, to its reward minus β times the log-ratio of the sequence.",
    holds(
        equals(sum_over(token_reward(t), t), rewards - kl_coef * sum_over(counted[t] * penalty[t], t)),
        name="any penalty",
        by=finite_sum(),
    ),
    holds(
        equals(log(product_over(ref_token_probability(t), t)), sum_over(log(ref_token_probability(t)), t)),
        name="log-probability of a sequence under the reference",
        by=induction(T),
    ),
    holds(
        equals(
            rewards - kl_coef * sequence_log_ratio,
            sum_over(token_reward(t, penalty=log_ratio, counted=Lambda(t, 1)), t),
        ),
        name="log-ratios",
        by=chain(
            step(
                rewards
                - kl_coef
                * (sum_over(log(token_probability(t, theta)), t) - log(product_over(ref_token_probability(t), t))),
                by=rewrite("policy.sequence.log_prob", part="sum"),
            ),
            step(
                rewards
                - kl_coef
                * (sum_over(log(token_probability(t, theta)), t) - sum_over(log(ref_token_probability(t)), t)),
                by=rewrite("ppo.kl_in_reward", part="log-probability of a sequence under the reference"),
            ),
            step(sum_over(token_reward(t, penalty=log_ratio, counted=Lambda(t, 1)), t), by=finite_sum()),
        ),
    ),
    source=ZIEGLER.section(2),
    wrong=[
        wrong(
            "the penalty as a bonus",
            equals(sum_over(token_reward(t), t), rewards + kl_coef * sum_over(counted[t] * penalty[t], t)),
        ),
        wrong(
            "masked tokens are penalised, too",
            equals(sum_over(token_reward(t), t), rewards - kl_coef * sum_over(penalty[t], t)),
        ),
        wrong(
            "the reward at every token",
            equals(sum_over(token_reward(t), t), T * rewards - kl_coef * sum_over(counted[t] * penalty[t], t)),
        ),
    ],
)

# The adaptive coefficient.

coefficient = symbol("coefficient", Positive, "coefficient of the penalty so far", tex=r"\beta")
measured_kl = symbol("measured_kl", Real, "the measured divergence; estimates of it may be negative", tex="d")
target_kl = symbol("target_kl", Positive, "target of the divergence", tex="d^*")
horizon = symbol("horizon", Positive, "number of samples over which the coefficient adapts", tex="h")
steps = symbol("steps", Positive, "number of samples since the last update", tex="n")
largest_error = symbol("largest_error", Positive, "bound at which the relative error is clipped", tex=r"\kappa")

adapted_kl_coef = define(
    "ppo.adapted_kl_coef",
    "The next coefficient: changed by the clipped relative error times a gain, n/h.",
    (coefficient, measured_kl, target_kl, horizon, steps, largest_error),
    coefficient * (1 + clip(measured_kl / target_kl - 1, -largest_error, largest_error) * steps / horizon),
    tex=r"\beta'",
    source=ZIEGLER.section("2.2"),
)

move = coefficient * largest_error * steps / horizon

claim(
    "ppo.adaptive_kl",
    "The coefficient rises if the divergence is above its target, falls if it is below, and stays at the target; one "
    "update changes it by a share of at most c·n/h, so it stays positive while n·c < h. The gain n/h is that of the "
    "authors' code; the paper has a gain of 0.1 and c = 0.2.",
    holds(iff(greater(adapted_kl_coef(), coefficient), greater(measured_kl, target_kl)), name="rises", by=smt()),
    holds(iff(less(adapted_kl_coef(), coefficient), less(measured_kl, target_kl)), name="falls", by=smt()),
    holds(equals(adapted_kl_coef(measured_kl=target_kl), coefficient), name="stays", by=smt()),
    holds(at_most(adapted_kl_coef() - coefficient, move), name="bound upwards", by=smt()),
    holds(at_least(adapted_kl_coef() - coefficient, -move), name="bound downwards", by=smt()),
    holds(
        greater(adapted_kl_coef(), 0),
        name="positive",
        assuming=[less(steps * largest_error, horizon)],
        by=smt(),
    ),
    holds(
        equals(
            adapted_kl_coef(steps=horizon / 10, largest_error=Rational(1, 5)),
            coefficient * (1 + clip((measured_kl - target_kl) / target_kl, -Rational(1, 5), Rational(1, 5)) / 10),
        ),
        name="the update of the paper",
        by=smt(),
    ),
    source=ZIEGLER.section("2.2"),
    wrong=[
        wrong(
            "the sign flipped",
            iff(greater(adapted_kl_coef(), coefficient), less(measured_kl, target_kl)),
        ),
        wrong("positive whatever the horizon", greater(adapted_kl_coef(), 0)),
        wrong(
            "the error not relative to its target",
            equals(
                adapted_kl_coef(),
                coefficient * (1 + clip(measured_kl - target_kl, -largest_error, largest_error) * steps / horizon),
            ),
        ),
    ],
)

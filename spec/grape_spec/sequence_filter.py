"""Filters of whole sequences: kept or dropped by a statistic of their importance ratios.

DeepSeek-V3.2 (arXiv:2512.02556) masks sequences of negative advantage that are far off policy; its text
was not compared.
"""

from sympy import And, Lambda, Max, exp, log

from grape_spec.aggregation import mask, position, row, row_count
from grape_spec.gspo import sequence_ratio as ratio_to_old
from grape_spec.importance import (
    high,
    low,
    omega,
    own_log_ratio,
    sampler_logps,
    sequence_ratio,
    trainer_logps,
)
from grape_spec.kl import k3
from grape_spec.language import (
    Mask,
    NonNegative,
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
    less,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import t
from grape_spec.ppo import advantage
from grape_spec.proof.rules import fact, finite_sum, smt, termwise
from grape_spec.reinforce import G, g
from grape_spec.trpo import multiplier

DEEPSEEK = Source("deepseek2025v32")

own_ratio = exp(trainer_logps[row, t] - sampler_logps[row, t])
row_tokens = sum_over(mask[row, t], t)
has_tokens = at_least(row_tokens, 1)

# Statistics of the ratios of one sequence; the fourth, the largest of them, needs no formula.

geometric_mean = define(
    "importance.geometric_mean",
    "Geometric mean of the ratios of the tokens of a sequence that count, 1 if there are none.",
    (row, trainer_logps, sampler_logps, mask),
    ratio_to_old(logps=trainer_logps, old_logps=sampler_logps),
    tex=r"\overline{{\omega}}^{{\mathrm{{geo}}}}_{{{row}}}",
)

arithmetic_mean = define(
    "importance.arithmetic_mean",
    "Arithmetic mean of the ratios of the tokens of a sequence that count, 0 if there are none.",
    (row, trainer_logps, sampler_logps, mask),
    sum_over(mask[row, t] * own_ratio, t) / row_count(row),
    tex=r"\overline{{\omega}}_{{{row}}}",
)

mean_k3 = define(
    "importance.mean_k3",
    "Mean over the tokens of a sequence that count of ω − 1 − log ω, k3 of the sampler against the trainer.",
    (row, trainer_logps, sampler_logps, mask),
    sum_over(mask[row, t] * k3(sampler_logps[row, t], trainer_logps[row, t]), t) / row_count(row),
    tex=r"\overline{{k}}_{{3,{row}}}",
)

statistic = symbol("ratio_statistic", NonNegative, "statistic of the ratios of a sequence", tex="f")

kept_sequence = define(
    "importance.kept_sequence",
    "1 for a sequence whose statistic is in the range [C_min, C], whose ends belong to it, else 0.",
    (statistic, low, high),
    cases((1, And(low <= statistic, statistic <= high)), (0, True)),
    tex=r"\mathrm{{keep}}({ratio_statistic})",
    convention=True,
)

sum_of_ratios = sum_over(mask[row, t] * own_ratio, t)
sum_of_k3 = sum_over(mask[row, t] * k3(sampler_logps[row, t], trainer_logps[row, t]), t)
relative = own_ratio / multiplier
below_tangent = sum_over(mask[row, t] * (log(relative) - relative + 1), t)
MEANS = "importance.filter.means"
DIVIDED = [fact(MEANS, part="the number of tokens"), fact(MEANS, part="the arithmetic mean")]

claim(
    MEANS,
    "The geometric mean of the ratios of a sequence is no larger than their arithmetic mean, and that no larger than "
    "the largest of them. A range for one statistic is not a range for another.",
    holds(
        at_most(below_tangent, 0),
        name="for every multiplier",
        by=termwise(0, given=[fact("kl.log_bound", part="bound", x=relative)]),
    ),
    holds(
        equals(
            below_tangent,
            sum_over(own_log_ratio, t) - row_tokens * log(multiplier) - sum_of_ratios / multiplier + row_tokens,
        ),
        name="the sum",
        by=finite_sum(),
    ),
    holds(
        equals(sum_over(own_log_ratio, t), row_count(row) * log(geometric_mean())),
        name="the geometric mean",
        by=finite_sum(),
    ),
    holds(equals(row_count(row), Max(1, row_tokens)), name="the number of tokens", by=finite_sum()),
    holds(equals(arithmetic_mean() * row_count(row), sum_of_ratios), name="the arithmetic mean", by=finite_sum()),
    holds(
        at_least(sum_of_ratios, row_tokens * geometric_mean()),
        name="the sum of ratios, below",
        assuming=[has_tokens],
        by=smt(
            given=[
                fact(MEANS, part="for every multiplier", multiplier=geometric_mean()),
                fact(MEANS, part="the sum", multiplier=geometric_mean()),
                fact(MEANS, part="the geometric mean"),
                fact(MEANS, part="the number of tokens"),
            ]
        ),
    ),
    holds(
        at_most(geometric_mean(), arithmetic_mean()),
        name="geometric and arithmetic",
        assuming=[has_tokens],
        by=smt(given=[fact(MEANS, part="the sum of ratios, below"), *DIVIDED]),
    ),
    holds(
        at_most(sum_of_ratios, high * row_tokens),
        name="the sum of ratios, above",
        assuming=[at_most(own_ratio, high)],
        by=termwise(mask[row, t] * high),
        equivalent={
            f"right: {mutant}": "true and weaker, as no count is negative"
            for mutant in (
                "weight_high*(Σ_{t≤T} mask[row, t]) → 2*weight_high*(Σ_{t≤T} mask[row, t])",
                "weight_high → weight_high + 1",
                "mask[row, t] → 2*mask[row, t]",
            )
        },
    ),
    holds(
        at_most(arithmetic_mean(), high),
        name="arithmetic and largest",
        assuming=[has_tokens, at_most(own_ratio, high)],
        by=smt(given=[fact(MEANS, part="the sum of ratios, above"), *DIVIDED]),
    ),
    wrong=[
        wrong("the other way round", at_least(geometric_mean(), arithmetic_mean()), assuming=[has_tokens]),
        wrong(
            "the arithmetic mean is no larger than the product",
            at_most(arithmetic_mean(), sequence_ratio()),
            assuming=[has_tokens],
        ),
    ],
)

own_log_ratio_alone = trainer_logps[row, position] - sampler_logps[row, position]
single = Lambda((row, t), delta(t, position))
STATISTICS = "importance.filter.statistics"

claim(
    STATISTICS,
    "The product of the ratios of n tokens is the power n of their geometric mean; the mean k3 is the arithmetic mean "
    "less 1 and less the logarithm of the geometric mean. For a sequence of one token all of them speak of its ratio.",
    holds(
        equals(log(sequence_ratio()), row_count(row) * log(geometric_mean())),
        name="product",
        by=finite_sum(),
    ),
    holds(equals(mean_k3() * row_count(row), sum_of_k3), name="the mean k3", by=finite_sum()),
    holds(
        equals(sum_of_k3, sum_of_ratios - row_tokens - sum_over(own_log_ratio, t)),
        name="the sum of k3",
        by=finite_sum(),
    ),
    holds(
        equals(mean_k3(), arithmetic_mean() - 1 - log(geometric_mean())),
        name="k3",
        assuming=[has_tokens],
        by=smt(
            given=[
                fact(STATISTICS, part="the mean k3"),
                fact(STATISTICS, part="the sum of k3"),
                fact(MEANS, part="the geometric mean"),
                *DIVIDED,
            ]
        ),
    ),
    *(
        holds(
            equals(statistic(mask=single), value),
            name=f"one token, {name}",
            by=finite_sum(),
        )
        for name, statistic, value in (
            ("product", sequence_ratio, exp(own_log_ratio_alone)),
            ("arithmetic", arithmetic_mean, exp(own_log_ratio_alone)),
            ("logarithm of the geometric mean", lambda mask: log(geometric_mean(mask=mask)), own_log_ratio_alone),
            ("k3", mean_k3, k3(sampler_logps[row, position], trainer_logps[row, position])),
        )
    ),
    wrong=[
        wrong("the product is the geometric mean", equals(sequence_ratio(), geometric_mean())),
        wrong(
            "the mean k3 is that of the geometric mean",
            equals(mean_k3(), geometric_mean() - 1 - log(geometric_mean())),
            assuming=[has_tokens],
        ),
    ],
)

claim(
    "importance.filter.inverse",
    "A range [C_min, C] of a ratio is the range [1/C, 1/C_min] of its inverse, and [−log C, −log C_min] of its k1, the "
    "log-ratio of sampler to trainer: the ends change places.",
    holds(
        iff(And(low <= omega, omega <= high), And(1 / high <= 1 / omega, 1 / omega <= 1 / low)),
        name="inverse",
        assuming=[greater(low, 0)],
        by=smt(),
    ),
    holds(
        at_least(-log(omega), -log(high)),
        name="log-ratio, up to an end",
        assuming=[at_most(omega, high)],
        by=smt(given=[fact("kl.log_bound", part="bound", x=omega / high)]),
        equivalent={
            f"right: {mutant}": "true and weaker: minus the logarithm of a larger number is lower"
            for mutant in (
                "log(weight_high) → weight_high",
                "weight_high → weight_high + 1",
                "weight_high → 2*weight_high",
            )
        },
    ),
    holds(
        less(-log(omega), -log(high)),
        name="log-ratio, beyond it",
        assuming=[greater(omega, high)],
        by=smt(given=[fact("kl.log_bound", part="bound", x=high / omega)]),
    ),
    wrong=[
        wrong(
            "the ends stay in their places",
            iff(And(low <= omega, omega <= high), And(1 / low <= 1 / omega, 1 / omega <= 1 / high)),
            assuming=[greater(low, 0)],
        ),
        wrong(
            "the same range for the inverse",
            iff(And(low <= omega, omega <= high), And(low <= 1 / omega, 1 / omega <= high)),
            assuming=[greater(low, 0)],
        ),
    ],
)

# A filter by the advantage, too.

drift = symbol("drift", Real, "mean over the tokens of a sequence of log-ratio of sampler to policy", tex="d")
drift_limit = symbol("drift_limit", Real, "largest drift of a sequence of negative advantage", tex=r"\lambda")
group_advantage = family("sequence_advantage", Real, G, text="advantage of each response of a group", tex="A")
group_kept = family("kept_response", Mask(), G, text="1 where a response of a group is kept, else 0", tex=r"\kappa")

kept_far = define(
    "importance.off_policy_mask",
    "0 for a sequence of negative advantage that has drifted further than the limit, else 1.",
    (advantage, drift, drift_limit),
    cases((0, And(advantage < 0, drift > drift_limit)), (1, True)),
    tex=r"\mathrm{{near}}({advantage}, {drift})",
    source=DEEPSEEK,
)

OFF = "importance.filter.off_policy"
kept_sum, whole_sum = sum_over(group_kept[g] * group_advantage[g], g), sum_over(group_advantage[g], g)
none_dropped_above_0 = at_most((1 - group_kept[g]) * group_advantage[g], 0)

claim(
    OFF,
    "Off-policy masking drops no sequence whose advantage is not negative, and of the others those with a geometric "
    "mean of the ratios below exp(−λ). What is left of a group adds up to no less than the group: where its advantages "
    "added up to 0, they no longer cancel.",
    holds(equals(kept_far(), 1), name="no other is dropped", assuming=[at_least(advantage, 0)], by=smt()),
    holds(
        equals(kept_far(drift=-log(omega)), 0),
        name="a small geometric mean",
        assuming=[less(advantage, 0), less(omega, exp(-drift_limit))],
        by=smt(given=[fact("kl.log_bound", part="bound", x=omega * exp(drift_limit))]),
    ),
    holds(
        equals(kept_far(drift=-log(omega)), 1),
        name="any other geometric mean",
        assuming=[at_least(omega, exp(-drift_limit))],
        by=smt(given=[fact("kl.log_bound", part="bound", x=exp(-drift_limit) / omega)]),
        equivalent={
            f"left: {mutant}": "true: the drift is no larger, so the sequence is kept, too"
            for mutant in ("log(omega) → omega", "omega → omega + 1", "omega → 2*omega")
        },
    ),
    holds(at_most((1 - kept_far()) * advantage, 0), name="no advantage above 0 is dropped", by=smt()),
    holds(
        at_least(kept_sum, whole_sum),
        name="the sum",
        assuming=[none_dropped_above_0],
        by=termwise(group_advantage[g]),
    ),
    source=DEEPSEEK,
    wrong=[
        wrong(
            "sequences of positive advantage are dropped, too",
            iff(equals(kept_far(), 0), drift > drift_limit),
        ),
        wrong(
            "those whose ratio is too large",
            equals(kept_far(drift=log(omega)), 0),
            assuming=[less(advantage, 0), less(omega, exp(-drift_limit))],
        ),
        wrong(
            "the sum stays",
            equals(kept_sum, whole_sum),
            assuming=[none_dropped_above_0],
        ),
    ],
)

"""Group sequence policy optimisation: one ratio for each sequence, clipped as a whole.

C. Zheng et al., Group Sequence Policy Optimization, arXiv:2507.18071.
"""

from sympy import Min, exp

from grape_spec.aggregation import B, i, mask, own_mask, position, row, row_count
from grape_spec.grpo import advantages, logps, old_logps
from grape_spec.language import (
    Diff,
    Positive,
    Source,
    at_least,
    cases,
    claim,
    define,
    delta,
    differs,
    equals,
    holds,
    sum_over,
    wrong,
)
from grape_spec.policy import t
from grape_spec.ppo import (
    advantage,
    clip_high,
    clip_low,
    clip_slope,
    clipped_surrogate,
    counts,
    lower_edge,
    no_kink,
    ratio,
    rho,
    surrogate,
    upper_edge,
)
from grape_spec.proof.rules import by_terms, chain, chain_rule, fact, finite_sum, slope, smt, step, termwise

ZHENG = Source("zheng2025group")

log_ratio_mean = sum_over(mask[row, t] * (logps[row, t] - old_logps[row, t]), t) / row_count(row)

sequence_ratio = define(
    "grpo.gspo.ratio",
    "Likelihood ratio of a sequence, raised to the power of 1 over its length.",
    (row, logps, old_logps, mask),
    exp(log_ratio_mean),
    tex=r"s_{{{row}}}",
    domain=Positive,
    source=ZHENG,
)

any_token = define(
    "grpo.gspo.any_token",
    "1 for a sequence with a token that counts, else 0: a sequence without tokens contributes 0 by convention.",
    (row, mask),
    Min(1, sum_over(mask[row, t], t)),
    tex=r"n_{{{row}}}^0",
    convention=True,
)

sequence_objective = define(
    "grpo.gspo.objective",
    "Clipped surrogate of a sequence, to be maximised.",
    (row, logps, old_logps, mask, advantage, clip_low, clip_high),
    any_token() * clipped_surrogate(sequence_ratio()),
    tex=r"J^{{\mathrm{{GSPO}}}}_{{{row}}}",
    source=ZHENG,
)

claim(
    "grpo.gspo.ratio_gradient",
    "Every token that counts changes the ratio of its sequence by the same relative amount.",
    holds(
        equals(Diff(sequence_ratio(), logps[row, position]), sequence_ratio() * own_mask / row_count(row)),
        by=finite_sum(),
    ),
    source=ZHENG,
    wrong=[
        wrong(
            "without the length, as for the ratio of whole sequences",
            equals(Diff(sequence_ratio(), logps[row, position]), sequence_ratio() * own_mask),
        ),
        wrong(
            "padding changes it, too",
            equals(Diff(sequence_ratio(), logps[row, position]), sequence_ratio() / row_count(row)),
        ),
    ],
)

others_counted = sum_over((1 - delta(t, position)) * mask[row, t], t)
row_sum = sum_over(mask[row, t], t)

claim(
    "grpo.gspo.empty",
    "The convention affects only sequences without tokens, which contribute 0.",
    holds(
        equals(any_token(), Min(1, row_sum)),
        name="convention",
        by=finite_sum(),
        equivalent={
            "right: (Σ_{t≤T} mask[row, t]) → 2*(Σ_{t≤T} mask[row, t])": "true: the number of tokens is 0 or at least 1",
            "right: mask[row, t] → 2*mask[row, t]": "true, for the same reason",
        },
    ),
    holds(at_least(others_counted, 0), name="no count is negative", by=termwise(0)),
    holds(equals(others_counted, row_sum - own_mask), name="counts", by=finite_sum()),
    holds(
        equals(any_token() * own_mask, own_mask),
        name="a token that counts",
        by=smt(
            given=[
                fact("grpo.gspo.empty", part="convention"),
                fact("grpo.gspo.empty", part="no count is negative"),
                fact("grpo.gspo.empty", part="counts"),
            ]
        ),
    ),
    holds(
        equals(any_token(), 0),
        name="no token",
        assuming=[equals(row_sum, 0)],
        by=smt(given=[fact("grpo.gspo.empty", part="convention")]),
    ),
    wrong=[wrong("every sequence has a token", equals(any_token(), 1))],
)

gspo_no_kink = [differs(sequence_ratio(), upper_edge), differs(sequence_ratio(), lower_edge)]

claim(
    "grpo.gspo.gradient",
    "Every token of a sequence has the same slope: that of the clipped surrogate at the ratio of the sequence, divided "
    "by its length. In the objective, the mean over a batch, the slope is also divided by the number of sequences. A "
    "sequence is clipped as a whole.",
    holds(
        equals(Diff(surrogate, rho), cases((advantage, counts), (0, True))),
        name="in the ratio",
        assuming=no_kink,
        by=slope(radius=Min(abs(rho - upper_edge), abs(rho - lower_edge))),
    ),
    holds(
        equals(
            Diff(clipped_surrogate(sequence_ratio()), logps[row, position]),
            clip_slope(sequence_ratio()) * own_mask / row_count(row),
        ),
        name="in the log-probability",
        assuming=gspo_no_kink,
        by=chain_rule(inner="grpo.gspo.ratio_gradient", outer="in the ratio", at={rho: sequence_ratio()}),
    ),
    holds(
        equals(
            Diff(sequence_objective(), logps[row, position]),
            clip_slope(sequence_ratio()) * own_mask / row_count(row),
        ),
        name="of the objective",
        assuming=gspo_no_kink,
        by=chain(
            step(
                any_token() * clip_slope(sequence_ratio()) * own_mask / row_count(row),
                by=by_terms(fact("grpo.gspo.gradient", part="in the log-probability")),
            ),
            step(
                clip_slope(sequence_ratio()) * own_mask / row_count(row),
                by=smt(given=[fact("grpo.gspo.empty", part="a token that counts")]),
            ),
        ),
    ),
    holds(
        equals(
            Diff(sum_over(sequence_objective(i, advantage=advantages[i]), i) / B, logps[row, position]),
            clip_slope(sequence_ratio(), advantages[row]) * own_mask / (row_count(row) * B),
        ),
        name="of the mean over the sequences of a batch",
        assuming=gspo_no_kink,
        by=by_terms(fact("grpo.gspo.gradient", part="of the objective", advantage=advantages[row])),
    ),
    source=ZHENG,
    wrong=[
        wrong(
            "the sum of log-ratios in place of their mean",
            equals(
                Diff(clipped_surrogate(sequence_ratio()), logps[row, position]),
                clip_slope(sequence_ratio()) * own_mask,
            ),
            assuming=gspo_no_kink,
        ),
        wrong(
            "the ratio of the token in place of that of the sequence",
            equals(
                Diff(clipped_surrogate(sequence_ratio()), logps[row, position]),
                clip_slope(ratio(logps[row, position], old_logps[row, position])) * own_mask / row_count(row),
            ),
            assuming=gspo_no_kink,
        ),
    ],
)

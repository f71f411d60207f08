"""Aggregation: how the losses of single tokens become one number.

A mask says which tokens count. Every mode is linear in the tokens, and takes its denominator from outside, so that the
parts of a batch add up to the whole wherever they are computed.
"""

from sympy import Max

from grape_spec.language import (
    Diff,
    Mask,
    OneHot,
    Positive,
    Real,
    Size,
    Source,
    claim,
    define,
    equals,
    family,
    holds,
    index,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.policy import T, t
from grape_spec.proof.rules import finite_sum

DAPO = Source("yu2025dapo")
DR_GRPO = Source("liu2025understanding")

B = symbol("B", Size, "number of sequences in the batch")
i = index("i", B, "a sequence")
row = index("row", B, "the sequence of the token that is varied", tex="i'")
position = index("position", T, "the position of the token that is varied", tex="t'")

per_token = family("per_token", Real, B, T, text="loss of each token", tex="x")
mask = family("mask", Mask(), B, T, text="1 where the token counts", tex="m")
denominator = symbol("denominator", Positive, "divisor of the sum, shared by all parts of a batch", tex="D")
max_length = symbol("max_length", Positive, "the fixed length used in place of every sequence's own", tex=r"\Lambda")

counted = mask[i, t] * per_token[i, t]

token_count = define(
    "aggregation.token_count",
    "Number of tokens that count; 1 by convention if there are none, so that an empty batch has loss 0.",
    (mask,),
    Max(1, sum_over(mask[i, t], i, t)),
    tex="N",
    domain=Positive,
    convention=True,
)

row_count = define(
    "aggregation.row_count",
    "Number of tokens of a sequence that count; 1 by convention if there are none, so that it contributes 0.",
    (i, mask),
    Max(1, sum_over(mask[i, t], t)),
    tex="n_{{{i}}}",
    domain=Positive,
    convention=True,
)

sequence_count = define(
    "aggregation.sequence_count",
    "Number of sequences, with or without tokens that count.",
    (B,),
    B,
    tex=r"N_{{\mathrm{{seq}}}}",
    domain=Positive,
)

token_mean = define(
    "aggregation.token_mean",
    "Every token of the batch has the same weight; the denominator is the number of tokens.",
    (per_token, mask, denominator),
    sum_over(counted, i, t) / denominator,
    source=DAPO,
)

sequence_mean = define(
    "aggregation.sequence_mean",
    "Every sequence has the same weight, whatever its length; the denominator is the number of sequences.",
    (per_token, mask, denominator),
    sum_over(sum_over(counted, t) / row_count(), i) / denominator,
)

sequence_sum = define(
    "aggregation.sequence_sum",
    "The losses of a sequence are summed; the denominator is the number of sequences.",
    (per_token, mask, denominator),
    sum_over(counted, i, t) / denominator,
)

token_sum = define(
    "aggregation.token_sum",
    "The plain sum over the tokens that count.",
    (per_token, mask),
    sum_over(counted, i, t),
)

fixed_length = define(
    "aggregation.fixed_length",
    "The sum over a sequence divided by one fixed length; the denominator is the number of sequences.",
    (per_token, mask, denominator, max_length),
    sum_over(counted, i, t) / (denominator * max_length),
    source=DR_GRPO,
)

modes = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "sequence_sum": sequence_sum,
    "token_sum": token_sum,
    "fixed_length": fixed_length,
}

own_mask = mask[row, position]
weight = {
    "token_mean": own_mask / denominator,
    "sequence_mean": own_mask / (row_count(row) * denominator),
    "sequence_sum": own_mask / denominator,
    "token_sum": own_mask,
    "fixed_length": own_mask / (denominator * max_length),
}

claim(
    "aggregation.gradient",
    "The weight of a token under each mode; masked tokens have weight 0.",
    *(
        holds(equals(Diff(mode(), per_token[row, position]), weight[name]), name=name, by=finite_sum())
        for name, mode in modes.items()
    ),
    wrong=[
        wrong(
            "the mean over sequences gives every token the same weight",
            equals(Diff(sequence_mean(), per_token[row, position]), own_mask / (T * denominator)),
        ),
        wrong(
            "padding counts",
            equals(Diff(token_mean(), per_token[row, position]), 1 / denominator),
        ),
    ],
)

S = symbol("S", Size, "number of parts that the batch is split into", tex="M")
s = index("s", S, "a part of the batch", tex=r"\mu")
part = family("part", OneHot, B, S, text="1 where sequence i belongs to part s", tex="c")
token_part = family("token_part", OneHot, B, T, S, text="1 where token t of sequence i belongs to part s", tex="c")

rows_of_part = {
    "token_mean": sum_over(part[i, s] * counted, i, t) / denominator,
    "sequence_mean": sum_over(part[i, s] * sum_over(counted, t) / row_count(), i) / denominator,
    "sequence_sum": sum_over(part[i, s] * counted, i, t) / denominator,
    "token_sum": sum_over(part[i, s] * counted, i, t),
    "fixed_length": sum_over(part[i, s] * counted, i, t) / (denominator * max_length),
}

tokens_of_part = {
    "token_mean": sum_over(token_part[i, t, s] * counted, i, t) / denominator,
    "sequence_mean": sum_over(token_part[i, t, s] * counted / row_count(), i, t) / denominator,
    "sequence_sum": sum_over(token_part[i, t, s] * counted, i, t) / denominator,
    "token_sum": sum_over(token_part[i, t, s] * counted, i, t),
    "fixed_length": sum_over(token_part[i, t, s] * counted, i, t) / (denominator * max_length),
}

claim(
    "aggregation.partition",
    "However a batch is split, the parts add up to the whole, because they share the denominator (and, where a "
    "sequence is split, the number of its tokens).",
    *(
        holds(equals(sum_over(rows_of_part[name], s), mode()), name=name, by=finite_sum())
        for name, mode in modes.items()
    ),
    *(
        holds(equals(sum_over(tokens_of_part[name], s), mode()), name=f"{name}, sequences cut", by=finite_sum())
        for name, mode in modes.items()
    ),
    source=Source("transformers34191", "pull request 34191"),
    wrong=[
        wrong(
            "the mean of the means of the parts",
            equals(
                sum_over(sum_over(part[i, s] * counted, i, t) / Max(1, sum_over(part[i, s] * mask[i, t], i, t)), s) / S,
                token_mean(denominator=token_count()),
            ),
        )
    ],
)

length = symbol("length", Size, "the number of tokens that count in every sequence", tex="n")

claim(
    "aggregation.equal_lengths",
    "If all sequences have the same length, the mean over tokens equals the mean over sequences.",
    holds(
        equals(token_mean(denominator=token_count()), sequence_mean(denominator=B)),
        assuming=[equals(sum_over(mask[i, t], t), length)],
        by=finite_sum(),
    ),
    wrong=[
        wrong("whatever the lengths", equals(token_mean(denominator=token_count()), sequence_mean(denominator=B))),
    ],
)

"""Packed rows: several sequences one after the other in a row, without padding between them.

A loss over packed rows is the loss over padded ones, because every mode of aggregation is made of sums over the tokens
of a sequence.
"""

from sympy import Lambda, Max

from grape_spec.aggregation import B, i
from grape_spec.language import (
    Diff,
    Mask,
    Real,
    Size,
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

N = symbol("packed_length", Size, "number of tokens of a packed row", tex="K")
n = index("packed_token", N, "a token of the packed row", tex="k")
varied = index("packed_varied", N, "the token of the packed row that is varied", tex="k'")

packed = family("packed", Real, N, text="a number for each token of the packed row", tex="y")
packed_mask = family("packed_mask", Mask(), N, text="1 where the token of the packed row counts", tex="m")
at = family("packed_at", Mask(), N, B, T, text="1 where token k of the packed row is token t of sequence i", tex="p")
slope = family("unpacked_slope", Real, B, T, text="slope of a loss in each number of the padded rows", tex="g")

unpacked = define(
    "aggregation.unpacked",
    "The number at a place of the padded rows; 0 where there is no token.",
    (i, t, packed, at),
    sum_over(at[n, i, t] * packed[n], n),
    tex=r"{packed}_{{{i},{t}}}",
)

own = sum_over(at[n, i, t], t)
counted = Lambda(n, packed_mask[n] * packed[n])

claim(
    "aggregation.packed",
    "Sums over the tokens of a sequence, and so the modes of aggregation, are the same over a packed row as over "
    "padded rows. A gradient reaches the token that it belongs to and no neighbour in the row.",
    holds(equals(sum_over(unpacked(), t), sum_over(own * packed[n], n)), name="sum", by=finite_sum()),
    holds(
        equals(
            sum_over(unpacked(packed=counted), t) / Max(1, sum_over(unpacked(packed=packed_mask), t)),
            sum_over(own * packed_mask[n] * packed[n], n) / Max(1, sum_over(own * packed_mask[n], n)),
        ),
        name="mean",
        by=finite_sum(),
    ),
    holds(
        equals(
            Diff(sum_over(slope[i, t] * unpacked(), i, t), packed[varied]),
            sum_over(slope[i, t] * at[varied, i, t], i, t),
        ),
        name="gradient",
        by=finite_sum(),
    ),
    wrong=[
        wrong("the row is one sequence", equals(sum_over(unpacked(), t), sum_over(packed[n], n))),
        wrong(
            "the mean over the tokens of the row",
            equals(
                sum_over(unpacked(packed=counted), t) / Max(1, sum_over(unpacked(packed=packed_mask), t)),
                sum_over(own * packed_mask[n] * packed[n], n) / Max(1, sum_over(packed_mask[n], n)),
            ),
        ),
        wrong(
            "the gradient reaches every token of the sequence",
            equals(Diff(sum_over(slope[i, t] * unpacked(), i, t), packed[varied]), sum_over(slope[i, t], i, t)),
        ),
    ],
)

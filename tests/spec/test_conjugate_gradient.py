"""The iteration that the claim names, against conjugate gradients as the paper has them, entry by entry."""

from fractions import Fraction

import pytest
import sympy as sp
from grape_spec.conjugate_gradient import matrix, multipliers, pivot, right_side, steps
from grape_spec.language.expressions import unfold

VALUES = {pivot[1]: "1/2", pivot[2]: "3", pivot[3]: "5/7", multipliers[1]: "2", multipliers[2]: "1/3", right_side: "4"}


def number(expr):
    return Fraction(str(unfold(expr).subs({thing: sp.Rational(value) for thing, value in VALUES.items()})))


def textbook(size):
    """The approximate solutions and the lengths of the steps, nothing left out."""
    rows = [[number(sp.sympify(matrix(i, j))) for j in range(1, size + 1)] for i in range(1, size + 1)]
    residual = search = [Fraction(VALUES[right_side]), *[Fraction(0)] * (size - 1)]
    found, solutions, lengths = [Fraction(0)] * size, [], []
    for _ in range(size):
        moved = [sum(a * d for a, d in zip(row, search, strict=True)) for row in rows]
        length = sum(r * r for r in residual) / sum(d * h for d, h in zip(search, moved, strict=True))
        found = [x + length * d for x, d in zip(found, search, strict=True)]
        shorter = [r - length * h for r, h in zip(residual, moved, strict=True)]
        share = sum(r * r for r in shorter) / sum(r * r for r in residual)
        search = [r + share * d for r, d in zip(shorter, search, strict=True)]
        residual = shorter
        solutions.append(found)
        lengths.append(length)
    return solutions, lengths


@pytest.mark.parametrize("size", [2, 3])
def test_the_named_iteration_is_that_of_the_paper(size):
    solutions, lengths = textbook(size)
    assert [number(length) for length in steps.lengths[:size]] == lengths
    for named, solution in zip(steps.found[1:], solutions, strict=False):
        assert [number(sp.sympify(entry)) for entry in named[:size]] == solution


def test_what_is_left_out_is_zero():
    assert [number(entry) for entry, _, _ in steps.zeros] == [0] * len(steps.zeros)

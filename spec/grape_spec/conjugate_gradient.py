"""Conjugate gradients: the solution of Ax = b from products with A alone.

M. R. Hestenes and E. Stiefel, Methods of Conjugate Gradients for Solving Linear Systems, 1952. The method uses vectors
only in inner products, so any orthonormal basis will do: here one in which b lies along the first vector and A is
tridiagonal; there always is one. A is LDLᵀ, with positive pivots D and an L of ones with multipliers below them. The
multipliers may be taken positive, as flipping a basis vector flips one; where one is 0, the iteration ends early.
"""

from sympy import Add, Expr, Integer

from grape_spec.language import Positive, Size, Source, claim, equals, family, holds, symbol, wrong
from grape_spec.proof.rules import algebra

HESTENES = Source("hestenes1952methods", "section 3")

unknowns = symbol("unknowns", Size, "number of unknowns", tex="n")
pivot = family("pivot", Positive, unknowns, text="pivots of the matrix, all positive: it is positive definite", tex="D")
multipliers = family("multipliers", Positive, unknowns, text="entries of L next to its diagonal", tex="\\ell")
right_side = symbol("right_side", Positive, "length of the right-hand side b", tex="b")


def matrix(i: int, j: int) -> Expr:
    """Entry of the matrix LDLᵀ."""
    if i == j:
        return pivot[i] + (multipliers[i - 1] ** 2 * pivot[i - 1] if i > 1 else 0)
    return multipliers[min(i, j)] * pivot[min(i, j)] if abs(i - j) == 1 else Integer(0)


def dot(first: list[Expr], second: list[Expr]) -> Expr:
    """Inner product."""
    return Add(*(one * other for one, other in zip(first, second, strict=True)))


def times_matrix(vector: list[Expr]) -> list[Expr]:
    """Product of the matrix and a vector."""
    count = range(1, len(vector) + 1)
    return [Add(*(matrix(i, j) * vector[j - 1] for j in count)) for i in count]


def conjugate_gradients(target: list[Expr], steps: int, *, conjugate: bool = True) -> list[Expr]:
    """The approximate solution after a number of steps from zero; without ``conjugate``, that of steepest descent."""
    found, residual, search = [Integer(0)] * len(target), target, target
    for _ in range(steps):
        moved = times_matrix(search)
        length = dot(residual, residual) / dot(search, moved)
        found = [x + length * d for x, d in zip(found, search, strict=True)]
        shorter = [r - length * h for r, h in zip(residual, moved, strict=True)]
        kept = dot(shorter, shorter) / dot(residual, residual)
        search = [r + kept * d for r, d in zip(shorter, search, strict=True)] if conjugate else shorter
        residual = shorter
    return found


def along_first(size: int) -> list[Expr]:
    """The right side of the equations."""
    return [right_side, *[Integer(0)] * (size - 1)]


def by_substitution(size: int) -> list[Expr]:
    """The solution: forwards through L, divided by the pivots, backwards through Lᵀ."""
    forwards = [right_side]
    for i in range(1, size):
        forwards.append(-multipliers[i] * forwards[-1])
    found = [forwards[-1] / pivot[size]]
    for i in range(size - 1, 0, -1):
        found.insert(0, forwards[i - 1] / pivot[i] - multipliers[i] * found[0])
    return found


claim(
    "trpo.conjugate_gradient",
    "For two and for three unknowns, conjugate gradients give the exact solution after as many steps, for a positive "
    "definite matrix in an orthonormal basis that makes it tridiagonal and begins with the right-hand side, unless "
    "they stop earlier.",
    *(
        holds(
            equals(times_matrix(by_substitution(size))[i], along_first(size)[i]),
            name=f"n = {size}: what solves equation {i + 1}",
            by=algebra(sizes={unknowns: size}),
        )
        for size in (2, 3)
        for i in range(size)
    ),
    *(
        holds(
            equals(conjugate_gradients(along_first(size), size)[i], by_substitution(size)[i]),
            name=f"n = {size}: unknown {i + 1} is found",
            by=algebra(sizes={unknowns: size}),
        )
        for size in (2, 3)
        for i in range(size)
    ),
    source=HESTENES,
    wrong=[
        wrong(
            "one step fewer is enough",
            equals(conjugate_gradients(along_first(2), 1)[0], by_substitution(2)[0]),
        ),
        wrong(
            "steps along the residuals alone, as in steepest descent",
            equals(conjugate_gradients(along_first(2), 2, conjugate=False)[0], by_substitution(2)[0]),
        ),
    ],
)

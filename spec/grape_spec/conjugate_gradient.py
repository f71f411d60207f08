"""Conjugate gradients: the solution of Ax = b from products with A alone.

M. R. Hestenes and E. Stiefel, Methods of Conjugate Gradients for Solving Linear Systems, 1952. From x₀ = 0 and
r₀ = p₀ = b, a step is

    qₖ = Apₖ,  αₖ = rₖᵀrₖ / pₖᵀqₖ,  xₖ₊₁ = xₖ + αₖpₖ,
    rₖ₊₁ = rₖ − αₖqₖ,  βₖ = rₖ₊₁ᵀrₖ₊₁ / rₖᵀrₖ,  pₖ₊₁ = rₖ₊₁ + βₖpₖ.

The method uses vectors only in inner products, so any orthonormal basis will do: here one in which b lies along the
first vector and A is tridiagonal; there always is one. A is LDLᵀ, with positive pivots D and an L of ones with
entries −μ below them. Every μ may be taken positive, as flipping a basis vector flips one; where one is 0, the
iteration ends early. Step k reaches entry k and no further, so the first steps are the same for more unknowns.
"""

from collections.abc import Callable
from typing import NamedTuple

from sympy import Add, Expr, Integer

from grape_spec.language import Positive, Real, Size, Source, claim, define, equals, family, holds, symbol, wrong
from grape_spec.language.expressions import symbols_of
from grape_spec.proof.rules import algebra

HESTENES = Source("hestenes1952methods", "section 3")

unknowns = symbol("unknowns", Size, "number of unknowns", tex="n_{A}")
pivot = family("pivot", Positive, unknowns, text="pivots of the matrix, all positive: it is positive definite", tex="D")
multipliers = family("multipliers", Positive, unknowns, text="minus the entries of L next to its diagonal", tex="\\mu")
right_side = symbol("right_side", Positive, "the length of b", tex="b")


def matrix(i: int, j: int) -> Expr:
    """Entry of the matrix LDLᵀ."""
    if i == j:
        return pivot[i] + (multipliers[i - 1] ** 2 * pivot[i - 1] if i > 1 else 0)
    return -multipliers[min(i, j)] * pivot[min(i, j)] if abs(i - j) == 1 else Integer(0)


def dot(first: list[Expr], second: list[Expr]) -> Expr:
    """Inner product."""
    return Add(*(one * other for one, other in zip(first, second, strict=True)))


def times_matrix(vector: list[Expr]) -> list[Expr]:
    """Product of the matrix and a vector."""
    count = range(1, len(vector) + 1)
    return [Add(*(matrix(i, j) * vector[j - 1] for j in count)) for i in count]


def along_first(size: int) -> list[Expr]:
    """The right side of the equations."""
    return [right_side, *[Integer(0)] * (size - 1)]


#: What a number of the iteration is called: its kind, where it stands, a sentence, and the number.
Named = Callable[[str, str, str, Expr], Expr]

_LETTERS = {"residual": "r", "direction": "p", "image": "q", "advance": r"\alpha", "carry": r"\beta"}

#: Entries of the residuals that turn out to be 0.
_ZERO = ("1,1", "2,2")


def defined(kind: str, place: str, text: str, number: Expr) -> Expr:
    """A number as a definition; a zero stays a zero."""
    if number == 0:
        return number
    of = [thing for thing in (pivot, multipliers, right_side) if thing in symbols_of(number)]
    id = f"trpo.conjugate_gradient.{kind}_{place.replace(',', '_')}"
    domain = Real if kind == "image" or (kind == "residual" and place in _ZERO) else Positive
    return define(id, text, of, number, tex=f"{_LETTERS[kind]}_{{{{{place}}}}}", domain=domain, source=HESTENES)()


def plain(kind: str, place: str, text: str, number: Expr) -> Expr:
    """A number as it stands."""
    return number


class Iteration(NamedTuple):
    """The approximate solutions after each step; entries that are 0, with their places; the lengths α of the steps."""

    found: list[list[Expr]]
    zeros: list[tuple[Expr, int, str]]
    lengths: list[Expr]


def conjugate_gradients(size: int, named: Named, *, conjugate: bool = True) -> Iteration:
    """As many steps from zero as there are unknowns; without ``conjugate``, two of steepest descent.

    The first entries of each residual, and of the matrix times each direction, are 0. The claim states so, and the
    steps are computed without them.
    """
    zero: list[Expr] = [Integer(0)] * size

    def vector(kind: str, step: int, text: str, numbers: list[Expr]) -> list[Expr]:
        places = enumerate(numbers, start=1)
        return [named(kind, f"{step},{i}", f"Entry {i} of {text}.", number) for i, number in places]

    residual = vector("residual", 0, "the residual at zero, which is the right side", along_first(size))
    search = vector("direction", 0, "the direction of step 1", residual)
    steps = Iteration([zero], [], [])
    for k in range(size):
        image = vector("image", k, f"the matrix times the direction of step {k + 1}", times_matrix(search))
        moved = [*zero[:k], *image[k:]] if conjugate else image
        steps.zeros.extend(
            (entry, i, f"the matrix times direction {k + 1}") for i, entry in enumerate(image[:k], start=1)
        )
        squared = dot(residual, residual)
        length = named("advance", str(k), f"Length of step {k + 1}, along its direction.", squared / dot(search, moved))
        steps.lengths.append(length)
        steps.found.append([x + length * d for x, d in zip(steps.found[-1], search, strict=True)])
        if k + 1 < size:
            shorter = [r - length * h for r, h in zip(residual, moved, strict=True)]
            left = vector("residual", k + 1, f"the residual after step {k + 1}", shorter)
            steps.zeros.append((left[k], k + 1, f"the residual after step {k + 1}"))
            residual = [*zero[: k + 1], *left[k + 1 :]]
            share = dot(residual, residual) / squared
            kept = named("carry", str(k), f"Share of a direction that step {k + 2} keeps.", share)
            turned = [r + kept * d for r, d in zip(residual, search, strict=True)] if conjugate else residual
            search = vector("direction", k + 1, f"the direction of step {k + 2}", turned)
    return steps


def by_substitution(size: int) -> list[Expr]:
    """The solution: forwards through L, divided by the pivots, backwards through Lᵀ."""
    forwards = [right_side]
    for i in range(1, size):
        forwards.append(multipliers[i] * forwards[-1])
    found = [forwards[-1] / pivot[size]]
    for i in range(size - 1, 0, -1):
        found.insert(0, forwards[i - 1] / pivot[i] + multipliers[i] * found[0])
    return found


steps = conjugate_gradients(3, defined)

claim(
    "trpo.conjugate_gradient",
    "For two and for three unknowns, conjugate gradients give the exact solution after as many steps, for a positive "
    "definite matrix in an orthonormal basis that makes it tridiagonal and begins with the right side, unless they end "
    "before. Entries of the residuals r and of q = Ap that are shown to be 0 are left out where they are used.",
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
        holds(equals(entry, 0), name=f"{place}: entry {i}", by=algebra(sizes={unknowns: 3}))
        for entry, i, place in steps.zeros
    ),
    *(
        holds(equals(length, 1 / pivot[k]), name=f"the length of step {k}", by=algebra(sizes={unknowns: 3}))
        for k, length in enumerate(steps.lengths, start=1)
    ),
    *(
        holds(
            equals(steps.found[size][i], by_substitution(size)[i]),
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
            equals(steps.found[1][0], by_substitution(2)[0]),
        ),
        wrong(
            "steps along the residuals alone, as in steepest descent",
            equals(conjugate_gradients(2, plain, conjugate=False).found[2][0], by_substitution(2)[0]),
        ),
    ],
)

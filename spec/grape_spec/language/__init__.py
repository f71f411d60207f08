"""The language of the spec: symbols with domains, definitions, claims, and the registry that keeps them."""

from grape_spec.language.claims import Claim, Line, Part, Wrong, holds, line, wrong
from grape_spec.language.definitions import Definition
from grape_spec.language.domains import (
    Mask,
    NonNegative,
    OneHot,
    Open,
    PositionOn,
    Positive,
    Real,
    Simplex,
    Size,
    Smooth,
    SmoothPositive,
)
from grape_spec.language.expressions import (
    Apply,
    At,
    Diff,
    OneSided,
    at_least,
    at_most,
    cases,
    clip,
    delta,
    differs,
    equals,
    greater,
    iff,
    implies,
    less,
    product_over,
    substitute,
    sum_over,
    unfold,
)
from grape_spec.language.recursions import recursive
from grape_spec.language.registry import claim, define, derive, derive_by_induction
from grape_spec.language.sources import DERIVED, Source
from grape_spec.language.symbols import family, function, index, symbol

__all__ = [
    "DERIVED", "Apply", "At", "Claim", "Definition", "Diff", "Line", "Mask", "NonNegative", "OneHot", "OneSided",
    "Open", "Part", "PositionOn", "Positive", "Real", "Simplex", "Size", "Smooth", "SmoothPositive", "Source",
    "Wrong", "at_least", "at_most", "cases", "claim", "clip", "define", "delta", "derive", "derive_by_induction",
    "differs", "equals", "family", "function", "greater", "holds", "iff", "implies", "index", "less", "line",
    "product_over", "recursive", "substitute", "sum_over", "symbol", "unfold", "wrong",
]  # fmt: skip

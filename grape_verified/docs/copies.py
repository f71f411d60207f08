"""What a reader takes along from the page of a claim: its statements as LaTeX and as SymPy, and the call in PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple

from grape_spec import render
from grape_spec.language.claims import Claim

import grape_verified
from grape_verified.docs.reference import implementing


class Copy(NamedTuple):
    """A text to copy.

    Arguments:
        name: what a button calls it.
        language: as the highlighter calls it.
    """

    name: str
    language: str
    text: str

    @property
    def anchor(self) -> str:
        return f"as-{self.name.lower()}"


def copies(claim: Claim) -> Iterator[Copy]:
    """Everything that can be copied; PyTorch only if a function implements the claim."""
    yield Copy("LaTeX", "text", _latex(claim))
    yield Copy("SymPy", "python", _SYMPY.format(id=claim.id))
    name = next(implementing(claim.id), None)
    if name is not None:
        yield Copy("torch", "python", _call(name))


def _latex(claim: Claim) -> str:
    parts = render.as_dict(claim)["parts"]
    return "\n\n".join(f"% {part['name']}\n{part['latex']}" if part["name"] else part["latex"] for part in parts)


_SYMPY = """\
from grape_spec.language.expressions import unfold
from grape_spec.language.registry import CLAIMS

stated = {{part.name: part.statement for part in CLAIMS["{id}"].parts}}
written_out = {{name: unfold(statement) for name, statement in stated.items()}}  # without named definitions"""


def _call(name: str) -> str:
    """A call of a public function, an argument on each line."""
    taken = inspect.signature(getattr(grape_verified, name)).parameters.values()
    lines = "\n".join(f"    {_argument(parameter)}" for parameter in taken)
    return f"from grape_verified import {name}\n\n{name}(\n{lines}\n)"


def _argument(parameter: inspect.Parameter) -> str:
    by_name = parameter.kind is parameter.KEYWORD_ONLY
    value = parameter.name if parameter.default is parameter.empty else repr(parameter.default)
    wanted = inspect.formatannotation(parameter.annotation).replace("jaxtyping.", "")
    return f"{f'{parameter.name}={value}' if by_name else value},  # {wanted}"

"""The function under check: how it can be called, what it returned, and what to say when it did not.

Whatever the function does, short of ending the process, becomes a sentence: `Violation` carries it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grape_verified.conformance.strategies import Case, Variant

if TYPE_CHECKING:
    from grape_verified.conformance.contract import Contract


class Violation(Exception):
    """A function does not keep a property.

    Arguments:
        sentence: what is wrong, for a reader who knows the contract but not this package.
        case: the input that shows it; None where there is none.
        cotangents: what the result was multiplied with before differentiation, for a function without reduction.
        remarks: lines for the counterexample, such as what was got and what was expected.
        cut: the row at which the batch was cut in two, if the function was called on the halves.
    """

    def __init__(
        self,
        sentence: str,
        case: Case | None = None,
        *,
        cotangents: Tensor | None = None,
        remarks: Sequence[str] = (),
        cut: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence, self.case, self.cotangents = sentence, case, cotangents
        self.remarks, self.cut = tuple(remarks), cut


@dataclass(frozen=True)
class Outcome:
    """What a function returned: its value, and the gradients of it, or why there are none."""

    value: Tensor
    gradients: Mapping[str, Tensor] | None = None
    no_gradients: str = ""


@dataclass
class Subject:
    """A function, read as an implementation of a contract.

    Arguments:
        offered: the options that it takes; the others stay at the contract's defaults.
        defaults: the options that it need not be given, with its own defaults.
        takes: which of the keyword arguments it takes that the contract asks for.
        variants: the forms of tensors that it takes.
        accessor: what leads from what it returns to the tensor, for counterexamples.
        misread: forms that it takes and gets wrong, while it gets another right.
        strict: whether it is held to what this package's own kernels promise.
    """

    function: Callable[..., Any]
    contract: Contract
    held: Mapping[str, Any] = field(default_factory=dict)
    offered: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = (Variant(),)
    accessor: str = ""
    strict: bool = False
    misread: tuple[Variant, ...] = ()

    @classmethod
    def read(cls, function: Callable[..., Any], contract: Contract, held: Mapping[str, Any]) -> Subject:
        """Find out how to call a function; raises `Violation` where it cannot be called with the contract's tensors."""
        positional = [tensor for tensor in contract.tensors if tensor not in contract.by_keyword]
        call = f"{name_of(function)}({', '.join(positional)})"
        if not callable(function):
            raise Violation(f"got {type(function).__name__}, expected a function to be called as {call}")
        try:
            signature = inspect.signature(function.forward if isinstance(function, torch.nn.Module) else function)
        except (TypeError, ValueError):  # a builtin without a readable signature
            return cls(function, contract, held)
        taken = {name for name in (*contract.options, *contract.by_keyword) if _takes(signature, name)}
        lost = {option for tensor, option in contract.by_keyword.items() if tensor not in taken}
        offered = tuple(name for name in contract.options if name in taken and name not in lost)
        required = [tensor for tensor, option in contract.by_keyword.items() if not option]
        try:
            signature.bind(*positional, **dict.fromkeys((*offered, *required)))
        except TypeError as error:
            raise Violation(f"it cannot be called as {call}: {error}") from None
        defaults = {
            name: signature.parameters[name].default
            for name in offered
            if name in signature.parameters and signature.parameters[name].default is not inspect.Parameter.empty
        }
        takes = tuple(name for name in contract.asks_for if _takes(signature, name))
        return cls(function, contract, held, offered, defaults, takes)

    def keywords(self, case: Case) -> dict[str, Any]:
        """The options to call it with: those it takes whose value is not its own default, and what is asked for."""
        chosen = {
            name: case.options[name]
            for name in self.offered
            if name not in self.defaults or not _same(self.defaults[name], case.options[name])
        }
        return chosen | {name: value for name, value in self.contract.asks_for.items() if name in self.takes}

    def __call__(self, case: Case, cotangents: Tensor | None = None) -> Outcome:
        """Call the function, on copies of the tensors, and differentiate what it returns."""
        tensors = {name: tensor.clone() for name, tensor in case.tensors.items()}
        leaves = [tensors[name].requires_grad_() for name in self.contract.wrt]
        result = self.call(case, tensors)
        value = result.detach()
        if not leaves:
            return Outcome(value)
        if not result.requires_grad:
            return Outcome(value, None, f"has no gradient with respect to {' and '.join(self.contract.wrt)}")
        weights = None if cotangents is None else cotangents.to(result.dtype)
        try:
            found = torch.autograd.grad(result, leaves, weights, allow_unused=True)
        except Exception as error:
            return Outcome(value, None, f"cannot be differentiated: {_describe(error)}")
        gradients = (torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True))
        return Outcome(value, dict(zip(self.contract.wrt, gradients, strict=True)))

    def call(self, case: Case, tensors: Mapping[str, Tensor]) -> Tensor:
        """The tensor that the function returns, or the one in its `.loss`; several tensors are stacked last."""
        asked = self.contract.passed_by_keyword(case.options)
        by_keyword = {name: tensors[name] for name in asked}
        by_position = [tensors[name] for name in self.contract.tensors if name not in self.contract.by_keyword]
        try:
            returned = self.function(*by_position, **by_keyword, **self.keywords(case))
            value = self._stacked(returned, case) if self.contract.outputs else getattr(returned, "loss", returned)
        except Violation:
            raise
        except (Exception, SystemExit) as error:
            raise Violation(f"raised {_describe(error)}", case) from error
        if not isinstance(value, Tensor):
            raise Violation(f"returned {_kind(value)}, expected a tensor or an object with a .loss that is one", case)
        expected = self.contract.shape_of_result(case)
        if tuple(value.shape) != expected:
            raise Violation(f"returned a tensor of shape {tuple(value.shape)}, expected {expected}", case)
        if value.is_meta:
            raise Violation("returned a tensor on the device meta, which holds no numbers", case)
        if not value.is_floating_point():
            raise Violation(f"returned a tensor of dtype {value.dtype}, expected a floating-point dtype", case)
        self.accessor = ".loss" if returned is not value and not self.contract.outputs else ""
        return value

    def _stacked(self, returned: Any, case: Case) -> Tensor:
        names = self.contract.outputs
        if not isinstance(returned, tuple | list) or len(returned) != len(names):
            raise Violation(f"returned {_kind(returned)}, expected the tensors {', '.join(names)}", case)
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else _kind(x) for x in returned]
        if any(shape != self.contract.result(case) for shape in shapes):
            raise Violation(f"returned {shapes}, expected tensors of shape {self.contract.result(case)}", case)
        return torch.stack(list(returned), -1)


def name_of(function: object) -> str:
    """What to call a function in a sentence."""
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else "function"


def _takes(signature: inspect.Signature, name: str) -> bool:
    """Whether a function can be given an argument of that name by keyword."""
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return True
    parameter = signature.parameters.get(name)
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _describe(error: BaseException) -> str:
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"

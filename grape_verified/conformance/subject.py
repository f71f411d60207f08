"""The function under check: `read` finds out how to call it and returns a `Subject`.

Whatever the function does, short of ending the process, becomes a sentence, which `Violation` carries.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grape_verified.conformance.oracle import Arithmetic
from grape_verified.conformance.strategies import Case, Variant

if TYPE_CHECKING:
    from grape_verified.conformance.contract import Contract


class Violation(Exception):
    """A function does not keep a property.

    Arguments:
        sentence: what is wrong, for a reader who knows the contract but not this package.
        case: the input that shows it; None where there is none.
        cotangents: the vector of the vector-Jacobian product, for a function without reduction.
        remarks: lines for the counterexample, such as the result and what was expected.
        cut: the row at which the batch was split, if the function was called on the halves.
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

    @property
    def raised(self) -> bool:
        """Whether the function raised an error."""
        return "raised " in self.sentence

    @property
    def kind(self) -> str:
        """What went wrong in a word, so that another kind of it can be looked for."""
        what = "gradient" if "gradient" in self.sentence else "value"
        for word in ("raised", "nan", "inf"):
            if re.search(rf"\b{word}\b", self.sentence):
                return f"{what} {word}"
        return what


@dataclass(frozen=True)
class Outcome:
    """The result of a call: the value and its gradients, or why there are none."""

    value: Tensor
    gradients: Mapping[str, Tensor] | None = None
    no_gradients: str = ""


@dataclass(frozen=True)
class Subject:
    """A function, read as an implementation of a contract.

    Arguments:
        held: the options with a fixed value.
        offered: the options that it takes; the others stay at the contract's defaults.
        defaults: its own defaults of the options that have one.
        takes: which of the contract's forced options it takes.
        variants: the forms of tensors that it takes.
        misread: forms that it takes but gets wrong, while it gets another right.
        accessor: the attribute of its result that holds the tensor, for counterexamples.
        strict: whether to require what this package's own kernels guarantee.
        dropped: what inputs have on which the function raises an error; they are not tried again.
        undefined: counts the numbers that were not compared, as the spec gives them no value.
    """

    function: Callable[..., Any]
    contract: Contract
    held: Mapping[str, Any] = field(default_factory=dict)
    offered: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = (Variant(),)
    misread: tuple[Variant, ...] = ()
    accessor: str = ""
    strict: bool = False
    dropped: tuple[frozenset[str], ...] = ()
    undefined: Counter[str] = field(default_factory=Counter, compare=False)

    def keywords(self, case: Case) -> dict[str, Any]:
        """The options to pass: those that it takes whose value is not its own default, and the forced ones."""
        chosen = {
            name: case.options[name]
            for name in self.offered
            if name not in self.defaults or not _same(self.defaults[name], case.options[name])
        }
        return chosen | {name: value for name, value in self.contract.forced_options.items() if name in self.takes}

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
        return self._tensor_in(self._returned(case, tensors), case)

    def accessor_of(self, case: Case) -> str:
        """The attribute of the function's result that holds the tensor, or nothing."""
        returned = self._returned(case, case.tensors)
        return ".loss" if not self.contract.outputs and self._tensor_in(returned, case) is not returned else ""

    def _returned(self, case: Case, tensors: Mapping[str, Tensor]) -> Any:
        """The unprocessed result of the function."""
        asked = self.contract.passed_by_keyword(case.options)
        by_keyword = {name: tensors[name] for name in asked}
        by_position = [tensors[name] for name in self.contract.tensors if name not in self.contract.by_keyword]
        try:
            return self.function(*by_position, **by_keyword, **self.keywords(case))
        except Violation:
            raise
        except (Exception, SystemExit) as error:
            raise Violation(f"raised {_describe(error)}", case) from error

    def _tensor_in(self, returned: Any, case: Case) -> Tensor:
        """The tensor in the result, checked against the kind and shape that the contract gives."""
        try:
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
        return value

    def _stacked(self, returned: Any, case: Case) -> Tensor:
        names = self.contract.outputs
        if not isinstance(returned, tuple | list) or len(returned) != len(names):
            raise Violation(f"returned {_kind(returned)}, expected the tensors {', '.join(names)}", case)
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else _kind(x) for x in returned]
        if any(shape != self.contract.result(case) for shape in shapes):
            raise Violation(f"returned {shapes}, expected tensors of shape {self.contract.result(case)}", case)
        return torch.stack(list(returned), -1)


# -- how to call it ---------------------------------------------------------------------------------------------------


def read(function: Callable[..., Any], contract: Contract, held: Mapping[str, Any], *, strict: bool = False) -> Subject:
    """How to call a function, determined by calling it once with each form of tensors that the contract allows.

    One form is enough: forms that it refuses are not tried again. Neither are forms that it gets wrong while it gets
    another right, but the subject records them.

    Raises: Violation where the function cannot be called with the contract's tensors.
    """
    subject = replace(by_signature(function, contract, held), strict=strict)
    accessor, right, called, refusals = "", [], [], []
    for variant in contract.variants:
        case = contract.probe(held, variant)
        try:
            accessor = subject.accessor_of(case)
            called.append(variant)
            if _is_right(subject, case):
                right.append(variant)
        except Violation as violation:
            refusals.append(violation)
    if not called:
        raise refusals[0]
    variants = tuple(right or called)
    misread = tuple(variant for variant in called if variant not in variants)
    return replace(subject, variants=variants, misread=misread, accessor=accessor)


def by_signature(function: Callable[..., Any], contract: Contract, held: Mapping[str, Any]) -> Subject:
    """How to call a function according to its signature, without calling it.

    Raises: Violation where it cannot be called with the contract's tensors.
    """
    positional = [tensor for tensor in contract.tensors if tensor not in contract.by_keyword]
    call = f"{name_of(function)}({', '.join(positional)})"
    if not callable(function):
        raise Violation(f"got {type(function).__name__}, expected a function to be called as {call}")
    try:
        signature = inspect.signature(function.forward if isinstance(function, torch.nn.Module) else function)
    except (TypeError, ValueError):  # a builtin without a readable signature
        return Subject(function, contract, held)
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
    takes = tuple(name for name in contract.forced_options if _takes(signature, name))
    return Subject(function, contract, held, offered, defaults, takes)


def _is_right(subject: Subject, case: Case) -> bool:
    """Whether the function returns what the spec gives."""
    value = subject(case).value
    arithmetic = Arithmetic.of(value.dtype, case.dtype, strict=subject.strict)
    targets = subject.contract.oracle(case, arithmetic).values
    return all(target.accepts(number) for number, target in zip(value.flatten().tolist(), targets, strict=True))


def name_of(function: object) -> str:
    """The name of a function in sentences."""
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else "function"


def _takes(signature: inspect.Signature, name: str) -> bool:
    """Whether a function takes an argument of that name by keyword."""
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

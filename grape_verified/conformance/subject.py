"""The function under check: `read` finds out how to call it and returns a `Subject`.

Whatever the function does, short of ending the process, becomes a sentence, which `Violation` carries.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grape_verified.conformance import guard
from grape_verified.conformance.binding import Binding, NotBound, bind, shown_default
from grape_verified.conformance.oracle import Arithmetic
from grape_verified.conformance.printing import in_a_line
from grape_verified.conformance.state import Changes
from grape_verified.conformance.strategies import Case, Variant

if TYPE_CHECKING:
    from grape_verified.conformance.contract import Contract


@dataclass(frozen=True)
class Setting:
    """A way of calling a function, other than plainly.

    Arguments:
        words: how a sentence about it begins.
        tensors, mask: the expression that gives a tensor its form, with its `{name}`, and the dtype of a mask.
        around: the line of a `with` statement around the call.
        call: an expression in place of the `{call}`.
        backward: lines in place of the backward pass.
        costly: whether it takes a second, so that it is tried only with many inputs.
    """

    words: str
    tensors: str = ""
    mask: str = ""
    around: str = ""
    call: str = ""
    backward: tuple[str, ...] = ()
    costly: bool = False


class Violation(Exception):
    """A function does not keep a property.

    Arguments:
        sentence: what is wrong, for a reader who knows the contract but not this package.
        case: the input that shows it; None where there is none.
        cotangents: the vector of the vector-Jacobian product, for a function without reduction.
        remarks: lines for the counterexample, such as the result and what was expected.
        cut: the row at which the batch was split, if the function was called on the halves.
        leaves: the tensors that the script of a counterexample differentiates; those of the contract if empty.
        setting: the way of calling that it needs; None for a plain call.
    """

    def __init__(
        self,
        sentence: str,
        case: Case | None = None,
        *,
        cotangents: Tensor | None = None,
        remarks: Sequence[str] = (),
        cut: int | None = None,
        leaves: Sequence[str] = (),
    ) -> None:
        super().__init__(sentence)
        self.sentence, self.case, self.cotangents = sentence, case, cotangents
        self.remarks, self.cut, self.leaves = tuple(remarks), cut, tuple(leaves)
        self.setting: Setting | None = None

    @property
    def raised(self) -> bool:
        """Whether the function raised an error."""
        return "raised " in self.sentence

    @property
    def took_too_long(self) -> bool:
        """Whether the function was stopped."""
        return isinstance(self.__cause__, guard.TookTooLong)

    @property
    def kind(self) -> str:
        """What went wrong in a word, so that another kind of it can be looked for."""
        if self.setting is not None:
            return self.setting.words
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
        binding: which of its parameters is which tensor or option.
        offered: the options that it takes; the others stay at the contract's defaults.
        defaults: its own defaults of the options that have one.
        takes: which of the contract's forced options it takes.
        variants: the forms of tensors that it takes.
        misread: forms that it takes but reads otherwise than one that it gets right.
        accessor: the attribute of its result that holds the tensor, for counterexamples.
        strict: whether to require what this package's own kernels guarantee.
        dropped: what inputs have on which the function raises an error; they are not tried again.
        undefined: counts the numbers that were not compared, as the spec gives them no value.
        changes: the global state that it changed, in words.
        refusals: the errors that it raised where few training loops call a loss so, by the way of calling.
    """

    function: Callable[..., Any]
    contract: Contract
    held: Mapping[str, Any] = field(default_factory=dict)
    binding: Binding = field(default_factory=Binding)
    offered: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = (Variant(),)
    misread: tuple[Variant, ...] = ()
    accessor: str = ""
    strict: bool = False
    dropped: tuple[frozenset[str], ...] = ()
    undefined: Counter[str] = field(default_factory=Counter, compare=False)
    changes: Changes = field(default_factory=Changes, compare=False)
    refusals: dict[str, Violation] = field(default_factory=dict, compare=False)

    def keywords(self, case: Case) -> dict[str, Any]:
        """The options to pass: those that it takes whose value is not its own default, and the forced ones."""
        chosen = {
            self.binding.parameter(name): case.options[name]
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
            found = self.gradients(result, leaves, weights)
        except Violation as violation:
            violation.case = case
            raise
        except Exception as error:
            return Outcome(value, None, f"cannot be differentiated: {in_a_line(error)}")
        gradients = (torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True))
        return Outcome(value, dict(zip(self.contract.wrt, gradients, strict=True)))

    def gradients(self, result: Tensor, leaves: Sequence[Tensor], weights: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of a result; Violation if the backward pass takes too long, else it may raise any Exception."""
        try:
            found: tuple[Tensor | None, ...] = guard.call(
                lambda: torch.autograd.grad(result, leaves, weights, allow_unused=True), self.changes
            )
        except guard.TookTooLong as error:
            raise Violation(f"raised {in_a_line(error)}, in the backward pass") from error
        return found

    def call(self, case: Case, tensors: Mapping[str, Tensor]) -> Tensor:
        """The tensor that the function returns, alone or among others; several outputs are stacked last."""
        return self._tensor_in(self._returned(case, tensors), case)[0]

    def accessor_of(self, case: Case) -> str:
        """How to get from the function's result to the tensor, or nothing."""
        return self._tensor_in(self._returned(case, case.tensors), case)[1]

    def by_keyword(self, case: Case) -> list[str]:
        """The tensors that are passed by keyword: out of its own order, asked for by options, and always required."""
        out_of_order = [name for name in self.contract.by_position if name not in self.binding.in_order]
        asked = self.contract.passed_by_keyword(case.options)
        always = [name for name in self.binding.always if name not in asked]
        return [*out_of_order, *asked, *always]

    def _returned(self, case: Case, tensors: Mapping[str, Tensor]) -> Any:
        """The unprocessed result of the function."""
        by_keyword = {self.binding.parameter(name): tensors[name] for name in self.by_keyword(case)}
        by_position = [tensors[name] for name in self.binding.in_order]
        keywords = self.keywords(case)
        return self._guarded(lambda: self.function(*by_position, **by_keyword, **keywords), case)

    def _guarded(self, call: Callable[[], Any], case: Case) -> Any:
        """The result of a call of what is not ours; what it raises is a violation."""
        try:
            return guard.call(call, self.changes)
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"raised {in_a_line(error)}", case) from error

    def _tensor_in(self, returned: Any, case: Case) -> tuple[Tensor, str]:
        """The tensor in the result, checked against the kind and shape that the contract gives, and how to get there.

        A result may run code of its own.
        """
        found = (lambda: (self._stacked(returned, case), "")) if self.contract.outputs else (lambda: inside(returned))
        value, accessor = (returned, "") if type(returned) is Tensor else self._guarded(found, case)
        if not isinstance(value, Tensor):
            raise Violation(f"returned {_kind(returned)}, expected {EXPECTED}", case)
        if value.layout is not torch.strided:
            raise Violation(f"returned a tensor of layout {value.layout}, expected {torch.strided}", case)
        expected = self.contract.shape_of_result(case)
        if tuple(value.shape) != expected:
            raise Violation(f"returned a tensor of shape {tuple(value.shape)}, expected {expected}", case)
        if value.is_meta:
            raise Violation("returned a tensor on the device meta, which holds no numbers", case)
        if not value.is_floating_point():
            raise Violation(f"returned a tensor of dtype {value.dtype}, expected a floating-point dtype", case)
        return value, accessor

    def _stacked(self, returned: Any, case: Case) -> Tensor:
        names = self.contract.outputs
        if not isinstance(returned, tuple | list) or len(returned) != len(names):
            raise Violation(f"returned {_kind(returned)}, expected the tensors {', '.join(names)}", case)
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else _kind(x) for x in returned]
        if any(shape != self.contract.result(case) for shape in shapes):
            raise Violation(f"returned {shapes}, expected tensors of shape {self.contract.result(case)}", case)
        return torch.stack(list(returned), -1)


#: What a function may return.
EXPECTED = 'a tensor, or a tuple, an object with a .loss or a dict with a "loss" that has one first'


def inside(returned: Any) -> tuple[Any, str]:
    """What is meant by a result, and how to get there: the first of several, what is called loss, or the result."""
    if isinstance(returned, tuple | list) and returned and not hasattr(returned, "loss"):
        return returned[0], "[0]"
    if isinstance(returned, Mapping) and "loss" in returned:
        return returned["loss"], '["loss"]'
    if not isinstance(returned, Tensor) and hasattr(returned, "loss"):
        return returned.loss, ".loss"
    return returned, ""


# -- how to call it ---------------------------------------------------------------------------------------------------


def read(
    function: Callable[..., Any],
    contract: Contract,
    held: Mapping[str, Any],
    *,
    strict: bool = False,
    bound: Mapping[str, str] | None = None,
) -> Subject:
    """How to call a function, determined by calling it once with each form of tensors that the contract allows.

    One form is enough: forms that it refuses are not tried again. Neither are forms that it reads otherwise than one
    that it gets right, but the subject records them. Masks of integers are tried where no other form is taken.

    Raises: Violation where the function cannot be called with the contract's tensors.
    """
    subject = replace(by_signature(function, contract, held, bound), strict=strict)
    found = _tried(subject, contract.variants)
    if "mask" in contract.tensors and not found.called:
        found = found.extended(_tried(subject, dict.fromkeys(replace(one, mask="int") for one in contract.variants)))
    if not found.called:
        raise found.refusals[0]
    rights = found.right or tuple(found.called)
    wrong = (form for form in found.called if form not in rights)
    misread = tuple(form for form in wrong if _reads_otherwise(subject, form, rights))
    variants = tuple(dict.fromkeys((*rights, *(form for form in found.called if form not in misread))))
    return replace(subject, variants=variants, misread=misread, accessor=found.called[variants[0]])


@dataclass(frozen=True)
class _Tried:
    """Forms of tensors: those that a function takes, each with the way to the tensor in its result; those right."""

    called: Mapping[Variant, str]
    right: Sequence[Variant]
    refusals: Sequence[Violation]

    def extended(self, other: _Tried) -> _Tried:
        """The same with other forms."""
        return _Tried({**self.called, **other.called}, (*self.right, *other.right), (*self.refusals, *other.refusals))


def _tried(subject: Subject, variants: Iterable[Variant]) -> _Tried:
    """Call a function once with each form."""
    called, right, refusals = dict[Variant, str](), list[Variant](), list[Violation]()
    for variant in variants:
        case = subject.contract.probe(subject.held, variant)
        try:
            called[variant] = subject.accessor_of(case)
            if _is_right(subject, case):
                right.append(variant)
        except Violation as violation:
            if violation.took_too_long:
                raise
            refusals.append(violation)
    return _Tried(called, right, refusals)


def by_signature(
    function: Callable[..., Any],
    contract: Contract,
    held: Mapping[str, Any],
    bound: Mapping[str, str] | None = None,
) -> Subject:
    """How to call a function according to its signature, without calling it.

    Raises: Violation where it cannot be called with the contract's tensors.
    """
    positional = contract.by_position
    call = f"{name_of(function)}({', '.join(positional)})"
    if not callable(function):
        raise Violation(f"got {type(function).__name__}, expected a function to be called as {call}")
    try:
        signature = inspect.signature(function.forward if isinstance(function, torch.nn.Module) else function)
    except Exception:  # a builtin without a readable signature, or an object that raises anything
        return Subject(function, contract, held, Binding(in_order=positional))
    try:
        binding = bind(signature, contract, bound or {})
    except NotBound as failure:
        raise Violation(f"it cannot be called as {call}: {failure}") from None
    lost = {option for tensor, option in contract.by_keyword.items() if not binding.takes(tensor)}
    without = [name for name in contract.by_keyword if name in contract.neutral and not binding.takes(name)]
    contract = contract.without(without)
    offered = tuple(name for name in contract.options if binding.takes(name) and name not in lost)
    subject = Subject(function, _with_tied(contract, binding), held, binding, offered)
    required = [name for name, option in contract.by_keyword.items() if not option and name not in contract.left_out]
    missing = [tensor for tensor in positional if tensor not in binding.in_order]
    keywords = {binding.parameter(name) for name in (*missing, *required, *binding.always, *offered)}
    try:
        signature.bind(*binding.in_order, **dict.fromkeys(keywords))
    except TypeError as error:
        raise Violation(f"it cannot be called as {call}: {error}") from None
    parameters = {name: signature.parameters.get(binding.parameter(name)) for name in offered}
    given = {name: p.default for name, p in parameters.items() if p and p.default is not inspect.Parameter.empty}
    defaults = {name: shown_default(default) for name, default in given.items()}
    takes = tuple(name for name in contract.forced_options if _takes(signature, name))
    return replace(subject, defaults=defaults, takes=takes)


def _with_tied(contract: Contract, binding: Binding) -> Contract:
    """The contract in which options that one parameter sets have one value."""
    if not binding.tied:
        return contract
    first, *others = binding.tied
    one = contract.options[first]

    def fit(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
        fitting = contract.fit(options, varied)
        return fitting | dict.fromkeys(others, fitting[first])

    return replace(contract, options={**contract.options, **dict.fromkeys(others, one)}, fit=fit)


def _is_right(subject: Subject, case: Case) -> bool:
    """Whether the function returns what the spec gives, to the precision of fp32: a form is misread or it is not."""
    value = subject(case).value
    arithmetic = Arithmetic.of(value.dtype, case.dtype, strict=False)
    targets = subject.contract.oracle(case, arithmetic).values
    return all(target.accepts(number) for number, target in zip(value.flatten().tolist(), targets, strict=True))


def _reads_otherwise(subject: Subject, form: Variant, rights: Sequence[Variant]) -> bool:
    """Whether the same numbers in a form that a function gets right make another result."""
    right = min(rights, key=lambda other: (other.advantages != form.advantages) + (other.mask != form.mask))
    plainest = form if form.advantages == right.advantages else replace(form, advantages="per sequence")
    case = subject.contract.probe(subject.held, plainest)
    try:
        one, other = (subject(_in_form(case, variant)).value.double() for variant in (form, right))
    except Violation:
        return True
    return not torch.allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)


def _in_form(case: Case, form: Variant) -> Case:
    """The same numbers in another form: the mask in another dtype, the advantage of a sequence for each token."""
    tensors = dict(case.tensors)
    if "mask" in tensors:
        tensors["mask"] = tensors["mask"].to({"bool": torch.bool, "int": torch.int64}.get(form.mask, case.dtype))
    if "advantages" in tensors and tensors["advantages"].ndim == 1 and form.advantages == "per token":
        tensors["advantages"] = tensors["advantages"][:, None].expand(next(iter(tensors.values())).shape).clone()
    return replace(case, tensors=tensors, variant=form)


def name_of(function: object) -> str:
    """The name of a function in sentences."""
    try:
        name = function.__name__  # type: ignore[attr-defined]
    except Exception:  # an object may do anything where it has no such attribute
        name = type(function).__name__
    return name if isinstance(name, str) and name.isidentifier() else "function"


def _takes(signature: inspect.Signature, name: str) -> bool:
    """Whether a function takes an argument of that name by keyword."""
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return True
    parameter = signature.parameters.get(name)
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"

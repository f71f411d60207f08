"""A counterexample as Python code to paste: the inputs, the call and its result."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from grape_verified.conformance.strategies import Case
from grape_verified.conformance.subject import Setting, Subject, Violation, name_of

#: The most equal numbers that are written out.
WRITTEN = 8


def render(subject: Subject, violation: Violation) -> str:
    """The script that shows a violated property."""
    case = violation.case
    if case is None:
        return ""
    name, imported = _how_to_import(subject.function)
    leaves = violation.leaves or subject.contract.wrt
    given = {tensor: x for tensor, x in case.tensors.items() if tensor not in subject.contract.left_out}
    lines = [f"{tensor} = {literal(value, tensor in leaves)}" for tensor, value in given.items()]
    called = _call(subject, case, name, violation.cut)
    lines += [*_forms(subject, case, violation.setting), *_result(violation.setting, called, leaves)]
    body = "\n".join([*lines, *_differentiation(violation, leaves, called)])
    names = ["from math import inf, nan"] if _needs_names(case) else []
    remarks = [f"# {remark}" for remark in violation.remarks or (violation.sentence,)]
    return "\n".join([*names, "import torch", imported, "", body, *remarks, ""])


def literal(tensor: Tensor, requires_grad: bool = False) -> str:
    """A tensor as an expression, each number as short as its dtype allows."""
    suffix = ", requires_grad=True" if requires_grad else ""
    if tensor.numel() > WRITTEN and bool((tensor == tensor.flatten()[0]).all()):
        number = _number(tensor.flatten()[0].item(), tensor.dtype)
        return f"torch.full({tuple(tensor.shape)}, {number}, dtype={tensor.dtype}{suffix})"
    return f"torch.tensor({_entries(tensor)}, dtype={tensor.dtype}{suffix})"


def _entries(tensor: Tensor) -> str:
    if tensor.ndim:
        return f"[{', '.join(_entries(entry) for entry in tensor)}]"
    return _number(tensor.item(), tensor.dtype)


def _number(x: Any, dtype: torch.dtype) -> str:
    """The shortest decimal that is the same number in the dtype."""
    if not isinstance(x, float) or not math.isfinite(x):
        return repr(x)
    shortest = (f"{x:.{digits}g}" for digits in range(1, 18))
    text = next(s for s in shortest if torch.tensor(float(s), dtype=dtype).item() == x)
    return repr(float(text))


def _call(subject: Subject, case: Case, name: str, cut: int | None) -> str:
    contract, binding = subject.contract, subject.binding
    options = [f"{option}={value!r}" for option, value in subject.keywords(case).items()]

    def part_of(tensor: str, side: int) -> str:
        if cut is None or tensor in contract.shared:
            return tensor
        at = cut * len(case.tensors[tensor]) // contract.parts(case)
        return f"{tensor}[:{at}]" if side == 0 else f"{tensor}[{at}:]"

    def call(side: int) -> str:
        by_position = [part_of(tensor, side) for tensor in binding.in_order]
        by_keyword = [f"{binding.parameter(name)}={part_of(name, side)}" for name in subject.by_keyword(case)]
        called = f"{name}({', '.join([*by_position, *by_keyword, *options])})"
        return f"torch.stack({called}, -1)" if contract.outputs else f"{called}{subject.accessor}"

    return call(0) if cut is None else f"{call(0)} + {call(1)}"


def _forms(subject: Subject, case: Case, setting: Setting | None) -> Iterator[str]:
    """The lines that give tensors another form in memory, or masks another dtype."""
    if setting is None:
        return
    for name in case.tensors:
        if setting.mask and name in ("mask", "item_mask"):
            yield f"{name} = {name}.to({setting.mask})"
        if setting.tensors and case.tensors[name].ndim and name not in subject.contract.shared:
            leaf = name in subject.contract.wrt
            form = setting.tensors.format(name=f"{name}.detach()" if leaf else name)
            yield f"{name} = {form}{'.requires_grad_()' if leaf else ''}"


def _result(setting: Setting | None, called: str, leaves: tuple[str, ...]) -> list[str]:
    """The lines that call the function."""
    if setting and setting.call:
        called = setting.call.format(call=called, leaves=", ".join(leaves))
    return [setting.around, f"    result = {called}"] if setting and setting.around else [f"result = {called}"]


def _differentiation(violation: Violation, leaves: tuple[str, ...], called: str) -> list[str]:
    """The lines that print the gradients if they are wrong, else the value."""
    if not any("gradient" in remark for remark in (*violation.remarks, violation.sentence)):
        return ["print(result.tolist())"]
    upstream = violation.cotangents
    plain = upstream is None or (not upstream.ndim and upstream.item() == 1)
    weights = "" if upstream is None or plain else literal(upstream)
    if violation.setting and violation.setting.backward:
        places = ", ".join(str(place) for place in range(len(leaves)))
        given = {"leaves": ", ".join(leaves), "weights": weights or "None", "call": called, "places": places}
        return [line.format(**given) for line in violation.setting.backward]
    return [f"result.backward({weights})", *(f"print({leaf}.grad.tolist())" for leaf in leaves)]


def _how_to_import(function: Any) -> tuple[str, str]:
    """A name for the function, and the line that imports it if it can be imported."""
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for step in path.split("."):
        found = getattr(found, step, None)
    if found is function and found is not None and module != "__main__":
        first, _, _ = path.partition(".")
        return path, f"from {module} import {first}"
    return name_of(function), f"# {name_of(function)} is the function that was checked"


def _needs_names(case: Case) -> bool:
    return any(t.is_floating_point() and not bool(t.isfinite().all()) for t in case.tensors.values())

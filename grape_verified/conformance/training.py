"""How training calls any function: the contexts in which its result must be that of a plain call.

The ways of calling are those of `contexts`, which tries them on our own kernels bit by bit. Here two results may differ
by the order of summation. A number that differs is wrong in each context. An error is wrong where every training loop
calls a loss so; where few do, it is a refusal, which is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from grape_verified.conformance import guard
from grape_verified.conformance.calls import Call, call_of
from grape_verified.conformance.comparison import compare
from grape_verified.conformance.contexts import CONTEXTS
from grape_verified.conformance.printing import in_a_line
from grape_verified.conformance.state import Changes
from grape_verified.conformance.strategies import Case
from grape_verified.conformance.subject import Outcome, Setting, Subject, Violation
from grape_verified.conformance.ways import REFUSAL, Pairs, Seen, plain, quiet, upstream_of

#: With so many inputs of other properties, also contexts that take a second are tried.
COSTLY_FROM = 1000

_BY_NAME = {context.name: context for context in CONTEXTS}


@dataclass(frozen=True)
class Way:
    """A context of training, for any function.

    Arguments:
        context: its name among `CONTEXTS`.
        setting: its words for a sentence, and its lines for a script.
        expected: the call that gives what is expected, as in "1.0 from the same function in a plain call".
        refusable: whether an error is a refusal, not a fault.
        scale: the upstream gradient, relative to the usual one.
        given: the input that a plain call has, if the context changes its numbers.
    """

    context: str
    setting: Setting
    expected: str = "in a plain call"
    refusable: bool = False
    scale: float = 1.0
    given: Callable[[Subject, Case], Case] = lambda subject, case: case

    def __call__(self, subject: Subject, case: Case) -> None:
        """Raise `Violation` if the result is not that of a plain call; note a refusal."""
        case = self.given(subject, case)
        call = self._guarded(subject, call_of(subject, case))
        context = _BY_NAME[self.context]
        if context.missing(call) or self._does_not_apply(subject):
            return
        try:
            self._compare(subject, case, call, context.pairs(call.mapped(torch.clone)))
        except Violation as violation:
            if violation.took_too_long:
                raise
            if (usual := _usual(call)) is None:  # other properties report what a plain call does not survive
                return
            violation.sentence = f"{self.setting.words}, {violation.sentence}"
            violation.case, violation.setting = violation.case or case, self.setting
            violation.cotangents = self.scale * upstream_of(usual.value)
            raise

    def _does_not_apply(self, subject: Subject) -> bool:
        """Whether it lowers a layer of the model, or is about masks for a function known to take one form of them."""
        if self.context.startswith("mask "):
            return bool(subject.misread) or "bool" not in {variant.mask for variant in subject.variants}
        return self.context.startswith("autocast ") and "weight" in subject.contract.tensors

    def _guarded(self, subject: Subject, call: Call) -> Call:
        """The call, guarded each time; a compiler cannot trace that, so what is costly is guarded as a whole."""
        if self.setting.costly:
            return call

        def compute(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
            found: Tensor = guard.call(lambda: call.compute(tensors, **options), subject.changes)
            return found

        return replace(call, compute=compute)

    def _compare(self, subject: Subject, case: Case, call: Call, pairs: Pairs) -> None:
        for got, expected in self._seen(subject, case, call, pairs):
            if got.value.shape != expected.value.shape:
                raise Violation(f"returned a tensor of shape {tuple(got.value.shape)}", case)
            compare(subject, case, _outcome(got), _outcome(expected), self.expected)

    def _seen(self, subject: Subject, case: Case, call: Call, pairs: Pairs) -> Iterator[tuple[Seen, Seen]]:
        """The pairs of results; an error is raised as a violation, or noted as a refusal."""
        try:
            with quiet():
                yield from guard.call(lambda: list(pairs), subject.changes)
        except Violation:
            raise
        except Exception as error:
            raised = Violation(f"raised {in_a_line(error)}", case)
            raised.__cause__ = error
            if not self.refusable or raised.took_too_long:
                raise raised from error
            raised.sentence, raised.setting = f"{self.setting.words}, {raised.sentence}", self.setting
            meant = REFUSAL.match(str(error))  # it says what was got and what was expected
            if not meant and _usual(call) is not None:
                subject.refusals.setdefault(self.context, raised)


def _usual(call: Call) -> Seen | None:
    """The result of a plain call, if it has one."""
    try:
        with quiet():
            seen: Seen = guard.call(lambda: plain(call.mapped(torch.clone)), Changes())
            return seen
    except Exception:
        return None


def _outcome(seen: Seen) -> Outcome:
    return Outcome(seen.value, seen.gradients)


def _first_row(subject: Subject, case: Case) -> Case:
    """The input with its first row in place of all."""
    changed = {n: t[:1].expand_as(t).clone() for n, t in case.tensors.items() if n not in subject.contract.shared}
    return case.with_tensors(**changed)


def _integers(subject: Subject, case: Case) -> Case:
    """The input with boolean masks."""
    masks = {name: t.bool() for name, t in case.tensors.items() if name in ("mask", "item_mask")}
    return case.with_tensors(**masks)


def _shown(found: str) -> str:
    """The line of a script that shows some tensors."""
    return f"print(*(x.tolist() for x in {found}))"


_GRAD = "torch.autograd.grad(result, [{leaves}], {weights}"

#: What is cheap and common first.
WAYS: tuple[Way, ...] = (
    Way("upstream 4", Setting("for a gradient from above that is 4 times as large"), "in a plain call, times 4",
        scale=4.0),  # not 3.5, as a power of 2 multiplies without rounding
    Way("upstream 0", Setting("for a gradient of 0 from above"), "in a plain call, times 0", scale=0.0),
    Way("upstream expanded", Setting("for a gradient from above that is expanded", backward=(
        _shown("torch.autograd.grad(result, [{leaves}], torch.tensor(1.5).expand_as(result))"),)),
        "in a plain call with a contiguous one"),
    Way("two backward passes", Setting("in a second backward pass", backward=(
        f"{_GRAD}, retain_graph=True)", _shown(f"{_GRAD})")))),
    Way("strided", Setting("for tensors with gaps in memory", tensors="{name}.repeat_interleave(2, -1)[..., ::2]")),
    Way("transposed", Setting("for tensors that are transposed in memory",
                              tensors="{name}.transpose(0, -1).contiguous().transpose(0, -1)")),
    Way("expanded", Setting("for tensors that are one row, expanded", tensors="{name}[:1].expand_as({name})"),
        "in a plain call on contiguous tensors", given=_first_row),
    Way("mask int64", Setting("for a mask of int64", mask="torch.int64"), "with a boolean mask", refusable=True,
        given=_integers),
    Way("no_grad", Setting("under torch.no_grad", around="with torch.no_grad():")),
    Way("inference_mode", Setting("under torch.inference_mode", around="with torch.inference_mode():")),
    Way("autocast forward bfloat16", Setting("under torch.autocast in bfloat16",
                                             around='with torch.autocast("cpu", torch.bfloat16):')),
    Way("create_graph", Setting("with create_graph", backward=(
        _shown(f"{_GRAD}, create_graph=True)"),)), refusable=True),
    Way("func.grad", Setting("under torch.func.grad", backward=(
        "gradients = torch.func.grad(lambda {leaves}: ({call} * {weights}).sum(), ({places},))",
        _shown("gradients({leaves})")), costly=True), refusable=True),
    Way("checkpoint", Setting("under gradient checkpointing",
        call="torch.utils.checkpoint.checkpoint(lambda {leaves}: {call}, {leaves}, use_reentrant=False)",
        costly=True), refusable=True),
    Way("compiled", Setting("under torch.compile",
        call='torch.compile(lambda {leaves}: {call}, backend="aot_eager")({leaves})', costly=True), refusable=True),
)  # fmt: skip


def in_every_context(subject: Subject, case: Case) -> None:
    """In the contexts of training the result is that of a plain call."""
    for way in WAYS:
        way(subject, case)

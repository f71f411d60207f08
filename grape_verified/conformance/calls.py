"""Calls of the public functions, each with a few of the largest inputs that its contract draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from numbers import Real
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor

import grape_verified
from grape_verified.conformance.contract import Contract
from grape_verified.conformance.contracts import CONTRACTS
from grape_verified.conformance.strategies import Case, Regime
from grape_verified.conformance.subject import Subject, by_signature, inside

#: The numbers of inputs that are drawn for each kernel, and tried.
DRAWN, TRIED = 60, 3


@dataclass(frozen=True)
class Call:
    """A public function with one input.

    Arguments:
        name: that of its contract, or of the function if it has none.
        compute: the tensor that it returns, given its tensors by name and its options.
        tensors: by name; none of them requires a gradient.
        wrt: those that are differentiated.
        options: the keyword arguments that are not tensors.
        shared: tensors that all rows of a batch share.
        unmasked: tensors that do not lie along the mask, though they may have its shape.
        numbers: values of each option that is a number.
        parts: the number of independent parts of the batch, such as groups.
        constants: whether a weight in it is held constant, so that its gradient is not the derivative of its value.
    """

    name: str
    compute: Callable[..., Tensor]
    tensors: Mapping[str, Tensor]
    wrt: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()
    numbers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    parts: int = 1
    constants: bool = False

    def __call__(self, tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
        """The result of the function for these tensors; options replace those of the call."""
        return self.compute(tensors, **{**self.options, **options})

    def with_tensors(self, **tensors: Tensor) -> Call:
        """The same with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **tensors})

    def mapped(self, function: Callable[[Tensor], Tensor], *, shared: bool = True) -> Call:
        """The same with a function applied to each tensor, on request except to those that all rows share."""
        chosen = {n: t for n, t in self.tensors.items() if shared or n not in self.shared}
        return self.with_tensors(**{name: function(tensor) for name, tensor in chosen.items()})

    def of_parts(self, count: int) -> Call:
        """The same with `count` parts of the batch, taken in turn."""

        def taken(tensor: Tensor) -> Tensor:
            width = len(tensor) // self.parts
            return tensor[[part % self.parts * width + i for part in range(count) for i in range(width)]]

        return self.mapped(taken, shared=False)

    @property
    def masked(self) -> Tensor:
        """Where a token does not count, of a call with a mask over tokens."""
        return self.tensors["mask"] == 0


def names() -> tuple[str, ...]:
    """Every contract, and the public functions without one."""
    return (*CONTRACTS, *_WITHOUT_CONTRACT)


@cache
def calls(name: str) -> tuple[Call, ...]:
    """A few calls of a kernel."""
    if name in _WITHOUT_CONTRACT:
        return tuple(_WITHOUT_CONTRACT[name]())
    contract = CONTRACTS[name]
    return of_function(getattr(grape_verified, contract.kernel), contract)


def of_function(function: Callable[..., Any], contract: Contract) -> tuple[Call, ...]:
    """Calls of an implementation of a contract."""
    subject = by_signature(function, contract, {})
    return tuple(call_of(subject, case) for case in _largest(contract, subject.offered))


def _largest(contract: Contract, offered: Sequence[str]) -> list[Case]:
    """Some of the drawn cases: those with the most numbers and a mask with gaps, no two with the same options."""
    drawn: list[Case] = []

    def collect(case: Case) -> None:
        drawn.append(case)

    quiet = settings(
        max_examples=DRAWN, derandomize=True, database=None, deadline=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    quiet(given(case=contract.cases(Regime((torch.float32,)), offered, {}, contract.variants))(collect))()

    def size(case: Case) -> tuple[bool, int]:
        mask = case.tensors.get("mask", torch.tensor([True, False]))
        return len(mask.unique()) > 1, sum(t.numel() for t in case.tensors.values())

    drawn.sort(key=size, reverse=True)
    distinct = {repr(sorted(case.options.items(), key=str)): case for case in reversed(drawn)}
    return list(reversed(distinct.values()))[:TRIED]


def call_of(subject: Subject, case: Case) -> Call:
    """The call of a function on an input."""
    contract, binding = subject.contract, subject.binding
    by_keyword, passed = subject.by_keyword(case), subject.keywords(case)
    chosen = {name: case.options[name] for name in subject.offered if binding.parameter(name) in passed}
    named = {binding.parameter(name) for name in chosen}
    fixed = {name: value for name, value in passed.items() if name not in named}
    read = (*binding.in_order, *by_keyword)

    def compute(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
        given = {binding.parameter(name): tensors[name] for name in by_keyword}
        given |= {binding.parameter(name): value for name, value in options.items()}
        returned = subject.function(*(tensors[name] for name in binding.in_order), **given, **fixed)
        return torch.stack(list(returned), -1) if contract.outputs else inside(returned)[0]

    return Call(
        contract.name,
        compute,
        {name: case.tensors[name] for name in read},
        tuple(name for name in contract.wrt if name in read),
        chosen,
        contract.shared,
        contract.unmasked,
        {n: tuple(v for v in (o.default, *o.others) if is_number(v)) for n, o in contract.options.items()
         if n in subject.offered},
        contract.parts(case),
        contract.constants(case.options),
    )  # fmt: skip


def is_number(value: object) -> bool:
    """Whether an option is a real number and not a flag."""
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class OtherNumber:
    """A value of an option in another type and in its usual type, and whether the option is an integer."""

    option: str
    value: Any
    usual: Any
    whole: bool


def other_numbers(call: Call) -> Iterator[OtherNumber]:
    """Fractions in place of the values of an option, and an integer beyond the range of int64."""
    for name, values in call.numbers.items():
        whole = all(isinstance(value, int) for value in values)
        for value in values:
            yield OtherNumber(name, Fraction(value), value, whole)
        if values:
            yield OtherNumber(name, 10**30, 1e30, whole)


# -- functions without a contract -------------------------------------------------------------------------------------


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _head() -> dict[str, Tensor]:
    """Hidden states of four sequences, a head, targets, and a mask with holes."""
    targets = torch.arange(20).reshape(4, 5) % 7
    return {"hidden": _random(4, 5, 3), "weight": _random(7, 3, seed=1), "bias": _random(7, seed=2), "targets": targets,
            "mask": (torch.arange(20).reshape(4, 5) % 3 != 1)}  # fmt: skip


def _fused() -> list[Call]:
    """In one pass over tokens, sequences and pairs."""
    functions: dict[str, Callable[..., Tensor]] = {
        "token": grape_verified.sft_per_token,
        "sequence": lambda logps: -logps.sum(1),
        "pair": grape_verified.bradley_terry_per_pair,
    }

    def compute(tensors: Mapping[str, Tensor], *, separable: str, **options: Any) -> Tensor:
        by_position = [tensors[name] for name in ("hidden", "weight", "targets")]
        keywords = {"mask": tensors["mask"], "bias": tensors["bias"], "separable": separable, **options}
        return grape_verified.fused_linear_loss(*by_position, functions[separable], **keywords).loss  # type: ignore

    wrt, shared = ("hidden", "weight", "bias"), ("weight", "bias")
    one = Call("fused_linear_loss", compute, _head(), wrt, {"separable": "token"}, shared)
    numbers = {"temperature": (1.0, 0.5), "denominator": (7, 2.5)}
    return [
        replace(one, options={"separable": separable, "temperature": 0.7}, numbers=numbers) for separable in functions
    ]


def _by_name(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """A loss that takes its tensors by their names."""
    return lambda tensors, **options: function(**tensors, **options).loss


def _distilled() -> list[Call]:
    """From hidden states of a student and a teacher."""
    tensors = {name: tensor for name, tensor in _head().items() if name != "targets"}
    tensors |= {"teacher_hidden": _random(4, 5, 2, seed=3), "teacher_weight": _random(7, 2, seed=4)}
    wrt, shared = ("hidden", "weight", "bias"), ("weight", "bias", "teacher_weight")
    numbers = {"temperature": (1.0, 0.5), "mixing": (0.5, 0.25), "denominator": (7, 2.5)}
    return [
        Call("fused_jensen_shannon_loss", _by_name(grape_verified.fused_jensen_shannon_loss), tensors, wrt,
             {"mixing": beta, "temperature": 0.7}, shared, numbers=numbers)
        for beta in (0.5, 0.1)
    ]  # fmt: skip


def _from_sent_tokens() -> list[Call]:
    """From hidden states of a student and the tokens that a teacher sends."""
    tensors = {name: tensor for name, tensor in _head().items() if name != "targets"}
    logps, tokens = _random(4, 5, 7, seed=3).log_softmax(-1).topk(3)
    tensors |= {"teacher_logps": logps, "teacher_tokens": tokens}
    wrt, shared = ("hidden", "weight", "bias"), ("weight", "bias")
    numbers = {"temperature": (1.0, 0.5), "denominator": (7, 2.5)}
    return [
        Call("fused_top_k_loss", _by_name(grape_verified.fused_top_k_loss), tensors, wrt,
             {"tail": tail, "temperature": 0.7}, shared, numbers=numbers)
        for tail in ("bucket", "none", "renormalised")
    ]  # fmt: skip


@cache
def _small_model() -> torch.nn.Module:
    """A policy whose logits are nonlinear in its parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 5))


def _fisher(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
    model = deepcopy(_small_model()).to(tensors["inputs"])
    return grape_verified.fisher_vector_product(model, tensors["inputs"], tensors["mask"], tensors["vector"], **options)


def _fisher_calls() -> list[Call]:
    size = sum(p.numel() for p in _small_model().parameters())
    tensors = {"inputs": _random(4, 5, 3), "mask": _head()["mask"], "vector": _random(size, seed=3)}
    return [Call("fisher_vector_product", _fisher, tensors, (), {"damping": 0.0}, ("vector",), ("vector", "inputs"),
                 {"damping": (0.1, 0.0)})]  # fmt: skip


def _solved(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
    target = tensors["target"]
    scales = torch.arange(1, 1 + target.numel(), dtype=torch.float32)
    return grape_verified.conjugate_gradient(lambda x: scales.to(x) * x, target, **options)


def _solver_calls() -> list[Call]:
    numbers = {"steps": (10,), "tolerance": (1e-10, 0.0)}
    return [Call("conjugate_gradient", _solved, {"target": _random(6)}, (), {"steps": 10}, numbers=numbers)]


def _stepped(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
    """The change of the parameters by a step, and its report."""
    model = deepcopy(_small_model()).to(tensors["inputs"])
    before = [p.detach().clone() for p in model.parameters()]
    by_position = [tensors[name] for name in ("inputs", "targets", "advantages", "mask")]
    step = grape_verified.trpo_step(model, *by_position, **options)  # type: ignore[arg-type]
    moved = [(p.detach() - old).flatten() for p, old in zip(model.parameters(), before, strict=True)]
    return torch.cat([*moved, moved[0].new_tensor([step.kl, step.surrogate_after, step.fraction])])


def _step_calls() -> list[Call]:
    tensors = {"inputs": _random(4, 5, 3), "targets": _head()["targets"] % 5, "advantages": _random(4, 5, seed=4)}
    numbers = {"max_kl": (0.01,), "damping": (0.1,), "cg_steps": (10,), "backtrack_ratio": (0.5,)}
    return [Call("trpo_step", _stepped, {**tensors, "mask": _head()["mask"]}, (), {"max_kl": 0.01},
                 unmasked=("inputs",), numbers=numbers)]  # fmt: skip


def _counted(tensors: Mapping[str, Tensor], *, mode: str) -> Tensor:
    return grape_verified.aggregation_denominator(tensors["mask"], mode)  # type: ignore[arg-type]


def _denominator_calls() -> list[Call]:
    mask = {"mask": _head()["mask"]}
    return [
        Call("aggregation_denominator", _counted, mask, (), {"mode": mode}) for mode in ("token_mean", "sequence_sum")
    ]


def _adapted(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
    return torch.tensor(grape_verified.adaptive_kl_coef(**options), dtype=torch.float64)


def _coefficient_calls() -> list[Call]:
    given = {"kl_coef": 0.5, "kl": 7.0, "target": 6.0, "horizon": 100.0, "steps": 3.0, "clip": 0.25}
    return [
        Call("adaptive_kl_coef", _adapted, {}, (), given, numbers={name: (value,) for name, value in given.items()})
    ]


def _apart(tensors: Mapping[str, Tensor], **options: Any) -> Tensor:
    given = (tensors[name] for name in ("old_logps", "sampler_logps", "mask"))
    found = grape_verified.importance_metrics(*given, **options)  # type: ignore[arg-type]
    return torch.stack(list(found.values()))


def _metrics_calls() -> list[Call]:
    mask = _head()["mask"]
    tensors = {"old_logps": _random(*mask.shape), "sampler_logps": _random(*mask.shape, seed=3), "mask": mask}
    return [
        Call("importance_metrics", _apart, tensors, (), {"level": level}, numbers={"high": (2.0,)})
        for level in ("token", "sequence")
    ]


def _unpacked(tensors: Mapping[str, Tensor]) -> Tensor:
    return grape_verified.unpack_sequences(tensors["packed"], tensors["sequence_ids"])


def _packed_calls() -> list[Call]:
    ids = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 2, -1], [4, 4, 4, 4, 4], [0, 0, 1, 1, 1]])
    return [Call("unpack_sequences", _unpacked, {"packed": _random(4, 5), "sequence_ids": ids}, ("packed",))]


_WITHOUT_CONTRACT: Mapping[str, Callable[[], list[Call]]] = {
    "fused_linear_loss": _fused,
    "fused_jensen_shannon_loss": _distilled,
    "fused_top_k_loss": _from_sent_tokens,
    "fisher_vector_product": _fisher_calls,
    "conjugate_gradient": _solver_calls,
    "trpo_step": _step_calls,
    "aggregation_denominator": _denominator_calls,
    "adaptive_kl_coef": _coefficient_calls,
    "importance_metrics": _metrics_calls,
    "unpack_sequences": _packed_calls,
}

"""Contracts: which definitions of the spec a public function implements, and what else it promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from torch import Tensor

from grape_verified.conformance import oracle, strategies
from grape_verified.conformance.strategies import Blueprint, Case, Regime, Variant


@dataclass(frozen=True)
class Option:
    """A keyword argument: its default, and other values that are drawn."""

    default: Any
    others: tuple[Any, ...]

    def pick(self, byte: int) -> Any:
        """One of the values, the default for 0."""
        return (self.default, *self.others)[byte % (1 + len(self.others))]


@dataclass(frozen=True)
class Contract:
    """A public function, bound to definitions of the spec.

    Arguments:
        name: how `check` is asked for it.
        text: what it is, in one sentence.
        tensors: the positional arguments, in order.
        wrt: those that are differentiated.
        options: the keyword arguments.
        variants: the forms in which tensors may come.
        build, blocks: how inputs are made, and the names of the bytes of a row that this takes.
        oracle: the expected value and gradients.
        reduced: whether it returns one number rather than one for each token, pair or position.
        rests_on: the definitions and claims that say what it should return.
        properties: the names of the properties that it promises, in the order in which they are checked.
    """

    name: str
    text: str
    tensors: tuple[str, ...]
    wrt: tuple[str, ...]
    options: Mapping[str, Option]
    build: Callable[[Blueprint], Mapping[str, Tensor]]
    blocks: tuple[str, ...]
    oracle: oracle.Oracle
    reduced: bool
    rests_on: tuple[str, ...]
    properties: tuple[str, ...]
    variants: tuple[Variant, ...] = (Variant(),)

    def shape_of_result(self, case: Case) -> tuple[int, ...]:
        """The shape of what the function returns."""
        if self.reduced:
            return ()
        first = case.tensors[self.tensors[0]]
        return tuple(first.shape[:-1] if "logits" in self.tensors else first.shape)

    def defaults(self, held: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every option that is not varied."""
        return {name: held.get(name, option.default) for name, option in self.options.items()}

    def cases(
        self, regime: Regime, offered: Sequence[str], held: Mapping[str, Any], variants: Sequence[Variant]
    ) -> st.SearchStrategy[Case]:
        """Inputs of a regime for a function that takes the offered options, some of which may be held at a value."""
        varied = [name for name in offered if name not in held] if regime.vary_options else []

        def options(chosen: bytes) -> dict[str, Any]:
            drawn = {name: self.options[name].pick(byte) for name, byte in zip(varied, chosen, strict=False)}
            return _consistent({**self.defaults(held), **drawn}, varied)

        return strategies.cases(self.build, self.blocks, options, variants, regime)


def _consistent(options: dict[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    """The options, made to fit each other: a fixed length needs a length, and a plain sum has no denominator."""
    mode = "aggregation" if "aggregation" in options else "mode"
    if mode not in options:
        return options
    if options[mode] == "fixed_length" and "max_length" not in varied and options["max_length"] is None:
        options[mode] = "sequence_sum"
    if options[mode] == "token_sum" and "denominator" in varied:
        options["denominator"] = None
    if options[mode] != "fixed_length":
        options["max_length"] = None
    elif options["max_length"] is None:
        options["max_length"] = 8
    return options


_MODES = Option("token_mean", ("sequence_mean", "sequence_sum", "token_sum", "fixed_length"))
_REDUCTION = {"denominator": Option(None, (7, 2.5, 1)), "max_length": Option(None, (6, 100))}
_CLIPPING = {
    "clip_low": Option(0.2, (0.1, 0.5, 0.0, 1.0)),
    "clip_high": Option(0.2, (0.5, 0.28, 0.0, 4.0)),
    "dual_clip": Option(None, (3.0, 1.5)),
}
_PREFERENCE = {"beta": Option(0.1, (0.5, 1.0, 0.01, 5.0)), "label_smoothing": Option(0.0, (0.1, 0.25, 0.45))}
_TEMPERATURE = {"temperature": Option(1.0, (0.5, 2.0, 0.7, 10.0))}

_PPO_CLAIMS = (
    "ppo.ratio", "ppo.clipped_surrogate", "ppo.clip.slope", "ppo.dual_clipped_surrogate", "ppo.dual_clip.slope",
    "ppo.clip.gradient", "ppo.clip.kink", "ppo.dual_clip.gradient",
)  # fmt: skip
_DPO_CLAIMS = ("dpo.margin", "dpo.loss", "dpo.smoothed_loss", "dpo.gradient", "dpo.label_smoothing")
_AGGREGATION_CLAIMS = (
    "aggregation.token_mean", "aggregation.sequence_mean", "aggregation.sequence_sum", "aggregation.token_sum",
    "aggregation.fixed_length", "aggregation.token_count", "aggregation.gradient", "aggregation.partition",
)  # fmt: skip

_EVERY = ("signature", "repeatable", "value", "gradient")
_LAST = ("permutation", "inputs", "dtype")
_MASKED = ("options", "masked values", "padding", "partition", "empty batch")

_PAIR = ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
_TOKEN = ("logps", "old_logps", "advantages")
_ADVANTAGE_FORMS = ("per token", "per sequence")
_LOGIT_BLOCKS = ("logits", "forbidden", "targets")

_ALL = (
    Contract(
        name="ppo",
        text="PPO's policy loss with asymmetric and dual clipping, aggregated over the tokens that count.",
        tensors=(*_TOKEN, "mask"),
        wrt=("logps",),
        options=_CLIPPING | {"aggregation": _MODES} | _REDUCTION,
        build=strategies.masked_token_tensors,
        blocks=(*_TOKEN, "mask"),
        oracle=oracle.ppo,
        reduced=True,
        rests_on=_PPO_CLAIMS + _AGGREGATION_CLAIMS,
        properties=(*_EVERY, *_MASKED, "kinks", "extremes", *_LAST),
        variants=tuple(Variant(mask, form) for form in _ADVANTAGE_FORMS for mask in ("bool", "float")),
    ),
    Contract(
        name="ppo_per_token",
        text="PPO's clipped loss of each token.",
        tensors=_TOKEN,
        wrt=("logps",),
        options=_CLIPPING,
        build=strategies.token_tensors,
        blocks=_TOKEN,
        oracle=oracle.ppo_per_token,
        reduced=False,
        rests_on=_PPO_CLAIMS,
        properties=(*_EVERY, "cotangents", "options", "kinks", "extremes", *_LAST),
        variants=tuple(Variant(advantages=form) for form in _ADVANTAGE_FORMS),
    ),
    Contract(
        name="dpo",
        text="DPO's loss with label smoothing, the mean over pairs.",
        tensors=_PAIR,
        wrt=_PAIR[:2],
        options=_PREFERENCE | {"denominator": Option(None, (7, 2.5, 1))},
        build=strategies.pair_tensors,
        blocks=_PAIR,
        oracle=oracle.dpo,
        reduced=True,
        rests_on=(*_DPO_CLAIMS, "aggregation.token_mean", "aggregation.gradient", "aggregation.partition"),
        properties=(*_EVERY, "options", "partition", "extremes", *_LAST),
    ),
    Contract(
        name="dpo_per_pair",
        text="DPO's loss of each pair.",
        tensors=_PAIR,
        wrt=_PAIR[:2],
        options=_PREFERENCE,
        build=strategies.pair_tensors,
        blocks=_PAIR,
        oracle=oracle.dpo_per_pair,
        reduced=False,
        rests_on=_DPO_CLAIMS,
        properties=(*_EVERY, "cotangents", "options", "extremes", *_LAST),
    ),
    Contract(
        name="aggregate",
        text="The reduction of per-token values to one number.",
        tensors=("per_token", "mask"),
        wrt=("per_token",),
        options={"mode": _MODES} | _REDUCTION,
        build=strategies.value_tensors,
        blocks=("per_token", "mask"),
        oracle=oracle.aggregate,
        reduced=True,
        rests_on=_AGGREGATION_CLAIMS,
        properties=(*_EVERY, *_MASKED, *_LAST),
        variants=(Variant("bool"), Variant("float")),
    ),
    Contract(
        name="token_logps",
        text="The log-probability of each target under the softmax of its logits.",
        tensors=("logits", "targets"),
        wrt=("logits",),
        options=_TEMPERATURE,
        build=strategies.logit_and_target_tensors,
        blocks=_LOGIT_BLOCKS,
        oracle=oracle.token_logps,
        reduced=False,
        rests_on=("policy.log_softmax", "policy.log_softmax.gradient", "policy.temperature.gradient"),
        properties=(*_EVERY, "cotangents", "options", "forbidden tokens", "extremes", *_LAST),
    ),
    Contract(
        name="token_entropies",
        text="The entropy of the softmax of the logits at each position.",
        tensors=("logits",),
        wrt=("logits",),
        options=_TEMPERATURE,
        build=strategies.logit_tensors,
        blocks=_LOGIT_BLOCKS,
        oracle=oracle.token_entropies,
        reduced=False,
        rests_on=("policy.entropy", "policy.entropy.gradient"),
        properties=(*_EVERY, "cotangents", "options", "forbidden tokens", "extremes", *_LAST),
    ),
)

#: Every contract by its name.
CONTRACTS: Mapping[str, Contract] = {contract.name: contract for contract in _ALL}

"""Which parameter of a function under check is which tensor or option of a contract.

Names come first, with the synonyms of the field; where a name is unknown, the position decides. A parameter with the
name of something else is refused rather than guessed at.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grape_verified.conformance.contract import Contract

_LOGPS = ("log_probs", "log_prob", "logprobs", "logprob", "logp", "log_ps", "new_logps", "new_logp", "new_logprobs",
          "new_log_probs", "curr_logps", "current_logps", "policy_logps", "per_token_logps", "token_log_probs",
          "pi_logprobs", "action_log_probs", "selected_logps", "lprobs")  # fmt: skip
_OLD = ("old", "prev", "previous", "behavior", "behaviour", "sampling", "rollout")
_REFERENCE = ("ref", "reference")

#: What the field calls the tensors and options of contracts, in addition to their own names.
SYNONYMS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "logps": _LOGPS,
        "old_logps": (
            *(f"{old}_{name}" for old in _OLD for name in ("logps", *_LOGPS)),
            *(f"{name}_old" for name in ("logps", *_LOGPS)),
            "pi_old_logprobs", "old",
        ),
        "ref_logps": (
            *(f"{ref}_{name}" for ref in _REFERENCE for name in ("logps", *_LOGPS)),
            *(f"{name}_{ref}" for ref in _REFERENCE for name in ("logps", *_LOGPS)),
            *(f"{name}_base" for name in ("logps", *_LOGPS)),
            *(f"base_{name}" for name in ("logps", *_LOGPS)),
            "target_log_prob",
            "ref", "reference",
        ),
        "advantages": ("adv", "advs", "advantage", "token_advantages"),
        "mask": ("masks", "action_mask", "response_mask", "response_masks", "completion_mask", "loss_mask",
                 "token_mask", "attention_mask", "padding_mask", "padding_masks", "sequence_mask", "valid_mask",
                 "eos_mask"),
        "chosen_logps": tuple(
            f"{whose}chosen_{name}" for whose in ("", "policy_", "pi_") for name in ("logps", *_LOGPS)
        ),
        "rejected_logps": tuple(
            f"{whose}rejected_{name}" for whose in ("", "policy_", "pi_") for name in ("logps", *_LOGPS)
        ),
        "ref_chosen_logps": tuple(f"{ref}_chosen_{name}" for ref in _REFERENCE for name in ("logps", *_LOGPS)),
        "ref_rejected_logps": tuple(f"{ref}_rejected_{name}" for ref in _REFERENCE for name in ("logps", *_LOGPS)),
        "chosen_rewards": ("chosen_reward", "rewards_chosen", "chosen_scores"),
        "rejected_rewards": ("rejected_reward", "reject_reward", "rewards_rejected", "rejected_scores"),
        "rewards": ("reward", "scores", "token_rewards", "token_level_rewards", "token_level_scores"),
        "values": ("value", "vpreds", "state_value", "phi_values", "value_preds", "new_values"),
        "old_values": ("old_value", "values_old", "phi_old_values", "prev_values"),
        "returns": ("return_", "value_targets", "target_values"),
        "logits": ("policy_logits",),
        "targets": ("labels", "tokens", "input_ids", "index", "token_ids", "target",
                    "selected_token_ids", "sequences"),
        "hidden": ("hidden_states", "last_hidden_state", "_input", "input_chunk"),
        "weight": ("lin_weight", "lm_head_weight"),
        "per_token": ("per_token_loss", "loss_mat", "losses", "loss_matrix"),
        "clip_low": ("clip_eps_low", "epsilon_low", "eps_low", "cliprange_low", "clip_ratio_low", "eps_clip_low",
                     "clip_epsilon_low", "clip_range_low"),
        "clip_high": ("clip_eps_high", "epsilon_high", "eps_high", "cliprange_high", "clip_ratio_high", "eps_clip_high",
                      "clip_epsilon_high", "clip_range_high"),
        "dual_clip": ("clip_ratio_c", "dual_clip_c", "clip_c"),
        "clip": ("cliprange_value", "clip_range_value", "value_clip", "vf_clip", "cliprange"),
        "kl_coef": ("beta", "kl_beta", "kl_coeff", "kl_weight", "kl_loss_coef", "kl_ratio"),
        "estimator": ("kl_estimator",),
        "max_length": ("max_completion_length", "loss_scale_factor"),
        "denominator": ("num_items_in_batch",),
        "temperature_pos": ("sapo_temperature_pos", "tau_pos"),
        "temperature_neg": ("sapo_temperature_neg", "tau_neg"),
        "nll_weight": ("cpo_alpha", "alpha"),
        "penalty_weight": ("dpop_lambda",),
        "alpha": ("f_alpha_divergence_coef",),
        "divergence": ("f_divergence_type",),
        "odds_weight": ("beta", "orpo_beta"),
        "beta": ("kl_beta", "dpo_beta"),
        "discount": ("gamma",),
        "lam": ("lambda_", "lmbda", "gae_lambda", "gae_lam", "lambd"),
        "group_size": ("num_generations", "n_samples", "group", "n_samples_per_prompt"),
        "ddof": ("correction",),
        "eps": ("epsilon",),
        "temperature": ("temp",),
    }
)  # fmt: skip

#: One number for both ends of the clip.
BOTH_CLIPS = ("clip_eps", "clip_epsilon", "cliprange", "clip_range", "clip_ratio", "clip", "epsilon", "eps", "eps_clip",
              "clip_param", "ppo_clip", "clip_coef")  # fmt: skip

_NAMED = frozenset(name for own, others in SYNONYMS.items() for name in (own, *others))


class NotBound(Exception):
    """A function whose parameters are not those of a contract, in a sentence."""


@dataclass(frozen=True)
class Binding:
    """How a function takes the tensors and options of a contract.

    Arguments:
        parameters: the name of the parameter of each tensor and option that it takes.
        in_order: the tensors that it takes by position, in its own order.
        always: tensors by keyword that it cannot be called without.
        tied: options that one parameter sets together, the first of them leading.
        left: its parameters that mean nothing to the contract, and stay at their own defaults.
        anything: whether it takes any keyword.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    in_order: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    anything: bool = False

    def takes(self, name: str) -> bool:
        """Whether it takes a tensor or option."""
        return self.anything or name in self.parameters

    def parameter(self, name: str) -> str:
        """The name of the parameter of a tensor or option."""
        return self.parameters.get(name, name)


def bind(signature: inspect.Signature, contract: Contract, asked: Mapping[str, str]) -> Binding:
    """Find the parameter of each tensor and option.

    Arguments:
        signature: that of the function.
        contract: what it is to be called for.
        asked: parameters with what they are, which overrides everything else.

    Raises: NotBound; ValueError for something asked for that there is not.
    """
    named = {
        n: p for n, p in signature.parameters.items() if p.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    }
    anything = any(p.kind is Parameter.VAR_KEYWORD for p in signature.parameters.values())
    required = contract.by_position
    if any(p.kind is Parameter.VAR_POSITIONAL for p in signature.parameters.values()):
        return Binding(_by_name(named, contract, asked, ()), required, anything=anything)
    found = _by_name(named, contract, asked, required)
    others = [n for n, theirs in found.items() if theirs not in asked and _in_other_words(n, named[theirs], contract)]
    found = {ours: theirs for ours, theirs in found.items() if ours not in others}
    _by_position(found, named, required)
    tied = _tied(found, named, contract)
    always = (n for n in contract.by_keyword if n in found and named[found[n]].default is Parameter.empty)
    left = tuple(name for name in named if name not in found.values())
    in_its_order = {ours: name for name in named for ours, theirs in found.items() if theirs == name}
    return Binding(in_its_order, _leading(found, named, required), tuple(always), tied, left, anything)


def _by_name(
    named: Mapping[str, Parameter], contract: Contract, asked: Mapping[str, str], required: Sequence[str]
) -> dict[str, str]:
    """The parameters whose names say what they are."""
    known = (*contract.tensors, *contract.options)
    _refuse_unknown(list(named), known, asked)
    found = {ours: theirs for theirs, ours in asked.items()}
    rest = [name for name in named if name not in asked]
    found |= {name: name for name in rest if name in known and name not in found}
    for ours in known:
        others = [name for name in rest if name in SYNONYMS.get(ours, ()) and name not in found.values()]
        if ours in found or not others:
            continue
        others = [name for name in others if named[name].default is Parameter.empty] or others  # the rest may be left
        if len(others) > 1 and ours in required:
            raise NotBound(f"its parameters {' and '.join(others)} both mean {ours}; say which with --bind NAME={ours}")
        found[ours] = others[0]
    return found


def _in_other_words(name: str, parameter: Parameter, contract: Contract) -> bool:
    """Whether the default of a parameter is a word, but none of those that the contract has for the option."""
    if name not in contract.options or not isinstance(parameter.default, str):
        return False
    option = contract.options[name]
    return parameter.default not in (option.default, *option.others)


def _refuse_unknown(names: Sequence[str], known: Sequence[str], asked: Mapping[str, str]) -> None:
    for theirs, ours in asked.items():
        if theirs not in names:
            raise ValueError(f"bind: got the parameter {theirs!r}, expected one of {', '.join(names)}")
        if ours not in known:
            raise ValueError(f"bind: got {ours!r} for {theirs}, expected one of {', '.join(known)}")


def _by_position(found: dict[str, str], named: Mapping[str, Parameter], required: Sequence[str]) -> None:
    """Give the tensors that no name claims to the parameters whose names say nothing, in order."""
    missing = [tensor for tensor in required if tensor not in found]
    free = [name for name, p in named.items() if name not in found.values() and p.kind is not Parameter.KEYWORD_ONLY]
    silent = [name for name in free if name not in _NAMED and name not in BOTH_CLIPS]
    found.update(zip(missing, silent, strict=False))
    still = missing[len(silent) :]
    other = [name for name in free if name in _NAMED and named[name].default is Parameter.empty]
    if still and other:
        raise NotBound(
            f"its parameter {other[0]} bears the name of another tensor than {still[0]}; "
            f"say that it is the same with --bind {other[0]}={still[0]}"
        )


def _tied(found: dict[str, str], named: Mapping[str, Parameter], contract: Contract) -> tuple[str, ...]:
    """Bind one parameter to both ends of the clip, if the function has no parameter for one of them."""
    ends = ("clip_low", "clip_high")
    one = next((name for name in named if name in BOTH_CLIPS and name not in found.values()), None)
    if one is None or any(end in found or end not in contract.options for end in ends):
        return ()
    found.update(dict.fromkeys(ends, one))
    return ends


def _leading(found: Mapping[str, str], named: Mapping[str, Parameter], required: Sequence[str]) -> tuple[str, ...]:
    """The tensors that the first parameters take, as long as they take nothing else."""
    tensors = {found[tensor]: tensor for tensor in required if tensor in found}
    leading: list[str] = []
    for name, parameter in named.items():
        if name not in tensors or parameter.kind is Parameter.KEYWORD_ONLY:
            break
        leading.append(tensors[name])
    return tuple(leading)


#: Types of defaults that can be compared with the values of options; comparing others may do anything.
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Opaque:
    """A default that is like no value of an option, and how it is shown."""

    text: str

    @classmethod
    def of(cls, default: Any) -> Opaque:
        try:
            return cls(repr(default).split("\n", 1)[0])
        except Exception:
            return cls(f"a {type(default).__name__}")

    def __repr__(self) -> str:
        return self.text


def shown_default(default: object) -> object:
    """A default that can be compared with the values of an option, or else one that is like none of them."""
    return default if isinstance(default, PLAIN) else Opaque.of(default)

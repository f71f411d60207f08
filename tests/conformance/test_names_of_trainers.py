"""What trainers call tensors and options: the parameters of their functions in a release are bound by name."""

import json
from inspect import Parameter, Signature
from pathlib import Path

import pytest

from grape_verified.conformance import CONTRACTS
from grape_verified.conformance.binding import BOTH_CLIPS, SYNONYMS, bind

#: Facts: trainer, version, function, its parameters and which may be left out; with them, what each is called here.
RECORDED = json.loads(Path(__file__).with_name("trainers_names.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["function"].split(".", 1)[-1])
def test_every_name_is_among_the_synonyms(entry):
    for theirs, ours in entry["parameters"].items():
        if ours and theirs != ours and "." + theirs != ours:
            known = (*SYNONYMS.get(ours, ()), *(BOTH_CLIPS if ours.startswith("clip_") else ()))
            assert theirs in known or (theirs, ours) == ("values", "old_values"), f"{theirs} for {ours}"


@pytest.mark.parametrize(
    "entry", [e for e in RECORDED if e["contract"]], ids=lambda entry: entry["function"].split(".", 1)[-1]
)
def test_a_function_is_bound_by_its_names(entry):
    contract = CONTRACTS[entry["contract"]]
    known = {
        ours: theirs for theirs, ours in entry["parameters"].items() if ours in (*contract.tensors, *contract.options)
    }
    parameters = [
        Parameter(
            name,
            Parameter.POSITIONAL_OR_KEYWORD if name not in entry["optional"] else Parameter.KEYWORD_ONLY,
            default=None if name in entry["optional"] else Parameter.empty,
        )
        for name in entry["parameters"]
    ]
    parameters.sort(key=lambda parameter: parameter.kind)
    found = bind(Signature(parameters), contract, {}).parameters
    assert {ours: found.get(ours) for ours in known} == known


#: Words for log-probabilities, and what stands before and after them for other policies.
LOGPS = [
    "logps",
    "logp",
    "log_ps",
    "log_probs",
    "log_prob",
    "logprobs",
    "logprob",
    "new_logps",
    "new_logp",
    "new_logprobs",
    "new_log_probs",
    "curr_logps",
    "current_logps",
    "policy_logps",
    "per_token_logps",
    "token_log_probs",
    "pi_logprobs",
    "action_log_probs",
    "selected_logps",
    "lprobs",
]
OLD = ["old", "prev", "previous", "behavior", "behaviour", "sampling", "rollout"]
REF = ["ref", "reference"]


def composed(before, words=LOGPS, join="{}_{}"):
    return [join.format(one, word) for one in before for word in words]


#: Every name that is understood, written out apart from the table that is used: no word may be lost without notice.
FIELD = {
    "logps": LOGPS,
    "old_logps": ["old", "pi_old_logprobs", *composed(OLD), *composed(["old"], join="{1}_{0}")],
    "ref_logps": [
        "ref",
        "reference",
        "target_log_prob",
        *composed(REF),
        *composed([*REF, "base"], join="{1}_{0}"),
        *composed(["base"]),
    ],
    "advantages": ["adv", "advs", "advantage", "token_advantages"],
    "mask": [
        "masks",
        "action_mask",
        "response_mask",
        "response_masks",
        "completion_mask",
        "loss_mask",
        "token_mask",
        "attention_mask",
        "padding_mask",
        "padding_masks",
        "sequence_mask",
        "valid_mask",
        "eos_mask",
    ],
    "chosen_logps": [f"{whose}{word}" for whose in ("", "policy_", "pi_") for word in composed(["chosen"])],
    "rejected_logps": [f"{whose}{word}" for whose in ("", "policy_", "pi_") for word in composed(["rejected"])],
    "ref_chosen_logps": composed(REF, composed(["chosen"])),
    "ref_rejected_logps": composed(REF, composed(["rejected"])),
    "chosen_rewards": ["chosen_reward", "rewards_chosen", "chosen_scores"],
    "rejected_rewards": ["rejected_reward", "reject_reward", "rewards_rejected", "rejected_scores"],
    "rewards": ["reward", "scores", "token_rewards", "token_level_rewards", "token_level_scores"],
    "values": ["value", "vpreds", "state_value", "phi_values", "value_preds", "new_values"],
    "old_values": ["old_value", "values_old", "phi_old_values", "prev_values"],
    "returns": ["return_", "value_targets", "target_values"],
    "logits": ["policy_logits"],
    "targets": ["labels", "tokens", "input_ids", "index", "token_ids", "target", "selected_token_ids", "sequences"],
    "hidden": ["hidden_states", "last_hidden_state", "_input", "input_chunk"],
    "weight": ["lin_weight", "lm_head_weight"],
    "per_token": ["per_token_loss", "loss_mat", "losses", "loss_matrix"],
    "clip_low": [
        "clip_eps_low",
        "epsilon_low",
        "eps_low",
        "cliprange_low",
        "clip_ratio_low",
        "eps_clip_low",
        "clip_epsilon_low",
        "clip_range_low",
    ],
    "clip_high": [
        "clip_eps_high",
        "epsilon_high",
        "eps_high",
        "cliprange_high",
        "clip_ratio_high",
        "eps_clip_high",
        "clip_epsilon_high",
        "clip_range_high",
    ],
    "dual_clip": ["clip_ratio_c", "dual_clip_c", "clip_c"],
    "clip": ["cliprange_value", "clip_range_value", "value_clip", "vf_clip", "cliprange"],
    "kl_coef": ["beta", "kl_beta", "kl_coeff", "kl_weight", "kl_loss_coef", "kl_ratio"],
    "estimator": ["kl_estimator"],
    "max_length": ["max_completion_length", "loss_scale_factor"],
    "denominator": ["num_items_in_batch"],
    "temperature_pos": ["sapo_temperature_pos", "tau_pos"],
    "temperature_neg": ["sapo_temperature_neg", "tau_neg"],
    "nll_weight": ["cpo_alpha", "alpha"],
    "penalty_weight": ["dpop_lambda"],
    "alpha": ["f_alpha_divergence_coef"],
    "divergence": ["f_divergence_type"],
    "odds_weight": ["beta", "orpo_beta"],
    "beta": ["kl_beta", "dpo_beta"],
    "discount": ["gamma"],
    "lam": ["lambda_", "lmbda", "gae_lambda", "gae_lam", "lambd"],
    "group_size": ["num_generations", "n_samples", "group", "n_samples_per_prompt"],
    "ddof": ["correction"],
    "eps": ["epsilon"],
    "temperature": ["temp"],
}


def test_no_word_of_the_field_is_lost():
    assert {ours: set(names) - {ours} for ours, names in FIELD.items()} == {
        ours: set(names) - {ours} for ours, names in SYNONYMS.items()
    }


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_each_word_is_bound_wherever_it_stands(contract):
    """In the last place, with a default as an option has it, and among the contract's own names."""
    for ours in (*contract.tensors, *contract.options):
        for theirs in FIELD.get(ours, ()):
            if theirs in (*contract.tensors, *contract.options):
                continue
            default = None if ours in contract.options else Parameter.empty
            others = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in contract.tensors if name != ours]
            mine = Parameter(theirs, Parameter.POSITIONAL_OR_KEYWORD, default=default)
            assert bind(Signature([*others, mine]), contract, {}).parameters.get(ours) == theirs, (ours, theirs)

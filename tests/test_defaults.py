"""The default of every option, written down from its source: a contract reads it from the signature, and follows it."""

import inspect

import pytest

import grape_verified

REDUCED = {"denominator": None, "max_length": None}
CLIP = {"clip_low": 0.2, "clip_high": 0.2}  # arXiv:1707.06347, section 6.1
GSPO_CLIP = {"clip_low": 3e-4, "clip_high": 4e-4}  # arXiv:2507.18071, section 5.1
CISPO_CLIP = {"clip_low": 1.0, "clip_high": 4.0}
SAPO = {"temperature_pos": 1.0, "temperature_neg": 1.05}  # arXiv:2511.20347
BETA = {"beta": 0.1}  # arXiv:2305.18290, appendix B
KL = {"ref_logps": None, "kl_coef": 0.0, "kl_estimator": "k3", "kl_ratio": "absent"}
REWARD = {"item_mask": None, "confidence": "group", "categories": None, "normalisation": "mean"}
ADVANTAGE = {"baseline": "leave_one_out", "scale": "none", "ddof": 1, "eps": 1e-6}
IPO = BETA | {"log_ratio": "sum", "chosen_lengths": None, "rejected_lengths": None}
PREFERENCE = IPO | {
    "ref_chosen_logps": None, "ref_rejected_logps": None, "target_margin": 0.0, "label_smoothing": 0.0,
}  # fmt: skip
SIMPO = {"beta": 2.0, "target_margin": 0.5}  # the lower ends of what arXiv:2405.14734 is cited with
CPO = {"beta": 0.1, "nll_weight": 1.0}  # TRL: `cpo_alpha` of 1
DPOP = {"beta": 0.1, "penalty_weight": 50.0}  # λ of arXiv:2402.13228 in its implementations
F_DPO = {"beta": 0.1, "alpha": 0.5}  # TRL: `f_alpha_divergence_coef` of 0.5
KTO = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}
POINTWISE = {"beta": 0.1, "reward_shift": 0.0}
ORPO = {"odds_weight": 0.1}  # λ of arXiv:2403.07691 in its trainers

FUSED = {
    "mask": None, "bias": None, "temperature": 1.0, "softcap": None, "aggregation": "token_mean", "tile": None,
}  # fmt: skip

DEFAULTS = {
    "adaptive_kl_coef": {"clip": 0.2},
    "aggregate": REDUCED,
    "aggregation_denominator": {"group": None},
    "bradley_terry_loss": {"denominator": None},
    "cispo_loss": CISPO_CLIP | {"aggregation": "token_mean"} | REDUCED,
    "cispo_per_token": CISPO_CLIP,
    "conjugate_gradient": {"steps": 10, "tolerance": 1e-10},
    "cpo_loss": CPO | {"denominator": None},
    "cpo_per_pair": CPO,
    "dapo_loss": {"clip_low": 0.2, "clip_high": 0.28, "denominator": None},  # arXiv:2503.14476, section 4.1
    "dpo_loss": BETA | {"label_smoothing": 0.0, "denominator": None},
    "dpo_per_pair": BETA | {"label_smoothing": 0.0},
    "dpop_loss": DPOP | {"denominator": None},
    "dpop_per_pair": DPOP,
    "dr_grpo_loss": CLIP | {"denominator": None},
    "f_dpo_loss": F_DPO | {"denominator": None},
    "f_dpo_per_pair": F_DPO,
    "fisher_vector_product": {"damping": 0.0},
    "fused_linear_loss": {
        "inputs": None, "mask": None, "bias": None, "temperature": 1.0, "separable": "token", "aggregation": None,
        "softcap": None, "tile": None, "group": None,
    } | REDUCED,
    "fused_jensen_shannon_loss": {"mixing": 0.5, "teacher_bias": None, "teacher_softcap": None} | FUSED | REDUCED,
    "fused_top_k_loss": {"tail": "bucket"} | FUSED | REDUCED,
    "gae": {"discount": 1.0, "lam": 0.95},
    "grape_advantages": REWARD | ADVANTAGE,
    "grape_loss": REWARD | ADVANTAGE | CLIP | {"aggregation": "sequence_mean"} | REDUCED,
    "grape_rewards": REWARD,
    "group_advantages": {"baseline": "mean", "scale": "std", "ddof": 1, "eps": 1e-6},
    "grpo_loss": KL | CLIP | {"aggregation": "sequence_mean"} | REDUCED,
    "grpo_per_token": KL | CLIP,
    "gspo_loss": GSPO_CLIP | {"denominator": None},
    "gspo_per_sequence": GSPO_CLIP,
    "importance_metrics": {"level": "token", "low": 0.0, "high": 2.0},
    "importance_weights": {"level": "token", "low": 0.0, "high": 2.0, "outside": "truncate"},
    "ipo_loss": IPO | {"denominator": None},
    "ipo_per_pair": IPO,
    "kl_estimate": {"estimator": "k3"},
    "kl_shaped_rewards": {"estimator": "k1"},
    "jensen_shannon": {"mixing": 0.5},
    "linear_token_logps": {
        "bias": None, "temperature": 1.0, "mask": None, "with_entropy": False, "softcap": None, "tile": None,
        "group": None,
    },
    "kto_loss": KTO | {"denominator": None},
    "kto_per_sequence": KTO,
    "orpo_loss": ORPO | {"denominator": None},
    "orpo_per_pair": ORPO,
    "pointwise_loss": POINTWISE | {"denominator": None},
    "pointwise_per_pair": POINTWISE,
    "ppo_loss": CLIP | KL | {"dual_clip": None, "aggregation": "token_mean"} | REDUCED,
    "ppo_per_token": CLIP | KL | {"dual_clip": None},
    "preference_loss": PREFERENCE | {"denominator": None},
    "preference_per_pair": PREFERENCE,
    "reinforce_loss": {"aggregation": "sequence_sum"} | REDUCED,
    "rejection_sampling_loss": {
        "group_size": None, "keep": "best", "threshold": None, "aggregation": "token_mean",
    } | REDUCED,
    "robust_dpo_loss": BETA | {"denominator": None},
    "robust_dpo_per_pair": BETA,
    "sapo_loss": SAPO | {"aggregation": "sequence_mean"} | REDUCED,
    "sapo_per_token": SAPO,
    "sequence_filter": {"low": 0.0},
    "sft_loss": {"aggregation": "token_mean"} | REDUCED,
    "simpo_loss": SIMPO | {"denominator": None},
    "simpo_per_pair": SIMPO,
    "token_entropies": {"temperature": 1.0, "mask": None},
    "token_logps": {"temperature": 1.0, "mask": None},
    "top_k_divergence": {"tail": "bucket", "mask": None},
    "trpo_loss": {"aggregation": "token_mean"} | REDUCED,
    "trpo_step": {"max_kl": 0.01, "damping": 0.1, "cg_steps": 10, "backtracks": 10, "backtrack_ratio": 0.5},
    "value_loss": {"old_values": None, "clip": None, "aggregation": "token_mean"} | REDUCED,
    "value_loss_per_token": {"old_values": None, "clip": None},
    "whiten": {"shift_mean": True, "ddof": 1, "eps": 1e-8},
}  # fmt: skip


def defaults_of(name):
    parameters = inspect.signature(getattr(grape_verified, name)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@pytest.mark.parametrize("name", [n for n in grape_verified.__all__ if inspect.isfunction(getattr(grape_verified, n))])
def test_the_defaults_are_those_of_the_sources(name):
    assert defaults_of(name) == DEFAULTS.get(name, {})

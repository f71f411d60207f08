"""One file for each method: the mathematics of one token, sequence or pair, then the loss that reduces it."""

from grape_verified.losses.dpo import (
    dpo_loss,
    dpo_per_pair,
    ipo_loss,
    ipo_per_pair,
    robust_dpo_loss,
    robust_dpo_per_pair,
)
from grape_verified.losses.grape import grape_advantages, grape_loss, grape_rewards
from grape_verified.losses.grpo import (
    cispo_loss,
    cispo_per_token,
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
    grpo_per_token,
    gspo_loss,
    gspo_per_sequence,
)
from grape_verified.losses.output import LossOutput, PairLossOutput, SequenceLossOutput
from grape_verified.losses.ppo import (
    adaptive_kl_coef,
    kl_shaped_rewards,
    ppo_loss,
    ppo_per_token,
    value_loss,
    value_loss_per_token,
)
from grape_verified.losses.reinforce import reinforce_loss, reinforce_per_token
from grape_verified.losses.rejection import (
    acceptance_probabilities,
    acceptance_weights,
    best_of_n_weights,
    rejection_sampling_loss,
    threshold_weights,
)
from grape_verified.losses.reward import bradley_terry_loss, bradley_terry_per_pair
from grape_verified.losses.sft import sft_loss, sft_per_token
from grape_verified.losses.trpo import (
    NonPositiveCurvature,
    TrpoStep,
    conjugate_gradient,
    fisher_vector_product,
    trpo_loss,
    trpo_per_token,
    trpo_step,
)

__all__ = [
    "LossOutput",
    "NonPositiveCurvature",
    "PairLossOutput",
    "SequenceLossOutput",
    "TrpoStep",
    "acceptance_probabilities",
    "acceptance_weights",
    "adaptive_kl_coef",
    "best_of_n_weights",
    "bradley_terry_loss",
    "bradley_terry_per_pair",
    "cispo_loss",
    "cispo_per_token",
    "conjugate_gradient",
    "dapo_loss",
    "dpo_loss",
    "dpo_per_pair",
    "dr_grpo_loss",
    "fisher_vector_product",
    "grape_advantages",
    "grape_loss",
    "grape_rewards",
    "grpo_loss",
    "grpo_per_token",
    "gspo_loss",
    "gspo_per_sequence",
    "ipo_loss",
    "ipo_per_pair",
    "kl_shaped_rewards",
    "ppo_loss",
    "ppo_per_token",
    "reinforce_loss",
    "reinforce_per_token",
    "rejection_sampling_loss",
    "robust_dpo_loss",
    "robust_dpo_per_pair",
    "sft_loss",
    "sft_per_token",
    "threshold_weights",
    "trpo_loss",
    "trpo_per_token",
    "trpo_step",
    "value_loss",
    "value_loss_per_token",
]

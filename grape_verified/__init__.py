"""Post-training losses for language models, held to machine-checked mathematics.

Each loss is built from three layers, each usable alone: log-probabilities of tokens, the mathematics of one
method without reduction (`*_per_token`, `*_per_pair`), and the reduction to one number (`aggregate`, `*_loss`).
"""

from grape_verified.advantages import gae, group_advantages, whiten
from grape_verified.aggregation import aggregate
from grape_verified.divergences import categorical_kl, kl_estimate
from grape_verified.logprobs import token_entropies, token_logps
from grape_verified.losses import (
    LossOutput,
    PairLossOutput,
    dpo_loss,
    dpo_per_pair,
    ppo_loss,
    ppo_per_token,
    reinforce_loss,
    reinforce_per_token,
    adaptive_kl_coef,
    bradley_terry_loss,
    bradley_terry_per_pair,
    dpo_loss,
    dpo_per_pair,
    kl_in_reward,
    ppo_loss,
    ppo_per_token,
    value_loss,
    value_per_token,
)

__version__ = "0.1.0"

__all__ = [
    "LossOutput",
    "PairLossOutput",
    "__version__",
    "adaptive_kl_coef",
    "aggregate",
    "categorical_kl",
    "dpo_loss",
    "dpo_per_pair",
    "kl_estimate",
    "bradley_terry_loss",
    "bradley_terry_per_pair",
    "dpo_loss",
    "dpo_per_pair",
    "gae",
    "group_advantages",
    "kl_in_reward",
    "ppo_loss",
    "ppo_per_token",
    "reinforce_loss",
    "reinforce_per_token",
    "token_entropies",
    "token_logps",
    "value_loss",
    "value_per_token",
    "whiten",
]

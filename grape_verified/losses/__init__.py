"""One file for each method: the mathematics of one token or pair, then the loss that reduces it."""

from grape_verified.losses.dpo import dpo_loss, dpo_per_pair
from grape_verified.losses.output import LossOutput, PairLossOutput
from grape_verified.losses.ppo import ppo_loss, ppo_per_token
from grape_verified.losses.reinforce import reinforce_loss, reinforce_per_token

__all__ = [
    "LossOutput",
    "PairLossOutput",
    "dpo_loss",
    "dpo_per_pair",
    "ppo_loss",
    "ppo_per_token",
    "reinforce_loss",
    "reinforce_per_token",
]

"""The mathematics of language-model post-training as claims that a machine proves.

Importing this package loads every subject, in the order in which they build on each other, and checks the registry.
"""

from grape_spec import advantage, aggregation, dpo, kl, policy, ppo, reinforce, reward
from grape_spec import aggregation, dpo, grpo, kl, policy, ppo, reinforce
from grape_spec import aggregation, dpo, grape, grpo, kl, policy, ppo, reinforce
from grape_spec import aggregation, dpo, kl, policy, ppo, trpo
from grape_spec.language.registry import check_registry
from grape_spec.proof.prove import check_domains

check_registry()
check_domains()

__all__ = ["advantage", "aggregation", "dpo", "kl", "policy", "ppo", "reinforce", "reward"]
__all__ = ["aggregation", "dpo", "grpo", "kl", "policy", "ppo", "reinforce"]
__all__ = ["aggregation", "dpo", "grape", "grpo", "kl", "policy", "ppo", "reinforce"]
__all__ = ["aggregation", "dpo", "kl", "policy", "ppo", "trpo"]

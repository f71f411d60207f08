"""The mathematics of language-model post-training as claims that a machine proves.

Importing this package loads every subject, in the order in which they build on each other, and checks the registry.
"""

from grape_spec import (
    advantage,
    aggregation,
    dpo,
    grape,
    grpo,
    head,
    kl,
    policy,
    ppo,
    reinforce,
    rejection,
    reward,
    sft,
    trpo,
)
from grape_spec.language.registry import check_registry
from grape_spec.proof.prove import check_domains

check_registry()
check_domains()

__all__ = [
    "advantage",
    "aggregation",
    "dpo",
    "grape",
    "grpo",
    "head",
    "kl",
    "policy",
    "ppo",
    "reinforce",
    "rejection",
    "reward",
    "sft",
    "trpo",
]

"""The mathematics of language-model post-training as claims that a machine proves.

Importing this package loads every subject, in the order in which they build on each other, and checks the registry.
"""

from importlib import import_module

from grape_spec.language.registry import check_registry
from grape_spec.proof.prove import check_domains

#: The subjects, a file each, in the order in which their definitions and claims are entered.
SUBJECTS = (
    "advantage", "policy", "aggregation", "kl", "dpo", "ppo", "kl_penalty", "reinforce", "group_advantage", "grpo",
    "rubric_reward", "grape", "head", "sft", "best_of_n", "rejection", "reward", "trpo", "conjugate_gradient",
    "policy_improvement",
)  # fmt: skip

for subject in SUBJECTS:
    import_module(f"grape_spec.{subject}")

check_registry()
check_domains()

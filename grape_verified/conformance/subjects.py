"""The subjects of this package: one row each, from which contracts, reference, navigation and pages follow.

A subject has a file in the spec or shares one, a file of contracts, and modules with the functions that implement it;
habits, which are conventions of other functions, have neither contracts nor functions. The name of a subject is the
first word of the ids of its definitions and claims.
"""

from __future__ import annotations

from typing import NamedTuple


class Subject(NamedTuple):
    """A subject.

    Arguments:
        name: the first word of its ids, and the name of its file of contracts.
        title: in the navigation and as a heading.
        chapter: the page of `docs/chapters` that tells it.
        modules: where its public functions are defined, below `grape_verified`; if there are none, it has no contracts.
    """

    name: str
    title: str
    chapter: str
    modules: tuple[str, ...]


#: Every subject by its name, in the order of the site.
SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("sft", "Supervised fine-tuning", "sft", ("losses.sft",)),
        Subject("rejection", "Rejection sampling", "rejection", ("losses.rejection",)),
        Subject("reinforce", "REINFORCE", "reinforce", ("losses.reinforce",)),
        Subject(
            "trpo",
            "TRPO",
            "trpo",
            (
                "losses.trpo",
                "natural_gradient.fisher",
                "natural_gradient.conjugate_gradient",
                "natural_gradient.step",
            ),
        ),
        Subject("ppo", "PPO", "ppo", ("losses.ppo",)),
        Subject("grpo", "GRPO", "grpo", ("losses.grpo",)),
        Subject("sapo", "SAPO", "grpo", ("losses.sapo",)),
        Subject("importance", "Off policy", "off_policy", ("importance",)),
        Subject("dpo", "DPO", "dpo", ("losses.dpo",)),
        Subject("preference", "Preferences", "preferences", ("losses.preference",)),
        Subject("f_dpo", "f-DPO", "preferences", ("losses.f_dpo",)),
        Subject("displacement", "Displacement", "preferences", ("losses.displacement",)),
        Subject("orpo", "ORPO", "preferences", ("losses.orpo",)),
        Subject("pointwise", "Pointwise preferences", "preferences", ("losses.pointwise",)),
        Subject("reward", "Reward models", "dpo", ("losses.reward",)),
        Subject("grape", "GRAPE", "grape", ("losses.grape",)),
        Subject("policy", "Policies and log-probabilities", "policy", ("logprobs.from_logits",)),
        Subject("head", "The linear head", "hot_path", ("logprobs.from_hidden", "logprobs.fused_loss")),
        Subject("kl", "KL divergence", "kl", ("kl",)),
        Subject("divergence", "Distillation", "distillation", ("divergence", "distillation")),
        Subject("advantage", "Advantages", "advantage", ("advantage",)),
        Subject("aggregation", "Aggregation", "aggregation", ("aggregation", "packing", "losses.output")),
        Subject("habit", "Habits", "aggregation", ()),
    )
}


def subject_of(id: str) -> str:
    """The name of the subject of a claim or definition."""
    return id.partition(".")[0]

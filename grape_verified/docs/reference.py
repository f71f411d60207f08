"""The reference: which public functions there are, where their pages are, and which claims they say they implement."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache

import grape_verified

#: Groups of public names by the module that they come from, with their titles, in the order of the site.
GROUPS = {
    "logprobs": "Log-probabilities",
    "sft": "Supervised fine-tuning",
    "rejection": "Rejection sampling",
    "reinforce": "REINFORCE",
    "trpo": "TRPO",
    "ppo": "PPO",
    "grpo": "GRPO",
    "dpo": "DPO",
    "reward": "Reward models",
    "grape": "GRAPE",
    "kl": "Divergences",
    "advantage": "Advantages",
    "aggregation": "Aggregation",
    "output": "What the losses return",
}

#: Modules of one group that are more than one.
_JOINED = {
    **dict.fromkeys(("from_hidden", "from_logits", "fused_loss"), "logprobs"),
    **dict.fromkeys(("fisher", "conjugate_gradient", "step"), "trpo"),
}


def group_of(name: str) -> str:
    """The group of a public name."""
    module = getattr(grape_verified, name).__module__.rpartition(".")[2]
    return _JOINED.get(module, module)


@cache
def names_of(group: str) -> tuple[str, ...]:
    """The public names of a group, in the order of their lines in the source."""
    found = [name for name in grape_verified.__all__ if callable(getattr(grape_verified, name))]
    some = [name for name in found if group_of(name) == group]
    return tuple(sorted(some, key=lambda name: inspect.getsourcelines(getattr(grape_verified, name))[1]))


def role_of(name: str) -> str:
    """What kind of Python object a public name is, as inventories call it."""
    return "class" if inspect.isclass(getattr(grape_verified, name)) else "function"


def claims_of(name: str) -> list[str]:
    """The ids that the docstring of a public name gives under Claims."""
    stated = re.search(r"^Claims: (.*?)(?:\n\n|\Z)", _docstring(name), re.DOTALL | re.MULTILINE)
    return re.findall(r"[a-z]\w*(?:\.\w+)+", stated[1]) if stated else []


def _docstring(name: str) -> str:
    return inspect.getdoc(getattr(grape_verified, name)) or ""


def implementing(id: str) -> Iterator[str]:
    """The public functions that say that they implement a claim."""
    return (name for group in GROUPS for name in names_of(group) if id in claims_of(name))

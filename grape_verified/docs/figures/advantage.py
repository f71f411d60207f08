"""Advantages: within a group, and by generalised advantage estimation."""

import torch

from grape_verified import gae, group_advantages
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, Slider, groups_by_share

_SHARES = {0.0: "0", 0.5: "½", 1.0: "1"}


def group_advantages_by_share(group: int) -> list[Panel]:
    """The advantage of a correct and of a wrong response, by the share of correct ones in the group."""
    rewards = groups_by_share(group)
    share = rewards.mean(1)
    named = {
        "mean, std": group_advantages(rewards.flatten(), group, eps=0.0),
        "mean, unscaled": group_advantages(rewards.flatten(), group, scale="none"),
        "leave one out, unscaled": group_advantages(rewards.flatten(), group, baseline="leave_one_out", scale="none"),
    }
    correct, wrong = [], []
    for number, (label, advantages) in enumerate(named.items(), 1):
        by_group = advantages.view_as(rewards)
        correct.append(Line(label, share[1:], by_group[1:, 0], number, "both"))
        wrong.append(Line(label, share[:-1], by_group[:-1, -1], number, "both"))
    return [
        Panel("share of correct responses", "", lines, title=title, x_ticks=_SHARES, y_limits=limits)
        for lines, title, limits in (
            (correct, "a correct response", (-0.2, 4.2)),
            (wrong, "a wrong response", (-4.2, 0.2)),
        )
    ]


def gae_weights() -> list[Panel]:
    """The weight of a later residual in the advantage of the first token, by λ."""
    tokens = 40
    residuals = torch.eye(tokens, dtype=torch.float64)  # without values the residuals are the rewards
    lines = []
    for number, lam in enumerate((0.0, 0.8, 0.95, 1.0), 1):
        advantages, _ = gae(residuals, torch.zeros_like(residuals), torch.ones(tokens, tokens), lam=lam)
        lines.append(Line(f"λ = {lam:g}", torch.arange(tokens), advantages[:, 0], number))
    return [Panel("tokens later", "weight of the residual", lines)]


FIGURES = (
    Figure(
        "group_advantages",
        group_advantages_by_share,
        "Advantages in a group by the share of correct responses",
        "A group of G responses with rewards of 1 or 0. The rarer a response of its kind, the further its advantage is "
        "from 0. Divided by the standard deviation, the advantage of a lone correct response is √G times the unscaled "
        "one. Leaving a response out of its own baseline scales every advantage by G/(G − 1). If all rewards are "
        "equal, every advantage is 0.",
        ("group_advantages",),
        ("grpo.advantage.binary", "grpo.advantage.leave_one_out"),
        (Slider("group", "G", "responses in the group", 2, 16, 1, 8),),
    ),
    Figure(
        "gae_weights",
        gae_weights,
        "Weights of later residuals by λ",
        "The weight of a later residual in the advantage of a token, with a discount of 1. With λ = 0 only the "
        "token’s own residual counts; with λ = 1 all later residuals count equally. In between, the weight falls "
        "by a factor λ per token: at λ = 0.95 it is halved after 14 tokens, at λ = 0.8 after 3.",
        ("gae",),
        ("advantage.gae.recursion", "advantage.gae.limits"),
    ),
)

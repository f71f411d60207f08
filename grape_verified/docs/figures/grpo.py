"""GRPO and its variants: the weight of a token, of a response and of a prompt."""

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor

from grape_verified import (
    cispo_per_token,
    dapo_loss,
    dr_grpo_loss,
    group_advantages,
    grpo_loss,
    grpo_per_token,
    gspo_per_sequence,
    ppo_per_token,
    sapo_per_token,
)
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, Slider, grid, groups_by_share, value_and_slope

#: The lengths of the responses of one batch; the longest is the fixed length of Dr. GRPO.
LENGTHS = tuple(range(8, 129, 8))

#: The size of the groups behind the curves of a large group.
LARGE = 200

_RATIOS = grid(0.005, 3.995, 400)  # between the values that an edge can have, where a slope has one value


def grpo_length() -> list[Panel]:
    """The derivative of the loss with respect to one token, by the length of its response; on policy, advantage 1."""
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(max(LENGTHS)) < lengths[:, None]
    old, advantages = torch.zeros(mask.shape, dtype=torch.float64), torch.ones(len(LENGTHS), dtype=torch.float64)
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "GRPO": lambda logps: grpo_loss(logps, old, advantages, mask).loss,
        "DAPO": lambda logps: dapo_loss(logps, old, advantages, mask).loss,
        "Dr. GRPO": lambda logps: dr_grpo_loss(logps, old, advantages, mask, max_length=max(LENGTHS)).loss,
    }
    lines = []
    for number, (label, loss) in enumerate(losses.items(), 1):
        _, slopes = value_and_slope(loss, old)
        lines.append(Line(label, lengths, slopes[:, 0].abs() * 1000, number, "both"))
    return [Panel("tokens of the response", "weight of a token, 10⁻³", lines, y_limits=(0, 8.4))]


def ratio_weights(edge: float, cap: float, tau_pos: float, tau_neg: float) -> list[Panel]:
    """The slope of a token in its log-probability under PPO, CISPO, SAPO and GSPO, by the ratio."""
    old, mask = torch.zeros_like(_RATIOS)[:, None], torch.ones(len(_RATIOS), 1)
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "PPO": lambda x, a: ppo_per_token(x, old, a, clip_low=edge, clip_high=edge),
        "CISPO": lambda x, a: cispo_per_token(x, old, a, clip_high=cap),
        "SAPO": lambda x, a: sapo_per_token(x, old, a, temperature_pos=tau_pos, temperature_neg=tau_neg),
        "GSPO": lambda x, a: gspo_per_sequence(x, old, a, mask),
    }
    panels = []
    for sign, title, limits in ((1.0, "advantage +1", (-0.3, 4.2)), (-1.0, "advantage −1", (-4.2, 0.3))):
        lines = [
            Line(label, _RATIOS, _pull(loss, sign), number) for number, (label, loss) in enumerate(losses.items(), 1)
        ]
        panels.append(Panel("ratio ρ", "", lines, title=title, y_limits=limits))
    return panels


def _pull(loss: Callable[[Tensor, Tensor], Tensor], advantage: float) -> Tensor:
    """Minus the slope of a loss in the log-probability, for responses of one token each."""
    advantages = torch.full_like(_RATIOS, advantage)
    _, slopes = value_and_slope(lambda logps: loss(logps, advantages), _RATIOS.log()[:, None])
    return -slopes[:, 0]


def binary_advantage(group: int) -> list[Panel]:
    """The advantage of a correct and of an incorrect response by the share of correct ones."""
    shares, large = _by_share(LARGE, ddof=0)
    own_shares, small = _by_share(group, ddof=1)
    lines = [
        Line("correct, large group", shares, large[:, 0], 1),
        Line("incorrect, large group", shares, large[:, -1], 2),
        Line("correct, group of G", own_shares, small[:, 0], 3, "points"),
        Line("incorrect, group of G", own_shares, small[:, -1], 4, "points"),
    ]
    return [Panel("share p of correct responses", "advantage", lines, y_limits=(-5.2, 5.2))]


def _by_share(size: int, ddof: int) -> tuple[Tensor, Tensor]:
    """The shares of correct responses in groups that have both kinds, and the advantages, correct responses first."""
    rewards = groups_by_share(size)[1:-1]
    return rewards.mean(1), group_advantages(rewards.flatten(), size, ddof=ddof, eps=0.0).view_as(rewards)


def prompt_weight(group: int) -> list[Panel]:
    """The weight on ∇q of a prompt that is solved with probability q, and how often its group has any advantage."""
    rates = grid(0.01, 0.99, 99)
    weights, shares = [], []
    for number, times in enumerate((1, 2, 4), 1):
        weight, share = _expected_weight(rates, times * group)
        label = "G" if times == 1 else f"{times}G"
        weights.append(Line(label, rates, weight, number))
        shares.append(Line(label, rates, share, number))
    weights.append(Line("limit", rates, (rates * (1 - rates)).rsqrt(), 4))
    label, ticks = "probability q of success", {0.0: "0", 0.5: "½", 1.0: "1"}
    return [
        Panel(label, "", weights, title="weight on ∇q", x_ticks=ticks, y_limits=(0, 8.4)),
        Panel(label, "", shares, title="groups with a gradient", x_ticks=ticks, y_limits=(-0.04, 1.04)),
    ]


def _expected_weight(rates: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The expected slope of GRPO's objective in q over all groups of this size; the probability of an advantage."""
    rewards, q = groups_by_share(size), rates[:, None]
    advantages = group_advantages(rewards.flatten(), size, eps=0.0)
    correct = torch.arange(size + 1, dtype=torch.float64)
    ways = torch.tensor([float(comb(size, k)) for k in range(size + 1)], dtype=torch.float64)
    likely = ways * q**correct * (1 - q) ** (size - correct)

    def objective(points: Tensor) -> Tensor:
        chances = torch.stack([1 - points, points], 1)[:, rewards.long()]  # of each response of each kind of group
        logps = chances.log().flatten(1).T
        each = grpo_per_token(logps, logps.detach(), advantages)
        return -(likely * each.T.view(chances.shape).mean(2)).sum(1)

    _, weight = value_and_slope(objective, rates)
    return weight, (likely * advantages.view_as(rewards).any(1)).sum(1)


FIGURES = (
    Figure(
        "grpo_length",
        grpo_length,
        "The weight of a token by the length of its response",
        f"A batch of {len(LENGTHS)} responses of {min(LENGTHS)} to {max(LENGTHS)} tokens, on policy, all with the "
        "same advantage. In GRPO a token of a short response weighs more than one of a long response. In DAPO and "
        "Dr. GRPO all tokens weigh the same: one over the number of tokens in the batch, or one over the number "
        f"of responses times a fixed length, here {max(LENGTHS)}.",
        ("grpo_loss", "dapo_loss", "dr_grpo_loss"),
        ("grpo.length_weight", "grpo.dapo", "grpo.dr_grpo"),
    ),
    Figure(
        "ratio_weights",
        ratio_weights,
        "The weight on ∇log π of PPO, CISPO, SAPO and GSPO",
        "What multiplies ∇log π, by the ratio. PPO drops a token beyond the edge 1 + ε, or 1 − ε for a negative "
        "advantage. CISPO keeps every token, with a weight of at most 1 + ε′. SAPO lets the weight fade on either "
        "side, faster for a larger τ. GSPO is PPO for whole sequences: ρ is the ratio of the sequence, its tokens "
        "share the weight equally, and the edges, 0.9997 and 1.0004, cannot be told from 1 here.",
        ("ppo_per_token", "cispo_per_token", "sapo_per_token", "gspo_per_sequence"),
        ("ppo.clip.gradient", "grpo.cispo.gradient", "sapo.gradient", "grpo.gspo.gradient"),
        (
            Slider("edge", "ε", "of PPO", 0.05, 0.95, 0.05, 0.2),
            Slider("cap", "ε′", "of CISPO, the cap is 1 + ε′", 0.1, 3, 0.1, 1),
            Slider("tau_pos", "τ₊", "of SAPO where A > 0", 0.1, 5, 0.1, 1),
            Slider("tau_neg", "τ₋", "of SAPO elsewhere", 0.1, 5, 0.05, 1.05),
        ),
    ),
    Figure(
        "binary_advantage",
        binary_advantage,
        "Advantages for rewards of 0 and 1",
        "The advantage of a correct and of an incorrect response, by the share p of correct ones in the group. The "
        f"lines are √((1 − p)/p) and −√(p/(1 − p)), with a standard deviation over G, computed in groups of {LARGE}. "
        "The points are all groups of G with a standard deviation over G − 1, which brings them closer to 0 by "
        "√((G − 1)/G); the outermost are at ±(G − 1)/√G.",
        ("group_advantages",),
        ("grpo.advantage.binary", "grpo.advantage.bound"),
        (Slider("group", "G", "responses in the group", 2, 24, 1, 8),),
    ),
    Figure(
        "prompt_weight",
        prompt_weight,
        "The weight of a prompt by how often it is solved",
        "Left: what multiplies ∇q in GRPO’s expected gradient, on policy, for a prompt that is solved with probability "
        "q and groups of G, 2G and 4G, and its limit 1/√(q(1 − q)). Rare and common successes are amplified, but a "
        "finite group ends at (G − 1)/√G. Right: the share of groups with a correct and an incorrect response; "
        "all others give no gradient. The kernels sum the expectation over all groups; no claim states it as such.",
        ("group_advantages", "grpo_per_token"),
        ("grpo.advantage.binary", "grpo.advantage.degenerate", "grpo.on_policy"),
        (Slider("group", "G", "responses in the smallest group", 2, 16, 1, 4),),
    ),
)

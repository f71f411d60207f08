"""Every loss as a trainer writes it: plain torch, a masked mean, no checks and no metrics.

Parameters are named as in the public function of this package. Advantages are per sequence or per token. Nothing is
done for rows without tokens, NaN behind the mask, or ratios that overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

#: What a table shows where there is nothing, such as advantages.
NONE = "—"

CLIP = 0.2
DAPO_CLIP = 0.28
GSPO_CLIP = 3e-4, 4e-4
CISPO_CLIP = 4.0
SAPO_TEMPERATURES = torch.tensor(1.0, dtype=torch.float64), torch.tensor(1.05, dtype=torch.float64)
KL_COEF = 0.04
VALUE_CLIP = 0.2
BETA = 0.1
SIMPO_BETA, SIMPO_TARGET = 2.0, 0.5
ODDS_WEIGHT = 0.1
PENALTY_WEIGHT = 50.0
FLIP_PROBABILITY = 0.1
ANCHOR = 0.5
GROUP = 8
MAX_LENGTH = 4096

BOTH = ("sequence", "token")


class Row(NamedTuple):
    """A textbook loss, whose parameter names select the inputs, and the options that make ours the same loss."""

    textbook: Callable[..., Tensor]
    options: Mapping[str, Any] = {}
    advantages: tuple[str, ...] = (NONE,)


#: Every loss of the table, by the name of ours without "_loss".
ROWS: dict[str, Row] = {}


def row(
    *, advantages: tuple[str, ...] = (NONE,), **options: Any
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Enter a textbook loss into the table, with the options that make ours the same loss."""

    def enter(textbook: Callable[..., Tensor]) -> Callable[..., Tensor]:
        ROWS[textbook.__name__] = Row(textbook, options, advantages)
        return textbook

    return enter


def token_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    """Mean over the counted tokens of the batch."""
    return (per_token * mask).sum() / mask.sum()


def sequence_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    """Mean over sequences of the mean over tokens."""
    return ((per_token * mask).sum(1) / mask.sum(1)).mean()


def by_token(advantages: Tensor) -> Tensor:
    """Advantages that broadcast over tokens."""
    return advantages.unsqueeze(1) if advantages.dim() == 1 else advantages


def clipped_surrogate(ratio: Tensor, advantages: Tensor, low: float = CLIP, high: float = CLIP) -> Tensor:
    """−min(ρA, clip(ρ, 1−ε, 1+ε′)A)."""
    return -torch.min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


@row()
def sft(logps: Tensor, mask: Tensor) -> Tensor:
    """−logp."""
    return token_mean(-logps, mask)


@row(group_size=GROUP)
def rejection_sampling(logps: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """−logp of the best response of each group."""
    groups = rewards.view(-1, GROUP)
    best = (groups == groups.amax(1, keepdim=True)).flatten()
    return token_mean(-logps, mask & best.unsqueeze(1))


@row(advantages=BOTH)
def reinforce(logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """−A·logp, summed over the tokens of a sequence."""
    return -(by_token(advantages) * logps * mask).sum(1).mean()


@row(advantages=BOTH)
def trpo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """−ρA."""
    return token_mean(-(logps - old_logps).exp() * by_token(advantages), mask)


@row(advantages=BOTH)
def ppo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The clipped surrogate."""
    return token_mean(clipped_surrogate((logps - old_logps).exp(), by_token(advantages)), mask)


@row(clip=VALUE_CLIP)
def value(values: Tensor, returns: Tensor, old_values: Tensor, mask: Tensor) -> Tensor:
    """The larger of the squared errors of the value and of the clipped value, halved."""
    clipped = values.clamp(old_values - VALUE_CLIP, old_values + VALUE_CLIP)
    return token_mean(0.5 * torch.max((values - returns).square(), (clipped - returns).square()), mask)


@row(advantages=BOTH, kl_coef=KL_COEF)
def grpo(logps: Tensor, old_logps: Tensor, ref_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The clipped surrogate and the KL penalty, estimated by k3."""
    difference = ref_logps - logps
    penalty = difference.exp() - difference - 1
    surrogate = clipped_surrogate((logps - old_logps).exp(), by_token(advantages))
    return sequence_mean(surrogate + KL_COEF * penalty, mask)


@row(advantages=BOTH)
def dapo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The clipped surrogate with a higher upper clip."""
    return token_mean(clipped_surrogate((logps - old_logps).exp(), by_token(advantages), CLIP, DAPO_CLIP), mask)


@row(advantages=BOTH, max_length=MAX_LENGTH)
def dr_grpo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The clipped surrogate, summed and divided by a constant."""
    surrogate = clipped_surrogate((logps - old_logps).exp(), by_token(advantages))
    return (surrogate * mask).sum() / (len(logps) * MAX_LENGTH)


@row(advantages=("sequence",))
def gspo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The clipped surrogate of the geometric mean of a sequence's ratios."""
    ratio = (((logps - old_logps) * mask).sum(1) / mask.sum(1)).exp()
    return clipped_surrogate(ratio, advantages, *GSPO_CLIP).mean()


@row(advantages=BOTH)
def cispo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """−w·A·logp, w the ratio clipped from above and held constant."""
    weight = (logps - old_logps).detach().exp().clamp(max=1 + CISPO_CLIP)
    return token_mean(-weight * by_token(advantages) * logps, mask)


@row(advantages=BOTH)
def sapo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """−(4/τ)·σ(τ(ρ − 1))·A, with a temperature for each sign."""
    tau = torch.where(by_token(advantages) > 0, *SAPO_TEMPERATURES).to(logps.dtype)
    gate = 4 / tau * torch.sigmoid(tau * ((logps - old_logps).exp() - 1))
    return sequence_mean(-gate * by_token(advantages), mask)


def margins(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor
) -> Tensor:
    """Log-ratio of the chosen response less that of the rejected one."""
    return (chosen_logps - ref_chosen_logps) - (rejected_logps - ref_rejected_logps)


@row()
def dpo(chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor) -> Tensor:
    """−log σ(m)."""
    margin = BETA * margins(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return -logsigmoid(margin).mean()


@row(flip_probability=FLIP_PROBABILITY)
def robust_dpo(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor
) -> Tensor:
    """DPO's loss for labels that are flipped with a known probability."""
    margin = BETA * margins(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    kept, flipped = (1 - FLIP_PROBABILITY) * logsigmoid(margin), FLIP_PROBABILITY * logsigmoid(-margin)
    return ((flipped - kept) / (1 - 2 * FLIP_PROBABILITY)).mean()


@row()
def ipo(chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor) -> Tensor:
    """The squared distance of the margin from 1/(2β)."""
    margin = margins(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return (margin - 1 / (2 * BETA)).square().mean()


@row(kind="hinge")
def preference(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor
) -> Tensor:
    """max(0, 1 − m)."""
    margin = BETA * margins(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return (1 - margin).relu().mean()


@row()
def simpo(chosen_logps: Tensor, rejected_logps: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor) -> Tensor:
    """−log σ of the margin by means, less a target."""
    margin = SIMPO_BETA * (chosen_logps / chosen_lengths - rejected_logps / rejected_lengths)
    return -logsigmoid(margin - SIMPO_TARGET).mean()


@row()
def cpo(chosen_logps: Tensor, rejected_logps: Tensor, chosen_lengths: Tensor) -> Tensor:
    """−log σ(β(l_w − l_l)) − l_w/n_w."""
    return (-logsigmoid(BETA * (chosen_logps - rejected_logps)) - chosen_logps / chosen_lengths).mean()


@row()
def dpop(chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor) -> Tensor:
    """−log σ(β(Δ_w − Δ_l − λ·max(0, −Δ_w)))."""
    chosen, rejected = chosen_logps - ref_chosen_logps, rejected_logps - ref_rejected_logps
    return -logsigmoid(BETA * (chosen - rejected - PENALTY_WEIGHT * torch.relu(-chosen))).mean()


@row(divergence="forward_kl")
def f_dpo(chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor) -> Tensor:
    """−log σ(β(e^(−Δ_l) − e^(−Δ_w)))."""
    chosen, rejected = chosen_logps - ref_chosen_logps, rejected_logps - ref_rejected_logps
    return -logsigmoid(BETA * ((-rejected).exp() - (-chosen).exp())).mean()


@row()
def orpo(chosen_logps: Tensor, rejected_logps: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor) -> Tensor:
    """−log P_w − λ·log σ(o_w − o_l)."""
    chosen, rejected = (chosen_logps / chosen_lengths, rejected_logps / rejected_lengths)
    odds = (chosen - (1 - chosen.exp()).log()) - (rejected - (1 - rejected.exp()).log())
    return (-chosen - ODDS_WEIGHT * logsigmoid(odds)).mean()


@row(anchor=ANCHOR)
def kto(logps: Tensor, ref_logps: Tensor, labels: Tensor) -> Tensor:
    """1 − σ(±β(ℓ − ℓ_ref − z₀))."""
    signs = torch.where(labels, 1, -1)
    return (1 - (BETA * (logps - ref_logps - ANCHOR) * signs).sigmoid()).mean()


@row(kind="bco")
def pointwise(
    chosen_logps: Tensor, rejected_logps: Tensor, ref_chosen_logps: Tensor, ref_rejected_logps: Tensor
) -> Tensor:
    """−log σ(r_w) − log σ(−r_l)."""
    chosen, rejected = BETA * (chosen_logps - ref_chosen_logps), BETA * (rejected_logps - ref_rejected_logps)
    return -(logsigmoid(chosen) + logsigmoid(-rejected)).mean()


@row()
def bradley_terry(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """−log σ of the difference of the rewards."""
    return -logsigmoid(chosen_rewards - rejected_rewards).mean()


@row()
def grape(
    logps: Tensor, old_logps: Tensor, scores: Tensor, confidences: Tensor, weights: Tensor, mask: Tensor
) -> Tensor:
    """The clipped surrogate with leave-one-out advantages of confidence-weighted rewards."""
    trust = weights * confidences.mean(1)
    rewards = (trust.unsqueeze(1) * scores).sum(-1) / trust.sum(-1, keepdim=True)
    advantages = (rewards - rewards.mean(1, keepdim=True)) * GROUP / (GROUP - 1)
    return sequence_mean(clipped_surrogate((logps - old_logps).exp(), by_token(advantages.flatten())), mask)

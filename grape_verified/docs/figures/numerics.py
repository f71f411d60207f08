"""Numerics: confident tokens and rounded logits."""

import math

import torch
from torch import Tensor

from grape_verified import linear_token_logps, token_logps
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure

#: Tokens beside the confident one, all with logit 0.
OTHERS = 99


def confident_token() -> list[Panel]:
    """−log π of a token whose logit leads by a gap: exact, by subtraction in fp32, and by `token_logps`."""
    gaps = torch.linspace(4, 40, 73)
    logits = torch.cat([gaps[:, None], torch.zeros(len(gaps), OTHERS)], dim=1)
    exact = (OTHERS * (-gaps.double()).exp()).log1p()
    subtracted = logits.logsumexp(1) - gaps
    ours = -token_logps(logits, torch.zeros(len(gaps), dtype=torch.int64))
    lines = [
        Line("exact", gaps, exact, 1),
        Line("token_logps, fp32", gaps, ours.masked_fill(ours <= 0, math.nan), 2),
        Line("logsumexp − logit, fp32", gaps, subtracted.masked_fill(subtracted <= 0, math.nan), 3, "points"),
    ]
    return [Panel("lead of the logit", "−log π", lines, logarithmic="y")]


def logit_rounding() -> list[Panel]:
    """The error of log π from bf16 operands, where the logits are rounded to bf16 and where they stay in fp32."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(128, 64, generator=generator)
    weight = (torch.randn(512, 64, generator=generator) / 8).bfloat16()
    targets = torch.randint(512, (128,), generator=generator)
    scales = torch.tensor([2.0**k for k in range(-1, 6)])
    errors = torch.stack([_rounding_errors((scale * hidden).bfloat16(), weight, targets) for scale in scales])
    lines = [
        Line("logits in bf16", scales, errors[:, 0], 1, "both"),
        Line("tile in fp32", scales, errors[:, 1], 2, "both"),
    ]
    ticks = {float(scale): f"{float(scale):g}" for scale in scales}
    return [Panel("spread of the logits", "error of log π", lines, logarithmic="xy", x_ticks=ticks)]


def _rounding_errors(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Root mean square errors of log π, with logits in bf16 and with a tile in fp32."""
    exact = token_logps(hidden.double() @ weight.double().T, targets)
    rounded = token_logps(hidden @ weight.T, targets)
    tiled = linear_token_logps(hidden, weight, targets)
    assert isinstance(tiled, Tensor)
    return torch.stack([(logps - exact).square().mean().sqrt() for logps in (rounded, tiled)])


FIGURES = (
    Figure(
        "confident_token",
        confident_token,
        "The log-probability of a confident token",
        f"One token leads {OTHERS} others. As its probability approaches 1, its logit and the logsumexp differ by "
        "only a few units in the last place: their difference moves in steps and then becomes 0, which a "
        "logarithmic axis cannot show. Computed from the odds against the token, the log-probability stays on the "
        "exact curve.",
        ("token_logps",),
        ("head.log_odds",),
    ),
    Figure(
        "logit_rounding",
        logit_rounding,
        "What rounding the logits costs",
        "Hidden states and weights in bf16. If their products are rounded to bf16 before the softmax, the error "
        "of log π grows with the spread of the logits, to 0.1 and beyond; with tiles kept in fp32 it is more than "
        "a thousand times smaller. Root mean square over 128 tokens, with a vocabulary of 512.",
        ("token_logps", "linear_token_logps"),
        (),
    ),
)

"""GRPO: the weight of a token by the length of its response."""

from collections.abc import Callable

import torch
from torch import Tensor

from grape_verified import dapo_loss, dr_grpo_loss, grpo_loss
from grape_verified.docs.drawing import Line, Panel
from grape_verified.docs.figures.figure import Figure, value_and_slope

#: The lengths of the responses of one batch; the longest is the fixed length of Dr. GRPO.
LENGTHS = tuple(range(8, 129, 8))


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
    ),
)

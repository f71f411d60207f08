"""From the output of a model to log-probabilities and entropies of tokens."""

from grape_verified.logprobs.from_hidden import linear_token_logps
from grape_verified.logprobs.from_logits import token_entropies, token_logps
from grape_verified.logprobs.fused_loss import FusedLossOutput, fused_linear_loss

__all__ = ["FusedLossOutput", "fused_linear_loss", "linear_token_logps", "token_entropies", "token_logps"]

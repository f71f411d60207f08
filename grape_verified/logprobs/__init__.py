"""From the output of a model to log-probabilities and entropies of tokens."""

from grape_verified.logprobs.from_logits import token_entropies, token_logps

__all__ = ["token_entropies", "token_logps"]

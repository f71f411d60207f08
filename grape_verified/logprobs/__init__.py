"""From the output of a model to log-probabilities and entropies of tokens."""

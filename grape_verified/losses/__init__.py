"""One file for each method: the mathematics of one token, sequence or pair, then the loss that reduces it."""

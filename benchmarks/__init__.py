"""Time, memory and accuracy: from hidden states to a loss beside other libraries, and losses beside a textbook."""

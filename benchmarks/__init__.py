"""Time, memory and accuracy of the step from hidden states to a loss, here and in other libraries."""

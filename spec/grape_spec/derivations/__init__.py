"""Derivations for people: how a textbook leads from the left side of a statement to its right side, line by line."""

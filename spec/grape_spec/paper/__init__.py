"""Formulas as a paper prints them, and a reader that shows that what is printed is what is stated."""

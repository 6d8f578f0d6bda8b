"""Exercises: each a function to write and a check that says what is wrong. `python -m exercises` runs them all."""

"""The check of exercise 9: two rows of 3 tokens and 1 token."""

import torch

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f, mask = exercise.loss_weights, torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 0, 0]])
    a, b = torch.tensor([[0, 1.0, 1, 1, 0], [0, 0, 0, 0, 0]]), torch.tensor([[0, 0.0, 0, 0, 0], [0, 0, 1, 0, 0]])
    padding = "padding was counted: divide by the number of tokens (the mask's sum), not by the width S"
    cases = {
        "sequence": (a / 6 + b / 2, {
            padding: (a + b) / 10,
            "the mean over the N rollouts is missing: each row should sum to 1/N": a / 3 + b,
            "this is the token average: every token of the step weighs the same": (a + b) / 4,
        }),
        "token": ((a + b) / 4, {
            padding: (a + b) / 10,
            "this is the sequence average; here a token counts alike in long and short rollouts": a / 6 + b / 2,
            "divided by N as well: the mean over tokens is over all tokens of the step, once": (a + b) / 8,
        }),
        "constant": ((a + b) / 16, {
            "1 / L without N: the mean over rollouts is missing": (a + b) / 8,
            "divided by the width of the tensor; L is the longest length allowed, the same in every step": (a + b) / 10,
            "divided by the tokens written, which is the token average": (a + b) / 4,
            "divided by the longest row of this step; L is the argument, the same in every step": (a + b) / 6,
        }),
    }  # fmt: skip
    for average, (expected, mistakes) in cases.items():
        found = f(mask, average, 8)
        if isinstance(found, torch.Tensor) and found.shape == mask.shape and (found[mask == 0] != 0).any():
            raise Wrong(f"{average}: off the mask a weight is 0: prompt and padding are not trained on")
        same(found, expected, average, mistakes)
    for average in ("sequence", "token"):
        if f(mask * 0, average, 8).isnan().any():
            raise Wrong(f"{average}: without a single token it is NaN; clamp the divisor to 1")

"""The check of exercise 11: the edges of the intervals, and how often each token comes."""

import torch

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    probs = torch.tensor([0.25, 0.5, 0.25])
    uniform = torch.tensor([0.0, 0.2, 0.25, 0.5, 0.74, 0.75, 0.99])
    expected = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    found = exercise.inverse_cdf(probs.expand(7, 3), uniform)
    if found is not None and found.shape == (7, 1):
        raise Wrong("the shape is [R, 1] and should be [R]")
    if found is not None and not torch.equal(found, exercise.inverse_cdf(probs.expand(7, 3), uniform)):
        raise Wrong("the same u gave another token: the function draws a number of its own; use u")
    mistakes = {
        "one token too early: subtract nothing from the number of sums that are <= u": (expected - 1).clamp(min=0),
        "the sums above u were counted: count those that are <= u": 3 - expected,
        "one token too far: count the cumulative sums that are <= u": expected + 1,
        "u = 0.25 belongs to token 1: its interval is 0.25 <= u < 0.75": torch.tensor([0, 0, 0, 1, 1, 1, 2]),
        "this is the likeliest token, whatever u is": torch.ones(7, dtype=torch.long),
    }
    same(found, expected, "probs [.25, .5, .25]", mistakes)
    zero = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).expand(4, 5)
    found = exercise.inverse_cdf(zero, torch.tensor([0.0, 0.5, 1 - 2**-24, 0.49]))
    same(found, [1, 3, 3, 1], "tokens of probability 0 are never drawn",
         {"u = 0 drew a token of probability 0, the first": [0, 3, 3, 1]})  # fmt: skip
    short = torch.tensor([[0.3, 0.3, 0.3999]])  # rounding, exaggerated
    found = exercise.inverse_cdf(short, torch.tensor([0.99995]))
    if int(found) >= 3:
        raise Wrong("the probabilities sum to 0.9999, u is 0.99995, and the token is V: scale u by the row's total")
    same(found, [2], "the probabilities sum to 0.9999, and u is 0.99995",
         {"no sum is above u, and argmax of nothing is 0: scale u by the row's total": [0]})  # fmt: skip
    found = exercise.inverse_cdf(torch.tensor([[0.5, 0.4999, 0.0]]), torch.tensor([0.99995]))
    same(found, [1], "the same, and the last token has probability 0",
         {"it was drawn: to cut the number off at V - 1 is not enough; scale u by the row's total": [2]})  # fmt: skip
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    counts = exercise.inverse_cdf(torch.tensor([[0.1, 0.6, 0.3]]).expand(20_000, 3), draws).bincount(minlength=3)
    same(counts / 20_000, [0.1, 0.6, 0.3], "how often each token comes in 20,000 draws", tolerance=0.02)

"""The check of exercise 3: the definition, one token at a time, in float64."""

import math

import torch

from exercises.checking import Wrong, close, same, untouched


def slow(row: list[float]) -> float:
    """KL(U || softmax(row)), summed as it is defined."""
    total, V = sum(math.exp(z) for z in row), len(row)
    return sum(1 / V * math.log((1 / V) / (math.exp(z) / total)) for z in row)


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.self_certainty
    rows = [[0.0, -20.0], [1.0, 2.0], [-3.0, 0.5]]
    logits = torch.tensor(rows)
    expected, V = [slow(row) for row in rows], 2
    probs = logits.softmax(-1)
    entropy = -(probs * probs.log()).sum(-1)
    mistakes = {
        "where is log V? Without it the number is not a KL: equal logits must give 0": [
            x + math.log(V) for x in expected
        ],
        "log V is added; it has to be subtracted: equal logits must give 0": [x + 2 * math.log(V) for x in expected],
        "the log of the rows was taken: V is the size of the last dimension": [x + math.log(2 / 3) for x in expected],
        "the mean over the tokens is missing: this is a sum over the vocabulary": [x * V for x in expected],
        "the mean over the tokens is missing: the log-probabilities are summed": [
            x * V + (V - 1) * math.log(V) for x in expected
        ],
        "the mean over the tokens was taken twice: 1/V stands in the sum already": [x / V for x in expected],
        "these are logits, not log-probabilities: subtract logsumexp(z)": [-sum(row) / V - math.log(V) for row in rows],
        "the sign is wrong: a KL is never negative": [-x for x in expected],
        "this is KL(p || U), the other direction; here U stands in front": math.log(V) - entropy,
        "this is the entropy; certainty is the distance from uniform": entropy,
    }
    before = logits.clone()
    found = f(logits)
    untouched(logits, before)
    if isinstance(found, torch.Tensor) and found.shape == (3,):
        if found.isnan().any():
            raise Wrong("NaN, the log of a negative number: is p_j a probability, or its logarithm already?")
        if found[0] < expected[0] - 0.1 and close(found[1:], torch.tensor(expected[1:]), 1e-4):
            raise Wrong("logits [0, -20]: a small p_j is cut off, by an eps or a clamp; log_softmax needs neither")
    same(found, expected, "three rows of two logits", mistakes)
    same(f(torch.zeros(2, 3, 5)), torch.zeros(2, 3), "equal logits, [2, 3, 5]")
    large = f(torch.tensor([[1000.0, 0.0], [1000.0, 998.0]]))
    if not torch.isfinite(large).all():
        raise Wrong("logits of 1000 overflow: exp(1000) is inf; use logsumexp or log_softmax, not log(softmax)")
    same(large, [500 - math.log(2), slow([2.0, 0.0])], "logits of 1000", tolerance=1e-3)
    row = [3.0, -4.0, 0.25]  # exact in bfloat16
    half = f(torch.tensor([row], dtype=torch.bfloat16))
    if half.dtype != torch.float32 or not close(half, torch.tensor([slow(row)]), 1e-4):
        raise Wrong("bfloat16 logits: float32 should come out, with all its digits: take .float() first, not last")

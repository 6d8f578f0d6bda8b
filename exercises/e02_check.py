"""The check of exercise 2: rows of 2, 1 and 0 tokens, by hand."""

import torch

from exercises.checking import Wrong, same, untouched


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    values = torch.tensor([[9.0, 1.0, 3.0, 9.0], [9.0, 9.0, 9.0, 4.0], [9.0, 9.0, 9.0, 9.0]])
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    mistakes = {
        "padding was counted: this divides by the width of the tensor, not by the number of tokens": [1.0, 1.0, 0.0],
        "padding was counted: this is the mean of everything, and the mask is not used": [5.5, 7.75, 9.0],
        "this is the sum; it has to be divided by the number of tokens": [4.0, 4.0, 0.0],
        "the first values of the row were taken, as many as the mask has 1s: the 1s may stand anywhere": [
            5.0,
            9.0,
            0.0,
        ],
        "this is one mean for all rows: sum over the last dimension only": [8 / 3] * 3,
    }
    before = values.clone()
    found = exercise.sequence_mean(values, mask)
    untouched(values, before)
    if isinstance(found, torch.Tensor) and found.shape == (3,) and found[:2].tolist() == [2.0, 4.0] and found[2] != 0:
        raise Wrong("a row without tokens: 0 / 0 is NaN, and one NaN ends a training; give 0")
    if isinstance(found, torch.Tensor) and found.ndim == 0:
        raise Wrong("this is one number for all rows; each row has a mean of its own: sum over the last dimension only")
    expected = torch.tensor([2.0, 4.0, 0.0])
    same(found, expected, "three rows", mistakes)
    values[0, 3] = float("inf")
    found = exercise.sequence_mean(values, mask)
    if found.isnan().any() or found.isinf().any():
        raise Wrong("off the mask anything may stand, also inf, and inf * 0 is NaN; take torch.where(mask.bool(), ...)")
    same(found, expected, "with an inf off the mask",
         {"its row became 0: a NaN replaced afterwards takes the row's tokens with it; leave the inf out of the sum":
          [0.0, 4.0, 0.0]})  # fmt: skip

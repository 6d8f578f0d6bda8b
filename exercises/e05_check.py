"""The check of exercise 5: exact zeros, and rows that are nearly equal."""

import torch

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.group_advantages
    for value in (0.1, 0.3, 7.7):
        for G in (2, 7, 12):
            found = f(torch.full((1, G), value), 1e-8)
            same(found, torch.zeros(1, G), "a row of equal rewards", tolerance=1e9)  # the shape; then more exactly
            if found.abs().max() != 0:
                raise Wrong(
                    f"{G} rewards of {value} give {found.abs().max():.2g} and not 0: the float32 mean of equal numbers "
                    "is not that number; set rows whose largest and smallest reward are the same to 0"
                )
    near = torch.tensor([[0.1, 0.1000001, 0.1, 0.1]])
    if f(near, 1e-8).abs().max() == 0:
        raise Wrong(
            "0.1 and 0.1000001 are not equal, and this group is set to 0: ask for equality, not for a small std"
        )
    spread = [6 * 7**-0.5] + [-(7**-0.5)] * 6  # mean 1/7; squares of the distances 42/49, over 6: deviation 7 ** -.5
    mixed = f(torch.tensor([[1.0] + [0.0] * 6, [0.1] * 7]), 1e-8)
    case = "one group with spread and one without"
    if mixed.shape == (2, 7) and mixed[1].abs().max() != 0:
        raise Wrong(f"{case}: the row of equal rewards is not 0: ask each row by itself, dim=1, not the whole tensor")
    same(mixed, torch.tensor([spread, [0.0] * 7]), case,
         {"all groups were set to 0 because one has no spread": torch.zeros(2, 7)})  # fmt: skip

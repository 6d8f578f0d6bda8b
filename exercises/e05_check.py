"""The check of exercise 5: exact zeros, and rows that are nearly equal."""

import torch

from exercises.checking import Wrong, same


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    f = exercise.group_advantages
    for value in (0.1, 0.3, 7.7):
        for G in (2, 7, 12):
            found = f(torch.full((1, G), value), 1e-8)
            same(torch.as_tensor(found).shape, torch.tensor([1, G]), "the shape")
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
    mixed = torch.tensor([[1.0, 0.0], [0.1, 0.1]])
    same(f(mixed, 1e-8), [[0.5**0.5, -(0.5**0.5)], [0.0, 0.0]], "one group with spread and one without",
         {"all groups were set to 0 because one has no spread": [[0.0, 0.0], [0.0, 0.0]]})  # fmt: skip

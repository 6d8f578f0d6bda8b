"""checking.py: how a check compares, and how it says what is wrong.

A check has an oracle of its own: numbers worked by hand or brute force, never the project's function. It also knows
what typical mistakes give, so that it can name the mistake instead of only showing two numbers."""

import torch


class Wrong(AssertionError):
    """What is wrong with an answer, in words."""


class Missing(Wrong):
    """What an experiment still wants: a prediction, or a run. Nothing is wrong yet."""


def same(found, expected, case: str, mistakes: dict | None = None, tolerance: float = 1e-4) -> None:
    """Raise Wrong unless found equals expected.

    case: what was computed, for the reader. mistakes: words -> what comes out when that mistake is made.
    """
    if found is None:
        raise Wrong(f"{case}: returns None; is a return missing?")
    if isinstance(expected, torch.Tensor) and isinstance(found, (list, tuple)):
        raise Wrong(f"{case}: returns a {type(found).__name__} and should return a tensor")
    try:
        found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{case}: returns {found!r}, and numbers were asked for") from None
    if found.shape != expected.shape:
        raise Wrong(f"{case}: the shape is {list(found.shape)} and should be {list(expected.shape)}")
    if close(found, expected, tolerance):
        return
    for words, value in (mistakes or {}).items():
        value = torch.as_tensor(value)
        if value.shape == found.shape and close(found, value, tolerance):
            raise Wrong(f"{case}: {words}")
    if found.isnan().any():
        raise Wrong(f"{case}: there is a NaN in it, {shown(found)}")
    raise Wrong(f"{case}: got {shown(found)}, expected {shown(expected)}")


def untouched(given: torch.Tensor, before: torch.Tensor) -> None:
    """Raise Wrong where a tensor that was handed to the student's function is no longer what it was."""
    if not torch.equal(given, before):
        raise Wrong("the tensor that was given has changed: the caller still needs it; make a new one")


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    """Whether two tensors are equal but for rounding."""
    return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance)


def shown(values: torch.Tensor) -> str:
    """A tensor in one line."""
    return str([round(x, 4) for x in values.detach().double().flatten().tolist()[:12]])
